"""What a part says of itself: which frames of which render it holds, and the sounds that were found while it was made.

The text is in the file, where it goes with it. It is known only when the last frame is: in ISO media it is a box behind
everything else, of a kind that the format leaves to whoever writes it; in Matroska it is the title of a chapter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from logist.errors import MergeFailed
from logist.render import media
from logist.render.options import AudioTrack

if TYPE_CHECKING:
    from av.container import OutputContainer

_ISO_MEDIA = ("mp4", "mov")
#: The kind of the box, which is sixteen bytes that nobody else has.
_KIND = b"logist-part-note"
_HEADER = 8 + len(_KIND)
#: Before the text where anybody else may have written one.
_PREFIX = "logist part "
#: Bytes. A page with ten thousand sounds has less to say.
_LONGEST = 16_000_000


@dataclass(frozen=True, slots=True)
class PartNote:
    """Which part of which render a file is."""

    start_frame: int
    frame_count: int
    #: Frames a second.
    fps: Fraction
    #: The same for all parts of one render, of which frames can be merged with each other; empty: not known.
    render: str = ""
    #: Those that the page has, up to the part's end. A source is a URL, or a path from the part's folder.
    tracks: tuple[AudioTrack, ...] = ()
    #: Whether the page saw all frames from the composition's first on, and so has all that was heard up to the end.
    complete: bool = True

    @property
    def end_frame(self) -> int:
        """The first frame after the part."""
        return self.start_frame + self.frame_count

    def text(self) -> str:
        """The note as it stands in a file; `parse` reads it."""
        return json.dumps(
            {
                "version": 1,
                "render": self.render,
                "startFrame": self.start_frame,
                "frameCount": self.frame_count,
                "fps": str(self.fps),
                "complete": self.complete,
                "tracks": [_spelled(track) for track in self.tracks],
            },
            ensure_ascii=True,
            separators=(",", ":"),
        )


def parse(text: str) -> PartNote:
    """A note as `PartNote.text` wrote it. Raises ValueError."""
    try:
        values = json.loads(text)
        if values["version"] != 1:
            raise ValueError(f"its version is {values['version']}")
        note = PartNote(
            int(values["startFrame"]),
            int(values["frameCount"]),
            Fraction(values["fps"]),
            str(values["render"]),
            tuple(_track(track) for track in values["tracks"]),
            bool(values["complete"]),
        )
    except (ArithmeticError, KeyError, RecursionError, TypeError) as error:
        raise ValueError("it is not of the form that it should have") from error
    if note.start_frame < 0 or note.frame_count < 1 or note.fps <= 0:
        raise ValueError("it says what can't be")
    return note


def check_parts(found: Sequence[tuple[Path, PartNote | None, int]]) -> tuple[PartNote, ...]:
    """Whether files are the parts of one render, in order; each comes with its note and the frames it really holds.

    Empty when none of them has a note: then they are just videos. Raises MergeFailed, which names the first that
    doesn't fit.
    """
    noted = [(path, note) for path, note, _ in found if note is not None]
    if not noted:
        return ()
    first, begin = noted[0]
    for path, note, frames in found:
        if note is None:
            raise _misfit(f"{path} says nothing of which frames it holds, {first} does")
        if note.frame_count != frames:
            raise _misfit(f"{path} holds {frames} frames, and says that it has {note.frame_count}")
        if (note.render, note.fps) != (begin.render, begin.fps):
            raise _misfit(f"{path} is a part of another render than {first}")
    for (before, one), (after, other) in pairwise(noted):
        if other.start_frame > one.end_frame:
            missing = _range(one.end_frame, other.start_frame)
            raise _misfit(f"between {before} and {after} {missing} missing")
        if other.start_frame < one.start_frame:
            raise _misfit(f"{after} comes before {before}", "name the parts in the order of their frames")
        if other.start_frame < one.end_frame:
            both = _range(other.start_frame, min(one.end_frame, other.end_frame))
            raise _misfit(f"{both} in {before} and in {after}")
    return tuple(note for _, note in noted)


def _range(start: int, stop: int) -> str:
    return f"frame {start} is" if stop - start == 1 else f"frames {start} to {stop - 1} are"


def _misfit(message: str, hint: str = "name all parts of one render, each once, and no other video") -> MergeFailed:
    return MergeFailed(message, hint)


def _spelled(track: AudioTrack) -> dict[str, Any]:
    return {
        "source": track.source,
        "offset": str(track.offset),
        "seek": str(track.seek),
        "duration": None if track.duration is None else str(track.duration),
        "volume": str(track.volume),
        "fadeIn": str(track.fade_in),
        "fadeOut": str(track.fade_out),
        "loop": track.loop,
        "rate": str(track.rate),
    }


def _track(values: dict[str, Any]) -> AudioTrack:
    duration = values["duration"]
    return AudioTrack(
        source=str(values["source"]),
        offset=Fraction(values["offset"]),
        seek=Fraction(values["seek"]),
        duration=None if duration is None else Fraction(duration),
        volume=Fraction(values["volume"]),
        fade_in=Fraction(values["fadeIn"]),
        fade_out=Fraction(values["fadeOut"]),
        loop=bool(values["loop"]),
        rate=Fraction(values["rate"]),
    )


def put_into(target: OutputContainer, text: str, duration: Fraction) -> None:
    """Say `text` in a file that is not yet closed, if that is the way of its container; `duration` is in seconds."""
    if target.format.name in _ISO_MEDIA:
        return
    nanoseconds = Fraction(1, 1_000_000_000)
    end = round(duration / nanoseconds)
    target.set_chapters(
        [{"id": 1, "start": 0, "end": end, "time_base": nanoseconds, "metadata": {"title": _PREFIX + text}}]
    )


def put_behind(path: Path, container: str, text: str) -> None:
    """Likewise for a file that is closed. Raises OSError."""
    if container not in _ISO_MEDIA:
        return
    data = text.encode()
    with path.open("ab") as file:
        file.write((_HEADER + len(data)).to_bytes(4, "big") + b"uuid" + _KIND + data)


def part_of(path: Path) -> PartNote | None:
    """Which part a file is, as it says; None: it says nothing. Raises ExtraMissing, MergeFailed."""
    text = read(path)
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise MergeFailed(
            f"what {path} says of itself can't be read: {error}", "make this part again, with this version of Logist"
        ) from error


def read(path: Path) -> str | None:
    """What a file says of itself; None: nothing, or it can't be read. Raises ExtraMissing."""
    if media.unreadable(path):
        return None
    try:
        with path.open("rb") as file:
            if file.read(4) != b"\x1a\x45\xdf\xa3":
                return _from_boxes(file)
    except (OSError, UnicodeDecodeError):
        return None
    return _from_chapters(path)


def _from_boxes(file: BinaryIO) -> str | None:
    for position, kind, size in media.boxes(file):
        if kind == b"uuid" and _HEADER <= size <= _LONGEST:
            file.seek(position + 8)
            if file.read(len(_KIND)) == _KIND:
                return file.read(size - _HEADER).decode()
    return None


def _from_chapters(path: Path) -> str | None:
    av = media.pyav()
    try:
        with media.open_media(path) as container:
            titles = [chapter["metadata"].get("title", "") for chapter in container.chapters()]
    except (av.FFmpegError, OSError):
        return None
    return next((title.removeprefix(_PREFIX) for title in titles if title.startswith(_PREFIX)), None)
