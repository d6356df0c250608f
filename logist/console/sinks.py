"""The streams that a run is told on; nothing of the jobs is imported here, so that a chunk run starts fast."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from typing import TextIO

import click

from logist.console import fit_encoding

#: Version of the records of the JSON event stream.
STREAM_VERSION = 1
#: Seconds between two signs of life of a running step, where there is no live view.
HEARTBEAT = 60.0


class Sink:
    """A stream that lines are written to whole; one that nobody reads any more is left alone for good."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._closed = False
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Write one line and flush it. Never raises for a reader that has gone or a full disk."""
        with self._lock:
            if self._closed:
                return
            try:
                click.echo(fit_encoding(text, self._stream.encoding), file=self._stream)
            except (OSError, ValueError):
                # ValueError: the stream was closed. The run goes on without it, and so must the exit's flush.
                self._closed = True
                _discard(self._stream)


def _discard(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)


def shows_live(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a live view makes sense on `stream`: a terminal that can move its cursor.

    Asked of the stream itself: what rich would answer can be bent by variables that CI systems set.
    """
    return stream.isatty() and environ.get("TERM", "") not in ("", "dumb")
