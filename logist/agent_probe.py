"""An agent outside of any job: how it is called, and what it answers to one small question."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from logist.agents.oneshot import Agent, Answer, OneshotRequest, Versioned
from logist.execution import CommandResult, WorkerAdapter
from logist.models.manifest import Role, Roles, RoleSettings
from logist.models.usage import AgentSession
from logist.prompts import PromptContext, render

_QUESTION = "This is a test of the connection. Do nothing at all but reply, with COMPLETED and no evidence files."
#: Seconds.
_PATIENCE = 120.0


class Probe(NamedTuple):
    """What came of the question. `duration` is in seconds."""

    answer: Answer
    duration: float


class CommandLines(NamedTuple):
    """How an agent is called, with `{prompt}`, `{workspace}` and the like where a step's own values stand."""

    worker: tuple[str, ...]
    #: The worker that goes on in its session; where none can, it is called as always.
    worker_again: tuple[str, ...]
    supervisor: tuple[str, ...]


def spell_agent(agent: Agent, roles: Roles, environ: Mapping[str, str]) -> CommandLines:
    """How `agent` is called when it plays these roles; nothing is started."""
    worker = _placeholders(Role.WORKER, roles.worker, environ)
    session = AgentSession(agent=agent.name, id="{session}")
    supervisor = _placeholders(Role.SUPERVISOR, roles.supervisor, environ)
    asked = (worker, replace(worker, session=session), supervisor)
    return CommandLines(*(agent.spell(request).spelled for request in asked))


def _placeholders(role: Role, settings: RoleSettings, environ: Mapping[str, str]) -> OneshotRequest:
    return OneshotRequest(
        job_id="{job}",
        objective="{objective}",
        role=role,
        step=1,
        attempt=1,
        turn=1,
        phase="{phase}",
        prompt="{prompt}",
        prompt_file=Path("{prompt_file}"),
        workspace=Path("{workspace}"),
        step_dir=Path("{step_dir}"),
        reply_file=Path("{reply_file}"),
        token="{token}",
        settings=settings,
        timeout=None,
        asked_at=datetime.now(UTC),
        environ=environ,
    )


def ask_agent(agent: Agent, settings: RoleSettings, adapter: WorkerAdapter, environ: Mapping[str, str]) -> Probe:
    """Ask `agent` for a reply, as a supervisor, in an empty folder. It costs what a short oneshot costs.

    Raises AgentUnavailable when it can't be asked at all.
    """
    agent.check(settings)
    with tempfile.TemporaryDirectory(prefix="logist-agent-") as name:
        request = _request(Path(name), settings, environ)
        if isinstance(agent, Versioned):
            request = replace(request, version=agent.version(environ))
        result: CommandResult = adapter.run(agent.spell(request))
        return Probe(agent.read(request, result), result.duration)


def _request(folder: Path, settings: RoleSettings, environ: Mapping[str, str]) -> OneshotRequest:
    workspace, step_dir = folder / "workspace", folder / "step"
    reply_file = workspace / ".logist" / "reply.json"
    for made in (reply_file.parent, step_dir):
        made.mkdir(parents=True)
    token = secrets.token_hex(8)
    request = OneshotRequest(
        job_id="agent-check",
        objective=_QUESTION,
        role=Role.SUPERVISOR,
        step=1,
        attempt=1,
        turn=1,
        phase="check",
        prompt="",
        prompt_file=step_dir / "prompt.md",
        workspace=workspace,
        step_dir=step_dir,
        reply_file=reply_file,
        token=token,
        settings=settings,
        timeout=min(settings.timeout, _PATIENCE),
        asked_at=datetime.now(UTC),
        environ=environ,
    )
    context = PromptContext(
        job_id=request.job_id,
        objective=_QUESTION,
        role=request.role,
        step=1,
        attempt=1,
        phase=request.phase,
        reply_file=reply_file,
        token=token,
        problem="(no reply was given yet)",
    )
    prompt = f"{_QUESTION}\n\n{render('reply', context)}"
    request.prompt_file.write_text(prompt, encoding="utf-8")
    return replace(request, prompt=prompt)
