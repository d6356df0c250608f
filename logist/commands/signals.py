"""How a running command hears that it is to stop: signals and a time limit, handed to its `StopSwitch`."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

from logist.errors import ExitCode

if TYPE_CHECKING:
    from types import FrameType

    from logist.stop_switch import StopSwitch


@contextlib.contextmanager
def stop_on_signals(stop: StopSwitch) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP ask `stop`: once to end after the step, twice to end now; the third is obeyed as is.

    A signal that was ignored when we were started (nohup, a background job) stays ignored.
    """

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.now:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stop.ask(ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED)

    previous = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            previous[number] = signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ended_cleanly() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command the way Ctrl-C does: what was half written is removed first."""

    def end(number: int, _frame: FrameType | None) -> None:
        # The second one must not cut off what the first one asked for.
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(int(ExitCode.TERMINATED))

    previous = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            previous[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stop_after(stop: StopSwitch, seconds: float | None) -> Iterator[None]:
    """Stop the run now when `seconds` are over; its exit code is then TIMEOUT."""
    import threading

    if seconds is None:
        yield
        return

    def ask() -> None:
        # Twice: a step may take longer than whoever set the limit can wait. Its work is set aside, not lost.
        stop.ask(ExitCode.TIMEOUT)
        stop.ask(ExitCode.TIMEOUT)

    timer = threading.Timer(seconds, ask)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
