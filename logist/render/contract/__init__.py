"""The page contract: what runs in every document before its own scripts, made of the scripts in this folder."""

from __future__ import annotations

import json
from fractions import Fraction
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from logist.render.composition import read_props
from logist.render.options import AudioTrack, RenderOptions
from logist.render.protocol import Values

#: What it installs in each document, and how the document's observers are told what they have seen.
CONTRACT = "__LOGIST_PAGE__"
TELL_OBSERVERS = "__LOGIST_OBSERVERS__.tell()"
#: What it is made of: the parts of one function, in this order.
_PARTS = (
    *("base", "waiting", "chance", "clocks", "timers", "requests", "loads", "shadow_roots", "animations"),
    *("animation_calls", "svg", "media", "video_covers", "playback", "canvas", "replay", "compositions", "entry"),
)
_ONCE = f'"use strict"; if (window.{CONTRACT}) return;'


def contract_script(options: RenderOptions) -> str:
    """The whole script, with what `options` tell it. Raises UsageProblem for props that are not JSON."""
    config: dict[str, Any] = {"seed": options.seed, "fps": [options.fps.numerator, options.fps.denominator]}
    props = read_props(options.props, Path())
    if props is not None:
        # As text: in a script of its own `__proto__` would not be a name like any other.
        config["props"] = json.dumps(json.loads(props))
    parts = "\n".join(_script(name) for name in _PARTS)
    return f"{_script('observers')}\n((settings) => {{\n{_ONCE}\n{parts}\n}})({json.dumps(config)});"


@lru_cache
def _script(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.js").read_text(encoding="utf-8")


def track_of(values: Values) -> AudioTrack:
    """A sound as the contract tells it, in numbers that are as exact as it has them."""
    duration = values["duration"]
    return AudioTrack(
        source=values["src"],
        offset=_exact(values["offset"]),
        seek=_exact(values["seek"]),
        duration=None if duration is None else _exact(duration),
        volume=_exact(values["volume"]),
        fade_in=_exact(values["fadeIn"]),
        fade_out=_exact(values["fadeOut"]),
        loop=values["loop"],
        rate=_exact(values["rate"]),
    )


def _exact(number: float) -> Fraction:
    # As it is written: 0.1 is meant to be a tenth.
    return Fraction(repr(number))
