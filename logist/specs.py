"""What a render spec is to whoever runs it, and what may be wrong with one; standard library only.

`models.job_spec` has the pydantic models, which decide. They take as long to import as some two hundred short chunks to
run, so a spec of which a glance tells that they would take it is read without them.
"""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from logist.command_lines import merged_file
from logist.plain_text import plain_text

#: What `--chunk` and the logs mean by these is something else.
RESERVED_IDS = frozenset({"auto", "merge"})
#: The largest whole number that every reader of JSON gets right.
LARGEST = 2**53 - 1
CHUNK_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


class RenderMetadata(Protocol):
    """What the whole video is. Sizes are in pixels."""

    @property
    def total_frames(self) -> int: ...
    @property
    def fps(self) -> float: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


class RenderChunk(Protocol):
    """A range of frames, the command that makes it, and the file that is made: see `RenderJobChunk`."""

    @property
    def id(self) -> int | str: ...
    @property
    def start_frame(self) -> int: ...
    @property
    def frame_count(self) -> int: ...
    @property
    def end_frame(self) -> int: ...
    @property
    def output_file(self) -> str: ...
    @property
    def command(self) -> str | tuple[str, ...]: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...


class RenderSpec(Protocol):
    """A whole render in chunks: see `RenderJobSpec`."""

    @property
    def metadata(self) -> RenderMetadata: ...
    @property
    def chunks(self) -> Sequence[RenderChunk]: ...
    @property
    def merge_command(self) -> str | tuple[str, ...]: ...
    @property
    def output(self) -> str | None: ...
    @property
    def merged_output(self) -> str | None: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...


# --- Read at a glance ----------------------------------------------------------------------------------------------


class PlainMetadata(NamedTuple):
    """The metadata of a spec that was read at a glance."""

    total_frames: int
    fps: float
    width: int
    height: int


class PlainChunk(NamedTuple):
    """A chunk of a spec that was read at a glance."""

    id: int | str
    start_frame: int
    frame_count: int
    output_file: str
    command: str | tuple[str, ...]

    @property
    def end_frame(self) -> int:
        """The first frame after the chunk."""
        return self.start_frame + self.frame_count

    @property
    def inputs(self) -> tuple[str, ...]:
        """A spec that lists inputs is not read at a glance."""
        return ()


class PlainSpec(NamedTuple):
    """A spec that was read at a glance."""

    metadata: PlainMetadata
    chunks: tuple[PlainChunk, ...]
    merge_command: str | tuple[str, ...] = ""
    output: str | None = None
    inputs: tuple[str, ...] = ()

    @property
    def merged_output(self) -> str | None:
        """The merged file as the spec names it, relative to its folder; None when nothing says what it is."""
        return self.output or merged_file(self.merge_command)


_SPEC_KEYS = frozenset({"id", "metadata", "chunks", "mergeCommand", "output"})
_METADATA_KEYS = {"totalFrames", "fps", "width", "height", "duration"}
_CHUNK_KEYS = {"id", "startFrame", "frameCount", "outputFile", "command"}


def plain_spec(document: dict[str, Any]) -> PlainSpec | None:
    """The spec that `document` is when it has just the keys that Helios writes, with values that are plainly right.

    None: it may be a spec all the same, and the models have to look. Nothing of the document is changed.
    """
    metadata, chunks = document.get("metadata"), document.get("chunks")
    if not document.keys() <= _SPEC_KEYS or not isinstance(metadata, dict) or not isinstance(chunks, list):
        return None
    merge, output = _command(document.get("mergeCommand", "")), document.get("output")
    read = [_plain_chunk(chunk) for chunk in chunks]
    sound = [chunk for chunk in read if chunk is not None]
    if merge is None or not sound or len(sound) < len(read) or not (output is None or isinstance(output, str)):
        return None
    if not isinstance(document.get("id", ""), str) or not _is_plain_metadata(metadata):
        return None
    size = PlainMetadata(metadata["totalFrames"], metadata["fps"], metadata["width"], metadata["height"])
    return PlainSpec(size, tuple(sound), merge, output)


def _is_plain_metadata(metadata: dict[str, Any]) -> bool:
    if metadata.keys() != _METADATA_KEYS:
        return False
    whole = all(_is_whole(metadata[name], 1) for name in ("totalFrames", "width", "height"))
    return whole and _is_number(metadata["fps"]) and metadata["fps"] > 0 and _is_number(metadata["duration"])


def _plain_chunk(chunk: Any) -> PlainChunk | None:
    if not isinstance(chunk, dict) or chunk.keys() != _CHUNK_KEYS:
        return None
    name, output, command = chunk["id"], chunk["outputFile"], _command(chunk["command"])
    named = _is_whole(name, 0) or (isinstance(name, str) and re.fullmatch(CHUNK_NAME, name) is not None)
    if not named or command is None or not isinstance(output, str):
        return None
    if not _is_whole(chunk["startFrame"], 0) or not _is_whole(chunk["frameCount"], 1):
        return None
    return PlainChunk(name, chunk["startFrame"], chunk["frameCount"], output, command)


def _command(value: Any) -> str | tuple[str, ...] | None:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(value)
    return None


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= LARGEST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= LARGEST


# --- Problems ------------------------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """What is wrong, and where: `chunks[3].startFrame`."""

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


def shown(value: Any) -> str:
    """A value as it stands in JSON, or what kind of value it is; at most 60 characters."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    written = json.dumps(plain_text(value) if isinstance(value, str) else value, ensure_ascii=False)
    return written if len(written) <= 60 else written[:59] + "…"


# --- What is wrong with a spec that has the right shape ------------------------------------------------------------


def spec_problems(spec: RenderSpec) -> tuple[Problem, ...]:
    """All that is wrong with how the parts of a spec fit together; empty for a sound one.

    Ranges are frame numbers of the whole video: a part of it may begin anywhere, but between the chunks no frame is
    made twice or missing. The chunks may stand in any order.
    """
    checks: tuple[Callable[[RenderSpec], Iterator[Problem]], ...] = (_totals, _ids, _commands, _outputs, _ranges)
    return tuple(dict.fromkeys(problem for check in checks for problem in check(spec)))


def _totals(spec: RenderSpec) -> Iterator[Problem]:
    made, total = sum(chunk.frame_count for chunk in spec.chunks), spec.metadata.total_frames
    if made != total:
        yield Problem("metadata.totalFrames", f"is {total}, but the chunks make {made} frames")


def _ids(spec: RenderSpec) -> Iterator[Problem]:
    # `--chunk 1` and a file name can't tell 1 from "1".
    for place, first in _repeated(str(chunk.id) for chunk in spec.chunks):
        yield Problem(f"chunks[{place}].id", f"{spec.chunks[place].id} is the id of chunks[{first}] too")
    for place, chunk in enumerate(spec.chunks):
        if chunk.id in RESERVED_IDS:
            yield Problem(f"chunks[{place}].id", f"{chunk.id} is a word that Logist uses; choose another")


def _commands(spec: RenderSpec) -> Iterator[Problem]:
    for place, chunk in enumerate(spec.chunks):
        yield from _command_problems(f"chunks[{place}].command", chunk.command)
    if spec.merge_command:
        yield from _command_problems("mergeCommand", spec.merge_command)


def _command_problems(place: str, command: str | tuple[str, ...]) -> Iterator[Problem]:
    words = (command,) if isinstance(command, str) else command
    if not words or not words[0].strip():
        yield Problem(place, "is empty")
    elif any("\0" in word for word in words):
        yield Problem(place, "holds a NUL character")


def _outputs(spec: RenderSpec) -> Iterator[Problem]:
    merged = spec.merged_output
    named = merged_file(spec.merge_command)
    if merged and named and not _may_be_same(merged, named):
        yield Problem("output", f"is {merged}, but mergeCommand writes {named}")
    if merged:
        yield from _name_problems("output" if spec.output else "mergeCommand", merged)
    outputs = [(place, chunk.output_file) for place, chunk in enumerate(spec.chunks) if chunk.output_file]
    for place, name in outputs:
        yield from _name_problems(f"chunks[{place}].outputFile", name)
        if merged and os.path.normpath(name) == os.path.normpath(merged):
            yield Problem(f"chunks[{place}].outputFile", f"{name} is the merged file")
    for index, first in _repeated(os.path.normpath(name) for _, name in outputs):
        place, name = outputs[index]
        yield Problem(f"chunks[{place}].outputFile", f"{name} is the output of chunks[{outputs[first][0]}] too")


def _may_be_same(one: str, other: str) -> bool:
    """Whether two names can mean one file; the folder of the spec, which could tell, is not known here."""
    return one.startswith("/") != other.startswith("/") or os.path.normpath(one) == os.path.normpath(other)


def _name_problems(place: str, name: str) -> Iterator[Problem]:
    if "\0" in name:
        yield Problem(place, "holds a NUL character")
    elif name.rpartition("/")[2] in ("", ".", ".."):
        yield Problem(place, f"{name} is a folder, not a file")


def _ranges(spec: RenderSpec) -> Iterator[Problem]:
    in_order = sorted(range(len(spec.chunks)), key=lambda place: spec.chunks[place].start_frame)
    # The chunk that reaches furthest so far: not always the one before.
    last = in_order[0]
    for place in in_order[1:]:
        start, end = spec.chunks[place].start_frame, spec.chunks[last].end_frame
        where = f"chunks[{place}].startFrame"
        if start < end:
            yield Problem(where, f"frame {start} is made by chunks[{last}] too")
        elif start > end:
            yield Problem(where, f"no chunk makes {_frames(end, start - 1)} before it")
        if spec.chunks[place].end_frame > end:
            last = place


def _frames(first: int, last: int) -> str:
    return f"frame {first}" if first == last else f"frames {first} to {last}"


def _repeated(values: Iterable[str]) -> Iterator[tuple[int, int]]:
    """The place of each value that stood there before, and the place where it stood first."""
    first: dict[str, int] = {}
    for place, value in enumerate(values):
        if first.setdefault(value, place) != place:
            yield place, first[value]
