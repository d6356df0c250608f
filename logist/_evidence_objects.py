"""Objects and refs of the evidence repository, read and written in this process. Only `workspace_utils` imports this.

A step needs a handful of small objects: starting git for them costs more than writing them. The formats are git's own,
and everything is on disk before a method that stores returns.
"""

from __future__ import annotations

import binascii
import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import re
import struct
import tempfile
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from logist.disk import sync_all
from logist.errors import StorageFailed, WorkspaceFailed

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
FILE, EXECUTABLE, SYMLINK, FOLDER, GITLINK = 0o100644, 0o100755, 0o120000, 0o040000, 0o160000
#: New objects beyond this number go into one pack: each loose object costs an fsync.
LOOSE_LIMIT = 48
PACK_LIMIT = 1 << 30
FULL_ID = re.compile(r"[0-9a-f]{40}")

_COMMIT, _TREE, _BLOB, _OFS_DELTA, _REF_DELTA = 1, 2, 3, 6, 7
_PACK_TYPES = {"commit": _COMMIT, "tree": _TREE, "blob": _BLOB}
_TYPE_NAMES = {_COMMIT: "commit", _TREE: "tree", _BLOB: "blob", 4: "tag"}
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}
_REF_COMPONENT = re.compile(r"(?![.-])[^\x00-\x20\x7f~^:?*\[\\/]+(?<!\.)(?<!\.lock)")


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


def damaged(what: str) -> WorkspaceFailed:
    """The error for an object or ref that is not what it should be."""
    return WorkspaceFailed(
        f"The evidence repository is damaged: {what}.",
        "Run `git fsck` on the job's repo.git, or restore it from a backup.",
    )


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


class _Pack:
    """One pack and its index. Mapped into memory, so a pack that git removes stays readable."""

    def __init__(self, index: Path) -> None:
        self._index = _map(index)
        self._data = _map(index.with_suffix(".pack"))
        if self._index[:8] != b"\377tOc\0\0\0\2":
            raise damaged(f"{index.name} is not a pack index of version 2")
        self._fanout = struct.unpack(">256I", self._index[8:1032])
        self._cache: dict[int, tuple[int, bytes]] = {}

    def offset(self, raw_id: bytes) -> int | None:
        count = self._fanout[255]
        low, high = (self._fanout[raw_id[0] - 1] if raw_id[0] else 0), self._fanout[raw_id[0]]
        at = bisect_left(range(count), raw_id, low, high, key=lambda i: self._index[1032 + 20 * i : 1052 + 20 * i])
        if at >= high or self._index[1032 + 20 * at : 1052 + 20 * at] != raw_id:
            return None
        base = 1032 + 24 * count
        (offset,) = struct.unpack_from(">I", self._index, base + 4 * at)
        if offset & 0x80000000:
            (offset,) = struct.unpack_from(">Q", self._index, base + 4 * count + 8 * (offset & 0x7FFFFFFF))
        return int(offset)

    def read(self, offset: int, store: ObjectStore) -> tuple[str, bytes]:
        """The object at `offset`, its deltas applied."""
        deltas: list[tuple[int, bytes]] = []
        while True:
            if offset in self._cache:
                kind, data = self._cache[offset]
                break
            kind, size, at = self._header(offset)
            if kind == _OFS_DELTA:
                distance, at = _offset_varint(self._data, at)
                deltas.append((offset, self._inflate(at, size)))
                offset -= distance
            elif kind == _REF_DELTA:
                base = self._data[at : at + 20]
                deltas.append((offset, self._inflate(at + 20, size)))
                within = self.offset(base)
                if within is None:
                    name, data = store.read(base.hex())
                    kind = _PACK_TYPES[name]
                    break
                offset = within
            else:
                data = self._inflate(at, size)
                self._remember(offset, kind, data)
                break
        for where, delta in reversed(deltas):
            data = _apply_delta(data, delta)
            self._remember(where, kind, data)
        return _TYPE_NAMES[kind], data

    def _remember(self, offset: int, kind: int, data: bytes) -> None:
        if len(self._cache) > 512:
            self._cache.clear()
        if len(data) <= 65_536:
            self._cache[offset] = (kind, data)

    def _header(self, at: int) -> tuple[int, int, int]:
        byte = self._data[at]
        kind, size, shift, at = (byte >> 4) & 7, byte & 15, 4, at + 1
        while byte & 0x80:
            byte = self._data[at]
            size |= (byte & 0x7F) << shift
            shift, at = shift + 7, at + 1
        return kind, size, at

    def _inflate(self, at: int, size: int) -> bytes:
        inflater = zlib.decompressobj()
        parts = []
        bound = size + size // 500 + 128
        while not inflater.eof and at < len(self._data):
            parts.append(inflater.decompress(self._data[at : at + bound]))
            at += bound
        data = b"".join(parts)
        if len(data) != size:
            raise damaged("a packed object is cut short")
        return data


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _offset_varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    byte = data[at]
    value, at = byte & 0x7F, at + 1
    while byte & 0x80:
        byte = data[at]
        value, at = ((value + 1) << 7) | (byte & 0x7F), at + 1
    return value, at


def _size_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not byte & 0x80:
            return value, at


def _apply_delta(base: bytes, delta: bytes) -> bytes:
    _, at = _size_varint(delta, 0)
    size, at = _size_varint(delta, at)
    out = []
    while at < len(delta):
        command = delta[at]
        at += 1
        if not command & 0x80:
            out.append(delta[at : at + command])
            at += command
            continue
        fields = []
        for bit in range(7):
            present = command >> bit & 1
            fields.append(delta[at] if present else 0)
            at += present
        offset = int.from_bytes(bytes(fields[:4]), "little")
        length = int.from_bytes(bytes(fields[4:]), "little") or 0x10000
        out.append(base[offset : offset + length])
    data = b"".join(out)
    if len(data) != size:
        raise damaged("a delta of a pack does not fit its base")
    return data


class ObjectStore:
    """Reads the objects of one repository, loose or packed, and remembers the trees it has read."""

    def __init__(self, repo_dir: Path) -> None:
        self.folder = repo_dir / "objects"
        self._packs: dict[str, _Pack] = {}
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
                kind, data = pack.read(offset, self)
            except (zlib.error, IndexError, KeyError) as error:
                raise damaged(f"object {object_id} can't be read") from error
            return kind, data[:limit]
        if object_id == EMPTY_TREE:
            return "tree", b""
        raise WorkspaceFailed(
            f"The evidence repository has no object {object_id}.",
            "Check the id; `logist job log` lists a job's commits.",
        )

    def _current_packs(self) -> list[_Pack]:
        folder = self.folder / "pack"
        try:
            changed = folder.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        if changed != self._packs_seen:
            indexes = sorted(path for path in folder.iterdir() if path.suffix == ".idx")
            self._packs = {path.name: self._packs.get(path.name) or _Pack(path) for path in indexes}
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
        self._pack: _PackWriter | None = None

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

    def finish(self) -> None:
        """Make everything that was added durable."""
        self._place_loose()
        if self._pack is not None:
            self._pack.finish()
            self._folders.add(self._store.folder / "pack")
            self._pack = None
        with contextlib.ExitStack() as stack:
            folders = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for folder in self._folders]
            for descriptor in folders:
                stack.callback(os.close, descriptor)
            sync_all(folders)
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

    def _place_loose(self) -> None:
        sync_all([loose.descriptor for loose in self._loose])
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
                self._pack = _PackWriter(self._store.folder / "pack")
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


class _PackWriter:
    """One pack without deltas, and its index."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._descriptor, name = tempfile.mkstemp(prefix="tmp_pack_", dir=folder)
        self._temporary = Path(name)
        self._rows: list[tuple[bytes, int, int]] = []
        write_all(self._descriptor, b"\0" * 12)
        self.size = 12

    def add(self, kind: str, data: bytes, object_id: str) -> None:
        size, first = len(data) >> 4, _PACK_TYPES[kind] << 4 | len(data) & 15
        head = bytearray()
        while size:
            head.append(first | 0x80)
            first, size = size & 0x7F, size >> 7
        head.append(first)
        record = bytes(head) + zlib.compress(data, 1)
        self._rows.append((bytes.fromhex(object_id), binascii.crc32(record), self.size))
        write_all(self._descriptor, record)
        self.size += len(record)

    def finish(self) -> None:
        try:
            os.pwrite(self._descriptor, b"PACK" + struct.pack(">II", 2, len(self._rows)), 0)
            checksum = self._checksum()
            os.lseek(self._descriptor, 0, os.SEEK_END)
            write_all(self._descriptor, checksum)
            os.fchmod(self._descriptor, 0o444)
            os.fsync(self._descriptor)
            name = f"pack-{checksum.hex()}"
            self._temporary.rename(self._folder / f"{name}.pack")
            # Last: git takes a pack for there once its index is.
            with temporary_file(self._folder, "tmp_idx_") as (descriptor, temporary):
                write_all(descriptor, self._index(checksum))
                os.fchmod(descriptor, 0o444)
                os.fsync(descriptor)
                temporary.rename(self._folder / f"{name}.idx")
        except BaseException:
            self.abandon()
            raise
        os.close(self._descriptor)

    def abandon(self) -> None:
        os.close(self._descriptor)
        self._temporary.unlink(missing_ok=True)

    def _checksum(self) -> bytes:
        digest = hashlib.sha1(usedforsecurity=False)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        while block := os.read(self._descriptor, 1 << 20):
            digest.update(block)
        return digest.digest()

    def _index(self, checksum: bytes) -> bytes:
        rows = sorted(self._rows)
        counts = [0] * 256
        for raw, _, _ in rows:
            counts[raw[0]] += 1
        total, fanout = 0, []
        for count in counts:
            total += count
            fanout.append(total)
        content = b"".join(
            [
                b"\377tOc\0\0\0\2",
                struct.pack(">256I", *fanout),
                *(raw for raw, _, _ in rows),
                struct.pack(f">{total}I", *(crc for _, crc, _ in rows)),
                struct.pack(f">{total}I", *(offset for _, _, offset in rows)),
                checksum,
            ]
        )
        return content + hashlib.sha1(content, usedforsecurity=False).digest()


class Refs:
    """Reads and moves the refs of one repository; a move is on disk when the method returns."""

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
        path = self._repo_dir / name
        self._make_folders(path.parent)
        with self._locked(path) as (descriptor, lock):
            held = self.get(name)
            if held == new:
                # A run that died after its rename may not have got the folder to disk.
                lock.unlink()
                fsync_folder(path.parent)
                return
            if expected is not None and held != expected:
                raise WorkspaceFailed(
                    f"{name} is at {held or 'nothing'}, not at {expected}.",
                    "Something else wrote to the job's evidence; look at `logist job log`.",
                )
            os.ftruncate(descriptor, 0)
            write_all(descriptor, f"{new}\n".encode("ascii"))
            os.fsync(descriptor)
            lock.rename(path)
            fsync_folder(path.parent)

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
        Path(name).unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
