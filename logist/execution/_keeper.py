"""The runner's ends of its keeper and wardens (`bare`): starts them, gives orders, hears what came of them."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from itertools import count
from typing import Any

from logist.errors import LogistError
from logist.execution import Command
from logist.execution.bare import warden as bare

#: What the keeper runs. A module and no script: those are compiled anew each time, which a short run would wait for.
#: Its package's folder comes last, so that no file there can stand for a module of Python's own.
_RUN_WARDEN = "import sys; sys.path.append(sys.argv[1]); from bare.warden import run; run()"
_PROGRAMS = os.path.dirname(os.path.dirname(bare.__file__))  # noqa: PTH120 - pathlib is slower, and all wait for this
_CHUNK = 65536


class WardenGone(Exception):
    """The line to the warden is closed: it was killed, or never came up."""


class Keeper:
    """The runner's end of the keeper process, which starts the wardens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._control, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _program(theirs.fileno())
            except OSError as error:
                self._control.close()
                raise _no_warden(error.strerror or str(error)) from error

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def warden(self) -> Warden:
        """A new warden. Raises LogistError when the keeper does not take the order."""
        ours, theirs = socket.socketpair()
        number = next(self._numbers)
        with theirs, self._lock:
            try:
                socket.send_fds(self._control, [bare.CONTROL.pack(bare.NEW, number)], [theirs.fileno()], bare.NO_SIGNAL)
            except OSError as error:
                ours.close()
                raise _no_warden(error.strerror or str(error)) from error
        return Warden(self, number, ours)

    def sweep(self, number: int) -> int:
        """Wait until a warden that was killed and everything below it are gone; how many had to be killed."""
        with self._lock:
            try:
                self._control.sendall(bare.CONTROL.pack(bare.SWEEP, number), bare.NO_SIGNAL)
                answer = bare.receive_frame(self._control)
            except OSError:
                return 0
        return 0 if answer is None else int(answer["killed"])

    def close(self) -> None:
        """Let the process end, which it does after its last warden, and wait for it."""
        self._control.close()
        self._process.wait()


def _program(control: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [_interpreter(), "-B", "-I", "-S", "-c", _RUN_WARDEN, _PROGRAMS, str(control), str(os.getpid())],
        cwd="/",
        env=_library_path(),
        pass_fds=[control],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _interpreter() -> str:
    if not sys.executable:
        raise _no_warden("this Python does not know its own program")
    return sys.executable


def _library_path() -> dict[str, str]:
    # What an interpreter outside the system's folders may need to start; nothing else: the agent can read it.
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}


def _no_warden(why: str) -> LogistError:
    return LogistError(
        f"The process that watches commands could not be started: {why}.",
        "Check the limits on processes and open files (ulimit -u, ulimit -n), then run again.",
    )


class Warden:
    """The runner's end of one warden process, which runs one command at a time."""

    def __init__(self, keeper: Keeper, number: int, sock: socket.socket) -> None:
        self.keeper = keeper
        #: It has nothing to do and nothing left of the last command.
        self.clean = True
        self._number = number
        self._sock = sock
        #: The environment of the last command, which it remembers.
        self._env: dict[str, str] = {}

    def fileno(self) -> int:
        """Readable when the warden has something to tell or is gone."""
        return self._sock.fileno()

    def is_ready(self) -> bool:
        """Whether an idle one is still there: it never speaks unasked, so anything to read is the end."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def start(self, command: Command, grace: float, fds: list[int], *, held: bool) -> None:
        """Have it start the command; a held one waits at the barrier."""
        self.clean = False
        request = {
            "held": held,
            "input": bool(command.stdin),
            "argv": [os.fsencode(item) for item in command.spelled],
            "cwd": os.fsencode(command.cwd),
            "env": {os.fsencode(name): os.fsencode(value) for name, value in command.env.items() - self._env.items()},
            "unset": [os.fsencode(name) for name in self._env.keys() - command.env.keys()],
            "grace": grace,
        }
        self._env = dict(command.env)
        try:
            bare.send_frame(self._sock, request, fds)
        except OSError as error:
            raise WardenGone from error

    def order(self, order: bytes) -> None:
        """GO or STOP."""
        try:
            self._sock.sendall(order, bare.NO_SIGNAL)
        except OSError as error:
            raise WardenGone from error

    def receive(self) -> dict[str, Any]:
        """What it tells next."""
        try:
            message = bare.receive_frame(self._sock)
        except OSError as error:
            raise WardenGone from error
        if message is None:
            raise WardenGone
        return message

    def abandon(self) -> None:
        """Hang up and wait until it has killed what it has and is gone itself."""
        self.clean = False
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            while self._sock.recv(_CHUNK):
                continue
        self.sweep()

    def sweep(self) -> int:
        """After its death: wait until nothing below it is left; how many had to be killed."""
        return self.keeper.sweep(self._number)

    def close(self) -> None:
        """Hang up: it kills what it has and ends."""
        self._sock.close()
