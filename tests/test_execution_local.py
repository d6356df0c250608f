from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist.errors import LogistError, StorageFailed, UsageProblem
from logist.execution import Command, CommandResult, Ended, adapters
from logist.execution._keeper import Keeper
from logist.execution._streams import Stream, _Log
from logist.execution.leftovers import kill_leftovers
from logist.execution.local import LocalWorkerAdapter
from logist.processes import ProcessIdentity, boot_id, identify, is_alive, start_time
from logist.testing.adapter_contract import AdapterContract, MakeAdapter
from logist.testing.bench import MARK, Bench, all_pids, environment_of, hostile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

PYTHON = sys.executable


@pytest.fixture
def adapter() -> Iterator[LocalWorkerAdapter]:
    adapter = LocalWorkerAdapter(grace=0.2)
    yield adapter
    adapter.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.clean_up()


class Cue:
    """Takes output, and is given once the command printed `ready`."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.seen = b""
        self.given = False
        self._then = then

    def __call__(self, _stream: str, data: bytes) -> None:
        if self.given:
            return
        self.seen += data
        if b"ready" in self.seen:
            self.given = True
            self._then()

    def cancel(self) -> str | None:
        return "the operator said so" if self.given else None


def stat_field(pid: int, number: int) -> str:
    """A field of /proc/PID/stat, numbered as in proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[number - 3]


def parent_of(pid: int) -> int:
    return int(stat_field(pid, 4))


def children_of(pid: int) -> list[int]:
    return [int(item) for item in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def helpers_of(runner: int) -> list[int]:
    """The keeper and the wardens of a runner, by their command line."""
    found = []
    for pid in all_pids():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(b"bare.warden" in word for word in words) and str(runner).encode() in words:
            found.append(pid)
    return [pid for pid in found if start_time(pid) is not None]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def can_lock(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


class TestLocalAdapter(AdapterContract):
    """What every adapter promises; the tests below are about this one alone."""

    @pytest.fixture
    def make_adapter(self) -> MakeAdapter:
        return lambda: LocalWorkerAdapter(grace=0.2)


# How a command ends


@pytest.mark.parametrize(
    ("content", "mode"),
    [("#!/bin/sh\n", 0o644), ("no first line", 0o755), ("#!/no/such/interpreter\n", 0o755)],
    ids=["not executable", "no shebang", "no interpreter"],
)
def test_a_file_that_can_not_be_executed_is_a_missing_program(
    adapter: LocalWorkerAdapter, bench: Bench, content: str, mode: int
) -> None:
    script = bench.folder / "script"
    script.write_text(content)
    script.chmod(mode)
    result = adapter.run(bench.argv("./script"))
    assert (result.ended, result.program_missing) == (Ended.NOT_STARTED, True)


def test_the_program_is_looked_up_in_the_path_that_the_command_gets(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    for name, mode in (("one", 0o644), ("two", 0o755)):
        (bench.folder / name).mkdir()
        script = bench.folder / name / "my-tool"
        script.write_text("#!/bin/sh\necho $0\n")
        script.chmod(mode)
    path = f"{bench.folder}/none:{bench.folder}/one:{bench.folder}/two"
    result = adapter.run(bench.argv("my-tool")._replace(env={"PATH": path}))
    assert result.stdout.kept.decode() == f"{bench.folder}/two/my-tool\n"


def test_a_program_that_may_not_be_executed_is_not_called_absent(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    (bench.folder / "my-tool").write_text("#!/bin/sh\n")
    result = adapter.run(bench.argv("my-tool")._replace(env={"PATH": f"{bench.folder}:/no/such/folder"}))
    assert (result.ended, result.program_missing) == (Ended.NOT_STARTED, True)
    assert os.strerror(errno.EACCES) in result.detail


def test_an_empty_entry_of_path_does_not_run_what_lies_in_the_work_folder(
    adapter: LocalWorkerAdapter, bench: Bench
) -> None:
    planted = bench.folder / "git"
    planted.write_text("#!/bin/sh\n")
    planted.chmod(0o755)
    result = adapter.run(bench.argv("git")._replace(env={"PATH": ":/no/such/folder:"}))
    assert (result.ended, result.program_missing) == (Ended.NOT_STARTED, True)


def test_one_argument_that_is_too_long_is_refused_with_its_number(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    assert adapter.run(bench.argv("true", "x" * 131_071)).ok
    result = adapter.run(bench.argv("true", "x" * 131_072))
    assert (result.ended, result.program_missing) == (Ended.NOT_STARTED, False)
    assert "argument 1 is 131072 bytes" in result.detail


def test_many_arguments_that_are_too_long_together_are_refused(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    result = adapter.run(bench.argv("true", *(["x" * 100_000] * 80)))
    assert (result.ended, result.program_missing) == (Ended.NOT_STARTED, False)
    assert "too long together" in result.detail


# What a command gets


def test_a_command_has_its_own_session_and_only_the_descriptors_meant_for_it(
    adapter: LocalWorkerAdapter, bench: Bench
) -> None:
    source = "import os; print(os.getpid(), os.getsid(0), os.getpgrp(), *sorted(os.listdir('/proc/self/fd')))"
    pid, session, group, *fds = adapter.run(bench.python(source)).stdout.kept.decode().split()
    assert pid == session == group
    # The last one is the listing's own.
    assert fds == ["0", "1", "2", "3"]


def test_signals_have_their_defaults_though_the_runner_ignores_some(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        status = adapter.run(bench.argv("cat", "/proc/self/status")).stdout.kept.decode()
    finally:
        signal.signal(signal.SIGHUP, before)
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    # 32 and 33 belong to the C library, whose spawn leaves them ignored.
    ours = ~(0b11 << 31)
    assert {int(masks[name], 16) & ours for name in ("SigIgn", "SigBlk", "SigCgt")} == {0}


@pytest.mark.parametrize("held", [False, True], ids=["at once", "held at the barrier"])
def test_a_command_starts_the_same_way_with_and_without_a_barrier(
    adapter: LocalWorkerAdapter, bench: Bench, held: bool
) -> None:
    hook: Callable[[ProcessIdentity], None] | None = (lambda _: None) if held else None

    def run(command: Command) -> tuple[Ended, int | None, str, bool]:
        result = adapter.run(command, on_started=hook)
        return result.ended, result.exit_code, result.detail, result.program_missing

    plain = bench.folder / "plain"
    plain.write_text("no program\n")
    assert run(bench.shell("exit 3")) == (Ended.EXITED, 3, "", False)
    assert run(bench.shell("kill -9 $$")) == (Ended.EXITED, 137, "killed by SIGKILL", False)
    missing = "there is no program no-such-thing on PATH"
    assert run(bench.argv("no-such-thing")) == (Ended.NOT_STARTED, None, missing, True)
    assert run(bench.argv(str(plain)))[0] is Ended.NOT_STARTED
    gone = bench.argv("true")._replace(cwd=bench.folder / "gone")
    assert "can't be entered" in run(gone)[2]
    session = adapter.run(bench.shell("ps -o pid=,sid= -p $$"), on_started=hook).stdout.kept.split()
    assert session[0] == session[1]


def test_a_command_has_its_own_environment_and_nothing_of_the_last_one_s(
    adapter: LocalWorkerAdapter, bench: Bench
) -> None:
    def seen(**env: str) -> set[str]:
        command = bench.argv("/usr/bin/env")._replace(env=env)
        return set(adapter.run(command).stdout.kept.decode().splitlines())

    assert seen(A="1", B="2") == {"A=1", "B=2"}
    assert seen(B="3", C="4") == {"B=3", "C=4"}
    assert seen() == set()
    assert seen(A="1") == {"A=1"}


def test_the_mark_finds_a_command_whose_keeper_and_warden_are_both_killed(
    adapter: LocalWorkerAdapter, bench: Bench
) -> None:
    def kill_both() -> None:
        (command,) = (pid for pid in bench.living() if parent_of(pid) in helpers_of(os.getpid()))
        warden = parent_of(command)
        os.kill(parent_of(warden), signal.SIGKILL)
        os.kill(warden, signal.SIGKILL)

    cue = Cue(then=kill_both)
    line = "trap '' TERM HUP; setsid sleep 60 & echo ready; wait"
    result = adapter.run(bench.shell(line)._replace(marker=(MARK, bench.mark)), on_output=cue)
    assert result.ended is Ended.LOST
    assert bench.living() == []


def test_input_is_a_file_that_can_be_read_again(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    source = "import sys; f = sys.stdin.buffer; a = f.read(); f.seek(0); print(len(a), a == f.read())"
    result = adapter.run(bench.python(source)._replace(stdin=b"\0prompt\xff" * 500_000))
    assert result.stdout.kept == b"4000000 True\n"


# Output and logs


def test_a_flood_of_output_is_counted_and_takes_no_memory(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    adapter.run(bench.argv("true"))
    peak = before = resident()

    def watch(_stream: str, _data: bytes) -> None:
        nonlocal peak
        peak = max(peak, resident())

    command = bench.argv("head", "-c", "200000000", "/dev/zero")._replace(
        stdout_log=bench.folder / "log", log_limit=2_000_000
    )
    result = adapter.run(command, on_output=watch)
    expected = hashlib.sha256()
    for _ in range(200):
        expected.update(bytes(1_000_000))
    assert (result.stdout.total, result.stdout.sha256) == (200_000_000, expected.hexdigest())
    assert (len(result.stdout.head), len(result.stdout.tail)) == (1_000_000, 1_000_000)
    assert (bench.folder / "log").read_bytes() == result.stdout.kept
    assert peak - before < 30_000_000


def test_what_the_pipe_still_holds_when_the_command_has_ended_is_taken(
    adapter: LocalWorkerAdapter, bench: Bench
) -> None:
    processes: list[ProcessIdentity] = []
    # We are busy until the command is gone; it has made the pipe larger than what we read at once.
    cue = Cue(then=lambda: wait_for(lambda: not is_alive(processes[0])))
    source = "import fcntl, os; fcntl.fcntl(1, 1031, 1 << 20); os.write(1, b'ready' + bytes(500_000))"
    result = adapter.run(bench.python(source), on_started=processes.append, on_output=cue)
    assert result.stdout.total == 500_005


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=12), limit=st.integers(0, 60))
def test_head_and_tail_are_the_two_ends_however_the_output_is_cut(chunks: list[bytes], limit: int) -> None:
    data = b"".join(chunks)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        stream = Stream("stdout", reader, limit, None, None)
        for chunk in chunks:
            os.write(writer, chunk)
            assert stream.read() == len(chunk)
        result = stream.finish()
    finally:
        os.close(reader)
        os.close(writer)
    assert (result.total, result.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert data.startswith(result.head)
    assert data.endswith(result.tail)
    assert len(result.head + result.tail) == min(len(data), limit)
    assert (result.kept == data) == (len(data) <= limit)


def test_the_log_can_be_followed_while_the_command_runs(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    log = bench.folder / "stdout.log"
    cue = Cue(then=lambda: seen.append(log.read_bytes()))
    seen: list[bytes] = []
    adapter.run(bench.shell("echo ready; exec sleep 60")._replace(stdout_log=log), on_output=cue, cancel=cue.cancel)
    assert seen == [b"ready\n"]


def test_a_log_that_can_not_be_written_is_an_error_and_nothing_lives(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    command = bench.python(hostile())._replace(stdout_log=Path("/dev/full"))
    with pytest.raises(StorageFailed, match="/dev/full"):
        adapter.run(command)
    assert bench.living() == []


def test_a_log_whose_end_can_not_be_written_is_an_error(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    with pytest.raises(StorageFailed, match="/dev/full"):
        adapter.run(bench.shell("echo it does not fit")._replace(stdout_log=Path("/dev/full"), log_limit=1))
    assert adapter.run(bench.argv("true")).ok


def test_a_log_that_can_not_be_opened_stops_the_command_before_it_starts(
    adapter: LocalWorkerAdapter, bench: Bench
) -> None:
    with pytest.raises(StorageFailed):
        adapter.run(bench.shell("touch ran")._replace(stderr_log=bench.folder / "none" / "log"))
    assert not (bench.folder / "ran").exists()


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed):
        _Log(tmp_path / "log", at_once=True)
    assert not (tmp_path / "elsewhere").exists()


# Stopping


def test_a_command_that_runs_too_long_is_stopped(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    result = adapter.run(bench.argv("sleep", "60")._replace(timeout=0.1))
    assert (result.ended, result.exit_code, result.ok) == (Ended.TIMED_OUT, 143, False)
    assert "0.1 s" in result.detail


def test_sigterm_also_reaches_those_who_left_the_session(bench: Bench) -> None:
    source = (
        "import os, signal, sys\n"
        "def bye(*_): open('bye', 'w').close(); sys.exit()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    signal.signal(signal.SIGTERM, bye)\n"
        "    print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    cue = Cue()
    # The grace is long, and it is not used up: everything ends by itself.
    patient = LocalWorkerAdapter(grace=20)
    try:
        result = patient.run(bench.python(source), on_output=cue, cancel=cue.cancel)
    finally:
        patient.close()
    assert (result.ended, result.survivors_killed) == (Ended.CANCELED, 0)
    assert (bench.folder / "bye").exists()


def test_the_grace_begins_with_the_order_to_stop_however_long_the_command_has_run(bench: Bench) -> None:
    cue = Cue()
    line = "trap 'sleep 0.2; touch saved; exit 3' TERM; sleep 1.1; echo ready; while :; do sleep 0.01; done"
    with closing(LocalWorkerAdapter(grace=1)) as patient:
        result = patient.run(bench.shell(line), on_output=cue, cancel=cue.cancel)
    assert (result.ended, result.exit_code) == (Ended.CANCELED, 3)
    assert (bench.folder / "saved").exists()


def test_an_order_to_stop_that_comes_too_late_is_none_for_the_next_command(
    adapter: LocalWorkerAdapter, bench: Bench
) -> None:
    printed = bytearray()

    def late() -> str | None:
        if not printed.endswith(b"\n"):
            return None
        wait_for(lambda: not Path(f"/proc/{int(printed)}").exists())
        return "late"

    adapter.run(bench.shell("echo $$; sleep 0.1"), on_output=lambda _, data: printed.extend(data), cancel=late)
    deadline = time.monotonic() + 20

    def in_time() -> None:
        assert time.monotonic() < deadline, "it did not begin"

    assert adapter.run(bench.shell("true"), cancel=in_time).ok


@pytest.mark.parametrize("end", ["linger()", "sys.exit(7)"], ids=["stopped", "ended"])
def test_what_outlived_a_command_is_counted(adapter: LocalWorkerAdapter, bench: Bench, end: str) -> None:
    cue = Cue()
    result = adapter.run(bench.python(hostile(end)), on_output=cue, cancel=cue.cancel if end == "linger()" else None)
    assert result.exit_code == (137 if end == "linger()" else 7)
    assert result.survivors_killed >= 5
    assert adapter.run(bench.shell("sleep 1000 & exit 7")).survivors_killed == 1


def test_zombies_are_no_survivors(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    result = adapter.run(bench.python("import os\nfor _ in range(5):\n  if os.fork() == 0: os._exit(0)\nos.wait()"))
    assert (result.ok, result.survivors_killed) == (True, 0)


def test_orphans_that_end_by_themselves_are_collected_while_the_command_runs(
    adapter: LocalWorkerAdapter, bench: Bench
) -> None:
    line = "for i in 1 2 3 4 5 6 7 8; do (true &) ; done; sleep 0.2; echo ready; exec sleep 60"
    wardens: list[int] = []
    zombies: list[str] = []
    cue = Cue(then=lambda: zombies.extend(stat_field(pid, 3) for pid in children_of(wardens[0])))
    adapter.run(
        bench.shell(line), on_output=cue, cancel=cue.cancel, on_started=lambda p: wardens.append(parent_of(p.pid))
    )
    assert len(zombies) == 1
    assert "Z" not in zombies


# Callbacks


# Leases


def test_a_command_holds_the_lease_even_when_the_runner_let_it_go(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    lease = bench.folder / "lease"
    fd = os.open(lease, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    free: list[bool] = []

    def let_go() -> None:
        os.close(fd)
        free.append(can_lock(lease))

    # A daemon that closes everything must not free it either: the warden holds it, too.
    source = "import os, time; os.closerange(3, 256); print('ready', flush=True); time.sleep(60)"
    cue = Cue(then=let_go)
    adapter.run(bench.python(source)._replace(inherit=(fd,)), on_output=cue, cancel=cue.cancel)
    assert free == [False]
    assert can_lock(lease)


def test_a_command_inherits_the_lease_itself(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    lease = bench.folder / "lease"
    fd = os.open(lease, os.O_RDWR | os.O_CREAT)
    try:
        result = adapter.run(bench.argv("ls", "-l", "/proc/self/fd")._replace(inherit=(fd,)))
    finally:
        os.close(fd)
    assert str(lease) in result.stdout.kept.decode()


# Somebody is killed

RUNNER = """
import fcntl, os, signal, sys
from pathlib import Path
from logist.execution import Command
from logist.execution.local import LocalWorkerAdapter

folder, source, mark, at = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
adapter = LocalWorkerAdapter()
lease = os.open(folder / "lease", os.O_RDWR | os.O_CREAT)
fcntl.flock(lease, fcntl.LOCK_EX)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def started(process):
    (folder / "pid").write_text(f"{process.pid} {process.start_time}")
    if at == "started":
        die()

command = Command(
    cwd=folder,
    env={"PATH": os.environ["PATH"], "LOGIST_TEST_MARK": mark},
    argv=(sys.executable, "-I", "-S", "-c", source),
    inherit=(lease,),
)
adapter.run(command, on_started=started, on_output=die)
"""


def run_until_killed(bench: Bench, source: str, at: str) -> ProcessIdentity:
    """Run a command in a runner of its own that kills itself at some moment; the command's process."""
    runner = subprocess.Popen(
        [PYTHON, "-c", RUNNER, str(bench.folder), source, bench.mark, at], cwd=Path(__file__).parent.parent
    )
    assert runner.wait(timeout=20) == -signal.SIGKILL
    wait_for(lambda: helpers_of(runner.pid) == [])
    pid, started = (bench.folder / "pid").read_text().split()
    return ProcessIdentity(int(pid), int(started), boot_id())


def test_nothing_lives_when_the_runner_is_killed(bench: Bench) -> None:
    process = run_until_killed(bench, hostile(), "output")
    assert bench.living() == []
    assert not is_alive(process)
    assert can_lock(bench.folder / "lease")


def test_a_runner_that_is_killed_between_start_and_go_has_run_nothing(bench: Bench) -> None:
    process = run_until_killed(bench, "open('ran', 'w').close()", "started")
    assert not is_alive(process)
    assert not (bench.folder / "ran").exists()
    assert can_lock(bench.folder / "lease")


def test_a_runner_that_is_gone_before_it_hears_of_the_start_has_run_nothing(bench: Bench) -> None:
    # The request lies in the line, and nobody takes the answer to it.
    keeper = Keeper()
    command = bench.shell("touch ran")
    reader, writer = os.pipe()
    warden = keeper.warden()
    warden.start(command, 0.2, [reader, writer, writer], held=True)
    warden.close()
    os.close(writer)
    with os.fdopen(reader, "rb") as output:
        # Ends when nobody below the warden is left to write, nor the warden itself.
        assert output.read() == b""
    keeper.close()
    assert not (bench.folder / "ran").exists()


def test_a_command_whose_warden_is_killed_is_lost_and_nothing_of_it_lives(
    adapter: LocalWorkerAdapter, bench: Bench
) -> None:
    processes: list[ProcessIdentity] = []
    cue = Cue(then=lambda: os.kill(parent_of(processes[0].pid), signal.SIGKILL))
    result = adapter.run(bench.python(hostile()), on_started=processes.append, on_output=cue)
    assert bench.living() == []
    assert (result.ended, result.exit_code, result.stdout.kept) == (Ended.LOST, None, b"ready\n")
    assert "killed" in result.detail
    assert adapter.run(bench.argv("true")).ok


def test_a_warden_that_is_killed_before_go_has_run_nothing(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    result = adapter.run(
        bench.shell("touch ran"), on_started=lambda process: os.kill(parent_of(process.pid), signal.SIGKILL)
    )
    wait_for(lambda: not any(bench.living() for _ in range(5)))
    assert result.ended in (Ended.NOT_STARTED, Ended.LOST)
    assert not (bench.folder / "ran").exists()


def test_an_idle_warden_that_was_killed_is_replaced(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    wardens: list[int] = []
    for _ in range(2):
        assert adapter.run(bench.argv("true"), on_started=lambda p: wardens.append(parent_of(p.pid))).ok
        os.kill(wardens[-1], signal.SIGKILL)
        wait_for(lambda: start_time(wardens[-1]) is None)
    assert wardens[0] != wardens[1]


def test_what_is_got_ready_runs_the_commands_and_is_gone_at_the_end(bench: Bench) -> None:
    adapter = LocalWorkerAdapter(grace=0.2)
    try:
        # The keeper and one warden, on a machine with one processor, too.
        adapter.prepare(1)
        wait_for(lambda: len(helpers_of(os.getpid())) == 2)
        ready = helpers_of(os.getpid())
        assert adapter.run(bench.argv("true"), on_started=lambda p: ready.remove(parent_of(p.pid))).ok
        assert len(ready) == 1
    finally:
        adapter.close()
    assert helpers_of(os.getpid()) == []


def test_a_keeper_that_was_killed_is_replaced_and_its_warden_works_on(
    adapter: LocalWorkerAdapter, bench: Bench
) -> None:
    processes: list[ProcessIdentity] = []
    cue = Cue(then=lambda: os.kill(parent_of(parent_of(processes[0].pid)), signal.SIGKILL))
    result = adapter.run(bench.shell("echo ready; sleep 0.1; exit 5"), on_started=processes.append, on_output=cue)
    assert result.exit_code == 5
    assert adapter.run(bench.python(hostile("sys.exit(7)"))).exit_code == 7
    assert bench.living() == []
    wait_for(lambda: len(helpers_of(os.getpid())) == 2)


def test_the_session_of_the_command_dies_when_keeper_and_warden_are_both_killed(
    adapter: LocalWorkerAdapter, bench: Bench
) -> None:
    processes: list[ProcessIdentity] = []

    def kill_both() -> None:
        warden = parent_of(processes[0].pid)
        os.kill(parent_of(warden), signal.SIGKILL)
        os.kill(warden, signal.SIGKILL)

    cue = Cue(then=kill_both)
    line = "trap '' TERM HUP; sleep 1000 & echo ready; wait"
    result = adapter.run(bench.shell(line), on_started=processes.append, on_output=cue)
    assert result.ended is Ended.LOST
    assert bench.living() == []


# The helpers themselves


def test_two_hundred_commands_leave_no_descriptor_and_no_zombie(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    adapter.run(bench.argv("true"))
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    (keeper,) = [pid for pid in helpers_of(os.getpid()) if parent_of(pid) == os.getpid()]
    (warden,) = children_of(keeper)
    held = len(list(Path(f"/proc/{warden}/fd").iterdir()))
    for _ in range(200):
        assert adapter.run(bench.argv("true")._replace(stdin=b"x", inherit=(0,))).ok
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before
    assert children_of(keeper) == [warden]
    assert children_of(warden) == []
    assert len(list(Path(f"/proc/{warden}/fd").iterdir())) == held


def test_four_threads_run_commands_at_once(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    together = threading.Barrier(4, timeout=20)

    def work(number: int) -> list[CommandResult]:
        def started(_process: ProcessIdentity) -> None:
            together.wait()

        first = adapter.run(bench.argv("echo", str(number)), on_started=started)
        return [first, *(adapter.run(bench.argv("echo", str(number))) for _ in range(10))]

    with ThreadPoolExecutor(4) as pool:
        for number, results in enumerate(pool.map(work, range(4))):
            assert [result.stdout.kept for result in results] == [f"{number}\n".encode()] * 11
    # One keeper and no more wardens than threads.
    assert len(helpers_of(os.getpid())) <= 5


def test_closing_ends_the_helpers_and_nothing_runs_afterwards(bench: Bench) -> None:
    adapter = LocalWorkerAdapter()
    adapter.run(bench.argv("true"))
    helpers = helpers_of(os.getpid())
    assert len(helpers) == 2
    adapter.close()
    assert [pid for pid in helpers if Path(f"/proc/{pid}").exists()] == []
    with pytest.raises(RuntimeError, match="closed"):
        adapter.run(bench.argv("true"))
    adapter.close()


def test_helpers_do_not_show_the_environment_of_the_runner(adapter: LocalWorkerAdapter, bench: Bench) -> None:
    adapter.run(bench.argv("true"))
    for pid in helpers_of(os.getpid()):
        names = {entry.partition(b"=")[0] for entry in environment_of(pid)}
        assert names <= {b"", b"LD_LIBRARY_PATH", b"LC_CTYPE"}


# What is left over after everybody was killed


def spawn(bench: Bench, source: str, *, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [PYTHON, "-I", "-S", "-c", source],
        cwd=bench.folder,
        env=bench.env,
        stdout=subprocess.PIPE,
        start_new_session=True,
        pass_fds=pass_fds,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


WAITING = "import time; print('ready', flush=True); time.sleep(1000)"
NOBODY = ProcessIdentity(pid=2**22 + 1, start_time=1, boot_id=boot_id())


def identity_of(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    identity = identify(process.pid)
    assert identity is not None
    return identity


def test_a_recorded_process_that_still_lives_is_killed(bench: Bench) -> None:
    process = spawn(bench, WAITING)
    assert kill_leftovers(identity_of(process)) == 1
    assert process.wait(timeout=20) == -signal.SIGKILL


def test_another_process_with_the_recorded_number_is_left_alone(bench: Bench) -> None:
    process = spawn(bench, WAITING)
    identity = identity_of(process)
    assert kill_leftovers(identity._replace(start_time=identity.start_time - 1)) == 0
    assert kill_leftovers(identity._replace(boot_id="another boot")) == 0
    assert process.poll() is None
    process.kill()
    process.wait()


def test_the_session_of_a_dead_leader_is_killed(bench: Bench) -> None:
    source = "import os, time\nif os.fork() == 0:\n  print('ready', flush=True)\n  time.sleep(1000)\nos.read(0, 1)\n"
    process = subprocess.Popen(
        [PYTHON, "-I", "-S", "-c", source],
        env=bench.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        assert process.stdout.readline() == b"ready\n"
        identity = identity_of(process)
        process.stdin.close()
        process.wait(timeout=20)
        assert len(bench.living()) == 1
        assert kill_leftovers(identity) == 1
    assert bench.living() == []


def test_everything_that_carries_the_mark_is_killed_and_nothing_else(bench: Bench, tmp_path: Path) -> None:
    process = spawn(bench, hostile())
    other = Bench(tmp_path)
    other.mark = bench.mark + "x"
    other.env = {**bench.env, MARK: other.mark}
    bystander = spawn(other, WAITING)
    assert kill_leftovers(NOBODY, marker=(MARK, bench.mark)) >= 6
    process.wait(timeout=20)
    assert bench.living() == []
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_whoever_holds_the_lease_is_killed_but_not_the_asking_process(bench: Bench) -> None:
    lease = bench.folder / "lease"
    with lease.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        holder = spawn(bench, WAITING, pass_fds=(file.fileno(),))
        assert kill_leftovers(NOBODY, lock_path=lease) == 1
        assert holder.wait(timeout=20) == -signal.SIGKILL
    assert can_lock(lease)


def test_neither_this_process_nor_its_ancestors_are_killed(bench: Bench) -> None:
    line = (
        "import os, sys; from logist.execution.leftovers import kill_leftovers; from logist.processes import identify;"
        "print(kill_leftovers(identify(os.getppid()), marker=(sys.argv[1], sys.argv[2])))"
    )
    shell = '"$0" -c "$1" "$2" "$3"; echo alive'
    result = subprocess.run(
        ["/bin/sh", "-c", shell, PYTHON, line, MARK, bench.mark],
        cwd=Path(__file__).parent.parent,
        env=bench.env,
        capture_output=True,
        check=True,
        start_new_session=True,
    )
    assert result.stdout == b"0\nalive\n"


def test_a_lease_that_is_not_there_is_held_by_nobody(bench: Bench) -> None:
    assert kill_leftovers(NOBODY, lock_path=bench.folder / "none") == 0


# Adapters by name


def test_the_local_adapter_is_found_by_name() -> None:
    adapter = adapters.open_adapter("local")
    assert isinstance(adapter, LocalWorkerAdapter)
    adapter.close()
    assert adapters.adapter_names()[0] == "local"


def test_an_unknown_adapter_is_a_usage_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UsageProblem, match="locale") as error:
        adapters.open_adapter("locale")
    assert "Did you mean 'local'?" in error.value.hint


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "farm-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: farm\nVersion: 1.0\n")
    lines = ["[logist.adapters]", "farm = logist.testing:open_scripted", "broken = no_such_module:Adapter"]
    (info / "entry_points.txt").write_text("\n".join([*lines, "local = no_such_module:Adapter"]))
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("plugin")
def test_adapters_of_other_packages_are_found_and_ours_can_not_be_replaced() -> None:
    assert adapters.adapter_names() == (*adapters.BUILT_IN, "broken", "farm")
    assert adapters.open_adapter("farm").name == "scripted"
    assert isinstance(adapters.open_adapter("local"), LocalWorkerAdapter)


def test_an_option_that_an_adapter_does_not_know_is_refused() -> None:
    with pytest.raises(UsageProblem, match="no option 'speed'"):
        adapters.open_adapter("local", {"speed": "high"})


@pytest.mark.usefixtures("plugin")
def test_an_adapter_that_can_not_be_loaded_is_named() -> None:
    with pytest.raises(LogistError, match="no_such_module"):
        adapters.open_adapter("broken")
