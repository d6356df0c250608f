"""Phases that need others come after them; all else stays as it is written."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from logist.models.config import JobFile
from logist.models.manifest import JobDefinition, Phase, in_order_of_needs


def names_of(phases: tuple[Phase, ...]) -> str:
    return "".join(phase.name for phase in phases)


def phases_of(**needs: str) -> tuple[Phase, ...]:
    """Phases of one letter, each with the letters that it needs."""
    return tuple(Phase(name=name, needs=tuple(needed)) for name, needed in needs.items())


@pytest.mark.parametrize(
    ("needs", "order"),
    [
        ({"a": "", "b": "", "c": ""}, "abc"),
        ({"a": "", "b": "a", "c": ""}, "abc"),
        ({"a": "c", "b": "", "c": ""}, "bca"),
        ({"c": "a", "b": "a", "a": ""}, "acb"),
        ({"d": "bc", "c": "a", "b": "a", "a": "", "e": ""}, "acbde"),
    ],
)
def test_a_phase_comes_after_those_that_it_needs(needs: dict[str, str], order: str) -> None:
    assert names_of(in_order_of_needs(phases_of(**needs))) == order


@given(st.permutations("abcdefg"), st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from("abcdefg"))))
def test_every_order_of_phases_ends_in_one_that_their_needs_allow(
    written: list[str], pairs: list[tuple[str, str]]
) -> None:
    # A need only ever points to an earlier letter, so there is no circle.
    needs = {name: {low for low, high in map(sorted, pairs) if high == name and low != high} for name in written}
    phases = tuple(Phase(name=name, needs=tuple(sorted(needs[name]))) for name in written)
    ordered = names_of(in_order_of_needs(phases))
    assert sorted(ordered) == sorted(written)
    assert all(ordered.index(needed) < ordered.index(name) for name in written for needed in needs[name])
    # The same again: what is in order stays.
    by_name = {phase.name: phase for phase in phases}
    assert names_of(in_order_of_needs([by_name[name] for name in ordered])) == ordered


@pytest.mark.parametrize(
    ("needs", "told"),
    [
        ({"a": "a"}, "phase 'a' needs itself"),
        ({"a": "x"}, "phase 'a' needs 'x', and there is no such phase"),
        ({"a": "", "b": "aa"}, "phase 'b' needs a phase twice"),
        ({"a": "c", "b": "a", "c": "b"}, "phases need each other"),
    ],
)
def test_needs_that_can_not_be_met_are_refused_in_a_sentence(needs: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        in_order_of_needs(phases_of(**needs))
    for make in (JobFile, JobDefinition):
        with pytest.raises(ValidationError, match=told):
            make(objective="x", phases=phases_of(**needs))


def test_two_phases_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two phases have the same name"):
        in_order_of_needs((Phase(name="a"), Phase(name="a", needs=("a",))))


def test_a_circle_is_told_in_the_order_of_its_needs() -> None:
    needs = {"a": "c", "b": "a", "c": "b", "d": "a"}
    with pytest.raises(ValueError, match="phases need each other") as told:
        in_order_of_needs(phases_of(**needs))
    circle = re.findall(r"'(\w)'", str(told.value))
    assert set(circle) == {"a", "b", "c"}
    assert all(needs[name] == needed for name, needed in pairwise(circle))
