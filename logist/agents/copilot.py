"""GitHub Copilot CLI (`copilot --output-format json`): JSON lines out, the prompt on stdin. Measured with 1.0.102."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from logist.agents.cli import Asked, Cli, CliOutput, unknown_result, without_result
from logist.agents.json_output import Values, after_gap, count_at, json_lines, json_object, table_at, text_at
from logist.agents.outcome import Outcome, Report, outcome_of_refusal
from logist.agents.own_waits import Heard, Refusal
from logist.models.manifest import Role
from logist.models.usage import Usage

#: It tells what it used in a file alone.
_USAGE_FILE = "copilot-usage.json"
_MAX_USAGE = 1_000_000
#: How a refusal by the rules of a supervisor ends.
_LOOKING = ("rules: `write`", "rules: `shell`")


class Copilot(Cli):
    """GitHub Copilot CLI."""

    name = program = "copilot"
    install = "npm install -g @github/copilot"
    login = "log in once with `copilot login`, or set GITHUB_TOKEN"
    tested = ("1.0.",)
    prompt = "stdin"
    passes = (
        *("COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN", "COPILOT_HOME", "COPILOT_OFFLINE", "COPILOT_MODEL"),
        *("COPILOT_PROVIDER_TYPE", "COPILOT_PROVIDER_BASE_URL", "COPILOT_PROVIDER_API_KEY"),
        *("COPILOT_PROVIDER_BEARER_TOKEN", "COPILOT_PROVIDER_WIRE_API"),
    )
    fixed = (("COPILOT_AUTO_UPDATE", "false"),)
    resumes = True
    tells_waits = True
    steered_by = (".github/hooks/", ".github/copilot/", ".copilot/", ".mcp.json", ".vscode/mcp.json")

    def argv(self, asked: Asked) -> tuple[str, ...]:
        """A oneshot that reads its prompt from its input. A worker may do anything; a supervisor may only look."""
        settings = asked.request.settings
        argv = ["copilot", "--output-format", "json", "--no-color", "--no-ask-user"]
        argv += ["--usage-output-file", str(asked.request.step_dir / _USAGE_FILE)]
        worker = asked.request.role is Role.WORKER
        argv += ["--allow-all"] if worker else ["--allow-all-tools", "--deny-tool=write", "--deny-tool=shell"]
        if settings.model:
            argv += ["--model", settings.model]
        if asked.session:
            argv += [f"--resume={asked.session}"]
        return tuple(argv)

    def report(self, output: CliOutput) -> Report:
        """The `result` event and the errors before it; its counts are those of the whole session."""
        events = list(json_lines(output.stdout))
        results = [event for event in events if event.get("type") == "result"]
        if not results:
            return without_result(output, "No session")
        outcome, detail = _outcome(results[-1], events)
        text = _final_text(json_lines(after_gap(output.stdout)))
        if outcome is Outcome.OK and not text:
            outcome, detail = Outcome.NO_RESULT, "it ended without a final text"
        return Report(
            outcome,
            text=text if outcome is Outcome.OK else "",
            detail=detail,
            usage=_usage(output.step_dir / _USAGE_FILE),
            cumulative=("input_tokens", "output_tokens", "cached_tokens"),
            session=text_at(results[-1], "sessionId") or None,
        )

    def hear(self, line: bytes) -> Heard:
        """It tells each call of its model that failed, and when it calls again, but not for how long it waits."""
        for event in json_lines(line):
            match event.get("type"):
                case "model.call_failure":
                    return _refusal(table_at(event, "data"))
                case "model.call_start":
                    return "begins"
                case "assistant.message":
                    return "answered"
        return None

    def chat(self, session: str) -> tuple[str, ...]:
        """Its own terminal, in that session."""
        return ("copilot", f"--resume={session}")


def _outcome(result: Values, events: list[Values]) -> tuple[Outcome, str]:
    errors = [table_at(event, "data") for event in events if event.get("type") == "session.error"]
    if errors:
        said, status = text_at(errors[-1], "message"), count_at(errors[-1], "statusCode")
        unsaid = "it ended with an error" if status is None else f"HTTP status {status}"
        return outcome_of_refusal(status, said) or Outcome.SERVER, said or unsaid
    code = count_at(result, "exitCode")
    if code is None:
        return unknown_result("")
    if code != 0:
        return Outcome.SERVER, f"it ended with exit code {code}"
    refusals = [table_at(event, "data", "error") for event in events if event.get("type") == "tool.execution_complete"]
    refused = [text_at(error, "message") for error in refusals if error.get("code") == "denied"]
    # A supervisor, who may only look, loses nothing by a refusal.
    if any(not said.endswith(_LOOKING) for said in refused):
        return Outcome.PERMISSION_DENIED, f"it was not allowed to do all it tried: {refused[0]}"
    return Outcome.OK, ""


def _refusal(failure: Values) -> Refusal:
    status = count_at(failure, "statusCode")
    return Refusal("a lost connection" if status is None else f"HTTP status {status}", status)


def _final_text(events: Iterable[Values]) -> str:
    messages = [event for event in events if event.get("type") == "assistant.message"]
    return text_at(messages[-1], "data", "content") if messages else ""


def _usage(path: Path) -> Usage:
    try:
        with path.open("rb") as file:
            told = json_object(file.read(_MAX_USAGE)) or {}
    except OSError:
        return Usage()
    models = [table_at(model, "usage") for model in table_at(told, "modelMetrics").values()]
    if not models:
        return Usage()

    def total(name: str) -> int:
        return sum(count_at(model, name) or 0 for model in models)

    return Usage(
        input_tokens=total("inputTokens"), output_tokens=total("outputTokens"), cached_tokens=total("cacheReadTokens")
    )
