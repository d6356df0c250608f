"""How a spec is executed: the options of `JobExecutor.execute`, and who records what it does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from logist.chunks import ChunkId, ChunkResult, EventSink, Halt, MergeResult, Output
from logist.execution import CancelCheck
from logist.specs import RenderChunk


class Recorder(Protocol):
    """Takes what must outlive the run, from several threads. What it raises ends the run."""

    def expects(self, chunk: RenderChunk) -> Mapping[str, str]:
        """An attempt may begin unseen from now on. Returns the files that it reads, each with a hash."""
        ...

    def began(self, chunk: RenderChunk, attempt: int, log: str) -> None:
        """An attempt begins; nothing has run yet."""
        ...

    def ended(self, chunk: RenderChunk, result: ChunkResult, began_at: float, received: int) -> None:
        """An attempt ended. `began_at` is in seconds since the epoch, `received` the bytes that it printed."""
        ...

    def merged(self, result: MergeResult) -> None:
        """The merge ended."""
        ...


@dataclass(frozen=True)
class ExecutionOptions:
    """How a spec is executed. Times are in seconds."""

    #: The folder in which the commands run and to which output files are relative.
    job_dir: Path
    concurrency: int = 1
    #: Run the merge command once every chunk is done.
    merge: bool = True
    #: The chunks to run; None: all of the spec.
    chunk_ids: frozenset[ChunkId] | None = None
    #: Chunks that are done already: not run, and their outputs are taken as they are.
    completed_chunk_ids: frozenset[ChunkId] = frozenset()
    #: The merged file stands already for exactly the completed chunks.
    merged: bool = False
    #: Further attempts at a chunk that failed. A worker that was lost doesn't count.
    retries: int = 0
    halt: Halt = Halt.NOW
    #: Of one attempt at a chunk.
    timeout: float | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    #: What the commands print goes here, a file an attempt; None: to `on_output` alone.
    log_dir: Path | None = None
    on_progress: EventSink | None = None
    on_chunk_complete: Callable[[ChunkResult], None] | None = None
    on_output: Callable[[ChunkId | None, bytes], None] | None = None
    #: A sentence means: kill what runs and stop.
    cancel: CancelCheck | None = None
    #: A sentence means: let what runs finish and stop.
    drain: CancelCheck | None = None
    recorder: Recorder | None = None
    #: In the environment of every command; empty: a new one.
    token: str = ""
    #: The verified outputs of the completed chunks: they are looked at once more before the merge and at the end.
    outputs: Mapping[ChunkId, Output] = field(default_factory=dict)
    #: What the events call the spec, and where its state is.
    name: str = ""
    state_dir: str = ""
    #: Descriptors that every started process inherits: the lease.
    inherit: tuple[int, ...] = ()
