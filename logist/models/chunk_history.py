"""The records of a chunk run's `history.jsonl`, and its small `job_manifest.json`, which is a projection of them.

Tuples, which are made at once: a run writes thousands and reads none. Whoever reads them has pydantic validate them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from logist.chunks import ChunkId, ChunkStatus, Output
from logist.lifecycle import JobStatus

if TYPE_CHECKING:
    from pydantic import TypeAdapter


class RunBegan(NamedTuple):
    """A run took the lease and knows what it will do."""

    spec_sha256: str
    chunks: int
    frames: int
    #: Chunks, and their frames, that were done before and are not run again.
    skipped: int
    skipped_frames: int
    concurrency: int
    #: In the environment of every command of the run, as LOGIST_RUN_TOKEN.
    token: str
    #: The adapter, where what it was given goes on when the run is killed.
    outlived_by: str = ""
    type: Literal["run_began"] = "run_began"


class ChunkBegan(NamedTuple):
    """An attempt at a chunk begins: until it has ended, nothing that it leaves counts."""

    chunk: ChunkId
    attempt: int
    log: str
    type: Literal["chunk_began"] = "chunk_began"


class ChunkEnded(NamedTuple):
    """An attempt at a chunk ended. The chunk is done for as long as its key and its output stay what they are here."""

    chunk: ChunkId
    attempt: int
    #: Of the command, its inputs and its range.
    key: str
    status: ChunkStatus
    start_frame: int
    frames: int
    exit_code: int | None
    signal: int
    #: Seconds.
    duration: float
    problem: str = ""
    output: Output | None = None
    log: str = ""
    #: Files that look like inputs and are made by the command itself.
    own: tuple[str, ...] = ()
    type: Literal["chunk_ended"] = "chunk_ended"


class MergeEnded(NamedTuple):
    """The merge ended. `key` is of its command and of everything that was merged."""

    key: str
    status: ChunkStatus
    exit_code: int | None
    #: Seconds.
    duration: float
    problem: str = ""
    output: Output | None = None
    log: str = ""
    type: Literal["merge_ended"] = "merge_ended"


class RunEnded(NamedTuple):
    """A run came to its end. One that was killed has none."""

    status: JobStatus
    reason: str
    type: Literal["run_ended"] = "run_ended"


ChunkHistoryRecord = RunBegan | ChunkBegan | ChunkEnded | MergeEnded | RunEnded


class ChunkManifest(NamedTuple):
    """The present of a chunk run: small however many chunks there are. The history rebuilds it."""

    #: The spec's file name, and the hash of its content.
    spec: str
    spec_sha256: str
    #: The last history record that this projects.
    seq: int
    #: ISO 8601.
    updated_at: str
    status: JobStatus
    reason: str
    chunks: int
    done: int
    failed: int
    frames: int
    frames_done: int
    schema_version: Literal[1] = 1
    kind: Literal["chunks"] = "chunks"


def to_document(record: ChunkHistoryRecord | ChunkManifest) -> dict[str, object]:
    """A record as the JSON object that stands in its file."""
    document = record._asdict()
    output = document.get("output")
    # Not `asdict` for all of it: that copies deeply, and is called twice a chunk.
    return {**document, "output": asdict(output)} if isinstance(output, Output) else document


_RECORDS: Mapping[str, type[ChunkHistoryRecord]] = {
    kind._field_defaults["type"]: kind for kind in (RunBegan, ChunkBegan, ChunkEnded, MergeEnded, RunEnded)
}


@cache
def _reader(kind: str) -> TypeAdapter[ChunkHistoryRecord]:
    from pydantic import TypeAdapter

    return TypeAdapter(_RECORDS[kind])


def read_record(document: Mapping[str, object]) -> ChunkHistoryRecord:
    """The record that a JSON object holds. Raises ValueError when it is none."""
    kind = document.get("type")
    if not isinstance(kind, str) or kind not in _RECORDS:
        raise ValueError("no record of a chunk run has this type")
    # What a newer version may have added is left out.
    known = {name: value for name, value in document.items() if name in _RECORDS[kind]._fields}
    return _reader(kind).validate_python(known)
