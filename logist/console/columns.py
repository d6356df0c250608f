"""Rows of cells under their heads, as lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from logist.console import Line, Span, crop, line_width, pad, text_width


class Column(NamedTuple):
    """A column's head, and how its cells look: numbers are set to the right."""

    head: str
    right: bool = False


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[Span]], width: int | None) -> list[Line]:
    """Rows under their heads; the last column gets what is left of `width`, and is cut there."""
    heads = [Span(column.head, "dim") for column in columns]
    cells = [heads, *rows]
    widths = [max(text_width(row[place].text) for row in cells) for place in range(len(columns) - 1)]
    lines = []
    for row in cells:
        spans: list[Span] = []
        for cell, column, size in zip(row, columns, widths, strict=False):
            filled = " " * (size - text_width(cell.text)) + cell.text if column.right else pad(cell.text, size)
            spans += [Span(filled, cell.style), Span("  ")]
        room = None if width is None else max(8, width - line_width(tuple(spans)))
        lines.append((*spans, Span(crop(row[-1].text, room), row[-1].style)))
    return lines
