"""Puts the lines of an output together that comes in parts."""

from __future__ import annotations

#: Bytes of a line that is not whole yet; of a longer one only its end is kept.
_LONGEST = 1 << 20


class WholeLines:
    """One output as it comes, by whole lines."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> bytes:
        """The lines that the next part of the output ends, together; empty: none."""
        whole, newline, rest = data.rpartition(b"\n")
        if not newline:
            self._rest = (self._rest + rest)[-_LONGEST:]
            return b""
        taken, self._rest = self._rest + whole, rest[-_LONGEST:]
        return taken
