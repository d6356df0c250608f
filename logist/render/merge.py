"""Several videos made into one: frames and sound copied as they are encoded, or transcoded where that is asked for.

The parts of a render have no sound, but know which there is: it is mixed here, once for the whole.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from logist.errors import MergeFailed, UsageProblem
from logist.render import audio, encoders, media, notes
from logist.render.encoders import SILENT
from logist.render.notes import PartNote
from logist.render.options import AudioTrack
from logist.render.output_file import check_output, written_beside
from logist.render.sound_files import SoundFile, Wanted, gathered, is_url
from logist.render.sources import Source, audio_stream, check_fit, common_rate, damaged, keeps_to, look_at
from logist.render.tracks import CopiedAudio, CopiedVideo, EncodedAudio, EncodedVideo, MixedAudio, Track

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

StreamT = TypeVar("StreamT", bound="Stream")

COPY = "copy"


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """What becomes of frames and sound: a codec or an encoder by name, `copy`, or None to copy.

    `quality` (the encoder's constant rate factor) and `preset` ask for encoding anew, with the codec that the inputs
    have when none is named. The sound of `audio`, and that of a render's parts, is mixed and always encoded; the codec
    `none` leaves all sound out.
    """

    video_codec: str | None = None
    audio_codec: str | None = None
    quality: float | None = None
    preset: str | None = None
    audio: tuple[AudioTrack, ...] = ()


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
    #: How many its sound was mixed of; 0: it is the inputs' own.
    sounds: int = 0
    #: What speaks against the inputs though they fit each other, in sentences.
    warnings: tuple[str, ...] = ()

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
    #: What is to be mixed, and which frame of a composition is the first one here.
    sounds: tuple[SoundFile, ...] = ()
    start_frame: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        return sum(source.frames for source in self.sources)


def merge(output: Path, inputs: Sequence[Path], options: MergeOptions | None = None) -> Merged:
    """Make `output` of the inputs, one after the other; it appears whole, or the file that was there stays.

    Raises UsageProblem, MergeFailed, StorageFailed, ExtraMissing.
    """
    options = options or MergeOptions()
    _check_names(output, inputs)
    sources = tuple(look_at(path) for path in inputs)
    parts = notes.check_parts([(source.path, notes.part_of(source.path), source.frames) for source in sources])
    if options.audio_codec == SILENT:
        sources = tuple(replace(source, sound=None) for source in sources)
    wanted = () if options.audio_codec == SILENT else tuple(_wanted(sources, parts, options))
    with gathered(wanted) as sounds:
        plan = _plan(sources, options, parts)
        if sounds:
            plan = replace(plan, audio=encoders.sound_settings(output, options.audio_codec), sounds=sounds)
        return _made(plan, output)


def _wanted(sources: Sequence[Source], parts: Sequence[PartNote], options: MergeOptions) -> Iterator[Wanted]:
    """The sounds to mix, each once, in the order in which they were found. Raises UsageProblem."""
    found = [Wanted(track, Path(), of_a_page=False) for track in options.audio]
    noted = list(zip(sources, parts, strict=False))
    # What still sounds at the end of one part may be stopped in the next: the last one knows.
    for source, part in noted[-1:] if noted and noted[-1][1].complete else noted:
        found += [Wanted(track, source.path.parent, of_a_page=True) for track in part.tracks]
    own = next((source for source in sources if source.sound is not None), None)
    if found and own is not None:
        raise UsageProblem(
            f"{own.path} has sound of its own, with which no other is mixed", "leave out --audio, or use silent parts"
        )
    names: set[AudioTrack] = set()
    for wanted in found:
        track, folder, _ = wanted
        name = track.source if is_url(track.source) else os.path.abspath(folder / track.source)  # noqa: PTH100 - a name
        if (known := replace(track, source=name)) not in names:
            names.add(known)
            yield wanted


def _made(plan: _Plan, output: Path) -> Merged:
    av = media.pyav()
    with written_beside(output) as temporary:
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
    encoders.container_of(output)
    for path in inputs:
        _check_input(path, output)
    check_output(output)


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


def _plan(sources: tuple[Source, ...], options: MergeOptions, parts: Sequence[PartNote]) -> _Plan:
    first = sources[0]
    # A part knows its rate better than its container does.
    told = parts[0].fps if parts and all(keeps_to(source, parts[0].fps) for source in sources) else None
    rate = told or common_rate(sources)
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
    if options.audio_codec not in (None, COPY, SILENT):
        audio = encoders.audio_settings(first.sound, options.audio_codec)
    check_fit(sources, copy_video=video is None, copy_audio=audio is None)
    start = parts[0].start_frame if parts else 0
    doubts = notes.doubts([(source.path, part) for source, part in zip(sources, parts, strict=False)])
    return _Plan(sources, rate, video, audio, start_frame=start, warnings=doubts)


def _check_one_codec(sources: Sequence[Source], codec: str | None) -> None:
    """Without a name the inputs' own codec is meant: they must have one."""
    for source in sources:
        if codec is None and source.picture.codec != sources[0].picture.codec:
            raise MergeFailed(
                f"{source.path} holds {source.picture.codec}, {sources[0].path} {sources[0].picture.codec}: "
                "which of them to encode with is not clear",
                "name it with --video-codec",
            )


def _write(plan: _Plan, output: Path, temporary: Path) -> None:
    av = media.pyav()
    target = encoders.open_target(temporary, encoders.container_of(output), plan.rate)
    try:
        with encoders.quiet():
            tracks = _tracks(plan, target)
        _mux(plan, target, tracks)
        target.close()
    except BaseException:
        # The first thing that went wrong is the news.
        with contextlib.suppress(av.FFmpegError):
            target.close()
        raise


class _Tracks(NamedTuple):
    """The streams of the output: those of the inputs, video first, and the one that is mixed."""

    of_inputs: tuple[Track, ...]
    mixed: MixedAudio | None


def _tracks(plan: _Plan, target: OutputContainer) -> _Tracks:
    """Add the streams and write the header."""
    av = media.pyav()
    with media.open_media(plan.sources[0].path) as template:
        tracks = _Tracks(tuple(_make_tracks(plan, target, template)), _mixed(plan, target))
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
    if like is None or (sound is None and first.sound is not None):
        raise _changed(first)
    if plan.video is not None:
        yield EncodedVideo(encoders.add_video(target, plan.video, like, plan.rate), plan.rate)
    else:
        yield CopiedVideo(_copied_video(target, like, plan.rate), plan.rate, max(map(_delay, plan.sources)))
    if sound is None or first.sound is None:
        return
    if plan.audio is not None:
        yield EncodedAudio(encoders.add_audio(target, plan.audio), plan.rate)
        return
    if first.sound.codec.startswith("pcm_") and target.format.name == "mp4":
        # libav would write it, but hardly a player plays it.
        raise encoders.cannot_hold(target, first.sound.codec, "audio")
    copied = _copied(target, sound, first.sound.codec, "audio")
    copied.time_base = Fraction(1, first.sound.rate)
    yield CopiedAudio(copied, plan.rate, first)


def _mixed(plan: _Plan, target: OutputContainer) -> MixedAudio | None:
    if not plan.sounds or plan.audio is None:
        return None
    stream = encoders.add_audio(target, plan.audio)
    start = round(plan.start_frame / plan.rate * audio.RATE)
    return MixedAudio(stream, audio.mix(plan.sounds, start, start + round(plan.frames / plan.rate * audio.RATE)))


def _copied(target: OutputContainer, like: StreamT, codec: str, kind: encoders.Kind) -> StreamT:
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
    encoders.tag_like(target, stream, codec, tag)
    return stream


def _delay(source: Source) -> int:
    """How many frames decoding must be ahead of showing."""
    ranks = {time: rank for rank, time in enumerate(sorted(source.times))}
    return max(number - ranks[time] for number, time in enumerate(source.times))


def _mux(plan: _Plan, target: OutputContainer, all_tracks: _Tracks) -> None:
    tracks, mixed = all_tracks
    first_frame = shown = 0
    for source in plan.sources:
        for track in tracks:
            track.begin(source, first_frame)
        for packet, track in _packets(source, tracks):
            target.mux(made := list(track.take(packet)))
            if mixed is not None:
                shown += len(made)
                target.mux(list(mixed.until(round(shown / plan.rate * audio.RATE))))
        for track in tracks:
            target.mux(list(track.end()))
        first_frame += source.frames
    for track in tracks:
        target.mux(list(track.close()))
    if mixed is not None:
        target.mux(list(mixed.close()))


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
    if plan.audio is not None and (plan.sounds or first.sound is not None):
        made.append(plan.audio.codec)
    elif first.sound is not None:
        made.append(first.sound.codec)
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
    video, *audio_codec = _codecs(plan)
    return Merged(
        output=str(output),
        inputs=len(plan.sources),
        frames=plan.frames,
        fps=plan.rate,
        width=picture.width,
        height=picture.height,
        size=size,
        video_codec=video,
        audio_codec=audio_codec[0] if audio_codec else None,
        video_transcoded=plan.video is not None,
        audio_transcoded=plan.audio is not None and not plan.sounds and bool(audio_codec),
        sounds=len(plan.sounds),
        warnings=plan.warnings,
    )
