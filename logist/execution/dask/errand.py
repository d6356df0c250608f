"""What a Dask worker runs: one command, below a warden of its own machine, heard and stopped by its submitter.

An errand is one Dask task. While it runs its submitter *visits* the worker: it fetches what was printed, says what is
to be stopped, and proves that it still lives. A worker that nobody visits for a while kills what it runs, so that a
command that its submitter had to give up has ended before another worker gets it.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from logist import __version__
from logist.errors import LogistError, PlaceUnavailable
from logist.execution import Command, CommandResult, Ended
from logist.execution.local import LocalWorkerAdapter
from logist.execution.shipping import pack_result, unpack_command
from logist.processes import ProcessIdentity

if TYPE_CHECKING:
    from distributed import Worker

#: Bytes of output that wait for a visit; what is older is left out of the stream, not of the result.
_OUTBOX = 1_000_000
#: Errands that were stopped before they began, and may still begin.
_REMEMBERED = 10_000
#: Seconds between two looks whether a held command may go.
_PACE = 0.02


class Piece(NamedTuple):
    """Output as it came. `start` counts the bytes of both streams that came before it."""

    start: int
    stream: str
    data: bytes


class Wish(NamedTuple):
    """What a submitter tells a running errand."""

    #: Bytes that it has received.
    received: int = 0
    #: Why to stop; empty: go on.
    stop: str = ""
    #: The run that the submitter knows of; what follows is for that one.
    run: str = ""
    #: The `Sighting.at` that it heard of last: it lived then, however late this comes.
    heard_at: float = 0.0
    #: A held command may begin.
    go: bool = False
    #: Why it is not to begin, if it has not.
    withdrawn: str = ""


class Sighting(NamedTuple):
    """What a submitter is told about a running errand."""

    #: Tells this run from one that Dask began anew elsewhere.
    run: str
    #: Of a held command that waits for leave to begin.
    held: ProcessIdentity | None
    pieces: tuple[Piece, ...]
    #: When, by the worker's clock.
    at: float


class Homecoming(NamedTuple):
    """How an errand ended. A refused one ran nothing: `refusal` is the message and the hint of an error."""

    run: str
    #: As `shipping.pack_result` makes it.
    result: bytes = b""
    pieces: tuple[Piece, ...] = ()
    refusal: tuple[str, str] | None = None


def run_errand(
    packed: bytes, token: str, held: bool, own: tuple[str, ...] | None, patience: float, version: str
) -> Homecoming:
    """Run a packed command on this worker, the task's key being `token`; `held` waits for leave to begin.

    `own` names the variables that it may have of this worker; None: all. `patience` is in seconds without a sign of
    life of the submitter.
    """
    from distributed import get_worker

    run = os.urandom(8).hex()
    if version != __version__:
        return Homecoming(run, refusal=_other_version(version))
    post = _Post(run, patience, get_worker(), token)
    _register.enter(token, post)
    try:
        result = _carry_out(unpack_command(packed), post, held=held, own=own)
    except LogistError as error:
        # As it is it could not be pickled.
        return Homecoming(run, refusal=(error.message, error.hint))
    finally:
        _register.leave(token)
    return Homecoming(run, pack_result(result), post.pieces(0))


def visit(wishes: Mapping[str, Wish]) -> dict[str, Sighting]:
    """Tell the errands that run here what is wished, and see how they are; the others are left out."""
    return _register.visit(wishes)


def _carry_out(command: Command, post: _Post, *, held: bool, own: tuple[str, ...] | None) -> CommandResult:
    if not command.cwd.is_dir():
        if held:
            # A step of a job: neither its agent nor a check is at fault, and no verdict may come of it.
            raise PlaceUnavailable(
                f"The folder {command.cwd} is not on the Dask worker {_here()}.",
                "Share the jobs folder with the workers at the same path, then run the job again.",
            )
        return CommandResult(Ended.NOT_STARTED, None, 0.0, detail=_no_folder(command))
    here = os.environ if own is None else {name: os.environ[name] for name in own if name in os.environ}
    command = command._replace(env={**here, **command.env})
    try:
        result = _adapter().run(
            command, cancel=post.why_stop, on_output=post.put, on_started=post.hold if held else None
        )
    except _StoppedError as error:
        result = CommandResult(Ended.CANCELED, None, 0.0, detail=str(error))
    if post.forsaken and result.ended is Ended.CANCELED:
        return result._replace(ended=Ended.LOST)
    return result


class _StoppedError(Exception):
    """A held command was stopped before it had leave to begin."""


# One a worker: its processes that watch commands are kept for the next one.
@cache
def _adapter() -> LocalWorkerAdapter:
    adapter = LocalWorkerAdapter()
    atexit.register(adapter.close)
    return adapter


class _Post:
    """Where an errand and its submitter meet: the errand's thread on one side, the worker's event loop on the other."""

    def __init__(self, run: str, patience: float, worker: Worker, token: str) -> None:
        #: The command is stopped though nobody wished it: its submitter can't know how it ended.
        self.forsaken = False
        self._run = run
        self._patience = patience
        self._worker = worker
        self._token = token
        self._lock = threading.Lock()
        self._stop = ""
        self._heard = time.monotonic()
        self._held: ProcessIdentity | None = None
        self._go = threading.Event()
        self._pieces: deque[Piece] = deque()
        self._total = 0
        self._waiting = 0

    def why_stop(self) -> str | None:
        """Why the command is to be stopped now."""
        if self._stop:
            return self._stop
        why = self._why_forsaken()
        self.forsaken = why is not None
        return why

    def hold(self, process: ProcessIdentity) -> None:
        """Wait until the command may begin, or is to be stopped, which is seen before it has done anything."""
        self._held = process
        while not self._go.wait(_PACE):
            if (why := self.why_stop()) is not None:
                raise _StoppedError(why)

    def put(self, stream: str, data: bytes) -> None:
        """The command printed something."""
        with self._lock:
            self._pieces.append(Piece(self._total, stream, data))
            self._total += len(data)
            self._waiting += len(data)
            while self._waiting > _OUTBOX:
                self._waiting -= len(self._pieces.popleft().data)

    def pieces(self, received: int) -> tuple[Piece, ...]:
        """What was printed after so many bytes. Those before are forgotten."""
        with self._lock:
            while self._pieces and self._pieces[0].start < received:
                self._waiting -= len(self._pieces.popleft().data)
            return tuple(self._pieces)

    def visit(self, wish: Wish) -> Sighting:
        """The submitter was here, or its word comes late: only what it has heard says when it lived."""
        self.stop(wish.stop)
        if wish.run == self._run:
            self._heard = max(self._heard, wish.heard_at)
            if wish.go:
                self._go.set()
        held = None if self._go.is_set() else self._held
        return Sighting(self._run, held, self.pieces(wish.received), time.monotonic())

    def stop(self, why: str) -> None:
        """Stop it, when there is a reason."""
        self._stop = self._stop or why

    def _why_forsaken(self) -> str | None:
        if time.monotonic() - self._heard > self._patience:
            return f"the Dask worker on {_here()} had not heard of its submitter for {self._patience:g} s"
        if self._worker.status.name not in _AT_WORK:
            return f"the Dask worker on {_here()} was closing"
        # Dask gives up a task when its client is gone, or has been told so; a thread it can't stop.
        task = self._worker.state.tasks.get(self._token)
        if task is None or task.state != "executing":
            return "Dask gave up the task"
        return None


#: A worker that is to close once its tasks have ended is among them.
_AT_WORK = frozenset({"running", "paused", "closing_gracefully"})


class _Register:
    """The errands that run in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._posts: dict[str, _Post] = {}
        #: Errands to be stopped as soon as they begin; a dict keeps their order.
        self._stopped: dict[str, str] = {}

    def enter(self, token: str, post: _Post) -> None:
        with self._lock:
            self._posts[token] = post
            post.stop(self._stopped.pop(token, ""))

    def leave(self, token: str) -> None:
        with self._lock:
            del self._posts[token]

    def visit(self, wishes: Mapping[str, Wish]) -> dict[str, Sighting]:
        with self._lock:
            for token, wish in wishes.items():
                if (why := wish.stop or wish.withdrawn) and token not in self._posts:
                    self._stopped[token] = why
            while len(self._stopped) > _REMEMBERED:
                del self._stopped[next(iter(self._stopped))]
            return {token: self._posts[token].visit(wish) for token, wish in wishes.items() if token in self._posts}


#: Visits come by the worker's event loop, errands run in its threads: this is where the one finds the other.
_register = _Register()


def _here() -> str:
    return socket.gethostname()


def _other_version(version: str) -> tuple[str, str]:
    return (
        f"The Dask worker on {_here()} has Logist {__version__}, and this is {version}.",
        "Install the same version on the workers and restart them.",
    )


def _no_folder(command: Command) -> str:
    return (
        f"the folder {command.cwd} is not on the Dask worker {_here()}: share it with the workers at the same path; "
        "a spec can do without (--storage)"
    )
