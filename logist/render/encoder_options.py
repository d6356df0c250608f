"""What can be asked of an encoder: pixel formats, qualities and presets, and what it does when nothing is asked for.

Whatever is chosen, the same pictures become the same bytes on any machine, in groups that stand by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from logist.errors import UsageProblem
from logist.render.options import RenderOptions

if TYPE_CHECKING:
    from av.codec.codec import Codec
    from av.video.format import VideoFormat


#: Where a codec has several encoders, or one of another name; and what people call it.
_ENCODERS = {
    "h264": "libx264",
    "h.264": "libx264",
    "avc": "libx264",
    "x264": "libx264",
    "h265": "libx265",
    "h.265": "libx265",
    "hevc": "libx265",
    "x265": "libx265",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "prores": "prores_ks",
    "mp3": "libmp3lame",
    "opus": "libopus",
}
#: What QuickTime files don't hold without loss of anything.
_NOT_QUICKTIME = ("av1", "libaom", "librav1e", "libsvtav1", "ffv1", "libvpx", "vp8", "vp9", "snow", "theora")


def encoder_name(codec: str) -> str:
    """The encoder that is meant by a codec's name, or by its own, in any case of letters."""
    return _ENCODERS.get(codec.lower(), codec.lower())


def part_suffix(codec: str) -> str:
    """What the names of a render's parts end with: of the container that keeps frames of `codec` until the merge."""
    return ".mkv" if encoder_name(codec).startswith(_NOT_QUICKTIME) else ".mov"


def usual_codec(suffix: str) -> str:
    """The codec of frames that the end of a video's name stands for."""
    return "vp9" if suffix.lower() == ".webm" else "h264"


class Colours(NamedTuple):
    """What the numbers of a pixel mean."""

    matrix: int
    range: int
    primaries: int
    transfer: int


class _Family(NamedTuple):
    """What one encoder knows, and what it does unless something else is asked for."""

    pixel_format: str = "yuv420p"
    #: The option that `--quality` sets, and what it is by itself; none: the encoder has no such thing.
    quality: tuple[str, int] | None = None
    qualities: range = range(256)
    #: Likewise for `--preset`.
    preset: tuple[str, str] | None = None
    presets: tuple[str, ...] = ()
    #: Width and height, in pixels.
    smallest: tuple[int, int] = (1, 1)
    #: Groups of pictures that stand by themselves, and threads that change nothing in the frames.
    options: tuple[tuple[str, str], ...] = ()


class _Profiles(NamedTuple):
    """The presets of an encoder that has them for one kind of pixels."""

    pixel_formats: tuple[str, ...]
    names: tuple[str, ...]
    usual: str


#: A preset's usual pixel format is the first one of its line.
_PROFILES = {
    "prores_ks": (
        _Profiles(("yuv422p10le",), ("proxy", "lt", "standard", "hq"), "hq"),
        _Profiles(("yuv444p10le", "yuva444p10le"), ("4444", "4444xq"), "4444"),
    ),
    # Its older kind knows only a few sizes and rates.
    "dnxhd": (
        _Profiles(("yuv422p",), ("dnxhr_lb", "dnxhr_sq", "dnxhr_hq"), "dnxhr_hq"),
        _Profiles(("yuv422p10le",), ("dnxhr_hqx",), "dnxhr_hqx"),
        _Profiles(("yuv444p10le", "gbrp10le"), ("dnxhr_444",), "dnxhr_444"),
    ),
}
_X26X = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
_X264 = _Family(
    quality=("crf", 18),
    qualities=range(52),
    preset=("preset", "veryfast"),
    presets=_X26X,
    options=(("threads", "6"), ("x264-params", "open-gop=0:cpu-independent=1")),
)
#: By itself it keeps to a bit rate that is far too low for what pages show.
_MPEG = _Family(options=(("qmin", "2"), ("qmax", "2"), ("threads", "1"), ("bf", "0")))
_FAMILIES = {
    "libx264": _X264,
    "libx264rgb": _X264._replace(pixel_format="rgb24"),
    "libx265": _X264._replace(
        quality=("crf", 20),
        # What it says of itself in the stream names this machine's processor.
        options=(("x265-params", "log-level=none:open-gop=0:info=0:frame-threads=3"),),
    ),
    "libvpx": _Family(
        quality=("crf", 12),
        qualities=range(4, 64),
        preset=("cpu-used", "4"),
        presets=tuple(str(speed) for speed in range(17)),
        # It keeps to a quality only below a bit rate; its threads spin while they wait, for ever if all else is busy.
        options=(("b", "1G"), ("threads", "1")),
    ),
    "libvpx-vp9": _Family(
        quality=("crf", 24),
        qualities=range(64),
        preset=("cpu-used", "4"),
        presets=tuple(str(speed) for speed in range(9)),
        options=(("row-mt", "1"), ("threads", "8")),
    ),
    "libsvtav1": _Family(
        quality=("crf", 24),
        qualities=range(1, 64),
        preset=("preset", "8"),
        presets=tuple(str(speed) for speed in range(14)),
        # Of narrower ones it waits for itself, for ever.
        smallest=(32, 32),
    ),
    "prores_ks": _Family(
        pixel_format="yuv422p10le",
        options=(("threads", "0"),),
    ),
    "dnxhd": _Family(pixel_format="yuv422p", smallest=(256, 120)),
    "mjpeg": _MPEG,
    "mpeg4": _MPEG,
    "mpeg2video": _MPEG,
    "ffv1": _Family(
        pixel_format="bgr0", options=(("level", "3"), ("slices", "4"), ("slicecrc", "1"), ("threads", "4"))
    ),
}
#: As H.273 counts: those of high definition in the range of television, or those of a page as they are.
_TELEVISION = Colours(matrix=1, range=1, primaries=1, transfer=1)
#: VP8 knows no other colours than those of old television.
_VP8 = Colours(matrix=5, range=1, primaries=1, transfer=1)
#: Nor JPEG, which uses the whole range besides.
_JPEG = Colours(matrix=5, range=2, primaries=1, transfer=1)
_PAGE = Colours(matrix=0, range=2, primaries=1, transfer=1)
_UNKNOWN = _Family(quality=("crf", -1), preset=("preset", ""), options=(("threads", "1"), ("bf", "0")))
#: What encoders list but nobody should ask for: JPEG's range of brightness, and colours that four pixels share.
_NOT_OFFERED = ("yuvj", "yuv411p", "yuv410p", "nv20")
#: Components of a pixel.
_GRAY_AND_ALPHA = 2
#: The containers that keep what is transparent in a codec; of a codec that is not named, each that can hold it does.
_ALPHA_KEPT = {"vp8": ("matroska", "webm"), "vp9": ("matroska", "webm"), "hevc": ()}

_KEEPS_ALPHA = (
    "; what is transparent stays so in vp9 (.webm, yuva420p), prores (.mov, yuva444p10le) and ffv1 (.mkv, bgra)"
)


def has_alpha(pixel_format: str) -> bool:
    """Whether pixels of this format can be transparent."""
    return any(component.is_alpha for component in _format(pixel_format).components)


def colours_of(codec: str, pixel_format: str) -> Colours:
    """What the numbers of a pixel of this format mean."""
    if _format(pixel_format).is_rgb:
        return _PAGE
    return {"vp8": _VP8, "mjpeg": _JPEG}.get(codec, _TELEVISION)


def _format(name: str) -> VideoFormat:
    from av import VideoFormat

    return VideoFormat(name, 2, 2)


def pixel_format_for(encoder: Codec, options: RenderOptions, container: str) -> str:
    """The pixel format that is asked for, or the encoder's usual one. Raises UsageProblem for what can't be."""
    known = _offered(encoder)
    wanted = options.pixel_format or _usual_format(encoder, options.preset, known)
    if wanted not in known:
        others = _KEEPS_ALPHA if _is_clear(wanted) and not any(map(has_alpha, known)) else ""
        raise UsageProblem(f"{encoder.name} takes no pixel format {wanted}", f"it takes {', '.join(known)}{others}")
    if has_alpha(wanted) and container not in _ALPHA_KEPT.get(encoder.canonical_name, (container,)):
        raise UsageProblem(
            f"{container} can't hold {encoder.canonical_name} with what is transparent",
            "name the output .mkv or .webm, or leave out --pixel-format",
        )
    _check_size(encoder, wanted, options, known)
    return wanted


def _is_clear(pixel_format: str) -> bool:
    """Whether it can be transparent; what is no pixel format can not."""
    try:
        return has_alpha(pixel_format)
    except ValueError:
        return False


def _usual_format(encoder: Codec, preset: str | None, known: list[str]) -> str:
    usual = _FAMILIES.get(encoder.name, _UNKNOWN).pixel_format
    of_preset = [each.pixel_formats[0] for each in _PROFILES.get(encoder.name, ()) if preset in each.names]
    # Some name gray ones first.
    coloured = [name for name in known if len(_format(name).components) > _GRAY_AND_ALPHA]
    return next(name for name in (*of_preset, usual, *coloured, known[0]) if name in known)


def _check_size(encoder: Codec, pixel_format: str, options: RenderOptions, known: list[str]) -> None:
    width, height = _FAMILIES.get(encoder.name, _UNKNOWN).smallest
    if options.width < width or options.height < height:
        raise UsageProblem(
            f"{options.width}x{options.height} pixels are too few for {encoder.name}",
            f"make the width {width} or more and the height {height} or more, or name another codec",
        )
    form = _format(pixel_format)
    if (options.width % 2 and form.chroma_width(2) == 1) or (options.height % 2 and form.chroma_height(2) == 1):
        instead = ", or --pixel-format yuv444p" if "yuv444p" in known else ""
        raise UsageProblem(
            f"{options.width}x{options.height} pixels can't be {pixel_format}, in which two pixels share a colour",
            f"make width and height even{instead}",
        )


def _offered(encoder: Codec) -> list[str]:
    """The pixel formats that frames can be made in. Raises UsageProblem when there are none."""
    names = [known.name for known in encoder.video_formats or ()] or [_UNKNOWN.pixel_format]
    lost = _ALPHA_KEPT.get(encoder.canonical_name) == ()
    offered = [name for name in names if not name.startswith(_NOT_OFFERED) and not (lost and has_alpha(name))]
    if not offered:
        raise UsageProblem(f"{encoder.name} takes no pixels that frames can be made of", "name another codec")
    return offered


def is_known(encoder: str) -> bool:
    """Whether more is known of an encoder than that it is there."""
    return encoder in _FAMILIES


def options_for(encoder: Codec, options: RenderOptions, pixel_format: str) -> dict[str, str]:
    """What is said to the encoder. Raises UsageProblem for a quality or a preset that it doesn't have."""
    family = _FAMILIES.get(encoder.name, _UNKNOWN)
    for profiles in _PROFILES.get(encoder.name, ()):
        if pixel_format in profiles.pixel_formats:
            family = family._replace(preset=("profile", profiles.usual), presets=profiles.names)
    chosen = dict(family.options)
    if encoder.canonical_name in ("vp8", "vp9") and has_alpha(pixel_format):
        # The frames that it makes up for reference would be without what is transparent.
        chosen["auto-alt-ref"] = "0"
    return chosen | _asked_quality(encoder, family, options.quality) | _asked_preset(encoder, family, options.preset)


def _asked_quality(encoder: Codec, family: _Family, quality: int | None) -> dict[str, str]:
    if family.quality is None or (quality is not None and family.quality[0] not in _options_of(encoder)):
        if quality is None:
            return {}
        raise _no_such(encoder, "--quality")
    name, usual = family.quality
    if quality is None:
        return {name: str(usual)} if usual >= 0 else {}
    if quality not in family.qualities:
        raise UsageProblem(
            f"{encoder.name} has no quality {quality}",
            f"give {family.qualities[0]} (the best) to {family.qualities[-1]} (the smallest)",
        )
    return {name: str(quality)}


def _asked_preset(encoder: Codec, family: _Family, preset: str | None) -> dict[str, str]:
    if family.preset is None or (preset is not None and family.preset[0] not in _options_of(encoder)):
        if preset is None:
            return {}
        raise _no_such(encoder, "--preset")
    name, usual = family.preset
    if preset is not None and family.presets and preset not in family.presets:
        raise UsageProblem(f"{encoder.name} has no preset {preset}", f"it has {', '.join(family.presets)}")
    return {name: preset or usual} if preset or usual else {}


def _options_of(encoder: Codec) -> set[str]:
    return {option.name for option in encoder.create("video").supported_options.private}


def _no_such(encoder: Codec, flag: str) -> UsageProblem:
    return UsageProblem(f"{encoder.name} takes no {flag}", f"leave it out, or name another codec: {flag} suits h264")
