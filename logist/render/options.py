"""What a render is asked for: values that command-line flags can spell. Time is frames and fractions, never floats."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

#: The seed of `Math.random` in a composition when none is given; Helios has the same.
DEFAULT_SEED = 305_419_896


class Mode(StrEnum):
    """Which pixels a frame is made of: those of one canvas, or of the whole page."""

    CANVAS = "canvas"
    DOM = "dom"


class Warmup(StrEnum):
    """What a page sees of the frames before the first one that is wanted: each of them, or none."""

    REPLAY = "replay"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """A sound and how it is heard. Times are in seconds."""

    #: A file, or a URL.
    source: str
    #: When it begins, on the composition's clock.
    offset: Fraction = Fraction(0)
    #: Where in the source it begins.
    seek: Fraction = Fraction(0)
    #: For how long it is heard, on the composition's clock; None: to the source's end, for ever when it loops.
    duration: Fraction | None = None
    volume: Fraction = Fraction(1)
    fade_in: Fraction = Fraction(0)
    fade_out: Fraction = Fraction(0)
    loop: bool = False
    #: How fast it is played, its pitch kept; 2 is twice as fast.
    rate: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """How a composition is rendered. Frame n is the page at n / fps seconds, also where a render starts later."""

    #: In pixels.
    width: int = 1920
    height: int = 1080
    #: Frames a second.
    fps: Fraction = Fraction(30)
    mode: Mode = Mode.CANVAS
    start_frame: int = 0
    frame_count: int = 30
    #: Pages that render at the same time.
    concurrency: int = 1
    #: The encoder's constant rate factor; None: the encoder's own default.
    quality: int | None = None
    #: A codec (h264, h265, vp9, av1, prores) or an encoder's own name; None: what suits the output's name.
    video_codec: str | None = None
    audio_codec: str | None = None
    preset: str | None = None
    pixel_format: str | None = None
    headless: bool = True
    #: The composition is opened below this URL instead of as a file.
    base_url: str | None = None
    #: JSON, or `@` and the name of a file that holds it.
    props: str | None = None
    seed: int = DEFAULT_SEED
    #: Which canvas; None: the first one.
    canvas_selector: str | None = None
    #: The browser's program; None: the first that is found.
    browser: str | None = None
    warmup: Warmup = Warmup.REPLAY
    #: Seconds that one frame, or the page's being ready, may take.
    timeout: Fraction = Fraction(30)
    #: Sounds beside those of the page.
    audio: tuple[AudioTrack, ...] = ()

    @property
    def end_frame(self) -> int:
        """The first frame after the render."""
        return self.start_frame + self.frame_count
