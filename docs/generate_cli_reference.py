"""Writes docs/05_cli_reference.md from the commands themselves: `python docs/generate_cli_reference.py`.

A test fails when the page and the commands differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from logist.cli import cli
from logist.commands.help import EXIT_CODES, SEVERAL_JOBS

PAGE = Path(__file__).with_name("05_cli_reference.md")
_WIDTH = 100

_HEAD = """\
# The command line

<!-- Written by docs/generate_cli_reference.py. Change the commands, then run it again. -->

What holds for every command:

- Data goes to standard output, everything else to standard error. `--json` gives data to programs.
- `JOB` may be left out where a job is selected (`logist job select`) or `LOGIST_JOB_ID` names one. It is an id, an
  unambiguous start of one, or the path of a job's folder. What is named on the line goes first, then the variable, then
  the selection.
- Where a file is read, `-` is standard input. No command asks a question.
- Durations are written like `90`, `45s`, `30m` or `1h30m`; a bare number is seconds.
- What agents print is shown without its control sequences; `--raw` shows every byte.
- What goes wrong is told in one `Error:` line and one `Hint:` line. `--debug` before the command adds the traceback. A
  fault of Logist itself leaves its traceback in a log file that the hint names.
- Colours are left out where the output is no terminal, where `NO_COLOR` is set, or where `TERM` is `dumb`.
- Tab completion: `logist completion bash`, `zsh`, `fish` or `powershell` prints the script.

## Variables

| variable | what it sets |
|---|---|
| `LOGIST_JOBS_DIR` | the folder of the jobs, as `--jobs-dir` |
| `LOGIST_CONFIG` | the configuration, as `--config` |
| `LOGIST_JOB_ID` | the job that is meant when none is named |
| `LOGIST_PROGRESS` | how a run is shown, as `run --progress` and `job run --progress` |
| `LOGIST_WORKER`, `LOGIST_SUPERVISOR` | who plays a role in new jobs, as `job create --worker` and `--supervisor` |

## Exit codes

| code | meaning |
|---|---|
"""


def page() -> str:
    """The whole page."""
    codes = "".join(f"| {code.value} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    sections = [_section(context) for context in _contexts(_context(cli, "logist", None))]
    return f"{_HEAD}{codes}\n{SEVERAL_JOBS}\n\n## Commands\n\n" + "\n".join(sections)


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(command, info_name=name, parent=parent, terminal_width=_WIDTH, **command.context_settings)


def _contexts(context: click.Context) -> Iterator[click.Context]:
    yield context
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _contexts(_context(found, name, context))


def _section(context: click.Context) -> str:
    text = re.sub(r"[ \t]+$", "", context.get_help(), flags=re.MULTILINE)
    return f"### {context.command_path}\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
