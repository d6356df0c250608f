"""The list of jobs: one row a job, from as few files as can be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from logist.errors import LogistError
from logist.lifecycle import JobStatus
from logist.plain_text import plain_values
from logist.waits import Wait, standing_wait

if TYPE_CHECKING:
    from logist.job_state import JobStore
    from logist.lease import Holder


@dataclass(frozen=True)
class Runner:
    """The process that holds the job's lease. `since` is ISO 8601; fields are empty while it is just signing."""

    pid: int
    host: str
    command: str
    since: str
    #: False when the runner died and only something that it started still holds the lease.
    alive: bool


@dataclass(frozen=True)
class JobRow:
    """One line of the list of jobs. `problem` says why a job can't be read; its status is then empty."""

    id: str
    selected: bool
    status: JobStatus | None = None
    headline: str = ""
    reason: str = ""
    step: int = 0
    phase: str = ""
    objective: str = ""
    updated_at: datetime | None = None
    priority: int = 0
    #: The jobs that must have reached SUCCESS before `logist run` takes this one.
    needs: tuple[str, ...] = ()
    #: What its next attempt waits for.
    wait: Wait | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        from pydantic_core import to_jsonable_python

        return cast("dict[str, Any]", plain_values(to_jsonable_python(self)))


def list_rows(store: JobStore) -> list[JobRow]:
    """One row a job, the last changed first; a job that can't be read is a row that says why."""
    selected = store.selected()
    rows = [_row(store, job_id, selected=job_id == selected) for job_id in store.ids()]
    return sorted(rows, key=lambda row: row.updated_at.timestamp() if row.updated_at else 0.0, reverse=True)


def _row(store: JobStore, job_id: str, *, selected: bool) -> JobRow:
    try:
        manifest = store.load(job_id)
        # Only of a running job it matters who holds it: one file less to open.
        holder = store.holder(job_id) if manifest.status is JobStatus.RUNNING else None
        wait = standing_wait(store.paths(job_id), manifest, store.clock.now())
    except LogistError as error:
        return JobRow(id=job_id, selected=selected, problem=error.message)
    return JobRow(
        id=manifest.id,
        selected=selected,
        status=manifest.status,
        headline=headline(manifest.status, runner_of(holder), manifest.id),
        reason=manifest.reason.code.value,
        step=manifest.step,
        phase=manifest.current_phase.name,
        objective=manifest.job.objective,
        updated_at=manifest.updated_at,
        priority=manifest.job.priority,
        needs=manifest.job.needs,
        wait=wait,
    )


def headline(status: JobStatus, runner: Runner | None, job_id: str) -> str:
    """The status in words; of a running job whether its runner lives."""
    if status is not JobStatus.RUNNING:
        return status.value.replace("_", " ")
    if runner is None:
        return f"RUNNING (its runner died; `logist job run {job_id}` recovers it)"
    if not runner.alive:
        return "RUNNING (its runner died, but something that it started still holds the job)"
    return "RUNNING"


def runner_of(holder: Holder | None) -> Runner | None:
    """The holder of a lease as a report shows it."""
    if holder is None:
        return None
    return Runner(pid=holder.pid, host=holder.host, command=holder.command, since=holder.since, alive=holder.alive)
