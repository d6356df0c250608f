"""How the options of a render are spelled as flags and read back, both exactly."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist.commands.render_flags import options_of, render_flags
from logist.errors import LogistError
from logist.render import flags
from logist.render.options import AudioTrack, Mode, RenderOptions, Warmup

# --- Any options ---------------------------------------------------------------------------------------------------


def fractions(least: Fraction | int, most: int) -> st.SearchStrategy[Fraction]:
    return st.fractions(least, most, max_denominator=10**6) | st.decimals(
        Fraction(least).__ceil__(), most, places=3, allow_nan=False
    ).map(Fraction)


RATES = st.sampled_from([Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120)])
FPS = RATES | fractions(Fraction(1, 1000), flags.MOST_FPS)
#: What an argument vector can hold: anything but NUL. Surrogates are bytes that are no UTF-8.
WORDS = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=30)
MAYBE = st.none() | WORDS | st.sampled_from(["-", "--", "--width", "-o", "@x", "a=b", "auto"])
SECONDS = fractions(0, flags.MOST_SECONDS)
SOURCES = WORDS | st.lists(
    st.sampled_from(["a.mp3", "offset=1", "volume=x", "", "loop=true", "fade_in=1", "fade-in=2", "=", "x=y"]),
    min_size=1,
).map(",".join).filter(bool)
TRACKS = st.builds(
    AudioTrack,
    source=SOURCES,
    offset=SECONDS,
    seek=SECONDS,
    duration=st.none() | fractions(Fraction(1, 1000), flags.MOST_SECONDS),
    volume=fractions(0, flags.MOST_VOLUME),
    fade_in=SECONDS,
    fade_out=SECONDS,
    loop=st.booleans(),
    rate=fractions(Fraction(1, flags.MOST_SPEED), flags.MOST_SPEED),
)
OPTIONS = st.builds(
    RenderOptions,
    width=st.integers(1, flags.MOST_PIXELS),
    height=st.integers(1, flags.MOST_PIXELS),
    fps=FPS,
    mode=st.sampled_from(Mode),
    start_frame=st.integers(0, flags.MOST_FRAMES),
    frame_count=st.integers(1, flags.MOST_FRAMES),
    concurrency=st.integers(1, flags.MOST_PAGES),
    quality=st.none() | st.integers(0, flags.MOST_QUALITY),
    video_codec=MAYBE,
    audio_codec=MAYBE,
    preset=MAYBE,
    pixel_format=MAYBE,
    headless=st.booleans(),
    base_url=MAYBE,
    props=MAYBE,
    seed=st.integers(0, flags.MOST_SEED),
    canvas_selector=MAYBE,
    browser=MAYBE,
    warmup=st.sampled_from(Warmup),
    timeout=fractions(Fraction(1, 1000), flags.MOST_WAITING),
    audio=st.lists(TRACKS, max_size=3).map(tuple),
)


@click.command()
@click.argument("page")
@render_flags
def _options(page: str, options: RenderOptions) -> RenderOptions:
    assert page == "page.html"
    return options


def read(*words: str) -> RenderOptions:
    """What the real flags make of `words`."""
    options = _options.main(["page.html", *words], prog_name="render", standalone_mode=False)
    assert isinstance(options, RenderOptions)
    return options


@given(OPTIONS)
def test_options_come_back_from_their_flags_as_they_were(options: RenderOptions) -> None:
    spelled = flags.to_flags(options)
    assert read(*spelled) == options
    assert flags.to_flags(read(*spelled)) == spelled


@given(OPTIONS)
def test_flags_without_the_range_say_all_but_the_range(options: RenderOptions) -> None:
    spelled = flags.to_flags(options, with_range=False)
    assert flags.to_flags(options)[4:] == spelled
    again = read(*spelled)
    assert replace(again, start_frame=options.start_frame, frame_count=options.frame_count) == options


def test_only_what_is_said_always_is_said_of_the_defaults() -> None:
    assert flags.to_flags(RenderOptions()) == (
        *("--start-frame", "0", "--frame-count", "30"),
        *("--width", "1920", "--height", "1080", "--fps", "30", "--mode", "canvas"),
    )


def test_the_flags_without_any_are_the_defaults() -> None:
    assert read() == RenderOptions()


def test_every_option_has_a_flag() -> None:
    known = {name for parameter in _options.params for name in parameter.opts}
    assert {flags.flag_of(field.name) for field in fields(RenderOptions)} <= known


def test_the_help_tells_the_true_defaults_and_choices() -> None:
    told = {parameter.name: parameter for parameter in _options.params if isinstance(parameter, click.Option)}
    for name in ("width", "height", "fps", "seed", "mode", "warmup", "concurrency", "start_frame", "timeout"):
        default = getattr(RenderOptions(), name)
        assert f"Default: {default}" in (told[name].help or "")
    for name, choices in (("mode", Mode), ("warmup", Warmup)):
        kind = told[name].type
        assert isinstance(kind, click.Choice)
        assert list(kind.choices) == [choice.value for choice in choices]


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (("--headless",), {}),
        (("--no-headless",), {"headless": False}),
        (("--duration", "2.5"), {"frame_count": 75}),
        (("--duration", "1/3", "--fps", "29.97"), {"fps": Fraction(30000, 1001), "frame_count": 10}),
        (("--duration", "1m30s"), {"frame_count": 2700}),
        (("--duration", "0.001"), {"frame_count": 1}),
        # Never through seconds: 31 / 30 * 30 must not be 30, nor 32.
        (("--duration", "31/30"), {"frame_count": 31}),
        (("--duration", "10", "--start-frame", "5", "--frame-count", "3"), {"start_frame": 5, "frame_count": 3}),
        (("--fps", "60"), {"fps": Fraction(60), "frame_count": 60}),
        (("--audio", "a.mp3"), {"audio": (AudioTrack("a.mp3"),)}),
        (
            ("--audio", "a,b.mp3,offset=1m30s,fade-in=0.5,loop=true,rate=3/2"),
            {"audio": (AudioTrack("a,b.mp3", Fraction(90), fade_in=Fraction(1, 2), loop=True, rate=Fraction(3, 2)),)},
        ),
    ],
)
def test_values_are_read_as_people_write_them(words: tuple[str, ...], changed: dict[str, object]) -> None:
    assert read(*words) == replace(RenderOptions(), **changed)  # type: ignore[arg-type]


# --- Values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("30", Fraction(30)),
        ("30.0", Fraction(30)),
        ("12.5", Fraction(25, 2)),
        (".5", Fraction(1, 2)),
        ("29.97", Fraction(30000, 1001)),
        ("29.970", Fraction(30000, 1001)),
        ("29.97003", Fraction(30000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("47.952", Fraction(48000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("119.88", Fraction(120000, 1001)),
        ("2997/100", Fraction(2997, 100)),
        ("29.98", Fraction(2998, 100)),
        ("30000/1001", Fraction(30000, 1001)),
        (" 60 / 2 ", Fraction(30)),
    ],
)
def test_a_frame_rate_is_exact(written: str, rate: Fraction) -> None:
    assert flags.parse_fps(written) == rate
    assert flags.parse_fps(flags.spell_fps(rate)) == rate


@given(FPS)
def test_a_frame_rate_comes_back_from_its_spelling(rate: Fraction) -> None:
    assert flags.parse_fps(flags.spell_fps(rate)) == rate


BAD = ["", " ", "0", "-1", "nan", "inf", "1e3", "0x10", "1/0", "1/2/3", "--", "٣", "1_000", "9" * 5000, "1/" + "9" * 61]


@pytest.mark.parametrize("text", [*BAD, "1001", "0.0000000001"])
def test_what_is_no_frame_rate_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="frame rate") as caught:
        flags.parse_fps(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", [*BAD, "1 week", "100000001", "5x"])
def test_what_is_no_duration_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        flags.parse_duration(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0", Fraction(0)),
        ("2.5", Fraction(5, 2)),
        ("1/3", Fraction(1, 3)),
        ("90s", Fraction(90)),
        ("1m30s", Fraction(90)),
        ("1h 0.1s", Fraction(36001, 10)),
        ("40ms", Fraction(1, 25)),
        ("0.1", Fraction(1, 10)),
    ],
)
def test_a_time_is_exact(written: str, seconds: Fraction) -> None:
    assert flags.parse_seconds(written) == seconds


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--fps", "0"), "frame rate"),
        (("--fps", "nan"), "frame rate"),
        (("--duration", "0"), "no time at all"),
        (("--duration", "-1"), "not a time"),
        (("--duration", "100000000", "--fps", "1000"), "at most"),
        (("--width", "0"), "between 1 and 16384"),
        (("--height", "-2"), "between"),
        (("--width", "9" * 5000), "--width"),
        (("--width", "640.5"), "whole number"),
        (("--start-frame", "-1"), "between 0"),
        (("--frame-count", "0"), "between 1"),
        (("--concurrency", "0"), "between 1"),
        (("--concurrency", "two"), "auto"),
        (("--quality", "-1"), "between 0 and 255"),
        (("--seed", "4294967296"), "between"),
        (("--mode", "svg"), "canvas"),
        (("--timeout", "0"), "between"),
        (("--video-codec", ""), "says nothing"),
        (("--audio", ""), "names no sound"),
        (("--audio", ",offset=1"), "names no sound"),
        (("--audio", "a.mp3,offset=x"), "offset"),
        (("--audio", "a.mp3,volume=-1"), "volume"),
        (("--audio", "a.mp3,rate=0"), "rate"),
        (("--audio", "a.mp3,loop=yes"), "true nor false"),
        (("--audio", "a.mp3,offset=1,offset=2"), "twice"),
    ],
)
def test_a_bad_value_is_one_error_that_names_its_flag(words: tuple[str, ...], said: str) -> None:
    with pytest.raises((click.UsageError, LogistError)) as caught:
        read(*words)
    error = caught.value
    message = error.format_message() if isinstance(error, click.UsageError) else f"{error} {error.hint}"
    assert said in message
    assert words[0].strip("-").split("-")[0] in message or isinstance(error, LogistError)
    assert "\n" not in message


def test_auto_is_as_many_pages_as_there_are_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1, 2}, raising=False)
    assert read("--concurrency", "auto").concurrency == 3


def test_a_render_of_too_many_frames_is_refused() -> None:
    with pytest.raises(LogistError, match="at most"):
        options_of(mode="dom", warmup="none", fps=Fraction(1000), frame_count=None, duration=Fraction(10**8), audio=())
