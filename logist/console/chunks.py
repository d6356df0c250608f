"""Shows a chunk run as it goes on: in plain lines, or as JSON lines."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass, replace
from datetime import UTC
from typing import TextIO

from logist.chunks import (
    ChunkEvent,
    ChunkFinished,
    ChunkResult,
    ChunkStarted,
    ChunkStatus,
    MergeFinished,
    MergeResult,
    MergeStarted,
    Notice,
    RunFinished,
    RunReport,
    RunStarted,
)
from logist.clock import Clock, SystemClock
from logist.console import one_line
from logist.console.chunk_meter import RunMeter
from logist.console.chunk_tables import (
    chunk_name,
    count,
    done_frames,
    finished_words,
    fps_text,
    merged_words,
    started_words,
    tail_lines,
)
from logist.console.sinks import HEARTBEAT, STREAM_VERSION, Sink
from logist.durations import format_duration
from logist.plain_text import last_part, plain_values

#: In runs of more chunks than this a done chunk gets no line of its own: a line a second counts them.
MANY = 200
#: In runs of fewer chunks than this a line tells that one begins.
FEW = 20
#: Failures that are told with their last lines, and failures that are told at all; the rest is counted.
FAILURES_WITH_TAIL = 20
FAILURES_TOLD = 200
#: Seconds between two lines that count.
_COUNT_EVERY = 1.0
#: Characters of a tail, and failed chunks of a report, in the JSON stream.
_LONGEST_TAIL = 4_000
_MOST_FAILED = 100


class Failures:
    """How much is told of a failure: all of the first, a line of many, and then they are only counted."""

    def __init__(self) -> None:
        self._told = 0
        self._retried = 0

    def lines(self, result: ChunkResult) -> tuple[str, list[str]]:
        """The line that tells it and the lines below, both empty when it is one too many."""
        if result.retry_in is not None:
            self._retried += 1
            return self._bounded(result, self._retried), []
        self._told += 1
        return self._bounded(result, self._told), tail_lines(result.tail) if self._told <= FAILURES_WITH_TAIL else []

    def _bounded(self, result: ChunkResult, number: int) -> str:
        if number <= FAILURES_TOLD:
            return finished_words(result)
        return "further failures are only counted" if number == FAILURES_TOLD + 1 else ""


# --- Plain lines ---------------------------------------------------------------------------------------------------


class PlainChunks:
    """A line for what is worth keeping, on stderr: time, words for people, then `key=value` for programs."""

    def __init__(
        self,
        *,
        verbose: bool = False,
        stream: TextIO | None = None,
        clock: Clock | None = None,
        heartbeat: float = HEARTBEAT,
        always: Mapping[str, object] | None = None,
    ) -> None:
        #: What every line says to programs, beside its own.
        self._always = always or {}
        self._sink = Sink(stream or sys.stderr)
        self._verbose = verbose
        self._clock = clock or SystemClock()
        self._meter = RunMeter()
        self._failures = Failures()
        self._lock = threading.Lock()
        self._wrote = 0.0
        #: The done and the failed chunks that were last counted, and when.
        self._counted = (0, 0)
        self._counted_at = 0.0
        self._heartbeat = Ticker(heartbeat, self._tell_alive)
        self._silence = heartbeat

    def emit(self, event: ChunkEvent) -> None:
        """Show one event."""
        with self._lock:
            now = self._clock.monotonic()
            self._meter.take(event, now)
            self._show(event, now)

    def close(self) -> None:
        """Stop the sign of life."""
        self._heartbeat.stop(wait=True)

    def _show(self, event: ChunkEvent, now: float) -> None:
        match event:
            case RunStarted():
                self._counted, self._counted_at = (event.skipped_chunks, 0), now
                tail = {"chunks": event.chunks, "frames": event.frames, "skipped": event.skipped_chunks}
                self._line(started_words(event), event, tail | {"spec": event.spec, "state": event.state_dir})
                self._heartbeat.start()
            case ChunkStarted() if self._verbose or self._meter.chunks < FEW:
                again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
                words = f"{chunk_name(event.chunk)} begins{again}: {count(event.frame_count, 'frame')}"
                self._line(words, event, {"chunk": event.chunk, "attempt": event.attempt})
            case ChunkFinished():
                self._show_finished(event, now)
            case MergeStarted():
                self._count(now, at_once=True)
                self._line("merge begins", event, {"log": event.log} if event.log else {})
            case MergeFinished():
                self._line(merged_words(event.result), event, {"status": event.result.status})
                if event.result.status is ChunkStatus.FAILED:
                    self._below(tail_lines(event.result.tail), event, {})
            case Notice():
                self._line(one_line(event.message), event, {})
            case RunFinished():
                self._heartbeat.stop()
                self._count(now, at_once=True)
                words = f"{event.report.status.replace('_', ' ')}: {one_line(event.report.reason)}"
                ended = {"exit_code": str(event.exit_code), "duration": f"{event.report.duration:g}"}
                self._line(words, event, {"status": event.report.status, **ended})

    def _show_finished(self, event: ChunkFinished, now: float) -> None:
        result = event.result
        tail: dict[str, object] = {"chunk": result.chunk, "attempt": result.attempt, "status": result.status}
        if result.status is ChunkStatus.FAILED:
            words, below = self._failures.lines(result)
            if words:
                log = {"log": result.log} if result.log else {}
                self._line(words, event, tail | {"exit_code": result.exit_code} | log)
                self._below(below, event, {"chunk": result.chunk})
        elif self._verbose or self._meter.chunks <= MANY:
            self._line(finished_words(result), event, tail | {"duration": f"{result.duration:g}"})
            self._counted = self._state()
        self._count(now)

    def _state(self) -> tuple[int, int]:
        return self._meter.done_chunks, self._meter.failed_chunks

    def _count(self, now: float, *, at_once: bool = False) -> None:
        """Tell how many are done, when that has changed and was not told just now."""
        many = self._meter.chunks > MANY and not self._verbose
        if not many or self._counted == self._state() or not (at_once or now - self._counted_at >= _COUNT_EVERY):
            return
        self._counted, self._counted_at = self._state(), now
        self._tell_progress(now)

    def _tell_progress(self, now: float) -> None:
        meter = self._meter
        parts = [f"{meter.done_chunks:,} of {count(meter.chunks, 'chunk')} done"]
        parts += [f"{meter.failed_chunks:,} failed"] if meter.failed_chunks else []
        parts.append(f"{meter.frames_done:,} of {count(meter.frames, 'frame')}")
        parts.append(fps_text(meter.fps(now)))
        left = meter.left(now)
        parts.append(f"about {format_duration(left)} left" if left else "")
        merging = 0.0 if meter.merging is None else now - meter.merging
        parts.append(f"merging for {format_duration(merging)}" if merging else "")
        tail = {"done": meter.done_chunks, "failed": meter.failed_chunks, "running": len(meter.running)}
        self._write(", ".join(filter(None, parts)), "run.progress", tail)

    def _tell_alive(self) -> None:
        with self._lock:
            now = self._clock.monotonic()
            if now - self._wrote >= self._silence:
                self._tell_progress(now)

    def _below(self, lines: list[str], event: ChunkEvent, tail: Mapping[str, object]) -> None:
        for text in lines:
            self._write(f"│ {text}", f"{event.type.partition('.')[0]}.output", tail)

    def _line(self, words: str, event: ChunkEvent, tail: Mapping[str, object]) -> None:
        self._write(words, event.type, tail)

    def _write(self, words: str, kind: str, tail: Mapping[str, object]) -> None:
        self._wrote = self._clock.monotonic()
        pairs = " ".join(f"{key}={_quoted(one_line(str(value)))}" for key, value in {**self._always, **tail}.items())
        self._sink.write(f"{_timestamp(self._clock)}  {words}  type={kind}{pairs and ' '}{pairs}")


def _quoted(value: str) -> str:
    plain = value and value.isprintable() and not any(character in ' "=\\' for character in value)
    return value if plain else json.dumps(value, ensure_ascii=False)


def _timestamp(clock: Clock) -> str:
    return clock.now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Ticker:
    """Calls `tick` every `interval` seconds in a thread of its own, from `start` to `stop`."""

    def __init__(self, interval: float, tick: Callable[[], None]) -> None:
        self._interval = interval
        self._tick = tick
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._thread is None and not self._over.is_set():
            self._thread = threading.Thread(target=self._run, name="logist-chunk-display", daemon=True)
            self._thread.start()

    def stop(self, *, wait: bool = False) -> None:
        """End it for good; `wait` until a tick under way is over."""
        self._over.set()
        if wait and self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._interval):
            self._tick()


# --- JSON lines ----------------------------------------------------------------------------------------------------


class JsonChunks:
    """JSON Lines on stdout, one record an event; `run.finished` is the last."""

    def __init__(self, *, stream: TextIO | None = None, clock: Clock | None = None) -> None:
        self._sink = Sink(stream or sys.stdout)
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._seq = 0

    def emit(self, event: ChunkEvent) -> None:
        """Write one event as a record."""
        with self._lock:
            self._seq += 1
            head = {"v": STREAM_VERSION, "seq": self._seq, "ts": _timestamp(self._clock), "type": event.type}
            # ASCII, so that no terminal and no locale can make anything else of it.
            self._sink.write(json.dumps(head | _fields(event), ensure_ascii=True))

    def close(self) -> None:
        """Nothing is held."""


def _fields(event: ChunkEvent) -> dict[str, object]:
    return {name: plain_values(_json_value(value)) for name, value in event._asdict().items() if name != "type"}


def _json_value(value: object) -> object:
    if isinstance(value, RunReport):
        return _report_value(value)
    if isinstance(value, ChunkResult | MergeResult):
        return asdict(replace(value, tail=last_part(value.tail, _LONGEST_TAIL)))
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _report_value(report: RunReport) -> dict[str, object]:
    """A report without what the events before it have told: counts, the failed chunks, the merge."""
    failed = report.failed
    done = sum(result.status is ChunkStatus.DONE for result in report.results)
    return {
        "status": report.status,
        "reason": report.reason,
        "duration": report.duration,
        "done_chunks": done,
        "done_frames": done_frames(report),
        "skipped_chunks": len(report.skipped),
        "failed_chunks": len(failed),
        "stopped": report.stopped,
        "stopped_chunks": len(report.results) - done - len(failed),
        "failed": [asdict(replace(result, tail="")) for result in failed[:_MOST_FAILED]],
        "merge": None if report.merge is None else asdict(replace(report.merge, tail="")),
    }
