"""The files of one task of an array, in a folder that the submitter and the nodes share.

All that the two tell each other is here; Slurm only starts and stops tasks. A file is there whole or not at all, apart
from what a command prints. What is in them is `marshal`, which every Python has built in.
"""

from __future__ import annotations

import os

#: In a task's claim: nobody may run its command any more, and whoever does has to stop.
CLOSED = "closed"
#: The version of `marshal` that is written: what Python 3.4 and all later ones read.
FORMAT = 4


class TaskFiles:
    """Every file name of one task."""

    def __init__(self, root: str, index: int) -> None:
        self._begin = f"{root}/{index}."
        #: There when nothing of the array may run any more.
        self.closed = f"{root}/{CLOSED}"
        #: What is to be run. It holds the command's environment: only its owner may read it.
        self.order = f"{self._begin}order"
        #: There when the task may not run any more. A claim alone could be replaced by a start that looked before.
        self.given_up = f"{self._begin}{CLOSED}"
        #: Which start of the task may run: Slurm starts it again on another node while the first may still run.
        self.claim = f"{self._begin}claim"
        #: How the command ended. Written once.
        self.result = f"{self._begin}result"
        #: How the command ended that Slurm stopped: no result, for Slurm may start the task again.
        self.stopped = f"{self._begin}stopped"
        #: What the task itself printed: why it could not run the command.
        self.log = f"{self._begin}task"

    def stream(self, name: str) -> str:
        """What the command prints, as it comes; another file at each start."""
        return f"{self._begin}{name}"


def claim(files: TaskFiles, owner: str) -> None:
    """Only `owner` may run the task from now on. Raises OSError."""
    # Nothing is synced: when the machine stops, so does who has the claim.
    os.replace(write_beside(files.claim, owner.encode(), sync=False), files.claim)


def claimed_by(files: TaskFiles) -> str:
    """Who may run the task; empty when nobody has started it. Raises OSError."""
    try:
        with open(files.claim, "rb") as file:
            return file.read().decode()
    except FileNotFoundError:
        return ""


def write_beside(path: str, data: bytes, *, sync: bool = True) -> str:
    """Write a new file that only its owner may read, to be put at `path`; its name. Raises OSError."""
    folder, name = os.path.split(path)
    unnamed = f"{folder}/.{name}.{os.urandom(8).hex()}"
    fd = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
        if sync:
            os.fsync(fd)
    except OSError:
        os.unlink(unnamed)
        raise
    finally:
        os.close(fd)
    return unnamed


def write_all(fd: int, data: bytes) -> None:
    """Write all of it. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
