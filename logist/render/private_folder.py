"""A folder for what only one process needs for a while; what a killed one left behind is removed by the next."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from logist.errors import StorageFailed


@contextmanager
def private_folder(place: Path, prefix: str) -> Iterator[Path]:
    """A folder in `place` whose name begins with `prefix`, gone at the end of the block. Raises StorageFailed."""
    try:
        _remove_abandoned(place, prefix)
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
            lock = _open(folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_abandoned(place: Path, prefix: str) -> None:
    with os.scandir(place) as entries:
        found = [Path(entry.path) for entry in entries if entry.name.startswith(prefix)]
    for folder in found:
        # Whose it is may not be ours to ask; it is in nobody's way.
        with suppress(OSError):
            if folder.stat(follow_symlinks=False).st_uid == os.geteuid():
                _remove_unless_held(folder)


def _remove_unless_held(folder: Path) -> None:
    lock = _open(folder)
    try:
        # Its owner holds it as long as it lives.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
