"""`logist run`: several jobs from the command line; signals, kill -9, what is printed, and what is refused."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest
from test_cli import ROOT, Outcome, Project, ended, is_alive, wait_until
from test_cli_bad_input import check_refusal

from logist.cli import run
from logist.execution.adapters import BUILT_IN, AdapterOptions
from logist.execution.local import LocalWorkerAdapter
from logist.testing import ScriptedAdapter

#: Says that it runs, and ends when it is told to.
WAITS = (
    'pid="$FAKE_DIR/$LOGIST_JOB_ID.pid"; echo $$ > "$pid.new"; mv "$pid.new" "$pid";'
    ' while [ ! -e "$FAKE_DIR/go" ]; do sleep 0.02; done; reply COMPLETED done'
)


#: What the adapter `near` was told.
MARKS: list[str] = []


def open_far(options: AdapterOptions) -> ScriptedAdapter:
    """An adapter that does not say that its commands are processes of this machine."""
    return ScriptedAdapter([])


def open_near(options: AdapterOptions) -> LocalWorkerAdapter:
    """An adapter of this machine, with an option."""
    MARKS.append(options["mark"])
    return LocalWorkerAdapter()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder to work in, with an agent that agrees to everything."""
    made = Project.make(tmp_path)
    made.play(worker="reply COMPLETED done", supervisor="reply COMPLETED fine")
    return made


@pytest.fixture
def invoke(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """The same entry function in this process: for what a process of its own would only make slow."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("PATH", project.env["PATH"])

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        return Outcome(run(arguments), *capsys.readouterr())

    return call


def create(invoke: Callable[..., Outcome], *names: str, options: tuple[str, ...] = ()) -> None:
    for name in names:
        made = invoke("job", "create", "-q", "--id", name, "-o", f"Do {name}", *options)
        assert made.code == 0, made.err


def wait_for_agents(project: Project, *names: str) -> list[int]:
    """The process ids of the waiting workers of these jobs."""
    files = [project.fake / f"{name}.pid" for name in names]
    wait_until(lambda: all(file.exists() for file in files))
    return [int(file.read_text()) for file in files]


def read_until(process: subprocess.Popen[bytes], *patterns: str) -> None:
    """Read what it tells until each pattern was in some line."""
    assert process.stderr is not None
    left = set(patterns)
    for line in iter(process.stderr.readline, b""):
        left = {pattern for pattern in left if not re.search(pattern, line.decode())}
        if not left:
            return
    pytest.fail(f"it never told {left}")


# --- Stopping ------------------------------------------------------------------------------------------------------


def test_one_ctrl_c_stops_each_job_after_its_step_and_the_same_command_goes_on(
    project: Project, invoke: Callable[..., Outcome]
) -> None:
    project.play(worker=WAITS)
    create(invoke, "a", "b", "c")
    runner = project.start("run", "--all", "--concurrency", "2", "--progress", "plain")
    wait_for_agents(project, "a", "b")
    runner.send_signal(signal.SIGINT)
    read_until(runner, "stopping after this step.* job=a", "stopping after this step.* job=b")
    (project.fake / "go").touch()
    outcome = ended(runner)
    assert outcome.code == 130
    assert [(project.manifest(job)["status"], project.manifest(job)["step"]) for job in "abc"] == [
        ("PENDING", 1),
        ("PENDING", 1),
        ("PENDING", 0),
    ]
    assert "c: not begun" in outcome.err
    assert project("run", "--all", "-q").err.count("SUCCESS") == 3


def test_a_second_ctrl_c_ends_the_commands_of_every_job_now(project: Project, invoke: Callable[..., Outcome]) -> None:
    project.play(worker=WAITS)
    create(invoke, "a", "b")
    runner = project.start("run", "--all", "--concurrency", "2", "--progress", "plain")
    agents = wait_for_agents(project, "a", "b")
    runner.send_signal(signal.SIGINT)
    read_until(runner, "stopping after this step.* job=a", "stopping after this step.* job=b")
    runner.send_signal(signal.SIGINT)
    assert ended(runner).code == 130
    assert not any(map(is_alive, agents))
    assert [(project.manifest(job)["status"], project.manifest(job)["step"]) for job in "ab"] == [("PENDING", 0)] * 2


def test_after_a_killed_run_nothing_lives_and_the_same_command_goes_on(
    project: Project, invoke: Callable[..., Outcome]
) -> None:
    project.play(worker=WAITS)
    create(invoke, "a", "b")
    runner = project.start("run", "--all", "--concurrency", "2", "-q")
    agents = wait_for_agents(project, "a", "b")
    runner.kill()
    ended(runner)
    (project.fake / "go").touch()
    assert project.manifest("a")["status"] == "RUNNING"
    outcome = project("run", "--all", "--concurrency", "2", "--progress", "plain")
    assert not any(map(is_alive, agents))
    assert outcome.err.count("the last runner died; recovered") == 2
    for job in "ab":
        assert project.manifest(job)["status"] == "SUCCESS"
        assert project.evidence("rev-list", "--count", f"logist/{job}", job=job) == "3"


def test_a_run_that_reaches_its_timeout_is_exit_code_124(project: Project, invoke: Callable[..., Outcome]) -> None:
    project.play(worker=WAITS)
    create(invoke, "a")
    assert invoke("run", "--all", "-q", "--timeout", "500ms").code == 124
    assert project.manifest("a")["status"] == "PENDING"


@pytest.mark.parametrize(("allowed", "most", "at_once"), [(64, 1000, 6), (100, 100, 2)])
def test_no_job_fails_for_want_of_open_files(
    project: Project, invoke: Callable[..., Outcome], allowed: int, most: int, at_once: int
) -> None:
    project.play(worker=WAITS)
    names = [f"job-{number}" for number in range(6)]
    create(invoke, *names)
    runner = project.start(
        *("run", "--all", "--concurrency", "6", "-q"),
        before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most)),
    )
    wait_for_agents(project, *names[:at_once])
    (project.fake / "go").touch()
    outcome = ended(runner)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("SUCCESS") == 6
    assert ("no more than 2 jobs at a time: only 100 files can be open" in outcome.err) is (at_once < 6)


def test_one_job_can_be_canceled_while_the_others_go_on(project: Project, invoke: Callable[..., Outcome]) -> None:
    project.play(worker=WAITS)
    create(invoke, "a", "b")
    runner = project.start("run", "--all", "--concurrency", "2", "-q")
    wait_for_agents(project, "a", "b")
    project("job", "cancel", "a")
    (project.fake / "go").touch()
    assert ended(runner).code == 4
    assert (project.manifest("a")["status"], project.manifest("b")["status"]) == ("CANCELED", "SUCCESS")


def test_two_runs_share_the_jobs_of_a_folder(project: Project, invoke: Callable[..., Outcome]) -> None:
    project.play(worker=WAITS)
    create(invoke, "a", "b")
    first = project.start("run", "--all", "-q")
    wait_for_agents(project, "a")
    second = project.start("run", "--all", "-q")
    wait_for_agents(project, "b")
    (project.fake / "go").touch()
    codes = {ended(first).code, ended(second).code}
    assert codes <= {0, 75}
    assert [project.manifest(job)["status"] for job in "ab"] == ["SUCCESS", "SUCCESS"]
    assert [project.evidence("rev-list", "--count", f"logist/{job}", job=job) for job in "ab"] == ["3", "3"]


# --- What is printed -----------------------------------------------------------------------------------------------


def test_the_end_is_a_row_for_each_job_with_what_can_be_done_next(invoke: Callable[..., Outcome]) -> None:
    create(invoke, "fine", options=("--priority", "2"))
    create(invoke, "stuck", options=("--steps", "1"))
    create(invoke, "after", options=("--needs", "stu"))
    outcome = invoke("run", "--all")
    assert (outcome.code, outcome.out) == (3, "")
    table = outcome.err.partition("\njob ")[2]
    rows = [re.split(r"  +", row.strip()) for row in table.splitlines()[1:4]]
    assert [row[:3] for row in rows] == [
        ["fine", "SUCCESS", "2"],
        ["stuck", "INTERVENTION REQUIRED", "1"],
        ["after", "PENDING", "0"],
    ]
    assert rows[1][-1] == "logist job resolve stuck --add-steps 1"
    assert "after: waits for stuck (INTERVENTION REQUIRED)" in table
    assert table.endswith("3 jobs: 1 SUCCESS, 1 INTERVENTION REQUIRED, 1 PENDING; exit code 3\n")
    again = invoke("run", "--all")
    assert again.code == 6
    assert "waiting for a human since before: stuck" in again.err


def test_with_nothing_to_run_it_says_so(invoke: Callable[..., Outcome]) -> None:
    outcome = invoke("run", "--all")
    assert (outcome.code, outcome.out) == (0, "")
    assert "no job is ready; exit code 0" in outcome.err


def test_json_is_one_stream_in_which_every_record_names_its_job(invoke: Callable[..., Outcome]) -> None:
    create(invoke, "a", "b")
    outcome = invoke("run", "--all", "--concurrency", "2", "--json", "-v")
    assert outcome.code == 0
    records = [json.loads(line) for line in outcome.out.splitlines()]
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert {record["job"] for record in records[:-1]} == {"a", "b"}
    last = records[-1]
    assert (last["type"], last["job"], last["exit_code"]) == ("jobs.finished", "", 0)
    assert {(job["job_id"], job["status"], job["steps"]) for job in last["jobs"]} == {
        ("a", "SUCCESS", 2),
        ("b", "SUCCESS", 2),
    }
    assert [record["type"] for record in records if record["job"] == "a"][-1] == "job.finished"
    assert outcome.err == ""


def test_quiet_prints_a_line_for_each_job_also_for_those_that_were_not_run(invoke: Callable[..., Outcome]) -> None:
    create(invoke, "stuck", options=("--steps", "1"))
    create(invoke, "after", options=("--needs", "stuck"))
    lines = invoke("run", "--all", "-q").err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["stuck", "after"]
    assert lines[1] == "after: PENDING: waits for stuck (INTERVENTION REQUIRED)"


def test_on_a_terminal_every_line_says_its_job_and_each_running_job_has_a_row(
    project: Project, invoke: Callable[..., Outcome]
) -> None:
    project.play(worker=WAITS)
    create(invoke, "alpha", "beta")
    child = pexpect.spawn(
        sys.executable,
        ["-m", "logist", "run", "--all", "--concurrency", "2"],
        cwd=str(project.folder),
        env={**os.environ, **project.env, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        dimensions=(30, 110),
        timeout=30,
        encoding="utf-8",
    )
    wait_for_agents(project, "alpha", "beta")
    # In the order in which they began.
    alpha, beta = (rf"{job} +.*step 1  worker · fake" for job in ("alpha", "beta"))
    child.expect([rf"{alpha}[^\n]*\n[^\n]*{beta}", rf"{beta}[^\n]*\n[^\n]*{alpha}"])
    (project.fake / "go").touch()
    shown = child.read()
    child.close()
    assert child.exitstatus == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    for job in ("alpha", "beta"):
        assert re.search(rf"\d\d:\d\d:\d\d  {job}  RUNNING → SUCCESS", plain)
    assert "2 jobs: 2 SUCCESS; exit code 0" in plain
    # The cursor is visible again at the end.
    assert shown.rfind("\x1b[?25h") >= shown.rfind("\x1b[?25l")


def test_the_list_shows_priorities_only_where_they_differ(invoke: Callable[..., Outcome]) -> None:
    create(invoke, "a", options=("--priority", "4"))
    assert "priority" not in invoke("job", "list").out
    create(invoke, "b", options=("--needs", "a"))
    assert "priority" in invoke("job", "list").out
    rows = {row["id"]: row for row in json.loads(invoke("job", "list", "--json").out)}
    assert [(rows[job]["priority"], rows[job]["needs"]) for job in "ab"] == [(4, []), (0, ["a"])]
    assert json.loads(invoke("job", "status", "a", "--json").out)["priority"] == 4
    assert re.search(r"^Priority +4$", invoke("job", "status", "a").out, re.MULTILINE)
    assert re.search(r"^Needs +a$", invoke("job", "status", "b").out, re.MULTILINE)


def test_a_job_file_says_priority_and_needs_and_options_go_before_it(
    project: Project, invoke: Callable[..., Outcome]
) -> None:
    create(invoke, "base")
    file = project.folder / "job.toml"
    file.write_text('objective = "Do it"\npriority = 3\nneeds = ["base"]\nphases = ["a"]\n')
    made = json.loads(invoke("job", "create", "--from", "job.toml", "--id", "one", "--json").out)
    assert (made["job"]["priority"], made["job"]["needs"]) == (3, ["base"])
    made = json.loads(
        invoke("job", "create", "--from", "job.toml", "--id", "two", "--priority", "0", "--needs", "one", "--json").out
    )
    assert (made["job"]["priority"], made["job"]["needs"]) == (0, ["one"])


# --- What is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("run",), 2, "no job is named"),
        (("run", "--all", "x"), 2, "exclude each other"),
        (("run", "nope"), 2, "there is no job 'nope'"),
        (("run", "--all", "--concurrency", "0"), 2, "--concurrency"),
        (("run", "--all", "--timeout", "0"), 2, "--timeout 0"),
        (("run", "--all", "--adapter", "nowhere"), 2, "There is no adapter named 'nowhere'"),
        (("run", "--all", "--adapter-option", "x=1"), 2, "has no option 'x'"),
        (("job", "create", "-o", "x", "--needs", "nope"), 2, "there is no job 'nope'"),
        (("job", "create", "-o", "x", "--priority", "5000"), 2, "--priority"),
        (
            ("job", "create", "--from", "circle.toml"),
            78,
            "phases need each other: 'a', which needs 'b', which needs 'a'",
        ),
        (("job", "create", "--from", "unknown.toml"), 78, "phase 'a' needs 'c', and there is no such phase"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_refused_in_two_lines(
    project: Project, invoke: Callable[..., Outcome], arguments: tuple[str, ...], code: int, expected: str
) -> None:
    phases = 'phases = [{ name = "a", needs = ["%s"] }, { name = "b", needs = ["a"] }]'
    for name, needed in (("circle", "b"), ("unknown", "c")):
        (project.folder / f"{name}.toml").write_text(f'objective = "x"\n{phases % needed}\n')
    outcome = invoke(*arguments)
    assert outcome.code == code
    check_refusal(outcome, expected)
    assert not project.jobs.exists() or not any(project.jobs.iterdir())


@pytest.mark.parametrize("command", [("run", "--all"), ("job", "run", "job")], ids=" ".join)
def test_an_adapter_that_takes_commands_elsewhere_runs_no_job(
    invoke: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setitem(BUILT_IN, "far", f"{__name__}:open_far")
    create(invoke, "job")
    outcome = invoke(*command, "--adapter", "far", "-q")
    assert outcome.code == 2
    check_refusal(outcome, "The adapter 'far' can't run the steps of a job")


def test_an_adapter_of_this_machine_runs_jobs(invoke: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILT_IN, "near", f"{__name__}:open_near")
    create(invoke, "one", "two")
    assert invoke("run", "one", "--adapter", "near", "--adapter-option", "mark=x", "-q").code == 0
    assert invoke("job", "run", "two", "--adapter", "near", "--adapter-option", "mark=y", "-q").code == 0
    assert MARKS == ["x", "y"]
