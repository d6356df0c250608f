"""A folder for what only one process needs for a while; what a killed one left behind is removed by the next.

Who needs something holds a lock on it as long as it lives: what nobody holds is left behind.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from logist.errors import StorageFailed

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: To be written to: some network file systems give no lock on what is only read. Nobody waits for a FIFO.
_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: What `tempfile.mkdtemp` puts behind a prefix: what else begins with it was made by somebody else.
_RANDOM = "[a-z0-9_]{8}"


@contextmanager
def private_folder(place: Path, prefix: str) -> Iterator[Path]:
    """A folder in `place` whose name begins with `prefix`, gone at the end of the block. Raises StorageFailed."""
    try:
        remove_left_behind(place, re.compile(re.escape(prefix) + _RANDOM).fullmatch, folders=True)
        folder, lock = _locked_folder(place, prefix)
    except OSError as error:
        raise StorageFailed(
            f"no folder could be made in {place}: {(error.strerror or str(error)).lower()}",
            "free some space there, or change who may write; TMPDIR names another place for what is not an output",
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder(place: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        # Between these calls another process may take it for abandoned, and remove it.
        with suppress(FileNotFoundError):
            lock = os.open(folder, _FOLDER)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if is_the(folder, lock):
                return folder, lock
            os.close(lock)


def remove_left_behind(place: Path, is_ours: Callable[[str], object], *, folders: bool) -> None:
    """Remove the folders in `place`, or the files, whose names are ours and which nobody holds. Raises OSError."""
    with os.scandir(place) as entries:
        found = [Path(each.path) for each in entries if is_ours(each.name)]
    for path in found:
        # Whose it is may not be ours to ask; it is in nobody's way.
        with suppress(OSError):
            _remove_unless_held(path, is_folder=folders)


def _remove_unless_held(path: Path, *, is_folder: bool) -> None:
    lock = os.open(path, _FOLDER if is_folder else _FILE)
    try:
        if os.fstat(lock).st_uid == os.geteuid() and take(lock) and is_the(path, lock):
            if is_folder:
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
    finally:
        os.close(lock)


def take(descriptor: int) -> bool:
    """Whether it is ours now, until the descriptor is closed; no: another one's, or the disk knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def is_the(path: Path, descriptor: int) -> bool:
    """Whether what was opened still has this name."""
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False
