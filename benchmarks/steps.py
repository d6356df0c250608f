"""What a step costs beside the agent's own time, and whether it stays the same however long the job runs.

The floor is the least that any tool could do: spawn `true`, append one line and fsync it, `git add -A` and
`git commit` by the git command, in the same repository, with one changed file a step.

Run: .venv/bin/python benchmarks/steps.py [ROUNDS] [LONG]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Timed, interleaved, report

from logist.clock import SystemClock
from logist.execution.local import LocalWorkerAdapter
from logist.job_creation import CreateRequest, create_job
from logist.job_processor import job_step, open_session
from logist.job_recovery import recover
from logist.job_state import JobStore
from logist.lifecycle import Trigger
from logist.models.manifest import Budget, JobDefinition, Reason, ReasonCode, Role, Roles, RoleSettings, SourceKind
from logist.runtime import Runtime, Session
from logist.workspace_creation import SourceRequest

GIT = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
for _who in ("AUTHOR", "COMMITTER"):
    GIT[f"GIT_{_who}_NAME"] = "bench"
    GIT[f"GIT_{_who}_EMAIL"] = "bench@example.invalid"


def git(repository: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(repository), *arguments], env=GIT, check=True, stdout=subprocess.DEVNULL)


def make_source(folder: Path, files: int) -> Path:
    repository = folder / "source"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    for number in range(files):
        place = repository / f"d{number // 100:03d}"
        place.mkdir(exist_ok=True)
        (place / f"f{number:05d}.txt").write_text(f"file {number}\n" * 20)
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "baseline")
    return repository


def floor_of(repository: Path, log: Path) -> Timed:
    """The floor: nothing is recovered, nothing is recorded beside one line."""

    def timed() -> float:
        change(repository)
        begun = time.perf_counter()
        subprocess.run(["true"], check=True)
        with log.open("ab") as file:
            file.write(b'{"step": 1}\n')
            file.flush()
            os.fsync(file.fileno())
        git(repository, "add", "-A")
        git(repository, "commit", "-qm", "step")
        return time.perf_counter() - begun

    return timed


def change(folder: Path) -> None:
    (folder / "work.txt").write_text(f"{time.perf_counter_ns()}\n")


def make_job(store: JobStore, source: Path, steps: int) -> None:
    """The worker is `true`, and so is the supervisor: what is left is our own time."""
    true = RoleSettings(agent="command", argument="true")
    definition = JobDefinition(
        objective="measure", roles=Roles(worker=true, supervisor=true), budget=Budget(steps=steps, retries=steps)
    )
    create_job(store, CreateRequest(definition, SourceRequest(SourceKind.GIT, source), "bench"), SystemClock())


def worker_again(session: Session) -> None:
    """Let the next step be the worker's again; not part of what is measured."""
    if session.manifest.next_role is not Role.WORKER:
        reason = Reason(code=ReasonCode.STEP_DONE, sentence="measure again")
        session.transition(Trigger.PROCEED, reason, next_role=Role.WORKER)


def step_of(session: Session) -> Timed:
    def timed() -> float:
        worker_again(session)
        change(session.paths.workspace)
        begun = time.perf_counter()
        job_step(session)
        return time.perf_counter() - begun

    return timed


def measure(files: int, rounds: int) -> tuple[str, float, float, float]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = make_source(root, files)
        store = JobStore(root / "jobs", SystemClock())
        make_job(store, source, steps=10_000)
        adapter = LocalWorkerAdapter()
        runtime = Runtime(store=store, adapter=adapter, environ=dict(os.environ))
        with open_session(runtime, "bench", command="benchmark") as session:
            recover(session)
            session.transition(Trigger.START, Reason(code=ReasonCode.RUNNER_STARTED, sentence="measured"))
            medians = interleaved({"step": step_of(session), "floor": floor_of(source, root / "log")}, rounds, warmup=3)
        adapter.close()
        return (f"a step, {files} files", medians["step"], medians["floor"], 1.5)


def measure_long(steps: int) -> tuple[str, float, float, float]:
    """The last twenty of `steps` steps against steps 10 to 30, and the manifest's size beside."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = JobStore(root / "jobs", SystemClock())
        make_job(store, make_source(root, 10), steps=steps + 10)
        adapter = LocalWorkerAdapter()
        runtime = Runtime(store=store, adapter=adapter, environ=dict(os.environ))
        with open_session(runtime, "bench", command="benchmark") as session:
            session.transition(Trigger.START, Reason(code=ReasonCode.RUNNER_STARTED, sentence="measured"))
            timed = step_of(session)
            times, sizes = [], []
            for _ in range(steps):
                times.append(timed())
                sizes.append(session.paths.manifest.stat().st_size)
        adapter.close()
        early, late = statistics.median(times[9:30]), statistics.median(times[-21:])
        print(f"  manifest: {sizes[20]} bytes at step 21, {sizes[-1]} bytes at step {steps}")
        return (f"step {steps} against step 20", late, early, 1.2)


def main(rounds: int, long: int) -> bool:
    rows = [measure(10, rounds), measure(10_000, max(10, rounds // 2))]
    if long:
        rows.append(measure_long(long))
    return report("A step without its agent's own time, against the floor", rows)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    sys.exit(0 if main(*(numbers + [30, 2_000][len(numbers) :])) else 1)
