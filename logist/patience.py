"""How long it is waited for a command or a provider that says "later", before a human is asked. Drives `tenacity`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, wait_random_exponential

Attempt = TypeVar("Attempt")

#: How often in a row a command that could not run is tried.
TRANSIENT_ATTEMPTS = 5
#: Seconds: the upper bound of the first random wait, doubled each time, and the longest one.
BACKOFF_START = 1.0
BACKOFF_LIMIT = 60.0


class Later(NamedTuple):
    """An attempt that is worth making again."""

    #: It was the provider who was busy: that takes as long as it takes, within the role's patience.
    by_provider: bool
    #: Seconds that it asked for.
    after: float | None = None
    #: Seconds for which the program had waited for it by itself.
    waited: float = 0.0


def ask_patiently(
    ask: Callable[[], Attempt],
    later: Callable[[Attempt], Later | None],
    *,
    max_wait: float,
    before_wait: Callable[[Attempt, float], None],
    sleep: Callable[[float], None],
) -> Attempt:
    """`ask` until `later` says of an attempt that it stands; the last attempt when patience is over. In seconds.

    A provider is waited for as long as it asks for, else with growing random pauses, for `max_wait` in all; what the
    program waited by itself counts too. Anything else that could not run is tried a few times in a row, however often a
    provider was waited for before.
    `before_wait` is told each pause, `sleep` makes it.
    """
    waited = 0.0
    backoff = wait_random_exponential(multiplier=BACKOFF_START, max=BACKOFF_LIMIT)

    def result_of(state: RetryCallState) -> Attempt:
        assert state.outcome is not None
        made: Attempt = state.outcome.result()
        return made

    def pause(state: RetryCallState) -> float:
        wanted = later(result_of(state))
        return max(backoff(state), (wanted.after if wanted else None) or 0.0)

    def too_long(state: RetryCallState) -> bool:
        return state.idle_for + waited + state.upcoming_sleep > max_wait

    def retrying(stop: Callable[[RetryCallState], bool], *, by_provider: bool) -> Retrying:
        def again(made: Attempt) -> bool:
            wanted = later(made)
            return wanted is not None and wanted.by_provider is by_provider

        return Retrying(
            retry=retry_if_result(again),
            wait=pause,
            stop=stop,
            sleep=sleep,
            before_sleep=lambda state: before_wait(result_of(state), state.upcoming_sleep),
            retry_error_callback=result_of,
        )

    until_it_ran = retrying(stop_after_attempt(TRANSIENT_ATTEMPTS), by_provider=False)
    until_it_answered = retrying(too_long, by_provider=True)

    def ask_until_it_ran() -> Attempt:
        nonlocal waited
        made = until_it_ran(ask)
        wanted = later(made)
        waited += 0.0 if wanted is None else wanted.waited
        return made

    # One within the other: each counts its own attempts and pauses.
    return until_it_answered(ask_until_it_ran)
