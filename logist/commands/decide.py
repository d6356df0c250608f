"""`logist job resolve`, `rerun` and `restep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from logist.commands.output import print_json, tell
from logist.commands.parameters import Dollars, Duration, job_argument, json_option, message_options, read_message
from logist.commands.roles import tell_who_judges_itself
from logist.errors import UsageProblem

if TYPE_CHECKING:
    from logist.commands.invocation import Invocation
    from logist.interventions import BudgetIncrease, Players
    from logist.models.manifest import JobManifest
    from logist.runtime import Runtime


class Answer(NamedTuple):
    """The decisions that `job resolve` takes, as they were given."""

    retry: bool
    approve: bool
    go_on: bool
    rewind: int | None
    cancel: bool
    override_checks: bool

    @property
    def decisions(self) -> list[str]:
        """The options of the decisions that were given."""
        given = {
            "--retry": self.retry,
            "--approve": self.approve,
            "--continue": self.go_on,
            "--rewind": self.rewind is not None,
            "--cancel": self.cancel,
        }
        return [option for option, is_given in given.items() if is_given]


@click.command()
@job_argument
@click.option("-r", "--retry", is_flag=True, help="Try again; -m says what to do differently.")
@click.option("-a", "--approve", is_flag=True, help="Take the work as it is: SUCCESS.")
@click.option("-c", "--continue", "go_on", is_flag=True, help="Take the workspace as you edited it, and go on.")
@click.option(
    "-w", "--rewind", type=click.IntRange(min=0), metavar="N", help="Go back to the end of step N; 0 is the start."
)
@click.option("-x", "--cancel", is_flag=True, help="Stop the job for good.")
@message_options
@click.option("--override-checks", is_flag=True, help="With --approve and -m: although checks are red or did not run.")
@click.option("--add-steps", type=click.IntRange(min=0), default=0, metavar="N", help="Raise the budget by N steps.")
@click.option("--add-time", type=Duration(), default=0.0, metavar="DURATION", help="Raise the budget by active time.")
@click.option(
    "--add-retries", type=click.IntRange(min=0), default=0, metavar="N", help="Raise the budget by N retries."
)
@click.option("--add-cost", type=Dollars(), default=0.0, metavar="DOLLARS", help="Raise the budget by money.")
@click.option("--add-tokens", type=click.IntRange(min=0), default=0, metavar="N", help="Raise the budget by N tokens.")
@click.option("--worker", metavar="AGENT[:ARGUMENT]", help="Who works from now on, as the configuration says it now.")
@click.option("--supervisor", metavar="AGENT[:ARGUMENT]", help="Who judges from now on.")
@json_option
@click.pass_obj
def resolve(
    invocation: Invocation,
    /,
    job: str | None,
    message: str | None,
    message_file: str | None,
    add_steps: int,
    add_time: float,
    add_retries: int,
    add_cost: float,
    add_tokens: int,
    worker: str | None,
    supervisor: str | None,
    as_json: bool,
    **decisions: object,
) -> None:
    """Answer JOB, which needs a human: exactly one decision, or only a raised budget. Then `run` goes on."""
    from logist.interventions import BudgetIncrease, Players

    answer = Answer(**decisions)  # type: ignore[arg-type]  # click hands over what the options declare
    increase = BudgetIncrease(steps=add_steps, time=add_time, retries=add_retries, cost=add_cost, tokens=add_tokens)
    players = Players(worker=worker, supervisor=supervisor)
    _refuse_contradictions(answer, increase, players)
    job_id = invocation.job_id(job)
    text = read_message(message, message_file).strip()
    with invocation.runtime() as runtime:
        manifest = _resolve(runtime, job_id, answer, increase, players, text)
        config = runtime.config
    if players:
        tell_who_judges_itself(manifest, config)
    _show(invocation, manifest, as_json)


def _refuse_contradictions(answer: Answer, increase: BudgetIncrease, players: Players) -> None:
    given = answer.decisions
    if len(given) > 1:
        raise UsageProblem(f"{' and '.join(given)} exclude each other", "give exactly one decision")
    if not given and not increase and players:
        raise UsageProblem("--worker and --supervisor go with a decision", "add --retry, and -m TEXT to say more")
    if not given and not increase:
        raise UsageProblem(
            "no decision is given",
            "give --retry -m TEXT, --approve, --continue, --rewind N, --cancel, or only --add-steps N, --add-time "
            "DURATION, --add-retries N, --add-cost DOLLARS, --add-tokens N; logist job status shows what the job needs",
        )
    if increase and given in (["--approve"], ["--cancel"]):
        raise UsageProblem(f"{given[0]} ends the job: it needs no budget", "leave the --add options out")
    if players and given in (["--approve"], ["--cancel"]):
        raise UsageProblem(f"{given[0]} ends the job: nobody works on it", "leave --worker and --supervisor out")
    if answer.override_checks and not answer.approve:
        raise UsageProblem("--override-checks goes with --approve", "add --approve, or leave it out")


def _resolve(
    runtime: Runtime, job_id: str, answer: Answer, increase: BudgetIncrease, players: Players, text: str
) -> JobManifest:
    from logist import interventions

    if answer.approve:
        return interventions.resolve_approve(runtime, job_id, text, override_checks=answer.override_checks)
    if answer.go_on:
        return interventions.resolve_continue(runtime, job_id, text, increase, players)
    if answer.rewind is not None:
        return interventions.resolve_rewind(runtime, job_id, answer.rewind, text, increase, players)
    if answer.cancel:
        return interventions.resolve_cancel(runtime, job_id, text)
    if answer.retry:
        return interventions.resolve_retry(runtime, job_id, text, increase, players)
    return interventions.add_budget(runtime, job_id, increase, text, players)


@click.command()
@job_argument
@message_options
@json_option
@click.pass_obj
def rerun(
    invocation: Invocation, job: str | None, message: str | None, message_file: str | None, as_json: bool
) -> None:
    """Start JOB again from its baseline with its whole budget. What was done stays under refs of its repository."""
    from logist.interventions import rerun_job

    job_id = invocation.job_id(job)
    with invocation.runtime() as runtime:
        manifest = rerun_job(runtime, job_id, read_message(message, message_file).strip())
    _show(invocation, manifest, as_json)


@click.command()
@job_argument
@click.option("-s", "--step", required=True, type=click.IntRange(min=1), metavar="N", help="The step to take again.")
@message_options
@json_option
@click.pass_obj
def restep(
    invocation: Invocation, job: str | None, step: int, message: str | None, message_file: str | None, as_json: bool
) -> None:
    """Go back to where step N of JOB began. It and the steps after it stay under refs of its repository."""
    from logist.interventions import restep_job

    job_id = invocation.job_id(job)
    with invocation.runtime() as runtime:
        manifest = restep_job(runtime, job_id, step, read_message(message, message_file).strip())
    _show(invocation, manifest, as_json)


def _show(invocation: Invocation, manifest: JobManifest, as_json: bool) -> None:
    """The job after the decision, and the command that goes on."""
    from logist.job_report import possible_commands

    if as_json:
        print_json(manifest.model_dump(mode="json"))
        return
    tell(f"{manifest.id} is {manifest.status}: {manifest.reason.sentence}")
    for command in possible_commands(invocation.store(), manifest)[:1]:
        tell(f"next: {command}")
