"""The fakes that we ship, for our own tests and for authors of agents and adapters: commands, time and events."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from logist.events import Event
from logist.execution import (
    CancelCheck,
    Command,
    CommandResult,
    Ended,
    OutputSink,
    StartedHook,
    StreamResult,
)
from logist.execution.adapters import AdapterOptions, refuse_unknown
from logist.processes import ProcessIdentity

#: What a scripted command does: ends like this, or does something (write a file, raise) and then ends like this.
Answer = CommandResult | Callable[[Command], CommandResult]

#: The process of every scripted command. It is of no boot of any machine, so nobody takes it for a living one.
SCRIPTED_PROCESS = ProcessIdentity(pid=2**22 + 1, start_time=1, boot_id="scripted")

AnyEvent = TypeVar("AnyEvent", bound=Event)


def stream(data: bytes) -> StreamResult:
    """A stream that carried `data`, all of it kept."""
    return StreamResult(total=len(data), sha256=hashlib.sha256(data).hexdigest(), head=data)


def exited(exit_code: int = 0, *, stdout: bytes = b"", stderr: bytes = b"", duration: float = 0.0) -> CommandResult:
    """The result of a command that ran to its own end. `duration` is in seconds."""
    return CommandResult(Ended.EXITED, exit_code, duration, stream(stdout), stream(stderr))


class ScriptedAdapter:
    """A WorkerAdapter that runs nothing: each command gets the next answer, and `commands` remembers what was asked.

    Like the real one it asks `cancel` first, calls `on_started` before the answer is made, writes the logs, and
    hands the output to `on_output`. Raises AssertionError when a command comes and no answer is left.
    """

    name = "scripted"

    def __init__(self, answers: Iterable[Answer] = ()) -> None:
        self.commands: list[Command] = []
        self.closed = False
        self._answers = list(answers)

    @property
    def answers_left(self) -> int:
        """How many answers nobody has asked for yet."""
        return len(self._answers)

    def then(self, *answers: Answer) -> ScriptedAdapter:
        """Add answers to the end of the script."""
        self._answers.extend(answers)
        return self

    def prepare(self, commands: int) -> None:
        """Nothing is to be got ready."""

    def run(
        self,
        command: Command,
        *,
        cancel: CancelCheck | None = None,
        on_output: OutputSink | None = None,
        on_started: StartedHook | None = None,
    ) -> CommandResult:
        """Remember the command and give the next answer."""
        if self.closed:
            raise RuntimeError("this adapter is closed")
        why = None if cancel is None else cancel()
        if why is not None:
            return CommandResult(Ended.CANCELED, None, 0.0, detail=why)
        self.commands.append(command)
        if not self._answers:
            raise AssertionError(f"the script has no answer left for {command.spelled}")
        answer = self._answers.pop(0)
        if on_started is not None and not _never_starts(answer):
            on_started(SCRIPTED_PROCESS)
        result = answer if isinstance(answer, CommandResult) else answer(command)
        _show(command, result, on_output)
        return result

    def close(self) -> None:
        """Take no more commands."""
        self.closed = True


def open_scripted(options: AdapterOptions) -> ScriptedAdapter:
    """A factory for an entry point of the group `logist.adapters`. Raises UsageProblem for any option."""
    refuse_unknown(ScriptedAdapter.name, options)
    return ScriptedAdapter()


def _never_starts(answer: Answer) -> bool:
    return isinstance(answer, CommandResult) and answer.ended is Ended.NOT_STARTED


def _show(command: Command, result: CommandResult, on_output: OutputSink | None) -> None:
    for name, log, carried in (
        ("stdout", command.stdout_log, result.stdout),
        ("stderr", command.stderr_log, result.stderr),
    ):
        if log is not None:
            log.write_bytes(carried.kept)
        if on_output is not None and carried.kept:
            on_output(name, carried.kept)


class FakeClock:
    """A Clock that stands still unless it is told to go on or somebody sleeps; `slept` remembers each sleep."""

    def __init__(self, now: datetime = datetime(2030, 1, 1, tzinfo=UTC), *, monotonic: float = 1000.0) -> None:
        self._now = now
        self._monotonic = monotonic
        self.slept: list[float] = []

    def now(self) -> datetime:
        """The wall time, in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Be `seconds` later at once."""
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time go on. Raises ValueError for a negative number: see `set_wall_time`."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._monotonic += seconds
        self._now += timedelta(seconds=seconds)

    def set_wall_time(self, now: datetime) -> None:
        """Jump, as an operator's `date` does: the monotonic clock does not follow. `now` must be aware."""
        if now.tzinfo is None:
            raise ValueError("give an aware time")
        self._now = now.astimezone(UTC)


class MemoryReporter:
    """A Reporter that keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)

    def of(self, kind: type[AnyEvent]) -> list[AnyEvent]:
        """The events of one type, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def types(self) -> list[str]:
        """The names of all events, in order."""
        return [event.type for event in self.events]
