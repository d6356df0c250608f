"""Makes the bundle of a spec: which files its chunks can need, and that none of them is left behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from logist.chunk_attempts import failed_of, marker_of
from logist.chunk_keys import ChunkKeys
from logist.chunk_selection import BundleAddress
from logist.command_lines import input_words, page_of
from logist.errors import InvalidFile, UsageProblem
from logist.models.stored import BundledFile
from logist.spec_files import LoadedSpec, output_paths
from logist.storage.bundles import Bundle, missing_files, read_bundle, upload_bundle
from logist.storage.objects import Storage

#: Bytes: of a larger bundle it is said how large it is, for whoever did not mean to send all that.
LARGE = 1_000_000_000
_NAMED = 5


class MadeBundle(NamedTuple):
    """A bundle for a storage. `missing` are its files that were not there."""

    address: BundleAddress
    bundle: Bundle
    missing: tuple[BundledFile, ...]


def make_bundle(
    loaded: LoadedSpec,
    storage: Storage,
    announce: Callable[[MadeBundle], None] | None = None,
    *,
    thorough: bool = False,
) -> MadeBundle:
    """Upload the spec with all that is in its folder, but for what it makes and what `.logistignore` names.

    `announce` is told before that, which may take long. With `thorough` each file of a bundle that was uploaded before
    is looked for, too. Raises UsageProblem for a spec that is no file or names inputs that can't travel, InvalidFile,
    StorageFailed.
    """
    bundle = bundle_of(loaded, storage)
    made = MadeBundle(
        BundleAddress(storage.url, bundle.sha256), bundle, missing_files(storage, bundle, thorough=thorough)
    )
    if announce is not None:
        announce(made)
    upload_bundle(storage, bundle, made.missing, loaded.folder)
    return made


def bundle_of(loaded: LoadedSpec, storage: Storage) -> Bundle:
    """The bundle that `make_bundle` would upload. Raises as it does; nothing is asked of the storage."""
    folder = loaded.folder
    if not (folder / loaded.name).exists():
        raise UsageProblem(
            f"{loaded.source} is no file, and can't be bundled", "write it to a file in the folder of its inputs"
        )
    if storage.folder and f"{os.path.realpath(storage.folder)}/".startswith(f"{os.path.realpath(folder)}/"):
        raise UsageProblem("the storage lies in the spec's own folder", "choose a folder beside it")
    if linked := _linked(loaded):
        raise UsageProblem(
            f"outputs lie in {linked}, which is a link, or lies in one", "let outputFile name the folder itself"
        )
    if left_behind := list(dict.fromkeys(_left_behind(loaded))):
        named = ", ".join(left_behind[:_NAMED]) + (", …" if len(left_behind) > _NAMED else "")
        raise UsageProblem(
            f"commands of the spec name files that would not be found elsewhere: {named}",
            "put them into the spec's folder, and name them relative to it",
        )
    bundle = read_bundle(folder, loaded.name, _made(loaded))
    spec = next(file for file in bundle.manifest.files if file.path == loaded.name)
    if spec.sha256 != loaded.sha256:
        raise InvalidFile(f"{loaded.source} was changed while it was bundled", "run again once nobody writes it")
    return bundle


def _made(loaded: LoadedSpec) -> frozenset[str]:
    """What the spec makes, and what stands beside that meanwhile, as paths from its folder."""
    outputs = output_paths(loaded)
    beside = (name(path) for path in outputs for name in (marker_of, failed_of))
    return frozenset(os.path.relpath(path, loaded.folder) for path in (*outputs, *beside))


def _linked(loaded: LoadedSpec) -> str:
    """A folder of outputs that is reached by a link: what is made there would be bundled. Empty: none is."""
    folders = {os.path.normpath(path.parent) for path in output_paths(loaded)}
    return min((os.path.relpath(each, loaded.folder) for each in folders if os.path.realpath(each) != each), default="")


def _left_behind(loaded: LoadedSpec) -> Iterator[str]:
    """The inputs that are out of the spec's folder, and those in it that are named by where it is on this machine.

    A file outside that is named by a path from the root is left alone: a program is, and may be the same everywhere.
    """
    spec, folder = loaded.spec, os.path.normpath(loaded.folder)
    keys = ChunkKeys(spec, loaded.folder)
    listed = set(spec.inputs)
    for chunk in spec.chunks:
        listed.update(chunk.inputs)
        words = [word for word in input_words(chunk.command) if word.startswith("/")]
        absolute = {os.path.normpath(word) for word in words}
        # A page is no program: it is nowhere else, wherever it is here.
        page = page_of(chunk.command) or ""
        if page.startswith("file:"):
            yield page
        yield from (word for word in words if (word == page or _is_below(word, folder)) and _is_there(word))
        for name in keys.inputs(chunk):
            place = os.path.normpath(loaded.folder / name)
            if name.startswith("../") and (place not in absolute or listed & {name, place}):
                yield name


def _is_below(path: str, folder: str) -> bool:
    """Whether a file lies in the folder, by this path or by what the links of it lead to."""
    return any(each.startswith(f"{folder}/") for each in (os.path.normpath(path), os.path.realpath(path)))


def _is_there(word: str) -> bool:
    # Not Path: a word of a command may be too long for a name.
    return os.path.exists(word)  # noqa: PTH110
