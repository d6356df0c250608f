"""What an agent CLI's own account means for a job: sessions, repairs, waiting, and what only a human can mend."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jobs import by_turn, say
from stage import Stage, refused, result, staged

from logist import interventions
from logist.console.card import card_text
from logist.errors import ExitCode
from logist.events import AttemptFailed
from logist.job_report import build_report
from logist.models.config import Config
from logist.models.history import AttemptFailed as AttemptFailedRecord
from logist.models.history import Exited
from logist.models.manifest import Budget, Phase, ReasonCode, Role, Roles, RoleSettings, SourceKind
from logist.models.usage import Counted, Usage, latest, used_since
from logist.next_commands import next_commands
from logist.runtime import Runtime
from logist.turn_requests import step_token
from logist.workspace_creation import SourceRequest

CLAUDE = RoleSettings(agent="claude")
DONE = {"action": "COMPLETED"}
SAYS_DONE = '```json\n{"action": "COMPLETED", "summary_for_supervisor": "done"}\n```'


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with staged(tmp_path, monkeypatch) as ready:
        yield ready


def test_a_worker_that_is_asked_again_goes_on_in_its_session(stage: Stage) -> None:
    stage.plays({"events": [result()], "reply": DONE})
    objects = by_turn(say("RETRY", "add a test"), say("COMPLETED"))
    stage.jobs.create(worker=CLAUDE, supervisor=objects)
    manifest = stage.jobs.run_to(ExitCode.SUCCESS)
    first, second = stage.calls
    assert "--resume" not in first["argv"]
    assert second["argv"][second["argv"].index("--resume") + 1] == "s-1"
    assert "add a test" in second["prompt"]
    assert "Do it well" in second["prompt"]
    assert manifest.sessions[Role.WORKER].id == "s-1"


def test_a_fresh_session_is_begun_where_that_is_asked_for(stage: Stage) -> None:
    stage.plays({"events": [result()], "reply": DONE})
    objects = by_turn(say("RETRY", "add a test"), say("COMPLETED"))
    stage.jobs.create(worker=RoleSettings(agent="claude", session="fresh"), supervisor=objects)
    stage.jobs.run_to(ExitCode.SUCCESS)
    assert all("--resume" not in call["argv"] for call in stage.calls)


def test_a_supervisor_judges_afresh_and_may_only_look(stage: Stage) -> None:
    retry = '```json\n{"action": "RETRY", "summary_for_supervisor": "not yet"}\n```'
    stage.plays({"events": [result(retry)]}, {"events": [result(SAYS_DONE)]})
    stage.jobs.create(worker="true", supervisor=CLAUDE)
    manifest = stage.jobs.run_to(ExitCode.SUCCESS)
    assert [call["argv"][call["argv"].index("--permission-mode") + 1] for call in stage.calls] == ["plan", "plan"]
    assert all("--resume" not in call["argv"] for call in stage.calls)
    assert Role.SUPERVISOR not in manifest.sessions


def test_a_reply_file_says_nothing_for_a_supervisor_that_may_only_look(stage: Stage) -> None:
    said = '```json\n{"action": "STUCK", "summary_for_supervisor": "no"}\n```'
    stage.plays({"events": [result(said)], "reply": DONE})
    stage.jobs.create(worker="true", supervisor=CLAUDE)
    assert stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED).reason.code is ReasonCode.SUPERVISOR_STUCK


def test_a_supervisor_that_left_its_reply_in_a_file_alone_is_told_where_it_belongs(stage: Stage) -> None:
    stage.plays({"events": [result("see the file")], "reply": DONE}, {"events": [result(SAYS_DONE)]})
    stage.jobs.create(worker="true", supervisor=CLAUDE)
    stage.jobs.run_to(ExitCode.SUCCESS)
    first, second = stage.calls
    assert "a reply file does not count" in second["prompt"]
    for call in (first, second):
        assert "reply-0002" not in call["prompt"]
        assert "end your final message with your reply" in call["prompt"]


def test_a_reply_that_can_t_be_read_is_asked_for_alone_in_the_same_session(stage: Stage) -> None:
    stage.plays({"events": [result("I think I am done.")]}, {"events": [result(SAYS_DONE)]})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    stage.jobs.run_to(ExitCode.SUCCESS)
    first, second = stage.calls
    assert second["argv"][-2:] == ["--resume", "s-1"]
    assert "could not be used" in second["prompt"]
    assert "Do it well" not in second["prompt"]
    assert len(second["prompt"]) < len(first["prompt"])


def test_a_reply_alone_is_asked_for_in_the_session_even_where_each_attempt_is_fresh(stage: Stage) -> None:
    stage.plays({"events": [result("I think I am done.")]}, {"events": [result(SAYS_DONE)]})
    stage.jobs.create(worker=RoleSettings(agent="claude", session="fresh"), supervisor=say("COMPLETED"))
    stage.jobs.run_to(ExitCode.SUCCESS)
    assert stage.calls[1]["argv"][-2:] == ["--resume", "s-1"]
    assert "Do it well" not in stage.calls[1]["prompt"]


def test_a_reply_alone_is_asked_for_once(stage: Stage) -> None:
    stage.plays({"events": [result("I think I am done.")]})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    assert stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED).reason.code is ReasonCode.REPLY_UNREADABLE
    assert len(stage.calls) == 2


def test_a_session_that_is_gone_costs_no_chance_to_put_a_reply_right(stage: Stage) -> None:
    gone = result("No conversation found with session ID: s-1", session="s-9", is_error=True)
    stage.plays({"events": [result("I am done.")]}, {"events": [gone]}, {"events": [result()], "reply": DONE})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    stage.jobs.run_to(ExitCode.SUCCESS)
    assert ["--resume" in call["argv"] for call in stage.calls] == [False, True, False]
    assert "Do it well" in stage.calls[2]["prompt"]


def test_a_reply_with_another_attempts_token_is_asked_for_with_the_new_one_alone(stage: Stage) -> None:
    stage.plays({"events": [result()], "reply": {**DONE, "token": "f" * 16}}, {"events": [result()], "reply": DONE})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    manifest = stage.jobs.run_to(ExitCode.SUCCESS)
    repair = stage.calls[1]["prompt"]
    assert "given for another attempt" in repair
    assert step_token(manifest.seed, 1, 1) not in repair
    assert f'"token": "{step_token(manifest.seed, 1, 2)}"' in repair


@pytest.mark.parametrize(("version", "cost", "tokens"), [("2.1.329", 0.03, 260), ("2.1.197", 0.04, 390)])
def test_a_session_that_counts_all_its_cost_is_charged_for_what_is_new(
    stage: Stage, version: str, cost: float, tokens: int
) -> None:
    started = {"type": "system", "subtype": "init", "claude_code_version": version}
    # Of both steps in the newer version; with those of a subagent in the older one.
    counted = {"inputTokens": 200, "cacheReadInputTokens": 40, "outputTokens": 20}
    told = {"total_cost_usd": 0.03, "modelUsage": {"sonnet": counted}}
    stage.plays(
        {"events": [started, result(total_cost_usd=0.01)], "reply": DONE},
        {"events": [started, result(**told)], "reply": DONE},
    )
    stage.jobs.create(worker=CLAUDE, supervisor=by_turn(say("RETRY", "again"), say("COMPLETED")))
    manifest = stage.jobs.run_to(ExitCode.SUCCESS)
    assert (manifest.spent.cost, manifest.spent.tokens) == (cost, tokens)
    assert (manifest.spent.estimated_cost, manifest.spent.unpriced) == (0.0, 0)


def test_what_a_session_did_not_count_anew_is_not_charged_again() -> None:
    before = Usage(cost=0.5, input_tokens=2000, output_tokens=100)
    tokens: tuple[Counted, ...] = ("input_tokens", "output_tokens")
    assert used_since(before, Usage(input_tokens=2000, output_tokens=150), tokens) == Usage(
        input_tokens=0, output_tokens=50
    )
    assert used_since(before, Usage(input_tokens=900, output_tokens=150), ()) == Usage(
        input_tokens=900, output_tokens=150
    )
    assert used_since(before, Usage(cost=0.2), ("cost",)).cost == 0.2
    assert latest(before, Usage(output_tokens=120)) == Usage(cost=0.5, input_tokens=2000, output_tokens=120)


@pytest.mark.parametrize(
    "told", [{"total_cost_usd": None}, {"total_cost_usd": None, "usage": {}}], ids=["dollars", "all"]
)
def test_what_nobody_prices_is_told_as_unknown(stage: Stage, told: dict[str, Any]) -> None:
    stage.plays({"events": [result(**told)], "reply": DONE})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    manifest = stage.jobs.run_to(ExitCode.SUCCESS)
    assert (manifest.spent.cost, manifest.spent.unpriced) == (0.0, 1)
    report = build_report(stage.jobs.store, "job")
    shown = card_text(report, width=200, color=False, encoding="utf-8", exit_code=None)
    assert "cost $0.00 (1 oneshot of unknown price)" in shown


def test_what_a_provider_refused_is_of_no_price(stage: Stage) -> None:
    stage.plays({"events": [{**refused(401, "Invalid API key"), "total_cost_usd": None}]})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    assert stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED).spent.unpriced == 0


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (refused(401, "Invalid API key"), "auth"),
        (refused(404, "no such model"), "model_not_found"),
        (refused(402, "credit balance is too low"), "quota"),
        (result(permission_denials=[{"tool_name": "Bash"}]), "permission_denied"),
    ],
)
def test_what_only_a_human_can_mend_is_asked_once(stage: Stage, event: dict[str, Any], outcome: str) -> None:
    stage.plays({"events": [event], "exit_code": 0, "reply": DONE})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    manifest = stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert len(stage.calls) == 1
    assert manifest.reason.code is ReasonCode.AGENT_FAILED
    assert outcome in manifest.reason.sentence
    [exited] = [record for record in stage.jobs.records() if isinstance(record, Exited)]
    assert exited.outcome == outcome


def test_a_reply_whose_evidence_is_not_on_disk_has_an_outcome_of_its_own(stage: Stage) -> None:
    stage.plays({"events": [result()], "reply": {**DONE, "evidence_files": ["never.txt"]}})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    assert stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED).reason.code is ReasonCode.EVIDENCE_INVALID
    [exited] = [record for record in stage.jobs.records() if isinstance(record, Exited)]
    assert exited.outcome == "evidence_missing"


def test_a_busy_provider_is_waited_for_and_counts_as_no_failure(stage: Stage) -> None:
    busy = {"events": [refused(429, "rate limit")], "exit_code": 1}
    stage.plays(*[busy] * 7, {"events": [result()], "reply": DONE})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"), budget=Budget(retries=0))
    manifest = stage.jobs.run_to(ExitCode.SUCCESS)
    waits = [event.retry_in for event in stage.jobs.reporter.events if isinstance(event, AttemptFailed)]
    assert len(waits) == 7
    assert all(wait is not None for wait in waits)
    assert (manifest.spent.retries, manifest.spent.steps) == (0, 2)


def test_a_provider_that_is_busy_for_longer_than_the_role_waits_needs_a_human(stage: Stage) -> None:
    stage.plays({"events": [refused(529, "overloaded")], "exit_code": 1})
    stage.jobs.create(worker=RoleSettings(agent="claude", max_wait=30.0), supervisor=say("COMPLETED"))
    manifest = stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.AGENT_FAILED
    waits = [event.retry_in or 0.0 for event in stage.jobs.reporter.events if isinstance(event, AttemptFailed)]
    assert 0 < sum(waits) <= 30.0


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        ("Rate limit reached. Please try again in 20s.", 20.0),
        ("You've hit your limit · resets 12:10am (UTC)", 600.0),
        ("Claude AI usage limit reached|1893456300", 300.0),
    ],
)
def test_a_provider_is_waited_for_as_long_as_it_says(stage: Stage, said: str, wait: float) -> None:
    # The clock stands at midnight of the first day of 2030, in UTC.
    stage.plays({"events": [refused(429, said)], "exit_code": 1}, {"events": [result()], "reply": DONE})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    stage.jobs.run_to(ExitCode.SUCCESS)
    [failed] = [event for event in stage.jobs.reporter.events if isinstance(event, AttemptFailed)]
    # Less what the oneshot itself took.
    assert wait - 30 < (failed.retry_in or 0.0) <= wait
    assert said in failed.detail


def test_a_wait_that_is_longer_than_the_role_allows_is_told_at_once(stage: Stage) -> None:
    stage.plays({"events": [refused(429, "5-hour limit reached ∙ resets 3am (UTC)")], "exit_code": 1})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    manifest = stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert (manifest.reason.code, len(stage.calls)) == (ReasonCode.AGENT_FAILED, 1)
    assert "rate_limited: 5-hour limit reached" in manifest.reason.sentence
    # The clock stands at midnight: what is told of it is still true when it is read.
    assert "(worth trying again at 2030-01-01 03:00 UTC)" in manifest.reason.sentence
    assert "it is waited for 15m at most: `logist job run --max-wait` waits longer" in manifest.reason.sentence


def test_what_is_refused_for_good_is_told_without_raw_output_and_tried_again_without_guidance(stage: Stage) -> None:
    stage.plays({"events": [refused(401, "Invalid API key")], "exit_code": 1})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    manifest = stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    told = "worker claude: auth: Invalid API key; log in once with `claude`, or set ANTHROPIC_API_KEY"
    assert manifest.reason.sentence == told
    assert next_commands(manifest)[0].command == "logist job resolve job --retry"
    [kept] = stage.jobs.store.paths("job").steps.glob("*/reply.json")
    assert "api_error_status" in json.loads(kept.read_text(encoding="utf-8"))["received"]


def test_a_wait_that_no_calendar_has_is_not_told_as_a_moment(stage: Stage) -> None:
    stage.plays({"events": [refused(429, "rate limit, try again in 999999999 weeks")], "exit_code": 1})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    sentence = stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED).reason.sentence
    assert "try again in 999999999 weeks; it is waited for 15m at most" in sentence


def test_a_program_that_is_killed_after_long_waits_for_its_provider_is_tried_again(stage: Stage) -> None:
    busy = {"events": [refused(429, "rate limit")], "exit_code": 1}
    killed = {"events": [{"type": "system"}], "exit_code": 143}
    stage.plays(*[busy] * 6, *[killed] * 3, {"events": [result()], "reply": DONE})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    assert stage.jobs.run_to(ExitCode.SUCCESS).spent.retries == 0


def test_a_oneshot_that_uses_up_the_budget_is_stopped_while_it_runs(stage: Stage) -> None:
    said = {"id": "m-1", "usage": {"input_tokens": 5_000, "output_tokens": 10}}
    stage.plays({"events": [{"type": "assistant", "message": said}], "write": {"half.txt": "half"}, "hangs": True})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"), budget=Budget(tokens=1_000))
    manifest = stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.BUDGET_COST
    assert "5010 of 1000 tokens" in manifest.reason.sentence
    assert (manifest.spent.tokens, manifest.spent.steps) == (5_010, 1)
    assert (stage.jobs.workspace() / "half.txt").read_text(encoding="utf-8") == "half"


def test_what_is_not_billed_is_estimated_and_told_apart(stage: Stage) -> None:
    stage.plays({"events": [result(total_cost_usd=None)], "reply": DONE})
    stage.jobs.create(worker=RoleSettings(agent="claude", model="claude-sonnet-4-5"), supervisor=say("COMPLETED"))
    spent = stage.jobs.run_to(ExitCode.SUCCESS).spent
    assert spent.cost == spent.estimated_cost > 0
    assert spent.unpriced == 0


@pytest.mark.parametrize(
    "take_back",
    [
        lambda runtime: interventions.rerun_job(runtime, "job"),
        lambda runtime: interventions.restep_job(runtime, "job", 3),
        lambda runtime: interventions.restep_job(runtime, "job", 2),
        lambda runtime: interventions.resolve_rewind(runtime, "job", 1),
        lambda runtime: interventions.resolve_rewind(runtime, "job", 0),
    ],
    ids=["rerun", "restep-3", "restep-2", "rewind-1", "rewind-0"],
)
def test_work_that_is_taken_back_takes_the_session_with_it(
    stage: Stage, take_back: Callable[[Runtime], object]
) -> None:
    # The worker, the supervisor who objects, and the worker again in its session.
    stage.plays({"events": [result()], "reply": DONE}, {"events": [result()], "reply": {"action": "STUCK"}})
    stage.jobs.create(worker=CLAUDE, supervisor=say("RETRY", "add a test"))
    assert stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED).sessions
    assert ["--resume" in call["argv"] for call in stage.calls] == [False, True]
    take_back(stage.jobs.runtime)
    assert not stage.jobs.store.load("job").sessions
    stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert "--resume" not in stage.calls[2]["argv"]


@pytest.mark.parametrize("tracked", [False, True])
def test_a_file_of_its_own_that_a_program_leaves_is_no_evidence_unless_it_was_tracked(
    stage: Stage, tmp_path: Path, tracked: bool
) -> None:
    mark = ".claude/settings.local.json"
    source = tmp_path / "source"
    (source / ".claude").mkdir(parents=True)
    (source / (mark if tracked else ".claude/settings.json")).write_text("{}\n", encoding="utf-8")
    stage.plays({"events": [result()], "write": {mark: '{"new": 1}\n', "work.txt": "right"}, "reply": DONE})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"), source=SourceRequest(SourceKind.FOLDER, source))
    manifest = stage.jobs.run_to(ExitCode.SUCCESS)
    changed = stage.jobs.git("diff", "--name-only", manifest.baseline, "logist/job").split()
    assert changed == ([mark, "work.txt"] if tracked else ["work.txt"])
    assert any(mark in left for left in manifest.left_out) is not tracked
    assert (stage.jobs.workspace() / mark).read_text(encoding="utf-8") == '{"new": 1}\n'


def test_a_session_is_gone_on_with_after_a_human_sent_the_job_on(stage: Stage) -> None:
    stage.plays({"events": [result()], "reply": {"action": "STUCK"}}, {"events": [result()], "reply": DONE})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    interventions.resolve_retry(stage.jobs.runtime, "job", "use the other library")
    stage.jobs.run_to(ExitCode.SUCCESS)
    again = stage.calls[1]
    assert "--resume" in again["argv"]
    assert "use the other library" in again["prompt"]


@pytest.mark.parametrize(
    ("worker", "model", "resumes"),
    [("claude:opus", "opus", False), ("claude:sonnet", "sonnet", True), ("claude", "sonnet", True)],
)
def test_a_session_is_gone_on_with_by_the_same_model_alone(
    stage: Stage, worker: str, model: str, resumes: bool
) -> None:
    stage.plays({"events": [result()], "reply": {"action": "STUCK"}}, {"events": [result()], "reply": DONE})
    sonnet = RoleSettings(agent="claude", model="sonnet")
    stage.jobs.create(worker=sonnet, supervisor=say("COMPLETED"))
    stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    stage.jobs.config = Config(roles=Roles(worker=sonnet.model_copy(update={"args": ("--verbose",)})))
    interventions.resolve_retry(stage.jobs.runtime, "job", "", players=interventions.Players(worker=worker))
    assert bool(stage.jobs.store.load("job").sessions) is resumes
    stage.jobs.run_to(ExitCode.SUCCESS)
    argv = stage.calls[1]["argv"]
    assert ("--resume" in argv) is resumes
    assert argv[argv.index("--model") + 1] == model
    assert "--verbose" in argv


def test_a_model_that_is_not_there_is_mended_by_the_command_that_the_status_names(stage: Stage) -> None:
    stage.plays({"events": [refused(404, "no such model")]}, {"events": [result()], "reply": DONE})
    stage.jobs.create(worker=RoleSettings(agent="claude", model="nope"), supervisor=say("COMPLETED"))
    stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    named = [command.command for command in build_report(stage.jobs.store, "job").next_commands]
    assert "logist job resolve job --retry --worker AGENT:MODEL" in named
    interventions.resolve_retry(stage.jobs.runtime, "job", "", players=interventions.Players(worker="claude:opus"))
    stage.jobs.run_to(ExitCode.SUCCESS)
    assert [call["argv"][call["argv"].index("--model") + 1] for call in stage.calls] == ["nope", "opus"]


def test_work_that_changed_nothing_is_not_done_where_a_change_is_required(stage: Stage) -> None:
    stage.plays({"events": [result()], "reply": DONE}, {"events": [result()], "reply": DONE, "write": {"a.txt": "a"}})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"), phases=[Phase(name="main", requires_change=True)])
    manifest = stage.jobs.run_to(ExitCode.SUCCESS)
    assert manifest.spent.retries == 1
    assert "nothing changed" in stage.calls[1]["prompt"]


def test_a_program_that_prints_what_is_not_known_is_kept_whole_and_comes_to_nothing(stage: Stage) -> None:
    stage.plays({"events": [{"type": "something new", "text": SAYS_DONE}]})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    manifest = stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.REPLY_UNREADABLE
    failed = [record for record in stage.jobs.records() if isinstance(record, AttemptFailedRecord)]
    assert all("no_result" in record.detail for record in failed)
    log = stage.jobs.store.paths("job").step_dir(1, "worker", 1) / "stdout.log"
    assert "something new" in log.read_text(encoding="utf-8")


def test_a_program_that_came_to_no_result_is_not_believed_by_its_reply_file(stage: Stage) -> None:
    stage.plays({"events": [{"type": "system"}], "exit_code": 1, "reply": DONE})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    assert stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED).reason.code is ReasonCode.REPLY_UNREADABLE


def test_work_that_was_put_back_is_neither_claimed_nor_remembered(stage: Stage) -> None:
    stage.plays(
        {"events": [result("no reply")], "write": {"a.txt": "a"}},
        {"events": [refused(429, "rate limit")], "exit_code": 1},
        {"events": [result()], "reply": DONE, "write": {"b.txt": "b"}},
    )
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    stage.jobs.run_to(ExitCode.SUCCESS)
    repair, fresh = stage.calls[1:]
    assert "still there" in repair["prompt"]
    assert ("still there" in fresh["prompt"], "Do it well" in fresh["prompt"], "--resume" in fresh["argv"]) == (
        False,
        True,
        False,
    )
    assert not (stage.jobs.workspace() / "a.txt").exists()


def test_a_session_that_ended_in_waiting_too_long_is_not_gone_on_with(stage: Stage) -> None:
    stage.plays({"events": [refused(529, "overloaded")], "exit_code": 1, "write": {"a.txt": "a"}})
    stage.jobs.create(worker=RoleSettings(agent="claude", max_wait=1.0), supervisor=say("COMPLETED"))
    assert not stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED).sessions


def test_a_supervisor_that_is_stopped_by_the_budget_leaves_the_work_as_it_was(stage: Stage) -> None:
    said = {"id": "m-1", "usage": {"input_tokens": 5_000, "output_tokens": 10}}
    stage.plays({"events": [{"type": "assistant", "message": said}], "write": {"a.txt": "spoiled"}, "hangs": True})
    work = f"echo work > a.txt; {say('COMPLETED')}"
    stage.jobs.create(worker=work, supervisor=CLAUDE, budget=Budget(tokens=1_000))
    assert stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED).reason.code is ReasonCode.BUDGET_COST
    assert (stage.jobs.workspace() / "a.txt").read_text(encoding="utf-8") == "work\n"


def test_waiting_for_a_provider_spends_no_more_than_the_budget(stage: Stage) -> None:
    busy = {**refused(529, "overloaded"), "total_cost_usd": 5.0}
    stage.plays({"events": [busy], "exit_code": 1})
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"), budget=Budget(cost=6.0))
    manifest = stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert (manifest.reason.code, manifest.spent.cost, len(stage.calls)) == (ReasonCode.BUDGET_COST, 10.0, 2)


def test_dollars_are_metered_by_the_price_of_the_model(stage: Stage) -> None:
    said = {"id": "m-1", "usage": {"input_tokens": 3_000_000, "output_tokens": 10}}
    stage.plays({"events": [{"type": "assistant", "message": said}], "hangs": True})
    worker = RoleSettings(agent="claude", model="claude-sonnet-4-5")
    stage.jobs.create(worker=worker, supervisor=say("COMPLETED"), budget=Budget(cost=1.0))
    manifest = stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.BUDGET_COST
    assert manifest.spent.estimated_cost > 1.0


def test_what_a_oneshot_used_until_it_was_stopped_is_counted(stage: Stage) -> None:
    said = {"id": "m-1", "usage": {"input_tokens": 5_000, "output_tokens": 10}}
    stage.plays({"events": [{"type": "assistant", "message": said}], "hangs": True})
    worker = RoleSettings(agent="claude", idle_timeout=1.0)
    stage.jobs.create(worker=worker, supervisor=say("COMPLETED"), budget=Budget(retries=0))
    assert stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED).spent.tokens == 5_010


def test_an_account_that_can_not_be_read_ends_no_run(stage: Stage) -> None:
    gone = "No conversation found \ud800" + "x" * 100_000
    stage.plays(
        {"events": [result(gone, subtype="error_during_execution", is_error=True, errors=[gone])], "exit_code": 1}
    )
    stage.jobs.create(worker=CLAUDE, supervisor=say("COMPLETED"))
    stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
