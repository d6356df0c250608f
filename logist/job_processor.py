"""Drives one job, one recorded step at a time: `run_job`, `job_step`.

The order of one step is the contract of crash safety: intent, spawn, started, the agent runs and ends, exited,
evidence commit, checks, committed, manifest. Each record is on disk before what follows it, and `recover` goes on
from whichever came last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from logist import decision, events
from logist.agents import find_agent
from logist.errors import ExitCode, LogistError, PlaceUnavailable, StorageFailed, WrongState
from logist.hand_edits import after_edits, stray_edits, take_stray_edits
from logist.job_recovery import recover, unfinished_exit
from logist.job_report import possible_commands
from logist.job_state import JobStore, OpenJob
from logist.lifecycle import JobStatus, Trigger
from logist.models.manifest import JobManifest, PhaseKind, Reason, ReasonCode, Role
from logist.models.reply import Reply
from logist.processes import boot_id
from logist.runtime import Interrupted, JobView, Runtime, Session
from logist.step_end import finish_step
from logist.stop_requests import clear
from logist.takeover import take_over
from logist.turn_requests import Preview, preview_turn
from logist.turns import feed_turn, read_fed_reply, take_turn
from logist.unfinished_work import set_aside

#: Characters of an error that become the job's reason.
_MAX_SENTENCE = 2_000
#: What an exit code tells about a job that came to rest.
REST_EXIT_CODES = {
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
    _refuse_unless_runnable(runtime.store, runtime.store.load(job_id))
    with open_session(runtime, job_id, command="step" if single_step else "run") as session:
        # Only now: while another runner held the job, a request to pause was meant for that one.
        clear(session.paths, "pause")
        try:
            recover(session)
        except Interrupted:
            return RunResult(session.manifest, runtime.stop.exit_code)
        _refuse_unless_runnable(runtime.store, session.manifest)
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
    if unfinished_exit(session) is not None:
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
            next_commands=possible_commands(session.runtime.store, manifest),
        )
    )


def preview_step(runtime: Runtime, job_id: str) -> Preview:
    """The exact next prompt and command; nothing changes and no lease is taken. Raises WrongState when none is next.

    Where a run would record a human's edits first, of the turn that follows them.
    """
    view = JobView(runtime, job_id)
    with contextlib.closing(view.workspace):
        _refuse_unless_runnable(runtime.store, view.manifest)
        if unfinished_exit(view) is not None:
            raise WrongState(
                f"step {view.manifest.step + 1} has its reply already; only its checks are not done",
                f"`logist job step {job_id}` finishes it; nobody is asked for that",
            )
        edits = stray_edits(view)
        return replace(_preview_turn(after_edits(view) if edits else view), hand_edits=edits)


def _preview_turn(view: JobView) -> Preview:
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


def _refuse_unless_runnable(store: JobStore, manifest: JobManifest) -> None:
    if manifest.status in (JobStatus.PENDING, JobStatus.RUNNING):
        return
    commands = possible_commands(store, manifest)
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
        if not session.runtime.fence:
            # Elsewhere there are other programs.
            agent.check(settings)
        if agent.scripted:
            session.notice(f"the {role} is scripted ({agent.name}): no model is asked")


def _drive(session: Session, *, single_step: bool, fed: _Fed | None) -> ExitCode:
    try:
        if session.manifest.status is JobStatus.PENDING:
            started = Reason(code=ReasonCode.RUNNER_STARTED, sentence="a runner took the job")
            session.transition(Trigger.START, started, boot_id=boot_id(), fence=session.runtime.fence)
            if fed is None:
                take_stray_edits(session)
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
    except PlaceUnavailable as away:
        # Nothing that a human could decide about the job: the same command goes on once the place is there.
        _pause(session, ReasonCode.INTERRUPTED, str(away)[:_MAX_SENTENCE])
        raise
    except Exception as fault:
        _escalate_fault(session, fault)
        raise
    clear_requests(session)
    return REST_EXIT_CODES[session.manifest.status]


def _end_before_step(session: Session) -> ExitCode | None:
    """End the run here when it was asked to, or when a budget is spent; None to take the step."""
    if session.cancel_message() is not None:
        return _cancel(session)
    why = session.stop_after_step()
    if why is not None:
        return _pause(session, ReasonCode.PAUSED, why)
    spent = decision.spent_budget(session.manifest)
    if spent is not None and not unfinished_exit(session):
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
    if unfinished_exit(session) is not None:
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
        words = str(fault) if isinstance(fault, LogistError) else f"{type(fault).__name__}: {fault}"
        reason = Reason(code=ReasonCode.INTERNAL_ERROR, sentence=words[:_MAX_SENTENCE])
        session.transition(Trigger.ESCALATE, reason)


def job_step(session: Session, *, fed: _Fed | None = None) -> None:
    """Take the next step, from intent to committed; or finish the one that a dead runner left at its exit.

    Raises Interrupted when it was stopped on request.
    """
    exited = unfinished_exit(session)
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
