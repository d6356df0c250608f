"""Lists as text: jobs, steps, records of the history, and evidence commits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from logist.console import Line, Span, crop, drawn, line, one_line, until_words
from logist.console.card import moment, steps_lines
from logist.console.columns import Column, table_lines
from logist.durations import format_duration
from logist.lifecycle import JobStatus

if TYPE_CHECKING:
    from logist.events import JobEnd
    from logist.job_list import JobRow
    from logist.step_summaries import StepSummary
    from logist.workspace_utils import LoggedCommit

#: Columns of a step's words in the list of steps; `job log --step` has them whole.
_LONGEST_SUMMARY = 200
#: Before the step.
_PRIORITY_PLACE = 3
_STATUS_STYLES = {
    JobStatus.PENDING: "",
    JobStatus.RUNNING: "command",
    JobStatus.SUCCESS: "good",
    JobStatus.CANCELED: "warn",
    JobStatus.INTERVENTION_REQUIRED: "bad",
}


def _text(draw: Callable[[int | None], Iterable[Line]], stream: TextIO | None) -> str:
    return drawn(draw, stream or sys.stdout)


# --- Jobs ----------------------------------------------------------------------------------------------------------


def jobs_table(rows: Sequence[JobRow], *, now: datetime | None = None, stream: TextIO | None = None) -> str:
    """The jobs, one a line; `*` marks the selected one."""
    at = now or datetime.now(UTC)
    return _text(lambda width: jobs_lines(rows, at, width), stream)


def jobs_lines(rows: Sequence[JobRow], now: datetime, width: int | None) -> list[Line]:
    """The jobs as styled lines; their priorities only where these differ."""
    columns = [
        Column(" "), Column("job"), Column("status"), Column("step", right=True), Column("changed"), Column("objective")
    ]  # fmt: skip
    cells = [_job_cells(row, now) for row in rows]
    if len({row.priority for row in rows}) > 1:
        columns.insert(_PRIORITY_PLACE, Column("priority", right=True))
        for row, cell in zip(rows, cells, strict=True):
            cell.insert(_PRIORITY_PLACE, Span(str(row.priority)))
    return table_lines(columns, cells, width)


def _job_cells(row: JobRow, now: datetime) -> list[Span]:
    mark = Span("*" if row.selected else " ", "command")
    if row.status is None or row.updated_at is None:
        unknown = Span("–", "dim")
        return [mark, Span(row.id, "bold"), Span("UNREADABLE", "bad"), unknown, unknown, Span(one_line(row.problem))]
    name, _, died = row.headline.partition(" (")
    state = Span(f"{name} (died)", "bad") if died else Span(name, _STATUS_STYLES[row.status])
    if row.wait is not None:
        state = Span(f"{state.text}: waits {until_words(row.wait.until, now)}", "bad" if died else "warn")
    if row.status is JobStatus.INTERVENTION_REQUIRED:
        state = Span(f"{name}: {row.reason}", "bad")
    ago = moment(row.updated_at, now).partition("(")[2].removesuffix(")")
    return [mark, Span(row.id, "bold"), state, Span(str(row.step)), Span(ago, "dim"), Span(one_line(row.objective))]


# --- A run of several ----------------------------------------------------------------------------------------------


def ends_table(ends: Sequence[JobEnd], *, stream: TextIO | None = None) -> str:
    """What came of several jobs, one a line, and below why those that are not done are where they are."""
    return _text(lambda _: ends_lines(ends), stream)


def ends_lines(ends: Sequence[JobEnd]) -> list[Line]:
    """The same as styled lines. They are not cut: what is to be pasted stays whole."""
    columns = [Column("job"), Column("status"), Column("steps", right=True), Column("time", right=True)]
    columns += [Column("cost", right=True), Column("next")]
    table = table_lines(columns, [_end_cells(end) for end in ends], None)
    whys = [
        line(Span(f"{end.job_id}: ", "bold"), one_line(end.why)) for end in ends if end.status is not JobStatus.SUCCESS
    ]
    return [*table, *([line(), *whys] if whys else [])]


def _end_cells(end: JobEnd) -> list[Span]:
    return [
        Span(end.job_id, "bold"),
        Span(end.headline, "bad" if end.status is None else _STATUS_STYLES[end.status]),
        Span(str(end.steps)),
        Span(format_duration(end.duration) if end.duration else "–"),
        Span(f"${end.cost:.2f}" if end.cost else "–"),
        Span(one_line(end.next), "command"),
    ]


# --- Steps ---------------------------------------------------------------------------------------------------------


def steps_table(steps: Sequence[StepSummary], *, stream: TextIO | None = None) -> str:
    """The steps, one a line, oldest first: who, verdict, files, cost, time, commit, words."""
    rows = [replace(step, summary=crop(one_line(step.summary), _LONGEST_SUMMARY)) for step in steps]
    return _text(lambda width: steps_lines(rows, width), stream)


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
