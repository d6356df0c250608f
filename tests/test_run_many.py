"""Several jobs in one run: their order, how many at a time, and that none of them takes another one down."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jobs import Jobs

from logist import events
from logist.cancellation import cancel_at_rest
from logist.clock import SystemClock
from logist.errors import WORST_FIRST, ExitCode, JobNotFound
from logist.events import Event, JobEnd, JobsFinished
from logist.execution import CancelCheck, Command, CommandResult, OutputSink, StartedHook
from logist.execution.local import LocalWorkerAdapter
from logist.interventions import resolve_retry
from logist.job_state import JobStore, OpenJob, change
from logist.lifecycle import JobStatus
from logist.models.history import Restored
from logist.models.manifest import Budget, RoleSettings
from logist.processes import boot_id
from logist.run_many import RunsResult, run_jobs
from logist.stop_requests import request
from logist.stop_switch import StopSwitch
from logist.testing import FakeClock, MemoryReporter

#: A worker that never agrees, in one step.
ONE_STEP = Budget(steps=1)


class Watcher(MemoryReporter):
    """A reporter that also does something when an event comes."""

    def __init__(self, act: Callable[[Event], None]) -> None:
        super().__init__()
        self._act = act

    def emit(self, event: Event) -> None:
        super().emit(event)
        self._act(event)


class FaultyAdapter(LocalWorkerAdapter):
    """Runs every command but those of one job, for which it raises."""

    def __init__(self, job_id: str, fault: BaseException) -> None:
        super().__init__()
        self._job_id, self._fault = job_id, fault

    def run(
        self,
        command: Command,
        *,
        cancel: CancelCheck | None = None,
        on_output: OutputSink | None = None,
        on_started: StartedHook | None = None,
    ) -> CommandResult:
        if command.env.get("LOGIST_JOB_ID") == self._job_id:
            raise self._fault
        return super().run(command, cancel=cancel, on_output=on_output, on_started=on_started)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path)
    yield made
    made.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where workers of `writes` leave their jobs' names."""
    return tmp_path / "log"


def writes(log: Path) -> str:
    """A worker that adds its job's name to the log."""
    return f'echo "$LOGIST_JOB_ID" >> {log}'


def run_all(jobs: Jobs, *only: str, concurrency: int = 1) -> RunsResult:
    jobs.stop = StopSwitch()
    return run_jobs(jobs.runtime, only=only or None, concurrency=concurrency)


def ends_of(result: RunsResult) -> dict[str, JobEnd]:
    return {end.job_id: end for end in result.jobs}


def codes_of(result: RunsResult) -> dict[str, int]:
    """What each job ended with."""
    return {end.job_id: end.exit_code for end in result.jobs}


# --- The order -----------------------------------------------------------------------------------------------------


def test_a_higher_priority_goes_first_and_among_equals_the_older_job(jobs: Jobs, log: Path) -> None:
    for job_id, priority in (("zero-b", 0), ("low", -1), ("high", 7), ("zero-a", 0)):
        jobs.create(job_id, worker=writes(log), priority=priority)
    result = run_all(jobs)
    assert log.read_text().split() == ["high", "zero-b", "zero-a", "low"]
    assert result.exit_code is ExitCode.SUCCESS
    assert [end.job_id for end in result.jobs] == ["high", "zero-b", "zero-a", "low"]


def test_a_job_waits_for_those_that_it_needs_and_makes_them_as_urgent_as_itself(jobs: Jobs, log: Path) -> None:
    for job_id in ("first", "second", "ground", "wall"):
        jobs.create(job_id, worker=writes(log), needs=("ground",) if job_id == "wall" else ())
    jobs.create("roof", worker=writes(log), needs=("wall",), priority=3)
    assert run_all(jobs).exit_code is ExitCode.SUCCESS
    assert log.read_text().split() == ["ground", "wall", "roof", "first", "second"]


def test_what_an_urgent_job_needs_is_urgent_also_when_the_clock_was_put_back_meanwhile(jobs: Jobs, log: Path) -> None:
    clock = FakeClock()
    jobs.clock = clock
    for hour, job_id, needs in ((5, "ground", ()), (4, "wall", ("ground",)), (3, "roof", ("wall",)), (2, "older", ())):
        clock.set_wall_time(datetime(2030, 1, 1, hour, tzinfo=UTC))
        jobs.create(job_id, worker=writes(log), needs=needs, priority={"roof": 3, "older": 1}.get(job_id, 0))
    jobs.clock = SystemClock()
    run_all(jobs)
    assert log.read_text().split() == ["ground", "wall", "roof", "older"]


def test_a_job_keeps_its_place_until_it_rests(jobs: Jobs, log: Path) -> None:
    for job_id in ("a", "b"):
        jobs.create(job_id, worker=writes(log), supervisor=writes(log))
    run_all(jobs)
    assert log.read_text().split() == ["a", "a", "b", "b"]


def test_what_nobody_can_reach_leaves_a_job_waiting_and_the_end_says_for_what(jobs: Jobs) -> None:
    jobs.create("stuck", worker="false", budget=ONE_STEP)
    jobs.create("gone")
    jobs.create("after-stuck", needs=("stuck", "gone"))
    jobs.create("after-gone", needs=("gone",))
    jobs.create("last", needs=("after-gone",))
    (jobs.store.paths("gone").root).rename(jobs.root / "elsewhere")
    result = run_all(jobs)
    ends = ends_of(result)
    assert codes_of(result) == {"stuck": 3, "after-stuck": 6, "after-gone": 6, "last": 6}
    assert ends["after-stuck"].why == "waits for stuck (INTERVENTION REQUIRED), gone (gone or unreadable)"
    assert ends["after-stuck"].next == ends["stuck"].next
    assert ends["last"].why == "waits for after-gone (PENDING)"
    assert result.exit_code is ExitCode.INTERVENTION_REQUIRED
    assert jobs.store.load("after-stuck").status is JobStatus.PENDING


def test_a_job_can_only_need_one_that_is_there(jobs: Jobs) -> None:
    with pytest.raises(JobNotFound, match="nowhere"):
        jobs.create("job", needs=("nowhere",))
    assert jobs.store.ids() == ()


def test_a_manifest_from_before_there_were_priorities_is_read(jobs: Jobs) -> None:
    jobs.create()
    path = jobs.store.paths("job").manifest
    document = json.loads(path.read_bytes())
    del document["job"]["priority"], document["job"]["needs"]
    for phase in document["job"]["phases"]:
        del phase["needs"]
    path.write_text(json.dumps(document))
    manifest = jobs.store.load("job")
    assert (manifest.job.priority, manifest.job.needs, manifest.job.phases[0].needs) == (0, (), ())


# --- At the same time ----------------------------------------------------------------------------------------------


def test_jobs_run_at_the_same_time(jobs: Jobs, tmp_path: Path) -> None:
    # Opening a FIFO waits for the other side: each worker can only end while the other one runs.
    os.mkfifo(tmp_path / "meeting")
    jobs.create("writer", worker=RoleSettings(agent="command", argument=f"echo hello > {tmp_path}/meeting", timeout=30))
    jobs.create("reader", worker=RoleSettings(agent="command", argument=f"read word < {tmp_path}/meeting", timeout=30))
    result = run_all(jobs, concurrency=2)
    assert codes_of(result) == {"writer": 0, "reader": 0}
    assert [len(jobs.committed(job_id)) for job_id in ("writer", "reader")] == [2, 2]


def test_no_more_jobs_run_at_a_time_than_were_asked_for(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    mine = f'"{tmp_path}/here/$LOGIST_JOB_ID"'
    for number in range(6):
        jobs.create(f"job-{number}", worker=f"touch {mine}; ls {tmp_path}/here | wc -l >> {tmp_path}/counts; rm {mine}")
    assert run_all(jobs, concurrency=2).exit_code is ExitCode.SUCCESS
    counts = [int(line) for line in (tmp_path / "counts").read_text().split()]
    assert len(counts) == 6
    assert max(counts) <= 2


def test_the_reporter_gets_one_event_at_a_time(jobs: Jobs) -> None:
    inside: list[str] = []
    overlaps: list[str] = []

    def watch(event: Event) -> None:
        inside.append(event.type)
        jobs.clock.sleep(0.001)  # Gives another thread the time to come in.
        if len(inside) > 1:
            overlaps.append(event.type)
        inside.pop()

    jobs.reporter = Watcher(watch)
    for number in range(4):
        jobs.create(f"job-{number}")
    run_all(jobs, concurrency=4)
    assert overlaps == []
    assert isinstance(jobs.reporter.events[-1], JobsFinished)


@pytest.mark.slow
def test_fifty_jobs_each_end_with_their_own_evidence(jobs: Jobs, log: Path) -> None:
    names = [f"job-{number:02}" for number in range(50)]
    for number, job_id in enumerate(names):
        jobs.create(job_id, worker=f"{writes(log)}; echo {number} > number", priority=number % 3)
    result = run_all(jobs, concurrency=8)
    assert result.exit_code is ExitCode.SUCCESS
    assert {end.job_id for end in result.jobs} == set(names)
    assert sorted(log.read_text().split()) == names
    for number, job_id in enumerate(names):
        assert jobs.evidence_steps(job_id) == [1, 2]
        assert jobs.git("show", f"logist/{job_id}:number", job_id=job_id) == f"{number}\n"


# --- What one job does to the others -------------------------------------------------------------------------------


def test_a_job_that_needs_a_human_does_not_keep_the_others_from_their_end(jobs: Jobs) -> None:
    jobs.create("stuck", worker="echo asked; false", budget=ONE_STEP, priority=1)
    jobs.create("fine")
    result = run_all(jobs)
    ends = ends_of(result)
    assert codes_of(result) == {"stuck": 3, "fine": 0}
    assert (ends["stuck"].status, ends["fine"].status) == (JobStatus.INTERVENTION_REQUIRED, JobStatus.SUCCESS)
    assert (ends["stuck"].steps, ends["fine"].steps) == (1, 2)
    assert "resolve stuck" in ends["stuck"].next
    assert result.exit_code is ExitCode.INTERVENTION_REQUIRED
    again = run_all(jobs)
    assert (again.jobs, again.exit_code, again.unanswered) == ((), ExitCode.SUCCESS, ("stuck",))


@pytest.mark.parametrize("fault", [RuntimeError("out of order"), SystemExit(0)], ids=lambda fault: type(fault).__name__)
def test_a_fault_in_one_job_is_its_own_end(jobs: Jobs, fault: BaseException) -> None:
    jobs.adapter.close()
    jobs.adapter = FaultyAdapter("bad", fault)
    jobs.create("bad", priority=1)
    jobs.create("good")
    result = run_all(jobs, concurrency=2)
    assert codes_of(result) == {"bad": 1, "good": 0}
    assert type(fault).__name__ in ends_of(result)["bad"].why
    assert len(result.faults) == 1
    assert [event.job_id for event in jobs.reporter.of(events.JobDropped)] == ["bad"]
    assert result.exit_code is ExitCode.UNEXPECTED


def test_a_job_whose_agent_is_missing_is_told_once_and_the_others_go_on(jobs: Jobs) -> None:
    jobs.create("missing", worker=RoleSettings(agent="nobody"), priority=1)
    jobs.create("fine")
    result = run_all(jobs)
    assert codes_of(result) == {"missing": 78, "fine": 0}
    assert "nobody" in ends_of(result)["missing"].why
    assert [event.job_id for event in jobs.reporter.of(events.JobDropped)] == ["missing"]


def test_a_job_that_another_runner_holds_is_left_to_it(jobs: Jobs) -> None:
    jobs.create("held", priority=1)
    jobs.create("fine")
    with jobs.store.open("held", command="run"):
        result = run_all(jobs)
    assert codes_of(result) == {"held": 75, "fine": 0}
    assert "is held by process" in ends_of(result)["held"].why
    assert [event.job_id for event in jobs.reporter.of(events.JobDropped)] == ["held"]
    assert jobs.store.load("held").step == 0
    assert codes_of(run_all(jobs)) == {"held": 0}


def test_a_job_that_another_runner_gives_back_meanwhile_is_not_taken_up(jobs: Jobs) -> None:
    jobs.create("held", priority=1)
    jobs.create("fine")
    held = jobs.store.open("held", command="run")

    def watch(event: Event) -> None:
        if isinstance(event, events.StepStarted) and event.step == 1:
            # As it does when its operator stops it: a newer record, and nobody holds it.
            held.record(Restored(commit=held.manifest.head, change=change(boot_id=boot_id())))
            held.close()

    jobs.reporter = Watcher(watch)
    assert codes_of(run_all(jobs)) == {"held": 75, "fine": 0}


def test_a_job_that_can_not_be_read_is_told_and_the_others_go_on(jobs: Jobs) -> None:
    jobs.create("broken")
    jobs.create("fine")
    jobs.store.paths("broken").manifest.write_text("{")
    result = run_all(jobs)
    assert codes_of(result) == {"fine": 0, "broken": 78}
    assert ends_of(result)["broken"].status is None
    assert "--repair" in ends_of(result)["broken"].next


def test_a_job_whose_folder_goes_away_under_it_has_no_state_any_more_and_the_others_go_on(jobs: Jobs) -> None:
    jobs.create("gone", worker=f"mv {jobs.store.paths('gone').root} {jobs.root}/elsewhere", priority=1)
    jobs.create("fine")
    result = run_all(jobs)
    assert codes_of(result) == {"gone": 1, "fine": 0}
    assert ends_of(result)["gone"].status is None
    assert "was moved, replaced or deleted" in ends_of(result)["gone"].why


def test_a_named_job_that_goes_away_before_its_turn_is_not_passed_over_in_silence(jobs: Jobs) -> None:
    jobs.create("first", worker=f"mv {jobs.store.paths('second').root} {jobs.root}/elsewhere", priority=1)
    jobs.create("second")
    result = run_all(jobs, "first", "second")
    assert codes_of(result) == {"first": 0, "second": 2}
    assert ends_of(result)["second"].status is None
    assert result.exit_code is ExitCode.USAGE


# --- What changes meanwhile ----------------------------------------------------------------------------------------


def test_a_job_that_is_made_meanwhile_is_run_too(jobs: Jobs) -> None:
    def watch(event: Event) -> None:
        if isinstance(event, events.StepStarted) and "late" not in jobs.store.ids():
            jobs.create("late")

    jobs.reporter = Watcher(watch)
    jobs.create("early")
    assert codes_of(run_all(jobs)) == {"early": 0, "late": 0}


def test_a_job_that_a_human_answers_meanwhile_is_run_on(jobs: Jobs, tmp_path: Path) -> None:
    def watch(event: Event) -> None:
        if isinstance(event, events.StepStarted) and event.job_id == "other" and event.step == 1:
            (tmp_path / "answer").touch()
            resolve_retry(jobs.runtime, "asks", message="go on")

    jobs.reporter = Watcher(watch)
    jobs.create("asks", worker=f"test -e {tmp_path}/answer", budget=Budget(retries=0), priority=1)
    jobs.create("other")
    result = run_all(jobs)
    assert codes_of(result) == {"other": 0, "asks": 0}
    assert ends_of(result)["asks"].steps == jobs.store.load("asks").step == 3


def test_a_job_that_is_paused_stays_paused(jobs: Jobs) -> None:
    def watch(event: Event) -> None:
        if isinstance(event, events.StepStarted) and event.job_id == "paused":
            request(jobs.store.paths("paused"), "pause", "lunch", jobs.clock.now())

    jobs.reporter = Watcher(watch)
    jobs.create("paused", priority=1)
    jobs.create("fine")
    result = run_all(jobs)
    assert codes_of(result) == {"paused": 143, "fine": 0}
    assert jobs.store.load("paused").step == 1
    assert result.exit_code is ExitCode.TERMINATED


def test_after_a_request_to_stop_no_job_begins(jobs: Jobs) -> None:
    def watch(event: Event) -> None:
        if isinstance(event, events.StepStarted):
            jobs.stop.ask(ExitCode.INTERRUPTED)

    jobs.reporter = Watcher(watch)
    for job_id in ("a", "b"):
        jobs.create(job_id)
    result = run_all(jobs)
    assert codes_of(result) == {"a": 130, "b": 130}
    assert (jobs.store.load("a").step, jobs.store.load("b").step) == (1, 0)
    assert "not begun" in ends_of(result)["b"].why
    jobs.reporter = MemoryReporter()
    assert codes_of(run_all(jobs)) == {"a": 0, "b": 0}


def test_an_interrupt_of_a_caller_without_a_stop_switch_ends_what_runs(jobs: Jobs, tmp_path: Path) -> None:
    heard: list[Event] = []

    def watch(event: Event) -> None:
        if isinstance(event, events.OutputReceived) and not heard:
            heard.append(event)
            os.kill(os.getpid(), signal.SIGINT)

    jobs.reporter = Watcher(watch)
    jobs.create(worker=f"echo $$ > {tmp_path}/pid; echo ready; exec sleep 300")
    with pytest.raises(KeyboardInterrupt):
        run_all(jobs)
    manifest = jobs.store.load("job")
    assert (manifest.status, manifest.step) == (JobStatus.PENDING, 0)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_job_that_someone_else_has_ended_first_is_none_of_this_run(jobs: Jobs) -> None:
    class Slow(JobStore):
        """Someone cancels the job between the look at it and its run."""

        def open(self, job_id: str, *, command: str) -> OpenJob:
            if command == "run" and job_id == "quick":
                cancel_at_rest(self.paths(job_id), "not needed", jobs.clock.now())
            return super().open(job_id, command=command)

    jobs.store = Slow(jobs.store.jobs_dir, jobs.clock)
    jobs.create("quick")
    jobs.create("other")
    assert codes_of(run_all(jobs)) == {"other": 0}
    assert codes_of(run_all(jobs, "quick")) == {"quick": 4}


# --- Named jobs ----------------------------------------------------------------------------------------------------


def test_only_the_named_jobs_are_run_and_what_is_done_counts_as_done(jobs: Jobs) -> None:
    for job_id in ("done", "named", "other"):
        jobs.create(job_id)
    jobs.create("stuck", worker="false", budget=ONE_STEP)
    assert codes_of(run_all(jobs, "done")) == {"done": 0}
    assert codes_of(run_all(jobs, "stuck")) == {"stuck": 3}
    result = run_all(jobs, "done", "named", "stuck")
    assert codes_of(result) == {"named": 0, "done": 0, "stuck": 3}
    assert jobs.store.load("other").status is JobStatus.PENDING


# --- The exit code -------------------------------------------------------------------------------------------------


def test_every_exit_code_of_a_job_has_its_place_among_the_others() -> None:
    assert sorted(WORST_FIRST) == sorted(ExitCode)
    assert WORST_FIRST[-1] is ExitCode.SUCCESS
