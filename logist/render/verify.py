"""Whether a file that a command was to make is really there and whole. The strongest look that is possible is taken."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from logist.chunks import Evidence, Output


class Expected(NamedTuple):
    """What an output should hold: frames, and pixels where they are known."""

    frames: int
    width: int | None = None
    height: int | None = None


class Verified(NamedTuple):
    """Either the output, which is on the disk then, or one sentence that says what is wrong with it."""

    output: Output | None
    problem: str = ""


def verify(path: Path, name: str, expected: Expected) -> Verified:
    """Look at the file `path`, which is called `name` in messages, and make it durable.

    Never raises for what is wrong with the file itself.
    """
    try:
        # Not to wait for ever for who writes into a FIFO.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return Verified(None, f"its output {name} is not a regular file")
            if status.st_size == 0:
                return Verified(None, f"its output {name} is empty")
            problem, evidence = _look_inside(path, expected)
            if problem is not None:
                return Verified(None, f"its output {name} {problem}")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
    except FileNotFoundError:
        return Verified(None, f"its output {name} is not there")
    except OSError as error:
        return Verified(None, f"its output {name} can't be read: {error.strerror}")
    frames = expected.frames if evidence is Evidence.FRAMES else None
    return Verified(Output(str(path), status.st_size, digest, status.st_mtime_ns, evidence, frames))


def is_untouched(path: Path, output: Output) -> bool:
    """Whether a verified output was neither removed nor written since: its size and time, no more."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (output.size, output.mtime_ns)


def is_unchanged(path: Path, output: Output) -> bool:
    """Whether the file at `path` is still what was verified, there or in a folder that was copied: same size and time,
    else same content."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size != output.size:
            return False
        if status.st_mtime_ns == output.mtime_ns:
            return True
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == output.sha256
    except OSError:
        return False


def _look_inside(path: Path, expected: Expected) -> tuple[str | None, Evidence]:
    # Imported here: who makes no videos need not wait for it.
    from logist.render.media import check, is_media, pyav_available

    if not is_media(path) or not pyav_available():
        return None, Evidence.FILE
    problem = check(path, frames=expected.frames, width=expected.width, height=expected.height)
    return problem, Evidence.FRAMES


def why_not_decoded(path: Path) -> str:
    """Why nobody looked inside this output."""
    from logist.render.media import is_media

    if is_media(path):
        return "for that, install `logist[render]`"
    return f"{path.suffix or path.name} is no video"
