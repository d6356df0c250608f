"""`logist render`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from logist.commands.export_job import (
    DEFAULT_OUTPUT,
    STDOUT,
    job_sentence,
    plan_job,
    shards_option,
    write_document,
)
from logist.commands.output import print_json, tell
from logist.commands.parameters import json_option
from logist.commands.render_flags import Written, render_flags, written
from logist.errors import UsageProblem

if TYPE_CHECKING:
    from pathlib import Path

    from logist.render.notes import Whole
    from logist.render.options import RenderOptions
    from logist.render.rendering import Progress, Rendered

#: Pictures on a contact sheet.
_SHEET = 12
_MOST_ON_SHEET = 400
_DEFAULT_PICTURE = "output.png"
#: Of a sequence that is stopped.
_PICTURES_LEFT = "the pictures that were made are there, each of them whole"


class What(NamedTuple):
    """What is made: at most one of these is asked for; none: a whole video."""

    emit_job: str | None = None
    frame: int | None = None
    contact_sheet: int | None = None
    part: bool = False
    #: Of a part: the first frame and the number of frames of the whole render.
    of_frames: tuple[int, int] | None = None

    def given(self) -> list[str]:
        """The flags that were given."""
        flags = {"--emit-job": self.emit_job, "--frame": self.frame, "--contact-sheet": self.contact_sheet}
        return [flag for flag, value in flags.items() if value is not None] + ["--part"] * self.part


def _parse_sheet(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= _MOST_ON_SHEET:
        return int(text)
    raise ValueError(f"{text[:40]!r} is not a number of pictures, 1 to {_MOST_ON_SHEET}; name INPUT before the flag")


def _parse_whole(text: str) -> tuple[int, int]:
    from logist.render.flags import PARSERS

    start, comma, count = text.partition(",")
    if not comma:
        raise ValueError(f"{text[:40]!r} is not a range of frames; write it as START,COUNT")
    return PARSERS["start_frame"](start), PARSERS["frame_count"](count)


@click.command()
@click.argument("composition", metavar="INPUT", help="An HTML file, a folder with an index.html, or a URL.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The video to make (.mp4, .m4v, .mov, .mkv, .webm), or pictures: frames/f-%04d.png. A file of that name stays "
    f"until the new one is whole. Default: {DEFAULT_OUTPUT}.",
)
@render_flags
@click.option("--frame", metavar="N", type=written("start_frame"), help="Make a picture (.png) of this frame alone.")
@click.option(
    "--contact-sheet",
    metavar="[N]",
    type=Written("pictures", _parse_sheet),
    is_flag=False,
    flag_value=str(_SHEET),
    help=f"Make one picture (.png) with N of the frames, evenly spread. N is {_SHEET} when it is left out.",
)
@click.option(
    "--emit-job",
    metavar="FILE",
    help="Render nothing: write the chunks and their commands as a spec for `logist job run`; - is standard output.",
)
@shards_option
@click.option(
    "--part",
    is_flag=True,
    help="Make a part for `logist merge`: without sound, which the merge mixes. The commands of chunks use it.",
)
@click.option(
    "--of-frames",
    metavar="START,COUNT",
    type=Written("frames", _parse_whole),
    help="With --part: the frames of the whole render, so that no merge takes a part of it for all.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@json_option
def render(
    composition: str,
    output: str | None,
    options: RenderOptions,
    emit_job: str | None,
    shards: int | None,
    frame: int | None,
    contact_sheet: int | None,
    part: bool,
    of_frames: tuple[int, int] | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Make a video of the composition INPUT, frame by frame, in a browser that shows no window.

    Every frame is what the page shows at exactly its time, however long it takes to draw.
    """
    what = What(emit_job, frame, contact_sheet, part, of_frames)
    if of_frames is not None and not part:
        raise UsageProblem("--of-frames is for a part", "add --part")
    if len(what.given()) > 1:
        raise UsageProblem(f"{' and '.join(what.given())} exclude each other", "give one of them")
    if emit_job is not None:
        _emit(composition, DEFAULT_OUTPUT if output is None else output, options, shards, emit_job, as_json=as_json)
        return
    if shards is not None:
        raise UsageProblem("--shards is for a job that is cut into chunks", "add --emit-job FILE, or use --concurrency")
    _render(composition, output, options, what, quiet=quiet, as_json=as_json)


def _emit(given: str, output: str, options: RenderOptions, shards: int | None, file: str, *, as_json: bool) -> None:
    from logist.render.plan import job_spec

    plan = plan_job(given, output, options, shards, file)
    document = job_spec(plan)
    write_document(document, file)
    if file != STDOUT:
        tell(job_sentence(plan, file))
        if as_json:
            print_json(document)


def _render(given: str, output: str | None, options: RenderOptions, what: What, *, quiet: bool, as_json: bool) -> None:
    from pathlib import Path

    from logist.commands.signals import ended_cleanly
    from logist.console.render import show_frames
    from logist.render.browser import check_display
    from logist.render.composition import absolute, look_up
    from logist.render.output_file import landing

    cwd = Path.cwd()
    found = look_up(given, options, cwd)
    if what.part and options.audio:
        raise UsageProblem("a part has no sound, so --audio has no meaning for it", "give --audio to logist merge")
    pictures = what.frame is not None or what.contact_sheet is not None
    target = Path((_DEFAULT_PICTURE if pictures else DEFAULT_OUTPUT) if output is None else output)
    if found.path in (absolute(str(target), cwd), landing(cwd / target)):
        raise UsageProblem(f"{target} is the composition itself", "choose another output")
    if not options.headless:
        check_display(os.environ)
    left = (_PICTURES_LEFT,) if _is_sequence(target, what) else ()
    with ended_cleanly(*left), show_frames(quiet=quiet, environ=os.environ) as show:
        made = _made(found.url, target, options, what, show)
    for note in made.statistics.notes:
        tell(f"the page: {note}")
    tell(_sentence(made, options))
    if as_json:
        print_json(_values(made, options))


def _made(url: str, target: Path, options: RenderOptions, what: What, show: Progress) -> Rendered:
    from dataclasses import replace

    from logist.render import rendering

    if what.frame is not None:
        return rendering.render_picture(url, target, replace(options, start_frame=what.frame, frame_count=1))
    if what.contact_sheet is not None:
        return rendering.contact_sheet(url, target, options, what.contact_sheet, show)
    if what.part:
        return rendering.render_part(url, target, options, show, _whole(what, options))
    if _is_sequence(target, what):
        return rendering.render_sequence(url, target, options, show)
    return rendering.render_video(url, target, options, show)


def _whole(what: What, options: RenderOptions) -> Whole | None:
    from logist.render.notes import Whole

    if what.of_frames is None:
        return None
    whole = Whole(*what.of_frames)
    if not whole.start_frame <= options.start_frame < options.end_frame <= whole.end_frame:
        raise UsageProblem(
            f"frames {options.start_frame} to {options.end_frame - 1} are not all of the "
            f"{whole.frame_count} from {whole.start_frame} on",
            "correct --of-frames, --start-frame or --frame-count",
        )
    return whole


def _is_sequence(target: Path, what: What) -> bool:
    return not what.given() and target.suffix.lower() == ".png"


def _sentence(made: Rendered, options: RenderOptions) -> str:
    frames = "1 frame" if made.frames == 1 else f"{made.frames} frames"
    speed = f" ({made.frames / made.seconds:.3g} frames a second)" if made.seconds > 0 else ""
    return f"{made.output}: {frames} of {options.width}x{options.height} pixels, made in {made.seconds:.1f} s{speed}"


def _values(made: Rendered, options: RenderOptions) -> dict[str, Any]:
    from dataclasses import asdict

    from logist.render.flags import spell_track

    seen = made.statistics
    values = {
        "output": str(made.output),
        "frames": made.frames,
        "width": options.width,
        "height": options.height,
        "fps": str(options.fps),
        "duration": float(made.frames / options.fps),
        "seconds": made.seconds,
        "first_frame": seen.first_frame,
        "finishing": made.finishing,
        "pages": seen.pages,
        "browser": seen.browser,
        "tracks": [spell_track(track) for track in seen.tracks],
        "notes": list(seen.notes),
    }
    return values if made.merged is None else {**asdict(made.merged), **values}
