"""Programs and their versions: asked for when they are run, and at no other time."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import Jobs, say

from logist.agents.versions import installed_version
from logist.errors import ExitCode
from logist.events import Notice
from logist.job_processor import preview_step
from logist.models.history import Exited, Started
from logist.models.manifest import RoleSettings
from logist.processes import start_time
from logist.stop_requests import request as ask_of_run

#: Notes that it was asked for its version, and may hang then; else it plays a cline or a claude that wrote its reply.
PROGRAM = """#!{python} -IS
import json, os, signal, sys
from pathlib import Path
here = Path(__file__).parent
if "--version" in sys.argv:
    with (here / "asked").open("a") as file:
        file.write("once\\n")
    if (here / "hangs").exists():
        signal.pause()
    print((here / "version").read_text())
else:
    reply = {{"token": os.environ["LOGIST_STEP_TOKEN"], "action": "COMPLETED"}}
    Path(os.environ["LOGIST_REPLY_FILE"]).write_text(json.dumps(reply))
    (here / "answered").write_text(str(os.getpid()))
    text = "```json\\n" + json.dumps(reply) + "\\n```"
    print(json.dumps({{"type": "run_result", "finishReason": "completed", "text": text}}))
    print(json.dumps({{"type": "result", "subtype": "success", "result": text}}))
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "bin" / "cline"
    made.parent.mkdir()
    made.write_text(PROGRAM.format(python=sys.executable), encoding="utf-8")
    made.chmod(0o755)
    made.with_name("version").write_text("2.18.0", encoding="utf-8")
    made.with_name("claude").symlink_to(made)
    monkeypatch.setenv("PATH", f"{made.parent}{os.pathsep}{os.environ['PATH']}")
    return made


@pytest.fixture
def jobs(tmp_path: Path, program: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path / "work")
    made.create(worker=RoleSettings(agent="cline"), supervisor=say("COMPLETED"))
    yield made
    made.close()


def times_asked(program: Path) -> int:
    asked = program.with_name("asked")
    return len(asked.read_text(encoding="utf-8").splitlines()) if asked.exists() else 0


def doubts(jobs: Jobs) -> list[str]:
    """What was told of versions."""
    notices = [event.message for event in jobs.reporter.events if isinstance(event, Notice)]
    return [message for message in notices if "version" in message]


def test_a_preview_starts_no_program(jobs: Jobs, program: Path) -> None:
    assert preview_step(jobs.runtime, "job").argv[:2] == ("cline", "--json")
    assert times_asked(program) == 0


def test_a_run_calls_the_program_as_the_version_that_is_there_takes_it(jobs: Jobs, program: Path) -> None:
    jobs.run_to(ExitCode.SUCCESS)
    [started, *_] = [record for record in jobs.records() if isinstance(record, Started)]
    assert started.argv[:3] == ("cline", "--json", "--yolo")
    assert times_asked(program) == 1


def test_a_program_that_hangs_when_it_is_asked_for_its_version_holds_up_no_cancel(jobs: Jobs, program: Path) -> None:
    program.with_name("hangs").touch()
    results: list[ExitCode] = []
    thread = threading.Thread(target=lambda: results.append(jobs.run().exit_code))
    thread.start()
    while times_asked(program) == 0:
        assert thread.is_alive()
        thread.join(0.02)
    ask_of_run(jobs.store.paths("job"), "cancel", "enough", jobs.clock.now())
    thread.join(20)
    assert results == [ExitCode.CANCELED]


@pytest.mark.parametrize("name", ["claude", "cline"])
def test_a_version_that_was_not_tested_is_told_once_in_a_run_that_goes_on(
    tmp_path: Path, program: Path, name: str
) -> None:
    program.with_name("version").write_text("2.99.1 (Some Code)", encoding="utf-8")
    jobs = Jobs(tmp_path / "other")
    role = RoleSettings(agent=name)
    jobs.create(worker=role, supervisor=role)
    jobs.run_to(ExitCode.SUCCESS)
    jobs.close()
    [doubt] = doubts(jobs)
    assert doubt.startswith(f"{name} 2.99.1 is not a version that was tested (")
    assert times_asked(program) == 1


def test_of_a_version_that_was_tested_nothing_is_told(jobs: Jobs, program: Path) -> None:
    jobs.run_to(ExitCode.SUCCESS)
    assert times_asked(program) == 1
    assert doubts(jobs) == []


def has_answered(program: Path) -> bool:
    """Whether it has answered, and has come to its end after that."""
    answered = program.with_name("answered")
    process = answered.read_text(encoding="utf-8") if answered.exists() else ""
    return process != "" and start_time(int(process)) is None


def test_an_agent_works_while_its_program_is_asked_for_its_version(tmp_path: Path, program: Path) -> None:
    program.with_name("hangs").touch()
    jobs = Jobs(tmp_path / "other")
    jobs.create(worker=RoleSettings(agent="claude"), supervisor=say("COMPLETED"))
    results: list[ExitCode] = []
    thread = threading.Thread(target=lambda: results.append(jobs.run().exit_code))
    thread.start()
    while times_asked(program) == 0 or not has_answered(program):
        assert thread.is_alive()
        thread.join(0.02)
    ask_of_run(jobs.store.paths("job"), "cancel", "enough", jobs.clock.now())
    thread.join(20)
    jobs.close()
    assert results == [ExitCode.CANCELED]
    # What it had answered by then counts.
    assert any(isinstance(record, Exited) for record in jobs.records())


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("This is mini-swe-agent version 2.4.6.", "2.4.6"),
        ("2.1.197 (Claude Code)", "2.1.197"),
        ("codex-cli 0.169.0-alpha.1+b2, built here", "0.169.0-alpha.1+b2"),
        ("none", None),
    ],
)
def test_a_version_is_found_in_the_sentence_that_tells_it(program: Path, printed: str, version: str | None) -> None:
    program.with_name("version").write_text(printed, encoding="utf-8")
    assert installed_version(("cline", "--version"), os.environ) == version


def test_an_answer_that_was_not_waited_for_is_not_remembered(program: Path) -> None:
    argv, hangs = ("cline", "--version"), program.with_name("hangs")
    hangs.touch()
    assert installed_version(argv, os.environ, cancel=lambda: "enough" if times_asked(program) else None) is None
    hangs.unlink()
    assert [installed_version(argv, os.environ) for _ in range(2)] == ["2.18.0", "2.18.0"]
    assert times_asked(program) == 2
