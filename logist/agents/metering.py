"""Counts what a oneshot uses while it still runs, where its program streams that."""

from __future__ import annotations

from collections.abc import Callable

from logist.agents.json_output import Values, json_lines
from logist.agents.whole_lines import WholeLines
from logist.models.usage import Usage, added, latest

#: What one event says was used, under a name by which a later event replaces what it tells anew; None: nothing.
Streamed = Callable[[Values], tuple[str, Usage] | None]


class Meter:
    """What the standard output of one oneshot has told of its use so far; `price` adds what that costs."""

    def __init__(self, streamed: Streamed, price: Callable[[Usage], Usage]) -> None:
        self._streamed = streamed
        self._price = price
        self._lines = WholeLines()
        self._used: dict[str, Usage] = {}

    def feed(self, data: bytes) -> None:
        """Take the next part of the output."""
        for event in json_lines(self._lines.take(data)):
            found = self._streamed(event)
            if found is not None:
                name, used = found
                self._used[name] = latest(self._used.get(name, Usage()), used)

    @property
    def usage(self) -> Usage:
        """All of it together."""
        return self._price(added(self._used.values()))
