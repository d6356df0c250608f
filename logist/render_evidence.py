"""What a render leaves as evidence in a job's workspace: a report, logs and the joblog; and its story in words."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from logist.chunk_attempts import failed_of, marker_of
from logist.chunk_state import SpecPast, StatePaths, read_records
from logist.chunks import (
    ChunkEvent,
    ChunkFinished,
    ChunkId,
    ChunkResult,
    ChunkStatus,
    Evidence,
    MergeFinished,
    MergeResult,
    Notice,
    Output,
    RunReport,
    RunStarted,
)
from logist.durations import format_duration
from logist.errors import WorkspaceFailed
from logist.lifecycle import JobStatus
from logist.models.chunk_history import ChunkBegan, MergeEnded
from logist.models.render_report import (
    REPORT_NAME,
    RenderedChunk,
    RenderedFile,
    RenderedMerge,
    RenderReport,
    evidence_folder,
)
from logist.plain_text import last_part, plain_text
from logist.spec_files import LoadedSpec, output_paths
from logist.specs import RenderChunk

JOBLOG_NAME = "joblog.tsv"
#: Logs that the evidence holds, those of failed chunks first, and bytes of each: its first and its last part.
MOST_LOGS = 200
LOG_BYTES = 64_000
_JOBLOG_BYTES = 2_000_000
#: What a summary says of a failure.
_MOST_NAMED = 8
_TAIL_LINES = 5
_TAIL_CHARACTERS = 800
_SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


@dataclass(frozen=True)
class RenderEvidence:
    """The report, and the files for its folder and for `logs` in it."""

    report: RenderReport
    files: dict[str, bytes]
    logs: dict[str, bytes]


def media_paths(loaded: LoadedSpec, workspace: Path) -> tuple[str, ...]:
    """All files that the spec says are made, from the workspace's top, links to folders resolved.

    With them what attempts that failed or were killed have left beside them.
    """
    top = os.path.realpath(workspace)
    folders: dict[Path, str] = {}
    found = []
    made = output_paths(loaded)
    left = (path for output in made for path in (failed_of(output), marker_of(output)) if path.exists())
    for path in (*made, *left):
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        found.append(os.path.relpath(f"{folders[path.parent]}/{path.name}", top))
    return tuple(found)


def gather(
    loaded: LoadedSpec, run: RunReport, paths: StatePaths, workspace: Path, spec: str, *, media_in_git: bool
) -> RenderEvidence:
    """The evidence of a run that has ended. Raises InvalidFile, WorkspaceFailed."""
    past, attempts = _read_past(paths)
    top = Path(os.path.realpath(workspace))
    folder = f"{evidence_folder(spec)}/logs"
    statuses = _statuses(run)
    merged = _standing_merge(loaded, run, past)
    logs = _logs(past, statuses, merged)
    chunks = tuple(
        _chunk(chunk, statuses.get(chunk.id, ChunkStatus.PENDING), past, attempts[chunk.id], top, folder, logs)
        for chunk in loaded.spec.chunks
    )
    size = loaded.spec.metadata
    report = RenderReport(
        spec=spec,
        spec_sha256=loaded.sha256,
        total_frames=size.total_frames,
        fps=size.fps,
        width=size.width,
        height=size.height,
        media_in_git=media_in_git,
        merge=None if merged is None else _merge(merged, top, folder, logs),
        chunks=chunks,
    )
    files = {REPORT_NAME: report_bytes(report), JOBLOG_NAME: _bounded(paths.joblog, _JOBLOG_BYTES)}
    return RenderEvidence(report, files, logs)


def _read_past(paths: StatePaths) -> tuple[SpecPast, Counter[ChunkId]]:
    past, attempts = SpecPast(), Counter[ChunkId]()
    for _, record in read_records(paths):
        past.take(record)
        if isinstance(record, ChunkBegan):
            attempts[record.chunk] += 1
    return past, attempts


def _statuses(run: RunReport) -> dict[ChunkId, ChunkStatus]:
    """Where the run left each chunk; one that it never came to is not here, whatever an older run said of it."""
    return dict.fromkeys(run.skipped, ChunkStatus.DONE) | {result.chunk: result.status for result in run.results}


def _chunk(
    chunk: RenderChunk,
    status: ChunkStatus,
    past: SpecPast,
    attempts: int,
    top: Path,
    folder: str,
    logs: Mapping[str, bytes],
) -> RenderedChunk:
    made = RenderedChunk(
        id=chunk.id, start_frame=chunk.start_frame, frame_count=chunk.frame_count, status=status, attempts=attempts
    )
    ended = past.chunks.get(chunk.id)
    if ended is None or status is ChunkStatus.PENDING:
        return made
    name = f"{chunk.id}.log"
    return made.model_copy(
        update={
            "exit_code": ended.exit_code,
            "seconds": ended.duration,
            "problem": ended.problem,
            "output": _file(ended.output, top),
            "log": f"{folder}/{name}" if name in logs else "",
        }
    )


def _standing_merge(loaded: LoadedSpec, run: RunReport, past: SpecPast) -> MergeEnded | None:
    """The merge of this run, or the one before that it took over; one of other chunks is none."""
    stands = run.merge is not None or (run.status is JobStatus.SUCCESS and bool(loaded.spec.merge_command))
    return past.merge if stands else None


def _merge(ended: MergeEnded, top: Path, folder: str, logs: Mapping[str, bytes]) -> RenderedMerge:
    return RenderedMerge(
        status=ended.status,
        exit_code=ended.exit_code,
        seconds=ended.duration,
        problem=ended.problem,
        output=_file(ended.output, top),
        log=f"{folder}/merge.log" if "merge.log" in logs else "",
    )


def _file(output: Output | None, top: Path) -> RenderedFile | None:
    if output is None:
        return None
    path = os.path.relpath(output.path, top)
    return RenderedFile(
        path=path, size=output.size, sha256=output.sha256, evidence=output.evidence, frames=output.frames
    )


def report_bytes(report: RenderReport) -> bytes:
    """The report as its file holds it: a chunk a line, so that a difference of two says which chunks changed."""
    content = report.model_dump(mode="json")
    rows = content.pop("chunks")
    head = json.dumps(content, indent=1).removesuffix("\n}")
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    return f'{head},\n "chunks": [\n{lines}\n ]\n}}\n'.encode()


def _logs(past: SpecPast, statuses: Mapping[ChunkId, ChunkStatus], merged: MergeEnded | None) -> dict[str, bytes]:
    """The last attempts' logs by their names in the evidence: of the merge, of failed chunks, then of the others."""
    wanted = [("merge.log", merged.log)] if merged is not None and merged.log else []
    ended = [past.chunks[chunk] for chunk in statuses if chunk in past.chunks and past.chunks[chunk].log]
    ended.sort(key=lambda one: (one.status is not ChunkStatus.FAILED, one.start_frame))
    wanted += [(f"{one.chunk}.log", one.log) for one in ended]
    kept = ((name, _bounded(Path(log), LOG_BYTES)) for name, log in wanted[:MOST_LOGS])
    return {name: data for name, data in kept if data}


def _bounded(path: Path, limit: int) -> bytes:
    """The first and the last part of a file; empty when it is gone."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                return file.read(limit)
            head = file.read(limit // 2)
            file.seek(size - limit // 2)
            tail = file.read(limit // 2)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise WorkspaceFailed(
            f"the log {path} can't be read: {error.strerror}", "check the job's folder, then run again"
        ) from error
    return head + f"\n[... {size - len(head) - len(tail)} bytes not kept ...]\n".encode() + tail


# --- In words ------------------------------------------------------------------------------------------------------


def summary_of(evidence: RenderEvidence) -> str:
    """What came of the render: `8 chunks, 960 frames, merged into final.mp4 (12.3 MB, decoded: 960 frames)`.

    Of one that failed: which chunk, why, where its log is, and its last lines.
    """
    report = evidence.report
    if report.failed:
        return _failed_words(evidence, report.failed)
    if report.merge is not None and report.merge.status is ChunkStatus.FAILED:
        words = f"the merge failed: {report.merge.problem}; {progress_words(report)}"
        return _with_log(words, report.merge.log, evidence.logs.get("merge.log", b""))
    return _done_words(report)


def event_words(event: ChunkEvent) -> str:
    """What happened in a chunk run, in lines for a log; empty for what is not worth one."""
    match event:
        case RunStarted():
            before = f", {event.skipped_chunks:,} of them done before" if event.skipped_chunks else ""
            return f"{event.spec}: {_count(event.chunks, 'chunk')}, {_count(event.frames, 'frame')}{before}"
        case ChunkFinished():
            return _attempt_words(event.result)
        case MergeFinished():
            return _merge_words(event.result)
        case Notice():
            return plain_text(event.message)
        case _:
            return ""


def _attempt_words(result: ChunkResult) -> str:
    if result.status is ChunkStatus.DONE:
        took = format_duration(result.duration)
        return f"chunk {result.chunk} done: {_count(result.frame_count, 'frame')} in {took}"
    return _attempt_lines(f"chunk {result.chunk}", result)


def _merge_words(result: MergeResult) -> str:
    if result.status is ChunkStatus.DONE:
        return f"merged in {format_duration(result.duration)}"
    return _attempt_lines("the merge", result)


def _attempt_lines(name: str, result: ChunkResult | MergeResult) -> str:
    took = format_duration(result.duration)
    if result.status is not ChunkStatus.FAILED:
        return f"{name} {result.status.value} after {took}"
    tail = last_part(result.tail, _TAIL_CHARACTERS)
    return f"{name} failed after {took}: {plain_text(result.problem)}" + (f"\n{tail}" if tail else "")


def progress_words(report: RenderReport) -> str:
    """`5 of 8 chunks done`."""
    return f"{len(report.done):,} of {_count(len(report.chunks), 'chunk')} done"


def _done_words(report: RenderReport) -> str:
    words = f"{_count(len(report.chunks), 'chunk')}, {_count(report.total_frames, 'frame')}"
    merge = report.merge
    if merge is None:
        weakest = _weakest(chunk.output for chunk in report.chunks)
        return f"{words} ({_SEEN[weakest]}), not merged: the spec has no merge command"
    if merge.output is None:
        return f"{words}, merged; the spec does not say into which file"
    frames = "" if merge.output.frames is None else f": {_count(merge.output.frames, 'frame')}"
    seen = _SEEN[merge.output.evidence]
    return f"{words}, merged into {merge.output.path} ({_size(merge.output.size)}, {seen}{frames})"


_SEEN = {Evidence.FRAMES: "decoded", Evidence.FILE: "not decoded", Evidence.EXIT: "known by exit code only"}


def _weakest(files: Iterable[RenderedFile | None]) -> Evidence:
    kinds = {Evidence.EXIT if file is None else file.evidence for file in files}
    return next(kind for kind in (Evidence.EXIT, Evidence.FILE, Evidence.FRAMES) if kind in kinds)


def _failed_words(evidence: RenderEvidence, failed: tuple[RenderedChunk, ...]) -> str:
    first = failed[0]
    tries = f" after {first.attempts} attempts" if first.attempts > 1 else ""
    words = f"chunk {first.id} failed{tries}: {first.problem}"
    if len(failed) > 1:
        names = ", ".join(str(chunk.id) for chunk in failed[1 : 1 + _MOST_NAMED])
        more = len(failed) - 1 - _MOST_NAMED
        words += f"; so did {names}" + (f" and {more} more" if more > 0 else "")
    words += f"; {progress_words(evidence.report)}"
    return _with_log(words, first.log, evidence.logs.get(f"{first.id}.log", b""))


def _with_log(words: str, log: str, printed: bytes) -> str:
    if log:
        words += f"; its log: {log}"
    lines = [line for line in last_part(printed, _TAIL_CHARACTERS).split("\n") if line.strip()][-_TAIL_LINES:]
    return words + "; it ended with:\n" + "\n".join(lines) if lines else words


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


def _size(size: int) -> str:
    for unit, name in _SIZES:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return _count(size, "byte")
