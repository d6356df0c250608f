"""Arguments and options that several commands share, and the types of their values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from logist.errors import LogistError, UsageProblem

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: The name that stands for standard input where a file is read.
STDIN = "-"
#: Seconds: a hundred years. Beyond it timers overflow.
_LONGEST = 3_153_600_000.0
_MOST_DOLLARS = 1e12


class Duration(click.ParamType[float]):
    """Seconds, written like 90, 45s, 30m or 1h30m."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; a usage error says how it is written."""
        from logist.durations import parse_duration

        if isinstance(value, float):
            return value
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds > _LONGEST:
            self.fail(f"{value[:40]!r} is too long a duration", param, ctx)
        return seconds


class Dollars(click.FloatRange):
    """A finite amount of money, 0 or more."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; infinity and NaN are usage errors."""
        amount = float(super().convert(value, param, ctx))
        if not amount <= _MOST_DOLLARS:
            self.fail(f"{str(value)[:40]!r} is not an amount; write it like 5 or 2.50", param, ctx)
        return amount


class StorageUrl(click.ParamType[str]):
    """Where files are put for others: any storage but the memory of this program."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take it as it is; whether there is such a storage is found out when it is used."""
        if str(value).lower().startswith("memory:"):
            self.fail("memory:// ends with this program, and nobody else can read it", param, ctx)
        return str(value)


def complete_job(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Job ids by the names of their folders alone: completion must be instant and never fails."""
    from click.shell_completion import CompletionItem

    from logist.commands.invocation import Invocation

    # Completion parses the global options but runs no callback that would take them.
    options = ctx.find_root().params
    invocation = Invocation()
    invocation.set_options(jobs_dir=options.get("jobs_dir"), config_file=options.get("config_file"), debug=False)
    try:
        names = invocation.job_names()
    except (LogistError, OSError):
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def target_argument(function: Decorated) -> Decorated:
    """The optional argument JOB, which may be a spec."""
    help_text = (
        "A job's id or an unambiguous start of it, or a spec: a file, *.json, - for standard input, or a URL. "
        "Default: LOGIST_JOB_ID, then the selected job."
    )
    return click.argument("job", required=False, shell_complete=complete_job, help=help_text)(function)


def job_argument(function: Decorated) -> Decorated:
    """The optional argument JOB."""
    help_text = "Its id or an unambiguous start of it. Default: LOGIST_JOB_ID, then the selected job."
    return click.argument("job", required=False, shell_complete=complete_job, help=help_text)(function)


def json_option(function: Decorated) -> Decorated:
    """The flag --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def message_options(function: Decorated) -> Decorated:
    """-m and -F: words for the agents and the record."""
    function = click.option(
        "-F", "--message-file", metavar="FILE", help="Read the message from a file; - is standard input."
    )(function)
    return click.option("-m", "--message", metavar="TEXT", help="Words for the agents and the record.")(function)


def read_message(message: str | None, message_file: str | None) -> str:
    """The message that -m or -F gives, empty when neither was given. Raises UsageProblem."""
    if message is not None and message_file is not None:
        raise UsageProblem("-m and -F exclude each other", "give the message once")
    return read_text(message_file, "-F") if message_file is not None else message or ""


def read_bytes(name: str, option: str, limit: int | None = None) -> bytes:
    """The content of a file, or of standard input for `-`; at most `limit` bytes. Raises UsageProblem."""
    from pathlib import Path

    size = -1 if limit is None else limit
    try:
        if name == STDIN:
            return sys.stdin.buffer.read(size)
        with Path(name).open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise UsageProblem(
            f"the file of {option} can't be read: {name}: {error.strerror}", "give a readable file, or - for stdin"
        ) from error


def read_text(name: str, option: str) -> str:
    """The text of a file, or of standard input for `-`. Raises UsageProblem when it is not UTF-8."""
    try:
        return read_bytes(name, option).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageProblem(f"the file of {option} is not UTF-8 text: {name}", "save it as UTF-8") from error
