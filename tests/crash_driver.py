"""Kills a runner at every audited filesystem and process event of a run, runs again, and reports what it found.

Run as `python crash_driver.py TEMPLATE SCRATCH SHARD SHARDS`: TEMPLATE is a jobs folder with one job that no runner
has touched, SCRATCH an empty folder. Forks, so that every run starts with all modules imported. Prints one JSON line
per kill, and a last one with the number of events.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from logist.agents import find_agent  # noqa: F401  # imported here once, so that no run pays for it
from logist.clock import SystemClock
from logist.errors import LogistError
from logist.execution.local import LocalWorkerAdapter
from logist.job_processor import run_job
from logist.job_state import JobStore
from logist.runtime import Runtime

JOB = "crash"
#: What changes files, descriptors or processes; reading and importing change nothing.
WATCHED = frozenset(
    {
        "os.rename",
        "os.remove",
        "os.mkdir",
        "os.rmdir",
        "os.link",
        "os.symlink",
        "os.truncate",
        "os.chmod",
        "os.utime",
        "os.kill",
        "os.killpg",
        "fcntl.flock",
        "subprocess.Popen",
        "os.posix_spawn",
        "os.fork",
        "shutil.rmtree",
        "socket.sendmsg",
    }
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _is_watched(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & _WRITING)
    return event in WATCHED


class _Executioner:
    """Kills this process with SIGKILL at the event number `at`, or only counts."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.seen = 0
        self.armed = False
        self.name = ""

    def hit(self, name: str) -> None:
        if not self.armed:
            return
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.armed and event != "os.kill" and _is_watched(event, arguments):
            self.hit(event)


def _watch_syscalls(executioner: _Executioner) -> None:
    """os.write and os.fsync raise no audit event: these are the instants between a write and its durability."""
    for name in ("write", "fsync", "fdatasync", "replace"):
        real = getattr(os, name)

        def wrapped(*arguments: object, _real: object = real, _name: str = name, **named: object) -> object:
            executioner.hit(f"before {_name}")
            result = _real(*arguments, **named)  # type: ignore[operator]
            executioner.hit(f"after {_name}")
            return result

        setattr(os, name, wrapped)


def _run(jobs: Path, at: int | None, report: int) -> None:
    executioner = _Executioner(at)
    _watch_syscalls(executioner)
    sys.addaudithook(executioner.audit)
    adapter = LocalWorkerAdapter()
    runtime = Runtime(store=JobStore(jobs, SystemClock()), adapter=adapter, environ={"PATH": os.environ["PATH"]})
    executioner.armed = True
    try:
        result = run_job(runtime, JOB)
        outcome = {"exit_code": int(result.exit_code), "events": executioner.seen}
    except LogistError as error:
        outcome = {"error": f"{error.message} / {error.hint}", "events": executioner.seen}
    executioner.armed = False
    adapter.close()
    os.write(report, json.dumps(outcome).encode())


def _forked(jobs: Path, at: int | None) -> tuple[int, dict[str, object]]:
    """The wait status of a run in a child, and what it reported."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        try:
            _run(jobs, at, writable)
        except BaseException as error:  # noqa: BLE001  the parent must hear of anything that went wrong
            os.write(writable, json.dumps({"error": repr(error)}).encode())
            os._exit(70)
        os._exit(0)
    os.close(writable)
    chunks = b""
    while chunk := os.read(readable, 65536):
        chunks += chunk
    os.close(readable)
    _, status = os.waitpid(child, 0)
    return status, json.loads(chunks) if chunks else {}


def _describe(jobs: Path) -> dict[str, object]:
    """What a reader sees right after the kill: a manifest, or the error that stands in its place."""
    try:
        manifest = JobStore(jobs, SystemClock()).load(JOB)
    except LogistError as error:
        return {"unreadable": str(error)}
    return {"status": manifest.status.value, "step": manifest.step}


def main(template: Path, scratch: Path, shard: int, shards: int) -> None:
    """Sweep every event of this shard."""
    jobs = scratch / "count"
    shutil.copytree(template, jobs, symlinks=True)
    _, counted = _forked(jobs, None)
    events = int(str(counted["events"]))
    for at in range(1 + shard, events + 1, shards):
        jobs = scratch / f"k{at}"
        shutil.copytree(template, jobs, symlinks=True)
        killed, ended = _forked(jobs, at)
        seen = _describe(jobs)
        _, again = _forked(jobs, None)
        line = {
            "at": at,
            "killed": os.WIFSIGNALED(killed) and os.WTERMSIG(killed) == signal.SIGKILL,
            "ended": ended,
            "seen": seen,
            "again": again,
            "after": _describe(jobs),
            "jobs": str(jobs),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    sys.stdout.write(json.dumps({"events": events, "counted": counted}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
