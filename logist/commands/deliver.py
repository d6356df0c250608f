"""`logist job deliver`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from logist.commands.output import print_json, tell
from logist.commands.parameters import STDIN, job_argument, json_option
from logist.errors import UsageProblem

if TYPE_CHECKING:
    from logist.commands.invocation import Invocation


@click.command()
@job_argument
@click.option("--to", metavar="REPO", help="The repository that gets the branch. Default: the job's source.")
@click.option("--branch", metavar="NAME", help="The branch's name. Default: logist/JOB.")
@click.option("--patch", metavar="FILE", help="Write a patch for `git am` instead.")
@click.option("--bundle", metavar="FILE", help="Write a git bundle instead.")
@click.option("--force", is_flag=True, help="Also when the job is not a SUCCESS.")
@json_option
@click.pass_obj
def deliver(
    invocation: Invocation,
    job: str | None,
    to: str | None,
    branch: str | None,
    patch: str | None,
    bundle: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Hand JOB's work over: as a branch of its source repository, a patch, or a bundle."""
    from pathlib import Path

    from logist import deliveries

    if sum(given is not None for given in (to or branch, patch, bundle)) > 1:
        raise UsageProblem("--to or --branch, --patch, and --bundle exclude each other", "deliver one at a time")
    for option, file in (("--patch", patch), ("--bundle", bundle)):
        if file in (STDIN, ""):
            raise UsageProblem(f"{option} needs the name of a file, not {file!r}", f"write {option} work.{option[2:]}")
    job_id = invocation.job_id(job)
    with invocation.runtime() as runtime:
        if patch is not None:
            kind, made = "patch", str(deliveries.deliver_patch(runtime, job_id, Path(patch).absolute(), force=force))
        elif bundle is not None:
            kind, made = "bundle", str(deliveries.deliver_bundle(runtime, job_id, Path(bundle).absolute(), force=force))
        else:
            target = None if to is None else Path(to).absolute()
            kind, made = "branch", deliveries.deliver_branch(runtime, job_id, to=target, branch=branch, force=force)
    if as_json:
        print_json({"job": job_id, kind: made})
    else:
        click.echo(made)
        tell(_NEXT[kind].format(made=made))


_NEXT = {
    "branch": "look at it there with: git log {made}",
    "patch": "apply it with: git am {made}",
    "bundle": "fetch it with: git fetch {made}",
}
