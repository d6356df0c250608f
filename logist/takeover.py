"""Takes a lease that only a dead runner's processes still hold, by ending them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from logist.clock import Clock
from logist.errors import JobBusy
from logist.execution.leftovers import kill_leftovers
from logist.job_files import JobPaths
from logist.lease import read_holder

#: How often, 0.1 s apart, a lease without a living runner is tried before what holds it is killed.
_PATIENCE = 10

Taken = TypeVar("Taken")


def take_over(paths: JobPaths, clock: Clock, take: Callable[[], Taken]) -> Taken:
    """What `take` gives, which takes the lease. Raises JobBusy when a living runner holds it."""

    def claimed() -> bool:
        holder = read_holder(paths)
        return holder is not None and holder.alive

    for _ in range(_PATIENCE):
        try:
            return take()
        except JobBusy:
            if claimed():
                raise
            # The dead runner's own helper is at work; and a new runner may not have written its name yet.
            clock.sleep(0.1)
    kill_leftovers(None, lock_path=paths.lease, claimed=claimed)
    return take()
