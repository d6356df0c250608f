"""Durations as people write them: `90`, `45s`, `30m`, `1h30m`, `2d`."""

from __future__ import annotations

import math
import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhd])\s*", re.ASCII)
_WRITTEN = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


def parse_duration(text: str) -> float:
    """The seconds that `text` names; a bare number is seconds. Raises ValueError with one sentence."""
    written = text.strip().lower()
    if _NUMBER.fullmatch(written):
        seconds = float(written)
    else:
        seconds = sum(float(amount) * _SECONDS[unit] for amount, unit in duration_parts(text))
    if not math.isfinite(seconds):
        raise ValueError(f"{text[:40]!r} is too long a duration")
    return seconds


def duration_parts(text: str) -> list[tuple[str, str]]:
    """The amounts and units (`ms`, `s`, `m`, `h`, `d`) that `text` is made of. Raises ValueError with one sentence."""
    written = text.strip().lower()
    if not _WRITTEN.fullmatch(written):
        raise ValueError(f"{text[:40]!r} is not a duration; write it like 45s, 30m or 1h30m")
    return _PART.findall(written)


def format_duration(seconds: float) -> str:
    """`seconds` in at most two units, as `parse_duration` reads them: `0.4s`, `45s`, `14m27s`, `2h05m`, `3d04h`."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}".removesuffix(".0") + "s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return _two_units(whole, 60, "m", "s")
    # Rounded to the smaller unit first, so that 59m59.9s more can't print as 60m.
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return _two_units(minutes, 60, "h", "m")
    return _two_units(round(seconds / 3600), 24, "d", "h")


def _two_units(amount: int, size: int, large: str, small: str) -> str:
    whole, rest = divmod(amount, size)
    return f"{whole}{large}" + (f"{rest:02}{small}" if rest else "")


def stopwatch(seconds: float) -> str:
    """`seconds` as a clock that runs shows them: `00:42`, `1:05:00`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
