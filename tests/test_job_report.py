"""Where a job stands and what can be done next: built from real jobs on disk."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from logist import decision
from logist.cli import cli
from logist.commands.invocation import Invocation
from logist.durations import parse_duration
from logist.job_creation import CreateRequest, create_job
from logist.job_list import list_rows
from logist.job_report import JobReport, build_report
from logist.job_state import JobStore, OpenJob, change
from logist.lifecycle import JobStatus, Trigger, allowed
from logist.models.history import Committed, Intent, Transition
from logist.models.manifest import (
    Budget,
    Check,
    CheckResult,
    JobDefinition,
    JobManifest,
    Judgement,
    Phase,
    Reason,
    ReasonCode,
    Role,
    Roles,
    RoleSettings,
    Source,
    SourceKind,
    Spent,
    Verdict,
)
from logist.models.usage import Usage
from logist.next_commands import next_commands
from logist.step_summaries import SHOWN_STEPS, recent_steps
from logist.testing import FakeClock
from logist.workspace_utils import CommitInfo, Workspace

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOSTILE = "\x1b]52;c;aGk=\x07\x1b[31mred\x1b[0m [/foo] \u202ereversed \x9b2J\r\x00end"


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / "jobs", FakeClock(NOW))


@pytest.fixture
def job(store: JobStore) -> str:
    """A job without a source, not run yet."""
    agents = Roles(worker=RoleSettings(agent="command", argument="true"), supervisor=RoleSettings(agent="playbook"))
    definition = JobDefinition(objective="Add the sum", roles=agents, checks=(Check(name="pytest", command="true"),))
    create_job(store, CreateRequest(job_id="sum", definition=definition), store.clock)
    return "sum"


def commit_step(job: OpenJob, text: str, *, action: Verdict = Verdict.COMPLETED, role: Role = Role.WORKER) -> str:
    """Record one step with a real commit, as a run does."""
    manifest = job.manifest
    step = manifest.step + 1
    with closing(Workspace(job.paths.repo, job.paths.workspace, f"logist/{manifest.id}")) as workspace:
        (job.paths.workspace / "sum.txt").write_text(text, encoding="utf-8")
        tree = workspace.snapshot(manifest.head).tree
        commit = workspace.commit(tree, (manifest.head,), CommitInfo(author="worker", message="step\n", at=NOW))
    intent = Intent(step=step, attempt=1, role=role, phase="main", agent="claude", base=manifest.head, prompt_sha256="")
    job.record(intent)
    said = Judgement(step=step, action=action, summary=text, tree=tree, agent="claude")
    job.record(
        Committed(
            step=step,
            role=role,
            agent="claude",
            action=action,
            summary=text,
            phase="main",
            trigger=Trigger.PROCEED,
            reason=manifest.reason,
            commit=commit,
            tree=tree,
            files_changed=1,
            duration=2.5,
            usage=Usage(cost=0.25, input_tokens=10),
            change=change(step=step, head=commit, tree=tree, **{role.value: said}),
        )
    )
    return commit


def move(job: OpenJob, status: JobStatus, code: ReasonCode, **fields: object) -> None:
    """Record a change of state without a step."""
    reason = Reason(code=code, sentence="because")
    changed = change(status=status, reason=reason, **fields)
    job.record(Transition(trigger=Trigger.START, reason=reason, change=changed))


def first_command(report: JobReport) -> str:
    return report.next_commands[0].command


def test_a_new_job_suggests_to_run_it_and_says_who_is_scripted(store: JobStore, job: str) -> None:
    report = build_report(store, job, workspace=False)

    assert (report.status, report.headline, report.step, report.steps) == (JobStatus.PENDING, "PENDING", 0, ())
    assert [command.command for command in report.next_commands] == [
        "logist job run sum",
        "logist job step sum",
        "logist job preview sum",
        'logist job cancel sum -m "why"',
    ]
    assert [command.suggested for command in report.next_commands] == [True, False, False, False]
    assert report.next_commands[1].result is JobStatus.PENDING
    assert (report.scripted, report.note) == (
        (Role.SUPERVISOR,),
        "the supervisor replays a playbook: scripted, no model is asked",
    )
    assert report.runner is None
    assert report.changes is None
    assert report.exit_code == 143


def test_a_running_job_names_its_runner(store: JobStore, job: str) -> None:
    with store.open(job, command="run") as opened:
        move(opened, JobStatus.RUNNING, ReasonCode.RUNNER_STARTED)
        report = build_report(store, job, workspace=False)

    assert report.runner is not None
    assert (report.runner.pid, report.runner.alive, report.runner.command) == (os.getpid(), True, "run")
    assert report.headline == "RUNNING"
    assert [command.command for command in report.next_commands][1] == "logist job pause sum"
    assert report.exit_code == 75


def test_a_running_job_without_a_held_lease_has_lost_its_runner(store: JobStore, job: str) -> None:
    with store.open(job, command="run") as opened:
        move(opened, JobStatus.RUNNING, ReasonCode.RUNNER_STARTED)

    report = build_report(store, job, workspace=False)

    assert report.headline == "RUNNING (its runner died; `logist job run sum` recovers it)"
    assert (report.runner, report.exit_code) == (None, 143)
    assert first_command(report) == "logist job run sum"


def test_steps_show_who_said_what_at_which_cost(store: JobStore, job: str) -> None:
    with store.open(job, command="run") as opened:
        first = commit_step(opened, "1\n")
        commit_step(opened, "2\n", role=Role.SUPERVISOR, action=Verdict.RETRY)

    report = build_report(store, job, workspace=False)

    assert [(step.step, step.role, step.action, step.summary) for step in report.steps] == [
        (1, Role.WORKER, Verdict.COMPLETED, "1\n"),
        (2, Role.SUPERVISOR, Verdict.RETRY, "2\n"),
    ]
    worker = report.steps[0]
    assert (worker.commit, worker.cost, worker.tokens, worker.duration) == (first, 0.25, 10, 2.5)
    assert report.supervisor is not None
    assert (report.supervisor.step, report.supervisor.text) == (2, "2\n")


def test_what_the_supervisor_said_last_is_kept_when_new_work_voids_its_verdict(store: JobStore, job: str) -> None:
    with store.open(job, command="run") as opened:
        commit_step(opened, "an objection", role=Role.SUPERVISOR, action=Verdict.RETRY)
        commit_step(opened, "work")
        move(opened, JobStatus.INTERVENTION_REQUIRED, ReasonCode.RETRIES_EXHAUSTED, supervisor=None)

    report = build_report(store, job, workspace=False)

    assert report.supervisor is not None
    assert report.supervisor.text == "an objection"


def test_steps_that_a_rewind_left_behind_are_not_the_jobs_present(store: JobStore, job: str) -> None:
    with store.open(job, command="run") as opened:
        first = commit_step(opened, "1\n")
        commit_step(opened, "2\n")
        commit_step(opened, "3\n")
        move(opened, JobStatus.PENDING, ReasonCode.REOPENED, head=first)
        after_rewind = build_report(store, job, workspace=False)
        commit_step(opened, "4\n")
        head = opened.manifest.head

    everything = recent_steps(store.paths(job), head, limit=None)

    assert [step.step for step in after_rewind.steps] == [1]
    assert [step.step for step in build_report(store, job, workspace=False).steps] == [1, 4]
    assert [(step.step, step.dropped) for step in everything] == [(1, False), (2, True), (3, True), (4, False)]


def test_after_a_rerun_no_step_is_the_jobs_present(store: JobStore, job: str) -> None:
    with store.open(job, command="run") as opened:
        baseline = opened.manifest.baseline
        commit_step(opened, "1\n")
        move(opened, JobStatus.PENDING, ReasonCode.REOPENED, head=baseline)

    assert build_report(store, job, workspace=False).steps == ()


def test_a_rewind_goes_to_the_step_before_the_last_work(store: JobStore, job: str) -> None:
    with store.open(job, command="run") as opened:
        commit_step(opened, "1\n")
        commit_step(opened, "2\n", role=Role.SUPERVISOR, action=Verdict.RETRY)
        commit_step(opened, "3\n")
        commit_step(opened, "4\n", role=Role.SUPERVISOR, action=Verdict.STUCK)
        move(opened, JobStatus.INTERVENTION_REQUIRED, ReasonCode.SUPERVISOR_STUCK)

    commands = {command.command: command.explanation for command in build_report(store, job).next_commands}

    assert commands["logist job resolve sum --rewind 2"] == "drop steps 3–4 (kept as a ref)"


def test_only_the_end_of_a_long_history_is_read(store: JobStore, job: str) -> None:
    with store.open(job, command="run") as opened:
        for number in range(SHOWN_STEPS + 4):
            commit_step(opened, f"{number}" * 2000)
        head = opened.manifest.head
    history = store.paths(job).history
    lines = history.read_bytes().split(b"\n")
    history.write_bytes(b"\n".join([b"#" * len(lines[0]), *lines[1:]]))

    steps = recent_steps(store.paths(job), head)

    assert [step.step for step in steps] == list(range(5, SHOWN_STEPS + 5))


def test_the_changes_are_read_from_the_repository_when_asked(store: JobStore, job: str) -> None:
    with store.open(job, command="run") as opened:
        commit_step(opened, "one\ntwo\n")

    report = build_report(store, job)

    assert report.changes is not None
    assert [(file.path, file.kind, file.added, file.deleted) for file in report.changes] == [("sum.txt", "A", 2, 0)]


def test_the_log_of_the_newest_attempt_is_shown_at_its_end_without_tricks(store: JobStore, job: str) -> None:
    steps = store.paths(job).steps
    for name in ("0001-worker", "0001-worker.2", "0001-worker.10"):
        (steps / name).mkdir(parents=True)
        (steps / name / "stdout.log").write_bytes(b"first\n" * 2000 + f"{name} {HOSTILE}\n\n\nlast".encode())

    report = build_report(store, job, workspace=False)

    assert report.log_tail == ("0001-worker.10 red [/foo] reversed", "end", "last")
    assert report.places.logs == (str(steps / "0001-worker.10" / "stdout.log"),)


def test_json_holds_the_whole_report_and_nothing_that_a_terminal_obeys(store: JobStore, job: str) -> None:
    with store.open(job, command="run") as opened:
        commit_step(opened, HOSTILE, role=Role.SUPERVISOR, action=Verdict.STUCK)
        move(opened, JobStatus.INTERVENTION_REQUIRED, ReasonCode.SUPERVISOR_STUCK, objections=HOSTILE)

    written = json.dumps(build_report(store, job).to_json(), ensure_ascii=False)
    read = json.loads(written)

    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in written)
    assert "\\u001b" not in written
    assert "\u202e" not in written
    assert read["supervisor"]["text"] == "red [/foo] reversed \nend"
    assert read["status"] == "INTERVENTION_REQUIRED"
    assert read["places"]["workspace"] == str(store.paths(job).workspace)
    assert read["next_commands"][0] == {
        "command": 'logist job resolve sum --retry -m "what to do differently"',
        "explanation": "guide and try again",
        "result": "PENDING",
        "suggested": True,
    }
    assert set(read) == set(JobReport.__dataclass_fields__)


def test_a_job_that_can_not_be_read_is_a_row_that_says_why(store: JobStore, job: str) -> None:
    definition = JobDefinition(objective="Another")
    create_job(store, CreateRequest(job_id="other", definition=definition), store.clock)
    store.select("other")
    store.paths("sum").manifest.write_text("{", encoding="utf-8")

    good, bad = list_rows(store)

    assert (good.id, good.selected, good.status, good.objective) == ("other", True, JobStatus.PENDING, "Another")
    assert (bad.id, bad.selected, bad.status) == ("sum", False, None)
    assert "job_manifest.json" in bad.problem


def test_a_row_of_a_running_job_says_whether_its_runner_lives(store: JobStore, job: str) -> None:
    with store.open(job, command="run") as opened:
        move(opened, JobStatus.RUNNING, ReasonCode.RUNNER_STARTED)
        [held] = list_rows(store)
    [free] = list_rows(store)

    assert held.headline == "RUNNING"
    assert free.headline == "RUNNING (its runner died; `logist job run sum` recovers it)"


def test_a_report_without_the_changes_loads_nothing_heavy(store: JobStore, job: str) -> None:
    code = (
        "import sys; from pathlib import Path; from logist.clock import SystemClock;"
        "from logist.job_state import JobStore; from logist.job_report import build_report;"
        "from logist.console.card import card_lines;"
        f"card_lines(build_report(JobStore(Path({str(store.jobs_dir)!r}), SystemClock()), 'sum', workspace=False));"
        "print(sorted({'git', 'rich', 'jinja2', 'transitions', 'psutil', 'tenacity'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


# --- Next commands -------------------------------------------------------------------------------------------------


def manifest(status: JobStatus, code: ReasonCode, **fields: object) -> JobManifest:
    """A manifest at step 4, with the given fields."""
    known: dict[str, object] = {
        "id": "sum",
        "seq": 9,
        "created_at": NOW,
        "updated_at": NOW,
        "job": JobDefinition(objective="Add the sum"),
        "source": Source(),
        "seed": "x",
        "status": status,
        "reason": Reason(code=code, sentence="because"),
        "budget": Budget(),
        "step": 4,
        "baseline": "a" * 40,
        "head": "b" * 40,
        "tree": "c" * 40,
    }
    return JobManifest(**{**known, **fields})


def lines_of(job: JobManifest, **known: int) -> tuple[str, ...]:
    """The commands that are offered, as lines to paste."""
    return tuple(command.command for command in next_commands(job, **known))


def parsed(line: str) -> click.Context:
    """`line` as the real command line reads it; a usage error is raised."""
    program, *arguments = shlex.split(line)
    assert program == "logist"
    context = cli.make_context("logist", arguments, obj=Invocation())
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, rest, parent=context)
    return context


def every_offer() -> Iterator[JobManifest]:
    red = CheckResult(name="pytest", required=True, passed=False, exit_code=1, duration=1.0)
    spent = Spent(steps=30, time=60.0, cost=1.0, retries=3)
    budget = Budget(steps=30, time=60.0, cost=1.0)
    for code in ReasonCode:
        yield manifest(JobStatus.INTERVENTION_REQUIRED, code, budget=budget, spent=spent)
        yield manifest(JobStatus.INTERVENTION_REQUIRED, code, checks=(red,))
    repository = Source(kind=SourceKind.GIT, path="/src", commit="a" * 40)
    yield manifest(JobStatus.SUCCESS, ReasonCode.AGREED)
    yield manifest(JobStatus.SUCCESS, ReasonCode.AGREED, source=repository)
    yield manifest(JobStatus.CANCELED, ReasonCode.CANCELED)
    yield manifest(JobStatus.CANCELED, ReasonCode.CANCELED, step=0)
    yield manifest(JobStatus.PENDING, ReasonCode.CREATED, step=0)
    yield manifest(JobStatus.RUNNING, ReasonCode.RUNNER_STARTED)


@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.parametrize("job", list(every_offer()), ids=lambda job: f"{job.status}-{job.reason.code}")
def test_every_command_that_is_offered_is_one_that_the_command_line_takes(job: JobManifest, alive: bool) -> None:
    commands = next_commands(job, runner_alive=alive, rewind_to=2, last_step=job.step)

    for command in commands:
        assert parsed(command.command).params["job"] == "sum"
    assert [command.suggested for command in commands] == [True] + [False] * (len(commands) - 1)
    assert len({command.command for command in commands}) == len(commands) >= 1


@pytest.mark.parametrize("status", JobStatus)
def test_only_what_the_state_allows_is_offered(status: JobStatus) -> None:
    code = ReasonCode.SUPERVISOR_STUCK if status is JobStatus.INTERVENTION_REQUIRED else ReasonCode.RESOLVED
    lines = " ".join(lines_of(manifest(status, code), last_step=4))

    assert ("cancel" in lines) == (Trigger.CANCEL in allowed(status))
    assert ("--retry" in lines) == (Trigger.RESOLVE in allowed(status))
    assert ("--approve" in lines) == (Trigger.APPROVE in allowed(status))
    assert ("logist job run " in lines) == (Trigger.START in allowed(status))
    assert ("logist job rerun sum" in lines) == (Trigger.REOPEN in allowed(status))
    assert ("logist job restep sum --step 4" in lines) == (Trigger.REOPEN in allowed(status))


def test_a_canceled_job_without_a_step_in_its_line_suggests_rerun(store: JobStore, job: str) -> None:
    with store.open(job, command="run") as opened:
        baseline = opened.manifest.baseline
        commit_step(opened, "1\n")
        move(opened, JobStatus.CANCELED, ReasonCode.CANCELED)
        assert first_command(build_report(store, job, workspace=False)) == "logist job restep sum --step 1"
        move(opened, JobStatus.CANCELED, ReasonCode.CANCELED, head=baseline, worker=None)

    report = build_report(store, job, workspace=False)
    assert first_command(report) == "logist job rerun sum"
    assert not any("restep" in command.command for command in report.next_commands)


def test_approving_in_an_earlier_phase_says_what_is_skipped() -> None:
    phases = (Phase(name="one"), Phase(name="two"), Phase(name="three"))
    definition = JobDefinition(objective="x", phases=phases)
    stuck = manifest(JobStatus.INTERVENTION_REQUIRED, ReasonCode.WORKER_STUCK, job=definition)
    told = {command.command: command.explanation for command in next_commands(stuck)}
    assert told["logist job resolve sum --approve"] == "take the work as it is; skips the later phases two, three"


def test_approval_is_suggested_where_it_is_asked_for() -> None:
    job = manifest(JobStatus.INTERVENTION_REQUIRED, ReasonCode.APPROVAL_REQUIRED)

    assert lines_of(job)[0] == "logist job resolve sum --approve"


def test_approving_red_or_missing_checks_takes_an_override_and_a_reason() -> None:
    override = 'logist job resolve sum --approve --override-checks -m "why"'
    red = CheckResult(name="pytest", required=True, passed=False, exit_code=1, duration=1.0)
    checked = JobDefinition(objective="Add", checks=(Check(name="pytest", command="true"),))
    stuck = (JobStatus.INTERVENTION_REQUIRED, ReasonCode.WORKER_STUCK)

    assert override in lines_of(manifest(*stuck, checks=(red,)))
    assert override in lines_of(manifest(*stuck, job=checked))
    assert override not in lines_of(manifest(*stuck, job=checked, checked_tree="c" * 40))


positive = st.floats(0.01, 1e6, allow_nan=False)


@given(
    code=st.sampled_from([ReasonCode.BUDGET_STEPS, ReasonCode.BUDGET_TIME, ReasonCode.BUDGET_COST]),
    limit=positive,
    over=st.floats(0, 3.0),
)
@example(code=ReasonCode.BUDGET_COST, limit=0.01, over=1.0)
def test_the_suggested_raise_of_a_spent_budget_lets_the_job_go_on(code: ReasonCode, limit: float, over: float) -> None:
    steps = max(1, round(limit))
    budget = {
        ReasonCode.BUDGET_STEPS: Budget(steps=steps),
        ReasonCode.BUDGET_TIME: Budget(steps=None, time=limit),
        ReasonCode.BUDGET_COST: Budget(steps=None, cost=limit),
    }[code]
    used = Spent(steps=round(steps * (1 + over)), time=limit * (1 + over), cost=limit * (1 + over))
    job = manifest(JobStatus.INTERVENTION_REQUIRED, code, budget=budget, spent=used)
    assert decision.spent_budget(job) is not None

    *_, option, value = shlex.split(lines_of(job)[0])
    name = option.removeprefix("--add-")
    added = parse_duration(value) if name == "time" else float(value)
    raised = budget.model_copy(update={name: getattr(budget, name) + added})

    assert decision.spent_budget(job.model_copy(update={"budget": raised})) is None
    retried = [line for line in lines_of(job) if "--retry" in line or "--continue" in line]
    assert len(retried) == 2
    assert all(f"{option} {value}" in line for line in retried)
