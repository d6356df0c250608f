"""Where a spec's runs stand, read from its state on disk; nothing is written and no lease is taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from logist.chunk_state import SpecPast, StatePaths, read_past, read_records
from logist.chunks import ChunkId, ChunkResult, ChunkStatus, MergeResult, Output, RunReport
from logist.clock import SystemClock
from logist.lease import Holder, read_holder
from logist.lifecycle import JobStatus
from logist.models.chunk_history import ChunkBegan, ChunkEnded, ChunkHistoryRecord, MergeEnded, RunBegan
from logist.spec_files import LoadedSpec


@dataclass(frozen=True)
class RunningNow:
    """A chunk that runs now."""

    chunk: ChunkId
    attempt: int
    #: Seconds since this attempt began.
    seconds: float
    #: How many it is to make; None where the spec can't be asked.
    frames: int | None = None


@dataclass(frozen=True)
class SpecStatus:
    """Where a spec stands. Counts are of its last run, and of what was done before it."""

    spec: str
    state_dir: str
    status: JobStatus
    reason: str
    #: Of the last run; where there was none, of the spec itself.
    chunks: int
    done: int
    failed: int
    running: tuple[RunningNow, ...]
    frames: int
    frames_done: int
    #: Who runs it now; None: nobody.
    runner: Holder | None
    #: What ended in the last run, or in the one that goes on.
    report: RunReport
    #: The last end of every chunk, in whichever run.
    results: tuple[ChunkResult, ...] = ()
    #: Whether it was run at all.
    ran: bool = True
    #: Whether the spec is no longer what was run last.
    changed: bool = False
    #: Chunks on record as done whose output is gone or has another size: the next run makes them anew.
    missing: int = 0
    #: Whether the merged file on record is gone or has another size.
    merge_missing: bool = False
    #: Why the spec can't be read; empty when it can, or is not there.
    problem: str = ""


@dataclass
class _Times:
    """When the last run and its chunks began; ISO 8601, empty for never."""

    began: str = ""
    #: Of the run's end, else of its last record.
    last: str = ""
    chunks: dict[ChunkId, str] = field(default_factory=dict)
    #: What ended in this run.
    ended: list[ChunkEnded] = field(default_factory=list)
    merge: MergeEnded | None = None

    def take(self, at: str, record: ChunkHistoryRecord) -> None:
        self.last = at
        match record:
            case RunBegan():
                self.began, self.merge = at, None
                self.chunks.clear()
                self.ended.clear()
            case ChunkBegan():
                self.chunks[record.chunk] = at
            # What others made was taken, not run.
            case ChunkEnded() if record.attempt:
                self.ended.append(record)
            case MergeEnded():
                self.merge = record


def read_status(
    paths: StatePaths, name: str, loaded: LoadedSpec | None = None, problem: str = "", now: datetime | None = None
) -> SpecStatus:
    """Where the spec `name` stands; `loaded` is what it says now, or `problem` why that can't be read.

    Raises InvalidFile when its history is damaged, StorageFailed.
    """
    past, times = SpecPast(), _Times()
    for at, record in read_records(paths):
        past.take(record)
        times.take(at, record)
    runner = read_holder(paths.job)
    status, reason = _status(past, runner)
    done = past.done()
    moment = now or SystemClock().now()
    last = {ended.chunk: ended for ended in times.ended}
    report = RunReport(
        status=status,
        reason=reason,
        results=tuple(_result(ended) for ended in last.values()),
        skipped=tuple(chunk for chunk in done if chunk not in last),
        merge=None if times.merge is None else _merge_result(times.merge),
        duration=_seconds(times.began, moment if runner is not None else times.last),
    )
    return SpecStatus(
        spec=name,
        state_dir=str(paths.root),
        status=status,
        reason=reason,
        chunks=past.began.chunks if past.began is not None else len(loaded.spec.chunks) if loaded is not None else 0,
        done=len(done),
        failed=sum(ended.status is ChunkStatus.FAILED for ended in past.chunks.values()),
        running=_running(past, times, loaded, moment) if runner is not None else (),
        frames=past.began.frames if past.began is not None else 0 if loaded is None else _frames(loaded),
        frames_done=sum(ended.frames for ended in done.values()),
        runner=runner,
        report=report,
        results=tuple(_result(ended) for ended in past.chunks.values()),
        ran=past.began is not None,
        changed=past.began is not None and loaded is not None and loaded.sha256 != past.began.spec_sha256,
        missing=sum(not _stands(ended.output) for ended in done.values()),
        merge_missing=past.merge is not None and not _stands(past.merge.output),
        problem=problem,
    )


def _frames(loaded: LoadedSpec) -> int:
    return sum(chunk.frame_count for chunk in loaded.spec.chunks)


def _running(past: SpecPast, times: _Times, loaded: LoadedSpec | None, now: datetime) -> tuple[RunningNow, ...]:
    frames = {} if loaded is None else {chunk.id: chunk.frame_count for chunk in loaded.spec.chunks}
    return tuple(
        RunningNow(chunk, began.attempt, _seconds(times.chunks.get(chunk, ""), now), frames.get(chunk))
        for chunk, began in past.running.items()
    )


def _seconds(since: str, until: str | datetime) -> float:
    """From one moment to another; 0 when the clock was put back, or for what never began."""
    if not since or not until:
        return 0.0
    end = datetime.fromisoformat(until) if isinstance(until, str) else until
    return max(0.0, round((end - datetime.fromisoformat(since)).total_seconds(), 3))


def _stands(output: Output | None) -> bool:
    """Whether a verified file is there in its old size; its content is only looked at by a run."""
    if output is None:
        return True
    try:
        return Path(output.path).stat().st_size == output.size
    except OSError:
        return False


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


def last_attempt(paths: StatePaths, chunk: str) -> ChunkBegan | ChunkEnded | MergeEnded | None:
    """The newest attempt at the chunk that is called so, or at the merge; None when there was none."""
    past = read_past(paths)
    if chunk == "merge":
        return past.merge
    attempts: dict[ChunkId, ChunkBegan | ChunkEnded] = {**past.chunks, **past.running}
    return next((attempt for name, attempt in attempts.items() if str(name) == chunk), None)
