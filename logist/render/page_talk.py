"""Talks with one page: what its scripts come to, and what it is given for not to wait in vain."""

from __future__ import annotations

import time
from typing import Any

from logist.errors import LogistError, RenderFailed, UsageProblem
from logist.render.capture import Capture
from logist.render.contract import TELL_OBSERVERS
from logist.render.options import RenderOptions
from logist.render.page_events import SLOW, PageEvents, failure_text, usual_hint
from logist.render.protocol import NOBODY, Connection, ConnectionLostError, NoAnswerError, ProtocolError, Values

#: Seconds that a page waits for something before a frame is shown to let it go on; and while it replays several.
_NUDGE_AFTER, _NUDGE_REPLAY_AFTER = 0.004, 0.06
#: Likewise, before it is told what its observers see: it must not wait for the next frame with that.
_TELL_AFTER = 0.25
_PACE = 0.01
#: In which it becomes known why a document can't be asked any more.
_EXPLAINING = 1.0
#: A hint.
AGAIN = "render again; --browser names another browser"


class PageTalk:
    """Our end of the talk with a page. Deadlines are of `time.monotonic`; `late` says what did not come in time.

    What goes wrong is raised as what the page says of it, if it does: RenderFailed, or UsageProblem for a selector that
    is none. `send`, `call` and `leave` raise what `Connection.call` raises.
    """

    def __init__(
        self, connection: Connection, session: str, capture: Capture, events: PageEvents, options: RenderOptions
    ) -> None:
        #: The protocol's name for the page.
        self.session = session
        #: Whether it was given a frame of the browser's to let it go on, since that was last set to False.
        self.nudged = False
        self._connection = connection
        self._capture = capture
        self._events = events
        self._timeout = float(options.timeout)
        self._selector = options.canvas_selector

    def send(self, method: str, params: Values | None = None, *, timeout: float) -> int:
        """Send the page a command; its number."""
        return self._connection.send(method, params, session=self.session, timeout=timeout)

    def call(self, method: str, params: Values | None = None, *, timeout: float) -> Values:
        """Send the page a command; its result."""
        return self._connection.call(method, params, session=self.session, timeout=timeout)

    def leave(self, timeout: float) -> None:
        """Have the browser close the page, and hear nothing of it any more."""
        self._connection.leave(self.session)
        self.send("Page.close", timeout=timeout)

    def evaluate(
        self, script: str, context: str, deadline: float, late: str, *, leaving: bool = False, patient: bool = False
    ) -> Any:
        """The value of `script` once it is settled. `leaving`: the page may go to another address meanwhile."""
        try:
            number = self.ask(script, context, seconds_left(deadline))
        except (ConnectionLostError, NoAnswerError) as error:
            raise self.failure(error, late) from error
        return self.value(number, context, deadline, late, leaving=leaving, patient=patient)

    def ask(self, script: str, context: str, timeout: float) -> int:
        """Ask for the value of `script`; the number of the command."""
        params: Values = {"expression": script, "awaitPromise": True, "returnByValue": True}
        if context:
            params["uniqueContextId"] = context
        return self.send("Runtime.evaluate", params, timeout=timeout)

    def value(
        self, command: int, context: str, deadline: float, late: str, *, leaving: bool = False, patient: bool = False
    ) -> Any:
        """The value that a command asked for. `patient`: it is for several frames."""
        try:
            answer = self.awaited(command, deadline, context, _NUDGE_REPLAY_AFTER if patient else _NUDGE_AFTER)
        except ProtocolError as error:
            self._events.check()
            if leaving or not self._events.is_main(context):
                # The document is gone; whatever came in its place is asked next.
                return None
            raise self.failure(error, late) from error
        except (ConnectionLostError, NoAnswerError) as error:
            raise self.failure(error, late) from error
        self._events.check()
        if "exceptionDetails" in answer:
            raise self._thrown(answer["exceptionDetails"])
        return answer["result"].get("value")

    def awaited(self, number: int, deadline: float, context: str = "", nudge_after: float = _NUDGE_AFTER) -> Values:
        """The answer to a script that may wait for the page's being shown, or for what the page sees of itself."""
        pace = nudge_after if self._capture.by_hand else _TELL_AFTER
        tell_at = time.monotonic() + _TELL_AFTER
        while not self._connection.answered(number, within=min(pace, seconds_left(deadline))):
            self._events.check()
            if seconds_left(deadline) <= 0:
                raise NoAnswerError
            self._nudge(deadline)
            if context and time.monotonic() >= tell_at:
                tell_at += _TELL_AFTER
                params: Values = {"expression": TELL_OBSERVERS, "uniqueContextId": context}
                self.send("Runtime.evaluate", params, timeout=seconds_left(deadline))
        return self._connection.wait(number, timeout=0)

    def pause(self, deadline: float, late: str) -> None:
        """Let the page go on for a moment."""
        try:
            self._nudge(deadline)
            self._connection.answered(NOBODY, within=_PACE)
        except (ConnectionLostError, NoAnswerError, ProtocolError) as error:
            raise self.failure(error, late) from error
        self._events.check()
        if seconds_left(deadline) <= 0:
            raise self.failure(NoAnswerError(), late)

    def _nudge(self, deadline: float) -> None:
        self.nudged = True
        self._capture.nudge(seconds_left(deadline))

    def failure(self, error: Exception, late: str) -> LogistError:
        """What went wrong, as the page says it itself if it does."""
        if isinstance(error, ProtocolError):
            error = self._explained(error)
        problem = self._events.problem
        if problem is not None:
            return problem
        if isinstance(error, NoAnswerError):
            return RenderFailed(f"{late} within {self._timeout:g} s", self._events.hint(SLOW))
        return RenderFailed(f"{late}: {error}", self._events.hint(AGAIN))

    def _explained(self, error: ProtocolError) -> Exception:
        """The error, or that the browser is gone: of a document that can't be asked that is told a moment later."""
        deadline = time.monotonic() + _EXPLAINING
        try:
            while self._events.problem is None and seconds_left(deadline) > 0:
                self._connection.answered(NOBODY, within=_PACE)
        except ConnectionLostError as lost:
            return lost
        return error

    def _thrown(self, details: Values) -> LogistError:
        """What a script of ours came back with: the page's own error, or what the contract misses in it."""
        message, selector = failure_text(details), self._selector
        if selector is not None and f"'{' '.join(selector.split())}' is not a valid selector" in message:
            return UsageProblem(f"--canvas-selector {selector} is no selector of CSS", "write it like #stage or canvas")
        return RenderFailed(message, self._events.hint(usual_hint(message)))


def seconds_left(deadline: float) -> float:
    """Until the deadline; 0 when it is over."""
    return max(deadline - time.monotonic(), 0.0)
