"""Whose turn it is, and what one finished step means for the job. Pure: manifests and outcomes in, decisions out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from logist.durations import format_duration
from logist.lifecycle import Trigger
from logist.models.manifest import (
    CheckResult,
    JobManifest,
    Judgement,
    Reason,
    ReasonCode,
    Role,
    Spent,
    Verdict,
    red_checks,
)
from logist.models.usage import Usage


@dataclass(frozen=True)
class StepOutcome:
    """A step that ended: who said what about which tree, and what the checks say."""

    step: int
    role: Role
    agent: str
    action: Verdict
    summary: str
    tree: str
    checks: tuple[CheckResult, ...] = ()
    #: Seconds, failed attempts and checks included.
    duration: float = 0.0
    usage: Usage = Usage()
    #: Set when the verdict is Logist's own, because the agent gave none that counts.
    failure: ReasonCode | None = None


@dataclass(frozen=True)
class Decision:
    """What the step means: the trigger, why, and the manifest as it will stand (without the new evidence ids)."""

    trigger: Trigger
    reason: Reason
    after: JobManifest


#: Failures that end the step's own retries: another attempt would only repeat them.
_FINAL_FAILURES = frozenset(
    {ReasonCode.AGENT_FAILED, ReasonCode.REPLY_UNREADABLE, ReasonCode.EVIDENCE_INVALID, ReasonCode.BUDGET_COST}
)
#: What ends a render: its summary names the chunk and is no agent's words.
_RENDER_FAILURES = frozenset({ReasonCode.CHUNK_FAILED, ReasonCode.MERGE_FAILED, ReasonCode.BUDGET_TIME})
_MAX_QUOTE = 300
_MAX_FAILURE = 1_000


def spent_budget(manifest: JobManifest) -> Reason | None:
    """Which budget is spent, checked before each step; None while all have something left."""
    limit, spent = manifest.budget, manifest.spent
    if limit.steps is not None and spent.steps >= limit.steps:
        return Reason(code=ReasonCode.BUDGET_STEPS, sentence=_steps_taken(limit.steps))
    if limit.time is not None and spent.time >= limit.time:
        return Reason(
            code=ReasonCode.BUDGET_TIME,
            sentence=f"{format_duration(spent.time)} of active time are spent of {format_duration(limit.time)}",
        )
    if limit.cost is not None and spent.cost >= limit.cost:
        return Reason(
            code=ReasonCode.BUDGET_COST, sentence=f"${spent.cost:.2f} are spent of a budget of ${limit.cost:.2f}"
        )
    if limit.tokens is not None and spent.tokens >= limit.tokens:
        return Reason(
            code=ReasonCode.BUDGET_COST, sentence=f"{spent.tokens} tokens are spent of a budget of {limit.tokens}"
        )
    return None


def _steps_taken(limit: int) -> str:
    return "the one step of the budget is taken" if limit == 1 else f"all {limit} steps of the budget are taken"


def over_budget(manifest: JobManifest, usage: Usage) -> str | None:
    """Which budget a oneshot has used up that has used `usage` until now; None while both have something left."""
    limit, spent = manifest.budget, add_usage(manifest.spent, 0.0, usage)
    if limit.cost is not None and spent.cost > limit.cost:
        return f"it has used up the budget: ${spent.cost:.2f} of ${limit.cost:.2f}"
    if limit.tokens is not None and spent.tokens > limit.tokens:
        return f"it has used up the budget: {spent.tokens} of {limit.tokens} tokens"
    return None


def time_left(manifest: JobManifest) -> float | None:
    """Seconds of active time left; None is unlimited."""
    return None if manifest.budget.time is None else max(0.0, manifest.budget.time - manifest.spent.time)


def with_fresh_patience(manifest: JobManifest) -> JobManifest:
    """The manifest after a human's answer: retries and the memory of outcomes start anew."""
    spent = manifest.spent.model_copy(update={"retries": 0})
    return manifest.model_copy(update={"spent": spent, "fingerprints": ()})


def agreed(manifest: JobManifest) -> bool:
    """Worker, required checks and supervisor all say yes to one and the same tree."""
    worker, supervisor = manifest.worker, manifest.supervisor
    return (
        worker is not None
        and supervisor is not None
        and worker.action is Verdict.COMPLETED
        and supervisor.action is Verdict.COMPLETED
        and not red_checks(manifest.checks)
        and worker.tree == supervisor.tree == manifest.checked_tree == manifest.tree
    )


def fingerprint(tree: str, checks: tuple[CheckResult, ...], role: Role, action: Verdict) -> str:
    """A hash of what a round came to; the same one again and again is no progress."""
    facts = [tree, [[check.name, check.passed, check.exit_code] for check in checks], role.value, action.value]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def decide(manifest: JobManifest, outcome: StepOutcome) -> Decision:
    """What a finished step means for the job."""
    after = _recorded(manifest, outcome)
    if outcome.failure in _RENDER_FAILURES:
        return _escalate(after, outcome.failure, _quote(outcome.summary, _MAX_FAILURE), Role.WORKER)
    if outcome.failure in _FINAL_FAILURES:
        return _escalate(
            after, outcome.failure, f"{outcome.role} {outcome.agent}: {_quote(outcome.summary)}", outcome.role
        )
    if outcome.action is Verdict.STUCK:
        code = ReasonCode.SUPERVISOR_STUCK if outcome.role is Role.SUPERVISOR else ReasonCode.WORKER_STUCK
        return _escalate(after, code, f"the {outcome.role} said STUCK: {_quote(outcome.summary)}", Role.WORKER)
    if outcome.role is Role.SUPERVISOR:
        return _after_supervisor(after, outcome)
    return _after_work(after, outcome)


def _recorded(manifest: JobManifest, outcome: StepOutcome) -> JobManifest:
    judgement = Judgement(
        step=outcome.step, action=outcome.action, summary=outcome.summary, tree=outcome.tree, agent=outcome.agent
    )
    update: dict[str, object] = {
        "step": outcome.step,
        "attempt": 0,
        "tree": outcome.tree,
        "turns": {**manifest.turns, outcome.role: manifest.turns.get(outcome.role, 0) + 1},
        "spent": _spend(manifest.spent, outcome),
    }
    if outcome.role is Role.SUPERVISOR:
        # A supervisor that failed has judged nothing.
        update |= {"supervisor": judgement if outcome.failure is None else None}
    else:
        # New work voids whatever was said about the old tree.
        update |= {"worker": judgement, "supervisor": None, "checks": outcome.checks, "checked_tree": None}
        if outcome.action is Verdict.COMPLETED:
            update["checked_tree"] = outcome.tree
    return manifest.model_copy(update=update)


def _spend(spent: Spent, outcome: StepOutcome) -> Spent:
    used = add_usage(spent, outcome.duration, outcome.usage)
    return used.model_copy(update={"steps": spent.steps + (outcome.role is not Role.HUMAN)})


def add_usage(spent: Spent, duration: float, usage: Usage) -> Spent:
    """What is spent after a command that took `duration` seconds; what an agent does not tell counts as nothing."""
    cost = usage.cost or 0.0
    tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    return spent.model_copy(
        update={
            "time": round(spent.time + duration, 3),
            "cost": round(spent.cost + cost, 6),
            "estimated_cost": round(spent.estimated_cost + (cost if usage.cost_is == "estimated" else 0.0), 6),
            "tokens": spent.tokens + tokens,
            "unpriced": spent.unpriced + (usage.cost is None and (tokens > 0 or usage.cost_is == "unknown")),
        }
    )


def _after_work(after: JobManifest, outcome: StepOutcome) -> Decision:
    red = red_checks(outcome.checks)
    if outcome.role is Role.WORKER and outcome.action is Verdict.COMPLETED and _changed_nothing(after):
        why = "the worker says COMPLETED, but nothing changed in a phase that requires a change"
        objecting = after.model_copy(update={"objections": why})
        return _again(objecting, outcome, why=why, exhausted=ReasonCode.EVIDENCE_INVALID)
    if outcome.role is Role.HUMAN and outcome.action is Verdict.RETRY:
        return _proceed(after, "the workspace was edited by hand; the worker goes on from there", Role.WORKER)
    if outcome.action is Verdict.COMPLETED and not red:
        checked = "its checks are green" if outcome.checks else "no checks are set"
        return _proceed(after, f"the work is done and {checked}; the supervisor judges it", Role.SUPERVISOR)
    if red:
        names = ", ".join(check.name for check in red)
        return _again(after, outcome, why=f"red checks: {names}", exhausted=ReasonCode.CHECKS_FAILED)
    exhausted = outcome.failure or ReasonCode.RETRIES_EXHAUSTED
    return _again(after, outcome, why=f"the {outcome.role} is not done: {_quote(outcome.summary)}", exhausted=exhausted)


def _changed_nothing(after: JobManifest) -> bool:
    """Whether the current phase requires a change, and its work has left the files as they were."""
    return after.current_phase.requires_change and after.tree == after.phase_tree


def _after_supervisor(after: JobManifest, outcome: StepOutcome) -> Decision:
    if outcome.failure is not None:
        # A supervisor that was stopped has judged nothing: it is its turn again, not the worker's.
        why = f"the supervisor gave no verdict: {_quote(outcome.summary)}"
        return _again(after, outcome, why=why, exhausted=outcome.failure)
    if outcome.action is Verdict.RETRY:
        why = f"the supervisor objects: {_quote(outcome.summary)}"
        objecting = after.model_copy(update={"objections": outcome.summary})
        return _again(objecting, outcome, why=why, exhausted=ReasonCode.RETRIES_EXHAUSTED)
    if not agreed(after):
        why = "the supervisor agreed, but not to the tree that was checked"
        return _escalate(after, ReasonCode.EVIDENCE_INVALID, why, Role.WORKER)
    if after.phase + 1 < len(after.job.phases):
        return _next_phase(after)
    who = "worker, checks and supervisor" if after.checks else "worker and supervisor"
    reason = Reason(code=ReasonCode.AGREED, sentence=f"{who} agree on tree {outcome.tree[:12]}")
    return Decision(Trigger.ACCEPT, reason, after.model_copy(update={"objections": "", "guidance": ""}))


def _next_phase(after: JobManifest) -> Decision:
    done = after.current_phase.name
    moved = after.model_copy(
        update={
            "phase": after.phase + 1,
            "phase_tree": after.tree,
            "worker": None,
            "supervisor": None,
            "checks": (),
            "checked_tree": None,
            "objections": "",
            "guidance": "",
            "fingerprints": (),
            "spent": after.spent.model_copy(update={"retries": 0}),
        }
    )
    return _proceed(moved, f"phase {done} is agreed; phase {moved.current_phase.name} begins", Role.WORKER)


def _again(after: JobManifest, outcome: StepOutcome, *, why: str, exhausted: ReasonCode) -> Decision:
    """Another attempt, unless nothing moves or the retries are used; objections stand until the next verdict."""
    seen = (*after.fingerprints, fingerprint(outcome.tree, after.checks, outcome.role, outcome.action))
    after = after.model_copy(update={"fingerprints": seen[-after.job.no_progress_limit :]})
    judged_nothing = outcome.role is Role.SUPERVISOR and outcome.failure is not None
    role = Role.SUPERVISOR if judged_nothing else Role.WORKER
    if _stands_still(after):
        times = after.job.no_progress_limit
        return _escalate(after, ReasonCode.NO_PROGRESS, f"the same outcome {times} times in a row: {why}", role)
    if after.spent.retries >= after.budget.retries:
        return _escalate(after, exhausted, f"{_used_up(after.budget.retries)}; {why}", role)
    spent = after.spent.model_copy(update={"retries": after.spent.retries + 1})
    return _proceed(after.model_copy(update={"spent": spent}), why, role)


def _used_up(retries: int) -> str:
    return {0: "no retry is allowed", 1: "the one retry is used"}.get(retries, f"all {retries} retries are used")


def _stands_still(after: JobManifest) -> bool:
    seen = after.fingerprints
    return len(seen) == after.job.no_progress_limit and len(set(seen)) == 1


def _proceed(after: JobManifest, sentence: str, role: Role) -> Decision:
    reason = Reason(code=ReasonCode.STEP_DONE, sentence=sentence)
    return Decision(Trigger.PROCEED, reason, after.model_copy(update={"next_role": role}))


def _escalate(after: JobManifest, code: ReasonCode, sentence: str, role: Role) -> Decision:
    """Stop for a human; `role` has the next turn after the answer."""
    update = {"next_role": role, "objections": _standing_objection(after)}
    return Decision(Trigger.ESCALATE, Reason(code=code, sentence=sentence), after.model_copy(update=update))


def _standing_objection(after: JobManifest) -> str:
    if after.supervisor is not None and after.supervisor.action is not Verdict.COMPLETED:
        return after.supervisor.summary
    return after.objections


def _quote(text: str, limit: int = _MAX_QUOTE) -> str:
    line = " ".join(text.split()) or "(it gave no words)"
    return line if len(line) <= limit else line[: limit - 1] + "…"
