"""The terminal as rich draws on it, for all live views."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from logist.console import Line, fit_encoding

#: Refreshes a second; what an event changes is shown at once.
_RATE = 4


class Terminal:
    """The terminal, forgiving: when it has gone the run goes on, in silence."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        """Write it, or let it be."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        """Flush it, or let it be."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return

    def isatty(self) -> bool:
        """It is one."""
        return True

    def fileno(self) -> int:
        """Its descriptor."""
        return self._stream.fileno()


def open_console(stream: TextIO, environ: Mapping[str, str]) -> Console:
    """A rich console on a terminal: words are only words there, and a terminal that has gone is no error."""
    return Console(
        file=Terminal(stream),  # type: ignore[arg-type]  # as much of a stream as rich uses
        force_terminal=True,
        force_interactive=True,
        no_color=bool(environ.get("NO_COLOR")),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
        legacy_windows=False,
    )


def open_footer(console: Console, draw: Callable[[], Text]) -> Live:
    """Rows that `draw` makes anew a few times a second, below the lines that stay; not there before it is started."""
    return Live(
        console=console,
        refresh_per_second=_RATE,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        vertical_overflow="crop",
        get_renderable=draw,
    )


def styled(spans: Line, encoding: str | None) -> Text:
    """A line as rich draws it: never markup, so brackets are only brackets."""
    text = Text(no_wrap=True, end="")
    for piece, style in spans:
        text.append(fit_encoding(piece, encoding), style or None)
    return Text.assemble(text)
