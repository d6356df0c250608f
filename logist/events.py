"""What a run tells while it goes on: typed events and the `Reporter` that takes them. The library never prints."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Protocol

from logist.errors import ExitCode
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
    #: The same as a moment; None where it is not waited.
    retry_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class WaitResumed(Event):
    """A run waits for what is left of a wait that an earlier run was stopped in: `retry_in` seconds, to `retry_at`."""

    type: ClassVar[str] = "step.wait_resumed"
    step: int
    role: Role
    agent: str
    detail: str
    retry_in: float
    retry_at: datetime


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
    #: Whether a request to pause asks for it, of this job alone; else the whole run is to stop.
    paused: bool = False
    #: Tells what stops the run: a Ctrl-C, another signal, or the end of its time.
    exit_code: ExitCode = ExitCode.INTERRUPTED


@dataclass(frozen=True, kw_only=True)
class JobFinished(Event):
    """The job's run is over; always the last event of it. `exit_code` is what this job alone would end with."""

    type: ClassVar[str] = "job.finished"
    status: JobStatus
    reason: Reason
    step: int
    head: str
    exit_code: int
    next_commands: tuple[str, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class JobDropped(Event):
    """A run of several goes no further with a job that another runner holds, or that something went wrong with."""

    type: ClassVar[str] = "job.dropped"
    why: str


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """What came of one job in a run of several: what this run did of it, and where it stands."""

    job_id: str
    #: None when the job can't be read, or is gone.
    status: JobStatus | None
    exit_code: ExitCode
    #: Why it stands where it stands, or why it was not run.
    why: str
    #: Steps that were finished, seconds of wall time, and US dollars as far as they are known.
    steps: int = 0
    duration: float = 0.0
    cost: float = 0.0
    #: The command or the advice that goes on from here; empty where there is none.
    next: str = ""

    @property
    def headline(self) -> str:
        """Where it stands, in words."""
        return "UNREADABLE" if self.status is None else self.status.replace("_", " ")


@dataclass(frozen=True, kw_only=True)
class JobsFinished(Event):
    """A run of several jobs is over; always the last event. It belongs to no single job: `job_id` is empty."""

    type: ClassVar[str] = "jobs.finished"
    job_id: str = ""
    jobs: tuple[JobEnd, ...]
    exit_code: ExitCode


class Reporter(Protocol):
    """Takes events as they happen, in the thread that runs the job: one at a time. It must not raise."""

    def emit(self, event: Event) -> None:
        """Take one event."""
        ...


class NullReporter:
    """Takes every event and shows none."""

    def emit(self, event: Event) -> None:
        """Drop the event."""
