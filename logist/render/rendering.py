"""What is made of a composition's frames: a video, a part of one, or pictures."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from logist.errors import RenderFailed, UsageProblem
from logist.render.composition import read_props, seen_from
from logist.render.encoder_options import part_suffix
from logist.render.flags import to_flags
from logist.render.frames import Frames, Statistics, frames_of
from logist.render.options import AudioTrack, Mode, RenderOptions, Warmup
from logist.render.output_file import check_output, landing, not_written, written_beside
from logist.render.private_folder import private_folder
from logist.render.sheet import Cell, sheet_page
from logist.render.sound_files import ELSEWHERE

if TYPE_CHECKING:
    from logist.render.merge import Merged
    from logist.render.notes import Whole

#: Takes how many frames are done, and of how many. Called for every frame.
Progress = Callable[[int, int], None]

_PICTURES = (".png",)
#: Where the number of a frame stands in the name of a sequence: %d, or %04d for one of four digits or more.
_NUMBER = re.compile(r"%(?:0(\d))?d")
#: Colours and transparency, as a PNG has them.
_TRANSPARENT = "rgba"
_OPAQUE = "rgb24"


@dataclass(frozen=True, slots=True)
class Rendered:
    """What was made. Times are in seconds."""

    output: Path
    #: Those that are in it.
    frames: int
    statistics: Statistics
    #: From the beginning to the end of everything.
    seconds: float
    #: How much of that was spent on what comes after the last frame.
    finishing: float
    #: None: no sound was looked for, or no video was made.
    merged: Merged | None = None


def render_video(url: str, output: Path, options: RenderOptions, progress: Progress | None = None) -> Rendered:
    """Render the page at `url` to the video `output`, with its sounds; all that can be checked before is checked.

    Raises UsageProblem, BrowserMissing, RenderFailed, MergeFailed, StorageFailed, ExtraMissing.
    """
    from logist.render import encoders
    from logist.render.merge import MergeOptions, merge
    from logist.render.notes import Whole

    began = time.monotonic()
    check_output(output)
    video = encoders.settings_for(output, options, part=False).video
    # A part's own name would stand for another codec.
    encoded = replace(options, video_codec=video.encoder)
    with _scratch(output) as folder:
        whole = Whole(options.start_frame, options.frame_count)
        file = folder / f"part{part_suffix(video.encoder)}"
        part = render_part(url, file, encoded, progress, whole, mixed=True)
        merged = merge(output, [part.output], MergeOptions(audio_codec=options.audio_codec, audio=options.audio))
    seconds = time.monotonic() - began
    finishing = seconds - part.seconds + part.finishing
    return replace(part, output=output, seconds=seconds, finishing=finishing, merged=merged)


def render_part(
    url: str,
    output: Path,
    options: RenderOptions,
    progress: Progress | None = None,
    whole: Whole | None = None,
    *,
    mixed: bool = False,
) -> Rendered:
    """Render the page at `url` to `output`, a video without sound that says which frames it holds and what is heard.

    A part that knows of which `whole` it is lets no merge miss another. With `mixed` its sounds are to be mixed next:
    one that can't be is told before the first frame, if the page has it by then. Raises UsageProblem, BrowserMissing,
    RenderFailed, StorageFailed, ExtraMissing.
    """
    from logist.render import encoders
    from logist.render.encode import video_writer
    from logist.render.notes import PartNote, of_page, unreachable

    began = time.monotonic()
    check_output(output)
    settings = encoders.settings_for(output, options, part=True)
    numbers = range(options.start_frame, options.end_frame)
    shown = replace(options, pixel_format=settings.video.pixel_format)

    def heard(found: Sequence[AudioTrack]) -> tuple[AudioTrack, ...]:
        return () if options.audio_codec == encoders.SILENT else tuple(filter(None, map(of_page, found)))

    def listen(found: Sequence[AudioTrack]) -> None:
        problems = unreachable(heard(found))
        if mixed and problems:
            raise RenderFailed(f"the page can't be heard: {problems[0]}", ELSEWHERE)

    with video_writer(output, settings) as writer, frames_of(url, shown, numbers, listen) as frames:
        for picture in _told(frames, len(numbers), progress):
            writer.add(picture)
        statistics = frames.statistics()
        tracks = heard(statistics.tracks)
        note = PartNote(
            options.start_frame,
            options.frame_count,
            options.fps,
            _identity(url, options),
            tuple(_seen_from(track, output.parent) for track in tracks),
            complete=options.warmup is Warmup.REPLAY,
            whole=whole,
            browser=statistics.browser,
        )
        writer.note(note.text())
    return _rendered(output, replace(statistics, notes=(*statistics.notes, *unreachable(tracks))), began)


def render_picture(url: str, output: Path, options: RenderOptions) -> Rendered:
    """Render the page's frame `start_frame` to the picture `output`.

    Raises UsageProblem, BrowserMissing, RenderFailed, StorageFailed.
    """
    began = time.monotonic()
    check_output(output)
    _check_picture(output)
    with frames_of(url, _of_pictures(options), [options.start_frame]) as frames:
        [picture] = list(frames)
        _write(output, picture.png)
        statistics = frames.statistics()
    return _rendered(output, statistics, began)


def render_sequence(url: str, pattern: Path, options: RenderOptions, progress: Progress | None = None) -> Rendered:
    """Render the page to one picture for each frame; in their name the frame's number stands for %d or %04d.

    Each is there whole or not at all. Raises UsageProblem, BrowserMissing, RenderFailed, StorageFailed.
    """
    began = time.monotonic()
    check_output(pattern)
    _check_picture(pattern)
    check_output(sequence_name(pattern, options.end_frame - 1))
    numbers = range(options.start_frame, options.end_frame)
    with _scratch(pattern) as folder, frames_of(url, _of_pictures(options), numbers) as frames:
        for number, picture in zip(numbers, _told(frames, len(numbers), progress), strict=True):
            _put(picture, folder, sequence_name(pattern, number))
        statistics = frames.statistics()
    return _rendered(pattern, statistics, began)


def contact_sheet(
    url: str, output: Path, options: RenderOptions, pictures: int, progress: Progress | None = None
) -> Rendered:
    """Render so many of the page's frames, evenly spread from the first to the last, to one picture.

    Raises UsageProblem, BrowserMissing, RenderFailed, StorageFailed.
    """
    began = time.monotonic()
    check_output(output)
    _check_picture(output)
    numbers = spread(options.start_frame, options.frame_count, pictures)
    with private_folder(Path(tempfile.gettempdir()), "logist-sheet-") as folder:
        with frames_of(url, _of_pictures(options), numbers) as frames:
            cells = []
            for number, picture in zip(numbers, _told(frames, len(numbers), progress), strict=True):
                (folder / f"{number}.png").write_bytes(picture)
                cells.append(Cell(f"{number}.png", number, number / options.fps))
            statistics = frames.statistics()
        page, width, height = sheet_page(cells, options.width, options.height)
        (folder / "sheet.html").write_text(page, encoding="utf-8")
        drawn = RenderOptions(width=width, height=height, mode=Mode.DOM, frame_count=1, browser=options.browser)
        made = render_picture((folder / "sheet.html").as_uri(), folder / "sheet.png", drawn)
        with written_beside(output) as temporary:
            shutil.copyfile(made.output, temporary)
    return _rendered(output, statistics, began)


def spread(start: int, count: int, pictures: int) -> list[int]:
    """The numbers of `pictures` frames, or of all `count` if those are fewer, evenly spread from first to last."""
    pictures = min(pictures, count)
    if pictures < 2:
        return [start]
    return [start + place * (count - 1) // (pictures - 1) for place in range(pictures)]


def sequence_name(pattern: Path, number: int) -> Path:
    """The file of one frame of a sequence. Raises UsageProblem when the name has no one place for its number."""
    name, places = _NUMBER.subn(lambda found: f"{number:0{found[1] or 1}d}", pattern.name.replace("%%", "\0"))
    if places != 1 or "%" in name:
        raise UsageProblem(f"{pattern} has no place for the frame's number", "name it like frame-%04d.png")
    return pattern.with_name(name.replace("\0", "%"))


# --- How it is done ------------------------------------------------------------------------------------------------


def _told(frames: Frames, total: int, progress: Progress | None) -> Iterator[bytes]:
    """The pictures, one after the other; what was done with one is told when the next is asked for."""
    for done, frame in enumerate(frames, 1):
        yield frame.png
        if progress is not None:
            progress(done, total)


def _rendered(output: Path, statistics: Statistics, began: float) -> Rendered:
    seconds = time.monotonic() - began
    return Rendered(output, statistics.frames, statistics, seconds, max(0.0, seconds - statistics.total))


def _scratch(output: Path) -> AbstractContextManager[Path]:
    """A folder beside the output: there is room for it, and what a killed run leaves there the next one finds."""
    place = landing(output)
    return private_folder(place.parent, f".{place.name[:60]}.logist-render-")


def _put(picture: bytes, folder: Path, output: Path) -> None:
    """Write one picture of many: `written_beside` would look through a folder full of them for each."""
    if landing(output) != output:
        _write(output, picture)
        return
    made = folder / "picture.png"
    try:
        with made.open("wb") as file:
            file.write(picture)
            file.flush()
            os.fsync(file.fileno())
        made.replace(output)
    except OSError as error:
        raise not_written(output, error) from error


def _write(output: Path, picture: bytes) -> None:
    with written_beside(output) as temporary:
        temporary.write_bytes(picture)


def _check_picture(output: Path) -> None:
    if output.suffix.lower() not in _PICTURES:
        raise UsageProblem(f"{output} names no kind of picture that can be made", f"use {', '.join(_PICTURES)}")


def _of_pictures(options: RenderOptions) -> RenderOptions:
    """What a page does not paint is transparent in a picture only where that is asked for."""
    wanted = options.pixel_format
    if wanted not in (None, _TRANSPARENT, _OPAQUE):
        raise UsageProblem(
            f"pictures can't have the pixel format {wanted}", f"use {_OPAQUE}, or {_TRANSPARENT} for transparent ones"
        )
    return options


def _identity(url: str, options: RenderOptions) -> str:
    """The same for all parts of one render, wherever they are made: of what is shown and how it is encoded."""
    seen = replace(
        options,
        props=read_props(options.props, Path()),
        concurrency=1,
        headless=True,
        base_url=None,
        browser=None,
        audio_codec=None,
        audio=(),
        timeout=RenderOptions().timeout,
    )
    parts = urlsplit(url)
    name = unquote(parts.path).rpartition("/")[2]
    content = json.dumps([name, parts.query, parts.fragment, to_flags(seen, with_range=False)])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _seen_from(track: AudioTrack, folder: Path) -> AudioTrack:
    """The track for whoever has the part: it may have been moved together with the sounds."""
    parts = urlsplit(track.source)
    if parts.scheme != "file":
        return track
    return replace(track, source=seen_from(Path(unquote(parts.path)), folder))
