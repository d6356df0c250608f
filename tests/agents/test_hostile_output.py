"""What no program should print, and a model may: numbers that are none, accounts without a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from logist.agents.aider import Aider
from logist.agents.claude import Claude
from logist.agents.cli import CliOutput
from logist.agents.mini import Mini
from logist.agents.outcome import Outcome, outcome_of_message


@pytest.mark.parametrize("trajectory", [{}, {"info": {"exit_status": "RateLimitError"}, "messages": []}])
def test_a_trajectory_without_messages_is_an_account_too(tmp_path: Path, trajectory: dict[str, object]) -> None:
    (tmp_path / "mini.traj.json").write_text(json.dumps(trajectory), encoding="utf-8")
    assert Mini().report(CliOutput(b"", b"", 1, tmp_path)).outcome is not Outcome.OK


@pytest.mark.parametrize(
    "said",
    [
        "Tokens: 1.2.3k sent, 5 received.",
        "Tokens: . sent, . received.",
        f"Tokens: {'9' * 400} sent, 5 received.",
        f"Tokens: 1k sent, 5 received. Cost: $1 message, ${'9' * 400} session.",
    ],
)
def test_what_looks_like_a_count_and_is_none_is_no_count(tmp_path: Path, said: str) -> None:
    usage = Aider().report(CliOutput(f"hello\n{said}\n".encode(), b"", 0, tmp_path)).usage
    assert usage.cost is None or usage.cost < 1e9


def test_an_error_is_one_however_it_is_marked(tmp_path: Path) -> None:
    event = {"type": "result", "subtype": "success", "result": "fine", "session_id": "s", "permission_denials": []}
    for mark in (True, 1, "true"):
        printed = json.dumps({**event, "is_error": mark}).encode()
        assert Claude().report(CliOutput(printed, b"", 0, tmp_path)).outcome is not Outcome.OK


def test_a_long_error_is_read_as_far_as_an_error_goes() -> None:
    assert outcome_of_message("exceeded your " * 100_000) is None
    assert outcome_of_message("You exceeded your current quota") is Outcome.QUOTA
