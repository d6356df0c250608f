"""The records of a job's history as text, one a line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from logist.console import Line, Span, drawn, one_line
from logist.console.card import VERDICT_STYLES
from logist.console.columns import Column, table_lines
from logist.durations import format_duration
from logist.models import history
from logist.models.history import HistoryEntry
from logist.models.manifest import Role
from logist.terms import role_change_words


def history_table(entries: Iterable[HistoryEntry], *, stream: TextIO | None = None) -> str:
    """The records, one a line, in the order given."""
    listed = list(entries)
    return drawn(lambda width: history_lines(listed, width), stream or sys.stdout)


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
            parts = [f"step {record.step} {record.role}: {record.action}, {record.commit[:7]}"]
            parts += [one_line(record.summary)] if record.summary else []
            return ": ".join(parts) + "".join(f"; {one_line(role_change_words(role))}" for role in record.role_changes)
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
            # Only a worker without a prompt is nobody: then Logist runs the chunks of a render.
            asked = record.prompt_sha256 or record.role is not Role.WORKER
            return f"{record.role} {one_line(record.agent)} {'is asked' if asked else 'runs its chunks'}"
        case history.Started():
            return f"process {record.process.pid} runs"
        case history.Exited():
            code = "" if record.exit_code is None else f" with exit code {record.exit_code}"
            return f"{record.ended}{code} after {format_duration(record.duration)}"
        case history.AttemptFailed():
            return f"{record.kind}: {one_line(record.detail)}"
