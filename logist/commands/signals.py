"""How a running command hears that it is to stop: signals and a time limit, handed to its `StopSwitch`."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from logist.commands.output import tell
from logist.errors import ExitCode

if TYPE_CHECKING:
    from types import FrameType

    from logist.stop_switch import StopSwitch

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stopped(SystemExit):
    """A signal ends the command."""

    def __init__(self, number: int) -> None:
        super().__init__(int(_exit_code(number)))
        self.signal = signal.Signals(number).name


@contextlib.contextmanager
def stop_on_signals(stop: StopSwitch) -> Iterator[None]:
    """Signals ask `stop`: once to end after the step, twice to end now; the third is obeyed as is."""

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.now:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stop.ask(_exit_code(number))

    with _handled(ask):
        yield


@contextlib.contextmanager
def ended_cleanly(left: str = "nothing half made is left") -> Iterator[None]:
    """Signals end the command once what is half written is removed; then it is told what is `left`."""

    def end(number: int, _frame: FrameType | None) -> None:
        for each in _ENDING:
            # The second one must not cut off what the first one asked for.
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped(number)

    with _handled(end):
        try:
            yield
        except _Stopped as stopped:
            tell(f"stopped by {stopped.signal}: {left}")
            raise


@contextlib.contextmanager
def _handled(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have SIGINT, SIGTERM and SIGHUP handled.

    One that was ignored when we were started (nohup, a background job) stays ignored.
    """
    heard = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _exit_code(number: int) -> ExitCode:
    return ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED


@contextlib.contextmanager
def stop_after(stop: StopSwitch, seconds: float | None) -> Iterator[None]:
    """Stop the run now when `seconds` are over; its exit code is then TIMEOUT."""
    import threading

    if seconds is None:
        yield
        return

    def ask() -> None:
        # A step may take longer than whoever set the limit can wait. Its work is set aside, not lost.
        stop.ask(ExitCode.TIMEOUT, now=True)

    timer = threading.Timer(seconds, ask)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
