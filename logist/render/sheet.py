"""A contact sheet is a page of pictures: drawn by the browser that made them."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

#: In pixels: the longer side of a picture, what is between two of them, and the line of text below each.
_SIDE = 320
_GAP = 12
_LINE = 22

_STYLE = """
html { background: #16181d; }
body { margin: 0; padding: %(gap)dpx; display: grid; gap: %(gap)dpx; }
body { grid-template-columns: repeat(%(columns)d, %(width)dpx); }
figure { margin: 0; }
img { display: block; width: %(width)dpx; height: %(height)dpx; object-fit: contain;
      background: repeating-conic-gradient(#2a2d34 0 25%%, #22252b 0 50%%) 0 0 / 16px 16px; }
figcaption { height: %(line)dpx; font: 12px/%(line)dpx sans-serif; color: #aab0bb; }
"""


class Cell(NamedTuple):
    """One picture of the sheet."""

    #: The file, beside the page.
    name: str
    frame: int
    #: When it is shown, in seconds.
    time: Fraction


class Sheet(NamedTuple):
    """A page that shows pictures, and the size of the window that it fills, in pixels."""

    page: str
    width: int
    height: int


def sheet_page(cells: Sequence[Cell], width: int, height: int) -> Sheet:
    """Lay out pictures of this size, as many beside as below each other."""
    scale = min(1.0, _SIDE / max(width, height))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    columns = math.ceil(math.sqrt(len(cells)))
    rows = math.ceil(len(cells) / columns)
    style = _STYLE % {"gap": _GAP, "columns": columns, "width": width, "height": height, "line": _LINE}
    figures = "".join(_figure(cell) for cell in cells)
    page = f'<!doctype html><meta charset="utf-8"><title>Contact sheet</title><style>{style}</style>{figures}\n'
    return Sheet(page, _GAP + columns * (width + _GAP), _GAP + rows * (height + _LINE + _GAP))


def _figure(cell: Cell) -> str:
    text = html.escape(f"frame {cell.frame}, {float(cell.time):.2f} s")
    return f'<figure><img src="{html.escape(cell.name)}" alt=""><figcaption>{text}</figcaption></figure>\n'
