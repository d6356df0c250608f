"""A chunk run in words: one event, and the table of its chunks. Pure."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence

from logist.chunks import ChunkId, ChunkResult, ChunkStatus, Evidence, MergeResult, Output, RunReport, RunStarted
from logist.console import Line, Span, crop, line, one_line, paint, wrap
from logist.console.columns import Column, table_lines
from logist.durations import format_duration
from logist.plain_text import plain_text

#: Lines of a failed chunk's output that are shown; its log has all.
TAIL_LINES = 10
#: Characters of its end that are looked at for them.
_TAIL_CHARACTERS = 16_384
_LONGEST_TAIL_LINE = 300
_LONGEST_PROBLEM = 300
#: Columns of a chunk's name. Specs allow more only for files that nobody checked.
_LONGEST_NAME = 64
#: Columns of a chunk's name where it stands beside others.
_WIDEST_CELL = 16
#: Runs of more chunks are shown by their failed and their slowest ones.
_MOST_ROWS = 20
_MOST_FAILED = 20
_SLOWEST = 5
#: Below this many columns the table keeps to what matters most.
_NARROW = 60
#: Chunks that are named in one line.
_MOST_NAMED = 8

_STATUS_STYLES = {ChunkStatus.DONE: "good", ChunkStatus.FAILED: "bad", ChunkStatus.STOPPED: "warn"}
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


# --- Words ---------------------------------------------------------------------------------------------------------


def chunk_name(chunk: ChunkId) -> str:
    """`chunk 3`, safe to show."""
    return f"chunk {crop(one_line(str(chunk)), _LONGEST_NAME)}"


def count(number: int, name: str) -> str:
    """`1 chunk`, `2,000 chunks`."""
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


def fps_text(fps: float | None) -> str:
    """`29 fps`, with more digits for slow ones; empty when it is unknown."""
    if fps is None or fps <= 0:
        return ""
    return f"{fps:.2f} fps" if fps < 1 else f"{fps:.1f} fps" if fps < 9.95 else f"{fps:,.0f} fps"


def size_text(size: int) -> str:
    """`900 bytes`, `1.2 MB`."""
    for unit, name in _SIZES:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return count(size, "byte")


def started_words(event: RunStarted) -> str:
    """What a run is about to do."""
    words = f"{one_line(event.spec)}: {count(event.chunks, 'chunk')}, {count(event.frames, 'frame')}"
    words += f", {event.concurrency:,} at a time"
    if event.skipped_chunks:
        were = "was" if event.skipped_chunks == 1 else "were"
        words += f"; {count(event.skipped_chunks, 'chunk')} ({count(event.skipped_frames, 'frame')}) {were} done before"
    return words


def finished_words(result: ChunkResult) -> str:
    """How an attempt at a chunk ended, in one line."""
    again = f" (attempt {result.attempt})" if result.attempt > 1 else ""
    name = chunk_name(result.chunk)
    match result.status:
        case ChunkStatus.DONE:
            fps = fps_text(_fps(result.frame_count, result.duration))
            made = f"{count(result.frame_count, 'frame')} in {format_duration(result.duration)}"
            return f"{name} done{again}: {made}{fps and ', '}{fps}"
        case ChunkStatus.FAILED:
            retry = "" if result.retry_in is None else f", again in {format_duration(result.retry_in)}"
            return f"{name} failed{again}: {problem_words(result)}{retry}"
        case _:
            return f"{name} {result.status.value}{again} after {format_duration(result.duration)}"


def merged_words(result: MergeResult) -> str:
    """How the merge ended, in one line."""
    took = format_duration(result.duration)
    match result.status:
        case ChunkStatus.DONE if result.output is not None:
            return f"merged in {took}: {one_line(result.output.path)} ({', '.join(output_facts(result.output))})"
        case ChunkStatus.DONE:
            return f"merged in {took} (exit code only)"
        case ChunkStatus.FAILED:
            return f"merge failed after {took}: {problem_words(result)}"
        case _:
            return f"merge {result.status.value} after {took}"


def problem_words(result: ChunkResult | MergeResult) -> str:
    """Why it failed, bounded."""
    exit_code = "it did not run" if result.exit_code is None else f"exit code {result.exit_code}"
    return crop(one_line(result.problem), _LONGEST_PROBLEM) or exit_code


def output_facts(output: Output) -> list[str]:
    """What was verified of a file, the weaker checks named."""
    size = size_text(output.size)
    match output.evidence:
        case Evidence.FRAMES:
            return [size] if output.frames is None else [f"{count(output.frames, 'frame')} decoded", size]
        case Evidence.FILE:
            return ["not decoded", size]
        case Evidence.EXIT:
            return ["exit code only"]


def tail_lines(tail: str) -> list[str]:
    """The last lines of an output that say something: plain, bounded in number and length."""
    rows = (row.expandtabs(4).rstrip() for row in plain_text(tail[-_TAIL_CHARACTERS:]).split("\n"))
    return [crop(row, _LONGEST_TAIL_LINE) for row in rows if row][-TAIL_LINES:]


def _fps(frames: int, seconds: float) -> float | None:
    # A speed that was measured over less than a millisecond says nothing.
    return frames / seconds if seconds >= 0.001 else None


# --- The table -----------------------------------------------------------------------------------------------------


def summary_table(report: RunReport, *, width: int | None, color: bool = False, encoding: str | None = "utf-8") -> str:
    """The chunks of a run as text to echo, its last newline left out. Without a `width` nothing is cut."""
    return paint(summary_lines(report, width), color=color, encoding=encoding).removesuffix("\n")


def summary_lines(
    report: RunReport,
    width: int | None,
    *,
    can_decode: bool | None = None,
    listed: Sequence[ChunkResult] | None = None,
    whose: str = "",
) -> list[Line]:
    """The chunks, a line that sums them up, weaker checks by name, and the merged file.

    Of a run of very many chunks only the failed and the slowest are listed. `can_decode` is whether PyAV is there;
    None: look. `listed` are chunks of earlier runs too, and `whose` then says which run is summed up.
    """
    lines: list[Line] = []
    listed = report.results if listed is None else listed
    rows, left_out = _chosen(listed)
    if rows:
        lines = table_lines(*_table(rows, short=width is not None and width < _NARROW), width)
    if left_out:
        lines.append(line(Span(f"and {left_out:,} more", "dim")))
    if can_decode is None:
        can_decode = importlib.util.find_spec("av") is not None
    sentences = [Span(whose + _total_words(report), "bold"), *_weaker(listed, can_decode)]
    lines += [line(Span(row, style)) for text, style in sentences for row in wrap(text, width)]
    # Not wrapped: only so its path can be copied whole.
    return [*lines, *(line(span) for span in _merge_words(report.merge))]


def _chosen(results: Sequence[ChunkResult]) -> tuple[list[ChunkResult], int]:
    if len(results) <= _MOST_ROWS:
        return sorted(results, key=_start), 0
    failed = sorted((result for result in results if result.status is ChunkStatus.FAILED), key=_start)[:_MOST_FAILED]
    others = [result for result in results if result.status is not ChunkStatus.FAILED]
    slowest = sorted(others, key=lambda result: -result.duration)[:_SLOWEST]
    return [*failed, *slowest], len(results) - len(failed) - len(slowest)


def _start(result: ChunkResult) -> int:
    return result.start_frame


def _table(rows: Sequence[ChunkResult], *, short: bool) -> tuple[list[Column], list[list[Span]]]:
    numbered = all(isinstance(result.chunk, int) for result in rows)
    columns = [Column("chunk", right=numbered), Column("frames", right=True), Column("attempts", right=True)]
    columns += [Column("time", right=True), Column("fps", right=True), Column("status")]
    cells = [_cells(result) for result in rows]
    dropped = {2, 4} if short else set()
    keep = [place for place in range(len(columns)) if place not in dropped]
    return [columns[place] for place in keep], [[row[place] for place in keep] for row in cells]


def _cells(result: ChunkResult) -> list[Span]:
    done = result.status is ChunkStatus.DONE
    fps = fps_text(_fps(result.frame_count, result.duration)).removesuffix(" fps") if done else ""
    return [
        Span(crop(one_line(str(result.chunk)), _WIDEST_CELL)),
        Span(f"{result.frame_count:,}"),
        Span(str(result.attempt) if result.attempt else "–"),
        Span(format_duration(result.duration)),
        Span(fps or "–"),
        Span(_status_words(result), _STATUS_STYLES.get(result.status, "")),
    ]


def _status_words(result: ChunkResult) -> str:
    if result.status is ChunkStatus.FAILED:
        return f"failed: {problem_words(result)}"
    if result.status is not ChunkStatus.DONE:
        return result.status.value
    evidence = Evidence.EXIT if result.output is None else result.output.evidence
    return {Evidence.FRAMES: "done", Evidence.FILE: "done, not decoded", Evidence.EXIT: "done, exit code only"}[
        evidence
    ]


def _total_words(report: RunReport) -> str:
    if not report.results and report.skipped:
        were = "was" if len(report.skipped) == 1 else "were"
        return f"{'' if report.merge else 'nothing to do: '}{count(len(report.skipped), 'chunk')} {were} done before"
    counts = Counter(result.status for result in report.results)
    others = [status for status in ChunkStatus if status is not ChunkStatus.DONE and counts[status]]
    parts = [f"{count(counts[ChunkStatus.DONE], 'chunk')} done"]
    parts += [f"{counts[status]:,} {status.value}" for status in others]
    parts += [f"{len(report.skipped):,} done before"] if report.skipped else []
    frames = done_frames(report)
    fps = fps_text(_fps(frames, report.duration))
    return f"{', '.join(parts)}: {count(frames, 'frame')} in {format_duration(report.duration)}{fps and ', '}{fps}"


def done_frames(report: RunReport) -> int:
    """The frames that this run made."""
    return sum(result.frame_count for result in report.results if result.status is ChunkStatus.DONE)


def _weaker(results: Sequence[ChunkResult], can_decode: bool) -> list[Span]:
    done = [result for result in results if result.status is ChunkStatus.DONE]
    unseen = sum(result.output is not None and result.output.evidence is Evidence.FILE for result in done)
    codes = sum(result.output is None or result.output.evidence is Evidence.EXIT for result in done)
    lines = []
    if unseen:
        why = "no video" if can_decode else "install logist[render]"
        lines.append(Span(f"{count(unseen, 'chunk')} not decoded: {why}", "warn"))
    if codes:
        lines.append(Span(f"{count(codes, 'chunk')} checked by exit code only: the spec names no output", "warn"))
    return lines


def _merge_words(merge: MergeResult | None) -> list[Span]:
    return [] if merge is None else [Span(merged_words(merge), _STATUS_STYLES.get(merge.status, ""))]


def named(chunks: Sequence[ChunkId]) -> str:
    """The first of them, and how many more there are."""
    names = [crop(one_line(str(chunk)), _WIDEST_CELL) for chunk in chunks[:_MOST_NAMED]]
    rest = len(chunks) - len(names)
    return ", ".join(names) + (f" and {rest:,} more" if rest else "")
