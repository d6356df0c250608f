"""opencode (`opencode run --format json`): JSON lines out, the prompt on standard input. Measured with 1.18.33."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime

from logist.agents.cli import Asked, Cli, CliOutput, without_result
from logist.agents.json_output import Values, after_gap, count_at, first_text, json_lines, number_at, table_at, text_at
from logist.agents.outcome import Outcome, Report, outcome_of_message, outcome_of_refusal
from logist.agents.own_waits import Heard, Refusal
from logist.models.manifest import Role
from logist.models.usage import Usage
from logist.plain_text import plain_text

#: A supervisor is its agent `plan`, which may not edit, but by itself may write by a shell or another agent. What is
#: forbidden is not even offered; whatever would have to be asked for, with nobody there, ends the run.
_MAY = {"edit": "deny", "bash": "deny", "task": "deny", "external_directory": "allow"}
_LOOKING = {"agent": {"plan": {"permission": _MAY}}}
#: How the refusal of a tool begins: by a rule, and because nobody was there to allow it.
_REFUSED = ("The user has specified a rule which prevents", "The user rejected permission")
#: What it counts as written by the model.
_WRITTEN = ("output", "reasoning")
#: While it waits to try a provider again, as long as that asks for, it prints no event: its log alone says why. For how
#: long not even that says, and of a plugin that could, each run would first load packages.
_LOGS = ("--print-logs", "--log-level", "ERROR")
_LOG_LINE = re.compile(rb"^timestamp=\S+ level=.*\n?", re.MULTILINE)
_LOG_VALUE = re.compile(r'([\w.]+)=("(?:[^"\\]|\\.)*"|\S*)')
#: Bytes of its log that are read.
_MAX_LOG = 20_000


class OpenCode(Cli):
    """opencode."""

    name = program = "opencode"
    install = "npm install -g opencode-ai"
    login = "log in once with `opencode auth login`, or set the key of the model's provider"
    tested = ("1.18.",)
    prompt = "stdin"
    passes = (
        *("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"),
        *("OPENROUTER_API_KEY", "GROQ_API_KEY", "OPENCODE_API_KEY", "OPENCODE_CONFIG", "OPENCODE_CONFIG_DIR"),
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"),
    )
    fixed = (("OPENCODE_DISABLE_AUTOUPDATE", "true"), ("OPENCODE_CONFIG_CONTENT", json.dumps(_LOOKING)))
    #: Plugins and servers of the workspace would run in it.
    judging = (("OPENCODE_DISABLE_PROJECT_CONFIG", "true"),)
    resumes = True
    streams = True
    tells_waits = True

    def argv(self, asked: Asked) -> tuple[str, ...]:
        """One `run`. A worker may do what is not forbidden; a supervisor is the agent `plan`, who may only look."""
        settings = asked.request.settings
        argv = ["opencode", "run", "--format", "json", *_LOGS]
        argv += ["--auto"] if asked.request.role is Role.WORKER else ["--agent", "plan"]
        if settings.model:
            argv += ["--model", settings.model]
        if asked.session:
            argv += ["--session", asked.session]
        return tuple(argv)

    def report(self, output: CliOutput) -> Report:
        """The last step's end, where nothing failed; what was used is counted up over the steps."""
        events, log = list(json_lines(output.stdout)), list(_log_lines(output.stderr))
        errors = [event for event in events if event.get("type") == "error"]
        steps = [event for event in events if event.get("type") == "step_finish"]
        outcome, detail = _failure(errors[-1], log) if errors else _outcome(steps, events, log, output)
        return Report(
            outcome,
            text=_final_text(json_lines(after_gap(output.stdout))) if outcome is Outcome.OK else "",
            detail=detail,
            usage=_usage(steps),
            session=first_text(events, "sessionID"),
            retry=text_at(errors[-1], "error", "data", "responseHeaders", "retry-after") if errors else "",
        )

    def streamed(self, event: Values) -> tuple[str, Usage] | None:
        """The use of a step that has ended."""
        name = text_at(event, "part", "id") if event.get("type") == "step_finish" else ""
        return (name, _usage([event])) if name else None

    def hear(self, line: bytes) -> Heard:
        """Its log tells of a refusal, an event that an answer begins. When a helper is asked again is not told."""
        for logged in _log_lines(line):
            if _is_of_the_work(logged) and logged.get("mode") == "primary":
                return Refusal(_said(logged))
        for event in json_lines(line):
            return _heard(event)
        return None

    def chat(self, session: str) -> tuple[str, ...]:
        """Its own terminal, in that session."""
        return ("opencode", "--session", session)


def _log_lines(stderr: bytes) -> Iterator[Values]:
    """The lines of its log, as what they say by name."""
    for line in plain_text(stderr[-_MAX_LOG:]).splitlines():
        if line.startswith("timestamp="):
            yield {name: _unquoted(value) for name, value in _LOG_VALUE.findall(line)}


def _unquoted(value: str) -> object:
    try:
        return json.loads(value) if value.startswith('"') else value
    except ValueError:
        return value


def _failure(event: Values, log: list[Values]) -> tuple[Outcome, str]:
    error = table_at(event, "error")
    said = text_at(error, "data", "message") or text_at(error, "name") or "it ended with an error"
    reference = text_at(error, "data", "ref")
    if reference:
        # "Check server logs for details", as of a model that it does not know.
        said = next((text for line in log if line.get("ref") == reference and (text := text_at(line, "error"))), said)
    status = count_at(error, "data", "statusCode")
    return outcome_of_refusal(status, said) or Outcome.SERVER, said


def _outcome(steps: list[Values], events: list[Values], log: list[Values], output: CliOutput) -> tuple[Outcome, str]:
    """Where it told of no error: it is at its end, or was stopped while it waited for its provider."""
    outcome, detail = _end(steps[-1], events) if steps else _never_begun(output)
    if outcome in (Outcome.NO_RESULT, Outcome.KILLED):
        said = _unanswered(events, log)
        return (outcome_of_message(said) or Outcome.SERVER, said) if said else (outcome, detail)
    return outcome, detail


def _never_begun(output: CliOutput) -> tuple[Outcome, str]:
    report = without_result(output._replace(stderr=_LOG_LINE.sub(b"", output.stderr)), "Session not found")
    return report.outcome, report.detail


def _unanswered(events: list[Values], log: list[Values]) -> str:
    """What its provider said last, unless something came of another try; empty: nothing of the kind."""
    failed = [line for line in log if _is_of_the_work(line)]
    if not failed or _moment(failed[-1]) < max((number_at(event, "timestamp") or 0.0 for event in events), default=0.0):
        return ""
    return _said(failed[-1])


def _is_of_the_work(line: Values) -> bool:
    """Whether a line of its log tells that its provider failed it; its requests for a title are small."""
    return line.get("message") == "stream error" and line.get("small") == "false"


def _said(line: Values) -> str:
    return text_at(line, "error.error").removeprefix("AI_APICallError: ")


def _heard(event: Values) -> Heard:
    match event.get("type"):
        case "step_start":
            return "begins"
        case "step_finish" if text_at(event, "part", "reason") == "unknown" and not _usage([event]).output_tokens:
            # As of a web page. It asks again at once, and for ever.
            return Refusal("its provider answers without a word that it understands", again_in=0.0)
        case "step_finish" | "text" | "tool_use" | "reasoning":
            return "answered"
    return None


def _moment(line: Values) -> float:
    """When a line of its log was written, in milliseconds as its events say it."""
    try:
        return datetime.fromisoformat(text_at(line, "timestamp")).timestamp() * 1000
    except (ValueError, OverflowError):
        return -1.0


def _end(last: Values, events: list[Values]) -> tuple[Outcome, str]:
    refusals = [text_at(event, "part", "state", "error") for event in events if event.get("type") == "tool_use"]
    refused = [said for said in refusals if said.startswith(_REFUSED)]
    if refused:
        return Outcome.PERMISSION_DENIED, f"it was not allowed to do all it tried: {refused[0]}"
    reason = text_at(last, "part", "reason")
    if reason != "stop":
        return Outcome.NO_RESULT, f"its last step did not end it (reason: {reason})"
    return Outcome.OK, ""


def _final_text(events: Iterable[Values]) -> str:
    """The text of its last message."""
    parts = [table_at(event, "part") for event in events if event.get("type") == "text"]
    last = text_at(parts[-1], "messageID") if parts else ""
    return "".join(text_at(part, "text") for part in parts if text_at(part, "messageID") == last)


def _usage(steps: list[Values]) -> Usage:
    cost = _sum(number_at(step, "part", "cost") for step in steps)
    cached = [_sum(count_at(step, "part", "tokens", "cache", name) for step in steps) for name in ("read", "write")]
    new = _sum(count_at(step, "part", "tokens", "input") for step in steps)
    return Usage(
        # It counts a model that it has no prices of as free.
        cost=cost or None,
        cost_is="billed" if cost else None,
        input_tokens=_whole(_sum((new, *cached))),
        output_tokens=_whole(_sum(count_at(step, "part", "tokens", name) for step in steps for name in _WRITTEN)),
        cached_tokens=_whole(cached[0]),
    )


def _sum(counts: Iterable[float | None]) -> float | None:
    """The sum of those that are known; None when none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _whole(count: float | None) -> int | None:
    return None if count is None else int(count)
