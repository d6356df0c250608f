"""Runs one task of a Slurm array on its node. A program, started by Slurm alone; its argument is the array's folder.

Every task starts a Python of its own, and one that ends just after Slurm's scheduler passed by holds its place until
that comes again: so this loads next to nothing.
"""

from __future__ import annotations

import marshal
import os
import sys
import time

from .task_files import CLOSED, TaskFiles, claim, claimed_by, create, packed, unpacked, write_all, write_beside
from .tree import (
    GRACE,
    KILL_PACE,
    NOTHING,
    Line,
    NotRunError,
    Tree,
    adopt_orphans,
    exit_code,
    leave,
    oversee,
    prepare,
    spawn,
)
from .watch import Ends, Stream, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping
    from typing import Any, NoReturn

    from .task_files import Ending, Order
else:
    # See `tree`.
    import _signal as signal

#: Seconds between two looks at whether the task is still to run.
_PACE = 1.0
#: Seconds that Slurm's signal gets to reach us, too, after a command did not succeed: Slurm signals every process of
#: the task, one right after the other, and the command may be the first to hear it.
_STRAGGLE = 0.5
#: The same where it did succeed: so many seconds for each that it ran, as it may have been signaled, and at most.
_STRAGGLE_SHARE, _STRAGGLE_AT_MOST = 0.01, 0.02
#: The submitter's own: Slurm passes them on as we were submitted with them. All else in a task's environment Slurm set.
_OURS = frozenset((b"PATH", b"HOME", b"USER", b"LOGNAME", b"SHELL", b"LANG", b"TZ"))


def main() -> NoReturn:
    """Run the task that the environment names; the exit code is for those who look at the queue."""
    code = 1
    try:
        code = run_task(TaskFiles(sys.argv[-1], int(os.environ["SLURM_ARRAY_TASK_ID"])), os.environb)
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except ValueError as error:
        _say(str(error))
    # Python's own way out takes everything apart first.
    os._exit(code)


def _say(words: str) -> None:
    """Tell it in the task's log."""
    os.write(2, os.fsencode(f"{words}\n"))


class StopFlag:
    """Set when Slurm asks the task to end: it was canceled, preempted, or its time is over."""

    def __init__(self) -> None:
        self.is_set = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._set)

    def _set(self, _number: int, _frame: object) -> None:
        self.is_set = True

    def is_set_by(self, moment: float) -> bool:
        """Whether it is set now or until then, on the monotonic clock."""
        while not self.is_set and time.monotonic() < moment:
            time.sleep(0.001)
        return self.is_set


def run_task(files: TaskFiles, environ: Mapping[bytes, bytes]) -> int:
    """Run the command of a task, unless that was done or nobody wants it any more; the exit code to leave with.

    Raises OSError, and ValueError for an order that is none.
    """
    stop = StopFlag()
    if os.path.exists(files.closed) or os.path.exists(files.result) or claimed_by(files) == CLOSED:
        return 0
    guard = _Guard(files, stop)
    claim(files, guard.owner)
    order = _read_order(files.order)
    # After all that may have taken its time: what comes now takes away what another start may have made.
    if os.path.exists(files.given_up) or os.path.exists(files.result) or guard.is_lost():
        return 0
    if stop.is_set:
        return 128 + signal.SIGTERM
    # An earlier start's: this one has not been stopped.
    _remove(files.stopped)
    problem = _remove_output(order["output"])
    ending: Ending = {"problem": problem} if problem else _run(order, files, environ, guard)
    ended = time.monotonic()
    if guard.is_lost():
        return 0
    result = write_beside(files.result, packed(ending))
    code = _exit_code(ending)
    if stop.is_set_by(ended + _straggle(ending, code)):
        # Whatever its exit code: one that cleans up when it is told to end may leave with 0.
        os.replace(result, files.stopped)
        return 128 + signal.SIGTERM
    _publish(result, files.result)
    return code


def _straggle(ending: Ending, code: int) -> float:
    if code == 0 and ending["stop"] is None:
        return min(_STRAGGLE_SHARE * ending["duration"], _STRAGGLE_AT_MOST)
    return _STRAGGLE


def _publish(written: str, path: str) -> None:
    """Put the result in its place, unless there is one: that stays."""
    try:
        os.link(written, path)
    except FileExistsError:
        return
    finally:
        os.unlink(written)


def _exit_code(ending: Ending) -> int:
    """The command's; 1 where there is none."""
    status = (ending.get("told") or {}).get("status")
    return 1 if status is None else exit_code(status)


class _Guard:
    """Looks whether the task is still to run."""

    def __init__(self, files: TaskFiles, stop: StopFlag) -> None:
        self.owner = os.urandom(8).hex()
        self._files, self._stop = files, stop
        self._looked = time.monotonic()
        self._lost = False

    def is_lost(self) -> bool:
        """The task was given up, or Slurm has started it again elsewhere: nobody waits for this start of it."""
        self._lost = self._lost or os.path.exists(self._files.closed) or claimed_by(self._files) != self.owner
        return self._lost

    def why_stop(self) -> str | None:
        """A sentence when the command has to end."""
        if self._stop.is_set:
            return "Slurm ended the task"
        if time.monotonic() - self._looked >= _PACE:
            self._looked = time.monotonic()
            self.is_lost()
        return "nobody waits for the task any more" if self._lost else None


class _Printed:
    """What one stream of the command carries: its ends, and the first `limit` bytes for the submitter to follow."""

    def __init__(self, path: str, limit: int, guard: _Guard) -> None:
        self.ends = Ends(limit)
        self._path = path
        self._left = limit
        self._guard = guard
        self._fd: int | None = None
        self._set_aside()

    def take(self, data: bytes) -> None:
        """More of it has come. Raises OSError."""
        self.ends.take(data)
        part = data[: self._left]
        if not part:
            return
        self._fd = self._open() if self._fd is None else self._fd
        if self._fd is None:
            self._left = 0
            return
        self._left -= len(part)
        try:
            write_all(self._fd, part)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from error

    def _open(self) -> int | None:
        """The file; None: it is another start's by now."""
        while not self._guard.is_lost():
            try:
                return create(self._path)
            except FileExistsError:
                # A start that has lost its claim made it before it saw that.
                self._set_aside()
        return None

    def _set_aside(self) -> None:
        try:
            # Another start's. Neither emptied nor removed: who follows it has to see that it is another file, and the
            # number of a file that is gone is given again.
            os.replace(self._path, f"{self._path}.before")
        except FileNotFoundError:
            return


class _Warden:
    """Our ends of the lines to the process that watches the command."""

    def __init__(self, pid: int, orders: int, answers: int) -> None:
        self._pid = pid
        self._orders = orders
        self._answers = answers

    def fileno(self) -> int:
        """Readable when the warden has something to tell or is gone."""
        return self._answers

    def order(self, order: bytes) -> None:
        """Give an order. Of one that is gone, `receive` tells."""
        try:
            os.write(self._orders, order)
        except BrokenPipeError:
            return

    def receive(self) -> dict[str, Any]:
        """What it tells last; nothing: it was killed."""
        parts = []
        while part := os.read(self._answers, 4096):
            parts.append(part)
        try:
            return dict(marshal.loads(b"".join(parts)))
        except (EOFError, ValueError, TypeError):
            # Nothing, or half of it.
            return {}

    def sweep(self) -> int:
        """End it and all below it; how many other processes that were."""
        tree = Tree(self._pid)
        while tree.reap() and tree.kill():
            time.sleep(KILL_PACE)
        return tree.killed


def _run(order: Order, files: TaskFiles, environ: Mapping[bytes, bytes], guard: _Guard) -> Ending:
    """Run the command to its end. Raises OSError; nothing of it lives then."""
    names = ("stdout",) if order["one_stream"] else ("stdout", "stderr")
    printed = {name: _Printed(files.stream(name), order["log_limit"], guard) for name in ("stdout", "stderr")}
    # A warden that is killed leaves what it had to us.
    adopt_orphans()
    pipes = [os.pipe() for _ in names]
    warden = _start_warden(order, node_environment(order["env"], environ), [writer for _, writer in pipes])
    watch = Watch(order["timeout"], order["idle_timeout"], guard.why_stop)
    streams = [Stream(reader, printed[name].take) for name, (reader, _) in zip(names, pipes, strict=True)]
    for reader, writer in pipes:
        os.close(writer)
        os.set_blocking(reader, False)
    told: dict[str, Any] = {}
    killed = 0
    try:
        told = watch.until_told(warden, streams)
        for stream in streams:
            stream.drain()
    finally:
        # It has ended all that was below it, unless it was killed or something went wrong.
        if "status" not in told:
            killed = warden.sweep()
    if "problem" in told:
        return {"problem": told["problem"]}
    ending: Ending = {
        "cwd": order["cwd"],
        "program": order["argv"][0],
        "duration": time.monotonic() - watch.began,
        "stop": watch.stop,
        "told": told or None,
        "killed": killed,
        "stdout": printed["stdout"].ends.carried(),
    }
    if not order["one_stream"]:
        ending["stderr"] = printed["stderr"].ends.carried()
    return ending


def _read_order(path: str) -> Order:
    with open(path, "rb") as file:
        data = file.read()
    try:
        order: Order = unpacked(data)
    except (ValueError, EOFError, TypeError) as error:
        raise ValueError(f"{path} is not what this release of Logist writes there") from error
    return order


def _remove_output(output: bytes | None) -> str:
    """Remove what an earlier start may have left half of; what is wrong where that can't be done."""
    if output is None:
        return ""
    try:
        _remove(output)
    except OSError as error:
        return f"its output {os.fsdecode(output)} can't be removed: {error.strerror}"
    return ""


def _remove(path: str | bytes) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def node_environment(submitted: Mapping[bytes, bytes], node: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The environment of a command: the submitter's, and what Slurm says to it on this node, which wins."""
    said = {name: value for name, value in node.items() if name not in _OURS and not name.startswith(b"LC_")}
    return {**submitted, **said}


def _start_warden(order: Order, env: dict[bytes, bytes], outputs: list[int]) -> _Warden:
    """Fork the process that starts the command and watches it: it lets nothing of it live on when we are killed."""
    orders, our_orders = os.pipe()
    our_answers, answers = os.pipe()
    stdin = _input(order["stdin"]) if order["stdin"] else NOTHING
    pid = os.fork()
    if pid == 0:
        try:
            leave((orders, answers, stdin, *outputs))
            told = _watch_over(order, env, orders, [stdin, outputs[0], outputs[-1]])
            write_all(answers, marshal.dumps(told))
        finally:
            os._exit(0)
    os.close(orders)
    os.close(answers)
    return _Warden(pid, our_orders, our_answers)


def _input(data: bytes) -> int:
    """A file that a command reads the data from, and that has no name."""
    path = f"{os.environ.get('TMPDIR') or '/tmp'}/logist-{os.urandom(8).hex()}"
    fd = create(path)
    os.unlink(path)
    write_all(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _watch_over(order: Order, env: dict[bytes, bytes], orders: int, fds: list[int]) -> dict[str, Any]:
    try:
        prepare()
        adopt_orphans()
        line = Line(orders)
        return oversee(line, Tree(spawn(order["argv"], order["cwd"], env, fds)), None, GRACE)
    except NotRunError as error:
        return {"failed": error.stage, "errno": error.errno}
    except OSError as error:
        return {"problem": f"the process that watches commands failed: {error}"}
