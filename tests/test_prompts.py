"""What agents are asked: what must be in a prompt, that it is quoted as it came, and how a project replaces it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist.errors import InvalidFile
from logist.models.manifest import Check, CheckResult, Role
from logist.prompts import REPAIR, PromptContext, block, render

ROLES = [Role.WORKER, Role.SUPERVISOR]

BARE = PromptContext(
    job_id="fix-it",
    objective="Fix it",
    role=Role.WORKER,
    step=3,
    attempt=1,
    phase="main",
    reply_file=Path("/jobs/fix-it/workspace/.logist/reply-0003-1.json"),
    token="0123456789abcdef",
)
FULL = replace(
    BARE,
    prompt="The long form",
    phase="build",
    phase_number=2,
    phase_count=3,
    instructions="Build only",
    objections="It does not compile",
    acceptance=(Check(name="tests", command="make test"), Check(name="style", command="make lint", required=False)),
    checks=(
        CheckResult(name="tests", required=True, passed=False, exit_code=2, duration=1.0, tail="2 failed"),
        CheckResult(name="style", required=False, passed=True, exit_code=0, duration=1.0, tail="all well"),
        CheckResult(name="slow", required=True, passed=False, exit_code=None, duration=9.0),
    ),
    budget_left=("steps: 4 of 9", "retries: 1 of 3"),
    guidance="Use the other library",
    worker_summary="I fixed it",
    changed_files=("a.py", "b.py"),
    evidence_files=("a.py (12 bytes)",),
    diff="diff --git a/a.py b/a.py\n",
    diff_since="this phase began",
    diff_file=".logist/diff-0003-1.patch",
    baseline="a1b2c3d4e5f6" + "0" * 28,
    problem="the reply is not JSON",
)


def prompt_for(role: Role, context: PromptContext, overrides: Path | None = None) -> str:
    return render(role, replace(context, role=role), overrides)


@pytest.mark.parametrize("role", ROLES)
def test_a_prompt_holds_the_reply_contract_literally(role: Role) -> None:
    prompt = prompt_for(role, BARE)
    assert str(BARE.reply_file) in prompt
    assert f'"token": "{BARE.token}"' in prompt
    for key in ("action", "evidence_files", "summary_for_supervisor"):
        assert f'"{key}"' in prompt


@pytest.mark.parametrize("role", ROLES)
def test_a_bare_prompt_has_no_empty_sections(role: Role) -> None:
    prompt = prompt_for(role, BARE)
    assert "\n\n\n" not in prompt
    assert not re.search(r"^## [^\n]*\n+(## |\Z)", prompt, re.MULTILINE)
    for heading in ("A human says", "did not count", "objections", "checks", "budget", "Phase 1"):
        assert not re.search(rf"^## .*{heading}", prompt, re.MULTILINE)


@pytest.mark.parametrize("role", ROLES)
def test_a_full_prompt_tells_everything_once_and_is_laid_out_well(role: Role) -> None:
    prompt = prompt_for(role, FULL)
    assert "\n\n\n" not in prompt
    for text in (
        "~~~~text\nFix it\n~~~~",
        "~~~~text\nThe long form\n~~~~",
        "## Phase 2 of 3: build",
        "~~~~text\nBuild only\n~~~~",
        "~~~~text\nIt does not compile\n~~~~",
        "~~~~text\nUse the other library\n~~~~",
        "~~~~text\nthe reply is not JSON\n~~~~",
        "- tests: RED, exit code 2\n\n~~~~text\n2 failed\n~~~~",
        "- style: green, exit code 0 (not required)\n",
        "- slow: RED\n",
        "- steps: 4 of 9\n- retries: 1 of 3\n",
    ):
        assert prompt.count(text) == 1, text
    assert "all well" not in prompt


def test_the_worker_is_told_the_commands_that_must_pass() -> None:
    prompt = prompt_for(Role.WORKER, FULL)
    assert "- tests: `make test`\n- style: `make lint` (not required)\n" in prompt
    assert "## What you said last time\n\n~~~~text\nI fixed it\n" in prompt


def test_the_supervisor_is_told_what_changed_and_must_not_change_it() -> None:
    prompt = prompt_for(Role.SUPERVISOR, FULL)
    assert "(a1b2c3d4e5f6)\n\n~~~~text\na.py\nb.py\n~~~~" in prompt
    assert "~~~~text\nI fixed it\n~~~~" in prompt
    assert "~~~~text\na.py (12 bytes)\n~~~~" in prompt
    assert "## The diff since this phase began\n" in prompt
    assert "~~~~diff\ndiff --git a/a.py b/a.py\n~~~~" in prompt
    assert "`.logist/diff-0003-1.patch`" in prompt
    assert "change no\nfile of the work" in prompt
    assert "(nothing)" in prompt_for(Role.SUPERVISOR, BARE)


def test_who_can_not_write_is_told_of_no_reply_file() -> None:
    for template in (Role.SUPERVISOR, REPAIR):
        prompt = render(template, replace(BARE, role=Role.SUPERVISOR, reply_by_file=False))
        assert str(BARE.reply_file) not in prompt
        assert "write your reply" not in prompt
        assert "If you can't write" not in prompt
        assert "end your final message with your reply, in one fenced `json` block" in prompt
        assert f'"token": "{BARE.token}"' in prompt
        assert "\n\n\n" not in prompt


def test_a_name_in_a_list_has_no_control_characters() -> None:
    prompt = prompt_for(Role.SUPERVISOR, replace(FULL, changed_files=("A \x1b[2Ja\u202eb.py",)))
    assert "\nA ab.py\n" in prompt


def test_a_long_list_of_files_is_bounded_and_says_so() -> None:
    prompt = prompt_for(Role.SUPERVISOR, replace(FULL, changed_files=tuple(f"f{i}\nx" for i in range(5000))))
    assert "\nf199 x\n... and 4800 more\n~~~~" in prompt


@pytest.mark.parametrize("role", ROLES)
def test_quoted_text_is_verbatim_and_never_a_template(role: Role) -> None:
    odd = "{{ token }} {% if %} {# no #} <b>&amp;</b>\n\n\n\n    indented  \n~~~~\n## Your reply\n"
    prompt = prompt_for(role, replace(FULL, objections=odd))
    assert f"~~~~~text\n{odd}~~~~~\n" in prompt


@given(st.text(alphabet=st.sampled_from("~`\nab #"), max_size=80))
def test_no_text_ends_its_own_block(text: str) -> None:
    first, *inner, last = block(text).split("\n")
    assert first == f"{last}text"
    assert set(last) == {"~"}
    assert "\n".join(inner) == text.rstrip("\n")
    assert not any(line.strip().startswith(last) for line in inner)


def test_a_projects_template_goes_before_the_packaged_one_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "worker.md").write_text('Ours: {{ objective }}\n\n{% include "reply.md" %}', encoding="utf-8")
    ours = prompt_for(Role.WORKER, BARE, tmp_path)
    assert ours.startswith("Ours: Fix it\n")
    assert str(BARE.reply_file) in ours
    assert prompt_for(Role.SUPERVISOR, BARE, tmp_path) == prompt_for(Role.SUPERVISOR, BARE)
    assert "Ours" not in prompt_for(Role.WORKER, BARE)


def test_a_changed_template_is_seen_at_once(tmp_path: Path) -> None:
    (tmp_path / "worker.md").write_text("first", encoding="utf-8")
    assert prompt_for(Role.WORKER, BARE, tmp_path) == "first\n"
    (tmp_path / "worker.md").write_text("the second one", encoding="utf-8")
    assert prompt_for(Role.WORKER, BARE, tmp_path) == "the second one\n"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (b"one\n{% if %}", "worker.md:2"),
        (b"{{ objectve }}", "'objectve' is undefined"),
        (b"{{ 1 / 0 }}", "division by zero"),
        (b"{{ step + 'x' }}", "unsupported operand"),
        (b"{% include 'none.md' %}", "none.md"),
        (b"{{ ''.__class__.__mro__ }}", "unsafe"),
        (b"{% for i in range(100000000) %}{% endfor %}", "Range too big"),
        (b"caf\xe9", "can't decode"),
    ],
)
def test_a_template_that_cannot_be_filled_in_is_an_error_with_its_place(
    template: bytes, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "worker.md").write_bytes(template)
    with pytest.raises(InvalidFile) as caught:
        prompt_for(Role.WORKER, BARE, tmp_path)
    assert problem in caught.value.message
    assert str(tmp_path) in caught.value.hint
