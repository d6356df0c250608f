"""Kill the runner at every audited filesystem and process event of a run; the next run must make nothing of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from logist.clock import SystemClock
from logist.job_creation import CreateRequest, create_job
from logist.job_state import JobStore
from logist.models.manifest import Check, JobDefinition, Roles, RoleSettings

DRIVER = Path(__file__).with_name("crash_driver.py")
SHARDS = 4
#: Without --slow every so manieth event is hit.
QUICK_STRIDE = 12
#: Threads make the number of events differ by a few: a run may have ended before the last of what another one had.
JITTER = 12

WORKER = 'printf "%s\\n" "$LOGIST_TURN" >> work.txt; test "$LOGIST_TURN" -ge 2'


def make_template(folder: Path) -> Path:
    """A jobs folder with one job: its worker needs two turns, a check reads the work, a supervisor agrees."""
    jobs = folder / "template"
    jobs.mkdir()
    definition = JobDefinition(
        objective="survive",
        checks=(Check(name="two lines", command="test $(wc -l < work.txt) -eq 2"),),
        roles=Roles(
            worker=RoleSettings(agent="command", argument=WORKER),
            supervisor=RoleSettings(agent="command", argument="grep -q 2 work.txt"),
        ),
    )
    create_job(JobStore(jobs, SystemClock()), CreateRequest(definition, job_id="crash"), SystemClock())
    return jobs


def git(jobs: Path, *arguments: str) -> str:
    """What git says of the evidence repository: the independent witness."""
    done = subprocess.run(
        ["git", f"--git-dir={jobs}/crash/repo.git", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_runner_killed_at_any_instant_leaves_a_job_that_goes_on_to_the_same_end(
    shard: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    stride = SHARDS if request.config.getoption("--slow") else SHARDS * QUICK_STRIDE
    offset = shard if stride == SHARDS else shard * QUICK_STRIDE
    template = make_template(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    swept = subprocess.run(
        [sys.executable, str(DRIVER), str(template), str(scratch), str(offset), str(stride)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(DRIVER.parent.parent)},
    )
    assert swept.returncode == 0, swept.stderr
    *kills, summary = [json.loads(line) for line in swept.stdout.splitlines()]
    assert summary["counted"]["exit_code"] == 0
    # A sweep that hits nothing proves nothing.
    assert len(kills) >= summary["events"] // stride
    assert summary["events"] > 50
    for kill in kills:
        # Only so near the end may a run have ended by itself before its event came: all other kills have hit.
        missed = kill["at"] > summary["events"] - JITTER and kill["ended"].get("exit_code") == 0
        assert kill["killed"] or (missed and kill["ended"]["events"] < kill["at"]), kill
        assert "unreadable" not in kill["seen"], kill
        if kill["seen"]["status"] == "SUCCESS":
            # Killed after the verdict: there is nothing left to run, and nothing may change.
            assert "is SUCCESS" in kill["again"]["error"], kill
        else:
            assert kill["again"].get("exit_code") == 0, kill
        assert kill["after"] == {"status": "SUCCESS", "step": 3}, kill
        steps = git(
            Path(kill["jobs"]), "log", "--format=%(trailers:key=Logist-Step,valueonly,separator=)", "logist/crash"
        )
        assert steps.split() == ["3", "2", "1", "0"], (kill, steps)
        work = git(Path(kill["jobs"]), "show", "logist/crash:work.txt")
        assert work == "1\n2\n", (kill, work)
        git(Path(kill["jobs"]), "fsck", "--strict")
