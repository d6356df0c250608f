"""When it is worth trying again, as programs and providers put it into words."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logist.agents.retry_times import seconds_to_wait

#: Half past midnight in London, a Sunday.
NOW = datetime(2026, 11, 22, 0, 30, tzinfo=UTC)
HOUR = 3_600.0
DAY = 24 * HOUR


@pytest.fixture(autouse=True)
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine five hours west of London in winter, four in summer."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def wait(said: str, now: datetime = NOW) -> float | None:
    return seconds_to_wait(said, now.timestamp())


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        # The header by itself.
        ("30", 30.0),
        ("0", 0.0),
        ("Sun, 22 Nov 2026 00:31:00 GMT", 60.0),
        # Numbers.
        ("Claude AI usage limit reached|1795320000", 3.5 * HOUR),
        ('{"error":{"type":"usage_limit_reached","resets_at":1795320000}}', 3.5 * HOUR),
        ('{"reset_at": 1795320000000}', 3.5 * HOUR),
        ('{"error":{"resets_in_seconds":12600}}', 3.5 * HOUR),
        ('{"@type": "google.rpc.RetryInfo", "retryDelay": "37s"}', 37.0),
        ("retry_delay { seconds: 37 }", 37.0),
        ("429 Too Many Requests, retry-after: 20", 20.0),
        # Amounts.
        ("Rate limit reached for gpt-5: Limit 30000, Used 22999. Please try again in 11.054s.", 11.054),
        ("Please try again in 6m0s. Visit https://platform.openai.com/account/rate-limits", 360.0),
        ("Please try again in 250ms.", 0.25),
        ("You've hit your usage limit. Upgrade to Pro, or try again in 3 days 4 hours 9 minutes.", 274_140.0),
        ("You exceeded your current quota. Your quota will reset after 3h22m15s.", 12_135.0),
        ("Rate limit exceeded. Retry after 20 seconds", 20.0),
        ("resets in 4hr 20min", 15_600.0),
        ("try again in 1 hour and 30 minutes", 1.5 * HOUR),
        # Moments. It is 19:30 of the day before in New York.
        ("try again at 2026-11-22T01:00:00Z", HOUR / 2),
        ("available again at 2026-11-22 02:00 UTC", 1.5 * HOUR),
        ("resets 2026-11-22T03:00:00+01:00", 1.5 * HOUR),
        ("resets 2026-11-21T20:00", HOUR / 2),
        ("5-hour limit reached ∙ resets 8pm", HOUR / 2),
        ("You've hit your limit · resets 8:30pm", HOUR),
        ("You've hit your limit · resets 8:30pm (America/Los_Angeles)", 4 * HOUR),
        ("You've hit your session limit · resets 2am (Europe/Berlin)", HOUR / 2),
        ("You've hit your usage limit. Try again at 7:45 PM.", HOUR / 4),
        ("limit reached, resets at 15:00 UTC", 14.5 * HOUR),
        ("resets 12am", 4.5 * HOUR),
        ("resets 12pm", 16.5 * HOUR),
        ("Weekly limit reached ∙ resets Nov 24 at 5pm", 2 * DAY + 21.5 * HOUR),
        ("try again at Nov 22nd, 2026 9:01 AM.", 13.5 * HOUR + 60),
        ("resets Jan 1, 12am (UTC)", 39 * DAY + 23.5 * HOUR),
        ("resets Nov 23", DAY + 4.5 * HOUR),
    ],
)
def test_what_is_told_is_how_long_it_takes(said: str, seconds: float) -> None:
    assert wait(said) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "Rate limit exceeded, retry later",
        "Failed to get response; retried 5 times (total retry wait time: 5.43 seconds) Last error: 429",
        "Attempt 4 failed with status 429. Retrying with backoff...",
        "timed out in 30 seconds",
        "please wait 5 files are uploading",
        "resets 13pm",
        "resets 25:00",
        "resets Feb 30 at 3pm",
        # Zones that nobody knows, or that are of several places.
        "resets 3pm PST",
        "resets 3pm (Mars/Olympus)",
        "resets Monday",
        # Long past.
        "Claude AI usage limit reached|1735689600",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "try again at 2026-11-21T01:00:00Z",
        "try again at Oct 17th, 2025 9:01 AM.",
    ],
)
def test_what_tells_no_moment_to_come_is_no_wait(said: str) -> None:
    assert wait(said) is None


def test_a_moment_that_went_by_while_it_was_read_is_now() -> None:
    assert wait("resets 7:25pm") == 0.0
    assert wait("limit reached|1795307390") == 0.0
    assert wait("resets 7pm") == 23.5 * HOUR


def test_a_year_that_is_not_said_is_the_next_that_fits() -> None:
    new_year = datetime(2027, 1, 1, 5, 1, tzinfo=UTC)
    assert wait("resets Dec 31 at 11:59pm", new_year) == 0.0
    assert wait("resets Dec 31 at 11pm", new_year) == pytest.approx(365 * DAY - HOUR - 60)
    leap = datetime(2028, 2, 20, tzinfo=UTC)
    assert wait("resets Feb 29 at 12am (UTC)", leap) == 9 * DAY


def test_a_time_of_day_is_one_of_that_days_clock_and_not_of_todays() -> None:
    # In the night that follows clocks go forward in New York: 10am comes an hour earlier.
    evening = datetime(2026, 3, 7, 22, 0, tzinfo=ZoneInfo("America/New_York"))
    assert wait("resets 10am", evening) == 11 * HOUR
    assert wait("resets 10am (America/New_York)", evening) == 11 * HOUR
    assert wait("resets 3pm (UTC)", evening) == 12 * HOUR


MOMENTS = st.integers(1_700_000_000, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
WORDS = st.sampled_from(
    [
        *("resets ", "try again ", "in ", "at ", "|", "retry-after: ", "Nov ", "9", "30", "pm", "am ", ":", "UTC", "s"),
        *("2026-11-22T", "1795320000", "(", ")", "Europe/Berlin", ",", " ", "Feb ", "GMT", "0", "days ", "999999999"),
    ]
)


@given(said=st.lists(WORDS | st.text(max_size=3), max_size=12).map("".join), now=MOMENTS)
@settings(max_examples=500)
def test_whatever_is_said_is_never_a_wait_for_the_past_nor_an_error(said: str, now: datetime) -> None:
    seconds = wait(said, now)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


@given(now=MOMENTS, ahead=st.integers(1, 10**8), zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]))
def test_a_moment_is_the_same_however_it_is_written(now: datetime, ahead: int, zone: str) -> None:
    when = (now + timedelta(seconds=ahead)).replace(second=0)
    there = when.astimezone(ZoneInfo(zone))
    spelled = (
        format_datetime(when, usegmt=True),
        f"limit reached|{int(when.timestamp())}",
        f"try again at {when.isoformat()}",
        f"try again at {there.isoformat()}",
    )
    expected = max(0.0, (when - now).total_seconds())
    assert {wait(said, now) for said in spelled} == {expected}


@given(now=MOMENTS, hour=st.integers(0, 23), minute=st.integers(0, 59), zone=st.sampled_from(["UTC", "Asia/Tokyo"]))
def test_a_time_of_day_is_reached_within_a_day(now: datetime, hour: int, minute: int, zone: str) -> None:
    seconds = wait(f"resets {hour:02}:{minute:02} ({zone})", now)
    assert seconds is not None
    assert 0 <= seconds <= DAY
    reached = (now + timedelta(seconds=seconds)).astimezone(ZoneInfo(zone))
    assert seconds == 0 or (reached.hour, reached.minute) == (hour, minute)


@given(st.integers(0, 40), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_an_amount_is_the_sum_of_its_parts(days: int, hours: int, minutes: int, seconds: int) -> None:
    whole = days * DAY + hours * HOUR + minutes * 60 + seconds
    assert wait(f"try again in {days}d{hours}h{minutes}m{seconds}s") == whole
    assert wait(f"try again in {days} days, {hours} hours, {minutes} minutes and {seconds} seconds") == whole
