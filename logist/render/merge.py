"""Several videos made into one: frames and sound copied as they are encoded, or transcoded where that is asked for."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from logist.durable import sync_folder
from logist.errors import MergeFailed, StorageFailed, UsageProblem
from logist.render import encoders, media
from logist.render.sources import Source, audio_stream, check_fit, common_rate, damaged, look_at
from logist.render.tracks import CopiedAudio, CopiedVideo, EncodedAudio, EncodedVideo, Track

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

StreamT = TypeVar("StreamT", bound="Stream")

#: How libav calls the containers that are written. Others can't say exactly when a frame is shown.
_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
COPY = "copy"


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """What becomes of frames and sound: a codec or an encoder by name, `copy`, or None to copy.

    `quality` (the encoder's constant rate factor) and `preset` ask for encoding anew, with the codec that the inputs
    have when none is named.
    """

    video_codec: str | None = None
    audio_codec: str | None = None
    quality: float | None = None
    preset: str | None = None


@dataclass(frozen=True, slots=True)
class Merged:
    """The video that was made; it was decoded to its end."""

    output: str
    inputs: int
    frames: int
    fps: Fraction
    width: int
    height: int
    #: In bytes.
    size: int
    video_codec: str
    #: None: there is no sound.
    audio_codec: str | None
    video_transcoded: bool
    audio_transcoded: bool

    @property
    def duration(self) -> float:
        """In seconds."""
        return float(self.frames / self.fps)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done: `video` and `audio` are what to encode with; None: packets are copied."""

    sources: tuple[Source, ...]
    rate: Fraction
    video: encoders.VideoSettings | None
    audio: encoders.AudioSettings | None

    @property
    def frames(self) -> int:
        return sum(source.frames for source in self.sources)


def merge(output: Path, inputs: Sequence[Path], options: MergeOptions | None = None) -> Merged:
    """Make `output` of the inputs, one after the other; it appears whole, or the file that was there stays.

    Raises UsageProblem, MergeFailed, StorageFailed, ExtraMissing.
    """
    av = media.pyav()
    options = options or MergeOptions()
    _check_names(output, inputs)
    sources = tuple(look_at(path) for path in inputs)
    plan = _plan(sources, options)
    with _written_beside(output) as temporary:
        try:
            _write(plan, output, temporary)
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise MergeFailed(
                f"{output} could not be made: {media.reason(error)}", "try another codec, quality or container"
            ) from error
        _verify(plan, output, temporary)
        size = temporary.stat().st_size
    return _merged(plan, output, size)


def _check_names(output: Path, inputs: Sequence[Path]) -> None:
    if not inputs:
        raise UsageProblem("there is nothing to merge", "name one video or more")
    if output.suffix.lower() not in _CONTAINERS:
        raise UsageProblem(
            f"{output} names no container that videos can be merged into", f"use {', '.join(_CONTAINERS)}"
        )
    for path in inputs:
        _check_input(path, output)
    if not output.parent.is_dir():
        raise UsageProblem(f"the folder of {output} is not there", "make it first")
    try:
        kind = output.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(kind):
        raise UsageProblem(f"{output} is not a regular file", "choose another name for the output")


def _check_input(path: Path, output: Path) -> None:
    try:
        kind = path.stat().st_mode
        with contextlib.suppress(FileNotFoundError):
            if path.samefile(output):
                raise UsageProblem(f"{path} is an input and the output", "choose another name for the output")
        if not stat.S_ISREG(kind):
            raise UsageProblem(f"{path} is no file to merge", "name the videos themselves")
        with path.open("rb"):
            pass
    except OSError as error:
        raise UsageProblem(
            f"{path} can't be read: {(error.strerror or str(error)).lower()}", "name videos that are there"
        ) from error


def _plan(sources: tuple[Source, ...], options: MergeOptions) -> _Plan:
    first, rate = sources[0], common_rate(sources)
    wants_encoding = options.quality is not None or options.preset is not None
    if options.video_codec == COPY and wants_encoding:
        raise UsageProblem(
            "--quality and --preset are for encoding, and --video-codec copy asks for none",
            "leave out --video-codec copy, or the other two",
        )
    codec = None if options.video_codec == COPY else options.video_codec
    video = None
    if codec is not None or wants_encoding:
        _check_one_codec(sources, codec)
        video = encoders.video_settings(first.picture, codec, options.quality, options.preset)
    audio = None
    if options.audio_codec is not None and options.audio_codec != COPY:
        audio = encoders.audio_settings(first.sound, options.audio_codec)
    check_fit(sources, copy_video=video is None, copy_audio=audio is None)
    return _Plan(sources, rate, video, audio)


def _check_one_codec(sources: Sequence[Source], codec: str | None) -> None:
    """Without a name the inputs' own codec is meant: they must have one."""
    for source in sources:
        if codec is None and source.picture.codec != sources[0].picture.codec:
            raise MergeFailed(
                f"{source.path} holds {source.picture.codec}, {sources[0].path} {sources[0].picture.codec}: "
                "which of them to encode with is not clear",
                "name it with --video-codec",
            )


@contextlib.contextmanager
def _written_beside(output: Path) -> Iterator[Path]:
    """A name beside `output` to write to; in the end it becomes `output`, durably, or nothing is left of it."""
    temporary = output.with_name(f".{output.name[:60]}.{os.urandom(6).hex()}.tmp")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(output)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _not_written(output, error) from error
    sync_folder(output.parent)


def _not_written(output: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"could not write {output}: {(error.strerror or str(error)).lower()}",
        "check the free space and the permissions of its folder; nothing was changed",
    )


def _write(plan: _Plan, output: Path, temporary: Path) -> None:
    av = media.pyav()
    container = _CONTAINERS[output.suffix.lower()]
    # The index goes to the front, so that a player in a browser need not load the whole file first.
    settings = {"movflags": "+faststart"} if container == "mp4" else {}
    target = av.open(media.address(temporary), "w", format=container, container_options=settings)
    try:
        _mux(plan, target, _tracks(plan, target))
        target.close()
    except BaseException:
        # The first thing that went wrong is the news.
        with contextlib.suppress(av.FFmpegError):
            target.close()
        raise


def _tracks(plan: _Plan, target: OutputContainer) -> tuple[Track, ...]:
    """The streams of the output, video first; its header is written."""
    av = media.pyav()
    with media.open_media(plan.sources[0].path) as template:
        tracks = tuple(_make_tracks(plan, target, template))
    try:
        target.start_encoding()
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        # Of what libav finds out this late all is about the frames.
        raise encoders.cannot_hold(target, _codecs(plan)[0], "video") from error
    return tracks


def _make_tracks(plan: _Plan, target: OutputContainer, template: InputContainer) -> Iterator[Track]:
    first = plan.sources[0]
    like, sound = media.video_stream(template), audio_stream(template)
    if like is None or (sound is None) != (first.sound is None):
        raise _changed(first)
    if plan.video is not None:
        yield EncodedVideo(encoders.add_video(target, plan.video, like, plan.rate), plan.rate)
    else:
        yield CopiedVideo(_copied_video(target, like, plan.rate), plan.rate, max(map(_delay, plan.sources)))
    if sound is None or first.sound is None:
        return
    codec = (plan.audio or first.sound).codec
    if codec.startswith("pcm_") and target.format.name == "mp4":
        # libav would write it, but hardly a player plays it.
        raise encoders.cannot_hold(target, codec, "audio")
    if plan.audio is not None:
        yield EncodedAudio(encoders.add_audio(target, plan.audio), plan.rate)
        return
    copied = _copied(target, sound, first.sound.codec, "audio")
    copied.time_base = Fraction(1, first.sound.rate)
    yield CopiedAudio(copied, plan.rate, first)


def _copied(target: OutputContainer, like: StreamT, codec: str, kind: Literal["video", "audio"]) -> StreamT:
    try:
        return target.add_stream_from_template(like, opaque=True)
    except ValueError as error:
        raise encoders.cannot_hold(target, codec, kind) from error


def _copied_video(target: OutputContainer, like: VideoStream, rate: Fraction) -> VideoStream:
    context = like.codec_context
    codec, tag = context.codec.canonical_name, context.codec_tag
    stream = _copied(target, like, codec, "video")
    # The inputs' own time base where a frame is a whole number of its ticks.
    exact = like.time_base is not None and (1 / (rate * like.time_base)).denominator == 1
    stream.time_base = like.time_base if exact else 1 / rate
    stream.codec_context.framerate = rate
    encoders.tag_hevc(target, stream, codec, tag)
    return stream


def _delay(source: Source) -> int:
    """How many frames decoding must be ahead of showing."""
    ranks = {time: rank for rank, time in enumerate(sorted(source.times))}
    return max(number - ranks[time] for number, time in enumerate(source.times))


def _mux(plan: _Plan, target: OutputContainer, tracks: tuple[Track, ...]) -> None:
    first_frame = 0
    for source in plan.sources:
        for track in tracks:
            track.begin(source, first_frame)
        for packet, track in _packets(source, tracks):
            target.mux(list(track.take(packet)))
        for track in tracks:
            target.mux(list(track.end()))
        first_frame += source.frames
    for track in tracks:
        target.mux(list(track.close()))


def _packets(source: Source, tracks: tuple[Track, ...]) -> Iterator[tuple[Packet[Any], Track]]:
    """The packets of a source, each with the track that takes it. Raises MergeFailed."""
    av = media.pyav()
    try:
        with media.open_media(source.path) as container:
            found = (media.video_stream(container), audio_stream(container))[: len(tracks)]
            streams = [stream for stream in found if stream is not None]
            if len(streams) != len(tracks):
                raise _changed(source)
            of = {stream.index: track for stream, track in zip(streams, tracks, strict=True)}
            for packet in container.demux(streams):
                yield packet, of[packet.stream_index]
    except av.FFmpegError as error:
        raise damaged(source.path, f"can't be read to its end: {media.reason(error)}") from error


def _changed(source: Source) -> MergeFailed:
    return damaged(source.path, "changed while it was merged")


def _codecs(plan: _Plan) -> list[str]:
    """The codec of the frames, and that of the sound if there is one."""
    first = plan.sources[0]
    made = [plan.video.codec if plan.video else first.picture.codec]
    if first.sound is not None:
        made.append(plan.audio.codec if plan.audio else first.sound.codec)
    return made


def _verify(plan: _Plan, output: Path, temporary: Path) -> None:
    """Decode what was made; when it is not what it should be, the input that is to blame is looked for."""
    picture = plan.sources[0].picture
    made = media.read(temporary)
    problem = media.compare(made, frames=plan.frames, width=picture.width, height=picture.height)
    if problem is None and not made.in_order:
        problem = "shows its frames in another order"
    if problem is None:
        return
    for source in plan.sources:
        flaw = media.check(source.path, frames=source.frames)
        if flaw is not None:
            raise damaged(source.path, flaw)
    raise MergeFailed(
        f"what was made for {output} {problem}, though the inputs are whole", "transcode with --video-codec"
    )


def _merged(plan: _Plan, output: Path, size: int) -> Merged:
    picture = plan.sources[0].picture
    video, *audio = _codecs(plan)
    return Merged(
        output=str(output),
        inputs=len(plan.sources),
        frames=plan.frames,
        fps=plan.rate,
        width=picture.width,
        height=picture.height,
        size=size,
        video_codec=video,
        audio_codec=audio[0] if audio else None,
        video_transcoded=plan.video is not None,
        audio_transcoded=plan.audio is not None,
    )
