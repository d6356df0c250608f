"""Reads when it is worth trying again out of what programs and providers say of it: `retry after 30`, `resets 3pm`."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

#: Characters of a message that are looked at.
_MOST_READ = 4_000
#: Seconds by which a moment may have gone by before it counts as one of the past: it was told before it was read.
_JUST_PAST = 600.0
#: What is larger is no number of seconds but a moment, in seconds or milliseconds since 1970.
_FIRST_MOMENT = 1_000_000_000
_FIRST_MILLISECOND = 1_000_000_000_000

_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_UNIT = (
    r"(?P<ms>ms|milliseconds?)|(?P<w>w|weeks?)|(?P<d>d|days?)|(?P<h>h|hrs?|hours?)|(?P<m>m|mins?|minutes?)"
    r"|(?P<s>s|secs?|seconds?)"
)
_AMOUNT = re.compile(
    rf"(?:,|and|\s){{0,3}}(?P<amount>\d{{1,9}}(?:\.\d{{1,9}})?)\s?(?:{_UNIT})(?![a-z])", re.IGNORECASE | re.ASCII
)
#: `try again in`, `reset after`: an amount with its unit follows.
_IN = re.compile(
    r"\b(?:try again|retry|available(?: again)?|resets?|will reset|refresh(?:es)?|wait)"
    r"(?:\s(?:in|after|for))?\s(?:about |approximately |at least |another |~)?(?=\d)",
    re.IGNORECASE,
)
#: `Retry-After: `, `"retryDelay":"`, `"resets_in_seconds":`: an amount follows, of seconds where there is no unit.
_FIELD = re.compile(
    r"\b(?:retry[-_ ]?after|retry[-_ ]?delay|resets?_in_seconds)\W{1,6}(?:seconds\W{1,3})?(?=(\d{1,9}(?:\.\d{1,9})?))",
    re.IGNORECASE | re.ASCII,
)
#: `limit reached|1735689600`, `"resets_at":1735689600`.
_MOMENT = re.compile(r"(?:\||\bresets?[-_ ]?at\W{1,4})(\d{10}(?:\d{3})?)(?!\d)", re.IGNORECASE | re.ASCII)

#: What stands before a moment that is spelled out.
_LEAD = r"\b(?i:resets?|try again|retry|available(?: again)?|until)(?:\s?(?i:is|at|on|after|by|:|·|∙)){0,2}\W{0,2}"
_ZONE = r"(?:\s?\(?(?P<zone>[A-Z][A-Za-z_]+(?:/[A-Za-z0-9_+-]+){1,2}|[A-Z]{2,5}|Z)\b\)?)?"
_ISO = re.compile(
    _LEAD + r"(?P<iso>\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(?:\.\d{1,9})?\s?(?P<offset>[+-]\d\d:?\d\d)?" + _ZONE
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE = (
    rf"(?P<month>(?i:{'|'.join(_MONTHS)}))[a-z]{{0,6}}\.?\s(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?![\d:])"
    r"(?:,?\s(?P<year>\d{4})(?!\d))?(?:,?\s?(?:at\s)?)?"
)
_TIME = r"(?P<hour>\d{1,2})(?:(?::(?P<minute>\d\d))?(?::\d\d)?\s?(?P<half>[apAP])\.?[mM]\b|:(?P<minute24>\d\d)(?!\d))"
_CLOCK = re.compile(rf"{_LEAD}(?:{_DATE})?(?:{_TIME})?{_ZONE}")


def seconds_to_wait(said: str, now: float) -> float | None:
    """Seconds from `now` (a POSIX timestamp) until it is worth trying again; None: `said` doesn't tell, or it is past.

    `said` is an error message, or the value of a `Retry-After` header. A time of day is the next one; without a zone
    it is that of this machine. Of several, what is told in numbers goes first.
    """
    said = said[:_MOST_READ].strip()
    readers = (_of_header, _of_moment, _of_amount, _of_iso, _of_clock)
    found = (seconds for read in readers for seconds in read(said, now))
    return next((max(0.0, seconds) for seconds in found if seconds >= -_JUST_PAST), None)


def tells_when(said: str) -> bool:
    """Whether `said` tells when it is worth trying again, be it in the past."""
    return seconds_to_wait(said, 0.0) is not None


def _of_header(said: str, now: float) -> Iterator[float]:
    if _NUMBER.fullmatch(said):
        number = float(said)
        if number < _FIRST_MOMENT:
            yield number
        else:
            yield _moment(number) - now
    elif said.endswith(("GMT", "UTC", "+0000")):
        try:
            yield parsedate_to_datetime(said).timestamp() - now
        except (ValueError, OverflowError, OSError):
            return


def _of_moment(said: str, now: float) -> Iterator[float]:
    for found in _MOMENT.finditer(said):
        yield _moment(float(found[1])) - now


def _moment(number: float) -> float:
    return number / 1000 if number >= _FIRST_MILLISECOND else number


def _of_amount(said: str, _now: float) -> Iterator[float]:
    for field in _FIELD.finditer(said):
        seconds = _amount_at(said, field.end())
        yield float(field[1]) if seconds is None else seconds
    for lead in _IN.finditer(said):
        seconds = _amount_at(said, lead.end())
        if seconds is not None:
            yield seconds


def _amount_at(said: str, place: int) -> float | None:
    """The seconds of `3 days 4 hours`, `1m26.4s` or the like that stands there."""
    seconds: float | None = None
    while part := _AMOUNT.match(said, place):
        seconds = (seconds or 0.0) + float(part["amount"]) * _UNITS[str(part.lastgroup)]
        place = part.end()
    return seconds


def _of_iso(said: str, now: float) -> Iterator[float]:
    for found in _ISO.finditer(said):
        written = found["iso"] + (found["offset"] or "")
        try:
            when = datetime.fromisoformat(written)
            yield (when if when.tzinfo else when.replace(tzinfo=_zone(found["zone"]))).timestamp() - now
        except (ValueError, OverflowError, KeyError, OSError):
            continue


def _of_clock(said: str, now: float) -> Iterator[float]:
    for found in _CLOCK.finditer(said):
        if found["hour"] is None and found["month"] is None:
            continue
        try:
            yield _next(found, now, _zone(found["zone"])) - now
        except (ValueError, OverflowError, KeyError, OSError):
            # No such day, hour or zone.
            continue


def _next(found: re.Match[str], now: float, zone: tzinfo | None) -> float:
    """The first moment, from just now on, that is called so in the zone; None: that of this machine."""
    today = datetime.fromtimestamp(now, zone).date()
    moments = (_at(day, found, zone) for day in _days(found, today))
    later = [moment for moment in moments if found["year"] or moment >= now - _JUST_PAST]
    if not later:
        raise ValueError("there is no such day")
    return later[0]


def _days(found: re.Match[str], today: date) -> Iterator[date]:
    if found["month"] is None:
        yield from (today - timedelta(days=1), today, today + timedelta(days=1), today + timedelta(days=2))
        return
    month, day = _MONTHS.index(found["month"].lower()) + 1, int(found["day"])
    years = (int(found["year"]),) if found["year"] else (today.year - 1, today.year, today.year + 1)
    yield from (date(year, month, day) for year in years if day <= monthrange(year, month)[1])


def _at(day: date, found: re.Match[str], zone: tzinfo | None) -> float:
    hour, minute = int(found["hour"] or 0), int(found["minute"] or found["minute24"] or 0)
    if found["half"]:
        if not 1 <= hour <= 12:
            raise ValueError("there is no such hour")
        hour = hour % 12 + (12 if found["half"] in "pP" else 0)
    # Without a zone it is a time of this machine, by the rules of the day that is meant and not by those of today.
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp()


def _zone(name: str | None) -> tzinfo | None:
    """The zone of that name; None: no name, the machine's. Raises KeyError or ValueError for one that is not known."""
    if name is None:
        return None
    return UTC if name in ("UTC", "GMT", "Z") else ZoneInfo(name)
