"""The adapter `slurm` on a real Slurm: arrays, their tasks' ends, and what is left when the submitter dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from slurm_site import LARGEST_ARRAY, Site, missing_programs, running_site, until
from specs import counted, runs, spec, text_spec, write_spec

from logist import job_executor
from logist.chunk_options import ExecutionOptions
from logist.chunks import ChunkEvent, ChunkResult, ChunkStatus, Halt, Notice, RunReport
from logist.errors import LogistError, UsageProblem
from logist.execution import CommandResult, Ended
from logist.execution.adapters import open_adapter
from logist.execution.slurm import adapter, watch
from logist.execution.slurm.client import TaskView
from logist.execution.slurm.verdict import judged
from logist.job_executor import JobExecutor
from logist.models.job_spec import RenderJobSpec
from logist.processes import start_time
from logist.testing.adapter_contract import AdapterContract, MakeAdapter


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A Slurm. Without its programs the test is skipped, or fails where LOGIST_REQUIRE_SLURM is set."""
    if missing := missing_programs():
        reason = f"Slurm is not installed ({', '.join(missing)}); scripts/install-slurm.sh does it"
        if os.environ.get("LOGIST_REQUIRE_SLURM"):
            pytest.fail(reason)
        pytest.skip(reason)
    with running_site(tmp_path_factory.mktemp("slurm")) as site:
        yield site


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_executor, "BACKOFF_START", 0.01)
    monkeypatch.setattr(job_executor, "BACKOFF_LIMIT", 0.05)
    monkeypatch.setattr(watch, "QUEUE_PACE", (0.3, 1.0))
    monkeypatch.setattr(watch, "LAG", 0.5)


@pytest.fixture
def slurm_conf(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's programs find the site."""
    monkeypatch.setenv("SLURM_CONF", site.environ["SLURM_CONF"])


class TestContract(AdapterContract):
    """What every adapter promises."""

    pytestmark = pytest.mark.slow
    concurrency = 4
    repetitions = 2
    names_processes = False
    exact_environment = False

    @pytest.fixture
    def make_adapter(self, slurm_conf: None) -> MakeAdapter:
        return lambda: open_adapter("slurm")


class Yard:
    """A folder, a Slurm, and runs of specs in the folder."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.folder = folder
        self.site = site
        self.events: list[ChunkEvent] = []
        self.finished: list[ChunkResult] = []

    def run(
        self, content: dict[str, Any], *, adapter_options: dict[str, str] | None = None, **options: Any
    ) -> RunReport:
        """Run a spec on Slurm."""
        with closing(open_adapter("slurm", adapter_options)) as slurm:
            return JobExecutor(slurm).execute(
                RenderJobSpec.model_validate(content),
                ExecutionOptions(
                    job_dir=self.folder,
                    state_dir=str(self.folder / "state"),
                    on_progress=self.events.append,
                    **options,
                ),
            )

    def start(self, content: dict[str, Any], **options: Any) -> Callable[[], RunReport]:
        """Run a spec meanwhile; what is returned waits for its report."""
        reports: list[RunReport] = []
        thread = threading.Thread(target=lambda: reports.append(self.run(content, **options)))
        thread.start()

        def report() -> RunReport:
            thread.join()
            (only,) = reports
            return only

        return report

    def notices(self) -> list[str]:
        """What the operator was told."""
        return [event.message for event in self.events if isinstance(event, Notice)]

    def has(self, *names: str) -> None:
        """Wait until the files are there."""
        until(lambda: all((self.folder / name).exists() for name in names), ", ".join(names))


@pytest.fixture
def yard(tmp_path: Path, site: Site, slurm_conf: None) -> Iterator[Yard]:
    yield Yard(tmp_path, site)
    try:
        until(lambda: not site.queue(), "the test's jobs to be gone")
    except AssertionError:
        # Of a test that failed half way; the next ones need its nodes.
        site.clear()
        raise


def ends(report: RunReport) -> dict[Any, str]:
    return {result.chunk: result.status.value for result in report.results}


#: A chunk that says that it runs, in which process, and goes on until the test says so.
HELD = (
    "echo $$ > .$LOGIST_CHUNK; mv .$LOGIST_CHUNK pid.$LOGIST_CHUNK;"
    " until [ -e go ]; do sleep 0.05; done; echo made > out.$LOGIST_CHUNK"
)


def held(count: int, **extra: Any) -> dict[str, Any]:
    return spec(
        [counted(number, HELD) for number in range(count)],
        outputs=[f"out.{number}" for number in range(count)],
        merge="cat out.* > all",
        output="all",
        **extra,
    )


def test_chunks_are_arrays_that_run_no_more_at_once_than_asked_and_are_merged(yard: Yard) -> None:
    count = LARGEST_ARRAY + 2
    busy = (
        "mkdir live.$LOGIST_CHUNK; ls -d live.* | wc -l >> together; echo $SLURM_ARRAY_JOB_ID >> jobs;"
        " sleep 0.2; rmdir live.$LOGIST_CHUNK; echo $LOGIST_CHUNK > out.$LOGIST_CHUNK"
    )
    outputs = [f"out.{number}" for number in range(count)]
    content = spec([busy] * count, outputs=outputs, merge=f"cat {' '.join(outputs)} > all", output="all")
    report = yard.run(content, concurrency=3)
    assert report.status == "SUCCESS"
    assert (yard.folder / "all").read_text().split() == [str(number) for number in range(count)]
    assert max(map(int, (yard.folder / "together").read_text().split())) in (2, 3)
    # As few arrays as Slurm allows.
    assert len(set((yard.folder / "jobs").read_text().split())) == 2
    assert not (yard.folder / "state" / "slurm").exists()


def test_a_chunk_that_fails_twice_succeeds_with_two_retries(yard: Yard) -> None:
    content = spec([counted(0, "[ $(wc -l < runs.0) -ge 3 ] || exit 7"), counted(1, "true")])
    report = yard.run(content, retries=2, concurrency=2)
    assert report.status == "SUCCESS"
    assert (runs(yard.folder, 0), runs(yard.folder, 1)) == (3, 1)


def test_a_chunk_that_fails_is_told_with_its_exit_code_and_last_words_and_what_waits_never_starts(yard: Yard) -> None:
    report = yard.run(spec(["echo went wrong >&2; exit 7", *(counted(number, HELD) for number in (1, 2, 3, 4))]))
    assert report.reason == "chunk 0 failed: exit code 7"
    assert report.failed[0].tail == "went wrong\n"
    assert [runs(yard.folder, number) for number in (2, 3, 4)] == [0, 0, 0]


def test_output_comes_while_the_command_runs_and_is_logged_whole(yard: Yard, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    came: list[bytes] = []

    def take(_chunk: object, data: bytes) -> None:
        came.append(data)
        (yard.folder / "go").touch()

    # Without its output nobody would let it end.
    report = yard.run(
        spec(["echo begins; until [ -e go ]; do sleep 0.05; done; seq 30000"]), on_output=take, log_dir=logs
    )
    expected = b"begins\n" + b"".join(b"%d\n" % number for number in range(1, 30001))
    assert report.status == "SUCCESS"
    assert b"".join(came) == expected
    assert (logs / "0.log").read_bytes() == expected


def test_to_cancel_ends_all_that_runs_and_all_that_waits(yard: Yard) -> None:
    asked = threading.Event()
    started = yard.start(
        held(5), concurrency=2, cancel=lambda: "enough" if asked.is_set() else None, environ={**os.environ, "X": "y"}
    )
    yard.has("pid.0", "pid.1")
    asked.set()
    report = started()
    assert (report.status, report.reason) == ("PENDING", "enough")
    pids = [int((yard.folder / f"pid.{number}").read_text()) for number in (0, 1)]
    assert [start_time(pid) for pid in pids] == [None, None]
    assert not yard.site.queue("%i %T", "--states=PENDING,RUNNING")
    assert [runs(yard.folder, number) for number in range(5)] == [1, 1, 0, 0, 0]
    # Nothing says of an output that it is being made.
    assert list(yard.folder.glob(".*unfinished")) == []


def test_to_stop_lets_what_runs_finish_and_nothing_else_start(yard: Yard) -> None:
    asked = threading.Event()
    started = yard.start(held(4), concurrency=2, drain=lambda: "stop" if asked.is_set() else None)
    yard.has("pid.0", "pid.1")
    asked.set()
    until(lambda: len(yard.site.queue()) == 2, "what waits to be canceled")
    (yard.folder / "go").touch()
    report = started()
    assert report.status == "PENDING"
    assert ends(report) == {0: "done", 1: "done"}
    assert [runs(yard.folder, number) for number in range(4)] == [1, 1, 0, 0]


def command_line(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "logist", "job", "run", str(folder / "job.json"), "--adapter", "slurm", *options]


def test_when_the_submitter_was_killed_the_same_command_finds_the_array_again(yard: Yard) -> None:
    write_spec(yard.folder, held(4))
    words = command_line(yard.folder, "--concurrency=2")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as submitter:
        yard.has("pid.0", "pid.1")
        submitter.kill()
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as again:
        assert again.stderr is not None
        told = next((line for line in again.stderr if "go on there" in line), "")
        assert "4 chunk(s)" in told
        (yard.folder / "go").touch()
        rest = again.stderr.read()
    assert again.returncode == 0, rest
    assert [runs(yard.folder, number) for number in range(4)] == [1, 1, 1, 1]
    assert (yard.folder / "all").read_text() == "made\n" * 4


def test_what_a_dead_submitter_left_is_ended_when_it_is_no_longer_wanted(yard: Yard) -> None:
    write_spec(yard.folder, held(3))
    with subprocess.Popen(
        command_line(yard.folder, "--concurrency=2"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as submitter:
        yard.has("pid.0", "pid.1")
        submitter.kill()
    old = [int((yard.folder / f"pid.{number}").read_text()) for number in (0, 1)]
    look = f"for pid in {old[0]} {old[1]}; do kill -0 $pid 2>/dev/null && echo $pid >> alive; done; true"
    write_spec(yard.folder, spec([f"{look}; echo new > out.0"], outputs=["out.0"]))
    again = subprocess.run(command_line(yard.folder), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert not (yard.folder / "alive").exists()
    assert (yard.folder / "out.0").read_text() == "new\n"


def kill_while(words: list[str], there: Callable[[], object]) -> None:
    """Run the command line, and kill it once something is there."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as submitter:
        until(there, "what it is killed at")
        submitter.kill()


def test_a_merge_that_a_dead_submitter_left_has_ended_before_another_one_begins(yard: Yard) -> None:
    merge = "echo $$ > .m; mv .m pid.m; until [ -e go ]; do sleep 0.05; done; echo > all"
    write_spec(yard.folder, spec(["true"], merge=merge, output="all"))
    kill_while(command_line(yard.folder), lambda: any(path.read_text() for path in yard.folder.glob("pid.m")))
    first = int((yard.folder / "pid.m").read_text())
    write_spec(yard.folder, spec(["true"], merge=f"! kill -0 {first} && echo > all", output="all"))
    again = subprocess.run(command_line(yard.folder), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr


def test_no_other_adapter_runs_what_a_dead_submitter_left_to_slurm(yard: Yard, tmp_path: Path) -> None:
    write_spec(yard.folder, held(1))
    spool = ["--adapter-option", f"spool={tmp_path / 'spool'}"]
    words = command_line(yard.folder, *spool)
    kill_while(words, (yard.folder / "pid.0").exists)
    here = subprocess.run([*words[:6], "--adapter", "local"], capture_output=True, text=True, check=False, timeout=60)
    assert "Chunks of an earlier run on slurm may still run there." in here.stderr
    assert runs(yard.folder, 0) == 1
    (yard.folder / "go").touch()
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    assert runs(yard.folder, 0) == 1
    # Nothing of it is left there.
    here = subprocess.run([*words[:6], "--adapter", "local"], capture_output=True, text=True, check=False)
    assert here.returncode == 0, here.stderr


def test_a_run_that_slurm_refused_keeps_no_other_adapter_from_it(yard: Yard) -> None:
    write_spec(yard.folder, spec(["true"]))
    words = command_line(yard.folder, "--adapter-option", "partition=nowhere")
    assert subprocess.run(words, capture_output=True, check=False).returncode != 0
    assert subprocess.run([*words[:6], "--adapter", "local"], capture_output=True, check=False).returncode == 0


def test_an_array_whose_number_was_never_written_down_is_found_by_its_name(yard: Yard) -> None:
    write_spec(yard.folder, held(2))
    words = command_line(yard.folder, "--concurrency=2")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as submitter:
        yard.has("pid.0", "pid.1")
        submitter.kill()
    (record,) = yard.folder.glob(".logist/job.json/slurm/*/array.json")
    record.write_text(record.read_text().replace(yard.site.queue("%F")[0], ""))
    assert '"job":""' in record.read_text()
    (yard.folder / "go").touch()
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    assert [runs(yard.folder, number) for number in range(2)] == [1, 1]


def test_results_that_slurm_has_forgotten_the_array_of_are_taken(yard: Yard) -> None:
    write_spec(yard.folder, held(2))
    words = command_line(yard.folder, "--concurrency=2")
    kill_while(words, lambda: all((yard.folder / f"pid.{number}").exists() for number in range(2)))
    (yard.folder / "go").touch()
    (spool,) = yard.folder.glob(".logist/job.json/slurm/*")
    until(lambda: all((spool / f"{number}.result").exists() for number in range(2)), "both to end")
    # It never knew one of this name. Nor may the number be used: Slurm gives them again.
    forgotten = spool.rename(spool.with_name("logist-forgotten"))
    (forgotten / "array.json").write_text('{"size":2,"job":""}')
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert [runs(yard.folder, number) for number in range(2)] == [1, 1]
    assert not forgotten.exists()


def test_a_task_that_slurm_starts_again_has_one_result_and_burns_no_retry(yard: Yard) -> None:
    # What the first start left half made must not pass for the output.
    command = counted(0, "[ -e out.0 ] && exit 9; echo half > out.0; " + HELD.replace("$LOGIST_CHUNK", "0"))
    started = yard.start(spec([command], outputs=["out.0"]))
    yard.has("pid.0")
    first = int((yard.folder / "pid.0").read_text())
    (job,) = yard.site.queue("%i")
    yard.site.call("scontrol", "requeue", job)
    yard.site.start_again(job)
    until(lambda: runs(yard.folder, 0) == 2, "the second start")
    assert start_time(first) is None
    (yard.folder / "go").touch()
    report = started()
    assert (report.status, ends(report)) == ("SUCCESS", {0: "done"})
    assert (yard.folder / "out.0").read_text() == "made\n"


def test_a_task_that_waits_to_be_started_again_is_out_of_the_queue_when_a_request_to_stop_was_met(yard: Yard) -> None:
    asked = threading.Event()
    started = yard.start(held(1), cancel=lambda: "enough" if asked.is_set() else None)
    yard.has("pid.0")
    (job,) = yard.site.queue("%i")
    yard.site.call("scontrol", "requeue", job)
    until(lambda: yard.site.queue("%T %r") == ["PENDING BeginTime"], "the task to wait again")
    until(lambda: list(yard.folder.glob("state/slurm/*/0.stopped")), "its first start to have been stopped")
    asked.set()
    assert started().status == "PENDING"
    assert yard.site.queue("%i %T") == []


def test_a_task_on_a_node_that_was_given_up_is_ended_when_it_runs_elsewhere(yard: Yard) -> None:
    started = yard.start(held(1))
    yard.has("pid.0")
    first = int((yard.folder / "pid.0").read_text())
    (job,), (node,) = yard.site.queue("%i"), yard.site.queue("%N")
    yard.site.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    yard.site.start_again(job)
    until(lambda: runs(yard.folder, 0) == 2, "the second start")
    until(lambda: start_time(first) is None, "the first start to end")
    (yard.folder / "go").touch()
    report = started()
    assert report.status == "SUCCESS"
    # It comes back by itself: its daemon still runs.
    until(yard.site.nodes_are_idle, "both nodes")


def test_a_lost_node_burns_no_retry_where_slurm_does_not_start_again_by_itself(yard: Yard) -> None:
    started = yard.start(held(1), adapter_options={"extra": "--no-requeue"}, retries=0)
    yard.has("pid.0")
    (node,) = yard.site.queue("%N")
    yard.site.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    until(lambda: runs(yard.folder, 0) == 2, "the second attempt")
    (yard.folder / "go").touch()
    report = started()
    assert report.status == "SUCCESS"
    assert "NODE_FAIL" in next(result.problem for result in yard_results(yard) if result.status is ChunkStatus.FAILED)
    # It comes back by itself: its daemon still runs.
    until(yard.site.nodes_are_idle, "both nodes")


def yard_results(yard: Yard) -> list[ChunkResult]:
    return [event.result for event in yard.events if event.type == "chunk.finished"]


def test_a_task_whose_own_process_was_killed_is_run_again(yard: Yard) -> None:
    # The parent of the command's warden is what Slurm started.
    kill = "kill -9 $(ps -o ppid= -p $PPID); sleep 60"
    report = yard.run(spec([counted(0, f"[ $(wc -l < runs.0) -ge 2 ] || {{ {kill}; }}")]), retries=0)
    assert report.status == "SUCCESS"
    assert runs(yard.folder, 0) == 2


def test_who_cancels_in_slurm_makes_the_chunk_fail(yard: Yard) -> None:
    started = yard.start(held(3), concurrency=1, halt=Halt.NEVER)
    yard.has("pid.0")
    (job,) = {line.split("_")[0] for line in yard.site.queue("%F")}
    yard.site.call("scancel", f"{job}_0", f"{job}_1")
    yard.has("pid.2")
    (yard.folder / "go").touch()
    report = started()
    assert ends(report) == {0: "failed", 1: "failed", 2: "done"}
    problems = {result.chunk: result.problem for result in report.results}
    assert problems[0] == "exit code 143, somebody else canceled it in Slurm"
    assert problems[1] == "somebody else canceled it in Slurm before it started"


def test_a_partition_that_is_not_there_is_an_error_before_anything_runs(yard: Yard) -> None:
    with pytest.raises(LogistError, match=r"[Ii]nvalid partition name"):
        yard.run(spec([counted(0, "true")], outputs=["out"]), adapter_options={"partition": "nowhere"})
    assert runs(yard.folder, 0) == 0
    assert list(yard.folder.glob(".*unfinished")) == []


def test_options_of_sbatch_do_not_rename_the_array(yard: Yard) -> None:
    report = yard.run(spec(["[ $SLURM_JOB_NAME != mine ]"]), adapter_options={"extra": "-Jmine -a3-5"})
    assert report.status == "SUCCESS", report.reason


def test_an_operator_is_told_why_slurm_lets_chunks_wait(yard: Yard) -> None:
    asked = threading.Event()
    started = yard.start(
        held(1), adapter_options={"extra": "--hold"}, cancel=lambda: "enough" if asked.is_set() else None
    )
    until(yard.notices, "a notice")
    asked.set()
    assert started().status == "PENDING"
    assert yard.notices() == ["Slurm lets chunks wait: JobHeldUser"]


def away(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process asks a controller that is not there; the nodes' own goes on."""
    config = Path(yard.site.environ["SLURM_CONF"]).read_text()
    lines = ["SlurmctldPort=9" if line.startswith("SlurmctldPort=") else line for line in config.splitlines()]
    elsewhere = yard.folder / "elsewhere.conf"
    elsewhere.write_text("\n".join(lines))
    monkeypatch.setenv("SLURM_CONF", str(elsewhere))


@pytest.mark.slow  # Slurm's programs try for ten seconds
def test_results_come_without_slurms_controller(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    started = yard.start(held(1), merge=False)
    yard.has("pid.0")
    away(yard, monkeypatch)
    until(yard.notices, "a notice")
    (yard.folder / "go").touch()
    report = started()
    assert ends(report) == {0: "done"}
    assert "does not answer" in yard.notices()[0]


@pytest.mark.slow  # as above
def test_what_is_canceled_ends_without_slurms_controller(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_END_PATIENCE", 2.0)
    asked = threading.Event()
    started = yard.start(held(1), cancel=lambda: "enough" if asked.is_set() else None)
    yard.has("pid.0")
    away(yard, monkeypatch)
    asked.set()
    pid = int((yard.folder / "pid.0").read_text())
    until(lambda: start_time(pid) is None, "the command to end")
    assert started().status == "PENDING"


def test_a_folder_for_messages_can_be_given_and_is_left_empty(yard: Yard, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    report = yard.run(spec(["ls spool/*/*/ > seen"]), adapter_options={"spool": str(spool)})
    assert report.status == "SUCCESS"
    assert "0.order" in (yard.folder / "seen").read_text().split()
    assert list(spool.iterdir()) == []


def test_a_folder_for_messages_that_others_may_write_to_is_refused(yard: Yard, tmp_path: Path) -> None:
    spool = {"spool": str(tmp_path / "spool")}
    yard.run(spec(["ls spool > seen"]), adapter_options=spool)
    planted = tmp_path / "spool" / (yard.folder / "seen").read_text().strip()
    planted.mkdir(parents=True)
    planted.chmod(0o777)
    with pytest.raises(UsageProblem, match="not yours alone"):
        yard.run(spec([counted(1, "true")]), adapter_options=spool)
    assert runs(yard.folder, 1) == 0


def test_what_slurm_says_to_a_task_wins_and_the_rest_is_the_submitters(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {**os.environ, "SECRET_TOKEN": "hush", "SLURM_JOB_ID": "of the submitter", "SLURMD_NODENAME": "login"}
    yard.run(spec(["echo $SLURM_JOB_ID $SLURMD_NODENAME $SECRET_TOKEN > seen"]), environ=environ)
    job, node, secret = (yard.folder / "seen").read_text().split()
    assert job.isdigit()
    assert node in ("one", "two")
    assert secret == "hush"


def test_the_environment_is_in_no_command_line_and_in_no_file_that_others_can_read(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    started = yard.start(held(1))
    yard.has("pid.0")
    (job,) = yard.site.queue("%i")
    shown = yard.site.call("scontrol", "show", "job", "--details", job) + yard.site.call(
        "scontrol", "write", "batch_script", job, "-"
    )
    assert "hush" not in shown
    holding = [path for path in yard.folder.rglob("*") if path.is_file() and b"hush" in path.read_bytes()]
    assert [path.stat().st_mode & 0o077 for path in holding] == [0]
    (yard.folder / "go").touch()
    assert started().status == "SUCCESS"


def test_a_command_that_exceeds_its_own_limit_has_timed_out(yard: Yard) -> None:
    report = yard.run(spec(["sleep 60"]), timeout=0.3)
    assert report.reason == "chunk 0 failed: it ran longer than 0.3 s"


@pytest.mark.slow
def test_slurms_time_limit_is_named(yard: Yard) -> None:
    # The shortest that Slurm knows is a minute.
    report = yard.run(spec(["echo begun; exec sleep 600"]), adapter_options={"time": "1"})
    assert report.reason == "chunk 0 failed: Slurm's time limit, 1:00, was reached"
    assert report.failed[0].tail == "begun\n"


@pytest.mark.slow
def test_a_preempted_task_runs_again_and_burns_no_retry(yard: Yard) -> None:
    started = yard.start(held(1), adapter_options={"cpus": "4"}, retries=0)
    yard.has("pid.0")
    (job,), (node,) = yard.site.queue("%i"), yard.site.queue("%N")
    urgent = yard.site.call(
        *(
            "sbatch",
            "--parsable",
            "--partition=urgent",
            f"--nodelist={node}",
            "--cpus-per-task=4",
            "--output=/dev/null",
        ),
        stdin="#!/bin/sh\nsleep 2\n",
    )
    yard.site.start_again(job)
    until(lambda: runs(yard.folder, 0) == 2, "the second start")
    (yard.folder / "go").touch()
    assert started().status == "SUCCESS"
    yard.site.call("scancel", urgent)


def test_the_script_that_export_job_prints_runs_every_chunk_and_then_merges(yard: Yard) -> None:
    path = write_spec(yard.folder, text_spec(4))
    export = [sys.executable, "-m", "logist", "export-job", str(path), "--target", "slurm"]
    programs = {"PATH": f"{Path(sys.executable).parent}:{yard.site.environ['PATH']}"}
    for words in (["--parallelism", "2"], ["--merge"]):
        script = subprocess.run([*export, *words], capture_output=True, text=True, check=True, cwd=yard.folder).stdout
        done = subprocess.run(
            ["sbatch", "--wait"],
            input=script,
            env={**yard.site.environ, **programs},
            cwd=yard.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        logs = "".join(log.read_text() for log in yard.folder.glob("*.log"))
        assert done.returncode == 0, done.stderr + logs
    assert (yard.folder / "all.txt").read_text() == "".join(f"chunk {number}\n" for number in range(4))
    assert [runs(yard.folder, number) for number in range(4)] == [1] * 4


@pytest.mark.parametrize(
    ("state", "started", "ended", "exit_code"),
    [
        ("OUT_OF_MEMORY", True, Ended.EXITED, 137),
        ("DEADLINE", True, Ended.TIMED_OUT, None),
        ("TIMEOUT", True, Ended.TIMED_OUT, None),
        ("CANCELLED", False, Ended.NOT_STARTED, None),
        ("BOOT_FAIL", False, Ended.LOST, None),
        ("NODE_FAIL", True, Ended.LOST, None),
        ("PREEMPTED", True, Ended.LOST, None),
        ("COMPLETED", True, Ended.LOST, None),
        ("FAILED", False, Ended.NOT_STARTED, None),
        ("A_STATE_OF_NEXT_YEAR", True, Ended.LOST, None),
    ],
)
def test_each_state_of_slurm_means_something_for_the_command(
    state: str, started: bool, ended: Ended, exit_code: int | None
) -> None:
    known = CommandResult(Ended.LOST, None, 1.5)
    result = judged(TaskView(state, node="n17", limit="5:00"), known, started=started, last_word="no python")
    assert (result.ended, result.exit_code, result.duration) == (ended, exit_code, 1.5)
    assert result.detail


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"colour": "red"}, "no option 'colour'"),
        ({"partition": " "}, "partition"),
        ({"time": "1\n2"}, "time"),
        ({"extra": "--mem=1G '"}, "extra"),
        ({"extra": "--array=1-3"}, "--array"),
        ({"extra": "-M other"}, "-M"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageProblem, match=words):
        open_adapter("slurm", options)


def test_without_slurm_the_error_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LogistError, match="no sbatch on PATH"):
        open_adapter("slurm")
