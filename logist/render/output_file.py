"""A file that is made beside its name and gets it in the end: whole and durable, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from logist.durable import sync_folder
from logist.errors import StorageFailed, UsageProblem
from logist.render.private_folder import is_the, remove_left_behind, take

#: Of a name that is as long as a file system takes, so much that the rest still fits.
_KEPT_OF_NAME = 60
#: The file that `written_beside` names, and the folder beside it that its parts are kept in.
_HALF_MADE = re.compile(r"\..+\.([0-9a-f]{12}\.tmp|logist-[a-z]+-[a-z0-9_]{8})", re.DOTALL)
_FULL = (errno.ENOSPC, errno.EDQUOT)
#: A file that ends there (SIGXFSZ) or no more space: said in words of our own, libav's are longer.
_HINTS = {
    errno.ENOSPC: "free some disk space, or choose another folder; nothing was changed",
    errno.EDQUOT: "raise the disk quota or free some space; nothing was changed",
    errno.EROFS: "that file system is read-only: choose another folder",
}


def landing(output: Path) -> Path:
    """The file that is written where `output` is asked for: a link stays, and what it leads to is written."""
    # Unlike Path.is_symlink, no error for what can't be looked at.
    return Path(os.path.realpath(output)) if os.path.islink(output) else output  # noqa: PTH114


def is_half_made(name: str) -> bool:
    """Whether a file or a folder of this name is where an output is being made, or was left there by who was killed."""
    return _HALF_MADE.fullmatch(name) is not None


def check_output(output: Path) -> None:
    """Whether a file of this name can be made, before any work is done for it. Raises UsageProblem, StorageFailed."""
    try:
        kind = output.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        kind = stat.S_IFREG
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageProblem(f"{output} can't be written: {why.lower()}", "choose another name for the output") from error
    if not stat.S_ISREG(kind):
        raise UsageProblem(f"{output} is not a regular file", "choose another name for the output")
    place = landing(output)
    if not place.parent.is_dir():
        raise UsageProblem(f"the folder of {output} is not there", "make it first")
    try:
        # Nothing else tells for every file system and every user.
        _make_and_remove(_temporary(place))
    except OSError as error:
        if error.errno in _FULL:
            raise not_written(output, error) from error
        why = (error.strerror or str(error)).lower()
        raise UsageProblem(
            f"the folder of {output} can't be written to: {why}", "choose another one, or change who may write"
        ) from error


def _make_and_remove(file: Path) -> None:
    try:
        os.close(_new_file(file))
    finally:
        # A signal may come between any two calls.
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def written_beside(output: Path, *, tidy: bool = True) -> Iterator[Path]:
    """A name beside `output` to write to; in the end it becomes `output`, or what that is a link to, durably, or
    nothing is left of it.

    With `tidy`, what a run that was killed left behind for the same output is removed first, for which the folder is
    read. Raises StorageFailed.
    """
    try:
        place = landing(output)
        temporary = _temporary(place)
        if tidy:
            remove_left_behind(place.parent, _temporaries(place).fullmatch, folders=False)
        try:
            held = _new_file(temporary)
            try:
                yield temporary
                # Whoever wrote it may have done so through another descriptor: the file's data is the same.
                os.fsync(held)
                temporary.replace(place)
            finally:
                os.close(held)
        except BaseException:
            # Also what comes before the file is ours to speak of: a signal may come between any two calls.
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise not_written(output, error) from error
    sync_folder(place.parent)


def not_written(output: Path, error: OSError) -> StorageFailed:
    """The error for a system that did not take `output`."""
    hint = _HINTS.get(error.errno or 0, "check the free space and the permissions of its folder; nothing was changed")
    return StorageFailed(f"could not write {output}: {(error.strerror or str(error)).lower()}", hint)


def _temporary(place: Path) -> Path:
    return place.with_name(f".{place.name[:_KEPT_OF_NAME]}.{os.urandom(6).hex()}.tmp")


def _temporaries(place: Path) -> re.Pattern[str]:
    return re.compile(re.escape(f".{place.name[:_KEPT_OF_NAME]}.") + r"[0-9a-f]{12}\.tmp")


def _new_file(temporary: Path) -> int:
    """Make the file; the descriptor says as long as it is open: somebody writes this."""
    while True:
        held = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        # Between the two calls another run may have taken it for left behind.
        if not take(held) or is_the(temporary, held):
            return held
        os.close(held)
