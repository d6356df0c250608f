"""`render-report.json`: what a render in a job made, and how well that is known. It vouches for media not in git."""

from __future__ import annotations

from typing import Literal

from logist.chunks import ChunkId, ChunkStatus, Evidence
from logist.models.record import Record

REPORT_NAME = "render-report.json"
#: How the reason of a path begins that is left out because a render made it.
MEDIA = "rendered media"


def evidence_folder(spec: str) -> str:
    """The folder of the evidence of a render in a job, from the workspace's top."""
    return f"render/{spec}"


def report_path(spec: str) -> str:
    """The report of a render in a job, from the workspace's top."""
    return f"{evidence_folder(spec)}/{REPORT_NAME}"


class RenderedFile(Record):
    """A file that was verified. `path` is from the workspace's top, `size` in bytes."""

    path: str
    size: int
    sha256: str
    evidence: Evidence
    #: None where nobody counted them.
    frames: int | None = None


class RenderedChunk(Record):
    """Where one chunk stands, and its last attempt."""

    id: ChunkId
    start_frame: int
    frame_count: int
    status: ChunkStatus
    #: All that were ever begun, those of runners that died too.
    attempts: int
    exit_code: int | None = None
    seconds: float | None = None
    problem: str = ""
    output: RenderedFile | None = None
    #: From the workspace's top; empty where no log is in the evidence.
    log: str = ""


class RenderedMerge(Record):
    """How the merge ended."""

    status: ChunkStatus
    exit_code: int | None
    seconds: float
    problem: str = ""
    output: RenderedFile | None = None
    log: str = ""


class RenderReport(Record):
    """A whole render. It says nothing of when: a render that had nothing to do leaves it as it is."""

    schema_version: Literal[1] = 1
    #: The spec's path from the workspace's top, and the hash of its bytes.
    spec: str
    spec_sha256: str
    total_frames: int
    fps: int | float
    width: int
    height: int
    #: Whether the media are in the evidence too.
    media_in_git: bool
    merge: RenderedMerge | None
    chunks: tuple[RenderedChunk, ...]

    @property
    def done(self) -> tuple[RenderedChunk, ...]:
        """The chunks that are done."""
        return tuple(chunk for chunk in self.chunks if chunk.status is ChunkStatus.DONE)

    @property
    def failed(self) -> tuple[RenderedChunk, ...]:
        """The chunks that failed for good."""
        return tuple(chunk for chunk in self.chunks if chunk.status is ChunkStatus.FAILED)
