"""Reads what programs print as JSON: tolerant, for their formats change, and never by guessing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

#: Whatever a program prints; what is wanted of it is taken out by `text_at`, `number_at` and `table_at`.
Values = dict[str, Any]
_DECODER = json.JSONDecoder()
_GAP = re.compile(rb"^\[\.\.\. \d+ bytes not kept \.\.\.\]$", re.MULTILINE)
_PLACE = re.compile(r"-?[0-9]{1,9}", re.ASCII)


def json_lines(data: bytes) -> Iterator[Values]:
    """The JSON objects among the lines of `data`, in order; any other line is somebody's message and left out."""
    for line in data.split(b"\n"):
        if not line.lstrip().startswith(b"{"):
            continue
        try:
            loaded = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(loaded, dict):
            yield loaded


def after_gap(data: bytes) -> bytes:
    """What stands after the note that a part of a long stream was not kept; all of it where there is no such note.

    An agent's last words are there or nowhere: what it said before the gap was followed by more.
    """
    gaps = list(_GAP.finditer(data))
    return data[gaps[-1].end() :] if gaps else data


def json_object(data: bytes) -> Values | None:
    """The JSON object that `data` is, or that its last lines are after messages of other kinds; None: there is none."""
    text = data.decode("utf-8", errors="replace").strip()
    start = 0 if text.startswith("{") else text.find("\n{") + 1
    while start or text.startswith("{"):
        try:
            loaded, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = -1
        if end == len(text):
            return loaded if isinstance(loaded, dict) else None
        start = text.find("\n{", max(start, end)) + 1
        if not start:
            break
    return None


def value_at(values: object, *path: str) -> object:
    """What lies at `path` in nested objects and lists (`0`, `-1`); None where a part of it is missing."""
    for name in path:
        if isinstance(values, list) and _PLACE.fullmatch(name):
            place = int(name)
            values = values[place] if -len(values) <= place < len(values) else None
        else:
            values = values.get(name) if isinstance(values, dict) else None
    return values


def text_at(values: object, *path: str) -> str:
    """The text at `path`; empty when there is none."""
    found = value_at(values, *path)
    return found if isinstance(found, str) else ""


def number_at(values: object, *path: str) -> float | None:
    """The finite number at `path`, not below 0; None when there is none."""
    found = value_at(values, *path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if 0 <= found < 1e15 else None


def count_at(values: object, *path: str) -> int | None:
    """The whole number at `path`; None when there is none."""
    found = number_at(values, *path)
    return None if found is None else int(found)


def table_at(values: object, *path: str) -> Values:
    """The object at `path`; empty when there is none."""
    found = value_at(values, *path)
    return found if isinstance(found, dict) else {}


def list_at(values: object, *path: str) -> list[object]:
    """The list at `path`; empty when there is none."""
    found = value_at(values, *path)
    return found if isinstance(found, list) else []


def first_text(events: Iterable[Values], name: str) -> str | None:
    """The first text that is called `name` in any of `events`; None: there is none."""
    return next((found for event in events if (found := text_at(event, name))), None)
