"""Slurm's own programs: submit an array, see what became of its tasks, cancel them.

No `sacct`: it needs a database that many clusters don't have. Slurm forgets a job some minutes after its end; how a
command ended is therefore never asked of Slurm alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from logist.environment import inherited
from logist.errors import LogistError, ProgramMissing

PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol")
#: Seconds that one of them gets. With its controller down `sbatch` itself tries for a minute.
_PATIENCE = 180.0
#: In these states a task runs, waits, or will be started again.
_LIVE = frozenset(
    (
        *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"),
        *("RESIZING", "RESV_DEL_HOLD", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"),
    )
)
#: Variables of the submitter that mean something else here: sbatch is not to wait for the array.
_NOT_OURS = ("TMPDIR", "SBATCH_WAIT")
#: What the controller's absence looks like, in the words of Slurm's programs.
_AWAY = re.compile(r"contact slurm controller|Socket timed out|Connection refused|Zero Bytes|Resource temporarily")
_FORMAT = "%j|%F|%K|%T|%l|%N|%r"
#: How many tasks or arrays are named on one command line.
_NAMED = 1000
#: A bigger array than this is of no use, whatever Slurm takes.
_LARGEST = 10_000


class ControllerAway(LogistError):
    """Slurm's controller does not answer; asking again later may help."""


class TaskView(NamedTuple):
    """What Slurm says of a task. `reason` tells why it waits; `limit` is its time limit as Slurm writes it."""

    state: str
    reason: str = ""
    limit: str = ""
    node: str = ""

    @property
    def live(self) -> bool:
        """It runs, waits, or will be started again."""
        return self.state in _LIVE


class ArrayView(NamedTuple):
    """What Slurm says of an array. `job` is its number."""

    job: str
    tasks: Mapping[int, TaskView]


class ArrayOrder(NamedTuple):
    """An array to submit: `words` are options of sbatch, `after` the numbers of the jobs that end before it begins."""

    name: str
    size: int
    at_once: int
    script: str
    words: Sequence[str] = ()
    after: Sequence[str] = ()


class SlurmClient:
    """Runs Slurm's programs in the environment `environ`, of which they and their jobs get what they need."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def check_programs(self) -> None:
        """Raise ProgramMissing when one of the programs is not there."""
        for program in PROGRAMS:
            if shutil.which(program, path=self._environ.get("PATH")) is None:
                raise ProgramMissing(
                    f"There is no {program} on PATH: this machine can't submit to Slurm.",
                    "Run this on a machine of the cluster where sbatch works, or install Slurm's client programs.",
                )

    def largest_array(self) -> int:
        """How many tasks an array may have. Raises LogistError."""
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", self._run("scontrol", "show", "config"), re.MULTILINE)
        # Indexes go up to one less than the number, so from 0 that many tasks.
        return max(1, min(_LARGEST, int(found[1]) if found else 1001))

    def submit(self, order: ArrayOrder) -> str:
        """Submit an array; Slurm's number for it. Raises LogistError when Slurm refuses it."""
        words = [
            "--ntasks=1",
            "--requeue",
            "--chdir=/",
            "--output=/dev/null",
            *order.words,
            # The last one counts.
            "--parsable",
            f"--job-name={order.name}",
            f"--array=0-{order.size - 1}%{order.at_once}",
            # All of what `sbatch` itself gets, and that is an allow-list. NONE would have each task log in first.
            "--export=ALL",
        ]
        if order.after:
            words.append(f"--dependency=afterany:{':'.join(order.after)}")
        printed = self._run("sbatch", *words, stdin=order.script)
        # "number" or "number;cluster", below whatever a site's plugins print.
        number = printed.strip().rpartition("\n")[2].partition(";")[0]
        if not number.isdigit():
            raise LogistError(
                f"sbatch printed no job number but {printed.strip()[-200:]!r}.",
                "Check what sbatch does on this machine.",
            )
        return number

    def look(self, names: Iterable[str]) -> dict[str, ArrayView]:
        """What Slurm still knows of the arrays of these names. Raises LogistError."""
        wanted = tuple(names)
        found: dict[str, ArrayView] = {}
        for start in range(0, len(wanted), _NAMED):
            # Without --all it leaves out the tasks in partitions that the site hides.
            words = ("--all", "--noheader", "--array", "--states=all", f"--format={_FORMAT}")
            found |= _read_queue(self._run("squeue", *words, f"--name={','.join(wanted[start : start + _NAMED])}"))
        return found

    def cancel(self, ids: Sequence[str], *, pending: bool = False) -> None:
        """Cancel jobs or tasks ("12", "12_3"), or what of them has not started. Raises ControllerAway.

        What has ended is no error; whether the rest ended, `look` tells.
        """
        only = ("--state=PENDING",) if pending else ()
        for start in range(0, len(ids), _NAMED):
            self._run("scancel", *only, *ids[start : start + _NAMED], refusal_is_fine=True)

    def throttle(self, job: str, at_once: int) -> None:
        """Let so many tasks of an array run at once. Raises ControllerAway."""
        # It complains of each task that has ended already.
        self._run("scontrol", "update", f"JobId={job}", f"ArrayTaskThrottle={at_once}", refusal_is_fine=True)

    def _run(self, *words: str, stdin: str = "", refusal_is_fine: bool = False) -> str:
        try:
            done = subprocess.run(
                words,
                input=os.fsencode(stdin),
                capture_output=True,
                env=self._environment(),
                # A folder that is there on any machine; and Ctrl-C is for us alone.
                cwd="/",
                start_new_session=True,
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _away(words[0], f"it did not end within {_PATIENCE:g} s") from error
        except OSError as error:
            raise LogistError(
                f"{words[0]} can't be run: {error.strerror}.", "Check Slurm's programs on this machine."
            ) from error
        if done.returncode == 0:
            return done.stdout.decode(errors="replace")
        why = _complaint(done.stderr)
        if _AWAY.search(why):
            raise _away(words[0], why)
        if refusal_is_fine:
            return ""
        raise LogistError(
            f"Slurm refused the job ({words[0]}): {why}."
            if words[0] == "sbatch"
            else f"Slurm's {words[0]} failed: {why}.",
            "`sinfo` shows the partitions, `sacctmgr show associations` what you may use: see --adapter-option.",
        )

    def _environment(self) -> dict[str, str]:
        # What Slurm sets in a job of its own must not tell a new one what to be.
        site = (name for name in self._environ if name.startswith(("SBATCH_", "SLURM_CONF", "SLURM_CLUSTERS")))
        return {name: value for name, value in inherited(self._environ, site).items() if name not in _NOT_OURS}


def _read_queue(printed: str) -> dict[str, ArrayView]:
    jobs: dict[str, str] = {}
    tasks: dict[str, dict[int, TaskView]] = {}
    for line in printed.splitlines():
        fields = line.strip().split("|", 6)
        if len(fields) < 7:
            # Where several clusters are asked, a line says which one it is.
            continue
        name, job, index, state, limit, node, reason = fields
        jobs[name] = job
        seen = tasks.setdefault(name, {})
        # Tasks that were canceled before they started are listed together, without their numbers.
        if index.isdigit():
            seen[int(index)] = TaskView(state, reason, limit, node)
    return {name: ArrayView(jobs[name], tasks[name]) for name in jobs}


def _complaint(stderr: bytes) -> str:
    """The last thing that one of Slurm's programs complained of, without who says so."""
    lines = stderr.decode(errors="replace").strip().splitlines() or ["it does not say why"]
    return re.sub(r"^\w+: (error|fatal): ", "", lines[-1]).removeprefix("Batch job submission failed: ").rstrip(".")


def _away(program: str, why: str) -> ControllerAway:
    return ControllerAway(
        f"Slurm's controller does not answer ({program}): {why}.",
        "Wait until `squeue` works again, then run the same command: what was submitted is found again.",
    )
