"""The steps of a job, as its history tells them.

Light to import, and the newest lines of the history are read untyped, so that `job status` stays quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from logist.job_files import JobPaths
from logist.journal import Journal
from logist.models.manifest import CheckResult, ReasonCode, Role, Verdict

#: How many steps are given unless it is said, and how many history records are read at most to find them.
SHOWN_STEPS = 8
_MAX_RECORDS = 400


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
