"""Where a job stands and what can be done next, as one value: the status, the card and `--json` are made of it.

Light to import: nothing of git, and the history's newest lines are read untyped, so that `job status` stays quick.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from logist.durations import format_duration
from logist.errors import ExitCode
from logist.job_files import JobPaths
from logist.job_list import Runner, headline, runner_of
from logist.journal import Journal
from logist.lifecycle import JobStatus, Trigger, allowed, target
from logist.models.manifest import (
    CheckResult,
    JobManifest,
    PhaseKind,
    Reason,
    ReasonCode,
    Role,
    Source,
    Verdict,
    red_checks,
)
from logist.plain_text import last_part, plain_values

if TYPE_CHECKING:
    from logist.job_state import JobStore

#: How many of the newest steps a report shows, and how many history records are read at most to find them.
SHOWN_STEPS = 8
_MAX_RECORDS = 400
_LOG_TAIL_BYTES = 4096
_LOG_TAIL_LINES = 3
#: The agent that replays a file.
_SCRIPTED_AGENT = "playbook"
_BY_HAND = "first edit the workspace by hand"
_BY_HAND_UNRENDERED = "first edit the workspace by hand; no chunk is run"


@dataclass(frozen=True)
class StepSummary:
    """One committed step. `duration` is in seconds, `cost` in US dollars, None where the agent did not say."""

    step: int
    at: datetime
    role: Role
    agent: str
    phase: str
    action: Verdict
    summary: str
    files_changed: int
    skipped: int
    duration: float
    cost: float | None
    tokens: int | None
    checks: tuple[CheckResult, ...]
    commit: str
    #: A rewind or a rerun left it behind; it is kept under a ref.
    dropped: bool = False
    #: Set when the verdict and the summary are Logist's own: the agent gave none that counts.
    failure: ReasonCode | None = None


@dataclass(frozen=True)
class Words:
    """What an agent said last; with `failure`, what Logist said for it because it gave no answer that counts."""

    step: int
    agent: str
    action: Verdict
    text: str
    failure: ReasonCode | None = None


@dataclass(frozen=True)
class BudgetLine:
    """One budget: `name` is steps, time (seconds), retries, cost (US dollars) or tokens. Without a limit: unlimited."""

    name: str
    spent: float
    limit: float | None
    left: float | None
    #: Of a cost: the part that nobody billed, and of how many oneshots none is known.
    estimated: float = 0.0
    unpriced: int = 0


@dataclass(frozen=True)
class RenderLine:
    """How far the chunks of the current phase's render are, as its state last said; those of a dead runner too."""

    spec: str
    chunks: int
    done: int
    failed: int
    frames: int
    frames_done: int


@dataclass(frozen=True)
class ChangedFile:
    """One file of the diff since the baseline. `kind` is git's letter; counts are None for binary content."""

    path: str
    kind: str
    added: int | None = None
    deleted: int | None = None


@dataclass(frozen=True)
class NextCommand:
    """A command to paste, what it does, and the state that follows; None where it changes no state."""

    command: str
    explanation: str
    result: JobStatus | None = None
    suggested: bool = False


@dataclass(frozen=True)
class Places:
    """Where the job's things are: absolute paths. `logs` are the last attempt's output, the newest step's."""

    folder: str
    workspace: str
    repo: str
    branch: str
    logs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """One job, for people and programs. Texts of agents are as they were given: whoever shows them makes them plain."""

    id: str
    objective: str
    status: JobStatus
    #: One line: the status, and for a running job whether its runner lives.
    headline: str
    reason: Reason
    runner: Runner | None
    #: When this report was made.
    at: datetime
    created_at: datetime
    updated_at: datetime
    priority: int = 0
    #: The jobs that must have reached SUCCESS before `logist run` takes this one.
    needs: tuple[str, ...] = ()
    #: Counted from 1.
    phase: int
    phase_count: int
    phase_name: str
    next_role: Role
    #: Number of the last finished step, and how many steps were taken since the start or the last rerun.
    step: int
    attempt: int
    line: int
    #: The newest ones of the present line, oldest first.
    steps: tuple[StepSummary, ...]
    supervisor: Words | None
    worker: Words | None
    objections: str
    guidance: str
    checks: tuple[CheckResult, ...]
    #: The step whose work the checks ran on when newer work was not checked, else None.
    checks_step: int | None = None
    baseline: str
    head: str
    tree: str
    budget: tuple[BudgetLine, ...]
    #: None where the phase is no render, or none of its chunks was begun.
    render: RenderLine | None = None
    source: Source
    places: Places
    log_tail: tuple[str, ...]
    #: Roles whose agent replays a file, and what that means.
    scripted: tuple[Role, ...]
    note: str
    #: None when nobody asked: reading it opens the repository.
    changes: tuple[ChangedFile, ...] | None
    next_commands: tuple[NextCommand, ...]
    exit_code: int

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, for `--json`; control sequences of agents are taken out."""
        from pydantic_core import to_jsonable_python

        return cast("dict[str, Any]", plain_values(to_jsonable_python(self)))


# --- Building ------------------------------------------------------------------------------------------------------


def build_report(store: JobStore, job_id: str, *, workspace: bool = True) -> JobReport:
    """Read the job and say where it stands; `workspace` adds the changes since the baseline, which needs git.

    Takes no lease and writes nothing. Raises JobNotFound, InvalidFile, StorageFailed, WorkspaceFailed.
    """
    manifest = store.load(job_id)
    paths = store.paths(job_id)
    runner = runner_of(store.holder(job_id))
    history = recent_steps(paths, manifest.head)
    steps = tuple(step for step in history if not step.dropped)
    folder = _newest_attempt(paths, manifest, steps)
    scripted = _scripted(manifest)
    checked = _last_checked(manifest, steps)
    return JobReport(
        id=manifest.id,
        objective=manifest.job.objective,
        status=manifest.status,
        headline=headline(manifest.status, runner, manifest.id),
        reason=manifest.reason,
        runner=runner,
        at=store.clock.now(),
        created_at=manifest.created_at,
        updated_at=manifest.updated_at,
        priority=manifest.job.priority,
        needs=manifest.job.needs,
        phase=manifest.phase + 1,
        phase_count=len(manifest.job.phases),
        phase_name=manifest.current_phase.name,
        next_role=manifest.next_role,
        step=manifest.step,
        attempt=manifest.attempt,
        line=manifest.line,
        steps=steps,
        supervisor=_words(manifest, steps, Role.SUPERVISOR),
        worker=_words(manifest, steps, Role.WORKER),
        objections=manifest.objections,
        guidance=manifest.guidance,
        checks=manifest.checks or (() if checked is None else checked.checks),
        checks_step=None if checked is None else checked.step,
        baseline=manifest.baseline,
        head=manifest.head,
        tree=manifest.tree,
        budget=budget_lines(manifest),
        render=_render_line(paths, manifest),
        source=manifest.source,
        places=Places(
            folder=str(paths.root),
            workspace=str(paths.workspace),
            repo=str(paths.repo),
            branch=f"logist/{manifest.id}",
            logs=_logs(folder),
        ),
        log_tail=_log_tail(folder),
        scripted=scripted,
        note=_scripted_note(scripted),
        changes=_changes(paths, manifest) if workspace else None,
        next_commands=next_commands(
            manifest,
            runner_alive=runner is not None and runner.alive,
            rewind_to=_rewind_target(steps),
            last_step=steps[-1].step if steps else 0,
        ),
        exit_code=int(_exit_code(manifest.status, runner)),
    )


def _exit_code(status: JobStatus, runner: Runner | None) -> ExitCode:
    """What the job's state is as an exit code; 0 means SUCCESS and nothing else."""
    over = {
        JobStatus.SUCCESS: ExitCode.SUCCESS,
        JobStatus.CANCELED: ExitCode.CANCELED,
        JobStatus.INTERVENTION_REQUIRED: ExitCode.INTERVENTION_REQUIRED,
    }
    return over.get(status, ExitCode.TERMINATED if runner is None else ExitCode.BUSY)


def _scripted(manifest: JobManifest) -> tuple[Role, ...]:
    works = any(phase.kind is PhaseKind.WORK for phase in manifest.job.phases)
    roles = (Role.WORKER, Role.SUPERVISOR) if works else (Role.SUPERVISOR,)
    return tuple(role for role in roles if manifest.job.roles.of(role).agent == _SCRIPTED_AGENT)


def _render_line(paths: JobPaths, manifest: JobManifest) -> RenderLine | None:
    spec = manifest.current_phase.spec
    if spec is None:
        return None
    try:
        state = json.loads(JobPaths(paths.chunk_state(spec, manifest.line)).manifest.read_bytes())
        counts = [int(state[name]) for name in ("chunks", "done", "failed", "frames", "frames_done")]
    except (OSError, ValueError, TypeError, KeyError):
        # Nothing was begun yet; what counts is in the history beside it.
        return None
    return RenderLine(spec, *counts)


def _scripted_note(scripted: tuple[Role, ...]) -> str:
    if not scripted:
        return ""
    who = " and ".join(f"the {role}" for role in scripted)
    verb = "replay a playbook" if len(scripted) > 1 else "replays a playbook"
    return f"{who} {verb}: scripted, no model is asked"


def budget_lines(manifest: JobManifest) -> tuple[BudgetLine, ...]:
    """What is spent and left, steps first; a budget without a limit is listed once something of it is spent."""
    limit, spent = manifest.budget, manifest.spent
    lines: tuple[tuple[str, float, float | None], ...] = (
        ("steps", spent.steps, limit.steps),
        ("time", spent.time, limit.time),
        ("retries", spent.retries, limit.retries),
        ("cost", spent.cost, limit.cost),
        ("tokens", spent.tokens, limit.tokens),
    )
    return tuple(
        BudgetLine(
            name=name,
            spent=used,
            limit=most,
            left=None if most is None else max(0, most - used),
            estimated=spent.estimated_cost if name == "cost" else 0.0,
            unpriced=spent.unpriced if name == "cost" else 0,
        )
        for name, used, most in lines
        if used or most is not None or (name == "cost" and spent.unpriced)
    )


def _words(manifest: JobManifest, steps: tuple[StepSummary, ...], role: Role) -> Words | None:
    """The role's last judgement; where new work has voided it, what it said in its last step."""
    judgement = manifest.supervisor if role is Role.SUPERVISOR else manifest.worker
    if judgement is not None:
        failure = next((step.failure for step in reversed(steps) if step.step == judgement.step), None)
        return Words(judgement.step, judgement.agent, judgement.action, judgement.summary, failure)
    last = next((step for step in reversed(steps) if step.role is role), None)
    return None if last is None else Words(last.step, last.agent, last.action, last.summary, last.failure)


def _last_checked(manifest: JobManifest, steps: tuple[StepSummary, ...]) -> StepSummary | None:
    """The newest step of this phase that has checks, None where the manifest has newer ones."""
    if manifest.checks:
        return None
    phase = manifest.current_phase.name
    return next((step for step in reversed(steps) if step.checks and step.phase == phase), None)


# --- The newest steps ----------------------------------------------------------------------------------------------


def recent_steps(paths: JobPaths, head: str, limit: int | None = SHOWN_STEPS) -> tuple[StepSummary, ...]:
    """The newest committed steps, oldest first; those that do not lead to `head` are marked as dropped.

    At most `limit` of them lead there; with a limit only the end of the history is read. Raises InvalidFile.
    """
    found: list[StepSummary] = []
    kept = 0
    for number, step in _steps_newest_first(paths, head):
        found.append(step)
        kept += not step.dropped
        if limit is not None and (kept >= limit or number >= _MAX_RECORDS):
            break
    return tuple(reversed(found))


def _steps_newest_first(paths: JobPaths, head: str) -> Iterator[tuple[int, StepSummary]]:
    # The commit that the present line had here; empty: whatever was committed last before.
    expected = head
    # A step's records are read backwards: its exit, which says whose verdict it is, after its commit.
    waiting: StepSummary | None = None
    number = 0
    for number, line in enumerate(Journal(paths.history).newest_first(), start=1):
        record: dict[str, Any] = line.record
        kind, moved_to = record.get("type"), _moved_to(record)
        if waiting is not None and kind in ("exited", "intent", "committed"):
            own = kind == "exited" and record["step"] == waiting.step and record.get("failure")
            yield number - 1, replace(waiting, failure=ReasonCode(own)) if own else waiting
            waiting = None
        if kind == "committed":
            dropped = expected not in ("", record["commit"])
            waiting = _step_summary(record, line.at, dropped=dropped)
            expected = expected if dropped else ""
        elif kind == "intent" and not expected:
            expected = str(record["base"])
        elif moved_to and not expected:
            expected = moved_to
    if waiting is not None:
        yield number, waiting


def _moved_to(record: dict[str, Any]) -> str:
    change = record.get("change")
    return str(change.get("head", "")) if isinstance(change, dict) else ""


def _step_summary(record: dict[str, Any], at: str, *, dropped: bool) -> StepSummary:
    usage = record.get("usage", {})
    tokens = [usage[name] for name in ("input_tokens", "output_tokens") if usage.get(name) is not None]
    return StepSummary(
        step=record["step"],
        at=datetime.fromisoformat(at),
        role=Role(record["role"]),
        agent=record["agent"],
        phase=record["phase"],
        action=Verdict(record["action"]),
        summary=record["summary"],
        files_changed=record.get("files_changed", 0),
        skipped=len(record.get("skipped", ())),
        duration=record.get("duration", 0.0),
        cost=usage.get("cost"),
        tokens=sum(tokens) if tokens else None,
        checks=tuple(CheckResult.model_validate(check) for check in record.get("checks", ())),
        commit=record["commit"],
        dropped=dropped,
    )


def _rewind_target(steps: tuple[StepSummary, ...]) -> int | None:
    """The step before the worker's last one, None when the beginning of the line is all there is to go back to."""
    for place in range(len(steps) - 1, 0, -1):
        if steps[place].role is Role.WORKER:
            return steps[place - 1].step
    return None


# --- Files ---------------------------------------------------------------------------------------------------------


def _newest_attempt(paths: JobPaths, manifest: JobManifest, steps: tuple[StepSummary, ...]) -> Path | None:
    """The folder of the attempt that ran last: of the step under way, else of the last one that an agent took."""
    for number in (manifest.step + 1, *(step.step for step in reversed(steps))):
        attempts = sorted(paths.steps.glob(f"{number:04d}-*"), key=_attempt_number)
        if attempts:
            return attempts[-1]
    return None


def _attempt_number(folder: Path) -> int:
    number = folder.suffix.removeprefix(".")
    return int(number) if number.isascii() and number.isdigit() else 1


def _logs(folder: Path | None) -> tuple[str, ...]:
    if folder is None:
        return ()
    return tuple(str(folder / name) for name in ("stdout.log", "stderr.log") if (folder / name).exists())


def _log_tail(folder: Path | None) -> tuple[str, ...]:
    """The last lines that the agent printed; its own words are shown, so a log that can't be read is no error."""
    if folder is None:
        return ()
    try:
        with (folder / "stdout.log").open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_TAIL_BYTES))
            data = log.read(_LOG_TAIL_BYTES)
    except OSError:
        return ()
    return last_lines(data, _LOG_TAIL_LINES)


def last_lines(data: bytes, count: int) -> tuple[str, ...]:
    """The last `count` lines of what was printed that are not empty, as plain text."""
    lines = [line.rstrip() for line in last_part(data, len(data) or 1).split("\n") if line.strip()]
    return tuple(lines[-count:])


def _changes(paths: JobPaths, manifest: JobManifest) -> tuple[ChangedFile, ...]:
    # Imported here: git is slow to load, and most reports do without.
    from contextlib import closing

    from logist.workspace_utils import Workspace

    with closing(Workspace(paths.repo, paths.workspace, f"logist/{manifest.id}")) as workspace:
        return tuple(
            ChangedFile(file.path, file.kind, file.insertions, file.deletions)
            for file in workspace.changes(manifest.baseline, manifest.head)
        )


# --- What can be done ----------------------------------------------------------------------------------------------


def next_command_lines(manifest: JobManifest) -> tuple[str, ...]:
    """The commands that the job's state suggests, the best first, as lines to paste."""
    return tuple(command.command for command in next_commands(manifest))


def next_commands(
    manifest: JobManifest, *, runner_alive: bool = True, rewind_to: int | None = None, last_step: int | None = None
) -> tuple[NextCommand, ...]:
    """What can be done now, the suggested one first; only what the state table allows.

    `runner_alive` tells a running job from one whose runner died; `rewind_to` is a step to go back to, or None;
    `last_step` is the newest step of the present line, 0 for none, and by default the last one that was judged.
    """
    match manifest.status:
        case JobStatus.PENDING:
            offers = _when_pending(manifest)
        case JobStatus.RUNNING:
            offers = _when_running(manifest) if runner_alive else _when_runner_died(manifest)
        case JobStatus.INTERVENTION_REQUIRED:
            offers = _when_intervention(manifest, rewind_to)
        case JobStatus.SUCCESS:
            offers = _when_success(manifest)
        case JobStatus.CANCELED:
            offers = _when_canceled(manifest, _last_judged(manifest) if last_step is None else last_step)
    possible = [offer for offer in offers if offer.trigger is None or offer.trigger in allowed(manifest.status)]
    return tuple(
        NextCommand(
            command=f"logist job {offer.line}",
            explanation=offer.explanation,
            result=None if offer.trigger is None else offer.result or target(manifest.status, offer.trigger),
            suggested=place == 0,
        )
        for place, offer in enumerate(possible)
    )


@dataclass(frozen=True)
class _Offer:
    """A command line behind `logist job`, and the trigger that must be possible; None for one that only looks."""

    line: str
    explanation: str
    trigger: Trigger | None = None
    #: Where the command leaves the job, when that is not where its trigger leads.
    result: JobStatus | None = None


def _when_pending(manifest: JobManifest) -> list[_Offer]:
    job_id = manifest.id
    turn, seen = manifest.next_role.value, "the next prompt"
    if manifest.renders_next:
        turn, seen = "a render", "which chunks would run"
    run = "start it" if manifest.step == 0 else f"go on with step {manifest.step + 1} ({turn})"
    return [
        _Offer(f"run {job_id}", run, Trigger.START),
        _Offer(f"step {job_id}", "take one step, then rest", Trigger.START, JobStatus.PENDING),
        _Offer(f"preview {job_id}", f"see {seen}; nothing runs"),
        _Offer(f'cancel {job_id} -m "why"', "stop for good", Trigger.CANCEL),
    ]


def _when_running(manifest: JobManifest) -> list[_Offer]:
    job_id = manifest.id
    after = "the running chunks" if manifest.renders_next else "this step"
    return [
        _Offer(f"log {job_id}", "see its steps so far"),
        _Offer(f"pause {job_id}", f"stop after {after}; run goes on", Trigger.PAUSE),
        _Offer(f'cancel {job_id} -m "why"', "stop now, for good", Trigger.CANCEL),
    ]


def _when_runner_died(manifest: JobManifest) -> list[_Offer]:
    job_id = manifest.id
    return [
        _Offer(f"run {job_id}", "recover it and go on", Trigger.RECOVER, JobStatus.RUNNING),
        _Offer(f'cancel {job_id} -m "why"', "stop for good", Trigger.CANCEL),
    ]


def _when_success(manifest: JobManifest) -> list[_Offer]:
    job_id = manifest.id
    renders = any(phase.kind is PhaseKind.RENDER and not phase.commit_media for phase in manifest.job.phases)
    without = "; rendered media stay in the workspace" if renders else ""
    deliver = _Offer(f"deliver {job_id}", f"hand the work over as a branch of its source{without}")
    if manifest.source.path is None or manifest.source.commit is None:
        deliver = _Offer(f"deliver {job_id} --patch {job_id}.patch", f"hand the work over as a patch{without}")
    return [
        _Offer(f"diff {job_id}", "see the work"),
        deliver,
        _Offer(f"rerun {job_id}", "do it again from the baseline", Trigger.REOPEN),
    ]


def _last_judged(manifest: JobManifest) -> int:
    return max((said.step for said in (manifest.worker, manifest.supervisor) if said is not None), default=0)


def _when_canceled(manifest: JobManifest, last_step: int) -> list[_Offer]:
    job_id = manifest.id
    offers = [_Offer(f"rerun {job_id}", "begin again from the baseline", Trigger.REOPEN)]
    if last_step:
        restep = f"restep {job_id} --step {last_step}"
        offers.insert(0, _Offer(restep, f"take it up again with step {last_step}", Trigger.REOPEN))
        offers.append(_Offer(f"diff {job_id}", "see what was done"))
    return offers


def _when_intervention(manifest: JobManifest, rewind_to: int | None) -> list[_Offer]:
    resolve = f"resolve {manifest.id}"
    raised = _raise(manifest)
    more = f" {raised}" if raised else ""
    retry = _Offer(f'{resolve} --retry -m "what to do differently"{more}', "guide and try again", Trigger.RESOLVE)
    by_hand = _BY_HAND
    if manifest.renders_next:
        retry = _Offer(f"{resolve} --retry{more}", "run the chunks that are not done", Trigger.RESOLVE)
        by_hand = _BY_HAND_UNRENDERED
    offers = [
        retry,
        _approval(manifest),
        _Offer(f'{resolve} --continue -m "what you changed"{more}', by_hand, Trigger.RESOLVE),
    ]
    if rewind_to is not None:
        dropped = f"steps {rewind_to + 1}–{manifest.step}" if rewind_to + 1 < manifest.step else f"step {manifest.step}"
        rewind = f"{resolve} --rewind {rewind_to}{more}"
        offers.append(_Offer(rewind, f"drop {dropped} (kept as a ref)", Trigger.RESOLVE))
    offers.append(_Offer(f'{resolve} --cancel -m "why"', "stop for good", Trigger.CANCEL))
    if raised:
        offers.insert(0, _Offer(f"{resolve} {raised}", "raise the budget and go on", Trigger.RESOLVE))
    if manifest.reason.code is ReasonCode.APPROVAL_REQUIRED:
        offers.sort(key=lambda offer: offer.trigger is not Trigger.APPROVE)
    return offers


def _approval(manifest: JobManifest) -> _Offer:
    approve = f"resolve {manifest.id} --approve"
    red = len(red_checks(manifest.checks))
    left = [phase.name for phase in manifest.job.phases[manifest.phase + 1 :]]
    skipped = f"; skips the later {'phase' if len(left) == 1 else 'phases'} {', '.join(left)}" if left else ""
    if red:
        waived = f"take the work although {red} {'check is' if red == 1 else 'checks are'} red"
        return _Offer(f'{approve} --override-checks -m "why"', waived + skipped, Trigger.APPROVE)
    if manifest.current_checks and manifest.checked_tree != manifest.tree:
        return _Offer(f'{approve} --override-checks -m "why"', f"take the work, not checked{skipped}", Trigger.APPROVE)
    return _Offer(approve, f"take the work as it is{skipped}", Trigger.APPROVE)


def _raise(manifest: JobManifest) -> str:
    """The option that gives a spent budget half of its limit again; empty when none that can be raised is spent."""
    limit, spent = manifest.budget, manifest.spent
    match manifest.reason.code:
        case ReasonCode.BUDGET_STEPS if limit.steps is not None:
            return f"--add-steps {math.ceil(_missing(spent.steps, limit.steps))}"
        case ReasonCode.BUDGET_TIME if limit.time is not None:
            return f"--add-time {format_duration(max(1.0, _missing(spent.time, limit.time)))}"
        case ReasonCode.BUDGET_COST if limit.cost is not None and spent.cost >= limit.cost:
            # Up to a whole cent: rounded down, the budget could be spent still.
            return f"--add-cost {math.ceil(_missing(spent.cost, limit.cost) * 100) / 100:.2f}"
        case ReasonCode.BUDGET_COST if limit.tokens is not None:
            return f"--add-tokens {math.ceil(_missing(spent.tokens, limit.tokens))}"
    return ""


def _missing(spent: float, limit: float) -> float:
    return max(0.0, spent - limit) + limit / 2
