"""Watches commands and lets nothing of them live on. Run as a program by `_keeper.py`, standard library only.

One *keeper* per runner forks one *warden* per command that runs at the same time; a warden serves many commands,
one after the other. Each of them is a child sub-reaper: whatever a command starts (setsid, double forks) comes back
to its warden and is killed. When the runner dies the wardens see it and kill everything; when a warden is killed
its orphans come back to the keeper, which kills them.

Where the system has no sub-reapers (not Linux) only the command's process group is killed: what left it escapes.

Wire format, both ways: a frame is a 4-byte length and `marshal`, which both ends' Python has built in: to import json
takes a fifth of the time until this program is ready. After a request the runner sends single bytes (orders).
"""

from __future__ import annotations

import errno
import marshal
import os
import select
import signal
import socket
import struct
import sys
import time

# What `typing` says too, at the cost of its import: the first command waits until this program is ready.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NoReturn, TypeVar

    Result = TypeVar("Result")

GO, STOP = b"g", b"t"
HEADER = struct.Struct("!I")
#: To the keeper: what, and the number that the runner gave the warden.
CONTROL = struct.Struct("!cI")
NEW, SWEEP = b"n", b"s"
#: Our own standard input is /dev/null: that of every command without input, too.
NOTHING = 0
#: The kernel takes no more descriptors in one message.
MAX_FDS = 253

#: Seconds that processes get to end by themselves after the command did: enough for `cmd > >(tee log)`.
LINGER = 0.1
#: Seconds between two rounds of killing when no child's death comes first.
KILL_PACE = 0.02

LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: The runner may have given SIGPIPE its default back.
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
#: Only the runner decides when a command ends, not a Ctrl-C, a hang-up or a shutdown that reaches us first.
_DEAF_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_HANDLED = (*_DEAF_TO, signal.SIGCHLD, signal.SIGPIPE)


def prctl(option: int, value: int) -> None:
    """Set one attribute of this process; nothing happens where there is no prctl."""
    if not LINUX:
        return
    # Not at the top: the runner needs this module, too, and has no use for it.
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def send_frame(sock: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message; descriptors travel with its beginning."""
    body = marshal.dumps(message)
    data = HEADER.pack(len(body)) + body
    # In one piece as far as it goes: a receiver that is woken for the header alone waits once more.
    sent = socket.send_fds(sock, [data], fds, NO_SIGNAL) if fds else 0
    if sent < len(data):
        sock.sendall(data[sent:], NO_SIGNAL)


def receive_frame(sock: socket.socket, fds: list[int] | None = None) -> dict[str, Any] | None:
    """Receive one message, None at the end of the stream; descriptors that came with it are added to `fds`."""
    header = b""
    if fds is not None:
        header, received, _, _ = socket.recv_fds(sock, HEADER.size, MAX_FDS, _CLOEXEC)
        # The flag alone does not help: Python 3.11 does not pass it on.
        for fd in received:
            os.set_inheritable(fd, False)
        fds.extend(received)
    header += _receive_exactly(sock, HEADER.size - len(header))
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    body = _receive_exactly(sock, length)
    return dict(marshal.loads(body)) if len(body) == length else None


def _receive_exactly(sock: socket.socket, length: int) -> bytes:
    parts = []
    while length and (part := sock.recv(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


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
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib costs start-up time
            found += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    except FileNotFoundError:
        # The process is gone, or the kernel was built without these files.
        return found if _kernel_lists_children() else _children_by_scan(pid)
    except ProcessLookupError:
        pass
    return found


def _kernel_lists_children() -> bool:
    return os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children")  # noqa: PTH110 - as above


def _children_by_scan(parent: int) -> list[int]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - as above
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
            _signal(pid, signal.SIGTERM)

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
        return _signal(pid, signal.SIGKILL)


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _signal_group(leader: int, number: signal.Signals) -> bool:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return _signal(leader, number)
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


class Link:
    """The warden's end of the line to the runner."""

    def __init__(self, sock: socket.socket, runner: int | None) -> None:
        self.sock = sock
        self.bell = Bell()
        self.open = True
        self._poll = select.poll()
        self._poll.register(self.bell.fd, select.POLLIN)
        self._poll.register(sock, select.POLLIN)
        self._runner = runner
        if runner is not None:
            self._poll.register(runner, select.POLLIN)

    def wait(self, timeout: float | None) -> bool:
        """Wait for anything to happen, in seconds; True when the runner wants something or is gone."""
        ready = {fd for fd, _ in self._poll.poll(None if timeout is None else max(0, int(timeout * 1000) + 1))}
        if self.bell.fd in ready:
            self.bell.silence()
        if self._runner in ready:
            self._hang_up()
            return True
        return self.sock.fileno() in ready

    def order(self) -> bytes:
        """The runner's next order; empty when the runner has hung up or is gone, which means: kill everything."""
        order = self.sock.recv(1) if self.open else b""
        if not order:
            self._hang_up()
        return order

    def request(self, fds: list[int]) -> dict[str, Any] | None:
        """The next command to run; None when the runner is gone."""
        while not self.wait(None):
            pass
        return receive_frame(self.sock, fds) if self.open else None

    def answer(self, message: dict[str, Any]) -> None:
        """Tell the runner, if it still listens."""
        try:
            if self.open:
                send_frame(self.sock, message)
        except OSError:
            self._hang_up()

    def _hang_up(self) -> None:
        if self.open:
            self.open = False
            self._poll.unregister(self.sock)
            if self._runner is not None:
                self._poll.unregister(self._runner)


def serve(link: Link) -> None:
    """Run the runner's commands until it hangs up."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    env: dict[bytes, bytes] = {}
    while link.open:
        fds: list[int] = []
        request = link.request(fds)
        if request is None:
            return
        # Only what differs from the last command's environment is sent: thousands of commands have nearly the same.
        for name in request["unset"]:
            del env[name]
        env.update(request["env"])
        answer = run_command(link, request, env, fds if request["input"] else [NOTHING, *fds])
        # Given back before the answer: whoever hears that the command ended may rely on its lease being free of us.
        for fd in fds:
            os.close(fd)
        link.answer(answer)


def run_command(link: Link, request: dict[str, Any], env: dict[bytes, bytes], fds: list[int]) -> dict[str, Any]:
    """Run one command to its end and everything below it; says how it ended."""
    if LINUX and not request["held"]:
        try:
            return oversee(link, Tree(spawn(request, env, fds)), None, float(request["grace"]))
        except NotRunError as error:
            return {"failed": error.stage, "errno": error.errno}
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            main = _fork_blocked()
        except OSError as error:
            return {"failed": "fork", "errno": error.errno}
        if main == 0:
            ours.close()
            become(request, env, fds, theirs)
        theirs.close()
        if request["held"]:
            link.answer({"pid": main, "start_time": start_time(main)})
        else:
            _pass_barrier(ours)
        return oversee(link, Tree(main), ours, float(request["grace"]))


class NotRunError(Exception):
    """The command could not be executed: where it went wrong, and the system's number for why."""

    def __init__(self, stage: str, number: int | None) -> None:
        super().__init__(stage, number)
        self.stage = stage
        self.errno = number


def spawn(request: dict[str, Any], env: dict[bytes, bytes], fds: list[int]) -> int:
    """Start the command at once, without a barrier; its process id. Raises NotRunError.

    A fork of this interpreter takes longer than most short commands; the system's own spawn does not copy it.
    """
    argv: list[bytes] = request["argv"]
    try:
        os.chdir(request["cwd"])
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
            setsigdef=_HANDLED,
        )

    try:
        return first_that_runs(candidates(argv[0], env.get(b"PATH", os.fsencode(os.defpath))), start)
    except OSError as error:
        stage = "fork" if error.errno in (errno.EAGAIN, errno.ENOMEM) else "exec"
        raise NotRunError(stage, error.errno) from error
    finally:
        # The work folder is not ours to keep busy.
        os.chdir("/")


def _fork_blocked() -> int:
    """Fork with all signals blocked: one that comes early must not meet our handlers in the child."""
    signal.pthread_sigmask(signal.SIG_SETMASK, range(1, signal.NSIG))
    pid = -1
    try:
        pid = os.fork()
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return pid


def oversee(link: Link, tree: Tree, barrier: socket.socket | None, grace: float) -> dict[str, Any]:
    """Carry out the runner's orders until nothing of the command is left."""
    kill_at: float | None = None
    stopped = False
    left: list[int] = []
    while tree.reap():
        now = time.monotonic()
        if not link.open:
            # Seen here and not only when it happens: an answer that could not be delivered closes the line, too.
            kill_at = now
        elif kill_at is None and tree.status is not None:
            kill_at = now + LINGER
        if kill_at is not None and kill_at <= now and not tree.kill():
            left = children(os.getpid())
            break
        timeout = None if kill_at is None else max(kill_at - now, KILL_PACE if kill_at <= now else 0.0)
        if not link.wait(timeout):
            continue
        order = link.order()
        stopped |= tree.status is None and order == STOP
        if order == GO and barrier is not None:
            _pass_barrier(barrier)
        elif order == STOP and tree.status is None and kill_at is None:
            tree.terminate()
            # Not `now`: that was before the wait.
            kill_at = time.monotonic() + grace
        else:
            kill_at = now
    return {"stopped": stopped, "killed": tree.killed, "left": left, **_end_of(tree, barrier)}


def _pass_barrier(barrier: socket.socket) -> None:
    try:
        barrier.send(GO)
    except OSError:
        return  # It died at the barrier; its status says how.


def _end_of(tree: Tree, barrier: socket.socket | None) -> dict[str, Any]:
    if barrier is None:
        return {"status": tree.status}
    barrier.setblocking(False)
    try:
        complaint = barrier.recv(64).decode("ascii").split()
    except OSError:
        complaint = []
    if complaint:
        return {"failed": complaint[0], "errno": int(complaint[1])}
    return {"status": tree.status}


def become(request: dict[str, Any], env: dict[bytes, bytes], fds: list[int], barrier: socket.socket) -> NoReturn:
    """In the child: wait at the barrier, then be the command."""
    stage = "setup"
    try:
        os.setsid()
        for number, fd in enumerate(fds[:3]):
            os.dup2(fd, number)
        for fd in fds[3:]:
            os.set_inheritable(fd, True)
        for number in _HANDLED:
            signal.signal(number, signal.SIG_DFL)
        # Belt and braces: should the warden be killed, at least the command itself goes with it at once.
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if barrier.recv(1) != GO:
            os._exit(125)
        stage = "cwd"
        os.chdir(request["cwd"])
        stage = "exec"
        execute(request["argv"], env)
    except OSError as error:
        barrier.send(f"{stage} {error.errno}".encode("ascii"))
    finally:
        os._exit(127)


def execute(argv: list[bytes], env: dict[bytes, bytes]) -> None:
    """Replace this process by the program. Raises OSError when none could be executed."""
    programs = candidates(argv[0], env.get(b"PATH", os.fsencode(os.defpath)))
    first_that_runs(programs, lambda program: os.execve(program, argv, env))


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


class Keeper:
    """The parent of all wardens. It starts them, and kills what a warden that was killed left behind."""

    def __init__(self, control: socket.socket, runner: int | None) -> None:
        self._control = control
        self._runner = runner
        self._bell = Bell()
        #: The wardens by process id, and the number that the runner gave each.
        self._numbers: dict[int, int] = {}
        self._killed = 0

    def keep(self) -> None:
        """Serve the runner until it is gone, then see every warden out."""
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        poll = select.poll()
        for fd in (self._control.fileno(), self._bell.fd, self._runner):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        serving = True
        while serving:
            ready = {fd for fd, _ in poll.poll()}
            if self._bell.fd in ready:
                self._sweep()
            if self._runner in ready:
                serving = False
            elif self._control.fileno() in ready:
                serving = self._obey()
        self._control.close()
        while self._numbers:
            select.select([self._bell.fd], [], [], 1.0)
            self._sweep()

    def _obey(self) -> bool:
        message, fds, _, _ = socket.recv_fds(self._control, CONTROL.size, 1, _CLOEXEC)
        if len(message) < CONTROL.size:
            return False
        order, number = CONTROL.unpack(message)
        if order == NEW:
            self._start(number, fds[0])
        else:
            self._end(number)
            self._sweep()
            send_frame(self._control, {"killed": self._killed})
            self._killed = 0
        return True

    def _start(self, number: int, fd: int) -> None:
        os.set_inheritable(fd, False)
        with socket.socket(fileno=fd) as sock:
            try:
                pid = os.fork()
            except OSError:
                return  # The runner sees its end of the line close before anything ran.
            if pid != 0:
                self._numbers[pid] = number
                return
            try:
                self._control.close()
                serve(Link(sock, self._runner))
            finally:
                os._exit(0)

    def _end(self, number: int) -> None:
        for pid in [pid for pid, known in self._numbers.items() if known == number]:
            _signal(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            del self._numbers[pid]

    def _sweep(self) -> None:
        """Collect the dead; kill what a killed warden left to us."""
        hit: set[int] = set()
        refused: set[int] = set()
        quiet = 0
        # The kernel's list may miss one that has just come: believe it only when it is empty twice.
        while quiet < 2:
            self._bell.silence()
            self._reap(hit)
            orphans = {pid for pid in children(os.getpid()) if pid not in self._numbers} if LINUX else set()
            for pid in descendants(orphans):
                (hit if _signal(pid, signal.SIGKILL) else refused).add(pid)
            quiet = quiet + 1 if refused.issuperset(orphans) else 0
            if quiet == 0:
                select.select([self._bell.fd], [], [], KILL_PACE)

    def _reap(self, hit: set[int]) -> None:
        pid = -1
        while pid != 0:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            ours = self._numbers.pop(pid, None) is not None
            self._killed += not ours and pid in hit and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _swallow(_number: int, _frame: object) -> None:
    """A handler and not SIG_IGN: what is ignored stays ignored in the programs we execute."""


def prepare() -> None:
    """Give every signal its default, whatever was inherited; be deaf to those that are not for us."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    for number in _HANDLED:
        signal.signal(number, _swallow)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def leave(fd: int) -> None:
    """In a copy of the runner: keep nothing that it had open but `fd`, nor its folder and its session."""
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    # As a list: numbers may go up to a million, and not every Python can close them in one call.
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - pathlib costs start-up time
        if int(name) not in (0, 1, 2, fd):
            _close(int(name))


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError as error:
        # What listed them is listed, too.
        if error.errno != errno.EBADF:
            raise


def main(fd: int, runner: int) -> None:
    """Keep wardens for the process `runner` over the socket `fd`."""
    os.set_inheritable(fd, False)
    prepare()
    watched: int | None = None
    if hasattr(os, "pidfd_open"):
        try:
            watched = os.pidfd_open(runner)
        except OSError:
            watched = None  # An old kernel: the closed socket alone tells.
    if os.getppid() != runner:
        return
    with socket.socket(fileno=fd) as control:
        Keeper(control, watched).keep()


def run() -> NoReturn:
    """The program: its last two arguments are the socket and the runner."""
    main(int(sys.argv[-2]), int(sys.argv[-1]))
    # Python's own way out takes everything apart first, and the runner waits for us.
    os._exit(0)
