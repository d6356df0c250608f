"""A file that is made beside its name and gets it in the end: whole and durable, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from logist.durable import sync_folder
from logist.errors import StorageFailed, UsageProblem

#: Of a name that is as long as a file system takes, so much that the rest still fits.
_KEPT_OF_NAME = 60
#: A file that ends there (SIGXFSZ) or no more space: said in words of our own, libav's are longer.
_HINTS = {
    errno.ENOSPC: "free some disk space, or choose another folder; nothing was changed",
    errno.EDQUOT: "raise the disk quota or free some space; nothing was changed",
    errno.EROFS: "that file system is read-only: choose another folder",
}


def check_output(output: Path) -> None:
    """Whether a file of this name can be made, before any work is done for it. Raises UsageProblem."""
    if not output.parent.is_dir():
        raise UsageProblem(f"the folder of {output} is not there", "make it first")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise UsageProblem(f"the folder of {output} can't be written to", "choose another one, or change who may write")
    try:
        kind = output.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(kind):
        raise UsageProblem(f"{output} is not a regular file", "choose another name for the output")


@contextlib.contextmanager
def written_beside(output: Path, *, tidy: bool = True) -> Iterator[Path]:
    """A name beside `output` to write to; in the end it becomes `output`, durably, or nothing is left of it.

    With `tidy`, what a run that was killed left behind for the same output is removed first, for which the folder is
    read. Raises StorageFailed.
    """
    temporary = output.with_name(f".{output.name[:_KEPT_OF_NAME]}.{os.urandom(6).hex()}.tmp")
    try:
        if tidy:
            _remove_left_behind(output)
        try:
            held = _new_file(temporary)
            try:
                yield temporary
                # Whoever wrote it may have done so through another descriptor: the file's data is the same.
                os.fsync(held)
                temporary.replace(output)
            finally:
                os.close(held)
        except BaseException:
            # Also what comes before the file is ours to speak of: a signal may come between any two calls.
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise not_written(output, error) from error
    sync_folder(output.parent)


def not_written(output: Path, error: OSError) -> StorageFailed:
    """The error for a system that did not take `output`."""
    hint = _HINTS.get(error.errno or 0, "check the free space and the permissions of its folder; nothing was changed")
    return StorageFailed(f"could not write {output}: {(error.strerror or str(error)).lower()}", hint)


def _new_file(temporary: Path) -> int:
    """Make the file; the descriptor says as long as it is open: somebody writes this."""
    while True:
        held = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        # Between the two calls another run may have taken it for left behind.
        if not _take(held) or _is(temporary, held):
            return held
        os.close(held)


def _remove_left_behind(output: Path) -> None:
    pattern = re.compile(re.escape(f".{output.name[:_KEPT_OF_NAME]}.") + r"[0-9a-f]{12}\.tmp")
    with os.scandir(output.parent) as entries:
        found = [Path(entry.path) for entry in entries if pattern.fullmatch(entry.name)]
    for path in found:
        # Whose it is may not be ours to ask; it is in nobody's way.
        with contextlib.suppress(OSError):
            _remove_unless_held(path)


def _remove_unless_held(path: Path) -> None:
    looked_at = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if _take(looked_at) and _is(path, looked_at):
            path.unlink()
    finally:
        os.close(looked_at)


def _take(descriptor: int) -> bool:
    """Whether the file is ours now, until the descriptor is closed; no: another one's, or the disk knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False
