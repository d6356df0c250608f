"""What to say when a chunk run is over, or of one that somebody asks for: verdict, places, next commands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from logist.chunk_selection import nearby
from logist.chunks import ChunkId, ChunkResult, ChunkStatus, RunReport
from logist.console import Line, Span, crop, line, one_line, text_width, wrap
from logist.console.chunk_tables import chunk_name, count, named, summary_lines
from logist.durations import format_duration
from logist.lifecycle import JobStatus

if TYPE_CHECKING:
    from logist.spec_report import SpecStatus

#: Columns that the reason needs beside the verdict.
_LEAST_REASON = 24
#: Running chunks that get a line.
_MOST_RUNNING = 20


@dataclass(frozen=True)
class SpecWords:
    """How the commands that go on from here name a spec, and where its things are."""

    #: After `logist job run`, as it can be pasted, with the options that it needs. Empty: it can't be named.
    run: str
    #: After `logist job log`, `status`, `cancel`. Empty: there is no state.
    state: str = ""
    #: What to do instead of a command, where it can't be named.
    again: str = ""
    #: The merged file, as it is shown; empty: the spec doesn't say, or merges nothing.
    merged: str = ""
    #: Whether there is something to merge.
    merges: bool = True
    #: The folder of the state, as it is shown, to be told where things are.
    state_dir: str = ""


class _Action(NamedTuple):
    command: str
    explanation: str


# --- The end of a run ----------------------------------------------------------------------------------------------


def outcome_lines(report: RunReport, words: SpecWords, width: int | None = None) -> list[Line]:
    """The verdict, where the merged file and the logs are, and the commands that go on from here."""
    lines = _verdict(Span(f" {report.status.replace('_', ' ')} ", f"pill-{report.status}"), report.reason, width)
    if merged := _merged_file(report, words):
        lines.append(line("the merged file is ", Span(one_line(merged), "bold")))
    failed = [result.chunk for result in sorted(report.failed, key=_start)]
    if len(failed) > 1:
        lines += [line(row) for row in wrap(f"failed: {named(failed)}", width)]
    lines += [line("log: ", one_line(nearby(log))) for log in logs_of(report)]
    if words.state_dir:
        places = f"all logs: {words.state_dir}/chunks; a line for each try: {words.state_dir}/joblog.tsv"
        lines += [line(Span(row, "dim")) for row in wrap(one_line(places), width)]
    return [*lines, *_next_lines(_actions(report, words), _again(report, words), width)]


def stateless_lines(
    report: RunReport, asked: Sequence[ChunkId], words: SpecWords, width: int | None = None
) -> list[Line]:
    """How the chunks went that a worker without state was told to make."""
    done = report.status is JobStatus.SUCCESS
    style = f"pill-{report.status}"
    lines = _verdict(Span(" DONE " if done else f" {report.status.replace('_', ' ')} ", style), report.reason, width)
    if not done:
        again = " ".join(f"--chunk {shlex.quote(one_line(str(chunk)))}" for chunk in _missing(report, asked)[:8])
        actions = [_Action(f"logist job run {words.run} {again}", "try again; it is not recorded")] if words.run else []
        return [*lines, *_next_lines(actions, words.again, width)]
    if not words.merges:
        return lines
    if not words.run:
        return [*lines, *_next_lines([], "once all chunks are there: the same with --merge-only", width)]
    merge = _Action(f"logist job run {words.run} --merge-only", "once all chunks are there, whoever made them")
    return [*lines, *_next_lines([merge], "", width)]


def stateless_reason(asked: Sequence[ChunkId]) -> str:
    """What can be said of chunks that are done, and of which nothing is recorded."""
    if len(asked) == 1:
        return f"{chunk_name(asked[0])} is done; it is not recorded: --chunk reads and writes no state"
    return f"chunks {named(asked)} are done; they are not recorded: --chunk reads and writes no state"


def _missing(report: RunReport, asked: Sequence[ChunkId]) -> list[ChunkId]:
    done = {result.chunk for result in report.results if result.status is ChunkStatus.DONE}
    return [chunk for chunk in asked if chunk not in done]


def _verdict(pill: Span, reason: str, width: int | None) -> list[Line]:
    """The verdict and the reason beside it, or below where there is little room."""
    column = text_width(pill.text) + 2
    if width is not None and width - column < _LEAST_REASON:
        return [line(pill), *(line(row) for row in wrap(one_line(reason), width))]
    first, *rest = wrap(one_line(reason), None if width is None else width - column)
    return [line(pill, "  ", first), *(line(" " * column, row) for row in rest)]


def _merged_file(report: RunReport, words: SpecWords) -> str:
    if report.status is not JobStatus.SUCCESS or words.merged:
        return words.merged if report.status is JobStatus.SUCCESS else ""
    return nearby(report.merge.output.path) if report.merge is not None and report.merge.output is not None else ""


def logs_of(report: RunReport) -> list[str]:
    """The logs that say why it failed: of the first failed chunk, of the merge."""
    failed = [result.log for result in sorted(report.failed, key=_start)[:1]]
    merge = [report.merge.log] if report.merge is not None and report.merge.status is ChunkStatus.FAILED else []
    return [log for log in (*failed, *merge) if log]


def _start(result: ChunkResult) -> int:
    return result.start_frame


# --- The commands that go on from here -------------------------------------------------------------------------------


def _actions(report: RunReport, words: SpecWords) -> list[_Action]:
    if report.status is JobStatus.SUCCESS:
        return []
    if report.status is JobStatus.RUNNING:
        return _running_actions(words)
    run = [_Action(f"logist job run {words.run}", "goes on: what is done is not done again")] if words.run else []
    failed = sorted(report.failed, key=_start)
    if failed:
        chunk = shlex.quote(one_line(str(failed[0].chunk)))
        one = "that one" if len(failed) == 1 else "this one"
        alone = _Action(f"logist job run {words.run} --chunk {chunk}", f"try just {one}; it is not recorded")
        return [*run, *([alone] if words.run else []), *_log_action(words, chunk)]
    if report.merge is not None and report.merge.status is ChunkStatus.FAILED:
        alone = _Action(f"logist job run {words.run} --merge-only", "try just the merge")
        return [*run, *([alone] if words.run else []), *_log_action(words, "merge")]
    return run


def _again(report: RunReport, words: SpecWords) -> str:
    return "" if report.status in (JobStatus.SUCCESS, JobStatus.RUNNING) else words.again


def _running_actions(words: SpecWords) -> list[_Action]:
    if not words.state:
        return []
    return [
        _Action(f"logist job pause {words.state}", "stop it once its running chunks have ended"),
        _Action(f"logist job cancel {words.state}", "stop it now; what is done is kept"),
    ]


def _log_action(words: SpecWords, chunk: str) -> list[_Action]:
    return [_Action(f"logist job log {words.state} --chunk {chunk}", "all that it printed")] if words.state else []


def _next_lines(actions: Sequence[_Action], again: str, width: int | None) -> list[Line]:
    if not actions and not again:
        return []
    told = [line(row) for row in wrap(again, width)] if again else []
    return [line(), *told, *(_action_lines(actions, width) if actions else [])]


def _action_lines(actions: Sequence[_Action], width: int | None) -> list[Line]:
    column = max(text_width(action.command) for action in actions) + 4
    beside = width is None or all(column + text_width(action.explanation) <= width for action in actions)
    lines = []
    for command, explanation in actions:
        first = Span(f"  {command}", "command")
        if beside:
            lines.append(line(first, " " * (column - text_width(first.text)), Span(explanation, "dim")))
        else:
            lines += [
                line(first),
                *(line(Span(f"      {row}", "dim")) for row in wrap(explanation, width and width - 6)),
            ]
    return lines


# --- Where a spec stands -------------------------------------------------------------------------------------------


def status_lines(status: SpecStatus, words: SpecWords, width: int | None = None) -> list[Line]:
    """How far a spec is, what of it runs, its chunks, its last run, and the commands that go on from here."""
    lines = [line(row) for row in wrap(_counts(status), width)]
    lines += _remark_lines(status, width)
    if not status.ran and status.runner is None:
        first = [_Action(f"logist job run {words.run}", "runs it")] if words.run else []
        return [*lines, *_next_lines(first, words.again, width)]
    lines += [line(f"  {row}") for row in _running_rows(status, width)]
    whose = "this run: " if status.runner is not None else "last run: "
    lines += summary_lines(status.report, width, listed=status.results, whose=whose)
    report = status.report
    if status.merge_missing:
        words = replace(words, merged="")
        report = replace(report, merge=None)
    lines += [line(), *outcome_lines(report, words, width)]
    if status.report.status is JobStatus.SUCCESS and (status.changed or status.missing or status.merge_missing):
        anew = [_Action(f"logist job run {words.run}", "makes that anew")] if words.run else []
        lines += _next_lines(anew, words.again, width)
    return lines


def _remark_lines(status: SpecStatus, width: int | None) -> list[Line]:
    return [line(Span(row, "warn")) for remark in _remarks(status) for row in wrap(remark, width)]


def _counts(status: SpecStatus) -> str:
    if not status.ran:
        known = f"{count(status.chunks, 'chunk')}, {count(status.frames, 'frame')}; " if status.chunks else ""
        return f"{known}not run yet"
    frames = f"{status.frames_done:,} of {count(status.frames, 'frame')}"
    failed = f", {status.failed:,} failed" if status.failed else ""
    running = f", {len(status.running):,} running" if status.running else ""
    are = "is" if status.chunks == 1 else "are"
    return f"{status.done:,} of {count(status.chunks, 'chunk')} {are} done ({frames}){failed}{running}"


def _remarks(status: SpecStatus) -> list[str]:
    remarks = [f"the spec can't be read: {one_line(status.problem)}"] if status.problem else []
    if status.changed:
        remarks.append("the spec was changed since its last run; the next run makes anew what that concerns")
    if status.missing:
        are, them = ("is", "it") if status.missing == 1 else ("are", "them")
        outputs = "output of a done chunk" if status.missing == 1 else "outputs of done chunks"
        remarks.append(f"{status.missing:,} {outputs} {are} gone or changed: the next run makes {them} anew")
    if status.merge_missing:
        remarks.append("the merged file is gone or changed: the next run merges again")
    return remarks


def _running_rows(status: SpecStatus, width: int | None) -> list[str]:
    rows = []
    for chunk in status.running[:_MOST_RUNNING]:
        attempt = f" (attempt {chunk.attempt})" if chunk.attempt > 1 else ""
        frames = "" if chunk.frames is None else f", {count(chunk.frames, 'frame')}"
        rows.append(f"{chunk_name(chunk.chunk)}{attempt} runs for {format_duration(chunk.seconds)}{frames}")
    more = len(status.running) - len(rows)
    return [crop(row, width and width - 2) for row in [*rows, *([f"and {more:,} more"] if more else [])]]
