"""What is understood of the agent CLIs' output: of what they really printed, and of whatever else they may print.

`expected` in a recording's .toml: `outcome`; `action` (of the reply in the final text; left out: none stands there);
`text` and `detail` (a part of it); `session`; `retry_after` (seconds, one second after it was asked); `usage` (as the
program counts; a count that is left out is unknown) and `used` (since the case that it comes `after`).
"""

from __future__ import annotations

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
