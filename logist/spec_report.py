"""Where a spec's runs stand, read from its state on disk; nothing is written and no lease is taken."""

from __future__ import annotations

from dataclasses import dataclass

from logist.chunk_state import SpecPast, StatePaths, read_past
from logist.chunks import ChunkId, ChunkResult, ChunkStatus, MergeResult, RunReport
from logist.lease import Holder, read_holder
from logist.lifecycle import JobStatus
from logist.models.chunk_history import ChunkBegan, ChunkEnded, MergeEnded


@dataclass(frozen=True)
class SpecStatus:
    """Where a spec stands. Counts are of its last run, and of what was done before it."""

    spec: str
    state_dir: str
    status: JobStatus
    reason: str
    chunks: int
    done: int
    failed: int
    running: tuple[ChunkId, ...]
    frames: int
    frames_done: int
    #: Who runs it now; None: nobody.
    runner: Holder | None
    #: The chunks that have ended, as a run's report.
    report: RunReport


def read_status(paths: StatePaths, name: str) -> SpecStatus:
    """Where the spec `name` stands. Raises InvalidFile when its history is damaged, StorageFailed."""
    past = read_past(paths)
    runner = read_holder(paths.job)
    status, reason = _status(past, runner)
    done = past.done()
    report = RunReport(
        status=status,
        reason=reason,
        results=tuple(_result(ended) for ended in past.chunks.values()),
        skipped=(),
        merge=None if past.merge is None else _merge_result(past.merge),
        duration=sum(ended.duration for ended in past.chunks.values()),
    )
    return SpecStatus(
        spec=name,
        state_dir=str(paths.root),
        status=status,
        reason=reason,
        chunks=0 if past.began is None else past.began.chunks,
        done=len(done),
        failed=sum(ended.status is ChunkStatus.FAILED for ended in past.chunks.values()),
        running=tuple(past.running) if runner is not None else (),
        frames=0 if past.began is None else past.began.frames,
        frames_done=sum(ended.frames for ended in done.values()),
        runner=runner,
        report=report,
    )


def _status(past: SpecPast, runner: Holder | None) -> tuple[JobStatus, str]:
    if runner is not None:
        return JobStatus.RUNNING, f"process {runner.pid} runs it" if runner.pid else "it is being run"
    if past.began is None:
        return JobStatus.PENDING, "it was not run yet"
    if past.ended is None:
        return JobStatus.PENDING, "its runner died; the next run goes on with what is not done"
    return past.ended.status, past.ended.reason


def _result(ended: ChunkEnded) -> ChunkResult:
    return ChunkResult(
        chunk=ended.chunk,
        start_frame=ended.start_frame,
        frame_count=ended.frames,
        attempt=ended.attempt,
        status=ended.status,
        exit_code=ended.exit_code,
        signal=ended.signal,
        duration=ended.duration,
        problem=ended.problem,
        output=ended.output,
        log=ended.log,
    )


def _merge_result(merge: MergeEnded) -> MergeResult:
    return MergeResult(
        status=merge.status,
        exit_code=merge.exit_code,
        duration=merge.duration,
        problem=merge.problem,
        output=merge.output,
        log=merge.log,
    )


def last_attempt(paths: StatePaths, chunk: str) -> ChunkBegan | ChunkEnded | None:
    """The newest attempt at the chunk that is called so, running or ended; None when there was none."""
    past = read_past(paths)
    attempts: dict[ChunkId, ChunkBegan | ChunkEnded] = {**past.chunks, **past.running}
    return next((attempt for name, attempt in attempts.items() if str(name) == chunk), None)
