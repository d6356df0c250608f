"""Finds and kills what is left of a command after both the runner and its wardens died. Linux only: reads /proc."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from logist.errors import JobBusy
from logist.processes import ProcessIdentity, boot_id, start_time

#: Seconds that a process gets to be gone after SIGKILL: longer means it hangs in the kernel.
_PATIENCE = 10.0
_PACE = 0.005
#: Seconds from taking a lease to having signed it, generously.
_SIGNING = 0.05
#: Looks in a row at which processes got away, until what is to be found counts as found: others start some, too.
_LOOKS = 30


def kill_leftovers(
    process: ProcessIdentity | None,
    *,
    marker: tuple[str, str] | None = None,
    lock_path: Path | None = None,
    claimed: Callable[[], bool] = lambda: False,
) -> int:
    """Kill what is left of a recorded command; how many processes. Never pid 1, this process or its ancestors.

    That is the process itself, its session and group, every process with `marker` (NAME, VALUE) in its environment,
    and every process that holds the lock on `lock_path`; one that only has the file open is left alone. Ask for the
    lock itself first and wait a moment: wardens hold it, too, while they clean up by themselves. Nothing more is
    killed once `claimed` says that somebody living has taken the lock. Raises JobBusy when something can't be killed.
    """
    search = _Search(process, _entry(marker), _inode(lock_path), claimed)
    dead: set[_Candidate] = set()
    while found := search.find(_kill):
        _await_death(found)
        dead |= found
    return len(dead)


def living_with(name: str, value: str) -> list[int]:
    """The processes that have a variable in the environment they were started with; not this one or its ancestors."""
    search = _Search(None, _entry((name, value)), None, lambda: False)
    return [one.pid for one in search.find(lambda _: True)]


class _Candidate(NamedTuple):
    """A process as /proc/PID/stat tells it."""

    pid: int
    group: int
    session: int
    start_time: int


class _Search(NamedTuple):
    """What makes a process one of ours."""

    process: ProcessIdentity | None
    entry: bytes | None
    inode: tuple[int, int] | None
    claimed: Callable[[], bool]

    def find(self, take: Callable[[_Candidate], bool]) -> set[_Candidate]:
        """The matches that `take` could have of those that there are now; none when there are none.

        One that forks and exits all the time can be gone when it is looked at, and what it left behind is in no list
        yet. That nothing was found is therefore believed only when nothing got away.
        """
        if not Path("/proc/self/stat").exists():
            return set()
        spared = _ancestry()
        before: set[_Candidate] = set()
        for _ in range(_LOOKS):
            found, escaped = self._look(take, spared)
            # A zombie, or a process without any environment like the kernel's own, is no news at the second look.
            if found or escaped <= before:
                return found
            before = escaped
        return set()

    def _look(
        self, take: Callable[[_Candidate], bool], spared: frozenset[int]
    ) -> tuple[set[_Candidate], set[_Candidate]]:
        """What one look finds, and what got away from it."""
        found: set[_Candidate] = set()
        escaped: set[_Candidate] = set()
        # The youngest first: those are the ones that run away.
        for pid in sorted(_pids() - spared, reverse=True):
            candidate = _look_at(pid)
            if candidate is None:
                escaped.add(_Candidate(pid, 0, 0, 0))
                continue
            ours = self._matches(candidate)
            if ours and take(candidate):
                found.add(candidate)
            elif ours is not False:
                escaped.add(candidate)
        return found, escaped

    def _matches(self, candidate: _Candidate) -> bool | None:
        """None when it can't be told: the process is gone, or about to become another program."""
        return self._recorded(candidate) or self._holds_lock(candidate.pid) or self._marked(candidate.pid)

    def _recorded(self, candidate: _Candidate) -> bool:
        process = self.process
        if process is None or process.boot_id != boot_id() or process.pid <= 1:
            return False
        if candidate.pid == process.pid:
            return candidate.start_time == process.start_time
        if process.pid not in (candidate.group, candidate.session) or candidate.start_time < process.start_time:
            return False
        # The number of a session is not given again while it has members, so a leader that is another process
        # now means another session.
        return start_time(process.pid) in (None, process.start_time)

    def _marked(self, pid: int) -> bool | None:
        if self.entry is None:
            return False
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except PermissionError:
            return False  # Another user's: not one that we started.
        except OSError:
            return None
        return self.entry in environment.split(b"\0") if environment else None

    def _holds_lock(self, pid: int) -> bool:
        if self.inode is None or not _has_lock(pid, self.inode):
            return False
        # Whoever takes the lock signs it at once: give a new holder the time to do so, and look again.
        time.sleep(_SIGNING)
        return not self.claimed() and _has_lock(pid, self.inode)


def _has_lock(pid: int, inode: tuple[int, int]) -> bool:
    """Whether a descriptor of the process holds an flock on the file, as /proc/PID/fdinfo tells."""
    try:
        held = [fd.name for fd in Path(f"/proc/{pid}/fd").iterdir() if _inode(fd) == inode]
        return any("FLOCK" in Path(f"/proc/{pid}/fdinfo/{name}").read_text(encoding="ascii") for name in held)
    except OSError:
        return False  # Gone meanwhile, or another user's: not one that we started.


def _entry(marker: tuple[str, str] | None) -> bytes | None:
    return None if marker is None else os.fsencode("=".join(marker))


def _inode(path: Path | None) -> tuple[int, int] | None:
    if path is None:
        return None
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 - a Path per process is slow


def _look_at(pid: int) -> _Candidate | None:
    fields = _stat(pid)
    if not fields or fields[0] in (b"Z", b"X"):
        return None
    return _Candidate(pid, int(fields[2]), int(fields[3]), int(fields[19]))


def _stat(pid: int) -> list[bytes]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return []
    return stat[stat.rindex(b")") + 2 :].split()


def _ancestry() -> frozenset[int]:
    spared = {0, 1}
    pid = os.getpid()
    while pid not in spared:
        spared.add(pid)
        fields = _stat(pid)
        pid = int(fields[1]) if fields else 0
    return frozenset(spared)


def _kill(candidate: _Candidate) -> bool:
    """SIGKILL for this very process; False when it is gone."""
    try:
        handle = os.pidfd_open(candidate.pid)
    except ProcessLookupError:
        return False
    try:
        # The handle can't come to mean another process; that it means the right one is seen only now.
        if start_time(candidate.pid) != candidate.start_time:
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise _immortal(candidate.pid) from error
    finally:
        os.close(handle)
    return True


def _await_death(killed: set[_Candidate]) -> None:
    deadline = time.monotonic() + _PATIENCE
    for one in killed:
        while start_time(one.pid) == one.start_time:
            if time.monotonic() > deadline:
                raise _immortal(one.pid)
            time.sleep(_PACE)


def _immortal(pid: int) -> JobBusy:
    return JobBusy(
        f"Process {pid}, left over from an earlier step, can't be ended.",
        f"End it by hand (kill -9 {pid}, as its owner), then run again.",
    )
