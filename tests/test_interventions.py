"""A human's decisions, with real git and real processes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jobs import Jobs, by_turn, say

from logist.console.records import history_lines
from logist.deliveries import deliver_branch, deliver_bundle, deliver_patch
from logist.errors import AgentUnavailable, ExitCode, LogistError, UsageProblem, WrongState
from logist.interventions import (
    BudgetIncrease,
    Players,
    add_budget,
    cancel_job,
    rerun_job,
    resolve_approve,
    resolve_cancel,
    resolve_continue,
    resolve_retry,
    resolve_rewind,
    restep_job,
)
from logist.job_report import build_report
from logist.lifecycle import JobStatus
from logist.models.config import Config
from logist.models.history import Committed, Resolution
from logist.models.manifest import Budget, Check, Phase, ReasonCode, Role, Roles, RoleSettings, SourceKind
from logist.runtime import Runtime
from logist.stop_requests import request
from logist.workspace_creation import SourceRequest

STUCK = say("STUCK", "which one?")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path)
    yield made
    made.close()


def stuck_job(jobs: Jobs, **more: object) -> None:
    """A job whose supervisor is stuck at its first turn and agrees at its second."""
    jobs.create(worker='echo "$LOGIST_STEP" >> work.txt', supervisor=by_turn(STUCK, say("COMPLETED")), **more)  # type: ignore[arg-type]
    jobs.run_to(ExitCode.INTERVENTION_REQUIRED)


def refs(jobs: Jobs, prefix: str) -> list[str]:
    return jobs.git("for-each-ref", "--format=%(refname)", prefix).split()


def test_the_guidance_reaches_both_roles_and_the_job_ends_well(jobs: Jobs) -> None:
    jobs.create(
        worker='cp "$LOGIST_PROMPT_FILE" prompt-$LOGIST_STEP.md',
        supervisor=by_turn(STUCK, 'grep -q "take the left one" "$LOGIST_PROMPT_FILE"'),
    )
    jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    after = resolve_retry(jobs.runtime, "job", "take the left one")
    assert (after.status, after.next_role) == (JobStatus.PENDING, Role.WORKER)
    jobs.run_to(ExitCode.SUCCESS)
    prompt = jobs.git("show", "logist/job:prompt-3.md")
    assert "take the left one" in prompt
    assert "which one?" in prompt
    said = [record for record in jobs.records() if isinstance(record, Resolution)]
    assert [(record.kind, record.message) for record in said] == [("retry", "take the left one")]


def test_retries_start_anew_after_an_answer(jobs: Jobs) -> None:
    jobs.create(worker=f"date +%N > work.txt; {say('RETRY', 'not yet')}", budget=Budget(retries=1))
    assert jobs.run_to(ExitCode.INTERVENTION_REQUIRED).step == 2
    assert resolve_retry(jobs.runtime, "job", "again").spent.retries == 0
    assert jobs.run_to(ExitCode.INTERVENTION_REQUIRED).step == 4


def test_an_answer_that_would_stop_at_the_same_budget_is_refused_with_what_raises_it(jobs: Jobs) -> None:
    jobs.create(worker="date +%N > work.txt", supervisor=say("RETRY", "more"), budget=Budget(steps=2))
    assert jobs.run_to(ExitCode.INTERVENTION_REQUIRED).reason.code is ReasonCode.BUDGET_STEPS
    with pytest.raises(WrongState) as refused:
        resolve_retry(jobs.runtime, "job", "go on")
    assert "--add-steps" in refused.value.hint
    assert jobs.store.load("job").status is JobStatus.INTERVENTION_REQUIRED
    after = add_budget(jobs.runtime, "job", BudgetIncrease(steps=2))
    assert (after.status, after.budget.steps, after.job.budget.steps) == (JobStatus.PENDING, 4, 2)
    assert jobs.run_to(ExitCode.INTERVENTION_REQUIRED).step == 4


def test_hand_edits_become_a_human_step_with_checks_and_go_to_the_supervisor(jobs: Jobs) -> None:
    stuck_job(jobs, checks=[Check(name="fine", command="! grep -q bad work.txt")])
    (jobs.workspace() / "work.txt").write_text("by hand\n")
    after = resolve_continue(jobs.runtime, "job", "I chose the left one")
    assert (after.status, after.next_role, after.step) == (JobStatus.PENDING, Role.SUPERVISOR, 3)
    assert [check.passed for check in after.checks] == [True]
    jobs.run_to(ExitCode.SUCCESS)
    assert jobs.git("show", "logist/job:work.txt") == "by hand\n"
    assert "human" in jobs.git("log", "--format=%an", "logist/job")
    assert jobs.evidence_steps() == [1, 2, 3, 4]


def test_hand_edits_with_red_checks_go_back_to_the_worker(jobs: Jobs) -> None:
    stuck_job(jobs, checks=[Check(name="fine", command="! grep -q bad work.txt")])
    (jobs.workspace() / "work.txt").write_text("bad\n")
    assert resolve_continue(jobs.runtime, "job", "").next_role is Role.WORKER


def test_continue_without_edits_is_refused(jobs: Jobs) -> None:
    stuck_job(jobs)
    with pytest.raises(WrongState, match="nothing was edited"):
        resolve_continue(jobs.runtime, "job", "")


def test_approve_takes_the_work_as_it_is(jobs: Jobs) -> None:
    stuck_job(jobs)
    after = resolve_approve(jobs.runtime, "job", "")
    assert (after.status, after.reason.code) == (JobStatus.SUCCESS, ReasonCode.APPROVED)
    assert jobs.triggers()[-1] == "approve"


def test_red_checks_are_only_waived_by_name_and_with_a_reason(jobs: Jobs) -> None:
    jobs.create(
        worker="date +%N > work.txt", checks=[Check(name="impossible", command="false")], budget=Budget(retries=0)
    )
    jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    for message, override in (("", False), ("because", False), ("", True)):
        with pytest.raises(WrongState, match="impossible"):
            resolve_approve(jobs.runtime, "job", message, override_checks=override)
    after = resolve_approve(jobs.runtime, "job", "the check is wrong", override_checks=True)
    assert after.status is JobStatus.SUCCESS
    last = jobs.records()[-1]
    assert isinstance(last, Resolution)
    assert last.waived_checks == ("impossible",)


def test_loose_edits_are_neither_approved_nor_lost(jobs: Jobs) -> None:
    stuck_job(jobs)
    (jobs.workspace() / "work.txt").write_text("by hand\n")
    with pytest.raises(WrongState, match="edits"):
        resolve_approve(jobs.runtime, "job", "")
    assert (jobs.workspace() / "work.txt").read_text() == "by hand\n"


def test_rewind_drops_later_steps_and_keeps_them_under_a_ref(jobs: Jobs) -> None:
    jobs.create(
        worker='echo "$LOGIST_STEP" >> work.txt',
        supervisor=by_turn(say("RETRY", "more"), STUCK, say("COMPLETED")),
    )
    jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert (jobs.workspace() / "work.txt").read_text() == "1\n3\n"
    head = jobs.store.load("job").head
    (jobs.workspace() / "loose.txt").write_text("loose\n")
    after = resolve_rewind(jobs.runtime, "job", 1)
    assert (after.status, after.next_role, after.step) == (JobStatus.PENDING, Role.SUPERVISOR, 4)
    assert (jobs.workspace() / "work.txt").read_text() == "1\n"
    assert not (jobs.workspace() / "loose.txt").exists()
    dropped = refs(jobs, "refs/logist/dropped")
    assert [jobs.git("rev-parse", ref).strip() for ref in dropped] == [head]
    loose = refs(jobs, "refs/logist/salvage")
    assert jobs.git("show", f"{loose[0]}:loose.txt") == "loose\n"
    jobs.run()
    assert jobs.evidence_steps()[:2] == [1, 5]


@pytest.mark.parametrize("step", [-1, 7])
def test_a_step_that_is_not_on_record_is_refused(jobs: Jobs, step: int) -> None:
    stuck_job(jobs)
    with pytest.raises(UsageProblem, match="not on record"):
        resolve_rewind(jobs.runtime, "job", step)
    with pytest.raises(UsageProblem, match="not on record"):
        restep_job(jobs.runtime, "job", step)
    assert jobs.store.load("job").status is JobStatus.INTERVENTION_REQUIRED


def test_rerun_begins_from_the_baseline_with_the_whole_budget(jobs: Jobs) -> None:
    jobs.create(worker='echo "$LOGIST_STEP $LOGIST_TURN" > work.txt')
    first = jobs.run_to(ExitCode.SUCCESS)
    after = rerun_job(jobs.runtime, "job")
    assert (after.status, after.head, after.line, after.spent.steps) == (JobStatus.PENDING, after.baseline, 2, 0)
    assert not (jobs.workspace() / "work.txt").exists()
    jobs.run_to(ExitCode.SUCCESS)
    assert jobs.git("show", "logist/job:work.txt") == "3 1\n"
    assert jobs.evidence_steps() == [3, 4]
    assert [jobs.git("rev-parse", ref).strip() for ref in refs(jobs, "refs/logist/dropped")] == [first.head]


def test_restep_takes_one_step_again(jobs: Jobs) -> None:
    jobs.create(worker='echo "$LOGIST_STEP" > work.txt', supervisor="true")
    jobs.run_to(ExitCode.SUCCESS)
    after = restep_job(jobs.runtime, "job", 2)
    assert (after.status, after.next_role) == (JobStatus.PENDING, Role.SUPERVISOR)
    jobs.run_to(ExitCode.SUCCESS)
    assert jobs.evidence_steps() == [1, 3]
    after = restep_job(jobs.runtime, "job", 1)
    assert (after.next_role, after.head) == (Role.WORKER, after.baseline)


def test_cancel_is_for_good_until_the_job_is_reopened(jobs: Jobs) -> None:
    stuck_job(jobs)
    assert resolve_cancel(jobs.runtime, "job", "no").status is JobStatus.CANCELED
    with pytest.raises(WrongState):
        jobs.run()
    with pytest.raises(WrongState):
        cancel_job(jobs.runtime, "job", "again")
    assert rerun_job(jobs.runtime, "job").status is JobStatus.PENDING


@pytest.mark.parametrize("decide", [resolve_retry, resolve_approve, resolve_continue, resolve_cancel])
def test_a_decision_in_the_wrong_state_says_what_is_possible(jobs: Jobs, decide: object) -> None:
    jobs.create()
    jobs.run_to(ExitCode.SUCCESS)
    before = jobs.store.load("job")
    with pytest.raises(WrongState) as refused:
        decide(jobs.runtime, "job", "m")  # type: ignore[operator]
    assert refused.value.exit_code is ExitCode.WRONG_STATE
    assert "logist job rerun job" in refused.value.hint
    assert jobs.store.load("job") == before


# --- other players -------------------------------------------------------------------------------------------------


def told(jobs: Jobs) -> str:
    """The last record in words, as `job history` prints it."""
    [*_, entry] = jobs.store.history("job")
    [*_, row] = history_lines([entry], None)
    return "".join(span.text for span in row)


def test_another_worker_takes_the_step_that_the_first_one_could_not(jobs: Jobs) -> None:
    jobs.create(worker="exit 1", supervisor=say("COMPLETED"))
    jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    jobs.config = Config(roles=Roles(worker=RoleSettings(timeout=60.0, max_wait=5.0)), env=("KEPT",))
    resolve_retry(jobs.runtime, "job", "", players=Players(worker="command:echo $LOGIST_TURN > work.txt"))

    roles = jobs.store.load("job").job.roles
    made = RoleSettings(
        agent="command", argument="echo $LOGIST_TURN > work.txt", timeout=60.0, max_wait=5.0, env=("KEPT",)
    )
    assert (roles.worker, roles.supervisor.argument) == (made, say("COMPLETED"))
    said = jobs.records()[-1]
    assert isinstance(said, Resolution)
    [changed] = said.role_changes
    assert (changed.role, changed.before.argument, changed.after) == (Role.WORKER, "exit 1", made)
    assert "worker: argument exit 1 → echo $LOGIST_TURN > work.txt, timeout 30m → 1m" in told(jobs)
    assert build_report(jobs.store, "job").roles[Role.WORKER] == made
    jobs.run_to(ExitCode.SUCCESS)
    # It is another player: this was its first turn.
    assert jobs.git("show", "logist/job:work.txt") == "1\n"


def test_a_playbook_stands_in_for_the_supervisor(jobs: Jobs, tmp_path: Path) -> None:
    stuck_job(jobs)
    playbook = tmp_path / "judge.toml"
    playbook.write_text('[[supervisor]]\naction = "COMPLETED"\nsummary = "as scripted"\n', encoding="utf-8")
    add_budget(jobs.runtime, "job", BudgetIncrease(steps=3), players=Players(supervisor=f"playbook:{playbook}"))
    manifest = jobs.run_to(ExitCode.SUCCESS)
    assert manifest.supervisor is not None
    assert (manifest.supervisor.summary, manifest.budget.steps) == ("as scripted", 33)


def test_hand_edits_and_the_next_judge_are_one_record(jobs: Jobs) -> None:
    stuck_job(jobs)
    (jobs.workspace() / "work.txt").write_text("by hand\n")
    resolve_continue(jobs.runtime, "job", "I chose", players=Players(supervisor="command:true"))
    assert jobs.store.load("job").job.roles.supervisor.argument == "true"
    last = jobs.records()[-1]
    assert isinstance(last, Committed)
    assert [changed.role for changed in last.role_changes] == [Role.SUPERVISOR]
    assert "I chose; supervisor: argument " in told(jobs)
    jobs.run_to(ExitCode.SUCCESS)


@pytest.mark.parametrize(
    "go_back", [lambda runtime: rerun_job(runtime, "job"), lambda runtime: restep_job(runtime, "job", 1)]
)
def test_going_back_brings_no_former_player_back(jobs: Jobs, go_back: Callable[[Runtime], object]) -> None:
    stuck_job(jobs)
    resolve_rewind(jobs.runtime, "job", 1, players=Players(supervisor="command:exit 0"))
    assert jobs.store.load("job").job.roles.supervisor.argument == "exit 0"
    go_back(jobs.runtime)
    assert jobs.store.load("job").job.roles.supervisor.argument == "exit 0"


@pytest.mark.parametrize(
    ("players", "refused"),
    [
        (Players(worker="nobody"), AgentUnavailable),
        (Players(worker="playbook:/nowhere.toml"), AgentUnavailable),
        (Players(supervisor="Not a name"), UsageProblem),
        (Players(worker="command:true", supervisor="command:"), UsageProblem),
    ],
)
def test_a_player_that_can_not_play_changes_nothing(jobs: Jobs, players: Players, refused: type[LogistError]) -> None:
    stuck_job(jobs)
    (jobs.workspace() / "work.txt").write_text("by hand\n")
    history = jobs.store.paths("job").history.read_bytes()
    for answer in (
        lambda: resolve_retry(jobs.runtime, "job", "", players=players),
        lambda: resolve_continue(jobs.runtime, "job", "", players=players),
        lambda: resolve_rewind(jobs.runtime, "job", 0, players=players),
        lambda: add_budget(jobs.runtime, "job", BudgetIncrease(steps=1), players=players),
    ):
        with pytest.raises(refused):
            answer()
    assert jobs.store.paths("job").history.read_bytes() == history


def test_a_decision_that_died_before_its_manifest_is_whole(jobs: Jobs) -> None:
    stuck_job(jobs)
    before = jobs.store.paths("job").manifest.read_bytes()
    resolve_retry(jobs.runtime, "job", "", BudgetIncrease(steps=1), Players(supervisor="command:true"))
    jobs.store.paths("job").manifest.write_bytes(before)
    manifest = jobs.store.load("job")
    assert (manifest.status, manifest.budget.steps) == (JobStatus.PENDING, 31)
    assert manifest.job.roles.supervisor.argument == "true"
    jobs.run_to(ExitCode.SUCCESS)


# --- deliveries ----------------------------------------------------------------------------------------------------


def in_repo(repo: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(repo), *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def done(jobs: Jobs, source_repo: Path) -> Jobs:
    jobs.create(worker="echo more >> README.md", source=SourceRequest(SourceKind.GIT, source_repo))
    jobs.run_to(ExitCode.SUCCESS)
    return jobs


def test_a_branch_is_delivered_and_nothing_else_changes(done: Jobs, source_repo: Path) -> None:
    head = in_repo(source_repo, "rev-parse", "HEAD")
    config = (source_repo / ".git" / "config").read_bytes()
    assert deliver_branch(done.runtime, "job") == "logist/job"
    assert in_repo(source_repo, "rev-parse", "logist/job").strip() == done.store.load("job").head
    assert in_repo(source_repo, "rev-parse", "HEAD") == head
    assert in_repo(source_repo, "status", "--porcelain") == ""
    assert (source_repo / ".git" / "config").read_bytes() == config
    assert not (source_repo / ".git" / "FETCH_HEAD").exists()
    deliver_branch(done.runtime, "job")


def test_a_branch_that_holds_other_work_is_not_overwritten(done: Jobs, source_repo: Path) -> None:
    in_repo(source_repo, "branch", "taken")
    before = in_repo(source_repo, "rev-parse", "taken")
    with pytest.raises(LogistError):
        deliver_branch(done.runtime, "job", branch="taken")
    with pytest.raises(LogistError):
        deliver_branch(done.runtime, "job", branch=in_repo(source_repo, "branch", "--show-current").strip())
    assert in_repo(source_repo, "rev-parse", "taken") == before


def test_a_patch_applies_to_the_source(done: Jobs, source_repo: Path, tmp_path: Path) -> None:
    patch = deliver_patch(done.runtime, "job", tmp_path / "work.patch")
    in_repo(source_repo, "am", "-q", str(patch))
    assert (source_repo / "README.md").read_text().endswith("more\n")
    with pytest.raises(LogistError):
        deliver_patch(done.runtime, "job", patch)


def test_a_bundle_can_be_fetched(done: Jobs, source_repo: Path, tmp_path: Path) -> None:
    bundle = deliver_bundle(done.runtime, "job", tmp_path / "work.bundle")
    in_repo(source_repo, "fetch", "-q", str(bundle), "logist/job:from-bundle")
    assert in_repo(source_repo, "rev-parse", "from-bundle").strip() == done.store.load("job").head


def test_the_branch_that_a_job_began_at_is_not_said_to_hold_other_work(done: Jobs) -> None:
    with pytest.raises(WrongState, match="has a branch main already, and it does not end with this job's work"):
        deliver_branch(done.runtime, "job", branch="main")


def test_work_that_was_not_agreed_on_is_only_delivered_by_force(jobs: Jobs, source_repo: Path, tmp_path: Path) -> None:
    stuck_job(jobs, source=SourceRequest(SourceKind.GIT, source_repo))
    with pytest.raises(WrongState, match="not SUCCESS"):
        deliver_patch(jobs.runtime, "job", tmp_path / "work.patch")
    assert deliver_patch(jobs.runtime, "job", tmp_path / "work.patch", force=True).exists()


def test_a_job_without_a_source_says_how_it_can_be_delivered(jobs: Jobs, tmp_path: Path) -> None:
    jobs.create(worker="echo x > work.txt")
    jobs.run_to(ExitCode.SUCCESS)
    with pytest.raises(UsageProblem) as refused:
        deliver_branch(jobs.runtime, "job")
    assert "--to" in refused.value.hint
    target = tmp_path / "empty"
    subprocess.run(["git", "init", "-q", str(target)], check=True)
    assert deliver_branch(jobs.runtime, "job", to=target) == "logist/job"


def test_a_patch_carries_the_judged_tree_and_nothing_that_an_agent_quoted(
    jobs: Jobs, source_repo: Path, tmp_path: Path
) -> None:
    quoted = (
        "From: Somebody <else@example.invalid>\n\nI did this:\n---\n"
        "diff --git a/evil.txt b/evil.txt\nnew file mode 100644\n--- /dev/null\n+++ b/evil.txt\n@@ -0,0 +1 @@\n+evil\n"
    )
    jobs.create(
        worker=f"echo more >> README.md; {say('COMPLETED', quoted)}", source=SourceRequest(SourceKind.GIT, source_repo)
    )
    jobs.run_to(ExitCode.SUCCESS)
    in_repo(source_repo, "am", "-q", str(deliver_patch(jobs.runtime, "job", tmp_path / "work.patch")))
    assert in_repo(source_repo, "rev-parse", "HEAD^{tree}").strip() == jobs.store.load("job").tree
    assert in_repo(source_repo, "log", "-1", "--format=%an").strip() == "worker (command)"


def test_restep_goes_back_in_the_line_that_holds_the_step(jobs: Jobs) -> None:
    jobs.create(worker="echo x >> work.txt", supervisor=by_turn(say("RETRY"), say("COMPLETED")))
    jobs.run_to(ExitCode.SUCCESS, single_step=True)
    rerun_job(jobs.runtime, "job")
    jobs.run_to(ExitCode.SUCCESS)
    step = jobs.committed()[1].step
    assert restep_job(jobs.runtime, "job", step).head == jobs.store.load("job").baseline


def test_a_cancel_during_a_decisions_checks_cancels_and_leaves_no_request(jobs: Jobs) -> None:
    slow = Check(name="slow", command="! [ -e ../slow ]")
    stuck_job(jobs, checks=[slow])
    (jobs.workspace() / "work.txt").write_text("by hand\n")
    request(jobs.store.paths("job"), "cancel", "enough", jobs.clock.now())
    with pytest.raises(WrongState, match="canceled"):
        resolve_continue(jobs.runtime, "job", "")
    assert jobs.store.load("job").status is JobStatus.CANCELED
    rerun_job(jobs.runtime, "job")
    jobs.run_to(ExitCode.INTERVENTION_REQUIRED)


def test_a_message_that_is_too_long_is_refused_before_anything_changes(jobs: Jobs) -> None:
    stuck_job(jobs)
    with pytest.raises(UsageProblem, match="characters long"):
        resolve_retry(jobs.runtime, "job", "x" * 40_000)
    assert resolve_retry(jobs.runtime, "job", "odd \udcff \x1b[31m words").guidance == "odd ?  words"


def test_approving_before_the_last_phase_names_what_was_not_done(jobs: Jobs) -> None:
    stuck_job(jobs, phases=[Phase(name="plan"), Phase(name="build", checks=(Check(name="compiles", command="false"),))])
    after = resolve_approve(jobs.runtime, "job", "")
    assert "build" in after.reason.sentence
    assert "compiles" in after.reason.sentence
