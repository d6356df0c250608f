"""Everything outside the job, passed in: `Runtime`, and the `Session` that one run works in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from logist import events
from logist.clock import Clock, SystemClock
from logist.errors import UsageProblem
from logist.events import NullReporter, Reporter
from logist.execution import FencedAdapter, WorkerAdapter
from logist.job_state import JobStore, OpenJob, change
from logist.lifecycle import JobStatus, Trigger, fire
from logist.models.config import Config
from logist.models.history import HistoryRecord, Transition
from logist.models.manifest import JobManifest, Reason
from logist.plain_text import plain_text
from logist.stop_requests import pending
from logist.stop_switch import StopSwitch
from logist.workspace_utils import Workspace

#: Characters; a prefix is put before a message where it becomes a sentence.
MAX_MESSAGE = 30_000
_MAX_REQUEST = 2_000


class Interrupted(Exception):
    """The command was stopped because someone asked for it; not a failure of the job."""


@dataclass(frozen=True)
class Runtime:
    """What a run needs beside the job. `environ` is the caller's environment; agents get an allow-list of it."""

    store: JobStore
    adapter: WorkerAdapter
    config: Config = field(default_factory=Config)
    reporter: Reporter = field(default_factory=NullReporter)
    clock: Clock = field(default_factory=SystemClock)
    stop: StopSwitch = field(default_factory=StopSwitch)
    environ: Mapping[str, str] = field(default_factory=dict)
    #: A project's own prompt templates.
    prompts_dir: Path | None = None
    #: Seconds that a busy provider is waited for in all; None: what the role says.
    max_wait: float | None = None

    @property
    def fence(self) -> float:
        """Seconds after this run's death from which on nothing of it runs elsewhere; 0: its commands run here."""
        return self.adapter.fence if isinstance(self.adapter, FencedAdapter) else 0.0


def plain_message(text: str) -> str:
    """A human's words as they are kept. Raises UsageProblem when they are too long."""
    words = plain_text(text.encode("utf-8", "replace").decode("utf-8")).strip()
    if len(words) > MAX_MESSAGE:
        raise UsageProblem(
            f"the message is {len(words)} characters long, and {MAX_MESSAGE} can be kept",
            "put the long part into a file in the workspace and name that",
        )
    return words


def branch_of(job_id: str) -> str:
    """The branch of the evidence repository that a job's steps are committed to."""
    return f"logist/{job_id}"


def _bounded(message: str) -> str:
    """Another process's words: they must not be able to stop a run in any other way than they ask for."""
    return plain_text(message.encode("utf-8", "replace").decode("utf-8"))[:_MAX_REQUEST].strip()


class JobView:
    """One job as it stands, read without its lease: enough to tell what its next turn would be."""

    #: Descriptors that every process of the run inherits.
    lease_fds: tuple[int, ...] = ()

    def __init__(self, runtime: Runtime, job_id: str) -> None:
        self.runtime = runtime
        self.paths = runtime.store.paths(job_id)
        self.workspace = Workspace(self.paths.repo, self.paths.workspace, branch_of(job_id))

    @property
    def manifest(self) -> JobManifest:
        """The job as it stands."""
        return self.runtime.store.load(self.paths.root.name)

    def unfinished(self) -> tuple[HistoryRecord, ...]:
        """The records since the last finished step, oldest first."""
        return tuple(entry.record for entry in self.runtime.store.unfinished(self.paths.root.name))


class SupposedView(JobView):
    """A job as it would stand with another manifest, and with no step begun."""

    def __init__(self, view: JobView, manifest: JobManifest) -> None:
        self.runtime, self.paths, self.workspace = view.runtime, view.paths, view.workspace
        self._manifest = manifest

    @property
    def manifest(self) -> JobManifest:
        """The job as it would stand."""
        return self._manifest

    def unfinished(self) -> tuple[HistoryRecord, ...]:
        """No record: no step is begun."""
        return ()


class Session(JobView):
    """One lease's work on one job: the open job, its workspace and the runtime."""

    def __init__(self, runtime: Runtime, job: OpenJob) -> None:
        super().__init__(runtime, job.manifest.id)
        self.job = job
        #: The lease's descriptor: it lasts as long as the last process that inherited it.
        self.lease_fds = (job.lease.fileno(),)
        #: The agents that were asked for their version: once is enough for a run.
        self.versions_asked: set[str] = set()
        self._announced = 0
        self._pause_announced = False

    @property
    def manifest(self) -> JobManifest:
        """The job as it stands."""
        return self.job.manifest

    def unfinished(self) -> tuple[HistoryRecord, ...]:
        """The records since the last finished step, oldest first."""
        return tuple(entry.record for entry in self.job.last_records())

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.job.manifest.id

    def emit(self, event: events.Event) -> None:
        """Tell the reporter."""
        self.runtime.reporter.emit(event)

    def notice(self, message: str) -> None:
        """Tell the operator something that changes no state."""
        self.emit(events.Notice(job_id=self.job_id, message=message))

    def cancel_message(self) -> str | None:
        """The words of a cancel request of another process, None when nobody asked."""
        message = pending(self.paths, "cancel")
        return None if message is None else _bounded(message)

    def stop_now(self) -> str | None:
        """Why a running command must stop at once; polled while it runs."""
        self._announce()
        if self.cancel_message() is not None:
            return "canceled by request"
        return self.runtime.stop.cause if self.runtime.stop.now else None

    def raise_if_stopped(self) -> None:
        """Raise Interrupted when the run must stop at once."""
        why = self.stop_now()
        if why is not None:
            raise Interrupted(why)

    def stop_after_step(self) -> str | None:
        """Why no further step is to be taken, None to go on."""
        return self.runtime.stop.cause if self.runtime.stop.after_step else self._pause_request()

    def _pause_request(self) -> str | None:
        message = pending(self.paths, "pause")
        return None if message is None else f"paused by request: {_bounded(message)}".removesuffix(": ")

    def _announce(self) -> None:
        stop = self.runtime.stop
        after = "the running chunks" if self.manifest.renders_next else "this step"
        level = stop.after_step + stop.now
        if level > self._announced:
            self._announced = level
            self.emit(
                events.StopRequested(
                    job_id=self.job_id, now=stop.now, why=stop.cause, after=after, exit_code=stop.exit_code
                )
            )
        if not (self._announced or self._pause_announced):
            paused = self._pause_request()
            if paused is not None:
                self._pause_announced = True
                self.emit(events.StopRequested(job_id=self.job_id, now=False, why=paused, after=after, paused=True))

    def transition(self, trigger: Trigger, reason: Reason, **fields: object) -> JobStatus:
        """Record a change of state that belongs to no step, and tell it. Raises TransitionRefused."""
        before = self.manifest.status
        after = fire(before, trigger)
        self.job.record(
            Transition(trigger=trigger, reason=reason, change=change(status=after, reason=reason, **fields))
        )
        self.tell_state(trigger, before)
        return after

    def tell_state(self, trigger: Trigger, before: JobStatus) -> None:
        """Tell the reporter where the job is now."""
        manifest = self.manifest
        self.emit(
            events.StateChanged(
                job_id=self.job_id, trigger=trigger, before=before, after=manifest.status, reason=manifest.reason
            )
        )
