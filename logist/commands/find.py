"""`logist job select`, `list` and `status`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from logist.chunk_selection import is_spec_target
from logist.commands.output import print_drawn, print_json, tell
from logist.commands.parameters import job_argument, json_option, target_argument
from logist.commands.spec_views import refuse_for_spec, show_spec_status
from logist.errors import UsageProblem

if TYPE_CHECKING:
    from logist.commands.invocation import Invocation

_STATUSES = ("PENDING", "RUNNING", "SUCCESS", "CANCELED", "INTERVENTION_REQUIRED")


@click.command()
@job_argument
@click.option("--none", "nothing", is_flag=True, help="Select no job.")
@json_option
@click.pass_obj
def select(invocation: Invocation, job: str | None, nothing: bool, as_json: bool) -> None:
    """Make JOB the one that commands mean when none is named. Without JOB: print the selected one."""
    if nothing and job is not None:
        raise UsageProblem("JOB and --none exclude each other", "name a job, or give --none alone")
    store = invocation.store()
    if nothing or job is not None:
        store.select(None if job is None else store.find(job))
    selected = store.selected()
    if as_json:
        print_json({"selected": selected})
    elif job is None and not nothing:
        if selected is None:
            raise UsageProblem("no job is selected", "choose one: logist job select JOB")
        click.echo(selected)
    else:
        tell(f"selected: {selected}" if selected else "no job is selected")


@click.command("list")
@click.option("--needs-human", is_flag=True, help="Only jobs that wait for an answer, the longest waiting first.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(_STATUSES, case_sensitive=False),
    help="Only jobs in STATUS.",
)
@json_option
@click.pass_obj
def list_jobs(invocation: Invocation, needs_human: bool, statuses: tuple[str, ...], as_json: bool) -> None:
    """List the jobs, the last changed first."""
    from logist.job_list import list_rows

    wanted = {*statuses, *(("INTERVENTION_REQUIRED",) if needs_human else ())}
    # A job that can't be read needs a human too.
    rows = [
        row
        for row in list_rows(invocation.store())
        if not wanted or row.status in wanted or (needs_human and row.problem)
    ]
    if needs_human:
        rows.reverse()
    if as_json:
        print_json([row.to_json() for row in rows])
        return
    if not rows:
        tell("there are no such jobs" if wanted else "there are no jobs yet; make one: logist job create -o OBJECTIVE")
        return
    from logist.console.tables import jobs_table

    print_drawn(jobs_table(rows))


@click.command()
@target_argument
@click.option("--diff/--no-diff", "with_changes", default=None, help="Also what changed since the baseline.")
@json_option
@click.pass_obj
def status(invocation: Invocation, job: str | None, with_changes: bool | None, as_json: bool) -> None:
    """Where JOB stands, why, and the commands that go on from here. JOB may be the file of a spec."""
    if job is not None and is_spec_target(job):
        refuse_for_spec(job, {"--diff": with_changes is not None})
        show_spec_status(job, as_json=as_json)
        return
    from logist.job_report import build_report

    report = build_report(invocation.store(), invocation.job_id(job), workspace=bool(with_changes))
    if as_json:
        print_json(report.to_json())
        return
    from logist.console import drawn
    from logist.console.card import card_lines

    print_drawn(drawn(lambda width: card_lines(report, width=width), sys.stdout))
