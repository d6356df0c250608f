"""What chunks through the adapter `slurm` cost, against a bare `sbatch --array` of the same command.

A Slurm of the tests' own (two nodes on this machine) runs both: a run of a spec from its submission to its report, and
an array of a script that is that command, until `squeue` shows nothing of it any more.

Slurm starts what there is room for when its scheduler passes by, not when a task ends. Here it passes twice a second,
at moments of their own: a task that ends just before one loses no time, one that ends just after it waits for the next,
whoever started it. So commands of all lengths within a second are measured beside those of one length.

`--own-settings` measures with those that Slurm comes with. Its scheduler is then seconds late, and a bare `sleep 1`
takes no longer than a bare `true`: that shows what a user waits, and can't show what a chunk costs. It judges nothing.

Run: .venv/bin/python benchmarks/slurm.py [ROUNDS] [--own-settings]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from measure import Timed, interleaved, report

from logist.chunk_options import ExecutionOptions
from logist.execution.adapters import open_adapter
from logist.job_executor import JobExecutor
from logist.models.job_spec import RenderJobSpec

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from slurm_site import EAGER, Site, running_site, until

COUNT = 40
AT_ONCE = 4
#: Each task sleeps 25 ms longer than the one before it.
_FRACTION = "sleep {}.$(printf %03d $((SLURM_ARRAY_TASK_ID * 25)))"
COMMANDS = {
    "true": "true",
    "sleep 1": "sleep 1",
    "sleep 0 to 1 s": _FRACTION.format(0),
    "sleep 1 to 2 s": _FRACTION.format(1),
}
#: Times of the bare array that each may take.
ALLOWED = 1.5
NOT_JUDGED = float("inf")


def bare(site: Site, command: str) -> Timed:
    def timed() -> float:
        began = time.perf_counter()
        words = ("--parsable", f"--array=0-{COUNT - 1}%{AT_ONCE}", "--output=/dev/null", "--export=ALL")
        job = site.call("sbatch", *words, stdin=f"#!/bin/sh\n{command}\n")
        until(lambda: not site.queue("%i", f"--jobs={job}"), "the array to end", patience=600)
        return time.perf_counter() - began

    return timed


def through_logist(folder: Path, command: str) -> Timed:
    chunks = [
        {"id": number, "startFrame": number, "frameCount": 1, "outputFile": "", "command": command}
        for number in range(COUNT)
    ]
    metadata = {"totalFrames": COUNT, "fps": 30, "width": 64, "height": 48, "duration": COUNT / 30}
    spec = RenderJobSpec.model_validate({"metadata": metadata, "chunks": chunks, "mergeCommand": ""})

    def timed() -> float:
        began = time.perf_counter()
        with closing(open_adapter("slurm")) as adapter:
            options = ExecutionOptions(job_dir=folder, concurrency=AT_ONCE, state_dir=str(folder / "state"))
            run = JobExecutor(adapter).execute(spec, options)
        if run.status != "SUCCESS":
            raise SystemExit(f"the run ended with {run.status}: {run.reason}")
        return time.perf_counter() - began

    return timed


def main(rounds: int, *, eager: bool) -> bool:
    with (
        tempfile.TemporaryDirectory() as name,
        running_site(Path(name), largest_array=1001, scheduler=EAGER if eager else "") as site,
    ):
        os.environ["SLURM_CONF"] = site.environ["SLURM_CONF"]
        things: dict[str, Timed] = {}
        for label, command in COMMANDS.items():
            things[f"bare {label}"] = bare(site, command)
            things[f"logist {label}"] = through_logist(Path(name), command)
        medians = interleaved(things, rounds, warmup=0)
    rows = [
        (
            f"{COUNT} times {label}, {AT_ONCE} at a time",
            medians[f"logist {label}"],
            medians[f"bare {label}"],
            ALLOWED if eager else NOT_JUDGED,
        )
        for label in COMMANDS
    ]
    title = "an eager scheduler" if eager else "Slurm's own settings"
    return report(f"The adapter slurm against sbatch --array, {title}", rows)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    sys.exit(0 if main(numbers[0] if numbers else 3, eager="--own-settings" not in sys.argv) else 1)
