"""A runner's look at a command below a warden: takes what it prints, and has it stopped when that is due."""

from __future__ import annotations

import os
import select
import time

from .tree import STOP

# What `typing` says too, at the cost of its import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    class Warden(Protocol):
        """A runner's end of the line to a warden."""

        def fileno(self) -> int:
            """Readable when the warden has something to tell or is gone."""
            ...

        def order(self, order: bytes) -> None:
            """Give an order."""
            ...

        def receive(self) -> dict[str, Any]:
            """What it tells next."""
            ...


#: Seconds between two looks at the cancel request; the promise is 50 ms.
_CANCEL_PACE = 0.04
_CHUNK = 65536


class Ends:
    """The two ends of what a stream carried: `limit` bytes of it, half head and half tail. All of it is counted."""

    def __init__(self, limit: int) -> None:
        self.total = 0
        self.head = bytearray()
        self.tail = bytearray()
        self._head_limit = limit // 2
        self._tail_limit = limit - self._head_limit
        self._hash: hashlib._Hash | None = None

    def take(self, data: bytes) -> int:
        """More has come; how many bytes of it are part of the head."""
        self.total += len(data)
        fitting = max(0, min(len(data), self._head_limit - len(self.head)))
        self.head += data[:fitting]
        self.tail += data[fitting:]
        dropped = len(self.tail) - self._tail_limit
        if self._hash is not None:
            self._hash.update(data)
        elif dropped > 0:
            # Until now all of it is here, and most streams never get to this.
            import hashlib

            self._hash = hashlib.sha256(self.head + self.tail)
        if dropped > 0:
            del self.tail[:dropped]
        return fitting

    def carried(self) -> tuple[int, str, bytes, bytes]:
        """How many bytes, their SHA-256 in hex, and the two ends; no hash where the ends are all there was."""
        return self.total, "" if self._hash is None else self._hash.hexdigest(), bytes(self.head), bytes(self.tail)


class Stream:
    """Our end of an output stream; `take` gets what comes."""

    def __init__(self, fd: int, take: Callable[[bytes], object]) -> None:
        self.fd = fd
        self._take = take

    def read(self) -> int | None:
        """Take what is there; how many bytes, 0 at the end of the stream, None when nothing is there now."""
        try:
            data = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return None
        if data:
            self._take(data)
        return len(data)

    def drain(self) -> None:
        """Take what the pipe still holds. No more than that: somebody out of our reach might go on writing."""
        size = self.read()
        if not size:
            return
        # Only for a command that printed something just before its end.
        import fcntl

        left = fcntl.fcntl(self.fd, fcntl.F_GETPIPE_SZ) if hasattr(fcntl, "F_GETPIPE_SZ") else _CHUNK
        while size and (left := left - size) > 0:
            size = self.read()


class Watch:
    """A command that runs, from now on. Limits are in seconds; `cancel` says why it has to end, if it has."""

    def __init__(
        self, timeout: float | None, idle_timeout: float | None, cancel: Callable[[], str | None] | None
    ) -> None:
        self._timeout = timeout
        self._idle_timeout = idle_timeout
        self._cancel = cancel
        #: Why it was told to stop, once it was: `timed_out` or `canceled`, and a sentence.
        self.stop: tuple[str, str] | None = None
        self.began = self._last_output = self._last_look = time.monotonic()

    def until_told(self, warden: Warden, streams: Sequence[Stream]) -> dict[str, Any]:
        """Take what comes, and stop the command when that is due, until its warden tells something; what it tells."""
        open_streams = {stream.fd: stream for stream in streams}
        poll = select.poll()
        for fd in (warden.fileno(), *open_streams):
            poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll(self._patience())]
            for fd in ready:
                if (stream := open_streams.get(fd)) is None:
                    continue
                if stream.read() == 0:
                    poll.unregister(fd)
                else:
                    self._last_output = time.monotonic()
            if warden.fileno() in ready:
                return warden.receive()
            if self.stop is None and (stop := self._due()) is not None:
                self.stop = stop
                warden.order(STOP)

    def _patience(self) -> int | None:
        """Milliseconds until the next thing to look at; None: until something comes."""
        if self.stop is not None:
            return None
        moments = []
        if self._cancel is not None:
            moments.append(self._last_look + _CANCEL_PACE)
        if self._timeout is not None:
            moments.append(self.began + self._timeout)
        if self._idle_timeout is not None:
            moments.append(self._last_output + self._idle_timeout)
        return max(0, int((min(moments) - time.monotonic()) * 1000) + 1) if moments else None

    def _due(self) -> tuple[str, str] | None:
        now = time.monotonic()
        limit, idle = self._timeout, self._idle_timeout
        if limit is not None and now >= self.began + limit:
            return "timed_out", f"it ran longer than {limit:g} s"
        if idle is not None and now >= self._last_output + idle:
            return "timed_out", f"it printed nothing for {idle:g} s"
        if self._cancel is not None and now >= self._last_look + _CANCEL_PACE:
            self._last_look = now
            why = self._cancel()
            return None if why is None else ("canceled", why)
        return None
