"""Qwen Code (`qwen -o stream-json`): JSON lines out, the prompt on standard input. Measured with 0.24.4."""

from __future__ import annotations

import re

from logist.agents.cli import Asked, Cli, CliOutput, unknown_result, without_result
from logist.agents.json_output import Values, count_at, first_text, json_lines, list_at, table_at, text_at
from logist.agents.outcome import Outcome, Report, outcome_of_message
from logist.agents.own_waits import Heard, Refusal
from logist.models.manifest import Role
from logist.models.usage import Usage
from logist.plain_text import last_part

#: Its exit codes for the limits that it can be given: turns, and time or tools. It prints no result then.
_LIMITS = (53, 55)
#: Where it is to go on for ever, it tells after 429 and 529 every half a minute that it waits, and how much longer.
_WAITING = re.compile(rb"^\[qwen-code\] Waiting for API capacity\.\.\. .{0,40}retry in (\d{1,9})s")
#: After other errors it first tries several times without a word.
_RETRYING = re.compile(rb"^Retrying in (\d{1,9})s \(attempt \d+/\d+\): (.*)")


class Qwen(Cli):
    """Qwen Code."""

    name = program = "qwen"
    install = "npm install -g @qwen-code/qwen-code"
    login = "log in once with `qwen`, or set OPENAI_API_KEY"
    tested = ("0.24.",)
    prompt = "stdin"
    passes = (
        *("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "DASHSCOPE_API_KEY", "BAILIAN_CODING_PLAN_API_KEY"),
        *("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "GEMINI_API_KEY", "GOOGLE_API_KEY", "QWEN_HOME"),
    )
    fixed = (("QWEN_CODE_SUPPRESS_YOLO_WARNING", "1"), ("QWEN_CODE_UNATTENDED_RETRY", "1"))
    resumes = True
    expands_names = True
    steered_by = (".qwen/", ".env")
    streams = True
    tells_waits = True

    def argv(self, asked: Asked) -> tuple[str, ...]:
        """A oneshot that reads its prompt from its input. A worker may do anything; a supervisor may only look."""
        settings = asked.request.settings
        mode = "yolo" if asked.request.role is Role.WORKER else "plan"
        argv = ["qwen", "-o", "stream-json", "--approval-mode", mode]
        if asked.request.role is Role.SUPERVISOR:
            # No hooks and no servers, which the workspace could name.
            argv.append("--safe-mode")
        if settings.model:
            argv += ["--model", settings.model]
        if asked.session:
            argv += ["--resume", asked.session]
        return tuple(argv)

    def report(self, output: CliOutput) -> Report:
        """The last `result` event; its counts are those of the whole session."""
        events = list(json_lines(output.stdout))
        session = first_text(events, "session_id")
        results = [event for event in events if event.get("type") == "result"]
        if output.exit_code in _LIMITS:
            return Report(
                Outcome.LIMIT, detail=last_part(output.stderr, 200) or "it met its own limit", session=session
            )
        if not results:
            return without_result(output, "No saved session found")._replace(session=session)
        result = results[-1]
        outcome, detail = _outcome(result, events)
        return Report(
            outcome,
            text=text_at(result, "result") if outcome is Outcome.OK else "",
            detail=detail,
            usage=_usage(table_at(result, "usage")),
            cumulative=("input_tokens", "output_tokens", "cached_tokens"),
            session=session,
        )

    def streamed(self, event: Values) -> tuple[str, Usage] | None:
        """The use that an answer of the model is told with; of each answer the last word counts."""
        name = text_at(event, "message", "id") if event.get("type") == "assistant" else ""
        return (name, _usage(table_at(event, "message", "usage"))) if name else None

    def hear(self, line: bytes) -> Heard:
        """It tells of the longer of its pauses."""
        if (waiting := _WAITING.match(line)) is not None:
            return Refusal("it waits for its provider, who has too many requests", 429, float(waiting[1]))
        if (retrying := _RETRYING.match(line)) is not None:
            return Refusal(retrying[2].decode("utf-8", "replace"), again_in=float(retrying[1]))
        return "answered" if any(event.get("type") == "assistant" for event in json_lines(line)) else None

    def chat(self, session: str) -> tuple[str, ...]:
        """Its own terminal, in that session."""
        return ("qwen", "--resume", session)


def _outcome(result: Values, events: list[Values]) -> tuple[Outcome, str]:
    subtype = text_at(result, "subtype")
    if result.get("is_error") not in (None, False) or subtype.startswith("error"):
        said = text_at(result, "error", "message") or text_at(result, "result") or subtype or "it ended with an error"
        return outcome_of_message(said) or Outcome.SERVER, said
    if subtype != "success":
        return unknown_result(subtype)
    denied = {text_at(denial, "tool_name") for denial in list_at(result, "permission_denials")}
    # Who may only look loses nothing by a refusal.
    looks_only = any(text_at(event, "permission_mode") == "plan" for event in events)
    if denied and not looks_only:
        return Outcome.PERMISSION_DENIED, f"it was not allowed to use {', '.join(sorted(denied))}"
    return Outcome.OK, ""


def _usage(used: Values) -> Usage:
    return Usage(
        input_tokens=count_at(used, "input_tokens"),
        output_tokens=count_at(used, "output_tokens"),
        cached_tokens=count_at(used, "cache_read_input_tokens"),
    )
