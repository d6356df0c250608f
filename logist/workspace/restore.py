"""Making a workspace that nobody trusts equal a tree. Nothing is written through a link."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from logist.errors import WorkspaceFailed
from logist.workspace.cache import Known, settled_before
from logist.workspace.disk import write_all
from logist.workspace.files import (
    OPEN_FOLDER,
    Stamp,
    WalkLimits,
    git_mode,
    is_large_as_before,
    read_regular,
    stamp_of,
)
from logist.workspace.ignore import Rules
from logist.workspace.left_out import NOTHING, LeftOut
from logist.workspace.names import OWN_FOLDER, is_git_metadata, shown
from logist.workspace.objects import (
    EXECUTABLE,
    FILE,
    FOLDER,
    GITLINK,
    SYMLINK,
    ObjectStore,
    TreeEntry,
    hash_object,
)


class _Write(NamedTuple):
    path: str
    entry: TreeEntry


class Restorer:
    """Makes a workspace's content equal a tree. Nothing is written through a link; ignored and left out files stay."""

    def __init__(
        self,
        store: ObjectStore,
        known: dict[str, dict[str, Known]],
        scratch: Path,
        limits: WalkLimits,
        left_out: LeftOut = NOTHING,
    ) -> None:
        self._store = store
        self._known = known
        self._scratch = scratch
        self._trash = scratch / "trash"
        self._staged = scratch / "staged"
        self._limits = limits
        self._left_out = left_out
        self._placed: list[tuple[str, str, Stamp, TreeEntry]] = []
        self._thrown = 0
        self._touched: set[str] = set()
        self._writes: list[_Write] = []

    def run(self, work_dir: Path, tree: str, stage: Callable[[list[TreeEntry], Path], None]) -> tuple[str, ...]:
        """Restore; the touched paths. `stage(entries, folder)` writes their contents to folder/0, folder/1, ..."""
        self._trash.mkdir()
        self._staged.mkdir()
        work_dir.mkdir(exist_ok=True)
        root = os.open(work_dir, OPEN_FOLDER)
        try:
            self._folder(root, "", tree, None, False, 0)
            contents = [write.entry for write in self._writes if write.entry.mode != GITLINK]
            if contents:
                stage(contents, self._staged)
            self._place(root)
        finally:
            os.close(root)
        self._remember_placed()
        _empty_folder(self._trash)
        return tuple(sorted(map(shown, self._touched)))

    def _folder(self, folder: int, prefix: str, tree: str, rules: Rules | None, hidden: bool, depth: int) -> None:
        entries = self._store.entries(tree)
        ignore_file = entries.get(".gitignore")
        if ignore_file is not None and ignore_file.mode in (FILE, EXECUTABLE):
            # The tree's rules, not the workspace's: an agent's new `*` must not save what it left.
            rules = Rules(self._store.read(ignore_file.id)[1], depth, rules)
        present = {OWN_FOLDER} if not prefix else set()
        for name, status in _listed(folder):
            if name in present:
                continue
            target = entries.get(name)
            if target is None:
                self._clear(folder, prefix + name, status, rules, hidden, depth)
            elif self._stays(folder, prefix, name, status, target, rules, hidden, depth):
                present.add(name)
            else:
                self._remove(folder, prefix + name, status)
        for name, entry in entries.items():
            if name not in present:
                self._want(prefix + name, entry)

    def _stays(
        self, folder: int, prefix: str, name: str, status: os.stat_result, target: TreeEntry, rules: Rules | None,
        hidden: bool, depth: int,
    ) -> bool:  # fmt: skip
        is_folder = stat.S_ISDIR(status.st_mode)
        if target.mode not in (FOLDER, GITLINK):
            return not is_folder and self._same(folder, prefix, name, status, target)
        if not is_folder:
            return False
        path = prefix + name
        with self._opened(folder, name) as inner:
            if target.mode == GITLINK:
                for inside, found in _listed(inner):
                    self._remove(inner, f"{path}/{inside}", found)
            else:
                inner_hidden = hidden or (rules is not None and rules.ignore(path, True))
                self._folder(inner, f"{path}/", target.id, rules, inner_hidden, depth + 1)
        return True

    def _clear(
        self, folder: int, path: str, status: os.stat_result, rules: Rules | None, hidden: bool, depth: int
    ) -> bool:
        """Remove something that is not in the tree, except for what is ignored or left out; whether it is gone."""
        is_folder = stat.S_ISDIR(status.st_mode)
        if hidden or (rules is not None and rules.ignore(path, is_folder)):
            return False
        if not is_folder and self._left_out.why(path):
            return False
        name = path.rpartition("/")[2]
        may_keep = rules is not None or self._left_out.is_above(path)
        if is_folder and may_keep and depth < self._limits.depth and not is_git_metadata(name):
            with self._opened(folder, name) as inner:
                gone = [
                    self._clear(inner, f"{path}/{inside}", found, rules, False, depth + 1)
                    for inside, found in _listed(inner)
                ]
            if not all(gone):
                return False
        self._remove(folder, path, status)
        return True

    def _same(self, folder: int, prefix: str, name: str, status: os.stat_result, target: TreeEntry) -> bool:
        held = self._known.get(prefix, {}).get(name)
        if held is not None and not held.racy and held.stamp == stamp_of(status):
            return held.entry == target
        if stat.S_ISLNK(status.st_mode):
            link = os.fsencode(os.readlink(name, dir_fd=folder))
            return target == (SYMLINK, hash_object("blob", link))
        if not stat.S_ISREG(status.st_mode):
            return False
        try:
            read = read_regular(folder, name, self._limits.file_bytes)
        except PermissionError:
            return False
        if isinstance(read, str):
            return is_large_as_before(folder, name, status, target, self._limits.file_bytes)
        return target == (git_mode(status.st_mode), hash_object("blob", read.data))

    def _want(self, path: str, entry: TreeEntry) -> None:
        if entry.mode == FOLDER:
            self._writes += [_Write(inner, found) for inner, found in self._store.files(entry.id, f"{path}/")]
        else:
            self._writes.append(_Write(path, entry))

    def _remove(self, folder: int, path: str, status: os.stat_result) -> None:
        """Take something out of the workspace; a folder goes to the trash in one move, however deep it is."""
        name = path.rpartition("/")[2]
        self._touched.add(path)
        if not stat.S_ISDIR(status.st_mode):
            _writable(folder, lambda: os.unlink(name, dir_fd=folder))
            return
        # Moving a folder changes its `..`, so it must be writable itself.
        os.chmod(name, 0o700, dir_fd=folder)
        self._thrown += 1
        target = self._trash / str(self._thrown)
        _writable(folder, lambda: os.rename(name, target, src_dir_fd=folder))

    @contextmanager
    def _opened(self, parent: int, name: str) -> Iterator[int]:
        try:
            descriptor = os.open(name, OPEN_FOLDER, dir_fd=parent)
        except PermissionError:
            os.chmod(name, 0o700, dir_fd=parent)
            descriptor = os.open(name, OPEN_FOLDER, dir_fd=parent)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _place(self, root: int) -> None:
        staged = 0
        here, descriptor = "", os.dup(root)
        try:
            for path, entry in self._writes:
                _check_safe(path)
                folder, _, name = path.rpartition("/")
                if folder != here:
                    os.close(descriptor)
                    descriptor = -1
                    descriptor, here = open_path(root, folder), folder
                self._touched.add(path)
                if entry.mode == GITLINK:
                    os.mkdir(name, dir_fd=descriptor)
                    continue
                self._put(descriptor, name, self._staged / str(staged), entry)
                staged += 1
                stamp = stamp_of(os.stat(name, dir_fd=descriptor, follow_symlinks=False))
                self._placed.append((f"{folder}/" if folder else "", name, stamp, entry))
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _put(self, folder: int, name: str, staged: Path, entry: TreeEntry) -> None:
        if entry.mode == SYMLINK:
            target = staged.read_bytes()
            _writable(folder, lambda: os.symlink(target, os.fsencode(name), dir_fd=folder))
        else:
            _writable(folder, lambda: os.rename(staged, name, dst_dir_fd=folder))

    def _remember_placed(self) -> None:
        # The clock is read after the writing: only what changes from here on must show in the times.
        settled = settled_before(self._scratch)
        for prefix, name, stamp, entry in self._placed:
            self._known.setdefault(prefix, {})[name] = Known(stamp, entry, stamp[5] >= settled)


def _listed(folder: int) -> list[tuple[str, os.stat_result]]:
    with os.scandir(folder) as listing:
        return [(item.name, item.stat(follow_symlinks=False)) for item in sorted(listing, key=attrgetter("name"))]


def _writable(folder: int, action: Callable[[], object]) -> None:
    """Do something in a folder; one that an agent made read-only is made writable first."""
    try:
        action()
    except PermissionError:
        os.fchmod(folder, stat.S_IMODE(os.fstat(folder).st_mode) | 0o700)
        action()


def _check_safe(path: str) -> None:
    if any(part in ("", ".", "..") or is_git_metadata(part) for part in path.split("/")):
        raise WorkspaceFailed(
            f"The tree holds the path {shown(path)!r}, which is not safe to write.", "Choose another commit."
        )


def open_path(root: int, path: str) -> int:
    """Open a folder below `root` without following links, making what is missing."""
    descriptor = os.dup(root)
    for name in path.split("/") if path else []:
        outer = descriptor
        try:
            with suppress(FileExistsError):
                _writable(outer, functools.partial(os.mkdir, name, dir_fd=outer))
            descriptor = os.open(name, OPEN_FOLDER, dir_fd=outer)
        finally:
            os.close(outer)
    return descriptor


def write_files(work_dir: Path, folder: str, files: Mapping[str, bytes], *, alone: bool) -> None:
    """Write whole files into a folder of a workspace; `alone`: other files there, but no folders, are removed."""
    root = os.open(work_dir, OPEN_FOLDER)
    try:
        descriptor = open_path(root, folder)
    finally:
        os.close(root)
    try:
        for name, data in files.items():
            temporary = f".{name}.writing"
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=descriptor)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(temporary, flags, 0o644, dir_fd=descriptor)
            try:
                write_all(file, data)
            finally:
                os.close(file)
            os.rename(temporary, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        for name, status in _listed(descriptor) if alone else ():
            if name not in files and not stat.S_ISDIR(status.st_mode):
                os.unlink(name, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Remove a folder with its content, however deep; nothing happens when it isn't one."""
    if folder.is_dir() and not folder.is_symlink():
        _empty_folder(folder)
        folder.rmdir()


def _empty_folder(folder: Path) -> None:
    """Remove a folder's content without recursion: folders below are moved up until none has folders in it."""
    count = 0
    while paths := list(folder.iterdir()):
        for path in paths:
            if path.is_symlink() or not path.is_dir():
                path.unlink()
                continue
            path.chmod(0o700)
            for inner in list(path.iterdir()):
                if inner.is_symlink() or not inner.is_dir():
                    inner.unlink()
                    continue
                inner.chmod(0o700)
                count += 1
                inner.rename(folder / f"up-{count}")
            path.rmdir()
