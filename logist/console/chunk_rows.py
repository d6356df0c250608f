"""The rows of a chunk run's bars: what stands in each, and what of it fits into the terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from logist.console import Line, Span, crop, crop_line, line, pad, text_width
from logist.console.chunk_meter import RunMeter, RunningChunk
from logist.console.chunk_tables import chunk_name, fps_text
from logist.durations import stopwatch

_WIDEST_BAR = 40
#: Columns that a bar needs to be worth more than the words beside it, and to be shown at all.
_GOOD_BAR = 8
_LEAST_BAR = 4
#: Columns at the end of a row that stay free: the terminal echoes ^C there, and that must not start a new row.
_MARGIN = 4
#: Columns a second that the bar of a chunk moves whose frames nobody knows.
_PULSES = 12
#: rich's own styles of a progress bar.
_FULL, _PULSE, _BACK = "bar.complete", "bar.pulse", "bar.back"
_COUNTS, _LEFT = "progress.download", "progress.remaining"


class _Cells(NamedTuple):
    """What a row of the footer shows. Without a `share` the bar says only that something goes on."""

    name: Span
    share: float | None
    counts: str = ""
    fps: str = ""
    time: str = ""
    #: Whether `time` is what is left, not what has passed.
    left: bool = False
    remark: str = ""
    remark_style: str = "dim"


def footer_rows(meter: RunMeter, shown: Sequence[RunningChunk], now: float, width: int, height: int) -> list[Line]:
    """The bars as lines that fit into `width` columns and, with a row to spare, into `height` rows."""
    head = [_total(meter, now)]
    if meter.merging is not None:
        head.append(_Cells(Span("merge", "bold"), None, time=stopwatch(now - meter.merging)))
    room = max(0, height - 1 - len(head))
    fitting = len(shown) if len(shown) <= room else max(0, room - 1)
    cells = [*head, *(_chunk(chunk, now) for chunk in shown[:fitting])]
    rows = _laid_out(cells, now, max(1, width - _MARGIN), _widest_name(meter))
    hidden = sum(chunk.ended is None for chunk in shown[fitting:])
    if hidden and room:
        rows.append(line(Span(crop(f"  and {hidden:,} more", max(1, width - _MARGIN)), "dim")))
    return rows[: max(1, height - 1)]


def _total(meter: RunMeter, now: float) -> _Cells:
    chunks, frames = f"{meter.chunks:,}", f"{meter.frames:,}"
    name = f"{meter.done_chunks:>{len(chunks)},}/{chunks} chunks"
    done, left = meter.frames_done, meter.left(now)
    return _Cells(
        Span(name, "bold"),
        done / meter.frames if meter.frames else 0.0,
        f"{done:>{len(frames)},}/{frames}",
        fps_text(meter.fps(now)),
        "" if left is None else stopwatch(left),
        left=True,
        remark=f"{meter.failed_chunks:,} failed" if meter.failed_chunks else "",
        remark_style="red",
    )


def _chunk(chunk: RunningChunk, now: float) -> _Cells:
    name, frames = Span(f"  {chunk_name(chunk.chunk)}"), f"{chunk.frame_count:,}"
    remark = f"attempt {chunk.attempt}" if chunk.attempt > 1 else ""
    if not chunk.tells and chunk.ended is None:
        passed = stopwatch(now - chunk.began)
        return _Cells(name, None, f"–/{frames}", "", passed, remark=remark)
    left = None if chunk.ended is not None else chunk.left(now)
    return _Cells(
        name,
        chunk.frames / chunk.frame_count if chunk.frame_count else 1.0,
        f"{chunk.frames:,}/{frames}",
        "" if chunk.ended is not None else fps_text(chunk.fps(now)),
        "" if left is None else stopwatch(left),
        left=True,
        remark=remark,
    )


def _widest_name(meter: RunMeter) -> int:
    return 2 * len(f"{meter.chunks:,}") + len("/ chunks")


class _Layout(NamedTuple):
    """The columns of the rows; one of no width is left out."""

    name: int
    bar: int
    counts: int
    fps: int
    time: int
    remark: int
    #: Whether a time says whether it is left or has passed.
    words: bool


def _laid_out(cells: Sequence[_Cells], now: float, width: int, widest_name: int) -> list[Line]:
    layout = _layout(cells, width, widest_name)
    return [_row(row, layout, now, width) for row in cells]


def _layout(cells: Sequence[_Cells], width: int, widest_name: int) -> _Layout:
    """What fits: the narrower the terminal, the less stands beside a bar."""
    longest = max(text_width(row.name.text) for row in cells)
    name = max(min(widest_name, width), min(longest, width // 3))
    # Not less than what is usual, so that the bars don't move when a number gets its second digit.
    full = _Layout(
        name,
        0,
        max(len(row.counts) for row in cells),
        max(6, *(len(row.fps) for row in cells), 0),
        max(12, *(len(_time(row, words=True)) for row in cells), 0),
        max(len(row.remark) for row in cells),
        words=True,
    )
    short = full._replace(words=False, time=max(5, *(len(_time(row, words=False)) for row in cells), 0))
    # How many failed is kept to the last: the rest can be guessed.
    least = short._replace(fps=0, remark=len(cells[0].remark))
    layouts = [full, short, short._replace(fps=0), least, least._replace(time=0)]
    bars = [layout._replace(bar=min(_WIDEST_BAR, width - _used(layout))) for layout in layouts]
    good = next((layout for layout in bars if layout.bar >= _GOOD_BAR), bars[-1])
    return good if good.bar >= _LEAST_BAR else good._replace(bar=0)


def _used(layout: _Layout) -> int:
    """The columns of all but the bar, with the gaps between them."""
    return layout.name + 1 + sum(2 + columns for columns in layout[2:6] if columns)


def _row(row: _Cells, layout: _Layout, now: float, width: int) -> Line:
    name = Span(pad(crop(row.name.text, layout.name), layout.name), row.name.style)
    spans = [name, Span(" "), *_bar(row.share, layout.bar, now), Span(f"  {row.counts:>{layout.counts}}", _COUNTS)]
    if layout.fps:
        spans.append(Span(f"  {row.fps:>{layout.fps}}"))
    if layout.time:
        spans.append(Span(f"  {_time(row, words=layout.words):<{layout.time}}", _LEFT if row.left else "dim"))
    if row.remark and len(row.remark) <= layout.remark:
        spans.append(Span(f"  {row.remark}", row.remark_style))
    return _cut(spans, width)


def _time(row: _Cells, *, words: bool) -> str:
    if not words:
        # Alone it would be taken for what is left.
        return row.time if row.left else ""
    return f"{row.time} {'left' if row.left else 'so far'}" if row.time else ""


def _bar(share: float | None, width: int, now: float) -> list[Span]:
    if share is None:
        length = max(1, width // 4)
        start = int(now * _PULSES) % (width + length) - length
        before, after = max(0, start), max(0, min(width, start + length))
        return [Span("─" * before, _BACK), Span("━" * (after - before), _PULSE), Span("─" * (width - after), _BACK)]
    full = int(max(0.0, min(1.0, share)) * width)
    return [Span("━" * full, _FULL), Span("─" * (width - full), _BACK)]


def _cut(spans: Sequence[Span], width: int) -> Line:
    """The pieces of a row, cut to `width` columns, without empty ones at its end."""
    kept = list(crop_line(spans, width))
    while kept and not kept[-1].text.strip():
        kept.pop()
    if kept:
        kept[-1] = Span(kept[-1].text.rstrip(), kept[-1].style)
    return tuple(kept)
