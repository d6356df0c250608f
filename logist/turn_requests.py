"""What the agent whose turn it is would be asked now: the request with its prompt, and a preview. It writes nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from logist import decision
from logist.agents import find_agent
from logist.agents.oneshot import Agent, OneshotRequest
from logist.models.history import AttemptFailed, AttemptFailure, Started
from logist.models.manifest import Role
from logist.models.render_report import MEDIA, report_path
from logist.models.usage import AgentSession
from logist.prompts import REPAIR, PromptContext, render
from logist.runtime import JobView

#: The kinds of failed attempts after which the workspace is put back; after the others the work stays.
RESTORED = frozenset({"transient", "interrupted", "lost"})


@dataclass(frozen=True)
class Problem:
    """What was wrong with an attempt: told to the agent in the next prompt, and to the human at the end."""

    kind: AttemptFailure
    detail: str


@dataclass(frozen=True)
class PlannedCommand:
    """A command of a render that would run now: `chunk 3`, or `merge`."""

    name: str
    command: str


@dataclass(frozen=True)
class Preview:
    """The next oneshot as it would be asked now; of a render the commands that would run."""

    job_id: str
    role: Role
    step: int
    attempt: int
    agent: str
    scripted: bool
    phase: str
    prompt: str
    argv: tuple[str, ...]
    cwd: str
    #: Whether the prompt is fed to standard input.
    stdin: bool
    #: Names of the environment variables that the agent gets.
    env: tuple[str, ...]
    #: Seconds; of a render those of one chunk.
    timeout: float | None
    #: None where an agent is asked. `done`: the chunks that would not be run again.
    commands: tuple[PlannedCommand, ...] | None = None
    done: int = 0


def preview_turn(view: JobView) -> Preview:
    """The exact next prompt and command; nothing is written and nothing runs."""
    records = view.unfinished()
    lost = bool(records) and any(isinstance(record, Started) for record in records[-1:])
    agent, request = build_request(view, standing_problem(view), lost=lost)
    command = agent.spell(request)
    return Preview(
        job_id=request.job_id,
        role=request.role,
        step=request.step,
        attempt=request.attempt,
        agent=agent.name,
        scripted=agent.scripted,
        phase=request.phase,
        prompt=request.prompt,
        argv=command.spelled,
        cwd=str(command.cwd),
        stdin=command.stdin is not None,
        env=tuple(sorted(command.env)),
        timeout=command.timeout,
    )


def build_request(view: JobView, problem: Problem | None = None, *, lost: bool = False) -> tuple[Agent, OneshotRequest]:
    """The next oneshot as it would be asked now; nothing is written. `lost`: one attempt more is yet to be counted."""
    manifest = view.manifest
    role = manifest.next_role
    step, attempt = manifest.step + 1, manifest.attempt + 1 + lost
    settings = manifest.job.roles.of(role)
    paths = view.paths
    step_dir = paths.step_dir(step, role.value, attempt)
    reply_file = paths.workspace / ".logist" / f"reply-{step:04d}-{attempt}.json"
    token = step_token(manifest.seed, step, attempt)
    left = decision.time_left(manifest)
    request = OneshotRequest(
        job_id=manifest.id,
        objective=manifest.job.objective,
        role=role,
        step=step,
        attempt=attempt,
        turn=manifest.turns.get(role, 0) + 1,
        phase=manifest.current_phase.name,
        prompt="",
        prompt_file=step_dir / "prompt.md",
        workspace=paths.workspace,
        step_dir=step_dir,
        reply_file=reply_file,
        token=token,
        settings=settings,
        timeout=settings.timeout if left is None else max(1.0, min(settings.timeout, left)),
        asked_at=view.runtime.clock.now(),
        environ=view.runtime.environ,
        lease_fds=view.lease_fds,
        session=_session_of(view, role, problem),
    )
    # In its session an agent knows what it was asked: only the reply is asked for again.
    repair = problem is not None and problem.kind == "unreadable" and request.session is not None
    template = REPAIR if repair else role.value
    prompt = render(template, _prompt_context(view, request, problem), view.runtime.prompts_dir)
    return find_agent(settings.agent, view.runtime.config), replace(request, prompt=prompt)


def _session_of(view: JobView, role: Role, problem: Problem | None) -> AgentSession | None:
    """The session that `role` goes on with, None for a new one. A supervisor's is for its words alone."""
    settings, known = view.manifest.job.roles.of(role), view.manifest.sessions.get(role)
    wanted = settings.session == "resume"
    if role is Role.SUPERVISOR:
        wanted = problem is not None and problem.kind == "unreadable"
    return known if wanted and known is not None and known.agent == settings.agent else None


def step_token(seed: str, step: int, attempt: int) -> str:
    """The nonce that a reply of this very attempt must carry."""
    return hashlib.sha256(f"{seed}/{step}/{attempt}".encode()).hexdigest()[:16]


def _prompt_context(view: JobView, request: OneshotRequest, problem: Problem | None) -> PromptContext:
    manifest = view.manifest
    judged = request.role is Role.SUPERVISOR
    spec = manifest.current_phase.spec or ""
    media = tuple(left for left in manifest.left_out if left.rpartition(" (")[2].startswith(MEDIA))
    return PromptContext(
        job_id=manifest.id,
        objective=manifest.job.objective,
        prompt=manifest.job.prompt,
        role=request.role,
        step=request.step,
        attempt=request.attempt,
        phase=manifest.current_phase.name,
        phase_number=manifest.phase + 1,
        phase_count=len(manifest.job.phases),
        instructions=manifest.current_phase.instructions,
        objections=manifest.objections,
        checks=manifest.checks,
        acceptance=manifest.current_checks,
        budget_left=_budget_lines(view),
        guidance=manifest.guidance,
        worker_summary="" if manifest.worker is None else manifest.worker.summary,
        changed_files=_changed_files(view) if judged else (),
        left_out=tuple(left for left in manifest.left_out if left not in media) if judged else (),
        spec=spec if judged else "",
        report=report_path(spec) if judged and spec else "",
        media=media if judged else (),
        baseline=manifest.baseline,
        reply_file=request.reply_file,
        token=request.token,
        problem="" if problem is None else problem.detail,
    )


def _changed_files(view: JobView) -> tuple[str, ...]:
    changes = view.workspace.changes(view.manifest.baseline, view.manifest.head)
    return tuple(f"{change.kind} {change.path}" for change in changes)


def _budget_lines(view: JobView) -> tuple[str, ...]:
    limit, spent = view.manifest.budget, view.manifest.spent
    lines = [f"retries: {max(0, limit.retries - spent.retries)} of {limit.retries}"]
    if limit.steps is not None:
        lines.insert(0, f"steps: {max(0, limit.steps - spent.steps)} of {limit.steps}")
    if limit.time is not None:
        lines.append(f"active time: {max(0, round(limit.time - spent.time))} of {round(limit.time)} seconds")
    if limit.cost is not None:
        lines.append(f"cost: ${max(0.0, limit.cost - spent.cost):.2f} of ${limit.cost:.2f}")
    return tuple(lines)


def standing_problem(view: JobView) -> Problem | None:
    """What was wrong with the last attempt when a run stopped between two attempts of a step."""
    for record in reversed(view.unfinished()):
        if isinstance(record, AttemptFailed):
            return None if record.kind in RESTORED else Problem(record.kind, record.detail)
    return None
