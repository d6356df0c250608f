"""How long the quick commands take from start to exit, against a bare import of what they can't do without.

Run: .venv/bin/python benchmarks/startup.py [ROUNDS]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from measure import Timed, interleaved, report

from logist.clock import SystemClock
from logist.job_creation import CreateRequest, create_job
from logist.job_files import JobPaths
from logist.job_state import JobStore
from logist.lease import Lease
from logist.models.manifest import JobDefinition

BIN = Path(sys.executable).parent
ONE_MODEL = """
import click, pydantic
class One(pydantic.BaseModel):
    name: str
    number: int = 1
One.model_validate_json('{"name": "x"}')
"""


def command(*arguments: str, cwd: Path, allowed: tuple[int, ...] = (0,)) -> Timed:
    def timed() -> float:
        begun = time.perf_counter()
        done = subprocess.run(arguments, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        seconds = time.perf_counter() - begun
        if done.returncode not in allowed:
            raise SystemExit(f"{arguments} ended with {done.returncode}: {done.stderr.decode()}")
        return seconds

    return timed


def cancel_at_rest(cwd: Path, count: int) -> Timed:
    """Cancel a fresh job each time: a canceled one can't be canceled again."""
    ids = iter([f"job-{number:04d}" for number in range(count)])
    return lambda: command(str(BIN / "logist"), "job", "cancel", next(ids), cwd=cwd)()


def many_jobs(store: JobStore, count: int) -> None:
    for number in range(count):
        request = CreateRequest(JobDefinition(objective=f"Job {number}"), job_id=f"job-{number:04d}")
        create_job(store, request, SystemClock())


def main(rounds: int) -> bool:
    python = str(BIN / "python")
    logist = str(BIN / "logist")
    os.environ.pop("LOGIST_JOB_ID", None)
    # What is measured is an installed package: pip compiles it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        store = JobStore(cwd / ".logist" / "jobs", SystemClock())
        (cwd / ".logist" / "jobs").mkdir(parents=True)
        print("making 1,000 jobs ...", flush=True)
        many_jobs(store, 1_000)
        held = JobPaths(store.jobs_dir / "job-0999")
        with Lease.take(held, command="benchmark", at=datetime.now(UTC)):
            medians = interleaved(
                {
                    "click": command(python, "-c", "import click", cwd=cwd),
                    "pydantic": command(python, "-c", ONE_MODEL, cwd=cwd),
                    "--version": command(logist, "--version", cwd=cwd),
                    "--help": command(logist, "--help", cwd=cwd),
                    "completion bash": command(logist, "completion", "bash", cwd=cwd),
                    "job cancel (at rest)": cancel_at_rest(cwd, rounds + 2),
                    "job cancel --no-wait (running)": command(
                        logist, "job", "cancel", "--no-wait", "job-0999", cwd=cwd
                    ),
                    "job status": command(logist, "job", "status", "job-0998", cwd=cwd),
                    "job list (1,000 jobs)": command(logist, "job", "list", cwd=cwd),
                },
                rounds,
            )
    quick = ["--version", "--help", "completion bash", "job cancel (at rest)", "job cancel --no-wait (running)"]
    rows = [(name, medians[name], medians["click"], 1.4) for name in quick]
    rows.append(("job status", medians["job status"], medians["pydantic"], 1.4))
    rows.append(("job list (1,000 jobs)", medians["job list (1,000 jobs)"], medians["pydantic"], 2.0))
    return report("Start to exit, against `import click` and `import click, pydantic` with one model", rows)


if __name__ == "__main__":
    sys.exit(0 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 25) else 1)
