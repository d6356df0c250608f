"""Hands out frames to those that make them, and takes them back in their order. Bounded: nobody gets far ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Frame(NamedTuple):
    """One picture of a composition."""

    #: Counted from the composition's first frame.
    number: int
    #: As a file; where nothing changed it is the very same object as the one before.
    png: bytes


class StoppedError(Exception):
    """Nobody wants any more frames."""


class FrameQueue:
    """The frames of one render, in blocks of neighbours: `makers` threads make them, one takes them."""

    def __init__(self, numbers: Sequence[int], makers: int, block: int) -> None:
        self._numbers = numbers
        self._block = block
        #: How many may be made and not yet taken: enough for all makers to be at work.
        self._ahead = 2 * makers * block
        self._changed = threading.Condition()
        self._handed_out = 0
        self._taken = 0
        self._at_work = makers
        self._made: dict[int, bytes] = {}
        self._error: BaseException | None = None
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether nobody wants any more frames."""
        return self._stopped

    def blocks(self) -> Iterator[range]:
        """Blocks of places for one maker, each later than the ones it had before."""
        while True:
            with self._changed:
                start = self._handed_out
                end = min(start + self._block, len(self._numbers))
                self._handed_out = end
            if start == end:
                return
            yield range(start, end)

    def number(self, place: int) -> int:
        """The frame's number at a place."""
        return self._numbers[place]

    def put(self, place: int, png: bytes) -> None:
        """Give a frame; waits while it is too far ahead of what is taken. Raises StoppedError."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or place < self._taken + self._ahead)
            if self._stopped:
                raise StoppedError
            self._made[place] = png
            if place == self._taken:
                self._changed.notify_all()

    def done(self) -> None:
        """A maker has made all that it will."""
        with self._changed:
            self._at_work -= 1
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """No more frames come: whoever takes them gets the first error that was given."""
        with self._changed:
            if not self._stopped:
                self._error = error
            self._stopped = True
            self._changed.notify_all()

    def stop(self) -> None:
        """No more frames are wanted."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def frames(self) -> Iterator[Frame]:
        """All frames in their order, as they are made; at the end all makers are done. Raises what `fail` was given."""
        for place, number in enumerate(self._numbers):
            yield Frame(number, self._take(place))
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or not self._at_work)
            self._raise_error()

    def _take(self, place: int) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or place in self._made)
            self._raise_error()
            png = self._made.pop(place)
            self._taken = place + 1
            self._changed.notify_all()
            return png

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
