"""Medians and ratios of things measured in turn, in one run: these machines' speed drifts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

Timed = Callable[[], float]


def interleaved(things: Mapping[str, Timed], rounds: int, warmup: int = 2) -> dict[str, float]:
    """The median seconds of each thing, all of them measured once in every round."""
    times: dict[str, list[float]] = {name: [] for name in things}
    for number in range(warmup + rounds):
        for name, timed in things.items():
            seconds = timed()
            if number >= warmup:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def report(title: str, rows: list[tuple[str, float, float, float]]) -> bool:
    """Print (name, seconds, floor's seconds, allowed ratio) as a table; whether every ratio is allowed."""
    print(f"\n{title}")
    print(f"  {'':34} {'median':>10} {'floor':>10} {'ratio':>7} {'allowed':>8}")
    fine = True
    for name, seconds, floor, allowed in rows:
        ratio = seconds / floor
        fine = fine and ratio <= allowed
        print(
            f"  {name:34} {seconds * 1000:8.1f}ms {floor * 1000:8.1f}ms {ratio:7.2f} {allowed:8.2f}"
            f"  {'ok' if ratio <= allowed else 'TOO SLOW'}"
        )
    return fine
