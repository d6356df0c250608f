"""A human's decisions about a job: answers to an intervention, cancel, and taking work up again.

Each takes the lease, checks the state table, records one resolution or transition, and returns the new manifest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from logist import decision
from logist.agents import find_agent, parse_role
from logist.configuration import define_roles
from logist.errors import UsageProblem, WrongState
from logist.hand_edits import actor_of, take_hand_edits
from logist.job_processor import cancel, clear_requests, open_session
from logist.job_recovery import finish_restoring, recover
from logist.job_report import possible_commands
from logist.lifecycle import Trigger, allowed, fire
from logist.models.history import Committed, Intent, Resolution, ResolutionKind, RoleChange, Transition
from logist.models.manifest import Budget, JobManifest, Reason, ReasonCode, Role, RoleSettings, Spent, red_checks
from logist.processes import boot_id
from logist.runtime import Interrupted, Runtime, Session, plain_message
from logist.step_end import change_between
from logist.terms import Terms, role_change_words, role_changes, under_terms
from logist.workspace_utils import CommitInfo

#: Which option raises the budget that a reason says is spent.
_RAISED_BY = {
    ReasonCode.BUDGET_STEPS: "--add-steps",
    ReasonCode.BUDGET_TIME: "--add-time",
    ReasonCode.BUDGET_COST: "--add-cost or --add-tokens",
}
_MAX_SENTENCE = 2_000


@dataclass(frozen=True)
class BudgetIncrease:
    """What a resolution adds to the budget; time in seconds, cost in US dollars."""

    steps: int = 0
    time: float = 0.0
    retries: int = 0
    cost: float = 0.0
    tokens: int = 0

    def __bool__(self) -> bool:
        return self != BudgetIncrease()

    def added_to(self, budget: Budget) -> Budget:
        """The raised budget; what is unlimited stays so."""
        return Budget(
            steps=None if budget.steps is None else budget.steps + self.steps,
            time=None if budget.time is None else budget.time + self.time,
            cost=None if budget.cost is None else budget.cost + self.cost,
            tokens=None if budget.tokens is None else budget.tokens + self.tokens,
            retries=budget.retries + self.retries,
        )


NO_INCREASE = BudgetIncrease()


@dataclass(frozen=True)
class Players:
    """Who is to play the roles from an answer on, each written as for a new job; None: who plays it now."""

    worker: str | None = None
    supervisor: str | None = None

    def __bool__(self) -> bool:
        return self != Players()


SAME_PLAYERS = Players()


def resolve_retry(
    runtime: Runtime,
    job_id: str,
    message: str,
    increase: BudgetIncrease = NO_INCREASE,
    players: Players = SAME_PLAYERS,
) -> JobManifest:
    """Send the job on with a human's guidance; retries start anew.

    Raises WrongState, UsageProblem, and AgentUnavailable when one of `players` can't run.
    """
    message = plain_message(message)
    chosen = _chosen(runtime, players)
    with _resting(runtime, job_id, Trigger.RESOLVE) as session:
        terms = _terms(session.manifest, increase, chosen)
        sentence = f"a human said: {message}" if message else "a human said: go on"
        _resolve(session, ResolutionKind.RETRY, Trigger.RESOLVE, ReasonCode.RESOLVED, sentence, message, terms=terms)
        return session.manifest


def add_budget(
    runtime: Runtime, job_id: str, increase: BudgetIncrease, message: str = "", players: Players = SAME_PLAYERS
) -> JobManifest:
    """Raise the budget and send the job on; retries start anew, as after any answer. Raises like `resolve_retry`."""
    message = plain_message(message)
    chosen = _chosen(runtime, players)
    with _resting(runtime, job_id, Trigger.RESOLVE) as session:
        terms = _terms(session.manifest, increase, chosen)
        _resolve(
            session,
            ResolutionKind.BUDGET,
            Trigger.RESOLVE,
            ReasonCode.RESOLVED,
            "the budget was raised",
            message,
            terms=terms,
        )
        return session.manifest


def resolve_continue(
    runtime: Runtime,
    job_id: str,
    message: str,
    increase: BudgetIncrease = NO_INCREASE,
    players: Players = SAME_PLAYERS,
) -> JobManifest:
    """Record the human's edits of the workspace as a step, run the checks, and go on with the supervisor.

    Raises WrongState when nothing was edited, or when the job does not wait for a human; else like `resolve_retry`.
    """
    message = plain_message(message)
    chosen = _chosen(runtime, players)
    with _resting(runtime, job_id, Trigger.RESOLVE) as session:
        if not session.workspace.differs(session.manifest.head):
            raise WrongState(
                f"nothing was edited in {session.paths.workspace}",
                f'edit the files there first, or go on with `logist job resolve {job_id} --retry -m "what to do"`',
            )
        take_hand_edits(session, message, resolves=_terms(session.manifest, increase, chosen))
        return session.manifest


def resolve_approve(runtime: Runtime, job_id: str, message: str, *, override_checks: bool = False) -> JobManifest:
    """Take the work as it is. Raises WrongState on red checks without `override_checks`, and on loose edits."""
    message = plain_message(message)
    with _resting(runtime, job_id, Trigger.APPROVE) as session:
        manifest = session.manifest
        if session.workspace.differs(manifest.head):
            raise WrongState(
                "the workspace has edits that no step records",
                f"let `logist job resolve {job_id} --continue` record them and go on, or undo them and approve again",
            )
        red = tuple(check.name for check in red_checks(manifest.checks))
        missing = _unproven(manifest)
        if (red or missing) and not (override_checks and message):
            raise WrongState(
                f"not approved: {'red checks: ' + ', '.join(red) if red else missing}",
                f'to take it all the same: `logist job resolve {job_id} --approve --override-checks -m "why"`',
            )
        waived = red or (tuple(check.name for check in manifest.current_checks) if missing else ())
        left = manifest.job.phases[manifest.phase + 1 :]
        waived += tuple(f"{phase.name}: {check.name}" for phase in left for check in phase.checks)
        sentence = "a human approved the work"
        sentence += f" without the phases {', '.join(phase.name for phase in left)}" if left else ""
        sentence += f"; waived checks: {', '.join(waived)}" if waived else ""
        _resolve(
            session,
            ResolutionKind.APPROVE,
            Trigger.APPROVE,
            ReasonCode.APPROVED,
            sentence,
            message,
            waived=waived,
        )
        return session.manifest


def _unproven(manifest: JobManifest) -> str:
    if manifest.current_checks and manifest.checked_tree != manifest.tree:
        return "the checks were not run on this tree"
    return ""


def resolve_rewind(
    runtime: Runtime,
    job_id: str,
    step: int,
    message: str = "",
    increase: BudgetIncrease = NO_INCREASE,
    players: Players = SAME_PLAYERS,
) -> JobManifest:
    """Go back to the end of `step` (0 is the baseline) and on from there; the dropped steps stay under a ref.

    Raises like `resolve_retry`.
    """
    message = plain_message(message)
    chosen = _chosen(runtime, players)
    with _resting(runtime, job_id, Trigger.RESOLVE) as session:
        past = _manifest_at(session, step)
        terms = _terms(session.manifest, increase, chosen)
        sentence = f"a human went back to the end of step {step}"
        _go_back(session, past, Trigger.RESOLVE, ReasonCode.RESOLVED, sentence, message, terms=terms)
        return session.manifest


def resolve_cancel(runtime: Runtime, job_id: str, message: str = "") -> JobManifest:
    """Stop the job for good."""
    message = plain_message(message)
    with _resting(runtime, job_id, Trigger.CANCEL) as session:
        sentence = f"canceled: {message}" if message else "canceled by a human"
        _resolve(session, ResolutionKind.CANCEL, Trigger.CANCEL, ReasonCode.CANCELED, sentence, message)
        return session.manifest


def cancel_job(runtime: Runtime, job_id: str, message: str = "") -> JobManifest:
    """Cancel a job that no living runner holds; what a dead runner left is ended and set aside first."""
    message = plain_message(message)
    with _resting(runtime, job_id, Trigger.CANCEL) as session:
        cancel(session, message)
        return session.manifest


def rerun_job(runtime: Runtime, job_id: str, message: str = "") -> JobManifest:
    """Begin again from the baseline with the whole budget; the old line stays under a ref."""
    message = plain_message(message)
    with _resting(runtime, job_id, Trigger.REOPEN) as session:
        past = _manifest_at(session, 0).model_copy(update={"spent": Spent(), "line": session.manifest.line + 1})
        sentence = f"run {past.line} begins from the baseline"
        _go_back(session, past, Trigger.REOPEN, ReasonCode.REOPENED, sentence, message, spent=Spent(), line=past.line)
        return session.manifest


def restep_job(runtime: Runtime, job_id: str, step: int, message: str = "") -> JobManifest:
    """Take `step` again, from the state before it; what it and its successors made stays under a ref."""
    message = plain_message(message)
    with _resting(runtime, job_id, Trigger.REOPEN) as session:
        past = _manifest_before(session, step)
        sentence = f"step {step} is taken again"
        _go_back(session, past, Trigger.REOPEN, ReasonCode.REOPENED, sentence, message)
        return session.manifest


@contextlib.contextmanager
def _resting(runtime: Runtime, job_id: str, trigger: Trigger) -> Iterator[Session]:
    """A session on a job that no runner drives, recovered, whose state allows `trigger`. Raises WrongState."""
    with open_session(runtime, job_id, command=trigger.value) as session:
        recover(session)
        manifest = session.manifest
        if trigger not in allowed(manifest.status):
            commands = "; ".join(possible_commands(session.runtime.store, manifest))
            raise WrongState(
                f"job {manifest.id} is {manifest.status}: {trigger} is not possible", f"possible now: {commands}"
            )
        try:
            yield session
        except Interrupted as stop:
            raise _interrupted(session, str(stop)) from stop


def _interrupted(session: Session, why: str) -> WrongState:
    """What to say when someone asked to stop while a decision ran its checks: nothing was decided."""
    message = session.cancel_message()
    if message is None:
        return WrongState(f"nothing was decided: {why}", "give the command again")
    cancel(session, message)
    return WrongState(
        f"nothing was decided: job {session.job_id} was canceled meanwhile",
        f"`logist job rerun {session.job_id}` takes it up again",
    )


def _chosen(runtime: Runtime, players: Players) -> dict[Role, RoleSettings]:
    """The settings of the roles that get another player, made as for a new job. Raises UsageProblem, AgentUnavailable.

    They are looked at before the job is opened: an agent that can't run must change nothing.
    """
    base = define_roles(None, runtime.config)
    given = ((Role.WORKER, players.worker), (Role.SUPERVISOR, players.supervisor))
    chosen = {role: parse_role(text, base.of(role)) for role, text in given if text is not None}
    for settings in chosen.values():
        find_agent(settings.agent, runtime.config).check(settings)
    return chosen


def _terms(manifest: JobManifest, increase: BudgetIncrease, chosen: Mapping[Role, RoleSettings]) -> Terms:
    """What holds from an answer on. Raises WrongState when the job would stop again at once."""
    roles = manifest.job.roles.model_copy(update={role.value: settings for role, settings in chosen.items()})
    return Terms(_raised(manifest, increase), roles)


def _raised(manifest: JobManifest, increase: BudgetIncrease) -> Budget:
    """The budget after `increase`; refuses an answer that would stop at the same spent budget at once."""
    budget = increase.added_to(manifest.budget)
    spent = decision.spent_budget(manifest.model_copy(update={"budget": budget}))
    if spent is not None:
        raise WrongState(
            f"the job would stop again at once: {spent.sentence}",
            f"raise the budget in the same command with {_RAISED_BY[spent.code]}",
        )
    return budget


def _resolve(
    session: Session,
    kind: ResolutionKind,
    trigger: Trigger,
    code: ReasonCode,
    sentence: str,
    message: str,
    *,
    terms: Terms | None = None,
    waived: tuple[str, ...] = (),
) -> None:
    before = session.manifest
    after = decision.with_fresh_patience(before)
    if terms is not None:
        after = under_terms(after, terms)
    changed = role_changes(before.job.roles, after.job.roles)
    reason = _reason(code, sentence, changed)
    update = {
        "status": fire(before.status, trigger),
        "reason": reason,
        "guidance": message or before.guidance,
    }
    session.job.record(
        Resolution(
            kind=kind,
            trigger=trigger,
            message=message,
            actor=actor_of(session.runtime),
            reason=reason,
            waived_checks=waived,
            role_changes=changed,
            change=change_between(before, after.model_copy(update=update)),
        )
    )
    session.tell_state(trigger, before.status)


def _manifest_at(session: Session, step: int) -> JobManifest:
    """The job as it stood at the end of `step`; 0 is its creation. Raises UsageProblem for a step not on record."""
    state: dict[str, object] = {}
    last = 0
    for entry in session.runtime.store.history(session.job_id):
        state |= entry.record.change
        if isinstance(entry.record, Committed):
            last = entry.record.step
        if last == step:
            return JobManifest.model_validate({**state, "seq": entry.seq})
    raise UsageProblem(f"step {step} is not on record", f"{_which_steps(last)}; 0 is its baseline")


def _manifest_before(session: Session, step: int) -> JobManifest:
    """The job as it stood when `step` was about to be taken. Raises UsageProblem for a step not on record."""
    state: dict[str, object] = {}
    last, before = 0, None
    for entry in session.runtime.store.history(session.job_id):
        # The last one counts: an attempt of another line may have borne the same number.
        if isinstance(entry.record, Intent) and entry.record.step == step:
            before = JobManifest.model_validate({**state, "seq": entry.seq})
        if isinstance(entry.record, Committed):
            last = entry.record.step
            if last == step and before is not None:
                return before
        state |= entry.record.change
    raise UsageProblem(f"step {step} is not on record", _which_steps(last))


def _which_steps(last: int) -> str:
    return f"the job's steps are 1 to {last}" if last else "the job has taken no step yet"


def _go_back(
    session: Session,
    past: JobManifest,
    trigger: Trigger,
    code: ReasonCode,
    sentence: str,
    message: str,
    *,
    terms: Terms | None = None,
    spent: Spent | None = None,
    line: int | None = None,
) -> None:
    """Make `past` the job's present. The record comes first; `recover` finishes the workspace after a crash between."""
    before = session.manifest
    terms = terms or Terms(before.budget, before.job.roles)
    changed = role_changes(before.job.roles, terms.roles)
    _keep_old_line(session)
    after = under_terms(past, terms).model_copy(
        update={
            "seq": before.seq,
            "created_at": before.created_at,
            "updated_at": before.updated_at,
            "status": fire(before.status, trigger),
            "reason": _reason(code, sentence, changed),
            "spent": spent or before.spent.model_copy(update={"retries": 0}),
            "step": before.step,
            "attempt": before.attempt,
            "line": line or before.line,
            "fingerprints": (),
            "guidance": message or past.guidance,
            "boot_id": boot_id(),
            # What an agent remembers of the work that was taken back would mislead it.
            "sessions": {},
            "restoring": True,
        }
    )
    session.job.record(
        Transition(trigger=trigger, reason=after.reason, change=change_between(before, after))
        if trigger is Trigger.REOPEN
        else Resolution(
            kind=ResolutionKind.REWIND,
            trigger=trigger,
            message=message,
            actor=actor_of(session.runtime),
            reason=after.reason,
            role_changes=changed,
            change=change_between(before, after),
        )
    )
    finish_restoring(session)
    # Whatever was asked of the old line is over with it.
    clear_requests(session)
    session.tell_state(trigger, before.status)


def _keep_old_line(session: Session) -> None:
    """The steps that are left behind, and loose edits, stay reachable under refs/logist/."""
    manifest = session.manifest
    name = f"{manifest.seq:06d}"
    info = CommitInfo(
        author="logist",
        message=f"loose edits before going back\n\nLogist-Job: {manifest.id}\n",
        at=session.runtime.clock.now(),
    )
    session.workspace.salvage(f"edits-{name}", manifest.head, info)
    session.workspace.set_ref(f"refs/logist/dropped/{name}", manifest.head)


def _reason(code: ReasonCode, sentence: str, changed: Iterable[RoleChange]) -> Reason:
    """The reason in words, those about roles first: what a human said may be long, and the end of it is cut off."""
    words = "; ".join((*map(role_change_words, changed), sentence))
    return Reason(code=code, sentence=words if len(words) <= _MAX_SENTENCE else words[: _MAX_SENTENCE - 1] + "…")
