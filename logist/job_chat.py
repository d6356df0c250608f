"""A human takes over the session of a job's agent in its own terminal; the job rests meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from logist.agents import find_agent
from logist.agents.cli import CliAgent
from logist.errors import WrongState
from logist.job_processor import open_session
from logist.job_recovery import recover
from logist.job_report import next_command_lines
from logist.lifecycle import JobStatus
from logist.models.manifest import Role
from logist.runtime import Runtime, Session

#: Runs a program in the terminal: its argv, folder, environment and inherited descriptors; returns its exit code.
HandOver = Callable[[Sequence[str], Path, Mapping[str, str], Sequence[int]], int]
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
        argv = _command(session)
        environ = {name: value for name, value in runtime.environ.items() if not name.startswith(("GIT_", "LOGIST_"))}
        exit_code = hand_over(argv, session.paths.workspace, environ, session.lease_fds)
        return Chat(exit_code, tuple(session.workspace.differs(session.manifest.head)))


def _command(session: Session) -> tuple[str, ...]:
    manifest = session.manifest
    if manifest.status not in _RESTING:
        commands = "; ".join(next_command_lines(manifest))
        raise WrongState(f"job {manifest.id} is {manifest.status}: nobody works on it", f"possible now: {commands}")
    settings = manifest.job.roles.worker
    known = manifest.sessions.get(Role.WORKER)
    agent = find_agent(settings.agent, session.runtime.config)
    agent.check(settings)
    argv = agent.cli.chat(known.id) if isinstance(agent, CliAgent) and known and known.agent == agent.name else ()
    if not argv:
        raise WrongState(
            f"the worker {settings.agent} of job {manifest.id} has no session that can be taken over",
            f"edit the files in {session.paths.workspace} yourself, or guide it: "
            f'logist job resolve {manifest.id} --retry -m "what to do"',
        )
    return argv
