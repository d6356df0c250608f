"""Dask schedulers and workers for tests: real processes, ended by their ids whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

#: Seconds until something that starts or ends must have done so.
PATIENCE = 60.0
_PACE = 0.02


class Farm:
    """A scheduler and its workers on this machine, their logs in `folder`. `prefix` starts each of them elsewhere."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> None:
        self.folder = folder
        self.host = host
        self.port = _free_port() if host == "127.0.0.1" else 8786
        self._prefix = tuple(prefix)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs: dict[int, Path] = {}
        self.workers: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.start_scheduler()

    @property
    def address(self) -> str:
        """What clients and workers connect to."""
        return f"tcp://{self.host}:{self.port}"

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        """Start one at the farm's address, and wait until it listens."""
        arguments = ["--host", self.host, "--port", str(self.port), "--dashboard-address", f"{self.host}:0"]
        self.scheduler = self._start("scheduler", self._prefix, *arguments)
        self._await_line(self.scheduler, f"Scheduler at: {self.address}")
        return self.scheduler

    def start_worker(
        self,
        name: str,
        *arguments: str,
        threads: int = 4,
        prefix: Sequence[str] = (),
        environ: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a worker without a nanny, and wait until it works."""
        options = ["--name", name, "--nthreads", str(threads), "--no-nanny", "--no-dashboard", *arguments]
        worker = self._start("worker", prefix, self.address, *options, environ=environ)
        self._await_line(worker, "Registered to")
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        """End everything."""
        for process in reversed(self._processes):
            kill(process)

    def _start(
        self, what: str, prefix: Sequence[str], *arguments: str, environ: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        log = self.folder / f"{what}-{len(self._processes)}.log"
        program = [*prefix, sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments]
        with log.open("wb") as file:
            process = subprocess.Popen(
                program,
                cwd=self.folder,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._logs[process.pid] = log
        self._processes.append(process)
        return process

    def _await_line(self, process: subprocess.Popen[bytes], line: str) -> None:
        log = self._logs[process.pid]

        def said() -> bool:
            assert process.poll() is None, log.read_text()
            return line.replace(" ", "") in log.read_text().replace(" ", "")

        wait_until(said, lambda: f"{line!r} in:\n{log.read_text()}")


#: How often a cluster was asked for that costs something.
paid: list[object] = []


def costly_cluster() -> None:
    """A cluster's class as far as it goes: nobody has the money."""
    paid.append(None)
    raise OSError("no money")


class Relay:
    """Passes connections on to a port of this machine, at an address of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._near: list[socket.socket] = []
        self._far: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """What clients connect to."""
        return f"tcp://127.0.0.1:{self._server.getsockname()[1]}"

    def cut(self) -> None:
        """End all connections with those who made them; the other side does not hear of it. New ones are taken."""
        for one in self._near:
            one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no more, and end all that there is."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for one in (*self._near, *self._far):
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._near.append(near)
                self._far.append(far)
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):  # closed
        while data := source.recv(1 << 16):
            with suppress(BrokenPipeError):
                target.sendall(data)


@contextmanager
def farm(folder: Path, *, workers: int = 1, threads: int = 4) -> Iterator[Farm]:
    """A scheduler with so many workers of so many threads each."""
    folder.mkdir(parents=True, exist_ok=True)
    running = Farm(folder)
    try:
        for number in range(workers):
            running.start_worker(f"w{number}", threads=threads, environ={"WHO": f"w{number}"})
        yield running
    finally:
        running.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, and wait for the end."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)


def wait_until(condition: Callable[[], object], what: str | Callable[[], str]) -> None:
    """Wait for a condition; an assertion fails when it does not come true, with what is missing."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(_PACE)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
