"""A bench for adapters: commands whose processes can be found again, one that won't die, results looked over.

Used by `logist.testing.adapter_contract`; needs no pytest.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from logist.execution import Command, CommandResult, Ended, StreamResult
from logist.execution.leftovers import kill_leftovers, living_with

#: The variable by which what a command started is found again. What is named like this travels to every place.
MARK = "LOGIST_TEST_MARK"

#: Ignores every polite signal, and starts: a child of the same group, a child of its own session, two daemons that were
#: forked twice, and a hopper, which forks, leaves its session and exits every 2 ms. Then it says that it is ready, and
#: `end` happens. All of them end by themselves after two minutes: a test that fails must not leave a machine that forks
#: for ever.
_HOSTILE = """
import os, signal, sys, time

def ignore():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

END = time.monotonic() + 120

def linger():
    while time.monotonic() < END:
        time.sleep(1)
    os._exit(0)

def start(*steps):
    if os.fork() == 0:
        for step in steps:
            step()

def fork_away():
    if os.fork() != 0:
        os._exit(0)

def hop():
    os.close(1)
    while time.monotonic() < END:
        if os.fork() != 0:
            os._exit(0)
        os.setsid()
        time.sleep(0.002)
    os._exit(0)

ignore()
start(linger)
start(os.setsid, linger)
start(os.setsid, fork_away, linger)
start(os.setsid, fork_away, os.setsid, linger)
start(hop)
open("ready", "w").close()
print("ready", flush=True)
{end}
"""


def hostile(end: str = "linger()") -> str:
    """The source of a Python program that leaves behind what is hard to kill; `end` is its last line."""
    return _HOSTILE.replace("{end}", end)


class Bench:
    """Makes commands that run in `folder` and carry a mark of their own.

    `python` is the interpreter at the place where they run. With `shares_processes` that place is this machine, and
    what lives there is looked up in /proc.
    """

    def __init__(self, folder: Path, *, python: str = sys.executable, shares_processes: bool = True) -> None:
        self.folder = folder
        self.mark = uuid4().hex
        self.env = {"PATH": os.environ["PATH"], MARK: self.mark}
        self._python = python
        self._shares_processes = shares_processes

    def shell(self, line: str) -> Command:
        """A line for the shell."""
        return Command(cwd=self.folder, env=self.env, shell=line)

    def argv(self, *argv: str) -> Command:
        """A program with its arguments."""
        return Command(cwd=self.folder, env=self.env, argv=argv)

    def python(self, source: str) -> Command:
        """A Python program."""
        return self.argv(self._python, "-I", "-S", "-c", source)

    @property
    def is_ready(self) -> bool:
        """Whether a command made the file `ready`: seen in the folder, output may come later."""
        return (self.folder / "ready").exists()

    def cancel_when_ready(self) -> str | None:
        """A cancel check for a command that makes the file `ready`."""
        return "the operator said so" if self.is_ready else None

    def living(self) -> list[int]:
        """The processes that carry the mark and are no zombies; none where they can't be looked up."""
        return living_with(MARK, self.mark) if self._shares_processes else []

    def clean_up(self) -> None:
        """Kill what an adapter that fails left alive."""
        if self._shares_processes:
            kill_leftovers(None, marker=(MARK, self.mark))


def all_pids() -> list[int]:
    """Every process of this machine, by /proc."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def environment_of(pid: int) -> list[bytes]:
    """The environment that a process was started with; empty when it is gone or not ours to read."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def contradictions(command: Command, result: CommandResult) -> list[str]:
    """What in a result contradicts itself or the command that it is of; empty when all is well."""
    return [*_of_the_end(result), *_of_the_streams(command, result)]


def _of_the_end(result: CommandResult) -> Iterator[str]:
    ended, code = result.ended, result.exit_code
    if not (math.isfinite(result.duration) and result.duration >= 0):
        yield f"the duration is {result.duration}"
    if ended is Ended.EXITED and code is None:
        yield "it exited without an exit code"
    if ended in (Ended.NOT_STARTED, Ended.LOST) and code is not None:
        yield f"it has an exit code and is {ended}"
    if result.signal and code != 128 + result.signal:
        yield f"the exit code is {code} and the signal {result.signal}"
    if result.program_missing and ended is not Ended.NOT_STARTED:
        yield f"its program is missing and it is {ended}"
    if ended is not Ended.EXITED and not result.detail:
        yield f"nothing says why it is {ended}"


def _of_the_streams(command: Command, result: CommandResult) -> Iterator[str]:
    for name, carried in (("stdout", result.stdout), ("stderr", result.stderr)):
        yield from (f"{name}: {problem}" for problem in _of_one_stream(carried, command.log_limit))
    if command.one_stream and result.stderr.total:
        yield "both streams are one, and stderr carried something"


def _of_one_stream(carried: StreamResult, limit: int) -> Iterator[str]:
    kept = len(carried.head) + len(carried.tail)
    if kept != min(carried.total, limit):
        yield f"{kept} bytes are kept of {carried.total}, with a limit of {limit}"
    if kept == carried.total and carried.sha256 != hashlib.sha256(carried.kept).hexdigest():
        yield "the hash is not that of the bytes"
