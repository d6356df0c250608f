"""Lists as text: jobs, steps, records of the history, evidence commits, and files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, TextIO

from logist.console import Line, Span, crop, drawn, line_width, one_line, pad, text_width
from logist.console.card import VERDICT_STYLES, moment, steps_lines
from logist.durations import format_duration
from logist.job_report import JobRow, StepSummary
from logist.lifecycle import JobStatus
from logist.models import history

if TYPE_CHECKING:
    from logist.models.history import HistoryEntry
    from logist.workspace_utils import LoggedCommit, TreeFile

_STATUS_STYLES = {
    JobStatus.PENDING: "",
    JobStatus.RUNNING: "command",
    JobStatus.SUCCESS: "good",
    JobStatus.CANCELED: "warn",
    JobStatus.INTERVENTION_REQUIRED: "bad",
}


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


def _text(draw: Callable[[int | None], Iterable[Line]], stream: TextIO | None) -> str:
    return drawn(draw, stream or sys.stdout)


# --- Jobs ----------------------------------------------------------------------------------------------------------


def jobs_table(rows: Sequence[JobRow], *, now: datetime | None = None, stream: TextIO | None = None) -> str:
    """The jobs, one a line; `*` marks the selected one."""
    at = now or datetime.now(UTC)
    return _text(lambda width: jobs_lines(rows, at, width), stream)


def jobs_lines(rows: Sequence[JobRow], now: datetime, width: int | None) -> list[Line]:
    """The jobs as styled lines."""
    columns = [
        Column(" "), Column("job"), Column("status"), Column("step", right=True), Column("changed"), Column("objective")
    ]  # fmt: skip
    return table_lines(columns, [_job_cells(row, now) for row in rows], width)


def _job_cells(row: JobRow, now: datetime) -> list[Span]:
    mark = Span("*" if row.selected else " ", "command")
    if row.status is None or row.updated_at is None:
        unknown = Span("–", "dim")
        return [mark, Span(row.id, "bold"), Span("UNREADABLE", "bad"), unknown, unknown, Span(one_line(row.problem))]
    name, _, died = row.headline.partition(" (")
    state = Span(f"{name} (died)", "bad") if died else Span(name, _STATUS_STYLES[row.status])
    if row.status is JobStatus.INTERVENTION_REQUIRED:
        state = Span(f"{name}: {row.reason}", "bad")
    ago = moment(row.updated_at, now).partition("(")[2].removesuffix(")")
    return [mark, Span(row.id, "bold"), state, Span(str(row.step)), Span(ago, "dim"), Span(one_line(row.objective))]


# --- Steps ---------------------------------------------------------------------------------------------------------


def steps_table(steps: Sequence[StepSummary], *, stream: TextIO | None = None) -> str:
    """The steps, one a line, oldest first: who, verdict, files, cost, time, commit, words."""
    return _text(lambda width: steps_lines(steps, width), stream)


# --- The history ---------------------------------------------------------------------------------------------------


def history_table(entries: Iterable[HistoryEntry], *, stream: TextIO | None = None) -> str:
    """The records, one a line, in the order given."""
    listed = list(entries)
    return _text(lambda width: history_lines(listed, width), stream)


def history_lines(entries: Sequence[HistoryEntry], width: int | None) -> list[Line]:
    """The records as styled lines."""
    columns = [Column("seq", right=True), Column("time"), Column("record"), Column("what")]
    return table_lines(columns, [_history_cells(entry) for entry in entries], width)


def _history_cells(entry: HistoryEntry) -> list[Span]:
    record = entry.record
    time = entry.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    style = VERDICT_STYLES[record.action] if isinstance(record, history.Committed) else ""
    return [
        Span(str(entry.seq), "dim"),
        Span(time, "dim"),
        Span(record.type, "bold"),
        Span(_record_words(record), style),
    ]


def _record_words(record: history.HistoryRecord) -> str:
    match record:
        case history.Created():
            return one_line(str(record.change.get("job", {}).get("objective", "")))
        case history.Committed():
            said = f"step {record.step} {record.role}: {record.action}, {record.commit[:7]}"
            return f"{said}: {one_line(record.summary)}" if record.summary else said
        case history.Transition():
            return f"{record.trigger}: {one_line(record.reason.sentence)}"
        case history.Resolution():
            return f"{record.kind} by {one_line(record.actor)}: {one_line(record.reason.sentence)}"
        case history.Restored():
            return "the workspace is what the job says it is"
        case _:
            return f"step {record.step} attempt {record.attempt}: {_attempt_words(record)}"


def _attempt_words(record: history.Intent | history.Started | history.Exited | history.AttemptFailed) -> str:
    match record:
        case history.Intent():
            return f"{record.role} {one_line(record.agent)} is asked"
        case history.Started():
            return f"process {record.process.pid} runs"
        case history.Exited():
            code = "" if record.exit_code is None else f" with exit code {record.exit_code}"
            return f"{record.ended}{code} after {format_duration(record.duration)}"
        case history.AttemptFailed():
            return f"{record.kind}: {one_line(record.detail)}"


# --- Evidence ------------------------------------------------------------------------------------------------------


def commits_table(commits: Sequence[LoggedCommit], *, stream: TextIO | None = None) -> str:
    """The evidence commits, one a line, in the order given."""
    return _text(lambda width: commits_lines(commits, width), stream)


def commits_lines(commits: Sequence[LoggedCommit], width: int | None) -> list[Line]:
    """The evidence commits as styled lines."""
    columns = [Column("commit"), Column("time"), Column("author"), Column("what")]
    rows = [
        [
            Span(commit.id[:12], "warn"),
            Span(commit.at.astimezone().strftime("%Y-%m-%d %H:%M:%S"), "dim"),
            Span(one_line(commit.author)),
            Span(one_line(commit.subject)),
        ]
        for commit in commits
    ]
    return table_lines(columns, rows, width)


def files_table(files: Sequence[TreeFile], *, stream: TextIO | None = None) -> str:
    """The files of an evidence commit, one a line."""
    return _text(lambda width: files_lines(files, width), stream)


def files_lines(files: Sequence[TreeFile], width: int | None) -> list[Line]:
    """The files as styled lines."""
    columns = [Column("mode"), Column("bytes", right=True), Column("blob"), Column("path")]
    rows = [
        [
            Span(file.mode, "dim"),
            Span("–" if file.size is None else str(file.size)),
            Span(file.blob[:12], "dim"),
            Span(one_line(file.path)),
        ]
        for file in files
    ]
    return table_lines(columns, rows, width)
