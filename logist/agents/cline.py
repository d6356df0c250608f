"""Cline: JSON events out, the prompt as an argument. Measured with 3.0.65; 2.x and 1.x are called in their own ways.

Of 2.18.0 an answer and a refusal were recorded. 1.0.10 names its version and its options; no oneshot of it could be
run, as the database that it keeps has to be built when it is installed.
"""

from __future__ import annotations

import re

from logist.agents.cli import Asked, Cli, CliOutput, error_line
from logist.agents.json_output import Values, count_at, json_lines, json_object, number_at, table_at, text_at
from logist.agents.outcome import Outcome, Report, outcome_of_message
from logist.models.manifest import Role
from logist.models.usage import Usage
from logist.plain_text import last_part, plain_text

_VERSION = re.compile(r"(\d+)\.\d+")
#: What a tool answers that had to be approved by somebody at a terminal.
_REFUSED = "requires approval"


class Cline(Cli):
    """Cline."""

    name = program = "cline"
    install = "npm install -g cline"
    tested = ("3.0.", "2.18.")
    prompt = "argument"
    by_version = True
    passes = (
        *("CLINE_API_KEY", "CLINE_PROVIDER", "CLINE_MODEL", "CLINE_API_BASE_URL", "CLINE_DIR", "CLINE_DATA_DIR"),
        *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
    )
    #: Without it a daemon is left behind that listens on a port.
    fixed = (("CLINE_SESSION_BACKEND_MODE", "local"),)
    #: A session can be gone on with in a terminal only, and its name is not printed.
    resumes = False
    steered_by = (".cline/", ".clinerules/")
    supervisor_writes = True
    streams = True

    def argv(self, asked: Asked) -> tuple[str, ...]:
        """A oneshot of the generation that is installed. A worker may do everything; a supervisor only plans."""
        settings = asked.request.settings
        supervisor = asked.request.role is Role.SUPERVISOR
        model = ["--model", settings.model] if settings.model else []
        match _generation(asked.request.version):
            case 1:
                options = ["--oneshot", "-F", "json"]
            case 2:
                options = ["--json", "--plan" if supervisor else "--yolo", *model]
            case _:
                options = ["--json", *(["--plan"] if supervisor else []), *model]
        return ("cline", *options, asked.prompt)

    def report(self, output: CliOutput) -> Report:
        """The last `run_result` event, and an abort beside it; the exit code is 0 after an abort too."""
        events = list(json_lines(output.stdout))
        results = [event for event in events if event.get("type") == "run_result"]
        if not results:
            return _without_result(events, output)
        outcome, detail = _outcome(results[-1], events)
        text = text_at(results[-1], "text") if outcome is Outcome.OK else ""
        return Report(outcome, text=text, detail=detail, usage=_usage(results[-1]))

    def streamed(self, event: Values) -> tuple[str, Usage] | None:
        """What it has used until now, told after each answer of the model."""
        told = table_at(event, "event")
        if told.get("type") != "usage":
            return None
        cost = number_at(told, "totalCost")
        return "all", Usage(
            cost=cost or None,
            cost_is="billed" if cost else None,
            input_tokens=count_at(told, "totalInputTokens"),
            output_tokens=count_at(told, "totalOutputTokens"),
            cached_tokens=count_at(told, "totalCacheReadTokens"),
        )


def _generation(version: str | None) -> int | None:
    found = _VERSION.search(version or "")
    return int(found[1]) if found else None


def _outcome(result: Values, events: list[Values]) -> tuple[Outcome, str]:
    finish, said = text_at(result, "finishReason"), text_at(result, "text")
    errors = [event for event in events if text_at(event, "event", "type") == "error"]
    last = text_at(errors[-1], "event", "error", "message") if errors else ""
    if finish == "error":
        auth = bool(errors) and text_at(errors[-1], "event", "errorClass") == "auth"
        return (Outcome.AUTH if auth else outcome_of_message(said) or Outcome.SERVER), said or last or finish
    if finish != "completed":
        # It saw itself going round in circles, or making one mistake after the other.
        return (Outcome.LIMIT, last) if last else (Outcome.KILLED, f"it ended itself ({finish})")
    if any(event.get("type") == "run_aborted" for event in events):
        return Outcome.KILLED, "it was told to stop"
    if any(_REFUSED in text_at(event, "event", "output", "error") for event in events):
        return Outcome.PERMISSION_DENIED, "a tool needed an approval; leave --auto-approve out of args"
    return Outcome.OK, ""


def _without_result(events: list[Values], output: CliOutput) -> Report:
    """Earlier generations know no `run_result`: their last word is a message."""
    errors = [text_at(event, "message") for event in events if event.get("type") == "error"]
    if errors:
        said = text_at(json_object(errors[-1].encode("utf-8", "replace")), "message") or errors[-1]
        return Report(outcome_of_message(errors[-1]) or Outcome.SERVER, detail=said or "an error event")
    words = [text_at(event, "text") for event in events if event.get("say") == "completion_result"]
    if words and output.exit_code == 0:
        return Report(Outcome.OK, text=words[-1])
    said = error_line(plain_text(output.stderr)) or last_part(output.stderr or output.stdout, 500).strip()
    if output.exit_code != 0 and not events:
        return Report(outcome_of_message(said) or Outcome.CONFIG, detail=said or f"exit code {output.exit_code}")
    return Report(Outcome.NO_RESULT, detail=f"no run_result event (exit code {output.exit_code})")


def _usage(result: Values) -> Usage:
    # Its helpers' share is in the aggregate alone.
    used = table_at(result, "aggregateUsage") or table_at(result, "usage")
    cost = number_at(used, "totalCost")
    return Usage(
        # It says 0 where it knows no price.
        cost=cost or None,
        cost_is="billed" if cost else None,
        input_tokens=count_at(used, "inputTokens"),
        output_tokens=count_at(used, "outputTokens"),
        cached_tokens=count_at(used, "cacheReadTokens"),
    )
