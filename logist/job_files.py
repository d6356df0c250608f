"""Jobs on disk, the light half: paths, durable writes, the journal, the lease, requests. Standard library only.

`logist job cancel` must start as fast as bare click, so nothing here imports pydantic; the typed half is `job_state`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple

from logist.clock import SystemClock
from logist.errors import InvalidFile, JobBusy, JobNotFound, StorageFailed, UsageProblem, WrongState
from logist.lifecycle import JobStatus, TransitionRefused, Trigger, target
from logist.processes import ProcessIdentity, boot_id, identify, is_alive

#: The same as in `models.manifest`, which is too slow to import here; a test keeps them equal.
SCHEMA_VERSION = 1
JOB_ID_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"
INDEX_NAME = "jobs_index.json"

RequestKind = Literal["cancel", "pause"]
#: A JSON object as it stands on disk.
Document = dict[str, object]

_BLOCK = 16_384
_MAX_BLOCK = 1_048_576
_MAX_SENTENCE = 32_768
_LEASE_TRIES = 400
_CRC_MARK = b',"crc":"'
_CRC_LENGTH = len(_CRC_MARK) + len(b'00000000"}\n')
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_HINTS = {
    errno.ENOSPC: "free some disk space; what was recorded before is kept, and the job goes on from there",
    errno.EDQUOT: "raise the disk quota or free some space; what was recorded before is kept",
    errno.EIO: "the disk reports an error: check it before you go on; what was recorded before is kept",
    errno.EACCES: "check who owns the jobs folder and its permissions",
    errno.EPERM: "check who owns the jobs folder and its permissions",
    errno.EROFS: "the jobs folder is on a read-only file system; choose another one with --jobs-dir",
}


def storage_failed(action: str, path: Path, error: OSError) -> StorageFailed:
    """The error for a call of the system that failed: what could not be done, why, and what to do."""
    hint = _HINTS.get(error.errno or 0, "check the jobs folder and the disk; what was recorded before is kept")
    return StorageFailed(f"could not {action} {path}: {error.strerror or error}", hint)


# --- Paths ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JobPaths:
    """Every file name of one job. `root` is the job's folder."""

    root: Path

    @property
    def manifest(self) -> Path:
        """The job's present."""
        return self.root / "job_manifest.json"

    @property
    def manifest_before_repair(self) -> Path:
        """What a repair replaced."""
        return self.root / "job_manifest.json.before-repair"

    @property
    def history(self) -> Path:
        """The job's past, one record a line."""
        return self.root / "history.jsonl"

    @property
    def lease(self) -> Path:
        """Locked for the life of a run; never unlinked."""
        return self.root / "lease"

    @property
    def requests(self) -> Path:
        """What other processes ask of the runner."""
        return self.root / "requests"

    @property
    def repo(self) -> Path:
        """The bare evidence repository."""
        return self.root / "repo.git"

    @property
    def workspace(self) -> Path:
        """What the worker sees and changes."""
        return self.root / "workspace"

    @property
    def steps(self) -> Path:
        """Prompts, logs and replies, a folder an attempt."""
        return self.root / "steps"

    def step_dir(self, step: int, role: str, attempt: int) -> Path:
        """The folder of one attempt at a step: `steps/0001-worker`, the second attempt's `steps/0001-worker.2`."""
        suffix = "" if attempt <= 1 else f".{attempt}"
        return self.steps / f"{step:04d}-{role}{suffix}"


def check_job_id(text: str) -> str:
    """Give `text` back when it is a valid job id. Raises UsageProblem."""
    valid = re.fullmatch(JOB_ID_PATTERN, text) is not None
    # A job id is part of a branch name, where git allows neither ".." nor these endings.
    if not valid or ".." in text or text.endswith((".lock", ".")) or text == INDEX_NAME:
        raise UsageProblem(
            f"{text!r} is not a valid job id",
            "use 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit, "
            "without '..' and not ending in '.' or '.lock'",
        )
    return text


def _is_job_id(text: str) -> bool:
    try:
        check_job_id(text)
    except UsageProblem:
        return False
    return True


def find_jobs_dir(explicit: str | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """The jobs folder, which need not exist: the option, LOGIST_JOBS_DIR, the nearest `.logist/jobs` upwards, or where
    it would be made: at the git root, else in `cwd`."""
    named = explicit or environ.get("LOGIST_JOBS_DIR")
    if named:
        return cwd / named
    upwards = (cwd, *cwd.parents)
    for folder in upwards:
        # Not Path.is_dir: a parent folder that must not be looked into is no error.
        if os.path.isdir(folder / ".logist" / "jobs"):  # noqa: PTH112
            return folder / ".logist" / "jobs"
    git_root = next((folder for folder in upwards if os.path.exists(folder / ".git")), cwd)  # noqa: PTH110
    return git_root / ".logist" / "jobs"


def ensure_jobs_dir(jobs_dir: Path) -> None:
    """Make the jobs folder; a `.logist` above it gets a `.gitignore` that ignores everything. Raises StorageFailed."""
    missing = [folder for folder in (jobs_dir, *jobs_dir.parents) if not folder.exists()]
    for folder in reversed(missing):
        make_durable_folder(folder)
    if not jobs_dir.is_dir():
        raise UsageProblem(f"{jobs_dir} is not a folder", "name another jobs folder with --jobs-dir or LOGIST_JOBS_DIR")
    ignore = jobs_dir.parent / ".gitignore"
    if jobs_dir.parent.name == ".logist" and not ignore.exists():
        replace_file(ignore, b"*\n")


def job_ids(jobs_dir: Path) -> tuple[str, ...]:
    """The ids of all jobs, sorted; none when the folder does not exist. Raises StorageFailed."""
    try:
        with os.scandir(jobs_dir) as entries:
            names = [entry.name for entry in entries if _is_job_id(entry.name) and is_job(JobPaths(Path(entry.path)))]
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise storage_failed("list", jobs_dir, error) from error
    return tuple(sorted(names))


def is_job(paths: JobPaths) -> bool:
    """Whether a job is there, sound or not."""
    # Unlike Path.exists, this is False, not an error, for a name that is too long or must not be looked at.
    return os.path.exists(paths.manifest) or os.path.exists(paths.history)  # noqa: PTH110


def find_job(jobs_dir: Path, text: str) -> str:
    """The job that `text` means: an id, the beginning of just one id, or the path of a job's folder.

    Raises JobNotFound, with similar ids in the hint; UsageProblem when several ids begin so.
    """
    if _is_job_id(text) and is_job(JobPaths(jobs_dir / text)):
        return text
    ids = job_ids(jobs_dir)
    matches = [job_id for job_id in ids if text and job_id.startswith(text)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UsageProblem(f"{text!r} is the beginning of {len(matches)} job ids", f"one of: {_listed(matches)}")
    return _find_by_path(jobs_dir, text, ids)


def _find_by_path(jobs_dir: Path, text: str, ids: tuple[str, ...]) -> str:
    is_path = ("/" in text or text in (".", "..")) and "\0" not in text
    folder = Path(os.path.realpath(text)) if is_path else None
    if folder is None or not is_job(JobPaths(folder)):
        raise JobNotFound(f"there is no job {text!r} in {jobs_dir}", _similar(text, ids))
    if folder.parent != Path(os.path.realpath(jobs_dir)) or not _is_job_id(folder.name):
        raise JobNotFound(f"{folder} is a job of another jobs folder", f"add --jobs-dir {folder.parent}")
    return folder.name


def _similar(text: str, ids: tuple[str, ...]) -> str:
    if not ids:
        return "there are no jobs yet: `logist job create` makes one"
    # Slow to import, and only needed to help.
    from difflib import get_close_matches

    near = [job_id for job_id in ids if text and text in job_id] or get_close_matches(text, ids, n=5, cutoff=0.5)
    return f"did you mean {_listed(near)}?" if near else "`logist job list` shows all jobs"


def _listed(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")


# --- Durable files -------------------------------------------------------------------------------------------------


def iso(at: datetime) -> str:
    """A moment as it stands in every file: ISO 8601 in UTC, ending in Z. `at` must be aware."""
    if at.tzinfo is None:
        raise ValueError("a time without a time zone")
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def to_json(value: object, indent: int | None = None) -> bytes:
    """JSON as it stands in every file, in UTF-8. A lone surrogate (a file name that is no UTF-8) is spelled out."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, ensure_ascii=False, separators=separators, indent=indent)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _LONE_SURROGATE.sub(lambda match: f"\\\\u{ord(match[0]):04x}", text).encode()


def manifest_bytes(document: Mapping[str, object]) -> bytes:
    """The manifest as its file holds it."""
    return to_json(document, indent=1) + b"\n"


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`, all or nothing, and durably: at every instant the old or the new content is there.

    Raises StorageFailed; then the old content is there, or, when only the folder could not be synced, the new.
    """
    # Not one fixed name: two processes may write the same request.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        try:
            _write_new(temporary, data)
            os.replace(temporary, path)  # noqa: PTH105 - the fault tests hook the calls of os
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise storage_failed("write", path, error) from error


def _write_new(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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


def sweep_temporary_files(folder: Path, name: str) -> None:
    """Remove what killed writers of `folder/name` left. Only for the file's one writer. Raises StorageFailed."""
    try:
        for leftover in folder.glob(f".{name}.*.tmp"):
            leftover.unlink(missing_ok=True)
    except OSError as error:
        raise storage_failed("clean up", folder, error) from error


def _same_file(fd: int, path: Path) -> bool:
    try:
        there = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return False
    return os.path.samestat(os.fstat(fd), there)


def _check_place(fd: int, path: Path) -> None:
    try:
        in_place = _same_file(fd, path)
    except OSError as error:
        raise storage_failed("find", path, error) from error
    if not in_place:
        raise StorageFailed(
            f"{path} was moved, replaced or deleted while the job was open",
            "put the job's folder back where it was, then run the job again; nothing more was written",
        )


# --- The journal ---------------------------------------------------------------------------------------------------


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
    return body + _CRC_MARK + b'%08x"}\n' % zlib.crc32(body)


def decode_line(line: bytes) -> Line:
    """Read one line of the history, with its newline. Raises DamagedLine."""
    body, suffix = line[:-_CRC_LENGTH], line[-_CRC_LENGTH:]
    if suffix != _CRC_MARK + b'%08x"}\n' % zlib.crc32(body):
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
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self._broken = ""

    def close(self) -> None:
        """Close the file; reading stays possible."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def check_place(self) -> None:
        """Raise StorageFailed when the open file is no longer the one at its path."""
        _check_place(self._writable(), self.path)

    @property
    def last_seq(self) -> int:
        """The number of the last record, 0 when there is none. Raises InvalidFile."""
        if self._fd is not None:
            return self._last_seq
        return next((line.seq for line in self.newest_first()), 0)

    def append(self, at: datetime, record: Mapping[str, object]) -> int:
        """Append one record, durably, and return its number.

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
            os.fsync(fd)
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
        for line in self.newest_first():
            newest = newest or line.seq
            if line.seq <= seq:
                break
            found.append(line)
        self._require(seq, newest)
        return found[::-1]

    def newest_first(self) -> Iterator[Line]:
        """The records from the last to the first, read as they are asked for. Raises InvalidFile."""
        fd = self._open(os.O_RDONLY)
        try:
            for placed in self._backwards(fd):
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

    def _raw_lines(self) -> Iterator[bytes]:
        try:
            with os.fdopen(self._open(os.O_RDONLY), "rb") as file:
                yield from file
        except OSError as error:
            raise storage_failed("read", self.path, error) from error

    def _backwards(self, fd: int) -> Iterator[_Placed]:
        above: int | None = None
        for index, raw in enumerate(_raw_lines_backwards(fd)):
            try:
                line = decode_line(raw.data)
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
            raise InvalidFile(
                f"{self.path} ends with record {newest}, but the manifest knows record {seq}: records are lost",
                "restore history.jsonl from a backup; or go back to what it holds with "
                f"`logist doctor --repair {self.path.parent.name}`",
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


# --- The lease -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holder:
    """Who took the lease that is held now. Fields are empty while the holder is just signing it."""

    pid: int = 0
    start_time: int = 0
    boot_id: str = ""
    host: str = ""
    command: str = ""
    #: ISO 8601.
    since: str = ""

    @property
    def alive(self) -> bool:
        """Whether the recorded runner lives: what a dead one started can hold its lease. True where nobody can tell."""
        if not self.pid or self.host != os.uname().nodename:
            return True
        return is_alive(ProcessIdentity(self.pid, self.start_time, self.boot_id))


class Lease:
    """The right to change one job: a flock on its `lease` file, held by this process and by who inherits it."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd: int | None = fd

    @classmethod
    def take(cls, paths: JobPaths, *, command: str, at: datetime | None = None) -> Lease:
        """Take the lease and write into it who holds it, for which command and since when.

        Raises JobBusy when someone else holds it, JobNotFound when the job's folder is gone, StorageFailed.
        """
        for _ in range(_LEASE_TRIES):
            fd = _try_lease(paths)
            if fd is not None:
                lease = cls(paths.lease, fd)
                try:
                    _sign(fd, command, at or SystemClock().now())
                except OSError as error:
                    lease.release()
                    raise storage_failed("write", paths.lease, error) from error
                return lease
            # Only someone who looked was in the way, or the file was replaced: try again. Two that look at the same
            # time must not do so in step.
            time.sleep(0.001 + os.getpid() % 16 / 4000)
        raise _busy(paths)

    def fileno(self) -> int:
        """The locked descriptor: a process that inherits it holds the lease too."""
        if self._fd is None:
            raise ValueError("the lease was given back")
        return self._fd

    def check_place(self) -> None:
        """Raise StorageFailed when the locked file is no longer the one at its path: a second runner could get in."""
        _check_place(self.fileno(), self.path)

    def release(self) -> None:
        """Give the lease back. It stays held while a process lives that inherited it."""
        if self._fd is not None:
            # Closed, not unlocked: unlocking would take it away from those who inherited it.
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _try_lease(paths: JobPaths) -> int | None:
    try:
        fd = os.open(paths.lease, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise JobNotFound(f"the job's folder {paths.root} is gone", "`logist job list` shows all jobs") from error
    except OSError as error:
        raise storage_failed("open", paths.lease, error) from error
    try:
        # The file may have been replaced between open and flock; a lock on the old one keeps nobody out.
        if _flock(fd, fcntl.LOCK_EX) and _same_file(fd, paths.lease):
            return fd
        if not _flock(fd, fcntl.LOCK_SH):
            raise _busy(paths)
    except OSError as error:
        os.close(fd)
        raise storage_failed("lock", paths.lease, error) from error
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _flock(fd: int, mode: int) -> bool:
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(fd: int, command: str, at: datetime) -> None:
    me = identify(os.getpid())
    holder = {
        "pid": os.getpid(),
        "start_time": me.start_time if me else 0,
        "boot_id": boot_id(),
        "host": os.uname().nodename,
        "command": command,
        "since": iso(at),
    }
    os.ftruncate(fd, 0)
    os.pwrite(fd, to_json(holder) + b"\n", 0)


def read_holder(paths: JobPaths) -> Holder | None:
    """Who holds the lease now; None when it is free. Raises StorageFailed."""
    try:
        fd = os.open(paths.lease, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_failed("open", paths.lease, error) from error
    try:
        return None if _flock(fd, fcntl.LOCK_SH) else _read_signature(fd)
    except OSError as error:
        raise storage_failed("read", paths.lease, error) from error
    finally:
        os.close(fd)


def _read_signature(fd: int) -> Holder:
    try:
        value = json.loads(os.pread(fd, _BLOCK, 0))
        return Holder(
            pid=int(value["pid"]),
            start_time=int(value["start_time"]),
            boot_id=str(value["boot_id"]),
            host=str(value["host"]),
            command=str(value["command"]),
            since=str(value["since"]),
        )
    except (ValueError, TypeError, KeyError):
        return Holder()


def _busy(paths: JobPaths) -> JobBusy:
    job_id = paths.root.name
    try:
        holder = read_holder(paths) or Holder()
    except StorageFailed:
        holder = Holder()
    stop = f"`logist job pause {job_id}` stops it after its step, `logist job cancel {job_id}` for good"
    if not holder.pid:
        return JobBusy(f"job {job_id} is held by another process", stop)
    who = f"process {holder.pid} on {holder.host} since {holder.since} ({holder.command})"
    if holder.alive:
        return JobBusy(f"job {job_id} is held by {who}, which is alive", stop)
    return JobBusy(
        f"job {job_id} was held by {who}; that runner died, but something it started still lives and holds the job",
        f"end the processes that have {paths.lease} open (`fuser {paths.lease}` names them), then try again",
    )


# --- Requests ------------------------------------------------------------------------------------------------------


def _request_file(paths: JobPaths, kind: RequestKind) -> Path:
    return paths.requests / f"{kind}.json"


def request(paths: JobPaths, kind: RequestKind, message: str, at: datetime) -> None:
    """Ask the job's runner to cancel or pause, durably; asking again replaces the message.

    Raises JobNotFound when there is no such job, StorageFailed.
    """
    if not is_job(paths):
        raise JobNotFound(f"there is no job in {paths.root}", "`logist job list` shows all jobs")
    make_durable_folder(paths.requests)
    replace_file(_request_file(paths, kind), to_json({"message": message, "at": iso(at)}) + b"\n")


def pending(paths: JobPaths, kind: RequestKind) -> str | None:
    """The message of a request that stands, None when there is none; cheap enough to ask 20 times a second.

    A file whose content can't be understood still counts: somebody asked. Raises StorageFailed.
    """
    path = _request_file(paths, kind)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_failed("read", path, error) from error
    try:
        message = json.loads(data)["message"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return message if isinstance(message, str) else ""


def clear(paths: JobPaths, kind: RequestKind) -> None:
    """Take a request back, durably; none is fine. Raises StorageFailed."""
    path = _request_file(paths, kind)
    try:
        path.unlink()
        _sync_folder(path.parent)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise storage_failed("remove", path, error) from error


# --- The manifest, untyped -----------------------------------------------------------------------------------------


def read_manifest_bytes(paths: JobPaths) -> bytes:
    """The manifest file's content. Raises JobNotFound when the job is gone, InvalidFile when just this file is."""
    try:
        return paths.manifest.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        if is_job(paths):
            raise invalid_manifest(paths, "is missing") from error
        raise JobNotFound(
            f"there is no job {paths.root.name} in {paths.root.parent}", "`logist job list` shows all jobs"
        ) from error
    except OSError as error:
        raise invalid_manifest(paths, f"can't be read: {error.strerror or error}") from error


def parse_manifest(paths: JobPaths, data: bytes) -> Document:
    """The manifest as a JSON object that this version may read. Raises InvalidFile."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise invalid_manifest(paths, f"is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise invalid_manifest(paths, "is not a JSON object")
    check_schema(paths.manifest, document)
    return document


def seq_of(paths: JobPaths, document: Document) -> int:
    """The number of the last record that a manifest projects. Raises InvalidFile."""
    seq = document.get("seq")
    if not isinstance(seq, int) or seq < 1:
        raise invalid_manifest(paths, "has no valid `seq`")
    return seq


def check_schema(path: Path, document: Mapping[str, object]) -> None:
    """Refuse what a newer Logist wrote. Raises InvalidFile."""
    version = document.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InvalidFile(
            f"{path} was written by a newer Logist: its schema is {version}, this one reads {SCHEMA_VERSION}",
            "upgrade Logist: `pip install --upgrade logist`",
        )


def invalid_manifest(paths: JobPaths, why: str) -> InvalidFile:
    """The error for a manifest that can't be used: names the file, and how to get it back."""
    return InvalidFile(
        f"{paths.manifest} {why}",
        f"`logist doctor --repair {paths.root.name}` rebuilds it from history.jsonl",
    )


class CancelOutcome(StrEnum):
    """What came of canceling a job that nobody runs."""

    CANCELED = "canceled"
    #: Its runner died; it must be recovered before it can be canceled.
    NEEDS_RECOVERY = "needs_recovery"


def cancel_at_rest(paths: JobPaths, message: str, at: datetime) -> CancelOutcome:
    """Cancel a job that nobody runs; requests that stand are then done with.

    Raises JobBusy when it is run, WrongState when it has ended, JobNotFound, InvalidFile, StorageFailed.
    """
    parse_manifest(paths, read_manifest_bytes(paths))
    with Lease.take(paths, command="logist job cancel", at=at):
        # Read again: whoever held the lease a moment ago may have changed the job.
        manifest = parse_manifest(paths, read_manifest_bytes(paths))
        seq = seq_of(paths, manifest)
        journal = Journal(paths.history)
        journal.open_for_append(at_least=seq)
        try:
            return _cancel(paths, journal, merge(manifest, journal.read_after(seq)), message, at)
        finally:
            journal.close()


def _cancel(paths: JobPaths, journal: Journal, manifest: Document, message: str, at: datetime) -> CancelOutcome:
    job_id = paths.root.name
    try:
        status = JobStatus(str(manifest.get("status")))
    except ValueError as error:
        raise invalid_manifest(paths, f"has an unknown status: {manifest.get('status')!r}") from error
    if status is JobStatus.RUNNING:
        return CancelOutcome.NEEDS_RECOVERY
    try:
        after = target(status, Trigger.CANCEL)
    except TransitionRefused as error:
        raise WrongState(
            f"job {job_id} is {status.value}: there is nothing to cancel", f"`logist job status {job_id}` shows it"
        ) from error
    reason = {"code": "canceled", "sentence": _LONE_SURROGATE.sub("?", message or "canceled")[:_MAX_SENTENCE]}
    change = {"status": after.value, "reason": reason, "updated_at": iso(at)}
    record: Document = {"type": "transition", "trigger": Trigger.CANCEL.value, "reason": reason, "change": change}
    seq = journal.append(at, record)
    replace_file(paths.manifest, manifest_bytes(merge(manifest, [Line(seq, iso(at), record)])))
    clear(paths, "cancel")
    clear(paths, "pause")
    return CancelOutcome.CANCELED


# --- The index -----------------------------------------------------------------------------------------------------


def read_selected(jobs_dir: Path) -> str | None:
    """The selected job, None when none is. Raises InvalidFile."""
    path = jobs_dir / INDEX_NAME
    hint = f"delete {path}, then choose a job with `logist job select`"
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidFile(f"{path} can't be read: {error}", hint) from error
    selected = value.get("selected") if isinstance(value, dict) else ""
    if selected is None or (isinstance(selected, str) and _is_job_id(selected)):
        return selected
    raise InvalidFile(f"{path} does not name a job", hint)
