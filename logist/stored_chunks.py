"""Runs chunks of a bundle, on a machine that has nothing but the storage: the worker's side of `--storage`."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from logist.chunk_options import ExecutionOptions
from logist.chunk_selection import BundleAddress, select
from logist.chunks import ChunkId, ChunkResult, MergeResult
from logist.durable import storage_failed
from logist.execution import WorkerAdapter
from logist.job_executor import JobExecutor
from logist.render.private_folder import private_folder
from logist.spec_files import LoadedSpec, load_spec
from logist.specs import RenderChunk
from logist.storage.cache import user_cache
from logist.storage.objects import Storage, open_storage
from logist.storage.outputs import OutputPlace, publish
from logist.storage.unpacking import fetch_manifest, unpack


class StoredChunk(NamedTuple):
    """A chunk of a bundle to be made, and the name of the attempt, which no other has."""

    bundle: BundleAddress
    chunk: str
    attempt: str


@contextmanager
def opened_bundle(bundle: BundleAddress, storage: Storage) -> Iterator[LoadedSpec]:
    """The spec of a bundle, in a folder with all its files that is gone after the block. Raises as `unpack` does."""
    with private_folder(Path(tempfile.gettempdir()), "logist-chunk-") as folder:
        yield _spec_in(folder, unpack(storage, bundle.sha256, user_cache(), folder).spec)


def kept_bundle(bundle: BundleAddress, storage: Storage, place: Path) -> LoadedSpec:
    """The spec of a bundle in a folder of `place` that stays, and is taken as it is when it is there already.

    Raises as `unpack` does.
    """
    folder = place / f"bundle-{bundle.sha256[:12]}"
    if not folder.exists():
        with private_folder(place, f".{folder.name}.logist-bundle-") as beside:
            (beside / "files").mkdir()
            unpack(storage, bundle.sha256, user_cache(), beside / "files")
            try:
                # Whole, or not there at all.
                (beside / "files").rename(folder)
            except OSError as error:
                # Another process may have been quicker, with the same.
                if not folder.is_dir():
                    raise storage_failed("make", folder, error) from error
    return _spec_in(folder, fetch_manifest(storage, bundle.sha256, user_cache()).spec)


def _spec_in(folder: Path, name: str) -> LoadedSpec:
    """The spec `name` of a bundle that was unpacked into `folder`. Raises InvalidFile."""
    # Its whole path: a file may be called `-`.
    return load_spec(str(folder / name), trust=False, allow_outside=False, stdin=io.BytesIO, cwd=folder)


def run_stored_chunk(
    wanted: StoredChunk, adapter: WorkerAdapter, on_output: Callable[[ChunkId | None, bytes], None]
) -> ChunkResult:
    """Make one chunk in a folder of its own, and upload what it made once that is verified.

    Raises UsageProblem for a chunk that is not in the bundle, InvalidFile, AgentUnavailable, StorageFailed.
    """
    storage = open_storage(wanted.bundle.storage)
    with opened_bundle(wanted.bundle, storage) as loaded:
        (chunk,) = select([chunk.id for chunk in loaded.spec.chunks], (wanted.chunk,), {})
        options = ExecutionOptions(
            job_dir=loaded.folder,
            merge=False,
            chunk_ids=frozenset({chunk}),
            environ=dict(os.environ),
            on_output=on_output,
            recorder=Publisher(storage, wanted.bundle.sha256, wanted.attempt),
        )
        return JobExecutor(adapter).execute(loaded.spec, options).results[-1]


class Publisher:
    """A Recorder that uploads the output of each attempt that made its chunk; `attempt` names those of one worker."""

    def __init__(self, storage: Storage, bundle: str, attempt: str) -> None:
        self._storage = storage
        self._bundle = bundle
        self._attempt = attempt

    def expects(self, chunk: RenderChunk) -> dict[str, str]:  # noqa: ARG002 - as the protocol has it
        """Nothing is taken over from an earlier run."""
        return {}

    def began(self, chunk: RenderChunk, attempt: int, log: str) -> None:
        """Only what is made counts."""

    def ended(self, chunk: RenderChunk, result: ChunkResult, began_at: float, received: int) -> None:  # noqa: ARG002
        """Upload the verified output, when there is one. Raises StorageFailed."""
        if result.output is not None:
            publish(OutputPlace(self._storage, self._bundle, chunk.id), self._attempt, result.output)

    def merged(self, result: MergeResult) -> None:
        """A worker merges nothing."""
