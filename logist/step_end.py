"""The end of a step, from the record `exited` on: the evidence commit, the checks, the decision, the record.

All of it may be done again after a crash, and comes to the same.
"""

from __future__ import annotations

from logist import decision, events
from logist.checks import ChecksStopped, run_checks
from logist.errors import WorkspaceFailed
from logist.evidence import evidence_message, evidence_record
from logist.job_state import change
from logist.lifecycle import Trigger, fire
from logist.models.history import Change, Committed, Exited, Skipped
from logist.models.manifest import CheckResult, JobManifest, Role, Verdict
from logist.processes import boot_id
from logist.runtime import Interrupted, Session
from logist.terms import Terms, role_changes, under_terms
from logist.unfinished_work import keep_aside
from logist.workspace_utils import CommitInfo, SkippedPath, Snapshot

#: How many paths that the evidence leaves out a supervisor is told, and the characters of each.
_LEFT_OUT, _MAX_LEFT_OUT = 50, 500


def finish_step(session: Session, exited: Exited, *, resolves: Terms | None = None) -> None:
    """From `exited` on: the evidence commit, the checks, the decision, the record. Safe to repeat after a crash.

    `resolves` is what holds from now on when the step answers an intervention.
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
            "status": fire(before.status, trigger),
            "reason": decided.reason,
            "head": commit,
            "boot_id": boot_id(),
            "left_out": before.left_out if exited.role is Role.SUPERVISOR else _left_out(snapshot),
        }
    )
    if resolves is not None:
        after = under_terms(after, resolves)
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
        role_changes=role_changes(before.job.roles, after.job.roles),
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
