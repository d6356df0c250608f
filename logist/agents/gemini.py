"""Gemini CLI (`gemini -o stream-json`): JSON lines out, the prompt on standard input. Measured with 0.61.0."""

from __future__ import annotations

import re
from collections.abc import Iterable

from logist.agents.cli import Asked, Cli, CliOutput, unknown_result, without_result
from logist.agents.json_output import Values, after_gap, count_at, json_lines, json_object, text_at
from logist.agents.outcome import Outcome, Report, outcome_of_refusal
from logist.agents.own_waits import Heard, Refusal
from logist.models.manifest import Role
from logist.models.usage import Usage

#: What its own exit codes mean, where it came to no result.
_EXITS = {41: Outcome.AUTH, 53: Outcome.LIMIT}
#: It tries again up to ten times, for minutes, with pauses of up to 40 seconds unless its provider asks for longer.
_RETRYING = re.compile(
    rb"^Attempt \d+ failed(?: with status (?P<status>\d{3})\. Retrying with backoff|: (?P<why>.*)\."
    rb" Retrying after (?P<pause>\d{1,12})ms)\.\.\.(?P<error>.*)"
)


class Gemini(Cli):
    """Gemini CLI."""

    name = program = "gemini"
    install = "npm install -g @google/gemini-cli"
    login = "log in once with `gemini`, or set GEMINI_API_KEY"
    tested = ("0.61.",)
    prompt = "stdin"
    passes = (
        *("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL", "GEMINI_MODEL"),
        *("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"),
        *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_VERTEX_BASE_URL", "GEMINI_CLI_HOME"),
    )
    #: Its launcher ignores SIGTERM, so there shall be none.
    fixed = (("GEMINI_CLI_NO_RELAUNCH", "true"),)
    resumes = True
    tells_waits = True
    expands_names = True
    steered_by = (".gemini/", ".env")

    def argv(self, asked: Asked) -> tuple[str, ...]:
        """A oneshot that reads its prompt from its input. A worker may do anything; a supervisor may only look."""
        settings = asked.request.settings
        mode = "yolo" if asked.request.role is Role.WORKER else "plan"
        argv = ["gemini", "-o", "stream-json", "--approval-mode", mode, "--skip-trust"]
        if settings.model:
            argv += ["--model", settings.model]
        if asked.session:
            argv += ["--resume", asked.session]
        return tuple(argv)

    def report(self, output: CliOutput) -> Report:
        """The `result` event. Exit code 0 may stand for a stream that broke off, and it repeats the prompt."""
        events = list(json_lines(output.stdout))
        session = _session(events)
        results = [event for event in events if event.get("type") == "result"]
        if not results:
            return _without_result(output)._replace(session=session)
        result, text = results[-1], _final_text(json_lines(after_gap(output.stdout)))
        outcome, detail = _outcome(result, events, output.exit_code)
        if outcome is Outcome.OK and not text.strip():
            outcome, detail = Outcome.NO_RESULT, "it ended without a final text"
        return Report(
            outcome,
            text=text if outcome is Outcome.OK else "",
            detail=detail,
            usage=_usage(result),
            session=session,
        )

    def hear(self, line: bytes) -> Heard:
        """It tells when it was refused, and at times how long it waits then."""
        if (retrying := _RETRYING.match(line)) is not None:
            return _refusal(retrying)
        events = json_lines(line)
        said = any(event.get("type") == "tool_use" or event.get("role") == "assistant" for event in events)
        return "answered" if said else None

    def chat(self, session: str) -> tuple[str, ...]:
        """Its own terminal, in that session."""
        return ("gemini", "--resume", session)


def _refusal(retrying: re.Match[bytes]) -> Refusal:
    error, status = retrying["why"] or retrying["error"], retrying["status"]
    _, brace, body = error.partition(b"{")
    said = text_at(json_object(brace + body), "error", "message") or error.decode("utf-8", "replace").strip()
    # Without a pause that it tells it asks again soon, and then tells of that.
    return Refusal(said, int(status) if status else None, float(retrying["pause"] or 0) / 1000)


def _without_result(output: CliOutput) -> Report:
    report = without_result(output, "Error resuming session")
    return report._replace(outcome=_EXITS.get(output.exit_code, report.outcome))


def _session(events: list[Values]) -> str | None:
    """Its session; one in which the model never said anything is not kept."""
    said = any(event.get("type") == "tool_use" or event.get("role") == "assistant" for event in events)
    started = [text_at(event, "session_id") for event in events if event.get("type") == "init"]
    return (started[0] or None) if said and started else None


def _final_text(events: Iterable[Values]) -> str:
    """What the agent said after its last tool: it comes in pieces."""
    pieces: list[str] = []
    for event in events:
        if event.get("type") == "tool_result":
            pieces.clear()
        elif event.get("type") == "message" and event.get("role") == "assistant":
            pieces.append(text_at(event, "content"))
    return "".join(pieces)


def _outcome(result: Values, events: list[Values], exit_code: int) -> tuple[Outcome, str]:
    status = text_at(result, "status")
    if status == "error":
        return _failure(result, events, exit_code)
    if status != "success":
        return unknown_result(status)
    refused = [event for event in events if text_at(event, "error", "type") == "policy_violation"]
    # Plan mode is a supervisor's, who may only look and loses nothing by a refusal.
    if any("Plan Mode" not in text_at(event, "error", "message") for event in refused):
        return Outcome.PERMISSION_DENIED, f"it was not allowed to do all it tried: {text_at(refused[0], 'output')}"
    return Outcome.OK, ""


def _failure(result: Values, events: list[Values], exit_code: int) -> tuple[Outcome, str]:
    errors = [text_at(event, "message") for event in events if event.get("type") == "error"]
    said = text_at(result, "error", "message") or (errors[-1] if errors else "") or "it ended with an error"
    # Its exit code is what fits of the provider's status: 145 is 401.
    status = exit_code + 256 if 400 <= exit_code + 256 < 512 else None
    return outcome_of_refusal(status, said) or Outcome.SERVER, said


def _usage(result: Values) -> Usage:
    return Usage(
        input_tokens=count_at(result, "stats", "input_tokens"),
        output_tokens=count_at(result, "stats", "output_tokens"),
        cached_tokens=count_at(result, "stats", "cached"),
    )
