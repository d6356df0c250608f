"""The live view of a run: a line for everything that is finished, above a footer that shows what goes on.

The lines stay in the terminal's scrollback, the footer is taken away at the end. Only this module, `live_jobs`,
`chunk_bars` and `terminal` import rich.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from rich.text import Text

from logist import events
from logist.chunks import ChunkEvent, ChunkFinished, ChunkProgressed, ChunkStatus, MergeFinished
from logist.chunks import Notice as ChunkNotice
from logist.clock import Clock, SystemClock
from logist.console import (
    Line,
    Span,
    crop,
    crop_line,
    crop_start,
    line,
    line_width,
    local_time,
    one_line,
    pad,
    text_width,
    wrap,
)
from logist.console.chunk_meter import RunMeter
from logist.console.chunk_tables import finished_words, fps_text, merged_words, tail_lines
from logist.console.chunks import Failures
from logist.console.reporters import (
    OutputLines,
    check_words,
    count,
    describe,
    failed_words,
    quote,
    stop_words,
    wait_of,
    wait_words,
)
from logist.console.terminal import open_console, open_footer, styled
from logist.durations import format_duration, stopwatch
from logist.events import Event
from logist.lifecycle import JobStatus, Trigger
from logist.models.manifest import Role, Verdict, red_checks
from logist.plain_text import last_lines
from logist.waits import Wait

#: Seconds without output after which the footer says so.
_QUIET_AFTER = 30.0
_FOOTER_ROWS = 10
#: Terminals with fewer rows get a footer of two lines.
_LOW = 12
_OUTPUT_ROWS = 3
_TAIL_BYTES = 4096
_BAR_WIDTH = 24
#: Columns of the time before a line.
_INDENT = 10
#: With fewer columns a step's agent is left out; with still fewer only the most important is shown.
_WIDE = 90
_NARROW = 76
#: Columns that words need to stand beside something.
_MIN_WORDS = 24
_MAX_SENTENCE = 300
#: Columns that must be left for an objection to stand beside its step, else it gets a line of its own.
_QUOTE_ROOM = 36

_GLYPHS = {Verdict.COMPLETED: "✓", Verdict.RETRY: "↺", Verdict.STUCK: "■"}
_VERDICT_STYLES = {Verdict.COMPLETED: "green", Verdict.RETRY: "yellow", Verdict.STUCK: "red"}
_ROLE_STYLES = {Role.WORKER: "magenta", Role.SUPERVISOR: "blue", Role.HUMAN: "cyan"}
_STATUS_STYLES = {
    JobStatus.PENDING: "black on white",
    JobStatus.RUNNING: "black on cyan",
    JobStatus.SUCCESS: "black on green",
    JobStatus.CANCELED: "black on yellow",
    JobStatus.INTERVENTION_REQUIRED: "white on red",
}


@dataclass(frozen=True)
class _Budget:
    name: str
    spent: float
    limit: float
    text: str


@dataclass(frozen=True)
class _Render:
    """How far the chunks of a render are."""

    chunks: int
    chunks_done: int
    frames: int
    frames_done: int
    fps: float | None
    merging: bool


@dataclass(frozen=True)
class _View:
    """What the footer shows; replaced as a whole, so the refreshing thread never sees half a change."""

    job_id: str = ""
    status: JobStatus = JobStatus.RUNNING
    step: events.StepStarted | None = None
    #: What the runner does now: asking the agent, checking.
    activity: str = ""
    #: What it waits for before it asks the agent again.
    wait: Wait | None = None
    #: On the monotonic clock.
    began: float = 0.0
    heard: float = 0.0
    #: The end of what the agent printed in this step.
    tail: bytes = b""
    stream: str = ""
    #: What is told once the run is to stop.
    stopping: str = ""
    render: _Render | None = None


class LiveReporter:
    """Shows a run on a terminal. `close` takes the footer away and gives the cursor back."""

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
        self._output = OutputLines()
        self._view = _View()
        #: Whether an agent has told what it costs: then there is a column for it.
        self._costs = False
        self._phase = ""
        self._change = threading.Lock()
        self._meter = RunMeter()
        self._failures = Failures()
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
        if not (self._live.is_started or self._closed):
            # Not before: a run that is refused has nothing to show.
            self._update(job_id=event.job_id)
            self._live.start(refresh=False)
        match event:
            case events.OutputReceived():
                self._heard(event)
                return
            case events.RenderProgressed():
                self._rendered(event.event)
                if isinstance(event.event, ChunkProgressed):
                    # They come by the dozen a second; the next refresh is near.
                    return
            case events.StepStarted():
                self._begin(event)
            case events.CheckFinished():
                self._update(activity="checks")
                self._print_check(event)
            case events.AttemptFailed():
                self._flush_output()
                self._update(activity="", wait=wait_of(event))
                self._print_failure(event)
            case events.WaitResumed():
                self._update(wait=wait_of(event))
                self._print_words("yellow", describe(event))
            case events.StepFinished():
                self._flush_output()
                self._print_step(event)
                self._update(step=None, activity="", tail=b"", render=None)
            case events.StateChanged():
                self._update(status=event.after)
                self._print_change(event)
            case events.StopRequested() if event.paused:
                self._print_words("yellow", describe(event))
            case events.StopRequested():
                words = stop_words(event, event.after)
                self._update(stopping=words)
                self._print_words("yellow", words)
                if event.now:
                    # The next Ctrl-C ends the process on the spot: what hides the cursor must be over by then.
                    self._console.show_cursor(True)
            case events.Notice():
                self._print_words("dim", one_line(event.message))
            case events.JobFinished():
                self._flush_output()
                self._update(step=None, wait=None, status=event.status)
        self._live.refresh()

    def _update(self, **changes: object) -> None:
        with self._change:
            self._view = replace(self._view, **changes)  # type: ignore[arg-type]  # checked by the dataclass

    def _begin(self, event: events.StepStarted) -> None:
        if self._phase not in ("", event.phase):
            self._print_words("bold", f"phase {one_line(event.phase)}")
        self._phase = event.phase
        now = self._clock.monotonic()
        self._meter, self._failures = RunMeter(), Failures()
        self._update(step=event, activity="", wait=None, began=now, heard=now, tail=b"", stream="", render=None)

    def _rendered(self, event: ChunkEvent) -> None:
        now = self._clock.monotonic()
        meter = self._meter
        meter.take(event, now)
        self._update(
            render=_Render(
                meter.chunks,
                meter.done_chunks,
                meter.frames,
                meter.frames_done,
                meter.fps(now),
                meter.merging is not None,
            ),
            heard=now,
        )
        match event:
            case ChunkFinished() if event.result.status is ChunkStatus.FAILED:
                words, below = self._failures.lines(event.result)
                self._print_render("red" if event.result.retry_in is None else "yellow", words, below)
            case ChunkFinished() if self._verbose:
                self._print_render("dim", finished_words(event.result), [])
            case MergeFinished():
                failed = event.result.status is ChunkStatus.FAILED
                below = tail_lines(event.result.tail) if failed else []
                self._print_render("red" if failed else "dim", merged_words(event.result), below)
            case ChunkNotice():
                self._print_words("dim", one_line(event.message))

    def _print_render(self, style: str, words: str, below: list[str]) -> None:
        if words:
            self._print_words(style, words)
        for text in below:
            self._print_output(text)

    def _heard(self, event: events.OutputReceived) -> None:
        if self._verbose:
            for text in self._output.feed(event.stream, event.data):
                self._print_output(text)
        view = self._view
        # Two streams never share a line.
        joint = b"" if event.stream == view.stream or not view.tail else b"\n"
        tail = (view.tail + joint + event.data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        self._update(tail=tail, stream=event.stream, heard=self._clock.monotonic())

    def _flush_output(self) -> None:
        for _, text in self._output.flush():
            self._print_output(text)

    # --- Lines that stay ------------------------------------------------------------------------------------------

    def _print(self, *parts: str | Span, time: bool = True) -> None:
        if time:
            parts = (Span(f"{local_time(self._clock.now())}  ", "dim"), *parts)
        self._console.print(self._text(*parts), soft_wrap=True)

    def _print_words(self, style: str, words: str, *head: str | Span) -> None:
        """A line, or as many as the words need, set below each other."""
        width = self._console.width
        fitted = crop_line(line(*head), max(_MIN_WORDS, width - _INDENT))
        room = width - _INDENT - line_width(fitted)
        first, *rest = wrap(words, room) if room >= _MIN_WORDS else ["", words]
        self._print(*fitted, Span(first, style))
        for row in wrap(" ".join(rest), max(_MIN_WORDS, width - _INDENT)) if rest else []:
            self._print(Span(" " * _INDENT + row, style), time=False)

    def _text(self, *parts: str | Span) -> Text:
        return styled(line(*parts), self._encoding)

    def _print_output(self, text: str) -> None:
        step = self._view.step
        who = step.role.value if step else ""
        self._print(Span(f"{who:>10} │ ", "dim"), text.expandtabs(4), time=False)

    def _print_change(self, event: events.StateChanged) -> None:
        if event.trigger is Trigger.PROCEED:
            return
        style = _STATUS_STYLES[event.after].rpartition(" ")[2]
        head = Span(f"{event.before} → {event.after}  ", style)
        self._print_words("", crop(one_line(event.reason.sentence), _MAX_SENTENCE), head)

    def _print_step(self, event: events.StepFinished) -> None:
        self._costs = self._costs or event.usage.cost is not None
        width = self._console.width
        full = _step_parts(event, costs=self._costs, agent=width >= _WIDE)
        parts = full if width >= _NARROW else _short_step_parts(event)
        objection = "" if event.action is Verdict.COMPLETED else quote(event.summary)
        room = width - _INDENT - line_width(parts) - 2
        beside = bool(objection) and room >= min(_QUOTE_ROOM, text_width(objection))
        if beside:
            parts = (*parts, Span(f"  {_cropped_quote(objection, room)}"))
        self._print(*crop_line(parts, width - _INDENT))
        if objection and not beside:
            self._print(" " * _INDENT + _cropped_quote(objection, width - _INDENT), time=False)

    def _print_check(self, event: events.CheckFinished) -> None:
        result = event.result
        style, glyph = ("green", "✓") if result.passed else ("red" if result.required else "yellow", "✗")
        short = self._console.width < _NARROW
        name = f"step {event.step} check " if short else f"step {event.step:<3} check      "
        self._print_words("", f"{one_line(result.name)} {check_words(result)}", name, Span(f"{glyph} ", style))

    def _print_failure(self, event: events.AttemptFailed) -> None:
        short = self._console.width < _NARROW
        which = f"step {event.step}" if short else f"step {event.step:<3} attempt {event.attempt}"
        self._print_words("", quote(event.detail), Span(f"{which} {failed_words(event)}  ", "yellow"))

    # --- The footer -----------------------------------------------------------------------------------------------

    def _footer(self) -> Text:
        view, size = self._view, self._console.size
        width, rows = size.width, min(_FOOTER_ROWS, size.height - 1)
        head, hint = self._head(view, width), self._hint(view, width)
        if size.height < _LOW:
            return Text("\n").join([head, hint][: max(1, rows)])
        bars = self._bars(view, width)
        room = min(_OUTPUT_ROWS, rows - 3 - len(bars))
        rule = self._text(Span("─" * width, "dim"))
        return Text("\n").join([rule, head, *bars, *self._last_output(view, width, room), hint])

    def _head(self, view: _View, width: int) -> Text:
        pill = f" {view.status.value.replace('_', ' ')} "
        job = line(Span(pill, f"bold {_STATUS_STYLES[view.status]}"), Span(f" {view.job_id}", "bold"))
        step = view.step
        if step is None:
            return self._text(*crop_line((*job, Span(f"  {self._activity(view)}", "dim")), width))
        again = f" attempt {step.attempt}" if step.attempt > 1 else ""
        doing = line(
            f"  step {_step_number(step)}{again}  ",
            Span(step.role.value, _ROLE_STYLES[step.role]),
            f" · {one_line(step.agent)}",
            Span(f" · {self._activity(view) or one_line(step.phase)}", "dim"),
        )
        # While it is waited nothing runs: what is left of the wait needs the room.
        right = self._clocks(view, step, short=width < _NARROW) if view.wait is None else ()
        left = crop_line((*job, *doing), max(0, width - line_width(right) - 2))
        gap = width - line_width(left) - line_width(right)
        return self._text(*crop_line((*left, Span(" " * gap), *right), width))

    def _activity(self, view: _View) -> str:
        return view.activity if view.wait is None else wait_words(view.wait, self._clock.now())

    def _clocks(self, view: _View, step: events.StepStarted, *, short: bool) -> Line:
        now = self._clock.monotonic()
        passed, silent = now - view.began, now - view.heard
        quiet = (Span(f"quiet {format_duration(silent)}  ", "yellow"),) if silent >= _QUIET_AFTER else ()
        job = "" if short else f" step · {stopwatch(step.time_spent + passed)} job"
        return (*quiet, Span(f"{stopwatch(passed)}{job}", "dim"))

    def _bars(self, view: _View, width: int) -> list[Text]:
        if view.step is None:
            return []
        passed = self._clock.monotonic() - view.began
        bars = [self._bar(budget, width) for budget in _budgets(view.step, passed)]
        return bars if view.render is None else [self._render_bar(view.render, width), *bars]

    def _render_bar(self, render: _Render, width: int) -> Text:
        length = min(_BAR_WIDTH, max(4, width - 24))
        full = round(render.frames_done / render.frames * length) if render.frames else length
        parts = [f"{render.frames_done:,}/{render.frames:,}", f"{render.chunks_done:,}/{count(render.chunks, 'chunk')}"]
        parts += ["merging"] if render.merging else [fps_text(render.fps)]
        words = crop("  ".join(filter(None, parts)), max(1, width - length - 10))
        rest = "─" * (length - full)
        return self._text(
            Span(pad("frames", 8), "dim"),
            Span("━" * full, "cyan"),
            Span(rest, "bright_black"),
            Span(f" {words}", "cyan"),
        )

    def _bar(self, budget: _Budget, width: int) -> Text:
        share = min(1.0, budget.spent / budget.limit) if budget.limit else 1.0
        style = "green" if share < 0.8 else "yellow" if share < 1 else "red"
        length = min(_BAR_WIDTH, max(4, width - 24))
        full = round(share * length)
        name = pad(budget.name, 8)
        rest = "─" * (length - full)
        return self._text(
            Span(name, "dim"), Span("━" * full, style), Span(rest, "bright_black"), Span(f" {budget.text}", style)
        )

    def _last_output(self, view: _View, width: int, rows: int) -> list[Text]:
        if view.step is None or rows <= 0:
            return []
        role = f"{view.step.role:>10} │ "
        shown = [crop(text.expandtabs(4), max(1, width - len(role) - 1)) for text in last_lines(view.tail, rows)]
        return [self._text(Span(role, "dim"), text) for text in shown]

    def _hint(self, view: _View, width: int) -> Text:
        # Short of the last columns: the terminal echoes ^C behind it, and that must not start a new row.
        room = width - 5
        if view.stopping:
            return self._text(Span(crop(f" {view.stopping}", room), "yellow"))
        after = "this step" if view.render is None else "the running chunks"
        keys = f" ^C stop after {after}   ^C^C stop now"
        if view.step is None or room - len(keys) < 24:
            return self._text(Span(crop(keys, room), "dim"))
        log = crop_start(_relative(view.step.stdout_log), room - len(keys) - 9)
        return self._text(Span(f"{keys}   logs: {log}", "dim"))


def _relative(path: str) -> str:
    here = Path.cwd()
    return os.path.relpath(path, here) if Path(path).is_relative_to(here) else path


def _cropped_quote(quoted: str, room: int) -> str:
    return quoted if text_width(quoted) <= room else f"{crop(quoted.removesuffix('”'), max(2, room - 1))}”"


def _step_number(step: events.StepStarted) -> str:
    """`4/12`, unless the budget was not counted from the first step: then the number alone."""
    counted = step.steps_limit is not None and step.step == step.steps_spent + 1
    return f"{step.step}/{step.steps_limit}" if counted else str(step.step)


def _budgets(step: events.StepStarted, passed: float) -> list[_Budget]:
    budgets = []
    if step.steps_limit is not None:
        # The step under way is counted: it will be spent.
        steps = step.steps_spent + 1
        budgets.append(_Budget("steps", steps, step.steps_limit, f"{steps}/{step.steps_limit}"))
    if step.time_limit is not None:
        spent = step.time_spent + passed
        text = f"{format_duration(spent)}/{format_duration(step.time_limit)}"
        budgets.append(_Budget("time", spent, step.time_limit, text))
    text = f"{step.retries_spent}/{step.retries_limit}"
    budgets.append(_Budget("retries", step.retries_spent, step.retries_limit, text))
    return budgets


def _step_parts(event: events.StepFinished, *, costs: bool, agent: bool) -> Line:
    red = len(red_checks(event.checks))
    cost = "" if event.usage.cost is None else f"${event.usage.cost:.2f}"
    files = count(event.files_changed, "file") if event.files_changed else ""
    return line(
        f"step {event.step:<3} ",
        Span(pad(event.role.value, 10), _ROLE_STYLES[event.role]),
        f" {pad(crop(one_line(event.agent), 14), 9)} " if agent else " ",
        Span(f"{_GLYPHS[event.action]} {event.action:9}", _VERDICT_STYLES[event.action]),
        f"  {format_duration(event.duration):>6}",
        f"  {cost:>6}" if costs else "",
        f"  {files:8}",
        Span(f"  {event.commit[:7]}", "dim"),
        Span(f"  {count(red, 'red check')}" if red else "", "red"),
        Span(f"  {count(event.skipped, 'path')} left out" if event.skipped else "", "yellow"),
    )


def _short_step_parts(event: events.StepFinished) -> Line:
    return line(
        f"step {event.step} ",
        Span(event.role.value, _ROLE_STYLES[event.role]),
        Span(f" {_GLYPHS[event.action]} {event.action}", _VERDICT_STYLES[event.action]),
        f" {format_duration(event.duration)}",
        Span(f" {event.commit[:7]}", "dim"),
    )
