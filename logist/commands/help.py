"""`logist help`."""

from __future__ import annotations

import click

from logist.errors import ExitCode, UsageProblem

EXIT_CODES = {
    ExitCode.SUCCESS: "done; of a run: SUCCESS",
    ExitCode.UNEXPECTED: "an unexpected error, or records could not be written",
    ExitCode.USAGE: "the command line is wrong, or names a job that is not there",
    ExitCode.INTERVENTION_REQUIRED: "a run ended with INTERVENTION_REQUIRED: a human is needed",
    ExitCode.CANCELED: "a run ended with CANCELED",
    ExitCode.CHUNK_FAILED: "kept for renders: a chunk or the merge failed",
    ExitCode.WRONG_STATE: "the job's state does not allow the command; nothing was done",
    ExitCode.BUSY: "another runner holds the job; try again later",
    ExitCode.INVALID: "a manifest, a history, a job file or the configuration is not valid, or an agent is missing",
    ExitCode.TIMEOUT: "--timeout was reached; the job can be run on",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C; the job can be run on",
    ExitCode.TERMINATED: "stopped by SIGTERM or a pause; the job can be run on",
}

_START = """\
A first job, on the git repository in this folder:

  logist init
  logist job create . -o "Say what was checked in NOTES.md"
  logist job preview          what the agent will be asked
  logist job run              until it is done, or needs you
  logist job deliver          the work as a branch of the repository

Here a scripted playbook plays worker and supervisor and no model is asked, so that all of it can be tried at once.
Real work: --worker 'command:./fix.sh' --check 'pytest -q', or an agent of your own in logist.toml."""


def exit_codes_text() -> str:
    """The exit codes and what they say, one a line."""
    return "\n".join(f"{code.value:>4}  {words}" for code, words in EXIT_CODES.items())


_TOPICS = {"exit-codes": exit_codes_text(), "start": _START}


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND|TOPIC]...", help="As in `logist help job run`.")
@click.pass_context
def help_topic(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Explain a command, or a topic: exit-codes, start."""
    if len(words) == 1 and words[0] in _TOPICS:
        click.echo(_TOPICS[words[0]])
        return
    here = ctx.find_root()
    for word in words:
        group = here.command
        found = group.get_command(here, word) if isinstance(group, click.Group) else None
        if found is None:
            raise UsageProblem(f"there is no command or topic {' '.join(words)!r}", f"topics: {', '.join(_TOPICS)}")
        here = click.Context(found, parent=here, info_name=word)
    click.echo(here.get_help())
