"""The lease of a job: a file lock that one runner holds, and says who it is."""

from __future__ import annotations

import fcntl
import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from logist.chunk_selection import shell_word
from logist.clock import SystemClock
from logist.durable import check_place, iso, same_file, storage_failed, to_json
from logist.errors import JobBusy, JobNotFound, StorageFailed
from logist.job_files import JobPaths, spec_of_state
from logist.processes import ProcessIdentity, boot_id, identify, is_alive

_TRIES = 400
_MAX_SIGNATURE = 16_384


class Holder(NamedTuple):
    """Who took the lease that is held now. Fields are empty while the holder is just signing it."""

    pid: int = 0
    start_time: int = 0
    boot_id: str = ""
    host: str = ""
    command: str = ""
    #: ISO 8601.
    since: str = ""

    @property
    def alive(self) -> bool:
        """Whether the recorded runner lives: what a dead one started can hold its lease. True where nobody can tell."""
        if not self.pid or self.host != os.uname().nodename:
            return True
        return is_alive(ProcessIdentity(self.pid, self.start_time, self.boot_id))


class Lease:
    """The right to change one job: a flock on its `lease` file, held by this process and by who inherits it."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd: int | None = fd

    @classmethod
    def take(cls, paths: JobPaths, *, command: str, at: datetime | None = None) -> Lease:
        """Take the lease and write into it who holds it, for which command and since when.

        Raises JobBusy when someone else holds it, JobNotFound when the job's folder is gone, StorageFailed.
        """
        for _ in range(_TRIES):
            fd = _try_lease(paths)
            if fd is not None:
                lease = cls(paths.lease, fd)
                try:
                    _sign(fd, command, at or SystemClock().now())
                except OSError as error:
                    lease.release()
                    raise storage_failed("write", paths.lease, error) from error
                return lease
            # Only someone who looked was in the way, or the file was replaced: try again. Two that look at the same
            # time must not do so in step.
            time.sleep(0.001 + os.getpid() % 16 / 4000)
        raise _busy(paths)

    def fileno(self) -> int:
        """The locked descriptor: a process that inherits it holds the lease too."""
        if self._fd is None:
            raise ValueError("the lease was given back")
        return self._fd

    def check_place(self) -> None:
        """Raise StorageFailed when the locked file is no longer the one at its path: a second runner could get in."""
        check_place(self.fileno(), self.path)

    def release(self) -> None:
        """Give the lease back. It stays held while a process lives that inherited it."""
        if self._fd is not None:
            # Closed, not unlocked: unlocking would take it away from those who inherited it.
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _try_lease(paths: JobPaths) -> int | None:
    try:
        fd = os.open(paths.lease, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise JobNotFound(f"the job's folder {paths.root} is gone", "`logist job list` shows all jobs") from error
    except OSError as error:
        raise storage_failed("open", paths.lease, error) from error
    try:
        # The file may have been replaced between open and flock; a lock on the old one keeps nobody out.
        if _flock(fd, fcntl.LOCK_EX) and same_file(fd, paths.lease):
            return fd
        if not _flock(fd, fcntl.LOCK_SH):
            raise _busy(paths)
    except OSError as error:
        os.close(fd)
        raise storage_failed("lock", paths.lease, error) from error
    except BaseException:
        # Also a signal's exception: a descriptor that stays open would hold the lease as long as this process lives.
        os.close(fd)
        raise
    os.close(fd)
    return None


def _flock(fd: int, mode: int) -> bool:
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(fd: int, command: str, at: datetime) -> None:
    me = identify(os.getpid())
    holder = {
        "pid": os.getpid(),
        "start_time": me.start_time if me else 0,
        "boot_id": boot_id(),
        "host": os.uname().nodename,
        "command": command,
        "since": iso(at),
    }
    os.ftruncate(fd, 0)
    os.pwrite(fd, to_json(holder) + b"\n", 0)


def read_holder(paths: JobPaths) -> Holder | None:
    """Who holds the lease now; None when it is free. Raises StorageFailed."""
    try:
        fd = os.open(paths.lease, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_failed("open", paths.lease, error) from error
    try:
        return None if _flock(fd, fcntl.LOCK_SH) else _read_signature(fd)
    except OSError as error:
        raise storage_failed("read", paths.lease, error) from error
    finally:
        os.close(fd)


def _read_signature(fd: int) -> Holder:
    try:
        value = json.loads(os.pread(fd, _MAX_SIGNATURE, 0))
        return Holder(
            pid=int(value["pid"]),
            start_time=int(value["start_time"]),
            boot_id=str(value["boot_id"]),
            host=str(value["host"]),
            command=str(value["command"]),
            since=str(value["since"]),
        )
    except (ValueError, TypeError, KeyError):
        return Holder()


def _busy(paths: JobPaths) -> JobBusy:
    name, stop = _named(paths)
    try:
        holder = read_holder(paths) or Holder()
    except StorageFailed:
        holder = Holder()
    if not holder.pid:
        return JobBusy(f"{name} is held by another process", stop)
    who = f"process {holder.pid} on {holder.host} since {holder.since} ({holder.command})"
    if holder.alive:
        return JobBusy(f"{name} is held by {who}, which is alive", stop)
    return JobBusy(
        f"{name} was held by {who}; that runner died, but something it started still lives and holds it",
        f"end the processes that have {paths.lease} open (`fuser {shell_word(str(paths.lease))}` names them), "
        "then try again",
    )


def _named(paths: JobPaths) -> tuple[str, str]:
    """What is held, in words, and how its runner is stopped."""
    spec = spec_of_state(paths.root)
    if spec is None:
        job_id = paths.root.name
        return (
            f"job {job_id}",
            f"`logist job pause {job_id}` stops it after its step, `logist job cancel {job_id}` for good",
        )
    name = shell_word(spec)
    return (
        f"the spec {name}",
        f"`logist job pause {name}` stops it after its running chunks, `logist job cancel {name}` at once",
    )
