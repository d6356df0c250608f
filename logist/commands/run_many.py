"""`logist run`: several jobs, so many at a time."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from logist.commands.chunks import MOST_AT_ONCE, adapter_options
from logist.commands.driving import check_timeout, open_run, progress_options, show_as
from logist.commands.invocation import Place
from logist.commands.output import tell, tell_drawn
from logist.commands.parameters import Duration, complete_job
from logist.errors import UsageProblem

if TYPE_CHECKING:
    from logist.commands.invocation import Invocation
    from logist.run_many import RunsResult

#: Files that a job has open while it runs, and those of the run itself; measured: 11 and 40.
_FILES_OF_JOB = 16
_FILES_OF_RUN = 64


@click.command("run")
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete_job, help="Ids or starts of ids.")
@click.option("--all", "every", is_flag=True, help="Every job that waits for a runner, also those made meanwhile.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, MOST_AT_ONCE),
    default=1,
    show_default=True,
    metavar="N",
    help="Jobs at once.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print the verdicts alone.")
@click.option("-v", "--verbose", is_flag=True, help="Print all that the agents print.")
@progress_options
@click.option("--timeout", type=Duration(), metavar="DURATION", help="Stop after this long, with exit code 124.")
@click.option(
    "--max-wait",
    type=Duration(),
    metavar="DURATION",
    help="How long each job waits, in all, for a busy provider of a model. Default: the role's.",
)
@click.option(
    "--adapter",
    default="local",
    show_default=True,
    metavar="NAME",
    help="Where the commands run: here, or on Dask.",
)
@click.option("--adapter-option", multiple=True, metavar="NAME=VALUE", help="What the adapter is told.")
@click.pass_obj
def run_many(
    invocation: Invocation,
    jobs: tuple[str, ...],
    every: bool,
    concurrency: int,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    progress: str,
    timeout: float | None,
    max_wait: float | None,
    adapter: str,
    adapter_option: tuple[str, ...],
) -> int:
    """Run several jobs, N at a time: by priority, then the oldest first, and none before those that it needs.

    Each runs until it rests, as with `job run`. One that another runner holds is left to it, and one that can't go on
    does not stop the others.

    Ctrl-C once stops each job after its step, twice stops them now; the same command goes on.
    """
    from logist.run_many import run_jobs

    if every == bool(jobs):
        raise UsageProblem(
            "names of jobs and --all exclude each other" if every else "no job is named",
            "logist run --all runs every job that is ready, logist run JOB... those alone, logist job run the selected",
        )
    check_timeout(timeout)
    only = None if every else frozenset(map(invocation.store().find, jobs))
    show = show_as(progress, as_json=as_json, quiet=quiet, verbose=verbose)
    place = Place(adapter, adapter_options(adapter_option))
    with open_run(invocation, show, timeout=timeout, max_wait=max_wait, place=place, several=True) as runtime:
        runtime.adapter.prepare(concurrency)
        result = run_jobs(runtime, only=only, concurrency=_affordable(concurrency))
    if show.card:
        _show_summary(result)
    if result.faults:
        # Told, and kept in a log file, where every fault is.
        raise result.faults[0] if len(result.faults) == 1 else ExceptionGroup("several jobs failed", result.faults)
    return result.exit_code


def _affordable(concurrency: int) -> int:
    """As many jobs at once as may have their files open; the limit is raised as far as it has to be, and may be."""
    import resource

    wanted = _FILES_OF_RUN + _FILES_OF_JOB * concurrency
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY or wanted <= allowed:
        return concurrency
    # No further than needed: agents inherit it, and select() fails beyond 1,024.
    raised = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    with contextlib.suppress(ValueError, OSError):
        # A system may have a lower bound than it tells.
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, most))
        allowed = raised
    affordable = min(concurrency, max(1, (allowed - _FILES_OF_RUN) // _FILES_OF_JOB))
    if affordable < concurrency:
        from logist.console.reporters import count

        tell(f"no more than {count(affordable, 'job')} at a time: only {allowed} files can be open (ulimit -n)")
    return affordable


def _show_summary(result: RunsResult) -> None:
    from logist.console.reporters import jobs_words
    from logist.console.tables import ends_table

    if result.jobs:
        tell_drawn(f"\n{ends_table(result.jobs, stream=sys.stderr)}\n")
    tell(f"{jobs_words(result.jobs)}; exit code {result.exit_code.value}")
    if result.unanswered:
        names = ", ".join(result.unanswered[:5]) + (", …" if len(result.unanswered) > 5 else "")
        tell(f"waiting for a human since before: {names}; logist job list --needs-human")
