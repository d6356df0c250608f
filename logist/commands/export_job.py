"""`logist export-job`, and how a plan is made and written for it and for `logist render --emit-job`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from logist.commands.output import print_json, tell
from logist.commands.parameters import STDIN
from logist.commands.render_flags import render_flags
from logist.errors import ExtraMissing, UsageProblem

if TYPE_CHECKING:
    from logist.render.options import RenderOptions
    from logist.render.plan import RenderPlan

#: The name that stands for standard output where a file is written.
STDOUT = STDIN
DEFAULT_OUTPUT = "output.mp4"


def shards_option(function: Any) -> Any:
    """--shards."""
    help_text = "How many chunks; one for each frame when there are fewer. Default: --concurrency."
    return click.option("--shards", metavar="N", type=click.IntRange(min=1), help=help_text)(function)


@click.command("export-job")
@click.argument("composition", metavar="INPUT", help="An HTML file, a folder with an index.html, or a URL.")
@click.option(
    "--output",
    metavar="VIDEO",
    default=DEFAULT_OUTPUT,
    help=f"The video that the chunks are for; they are named beside it. Default: {DEFAULT_OUTPUT}.",
)
@shards_option
@click.option(
    "-o", "--output-file", metavar="FILE", default=STDOUT, help="Where to write the JSON. Default: standard output."
)
@render_flags
def export_job(composition: str, output: str, shards: int | None, output_file: str, options: RenderOptions) -> None:
    """Say as JSON into which chunks a render is cut, for those who run chunks with commands of their own.

    Names of files are meant from the folder of FILE. `logist render --emit-job` writes the commands too.
    """
    from logist.render.plan import export_document

    plan = plan_job(composition, output, options, shards, output_file)
    write_document(export_document(plan), output_file)
    if output_file != STDOUT:
        tell(f"{output_file}: {_counted(plan)}")


def plan_job(given: str, output: str, options: RenderOptions, shards: int | None, file: str) -> RenderPlan:
    """The plan of a job that is written to `file`: names are meant from its folder. Raises UsageProblem.

    Without `shards` there are as many as there were to be pages at the same time, and each has one.
    """
    from dataclasses import replace
    from pathlib import Path

    from logist.render.composition import absolute, look_up, seen_from, seen_options
    from logist.render.plan import plan

    cwd = Path.cwd()
    found = look_up(given, options, cwd)
    place = None if file == STDOUT else absolute(file, cwd)
    folder = cwd if place is None else place.parent
    target = absolute(output, cwd)
    if target in (found.path, place):
        raise UsageProblem(f"{output} is not the only thing of that name here", "choose another output")
    seen = seen_options(options, cwd, folder)
    if shards is None:
        shards, seen = options.concurrency, replace(seen, concurrency=1)
    made = plan(found.seen_from(folder), seen_from(target, folder), seen, shards)
    _check_encoding(made)
    return made


def _check_encoding(plan: RenderPlan) -> None:
    """Whether the frames can be encoded like this, as far as this machine can tell."""
    from pathlib import Path

    from logist.render.encoders import settings_for

    chunk = plan.chunks[0]
    try:
        settings_for(Path(plan.output), plan.options, part=False)
        settings_for(Path(chunk.output), plan.chunk_options(chunk), part=True)
    except ExtraMissing:
        # Only what runs the chunks has to be able to encode.
        return


def write_document(document: dict[str, Any], file: str) -> None:
    """Write JSON to a file, whole or not at all, or to standard output. Raises UsageProblem, StorageFailed."""
    if file == STDOUT:
        print_json(document)
        return
    from pathlib import Path

    from logist.durable import replace_file, to_json
    from logist.render.output_file import check_output

    path = Path(file)
    check_output(path)
    replace_file(path, to_json(document, indent=2) + b"\n")


def job_sentence(plan: RenderPlan, file: str) -> str:
    """What was written to `file`, and what to do with it."""
    import shlex

    outside = " --allow-outside" if plan.output.startswith("../") else ""
    return f"{file}: {_counted(plan)}; run them: logist job run {shlex.quote(file)}{outside}"


def _counted(plan: RenderPlan) -> str:
    chunks, frames = len(plan.chunks), plan.options.frame_count
    return f"{chunks} chunk{'s' * (chunks != 1)} of {frames} frame{'s' * (frames != 1)}"
