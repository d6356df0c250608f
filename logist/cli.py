"""The `logist` command: finds the command that was asked for, runs it, and says in two lines what went wrong.

Only click and the standard library are imported here: `--help`, `--version` and completion must feel instant.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import click

from logist import __version__
from logist.commands.invocation import Invocation
from logist.commands.output import tell_drawn
from logist.errors import ExitCode, LogistError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class LazyCommand(NamedTuple):
    """Where a command is defined (`module:attribute`), and its line in the list of commands."""

    target: str
    summary: str


#: Commands by name, under the heading that they are listed with.
Sections = dict[str, dict[str, LazyCommand]]

JOB_COMMANDS: Sections = {
    "Make and find jobs": {
        "create": LazyCommand("create:create", "Create a job from a git repository, a folder, or nothing."),
        "select": LazyCommand("find:select", "Choose the job that commands mean when none is named."),
        "list": LazyCommand("find:list_jobs", "List the jobs."),
        "status": LazyCommand("find:status", "Where a job stands, and what can be done next."),
    },
    "Run": {
        "run": LazyCommand("run:run", "Run a job until it is done, canceled, or needs a human."),
        "step": LazyCommand("run:step", "Take one step."),
        "preview": LazyCommand("run:preview", "Show the next prompt and command; nothing changes."),
        "poststep": LazyCommand("run:poststep", "Take the next step with a reply from a file; no agent runs."),
        "pause": LazyCommand("stop:pause", "Ask a running job to stop after its step."),
        "cancel": LazyCommand("stop:cancel", "Stop a job for good."),
    },
    "Look": {
        "log": LazyCommand("look:log", "The steps of a job, or what one of them printed."),
        "diff": LazyCommand("look:diff", "What a job changed."),
        "history": LazyCommand("look:history", "Every record of a job, oldest first."),
        "evidence": LazyCommand("look:evidence", "The evidence commits of a job."),
    },
    "Decide": {
        "resolve": LazyCommand("decide:resolve", "Answer a job that needs a human."),
        "chat": LazyCommand("chat:chat", "Take over the session of a job's worker."),
        "rerun": LazyCommand("decide:rerun", "Start a job again from its baseline."),
        "restep": LazyCommand("decide:restep", "Go back to the start of a step and take it again."),
        "deliver": LazyCommand("deliver:deliver", "Hand the work over as a branch, a patch, or a bundle."),
    },
}

ROLE_COMMANDS: Sections = {
    "Commands": {
        "list": LazyCommand("roles:list_roles", "Who plays which role."),
        "show": LazyCommand("roles:show_role", "One role: its agent, its settings, its prompt."),
    }
}

AGENT_COMMANDS: Sections = {
    "Commands": {
        "list": LazyCommand("agents:list_agents", "The agents that a role may name."),
        "show": LazyCommand("agents:show_agent", "One agent: its program, and how it is asked."),
        "check": LazyCommand("agents:check_agent", "Whether an agent is installed and answers."),
    }
}

TOP_COMMANDS: Sections = {
    "Work": {
        "init": LazyCommand("project:init", "Prepare this folder for jobs."),
        "job": LazyCommand("logist.cli:job", "Create, run, inspect, and decide on jobs."),
        "run": LazyCommand("run_many:run_many", "Run several jobs: all that are ready, or those named."),
        "role": LazyCommand("logist.cli:role", "The roles and who plays them."),
        "agent": LazyCommand("logist.cli:agent", "The programs that can play a role."),
        "render": LazyCommand("render:render", "Make a video of a composition: HTML, canvas, CSS."),
        "export-job": LazyCommand("export_job:export_job", "Cut a render into chunks: JSON, or a cluster's tasks."),
        "bundle": LazyCommand("bundle:bundle", "Upload a spec and its files, for workers that share no folder."),
        "merge": LazyCommand("merge:merge", "Make one video of several."),
    },
    "Help and upkeep": {
        "doctor": LazyCommand("doctor:doctor", "Check this machine, the configuration, and every job."),
        "schema": LazyCommand("project:schema", "Print the JSON Schema of a file that Logist reads or writes."),
        "completion": LazyCommand("completion:completion", "Print the completion script of a shell."),
        "help": LazyCommand("help:help_topic", "Explain a command or a topic."),
    },
}


class LazyGroup(click.Group):
    """A group whose commands are named in a table and imported when one is run."""

    def __init__(self, *, sections: Sections, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]  # passed on as they are
        self.sections = sections
        self.table = {name: command for section in sections.values() for name, command in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        entry = self.table.get(cmd_name)
        return None if entry is None else load_command(entry)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is told with the names that come near."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as unknown:
            raise click.exceptions.NoSuchCommand(
                unknown.command_name, possibilities=list(self.table), ctx=ctx
            ) from unknown

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing one."""
        width = max(map(len, self.table))
        for heading, commands in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), command.summary) for name, command in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names from the table, without importing a command."""
        from click.shell_completion import CompletionItem

        named = [
            CompletionItem(name, help=command.summary)
            for name, command in self.table.items()
            if name.startswith(incomplete)
        ]
        return named + click.Command.shell_complete(self, ctx, incomplete)


def load_command(entry: LazyCommand) -> click.Command:
    """Import the command that `entry` names."""
    module, _, attribute = entry.target.partition(":")
    name = module if module.startswith("logist.") else f"logist.commands.{module}"
    command: click.Command = getattr(importlib.import_module(name), attribute)
    return command


_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(
    cls=LazyGroup,
    sections=TOP_COMMANDS,
    context_settings=_HELP,
    epilog="Exit codes: logist help exit-codes. A job's first steps: logist help start.",
)
@click.option(
    "--jobs-dir",
    metavar="DIR",
    envvar="LOGIST_JOBS_DIR",
    show_envvar=True,
    help="The folder of the jobs. Default: the nearest .logist/jobs upwards.",
)
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    envvar="LOGIST_CONFIG",
    show_envvar=True,
    help="The configuration. Default: the nearest logist.toml upwards.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="logist", message="%(prog)s %(version)s")
@click.pass_obj
def cli(invocation: Invocation, jobs_dir: str | None, config_file: str | None, debug: bool) -> None:
    """Run long jobs to a verdict: an agent works, checks and a supervisor judge, every step is kept."""
    invocation.set_options(jobs_dir=jobs_dir, config_file=config_file, debug=debug)


# These groups are made without the decorator: nothing of them runs but their commands.
job = LazyGroup(name="job", sections=JOB_COMMANDS, help="Create, run, inspect, and decide on jobs.")
role = LazyGroup(name="role", sections=ROLE_COMMANDS, help="The roles of a job and who plays them.")
agent = LazyGroup(name="agent", sections=AGENT_COMMANDS, help="The programs that can play a role.")


def main() -> NoReturn:
    """The console script: run the command line and end the process.

    Python's own way out takes apart every module first, which takes longer than all that `logist --help` does. Nothing
    is left to do by then: what is held is given back by its `with`.
    """
    # Imports make many objects and hardly any garbage; to look for some takes a twentieth of `logist job status`.
    gc.set_threshold(100_000)
    _open_closed_streams()
    code = run()
    for stream in (sys.stdout, sys.stderr):
        # A reader that has left is no news at this point.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _open_closed_streams() -> None:
    """A standard stream that was closed when we were started counts as /dev/null: the next file opened would be it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest descriptor that is free is the one that is missing. What we start inherits it.
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Whatever goes wrong is told on stderr."""
    invocation = Invocation()
    try:
        return _invoke(args, invocation)
    except LogistError as error:
        _show_traceback(invocation)
        _tell(error.message, error.hint)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except Exception as fault:  # noqa: BLE001 - the outermost frame: recorded in a log file, told, exit code 1
        _show_traceback(invocation)
        if isinstance(fault, OSError) and _is_of_printing(fault):
            why = fault.strerror or str(fault)
            _tell(f"the output can't be written: {why}", "look where standard output goes, and for room there")
            return int(ExitCode.UNEXPECTED)
        _tell(f"unexpected {type(fault).__name__}: {fault}", _log_hint(invocation))
        return int(ExitCode.UNEXPECTED)


def _invoke(args: Sequence[str] | None, invocation: Invocation) -> int:
    try:
        code = cli.main(args, prog_name="logist", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as asked:
        asked.show()
        return int(ExitCode.USAGE)
    except click.UsageError as error:
        _show_traceback(invocation)
        _tell(_usage_message(error), _usage_hint(error))
        return int(ExitCode.USAGE)
    except click.Abort as stop:
        # What click makes of KeyboardInterrupt, and of an EOFError wherever it comes from.
        raise stop.__cause__ or stop from None
    except SystemExit as end:
        # click ends a completion like this, and a command whose reader has left: `logist job log | head`.
        return end.code if isinstance(end.code, int) else int(ExitCode.UNEXPECTED)
    except BrokenPipeError:
        return int(ExitCode.UNEXPECTED)
    return code if isinstance(code, int) else int(ExitCode.SUCCESS)


def _is_of_printing(fault: OSError) -> bool:
    """Whether stdout did not take what was printed: all of that goes through `click.echo`."""
    import traceback

    return any(frame.f_code is click.echo.__code__ for frame, _line in traceback.walk_tb(fault.__traceback__))


def _usage_message(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption | click.exceptions.NoSuchCommand):
        return error.message
    return error.format_message()


def _usage_hint(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx is not None else "logist"
    if isinstance(error, click.exceptions.NoSuchCommand):
        return _command_hint(error, path)
    if isinstance(error, click.NoSuchOption):
        if any(error.option_name in parameter.opts for parameter in cli.params):
            return f"{error.option_name} goes before the command: logist {error.option_name} … {path.partition(' ')[2]}"
        near = error.possibilities or []
        return f"did you mean {_either(near)}? All options: {path} --help" if near else f"see {path} --help"
    return f"see {path} --help"


def _command_hint(error: click.exceptions.NoSuchCommand, path: str) -> str:
    for group, sections in (("job", JOB_COMMANDS), ("", TOP_COMMANDS)):
        here = f"logist {group}".strip()
        if here != path and any(error.command_name in commands for commands in sections.values()):
            return f"did you mean {here} {error.command_name}? All commands: {path} --help"
    near = [f"{path} {name}" for name in error.possibilities or []]
    return f"did you mean {_either(near)}? All commands: {path} --help" if near else f"see {path} --help"


def _either(names: Sequence[str]) -> str:
    return " or ".join(names[:2])


def _tell(message: str, hint: str) -> None:
    """One line each, whatever the texts hold: they may quote agents, files and people."""
    from logist.plain_text import plain_text

    for label, text in (("Error", message), ("Hint", hint)):
        tell_drawn(f"{label}: {' '.join(plain_text(text).split())}")


def _show_traceback(invocation: Invocation) -> None:
    if invocation.debug:
        import traceback

        tell_drawn(traceback.format_exc())


def _log_hint(invocation: Invocation) -> str:
    log = _write_log(invocation)
    kept = f"the traceback is in {log}" if log else "run it again with --debug before the command"
    return f"this is a fault of Logist or of the machine; {kept}"


def _write_log(invocation: Invocation) -> str | None:
    """Keep the current exception's traceback in a file; None when no folder takes it."""
    import traceback
    from datetime import UTC, datetime

    name = f"logist-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"
    for folder in invocation.log_folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            with path.open("x", encoding="utf-8", errors="replace") as log:
                log.write(f"logist {__version__}, Python {sys.version}\n{sys.argv}\n\n{traceback.format_exc()}")
        except OSError:
            continue
        return str(path)
    return None
