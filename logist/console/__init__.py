"""The only place that draws: styled lines, and how they become text. The standard library and click alone."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TextIO

import click

from logist.durations import format_duration
from logist.plain_text import plain_text

if TYPE_CHECKING:
    from datetime import datetime

#: What a style's name looks like: arguments of click.style.
_STYLES: Mapping[str, Mapping[str, object]] = {
    "": {},
    "bold": {"bold": True},
    "dim": {"dim": True},
    "good": {"fg": "green"},
    "warn": {"fg": "yellow"},
    "bad": {"fg": "red"},
    "command": {"fg": "cyan"},
    "worker": {"fg": "magenta"},
    "supervisor": {"fg": "blue"},
    "human": {"fg": "cyan"},
    "pill-PENDING": {"fg": "black", "bg": "white", "bold": True},
    "pill-RUNNING": {"fg": "black", "bg": "cyan", "bold": True},
    "pill-SUCCESS": {"fg": "black", "bg": "green", "bold": True},
    "pill-CANCELED": {"fg": "black", "bg": "yellow", "bold": True},
    "pill-INTERVENTION_REQUIRED": {"fg": "bright_white", "bg": "red", "bold": True},
}

#: What is drawn where the terminal has no UTF-8; as wide as the sign that it stands for.
_ASCII = str.maketrans(
    {"✓": "+", "✗": "x", "↺": "~", "■": "#", "─": "-", "━": "=", "│": "|", "·": "-", "–": "-", "—": "-", "→": ">"}
    | {"“": '"', "”": '"', "…": "~"}
)
_ZERO_WIDTH = re.compile(r"[\u200b\u200c\u200d\u2060\ufeff\ufe00-\ufe0f\u00ad]")


class Span(NamedTuple):
    """A piece of a line, and the name of its style."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


def line(*parts: str | Span) -> Line:
    """A line of pieces; a bare string has no style. What is in it is made safe when it is painted."""
    return tuple(part if isinstance(part, Span) else Span(part) for part in parts)


class Screen(NamedTuple):
    """What a stream can show. Without a `width` it is no terminal: nothing is wrapped, cut or coloured."""

    width: int | None
    color: bool
    encoding: str


def screen_of(stream: TextIO, environ: Mapping[str, str]) -> Screen:
    """What `stream` can show; NO_COLOR and TERM=dumb take the colour away."""
    encoding = stream.encoding or "ascii"
    if not stream.isatty():
        return Screen(None, False, encoding)
    # Slow to import, and only a terminal has a size.
    import shutil

    plain = bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"
    return Screen(max(20, shutil.get_terminal_size().columns), not plain, encoding)


def one_line(text: str) -> str:
    """Any text as one line that is safe to show."""
    return " ".join(_ZERO_WIDTH.sub("", plain_text(text)).split())


def text_width(text: str) -> int:
    """The columns that `text` takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(map(_character_width, text))


def _character_width(character: str) -> int:
    if unicodedata.combining(character) or _ZERO_WIDTH.match(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def line_width(spans: Line) -> int:
    """The columns that a line takes."""
    return sum(text_width(span.text) for span in spans)


def local_time(at: datetime) -> str:
    """The time of day here: `14:20:03`."""
    return at.astimezone().strftime("%H:%M:%S")


def moment_of(at: datetime, now: datetime) -> str:
    """The local time: `14:20:03`; with the date when that is not the one of `now`."""
    local, here = at.astimezone(), now.astimezone()
    return local.strftime("%H:%M:%S" if local.date() == here.date() else "%Y-%m-%d %H:%M")


def until_words(until: datetime, now: datetime) -> str:
    """`until 15:00:05 (12m left)`."""
    left = max(0.0, (until - now).total_seconds())
    return f"until {moment_of(until, now)} ({format_duration(left)} left)"


def crop(text: str, width: int | None) -> str:
    """`text` cut to `width` columns, with a … where something is missing."""
    if width is None or text_width(text) <= width:
        return text
    kept, used = [], 0
    for character in text:
        used += _character_width(character)
        if used > width - 1:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…" if width > 0 else ""


def crop_line(spans: Iterable[Span], width: int) -> Line:
    """The pieces of a line, cut to `width` columns."""
    kept: list[Span] = []
    for text, style in spans:
        piece = crop(text, width)
        kept.append(Span(piece, style))
        width -= text_width(piece)
        if piece != text:
            break
    return tuple(kept)


def crop_start(text: str, width: int) -> str:
    """The end of `text` in `width` columns: of a path, its last part says most."""
    return text if text_width(text) <= width else crop(text[::-1], width)[::-1]


def pad(text: str, width: int) -> str:
    """`text` filled up with spaces to `width` columns."""
    return text + " " * (width - text_width(text))


def wrap(text: str, width: int | None) -> list[str]:
    """The words of `text` in lines of at most `width` columns; one line without a width."""
    words = text.split()
    if width is None:
        return [" ".join(words)]
    lines: list[str] = []
    for word in words:
        room = width - text_width(lines[-1]) - 1 if lines else -1
        if lines and text_width(word) <= room:
            lines[-1] += " " + word
        else:
            lines.extend(_broken(word, max(1, width)))
    return lines or [""]


def _broken(word: str, width: int) -> list[str]:
    """A word in pieces that fit: it may be a path or a hash wider than the terminal."""
    pieces = [""]
    for character in word:
        if pieces[-1] and text_width(pieces[-1]) + _character_width(character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


def fit_encoding(text: str, encoding: str | None) -> str:
    """`text` with only what `encoding` can show: signs become ASCII ones, the rest question marks."""
    if text.isascii():
        return text
    name = (encoding or "ascii").lower().replace("-", "").replace("_", "")
    if name.startswith("utf"):
        return text
    return text.translate(_ASCII).encode(encoding or "ascii", "replace").decode(encoding or "ascii")


def paint(lines: Iterable[Line], *, color: bool, encoding: str | None = "utf-8") -> str:
    """The lines as text to echo. Each is made plain here once more, so no control sequence but ours gets out."""
    return "".join(_paint_line(spans, color, encoding) + "\n" for spans in lines)


def _paint_line(spans: Line, color: bool, encoding: str | None) -> str:
    while spans and not spans[-1].text.strip() and not spans[-1].style.startswith("pill"):
        spans = spans[:-1]
    texts = [fit_encoding(_safe(span.text), encoding) for span in spans]
    if texts:
        texts[-1] = texts[-1] if spans[-1].style.startswith("pill") else texts[-1].rstrip()
    if not color:
        return "".join(texts).rstrip()
    return "".join(
        click.style(text, **_STYLES[span.style]) if span.style else text  # type: ignore[arg-type]  # the table's own
        for text, span in zip(texts, spans, strict=True)
    )


def drawn(draw: Callable[[int | None], Iterable[Line]], stream: TextIO) -> str:
    """What `draw` makes for the width of `stream`, as text to echo there."""
    screen = screen_of(stream, os.environ)
    return paint(draw(screen.width), color=screen.color, encoding=screen.encoding).removesuffix("\n")


def _safe(text: str) -> str:
    return _ZERO_WIDTH.sub("", plain_text(text)).replace("\n", " ").replace("\t", " ")
