"""The command line through its real entry point: whole jobs, every command, and what it promises to scripts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click
import pexpect
import pytest
from pytest_mock import MockerFixture
from specs import text_spec, write_spec

from logist import __version__
from logist.cli import LazyGroup, cli, run
from logist.interventions import SAME_PLAYERS, Players

ROOT = Path(__file__).resolve().parents[1]

#: A tiny agent on PATH. What it does in a turn is a shell script of the test; `reply ACTION WORDS [FILES]` answers.
FAKE_AGENT = """\
#!/bin/sh
cat > "$FAKE_DIR/prompt-$LOGIST_STEP"
reply() {
    printf '{"token":"%s","action":"%s","summary_for_supervisor":"%s","evidence_files":[%s]}' \\
        "$LOGIST_STEP_TOKEN" "$1" "$2" "$3" > "$LOGIST_REPLY_FILE"
}
script="$FAKE_DIR/$LOGIST_ROLE-$LOGIST_TURN.sh"
[ -f "$script" ] || script="$FAKE_DIR/$LOGIST_ROLE.sh"
. "$script"
"""

CONFIG = """\
[roles.worker]
agent = "fake"
[roles.supervisor]
agent = "fake"
[agents.fake]
command = ["fake-agent"]
[agents.fake.env]
FAKE_DIR = "{fake}"
"""

#: A worker whose second attempt is agreed to.
TWO_ROUNDS = {
    "worker-1": "echo one > work.txt; echo first try; reply COMPLETED 'wrote one' '\"work.txt\"'",
    "supervisor-1": "reply RETRY 'one is not two'",
    "worker-2": "echo two > work.txt; echo second try; reply COMPLETED 'wrote two' '\"work.txt\"'",
    "supervisor-2": "reply COMPLETED 'two it is'",
}

STUCK_THEN_DONE = {
    "worker-1": "echo one > work.txt; reply STUCK 'Which number is wanted?'",
    "worker-2": "echo two > work.txt; reply COMPLETED 'wrote two' '\"work.txt\"'",
    "supervisor": "reply COMPLETED 'two it is'",
}


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        """Its output as one JSON value."""
        return json.loads(self.out)


@dataclass
class Project:
    """A folder to work in, with the fake agent, and the `logist` command as users start it."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path) -> Project:
        """Lay out the folder, the fake agent, and a configuration that names it."""
        bin_dir, fake = folder / "bin", folder / "fake"
        bin_dir.mkdir(parents=True)
        fake.mkdir()
        agent = bin_dir / "fake-agent"
        agent.write_text(FAKE_AGENT, encoding="utf-8")
        agent.chmod(0o755)
        project = cls(folder / "project", {"PATH": f"{bin_dir}:{os.environ['PATH']}"})
        project.folder.mkdir()
        (project.folder / "logist.toml").write_text(CONFIG.format(fake=fake), encoding="utf-8")
        return project

    @property
    def fake(self) -> Path:
        """Where the agent's scripts are, and what it was asked."""
        return self.folder.parent / "fake"

    @property
    def jobs(self) -> Path:
        """The jobs folder."""
        return self.folder / ".logist" / "jobs"

    def play(self, **scripts: str) -> None:
        """What the agent does, by role and turn: worker_1=..., or by role alone."""
        for name, script in scripts.items():
            (self.fake / f"{name.replace('_', '-')}.sh").write_text(script + "\n", encoding="utf-8")

    def start(
        self,
        *arguments: str,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.PIPE,
        before: Callable[[], None] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start the command and leave it running; `before` is called in its process."""
        return subprocess.Popen(
            [sys.executable, "-m", "logist", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.env},
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            preexec_fn=before,
        )

    def __call__(self, *arguments: str, code: int = 0, stdin: bytes = b"") -> Outcome:
        """Run the command to its end, which must come with exit code `code`."""
        process = self.start(*arguments, stdin=subprocess.PIPE)
        outcome = ended(process, stdin)
        assert outcome.code == code, f"{arguments}: exit code {outcome.code}\n{outcome.out}\n{outcome.err}"
        return outcome

    def create(self, *arguments: str, job: str = "job") -> str:
        """Make a job and return its id."""
        return self("job", "create", "-q", "--id", job, "-o", "Write two", *arguments).out.strip()

    def manifest(self, job: str = "job") -> dict[str, object]:
        """The manifest as it stands on disk."""
        document: dict[str, object] = json.loads((self.jobs / job / "job_manifest.json").read_bytes())
        return document

    def evidence(self, *arguments: str, job: str = "job") -> str:
        """What git itself says about the evidence repository."""
        command = ["git", "--git-dir", str(self.jobs / job / "repo.git"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def ended(process: subprocess.Popen[bytes], stdin: bytes | None = None) -> Outcome:
    """Wait for a command's end."""
    out, err = process.communicate(stdin, timeout=60)
    return Outcome(process.returncode, (out or b"").decode(), err.decode())


def wait_until(condition: Callable[[], object]) -> None:
    """Poll until `condition` holds; fail when it does not within a generous time."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process lives (a zombie does not)."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder to work in."""
    return Project.make(tmp_path)


@pytest.fixture
def invoke(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """The same entry function in this process: for what a process of its own would only make slow."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("PATH", project.env["PATH"])

    def call(*arguments: str, code: int | None = 0) -> Outcome:
        capsys.readouterr()
        got = run(arguments)
        outcome = Outcome(got, *capsys.readouterr())
        assert code in (None, got), f"{arguments}: exit code {got}\n{outcome.out}\n{outcome.err}"
        return outcome

    return call


# --- Whole jobs ----------------------------------------------------------------------------------------------------


def test_a_job_runs_from_pending_to_success_through_every_transition(project: Project) -> None:
    project.play(**TWO_ROUNDS)
    job = project.create("--check", "two=grep -q t work.txt || grep -q one work.txt")

    events = [json.loads(line) for line in project("job", "run", "--json").out.splitlines()]

    states = [(event["before"], event["trigger"], event["after"]) for event in events if event["type"] == "job.state"]
    assert states == [
        ("PENDING", "start", "RUNNING"),
        ("RUNNING", "proceed", "RUNNING"),
        ("RUNNING", "proceed", "RUNNING"),
        ("RUNNING", "proceed", "RUNNING"),
        ("RUNNING", "accept", "SUCCESS"),
    ]
    steps = [(event["role"], event["action"]) for event in events if event["type"] == "step.finished"]
    assert steps == [
        ("worker", "COMPLETED"),
        ("supervisor", "RETRY"),
        ("worker", "COMPLETED"),
        ("supervisor", "COMPLETED"),
    ]
    assert (events[-1]["type"], events[-1]["status"], events[-1]["exit_code"]) == ("job.finished", "SUCCESS", 0)
    assert project.manifest()["status"] == "SUCCESS"
    assert (project.jobs / job / "workspace" / "work.txt").read_text(encoding="utf-8") == "two\n"
    # The objection reached the worker's second prompt word for word.
    assert "one is not two" in (project.fake / "prompt-3").read_text(encoding="utf-8")


def test_the_manifest_and_the_evidence_stand_after_each_step(project: Project) -> None:
    project.play(**TWO_ROUNDS)
    job = project.create()
    expected = [("supervisor", "one"), ("worker", "one"), ("supervisor", "two"), ("supervisor", "two")]
    for step, (next_role, content) in enumerate(expected, start=1):
        project("job", "step", "-q")
        manifest = project.manifest()
        assert manifest["step"] == step
        assert manifest["status"] == ("SUCCESS" if step == 4 else "PENDING")
        assert manifest["next_role"] == next_role or step == 4
        head = project.evidence("rev-parse", f"refs/heads/logist/{job}")
        assert manifest["head"] == head
        assert project.evidence("show", f"{head}:work.txt") == content
        # The baseline, and exactly one commit a step.
        assert project.evidence("rev-list", "--count", head) == str(step + 1)
        trailers = project.evidence("log", "-1", "--format=%(trailers:only,unfold)", head)
        assert {f"Logist-Job: {job}", f"Logist-Step: {step}"} <= set(trailers.splitlines())
    assert project.evidence("fsck", "--strict") == ""


def test_a_job_stops_for_a_human_and_goes_on_after_the_answer(project: Project) -> None:
    project.play(**STUCK_THEN_DONE)
    job = project.create()

    stopped = project("job", "run", code=3)
    assert "INTERVENTION REQUIRED" in stopped.err
    assert "worker_stuck" in stopped.err
    assert "Which number is wanted?" in stopped.err
    assert f"logist job resolve {job} --retry" in stopped.err
    assert stopped.out == ""
    assert [row["id"] for row in project("job", "list", "--needs-human", "--json").json] == [job]
    # It does not go on by itself.
    assert "resolve" in project("job", "run", code=6).err

    answered = project("job", "resolve", "--retry", "-m", "Two is wanted.")
    assert f"logist job run {job}" in answered.err
    assert project.manifest()["status"] == "PENDING"
    project("job", "run", "-q")
    assert project.manifest()["status"] == "SUCCESS"
    assert "Two is wanted." in (project.fake / "prompt-2").read_text(encoding="utf-8")


def test_a_job_is_canceled_by_another_process_while_its_step_runs(project: Project) -> None:
    project.play(worker='echo $$ > "$FAKE_DIR/pid"; echo half > half.txt; sleep 300')
    job = project.create()
    runner = project.start("job", "run", "--progress", "plain")
    wait_until((project.fake / "pid").exists)
    wait_until(lambda: (project.jobs / job / "workspace" / "half.txt").exists())
    agent = int((project.fake / "pid").read_text(encoding="ascii"))

    canceled = project("job", "cancel", "-m", "changed my mind")

    assert "is canceled" in canceled.err
    ran = ended(runner)
    assert ran.code == 4
    assert "CANCELED" in ran.err
    assert not is_alive(agent)
    assert project.manifest()["status"] == "CANCELED"
    assert "changed my mind" in project("job", "status", job).out
    # What was half done is kept, and out of the way.
    salvage = project.evidence("for-each-ref", "--format=%(refname)", "refs/logist/salvage")
    assert project.evidence("show", f"{salvage}:half.txt") == "half"
    assert not (project.jobs / job / "workspace" / "half.txt").exists()
    assert "possible now" in project("job", "run", code=6).err


def test_a_pause_lets_the_step_finish_and_the_job_goes_on_later(project: Project) -> None:
    project.play(
        worker='touch "$FAKE_DIR/began"; while [ ! -e "$FAKE_DIR/go" ]; do sleep 0.02; done; reply COMPLETED done',
        supervisor="reply COMPLETED fine",
    )
    project.create()
    runner = project.start("job", "run", "-q")
    wait_until((project.fake / "began").exists)
    project("job", "pause", "-m", "lunch")
    (project.fake / "go").touch()

    assert ended(runner).code == 143
    assert (project.manifest()["status"], project.manifest()["step"]) == ("PENDING", 1)
    assert "lunch" in str(project.manifest()["reason"])
    assert "not running" in project("job", "pause", code=6).err
    project("job", "run", "-q")
    assert project.manifest()["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("number", "code", "again", "cause"),
    [
        (signal.SIGINT, 130, b"Press Ctrl-C again to stop it now", "stopped by the operator"),
        (signal.SIGTERM, 143, b"The same signal again stops it now", "stopped by a signal"),
        (signal.SIGHUP, 143, b"The same signal again stops it now", "stopped by a signal"),
    ],
)
def test_one_signal_stops_the_run_after_its_step(
    project: Project, number: signal.Signals, code: int, again: bytes, cause: str
) -> None:
    project.play(
        worker='touch "$FAKE_DIR/began"; while [ ! -e "$FAKE_DIR/go" ]; do sleep 0.02; done; reply COMPLETED done'
    )
    project.create()
    runner = project.start("job", "run", "--progress", "plain")
    wait_until((project.fake / "began").exists)
    runner.send_signal(number)
    assert runner.stderr is not None
    # It is told at once, while the step still runs.
    for line in iter(runner.stderr.readline, b""):
        if b"stopping after this step" in line:
            break
    assert again in line
    (project.fake / "go").touch()
    assert ended(runner).code == code
    manifest = project.manifest()
    assert (manifest["status"], manifest["step"]) == ("PENDING", 1)
    assert manifest["reason"]["sentence"] == cause


def test_a_second_signal_ends_the_command_now_and_the_job_can_be_run_on(project: Project) -> None:
    project.play(
        worker_1='echo $$ > "$FAKE_DIR/pid"; [ -e "$FAKE_DIR/again" ] || sleep 300; reply COMPLETED done',
        supervisor="reply COMPLETED fine",
    )
    project.create()
    runner = project.start("job", "run", "--progress", "plain")
    wait_until(lambda: (project.fake / "pid").exists() and (project.fake / "pid").stat().st_size)
    agent = int((project.fake / "pid").read_text(encoding="ascii"))
    runner.send_signal(signal.SIGINT)
    assert runner.stderr is not None
    for line in iter(runner.stderr.readline, b""):
        if b"stopping after this step" in line:
            break
    runner.send_signal(signal.SIGINT)
    assert ended(runner).code == 130
    assert not is_alive(agent)
    assert (project.manifest()["status"], project.manifest()["step"]) == ("PENDING", 0)
    (project.fake / "again").touch()
    project("job", "run", "-q")
    assert project.manifest()["status"] == "SUCCESS"


def test_a_run_that_reaches_its_timeout_can_be_run_on(project: Project) -> None:
    project.play(worker='[ -e "$FAKE_DIR/again" ] || sleep 300; reply COMPLETED done', supervisor="reply COMPLETED ok")
    project.create()
    told = project("job", "run", "--progress", "plain", "--timeout", "500ms", code=124).err
    assert "the time of --timeout is over: stopping now; " in told
    assert "Ctrl-C: exit at once" in told
    assert (project.manifest()["status"], project.manifest()["reason"]["sentence"]) == (
        "PENDING",
        "stopped by --timeout",
    )
    (project.fake / "again").touch()
    project("job", "run", "-q", "--timeout", "5m")
    assert project.manifest()["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("worker", "options", "reason"),
    [
        ("exit 3", (), "agent_failed"),
        ("echo no reply", (), "reply_unreadable"),
        ("echo '{' > \"$LOGIST_REPLY_FILE\"", (), "reply_unreadable"),
        ("reply COMPLETED 'see there' '\"nowhere.txt\"'", (), "evidence_invalid"),
        ("ln -s /etc/hostname link; reply COMPLETED 'see there' '\"link\"'", (), "evidence_invalid"),
        ("reply COMPLETED 'see there' '\"../../../secret\"'", (), "evidence_invalid"),
        ("date +%N > work.txt; reply COMPLETED done", ("--check", "false", "--retries", "1"), "checks_failed"),
        ("date +%N > work.txt; reply RETRY 'not yet'", ("--retries", "1"), "retries_exhausted"),
        ("reply RETRY 'not yet'", ("--retries", "9"), "no_progress"),
        ("date +%N > work.txt; reply RETRY 'not yet'", ("--steps", "2", "--retries", "9"), "budget_steps"),
    ],
)
def test_what_goes_wrong_in_a_step_ends_in_front_of_a_human(
    project: Project, invoke: Callable[..., Outcome], worker: str, options: tuple[str, ...], reason: str
) -> None:
    project.play(worker=worker)
    invoke("job", "create", "--id", "job", "-o", "Fail", *options)
    ran = invoke("job", "run", "-q", code=3)
    manifest = project.manifest()
    assert (manifest["status"], manifest["reason"]["code"]) == ("INTERVENTION_REQUIRED", reason)
    assert "Traceback" not in ran.err
    assert project.evidence("rev-list", "--count", "logist/job") == str(int(str(manifest["step"])) + 1)


# --- A human's decisions -------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(project: Project, invoke: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """A job that waits for a human after its first step."""
    project.play(**STUCK_THEN_DONE)
    invoke("job", "create", "--id", "job", "-o", "Write two", "--check", "two=grep -q two work.txt")
    invoke("job", "run", "-q", code=3)
    return invoke


def test_work_is_approved_although_its_checks_did_not_run(project: Project, waiting: Callable[..., Outcome]) -> None:
    assert "--override-checks" in waiting("job", "resolve", "-a", code=6).err
    shown = waiting("job", "resolve", "-a", "--override-checks", "-m", "good enough", "--json")
    assert shown.json["status"] == "SUCCESS"
    assert project.manifest()["status"] == "SUCCESS"


def test_hand_edits_are_a_step_of_their_own(project: Project, waiting: Callable[..., Outcome]) -> None:
    assert "nothing was edited" in waiting("job", "resolve", "-c", code=6).err
    (project.jobs / "job" / "workspace" / "work.txt").write_text("two by hand\n", encoding="utf-8")
    waiting("job", "resolve", "--continue", "-m", "did it myself")
    waiting("job", "run", "-q")
    assert project.manifest()["status"] == "SUCCESS"
    assert project.evidence("show", "logist/job:work.txt") == "two by hand"
    roles = [step["role"] for step in waiting("job", "log", "--json").json]
    assert roles == ["worker", "human", "supervisor"]


def test_a_job_goes_back_to_an_earlier_step(project: Project, waiting: Callable[..., Outcome]) -> None:
    assert "is not on record" in waiting("job", "resolve", "--rewind", "7", code=2).err
    waiting("job", "resolve", "-w", "0", "-m", "from the start")
    assert project.manifest()["head"] == project.manifest()["baseline"]
    assert not (project.jobs / "job" / "workspace" / "work.txt").exists()
    assert project.evidence("for-each-ref", "--format=%(refname)", "refs/logist/dropped") != ""


def test_an_intervention_ends_in_a_cancel(project: Project, waiting: Callable[..., Outcome]) -> None:
    waiting("job", "resolve", "--cancel", "-m", "not worth it")
    assert project.manifest()["status"] == "CANCELED"
    shown = waiting("job", "cancel", code=6)
    assert "CANCELED" in shown.err


def test_who_plays_a_role_is_changed_with_an_answer(project: Project, waiting: Callable[..., Outcome]) -> None:
    before = project.manifest()
    for options, told in (
        (["--worker", "fake"], "add --retry"),
        (["--approve", "--worker", "fake"], "--approve ends the job"),
        (["--cancel", "--supervisor", "fake"], "--cancel ends the job"),
        (["--retry", "--worker", "command:"], "nothing follows command:"),
    ):
        assert told in waiting("job", "resolve", *options, code=2).err
    refused = waiting("job", "resolve", "--retry", "--worker", "nobody", code=78).err
    assert ("there is no agent nobody" in refused, refused.count("\n")) == (True, 2)
    assert project.manifest() == before
    waiting("job", "resolve", "--retry", "--worker", "command:echo two > work.txt", "--supervisor", "command:true")
    roles = waiting("job", "status", "--json").json["roles"]
    assert (roles["worker"]["argument"], roles["supervisor"]["argument"]) == ("echo two > work.txt", "true")
    shown = waiting("job", "status").out
    assert "Roles      worker command:echo two > work.txt   supervisor command:true\n" in shown
    assert "supervisor: agent fake → command, argument none → true" in waiting("job", "history").out
    waiting("job", "run", "-q")
    assert project.manifest()["status"] == "SUCCESS"


def test_an_answer_that_leaves_one_agent_to_judge_its_own_work_says_so(waiting: Callable[..., Outcome]) -> None:
    told = "fake judges its own work"
    assert told not in waiting("job", "resolve", "--retry", "--supervisor", "command:true").err
    waiting("job", "rerun")
    waiting("job", "run", "-q", code=3)
    shown = waiting("job", "resolve", "--retry", "--supervisor", "fake", "--json")
    assert (told in shown.err, shown.json["status"]) == (True, "PENDING")


def test_a_raised_budget_alone_sends_the_job_on(project: Project, invoke: Callable[..., Outcome]) -> None:
    project.play(worker="reply COMPLETED done", supervisor="reply COMPLETED fine")
    invoke("job", "create", "--id", "job", "-o", "Write", "--steps", "1")
    assert "--add-steps" in invoke("job", "run", code=3).err
    assert "--add-steps" in invoke("job", "resolve", "--retry", code=6).err
    invoke("job", "resolve", "--add-steps", "1")
    invoke("job", "run", "-q")
    assert project.manifest()["status"] == "SUCCESS"


def test_a_finished_job_is_run_again_from_its_baseline_or_from_a_step(project: Project) -> None:
    project.play(worker="date +%N > work.txt; reply COMPLETED done", supervisor="reply COMPLETED fine")
    project.create()
    project("job", "run", "-q")
    project("job", "restep", "--step", "2", "-m", "look closer")
    assert (project.manifest()["status"], project.manifest()["next_role"]) == ("PENDING", "supervisor")
    project("job", "run", "-q")
    assert project.manifest()["step"] == 3
    project("job", "rerun")
    assert project.manifest()["head"] == project.manifest()["baseline"]
    project("job", "run", "-q")
    assert (project.manifest()["step"], project.manifest()["line"]) == (5, 2)


@pytest.mark.parametrize(
    ("options", "function", "expected"),
    [
        (["-r", "-m", "Two."], "resolve_retry", ("job", "Two.", {}, SAME_PLAYERS)),
        (["--retry", "--worker", "claude:opus"], "resolve_retry", ("job", "", {}, Players(worker="claude:opus"))),
        (["-a", "-m", "fine"], "resolve_approve", ("job", "fine")),
        (["-c", "--add-retries", "2"], "resolve_continue", ("job", "", {"retries": 2}, SAME_PLAYERS)),
        (["-w", "3", "--add-time", "1h30m"], "resolve_rewind", ("job", 3, "", {"time": 5400.0}, SAME_PLAYERS)),
        (["-x"], "resolve_cancel", ("job", "")),
        (["--add-steps", "4", "--add-cost", "0.5"], "add_budget", ("job", {"steps": 4, "cost": 0.5}, "", SAME_PLAYERS)),
        (["--add-steps", "4", "--supervisor", "me"], "add_budget", ("job", {"steps": 4}, "", Players(None, "me"))),
    ],
)
def test_each_decision_is_one_call_of_the_library(
    waiting: Callable[..., Outcome],
    mocker: MockerFixture,
    options: list[str],
    function: str,
    expected: tuple[object, ...],
) -> None:
    from logist import interventions
    from logist.job_state import JobStore

    called = mocker.patch.object(interventions, function, autospec=True)
    called.side_effect = lambda runtime, job_id, *_, **__: JobStore.load(runtime.store, job_id)
    waiting("job", "resolve", *options)
    called.assert_called_once()
    wanted = tuple(interventions.BudgetIncrease(**value) if isinstance(value, dict) else value for value in expected)
    assert called.call_args.args[1:] == wanted


def test_a_reply_from_a_file_is_taken_for_the_agents(project: Project) -> None:
    project.play(supervisor="reply COMPLETED fine")
    project.create("--worker", "command:touch agent-ran")
    reply = project.folder / "reply.json"
    reply.write_text(
        '{"action": "COMPLETED", "evidence_files": [], "summary_for_supervisor": "by hand"}', encoding="utf-8"
    )
    project("job", "poststep", "--reply", str(reply))
    assert (project.manifest()["step"], project.manifest()["next_role"]) == (1, "supervisor")
    assert not (project.jobs / "job" / "workspace" / "agent-ran").exists()
    from_stdin = b'{"action": "COMPLETED", "summary_for_supervisor": "I agree"}'
    project("job", "poststep", "-r", "-", "-q", stdin=from_stdin)
    assert project.manifest()["status"] == "SUCCESS"


# --- Making and finding jobs ---------------------------------------------------------------------------------------


def test_a_job_from_a_repository_says_what_was_taken_and_leaves_it_alone(project: Project, source_repo: Path) -> None:
    (source_repo / "README.md").write_text("changed\n", encoding="utf-8")
    before = sorted(str(path) for path in source_repo.rglob("*"))
    made = project("job", "create", str(source_repo), "-o", "Fix the README")
    assert made.out == "fix-the-readme\n"
    assert "uncommitted" in made.err
    assert "of branch main" in made.err
    workspace = project.jobs / "fix-the-readme" / "workspace"
    assert (workspace / "README.md").read_text(encoding="utf-8").startswith("# Calc")
    assert sorted(str(path) for path in source_repo.rglob("*")) == before
    first = project("job", "create", str(source_repo), "-o", "Old", "--revision", "HEAD~1", "--json").json
    assert first["source"]["kind"] == "git"
    assert not (project.jobs / "old" / "workspace" / "src").exists()


def test_a_job_from_a_folder_or_from_nothing(project: Project, invoke: Callable[..., Outcome], tmp_path: Path) -> None:
    folder = tmp_path / "folder with spaces"
    folder.mkdir()
    (folder / "a.txt").write_text("a", encoding="utf-8")
    assert "a copy of" in invoke("job", "create", str(folder), "-o", "Copy").err
    assert (project.jobs / "copy" / "workspace" / "a.txt").read_text(encoding="utf-8") == "a"
    assert "starts empty" in invoke("job", "create", "-o", "Empty").err


def test_a_job_whose_one_agent_judges_its_own_work_is_made_with_a_word_about_it(
    project: Project, invoke: Callable[..., Outcome]
) -> None:
    made = invoke("job", "create", "-o", "Write")
    [told] = [line for line in made.err.splitlines() if "fake judges its own work" in line]
    assert told.endswith("--supervisor")
    as_json = invoke("job", "create", "-o", "Write", "--json")
    assert (as_json.err, as_json.json["status"]) == (f"{told}\n", "PENDING")
    write_spec(project.folder, text_spec(1))
    for options in (["-q"], ["-q", "--json"], ["--supervisor", "command:true"], ["--spec", "job.json"]):
        assert "judges its own work" not in invoke("job", "create", "-o", "Write", *options).err


def test_the_options_of_create_are_the_job(project: Project, invoke: Callable[..., Outcome]) -> None:
    (project.folder / "task.md").write_text("The whole story.\n", encoding="utf-8")
    options = ["-F", "task.md", "--phase", "plan: Think first", "--phase", "build", "--check", "tests=pytest -q"]
    options += ["--check", "CI=1 make all", "--optional-check", "ruff check .", "--worker", "command:make all"]
    options += ["--steps", "0", "--time", "1h30m", "--retries", "2", "--cost", "1.5", "--no-select"]
    made = invoke("job", "create", "-o", "Build it", "--json", *options).json["job"]
    assert made["prompt"] == "The whole story.\n"
    assert [(phase["name"], phase["instructions"]) for phase in made["phases"]] == [
        ("plan", "Think first"),
        ("build", ""),
    ]
    assert [(check["name"], check["command"], check["required"]) for check in made["checks"]] == [
        ("tests", "pytest -q", True),
        ("CI=1 make all", "CI=1 make all", True),
        ("ruff check .", "ruff check .", False),
    ]
    assert (made["roles"]["worker"]["agent"], made["roles"]["worker"]["argument"]) == ("command", "make all")
    assert made["roles"]["supervisor"]["agent"] == "fake"
    budget = made["budget"]
    assert (budget["steps"], budget["time"], budget["retries"], budget["cost"]) == (None, 5400.0, 2, 1.5)
    assert invoke("job", "select", "--json").json == {"selected": None}


def test_a_change_can_be_required_of_every_phase(project: Project, invoke: Callable[..., Outcome]) -> None:
    (project.folder / "job.toml").write_text('objective = "x"\nphases = ["one", "two"]\n', encoding="utf-8")
    named = ["-o", "x", "--phase", "plan: Think", "--phase", "build"]
    for options, phases in ((["-o", "x"], 1), (named, 2), (["--from", "job.toml"], 2)):
        made = invoke("job", "create", "--json", "--requires-change", *options).json["job"]
        assert [phase["requires_change"] for phase in made["phases"]] == [True] * phases
        made = invoke("job", "create", "--json", *options).json["job"]
        assert [phase["requires_change"] for phase in made["phases"]] == [False] * phases


def test_a_whole_job_comes_from_a_file_and_options_go_before_it(
    project: Project, invoke: Callable[..., Outcome]
) -> None:
    job_file = project.folder / "job.toml"
    job_file.write_text(
        'objective = "From the file"\nid = "filed"\nchecks = ["true"]\n[budget]\nsteps = 7\nretries = 1\n'
        '[roles.worker]\nagent = "command"\nargument = "make"\ntimeout = "5m"\n',
        encoding="utf-8",
    )
    made = invoke("job", "create", "--from", str(job_file), "--steps", "9", "--json").json
    assert made["id"] == "filed"
    assert (made["budget"]["steps"], made["budget"]["retries"]) == (9, 1)
    assert made["job"]["checks"][0]["command"] == "true"
    assert made["job"]["roles"]["worker"] | {} == {
        "agent": "command",
        "argument": "make",
        "model": None,
        "timeout": 300.0,
        "idle_timeout": None,
        "env": [],
        "args": [],
        "session": "resume",
        "max_wait": 900.0,
    }
    job_file.with_suffix(".json").write_text('{"objective": "As JSON"}', encoding="utf-8")
    assert invoke("job", "create", "--from", "job.json", "-q").out == "as-json\n"
    assert invoke("job", "create", "--from", "job.json", "-o", "Mine", "--id", "mine", "-q").out == "mine\n"


def test_the_argument_goes_before_the_variable_and_the_variable_before_the_selection(
    invoke: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("alpha", "beta", "gamma"):
        invoke("job", "create", "-o", name, "-q")
    invoke("job", "select", "gam")
    assert invoke("job", "select").out == "gamma\n"
    assert invoke("job", "status", "--json").json["id"] == "gamma"
    monkeypatch.setenv("LOGIST_JOB_ID", "beta")
    assert invoke("job", "status", "--json").json["id"] == "beta"
    assert invoke("job", "status", "alp", "--json").json["id"] == "alpha"
    monkeypatch.delenv("LOGIST_JOB_ID")
    invoke("job", "select", "--none")
    assert "none is selected" in invoke("job", "status", code=2).err


def test_the_only_job_is_not_taken_for_the_one_that_is_meant(invoke: Callable[..., Outcome]) -> None:
    invoke("job", "create", "-o", "only", "--no-select")
    assert "none is selected" in invoke("job", "run", code=2).err


def test_the_jobs_folder_is_the_options_then_the_variables_then_the_configurations(
    project: Project, invoke: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = project.folder / "logist.toml"
    config.write_text('jobs_dir = "from-config"\n' + config.read_text(encoding="utf-8"), encoding="utf-8")
    invoke("job", "create", "-o", "configured")
    assert (project.folder / "from-config" / "configured").is_dir()
    monkeypatch.setenv("LOGIST_JOBS_DIR", "from-variable")
    invoke("job", "create", "-o", "variable")
    assert (project.folder / "from-variable" / "variable").is_dir()
    invoke("--jobs-dir", "from-option", "job", "create", "-o", "option")
    assert (project.folder / "from-option" / "option").is_dir()
    assert not project.jobs.exists()


def test_jobs_are_listed_by_state(project: Project, waiting: Callable[..., Outcome]) -> None:
    waiting("job", "create", "-o", "fresh", "--no-select")
    listed = waiting("job", "list").out
    assert "INTERVENTION REQUIRED" in listed
    assert "fresh" in listed
    ids = [row["id"] for row in waiting("job", "list", "--status", "pending", "--json").json]
    assert ids == ["fresh"]
    assert [row["id"] for row in waiting("job", "list", "--needs-human", "--json").json] == ["job"]
    assert waiting("job", "list", "--status", "SUCCESS", "--json").json == []


def test_init_prepares_a_folder_and_overwrites_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path)
    first = project("init")
    assert "wrote" in first.err
    config = tmp_path / "logist.toml"
    assert all(line.startswith("#") or not line for line in config.read_text(encoding="utf-8").splitlines())
    assert (tmp_path / ".logist" / ".gitignore").read_text(encoding="utf-8") == "*\n"
    config.write_text("# mine\n", encoding="utf-8")
    assert project("init", "--json").json["config_written"] is False
    assert config.read_text(encoding="utf-8") == "# mine\n"


def test_every_line_of_the_configuration_that_init_writes_is_valid(
    project: Project, invoke: Callable[..., Outcome]
) -> None:
    from logist.commands.project import CONFIG_TEMPLATE

    lines = CONFIG_TEMPLATE.splitlines()
    settings = [line.removeprefix("# ") for line in lines if " = " in line or line.startswith("# [")]
    (project.folder / "logist.toml").write_text("\n".join(settings), encoding="utf-8")
    assert invoke("role", "list", "--json").json["worker"]["argument"] == "make all"


# --- Looking -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A job that is done, made once: for commands that only look."""
    project = Project.make(tmp_path_factory.mktemp("finished"))
    project.env["HOME"] = str(project.folder.parent)
    project.play(**TWO_ROUNDS)
    project.play(
        **{
            "worker-1": "printf '\\033]0;owned\\007\\033[2Jone\\n'; mkfifo pipe; printf 'a\\033[31mb\\n' > work.txt; "
            "reply COMPLETED 'wrote one' '\"work.txt\"'"
        }
    )
    project.create("--check", "there=test -e work.txt")
    project("job", "run", "-q")
    return project


LOOKS = [
    (("job", "list"), "SUCCESS"),
    (("job", "status"), "agreed"),
    (("job", "status", "--diff"), "work.txt"),
    (("job", "log"), "one is not two"),
    (("job", "log", "--role", "worker", "-n", "1"), "wrote two"),
    (("job", "log", "--step", "3"), "second try"),
    (("job", "log", "--step", "3", "--stream", "prompt"), "one is not two"),
    (("job", "log", "--step", "3", "--stream", "reply"), "wrote two"),
    (("job", "log", "--step", "3", "--stream", "command"), "fake-agent"),
    (("job", "diff"), "+two"),
    (("job", "diff", "--stat"), "work.txt"),
    (("job", "diff", "--step", "3"), "-ab"),
    (("job", "diff", "--since", "2"), "+two"),
    (("job", "history"), "runner"),
    (("job", "history", "--step", "3"), "wrote two"),
    (("job", "history", "-n", "2"), "committed"),
    (("job", "evidence"), "step 4 supervisor"),
    (("job", "evidence", "--step", "1"), "pipe"),
    (("job", "select"), "job"),
    (("role", "list"), "fake"),
    (("role", "list", "--job", "job"), "fake"),
    (("role", "show", "worker"), "fake"),
    (("schema",), "job-manifest"),
    (("doctor",), "job job"),
    (("help", "exit-codes"), "INTERVENTION_REQUIRED"),
    (("help", "start"), "logist init"),
    (("help", "job", "cancel"), "--no-wait"),
    (("--version",), __version__),
]


@pytest.mark.parametrize(("arguments", "expected"), LOOKS, ids=[" ".join(arguments) for arguments, _ in LOOKS])
def test_a_command_that_looks_prints_its_data_on_stdout(
    finished: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.chdir(finished.folder)
    monkeypatch.setenv("PATH", finished.env["PATH"])
    assert run(arguments) == 0
    out, err = capsys.readouterr()
    assert expected in out
    assert err == ""
    # Whatever agents print, no control sequence reaches the terminal.
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("arguments", "look"),
    [
        (("job", "list"), lambda data: data[0]["status"] == "SUCCESS"),
        (("job", "status"), lambda data: data["exit_code"] == 0 and data["reason"]["code"] == "agreed"),
        (("job", "log"), lambda data: [step["step"] for step in data] == [1, 2, 3, 4]),
        (("job", "log", "--step", "3"), lambda data: data["text"] == "second try\n" and data["attempt"] == 1),
        (("job", "diff"), lambda data: [file["path"] for file in data["files"]] == ["work.txt"]),
        (("job", "evidence"), lambda data: data[0]["trailers"]["Logist-Step"] == "4"),
        (("job", "evidence", "--step", "1"), lambda data: data["skipped"][0]["path"] == "pipe"),
        (("job", "select"), lambda data: data == {"selected": "job"}),
        (("role", "list"), lambda data: data["supervisor"]["agent"] == "fake"),
        (("role", "show", "worker"), lambda data: data["agent"] == "fake"),
        (("doctor",), lambda data: all(finding["ok"] for finding in data)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_with_data_prints_it_as_json(
    finished: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    look: Callable[[object], bool],
) -> None:
    monkeypatch.chdir(finished.folder)
    monkeypatch.setenv("PATH", finished.env["PATH"])
    assert run([*arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert look(data), data


def test_the_history_as_json_is_a_record_a_line(finished: Project) -> None:
    records = [json.loads(line) for line in finished("job", "history", "--json").out.splitlines()]
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    triggers = [record["record"]["trigger"] for record in records if record["record"]["type"] == "committed"]
    assert triggers == ["proceed", "proceed", "proceed", "accept"]


def test_raw_output_is_every_byte(finished: Project) -> None:
    assert finished("job", "log", "--step", "1", "--raw").out == "\x1b]0;owned\x07\x1b[2Jone\n"
    assert finished("job", "log", "--step", "1").out == "one\n"
    assert "+a\x1b[31mb" in finished("job", "diff", "--step", "1", "--raw").out


@pytest.mark.parametrize("name", ["config", "history", "job-file", "job-manifest", "job-spec", "reply", "report"])
def test_a_schema_is_json_schema(name: str, invoke: Callable[..., Outcome]) -> None:
    schema = invoke("schema", name).json
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "properties" in schema or "$defs" in schema


def test_the_schema_of_a_job_spec_has_the_names_that_stand_on_disk(invoke: Callable[..., Outcome]) -> None:
    schema = invoke("schema", "job-spec").json
    assert schema["required"] == ["metadata", "chunks"]
    assert {"mergeCommand", "output"} < set(schema["properties"])
    chunk = schema["$defs"]["RenderJobChunk"]
    assert set(chunk["properties"]) == {"id", "startFrame", "frameCount", "outputFile", "command", "inputs"}
    assert chunk["additionalProperties"] is True
    assert chunk["properties"]["frameCount"]["minimum"] == 1


def test_the_work_is_delivered_as_a_branch_a_patch_or_a_bundle(project: Project, source_repo: Path) -> None:
    project.play(worker="echo two > work.txt; reply COMPLETED done", supervisor="reply COMPLETED fine")
    project.create(str(source_repo))
    assert "not SUCCESS" in project("job", "deliver", code=6).err
    project("job", "run", "-q")

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=source_repo, check=True, capture_output=True, text=True).stdout

    assert project("job", "deliver").out == "logist/job\n"
    assert git("show", "logist/job:work.txt") == "two\n"
    assert project("job", "deliver", "--branch", "work/two", "--json").json["branch"] == "work/two"
    assert git("branch", "--format=%(refname:short)").split() == ["logist/job", "main", "work/two"]
    patch = project("job", "deliver", "--patch", "two.patch").out.strip()
    git("am", "--quiet", patch)
    assert (source_repo / "work.txt").read_text(encoding="utf-8") == "two\n"
    bundle = project("job", "deliver", "--bundle", "two.bundle").out.strip()
    git("bundle", "verify", bundle)


def test_preview_and_a_dry_step_show_the_next_prompt_and_change_nothing(
    project: Project, invoke: Callable[..., Outcome]
) -> None:
    invoke("job", "create", "--id", "job", "-o", "Write two", "-p", "All about two.")
    before = {path: path.stat().st_mtime_ns for path in project.jobs.rglob("*")}
    shown = invoke("job", "preview").out
    assert "All about two." in shown
    assert "fake-agent" in shown
    assert invoke("job", "step", "--dry-run").out == shown
    data = invoke("job", "preview", "--json").json
    assert (data["role"], data["step"], data["argv"], data["stdin"]) == ("worker", 1, ["fake-agent"], True)
    assert {path: path.stat().st_mtime_ns for path in project.jobs.rglob("*")} == before
    # It is the prompt that the agent then gets.
    project.play(worker="reply STUCK no")
    invoke("job", "run", "-q", code=3)
    assert (project.fake / "prompt-1").read_text(encoding="utf-8") == data["prompt"]


def test_a_preview_says_in_words_that_edits_come_first(project: Project) -> None:
    project.play(worker="echo one > work.txt; reply COMPLETED done")
    project.create()
    project("job", "step")
    assert "step 2 (supervisor; edits by hand come first)" in project("job", "status").out
    (project.jobs / "job" / "workspace" / "work.txt").write_text("two\n", encoding="utf-8")
    first, step, role, *_ = project("job", "preview").out.splitlines()
    assert first.split(maxsplit=1) == ["first", "your edits are recorded as step 2, role human: work.txt"]
    assert (step.split()[1], role.split()[1]) == ("3,", "worker,")


# --- Where nobody listens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_a_run_with_a_closed_standard_stream_ends_as_the_job_does(project: Project, descriptor: int) -> None:
    # What a worker inherits must not be a file of the job that came to have the free number.
    project.play(worker="ls -l /proc/$$/fd > fds.txt; reply COMPLETED done", supervisor="reply COMPLETED fine")
    project.create()
    outcome = ended(project.start("job", "run", before=lambda: os.close(descriptor)))
    assert (outcome.code, project.manifest()["status"]) == (0, "SUCCESS")
    assert "Traceback" not in outcome.err
    assert (descriptor == 2) == (outcome.err == "")
    assert not [line for line in project.evidence("show", "logist/job:fds.txt").splitlines() if "history" in line]


def test_a_remark_that_nobody_takes_changes_no_exit_code(project: Project) -> None:
    project.play(worker="reply STUCK 'which one?'")
    project.create()
    with Path("/dev/full").open("wb") as full:

        def into_the_full_device() -> None:
            os.dup2(full.fileno(), 2)

        assert ended(project.start("job", "run", before=into_the_full_device)).code == 3
        assert ended(project.start("job", "cancel", "job", before=into_the_full_device)).code == 0
        assert ended(project.start("job", "cancel", "job", before=into_the_full_device)).code == 6


def test_the_version_is_no_fault_without_a_standard_output(project: Project) -> None:
    outcome = ended(project.start("--version", before=lambda: os.close(1)))
    assert outcome == Outcome(0, "", "")


# --- How a run is shown --------------------------------------------------------------------------------------------


def test_a_run_tells_nothing_on_stdout_and_its_end_on_stderr(project: Project) -> None:
    project.play(worker="echo hello; reply COMPLETED done", supervisor="reply COMPLETED fine")
    project.create()
    ran = project("job", "run")
    assert ran.out == ""
    assert "type=step.finished" in ran.err
    assert "hello" not in ran.err.replace("last lines of the log", "").split("SUCCESS   job")[0]
    assert "logist job deliver job" in ran.err
    project("job", "rerun")
    quiet = project("job", "run", "-q")
    assert len(quiet.err.splitlines()) == 1
    assert "SUCCESS" in quiet.err
    project("job", "rerun")
    assert "│ hello" in project("job", "run", "-v").err


def test_on_a_terminal_a_run_is_shown_live(project: Project) -> None:
    project.play(worker="echo hello; reply COMPLETED done", supervisor="reply COMPLETED fine")
    project.create()
    child = pexpect.spawn(
        sys.executable,
        ["-m", "logist", "job", "run"],
        cwd=str(project.folder),
        env={**os.environ, **project.env, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        dimensions=(30, 110),
        timeout=30,
        encoding="utf-8",
    )
    shown = child.read()
    child.close()
    assert child.exitstatus == 0
    assert "\x1b[" in shown
    assert "exit status 0" in shown
    # The cursor is visible again at the end.
    assert shown.rfind("\x1b[?25h") >= shown.rfind("\x1b[?25l")


def test_a_reader_that_leaves_is_no_error(finished: Project) -> None:
    process = finished.start("job", "log", "--step", "3", "--stream", "prompt")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(timeout=30)


# --- Completion and help -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_there_is_a_completion_script_for(shell: str, invoke: Callable[..., Outcome]) -> None:
    assert "_LOGIST_COMPLETE" in invoke("completion", shell).out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("logist job re", ["resolve", "rerun", "restep"]),
        ("logist job status al", ["alpha", "alto"]),
        ("logist job resolve --re", ["--retry", "--rewind"]),
        ("logist schema re", ["reply", "report"]),
    ],
)
def test_the_shell_completes_commands_options_and_job_ids(
    line: str, expected: list[str], invoke: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("alpha", "alto", "beta"):
        invoke("job", "create", "-o", name)
    monkeypatch.setenv("_LOGIST_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    completed = invoke().out.splitlines()
    assert [row.partition(",")[2] for row in completed] == expected


def _all_commands() -> Iterator[tuple[str, click.Context]]:
    def walk(context: click.Context) -> Iterator[tuple[str, click.Context]]:
        yield context.command_path, context
        if isinstance(context.command, LazyGroup):
            for name in context.command.list_commands(context):
                found = context.command.get_command(context, name)
                assert found is not None
                yield from walk(click.Context(found, parent=context, info_name=name))

    yield from walk(click.Context(cli, info_name="logist", **cli.context_settings))


@pytest.mark.parametrize(
    ("path", "context"), list(_all_commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_explains_itself_and_all_its_options(path: str, context: click.Context) -> None:
    assert context.command.help
    for parameter in context.command.get_params(context):
        assert getattr(parameter, "help", None), f"{path} {parameter.name}"


def test_the_cli_reference_is_what_the_commands_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import generate_cli_reference

    written = generate_cli_reference.PAGE.read_text(encoding="utf-8")
    assert written == generate_cli_reference.page(), "run python docs/generate_cli_reference.py"


# --- Doctor --------------------------------------------------------------------------------------------------------


def test_doctor_finds_what_is_broken_and_repairs_a_manifest(project: Project, invoke: Callable[..., Outcome]) -> None:
    project.play(worker="reply STUCK no")
    invoke("job", "create", "--id", "job", "-o", "Write")
    invoke("job", "run", "-q", code=3)
    manifest = project.jobs / "job" / "job_manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:100])
    findings = {finding["name"]: finding for finding in invoke("doctor", "--json", code=78).json}
    assert not findings["job job"]["ok"]
    assert "logist doctor --repair job" in findings["job job"]["hint"]
    assert "BAD job job" in invoke("doctor", code=78).out
    invoke("doctor", "--repair", "job")
    assert json.loads(manifest.read_bytes()) == json.loads(whole)
    invoke("doctor")


def test_doctor_finds_an_agent_that_is_not_there(project: Project, invoke: Callable[..., Outcome]) -> None:
    (project.folder.parent / "bin" / "fake-agent").unlink()
    findings = {finding["name"]: finding for finding in invoke("doctor", "--json", code=78).json}
    assert not findings["worker"]["ok"]
    assert findings["commands"]["ok"]


# --- What goes wrong -----------------------------------------------------------------------------------------------


def test_a_fault_of_ours_is_two_lines_and_a_log_file(
    finished: Project,
    mocker: MockerFixture,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from logist.job_state import JobStore

    monkeypatch.chdir(finished.folder)
    mocker.patch.object(JobStore, "load", autospec=True, side_effect=ZeroDivisionError("by\nzero"))
    assert run(["job", "status"]) == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "Error: unexpected ZeroDivisionError: by zero"
    log = Path(hint.rpartition(" ")[2])
    assert log.parent == finished.folder / ".logist" / "logs"
    assert "Traceback" in log.read_text(encoding="utf-8")
    assert run(["--debug", "job", "status"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_fault_without_a_jobs_folder_is_logged_in_the_temporary_folder(
    tmp_path: Path, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from logist.job_state import JobStore

    monkeypatch.chdir(tmp_path)
    mocker.patch("tempfile.tempdir", str(tmp_path))
    mocker.patch.object(JobStore, "ids", autospec=True, side_effect=ZeroDivisionError)
    assert run(["job", "list"]) == 1
    log = Path(capsys.readouterr().err.split()[-1])
    assert log.parent == tmp_path
    assert log.exists()


def test_an_interrupt_outside_of_a_run_is_130(
    finished: Project, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from logist.job_state import JobStore

    monkeypatch.chdir(finished.folder)
    mocker.patch.object(JobStore, "load", autospec=True, side_effect=KeyboardInterrupt)
    assert run(["job", "status"]) == 130
    assert "Error" not in capsys.readouterr().err
