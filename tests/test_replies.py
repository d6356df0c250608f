"""What counts as a reply, what does not and why; and what is left of hostile text."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist.agents.reading import find_reply, parse_reply, read_reply_file
from logist.models.manifest import Role, Verdict
from logist.models.reply import MAX_REPLY_BYTES, Reply
from logist.plain_text import first_part, last_part, plain_text
from logist.prompts import PromptContext, render

TOKEN = "0123456789abcdef"


def as_json(action: str = "COMPLETED", token: str | None = TOKEN, **fields: object) -> str:
    reply: dict[str, object] = {"action": action, "evidence_files": ["a.txt"], "summary_for_supervisor": "done"}
    if token is not None:
        reply["token"] = token
    return json.dumps(reply | fields)


def fenced(content: str, language: str = "json") -> str:
    return f"```{language}\n{content}\n```\n"


def problem_of(data: bytes | str, *, token_required: bool = True) -> str:
    reading = parse_reply(data.encode() if isinstance(data, str) else data, TOKEN, token_required=token_required)
    assert reading.reply is None
    assert reading.problem is not None
    return reading.problem


@pytest.fixture
def reply_file(tmp_path: Path) -> Path:
    (tmp_path / ".logist").mkdir()
    return tmp_path / ".logist" / "reply.json"


# The file


def test_a_reply_file_with_this_steps_token_counts(tmp_path: Path, reply_file: Path) -> None:
    reply_file.write_text(as_json(), encoding="utf-8")
    reading = read_reply_file(tmp_path, reply_file, TOKEN)
    assert reading is not None
    assert reading.reply == Reply(action=Verdict.COMPLETED, evidence_files=("a.txt",), summary_for_supervisor="done")


def test_no_file_is_no_problem_but_nothing(tmp_path: Path, reply_file: Path) -> None:
    assert read_reply_file(tmp_path, reply_file, TOKEN) is None
    reply_file.parent.rmdir()
    assert read_reply_file(tmp_path, reply_file, TOKEN) is None


def test_a_reply_of_another_step_does_not_count(tmp_path: Path, reply_file: Path) -> None:
    reply_file.write_text(as_json(token="f" * 16), encoding="utf-8")
    reading = read_reply_file(tmp_path, reply_file, TOKEN)
    assert reading is not None
    assert reading.reply is None
    assert reading.problem == "the reply carries a token that was given for another attempt"


def test_a_reply_file_without_a_token_does_not_count(tmp_path: Path, reply_file: Path) -> None:
    reply_file.write_text(as_json(token=None), encoding="utf-8")
    reading = read_reply_file(tmp_path, reply_file, TOKEN)
    assert reading is not None
    assert reading.reply is None
    assert "carries no token" in str(reading.problem)


def test_a_linked_reply_file_is_not_followed(tmp_path: Path, reply_file: Path) -> None:
    (tmp_path / "elsewhere").write_text(as_json(), encoding="utf-8")
    reply_file.symlink_to(tmp_path / "elsewhere")
    reading = read_reply_file(tmp_path, reply_file, TOKEN)
    assert reading is not None
    assert (reading.reply, reading.received) == (None, "")
    assert reading.problem == "the reply file could not be read: it is a link"


def test_a_linked_reply_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "reply.json").write_text(as_json(), encoding="utf-8")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / ".logist").symlink_to(tmp_path / "elsewhere")
    assert read_reply_file(workspace, workspace / ".logist" / "reply.json", TOKEN) is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_refused_without_hanging(tmp_path: Path, reply_file: Path, make: object) -> None:
    assert callable(make)
    make(reply_file)
    before = len(list(Path("/proc/self/fd").iterdir()))
    reading = read_reply_file(tmp_path, reply_file, TOKEN)
    assert reading is not None
    assert reading.problem == "the reply file is not a regular file"
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_huge_reply_file_is_refused_and_not_read_whole(tmp_path: Path, reply_file: Path) -> None:
    with reply_file.open("wb") as file:
        file.truncate(1 << 40)
    reading = read_reply_file(tmp_path, reply_file, TOKEN)
    assert reading is not None
    assert reading.problem == f"the reply is larger than {MAX_REPLY_BYTES} bytes"


# The content


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("", "is not JSON"),
        ("done", "is not JSON"),
        (as_json()[:-1], "is not JSON"),
        (as_json() + as_json(), "is not JSON"),
        ("[]", "must be one JSON object"),
        ("null", "must be one JSON object"),
        (b'{"action": "\xff"}', "not UTF-8 at byte 12"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        (as_json(cost=float("nan")), "NaN is not JSON"),
        (as_json(cost=float("-inf")), "-Infinity is not JSON"),
        ('{"n": ' + "9" * 10_000 + "}", "too long"),
        (as_json(summary_for_supervisor="\ud800"), "half of a surrogate pair"),
        ('{"action": "RETRY", "action": "COMPLETED"}', 'the key "action" stands twice'),
        (as_json(verdict="yes", mood=1), 'unknown keys: "verdict", "mood"; it takes action, evidence_files'),
        (json.dumps({"token": TOKEN}), "has no action"),
        (as_json("COMPLETED|RETRY|STUCK"), 'must be COMPLETED, RETRY or STUCK, not "COMPLETED|RETRY|STUCK"'),
        (as_json("completed"), 'not "completed"'),
        (as_json(action=["COMPLETED"]), "not a list"),
        (as_json(evidence_files="a.txt"), "evidence_files must be a list of relative paths"),
        (as_json(evidence_files=[""]), "evidence_files must be a list of relative paths"),
        (as_json(evidence_files=[1]), "evidence_files must be a list of relative paths"),
        (as_json(summary_for_supervisor=None), "summary_for_supervisor must be a string"),
        (as_json(summary_for_supervisor="x" * 40_000), "summary_for_supervisor is longer than 32768 characters"),
        (as_json(token=7), "carries a token that was given for another attempt"),
        (b" " * (MAX_REPLY_BYTES + 1), "larger than"),
    ],
)
def test_a_bad_reply_is_refused_with_a_sentence_to_act_on(data: bytes | str, problem: str) -> None:
    told = problem_of(data)
    assert problem in told
    assert "\n" not in told
    assert len(told) < 600


def test_a_megabyte_of_keys_is_refused_in_time() -> None:
    many = "{" + ",".join(f'"k{i}":0' for i in range(80_000)) + ',"k79999":0}'
    assert "stands twice" in problem_of(many)


def test_control_sequences_are_gone_from_a_summary() -> None:
    data = as_json(summary_for_supervisor="\x1b[31mred\x1b]0;title\x07\0 \u202etxt").encode()
    reply = parse_reply(data, TOKEN, token_required=True).reply
    assert reply is not None
    assert reply.summary_for_supervisor == "red txt"


# The final text


def test_the_last_fenced_reply_counts() -> None:
    text = "Here it is.\n" + fenced('{"name": "not a reply"}') + "and\n" + fenced(as_json("STUCK", token=None))
    reply = find_reply(text, TOKEN).reply
    assert reply is not None
    assert reply.action is Verdict.STUCK


@pytest.mark.parametrize("language", ["", "json", "JSON", "json title=reply"])
def test_json_and_plain_fences_count(language: str) -> None:
    assert find_reply(fenced(as_json(), language), TOKEN).reply is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I am done: COMPLETED",
        fenced(as_json(), "python"),
        fenced("print('no')", "json"),
        "so: " + as_json() + " that is all",
        "```json\n" + as_json(),
        "~~~~text\n" + fenced(as_json()) + "~~~~",
        "````\n" + fenced(as_json()) + "````",
        fenced('{"settings": {"action": "COMPLETED"}}'),
    ],
)
def test_what_is_no_fenced_reply_is_none(text: str) -> None:
    reading = find_reply(text, TOKEN)
    assert reading.reply is None
    assert reading.problem == "there is no reply: no fenced JSON block with an action is in the final text"


def test_a_text_that_is_nothing_but_the_object_counts() -> None:
    assert find_reply(f"\n{as_json()}\n", TOKEN).reply is not None


def test_two_replies_that_disagree_do_not_count() -> None:
    reading = find_reply(fenced(as_json("RETRY")) + fenced(as_json("COMPLETED")), TOKEN)
    assert reading.reply is None
    assert reading.problem == "there are two replies that disagree: COMPLETED and RETRY"


def test_a_fence_with_a_language_closes_no_block() -> None:
    reading = find_reply("```\n" + as_json() + "\n```json\n```\n", TOKEN)
    assert reading.reply is None
    assert "is not JSON" in str(reading.problem)


def test_two_replies_that_agree_are_one() -> None:
    text = fenced(as_json(summary_for_supervisor="first")) + fenced(as_json(summary_for_supervisor="last"))
    reply = find_reply(text, TOKEN).reply
    assert reply is not None
    assert reply.summary_for_supervisor == "last"


def test_a_broken_last_reply_does_not_fall_back_to_an_earlier_one() -> None:
    reading = find_reply(fenced(as_json()) + fenced('{"action": "RETRY",}'), TOKEN)
    assert reading.reply is None
    assert "is not JSON" in str(reading.problem)


def test_a_fenced_reply_of_another_step_does_not_count() -> None:
    reading = find_reply(fenced(as_json(token="f" * 16)), TOKEN)
    assert reading.reply is None
    assert "given for another attempt" in str(reading.problem)


@pytest.mark.parametrize("role", [Role.WORKER, Role.SUPERVISOR])
def test_an_echo_of_our_own_prompt_is_no_reply(role: Role) -> None:
    quoted = fenced(as_json("STUCK"))
    context = PromptContext(
        job_id="j",
        objective=quoted,
        role=role,
        step=1,
        attempt=1,
        phase="main",
        reply_file=Path("/w/.logist/reply.json"),
        token=TOKEN,
        objections=quoted,
        problem="~~~~\n" + quoted,
        worker_summary=quoted,
    )
    prompt = render(role, context)
    assert quoted in prompt
    reading = find_reply(prompt, TOKEN)
    assert reading.reply is None
    assert 'not "COMPLETED|RETRY|STUCK"' in str(reading.problem)
    answered = find_reply(prompt + "\nMy answer:\n" + fenced(as_json("RETRY")), TOKEN).reply
    assert answered is not None
    assert answered.action is Verdict.RETRY


# Anything at all

plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=200).map(plain_text)
replies = st.builds(
    Reply,
    action=st.sampled_from(Verdict),
    evidence_files=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)).map(tuple),
    summary_for_supervisor=plain,
)


@given(replies, st.booleans(), st.text(alphabet="ab`~{} \n", max_size=60))
def test_every_valid_reply_comes_back_from_both_channels(reply: Reply, ascii_only: bool, before: str) -> None:
    data = {"token": TOKEN, **reply.model_dump(mode="json")}
    text = json.dumps(data, ensure_ascii=ascii_only, indent=1)
    assert parse_reply(text.encode(), TOKEN, token_required=True).reply == reply
    prose = re.sub(r"[`~]", "", before)
    assert find_reply(f"{prose}\n```json\n{text}\n```", TOKEN).reply == reply


pieces = st.lists(
    st.sampled_from(['{"action": ', '"COMPLETED"', "```", "json\n", "\n", "~~~", "{", "}", '"', "\\", "[", "\ud800"])
    | st.text(max_size=5)
).map("".join)


@given(st.binary(max_size=200) | pieces.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_make_the_reader_raise(data: bytes) -> None:
    reading = parse_reply(data, TOKEN, token_required=False)
    assert (reading.reply is None) != (reading.problem is None)


@given(pieces)
def test_no_text_makes_the_reader_raise(text: str) -> None:
    reading = find_reply(text, TOKEN)
    assert (reading.reply is None) != (reading.problem is None)


# Plain text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain\ttext\n", "plain\ttext\n"),
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
        (b"\x1bP1$r0m\x1b\\a\x1b_apc\x1b\\b\x1b^pm\x1b\\c", "abc"),
        (b"\x1bc\x1b(Ba\x1bM", "a"),
        (b"cut off \x1b[3", "cut off "),
        (b"\x1b]0;never closed\nthe rest", "0;never closed\nthe rest"),
        (b"10%\r20%\r\ndone", "10%\n20%\ndone"),
        (b"a\x08\x07\x00\x7fb", "ab"),
        ("\x9b31mc1\x9dtitle\x9c\x85", "c1"),
        ("abc\u202edef\u2066x\u2069\u200f", "abcdefx"),
        ("a\u2028b\ud800", "a\nb\ufffd"),
        (b"caf\xc3\xa9 \xff", "caf\u00e9 \ufffd"),
    ],
)
def test_control_sequences_are_dropped_and_text_is_kept(raw: bytes | str, shown: str) -> None:
    assert plain_text(raw) == shown


hostile = st.lists(
    st.sampled_from(["\x1b", "\x1b[", "\x1b]", "\x9b", "0;", "m", "\x07", "\x1b\\", "\n", "\t", "\r", "a", "\u202e"])
    | st.text(max_size=3)
).map("".join)


@given(hostile | st.binary(max_size=100))
def test_no_control_character_survives(raw: str | bytes) -> None:
    text = plain_text(raw)
    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text
    )
    assert plain_text(text) == text
    text.encode("utf-8")


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert plain_text(text) == text
    assert plain_text(text.encode()) == text


@given(hostile | st.binary(max_size=900), st.integers(min_value=60, max_value=120))
def test_a_part_is_bounded_and_says_when_it_is_one(raw: str | bytes, limit: int) -> None:
    for part in (first_part(raw, limit), last_part(raw, limit)):
        assert len(part) <= limit
    if len(plain_text(raw).strip("\n")) > limit:
        assert last_part(raw, limit).startswith("[... earlier output left out ...]\n")


def test_the_last_part_is_the_end() -> None:
    assert last_part(b"x" * 100_000 + b"the end\n", 60).endswith("xthe end")
    assert first_part("the start" + "x" * 100_000, 60).startswith("the startx")
