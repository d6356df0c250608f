"""Brings a job whose runner died back to a state that a step can start from."""

from __future__ import annotations

from logist.durations import format_duration
from logist.execution.leftovers import kill_leftovers
from logist.job_state import change
from logist.lifecycle import JobStatus, Trigger
from logist.models.history import AttemptFailed, Exited, HistoryRecord, Intent, Restored, Started
from logist.models.manifest import JobManifest, Reason, ReasonCode, Role
from logist.processes import ProcessIdentity, boot_id
from logist.runtime import Interrupted, JobView, Session
from logist.turn_requests import step_token
from logist.unfinished_work import ensure_workspace, set_aside


def recover(session: Session) -> None:
    """Bring a job whose runner died, or whose step was left half way, back to a state that a step can start from.

    Nothing of the old run lives afterwards; partial work is under refs/logist/salvage; the workspace and the
    evidence branch agree with the last record. A step that had exited is finished by the next `job_step`.
    Raises Interrupted when the run was stopped before what the dead runner had elsewhere has ended.
    """
    died = session.manifest.status is JobStatus.RUNNING
    if died:
        _await_fence(session)
    if session.manifest.restoring:
        finish_restoring(session)
    ensure_workspace(session)
    records = step_records(session)
    last = records[-1] if records else None
    if died or isinstance(last, Started | Intent):
        _kill_leftovers(session, records)
    _recover_workspace(session, last)
    if died:
        reason = Reason(code=ReasonCode.RUNNER_DIED, sentence="the runner died; the job goes on from its last record")
        session.transition(Trigger.RECOVER, reason)
        session.notice("the last runner died; recovered")


def _await_fence(session: Session) -> None:
    """Wait until nothing runs any more of what the dead runner had elsewhere; when it died is not known."""
    fence, clock = session.manifest.fence, session.runtime.clock
    if not fence:
        return
    session.notice(f"the last runner died; all that it had elsewhere has ended in {format_duration(fence)}: waiting")
    end = clock.monotonic() + fence
    while (left := end - clock.monotonic()) > 0:
        if session.runtime.stop.after_step:
            raise Interrupted("stopped while waiting for the end of what a dead runner had elsewhere")
        clock.sleep(min(0.1, left))


def rebooted(manifest: JobManifest) -> bool:
    """Whether the machine was started again since the job's last record."""
    return manifest.boot_id not in ("", boot_id())


def _recover_workspace(session: Session, last: HistoryRecord | None) -> None:
    manifest = session.manifest
    if isinstance(last, Exited) and _may_be_finished(last, manifest):
        return
    if session.workspace.head() != manifest.head:
        session.workspace.advance(manifest.head, expected=session.workspace.head())
    if isinstance(last, Started | Exited):
        set_aside(session, "lost", "the runner died while this attempt ran")
    elif rebooted(manifest) and session.workspace.differs(manifest.head):
        # After a restart of the machine the workspace is only what happened to reach the disk.
        set_aside(session, "lost", "the machine restarted; the workspace was put back from the evidence")
    if rebooted(manifest):
        session.job.record(Restored(commit=manifest.head, change=change(boot_id=boot_id())))


def _may_be_finished(exited: Exited, manifest: JobManifest) -> bool:
    """Only within the boot in which it exited is the workspace what the agent left: it is never fsynced."""
    return exited.boot_id == boot_id() and manifest.status in (JobStatus.RUNNING, JobStatus.PENDING)


def unfinished_exit(session: JobView) -> Exited | None:
    """The end of an agent whose step was not finished; None when there is none."""
    records = step_records(session)
    last = records[-1] if records else None
    return last if isinstance(last, Exited) else None


def step_records(session: JobView) -> list[Intent | Started | Exited | AttemptFailed]:
    """The records of the step that was begun and not committed.

    Changes of state between them are left out, and so is a human's step: hand edits stay in the workspace until they
    are committed, and are simply found again.
    """
    return [
        record
        for record in session.unfinished()
        if isinstance(record, Started | AttemptFailed)
        or (isinstance(record, Intent | Exited) and record.role is not Role.HUMAN)
    ]


def _kill_leftovers(session: Session, records: list[Intent | Started | Exited | AttemptFailed]) -> None:
    started = [record for record in records if isinstance(record, Started)]
    manifest = session.manifest
    process = None
    if started:
        known = started[-1].process
        process = ProcessIdentity(known.pid, known.start_time, known.boot_id)
    token = step_token(manifest.seed, manifest.step + 1, manifest.attempt + 1)
    killed = kill_leftovers(process, marker=("LOGIST_STEP_TOKEN", token))
    if killed:
        session.notice(f"{killed} process(es) of the dead runner were killed")


def finish_restoring(session: Session) -> None:
    """Make the workspace and the branch what the manifest's head says, and record that this is done."""
    manifest = session.manifest
    session.workspace.advance(manifest.head, expected=session.workspace.head())
    session.workspace.restore(manifest.head)
    session.job.record(Restored(commit=manifest.head, change=change(restoring=False)))
