"""The contract of every `WorkerAdapter`, as tests to inherit. The only module of `logist` that needs pytest.

    from logist.testing.adapter_contract import AdapterContract, MakeAdapter

    class TestFarm(AdapterContract):
        concurrency = 2

        @pytest.fixture
        def make_adapter(self) -> MakeAdapter:
            return FarmAdapter

For readable failures, conftest.py says `pytest.register_assert_rewrite("logist.testing.adapter_contract")`.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from logist.errors import StorageFailed
from logist.execution import CancelCheck, Command, CommandResult, Ended, OutputSink, StartedHook, WorkerAdapter
from logist.processes import ProcessIdentity, is_alive
from logist.testing.bench import Bench, contradictions, hostile

#: Opens an adapter as a run would; called more than once.
MakeAdapter = Callable[[], WorkerAdapter]

#: Python that prints what files it has open.
_OPEN_FILES = """
import os
for name in os.listdir("/proc/self/fd"):
    print(os.path.realpath("/proc/self/fd/" + name))
"""


class Interruption(BaseException):
    """What the callbacks raise here: no Exception, as Ctrl-C is none."""


class AdapterContract:
    """What every place where commands run promises. Inherit it, and give the fixture `make_adapter`.

    All of it is mandatory but what the flags below switch off: those tests are then skipped, or ask for less. `adapter`
    (one for each test) and `bench` (a folder of each test) may be overridden too: a shared adapter where opening one
    takes long, a folder that both sides see. A test that closes an adapter opens one of its own.
    """

    #: How many commands the place runs at the same time.
    concurrency: ClassVar[int] = 4
    #: How often the same is done where a leak would show.
    repetitions: ClassVar[int] = 10
    #: Seconds for which a command goes on that nobody stops: longer than the place needs to start and to stop one.
    endless: ClassVar[int] = 60
    #: Seconds without output after which a command is stopped; output that is six times as frequent keeps it alive.
    silence: ClassVar[float] = 1.2
    #: The interpreter at that place.
    python: ClassVar[str] = sys.executable

    #: Commands run on this machine, and what they leave behind can be looked up in /proc.
    shares_processes: ClassVar[bool] = sys.platform == "linux"
    #: A command is held until `on_started` has returned. Without, the hook is never called.
    names_processes: ClassVar[bool] = True
    #: `on_output` is called while the command runs, not only at its end.
    streams_output: ClassVar[bool] = True
    #: A command sees the variables that it was given and no others. Without, those named LOGIST_* are among them.
    exact_environment: ClassVar[bool] = True

    @pytest.fixture
    def make_adapter(self) -> MakeAdapter:
        """What is tested. There is no default."""
        raise NotImplementedError(f"{type(self).__name__} has to give the fixture make_adapter")

    @pytest.fixture
    def adapter(self, make_adapter: MakeAdapter) -> Iterator[WorkerAdapter]:
        """An open adapter."""
        adapter = make_adapter()
        yield adapter
        adapter.close()

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        """Makes the commands. What an adapter that fails leaves alive is killed."""
        bench = Bench(tmp_path, python=self.python, shares_processes=self.shares_processes)
        yield bench
        bench.clean_up()

    def run(
        self,
        adapter: WorkerAdapter,
        command: Command,
        *,
        cancel: CancelCheck | None = None,
        on_output: OutputSink | None = None,
        on_started: StartedHook | None = None,
    ) -> CommandResult:
        """Run a command; no result may contradict itself."""
        result = adapter.run(command, cancel=cancel, on_output=on_output, on_started=on_started)
        assert contradictions(command, result) == [], result
        return result

    def run_all(self, adapter: WorkerAdapter, commands: dict[str, Command]) -> dict[str, CommandResult]:
        """Run commands, as many at a time as the place takes; the results by the same names."""
        with ThreadPoolExecutor(self.concurrency) as pool:
            waiting = {name: pool.submit(self.run, adapter, command) for name, command in commands.items()}
        return {name: future.result() for name, future in waiting.items()}

    # How a command ends

    def test_the_exit_code_is_that_of_a_shell(self, adapter: WorkerAdapter, bench: Bench) -> None:
        expected = {
            "exit 0": (0, 0),
            "exit 3": (3, 0),
            "no-such-program": (127, 0),
            "kill -9 $$": (137, signal.SIGKILL),
            "kill -TERM $$": (143, signal.SIGTERM),
            "kill -SEGV $$": (139, signal.SIGSEGV),
        }
        results = self.run_all(adapter, {line: bench.shell(line) for line in expected})
        assert {result.ended for result in results.values()} == {Ended.EXITED}
        assert {line: (result.exit_code, result.signal) for line, result in results.items()} == expected
        assert [line for line, result in results.items() if result.ok] == ["exit 0"]

    def test_the_duration_is_in_seconds(self, adapter: WorkerAdapter, bench: Bench) -> None:
        assert 0.2 <= self.run(adapter, bench.argv("sleep", "0.2")).duration < self.endless

    def test_a_program_that_is_not_there_is_told_from_one_that_failed(
        self, adapter: WorkerAdapter, bench: Bench
    ) -> None:
        result = self.run(adapter, bench.argv("no-such-program", "--version"))
        assert (result.ended, result.exit_code, result.program_missing) == (Ended.NOT_STARTED, None, True)
        assert "no-such-program" in result.detail

    def test_a_missing_work_folder_is_named_and_is_no_missing_program(
        self, adapter: WorkerAdapter, bench: Bench
    ) -> None:
        result = self.run(adapter, bench.argv("true")._replace(cwd=bench.folder / "gone"))
        assert (result.ended, result.program_missing) == (Ended.NOT_STARTED, False)
        assert str(bench.folder / "gone") in result.detail

    def test_what_no_system_can_run_is_not_started(self, adapter: WorkerAdapter, bench: Bench) -> None:
        commands = {name: bench.argv("true")._replace(env={name: "value"}) for name in ("", "A=B", "A\0B")}
        results = self.run_all(adapter, {**commands, "argument": bench.argv("true", "a\0b")})
        assert {result.ended for result in results.values()} == {Ended.NOT_STARTED}
        assert all(repr(name) in results[name].detail for name in commands)

    # What a command gets

    def test_arguments_see_no_shell_and_a_line_does(self, adapter: WorkerAdapter, bench: Bench) -> None:
        results = self.run_all(
            adapter, {"argv": bench.argv("echo", "$((40 + 2)) >made"), "line": bench.shell("echo $((40 + 2)) >made")}
        )
        assert results["argv"].stdout.kept == b"$((40 + 2)) >made\n"
        assert results["line"].stdout.kept == b""
        assert (bench.folder / "made").read_bytes() == b"42\n"

    def test_arguments_arrive_byte_for_byte(self, adapter: WorkerAdapter, bench: Bench) -> None:
        arguments = [os.fsdecode(b'a\'; echo "$HOME"\n\xff\xc3\xa9 *'), "", "-n", "\\", "\u65e5\u672c"]
        result = self.run(adapter, bench.argv("printf", "<%s>", *arguments))
        assert result.stdout.kept == b"".join(b"<%s>" % os.fsencode(argument) for argument in arguments)

    def test_the_environment_is_what_was_given(self, adapter: WorkerAdapter, bench: Bench) -> None:
        given = {
            **bench.env,
            "LOGIST_EMPTY": "",
            "LOGIST_LINES": "a\nb",
            "LOGIST_BYTES": os.fsdecode(b"\xff\xfe"),
            "LOGIST_WORD": "\u00e9='\"$HOME",
        }
        result = self.run(adapter, bench.argv("env", "-0")._replace(env=given))
        seen = set(result.stdout.kept.removesuffix(b"\0").split(b"\0"))
        entries = {os.fsencode(name) + b"=" + os.fsencode(value) for name, value in given.items()}
        if self.exact_environment:
            assert seen == entries
        else:
            assert {entry for entry in entries if entry.startswith(b"LOGIST_")} <= seen

    def test_a_command_sees_nothing_of_the_environment_of_the_last_one(
        self, adapter: WorkerAdapter, bench: Bench
    ) -> None:
        line = 'echo "$LOGIST_ONE $LOGIST_TWO"'
        first = bench.shell(line)._replace(env={**bench.env, "LOGIST_ONE": "1", "LOGIST_TWO": "2"})
        assert self.run(adapter, first).stdout.kept == b"1 2\n"
        second = bench.shell(line)._replace(env={**bench.env, "LOGIST_TWO": "3"})
        assert self.run(adapter, second).stdout.kept == b" 3\n"

    def test_arguments_and_variables_can_be_large(self, adapter: WorkerAdapter, bench: Bench) -> None:
        large = "x" * 100_000
        line = 'echo "$# ${#1} ${#5} ${#LOGIST_FIRST} ${#LOGIST_SECOND}"'
        command = bench.argv("/bin/sh", "-c", line, "sh", *[large] * 5)
        command = command._replace(env={**bench.env, "LOGIST_FIRST": large, "LOGIST_SECOND": large})
        assert self.run(adapter, command).stdout.kept == b"5 100000 100000 100000 100000\n"

    def test_a_command_runs_in_its_folder_whatever_that_is_called(self, adapter: WorkerAdapter, bench: Bench) -> None:
        folder = bench.folder.resolve() / os.fsdecode(b'it\'s a "fol der"\n$HOME \xff')
        folder.mkdir()
        result = self.run(adapter, bench.shell("pwd -P; : >made")._replace(cwd=folder))
        assert result.stdout.kept == os.fsencode(folder) + b"\n"
        assert (folder / "made").exists()

    def test_input_is_fed_whole_and_closed(self, adapter: WorkerAdapter, bench: Bench) -> None:
        data = bytes(range(256)) * 4_000
        result = self.run(adapter, bench.argv("cat")._replace(stdin=data))
        assert (result.stdout.total, result.stdout.sha256) == (len(data), hashlib.sha256(data).hexdigest())

    def test_input_that_nobody_reads_does_not_block(self, adapter: WorkerAdapter, bench: Bench) -> None:
        assert self.run(adapter, bench.argv("true")._replace(stdin=b"x" * 3_000_000)).ok

    def test_without_input_a_reader_sees_the_end_at_once(self, adapter: WorkerAdapter, bench: Bench) -> None:
        result = self.run(adapter, bench.argv("cat")._replace(timeout=self.endless))
        assert (result.ok, result.stdout.total) == (True, 0)

    def test_no_file_that_is_open_here_is_open_in_a_command(self, adapter: WorkerAdapter, bench: Bench) -> None:
        self._need(self.shares_processes, "looks at /proc, where the command runs")
        secret = bench.folder / "secret"
        with secret.open("wb") as file:
            os.set_inheritable(file.fileno(), True)
            seen = self.run(adapter, bench.python(_OPEN_FILES)).stdout.kept.splitlines()
        assert len(seen) >= 3
        assert os.fsencode(secret.resolve()) not in seen

    def test_the_steps_of_a_job_hold_its_lease(self, adapter: WorkerAdapter, bench: Bench) -> None:
        self._need(getattr(adapter, "runs_here", False), "no step of a job runs at this place")
        self._need(self.shares_processes, "looks at /proc, where the command runs")
        lease = bench.folder / "lease"
        with lease.open("wb") as file:
            command = bench.python(_OPEN_FILES)._replace(inherit=(file.fileno(),))
            seen = self.run(adapter, command).stdout.kept.splitlines()
        assert os.fsencode(lease.resolve()) in seen

    # Output and logs

    def test_both_streams_are_kept_counted_and_hashed_byte_for_byte(self, adapter: WorkerAdapter, bench: Bench) -> None:
        out, err = bytes(range(256)), b"no text: \xff\xc3\x28\0\r\n"
        result = self.run(adapter, bench.python(f"import os; os.write(1, {out!r}); os.write(2, {err!r})"))
        assert (result.stdout.kept, result.stderr.kept) == (out, err)
        assert (result.stdout.total, result.stderr.total) == (len(out), len(err))
        assert result.stdout.sha256 == hashlib.sha256(out).hexdigest()

    def test_output_is_handed_over_in_order_and_by_stream(self, adapter: WorkerAdapter, bench: Bench) -> None:
        taken: dict[str, bytes] = {}

        def take(stream: str, data: bytes) -> None:
            assert data
            taken[stream] = taken.get(stream, b"") + data

        line = "i=0; while [ $i -lt 500 ]; do echo out $i; echo err $i >&2; i=$((i + 1)); done"
        result = self.run(adapter, bench.shell(line), on_output=take)
        assert taken == {"stdout": result.stdout.kept, "stderr": result.stderr.kept}
        assert taken["stderr"] == b"".join(b"err %d\n" % number for number in range(500))

    def test_output_comes_while_the_command_runs(self, adapter: WorkerAdapter, bench: Bench) -> None:
        self._need(self.streams_output, "this place hands output over at the end")
        command = bench.shell("echo ready; until [ -e seen ]; do sleep 0.01; done; exit 5")
        result = self.run(
            adapter,
            command._replace(timeout=self.endless),
            on_output=lambda _stream, _data: (bench.folder / "seen").touch(),
        )
        assert (result.ended, result.exit_code) == (Ended.EXITED, 5)

    def test_both_streams_can_be_one_in_the_order_of_printing(self, adapter: WorkerAdapter, bench: Bench) -> None:
        log = bench.folder / "log"
        streams: set[str] = set()
        command = bench.shell("echo one; echo two >&2; echo three")._replace(one_stream=True, stdout_log=log)
        result = self.run(adapter, command, on_output=lambda stream, _data: streams.add(stream))
        assert (result.stdout.kept, result.stderr.total) == (b"one\ntwo\nthree\n", 0)
        assert (log.read_bytes(), streams) == (b"one\ntwo\nthree\n", {"stdout"})

    def test_a_line_has_no_longest_length(self, adapter: WorkerAdapter, bench: Bench) -> None:
        result = self.run(adapter, bench.shell("head -c 200000 /dev/zero; echo; echo end"))
        assert result.stdout.kept == bytes(200_000) + b"\nend\n"

    def test_a_command_that_fills_one_pipe_does_not_wait_for_the_other(
        self, adapter: WorkerAdapter, bench: Bench
    ) -> None:
        line = "head -c 2000000 /dev/zero >&2; head -c 2000000 /dev/zero; echo done"
        result = self.run(adapter, bench.shell(line)._replace(timeout=self.endless))
        assert (result.stdout.total, result.stderr.total, result.ok) == (2_000_005, 2_000_000, True)

    def test_what_is_more_than_the_limit_is_counted_and_hashed_and_its_ends_are_kept(
        self, adapter: WorkerAdapter, bench: Bench
    ) -> None:
        log = bench.folder / "log"
        data = b"".join(b"%d\n" % number for number in range(20_000))
        source = r"import os; os.write(2, b'few'); print(*range(20_000), sep='\n')"
        result = self.run(adapter, bench.python(source)._replace(stdout_log=log, log_limit=1_000))
        assert (result.stdout.total, result.stdout.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert (result.stdout.head, result.stdout.tail) == (data[:500], data[-500:])
        assert log.read_bytes() == result.stdout.kept
        assert result.stderr.kept == b"few"

    def test_logs_are_whole_and_replace_what_was_there(self, adapter: WorkerAdapter, bench: Bench) -> None:
        out, err = bench.folder / "out", bench.folder / "err"
        out.write_text("of an earlier and longer command")
        line = "printf 'a\\377'; head -c 300000 /dev/zero >&2"
        self.run(adapter, bench.shell(line)._replace(stdout_log=out, stderr_log=err))
        assert (out.read_bytes(), err.read_bytes()) == (b"a\xff", bytes(300_000))
        self.run(adapter, bench.argv("true")._replace(stdout_log=out, stderr_log=err))
        assert (out.read_bytes(), err.read_bytes()) == (b"", b"")

    def test_a_silent_command_can_leave_no_log_and_no_old_one(self, adapter: WorkerAdapter, bench: Bench) -> None:
        log = bench.folder / "log"
        silent = bench.argv("true")._replace(stdout_log=log, empty_logs=False)
        self.run(adapter, silent)
        assert not log.exists()
        log.write_text("of an earlier command")
        self.run(adapter, silent)
        assert log.read_bytes() == b""

    def test_a_log_that_can_not_be_written_is_an_error(self, adapter: WorkerAdapter, bench: Bench) -> None:
        with pytest.raises(StorageFailed):
            self.run(adapter, bench.shell("echo output")._replace(stdout_log=bench.folder / "none" / "log"))
        assert self.run(adapter, bench.argv("true")).ok

    # Stopping

    def test_a_command_that_runs_too_long_is_stopped_with_all_that_it_started(
        self, adapter: WorkerAdapter, bench: Bench
    ) -> None:
        result = self.run(adapter, bench.python(hostile())._replace(timeout=0.5))
        assert (result.ended, result.ok) == (Ended.TIMED_OUT, False)
        assert bench.living() == []

    def test_silence_is_a_time_out_and_output_is_a_sign_of_life(self, adapter: WorkerAdapter, bench: Bench) -> None:
        line = f"for i in 1 2 3 4 5 6 7 8 9; do echo alive; sleep {self.silence / 6:g}; done; exec sleep {self.endless}"
        result = self.run(adapter, bench.shell(line)._replace(idle_timeout=self.silence))
        assert (result.ended, result.stdout.kept.count(b"alive")) == (Ended.TIMED_OUT, 9)

    def test_what_is_canceled_beforehand_never_runs(self, adapter: WorkerAdapter, bench: Bench) -> None:
        result = self.run(adapter, bench.shell("touch ran"), cancel=lambda: "too late")
        assert (result.ended, result.exit_code, result.detail) == (Ended.CANCELED, None, "too late")
        assert not (bench.folder / "ran").exists()

    def test_a_cancel_request_ends_all_that_a_command_started(self, adapter: WorkerAdapter, bench: Bench) -> None:
        result = self.run(adapter, bench.python(hostile()), cancel=bench.cancel_when_ready)
        assert (result.ended, result.ok) == (Ended.CANCELED, False)
        assert bench.living() == []

    def test_one_request_is_enough_and_its_sentence_is_kept(self, adapter: WorkerAdapter, bench: Bench) -> None:
        sentences = iter(["the operator said so"])
        result = self.run(
            adapter,
            bench.shell(f": >ready; exec sleep {self.endless}"),
            cancel=lambda: next(sentences, None) if bench.is_ready else None,
        )
        assert (result.ended, result.detail) == (Ended.CANCELED, "the operator said so")

    def test_a_second_request_changes_nothing(self, adapter: WorkerAdapter, bench: Bench) -> None:
        sentences = iter(["the operator said so"])
        # It ignores being asked to end: there is time for another request.
        result = self.run(
            adapter,
            bench.python(hostile()),
            cancel=lambda: next(sentences, "and said it again") if bench.is_ready else None,
        )
        assert (result.ended, result.detail) == (Ended.CANCELED, "the operator said so")

    def test_a_command_that_is_stopped_may_clean_up(self, adapter: WorkerAdapter, bench: Bench) -> None:
        line = "trap 'echo bye; exit 0' TERM; : >ready; while :; do sleep 0.01; done"
        result = self.run(adapter, bench.shell(line), cancel=bench.cancel_when_ready)
        assert (result.ended, result.exit_code, result.stdout.kept) == (Ended.CANCELED, 0, b"bye\n")
        assert not result.ok

    def test_a_cancel_request_is_seen_under_a_flood_of_output(self, adapter: WorkerAdapter, bench: Bench) -> None:
        command = bench.shell(": >ready; exec yes")._replace(timeout=self.endless)
        assert self.run(adapter, command, cancel=bench.cancel_when_ready).ended is Ended.CANCELED

    def test_nothing_survives_success(self, adapter: WorkerAdapter, bench: Bench) -> None:
        result = self.run(adapter, bench.python(hostile("sys.exit(7)")))
        assert (result.ended, result.exit_code) == (Ended.EXITED, 7)
        assert bench.living() == []

    def test_a_grandchild_that_holds_the_output_open_holds_nobody_up(
        self, adapter: WorkerAdapter, bench: Bench
    ) -> None:
        command = bench.shell(f"sleep {2 * self.endless} & echo done; exit 7")._replace(timeout=self.endless)
        result = self.run(adapter, command)
        assert (result.ended, result.exit_code, result.stdout.kept) == (Ended.EXITED, 7, b"done\n")
        assert bench.living() == []

    # Callbacks

    def test_the_process_is_named_once_and_before_the_command_runs(self, adapter: WorkerAdapter, bench: Bench) -> None:
        seen: list[tuple[ProcessIdentity, bool]] = []
        result = self.run(
            adapter,
            bench.shell("echo $$ >ran"),
            on_started=lambda process: seen.append((process, (bench.folder / "ran").exists())),
        )
        assert result.ok
        assert [ran for _, ran in seen] == ([False] if self.names_processes else [])
        if seen and self.shares_processes:
            assert (bench.folder / "ran").read_text() == f"{seen[0][0].pid}\n"
            assert not is_alive(seen[0][0])

    def test_a_command_whose_start_could_not_be_recorded_never_runs(self, adapter: WorkerAdapter, bench: Bench) -> None:
        self._need(self.names_processes, "this place names no processes")

        def fail(_process: ProcessIdentity) -> None:
            raise Interruption

        with pytest.raises(Interruption):
            self.run(adapter, bench.shell("touch ran"), on_started=fail)
        assert bench.living() == []
        assert not (bench.folder / "ran").exists()
        assert self.run(adapter, bench.argv("true")).ok

    def test_callbacks_are_called_by_the_thread_that_runs_the_command(
        self, adapter: WorkerAdapter, bench: Bench
    ) -> None:
        callers: dict[str, set[int]] = {"cancel": set(), "on_output": set(), "on_started": set()}

        def called(name: str) -> None:
            callers[name].add(threading.get_ident())

        self.run(
            adapter,
            bench.shell("echo one; sleep 0.1; echo two >&2"),
            cancel=lambda: called("cancel"),
            on_output=lambda _stream, _data: called("on_output"),
            on_started=lambda _process: called("on_started"),
        )
        here = {threading.get_ident()}
        assert callers == {"cancel": here, "on_output": here, "on_started": here if self.names_processes else set()}

    def test_an_exception_of_the_cancel_check_kills_everything_and_travels(
        self, adapter: WorkerAdapter, bench: Bench
    ) -> None:
        def fail() -> str | None:
            if bench.is_ready:
                raise Interruption
            return None

        with pytest.raises(Interruption):
            self.run(adapter, bench.python(hostile()), cancel=fail)
        assert bench.living() == []
        assert self.run(adapter, bench.argv("true")).ok

    def test_an_exception_of_the_output_sink_kills_everything_and_travels(
        self, adapter: WorkerAdapter, bench: Bench
    ) -> None:
        def fail(_stream: str, _data: bytes) -> None:
            raise Interruption

        with pytest.raises(Interruption):
            self.run(
                adapter, bench.python(hostile("linger()" if self.streams_output else "sys.exit()")), on_output=fail
            )
        assert bench.living() == []
        assert self.run(adapter, bench.argv("true")).ok

    # Several at once

    def test_commands_of_several_threads_run_at_the_same_time(self, adapter: WorkerAdapter, bench: Bench) -> None:
        numbers = range(self.concurrency)
        adapter.prepare(self.concurrency)
        everybody = " && ".join(f"[ -e here-{number} ]" for number in numbers)
        lines = {str(number): f": >here-{number}; until {everybody}; do sleep 0.01; done" for number in numbers}
        results = self.run_all(
            adapter, {name: bench.shell(line)._replace(timeout=self.endless) for name, line in lines.items()}
        )
        assert all(result.ok for result in results.values())

    def test_every_command_gets_its_own_result(self, adapter: WorkerAdapter, bench: Bench) -> None:
        numbers = range(3 * self.concurrency)
        commands = {str(number): bench.shell(f"echo {number}; echo x{number} >&2; exit {number}") for number in numbers}
        results = self.run_all(adapter, commands)
        assert {name: (r.exit_code, r.stdout.kept, r.stderr.kept) for name, r in results.items()} == {
            str(number): (number, b"%d\n" % number, b"x%d\n" % number) for number in numbers
        }

    def test_stopping_one_command_leaves_the_others_alone(self, adapter: WorkerAdapter, bench: Bench) -> None:
        self._need(self.concurrency > 1, "this place runs one command at a time")
        with ThreadPoolExecutor(1) as pool:
            line = ": >running; until [ -e stop ]; do sleep 0.01; done; echo fine"
            other = pool.submit(self.run, adapter, bench.shell(line)._replace(timeout=self.endless))
            stopped = self.run(
                adapter,
                bench.python(hostile()),
                cancel=lambda: bench.cancel_when_ready() if (bench.folder / "running").exists() else None,
            )
            (bench.folder / "stop").touch()
        assert stopped.ended is Ended.CANCELED
        assert other.result().stdout.kept == b"fine\n"

    # Opening and closing

    def test_getting_ready_is_a_hint_that_may_come_again(self, make_adapter: MakeAdapter, bench: Bench) -> None:
        adapter = make_adapter()
        try:
            adapter.prepare(2)
            adapter.prepare(1)
            assert self.run(adapter, bench.argv("true")).ok
            adapter.prepare(2)
            assert self.run(adapter, bench.argv("true")).ok
        finally:
            adapter.close()

    def test_a_closed_adapter_runs_nothing_and_may_be_closed_again(
        self, make_adapter: MakeAdapter, bench: Bench
    ) -> None:
        adapter = make_adapter()
        assert adapter.name
        assert self.run(adapter, bench.argv("true")).ok
        adapter.close()
        with pytest.raises(RuntimeError, match="closed"):
            adapter.run(bench.shell("touch ran"))
        assert not (bench.folder / "ran").exists()
        adapter.close()

    def test_commands_leave_no_descriptor_and_no_thread(self, adapter: WorkerAdapter, bench: Bench) -> None:
        command = bench.argv("cat")._replace(
            stdin=b"x", stdout_log=bench.folder / "out", stderr_log=bench.folder / "err"
        )

        def held_afterwards() -> tuple[int, int]:
            for _ in range(self.repetitions):
                assert self.run(adapter, command).ok
                self.run(adapter, bench.argv("no-such-program"))
            return _held()

        _assert_no_more(held_afterwards(), held_afterwards())

    def test_closing_gives_everything_back(self, make_adapter: MakeAdapter, bench: Bench) -> None:
        def held_afterwards() -> tuple[int, int]:
            adapter = make_adapter()
            assert self.run(adapter, bench.argv("true")).ok
            adapter.close()
            return _held()

        _assert_no_more(held_afterwards(), held_afterwards())

    def _need(self, holds: bool, otherwise: str) -> None:
        if not holds:
            pytest.skip(otherwise)


def _held() -> tuple[int, int]:
    """How many descriptors and threads this process has."""
    return len(list(Path("/dev/fd").iterdir())), threading.active_count()


def _assert_no_more(before: tuple[int, int], after: tuple[int, int]) -> None:
    assert after[0] <= before[0], f"descriptors: {before[0]}, then {after[0]}"
    assert after[1] <= before[1], f"threads: {before[1]}, then {after[1]}"
