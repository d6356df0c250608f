"""One task of an array: the program that Slurm starts on a node, here without any Slurm."""

from __future__ import annotations

import hashlib
import marshal
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from slurm_site import until

from logist.errors import InvalidFile
from logist.execution import BatchItem, Command, CommandResult, Ended
from logist.execution.bare.task_files import claim
from logist.execution.leftovers import living_with
from logist.execution.slurm.adapter import task_argv
from logist.execution.slurm.follow import Follower
from logist.execution.slurm.spool import give_up, new_spool, read_result
from logist.processes import start_time
from logist.testing.bench import MARK, hostile

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Slurm's nodes are Linux")


class Tasks:
    """An array of one task without any Slurm: its folder, and the program that Slurm would start."""

    def __init__(self, folder: Path, line: str, output: Path | None = None, **more: Any) -> None:
        self.mark = uuid4().hex
        env = {"PATH": os.environ["PATH"], MARK: self.mark}
        command = Command(**{"cwd": folder, "env": env, "shell": line, **more})
        self.spool = new_spool(folder / "spool", [BatchItem(command, output=output)])
        self.files = self.spool.task(0)

    @contextmanager
    def start(self, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start the task, once more; it is ended afterwards."""
        with subprocess.Popen(task_argv(self.spool), env={**os.environ, "SLURM_ARRAY_TASK_ID": "0", **env}) as task:
            try:
                yield task
            finally:
                task.kill()

    def run(self, **env: str) -> CommandResult:
        """Run the task to its end; how its command ended."""
        with self.start(**env) as start:
            start.wait(30)
        result = self.result()
        assert result is not None
        return result

    def result(self) -> CommandResult | None:
        """How the command ended."""
        return read_result(Path(self.files.result))


def test_of_two_starts_of_a_task_the_later_one_counts_and_the_first_one_ends(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "echo $$ >> pids; until [ -e go ]; do sleep 0.05; done")
    pids = tmp_path / "pids"
    with tasks.start() as first:
        until(lambda: pids.exists() and pids.read_text(), "the first start")
        with tasks.start() as second:
            assert first.wait(30) == 0
            assert tasks.result() is None
            assert start_time(int(pids.read_text().split()[0])) is None
            (tmp_path / "go").touch()
            assert second.wait(30) == 0
    result = tasks.result()
    assert result is not None
    assert result.ok
    assert len(pids.read_text().split()) == 2


def test_a_task_that_has_ended_or_was_given_up_does_nothing_when_it_is_started_again(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "echo run >> runs")
    for _ in range(2):
        with tasks.start() as start:
            assert start.wait(30) == 0
    assert (tmp_path / "runs").read_text() == "run\n"
    other = Tasks(tmp_path, "echo other >> runs")
    give_up(other.files)
    # A start that had looked before.
    claim(other.files, "late")
    with other.start() as start:
        assert start.wait(30) == 0
    assert (tmp_path / "runs").read_text() == "run\n"
    assert other.result() is None


def test_what_a_second_start_prints_is_not_taken_for_more_of_the_first_ones(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tasks = Tasks(tmp_path, "echo run >> runs; echo start $(wc -l < runs); until [ -e go ]; do sleep 0.05; done")
    command = Command(cwd=tmp_path, env={}, shell="true", stdout_log=log, one_stream=True)
    printed = Path(tasks.files.stream("stdout"))
    with Follower(command, tasks.files, None) as follower, tasks.start() as first:
        until(lambda: printed.exists() and printed.read_text() == "start 1\n", "the first start")
        follower.look()
        first.terminate()
        assert first.wait(30) == 143
        with tasks.start() as second:
            until(lambda: printed.exists() and printed.read_text() == "start 2\n", "the second start")
            follower.look()
            assert log.read_text() == "start 2\n"
            # While the first one's file is there, its number can't be the second one's.
            assert printed.with_name("0.stdout.before").read_text() == "start 1\n"
            (tmp_path / "go").touch()
            assert second.wait(30) == 0


def test_why_a_task_could_not_run_its_command_is_its_last_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tasks = Tasks(tmp_path, "true")
    Path(tasks.files.order).write_text("{}")
    with tasks.start() as start:
        assert start.wait(30) == 1
    assert capfd.readouterr().err.splitlines() == [
        f"{tasks.files.order} is not what this release of Logist writes there"
    ]


def test_a_task_that_is_told_to_end_kills_its_command_and_has_no_result(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "echo $$ > .pid; mv .pid pid; sleep 60")
    with tasks.start() as start:
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the start")
        start.terminate()
        assert start.wait(30) == 143
    assert tasks.result() is None
    assert start_time(int((tmp_path / "pid").read_text())) is None
    assert Path(tasks.files.stopped).exists()


def test_a_command_that_hears_of_its_end_before_its_task_does_has_no_result_either(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "echo $$ > .pid; mv .pid pid; exec sleep 60")
    with tasks.start() as start:
        until((tmp_path / "pid").exists, "the start")
        command = int((tmp_path / "pid").read_text())
        os.kill(command, signal.SIGTERM)
        until(lambda: start_time(command) is None, "the command's end")
        start.terminate()
        assert start.wait(30) == 143
    assert tasks.result() is None
    assert Path(tasks.files.stopped).exists()


def test_a_task_tells_what_its_command_printed_and_how_it_ended(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "cat; echo err >&2; exit 7", stdin=b"in\0put\xff")
    result = tasks.run()
    assert (result.ended, result.exit_code, result.signal) == (Ended.EXITED, 7, 0)
    assert (result.stdout.kept, result.stderr.kept) == (b"in\0put\xff", b"err\n")
    assert result.stdout.sha256 == hashlib.sha256(b"in\0put\xff").hexdigest()
    assert Tasks(tmp_path, "kill -9 $$").run().detail == "killed by SIGKILL"


def test_of_long_output_a_task_keeps_the_ends_and_the_hash_of_all(tmp_path: Path) -> None:
    result = Tasks(tmp_path, "seq 100000", log_limit=1000).run()
    everything = "".join(f"{number}\n" for number in range(1, 100001)).encode()
    assert (result.stdout.total, result.stdout.sha256) == (len(everything), hashlib.sha256(everything).hexdigest())
    assert (result.stdout.head, result.stdout.tail) == (everything[:500], everything[-500:])


def test_a_command_of_a_task_that_can_not_be_started_says_why(tmp_path: Path) -> None:
    missing = Tasks(tmp_path, "", argv=("no-such-thing",), shell=None).run()
    assert (missing.ended, missing.program_missing) == (Ended.NOT_STARTED, True)
    assert missing.detail == "there is no program no-such-thing on PATH"
    gone = Tasks(tmp_path, "true", cwd=tmp_path / "gone").run()
    assert "can't be entered" in gone.detail
    (tmp_path / "output").mkdir()
    assert "can't be removed" in Tasks(tmp_path, "true", output=tmp_path / "output").run().detail


@pytest.mark.parametrize("limit", ["timeout", "idle_timeout"])
def test_a_command_of_a_task_is_stopped_at_its_limit(tmp_path: Path, limit: str) -> None:
    tasks = Tasks(tmp_path, "sleep 60", **{limit: 0.2})
    result = tasks.run()
    assert (result.ended, result.exit_code) == (Ended.TIMED_OUT, 143)
    assert "0.2 s" in result.detail
    assert living_with(MARK, tasks.mark) == []


def test_a_command_of_a_task_gets_no_descriptor_of_the_task_s(tmp_path: Path) -> None:
    result = Tasks(tmp_path, "ls /proc/$$/fd", one_stream=True).run()
    assert result.stdout.kept.split() == [b"0", b"1", b"2"]


def test_what_a_command_of_a_task_leaves_behind_is_killed_and_counted(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "setsid sleep 60 & echo begun")
    result = tasks.run()
    assert (result.ok, result.survivors_killed, result.stdout.kept) == (True, 1, b"begun\n")
    assert living_with(MARK, tasks.mark) == []


def test_nothing_of_a_task_lives_when_it_is_killed(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "", argv=(sys.executable, "-I", "-S", "-c", hostile()), shell=None)
    with tasks.start() as start:
        until(lambda: living_with(MARK, tasks.mark), "the start")
        start.kill()
    until(lambda: not living_with(MARK, tasks.mark), "the end of all")
    assert tasks.result() is None


def test_a_task_whose_warden_is_killed_says_that_its_command_is_lost_and_leaves_nothing(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "setsid sleep 60 & echo begun; sleep 60")
    with tasks.start() as start:
        until(lambda: Path(tasks.files.stream("stdout")).exists(), "the start")
        (warden,) = Path(f"/proc/{start.pid}/task/{start.pid}/children").read_text().split()
        os.kill(int(warden), signal.SIGKILL)
        assert start.wait(30) == 1
    result = tasks.result()
    assert result is not None
    assert (result.ended, result.stdout.kept) == (Ended.LOST, b"begun\n")
    assert result.survivors_killed >= 2
    assert living_with(MARK, tasks.mark) == []


def test_a_task_that_can_not_write_what_its_command_prints_ends_it_and_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tasks = Tasks(tmp_path, "seq 10000; sleep 60")
    limited = ["/bin/sh", "-c", 'ulimit -f 8; exec "$@"', "sh", *task_argv(tasks.spool)]
    with subprocess.Popen(limited, env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"}) as start:
        assert start.wait(30) == 1
    assert capfd.readouterr().err == f"{tasks.files.stream('stdout')}: File too large\n"
    assert tasks.result() is None
    assert living_with(MARK, tasks.mark) == []


def test_the_exit_code_of_a_task_is_that_of_its_command(tmp_path: Path) -> None:
    for line, code in (("exit 7", 7), ("kill -9 $$", 137), ("exit 0", 0)):
        with Tasks(tmp_path, line).start() as start:
            assert start.wait(30) == code


def test_a_task_writes_nothing_that_others_may_read(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "echo secret; echo secret >&2")
    assert tasks.run().ok
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tasks.spool.root.iterdir() if path.name[0] == "0"}
    assert modes == dict.fromkeys(["0.claim", "0.order", "0.result", "0.stderr", "0.stdout"], 0o600)


def test_a_command_of_a_task_has_the_submitter_s_environment_and_what_slurm_says_on_the_node(tmp_path: Path) -> None:
    command = {"argv": ("/usr/bin/env",), "shell": None, "env": {"PATH": "/usr/bin", "HOME": "/mine", "GPU": "none"}}
    result = Tasks(tmp_path, "", **command).run(HOME="/theirs", GPU="3", LC_ALL="C", SLURM_JOB_ID="12")
    seen = dict(line.split("=", 1) for line in result.stdout.kept.decode().splitlines())
    assert (seen["HOME"], seen["GPU"], seen["SLURM_JOB_ID"], seen["PATH"]) == ("/mine", "3", "12", "/usr/bin")
    assert "LC_ALL" not in seen


def test_of_what_a_command_of_a_task_prints_as_much_can_be_followed_as_is_kept(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "seq 1000", log_limit=100)
    assert tasks.run().stdout.total == 3893
    assert len(Path(tasks.files.stream("stdout")).read_bytes()) == 100


def test_a_task_of_an_array_that_was_closed_does_nothing(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "touch ran")
    tasks.spool.closed.touch()
    with tasks.start() as start:
        assert start.wait(30) == 0
    assert not (tmp_path / "ran").exists()
    assert not Path(tasks.files.claim).exists()


def test_a_task_ends_when_its_array_is_closed(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "touch ran; exec sleep 60")
    with tasks.start() as start:
        until((tmp_path / "ran").exists, "the start")
        tasks.spool.closed.touch()
        assert start.wait(30) == 0
    assert tasks.result() is None
    assert living_with(MARK, tasks.mark) == []


def hung(tasks: Tasks) -> bytes:
    """Let the task's next start hang when it reads its order, after it has claimed the task; what the order is."""
    order = Path(tasks.files.order).read_bytes()
    Path(tasks.files.order).unlink()
    os.mkfifo(tasks.files.order)
    return order


def go_on(tasks: Tasks, order: bytes) -> None:
    """Let the start that hangs have its order."""
    Path(tasks.files.order).write_bytes(order)


def test_a_task_that_was_told_to_end_before_it_began_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "output").touch()
    tasks = Tasks(tmp_path, "touch ran", output=tmp_path / "output")
    order = hung(tasks)
    with tasks.start() as start:
        until(lambda: Path(tasks.files.claim).exists(), "the claim")
        start.terminate()
        go_on(tasks, order)
        assert start.wait(30) == 143
    assert ((tmp_path / "ran").exists(), (tmp_path / "output").exists()) == (False, True)
    assert tasks.result() is None


def test_a_start_that_was_cut_off_takes_nothing_away_from_the_one_that_has_finished(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "echo run >> runs; echo made > output", output=tmp_path / "output")
    order = hung(tasks)
    with tasks.start() as late:
        until(lambda: Path(tasks.files.claim).exists(), "the claim")
        line = os.open(tasks.files.order, os.O_RDWR)
        Path(tasks.files.order).unlink()
        Path(tasks.files.order).write_bytes(order)
        assert tasks.run().ok
        os.write(line, order)
        os.close(line)
        assert late.wait(30) == 0
    assert (tmp_path / "output").read_text() == "made\n"
    assert (tmp_path / "runs").read_text() == "run\n"


def test_what_a_start_that_lost_its_claim_prints_does_not_end_the_valid_one(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "echo >> runs; n=$(wc -l < runs); until [ -e go.$n ]; do sleep 0.02; done; echo start $n")
    printed, runs = Path(tasks.files.stream("stdout")), tmp_path / "runs"
    with tasks.start() as first:
        until(runs.exists, "the first start")
        with tasks.start() as second:
            until(lambda: runs.read_text() == "\n\n", "the second start")
            # As the first one, just before it sees that it is no longer wanted.
            printed.write_text("start 1\n")
            (tmp_path / "go.2").touch()
            assert second.wait(30) == 0
            assert first.wait(30) == 0
    result = tasks.result()
    assert result is not None
    assert (result.ok, result.stdout.kept, printed.read_text()) == (True, b"start 2\n", "start 2\n")


def test_the_first_result_of_a_task_stays(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "touch ran; until [ -e go ]; do sleep 0.02; done; exit 3")
    with tasks.start() as start:
        until((tmp_path / "ran").exists, "the start")
        other = Tasks(tmp_path / "other", "exit 0", cwd=tmp_path)
        assert other.run().ok
        Path(other.files.result).rename(tasks.files.result)
        (tmp_path / "go").touch()
        assert start.wait(30) == 3
    result = tasks.result()
    assert result is not None
    assert result.ok
    assert sorted(path.name for path in tasks.spool.root.iterdir() if ".0" in path.name) == []


def test_a_name_in_the_environment_that_is_none_is_told_and_not_taken_for_a_kill(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, "true")
    with subprocess.Popen(
        ["/usr/bin/env", "-i", "SLURM_ARRAY_TASK_ID=0", "=odd", *task_argv(tasks.spool)], stderr=subprocess.DEVNULL
    ) as start:
        start.wait(30)
    result = tasks.result()
    assert result is not None
    assert (result.ended, result.detail) == (
        Ended.NOT_STARTED,
        "the program /bin/sh can't be executed: Invalid argument",
    )


@pytest.mark.parametrize("data", [b"", b"{}", b"(\xff\xff\xff\x7f", marshal.dumps([1]), b"logist task 1 00000005\n["])
def test_a_result_that_logist_did_not_write_is_told_with_what_to_do(tmp_path: Path, data: bytes) -> None:
    tasks = Tasks(tmp_path, "true")
    Path(tasks.files.result).write_bytes(data)
    with pytest.raises(InvalidFile, match="not what this release of Logist writes there") as told:
        tasks.result()
    assert f"remove {tasks.spool.root}" in str(told.value.hint)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_command_that_became_another_user_s_and_can_not_be_ended_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    line = "exec setpriv --reuid 65534 --clear-groups sleep 6"
    tasks = Tasks(tmp_path, line, timeout=1.0)
    powerless = ["setpriv", "--bounding-set", "-kill", "--inh-caps", "-kill", *task_argv(tasks.spool)]
    with subprocess.Popen(powerless, env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"}) as start:
        assert start.wait(30) == 1
    result = tasks.result()
    assert result is not None
    assert result.ended is Ended.TIMED_OUT
    assert "processes of another user could not be ended" in result.detail
