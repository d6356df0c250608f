"""One connection to a Dask cluster: sends errands, visits the workers that run them, and brings results home.

All of it happens on an event loop in a thread of its own; `Session`'s public methods may be called from any thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from logist import __version__
from logist.errors import LogistError, PlaceUnavailable
from logist.execution import CommandResult, Ended
from logist.execution.bare.tree import GRACE
from logist.execution.dask.cluster import Cluster, connect, open_cluster, quiet_dask
from logist.execution.dask.errand import Homecoming, Piece, Sighting, Wish, run_errand, visit
from logist.execution.dask.options import DaskOptions
from logist.execution.shipping import unpack_result
from logist.processes import ProcessIdentity

if TYPE_CHECKING:
    from distributed import Client, Future

_Answer = TypeVar("_Answer")

#: What an errand's owner hears: output, the process of a held command, in the end a result or an error.
News = Piece | ProcessIdentity | CommandResult | LogistError

#: Seconds between two rounds of visits, and between two while a held command waits for leave to begin. An errand that
#: is younger is not visited: the scheduler has nothing to do with short commands but to run them.
_PACE = 0.25
_HELD_PACE = 0.03
#: Seconds in which a held command may be expected to get a worker.
_SOON = 2.0
#: Visits a second, all workers together: they go through the scheduler.
_VISIT_RATE = 200
#: Rounds of visits within the time after which a worker takes its submitter for gone.
_ROUNDS_IN_TIME = 4
#: Seconds that a scheduler which went away is waited for.
_RETURN = 60.0
#: Output that its owner has not read yet; more of it waits with the worker.
_UNREAD = 64
#: Seconds that a worker may take to see that its time is over, and to kill.
_MARGIN = 1.0
#: Seconds after which an operator wants to know that no worker has taken any command.
_LONG = 10.0
#: Seconds for goodbyes.
_CLOSING = 5.0


class Errand:
    """One command on its way. Only `news` is for its owner; the rest belongs to the session's event loop."""

    def __init__(self, token: str, packed: bytes, *, held: bool, own: tuple[str, ...] | None) -> None:
        self.token = token
        self.packed = packed
        self.held = held
        #: See `run_errand`.
        self.own = own
        self.news: SimpleQueue[News] = SimpleQueue()
        self.sent_at = time.monotonic()
        self.future: Future[Homecoming] | None = None
        #: Which run of it was seen, on which worker.
        self.run = ""
        self.worker = ""
        self.seen_at = 0.0
        #: The same moment or a bit before, by the worker's clock.
        self.heard_at = 0.0
        self.received = 0
        #: Why it is stopped: its owner wished it, or what became of it can't be known.
        self.canceled = ""
        self.canceled_at = 0.0
        self.lost = ""
        #: When its owner let it begin; None: not yet.
        self.let_go_at: float | None = None if held else self.sent_at
        #: Nothing of it lives, so nothing need come home.
        self.over = False
        self._told_of_process = False

    def wish(self) -> Wish:
        """What its worker is to know."""
        stop = self.canceled or self.lost
        return Wish(self.received, stop, self.run, self.heard_at, go=self.going and not stop)

    @property
    def going(self) -> bool:
        """Whether it may have begun."""
        return self.let_go_at is not None

    def is_due(self, now: float) -> bool:
        """Whether it is worth a visit."""
        return bool(self.canceled or self.lost) or not self.going or now - self.sent_at >= _PACE

    def see(self, worker: str, sighting: Sighting) -> None:
        """It was seen running."""
        if self.run and sighting.run != self.run:
            self.lost = self.lost or _AGAIN
            return
        self.run, self.worker = sighting.run, worker
        self.seen_at, self.heard_at = time.monotonic(), sighting.at
        if self.news.qsize() < _UNREAD:
            self.take(sighting.pieces)
        if sighting.held is not None and not self._told_of_process:
            self._told_of_process = True
            self.news.put(sighting.held)

    def take(self, pieces: Iterable[Piece]) -> None:
        """Output came; what came before is not taken twice."""
        for piece in pieces:
            if piece.start >= self.received:
                self.received = piece.start + len(piece.data)
                self.news.put(piece)

    def come_home(self, home: Homecoming) -> None:
        """It ended on its worker."""
        if home.refusal is not None:
            self.news.put(PlaceUnavailable(*home.refusal))
            return
        if self.run and home.run != self.run:
            self.lost = self.lost or _AGAIN
        if self.lost:
            self.news.put(CommandResult(Ended.LOST, None, self.duration(), detail=self.lost))
            return
        self.take(home.pieces)
        self.news.put(unpack_result(home.result))

    def end(self, ended: Ended, why: str) -> None:
        """Nothing will come home any more."""
        self.news.put(CommandResult(ended, None, self.duration(), detail=why))

    def age(self) -> float:
        """Seconds since it was sent."""
        return time.monotonic() - self.sent_at

    def duration(self) -> float:
        """Seconds since it was let begin, of a lost one until it was last seen; to wait for a worker costs no time."""
        end = self.seen_at if self.lost and self.run else time.monotonic()
        return 0.0 if self.let_go_at is None else max(0.0, end - self.let_go_at)


#: A function of ours would be unpickled before the task begins: by the scheduler, which needs no Logist, and by the
#: worker's connection to it, which breaks when that fails, and the worker with it. Source fails in the task alone.
_TASK = f"__import__('importlib').import_module({run_errand.__module__!r}).{run_errand.__name__}(*arguments)"

_AGAIN = "its Dask worker was lost, and Dask had begun to run it again"
_GONE = "the Dask worker that ran it went away"
_CUT_OFF = "the connection to the Dask scheduler was lost"


def time_to_end(options: DaskOptions) -> float:
    """Seconds after which a worker that heard nothing has ended its commands, those that don't want to, too."""
    return options.fence + GRACE + _MARGIN


class Session:
    """A connection to the cluster that `options` mean, made when it is opened or first used."""

    def __init__(self, options: DaskOptions, commands: int) -> None:
        self._options = options
        self._commands = commands
        self._errands: dict[str, Errand] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self._visited: set[str] = set()
        #: To drop a future sends a message, and the client sends one lot in 10 ms: it goes along with the next task.
        self._spent: list[Future[Homecoming]] = []
        self._cluster: Cluster | None = None
        self._client: Client | None = None
        self._connecting: asyncio.Task[Client] | None = None
        #: Why nothing more is to begin; empty while something may.
        self._withdrawn = ""
        self._tell: Callable[[str], None] | None = None
        started: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live(started)), name="dask-session")
        self._thread.start()
        self._loop = started.result()

    def send(self, errand: Errand) -> None:
        """Have the cluster run it; `errand.news` tells how that goes."""
        self._loop.call_soon_threadsafe(lambda: self._start(self._carry(errand)))

    def cancel(self, errand: Errand, why: str) -> None:
        """Stop it; its result comes when nothing of it lives."""
        self._loop.call_soon_threadsafe(self._cancel, errand, why)

    def attend(self, tell: Callable[[str], None]) -> None:
        """A run begins: `tell` is told, once, when no worker takes what it sends."""
        self._withdrawn, self._tell = "", tell

    def withdraw(self, why: str) -> None:
        """Cancel what no worker has begun."""
        self._loop.call_soon_threadsafe(self._withdraw, why)

    def let_go(self, errand: Errand) -> None:
        """A held command may begin."""
        self._loop.call_soon_threadsafe(self._let_go, errand)

    def close(self) -> None:
        """Give back the connection, and the cluster if it is ours."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    # --- The event loop's life ---

    async def _live(self, started: concurrent.futures.Future[asyncio.AbstractEventLoop]) -> None:
        self._closing = asyncio.Event()
        self._nudge = asyncio.Event()
        started.set_result(asyncio.get_running_loop())
        # Whoever sends an errand is told what goes wrong.
        self._connecting = asyncio.create_task(self._open())
        rounds = asyncio.create_task(self._go_round())
        rounds.add_done_callback(self._tell_fault)
        await self._closing.wait()
        rounds.cancel()
        await self._end_errands()
        await self._disconnect()

    def _start(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    def _tell_fault(self, rounds: asyncio.Task[None]) -> None:
        """Errands that are not visited any more would end as lost, and nobody would know why."""
        if not rounds.cancelled() and (fault := rounds.exception()) is not None:
            for errand in self._errands.values():
                errand.news.put(_translated(fault, errand))

    async def _end_errands(self) -> None:
        for task in tuple(self._jobs):
            task.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    # --- The connection ---

    async def _open(self) -> Client:
        await asyncio.to_thread(quiet_dask)
        self._cluster = await asyncio.to_thread(open_cluster, self._options, self._commands)
        self._client = await connect(self._options, self._cluster)
        return self._client

    async def _connected(self) -> Client:
        """The client, a new one where the old one lost its scheduler. Raises PlaceUnavailable without a scheduler."""
        if self._client is not None and self._client.status != "running":
            old, self._client = self._client, None
            self._connecting = asyncio.create_task(self._reconnect(old))
        assert self._connecting is not None
        # Others wait for the same connection.
        return await asyncio.shield(self._connecting)

    async def _reconnect(self, old: Client) -> Client:
        await _closed(old)
        deadline = time.monotonic() + _RETURN
        while True:
            try:
                self._client = await connect(self._options, self._cluster)
            except PlaceUnavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_PACE)
            else:
                return self._client

    async def _disconnect(self) -> None:
        if self._connecting is not None:
            # A cluster that is being started can only be ended once it stands.
            if self._client is None and self._options.scheduler:
                self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._client is not None:
            await _closed(self._client)
        if self._cluster is not None:
            await asyncio.to_thread(self._cluster.close)

    # --- One errand ---

    async def _carry(self, errand: Errand) -> None:
        self._errands[errand.token] = errand
        if errand.held:
            self._nudge.set()
        try:
            if self._withdrawn:
                self._cancel(errand, self._withdrawn)
            client = await self._connected()
            if errand.over:
                return
            errand.future = self._submit(client, errand)
            home = await errand.future
            if home.run != errand.run:
                await self._outlast(errand)
            errand.come_home(home)
        except LogistError as error:
            errand.news.put(error)
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            if errand.future is None or not errand.future.cancelled():
                errand.end(Ended.CANCELED, "the adapter was closed")
                raise
            await self._end_given_up(errand)
        except Exception as error:  # noqa: BLE001 - a task's own exception: it may be of any kind
            if isinstance(error, OSError) and errand.future is not None and errand.future.status != "error":
                # Not the task's: the connection broke while its result was fetched.
                await self._end_given_up(errand)
            else:
                await self._outlast(errand)
                errand.news.put(_translated(error, errand))
        finally:
            del self._errands[errand.token]
            if errand.future is not None:
                self._spent.append(errand.future)
                errand.future = None

    def _submit(self, client: Client, errand: Errand) -> Future[Homecoming]:
        options = self._options
        self._spent.clear()
        return client.submit(
            eval,
            _TASK,
            {"arguments": (errand.packed, errand.token, errand.held, errand.own, options.fence, __version__)},
            key=errand.token,
            pure=False,
            retries=0,
            workers=list(options.workers) or None,
            resources=dict(options.resources) or None,
        )

    async def _end_given_up(self, errand: Errand) -> None:
        """We gave it up, as it is over; or Dask did, and then a worker that can't be reached may still run it."""
        if not errand.over:
            if not errand.canceled:
                # One that can be reached again is told to end it, and not that its submitter still lives.
                errand.lost = errand.lost or _CUT_OFF
            await asyncio.sleep(time_to_end(self._options))
        elif errand.lost:
            await self._outlast(errand)
        if errand.canceled and errand.lost in ("", _CUT_OFF):
            errand.end(Ended.CANCELED, errand.canceled)
        else:
            errand.end(Ended.LOST, errand.lost)

    async def _outlast(self, errand: Errand) -> None:
        """Wait until the run that was seen has ended, on a worker that may not know that it was given up.

        Only for one that was held: another attempt at a job's step begins in the same workspace.
        """
        if errand.held and errand.going and errand.run:
            await asyncio.sleep(max(0.0, errand.seen_at + time_to_end(self._options) - time.monotonic()))

    def _give_up(self, errand: Errand) -> None:
        """It is over, and nothing will come home."""
        if not errand.over and errand.future is not None:
            errand.over = True
            self._start(errand.future.cancel())

    def _cancel(self, errand: Errand, why: str) -> None:
        errand.canceled = errand.canceled or why
        errand.canceled_at = errand.canceled_at or time.monotonic()
        self._nudge.set()
        if errand.future is None:
            # There is no connection yet: it was never sent.
            errand.over = True
            errand.end(Ended.CANCELED, why)

    def _withdraw(self, why: str) -> None:
        self._withdrawn = why
        self._nudge.set()
        for errand in self._errands.values():
            if errand.future is None:
                self._cancel(errand, why)

    def _let_go(self, errand: Errand) -> None:
        errand.let_go_at = time.monotonic()
        self._nudge.set()

    # --- Visits ---

    async def _go_round(self) -> None:
        pace = _PACE
        while True:
            held = any(not errand.going and errand.age() < _SOON for errand in self._errands.values())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudge.wait(), _HELD_PACE if held else pace)
            self._nudge.clear()
            self._spent.clear()
            now = time.monotonic()
            for errand in self._errands.values():
                # One that is held and was never seen won't begin, either.
                heard = errand.seen_at if errand.run else errand.canceled_at
                silent = now - heard > time_to_end(self._options)
                if errand.canceled and (errand.run or errand.held) and silent:
                    self._give_up(errand)
            due = [errand for errand in self._errands.values() if errand.future is not None and errand.is_due(now)]
            if due and self._client is not None and self._client.status == "running":
                workers = await self._visit_all(self._client, due)
                pace = min(max(_PACE, workers / _VISIT_RATE), self._options.fence / _ROUNDS_IN_TIME)

    async def _visit_all(self, client: Client, errands: list[Errand]) -> int:
        """Visit the workers that run them; how many."""
        processing = await _answer(client.processing(), self._options.fence / _ROUNDS_IN_TIME)
        if processing is None:
            return 0  # If the scheduler is gone the client finds out, and with it each errand.
        places = {token: worker for worker, tokens in processing.items() for token in tokens if token in self._errands}
        self._tell_if_none_begins(places, len(processing))
        guests: dict[str, list[Errand]] = {}
        for errand in errands:
            worker = places.get(errand.token)
            self._look_after(errand, worker, processing.keys())
            if worker is not None:
                guests.setdefault(worker, []).append(errand)
        for worker, theirs in guests.items():
            # One that does not answer keeps nobody from visiting the others.
            if worker not in self._visited:
                self._visited.add(worker)
                self._start(self._visit(client, worker, theirs))
        return len(guests)

    def _tell_if_none_begins(self, places: Mapping[str, str], workers: int) -> None:
        waiting = all(errand.age() > _LONG and not errand.run for errand in self._errands.values())
        if self._tell is None or places or not waiting:
            return
        options, tell, self._tell = self._options, self._tell, None
        wanted = [f"{name}={amount:g}" for name, amount in options.resources.items()]
        wanted += [f"worker {name}" for name in options.workers]
        tell(
            f"the Dask cluster has {workers} workers, and none of them takes a command now"
            + (f" (wanted: {', '.join(wanted)})" if wanted else "")
        )

    def _look_after(self, errand: Errand, worker: str | None, workers: Iterable[str]) -> None:
        """Make out whether an errand was lost, or can be given up."""
        if errand.run and (errand.worker not in workers or worker not in (None, errand.worker)):
            errand.lost = errand.lost or _GONE
        if worker is None and not errand.run:
            errand.canceled = errand.canceled or self._withdrawn
        if worker is None and (errand.lost or (errand.canceled and not errand.run)):
            self._give_up(errand)

    async def _visit(self, client: Client, worker: str, errands: list[Errand]) -> None:
        wishes = {errand.token: errand.wish()._replace(withdrawn=self._withdrawn) for errand in errands}
        try:
            answers = await _answer(client.run(visit, wishes, workers=[worker], on_error="ignore"), self._options.fence)
        finally:
            self._visited.discard(worker)
        seen: dict[str, Sighting] | None = None if answers is None else answers.get(worker)
        if seen is None:
            return  # Not reached: the next round tries again, or finds that it has left.
        for errand in errands:
            if errand.token in seen:
                errand.see(worker, seen[errand.token])
            elif (why := wishes[errand.token].stop or wishes[errand.token].withdrawn) and not errand.run:
                # It has not begun there, and the worker knows that it must not.
                errand.canceled = errand.canceled or why
                self._give_up(errand)


async def _answer(question: Awaitable[_Answer], seconds: float) -> _Answer | None:
    """What the scheduler answers; None when it can't be reached, or not in time."""
    try:
        return await asyncio.wait_for(question, seconds)
    except (OSError, TimeoutError):
        return None
    except asyncio.CancelledError:
        # Dask cancels what was asked over a connection that it gives up; we ourselves may be meant, too.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return None


async def _closed(client: Client) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        await asyncio.wait_for(client.close(timeout=_CLOSING), 2 * _CLOSING)


def _translated(error: BaseException, errand: Errand) -> News:
    """What a task's exception means to whoever sent the command."""
    from distributed.scheduler import KilledWorker, NoValidWorkerError

    if isinstance(error, KilledWorker):
        return CommandResult(Ended.LOST, None, errand.duration(), detail=_GONE)
    if isinstance(error, NoValidWorkerError):
        return PlaceUnavailable(
            "No Dask worker may run the command.", "Check the options workers and resources, and start such workers."
        )
    if isinstance(error, ImportError | AttributeError):
        return PlaceUnavailable(
            f"The Dask workers can't load Logist {__version__}: {error}.",
            "Install this very version in the workers' environment and restart them.",
        )
    return PlaceUnavailable(
        f"The Dask worker could not run the command: {type(error).__name__}: {error}.",
        "Look into the worker's log; `--adapter local` shows whether the command itself is at fault.",
    )
