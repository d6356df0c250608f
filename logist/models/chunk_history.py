"""The records of a chunk run's `history.jsonl`, and its small `job_manifest.json`, which is a projection of them.

Plain dataclasses: a run writes thousands of them and reads none. Whoever reads them has them validated by pydantic.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Literal

from logist.chunks import ChunkId, ChunkStatus, Output
from logist.lifecycle import JobStatus

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True)
class RunBegan:
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
    type: Literal["run_began"] = "run_began"


@dataclass(frozen=True)
class ChunkBegan:
    """An attempt at a chunk begins: until it has ended, nothing that it leaves counts."""

    chunk: ChunkId
    attempt: int
    log: str
    type: Literal["chunk_began"] = "chunk_began"


@dataclass(frozen=True)
class ChunkEnded:
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


@dataclass(frozen=True)
class MergeEnded:
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


@dataclass(frozen=True)
class RunEnded:
    """A run came to its end. One that was killed has none."""

    status: JobStatus
    reason: str
    type: Literal["run_ended"] = "run_ended"


ChunkHistoryRecord = RunBegan | ChunkBegan | ChunkEnded | MergeEnded | RunEnded


@dataclass(frozen=True)
class ChunkManifest:
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
    # Not `asdict` for all of it: that copies deeply, and is called twice a chunk.
    document = dict(vars(record))
    output = document.get("output")
    return {**document, "output": asdict(output)} if isinstance(output, Output) else document


@cache
def _reader() -> TypeAdapter[ChunkHistoryRecord]:
    from pydantic import Field, TypeAdapter

    return TypeAdapter(Annotated[ChunkHistoryRecord, Field(discriminator="type")])


def read_record(document: object) -> ChunkHistoryRecord:
    """The record that a JSON object holds. Raises ValueError when it is none."""
    return _reader().validate_python(document)
