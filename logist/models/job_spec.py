"""A render job spec: chunks of frames, the command that makes each, and the command that merges them.

camelCase on disk. What Helios emits is read as it is; keys that Logist does not know are kept.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

#: Helios counts chunks; others name them. A name is a part of file names.
ChunkId = Annotated[int, Field(strict=True, ge=0)] | Annotated[
    str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
]
#: One line as a shell or Helios would read it, or the argument vector itself.
CommandLine = str | tuple[str, ...]


class SpecRecord(BaseModel):
    """A part of a spec: frozen, camelCase on disk, unknown keys kept."""

    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel, populate_by_name=True)


class RenderJobMetadata(SpecRecord):
    """What the whole video is. `duration` is in seconds; `width` and `height` in pixels."""

    total_frames: Annotated[int, Field(strict=True, ge=1)]
    fps: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    width: Annotated[int, Field(strict=True, ge=1)]
    height: Annotated[int, Field(strict=True, ge=1)]
    duration: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RenderJobChunk(SpecRecord):
    """A range of frames, the command that makes it, and the file that is made, relative to the spec's folder."""

    id: ChunkId
    start_frame: Annotated[int, Field(strict=True, ge=0)]
    frame_count: Annotated[int, Field(strict=True, ge=1)]
    #: Empty: the command makes no file, and its exit code is all that is known of it.
    output_file: str = ""
    command: CommandLine


class RenderJobSpec(SpecRecord):
    """A whole render in chunks."""

    id: str | None = None
    metadata: RenderJobMetadata
    chunks: Annotated[tuple[RenderJobChunk, ...], Field(min_length=1)]
    #: Empty: there is nothing to merge.
    merge_command: CommandLine = ""
    #: The merged file. Specs of Helios name it in the merge command only: see `spec_files.merged_file`.
    output: str | None = None
