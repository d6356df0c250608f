"""`logist job run`, `step`, `preview` and `poststep`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from logist.commands.output import print_json, print_text, tell
from logist.commands.parameters import STDIN, Duration, job_argument, json_option, read_bytes
from logist.errors import ExitCode, UsageProblem

if TYPE_CHECKING:
    from types import FrameType

    from logist.commands.invocation import Invocation
    from logist.models.manifest import JobManifest
    from logist.runtime import StopSwitch
    from logist.turns import Preview

PROGRESS = ("auto", "tty", "plain", "json", "none")


class Show(NamedTuple):
    """How a run is shown."""

    progress: str = "auto"
    verbose: bool = False

    @property
    def card(self) -> bool:
        """Whether the job's card follows at the end."""
        return self.progress not in ("json", "none")


class Reply(NamedTuple):
    """A reply that is fed instead of asking the agent, and where it is from."""

    data: bytes
    name: str


def _show_as(progress: str, *, as_json: bool, quiet: bool, verbose: bool) -> Show:
    return Show("json" if as_json else "none" if quiet else progress, verbose)


@contextlib.contextmanager
def stop_on_signals(stop: StopSwitch) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP ask `stop`: once to end after the step, twice to end now; the third is obeyed as is.

    A signal that was ignored when we were started (nohup, a background job) stays ignored.
    """

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.now:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stop.ask(ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED)

    previous = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            previous[number] = signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stop_after(stop: StopSwitch, seconds: float | None) -> Iterator[None]:
    """Stop the run now when `seconds` are over; its exit code is then TIMEOUT."""
    import threading

    if seconds is None:
        yield
        return

    def ask() -> None:
        # Twice: a step may take longer than whoever set the limit can wait. Its work is set aside, not lost.
        stop.ask(ExitCode.TIMEOUT)
        stop.ask(ExitCode.TIMEOUT)

    timer = threading.Timer(seconds, ask)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@click.command()
@job_argument
@click.option("-q", "--quiet", is_flag=True, help="Print the verdict alone.")
@click.option("-v", "--verbose", is_flag=True, help="Print all that the agents print.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as one line of JSON.")
@click.option(
    "--progress",
    type=click.Choice(PROGRESS),
    default="auto",
    envvar="LOGIST_PROGRESS",
    show_envvar=True,
    help="How to show what happens: a live view on a terminal, else plain lines.",
)
@click.option(
    "--timeout", type=Duration(), metavar="DURATION", help="Stop after this long, resumable, with exit code 124."
)
@click.pass_obj
def run(
    invocation: Invocation,
    job: str | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    progress: str,
    timeout: float | None,
) -> int:
    """Run JOB until worker, checks and supervisor agree, someone cancels it, or a human is needed.

    Ctrl-C once stops after the step, twice stops the command; either way the same command goes on.
    """
    if timeout == 0:
        raise UsageProblem("--timeout 0 leaves no time to run", "leave it out to run without a limit")
    show = _show_as(progress, as_json=as_json, quiet=quiet, verbose=verbose)
    return _drive(invocation, job, show, timeout=timeout)


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
    show = _show_as("auto", as_json=as_json, quiet=quiet, verbose=verbose)
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
    show = _show_as("auto", as_json=as_json, quiet=quiet, verbose=False)
    return _drive(invocation, job, show, single_step=True, reply=reply)


def _drive(
    invocation: Invocation,
    job: str | None,
    show: Show,
    *,
    single_step: bool = False,
    reply: Reply | None = None,
    timeout: float | None = None,
) -> int:
    from logist.console.reporters import open_reporter
    from logist.job_processor import run_job
    from logist.runtime import StopSwitch

    job_id, stop = invocation.job_id(job), StopSwitch()
    with (
        open_reporter(show.progress, environ=os.environ, verbose=show.verbose) as reporter,
        invocation.runtime(reporter=reporter, stop=stop) as runtime,
        stop_on_signals(stop),
        stop_after(stop, timeout),
    ):
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
    from logist.job_report import build_report, next_command_lines

    if exit_code is ExitCode.SUCCESS and manifest.status == "PENDING":
        tell(f"next is step {manifest.step + 1}, {manifest.next_role}: {next_command_lines(manifest)[0]}")
        return
    report = build_report(invocation.store(), manifest.id)
    card = drawn(lambda width: card_lines(report, width=width, exit_code=int(exit_code)), sys.stderr)
    click.echo(f"\n{card}", err=True)


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
        "step": f"{shown.step}, attempt {shown.attempt}, phase {shown.phase}",
        "role": f"{shown.role}, played by {shown.agent}" + (" (scripted: no model is asked)" if shown.scripted else ""),
        "command": shlex.join(shown.argv),
        "folder": str(shown.cwd),
        "environment": " ".join(shown.env),
        "timeout": "none" if shown.timeout is None else format_duration(shown.timeout),
        "prompt": f"{len(shown.prompt)} characters" + (", on standard input" if shown.stdin else ""),
    }
    return "\n".join([*(f"{name:12} {value}" for name, value in rows.items()), "", shown.prompt.rstrip("\n")])
