"""The records of `history.jsonl`. `change` holds the manifest's fields that a record sets: merged in order over
`created`, they are the manifest."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, TypeAdapter

from logist.lifecycle import Trigger
from logist.models.manifest import CheckResult, CommitId, Reason, ReasonCode, Role, RoleSettings, Text, Verdict
from logist.models.record import Record
from logist.models.usage import Usage

#: The manifest's changed fields as they stand in JSON.
Change = dict[str, Any]


class ProcessRecord(Record):
    """A process that can be told from a later one with the same pid."""

    pid: int
    #: Clock ticks since boot, from /proc/PID/stat; 0 where the system has no such file.
    start_time: int
    boot_id: str


class Skipped(Record):
    """A path of the workspace that is not in the evidence, and why."""

    path: str
    why: str


class RoleChange(Record):
    """A role that is played otherwise from a human's answer on."""

    role: Role
    before: RoleSettings
    after: RoleSettings


class Created(Record):
    """The first record: its change is the whole manifest."""

    type: Literal["created"] = "created"
    change: Change


class Intent(Record):
    """A step is about to be taken; no agent has run yet.

    Chunks of a render may have: they are started one by one, and their own history says what came of each.
    """

    type: Literal["intent"] = "intent"
    step: int
    attempt: int
    role: Role
    phase: str
    agent: str
    #: The evidence commit that the step starts from.
    base: CommitId
    prompt_sha256: str
    change: Change = Field(default_factory=dict)


class Started(Record):
    """The agent's process exists and waits at the barrier; it runs once this record is on disk."""

    type: Literal["started"] = "started"
    step: int
    attempt: int
    process: ProcessRecord
    argv: tuple[str, ...]
    change: Change = Field(default_factory=dict)


class OutputDigest(Record):
    """How much a stream carried, and its hash; logs may be cut, these never are."""

    bytes: int
    sha256: str


class Exited(Record):
    """The agent ended and nothing of it lives."""

    type: Literal["exited"] = "exited"
    step: int
    attempt: int
    role: Role
    #: The date of the evidence commit, so that recovery makes the very same one.
    at: AwareDatetime
    ended: str
    exit_code: int | None
    #: Seconds.
    duration: float
    stdout: OutputDigest
    stderr: OutputDigest
    #: What was understood of the reply: kept here so that recovery needs no file of the workspace.
    action: Verdict
    summary: Text
    evidence_files: tuple[str, ...]
    reply_source: str
    usage: Usage
    agent: str
    argv: tuple[str, ...] = ()
    #: What the agent's program itself says came of it, where it does.
    outcome: str | None = None
    #: Set when the verdict is Logist's own: the agent gave none that counts.
    failure: ReasonCode | None = None
    #: The evidence is written from the workspace after this record: trusted only within the same boot.
    boot_id: str
    prompt_sha256: str = ""
    change: Change = Field(default_factory=dict)


#: `transient`: worth trying again later. `unreadable`, `evidence`, `failed`: asked again, the work stays.
#: `interrupted`, `lost`: stopped on request, or with its runner. `stopped`: a render was, and its finished chunks stay.
AttemptFailure = Literal["transient", "unreadable", "evidence", "failed", "interrupted", "lost", "stopped"]


class AttemptFailed(Record):
    """An attempt that gave no usable reply; another follows, or the job escalates."""

    type: Literal["attempt_failed"] = "attempt_failed"
    step: int
    attempt: int
    kind: AttemptFailure
    detail: Text
    #: Where partial work was kept, if there was any.
    salvage: str | None = None
    #: Seconds.
    duration: float = 0.0
    #: Until when it is waited before the next attempt; None: it is not.
    retry_at: AwareDatetime | None = None
    change: Change = Field(default_factory=dict)


class Committed(Record):
    """The one point of truth of a step: its evidence commit and the job's new state."""

    type: Literal["committed"] = "committed"
    step: int
    role: Role
    agent: str
    action: Verdict
    summary: Text
    phase: str
    trigger: Trigger
    reason: Reason
    commit: CommitId
    tree: CommitId
    checks: tuple[CheckResult, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    files_changed: int = 0
    duration: float = 0.0
    usage: Usage = Usage()
    #: Of hand edits that are a human's answer too.
    role_changes: tuple[RoleChange, ...] = ()
    change: Change


class Transition(Record):
    """A change of state without a step: start, pause, recover, cancel, escalate on a spent budget, reopen."""

    type: Literal["transition"] = "transition"
    trigger: Trigger
    reason: Reason
    change: Change


class Restored(Record):
    """The workspace was made to be what an earlier record had already said it is."""

    type: Literal["restored"] = "restored"
    commit: CommitId
    change: Change


class ResolutionKind(StrEnum):
    """What a human decided."""

    RETRY = "retry"
    APPROVE = "approve"
    CONTINUE = "continue"
    REWIND = "rewind"
    CANCEL = "cancel"
    BUDGET = "budget"


class Resolution(Record):
    """A human's answer to an intervention."""

    type: Literal["resolution"] = "resolution"
    kind: ResolutionKind
    trigger: Trigger
    message: Text = ""
    actor: str
    reason: Reason
    waived_checks: tuple[str, ...] = ()
    role_changes: tuple[RoleChange, ...] = ()
    change: Change


HistoryRecord = Annotated[
    Created | Intent | Started | Exited | AttemptFailed | Committed | Restored | Transition | Resolution,
    Field(discriminator="type"),
]


class HistoryEntry(Record):
    """One line of the history: when, in which place, what."""

    seq: int
    at: AwareDatetime
    record: HistoryRecord


HISTORY_RECORD: TypeAdapter[HistoryRecord] = TypeAdapter(HistoryRecord)
