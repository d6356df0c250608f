"""The bars of a chunk run on a terminal: one for all, one for each chunk that runs, and lines that stay above them.

Nothing is drawn in the thread that hands over an event: a slow terminal never slows the run.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console, ConsoleRenderable
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from logist.chunks import ChunkEvent, ChunkFinished, ChunkStatus, MergeFinished, Notice, RunFinished, RunStarted
from logist.clock import Clock, SystemClock
from logist.console import Line, Span, crop, line, line_width, local_time, one_line, wrap
from logist.console.chunk_meter import RunMeter, RunningChunk
from logist.console.chunk_rows import footer_rows
from logist.console.chunk_tables import finished_words, merged_words, started_words, tail_lines
from logist.console.chunks import Failures, Ticker
from logist.console.terminal import open_console, styled

#: Seconds between two drawings.
INTERVAL = 0.125
#: A chunk gets a bar when it has run for so many seconds: most of very many short ones never do.
_BAR_AFTER = 0.3
#: How long a bar that is done may wait for the chunk that takes its place, so that the rows don't jump.
_LINGER = 0.5
#: Lines that wait to be drawn; a terminal that doesn't read must not fill the memory.
_MOST_WAITING = 2_000
#: Columns of the time before a line that stays. Narrower terminals than `_WIDE` do without.
_STAMP = 10
_WIDE = 60


class _Footer(Live):
    """Rows that are drawn anew in place, also after the terminal was made narrower and has wrapped them."""

    def __init__(self, console: Console, encoding: str | None) -> None:
        self._encoding = encoding
        self._rows: Sequence[Line] = ()
        #: Columns of each row as it stands on the screen.
        self._drawn: list[int] = []
        super().__init__(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
            get_renderable=lambda: self._text(self._rows),
        )

    def _text(self, rows: Sequence[Line]) -> Text:
        return Text("\n").join(styled(row, self._encoding) for row in rows)

    def draw(self, above: Sequence[Line], rows: Sequence[Line]) -> None:
        """Write lines that stay, and the rows below them: all in one piece, so nothing flickers."""
        with self.console:
            if above:
                self.console.print(self._text(above), soft_wrap=True)
            self._rows = rows
            self.refresh()

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Move up over the rows that were drawn before, with those that the terminal made of them meanwhile."""
        reset, *rest = super().process_renderables(renderables)
        width = max(1, self.console.width)
        wrapped = sum((columns - 1) // width for columns in self._drawn if columns)
        self._drawn = [line_width(row) for row in self._rows]
        further = Control(*((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)) * wrapped)
        return [reset, further, *rest]


class ChunkBars:
    """Shows a chunk run on a terminal. `close` takes the bars away.

    The cursor is never hidden: whatever kills the process, the terminal is as it was. Without an `interval` nothing is
    drawn but by `tick`.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        verbose: bool = False,
        stream: TextIO | None = None,
        clock: Clock | None = None,
        interval: float | None = INTERVAL,
    ) -> None:
        target = stream or sys.stderr
        self._verbose = verbose
        self._clock = clock or SystemClock()
        self._console = open_console(target, environ)
        self._footer = _Footer(self._console, target.encoding)
        self._lock = threading.Lock()
        self._drawing = threading.Lock()
        self._meter = RunMeter()
        self._failures = Failures()
        self._waiting: deque[Line] = deque(maxlen=_MOST_WAITING)
        #: The bars, from top to bottom.
        self._shown: list[RunningChunk] = []
        self._folder = _working_folder()
        self._closed = False
        self._ticker = None if interval is None else Ticker(interval, self.tick)

    def emit(self, event: ChunkEvent) -> None:
        """Take one event; it is shown with the next drawing."""
        with self._lock:
            self._meter.take(event, self._clock.monotonic())
            self._keep(event)
        if self._ticker is not None:
            self._ticker.start()

    def tick(self) -> None:
        """Draw what has changed."""
        with self._drawing:
            if not self._closed:
                self._draw()

    def close(self) -> None:
        """Write the lines that still wait, and take the bars away."""
        if self._ticker is not None:
            self._ticker.stop(wait=True)
        with self._drawing:
            if self._closed:
                return
            self._closed = True
            with self._lock:
                above = self._taken()
            if above or self._footer.is_started:
                self._open()
                self._footer.draw(above, ())
                self._footer.stop()

    def _draw(self) -> None:
        with self._lock:
            now, above = self._clock.monotonic(), self._taken()
            began = self._meter.began
            if not (above or (began is not None and now - began >= _BAR_AFTER)):
                return
            size = self._console.size
            self._place(now)
            rows = footer_rows(self._meter, self._shown, now, size.width, size.height)
        self._open()
        self._footer.draw(above, rows)

    def _open(self) -> None:
        if not self._footer.is_started:
            self._footer.start()
            self._console.show_cursor(True)

    def _taken(self) -> list[Line]:
        above = list(self._waiting)
        self._waiting.clear()
        return above

    def _place(self, now: float) -> None:
        """Give every chunk that runs long enough a row: that of one that is done, if there is any."""
        self._shown = [
            chunk for chunk in self._shown if not self._meter.finished and now - (chunk.ended or now) < _LINGER
        ]
        seen = {id(chunk) for chunk in self._shown}
        for chunk in self._meter.running.values():
            if id(chunk) in seen or now - chunk.began < _BAR_AFTER:
                continue
            free = next((place for place, old in enumerate(self._shown) if old.ended is not None), None)
            if free is None:
                self._shown.append(chunk)
            else:
                self._shown[free] = chunk

    # --- Lines that stay ------------------------------------------------------------------------------------------

    def _keep(self, event: ChunkEvent) -> None:
        match event:
            case RunStarted() if event.skipped_chunks or self._verbose:
                self._say(started_words(event), "dim")
            case ChunkFinished() if event.result.status is ChunkStatus.FAILED:
                words, below = self._failures.lines(event.result)
                final = event.result.retry_in is None
                if words:
                    self._say(words, "red" if final else "yellow")
                    self._say_below(below, event.result.log if below or final else "")
            case ChunkFinished() if self._verbose:
                self._say(finished_words(event.result), "")
            case MergeFinished() if event.result.status is ChunkStatus.FAILED:
                self._say(merged_words(event.result), "red")
                self._say_below(tail_lines(event.result.tail), event.result.log)
            case MergeFinished() if self._verbose:
                self._say(merged_words(event.result), "")
            case Notice():
                self._say(one_line(event.message), "yellow")
            case RunFinished():
                self._shown.clear()

    def _say(self, words: str, style: str) -> None:
        """A line, or as many as the words need, set below each other."""
        width = self._console.width
        stamp = f"{local_time(self._clock.now())}  " if width >= _WIDE else ""
        indent = " " * len(stamp) or "  "
        for number, row in enumerate(wrap(words, max(1, width - len(indent)))):
            self._waiting.append(line(Span(indent if number else stamp, "dim"), Span(row, style)))

    def _say_below(self, rows: list[str], log: str) -> None:
        width = self._console.width
        indent = " " * (_STAMP if width >= _WIDE else 2)
        for row in rows:
            self._waiting.append(line(indent, Span("│ ", "dim"), crop(row, width - len(indent) - 2)))
        if log:
            # Not cut: only so it can be copied whole.
            self._waiting.append(line(indent, Span(f"log: {self._relative(one_line(log))}", "dim")))

    def _relative(self, path: str) -> str:
        return str(Path(path).relative_to(self._folder)) if Path(path).is_relative_to(self._folder) else path


def _working_folder() -> str:
    """Where we are; nowhere when the folder was removed under us."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return os.devnull
