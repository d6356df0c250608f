"""How far a chunk run is, how fast it goes, and how long it will take: measured in frames, not in chunks. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from logist.chunks import (
    ChunkEvent,
    ChunkFinished,
    ChunkId,
    ChunkProgressed,
    ChunkStarted,
    ChunkStatus,
    MergeFinished,
    MergeStarted,
    RunFinished,
    RunStarted,
)

#: Seconds of work that a speed is measured over: of one chunk, and of every chunk that may run at once.
CHUNK_SPAN = 10.0
RUN_SPAN = 30.0
#: Seconds of work without which a speed says nothing yet.
_LEAST_WORK = 1.0
#: Samples that fall into the same quarter of a second are kept as one.
_BUCKET = 0.25


class _Sample(NamedTuple):
    bucket: int
    frames: int
    seconds: float


class Rate:
    """Frames a second of one worker, over the newest samples that cover `span` seconds of its work."""

    def __init__(self, span: float) -> None:
        self._span = span
        self._samples: deque[_Sample] = deque()
        self._frames = 0
        self._seconds = 0.0

    def add(self, at: float, frames: int, seconds: float) -> None:
        """`frames` were made in `seconds` of work; `at` is when we heard of it."""
        bucket = int(at / _BUCKET)
        self._frames += frames
        self._seconds += seconds
        if self._samples and self._samples[-1].bucket == bucket:
            last = self._samples.pop()
            frames, seconds = frames + last.frames, seconds + last.seconds
        self._samples.append(_Sample(bucket, frames, seconds))
        while len(self._samples) > 1 and self._seconds - self._samples[0].seconds >= self._span:
            old = self._samples.popleft()
            self._frames -= old.frames
            self._seconds -= old.seconds

    def per_second(self, silence: float = 0.0) -> float | None:
        """The speed; None while too little was measured. `silence` are seconds of work that we heard nothing of yet."""
        seconds = self._seconds + silence
        return self._frames / seconds if self._frames and seconds >= _LEAST_WORK else None


@dataclass
class RunningChunk:
    """A chunk that runs. Times are on the monotonic clock."""

    chunk: ChunkId
    attempt: int
    frame_count: int
    began: float
    #: When we last heard of its frames.
    heard: float
    frames: int = 0
    #: Whether its command tells its progress.
    tells: bool = False
    #: When it was over; None while it runs.
    ended: float | None = None
    rate: Rate = field(default_factory=lambda: Rate(CHUNK_SPAN))

    def fps(self, now: float) -> float | None:
        """Its frames a second; None while they are unknown."""
        return self.rate.per_second(now - self.heard) if self.tells else None

    def left(self, now: float) -> float | None:
        """The seconds that it will take; None while nobody knows."""
        fps = self.fps(now)
        return (self.frame_count - self.frames) / fps if fps else None


class RunMeter:
    """Takes the events of a run, and knows where it is. `now` is always on the monotonic clock."""

    def __init__(self) -> None:
        self.spec = ""
        self.chunks = 0
        self.frames = 0
        self.began: float | None = None
        #: With those that were done before this run.
        self.done_chunks = 0
        self.failed_chunks = 0
        self.running: dict[ChunkId, RunningChunk] = {}
        #: When the merge began, None while there is none.
        self.merging: float | None = None
        self.finished = False
        self._concurrency = 1
        self._done_frames = 0
        self._failed_frames = 0
        self._rate = Rate(RUN_SPAN)
        self._accounted = 0.0

    @property
    def frames_done(self) -> int:
        """The frames that are there: of done chunks, and what the running ones have made so far."""
        return self._done_frames + sum(chunk.frames for chunk in self.running.values())

    def fps(self, now: float) -> float | None:
        """The frames a second of all that runs; None while they are unknown."""
        silence = sum(now - chunk.heard for chunk in self.running.values() if chunk.tells)
        each = self._rate.per_second(silence)
        return None if each is None else each * self._workers()

    def left(self, now: float) -> float | None:
        """The seconds until all frames are made that this run can still make; None while nobody knows."""
        fps = self.fps(now)
        return max(0, self.frames - self.frames_done - self._failed_frames) / fps if fps else None

    def take(self, event: ChunkEvent, now: float) -> None:
        """Count one event."""
        match event:
            case RunStarted():
                self._start(event, now)
            case ChunkStarted():
                self._account(now)
                self.running[event.chunk] = RunningChunk(event.chunk, event.attempt, event.frame_count, now, now)
            case ChunkProgressed():
                self._progress(event, now)
            case ChunkFinished():
                self._account(now)
                self._finish(event, now)
            case MergeStarted():
                self.merging = now
            case MergeFinished():
                self.merging = None
            case RunFinished():
                self.finished = True
                self.merging = None
                self.running.clear()

    def _start(self, event: RunStarted, now: float) -> None:
        self.spec, self.chunks, self.frames = event.spec, event.chunks, event.frames
        self.began = self._accounted = now
        self.done_chunks, self._done_frames = event.skipped_chunks, event.skipped_frames
        self._concurrency = max(1, event.concurrency)
        self._rate = Rate(RUN_SPAN * self._concurrency)

    def _workers(self) -> int:
        return max(0, min(self._concurrency, self.chunks - self.done_chunks - self.failed_chunks))

    def _account(self, now: float) -> None:
        """Time between two chunks is time too: many short chunks would else look faster than they are."""
        idle = (now - self._accounted) * (self._workers() - len(self.running))
        if idle > 0:
            self._rate.add(now, 0, idle)
        self._accounted = now

    def _progress(self, event: ChunkProgressed, now: float) -> None:
        chunk = self.running.get(event.chunk)
        if chunk is not None:
            chunk.tells = True
            self._credit(chunk, max(0, min(event.frames, chunk.frame_count)), now)

    def _finish(self, event: ChunkFinished, now: float) -> None:
        result = event.result
        chunk = self.running.pop(result.chunk, None)
        if result.status is ChunkStatus.DONE:
            if chunk is not None:
                self._credit(chunk, result.frame_count, now)
            self.done_chunks += 1
            self._done_frames += result.frame_count
        elif result.status is ChunkStatus.FAILED and result.retry_in is None:
            self.failed_chunks += 1
            self._failed_frames += result.frame_count
        if chunk is not None:
            chunk.ended = now

    def _credit(self, chunk: RunningChunk, frames: int, now: float) -> None:
        made = max(0, frames - chunk.frames)
        for rate in (chunk.rate, self._rate):
            rate.add(now, made, now - chunk.heard)
        chunk.frames, chunk.heard = frames, now
