"""Runs the chunks of a spec where nothing of its folder is: the submitter's side of `--storage`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from logist.chunk_attempts import CHUNK_VARIABLE, TOKEN_VARIABLE, marker_of
from logist.chunk_selection import BundleAddress
from logist.chunks import ChunkId
from logist.execution import (
    BatchAdapter,
    BatchItem,
    BatchTerms,
    CancelCheck,
    Command,
    CommandResult,
    Ended,
    OutputSink,
    QueueingAdapter,
    StartedHook,
    WorkerAdapter,
)
from logist.spec_files import LoadedSpec
from logist.specs import RenderChunk
from logist.storage.objects import Canceled, Storage
from logist.storage.outputs import OutputPlace, attempts_of, attempts_of_all, bring_first
from logist.storage.transfers import at_once

#: What runs a chunk of a bundle: see `logist.commands.stored_chunk`.
_WORKER = ("-P", "-m", "logist.commands.stored_chunk")
#: A folder of every machine: the worker makes one of its own to run in.
_ANYWHERE = Path("/")


class StoredAdapter:
    """A WorkerAdapter that has `there` run each chunk from the bundle, and brings back what the chunk made.

    The merge runs `here`, where the outputs are. Both stay the caller's to close.
    """

    def __init__(
        self, there: WorkerAdapter, here: WorkerAdapter, loaded: LoadedSpec, storage: Storage, bundle: BundleAddress
    ) -> None:
        self.name = there.name
        self._there = there
        self._here = here
        self._chunks = {str(chunk.id): chunk for chunk in loaded.spec.chunks}
        self._storage = storage
        self._bundle = bundle

    def prepare(self, commands: int) -> None:
        """As the adapter that runs the chunks does."""
        self._there.prepare(commands)

    def run(
        self,
        command: Command,
        *,
        cancel: CancelCheck | None = None,
        on_output: OutputSink | None = None,
        on_started: StartedHook | None = None,
    ) -> CommandResult:
        """Run a chunk's command elsewhere and put its output where it would have made it here, or run the merge here.

        A worker whose output is not there, or is not what it uploaded, counts as lost. Raises StorageFailed.
        """
        chunk = self._chunks.get(command.env.get(CHUNK_VARIABLE, ""))
        if chunk is None:
            return self._here.run(command, cancel=cancel, on_output=on_output, on_started=on_started)
        ran = self._there.run(self._shipped(command, chunk), cancel=cancel, on_output=on_output, on_started=on_started)
        if not ran.ok or not chunk.output_file:
            return ran
        return self._brought(ran, chunk, command, cancel)

    def close(self) -> None:
        """Nothing is held."""

    def _shipped(self, command: Command, chunk: RenderChunk) -> Command:
        words = (self._bundle.storage, self._bundle.sha256, str(chunk.id))
        return command._replace(argv=(sys.executable, *_WORKER, *words), shell=None, cwd=_ANYWHERE)

    def _brought(
        self, ran: CommandResult, chunk: RenderChunk, command: Command, cancel: CancelCheck | None
    ) -> CommandResult:
        place = OutputPlace(self._storage, self._bundle.sha256, chunk.id)
        attempts = _own_first(command.env[TOKEN_VARIABLE], place)
        try:
            problem = bring_first(place, attempts, command.cwd / chunk.output_file, cancel)
        except Canceled as canceled:
            return ran._replace(ended=Ended.CANCELED, exit_code=None, detail=str(canceled))
        return ran._replace(ended=Ended.LOST, exit_code=None, detail=problem) if problem else ran


def _own_first(own: str, place: OutputPlace) -> Iterator[str]:
    yield own
    # The worker may have been started by a run that died, under that one's name; and what any attempt at this chunk of
    # this bundle uploaded is as good.
    yield from (attempt for attempt in attempts_of(place) if attempt != own)


class StoredQueueingAdapter(StoredAdapter):
    """A `StoredAdapter` for a place with a queue of its own."""

    def __init__(
        self, there: QueueingAdapter, here: WorkerAdapter, loaded: LoadedSpec, storage: Storage, bundle: BundleAddress
    ) -> None:
        super().__init__(there, here, loaded, storage, bundle)
        self._queueing = there

    def attend(self, tell: Callable[[str], None]) -> None:
        """As the adapter that runs the chunks does."""
        self._queueing.attend(tell)

    def withdraw(self) -> None:
        """As the adapter that runs the chunks does."""
        self._queueing.withdraw()


class StoredBatchAdapter(StoredAdapter):
    """A `StoredAdapter` for a place that is given a run's commands all at once."""

    def __init__(
        self, there: BatchAdapter, here: WorkerAdapter, loaded: LoadedSpec, storage: Storage, bundle: BundleAddress
    ) -> None:
        super().__init__(there, here, loaded, storage, bundle)
        self._batch = there

    def adopt(self, items: Sequence[BatchItem], terms: BatchTerms) -> frozenset[int]:
        """As the adapter that runs the chunks does."""
        return self._batch.adopt(list(map(self._shipped_item, items)), terms)

    def submit(self, items: Sequence[BatchItem]) -> None:
        """As the adapter that runs the chunks does."""
        self._batch.submit(list(map(self._shipped_item, items)))

    def withdraw(self) -> None:
        """As the adapter that runs the chunks does."""
        self._batch.withdraw()

    def finish(self) -> bool:
        """As the adapter that runs the chunks does."""
        return self._batch.finish()

    def _shipped_item(self, item: BatchItem) -> BatchItem:
        chunk = self._chunks[item.command.env[CHUNK_VARIABLE]]
        return item._replace(command=self._shipped(item.command, chunk), output=None)


def stored(
    there: WorkerAdapter, here: WorkerAdapter, loaded: LoadedSpec, storage: Storage, bundle: BundleAddress
) -> StoredAdapter:
    """The adapter that has `there` run the chunks of a bundle, all at once if it can."""
    if isinstance(there, BatchAdapter):
        return StoredBatchAdapter(there, here, loaded, storage, bundle)
    if isinstance(there, QueueingAdapter):
        return StoredQueueingAdapter(there, here, loaded, storage, bundle)
    return StoredAdapter(there, here, loaded, storage, bundle)


def gather_outputs(
    loaded: LoadedSpec, storage: Storage, bundle: str
) -> Callable[[Sequence[RenderChunk]], dict[ChunkId, str]]:
    """What brings the outputs of the given chunks, whoever uploaded them, and returns why that failed for some.

    It raises StorageFailed.
    """

    def gather(chunks: Sequence[RenderChunk]) -> dict[ChunkId, str]:
        uploaded = attempts_of_all(storage, bundle)
        named = [chunk for chunk in chunks if chunk.output_file]
        problems = at_once(lambda chunk: take(chunk, uploaded.get(str(chunk.id), ())), named)
        return {chunk.id: problem for chunk, problem in zip(named, problems, strict=True) if problem}

    def take(chunk: RenderChunk, attempts: Sequence[str]) -> str:
        path = loaded.folder / chunk.output_file
        problem = bring_first(OutputPlace(storage, bundle, chunk.id), attempts, path)
        if not problem:
            # Whoever was killed while making it here is of no account now.
            marker_of(path).unlink(missing_ok=True)
        return problem

    return gather
