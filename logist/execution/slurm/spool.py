"""The files of one job array, in a folder that the submitter and the nodes share.

All that the two tell each other is here; Slurm only starts and stops tasks. A file is there whole or not at all, apart
from what a command prints.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from logist.durable import replace_file, storage_failed, to_json
from logist.errors import InvalidFile, UsageProblem
from logist.execution import BatchItem, Command, CommandResult
from logist.execution.shipping import pack_command, pack_result, unpack_command, unpack_result

#: In a task's claim: nobody may run its command any more, and whoever does has to stop.
CLOSED = "closed"
_PREFIX = "logist-"


class Record(NamedTuple):
    """What is known of an array: how many tasks it has, and Slurm's number for it once there is one."""

    size: int
    job: str = ""


class Order(NamedTuple):
    """What a node does for one task: remove `output`, then run `command`."""

    command: Command
    output: Path | None = None


class Meaning(NamedTuple):
    """What a task is for: a print of its command and its purpose, and the files that it reads, each with a hash."""

    mark: str
    inputs: Mapping[str, str]

    def serves(self, wanted: Meaning) -> bool:
        """Whether it does what is wanted now. Files that came later may be what it makes itself."""
        return self.mark == wanted.mark and self.inputs.items() <= wanted.inputs.items()


class Spool(NamedTuple):
    """Every file name of one array."""

    root: Path

    @property
    def name(self) -> str:
        """The name of Slurm's job. No other has it: the array is found even by who doesn't know its number."""
        return self.root.name

    @property
    def record(self) -> Path:
        """The `Record`; without it nothing was submitted."""
        return self.root / "array.json"

    @property
    def closed(self) -> Path:
        """There when nothing of the array may run any more."""
        return self.root / CLOSED

    def order(self, index: int) -> Path:
        """The `Order`. It holds the command's environment: only its owner may read it."""
        return self.root / f"{index}.order"

    def given_up(self, index: int) -> Path:
        """There when the task may not run any more. A claim alone could be replaced by a start that looked before."""
        return self.root / f"{index}.{CLOSED}"

    def claim(self, index: int) -> Path:
        """Which start of the task may run: Slurm starts it again on another node while the first may still run."""
        return self.root / f"{index}.claim"

    def stream(self, index: int, name: str) -> Path:
        """What the command prints, as it comes; another file at each start."""
        return self.root / f"{index}.{name}"

    def result(self, index: int) -> Path:
        """How the command ended. Written once."""
        return self.root / f"{index}.result"

    def stopped(self, index: int) -> Path:
        """How the command ended that Slurm stopped: no result, for Slurm may start the task again."""
        return self.root / f"{index}.stopped"

    def task_log(self, index: int) -> Path:
        """What the task itself printed: why it could not run the command."""
        return self.root / f"{index}.task"


def make_private_folder(folder: Path) -> None:
    """Make sure that a folder is there in which nobody else can put anything.

    Raises UsageProblem when others can: they could have our nodes run their commands. Raises StorageFailed.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    except OSError as error:
        raise storage_failed("write", folder, error) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise UsageProblem(
            f"The folder {folder} is not yours alone: others may write there.",
            "Remove it, or give another folder as the option spool.",
        )


def new_spool(folder: Path, items: Sequence[BatchItem]) -> Spool:
    """Write down what an array is to do, before it is submitted. Raises StorageFailed."""
    spool = Spool(folder / f"{_PREFIX}{os.urandom(8).hex()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        spool.root.mkdir(mode=0o700)
        for index, item in enumerate(items):
            _write_privately(spool.order(index), _pack_order(item))
    except OSError as error:
        raise storage_failed("write", spool.root, error) from error
    write_record(spool, Record(len(items)))
    return spool


def spools(folder: Path) -> list[Spool]:
    """The arrays that earlier runs left in the folder."""
    return [Spool(path) for path in sorted(folder.glob(f"{_PREFIX}*"))]


def remove_spool(spool: Spool) -> None:
    """Remove what is no longer needed. A task that comes too late finds nothing to do."""
    # Slow to import, as each task on its node would: only the submitter removes and compares.
    import shutil

    # What can't be removed, because a file system still shows a file that is open elsewhere, is no reason to fail.
    shutil.rmtree(spool.root, ignore_errors=True)
    above = spool.root.parent
    with suppress(OSError):
        above.rmdir()
        if above.parent.name == ".logist":
            above.parent.rmdir()


def meaning_of(item: BatchItem) -> Meaning:
    """What a command is for. Its environment doesn't count, as it doesn't for a chunk that is done."""
    import hashlib

    command = pack_command(item.command._replace(env={}, marker=None))
    return Meaning(hashlib.sha256(command + item.purpose.encode()).hexdigest(), item.inputs)


def read_meaning(spool: Spool, index: int) -> Meaning:
    """What a task was submitted for. Raises InvalidFile, StorageFailed."""
    try:
        head = _read_order(spool, index)[0]
        return Meaning(head["mark"], head["inputs"])
    except OSError as error:
        raise storage_failed("read", spool.order(index), error) from error
    except (ValueError, TypeError, KeyError) as error:
        raise _meddled(spool, spool.order(index)) from error


def write_record(spool: Spool, record: Record) -> None:
    """Write down what is known of the array, durably. Raises StorageFailed."""
    replace_file(spool.record, to_json(record._asdict()))


def read_record(spool: Spool) -> Record | None:
    """What is known of the array; None when it was never submitted. Raises InvalidFile, StorageFailed."""
    try:
        fields = json.loads(spool.record.read_bytes())
        return Record(int(fields["size"]), str(fields["job"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_failed("read", spool.record, error) from error
    except (ValueError, TypeError, KeyError) as error:
        raise _meddled(spool, spool.record) from error


def read_order(spool: Spool, index: int) -> Order:
    """What a node does for the task. Raises OSError, ValueError."""
    head, command = _read_order(spool, index)
    return Order(unpack_command(command), None if head["output"] is None else Path(head["output"]))


def claim(spool: Spool, index: int, owner: str) -> None:
    """Only `owner` may run the task from now on. Raises StorageFailed."""
    path = spool.claim(index)
    unnamed = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        # Nothing is synced: when the machine stops, so does who has the claim.
        unnamed.write_bytes(owner.encode())
        unnamed.replace(path)
    except OSError as error:
        raise storage_failed("write", path, error) from error


def give_up(spool: Spool, index: int) -> None:
    """Nobody may run the task any more, and whoever does has to stop. Raises StorageFailed."""
    try:
        spool.given_up(index).touch()
    except OSError as error:
        raise storage_failed("write", spool.given_up(index), error) from error
    # Over a network a file that is replaced is seen sooner than one that is new.
    claim(spool, index, CLOSED)


def claimed_by(spool: Spool, index: int) -> str:
    """Who may run the task; empty when nobody has started it. Raises OSError."""
    try:
        return spool.claim(index).read_bytes().decode()
    except FileNotFoundError:
        return ""


def publish(spool: Spool, index: int, result: CommandResult) -> bool:
    """Say how the command ended; False when that was said before, and stays. Raises StorageFailed."""
    path = spool.result(index)
    unpublished = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        _write_privately(unpublished, pack_result(result))
        os.link(unpublished, path)
    except FileExistsError:
        return False
    except OSError as error:
        raise storage_failed("write", path, error) from error
    finally:
        unpublished.unlink(missing_ok=True)
    return True


def note_stop(spool: Spool, index: int, result: CommandResult) -> None:
    """Say how the command ended that Slurm stopped. Raises StorageFailed."""
    replace_file(spool.stopped(index), pack_result(result))


def read_result(path: Path) -> CommandResult | None:
    """A result; None when it is not there. Raises StorageFailed, InvalidFile."""
    try:
        return unpack_result(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_failed("read", path, error) from error
    except ValueError as error:
        raise InvalidFile(f"{path} is not what Logist wrote there: {error}", "run again") from error


def _pack_order(item: BatchItem) -> bytes:
    output = None if item.output is None else str(item.output)
    mark, inputs = meaning_of(item)
    head = {"output": output, "mark": mark, "inputs": dict(inputs)}
    return json.dumps(head).encode() + b"\n" + pack_command(item.command)


def _read_order(spool: Spool, index: int) -> tuple[Any, bytes]:
    head, _, command = spool.order(index).read_bytes().partition(b"\n")
    return json.loads(head), command


def _meddled(spool: Spool, path: Path) -> InvalidFile:
    return InvalidFile(
        f"{path} is not what Logist wrote there",
        f"cancel the job (scancel --name={spool.name}), remove {spool.root}, then run again",
    )


def _write_privately(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
