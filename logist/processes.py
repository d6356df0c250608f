"""Who a process is, told from a later one with the same pid; and how many can run. Standard library only."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple


class ProcessIdentity(NamedTuple):
    """A process, told from a later one with the same pid by its start time and boot."""

    pid: int
    #: Clock ticks since boot (field 22 of /proc/PID/stat); 0 where the system has no such file.
    start_time: int
    boot_id: str


@cache
def boot_id() -> str:
    """The id of this boot of the machine; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def start_time(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot; None when there is no such living process (a zombie is dead)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None if Path("/proc/self").exists() else _start_time_without_proc(pid)
    # The command name may hold spaces and parentheses; the fields after its last ")" can't.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _start_time_without_proc(pid: int) -> int | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a living process, None when it is dead."""
    started = start_time(pid)
    return None if started is None else ProcessIdentity(pid, started, boot_id())


def is_alive(process: ProcessIdentity) -> bool:
    """Whether this very process still lives: not another one that got its pid, not one of another boot."""
    return process.boot_id == boot_id() and start_time(process.pid) == process.start_time


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stay_on_one(number: int) -> None:
    """Have this thread, and all that it starts, run on one of its processors: which one, `number` tells.

    Nothing happens where the system knows no such thing, or forbids it: it is for speed alone.
    """
    if hasattr(os, "sched_setaffinity"):
        usable = sorted(os.sched_getaffinity(0))
        with suppress(OSError):
            os.sched_setaffinity(0, {usable[number % len(usable)]})
