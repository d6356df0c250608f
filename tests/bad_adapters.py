"""Two adapters as one would first write them, held to the contract; `test_adapter_contract.py` counts what fails."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from logist.execution import CancelCheck, Command, CommandResult, Ended, OutputSink, StartedHook
from logist.execution.local import LocalWorkerAdapter
from logist.testing import SCRIPTED_PROCESS, stream
from logist.testing.adapter_contract import AdapterContract, MakeAdapter


class NaiveAdapter:
    """Starts a process, waits for it, and kills it when it must."""

    name = "naive"

    def prepare(self, commands: int) -> None:
        pass

    def run(
        self,
        command: Command,
        *,
        cancel: CancelCheck | None = None,
        on_output: OutputSink | None = None,
        on_started: StartedHook | None = None,
    ) -> CommandResult:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                command.spelled, cwd=command.cwd, env=command.env, stdin=subprocess.PIPE, stdout=out, stderr=err
            )
            if on_started is not None:
                on_started(SCRIPTED_PROCESS)
            assert process.stdin is not None
            process.stdin.write(command.stdin or b"")
            process.stdin.close()
            ended = self._wait(process, command, cancel)
            out.seek(0)
            err.seek(0)
            return CommandResult(ended, process.returncode, 0.0, stream(out.read()), stream(err.read()))

    def close(self) -> None:
        pass

    def _wait(self, process: subprocess.Popen[bytes], command: Command, cancel: CancelCheck | None) -> Ended:
        began, ended = time.monotonic(), Ended.EXITED
        while process.poll() is None:
            if cancel is not None and cancel():
                ended = Ended.CANCELED
            if command.timeout is not None and time.monotonic() > began + command.timeout:
                ended = Ended.TIMED_OUT
            if ended is not Ended.EXITED:
                process.kill()
            time.sleep(0.005)
        return ended


class SloppyAdapter(LocalWorkerAdapter):
    """Gets wrong what the naive one gets right: quoting, the environment, input, long output, threads, clean-up."""

    name = "sloppy"

    def __init__(self) -> None:
        super().__init__(grace=0.2)
        self._descriptor = os.dup(0)
        self._one_at_a_time = threading.Lock()
        self._ready = False
        self._seen: dict[str, str] = {}
        self._results: dict[str, CommandResult] = {}

    def prepare(self, commands: int) -> None:
        if self._ready:
            raise RuntimeError("ready already")
        self._ready = True

    def run(
        self,
        command: Command,
        *,
        cancel: CancelCheck | None = None,
        on_output: OutputSink | None = None,
        on_started: StartedHook | None = None,
    ) -> CommandResult:
        line = command.shell or " ".join(command.argv)
        self._seen |= command.env
        with self._one_at_a_time:
            result = super().run(
                command._replace(
                    cwd=Path(os.fsencode(command.cwd).decode(errors="replace")),
                    env={**self._seen, "ANOTHER": "1"},
                    argv=(),
                    shell=line,
                    stdin=(command.stdin or b"\n")[:65_536],
                    inherit=tuple(number for number in range(3, 64) if _is_inheritable(number)),
                ),
                cancel=cancel,
                on_started=on_started,
            )
        text = result.stdout.kept[:65_536].decode(errors="replace").encode()
        if on_output is not None:
            on_output("stdout", text)
        # Two commands that begin alike are the same, are they not?
        return self._results.setdefault(line[:5], result._replace(stdout=stream(text)))


def _is_inheritable(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


class TestNaiveAdapter(AdapterContract):
    endless = 1
    silence = 0.3
    streams_output = False

    @pytest.fixture
    def make_adapter(self) -> MakeAdapter:
        return NaiveAdapter


class TestSloppyAdapter(AdapterContract):
    concurrency = 2
    endless = 1
    silence = 0.3

    @pytest.fixture
    def make_adapter(self) -> MakeAdapter:
        return SloppyAdapter
