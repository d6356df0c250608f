"""Cline: JSON events out, the prompt as an argument. Measured with 3.0.65; 2.x and 1.x are called in their own ways.

Of 2.18.0 an answer and a refusal were recorded.

1.0.10 prints messages over several lines each, and does the work in two servers (`cline-core`, `cline-host`) in process
groups of their own. It ends by itself only with a result (exit code 0), or when its servers are not up after 12 seconds
(1). After all else, as a refused key, a provider that is down, or an agent that calls no tool, it waits for a human:
the role's limits end it. A refusal without retries (403, 404) it does not even print, and 401 is a `Connection error.`
to it. A signal ends it and leaves its servers and its tool running.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from logist.agents.cli import Asked, Cli, CliOutput, error_line, unknown_result
from logist.agents.json_output import Values, count_at, json_lines, json_object, number_at, table_at, text_at
from logist.agents.outcome import Outcome, Report, outcome_of_message
from logist.models.manifest import Role
from logist.models.usage import Usage
from logist.plain_text import last_part, plain_text

_VERSION = re.compile(r"(\d+)\.\d+")
#: What a tool answers that had to be approved by somebody at a terminal.
_REFUSED = "requires approval"
#: The first generation has a model for each mode, in the setting that its provider reads; it ignores the others.
_MODEL_SETTINGS = tuple(
    f"{mode}-mode-{kind}-model-id" for kind in ("api", "open-ai", "open-router", "ollama") for mode in ("plan", "act")
)
#: Its servers were not up in time, as on a busy machine; the second where its database was not built.
_NOT_UP, _NO_DATABASE = "failed to start instance", "database not available"
#: Results that tell of a limit of its own.
_LIMITS = ("max_iterations", "mistake_limit")
#: A shell's exit codes above it name the signal that ended a program.
_SIGNALLED = 128


class Cline(Cli):
    """Cline."""

    name = program = "cline"
    install = "npm install -g cline"
    login = "log in once with `cline auth`"
    tested = ("3.0.", "2.18.", "1.0.")
    prompt = "arg"
    by_version = True
    passes = (
        *("CLINE_API_KEY", "CLINE_PROVIDER", "CLINE_MODEL", "CLINE_API_BASE_URL", "CLINE_DIR", "CLINE_DATA_DIR"),
        "CLINE_COMMAND_PERMISSIONS",
        *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
    )
    #: Without the first 3.x leaves a daemon behind that listens on a port; without the other 1.x makes a 3.x of itself.
    fixed = (("CLINE_SESSION_BACKEND_MODE", "local"), ("NO_AUTO_UPDATE", "1"))
    #: A session can be gone on with in a terminal only, and its name is not printed.
    resumes = False
    steered_by = (".cline/", ".clinerules/")
    supervisor_writes = True
    streams = True

    def argv(self, asked: Asked) -> tuple[str, ...]:
        """A oneshot of the generation that is installed. A worker may do everything; a supervisor plans.

        In 1.x both plan first, and go on to act by themselves.
        """
        settings = asked.request.settings
        supervisor = asked.request.role is Role.SUPERVISOR
        model = ["--model", settings.model] if settings.model else []
        match _generation(asked.request.version):
            case 1:
                # Its checkpoints copy the workspace, and rename the .git folders in it meanwhile.
                options = ["--oneshot", "-F", "json", "-s", "enable-checkpoints-setting=false"]
                options += [f"--setting={name}={settings.model}" for name in _MODEL_SETTINGS if settings.model]
            case 2:
                options = ["--json", "--plan" if supervisor else "--yolo", *model]
            case _:
                options = ["--json", *(["--plan"] if supervisor else []), *model]
        return ("cline", *options, asked.prompt)

    def report(self, output: CliOutput) -> Report:
        """The last `run_result` event, and an abort beside it; the exit code is 0 after an abort too."""
        events = list(json_lines(output.stdout))
        if not events:
            return _first_generation(output)
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
    if finish in _LIMITS:
        return Outcome.LIMIT, last or f"it met its own limit ({finish})"
    if finish not in ("aborted", "completed"):
        return unknown_result(finish)
    if finish == "aborted":
        # It saw itself going round in circles, or making one mistake after the other.
        return (Outcome.LIMIT, last) if last else (Outcome.KILLED, f"it ended itself ({finish})")
    if any(event.get("type") == "run_aborted" for event in events):
        return Outcome.KILLED, "it was told to stop"
    if any(_REFUSED in text_at(event, "event", "output", "error") for event in events):
        return Outcome.PERMISSION_DENIED, "a tool needed an approval; leave --auto-approve out of args"
    return Outcome.OK, ""


def _first_generation(output: CliOutput) -> Report:
    messages = list(_messages(output.stdout))
    return _without_result(messages, output)._replace(usage=_usage_of_messages(messages))


def _messages(data: bytes) -> Iterator[Values]:
    """The JSON objects that begin and end with a brace at the start of a line."""
    for part in data.split(b"\n{\n")[1:]:
        body, end, _ = part.partition(b"\n}")
        message = json_object(b"{" + body + end)
        if message is not None:
            yield message


def _without_result(events: list[Values], output: CliOutput) -> Report:
    """Earlier generations know no `run_result`: their last word is a message."""
    refusals = [refusal for event in events if (refusal := _refusal(event))]
    if refusals:
        return _refused(refusals[-1])
    denied, words = (_said(events, kind) for kind in ("command_permission_denied", "completion_result"))
    if denied:
        return Report(Outcome.PERMISSION_DENIED, detail=denied[-1] or "a command was denied")
    if words and output.exit_code == 0:
        return Report(Outcome.OK, text=words[-1])
    error = _last_error(events)
    if error is not None:
        return error
    if output.exit_code > _SIGNALLED:
        return Report(Outcome.KILLED, detail=f"it was killed (exit code {output.exit_code})")
    if output.exit_code != 0 and not events:
        return _never_begun(output)
    return Report(Outcome.NO_RESULT, detail=f"no result was printed (exit code {output.exit_code})")


def _last_error(events: list[Values]) -> Report | None:
    """The report on an error that nothing was said after; None: it got over those that there were."""
    last = next((event for event in reversed(events) if text_at(event, "text")), {})
    said = text_at(last, "text")
    match last.get("say"):
        case "error_retry":
            return _refused(text_at(_object(said), "errorMessage") or said)
        case "error":
            # It gave up, as after one mistake after the other.
            return Report(Outcome.LIMIT, detail=said)
    return None


def _refused(said: str) -> Report:
    return Report(outcome_of_message(said) or Outcome.SERVER, detail=text_at(_object(said), "message") or said)


def _object(text: str) -> Values | None:
    return json_object(text.encode("utf-8", "replace"))


def _never_begun(output: CliOutput) -> Report:
    said = error_line(plain_text(output.stderr)) or last_part(output.stderr or output.stdout, 500).strip()
    if _NOT_UP in said and _NO_DATABASE not in said:
        return Report(Outcome.SERVER, detail=said)
    return Report(outcome_of_message(said) or Outcome.CONFIG, detail=said or f"exit code {output.exit_code}")


def _refusal(event: Values) -> str:
    """What the provider said when it refused for good; empty: the event is none of that."""
    if event.get("type") == "error":
        return text_at(event, "message") or "an error event"
    return text_at(event, "text") if event.get("ask") == "api_req_failed" else ""


def _said(events: list[Values], kind: str) -> list[str]:
    return [text_at(event, "text") for event in events if event.get("say") == kind]


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


def _usage_of_messages(messages: list[Values]) -> Usage:
    """The sum over its requests; of one that was tried again it tells no more than the first answer."""
    told = [_object(request) for request in _said(messages, "api_req_started")]

    def total(name: str) -> float:
        return sum(number_at(each, name) or 0 for each in told)

    cost = total("cost")
    return Usage(
        # It says 0 of what it does not know.
        cost=cost or None,
        cost_is="billed" if cost else None,
        input_tokens=int(total("tokensIn")) or None,
        output_tokens=int(total("tokensOut")) or None,
        cached_tokens=int(total("cacheReads")) or None,
    )
