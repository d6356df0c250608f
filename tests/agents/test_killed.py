"""A program that a signal ended: that it came to nothing is no fault of its settings, and it is run again."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded import cli_called, recording, request_for

from logist.agents import CLIS
from logist.agents.cli import Cli, CliAgent, CliOutput
from logist.agents.codex import Codex
from logist.agents.oneshot import Answer
from logist.agents.outcome import Outcome, Report
from logist.execution import CommandResult, Ended
from logist.testing import stream

WARNING = b"(node:4242) Warning: a feature is deprecated\n"
KILLED, TERMINATED = 137, 143
every_cli = pytest.mark.parametrize("cli", CLIS)


class Puzzling(Codex):
    """A program whose output nobody understands."""

    def report(self, output: CliOutput) -> Report:
        raise LookupError(output.stdout)


def answer_to(tmp_path: Path, cli: Cli, exit_code: int, stdout: bytes = b"", ended: Ended = Ended.EXITED) -> Answer:
    result = CommandResult(ended, exit_code, 60.0, stream(stdout), stream(WARNING), detail="it printed nothing for 9 s")
    return CliAgent(cli).read(request_for(tmp_path, cli.name), result)


@every_cli
@pytest.mark.parametrize("exit_code", [KILLED, TERMINATED])
@pytest.mark.parametrize("printed", ["nothing", "its-beginning"])
def test_a_program_that_is_killed_before_its_result_is_run_again(
    tmp_path: Path, cli: str, exit_code: int, printed: str
) -> None:
    whole = recording(cli, "ok").stdout
    stdout = b"" if printed == "nothing" else whole[: len(whole) // 3]
    answer = answer_to(tmp_path, cli_called(cli), exit_code, stdout)
    assert (answer.outcome, answer.kind) == (Outcome.KILLED, "transient")
    assert answer.problem == f"killed: it was killed (exit code {exit_code})"


@every_cli
def test_a_program_that_ends_by_itself_without_a_result_was_not_killed(tmp_path: Path, cli: str) -> None:
    assert answer_to(tmp_path, cli_called(cli), 1).outcome in (Outcome.CONFIG, Outcome.NO_RESULT)


@every_cli
@pytest.mark.parametrize("exit_code", [KILLED, TERMINATED, 1])
def test_a_warning_is_not_why_a_silent_program_was_stopped(tmp_path: Path, cli: str, exit_code: int) -> None:
    answer = answer_to(tmp_path, cli_called(cli), exit_code, ended=Ended.TIMED_OUT)
    assert (answer.outcome, answer.kind) == (Outcome.TIMEOUT, "timeout")
    assert answer.problem == "timeout: the command was stopped: it printed nothing for 9 s"


@pytest.mark.parametrize(("cli", "case"), [("claude", "auth"), ("codex", "auth"), ("opencode", "auth")])
def test_what_a_program_said_before_it_was_killed_counts(tmp_path: Path, cli: str, case: str) -> None:
    assert answer_to(tmp_path, cli_called(cli), KILLED, recording(cli, case).stdout).outcome is Outcome.AUTH


def test_what_a_killed_program_left_need_not_be_understood(tmp_path: Path) -> None:
    assert answer_to(tmp_path, Puzzling(), 1).outcome is Outcome.NO_RESULT
    assert answer_to(tmp_path, Puzzling(), KILLED).outcome is Outcome.KILLED
