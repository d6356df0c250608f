"""The state table of a job: pure data, and the machine that runs it. No input or output happens here."""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from transitions import EventData


class JobStatus(StrEnum):
    """The five states of a job."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    CANCELED = "CANCELED"
    INTERVENTION_REQUIRED = "INTERVENTION_REQUIRED"


class Trigger(StrEnum):
    """What moves a job from one state to the next."""

    START = "start"
    PROCEED = "proceed"
    ACCEPT = "accept"
    ESCALATE = "escalate"
    PAUSE = "pause"
    RECOVER = "recover"
    CANCEL = "cancel"
    RESOLVE = "resolve"
    APPROVE = "approve"
    REOPEN = "reopen"


class Edge(NamedTuple):
    """One row of the table: `trigger` moves any of `sources` to `target`, `when` in words."""

    trigger: Trigger
    sources: tuple[JobStatus, ...]
    target: JobStatus
    when: str


_S = JobStatus
EDGES: tuple[Edge, ...] = (
    Edge(Trigger.START, (_S.PENDING,), _S.RUNNING, "lease taken"),
    Edge(Trigger.PROCEED, (_S.RUNNING,), _S.RUNNING, "the step counts; another follows"),
    Edge(Trigger.ACCEPT, (_S.RUNNING,), _S.SUCCESS, "worker, checks and supervisor agree on one tree"),
    Edge(Trigger.ESCALATE, (_S.RUNNING,), _S.INTERVENTION_REQUIRED, "a human is needed"),
    Edge(Trigger.PAUSE, (_S.RUNNING,), _S.PENDING, "single step done, stopped by signal or request"),
    Edge(Trigger.RECOVER, (_S.RUNNING,), _S.PENDING, "the runner died"),
    Edge(
        Trigger.CANCEL,
        (_S.PENDING, _S.RUNNING, _S.INTERVENTION_REQUIRED),
        _S.CANCELED,
        "asked for; the command is gone first",
    ),
    Edge(
        Trigger.RESOLVE,
        (_S.INTERVENTION_REQUIRED,),
        _S.PENDING,
        "a human's retry, continue, rewind or raised budget",
    ),
    Edge(Trigger.APPROVE, (_S.INTERVENTION_REQUIRED,), _S.SUCCESS, "a human takes the work as it is"),
    Edge(
        Trigger.REOPEN,
        (_S.SUCCESS, _S.CANCELED, _S.INTERVENTION_REQUIRED, _S.PENDING),
        _S.PENDING,
        "rerun from the baseline, or one step again",
    ),
)

TERMINAL = frozenset({JobStatus.SUCCESS, JobStatus.CANCELED})


class TransitionRefused(Exception):
    """The table has no such edge, or its guard is false. A programming error unless the caller checked before."""

    def __init__(self, status: JobStatus, trigger: Trigger) -> None:
        super().__init__(f"{trigger} is not possible in {status}")
        self.status = status
        self.trigger = trigger


def allowed(status: JobStatus) -> tuple[Trigger, ...]:
    """The triggers that the table has for `status`, in table order."""
    return tuple(edge.trigger for edge in EDGES if status in edge.sources)


def target(status: JobStatus, trigger: Trigger) -> JobStatus:
    """The state that `trigger` leads to from `status`. Raises TransitionRefused where the table has no edge."""
    for edge in EDGES:
        if edge.trigger is trigger and status in edge.sources:
            return edge.target
    raise TransitionRefused(status, trigger)


class _Position:
    """A place in the table: the model that the machine moves."""

    # The machine sets these two on its model; declared only, so that it does not find them taken.
    state: JobStatus
    trigger: Callable[..., bool]

    def __init__(self) -> None:
        self.guard: Callable[[Trigger], bool] | None = None

    def permitted(self, event: EventData) -> bool:
        return self.guard is None or self.guard(Trigger(event.event.name))


class Lifecycle:
    """One job's position in the table, moved by a `transitions.Machine` without callbacks.

    `guard(trigger)` may veto a transition. transitions 0.9.3 answers an unmet guard with a silent False and an
    unknown trigger with AttributeError; both become TransitionRefused here, so neither can pass unnoticed.
    """

    def __init__(self, status: JobStatus, guard: Callable[[Trigger], bool] | None = None) -> None:
        # Imported here: `job cancel` reads the table at start-up speed and never runs a machine.
        from transitions import Machine, MachineError

        self._refusals = (MachineError, AttributeError)
        self._position = _Position()
        self._position.guard = guard
        self._machine = Machine(
            model=self._position,
            states=JobStatus,
            initial=status,
            auto_transitions=False,
            send_event=True,
            transitions=[
                {
                    "trigger": edge.trigger.value,
                    "source": list(edge.sources),
                    "dest": edge.target,
                    "conditions": "permitted",
                }
                for edge in EDGES
            ],
        )

    @property
    def state(self) -> JobStatus:
        """Where the job is."""
        return self._position.state

    def fire(self, trigger: Trigger) -> JobStatus:
        """Move along the table and return the new state. Raises TransitionRefused; the state is then unchanged."""
        before = self.state
        try:
            moved = self._position.trigger(trigger.value)
        except self._refusals as refusal:
            raise TransitionRefused(before, trigger) from refusal
        if not moved:
            raise TransitionRefused(before, trigger)
        return self.state

    def at(self, status: JobStatus) -> Lifecycle:
        """The same machine, set to `status`: to build one takes longer than many transitions."""
        self._machine.set_state(status)
        return self


_shared = threading.local()


def fire(status: JobStatus, trigger: Trigger) -> JobStatus:
    """The state after `trigger`, decided by the machine. Raises TransitionRefused."""
    machine: Lifecycle | None = getattr(_shared, "machine", None)
    if machine is None:
        machine = _shared.machine = Lifecycle(status)
    return machine.at(status).fire(trigger)
