"""What an array of tasks is, whatever runs it, and what is refused before anything is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from logist.array_jobs.block_yaml import Node
from logist.chunk_selection import AUTO, INDEX_VARIABLE, SIZE_VARIABLE, shell_word
from logist.errors import ExitCode, UsageProblem

#: The program, as it is on the tasks' search path.
LOGIST = "logist"
#: Where containers find what the volume holds.
MOUNT = "/job"
#: What tasks in containers get when nothing is said; `memory` is in MiB.
USUAL_CPUS = 2
USUAL_MEMORY = 4096
#: Tries after the first one, where an engine tries tasks again.
USUAL_RETRIES = 3
#: A task that ends so would end so again.
HOPELESS = (ExitCode.USAGE, ExitCode.INVALID)

#: A label of RFC 1123 that begins with a letter, short enough for what engines append, pods' indices among it.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_MOST_NAME = 40
_IMAGE = re.compile(r"[A-Za-z0-9][\w.:/@-]*", re.ASCII)
_CPUS = re.compile(r"\d{1,9}(\.\d{1,3})?", re.ASCII)
_FEWEST_CPUS, _MOST_CPUS = 0.1, 1024
#: Seconds that engines can count.
_LONGEST = 2**31 - 1
_MEBIBYTES = {"M": 1, "G": 1024}
_MEMORY = re.compile(r"(\d{1,9})([MG])(?:i?B?)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ArrayOptions:
    """How an array is run, as it was asked for; None: not said."""

    name: str | None = None
    tasks: int | None = None
    #: How many tasks run at the same time, at most.
    parallelism: int | None = None
    cpus: float | None = None
    #: MiB.
    memory: int | None = None
    #: Seconds that one try of a task may take.
    time_limit: int | None = None
    retries: int | None = None
    image: str | None = None
    #: What holds the folder that `ArrayJob.spec` is relative to, by the engine's name for it.
    volume: str | None = None
    queue: str | None = None

    def given(self) -> tuple[str, ...]:
        """The names of those that something was said of."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)


@dataclass(frozen=True, slots=True)
class ArrayJob:
    """A spec and the array that runs its chunks; `name` and `tasks` are always there."""

    #: Relative to `folder`.
    spec: str
    #: Absolute.
    folder: str
    chunks: int
    name: str
    tasks: int
    options: ArrayOptions
    #: Whether outputs may lie out of the spec's folder.
    allow_outside: bool = False
    #: The address of the bundle that brings the spec to tasks without a shared folder.
    bundle: str | None = None

    def task_words(self, target: str) -> tuple[str, ...]:
        """The one command of every task, without the program; `target` is what the task names the spec by."""
        return (*self._run(target), "--chunk", AUTO, "--no-merge")

    def merge_words(self, target: str) -> tuple[str, ...]:
        """What makes the video once all tasks have ended well, without the program."""
        return (*self._run(target), "--merge-only")

    def _run(self, target: str) -> tuple[str, ...]:
        # Whoever exports a bundle's address has made the bundle.
        trust = ("--trust",) if self.bundle is not None else ()
        return ("job", "run", target, *trust, *(("--allow-outside",) if self.allow_outside else ()))

    @property
    def target(self) -> str:
        """What a task in `folder` names the spec by."""
        return self.spec if self.bundle is None else self.bundle

    @property
    def mounted_target(self) -> str:
        """What a task in a container names the spec by."""
        return f"{MOUNT}/{self.spec}" if self.bundle is None else self.bundle

    @property
    def summary(self) -> str:
        """One line for people: what the array is for."""
        return f"{counted(self.chunks, 'chunk')} of {shell_word(self.spec)} in {counted(self.tasks, 'task')}"

    @property
    def merge_name(self) -> str:
        """The name of the job that merges."""
        return f"{self.name}-merge"

    @property
    def cpus(self) -> float:
        """Processors of a container."""
        return self.options.cpus or USUAL_CPUS

    @property
    def memory(self) -> int:
        """MiB of a container."""
        return self.options.memory or USUAL_MEMORY

    @property
    def retries(self) -> int:
        """How often a task is tried again."""
        return USUAL_RETRIES if self.options.retries is None else self.options.retries

    def environment(self) -> list[Node]:
        """The variables that tell a task how many there are: not every engine does.

        A single task, which is no array to some engines, is told its index, too.
        """
        variables = {SIZE_VARIABLE: str(self.tasks)}
        if self.tasks == 1:
            variables[INDEX_VARIABLE] = "0"
        return [{"name": name, "value": value} for name, value in variables.items()]


class Engine(NamedTuple):
    """One kind of array: what may be said of it, and how it is written."""

    #: As people call it.
    title: str
    #: Options without which there is no array.
    needs: frozenset[str]
    #: Those that may be given besides.
    takes: frozenset[str]
    #: How many tasks an array has at most, and when nothing is said.
    most_tasks: int
    usual_tasks: int
    #: The definition of the array. Raises UsageProblem for what the engine would refuse.
    array: Callable[[ArrayJob], str]
    #: The command that starts it, with {file} and {name}.
    start: str
    #: The same of the merge; None: the array's definition merges, too.
    merge: Callable[[ArrayJob], str] | None = None
    start_merge: str = ""
    #: Whether its tasks see nothing but what `volume` holds.
    containers: bool = False


def array_job(
    engine: Engine,
    spec: str,
    folder: str,
    chunks: int,
    options: ArrayOptions,
    *,
    allow_outside: bool = False,
    stored: bool = False,
) -> ArrayJob:
    """The array that runs a spec of so many chunks; `spec` is relative to `folder`. Raises UsageProblem.

    `stored`: the tasks get the spec as a bundle, which is still to be made.
    """
    _check_options(engine, options, stored=stored)
    if engine.containers and not stored:
        _check_mountable(spec)
    check_range("time_limit", options.time_limit, 1, _LONGEST, engine.title)
    tasks = _tasks(engine, chunks, options.tasks)
    if options.parallelism is not None:
        # More at once than there are is no wish that could be told apart from having no limit.
        options = replace(options, parallelism=min(options.parallelism, tasks))
    name = _named(spec) if options.name is None else options.name
    return ArrayJob(spec, folder, chunks, name, tasks, options, allow_outside)


def _check_options(engine: Engine, options: ArrayOptions, *, stored: bool) -> None:
    if stored and options.volume is not None:
        raise UsageProblem("--volume and --storage exclude each other", "give the one that the tasks are to use")
    needs = engine.needs - {"volume"} if stored else engine.needs
    known = engine.needs | engine.takes
    for name in options.given():
        if name not in known:
            raise UsageProblem(
                f"{flag(name)} means nothing to {engine.title}", f"leave it out; it takes {_listed(sorted(known))}"
            )
    for name in sorted(needs):
        if getattr(options, name) is None:
            raise UsageProblem(f"{engine.title} needs {flag(name)}", f"add {flag(name)} {_EXAMPLES[name]}")
    if options.name is not None and not _NAME.fullmatch(options.name):
        raise UsageProblem(
            f"--name {options.name[:80]!r} is no name that every engine takes",
            f"use at most {_MOST_NAME} of a-z, 0-9 and -, from a letter on, without - at the end",
        )
    if options.image is not None and not _IMAGE.fullmatch(options.image):
        raise UsageProblem(
            f"--image {options.image[:80]!r} is no name of an image", f"write it like {_EXAMPLES['image']}"
        )


#: What a hint shows.
_EXAMPLES = {
    "image": "registry.example/logist:1",
    "volume": "NAME, which holds the current folder; or --storage URL",
    "queue": "NAME",
}


def _check_mountable(spec: str) -> None:
    if spec.startswith("../"):
        raise UsageProblem(
            f"{spec} lies out of the current folder, and its tasks see nothing else",
            "run this in the folder that the volume holds",
        )
    try:
        spec.encode()
    except UnicodeEncodeError:
        raise UsageProblem(f"{spec!r} is not text that a definition can hold", "rename it to UTF-8") from None


def _tasks(engine: Engine, chunks: int, asked: int | None) -> int:
    if asked is None:
        return min(chunks, engine.usual_tasks)
    if asked > chunks:
        raise UsageProblem(
            f"--tasks {asked} is more than the {counted(chunks, 'chunk')} of the spec", f"ask for {chunks} or fewer"
        )
    if asked > engine.most_tasks:
        raise UsageProblem(
            f"--tasks {asked} is more than {engine.title} takes",
            f"ask for {engine.most_tasks} or fewer: each task then makes several chunks",
        )
    return asked


def _named(spec: str) -> str:
    """A name that every engine takes, from the file name of a spec."""
    stem = spec.rpartition("/")[2].removesuffix(".json").lower()
    name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")
    if not name[:1].isalpha():
        name = f"job-{name}"
    return name[:_MOST_NAME].strip("-")


def parse_memory(text: str) -> int:
    """The MiB that `512M`, `4G` or `4GiB` are. Raises ValueError with one sentence."""
    read = _MEMORY.fullmatch(text.strip())
    mebibytes = int(read[1]) * _MEBIBYTES[read[2].upper()] if read else 0
    if not mebibytes:
        raise ValueError(f"{text[:40]!r} is not an amount of memory; write it like 512M or 4G")
    return mebibytes


def parse_cpus(text: str) -> float:
    """The processors that `4` or `0.5` are. Raises ValueError with one sentence."""
    read = float(text) if _CPUS.fullmatch(text) else 0
    if not _FEWEST_CPUS <= read <= _MOST_CPUS:
        raise ValueError(f"{text[:40]!r} is not a number of processors from {_FEWEST_CPUS} to {_MOST_CPUS}")
    return read


def whole_cpus(job: ArrayJob, title: str) -> int:
    """The processors of a task. Raises UsageProblem when they are no whole number."""
    if job.cpus != int(job.cpus):
        raise UsageProblem(f"{title} gives out whole processors, not {job.cpus:g}", "round --cpus up")
    return int(job.cpus)


def check_range(option: str, value: int | None, least: int, most: int, title: str) -> None:
    """Raise UsageProblem when an option was given that is not from `least` to `most`."""
    if value is not None and not least <= value <= most:
        raise UsageProblem(f"{title} takes {flag(option)} from {least} to {most}, not {value}", "choose one of them")


def flag(name: str) -> str:
    """An option as it is written on the command line."""
    return "--" + name.replace("_", "-")


def counted(count: int, what: str) -> str:
    """`1 chunk`, `2 chunks`."""
    return f"{count} {what}{'s' * (count != 1)}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(flag, names))
