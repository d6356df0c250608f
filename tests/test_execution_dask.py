"""The adapter `dask` on real schedulers and workers, which are killed, stopped and restarted."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed", reason="the extra dask is not installed")

import dask_hosts
from dask_hosts import PATIENCE, Farm, Relay, farm, kill, wait_until
from specs import counted, runs, spec, text_spec, write_spec

from logist import job_executor
from logist.chunk_options import ExecutionOptions
from logist.chunks import ChunkEvent, Notice, RunReport
from logist.errors import ExtraMissing, LogistError, PlaceUnavailable, UsageProblem
from logist.execution import Command, CommandResult, Ended, WorkerAdapter
from logist.execution.adapters import open_adapter
from logist.execution.dask import cluster, session
from logist.job_executor import JobExecutor
from logist.models.job_spec import RenderJobSpec
from logist.testing.adapter_contract import AdapterContract, MakeAdapter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

#: Says that it runs, and does so for long.
ENDLESS = "echo $$ > pid.$LOGIST_CHUNK; echo working; exec sleep 600"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm that no test harms."""
    with farm(tmp_path_factory.mktemp("farm")) as started:
        yield started


class TestDask(AdapterContract):
    """What every adapter promises."""

    exact_environment = False

    @pytest.fixture
    def make_adapter(self, running: Farm) -> MakeAdapter:
        """One with a connection of its own."""

        def make() -> WorkerAdapter:
            return open_adapter("dask", {"scheduler": running.address})

        return make


def shell(folder: Path, line: str, **env: str) -> Command:
    return Command(cwd=folder, env=env, shell=line, one_stream=True)


def in_background(adapter: WorkerAdapter, command: Command, **options: Any) -> Callable[[], CommandResult]:
    """Start a command in a thread; what is returned waits for its result."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(lambda: adapter.run(command, **options))
    pool.shutdown(wait=False)
    return lambda: future.result(PATIENCE)


def pid_in(path: Path) -> int:
    """The process that wrote its number there."""
    wait_until(lambda: path.exists() and path.read_text().strip(), f"{path} was not written")
    return int(path.read_text())


def is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def await_death(pid: int) -> None:
    wait_until(lambda: is_dead(pid), f"process {pid} lives on")


def adapter_of(started: Farm, **options: str) -> AbstractContextManager[WorkerAdapter]:
    """One that is closed at the end."""
    return closing(open_adapter("dask", {"scheduler": started.address, **options}))


def open_and_run(folder: Path, options: dict[str, str]) -> CommandResult:
    with closing(open_adapter("dask", options)) as adapter:
        return adapter.run(shell(folder, "true"))


def execute(adapter: WorkerAdapter, folder: Path, content: dict[str, Any], **options: Any) -> RunReport:
    return JobExecutor(adapter).execute(
        RenderJobSpec.model_validate(content), ExecutionOptions(job_dir=folder, **options)
    )


# --- What an operator says ---

WRONG = {
    "unknown": {"speed": "9"},
    "both": {"scheduler": "tcp://127.0.0.1:1", "cluster": "a:B"},
    "no address": {"scheduler": "127.0.0.1:8786"},
    "no path": {"cluster": "SLURMCluster:"},
    "no module": {"cluster": "no.such.module:Cluster"},
    "no class": {"cluster": "distributed:NoSuchCluster"},
    "no cluster": {"cluster": "os:getenv", "cluster-options": '{"key": "HOME"}'},
    "options of nothing": {"cluster-options": "{}"},
    "options not JSON": {"cluster": "distributed:LocalCluster", "cluster-options": "[1]"},
    "a key for no TLS": {"scheduler": "tcp://127.0.0.1:1", "tls-key": "key.pem"},
    "a key that is not there": {"scheduler": "tls://127.0.0.1:1", "tls-key": "no/such/key.pem"},
    "a resource of nothing": {"resources": "GPU"},
    "a resource below nothing": {"resources": "GPU=-1"},
    "a time that is none": {"connect-timeout": "soon"},
    "a fence too low": {"fence": "0.1"},
    "a fence too high": {"fence": "1e300"},
}


@pytest.mark.parametrize("options", WRONG.values(), ids=WRONG)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(UsageProblem):
        open_and_run(tmp_path, options)


def test_a_cluster_that_may_cost_something_is_not_started_before_there_is_a_command_for_it(tmp_path: Path) -> None:
    with closing(open_adapter("dask", {"cluster": "dask_hosts:costly_cluster"})) as adapter:
        adapter.prepare(4)
        assert dask_hosts.paid == []
        with pytest.raises(PlaceUnavailable, match="no money"):
            adapter.run(shell(tmp_path, "true"))
    assert len(dask_hosts.paid) == 1


def test_chunks_that_no_worker_takes_are_told_and_one_ctrl_c_ends_them(
    running: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_LONG", 0.5)
    told: list[str] = []

    def tell(event: ChunkEvent) -> None:
        if isinstance(event, Notice):
            told.append(event.message)

    with adapter_of(running, resources="TPU=1") as adapter:
        report = execute(
            adapter,
            tmp_path,
            text_spec(3),
            concurrency=2,
            on_progress=tell,
            drain=lambda: "the operator said so" if told else None,
        )
    assert told == [
        f"the Dask cluster has {len(running.workers)} workers, and none of them takes a command now (wanted: TPU=1)"
    ]
    assert report.status == "PENDING"
    assert not list(tmp_path.glob("out.*"))


def test_what_a_worker_has_begun_is_finished_when_a_run_drains_and_what_waits_is_not_begun(tmp_path: Path) -> None:
    with farm(tmp_path / "farm", threads=1) as one, adapter_of(one) as adapter:
        report = execute(
            adapter,
            tmp_path,
            spec(["touch begun.$LOGIST_CHUNK; sleep 1; echo done > out.$LOGIST_CHUNK"] * 4),
            concurrency=4,
            drain=lambda: "the operator said so" if list(tmp_path.glob("begun.*")) else None,
        )
    assert report.status == "PENDING"
    assert len(list(tmp_path.glob("begun.*"))) == len(list(tmp_path.glob("out.*"))) == 1


def test_without_a_scheduler_there_is_one_clear_error_in_time(tmp_path: Path) -> None:
    options = {"scheduler": "tcp://127.0.0.1:9", "connect-timeout": "0.5"}
    with closing(open_adapter("dask", options)) as adapter:
        for _ in range(2):
            with pytest.raises(LogistError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:9"):
                adapter.run(shell(tmp_path, "true"))


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing) as caught:
        open_adapter("dask", {})
    assert caught.value.hint == "pip install 'logist[dask]'"


def logist(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`logist job run job.json` in a process of its own: a cluster that Dask starts here changes its environment."""
    line = [sys.executable, "-m", "logist", "job", "run", "job.json", "--adapter", "dask", *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, check=False, text=True, timeout=PATIENCE)


def test_a_cluster_class_is_started_scaled_and_ended(tmp_path: Path) -> None:
    options = {"n_workers": 0, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    write_spec(tmp_path, spec(["echo $PPID > warden"]))
    done = logist(
        tmp_path,
        *("--cluster", "distributed:LocalCluster"),
        *("--adapter-option", f"cluster-options={json.dumps(options)}"),
    )
    assert done.returncode == 0, done.stderr
    await_death(int((tmp_path / "warden").read_text()))


def test_a_cluster_that_can_not_be_started_is_an_error(tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(1))
    wrong = 'cluster-options={"n_workers": "many"}'
    done = logist(tmp_path, "--cluster", "distributed:LocalCluster", "--adapter-option", wrong)
    assert "distributed:LocalCluster can't be started" in done.stderr
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)


def test_of_the_environment_only_what_is_meant_for_the_command_travels(
    running: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SECRET", "NAMED", "LOGIST_OWN"):
        monkeypatch.setenv(name, "here")
    command = Command(cwd=tmp_path, env={**os.environ, "SET": "for it"}, argv=("env",))
    with closing(open_adapter("dask", {"scheduler": running.address, "env": "NAMED,ABSENT"})) as adapter:
        seen = dict(line.split("=", 1) for line in adapter.run(command).stdout.kept.decode().splitlines())
    assert {name: seen.get(name) for name in ("SECRET", "NAMED", "ABSENT", "LOGIST_OWN", "SET")} == {
        "SECRET": None,
        "NAMED": "here",
        "ABSENT": None,
        "LOGIST_OWN": "here",
        "SET": "for it",
    }


def test_a_missing_folder_is_named_with_the_way_out(running: Farm, tmp_path: Path) -> None:
    result = open_and_run(tmp_path / "not-shared", {"scheduler": running.address})
    assert result.ended is Ended.NOT_STARTED
    assert str(tmp_path / "not-shared") in result.detail
    assert "--storage" in result.detail


@pytest.mark.slow
def test_workers_are_chosen_by_name_and_by_resources(tmp_path: Path) -> None:
    with farm(tmp_path / "farm", workers=0) as started:
        started.start_worker("plain", environ={"WHO": "plain"})
        started.start_worker("gpu", "--resources", "GPU=1", environ={"WHO": "gpu"})
        for options, expected in (({"workers": "plain"}, b"plain\n"), ({"resources": "GPU=1"}, b"gpu\n")):
            with closing(open_adapter("dask", {"scheduler": started.address, **options})) as adapter:
                assert [adapter.run(shell(tmp_path, "echo $WHO")).stdout.kept for _ in range(3)] == [expected] * 3
        # Both need the one that there is: neither sees the other.
        alone = "mkdir alone && sleep 0.2 && rmdir alone"
        with closing(open_adapter("dask", {"scheduler": started.address, "resources": "GPU=1"})) as adapter:
            ends = [in_background(adapter, shell(tmp_path, alone)) for _ in range(3)]
            assert [end().exit_code for end in ends] == [0, 0, 0]


def test_a_worker_of_another_version_is_refused(running: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "__version__", "99.0")
    with pytest.raises(LogistError, match=r"has Logist .*, and this is 99\.0"):
        open_and_run(tmp_path, {"scheduler": running.address})


@pytest.mark.slow
def test_a_worker_without_logist_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "stub" / "logist").mkdir(parents=True)
    (tmp_path / "stub" / "logist" / "__init__.py").write_text('raise ImportError("no Logist here")\n')
    with farm(tmp_path / "farm", workers=0) as started:
        started.start_worker("bare", environ={"PYTHONPATH": str(tmp_path / "stub")})
        with pytest.raises(LogistError, match="The Dask workers can't load Logist"):
            open_and_run(tmp_path, {"scheduler": started.address})


# --- What is lost is given to another worker, and nothing runs twice ---


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_executor, "BACKOFF_START", 0.01)
    monkeypatch.setattr(job_executor, "BACKOFF_LIMIT", 0.05)


@pytest.mark.parametrize("held", [False, True], ids=["at once", "held"])
def test_a_killed_worker_is_a_lost_command_and_dask_does_not_run_it_again(tmp_path: Path, held: bool) -> None:
    hook: dict[str, Any] = {"on_started": lambda process: None} if held else {}
    with farm(tmp_path / "farm", workers=0) as started, adapter_of(started, fence="2") as adapter:
        first = started.start_worker("first")
        heard = threading.Event()
        line = "echo $$ >> pids; echo working; exec sleep 600"
        end = in_background(adapter, shell(tmp_path, line), on_output=lambda *_: heard.set(), **hook)
        assert heard.wait(PATIENCE)
        started.start_worker("second")
        kill(first)
        result = end()
        assert (result.ended, result.exit_code, result.stdout.kept) == (Ended.LOST, None, b"working\n")
        pids = (tmp_path / "pids").read_text().split()
        # A held one needs leave to begin, and it was given once.
        assert len(pids) == 1 or not held
        for pid in pids:
            await_death(int(pid))
        # The connection is as good as before.
        assert adapter.run(shell(tmp_path, "echo on")).stdout.kept == b"on\n"


def test_a_command_is_lost_with_the_only_worker_and_nobody_waits_for_another(tmp_path: Path) -> None:
    heard = threading.Event()
    with farm(tmp_path / "farm") as started, adapter_of(started) as adapter:
        end = in_background(adapter, shell(tmp_path, ENDLESS), on_output=lambda *_: heard.set())
        assert heard.wait(PATIENCE)
        kill(started.workers[0])
        result = end()
    assert (result.ended, "went away" in result.detail) == (Ended.LOST, True)


@pytest.mark.usefixtures("short_waits")
def test_the_chunks_of_a_killed_worker_go_to_another_one_and_no_retry_is_spent(tmp_path: Path) -> None:
    content = text_spec(4)
    for chunk in content["chunks"][:2]:
        # The first try never ends.
        chunk["command"] += f"; test $(wc -l < runs.{chunk['id']}) -gt 1 || {{ echo working; exec sleep 600; }}"
    heard = {0: threading.Event(), 1: threading.Event()}
    with farm(tmp_path / "farm", workers=0) as started:
        first = started.start_worker("first", threads=2)

        def kill_once() -> None:
            # Once both were heard of: what nobody has seen begin, Dask may begin again.
            assert all(event.wait(PATIENCE) for event in heard.values())
            started.start_worker("second", threads=2)
            kill(first)

        killer = threading.Thread(target=kill_once)
        killer.start()
        with closing(open_adapter("dask", {"scheduler": started.address})) as adapter:
            report = execute(
                adapter, tmp_path, content, concurrency=2, retries=0, on_output=lambda chunk, _: heard[chunk].set()
            )
        killer.join()
    assert (report.status, report.failed) == ("SUCCESS", ())
    assert (tmp_path / "all.txt").read_text() == "".join(f"chunk {number}\n" for number in range(4))
    assert [runs(tmp_path, number) for number in (2, 3)] == [1, 1]


@pytest.mark.slow
def test_a_worker_that_is_told_to_close_ends_its_command_at_once(tmp_path: Path) -> None:
    heard = threading.Event()
    with farm(tmp_path / "farm") as started, adapter_of(started) as adapter:
        end = in_background(adapter, shell(tmp_path, ENDLESS, LOGIST_CHUNK="0"), on_output=lambda *_: heard.set())
        assert heard.wait(PATIENCE)
        pid = pid_in(tmp_path / "pid.0")
        started.workers[0].send_signal(signal.SIGTERM)
        await_death(pid)
        started.start_worker("next")
        assert end().ended is Ended.LOST


def test_a_worker_that_nobody_visits_ends_its_command_within_the_fence(tmp_path: Path) -> None:
    with farm(tmp_path / "farm") as started, adapter_of(started, fence="2") as adapter:
        end = in_background(adapter, shell(tmp_path, ENDLESS, LOGIST_CHUNK="0"))
        pid = pid_in(tmp_path / "pid.0")
        # As a cut link does: nobody hears of anybody, and no connection breaks.
        started.scheduler.send_signal(signal.SIGSTOP)
        await_death(pid)
        started.scheduler.send_signal(signal.SIGCONT)
        result = end()
    assert (result.ended, "had not heard of its submitter for 2 s" in result.detail) == (Ended.LOST, True)


@pytest.mark.slow
def test_a_command_is_lost_only_when_it_has_ended_though_the_scheduler_never_heard_of_the_cut(tmp_path: Path) -> None:
    with farm(tmp_path / "farm") as started, closing(Relay(started.port)) as relay:
        options = {"scheduler": relay.address, "fence": "4"}
        with closing(open_adapter("dask", options)) as adapter:
            seen = threading.Event()
            result = in_background(adapter, shell(tmp_path, ENDLESS), on_output=lambda *_: seen.set())
            pid = pid_in(tmp_path / "pid.")
            # It was visited.
            assert seen.wait(PATIENCE)
            relay.cut()
            assert result().ended is Ended.LOST
            assert is_dead(pid)


@pytest.mark.usefixtures("short_waits")
@pytest.mark.slow
def test_a_run_outlives_its_scheduler(tmp_path: Path) -> None:
    line = "test $(wc -l < runs.0) -gt 1 || exec sleep 600"
    with farm(tmp_path / "farm") as started:

        def restart_once() -> None:
            wait_until(lambda: runs(tmp_path, 0), "the chunk did not begin")
            kill(started.scheduler)
            started.start_scheduler()
            started.start_worker("next")

        restarter = threading.Thread(target=restart_once)
        restarter.start()
        with closing(open_adapter("dask", {"scheduler": started.address, "fence": "2"})) as adapter:
            report = execute(adapter, tmp_path, spec([counted(0, line), counted(1, "true")]), retries=0)
        restarter.join()
    assert (report.status, report.failed) == ("SUCCESS", ())
    assert [runs(tmp_path, number) for number in range(2)] == [2, 1]


SUBMITTER = """
import sys
from pathlib import Path
from logist.execution import Command
from logist.execution.adapters import open_adapter
adapter = open_adapter("dask", {"scheduler": sys.argv[1]})
adapter.run(Command(cwd=Path.cwd(), env={"LOGIST_CHUNK": "0"}, shell=sys.argv[2]))
"""


def test_nothing_lives_on_when_the_submitter_is_killed(running: Farm, tmp_path: Path) -> None:
    line = "setsid sleep 601 & " + ENDLESS
    submitter = subprocess.Popen([sys.executable, "-c", SUBMITTER, running.address, line], cwd=tmp_path)
    try:
        pid = pid_in(tmp_path / "pid.0")
    finally:
        kill(submitter)
    await_death(pid)
    wait_until(lambda: not _in_folder(tmp_path), "something that the command started lives on")


def _in_folder(folder: Path) -> list[Path]:
    """The processes whose folder that is."""

    def folder_of(process: Path) -> str:
        try:
            return str((process / "cwd").readlink())
        except OSError:
            return ""

    return [process for process in Path("/proc").glob("[0-9]*") if folder_of(process) == str(folder)]


def test_a_command_that_waits_for_a_worker_can_be_canceled(tmp_path: Path) -> None:
    with farm(tmp_path / "farm", threads=1) as started, adapter_of(started) as adapter:
        stop = threading.Event()
        busy = in_background(
            adapter, shell(tmp_path, ENDLESS, LOGIST_CHUNK="0"), cancel=lambda: "enough" if stop.is_set() else None
        )
        pid_in(tmp_path / "pid.0")
        ends = []
        for patience in (1, 20):
            asked = iter([None] * patience)
            queued = shell(tmp_path, "touch began")
            ends.append(in_background(adapter, queued, cancel=lambda asked=asked: next(asked, "not wanted")))
        assert [(end().ended, end().detail) for end in ends] == [(Ended.CANCELED, "not wanted")] * 2
        stop.set()
        assert busy().ended is Ended.CANCELED
    assert not (tmp_path / "began").exists()


@pytest.mark.slow
def test_a_request_to_stop_is_heard_though_the_scheduler_is_not(tmp_path: Path) -> None:
    stop, heard = threading.Event(), threading.Event()
    with farm(tmp_path / "farm") as started, adapter_of(started, fence="2") as adapter:
        end = in_background(
            adapter,
            shell(tmp_path, ENDLESS, LOGIST_CHUNK="0"),
            cancel=lambda: "enough" if stop.is_set() else None,
            on_output=lambda *_: heard.set(),
        )
        assert heard.wait(PATIENCE)
        started.scheduler.send_signal(signal.SIGSTOP)
        stop.set()
        result = end()
        await_death(pid_in(tmp_path / "pid.0"))
        started.scheduler.send_signal(signal.SIGCONT)
    assert (result.ended, result.detail) == (Ended.CANCELED, "enough")


def test_a_request_to_stop_is_heard_while_the_connection_is_made(tmp_path: Path) -> None:
    # Takes connections and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = {"scheduler": f"tcp://127.0.0.1:{silent.getsockname()[1]}", "connect-timeout": "600"}
        with closing(open_adapter("dask", options)) as adapter:
            asked = iter([None, None])
            result = adapter.run(shell(tmp_path, "true"), cancel=lambda: next(asked, "enough"))
    assert (result.ended, result.detail) == (Ended.CANCELED, "enough")


def test_output_that_nobody_reads_in_time_is_left_out_of_the_stream_and_not_of_the_log(
    running: Farm, tmp_path: Path
) -> None:
    total = 30_000_000
    log = tmp_path / "out.log"
    command = Command(
        cwd=tmp_path,
        env={},
        shell=f"yes 0123456 | head -c {total}",
        one_stream=True,
        stdout_log=log,
        log_limit=1_000_000,
    )
    heard: list[int] = []
    with closing(open_adapter("dask", {"scheduler": running.address})) as adapter:
        result = adapter.run(command, on_output=lambda _, data: heard.append(len(data)))
    assert result.stdout.total == total
    assert 0 < sum(heard) <= total
    assert log.read_bytes() == result.stdout.kept


def test_the_command_line_runs_a_spec_on_a_cluster_of_its_own_without_a_word_of_dask(tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(3))
    done = logist(tmp_path, "--concurrency", "2")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "all.txt").read_text() == "".join(f"chunk {number}\n" for number in range(3))
    assert "distributed" not in done.stderr
    assert "Warning" not in done.stderr


def test_a_scheduler_or_a_cluster_can_be_named_on_the_command_line(running: Farm, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(2))
    named = logist(tmp_path, "--scheduler", running.address, "--concurrency", "2")
    assert (named.returncode, runs(tmp_path, 0)) == (0, 1)
    both = logist(tmp_path, "--scheduler", running.address, "--cluster", "a:B")
    assert (both.returncode, "exclude each other" in both.stderr) == (2, True)
    twice = logist(tmp_path, "--scheduler", running.address, "--adapter-option", "scheduler=tcp://a:1")
    assert (twice.returncode, "twice" in twice.stderr) == (2, True)
    elsewhere = logist(tmp_path, "--adapter", "local", "--scheduler", running.address)
    assert (elsewhere.returncode, "has no option 'scheduler'" in elsewhere.stderr) == (2, True)


JOB = """
objective = "a text that says which worker wrote it"
[[phases]]
name = "render"
kind = "render"
spec = "job.json"
adapter = "dask"
adapter_options = { scheduler = "SCHEDULER", connect-timeout = "0.5" }
"""


@pytest.mark.parametrize("there", [True, False], ids=["a scheduler", "no scheduler"])
def test_a_phase_that_is_a_render_runs_its_chunks_on_a_cluster(running: Farm, tmp_path: Path, there: bool) -> None:
    film = tmp_path / "film"
    film.mkdir()
    write_spec(film, spec(["echo $WHO > who.txt"], outputs=["who.txt"]))
    scheduler = running.address if there else "tcp://127.0.0.1:9"
    (tmp_path / "job.toml").write_text(JOB.replace("SCHEDULER", scheduler).replace('supervisor = "command:true"\n', ""))

    def job(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "logist", "job", *arguments]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, check=False, text=True, timeout=PATIENCE)

    created = job("create", "film", "--from", "job.toml", "--supervisor", "command:true", "--id", "film")
    assert created.returncode == 0, created.stderr
    done = job("run", "film")
    if there:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / ".logist/jobs/film/workspace/who.txt").read_text() == "w0\n"
    else:
        assert (done.returncode, "No Dask scheduler answers" in done.stderr) == (3, True)
