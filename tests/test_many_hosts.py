"""A render spread over several hosts, which are network namespaces here, while hosts and links fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="the extra dask is not installed")

from dask_hosts import PATIENCE, Farm, kill, wait_until
from specs import video_spec, write_spec
from videos import read_numbers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None,
        reason="making network namespaces needs root, and ip of iproute2",
    ),
]

SIZES = [5, 4, 6, 5, 3, 5, 4, 5]
#: How long workers are given to have ended what they can't tell of, in seconds.
FENCE = "3"


class Network:
    """Hosts on one switch, each a namespace; gone when `stack` is closed."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._switch = self._namespace("switch")
        ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", self._switch, "link", "set", "bridge", "up")

    def host(self, name: str, address: str) -> str:
        """A new host; the name of its namespace."""
        host = self._namespace(name)
        ip("-n", self._switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", host)
        ip("-n", self._switch, "link", "set", name, "master", "bridge", "up")
        ip("-n", host, "address", "add", f"{address}/24", "dev", "eth0")
        ip("-n", host, "link", "set", "eth0", "up")
        return host

    def cut(self, name: str) -> None:
        """Unplug a host: nothing comes through, and nobody is told."""
        ip("-n", self._switch, "link", "set", name, "nomaster")

    def mend(self, name: str) -> None:
        """Plug it in again."""
        ip("-n", self._switch, "link", "set", name, "master", "bridge")

    def _namespace(self, name: str) -> str:
        namespace = f"logist-{os.getpid()}-{name}"
        ip("netns", "add", namespace)
        self._stack.callback(ip, "netns", "delete", namespace)
        ip("-n", namespace, "link", "set", "lo", "up")
        return namespace


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=PATIENCE)


def inside(namespace: str) -> tuple[str, ...]:
    """What a command line begins with that runs there."""
    return ("ip", "netns", "exec", namespace)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_every_frame_is_there_once_though_a_worker_a_link_and_the_scheduler_fail(
    tmp_path: Path, stack: ExitStack
) -> None:
    network = Network(stack)
    hosts = {name: network.host(name, f"10.77.0.{number}") for number, name in enumerate(("w1", "w2", "w3"), 11)}
    farm = Farm(tmp_path, host="10.77.0.1", prefix=inside(network.host("scheduler", "10.77.0.1")))
    stack.callback(farm.close)
    submitter = inside(network.host("submitter", "10.77.0.20"))

    def start_worker(host: str, name: str) -> subprocess.Popen[bytes]:
        return farm.start_worker(name, threads=2, prefix=inside(hosts[host]), environ={"WHO": name})

    workers = {name: start_worker(name, name) for name in hosts}
    for name in hosts:
        (tmp_path / f"hold.{name}").touch()
    write_spec(tmp_path, _held_spec())
    line = [*submitter, sys.executable, "-m", "logist", "job", "run", "job.json", "--concurrency", "6"]
    line += ["--adapter", "dask", "--scheduler", farm.address, "--adapter-option", f"fence={FENCE}"]
    with (tmp_path / "run.log").open("wb") as log:
        run = subprocess.Popen(line, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    stack.callback(kill, run)

    for name in hosts:
        _await_running(tmp_path, name)
    kill(workers["w1"])
    _await_end_of_all(tmp_path, "w1")

    network.cut("w2")
    _await_end_of_all(tmp_path, "w2")
    (tmp_path / "hold.w2").unlink()
    network.mend("w2")

    _await_running(tmp_path, "w3")
    kill(farm.scheduler)
    _await_end_of_all(tmp_path, "w3")
    farm.start_scheduler()
    start_worker("w1", "w4")
    start_worker("w3", "w5")

    assert run.wait(PATIENCE) == 0, (tmp_path / "run.log").read_text()
    assert read_numbers(tmp_path / "final.mp4") == list(range(sum(SIZES)))
    ends = _ends(tmp_path)
    done = Counter(chunk for chunk, status in ends if status == "done")
    assert done == Counter(range(len(SIZES)))
    # Each of the three faults hit at least one.
    assert len(ends) >= len(SIZES) + 3


def _held_spec() -> dict[str, object]:
    """Videos; a worker with a file `hold.NAME` keeps its chunks from going on."""
    content = video_spec(SIZES)
    for chunk in content["chunks"]:
        wait = "while [ -e hold.$WHO ]; do sleep 0.05; done"
        chunk["command"] = f"echo $$ > running.$WHO.$LOGIST_CHUNK; echo on $WHO; {wait}; {chunk['command']}"
    return content


def _pids(folder: Path, worker: str) -> list[int]:
    return [int(text) for path in folder.glob(f"running.{worker}.*") if (text := path.read_text())]


def _await_running(folder: Path, worker: str) -> None:
    """Wait until the submitter has heard of a chunk that runs there: what nobody has seen, Dask may begin again."""
    logs = folder / ".logist" / "job.json" / "chunks"
    wait_until(
        lambda: any(f"on {worker}\n" in log.read_text() for log in logs.glob("*.log")), f"no chunk began on {worker}"
    )


def _await_end_of_all(folder: Path, worker: str) -> None:
    """Wait until nothing runs there any more."""
    wait_until(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in _pids(folder, worker)),
        f"a chunk of {worker} lives on",
    )


def _ends(folder: Path) -> list[tuple[int, str]]:
    """How each attempt ended, as the run recorded it: chunk and status."""
    lines = (folder / ".logist" / "job.json" / "history.jsonl").read_text().splitlines()
    records = [json.loads(line)["record"] for line in lines]
    return [(record["chunk"], record["status"]) for record in records if record["type"] == "chunk_ended"]
