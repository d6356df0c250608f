"""What a part says of itself: which frames of which render it holds, and the sounds that were found while it was made.

The text is in the file, where it goes with it. It is known only when the last frame is: in ISO media it is a box behind
everything else, of a kind that the format leaves to whoever writes it; in Matroska it is the title of a chapter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from logist.errors import MergeFailed, RenderFailed
from logist.render import media
from logist.render.flags import MOST_FRAMES, MOST_SECONDS, parse_fps, parse_track, spell_fps, spell_track
from logist.render.options import AudioTrack
from logist.render.sound_files import is_of_its_page, shown

if TYPE_CHECKING:
    from av.container import OutputContainer

_ISO_MEDIA = ("mp4", "mov")
#: The kind of the box, which is sixteen bytes that nobody else has.
_KIND = b"logist-part-note"
_HEADER = 8 + len(_KIND)
#: Before the text where anybody else may have written one.
_PREFIX = "logist part "
#: Of what `PartNote.text` writes: another one for whatever is written in another way.
_VERSION = 2
#: Bytes. A page with ten thousand sounds has less to say.
_LONGEST = 16_000_000
_MOST_TRACKS = 10_000
#: In characters.
_LONGEST_NAME = 200
#: In parts of a second: nobody hears less, and what a page counts is hardly more exact.
_EXACT = 1_000_000_000
_SHORTEST = Fraction(1, 1_000_000)
_START = Fraction(0)


class Whole(NamedTuple):
    """The frames of the whole render that a part is of."""

    start_frame: int
    frame_count: int

    @property
    def end_frame(self) -> int:
        """The first frame after it."""
        return self.start_frame + self.frame_count


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
    #: None: not known, as when somebody made the part by hand.
    whole: Whole | None = None
    #: Product and version of what made the frames; empty: not known.
    browser: str = ""

    @property
    def end_frame(self) -> int:
        """The first frame after the part."""
        return self.start_frame + self.frame_count

    def text(self) -> str:
        """The note as it stands in a file; `parse` reads it. Raises RenderFailed when it is too long for that."""
        text = json.dumps(
            {
                "version": _VERSION,
                "render": self.render,
                "startFrame": self.start_frame,
                "frameCount": self.frame_count,
                "whole": self.whole,
                "fps": spell_fps(self.fps),
                "browser": self.browser,
                "complete": self.complete,
                "tracks": [spell_track(track) for track in self.tracks],
            },
            ensure_ascii=True,
            separators=(",", ":"),
        )
        if len(text) > _LONGEST - _HEADER or len(self.tracks) > _MOST_TRACKS:
            raise RenderFailed(
                f"the page has {len(self.tracks)} sounds, which need {len(text)} bytes to be noted in the part",
                "give it fewer, and as files instead of data: URLs",
            )
        return text


def parse(text: str) -> PartNote:
    """A note as `PartNote.text` wrote it; whoever wrote this one is not trusted. Raises ValueError."""
    try:
        return _parsed(json.loads(text))
    except (KeyError, RecursionError, TypeError) as error:
        raise ValueError("it is not of the form that it should have") from error


def _parsed(values: dict[str, Any]) -> PartNote:
    if values["version"] != _VERSION:
        raise ValueError("another version of Logist wrote it")
    if not values.keys() == {"version", *_FIELDS}:
        raise KeyError
    note = PartNote(**{field: read(values[name]) for name, (field, read) in _FIELDS.items()})
    if note.end_frame / note.fps > MOST_SECONDS:
        raise ValueError(f"its frames are later than {MOST_SECONDS} seconds")
    whole = note.whole
    if whole is not None and not whole.start_frame <= note.start_frame < note.end_frame <= whole.end_frame:
        raise ValueError("it is no part of the whole that it names")
    return note


def _whole_number(least: int) -> Callable[[object], int]:
    def checked(value: object) -> int:
        if type(value) is not int or not least <= value <= MOST_FRAMES:
            raise ValueError(f"a number of frames is not between {least} and {MOST_FRAMES}")
        return value

    return checked


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _name(value: object) -> str:
    if len(_text(value)) > _LONGEST_NAME:
        raise TypeError
    return _text(value)


def _yes_or_no(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _whole(value: Any) -> Whole | None:
    if value is None:
        return None
    start, count = value
    return Whole(_whole_number(0)(start), _whole_number(1)(count))


def _tracks(value: Any) -> tuple[AudioTrack, ...]:
    if not isinstance(value, list) or len(value) > _MOST_TRACKS:
        raise TypeError
    return tuple(parse_track(_text(each)) for each in value)


#: By the name in the file: the field, and what reads its value, which raises ValueError or TypeError.
_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "render": ("render", _name),
    "startFrame": ("start_frame", _whole_number(0)),
    "frameCount": ("frame_count", _whole_number(1)),
    "whole": ("whole", _whole),
    "fps": ("fps", lambda value: parse_fps(_text(value))),
    "browser": ("browser", _name),
    "complete": ("complete", _yes_or_no),
    "tracks": ("tracks", _tracks),
}


def of_page(track: AudioTrack) -> AudioTrack | None:
    """A sound as a page has it, in numbers that a note can hold; None: nothing of it is heard.

    Raises RenderFailed for what is no sound that can be mixed.
    """
    asked = replace(
        track,
        offset=_exact(track.offset),
        seek=_exact(track.seek),
        duration=None if track.duration is None else _exact(track.duration),
        volume=_exact(track.volume),
        fade_in=max(_START, _exact(track.fade_in)),
        fade_out=max(_START, _exact(track.fade_out)),
        rate=_exact(track.rate),
    )
    heard = _from_the_start(asked)
    if heard.duration is not None and heard.duration < _SHORTEST:
        return None
    try:
        return parse_track(spell_track(heard))
    except ValueError as error:
        raise RenderFailed(
            f"the page's sound {shown(track.source)} can't be mixed: {error}",
            "correct the page, or give it data-helios-no-audio",
        ) from error


def unreachable(tracks: Sequence[AudioTrack]) -> tuple[str, ...]:
    """Which of a page's sounds no merge can read, in sentences about the page."""
    return tuple(
        f"its sound {shown(source)} is known to it alone: only a merge with --audio-codec none can do without"
        for source in dict.fromkeys(track.source for track in tracks if is_of_its_page(track))
    )


def _from_the_start(track: AudioTrack) -> AudioTrack:
    """The same without what would be before the sound's own first sample, or before the composition's first frame."""
    if track.seek < 0 and track.rate:
        track = _later(track, -track.seek / track.rate)
    return _later(track, -track.offset) if track.offset < 0 else track


def _later(track: AudioTrack, seconds: Fraction) -> AudioTrack:
    """A track without its first seconds."""
    return replace(
        track,
        offset=_exact(track.offset + seconds),
        seek=_exact(track.seek + seconds * track.rate),
        duration=None if track.duration is None else track.duration - seconds,
    )


def _exact(number: Fraction) -> Fraction:
    return Fraction(round(number * _EXACT), _EXACT)


def check_parts(found: Sequence[tuple[Path, PartNote | None, int]]) -> tuple[PartNote, ...]:
    """Whether files are the parts of one render, in order; each comes with its note and the frames it really holds.

    Empty when none of them has a note: then they are just videos. Raises MergeFailed, which names the first that
    doesn't fit, or the frames that are missing.
    """
    noted = [(path, note) for path, note, _ in found if note is not None]
    if not noted:
        return ()
    first, begin = noted[0]
    whole = next((note.whole for _, note in noted if note.whole is not None), None)
    for path, note, frames in found:
        if note is None:
            raise _misfit(f"{path} says nothing of which frames it holds, {first} does")
        if note.frame_count != frames:
            raise _misfit(f"{path} holds {frames} frames, and says that it has {note.frame_count}")
        if (note.render, note.fps, note.whole or whole) != (begin.render, begin.fps, begin.whole or whole):
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
    if whole is not None:
        _check_ends(noted, whole)
    return tuple(note for _, note in noted)


def _check_ends(noted: Sequence[tuple[Path, PartNote]], whole: Whole) -> None:
    (first, begin), (last, end) = noted[0], noted[-1]
    if begin.start_frame > whole.start_frame:
        raise _misfit(f"before {first} {_range(whole.start_frame, begin.start_frame)} missing")
    if end.end_frame < whole.end_frame:
        raise _misfit(f"after {last} {_range(end.end_frame, whole.end_frame)} missing")


def doubts(found: Sequence[tuple[Path, PartNote]]) -> tuple[str, ...]:
    """What speaks against parts that fit each other, in sentences."""
    makers: dict[str, Path] = {}
    for path, note in found:
        if note.browser:
            makers.setdefault(note.browser, path)
    if len(makers) < 2:
        return ()
    made = ", ".join(f"{path} by {browser}" for browser, path in makers.items())
    return (f"the parts were made by different browsers, which may draw differently: {made}",)


def _range(start: int, stop: int) -> str:
    return f"frame {start} is" if stop - start == 1 else f"frames {start} to {stop - 1} are"


def _misfit(message: str, hint: str = "name all parts of one render, each once, and no other video") -> MergeFailed:
    return MergeFailed(message, hint)


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
