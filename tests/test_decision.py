"""What one finished step means, as properties over all manifests and outcomes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist.decision import Decision, StepOutcome, agreed, decide, red_checks, spent_budget
from logist.lifecycle import JobStatus, Trigger, fire
from logist.models.manifest import (
    Budget,
    Check,
    CheckResult,
    JobDefinition,
    JobManifest,
    Phase,
    Reason,
    ReasonCode,
    Role,
    Source,
    Spent,
    Verdict,
)
from logist.models.usage import Usage

TREES = tuple(letter * 40 for letter in "abc")
NOW = datetime(2026, 11, 21, tzinfo=UTC)
COMPLETED, RETRY, STUCK = Verdict.COMPLETED, Verdict.RETRY, Verdict.STUCK


def manifest(**changes: object) -> JobManifest:
    fields: dict[str, object] = {
        "id": "job",
        "seq": 1,
        "created_at": NOW,
        "updated_at": NOW,
        "job": JobDefinition(objective="do it"),
        "source": Source(),
        "seed": "seed",
        "status": JobStatus.RUNNING,
        "reason": Reason(code=ReasonCode.RUNNER_STARTED, sentence="started"),
        "budget": Budget(),
        "baseline": "0" * 40,
        "head": "0" * 40,
        "tree": TREES[0],
    }
    return JobManifest.model_validate(fields | changes)


def worker(action: Verdict = COMPLETED, tree: str = TREES[0], **more: object) -> StepOutcome:
    return StepOutcome(step=1, role=Role.WORKER, agent="a", action=action, summary="work", tree=tree, **more)  # type: ignore[arg-type]


def supervisor(action: Verdict = COMPLETED, tree: str = TREES[0], **more: object) -> StepOutcome:
    return StepOutcome(
        step=2,
        role=Role.SUPERVISOR,
        agent="s",
        action=action,
        summary="words",
        tree=tree,
        **more,  # type: ignore[arg-type]
    )


def check(*, passed: bool, required: bool = True) -> CheckResult:
    return CheckResult(name="c", required=required, passed=passed, exit_code=0 if passed else 1, duration=1.0)


def follow(start: JobManifest, *outcomes: StepOutcome) -> Decision:
    decided = None
    for number, outcome in enumerate(outcomes, start=1):
        decided = decide(start, outcome)
        start = decided.after
        assert decided.trigger in (Trigger.PROCEED, Trigger.ACCEPT, Trigger.ESCALATE), number
    assert decided is not None
    return decided


def test_green_work_goes_to_the_supervisor() -> None:
    decided = decide(manifest(), worker(checks=(check(passed=True),)))
    assert (decided.trigger, decided.after.next_role) == (Trigger.PROCEED, Role.SUPERVISOR)
    assert decided.after.checked_tree == TREES[0]


def test_agreement_on_one_tree_is_success() -> None:
    decided = follow(manifest(), worker(), supervisor())
    assert (decided.trigger, decided.reason.code) == (Trigger.ACCEPT, ReasonCode.AGREED)


def test_a_supervisor_that_agrees_to_another_tree_is_no_agreement() -> None:
    decided = follow(manifest(), worker(tree=TREES[0]), supervisor(tree=TREES[1]))
    assert (decided.trigger, decided.reason.code) == (Trigger.ESCALATE, ReasonCode.EVIDENCE_INVALID)


def test_red_checks_send_the_worker_back_without_the_paid_review() -> None:
    decided = decide(manifest(), worker(checks=(check(passed=False),)))
    assert (decided.trigger, decided.after.next_role, decided.after.spent.retries) == (
        Trigger.PROCEED,
        Role.WORKER,
        1,
    )


def test_a_red_check_that_is_not_required_does_not_stop_the_work() -> None:
    decided = decide(manifest(), worker(checks=(check(passed=False, required=False),)))
    assert decided.after.next_role is Role.SUPERVISOR


def test_objections_reach_the_next_attempt_word_by_word() -> None:
    decided = follow(manifest(), worker(), supervisor(RETRY))
    assert decided.after.objections == "words"
    assert decided.after.next_role is Role.WORKER


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ((worker(STUCK),), ReasonCode.WORKER_STUCK),
        ((worker(), supervisor(STUCK)), ReasonCode.SUPERVISOR_STUCK),
        ((worker(STUCK, failure=ReasonCode.REPLY_UNREADABLE),), ReasonCode.REPLY_UNREADABLE),
        ((worker(STUCK, failure=ReasonCode.AGENT_FAILED),), ReasonCode.AGENT_FAILED),
        ((worker(RETRY), worker(RETRY), worker(RETRY)), ReasonCode.NO_PROGRESS),
        (tuple(worker(RETRY, tree=tree) for tree in (*TREES, TREES[0])), ReasonCode.RETRIES_EXHAUSTED),
        (
            tuple(worker(tree=tree, checks=(check(passed=False),)) for tree in (*TREES, TREES[0])),
            ReasonCode.CHECKS_FAILED,
        ),
        (
            tuple(worker(RETRY, tree=tree, failure=ReasonCode.AGENT_TIMEOUT) for tree in (*TREES, TREES[0])),
            ReasonCode.AGENT_TIMEOUT,
        ),
    ],
)
def test_a_human_is_asked_with_the_right_reason(outcomes: tuple[StepOutcome, ...], code: ReasonCode) -> None:
    decided = follow(manifest(), *outcomes)
    assert (decided.trigger, decided.reason.code) == (Trigger.ESCALATE, code)


def test_a_supervisor_that_failed_is_asked_again_itself() -> None:
    timed_out = supervisor(RETRY, failure=ReasonCode.AGENT_TIMEOUT)
    decided = follow(manifest(), worker(), timed_out)
    assert decided.after.next_role is Role.SUPERVISOR
    broken = supervisor(STUCK, failure=ReasonCode.AGENT_FAILED)
    assert follow(manifest(), worker(), broken).after.next_role is Role.SUPERVISOR


def test_phases_follow_in_order_and_the_last_one_ends_the_job() -> None:
    start = manifest(job=JobDefinition(objective="x", phases=(Phase(name="one"), Phase(name="two"))))
    first = follow(start, worker(RETRY), worker(tree=TREES[1]), supervisor(tree=TREES[1]))
    assert (first.trigger, first.after.phase, first.after.next_role) == (Trigger.PROCEED, 1, Role.WORKER)
    assert (first.after.spent.retries, first.after.worker, first.after.fingerprints) == (0, None, ())
    assert follow(first.after, worker(), supervisor()).trigger is Trigger.ACCEPT


def test_a_human_turn_costs_no_step_of_the_budget() -> None:
    human = StepOutcome(step=1, role=Role.HUMAN, agent="me", action=COMPLETED, summary="", tree=TREES[1])
    decided = decide(manifest(), human)
    assert (decided.after.spent.steps, decided.after.next_role) == (0, Role.SUPERVISOR)


@pytest.mark.parametrize(
    ("budget", "spent", "code"),
    [
        (Budget(steps=2), Spent(steps=2), ReasonCode.BUDGET_STEPS),
        (Budget(time=5), Spent(time=5.5), ReasonCode.BUDGET_TIME),
        (Budget(cost=1), Spent(cost=1.0), ReasonCode.BUDGET_COST),
        (Budget(tokens=10), Spent(tokens=11), ReasonCode.BUDGET_COST),
        (Budget(steps=2, time=5), Spent(steps=1, time=4.9), None),
        (Budget(steps=None), Spent(steps=10_000), None),
    ],
)
def test_a_spent_budget_is_named(budget: Budget, spent: Spent, code: ReasonCode | None) -> None:
    reason = spent_budget(manifest(budget=budget, spent=spent))
    assert (reason.code if reason else None) is code


outcomes = st.builds(
    StepOutcome,
    step=st.integers(1, 9),
    role=st.sampled_from(list(Role)),
    agent=st.just("a"),
    action=st.sampled_from(list(Verdict)),
    summary=st.text(max_size=20),
    tree=st.sampled_from(TREES),
    checks=st.lists(st.builds(check, passed=st.booleans(), required=st.booleans()), max_size=2).map(tuple),
    duration=st.floats(0, 100),
    usage=st.builds(Usage, cost=st.none() | st.floats(0, 5), input_tokens=st.none() | st.integers(0, 100)),
    failure=st.none() | st.sampled_from([ReasonCode.AGENT_FAILED, ReasonCode.AGENT_TIMEOUT]),
)


def test_spent_retries_and_steps_are_told_as_people_say_it() -> None:
    told = []
    for retries in (0, 1, 2):
        again = StepOutcome(1, Role.WORKER, "a", RETRY, "no", TREES[0])
        spent = Spent(retries=retries)
        decided = decide(manifest(budget=Budget(retries=retries), spent=spent), again)
        told.append(decided.reason.sentence.partition(";")[0])
    assert told == ["no retry is allowed", "the one retry is used", "all 2 retries are used"]
    one = spent_budget(manifest(budget=Budget(steps=1), spent=Spent(steps=1)))
    assert one is not None
    assert one.sentence == "the one step of the budget is taken"


@given(st.lists(outcomes, min_size=1, max_size=12), st.integers(0, 4), st.integers(1, 3))
def test_no_outcomes_lead_to_success_without_agreement(steps: list[StepOutcome], retries: int, phases: int) -> None:
    job = JobDefinition(objective="x", phases=tuple(Phase(name=str(number)) for number in range(phases)))
    state = manifest(job=job, budget=Budget(retries=retries))
    for outcome in steps:
        before = state
        decided = decide(state, outcome)
        state = decided.after
        assert fire(JobStatus.RUNNING, decided.trigger)
        assert state.spent.retries <= retries
        assert state.spent.time >= before.spent.time
        assert len(state.fingerprints) <= job.no_progress_limit
        assert 0 <= state.phase - before.phase <= 1
        if state.phase > before.phase or decided.trigger is Trigger.ACCEPT:
            assert outcome.role is Role.SUPERVISOR
            assert outcome.action is COMPLETED
            assert before.worker is not None
            assert before.worker.action is COMPLETED
            assert before.worker.tree == before.checked_tree == outcome.tree
            assert not red_checks(before.checks)
        if decided.trigger is Trigger.ACCEPT:
            assert agreed(state)
            assert state.phase == phases - 1
        if decided.trigger is not Trigger.PROCEED:
            return
        # What a decision leaves must load again.
        assert JobManifest.model_validate_json(state.model_dump_json()) == state


@given(outcomes)
def test_deciding_is_a_function_of_its_input(outcome: StepOutcome) -> None:
    assert decide(manifest(), outcome) == decide(manifest(), outcome)


def test_a_check_named_twice_in_a_phase_is_refused() -> None:
    twice = Check(name="c", command="true")
    with pytest.raises(ValueError, match="same name"):
        JobDefinition(objective="x", checks=(twice,), phases=(Phase(name="p", checks=(twice,)),))
