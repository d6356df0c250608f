"""The shipped fakes keep the same promises as the real thing: the contract tests run on both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from logist.clock import Clock, SystemClock
from logist.events import Notice, Reporter, StopRequested
from logist.execution import Command, CommandResult, Ended, WorkerAdapter
from logist.execution.local import LocalWorkerAdapter
from logist.processes import ProcessIdentity, is_alive
from logist.testing import SCRIPTED_PROCESS, FakeClock, MemoryReporter, ScriptedAdapter, exited, stream

PRINTING = "printf out; printf err >&2; exit 3"


@pytest.fixture(params=["local", "scripted"])
def adapter(request: pytest.FixtureRequest) -> Iterator[WorkerAdapter]:
    """An adapter whose first command ends with code 3 after it printed `out` and `err`."""
    answer = exited(3, stdout=b"out", stderr=b"err")
    adapter: WorkerAdapter = LocalWorkerAdapter() if request.param == "local" else ScriptedAdapter([answer])
    yield adapter
    adapter.close()


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        shell=PRINTING,
        stdout_log=tmp_path / "out.log",
        stderr_log=tmp_path / "err.log",
    )


def test_an_adapter_gives_the_end_the_output_and_the_logs(adapter: WorkerAdapter, command: Command) -> None:
    result = adapter.run(command)
    assert (result.ended, result.exit_code, result.ok) == (Ended.EXITED, 3, False)
    assert (result.stdout, result.stderr) == (stream(b"out"), stream(b"err"))
    assert command.stdout_log is not None
    assert command.stderr_log is not None
    assert (command.stdout_log.read_bytes(), command.stderr_log.read_bytes()) == (b"out", b"err")


def test_an_adapter_names_the_process_and_hands_over_output(adapter: WorkerAdapter, command: Command) -> None:
    processes: list[ProcessIdentity] = []
    output: dict[str, bytes] = {}

    def take(name: str, data: bytes) -> None:
        assert processes, "output came before the start"
        output[name] = output.get(name, b"") + data

    adapter.run(command, on_started=processes.append, on_output=take)
    assert len(processes) == 1
    assert not is_alive(processes[0])
    assert output == {"stdout": b"out", "stderr": b"err"}


def test_an_adapter_runs_nothing_that_was_canceled_before(adapter: WorkerAdapter, command: Command) -> None:
    result = adapter.run(command, cancel=lambda: "not now")
    assert (result.ended, result.exit_code, result.detail) == (Ended.CANCELED, None, "not now")
    assert not result.ok
    # The answer is still there for the next one.
    assert adapter.run(command).exit_code == 3


def test_an_adapter_lets_an_exception_of_a_callback_through(adapter: WorkerAdapter, command: Command) -> None:
    def fail(_process: ProcessIdentity) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        adapter.run(command, on_started=fail)


def test_an_adapter_that_was_closed_runs_nothing(adapter: WorkerAdapter, command: Command) -> None:
    adapter.close()
    with pytest.raises(RuntimeError, match="closed"):
        adapter.run(command)
    adapter.close()


def test_a_script_remembers_commands_and_answers_in_order(command: Command, tmp_path: Path) -> None:
    def write(asked: Command) -> CommandResult:
        (asked.cwd / "made").write_text("by the script")
        return exited(stdout=b"second")

    adapter = ScriptedAdapter([exited(1)]).then(write, exited()._replace(ended=Ended.TIMED_OUT, exit_code=143))
    other = Command(cwd=tmp_path, env={}, argv=("agent", "-p"))
    assert adapter.run(command).exit_code == 1
    assert adapter.run(other).stdout.kept == b"second"
    assert adapter.answers_left == 1
    assert adapter.run(command).ended is Ended.TIMED_OUT
    assert adapter.commands == [command, other, command]
    assert (tmp_path / "made").read_text() == "by the script"


def test_a_script_that_is_used_up_says_which_command_came(command: Command) -> None:
    with pytest.raises(AssertionError, match="printf out"):
        ScriptedAdapter().run(command)


def test_a_scripted_command_that_never_starts_has_no_process(command: Command) -> None:
    processes: list[ProcessIdentity] = []
    adapter = ScriptedAdapter([CommandResult(Ended.NOT_STARTED, None, 0.0), exited()])
    adapter.run(command, on_started=processes.append)
    assert processes == []
    adapter.run(command, on_started=processes.append)
    assert processes == [SCRIPTED_PROCESS]


def test_a_stream_counts_and_hashes_what_it_carried() -> None:
    carried = stream(b"bytes")
    assert (carried.total, carried.sha256, carried.kept) == (5, hashlib.sha256(b"bytes").hexdigest(), b"bytes")


@pytest.mark.parametrize("make", [SystemClock, FakeClock])
def test_a_clock_knows_an_aware_time_and_goes_on_when_it_sleeps(make: Callable[[], Clock]) -> None:
    clock = make()
    wall, monotonic = clock.now(), clock.monotonic()
    clock.sleep(0.002)
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.now() - wall >= timedelta(seconds=0.001)
    assert clock.monotonic() - monotonic >= 0.001


def test_a_fake_clock_stands_still_until_it_is_told() -> None:
    clock = FakeClock(datetime(2031, 5, 1, tzinfo=UTC), monotonic=5.0)
    assert clock.now() == clock.now() == datetime(2031, 5, 1, tzinfo=UTC)
    clock.advance(90)
    clock.sleep(30)
    assert (clock.now(), clock.monotonic()) == (datetime(2031, 5, 1, 0, 2, tzinfo=UTC), 125.0)
    assert clock.slept == [30]


def test_a_jump_of_the_wall_time_leaves_deadlines_alone() -> None:
    clock = FakeClock()
    before = clock.monotonic()
    clock.set_wall_time(datetime(1999, 1, 1, tzinfo=UTC))
    assert (clock.now().year, clock.monotonic()) == (1999, before)


def test_a_fake_clock_refuses_what_no_clock_does() -> None:
    with pytest.raises(ValueError, match="back"):
        FakeClock().advance(-1)
    with pytest.raises(ValueError, match="aware"):
        FakeClock().set_wall_time(datetime(2030, 1, 1))  # noqa: DTZ001 - the naive one is the point


def test_a_memory_reporter_keeps_events_in_order() -> None:
    reporter = MemoryReporter()
    taken: Reporter = reporter
    first = Notice(job_id="a", message="one")
    second = StopRequested(job_id="a", now=True, why="ctrl-c")
    for event in (first, second):
        taken.emit(event)
    assert reporter.events == [first, second]
    assert reporter.types == ["job.notice", "job.stop_requested"]
    assert reporter.of(StopRequested) == [second]
