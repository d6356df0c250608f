"""What a machine has fetched of bundles: by its content, shared by all workers of one user, bounded.

Nothing in it is believed: whatever is taken from it is hashed on its way. Nobody but this module sees its files, so
that no command can change them by a link.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from logist.durable import storage_failed
from logist.errors import StorageFailed
from logist.storage.objects import Storage

#: Bytes; what was not used for longest goes first. A bundle that is larger stays as long as it is used.
LIMIT = 50_000_000_000

_PIECE = 1 << 20
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Blob(NamedTuple):
    """An object that is known by its content's hash. `most` is how many bytes it may have."""

    name: str
    sha256: str
    most: int


class Cache:
    """The blobs in the folder `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Nobody else of this machine fetches the same `name` in this block. Raises StorageFailed."""
        import filelock

        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_private()
            lock = filelock.FileLock(self._root / f"{name}.lock")
            lock.acquire()
        except OSError as error:
            raise storage_failed("lock", self._root, error) from error
        except NotImplementedError as error:
            raise StorageFailed(
                f"no lock can be had in {self._root}", "let XDG_CACHE_HOME name a folder on a disk of this machine"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _check_private(self) -> None:
        """Raise StorageFailed where others can write: by a link they could have us write anywhere."""
        status = self._root.stat()
        user = os.geteuid()
        # Root may be given the folder of whom it works for, as in a container.
        if status.st_mode & 0o022 or (user != 0 and status.st_uid not in (0, user)):
            raise StorageFailed(
                f"others can write to {self._root}", "let XDG_CACHE_HOME name a folder that is yours alone"
            )

    def fetch(self, storage: Storage, blob: Blob) -> None:
        """Fetch a blob that is not here. Raises StorageFailed when it is not there, or not what it should be."""
        path = self._path(blob)
        if path.exists():
            return
        # Nothing is made durable, and what a killed one leaves is removed for its age: all is hashed when it is taken.
        beside = path.with_name(f"{path.name}.{os.urandom(6).hex()}.tmp")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            came = storage.fetch(blob.name, beside, blob.most)
            if came == blob.sha256:
                beside.replace(path)
        except OSError as error:
            raise storage_failed("write", path, error) from error
        finally:
            beside.unlink(missing_ok=True)
        if came is None:
            raise StorageFailed(
                f"{storage.url} has no {blob.name}", "upload it again: logist bundle SPEC --storage URL"
            )
        if came != blob.sha256:
            raise StorageFailed(
                f"{storage.url}/{blob.name} is damaged: its content is not what its name says",
                "remove it there, then upload it again: logist bundle SPEC --storage URL",
            )

    def copy(self, blob: Blob, target: Path, mode: int) -> bool:
        """Make the new file `target` of a blob; False: it is not here any more, or was damaged and is removed now.

        Raises StorageFailed when the disk does not take it.
        """
        path = self._path(blob)
        try:
            source = path.open("rb")
        except FileNotFoundError:
            return False
        except OSError as error:
            raise storage_failed("read", path, error) from error
        digest = hashlib.sha256()
        try:
            with source, os.fdopen(os.open(target, _NEW_FILE, mode), "wb") as file:
                while piece := source.read(_PIECE):
                    digest.update(piece)
                    file.write(piece)
                # It was used now: who makes room looks at this.
                with suppress(OSError):
                    os.utime(path)
        except OSError as error:
            raise storage_failed("write", target, error) from error
        if digest.hexdigest() == blob.sha256:
            return True
        path.unlink(missing_ok=True)
        target.unlink()
        return False

    def read(self, blob: Blob) -> bytes | None:
        """The content of a small blob; None as for `copy`."""
        path = self._path(blob)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() == blob.sha256:
            return data
        path.unlink(missing_ok=True)
        return None

    def make_room(self, coming: Collection[Blob], limit: int = LIMIT) -> None:
        """Remove what was not used for longest until all of `coming` fits: here with the rest, in `limit` bytes, and on
        the disk, where it is copied to as well. Never what is one of them."""
        missing = sum(blob.most for blob in coming if not self._path(blob).exists())
        free = shutil.disk_usage(self._root).free - missing - sum(blob.most for blob in coming)
        if not missing and free >= 0:
            # To look at all that is here takes long, and each chunk comes by.
            return
        found = []
        for path in self._root.glob("blobs/*/*"):
            # Another worker may remove it too.
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        size = sum(each[1] for each in found)
        keep = {blob.sha256 for blob in coming}
        limit = min(limit - missing, size + free)
        for _, length, path in sorted(found):
            if size <= limit:
                return
            if path.name not in keep:
                with suppress(OSError):
                    path.unlink()
                size -= length

    def _path(self, blob: Blob) -> Path:
        return self._root / "blobs" / blob.sha256[:2] / blob.sha256


def check_room(folder: Path, size: int) -> None:
    """Raise StorageFailed when `size` bytes have no room in the existing `folder`."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise StorageFailed(
            f"the bundle needs {size} bytes in {folder}, and {free} are free",
            "free some disk space; XDG_CACHE_HOME and TMPDIR name other places",
        )


def user_cache() -> Cache:
    """The cache of this user."""
    import platformdirs

    return Cache(platformdirs.user_cache_path("logist", appauthor=False) / "storage")
