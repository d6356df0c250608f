"""Several transfers at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_THREADS = 8


def at_once(act: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """What `act` returns for each item, in order. The first that raises ends it: no more are begun."""
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="transfers")
    try:
        return list(pool.map(act, items))
    finally:
        pool.shutdown(cancel_futures=True)
