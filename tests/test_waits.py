"""A wait for a busy provider: seen by everybody, and kept by the next run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from jobs import Jobs, say
from stage import Stage, refused, result, staged

from logist import interventions
from logist.console.card import card_text
from logist.console.tables import jobs_table
from logist.errors import ExitCode
from logist.events import AttemptFailed, WaitResumed
from logist.job_list import JobRow, list_rows
from logist.job_processor import run_job
from logist.job_report import JobReport, build_report
from logist.lifecycle import JobStatus
from logist.models.history import HISTORY_RECORD, Restored
from logist.models.history import AttemptFailed as FailedAttempt
from logist.models.manifest import RoleSettings
from logist.runtime import Runtime
from logist.stop_switch import StopSwitch
from logist.testing import FakeClock

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
BUSY = {"events": [refused(429, "Rate limit reached. Please try again in 300s.")], "exit_code": 1}
ANSWERS = {"events": [result()], "reply": {"action": "COMPLETED"}}


class Killed(BaseException):
    """The runner dies here."""


class Clock(FakeClock):
    """Does something of the test's once a moment has come, in the midst of whoever sleeps then."""

    def __init__(self) -> None:
        super().__init__(BEGIN)
        self._due: tuple[datetime, Callable[[], object]] | None = None

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        """Do it in so many seconds."""
        self._due = (self.now() + timedelta(seconds=seconds), do)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self._due is not None and self.now() >= self._due[0]:
            (_, do), self._due = self._due, None
            do()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Stage]:
    """A job whose provider asks for five minutes, and answers after that."""
    monkeypatch.setenv("TZ", "UTC")
    with staged(tmp_path, monkeypatch) as ready:
        ready.jobs.clock = ready.jobs.store.clock = clock
        ready.plays(BUSY, ANSWERS)
        ready.jobs.create(worker=RoleSettings(agent="claude"), supervisor=say("COMPLETED"))
        yield ready


def stop(jobs: Jobs) -> Callable[[], object]:
    """What Ctrl-C does."""
    return lambda: jobs.stop.ask(ExitCode.INTERRUPTED)


def interrupted(stage: Stage, clock: Clock, after: float = 100.0) -> None:
    """A run that is stopped so many seconds into its wait."""
    clock.after(after, stop(stage.jobs))
    stage.jobs.run_to(ExitCode.INTERRUPTED)


def report(jobs: Jobs) -> JobReport:
    return build_report(jobs.store, "job")


def left(jobs: Jobs) -> float | None:
    """Seconds of the wait that are left, as the status says."""
    shown = report(jobs)
    return None if shown.wait is None else shown.wait.left(shown.at)


def patient(jobs: Jobs, max_wait: float) -> Runtime:
    """A run with --max-wait."""
    return replace(jobs.runtime, max_wait=max_wait)


def resumed(jobs: Jobs) -> list[float]:
    return [event.retry_in for event in jobs.reporter.of(WaitResumed)]


def test_whoever_looks_at_a_job_that_waits_sees_until_when_and_why(stage: Stage, clock: Clock) -> None:
    seen: list[JobReport] = []
    listed: list[JobRow] = []

    def look() -> None:
        seen.append(report(stage.jobs))
        listed.extend(list_rows(stage.jobs.store))

    clock.after(240, look)
    stage.jobs.run_to(ExitCode.SUCCESS)
    [shown], [row] = seen, listed
    [failed] = stage.jobs.reporter.of(AttemptFailed)
    assert shown.wait is not None
    assert (shown.wait, shown.wait.until) == (row.wait, failed.retry_at)
    assert shown.to_json()["wait"]["why"].startswith("rate_limited: Rate limit reached.")
    card = card_text(shown, width=None, color=False, encoding="utf-8", exit_code=None)
    assert " RUNNING   job  step 1 (worker) waits to try again\n" in card
    assert "\nWaits      until 00:0" in card
    assert " left): rate_limited: Rate limit reached." in card
    assert "RUNNING: waits until 00:0" in jobs_table([row], now=shown.at)
    after = report(stage.jobs)
    assert (after.wait, list_rows(stage.jobs.store)[0].wait) == (None, None)


def test_the_record_keeps_the_moment_and_old_records_do_without(stage: Stage) -> None:
    stage.jobs.run_to(ExitCode.SUCCESS)
    [told] = stage.jobs.reporter.of(AttemptFailed)
    [kept] = [record for record in stage.jobs.records() if isinstance(record, FailedAttempt)]
    assert kept.retry_at == told.retry_at
    assert kept.retry_at is not None
    assert 270.0 < (kept.retry_at - BEGIN).total_seconds() <= 300.0
    old = kept.model_dump(mode="json")
    del old["retry_at"]
    assert HISTORY_RECORD.validate_python(old) == kept.model_copy(update={"retry_at": None})


def test_a_wait_that_was_stopped_goes_on_in_the_next_run(stage: Stage, clock: Clock) -> None:
    for _ in range(3):
        interrupted(stage, clock, 60.0)
        assert (len(stage.calls), report(stage.jobs).status) == (1, JobStatus.PENDING)
    remaining = left(stage.jobs)
    assert remaining is not None
    assert 90.0 < remaining <= 120.0
    assert "\nWaits      until 00:0" in card_text(
        report(stage.jobs), width=None, color=False, encoding="utf-8", exit_code=None
    )
    stage.jobs.run_to(ExitCode.SUCCESS)
    assert len(stage.calls) == 2
    assert clock.now() >= BEGIN + timedelta(seconds=270)
    assert resumed(stage.jobs) == sorted(resumed(stage.jobs), reverse=True)
    assert resumed(stage.jobs)[-1] == pytest.approx(remaining)


def test_a_wait_outlives_its_runner(stage: Stage, clock: Clock) -> None:
    def die() -> None:
        raise Killed

    clock.after(100.0, die)
    with pytest.raises(Killed):
        stage.jobs.run()
    assert report(stage.jobs).status is JobStatus.RUNNING
    assert left(stage.jobs) is not None
    assert "RUNNING (died): waits until 00:0" in jobs_table(list_rows(stage.jobs.store), now=clock.now())
    stage.jobs.run_to(ExitCode.SUCCESS)
    assert (len(resumed(stage.jobs)), len(stage.calls)) == (1, 2)


def test_a_wait_outlives_a_restart_of_the_machine(stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(stage, clock)
    for module in ("job_recovery", "job_processor"):
        monkeypatch.setattr(f"logist.{module}.boot_id", lambda: "another-boot")
    stage.jobs.run_to(ExitCode.SUCCESS)
    assert any(isinstance(record, Restored) for record in stage.jobs.records())
    assert len(resumed(stage.jobs)) == 1


def test_nobody_waits_for_a_moment_that_has_passed(stage: Stage, clock: Clock) -> None:
    interrupted(stage, clock)
    clock.advance(1_000.0)
    assert left(stage.jobs) is None
    stage.jobs.run_to(ExitCode.SUCCESS)
    assert resumed(stage.jobs) == []


@pytest.mark.parametrize("max_wait", [0.0, 10.0])
def test_a_shorter_patience_of_the_next_run_asks_at_once(stage: Stage, clock: Clock, max_wait: float) -> None:
    interrupted(stage, clock)
    before = clock.now()
    stage.jobs.stop = StopSwitch()
    run_job(patient(stage.jobs, max_wait), "job")
    assert (len(stage.calls), clock.now() - before) == (2, timedelta())


def test_what_was_waited_already_counts_for_the_patience_of_the_run(stage: Stage, clock: Clock) -> None:
    stage.plays(BUSY, BUSY, ANSWERS)
    interrupted(stage, clock)
    # Of 400 seconds close to 200 are left of the old wait: too few for 300 more.
    stage.jobs.stop = StopSwitch()
    assert run_job(patient(stage.jobs, 400.0), "job").exit_code is ExitCode.INTERVENTION_REQUIRED
    assert len(stage.calls) == 2


def test_a_clock_that_was_set_back_holds_nobody_up(stage: Stage, clock: Clock) -> None:
    interrupted(stage, clock)
    clock.set_wall_time(BEGIN - timedelta(days=1))
    stage.jobs.run_to(ExitCode.SUCCESS)
    assert resumed(stage.jobs) == []


def test_a_humans_decision_ends_the_wait(stage: Stage, clock: Clock) -> None:
    interrupted(stage, clock)
    interventions.rerun_job(stage.jobs.runtime, "job")
    assert left(stage.jobs) is None
    stage.jobs.run_to(ExitCode.SUCCESS)
    assert resumed(stage.jobs) == []


def test_a_wait_that_goes_on_is_stopped_like_any_other(stage: Stage, clock: Clock) -> None:
    interrupted(stage, clock)
    before = len(clock.slept)
    clock.after(0.5, stop(stage.jobs))
    stage.jobs.run_to(ExitCode.INTERRUPTED)
    assert len(clock.slept) - before < 10


def test_a_patience_without_bounds_tells_a_moment_that_there_is(stage: Stage, clock: Clock) -> None:
    stage.plays({"events": [refused(429, "try again in 99999999 weeks")], "exit_code": 1})
    clock.after(1.0, stop(stage.jobs))
    assert run_job(patient(stage.jobs, 1e300), "job").exit_code is ExitCode.INTERRUPTED
    shown = report(stage.jobs)
    assert shown.wait is not None
    assert shown.wait.until.year < 2100
