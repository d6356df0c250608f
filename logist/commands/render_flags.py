"""The flags that say how a composition is rendered: `render` and `export-job` have them both.

What reads their values is imported when there is one: `--help` must feel instant.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from logist.commands.parameters import Decorated
from logist.errors import UsageProblem

if TYPE_CHECKING:
    from fractions import Fraction

    from logist.render.options import AudioTrack, RenderOptions


class Written(click.ParamType[Any]):
    """A value that `parse` reads exactly; what it says of one that it can't read is the usage error."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it; a usage error says how it is written."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def written(field: str) -> Written:
    """The type of the flag that sets a field of `RenderOptions`."""

    def parse(text: str) -> Any:
        from logist.render.flags import PARSERS

        return PARSERS[field](text)

    return Written(field, parse)


def _parse_concurrency(text: str) -> Any:
    from logist.processes import processors
    from logist.render.flags import MOST_PAGES, PARSERS

    if text == "auto":
        return min(processors(), MOST_PAGES)
    try:
        return PARSERS["concurrency"](text)
    except ValueError as error:
        raise ValueError(f"{error}, nor is it auto") from error


def _option(flag: str, metavar: str, help_text: str, **settings: Any) -> Callable[[Any], Any]:
    kind = settings.pop("type", None) or written(flag.strip("-").replace("-", "_"))
    return click.option(flag, metavar=metavar, type=kind, help=help_text, **settings)


#: In the order of the help. None has a default here: those of `RenderOptions` count.
_FLAGS = (
    _option("--width", "N", "Pixels. Default: 1920."),
    _option("--height", "N", "Pixels. Default: 1080."),
    _option("--fps", "RATE", "Frames a second: 30, 29.97 (which is 30000/1001), 24000/1001, 12.5. Default: 30."),
    _option(
        "--duration",
        "TIME",
        "How much is rendered when no --frame-count is given: 2.5, 1/3, 90s or 1m30s. Default: 1 second.",
    ),
    _option("--start-frame", "N", "The first frame that is rendered. Default: 0."),
    _option("--frame-count", "N", "How many frames are rendered."),
    click.option(
        "--mode",
        type=click.Choice(["canvas", "dom"]),
        help="What a frame is: the pixels of a canvas, or the whole page. Default: canvas.",
    ),
    _option("--canvas-selector", "CSS", "Which canvas. Default: the first one."),
    _option(
        "--quality",
        "N",
        "The encoder's constant rate factor: less is better, 0 is without loss in h264. Default: a good one.",
    ),
    _option(
        "--video-codec",
        "CODEC",
        "h264, h265, vp9, av1, prores, or an encoder's name. Default: vp9 for .webm, h264 for all else.",
    ),
    _option("--audio-codec", "CODEC", "aac, opus, flac, pcm_s16le, …; none: no sound. Default: what suits the output."),
    _option("--preset", "NAME", "The encoder's preset of this name."),
    _option("--pixel-format", "NAME", "yuv420p, yuv444p, yuva420p (VP9 with transparency), …"),
    _option(
        "--audio",
        "FILE[,NAME=VALUE]…",
        "A sound beside those of the page, with offset, seek, duration, fade-in and fade-out (times), volume, rate "
        "(numbers) or loop=true. Can be given several times.",
        multiple=True,
    ),
    _option(
        "--props",
        "JSON|@FILE",
        "What the page finds in window.__HELIOS_PROPS__: a JSON object, or @ and the file that holds it.",
    ),
    _option("--seed", "N", "What Math.random begins with. Default: 305419896."),
    click.option(
        "--warmup",
        type=click.Choice(["replay", "none"]),
        help="What the page sees of the frames before the first one: each of them, or none, which is right for pages "
        "that only follow the time. Default: replay.",
    ),
    _option("--timeout", "TIME", "How long one frame, or the page's being ready, may take. Default: 30s."),
    _option(
        "--concurrency",
        "N|auto",
        "Pages that render at the same time; auto: one for each processor. The result is the same. Default: 1.",
        type=Written("pages", _parse_concurrency),
    ),
    _option("--base-url", "URL", "Open INPUT below this URL, as it is named from this folder."),
    _option("--browser", "PATH", "The browser's program. Default: LOGIST_BROWSER, then the first that is found."),
    click.option("--headless/--no-headless", default=None, help="Show no window, or show one. Default: none."),
)


def render_flags(function: Decorated) -> Decorated:
    """The flags that make a `RenderOptions`, which `function` gets as `options`."""

    @functools.wraps(function)
    def with_options(*args: Any, **values: Any) -> Any:
        from dataclasses import fields

        from logist.render.options import RenderOptions

        names = (*(field.name for field in fields(RenderOptions)), "duration")
        given = {name: values.pop(name) for name in names}
        return function(*args, options=options_of(**given), **values)

    for flag in reversed(_FLAGS):
        flag(with_options)
    return with_options  # type: ignore[return-value]  # click calls it with what it is given


def options_of(
    *,
    fps: Fraction | None,
    frame_count: int | None,
    duration: Fraction | None,
    mode: str | None,
    warmup: str | None,
    audio: Iterable[AudioTrack],
    **others: Any,
) -> RenderOptions:
    """The options that the values of flags mean; None: not given. Raises UsageProblem when they are too many frames."""
    from fractions import Fraction

    from logist.render.flags import frames_of
    from logist.render.options import Mode, RenderOptions, Warmup

    default = RenderOptions()
    rate = default.fps if fps is None else fps
    try:
        frames = frame_count or frames_of(duration or Fraction(1), rate)
    except ValueError as error:
        raise UsageProblem(str(error), "give a shorter --duration or fewer --fps") from error
    return RenderOptions(
        fps=rate,
        frame_count=frames,
        mode=default.mode if mode is None else Mode(mode),
        warmup=default.warmup if warmup is None else Warmup(warmup),
        audio=tuple(audio),
        **{name: value for name, value in others.items() if value is not None},
    )
