"""Several transfers at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_THREADS = 8


def at_once(act: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """What `act` returns for each item, in order. The first that raises ends it: no more are begun.

    Who is stopped by a signal meanwhile does not wait for those that run, which may take hours.
    """
    todo = list(items)
    answers: dict[int, Answer] = {}
    faults: list[BaseException] = []
    # One iterator for all threads: each takes what none took before.
    places = iter(range(len(todo)))

    def work() -> None:
        for place in places:
            if faults:
                return
            try:
                answers[place] = act(todo[place])
            except BaseException as fault:  # noqa: BLE001 - raised again below
                faults.append(fault)

    # Not a ThreadPoolExecutor, which the end of the process waits for.
    threads = [threading.Thread(target=work, name="transfers", daemon=True) for _ in todo[:_THREADS]]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException as stopped:
        faults.append(stopped)
        raise
    if faults:
        raise faults[0]
    return [answers[place] for place in range(len(todo))]
