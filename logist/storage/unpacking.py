"""From a storage into a folder: a bundle, fetched once a machine, every byte of it verified."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from logist.durable import storage_failed
from logist.errors import InvalidFile, StorageFailed
from logist.models.stored import BundledFile, BundleManifest
from logist.storage.bundles import MOST_MANIFEST_BYTES, blob_name, manifest_name, problem_of
from logist.storage.cache import Blob, Cache, check_room
from logist.storage.objects import Storage
from logist.storage.transfers import at_once

#: What is taken from the cache may be removed or damaged under way; then it is fetched once more.
_TRIES = 2
_CACHE_HINT = "look who else writes the folder logist/storage in XDG_CACHE_HOME, or ~/.cache"


def unpack(storage: Storage, sha256: str, cache: Cache, folder: Path) -> BundleManifest:
    """Put all files of the bundle `sha256` into the empty `folder`; its manifest.

    Raises InvalidFile for a bundle that may not be unpacked, StorageFailed for one that is not there or damaged, and
    where there is no room for it.
    """
    manifest = fetch_manifest(storage, sha256, cache)
    cache.make_room(set(map(_blob, manifest.files)))
    check_room(folder, sum(file.size for file in manifest.files))
    left = manifest.files
    for _ in range(_TRIES):
        with cache.held(sha256):
            at_once(lambda blob: cache.fetch(storage, blob), {_blob(file) for file in left})
        left = tuple(file for file in left if not _put(file, cache, folder))
        if not left:
            _link_all(manifest, folder)
            return manifest
    raise StorageFailed(f"{left[0].path} of the bundle is damaged in the cache again and again", _CACHE_HINT)


def fetch_manifest(storage: Storage, sha256: str, cache: Cache) -> BundleManifest:
    """What the bundle holds. Raises as `unpack` does."""
    blob = Blob(manifest_name(sha256), sha256, MOST_MANIFEST_BYTES)
    data = cache.read(blob)
    if data is None:
        with cache.held(sha256):
            cache.fetch(storage, blob)
        data = cache.read(blob)
    if data is None:
        raise StorageFailed(f"{blob.name} was removed from the cache", _CACHE_HINT)
    return _checked(data, blob.name)


def _checked(data: bytes, source: str) -> BundleManifest:
    try:
        manifest = BundleManifest.model_validate_json(data)
    except ValidationError as error:
        what = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, what["loc"]))
        raise _refused(source, f"{place}: {what['msg']}" if place else what["msg"]) from error
    if problem := problem_of(manifest):
        raise _refused(source, problem)
    return manifest


def _refused(source: str, problem: str) -> InvalidFile:
    return InvalidFile(f"{source} is not a bundle that may be unpacked: {problem}", "make it with `logist bundle`")


def _blob(file: BundledFile) -> Blob:
    return Blob(blob_name(file.sha256), file.sha256, file.size)


def _put(file: BundledFile, cache: Cache, folder: Path) -> bool:
    path = folder / file.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_failed("make", path.parent, error) from error
    return cache.copy(_blob(file), path, 0o777 if file.executable else 0o666)


def _link_all(manifest: BundleManifest, folder: Path) -> None:
    # Last: nothing is written through one of them.
    for link in manifest.links:
        path = folder / link.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(link.target)
        except OSError as error:
            raise storage_failed("make", path, error) from error
