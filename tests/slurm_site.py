"""A real Slurm for the tests: a controller and two nodes on this machine, with files and ports of their own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
NODES = ("one", "two")
CPUS = 4
#: Bigger runs than this need several arrays.
LARGEST_ARRAY = 5
#: What the tests set, for not to wait: Slurm's own settings let seconds pass before it starts what there is room for.
EAGER = "sched_interval=1,batch_sched_delay=0,sched_min_interval=0,bf_interval=1"
#: Where Debian has the servers, which is not on everybody's PATH.
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_PATIENCE = 30.0


def missing_programs() -> list[str]:
    """Those of Slurm's programs that are not there."""
    return [program for program in PROGRAMS if shutil.which(program, path=_PATH) is None]


def until(condition: Callable[[], object], what: str, patience: float = _PATIENCE) -> None:
    """Wait for a condition. Raises AssertionError when it does not come in so many seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


class Site(NamedTuple):
    """A Slurm that runs."""

    folder: Path
    environ: Mapping[str, str]

    def call(self, *words: str, stdin: str = "") -> str:
        """Run one of Slurm's programs; what it prints."""
        done = subprocess.run(words, env=self.environ, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def queue(self, columns: str = "%i %T", *words: str) -> list[str]:
        """The tasks that wait or run, one a line."""
        return self.call("squeue", "--noheader", "--array", f"--format={columns}", *words).splitlines()

    def start_again(self, job: str) -> None:
        """Once Slurm has put the task back into the queue, spare it the two minutes that it lets pass."""
        until(lambda: self.queue("%T %r", f"--jobs={job}") == ["PENDING BeginTime"], "the task to wait again")
        self.call("scontrol", "update", f"JobId={job}", "StartTime=now")

    def clear(self) -> None:
        """Cancel all there is, and have both nodes back."""
        self.call("scancel", "--signal=KILL", "--full", "--state=RUNNING")
        self.call("scancel", "--state=PENDING")
        states = self.call("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T")
        for node, state in map(str.split, states.splitlines()):
            if state.startswith(("down", "drain")):
                self.call("scontrol", "update", f"NodeName={node}", "State=RESUME")
        until(lambda: not self.queue(), "the queue to be empty")

    def nodes_are_idle(self) -> bool:
        """Nothing runs, and both nodes take work."""
        return self.call("sinfo", "--noheader", "--format=%T", "--Node", "--partition=main").split() == ["idle"] * len(
            NODES
        )


@contextmanager
def running_site(folder: Path, largest_array: int = LARGEST_ARRAY, scheduler: str = EAGER) -> Iterator[Site]:
    """Start a Slurm in the folder; all its processes are gone afterwards. `scheduler`: its SchedulerParameters."""
    config = folder / "slurm.conf"
    munge = folder / "munge"
    munge.mkdir(mode=0o711)
    (munge / "key").write_bytes(os.urandom(128))
    (munge / "key").chmod(0o600)
    config.write_text(_config(folder, munge / "socket", largest_array, scheduler), encoding="utf-8")
    environ = {"PATH": _PATH, "HOME": str(folder), "SLURM_CONF": str(config), "LC_ALL": "C"}
    site = Site(folder, environ)
    with ExitStack() as stack:
        options = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        words = [f"--{option}={munge / name}" for option, name in options.items()]
        stack.enter_context(_server(site, "munged", "--foreground", "--force", *words))
        until((munge / "socket").exists, "munged")
        stack.enter_context(_server(site, "slurmctld", "-D", "-i"))
        for node in NODES:
            stack.enter_context(_server(site, "slurmd", "-D", "-N", node))
        # What still runs ends while there is somebody to end it.
        stack.callback(_clear, site)
        until(lambda: _answers(site) and site.nodes_are_idle(), "Slurm")
        yield site


def _clear(site: Site) -> None:
    site.call("scancel", f"--user={getpass.getuser()}")
    until(lambda: not site.queue(), "Slurm to end all jobs")


def _answers(site: Site) -> bool:
    return subprocess.run(("sinfo",), env=site.environ, capture_output=True, check=False).returncode == 0


@contextmanager
def _server(site: Site, *words: str) -> Iterator[None]:
    log = (site.folder / f"{'-'.join(words[:1] + words[-1:])}.out".replace("/", "_")[-100:]).open("wb")
    with log, subprocess.Popen(words, env=site.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as server:
        try:
            yield
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _config(folder: Path, socket_path: Path, largest_array: int, scheduler: str) -> str:
    controller, *ports = _free_ports(1 + len(NODES))
    lines = [
        "ClusterName=tests",
        "SlurmctldHost=localhost(127.0.0.1)",
        f"SlurmctldPort={controller}",
        "AuthType=auth/munge",
        f"AuthInfo=socket={socket_path}",
        f"SlurmUser={getpass.getuser()}",
        f"SlurmdUser={getpass.getuser()}",
        f"StateSaveLocation={folder / 'state'}",
        f"SlurmdSpoolDir={folder / 'spool-%n'}",
        f"SlurmctldPidFile={folder / 'slurmctld.pid'}",
        f"SlurmdPidFile={folder / 'slurmd-%n.pid'}",
        f"SlurmctldLogFile={folder / 'slurmctld.log'}",
        f"SlurmdLogFile={folder / 'slurmd-%n.log'}",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "SwitchType=switch/none",
        "MpiDefault=none",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "SlurmdParameters=config_overrides",
        *([f"SchedulerParameters={scheduler}"] if scheduler else []),
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "ReturnToService=2",
        "KillWait=10",
        f"MaxArraySize={largest_array}",
        *(
            f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={CPUS}"
            for node, port in zip(NODES, ports, strict=True)
        ),
        f"PartitionName=main Nodes={','.join(NODES)} Default=YES PriorityTier=1",
        f"PartitionName=urgent Nodes={','.join(NODES)} PriorityTier=9",
    ]
    (folder / "state").mkdir()
    return "\n".join(lines) + "\n"


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
