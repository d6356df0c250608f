"""Commands and where they run: `Command`, `CommandResult` and the `WorkerAdapter` protocol.

Only the modules of this package import `subprocess`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

from logist.processes import ProcessIdentity


class Ended(StrEnum):
    """How a command came to its end."""

    EXITED = "exited"
    TIMED_OUT = "timed_out"
    CANCELED = "canceled"
    NOT_STARTED = "not_started"
    #: What watched the command was killed: how the command ended is not known. Nothing of it lives.
    LOST = "lost"


class Command(NamedTuple):
    """One command to run. Give either `argv` or `shell` (a line for /bin/sh -c), never both."""

    cwd: Path
    env: dict[str, str]
    argv: tuple[str, ...] = ()
    shell: str | None = None
    #: Fed from an unlinked file, so a command that never reads can't block; None: /dev/null.
    stdin: bytes | None = None
    #: Seconds of wall time, and seconds without output; None is unlimited.
    timeout: float | None = None
    idle_timeout: float | None = None
    #: Raw output goes here, bounded: the first and the last part are kept, the middle dropped and counted.
    stdout_log: Path | None = None
    stderr_log: Path | None = None
    #: A command that prints nothing leaves an empty log, not none.
    empty_logs: bool = True
    #: Both streams are one, in the order in which things were printed: all of it is `stdout`.
    one_stream: bool = False
    #: Bytes kept of each stream, half head and half tail.
    log_limit: int = 8_000_000
    #: Descriptors that every started process inherits: the job's lease.
    inherit: tuple[int, ...] = ()
    #: A variable of `env` (NAME, VALUE) by which whatever the command started can be found, should all else fail.
    marker: tuple[str, str] | None = None
    #: Names of variables that are only passed on: somewhere else they have the values that they have there, if any, and
    #: nothing of that place's environment counts but these. None: not known.
    passed: frozenset[str] | None = None

    @property
    def spelled(self) -> tuple[str, ...]:
        """The argument vector that is executed. Raises ValueError for a command with both, or without any."""
        if bool(self.argv) == (self.shell is not None):
            raise ValueError("give argv or shell, one of the two")
        return self.argv if self.shell is None else ("/bin/sh", "-c", self.shell)


class StreamResult(NamedTuple):
    """What one stream carried: everything is counted and hashed, `head` and `tail` are kept."""

    total: int = 0
    sha256: str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    head: bytes = b""
    tail: bytes = b""

    @property
    def kept(self) -> bytes:
        """Head and tail as one; where the middle was dropped a line says how many bytes are missing."""
        dropped = self.total - len(self.head) - len(self.tail)
        if dropped <= 0:
            return self.head + self.tail
        return self.head + f"\n[... {dropped} bytes not kept ...]\n".encode() + self.tail


class CommandResult(NamedTuple):
    """How a command ended. `exit_code` is 128+n for signal n and None when nothing ran or it was lost."""

    ended: Ended
    exit_code: int | None
    #: Seconds of wall time.
    duration: float
    stdout: StreamResult = StreamResult()
    stderr: StreamResult = StreamResult()
    #: The signal that ended the command itself, 0 for none.
    signal: int = 0
    #: Processes that outlived the command and were killed.
    survivors_killed: int = 0
    #: Why nothing ran, or why it was stopped.
    detail: str = ""
    #: The program is not there or not executable: trying again is no use.
    program_missing: bool = False

    @property
    def ok(self) -> bool:
        """The command ran to its own end with exit code 0."""
        return self.ended is Ended.EXITED and self.exit_code == 0


#: Asked often (every 50 ms at least) while a command runs; a sentence means: stop it now, this is why.
CancelCheck = Callable[[], str | None]
#: Takes (stream, bytes): stream is "stdout" or "stderr".
OutputSink = Callable[[str, bytes], None]
#: Called once the process exists and before the command itself runs; when it raises, the command never runs.
StartedHook = Callable[[ProcessIdentity], None]


class WorkerAdapter(Protocol):
    """A place where commands run."""

    name: str

    def prepare(self, commands: int) -> None:
        """Get ready: soon so many commands will run at the same time. May be left out, and may do nothing."""
        ...

    def run(
        self,
        command: Command,
        *,
        cancel: CancelCheck | None = None,
        on_output: OutputSink | None = None,
        on_started: StartedHook | None = None,
    ) -> CommandResult:
        """Run one command to its end; nothing that it started lives when this returns or raises.

        Several threads may call it at once. The callbacks are called by the thread that called it; what they raise ends
        the command and travels on. Raises StorageFailed when a log can't be written, LogistError when there is no place
        to run anything, RuntimeError once the adapter is closed; a command that can't be run is a result.
        """
        ...

    def close(self) -> None:
        """Give back what the adapter holds. It can't run anything afterwards."""
        ...


@runtime_checkable
class FencedAdapter(WorkerAdapter, Protocol):
    """A place elsewhere that can run the steps of jobs: what a submitter that died had there ends by itself."""

    @property
    def fence(self) -> float:
        """Seconds after a submitter's death from which on nothing of it runs there, or begins."""
        ...

    def serve_jobs(self) -> None:
        """From now on a command begins only with its submitter's leave: one of a dead submitter never begins."""
        ...


@runtime_checkable
class QueueingAdapter(WorkerAdapter, Protocol):
    """A place with a queue of its own: in `run` a command waits there until there is room for it."""

    def attend(self, tell: Callable[[str], None]) -> None:
        """Have `tell` take what an operator should know while commands wait. It is called from any thread."""
        ...

    def withdraw(self) -> None:
        """Start no more: what waits ends as canceled. Returns at once; may be called from any thread, and again."""
        ...


class BatchItem(NamedTuple):
    """A command that a `BatchAdapter` starts when there is room for it. Its marker tells it from all others."""

    command: Command
    #: What it is for. What an earlier run submitted is taken over only where this and the command are the same.
    purpose: str = ""
    #: The files that it reads, each with a hash; those that an earlier run knew have to be the same, too.
    inputs: Mapping[str, str] = MappingProxyType({})
    #: Removed before each start: what is there afterwards is the command's.
    output: Path | None = None


class BatchTerms(NamedTuple):
    """How a run's commands are run."""

    #: A folder of the run's own, that the place can write to and that a later run names again; None: there is none.
    folder: Path | None
    #: As many at once, at most.
    at_once: int
    #: Takes what an operator should know. Called from any thread.
    tell: Callable[[str], None]


@runtime_checkable
class BatchAdapter(WorkerAdapter, Protocol):
    """A place that is given a run's commands all at once; `run` of one of them waits until it has ended."""

    def adopt(self, items: Sequence[BatchItem], terms: BatchTerms) -> frozenset[int]:
        """Begin: which of these a run that died has submitted, and still run or have ended well (their places).

        Whatever else that run submitted does not run any more when this returns.
        """
        ...

    def submit(self, items: Sequence[BatchItem]) -> None:
        """Take commands that may start from now on, in this order."""
        ...

    def withdraw(self) -> None:
        """Start no more, and end what nobody waits for. Returns at once; may be called from any thread, and again."""
        ...

    def finish(self) -> bool:
        """Withdraw, and wait until nothing that was submitted runs; False when that could not be made sure."""
        ...
