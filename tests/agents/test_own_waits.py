"""What the programs say while they wait for their provider by themselves, and when Logist has heard enough of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import cli_called

from logist.agents import CLIS
from logist.agents.own_waits import PATIENCE, Heard, OwnWait, Refusal

BUSY = Refusal("busy", 429)


def opencode_log(said: str, mode: str = "primary", small: str = "false") -> str:
    return (
        'timestamp=2026-11-22T09:24:42.947Z level=ERROR run=d38ba28f message="stream error" providerID=here'
        f' session.id=ses_1 small={small} agent=build mode={mode} error.error="AI_APICallError: {said}"'
    )


def opencode_step(kind: str, reason: str = "unknown", written: int = 0) -> str:
    tokens = {"input": 0, "output": written, "reasoning": 0, "cache": {"write": 0, "read": 0}}
    return json.dumps({"type": kind, "part": {"id": "p-1", "reason": reason, "tokens": tokens}})


#: Of codex's log.
WAITS = (
    "2026-11-22T09:33:36.301062Z  WARN codex_core::responses_retry: stream disconnected - retrying sampling request"
    " (1/5 in 3599.998463389s)... turn_id=01a2 retries=1 max_retries=5 sampling_error=exceeded retry limit, last"
    " status: 429 Too Many Requests"
)
#: As each of them printed it when it was refused, shortened, and what it is understood as.
SAID: list[tuple[str, str, Heard]] = [
    (
        "claude",
        '{"type":"system","subtype":"api_retry","attempt":1,"max_retries":4,"retry_delay_ms":20000,"error_status":429,'
        '"error":"rate_limit"}',
        Refusal("it was still trying again after HTTP status 429", 429, 20.0),
    ),
    ("claude", '{"type":"assistant","message":{"id":"m-1"}}', "answered"),
    ("claude", '{"type":"system","subtype":"init"}', None),
    (
        "codex",
        WAITS,
        Refusal("exceeded retry limit, last status: 429 Too Many Requests", again_in=3599.998463389),
    ),
    (
        "codex",
        "2026-11-22T09:42:14.774759Z  WARN codex_core::responses_retry: stream disconnected - retrying sampling request"
        " (1/5 in 212ms)... turn_id=01a2 sampling_error=unexpected status 503 Service Unavailable: overloaded now",
        Refusal("unexpected status 503 Service Unavailable: overloaded now", again_in=0.0),
    ),
    (
        "codex",
        '2026-11-22T09:54:45.181865Z TRACE codex_otel.trace_safe: event.name="codex.retry" retry.attempt=1'
        ' retry.delay_ms=3599999 retry.layer="http" retry.operation="request"',
        Refusal("its provider does not take its request", again_in=3599.999),
    ),
    ("codex", '{"type":"item.completed","item":{"type":"agent_message","text":"Hi"}}', "answered"),
    # A tool printed such a line, as of a log of codex.
    (
        "codex",
        json.dumps({"type": "item.completed", "item": {"type": "command_execution", "output": WAITS}}),
        "answered",
    ),
    ("codex", '{"type":"item.completed","item":{"type":"error","message":"a warning"}}', None),
    ("codex", '{"type":"error","message":"Reconnecting... 1/5 (exceeded retry limit)"}', None),
    ("copilot", '{"type":"model.call_failure","data":{"statusCode":429}}', Refusal("HTTP status 429", 429)),
    ("copilot", '{"type":"model.call_start","data":{"turnId":"0"}}', "begins"),
    ("copilot", '{"type":"assistant.message","data":{"content":"Hi"}}', "answered"),
    (
        "gemini",
        "Attempt 2 failed with status 429. Retrying with backoff... _ApiError:"
        ' {"error":{"message":"slow down","code":429,"status":"RESOURCE_EXHAUSTED"}}',
        Refusal("slow down", 429, 0.0),
    ),
    (
        "gemini",
        "Attempt 1 failed: Quota exceeded for requests per minute. Retrying after 41000ms...",
        Refusal("Quota exceeded for requests per minute", again_in=41.0),
    ),
    ("gemini", '{"type":"message","role":"assistant","content":"Hi"}', "answered"),
    ("gemini", '{"type":"message","role":"user","content":"Attempt 1 failed with status 429"}', None),
    (
        "kimi",
        '{"role":"meta","type":"turn.step.retrying","failed_attempt":1,"delay_ms":3600000,"error_name":"APIProvider"'
        ',"error_message":"429 slow down","status_code":429}',
        Refusal("429 slow down", 429, 3600.0),
    ),
    ("kimi", '{"role":"assistant","content":"Hi"}', "answered"),
    ("opencode", opencode_log("slow down"), Refusal("slow down")),
    ("opencode", opencode_log("slow down", small="true"), None),
    ("opencode", opencode_log("slow down", mode="subagent"), None),
    ("opencode", opencode_step("step_start"), "begins"),
    (
        "opencode",
        opencode_step("step_finish"),
        Refusal("its provider answers without a word that it understands", again_in=0.0),
    ),
    ("opencode", opencode_step("step_finish", reason="stop"), "answered"),
    ("opencode", opencode_step("step_finish", written=10), "answered"),
    (
        "qwen",
        "[qwen-code] Waiting for API capacity... attempt 1, retry in 3570s",
        Refusal("it waits for its provider, who has too many requests", 429, 3570.0),
    ),
    (
        "qwen",
        "Retrying in 60s (attempt 1/10): [API Error: 503 overloaded now]",
        Refusal("[API Error: 503 overloaded now]", again_in=60.0),
    ),
    ("qwen", '{"type":"assistant","message":{"id":"m-1"}}', "answered"),
]


@pytest.mark.parametrize(("cli", "line", "heard"), SAID, ids=[cli for cli, _, _ in SAID])
def test_what_a_program_says_of_its_provider_is_understood(cli: str, line: str, heard: Heard) -> None:
    assert cli_called(cli).hear(line.encode()) == heard


def test_these_programs_say_it() -> None:
    assert {cli for cli in CLIS if cli_called(cli).tells_waits} == {cli for cli, _, _ in SAID}


@given(line=st.binary(max_size=200) | st.sampled_from([line.encode()[:-20] for _, line, _ in SAID]))
def test_whatever_they_print_nothing_breaks(line: bytes) -> None:
    for cli in {cli for cli, _, _ in SAID}:
        cli_called(cli).hear(line)


# --- how long is too long --------------------------------------------------------------------------------------------

Script = list[tuple[float, Heard]]


def played(script: Script, stream: str = "stderr") -> OwnWait:
    """What was heard by those moments."""
    lines = {f"{number}".encode(): heard for number, (_, heard) in enumerate(script)}
    wait = OwnWait(lambda line: lines.get(line))
    for number, (moment, _) in enumerate(script):
        wait.feed(stream, f"{number}\n".encode(), moment)
    return wait


def test_a_wait_that_is_not_told_is_too_long_when_patience_is_over() -> None:
    wait = played([(5.0, BUSY)])
    assert not wait.is_too_long(5.0 + PATIENCE - 1)
    assert wait.is_too_long(5.0 + PATIENCE)
    assert wait.refusal(5.0 + PATIENCE) == BUSY


def test_a_wait_that_is_told_is_too_long_at_once_or_never() -> None:
    assert played([(5.0, BUSY._replace(again_in=PATIENCE))]).is_too_long(5.0)
    assert not played([(5.0, BUSY._replace(again_in=PATIENCE - 1))]).is_too_long(10_000.0)


def test_what_is_left_of_a_wait_is_told() -> None:
    wait = played([(5.0, BUSY._replace(again_in=3600.0))])
    assert wait.refusal(7.0) == BUSY._replace(again_in=3598.0)
    assert wait.refusal(5000.0) == BUSY


@pytest.mark.parametrize("over", ["begins", "answered"])
def test_a_provider_that_answers_again_is_waited_for_no_more(over: Heard) -> None:
    assert not played([(0.0, BUSY), (PATIENCE / 2, over)]).is_too_long(10_000.0)


def test_refusals_in_a_row_are_one_wait() -> None:
    tries: Script = [(moment, BUSY._replace(again_in=10.0)) for moment in (0.0, 12.0, 25.0, 38.0)]
    assert not played(tries).is_too_long(40.0)
    assert played([*tries, (51.0, BUSY._replace(again_in=10.0))]).is_too_long(51.0)


def test_answers_that_come_to_nothing_again_and_again_are_one_wait() -> None:
    nothing = BUSY._replace(again_in=0.0)
    script: Script = [(float(second), heard) for second in range(int(PATIENCE) + 1) for heard in ("begins", nothing)]
    assert not played(script[:-1]).is_too_long(PATIENCE)
    assert played(script).is_too_long(PATIENCE)


def test_a_refusal_after_an_answer_begins_a_new_wait() -> None:
    script: Script = [(0.0, BUSY), (PATIENCE - 1, "answered"), (PATIENCE, BUSY)]
    assert not played(script).is_too_long(2 * PATIENCE - 1)


def test_a_refusal_long_after_the_last_one_begins_a_new_wait() -> None:
    # An answer took its time in silence, and broke off at last.
    soon = BUSY._replace(again_in=1.0)
    assert not played([(0.0, soon), (PATIENCE + 2, soon)]).is_too_long(PATIENCE + 2)


def test_what_was_found_too_long_stays_so() -> None:
    wait = played([(0.0, BUSY._replace(again_in=3600.0)), (1.0, "answered")])
    assert wait.is_too_long(1.0)
    assert wait.refusal(1.0) == BUSY._replace(again_in=3599.0)


@given(cuts=st.lists(st.integers(0, 30), max_size=6))
def test_however_the_output_comes_the_same_is_heard(cuts: list[int]) -> None:
    data = b"nothing\nbusy\nof interest\npart"
    wait = OwnWait({b"busy": BUSY}.get)
    places = sorted(min(cut, len(data)) for cut in cuts)
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        wait.feed("stdout", data[start:end], 1.0)
        wait.feed("stderr", b"bu", 1.0)
    assert wait.refusal(1.0) == BUSY
