"""Shows how far a render is: a bar on a terminal, elsewhere lines that say how many frames are done, or nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TextIO

from logist.clock import Clock, SystemClock
from logist.console.sinks import Sink, shows_live

#: Takes how many frames are done, and of how many; called from one thread at a time.
ShowFrames = Callable[[int, int], None]
#: Seconds between two lines.
_LINE_EVERY = 0.5


class FrameLines:
    """A line now and then, as `progress_lines` reads it back when the render is a chunk of a job."""

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        #: How many were done when we first heard of any, and when: what was before is the browser's start.
        self._first: tuple[int, float] | None = None
        self._told = 0
        self._told_at = clock.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Tell it, unless something was told a moment ago."""
        now = self._clock.monotonic()
        first, began = self._first = self._first or (done, now)
        if done <= self._told or (done < total and now - self._told_at < _LINE_EVERY):
            return
        self._told, self._told_at = done, now
        speed = f", {(done - first) / (now - began):.1f} a second" if done > first and now > began else ""
        self._sink.write(f"rendered {done}/{total} frames{speed}")


@contextlib.contextmanager
def show_frames(
    *,
    quiet: bool,
    environ: Mapping[str, str],
    stream: TextIO | None = None,
    clock: Clock | None = None,
) -> Iterator[ShowFrames]:
    """Show how many frames are done while the block runs, on stderr."""
    target = stream or sys.stderr
    if quiet:
        yield lambda _done, _total: None
    elif shows_live(target, environ):
        with _bar(target, environ) as show:
            yield show
    else:
        yield FrameLines(Sink(target), clock or SystemClock())


@contextlib.contextmanager
def _bar(stream: TextIO, environ: Mapping[str, str]) -> Iterator[ShowFrames]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    from logist.console.terminal import open_console

    class Speed(ProgressColumn):
        """Frames a second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f} fps" if task.speed else "", style="dim")

    columns = (BarColumn(bar_width=None), MofNCompleteColumn(), Speed(), TimeRemainingColumn(compact=True))
    console = open_console(stream, environ)
    with Progress(*columns, console=console, transient=True, refresh_per_second=8) as progress:
        # Whatever kills the process, the terminal is as it was.
        console.show_cursor(True)
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
