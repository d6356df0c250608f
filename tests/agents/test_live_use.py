"""What a program used is known while it runs, where it tells that: as much as it says at its end, and never more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import Recording, cli_called, every_recording, recording

from logist.agents import CLIS
from logist.agents.cli import CliAgent
from logist.models.manifest import RoleSettings
from logist.models.usage import Usage

STREAMING = [cli for cli in CLIS if cli_called(cli).streams]
#: Not where every stream broke off: what came until then is heard, and the program itself does not count it.
RECORDED = [each for each in every_recording() if each.cli in STREAMING and each.case != "dropped"]
TOKENS = ("input_tokens", "output_tokens", "cached_tokens")


def name_of(recorded: Recording) -> str:
    return f"{recorded.cli}-{recorded.case}"


def heard(recorded: Recording, *parts: bytes, model: str | None = None) -> Usage:
    """What was counted while these parts of the output came."""
    meter = CliAgent(cli_called(recorded.cli)).meter(RoleSettings(agent=recorded.cli, model=model))
    assert meter is not None
    for part in parts:
        meter.feed(part)
    return meter.usage


def told(recorded: Recording) -> dict[str, int]:
    """The tokens that it told of at its end."""
    used = recorded.expected.get("used") or recorded.expected.get("usage", {})
    return {name: used[name] for name in TOKENS if name in used}


def test_these_tell_while_they_run() -> None:
    assert STREAMING == ["claude", "qwen", "opencode", "cline"]


@pytest.mark.parametrize("cli", STREAMING)
def test_what_is_heard_is_what_is_told_at_the_end(cli: str) -> None:
    # An older claude makes titles of its own, which it tells of at its end alone.
    recorded = recording(cli, "v329_ok" if cli == "claude" else "ok")
    expected = told(recorded)
    if cli == "claude":
        # What it writes it counts at its end alone.
        del expected["output_tokens"]
    assert expected
    assert heard(recorded, recorded.stdout).model_dump(include=set(expected)) == expected


@pytest.mark.parametrize("recorded", RECORDED, ids=name_of)
@given(data=st.data())
@settings(max_examples=20)
def test_however_it_comes_no_more_is_heard_than_is_told(recorded: Recording, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(recorded.stdout)), max_size=5)))
    ends = [*cuts, len(recorded.stdout)]
    usage = heard(recorded, *(recorded.stdout[start:end] for start, end in zip([0, *cuts], ends, strict=True)))
    for name, most in told(recorded).items():
        assert (getattr(usage, name) or 0) <= most


@pytest.mark.parametrize("cli", STREAMING)
def test_what_is_heard_has_the_price_of_its_model(cli: str) -> None:
    recorded = recording(cli, "ok")
    usage = heard(recorded, recorded.stdout, model="anthropic/claude-sonnet-4-5")
    assert usage.cost_is == "estimated"
    assert (usage.cost or 0) > 0
    assert heard(recorded, recorded.stdout, model="nobody/nothing").cost is None
