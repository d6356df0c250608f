"""Runs commands on this machine, each below a warden (`bare/warden.py`), so that nothing they start lives on.

On Linux nothing survives: not a daemon that left its session, not after success, not when the runner or the warden
is killed with SIGKILL. On other systems the command's process group is killed and no more: a process that left the
group survives.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from contextlib import ExitStack
from functools import lru_cache
from typing import Any

from logist.execution import (
    CancelCheck,
    Command,
    CommandResult,
    Ended,
    OutputSink,
    StartedHook,
    StreamResult,
)
from logist.execution._keeper import Keeper, Warden, WardenGone
from logist.execution._streams import Plumbing
from logist.execution.adapters import AdapterOptions, refuse_unknown
from logist.execution.bare.tree import GO, GRACE
from logist.execution.bare.watch import Watch
from logist.execution.endings import Ran
from logist.execution.leftovers import kill_leftovers
from logist.processes import ProcessIdentity, boot_id

#: One argument or one environment entry may not be longer (MAX_ARG_STRLEN, the closing NUL included).
_LONGEST_STRING = 32 * resource.getpagesize()


class LocalWorkerAdapter:
    """Runs commands on this machine; several threads may use it at once. `grace` is in seconds."""

    name = "local"
    #: For `open_adapter_of_jobs`.
    runs_here = True

    def __init__(self, *, grace: float = GRACE) -> None:
        self._grace = grace
        self._lock = threading.Lock()
        self._keeper: Keeper | None = None
        self._idle: list[Warden] = []
        self._closed = False

    def prepare(self, commands: int) -> None:
        """Start the processes that will start and watch the commands: they get ready while the caller goes on."""
        with self._lock:
            if self._keeper is not None or self._closed:
                return
            self._keeper = Keeper()
            # More would only take the processors away from what the caller does meanwhile.
            for _ in range(min(commands, os.cpu_count() or 1)):
                self._idle.append(self._keeper.warden())

    def run(
        self,
        command: Command,
        *,
        cancel: CancelCheck | None = None,
        on_output: OutputSink | None = None,
        on_started: StartedHook | None = None,
    ) -> CommandResult:
        """Run one command to its end; nothing that it started lives when this returns or raises.

        Raises StorageFailed when a log or the input can't be written, and whatever the callbacks raise.
        """
        why = None if cancel is None else cancel()
        if why is not None:
            return CommandResult(Ended.CANCELED, None, 0.0, detail=why)
        if problem := unrunnable(command):
            return CommandResult(Ended.NOT_STARTED, None, 0.0, detail=problem)
        with ExitStack() as stack:
            plumbing = Plumbing.lay(command, on_output, stack)
            warden = self._take_warden()
            stack.callback(self._give_back, warden)
            return _Execution(command, warden, plumbing, self._grace, cancel, on_started).run()

    def close(self) -> None:
        """End the helper processes and wait for them; waits for commands that other threads still run."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            keeper, self._keeper = self._keeper, None
        for warden in idle:
            warden.close()
        if keeper is not None:
            keeper.close()

    def _take_warden(self) -> Warden:
        with self._lock:
            if self._closed:
                raise RuntimeError("this adapter is closed")
            if self._keeper is not None and not self._keeper.is_alive():
                self._drop_keeper(self._keeper)
            while self._idle:
                warden = self._idle.pop()
                if warden.is_ready():
                    return warden
                warden.close()
            if self._keeper is None:
                self._keeper = Keeper()
            return self._keeper.warden()

    def _drop_keeper(self, keeper: Keeper) -> None:
        # Its wardens work on, but nobody would clean up behind one that is killed.
        while self._idle:
            self._idle.pop().close()
        keeper.close()
        self._keeper = None

    def _give_back(self, warden: Warden) -> None:
        with self._lock:
            if warden.clean and warden.keeper is self._keeper:
                self._idle.append(warden)
                return
        warden.close()


def open_local(options: AdapterOptions) -> LocalWorkerAdapter:
    """The adapter of this machine. Raises UsageProblem for any option: it has none."""
    refuse_unknown("local", options)
    return LocalWorkerAdapter()


class _Execution:
    """One command from its start to its end."""

    def __init__(
        self,
        command: Command,
        warden: Warden,
        plumbing: Plumbing,
        grace: float,
        cancel: CancelCheck | None,
        on_started: StartedHook | None,
    ) -> None:
        self._command = command
        self._warden = warden
        self._plumbing = plumbing
        self._grace = grace
        self._cancel = cancel
        self._on_started = on_started
        self._process: ProcessIdentity | None = None
        self._going = False
        self._watch = self._begun()

    def run(self) -> CommandResult:
        """Run it."""
        try:
            return self._finish(self._carry_out())
        except WardenGone:
            return self._lost()
        except BaseException:  # a callback's too: it travels on, and nothing that was started may live then
            self._warden.abandon()
            raise

    def _carry_out(self) -> dict[str, Any]:
        """Start, hold at the barrier when there is an `on_started`, watch to the end; the warden's last word."""
        plumbing = self._plumbing
        fds = [plumbing.stdout, plumbing.stderr, *self._command.inherit]
        if plumbing.stdin is not None:
            fds.insert(0, plumbing.stdin)
        self._warden.start(self._command, self._grace, fds, held=self._on_started is not None)
        if self._on_started is not None:
            told = self._warden.receive()
            if "pid" not in told:
                return told
            self._process = ProcessIdentity(told["pid"], told["start_time"], boot_id())
            self._on_started(self._process)
            self._watch = self._begun()
        # Before the order is sent: should that fail half-way, the command may have run.
        self._going = True
        if self._on_started is not None:
            self._warden.order(GO)
        return self._watch.until_told(self._warden, self._plumbing.streams)

    def _begun(self) -> Watch:
        return Watch(self._command.timeout, self._command.idle_timeout, self._cancel)

    def _finish(self, told: dict[str, Any]) -> CommandResult:
        # An order to stop that came too late is still on the line, where the next command would be read.
        heard = self._watch.stop is None or bool(told.get("stopped"))
        self._warden.clean = heard and not told.get("left")
        return self._ran().result(told)

    def _lost(self) -> CommandResult:
        """The warden is gone: see that nothing lives, and say that the end is not known."""
        killed = self._warden.sweep()
        if not self._going:
            why = "the process that watches commands ended before the command ran"
            return CommandResult(Ended.NOT_STARTED, None, 0.0, detail=why)
        if self._process is not None or self._command.marker is not None:
            # The keeper may have been killed too; the command's own session, or its mark, can still be found.
            killed += kill_leftovers(self._process, marker=self._command.marker)
        return self._ran().lost(killed)

    def _ran(self) -> Ran:
        duration = time.monotonic() - self._watch.began
        out, err = self._collect()
        return Ran(self._command.cwd, self._command.spelled[0], duration, out, err, self._watch.stop)

    def _collect(self) -> tuple[StreamResult, StreamResult]:
        for stream in self._plumbing.streams:
            stream.drain()
        out, *rest = (stream.finish() for stream in self._plumbing.streams)
        return out, rest[0] if rest else StreamResult()


def unrunnable(command: Command) -> str | None:
    """Why the system could not take this command whatever happens; None when it could."""
    for number, item in enumerate(command.spelled):
        size = len(os.fsencode(item)) + 1
        if "\0" in item:
            return f"argument {number} holds a NUL character"
        if size > _LONGEST_STRING:
            return (
                f"argument {number} is {size - 1} bytes long and the system takes {_LONGEST_STRING - 1}: "
                "hand it over by standard input or a file"
            )
    return next((problem for name, value in command.env.items() if (problem := _unusable(name, value))), None)


# Cached: thousands of commands of one run have the same environment.
@lru_cache(maxsize=512)
def _unusable(name: str, value: str) -> str | None:
    """Why the system could not pass on a variable; None when it could."""
    if not name or "=" in name or "\0" in name + value:
        return f"the environment variable {name!r} can't be passed on"
    if len(os.fsencode(name)) + len(os.fsencode(value)) + 2 > _LONGEST_STRING:
        return f"the environment variable {name} is longer than the {_LONGEST_STRING - 1} bytes the system takes"
    return None
