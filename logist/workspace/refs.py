"""The refs of the evidence repository, moved durably and never by two at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from logist.errors import WorkspaceFailed
from logist.workspace.disk import damaged, fsync_folder, write_all
from logist.workspace.objects import FULL_ID

_REF_COMPONENT = re.compile(r"(?![.-])[^\x00-\x20\x7f~^:?*\[\\/]+(?<!\.)(?<!\.lock)")


class Refs:
    """Reads and moves the refs of one repository."""

    def __init__(self, repo_dir: Path) -> None:
        self._repo_dir = repo_dir

    def get(self, name: str) -> str | None:
        """The id that a ref holds, None when there is no such ref."""
        try:
            text = (self._repo_dir / name).read_text(encoding="ascii").strip()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return self._packed().get(name)
        if FULL_ID.fullmatch(text) is None:
            raise damaged(f"{name} holds no commit id")
        return text

    def all(self) -> dict[str, str]:
        """Every ref and its id, by name."""
        found = self._packed()
        for folder, _, names in os.walk(self._repo_dir / "refs"):
            for name in names:
                if name.endswith(".lock"):
                    continue
                ref = (Path(folder) / name).relative_to(self._repo_dir).as_posix()
                found[ref] = self.get(ref) or ""
        return dict(sorted(found.items()))

    def set(self, name: str, new: str, expected: str | None = None) -> None:
        """Point a ref at `new`; with `expected` only when it holds that (or holds `new` already)."""
        with self.move(name, new, expected) as descriptor:
            os.fsync(descriptor)
        fsync_folder((self._repo_dir / name).parent)

    @contextlib.contextmanager
    def move(self, name: str, new: str, expected: str | None = None) -> Iterator[int]:
        """As `set`, in two parts: the block makes the open file that it is given durable, then the ref is in its place.

        The move itself becomes durable when the caller syncs the ref's folder.
        """
        path = self._repo_dir / name
        self._make_folders(path.parent)
        with self._locked(path) as (descriptor, lock):
            held = self.get(name)
            if expected is not None and held not in (expected, new):
                raise WorkspaceFailed(
                    f"{name} is at {held or 'nothing'}, not at {expected}.",
                    "Something else wrote to the job's evidence; look at `logist job log`.",
                )
            os.ftruncate(descriptor, 0)
            write_all(descriptor, f"{new}\n".encode("ascii"))
            yield descriptor
            lock.rename(path)

    @contextlib.contextmanager
    def _locked(self, path: Path) -> Iterator[tuple[int, Path]]:
        """git's own lock file. One that a killed run left behind is taken over: flock tells it from one in use."""
        lock = path.with_name(f"{path.name}.lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = os.fstat(descriptor).st_ino == lock.stat().st_ino
            except (BlockingIOError, FileNotFoundError):
                mine = False
            if not mine:
                raise WorkspaceFailed(f"{path.name} is being moved by another process.", "Try again.")
            try:
                yield descriptor, lock
            except BaseException:
                # Also a signal's exception: git takes a lock that stays for another process at work, for ever.
                lock.unlink(missing_ok=True)
                raise
        finally:
            os.close(descriptor)

    def _make_folders(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync_folder(folder.parent)

    def _packed(self) -> dict[str, str]:
        try:
            lines = (self._repo_dir / "packed-refs").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        rows = (line.split(" ", 1) for line in lines if line[:1] not in ("#", "^", ""))
        return {row[1]: row[0] for row in rows if len(row) == 2}


def check_ref_name(name: str) -> str:
    """The name itself when git takes it for a ref; raises WorkspaceFailed."""
    parts = name.split("/")
    well_formed = all(_REF_COMPONENT.fullmatch(part) and ".." not in part and "@{" not in part for part in parts)
    if len(parts) < 2 or not well_formed or not name.isascii():
        raise WorkspaceFailed(
            f"{name!r} can't be the name of a branch or ref.", "Use letters, digits, `-`, `_`, `.` and `/`."
        )
    return name
