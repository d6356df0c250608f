"""What a run tells while it goes on: typed events and the `Reporter` that takes them. The library never prints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from logist.lifecycle import JobStatus, Trigger
from logist.models.manifest import CheckResult, Reason, Role, Verdict
from logist.models.usage import Usage

if TYPE_CHECKING:
    from logist.chunks import ChunkEvent


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to one job. `type` is its stable name in the JSON event stream."""

    type: ClassVar[str]
    job_id: str


@dataclass(frozen=True, kw_only=True)
class StateChanged(Event):
    """The job moved along the state table."""

    type: ClassVar[str] = "job.state"
    trigger: Trigger
    before: JobStatus
    after: JobStatus
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class StepStarted(Event):
    """An attempt at a step begins. `steps_spent` and `steps_limit` are the budget; times in seconds."""

    type: ClassVar[str] = "step.started"
    step: int
    attempt: int
    role: Role
    agent: str
    phase: str
    steps_spent: int
    steps_limit: int | None
    time_spent: float
    time_limit: float | None
    retries_spent: int
    retries_limit: int
    stdout_log: str


@dataclass(frozen=True, kw_only=True)
class OutputReceived(Event):
    """Raw bytes that the agent printed: hostile input for a terminal, to be sanitised by whoever shows it."""

    type: ClassVar[str] = "agent.output"
    step: int
    stream: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class RenderProgressed(Event):
    """Something happened in the chunk run of a render. The JSON stream has it under the type of `event`."""

    type: ClassVar[str] = "render.progress"
    step: int
    event: ChunkEvent


@dataclass(frozen=True, kw_only=True)
class AttemptFailed(Event):
    """An attempt gave no usable reply. `retry_in` is seconds until the next attempt; None: there is none."""

    type: ClassVar[str] = "step.attempt_failed"
    step: int
    attempt: int
    kind: str
    detail: str
    retry_in: float | None


@dataclass(frozen=True, kw_only=True)
class CheckFinished(Event):
    """One acceptance check ended."""

    type: ClassVar[str] = "check.finished"
    step: int
    result: CheckResult


@dataclass(frozen=True, kw_only=True)
class StepFinished(Event):
    """A step is recorded: the evidence commit exists and the manifest says what follows."""

    type: ClassVar[str] = "step.finished"
    step: int
    role: Role
    agent: str
    phase: str
    action: Verdict
    summary: str
    commit: str
    files_changed: int
    skipped: int
    duration: float
    usage: Usage
    checks: tuple[CheckResult, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something an operator should know that changes no state: a recovery, hand edits found, a scripted agent."""

    type: ClassVar[str] = "job.notice"
    message: str


@dataclass(frozen=True, kw_only=True)
class StopRequested(Event):
    """The run will stop: after the step, or now."""

    type: ClassVar[str] = "job.stop_requested"
    now: bool
    why: str
    #: What is still brought to its end, unless it stops now.
    after: str = "this step"


@dataclass(frozen=True, kw_only=True)
class JobFinished(Event):
    """The run is over; always the last event. `exit_code` is the command's."""

    type: ClassVar[str] = "job.finished"
    status: JobStatus
    reason: Reason
    step: int
    head: str
    exit_code: int
    next_commands: tuple[str, ...] = field(default=())


class Reporter(Protocol):
    """Takes events as they happen, in the thread that runs the job. It must not raise."""

    def emit(self, event: Event) -> None:
        """Take one event."""
        ...


class NullReporter:
    """Takes every event and shows none."""

    def emit(self, event: Event) -> None:
        """Drop the event."""
