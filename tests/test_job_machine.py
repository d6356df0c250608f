"""Whole jobs under any sequence of steps, stops, crashes and human decisions: what must hold at every moment.

Real journal, real git, real workspace; only the agents' words come from hypothesis, through the shipped fake adapter.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from jobs import Jobs

from logist import decision
from logist.errors import ExitCode, WrongState
from logist.execution import Command, CommandResult
from logist.interventions import (
    BudgetIncrease,
    add_budget,
    cancel_job,
    rerun_job,
    resolve_approve,
    resolve_continue,
    resolve_retry,
    resolve_rewind,
    restep_job,
)
from logist.lifecycle import EDGES, JobStatus, Trigger
from logist.models.history import Committed, Created, Resolution, Transition
from logist.models.manifest import Budget, Check, JobManifest, Phase, ReasonCode, Role, Verdict
from logist.testing import FakeClock, ScriptedAdapter, exited

WAITING = JobStatus.INTERVENTION_REQUIRED
MOVES = (Committed, Transition, Resolution)

words = st.sampled_from(["COMPLETED", "COMPLETED", "COMPLETED", "RETRY", "STUCK", "gibberish", "busy"])
texts = st.sampled_from(["a", "b", "right"])


class Crash(BaseException):
    """The runner is gone: nothing after this is executed, as with kill -9."""


class WholeJobs(RuleBasedStateMachine):
    """One job, driven by everything that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="logist-machine-"))
        self.adapter = ScriptedAdapter()
        self.jobs = Jobs(self.folder, adapter=self.adapter, clock=FakeClock())

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize(phases=st.integers(1, 2), retries=st.integers(0, 2), steps=st.integers(3, 8), check=st.booleans())
    def create(self, phases: int, retries: int, steps: int, check: bool) -> None:
        self.jobs.create(
            phases=[Phase(name=f"phase {number}") for number in range(1, phases + 1)],
            budget=Budget(steps=steps, retries=retries),
            checks=[Check(name="right", command="the check")] if check else [],
        )

    @property
    def manifest(self) -> JobManifest:
        return self.jobs.store.load("job")

    @property
    def status(self) -> JobStatus:
        return self.manifest.status

    def answer(self, word: str, text: str) -> Callable[[Command], CommandResult]:
        """What the agent or check of the next command does."""

        def act(command: Command) -> CommandResult:
            if command.shell == "the check":
                held = (command.cwd / "work.txt").read_text() if (command.cwd / "work.txt").exists() else ""
                return exited(0 if held == "right" else 1)
            if word == "busy":
                return exited(75)
            if command.env["LOGIST_ROLE"] == "worker":
                (command.cwd / "work.txt").write_text(text)
            reply = {"action": word, "summary_for_supervisor": text, "token": command.env["LOGIST_STEP_TOKEN"]}
            written = json.dumps(reply) if word != "gibberish" else "gibberish"
            Path(command.env["LOGIST_REPLY_FILE"]).write_text(written)
            return exited()

        return act

    def script(self, word: str, text: str) -> None:
        # More answers than a run can ask for; what is left over is dropped.
        self.adapter.then(*[self.answer(word, text)] * 60)

    def drop_script(self) -> None:
        self.adapter._answers.clear()

    @precondition(lambda self: self.status is JobStatus.PENDING)
    @rule(word=words, text=texts, single=st.booleans())
    def run(self, word: str, text: str, single: bool) -> None:
        self.script(word, text)
        result = self.jobs.run(single_step=single)
        self.drop_script()
        expected = {
            JobStatus.SUCCESS: ExitCode.SUCCESS,
            WAITING: ExitCode.INTERVENTION_REQUIRED,
            JobStatus.PENDING: ExitCode.SUCCESS,
        }
        assert result.exit_code is expected[result.manifest.status]
        if not single:
            assert result.manifest.status is not JobStatus.PENDING

    @precondition(lambda self: self.status is JobStatus.PENDING)
    @rule(word=words, text=texts, at=st.integers(0, 6))
    def run_and_die(self, word: str, text: str, at: int) -> None:
        """The runner dies in the middle of its command number `at`, its files half written."""

        def die(command: Command) -> CommandResult:
            (command.cwd / "half.txt").write_text("half")
            raise Crash

        self.adapter.then(*[self.answer(word, text)] * at, die, *[self.answer(word, text)] * 60)
        try:
            self.jobs.run()
        except Crash:
            assert self.status is JobStatus.RUNNING
            self.drop_script()
            self.script(word, text)
            self.jobs.run()
        self.drop_script()

    @precondition(lambda self: self.status is WAITING)
    @rule(message=texts, add=st.integers(0, 2))
    def retry(self, message: str, add: int) -> None:
        try:
            after = resolve_retry(self.jobs.runtime, "job", message, BudgetIncrease(steps=add))
        except WrongState:
            assert self.manifest.reason.code is ReasonCode.BUDGET_STEPS or add == 0
            assert self.status is WAITING
            return
        assert (after.status, after.guidance, after.spent.retries) == (JobStatus.PENDING, message, 0)

    @precondition(lambda self: self.status is WAITING)
    @rule()
    def raise_budget(self) -> None:
        before = self.manifest.budget
        after = add_budget(self.jobs.runtime, "job", BudgetIncrease(steps=5, retries=1))
        assert after.status is JobStatus.PENDING
        assert (after.budget.steps, after.budget.retries) == ((before.steps or 0) + 5, before.retries + 1)

    @precondition(lambda self: self.status is WAITING)
    @rule(text=texts)
    def edit_and_continue(self, text: str) -> None:
        workspace = self.jobs.workspace()
        (workspace / "by-hand.txt").write_text(text + str(self.manifest.step))
        step = self.manifest.step
        self.script("COMPLETED", text)
        try:
            after = resolve_continue(self.jobs.runtime, "job", "edited", BudgetIncrease(steps=3))
        finally:
            self.drop_script()
        assert (after.status, after.step) == (JobStatus.PENDING, step + 1)

    @precondition(lambda self: self.status is WAITING)
    @rule()
    def approve(self) -> None:
        after = resolve_approve(self.jobs.runtime, "job", "good enough", override_checks=True)
        assert after.status is JobStatus.SUCCESS

    @precondition(lambda self: self.status is WAITING and self.manifest.step > 0)
    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        steps = [record.step for record in self.jobs.committed()]
        step = data.draw(st.sampled_from([0, *steps]))
        wanted = {record.step: record.tree for record in self.jobs.committed()}
        after = resolve_rewind(self.jobs.runtime, "job", step, increase=BudgetIncrease(steps=20))
        assert after.status is JobStatus.PENDING
        if step:
            assert after.tree == wanted[step]

    @precondition(lambda self: self.status is not JobStatus.RUNNING and self.manifest.step > 0)
    @rule()
    def rerun(self) -> None:
        line = self.manifest.line
        after = rerun_job(self.jobs.runtime, "job")
        assert (after.status, after.head, after.line) == (JobStatus.PENDING, after.baseline, line + 1)
        assert after.spent.steps == 0

    @precondition(lambda self: self.status is not JobStatus.RUNNING and self.manifest.step > 0)
    @rule(data=st.data())
    def restep(self, data: st.DataObject) -> None:
        steps = [record.step for record in self.jobs.committed() if record.role is not Role.HUMAN]
        if steps:
            restep_job(self.jobs.runtime, "job", data.draw(st.sampled_from(steps)))
            assert self.status is JobStatus.PENDING

    @precondition(lambda self: self.status in (JobStatus.PENDING, WAITING))
    @rule()
    def cancel(self) -> None:
        assert cancel_job(self.jobs.runtime, "job", "enough").status is JobStatus.CANCELED

    @precondition(lambda self: self.status in (JobStatus.SUCCESS, JobStatus.CANCELED, WAITING))
    @rule()
    def running_a_job_that_can_not_run_changes_nothing(self) -> None:
        before = self.manifest
        try:
            self.jobs.run()
        except WrongState:
            assert self.manifest == before
            return
        raise AssertionError("it ran")

    @invariant()
    def the_history_follows_the_state_table(self) -> None:
        status = JobStatus.PENDING
        for record in self.jobs.records():
            if isinstance(record, MOVES):
                edge = next(edge for edge in EDGES if edge.trigger is record.trigger and status in edge.sources)
                status = JobStatus(str(record.change.get("status", status)))
                assert status is edge.target, record
        assert status is self.status

    @invariant()
    def the_manifest_is_what_the_history_says(self) -> None:
        assert self.jobs.store.rebuild("job") == self.manifest

    @invariant()
    def every_finished_step_has_one_evidence_commit(self) -> None:
        committed = self.jobs.committed()
        numbers = [record.step for record in committed]
        assert numbers == sorted(set(numbers))
        assert len({record.commit for record in committed}) == len(committed)
        on_branch = self.jobs.evidence_steps()
        assert len(set(on_branch)) == len(on_branch)
        assert self.jobs.git("rev-parse", "logist/job").strip() == self.manifest.head

    @invariant()
    def success_is_agreed_or_approved(self) -> None:
        manifest = self.manifest
        if manifest.status is JobStatus.SUCCESS:
            approved = manifest.reason.code is ReasonCode.APPROVED
            assert approved or decision.agreed(manifest)
            if not approved:
                assert manifest.supervisor is not None
                assert manifest.supervisor.action is Verdict.COMPLETED

    @invariant()
    def nothing_half_done_is_in_the_evidence(self) -> None:
        assert "half.txt" not in self.jobs.git("ls-tree", "-r", "--name-only", "logist/job")

    @invariant()
    def at_rest_the_workspace_is_the_evidence(self) -> None:
        work = self.jobs.workspace() / "work.txt"
        listed = self.jobs.git("ls-tree", "-r", "--name-only", "logist/job").split()
        kept = any(type(record).__name__ == "AttemptFailed" for record in self.jobs.records()[-3:])
        if self.status in (JobStatus.SUCCESS, JobStatus.CANCELED) and not kept:
            assert work.exists() == ("work.txt" in listed)

    @invariant()
    def the_first_record_is_the_whole_manifest(self) -> None:
        first = self.jobs.records()[0]
        assert isinstance(first, Created)
        assert first.change["id"] == "job"
        assert Trigger.START.value not in first.change


TestWholeJobs = WholeJobs.TestCase
TestWholeJobs.settings = settings(
    max_examples=25, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
