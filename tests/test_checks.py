"""Acceptance checks as they really run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from logist.checks import ChecksStopped, run_checks
from logist.errors import StorageFailed
from logist.execution.local import LocalWorkerAdapter
from logist.models.manifest import Check, CheckResult

Run = Callable[..., tuple[CheckResult, ...]]


@pytest.fixture(scope="module")
def adapter() -> Iterator[LocalWorkerAdapter]:
    adapter = LocalWorkerAdapter(grace=0.2)
    yield adapter
    adapter.close()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def run(workspace: Path, tmp_path: Path, adapter: LocalWorkerAdapter) -> Run:
    """Runs lines, or checks, in the workspace."""

    def run_lines(*checks: str | Check, **options: object) -> tuple[CheckResult, ...]:
        made = [
            Check(name=f"check {number}", command=check) if isinstance(check, str) else check
            for number, check in enumerate(checks, start=1)
        ]
        given: dict[str, object] = {"environ": os.environ, "log_dir": tmp_path / "logs", **options}
        return run_checks(tuple(made), workspace, adapter, **given)  # type: ignore[arg-type]

    return run_lines


def test_exit_code_0_is_green_and_any_other_red(run: Run) -> None:
    results = run("true", "exit 3", "no-such-program-here", "kill -9 $$")
    assert [(result.name, result.passed, result.exit_code) for result in results] == [
        ("check 1", True, 0),
        ("check 2", False, 3),
        ("check 3", False, 127),
        ("check 4", False, 137),
    ]
    assert all(result.duration > 0 for result in results)


def test_every_check_runs_in_order_after_a_red_one_too(run: Run, workspace: Path) -> None:
    told: list[CheckResult] = []
    results = run("echo 1 >> ran; false", "echo 2 >> ran", on_result=told.append)
    assert (workspace / "ran").read_text(encoding="utf-8") == "1\n2\n"
    assert tuple(told) == results


def test_a_result_says_whether_the_check_was_required(run: Run) -> None:
    [result] = run(Check(name="style", command="false", required=False))
    assert (result.name, result.required, result.passed) == ("style", False, False)


def test_a_check_that_takes_too_long_is_red_and_says_so(run: Run) -> None:
    [result] = run(Check(name="slow", command="echo began; exec sleep 60", timeout=1.0))
    assert (result.passed, result.exit_code) == (False, None)
    assert result.tail.startswith("began\n[timed_out: ")


def test_the_end_of_the_output_is_kept_and_nothing_of_its_tricks(run: Run) -> None:
    [long, tricky] = run(
        "seq 1 100000; yes err | head -n 9000 >&2; echo the reason >&2; false",
        "printf '\\033[31mred\\033[0m\\033]0;title\\007\\377'",
    )
    assert len(long.tail) <= 8192
    assert long.tail.startswith("[... earlier output left out ...]\n")
    assert "\n100000\n" in long.tail
    assert long.tail.endswith("err\nthe reason")
    assert tricky.tail == "red\ufffd"


def test_the_whole_output_is_in_the_logs(run: Run, tmp_path: Path) -> None:
    run("true", "seq 1 100000; echo err >&2")
    assert (tmp_path / "logs" / "check-02.stdout.log").read_bytes().count(b"\n") == 100_000
    assert (tmp_path / "logs" / "check-02.stderr.log").read_bytes() == b"err\n"


def test_a_check_sees_the_allow_list_and_its_name(run: Run, workspace: Path) -> None:
    environ = {**os.environ, "MY_SECRET": "s", "WANTED": "w", "LOGIST_STEP_TOKEN": "t"}
    run("env > seen", environ=environ, pass_env=("WANTED",))
    lines = (workspace / "seen").read_text(encoding="utf-8").splitlines()
    seen = dict(line.partition("=")[::2] for line in lines)
    assert seen["WANTED"] == "w"
    assert {name: value for name, value in seen.items() if name.startswith(("LOGIST_", "GIT_", "MY_"))} == {
        "LOGIST_CHECK": "check 1",
        "LOGIST_WORKSPACE": str(workspace),
        "GIT_CEILING_DIRECTORIES": str(workspace.parent),
    }


def test_a_stop_ends_the_running_check_and_tells_what_had_ended(run: Run, workspace: Path) -> None:
    def cancel() -> str | None:
        return "canceled by request" if (workspace / "began").exists() else None

    with pytest.raises(ChecksStopped, match="canceled by request") as caught:
        run("true", "touch began; sleep 60; touch ended", "touch third", cancel=cancel)
    assert [result.name for result in caught.value.results] == ["check 1"]
    assert not (workspace / "ended").exists()
    assert not (workspace / "third").exists()


def test_nothing_runs_when_the_stop_came_first(run: Run, workspace: Path) -> None:
    with pytest.raises(ChecksStopped) as caught:
        run("touch ran", cancel=lambda: "stop")
    assert caught.value.results == ()
    assert not (workspace / "ran").exists()


def test_output_is_told_as_it_comes(run: Run) -> None:
    told: list[tuple[str, bytes]] = []
    lock = threading.Lock()

    def take(stream: str, data: bytes) -> None:
        with lock:
            told.append((stream, data))

    run("echo out; echo err >&2", on_output=take)
    assert sorted(told) == [("stderr", b"err\n"), ("stdout", b"out\n")]


def test_logs_that_cannot_be_written_stop_the_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with pytest.raises(StorageFailed):
        run("true")
