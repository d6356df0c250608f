"""Runs one task of a Slurm array on its node. A program, started by Slurm alone; its argument is the array's folder.

Every task starts a Python of its own, and one that ends just after Slurm's scheduler passed by holds its place until
that comes again: so this loads next to nothing.
"""

from __future__ import annotations

import marshal
import os
import sys
import time

from .task_files import CLOSED, FORMAT, TaskFiles, claim, claimed_by, write_all, write_beside
from .tree import GRACE, KILL_PACE, NOTHING, Line, NotRunError, Tree, adopt_orphans, leave, oversee, prepare, spawn
from .watch import Ends, Stream, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping
    from typing import Any, NoReturn
else:
    # See `tree`.
    import _signal as signal

#: Seconds between two looks at whether the task is still to run.
_PACE = 1.0
#: Seconds that Slurm's signal gets to reach us, too, after a command succeeded or did not: Slurm signals every process
#: of the task, one right after the other, and the command may be the first to hear it.
_STRAGGLE = (0.005, 0.5)
#: The submitter's own: Slurm passes them on as we were submitted with them. All else in a task's environment Slurm set.
_OURS = frozenset((b"PATH", b"HOME", b"USER", b"LOGNAME", b"SHELL", b"LANG", b"TZ"))


def main() -> NoReturn:
    """Run the task that the environment names; the exit code is for those who look at the queue."""
    code = 1
    try:
        code = run_task(TaskFiles(sys.argv[-1], int(os.environ["SLURM_ARRAY_TASK_ID"])), os.environb)
    except (OSError, ValueError) as error:
        # The task's log.
        sys.stderr.write(f"{error}\n")
    sys.stderr.flush()
    # Python's own way out takes everything apart first.
    os._exit(code)


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
    if os.path.exists(files.given_up):
        return 0
    # An earlier start's: this one has not been stopped.
    _remove(files.stopped)
    ran = _run(files, environ, guard)
    ended, code = time.monotonic(), _exit_code(ran)
    if guard.is_lost():
        return 0
    result = write_beside(files.result, marshal.dumps(ran, FORMAT))
    if stop.is_set_by(ended + _STRAGGLE[code != 0]):
        # Whatever its exit code: one that cleans up when it is told to end may leave with 0.
        os.replace(result, files.stopped)
        return 128 + signal.SIGTERM
    _publish(result, files.result)
    return code


def _publish(written: str, path: str) -> None:
    """Put the result in its place, unless there is one: that stays."""
    try:
        os.link(written, path)
    except FileExistsError:
        return
    finally:
        os.unlink(written)


def _exit_code(ran: dict[str, Any]) -> int:
    if "status" not in (ran["told"] or {}):
        return 1
    code = os.waitstatus_to_exitcode(ran["told"]["status"])
    return 128 - code if code < 0 else code


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

    def __init__(self, path: str, limit: int) -> None:
        self.ends = Ends(limit)
        self._path = path
        self._left = limit
        self._fd: int | None = None
        try:
            # Another start's. Neither emptied nor removed: who follows it has to see that it is another file, and the
            # number of a file that is gone is given again.
            os.replace(path, f"{path}.before")
        except FileNotFoundError:
            return

    def take(self, data: bytes) -> None:
        """More of it has come."""
        self.ends.take(data)
        part = data[: self._left]
        if not part:
            return
        if self._fd is None:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._left -= len(part)
        write_all(self._fd, part)


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
            return {}

    def sweep(self) -> int:
        """End it and all below it; how many other processes that were."""
        tree = Tree(self._pid)
        while tree.reap() and tree.kill():
            time.sleep(KILL_PACE)
        return tree.killed


def _run(files: TaskFiles, environ: Mapping[bytes, bytes], guard: _Guard) -> dict[str, Any]:
    """Run the command; how it ended, as the submitter reads it."""
    order = _read_order(files.order)
    streams = {name: _Printed(files.stream(name), order["log_limit"]) for name in ("stdout", "stderr")}
    if order["one_stream"]:
        del streams["stderr"]
    ran: dict[str, Any] = {"cwd": order["cwd"], "program": order["argv"][0], "told": None, "stop": None}
    problem = _not_removed(order["output"])
    if problem:
        return {**ran, "problem": problem}
    # A warden that is killed leaves what it had to us.
    adopt_orphans()
    ends = [os.pipe() for _ in streams]
    warden = _start_warden(order, node_environment(order["env"], environ), [writer for _, writer in ends])
    watch = Watch(order["timeout"], order["idle_timeout"], guard.why_stop)
    readers = [Stream(reader, printed.take) for (reader, _), printed in zip(ends, streams.values(), strict=True)]
    for reader, writer in ends:
        os.close(writer)
        os.set_blocking(reader, False)
    try:
        ran["told"] = watch.until_told(warden, readers) or None
        for stream in readers:
            stream.drain()
    finally:
        # Nothing is left of it where all went well.
        ran["killed"] = 0 if ran["told"] else warden.sweep()
    carried = {name: printed.ends.carried() for name, printed in streams.items()}
    return {**ran, **carried, "stop": watch.stop, "duration": time.monotonic() - watch.began}


def _read_order(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        try:
            return dict(marshal.load(file))
        except (ValueError, EOFError, TypeError) as error:
            raise ValueError(f"{path} is not what Logist wrote there") from error


def _not_removed(output: bytes | None) -> str:
    """What is wrong where a file that an earlier start may have left half of can't be removed."""
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


def _start_warden(order: dict[str, Any], env: dict[bytes, bytes], outputs: list[int]) -> _Warden:
    """Fork the process that starts the command and watches it: it lets nothing of it live on when we are killed."""
    orders, our_orders = os.pipe()
    our_answers, answers = os.pipe()
    stdin = NOTHING if order["stdin"] is None else _input(order["stdin"])
    pid = os.fork()
    if pid == 0:
        try:
            leave((orders, answers, stdin, *outputs))
            told = _watch_over(order, env, orders, [stdin, outputs[0], outputs[-1]])
            write_all(answers, marshal.dumps(told, FORMAT))
        finally:
            os._exit(0)
    os.close(orders)
    os.close(answers)
    return _Warden(pid, our_orders, our_answers)


def _input(data: bytes) -> int:
    fd = os.memfd_create("input")
    write_all(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _watch_over(order: dict[str, Any], env: dict[bytes, bytes], orders: int, fds: list[int]) -> dict[str, Any]:
    prepare()
    adopt_orphans()
    line = Line(orders)
    try:
        return oversee(line, Tree(spawn(order, env, fds)), None, GRACE)
    except NotRunError as error:
        return {"failed": error.stage, "errno": error.errno}
