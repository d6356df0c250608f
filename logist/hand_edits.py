"""What a human changed in the workspace of a job at rest: seen without a trace, or recorded as a step of its own."""

from __future__ import annotations

from logist import decision
from logist.execution import StreamResult
from logist.job_recovery import rebooted, step_records
from logist.models.history import AttemptFailed, Exited, Intent, OutputDigest
from logist.models.manifest import Role, Verdict
from logist.models.usage import Usage
from logist.processes import boot_id
from logist.runtime import JobView, Runtime, Session, SupposedView
from logist.step_end import finish_step
from logist.terms import Terms
from logist.turn_requests import RESTORED

#: What is recorded of edits that nobody said anything about.
_SUMMARY = "edited by hand"


def stray_edits(view: JobView) -> tuple[str, ...]:
    """The files that a human has edited since the last step, which the next run records first; nothing is written."""
    manifest, folder = view.manifest, view.paths.workspace
    if manifest.restoring or rebooted(manifest) or folder.is_symlink() or not folder.is_dir():
        # Whatever differs is put back first.
        return ()
    records = step_records(view)
    if records and not (isinstance(records[-1], AttemptFailed) and records[-1].kind in RESTORED):
        # What differs is the work of a step that was begun.
        return ()
    return view.workspace.differs(manifest.head)


def after_edits(view: JobView) -> SupposedView:
    """The job as it will stand once its stray edits are recorded; only the ids of its evidence are the old ones."""
    manifest = view.manifest
    edited = decision.StepOutcome(
        step=manifest.step + 1,
        role=Role.HUMAN,
        agent=actor_of(view.runtime),
        action=Verdict.RETRY,
        summary=_SUMMARY,
        tree=manifest.tree,
    )
    return SupposedView(view, decision.decide(decision.with_fresh_patience(manifest), edited).after)


def take_stray_edits(session: Session) -> None:
    """Record edits made while the job rested: they are a human's, never the next worker's."""
    if stray_edits(session):
        session.notice("the workspace was edited by hand; the edits are recorded as a step of role human")
        # Nobody said that the work is done: the worker goes on from here.
        take_hand_edits(session, "", action=Verdict.RETRY)


def take_hand_edits(
    session: Session, message: str, *, action: Verdict = Verdict.COMPLETED, resolves: Terms | None = None
) -> None:
    """Record what a human changed in the workspace as a step of role human; COMPLETED asks for checks and a verdict.

    `resolves` is what holds from now on when the step is also the answer to an intervention.
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
        summary=message or _SUMMARY,
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
