"""`logist help`."""

from __future__ import annotations

import click

from logist.errors import WORST_FIRST, ExitCode, UsageProblem

EXIT_CODES = {
    ExitCode.SUCCESS: "done; of a run: SUCCESS",
    ExitCode.UNEXPECTED: "an unexpected error, records could not be written, or a place or storage can't be reached",
    ExitCode.USAGE: "the command line is wrong, or names a job that is not there",
    ExitCode.INTERVENTION_REQUIRED: "a run ended with INTERVENTION_REQUIRED: a human is needed",
    ExitCode.CANCELED: "a run ended with CANCELED",
    ExitCode.CHUNK_FAILED: "a chunk of a spec or the merge failed",
    ExitCode.WRONG_STATE: "the state of the job or spec does not allow the command; nothing was done",
    ExitCode.BUSY: "another runner holds the job or spec; try again later",
    ExitCode.INVALID: (
        "a manifest, history, evidence repository, job file, spec or the configuration is not valid, "
        "or a program is missing"
    ),
    ExitCode.TIMEOUT: "--timeout was reached; the job can be run on",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C; the same command goes on",
    ExitCode.TERMINATED: "stopped by SIGTERM or a pause; the same command goes on",
}

SEVERAL_JOBS = (
    "A run of several jobs (`logist run`) ends with the first of these that one of its jobs ends with:\n"
    + ", ".join(str(code.value) for code in WORST_FIRST)
    + "."
)

_START = """\
A first job, on the git repository in this folder:

  logist init
  logist job create . -o "Say what was checked in NOTES.md"
  logist job preview          what the agent will be asked
  logist job run              until it is done, or needs you
  logist job deliver          the work as a branch of the repository

Here a scripted playbook plays worker and supervisor and no model is asked, so that all of it can be tried at once.
Real work: --worker 'command:./fix.sh' --check 'pytest -q', or an agent of your own in logist.toml."""

_SPECS = """\
A spec is a JSON file that cuts a render into chunks: each has a range of frames, a command that makes it, and the
file that is made; one more command merges the files. `logist schema job-spec` says what it holds.

  logist job run job.json -n                    what would run, and as which command
  logist job run job.json --concurrency auto    the chunks, then the merge; again: goes on with what is not done
  logist job status job.json                    how far it is, what runs, what to do next
  logist job log job.json --chunk 3             what that chunk printed; --chunk merge: the merge
  logist job pause job.json                     stop it once its running chunks have ended
  logist job cancel job.json                    stop it now; what is done stays done

  logist job run job.json --chunk 3             just that one, for a worker of its own: nothing is recorded
  logist job run job.json --chunk auto          the one that the index of a scheduler's array task means
  logist job run job.json --merge-only          once all chunks are there, whoever made them

  logist job run job.json --storage URL         its workers share no folder: files travel by s3://…, gs://… or a path
  logist bundle job.json --storage URL          only uploads them, and prints the ADDRESS for workers of their own:
  logist job run ADDRESS --trust --chunk auto   one of those, anywhere; then --merge-only as above, with --storage URL

A chunk is done when its command exits with 0 and what it made was verified. Its record, its log and joblog.tsv, a
line for each try in the columns of GNU parallel, are in .logist/job.json/ beside the spec."""


def exit_codes_text() -> str:
    """The exit codes and what they say, one a line, and which one several jobs end with."""
    codes = (f"{code.value:>4}  {words}" for code, words in EXIT_CODES.items())
    return "\n".join([*codes, "", SEVERAL_JOBS])


_TOPICS = {"exit-codes": exit_codes_text(), "specs": _SPECS, "start": _START}


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND|TOPIC]...", help="As in `logist help job run`.")
@click.pass_context
def help_topic(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Explain a command, or a topic: exit-codes, specs, start."""
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
