"""Agents that are described by the configuration alone: what of their JSON output is read, and how sessions go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import TOKEN, recording, request_for

from logist.agents.command import ConfiguredAgent
from logist.agents.configured_output import read_configured
from logist.agents.oneshot import Answer, OneshotRequest
from logist.agents.outcome import Outcome
from logist.errors import AgentUnavailable
from logist.execution import CommandResult, Ended
from logist.models.config import AgentDefinition
from logist.models.manifest import Verdict
from logist.models.usage import AgentSession, Usage
from logist.testing import stream

#: A result as many programs print it, one object for a whole run.
RESULT: dict[str, Any] = {
    "is_error": False,
    "result": {"text": f'Done.\n```json\n{{"token": "{TOKEN}", "action": "COMPLETED"}}\n```\n'},
    "session": {"id": "s-1"},
    "stats": [{"in": 1000, "out": 50.0, "cache": 200, "usd": 0.25}],
}
DEFINITION: dict[str, Any] = {
    "command": ["agent", "-p"],
    "output": "json",
    "reply_path": "result.text",
    "error_path": "is_error",
    "session_path": "session.id",
    "usage": {"input": "stats.0.in", "output": "stats.-1.out", "cached": "stats.0.cache", "cost": "stats.0.usd"},
    "resume": ["--resume", "{session}"],
}
USED = Usage(cost=0.25, cost_is="billed", input_tokens=1000, output_tokens=50, cached_tokens=200)


def configured(**changed: object) -> ConfiguredAgent:
    return ConfiguredAgent("mine", AgentDefinition.model_validate(DEFINITION | changed))


def read(agent: ConfiguredAgent, request: OneshotRequest, printed: object, exit_code: int = 0) -> Answer:
    stdout = printed if isinstance(printed, bytes) else json.dumps(printed).encode()
    return agent.read(request, CommandResult(Ended.EXITED, exit_code, 1.0, stream(stdout), stream(b"")))


@pytest.fixture
def request_(tmp_path: Path) -> OneshotRequest:
    return request_for(tmp_path, "mine")


def going_on(request: OneshotRequest) -> OneshotRequest:
    return replace(request, session=AgentSession(agent="mine", id="s-1", usage=Usage(cost=0.2, input_tokens=900)))


def test_text_session_and_usage_are_read_where_the_definition_says(request_: OneshotRequest) -> None:
    answer = read(configured(), request_, RESULT)
    assert answer.reply is not None
    assert (answer.source, answer.reply.action, answer.outcome) == ("text", Verdict.COMPLETED, Outcome.OK)
    assert answer.usage == USED
    assert answer.session == AgentSession(agent="mine", id="s-1", usage=USED)


def test_messages_before_the_object_are_passed_over(request_: OneshotRequest) -> None:
    printed = b"{ starting up\nplease wait\n" + json.dumps(RESULT, indent=1).encode() + b"\n"
    assert read(configured(), request_, printed).reply is not None


def test_a_reply_file_goes_before_the_text_and_does_without_it(request_: OneshotRequest) -> None:
    request_.reply_file.write_text(json.dumps({"token": TOKEN, "action": "STUCK"}), encoding="utf-8")
    for printed in (RESULT, {}, b"nothing of the kind"):
        answer = read(configured(), request_, printed)
        assert answer.reply is not None
        assert (answer.source, answer.reply.action) == ("file", Verdict.STUCK)


@pytest.mark.parametrize(
    ("error", "outcome", "kind"),
    [
        (True, Outcome.SERVER, "transient"),
        (401, Outcome.AUTH, "blocked"),
        ("HTTP 429: slow down", Outcome.RATE_LIMITED, "transient"),
        ("Your credit balance is too low", Outcome.QUOTA, "blocked"),
        ("429: You exceeded your current quota", Outcome.QUOTA, "blocked"),
        ({"message": "no such thing", "status": 404}, Outcome.MODEL_NOT_FOUND, "blocked"),
        ({"type": "overloaded_error"}, Outcome.RATE_LIMITED, "transient"),
        ("it went wrong", Outcome.SERVER, "transient"),
    ],
)
def test_an_error_that_the_output_tells_makes_every_reply_void(
    error: object, outcome: Outcome, kind: str, request_: OneshotRequest
) -> None:
    request_.reply_file.write_text(json.dumps({"token": TOKEN, "action": "COMPLETED"}), encoding="utf-8")
    answer = read(configured(), request_, RESULT | {"is_error": error})
    assert (answer.reply, answer.outcome, answer.kind) == (None, outcome, kind)
    assert str(answer.problem).startswith(f"{outcome}: ")
    assert answer.usage == USED


@pytest.mark.parametrize("nothing", [None, False, 0, "", {}, []])
def test_an_error_that_is_nothing_is_none(nothing: object, request_: OneshotRequest) -> None:
    assert read(configured(), request_, RESULT | {"is_error": nothing}).kind == "reply"


@pytest.mark.parametrize(
    ("printed", "exit_code", "kind", "problem"),
    [
        (b"I am done", 0, "unreadable", "its output holds no JSON object"),
        ({"result": "other"}, 0, "unreadable", "its output has no text at result.text"),
        ({"result": {"text": "I am done"}}, 0, "unreadable", "there is no reply: no fenced JSON block"),
        (b"usage: agent", 2, "failed", "the command ended with exit code 2 and no reply"),
        (b"", 75, "transient", "failed for now"),
    ],
)
def test_output_that_holds_no_answer_says_what_is_missing(
    printed: object, exit_code: int, kind: str, problem: str, request_: OneshotRequest
) -> None:
    answer = read(configured(), request_, printed, exit_code)
    assert (answer.reply, answer.kind) == (None, kind)
    assert problem in str(answer.problem)


def test_of_several_objects_the_last_that_fits_counts(request_: OneshotRequest) -> None:
    agent = configured(output="ndjson", reply_path="content", reply_where={"role": "assistant"}, error_path="error")
    said = RESULT["result"]["text"]
    lines: list[dict[str, Any]] = [
        {"role": "user", "content": said.replace("COMPLETED", "STUCK")},
        {"error": "HTTP 500, trying again"},
        {"role": "assistant", "content": said},
        {"role": "tool", "content": said.replace("COMPLETED", "STUCK")},
        {"session": {"id": "s-2"}, "stats": [{"in": 7}]},
    ]

    def printed(*more: dict[str, Any]) -> bytes:
        return b"".join(json.dumps(line).encode() + b"\n" for line in (*lines, *more))

    answer = read(agent, request_, printed())
    assert answer.reply is not None
    assert answer.reply.action is Verdict.COMPLETED
    assert answer.session is not None
    assert (answer.session.id, answer.usage) == ("s-2", Usage(input_tokens=7))
    assert read(agent, request_, printed({"error": "HTTP 401"})).outcome is Outcome.AUTH
    too_long = read(agent, request_, printed({"error": "This model's maximum context length is 8192 tokens"}))
    assert (too_long.outcome, too_long.kind) == (Outcome.LIMIT, "failed")


def test_a_session_is_gone_on_with_by_the_arguments_of_resume(request_: OneshotRequest) -> None:
    agent = configured(prompt="arg")
    request = replace(going_on(request_), settings=request_.settings.model_copy(update={"args": ("--fast",)}))
    assert agent.spell(request_).argv == ("agent", "-p", request_.prompt)
    assert agent.spell(request).argv == ("agent", "-p", "--resume", "s-1", "--fast", request.prompt)
    assert configured(resume=()).spell(going_on(request_)).argv == ("agent", "-p")


def test_a_session_is_only_kept_where_it_can_be_gone_on_with(request_: OneshotRequest) -> None:
    assert read(configured(resume=()), request_, RESULT).session is None
    assert read(configured(), request_, RESULT | {"session": {"id": "--yes"}}).session is None


def test_figures_of_a_whole_session_are_told_apart_from_those_of_a_oneshot(request_: OneshotRequest) -> None:
    whole = configured(usage=DEFINITION["usage"] | {"cumulative": True})
    assert read(configured(), going_on(request_), RESULT).usage == USED
    used = read(whole, going_on(request_), RESULT).usage
    assert (used.cost, used.input_tokens, used.output_tokens) == (0.05, 100, 50)


def test_a_use_without_a_cost_is_priced_by_the_model_of_the_role_or_the_definition(request_: OneshotRequest) -> None:
    untold = {"input": "stats.0.in", "output": "stats.0.out"}

    def cost(settings: dict[str, object], **changed: object) -> float | None:
        request = replace(request_, settings=request_.settings.model_copy(update=settings))
        used = read(configured(**({"usage": untold} | changed)), request, RESULT).usage
        assert used.cost_is == (None if used.cost is None else "estimated")
        return used.cost

    sonnet, opus = "claude-sonnet-4-5", "claude-opus-4-1"
    by_role = cost({"model": sonnet})
    assert by_role
    assert cost({}, model=sonnet) == cost({}, model=sonnet, provider="anthropic") == by_role
    assert cost({"model": opus}, model=sonnet) == cost({}, model=opus) != by_role
    assert cost({}, model="openai/gpt-5", provider="openrouter")
    assert [cost({}), cost({"model": "nobody-knows-it"}), cost({}, model=sonnet, provider="nobody")] == [None] * 3
    assert read(configured(model=sonnet), request_, RESULT).usage == USED


def test_the_model_of_the_definition_is_asked_where_the_role_names_none(request_: OneshotRequest) -> None:
    agent = configured(command=["sh", "-c", "{model}"], model="large")
    agent.check(request_.settings)
    assert agent.spell(request_).argv[2] == agent.spell(request_).env["LOGIST_MODEL"] == "large"
    small = replace(request_, settings=request_.settings.model_copy(update={"model": "small"}))
    assert agent.spell(small).argv[2] == "small"
    with pytest.raises(AgentUnavailable, match="needs a model") as refused:
        configured(command=["sh", "-c", "{model}"]).check(request_.settings)
    assert "[agents.mine]" in str(refused.value.hint)


def test_figures_on_lines_of_their_own_are_heard_as_they_come(request_: OneshotRequest) -> None:
    figures = {"input": "in", "output": "out", "cost": "usd"}
    agent = configured(output="ndjson", reply_path="text", error_path=None, usage=figures, model="claude-sonnet-4-5")
    meter = agent.meter(request_.settings)
    assert meter is not None
    meter.feed(b'{"in": 1000, "out": 10}\n{"text": "hello"}\n{"in": 2000}\n')
    assert (meter.usage.input_tokens, meter.usage.output_tokens, meter.usage.cost_is) == (2000, 10, "estimated")
    meter.feed(b'{"usd": 0.5}\n')
    assert (meter.usage.cost, meter.usage.cost_is) == (0.5, "billed")
    assert configured(output="ndjson", usage=figures | {"cumulative": True}).meter(request_.settings) is None
    assert configured().meter(request_.settings) is None
    assert configured(output="ndjson", usage={}).meter(request_.settings) is None


def test_a_prompt_can_be_a_file(request_: OneshotRequest) -> None:
    file = str(request_.prompt_file)
    assert configured(prompt="file").spell(request_).argv == ("agent", "-p", file)
    placed = configured(prompt="file", command=["agent", "--file={prompt_file}", "--go"])
    assert placed.spell(request_).argv == ("agent", f"--file={file}", "--go")
    assert placed.spell(request_).stdin is None


def test_an_exit_code_can_stand_for_the_reply_and_the_text_for_its_summary(request_: OneshotRequest) -> None:
    agent = configured(reply="exit_code")
    for exit_code, action in ((0, Verdict.COMPLETED), (1, Verdict.RETRY)):
        answer = read(agent, request_, RESULT | {"result": {"text": "all is well"}}, exit_code)
        assert answer.reply is not None
        assert (answer.source, answer.reply.action) == ("exit_code", action)
        assert answer.reply.summary_for_supervisor.endswith("all is well")
        assert "session" not in answer.reply.summary_for_supervisor
        assert answer.usage == USED
    assert read(agent, request_, RESULT | {"is_error": 401}).kind == "blocked"


def test_a_oneshot_that_was_stopped_still_counts_what_it_used(request_: OneshotRequest) -> None:
    stdout = stream(json.dumps(RESULT).encode())
    answer = configured().read(request_, CommandResult(Ended.TIMED_OUT, 143, 1.0, stdout, stream(b"")))
    assert (answer.kind, answer.reply, answer.usage) == ("timeout", None, USED)
    assert answer.outcome is Outcome.TIMEOUT


WITH_A_REPLY = RESULT["result"]["text"].encode()


@pytest.mark.parametrize("agent", [configured(), ConfiguredAgent("mine", AgentDefinition(command=("agent",)))])
@pytest.mark.parametrize(
    ("exit_code", "kind", "outcome"),
    [
        (0, "reply", Outcome.OK),
        (1, "failed", Outcome.NO_RESULT),
        (75, "transient", Outcome.NO_RESULT),
        (137, "transient", Outcome.KILLED),
        (143, "transient", Outcome.KILLED),
    ],
)
def test_a_reply_in_the_output_of_a_program_that_failed_is_none(
    agent: ConfiguredAgent, exit_code: int, kind: str, outcome: Outcome, request_: OneshotRequest
) -> None:
    printed: object = RESULT if agent.definition.output == "json" else WITH_A_REPLY
    answer = read(agent, request_, printed, exit_code)
    assert (answer.kind, answer.outcome, answer.reply is not None) == (kind, outcome, exit_code == 0)


@pytest.mark.parametrize("agent", [configured(), ConfiguredAgent("mine", AgentDefinition(command=("agent",)))])
@pytest.mark.parametrize(
    ("exit_code", "kind", "outcome"), [(1, "reply", Outcome.OK), (137, "transient", Outcome.KILLED)]
)
def test_a_reply_file_counts_whatever_the_exit_code_but_not_of_a_program_that_was_killed(
    agent: ConfiguredAgent, exit_code: int, kind: str, outcome: Outcome, request_: OneshotRequest
) -> None:
    request_.reply_file.write_text(json.dumps({"token": TOKEN, "action": "STUCK"}), encoding="utf-8")
    printed: object = RESULT if agent.definition.output == "json" else WITH_A_REPLY
    answer = read(agent, request_, printed, exit_code)
    assert (answer.kind, answer.outcome) == (kind, outcome)


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (CommandResult(Ended.EXITED, 0, 1.0, stream(b"I am done.")), Outcome.OK),
        (CommandResult(Ended.EXITED, 1, 1.0, stream(b"no")), Outcome.NO_RESULT),
        (CommandResult(Ended.TIMED_OUT, 143, 1.0, stream(WITH_A_REPLY)), Outcome.TIMEOUT),
        (CommandResult(Ended.NOT_STARTED, None, 0.0, detail="no more processes"), Outcome.KILLED),
        (CommandResult(Ended.NOT_STARTED, None, 0.0, program_missing=True), Outcome.CONFIG),
    ],
)
def test_what_came_of_a_program_that_does_not_say_so_itself_is_told_all_the_same(
    result: CommandResult, outcome: Outcome, request_: OneshotRequest
) -> None:
    answer = ConfiguredAgent("mine", AgentDefinition(command=("agent",))).read(request_, result)
    assert (answer.reply, answer.outcome) == (None, outcome)


def test_a_refused_key_says_where_an_agent_of_the_configuration_gets_its_own(request_: OneshotRequest) -> None:
    answer = read(configured(), request_, RESULT | {"is_error": 401})
    assert str(answer.problem).endswith("; see that it is logged in, or has its key by pass_env of [agents.mine]")


def test_output_without_a_text_came_to_no_result(request_: OneshotRequest) -> None:
    assert read(configured(), request_, {}).outcome is Outcome.NO_RESULT


def test_a_shell_line_takes_no_args(request_: OneshotRequest) -> None:
    agent = ConfiguredAgent("mine", AgentDefinition(command="agent"))
    with pytest.raises(AgentUnavailable, match="takes no args"):
        agent.check(request_.settings.model_copy(update={"args": ("--fast",)}))


#: Real programs, described as somebody would who has no adapter for them.
DESCRIBED: dict[str, dict[str, object]] = {
    "kimi": {
        "reply_path": "content",
        "reply_where": {"role": "assistant"},
        "session_path": "session_id",
        "usage": {},
    },
    "droid": {
        "reply_path": "finalText",
        "error_path": "message",
        "session_path": "session_id",
        "usage": {"output": "usage.output_tokens", "cached": "usage.cache_read_input_tokens"},
    },
    "cline": {
        "reply_path": "text",
        "reply_where": {"type": "run_result", "finishReason": "completed"},
        "usage": {"input": "usage.inputTokens", "cost": "usage.totalCost"},
    },
}


@pytest.mark.parametrize("cli", DESCRIBED)
def test_a_real_program_can_be_described_by_the_configuration_alone(cli: str, tmp_path: Path) -> None:
    definition = AgentDefinition.model_validate({"command": [cli], "output": "ndjson"} | DESCRIBED[cli])
    recorded = recording(cli, "ok")
    answer = read(ConfiguredAgent("mine", definition), request_for(tmp_path, "mine"), recorded.stdout)
    assert answer.reply is not None
    assert answer.reply.action.value == recorded.expected["action"]
    report = read_configured(definition, recorded.stdout)
    assert (report.session is not None) == ("session_path" in DESCRIBED[cli])
    read_values = report.usage.model_dump(exclude_none=True, exclude={"cost", "cost_is"})
    assert read_values.items() <= recorded.expected.get("usage", {}).items()
    refused = read(ConfiguredAgent("mine", definition), request_for(tmp_path, "mine"), recording(cli, "auth").stdout)
    assert refused.reply is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0"]), inner, max_size=3),
    max_leaves=8,
)


@given(values=st.lists(_JSON, max_size=3), noise=st.binary(max_size=60), output=st.sampled_from(["json", "ndjson"]))
@settings(max_examples=200)
def test_whatever_a_program_prints_is_reported_and_never_raises(values: list[Any], noise: bytes, output: str) -> None:
    definition = AgentDefinition.model_validate(
        {
            "command": ["x"],
            "output": output,
            "reply_path": "a.b",
            "error_path": "b",
            "session_path": "a.0",
            "usage": {"input": "a.a", "cost": "b.b"},
        }
    )
    printed = noise.join(json.dumps(value).encode() + b"\n" for value in values) + noise
    assert isinstance(read_configured(definition, printed).outcome, Outcome)


def test_output_of_many_lines_is_searched_for_its_object_in_one_go(request_: OneshotRequest) -> None:
    printed = b'{"step": 1}\n' * 20_000 + json.dumps(RESULT).encode()
    assert read(configured(), request_, printed).reply is not None
