"""Any program as an agent: the built-in `command` (a shell line), and the agents of the configuration."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from logist.agents.cli import SIGNALLED, refused
from logist.agents.configured_output import read_configured, read_figures
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
from logist.agents.outcome import Outcome, session_of, used_in
from logist.agents.prices import with_price
from logist.agents.reading import Reading, find_reply, read_reply_file
from logist.errors import AgentUnavailable
from logist.execution import Command, CommandResult, Ended
from logist.models.config import PLACEHOLDER, SESSION_PLACEHOLDER, AgentDefinition, UsagePaths
from logist.models.manifest import RoleSettings, Verdict
from logist.models.reply import Reply
from logist.models.usage import Usage
from logist.plain_text import last_part

#: sysexits' EX_TEMPFAIL: the program itself says that trying again later may help.
_TEMPORARY_FAILURE = 75
#: Characters of output that stand in for a summary.
_MAX_TAIL = 4000


@dataclass(frozen=True)
class CommandAgent:
    """The built-in `command`: the role's argument is a line for /bin/sh, its exit code a verdict."""

    name: str = "command"
    scripted: bool = False

    def check(self, settings: RoleSettings) -> None:
        """Raise AgentUnavailable when there is no line."""
        if not settings.argument.strip():
            raise AgentUnavailable(
                "the agent command has no line to run", "give it one, for example --worker 'command:make all'"
            )

    def spell(self, request: OneshotRequest) -> Command:
        """The line, with the prompt on its standard input."""
        return spell_command(request, shell=request.settings.argument, stdin=prompt_bytes(request))

    def read(self, request: OneshotRequest, result: CommandResult) -> Answer:
        """A reply file counts first; without one exit code 0 is COMPLETED and any other RETRY."""
        return read_exit_code(request, result)


@dataclass(frozen=True)
class ConfiguredAgent:
    """An agent of the configuration: `[agents.NAME]`."""

    name: str
    definition: AgentDefinition
    scripted: bool = False

    @property
    def steered_by(self) -> tuple[str, ...]:
        """Files and folders/ of a workspace that its program runs, or takes settings from."""
        return self.definition.steered_by

    def check(self, settings: RoleSettings) -> None:
        """Raise AgentUnavailable when its program is not there, or a value that its command names is not set."""
        if settings.args and self.definition.shell is not None:
            raise AgentUnavailable(
                f"the agent {self.name} takes no args: it is a shell line",
                f"write command in [agents.{self.name}] as a list of words",
            )
        if settings.argument:
            raise AgentUnavailable(
                f"the agent {self.name} takes no argument", f"put arguments into command in [agents.{self.name}]"
            )
        if self._model(settings) is None and any("{model}" in argument for argument in self.definition.argv):
            raise AgentUnavailable(
                f"the agent {self.name} needs a model",
                f'set model = "..." for the role that {self.name} plays, or in [agents.{self.name}]',
            )
        program = self.definition.argv[0] if self.definition.argv else "/bin/sh"
        # A relative path or a placeholder is only known in the workspace.
        relative = "/" in program and not program.startswith("/")
        if not relative and not PLACEHOLDER.search(program) and shutil.which(program) is None:
            there = "/" in program and Path(program).is_file()
            raise AgentUnavailable(
                f"the program {program} of the agent {self.name} {'is not executable' if there else 'was not found'}",
                f"{'chmod +x it' if there else 'install it'}, or correct command in [agents.{self.name}]",
            )

    def spell(self, request: OneshotRequest) -> Command:
        """Its words with the placeholders filled in, or its shell line as it stands."""
        definition = self.definition
        request = replace(
            request, settings=request.settings.model_copy(update={"model": self._model(request.settings)})
        )
        return spell_command(
            request,
            names=definition.pass_env,
            fixed=definition.env,
            argv=_fill(definition, request),
            shell=definition.shell,
            stdin=prompt_bytes(request) if definition.prompt == "stdin" else None,
        )

    def meter(self, settings: RoleSettings) -> Meter | None:
        """What counts its use as its output comes: each figure is what it was told last."""
        definition = self.definition
        # What a whole session used would be charged again.
        if definition.output != "ndjson" or definition.usage.cumulative or definition.usage == UsagePaths():
            return None
        return Meter(lambda event: ("all", read_figures(definition, event)), partial(self._priced, settings))

    def read(self, request: OneshotRequest, result: CommandResult) -> Answer:
        """By its definition: a reply is required, or the exit code stands in for one; its own error goes first."""
        if self.definition.output == "text":
            return self._understood(request, result, None)
        report = read_configured(self.definition, result.stdout.kept)
        if result.ended is not Ended.EXITED or report.outcome in (Outcome.OK, Outcome.NO_RESULT):
            # Without a text its exit code has to say that it went well, before a reply file counts.
            file = report.outcome is Outcome.OK or result.exit_code == 0
            answer = self._understood(request, result, report.text, file=file)
        else:
            login = f"see that it is logged in, or has its key by pass_env of [agents.{self.name}]"
            answer = replace(refused(request, result, report, login), outcome=report.outcome)
        if answer.kind == "unreadable" and answer.source == "text" and report.detail:
            answer = replace(answer, problem=report.detail, outcome=report.outcome)
        return replace(
            answer,
            usage=self._priced(request.settings, used_in(request.session, report)),
            session=session_of(self.name, request.session, report) if self.definition.resume else None,
        )

    def _model(self, settings: RoleSettings) -> str | None:
        return settings.model or self.definition.model

    def _priced(self, settings: RoleSettings, usage: Usage) -> Usage:
        return with_price(usage, self._model(settings), self.definition.provider)

    def _understood(
        self, request: OneshotRequest, result: CommandResult, text: str | None, *, file: bool = True
    ) -> Answer:
        if self.definition.reply == "exit_code":
            answer = read_exit_code(request, result, text or "")
        else:
            answer = read_required(request, result, text, file=file)
        return replace(answer, outcome=_outcome(result, answer))


def _outcome(result: CommandResult, answer: Answer) -> Outcome:
    """What came of a program that gives no account of its own."""
    if answer.reply is not None:
        return Outcome.OK
    if result.program_missing:
        return Outcome.CONFIG
    if result.ended is Ended.TIMED_OUT:
        return Outcome.TIMEOUT
    if result.ended is not Ended.EXITED or result.exit_code in SIGNALLED:
        return Outcome.KILLED
    return Outcome.OK if result.exit_code == 0 else Outcome.NO_RESULT


def _fill(definition: AgentDefinition, request: OneshotRequest) -> tuple[str, ...]:
    if not definition.argv:
        return ()
    session = request.session.id if request.session is not None else None
    resume = [argument.replace(SESSION_PLACEHOLDER, session) for argument in definition.resume] if session else []
    values = {
        "prompt": prompt_argument(request),
        "prompt_file": str(request.prompt_file),
        "workspace": str(request.workspace),
        "reply_file": str(request.reply_file),
        "model": request.settings.model or "",
        "role": request.role.value,
    }
    # One pass: what a value holds is never a placeholder again.
    argv = [PLACEHOLDER.sub(lambda found: values[found[1]], argument) for argument in definition.argv]
    given = {"arg": "prompt", "file": "prompt_file"}.get(definition.prompt)
    unsaid = given is not None and not any(f"{{{given}}}" in argument for argument in definition.argv)
    return (*argv, *resume, *request.settings.args, *([values[given]] if given and unsaid else []))


def read_required(
    request: OneshotRequest, result: CommandResult, text: str | None = None, *, file: bool = True
) -> Answer:
    """The answer of an agent that owes a reply: its file, unless that does not count, else a fenced one in its `text`.

    None: all that it printed is its final text. What it printed before it failed is not final, and no reply.
    """
    stopped = _read_stopped(result)
    if stopped is not None:
        return stopped
    if result.exit_code in SIGNALLED:
        return _without_reply("transient", f"the command was killed (exit code {result.exit_code})", result)
    written = read_reply_file(request.workspace, request.reply_file, request.token) if file else None
    if written is not None and written.reply is not None:
        return Answer(written.reply, "reply", source="file")
    if result.exit_code == _TEMPORARY_FAILURE:
        return _without_reply("transient", "the command said that it failed for now (exit code 75)", result)
    if written is not None:
        return _unreadable(written, "file")
    if result.exit_code != 0:
        why = f"the command ended with exit code {result.exit_code} and no reply file that counts"
        return _without_reply("failed", why, result)
    printed = result.stdout.kept.decode("utf-8", errors="replace") if text is None else text
    reading = find_reply(printed, request.token)
    return _unreadable(reading, "text") if reading.reply is None else Answer(reading.reply, "reply", source="text")


def read_exit_code(request: OneshotRequest, result: CommandResult, said: str = "") -> Answer:
    """The answer of a command that need not know Logist: a reply file counts first, then its exit code.

    What it `said` is the summary; empty: all that it printed.
    """
    stopped = _read_stopped(result)
    if stopped is not None:
        return stopped
    written = read_reply_file(request.workspace, request.reply_file, request.token)
    if written is not None:
        return Answer(written.reply, "reply", source="file") if written.reply else _unreadable(written, "file")
    summary = last_part(said, _MAX_TAIL).strip() or _output(result, _MAX_TAIL)
    if result.exit_code == 0:
        reply = Reply(action=Verdict.COMPLETED, summary_for_supervisor=summary or "exit code 0, no output")
    else:
        said = f"; the end of its output:\n{summary}" if summary else ", no output"
        reply = Reply(action=Verdict.RETRY, summary_for_supervisor=f"exit code {result.exit_code}{said}")
    return Answer(reply, "reply", source="exit_code")


def _read_stopped(result: CommandResult) -> Answer | None:
    """The answer when the command did not come to its own end."""
    if result.ended is Ended.EXITED:
        return None
    if result.ended is Ended.TIMED_OUT:
        return _without_reply("timeout", f"the command was stopped: {result.detail or 'it took too long'}", result)
    if result.ended is Ended.NOT_STARTED and result.program_missing:
        return _without_reply("failed", f"the command can't be run: {result.detail or 'no such program'}", result)
    why = "could not be started" if result.ended is Ended.NOT_STARTED else "was stopped"
    return _without_reply("transient", f"the command {why}: {result.detail or 'no reason was given'}", result)


def _without_reply(kind: AnswerKind, problem: str, result: CommandResult) -> Answer:
    return Answer(None, kind, problem=problem, received=_output(result, MAX_RECEIVED))


def _unreadable(reading: Reading, source: str) -> Answer:
    return Answer(None, "unreadable", reading.problem, source, received=reading.received[-MAX_RECEIVED:])


def _output(result: CommandResult, limit: int) -> str:
    """The end of what it printed, as plain text; standard error last, as that is where failures explain themselves."""
    errors = last_part(result.stderr.kept, limit // 2).strip()
    printed = last_part(result.stdout.kept, limit - len(errors) - 1).strip()
    return "\n".join(part for part in (printed, errors) if part)
