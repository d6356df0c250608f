"""Text without tricks: what agents and commands print is hostile input for a terminal, a log and a commit message."""

from __future__ import annotations

import re
from typing import Any

_CONTROLS = re.compile(
    # A control string (OSC, DCS, SOS, PM, APC) that is closed on its own line. One that is not loses its
    # introducer alone: a missing terminator must not hide the rest of the output from a reader.
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x00-\x1f\x7f-\x9f]*(?:\x07|\x1b\\|\x9c)"
    # CSI, complete or cut off.
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    # The control strings' introducers, and the short escapes (charset, reset, index).
    r"|\x1b[\]PX^_]|\x1b[ -/]*[0-~]"
    # Any control character left, and the bidirectional controls that reorder what is seen.
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_LINE_ENDS = re.compile(r"\r\n|\r|\u2028|\u2029")
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def plain_text(data: bytes | str) -> str:
    """`data` as text to show or store: no escape sequence, no control character but newline and tab, no bidi control.

    Bytes are read as UTF-8, what isn't becomes U+FFFD; so do lone surrogates. A lone carriage return becomes a newline,
    because what it would have overwritten was printed too. The result is never longer than the text that was given.
    """
    if isinstance(data, str) and data.isascii() and data.isprintable():
        # Most cells of most tables: nothing in it is a control, so nothing has to be looked for.
        return data
    text = data.decode("utf-8", errors="replace") if isinstance(data, bytes) else _SURROGATES.sub("\ufffd", data)
    return _CONTROLS.sub("", _LINE_ENDS.sub("\n", text))


def plain_values(value: Any) -> Any:
    """JSON values with every text made plain."""
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, dict):
        return {key: plain_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_values(item) for item in value]
    return value


def last_part(data: bytes | str, limit: int) -> str:
    """The end of `data` as plain text, at most `limit` characters; where it was cut a first line says so."""
    # Four bytes a character at most, and room for what is dropped: the rest is never decoded.
    room = 8 * limit
    text = plain_text(data[-room:]).strip("\n")
    if len(text) <= limit and len(data) <= room:
        return text
    note = "[... earlier output left out ...]\n"
    return note + text[-(limit - len(note)) :]


def last_lines(data: bytes, count: int) -> tuple[str, ...]:
    """The last `count` lines of what was printed that are not empty, as plain text."""
    lines = [line.rstrip() for line in last_part(data, len(data) or 1).split("\n") if line.strip()]
    return tuple(lines[-count:])


def first_part(data: bytes | str, limit: int) -> str:
    """The start of `data` as plain text, at most `limit` characters; where it was cut a last line says so."""
    room = 8 * limit
    text = plain_text(data[:room])
    if len(text) <= limit and len(data) <= room:
        return text
    note = "\n[... the rest left out ...]"
    return text[: limit - len(note)] + note
