"""Which encoder makes a stream, and with which settings: chosen by codec or by the encoder's own name."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from logist.errors import MergeFailed, UsageProblem
from logist.render import encoder_options
from logist.render.media import address, pyav, reason
from logist.render.options import RenderOptions

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.codec.codec import Codec
    from av.container import OutputContainer
    from av.video.stream import VideoStream

    from logist.render.sources import Picture, Sound

Kind: TypeAlias = Literal["video", "audio"]

#: How libav calls the containers that are written. Others can't say exactly when a frame is shown.
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
#: The codec of a render that is to have no sound.
SILENT = "none"
#: What the sound of a render is mixed to: samples a second, and the speakers.
MIX_RATE, MIX_LAYOUT = 48_000, "stereo"
#: Of a whole ISO media file, in a second.
_MOST_TICKS = 100_000_000
#: These write to the terminal themselves.
_QUIET = {"libx265": {"x265-params": "log-level=none"}}
#: Bits a second for each channel of sound that is compressed with loss.
_BITS = 96_000
_LOSSY = {"aac", "ac3", "eac3", "mp3", "opus", "vorbis"}
_EXAMPLES: dict[Kind, str] = {
    "video": "h264, h265, vp8, vp9, av1, prores or ffv1",
    "audio": "aac, opus, flac, mp3 or pcm_s16le",
}
#: Frames that an encoder is tried with.
_TRIED = 2


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """How to encode frames."""

    encoder: str
    codec: str
    pixel_format: str
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AudioSettings:
    """How to encode sound; `rate` is in samples a second."""

    encoder: str
    codec: str
    rate: int
    layout: str


def video_settings(picture: Picture, codec: str | None, quality: float | None, preset: str | None) -> VideoSettings:
    """How to encode frames like `picture` with `codec`, None: their own. Raises UsageProblem."""
    found = _encoder(codec or picture.codec, "video")
    known = {option.name for option in found.create("video").supported_options.private}
    options = dict(_QUIET.get(found.name, {}))
    for flag, name, value in (("--quality", "crf", quality), ("--preset", "preset", preset)):
        if value is None:
            continue
        if name not in known:
            raise UsageProblem(
                f"{found.name} takes no {flag}", f"leave it out, or name another codec: {flag} suits h264"
            )
        options[name] = value if isinstance(value, str) else f"{value:g}"
    return VideoSettings(found.name, found.canonical_name, _pixel_format(found, picture.pixel_format), options)


def audio_settings(sound: Sound | None, codec: str) -> AudioSettings | None:
    """How to encode sound like `sound` with `codec`; None: there is no sound. Raises UsageProblem."""
    found = _encoder(codec, "audio")
    if sound is None:
        return None
    rates = found.audio_rates or [sound.rate]
    # Upwards where there is a choice: nothing that can be heard is lost.
    rate = min(rates, key=lambda rate: (rate < sound.rate, abs(rate - sound.rate)))
    return AudioSettings(found.name, found.canonical_name, rate, sound.layout)


def _encoder(name: str, kind: Kind) -> Codec:
    av = pyav()
    try:
        found: Codec = av.Codec(encoder_options.encoder_name(name), "w")
    except ValueError as error:
        raise UsageProblem(
            f"there is no {kind} encoder {name} here", f"--{kind}-codec takes {_EXAMPLES[kind]}"
        ) from error
    if found.type != kind:
        raise UsageProblem(f"{name} is no {kind} codec", f"--{kind}-codec takes {_EXAMPLES[kind]}")
    return found


def _pixel_format(encoder: Codec, wanted: str) -> str:
    from av.codec.codec import find_best_pix_fmt_of_list

    known = [known.name for known in encoder.video_formats or ()]
    if not known or wanted in known:
        return wanted
    best, _loss = find_best_pix_fmt_of_list(known, wanted)
    return wanted if best is None else best.name


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """How pictures become a video file."""

    #: As libav calls it.
    container: str
    #: In pixels.
    width: int
    height: int
    #: Frames a second.
    fps: Fraction
    video: VideoSettings

    @property
    def alpha(self) -> bool:
        """Whether what is transparent stays so."""
        return encoder_options.has_alpha(self.video.pixel_format)

    @property
    def colours(self) -> encoder_options.Colours:
        """What the numbers of its pixels mean."""
        return encoder_options.colours_of(self.video.codec, self.video.pixel_format)


def settings_for(output: Path, options: RenderOptions, *, part: bool) -> EncodeSettings:
    """How the frames of a render become `output`; tried out, so that nothing of it fails when frames are there.

    A `part` has no sound, so `audio_codec` is not looked at. Raises UsageProblem, ExtraMissing.
    """
    container = container_of(output)
    found = _encoder(options.video_codec or encoder_options.usual_codec(output.suffix), "video")
    pixel_format = encoder_options.pixel_format_for(found, options, container)
    chosen = encoder_options.options_for(found, options, pixel_format)
    video = VideoSettings(found.name, found.canonical_name, pixel_format, chosen)
    settings = EncodeSettings(container, options.width, options.height, options.fps, video)
    _try_out(settings)
    if not part:
        sound_settings(output, options.audio_codec)
    return settings


def container_of(output: Path) -> str:
    """How libav calls the container that the name of `output` stands for. Raises UsageProblem."""
    container = CONTAINERS.get(output.suffix.lower())
    if container is None:
        raise UsageProblem(f"{output} names no container that videos can be written to", f"use {', '.join(CONTAINERS)}")
    return container


def sound_settings(output: Path, codec: str | None) -> AudioSettings | None:
    """How the sound of a render is encoded for `output`; None for the codec `none`. Raises UsageProblem."""
    if codec == SILENT:
        return None
    if codec == "copy":
        raise UsageProblem(
            "the sound of a render is mixed, so there is none to copy", f"--audio-codec takes {_EXAMPLES['audio']}"
        )
    container = container_of(output)
    found = _encoder(codec or ("opus" if container == "webm" else "aac"), "audio")
    rate = min(found.audio_rates or [MIX_RATE], key=lambda rate: abs(rate - MIX_RATE))
    settings = AudioSettings(found.name, found.canonical_name, rate, MIX_LAYOUT)
    try:
        _check_place(container, settings)
    except MergeFailed as error:
        raise _not_to_use(error) from error
    return settings


def _try_out(settings: EncodeSettings) -> None:
    """Open encoder and container in memory: what they don't take together only they know. Raises UsageProblem."""
    made = io.BytesIO()
    target = pyav().open(made, "w", format=settings.container)
    try:
        with quiet():
            stream = add_pictures(target, settings)
            if encoder_options.is_known(settings.video.encoder):
                _start_and_end(target, settings.video.codec, "video")
            else:
                _try_frames(target, stream, settings, made)
    except MergeFailed as error:
        raise _not_to_use(error) from error


def _try_frames(target: OutputContainer, stream: VideoStream, settings: EncodeSettings, made: io.BytesIO) -> None:
    """Encode some frames and decode them: some encoders open and are of no use. Raises MergeFailed, UsageProblem."""
    av = pyav()
    _start(target, settings.video.codec, "video")
    try:
        frame = av.VideoFrame(settings.width, settings.height, "rgb24").reformat(format=settings.video.pixel_format)
        for number in range(_TRIED):
            frame.pts, frame.time_base = number, 1 / settings.fps
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
        target.close()
        made.seek(0)
        with av.open(made) as container:
            decoded = sum(1 for _ in container.decode(video=0))
    except (av.FFmpegError, ValueError) as error:
        raise _of_no_use(settings, reason(error)) from error
    if decoded != _TRIED:
        raise _of_no_use(settings, f"of {_TRIED} frames {decoded} can be decoded")


def _of_no_use(settings: EncodeSettings, why: str) -> UsageProblem:
    return UsageProblem(
        f"{settings.video.encoder} makes no frames that {settings.container} could hold: {why}",
        f"--video-codec takes {_EXAMPLES['video']}",
    )


def _check_place(container: str, settings: AudioSettings) -> None:
    """Whether sound has a place in a container, tried out in memory without any frames. Raises MergeFailed."""
    target = pyav().open(io.BytesIO(), "w", format=container)
    if settings.codec.startswith("pcm_") and container == "mp4":
        # libav would write it, but hardly a player plays it.
        raise cannot_hold(target, settings.codec, "audio")
    _open(_add_sound(target, settings), settings)
    _start_and_end(target, settings.codec, "audio")


def _start_and_end(target: OutputContainer, codec: str, kind: Kind) -> None:
    _start(target, codec, kind)
    target.close()


def _start(target: OutputContainer, codec: str, kind: Kind) -> None:
    av = pyav()
    try:
        target.start_encoding()
    except av.FFmpegError as error:
        raise cannot_hold(target, codec, kind) from error


def _not_to_use(error: MergeFailed) -> UsageProblem:
    """What can't be held, before there is anything to transcode."""
    return UsageProblem(error.message, "use " + error.hint.partition(" with ")[2])


def open_target(path: Path, container: str, rate: Fraction) -> OutputContainer:
    """A video file to write, whose frames come `rate` times a second: the same streams become the same bytes."""
    av = pyav()
    settings = {}
    if container in ("mp4", "mov"):
        # A length that is rounded to milliseconds would cut the end off a sound.
        ticks = lcm(MIX_RATE, rate.numerator)
        settings["movie_timescale"] = str(ticks if ticks <= _MOST_TICKS else MIX_RATE)
    if container == "mp4":
        # The index goes to the front, so that a player in a browser need not load the whole file first.
        settings["movflags"] = "+faststart"
    target: OutputContainer = av.open(address(path), "w", format=container, container_options=settings)
    # No time of day, no chance, no version.
    target.flags |= av.container.Flags.bitexact.value
    return target


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """SVT-AV1 tells the terminal about itself while it is opened unless a variable asks it not to."""
    if "SVT_LOG" in os.environ:
        yield
        return
    os.environ["SVT_LOG"] = "1"
    try:
        yield
    finally:
        os.environ.pop("SVT_LOG", None)


@contextlib.contextmanager
def ordinary_priority() -> Iterator[None]:
    """Keep SVT-AV1 from making this process a real-time one, which it does where it may, as root.

    Such a process, and each browser that it starts, leaves the rest of the machine next to nothing.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    threads = Path("/proc/self/task")
    try:
        yield
    finally:
        for thread in threads.iterdir() if threads.is_dir() else ():
            # One that has just ended needs nothing.
            with contextlib.suppress(ProcessLookupError):
                if os.sched_getscheduler(int(thread.name)) != policy:
                    os.sched_setscheduler(int(thread.name), policy, parameters)


def add_pictures(target: OutputContainer, settings: EncodeSettings) -> VideoStream:
    """A stream whose frames are made of pictures. Raises MergeFailed, UsageProblem."""
    stream = _add_stream(target, settings.video, settings.fps)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = settings.width, settings.height, settings.video.pixel_format
    # One tick is one frame: whatever the rate, no time is ever rounded.
    context.time_base = 1 / settings.fps
    colours = settings.colours
    context.colorspace, context.color_range = colours.matrix, colours.range
    context.color_primaries, context.color_trc = colours.primaries, colours.transfer
    tag_like(target, stream, settings.video.codec)
    _open(stream, settings.video)
    return stream


def _add_stream(target: OutputContainer, settings: VideoSettings, rate: Fraction) -> VideoStream:
    try:
        return target.add_stream(settings.encoder, rate, options=settings.options)  # type: ignore[return-value]
    except ValueError as error:
        raise cannot_hold(target, settings.codec, "video") from error


def add_video(target: OutputContainer, settings: VideoSettings, like: VideoStream, rate: Fraction) -> VideoStream:
    """A stream whose frames are encoded: size and colours as those of `like`. Raises MergeFailed, UsageProblem."""
    stream = _add_stream(target, settings, rate)
    context, pattern = stream.codec_context, like.codec_context
    context.width, context.height, context.pix_fmt = pattern.width, pattern.height, settings.pixel_format
    context.thread_count = 0
    if pattern.sample_aspect_ratio:
        context.sample_aspect_ratio = pattern.sample_aspect_ratio
    context.color_range, context.colorspace = pattern.color_range, pattern.colorspace
    context.color_primaries, context.color_trc = pattern.color_primaries, pattern.color_trc
    tag_like(target, stream, settings.codec)
    _open(stream, settings)
    return stream


def tag_like(target: OutputContainer, stream: VideoStream, codec: str, tag: str = "") -> None:
    """Call a stream in its container what it was called before where libav would not know better.

    HEVC is called what Apple's players understand unless it had a name; ProRes has a name for each of its kinds.
    """
    if codec == "hevc" and target.format.name in ("mp4", "mov"):
        stream.codec_context.codec_tag = tag if tag in ("hev1", "hvc1") else "hvc1"
    if codec == "prores" and tag.startswith("ap"):
        stream.codec_context.codec_tag = tag


def add_audio(target: OutputContainer, settings: AudioSettings) -> AudioStream:
    """A stream whose sound is encoded. Raises MergeFailed, UsageProblem."""
    _check_place(target.format.name, settings)
    stream = _add_sound(target, settings)
    _open(stream, settings)
    return stream


def _add_sound(target: OutputContainer, settings: AudioSettings) -> AudioStream:
    try:
        stream: AudioStream = target.add_stream(settings.encoder, settings.rate, layout=settings.layout)  # type: ignore[assignment]
    except ValueError as error:
        raise cannot_hold(target, settings.codec, "audio") from error
    if settings.codec in _LOSSY:
        stream.codec_context.bit_rate = _BITS * stream.layout.nb_channels
    return stream


def _open(stream: VideoStream | AudioStream, settings: VideoSettings | AudioSettings) -> None:
    av = pyav()
    try:
        with ordinary_priority():
            stream.codec_context.open()
    except (av.FFmpegError, ValueError) as error:
        hint = "look at the size, --quality and --preset, or name another codec"
        if isinstance(settings, AudioSettings):
            hint = f"--audio-codec takes {_EXAMPLES['audio']}"
        raise UsageProblem(
            f"{settings.encoder} can't encode this with these settings: {reason(error)}", hint
        ) from error


def cannot_hold(target: OutputContainer, codec: str, kind: Kind) -> MergeFailed:
    """The error for a codec that has no place in a container."""
    container, part = target.format.name, {"video": "frames", "audio": "sound"}[kind]
    instead = {"video": ("h264", "vp9"), "audio": ("aac", "opus")}[kind][container == "webm"]
    others = " and ".join(suffix for suffix in (".mkv", ".mov") if CONTAINERS[suffix] != container)
    return MergeFailed(
        f"{container} can't hold {codec}, which the {part} would be in",
        f"transcode the {part} with --{kind}-codec {instead}, or write another container: {others} can hold more",
    )
