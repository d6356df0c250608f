"""The state table, every state against every trigger."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist.lifecycle import EDGES, TERMINAL, JobStatus, Lifecycle, TransitionRefused, Trigger, allowed, fire, target

# The table of the design, written a second time on purpose: a change of behaviour must be made in two places.
TABLE = {
    (JobStatus.PENDING, Trigger.START): JobStatus.RUNNING,
    (JobStatus.PENDING, Trigger.CANCEL): JobStatus.CANCELED,
    (JobStatus.PENDING, Trigger.REOPEN): JobStatus.PENDING,
    (JobStatus.RUNNING, Trigger.PROCEED): JobStatus.RUNNING,
    (JobStatus.RUNNING, Trigger.ACCEPT): JobStatus.SUCCESS,
    (JobStatus.RUNNING, Trigger.ESCALATE): JobStatus.INTERVENTION_REQUIRED,
    (JobStatus.RUNNING, Trigger.PAUSE): JobStatus.PENDING,
    (JobStatus.RUNNING, Trigger.RECOVER): JobStatus.PENDING,
    (JobStatus.RUNNING, Trigger.CANCEL): JobStatus.CANCELED,
    (JobStatus.INTERVENTION_REQUIRED, Trigger.CANCEL): JobStatus.CANCELED,
    (JobStatus.INTERVENTION_REQUIRED, Trigger.RESOLVE): JobStatus.PENDING,
    (JobStatus.INTERVENTION_REQUIRED, Trigger.APPROVE): JobStatus.SUCCESS,
    (JobStatus.INTERVENTION_REQUIRED, Trigger.REOPEN): JobStatus.PENDING,
    (JobStatus.SUCCESS, Trigger.REOPEN): JobStatus.PENDING,
    (JobStatus.CANCELED, Trigger.REOPEN): JobStatus.PENDING,
}
EVERY_PAIR = [(status, trigger) for status in JobStatus for trigger in Trigger]


@pytest.mark.parametrize(("status", "trigger"), EVERY_PAIR, ids=lambda value: value.value)
def test_every_state_and_trigger_does_what_the_table_says(status: JobStatus, trigger: Trigger) -> None:
    expected = TABLE.get((status, trigger))
    if expected is None:
        with pytest.raises(TransitionRefused):
            fire(status, trigger)
        with pytest.raises(TransitionRefused):
            target(status, trigger)
        assert trigger not in allowed(status)
    else:
        assert fire(status, trigger) is expected
        assert target(status, trigger) is expected
        assert trigger in allowed(status)


def test_a_refused_trigger_leaves_the_state_as_it_was() -> None:
    machine = Lifecycle(JobStatus.PENDING)
    with pytest.raises(TransitionRefused):
        machine.fire(Trigger.ACCEPT)
    assert machine.state is JobStatus.PENDING


def test_an_unmet_guard_is_an_error_and_never_a_silent_no() -> None:
    machine = Lifecycle(JobStatus.PENDING, guard=lambda trigger: trigger is not Trigger.START)
    with pytest.raises(TransitionRefused):
        machine.fire(Trigger.START)
    assert machine.state is JobStatus.PENDING
    assert machine.fire(Trigger.CANCEL) is JobStatus.CANCELED


def test_a_trigger_that_the_machine_does_not_know_is_an_error() -> None:
    class Unknown:
        value = "explode"

    with pytest.raises(TransitionRefused):
        Lifecycle(JobStatus.PENDING).fire(Unknown())  # type: ignore[arg-type]


def test_finished_jobs_leave_only_by_being_reopened() -> None:
    for status in TERMINAL:
        assert allowed(status) == (Trigger.REOPEN,)


def test_every_state_can_be_reached_and_every_unfinished_one_can_end_both_ways() -> None:
    def reachable(start: JobStatus, without: Trigger | None = None) -> set[JobStatus]:
        seen, todo = {start}, [start]
        while todo:
            status = todo.pop()
            for edge in EDGES:
                if edge.trigger is not without and status in edge.sources and edge.target not in seen:
                    seen.add(edge.target)
                    todo.append(edge.target)
        return seen

    assert reachable(JobStatus.PENDING) == set(JobStatus)
    for status in set(JobStatus) - TERMINAL:
        assert {JobStatus.SUCCESS, JobStatus.CANCELED} <= reachable(status, without=Trigger.REOPEN)


@given(st.lists(st.sampled_from(list(Trigger)), max_size=40))
def test_any_sequence_of_triggers_follows_the_table(triggers: list[Trigger]) -> None:
    machine = Lifecycle(JobStatus.PENDING)
    status = JobStatus.PENDING
    for trigger in triggers:
        expected = TABLE.get((status, trigger))
        if expected is None:
            with pytest.raises(TransitionRefused):
                machine.fire(trigger)
        else:
            status = machine.fire(trigger)
            assert status is expected
        assert machine.state is status
