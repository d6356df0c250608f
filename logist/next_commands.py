"""Pure: what can be done with a job now, as commands to paste; only what the state table allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from logist.durations import format_duration
from logist.lifecycle import TERMINAL, JobStatus, Trigger, allowed, target
from logist.models.manifest import JobManifest, PhaseKind, ReasonCode, red_checks

_BY_HAND = "first edit the workspace by hand"
_BY_HAND_UNRENDERED = "first edit the workspace by hand; no chunk is run"


@dataclass(frozen=True)
class NextCommand:
    """A command to paste, what it does, and the state that follows; None where it changes no state."""

    command: str
    explanation: str
    result: JobStatus | None = None
    suggested: bool = False


def next_commands(
    manifest: JobManifest, *, runner_alive: bool = True, rewind_to: int | None = None, last_step: int = 0
) -> tuple[NextCommand, ...]:
    """What can be done now, the suggested one first; only what the state table allows.

    `runner_alive` tells a running job from one whose runner died; `rewind_to` is a step to go back to, or None;
    `last_step` is the newest step of the present line, 0 for none.
    """
    match manifest.status:
        case JobStatus.PENDING:
            offers = [*_when_pending(manifest), *_reopenings(manifest, last_step)]
        case JobStatus.RUNNING:
            offers = _when_running(manifest) if runner_alive else _when_runner_died(manifest)
        case JobStatus.INTERVENTION_REQUIRED:
            offers = [*_when_intervention(manifest, rewind_to), *_reopenings(manifest, last_step)]
        case JobStatus.SUCCESS:
            offers = [*_when_success(manifest), *_reopenings(manifest, last_step)]
        case JobStatus.CANCELED:
            offers = _when_canceled(manifest, last_step)
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
    # Only a look at the whole workspace would tell whether there are edits, and this must be quick.
    run = f"go on with step {manifest.step + 1} ({turn}; edits by hand come first)" if manifest.step else "start it"
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
    ]


def _when_canceled(manifest: JobManifest, last_step: int) -> list[_Offer]:
    # To take up what was done is less than to do it all again.
    reopenings = _reopenings(manifest, last_step)[::-1]
    return [*reopenings, _Offer(f"diff {manifest.id}", "see what was done")] if last_step else reopenings


def _reopenings(manifest: JobManifest, last_step: int) -> list[_Offer]:
    """Taking up again what was done; a job that has done nothing has only its run before it, unless it is over."""
    if not (last_step or manifest.status in TERMINAL):
        return []
    rerun = _Offer(f"rerun {manifest.id}", "begin again from the baseline", Trigger.REOPEN)
    restep = f"restep {manifest.id} --step {last_step}"
    return [rerun, _Offer(restep, f"take step {last_step} again", Trigger.REOPEN)] if last_step else [rerun]


def _when_intervention(manifest: JobManifest, rewind_to: int | None) -> list[_Offer]:
    resolve = f"resolve {manifest.id}"
    raised = _raise(manifest)
    more = f" {raised}" if raised else ""
    retry = _Offer(f'{resolve} --retry -m "what to do differently"{more}', "guide and try again", Trigger.RESOLVE)
    by_hand = _BY_HAND
    if manifest.renders_next:
        retry = _Offer(f"{resolve} --retry{more}", "run the chunks that are not done", Trigger.RESOLVE)
        by_hand = _BY_HAND_UNRENDERED
    elif manifest.reason.code is ReasonCode.AGENT_FAILED:
        retry = _Offer(f"{resolve} --retry{more}", "try again, once that is put right", Trigger.RESOLVE)
    offers = [
        retry,
        *_other_player(manifest),
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


def _other_player(manifest: JobManifest) -> list[_Offer]:
    """Where the agent could not do its part at all: another one, or another model of it."""
    if manifest.reason.code is not ReasonCode.AGENT_FAILED or manifest.renders_next:
        return []
    role = manifest.next_role
    line = f"resolve {manifest.id} --retry --{role} AGENT:MODEL"
    return [_Offer(line, f"with another {role}, or another model", Trigger.RESOLVE)]


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
