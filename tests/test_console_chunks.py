"""What people and programs see of a chunk run: bars, plain lines, JSON lines, the table of its chunks, the outcome."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_console import HOSTILE, Terminal, Written, assert_harmless

from logist import console
from logist.chunks import (
    ChunkEvent,
    ChunkFinished,
    ChunkId,
    ChunkProgressed,
    ChunkResult,
    ChunkStarted,
    ChunkStatus,
    Evidence,
    MergeFinished,
    MergeResult,
    MergeStarted,
    Notice,
    Output,
    RunFinished,
    RunReport,
    RunStarted,
)
from logist.console import chunks
from logist.console.chunk_bars import ChunkBars
from logist.console.chunk_display import ChunkDisplay, QuietChunks, open_chunk_display
from logist.console.chunk_meter import Rate, RunMeter
from logist.console.chunk_outcome import SpecWords, outcome_lines, stateless_lines, stateless_reason, status_lines
from logist.console.chunk_rows import footer_rows
from logist.console.chunk_tables import fps_text, size_text, summary_lines, summary_table, tail_lines
from logist.console.chunks import JsonChunks, PlainChunks
from logist.lease import Holder
from logist.lifecycle import JobStatus
from logist.spec_report import RunningNow, SpecStatus
from logist.testing import FakeClock

ROOT = Path(__file__).resolve().parents[1]
NOW = datetime(2026, 11, 21, 14, 22, 3, tzinfo=UTC)
TAIL = 'frame= 40\n\n\x1b[31mTraceback (most recent call last):\x1b[0m\n\tFile "render.py"\nRuntimeError: no GPU\n'


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC, and the terminal one of many colours."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TERM", "xterm-256color")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


#: How the commands of these tests name their spec.
NAMED = SpecWords("job.json", "job.json")

# --- Events --------------------------------------------------------------------------------------------------------


def begun(count: int = 3, **fields: object) -> RunStarted:
    """The start of a run of chunks of 120 frames, two at a time."""
    values: dict[str, object] = {
        "spec": "job.json",
        "chunks": count,
        "frames": 120 * count,
        "skipped_chunks": 0,
        "skipped_frames": 0,
        "concurrency": 2,
        "state_dir": ".logist/job",
    }
    return RunStarted(**{**values, **fields})


def started(chunk: ChunkId, attempt: int = 1, frames: int = 120) -> ChunkStarted:
    """The start of an attempt."""
    start = 120 * chunk if isinstance(chunk, int) else 0
    return ChunkStarted(chunk=chunk, attempt=attempt, start_frame=start, frame_count=frames, log="x.log")


def result(chunk: ChunkId, status: ChunkStatus = ChunkStatus.DONE, **fields: object) -> ChunkResult:
    """An attempt of 4.1 seconds at 120 frames; done means decoded."""
    done = status is ChunkStatus.DONE
    values: dict[str, object] = {
        "chunk": chunk,
        "start_frame": 120 * chunk if isinstance(chunk, int) else 0,
        "frame_count": 120,
        "attempt": 1,
        "status": status,
        "exit_code": 0 if done else 1,
        "signal": 0,
        "duration": 4.1,
        "problem": "" if done else "exit code 1",
        "output": output(f"out/{chunk}.mp4", Evidence.FRAMES) if done else None,
        "log": f"logs/{chunk}.log",
    }
    return ChunkResult(**{**values, **fields})


def output(path: str, evidence: Evidence, frames: int | None = 120) -> Output:
    """A verified file of 1.2 MB."""
    return Output(path, 1_234_567, "a" * 64, 0, evidence, frames)


def done(chunk: ChunkId, **fields: object) -> ChunkFinished:
    """A chunk that is done."""
    return ChunkFinished(result=result(chunk, **fields))


def failed(chunk: ChunkId, **fields: object) -> ChunkFinished:
    """An attempt that failed."""
    return ChunkFinished(result=result(chunk, ChunkStatus.FAILED, **{"tail": TAIL, **fields}))


MERGED = MergeResult(ChunkStatus.DONE, 0, 2.0, output=output("out/video.mp4", Evidence.FRAMES, 360), log="merge.log")
SUCCESS = RunReport(
    JobStatus.SUCCESS, "all 3 chunks are done and merged", (result(1), result(0), result(2)), (), MERGED, 12.0
)
FAILED = RunReport(
    JobStatus.INTERVENTION_REQUIRED,
    "chunk 1 failed: exit code 1",
    (result(1, ChunkStatus.FAILED, attempt=2, duration=0.6), result(0), result(2, ChunkStatus.STOPPED)),
    (3, 4),
    None,
    12.0,
)

RUN: tuple[ChunkEvent, ...] = (
    begun(skipped_chunks=1, skipped_frames=120, chunks=4, frames=480),
    Notice(message="PyAV is not installed"),
    started(0),
    started(1),
    ChunkProgressed(chunk=0, frames=60),
    failed(1, retry_in=2.0),
    done(0),
    started(2),
    started(1, attempt=2),
    failed(1, attempt=2),
    ChunkFinished(result=result(2, ChunkStatus.STOPPED)),
    RunFinished(report=FAILED, exit_code=5),
)
MERGING: tuple[ChunkEvent, ...] = (
    MergeStarted(log="merge.log"),
    MergeFinished(result=MERGED),
    RunFinished(report=SUCCESS, exit_code=0),
)


def tell(display: ChunkDisplay, events: Sequence[ChunkEvent]) -> None:
    """Give every event to the display, and close it."""
    for event in events:
        display.emit(event)
    display.close()


def plain_run(events: Sequence[ChunkEvent], *, verbose: bool = False) -> str:
    """What is written without a terminal."""
    stream = Written()
    tell(PlainChunks(verbose=verbose, stream=stream, clock=FakeClock(NOW)), events)
    return stream.getvalue()


def json_run(events: Sequence[ChunkEvent]) -> list[dict[str, object]]:
    """The records of the JSON stream."""
    stream = Written()
    tell(JsonChunks(stream=stream, clock=FakeClock(NOW)), events)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def words(text: str) -> list[str]:
    """The words of plain lines, without the time and what is for programs."""
    return [line.split("  ", 1)[1].rpartition("  ")[0] for line in text.splitlines()]


# --- Plain lines ---------------------------------------------------------------------------------------------------


def test_a_plain_run_is_one_line_an_event() -> None:
    at = "2026-11-21T14:22:03.000Z"
    assert plain_run((*RUN[:-1], *MERGING)) == "".join(
        f"{at}  {line}\n"
        for line in (
            "job.json: 4 chunks, 480 frames, 2 at a time; 1 chunk (120 frames) was done before  type=run.started "
            "chunks=4 frames=480 skipped=1 spec=job.json state=.logist/job",
            "PyAV is not installed  type=run.notice",
            "chunk 0 begins: 120 frames  type=chunk.started chunk=0 attempt=1",
            "chunk 1 begins: 120 frames  type=chunk.started chunk=1 attempt=1",
            "chunk 1 failed: exit code 1, again in 2s  "
            "type=chunk.finished chunk=1 attempt=1 status=failed exit_code=1 log=logs/1.log",
            "chunk 0 done: 120 frames in 4.1s, 29 fps  type=chunk.finished chunk=0 attempt=1 status=done duration=4.1",
            "chunk 2 begins: 120 frames  type=chunk.started chunk=2 attempt=1",
            "chunk 1 begins (attempt 2): 120 frames  type=chunk.started chunk=1 attempt=2",
            "chunk 1 failed (attempt 2): exit code 1  "
            "type=chunk.finished chunk=1 attempt=2 status=failed exit_code=1 log=logs/1.log",
            "│ frame= 40  type=chunk.output chunk=1",
            "│ Traceback (most recent call last):  type=chunk.output chunk=1",
            '│     File "render.py"  type=chunk.output chunk=1',
            "│ RuntimeError: no GPU  type=chunk.output chunk=1",
            "chunk 2 stopped after 4.1s  type=chunk.finished chunk=2 attempt=1 status=stopped duration=4.1",
            "merge begins  type=merge.started log=merge.log",
            "merged in 2s: out/video.mp4 (360 frames decoded, 1.2 MB)  type=merge.finished status=done",
            "SUCCESS: all 3 chunks are done and merged  type=run.finished status=SUCCESS exit_code=0 duration=12",
        )
    )


def test_a_merge_that_failed_is_told_with_its_last_lines() -> None:
    merge = MergeResult(ChunkStatus.FAILED, 1, 2.0, problem="exit code 1", tail=TAIL)

    assert words(plain_run([begun(), MergeFinished(result=merge)]))[1:3] == [
        "merge failed after 2s: exit code 1",
        "│ frame= 40",
    ]


@pytest.mark.parametrize(("count", "verbose", "told"), [(19, False, True), (20, False, False), (20, True, True)])
def test_chunks_that_begin_are_told_when_they_are_few(count: int, verbose: bool, told: bool) -> None:
    text = plain_run([begun(count), started(3)], verbose=verbose)

    assert ("chunk 3 begins" in text) is told


def test_very_many_chunks_are_counted_once_a_second() -> None:
    stream, clock = Written(), FakeClock(NOW)
    display = PlainChunks(stream=stream, clock=clock)
    display.emit(begun(2_000, frames=2_000))
    for chunk in range(2_000):
        clock.advance(0.0025)
        display.emit(started(chunk, frames=1))
        display.emit(failed(7, tail="", frame_count=1) if chunk == 7 else done(chunk, frame_count=1, duration=0.002))
    tell(display, MERGING)

    lines = words(stream.getvalue())
    assert lines[1] == "chunk 7 failed: exit code 1"
    assert lines[2:7] == [
        "399 of 2,000 chunks done, 1 failed, 399 of 2,000 frames, 399 fps, about 4s left",
        "799 of 2,000 chunks done, 1 failed, 799 of 2,000 frames, 399 fps, about 3s left",
        "1,199 of 2,000 chunks done, 1 failed, 1,199 of 2,000 frames, 400 fps, about 2s left",
        "1,599 of 2,000 chunks done, 1 failed, 1,599 of 2,000 frames, 400 fps, about 1s left",
        "1,999 of 2,000 chunks done, 1 failed, 1,999 of 2,000 frames",
    ]
    assert lines[7:] == [
        "merge begins",
        "merged in 2s: out/video.mp4 (360 frames decoded, 1.2 MB)",
        "SUCCESS: all 3 chunks are done and merged",
    ]


@pytest.mark.parametrize("then", [MERGING, MERGING[-1:]])
def test_the_last_count_is_told_before_what_comes_next(then: tuple[ChunkEvent, ...]) -> None:
    lines = words(plain_run([begun(201), *(done(chunk) for chunk in range(201)), *then]))

    assert lines[1] == "201 of 201 chunks done, 24,120 of 24,120 frames"
    assert len(lines) == 2 + len(then)


def test_very_many_chunks_are_told_one_by_one_when_asked() -> None:
    assert plain_run([begun(300), done(7)], verbose=True).count("chunk 7 done") == 1


def test_of_very_many_failures_the_first_are_told_in_full_and_the_last_are_counted() -> None:
    lines = words(plain_run([begun(1_000), *(failed(chunk) for chunk in range(1_000)), MERGING[-1]]))

    assert sum("failed: exit code 1" in line for line in lines) == chunks.FAILURES_TOLD
    assert sum(line.startswith("│") for line in lines) == 4 * chunks.FAILURES_WITH_TAIL
    assert lines[-3:-1] == [
        "further failures are only counted",
        "0 of 1,000 chunks done, 1,000 failed, 0 of 120,000 frames",
    ]


def test_a_silent_run_gives_a_sign_of_life() -> None:
    stream, clock = Written(), FakeClock(NOW)
    display = PlainChunks(stream=stream, clock=clock, heartbeat=0.01)
    for event in (begun(), started(0), started(1)):
        display.emit(event)
    clock.advance(8)
    display.emit(ChunkProgressed(chunk=0, frames=80))
    display.emit(ChunkProgressed(chunk=1, frames=80))
    clock.advance(8)
    sign = "  0 of 3 chunks done, 160 of 360 frames, 10 fps, about 20s left  type=run.progress "
    _await(lambda: sign in stream.getvalue())
    display.close()


def test_a_tail_is_bounded_in_lines_and_columns() -> None:
    lines = tail_lines("".join(f"{number} {'x' * 1_000}\r\n\n" for number in range(5_000)))

    assert len(lines) == 10
    assert lines[-1].startswith("4999 xxx")
    assert {len(line) for line in lines} == {300}


# --- The verdict alone --------------------------------------------------------------------------------------------


def quiet_run(events: Sequence[ChunkEvent]) -> str:
    """What a quiet run prints."""
    stream = Written()
    tell(QuietChunks(stream=stream), events)
    return stream.getvalue()


def test_a_quiet_run_prints_the_verdict_and_of_a_failure_the_log() -> None:
    assert quiet_run((begun(), *MERGING)) == "job.json: SUCCESS: all 3 chunks are done and merged\n"
    assert quiet_run(RUN) == "job.json: INTERVENTION REQUIRED: chunk 1 failed: exit code 1\nlog: logs/1.log\n"


def test_a_quiet_worker_without_a_log_prints_the_last_lines_of_its_failed_chunk() -> None:
    report = replace(FAILED, results=(result(1, ChunkStatus.FAILED, log="", tail=TAIL),))
    assert quiet_run((begun(), RunFinished(report=report, exit_code=5))).splitlines()[1:] == [
        "│ frame= 40",
        "│ Traceback (most recent call last):",
        '│     File "render.py"',
        "│ RuntimeError: no GPU",
    ]


# --- JSON lines ----------------------------------------------------------------------------------------------------


def test_the_json_stream_has_every_event_and_ends_with_the_exit_code() -> None:
    records = json_run((*RUN[:-1], *MERGING))

    assert [(record["v"], record["seq"], record["ts"], record["type"]) for record in records] == [
        (1, number, "2026-11-21T14:22:03.000Z", event.type)
        for number, event in enumerate((*RUN[:-1], *MERGING), start=1)
    ]
    assert records[0] == {
        "v": 1,
        "seq": 1,
        "ts": "2026-11-21T14:22:03.000Z",
        "type": "run.started",
        "spec": "job.json",
        "chunks": 4,
        "frames": 480,
        "skipped_chunks": 1,
        "skipped_frames": 120,
        "concurrency": 2,
        "state_dir": ".logist/job",
    }
    assert records[6]["result"]["status"] == "done"
    assert records[6]["result"]["output"]["evidence"] == "frames"
    assert records[-1]["exit_code"] == 0
    assert records[-1]["report"]["merge"]["output"]["path"] == "out/video.mp4"


def test_the_last_record_counts_what_the_others_told() -> None:
    results = [result(chunk) for chunk in range(5_000)]
    results += [result(chunk, ChunkStatus.FAILED, tail=TAIL) for chunk in range(5_000, 10_000)]
    report = replace(FAILED, results=tuple(results))
    [record] = json_run([RunFinished(report=report, exit_code=5)])

    told = record["report"]
    assert len(json.dumps(record)) < 60_000
    assert [(name, told[name]) for name in ("status", "done_chunks", "done_frames", "skipped_chunks")] == [
        ("status", "INTERVENTION_REQUIRED"),
        ("done_chunks", 5_000),
        ("done_frames", 600_000),
        ("skipped_chunks", 2),
    ]
    assert (told["failed_chunks"], told["stopped_chunks"]) == (5_000, 0)
    assert [chunk["chunk"] for chunk in told["failed"]] == list(range(5_000, 5_100))


def test_a_long_tail_is_cut_in_the_json_stream() -> None:
    [record] = json_run([failed(1, tail="x" * 1_000_000 + "end")])

    assert len(record["result"]["tail"]) == 4_000
    assert record["result"]["tail"].endswith("xend")


def test_lines_of_many_threads_stay_whole_and_numbered() -> None:
    stream = Written()
    display = JsonChunks(stream=stream, clock=FakeClock(NOW))
    threads = [threading.Thread(target=lambda: [display.emit(done(chunk)) for chunk in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [json.loads(line)["seq"] for line in stream.getvalue().splitlines()] == list(range(1, 801))


# --- Choosing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "terminal", "term", "expected"),
    [
        ("auto", True, "xterm", ChunkBars),
        ("tty", True, "xterm", ChunkBars),
        ("auto", True, "dumb", PlainChunks),
        ("tty", False, "xterm", PlainChunks),
        ("auto", False, "xterm", PlainChunks),
        ("plain", True, "xterm", PlainChunks),
        ("json", True, "xterm", JsonChunks),
        ("none", True, "xterm", QuietChunks),
    ],
)
def test_what_shows_a_run(
    progress: str, terminal: bool, term: str, expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else Written())

    with open_chunk_display(progress, environ={"TERM": term}) as sink:
        assert type(sink.__self__) is expected


def test_none_shows_the_verdict_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with open_chunk_display("none", environ=os.environ) as sink:
        for event in RUN:
            sink(event)

    out, err = capfd.readouterr()
    assert (out, err.splitlines()[0]) == ("", "job.json: INTERVENTION REQUIRED: chunk 1 failed: exit code 1")


@pytest.mark.parametrize("progress", ["plain", "json", "none", "auto"])
def test_without_a_terminal_rich_is_never_loaded(progress: str) -> None:
    code = f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}]
        from logist.chunks import Notice
        from logist.console.chunk_display import open_chunk_display
        with open_chunk_display({progress!r}, environ={{"TERM": "xterm"}}) as sink:
            sink(Notice(message="x"))
        assert "rich" not in sys.modules
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()


@pytest.mark.parametrize("kind", [PlainChunks, JsonChunks])
def test_a_reader_that_has_gone_does_not_stop_the_run(kind: Callable[..., ChunkDisplay]) -> None:
    stream = Written()
    stream.broken = True

    tell(kind(stream=stream), RUN)

    assert stream.getvalue() == ""


# --- How fast ------------------------------------------------------------------------------------------------------


class Farm:
    """Workers that make frames at a steady speed, on a clock of their own; `meter` is told as an executor would."""

    def __init__(self, meter: RunMeter, *, count: int, frames: int, workers: int, seconds: float, start: float) -> None:
        self.meter, self.now = meter, 1_000.0
        self.seconds, self.frames, self.start = seconds, frames, start
        self.queue = list(range(count))
        self.busy: dict[int, float] = {}
        self.workers = workers
        meter.take(begun(count, frames=count * frames, concurrency=workers), self.now)

    def run(self, until: float, step: float, *, tells: bool) -> Iterator[float]:
        """Go on for `until` seconds; yields after each step of time."""
        end = self.now + until
        while self.now < end and (self.queue or self.busy):
            while self.queue and len(self.busy) < self.workers:
                chunk = self.queue.pop(0)
                self.busy[chunk] = self.now
                self.meter.take(started(chunk, frames=self.frames), self.now)
            self.now += step
            for chunk, began in list(self.busy.items()):
                made = int(self.frames * max(0.0, self.now - began - self.start) / (self.seconds - self.start))
                if self.now - began >= self.seconds:
                    del self.busy[chunk]
                    self.meter.take(done(chunk, frame_count=self.frames), self.now)
                elif tells and made:
                    self.meter.take(ChunkProgressed(chunk=chunk, frames=made), self.now)
            yield self.now


@given(
    workers=st.integers(1, 8),
    seconds=st.sampled_from([2.0, 7.0, 31.0, 90.0]),
    start=st.sampled_from([0.0, 1.0]),
    tells=st.booleans(),
)
def test_the_speed_of_a_steady_farm_is_steady(workers: int, seconds: float, start: float, tells: bool) -> None:
    meter = RunMeter()
    farm = Farm(meter, count=30 * workers, frames=120, workers=workers, seconds=seconds, start=start)
    true = workers * 120 / seconds
    for now in farm.run(until=16 * seconds, step=seconds / 10, tells=tells):
        # Once as much was measured as a speed is taken from, or a few chunks.
        if now - 1_000 > 6 * seconds:
            fps, left = meter.fps(now), meter.left(now)
            assert fps == pytest.approx(true, rel=0.15)
            assert left == pytest.approx((meter.frames - meter.frames_done) / fps)


def test_time_between_short_chunks_counts() -> None:
    meter, now = RunMeter(), 0.0
    meter.take(begun(1_000, frames=1_000, concurrency=1), now)
    for chunk in range(500):
        meter.take(started(chunk, frames=1), now)
        meter.take(done(chunk, frame_count=1), now + 0.002)
        now += 0.01

    assert meter.fps(now) == pytest.approx(100, rel=0.02)


def test_what_was_done_before_is_not_taken_for_speed() -> None:
    meter = RunMeter()
    meter.take(begun(10, skipped_chunks=8, skipped_frames=960, concurrency=1), 0)
    meter.take(started(8), 0)
    meter.take(ChunkProgressed(chunk=8, frames=60), 6)

    assert meter.frames_done == 1_020
    assert meter.fps(6) == pytest.approx(10)
    assert meter.left(6) == pytest.approx(18)


def test_frames_of_an_attempt_that_failed_are_made_again() -> None:
    meter = RunMeter()
    meter.take(begun(1, concurrency=1), 0)
    meter.take(started(0), 0)
    meter.take(ChunkProgressed(chunk=0, frames=100), 10)
    meter.take(failed(0, retry_in=0.0), 10)

    assert (meter.frames_done, meter.left(10)) == (0, pytest.approx(12))
    meter.take(started(0, attempt=2), 10)
    meter.take(failed(0, attempt=2), 11)
    assert (meter.failed_chunks, meter.left(11)) == (1, None)


def test_a_chunk_that_hangs_gets_slower() -> None:
    meter = RunMeter()
    meter.take(begun(2, concurrency=1), 0)
    meter.take(started(0), 0)
    meter.take(ChunkProgressed(chunk=0, frames=50), 5)
    chunk = meter.running[0]

    assert (chunk.fps(5), chunk.left(5)) == (pytest.approx(10), pytest.approx(7))
    assert chunk.fps(45) < 1.2
    assert meter.fps(45) < 1.2


def test_a_speed_is_that_of_the_last_seconds() -> None:
    rate = Rate(10.0)
    for second in range(100):
        rate.add(second, 1 if second < 50 else 30, 1.0)

    assert rate.per_second() == pytest.approx(30)


text = st.one_of(st.just(HOSTILE), st.just("\udcff\x85\u2028"), st.text(max_size=20))
chunk = st.one_of(st.integers(0, 4), text)
number, seconds = st.integers(0, 300), st.floats(0, 1e6)


def any_result() -> st.SearchStrategy[tuple[ChunkResult, MergeResult, RunReport]]:
    """Results, sensible or not, with hostile text wherever somebody else wrote it."""
    found = st.builds(Output, text, number, text, number, st.sampled_from(Evidence), st.none() | number)
    tried = st.builds(
        ChunkResult,
        chunk=chunk,
        start_frame=number,
        frame_count=number,
        attempt=st.integers(1, 3),
        status=st.sampled_from(ChunkStatus),
        exit_code=st.none() | number,
        signal=number,
        duration=seconds,
        problem=text,
        output=st.none() | found,
        log=text,
        tail=text,
        retry_in=st.none() | seconds,
    )
    merged = st.builds(
        MergeResult, st.sampled_from(ChunkStatus), st.none() | number, seconds, text, st.none() | found, text, text
    )
    report = st.builds(
        RunReport,
        st.sampled_from(JobStatus),
        text,
        st.lists(tried, max_size=3).map(tuple),
        st.lists(chunk, max_size=3).map(tuple),
        st.none() | merged,
        seconds,
    )
    return st.tuples(tried, merged, report)


def any_event() -> st.SearchStrategy[ChunkEvent]:
    """An event, sensible or not, with hostile text wherever somebody else wrote it."""
    return st.one_of(
        st.builds(
            RunStarted,
            spec=text,
            chunks=st.sampled_from([0, 3, 25, 300]),
            frames=number,
            skipped_chunks=st.integers(0, 4),
            skipped_frames=number,
            concurrency=st.integers(0, 4),
            state_dir=text,
        ),
        st.builds(ChunkStarted, chunk=chunk, attempt=number, start_frame=number, frame_count=number, log=text),
        st.builds(ChunkProgressed, chunk=chunk, frames=st.integers(-5, 500)),
        st.builds(ChunkFinished, result=any_result().map(lambda results: results[0])),
        st.builds(MergeStarted, log=text),
        st.builds(MergeFinished, result=any_result().map(lambda results: results[1])),
        st.builds(Notice, message=text),
        st.builds(RunFinished, report=any_result().map(lambda results: results[2]), exit_code=number),
    )


event_lists = st.lists(any_event(), max_size=25)


@given(events=event_lists)
def test_what_is_done_is_never_less_than_nothing_and_an_end_is_never_before_now(events: list[ChunkEvent]) -> None:
    meter = RunMeter()
    for now, event in enumerate(events):
        meter.take(event, now)
        left = meter.left(now)
        assert meter.frames_done >= 0
        assert all(0 <= chunk.frames <= chunk.frame_count for chunk in meter.running.values())
        assert left is None or left >= 0


# --- The rows of the bars ------------------------------------------------------------------------------------------


def drawn(rows: Sequence[console.Line]) -> list[str]:
    """The rows without their colours."""
    return ["".join(span.text for span in row) for row in rows]


def half_way() -> RunMeter:
    """A run of four chunks after 6 seconds: one done, one failed, one that tells its frames, one that doesn't."""
    meter = RunMeter()
    meter.take(begun(4, concurrency=2), 0)
    for chunk in (0, 1):
        meter.take(started(chunk), 0)
    meter.take(done(0), 3)
    meter.take(failed(1), 3)
    meter.take(started(2), 3)
    meter.take(started("intro", attempt=2), 3)
    meter.take(ChunkProgressed(chunk=2, frames=60), 6)
    return meter


def test_a_row_for_all_and_one_for_each_chunk_that_runs() -> None:
    meter = half_way()

    assert drawn(footer_rows(meter, list(meter.running.values()), 6, 110, 24)) == [
        f"1/4 chunks    {'━' * 15}{'─' * 25}  180/480  60 fps  00:03 left    1 failed",
        f"  chunk 2     {'━' * 20}{'─' * 20}   60/120  20 fps  00:03 left",
        f"  chunk intro {'─' * 12}{'━' * 10}{'─' * 18}    –/120          00:03 so far  attempt 2",
    ]


@pytest.mark.parametrize(
    ("width", "rows"),
    [
        (
            60,
            (
                "1/4 chunks    ━━━━━──────────  180/480  00:03  1 failed",
                "  chunk 2     ━━━━━━━────────   60/120  00:03",
            ),
        ),
        (48, ("1/4 chunks    ━━━━───────  180/480  1 failed", "  chunk 2     ━━━━━──────   60/120")),
        (40, ("1/4 chunks   ━───  180/480  1 failed", "  chunk 2    ━━──   60/120")),
        (30, ("1/4 chunks   180/480  1 f…", "  chunk 2     60/120")),
    ],
)
def test_the_narrower_the_terminal_the_less_stands_beside_a_bar(width: int, rows: tuple[str, str]) -> None:
    meter = half_way()

    assert tuple(drawn(footer_rows(meter, list(meter.running.values()), 6, width, 24))[:2]) == rows


def test_chunks_for_which_there_is_no_row_are_counted() -> None:
    meter = RunMeter()
    meter.take(begun(30, concurrency=16), 0)
    for chunk in range(16):
        meter.take(started(chunk), 0)
    rows = drawn(footer_rows(meter, list(meter.running.values()), 1, 80, 8))

    assert len(rows) == 7
    assert rows[-2].startswith("  chunk 4 ")
    assert rows[-1] == "  and 11 more"


def test_a_merge_has_a_row_of_its_own() -> None:
    meter = RunMeter()
    meter.take(begun(1), 0)
    meter.take(done(0), 1)
    meter.take(MERGING[0], 2)
    rows = drawn(footer_rows(meter, [], 67, 80, 24))

    assert re.fullmatch("merge      [─━]{34} +01:05 so far", rows[1])


@given(events=event_lists, width=st.integers(1, 130), height=st.integers(1, 20))
def test_rows_fit_into_any_terminal(events: list[ChunkEvent], width: int, height: int) -> None:
    meter = RunMeter()
    for now, event in enumerate(events):
        meter.take(event, now)
        rows = footer_rows(meter, list(meter.running.values()), now, width, height)
        assert 1 <= len(rows) <= max(1, height - 1)
        assert all(console.line_width(row) <= max(1, width - 4) for row in rows)


# --- Bars on a terminal --------------------------------------------------------------------------------------------


class Screen(Written):
    """A terminal that wraps what is too wide, and wraps it anew when its width changes, as most do."""

    def __init__(self, width: int, height: int = 24) -> None:
        super().__init__()
        self.width, self.height = width, height
        #: The rows, and whether each goes on in the next one.
        self.rows: list[tuple[str, bool]] = [("", False)]
        self.row = self.column = 0
        self.cut = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        whole, begun, rest = (self.cut + text).rpartition("\x1b")
        # A sequence may come in two pieces.
        self.cut = begun + rest if begun and not re.match(r"\[\??[0-9;]*[a-zA-Z]", rest) else ""
        for sign in re.findall(r"\x1b\[\??[0-9;]*[a-zA-Z]|[^\x1b]", whole if self.cut else whole + begun + rest):
            self._take(sign)
        return super().write(text)

    def _take(self, sign: str) -> None:
        match sign[0] + sign[-1] if sign.startswith("\x1b") else sign:
            case "\n":
                self._down(goes_on=False)
                self.column = 0
            case "\r":
                self.column = 0
            case "\x1bA":
                self.row = max(0, len(self.rows) - self.height, self.row - int(sign[2:-1] or 1))
            case "\x1bK":
                self.rows[self.row] = ("", False)
            case text if not sign.startswith("\x1b"):
                if self.column == self.width:
                    self._down(goes_on=True)
                    self.column = 0
                row, goes_on = self.rows[self.row]
                self.rows[self.row] = (row[: self.column].ljust(self.column) + text + row[self.column + 1 :], goes_on)
                self.column += 1

    def _down(self, *, goes_on: bool) -> None:
        self.rows[self.row] = (self.rows[self.row][0], goes_on)
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append(("", False))

    def resize(self, width: int) -> None:
        """Wrap all rows anew; the cursor stays behind the character that it was behind."""
        lines, above = [""], 0
        for number, (text, goes_on) in enumerate(self.rows):
            if number == self.row:
                above, behind = len(lines) - 1, len(lines[-1]) + self.column
            lines[-1] += text
            lines += [] if goes_on else [""]
        self.width, self.rows = width, []
        for number, text in enumerate(lines[:-1]):
            if number == above:
                last = max(0, behind - 1)
                self.row, self.column = len(self.rows) + last // width, last % width + min(1, behind)
            pieces = [text[start : start + width] for start in range(0, max(1, len(text)), width)]
            self.rows += [(piece, place + 1 < len(pieces)) for place, piece in enumerate(pieces)]

    def shown(self) -> list[str]:
        """The rows down to the last one that is not empty."""
        return "\n".join(text.rstrip() for text, _ in self.rows).rstrip("\n").split("\n")


class Bars:
    """Bars on a screen, drawn when a test says so, on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, width: int, height: int = 24, **settings: object) -> None:
        self._monkeypatch = monkeypatch
        self.screen, self.clock = Screen(width, height), FakeClock(NOW)
        self.resize(width)
        self.display = ChunkBars(environ={}, stream=self.screen, clock=self.clock, interval=None, **settings)

    def resize(self, width: int) -> None:
        """Make the terminal wider or narrower."""
        size = os.terminal_size((width, self.screen.height))
        self._monkeypatch.setattr(os, "get_terminal_size", lambda _fd=0: size)
        self.screen.resize(width)

    def after(self, seconds: float, *events: ChunkEvent) -> list[str]:
        """What is on the screen when the events came after so long."""
        self.clock.advance(seconds)
        for event in events:
            self.display.emit(event)
        self.display.tick()
        return self.screen.shown()


def test_failures_are_told_above_the_bars_and_the_bars_are_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = Bars(monkeypatch, 100)
    bars.after(0.0, *RUN[:4])
    shown = bars.after(1.0, *RUN[4:6])
    end = bars.after(1.0, *RUN[6:])
    bars.display.close()

    assert shown == [
        "14:22:03  job.json: 4 chunks, 480 frames, 2 at a time; 1 chunk (120 frames) was done before",
        "14:22:03  PyAV is not installed",
        "14:22:04  chunk 1 failed: exit code 1, again in 2s",
        f"1/4 chunks {'━' * 15}{'─' * 25}  180/480  120 fps  00:02 left",
        f"  chunk 0  {'━' * 20}{'─' * 20}   60/120   60 fps  00:01 left",
    ]
    assert end[-1].startswith("2/4 chunks")
    assert (
        end[3:-1]
        == bars.screen.shown()[3:]
        == [
            "14:22:05  chunk 1 failed (attempt 2): exit code 1",
            "          │ frame= 40",
            "          │ Traceback (most recent call last):",
            '          │     File "render.py"',
            "          │ RuntimeError: no GPU",
            "          log: logs/1.log",
        ]
    )


def test_a_run_of_short_chunks_draws_no_bars_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = Bars(monkeypatch, 100)
    at_once = bars.after(0.0, begun(2_000, frames=2_000))
    for chunk in range(40):
        shown = bars.after(0.025, started(chunk, frames=1), done(chunk, frame_count=1))
        if chunk < 10:
            at_once = shown

    assert at_once == [""]
    assert shown == [f"   40/2,000 chunks {'─' * 40}     40/2,000  40 fps  00:48 left"]


def test_a_chunk_takes_the_row_of_one_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = Bars(monkeypatch, 100)
    bars.after(0.0, begun(9), started(0), started(1))
    names = []
    for seconds, events in [
        (1.0, ()),
        (0.1, (done(0), started(2))),
        (0.2, ()),
        (0.2, ()),
        (1.0, (done(1),)),
        (0.6, ()),
    ]:
        names.append([row.split()[1] for row in bars.after(seconds, *events)[1:]])

    assert names == [["0", "1"], ["0", "1"], ["0", "1"], ["2", "1"], ["2", "1"], ["2"]]


def test_done_chunks_leave_a_line_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    run = (begun(), started(0), done(0), MERGING[1])
    quiet, verbose = Bars(monkeypatch, 100), Bars(monkeypatch, 100, verbose=True)
    for bars in (quiet, verbose):
        tell(bars.display, run)

    assert quiet.screen.shown() == [""]
    assert verbose.screen.shown() == [
        "14:22:03  job.json: 3 chunks, 360 frames, 2 at a time",
        "14:22:03  chunk 0 done: 120 frames in 4.1s, 29 fps",
        "14:22:03  merged in 2s: out/video.mp4 (360 frames decoded, 1.2 MB)",
    ]


def test_a_merge_that_failed_is_told_above_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = Bars(monkeypatch, 100)
    merge = MergeResult(ChunkStatus.FAILED, 1, 2.0, problem="no output", log="merge.log", tail="x\n")
    tell(bars.display, (begun(), MergeFinished(result=merge)))

    assert bars.screen.shown() == [
        "14:22:03  merge failed after 2s: no output",
        "          │ x",
        "          log: merge.log",
    ]


def test_bars_that_a_narrower_terminal_has_wrapped_are_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = Bars(monkeypatch, 100)
    bars.after(0.0, begun(), Notice(message="a line that stays"), started(0), started(1))
    for width in (100, 61, 33, 20, 9, 47, 100, 40):
        bars.resize(width)
        shown = bars.after(1.0, ChunkProgressed(chunk=0, frames=10))

        told = "14:22:03  a line that stays"
        assert "".join(shown).replace(" ", "").startswith(told.replace(" ", "")), shown
        assert len(shown) == -(-len(told) // width) + 3, shown
    bars.display.close()

    assert bars.screen.shown() == ["14:22:03  a line that stays"]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 3), (40, 5), (41, 2), (133, 50)])
def test_nothing_tears_on_a_terminal_of_an_odd_size(width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bars = Bars(monkeypatch, width, height)
    bars.after(0.0, begun(100, concurrency=60))
    for chunk in range(60):
        bars.after(0.2, started(chunk), failed(chunk - 20, tail="") if chunk > 50 else started(chunk))
    bars.display.close()

    told = "".join("".join(bars.screen.shown()).split())
    assert told.replace("14:22:13", "").count("failed:exitcode1") == 9
    assert "━" not in told
    assert "chunks" not in told


def test_the_cursor_is_never_left_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = Bars(monkeypatch, 80)
    bars.after(0.0, begun(), started(0))
    bars.after(1.0)
    written = bars.screen.getvalue()
    bars.display.close()

    assert written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l") > -1
    assert "\x1b[?25l" not in bars.screen.getvalue()[len(written) :]


def test_without_colour_the_bars_send_none(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(100)
    monkeypatch.setenv("COLUMNS", "100")
    tell(ChunkBars(environ={"NO_COLOR": "1"}, stream=screen, interval=None), RUN)

    assert "chunk 1 failed" in screen.getvalue()
    assert not re.search(r"\x1b\[(3|4|9|10)[0-9]", screen.getvalue())


def test_without_utf_8_the_bars_are_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = Bars(monkeypatch, 100)
    bars.screen.encoding = "ascii"
    display = ChunkBars(environ={}, stream=bars.screen, clock=bars.clock, interval=None)
    for event in RUN[:5]:
        display.emit(event)
    bars.clock.advance(1)
    display.tick()
    display.close()

    assert bars.screen.getvalue().isascii()
    assert "==========" in bars.screen.getvalue()


def test_a_terminal_that_has_gone_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = Bars(monkeypatch, 100)
    bars.after(1.0, *RUN[:4])
    bars.screen.broken = True
    bars.after(1.0, *RUN[4:])
    bars.display.close()


def test_a_terminal_that_does_not_read_slows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    blocked, free = threading.Event(), threading.Event()

    class Stopped(Screen):
        def write(self, text: str) -> int:
            blocked.set()
            assert free.wait(30)
            return super().write(text)

    monkeypatch.setenv("COLUMNS", "100")
    screen = Stopped(100)
    display = ChunkBars(environ={}, stream=screen, interval=0.001)
    display.emit(Notice(message="first"))
    assert blocked.wait(30)
    for chunk in range(10_000):
        display.emit(Notice(message=f"notice {chunk}"))
    free.set()
    display.close()

    assert "notice 9999" in screen.shown()[-1]
    assert len(screen.shown()) <= 2_001


_ALLOWED = re.compile(r"\x1b\[(\?25[lh]|[0-9]*A|2K|[0-9;]*m)|\r")


@given(events=event_lists, width=st.sampled_from([1, 40, 100]))
def test_hostile_text_never_reaches_a_terminal_a_log_or_a_program(events: list[ChunkEvent], width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        bars = Bars(patch, width, verbose=True)
        for event in events:
            bars.after(0.4, event)
        bars.display.close()
    assert_harmless(_ALLOWED.sub("", bars.screen.getvalue()))
    assert_harmless(plain_run(events))
    assert_harmless(plain_run(events, verbose=True))
    told = "".join(json.dumps(record, ensure_ascii=False) for record in json_run(events))
    assert not re.search("\\\\u00[01789]|[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", told.replace("\\n", ""))
    for event in events:
        if isinstance(event, RunFinished):
            lines = [
                *summary_lines(event.report, width),
                *outcome_lines(event.report, SpecWords(HOSTILE, HOSTILE, HOSTILE, HOSTILE, state_dir=HOSTILE), width),
            ]
            assert_harmless(console.paint(lines, color=True))


# --- The table and the outcome -------------------------------------------------------------------------------------


RUNNING = SpecStatus(
    spec="job.json",
    state_dir="",
    status=JobStatus.RUNNING,
    reason="process 7 runs it",
    chunks=8,
    done=5,
    failed=1,
    running=(RunningNow(3, 1, 75.0, 120), RunningNow("intro", 2, 0.4)),
    frames=960,
    frames_done=600,
    runner=Holder(pid=7),
    report=RunReport(JobStatus.RUNNING, "process 7 runs it", (result(1, ChunkStatus.FAILED),), (0,), None, 80.0),
    results=(result(0), result(1, ChunkStatus.FAILED)),
)


def status_text(status: SpecStatus, words: SpecWords, width: int | None = None) -> str:
    """Where a spec stands, without colour."""
    return console.paint(status_lines(status, words, width), color=False)


def test_the_status_of_a_running_spec_names_what_runs_and_since_when() -> None:
    assert status_text(RUNNING, NAMED) == (
        "5 of 8 chunks are done (600 of 960 frames), 1 failed, 2 running\n"
        "  chunk 3 runs for 1m15s, 120 frames\n"
        "  chunk intro (attempt 2) runs for 0.4s\n"
        "chunk  frames  attempts  time  fps  status\n"
        "    0     120         1  4.1s   29  done\n"
        "    1     120         1  4.1s    –  failed: exit code 1\n"
        "this run: 0 chunks done, 1 failed, 1 done before: 0 frames in 1m20s\n"
        "\n"
        " RUNNING   process 7 runs it\n"
        "log: logs/1.log\n"
        "\n"
        "  logist job pause job.json   stop it once its running chunks have ended\n"
        "  logist job cancel job.json  stop it now; what is done is kept\n"
    )


def test_the_status_of_a_spec_that_was_not_run_says_how_large_it_is() -> None:
    report = RunReport(JobStatus.PENDING, "it was not run yet", (), (), None, 0.0)
    status = replace(RUNNING, ran=False, done=0, failed=0, running=(), runner=None, report=report, results=())

    assert status_text(status, NAMED) == ("8 chunks, 960 frames; not run yet\n\n  logist job run job.json  runs it\n")
    broken = replace(status, chunks=0, frames=0, problem="job.json is not JSON")
    assert status_text(broken, SpecWords("")) == "not run yet\nthe spec can't be read: job.json is not JSON\n"


def test_the_status_says_what_the_next_run_makes_anew() -> None:
    status = replace(RUNNING, running=(), runner=None, report=SUCCESS, changed=True, missing=2, merge_missing=True)
    text = status_text(status, replace(NAMED, merged="out/video.mp4"))

    assert "the spec was changed since its last run; the next run makes anew what that concerns\n" in text
    assert "2 outputs of done chunks are gone or changed: the next run makes them anew\n" in text
    assert "the merged file is gone or changed: the next run merges again\n" in text
    assert "the merged file is out/video.mp4" not in text
    assert text.endswith("\n  logist job run job.json  makes that anew\n")


def test_the_table_of_a_small_run_has_every_chunk() -> None:
    weaker = (
        replace(SUCCESS.results[0], output=output("out/1.mp4", Evidence.FILE, None), attempt=3),
        replace(SUCCESS.results[1], output=None),
        result(10, ChunkStatus.FAILED, problem="it exited with 0, but out/10.mp4 is not there"),
        result(2, ChunkStatus.STOPPED, duration=0.0),
    )
    report = replace(SUCCESS, results=weaker, skipped=(3, 4))
    lines = summary_lines(report, None, can_decode=False)

    assert console.paint(lines, color=False) == (
        "chunk  frames  attempts  time  fps  status\n"
        "    0     120         1  4.1s   29  done, exit code only\n"
        "    1     120         3  4.1s   29  done, not decoded\n"
        "    2     120         1    0s    –  stopped\n"
        "   10     120         1  4.1s    –  failed: it exited with 0, but out/10.mp4 is not there\n"
        "2 chunks done, 1 failed, 1 stopped, 2 done before: 240 frames in 12s, 20 fps\n"
        "1 chunk not decoded: install logist[render]\n"
        "1 chunk checked by exit code only: the spec names no output\n"
        "merged in 2s: out/video.mp4 (360 frames decoded, 1.2 MB)\n"
    )
    assert "1 chunk not decoded: no video\n" in console.paint(summary_lines(report, None, can_decode=True), color=False)


def test_the_table_of_a_narrow_terminal_keeps_what_matters() -> None:
    named = replace(FAILED, results=(*FAILED.results, result("intro")))

    assert summary_table(named, width=40) == (
        "chunk  frames  time  status\n"
        "0         120  4.1s  done\n"
        "intro     120  4.1s  done\n"
        "1         120  0.6s  failed: exit code 1\n"
        "2         120  4.1s  stopped\n"
        "2 chunks done, 1 failed, 1 stopped, 2\n"
        "done before: 240 frames in 12s, 20 fps"
    )


def test_the_table_of_very_many_chunks_has_the_failed_and_the_slowest() -> None:
    results = [result(chunk, duration=chunk / 1_000) for chunk in range(5_000)]
    results[70:72] = [result(71, ChunkStatus.FAILED), result(70, ChunkStatus.FAILED)]
    text = summary_table(replace(FAILED, results=tuple(results), skipped=(), duration=50.0), width=80)

    assert [line.split()[0] for line in text.splitlines()] == [
        *("chunk", "70", "71", "4999", "4998", "4997", "4996", "4995"),
        *("and", "4,998"),
    ]
    assert text.splitlines()[-2:] == [
        "and 4,993 more",
        "4,998 chunks done, 2 failed: 599,760 frames in 50s, 11,995 fps",
    ]


def test_a_table_of_nothing_but_failures_is_bounded() -> None:
    results = tuple(result(chunk, ChunkStatus.FAILED) for chunk in range(5_000))

    assert len(summary_lines(replace(FAILED, results=results), None)) == 23


def test_a_run_without_chunks_is_only_summed_up() -> None:
    report = replace(SUCCESS, results=(), skipped=(0, 1, 2), merge=None, duration=0.0)

    assert summary_table(report, width=80) == "nothing to do: 3 chunks were done before"
    merged = replace(report, merge=MERGED)
    assert summary_table(merged, width=80).startswith("3 chunks were done before\nmerged in 2s: ")


@pytest.mark.parametrize(
    ("evidence", "facts"),
    [
        (output("v.mp4", Evidence.FRAMES, 360), "(360 frames decoded, 1.2 MB)"),
        (output("v.mp4", Evidence.FILE, None), "(not decoded, 1.2 MB)"),
        (output("v.mp4", Evidence.EXIT, None), "(exit code only)"),
        (None, "(exit code only)"),
    ],
)
def test_what_was_verified_of_the_merged_file_is_in_the_last_line(evidence: Output | None, facts: str) -> None:
    report = replace(SUCCESS, merge=replace(MERGED, output=evidence))

    assert summary_table(report, width=None).splitlines()[-1].endswith(facts)


def outcome(report: RunReport, words: SpecWords | None = None, width: int | None = None) -> str:
    """The outcome without colour."""
    return console.paint(outcome_lines(report, words or NAMED, width), color=False)


def test_a_success_says_where_the_merged_file_is() -> None:
    assert outcome(SUCCESS) == (" SUCCESS   all 3 chunks are done and merged\nthe merged file is out/video.mp4\n")
    again = replace(SUCCESS, results=(), skipped=(0, 1, 2), merge=None)
    assert outcome(again, replace(NAMED, merged="film/all.mp4")).endswith("\nthe merged file is film/all.mp4\n")


def test_the_end_of_a_run_names_its_logs_once() -> None:
    assert outcome(SUCCESS, replace(NAMED, state_dir=".logist/job.json")).endswith(
        "\nall logs: .logist/job.json/chunks; a line for each try: .logist/job.json/joblog.tsv\n"
    )


def test_a_failure_says_how_to_try_the_chunk_alone_and_how_to_go_on() -> None:
    assert outcome(FAILED, replace(NAMED, run="job.json --allow-outside")) == (
        " INTERVENTION REQUIRED   chunk 1 failed: exit code 1\n"
        "log: logs/1.log\n"
        "\n"
        "  logist job run job.json --allow-outside            goes on: what is done is not done again\n"
        "  logist job run job.json --allow-outside --chunk 1  try just that one; it is not recorded\n"
        "  logist job log job.json --chunk 1                  all that it printed\n"
    )


def test_a_spec_that_can_not_be_named_is_not_named() -> None:
    words = SpecWords("", "spec-1.json", "run the same command with the same spec")
    assert outcome(FAILED, words).splitlines()[3:] == [
        "run the same command with the same spec",
        "  logist job log spec-1.json --chunk 1  all that it printed",
    ]


def test_a_worker_without_state_speaks_of_its_own_chunks_only() -> None:
    done = RunReport(JobStatus.SUCCESS, stateless_reason([3]), (result(3),), (), None, 1.0)
    assert console.paint(stateless_lines(done, [3], NAMED), color=False) == (
        " DONE   chunk 3 is done; it is not recorded: --chunk reads and writes no state\n"
        "\n"
        "  logist job run job.json --merge-only  once all chunks are there, whoever made them\n"
    )
    failed = replace(FAILED, results=(result(0), result(1, ChunkStatus.FAILED, log="")), skipped=())
    text = console.paint(stateless_lines(failed, [0, 1, "intro"], NAMED), color=False)
    assert text.splitlines()[1:] == [
        "",
        "  logist job run job.json --chunk 1 --chunk intro  try again; it is not recorded",
    ]
    assert stateless_reason([0, 2]).startswith("chunks 0, 2 are done; they are not recorded")


def test_on_a_narrow_terminal_explanations_stand_below_their_commands() -> None:
    assert outcome(FAILED, width=44).splitlines()[:7] == [
        " INTERVENTION REQUIRED",
        "chunk 1 failed: exit code 1",
        "log: logs/1.log",
        "",
        "  logist job run job.json",
        "      goes on: what is done is not done",
        "      again",
    ]


def test_a_reason_beside_its_verdict_is_set_below_itself() -> None:
    assert outcome(replace(FAILED, reason="chunk 1 failed: " + "x" * 12), width=50).splitlines()[:2] == [
        " INTERVENTION REQUIRED   chunk 1 failed:",
        " " * 25 + "x" * 12,
    ]


def test_of_many_failed_chunks_some_are_named() -> None:
    results = tuple(result(chunk, ChunkStatus.FAILED) for chunk in reversed(range(1_200)))
    text = outcome(replace(FAILED, results=results))

    assert "\nfailed: 0, 1, 2, 3, 4, 5, 6, 7 and 1,192 more\nlog: logs/0.log\n" in text
    assert "--chunk 0  try just this one; it is not recorded\n" in text


def test_a_merge_that_failed_can_be_tried_alone() -> None:
    merge = MergeResult(ChunkStatus.FAILED, 1, 2.0, problem="no output", log="merge.log")
    text = outcome(replace(FAILED, results=(), merge=merge))

    assert "log: merge.log\n" in text
    assert text.splitlines()[-3:] == [
        "  logist job run job.json                goes on: what is done is not done again",
        "  logist job run job.json --merge-only   try just the merge",
        "  logist job log job.json --chunk merge  all that it printed",
    ]


@pytest.mark.parametrize(
    ("status", "commands"),
    [
        (JobStatus.SUCCESS, []),
        (JobStatus.CANCELED, ["  logist job run job.json  goes on: what is done is not done again"]),
        (JobStatus.PENDING, ["  logist job run job.json  goes on: what is done is not done again"]),
        (
            JobStatus.RUNNING,
            [
                "  logist job pause job.json   stop it once its running chunks have ended",
                "  logist job cancel job.json  stop it now; what is done is kept",
            ],
        ),
    ],
)
def test_what_can_be_done_depends_on_where_it_stands(status: JobStatus, commands: list[str]) -> None:
    text = outcome(RunReport(status, "because", (result(0),), (), None, 1.0))

    assert text.splitlines()[1:] == ([""] if commands else []) + commands


@given(results=any_result(), width=st.integers(44, 120))
def test_no_row_of_a_table_is_wider_than_the_terminal(
    results: tuple[ChunkResult, MergeResult, RunReport], width: int
) -> None:
    lines = summary_lines(replace(results[2], merge=None), width)

    assert max(map(console.line_width, lines)) <= width


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (fps_text(None), ""),
        (fps_text(0.041), "0.04 fps"),
        (fps_text(2.94), "2.9 fps"),
        (fps_text(29.3), "29 fps"),
        (fps_text(12_345.6), "12,346 fps"),
        (size_text(1), "1 byte"),
        (size_text(999), "999 bytes"),
        (size_text(1_500), "1.5 kB"),
        (size_text(2_000_000_000), "2.0 GB"),
    ],
)
def test_numbers_are_as_people_read_them(text: str, expected: str) -> None:
    assert text == expected


# --- A real terminal and a real pipe -------------------------------------------------------------------------------

_SCRIPT = """
import os, pickle, sys
sys.path[:0] = [{root!r}]
from logist.console.chunk_display import open_chunk_display
with open({run!r}, "rb") as file:
    run = pickle.load(file)
with open_chunk_display({progress!r}, environ=os.environ) as sink:
    for event in run[:5]:
        sink(event)
    {then}
    for event in run[5:]:
        sink(event)
print("after the run")
"""
_STEPWISE = """
import os, pickle, sys
sys.path[:0] = [{root!r}]
from logist.chunks import ChunkProgressed
from logist.console.chunk_bars import ChunkBars
from logist.testing import FakeClock
with open({run!r}, "rb") as file:
    run = pickle.load(file)
clock = FakeClock()
display = ChunkBars(environ=os.environ, clock=clock, interval=None)
for event in run[:5]:
    display.emit(event)
for number in range({steps}):
    sys.stdin.readline()
    clock.advance(1)
    display.emit(ChunkProgressed(chunk=0, frames=70 + number))
    display.tick()
sys.stdin.readline()
for event in run[5:]:
    display.emit(event)
display.close()
print("after the run")
"""


def script(tmp_path: Path, then: str, progress: str = "auto") -> Path:
    """A program that shows a run; `then` is done in its middle."""
    return written(tmp_path, _SCRIPT, progress=progress, then=then)


def written(tmp_path: Path, text: str, **values: object) -> Path:
    """A program that finds the events of a run beside it."""
    path, run = tmp_path / "run.py", tmp_path / "run"
    run.write_bytes(pickle.dumps(RUN))
    path.write_text(text.format(root=str(ROOT), run=str(run), **values), encoding="utf-8")
    return path


def spawned(path: Path, rows: int, columns: int, **environ: str) -> pexpect.spawn[str]:
    """The program in a terminal."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environ}
    return pexpect.spawn(
        sys.executable,
        [str(path)],
        dimensions=(rows, columns),
        encoding="utf-8",
        env=environment,
        timeout=30,
        echo=False,
    )


@pytest.mark.parametrize(("rows", "columns"), [(30, 110), (5, 40), (3, 23)])
def test_in_a_real_terminal_the_lines_stay_and_the_bars_go(tmp_path: Path, rows: int, columns: int) -> None:
    child = spawned(script(tmp_path, "sys.stdin.readline()"), rows, columns)
    child.logfile_read = screen = Screen(columns, rows)
    child.expect("1/4")
    child.expect("1/4")
    child.sendline("")
    child.expect(pexpect.EOF)
    child.close()

    assert child.exitstatus == 0
    assert screen.getvalue().rfind("\x1b[?25h") > screen.getvalue().rfind("\x1b[?25l")
    assert_only_lines_stayed(screen)


def assert_only_lines_stayed(screen: Screen) -> None:
    """Both failures of the run and what came after it are there, and nothing of the bars."""
    told = "".join("".join(screen.shown()).split())
    assert told.endswith("aftertherun")
    assert told.count("chunk1failed") == 2
    assert "━" not in told
    assert "1/4" not in told


def test_a_real_terminal_may_change_its_width(tmp_path: Path) -> None:
    widths = (57, 31, 110, 23, 58)
    child = spawned(written(tmp_path, _STEPWISE, steps=len(widths)), 24, 110)
    child.logfile_read = screen = Screen(110)
    for number, width in enumerate(widths):
        screen.resize(width)
        child.setwinsize(24, width)
        child.sendline("")
        # The rows of this step, whole: nothing of them is under way when the next change comes.
        while f"19{number}/" not in "".join(screen.shown()) or not screen.shown()[-1].startswith("  chunk 1"):
            child.read_nonblocking(4_096, timeout=30)
        assert sum("1/4" in row for row in screen.shown()) == 1, screen.shown()
    child.sendline("")
    child.expect(pexpect.EOF)
    child.close()

    assert_only_lines_stayed(screen)


@pytest.mark.parametrize("then", ["raise OSError('disk')", "os.kill(os.getpid(), 2)"])
def test_a_run_that_is_broken_off_leaves_the_terminal_in_order(tmp_path: Path, then: str) -> None:
    child = spawned(script(tmp_path, f"sys.stdin.readline(); {then}"), 30, 110)
    child.logfile_read = screen = Screen(110, 30)
    child.expect("1/4")
    child.sendline("")
    child.expect(pexpect.EOF)
    child.close()

    assert child.exitstatus != 0
    assert screen.getvalue().rfind("\x1b[?25h") > screen.getvalue().rfind("\x1b[?25l")
    assert [row.split()[0] for row in screen.shown()[1:3]] == [screen.shown()[0].split()[0], "Traceback"]


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    child = spawned(script(tmp_path, "pass"), 30, 110, TERM="dumb")
    child.expect(pexpect.EOF)
    child.close()

    assert "\x1b" not in child.before
    assert "type=run.finished" in child.before


def test_a_closed_pipe_does_not_end_a_run(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(script(tmp_path, "sys.stdin.readline()", progress="json"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["type"] == "run.started"
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait(timeout=30) == 0


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
