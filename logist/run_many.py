"""Runs several jobs, so many at a time, each in a thread of its own: `run_jobs`.

A job has its thread until it rests: see docs/design/0011-jobs-run-until-they-rest.md. What it does there is `run_job`,
with a lease and a session of its own; all share the adapter and the stop switch.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import NamedTuple

from logist.errors import WORST_FIRST, ExitCode, InvalidFile, JobBusy, JobNotFound, LogistError, WrongState
from logist.events import Event, JobDropped, JobEnd, JobsFinished, Reporter
from logist.job_processor import REST_EXIT_CODES, RunResult, run_job
from logist.job_queue import RUNNABLE, JobShelf, Look, Need
from logist.job_report import possible_commands
from logist.job_state import JobStore
from logist.lifecycle import JobStatus
from logist.models.manifest import JobManifest
from logist.runtime import Runtime

#: Seconds between two looks for jobs that are new or ready again, while there is room for one.
_LOOK = 0.5


@dataclass(frozen=True)
class RunsResult:
    """What came of a run of several jobs: those that it ran or had to leave, in the order in which they ended."""

    jobs: tuple[JobEnd, ...]
    exit_code: ExitCode
    #: Jobs that waited for a human already before this run; none when jobs were named.
    unanswered: tuple[str, ...]
    #: What went wrong in Logist itself, job by job. Each job has its record of it.
    faults: tuple[Exception, ...]


def run_jobs(runtime: Runtime, *, only: Collection[str] | None = None, concurrency: int = 1) -> RunsResult:
    """Run every job that is ready, or of `only` those, `concurrency` at a time, until none is left.

    A job that becomes ready meanwhile is run too. One that another runner holds is left to it. What goes wrong with one
    job is its own end, not that of the others. Raises StorageFailed when the jobs folder can't be read.
    """
    return _Runs(runtime, only).drive(concurrency)


class _Running(NamedTuple):
    """A job in its thread, as it was before. `began` is on the monotonic clock."""

    job: JobManifest
    began: float


class _Runs:
    """The jobs that run, and those that have ended."""

    def __init__(self, runtime: Runtime, only: Collection[str] | None) -> None:
        self._runtime = replace(runtime, reporter=_OneAtATime(runtime.reporter))
        self._only = only
        self._shelf = JobShelf(runtime.store)
        self._running: dict[Future[RunResult], _Running] = {}
        self._ends: dict[str, JobEnd] = {}
        #: The last record of each job that has come to rest here: only a newer one makes it ready again.
        self._rested: dict[str, int] = {}
        self._left_alone: set[str] = set()
        self._faults: list[Exception] = []

    def drive(self, concurrency: int) -> RunsResult:
        """Run them."""
        with ThreadPoolExecutor(concurrency, thread_name_prefix="job") as pool:
            try:
                while self._start(pool, concurrency - len(self._running)):
                    self._await_one()
            except BaseException:
                # The pool waits for its threads, and a job may take hours.
                self._runtime.stop.ask(ExitCode.INTERRUPTED, now=True)
                raise
        return self._result()

    def _start(self, pool: ThreadPoolExecutor, free: int) -> bool:
        """Give every free thread a job; whether any runs."""
        if free and not self._runtime.stop.after_step:
            for job in self._next_jobs()[:free]:
                began = self._runtime.clock.monotonic()
                self._running[pool.submit(run_job, self._runtime, job.id)] = _Running(job, began)
        return bool(self._running)

    def _next_jobs(self) -> list[JobManifest]:
        taken = {running.job.id for running in self._running.values()} | self._left_alone
        return [
            job
            for job in self._shelf.look().ready()
            if job.id not in taken and self._is_meant(job.id) and self._rested.get(job.id, 0) < job.seq
        ]

    def _is_meant(self, job_id: str) -> bool:
        return self._only is None or job_id in self._only

    def _await_one(self) -> None:
        done, _ = wait(self._running, timeout=_LOOK, return_when=FIRST_COMPLETED)
        for future in done:
            self._take_end(self._running.pop(future), future)

    def _take_end(self, ran: _Running, future: Future[RunResult]) -> None:
        problem = future.exception()
        found = self._read_again(ran.job.id) if problem else future.result().manifest
        after = found or ran.job
        self._rested[after.id] = after.seq
        if isinstance(problem, WrongState) and after.status not in RUNNABLE:
            # Another runner, or a human, was quicker: this run has not touched it.
            return
        if isinstance(problem, JobBusy) or found is None:
            self._left_alone.add(after.id)
        verdict = _verdict(self._runtime.store, future, after)
        if problem is not None:
            self._runtime.reporter.emit(JobDropped(job_id=after.id, why=verdict.why))
            if not isinstance(problem, LogistError):
                self._faults.append(_as_fault(problem, after.id))
        before = self._ends.pop(after.id, None)
        self._ends[after.id] = JobEnd(
            job_id=after.id,
            status=None if found is None else found.status,
            exit_code=verdict.exit_code,
            why=verdict.why,
            steps=after.step - ran.job.step + (before.steps if before else 0),
            duration=self._runtime.clock.monotonic() - ran.began + (before.duration if before else 0.0),
            cost=max(0.0, after.spent.cost - ran.job.spent.cost) + (before.cost if before else 0.0),
            next=verdict.next,
        )

    def _read_again(self, job_id: str) -> JobManifest | None:
        """The job as its run has left it; None when it can't be read, which its run has told then."""
        try:
            return self._runtime.store.load(job_id)
        except LogistError:
            return None

    # --- The end --------------------------------------------------------------------------------------------------

    def _result(self) -> RunsResult:
        look = self._shelf.look()
        jobs = (*self._ends.values(), *self._ends_without_run(look))
        exit_code = min((end.exit_code for end in jobs), key=WORST_FIRST.index, default=ExitCode.SUCCESS)
        self._runtime.reporter.emit(JobsFinished(jobs=jobs, exit_code=exit_code))
        unanswered = (
            job.id
            for job in look.jobs.values()
            if self._only is None and job.status is JobStatus.INTERVENTION_REQUIRED and job.id not in self._ends
        )
        return RunsResult(jobs, exit_code, tuple(unanswered), tuple(self._faults))

    def _ends_without_run(self, look: Look) -> Iterator[JobEnd]:
        """What there is to say of jobs that were not run: those that were left, and all that were named."""
        for job in look.jobs.values():
            if job.id in self._ends or not self._is_meant(job.id):
                continue
            if job.status not in RUNNABLE:
                if self._only is not None:
                    yield _at_rest(self._runtime.store, job)
            elif needs := look.unmet_needs(job):
                yield _waiting(self._runtime.store, job, needs, look)
            elif self._runtime.stop.after_step:
                yield _not_begun(self._runtime.store, job, self._runtime.stop.exit_code)
        for job_id, problem in look.problems.items():
            if job_id not in self._ends and self._is_meant(job_id):
                yield JobEnd(
                    job_id=job_id,
                    status=None,
                    exit_code=problem.exit_code,
                    why=problem.message,
                    next=problem.hint,
                )
        for job_id in sorted({*(self._only or ())} - {*self._ends, *look.jobs, *look.problems}):
            yield JobEnd(
                job_id=job_id, status=None, exit_code=JobNotFound.exit_code, why="its folder is gone; it was not run"
            )


class _Verdict(NamedTuple):
    """What a thread that has ended says of its job."""

    exit_code: ExitCode
    why: str
    next: str


def _verdict(store: JobStore, future: Future[RunResult], after: JobManifest) -> _Verdict:
    problem = future.exception()
    if problem is None:
        return _Verdict(future.result().exit_code, after.reason.sentence, _first_command(store, after))
    if isinstance(problem, LogistError):
        return _Verdict(problem.exit_code, problem.message, problem.hint)
    return _Verdict(ExitCode.UNEXPECTED, _fault_words(problem), _first_command(store, after))


def _as_fault(problem: BaseException, job_id: str) -> Exception:
    """What can be raised again: a plugin's SystemExit must not end the command as if all were well."""
    return problem if isinstance(problem, Exception) else RuntimeError(f"job {job_id}: {_fault_words(problem)}")


def _fault_words(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}"


def _not_begun(store: JobStore, job: JobManifest, stopped: ExitCode) -> JobEnd:
    return JobEnd(
        job_id=job.id,
        status=job.status,
        exit_code=stopped,
        why="not begun: the run was stopped before",
        next=_first_command(store, job),
    )


def _waiting(store: JobStore, job: JobManifest, needs: tuple[Need, ...], look: Look) -> JobEnd:
    return JobEnd(
        job_id=job.id,
        status=job.status,
        exit_code=ExitCode.WRONG_STATE,
        why=f"waits for {', '.join(map(_need_words, needs))}",
        next=_first_command(store, look.jobs.get(needs[0].job_id, job)),
    )


def _at_rest(store: JobStore, job: JobManifest) -> JobEnd:
    return JobEnd(
        job_id=job.id,
        status=job.status,
        exit_code=REST_EXIT_CODES[job.status],
        why=job.reason.sentence,
        next=_first_command(store, job),
    )


def _first_command(store: JobStore, job: JobManifest) -> str:
    try:
        return next(iter(possible_commands(store, job)), "")
    except InvalidFile as damaged:
        # The job is told all the same, and with it what can be done about its history.
        return damaged.hint


def _need_words(need: Need) -> str:
    return f"{need.job_id} ({'gone or unreadable' if need.status is None else need.status.replace('_', ' ')})"


class _OneAtATime:
    """Hands on the events of several threads to a reporter that takes one at a time."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Hand it on."""
        with self._lock:
            self._reporter.emit(event)
