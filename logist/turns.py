"""One turn of an agent: ask it until its answer counts, or until asking again is no use.

Two kinds of repetition are kept apart. A *transient* failure (the command could not run, the provider was busy) waits
and tries again and is no work. An answer that can't be used (unreadable, evidence that is not there) is asked for
again, with what was wrong in the prompt; the work in the workspace stays.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from logist import decision, events
from logist.agents.oneshot import Agent, Answer, Marking, OneshotRequest, Steered, Versioned
from logist.agents.outcome import LATER, Outcome
from logist.agents.reading import parse_reply
from logist.durations import format_duration
from logist.errors import InvalidFile, WorkspaceFailed
from logist.execution import Command, CommandResult, Ended, StreamResult
from logist.hearing import Hearing
from logist.job_state import change
from logist.models.history import AttemptFailure, Exited, Intent, OutputDigest, ProcessRecord, Started
from logist.models.manifest import ReasonCode, Role, Verdict
from logist.models.reply import Reply
from logist.patience import Later, ask_patiently
from logist.plain_text import plain_text
from logist.processes import ProcessIdentity, boot_id
from logist.runtime import Interrupted, JobView, Session
from logist.steering import changed_steering
from logist.turn_requests import Problem, build_request, judged_patch, standing_problem
from logist.unfinished_work import ensure_workspace, keep_work, put_back, record_failure, sessions_after, set_aside
from logist.version_notices import version_noticed
from logist.waits import standing_wait
from logist.workspace_utils import check_evidence_path

#: How often one step's agent is asked when its answers can't be used; after one that can't be read once more.
ANSWER_ATTEMPTS = 3
#: Seconds: of a patience without bounds no moment is told that no calendar has.
_LONGEST_TOLD = 1e9
#: How an answer that can't be used is recorded.
_FAILURES: dict[str, AttemptFailure] = {"unreadable": "unreadable", "evidence": "evidence", "failed": "failed"}


@dataclass(frozen=True)
class _Attempt:
    """One oneshot: what was asked, how the command ended, and what was understood."""

    request: OneshotRequest
    command: Command
    result: CommandResult
    answer: Answer
    #: What it was told of an attempt before.
    told: Problem | None = None
    #: It was stopped because a budget of money was used up.
    overspent: bool = False


def take_turn(session: Session) -> Exited:
    """Ask the agent whose turn it is until its answer counts, and record that it exited.

    When asking again is no use the answer is Logist's own STUCK, with the reason code in `failure`. Raises
    Interrupted when the command was stopped on request; partial work is then set aside.
    """
    problem = standing_problem(session)
    asked = 0 if problem is None else 1
    while True:
        session.raise_if_stopped()
        made = _ask_patiently(session, problem)
        asked += 1
        verdict = _own_verdict(made, asked, overspent=_overspent(session, made))
        if made.answer.reply is not None or verdict is not None:
            return _record_exit(session, made, verdict)
        problem = Problem(kind=_FAILURES[made.answer.kind], detail=_describe(made.answer))
        _record_failure(session, made, problem, retry_in=0.0)


def read_fed_reply(view: JobView, data: bytes, name: str) -> Reply:
    """The reply in `data`, for whose turn it is. Raises InvalidFile when it can't count; nothing is written."""
    _, request = build_request(view)
    reading = parse_reply(data, request.token, token_required=False)
    problem = reading.problem or _missing_evidence(request, reading.reply)
    if reading.reply is None or problem is not None:
        raise InvalidFile(
            f"{name or 'the reply'} can't be used: {problem}",
            "see `logist schema reply`; evidence files must lie in the workspace",
        )
    return reading.reply


def feed_turn(session: Session, reply: Reply, name: str) -> Exited:
    """Take `reply` as the answer of whose turn it is, without running an agent, and record that it exited."""
    agent, request = build_request(session, standing_problem(session))
    _lay_out(session, request, agent.spell(request))
    _record_intent(session, agent, request)
    answer = Answer(reply=reply, kind="reply", source=f"poststep {name}".strip())
    _keep_reply(request, answer)
    fed = CommandResult(ended=Ended.EXITED, exit_code=None, duration=0.0)
    command = Command(cwd=request.workspace, env={}, argv=("logist", "job", "poststep"))
    return _record_exit(session, _Attempt(request, command, fed, answer), None)


def _ask_patiently(session: Session, problem: Problem | None) -> _Attempt:
    def note(made: _Attempt, seconds: float) -> None:
        failed = Problem("transient", _describe(made.answer))
        _record_failure(session, made, failed, retry_in=seconds)

    asked_for = session.runtime.max_wait
    settings = session.manifest.job.roles.of(session.manifest.next_role)
    max_wait = settings.max_wait if asked_for is None else asked_for

    def ask() -> _Attempt:
        nonlocal problem
        made = _ask_once(session, problem)
        if made.answer.kind == "transient":
            # The workspace was put back: what was wrong with an earlier attempt went with its work.
            problem = None
        return made

    def later(made: _Attempt) -> Later | None:
        return None if _overspent(session, made) else _later(made)

    made = ask_patiently(
        ask,
        later,
        max_wait=max_wait - _resume_wait(session, max_wait),
        before_wait=note,
        sleep=lambda seconds: _wait(session, seconds),
    )
    given_up = later(made)
    return made if given_up is None or not given_up.by_provider else _waited_for(made, max_wait)


def _waited_for(made: _Attempt, max_wait: float) -> _Attempt:
    """The attempt, with how long its provider was waited for at the most."""
    told = f"it is waited for {format_duration(max_wait)} at most: `logist job run --max-wait` waits longer"
    return replace(made, answer=replace(made.answer, problem=f"{made.answer.problem}; {told}"))


def _overspent(session: Session, made: _Attempt) -> bool:
    """Whether a budget of money is used up once an attempt is counted that is not counted yet, or it was stopped so."""
    return made.overspent or decision.over_budget(session.manifest, made.answer.usage) is not None


def _later(made: _Attempt) -> Later | None:
    answer = made.answer
    if answer.kind != "transient":
        return None
    return Later(by_provider=answer.outcome in LATER, after=answer.retry_after, waited=answer.waited)


def _resume_wait(session: Session, patience: float) -> float:
    """Wait for what is left of a wait that an earlier run was stopped in, and return the seconds.

    More than `patience` allows is not waited at all: somebody wants it asked now, or the wall clock was set back.
    """
    now = session.runtime.clock.now()
    manifest = session.manifest
    wait = standing_wait(session.paths, manifest, now)
    if wait is None or wait.left(now) > patience:
        return 0.0
    session.emit(
        events.WaitResumed(
            job_id=session.job_id,
            step=manifest.step + 1,
            role=manifest.next_role,
            agent=manifest.job.roles.of(manifest.next_role).agent,
            detail=wait.why,
            retry_in=wait.left(now),
            retry_at=wait.until,
        )
    )
    _wait(session, wait.left(now))
    return wait.left(now)


def _wait(session: Session, seconds: float) -> None:
    clock = session.runtime.clock
    end = clock.monotonic() + seconds
    while (left := end - clock.monotonic()) > 0:
        session.raise_if_stopped()
        if session.stop_after_step() is not None:
            raise Interrupted("stopped while waiting to try again")
        clock.sleep(min(0.1, left))


def _ask_once(session: Session, problem: Problem | None) -> _Attempt:
    ensure_workspace(session)
    agent, request = build_request(session, problem)
    if isinstance(agent, Versioned) and not session.runtime.fence:
        request = replace(request, version=agent.version(request.environ, session.stop_now))
        session.raise_if_stopped()
    command = agent.spell(request)
    # Before it runs: it may leave files of its own kind.
    biased = _steered_by_the_work(session, agent, request.role)
    if isinstance(agent, Marking) and agent.marks:
        session.workspace.leave_out(agent.marks, f"left by {agent.name}, no part of the work")
    _lay_out(session, request, command)
    _record_intent(session, agent, request)
    tell_start(session, request.step, request.attempt, request.role, agent.name, request.step_dir / "stdout.log")

    def started(process: ProcessIdentity) -> None:
        session.job.record(
            Started(
                step=request.step,
                attempt=request.attempt,
                process=ProcessRecord(pid=process.pid, start_time=process.start_time, boot_id=process.boot_id),
                argv=command.spelled,
            )
        )

    hearing = Hearing(session, agent, request)
    with version_noticed(session, agent):
        result = session.runtime.adapter.run(
            command._replace(
                stdout_log=command.stdout_log or request.step_dir / "stdout.log",
                stderr_log=command.stderr_log or request.step_dir / "stderr.log",
                inherit=command.inherit or session.lease_fds,
            ),
            cancel=hearing.stop,
            on_output=hearing.receive,
            on_started=started,
        )
    stopped_by = hearing.stopped_by(result)
    if stopped_by == "operator":
        why = session.stop_now() or result.detail
        set_aside(session, "interrupted", why or "stopped on request", duration=result.duration, usage=hearing.used)
        raise Interrupted(why)
    if result.survivors_killed:
        session.notice(f"{result.survivors_killed} process(es) outlived the {request.role} and were killed")
    answer = _checked_against_workspace(session, request, _unbiased(hearing.read(result, stopped_by), biased))
    _keep_reply(request, answer)
    if answer.kind == "transient":
        put_back(session, keep_work(session, request.step, request.attempt))
    return _Attempt(request, command, result, answer, problem, overspent=stopped_by == "budget")


def _steered_by_the_work(session: Session, agent: Agent, role: Role) -> str | None:
    """What the work changed by which the agent that is to judge it is steered; None: nothing."""
    if role is not Role.SUPERVISOR or not isinstance(agent, Steered):
        return None
    manifest = session.manifest
    return changed_steering(
        session.workspace, session.paths.workspace, manifest.baseline, manifest.head, agent.steered_by
    )


def _unbiased(answer: Answer, biased: str | None) -> Answer:
    """The answer, unless it takes work as done that has a say in it."""
    if biased is None or answer.reply is None or answer.reply.action is not Verdict.COMPLETED:
        return answer
    problem = (
        f"its COMPLETED does not count: it takes settings from {plain_text(biased)}, which the work made or changed;"
        " look at that yourself, or let another agent judge"
    )
    return replace(answer, reply=None, kind="blocked", problem=problem)


def _record_intent(session: Session, agent: Agent, request: OneshotRequest) -> None:
    session.job.record(
        Intent(
            step=request.step,
            attempt=request.attempt,
            role=request.role,
            phase=request.phase,
            agent=agent.name,
            base=session.manifest.head,
            prompt_sha256=_sha256(request.prompt),
        ),
        # It becomes durable with `started`; until then the agent waits at the barrier, and nothing has run.
        sync=False,
    )


def _lay_out(session: Session, request: OneshotRequest, command: Command) -> None:
    """The step's folder, and an empty reply folder: nothing that an earlier process left there can be a reply.

    What the prompt of a supervisor leaves out of the diff is put beside the reply: it may not look elsewhere.
    """
    folder = request.reply_file.parent
    try:
        request.step_dir.mkdir(parents=True, exist_ok=True)
        request.prompt_file.write_text(request.prompt, encoding="utf-8", errors="surrogatepass")
        described = {
            "argv": command.spelled,
            "cwd": str(command.cwd),
            "env": sorted(command.env),
            "timeout": command.timeout,
        }
        (request.step_dir / "command.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
        _empty_folder(folder)
        if request.diff_file is not None:
            request.diff_file.write_bytes(judged_patch(session).data)
    except OSError as error:
        raise WorkspaceFailed(
            f"the files of step {request.step} could not be written: {error}",
            "check that the job's folder is there, writable and has room",
        ) from error


def _empty_folder(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        folder.unlink()
    folder.mkdir(exist_ok=True)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _keep_reply(request: OneshotRequest, answer: Answer) -> None:
    """A copy for people; what counts is in the history."""
    if answer.reply is not None:
        text = answer.reply.model_dump_json(indent=1)
    else:
        text = json.dumps({"problem": answer.problem, "received": answer.received}, indent=1)
    try:
        (request.step_dir / "reply.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise WorkspaceFailed(
            f"the reply of step {request.step} could not be kept: {error}", "make room in the job's folder"
        ) from error


def tell_start(session: Session, step: int, attempt: int, role: Role, agent: str, log: Path) -> None:
    """Tell that an attempt begins, and how much of the budget is spent."""
    limit, spent = session.manifest.budget, session.manifest.spent
    session.emit(
        events.StepStarted(
            job_id=session.job_id,
            step=step,
            attempt=attempt,
            role=role,
            agent=agent,
            phase=session.manifest.current_phase.name,
            steps_spent=spent.steps,
            steps_limit=limit.steps,
            time_spent=spent.time,
            time_limit=limit.time,
            retries_spent=spent.retries,
            retries_limit=limit.retries,
            stdout_log=str(log),
        )
    )


def _checked_against_workspace(session: Session, request: OneshotRequest, answer: Answer) -> Answer:
    """The answer, unless it names evidence that is not there, or a supervisor changed what it judged."""
    if ensure_workspace(session):
        return replace(answer, reply=None, kind="evidence", problem=f"the {request.role} removed the workspace itself")
    missing = _missing_evidence(request, answer.reply)
    if missing is not None:
        answer = replace(answer, reply=None, kind="evidence", problem=missing, outcome=Outcome.EVIDENCE_MISSING)
    # Whatever a supervisor answered: its changes are nobody's work.
    changed = _put_back_changes(session, request) if request.role is Role.SUPERVISOR else None
    if changed is None or answer.reply is None:
        return answer
    return replace(answer, reply=None, kind="evidence", problem=changed)


def _missing_evidence(request: OneshotRequest, reply: Reply | None) -> str | None:
    """What is wrong with the first evidence file that does not count."""
    for name in () if reply is None else reply.evidence_files:
        wrong = check_evidence_path(request.workspace, name)
        if wrong is not None:
            return f"the evidence file {plain_text(name)!r} does not count: {wrong}"
    return None


def _put_back_changes(session: Session, request: OneshotRequest) -> str | None:
    """Undo what a supervisor did to the workspace; the problem with its verdict when it changed what it judged."""
    salvaged = keep_work(session, request.step, request.attempt)
    if salvaged is None:
        return None
    changed = [file.path for file in session.workspace.changes(session.manifest.head, salvaged) if file.kind != "A"]
    put_back(session, salvaged)
    if changed:
        return f"a supervisor must not change the work, but it changed {', '.join(changed[:5])}"
    session.notice("files that the supervisor added were set aside: it judges, it does not change")
    return None


def _own_verdict(made: _Attempt, asked: int, *, overspent: bool) -> ReasonCode | None:
    """The reason code when Logist must speak for the agent, None while it can be asked again or has answered."""
    if made.answer.reply is not None:
        return None
    if overspent:
        return ReasonCode.BUDGET_COST
    if made.answer.kind == "timeout":
        return ReasonCode.AGENT_TIMEOUT
    if made.answer.kind in ("transient", "blocked") or made.result.program_missing:
        return ReasonCode.AGENT_FAILED
    repaired = made.answer.kind == "unreadable" and made.told is not None and made.told.kind == "unreadable"
    if asked < ANSWER_ATTEMPTS and not repaired:
        return None
    codes = {"evidence": ReasonCode.EVIDENCE_INVALID, "failed": ReasonCode.AGENT_FAILED}
    return codes.get(made.answer.kind, ReasonCode.REPLY_UNREADABLE)


def _record_exit(session: Session, made: _Attempt, failure: ReasonCode | None) -> Exited:
    request, result, answer = made.request, made.result, made.answer
    reply = answer.reply or Reply(
        action=Verdict.RETRY if failure is ReasonCode.AGENT_TIMEOUT else Verdict.STUCK,
        summary_for_supervisor=_describe(answer),
    )
    exited = Exited(
        step=request.step,
        attempt=request.attempt,
        role=request.role,
        at=session.runtime.clock.now(),
        ended=result.ended.value,
        exit_code=result.exit_code,
        duration=round(result.duration, 3),
        stdout=_digest(result.stdout),
        stderr=_digest(result.stderr),
        action=reply.action,
        summary=reply.summary_for_supervisor,
        evidence_files=reply.evidence_files,
        reply_source=answer.source,
        usage=answer.usage,
        agent=request.settings.agent,
        argv=made.command.spelled,
        failure=failure,
        boot_id=boot_id(),
        prompt_sha256=_sha256(request.prompt),
        outcome=answer.outcome,
        # A supervisor's next verdict is on other work, and is to be as fresh.
        change=change(**sessions_after(session, request.role, answer.session if _is_kept(request, answer) else None)),
    )
    # It becomes durable with the evidence's objects, before the evidence branch moves: see `finish_step`.
    session.job.record(exited, sync=False)
    return exited


def _is_kept(request: OneshotRequest, answer: Answer) -> bool:
    """Whether the session knows what is there: not that of work that was put back."""
    return request.role is Role.WORKER and answer.kind != "transient"


def _digest(stream: StreamResult) -> OutputDigest:
    return OutputDigest(bytes=stream.total, sha256=stream.sha256)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _describe(answer: Answer) -> str:
    """What was wrong, with what was received; where a provider refused that is no use to anybody but in the log."""
    is_refused = answer.kind == "blocked" or answer.outcome in LATER
    received = "" if is_refused else plain_text(answer.received).strip()
    problem = answer.problem or "it gave no usable answer"
    return f"{problem.removesuffix('.')}.\nReceived:\n{received}" if received else problem


def _record_failure(session: Session, made: _Attempt, problem: Problem, *, retry_in: float | None) -> None:
    request = made.request
    answer = made.answer
    retry_at = _moment_in(session, retry_in) if retry_in else None
    record_failure(
        session,
        request.step,
        request.attempt,
        problem.kind,
        problem.detail,
        made.result.duration,
        usage=answer.usage,
        # A session would remember work that was put back.
        known=None if answer.kind == "transient" else answer.session,
        retry_at=retry_at,
    )
    session.emit(
        events.AttemptFailed(
            job_id=session.job_id,
            step=request.step,
            attempt=request.attempt,
            kind=problem.kind,
            detail=problem.detail,
            retry_in=retry_in,
            retry_at=retry_at,
        )
    )


def _moment_in(session: Session, seconds: float) -> datetime:
    return session.runtime.clock.now() + timedelta(seconds=min(seconds, _LONGEST_TOLD))
