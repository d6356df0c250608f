"""Watches commands and lets nothing of them live on. Run as a program by `_keeper.py`, standard library only.

One *keeper* per runner forks one *warden* per command that runs at the same time; a warden serves many commands,
one after the other. Each of them is a child sub-reaper: whatever a command starts (setsid, double forks) comes back
to its warden and is killed. When the runner dies the wardens see it and kill everything; when a warden is killed
its orphans come back to the keeper, which kills them.

Wire format, both ways: a frame is a 4-byte length and `marshal`, which both ends' Python has built in: to import json
takes a fifth of the time until this program is ready. After a request the runner sends single bytes (orders).
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import socket
import struct
import sys

from .tree import (
    GO,
    HANDLED,
    KILL_PACE,
    LINUX,
    NOTHING,
    PR_SET_PDEATHSIG,
    Bell,
    Line,
    NotRunError,
    Tree,
    adopt_orphans,
    candidates,
    children,
    descendants,
    first_that_runs,
    oversee,
    pass_barrier,
    prctl,
    prepare,
    send_signal,
    spawn,
    start_time,
)

# What `typing` says too, at the cost of its import: the first command waits until this program is ready.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

HEADER = struct.Struct("!I")
#: To the keeper: what, and the number that the runner gave the warden.
CONTROL = struct.Struct("!cI")
NEW, SWEEP = b"n", b"s"
#: The kernel takes no more descriptors in one message.
MAX_FDS = 253
#: The runner may have given SIGPIPE its default back.
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


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


class Link(Line):
    """The line to a runner that has one command after the other run, in frames over a socket."""

    def __init__(self, sock: socket.socket, runner: int | None) -> None:
        super().__init__(sock.fileno(), runner)
        self._sock = sock

    def request(self, fds: list[int]) -> dict[str, Any] | None:
        """The next command to run; None when the runner is gone."""
        while not self.wait(None):
            pass
        return receive_frame(self._sock, fds) if self.open else None

    def answer(self, message: dict[str, Any]) -> None:
        """Tell the runner, if it still listens."""
        try:
            if self.open:
                send_frame(self._sock, message)
        except OSError:
            self.hang_up()


def serve(link: Link) -> None:
    """Run the runner's commands until it hangs up."""
    adopt_orphans()
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
            return oversee(link, Tree(spawn(request["argv"], request["cwd"], env, fds)), None, float(request["grace"]))
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
            pass_barrier(ours.fileno())
        return oversee(link, Tree(main), ours.fileno(), float(request["grace"]))


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


def become(request: dict[str, Any], env: dict[bytes, bytes], fds: list[int], barrier: socket.socket) -> NoReturn:
    """In the child: wait at the barrier, then be the command."""
    stage = "setup"
    try:
        os.setsid()
        for number, fd in enumerate(fds[:3]):
            os.dup2(fd, number)
        for fd in fds[3:]:
            os.set_inheritable(fd, True)
        for number in HANDLED:
            signal.signal(number, signal.SIG_DFL)
        # Belt and braces: should the warden be killed, at least the command itself goes with it at once.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
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
        adopt_orphans()
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
            send_signal(pid, signal.SIGKILL)
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
                (hit if send_signal(pid, signal.SIGKILL) else refused).add(pid)
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
