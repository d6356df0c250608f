"""What people and programs see of several jobs at once."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from test_console import (
    HOSTILE_RUN,
    NOW,
    RUN,
    Terminal,
    Written,
    assert_harmless,
    finished,
    output,
    over,
    started,
    tell,
)

from logist import console, events
from logist.console import tables
from logist.console.live_jobs import LiveJobs
from logist.console.reporters import JsonReporter, PlainJobs, QuietReporter
from logist.errors import ExitCode
from logist.events import Event, JobEnd
from logist.lifecycle import JobStatus
from logist.models.manifest import Role, Verdict
from logist.testing import FakeClock


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC, and the terminal one of many colours."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TERM", "xterm-256color")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 100 columns and 20 rows."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "20")
    return Terminal()


def of(job_id: str, event: Event) -> Event:
    """The event as one of another job."""
    return replace(event, job_id=job_id)


def live(terminal: Terminal, clock: FakeClock | None = None, **settings: object) -> LiveJobs:
    return LiveJobs(environ={}, stream=terminal, clock=clock or FakeClock(NOW), **settings)


ENDS = (
    JobEnd(
        job_id="fine",
        status=JobStatus.SUCCESS,
        exit_code=ExitCode.SUCCESS,
        why="agreed",
        steps=4,
        duration=75.0,
        cost=0.25,
    ),
    JobEnd(
        job_id="stuck-one",
        status=JobStatus.INTERVENTION_REQUIRED,
        exit_code=ExitCode.INTERVENTION_REQUIRED,
        why="why?",
        steps=1,
        next="do x",
    ),
    JobEnd(job_id="broken", status=None, exit_code=ExitCode.INVALID, why="is not\nJSON \x1b[31m"),
)


# --- The live view -------------------------------------------------------------------------------------------------


def test_the_footer_has_a_row_for_each_running_job_and_none_for_one_that_is_over(terminal: Terminal) -> None:
    clock = FakeClock(NOW)
    reporter = live(terminal, clock)
    reporter.emit(of("alpha", started(3)))
    clock.advance(65)
    reporter.emit(of("b", started(2, Role.SUPERVISOR)))
    reporter.emit(of("alpha", replace(RUN[5], step=3)))
    both = terminal.screen()
    reporter.emit(of("alpha", over()))
    one = terminal.screen()
    reporter.close()
    assert both[1:] == [
        "─" * 100,
        " alpha  step 3  worker · claude · checks".ljust(93) + "  01:05",
        " b      step 2  supervisor · codex · main".ljust(93) + "  00:00",
        " ^C each job stops after its step   ^C^C stop now",
    ]
    assert [row.split()[0] for row in one[2:] if row] == ["b", "^C"]


def test_a_job_that_waits_says_until_when_in_its_row(terminal: Terminal) -> None:
    told = {"detail": "rate_limited: 429", "retry_in": 90.0, "retry_at": NOW + timedelta(seconds=90)}
    clock = FakeClock(NOW)
    reporter = live(terminal, clock)
    reporter.emit(of("a", started(3)))
    reporter.emit(events.AttemptFailed(job_id="a", step=3, attempt=1, kind="transient", **told))
    reporter.emit(events.WaitResumed(job_id="b", step=1, role=Role.WORKER, agent="claude", **told))
    clock.advance(30)
    reporter.emit(events.Notice(job_id="a", message="hm"))
    rows = terminal.screen()
    reporter.close()
    assert any(" a  step 3  worker · claude · waits until 14:23:33 (1m left): rate_limited" in row for row in rows)
    assert " b  waits until 14:23:33 (1m left): rate_limited: 429" in rows


def test_lines_that_stay_say_their_job(terminal: Terminal) -> None:
    reporter = live(terminal, verbose=True)
    for event in (of("a", started(1)), of("b", started(1)), of("a", output("tw")), of("b", output("one\n"))):
        reporter.emit(event)
    reporter.emit(of("a", output("o\nthr")))
    reporter.emit(of("a", finished(1, Role.WORKER, Verdict.COMPLETED, "done")))
    reporter.close()
    assert [row for row in terminal.screen() if row] == [
        "          b │ one",
        "          a │ two",
        "          a │ thr",
        "14:22:03  a  step 1 worker claude: COMPLETED in 41s, 2 files changed: “done”",
    ]
    assert terminal.cursor_is_shown


def test_a_request_to_stop_that_every_job_tells_is_shown_once(terminal: Terminal) -> None:
    reporter = live(terminal)
    for job in ("a", "b"):
        reporter.emit(of(job, started(1)))
    for job in ("a", "b"):
        reporter.emit(events.StopRequested(job_id=job, now=False, why=""))
    once = [row for row in terminal.screen() if "stopping after the running steps and chunks" in row]
    for job in ("a", "b"):
        reporter.emit(events.StopRequested(job_id=job, now=True, why=""))
    shown = terminal.cursor_is_shown
    now = [row for row in terminal.screen() if "stopping now" in row]
    reporter.close()
    # One line that stays, and the footer's.
    assert (len(once), len(now)) == (2, 2)
    assert shown, "the third Ctrl-C kills the process: the cursor must be there by then"


def test_a_pause_of_one_job_does_not_pass_for_a_stop_of_the_run(terminal: Terminal) -> None:
    reporter = live(terminal)
    for job in ("a", "b"):
        reporter.emit(of(job, started(1)))
    reporter.emit(events.StopRequested(job_id="a", now=False, why="paused by request: lunch", paused=True))
    paused = terminal.screen()
    reporter.emit(events.StopRequested(job_id="b", now=False, why="asked once"))
    stopped = terminal.screen()
    reporter.close()
    assert "a  paused by request: lunch; this step will be finished" in paused[0]
    assert paused[-1] == " ^C each job stops after its step   ^C^C stop now"
    assert "  stopping after the running steps and chunks. Press Ctrl-C again to stop them now" in stopped[1]
    assert "stopping after" in stopped[-1]


def test_a_job_that_is_dropped_has_no_row_any_more(terminal: Terminal) -> None:
    dropped = events.JobDropped(job_id="a", why="its lease was\nmoved")
    reporter = live(terminal)
    for event in (of("a", started(1)), of("b", started(1)), dropped):
        reporter.emit(event)
    screen = [row for row in terminal.screen() if row]
    reporter.close()
    assert "a  not run any further here: its lease was moved" in screen[0]
    assert [row.split()[0] for row in screen[2:]] == ["b", "^C"]


@pytest.mark.parametrize(("columns", "rows"), [(20, 4), (45, 8), (80, 20), (200, 50)])
def test_the_view_fits_the_terminal_however_many_jobs_run(
    columns: int, rows: int, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(rows))
    reporter = live(terminal)
    for number in range(60):
        reporter.emit(of(f"a-job-with-quite-a-long-name-{number}", started(1)))
    reporter.emit(of("a-job-with-quite-a-long-name-1", events.Notice(job_id="", message="many words " * 9)))
    screen = terminal.screen()
    reporter.close()
    footer = screen[max(number for number, row in enumerate(screen) if "words" in row) + 1 :]
    assert len(footer) < rows
    assert any("more" in row for row in footer)
    assert max(map(console.text_width, screen)) <= max(columns, 36)


def test_hostile_text_never_reaches_the_terminal(terminal: Terminal) -> None:
    reporter = live(terminal, verbose=True)
    for event in HOSTILE_RUN:
        reporter.emit(event)
        assert_harmless(re.sub(r"\x1b\[(\?25[lh]|[0-9]*A|2K)|\r", "", terminal.getvalue()))
    reporter.close()
    assert "[/foo][bold]" in terminal.getvalue()


def test_a_run_without_a_job_draws_nothing(terminal: Terminal) -> None:
    tell(live(terminal), (events.JobsFinished(jobs=(), exit_code=ExitCode.SUCCESS),))
    assert terminal.getvalue() == ""


# --- Lines, records, the table -------------------------------------------------------------------------------------


def test_plain_lines_of_several_jobs_keep_their_output_apart() -> None:
    stream = Written()
    run = (of("a", started(1)), of("b", started(1)), of("a", output("tw")), of("b", output("one\n")))
    tell(PlainJobs(verbose=True, stream=stream, clock=FakeClock(NOW)), (*run, of("a", output("o\n")), of("a", over())))
    shown = [line for line in stream.getvalue().splitlines() if "│" in line]
    assert [line.partition("  ")[2] for line in shown] == [
        "│ one  type=agent.output job=b stream=stdout",
        "│ two  type=agent.output job=a stream=stdout",
    ]


def test_a_job_that_is_dropped_gives_no_sign_of_life_any_more() -> None:
    reporter = PlainJobs(stream=Written(), clock=FakeClock(NOW))
    before = set(threading.enumerate())
    reporter.emit(of("a", started(1)))
    [sign] = set(threading.enumerate()) - before
    reporter.emit(events.JobDropped(job_id="a", why="its folder is gone"))
    sign.join(10)
    assert not sign.is_alive()


def test_records_of_several_jobs_keep_their_output_apart() -> None:
    stream = io.StringIO()
    run = (of("a", output("tw")), of("b", output("one\n")), of("a", output("o\n")), of("b", output("rest")))
    tell(JsonReporter(verbose=True, stream=stream, clock=FakeClock(NOW)), (*run, of("a", over()), of("b", over())))
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(record["job"], record["text"]) for record in records if "text" in record] == [
        ("b", "one"),
        ("a", "two"),
        ("b", "rest"),
    ]


def test_a_quiet_run_tells_each_job_once() -> None:
    stream = io.StringIO()
    run = (of("fine", over()), events.JobsFinished(jobs=ENDS, exit_code=ExitCode.INVALID))
    tell(QuietReporter(stream=stream), run)
    assert stream.getvalue().splitlines() == [
        "fine: INTERVENTION REQUIRED: the supervisor said STUCK",
        "stuck-one: INTERVENTION REQUIRED: why?",
        "broken: UNREADABLE: is not JSON",
    ]


def test_the_table_at_the_end_has_a_row_for_each_job_and_says_why_some_are_not_done() -> None:
    assert tables.ends_table(ENDS, stream=Written()).splitlines() == [
        "job        status                 steps   time   cost  next",
        "fine       SUCCESS                    4  1m15s  $0.25",
        "stuck-one  INTERVENTION REQUIRED      1      –      –  do x",
        "broken     UNREADABLE                 0      –      –",
        "",
        "stuck-one: why?",
        "broken: is not JSON",
    ]
