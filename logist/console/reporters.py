"""Reporters for everything but a live terminal: plain lines, JSON lines, and only the verdict."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol, TextIO

from logist import events
from logist.clock import Clock, SystemClock
from logist.console import one_line, until_words
from logist.console.sinks import HEARTBEAT, STREAM_VERSION, Sink, shows_live
from logist.durations import format_duration
from logist.errors import ExitCode
from logist.events import Event
from logist.lifecycle import Trigger
from logist.models.manifest import CheckResult
from logist.models.usage import Usage
from logist.plain_text import plain_text, plain_values
from logist.waits import Wait, wait_after

if TYPE_CHECKING:
    from logist.chunks import ChunkEvent
    from logist.console.chunks import PlainChunks

#: Characters of an agent's words in a plain line.
_MAX_QUOTE = 300
#: A longer line of output is broken: an agent that never ends its line must not fill the memory.
_MAX_OUTPUT_LINE = 16_384


class ConsoleReporter(events.Reporter, Protocol):
    """A reporter that holds something to give back: a terminal, a thread."""

    def close(self) -> None:
        """Put the terminal back as it was. Nothing is shown afterwards."""
        ...


class OutputLines:
    """Puts an agent's output together to plain lines, stream by stream."""

    def __init__(self) -> None:
        self._rest: dict[str, bytes] = {}

    def feed(self, stream: str, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *whole, rest = (self._rest.pop(stream, b"") + data).split(b"\n")
        while len(rest) > _MAX_OUTPUT_LINE:
            whole.append(rest[:_MAX_OUTPUT_LINE])
            rest = rest[_MAX_OUTPUT_LINE:]
        if rest:
            self._rest[stream] = rest
        return [text for line in whole for text in _texts(line)]

    def flush(self) -> list[tuple[str, str]]:
        """What was printed without an end of line, as (stream, line), once the step is over."""
        rests, self._rest = self._rest, {}
        return [(stream, text) for stream, rest in rests.items() for text in _texts(rest)]


def _texts(line: bytes) -> list[str]:
    # A carriage return at the end is no line of its own; one in the middle is: what it overwrites was printed too.
    return plain_text(line.rstrip(b"\r")).split("\n")


# --- Plain lines ---------------------------------------------------------------------------------------------------


class PlainReporter:
    """One line an event on stderr: time, words for people, then `key=value` for programs. For logs and pipes."""

    def __init__(
        self,
        *,
        verbose: bool = False,
        stream: TextIO | None = None,
        clock: Clock | None = None,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self._stream = stream or sys.stderr
        self._sink = Sink(self._stream)
        self._verbose = verbose
        self._clock = clock or SystemClock()
        self._output = OutputLines()
        self._pace = heartbeat
        self._heartbeat = _Heartbeat(heartbeat, self._tell_alive)
        #: Shows the chunks of a render while one runs.
        self._chunks: PlainChunks | None = None
        self._running: events.StepStarted | None = None
        self._began = 0.0

    def emit(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, events.OutputReceived):
            self._show_output(event)
            return
        if isinstance(event, events.RenderProgressed):
            self._show_chunk(event)
            return
        self._end_chunks()
        if isinstance(event, events.StepStarted):
            self._running, self._began = event, self._clock.monotonic()
            self._heartbeat.start()
        if isinstance(event, events.StepFinished | events.AttemptFailed | events.JobFinished | events.JobDropped):
            self._heartbeat.stop()
            for stream, text in self._output.flush():
                self._show_line(event.job_id, stream, text)
        self._line(describe(event), _tail(event))

    def close(self) -> None:
        """Stop the sign of life."""
        self._heartbeat.stop()
        self._end_chunks()

    def _show_chunk(self, event: events.RenderProgressed) -> None:
        # Imported here: most runs render nothing.
        from logist.console.chunks import PlainChunks

        if self._chunks is None:
            # Chunks have a sign of life of their own.
            self._heartbeat.stop()
            self._chunks = PlainChunks(
                verbose=self._verbose,
                stream=self._stream,
                clock=self._clock,
                heartbeat=self._pace,
                always={"job": event.job_id, "step": event.step},
            )
        self._chunks.emit(event.event)

    def _end_chunks(self) -> None:
        if self._chunks is not None:
            self._chunks.close()
            self._chunks = None

    def _show_output(self, event: events.OutputReceived) -> None:
        if self._verbose:
            for text in self._output.feed(event.stream, event.data):
                self._show_line(event.job_id, event.stream, text)

    def _show_line(self, job_id: str, stream: str, text: str) -> None:
        self._line(f"│ {text}", {"type": events.OutputReceived.type, "job": job_id, "stream": stream})

    def _tell_alive(self) -> None:
        event = self._running
        if event is not None:
            since = format_duration(self._clock.monotonic() - self._began)
            self._line(
                f"{_who(event)}: still running after {since}",
                {"type": "step.running", "job": event.job_id, "step": str(event.step)},
            )

    def _line(self, words: str, tail: Mapping[str, str]) -> None:
        pairs = " ".join(f"{key}={_quoted(value)}" for key, value in tail.items())
        self._sink.write(f"{_timestamp(self._clock.now())}  {words}  {pairs}")


class PlainJobs:
    """The plain lines of several jobs at once: each job has its own sign of life, and its own chunks."""

    def __init__(self, *, verbose: bool = False, stream: TextIO | None = None, clock: Clock | None = None) -> None:
        self._verbose = verbose
        self._stream = stream
        self._clock = clock
        self._jobs: dict[str, PlainReporter] = {}

    def emit(self, event: Event) -> None:
        """Show one event."""
        job = self._jobs.get(event.job_id)
        if job is None:
            job = PlainReporter(verbose=self._verbose, stream=self._stream, clock=self._clock)
            self._jobs[event.job_id] = job
        job.emit(event)

    def close(self) -> None:
        """Stop the signs of life."""
        for job in self._jobs.values():
            job.close()


class _Heartbeat:
    """Calls `beat` again and again while it is started."""

    def __init__(self, interval: float, beat: Callable[[], None]) -> None:
        self._interval = interval
        self._beat = beat
        self._stop: threading.Event | None = None

    def start(self) -> None:
        self.stop()
        stop = self._stop = threading.Event()
        threading.Thread(target=self._run, args=(stop,), name="logist-heartbeat", daemon=True).start()

    def stop(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._stop = None

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self._interval):
            self._beat()


def _timestamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _quoted(value: str) -> str:
    plain = value and value.isprintable() and not any(character in ' "=\\' for character in value)
    return value if plain else json.dumps(value, ensure_ascii=False)


def quote(text: str) -> str:
    """An agent's words in one line, bounded."""
    words = one_line(text)
    return f"“{words if len(words) <= _MAX_QUOTE else words[: _MAX_QUOTE - 1] + '…'}”" if words else "(no words)"


def describe(event: Event) -> str:
    """One event in words, in one line."""
    match event:
        case events.StateChanged() if event.trigger is Trigger.PROCEED:
            return f"goes on: {one_line(event.reason.sentence)}"
        case events.StateChanged():
            return f"{event.before} → {event.after}: {one_line(event.reason.sentence)}"
        case events.StepStarted():
            again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
            return f"{_who(event)} begins{again}, phase {one_line(event.phase)}"
        case events.AttemptFailed():
            return f"step {event.step} attempt {event.attempt} {failed_words(event)}: {quote(event.detail)}"
        case events.WaitResumed():
            return f"{_who(event)} {_waits(event.retry_at, event.retry_in)}: {quote(event.detail)}"
        case events.CheckFinished():
            return f"check {one_line(event.result.name)} {check_words(event.result)}"
        case events.StepFinished():
            return _describe_step(event)
        case events.Notice():
            return one_line(event.message)
        case events.StopRequested() if event.paused:
            return f"{one_line(event.why)}; {event.after} will be finished"
        case events.StopRequested():
            return stop_words(event, event.after)
        case events.JobDropped():
            return f"not run any further here: {one_line(event.why)}"
        case events.JobFinished():
            return f"{event.status.replace('_', ' ')}: {one_line(event.reason.sentence)}"
        case events.JobsFinished():
            return jobs_words(event.jobs)
        case _:
            return event.type


def jobs_words(jobs: Sequence[events.JobEnd]) -> str:
    """Where several jobs stand, in words: `3 jobs: 2 SUCCESS, 1 INTERVENTION REQUIRED`."""
    counted = Counter(job.headline for job in jobs)
    each = ", ".join(f"{number} {words}" for words, number in counted.items())
    return f"{count(len(jobs), 'job')}: {each}" if jobs else "no job is ready"


def failed_words(event: events.AttemptFailed) -> str:
    """How an attempt failed, and when it is followed by another one."""
    if event.retry_at is not None:
        return f"failed ({event.kind}), {_waits(event.retry_at, event.retry_in or 0.0)}"
    return f"failed ({event.kind}{'' if event.retry_in is None else ', asked again'})"


def _waits(retry_at: datetime, retry_in: float) -> str:
    return f"waits {until_words(retry_at, retry_at - timedelta(seconds=retry_in))}"


def wait_of(event: events.AttemptFailed | events.WaitResumed) -> Wait | None:
    """The wait that begins with an event."""
    return None if event.retry_at is None else wait_after(event.retry_at, event.detail)


def wait_words(wait: Wait, now: datetime) -> str:
    """A wait and what was said for it: `waits until 15:00:05 (12m left): rate_limited`."""
    return f"waits {until_words(wait.until, now)}: {one_line(wait.why)}"


def check_words(result: CheckResult) -> str:
    """How a check ended, in words."""
    if result.passed:
        return f"passed in {format_duration(result.duration)}"
    how = "did not finish" if result.exit_code is None else f"failed with exit code {result.exit_code}"
    return how if result.required else f"{how} (not required)"


def _who(event: events.StepStarted | events.StepFinished | events.WaitResumed) -> str:
    return f"step {event.step} {event.role} {one_line(event.agent)}"


def _describe_step(event: events.StepFinished) -> str:
    words = f"{_who(event)}: {event.action} in {format_duration(event.duration)}"
    files = f", {count(event.files_changed, 'file')} changed" if event.files_changed else ""
    return f"{words}{files}: {quote(event.summary)}" if event.summary else words + files


def count(number: int, name: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


#: What asks again, by the exit code of what asked before: to stop now, and to exit at once.
_AGAIN = {
    ExitCode.INTERRUPTED: ("Press Ctrl-C again to stop", "Once more"),
    ExitCode.TERMINATED: ("The same signal again stops", "The same signal again"),
    ExitCode.TIMEOUT: ("Ctrl-C stops", "Ctrl-C"),
}


def stop_words(event: events.StopRequested, after: str) -> str:
    """What happens to a run that is to stop, and what asking again does; `after` is what it brings to its end."""
    stop_now, exit_now = _AGAIN[event.exit_code]
    if event.now:
        over = "the time of --timeout is over: " if event.exit_code is ExitCode.TIMEOUT else ""
        return f"{over}stopping now; unfinished work is kept, and `run` goes on later. {exit_now}: exit at once"
    return f"stopping after {after}. {stop_now} {'it' if after == 'this step' else 'them'} now"


def _tail(event: Event) -> dict[str, str]:
    """What a program may want of an event: stable names, no long texts."""
    tail = {"type": event.type, "job": event.job_id}
    match event:
        case events.StateChanged():
            tail |= {"trigger": event.trigger, "before": event.before, "after": event.after}
            tail |= {"reason": event.reason.code}
        case events.StepStarted() | events.StepFinished() | events.WaitResumed():
            tail |= {"step": str(event.step), "role": event.role, "agent": event.agent}
        case events.AttemptFailed():
            tail |= {"step": str(event.step), "attempt": str(event.attempt), "kind": event.kind}
        case events.CheckFinished():
            tail |= {"step": str(event.step), "check": event.result.name, "passed": str(event.result.passed).lower()}
        case events.JobFinished():
            tail |= {"status": event.status, "reason": event.reason.code, "exit_code": str(event.exit_code)}
        case events.StopRequested():
            tail |= {"now": str(event.now).lower()}
        case events.JobsFinished():
            tail = {"type": event.type, "exit_code": str(event.exit_code)}
    if isinstance(event, events.AttemptFailed | events.WaitResumed) and event.retry_at is not None:
        tail |= {"retry_at": _timestamp(event.retry_at)}
    if isinstance(event, events.StepFinished):
        tail |= {"action": event.action, "duration": f"{event.duration:g}", "files": str(event.files_changed)}
        tail |= _usage(event.usage) | {"commit": event.commit[:12]}
    return {key: one_line(str(value)) for key, value in tail.items()}


def _usage(usage: Usage) -> dict[str, str]:
    cost = {} if usage.cost is None else {"cost": f"{usage.cost:.4f}"}
    tokens = [number for number in (usage.input_tokens, usage.output_tokens) if number is not None]
    return cost | ({"tokens": str(sum(tokens))} if tokens else {})


# --- JSON lines ----------------------------------------------------------------------------------------------------


class JsonReporter:
    """JSON Lines on stdout, one record an event. Agent output only when `verbose`.

    `job.finished` is the last of a job, or `job.dropped`; `jobs.finished` is the last of a run of several.
    """

    def __init__(self, *, verbose: bool = False, stream: TextIO | None = None, clock: Clock | None = None) -> None:
        self._sink = Sink(stream or sys.stdout)
        self._verbose = verbose
        self._clock = clock or SystemClock()
        #: By job: several may print at the same time.
        self._output: defaultdict[str, OutputLines] = defaultdict(OutputLines)
        self._seq = 0

    def emit(self, event: Event) -> None:
        """Write one event as a record."""
        if isinstance(event, events.OutputReceived):
            if self._verbose:
                for text in self._output[event.job_id].feed(event.stream, event.data):
                    self._output_record(event.job_id, event.step, event.stream, text)
            return
        if isinstance(event, events.RenderProgressed):
            self._record(event.event.type, event.job_id, {"step": event.step, **_chunk_fields(event.event)})
            return
        if isinstance(event, events.StepFinished | events.AttemptFailed | events.JobFinished):
            for stream, text in self._output[event.job_id].flush():
                self._output_record(event.job_id, event.step, stream, text)
        self._record(event.type, event.job_id, _fields(event))

    def close(self) -> None:
        """Nothing is held."""

    def _output_record(self, job_id: str, step: int, stream: str, text: str) -> None:
        self._record(events.OutputReceived.type, job_id, {"step": step, "stream": stream, "text": text})

    def _record(self, kind: str, job_id: str, content: Mapping[str, object]) -> None:
        self._seq += 1
        at = _timestamp(self._clock.now())
        head = {"v": STREAM_VERSION, "seq": self._seq, "ts": at, "type": kind, "job": job_id}
        # ASCII, so that no terminal and no locale can make anything else of it.
        self._sink.write(json.dumps({**head, **content}, ensure_ascii=True))


def _chunk_fields(event: ChunkEvent) -> dict[str, object]:
    from pydantic_core import to_jsonable_python

    values = event._asdict().items()
    return {name: plain_values(to_jsonable_python(value)) for name, value in values if name != "type"}


def _fields(event: Event) -> dict[str, object]:
    from pydantic_core import to_jsonable_python

    values = {item.name: getattr(event, item.name) for item in fields(event) if item.name != "job_id"}
    return {key: plain_values(to_jsonable_python(value)) for key, value in values.items()}


# --- The verdict alone ---------------------------------------------------------------------------------------------


class QuietReporter:
    """One line on stderr for each job when its run is over."""

    def __init__(self, *, stream: TextIO | None = None) -> None:
        self._sink = Sink(stream or sys.stderr)
        self._finished: set[str] = set()

    def emit(self, event: Event) -> None:
        """Show the end, and nothing else."""
        if isinstance(event, events.JobFinished):
            self._finished.add(event.job_id)
            self._sink.write(f"{event.job_id}: {describe(event)}")
        if isinstance(event, events.JobsFinished):
            for job in event.jobs:
                if job.job_id not in self._finished:
                    self._sink.write(f"{job.job_id}: {job.headline}: {one_line(job.why)}")

    def close(self) -> None:
        """Nothing is held."""


# --- Choosing ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_reporter(
    progress: str,
    *,
    environ: Mapping[str, str],
    verbose: bool = False,
    clock: Clock | None = None,
    several: bool = False,
) -> Iterator[ConsoleReporter]:
    """A reporter for one run, closed at its end whatever happens; `several`: of jobs that run at the same time.

    `progress` is auto, tty, plain, json or none: auto is a live view on a terminal and plain lines elsewhere.
    """
    reporter = _reporter(progress, environ, verbose, clock, several)
    with contextlib.closing(reporter):
        yield reporter


def _reporter(
    progress: str, environ: Mapping[str, str], verbose: bool, clock: Clock | None, several: bool
) -> ConsoleReporter:
    match progress:
        case "json":
            return JsonReporter(verbose=verbose, clock=clock)
        case "none":
            return QuietReporter()
        case "auto" | "tty" if shows_live(sys.stderr, environ):
            # Imported here: rich is slow to load, and of use on a terminal only.
            from logist.console.live import LiveReporter
            from logist.console.live_jobs import LiveJobs

            return (LiveJobs if several else LiveReporter)(environ=environ, verbose=verbose, clock=clock)
        case _:
            return (PlainJobs if several else PlainReporter)(verbose=verbose, clock=clock)
