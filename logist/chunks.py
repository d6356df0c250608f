"""The values of a chunk run: what is told while it goes on, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from logist.lifecycle import JobStatus

#: As it stands in a spec.
ChunkId = int | str


class Halt(StrEnum):
    """What a chunk that failed for good does to the others."""

    #: Start no more, kill the running ones.
    NOW = "now"
    #: Start no more, let the running ones finish.
    SOON = "soon"
    #: Run all the others.
    NEVER = "never"


class ChunkStatus(StrEnum):
    """Where a chunk stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    #: It was running when the run was stopped: no failure of its own, and nothing of it counts.
    STOPPED = "stopped"


class Evidence(StrEnum):
    """How much is known of an output."""

    #: It was decoded: as many frames as there should be, of the right size.
    FRAMES = "frames"
    #: It is there and not empty; nobody looked inside (no video, or PyAV is not installed).
    FILE = "file"
    #: No output is named: the exit code is all.
    EXIT = "exit"


@dataclass(frozen=True, slots=True)
class Output:
    """A file that was verified: its identity, so that a later run can tell it from another. `size` is in bytes."""

    path: str
    size: int
    sha256: str
    mtime_ns: int
    evidence: Evidence
    frames: int | None = None


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """How one attempt at a chunk ended."""

    chunk: ChunkId
    start_frame: int
    frame_count: int
    attempt: int
    status: ChunkStatus
    #: 128+n for signal n; None when nothing ran or it was lost.
    exit_code: int | None
    #: The signal that ended the command, 0 for none.
    signal: int
    #: Seconds.
    duration: float
    #: Empty for a chunk that is done.
    problem: str = ""
    output: Output | None = None
    #: Where what it printed went; empty when it printed nothing, or was passed through.
    log: str = ""
    #: The last lines it printed, for a failed one. Hostile terminal input.
    tail: str = ""
    #: Seconds until the next attempt; None: there is none.
    retry_in: float | None = None


@dataclass(frozen=True, slots=True)
class MergeResult:
    """How the merge ended. `duration` is in seconds; `problem` is empty when it is done."""

    status: ChunkStatus
    exit_code: int | None
    duration: float
    problem: str = ""
    output: Output | None = None
    log: str = ""
    tail: str = ""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What came of a run."""

    #: SUCCESS, PENDING (stopped and resumable, or chunks are still missing), CANCELED, or INTERVENTION_REQUIRED.
    status: JobStatus
    #: One sentence.
    reason: str
    #: The last attempt at each chunk that was run, in the order in which they ended.
    results: tuple[ChunkResult, ...]
    #: Chunks that were done before.
    skipped: tuple[ChunkId, ...]
    merge: MergeResult | None
    #: Seconds.
    duration: float
    #: Someone stopped it; chunks that were asked for were not run to their end.
    stopped: bool = False

    @property
    def failed(self) -> tuple[ChunkResult, ...]:
        """The chunks that failed for good."""
        return tuple(result for result in self.results if result.status is ChunkStatus.FAILED)


# --- What is told while it goes on -----------------------------------------------------------------------------------
# `type` is an event's stable name in the JSON stream. Tuples and no dataclasses, which take five times as long to be
# made: a run of short chunks waits for it.


class RunStarted(NamedTuple):
    """The run begins; always the first event. Skipped chunks were done before; `chunks` and `frames` count them too."""

    spec: str
    chunks: int
    frames: int
    skipped_chunks: int
    skipped_frames: int
    concurrency: int
    state_dir: str
    type: Literal["run.started"] = "run.started"


class ChunkStarted(NamedTuple):
    """An attempt at a chunk begins."""

    chunk: ChunkId
    attempt: int
    start_frame: int
    frame_count: int
    log: str
    type: Literal["chunk.started"] = "chunk.started"


class ChunkProgressed(NamedTuple):
    """The command's own progress lines say that so many frames of the chunk are made. At most ten a second a chunk."""

    chunk: ChunkId
    frames: int
    type: Literal["chunk.progress"] = "chunk.progress"


class ChunkFinished(NamedTuple):
    """An attempt at a chunk ended. Another follows when `result.retry_in` is not None."""

    result: ChunkResult
    type: Literal["chunk.finished"] = "chunk.finished"


class MergeStarted(NamedTuple):
    """All chunks are there; the merge command begins."""

    log: str
    type: Literal["merge.started"] = "merge.started"


class MergeFinished(NamedTuple):
    """The merge ended."""

    result: MergeResult
    type: Literal["merge.finished"] = "merge.finished"


class Notice(NamedTuple):
    """Something an operator should know: a weaker check, a dead runner's chunks, why nothing is merged."""

    message: str
    type: Literal["run.notice"] = "run.notice"


class RunFinished(NamedTuple):
    """The run is over; always the last event. `exit_code` is the command's."""

    report: RunReport
    exit_code: int
    type: Literal["run.finished"] = "run.finished"


ChunkEvent = (
    RunStarted | ChunkStarted | ChunkProgressed | ChunkFinished | MergeStarted | MergeFinished | Notice | RunFinished
)
#: Takes events as they happen, one at a time, from whichever thread they happen in. It must not raise.
EventSink = Callable[[ChunkEvent], None]
