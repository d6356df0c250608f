"""The live view of several jobs at once: lines that stay, each with its job, above a footer with a row for each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TextIO

from rich.text import Text

from logist import events
from logist.chunks import ChunkEvent, ChunkFinished, ChunkStatus, MergeFinished
from logist.clock import Clock, SystemClock
from logist.console import Line, Span, crop, line, line_width, local_time, one_line, pad, text_width, wrap
from logist.console.chunk_meter import RunMeter
from logist.console.chunk_tables import finished_words, merged_words, tail_lines
from logist.console.chunks import Failures
from logist.console.reporters import OutputLines, describe, stop_words, wait_of, wait_words
from logist.console.terminal import open_console, open_footer, styled
from logist.durations import stopwatch
from logist.events import Event
from logist.lifecycle import JobStatus, Trigger
from logist.models.manifest import Verdict
from logist.waits import Wait

#: Columns of a job's name, at most and on a narrow terminal, and of the time before it.
_MOST_NAME = 28
_LEAST_NAME = 8
_STAMP = 10
#: What an operator who asks once lets come to its end.
_AFTER = "the running steps and chunks"
#: Columns that words need to stand beside a name.
_LEAST_WORDS = 24
_VERDICT_STYLES = {Verdict.COMPLETED: "green", Verdict.RETRY: "yellow", Verdict.STUCK: "red"}
_STATUS_STYLES = {
    JobStatus.SUCCESS: "green",
    JobStatus.CANCELED: "yellow",
    JobStatus.INTERVENTION_REQUIRED: "red",
}


@dataclass(frozen=True)
class _Lane:
    """One running job. Replaced as a whole, so the refreshing thread never sees half a change."""

    job_id: str
    step: events.StepStarted | None = None
    #: What its runner does now, when the agent is not asked.
    activity: str = ""
    #: What it waits for before it asks the agent again.
    wait: Wait | None = None
    #: When its step began, on the monotonic clock.
    began: float = 0.0


class _Chunks:
    """The render that a job is in."""

    def __init__(self) -> None:
        self.meter = RunMeter()
        self.failures = Failures()

    def words(self, event: ChunkEvent) -> tuple[str, list[str]]:
        """What is worth a line that stays, and the lines below it."""
        match event:
            case ChunkFinished() if event.result.status is ChunkStatus.FAILED:
                return self.failures.lines(event.result)
            case MergeFinished() if event.result.status is ChunkStatus.FAILED:
                return merged_words(event.result), tail_lines(event.result.tail)
            case _:
                return "", []


class LiveJobs:
    """Shows several jobs on a terminal. `close` takes the footer away and gives the cursor back."""

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        verbose: bool = False,
        stream: TextIO | None = None,
        clock: Clock | None = None,
    ) -> None:
        target = stream or sys.stderr
        self._clock = clock or SystemClock()
        self._verbose = verbose
        self._encoding = target.encoding
        self._lanes: dict[str, _Lane] = {}
        self._chunks: dict[str, _Chunks] = {}
        self._output: dict[str, OutputLines] = {}
        #: None, or whether the run is to stop now.
        self._stopping: events.StopRequested | None = None
        self._console = open_console(target, environ)
        self._live = open_footer(self._console, self._footer)
        self._closed = False

    def close(self) -> None:
        """Take the footer away and show the cursor."""
        self._closed = True
        self._live.stop()

    # --- What happened --------------------------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, events.JobsFinished):
            # Of it, the table that follows says more.
            return
        if not (self._live.is_started or self._closed):
            self._live.start(refresh=False)
        match event:
            case events.OutputReceived():
                self._print_output(event)
                return
            case events.RenderProgressed():
                self._print_chunk(event)
                # They come by the dozen a second; the next refresh is near.
                return
            case events.StepStarted():
                self._set(event.job_id, step=event, activity="", wait=None, began=self._clock.monotonic())
            case events.CheckFinished():
                self._set(event.job_id, activity="checks")
                self._print(event.job_id, describe(event), "" if event.result.passed else "yellow")
            case events.AttemptFailed():
                self._flush_output(event.job_id)
                self._set(event.job_id, activity="", wait=wait_of(event))
                self._print(event.job_id, describe(event), "yellow")
            case events.WaitResumed():
                self._set(event.job_id, wait=wait_of(event))
                self._print(event.job_id, describe(event), "yellow")
            case events.StepFinished():
                self._flush_output(event.job_id)
                self._chunks.pop(event.job_id, None)
                self._set(event.job_id, step=None, activity="")
                self._print(event.job_id, describe(event), _VERDICT_STYLES[event.action])
            case events.StateChanged():
                if event.trigger is not Trigger.PROCEED:
                    self._print(event.job_id, describe(event), _STATUS_STYLES.get(event.after, ""))
            case events.StopRequested():
                self._stop(event)
            case events.JobFinished():
                self._close_lane(event.job_id)
            case events.JobDropped():
                self._close_lane(event.job_id)
                self._print(event.job_id, describe(event), "yellow")
            case events.Notice():
                self._print(event.job_id, describe(event), "dim")
        self._live.refresh()

    def _set(self, job_id: str, **changes: object) -> None:
        lane = self._lanes.get(job_id, _Lane(job_id))
        changed = replace(lane, **changes)  # type: ignore[arg-type]  # checked by the dataclass
        self._lanes = {**self._lanes, job_id: changed}

    def _close_lane(self, job_id: str) -> None:
        self._flush_output(job_id)
        self._lanes = {name: lane for name, lane in self._lanes.items() if name != job_id}

    def _stop(self, event: events.StopRequested) -> None:
        if event.paused:
            self._print(event.job_id, describe(event), "yellow")
            return
        if self._stopping is not None and self._stopping.now >= event.now:
            # Every job says it, and once is enough.
            return
        self._stopping = event
        self._print("", stop_words(event, _AFTER), "yellow")
        if event.now:
            # The next Ctrl-C ends the process on the spot: what hides the cursor must be over by then.
            self._console.show_cursor(True)

    # --- Lines that stay ------------------------------------------------------------------------------------------

    def _print(self, job_id: str, words: str, style: str) -> None:
        """A line, or as many as the words need, set below each other; without a job it is about all of them."""
        stamp = Span(f"{local_time(self._clock.now())}  ", "dim")
        head = line(stamp, Span(f"{self._name(job_id)}  " if job_id else "", "bold"))
        room = self._console.width - line_width(head)
        if room >= _LEAST_WORDS:
            first, *rest = wrap(words, room)
        else:
            first, rest = "", [words]
        self._console.print(styled((*head, Span(first, style)), self._encoding), soft_wrap=True)
        for row in wrap(" ".join(rest), max(_LEAST_WORDS, self._console.width - _STAMP)) if rest else []:
            self._console.print(styled(line(" " * _STAMP, Span(row, style)), self._encoding), soft_wrap=True)

    def _name(self, job_id: str) -> str:
        return crop(job_id, min(_MOST_NAME, max(_LEAST_NAME, self._console.width // 3)))

    def _print_below(self, job_id: str, text: str) -> None:
        head = Span(f"{' ' * _STAMP}{self._name(job_id)} │ ", "dim")
        self._console.print(styled(line(head, text.expandtabs(4)), self._encoding), soft_wrap=True)

    def _print_output(self, event: events.OutputReceived) -> None:
        if self._verbose:
            for text in self._output.setdefault(event.job_id, OutputLines()).feed(event.stream, event.data):
                self._print_below(event.job_id, text)

    def _flush_output(self, job_id: str) -> None:
        for _, text in self._output.pop(job_id, OutputLines()).flush():
            self._print_below(job_id, text)

    def _print_chunk(self, event: events.RenderProgressed) -> None:
        chunks = self._chunks.setdefault(event.job_id, _Chunks())
        chunks.meter.take(event.event, self._clock.monotonic())
        meter = chunks.meter
        state = "merging" if meter.merging is not None else f"{meter.done_chunks:,}/{meter.chunks:,} chunks"
        self._set(event.job_id, activity=state)
        words, below = chunks.words(event.event)
        if not words and self._verbose and isinstance(event.event, ChunkFinished):
            words = finished_words(event.event.result)
        if words:
            self._print(event.job_id, words, "yellow")
        for text in below:
            self._print_below(event.job_id, text)

    # --- The footer -----------------------------------------------------------------------------------------------

    def _footer(self) -> Text:
        width, height = self._console.size
        lanes = list(self._lanes.values())
        room = max(1, height - 4)
        shown = lanes[:room] if len(lanes) <= room else lanes[: room - 1]
        name = max((text_width(self._name(lane.job_id)) for lane in shown), default=0)
        rows = [self._row(lane, name, width) for lane in shown]
        if len(shown) < len(lanes):
            rows.append(line(Span(f" … and {len(lanes) - len(shown)} more", "dim")))
        # Short of the last columns: the terminal echoes ^C behind it, and that must not start a new row.
        rows.append(line(Span(crop(self._hint(), width - 5), "dim" if self._stopping is None else "yellow")))
        rule = line(Span("─" * width, "dim"))
        return Text("\n").join(styled(row, self._encoding) for row in ([rule, *rows] if height > len(rows) else rows))

    def _row(self, lane: _Lane, name: int, width: int) -> Line:
        job = Span(f" {pad(self._name(lane.job_id), name)}  ", "bold")
        step = lane.step
        activity = lane.activity if lane.wait is None else wait_words(lane.wait, self._clock.now())
        if step is None:
            return line(Span(crop(f"{job.text}{activity}", width)))
        passed = stopwatch(self._clock.monotonic() - lane.began)
        doing = activity or one_line(step.phase)
        words = f"step {step.step}  {step.role.value} · {one_line(step.agent)} · {doing}"
        room = width - text_width(job.text) - len(passed) - 2
        return line(job, pad(crop(words, max(0, room)), max(0, room)), Span(f"  {passed}", "dim"))

    def _hint(self) -> str:
        if self._stopping is None:
            return " ^C each job stops after its step   ^C^C stop now"
        return f" {stop_words(self._stopping, _AFTER)}"
