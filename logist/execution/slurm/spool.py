"""The files of one job array, for the submitter. Those of its tasks, which the nodes use too: `bare/task_files.py`."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from logist.durable import replace_file, storage_failed, sync_file, to_json
from logist.errors import InvalidFile, UsageProblem
from logist.execution import BatchItem, CommandResult, Ended
from logist.execution._streams import carried
from logist.execution.bare import task_files
from logist.execution.bare.task_files import CLOSED, TaskFiles
from logist.execution.endings import Ran
from logist.execution.shipping import pack_command

if TYPE_CHECKING:
    from logist.execution.bare.task_files import Ending, Order

_PREFIX = "logist-"
#: What reading something else raises.
_GARBLED = (ValueError, TypeError, KeyError, EOFError)
#: What a stream carried that there was none of.
_NOTHING = (0, "", b"", b"")


class Record(NamedTuple):
    """What is known of an array: how many tasks it has, and Slurm's number for it once there is one."""

    size: int
    job: str = ""


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

    def task(self, index: int) -> TaskFiles:
        """The files of one task."""
        return TaskFiles(os.fspath(self.root), index)


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
        paths = [_write_order(spool.task(index).order, item) for index, item in enumerate(items)]
        # All of them are written by now: to wait for the first one is to wait for nearly all.
        for path in paths:
            sync_file(path)
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
    path = Path(spool.task(index).order)
    try:
        order: Order = task_files.unpacked(path.read_bytes())
        return Meaning(order["mark"], order["inputs"])
    except OSError as error:
        raise storage_failed("read", path, error) from error
    except _GARBLED as error:
        raise _meddled(spool, path) from error


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
    except _GARBLED as error:
        raise _meddled(spool, spool.record) from error


def give_up(files: TaskFiles) -> None:
    """Nobody may run the task any more, and whoever does has to stop. Raises StorageFailed."""
    try:
        Path(files.given_up).touch()
        # Over a network a file that is replaced is seen sooner than one that is new.
        task_files.claim(files, CLOSED)
    except OSError as error:
        raise storage_failed("write", Path(files.given_up), error) from error


def read_result(path: Path) -> CommandResult | None:
    """A result; None when it is not there. Raises StorageFailed, InvalidFile."""
    try:
        return _result(task_files.unpacked(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_failed("read", path, error) from error
    except _GARBLED as error:
        raise _meddled(Spool(path.parent), path) from error


def _result(ending: Ending) -> CommandResult:
    if problem := ending.get("problem"):
        return CommandResult(Ended.NOT_STARTED, None, 0.0, detail=problem)
    out, err = carried(*ending["stdout"]), carried(*ending.get("stderr", _NOTHING))
    cwd, program = os.fsdecode(ending["cwd"]), os.fsdecode(ending["program"])
    ran = Ran(Path(cwd), program, ending["duration"], out, err, ending["stop"])
    return ran.lost(ending["killed"]) if ending["told"] is None else ran.result(ending["told"])


def _write_order(path: str, item: BatchItem) -> Path:
    """What a node does for one task: remove its output, then run its command. Nothing is synced."""
    command = item.command
    mark, inputs = meaning_of(item)
    order: Order = {
        "mark": mark,
        "inputs": dict(inputs),
        "output": None if item.output is None else os.fsencode(item.output),
        "cwd": os.fsencode(command.cwd),
        "argv": [os.fsencode(word) for word in command.spelled],
        "env": {os.fsencode(name): os.fsencode(value) for name, value in command.env.items()},
        "stdin": command.stdin,
        "timeout": command.timeout,
        "idle_timeout": command.idle_timeout,
        "one_stream": command.one_stream,
        "log_limit": command.log_limit,
    }
    return Path(task_files.write_beside(path, task_files.packed(order), sync=False)).replace(path)


def _meddled(spool: Spool, path: Path) -> InvalidFile:
    return InvalidFile(
        f"{path} is not what this release of Logist writes there",
        f"cancel the job (scancel --name={spool.name}), remove {spool.root}, then run again",
    )
