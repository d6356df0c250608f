"""The one planner: which frames are made by which chunk, what its file is called, and the commands that make it. Pure.

The same plan twice is the same, to the byte: names come from what is rendered, never from time or chance.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

from logist.command_lines import LOGIST
from logist.errors import UsageProblem
from logist.render.encoder_options import part_suffix, usual_codec
from logist.render.encoders import CONTAINERS
from logist.render.flags import spell_track, to_flags
from logist.render.options import RenderOptions

#: More would be a slip of the finger, and no state of a run is made for it.
MOST_SHARDS = 10_000
#: Bytes: what one command line may hold, with room for the environment.
_LONGEST_MERGE = 1_000_000
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_QUOTABLE = re.compile(r"([^'\\]+)|(['\\])", re.DOTALL)
_HEX_DIGITS = 12


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """Frames that one command makes, and the file that it makes of them."""

    id: int
    #: Counted from the composition's first frame, whatever part of it is rendered.
    start_frame: int
    frame_count: int
    output: str


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """A whole render: its names are relative to where its commands run."""

    #: What is rendered: a file's name, or a URL.
    page: str
    output: str
    options: RenderOptions
    chunks: tuple[PlannedChunk, ...]
    #: Of all that the plan is made from.
    digest: str

    def chunk_options(self, chunk: PlannedChunk) -> RenderOptions:
        """How a chunk is rendered: without sound, which is mixed once for all; `page` says already where it is."""
        return replace(
            self.options,
            start_frame=chunk.start_frame,
            frame_count=chunk.frame_count,
            video_codec=codec_of(self.output, self.options),
            audio_codec=None,
            audio=(),
            base_url=None,
        )


def plan(page: str, output: str, options: RenderOptions, shards: int = 1) -> RenderPlan:
    """Cut a render into `shards` chunks that differ by one frame at most; into one for each frame if those are fewer.

    Raises UsageProblem for what no plan can be made of.
    """
    _check(page, output, options, shards)
    content = ["logist render 1", page, output, to_flags(options), shards]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:_HEX_DIGITS]
    stem = posixpath.join(posixpath.dirname(output), f"temp_{digest}_part_")
    suffix = part_suffix(codec_of(output, options))
    count = min(shards, options.frame_count)
    size, larger = divmod(options.frame_count, count)
    chunks, start = [], options.start_frame
    for number in range(count):
        frames = size + (number < larger)
        chunks.append(PlannedChunk(number, start, frames, f"{stem}{number}{suffix}"))
        start += frames
    return RenderPlan(page, output, options, tuple(chunks), digest)


def codec_of(output: str, options: RenderOptions) -> str:
    """The codec of the frames: the one that is asked for, or what the output's name stands for."""
    return options.video_codec or usual_codec(_suffix(output))


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _check(page: str, output: str, options: RenderOptions, shards: int) -> None:
    if not 1 <= shards <= MOST_SHARDS:
        raise UsageProblem(f"{shards} chunks can't be made", f"ask for 1 to {MOST_SHARDS}")
    if options.frame_count < 1 or options.start_frame < 0 or options.fps <= 0:
        raise UsageProblem("there is nothing to render", "give 1 frame or more, from frame 0 or a later one")
    if _suffix(output) not in CONTAINERS:
        raise UsageProblem(
            f"{output} names no container that chunks can be merged into", f"use {', '.join(CONTAINERS)}"
        )
    for name in (page, output, *to_flags(options)):
        _check_text(name)


def _check_text(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UsageProblem(f"{name!r} is not text that a file of JSON can hold", "rename it to UTF-8") from None
    if "\0" in name:
        raise UsageProblem(f"{name!r} holds a NUL character", "leave it out")


# --- As a render job spec ------------------------------------------------------------------------------------------


def job_spec(plan: RenderPlan) -> dict[str, Any]:
    """The plan as a render job spec, as it stands on disk. Raises UsageProblem when no run would accept it."""
    merge = _command(_merge_words(plan))
    if len(merge.encode()) > _LONGEST_MERGE:
        raise UsageProblem("the names of so many parts don't fit on one command line", "ask for fewer --shards")
    document = {
        "id": plan.digest,
        "metadata": _metadata(plan),
        "chunks": [
            {
                "id": chunk.id,
                "startFrame": chunk.start_frame,
                "frameCount": chunk.frame_count,
                "outputFile": chunk.output,
                "command": _command(_chunk_words(plan, chunk)),
            }
            for chunk in plan.chunks
        ],
        "mergeCommand": merge,
        "output": plan.output,
    }
    _prove(document)
    return document


def _metadata(plan: RenderPlan) -> dict[str, int | float]:
    options = plan.options
    return {
        "totalFrames": options.frame_count,
        "fps": _json_number(options.fps),
        "width": options.width,
        "height": options.height,
        "duration": _json_number(options.frame_count / options.fps),
    }


def _json_number(number: Fraction) -> int | float:
    return number.numerator if number.denominator == 1 else float(number)


def _chunk_words(plan: RenderPlan, chunk: PlannedChunk) -> tuple[str, ...]:
    flags = to_flags(plan.chunk_options(chunk))
    return (LOGIST, "render", _name(plan.page), "-o", _name(chunk.output), *flags, *_part_words(plan))


def _part_words(plan: RenderPlan) -> tuple[str, ...]:
    return ("--part", "--of-frames", f"{plan.options.start_frame},{plan.options.frame_count}")


def _merge_words(plan: RenderPlan) -> tuple[str, ...]:
    parts = (_name(chunk.output) for chunk in plan.chunks)
    return (LOGIST, "merge", _name(plan.output), *parts, *_audio_words(plan.options))


def _audio_words(options: RenderOptions) -> tuple[str, ...]:
    codec = () if options.audio_codec is None else ("--audio-codec", options.audio_codec)
    return (*codec, *(word for track in options.audio for word in ("--audio", spell_track(track))))


def _name(name: str) -> str:
    """A file's name as a word that no reader takes for an option."""
    return f"./{name}" if name.startswith("-") else name


def _command(words: tuple[str, ...]) -> str:
    return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    """A word that a shell and Helios both read back as it is, though a backslash in quotes is not the same to them."""
    if _PLAIN_WORD.fullmatch(word):
        return word
    parts = (f"'{plain}'" if plain else f"\\{mark}" for plain, mark in _QUOTABLE.findall(word))
    return "".join(parts) or "''"


def _prove(document: dict[str, Any]) -> None:
    # Slow to import, and only needed where a spec is written.
    from logist.models.job_spec import checked_spec

    # A copy: the chunks of what is checked are replaced.
    checked = checked_spec({**document, "chunks": list(document["chunks"])})
    if isinstance(checked, tuple):
        raise UsageProblem(f"no run would accept this plan: {checked[0]}", "choose another output")


# --- As a list of chunks -------------------------------------------------------------------------------------------


def export_document(plan: RenderPlan) -> dict[str, Any]:
    """The plan for those who bring their own runner.

    A chunk's range and output with `flags` are what `logist render` makes it with, exactly; `mergeFlags` are for
    `logist merge`.
    """
    flags = to_flags(plan.chunk_options(plan.chunks[0]), with_range=False)
    return {
        "jobId": plan.digest,
        "composition": _name(plan.page),
        "output": _name(plan.output),
        "renderOptions": dict(_render_options(plan.options)),
        "flags": [*flags, *_part_words(plan)],
        "mergeFlags": list(_audio_words(plan.options)),
        "chunks": [
            {
                "id": chunk.id,
                "startFrame": chunk.start_frame,
                "frameCount": chunk.frame_count,
                "output": _name(chunk.output),
            }
            for chunk in plan.chunks
        ],
    }


def _render_options(options: RenderOptions) -> Iterator[tuple[str, Any]]:
    """The options that say something, by their names in JSON."""
    for field in fields(options):
        value = getattr(options, field.name)
        if value is None or value == ():
            continue
        head, *rest = field.name.split("_")
        name = head + "".join(map(str.capitalize, rest))
        if isinstance(value, Fraction):
            value = _json_number(value)
        yield name, [spell_track(track) for track in value] if isinstance(value, tuple) else value
