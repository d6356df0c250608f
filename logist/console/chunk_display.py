"""Chooses how a chunk run is shown: bars on a terminal, plain lines, JSON lines, or the verdict alone.

What is not chosen is not imported: a run of short chunks that says nothing must not wait for it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Protocol, TextIO

from logist.chunks import ChunkEvent, EventSink, RunFinished, RunReport, RunStarted
from logist.clock import Clock
from logist.console import one_line
from logist.console.sinks import Sink, shows_live
from logist.lifecycle import JobStatus


class ChunkDisplay(Protocol):
    """Takes the events of a run; holds something to give back: a terminal, a thread."""

    def emit(self, event: ChunkEvent) -> None:
        """Take one event, from any thread. Never raises."""
        ...

    def close(self) -> None:
        """Put the terminal back as it was. Nothing is shown afterwards."""
        ...


class QuietChunks:
    """The verdict on stderr when the run is over, and of a failure where to read why."""

    def __init__(self, *, stream: TextIO | None = None) -> None:
        self._sink = Sink(stream or sys.stderr)
        self._lock = threading.Lock()
        self._spec = ""

    def emit(self, event: ChunkEvent) -> None:
        """Show the end, and nothing else."""
        match event:
            case RunStarted():
                self._spec = f"{one_line(event.spec)}: "
            case RunFinished():
                with self._lock:
                    self._show(event.report)

    def _show(self, report: RunReport) -> None:
        self._sink.write(f"{self._spec}{report.status.replace('_', ' ')}: {one_line(report.reason)}")
        if report.status is not JobStatus.SUCCESS:
            self._show_why(report)

    def _show_why(self, report: RunReport) -> None:
        from logist.chunk_selection import nearby
        from logist.console.chunk_outcome import logs_of
        from logist.console.chunk_tables import tail_lines

        logs = logs_of(report)
        for log in logs:
            self._sink.write(f"log: {one_line(nearby(log))}")
        # A worker without state keeps no log.
        for text in tail_lines(report.failed[0].tail) if report.failed and not logs else []:
            self._sink.write(f"│ {text}")

    def close(self) -> None:
        """Nothing is held."""


@contextlib.contextmanager
def open_chunk_display(
    progress: str, *, environ: Mapping[str, str], verbose: bool = False, clock: Clock | None = None
) -> Iterator[EventSink]:
    """What a run's events are given to, closed at its end whatever happens.

    `progress` is auto, tty, plain, json or none: auto is bars on a terminal and plain lines elsewhere, none is the
    verdict alone.
    """
    with contextlib.closing(_display(progress, environ, verbose, clock)) as display:
        yield display.emit


def _display(progress: str, environ: Mapping[str, str], verbose: bool, clock: Clock | None) -> ChunkDisplay:
    match progress:
        case "json":
            from logist.console.chunks import JsonChunks

            return JsonChunks(clock=clock)
        case "none":
            return QuietChunks()
        case "auto" | "tty" if shows_live(sys.stderr, environ):
            # rich comes in with the bars only: whatever else is shown starts without it.
            from logist.console.chunk_bars import ChunkBars

            return ChunkBars(environ=environ, verbose=verbose, clock=clock)
        case _:
            from logist.console.chunks import PlainChunks

            return PlainChunks(verbose=verbose, clock=clock)
