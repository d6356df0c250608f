"""Files of a workspace that nobody trusts: opened without following a link, read without blocking, recognized again."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from logist.workspace.names import OWN_FOLDER, is_git_metadata
from logist.workspace.objects import EXECUTABLE, FILE, SYMLINK, TreeEntry

MAX_FILE_BYTES = 100_000_000
MAX_DEPTH = 100
MAX_FILES = 1_000_000
NOT_REGULAR = "not a regular file"
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Stamp = tuple[int, int, int, int, int, int]


class WalkLimits(NamedTuple):
    """What a snapshot takes at most."""

    file_bytes: int = MAX_FILE_BYTES
    depth: int = MAX_DEPTH
    #: That the base does not have.
    files: int = MAX_FILES


DEFAULT_LIMITS = WalkLimits()


class ReadFile(NamedTuple):
    """A file that was read, and what its times were then."""

    data: bytes
    stamp: Stamp
    #: It did not change while it was read.
    steady: bool


def stamp_of(found: os.stat_result) -> Stamp:
    """What changes whenever a file's content does."""
    return (found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_regular(folder: int, name: str, limit: int) -> ReadFile | str:
    """A regular file's content, read without following a link and without blocking; or why not. Raises OSError."""
    descriptor = os.open(name, _OPEN_FILE, dir_fd=folder)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            return NOT_REGULAR
        parts = []
        left = limit + 1 if before.st_size <= limit else 0
        while left and (part := os.read(descriptor, min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
        if not left:
            return f"larger than {limit} bytes"
        return ReadFile(b"".join(parts), stamp_of(before), stamp_of(before) == stamp_of(os.fstat(descriptor)))
    finally:
        os.close(descriptor)


def is_large_as_before(folder: int, name: str, status: os.stat_result, was: TreeEntry, limit: int) -> bool:
    """Whether a file beyond the limit, which the base may well hold, is what the base has; never kept in memory."""
    if status.st_size <= limit or not stat.S_ISREG(status.st_mode) or was.mode != git_mode(status.st_mode):
        return False
    digest = hashlib.sha1(f"blob {status.st_size}\0".encode(), usedforsecurity=False)
    descriptor = os.open(name, _OPEN_FILE, dir_fd=folder)
    try:
        while part := os.read(descriptor, 1 << 20):
            digest.update(part)
    finally:
        os.close(descriptor)
    return digest.hexdigest() == was.id


def git_mode(mode: int) -> int:
    if stat.S_ISLNK(mode):
        return SYMLINK
    return EXECUTABLE if mode & 0o100 else FILE


def check_evidence_path(work_dir: Path, name: str) -> str | None:
    """What is wrong with a file that an agent names as evidence, as a sentence; None when nothing is. Never blocks."""
    parts = name.split("/")
    if not name or name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "It must be a path relative to the workspace, without `.` or `..`."
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return "It has control characters in its name."
    if parts[0] == OWN_FOLDER:
        return f"It is in {OWN_FOLDER}, which is Logist's own."
    try:
        if any(is_git_metadata(part) for part in parts):
            return "It is git metadata."
        return _check_opened(work_dir, parts)
    except UnicodeEncodeError:
        return "It has characters in its name that no file can have."
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "It is behind a link."
        return f"It can't be read: {(error.strerror or 'unknown error').lower()}."


def _check_opened(work_dir: Path, parts: list[str]) -> str | None:
    descriptor = os.open(work_dir, OPEN_FOLDER)
    try:
        for part in parts[:-1]:
            if stat.S_ISLNK(os.stat(part, dir_fd=descriptor, follow_symlinks=False).st_mode):
                return "It is behind a link."
            outer = descriptor
            descriptor = os.open(part, OPEN_FOLDER, dir_fd=outer)
            os.close(outer)
        status = os.stat(parts[-1], dir_fd=descriptor, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return "It is a link."
        if not stat.S_ISREG(status.st_mode):
            return "It is not a regular file."
        os.close(os.open(parts[-1], _OPEN_FILE, dir_fd=descriptor))
    finally:
        os.close(descriptor)
    return None
