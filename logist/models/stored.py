"""The records of a storage: what a bundle holds, and which output an attempt at a chunk uploaded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from logist.models.job_spec import ChunkId
from logist.models.record import Record
from logist.specs import LARGEST

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0, le=LARGEST, strict=True)]


class BundledFile(Record):
    """A file of a bundle: its path from the spec's folder, and its content. `size` is in bytes."""

    path: str
    sha256: Sha256
    size: Size
    executable: bool = False


class BundledLink(Record):
    """A symbolic link of a bundle, which leads to another place in it."""

    path: str
    target: str


class BundleManifest(Record):
    """All that a bundle holds. Its own hash, of its bytes as they are stored, is the bundle's name."""

    logist_bundle: Literal[1] = 1
    #: The path of the spec.
    spec: str
    files: tuple[BundledFile, ...]
    links: tuple[BundledLink, ...] = ()


class StoredOutput(Record):
    """An attempt at a chunk made this file. Written last: without this record nothing that was uploaded counts.

    `size` is in bytes.
    """

    logist_output: Literal[1] = 1
    bundle: Sha256
    chunk: ChunkId
    attempt: str
    sha256: Sha256
    size: Size
