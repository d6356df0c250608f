"""Asks an agent one small question outside of any job: whether it is there, which version, and what it answers."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from logist.agents.oneshot import Agent, Answer, OneshotRequest
from logist.execution import CommandResult, WorkerAdapter
from logist.models.manifest import Role, RoleSettings
from logist.prompts import PromptContext, render

_QUESTION = "This is a test of the connection. Do nothing at all but reply, with COMPLETED and no evidence files."
#: Seconds.
_PATIENCE = 120.0


class Probe(NamedTuple):
    """What came of the question. `duration` is in seconds."""

    answer: Answer
    duration: float


def ask_agent(agent: Agent, settings: RoleSettings, adapter: WorkerAdapter, environ: Mapping[str, str]) -> Probe:
    """Ask `agent` for a reply, as a supervisor, in an empty folder. It costs what a short oneshot costs.

    Raises AgentUnavailable when it can't be asked at all.
    """
    agent.check(settings)
    with tempfile.TemporaryDirectory(prefix="logist-agent-") as name:
        request = _request(Path(name), settings, environ)
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
