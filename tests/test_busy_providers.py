"""A program that waits for its provider by itself is stopped, and Logist waits in its place, for all to see."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jobs import say
from stage import Stage, result, staged

from logist.agents.own_waits import PATIENCE
from logist.errors import ExitCode
from logist.events import Event, Notice, OutputReceived
from logist.job_report import JobReport, build_report
from logist.models.history import AttemptFailed, Exited
from logist.models.manifest import Budget, ReasonCode, RoleSettings
from logist.testing import FakeClock, MemoryReporter

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
#: Seconds; less than the role's patience.
LONG = 300.0
#: Seconds after which a program that nobody stopped ends the test.
LIMIT = 30.0
DONE = {"action": "COMPLETED"}


def waits(seconds: float) -> dict[str, Any]:
    """What claude prints before it waits for that long."""
    event = {"type": "system", "subtype": "api_retry", "session_id": "s-1"}
    return {**event, "retry_delay_ms": seconds * 1000, "error_status": 429}


def logged(said: str) -> str:
    """What opencode logs before it waits, for it does not say how long."""
    values = {"message": "stream error", "error.error": f"AI_APICallError: {said}"}
    spelled = " ".join(f"{name}={json.dumps(value)}" for name, value in values.items())
    return f"timestamp=2030-01-01T00:00:00.000Z level=ERROR {spelled} small=false mode=primary"


def steps(sent: int) -> list[dict[str, Any]]:
    """What opencode prints of an answer."""
    part = {"id": "p-1", "reason": "stop", "tokens": {"input": sent, "output": 10, "cache": {}}}
    kinds = ({"type": "step_start"}, {"type": "text", "part": {"text": "Done."}}, {"type": "step_finish", "part": part})
    return [{**event, "sessionID": "s-1"} for event in kinds]


BUSY = {"log": [logged("Too many requests")], "hangs": True}
ANSWERS = {"events": steps(1000), "reply": DONE}


class Killed(BaseException):
    """The runner dies here."""


class Watcher(MemoryReporter):
    """Does something of the test's whenever the program has said something."""

    def __init__(self, do: Callable[[], object]) -> None:
        super().__init__()
        self._do = do

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, OutputReceived):
            self._do()


def impatient(stage: Stage, *others: Callable[[], object]) -> None:
    """Let so much time go by whenever the program has said something that Logist loses its patience."""
    doing = (*others, lambda: clock_of(stage).advance(PATIENCE))
    stage.jobs.reporter = Watcher(lambda: [do() for do in doing])


def clock_of(stage: Stage) -> FakeClock:
    assert isinstance(stage.jobs.clock, FakeClock)
    return stage.jobs.clock


def stop(stage: Stage) -> None:
    """What Ctrl-C twice does."""
    for _ in range(2):
        stage.jobs.stop.ask(ExitCode.INTERRUPTED)


def failures(stage: Stage) -> list[AttemptFailed]:
    return [record for record in stage.jobs.records() if isinstance(record, AttemptFailed)]


@pytest.fixture
def opencode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A job of a program that does not say how long it waits."""
    with staged(tmp_path, monkeypatch, "opencode") as ready:
        ready.plays(BUSY, ANSWERS)
        ready.jobs.create(worker=RoleSettings(agent="opencode", timeout=LIMIT), supervisor=say("COMPLETED"))
        yield ready


@pytest.fixture
def claude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A job of a program that says how long it waits."""
    with staged(tmp_path, monkeypatch) as ready:
        ready.plays({"events": [waits(LONG)], "hangs": True}, {"events": [result()], "reply": DONE})
        ready.jobs.create(worker=RoleSettings(agent="claude", timeout=LIMIT), supervisor=say("COMPLETED"))
        yield ready


# --- Logist waits in its place ---------------------------------------------------------------------------------------


def test_a_program_that_waits_in_silence_is_stopped_and_asked_again(opencode: Stage) -> None:
    impatient(opencode)
    manifest = opencode.jobs.run_to(ExitCode.SUCCESS)
    [failed] = failures(opencode)
    assert (failed.kind, failed.detail) == ("transient", "rate_limited: Too many requests")
    assert failed.retry_at is not None
    assert (manifest.spent.retries, manifest.spent.steps, len(opencode.calls)) == (0, 2, 2)


def test_what_is_known_to_take_longer_is_not_waited_for_by_the_program(claude: Stage) -> None:
    manifest = claude.jobs.run_to(ExitCode.SUCCESS)
    [failed] = failures(claude)
    assert failed.detail.startswith("rate_limited: it was still trying again after HTTP status 429 (worth trying again")
    assert failed.retry_at is not None
    assert abs((failed.retry_at - BEGIN).total_seconds() - LONG) <= 1
    assert clock_of(claude).now() >= failed.retry_at
    assert (manifest.spent.retries, len(claude.calls)) == (0, 2)
    # The session knows of work that was put back.
    assert "--resume" not in claude.calls[1]["argv"]


def test_the_wait_is_shown_and_the_next_run_goes_on_with_it(claude: Stage) -> None:
    class Stopping(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if len(self.slept) == 100:
                stop(claude)

    claude.jobs.clock = claude.jobs.store.clock = Stopping()
    claude.jobs.run_to(ExitCode.INTERRUPTED)
    shown: JobReport = build_report(claude.jobs.store, "job")
    assert shown.wait is not None
    assert LONG - 60 < shown.wait.left(shown.at) < LONG
    assert shown.wait.why.startswith("rate_limited: ")
    assert len(claude.calls) == 1
    claude.jobs.run_to(ExitCode.SUCCESS)
    assert len(claude.calls) == 2


def test_a_wait_beyond_the_patience_of_its_role_is_a_humans_turn_at_once(claude: Stage) -> None:
    claude.plays({"events": [waits(3600)], "hangs": True})
    reason = claude.jobs.run_to(ExitCode.INTERVENTION_REQUIRED).reason
    assert reason.code is ReasonCode.AGENT_FAILED
    assert "worth trying again at 2030-01-01 01:00 UTC" in reason.sentence
    assert "--max-wait" in reason.sentence
    assert len(claude.calls) == 1


def test_what_the_program_waited_counts_for_the_patience_of_its_role(opencode: Stage) -> None:
    opencode.plays(BUSY, BUSY)
    impatient(opencode)
    patience = 5 * PATIENCE
    player = RoleSettings(agent="opencode", timeout=LIMIT, max_wait=patience)
    opencode.jobs.create("patient", worker=player, supervisor=say("COMPLETED"))
    reason = opencode.jobs.run_to(ExitCode.INTERVENTION_REQUIRED, "patient").reason
    assert "it is waited for 5m at most" in reason.sentence
    assert 2 <= len(opencode.calls) <= 5
    assert (clock_of(opencode).now() - BEGIN).total_seconds() <= patience + PATIENCE


def test_a_program_that_waits_until_money_comes_is_a_humans_turn_at_once(opencode: Stage) -> None:
    opencode.plays({"log": [logged("You exceeded your current quota, check your billing details")], "hangs": True})
    impatient(opencode)
    reason = opencode.jobs.run_to(ExitCode.INTERVENTION_REQUIRED).reason
    assert (reason.code, len(opencode.calls)) == (ReasonCode.AGENT_FAILED, 1)
    assert "quota" in reason.sentence


def test_work_that_was_begun_before_the_wait_is_put_back(opencode: Stage) -> None:
    opencode.plays({**BUSY, "write": {"half.txt": "half"}}, ANSWERS)
    impatient(opencode)
    opencode.jobs.run_to(ExitCode.SUCCESS)
    assert not (opencode.jobs.workspace() / "half.txt").exists()


def test_a_short_wait_is_left_to_the_program(opencode: Stage, tmp_path: Path) -> None:
    pipe = tmp_path / "goes-on"
    os.mkfifo(pipe)

    class Watched(FakeClock):
        """Lets the program go on once Logist has looked at it several times."""

        looks = 0

        def monotonic(self) -> float:
            self.looks += 1
            # Until it has come to read it, nobody listens.
            if self.looks > 10:
                with suppress(OSError):
                    os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            return super().monotonic()

    clock = opencode.jobs.clock = opencode.jobs.store.clock = Watched()
    opencode.jobs.reporter = Watcher(lambda: clock.advance(0 if clock.looks > 10 else PATIENCE - 1))
    opencode.plays({**ANSWERS, "log": BUSY["log"], "waits_for": str(pipe)})
    opencode.jobs.run_to(ExitCode.SUCCESS)
    assert (failures(opencode), len(opencode.calls)) == ([], 1)


def test_a_long_silence_is_told_and_told_again_whenever_it_is_twice_as_long(claude: Stage) -> None:
    class Passing(FakeClock):
        """Lets some time go by at each look, once the program has said its last."""

        passing = False

        def monotonic(self) -> float:
            self.advance(20.0 if self.passing else 0.0)
            return super().monotonic()

    told: list[str] = []
    clock = claude.jobs.clock = claude.jobs.store.clock = Passing()

    class Listening(MemoryReporter):
        def emit(self, event: Event) -> None:
            super().emit(event)
            clock.passing = clock.passing or isinstance(event, OutputReceived)
            if isinstance(event, Notice) and "has said nothing for" in event.message:
                told.append(event.message)
                if len(told) == 3:
                    stop(claude)

    claude.jobs.reporter = Listening()
    claude.plays({"events": [{"type": "system", "subtype": "init", "session_id": "s-1"}], "hangs": True})
    claude.jobs.run_to(ExitCode.INTERRUPTED)
    assert [line.partition(" for ")[2].partition("m")[0] for line in told] == ["5", "10", "20"]
    assert told[0].startswith("claude has said nothing for 5m")
    assert told[0].endswith("it is at work, or waits for its provider")


# --- who stopped it --------------------------------------------------------------------------------------------------


def test_an_operator_who_stops_a_program_that_waits_goes_first(opencode: Stage) -> None:
    impatient(opencode, lambda: stop(opencode))
    opencode.jobs.run_to(ExitCode.INTERRUPTED)
    [failed] = failures(opencode)
    assert (failed.kind, failed.retry_at) == ("interrupted", None)
    opencode.jobs.reporter = MemoryReporter()
    opencode.jobs.run_to(ExitCode.SUCCESS)
    assert len(opencode.calls) == 2


def test_a_budget_that_is_used_up_goes_before_the_wait(claude: Stage) -> None:
    used = {"type": "assistant", "message": {"id": "m-1", "usage": {"input_tokens": 5000, "output_tokens": 10}}}
    claude.plays({"events": [used, waits(LONG)], "hangs": True})
    claude.jobs.create(
        "small",
        worker=RoleSettings(agent="claude", timeout=LIMIT),
        supervisor=say("COMPLETED"),
        budget=Budget(tokens=1_000),
    )
    manifest = claude.jobs.run_to(ExitCode.INTERVENTION_REQUIRED, "small")
    assert manifest.reason.code is ReasonCode.BUDGET_COST
    [exited] = [record for record in claude.jobs.records("small") if isinstance(record, Exited)]
    assert exited.outcome == "limit"


def test_what_it_used_before_the_wait_is_charged_once(claude: Stage) -> None:
    used = {"type": "assistant", "message": {"id": "m-1", "usage": {"input_tokens": 700, "output_tokens": 30}}}
    ends = result(usage={"input_tokens": 100, "output_tokens": 10})
    claude.plays({"events": [used, waits(LONG)], "hangs": True}, {"events": [ends], "reply": DONE})
    assert claude.jobs.run_to(ExitCode.SUCCESS).spent.tokens == 730 + 110


def test_a_wait_after_nothing_was_answered_costs_nothing(opencode: Stage) -> None:
    impatient(opencode)
    spent = opencode.jobs.run_to(ExitCode.SUCCESS).spent
    # That of the answer alone, which tells no price.
    assert (spent.tokens, spent.unpriced) == (1010, 1)


def test_a_runner_that_dies_while_the_program_waits_is_made_up_for_by_the_next_run(opencode: Stage) -> None:
    def die() -> None:
        raise Killed

    opencode.jobs.reporter = Watcher(die)
    with pytest.raises(Killed):
        opencode.jobs.run()
    opencode.jobs.reporter = MemoryReporter()
    manifest = opencode.jobs.run_to(ExitCode.SUCCESS)
    assert (len(opencode.calls), manifest.spent.retries) == (2, 0)
