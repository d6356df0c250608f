"""Where a job stands and what can be done next, as one value: the status, the card and `--json` are made of it.

Light to import, and nothing of git, so that `job status` stays quick.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from logist.errors import ExitCode
from logist.job_files import JobPaths
from logist.job_list import Runner, headline, runner_of
from logist.lifecycle import JobStatus
from logist.models.manifest import (
    CheckResult,
    JobManifest,
    PhaseKind,
    Reason,
    ReasonCode,
    Role,
    RoleSettings,
    Source,
    Verdict,
)
from logist.next_commands import NextCommand, next_commands
from logist.plain_text import last_lines, plain_values
from logist.step_summaries import StepSummary, recent_steps
from logist.waits import Wait, standing_wait

if TYPE_CHECKING:
    from logist.job_state import JobStore

_LOG_TAIL_BYTES = 4096
_LOG_TAIL_LINES = 3
#: The agent that replays a file.
_SCRIPTED_AGENT = "playbook"


@dataclass(frozen=True)
class Words:
    """What an agent said last; with `failure`, what Logist said for it because it gave no answer that counts."""

    step: int
    agent: str
    action: Verdict
    text: str
    failure: ReasonCode | None = None


@dataclass(frozen=True)
class BudgetLine:
    """One budget: `name` is steps, time (seconds), retries, cost (US dollars) or tokens. Without a limit: unlimited."""

    name: str
    spent: float
    limit: float | None
    left: float | None
    #: Of a cost: the part that nobody billed, and of how many oneshots none is known.
    estimated: float = 0.0
    unpriced: int = 0


@dataclass(frozen=True)
class RenderLine:
    """How far the chunks of the current phase's render are, as its state last said; those of a dead runner too."""

    spec: str
    chunks: int
    done: int
    failed: int
    frames: int
    frames_done: int


@dataclass(frozen=True)
class ChangedFile:
    """One file of the diff since the baseline. `kind` is git's letter; counts are None for binary content."""

    path: str
    kind: str
    added: int | None = None
    deleted: int | None = None


@dataclass(frozen=True)
class Places:
    """Where the job's things are: absolute paths. `logs` are the last attempt's output, the newest step's."""

    folder: str
    workspace: str
    repo: str
    branch: str
    logs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """One job, for people and programs. Texts of agents are as they were given: whoever shows them makes them plain."""

    id: str
    objective: str
    status: JobStatus
    #: One line: the status, and for a running job whether its runner lives.
    headline: str
    reason: Reason
    runner: Runner | None
    #: When this report was made.
    at: datetime
    created_at: datetime
    updated_at: datetime
    priority: int = 0
    #: The jobs that must have reached SUCCESS before `logist run` takes this one.
    needs: tuple[str, ...] = ()
    #: Counted from 1.
    phase: int
    phase_count: int
    phase_name: str
    next_role: Role
    #: Who plays them now, of the roles that the job has a use for.
    roles: Mapping[Role, RoleSettings]
    #: Number of the last finished step, and how many steps were taken since the start or the last rerun.
    step: int
    attempt: int
    line: int
    #: The newest ones of the present line, oldest first.
    steps: tuple[StepSummary, ...]
    supervisor: Words | None
    worker: Words | None
    objections: str
    guidance: str
    checks: tuple[CheckResult, ...]
    #: The step whose work the checks ran on when newer work was not checked, else None.
    checks_step: int | None = None
    baseline: str
    head: str
    tree: str
    budget: tuple[BudgetLine, ...]
    #: None where the phase is no render, or none of its chunks was begun.
    render: RenderLine | None = None
    #: What the next attempt waits for, in a run or until the next one; None: for nothing.
    wait: Wait | None = None
    source: Source
    places: Places
    log_tail: tuple[str, ...]
    #: Roles whose agent replays a file, and what that means.
    scripted: tuple[Role, ...]
    note: str
    #: None when nobody asked: reading it opens the repository.
    changes: tuple[ChangedFile, ...] | None
    next_commands: tuple[NextCommand, ...]
    exit_code: int

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, for `--json`; control sequences of agents are taken out."""
        from pydantic_core import to_jsonable_python

        return cast("dict[str, Any]", plain_values(to_jsonable_python(self)))


# --- Building ------------------------------------------------------------------------------------------------------


def build_report(store: JobStore, job_id: str, *, workspace: bool = True) -> JobReport:
    """Read the job and say where it stands; `workspace` adds the changes since the baseline, which needs git.

    Takes no lease and writes nothing. Raises JobNotFound, InvalidFile, StorageFailed, WorkspaceFailed.
    """
    manifest = store.load(job_id)
    paths = store.paths(job_id)
    now = store.clock.now()
    runner = runner_of(store.holder(job_id))
    history = recent_steps(paths, manifest.head)
    steps = tuple(step for step in history if not step.dropped)
    folder = _newest_attempt(paths, manifest, steps)
    scripted = _scripted(manifest)
    checked = _last_checked(manifest, steps)
    return JobReport(
        id=manifest.id,
        objective=manifest.job.objective,
        status=manifest.status,
        headline=headline(manifest.status, runner, manifest.id),
        reason=manifest.reason,
        runner=runner,
        at=now,
        created_at=manifest.created_at,
        updated_at=manifest.updated_at,
        priority=manifest.job.priority,
        needs=manifest.job.needs,
        phase=manifest.phase + 1,
        phase_count=len(manifest.job.phases),
        phase_name=manifest.current_phase.name,
        next_role=manifest.next_role,
        roles={role: manifest.job.roles.of(role) for role in _asked(manifest)},
        step=manifest.step,
        attempt=manifest.attempt,
        line=manifest.line,
        steps=steps,
        supervisor=_words(manifest, steps, Role.SUPERVISOR),
        worker=_words(manifest, steps, Role.WORKER),
        objections=manifest.objections,
        guidance=manifest.guidance,
        checks=manifest.checks or (() if checked is None else checked.checks),
        checks_step=None if checked is None else checked.step,
        baseline=manifest.baseline,
        head=manifest.head,
        tree=manifest.tree,
        budget=_budget_lines(manifest),
        render=_render_line(paths, manifest),
        wait=standing_wait(paths, manifest, now),
        source=manifest.source,
        places=Places(
            folder=str(paths.root),
            workspace=str(paths.workspace),
            repo=str(paths.repo),
            branch=f"logist/{manifest.id}",
            logs=_logs(folder),
        ),
        log_tail=_log_tail(folder),
        scripted=scripted,
        note=_scripted_note(scripted),
        changes=_changes(paths, manifest) if workspace else None,
        next_commands=_possible(manifest, steps, runner_alive=runner is not None and runner.alive),
        exit_code=int(_exit_code(manifest.status, runner)),
    )


def possible_commands(store: JobStore, manifest: JobManifest) -> tuple[str, ...]:
    """What can be done with a job now, as lines to paste, the suggested one first. Raises InvalidFile."""
    steps = tuple(step for step in recent_steps(store.paths(manifest.id), manifest.head) if not step.dropped)
    runner = runner_of(store.holder(manifest.id)) if manifest.status is JobStatus.RUNNING else None
    commands = _possible(manifest, steps, runner_alive=runner is not None and runner.alive)
    return tuple(command.command for command in commands)


def _possible(manifest: JobManifest, steps: tuple[StepSummary, ...], *, runner_alive: bool) -> tuple[NextCommand, ...]:
    return next_commands(
        manifest,
        runner_alive=runner_alive,
        rewind_to=_rewind_target(steps),
        last_step=steps[-1].step if steps else 0,
    )


def _exit_code(status: JobStatus, runner: Runner | None) -> ExitCode:
    """What the job's state is as an exit code; 0 means SUCCESS and nothing else."""
    over = {
        JobStatus.SUCCESS: ExitCode.SUCCESS,
        JobStatus.CANCELED: ExitCode.CANCELED,
        JobStatus.INTERVENTION_REQUIRED: ExitCode.INTERVENTION_REQUIRED,
    }
    return over.get(status, ExitCode.TERMINATED if runner is None else ExitCode.BUSY)


def _asked(manifest: JobManifest) -> tuple[Role, ...]:
    works = any(phase.kind is PhaseKind.WORK for phase in manifest.job.phases)
    return (Role.WORKER, Role.SUPERVISOR) if works else (Role.SUPERVISOR,)


def _scripted(manifest: JobManifest) -> tuple[Role, ...]:
    return tuple(role for role in _asked(manifest) if manifest.job.roles.of(role).agent == _SCRIPTED_AGENT)


def _render_line(paths: JobPaths, manifest: JobManifest) -> RenderLine | None:
    spec = manifest.current_phase.spec
    if spec is None:
        return None
    try:
        state = json.loads(JobPaths(paths.chunk_state(spec, manifest.line)).manifest.read_bytes())
        counts = [int(state[name]) for name in ("chunks", "done", "failed", "frames", "frames_done")]
    except (OSError, ValueError, TypeError, KeyError):
        # Nothing was begun yet; what counts is in the history beside it.
        return None
    return RenderLine(spec, *counts)


def _scripted_note(scripted: tuple[Role, ...]) -> str:
    if not scripted:
        return ""
    who = " and ".join(f"the {role}" for role in scripted)
    verb = "replay a playbook" if len(scripted) > 1 else "replays a playbook"
    return f"{who} {verb}: scripted, no model is asked"


def _budget_lines(manifest: JobManifest) -> tuple[BudgetLine, ...]:
    """What is spent and left, steps first; a budget without a limit is listed once something of it is spent."""
    limit, spent = manifest.budget, manifest.spent
    lines: tuple[tuple[str, float, float | None], ...] = (
        ("steps", spent.steps, limit.steps),
        ("time", spent.time, limit.time),
        ("retries", spent.retries, limit.retries),
        ("cost", spent.cost, limit.cost),
        ("tokens", spent.tokens, limit.tokens),
    )
    return tuple(
        BudgetLine(
            name=name,
            spent=used,
            limit=most,
            left=None if most is None else max(0, most - used),
            estimated=spent.estimated_cost if name == "cost" else 0.0,
            unpriced=spent.unpriced if name == "cost" else 0,
        )
        for name, used, most in lines
        if used or most is not None or (name == "cost" and spent.unpriced)
    )


def _words(manifest: JobManifest, steps: tuple[StepSummary, ...], role: Role) -> Words | None:
    """The role's last judgement; where new work has voided it, what it said in its last step."""
    judgement = manifest.supervisor if role is Role.SUPERVISOR else manifest.worker
    if judgement is not None:
        failure = next((step.failure for step in reversed(steps) if step.step == judgement.step), None)
        return Words(judgement.step, judgement.agent, judgement.action, judgement.summary, failure)
    last = next((step for step in reversed(steps) if step.role is role), None)
    return None if last is None else Words(last.step, last.agent, last.action, last.summary, last.failure)


def _last_checked(manifest: JobManifest, steps: tuple[StepSummary, ...]) -> StepSummary | None:
    """The newest step of this phase that has checks, None where the manifest has newer ones."""
    if manifest.checks:
        return None
    phase = manifest.current_phase.name
    return next((step for step in reversed(steps) if step.checks and step.phase == phase), None)


def _rewind_target(steps: tuple[StepSummary, ...]) -> int | None:
    """The step before the worker's last one, None when the beginning of the line is all there is to go back to."""
    for place in range(len(steps) - 1, 0, -1):
        if steps[place].role is Role.WORKER:
            return steps[place - 1].step
    return None


# --- Files ---------------------------------------------------------------------------------------------------------


def _newest_attempt(paths: JobPaths, manifest: JobManifest, steps: tuple[StepSummary, ...]) -> Path | None:
    """The folder of the attempt that ran last: of the step under way, else of the last one that an agent took."""
    for number in (manifest.step + 1, *(step.step for step in reversed(steps))):
        attempts = sorted(paths.steps.glob(f"{number:04d}-*"), key=_attempt_number)
        if attempts:
            return attempts[-1]
    return None


def _attempt_number(folder: Path) -> int:
    number = folder.suffix.removeprefix(".")
    return int(number) if number.isascii() and number.isdigit() else 1


def _logs(folder: Path | None) -> tuple[str, ...]:
    if folder is None:
        return ()
    return tuple(str(folder / name) for name in ("stdout.log", "stderr.log") if (folder / name).exists())


def _log_tail(folder: Path | None) -> tuple[str, ...]:
    """The last lines that the agent printed; its own words are shown, so a log that can't be read is no error."""
    if folder is None:
        return ()
    try:
        with (folder / "stdout.log").open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_TAIL_BYTES))
            data = log.read(_LOG_TAIL_BYTES)
    except OSError:
        return ()
    return last_lines(data, _LOG_TAIL_LINES)


def _changes(paths: JobPaths, manifest: JobManifest) -> tuple[ChangedFile, ...]:
    # Imported here: git is slow to load, and most reports do without.
    from contextlib import closing

    from logist.workspace_utils import Workspace

    with closing(Workspace(paths.repo, paths.workspace, f"logist/{manifest.id}")) as workspace:
        return tuple(
            ChangedFile(file.path, file.kind, file.insertions, file.deletions)
            for file in workspace.changes(manifest.baseline, manifest.head)
        )
