"""What people and programs see: the card, the tables, the event lines, and the live view of a run."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist import console, events
from logist.console import card, tables
from logist.console.live import LiveReporter
from logist.console.records import history_lines
from logist.console.reporters import (
    ConsoleReporter,
    JsonReporter,
    OutputLines,
    PlainReporter,
    QuietReporter,
    shows_live,
)
from logist.events import Event
from logist.job_list import JobRow, Runner
from logist.job_report import BudgetLine, ChangedFile, JobReport, Places, Words
from logist.lifecycle import JobStatus, Trigger
from logist.models.history import Committed, HistoryEntry, ProcessRecord, Started, Transition
from logist.models.manifest import CheckResult, Reason, ReasonCode, Role, RoleSettings, Source, Verdict
from logist.models.usage import Usage
from logist.next_commands import NextCommand
from logist.step_summaries import StepSummary
from logist.testing import FakeClock

ROOT = Path(__file__).resolve().parents[1]
NOW = datetime(2026, 11, 21, 14, 22, 3, tzinfo=UTC)
#: Clipboard, title, clear screen, colour, C1, bidi, markup, carriage return, zero width.
HOSTILE = (
    "\x1b]52;c;aGk=\x07\x1b]0;t\x1b\\\x1b[2J\x1b[31mred\x1b[0m\x9b2J\x90q\x9c \u202e[/foo][bold]\r\x00\u200b\u2066end"
)
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC, and the terminal one of many colours."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TERM", "xterm-256color")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


# --- The card ------------------------------------------------------------------------------------------------------

OBJECTION = (
    "The empty-password test still passes when the guard is removed. The worker keeps editing the test instead of "
    "login.py. I need to know: should an empty password be 400 or 401?"
)
WORK = "Added guard in login.py; test_login_empty expects 401. All 42 tests pass locally."


def step(number: int, role: Role, action: Verdict, summary: str, **fields: object) -> StepSummary:
    """A step of 182 seconds."""
    values: dict[str, object] = {
        "step": number,
        "at": NOW,
        "role": role,
        "agent": "claude" if role is Role.WORKER else "codex",
        "phase": "main",
        "action": action,
        "summary": summary,
        "files_changed": 2 if role is Role.WORKER else 0,
        "skipped": 0,
        "duration": 182.0,
        "cost": 0.11,
        "tokens": None,
        "checks": (),
        "commit": f"{number:x}f" * 20,
    }
    return StepSummary(**{**values, **fields})


STEPS = (
    step(3, Role.WORKER, Verdict.COMPLETED, "Added test_login_empty."),
    step(4, Role.SUPERVISOR, Verdict.RETRY, "the test asserts nothing: line 41 compares x to x", duration=38.0),
    step(5, Role.WORKER, Verdict.COMPLETED, WORK, cost=None),
    step(6, Role.SUPERVISOR, Verdict.STUCK, OBJECTION, duration=52.0),
)
RED = CheckResult(name="ruff", required=True, passed=False, exit_code=1, duration=1.0)
CHECKS = (
    CheckResult(name="pytest", required=True, passed=True, exit_code=0, duration=1.0),
    RED,
    CheckResult(name="mypy", required=False, passed=False, exit_code=None, duration=1.0),
)
COMMANDS = (
    NextCommand(
        'logist job resolve fix-login --retry -m "what to do differently"',
        "guide and try again",
        JobStatus.PENDING,
        suggested=True,
    ),
    NextCommand("logist job resolve fix-login --approve", "take the work as it is", JobStatus.SUCCESS),
    NextCommand("logist job diff fix-login", "see the work"),
)
STUCK = JobReport(
    id="fix-login",
    objective="An empty password must not log anybody in",
    status=JobStatus.INTERVENTION_REQUIRED,
    headline="INTERVENTION REQUIRED",
    reason=Reason(code=ReasonCode.SUPERVISOR_STUCK, sentence=f"the supervisor said STUCK: {OBJECTION}"),
    runner=None,
    at=NOW,
    created_at=NOW - timedelta(days=2),
    updated_at=NOW - timedelta(seconds=130),
    phase=1,
    phase_count=2,
    phase_name="guard",
    next_role=Role.WORKER,
    roles={Role.WORKER: RoleSettings(agent="claude", model="opus"), Role.SUPERVISOR: RoleSettings(agent="codex")},
    step=6,
    attempt=0,
    line=1,
    steps=STEPS,
    supervisor=Words(6, "codex", Verdict.STUCK, OBJECTION),
    worker=Words(5, "claude", Verdict.COMPLETED, WORK),
    objections="",
    guidance="",
    checks=CHECKS,
    baseline="3f2c9ab" + "0" * 33,
    head="b2e6f04" + "0" * 33,
    tree="c" * 40,
    budget=(
        BudgetLine("steps", 6, 12, 6),
        BudgetLine("time", 1560, 1800, 240),
        BudgetLine("retries", 3, 3, 0),
        BudgetLine("cost", 0.44, None, None),
    ),
    source=Source(),
    places=Places(
        folder="/p/fix-login",
        workspace="/p/fix-login/workspace",
        repo="/p/fix-login/repo.git",
        branch="logist/fix-login",
        logs=("/p/stdout.log",),
    ),
    log_tail=("test_empty PASSED", "42 passed in 1.31s"),
    scripted=(),
    note="",
    changes=(
        ChangedFile("src/auth/login.py", "M", 19, 6),
        ChangedFile("docs/auth.md", "A", 8, 0),
        ChangedFile("logo.png", "A"),
    ),
    next_commands=COMMANDS,
    exit_code=3,
)


def drawn(report: JobReport, width: int | None, exit_code: int | None = None) -> str:
    """The card without colour."""
    return card.card_text(report, width=width, color=False, encoding="utf-8", exit_code=exit_code)


WIDE = """\
 INTERVENTION REQUIRED   fix-login  stopped 14:19:53 (2 min ago) after step 6 of 12

Objective  An empty password must not log anybody in
Why        supervisor_stuck — the supervisor said STUCK
Supervisor codex: “The empty-password test still passes when the guard is removed. The worker keeps editing the test
           instead of login.py. I need to know: should an empty password be 400 or 401?”
Question   I need to know: should an empty password be 400 or 401?
Worker     claude: “Added guard in login.py; test_login_empty expects 401. All 42 tests pass locally.”

  step  who               verdict    files    cost    time  commit
     3  worker claude     COMPLETED      2   $0.11   3m02s  3f3f3f3  “Added test_login_empty.”
     4  supervisor codex  RETRY          –   $0.11     38s  4f4f4f4  “the test asserts nothing: line 41 compares x t\
o x”
     5  worker claude     COMPLETED      2       –   3m02s  5f5f5f5  “Added guard in login.py; test_login_empty expe\
ct…”
     6  supervisor codex  STUCK          –   $0.11     52s  6f6f6f6  “The empty-password test still passes when the \
gu…”

Changed    3 files  +27 -6  since the baseline 3f2c9ab
           M src/auth/login.py  +19 -6
           A docs/auth.md       +8 -0
           A logo.png           binary
Checks     ✓ pytest   ✗ ruff (exit 1)   ✗ mypy (did not finish, not required)
Evidence   logist/fix-login at b2e6f04 in /p/fix-login/repo.git
Roles      worker claude:opus   supervisor codex
Phase      1 of 2: guard
Budget     steps 6/12   time 26m/30m   retries 3/3 used up   cost $0.44
Workspace  /p/fix-login/workspace
Log        /p/stdout.log

last lines of the log ──────────────────────────────────────────────────────────────────────────────────────────────\
────
test_empty PASSED
42 passed in 1.31s

what you can do ────────────────────────────────────────────────────────────────────────────────────────────────────\
────
  logist job resolve fix-login --retry -m "what to do differently"  guide and try again → PENDING (suggested)
  logist job resolve fix-login --approve                            take the work as it is → SUCCESS
  logist job diff fix-login                                         see the work

exit status 3 · nothing was lost: saved at b2e6f04 · after an answer: logist job run fix-login
"""
NARROW = """\
 INTERVENTION REQUIRED   fix-login  stopped 14:19:53 (2 min ago) after step 6 of 12

Objective  An empty password must not log anybody in
Why        supervisor_stuck — the supervisor said STUCK
Supervisor codex: “The empty-password test still passes when the guard is
           removed. The worker keeps editing the test instead of login.py. I
           need to know: should an empty password be 400 or 401?”
Question   I need to know: should an empty password be 400 or 401?
Worker     claude: “Added guard in login.py; test_login_empty expects 401. All
           42 tests pass locally.”

  step  who               verdict    files    cost    time  commit
     3  worker claude     COMPLETED      2   $0.11   3m02s  3f3f3f3
     4  supervisor codex  RETRY          –   $0.11     38s  4f4f4f4
        “the test asserts nothing: line 41 compares x to x”
     5  worker claude     COMPLETED      2       –   3m02s  5f5f5f5
     6  supervisor codex  STUCK          –   $0.11     52s  6f6f6f6
        “The empty-password test still passes when the guard is removed. The w…”

Changed    3 files  +27 -6  since the baseline 3f2c9ab
           M src/auth/login.py  +19 -6
           A docs/auth.md       +8 -0
           A logo.png           binary
Checks     ✓ pytest   ✗ ruff (exit 1)   ✗ mypy (did not finish, not required)
Evidence   logist/fix-login at b2e6f04 in /p/fix-login/repo.git
Roles      worker claude:opus   supervisor codex
Phase      1 of 2: guard
Budget     steps 6/12   time 26m/30m   retries 3/3 used up   cost $0.44
Workspace  /p/fix-login/workspace
Log        /p/stdout.log

last lines of the log ──────────────────────────────────────────────────────────
test_empty PASSED
42 passed in 1.31s

what you can do ────────────────────────────────────────────────────────────────
  logist job resolve fix-login --retry -m "what to do differently"
      guide and try again → PENDING (suggested)
  logist job resolve fix-login --approve
      take the work as it is → SUCCESS
  logist job diff fix-login
      see the work

exit status 3
nothing was lost: saved at b2e6f04
after an answer: logist job run fix-login
"""
PLAIN = """\
 INTERVENTION REQUIRED   fix-login  stopped 14:19:53 (2 min ago) after step 6 of 12

Objective  An empty password must not log anybody in
Why        supervisor_stuck — the supervisor said STUCK
Supervisor codex: “The empty-password test still passes when the guard is removed. The worker keeps editing the test\
 instead of login.py. I need to know: should an empty password be 400 or 401?”
Question   I need to know: should an empty password be 400 or 401?
Worker     claude: “Added guard in login.py; test_login_empty expects 401. All 42 tests pass locally.”

  step  who               verdict    files    cost    time  commit
     3  worker claude     COMPLETED      2   $0.11   3m02s  3f3f3f3  “Added test_login_empty.”
     4  supervisor codex  RETRY          –   $0.11     38s  4f4f4f4  “the test asserts nothing: line 41 compares x t\
o x”
     5  worker claude     COMPLETED      2       –   3m02s  5f5f5f5  “Added guard in login.py; test_login_empty expe\
cts 401. All 42 tests pass locally.”
     6  supervisor codex  STUCK          –   $0.11     52s  6f6f6f6  “The empty-password test still passes when the \
guard is removed. The worker keeps editing the test instead of login.py. I need to know: should an empty password be\
 400 or 401?”

Changed    3 files  +27 -6  since the baseline 3f2c9ab
           M src/auth/login.py  +19 -6
           A docs/auth.md       +8 -0
           A logo.png           binary
Checks     ✓ pytest   ✗ ruff (exit 1)   ✗ mypy (did not finish, not required)
Evidence   logist/fix-login at b2e6f04 in /p/fix-login/repo.git
Roles      worker claude:opus   supervisor codex
Phase      1 of 2: guard
Budget     steps 6/12   time 26m/30m   retries 3/3 used up   cost $0.44
Workspace  /p/fix-login/workspace
Log        /p/stdout.log

last lines of the log ───
test_empty PASSED
42 passed in 1.31s

what you can do ───
  logist job resolve fix-login --retry -m "what to do differently"  guide and try again → PENDING (suggested)
  logist job resolve fix-login --approve                            take the work as it is → SUCCESS
  logist job diff fix-login                                         see the work

exit status 3 · nothing was lost: saved at b2e6f04 · after an answer: logist job run fix-login
"""
SUCCESS = """\
 SUCCESS   fix-login  finished 14:19:53 (2 min ago) after step 6 of 12

Objective  An empty password must not log anybody in
Why        agreed — worker, checks and supervisor agree on tree cccccccccccc
Supervisor codex: “Good. Or should it be 400?”
Worker     claude: “Added guard in login.py; test_login_empty expects 401. All 42 tests pass
           locally.”
Note       the supervisor replays a playbook: scripted, no model is asked

Changed    3 files  +27 -6  since the baseline 3f2c9ab
           M src/auth/login.py  +19 -6
           A docs/auth.md       +8 -0
           A logo.png           binary
Evidence   logist/fix-login at b2e6f04 in /p/fix-login/repo.git
Roles      worker claude:opus   supervisor codex
Phase      1 of 2: guard
Budget     steps 6/12   time 26m/30m   retries 3/3 used up   cost $0.44
Workspace  /p/fix-login/workspace
Log        /p/stdout.log

what you can do ────────────────────────────────────────────────────────────────────────────────────
  logist job diff fix-login  see the work (suggested)

exit status 0
"""


def test_an_intervention_on_a_wide_terminal() -> None:
    assert drawn(STUCK, 120, 3) == WIDE


def test_on_a_narrow_terminal_explanations_and_objections_get_lines_of_their_own() -> None:
    assert drawn(STUCK, 80, 3) == NARROW


@pytest.mark.parametrize(("width", "beside"), [(99, False), (100, True), (None, True)])
def test_explanations_stand_beside_short_commands_where_there_is_room(width: int | None, beside: bool) -> None:
    text = drawn(replace(STUCK, next_commands=COMMANDS[1:2]), width)

    assert ("--approve  take the work as it is → SUCCESS\n" in text) is beside
    assert ("--approve\n      take the work as it is → SUCCESS\n" in text) is not beside


def test_without_a_terminal_nothing_is_wrapped_or_cut() -> None:
    assert drawn(STUCK, None, 3) == PLAIN


def test_a_success_says_what_was_done_and_how_to_get_it() -> None:
    report = replace(
        STUCK,
        status=JobStatus.SUCCESS,
        headline="SUCCESS",
        reason=Reason(code=ReasonCode.AGREED, sentence="worker, checks and supervisor agree on tree cccccccccccc"),
        supervisor=Words(6, "codex", Verdict.COMPLETED, "Good. Or should it be 400?"),
        steps=(),
        checks=(),
        note="the supervisor replays a playbook: scripted, no model is asked",
        next_commands=(NextCommand("logist job diff fix-login", "see the work", suggested=True),),
    )
    assert drawn(report, 100, 0) == SUCCESS


def test_a_running_job_whose_runner_died_says_so_in_the_first_line() -> None:
    died = "RUNNING (its runner died; `logist job run fix-login` recovers it)"
    report = replace(STUCK, status=JobStatus.RUNNING, headline=died)

    assert drawn(report, 120).splitlines()[0] == (
        " RUNNING   fix-login  last record 14:19:53 (2 min ago) after step 6 of 12"
        " (its runner died; `logist job run fix-login` recovers it)"
    )


def test_a_running_job_names_its_runner() -> None:
    runner = Runner(pid=71, host="here", command="run", since="2026-11-21T14:21:03Z", alive=True)
    text = drawn(replace(STUCK, status=JobStatus.RUNNING, headline="RUNNING", runner=runner), 120)

    assert text.splitlines()[0] == " RUNNING   fix-login  step 7 (worker) is under way"
    assert "Runner     process 71 on here since 14:21:03 (1 min ago): run\n" in text


def test_a_paused_run_says_that_nothing_was_lost() -> None:
    report = replace(STUCK, status=JobStatus.PENDING, headline="PENDING", reason=reason(ReasonCode.PAUSED))

    assert drawn(report, 100, 130).endswith("\nexit status 130 · nothing was lost: saved at b2e6f04\n")
    assert "\nWhy        paused — because\n" in drawn(report, 100, 130)


def test_the_reason_does_not_repeat_its_own_code() -> None:
    canceled = Reason(code=ReasonCode.CANCELED, sentence="canceled: not needed")
    report = replace(STUCK, status=JobStatus.CANCELED, headline="CANCELED", reason=canceled)

    assert "\nWhy        canceled: not needed\n" in drawn(report, 100)


def test_a_long_speech_is_cut_on_a_terminal_and_names_where_the_rest_is() -> None:
    report = replace(STUCK, supervisor=Words(6, "codex", Verdict.STUCK, "word " * 400))

    assert "… 18 more lines: logist job log fix-login --step 6\n" in drawn(report, 90)
    assert "more lines" not in drawn(report, None)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (OBJECTION, "I need to know: should an empty password be 400 or 401?"),
        ("Is it 1? Or 2? I can't tell.", "Or 2?"),
        ("Which one?", "Which one?"),
        ("No question. 1 > 0", ""),
        ("", ""),
    ],
)
def test_the_last_question_is_lifted_out(text: str, question: str) -> None:
    assert card.direct_question(text) == question


def test_times_of_another_day_carry_their_date() -> None:
    assert card.moment(NOW - timedelta(days=3), NOW) == "2026-11-18 14:22 (3 d ago)"
    assert card.moment(NOW, NOW) == "14:22:03 (just now)"


def hostile_report() -> JobReport:
    """A report with hostile text wherever somebody else wrote it."""
    said = Words(6, HOSTILE, Verdict.STUCK, f"{HOSTILE} why?")
    return replace(
        STUCK,
        objective=HOSTILE,
        reason=Reason(code=ReasonCode.WORKER_STUCK, sentence=HOSTILE),
        supervisor=said,
        worker=said,
        guidance=HOSTILE,
        note=HOSTILE,
        steps=(step(6, Role.WORKER, Verdict.STUCK, HOSTILE, agent=HOSTILE),),
        checks=(replace_name(RED, HOSTILE),),
        phase_name=HOSTILE,
        changes=(ChangedFile(HOSTILE, "M", 1, 1), ChangedFile("\udcff", "A")),
        log_tail=(HOSTILE,),
        places=Places(HOSTILE, HOSTILE, HOSTILE, HOSTILE, (HOSTILE,)),
        next_commands=(NextCommand(HOSTILE, HOSTILE),),
    )


def replace_name(check: CheckResult, name: str) -> CheckResult:
    """The check under another name."""
    return check.model_copy(update={"name": name})


def assert_harmless(text: str) -> None:
    """No control sequence but colours, no control character but newlines, nothing that reorders."""
    found = _FORBIDDEN.findall(_COLOR.sub("", text))
    assert not found, f"{found} in {text!r}"
    text.encode()


@pytest.mark.parametrize("width", [None, 30, 80, 120])
@pytest.mark.parametrize("color", [True, False])
def test_hostile_text_never_leaves_the_card(width: int | None, color: bool) -> None:
    text = card.card_text(hostile_report(), width=width, color=color, encoding="utf-8", exit_code=3)

    assert_harmless(text)
    assert ("\x1b" in text) is color
    assert "[/foo]" in text


def test_without_utf_8_the_card_is_ascii() -> None:
    report = replace(STUCK, objective="käse ✓")
    text = card.card_text(report, width=80, color=False, encoding="ascii", exit_code=3)

    assert text.isascii()
    assert "k?se +" in text
    assert [len(line) for line in text.splitlines()] == [len(line) for line in drawn(report, 80, 3).splitlines()]


words = st.text(st.characters(codec="utf-8"), max_size=300)


@given(text=words, width=st.integers(2, 60))
def test_wrapping_keeps_every_character_and_the_width(text: str, width: int) -> None:
    rows = console.wrap(console.one_line(text), width)

    assert "".join("".join(rows).split()) == "".join(console.one_line(text).split())
    assert all(console.text_width(row) <= width for row in rows)


@given(text=words, width=st.integers(1, 60))
def test_cropping_says_so_and_keeps_the_width(text: str, width: int) -> None:
    cropped = console.crop(text, width)

    assert console.text_width(cropped) <= width
    assert cropped == text or cropped.endswith("…")


def test_nothing_follows_the_piece_of_a_line_that_was_cut() -> None:
    # What is left of it ends short of the width, so that the next one would fit.
    long, next_one = console.Span("ab   cd", "bad"), console.Span("e", "dim")

    assert console.crop_line((long, next_one), 5) == (console.Span("ab…", "bad"),)
    assert console.crop_line((long, next_one), 8) == (long, next_one)


@given(text=words)
def test_painted_text_is_harmless_whatever_it_was(text: str) -> None:
    painted = console.paint([console.line(console.Span(text, "bad"), text)], color=True)

    assert painted.count("\n") == 1
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", _COLOR.sub("", painted))


def test_what_a_stream_can_show() -> None:
    terminal = Terminal()
    assert console.screen_of(io.TextIOWrapper(io.BytesIO(), encoding="latin-1"), {}) == (None, False, "latin-1")
    assert console.screen_of(terminal, {})[1:] == (True, "utf-8")
    assert not console.screen_of(terminal, {"NO_COLOR": "1"}).color
    assert not console.screen_of(terminal, {"TERM": "dumb"}).color


# --- Tables --------------------------------------------------------------------------------------------------------


def plain(lines: list[console.Line]) -> str:
    """The lines without colour."""
    return console.paint(lines, color=False)


def test_the_list_of_jobs_names_reasons_dead_runners_and_unreadable_jobs() -> None:
    waiting = JobRow(
        id="fix-login",
        selected=True,
        status=JobStatus.INTERVENTION_REQUIRED,
        headline="INTERVENTION REQUIRED",
        reason="no_progress",
        step=12,
        objective="A " * 40,
        updated_at=NOW,
    )
    died = replace(
        waiting,
        id="docs",
        selected=False,
        status=JobStatus.RUNNING,
        headline="RUNNING (its runner died; …)",
        step=3,
        objective="Docs",
        updated_at=NOW - timedelta(hours=2),
    )
    rows = [waiting, died, JobRow("broken", False, problem="job_manifest.json is not JSON")]

    assert plain(tables.jobs_lines(rows, NOW, 100)) == (
        "   job        status                              step  changed   objective\n"
        "*  fix-login  INTERVENTION REQUIRED: no_progress    12  just now  A A A A A A A A A A A A A A A A A…\n"
        "   docs       RUNNING (died)                         3  2 h ago   Docs\n"
        "   broken     UNREADABLE                             –  –         job_manifest.json is not JSON\n"
    )


def test_the_history_is_one_line_a_record() -> None:
    because = Reason(code=ReasonCode.RUNNER_STARTED, sentence="a runner took the job")
    process = ProcessRecord(pid=7, start_time=1, boot_id="b")
    records = [
        Transition(trigger=Trigger.START, reason=because, change={}),
        Started(step=1, attempt=1, process=process, argv=("true",)),
        Committed(
            step=1,
            role=Role.WORKER,
            agent="claude",
            action=Verdict.RETRY,
            summary=HOSTILE,
            phase="main",
            trigger=Trigger.PROCEED,
            reason=because,
            commit="a" * 40,
            tree="b" * 40,
            change={},
        ),
    ]
    entries = [HistoryEntry(seq=number, at=NOW, record=record) for number, record in enumerate(records, start=9)]

    assert plain(history_lines(entries, None)) == (
        "seq  time                 record      what\n"
        "  9  2026-11-21 14:22:03  transition  start: a runner took the job\n"
        " 10  2026-11-21 14:22:03  started     step 1 attempt 1: process 7 runs\n"
        " 11  2026-11-21 14:22:03  committed   step 1 worker: RETRY, aaaaaaa: red [/foo][bold] end\n"
    )


def test_a_dropped_step_is_marked_in_the_table_of_steps() -> None:
    steps = [step(1, Role.WORKER, Verdict.COMPLETED, "done", checks=(RED,)), replace(STEPS[1], dropped=True)]

    assert tables.steps_table(steps, stream=io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) == (
        "  step  who               verdict    files    cost    time  commit\n"
        "     1  worker claude     COMPLETED      2   $0.11   3m02s  1f1f1f1  1 red check  “done”\n"
        "     4  supervisor codex  RETRY          –   $0.11     38s  4f4f4f4  dropped  "
        "“the test asserts nothing: line 41 compares x to x”"
    )


# --- Events --------------------------------------------------------------------------------------------------------

JOB = {"job_id": "fix-login"}


def reason(code: ReasonCode, sentence: str = "because") -> Reason:
    """A reason."""
    return Reason(code=code, sentence=sentence)


def started(number: int, role: Role = Role.WORKER, **fields: object) -> events.StepStarted:
    """The start of a step."""
    values: dict[str, object] = {
        "step": number,
        "attempt": 1,
        "role": role,
        "agent": "claude" if role is Role.WORKER else "codex",
        "phase": "main",
        "steps_spent": number - 1,
        "steps_limit": 4,
        "time_spent": 861.0,
        "time_limit": 1800.0,
        "retries_spent": 1,
        "retries_limit": 3,
        "stdout_log": f"{Path.cwd()}/steps/{number:04d}-{role}/stdout.log",
    }
    return events.StepStarted(**{**JOB, **values, **fields})


def finished(number: int, role: Role, action: Verdict, summary: str, **fields: object) -> events.StepFinished:
    """The end of a step."""
    values: dict[str, object] = {
        "step": number,
        "role": role,
        "agent": "claude" if role is Role.WORKER else "codex",
        "phase": "main",
        "action": action,
        "summary": summary,
        "commit": f"{number:x}a" * 20,
        "files_changed": 2 if role is Role.WORKER else 0,
        "skipped": 0,
        "duration": 41.0,
        "usage": Usage(cost=0.11 if role is Role.WORKER else None),
    }
    return events.StepFinished(**{**JOB, **values, **fields})


def output(text: str | bytes, stream: str = "stdout", number: int = 1) -> events.OutputReceived:
    """What an agent printed."""
    data = text.encode() if isinstance(text, str) else text
    return events.OutputReceived(**JOB, step=number, stream=stream, data=data)


def moved(trigger: Trigger, before: JobStatus, after: JobStatus, sentence: str = "because") -> events.StateChanged:
    """A change of state."""
    because = reason(ReasonCode.STEP_DONE, sentence)
    return events.StateChanged(**JOB, trigger=trigger, before=before, after=after, reason=because)


def over(sentence: str = "the supervisor said STUCK") -> events.JobFinished:
    """The end of a run."""
    stuck = reason(ReasonCode.SUPERVISOR_STUCK, sentence)
    waiting = JobStatus.INTERVENTION_REQUIRED
    return events.JobFinished(**JOB, status=waiting, reason=stuck, step=2, head="b" * 40, exit_code=3)


LATER = NOW + timedelta(seconds=2)
RUN: tuple[Event, ...] = (
    moved(Trigger.START, JobStatus.PENDING, JobStatus.RUNNING, "a runner took the job"),
    started(1),
    output("Edit login.py\n"),
    events.AttemptFailed(**JOB, step=1, attempt=1, kind="transient", detail="429 busy", retry_in=2.0, retry_at=LATER),
    started(1, attempt=2),
    events.CheckFinished(**JOB, step=1, result=RED),
    finished(1, Role.WORKER, Verdict.COMPLETED, "done", checks=(RED,)),
    moved(Trigger.PROCEED, JobStatus.RUNNING, JobStatus.RUNNING, "the supervisor judges it"),
    started(2, Role.SUPERVISOR),
    events.StopRequested(**JOB, now=False, why="asked once"),
    finished(2, Role.SUPERVISOR, Verdict.STUCK, "no test covers the empty password"),
    moved(Trigger.ESCALATE, JobStatus.RUNNING, JobStatus.INTERVENTION_REQUIRED, "the supervisor said STUCK"),
    over(),
)
HOSTILE_RUN: tuple[Event, ...] = (
    events.Notice(**JOB, message=HOSTILE),
    moved(Trigger.START, JobStatus.PENDING, JobStatus.RUNNING, HOSTILE),
    started(1, agent=HOSTILE, phase=HOSTILE),
    output(HOSTILE),
    output("\n"),
    output(HOSTILE, "stderr"),
    events.AttemptFailed(**JOB, step=1, attempt=1, kind="failed", detail=HOSTILE, retry_in=0.0),
    events.CheckFinished(**JOB, step=1, result=replace_name(RED, HOSTILE)),
    finished(1, Role.WORKER, Verdict.STUCK, HOSTILE, agent=HOSTILE),
    over(HOSTILE),
)


class Written(io.StringIO):
    """A stream that remembers what was written, and can be closed by its reader."""

    encoding = "utf-8"
    broken = False

    def write(self, text: str) -> int:
        if self.broken:
            raise BrokenPipeError
        return super().write(text)


class Terminal(Written):
    """A terminal: what it shows after all that was written to it, without its colours."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The rows, the last one first to be overwritten: enough of a terminal for a footer that is drawn anew."""
        rows, row, column = [""], 0, 0
        for sign in re.findall(r"\x1b\[\??[0-9;]*[a-zA-Z]|[^\x1b]", self.getvalue()):
            if sign == "\n":
                row, column = row + 1, 0
                rows += [""] * (row + 1 - len(rows))
            elif sign == "\r":
                column = 0
            elif sign.endswith("A"):
                row -= int(sign[2:-1])
            elif sign == "\x1b[2K":
                rows[row] = ""
            elif not sign.startswith("\x1b"):
                rows[row] = rows[row][:column].ljust(column) + sign + rows[row][column + 1 :]
                column += 1
        return rows

    @property
    def cursor_is_shown(self) -> bool:
        """Whether the cursor was shown again after it was hidden."""
        return self.getvalue().rfind("\x1b[?25h") > self.getvalue().rfind("\x1b[?25l")


def tell(reporter: ConsoleReporter, run: tuple[Event, ...]) -> None:
    """Give every event to the reporter, and close it."""
    for event in run:
        reporter.emit(event)
    reporter.close()


def plain_run(run: tuple[Event, ...], *, verbose: bool = False) -> str:
    """What the plain reporter writes."""
    stream = Written()
    tell(PlainReporter(verbose=verbose, stream=stream, clock=FakeClock(NOW)), run)
    return stream.getvalue()


def json_run(run: tuple[Event, ...], *, verbose: bool = False) -> list[dict[str, object]]:
    """The records that the JSON reporter writes."""
    stream = Written()
    tell(JsonReporter(verbose=verbose, stream=stream, clock=FakeClock(NOW)), run)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_plain_run_is_one_line_an_event() -> None:
    at = "2026-11-21T14:22:03.000Z"
    assert plain_run(RUN) == "".join(
        f"{at}  {line}\n"
        for line in (
            "PENDING → RUNNING: a runner took the job  "
            "type=job.state job=fix-login trigger=start before=PENDING after=RUNNING reason=step_done",
            "step 1 worker claude begins, phase main  type=step.started job=fix-login step=1 role=worker agent=claude",
            "step 1 attempt 1 failed (transient), waits until 14:22:05 (2s left): “429 busy”  "
            "type=step.attempt_failed job=fix-login step=1 attempt=1 kind=transient retry_at=2026-11-21T14:22:05.000Z",
            "step 1 worker claude begins (attempt 2), phase main  "
            "type=step.started job=fix-login step=1 role=worker agent=claude",
            "check ruff failed with exit code 1  type=check.finished job=fix-login step=1 check=ruff passed=false",
            "step 1 worker claude: COMPLETED in 41s, 2 files changed: “done”  type=step.finished job=fix-login step=1 "
            "role=worker agent=claude action=COMPLETED duration=41 files=2 cost=0.1100 commit=1a1a1a1a1a1a",
            "goes on: the supervisor judges it  "
            "type=job.state job=fix-login trigger=proceed before=RUNNING after=RUNNING reason=step_done",
            "step 2 supervisor codex begins, phase main  "
            "type=step.started job=fix-login step=2 role=supervisor agent=codex",
            "stopping after this step. Press Ctrl-C again to stop it now  "
            "type=job.stop_requested job=fix-login now=false",
            "step 2 supervisor codex: STUCK in 41s: “no test covers the empty password”  type=step.finished "
            "job=fix-login step=2 role=supervisor agent=codex action=STUCK duration=41 files=0 commit=2a2a2a2a2a2a",
            "RUNNING → INTERVENTION_REQUIRED: the supervisor said STUCK  type=job.state job=fix-login "
            "trigger=escalate before=RUNNING after=INTERVENTION_REQUIRED reason=step_done",
            "INTERVENTION REQUIRED: the supervisor said STUCK  type=job.finished job=fix-login "
            "status=INTERVENTION_REQUIRED reason=supervisor_stuck exit_code=3",
        )
    )


def test_plain_lines_show_output_only_when_asked() -> None:
    assert "Edit login.py" not in plain_run(RUN)
    assert "│ Edit login.py  type=agent.output job=fix-login stream=stdout\n" in plain_run(RUN, verbose=True)


def test_values_with_spaces_or_quotes_are_quoted() -> None:
    line = plain_run((started(1, agent='my "agent"'),))

    assert line.endswith('agent="my \\"agent\\""\n')


def test_a_silent_step_gives_a_sign_of_life() -> None:
    stream, clock = Written(), FakeClock(NOW)
    reporter = PlainReporter(stream=stream, clock=clock, heartbeat=0.01)
    reporter.emit(started(1))
    clock.advance(75)
    _await(lambda: "still running after 1m15s" in stream.getvalue())
    reporter.emit(finished(1, Role.WORKER, Verdict.COMPLETED, "done"))
    reporter.close()

    sign = "step 1 worker claude: still running after 1m15s  type=step.running job=fix-login step=1\n"
    assert sign in stream.getvalue()
    assert stream.getvalue().splitlines()[-1].count("type=step.finished") == 1


def test_the_json_stream_is_numbered_and_ends_with_the_exit_code() -> None:
    records = json_run(RUN)

    assert [record["seq"] for record in records] == list(range(1, len(RUN)))
    assert {(record["v"], record["job"], record["ts"]) for record in records} == {
        (1, "fix-login", "2026-11-21T14:22:03.000Z")
    }
    assert "agent.output" not in {record["type"] for record in records}
    assert (records[-1]["type"], records[-1]["exit_code"]) == ("job.finished", 3)
    assert records[-1]["reason"] == {"code": "supervisor_stuck", "sentence": "the supervisor said STUCK"}
    counts = ("cost", "input_tokens", "output_tokens", "cached_tokens", "cost_is")
    assert records[-3]["usage"] == dict.fromkeys(counts)
    assert list(records[0]) == ["v", "seq", "ts", "type", "job", "trigger", "before", "after", "reason"]


def test_output_in_the_json_stream_comes_in_whole_lines() -> None:
    run = (started(1), output("one\ntw"), output("err", "stderr"), output("o\nrest"), over())
    texts = [(record["stream"], record["text"]) for record in json_run(run, verbose=True) if "text" in record]

    assert texts == [("stdout", "one"), ("stdout", "two"), ("stderr", "err"), ("stdout", "rest")]
    assert json_run(run, verbose=True)[-1]["type"] == "job.finished"


def test_a_quiet_run_is_one_line() -> None:
    stream = Written()
    tell(QuietReporter(stream=stream), RUN)

    assert stream.getvalue() == "fix-login: INTERVENTION REQUIRED: the supervisor said STUCK\n"


def test_hostile_text_never_reaches_a_log_or_a_program() -> None:
    shown = plain_run(HOSTILE_RUN, verbose=True)
    told = "".join(json.dumps(record, ensure_ascii=False) for record in json_run(HOSTILE_RUN, verbose=True))

    assert_harmless(shown)
    assert "│ red [/foo][bold]" in shown
    assert not re.search("\\\\u00[01789]|[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", told)


@given(
    chunks=st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=20))),
)
def test_output_is_the_same_however_it_was_cut(chunks: list[tuple[str, bytes]]) -> None:
    whole, pieces = OutputLines(), OutputLines()
    for stream in ("stdout", "stderr"):
        data = b"".join(part for name, part in chunks if name == stream)
        expected = whole.feed(stream, data) + [text for _, text in whole.flush()]
        got = [text for name, part in chunks if name == stream for text in pieces.feed(stream, part)]
        assert got + [text for _, text in pieces.flush()] == expected


def test_an_endless_line_is_broken() -> None:
    lines = OutputLines()
    got = [text for _ in range(100) for text in lines.feed("stdout", b"x" * 1000)]

    assert sum(map(len, got)) > 80_000
    assert max(map(len, got)) <= 16_384


@pytest.mark.parametrize("kind", [PlainReporter, JsonReporter, QuietReporter])
def test_a_reader_that_has_gone_does_not_stop_the_run(kind: Callable[..., ConsoleReporter]) -> None:
    stream = Written()
    stream.broken = True

    tell(kind(stream=stream), RUN)

    assert stream.getvalue() == ""


# --- The live view -------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 110 columns and 30 rows."""
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setenv("LINES", "30")
    return Terminal()


def live(terminal: Terminal, clock: FakeClock | None = None, **settings: object) -> LiveReporter:
    """A live view on the terminal."""
    return LiveReporter(environ={}, stream=terminal, clock=clock or FakeClock(NOW), **settings)


@pytest.mark.parametrize(
    ("environ", "terminal", "expected"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm", "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}, False, False),
    ],
)
def test_only_a_real_terminal_gets_a_live_view(environ: dict[str, str], terminal: bool, expected: bool) -> None:
    assert shows_live(Terminal() if terminal else Written(), environ) is expected


def test_a_live_run_leaves_its_lines_and_takes_its_footer_away(terminal: Terminal) -> None:
    tell(live(terminal), RUN)

    assert "\n".join(terminal.screen()).rstrip("\n").splitlines() == [
        "14:22:03  PENDING → RUNNING  a runner took the job",
        "14:22:03  step 1   attempt 1 failed (transient), waits until 14:22:05 (2s left)  “429 busy”",
        "14:22:03  step 1   check      ✗ ruff failed with exit code 1",
        "14:22:03  step 1   worker     claude    ✓ COMPLETED     41s   $0.11  2 files   1a1a1a1  1 red check",
        "14:22:03  stopping after this step. Press Ctrl-C again to stop it now",
        "14:22:03  step 2   supervisor codex     ■ STUCK         41s                    2a2a2a2",
        "          “no test covers the empty password”",
        "14:22:03  RUNNING → INTERVENTION_REQUIRED  the supervisor said STUCK",
    ]
    assert terminal.cursor_is_shown


def test_a_run_that_is_refused_draws_nothing(terminal: Terminal) -> None:
    live(terminal).close()

    assert terminal.getvalue() == ""


def test_the_footer_shows_the_step_the_budgets_the_output_and_the_keys(terminal: Terminal) -> None:
    clock = FakeClock(NOW)
    reporter = live(terminal, clock)
    reporter.emit(started(3, attempt=2))
    reporter.emit(output("one\ntwo\n\nthree\nfo"))
    reporter.emit(output("ur"))
    clock.advance(6)
    reporter.emit(events.StopRequested(**JOB, now=False, why=""))
    footer = terminal.screen()
    reporter.close()

    assert footer[1:] == [
        "─" * 110,
        f"{' RUNNING  fix-login  step 3/4 attempt 2  worker · claude · main':<88}00:06 step · 14:27 job",
        "steps   ━━━━━━━━━━━━━━━━━━────── 3/4",
        "time    ━━━━━━━━━━━━──────────── 14m27s/30m",
        "retries ━━━━━━━━──────────────── 1/3",
        "    worker │ two",
        "    worker │ three",
        "    worker │ four",
        " stopping after this step. Press Ctrl-C again to stop it now",
    ]


def test_the_keys_and_the_log_are_named_until_a_stop_is_asked_for(terminal: Terminal) -> None:
    reporter = live(terminal)
    reporter.emit(started(3))
    before = terminal.screen()[-1]
    reporter.emit(events.StopRequested(**JOB, now=True, why=""))
    shown = terminal.cursor_is_shown
    after = terminal.screen()[-1]
    reporter.close()

    assert before == " ^C stop after this step   ^C^C stop now   logs: steps/0003-worker/stdout.log"
    assert after == " stopping now; unfinished work is kept, and `run` goes on later. Once more: exit at once"
    assert shown, "the third Ctrl-C kills the process: the cursor must be there by then"


def busy(seconds: float) -> dict[str, object]:
    """What a wait of so many seconds is told with."""
    until = NOW + timedelta(seconds=seconds)
    return {"detail": "rate_limited: 429 busy\nReceived:\nlots", "retry_in": seconds, "retry_at": until}


def test_the_footer_says_until_when_it_is_waited_and_how_long_that_is(terminal: Terminal) -> None:
    clock = FakeClock(NOW)
    reporter = live(terminal, clock)
    reporter.emit(started(3))
    reporter.emit(events.AttemptFailed(**JOB, step=3, attempt=1, kind="transient", **busy(720.0)))
    clock.advance(60)
    reporter.emit(events.Notice(**JOB, message="hm"))
    waiting = "\n".join(terminal.screen())
    reporter.emit(started(3, attempt=2))
    asking = terminal.screen()
    reporter.close()

    assert "worker · claude · waits until 14:34:03 (11m left): rate_limited: 429 busy" in waiting
    assert "quiet" not in waiting
    assert "waits until 14:34:03 (11m left)" not in "\n".join(asking[-8:])


def test_a_wait_that_goes_on_is_shown_before_any_step_begins(terminal: Terminal) -> None:
    resumed = events.WaitResumed(**JOB, step=1, role=Role.WORKER, agent="claude", **busy(300.0))
    words = "step 1 worker claude waits until 14:27:03 (5m left): “rate_limited: 429 busy Received: lots”"
    clock = FakeClock(NOW)
    reporter = live(terminal, clock)
    reporter.emit(resumed)
    clock.advance(100)
    reporter.emit(events.Notice(**JOB, message="hm"))
    rows = terminal.screen()
    reporter.close()

    assert f"14:22:03  {words}" in rows
    assert " RUNNING  fix-login  waits until 14:27:03 (3m20s left): rate_limited: 429 busy" in rows
    assert plain_run((resumed,)).endswith(
        f"  {words}  type=step.wait_resumed job=fix-login step=1 role=worker agent=claude"
        " retry_at=2026-11-21T14:27:03.000Z\n"
    )


def test_a_wait_into_another_day_is_told_with_the_date() -> None:
    failed = events.AttemptFailed(**JOB, step=3, attempt=1, kind="transient", **busy(86_400.0))
    assert "waits until 2026-11-22 14:22 (1d left)" in plain_run((failed,))


def test_a_silent_agent_is_told(terminal: Terminal) -> None:
    clock = FakeClock(NOW)
    reporter = live(terminal, clock)
    reporter.emit(started(3))
    clock.advance(29)
    reporter.emit(events.Notice(**JOB, message="hm"))
    early = "\n".join(terminal.screen())
    clock.advance(13)
    reporter.emit(events.Notice(**JOB, message="hm"))
    late = "\n".join(terminal.screen())
    reporter.close()

    assert "quiet" not in early
    assert "quiet 42s  00:42 step" in late


@pytest.mark.parametrize(("rows", "footer"), [(4, 2), (11, 2), (12, 9), (30, 9)])
def test_the_footer_shrinks_with_the_terminal(
    rows: int, footer: int, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINES", str(rows))
    reporter = live(terminal)
    reporter.emit(started(3))
    reporter.emit(output("one\ntwo\nthree\nfour\n"))
    reporter.emit(events.Notice(**JOB, message="a line that stays"))
    screen = terminal.screen()
    reporter.close()

    assert screen[0] == "14:22:03  a line that stays"
    assert len(screen) - 1 == footer


@pytest.mark.parametrize("columns", [20, 45, 80, 89, 200])
def test_no_line_of_a_live_run_is_wider_than_the_terminal(
    columns: int, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    reporter = live(terminal)
    widest = 0
    for event in (*RUN, events.Notice(**JOB, message="a notice of many words " * 5)):
        reporter.emit(event)
        widest = max(widest, *map(console.text_width, terminal.screen()))
    reporter.close()

    assert widest <= max(columns, 36)
    assert any("COMPLETED" in row for row in terminal.screen()) or columns < 45


def test_all_output_is_kept_when_asked(terminal: Terminal) -> None:
    tell(live(terminal, verbose=True), (started(1), output("one\ntwo\nthr"), output("ee"), over()))

    assert terminal.screen()[:3] == ["    worker │ one", "    worker │ two", "    worker │ three"]


def test_hostile_text_never_reaches_the_terminal(terminal: Terminal) -> None:
    reporter = live(terminal, verbose=True)
    for event in HOSTILE_RUN:
        reporter.emit(event)
        footer = re.sub(r"\x1b\[(\?25[lh]|[0-9]*A|2K)|\r", "", terminal.getvalue())
        assert_harmless(footer)
    reporter.close()

    assert "[/foo][bold]" in terminal.getvalue()


def test_without_colour_the_live_view_sends_none(terminal: Terminal) -> None:
    tell(LiveReporter(environ={"NO_COLOR": "1"}, stream=terminal, clock=FakeClock(NOW)), RUN)

    assert not re.search(r"\x1b\[(3|4|9|10)[0-9]", terminal.getvalue())


def test_without_utf_8_the_live_view_is_ascii(terminal: Terminal) -> None:
    terminal.encoding = "ascii"
    tell(live(terminal), (*RUN[:-1], events.Notice(**JOB, message="käse")))

    assert terminal.getvalue().isascii()
    assert any("+ COMPLETED" in row for row in terminal.screen())


def test_a_terminal_that_has_gone_does_not_stop_the_run(terminal: Terminal) -> None:
    reporter = live(terminal)
    reporter.emit(RUN[0])
    terminal.broken = True
    tell(reporter, RUN[1:])


# --- A real terminal and a real pipe -------------------------------------------------------------------------------

_SCRIPT = """
import os, signal, sys, time
sys.path[:0] = [{root!r}, {tests!r}]
import test_console as t
from logist.console.reporters import open_reporter
with open_reporter({progress!r}, environ=os.environ) as reporter:
    for event in t.RUN[:7]:
        reporter.emit(event)
    {then}
    for event in t.RUN[7:]:
        reporter.emit(event)
print("after the run")
"""


def script(tmp_path: Path, then: str, progress: str = "auto") -> Path:
    """A program that reports a run; `then` is done in its middle."""
    path = tmp_path / "run.py"
    text = _SCRIPT.format(root=str(ROOT), tests=str(ROOT / "tests"), progress=progress, then=then)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def spawned(path: Path, rows: int, columns: int, **environ: str) -> pexpect.spawn[str]:
    """The program in a terminal."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environ}
    return pexpect.spawn(
        sys.executable,
        [str(path)],
        dimensions=(rows, columns),
        encoding="utf-8",
        env=environment,
        timeout=30,
        echo=False,
    )


@pytest.mark.parametrize(("rows", "columns"), [(30, 110), (6, 40)])
def test_in_a_real_terminal_the_lines_stay_and_the_cursor_comes_back(tmp_path: Path, rows: int, columns: int) -> None:
    child = spawned(script(tmp_path, "sys.stdin.readline()"), rows, columns)
    child.logfile_read = terminal = Terminal()
    child.expect("step 1 .*COMPLETED")
    child.sendline("")
    child.expect(pexpect.EOF)
    child.close()

    screen = terminal.screen()
    assert child.exitstatus == 0
    assert terminal.cursor_is_shown
    assert [row for row in screen if "COMPLETED" in row or "STUCK" in row]
    assert [row for row in screen if row][-1] == "after the run"
    assert not [row for row in screen if "^C stop" in row or "retries" in row]


def test_a_fault_in_a_run_gives_the_cursor_back(tmp_path: Path) -> None:
    child = spawned(script(tmp_path, "raise OSError('disk')"), 30, 110)
    child.expect(pexpect.EOF)
    shown = Terminal()
    shown.write(child.before.replace("\r\n", "\n"))
    child.close()

    assert child.exitstatus == 1
    assert shown.cursor_is_shown
    rows = shown.screen()
    assert rows[3].startswith(rows[2][:8])
    assert rows[4].startswith("Traceback"), "the footer is gone"


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    child = spawned(script(tmp_path, "pass"), 30, 110, TERM="dumb")
    child.expect(pexpect.EOF)
    child.close()

    assert "\x1b" not in child.before
    assert "type=job.finished" in child.before


def test_a_closed_pipe_does_not_end_a_run(tmp_path: Path) -> None:
    path = script(tmp_path, "sys.stdin.readline()", progress="json")
    process = subprocess.Popen(
        [sys.executable, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["type"] == "job.state"
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait(timeout=30) == 0


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def test_what_logist_said_for_an_agent_is_not_put_into_its_mouth() -> None:
    why = "it names evidence that is not there: nope.txt"
    report = replace(
        STUCK,
        reason=Reason(code=ReasonCode.EVIDENCE_INVALID, sentence=f"worker fake: {why}"),
        supervisor=None,
        worker=Words(5, "fake", Verdict.STUCK, why, ReasonCode.EVIDENCE_INVALID),
    )
    text = drawn(report, None)
    assert f"evidence_invalid — worker fake: {why}" in text
    assert f"Logist     about the worker fake: {why}" in text
    assert f"“{why}" not in text.partition("  step")[0]


def test_checks_of_an_earlier_step_are_shown_as_such() -> None:
    assert "of step 3; newer work is not checked" in drawn(replace(STUCK, checks_step=3), None)
    assert "newer work" not in drawn(STUCK, None)


def test_the_list_of_steps_crops_long_words() -> None:
    long = replace(STEPS[0], summary="word\n" * 1_000)
    text = tables.steps_table([long], stream=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert len(text.splitlines()) == 2
    assert len(text.splitlines()[1]) < 300
