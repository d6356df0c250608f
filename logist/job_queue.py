"""Which jobs of a folder can be run now, in which order, and what the others wait for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from logist.errors import InvalidFile, JobNotFound, LogistError
from logist.job_files import JobPaths
from logist.job_state import JobStore
from logist.lifecycle import JobStatus
from logist.models.manifest import JobManifest

#: States that a runner goes on from. RUNNING is one: only the lease tells whether its runner lives.
RUNNABLE = frozenset({JobStatus.PENDING, JobStatus.RUNNING})


class Need(NamedTuple):
    """A job that another one waits for. Without a `status` it is gone, or can't be read."""

    job_id: str
    status: JobStatus | None


class Look(NamedTuple):
    """The jobs of a folder at one moment; those that can't be read with the reason."""

    jobs: Mapping[str, JobManifest]
    problems: Mapping[str, LogistError]

    def unmet_needs(self, job: JobManifest) -> tuple[Need, ...]:
        """The jobs that `job` still waits for."""
        needs = (Need(name, self.jobs[name].status if name in self.jobs else None) for name in job.job.needs)
        return tuple(need for need in needs if need.status is not JobStatus.SUCCESS)

    def ready(self) -> list[JobManifest]:
        """The jobs that wait for nothing but a runner: the highest priority first, then the oldest.

        What a job needs is as urgent as that job itself.
        """
        waiting = [job for job in self.jobs.values() if job.status in RUNNABLE]
        urgency = _urgency(waiting)
        found = [job for job in waiting if not self.unmet_needs(job)]
        return sorted(found, key=lambda job: (-urgency[job.id], job.created_at, job.id))


def _urgency(waiting: list[JobManifest]) -> dict[str, int]:
    """The priority of each job, or that of the most urgent job that waits for it."""
    by_id = {job.id: job for job in waiting}
    urgency: dict[str, int] = {}
    # The most urgent first: whoever reaches a job first gives it the highest priority that it can get.
    for job in sorted(waiting, key=lambda job: -job.job.priority):
        reached = [job.id]
        while reached:
            job_id = reached.pop()
            if job_id in by_id and job_id not in urgency:
                urgency[job_id] = job.job.priority
                reached += by_id[job_id].job.needs
    return urgency


#: What tells that a file has changed: it is another one, longer, or was written later.
_Stamp = tuple[tuple[int, int, int], ...]


class JobShelf:
    """The jobs of a folder, to be looked at again and again: one is read anew only when its files have changed."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._known: dict[str, _Read] = {}

    def look(self) -> Look:
        """The jobs as they stand. Raises StorageFailed."""
        self._known = {job_id: self._read(job_id) for job_id in self._store.ids()}
        jobs, problems = {}, {}
        for job_id, read in self._known.items():
            if isinstance(read.job, JobManifest):
                jobs[job_id] = read.job
            elif not isinstance(read.job, JobNotFound):
                problems[job_id] = read.job
        return Look(jobs, problems)

    def _read(self, job_id: str) -> _Read:
        stamp = _stamp(self._store.paths(job_id))
        known = self._known.get(job_id)
        if stamp is not None and known is not None and known.stamp == stamp:
            return known
        try:
            return _Read(stamp, self._store.load(job_id))
        except (InvalidFile, JobNotFound) as problem:
            return _Read(stamp, problem)


class _Read(NamedTuple):
    """A job as it was read, or why it could not be, and its files' stamp from just before."""

    stamp: _Stamp | None
    job: JobManifest | LogistError


def _stamp(paths: JobPaths) -> _Stamp | None:
    try:
        states = [path.stat() for path in (paths.manifest, paths.history)]
    except OSError:
        # Whatever it is, reading the job says it better.
        return None
    return tuple((state.st_ino, state.st_size, state.st_mtime_ns) for state in states)
