"""The videos that are to be made into one: what each is, and whether they fit each other."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from logist.errors import MergeFailed
from logist.render.media import open_media, pyav, reason, unreadable, video_stream

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

#: Where a decoder finds what its stream was encoded with; for other codecs it stands in the frames, or says nothing.
_SETUP_OUTSIDE = {"aac", "alac", "ffv1", "mpeg4", "vorbis"}
#: What else stands beside the parameter sets is words: the encoder's name, how many threads it had.
_PARAMETER_SETS = {"h264": (7, 8), "hevc": (32, 33, 34)}
#: How far a rate may be off because a frame's nanoseconds were rounded, in parts of it.
_ROUNDING = Fraction(1, 5_000_000)
_START_CODE = re.compile(rb"\x00\x00\x00?\x01")


@dataclass(frozen=True, slots=True)
class Picture:
    """How frames are encoded. What differs here between two videos keeps their frames from being copied into one."""

    codec: str
    width: int
    height: int
    pixel_format: str
    #: As far as decoding depends on it.
    setup: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Sound:
    """How sound is encoded; like `Picture`. `rate` is in samples a second."""

    codec: str
    rate: int
    layout: str
    sample_format: str
    setup: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """One of the videos, as its headers and packets tell."""

    path: Path
    picture: Picture
    sound: Sound | None
    #: When each frame is shown, in `time_base`, in the order in which they are decoded.
    times: array[int]
    time_base: Fraction
    #: In `time_base`; 0: unknown.
    first_duration: int
    #: Frames a second as different headers have it, the most credible first.
    rates: tuple[Fraction, ...]
    #: Why its packets can't be copied though its frames can be decoded; empty: they can.
    no_copy: str

    @property
    def frames(self) -> int:
        """How many frames it shows."""
        return len(self.times)

    @property
    def start(self) -> Fraction:
        """When its first frame is shown, in seconds."""
        return min(self.times) * self.time_base


def look_at(path: Path) -> Source:
    """Read all packets of a video, decoding none. Raises ExtraMissing, MergeFailed."""
    av = pyav()
    problem = unreadable(path)
    if problem:
        raise damaged(path, problem)
    try:
        with open_media(path) as container:
            stream = video_stream(container)
            if stream is None:
                raise damaged(path, "holds no video that can be decoded")
            return _look_at(path, container, stream)
    except (av.FFmpegError, OSError) as error:
        raise damaged(path, f"is no video that can be read: {reason(error)}") from error


def damaged(path: Path, problem: str) -> MergeFailed:
    """The error for an input that is no whole video: `problem` stands behind its name."""
    return MergeFailed(f"{path} {problem}", "make this part again, then merge")


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The sound of a file."""
    return next(iter(container.streams.audio), None)


def _look_at(path: Path, container: InputContainer, stream: VideoStream) -> Source:
    if len(container.streams.audio) > 1:
        raise MergeFailed(
            f"{path} has {len(container.streams.audio)} sound tracks, and only one can be merged",
            "make the parts with one sound track",
        )
    audio, base = audio_stream(container), stream.time_base
    times, first_duration, no_copy = array("q"), 0, ""
    begun = False
    for packet in container.demux(stream):
        if not packet.size:
            continue
        if packet.is_corrupt:
            raise damaged(path, f"is damaged or cut off after {len(times)} frames")
        if not begun:
            begun, first_duration, no_copy = True, packet.duration or 0, _why_not_copied(container, stream, packet)
        if packet.is_discard:
            no_copy = "it shows only a part of the frames that it holds"
        elif packet.pts is None:
            raise damaged(path, "doesn't say when its frames are shown")
        else:
            times.append(packet.pts)
    if not times or base is None:
        raise damaged(path, "holds no frames")
    sound = None if audio is None else _sound(audio)
    return Source(path, _picture(stream), sound, times, base, first_duration, _rates(stream), no_copy)


def _why_not_copied(container: InputContainer, stream: VideoStream, first: Packet[VideoStream]) -> str:
    if not first.is_keyframe:
        return "it begins in the middle of a group of pictures"
    if container.format.name == "avi" and stream.codec_context.has_b_frames:
        return "its container, AVI, doesn't say in which order its frames are shown"
    return ""


def _picture(stream: VideoStream) -> Picture:
    codec = stream.codec_context.codec.canonical_name
    return Picture(codec, stream.width, stream.height, stream.pix_fmt or "", _setup(codec, stream))


def _sound(stream: AudioStream) -> Sound:
    codec = stream.codec_context.codec.canonical_name
    return Sound(codec, stream.rate, stream.layout.name, stream.format.name, _setup(codec, stream))


def _setup(codec: str, stream: VideoStream | AudioStream) -> tuple[bytes, ...]:
    data = stream.codec_context.extradata or b""
    if codec in _PARAMETER_SETS:
        try:
            return tuple(parameter_sets(codec, data))
        except IndexError:
            # Not the form that it should have: all of it counts.
            return (data,)
    return (data,) if codec in _SETUP_OUTSIDE else ()


def parameter_sets(codec: str, data: bytes) -> Iterator[bytes]:
    """How the frames of H.264 or HEVC are framed, then their parameter sets, from the codec's private data."""
    units: Iterator[bytes]
    if codec == "h264" and data[:1] == b"\x01":
        yield data[4:5]
        units = _units_of_avcc(data)
    elif codec == "hevc" and data[:1] == b"\x01":
        yield data[21:22]
        units = _units_of_hvcc(data)
    else:
        yield b"start codes"
        units = (unit for unit in _START_CODE.split(data) if unit)
    for unit in units:
        kind = unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63
        if kind in _PARAMETER_SETS[codec]:
            yield unit


def _units_of_avcc(data: bytes) -> Iterator[bytes]:
    position = 5
    for mask in (31, 255):
        count, position = data[position] & mask, position + 1
        for _ in range(count):
            size = int.from_bytes(data[position : position + 2], "big")
            yield data[position + 2 : position + 2 + size]
            position += 2 + size


def _units_of_hvcc(data: bytes) -> Iterator[bytes]:
    position = 23
    for _ in range(data[22]):
        count = int.from_bytes(data[position + 1 : position + 3], "big")
        position += 3
        for _ in range(count):
            size = int.from_bytes(data[position : position + 2], "big")
            yield data[position + 2 : position + 2 + size]
            position += 2 + size


def _rates(stream: VideoStream) -> tuple[Fraction, ...]:
    told = (stream.average_rate, stream.codec_context.framerate, stream.guessed_rate, stream.base_rate)
    return tuple(dict.fromkeys(exact for rate in told if rate for exact in (_standard(rate), rate) if exact))


def _standard(rate: Fraction) -> Fraction | None:
    """The usual rate that a container meant which counts the nanoseconds of a frame: 60000/1001 for 19001/317."""
    for usual in (Fraction(round(rate)), Fraction(round(rate * 1001 / 1000) * 1000, 1001)):
        if abs(usual - rate) < rate * _ROUNDING:
            return usual
    return None


def common_rate(sources: Sequence[Source]) -> Fraction:
    """The frame rate, in frames a second, that every frame of all sources keeps to. Raises MergeFailed."""
    for rate in dict.fromkeys(rate for source in sources for rate in candidates(source)):
        if all(keeps_to(source, rate) for source in sources):
            return rate
    own = [_own_rate(source) for source in sources]
    other = next((index for index, rate in enumerate(own) if rate != own[0]), len(own) - 1)
    raise MergeFailed(
        f"{sources[other].path} has {float(own[other]):.6g} frames a second, {sources[0].path} has {float(own[0]):.6g}",
        "make all parts with the same frame rate",
    )


def _own_rate(source: Source) -> Fraction:
    for rate in candidates(source):
        if keeps_to(source, rate):
            return rate
    raise MergeFailed(
        f"the frames of {source.path} are not evenly spaced in time", "make the parts with a constant frame rate"
    )


def candidates(source: Source) -> Iterator[Fraction]:
    """The frame rates that a source may have."""
    yield from source.rates
    span = (max(source.times) - min(source.times)) * source.time_base
    if span:
        yield (source.frames - 1) / span


def keeps_to(source: Source, rate: Fraction) -> bool:
    """Whether every frame is shown when it should be at `rate` frames a second, as nearly as its container can say."""
    step = 1 / (rate * source.time_base)
    ticks, per = step.numerator, step.denominator
    if source.frames == 1:
        return not source.first_duration or abs(source.first_duration * per - ticks) <= per
    times = sorted(source.times)
    return all(abs((time - times[0]) * per - number * ticks) <= per for number, time in enumerate(times))


def check_fit(sources: Sequence[Source], *, copy_video: bool, copy_audio: bool) -> None:
    """Whether the sources can become one video. Raises MergeFailed, which names the one that doesn't fit, and how."""
    first = sources[0]
    for source in sources:
        if (source.picture.width, source.picture.height) != (first.picture.width, first.picture.height):
            raise MergeFailed(
                f"{source.path} is {source.picture.width}x{source.picture.height} pixels, "
                f"{first.path} is {first.picture.width}x{first.picture.height}",
                "make all parts in the same size",
            )
        if (source.sound is None) != (first.sound is None):
            silent, loud = (source, first) if source.sound is None else (first, source)
            raise MergeFailed(f"{silent.path} has no sound, {loud.path} has", "make all parts with sound, or none")
        if copy_video:
            if source.no_copy:
                raise _not_copied(source, source.no_copy, _transcode_video(source))
            _check_same(source, source.picture, first, first.picture, _transcode_video(first))
        if copy_audio and source.sound is not None and first.sound is not None:
            _check_same(source, source.sound, first, first.sound, "--audio-codec aac transcodes the sound")


def _transcode_video(source: Source) -> str:
    return f"--video-codec {source.picture.codec} transcodes the frames"


def _not_copied(source: Source, why: str, hint: str) -> MergeFailed:
    return MergeFailed(f"{source.path} can't be merged by copying: {why}", hint)


def _check_same(source: Source, one: Picture | Sound, first: Source, other: Picture | Sound, hint: str) -> None:
    for field in fields(one):
        its, theirs = getattr(one, field.name), getattr(other, field.name)
        if its == theirs:
            continue
        name = field.name.replace("_", " ")
        if field.name == "setup":
            raise _not_copied(
                source, f"its {one.codec} was encoded with other settings than that of {first.path}", hint
            )
        what = "sound's " if isinstance(one, Sound) else ""
        raise _not_copied(source, f"its {what}{name} is {its}, that of {first.path} is {theirs}", hint)
