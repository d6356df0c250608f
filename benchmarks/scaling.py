"""What grows with the number of chunks: the spec, its reading, a stateless worker, the state of a run, and the merge.

Nothing is compared: the figures are those of docs/08_scaling.md, which does sums with them. Chunks do nothing, so that
only what Logist itself adds is seen; the parts of the merge are one small video, many times.

Run: .venv/bin/python benchmarks/scaling.py [CHUNKS ...]
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

LOGIST = str(Path(sys.executable).parent / "logist")
VIDEOS = Path(__file__).resolve().parents[1] / "tests" / "videos.py"
#: Of a spec that is read and of whose chunks a worker makes one.
COUNTS = (1_000, 10_000, 100_000, 160_000)
#: Characters of a command.
COMMAND = 240
#: Of a run with state, and of a merge: these make as many processes and files.
RUN = 1_000
PARTS = (100, 1_000)
_LOAD = """
import sys
from pathlib import Path
from logist.spec_files import load_spec
load_spec(sys.argv[1], trust=False, allow_outside=False, stdin=None, cwd=Path())
"""


class Cost(NamedTuple):
    """What one command took: processor seconds, which a busy machine hardly changes, and the most memory in MB."""

    seconds: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.seconds:6.2f} s, {self.megabytes:5.0f} MB"


def cost_of(line: list[str], folder: Path, **variables: str) -> Cost:
    """The cost of a command and of all that it waited for. A child counts what its parent had: this one stays small."""
    process = subprocess.Popen(
        line, cwd=folder, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{line} ended with {status}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def write_spec(folder: Path, count: int) -> Path:
    """A spec of chunks that do nothing, written piece by piece as JSON is usually indented."""
    metadata = {"totalFrames": count, "fps": 30, "width": 64, "height": 48, "duration": count / 30}
    path = folder / f"{count}.json"
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"metadata": {json.dumps(metadata)}, "mergeCommand": "", "chunks": [')
        for number in range(count):
            # As long as an emitted one; the colon is the shell's word for doing nothing.
            command = f": {'logist render film/index.html --with-all-its-flags '.ljust(COMMAND, '-')} {number}"
            chunk = {"id": number, "startFrame": number, "frameCount": 1, "outputFile": "", "command": command}
            file.write(("," if number else "") + json.dumps(chunk, indent=2))
        file.write("]}")
    return path


def emitted_bytes(folder: Path, count: int) -> float:
    """Bytes of each chunk in a spec that `logist render` emits, its word in the merge command included."""
    (folder / "film").mkdir(exist_ok=True)
    (folder / "film" / "index.html").write_text("<canvas>", encoding="utf-8")
    flags = ["-o", "film.mp4", "--frame-count", str(100 * count), "--shards", str(count), "--emit-job", "film.json"]
    subprocess.run([LOGIST, "render", "film", *flags], cwd=folder, check=True, capture_output=True)
    return (folder / "film.json").stat().st_size / count


def reading(folder: Path, counts: tuple[int, ...]) -> None:
    print("Reading a spec, and one stateless task that runs one chunk of it")
    for count in counts:
        spec = write_spec(folder, count)
        loaded = cost_of([sys.executable, "-c", _LOAD, spec.name], folder)
        task = cost_of(
            [LOGIST, "job", "run", spec.name, "--chunk", "auto", "--no-merge", "-q"], folder, LOGIST_ARRAY_INDEX="0"
        )
        size = spec.stat().st_size / count
        print(f"  {count:9,} chunks: {size:4.0f} bytes a chunk; read {loaded}; task {task}")


def state(folder: Path, count: int) -> None:
    spec = write_spec(folder, count)
    taken = cost_of([LOGIST, "job", "run", spec.name, "-q", "--concurrency", "2"], folder)
    again = cost_of([LOGIST, "job", "run", spec.name, "-q"], folder)
    kept = sorted((path for path in (folder / ".logist").rglob("*") if path.is_file()), key=lambda path: path.name)
    print(f"State of a run of {count:,} chunks: run {taken}; again, with nothing to do {again}")
    for path in kept:
        print(f"  {path.name:20} {path.stat().st_size / count:7.1f} bytes a chunk")


def merging(folder: Path, counts: tuple[int, ...]) -> None:
    print("Merging parts of 30 small frames")
    make = [sys.executable, str(VIDEOS), "part.mp4", "--start-frame", "0", "--frame-count", "30"]
    subprocess.run(make, cwd=folder, check=True, capture_output=True)
    for count in counts:
        names = [f"part.{number}.mp4" for number in range(count)]
        for name in names:
            shutil.copy(folder / "part.mp4", folder / name)
        print(f"  {count:9,} parts: {cost_of([LOGIST, 'merge', 'whole.mp4', *names], folder)}")


def main(counts: tuple[int, ...]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"An emitted spec of 1,000 chunks: {emitted_bytes(folder, 1_000):.0f} bytes a chunk")
        reading(folder, counts)
        state(folder, RUN)
        merging(folder, PARTS)


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or COUNTS)
