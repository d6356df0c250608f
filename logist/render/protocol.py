"""The browser's DevTools protocol over two pipes, in its binary form. No port is opened."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from logist.render import cbor

#: Parameters, results and events are whatever the browser speaks: values of JSON, and bytes where JSON has base64.
Values = dict[str, Any]
#: Takes an event's name and its parameters.
EventHandler = Callable[[str, Values], None]

#: The number of a command that was never sent: to wait for its answer is to listen to events for a while.
NOBODY = 0

_READ = 1 << 20
#: Seconds between two looks whether the browser still lives, should a process of its own keep the pipe open.
_PACE = 0.25
_ANSWERS_KEPT = 1_000


class ProtocolError(Exception):
    """The browser refused a command; the text is its own."""


class NoAnswerError(Exception):
    """The browser did not answer in time."""


class ConnectionLostError(Exception):
    """The browser is gone; the text says why as far as it is known."""


class Connection:
    """One browser's end of the line. The descriptors do not block. One thread uses it at a time.

    `death` says why the browser is gone, or None while it lives.
    """

    def __init__(self, to_browser: int, from_browser: int, death: Callable[[], str | None]) -> None:
        self._to = to_browser
        self._from = from_browser
        self._death = death
        self._numbers = count(1)
        #: Messages that have come, the last of them perhaps in part.
        self._held = bytearray()
        self._answers: dict[int, Values] = {}
        self._handlers: dict[str, EventHandler] = {}

    def listen(self, session: str, handler: EventHandler) -> None:
        """Hand the events of a session to `handler`, while any call waits; "" is the browser's own session.

        What it raises ends the call that waits.
        """
        self._handlers[session] = handler

    def leave(self, session: str) -> None:
        """Hand the events of a session to nobody any more."""
        self._handlers.pop(session, None)

    def call(self, method: str, params: Values | None = None, *, session: str = "", timeout: float) -> Values:
        """Send a command and wait for its result. `timeout` is in seconds.

        Raises ProtocolError, NoAnswerError and ConnectionLostError.
        """
        return self.wait(self.send(method, params, session=session, timeout=timeout), timeout=timeout)

    def send(self, method: str, params: Values | None = None, *, session: str = "", timeout: float) -> int:
        """Send a command; its number, for `wait`. Raises NoAnswerError and ConnectionLostError."""
        number = next(self._numbers)
        message: Values = {"id": number, "method": method}
        if params:
            message["params"] = params
        if session:
            message["sessionId"] = session
        self._write(cbor.encode(message), time.monotonic() + timeout, method)
        return number

    def wait(self, number: int, *, timeout: float) -> Values:
        """The result of a command that was sent. Raises ProtocolError, NoAnswerError and ConnectionLostError."""
        deadline = time.monotonic() + timeout
        while number not in self._answers:
            self._read(deadline)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise ProtocolError(str(answer["error"].get("message", answer["error"])))
        result: Values = answer.get("result", {})
        return result

    def answered(self, number: int, *, within: float) -> bool:
        """Whether the result of a command is there after at most `within` seconds. Raises ConnectionLostError."""
        deadline = time.monotonic() + within
        try:
            while number not in self._answers:
                self._read(deadline)
        except NoAnswerError:
            return False
        return True

    def _write(self, data: bytes, deadline: float, method: str) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._to, rest) :]
            except BlockingIOError:
                self._await_pipe(self._to, select.POLLOUT, deadline, method)
            except OSError as error:
                raise ConnectionLostError(self._why_lost()) from error

    def _read(self, deadline: float) -> None:
        """Hand out the next message that is whole, or take what has come."""
        try:
            size = cbor.size_of(self._held)
            if size is not None and size <= len(self._held):
                message = cbor.decode(bytes(memoryview(self._held)[:size]))
                # Taken out first: what a handler raises ends this call, and the messages behind it are for the next.
                del self._held[:size]
                self._hand_out(message)
                return
        except ValueError as error:
            raise ConnectionLostError(f"the browser said what can't be read: {error}") from error
        self._await_pipe(self._from, select.POLLIN, deadline, "an answer")
        try:
            data = os.read(self._from, _READ)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionLostError(self._why_lost())
        self._held += data

    def _await_pipe(self, descriptor: int, event: int, deadline: float, what: str) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        while True:
            left = deadline - time.monotonic()
            if poll.poll(max(0.0, min(left, _PACE)) * 1000):
                return
            if (why := self._death()) is not None:
                raise ConnectionLostError(why)
            if left <= 0:
                raise NoAnswerError(f"no time left for {what}")

    def _hand_out(self, message: Values) -> None:
        if "id" in message:
            # Those nobody waits for any more must not pile up.
            if len(self._answers) >= _ANSWERS_KEPT:
                del self._answers[next(iter(self._answers))]
            self._answers[message["id"]] = message
        elif (handler := self._handlers.get(message.get("sessionId", ""))) is not None:
            handler(message["method"], message.get("params", {}))

    def _why_lost(self) -> str:
        # The pipe closes a moment before the process is gone and can be asked.
        deadline = time.monotonic() + 2
        while (why := self._death()) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return why or "the browser closed the connection"
