"""Jobs whose steps run on the workers of a Dask cluster, and runners of them that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="the extra dask is not installed")

from dask_hosts import PATIENCE, Farm, Relay, farm, wait_until
from jobs import Jobs, say

from logist import job_recovery
from logist.errors import ExitCode, PlaceUnavailable
from logist.events import Notice
from logist.execution import Command, Ended
from logist.execution.adapters import open_adapter_of_jobs
from logist.job_processor import run_job
from logist.lifecycle import JobStatus
from logist.models.history import AttemptFailed
from logist.models.manifest import Check, ReasonCode, RoleSettings
from logist.processes import start_time
from logist.stop_switch import StopSwitch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

LOGIST = (sys.executable, "-m", "logist")
#: Set for the workers; the runners have other values of the first two, and none of the third.
THERE = {"PATH": "/usr/bin:/bin", "KEY": "of the worker", "ONLY_THERE": "given", "SECRET": "of the worker, too"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with farm(tmp_path_factory.mktemp("farm"), workers=0) as started:
        started.start_worker("there", threads=4, environ=THERE)
        yield started


@pytest.fixture
def jobs(tmp_path: Path, running: Farm) -> Iterator[Jobs]:
    adapter = open_adapter_of_jobs("dask", {"scheduler": running.address, "fence": "2"})
    made = Jobs(tmp_path / "work", adapter=adapter)
    yield made
    made.close()


def notices(jobs: Jobs) -> str:
    return "\n".join(event.message for event in jobs.reporter.events if isinstance(event, Notice))


def test_a_job_reaches_its_verdict_with_its_steps_and_checks_on_the_workers(jobs: Jobs, running: Farm) -> None:
    ancestors = "p=$$; while [ $p -gt 1 ]; do echo $p; p=$(awk '/^PPid/ { print $2 }' /proc/$p/status); done"
    jobs.create(
        worker=f"echo working; ( {ancestors} ) > ancestors; {say('COMPLETED')}",
        supervisor=say("COMPLETED"),
        checks=[Check(name="there", command=f"( {ancestors} ) | grep -qx {running.workers[0].pid}")],
    )
    jobs.run_to(ExitCode.SUCCESS)
    assert str(running.workers[0].pid) in (jobs.workspace() / "ancestors").read_text().split()
    assert jobs.evidence_steps() == [1, 2]
    assert "working\n" in (jobs.store.paths("job").step_dir(1, "worker", 1) / "stdout.log").read_text()


def test_an_agent_has_the_variables_of_its_place_that_are_passed_on_and_no_others(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "of the runner")
    monkeypatch.setenv("RUNNERS_OWN", "kept at home")
    env = ("KEY", "ONLY_THERE", "RUNNERS_OWN")
    worker = RoleSettings(agent="command", argument=f"env -0 > seen; {say('COMPLETED')}", env=env)
    jobs.create(worker=worker, supervisor=say("COMPLETED"))
    jobs.run_to(ExitCode.SUCCESS)
    lines = (jobs.workspace() / "seen").read_text().split("\0")
    seen = dict(line.split("=", 1) for line in lines if line)
    assert {name: seen.get(name) for name in THERE} == {**THERE, "SECRET": None}
    assert "RUNNERS_OWN" not in seen
    assert seen["LOGIST_ROLE"] == "worker"


def test_a_program_is_missing_only_where_it_would_run(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is there for the runner, and not on the workers.
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    jobs.create(worker=RoleSettings(agent="claude"), supervisor=say("COMPLETED"))
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert "there is no program claude" in manifest.reason.sentence


@pytest.fixture
def relay(running: Farm) -> Iterator[Relay]:
    """A way to the cluster that does not tell it that a runner died."""
    with closing(Relay(running.port)) as made:
        yield made


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster is on other machines: what runs there can't be found here."""
    monkeypatch.setattr(job_recovery, "kill_leftovers", lambda *_, **__: 0)


def killed_at_work(jobs: Jobs, relay: Relay, folder: Path) -> int:
    """Have a job's runner killed while its worker works; the worker's process, which still lives."""
    pid = folder / "pid"
    # The first attempt leaves its process; another one says whether that still lives.
    first = f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600"
    again = f"kill -0 $(cat {pid}) 2> /dev/null && echo alive > outcome || echo dead > outcome; {say('COMPLETED')}"
    line = f"trap '' HUP TERM; if [ -e {pid} ]; then {again}; else {first}; fi"
    jobs.create(worker=line, supervisor=say("COMPLETED"))
    options = ["--adapter", "dask", "--scheduler", relay.address, "--adapter-option", "fence=2"]
    runner = subprocess.Popen(
        [sys.executable, "-m", "logist", "--jobs-dir", str(jobs.root / "jobs"), "job", "run", "job", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(pid.exists, "the worker did not begin")
    finally:
        runner.send_signal(signal.SIGKILL)
        runner.wait()
    process = int(pid.read_text())
    assert start_time(process) is not None
    return process


@pytest.mark.usefixtures("far_away")
def test_a_run_after_a_killed_one_waits_until_nothing_of_it_lives_elsewhere(
    jobs: Jobs, relay: Relay, tmp_path: Path
) -> None:
    process = killed_at_work(jobs, relay, tmp_path)
    assert jobs.store.load("job").status is JobStatus.RUNNING
    here = Jobs(jobs.root)
    here.run_to(ExitCode.SUCCESS)
    here.close()
    assert (jobs.workspace() / "outcome").read_text() == "dead\n"
    assert start_time(process) is None
    assert "all that it had elsewhere has ended in 5s: waiting" in notices(here)
    assert [record.kind for record in jobs.records() if isinstance(record, AttemptFailed)] == ["lost"]


@pytest.mark.usefixtures("far_away")
def test_a_run_that_is_stopped_while_it_waits_leaves_that_to_the_next(jobs: Jobs, relay: Relay, tmp_path: Path) -> None:
    killed_at_work(jobs, relay, tmp_path)
    stop = StopSwitch()
    stop.ask(ExitCode.INTERRUPTED)
    result = run_job(replace(jobs.runtime, stop=stop), "job")
    assert (result.exit_code, result.manifest.status) == (ExitCode.INTERRUPTED, JobStatus.RUNNING)
    assert result.manifest.fence == 5
    jobs.run_to(ExitCode.SUCCESS)
    assert (jobs.workspace() / "outcome").read_text() == "dead\n"
    here = Jobs(jobs.root)
    here.create("other", worker=say("COMPLETED"), supervisor=say("COMPLETED"))
    assert here.run_to(ExitCode.SUCCESS, "other").fence == 0
    here.close()


def test_all_jobs_of_a_folder_run_on_a_cluster_at_a_time(jobs: Jobs, running: Farm) -> None:
    # Each waits until all three have begun.
    met = f"cd {jobs.root}; touch $LOGIST_JOB_ID.begun; until [ $(ls *.begun | wc -l) = 3 ]; do sleep 0.05; done"
    for name in ("one", "two", "three"):
        jobs.create(name, worker=f"{met}; {say('COMPLETED')}", supervisor=say("COMPLETED"))
    options = ["--concurrency", "3", "--adapter", "dask", "--adapter-option", f"scheduler={running.address}"]
    done = subprocess.run(
        [sys.executable, "-m", "logist", "--jobs-dir", str(jobs.root / "jobs"), "run", "--all", "--json", *options],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert {job["job_id"]: job["status"] for job in last["jobs"]} == dict.fromkeys(("one", "two", "three"), "SUCCESS")


def of_two(tmp_path: Path, running: Farm) -> Jobs:
    """Jobs for a farm of two workers."""
    for name in ("one", "two"):
        running.start_worker(name)
    return Jobs(tmp_path / "work", adapter=open_adapter_of_jobs("dask", {"scheduler": running.address, "fence": "2"}))


def end_the_worker_of(pid: Path, running: Farm, number: signal.Signals) -> None:
    """Send a signal to the worker below which a command runs that has left its process id in a file."""
    wait_until(pid.exists, "it did not begin")
    process = int(pid.read_text())
    while process not in [worker.pid for worker in running.workers]:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(process, number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_of_a_lost_attempt_is_in_the_work_of_the_next(tmp_path: Path, number: signal.Signals) -> None:
    pid = tmp_path / "pid"
    leave_pid = f"echo $$ > {pid}.new; mv {pid}.new {pid}"
    first = f"trap '' HUP TERM; {leave_pid}; while :; do echo old >> old.txt; sleep 0.01; done"
    line = f"if [ $LOGIST_ATTEMPT = 1 ]; then {first}; else touch new.txt; {say('COMPLETED')}; fi"
    (tmp_path / "farm").mkdir()
    with closing(Farm(tmp_path / "farm")) as running, closing(of_two(tmp_path, running)) as jobs:
        jobs.create(worker=line, supervisor=say("COMPLETED"))
        ender = threading.Thread(target=end_the_worker_of, args=(pid, running, number))
        ender.start()
        jobs.run_to(ExitCode.SUCCESS)
        ender.join()
    assert [path.name for path in jobs.workspace().glob("*.txt")] == ["new.txt"]
    assert [record.kind for record in jobs.records() if isinstance(record, AttemptFailed)] == ["transient"]


@pytest.mark.slow
def test_a_check_that_was_lost_with_its_worker_is_not_red(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    line = f"test -e {pid} || {{ echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600; }}"
    (tmp_path / "farm").mkdir()
    with closing(Farm(tmp_path / "farm")) as running, closing(of_two(tmp_path, running)) as jobs:
        jobs.create(worker=say("COMPLETED"), supervisor=say("COMPLETED"), checks=[Check(name="sound", command=line)])
        ender = threading.Thread(target=end_the_worker_of, args=(pid, running, signal.SIGKILL))
        ender.start()
        jobs.run_to(ExitCode.SUCCESS)
        ender.join()
    assert jobs.evidence_steps() == [1, 2]


def test_a_run_without_a_scheduler_leaves_the_job_as_it_was(tmp_path: Path) -> None:
    options = {"scheduler": "tcp://127.0.0.1:9", "connect-timeout": "0.2"}
    with closing(Jobs(tmp_path / "work", adapter=open_adapter_of_jobs("dask", options))) as jobs:
        jobs.create(worker=say("COMPLETED"), supervisor=say("COMPLETED"))
        with pytest.raises(PlaceUnavailable, match="No Dask scheduler answers"):
            jobs.run()
        manifest = jobs.store.load("job")
        assert (manifest.status, manifest.reason.code) == (JobStatus.PENDING, ReasonCode.INTERRUPTED)
        assert manifest.spent.steps == 0
    with closing(Jobs(tmp_path / "work")) as here:
        here.run_to(ExitCode.SUCCESS)


def test_a_folder_that_a_worker_does_not_have_is_no_fault_of_a_step(jobs: Jobs, tmp_path: Path) -> None:
    elsewhere = Command(cwd=tmp_path / "elsewhere", env={}, shell="true")
    with pytest.raises(PlaceUnavailable, match="elsewhere is not on the Dask worker"):
        jobs.adapter.run(elsewhere)


@pytest.mark.slow
def test_a_step_that_waits_for_a_worker_can_be_stopped_though_the_scheduler_is_not_heard(tmp_path: Path) -> None:
    begun, enough, too_late = tmp_path / "begun", threading.Event(), threading.Event()
    with (
        farm(tmp_path / "farm", threads=1) as running,
        closing(open_adapter_of_jobs("dask", {"scheduler": running.address, "fence": "2"})) as adapter,
    ):
        busy = Command(cwd=tmp_path, env={}, shell=f"touch {begun}; exec sleep 600")
        stop = {"cancel": lambda: "enough" if enough.is_set() else None}
        other = threading.Thread(target=adapter.run, args=(busy,), kwargs=stop)
        other.start()
        wait_until(begun.exists, "the other step did not begin")
        looks = iter([None] * 5)

        def cancel() -> str | None:
            if next(looks, "enough") is None:
                return None
            running.scheduler.send_signal(signal.SIGSTOP)
            return "enough"

        def rescue() -> None:
            too_late.set()
            running.scheduler.send_signal(signal.SIGCONT)

        rescuer = threading.Timer(PATIENCE, rescue)
        rescuer.start()
        result = adapter.run(Command(cwd=tmp_path, env={}, shell="touch never"), cancel=cancel)
        rescuer.cancel()
        running.scheduler.send_signal(signal.SIGCONT)
        enough.set()
        other.join()
    assert not too_late.is_set()
    assert (result.ended, result.duration) == (Ended.CANCELED, 0.0)
    assert not (tmp_path / "never").exists()


@pytest.mark.slow
def test_ctrl_c_in_the_terminal_lets_a_step_on_a_cluster_of_its_own_end(tmp_path: Path) -> None:
    begun, go_on = tmp_path / "begun", tmp_path / "go-on"
    os.mkfifo(go_on)
    with closing(Jobs(tmp_path / "work")) as jobs:
        jobs.create(worker=f"touch {begun}; cat {go_on}; {say('COMPLETED')}", supervisor=say("COMPLETED"))
        runner = subprocess.Popen(
            [*LOGIST, "--jobs-dir", str(jobs.root / "jobs"), "job", "run", "job", "--adapter", "dask"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            wait_until(begun.exists, "the step did not begin")
            os.killpg(runner.pid, signal.SIGINT)
            assert runner.stderr is not None
            for told in runner.stderr:
                if "stopping after this step" in told:
                    break
            go_on.write_text("now\n")
            said = runner.communicate()[1]
        finally:
            runner.kill()
            runner.wait()
        assert (runner.returncode, "Traceback" in said) == (ExitCode.INTERRUPTED, False)
        assert jobs.evidence_steps() == [1]
