"""Files that are whole and on the disk, or not there at all: how every record of a job is written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from logist.errors import StorageFailed

if TYPE_CHECKING:
    from datetime import datetime

#: A JSON object as it stands on disk.
Document = dict[str, object]

_HINTS = {
    errno.ENOSPC: "free some disk space; what was recorded before is kept, and the job goes on from there",
    errno.EDQUOT: "raise the disk quota or free some space; what was recorded before is kept",
    errno.EIO: "the disk reports an error: check it before you go on; what was recorded before is kept",
    errno.EACCES: "check who owns the folder that it is in, and its permissions",
    errno.EPERM: "check who owns the folder that it is in, and its permissions",
    errno.EROFS: "that file system is read-only: jobs can be kept elsewhere with --jobs-dir, a spec has to be moved",
}


def storage_failed(action: str, path: Path, error: OSError) -> StorageFailed:
    """The error for a call of the system that failed: what could not be done, why, and what to do."""
    hint = _HINTS.get(error.errno or 0, "check that folder and the disk; what was recorded before is kept")
    return StorageFailed(f"could not {action} {path}: {error.strerror or error}", hint)


def iso(at: datetime) -> str:
    """A moment as it stands in every file: ISO 8601 in UTC, ending in Z. `at` must be aware."""
    # Slow to import, and not every writer of files writes times.
    from datetime import UTC

    if at.tzinfo is None:
        raise ValueError("a time without a time zone")
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


#: Made once: `json.dumps` makes an encoder each time, which takes longer than to encode a record.
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_json(value: object, indent: int | None = None) -> bytes:
    """JSON as it stands in every file, in UTF-8. A lone surrogate (a file name that is no UTF-8) is spelled out."""
    text = _compact(value) if indent is None else json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", lambda match: f"\\\\u{ord(match[0]):04x}", text).encode()


class NewFile:
    """A file's new content, written beside it: neither durable nor in its place until it is published."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        # Not one fixed name: two processes may write the same request.
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
        self._placed = False
        self.fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self.fd, rest) :]
        except BaseException:  # whatever it was, it travels on; half a file must not stay behind
            self.close()
            raise

    def publish(self, *, sync: bool = True) -> None:
        """Put it in its place, durably; its content has been synced before. Raises OSError.

        Without `sync` its place becomes durable when the caller syncs the folder.
        """
        os.replace(self._temporary, self._path)  # noqa: PTH105 - the fault tests hook the calls of os
        self._placed = True
        if sync:
            _sync_folder(self._path.parent)

    def close(self) -> None:
        """Let go of it; what was not published is removed."""
        os.close(self.fd)
        if not self._placed:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)  # noqa: PTH108


@contextlib.contextmanager
def new_file(path: Path, data: bytes) -> Iterator[NewFile]:
    """New content for `path`, to be synced and published in the block. Raises StorageFailed for what goes wrong."""
    try:
        written = NewFile(path, data)
        try:
            yield written
        finally:
            written.close()
    except OSError as error:
        raise storage_failed("write", path, error) from error


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`, all or nothing, and durably: at every instant the old or the new content is there.

    Raises StorageFailed; then the old content is there, or, when only the folder could not be synced, the new.
    """
    with new_file(path, data) as written:
        os.fsync(written.fd)
        written.publish()


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """Make what a file holds durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable. Raises StorageFailed."""
    try:
        _sync_folder(path)
    except OSError as error:
        raise storage_failed("sync", path, error) from error


def make_durable_folder(path: Path) -> None:
    """Make a folder, whose parent exists, durably; one that is there already is fine. Raises StorageFailed."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)  # noqa: PTH102
        _sync_folder(path.parent)
    except OSError as error:
        raise storage_failed("make", path, error) from error


def remove_file(path: Path) -> None:
    """Remove a file, durably; none is fine. Raises StorageFailed."""
    try:
        path.unlink()
        _sync_folder(path.parent)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise storage_failed("remove", path, error) from error


def sweep_temporary_files(folder: Path, name: str) -> None:
    """Remove what killed writers of `folder/name` left. Only for the file's one writer. Raises StorageFailed."""
    try:
        for leftover in folder.glob(f".{name}.*.tmp"):
            leftover.unlink(missing_ok=True)
    except OSError as error:
        raise storage_failed("clean up", folder, error) from error


def same_file(fd: int, path: Path) -> bool:
    """Whether the open file is the one at `path` now. Raises OSError."""
    try:
        there = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return False
    return os.path.samestat(os.fstat(fd), there)


def check_place(fd: int, path: Path) -> None:
    """Raise StorageFailed when the open file is no longer the one at its path."""
    try:
        in_place = same_file(fd, path)
    except OSError as error:
        raise storage_failed("find", path, error) from error
    if not in_place:
        raise StorageFailed(
            f"{path} was moved, replaced or deleted while the job was open",
            "put the job's folder back where it was, then run the job again; nothing more was written",
        )
