"""How long "later" is waited for: a busy provider and a command that could not run are counted apart."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from logist.patience import BACKOFF_LIMIT, TRANSIENT_ATTEMPTS, Later, ask_patiently

BUSY, LOST = Later(by_provider=True), Later(by_provider=False)


class Asked:
    """Attempts that end as they are told to, the last one again and again."""

    def __init__(self, *ends: Later | None) -> None:
        self.ends = ends
        self.made = 0
        self.pauses: list[float] = []

    def patiently(self, max_wait: float) -> Later | None:
        return ask_patiently(
            self._ask, lambda end: end, max_wait=max_wait, before_wait=lambda *_: None, sleep=self.pauses.append
        )

    def _ask(self) -> Later | None:
        self.made += 1
        return self.ends[min(self.made, len(self.ends)) - 1]


@pytest.mark.parametrize("ends", [[BUSY] * 6 + [LOST] * 4, [LOST] * 4 + [BUSY] + [LOST] * 4, [LOST, BUSY] * 8])
def test_waiting_for_a_provider_takes_no_try_from_a_command_that_was_lost(ends: Sequence[Later]) -> None:
    asked = Asked(*ends, None)
    assert asked.patiently(max_wait=10_000.0) is None
    assert asked.made == len(ends) + 1


def test_a_command_that_is_lost_again_and_again_is_given_up() -> None:
    asked = Asked(LOST)
    assert asked.patiently(max_wait=10_000.0) is LOST
    assert (asked.made, len(asked.pauses)) == (TRANSIENT_ATTEMPTS, TRANSIENT_ATTEMPTS - 1)


def test_a_provider_is_waited_for_no_longer_than_the_patience() -> None:
    asked = Asked(BUSY)
    assert asked.patiently(max_wait=300.0) is BUSY
    assert asked.made > TRANSIENT_ATTEMPTS
    assert 300.0 - BACKOFF_LIMIT <= sum(asked.pauses) <= 300.0


def test_a_provider_that_says_how_long_is_waited_for_that_long() -> None:
    asked = Asked(Later(by_provider=True, after=200.0), None)
    asked.patiently(max_wait=300.0)
    assert asked.pauses == [200.0]


def test_a_provider_that_asks_for_more_than_the_patience_is_not_waited_for_at_all() -> None:
    asked = Asked(Later(by_provider=True, after=301.0))
    asked.patiently(max_wait=300.0)
    assert (asked.made, asked.pauses) == (1, [])


def test_what_a_program_waited_by_itself_is_part_of_the_patience() -> None:
    asked = Asked(Later(by_provider=True, waited=60.0))
    asked.patiently(max_wait=300.0)
    assert asked.made <= 5
    assert sum(asked.pauses) <= 300.0 - 60.0 * (asked.made - 1)
