"""`job_manifest.json`: what was asked of a job, and where it stands now. Of constant size however long it runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, PositiveInt, StringConstraints, model_validator

from logist.chunks import Halt
from logist.lifecycle import JobStatus
from logist.models.record import Record
from logist.models.usage import AgentSession

SCHEMA_VERSION = 1
JOB_ID_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"
#: Longest text that a reply, a message or an objection may carry, in characters; it bounds the manifest.
MAX_TEXT = 32_768

JobId = Annotated[str, StringConstraints(pattern=rf"^{JOB_ID_PATTERN}$")]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\r\n]*$")]
#: A limit in seconds or dollars: infinity and NaN would compare wrongly, or never.
Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)]
#: Bounded, so that it stays readable in a list.
Priority = Annotated[int, Field(ge=-1000, le=1000)]
CommitId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]


class Role(StrEnum):
    """Who takes a step. `human` only ever commits hand edits."""

    WORKER = "worker"
    SUPERVISOR = "supervisor"
    HUMAN = "human"


class Verdict(StrEnum):
    """What a reply says: done, again, or a human is needed."""

    COMPLETED = "COMPLETED"
    RETRY = "RETRY"
    STUCK = "STUCK"


class ReasonCode(StrEnum):
    """Why a job is where it is, for programs."""

    WORKER_STUCK = "worker_stuck"
    SUPERVISOR_STUCK = "supervisor_stuck"
    RETRIES_EXHAUSTED = "retries_exhausted"
    NO_PROGRESS = "no_progress"
    BUDGET_STEPS = "budget_steps"
    BUDGET_TIME = "budget_time"
    BUDGET_COST = "budget_cost"
    AGENT_FAILED = "agent_failed"
    AGENT_TIMEOUT = "agent_timeout"
    REPLY_UNREADABLE = "reply_unreadable"
    CHECKS_FAILED = "checks_failed"
    CHUNK_FAILED = "chunk_failed"
    MERGE_FAILED = "merge_failed"
    EVIDENCE_INVALID = "evidence_invalid"
    APPROVAL_REQUIRED = "approval_required"
    INTERNAL_ERROR = "internal_error"
    # Why a job rests in PENDING, SUCCESS or CANCELED.
    CREATED = "created"
    RUNNER_STARTED = "runner_started"
    STEP_DONE = "step_done"
    AGREED = "agreed"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    RUNNER_DIED = "runner_died"
    CANCELED = "canceled"
    RESOLVED = "resolved"
    APPROVED = "approved"
    REOPENED = "reopened"


class Reason(Record):
    """A code for programs and one sentence for people."""

    code: ReasonCode
    sentence: Text


class Check(Record):
    """A command that decides: exit code 0 is green. Run by Logist, in the workspace, through /bin/sh."""

    name: Line
    command: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
    required: bool = True
    #: Seconds.
    timeout: Limit = 600.0


class PhaseKind(StrEnum):
    """Who does the work of a phase."""

    #: The worker's agent.
    WORK = "work"
    #: Logist itself: it runs the chunks of a render job spec. No worker is asked.
    RENDER = "render"


def _inside_workspace(path: str) -> str:
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or parts[0] == ".logist" or not path.isprintable():
        raise ValueError("must be the path of a file in the workspace, relative and without '.' or '..'")
    return path


WorkspaceFile = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^-]"), AfterValidator(_inside_workspace)
]


class Phase(Record):
    """One part of the job's work, done and judged before the next begins."""

    name: Line
    kind: PhaseKind = PhaseKind.WORK
    #: Phases that come before this one.
    needs: tuple[Line, ...] = ()
    instructions: Text = ""
    #: Run after the job's own checks, in this phase only.
    checks: tuple[Check, ...] = ()
    #: Work that leaves the files as they were when the phase began is not COMPLETED, whatever the worker says.
    requires_change: bool = False
    #: The spec of a render. This and all below is for renders only.
    spec: WorkspaceFile | None = None
    #: Chunks that run at the same time.
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 1
    #: Further attempts at a chunk that failed.
    retries: Annotated[int, Field(ge=0)] = 0
    #: Seconds that one attempt at a chunk may take.
    chunk_timeout: Limit | None = None
    #: What a chunk that failed for good does to the others. A job's human comes later: what runs may end by itself.
    halt: Halt = Halt.SOON
    #: Where the chunks run, and what that place is told; without one, where the job's steps do.
    adapter: Line | None = None
    adapter_options: dict[Line, str] = Field(default_factory=dict)
    #: Take the rendered media into the evidence. Else the evidence has only their sizes and hashes.
    commit_media: bool = False

    @model_validator(mode="after")
    def _is_one_kind(self) -> Phase:
        if self.kind is PhaseKind.RENDER and self.spec is None:
            raise ValueError("a phase of kind render needs spec, the path of a render job spec in the workspace")
        if self.kind is PhaseKind.WORK:
            for name, default in _OF_RENDERS.items():
                if getattr(self, name) != default:
                    raise ValueError(f'{name} is for a phase with kind = "render"')
        if self.adapter_options and self.adapter is None:
            raise ValueError("adapter_options needs adapter, the name of the place that they are for")
        return self


#: The fields that are for renders only, with their defaults; asked of the model once, as that is slow.
_OF_RENDERS = {
    name: Phase.model_fields[name].get_default(call_default_factory=True)
    for name in (
        "spec",
        "concurrency",
        "retries",
        "chunk_timeout",
        "halt",
        "adapter",
        "adapter_options",
        "commit_media",
    )
}


def in_order_of_needs(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The phases with each behind those that it needs, else as they are written.

    Raises ValueError for two of one name, and for needs that are unknown, named twice, or a circle.
    """
    by_name = {phase.name: phase for phase in phases}
    if len(by_name) < len(phases):
        raise ValueError("two phases have the same name")
    if not any(phase.needs for phase in phases):
        return tuple(phases)
    for phase in phases:
        _check_needs(phase, by_name.keys())
    return tuple(by_name[name] for name in _sorted_names(by_name))


def _sorted_names(by_name: Mapping[str, Phase]) -> Iterator[str]:
    # Imported here: hardly any job says what its phases need, and every manifest is read quickly.
    from graphlib import CycleError, TopologicalSorter

    sorter = TopologicalSorter({name: phase.needs for name, phase in by_name.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        circle = ", which needs ".join(repr(name) for name in reversed(error.args[1]))
        raise ValueError(f"phases need each other: {circle}") from error
    place = {name: number for number, name in enumerate(by_name)}
    ready: set[str] = set()
    while sorter:
        # One at a time, and not all that are ready: what is free to stay where it is written stays there.
        ready.update(sorter.get_ready())
        first = min(ready, key=place.__getitem__)
        ready.remove(first)
        sorter.done(first)
        yield first


def _check_needs(phase: Phase, known: Collection[str]) -> None:
    """Raises ValueError for a need that is no other phase, or is there twice."""
    for name in phase.needs:
        if name == phase.name:
            raise ValueError(f"phase {phase.name!r} needs itself")
        if name not in known:
            raise ValueError(f"phase {phase.name!r} needs {name!r}, and there is no such phase")
    if len(set(phase.needs)) < len(phase.needs):
        raise ValueError(f"phase {phase.name!r} needs a phase twice")


class RoleSettings(Record):
    """Which agent plays a role, and how. Times are in seconds."""

    #: `playbook`, `command`, or the name of an agent of the configuration.
    agent: Line = "playbook"
    #: For `command`: a line for /bin/sh. For `playbook`: the TOML file; empty is the embedded one.
    argument: Annotated[str, StringConstraints(max_length=MAX_TEXT)] = ""
    model: Line | None = None
    timeout: Limit = 1800.0
    #: Stop the agent after this long without output.
    idle_timeout: Limit | None = None
    #: Names of environment variables that are passed through beside the allow-list.
    env: tuple[Line, ...] = ()
    #: Arguments that are added to the command line of an agent CLI.
    args: Annotated[tuple[Line, ...], Field(max_length=100)] = ()
    #: Whether a worker that is asked again goes on in its session, where its CLI can. A supervisor's is always fresh.
    #: For a reply that could not be read either goes on in its own.
    session: Literal["resume", "fresh"] = "resume"
    #: How long to wait, in all, for a provider that says "later"; then a human is asked.
    max_wait: Limit = 900.0


class Roles(Record):
    """Who plays the worker and who the supervisor."""

    worker: RoleSettings = RoleSettings()
    supervisor: RoleSettings = RoleSettings()

    def of(self, role: Role) -> RoleSettings:
        """The settings of `role`; a human has none and raises ValueError."""
        if role is Role.HUMAN:
            raise ValueError("a human's step has no agent")
        return self.worker if role is Role.WORKER else self.supervisor


class Budget(Record):
    """What a job may spend. None is unlimited; `time` is active seconds, waiting for humans excluded."""

    steps: PositiveInt | None = 30
    time: Limit | None = None
    #: US dollars, as far as agents report them or their prices are known.
    cost: Limit | None = None
    tokens: PositiveInt | None = None
    #: Domain retries: attempts after a RETRY verdict or red checks, per phase.
    retries: Annotated[int, Field(ge=0)] = 3


class Spent(Record):
    """What the job has used since its start or last rerun; same units as Budget."""

    steps: int = 0
    time: float = 0.0
    #: What agents billed, and what was estimated where they did not.
    cost: float = 0.0
    #: The estimated part of `cost`.
    estimated_cost: float = 0.0
    tokens: int = 0
    #: Oneshots of which neither agent nor prices told the cost; those without any word of what they used, too.
    unpriced: int = 0
    #: In this phase.
    retries: int = 0


class JobDefinition(Record):
    """What was asked: fixed at creation, changed only by a recorded resolution."""

    objective: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
    #: The long form of the objective, given to every agent.
    prompt: Text = ""
    phases: Annotated[tuple[Phase, ...], Field(min_length=1), AfterValidator(in_order_of_needs)] = (Phase(name="main"),)
    checks: tuple[Check, ...] = ()
    roles: Roles = Roles()
    budget: Budget = Budget()
    #: The same tree, checks and verdict this often in a row is no progress.
    no_progress_limit: Annotated[int, Field(ge=2, le=20)] = 3
    #: Where several jobs wait to be run, the higher one goes first.
    priority: Priority = 0
    #: Jobs that must have reached SUCCESS before this one is run along with others.
    needs: tuple[JobId, ...] = ()

    @model_validator(mode="after")
    def _check_names_are_unique(self) -> JobDefinition:
        for phase in self.phases:
            checks = [check.name for check in self.checks + phase.checks]
            if len(set(checks)) < len(checks):
                raise ValueError(f"two checks of phase {phase.name!r} have the same name")
        return self


class SourceKind(StrEnum):
    """Where the workspace's first content came from."""

    GIT = "git"
    FOLDER = "folder"
    EMPTY = "empty"


class Source(Record):
    """Where the job's baseline came from. Logist writes nothing there before `job deliver`."""

    kind: SourceKind = SourceKind.EMPTY
    path: str | None = None
    #: For git: the commit and, when one was checked out, the branch.
    commit: CommitId | None = None
    branch: str | None = None
    #: Paths that had changes not committed in the source when the job was created; they were not taken.
    uncommitted: int = 0


class CheckResult(Record):
    """How one check ended."""

    name: str
    required: bool
    passed: bool
    exit_code: int | None
    #: Seconds.
    duration: float
    #: The last part of what it printed, control sequences stripped.
    tail: Annotated[str, StringConstraints(max_length=8_192)] = ""


def red_checks(checks: tuple[CheckResult, ...]) -> tuple[CheckResult, ...]:
    """The required checks that did not pass."""
    return tuple(check for check in checks if check.required and not check.passed)


class Judgement(Record):
    """The last reply of a role and the tree it is about."""

    step: int
    action: Verdict
    summary: Text
    tree: CommitId
    agent: str


class JobManifest(Record):
    """The present of one job. A projection: `history.jsonl` and the refs of `repo.git` rebuild it."""

    schema_version: Literal[1] = 1
    id: JobId
    #: The last history record that this projects.
    seq: int
    created_at: AwareDatetime
    updated_at: AwareDatetime
    job: JobDefinition
    source: Source
    #: Random; step tokens are derived from it.
    seed: str
    status: JobStatus
    reason: Reason
    #: Index into `job.phases`.
    phase: int = 0
    next_role: Literal[Role.WORKER, Role.SUPERVISOR] = Role.WORKER
    #: The current limits: `job.budget` plus what resolutions added.
    budget: Budget
    spent: Spent = Spent()
    #: Number of the last finished step; numbers are never used twice.
    step: int = 0
    #: Attempts already made at the step after `step`; 0 when it was not begun.
    attempt: int = 0
    #: Finished steps by role since the last rerun, or since another agent plays it: the turn of a scripted agent.
    turns: dict[Role, int] = Field(default_factory=dict)
    #: The sessions that the agents of the roles may go on with: those that know the workspace as it is.
    sessions: dict[Role, AgentSession] = Field(default_factory=dict)
    #: Counts reruns.
    line: int = 1
    #: Evidence commits: the job's start and its newest, and the newest one's tree.
    baseline: CommitId
    head: CommitId
    tree: CommitId
    #: The tree with which the current phase began; None in jobs that were made before it was kept.
    phase_tree: CommitId | None = None
    #: Boot in which `head` became the workspace's content; after another boot the workspace is restored first.
    boot_id: str = ""
    #: Seconds after its runner's death from which on nothing of it runs elsewhere; 0: its commands run where it runs.
    fence: Annotated[float, Field(ge=0)] = 0.0
    #: The first paths of the workspace that the newest work's evidence leaves out, and why.
    left_out: Annotated[tuple[Annotated[str, StringConstraints(max_length=500)], ...], Field(max_length=50)] = ()
    #: The workspace is still to be made what `head` says: a decision went back, and the work on disk is not done.
    restoring: bool = False
    worker: Judgement | None = None
    supervisor: Judgement | None = None
    checks: tuple[CheckResult, ...] = ()
    checked_tree: CommitId | None = None
    #: For the next worker's prompt: the last objections, verbatim.
    objections: Text = ""
    #: A human's words for the agents, kept until the phase is agreed.
    guidance: Text = ""
    #: Newest last, at most `no_progress_limit`.
    fingerprints: tuple[str, ...] = ()

    @property
    def current_phase(self) -> Phase:
        """The phase that the next step works on."""
        return self.job.phases[self.phase]

    @property
    def renders_next(self) -> bool:
        """Whether the next step is a render: no agent is asked then."""
        return self.next_role is Role.WORKER and self.current_phase.kind is PhaseKind.RENDER

    @property
    def current_checks(self) -> tuple[Check, ...]:
        """The job's checks and the current phase's, in order."""
        return self.job.checks + self.current_phase.checks
