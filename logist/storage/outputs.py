"""The outputs of chunks in a storage: a file by its content, then a record that an attempt made it.

Only what a record names counts, so an upload that was cut off never does. Several attempts at a chunk may have
uploaded: whoever takes an output takes one record, and what it names is verified.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from logist.chunks import ChunkId, Output
from logist.durable import storage_failed
from logist.errors import StorageFailed
from logist.execution import CancelCheck
from logist.models.stored import StoredOutput
from logist.render.output_file import written_beside
from logist.render.verify import is_untouched
from logist.storage.objects import Storage

_MOST_RECORD_BYTES = 100_000
_RECORD = ".json"


class OutputPlace(NamedTuple):
    """Where the outputs of one chunk of a bundle are."""

    storage: Storage
    bundle: str
    chunk: ChunkId

    @property
    def folder(self) -> str:
        """The name of what holds them."""
        return f"outputs/{self.bundle}/{self.chunk}"

    def record(self, attempt: str) -> str:
        """The name of an attempt's record."""
        return f"{self.folder}/{attempt}{_RECORD}"


def publish(place: OutputPlace, attempt: str, output: Output) -> None:
    """Upload the verified `output`, and then the record of it. Raises StorageFailed."""
    path = Path(output.path)
    place.storage.upload(f"{place.folder}/{output.sha256}", path)
    if not is_untouched(path, output):
        raise StorageFailed(f"{path.name} was changed while it was uploaded", "run the chunk again")
    record = StoredOutput(
        bundle=place.bundle, chunk=place.chunk, attempt=attempt, sha256=output.sha256, size=output.size
    )
    place.storage.write(place.record(attempt), record.model_dump_json().encode())


def attempts_of_all(storage: Storage, bundle: str) -> dict[str, list[str]]:
    """The attempts that have a record, by the id of their chunk. Raises StorageFailed."""
    found: dict[str, list[str]] = {}
    for name in storage.names(f"outputs/{bundle}"):
        folder, _, last = name.rpartition("/")
        if last.endswith(_RECORD):
            found.setdefault(folder.rpartition("/")[2], []).append(last.removesuffix(_RECORD))
    return found


def attempts_of(place: OutputPlace) -> list[str]:
    """The attempts at one chunk that have a record."""
    names = (name.rsplit("/", 1)[1] for name in place.storage.names(place.folder))
    return [name.removesuffix(_RECORD) for name in names if name.endswith(_RECORD)]


def bring_first(place: OutputPlace, attempts: Iterable[str], path: Path, cancel: CancelCheck | None = None) -> str:
    """Put at `path` what the first of these attempts made that can be had; empty, or why the first one can't.

    Raises as `bring` does.
    """
    problems: list[str] = []
    for attempt in attempts:
        problem = bring(place, attempt, path, cancel)
        if not problem:
            return ""
        problems.append(problem)
    return next(
        iter(problems), f"{place.storage.url} has no output of it that was made from bundle {place.bundle[:12]}"
    )


def bring(place: OutputPlace, attempt: str, path: Path, cancel: CancelCheck | None = None) -> str:
    """Put what the attempt made at `path`, whole and verified; empty, or why that can't be done.

    Raises StorageFailed when storage or disk don't answer, Canceled when `cancel` says so.
    """
    name = place.record(attempt)
    data = place.storage.read(name, _MOST_RECORD_BYTES)
    if data is None:
        return f"{place.storage.url} has no record of it"
    try:
        record = StoredOutput.model_validate_json(data)
    except ValidationError:
        return f"{name} is no record of an output"
    if (record.bundle, str(record.chunk)) != (place.bundle, str(place.chunk)):
        return f"{name} is the record of something else"
    return _bring(place, record.sha256, record.size, path, cancel)


class _Refused(Exception):
    """Leaves the block that writes a file without the file getting its name."""


def _bring(place: OutputPlace, sha256: str, size: int, path: Path, cancel: CancelCheck | None) -> str:
    name = f"{place.folder}/{sha256}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_failed("make", path.parent, error) from error
    try:
        with written_beside(path) as beside:
            came = place.storage.fetch(name, beside, size, cancel)
            if came != sha256:
                raise _Refused(
                    "is not there" if came is None else "is not what was uploaded: its content's hash differs"
                )
    except _Refused as refused:
        return f"its output {path.name} {refused} ({name})"
    return ""
