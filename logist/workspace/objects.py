"""Objects of the evidence repository, read and written in this process.

A step needs a handful of small objects: starting git for them costs more than writing them. The formats are git's own,
and everything is on disk before a method that stores returns.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from logist.disk import sync_all
from logist.errors import WorkspaceFailed
from logist.workspace.disk import damaged, write_all
from logist.workspace.packs import Pack, PackWriter

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
FILE, EXECUTABLE, SYMLINK, FOLDER, GITLINK = 0o100644, 0o100755, 0o120000, 0o040000, 0o160000
#: New objects beyond this number go into one pack: each loose object costs an fsync.
LOOSE_LIMIT = 48
PACK_LIMIT = 1 << 30
FULL_ID = re.compile(r"[0-9a-f]{40}")


class TreeEntry(NamedTuple):
    """What a name in a tree stands for: git's mode and object id."""

    mode: int
    id: str


Entries = dict[str, TreeEntry]


class Commit(NamedTuple):
    """The parts of a commit object that Logist reads."""

    tree: str
    parents: tuple[str, ...]
    author: str
    at: datetime
    message: str


def check_id(object_id: str) -> str:
    """The id itself when it is a full one; raises WorkspaceFailed."""
    if FULL_ID.fullmatch(object_id) is None:
        raise WorkspaceFailed(f"{object_id!r} is not a full commit id.", "Give all 40 hexadecimal digits.")
    return object_id


def hash_object(kind: str, data: bytes) -> str:
    """The id that git gives `data`."""
    digest = hashlib.sha1(f"{kind} {len(data)}\0".encode(), usedforsecurity=False)
    digest.update(data)
    return digest.hexdigest()


def encode_tree(entries: Entries) -> bytes:
    """The content of the tree object, in git's order."""
    rows = []
    for name, entry in entries.items():
        raw = os.fsencode(name)
        is_folder = entry.mode == FOLDER
        rows.append((raw + b"/" if is_folder else raw, b"%o %s\0%s" % (entry.mode, raw, bytes.fromhex(entry.id))))
    return b"".join(row for _, row in sorted(rows))


def decode_tree(data: bytes) -> Entries:
    """The entries of a tree object's content."""
    entries: Entries = {}
    at = 0
    while at < len(data):
        space, end = data.index(b" ", at), data.index(b"\0", at)
        entries[os.fsdecode(data[space + 1 : end])] = TreeEntry(int(data[at:space], 8), data[end + 1 : end + 21].hex())
        at = end + 21
    return entries


def encode_commit(tree: str, parents: tuple[str, ...], author: str, at: datetime, message: str) -> bytes:
    """The content of the commit object. What git's fsck would refuse in names and messages is left out."""
    moment = f"{int(at.astimezone(UTC).timestamp())} +0000"
    lines = [f"tree {check_id(tree)}", *(f"parent {check_id(parent)}" for parent in parents)]
    name = " ".join(re.sub(r"[<>\x00-\x1f\x7f]", " ", author).split()).strip(" .,:;\"'\\") or "logist"
    lines += [f"author {name} <noreply@logist.invalid> {moment}", f"committer Logist <noreply@logist.invalid> {moment}"]
    text = message.replace("\0", "").rstrip("\n") + "\n"
    return ("\n".join(lines) + "\n\n" + text).encode("utf-8", "backslashreplace")


def decode_commit(data: bytes) -> Commit:
    """The parts of a commit object's content. Raises ValueError."""
    head, _, message = data.decode("utf-8", "replace").partition("\n\n")
    tree, parents, author, seconds = "", [], "", 0
    for line in head.split("\n"):
        key, _, value = line.partition(" ")
        if key == "tree":
            tree = value
        elif key == "parent":
            parents.append(value)
        elif key == "author":
            author, _, moment = value.rpartition("> ")
            author, seconds = f"{author}>", int(moment.split()[0])
    if not tree:
        raise ValueError("a commit without a tree")
    return Commit(tree, tuple(parents), author, datetime.fromtimestamp(seconds, UTC), message)


class ObjectStore:
    """Reads the objects of one repository, loose or packed, and remembers the trees it has read."""

    def __init__(self, repo_dir: Path) -> None:
        self.folder = repo_dir / "objects"
        self._packs: dict[str, Pack] = {}
        self._packs_seen = -1
        self.trees: dict[str, Entries] = {EMPTY_TREE: {}}

    def loose_path(self, object_id: str) -> Path:
        """Where the object lies when it is loose."""
        return self.folder / object_id[:2] / object_id[2:]

    def is_packed(self, object_id: str) -> bool:
        """Whether a pack holds the object."""
        raw = bytes.fromhex(object_id)
        return any(pack.offset(raw) is not None for pack in self._current_packs())

    def exists(self, object_id: str) -> bool:
        """Whether the object is in the repository."""
        return self.loose_path(object_id).exists() or self.is_packed(object_id)

    def read(self, object_id: str, limit: int | None = None) -> tuple[str, bytes]:
        """The kind and the content of an object, at most `limit` bytes. Raises WorkspaceFailed when it isn't there."""
        try:
            raw = self.loose_path(object_id).read_bytes()
        except FileNotFoundError:
            return self._read_packed(object_id, limit)
        try:
            inflater = zlib.decompressobj()
            data = inflater.decompress(raw, 0 if limit is None else limit + 64)
            head, _, body = data.partition(b"\0")
            kind, size = head.decode("ascii").split(" ")
            if limit is None and len(body) != int(size):
                raise ValueError("cut short")
        except (zlib.error, ValueError) as error:
            raise damaged(f"object {object_id} can't be read") from error
        return kind, body[:limit]

    def entries(self, tree_id: str) -> Entries:
        """The entries of a tree; a dictionary that is shared: don't change it."""
        known = self.trees.get(tree_id)
        if known is None:
            kind, data = self.read(tree_id)
            try:
                if kind != "tree":
                    raise ValueError("not a tree")
                known = decode_tree(data)
            except ValueError as error:
                raise damaged(f"{tree_id} is not a readable tree") from error
            self.trees[tree_id] = known
        return known

    def commit(self, commit_id: str) -> Commit:
        """The parts of a commit. Raises WorkspaceFailed."""
        kind, data = self.read(check_id(commit_id))
        try:
            if kind != "commit":
                raise ValueError("not a commit")
            return decode_commit(data)
        except (ValueError, IndexError) as error:
            raise damaged(f"{commit_id} is not a readable commit") from error

    def lookup(self, tree_id: str, path: str) -> TreeEntry | None:
        """What `path` stands for in a tree, None when it is not there."""
        *folders, name = path.split("/")
        for folder in folders:
            entry = self.entries(tree_id).get(folder)
            if entry is None or entry.mode != FOLDER:
                return None
            tree_id = entry.id
        return self.entries(tree_id).get(name)

    def files(self, tree_id: str, prefix: str = "") -> Iterator[tuple[str, TreeEntry]]:
        """Every entry of a tree that is not a folder, with its path."""
        for name, entry in self.entries(tree_id).items():
            if entry.mode == FOLDER:
                yield from self.files(entry.id, f"{prefix}{name}/")
            else:
                yield prefix + name, entry

    def close(self) -> None:
        """Let go of the packs."""
        self._packs = {}
        self._packs_seen = -1

    def _read_packed(self, object_id: str, limit: int | None) -> tuple[str, bytes]:
        raw = bytes.fromhex(object_id)
        for pack in self._current_packs():
            offset = pack.offset(raw)
            if offset is None:
                continue
            try:
                kind, data = pack.read(offset, self.read)
            except (zlib.error, IndexError, KeyError) as error:
                raise damaged(f"object {object_id} can't be read") from error
            return kind, data[:limit]
        if object_id == EMPTY_TREE:
            return "tree", b""
        raise WorkspaceFailed(
            f"The evidence repository has no object {object_id}.",
            "Check the id; `logist job log` lists a job's commits.",
        )

    def _current_packs(self) -> list[Pack]:
        folder = self.folder / "pack"
        try:
            changed = folder.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        if changed != self._packs_seen:
            indexes = sorted(path for path in folder.iterdir() if path.suffix == ".idx")
            self._packs = {path.name: self._packs.get(path.name) or Pack(path) for path in indexes}
            self._packs_seen = changed
        return list(self._packs.values())


class ObjectWriter:
    """Takes the new objects of one snapshot or commit. They are durable once `finish` has returned."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._folders: set[Path] = set()
        self._added: set[str] = set()
        #: Written, neither durable nor in place.
        self._loose: list[_Loose] = []
        self._pack: PackWriter | None = None

    def add(self, kind: str, data: bytes) -> str:
        """Store an object unless it is there; its id."""
        object_id = hash_object(kind, data)
        if object_id in self._added:
            return object_id
        self._added.add(object_id)
        path = self._store.loose_path(object_id)
        if path.exists():
            # Written by an attempt that may have died before its folder was on disk.
            self._folders.add(path.parent)
        elif not self._store.is_packed(object_id):
            self._write(kind, data, object_id, path)
        return object_id

    def finish(self, along: Sequence[int] = (), last: Sequence[int] = ()) -> None:
        """Make everything that was added durable, and the open files: `along` before any of it is in place, `last` with
        the places."""
        self._place_loose(along)
        if self._pack is not None:
            self._pack.finish()
            self._folders.add(self._store.folder / "pack")
            self._pack = None
        with contextlib.ExitStack() as stack:
            folders = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for folder in self._folders]
            for descriptor in folders:
                stack.callback(os.close, descriptor)
            sync_all([*folders, *last])
        self._folders.clear()

    def abandon(self) -> None:
        """Drop what is not in place yet."""
        for loose in self._loose:
            os.close(loose.descriptor)
            loose.temporary.unlink(missing_ok=True)
        self._loose.clear()
        if self._pack is not None:
            self._pack.abandon()
            self._pack = None

    def _place_loose(self, along: Sequence[int]) -> None:
        sync_all([*(loose.descriptor for loose in self._loose), *along])
        while self._loose:
            # In the order of writing: no tree is in place before what it names.
            loose = self._loose[0]
            loose.temporary.rename(loose.path)
            self._loose.pop(0)
            os.close(loose.descriptor)
            self._folders.add(loose.path.parent)

    def _write(self, kind: str, data: bytes, object_id: str, path: Path) -> None:
        if len(self._loose) >= LOOSE_LIMIT:
            if self._pack is not None and self._pack.size + len(data) > PACK_LIMIT:
                self._pack.finish()
                self._pack = None
            if self._pack is None:
                self._pack = PackWriter(self._store.folder / "pack")
            self._pack.add(kind, data, object_id)
            return
        deflater = zlib.compressobj(1)
        content = deflater.compress(f"{kind} {len(data)}\0".encode()) + deflater.compress(data) + deflater.flush()
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            self._folders.add(self._store.folder)
        descriptor, name = tempfile.mkstemp(prefix="tmp_obj_", dir=self._store.folder)
        self._loose.append(_Loose(descriptor, Path(name), path))
        write_all(descriptor, content)
        os.fchmod(descriptor, 0o444)


class _Loose(NamedTuple):
    """A loose object that is written and waits to be made durable and put in place."""

    descriptor: int
    temporary: Path
    path: Path
