"""Runs commands on a Slurm cluster: those of a run as one job array, which Slurm throttles."""

from __future__ import annotations

import hashlib
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from logist.durable import replace_file
from logist.errors import JobBusy, LogistError, StorageFailed, UsageProblem
from logist.execution import (
    BatchItem,
    BatchTerms,
    CancelCheck,
    Command,
    CommandResult,
    Ended,
    OutputSink,
    StartedHook,
)
from logist.execution.adapters import AdapterOptions, refuse_unknown
from logist.execution.bare import array_task
from logist.execution.local import unrunnable
from logist.execution.slurm.client import ArrayOrder, ArrayView, ControllerAway, SlurmClient, TaskView
from logist.execution.slurm.follow import Follower
from logist.execution.slurm.spool import (
    Record,
    Spool,
    give_up,
    make_private_folder,
    meaning_of,
    new_spool,
    read_meaning,
    read_record,
    read_result,
    remove_spool,
    spools,
    write_record,
)
from logist.execution.slurm.verdict import OUT_OF_MEMORY, judged
from logist.execution.slurm.watch import Array, Task, Watch, new_array

#: Each option and the option of sbatch that it is.
_OPTIONS = {
    "partition": "--partition",
    "account": "--account",
    "qos": "--qos",
    "time": "--time",
    "memory": "--mem",
    "cpus": "--cpus-per-task",
    "gres": "--gres",
    "constraint": "--constraint",
    "nodelist": "--nodelist",
    "exclude": "--exclude",
}
#: Options of sbatch that would take away what this adapter rests on.
_RESERVED = (
    *("--array", "-a", "--job-name", "-J", "--export", "--export-file", "--wrap", "--parsable", "--wait", "-W"),
    *("--clusters", "-M"),
)
#: Seconds between two looks at a request to cancel, and at what a command prints.
_CANCEL_PACE = 0.05
_FOLLOW_PACE = 0.25
#: Seconds until an array is submitted again while Slurm's controller is away.
_AWAY_PACE = 10.0
#: Seconds that Slurm gets to end what was canceled: its own KillWait is 30 s, and a controller may be busy.
_END_PATIENCE = 120.0
#: Seconds that Slurm gets to say why a command was killed.
_STATE_PATIENCE = 10.0
#: The exit code of a command, or of its shell, that was killed.
_KILLED = 128 + signal.SIGKILL
#: Characters of what a task printed that are shown.
_LONGEST = 300
_STOPPED = "the run was stopped"
#: What a task runs, with the folder of its program's package and the array's. The former comes last on Python's path.
_RUN_TASK = "import sys; sys.path.append(sys.argv[1]); from bare.array_task import main; main()"


class SlurmAdapter:
    """A `BatchAdapter`; `words` are options of sbatch. Several threads may use it at once."""

    name = "slurm"

    def __init__(self, client: SlurmClient, words: Sequence[str] = (), *, folder: Path | None = None) -> None:
        self._client = client
        self._words = tuple(words)
        self._own_folder = folder
        self._terms = BatchTerms(None, 1, _nobody)
        self._watch = Watch(client)
        self._lock = threading.Lock()
        #: What was submitted and nobody has asked for yet, by the command's marker.
        self._tasks: dict[str, Task] = {}
        #: Arrays of a dead run that go on.
        self._adopted: tuple[Array, ...] = ()
        self._has_submitted = False
        self._closed = False

    def prepare(self, commands: int) -> None:
        """Nothing is to be got ready."""

    def adopt(self, items: Sequence[BatchItem], terms: BatchTerms) -> frozenset[int]:
        """See `BatchAdapter`. Raises JobBusy when what an earlier run submitted can't be ended, LogistError."""
        self._terms = terms
        self._watch.begin(terms.tell)
        left = [] if terms.folder is None else _left_in(self._folder(terms.folder), self._client)
        found = _usable(left, items)
        self._dismiss([one.array for one in left], frozenset(found.values()))
        self._adopted = tuple({task.array: None for task in found.values() if task.ended_at is None})
        self._tasks = {_key(items[place].command): task for place, task in found.items()}
        for array in self._adopted:
            self._client.throttle(array.job, terms.at_once)
        if found:
            self._watch.tell_once(f"{len(found)} chunk(s) that a dead run had given to Slurm go on there")
        return frozenset(found)

    def submit(self, items: Sequence[BatchItem]) -> None:
        """See `BatchAdapter`. Raises LogistError when Slurm refuses them, StorageFailed."""
        # What can't be run anywhere is left to `run`, which says so.
        items = [item for item in items if unrunnable(item.command) is None]
        size = self._client.largest_array() if len(items) > 1 else 1
        before, first = self._adopted, not self._has_submitted
        self._adopted, self._has_submitted = (), True
        arrays: list[Array] = []
        for start in range(0, len(items), size):
            # One after the other, or together they would run more at once than they may.
            part = tuple(items[start : start + size])
            arrays.append(new_array(len(part), items=part, after=before))
            before = (arrays[-1],)
        with self._lock:
            for array in arrays:
                self._tasks |= {_key(item.command): task for item, task in zip(array.items, array.tasks, strict=True)}
        if not arrays or not first:
            return
        try:
            # Now, and the others when somebody waits for them: options that are wrong are no fault of a chunk.
            self._send(arrays[0])
        except ControllerAway:
            # It may have taken the array all the same.
            if arrays[0].spool is not None:
                replace_file(arrays[0].spool.closed, b"")
            raise

    def withdraw(self) -> None:
        """See `BatchAdapter`."""
        self._watch.withdraw()

    def finish(self) -> bool:
        """See `BatchAdapter`. Raises StorageFailed."""
        self._watch.withdraw()
        arrays = self._watch.arrays
        ended = self._watch.await_end([task for array in arrays for task in array.tasks], _END_PATIENCE)
        for array in arrays:
            self._forget(array, 0.0)
        self._tasks.clear()
        self._has_submitted = False
        self._watch.begin(self._terms.tell)
        return ended

    def run(
        self,
        command: Command,
        *,
        cancel: CancelCheck | None = None,
        on_output: OutputSink | None = None,
        on_started: StartedHook | None = None,  # noqa: ARG002 - see below
    ) -> CommandResult:
        """Run one command to its end, or wait for one that was submitted.

        `on_started` is never called: a node begins with a command while nobody looks. Raises StorageFailed when a log
        or the folder can't be written, and whatever the callbacks raise.
        """
        if self._closed:
            raise RuntimeError("this adapter is closed")
        with self._lock:
            task = self._tasks.pop(_key(command), None)
        if task is not None:
            return self._run(task, command, cancel or _never, on_output)
        if cancel is not None and (why := cancel()) is not None:
            return CommandResult(Ended.CANCELED, None, 0.0, detail=why)
        if problem := unrunnable(command):
            return CommandResult(Ended.NOT_STARTED, None, 0.0, detail=problem)
        if not command.cwd.is_dir():
            return CommandResult(Ended.NOT_STARTED, None, 0.0, detail=f"there is no work folder {command.cwd}")
        array = new_array(1, items=(BatchItem(command),))
        try:
            return self._run(array.tasks[0], command, cancel or _never, on_output)
        finally:
            if array.spool is not None:
                self._forget(array)

    def close(self) -> None:
        """End the thread that looks after arrays. What is still in Slurm stays there: see `finish`."""
        self._closed = True
        self._watch.close()

    # --- Submitting ---

    def _folder(self, wanted: Path) -> Path:
        """Where arrays of the folder `wanted` are: of one that was given, a part of their own.

        Raises UsageProblem when somebody else made that part, StorageFailed.
        """
        if self._own_folder is None:
            return wanted
        part = self._own_folder / hashlib.sha256(os.fsencode(wanted.absolute())).hexdigest()[:16]
        make_private_folder(part)
        return part

    def _send(self, array: Array) -> None:
        """Submit an array, or find that it was submitted after all. Raises LogistError, StorageFailed."""
        view = None
        if array.spool is None:
            wanted = self._terms.folder or array.items[0].command.cwd / ".logist" / "slurm"
            array.spool = new_spool(self._folder(wanted), array.items)
        else:
            view = self._client.look([array.spool.name]).get(array.spool.name)
        try:
            job = view.job if view is not None else self._client.submit(self._order(array, array.spool))
        except ControllerAway:
            raise
        except LogistError:
            remove_spool(array.spool)
            array.spool = None
            raise
        write_record(array.spool, Record(len(array.items), job))
        array.job = job
        # They are in the spool now, and may be thousands.
        array.items = ()
        self._watch.add(array)

    def _order(self, array: Array, spool: Spool) -> ArrayOrder:
        now = time.monotonic()
        before = [one.job for one in array.after if one.job and not all(task.is_over(now) for task in one.tasks)]
        at_once = min(self._terms.at_once, len(array.items))
        return ArrayOrder(spool.name, len(array.items), at_once, _script(spool), self._words, before)

    def _send_patiently(self, array: Array, cancel: CancelCheck) -> CommandResult | None:
        """Have the array submitted while others may be at it; a result when that is not to be, or can't be."""
        while not array.job:
            why = cancel() or (_STOPPED if self._watch.withdrawn else None)
            if why is not None:
                return CommandResult(Ended.CANCELED, None, 0.0, detail=why)
            if time.monotonic() < array.not_before or not array.sending.acquire(timeout=_CANCEL_PACE):
                time.sleep(_CANCEL_PACE)
                continue
            try:
                if not array.job:
                    self._send(array)
            except ControllerAway as away:
                self._watch.tell_once(away.message)
                array.not_before = time.monotonic() + _AWAY_PACE
            except StorageFailed:
                raise
            except LogistError as refused:
                return CommandResult(Ended.NOT_STARTED, None, 0.0, detail=refused.message.rstrip("."))
            finally:
                array.sending.release()
        return None

    # --- Waiting ---

    def _run(self, task: Task, command: Command, cancel: CancelCheck, on_output: OutputSink | None) -> CommandResult:
        unsent = self._send_patiently(task.array, cancel)
        if unsent is not None:
            return unsent
        with self._watch.changed:
            task.awaited = True
        try:
            with Follower(command, task.paths, on_output) as follower:
                self._await(task, cancel, follower)
                follower.look()
                return follower.finish(self._outcome(task))
        except BaseException:  # a callback's too: it travels on, and the command may not live then
            self._watch.end((task,), "the run failed")
            self._watch.await_end((task,), _END_PATIENCE)
            raise

    def _await(self, task: Task, cancel: CancelCheck, follower: Follower) -> None:
        follow_at, give_up_at = 0.0, math.inf
        while True:
            with self._watch.changed:
                self._watch.raise_fault()
                if task.is_over(time.monotonic()) or time.monotonic() > give_up_at:
                    return
                self._watch.changed.wait(_CANCEL_PACE)
            why = cancel()
            now = time.monotonic()
            if why is not None and not task.end_why:
                self._watch.end((task,), why)
                give_up_at = now + _END_PATIENCE
            if task.started and now >= follow_at:
                follower.look()
                follow_at = now + _FOLLOW_PACE

    def _outcome(self, task: Task) -> CommandResult:
        path = Path(task.paths.result)
        result, started = read_result(path), task.started
        if result is None:
            # Slurm, or a node that was cut off, may come back to it: nobody waits any more. That looks like a start.
            give_up(task.paths)
            result = read_result(path)
        if result is None:
            return self._without_result(task, started=started)
        if result.exit_code == _KILLED and self._watch.final_state(task, _STATE_PATIENCE) == "OUT_OF_MEMORY":
            return result._replace(detail=OUT_OF_MEMORY)
        return result

    def _without_result(self, task: Task, *, started: bool) -> CommandResult:
        stopped = read_result(Path(task.paths.stopped))
        ran = stopped or CommandResult(Ended.LOST, None, 0.0)
        if task.end_why or (self._watch.withdrawn and not started):
            return ran._replace(ended=Ended.CANCELED, detail=task.end_why or _STOPPED)
        return judged(task.view or TaskView("UNKNOWN"), ran, started=started, last_word=_last_word(task))

    def _dismiss(self, arrays: Sequence[Array], kept: frozenset[Task]) -> None:
        """End what nobody wants of arrays that a dead run left. Raises JobBusy when that can't be done."""
        ending: list[Task] = []
        for array in arrays:
            unwanted = [task for task in array.tasks if task not in kept]
            for task in unwanted:
                give_up(task.paths)
            self._watch.add(array)
            ending += unwanted
        self._watch.end(ending, "another run took its place")
        if not self._watch.await_end(ending, _END_PATIENCE):
            raise JobBusy(
                f"Slurm does not end what an earlier run left there (job {ending[0].array.job}).",
                "Look at it with squeue, and run again once it is gone.",
            )
        for array in arrays:
            if kept.isdisjoint(array.tasks):
                self._forget(array)

    def _forget(self, array: Array, patience: float = _END_PATIENCE) -> None:
        """Remove an array's files once nothing of it runs; that is waited for, at most `patience` seconds."""
        spool = array.spool
        if spool is None:
            return
        self._watch.end([task for task in array.tasks if not task.awaited], _STOPPED)
        over = self._watch.await_end(array.tasks, patience)
        self._watch.drop(array)
        if over:
            remove_spool(spool)
            return
        # Whoever runs one of its tasks looks there, with or without Slurm.
        replace_file(spool.closed, b"")
        self._watch.tell_once(
            f"Slurm has not said that job {array.job} has ended; it ends when a node sees {spool.root}"
        )


def open_slurm(options: AdapterOptions) -> SlurmAdapter:
    """The adapter of this machine's cluster. Raises UsageProblem, LogistError without Slurm's programs."""
    refuse_unknown("slurm", options, (*_OPTIONS, "extra", "spool"))
    words = [f"{_OPTIONS[name]}={_checked(name, value)}" for name, value in options.items() if name in _OPTIONS]
    words += _extra_words(options.get("extra", ""))
    spool = Path(_checked("spool", options["spool"])).absolute() if "spool" in options else None
    client = SlurmClient(os.environ)
    client.check_programs()
    return SlurmAdapter(client, words, folder=spool)


def _checked(name: str, value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise UsageProblem(f"The option {name} of the adapter 'slurm' is empty or no text.", f"Write {name}=VALUE.")
    return value


def _extra_words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageProblem(
            f"The option extra of the adapter 'slurm' can't be read: {error}.", "Quote it as for a shell."
        ) from error
    for word in words:
        if word.partition("=")[0] in _RESERVED:
            raise UsageProblem(f"The option extra of the adapter 'slurm' may not hold {word}.", "Leave that one out.")
    return words


def _script(spool: Spool) -> str:
    """What Slurm starts for each task. What it prints tells why the task could not even begin."""
    log = f'{shlex.quote(str(spool.root))}/"$SLURM_ARRAY_TASK_ID".task'
    return f"#!/bin/sh\nexec >>{log} 2>&1\nexec {shlex.join(task_argv(spool))}\n"


def task_argv(spool: Spool) -> tuple[str, ...]:
    """What runs a task of the array, whose number `SLURM_ARRAY_TASK_ID` tells."""
    # It needs nothing but Python and its own package: not to look for more makes it begin sooner.
    return (sys.executable, "-I", "-S", "-c", _RUN_TASK, str(Path(array_task.__file__).parents[1]), str(spool.root))


def _key(command: Command) -> str:
    return "" if command.marker is None else "=".join(command.marker)


class _Left(NamedTuple):
    """An array that a dead run left, and what Slurm says of it."""

    array: Array
    view: ArrayView | None


def _left_in(folder: Path, client: SlurmClient) -> list[_Left]:
    """The arrays that a dead run left. Raises ControllerAway, InvalidFile, StorageFailed."""
    records = {spool: read_record(spool) for spool in spools(folder)}
    views = client.look([spool.name for spool, record in records.items() if record is not None])
    left: list[_Left] = []
    for spool, record in records.items():
        if record is None:
            # It died before it submitted this.
            remove_spool(spool)
            continue
        view = views.get(spool.name)
        # The number of one that Slurm has forgotten may be another job's by now, and nothing of it is left to end.
        array = new_array(record.size, spool=spool, job=spool.name if view is None else view.job)
        if view is None:
            for task in array.tasks:
                task.ended_at = -math.inf
        left.append(_Left(array, view))
    return left


def _usable(left: Sequence[_Left], items: Sequence[BatchItem]) -> dict[int, Task]:
    """The tasks that do what one of `items` is to do, by its place, and still run or have ended well."""
    wanted = {meaning.mark: (place, meaning) for place, meaning in enumerate(map(meaning_of, items))}
    found: dict[int, Task] = {}
    for one in left:
        for task in one.array.tasks:
            meaning = read_meaning(task.spool, task.index)
            place, sought = wanted.get(meaning.mark, (-1, meaning))
            if place >= 0 and place not in found and meaning.serves(sought) and _is_of_use(task, one.view):
                found[place] = task
    return found


def _is_of_use(task: Task, view: ArrayView | None) -> bool:
    result = read_result(Path(task.paths.result))
    if result is not None:
        return result.ok
    if task.spool.closed.exists() or Path(task.paths.given_up).exists():
        return False
    seen = None if view is None else view.tasks.get(task.index)
    return seen is not None and seen.live


def _last_word(task: Task) -> str:
    """Why a task could not run its command, as it said itself."""
    try:
        words = Path(task.paths.log).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        words = ""
    return words.rpartition("\n")[2][-_LONGEST:]


def _never() -> None:
    return None


def _nobody(_message: str) -> None:
    """Nobody is there to be told."""
