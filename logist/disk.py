"""Waits for the disk."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Sequence

#: Waiting for the disk at the same time, the caller included.
_THREADS = 8


def sync_all(descriptors: Sequence[int]) -> None:
    """Make open files and folders durable. Raises the first OSError, once nothing is being synced any more.

    All at once: a journaling file system then commits once for all of them, which is most of what a sync costs.
    """
    shares = [descriptors[start::_THREADS] for start in range(min(_THREADS, len(descriptors)))]
    if not shares:
        return
    done: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()
    for share in shares[1:]:
        _helpers.hand_out(share, done)
    errors = [_sync(shares[0]), *(done.get() for _ in shares[1:])]
    for error in errors:
        if error is not None:
            raise error


def _sync(descriptors: Sequence[int]) -> OSError | None:
    """Sync all of them, whatever becomes of one; the first error."""
    first: OSError | None = None
    for descriptor in descriptors:
        try:
            os.fsync(descriptor)
        except OSError as error:
            first = first or error
    return first


class _Helpers:
    """Threads that stay for the next time: to start one takes as long as a quick disk takes to sync."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Sequence[int], queue.SimpleQueue[OSError | None]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._busy = 0

    def hand_out(self, descriptors: Sequence[int], done: queue.SimpleQueue[OSError | None]) -> None:
        """Have them synced; the outcome is put into `done`."""
        with self._lock:
            self._busy += 1
            if self._busy > self._threads:
                self._threads += 1
                threading.Thread(target=self._serve, name="disk", daemon=True).start()
        self._work.put((descriptors, done))

    def _serve(self) -> None:
        while True:
            descriptors, done = self._work.get()
            outcome = _sync(descriptors)
            with self._lock:
                self._busy -= 1
            done.put(outcome)


_helpers = _Helpers()


def _start_anew() -> None:
    global _helpers
    _helpers = _Helpers()


# A child of a fork has none of the threads.
os.register_at_fork(after_in_child=_start_anew)
