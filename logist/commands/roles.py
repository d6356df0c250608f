"""`logist role list` and `show`, and what is said of who plays the roles of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from logist.commands.output import print_json, print_text, tell

if TYPE_CHECKING:
    from logist.commands.invocation import Invocation
    from logist.models.config import Config
    from logist.models.manifest import JobManifest, RoleSettings

ROLES = ("worker", "supervisor")
JOB_HELP = "A job, to see its own roles instead of those that new jobs get."


@click.command("list")
@click.option("--job", metavar="JOB", help=JOB_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_roles(invocation: Invocation, job: str | None, as_json: bool) -> None:
    """Who plays which role in new jobs, or in a job."""
    settings = _settings(invocation, job)
    if as_json:
        print_json({role: of.model_dump(mode="json") for role, of in settings.items()})
        return
    for role, of in settings.items():
        print_text(f"{role:11} {of.agent}{f': {of.argument}' if of.argument else ''}".replace("\n", " "))


@click.command("show")
@click.argument("role", type=click.Choice(ROLES), help="worker or supervisor.")
@click.option("--job", metavar="JOB", help=JOB_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show_role(invocation: Invocation, role: str, job: str | None, as_json: bool) -> None:
    """One role: its agent and settings, where they come from, and the template of its prompt."""
    settings = _settings(invocation, job)[role]
    loaded = invocation.configuration()
    template = _template(role, loaded.config)
    if as_json:
        print_json({"role": role, **settings.model_dump(mode="json"), "prompt": template})
        return
    for name, value in settings.model_dump(mode="json").items():
        origin = loaded.origins.get(f"roles.{role}.{name}") if job is None else None
        shown = " ".join(value) if isinstance(value, list) else value
        print_text(f"{name:12} {'-' if shown in (None, '') else shown}{f'    (from {origin})' if origin else ''}")
    print_text(f"{'prompt':12} {template}")


def _settings(invocation: Invocation, job: str | None) -> dict[str, RoleSettings]:
    from logist.configuration import define_roles

    if job is not None:
        roles = invocation.store().load(invocation.job_id(job)).job.roles
    else:
        roles = define_roles(None, invocation.configuration().config)
    return {"worker": roles.worker, "supervisor": roles.supervisor}


def _template(role: str, config: Config) -> str:
    """Where the role's prompt comes from."""
    own = None if config.prompts is None else config.prompts / f"{role}.md"
    return str(own) if own is not None and own.is_file() else f"packaged {role}.md"


def tell_who_judges_itself(manifest: JobManifest, config: Config) -> None:
    """A remark where one agent with one model does the job's work and judges it too."""
    from logist.agents import judge_of_its_own

    works = any(phase.spec is None for phase in manifest.job.phases)
    name = judge_of_its_own(manifest.job.roles, config) if works else None
    if name is not None:
        tell(f"{name} judges its own work: two different agents are better than one; name the other with --supervisor")
