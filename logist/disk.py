"""Waits for the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

_THREADS = 8


def sync_all(descriptors: Sequence[int]) -> None:
    """Make open files and folders durable. Raises the first OSError, once nothing is being synced any more.

    All at once: a journaling file system then commits once for all of them, which is most of what a sync costs.
    """
    if len(descriptors) < 2:
        for descriptor in descriptors:
            os.fsync(descriptor)
        return
    errors: list[OSError] = []

    def sync(share: Sequence[int]) -> None:
        for descriptor in share:
            try:
                os.fsync(descriptor)
            except OSError as error:
                errors.append(error)

    helpers = [
        threading.Thread(target=sync, args=(descriptors[start::_THREADS],))
        for start in range(1, min(_THREADS, len(descriptors)))
    ]
    for helper in helpers:
        helper.start()
    sync(descriptors[::_THREADS])
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]
