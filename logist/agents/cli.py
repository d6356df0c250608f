"""The agent CLIs: what all of them have in common. What sets one apart is a small module of its own, a `Cli`."""

from __future__ import annotations

import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from logist.agents.json_output import Values
from logist.agents.metering import Meter
from logist.agents.oneshot import (
    MAX_RECEIVED,
    Answer,
    AnswerKind,
    OneshotRequest,
    prompt_argument,
    prompt_bytes,
    spell_command,
)
from logist.agents.outcome import (
    BLOCKED,
    LATER,
    Outcome,
    Report,
    outcome_of_message,
    outcome_of_refusal,
    session_of,
    used_in,
)
from logist.agents.own_waits import Heard, OwnWait, Refusal
from logist.agents.prices import with_price
from logist.agents.reading import Reading, find_reply, read_reply_file
from logist.agents.remedies import remedy
from logist.agents.retry_times import seconds_to_wait
from logist.agents.versions import installed_version
from logist.errors import AgentUnavailable
from logist.execution import CancelCheck, Command, CommandResult, Ended
from logist.models.manifest import Role, RoleSettings
from logist.models.usage import UNTOLD, Usage
from logist.plain_text import first_part, last_part, plain_text

#: How programs reach a provider from behind a proxy, and whom they trust.
_NETWORK = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"),
)
#: It came to no use of a model.
_REFUSED = (LATER | BLOCKED) - {Outcome.PERMISSION_DENIED}
#: No colours, no questions, and no line that is broken to fit a terminal.
_PLAIN = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100000", "GIT_TERMINAL_PROMPT": "0"}
_MAX_DETAIL = 1_000
#: Characters of what a program said that stand before what can be done about it: both are in one sentence.
_MAX_SAID_SHORT = 140
#: Bytes of a program's messages that are looked through for its error.
_MAX_SAID = 20_000
#: What a shell calls the ends by SIGHUP, SIGINT, SIGABRT, SIGKILL, SIGSEGV and SIGTERM.
SIGNALLED = (129, 130, 134, 137, 139, 143)
_ERROR_LINE = re.compile(r"^.{0,60}error\b.*", re.IGNORECASE | re.MULTILINE)


class Asked(NamedTuple):
    """What an argv is spelled from."""

    request: OneshotRequest
    #: The prompt as one argument; a long one is pointed to instead.
    prompt: str
    #: The session to go on with; None begins a new one.
    session: str | None


class CliOutput(NamedTuple):
    """What a program left behind once it ended by itself."""

    stdout: bytes
    stderr: bytes
    exit_code: int
    #: Where it was asked to put files of its own.
    step_dir: Path


def without_result(output: CliOutput, gone: str) -> Report:
    """The report on a program that ended before it came to any result.

    `gone` is what it says of a session that it no longer has.
    """
    said = plain_text(output.stderr[-_MAX_SAID:] or output.stdout[-_MAX_SAID:])
    if gone in said:
        return Report(Outcome.NO_RESULT, detail="its session is gone")
    if output.exit_code in SIGNALLED:
        return Report(Outcome.KILLED, detail=_how_killed(output.exit_code))
    if output.exit_code != 0 and not output.stdout.strip():
        line = error_line(said)
        if not line:
            # First what was wrong, then how it is used.
            return Report(Outcome.CONFIG, detail=first_part(said.strip(), 200) or f"exit code {output.exit_code}")
        return Report(outcome_of_message(line) or Outcome.CONFIG, detail=line)
    return Report(Outcome.NO_RESULT, detail=f"no result was printed (exit code {output.exit_code})")


def _how_killed(exit_code: int) -> str:
    return f"it was killed (exit code {exit_code})"


def unknown_result(kind: str) -> tuple[Outcome, str]:
    """The outcome of a result that the adapter does not know, and why; `kind`: what it calls itself."""
    return Outcome.NO_RESULT, f"its result is of a kind that is not known ({kind or 'it names none'})"


def error_line(said: str) -> str:
    """The first line that says of itself that it is an error; empty: none does."""
    line = _ERROR_LINE.search(said)
    return line[0].strip() if line else ""


class Cli(ABC):
    """One agent CLI: how it is called, and what its output means. No side effects."""

    #: The name by which roles call it, its program, and the command that installs it.
    name: str
    program: str
    install: str
    #: How one logs in, in a few words; empty: that is not known.
    login: str = ""
    #: The beginnings of the versions that were tested.
    tested: tuple[str, ...] = ()
    #: How it is asked for its version; empty: with `--version`.
    version_argv: tuple[str, ...] = ()
    #: Its generations are called in different ways: the request's `version` is what it printed.
    by_version: bool = False
    #: How it takes its prompt, in the words of the configuration. `arg` and `file`: its argv says where.
    prompt: Literal["stdin", "arg", "file"] = "stdin"
    #: Environment variables that are passed on to it (keys, addresses, folders), and those that are always set.
    passes: tuple[str, ...] = ()
    fixed: tuple[tuple[str, str], ...] = ()
    #: Whether a session can be gone on with by a oneshot.
    resumes: bool = False
    #: Whether it tells while it runs what it uses: see `streamed`.
    streams: bool = False
    #: Whether it tells while it runs that its provider refused it and that it tries again by itself: see `hear`.
    tells_waits: bool = False
    #: Variables that are set for a supervisor besides: nothing that the worker left behind shall run in it.
    judging: tuple[tuple[str, str], ...] = ()
    #: Files and folders/ of a workspace that it runs, or takes settings from, all the same.
    steered_by: tuple[str, ...] = ()
    #: Whether it puts a file into a prompt that says `@NAME`, unless a backslash goes before that.
    expands_names: bool = False
    #: Files of its own that it may leave in a workspace: no part of the work, unless they are tracked already.
    marks: tuple[str, ...] = ()
    #: Whether its supervisor can write. Where it can't, a reply file is somebody else's.
    supervisor_writes: bool = False

    @abstractmethod
    def argv(self, asked: Asked) -> tuple[str, ...]:
        """The command line of one oneshot."""

    @abstractmethod
    def report(self, output: CliOutput) -> Report:
        """What the output says; never raises on whatever it is."""

    def streamed(self, event: Values) -> tuple[str, Usage] | None:  # noqa: ARG002 - this one tells nothing
        """What one event of its output says was used, under a name by which a later one replaces it."""
        return None

    def hear(self, line: bytes) -> Heard:  # noqa: ARG002 - this one tells nothing
        """What one line of its output, of either stream, says of its provider while it runs."""
        return None

    def chat(self, session: str) -> tuple[str, ...]:  # noqa: ARG002 - this one has none
        """The command line by which a human takes the session over; empty: there is none. It also takes `--model`."""
        return ()

    def installed(self, environ: Mapping[str, str], cancel: CancelCheck | None = None) -> str | None:
        """The version that is installed, by asking the program; None: it is not there, or names none."""
        return installed_version(self.version_argv or (self.program, "--version"), environ, cancel)

    def doubt(self, version: str | None) -> str | None:
        """A sentence when this is a version that was not tested."""
        if version is None or not self.tested or version.startswith(self.tested):
            return None
        known = ", ".join(f"{beginning}x" for beginning in self.tested)
        return f"{self.name} {version} is not a version that was tested ({known}); it may work all the same"


@dataclass(frozen=True)
class CliAgent:
    """An agent CLI as an agent."""

    cli: Cli
    scripted: bool = False

    @property
    def name(self) -> str:
        """The CLI's name."""
        return self.cli.name

    def check(self, settings: RoleSettings) -> None:  # noqa: ARG002 - the models that a provider has are not known here
        """Raise AgentUnavailable when its program is not installed."""
        if shutil.which(self.cli.program) is None:
            raise AgentUnavailable(
                f"the program {self.cli.program} of the agent {self.name} was not found",
                f"install it: {self.cli.install}",
            )

    def spell(self, request: OneshotRequest) -> Command:
        """One oneshot, in the role's session where that is to be gone on with."""
        request = replace(request, settings=_with_model(request.settings))
        if self.cli.expands_names and request.role is Role.SUPERVISOR:
            # A diff is full of it, and what the work names would stand outside of the fences.
            request = replace(request, prompt=request.prompt.replace("@", "\\@"))
        session = request.session.id if request.session is not None and self.cli.resumes else None
        fixed = {**_PLAIN, **dict(self.cli.fixed)} | (dict(self.cli.judging) if request.role is Role.SUPERVISOR else {})
        asked = Asked(request, prompt_argument(request), session)
        return spell_command(
            request,
            names=(*_NETWORK, *self.cli.passes),
            fixed=fixed,
            argv=(*self.cli.argv(asked), *request.settings.args),
            stdin=prompt_bytes(request) if self.cli.prompt == "stdin" else None,
        )

    def writes(self, role: Role) -> bool:
        """Whether it can write files in this role."""
        return role is Role.WORKER or self.cli.supervisor_writes

    @property
    def steered_by(self) -> tuple[str, ...]:
        """Files and folders/ of a workspace that its program runs, or takes settings from."""
        return self.cli.steered_by

    @property
    def marks(self) -> tuple[str, ...]:
        """Files of its own that its program may leave in the workspace."""
        return self.cli.marks

    def version(self, environ: Mapping[str, str], cancel: CancelCheck | None = None) -> str | None:
        """The version that is installed, where it is called by its version."""
        return self.cli.installed(environ, cancel) if self.cli.by_version else None

    def doubt(self, environ: Mapping[str, str], cancel: CancelCheck | None = None) -> str | None:
        """A sentence when the version that is installed was not tested; it is asked for."""
        return self.cli.doubt(self.cli.installed(environ, cancel)) if self.cli.tested else None

    def meter(self, settings: RoleSettings) -> Meter | None:
        """What counts its use as its output comes, where the CLI streams that."""
        price = partial(with_price, model=_with_model(settings).model)
        return Meter(self.cli.streamed, price) if self.cli.streams else None

    def own_wait(self) -> OwnWait | None:
        """What hears that its program waits for a provider by itself, where the CLI tells that."""
        return OwnWait(self.cli.hear) if self.cli.tells_waits else None

    def chat(self, settings: RoleSettings, session: str) -> tuple[str, ...]:
        """The command line by which a human takes the session over, as the role calls the CLI; empty: there is none."""
        settings, argv = _with_model(settings), self.cli.chat(session)
        model = ("--model", settings.model) if settings.model else ()
        return (*argv, *model, *settings.args) if argv else ()

    def read(self, request: OneshotRequest, result: CommandResult) -> Answer:
        """The program's own account first; only when that is fine does a reply count: its file, else the final text."""
        return self._answer(request, result, self._report(request, result))

    def read_waiting(self, request: OneshotRequest, result: CommandResult, refusal: Refusal) -> Answer:
        """The answer where the program was stopped because it waited for its provider by itself, after `refusal`."""
        outcome = outcome_of_refusal(refusal.status, refusal.said) or Outcome.SERVER
        retry = "" if refusal.again_in is None else f"{refusal.again_in:.0f}"
        stopped = self._report(request, result._replace(ended=Ended.TIMED_OUT))
        return self._answer(
            request, result, stopped._replace(outcome=outcome, text="", detail=refusal.said, retry=retry)
        )

    def _answer(self, request: OneshotRequest, result: CommandResult, report: Report) -> Answer:
        answer = _understood(request, result, report, login=self.cli.login, by_file=self.writes(request.role))
        usage = with_price(used_in(request.session, report), _with_model(request.settings).model)
        return replace(
            answer,
            outcome=report.outcome,
            usage=UNTOLD if usage == Usage() and _asked_a_model(report, result) else usage,
            session=session_of(self.name, request.session, report) if self.cli.resumes else None,
        )

    def _report(self, request: OneshotRequest, result: CommandResult) -> Report:
        if result.program_missing:
            return Report(Outcome.CONFIG, detail=f"the command can't be run: {result.detail}")
        if result.ended not in (Ended.EXITED, Ended.TIMED_OUT):
            return Report(Outcome.KILLED, detail=f"the command was not run to its end: {result.detail}")
        report = self._read_output(
            CliOutput(result.stdout.kept, result.stderr.kept, result.exit_code or 0, request.step_dir)
        )
        if result.ended is Ended.TIMED_OUT:
            # What it had used until then is used.
            return report._replace(outcome=Outcome.TIMEOUT, detail=_stopped(report, result.detail))
        return report

    def _read_output(self, output: CliOutput) -> Report:
        try:
            report = self.cli.report(output)
        except Exception as error:  # noqa: BLE001 - whatever a program prints must not end the run of a job
            name = type(error).__name__
            report = Report(Outcome.NO_RESULT, detail=f"its output could not be understood ({name}: {error})")
        if output.exit_code in SIGNALLED and report.outcome in (Outcome.CONFIG, Outcome.NO_RESULT):
            # What it left is not its last word: that it came to nothing says nothing of its settings.
            return report._replace(outcome=Outcome.KILLED, detail=_how_killed(output.exit_code))
        return report


def _with_model(settings: RoleSettings) -> RoleSettings:
    """The settings with what follows the agent's name, as `NAME:MODEL`, as the model."""
    if settings.model is not None or not settings.argument:
        return settings
    return settings.model_copy(update={"model": settings.argument})


def _retry_after(request: OneshotRequest, result: CommandResult, report: Report) -> float | None:
    """Seconds until it is worth trying again, where the program told that of a provider that is busy."""
    if report.outcome not in LATER:
        return None
    return seconds_to_wait(report.retry or report.detail, request.asked_at.timestamp() + result.duration)


def _understood(request: OneshotRequest, result: CommandResult, report: Report, *, login: str, by_file: bool) -> Answer:
    if report.outcome is Outcome.NO_RESULT:
        # A session that is gone can't be asked for its reply alone.
        gone = request.session is not None and report.session is None
        why = f"no_result: {_detail(report) or 'nothing that counts'}"
        return _without_reply("failed" if gone else "unreadable", why, result)
    if report.outcome is not Outcome.OK:
        return refused(request, result, report, login)
    reading, source = _read_file(request) if by_file else None, "file"
    if reading is None:
        reading, source = find_reply(report.text, request.token), "text"
    if reading.reply is not None:
        return Answer(reading.reply, "reply", source=source)
    problem = reading.problem
    if not by_file and _read_file(request) is not None:
        problem = "a reply file does not count, as you may only look: end the final message with the reply in a fence"
    return Answer(None, "unreadable", problem, source, received=reading.received[-MAX_RECEIVED:])


def _read_file(request: OneshotRequest) -> Reading | None:
    return read_reply_file(request.workspace, request.reply_file, request.token)


def refused(request: OneshotRequest, result: CommandResult, report: Report, login: str) -> Answer:
    """The answer where the program itself says that it came to nothing: no reply counts, wherever it stands.

    `login` is how one logs in to the agent.
    """
    if report.outcome in BLOCKED:
        to_do = remedy(report.outcome, request.settings.agent, request.role, login)
        problem = "; ".join(filter(None, (f"{report.outcome}: {_in_short(report).rstrip('.')}", to_do)))
        return _without_reply("blocked", problem, result)
    if report.outcome in LATER:
        wait = _retry_after(request, result, report)
        problem = f"{report.outcome}: {_in_short(report)}{_told(request, result, wait)}"
        return replace(_without_reply("transient", problem, result), retry_after=wait)
    return _without_reply(_kind(report.outcome), f"{report.outcome}: {_detail(report)}", result)


def _told(request: OneshotRequest, result: CommandResult, wait: float | None) -> str:
    """When it is worth trying again, as a moment: it is read hours later."""
    if wait is None:
        return ""
    try:
        moment = request.asked_at.astimezone(UTC) + timedelta(seconds=result.duration + wait)
    except OverflowError:
        # No calendar has it.
        return ""
    return f" (worth trying again at {moment:%Y-%m-%d %H:%M} UTC)"


def _asked_a_model(report: Report, result: CommandResult) -> bool:
    """Whether it has probably used a model, for all that is known: it ran, and no provider refused it."""
    return result.ended in (Ended.EXITED, Ended.TIMED_OUT) and report.outcome not in _REFUSED


def _stopped(report: Report, limit: str) -> str:
    """Which limit stopped it, and what had gone wrong until then, where its output tells: it may be why."""
    told = report.outcome not in (Outcome.OK, Outcome.CONFIG, Outcome.KILLED, Outcome.NO_RESULT)
    return f"the command was stopped: {limit}" + (f"; by its own account: {_in_short(report)}" if told else "")


def _detail(report: Report) -> str:
    return plain_text(report.detail[:_MAX_DETAIL])


def _in_short(report: Report) -> str:
    said = " ".join(_detail(report).split())
    return said if len(said) <= _MAX_SAID_SHORT else said[: _MAX_SAID_SHORT - 1] + "…"


def _kind(outcome: Outcome) -> AnswerKind:
    if outcome is Outcome.TIMEOUT:
        return "timeout"
    return "transient" if outcome is Outcome.KILLED else "failed"


def _without_reply(kind: AnswerKind, problem: str, result: CommandResult) -> Answer:
    said = last_part(result.stderr.kept, MAX_RECEIVED // 2).strip() or last_part(result.stdout.kept, MAX_RECEIVED // 2)
    return Answer(None, kind, problem=problem, received=said.strip())
