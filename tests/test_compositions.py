"""The compositions in examples/: each renders in its modes, twice alike, and in chunks as in one piece."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pictures
import pytest

from logist.render.browser import find_browser
from logist.render.launch import RunningBrowser, open_browser
from logist.render.options import AudioTrack, Mode, RenderOptions, Warmup

COMPOSITIONS = Path(__file__).resolve().parents[1] / "examples" / "compositions"
#: Two seconds, so that all that happens in them is seen, in few frames.
FPS, COUNT = Fraction(10), 20
ON_A_CANVAS = {"canvas", "webgl"}
NAMES = sorted(path.stem for path in COMPOSITIONS.glob("*.html"))
CASES = [(name, mode) for name in NAMES for mode in Mode if mode is Mode.DOM or name in ON_A_CANVAS]


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[RunningBrowser]:
    """One browser for all compositions."""
    with open_browser(find_browser(browser_path, os.environ)) as running:
        yield running


def render(
    browser: RunningBrowser, name: str, frames: range, mode: Mode, warmup: Warmup = Warmup.REPLAY
) -> dict[int, bytes]:
    """The pixels of some frames, from a page of their own."""
    options = RenderOptions(160, 90, FPS, mode, warmup=warmup, timeout=Fraction(20))
    page = browser.open_page((COMPOSITIONS / f"{name}.html").as_uri(), options)
    taken = {frame: page.frame(frame) for frame in frames}
    page.check()
    assert page.notes == ()
    return {frame: pictures.pixels(pictures.picture(png)) for frame, png in taken.items()}


def chunks(count: int) -> list[range]:
    """The frames in as many parts."""
    ends = [COUNT * part // count for part in range(count + 1)]
    return [range(start, end) for start, end in itertools.pairwise(ends)]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_a_composition_renders_twice_alike_and_in_chunks_as_in_one_piece(
    browser: RunningBrowser, name: str, mode: Mode
) -> None:
    whole = render(browser, name, range(COUNT), mode)
    assert len(set(whole.values())) > COUNT // 2, "it hardly moves"
    assert render(browser, name, range(COUNT), mode) == whole
    starts = {part.start: part for count in (7, 3, 2) for part in chunks(count) if part.start > 0}
    for start, part in sorted(starts.items()):
        for frame, pixels in render(browser, name, part, mode).items():
            assert pixels == whole[frame], f"frame {frame} of the part that begins at {start}"


def test_a_page_that_is_told_its_frame_needs_no_replay(browser: RunningBrowser) -> None:
    whole = render(browser, "helios-seek", range(COUNT), Mode.DOM)
    assert render(browser, "helios-seek", range(13, COUNT), Mode.DOM, Warmup.NONE) == {
        frame: whole[frame] for frame in range(13, COUNT)
    }


def test_the_sounds_of_the_audio_composition_are_found(browser: RunningBrowser) -> None:
    page = browser.open_page((COMPOSITIONS / "audio.html").as_uri(), RenderOptions(160, 90, FPS, Mode.DOM))
    page.frame(COUNT - 1)
    pad, chime, drum = ((COMPOSITIONS / "assets" / f"{name}.wav").as_uri() for name in ("pad", "chime", "drum"))
    half = Fraction("0.5")
    assert page.tracks() == (
        AudioTrack(pad, volume=Fraction("0.25"), fade_in=half, fade_out=half, loop=True),
        AudioTrack(chime, offset=half, seek=Fraction("0.05")),
        AudioTrack(drum, offset=Fraction(1), rate=Fraction("0.8")),
        AudioTrack(chime, offset=Fraction("1.5")),
    )


def test_each_composition_is_told_of() -> None:
    text = (COMPOSITIONS / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"`{name}.html`" not in text] == []
