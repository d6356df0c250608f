"""`logist job run`, `step`, `preview` and `poststep`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from logist.chunk_selection import is_spec_target
from logist.commands.chunks import SpecOptions, adapter_options, run_target
from logist.commands.driving import Show, check_timeout, open_run, progress_options, show_as
from logist.commands.invocation import HERE, Place
from logist.commands.output import print_json, print_text, tell, tell_drawn
from logist.commands.parameters import (
    STDIN,
    Duration,
    StorageUrl,
    job_argument,
    json_option,
    read_bytes,
    target_argument,
)
from logist.errors import ExitCode, UsageProblem

if TYPE_CHECKING:
    from logist.commands.invocation import Invocation
    from logist.models.manifest import JobManifest
    from logist.turn_requests import Preview


#: Edited files that a preview names.
_NAMED_EDITS = 5


class Reply(NamedTuple):
    """A reply that is fed instead of asking the agent, and where it is from."""

    data: bytes
    name: str


@click.command()
@target_argument
@click.option("-q", "--quiet", is_flag=True, help="Print the verdict alone.")
@click.option("-v", "--verbose", is_flag=True, help="Print all that the agents print; a line for each chunk.")
@progress_options
@click.option(
    "--timeout",
    type=Duration(),
    metavar="DURATION",
    help="Of a job: stop after this long, resumable, with exit code 124. Of a spec: the limit of each chunk.",
)
@click.option(
    "--max-wait",
    type=Duration(),
    metavar="DURATION",
    help="Of a job: how long to wait, in all, for a busy provider of a model. Default: the role's.",
)
@click.option("--chunk", multiple=True, metavar="ID", help="Spec: only this chunk, without state; auto: by the array.")
@click.option(
    "--concurrency", default="1", show_default=True, metavar="N", help="Spec: chunks at once; auto: a CPU each."
)
@click.option("--no-merge", is_flag=True, help="Spec: leave the chunks as they are.")
@click.option("--merge-only", is_flag=True, help="Spec: merge the chunks that are there, whoever made them.")
@click.option("--retries", type=click.IntRange(min=0, max=1000), default=0, help="Spec: more tries of a failed chunk.")
@click.option(
    "--halt",
    type=click.Choice(("now", "soon", "never")),
    default="now",
    show_default=True,
    help="Spec: a failed chunk kills the running ones, lets them finish, or stops nothing.",
)
@click.option(
    "--adapter",
    default="local",
    show_default=True,
    metavar="NAME",
    help="Where the commands run; those of a job: here, or on Dask.",
)
@click.option("--adapter-option", multiple=True, metavar="NAME=VALUE", help="What the adapter is told.")
@click.option("--scheduler", metavar="URL", help="With --adapter dask: the Dask scheduler, like tcp://HOST:8786.")
@click.option("--cluster", metavar="PATH", help="With --adapter dask: what starts a cluster, MODULE:CLASS.")
@click.option(
    "--storage",
    type=StorageUrl(),
    default="",
    metavar="URL",
    help="Spec: share no folder with the workers, but s3://…, gs://… or a path.",
)
@click.option("--force", is_flag=True, help="Spec: run what is done already, too.")
@click.option("-n", "--dry-run", is_flag=True, help="Spec: show what would run; nothing changes.")
@click.option("--trust", is_flag=True, help="Spec: run the commands of a spec from a URL.")
@click.option("--allow-outside", is_flag=True, help="Spec: outputs may lie outside the spec's folder.")
@click.pass_obj
def run(
    invocation: Invocation,
    job: str | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    progress: str,
    timeout: float | None,
    max_wait: float | None,
    chunk: tuple[str, ...],
    concurrency: str,
    no_merge: bool,
    merge_only: bool,
    retries: int,
    halt: str,
    adapter: str,
    adapter_option: tuple[str, ...],
    scheduler: str | None,
    cluster: str | None,
    storage: str,
    force: bool,
    dry_run: bool,
    trust: bool,
    allow_outside: bool,
) -> int:
    """Run JOB until worker, checks and supervisor agree, someone cancels it, or a human is needed.

    Or run a spec: its chunks, several at once, then the merge. What is done and unchanged is not run again. Logs, and
    joblog.tsv with a line for each try, are in .logist/ beside it; more: `logist help specs`.

    Ctrl-C once stops after the step or the running chunks, twice stops them too; the same command goes on.
    """
    check_timeout(timeout)
    show = show_as(progress, as_json=as_json, quiet=quiet, verbose=verbose)
    adapter_option = (*adapter_option, *_as_adapter_options(scheduler=scheduler, cluster=cluster))
    options = SpecOptions(
        chunk=chunk,
        concurrency=concurrency,
        merge=not no_merge,
        merge_only=merge_only,
        retries=retries,
        timeout=timeout,
        halt=halt,
        adapter=adapter,
        adapter_option=adapter_option,
        storage=storage,
        force=force,
        dry_run=dry_run,
        trust=trust,
        allow_outside=allow_outside,
    )
    if job is not None and is_spec_target(job):
        if max_wait is not None:
            raise UsageProblem(f"--max-wait is for a job, and {job} is a spec", "leave it out")
        return run_target(job, options, progress=show.progress, verbose=verbose)
    if given := options.given_for_spec():
        raise UsageProblem(f"{given[0]} is for a spec, and {job or 'the selected job'} is a job", "leave it out")
    place = Place(adapter, adapter_options(adapter_option))
    return _drive(invocation, job, show, timeout=timeout, max_wait=max_wait, place=place)


def _as_adapter_options(**given: str | None) -> list[str]:
    """Flags that are adapter options by another name."""
    return [f"{name}={value}" for name, value in given.items() if value is not None]


@click.command()
@job_argument
@click.option("-n", "--dry-run", is_flag=True, help="Show what the step would be, as `preview` does.")
@click.option("-q", "--quiet", is_flag=True, help="Print the outcome alone.")
@click.option("-v", "--verbose", is_flag=True, help="Print all that the agent prints.")
@json_option
@click.pass_obj
def step(invocation: Invocation, job: str | None, dry_run: bool, quiet: bool, verbose: bool, as_json: bool) -> int:
    """Take one step of JOB: ask the agent whose turn it is, keep the evidence, decide what follows."""
    if dry_run:
        _show_preview(invocation, job, as_json=as_json)
        return ExitCode.SUCCESS
    show = show_as("auto", as_json=as_json, quiet=quiet, verbose=verbose)
    return _drive(invocation, job, show, single_step=True)


@click.command()
@job_argument
@click.option("-r", "--reply", "reply_file", required=True, metavar="FILE", help="The reply; - is standard input.")
@click.option("-q", "--quiet", is_flag=True, help="Print the outcome alone.")
@json_option
@click.pass_obj
def poststep(invocation: Invocation, job: str | None, reply_file: str, quiet: bool, as_json: bool) -> int:
    """Take the next step of JOB with a reply from a file instead of asking its agent.

    All else is as in `step`: the evidence, the checks, the decision. The reply is what an agent would hand back:
    {"action": "COMPLETED", "evidence_files": [], "summary_for_supervisor": "..."}.
    """
    from logist.models.reply import MAX_REPLY_BYTES

    # One byte more than is allowed, so that what is too long is refused and not cut.
    name = "standard input" if reply_file == STDIN else reply_file
    reply = Reply(read_bytes(reply_file, "--reply", MAX_REPLY_BYTES + 1), name)
    show = show_as("auto", as_json=as_json, quiet=quiet, verbose=False)
    return _drive(invocation, job, show, single_step=True, reply=reply)


def _drive(
    invocation: Invocation,
    job: str | None,
    show: Show,
    *,
    single_step: bool = False,
    reply: Reply | None = None,
    timeout: float | None = None,
    max_wait: float | None = None,
    place: Place = HERE,
) -> int:
    from logist.job_processor import run_job

    job_id = invocation.job_id(job)
    with open_run(invocation, show, timeout=timeout, max_wait=max_wait, place=place) as runtime:
        result = run_job(
            runtime,
            job_id,
            single_step=single_step,
            reply=None if reply is None else reply.data,
            reply_name="" if reply is None else reply.name,
        )
    if show.card:
        _show_end(invocation, result.manifest, result.exit_code)
    return result.exit_code


def _show_end(invocation: Invocation, manifest: JobManifest, exit_code: ExitCode) -> None:
    """The card on stderr; after a single step that leaves the job waiting for the next one, only what that is."""
    from logist.console import drawn
    from logist.console.card import card_lines
    from logist.job_report import build_report

    if exit_code is ExitCode.SUCCESS and manifest.status == "PENDING":
        tell(f"next is step {manifest.step + 1}, {manifest.next_role}: logist job run {manifest.id}")
        return
    report = build_report(invocation.store(), manifest.id)
    card = drawn(lambda width: card_lines(report, width=width, exit_code=int(exit_code)), sys.stderr)
    tell_drawn(f"\n{card}")


@click.command()
@job_argument
@json_option
@click.pass_obj
def preview(invocation: Invocation, job: str | None, as_json: bool) -> None:
    """Show the next step of JOB: whose turn it is, the command, and the exact prompt. Nothing changes."""
    _show_preview(invocation, job, as_json=as_json)


def _show_preview(invocation: Invocation, job: str | None, *, as_json: bool) -> None:
    from dataclasses import asdict

    from logist.job_processor import preview_step

    job_id = invocation.job_id(job)
    with invocation.runtime() as runtime:
        shown = preview_step(runtime, job_id)
    if as_json:
        print_json({**asdict(shown), "cwd": str(shown.cwd)})
    else:
        print_text(_preview_text(shown))


def _preview_text(shown: Preview) -> str:
    import shlex

    from logist.durations import format_duration

    rows = {
        **_first(shown.hand_edits, shown.step - 1),
        "step": f"{shown.step}, attempt {shown.attempt}, phase {shown.phase}",
        "role": f"{shown.role}, played by {shown.agent}" + (" (scripted: no model is asked)" if shown.scripted else ""),
        "command": shlex.join(shown.argv),
        "folder": str(shown.cwd),
        "environment": " ".join(shown.env),
        "timeout": "none" if shown.timeout is None else format_duration(shown.timeout),
        "prompt": f"{len(shown.prompt)} characters" + (", on standard input" if shown.stdin else ""),
    }
    below = [shown.prompt.rstrip("\n")]
    if shown.commands is not None:
        from logist.plain_text import plain_text

        chunks = sum(command.name != "merge" for command in shown.commands)
        rows["role"] = f"{shown.role}: Logist itself runs the chunks, nobody is asked"
        rows["timeout"] += " for a chunk" if shown.timeout is not None else ""
        rows["prompt"] = "none"
        rows["chunks"] = f"{chunks} would run; {shown.done} are done and unchanged"
        below = [plain_text(f"{command.name}: {command.command}") for command in shown.commands]
    return "\n".join([*(f"{name:12} {value}" for name, value in rows.items()), "", *below])


def _first(hand_edits: tuple[str, ...], step: int) -> dict[str, str]:
    """What comes before the step that is shown."""
    if not hand_edits:
        return {}
    from logist.console import one_line

    named = ", ".join(map(one_line, hand_edits[:_NAMED_EDITS]))
    more = f" and {len(hand_edits) - _NAMED_EDITS} more" if len(hand_edits) > _NAMED_EDITS else ""
    return {"first": f"your edits are recorded as step {step}, role human: {named}{more}"}
