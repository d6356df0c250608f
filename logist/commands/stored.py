"""`logist job run` without a shared folder: a spec whose files travel through a storage, or one out of a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from logist.chunk_attempts import new_token
from logist.chunk_selection import BundleAddress, nearby
from logist.commands.chunks import SpecOptions, Work, load
from logist.commands.output import tell
from logist.commands.signals import ended_cleanly
from logist.errors import UsageProblem
from logist.execution.local import LocalWorkerAdapter
from logist.spec_bundles import LARGE, MadeBundle, bundle_of, make_bundle
from logist.storage.objects import Storage, open_storage
from logist.stored_adapter import gather_outputs, stored
from logist.stored_chunks import Publisher, kept_bundle, opened_bundle

if TYPE_CHECKING:
    from logist.chunks import ChunkId
    from logist.execution import WorkerAdapter
    from logist.spec_runs import Gather
    from logist.specs import RenderChunk


@contextmanager
def opened_with_storage(target: str, options: SpecOptions, adapter: WorkerAdapter, *, quiet: bool) -> Iterator[Work]:
    """The spec of this machine that `target` names, whose chunks `adapter` runs from a bundle that is uploaded first.

    With --merge-only nothing is uploaded, and the outputs are brought. Raises as `make_bundle` does.
    """
    storage = open_storage(options.storage)
    if options.allow_outside:
        raise UsageProblem(
            "--allow-outside and --storage exclude each other", "let the outputs lie in the spec's folder"
        )
    loaded = load(target, options)
    if options.dry_run:
        yield Work(target, loaded, adapter)
        return
    if options.merge_only:
        sha256 = bundle_of(loaded, storage).sha256
        yield Work(target, loaded, adapter, gather=_stoppable(gather_outputs(loaded, storage, sha256)))
        return
    made = make_bundle(loaded, storage, announce=None if quiet else tell_bundle)
    with closing(LocalWorkerAdapter()) as here:
        yield Work(target, loaded, stored(adapter, here, loaded, storage, made.address))


@contextmanager
def opened_bundle_target(bundle: BundleAddress, options: SpecOptions, adapter: WorkerAdapter) -> Iterator[Work]:
    """The spec of a bundle: for single chunks in a folder that is gone afterwards, and what they make is uploaded;
    else in one that stays below the current folder.

    Raises UsageProblem for a bundle that isn't trusted, and as `unpack` does.
    """
    source = open_storage(bundle.storage)
    bundle = bundle._replace(storage=source.url)
    if not options.trust:
        raise UsageProblem(f"{bundle} is not trusted: commands in a spec are code", "read it first, then add --trust")
    if options.dry_run or options.chunk:
        results = _results(options, source)
        with opened_bundle(bundle, source) as loaded:
            yield Work(str(bundle), loaded, adapter, recorder=Publisher(results, bundle.sha256, new_token()))
        return
    if options.storage and not options.merge_only:
        raise UsageProblem("--storage and a bundle exclude each other without --chunk or --merge-only", "leave it out")
    loaded = kept_bundle(bundle, source, Path.cwd())
    gather = gather_outputs(loaded, open_storage(options.storage) if options.storage else source, bundle.sha256)
    yield Work(nearby(loaded.folder / loaded.name), loaded, adapter, gather=_stoppable(gather))


def _stoppable(gather: Gather) -> Gather:
    """`gather`, which a signal ends at once: for the run it would be nothing that can be stopped."""

    def gathered(chunks: Sequence[RenderChunk]) -> Mapping[ChunkId, str]:
        with ended_cleanly("what was brought is kept"):
            return gather(chunks)

    return gathered


def _results(options: SpecOptions, source: Storage) -> Storage:
    """Where the outputs of chunks go. Raises UsageProblem when that can only be read."""
    results = open_storage(options.storage) if options.storage else source
    if not options.dry_run:
        results.check_writable()
    return results


def tell_bundle(made: MadeBundle) -> None:
    """Say what is bundled, and how much of it has to be uploaded."""
    files, size, missing = len(made.bundle.manifest.files), made.bundle.size, len(made.missing)
    new = f"uploading {missing} of them, {_bytes(sum(file.size for file in made.missing))}"
    large = "; what no chunk reads can be named in .logistignore" if size > LARGE else ""
    sentence = f"bundle {made.address.sha256[:12]}: {files} file{'s' * (files != 1)}, {_bytes(size)}; "
    tell(sentence + (new if missing else "all there already") + large)


def _bytes(count: int) -> str:
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"
