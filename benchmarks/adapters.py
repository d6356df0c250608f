"""What a command through an adapter costs, against the engine's own bare submit of the same command.

Dask: `DaskAdapter.run` against `client.submit` of a function that calls `subprocess.run` and drops the output, both on
one cluster on this machine, from as many threads. Then 10,000 chunks that do nothing, through `JobExecutor`.

Run: .venv/bin/python benchmarks/adapters.py [ROUNDS]
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from distributed import Client, LocalCluster
from measure import Timed, interleaved, report

from logist.chunk_options import ExecutionOptions
from logist.execution import Command, WorkerAdapter
from logist.execution.adapters import open_adapter
from logist.job_executor import JobExecutor
from logist.models.job_spec import RenderJobSpec

#: Commands in one measurement, and from how many threads they come.
COUNT = 200
CONCURRENCIES = (1, 4, 8)
#: Times of the engine's own submit.
ALLOWED = 1.5
CHUNKS = 10_000


def bare_command() -> int:
    nothing = subprocess.DEVNULL
    return subprocess.run(["true"], stdin=nothing, stdout=nothing, stderr=nothing, check=True).returncode


def from_threads(threads: int, one: Callable[[], object]) -> Timed:
    def timed() -> float:
        numbers = iter(range(COUNT))
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    if next(numbers, None) is None:
                        return
                one()

        helpers = [threading.Thread(target=work) for _ in range(threads)]
        began = time.perf_counter()
        for helper in helpers:
            helper.start()
        for helper in helpers:
            helper.join()
        return time.perf_counter() - began

    return timed


def against_bare_submit(client: Client, adapter: WorkerAdapter, rounds: int) -> bool:
    command = Command(cwd=Path.cwd(), env={}, argv=("true",), one_stream=True)
    things: dict[str, Timed] = {}
    for threads in CONCURRENCIES:
        things[f"bare {threads}"] = from_threads(threads, lambda: client.submit(bare_command, pure=False).result())
        # With a cancel check, as every chunk has one.
        things[f"logist {threads}"] = from_threads(threads, lambda: adapter.run(command, cancel=lambda: None))
    medians = interleaved(things, rounds, warmup=1)
    rows = [
        (f"Dask, {COUNT} commands, {n} at a time", medians[f"logist {n}"], medians[f"bare {n}"], ALLOWED)
        for n in CONCURRENCIES
    ]
    return report("The adapter dask against client.submit", rows)


def many_chunks(adapter: WorkerAdapter, folder: Path) -> None:
    chunks = [
        {"id": number, "startFrame": number, "frameCount": 1, "outputFile": "", "command": "true"}
        for number in range(CHUNKS)
    ]
    metadata = {"totalFrames": CHUNKS, "fps": 30, "width": 64, "height": 48, "duration": CHUNKS / 30}
    spec = RenderJobSpec.model_validate({"metadata": metadata, "chunks": chunks, "mergeCommand": ""})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    done = JobExecutor(adapter).execute(spec, ExecutionOptions(job_dir=folder, concurrency=CONCURRENCIES[-1]))
    seconds = time.perf_counter() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"\n{CHUNKS:,} chunks through Dask: {done.status} in {seconds:.1f} s, ", end="")
    print(f"{seconds / CHUNKS * 1000:.2f} ms each; the submitter, with the scheduler, grew by {grown / 1024:.0f} MB")


def main(rounds: int) -> bool:
    threads = CONCURRENCIES[-1]
    with (
        tempfile.TemporaryDirectory() as name,
        LocalCluster(
            n_workers=1, threads_per_worker=threads, memory_limit=0, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
        closing(open_adapter("dask", {"scheduler": cluster.scheduler_address})) as adapter,
    ):
        fine = against_bare_submit(client, adapter, rounds)
        many_chunks(adapter, Path(name))
    return fine


if __name__ == "__main__":
    # The helper processes of Dask import this file, too.
    os.chdir("/")
    sys.exit(0 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 7) else 1)
