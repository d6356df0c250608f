"""The contract of adapters can be failed: each of its tests by an adapter that gets wrong what it is about."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from logist.execution import Command, CommandResult, Ended, StreamResult
from logist.testing import exited, stream
from logist.testing.adapter_contract import AdapterContract
from logist.testing.bench import contradictions

ROOT = Path(__file__).resolve().parents[1]
COMMAND = Command(cwd=Path("/"), env={}, argv=("true",), log_limit=10)
PROMISES = {name for name in vars(AdapterContract) if name.startswith("test_")}


@pytest.mark.slow
def test_every_test_of_the_contract_is_failed_by_one_of_two_bad_adapters(tmp_path: Path) -> None:
    options = ["-p", "no:xdist", "-p", "no:cacheprovider", "-W", "ignore", "-rf", "--tb=no", "--basetemp=bad"]
    # In a folder of its own: one of the two runs its commands wherever it is itself.
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", ROOT, *options, ROOT / "tests" / "bad_adapters.py"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    failed = set(re.findall(r"^FAILED \S+::(test_\w+)", ran.stdout, re.MULTILINE))
    assert len(PROMISES) > 40
    assert failed == PROMISES, ran.stdout


def test_everything_that_an_adapter_may_say_of_itself_is_explained() -> None:
    page = (ROOT / "docs" / "06_testing.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(\w+)` \|", page.partition("## The contract of adapters")[2], re.MULTILINE)
    assert explained == list(AdapterContract.__annotations__)


@pytest.mark.parametrize(
    "result",
    [
        exited(0, stdout=b"few"),
        exited(137)._replace(signal=9, survivors_killed=3),
        exited(stdout=b"")._replace(stdout=StreamResult(20, "hash of all", b"head.", b".tail")),
        CommandResult(Ended.CANCELED, None, 0.0, detail="not now"),
        CommandResult(Ended.TIMED_OUT, 0, 1.5, detail="it ran too long"),
        CommandResult(Ended.NOT_STARTED, None, 0.0, detail="there is no such program", program_missing=True),
        CommandResult(Ended.LOST, None, 3.0, detail="its machine is gone"),
    ],
)
def test_a_result_that_can_be_has_no_contradictions(result: CommandResult) -> None:
    assert contradictions(COMMAND, result) == []


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (exited(duration=-1.0), "duration"),
        (exited(duration=float("nan")), "duration"),
        (exited()._replace(exit_code=None), "without an exit code"),
        (exited(1)._replace(ended=Ended.LOST, detail="gone"), "exit code and is lost"),
        (exited(9)._replace(signal=9), "signal 9"),
        (exited(127)._replace(program_missing=True), "missing"),
        (exited(143)._replace(ended=Ended.TIMED_OUT), "why it is timed_out"),
        (exited(stdout=b"more than ten bytes"), "with a limit of 10"),
        (exited()._replace(stderr=StreamResult(20, "hash", b"head.", b"")), "stderr: 5 bytes are kept of 20"),
        (exited()._replace(stdout=stream(b"one")._replace(sha256="of another")), "hash"),
    ],
)
def test_a_result_that_contradicts_itself_is_told_what_is_wrong(result: CommandResult, words: str) -> None:
    (problem,) = contradictions(COMMAND, result)
    assert words in problem


def test_what_was_to_be_one_stream_is_not_two() -> None:
    assert contradictions(COMMAND._replace(one_stream=True), exited(stderr=b"err")) == [
        "both streams are one, and stderr carried something"
    ]
