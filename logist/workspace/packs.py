"""git's packs: reading those of others, deltas and all, and writing one without deltas."""

from __future__ import annotations

import binascii
import hashlib
import mmap
import os
import struct
import tempfile
import zlib
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

from logist.workspace.disk import damaged, temporary_file, write_all

#: Reads an object by its id: its kind and its content.
ReadObject = Callable[[str], tuple[str, bytes]]

_COMMIT, _TREE, _BLOB, _OFS_DELTA, _REF_DELTA = 1, 2, 3, 6, 7
_PACK_TYPES = {"commit": _COMMIT, "tree": _TREE, "blob": _BLOB}
_TYPE_NAMES = {_COMMIT: "commit", _TREE: "tree", _BLOB: "blob", 4: "tag"}


class Pack:
    """One pack and its index. Mapped into memory, so a pack that git removes stays readable."""

    def __init__(self, index: Path) -> None:
        self._index = _map(index)
        self._data = _map(index.with_suffix(".pack"))
        if self._index[:8] != b"\377tOc\0\0\0\2":
            raise damaged(f"{index.name} is not a pack index of version 2")
        self._fanout = struct.unpack(">256I", self._index[8:1032])
        self._cache: dict[int, tuple[int, bytes]] = {}

    def offset(self, raw_id: bytes) -> int | None:
        """Where the object begins, None when the pack does not hold it."""
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

    def read(self, offset: int, read_base: ReadObject) -> tuple[str, bytes]:
        """The kind and the content of the object at `offset`, its deltas applied."""
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
                    name, data = read_base(base.hex())
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


class PackWriter:
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
        """Append an object that the pack does not hold yet."""
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
        """Put the pack in place with its index; its name still has to be made durable."""
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
            # Also a signal's exception: half a pack must not lie among whole ones.
            self.abandon()
            raise
        os.close(self._descriptor)

    def abandon(self) -> None:
        """Drop the pack."""
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
