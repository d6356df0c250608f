"""A command and all that came of it: how it is started, ended, and watched until nothing of it is left.

Where the system has no sub-reapers (not Linux) only the command's process group is killed: what left it escapes.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import time

# What `typing` says too, at the cost of its import: the first command waits until the program is ready.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Collection, Iterable
    from typing import Any, TypeVar

    Result = TypeVar("Result")
else:
    # What `signal` is made of. Itself it takes as long to import as a bare Python to start, for the sake of its enums.
    import _signal as signal

GO, STOP = b"g", b"t"
#: A warden's own standard input is /dev/null: that of every command without input, too.
NOTHING = 0
#: Seconds between SIGTERM and SIGKILL for a command that is stopped.
GRACE = 2.0
#: Seconds that processes get to end by themselves after the command did: enough for `cmd > >(tee log)`.
LINGER = 0.1
#: Seconds between two rounds of killing when no child's death comes first.
KILL_PACE = 0.02

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: Only the runner decides when a command ends, not a Ctrl-C, a hang-up or a shutdown that reaches us first.
_DEAF_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
HANDLED = (*_DEAF_TO, signal.SIGCHLD, signal.SIGPIPE)


def prctl(option: int, value: int) -> None:
    """Set one attribute of this process; nothing happens where there is no prctl."""
    if not LINUX:
        return
    if _system_prctl()(option, value, 0, 0, 0) != 0:
        raise OSError(errno.EINVAL, f"prctl({option}) was refused")


def _system_prctl() -> Callable[[int, int, int, int, int], int]:
    # Not at the top: a runner needs this module, too, and has no use for it.
    try:
        # What `ctypes` is made of: itself it takes longer to import than this program else takes to be ready.
        from _ctypes import call_function, dlopen, dlsym
    except ImportError:
        import ctypes

        prctl: Callable[[int, int, int, int, int], int] = ctypes.CDLL(None).prctl
        return prctl
    # None is this program itself, as for `ctypes`.
    address = dlsym(dlopen(None, 0), "prctl")  # type: ignore[arg-type]
    return lambda *arguments: call_function(address, arguments)


def adopt_orphans() -> None:
    """Be the one to whom whatever loses its parent below this process comes back."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def stat_fields(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the third (state) on; none when there is no such process."""
    try:
        stat = _read(f"/proc/{pid}/stat")
    except OSError:
        return []
    return stat[stat.rindex(b")") + 2 :].split()


def _read(path: str) -> bytes:
    # Bare calls: this is in the way of every command, and a file object costs six more.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 4096):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 where that can't be known."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else 0


def children(pid: int) -> list[int]:
    """The children of a process, of all its threads. One that is being born or dying may be missing."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    except FileNotFoundError:
        # The process is gone, or the kernel was built without these files.
        return found if _kernel_lists_children() else _children_by_scan(pid)
    except ProcessLookupError:
        pass
    return found


def _kernel_lists_children() -> bool:
    return os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children")


def _children_by_scan(parent: int) -> list[int]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in pids if stat_fields(pid)[1:2] == [str(parent).encode()]]


def descendants(roots: Iterable[int]) -> list[int]:
    """These processes and everything below them, parents first."""
    found = list(roots)
    for pid in found:
        found += children(pid)
    return found


class Tree:
    """What one warden has below it: a command's process `main` and all that came of it."""

    def __init__(self, main: int) -> None:
        self.main = main
        #: The wait status of `main`, once it ended.
        self.status: int | None = None
        #: Processes other than `main` that died of our SIGKILL.
        self.killed = 0
        self._hit: set[int] = set()

    def reap(self) -> bool:
        """Collect the dead; False when nothing is left below us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self._died(pid, status)

    def _died(self, pid: int, status: int) -> None:
        if pid == self.main:
            self.status = status
            if not LINUX:
                _signal_group(pid, signal.SIGKILL)
        elif pid in self._hit and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            self.killed += 1
        self._hit.discard(pid)

    def terminate(self) -> None:
        """SIGTERM for the group of `main`, which must not have been reaped, and for all else once."""
        everything = descendants(children(os.getpid())) if LINUX else []
        outside = [pid for pid in everything if _group_of(pid) != self.main]
        _signal_group(self.main, signal.SIGTERM)
        for pid in outside:
            send_signal(pid, signal.SIGTERM)

    def kill(self) -> bool:
        """One round of SIGKILL; False when all that is left belongs to others and can't be killed."""
        if not LINUX:
            return _signal_group(self.main, signal.SIGKILL)
        direct = children(os.getpid())
        # Deep ones too in the same round: two processes that start each other again must fall together.
        refused = {pid for pid in descendants(direct) if not self._kill_one(pid)}
        return not direct or not refused.issuperset(direct)

    def _kill_one(self, pid: int) -> bool:
        self._hit.add(pid)
        return send_signal(pid, signal.SIGKILL)


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def send_signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _signal_group(leader: int, number: int) -> bool:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return send_signal(leader, number)
    except PermissionError:
        return False
    return True


class Bell:
    """Rings (its descriptor becomes readable) whenever a signal came, above all SIGCHLD."""

    def __init__(self) -> None:
        self.fd, out = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(out, False)
        signal.set_wakeup_fd(out, warn_on_full_buffer=False)

    def silence(self) -> None:
        """Make it ready to ring again."""
        try:
            # Less than was asked for is all that there is.
            while len(os.read(self.fd, 4096)) == 4096:
                pass
        except BlockingIOError:
            return


class Line:
    """A warden's end of the line to its runner, whose orders are single bytes. It is over when the runner is gone.

    `runner` is a descriptor that becomes readable when it is, where there is one.
    """

    def __init__(self, fd: int, runner: int | None = None) -> None:
        self.fd = fd
        self.bell = Bell()
        self.open = True
        self._poll = select.poll()
        self._poll.register(self.bell.fd, select.POLLIN)
        self._poll.register(fd, select.POLLIN)
        self._runner = runner
        if runner is not None:
            self._poll.register(runner, select.POLLIN)

    def wait(self, timeout: float | None) -> bool:
        """Wait for anything to happen, in seconds; True when the runner wants something or is gone."""
        ready = {fd for fd, _ in self._poll.poll(None if timeout is None else max(0, int(timeout * 1000) + 1))}
        if self.bell.fd in ready:
            self.bell.silence()
        if self._runner in ready:
            self.hang_up()
            return True
        return self.fd in ready

    def order(self) -> bytes:
        """The runner's next order; empty when the runner has hung up or is gone, which means: kill everything."""
        order = os.read(self.fd, 1) if self.open else b""
        if not order:
            self.hang_up()
        return order

    def hang_up(self) -> None:
        """The runner is gone, or doesn't listen."""
        if self.open:
            self.open = False
            self._poll.unregister(self.fd)
            if self._runner is not None:
                self._poll.unregister(self._runner)


def exit_code(status: int) -> int:
    """The exit code as a shell would give it."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


class NotRunError(Exception):
    """The command could not be executed: where it went wrong, and the system's number for why."""

    def __init__(self, stage: str, number: int | None) -> None:
        super().__init__(stage, number)
        self.stage = stage
        self.errno = number


def spawn(argv: list[bytes], cwd: bytes, env: dict[bytes, bytes], fds: list[int]) -> int:
    """Start the command at once, without a barrier; its process id. Raises NotRunError.

    A fork of this interpreter takes longer than most short commands; the system's own spawn does not copy it.
    """
    try:
        os.chdir(cwd)
    except OSError as error:
        raise NotRunError("cwd", error.errno) from error
    for fd in fds[3:]:
        os.set_inheritable(fd, True)

    def start(program: bytes) -> int:
        return os.posix_spawn(
            program,
            argv,
            env,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds[:3])],
            setsid=True,
            setsigdef=HANDLED,
        )

    try:
        return first_that_runs(candidates(argv[0], env.get(b"PATH", os.fsencode(os.defpath))), start)
    except OSError as error:
        stage = "fork" if error.errno in (errno.EAGAIN, errno.ENOMEM) else "exec"
        raise NotRunError(stage, error.errno) from error
    except ValueError as error:
        # A name in the environment that is none.
        raise NotRunError("exec", errno.EINVAL) from error
    finally:
        # The work folder is not ours to keep busy.
        os.chdir("/")


def first_that_runs(programs: Iterable[bytes], start: Callable[[bytes], Result]) -> Result:
    """Start the first program that can be. Raises OSError when none can."""
    failure = OSError(errno.ENOENT, "not found")
    for program in programs:
        try:
            return start(program)
        except OSError as error:
            # As execvp: go on past what is not there, but remember that something could not be executed.
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                raise
            if error.errno == errno.EACCES or failure.errno != errno.EACCES:
                failure = error
    raise failure


def candidates(program: bytes, path: bytes) -> list[bytes]:
    """Where a program may be. An empty entry of PATH is skipped: the work folder is not to be trusted."""
    if b"/" in program:
        return [program]
    return [folder + b"/" + program for folder in path.split(b":") if folder]


def oversee(line: Line, tree: Tree, barrier: int | None, grace: float) -> dict[str, Any]:
    """Carry out the runner's orders until nothing of the command is left."""
    kill_at: float | None = None
    stopped = False
    left: list[int] = []
    while tree.reap():
        now = time.monotonic()
        if not line.open:
            # Seen here and not only when it happens: an answer that could not be delivered closes the line, too.
            kill_at = now
        elif kill_at is None and tree.status is not None:
            kill_at = now + LINGER
        if kill_at is not None and kill_at <= now and not tree.kill():
            left = children(os.getpid())
            break
        timeout = None if kill_at is None else max(kill_at - now, KILL_PACE if kill_at <= now else 0.0)
        if not line.wait(timeout):
            continue
        order = line.order()
        stopped |= tree.status is None and order == STOP
        if order == GO and barrier is not None:
            pass_barrier(barrier)
        elif order == STOP and tree.status is None and kill_at is None:
            tree.terminate()
            # Not `now`: that was before the wait.
            kill_at = time.monotonic() + grace
        else:
            kill_at = now
    return {"stopped": stopped, "killed": tree.killed, "left": left, **_end_of(tree, barrier)}


def pass_barrier(barrier: int) -> None:
    """Let the command that waits there go on."""
    try:
        os.write(barrier, GO)
    except OSError:
        return  # It died at the barrier; its status says how.


def _end_of(tree: Tree, barrier: int | None) -> dict[str, Any]:
    if barrier is None:
        return {"status": tree.status}
    os.set_blocking(barrier, False)
    try:
        complaint = os.read(barrier, 64).decode("ascii").split()
    except OSError:
        complaint = []
    if complaint:
        return {"failed": complaint[0], "errno": int(complaint[1])}
    return {"status": tree.status}


def _swallow(_number: int, _frame: object) -> None:
    """A handler and not SIG_IGN: what is ignored stays ignored in the programs we execute."""


def prepare() -> None:
    """Give every signal its default, whatever was inherited; be deaf to those that are not for us."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    for number in HANDLED:
        signal.signal(number, _swallow)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def leave(keep: Collection[int]) -> None:
    """In a copy of the runner: keep nothing that it had open but these, nor its folder and its session."""
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    # As a list: numbers may go up to a million, and not every Python can close them in one call.
    for name in os.listdir("/dev/fd"):
        if int(name) > 2 and int(name) not in keep:
            _close(int(name))


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError as error:
        # What listed them is listed, too.
        if error.errno != errno.EBADF:
            raise
