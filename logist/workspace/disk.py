"""The evidence on its disk: whole writes, durable names, and errors that say what went wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from logist.errors import EvidenceDamaged, StorageFailed, WorkspaceFailed

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}


@contextlib.contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Translate OSError: StorageFailed when the disk is full or broken, else WorkspaceFailed."""
    try:
        yield
    except OSError as error:
        why = f"Could not {doing}: {error.strerror or error}"
        name = error.filename
        if isinstance(name, (str, bytes)):
            why += f" ({os.fsencode(name).decode('utf-8', 'backslashreplace')})"
        if error.errno in _NO_SPACE:
            raise StorageFailed(f"{why}.", "Free disk space or repair the disk, then run the job again.") from error
        raise WorkspaceFailed(
            f"{why}.", "Check the permissions of the job's folder, then run the job again."
        ) from error


def damaged(what: str) -> EvidenceDamaged:
    """The error for an object or ref that is not what it should be."""
    return EvidenceDamaged(
        f"The evidence repository is damaged: {what}.",
        "Run `git fsck` on the job's repo.git, or restore it from a backup.",
    )


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def temporary_file(folder: Path, prefix: str) -> Iterator[tuple[int, Path]]:
    """A new file that is removed again unless the block has renamed it."""
    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=folder)
    try:
        yield descriptor, Path(name)
    except BaseException:
        # Also a signal's exception: nobody else knows of the file.
        Path(name).unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
