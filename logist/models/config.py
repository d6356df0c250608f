"""The configuration, and a whole job in one file: what people write by hand. No secrets stand in either."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from logist.durations import parse_duration
from logist.models.manifest import (
    MAX_TEXT,
    Budget,
    Check,
    JobId,
    Line,
    Phase,
    Priority,
    Roles,
    Text,
    in_order_of_needs,
)
from logist.models.record import Record

#: What a word of an agent's `command` may hold in braces.
PLACEHOLDERS = ("prompt", "prompt_file", "workspace", "reply_file", "model", "role")
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
#: What an argument of `resume` may hold, and one of them must.
SESSION_PLACEHOLDER = "{session}"
#: Names that `[agents.NAME]` can't take.
BUILT_IN_AGENTS = ("command", "playbook")
#: What keys of `[agents.NAME]` were called once: files that say so are still read.
_OLD_NAMES = {"argv": "command", "shell": "command", "text_path": "reply_path", "text_where": "reply_where"}

_SECRET_WORDS = {"KEY", "APIKEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "CREDENTIALS"}
_LONGEST_CHECK_NAME = 80


def _seconds_in(*names: str, inside: str = "") -> Callable[[Any], Any]:
    """A validator that reads durations like `30m` under these keys of a table, and leaves all else as it is."""

    def convert(table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        return {key: read(key, value) if key in names else value for key, value in table.items()}

    def read(key: str, value: Any) -> Any:
        try:
            return parse_duration(value) if isinstance(value, str) else value
        except ValueError as error:
            # pydantic names the table, not the key, when a table's own validator refuses it.
            raise ValueError(f"{inside}{key}: {error}") from error

    return convert


def _check_table(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": " ".join(value.split())[:_LONGEST_CHECK_NAME] or "check", "command": value}
    return _seconds_in("timeout")(value)


def _phase_table(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and isinstance(value.get("checks"), list):
        value = {**value, "checks": [_check_table(check) for check in value["checks"]]}
    return _seconds_in("chunk_timeout")(value)


def _roles_table(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        role: _seconds_in("timeout", "idle_timeout", "max_wait", inside=f"{role}.")(settings)
        for role, settings in value.items()
    }


#: A check as a table, or as the command alone.
CheckTable = Annotated[Check, BeforeValidator(_check_table)]
#: A phase as a table, or as its name alone.
PhaseTable = Annotated[Phase, BeforeValidator(_phase_table)]
RolesTable = Annotated[Roles, BeforeValidator(_roles_table)]
BudgetTable = Annotated[Budget, BeforeValidator(_seconds_in("time"))]

AgentName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


def _path(value: str) -> str:
    if not all(part and part == part.strip() for part in value.split(".")):
        raise ValueError(f"{value[:60]!r} is no dotted path; write the keys down to the value, like result.text")
    return value


#: Where a value stands in JSON: keys, and places in lists (0 is the first, -1 the last), with dots between them.
DottedPath = Annotated[str, StringConstraints(max_length=500), AfterValidator(_path)]


class UsagePaths(Record):
    """Where a program's JSON output says what it used."""

    input: DottedPath | None = None
    output: DottedPath | None = None
    cached: DottedPath | None = None
    #: US dollars.
    cost: DottedPath | None = None
    #: The figures are those of the whole session, and not of one oneshot.
    cumulative: bool = False

    @model_validator(mode="after")
    def _names_a_figure(self) -> UsagePaths:
        if self.cumulative and not (self.input or self.output or self.cached or self.cost):
            raise ValueError("cumulative says nothing without the path of input, output, cached or cost")
        return self


def _command(value: Any) -> Any:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        # pydantic would name each kind that it is not.
        raise ValueError("write it as a list of words, or as one line for /bin/sh")
    if max(map(len, words), default=0) > MAX_TEXT:
        raise ValueError(f"a word of it, or the line, is longer than {MAX_TEXT} characters")
    if not any(word.strip() for word in words):
        raise ValueError("it is empty")
    return value


class AgentDefinition(Record):
    """An agent of the configuration: any program that takes a prompt."""

    #: A list of words, in which {prompt}, {prompt_file}, {workspace}, {reply_file}, {model} and {role} are filled in;
    #: or a line for /bin/sh, which finds the same values in LOGIST_* variables.
    command: Annotated[tuple[str, ...] | str, BeforeValidator(_command)]
    #: How the prompt is given. `arg`: where {prompt} stands, else as the last argument; `file`: so with {prompt_file}.
    prompt: Literal["stdin", "arg", "file", "none"] = "stdin"
    #: `required`: a reply file or a fenced reply. `exit_code`: without a reply file, 0 is COMPLETED and else RETRY.
    reply: Literal["required", "exit_code"] = "required"
    #: What it prints: text, of which all is its final text; one JSON object; or one on each line.
    output: Literal["text", "json", "ndjson"] = "text"
    #: Where the final text, which holds the reply, stands in that object; of several, in the last that has it and that
    #: `reply_where` fits.
    reply_path: DottedPath | None = None
    #: Values that the object with the final text has, by path: {"role" = "assistant"}.
    reply_where: dict[DottedPath, str | int | bool] = Field(default_factory=dict)
    #: Where an error stands: a text, a true, an HTTP status, or an object.
    error_path: DottedPath | None = None
    #: Where the session's name stands.
    session_path: DottedPath | None = None
    usage: UsagePaths = UsagePaths()
    #: The model where the role names none: for {model}, and for the price of what was used.
    model: Line | None = None
    #: Whose list price of the model counts, where its name alone does not tell: `openai`, `openrouter`.
    provider: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] | None = None
    #: Arguments that are added when a session is gone on with; {session} is filled in.
    resume: tuple[Annotated[str, StringConstraints(max_length=MAX_TEXT)], ...] = ()
    #: Files and folders/ of a workspace that it runs, or takes settings from: with one of them changed by the job its
    #: COMPLETED as a supervisor does not count.
    steered_by: tuple[Annotated[str, StringConstraints(pattern=r"^[^/].*", max_length=200)], ...] = ()
    #: Fixed environment variables.
    env: dict[VariableName, str] = Field(default_factory=dict)
    #: Names of variables that are passed through from the caller.
    pass_env: tuple[VariableName, ...] = ()

    @property
    def argv(self) -> tuple[str, ...]:
        """The words of `command`; empty where it is a line for a shell."""
        return () if isinstance(self.command, str) else self.command

    @property
    def shell(self) -> str | None:
        """The line that `command` is; None where it is a list of words."""
        return self.command if isinstance(self.command, str) else None

    @model_validator(mode="after")
    def _shell_line_gets_no_prompt(self) -> AgentDefinition:
        if self.shell is not None and self.prompt == "arg":
            raise ValueError('a shell line takes no prompt = "arg"; use "stdin", or $LOGIST_PROMPT_FILE in it')
        return self

    @model_validator(mode="after")
    def _placeholders_are_known(self) -> AgentDefinition:
        used = {name for argument in self.argv for name in PLACEHOLDER.findall(argument)}
        unknown = sorted(used - set(PLACEHOLDERS))
        if unknown:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(f"command has the unknown placeholder {{{unknown[0]}}}; there are {known}")
        if "prompt" in used and self.prompt != "arg":
            raise ValueError('{prompt} in command needs prompt = "arg"')
        return self

    @model_validator(mode="after")
    def _output_can_be_read(self) -> AgentDefinition:
        read = ("reply_path", "reply_where", "error_path", "session_path", "usage")
        if self.output == "text":
            given = [name for name in read if name in self.model_fields_set]
            if given:
                raise ValueError(f'{given[0]} needs output = "json" or "ndjson"')
        elif self.reply_path is None:
            raise ValueError(f'output = "{self.output}" needs reply_path, where the final text stands')
        return self

    @model_validator(mode="after")
    def _prices_can_be_looked_up(self) -> AgentDefinition:
        if self.provider is not None and not (self.usage.input and self.usage.output):
            raise ValueError("provider is for a price: it needs the paths usage.input and usage.output")
        return self

    @model_validator(mode="after")
    def _sessions_can_be_gone_on_with(self) -> AgentDefinition:
        if not self.resume:
            return self
        if not any(SESSION_PLACEHOLDER in argument for argument in self.resume):
            raise ValueError("resume must say where {session} stands")
        if self.session_path is None:
            raise ValueError("resume needs session_path, where the session's name stands in the output")
        if self.shell is not None:
            raise ValueError("a shell line takes no arguments to resume; write command as a list of words")
        return self

    @model_validator(mode="after")
    def _holds_no_secret(self) -> AgentDefinition:
        for name in self.env:
            if _SECRET_WORDS & set(name.upper().split("_")):
                raise ValueError(f"{name} looks like a secret: name it in pass_env, and set it in your environment")
        return self


def _agent_table(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    made = {key: each for key, each in value.items() if key not in _OLD_NAMES}
    for old, new in _OLD_NAMES.items():
        if old in value:
            if new in made:
                raise ValueError(f"{old} is an old name of {new}, and there is one already; write {new} alone")
            made[new] = value[old]
    return {**made, "prompt": "arg"} if made.get("prompt") == "argument" else made


#: An agent as a table, in today's names or in those of before.
AgentTable = Annotated[AgentDefinition, BeforeValidator(_agent_table)]


class Config(Record):
    """What a project and a user set once for all jobs. Paths are absolute once loaded."""

    #: What new jobs get unless they say otherwise.
    roles: RolesTable = Roles()
    budget: BudgetTable = Budget()
    checks: tuple[CheckTable, ...] = ()
    no_progress_limit: Annotated[int, Field(ge=2, le=20)] = 3
    #: Agents by name.
    agents: dict[AgentName, AgentTable] = Field(default_factory=dict)
    jobs_dir: Path | None = None
    #: A folder whose worker.md, supervisor.md and reply.md replace the packaged ones.
    prompts: Path | None = None
    #: Names of environment variables that every agent gets beside the allow-list.
    env: tuple[VariableName, ...] = ()

    @model_validator(mode="after")
    def _agents_have_new_names(self) -> Config:
        for name in BUILT_IN_AGENTS:
            if name in self.agents:
                raise ValueError(f"agents.{name}: {name} is built in; give yours another name")
        return self


class JobFile(Record):
    """A whole job, as one TOML or JSON file. What it leaves out comes from the configuration."""

    objective: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
    id: JobId | None = None
    prompt: Text = ""
    #: A git repository or a folder to start from. Absolute once read.
    source: Path | None = None
    phases: Annotated[tuple[PhaseTable, ...], Field(min_length=1), AfterValidator(in_order_of_needs)] = (
        Phase(name="main"),
    )
    checks: tuple[CheckTable, ...] | None = None
    roles: RolesTable | None = None
    budget: BudgetTable | None = None
    no_progress_limit: Annotated[int, Field(ge=2, le=20)] | None = None
    priority: Priority = 0
    #: Ids of jobs that must have reached SUCCESS before this one is run along with others.
    needs: tuple[JobId, ...] = ()
