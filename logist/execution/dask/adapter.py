"""The adapter `dask`: commands run on the workers of a Dask cluster, each as one task."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from queue import Empty
from uuid import uuid4

from logist.errors import LogistError
from logist.execution import (
    CancelCheck,
    Command,
    CommandResult,
    Ended,
    OutputSink,
    StartedHook,
)
from logist.execution.adapters import AdapterOptions
from logist.execution.dask.cluster import require_dask
from logist.execution.dask.errand import Piece
from logist.execution.dask.options import DaskOptions, read_options
from logist.execution.dask.session import Errand, Session, time_to_end
from logist.execution.shipping import RemoteOutput, pack_command
from logist.processes import ProcessIdentity

#: Seconds between two looks at the cancel request; the promise is 50 ms.
_CANCEL_PACE = 0.04


def open_dask(options: AdapterOptions) -> DaskAdapter:
    """The adapter's factory. Raises UsageProblem, ExtraMissing."""
    read = read_options(options)
    require_dask()
    return DaskAdapter(read)


class DaskAdapter:
    """A `FencedAdapter` and `QueueingAdapter` that runs commands on a Dask cluster; several threads may use it at once.

    A command gets the worker's environment, or of that what is passed on, and of the submitter's what was set for it
    alone, `LOGIST_*` and the variables that the options name. The descriptors of `Command.inherit` stay here.
    """

    name = "dask"

    def __init__(self, options: DaskOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._closed = False
        self._serves_jobs = False
        self._tell: Callable[[str], None] | None = None
        self._commands = os.cpu_count() or 1

    @property
    def fence(self) -> float:
        """Seconds after a submitter's death from which on nothing of it runs on a worker, or begins."""
        return time_to_end(self._options)

    def serve_jobs(self) -> None:
        """Hold each command on its worker until its submitter, who must live for that, gives it leave to begin."""
        self._serves_jobs = True

    def attend(self, tell: Callable[[str], None]) -> None:
        """Have `tell` told when no worker takes the commands of a run that begins. Called before the first of them."""
        self._tell = tell

    def withdraw(self) -> None:
        """Cancel what no worker has begun. Jobs have the adapter for all of them, and each stops by itself."""
        with self._lock:
            session = self._session
        if session is not None and not self._serves_jobs:
            session.withdraw("the run was stopped before a worker had begun it")

    def prepare(self, commands: int) -> None:
        """Start to connect; a local cluster gets as many threads as commands.

        One that may cost something is only started for the first command.
        """
        self._commands = commands
        if not self._options.cluster:
            self._open()

    def run(
        self,
        command: Command,
        *,
        cancel: CancelCheck | None = None,
        on_output: OutputSink | None = None,
        on_started: StartedHook | None = None,
    ) -> CommandResult:
        """Run one command to its end; nothing that it started lives when this returns or raises.

        A worker that can't be reached any more keeps to that within the fence (option `fence`). `on_started` is told
        the process on the worker. Raises PlaceUnavailable when there is no cluster or it can't run commands of ours,
        StorageFailed when a log can't be written, and whatever the callbacks raise.
        """
        why = None if cancel is None else cancel()
        if why is not None:
            return CommandResult(Ended.CANCELED, None, 0.0, detail=why)
        session = self._open()
        tell, self._tell = self._tell, None
        if tell is not None:
            session.attend(tell)
        errand = Errand(
            f"logist-{uuid4().hex}",
            pack_command(command._replace(env=shipped_environment(command, os.environ, self._options.env))),
            held=self._serves_jobs or on_started is not None,
            own=None if command.passed is None else tuple(command.passed),
        )
        with RemoteOutput(command, on_output) as output:
            session.send(errand)
            try:
                end = _followed(errand, session, output, cancel, on_started)
            except BaseException:  # a callback's: it travels on, and nothing that was started may live then
                session.cancel(errand, "the submitter failed")
                _await_end(errand)
                raise
            if isinstance(end, LogistError):
                raise end
            return output.complete(end)

    def close(self) -> None:
        """Give back the connection, and the cluster if it was started for this adapter."""
        with self._lock:
            self._closed = True
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _open(self) -> Session:
        with self._lock:
            if self._closed:
                raise RuntimeError("this adapter is closed")
            if self._session is None:
                self._session = Session(self._options, self._commands)
            return self._session


def shipped_environment(command: Command, environ: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    """The variables of a command that travel: what was set for it, and not what it has of the submitter's `environ`.

    Of that only LOGIST_* and the variables called `names`: the rest holds paths of this machine, and secrets.
    """

    def is_set(name: str, value: str) -> bool:
        if command.passed is not None:
            return name not in command.passed
        return name.startswith("LOGIST_") or environ.get(name) != value

    return {name: value for name, value in command.env.items() if name in names or is_set(name, value)}


def _followed(
    errand: Errand,
    session: Session,
    output: RemoteOutput,
    cancel: CancelCheck | None,
    on_started: StartedHook | None,
) -> CommandResult | LogistError:
    """Hear of an errand until it has ended; how it did. Raises what the callbacks raise."""
    asked = False
    received = 0
    while True:
        try:
            news = errand.news.get(timeout=None if cancel is None else _CANCEL_PACE)
        except Empty:
            news = None
        match news:
            case CommandResult() | LogistError():
                return news
            case Piece():
                if news.start > received:
                    output.skip()
                received = news.start + len(news.data)
                output.take(news.stream, news.data)
            case ProcessIdentity():
                if on_started is not None:
                    on_started(news)
                session.let_go(errand)
        if cancel is not None and not asked and (why := cancel()) is not None:
            asked = True
            session.cancel(errand, why)


def _await_end(errand: Errand) -> None:
    while not isinstance(errand.news.get(), CommandResult | LogistError):
        continue
