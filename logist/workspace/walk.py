"""Reading a workspace that nobody trusts into a tree.

Folders are opened relative to their parent and links are never followed; regular files and links (as data) are all that
is read. What is left out is named with its reason. Nothing here starts a program or opens a repository of the agent.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from logist.workspace.cache import Known
from logist.workspace.files import (
    DEFAULT_LIMITS,
    NOT_REGULAR,
    OPEN_FOLDER,
    ReadFile,
    WalkLimits,
    git_mode,
    is_large_as_before,
    read_regular,
    stamp_of,
)
from logist.workspace.ignore import Rules
from logist.workspace.left_out import NOTHING, LeftOut
from logist.workspace.names import OWN_FOLDER, is_git_metadata, refused_content, shown
from logist.workspace.objects import (
    FOLDER,
    GITLINK,
    Entries,
    ObjectStore,
    ObjectWriter,
    TreeEntry,
    encode_tree,
    hash_object,
)

#: Bytes; git's own checkout fails above PATH_MAX.
MAX_PATH = 3_500
#: Skipped paths that are named, of each kind; the rest is counted.
MAX_NAMED = 1_000
IGNORED = "ignored by .gitignore"
METADATA = "git metadata"

_SKIPPABLE = {errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO}


class SkippedPath(NamedTuple):
    """A path of the workspace that is not in the evidence, and why."""

    path: str
    why: str


class WalkResult(NamedTuple):
    """A walk's tree, the paths in which it differs from the base, and what was left out."""

    tree: str
    changed: tuple[str, ...]
    skipped: tuple[SkippedPath, ...]


class Walk:
    """One reading of a workspace against a base tree. Without a writer nothing is stored, only hashed."""

    def __init__(
        self,
        store: ObjectStore,
        known: dict[str, dict[str, Known]],
        settled: int,
        *,
        writer: ObjectWriter | None = None,
        limits: WalkLimits = DEFAULT_LIMITS,
        force: Collection[str] = (),
        excluded: Collection[tuple[int, int]] = (),
        left_out: LeftOut = NOTHING,
    ) -> None:
        self._store = store
        self._known = known
        self._settled = settled
        self._writer = writer
        self._limits = limits
        self._force = frozenset(force)
        self._force_folders = {path[:at] for path in self._force for at, letter in enumerate(path) if letter == "/"}
        self._excluded = excluded
        self._left_out = left_out
        # An ignored folder is named as a whole; what is left out in it has a reason of its own.
        self._force_folders |= left_out.folders
        self._changed: set[str] = set()
        self._skipped: list[SkippedPath] = []
        self._ignored: list[SkippedPath] = []
        self._unnamed = 0
        self._unnamed_ignored = 0
        self._left: list[SkippedPath] = []
        self._unnamed_left = 0
        self._new = 0
        #: Every file that is in the tree; replaces what was known once the walk's objects are stored.
        self.files: dict[str, dict[str, Known]] = {}

    def run(self, work_dir: Path, base_tree: str) -> WalkResult:
        """Read the whole workspace. Raises OSError for what is no property of a single path."""
        descriptor = os.open(work_dir, OPEN_FOLDER)
        try:
            tree = self._folder(descriptor, "", base_tree, None, False, 0)
        finally:
            os.close(descriptor)
        return WalkResult(tree or self._store_tree({}), tuple(sorted(map(shown, self._changed))), self._all_skipped())

    def _folder(
        self, descriptor: int, prefix: str, base_id: str | None, rules: Rules | None, hidden: bool, depth: int
    ) -> str | None:
        base = self._store.entries(base_id) if base_id else {}
        known = self._known.get(prefix, {})
        files: dict[str, Known] = {}
        entries: Entries = {}
        folders: list[os.DirEntry[str]] = []
        with os.scandir(descriptor) as listing:
            found = sorted(listing, key=attrgetter("name"))
        rules = self._rules_in(descriptor, found, depth, rules)
        for item in found:
            name = item.name
            try:
                status = item.stat(follow_symlinks=False)
            except OSError as error:
                self._skip_error(prefix + name, error)
                continue
            stamp = (
                status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns
            )  # fmt: skip
            held = known.get(name)
            if held is not None and held.stamp == stamp and not held.racy and name in base:
                files[name] = held
                entries[name] = held.entry
            elif not prefix and name == OWN_FOLDER:
                continue
            elif stat.S_ISDIR(status.st_mode):
                folders.append(item)
            else:
                ignored = name not in base and (hidden or (rules is not None and rules.ignore(prefix + name, False)))
                file = self._file(descriptor, prefix + name, status, held, base.get(name), ignored)
                if file is not None:
                    files[name] = file
                    entries[name] = file.entry
        self.files[prefix] = files
        if not prefix and OWN_FOLDER in base:
            entries[OWN_FOLDER] = base[OWN_FOLDER]
        walked = {
            item.name
            for item in folders
            if self._subfolder(descriptor, item, prefix, base, entries, rules, hidden, depth)
        }
        if entries == base:
            return base_id
        self._note_changes(prefix, base, entries, walked)
        return self._store_tree(entries) if entries else None

    def _subfolder(
        self,
        parent: int,
        item: os.DirEntry[str],
        prefix: str,
        base: Entries,
        entries: Entries,
        rules: Rules | None,
        hidden: bool,
        depth: int,
    ) -> bool:
        """Add a folder to `entries`; whether it was walked."""
        name, path = item.name, prefix + item.name
        was = base.get(name)
        if was is not None and was.mode == GITLINK:
            entries[name] = was
            self._skip(path, "a submodule: its content is not evidence")
            return False
        tracked = was is not None and was.mode == FOLDER
        hidden = hidden or (rules is not None and rules.ignore(path, True))
        why = self._folder_refused(item, depth)
        if why is None and hidden and not tracked and path not in self._force_folders:
            why = IGNORED
        if why is not None:
            self._skip(path, why)
            return False
        try:
            descriptor = os.open(name, OPEN_FOLDER, dir_fd=parent)
        except OSError as error:
            self._skip_error(path, error)
            return False
        try:
            tree = self._folder(descriptor, f"{path}/", was.id if was and tracked else None, rules, hidden, depth + 1)
        finally:
            os.close(descriptor)
        if tree is not None:
            entries[name] = TreeEntry(FOLDER, tree)
        return True

    def _folder_refused(self, item: os.DirEntry[str], depth: int) -> str | None:
        if is_git_metadata(item.name):
            return METADATA
        if depth + 1 > self._limits.depth:
            return f"deeper than {self._limits.depth} folders"
        if self._excluded:
            status = item.stat(follow_symlinks=False)
            if (status.st_dev, status.st_ino) in self._excluded:
                return "the job's own folder"
        return None

    def _file(
        self,
        folder: int,
        path: str,
        status: os.stat_result,
        held: Known | None,
        was: TreeEntry | None,
        ignored: bool,
    ) -> Known | None:
        name = path.rpartition("/")[2]
        why = self._file_refused(path, name, ignored, is_new=was is None)
        if why is not None:
            self._skip(path, why)
            return None
        if held is not None and not held.racy and held.stamp == stamp_of(status):
            return held
        try:
            return self._read(folder, name, path, status, was)
        except OSError as error:
            self._skip_error(path, error)
            return None

    def _file_refused(self, path: str, name: str, ignored: bool, *, is_new: bool) -> str | None:
        if is_git_metadata(name):
            return METADATA
        if is_new and (why := self._left_out.why(path)):
            return why
        if ignored and path not in self._force:
            return IGNORED
        if len(os.fsencode(path)) > MAX_PATH:
            return f"its path is longer than {MAX_PATH} bytes"
        if is_new and self._new >= self._limits.files:
            return f"more than {self._limits.files} new files"
        self._new += is_new
        return None

    def _read(self, folder: int, name: str, path: str, status: os.stat_result, was: TreeEntry | None) -> Known | None:
        if stat.S_ISLNK(status.st_mode):
            link = os.fsencode(os.readlink(name, dir_fd=folder))
            read: ReadFile | str = ReadFile(link, stamp_of(status), False)
        elif stat.S_ISREG(status.st_mode):
            read = read_regular(folder, name, self._limits.file_bytes)
        else:
            read = NOT_REGULAR
        if not isinstance(read, str):
            refused = refused_content(name, read.data, stat.S_ISLNK(status.st_mode))
            read = refused or read
        if isinstance(read, str):
            if was is not None and is_large_as_before(folder, name, status, was, self._limits.file_bytes):
                stamp = stamp_of(status)
                return Known(stamp, was, stamp[5] >= self._settled)
            self._skip(path, read)
            return None
        object_id = self._writer.add("blob", read.data) if self._writer else hash_object("blob", read.data)
        racy = not read.steady or read.stamp[5] >= self._settled
        return Known(read.stamp, TreeEntry(git_mode(read.stamp[2]), object_id), racy)

    def _rules_in(self, folder: int, found: list[os.DirEntry[str]], depth: int, outer: Rules | None) -> Rules | None:
        if not any(item.name == ".gitignore" for item in found):
            return outer
        try:
            read = read_regular(folder, ".gitignore", self._limits.file_bytes)
        except OSError as error:
            if error.errno not in _SKIPPABLE:
                raise
            return outer
        return outer if isinstance(read, str) else Rules(read.data, depth, outer)

    def _note_changes(self, prefix: str, base: Entries, entries: Entries, walked: set[str]) -> None:
        for name in base.keys() | entries.keys():
            was, now = base.get(name), entries.get(name)
            if was == now:
                continue
            path = prefix + name
            if now is not None and now.mode != FOLDER:
                self._changed.add(path)
            if was is None:
                continue
            if was.mode != FOLDER:
                self._changed.add(path)
            elif name not in walked:
                self._changed.update(gone for gone, _ in self._store.files(was.id, f"{path}/"))

    def _store_tree(self, entries: Entries) -> str:
        data = encode_tree(entries)
        if self._writer is None:
            return hash_object("tree", data)
        tree_id = self._writer.add("tree", data)
        self._store.trees[tree_id] = entries
        return tree_id

    def _skip_error(self, path: str, error: OSError) -> None:
        # EINVAL: a link that was replaced before it was read. Anything else is the machine's trouble, not the path's.
        if error.errno == errno.EINVAL:
            self._skip(path, "changed while it was read")
        elif error.errno in _SKIPPABLE:
            self._skip(path, f"can't be read: {os.strerror(error.errno).lower()}")
        else:
            raise error

    def _skip(self, path: str, why: str) -> None:
        if why == IGNORED:
            if len(self._ignored) < MAX_NAMED:
                self._ignored.append(SkippedPath(shown(path), why))
            else:
                self._unnamed_ignored += 1
        elif self._left_out.why(path) == why:
            # Thousands of chunks must not keep anything else from being named.
            if len(self._left) < MAX_NAMED:
                self._left.append(SkippedPath(shown(path), why))
            else:
                self._unnamed_left += 1
        elif len(self._skipped) < MAX_NAMED:
            self._skipped.append(SkippedPath(shown(path), why))
        else:
            self._unnamed += 1

    def _all_skipped(self) -> tuple[SkippedPath, ...]:
        rest = []
        if self._unnamed:
            rest.append(SkippedPath("...", f"... and {self._unnamed} more"))
        if self._unnamed_ignored:
            rest.append(SkippedPath("...", f"... and {self._unnamed_ignored} more {IGNORED}"))
        if self._unnamed_left:
            rest.append(SkippedPath("...", f"... and {self._unnamed_left} more media of a render"))
        return (*sorted(self._skipped + self._ignored), *sorted(self._left), *rest)
