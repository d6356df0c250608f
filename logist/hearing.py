"""Hears one oneshot while it runs: what it uses, whether it waits for its provider, and why it is to stop."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from logist import decision, events
from logist.agents.oneshot import Agent, Answer, Metered, OneshotRequest, Waiting
from logist.agents.outcome import Outcome
from logist.durations import format_duration
from logist.execution import CommandResult, Ended
from logist.models.usage import UNTOLD, Usage, added
from logist.runtime import Session

#: On whose account a oneshot was stopped, in the order in which they go; `wait`: its program waited by itself.
StoppedBy = Literal["operator", "budget", "wait"]
#: Seconds of silence after which the operator is told of it; told again whenever it has become twice as long.
SILENCE = 300.0


class Hearing:
    """One oneshot of `agent` on its way."""

    def __init__(self, session: Session, agent: Agent, request: OneshotRequest) -> None:
        self._session = session
        self._agent = agent
        self._request = request
        self._meter = agent.meter(request.settings) if isinstance(agent, Metered) else None
        self._own_wait = agent.own_wait() if isinstance(agent, Waiting) else None
        self._last_heard = self._now()
        self._told_at = SILENCE

    def receive(self, stream: str, data: bytes) -> None:
        """Take the next part of its output, and show it."""
        if self._meter is not None and stream == "stdout":
            self._meter.feed(data)
        if self._own_wait is not None:
            self._own_wait.feed(stream, data, self._now())
        self._last_heard, self._told_at = self._now(), SILENCE
        self._session.emit(
            events.OutputReceived(job_id=self._session.job_id, step=self._request.step, stream=stream, data=data)
        )

    def stop(self) -> str | None:
        """Why it is to stop now; polled while it runs."""
        self._tell_silence()
        return self._session.stop_now() or self._over_budget() or self._waits_too_long()

    @property
    def used(self) -> Usage:
        """What it has used, as far as that was heard; untold where its program tells that in other cases."""
        if self._meter is None:
            return UNTOLD if isinstance(self._agent, Metered) else Usage()
        return self._meter.usage

    def stopped_by(self, result: CommandResult) -> StoppedBy | None:
        """On whose account it was stopped; None: it was not."""
        if result.ended is not Ended.CANCELED:
            return None
        if self._session.stop_now() is not None:
            return "operator"
        if self._over_budget() is not None:
            return "budget"
        return "operator" if self._waits_too_long() is None else "wait"

    def read(self, result: CommandResult, stopped_by: StoppedBy | None) -> Answer:
        """What it answered, or came to where it was stopped, on any account but the operator's."""
        answer = self._read(result, stopped_by)
        if answer.usage in (Usage(), UNTOLD) and self.used not in (Usage(), UNTOLD):
            # It had no last word, but was heard while it ran.
            answer = _with_use(answer, self.used)
        return answer

    def _read(self, result: CommandResult, stopped_by: StoppedBy | None) -> Answer:
        agent, request = self._agent, self._request
        if result.ended is Ended.LOST:
            return Answer(reply=None, kind="transient", problem=result.detail or "the command was lost")
        if stopped_by is None:
            return agent.read(request, result)
        now, wait = self._now(), self._own_wait
        refusal = None if wait is None else wait.refusal(now)
        if stopped_by == "wait" and wait is not None and refusal is not None and isinstance(agent, Waiting):
            return replace(agent.read_waiting(request, result, refusal), waited=wait.lasts(now))
        # To its agent the budget is a limit like any. What it did until then stays, is paid for, and is known to its
        # session.
        stopped = agent.read(request, result._replace(ended=Ended.TIMED_OUT))
        return replace(stopped, reply=None, kind="blocked", problem=result.detail, outcome=Outcome.LIMIT)

    def _tell_silence(self) -> None:
        """What its program says of its waiting can be heard; that it says nothing for long should be seen, too."""
        silence = self._now() - self._last_heard
        if self._own_wait is None or silence < self._told_at:
            return
        while self._told_at <= silence:
            self._told_at *= 2
        said = f"{self._agent.name} has said nothing for {format_duration(silence)}"
        self._session.notice(f"{said}: it is at work, or waits for its provider")

    def _over_budget(self) -> str | None:
        return None if self._meter is None else decision.over_budget(self._session.manifest, self._meter.usage)

    def _waits_too_long(self) -> str | None:
        if self._own_wait is None or not self._own_wait.is_too_long(self._now()):
            return None
        return "it waits for its provider by itself"

    def _now(self) -> float:
        return self._session.runtime.clock.monotonic()


def _with_use(answer: Answer, usage: Usage) -> Answer:
    """The answer with what was heard of its use; a session that goes on tells that again, in the sum of all of it."""
    session = answer.session
    if session is not None:
        session = session.model_copy(update={"usage": added((session.usage, usage))})
    return replace(answer, usage=usage, session=session)
