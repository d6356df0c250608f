"""Hears while a oneshot runs that its program waits for a busy provider by itself, and for how long. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from logist.agents.whole_lines import WholeLines

#: Seconds for which a program may try a provider again by itself. Many limits are by the minute, and a oneshot that is
#: stopped loses its work.
PATIENCE = 60.0


class Refusal(NamedTuple):
    """What a program says of a provider that refused it, and that it will ask again by itself."""

    #: In the words of either.
    said: str
    #: The HTTP status; None: it is not told, or stands in the words.
    status: int | None = None
    #: Seconds until it asks again, at least; None: it doesn't tell, and may be silent until then.
    again_in: float | None = None


#: What a line of output says of the provider: it refused, it begins to answer (which may come to nothing), or it
#: answered; None: nothing.
Heard = Refusal | Literal["begins", "answered"] | None


class OwnWait:
    """What one oneshot has said of its own waiting so far; `hear` understands a line. Moments are in seconds.

    Refusals without an answer between them are one wait. It is over when the program asks again, where it tells when
    that will be, else now.
    """

    def __init__(self, hear: Callable[[bytes], Heard]) -> None:
        self._hear = hear
        self._lines = {"stdout": WholeLines(), "stderr": WholeLines()}
        self._refusal: Refusal | None = None
        #: When the wait began, and until when it lasts at least.
        self._began = self._until = 0.0
        #: It lasts until it is said to be over.
        self._open = False

    def feed(self, stream: str, data: bytes, now: float) -> None:
        """Take the next part of the output that is called `stream`; after a wait that is too long nothing counts."""
        whole = self._lines[stream].take(data)
        for line in whole.split(b"\n") if whole else ():
            if not self.is_too_long(now):
                self._take(self._hear(line), now)

    def _take(self, heard: Heard, now: float) -> None:
        match heard:
            case Refusal(again_in=again_in):
                if self._refusal is None or now > self._until + PATIENCE:
                    # After the last one the program was at work for so long that its provider must have answered.
                    self._began = now
                self._refusal, self._open = heard, again_in is None
                self._until = now + (again_in or 0.0)
            case "begins":
                self._open = False
            case "answered":
                self._refusal = None

    def is_too_long(self, now: float) -> bool:
        """Whether the program waits longer than it may, or is known to be going to."""
        over = now if self._open else self._until
        return self._refusal is not None and over - self._began >= PATIENCE

    def lasts(self, now: float) -> float:
        """For how long the program has waited; 0 where it does not."""
        return 0.0 if self._refusal is None else now - self._began

    def refusal(self, now: float) -> Refusal | None:
        """What was said last, and in how many seconds from `now` the program would ask again, where that is known."""
        left = self._until - now
        return None if self._refusal is None else self._refusal._replace(again_in=left if left > 0 else None)
