"""How a render's options are spelled as command-line flags, and how the values of flags are read: both exactly.

What can't be read raises ValueError with one sentence, to be shown behind the flag's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from fractions import Fraction
from math import ceil
from typing import Any

from logist.durations import duration_parts
from logist.render.options import AudioTrack, RenderOptions

#: In pixels; what Chromium's largest surface is.
MOST_PIXELS = 16_384
MOST_FPS = 1_000
#: More would be a slip of the finger: it is 38 days at 30 frames a second.
MOST_FRAMES = 100_000_000
MOST_PAGES = 256
MOST_SEED = 2**32 - 1
#: Of an encoder's constant rate factor; each encoder has its own range within.
MOST_QUALITY = 255
#: Seconds: of one wait, and of anything on a composition's clock.
MOST_WAITING = 86_400
MOST_SECONDS = 100_000_000
MOST_VOLUME = 100
MOST_SPEED = 100

_LONGEST_NUMBER = 60
_LARGEST_DENOMINATOR = 10**12
_DECIMAL = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_WHOLE = re.compile(r"-?\d{1,12}", re.ASCII)
_RATIO = re.compile(r"(\d+)\s*/\s*(\d+)", re.ASCII)
_UNITS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600), "d": Fraction(86400)}
#: Rates of television are these times 1000/1001, and are written rounded: 29.97, 23.976.
_TELEVISION = (24, 30, 48, 60, 120, 240)


# --- Numbers ---------------------------------------------------------------------------------------------------------


def parse_number(text: str) -> Fraction:
    """`12`, `2.5` or `1/3`: exactly what is written."""
    written = text.strip()
    ratio = _RATIO.fullmatch(written)
    if len(written) > _LONGEST_NUMBER or not (ratio or _DECIMAL.fullmatch(written)):
        raise ValueError(f"{_shown(text)} is not a number of 0 or more; write it like 12, 2.5 or 1/3")
    if ratio is None:
        return Fraction(written if written[0] != "." else f"0{written}")
    if not int(ratio[2]):
        raise ValueError(f"{_shown(text)} divides by zero")
    return Fraction(int(ratio[1]), int(ratio[2]))


def spell_number(number: Fraction) -> str:
    """The shortest spelling that `parse_number` reads back: `12`, `2.5`, `1/3`."""
    if number.denominator == 1:
        return str(number.numerator)
    for places in range(1, 7):
        if 10**places % number.denominator == 0:
            scaled = number.numerator * 10**places // number.denominator
            whole, rest = divmod(scaled, 10**places)
            return f"{whole}.{rest:0{places}}"
    return f"{number.numerator}/{number.denominator}"


def parse_fps(text: str) -> Fraction:
    """Frames a second: `30`, `12.5`, `30000/1001`; `29.97` and its like are the rates of television that they round."""
    try:
        number = parse_number(text)
    except ValueError:
        raise ValueError(f"{_shown(text)} is not a frame rate; write it like 30, 29.97 or 30000/1001") from None
    places = len(text.strip().partition(".")[2])
    if places >= 2:
        number = next((rate for rate in _television_rates() if round(rate, places) == number), number)
    if not Fraction(1, MOST_FRAMES) <= number <= MOST_FPS or number.denominator > MOST_FRAMES:
        raise ValueError(f"{_shown(text)} is no frame rate that can be rendered: more than 0, at most {MOST_FPS}")
    return number


def _television_rates() -> Iterator[Fraction]:
    return (Fraction(rate * 1000, 1001) for rate in _TELEVISION)


def spell_fps(fps: Fraction) -> str:
    """A frame rate as `parse_fps` reads it back."""
    spelled = spell_number(fps)
    return spelled if parse_fps(spelled) == fps else f"{fps.numerator}/{fps.denominator}"


def parse_seconds(text: str, *, least: Fraction = Fraction(0), most: int = MOST_SECONDS) -> Fraction:
    """A time: `2.5`, `1/3`, `90s`, `1m30s`, exactly."""
    try:
        seconds = parse_number(text)
    except ValueError:
        try:
            parts = duration_parts(text) if len(text) <= _LONGEST_NUMBER else []
        except ValueError:
            parts = []
        if not parts:
            raise ValueError(f"{_shown(text)} is not a time; write it like 2.5, 1/3, 90s or 1m30s") from None
        seconds = sum((Fraction(amount) * _UNITS[unit] for amount, unit in parts), Fraction(0))
    return _within(text, seconds, least, most, "seconds")


def parse_duration(text: str) -> Fraction:
    """How long a render is, in seconds: more than 0."""
    seconds = parse_seconds(text)
    if not seconds:
        raise ValueError(f"{_shown(text)} is no time at all; give more than 0 seconds")
    return seconds


def parse_timeout(text: str) -> Fraction:
    """How long to wait, in seconds: a millisecond or more."""
    return parse_seconds(text, least=Fraction(1, 1000), most=MOST_WAITING)


def _within(text: str, number: Fraction, least: Fraction, most: int, unit: str = "") -> Fraction:
    if not least <= number <= most:
        of = f" {unit}" if unit else ""
        raise ValueError(f"{_shown(text)} is not between {spell_number(least)} and {most}{of}")
    if number.denominator > _LARGEST_DENOMINATOR:
        raise ValueError(f"{_shown(text)} is more exact than can be kept")
    return number


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text):
            raise ValueError(f"{_shown(text)} is not a whole number")
        if not least <= int(text) <= most:
            raise ValueError(f"{_shown(text)} is not between {least} and {most}")
        return int(text)

    return parse


def parse_text(text: str) -> str:
    """Any text but none at all, and none that can't be written on a command line."""
    if not text or "\0" in text:
        raise ValueError(f"{_shown(text)} says nothing; leave it out, or say what is meant")
    return text


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")


def frames_of(duration: Fraction, fps: Fraction) -> int:
    """How many frames it takes to show `duration` seconds: the last one may be shown for longer than is left."""
    frames = ceil(duration * fps)
    if frames > MOST_FRAMES:
        raise ValueError(f"{spell_number(duration)} seconds are {frames} frames; at most {MOST_FRAMES} can be rendered")
    return frames


# --- Sounds ----------------------------------------------------------------------------------------------------------

_NO_TIME = Fraction(0)
_INSTANT = Fraction(1, 1_000_000)


def _seconds(text: str) -> Fraction:
    return parse_seconds(text)


def _length(text: str) -> Fraction:
    return parse_seconds(text, least=_INSTANT)


def _volume(text: str) -> Fraction:
    return _within(text, parse_number(text), _NO_TIME, MOST_VOLUME)


def _speed(text: str) -> Fraction:
    return _within(text, parse_number(text), Fraction(1, MOST_SPEED), MOST_SPEED)


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{_shown(text)} is neither true nor false")
    return text == "true"


#: By the name of the field; on the command line a dash stands for the underscore.
_TRACK_VALUES: dict[str, Callable[[str], Fraction | bool]] = {
    "offset": _seconds,
    "seek": _seconds,
    "duration": _length,
    "volume": _volume,
    "fade_in": _seconds,
    "fade_out": _seconds,
    "loop": _switch,
    "rate": _speed,
}
_SILENT = AudioTrack("")


def parse_track(text: str) -> AudioTrack:
    """A sound: `FILE[,offset=SECONDS][,volume=2]…`.

    A comma in the file's name is no matter unless a known `name=` follows; `,,` says where the file's name ends.
    """
    source, values = text, dict[str, Any]()
    while True:
        rest, comma, part = source.rpartition(",")
        name = _track_name(part)
        if not comma or (part and name is None):
            break
        source = rest
        if name is None:
            break
        if name in values:
            raise ValueError(f"{name.replace('_', '-')} is given twice for {_shown(text)}")
        values[name] = _track_value(name, part.partition("=")[2])
    if not source:
        raise ValueError(f"{_shown(text)} names no sound; write it like music.mp3,offset=2.5,volume=0.8")
    return AudioTrack(source, **values)


def _track_name(part: str) -> str | None:
    """The field that `name=value` sets; None when it is no such thing."""
    name, equals, _ = part.partition("=")
    field = name.replace("-", "_")
    return field if equals and field in _TRACK_VALUES and "_" not in name else None


def _track_value(name: str, text: str) -> Fraction | bool:
    try:
        return _TRACK_VALUES[name](text)
    except ValueError as error:
        raise ValueError(f"{name.replace('_', '-')}: {error}") from error


def spell_track(track: AudioTrack) -> str:
    """A sound as `parse_track` reads it back."""
    last = track.source.rpartition(",")[2]
    words = [track.source]
    if "," in track.source and (not last or _track_name(last)):
        words.append("")
    for name in _TRACK_VALUES:
        value = getattr(track, name)
        if value != getattr(_SILENT, name):
            written = str(value).lower() if isinstance(value, bool) else spell_number(value)
            words.append(f"{name.replace('_', '-')}={written}")
    return ",".join(words)


# --- Options ---------------------------------------------------------------------------------------------------------

_DEFAULT = RenderOptions()
#: How the value of a flag is read, by the field that it sets; one that a mode or nothing follows is not here.
PARSERS: dict[str, Callable[[str], Any]] = {
    "width": _whole(1, MOST_PIXELS),
    "height": _whole(1, MOST_PIXELS),
    "fps": parse_fps,
    "duration": parse_duration,
    "start_frame": _whole(0, MOST_FRAMES),
    "frame_count": _whole(1, MOST_FRAMES),
    "concurrency": _whole(1, MOST_PAGES),
    "quality": _whole(0, MOST_QUALITY),
    "video_codec": parse_text,
    "audio_codec": parse_text,
    "preset": parse_text,
    "pixel_format": parse_text,
    "base_url": parse_text,
    "props": parse_text,
    "seed": _whole(0, MOST_SEED),
    "canvas_selector": parse_text,
    "browser": parse_text,
    "timeout": parse_timeout,
    "audio": parse_track,
}
_RANGE = ("start_frame", "frame_count")
#: Said always, so that a command doesn't mean something else where the defaults are others.
_ALWAYS = (*_RANGE, "width", "height", "fps", "mode")


def flag_of(field: str) -> str:
    """The flag that sets a field of `RenderOptions`."""
    return "--" + field.replace("_", "-")


def to_flags(options: RenderOptions, *, with_range: bool = True) -> tuple[str, ...]:
    """The words that mean `options` on the command line of `logist render`: each value has one spelling.

    Without `with_range` they don't say which frames are rendered.
    """
    names = (*_ALWAYS, *(field.name for field in fields(options) if field.name not in _ALWAYS))
    return tuple(
        word
        for name in names[0 if with_range else len(_RANGE) :]
        if name in _ALWAYS or getattr(options, name) != getattr(_DEFAULT, name)
        for word in _spelled(name, getattr(options, name))
    )


def _spelled(name: str, value: Any) -> Iterator[str]:
    flag = flag_of(name)
    if name == "headless":
        yield flag if value else "--no-headless"
    elif name == "audio":
        for track in value:
            yield from (flag, spell_track(track))
    elif name == "fps":
        yield from (flag, spell_fps(value))
    elif isinstance(value, Fraction):
        yield from (flag, spell_number(value))
    else:
        yield from (flag, str(value))
