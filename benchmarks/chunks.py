"""What running many short chunks costs, from start to exit, against GNU parallel with its joblog and `xargs -P`.

Every chunk's command is the shell line `true`, and all three get the same lines. Logist keeps its state, its joblog
and its logs; so only what the runner itself does is measured. GNU parallel is left out where it is not installed.

Run: .venv/bin/python benchmarks/chunks.py [ROUNDS]
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Timed, interleaved, report

LOGIST = str(Path(sys.executable).parent / "logist")
COUNTS = (200, 2_000)
CONCURRENCIES = (1, 2, 8)
#: Times of xargs; and GNU parallel must not be faster.
ALLOWED = 2.5
#: Peak memory of 10,000 chunks against 200.
ALLOWED_MEMORY = 1.3


def write_inputs(folder: Path, count: int) -> None:
    chunks = [
        {"id": number, "startFrame": number, "frameCount": 1, "outputFile": "", "command": "true"}
        for number in range(count)
    ]
    metadata = {"totalFrames": count, "fps": 30, "width": 64, "height": 48, "duration": count / 30}
    spec = {"metadata": metadata, "chunks": chunks, "mergeCommand": ""}
    (folder / f"{count}.json").write_text(json.dumps(spec, indent=2), encoding="utf-8")
    (folder / f"{count}.txt").write_text("true\n" * count, encoding="utf-8")


def logist(folder: Path, count: int, concurrency: int) -> Timed:
    def timed() -> float:
        shutil.rmtree(folder / ".logist", ignore_errors=True)
        line = [LOGIST, "job", "run", f"{count}.json", "-q", "--concurrency", str(concurrency)]
        return seconds_of(line, folder)

    return timed


def parallel(folder: Path, count: int, concurrency: int) -> Timed:
    def timed() -> float:
        (folder / "joblog").unlink(missing_ok=True)
        line = ["parallel", "--will-cite", "-j", str(concurrency), "--joblog", "joblog", "-a", f"{count}.txt"]
        return seconds_of(line, folder)

    return timed


def xargs(folder: Path, count: int, concurrency: int) -> Timed:
    line = ["xargs", "-a", f"{count}.txt", "-P", str(concurrency), "-I{}", "sh", "-c", "{}"]
    return lambda: seconds_of(line, folder)


def seconds_of(line: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(
        line, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - began


def peak_memory(folder: Path, count: int) -> float:
    """The most kilobytes that the runner had."""
    shutil.rmtree(folder / ".logist", ignore_errors=True)
    line = [LOGIST, "job", "run", f"{count}.json", "-q", "--concurrency", "8"]
    process = subprocess.Popen(line, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{line} ended with {status}")
    return float(usage.ru_maxrss)


def main(rounds: int) -> bool:
    fine = True
    has_parallel = shutil.which("parallel") is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in (*COUNTS, 10_000):
            write_inputs(folder, count)
        for count in COUNTS:
            fine &= speed(folder, count, rounds if count == COUNTS[0] else max(2, rounds // 3), has_parallel)
        small, large = peak_memory(folder, 200), peak_memory(folder, 10_000)
    print(f"\nPeak memory: 200 chunks {small / 1024:.1f} MB, 10,000 chunks {large / 1024:.1f} MB", end="")
    print(f", ratio {large / small:.2f} (allowed {ALLOWED_MEMORY})")
    if not has_parallel:
        print("GNU parallel is not installed: not compared")
    return fine and large <= ALLOWED_MEMORY * small


def speed(folder: Path, count: int, rounds: int, has_parallel: bool) -> bool:
    things: dict[str, Timed] = {}
    for concurrency in CONCURRENCIES:
        things[f"logist {concurrency}"] = logist(folder, count, concurrency)
        things[f"xargs {concurrency}"] = xargs(folder, count, concurrency)
        if has_parallel:
            things[f"parallel {concurrency}"] = parallel(folder, count, concurrency)
    medians = interleaved(things, rounds, warmup=1)
    against_xargs = [
        (f"{count:,} chunks, {c} at a time", medians[f"logist {c}"], medians[f"xargs {c}"], ALLOWED)
        for c in CONCURRENCIES
    ]
    fine = report("Logist against xargs -P", against_xargs)
    if has_parallel:
        against_parallel = [
            (f"{count:,} chunks, {c} at a time", medians[f"logist {c}"], medians[f"parallel {c}"], 1.0)
            for c in CONCURRENCIES
        ]
        fine &= report("Logist against GNU parallel --joblog", against_parallel)
    return fine


if __name__ == "__main__":
    sys.exit(0 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 9) else 1)
