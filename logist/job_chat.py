"""A human takes over the session of a job's agent in its own terminal; the job rests meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from logist.agents import find_agent
from logist.agents.cli import CliAgent
from logist.errors import WrongState
from logist.job_processor import open_session
from logist.job_recovery import recover
from logist.job_report import possible_commands
from logist.lifecycle import JobStatus
from logist.models.manifest import Role
from logist.runtime import Runtime, Session
from logist.unfinished_work import ensure_workspace

#: Runs a program in the terminal: its argv, folder, environment and inherited descriptors; returns its exit code.
HandOver = Callable[[Sequence[str], Path, Mapping[str, str], Sequence[int]], int]
#: How the variables begin by which a program knows itself in a session of an agent, or of git, or of Logist.
_OF_SESSIONS = ("GIT_", "LOGIST_", "CLAUDECODE", "CLAUDE_CODE_", "CODEX_", "CLINE_", "OPENCODE", "GEMINI_CLI")
_RESTING = (JobStatus.PENDING, JobStatus.INTERVENTION_REQUIRED)


class Chat(NamedTuple):
    """A conversation that is over: how its program ended, and what it left changed in the workspace."""

    exit_code: int
    changed: tuple[str, ...]


def chat_with_worker(runtime: Runtime, job_id: str, hand_over: HandOver) -> Chat:
    """Open the worker's session in its own terminal, in the workspace. No run can begin until it is closed.

    Raises WrongState when there is no session to take over, or the job is over; JobBusy while it runs.
    """
    with open_session(runtime, job_id, command="chat") as session:
        recover(session)
        agent, argv = _command(session)
        ensure_workspace(session)
        environ = _environment(runtime.environ, agent.cli.passes, session.manifest.job.roles.worker.env)
        exit_code = hand_over(argv, session.paths.workspace, environ, session.lease_fds)
        return Chat(exit_code, tuple(session.workspace.differs(session.manifest.head)))


def _environment(environ: Mapping[str, str], *kept: Iterable[str]) -> dict[str, str]:
    """The user's own, without what says that `logist` was itself started in an agent's session."""
    wanted = {name for names in kept for name in names}
    return {name: value for name, value in environ.items() if name in wanted or not name.startswith(_OF_SESSIONS)}


def _command(session: Session) -> tuple[CliAgent, tuple[str, ...]]:
    manifest = session.manifest
    if manifest.status not in _RESTING:
        commands = "; ".join(possible_commands(session.runtime.store, manifest))
        raise WrongState(f"job {manifest.id} is {manifest.status}: nobody works on it", f"possible now: {commands}")
    settings = manifest.job.roles.worker
    known = manifest.sessions.get(Role.WORKER)
    agent = find_agent(settings.agent, session.runtime.config)
    agent.check(settings)
    if isinstance(agent, CliAgent) and known is not None and known.agent == agent.name:
        argv = agent.chat(settings, known.id)
        if argv:
            return agent, argv
    raise WrongState(
        f"the worker {settings.agent} of job {manifest.id} has no session that can be taken over",
        f"edit the files in {session.paths.workspace} yourself, or guide it: "
        f'logist job resolve {manifest.id} --retry -m "what to do"',
    )
