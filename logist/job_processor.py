"""Drives one job, one recorded step at a time: `run_job`, `job_step`, `recover`.

The order of one step is the contract of crash safety: intent, spawn, started, the agent runs and ends, exited,
evidence commit, checks, committed, manifest. Each record is on disk before what follows it, and `recover` goes on
from whichever came last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from logist import decision, events
from logist.agents import find_agent
from logist.checks import ChecksStopped, run_checks
from logist.errors import ExitCode, LogistError, StorageFailed, WorkspaceFailed, WrongState
from logist.evidence import evidence_message, evidence_record
from logist.execution import StreamResult
from logist.execution.leftovers import kill_leftovers
from logist.job_report import next_command_lines
from logist.job_state import OpenJob, change
from logist.lifecycle import JobStatus, Trigger, fire
from logist.models.history import (
    AttemptFailed,
    Change,
    Committed,
    Exited,
    HistoryRecord,
    Intent,
    OutputDigest,
    Restored,
    Skipped,
    Started,
)
from logist.models.manifest import Budget, CheckResult, JobManifest, PhaseKind, Reason, ReasonCode, Role, Verdict
from logist.models.reply import Reply, Usage
from logist.processes import ProcessIdentity, boot_id
from logist.runtime import Interrupted, JobView, Runtime, Session
from logist.stop_requests import clear
from logist.takeover import take_over
from logist.turns import (
    RESTORED,
    Preview,
    ensure_workspace,
    feed_turn,
    keep_aside,
    preview_turn,
    read_fed_reply,
    set_aside,
    step_token,
    take_turn,
)
from logist.workspace_utils import CommitInfo, SkippedPath, Snapshot

#: How many paths that the evidence leaves out a supervisor is told, and the characters of each.
_LEFT_OUT, _MAX_LEFT_OUT = 50, 500

#: What an exit code tells about a job that came to rest.
_EXIT_CODES = {
    JobStatus.SUCCESS: ExitCode.SUCCESS,
    JobStatus.CANCELED: ExitCode.CANCELED,
    JobStatus.INTERVENTION_REQUIRED: ExitCode.INTERVENTION_REQUIRED,
}


@dataclass(frozen=True)
class RunResult:
    """Where the job stands after a run, and the exit code that says so."""

    manifest: JobManifest
    exit_code: ExitCode


class _Fed(NamedTuple):
    """A reply that takes the place of the next agent's, and where it is from."""

    reply: Reply
    name: str


def run_job(
    runtime: Runtime, job_id: str, *, single_step: bool = False, reply: bytes | None = None, reply_name: str = ""
) -> RunResult:
    """Run the job's steps until it needs nobody, somebody, or was told to stop.

    `single_step` stops after one step. `reply` is taken as the next step's reply instead of running an agent.
    Raises WrongState when the job is over or waits for a human, JobBusy when another runner holds it,
    AgentUnavailable before anything is spent when an agent's program is missing, StorageFailed when a record can't be
    made durable.
    """
    _refuse_unless_runnable(runtime.store.load(job_id))
    with open_session(runtime, job_id, command="step" if single_step else "run") as session:
        # Only now: while another runner held the job, a request to pause was meant for that one.
        clear(session.paths, "pause")
        recover(session)
        _refuse_unless_runnable(session.manifest)
        if session.manifest.status is JobStatus.PENDING:
            _check_agents(session, fed=reply is not None)
        fed = None if reply is None else _read_fed(session, reply, reply_name)
        try:
            exit_code = _drive(session, single_step=single_step, fed=fed)
        except Exception as fault:
            # A run that could not record its end has none to tell.
            if session.manifest.status is not JobStatus.RUNNING:
                _tell_end(session, fault.exit_code if isinstance(fault, LogistError) else ExitCode.UNEXPECTED)
            raise
        _tell_end(session, exit_code)
        return RunResult(session.manifest, exit_code)


def _read_fed(session: Session, reply: bytes, name: str) -> _Fed:
    """The reply for the very next turn. Raises InvalidFile when it is none, WrongState when no turn is next."""
    manifest = session.manifest
    if _unfinished_exit(session) is not None:
        raise WrongState(
            f"step {manifest.step + 1} has its reply already; only its checks are not done",
            f"`logist job step {manifest.id}` finishes it; feed a reply after that",
        )
    if manifest.renders_next:
        raise WrongState(
            f"step {manifest.step + 1} is a render: nobody is asked, so there is no reply to take",
            f"`logist job step {manifest.id}` runs its chunks",
        )
    if manifest.next_role is Role.SUPERVISOR and session.workspace.differs(manifest.head):
        raise WrongState(
            "the workspace was edited since the work that the supervisor is to judge",
            f"`logist job step {manifest.id}` records the edits first",
        )
    return _Fed(read_fed_reply(session, reply, name), name)


def _tell_end(session: Session, exit_code: ExitCode) -> None:
    manifest = session.manifest
    session.emit(
        events.JobFinished(
            job_id=manifest.id,
            status=manifest.status,
            reason=manifest.reason,
            step=manifest.step,
            head=manifest.head,
            exit_code=int(exit_code),
            next_commands=next_command_lines(manifest),
        )
    )


def preview_step(runtime: Runtime, job_id: str) -> Preview:
    """The exact next prompt and command; nothing changes and no lease is taken. Raises WrongState when none is next."""
    view = JobView(runtime, job_id)
    with contextlib.closing(view.workspace):
        _refuse_unless_runnable(view.manifest)
        if _unfinished_exit(view) is not None:
            raise WrongState(
                f"step {view.manifest.step + 1} has its reply already; only its checks are not done",
                f"`logist job step {job_id}` finishes it; nobody is asked for that",
            )
        if view.manifest.renders_next:
            from logist.render_turn import preview_render

            return preview_render(view)
        return preview_turn(view)


@contextlib.contextmanager
def open_session(runtime: Runtime, job_id: str, *, command: str) -> Iterator[Session]:
    """Take the job's lease and open its workspace. Raises JobBusy, JobNotFound, InvalidFile, WorkspaceFailed."""

    def take() -> OpenJob:
        return runtime.store.open(job_id, command=command)

    with take_over(runtime.store.paths(job_id), runtime.clock, take) as job:
        session = Session(runtime, job)
        with contextlib.closing(session.workspace):
            yield session


def _refuse_unless_runnable(manifest: JobManifest) -> None:
    if manifest.status in (JobStatus.PENDING, JobStatus.RUNNING):
        return
    commands = next_command_lines(manifest)
    raise WrongState(
        f"job {manifest.id} is {manifest.status}: {manifest.reason.sentence}",
        "possible now: " + "; ".join(commands) if commands else "nothing is left to do",
    )


def _check_agents(session: Session, *, fed: bool) -> None:
    manifest = session.manifest
    phases = manifest.job.phases[manifest.phase :]
    asked = [Role.WORKER] if any(phase.kind is PhaseKind.WORK for phase in phases) else []
    for role in (*asked, Role.SUPERVISOR):
        if fed and role is manifest.next_role:
            continue
        settings = manifest.job.roles.of(role)
        agent = find_agent(settings.agent, session.runtime.config)
        agent.check(settings)
        if agent.scripted:
            session.notice(f"the {role} is scripted ({agent.name}): no model is asked")


def _drive(session: Session, *, single_step: bool, fed: _Fed | None) -> ExitCode:
    try:
        if session.manifest.status is JobStatus.PENDING:
            started = Reason(code=ReasonCode.RUNNER_STARTED, sentence="a runner took the job")
            session.transition(Trigger.START, started, boot_id=boot_id())
            if fed is None:
                _take_stray_edits(session)
        while session.manifest.status is JobStatus.RUNNING:
            ended = _end_before_step(session)
            if ended is not None:
                return ended
            job_step(session, fed=fed)
            fed = None
            if single_step and session.manifest.status is JobStatus.RUNNING:
                done = Reason(code=ReasonCode.STEP_DONE, sentence=session.manifest.reason.sentence)
                session.transition(Trigger.PAUSE, done)
                return ExitCode.SUCCESS
    except Interrupted as stop:
        return _end_interrupted(session, str(stop))
    except StorageFailed:
        # Nothing more can be recorded; the next run recovers from what is on disk.
        raise
    except Exception as fault:
        _escalate_fault(session, fault)
        raise
    clear_requests(session)
    return _EXIT_CODES[session.manifest.status]


def _end_before_step(session: Session) -> ExitCode | None:
    """End the run here when it was asked to, or when a budget is spent; None to take the step."""
    if session.cancel_message() is not None:
        return _cancel(session)
    why = session.stop_after_step()
    if why is not None:
        return _pause(session, ReasonCode.PAUSED, why)
    spent = decision.spent_budget(session.manifest)
    if spent is not None and not _unfinished_exit(session):
        session.transition(Trigger.ESCALATE, spent)
        return ExitCode.INTERVENTION_REQUIRED
    return None


def _end_interrupted(session: Session, why: str) -> ExitCode:
    if session.cancel_message() is not None:
        return _cancel(session)
    return _pause(session, ReasonCode.INTERRUPTED, why)


def _cancel(session: Session) -> ExitCode:
    cancel(session, session.cancel_message() or "")
    return ExitCode.CANCELED


def cancel(session: Session, message: str) -> None:
    """End the job for good. A step that was not finished is set aside, so that the evidence ends with a whole one."""
    if _unfinished_exit(session) is not None:
        session.workspace.advance(session.manifest.head, expected=session.workspace.head())
        set_aside(session, "interrupted", "the job was canceled before this step's checks were done")
    sentence = f"canceled: {message}" if message else "canceled by request"
    session.transition(Trigger.CANCEL, Reason(code=ReasonCode.CANCELED, sentence=sentence))
    clear_requests(session)


def clear_requests(session: Session) -> None:
    """Requests that were meant for what is over now."""
    clear(session.paths, "cancel")
    clear(session.paths, "pause")


def _pause(session: Session, code: ReasonCode, why: str) -> ExitCode:
    session.transition(Trigger.PAUSE, Reason(code=code, sentence=why))
    clear(session.paths, "pause")
    return session.runtime.stop.exit_code


def _escalate_fault(session: Session, fault: Exception) -> None:
    """A fault of ours or of the machine is the human's to see, in the job's own record too."""
    if session.manifest.status is JobStatus.RUNNING:
        sentence = f"{type(fault).__name__}: {fault}"[:2000]
        session.transition(Trigger.ESCALATE, Reason(code=ReasonCode.INTERNAL_ERROR, sentence=sentence))


def job_step(session: Session, *, fed: _Fed | None = None) -> None:
    """Take the next step, from intent to committed; or finish the one that a dead runner left at its exit.

    Raises Interrupted when it was stopped on request.
    """
    exited = _unfinished_exit(session)
    if exited is not None:
        finish_step(session, exited)
    elif fed is not None:
        finish_step(session, feed_turn(session, fed.reply, fed.name))
    elif session.manifest.renders_next:
        # Imported here: most jobs render nothing.
        from logist.render_turn import take_render_turn

        finish_step(session, take_render_turn(session))
    else:
        finish_step(session, take_turn(session))


def take_hand_edits(
    session: Session, message: str, *, action: Verdict = Verdict.COMPLETED, resolves: Budget | None = None
) -> None:
    """Record what a human changed in the workspace as a step of role human; COMPLETED asks for checks and a verdict.

    `resolves` is the budget from now on when the step is also the answer to an intervention.
    """
    manifest = session.manifest
    step, attempt = manifest.step + 1, manifest.attempt + 1
    actor = actor_of(session.runtime)
    session.job.record(
        Intent(
            step=step,
            attempt=attempt,
            role=Role.HUMAN,
            phase=manifest.current_phase.name,
            agent=actor,
            base=manifest.head,
            prompt_sha256="",
        )
    )
    nothing = OutputDigest(bytes=0, sha256=StreamResult().sha256)
    exited = Exited(
        step=step,
        attempt=attempt,
        role=Role.HUMAN,
        at=session.runtime.clock.now(),
        ended="edited",
        exit_code=None,
        duration=0.0,
        stdout=nothing,
        stderr=nothing,
        action=action,
        summary=message or "edited by hand",
        evidence_files=(),
        reply_source="human",
        usage=Usage(),
        agent=actor,
        boot_id=boot_id(),
    )
    session.job.record(exited)
    finish_step(session, exited, resolves=resolves)


def actor_of(runtime: Runtime) -> str:
    """Who sits at the terminal, for the record."""
    return runtime.environ.get("USER") or runtime.environ.get("LOGNAME") or "human"


def finish_restoring(session: Session) -> None:
    """Make the workspace and the branch what the manifest's head says, and record that this is done."""
    manifest = session.manifest
    session.workspace.advance(manifest.head, expected=session.workspace.head())
    session.workspace.restore(manifest.head)
    session.job.record(Restored(commit=manifest.head, change=change(restoring=False)))


def _take_stray_edits(session: Session) -> None:
    """Edits made while the job rested are a human's, never the next worker's."""
    records = _step_records(session)
    kept = records and not (isinstance(records[-1], AttemptFailed) and records[-1].kind in RESTORED)
    if not kept and session.workspace.differs(session.manifest.head):
        session.notice("the workspace was edited by hand; the edits are recorded as a step of role human")
        # Nobody said that the work is done: the worker goes on from here.
        take_hand_edits(session, "", action=Verdict.RETRY)


def finish_step(session: Session, exited: Exited, *, resolves: Budget | None = None) -> None:
    """From `exited` on: the evidence commit, the checks, the decision, the record. Safe to repeat after a crash.

    `resolves` is the budget from now on when the step answers an intervention.
    """
    before = session.manifest
    if exited.role is Role.HUMAN:
        before = decision.with_fresh_patience(before)
    snapshot, commit = _committed_already(session, exited) or _commit_evidence(session, exited)
    checks, duration = _check(session, exited, commit)
    decided = decision.decide(
        before,
        decision.StepOutcome(
            step=exited.step,
            role=exited.role,
            agent=exited.agent,
            action=exited.action,
            summary=exited.summary,
            tree=snapshot.tree,
            checks=checks,
            duration=round(exited.duration + duration, 3),
            usage=exited.usage,
            failure=exited.failure,
        ),
    )
    trigger = decided.trigger if resolves is None else Trigger.RESOLVE
    after = decided.after.model_copy(
        update={
            "budget": before.budget if resolves is None else resolves,
            "status": fire(before.status, trigger),
            "reason": decided.reason,
            "head": commit,
            "boot_id": boot_id(),
            "left_out": before.left_out if exited.role is Role.SUPERVISOR else _left_out(snapshot),
        }
    )
    committed = Committed(
        step=exited.step,
        role=exited.role,
        agent=exited.agent,
        action=exited.action,
        summary=exited.summary,
        phase=before.current_phase.name,
        trigger=trigger,
        reason=decided.reason,
        commit=commit,
        tree=snapshot.tree,
        checks=checks,
        skipped=tuple(Skipped(path=path, why=why) for path, why in snapshot.skipped),
        files_changed=len(snapshot.changed),
        duration=round(exited.duration + duration, 3),
        usage=exited.usage,
        change=change_between(session.manifest, after),
    )
    # The branch's folder is synced with the record: until that one is there, nothing rests on the branch.
    with session.workspace.branch_folder() as folder:
        session.job.record(committed, along=(folder,))
    _tell_finish(session, exited, snapshot, commit, checks, before.current_phase.name)
    session.tell_state(trigger, before.status)


def _left_out(snapshot: Snapshot) -> tuple[str, ...]:
    return tuple(f"{path} ({why})"[:_MAX_LEFT_OUT] for path, why in snapshot.skipped[:_LEFT_OUT])


def change_between(before: JobManifest, after: JobManifest) -> Change:
    """The manifest's fields that differ: what the history keeps of it."""
    changed = {
        name: getattr(after, name) for name in JobManifest.model_fields if getattr(after, name) != getattr(before, name)
    }
    return change(**changed)


def _committed_already(session: Session, exited: Exited) -> tuple[Snapshot, str] | None:
    """The evidence of a step whose runner died after committing it.

    The workspace is no witness any more: the checks may have begun to leave files in it. It is put back.
    """
    workspace, base = session.workspace, session.manifest.head
    commit = workspace.head()
    if commit == base:
        return None
    record = evidence_record(workspace.message_of(commit))
    if record is None or (record.step, record.attempt) != (exited.step, exited.attempt):
        raise WorkspaceFailed(
            f"the evidence branch is at {commit[:12]}, which is not of step {exited.step}",
            f"look at it with `logist job evidence {session.job_id}`; something else wrote to the repository",
        )
    if workspace.differs(commit):
        salvaged = keep_aside(session, exited.step, exited.attempt, commit)
        workspace.restore(commit)
        session.notice(f"the workspace was not what step {exited.step} had left; what was in it is kept as {salvaged}")
    return Snapshot(
        tree=workspace.tree_of(commit),
        changed=tuple(change.path for change in workspace.changes(base, commit)),
        skipped=tuple(SkippedPath(skipped.path, skipped.why) for skipped in record.skipped),
    ), commit


def _commit_evidence(session: Session, exited: Exited) -> tuple[Snapshot, str]:
    manifest, workspace = session.manifest, session.workspace
    # The record `exited` is written and not synced yet; it must be on the disk before the branch moves.
    along = (session.job.journal_fd,)

    def describe(snapshot: Snapshot) -> CommitInfo:
        return CommitInfo(
            author=f"{exited.role} ({exited.agent})",
            message=evidence_message(manifest, exited, snapshot.skipped),
            at=exited.at,
        )

    if exited.role is Role.SUPERVISOR:
        # It judged the head's tree, and that is what its commit carries, whatever lies about in the workspace.
        snapshot = Snapshot(tree=manifest.tree, changed=(), skipped=())
        commit = workspace.commit_tree(snapshot.tree, manifest.head, describe(snapshot), along=along)
    else:
        snapshot, commit = workspace.commit_snapshot(manifest.head, describe, force=exited.evidence_files, along=along)
    return snapshot, commit


def _check(session: Session, exited: Exited, commit: str) -> tuple[tuple[CheckResult, ...], float]:
    """The acceptance checks after work that claims to be done, and how many seconds they took."""
    manifest = session.manifest
    if exited.role is Role.SUPERVISOR or exited.action is not Verdict.COMPLETED or not manifest.current_checks:
        return (), 0.0
    tidied: list[str] = []

    def tidy() -> None:
        left = session.workspace.differs(commit)
        if left:
            session.workspace.restore(commit)
            tidied.extend(left)

    try:
        results = run_checks(
            manifest.current_checks,
            session.paths.workspace,
            session.runtime.adapter,
            environ=session.runtime.environ,
            pass_env=session.runtime.config.env,
            log_dir=session.paths.step_dir(exited.step, exited.role.value, exited.attempt),
            cancel=session.stop_now,
            tidy=tidy,
            lease_fds=session.lease_fds,
            on_result=lambda result: session.emit(
                events.CheckFinished(job_id=session.job_id, step=exited.step, result=result)
            ),
        )
    except ChecksStopped as stop:
        raise Interrupted(str(stop)) from stop
    if tidied:
        session.notice(f"files that the checks left in the workspace were put back: {', '.join(tidied[:5])}")
    if manifest.renders_next:
        from logist.render_turn import altered_media

        # Git does not have them, so they can't be put back.
        altered = altered_media(session)
        if altered:
            session.notice(f"the checks changed what was rendered; the next render makes it anew: {altered[0]}")
    return results, sum(result.duration for result in results)


def _tell_finish(
    session: Session,
    exited: Exited,
    snapshot: Snapshot,
    commit: str,
    checks: tuple[CheckResult, ...],
    phase: str,
) -> None:
    session.emit(
        events.StepFinished(
            job_id=session.job_id,
            step=exited.step,
            role=exited.role,
            agent=exited.agent,
            phase=phase,
            action=exited.action,
            summary=exited.summary,
            commit=commit,
            files_changed=len(snapshot.changed),
            skipped=len(snapshot.skipped),
            duration=exited.duration,
            usage=exited.usage,
            checks=checks,
        )
    )


def recover(session: Session) -> None:
    """Bring a job whose runner died, or whose step was left half way, back to a state that a step can start from.

    Nothing of the old run lives afterwards; partial work is under refs/logist/salvage; the workspace and the
    evidence branch agree with the last record. A step that had exited is finished by the next `job_step`.
    """
    if session.manifest.restoring:
        finish_restoring(session)
    ensure_workspace(session)
    step_records = _step_records(session)
    last = step_records[-1] if step_records else None
    died = session.manifest.status is JobStatus.RUNNING
    if died or isinstance(last, Started | Intent):
        _kill_leftovers(session, step_records)
    rebooted = session.manifest.boot_id not in ("", boot_id())
    _recover_workspace(session, last, rebooted=rebooted)
    if died:
        reason = Reason(code=ReasonCode.RUNNER_DIED, sentence="the runner died; the job goes on from its last record")
        session.transition(Trigger.RECOVER, reason)
        session.notice("the last runner died; recovered")


def _recover_workspace(session: Session, last: HistoryRecord | None, *, rebooted: bool) -> None:
    manifest = session.manifest
    if isinstance(last, Exited) and _may_be_finished(last, manifest):
        return
    if session.workspace.head() != manifest.head:
        session.workspace.advance(manifest.head, expected=session.workspace.head())
    if isinstance(last, Started | Exited):
        set_aside(session, "lost", "the runner died while this attempt ran")
    elif rebooted and session.workspace.differs(manifest.head):
        # After a restart of the machine the workspace is only what happened to reach the disk.
        set_aside(session, "lost", "the machine restarted; the workspace was put back from the evidence")
    if rebooted:
        session.job.record(Restored(commit=manifest.head, change=change(boot_id=boot_id())))


def _may_be_finished(exited: Exited, manifest: JobManifest) -> bool:
    """Only within the boot in which it exited is the workspace what the agent left: it is never fsynced."""
    return exited.boot_id == boot_id() and manifest.status in (JobStatus.RUNNING, JobStatus.PENDING)


def _unfinished_exit(session: JobView) -> Exited | None:
    records = _step_records(session)
    last = records[-1] if records else None
    return last if isinstance(last, Exited) else None


def _step_records(session: JobView) -> list[Intent | Started | Exited | AttemptFailed]:
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
