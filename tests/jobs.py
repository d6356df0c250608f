"""Jobs for tests: real folders, real git, real processes; the words of the agents are scripted."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from logist.clock import Clock, SystemClock
from logist.errors import ExitCode
from logist.execution import WorkerAdapter
from logist.execution.local import LocalWorkerAdapter
from logist.job_creation import CreateRequest, create_job
from logist.job_processor import RunResult, run_job
from logist.job_state import JobStore
from logist.models.config import Config
from logist.models.history import Committed, HistoryRecord, Transition
from logist.models.manifest import Budget, Check, JobDefinition, JobManifest, Phase, Roles, RoleSettings
from logist.runtime import Runtime
from logist.stop_switch import StopSwitch
from logist.testing import MemoryReporter
from logist.workspace_creation import SourceRequest


def say(action: str, summary: str = "", evidence: Iterable[str] = ()) -> str:
    """A shell line that writes a reply."""
    reply = {"action": action, "summary_for_supervisor": summary, "evidence_files": list(evidence), "token": "TOKEN"}
    text = json.dumps(reply).replace("'", "'\\''")
    return f"printf '%s' '{text}' | sed \"s/TOKEN/$LOGIST_STEP_TOKEN/\" > \"$LOGIST_REPLY_FILE\""


def by_turn(*lines: str) -> str:
    """A shell line that does the first of `lines` on the first turn, and so on; the last one again and again."""
    cases = "".join(f"{number}) {line};; " for number, line in enumerate(lines[:-1], start=1))
    return f'case "$LOGIST_TURN" in {cases}*) {lines[-1]};; esac'


@dataclass
class Jobs:
    """A jobs folder with a runtime around it."""

    root: Path
    adapter: WorkerAdapter = field(default_factory=LocalWorkerAdapter)
    clock: Clock = field(default_factory=SystemClock)
    reporter: MemoryReporter = field(default_factory=MemoryReporter)
    config: Config = field(default_factory=Config)

    def __post_init__(self) -> None:
        self.store = JobStore(self.root / "jobs", self.clock)
        self.stop = StopSwitch()

    def close(self) -> None:
        """End the adapter's helpers."""
        self.adapter.close()

    @property
    def runtime(self) -> Runtime:
        """A runtime for one run."""
        return Runtime(
            store=self.store,
            adapter=self.adapter,
            config=self.config,
            reporter=self.reporter,
            clock=self.clock,
            stop=self.stop,
            environ=dict(os.environ),
        )

    def create(
        self,
        job_id: str = "job",
        *,
        worker: str | RoleSettings = "true",
        supervisor: str | RoleSettings = "true",
        checks: Iterable[Check] = (),
        phases: Iterable[Phase] = (Phase(name="main"),),
        budget: Budget | None = None,
        source: SourceRequest | None = None,
        **definition: object,
    ) -> JobManifest:
        """A job whose worker and supervisor are shell lines."""
        roles = Roles(worker=_settings(worker), supervisor=_settings(supervisor))
        asked = JobDefinition.model_validate(
            {
                "objective": "Do it well",
                "roles": roles,
                "checks": tuple(checks),
                "phases": tuple(phases),
                "budget": budget or Budget(),
                **definition,
            }
        )
        return create_job(self.store, CreateRequest(asked, source or SourceRequest(), job_id), self.clock)

    def run(self, job_id: str = "job", **options: object) -> RunResult:
        """Run with a fresh stop switch."""
        self.stop = StopSwitch()
        return run_job(self.runtime, job_id, **options)  # type: ignore[arg-type]

    def run_to(self, exit_code: ExitCode, job_id: str = "job", **options: object) -> JobManifest:
        """Run and require the exit code."""
        result = self.run(job_id, **options)
        assert result.exit_code is exit_code, result.manifest.reason
        return result.manifest

    def workspace(self, job_id: str = "job") -> Path:
        """Where the worker works."""
        return self.store.paths(job_id).workspace

    def records(self, job_id: str = "job") -> list[HistoryRecord]:
        """The whole history."""
        return [entry.record for entry in self.store.history(job_id)]

    def committed(self, job_id: str = "job") -> list[Committed]:
        """The finished steps."""
        return [record for record in self.records(job_id) if isinstance(record, Committed)]

    def triggers(self, job_id: str = "job") -> list[str]:
        """Every move along the state table, in order."""
        return [
            record.trigger.value
            for record in self.records(job_id)
            if isinstance(record, Committed | Transition) or record.type == "resolution"
        ]

    def git(self, *arguments: str, job_id: str = "job") -> str:
        """What the git command says of the evidence repository: the independent witness."""
        done = subprocess.run(
            ["git", f"--git-dir={self.store.paths(job_id).repo}", *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def evidence_steps(self, job_id: str = "job") -> list[int]:
        """The step numbers of the evidence commits, oldest first, as git reads their trailers."""
        text = self.git(
            "log",
            "--reverse",
            "--format=%(trailers:key=Logist-Step,valueonly,separator=)",
            f"logist/{job_id}",
            job_id=job_id,
        )
        return [int(line) for line in text.split() if line != "0"]


def _settings(player: str | RoleSettings) -> RoleSettings:
    return player if isinstance(player, RoleSettings) else RoleSettings(agent="command", argument=player)
