"""What is understood of the agent CLIs' output: of what they really printed, and of whatever else they may print.

`expected` in a recording's .toml: `outcome`; `action` (of the reply in the final text; left out: none stands there);
`text` and `detail` (a part of it); `session`; `retry_after` (seconds, one second after it was asked); `usage` (as the
program counts; a count that is left out is unknown) and `used` (since the case that it comes `after`).
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import TOKEN, Recording, cli_called, every_recording, recording, request_for

from logist.agents import CLIS
from logist.agents.cli import CliAgent, CliOutput
from logist.agents.outcome import BLOCKED, LATER, Outcome, Report
from logist.agents.reading import find_reply
from logist.execution import CommandResult, Ended, StreamResult
from logist.models.reply import Reply
from logist.models.usage import Usage, used_since
from logist.testing import stream

EVERY = every_recording()
CAME_TO_AN_ANSWER = [each for each in EVERY if each.expected["outcome"] == "ok"]


def name_of(recorded: Recording) -> str:
    return f"{recorded.cli}-{recorded.case}"


def report_of(recorded: Recording, step_dir: Path) -> Report:
    return cli_called(recorded.cli).report(recorded.output(step_dir))


def reply_in(report: Report) -> Reply | None:
    """The reply that is taken from the final text, where that counts at all."""
    return find_reply(report.text, TOKEN).reply if report.outcome is Outcome.OK else None


@pytest.mark.parametrize("cli", CLIS)
def test_every_agent_cli_has_a_recorded_answer_and_a_recorded_refusal(cli: str) -> None:
    assert {"ok", "auth"} <= {each.case for each in EVERY if each.cli == cli}


@pytest.mark.parametrize("recorded", EVERY, ids=name_of)
def test_a_recording_says_how_it_was_made(recorded: Recording) -> None:
    about = recorded.about
    assert about["made"] in ("recorded", "by hand")
    assert about["version"]
    assert about["what"]
    assert set(about) <= {"made", "version", "what", "exit_code", "killed", "after", "expected"}
    keys = {"outcome", "action", "text", "detail", "session", "retry_after", "usage", "used"}
    assert set(recorded.expected) <= keys


@pytest.mark.parametrize("recorded", EVERY, ids=name_of)
def test_the_recorded_outcome_is_understood(recorded: Recording, tmp_path: Path) -> None:
    report, expected = report_of(recorded, tmp_path), recorded.expected
    assert report.outcome == expected["outcome"], report
    assert expected.get("detail", "") in report.detail
    assert (report.detail == "") is (report.outcome is Outcome.OK)


@pytest.mark.parametrize(
    ("cli", "case", "detail"),
    [
        ("cn", "auth", "401 invalid x-api-key"),
        ("cline", "v2_auth", "401 invalid x-api-key"),
        ("mini", "limit", "it met its own limit (LimitsExceeded)"),
        ("droid", "auth", "401 invalid x-api-key"),
        ("codex", "refused", "Invalid value: 'xhigh'. Supported values are: 'low', 'medium', and 'high'."),
        ("mini", "no_model", "ValueError: No default model set. Please run `mini-extra config setup` to set one."),
        ("opencode", "waits", "slow down"),
    ],
)
def test_an_error_is_told_in_the_programs_words_alone(cli: str, case: str, detail: str, tmp_path: Path) -> None:
    assert report_of(recording(cli, case), tmp_path).detail == detail


@pytest.mark.parametrize("case", ["v1_ok", "v2_ok"])
@pytest.mark.parametrize(("exit_code", "outcome"), [(1, Outcome.NO_RESULT), (143, Outcome.KILLED)])
def test_a_result_of_an_earlier_cline_counts_only_if_it_ended_well(
    case: str, exit_code: int, outcome: Outcome, tmp_path: Path
) -> None:
    output = recording("cline", case).output(tmp_path)._replace(exit_code=exit_code)
    assert cli_called("cline").report(output).outcome is outcome


@pytest.mark.parametrize("recorded", EVERY, ids=name_of)
def test_the_final_text_is_the_agents_last_words_and_nothing_else(recorded: Recording, tmp_path: Path) -> None:
    report, expected = report_of(recorded, tmp_path), recorded.expected
    reply = reply_in(report)
    assert (reply.action.value if reply else None) == expected.get("action"), report.text
    assert expected.get("text", "") in report.text
    assert "EXAMPLE OF A REPLY" not in report.text


@pytest.mark.parametrize("recorded", EVERY, ids=name_of)
def test_the_recorded_session_and_its_counts_are_read(recorded: Recording, tmp_path: Path) -> None:
    report, expected = report_of(recorded, tmp_path), recorded.expected
    assert report.session == expected.get("session")
    assert report.usage.model_dump(exclude_none=True) == expected.get("usage", {})


@pytest.mark.parametrize("recorded", [each for each in EVERY if "after" in each.about], ids=name_of)
def test_what_a_resumed_oneshot_used_is_told_apart_from_its_session(recorded: Recording, tmp_path: Path) -> None:
    before = report_of(recording(recorded.cli, recorded.about["after"]), tmp_path / "before")
    report = report_of(recorded, tmp_path / "now")
    assert report.session == before.session
    used = used_since(before.usage, report.usage, report.cumulative)
    assert used.model_dump(exclude_none=True) == recorded.expected["used"]


@pytest.mark.parametrize("recorded", EVERY, ids=name_of)
def test_a_recording_becomes_the_answer_of_the_agent(recorded: Recording, tmp_path: Path) -> None:
    request = request_for(tmp_path, recorded.cli)
    output = recorded.output(request.step_dir)
    if recorded.reply_file is not None:
        request.reply_file.write_bytes(recorded.reply_file)
    killed = recorded.about.get("killed", False)
    result = CommandResult(
        Ended.TIMED_OUT if killed else Ended.EXITED,
        output.exit_code,
        1.0,
        stream(output.stdout),
        stream(output.stderr),
    )
    answer = CliAgent(cli_called(recorded.cli)).read(request, result)
    outcome = Outcome(recorded.expected["outcome"])
    assert answer.outcome is (Outcome.TIMEOUT if killed else outcome)
    assert answer.retry_after == (None if killed else recorded.expected.get("retry_after"))
    if killed:
        assert answer.kind == "timeout"
    elif outcome in (Outcome.OK, Outcome.NO_RESULT):
        has_reply = recorded.reply_file is not None or "action" in recorded.expected
        assert answer.kind == ("reply" if has_reply else "unreadable")
        assert answer.source == ("file" if recorded.reply_file is not None else "text" if outcome is Outcome.OK else "")
    else:
        assert (answer.kind == "blocked") is (outcome in BLOCKED)
        assert (answer.kind == "transient") is (outcome in LATER or outcome is Outcome.KILLED)
        assert answer.reply is None


def stopped(stdout: bytes, tmp_path: Path) -> str:
    """What is said of a cline with this output that was stopped because it had been silent for too long."""
    result = CommandResult(Ended.TIMED_OUT, 143, 60.0, stream(stdout), stream(b""), detail="it printed nothing for 9 s")
    answer = CliAgent(cli_called("cline")).read(request_for(tmp_path, "cline"), result)
    assert (answer.kind, answer.outcome) == ("timeout", Outcome.TIMEOUT)
    return answer.problem or ""


@pytest.mark.parametrize(
    ("case", "account"),
    [
        ("v1_server", "; by its own account: 500 server on fire"),
        ("v1_unauthorized", "; by its own account: Connection error."),
        ("v1_no_tool", "; by its own account: [YOLO MODE] Task failed: Too many consecutive mistakes (3). The model"),
        ("v1_forbidden", ""),
        ("v1_killed", ""),
    ],
)
def test_a_cline_that_waits_for_a_human_is_stopped_with_its_last_error_in_one_short_line(
    case: str, account: str, tmp_path: Path
) -> None:
    problem = stopped(recording("cline", case).stdout, tmp_path)
    limit = "timeout: the command was stopped: it printed nothing for 9 s"
    assert problem.startswith(limit + account)
    assert len(problem.removeprefix(limit)) <= (200 if account else 0)
    assert "\n" not in problem


@pytest.mark.parametrize(("case", "error"), [("v1_server", "500 server on fire"), ("v1_unauthorized", "Connection")])
def test_a_cline_that_is_stopped_while_it_tries_again_says_after_what(case: str, error: str, tmp_path: Path) -> None:
    printed, end, _ = recording("cline", case).stdout.partition(b'"say": "error_retry"\n}\n')
    assert f"by its own account: {error}" in stopped(printed + end, tmp_path)


def test_an_error_that_a_cline_got_over_is_not_why_it_was_stopped(tmp_path: Path) -> None:
    printed, end, _ = recording("cline", "v1_server").stdout.partition(b'"say": "error_retry"\n}\n')
    went_on = b'{\n  "type": "say",\n  "text": "sleep 97",\n  "say": "command"\n}\n'
    assert "account" not in stopped(printed + end + went_on, tmp_path)


RESULT = re.compile(rb'^\{"type": ?"result".*$', re.MULTILINE)


@pytest.mark.parametrize(
    ("cli", "result", "kind"),
    [
        ("claude", {"subtype": "completed", "is_error": False}, "completed"),
        ("claude", {}, "it names none"),
        ("qwen", {"subtype": "completed", "is_error": False}, "completed"),
        ("qwen", {}, "it names none"),
        ("gemini", {"status": "completed"}, "completed"),
        ("gemini", {}, "it names none"),
        ("copilot", {"exit": "completed"}, "it names none"),
        ("copilot", {}, "it names none"),
    ],
)
def test_a_result_of_an_unknown_kind_is_none_and_only_the_reply_is_asked_for_again(
    cli: str, result: dict[str, object], kind: str, tmp_path: Path
) -> None:
    recorded = recording(cli, "file")
    request = request_for(tmp_path, cli)
    request.reply_file.write_bytes(recorded.reply_file or b"")
    fence = f'```json\n{{"token": "{TOKEN}", "action": "COMPLETED", "evidence_files": []}}\n```'
    said = json.dumps({"type": "result", "result": fence, **result}).encode()
    stdout, changed = RESULT.subn(lambda _: said, recorded.stdout)
    assert changed == 1
    answer = CliAgent(cli_called(cli)).read(
        request, CommandResult(Ended.EXITED, 0, 1.0, stream(stdout), stream(recorded.stderr))
    )
    assert (answer.outcome, answer.kind, answer.reply) == (Outcome.NO_RESULT, "unreadable", None)
    assert answer.problem == f"no_result: its result is of a kind that is not known ({kind})"


@pytest.mark.parametrize(
    ("finish", "outcome", "detail"),
    [
        ({}, Outcome.NO_RESULT, "its result is of a kind that is not known (it names none)"),
        ({"finishReason": "done"}, Outcome.NO_RESULT, "its result is of a kind that is not known (done)"),
        ({"finishReason": "max_iterations"}, Outcome.LIMIT, "it met its own limit (max_iterations)"),
        ({"finishReason": "aborted"}, Outcome.KILLED, "it ended itself (aborted)"),
    ],
)
def test_a_cline_that_did_not_complete_is_told_by_how_it_finished(
    finish: dict[str, str], outcome: Outcome, detail: str, tmp_path: Path
) -> None:
    printed = json.dumps({"type": "run_result", "text": "All is well.", **finish}).encode()
    report = cli_called("cline").report(CliOutput(printed, b"", 0, tmp_path))
    assert (report.outcome, report.detail, report.text) == (outcome, detail, "")


@pytest.mark.parametrize("cli", ["claude", "qwen"])
def test_an_error_of_an_unknown_kind_is_an_error_all_the_same(cli: str, tmp_path: Path) -> None:
    result = {"type": "result", "subtype": "error_of_another_kind", "errors": [], "error": {}}
    report = cli_called(cli).report(CliOutput(json.dumps(result).encode(), b"", 1, tmp_path))
    assert (report.outcome, report.detail) == (Outcome.SERVER, "error_of_another_kind")


def test_a_codex_that_has_no_room_left_begins_a_new_session(tmp_path: Path) -> None:
    assert report_of(recording("codex", "context"), tmp_path / "context").session is None
    assert report_of(recording("codex", "refused"), tmp_path / "refused").session is not None


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ({"message": "no", "code": "model_not_found"}, Outcome.MODEL_NOT_FOUND),
        ({"message": "no", "code": "insufficient_quota"}, Outcome.QUOTA),
        (
            {"message": "'temperature' is not supported with this model.", "code": "unsupported_parameter"},
            Outcome.CONFIG,
        ),
    ],
)
def test_a_refusal_that_codex_prints_as_it_came_is_read_by_its_words_then_by_its_code(
    error: dict[str, str], outcome: Outcome, tmp_path: Path
) -> None:
    failed = {"type": "turn.failed", "error": {"message": json.dumps({"error": error}, indent=2)}}
    report = cli_called("codex").report(CliOutput(json.dumps(failed).encode(), b"", 1, tmp_path))
    assert (report.outcome, report.detail) == (outcome, error["message"])


@pytest.mark.parametrize(
    ("case", "account"),
    [
        ("waits", "; by its own account: slow down"),
        ("waits_later", "; by its own account: Rate limit reached for requests"),
    ],
)
def test_an_opencode_that_is_stopped_while_it_waits_says_what_its_provider_said(
    case: str, account: str, tmp_path: Path
) -> None:
    recorded = recording("opencode", case)
    result = CommandResult(
        Ended.TIMED_OUT,
        143,
        60.0,
        stream(recorded.stdout),
        stream(recorded.stderr),
        detail="it printed nothing for 9 s",
    )
    answer = CliAgent(cli_called("opencode")).read(request_for(tmp_path, "opencode"), result)
    assert (answer.kind, answer.outcome) == ("timeout", Outcome.TIMEOUT)
    assert answer.problem == f"timeout: the command was stopped: it printed nothing for 9 s{account}"


def logged(said: str, at: str = "2026-11-22T07:25:58.074Z", small: str = "false") -> bytes:
    """A line of opencode's log on an error of its provider."""
    return (
        f'timestamp={at} level=ERROR run=1 message="stream error" small={small} error.error={json.dumps(said)}\n'
    ).encode()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(logged("slow down", at="2026-11-22T07:25:40.000Z"), id="got over"),
        pytest.param(logged("slow down", small="true"), id="of the title"),
        pytest.param(logged("slow down", at="yesterday"), id="of no moment"),
        pytest.param(logged("slow down").replace(b"stream error", b"another error"), id="of something else"),
    ],
)
def test_an_error_in_opencodes_log_that_is_not_its_last_word_tells_nothing(line: bytes, tmp_path: Path) -> None:
    output = recording("opencode", "waits_later").output(tmp_path)
    assert cli_called("opencode").report(output).outcome is Outcome.RATE_LIMITED
    report = cli_called("opencode").report(output._replace(stderr=line))
    assert (report.outcome, report.detail) == (Outcome.NO_RESULT, "its last step did not end it (reason: tool-calls)")


def test_opencodes_log_is_no_part_of_its_answer(tmp_path: Path) -> None:
    said = f'```json\n{{"token": "{TOKEN}", "action": "COMPLETED"}}\n```'
    answered, waits = recording("opencode", "ok"), recording("opencode", "waits")
    later = logged(f"AI_APICallError: {said}")
    ended = cli_called("opencode").report(answered.output(tmp_path)._replace(stderr=later))
    assert ended == report_of(answered, tmp_path)
    stopped = cli_called("opencode").report(waits.output(tmp_path)._replace(stderr=later))
    assert (stopped.outcome, stopped.text, stopped.detail) == (Outcome.SERVER, "", said)


def test_why_opencode_did_not_begin_is_not_looked_for_in_its_log(tmp_path: Path) -> None:
    stderr = recording("opencode", "waits").stderr.splitlines()[0] + b"\nError: no such folder\n"
    report = cli_called("opencode").report(CliOutput(b"", stderr, 1, tmp_path))
    assert (report.outcome, report.detail) == (Outcome.CONFIG, "Error: no such folder")


REMEDIES = {
    Outcome.MODEL_NOT_FOUND: "name another model: --worker {cli}:MODEL",
    Outcome.QUOTA: "fill up the account, or name another agent: --worker NAME",
    Outcome.PERMISSION_DENIED: "allow it in the args of [roles.worker], and take them over: --worker {cli}",
    Outcome.CONFIG: "`logist agent check {cli} --no-ask` says whether this version of it is known",
}


@pytest.mark.parametrize("recorded", [each for each in EVERY if each.expected["outcome"] in BLOCKED], ids=name_of)
def test_what_only_a_human_can_mend_is_one_sentence_that_ends_with_how(recorded: Recording, tmp_path: Path) -> None:
    request = request_for(tmp_path, recorded.cli)
    output = recorded.output(request.step_dir)
    result = CommandResult(Ended.EXITED, output.exit_code, 1.0, stream(output.stdout), stream(output.stderr))
    cli = cli_called(recorded.cli)
    problem = CliAgent(cli).read(request, result).problem or ""
    outcome = Outcome(recorded.expected["outcome"])
    assert problem.startswith(f"{outcome}: ")
    assert problem.endswith(f"; {REMEDIES.get(outcome, cli.login).format(cli=recorded.cli)}")
    # As much as is shown of it.
    assert len(problem) <= 300
    assert "\n" not in problem


@pytest.mark.parametrize("cli", CLIS)
def test_every_agent_cli_says_how_one_logs_in(cli: str) -> None:
    assert "log in" in cli_called(cli).login or "set " in cli_called(cli).login


@pytest.mark.parametrize("cli", CLIS)
@given(stdout=st.binary(max_size=300), stderr=st.binary(max_size=100), exit_code=st.integers(0, 255))
@settings(max_examples=50)
def test_whatever_a_program_prints_is_reported_and_never_raises(
    cli: str, stdout: bytes, stderr: bytes, exit_code: int
) -> None:
    report = cli_called(cli).report(CliOutput(stdout, stderr, exit_code, Path("nowhere")))
    assert isinstance(report.outcome, Outcome)
    assert isinstance(report.usage, Usage)


@pytest.mark.parametrize("recorded", EVERY, ids=name_of)
@given(data=st.data())
@settings(max_examples=30)
def test_values_of_other_kinds_are_reported_and_never_raise(recorded: Recording, data: st.DataObject) -> None:
    # Another version may print another kind of value at any place.
    value = data.draw(st.sampled_from([b"null", b"[]", b"{}", b'"x"', b"-1", b"1e400", b"true", b"\xff", b"9" * 5000]))
    places = [place for place, byte in enumerate(recorded.stdout) if byte == ord(":")]
    place = data.draw(st.sampled_from(places)) if places else 0
    end = data.draw(st.integers(place, min(place + 80, len(recorded.stdout))))
    stdout = recorded.stdout[: place + 1] + value + recorded.stdout[end:]
    with tempfile.TemporaryDirectory() as folder:
        output = recorded.output(Path(folder))._replace(stdout=stdout)
        assert isinstance(cli_called(recorded.cli).report(output), Report)


@pytest.mark.parametrize("recorded", CAME_TO_AN_ANSWER, ids=name_of)
@given(data=st.data())
@settings(max_examples=50)
def test_of_output_with_a_part_missing_no_other_reply_is_taken_than_of_the_whole(
    recorded: Recording, data: st.DataObject
) -> None:
    # As a stream is kept that was too long: its start, a note, and its end.
    start = data.draw(st.integers(0, len(recorded.stdout)))
    end = data.draw(st.integers(start, len(recorded.stdout)))
    head, tail = recorded.stdout[:start], recorded.stdout[end:]
    both = StreamResult(total=len(head) + len(tail) + 1, head=head, tail=tail).kept
    left = data.draw(st.sampled_from([head, tail, both]))
    with tempfile.TemporaryDirectory() as folder:
        whole = recorded.output(Path(folder))
        cli = cli_called(recorded.cli)
        reply = reply_in(cli.report(whole._replace(stdout=left)))
        assert reply in (None, reply_in(cli.report(whole)))
