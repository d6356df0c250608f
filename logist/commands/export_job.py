"""`logist export-job`, and how a plan is made and written for it and for `logist render --emit-job`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from logist.commands.array_flags import array_flags, target_option
from logist.commands.output import print_json, tell
from logist.commands.parameters import STDIN, StorageUrl
from logist.commands.render_flags import render_flags
from logist.errors import ExtraMissing, UsageProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from logist.array_jobs.job import ArrayJob, ArrayOptions, Engine
    from logist.render.options import RenderOptions
    from logist.render.plan import RenderPlan

#: The name that stands for standard output where a file is written.
STDOUT = STDIN
DEFAULT_OUTPUT = "output.mp4"
_SPEC_SUFFIX = ".json"


def shards_option(function: Any) -> Any:
    """--shards."""
    help_text = "How many chunks; one for each frame when there are fewer. Default: --concurrency."
    return click.option("--shards", metavar="N", type=click.IntRange(min=1), help=help_text)(function)


@click.command("export-job")
@click.argument(
    "composition",
    metavar="INPUT",
    help="An HTML file, a folder with an index.html, or a URL; for --target also a spec (*.json).",
)
@click.option(
    "--output",
    metavar="VIDEO",
    default=DEFAULT_OUTPUT,
    help=f"The video that the chunks are for; they are named beside it. Default: {DEFAULT_OUTPUT}.",
)
@shards_option
@click.option(
    "-o",
    "--output-file",
    metavar="FILE",
    default=STDOUT,
    help="Where to write the JSON, or the definition. Default: standard output.",
)
@target_option
@click.option("--spec", "spec_file", metavar="FILE", help="Where --target writes the spec when INPUT is none.")
@click.option("--merge", is_flag=True, help="Print the definition of what merges, for when all tasks have ended well.")
@click.option(
    "--allow-outside", is_flag=True, help="Let the spec's outputs lie outside of its folder, here and in the tasks."
)
@click.option(
    "--storage",
    type=StorageUrl(),
    metavar="URL",
    help="Share no folder with the tasks: upload what is in the spec's folder to s3://…, gs://… or a folder.",
)
@array_flags
@render_flags
@click.pass_context
def export_job(
    ctx: click.Context,
    composition: str,
    output: str,
    shards: int | None,
    output_file: str,
    target: str | None,
    spec_file: str | None,
    merge: bool,
    allow_outside: bool,
    storage: str | None,
    array: ArrayOptions,
    options: RenderOptions,
) -> None:
    """Say as JSON into which chunks a render is cut, for those who run chunks with commands of their own.

    Names of files are meant from the folder of FILE. `logist render --emit-job` writes the commands too. With --target
    it is the definition of an array instead, each of whose tasks runs `logist job run SPEC --chunk auto --no-merge` in
    the current folder.
    """
    if target is None:
        _refuse(ctx, _of_arrays(), "{} is for --target", "name the engine: --target slurm, for instance")
        _export_list(composition, output, options, shards, output_file)
        return
    if composition.endswith(_SPEC_SUFFIX):
        _refuse_for_spec(ctx)
        source = _existing(composition, allow_outside=allow_outside)
    else:
        source = _planned(composition, output, options, shards, spec_file, allow_outside=allow_outside)
    from logist.array_jobs import engine_of

    _export_array(source, _Wanted(engine_of(target), array, output_file, storage, merge))


def _export_list(composition: str, output: str, options: RenderOptions, shards: int | None, file: str) -> None:
    from logist.render.plan import export_document

    plan = plan_job(composition, output, options, shards, file)
    write_document(export_document(plan), file)
    if file != STDOUT:
        tell(f"{file}: {_counted(plan)}")


# --- An array of tasks ---------------------------------------------------------------------------------------------


class _Source(NamedTuple):
    """The spec whose chunks an array runs."""

    file: str
    chunks: int
    allow_outside: bool
    #: What has to be written first; None: the spec is there.
    plan: RenderPlan | None = None


class _Wanted(NamedTuple):
    """The definition that is asked for, and where it is written."""

    engine: Engine
    options: ArrayOptions
    file: str
    storage: str | None
    #: Not of the array, but of what merges.
    merge: bool


def _of_arrays() -> set[str]:
    from dataclasses import fields

    from logist.array_jobs.job import ArrayOptions

    return {"spec_file", "merge", "allow_outside", "storage", *(field.name for field in fields(ArrayOptions))}


def _refuse_for_spec(ctx: click.Context) -> None:
    fits = (_of_arrays() - {"spec_file"}) | {"composition", "output_file", "target"}
    others = {parameter.name or "" for parameter in ctx.command.params} - fits
    hint = "leave it out: the spec says what is rendered; --parallelism says how many tasks run at the same time"
    _refuse(ctx, others, "{} is for a composition, and INPUT is a spec", hint)


def _refuse(ctx: click.Context, names: Collection[str], message: str, hint: str) -> None:
    """Raise UsageProblem when one of the options `names` was given."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is click.core.ParameterSource.COMMANDLINE:
            raise UsageProblem(message.format(parameter.opts[-1]), hint)


def _existing(file: str, *, allow_outside: bool) -> _Source:
    from pathlib import Path

    from logist.spec_files import load_spec

    if "://" in file:
        raise UsageProblem(f"{file[:80]} is no file that tasks could read", "fetch the spec, and name the file")
    loaded = load_spec(file, trust=False, allow_outside=allow_outside, stdin=lambda: sys.stdin.buffer, cwd=Path.cwd())
    return _Source(file, len(loaded.spec.chunks), allow_outside)


def _planned(
    composition: str, output: str, options: RenderOptions, shards: int | None, file: str | None, *, allow_outside: bool
) -> _Source:
    if file is None or not file.endswith(_SPEC_SUFFIX):
        raise UsageProblem(
            f"--target needs a spec, and {composition} is none",
            "name the file to write it to: --spec film.json, for instance",
        )
    made = plan_job(composition, output, options, shards, file)
    return _Source(file, len(made.chunks), allow_outside or _lies_outside(made), made)


def _export_array(source: _Source, wanted: _Wanted) -> None:
    from dataclasses import replace

    engine, file = wanted.engine, wanted.file
    job = _array_job(source, wanted)
    define, start = _definition_of(wanted)
    # Everything is checked before anything is written.
    definition = define(job)
    if source.plan is not None:
        from logist.render.plan import job_spec

        write_document(job_spec(source.plan), source.file)
    if wanted.storage is not None:
        job = replace(job, bundle=_bundled(source.file, wanted.storage))
        definition = define(job)
    write_text(definition, file)
    if file != STDOUT:
        from logist.chunk_selection import shell_word

        what = "the merge" if wanted.merge else job.summary
        tell(f"{file}: {what}; start it: {start.format(file=shell_word(file), name=job.name)}")
        if not wanted.merge and engine.merge is not None:
            tell(f"then the merge: {_merge_sentence(job)}")


def _array_job(source: _Source, wanted: _Wanted) -> ArrayJob:
    """The array whose definition is asked for, still without a bundle. Raises UsageProblem."""
    import os
    from pathlib import Path

    from logist.array_jobs.job import array_job

    cwd = Path.cwd()
    spec = os.path.relpath(cwd / source.file, cwd)
    if wanted.file != STDOUT and (cwd / wanted.file).resolve() == (cwd / spec).resolve():
        raise UsageProblem(f"{wanted.file} is the spec", "write the definition to another file")
    if wanted.storage is not None and source.allow_outside:
        raise UsageProblem("with --storage no output lies outside", "let the outputs lie in the spec's folder")
    return array_job(
        *(wanted.engine, spec, str(cwd), source.chunks, wanted.options),
        allow_outside=source.allow_outside,
        stored=wanted.storage is not None,
    )


def _definition_of(wanted: _Wanted) -> tuple[Callable[[ArrayJob], str], str]:
    """What writes the definition that is asked for, and the command that starts it. Raises UsageProblem."""
    engine = wanted.engine
    if not wanted.merge:
        return engine.array, engine.start
    if engine.merge is None:
        raise UsageProblem(f"the script of {engine.title} merges, too", "leave --merge out")
    if wanted.storage is not None:
        raise UsageProblem(
            "with --storage no task merges: the video is made where you want it",
            "run what the array's own export says, as `logist job run ADDRESS --trust --merge-only`",
        )
    return engine.merge, engine.start_merge


def _merge_sentence(job: ArrayJob) -> str:
    from logist.array_jobs.shell import command

    if job.bundle is None:
        return "the same command with --merge, and another file to write it to"
    return command(job.merge_words(job.bundle))


def _bundled(file: str, storage: str) -> str:
    """The address of the bundle that is made of a spec and its folder."""
    from pathlib import Path

    from logist.commands.stored import tell_bundle
    from logist.spec_bundles import make_bundle
    from logist.spec_files import load_spec
    from logist.storage.objects import open_storage

    loaded = load_spec(file, trust=False, allow_outside=False, stdin=lambda: sys.stdin.buffer, cwd=Path.cwd())
    return str(make_bundle(loaded, open_storage(storage), announce=tell_bundle).address)


# --- A plan, and how it is written ---------------------------------------------------------------------------------


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
    from logist.durable import to_json

    _replace(file, to_json(document, indent=2) + b"\n")


def write_text(text: str, file: str) -> None:
    """Write text to a file, whole or not at all, or to standard output. Raises UsageProblem, StorageFailed."""
    if file == STDOUT:
        click.echo(text.encode(), nl=False)
    else:
        _replace(file, text.encode())


def _replace(file: str, data: bytes) -> None:
    from pathlib import Path

    from logist.durable import replace_file
    from logist.render.output_file import check_output

    path = Path(file)
    check_output(path)
    replace_file(path, data)


def job_sentence(plan: RenderPlan, file: str) -> str:
    """What was written to `file`, and what to do with it."""
    import shlex

    outside = " --allow-outside" if _lies_outside(plan) else ""
    return f"{file}: {_counted(plan)}; run them: logist job run {shlex.quote(file)}{outside}"


def _lies_outside(plan: RenderPlan) -> bool:
    return plan.output.startswith("../")


def _counted(plan: RenderPlan) -> str:
    chunks, frames = len(plan.chunks), plan.options.frame_count
    return f"{chunks} chunk{'s' * (chunks != 1)} of {frames} frame{'s' * (frames != 1)}"
