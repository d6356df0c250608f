"""Until when the next attempt at a step is held back, as the record of the last one says. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from logist.durable import Document
from logist.job_files import JobPaths
from logist.journal import Journal
from logist.lifecycle import JobStatus, Trigger
from logist.models.manifest import JobManifest


@dataclass(frozen=True)
class Wait:
    """A wait before the next attempt, and what was said for it."""

    until: datetime
    why: str

    def left(self, now: datetime) -> float:
        """Seconds from `now` on; 0 when it is over."""
        return max(0.0, (self.until - now).total_seconds())


def wait_after(retry_at: datetime, detail: str) -> Wait:
    """The wait after an attempt that failed; of what was received from its agent only what that came to is told."""
    return Wait(retry_at, detail.strip().partition("\n")[0])


def standing_wait(paths: JobPaths, manifest: JobManifest, now: datetime) -> Wait | None:
    """The wait that is not over, be it that a run waits now or that one was stopped; None: the agent may be asked.

    A human's decision ends it. Reads the end of the history alone. Raises InvalidFile.
    """
    # Most jobs have made no attempt that failed: they cost no look at their history.
    if not manifest.attempt or manifest.status not in (JobStatus.PENDING, JobStatus.RUNNING):
        return None
    for line in Journal(paths.history).newest_first():
        if not _says_nothing(line.record):
            return _told(line.record, now)
    return None


def _says_nothing(record: Document) -> bool:
    """Whether a record leaves a wait as it was: runs may come and go meanwhile."""
    kind = record.get("type")
    return kind == "restored" or (kind == "transition" and record.get("trigger") != Trigger.REOPEN)


def _told(record: Document, now: datetime) -> Wait | None:
    retry_at = record.get("retry_at")
    if record.get("type") != "attempt_failed" or not isinstance(retry_at, str):
        return None
    wait = wait_after(datetime.fromisoformat(retry_at), str(record["detail"]))
    return wait if wait.left(now) else None
