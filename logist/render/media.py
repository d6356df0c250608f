"""What a video file really holds: every frame is decoded, nothing that its headers say is believed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

from logist.errors import ExtraMissing

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

_ISO_MEDIA = {".mp4", ".m4v", ".mov", ".3gp"}
_MATROSKA = {".mkv", ".webm"}
_TRANSPORT_STREAMS = {".ts", ".mts", ".m2ts"}
_SUFFIXES = {*_ISO_MEDIA, *_MATROSKA, *_TRANSPORT_STREAMS} | {
    *(".avi", ".flv", ".ivf", ".mpeg", ".mpg", ".mxf", ".nut", ".ogv", ".wmv"),
    *(".264", ".265", ".h264", ".h265", ".hevc", ".obu", ".y4m"),
}
#: What a file may be, whatever it is called: no playlist, which would open other files, and no text drawn as pictures.
_DEMUXERS = "mov,matroska,mpegts,avi,flv,live_flv,ivf,mpeg,mpegvideo,mxf,nut,ogg,asf,m4v,h264,hevc,obu,av1,yuv4mpegpipe"
#: Likewise for a sound.
SOUND_DEMUXERS = f"{_DEMUXERS},wav,w64,mp3,flac,aac,aiff,caf,au,ac3,eac3,tta,wv"
#: The boxes at the top of an ISO media file. Another name there is rubbish behind the end, not a box that is cut off.
_BOXES = {
    *(b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"udta", b"uuid", b"meta"),
    *(b"moof", b"mfra", b"sidx", b"styp", b"pnot", b"PICT"),
}
_SEGMENT = 0x18538067
#: Several videos may be decoded at once, and each thread of a decoder holds pictures.
_MOST_THREADS = 8


@dataclass(frozen=True, slots=True)
class Video:
    """What the first video stream of a file holds."""

    #: Those that could be decoded, up to the problem.
    frames: int
    #: In pixels, as the codec `codec`.
    width: int = 0
    height: int = 0
    codec: str = ""
    pixel_format: str = ""
    #: Frames a second as the headers have them; None when they don't.
    fps: Fraction | None = None
    has_audio: bool = False
    #: Whether each frame is shown later than the one before.
    in_order: bool = True
    #: What is wrong with the file, to stand behind its name: "is cut off after 12 frames". Empty: nothing.
    problem: str = ""


def is_media(path: Path) -> bool:
    """Whether the name of `path` is a video's."""
    return path.suffix.lower() in _SUFFIXES


def pyav_available() -> bool:
    """Whether videos can be decoded here."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def pyav() -> ModuleType:
    """The library that reads and writes videos, imported when it is first used. Raises ExtraMissing."""
    try:
        import av
    except ImportError as error:
        raise ExtraMissing(
            "to read and write videos PyAV is needed, which is not installed", "pip install 'logist[render]'"
        ) from error
    return av


def check(path: Path, *, frames: int | None = None, width: int | None = None, height: int | None = None) -> str | None:
    """Decode `path` and hold it against what it should be; None, or what is wrong, to stand behind the file's name.

    Sizes are in pixels; what is None is not compared. Raises ExtraMissing.
    """
    return compare(read(path), frames=frames, width=width, height=height)


def compare(video: Video, *, frames: int | None, width: int | None, height: int | None) -> str | None:
    """Hold what was read of a file against what it should be, as `check` does."""
    if video.problem:
        return video.problem
    if frames is not None and video.frames != frames:
        return f"holds {_counted(video.frames)} instead of {frames}"
    wanted = (width or video.width, height or video.height)
    if (video.width, video.height) != wanted:
        return f"is {video.width}x{video.height} pixels instead of {wanted[0]}x{wanted[1]}"
    return None


def read(path: Path) -> Video:
    """Decode the first video stream of `path` to its end; what is wrong is in the value. Raises ExtraMissing."""
    av = pyav()
    problem = unreadable(path)
    if problem:
        return Video(0, problem=problem)
    try:
        with open_media(path) as container:
            stream = video_stream(container)
            if stream is None:
                return Video(0, has_audio=bool(container.streams.audio), problem="holds no video that can be decoded")
            video = _decode(container, stream)
    except (av.FFmpegError, OSError) as error:
        return Video(0, problem=f"is no video that can be read: {reason(error)}")
    return video if video.frames or video.problem else replace(video, problem="holds no frames")


def unreadable(path: Path) -> str:
    """Why `path` can't be a video before anybody looks inside, to stand behind its name; empty: it can be one."""
    try:
        return unfit(path) or ("is cut off" if _is_cut_off(path) else "")
    except FileNotFoundError:
        return "is not there"
    except OSError as error:
        return f"can't be read: {error.strerror or error}"


def unfit(path: Path) -> str:
    """Why nobody should open `path`, which might never end, or never begin; said like `unreadable`. Raises OSError."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        return "is a folder"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    return "is empty" if status.st_size == 0 else ""


def address(path: Path) -> str:
    """How libav is told of a file: without the scheme a name like `http:x.mp4` or `concat:x` is no file to it."""
    return f"file:{path.absolute()}"


@contextmanager
def open_media(path: Path, demuxers: str = _DEMUXERS) -> Iterator[InputContainer]:
    """Open a file to read its streams. Raises PyAV's errors, of which the block's own are not kept apart."""
    av = pyav()
    settings: dict[str, str] = {"format_whitelist": demuxers, "protocol_whitelist": "file"}
    # A short transport stream has too few packets to be recognised.
    kind = "mpegts" if path.suffix.lower() in _TRANSPORT_STREAMS else None
    with av.open(address(path), format=kind, container_options=settings, metadata_errors="replace") as container:
        yield container


def video_stream(container: InputContainer) -> VideoStream | None:
    """The first stream of moving pictures for which there is a decoder, ready to be decoded by all processors."""
    from av.stream import Disposition

    for stream in container.streams.video:
        # A damaged header names a codec that nobody knows; typed as if that could not be.
        context = stream.codec_context
        if context is None or stream.disposition & Disposition.attached_pic:  # type: ignore[redundant-expr]
            continue
        context.thread_type = "AUTO"
        context.thread_count = min(os.cpu_count() or 1, _MOST_THREADS)
        return stream
    return None


def reason(error: Exception) -> str:
    """Why libav or the system could not do something, in a few words, without the file's name."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def _decode(container: InputContainer, stream: VideoStream) -> Video:
    context = stream.codec_context
    # The frames are counted, not looked at: what smooths the pictures afterwards can be left out.
    context.options = {"skip_loop_filter": "all"}
    fps = stream.average_rate or stream.guessed_rate
    video = Video(
        frames=0,
        width=stream.width,
        height=stream.height,
        codec=context.codec.canonical_name,
        pixel_format=stream.pix_fmt or "",
        fps=fps or None,
        has_audio=bool(container.streams.audio),
    )
    return _count(container, stream, video)


def _count(container: InputContainer, stream: VideoStream, video: Video) -> Video:
    from av import FFmpegError

    frames = hidden = 0
    shown, in_order = -(1 << 63), True
    width, height, problem = video.width, video.height, ""
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                problem = problem or f"is damaged or cut off after {_counted(frames)}"
            hidden += packet.is_discard
            for frame in packet.decode():
                if not frames:
                    width, height = frame.width, frame.height
                frames += 1
                now = frame.pts if frame.pts is not None else shown
                shown, in_order = now, in_order and now > shown
                problem = problem or _flaw(frame, frames, width, height)
    except (FFmpegError, OSError) as error:
        problem = problem or f"can't be decoded after {_counted(frames)}: {reason(error)}"
    if not problem and frames + hidden < stream.frames:
        problem = f"says that it holds {_counted(stream.frames)}, but only {frames} can be decoded"
    return replace(video, frames=frames, width=width, height=height, in_order=in_order, problem=problem)


def _flaw(frame: VideoFrame, number: int, width: int, height: int) -> str:
    if frame.is_corrupt:
        return f"is damaged: its frame {number} can't be decoded whole"
    if (frame.width, frame.height) != (width, height):
        return f"changes its size to {frame.width}x{frame.height} pixels in its frame {number}"
    return ""


def _counted(frames: int) -> str:
    return "1 frame" if frames == 1 else f"{frames} frames"


def _is_cut_off(path: Path) -> bool:
    """Whether the outermost parts of the file go on behind its end; only ISO media and Matroska say how long they are.

    Decoding doesn't tell: what is missing at the end is missing without a trace. Raises OSError.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        start = file.read(8)
        file.seek(0)
        if start[:4] == b"\x1a\x45\xdf\xa3":
            return _segment_end(file) > size
        return start[4:8] in _BOXES and _box_end(file, size) > size


def boxes(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Where each box at the top of an ISO media file begins, its name, and how many bytes it says it has.

    It ends at rubbish, and at a last box that is as long as the file.
    """
    size, position = file.seek(0, 2), 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if header[4:8] not in _BOXES or length < 8:
            return
        yield position, header[4:8], length
        position += length


def _box_end(file: BinaryIO, size: int) -> int:
    """Where the first box ends that goes on behind the end of an ISO media file; `size` when none does."""
    return next((end for position, _, length in boxes(file) if (end := position + length) > size), size)


def _segment_end(file: BinaryIO) -> int:
    """Where the segment of a Matroska file should end; 0 when it doesn't say, as a live one."""
    for _ in range(2):
        identity, _width = _element_number(file, keep_marker=True)
        length, width = _element_number(file, keep_marker=False)
        if not width or length == (1 << 7 * width) - 1:
            return 0
        if identity == _SEGMENT:
            return file.tell() + length
        file.seek(length, 1)
    return 0


def _element_number(file: BinaryIO, *, keep_marker: bool) -> tuple[int, int]:
    """A number of variable width as Matroska writes it, and its width in bytes, 0 at the end of the file."""
    first = file.read(1)
    if not first or not first[0]:
        return 0, 0
    width = 9 - first[0].bit_length()
    number = int.from_bytes(first + file.read(width - 1), "big")
    return number if keep_marker else number & ((1 << 7 * width) - 1), width
