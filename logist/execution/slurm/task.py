"""Runs one task of an array on its node: `python -m logist.execution.slurm.task SPOOL`. Started by Slurm alone.

Standard library only, and no more of that than has to be: every task starts a Python of its own.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from logist.errors import LogistError
from logist.execution import CommandResult, Ended
from logist.execution.local import LocalWorkerAdapter
from logist.execution.slurm.spool import (
    CLOSED,
    Spool,
    claim,
    claimed_by,
    note_stop,
    publish,
    read_order,
)

#: Seconds between two looks at whether the task is still to run.
_PACE = 1.0
#: Seconds that Slurm's signal gets to reach us, too, after a command succeeded or did not: Slurm signals every process
#: of the task, and the command may be the first to hear it.
_STRAGGLE = (0.02, 0.5)
#: The submitter's own: Slurm passes them on as we were submitted with them. All else in a task's environment Slurm set.
_OURS = frozenset(("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ"))


def main() -> int:
    """Run the task that the environment names; its exit code, for those who look at the queue."""
    stop = StopFlag()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop.set)
    try:
        return run_task(Spool(Path(sys.argv[-1])), int(os.environ["SLURM_ARRAY_TASK_ID"]), os.environ, stop)
    except (LogistError, OSError, ValueError) as error:
        # The task's log: see `Spool.task_log`.
        sys.stderr.write(f"{error}\n")
        return 1


class StopFlag:
    """Set when Slurm asks the task to end: it was canceled, preempted, or its time is over."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        self.is_set = True

    def is_set_within(self, seconds: float) -> bool:
        """Whether it is set now or in so many seconds."""
        deadline = time.monotonic() + seconds
        while not self.is_set and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.is_set


def run_task(spool: Spool, index: int, environ: Mapping[str, str], stop: StopFlag) -> int:
    """Run the command of a task, unless that was done or nobody wants it any more; the exit code to leave with.

    Raises StorageFailed, and OSError or ValueError for an order that can't be read.
    """
    if spool.closed.exists() or spool.result(index).exists() or claimed_by(spool, index) == CLOSED:
        return 0
    guard = _Guard(spool, index, stop)
    claim(spool, index, guard.owner)
    if spool.given_up(index).exists():
        return 0
    # An earlier start's: this one has not been stopped.
    spool.stopped(index).unlink(missing_ok=True)
    with closing(LocalWorkerAdapter(alone=True)) as adapter:
        adapter.prepare(1)
        result = _run(adapter, spool, index, environ, guard)
        if guard.is_lost():
            return 0
        if stop.is_set_within(_STRAGGLE[not result.ok]):
            # Whatever its exit code: one that cleans up when it is told to end may leave with 0.
            note_stop(spool, index, result)
            return 128 + signal.SIGTERM
        publish(spool, index, result)
    return 1 if result.exit_code is None else result.exit_code


def node_environment(submitted: Mapping[str, str], node: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command: the submitter's, and what Slurm says to it on this node, which wins."""
    said = {name: value for name, value in node.items() if name not in _OURS and not name.startswith("LC_")}
    return {**submitted, **said}


class _Guard:
    """Looks whether the task is still to run."""

    def __init__(self, spool: Spool, index: int, stop: StopFlag) -> None:
        self.owner = os.urandom(8).hex()
        self._spool, self._index, self._stop = spool, index, stop
        self._looked = time.monotonic()
        self._lost = False

    def is_lost(self) -> bool:
        """The task was given up, or Slurm has started it again elsewhere: nobody waits for this start of it."""
        self._lost = self._lost or self._spool.closed.exists() or claimed_by(self._spool, self._index) != self.owner
        return self._lost

    def why_stop(self) -> str | None:
        """A sentence when the command has to end."""
        if self._stop.is_set:
            return "Slurm ended the task"
        if time.monotonic() - self._looked >= _PACE:
            self._looked = time.monotonic()
            self.is_lost()
        return "nobody waits for the task any more" if self._lost else None


class _Streams:
    """What the command prints, for the submitter to follow: of each stream the first `limit` bytes."""

    def __init__(self, spool: Spool, index: int, limit: int, stack: ExitStack) -> None:
        self._paths = {name: spool.stream(index, name) for name in ("stdout", "stderr")}
        self._left = dict.fromkeys(self._paths, limit)
        self._files: dict[str, BinaryIO] = {}
        self._stack = stack
        for path in self._paths.values():
            # Those of another start. Neither emptied nor removed: who follows them has to see that it is another file,
            # and the number of a file that is gone is given again.
            with suppress(FileNotFoundError):
                path.replace(path.with_name(f"{path.name}.before"))

    def take(self, name: str, data: bytes) -> None:
        """More of a stream has come."""
        part = data[: self._left[name]]
        if not part:
            return
        if name not in self._files:
            self._files[name] = self._stack.enter_context(self._paths[name].open("xb"))
        self._left[name] -= len(part)
        self._files[name].write(part)
        self._files[name].flush()


def _run(
    adapter: LocalWorkerAdapter, spool: Spool, index: int, environ: Mapping[str, str], guard: _Guard
) -> CommandResult:
    order = read_order(spool, index)
    if order.output is not None:
        try:
            # An earlier start that was killed may have left half of one.
            order.output.unlink(missing_ok=True)
        except OSError as error:
            why = f"its output {order.output} can't be removed: {error.strerror}"
            return CommandResult(Ended.NOT_STARTED, None, 0.0, detail=why)
    command = order.command._replace(env=node_environment(order.command.env, environ))
    with ExitStack() as stack:
        streams = _Streams(spool, index, command.log_limit, stack)
        return adapter.run(command, cancel=guard.why_stop, on_output=streams.take)


if __name__ == "__main__":
    sys.exit(main())
