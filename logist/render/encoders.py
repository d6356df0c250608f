"""Which encoder makes a stream, and with which settings: chosen by codec or by the encoder's own name."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from logist.errors import MergeFailed, UsageProblem
from logist.render.media import pyav, reason

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.codec.codec import Codec
    from av.container import OutputContainer
    from av.video.stream import VideoStream

    from logist.render.sources import Picture, Sound

#: Where a codec has several encoders, or one of another name.
_ENCODERS = {
    "h264": "libx264",
    "h265": "libx265",
    "hevc": "libx265",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "prores": "prores_ks",
    "mp3": "libmp3lame",
    "opus": "libopus",
}
#: These write to the terminal themselves.
_QUIET = {"libx265": {"x265-params": "log-level=none"}}
#: Bits a second for each channel of sound that is compressed with loss.
_BITS = 96_000
_LOSSY = {"aac", "ac3", "eac3", "mp3", "opus", "vorbis"}
_EXAMPLES = {"video": "h264, hevc, vp9, av1 or prores", "audio": "aac, opus, flac or pcm_s16le"}


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


def _encoder(name: str, kind: Literal["video", "audio"]) -> Codec:
    av = pyav()
    try:
        found: Codec = av.Codec(_ENCODERS.get(name, name), "w")
    except ValueError as error:
        raise UsageProblem(
            f"there is no {kind} encoder {name} here", f"--{kind}-codec takes {_EXAMPLES[kind]}, or copy"
        ) from error
    if found.type != kind:
        raise UsageProblem(f"{name} is no {kind} codec", f"--{kind}-codec takes {_EXAMPLES[kind]}, or copy")
    return found


def _pixel_format(encoder: Codec, wanted: str) -> str:
    from av.codec.codec import find_best_pix_fmt_of_list

    known = [known.name for known in encoder.video_formats or ()]
    if not known or wanted in known:
        return wanted
    best, _loss = find_best_pix_fmt_of_list(known, wanted)
    return wanted if best is None else best.name


def add_video(target: OutputContainer, settings: VideoSettings, like: VideoStream, rate: Fraction) -> VideoStream:
    """A stream whose frames are encoded: size and colours as those of `like`. Raises MergeFailed, UsageProblem."""
    try:
        stream: VideoStream = target.add_stream(settings.encoder, rate, options=settings.options)  # type: ignore[assignment]
    except ValueError as error:
        raise cannot_hold(target, settings.codec, "video") from error
    context, pattern = stream.codec_context, like.codec_context
    context.width, context.height, context.pix_fmt = pattern.width, pattern.height, settings.pixel_format
    context.thread_count = 0
    if pattern.sample_aspect_ratio:
        context.sample_aspect_ratio = pattern.sample_aspect_ratio
    context.color_range, context.colorspace = pattern.color_range, pattern.colorspace
    context.color_primaries, context.color_trc = pattern.color_primaries, pattern.color_trc
    tag_hevc(target, stream, settings.codec)
    _open(stream, settings)
    return stream


def tag_hevc(target: OutputContainer, stream: VideoStream, codec: str, tag: str = "hvc1") -> None:
    """Call HEVC in ISO media what it was called, or else what Apple's players understand."""
    if codec == "hevc" and target.format.name in ("mp4", "mov"):
        stream.codec_context.codec_tag = tag if tag in ("hev1", "hvc1") else "hvc1"


def add_audio(target: OutputContainer, settings: AudioSettings) -> AudioStream:
    """A stream whose sound is encoded. Raises MergeFailed, UsageProblem."""
    try:
        stream: AudioStream = target.add_stream(settings.encoder, settings.rate, layout=settings.layout)  # type: ignore[assignment]
    except ValueError as error:
        raise cannot_hold(target, settings.codec, "audio") from error
    if settings.codec in _LOSSY:
        stream.codec_context.bit_rate = _BITS * stream.layout.nb_channels
    _open(stream, settings)
    return stream


def _open(stream: VideoStream | AudioStream, settings: VideoSettings | AudioSettings) -> None:
    av = pyav()
    try:
        stream.codec_context.open()
    except (av.FFmpegError, ValueError) as error:
        raise UsageProblem(
            f"{settings.encoder} can't encode this with these settings: {reason(error)}",
            "look at --quality and --preset, or name another codec",
        ) from error


def cannot_hold(target: OutputContainer, codec: str, kind: Literal["video", "audio"]) -> MergeFailed:
    """The error for a codec that has no place in a container."""
    container, part = target.format.name, {"video": "frames", "audio": "sound"}[kind]
    instead = {"video": ("h264", "vp9"), "audio": ("aac", "opus")}[kind][container == "webm"]
    return MergeFailed(
        f"{container} can't hold {codec}, which the {part} would be in",
        f"transcode the {part} with --{kind}-codec {instead}, or write another container: .mkv holds nearly everything",
    )
