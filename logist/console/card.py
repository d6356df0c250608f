"""The card: where a job stands, in the order in which a person needs it, and at its end what can be done.

Pure: a report in, styled lines out. The same content whatever the width; without a width nothing is wrapped or cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from logist.console import (
    Line,
    Span,
    crop,
    line,
    line_width,
    moment_of,
    one_line,
    pad,
    paint,
    text_width,
    until_words,
    wrap,
)
from logist.durations import format_duration
from logist.errors import ExitCode
from logist.lifecycle import JobStatus
from logist.models.manifest import CheckResult, ReasonCode, RoleSettings, Verdict, red_checks

if TYPE_CHECKING:
    from logist.job_report import BudgetLine, ChangedFile, JobReport, Words
from logist.next_commands import NextCommand
from logist.step_summaries import StepSummary

#: Below this many columns an explanation stands on its own line.
WIDE = 100
_LABEL = 11
#: Lines of an agent's words on a terminal; the rest is in the log.
_MAX_QUOTED_LINES = 8
_MAX_FILES = 12
_MAX_PLAYER = 60
#: Columns that a summary needs to be worth showing beside a row.
_MIN_SUMMARY = 24
#: Reasons whose sentence has all that is to be said of the worker's step.
_TOLD_IN_FULL = frozenset({ReasonCode.CHUNK_FAILED, ReasonCode.MERGE_FAILED, ReasonCode.BUDGET_TIME})
VERDICT_STYLES = {Verdict.COMPLETED: "good", Verdict.RETRY: "warn", Verdict.STUCK: "bad"}
#: A sentence that asks: from the last end of a sentence to a question mark.
_QUESTION = re.compile(r"(?:^|(?<=[.!?:;\n]))\s*([^.!?\n]*\?)")


def card_text(report: JobReport, *, width: int | None, color: bool, encoding: str | None, exit_code: int | None) -> str:
    """The card as text to echo, its last newline included. `exit_code` is the run's, None to leave it out."""
    return paint(card_lines(report, width=width, exit_code=exit_code), color=color, encoding=encoding)


def card_lines(report: JobReport, *, width: int | None = None, exit_code: int | None = None) -> list[Line]:
    """The card. `width` is the terminal's, None for plain text; `exit_code` is the run's, None to leave it out."""
    blocks = [
        [_header(report)],
        [
            *_field("Objective", report.objective, width, limit=2),
            *_why(report, width),
            *_wait(report, width),
            *_said(report, width),
        ],
        steps_lines(report.steps, width),
        [*_changes(report, width), *_facts(report, width)],
        [*_log_tail(report, width), *_actions(report.next_commands, width)],
        _ending(report, exit_code, width),
    ]
    lines: list[Line] = []
    for block in filter(None, blocks):
        lines += ([line()] if lines else []) + block
    return lines


def _header(report: JobReport) -> Line:
    name = report.headline.partition(" (")[0]
    died = report.headline.removeprefix(name)
    parts: list[str | Span] = [
        Span(f" {name} ", f"pill-{report.status}"),
        "  ",
        Span(report.id, "bold"),
        "  ",
        _when(report),
    ]
    if died:
        parts.append(Span(died, "bad"))
    return line(*parts)


_MOVED = {
    JobStatus.PENDING: "rests since",
    JobStatus.RUNNING: "last record",
    JobStatus.SUCCESS: "finished",
    JobStatus.CANCELED: "canceled",
    JobStatus.INTERVENTION_REQUIRED: "stopped",
}


def _when(report: JobReport) -> str:
    since = report.updated_at
    if report.status is JobStatus.RUNNING and report.runner is not None and report.wait is not None:
        return f"step {report.step + 1} ({report.next_role}) waits to try again"
    if report.status is JobStatus.RUNNING and report.runner is not None:
        return f"step {report.step + 1} ({report.next_role}) is under way"
    steps = next((budget for budget in report.budget if budget.name == "steps"), None)
    after = f"after step {report.step}" if report.step else "before its first step"
    if report.status is JobStatus.PENDING and report.reason.code is ReasonCode.CREATED:
        return f"created {moment(since, report.at)}"
    if steps is not None and steps.limit is not None and steps.spent == report.step:
        after += f" of {steps.limit:g}" if report.step else ""
    return f"{_MOVED[report.status]} {moment(since, report.at)} {after}"


def moment(at: datetime, now: datetime) -> str:
    """Local time and how long ago: `14:20:03 (2m ago)`; with the date when it was another day."""
    passed = (now - at).total_seconds()
    ago = "just now" if passed < 1 else f"{_roughly(passed)} ago"
    return f"{moment_of(at, now)} ({ago})"


def _roughly(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "0 s"


def _field(label: str, text: str, width: int | None, *, limit: int | None = None, style: str = "") -> list[Line]:
    """A label and wrapped text beside it; `limit` is the most lines, only applied on a terminal."""
    lines = wrap(one_line(text), None if width is None else width - _LABEL)
    if width is not None and limit is not None and len(lines) > limit:
        lines = [*lines[: limit - 1], crop(" ".join(lines[limit - 1 :]), width - _LABEL)]
    labels = [Span(pad(label, _LABEL), "bold")] + [Span(" " * _LABEL)] * (len(lines) - 1)
    return [line(head, Span(part, style)) for head, part in zip(labels, lines, strict=True)]


def _why(report: JobReport, width: int | None) -> list[Line]:
    sentence = _without_quote(report)
    code = report.reason.code.value
    # `canceled — canceled: …` says it twice.
    lines = _field("Why", sentence if sentence.startswith(code) else f"{code} — {sentence}", width)
    style = "bad" if report.status is JobStatus.INTERVENTION_REQUIRED else ""
    if not style:
        return lines
    label, text = lines[0]
    return [line(label, Span(code, style), text.text.removeprefix(code)), *lines[1:]]


def _wait(report: JobReport, width: int | None) -> list[Line]:
    wait = report.wait
    if wait is None:
        return []
    return _field("Waits", f"{until_words(wait.until, report.at)}: {one_line(wait.why)}", width, limit=3, style="warn")


def _without_quote(report: JobReport) -> str:
    """The reason's sentence without the words of an agent that the card quotes in full below."""
    sentence = one_line(report.reason.sentence)
    for words in (report.supervisor, report.worker):
        quoted = one_line(words.text) if words and words.failure is None else ""
        start, colon, end = sentence.rpartition(": " + quoted[:280]) if quoted else ("", "", "")
        if colon and len(end) < len(sentence) - len(start):
            return start
    return sentence


def _said(report: JobReport, width: int | None) -> list[Line]:
    lines: list[Line] = []
    open_end = report.status in (JobStatus.INTERVENTION_REQUIRED, JobStatus.PENDING, JobStatus.CANCELED)
    for label, words in (("Supervisor", report.supervisor), ("Worker", report.worker)):
        if words is None or (words.failure in _TOLD_IN_FULL and words.failure is report.reason.code):
            continue
        lines += _quote(label, words, width, report.id)
        asks = open_end and words.action is not Verdict.COMPLETED and words.failure is None
        question = direct_question(words.text) if asks else ""
        if question and question != one_line(words.text):
            lines += _field("Question", question, width, style="bold")
    if report.guidance:
        lines += _field("You said", f"“{one_line(report.guidance)}”", width, limit=3)
    if report.note:
        lines += _field("Note", report.note, width, style="warn")
    return lines


def _quote(label: str, words: Words, width: int | None, job_id: str) -> list[Line]:
    text = one_line(words.text) or "(no words)"
    who = one_line(words.agent)
    if words.failure is None:
        lines = _field(label, f"{who}: “{text}”", width)
    else:
        # Not the agent's words: it gave no answer that counts.
        lines = _field("Logist", f"about the {label.lower()} {who}: {text}", width)
    if width is None or len(lines) <= _MAX_QUOTED_LINES:
        return lines
    rest = f"… {len(lines) - _MAX_QUOTED_LINES} more lines: logist job log {job_id} --step {words.step}"
    return [*lines[:_MAX_QUOTED_LINES], line(" " * _LABEL, Span(rest, "dim"))]


def direct_question(text: str) -> str:
    """The last sentence of `text` that asks something, empty when none does."""
    questions = _QUESTION.findall(one_line(text))
    return questions[-1].strip() if questions else ""


# --- Steps ---------------------------------------------------------------------------------------------------------


def steps_lines(steps: Sequence[StepSummary], width: int | None) -> list[Line]:
    """The steps as a table, oldest first."""
    if not steps:
        return []
    costs = any(step.cost is not None for step in steps)
    agent_width = min(18, max(text_width(_who(step)) for step in steps))
    lines = [_step_header(agent_width, costs)]
    for step in steps:
        lines += _step_lines(step, width, agent_width=agent_width, costs=costs)
    return lines


def _who(step: StepSummary) -> str:
    return f"{step.role} {one_line(step.agent)}"


def _step_header(agent_width: int, costs: bool) -> Line:
    cost = f"{'cost':>8}" if costs else ""
    who = pad("who", agent_width)
    return line(Span(f"  {'step':>4}  {who}  {'verdict':9}  {'files':>5}{cost}{'time':>8}  commit", "dim"))


def _step_lines(step: StepSummary, width: int | None, *, agent_width: int, costs: bool) -> list[Line]:
    """One step as a row of the table. Its summary is cut to what is left of the line; where that is little, an
    objection stands below."""
    who = pad(crop(_who(step), agent_width), agent_width)
    cost = "" if not costs else f"{'–' if step.cost is None else f'${step.cost:.2f}':>8}"
    row = line(
        f"  {step.step:>4}  ",
        Span(who[: len(step.role)], step.role.value),
        f"{who[len(step.role) :]}  ",
        Span(f"{step.action:9}", VERDICT_STYLES[step.action]),
        f"  {step.files_changed or '–':>5}{cost}{format_duration(step.duration):>8}  ",
        Span(step.commit[:7], "dim"),
        *_remarks(step),
    )
    summary = one_line(step.summary)
    if not summary:
        return [row]
    room = None if width is None else width - line_width(row) - 4
    if room is None or room >= _MIN_SUMMARY:
        return [(*row, Span(f"  “{crop(summary, room)}”", "dim"))]
    if step.action is Verdict.COMPLETED or width is None:
        return [row]
    return [row, line(Span(f"{'':8}“{crop(summary, width - 10)}”", "dim"))]


def _remarks(step: StepSummary) -> list[Span]:
    red = len(red_checks(step.checks))
    remarks = [Span(f"  {_count(red, 'red check')}", "bad")] if red else []
    return [*remarks, Span("  dropped", "warn")] if step.dropped else remarks


# --- Facts ---------------------------------------------------------------------------------------------------------


def _changes(report: JobReport, width: int | None) -> list[Line]:
    files = report.changes
    if files is None:
        return []
    if not files:
        return [line(Span(pad("Changed", _LABEL), "bold"), f"nothing since the baseline {report.baseline[:7]}")]
    added = sum(file.added or 0 for file in files)
    deleted = sum(file.deleted or 0 for file in files)
    head = line(
        Span(pad("Changed", _LABEL), "bold"),
        f"{_count(len(files), 'file')}  ",
        Span(f"+{added}", "good"),
        " ",
        Span(f"-{deleted}", "bad"),
        f"  since the baseline {report.baseline[:7]}",
    )
    most = len(files) if width is None else _MAX_FILES
    name_width = max(text_width(one_line(file.path)) for file in files[:most])
    lines = [head, *(_file_line(file, width, name_width) for file in files[:most])]
    if len(files) > most:
        lines.append(line(Span(f"{'':{_LABEL}}… and {len(files) - most} more: logist job diff {report.id}", "dim")))
    return lines


def _file_line(file: ChangedFile, width: int | None, name_width: int) -> Line:
    room = name_width if width is None else min(name_width, width - _LABEL - 18)
    counts = (
        [Span("binary", "dim")]
        if file.added is None
        else [Span(f"+{file.added}", "good"), Span(" "), Span(f"-{file.deleted or 0}", "bad")]
    )
    return line(f"{'':{_LABEL}}{file.kind} {pad(crop(one_line(file.path), room), room)}  ", *counts)


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _facts(report: JobReport, width: int | None) -> list[Line]:
    lines = [*_runner(report, width), *_checks(report, width)]
    if report.step:
        lines += _field("Evidence", f"{report.places.branch} at {report.head[:7]} in {report.places.repo}", None)
    lines += _roles(report, width)
    if report.phase_count > 1:
        lines += _field("Phase", f"{report.phase} of {report.phase_count}: {report.phase_name}", width)
    if report.priority:
        lines += _field("Priority", str(report.priority), width)
    if report.needs:
        lines += _field("Needs", ", ".join(report.needs), width)
    lines += _render(report, width)
    lines += _flow(Span(pad("Budget", _LABEL), "bold"), [_budget(budget) for budget in report.budget], width)
    # Paths are left to the terminal to wrap: only so they can be copied whole.
    lines += _field("Workspace", report.places.workspace, None)
    for log in report.places.logs[:1]:
        lines += _field("Log", log, None)
    return lines


def _roles(report: JobReport, width: int | None) -> list[Line]:
    items = [line(Span(role.value, role.value), f" {_player(settings)}") for role, settings in report.roles.items()]
    return _flow(Span(pad("Roles", _LABEL), "bold"), items, width)


def _player(settings: RoleSettings) -> str:
    """The agent, with what follows its name where it is chosen: a line, a file or a model."""
    argument, model = one_line(settings.argument), one_line(settings.model or "")
    both = f" ({model})" if argument and model else ""
    return crop(":".join(filter(None, (settings.agent, argument or model))), _MAX_PLAYER) + both


def _render(report: JobReport, width: int | None) -> list[Line]:
    render = report.render
    if render is None:
        return []
    failed = f", {render.failed:,} failed" if render.failed else ""
    words = f"{one_line(render.spec)}: {render.done:,} of {_count(render.chunks, 'chunk')} done{failed}"
    return _field("Render", f"{words}, {render.frames_done:,} of {_count(render.frames, 'frame')}", width)


def _runner(report: JobReport, width: int | None) -> list[Line]:
    runner = report.runner
    if runner is None or not runner.pid:
        return []
    since = f" since {moment(datetime.fromisoformat(runner.since), report.at)}" if runner.since else ""
    return _field("Runner", f"process {runner.pid} on {runner.host}{since}: {runner.command}", width)


def _checks(report: JobReport, width: int | None) -> list[Line]:
    items = [_check(check) for check in report.checks]
    if items and report.checks_step is not None:
        items.append(line(Span(f"of step {report.checks_step}; newer work is not checked", "warn")))
    return _flow(Span(pad("Checks", _LABEL), "bold"), items, width)


def _check(check: CheckResult) -> Line:
    name = one_line(check.name)
    if check.passed:
        return line(Span("✓", "good"), f" {name}")
    how = "did not finish" if check.exit_code is None else f"exit {check.exit_code}"
    optional = "" if check.required else ", not required"
    return line(Span("✗", "bad" if check.required else "warn"), f" {name} ({how}{optional})")


def _budget(budget: BudgetLine) -> Line:
    spent, limit = amount(budget.name, budget.spent), budget.limit
    note = _uncertain(budget)
    if limit is None:
        return line(f"{budget.name} {spent}{note}")
    share = budget.spent / limit if limit else 1.0
    text = f"{spent}/{amount(budget.name, limit)}"
    if share >= 1 and (limit or budget.spent):
        return line(f"{budget.name} ", Span(f"{text} used up", "bad"), note)
    return line(f"{budget.name} ", Span(text, "warn" if share >= 0.8 and limit else ""), note)


def _uncertain(budget: BudgetLine) -> str:
    """What of a cost was not billed."""
    parts = [f"{amount(budget.name, budget.estimated)} of it estimated"] if budget.estimated else []
    if budget.unpriced:
        parts.append(f"{budget.unpriced} {'oneshot' if budget.unpriced == 1 else 'oneshots'} of unknown price")
    return f" ({', '.join(parts)})" if parts else ""


def amount(name: str, value: float) -> str:
    """A budget's amount as people read it."""
    if name == "time":
        return format_duration(value)
    return f"${value:.2f}" if name == "cost" else f"{value:g}"


def _flow(label: Span, items: Iterable[Line], width: int | None) -> list[Line]:
    """Items side by side behind a label, on as many lines as they need."""
    lines: list[Line] = []
    current: Line = (label,)
    used = False
    for item in items:
        gap = 3 if used else 0
        if used and width is not None and line_width(current) + gap + line_width(item) > width:
            lines.append(current)
            current, gap = line(" " * _LABEL), 0
        current = (*current, Span(" " * gap), *item)
        used = True
    return [*lines, current] if used else []


def _log_tail(report: JobReport, width: int | None) -> list[Line]:
    over = report.status in (JobStatus.SUCCESS, JobStatus.CANCELED)
    if over or not report.log_tail:
        return []
    rows = [line(Span(crop(text.expandtabs(4), width), "dim")) for text in report.log_tail]
    return [_rule("last lines of the log", width), *rows, line()]


# --- What can be done ----------------------------------------------------------------------------------------------


def _rule(title: str, width: int | None) -> Line:
    rest = 3 if width is None else max(0, width - text_width(title) - 1)
    return line(f"{title} ", Span("─" * rest, "dim"))


def _actions(commands: Sequence[NextCommand], width: int | None) -> list[Line]:
    if not commands:
        return []
    texts = [_explained(command) for command in commands]
    column = max(text_width(command.command) for command in commands) + 4
    beside = width is None or (width >= WIDE and all(column + text_width(text) <= width for text in texts))
    lines = [_rule("what you can do", width)]
    for command, text in zip(commands, texts, strict=True):
        style = "bold" if command.suggested else "dim"
        first = Span(f"  {command.command}", "command")
        if beside:
            lines.append(line(first, " " * (column - text_width(first.text)), Span(text, style)))
        else:
            lines += [line(first), *(line(Span(f"      {part}", style)) for part in wrap(text, width and width - 6))]
    return lines


def _explained(command: NextCommand) -> str:
    state = f" → {command.result}" if command.result else ""
    return f"{command.explanation}{state}{' (suggested)' if command.suggested else ''}"


def _ending(report: JobReport, exit_code: int | None, width: int | None) -> list[Line]:
    parts = [] if exit_code is None else [f"exit status {int(exit_code)}"]
    if report.status is JobStatus.INTERVENTION_REQUIRED:
        parts.append(f"nothing was lost: saved at {report.head[:7]}")
        parts.append(f"after an answer: logist job run {report.id}")
    elif exit_code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED, ExitCode.TIMEOUT):
        parts.append(f"nothing was lost: saved at {report.head[:7]}")
    text = " · ".join(parts)
    rows = [text] if width is None or text_width(text) <= width else parts
    return [line(Span(row, "dim")) for row in rows] if parts else []
