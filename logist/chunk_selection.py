"""What the words of a command line select: a spec or a job, and all chunks of a spec or some. Quick to import."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from logist.errors import UsageProblem

#: Stands for the chunks that this task of a scheduler's array has to make.
AUTO = "auto"
#: For a scheduler that Logist does not know (the index counts from 0), and for one that tells no size of its arrays.
INDEX_VARIABLE = "LOGIST_ARRAY_INDEX"
SIZE_VARIABLE = "LOGIST_ARRAY_SIZE"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BUNDLE = re.compile(r"(.+)/bundles/([0-9a-f]{64})", re.DOTALL)
_NUMBER = re.compile(r"\d{1,15}", re.ASCII)
#: A scheduler's word for "no array" (Grid Engine).
_UNDEFINED = "undefined"
_MOST_LISTED = 10


def is_spec_target(text: str) -> bool:
    """Whether a run's TARGET means a spec: a file that exists, `-`, a URL, `*.json`, or a bundle's address.

    Anything else is a job id.
    """
    if text == "-" or _URL.match(text) or bundle_address(text):
        return True
    # A folder is a job's, whatever it is called. Not Path: this is asked before anything slow is imported.
    return not os.path.isdir(text) and (text.endswith(".json") or os.path.exists(text))  # noqa: PTH110, PTH112


class BundleAddress(NamedTuple):
    """Where a bundle is: its storage, a URL or a folder, and its hash."""

    storage: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.storage}/bundles/{self.sha256}"


def bundle_address(text: str) -> BundleAddress | None:
    """The bundle that `text` is the address of; None: it is none."""
    found = _BUNDLE.fullmatch(text)
    return None if found is None else BundleAddress(found[1], found[2])


def shell_word(text: str) -> str:
    """A path as one word of a command line that can be pasted; it never passes for an option."""
    # Slow to import, and only messages need it.
    import shlex

    text = f"./{text}" if text.startswith("-") else text
    if text.isprintable():
        return shlex.quote(text)
    signs = (_escaped(sign) for sign in text)
    return f"$'{''.join(signs)}'"


def _escaped(sign: str) -> str:
    if sign == "\n":
        return "\\n"
    if sign in "'\\":
        return f"\\{sign}"
    return sign if sign.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(sign))


def nearby(path: str | os.PathLike[str]) -> str:
    """A path as it is shortest here: relative when it lies in the current folder."""
    whole = os.path.abspath(path)  # noqa: PTH100 - see above
    try:
        here = os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return whole
    return os.path.relpath(whole, here) if whole.startswith(here.rstrip("/") + "/") else whole


def select(ids: Sequence[int | str], wanted: Sequence[str], environ: Mapping[str, str]) -> tuple[int | str, ...]:
    """The ids that are meant by `wanted`, each once, in the order of `ids`, which is the spec's.

    A word means the chunk whose id is written so. `auto` means what this task of a scheduler's array has to make: with
    index i of an array whose size is known, the chunks at the places i, i + size, i + 2 * size, ... of the spec's list,
    so that an array of any size covers all chunks; of an array of unknown size the chunk at place i. Raises
    UsageProblem for an unknown id, where no array is, and for an index beyond the last chunk.
    """
    places = {str(chunk): place for place, chunk in enumerate(ids)}
    chosen: set[int] = set()
    for word in wanted:
        if word == AUTO:
            chosen.update(_share(len(ids), environ))
        elif word in places:
            chosen.add(places[word])
        else:
            raise UsageProblem(f"there is no chunk {word[:80]!r} in the spec", f"its chunks are {_listed(ids)}")
    return tuple(ids[place] for place in sorted(chosen))


def _listed(ids: Sequence[int | str]) -> str:
    if len(ids) <= _MOST_LISTED:
        return ", ".join(map(str, ids))
    return ", ".join(map(str, ids[: _MOST_LISTED - 1])) + f", … {ids[-1]} ({len(ids)} in all)"


# --- A scheduler's array -------------------------------------------------------------------------------------------


class _Scheduler(NamedTuple):
    """The variables in which a scheduler tells a task of an array which one it is."""

    name: str
    task: str
    #: The first index: a variable, or the number that it always is, which also stands in for a variable without value.
    first: str = ""
    base: int = 0
    step: str = ""
    last: str = ""
    size: str = ""


#: The innermost first. GNU parallel runs inside of a scheduler's task, a container inside of nothing that would hand on
#: its variables; Slurm, Grid Engine and PBS come last. Whoever means another order sets LOGIST_ARRAY_INDEX.
SCHEDULERS = (
    _Scheduler("Logist", INDEX_VARIABLE),
    _Scheduler("GNU parallel", "PARALLEL_SEQ", base=1),
    _Scheduler("Kubernetes", "JOB_COMPLETION_INDEX"),
    _Scheduler("Cloud Run", "CLOUD_RUN_TASK_INDEX", size="CLOUD_RUN_TASK_COUNT"),
    _Scheduler("AWS Batch", "AWS_BATCH_JOB_ARRAY_INDEX", size="AWS_BATCH_JOB_ARRAY_SIZE"),
    _Scheduler(
        "Slurm",
        "SLURM_ARRAY_TASK_ID",
        first="SLURM_ARRAY_TASK_MIN",
        step="SLURM_ARRAY_TASK_STEP",
        last="SLURM_ARRAY_TASK_MAX",
        size="SLURM_ARRAY_TASK_COUNT",
    ),
    _Scheduler(
        "Grid Engine", "SGE_TASK_ID", first="SGE_TASK_FIRST", base=1, step="SGE_TASK_STEPSIZE", last="SGE_TASK_LAST"
    ),
    _Scheduler("PBS", "PBS_ARRAY_INDEX"),
)
_NAME_THEM = "give the array as one range from 0 or 1, or name the chunks with --chunk ID"
_NAME_IT = '; for one task of an array that counts from 0: --chunk "$SLURM_ARRAY_TASK_ID"'


def _share(count: int, environ: Mapping[str, str]) -> range:
    """The places, of `count`, that this task has to make."""
    scheduler = next((each for each in SCHEDULERS if environ.get(each.task, _UNDEFINED) != _UNDEFINED), None)
    if scheduler is None:
        known = ", ".join(each.name for each in SCHEDULERS[1:])
        raise UsageProblem(
            "--chunk auto: no array index is in the environment",
            f"run it as a task of an array ({known}), or set {INDEX_VARIABLE}; "
            "GNU parallel appends its argument unless it is called as `parallel -N0`",
        )
    index = _number(environ, scheduler.task)
    first = _number(environ, scheduler.first, scheduler.base)
    step = _number(environ, scheduler.step, 1) or 1
    size = _size(scheduler, environ, first, step)
    place, rest = divmod(index - first, step)
    # An array of one task that is not its first is a retry of that task: all chunks are not what it means.
    if place < 0 or rest or (size is not None and place >= size) or (size == 1 and first > 1):
        array = f"an array of {size} that begins at {first}" if size else f"an array that begins at {first}"
        hint = _NAME_THEM + (_NAME_IT if scheduler.name == "Slurm" else "")
        raise UsageProblem(f"--chunk auto: {scheduler.task}={index} is no place in {array}", hint)
    if place >= count:
        raise UsageProblem(
            f"--chunk auto: {scheduler.task}={index} is beyond the last of the spec's {count} chunks",
            f"make the array {count} tasks long, or shorter: each task then takes several chunks",
        )
    return range(place, count, size or count)


def _size(scheduler: _Scheduler, environ: Mapping[str, str], first: int, step: int) -> int | None:
    """How many tasks the array has. Raises UsageProblem when its indices are no range: places can't be told then."""
    told = _number(environ, scheduler.size, 0)
    last = _number(environ, scheduler.last, -1)
    span = (last - first) // step + 1 if last >= first else 0
    if told and span and told != span:
        raise UsageProblem(f"--chunk auto: the {told} indices of {scheduler.name}'s array are no range", _NAME_THEM)
    return _number(environ, SIZE_VARIABLE, 0) or told or span or None


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    """The variable's value. Raises UsageProblem when it is no number, or has no value and there is no default."""
    value = environ.get(name, "") if name else ""
    if default is not None and value in ("", _UNDEFINED):
        return default
    if not _NUMBER.fullmatch(value):
        raise UsageProblem(f"--chunk auto: {name} is {value[:40]!r}, not a number", f"set {name} to a whole number")
    return int(value)
