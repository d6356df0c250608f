"""The journal of a job, `history.jsonl`: one record a line with its number and checksum, appended and synced."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from logist.disk import sync_all
from logist.durable import Document, check_place, iso, storage_failed, to_json
from logist.errors import InvalidFile, StorageFailed

_BLOCK = 16_384
_MAX_BLOCK = 1_048_576
_CRC_MARK = b',"crc":"'
_CRC_LENGTH = len(_CRC_MARK) + len(b'00000000"}\n')


class Line(NamedTuple):
    """One record of the history: its number, its time (ISO 8601) and the record as it stands in JSON."""

    seq: int
    at: str
    record: Document


class DamagedLine(ValueError):
    """A line of the history that is cut short, changed or malformed."""


def encode_line(seq: int, at: str, record: Mapping[str, object]) -> bytes:
    """One line of the history: JSON with a checksum of everything before the checksum's own key."""
    body = to_json({"seq": seq, "at": at, "record": record})[:-1]
    return body + _checksum(body)


def _checksum(body: bytes) -> bytes:
    return _CRC_MARK + b'%08x"}\n' % zlib.crc32(body)


def decode_line(line: bytes) -> Line:
    """Read one line of the history, with its newline. Raises DamagedLine."""
    body, suffix = line[:-_CRC_LENGTH], line[-_CRC_LENGTH:]
    if suffix != _checksum(body):
        raise DamagedLine("the checksum does not match")
    try:
        value = json.loads(body + b"}")
    except (ValueError, RecursionError) as error:
        raise DamagedLine("not a JSON object") from error
    if not isinstance(value, dict) or value.keys() != {"seq", "at", "record"}:
        raise DamagedLine("not a record of the history")
    seq, at, record = value["seq"], value["at"], value["record"]
    if type(seq) is not int or seq < 1 or not isinstance(at, str) or not isinstance(record, dict):
        raise DamagedLine("not a record of the history")
    return Line(seq, at, record)


def _is_record(seq: int, line: bytes) -> bool:
    """Whether a line is the sound record `seq`: its checksum vouches for what is not parsed."""
    return line.startswith(b'{"seq":%d,' % seq) and line.endswith(_checksum(line[:-_CRC_LENGTH]))


class _Raw(NamedTuple):
    start: int
    data: bytes


class _Placed(NamedTuple):
    line: Line
    #: Offset just behind the line's newline.
    end: int


def _raw_lines_backwards(fd: int) -> Iterator[_Raw]:
    """The lines of a file from the last to the first, read in blocks; only the first one given may lack its newline."""
    start = os.fstat(fd).st_size
    # The bytes from `start` on of a line whose beginning is not read yet.
    rest = b""
    block = _BLOCK
    while start > 0:
        size = min(block, start)
        start -= size
        block = min(block * 2, _MAX_BLOCK)
        rest = os.pread(fd, size, start) + rest
        whole_from = 0 if start == 0 else rest.find(b"\n") + 1
        if whole_from == 0 and start > 0:
            continue
        whole, rest = rest[whole_from:], rest[:whole_from]
        yield from _split_backwards(whole, start + whole_from)


def _split_backwards(data: bytes, offset: int) -> Iterator[_Raw]:
    end = len(data)
    while end > 0:
        begin = data.rfind(b"\n", 0, end - 1) + 1
        yield _Raw(offset + begin, data[begin:end])
        end = begin


class Journal:
    """`history.jsonl`: appended and synced, one record a line. Reading needs no lease; appending does.

    A torn last line (the writer died in it) counts as never written. Any other damage raises InvalidFile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._last_seq = 0
        self._size = 0
        #: Why nothing may be appended any more.
        self._broken = ""

    @classmethod
    def create(cls, path: Path) -> Journal:
        """A new, empty journal, open for appending; the caller syncs the folder. Raises StorageFailed."""
        journal = cls(path)
        try:
            journal._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise storage_failed("create", path, error) from error
        return journal

    def open_for_append(self, at_least: int = 0) -> None:
        """Open for appending and cut off a torn last line.

        Raises InvalidFile when the file is damaged or ends before record `at_least`: then nothing is cut off.
        """
        fd = self._open(os.O_RDWR | os.O_APPEND)
        try:
            newest = next(self._backwards(fd), None)
            self._last_seq, self._size = (newest.line.seq, newest.end) if newest else (0, 0)
            self._require(at_least, self._last_seq)
            if os.fstat(fd).st_size > self._size:
                os.ftruncate(fd, self._size)
                os.fsync(fd)
        except OSError as error:
            os.close(fd)
            raise storage_failed("open", self.path, error) from error
        except BaseException:  # whatever it was, it travels on; the open file must not stay behind
            os.close(fd)
            raise
        self._fd = fd
        self._broken = ""

    def fileno(self) -> int:
        """The descriptor that is appended to."""
        return self._writable()

    def close(self) -> None:
        """Close the file; reading stays possible."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def check_place(self) -> None:
        """Raise StorageFailed when the open file is no longer the one at its path."""
        check_place(self._writable(), self.path)

    @property
    def last_seq(self) -> int:
        """The number of the last record, 0 when there is none. Raises InvalidFile."""
        if self._fd is not None:
            return self._last_seq
        return next((line.seq for line in self.newest_first()), 0)

    def append(
        self, at: datetime, record: Mapping[str, object], *, along: Sequence[int] = (), sync: bool = True
    ) -> int:
        """Append one record, durably, and return its number.

        Files `along` are synced with it. Without `sync` it becomes durable with the next record, not before.
        Raises StorageFailed; the record is then not in the file. After a failed fsync what is on the disk is not
        known, so every later append is refused until the journal is opened anew.
        """
        fd = self._writable()
        if self._broken:
            raise StorageFailed(f"{self.path} is closed for writing: {self._broken}", "run the job again")
        data = encode_line(self._last_seq + 1, iso(at), record)
        # Until the line is whole and synced, whatever interrupts this leaves the file in doubt.
        self._broken = "an append was interrupted"
        self._write(fd, data)
        try:
            if sync:
                sync_all([fd, *along])
        except OSError as error:
            self._broken = "an fsync failed"
            with contextlib.suppress(OSError):
                os.ftruncate(fd, self._size)
            raise storage_failed("sync", self.path, error) from error
        self._broken = ""
        self._last_seq += 1
        self._size += len(data)
        return self._last_seq

    def _write(self, fd: int, data: bytes) -> None:
        try:
            written = os.write(fd, data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, self._size)
                self._broken = ""
            raise storage_failed("append to", self.path, error) from error

    def read_after(self, seq: int) -> list[Line]:
        """The records after number `seq`, oldest first; the cost depends on their number alone.

        Raises InvalidFile when the file is damaged there, or ends before `seq`.
        """
        found: list[Line] = []
        newest = 0
        for line in self._newest_first(known=seq):
            newest = newest or line.seq
            if line.seq <= seq:
                break
            found.append(line)
        self._require(seq, newest)
        return found[::-1]

    def newest_first(self) -> Iterator[Line]:
        """The records from the last to the first, read as they are asked for. Raises InvalidFile."""
        return self._newest_first()

    def _newest_first(self, known: int = 0) -> Iterator[Line]:
        fd = self._open(os.O_RDONLY)
        try:
            for placed in self._backwards(fd, known):
                yield placed.line
        except OSError as error:
            raise storage_failed("read", self.path, error) from error
        finally:
            os.close(fd)

    def read_all(self) -> Iterator[Line]:
        """The records from the first to the last, each verified, with no gap. Raises InvalidFile."""
        damaged: DamagedLine | None = None
        for number, data in enumerate(self._raw_lines(), start=1):
            if damaged is not None:
                raise self._damaged(number - 1, str(damaged)) from damaged
            try:
                line = decode_line(data)
            except DamagedLine as error:
                damaged = error
                continue
            if line.seq != number:
                raise self._damaged(number, f"record {number} is missing, record {line.seq} stands in its place")
            yield line

    def verify(self) -> None:
        """Look at every record without parsing it: number and checksum. Raises InvalidFile, StorageFailed."""
        for number, data in enumerate(self._raw_lines(), start=1):
            if not _is_record(number, data):
                raise self._damaged(number, "its number or its checksum is not right")

    def _raw_lines(self) -> Iterator[bytes]:
        try:
            with os.fdopen(self._open(os.O_RDONLY), "rb") as file:
                yield from file
        except OSError as error:
            raise storage_failed("read", self.path, error) from error

    def _backwards(self, fd: int, known: int = 0) -> Iterator[_Placed]:
        """The sound lines from the last to the first. Record `known` is given by its number alone."""
        above: int | None = None
        for index, raw in enumerate(_raw_lines_backwards(fd)):
            try:
                line = Line(known, "", {}) if _is_record(known, raw.data) else decode_line(raw.data)
            except DamagedLine as error:
                if index == 0:
                    continue
                raise self._damaged(_line_number(fd, raw.start), str(error)) from error
            if above is not None and line.seq != above - 1:
                why = f"record {above} follows on record {line.seq}"
                raise self._damaged(_line_number(fd, raw.start) + 1, why)
            if (line.seq == 1) != (raw.start == 0):
                raise self._damaged(_line_number(fd, raw.start), f"record {line.seq} is out of place")
            above = line.seq
            yield _Placed(line, raw.start + len(raw.data))

    def _require(self, seq: int, newest: int) -> None:
        if newest < seq:
            # An empty file has nothing that could be gone back to.
            back = f"; or go back to what it holds with `logist doctor --repair {self.path.parent.name}`"
            raise InvalidFile(
                f"{self.path} ends with record {newest}, but the manifest knows record {seq}: records are lost",
                f"restore history.jsonl from a backup{back if newest else ''}",
            )

    def _damaged(self, number: int, why: str) -> InvalidFile:
        return InvalidFile(
            f"{self.path}, line {number}, is damaged: {why}",
            "restore the file from a backup; the results of all steps are commits in repo.git beside it",
        )

    def _writable(self) -> int:
        if self._fd is None:
            raise ValueError(f"{self.path} is not open for appending")
        return self._fd

    def _open(self, flags: int) -> int:
        try:
            return os.open(self.path, flags | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise InvalidFile(
                f"{self.path} is missing: without it nothing can be recorded",
                "restore it from a backup; the results of all steps are commits in repo.git beside it",
            ) from error
        except OSError as error:
            raise storage_failed("open", self.path, error) from error


def _line_number(fd: int, offset: int) -> int:
    count, position = 1, 0
    while position < offset:
        block = os.pread(fd, min(_MAX_BLOCK, offset - position), position)
        if not block:
            break
        count += block.count(b"\n")
        position += len(block)
    return count


def merge(manifest: Mapping[str, object], lines: Iterable[Line]) -> Document:
    """The manifest after `lines`: each record's `change` laid over it in order, and the number of the last one."""
    merged = dict(manifest)
    for line in lines:
        changed = line.record.get("change")
        if isinstance(changed, dict):
            merged.update(changed)
        merged["seq"] = line.seq
    return merged
