"""The files of one task of an array, in a folder that the submitter and the nodes share.

All that the two tell each other is here; Slurm only starts and stops tasks. A file is there whole or not at all, apart
from what a command prints. What is in an order and in a result is `marshal`, which every Python has built in.
"""

from __future__ import annotations

import marshal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    class Order(TypedDict):
        """What a node does for a task: remove `output`, then run a command. `mark` and `inputs` say what it is for."""

        mark: str
        inputs: dict[str, str]
        output: bytes | None
        cwd: bytes
        argv: list[bytes]
        env: dict[bytes, bytes]
        stdin: bytes | None
        timeout: float | None
        idle_timeout: float | None
        one_stream: bool
        log_limit: int

    class Ending(TypedDict, total=False):
        """How a command ended: either `problem`, why it was not started, or all else, for `Ran` of `endings.py`."""

        problem: str
        cwd: bytes
        program: bytes
        duration: float
        #: Why it was told to stop.
        stop: tuple[str, str] | None
        #: What its warden told; None: that was killed, and `killed` processes of the command after it.
        told: dict[str, Any] | None
        killed: int
        #: As `Ends.carried` says it; `stderr` is missing where both are one.
        stdout: tuple[int, str, bytes, bytes]
        stderr: tuple[int, str, bytes, bytes]


#: In a task's claim: nobody may run its command any more, and whoever does has to stop.
CLOSED = "closed"
#: What orders and results begin with, before their length: another release, or somebody else, wrote what doesn't.
_MAGIC = b"logist task 1 "
#: The version of `marshal` that is written: what Python 3.4 and all later ones read.
_FORMAT = 4


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


def packed(value: Any) -> bytes:
    """What a file holds: an `Order` or an `Ending`."""
    body = marshal.dumps(value, _FORMAT)
    return b"%b%08x\n%b" % (_MAGIC, len(body), body)


def unpacked(data: bytes) -> Any:
    """What was packed into `data`. Raises ValueError."""
    head, _, body = data.partition(b"\n")
    if head != b"%b%08x" % (_MAGIC, len(body)):
        raise ValueError("this release of Logist did not write that")
    return marshal.loads(body)


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
    """Write a new file that only its owner may read, to be put at `path`; its name. Raises OSError, of `path`."""
    folder, name = os.path.split(path)
    unnamed = f"{folder}/.{name}.{os.urandom(8).hex()}"
    try:
        fd = create(unnamed)
        try:
            write_all(fd, data)
            if sync:
                os.fsync(fd)
        except OSError:
            os.unlink(unnamed)
            raise
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    return unnamed


def create(path: str) -> int:
    """A new file that only its owner may read, open. Raises OSError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
