"""What the agent whose turn it is would be asked now: the request with its prompt, and a preview. It writes nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from logist import decision
from logist.agents import find_agent
from logist.agents.oneshot import Agent, Confined, OneshotRequest
from logist.diff_excerpt import DiffExcerpt, excerpt
from logist.evidence import evidence_record
from logist.models.history import AttemptFailed, AttemptFailure, Started
from logist.models.manifest import JobManifest, Role
from logist.models.render_report import MEDIA, report_path
from logist.models.usage import AgentSession
from logist.prompts import REPAIR, PromptContext, render
from logist.runtime import JobView
from logist.workspace_utils import Patch

#: The kinds of failed attempts after which the workspace is put back; after the others the work stays.
RESTORED = frozenset({"transient", "interrupted", "lost"})
#: Bytes of a diff that are read: more of it than anybody will.
_MAX_DIFF = 4_000_000
#: Evidence files that a prompt can list.
_MAX_EVIDENCE = 1_000


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
    #: The files that a human has edited; they are recorded as the step before this one.
    hand_edits: tuple[str, ...] = ()


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
    diff = _shown_diff(view) if role is Role.SUPERVISOR else DiffExcerpt("", whole=True)
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
        diff_file=None if diff.whole else reply_file.with_name(f"diff-{step:04d}-{attempt}.patch"),
    )
    agent = find_agent(settings.agent, view.runtime.config)
    # In its session an agent knows what it was asked: only the reply is asked for again.
    repair = problem is not None and problem.kind == "unreadable" and request.session is not None
    template = REPAIR if repair else role.value
    context = replace(
        _prompt_context(view, request, problem),
        diff=diff.text,
        reply_by_file=not isinstance(agent, Confined) or agent.writes(role),
    )
    return agent, replace(request, prompt=render(template, context, view.runtime.prompts_dir))


def _session_of(view: JobView, role: Role, problem: Problem | None) -> AgentSession | None:
    """The session that `role` goes on with, None for a new one. A supervisor's is for its words alone."""
    settings, known = view.manifest.job.roles.of(role), view.manifest.sessions.get(role)
    unreadable = problem is not None and problem.kind == "unreadable"
    # A new session would do the work anew for a reply that was only badly written.
    wanted = unreadable or (role is Role.WORKER and settings.session == "resume")
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
        evidence_files=_evidence_files(view) if judged else (),
        diff_since="this phase began" if manifest.phase and manifest.phase_tree else "the job began",
        diff_file="" if request.diff_file is None else request.diff_file.relative_to(request.workspace).as_posix(),
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


def judged_patch(view: JobView) -> Patch:
    """What is judged, as a diff: from what the phase began with to the newest evidence; its first 4 MB."""
    manifest = view.manifest
    return view.workspace.patch(manifest.phase_tree or manifest.baseline, manifest.head, _MAX_DIFF)


def _shown_diff(view: JobView) -> DiffExcerpt:
    patch = judged_patch(view)
    return excerpt(patch.data, goes_on=not patch.whole)


def _evidence_files(view: JobView) -> tuple[str, ...]:
    """What the work that is judged names as evidence, and the sizes that were recorded."""
    manifest = view.manifest
    named = _named_evidence(view, manifest)
    if not named:
        return ()
    sizes = {file.path: file.size for file in view.workspace.files(manifest.head, named[:_MAX_EVIDENCE])}
    return tuple(f"{name} ({_size(sizes.get(name))})" for name in named)


def _size(size: int | None) -> str:
    return "not recorded" if size is None else f"{size:,} bytes"


def _named_evidence(view: JobView, manifest: JobManifest) -> tuple[str, ...]:
    if manifest.worker is None:
        return ()
    wanted = ("Logist-Step", str(manifest.worker.step))
    # Since that work there were at most a supervisor's steps.
    for logged in view.workspace.log(1 + manifest.step - manifest.worker.step):
        if wanted in logged.trailers:
            record = evidence_record(view.workspace.message_of(logged.id))
            return () if record is None else record.evidence_files
    return ()


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
