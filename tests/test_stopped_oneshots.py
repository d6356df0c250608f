"""A oneshot that was stopped: what it had used is charged once, and its session goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import by_turn, say
from stage import Stage, result, staged

from logist import interventions
from logist.agents.prices import with_price
from logist.errors import ExitCode
from logist.models.history import Exited
from logist.models.manifest import Budget, ReasonCode, RoleSettings
from logist.models.usage import Counted, Usage, added, latest, used_since

COUNTS: tuple[Counted, ...] = get_args(Counted)
TOKENS: tuple[Counted, ...] = ("input_tokens", "output_tokens", "cached_tokens")
MODEL = "claude-sonnet-4-5"
#: From this version on claude tells the use of the whole session, before that of each process.
SUMS, PARTS = "2.1.277", "2.1.276"
DONE = {"action": "COMPLETED"}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with staged(tmp_path, monkeypatch) as ready:
        yield ready


def begins(version: str = SUMS) -> dict[str, Any]:
    return {"type": "system", "subtype": "init", "claude_code_version": version, "session_id": "s-1"}


def says(name: str, sent: int, received: int) -> dict[str, Any]:
    """An answer of the model, as it is told while claude runs."""
    return {"type": "assistant", "message": {"id": name, "usage": {"input_tokens": sent, "output_tokens": received}}}


def ends(cost: float, sent: int, received: int) -> dict[str, Any]:
    """The end of a process that used 1000 and 50 tokens, and what it tells by model."""
    return result(
        total_cost_usd=cost,
        usage={"input_tokens": 1000, "output_tokens": 50},
        modelUsage={MODEL: {"inputTokens": sent, "outputTokens": received}},
    )


def priced(sent: int, received: int) -> float:
    """Dollars, by the list of prices."""
    return with_price(Usage(input_tokens=sent, output_tokens=received), MODEL).cost or 0.0


# --- charged once ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "bill", "sent", "received"),
    [(SUMS, 0.04, 3000, 150), (PARTS, 0.01, 1000, 50)],
    ids=["counts-of-the-session", "counts-of-the-process"],
)
def test_what_was_heard_of_a_stopped_oneshot_is_not_charged_again_when_its_session_goes_on(
    stage: Stage, version: str, bill: float, sent: int, received: int
) -> None:
    stage.plays(
        {"events": [begins(version), says("m-1", 1000, 50), says("m-2", 1000, 50)], "hangs": True},
        {"events": [begins(version), ends(bill, sent, received)], "reply": DONE},
    )
    stage.jobs.create(worker=RoleSettings(agent="claude", model=MODEL, idle_timeout=1.0), supervisor=say("COMPLETED"))
    spent = stage.jobs.run_to(ExitCode.SUCCESS).spent
    assert stage.calls[1]["argv"][-2:] == ["--resume", "s-1"]
    heard = priced(2000, 100)
    assert spent.tokens == 3 * 1050
    assert spent.cost == pytest.approx(bill if version == SUMS else heard + bill)
    assert (spent.estimated_cost, spent.unpriced) == (pytest.approx(heard), 0)


def test_a_stopped_oneshot_adds_to_what_its_session_had_counted_before(stage: Stage) -> None:
    stage.plays(
        {"events": [begins(), ends(0.02, 2000, 100)], "reply": DONE},
        {"events": [begins(), says("m-3", 500, 20)], "hangs": True},
        {"events": [begins(), says("m-4", 500, 20)], "hangs": True},
        {"events": [begins(), ends(0.05, 4000, 190)], "reply": DONE},
    )
    stage.jobs.create(
        worker=RoleSettings(agent="claude", model=MODEL, idle_timeout=1.0),
        supervisor=by_turn(say("RETRY", "again"), say("COMPLETED")),
    )
    spent = stage.jobs.run_to(ExitCode.SUCCESS).spent
    assert len(stage.calls) == 4
    assert (spent.tokens, spent.cost) == (4190, pytest.approx(0.05))


def test_an_estimate_above_the_bill_of_the_session_is_not_charged_again(stage: Stage) -> None:
    stage.plays(
        {"events": [begins(), says("m-1", 100_000, 50)], "hangs": True},
        {"events": [begins(), ends(0.04, 101_000, 100)], "reply": DONE},
    )
    stage.jobs.create(worker=RoleSettings(agent="claude", model=MODEL, idle_timeout=1.0), supervisor=say("COMPLETED"))
    spent = stage.jobs.run_to(ExitCode.SUCCESS).spent
    assert spent.tokens == 101_100
    assert 0.04 < spent.cost == spent.estimated_cost == pytest.approx(priced(100_000, 50))


# --- stopped by the budget -------------------------------------------------------------------------------------------


def test_what_the_budget_stopped_goes_on_in_its_session_once_there_is_more(stage: Stage) -> None:
    stage.plays(
        {"events": [begins(), says("m-1", 5000, 10)], "write": {"half.txt": "half"}, "hangs": True},
        {"events": [begins(), ends(0.04, 6000, 60)], "reply": DONE},
    )
    stage.jobs.create(worker=RoleSettings(agent="claude"), supervisor=say("COMPLETED"), budget=Budget(tokens=1_000))
    assert stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED).reason.code is ReasonCode.BUDGET_COST
    [exited] = [record for record in stage.jobs.records() if isinstance(record, Exited)]
    assert (exited.outcome, exited.usage.input_tokens, exited.usage.output_tokens) == ("limit", 5000, 10)
    interventions.add_budget(stage.jobs.runtime, "job", interventions.BudgetIncrease(tokens=9_000))
    spent = stage.jobs.run_to(ExitCode.SUCCESS).spent
    assert stage.calls[1]["argv"][-2:] == ["--resume", "s-1"]
    assert (stage.jobs.workspace() / "half.txt").exists()
    assert (spent.tokens, spent.cost) == (6060, 0.04)


def test_a_bill_below_the_estimate_changes_nothing_about_why_it_was_stopped(stage: Stage) -> None:
    stage.plays({"events": [begins(), says("m-1", 3_000_000, 10), ends(0.04, 3_000_000, 60)], "hangs": True})
    stage.jobs.create(
        worker=RoleSettings(agent="claude", model=MODEL), supervisor=say("COMPLETED"), budget=Budget(cost=1.0)
    )
    manifest = stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.BUDGET_COST
    assert manifest.spent.cost == 0.04


# --- the counts themselves -------------------------------------------------------------------------------------------

counts = st.none() | st.integers(0, 10**9)
dollars = st.none() | st.integers(0, 10**6).map(lambda cents: cents / 100)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cost = draw(dollars)
    cost_is = None if cost is None else draw(st.sampled_from(["billed", "estimated"]))
    return Usage(cost=cost, cost_is=cost_is, **{name: draw(counts) for name in TOKENS})


def known(usage: Usage) -> dict[str, float]:
    return {name: getattr(usage, name) or 0 for name in COUNTS}


@given(parts=st.lists(usages(), max_size=5))
def test_usages_together_are_their_sums_and_what_nobody_tells_stays_unknown(parts: list[Usage]) -> None:
    total = added(parts)
    for name in COUNTS:
        told = [value for part in parts if (value := getattr(part, name)) is not None]
        assert getattr(total, name) == (pytest.approx(sum(told)) if told else None)
    assert (total.cost_is is None) is (total.cost is None)
    assert (total.cost_is == "estimated") is any(part.cost_is == "estimated" for part in parts)


@given(before=usages(), heard=st.lists(usages(), max_size=3), last=usages())
def test_however_often_a_session_is_stopped_all_that_is_charged_is_what_it_counted(
    before: Usage, heard: list[Usage], last: Usage
) -> None:
    session = added([before, *heard])
    total = added([session, last])
    charged = added([before, *heard, used_since(session, total, COUNTS)])
    assert known(charged) == pytest.approx(known(total))
    assert latest(session, total) == total


@given(before=usages(), total=usages(), cumulative=st.sets(st.sampled_from(COUNTS)))
def test_no_use_is_below_nothing_or_above_what_was_told(before: Usage, total: Usage, cumulative: set[Counted]) -> None:
    used = used_since(before, total, cumulative)
    for name in COUNTS:
        most, least = getattr(total, name), getattr(used, name)
        assert (least is None) is (most is None)
        assert 0 <= (least or 0) <= (most or 0)


@pytest.mark.parametrize(
    ("cost_is", "sent", "used"),
    [("estimated", 2500, 0.0), ("estimated", 400, 0.3), ("billed", 2500, 0.3)],
    ids=["an-estimate-above-the-bill", "an-estimate-and-counted-anew", "billed-and-counted-anew"],
)
def test_dollars_that_fell_were_counted_anew_unless_an_estimate_was_above_the_bill(
    cost_is: Any, sent: int, used: float
) -> None:
    before = Usage(cost=0.5, cost_is=cost_is, input_tokens=2000, output_tokens=100)
    total = Usage(cost=0.3, cost_is="billed", input_tokens=sent, output_tokens=150)
    assert used_since(before, total, COUNTS).cost == used
