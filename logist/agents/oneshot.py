"""The seam to the programs that play a role: what is asked in one oneshot, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from logist.agents.metering import Meter
from logist.agents.outcome import Outcome
from logist.agents.own_waits import OwnWait, Refusal
from logist.environment import inherited, inside, passed_on
from logist.execution import CancelCheck, Command, CommandResult
from logist.models.manifest import Role, RoleSettings
from logist.models.reply import Reply
from logist.models.usage import AgentSession, Usage

#: Characters of what was received that are kept when it can't be used.
MAX_RECEIVED = 4096
#: Bytes. One argument may have 128 kB in all; a longer prompt is pointed to instead.
_MAX_PROMPT_ARGUMENT = 100_000
#: One environment variable may not grow past the kernel's 128 kB.
_MAX_VALUE = 8192


@dataclass(frozen=True)
class OneshotRequest:
    """One question to one agent. Times are in seconds."""

    job_id: str
    objective: str
    role: Role
    step: int
    attempt: int
    #: This role's turn since the last rerun, from 1.
    turn: int
    phase: str
    prompt: str
    #: The prompt as a file, for agents that read one.
    prompt_file: Path
    workspace: Path
    #: Logs of this attempt go here.
    step_dir: Path
    #: Where the agent is asked to write its reply. The caller empties the folder before the attempt.
    reply_file: Path
    #: The nonce that a reply file of this attempt must carry.
    token: str
    settings: RoleSettings
    timeout: float | None
    #: When it is asked, aware.
    asked_at: datetime
    #: The caller's environment, of which the agent gets an allow-list.
    environ: Mapping[str, str]
    #: The job's lease, inherited by whatever runs.
    lease_fds: tuple[int, ...] = ()
    #: The session to go on with; None begins a new one.
    session: AgentSession | None = None
    #: Where the diff of what is judged is to lie besides; None: the prompt holds all of it.
    diff_file: Path | None = None
    #: The version of the agent's program, where it was asked for it; None: it is called as its newest one is.
    version: str | None = None


#: `reply`: it counts. `unreadable`: asked for again. `evidence`: names evidence that is not there. `failed`: the
#: command failed without a reply. `transient`: worth trying again later. `timeout`: it was stopped. `blocked`: a human
#: has to change something before it is asked again.
AnswerKind = Literal["reply", "unreadable", "evidence", "failed", "transient", "timeout", "blocked"]


@dataclass(frozen=True)
class Answer:
    """What was understood of a oneshot: a reply, or why there is none."""

    reply: Reply | None
    kind: AnswerKind
    #: One sentence for the next prompt and for a human; None when there is a reply.
    problem: str | None = None
    #: Which channel: `file`, `text` or `exit_code`; empty when nothing was received.
    source: str = ""
    #: What was received, bounded and as it came.
    received: str = ""
    #: What this oneshot used.
    usage: Usage = field(default_factory=Usage)
    #: What the program itself says came of it, where it does.
    outcome: Outcome | None = None
    #: The session that it was asked in, as it stands now.
    session: AgentSession | None = None
    #: Seconds until it is worth trying again, where that was said.
    retry_after: float | None = None
    #: Seconds for which its program had waited for the provider by itself when it was stopped for that.
    waited: float = 0.0


class Agent(Protocol):
    """A program that plays a role."""

    @property
    def name(self) -> str:
        """The name that a role's settings call it by."""
        ...

    @property
    def scripted(self) -> bool:
        """No model is asked; users are told so."""
        ...

    def check(self, settings: RoleSettings) -> None:
        """Raise AgentUnavailable or InvalidFile when it could not run with these settings."""
        ...

    def spell(self, request: OneshotRequest) -> Command:
        """The command that asks it."""
        ...

    def read(self, request: OneshotRequest, result: CommandResult) -> Answer:
        """What it answered, once its command ended."""
        ...


@runtime_checkable
class Metered(Protocol):
    """An agent whose program tells while it runs what it uses."""

    def meter(self, settings: RoleSettings) -> Meter | None:
        """What counts the use of one oneshot as its output comes; None where nothing is told."""
        ...


@runtime_checkable
class Waiting(Protocol):
    """An agent whose program waits for its provider by itself, and tells that while it runs."""

    def own_wait(self) -> OwnWait | None:
        """What hears that in the output of one oneshot as it comes; None where nothing is told."""
        ...

    def read_waiting(self, request: OneshotRequest, result: CommandResult, refusal: Refusal) -> Answer:
        """What it came to where it was stopped for that, after `refusal`."""
        ...


@runtime_checkable
class Versioned(Protocol):
    """An agent whose program is called in different ways, by its version."""

    def version(self, environ: Mapping[str, str], cancel: CancelCheck | None = None) -> str | None:
        """The version that is installed, by asking the program; None: it names none, or there is only one way."""
        ...


@runtime_checkable
class Tested(Protocol):
    """An agent whose program was tested in some versions."""

    def doubt(self, environ: Mapping[str, str], cancel: CancelCheck | None = None) -> str | None:
        """A sentence when another version is installed, by asking the program; None: there is nothing to say."""
        ...


@runtime_checkable
class Confined(Protocol):
    """An agent that can't write files in every role."""

    def writes(self, role: Role) -> bool:
        """Whether it can in this one; where it can't, a reply file is somebody else's and does not count."""
        ...


@runtime_checkable
class Marking(Protocol):
    """An agent whose program may leave files of its own in the workspace."""

    @property
    def marks(self) -> tuple[str, ...]:
        """Those files, from the workspace's top; new ones are no part of the work."""
        ...


@runtime_checkable
class Steered(Protocol):
    """An agent whose program is steered by what lies in the workspace: hooks, plugins, settings."""

    @property
    def steered_by(self) -> tuple[str, ...]:
        """The files and folders/ that do; a verdict on work that changed one of them does not count."""
        ...


def prompt_bytes(request: OneshotRequest) -> bytes:
    """The prompt as it is fed to a standard input."""
    return request.prompt.encode("utf-8", "surrogatepass")


def prompt_argument(request: OneshotRequest) -> str:
    """The prompt as one argument; a long one is pointed to instead."""
    if len(prompt_bytes(request)) > _MAX_PROMPT_ARGUMENT:
        return f"Read the file {request.prompt_file} and do what it says."
    return request.prompt.replace("\0", "")


def build_environment(
    request: OneshotRequest, names: Iterable[str] = (), fixed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The agent's whole environment: an allow-list, variables passed through by name, `fixed`, and the request.

    Nothing else is inherited, so no GIT_* and no LOGIST_* of the caller; the request's own always win.
    """
    passed = inherited(request.environ, (*request.settings.env, *names))
    return passed | dict(fixed or {}) | _request_variables(request)


def _request_variables(request: OneshotRequest) -> dict[str, str]:
    variables = {
        "LOGIST_JOB_ID": request.job_id,
        "LOGIST_STEP": str(request.step),
        "LOGIST_ATTEMPT": str(request.attempt),
        "LOGIST_TURN": str(request.turn),
        "LOGIST_ROLE": request.role.value,
        "LOGIST_PHASE": request.phase,
        "LOGIST_OBJECTIVE": request.objective,
        "LOGIST_MODEL": request.settings.model or "",
        **inside(request.workspace),
        "LOGIST_PROMPT_FILE": str(request.prompt_file),
        "LOGIST_REPLY_FILE": str(request.reply_file),
        "LOGIST_STEP_TOKEN": request.token,
    }
    # A NUL or an overlong value would keep the agent from being started at all.
    return {name: value.replace("\0", "")[:_MAX_VALUE] for name, value in variables.items()}


def spell_command(
    request: OneshotRequest,
    *,
    names: Iterable[str] = (),
    fixed: Mapping[str, str] | None = None,
    argv: tuple[str, ...] = (),
    shell: str | None = None,
    stdin: bytes | None = None,
) -> Command:
    """A command in the workspace, with the request's limits and logs. `names`, `fixed`: as in `build_environment`."""
    names = tuple(names)
    passed = passed_on(request.environ, (*request.settings.env, *names))
    return Command(
        cwd=request.workspace,
        env=build_environment(request, names, fixed),
        passed=passed - (fixed or {}).keys() - _request_variables(request).keys(),
        argv=argv,
        shell=shell,
        stdin=stdin,
        timeout=request.timeout,
        idle_timeout=request.settings.idle_timeout,
        stdout_log=request.step_dir / "stdout.log",
        stderr_log=request.step_dir / "stderr.log",
        inherit=request.lease_fds,
    )
