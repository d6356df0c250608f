"""Whole jobs with real git and real processes: every way a run can go."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jobs import Jobs, by_turn, say

from logist import events
from logist.errors import AgentUnavailable, ExitCode, InvalidFile, JobBusy, StorageFailed, WrongState
from logist.execution import Command, CommandResult
from logist.interventions import rerun_job, resolve_continue
from logist.job_processor import preview_step, run_job
from logist.lifecycle import JobStatus
from logist.models.config import AgentDefinition, Config
from logist.models.history import AttemptFailed, Committed
from logist.models.manifest import Budget, Check, Phase, ReasonCode, Role, RoleSettings, SourceKind, Verdict
from logist.stop_requests import request
from logist.testing import FakeClock, ScriptedAdapter, exited
from logist.workspace_creation import SourceRequest

RIGHT = Check(name="right", command="grep -q right work.txt")
CONFIGURED = Config(agents={"fake": AgentDefinition(command='eval "$FAKE_AGENT"', pass_env=("FAKE_AGENT",))})


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path)
    yield made
    made.close()


def write(text: str) -> str:
    return f"echo {text} > work.txt"


# --- success -------------------------------------------------------------------------------------------------------


def test_a_job_goes_from_pending_to_success_through_every_recorded_state(jobs: Jobs) -> None:
    created = jobs.create(
        worker=by_turn(write("wrong"), write("right"), write("right, documented")),
        supervisor=by_turn(say("RETRY", "document it"), say("COMPLETED", "good")),
        checks=[RIGHT],
    )
    assert created.status is JobStatus.PENDING
    manifest = jobs.run_to(ExitCode.SUCCESS)
    assert manifest.status is JobStatus.SUCCESS
    assert manifest.reason.code is ReasonCode.AGREED
    assert jobs.triggers() == ["start", "proceed", "proceed", "proceed", "proceed", "accept"]
    assert [(step.role, step.action) for step in jobs.committed()] == [
        (Role.WORKER, Verdict.COMPLETED),
        (Role.WORKER, Verdict.COMPLETED),
        (Role.SUPERVISOR, Verdict.RETRY),
        (Role.WORKER, Verdict.COMPLETED),
        (Role.SUPERVISOR, Verdict.COMPLETED),
    ]
    assert jobs.evidence_steps() == [1, 2, 3, 4, 5]
    assert jobs.git("show", "logist/job:work.txt") == "right, documented\n"
    assert jobs.store.load("job") == manifest
    states = [(event.before, event.after) for event in jobs.reporter.of(events.StateChanged)]
    assert states[0] == (JobStatus.PENDING, JobStatus.RUNNING)
    assert states[-1] == (JobStatus.RUNNING, JobStatus.SUCCESS)
    assert jobs.reporter.types[-1] == "job.finished"


def test_success_means_worker_checks_and_supervisor_on_one_tree(jobs: Jobs) -> None:
    jobs.create(worker=write("right"), checks=[RIGHT])
    manifest = jobs.run_to(ExitCode.SUCCESS)
    assert manifest.worker is not None
    assert manifest.supervisor is not None
    assert manifest.worker.tree == manifest.supervisor.tree == manifest.checked_tree == manifest.tree
    assert jobs.git("rev-parse", "logist/job^{tree}").strip() == manifest.tree


def test_phases_are_done_in_order(jobs: Jobs) -> None:
    jobs.create(
        worker='echo "$LOGIST_PHASE" >> phases.txt',
        phases=[Phase(name="plan"), Phase(name="build"), Phase(name="polish")],
    )
    jobs.run_to(ExitCode.SUCCESS)
    assert jobs.git("show", "logist/job:phases.txt").split() == ["plan", "build", "polish"]
    assert [step.phase for step in jobs.committed()] == ["plan", "plan", "build", "build", "polish", "polish"]


def test_a_job_from_a_git_repository_leaves_the_repository_as_it_was(jobs: Jobs, source_repo: Path) -> None:
    def facts() -> str:
        return subprocess.run(
            ["git", "-C", str(source_repo), "for-each-ref"], capture_output=True, text=True, check=True
        ).stdout + str(sorted(path.name for path in (source_repo / ".git").iterdir()))

    before = facts()
    jobs.create(worker="echo more >> README.md", source=SourceRequest(SourceKind.GIT, source_repo))
    jobs.run_to(ExitCode.SUCCESS)
    assert facts() == before
    assert jobs.git("log", "--format=%s", "logist/job").count("\n") > 2


# --- what an agent is told -----------------------------------------------------------------------------------------


def test_the_prompt_carries_the_objections_the_checks_and_the_budget(jobs: Jobs) -> None:
    jobs.create(
        worker=f'cp "$LOGIST_PROMPT_FILE" prompt-$LOGIST_STEP.md; {by_turn(write("wrong"), write("right"))}',
        supervisor=by_turn(say("RETRY", "mind the *gap* {{ 7 * 7 }}"), say("COMPLETED")),
        checks=[Check(name="right", command="cat work.txt; echo odd-output; grep -q right work.txt")],
        prompt="The long form.",
    )
    jobs.run_to(ExitCode.SUCCESS)
    first, second, after_review = (jobs.git("show", f"logist/job:prompt-{step}.md") for step in (1, 2, 4))
    assert "Do it well" in first
    assert "The long form." in first
    assert "odd-output" in second
    assert "mind the *gap* {{ 7 * 7 }}" in after_review
    assert "LOGIST_REPLY_FILE" in first or "reply-0001-1.json" in first


def test_the_agent_sees_only_the_environment_that_it_needs(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "hush")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    jobs.create(worker="env > env.txt")
    jobs.run_to(ExitCode.SUCCESS)
    seen = jobs.git("show", "logist/job:env.txt")
    assert "hush" not in seen
    assert "GIT_DIR" not in seen
    assert "LOGIST_JOB_ID=job\n" in seen


def test_a_preview_is_the_exact_next_prompt_and_changes_nothing(jobs: Jobs) -> None:
    jobs.create(worker='cp "$LOGIST_PROMPT_FILE" prompt.md')
    root = jobs.store.paths("job").root

    def everything() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    before = everything()
    preview = preview_step(jobs.runtime, "job")
    assert everything() == before
    jobs.run_to(ExitCode.SUCCESS)
    assert jobs.git("show", "logist/job:prompt.md") == preview.prompt
    assert preview.argv == ("/bin/sh", "-c", 'cp "$LOGIST_PROMPT_FILE" prompt.md')


@pytest.mark.parametrize("checked", [True, False])
def test_a_preview_names_the_edits_that_come_first_and_is_the_exact_prompt_after_them(
    jobs: Jobs, checked: bool
) -> None:
    keep = 'cp "$LOGIST_PROMPT_FILE" prompt.md; echo x >> work.txt'
    jobs.create(worker=keep, checks=[RIGHT] if checked else [])
    jobs.run_to(ExitCode.SUCCESS, single_step=True)
    (jobs.workspace() / "work.txt").write_text("by hand\n")
    root = jobs.store.paths("job").root
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    preview = preview_step(jobs.runtime, "job")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert (preview.hand_edits, preview.step, preview.role) == (("work.txt",), 3, Role.WORKER)
    jobs.run_to(ExitCode.SUCCESS, single_step=True)
    assert [step.role for step in jobs.committed()] == [Role.WORKER, Role.HUMAN, Role.WORKER]
    assert jobs.git("show", "logist/job:prompt.md") == preview.prompt


def test_what_a_step_that_was_begun_has_left_is_no_edit_by_hand(jobs: Jobs) -> None:
    jobs.create(worker="echo left > work.txt; touch ../at-work; sleep 300")
    runner = start_runner(jobs)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert (jobs.workspace() / "work.txt").exists()
    assert preview_step(jobs.runtime, "job").hand_edits == ()


# --- a human is needed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worker", "supervisor", "code"),
    [
        (say("STUCK", "which door?"), "true", ReasonCode.WORKER_STUCK),
        (write("x"), say("STUCK", "400 or 401?"), ReasonCode.SUPERVISOR_STUCK),
        ("date +%N > work.txt; " + say("RETRY", "not yet"), "true", ReasonCode.RETRIES_EXHAUSTED),
        (write("same") + "; " + say("RETRY", "not yet"), "true", ReasonCode.NO_PROGRESS),
        ("date +%N >> work.txt", say("RETRY", "again"), ReasonCode.RETRIES_EXHAUSTED),
    ],
)
def test_a_run_stops_for_a_human_with_its_reason(jobs: Jobs, worker: str, supervisor: str, code: ReasonCode) -> None:
    jobs.create(worker=worker, supervisor=supervisor)
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.status is JobStatus.INTERVENTION_REQUIRED
    assert manifest.reason.code is code
    assert jobs.triggers()[-1] == "escalate"
    assert jobs.evidence_steps() == [step.step for step in jobs.committed()]
    finished = jobs.reporter.of(events.JobFinished)[-1]
    assert finished.exit_code == 3
    assert any("resolve" in command for command in finished.next_commands)
    with pytest.raises(WrongState) as refused:
        jobs.run()
    assert "resolve" in refused.value.hint


def test_red_checks_that_stay_red_stop_for_a_human(jobs: Jobs) -> None:
    jobs.create(worker="date +%N > work.txt", supervisor="touch ../supervised", checks=[RIGHT])
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.CHECKS_FAILED
    assert not (jobs.store.paths("job").root / "supervised").exists(), "the review of red work must not be paid for"


@pytest.mark.parametrize(
    ("budget", "code"),
    [(Budget(steps=2), ReasonCode.BUDGET_STEPS), (Budget(time=0.01), ReasonCode.BUDGET_TIME)],
)
def test_a_spent_budget_stops_before_the_next_step(jobs: Jobs, budget: Budget, code: ReasonCode) -> None:
    jobs.create(worker="sleep 0.02; date +%N > work.txt", supervisor=say("RETRY", "more"), budget=budget)
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is code
    assert len(jobs.committed()) <= 2


# --- replies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour",
    [
        "true",
        "echo I think that I am done",
        'printf \'{"action": "COMPLETED"}\' > "$LOGIST_REPLY_FILE"',
        'head -c 2000000 /dev/zero > "$LOGIST_REPLY_FILE"',
        say("MAYBE"),
        'printf \'```json\\n{"action":"COMPLETED"}\\n```\\n```json\\n{"action":"STUCK"}\\n```\\n\'',
        'mkfifo "$LOGIST_REPLY_FILE"',
        'ln -s /etc/passwd "$LOGIST_REPLY_FILE"',
    ],
    ids=["none", "prose", "no token", "huge", "unknown action", "two replies", "fifo", "link"],
)
def test_an_unusable_reply_is_asked_for_once_more_and_then_a_human_sees_it(
    jobs: Jobs, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_AGENT", f"echo $LOGIST_ATTEMPT >> work.txt; {behaviour}")
    jobs.config = CONFIGURED
    jobs.create(worker=RoleSettings(agent="fake"))
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.REPLY_UNREADABLE
    failed = [record for record in jobs.records() if isinstance(record, AttemptFailed)]
    assert [record.kind for record in failed] == ["unreadable"]
    assert jobs.evidence_steps() == [1]
    # The work of both attempts is in the one evidence commit.
    assert jobs.git("show", "logist/job:work.txt") == "1\n2\n"


@pytest.mark.parametrize(
    "name", ["missing.txt", "../outside.txt", "/etc/passwd", "link.txt", "folder/../../x", ".git/HEAD"]
)
def test_evidence_that_is_not_there_or_lies_outside_does_not_count(jobs: Jobs, name: str) -> None:
    (jobs.root / "outside.txt").write_text("not yours")
    jobs.create(worker="ln -sf ../../../outside.txt link.txt; mkdir -p folder; " + say("COMPLETED", "done", [name]))
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.EVIDENCE_INVALID
    assert Path(name).name in manifest.reason.sentence


def test_the_next_attempt_is_told_what_was_wrong_with_the_reply(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "FAKE_AGENT",
        'cp "$LOGIST_PROMPT_FILE" prompt-$LOGIST_ATTEMPT.md; '
        f'if [ "$LOGIST_ATTEMPT" = 1 ]; then echo gibberish-7; else {say("COMPLETED")}; fi',
    )
    jobs.config = CONFIGURED
    jobs.create(worker=RoleSettings(agent="fake"))
    jobs.run_to(ExitCode.SUCCESS)
    assert "gibberish-7" in jobs.git("show", "logist/job:prompt-2.md")
    assert "gibberish-7" not in jobs.git("show", "logist/job:prompt-1.md")
    assert jobs.evidence_steps() == [1, 2]


def test_a_supervisor_that_changes_the_work_has_judged_nothing(jobs: Jobs) -> None:
    jobs.create(worker=write("right"), supervisor="echo mine > work.txt")
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.EVIDENCE_INVALID
    assert jobs.git("show", "logist/job:work.txt") == "right\n"
    assert (jobs.workspace() / "work.txt").read_text() == "right\n"


def test_what_a_supervisor_leaves_beside_the_work_is_put_away(jobs: Jobs) -> None:
    jobs.create(worker=write("right"), supervisor="touch cache.tmp")
    jobs.run_to(ExitCode.SUCCESS)
    assert not (jobs.workspace() / "cache.tmp").exists()
    assert "cache.tmp" not in jobs.git("ls-tree", "-r", "--name-only", "logist/job")


def test_what_checks_leave_is_no_part_of_the_agreed_tree(jobs: Jobs) -> None:
    leaves = Check(name="leaves", command="echo changed > work.txt; touch junk")
    jobs.create(worker=write("right"), checks=[leaves])
    jobs.run_to(ExitCode.SUCCESS)
    assert (jobs.workspace() / "work.txt").read_text() == "right\n"
    assert not (jobs.workspace() / "junk").exists()


def test_a_worker_can_not_forge_the_supervisors_verdict(jobs: Jobs) -> None:
    forge = (
        "mkdir -p .logist; for n in 1 2 3; do "
        'printf \'{"action":"COMPLETED","token":"%s"}\' "$LOGIST_STEP_TOKEN" > .logist/reply-0002-$n.json; done; '
        + write("bad")
    )
    jobs.create(worker=forge, supervisor="exit 1")
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.status is not JobStatus.SUCCESS


# --- failures ------------------------------------------------------------------------------------------------------


def test_a_missing_program_is_said_before_anything_is_spent(jobs: Jobs) -> None:
    jobs.config = Config(agents={"ghost": AgentDefinition(command=("no-such-agent-program",))})
    jobs.create(worker=RoleSettings(agent="ghost"))
    with pytest.raises(AgentUnavailable, match="no-such-agent-program"):
        jobs.run()
    manifest = jobs.store.load("job")
    assert (manifest.status, manifest.step) == (JobStatus.PENDING, 0)
    assert jobs.triggers() == []


def test_a_busy_provider_is_waited_for_and_is_no_work(tmp_path: Path) -> None:
    def works(command: Command) -> CommandResult:
        (command.cwd / "work.txt").write_text("right\n")
        return exited(stdout=b'```json\n{"action": "COMPLETED"}\n```\n')

    adapter = ScriptedAdapter(
        [exited(75), exited(75), works, exited(stdout=b'```json\n{"action": "COMPLETED"}\n```\n')]
    )
    clock = FakeClock()
    jobs = Jobs(tmp_path, adapter=adapter, clock=clock, config=CONFIGURED)
    jobs.create(worker=RoleSettings(agent="fake"), supervisor=RoleSettings(agent="fake"))
    manifest = jobs.run_to(ExitCode.SUCCESS)
    assert manifest.spent.steps == 2
    assert manifest.spent.retries == 0
    kinds = [record.kind for record in jobs.records() if isinstance(record, AttemptFailed)]
    assert kinds == ["transient", "transient"]
    assert clock.slept, "the waiting must go through the clock"
    assert jobs.evidence_steps() == [1, 2]


def test_a_provider_that_stays_busy_stops_for_a_human(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, adapter=ScriptedAdapter([exited(75)] * 5), clock=FakeClock(), config=CONFIGURED)
    jobs.create(worker=RoleSettings(agent="fake"))
    assert jobs.run_to(ExitCode.INTERVENTION_REQUIRED).reason.code is ReasonCode.AGENT_FAILED


def test_an_agent_that_hangs_is_stopped_and_its_work_kept(jobs: Jobs) -> None:
    hangs = RoleSettings(agent="command", argument="date +%N >> work.txt; sleep 100", timeout=1.0)
    jobs.create(worker=hangs, budget=Budget(retries=1))
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.AGENT_TIMEOUT
    assert len(jobs.git("show", "logist/job:work.txt").split()) == 2


def test_a_fault_of_our_own_is_recorded_and_still_raised(tmp_path: Path) -> None:
    def explodes(command: Command) -> CommandResult:
        raise ZeroDivisionError("a bug")

    jobs = Jobs(tmp_path, adapter=ScriptedAdapter([explodes]))
    jobs.create()
    with pytest.raises(ZeroDivisionError):
        jobs.run()
    manifest = jobs.store.load("job")
    assert (manifest.status, manifest.reason.code) == (
        JobStatus.INTERVENTION_REQUIRED,
        ReasonCode.INTERNAL_ERROR,
    )


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.create(worker="echo x >> work.txt")
    real, left = os.write, [6]

    def full(descriptor: int, data: bytes) -> int:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageFailed):
        jobs.run()
    monkeypatch.setattr(os, "write", real)
    jobs.store.load("job")
    jobs.run_to(ExitCode.SUCCESS)
    assert jobs.evidence_steps() == [1, 2]
    assert jobs.git("show", "logist/job:work.txt") == "x\n"


# --- stopping and canceling ----------------------------------------------------------------------------------------


def while_running(jobs: Jobs, act: Callable[[], None]) -> ExitCode:
    """Run the job in a thread, and act once its agent is at work (it says so by making the file `at-work`)."""
    results: list[ExitCode] = []
    thread = threading.Thread(target=lambda: results.append(jobs.run().exit_code))
    thread.start()
    marker = jobs.store.paths("job").root / "at-work"
    while not marker.exists():
        assert thread.is_alive()
        thread.join(0.01)
    act()
    thread.join(30)
    assert results, "the run did not end"
    return results[0]


def test_a_cancel_request_ends_the_command_and_the_job(jobs: Jobs) -> None:
    jobs.create(worker="echo part > work.txt; touch ../at-work; sleep 100")
    paths = jobs.store.paths("job")
    code = while_running(jobs, lambda: request(paths, "cancel", "enough", jobs.clock.now()))
    assert code is ExitCode.CANCELED
    manifest = jobs.store.load("job")
    assert (manifest.status, manifest.reason.sentence) == (JobStatus.CANCELED, "canceled: enough")
    salvaged = jobs.git("for-each-ref", "--format=%(refname)", "refs/logist/salvage").split()
    assert len(salvaged) == 1
    assert jobs.git("show", f"{salvaged[0]}:work.txt") == "part\n"
    assert not (jobs.workspace() / "work.txt").exists()


def test_asked_once_a_run_stops_after_the_step_and_can_go_on(jobs: Jobs) -> None:
    jobs.create(worker="touch ../at-work; until [ -e ../go-on ]; do sleep 0.01; done; echo x >> work.txt")

    def stop_then_go_on() -> None:
        jobs.stop.ask(ExitCode.INTERRUPTED)
        (jobs.store.paths("job").root / "go-on").touch()

    assert while_running(jobs, stop_then_go_on) is ExitCode.INTERRUPTED
    manifest = jobs.store.load("job")
    assert (manifest.status, manifest.step) == (JobStatus.PENDING, 1)
    jobs.run_to(ExitCode.SUCCESS)
    assert jobs.evidence_steps() == [1, 2]


def test_asked_twice_a_run_kills_the_command_and_can_go_on(jobs: Jobs) -> None:
    jobs.create(
        worker="if [ -e ../at-work ]; then echo x >> work.txt; "
        "else echo half > work.txt; touch ../at-work; sleep 100; fi"
    )

    def kill() -> None:
        jobs.stop.ask(ExitCode.TERMINATED)
        jobs.stop.ask(ExitCode.INTERRUPTED)

    assert while_running(jobs, kill) is ExitCode.TERMINATED
    manifest = jobs.store.load("job")
    assert (manifest.status, manifest.step, manifest.spent.steps) == (JobStatus.PENDING, 0, 0)
    jobs.run_to(ExitCode.SUCCESS)
    assert jobs.git("show", "logist/job:work.txt") == "x\n"
    assert jobs.evidence_steps() == [1, 2]


def test_a_pause_request_lets_the_step_end(jobs: Jobs) -> None:
    jobs.create(worker="touch ../at-work; until [ -e ../go-on ]; do sleep 0.01; done; echo x >> work.txt")

    def pause() -> None:
        request(jobs.store.paths("job"), "pause", "lunch", jobs.clock.now())
        (jobs.store.paths("job").root / "go-on").touch()

    assert while_running(jobs, pause) is ExitCode.TERMINATED
    assert jobs.store.load("job").reason.sentence == "paused by request: lunch"
    jobs.run_to(ExitCode.SUCCESS)


def test_stopped_during_the_checks_the_step_is_finished_by_the_next_run(jobs: Jobs) -> None:
    waits = Check(name="waits", command="[ -e ../../job/at-work ] && exit 0; touch ../at-work; sleep 100")
    jobs.create(worker="echo x >> work.txt", checks=[waits])

    def kill() -> None:
        jobs.stop.ask(ExitCode.INTERRUPTED)
        jobs.stop.ask(ExitCode.INTERRUPTED)

    assert while_running(jobs, kill) is ExitCode.INTERRUPTED
    assert jobs.store.load("job").status is JobStatus.PENDING
    jobs.run_to(ExitCode.SUCCESS)
    assert jobs.evidence_steps() == [1, 2]
    assert jobs.git("show", "logist/job:work.txt") == "x\n"


def test_a_second_runner_is_told_who_holds_the_job(jobs: Jobs) -> None:
    jobs.create(worker="touch ../at-work; until [ -e ../go-on ]; do sleep 0.01; done")

    def second() -> None:
        with pytest.raises(JobBusy, match=str(os.getpid())):
            run_job(jobs.runtime, "job")
        (jobs.store.paths("job").root / "go-on").touch()

    assert while_running(jobs, second) is ExitCode.SUCCESS


# --- one step at a time --------------------------------------------------------------------------------------------


def test_single_steps_lead_to_the_same_end(jobs: Jobs) -> None:
    jobs.create(worker="echo x > work.txt")
    first = jobs.run_to(ExitCode.SUCCESS, single_step=True)
    assert (first.status, first.step, first.next_role) == (JobStatus.PENDING, 1, Role.SUPERVISOR)
    second = jobs.run_to(ExitCode.SUCCESS, single_step=True)
    assert second.status is JobStatus.SUCCESS
    assert jobs.triggers() == ["start", "proceed", "pause", "start", "accept"]


def test_a_fed_reply_gets_the_full_processing(jobs: Jobs) -> None:
    jobs.create(worker="touch must-not-run", checks=[Check(name="green", command="true")])
    reply = json.dumps({"action": "COMPLETED", "summary_for_supervisor": "fed"}).encode()
    manifest = jobs.run_to(ExitCode.SUCCESS, single_step=True, reply=reply, reply_name="reply.json")
    assert (manifest.step, manifest.next_role) == (1, Role.SUPERVISOR)
    assert [check.passed for check in manifest.checks] == [True]
    assert not (jobs.workspace() / "must-not-run").exists()
    assert jobs.evidence_steps() == [1]


@pytest.mark.parametrize("reply", [b"", b"{}", b'{"action": "COMPLETED", "evidence_files": ["nope"]}'])
def test_a_fed_reply_that_is_none_changes_nothing(jobs: Jobs, reply: bytes) -> None:
    jobs.create()
    with pytest.raises(InvalidFile):
        jobs.run(single_step=True, reply=reply, reply_name="reply.json")
    manifest = jobs.store.load("job")
    assert manifest.step == 0
    assert jobs.evidence_steps() == []


# --- recovery ------------------------------------------------------------------------------------------------------

RUNNER = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from jobs import Jobs
Jobs(Path({root!r})).run()
"""


def start_runner(jobs: Jobs) -> subprocess.Popen[bytes]:
    script = RUNNER.format(tests=str(Path(__file__).parent), root=str(jobs.root))
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    marker = jobs.store.paths("job").root / "at-work"
    while not marker.exists():
        assert process.poll() is None
        threading.Event().wait(0.01)
    return process


def test_a_runner_killed_while_its_agent_works_leaves_nothing_alive_and_a_job_that_goes_on(jobs: Jobs) -> None:
    jobs.create(
        worker="if [ -e ../at-work ]; then echo x >> work.txt; else "
        "echo half > work.txt; (setsid sleep 300 & echo $! > ../child); touch ../at-work; sleep 300; fi"
    )
    runner = start_runner(jobs)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert jobs.store.load("job").status is JobStatus.RUNNING
    jobs.run_to(ExitCode.SUCCESS)
    child = int((jobs.store.paths("job").root / "child").read_text())
    assert not Path(f"/proc/{child}").exists()
    assert "recover" in jobs.triggers()
    assert jobs.evidence_steps() == [1, 2]
    assert jobs.git("show", "logist/job:work.txt") == "x\n"
    salvaged = jobs.git("for-each-ref", "--format=%(refname)", "refs/logist/salvage").split()
    assert jobs.git("show", f"{salvaged[0]}:work.txt") == "half\n"


def test_edits_made_while_the_job_rests_are_a_humans(jobs: Jobs) -> None:
    jobs.create(worker="echo x > work.txt", supervisor="true")
    jobs.run_to(ExitCode.SUCCESS, single_step=True)
    (jobs.workspace() / "notes.txt").write_text("by hand\n")
    jobs.run_to(ExitCode.SUCCESS)
    roles = [record.role for record in jobs.records() if isinstance(record, Committed)]
    # Nobody claimed that the work is done: the worker has the next turn, and its word counts.
    assert roles == [Role.WORKER, Role.HUMAN, Role.WORKER, Role.SUPERVISOR]
    assert jobs.git("show", "logist/job:notes.txt") == "by hand\n"


def test_a_supervisors_edits_are_put_back_even_when_it_gives_no_verdict(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_AGENT", "echo mine > work.txt; touch mine.txt")
    jobs.config = CONFIGURED
    jobs.create(worker=write("right"), supervisor=RoleSettings(agent="fake"))
    jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert (jobs.workspace() / "work.txt").read_text() == "right\n"
    assert not (jobs.workspace() / "mine.txt").exists()


# --- found by reviewers --------------------------------------------------------------------------------------------


def test_a_fed_reply_is_one_roles_and_never_anothers(jobs: Jobs) -> None:
    jobs.create(worker="exit 1", supervisor="exit 1")
    (jobs.workspace() / "by-hand.txt").write_text("the work that the reply speaks of\n")
    reply = b'{"action": "COMPLETED"}'
    manifest = jobs.run_to(ExitCode.SUCCESS, single_step=True, reply=reply)
    assert (manifest.status, manifest.next_role) == (JobStatus.PENDING, Role.SUPERVISOR)
    assert [step.role for step in jobs.committed()] == [Role.WORKER]
    assert jobs.git("show", "logist/job:by-hand.txt").startswith("the work")
    (jobs.workspace() / "by-hand.txt").write_text("edited since\n")
    with pytest.raises(WrongState, match="edited"):
        jobs.run(single_step=True, reply=reply)


def test_a_fed_reply_counts_once(jobs: Jobs) -> None:
    jobs.create(supervisor=say("STUCK", "I was asked"))
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED, reply=b'{"action": "COMPLETED"}')
    assert manifest.reason.code is ReasonCode.SUPERVISOR_STUCK


def test_no_check_sees_what_another_one_left(jobs: Jobs) -> None:
    fixes = Check(name="fix", command="echo right > work.txt", required=False)
    jobs.create(worker="date +%N > work.txt", checks=[fixes, RIGHT])
    assert jobs.run_to(ExitCode.INTERVENTION_REQUIRED).reason.code is ReasonCode.CHECKS_FAILED


def test_a_supervisor_is_told_what_the_evidence_leaves_out(jobs: Jobs) -> None:
    jobs.create(
        worker="echo '*.bin' > .gitignore; echo x > out.bin; echo y > work.txt",
        supervisor='grep -q "out.bin" "$LOGIST_PROMPT_FILE"',
        checks=[Check(name="there", command="test -s out.bin")],
    )
    jobs.run_to(ExitCode.SUCCESS)
    assert "out.bin" not in jobs.git("ls-tree", "-r", "--name-only", "logist/job")


def test_hand_edits_after_stopped_checks_are_kept(jobs: Jobs) -> None:
    waits = Check(
        name="waits", command="[ -e ../at-work ] && exit 0; echo dirt > dirt.txt; touch ../at-work; sleep 100"
    )
    jobs.create(worker="echo x >> work.txt", checks=[waits])

    def kill() -> None:
        jobs.stop.ask(ExitCode.INTERRUPTED)
        jobs.stop.ask(ExitCode.INTERRUPTED)

    assert while_running(jobs, kill) is ExitCode.INTERRUPTED
    assert not (jobs.workspace() / "dirt.txt").exists()
    (jobs.workspace() / "notes.txt").write_text("mine\n")
    with pytest.raises(WrongState, match="reply already"):
        jobs.run(single_step=True, reply=b'{"action": "STUCK"}')
    jobs.run_to(ExitCode.SUCCESS)
    kept = jobs.git("for-each-ref", "--format=%(refname)", "refs/logist/salvage").split()
    assert jobs.git("show", f"{kept[0]}:notes.txt") == "mine\n"


def test_what_was_kept_once_is_never_overwritten(jobs: Jobs) -> None:
    jobs.create(worker="echo $$ > work.txt; touch ../at-work; sleep 100")
    marker = jobs.store.paths("job").root / "at-work"

    def kill() -> None:
        jobs.stop.ask(ExitCode.INTERRUPTED)
        jobs.stop.ask(ExitCode.INTERRUPTED)

    for _ in range(2):
        assert while_running(jobs, kill) is ExitCode.INTERRUPTED
        marker.unlink()
        rerun_job(jobs.runtime, "job")
    kept = jobs.git("for-each-ref", "--format=%(objectname)", "refs/logist/salvage").split()
    assert len(set(kept)) == 2


def test_the_supervisors_objections_stand_until_it_speaks_again(jobs: Jobs) -> None:
    jobs.create(
        worker=by_turn(write("a"), write("b") + "; " + say("RETRY", "not done"), 'cp "$LOGIST_PROMPT_FILE" prompt.md'),
        supervisor=by_turn(say("RETRY", "mind the gap"), say("COMPLETED")),
    )
    jobs.run_to(ExitCode.SUCCESS)
    prompt = jobs.git("show", "logist/job:prompt.md")
    assert "mind the gap" in prompt
    assert "not done" in prompt


def test_hand_edits_after_a_restart_of_the_machine_are_set_aside_once(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.create(worker="echo x > work.txt", supervisor=say("STUCK"))
    jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    for module in (
        "logist.job_processor",
        "logist.job_recovery",
        "logist.step_end",
        "logist.interventions",
        "logist.turns",
    ):
        monkeypatch.setattr(f"{module}.boot_id", lambda: "another-boot")
    (jobs.workspace() / "work.txt").write_text("half written\n")
    with pytest.raises(WrongState, match="nothing was edited"):
        resolve_continue(jobs.runtime, "job", "")
    kept = jobs.git("for-each-ref", "--format=%(refname)", "refs/logist/salvage").split()
    assert jobs.git("show", f"{kept[0]}:work.txt") == "half written\n"
    (jobs.workspace() / "work.txt").write_text("by hand\n")
    assert resolve_continue(jobs.runtime, "job", "").status is JobStatus.PENDING


def test_an_overlong_cancel_request_still_cancels(jobs: Jobs) -> None:
    jobs.create(worker="touch ../at-work; sleep 100")
    words = "x" * 100_000
    assert (
        while_running(jobs, lambda: request(jobs.store.paths("job"), "cancel", words, jobs.clock.now()))
        is ExitCode.CANCELED
    )


def test_a_workspace_that_was_deleted_is_made_anew_from_the_evidence(jobs: Jobs) -> None:
    removes = 'if [ "$LOGIST_ATTEMPT" = 1 ]; then rm -rf ../workspace; else grep -q x work.txt; fi'
    jobs.create(worker="echo x >> work.txt", supervisor=removes)
    jobs.run_to(ExitCode.SUCCESS, single_step=True)
    shutil.rmtree(jobs.workspace())
    jobs.run_to(ExitCode.SUCCESS, single_step=True)
    assert (jobs.workspace() / "work.txt").read_text() == "x\n"
    assert Role.HUMAN not in [step.role for step in jobs.committed()]


def test_a_job_does_not_go_on_from_a_past_that_can_not_be_read(jobs: Jobs) -> None:
    jobs.create(worker="echo x >> work.txt")
    jobs.run_to(ExitCode.SUCCESS, single_step=True)
    history = jobs.store.paths("job").history
    lines = history.read_bytes().splitlines(keepends=True)
    history.write_bytes(b"".join([lines[0], lines[1].replace(b"start", b"stort"), *lines[2:]]))
    before = history.read_bytes()
    with pytest.raises(InvalidFile, match="line 2"):
        jobs.run()
    assert history.read_bytes() == before


def test_after_a_runner_died_the_preview_is_of_the_attempt_that_follows(jobs: Jobs) -> None:
    jobs.create(worker='[ -e ../at-work ] && cp "$LOGIST_PROMPT_FILE" prompt.md || { touch ../at-work; sleep 300; }')
    runner = start_runner(jobs)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    preview = preview_step(jobs.runtime, "job")
    assert preview.attempt == 2
    jobs.run_to(ExitCode.SUCCESS)
    assert jobs.git("show", "logist/job:prompt.md") == preview.prompt


def test_a_pause_request_is_told_while_the_step_still_runs(jobs: Jobs) -> None:
    jobs.create(worker="touch ../at-work; until [ -e ../go-on ]; do sleep 0.01; done")

    def pause() -> None:
        request(jobs.store.paths("job"), "pause", "lunch", jobs.clock.now())
        while not jobs.reporter.of(events.StopRequested):
            threading.Event().wait(0.01)
        (jobs.store.paths("job").root / "go-on").touch()

    assert while_running(jobs, pause) is ExitCode.TERMINATED
    [asked] = jobs.reporter.of(events.StopRequested)
    assert (asked.why, asked.paused) == ("paused by request: lunch", True)
