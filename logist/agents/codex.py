"""OpenAI Codex (`codex exec --json`): JSON lines out, the prompt on standard input. Measured with 0.169.0."""

from __future__ import annotations

import re
from collections.abc import Iterable

from logist.agents.cli import Asked, Cli, CliOutput, without_result
from logist.agents.json_output import (
    Values,
    after_gap,
    count_at,
    first_text,
    json_lines,
    json_object,
    table_at,
    text_at,
)
from logist.agents.outcome import Outcome, Report, outcome_of_message
from logist.agents.own_waits import Heard, Refusal
from logist.models.manifest import Role
from logist.models.usage import Usage

#: What it says of a session that has become longer than its model can read.
_FULL = "Start a new thread"
#: How long it waits for a provider stands in its log alone: of a stream with why, of a request without. The rest of the
#: log is as it is without being asked for.
_LOGS = "error,codex_core::responses_retry=warn,codex_otel.trace_safe[{retry.delay_ms}]=trace"
#: A line of its log: what a tool printed stands in none.
_LOGGED = r"^\d{4}-\d\d-\d\dT\S+ +[A-Z]+ .*?"
#: `(1/5 in 3599.9s)`; pauses of less than a second are in milliseconds.
_STREAM_RETRY = re.compile(
    _LOGGED + r"\bresponses_retry: .{0,80}\(\d+/\d+ in (?P<amount>\d+(?:\.\d+)?)(?P<part>m|µ|n)?s\)"
    r".*?sampling_error=(?P<said>.*)"
)
_REQUEST_RETRY = re.compile(_LOGGED + r'\bretry\.delay_ms=(\d{1,12}) retry\.layer="http"')


class Codex(Cli):
    """OpenAI Codex. What its sandbox refuses is seen by the agent alone: only the evidence tells."""

    name = program = "codex"
    install = "npm install -g @openai/codex"
    login = "log in once with `codex login`, or set CODEX_API_KEY"
    tested = ("0.169.",)
    prompt = "stdin"
    passes = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_API_KEY", "CODEX_HOME")
    fixed = (("RUST_LOG", _LOGS),)
    resumes = True
    tells_waits = True

    def argv(self, asked: Asked) -> tuple[str, ...]:
        """One `exec`. A worker may write in its workspace; a supervisor may only look."""
        settings = asked.request.settings
        sandbox = "workspace-write" if asked.request.role is Role.WORKER else "read-only"
        argv = ["codex", "exec"]
        if asked.session:
            argv += ["resume", asked.session]
        # As a setting: `resume` has no option for the sandbox.
        argv += ["-", "--json", "--skip-git-repo-check", "-c", f'sandbox_mode="{sandbox}"']
        if settings.model:
            argv += ["--model", settings.model]
        return tuple(argv)

    def report(self, output: CliOutput) -> Report:
        """The last turn's end; `error` events before it are retries and warnings."""
        events = list(json_lines(output.stdout))
        session = first_text(events, "thread_id")
        ends = [event for event in events if event.get("type") in ("turn.completed", "turn.failed")]
        if not ends:
            return without_result(output, "no rollout found")._replace(session=session or None)
        end = ends[-1]
        failed = end.get("type") == "turn.failed"
        outcome, detail = _failure(text_at(end, "error", "message")) if failed else (Outcome.OK, "")
        return Report(
            outcome,
            text="" if failed else _last_message(json_lines(after_gap(output.stdout))),
            detail=detail,
            usage=_usage(end),
            cumulative=("input_tokens", "output_tokens", "cached_tokens"),
            session=session if session and _FULL not in detail else None,
        )

    def hear(self, line: bytes) -> Heard:
        """Its log tells each pause before it tries again."""
        text = line.decode("utf-8", "replace")
        if (stream := _STREAM_RETRY.match(text)) is not None:
            return Refusal(stream["said"], again_in=0.0 if stream["part"] else float(stream["amount"]))
        if (request := _REQUEST_RETRY.match(text)) is not None:
            return Refusal("its provider does not take its request", again_in=float(request[1]) / 1000)
        items = (table_at(event, "item") for event in json_lines(line))
        return "answered" if any(item.get("type") not in (None, "error") for item in items) else None

    def chat(self, session: str) -> tuple[str, ...]:
        """Its own terminal, in that session."""
        return ("codex", "resume", session)


def _failure(said: str) -> tuple[Outcome, str]:
    if said.startswith("Missing environment variable"):
        return Outcome.AUTH, said
    # Of what a provider answers with status 400 it prints no more than that, as it came; of any other a sentence.
    if said.lstrip()[:1] in ("", "{", "[", "<"):
        return _refusal(said)
    return outcome_of_message(said) or Outcome.SERVER, said


def _refusal(body: str) -> tuple[Outcome, str]:
    """What an answer with status 400 means: by its words, else by its code."""
    told = json_object(body.encode("utf-8", "replace")) or {}
    error = table_at(told, "error") or told
    said = text_at(error, "message") or text_at(error, "detail") or body
    outcome = outcome_of_message(said) or outcome_of_message(text_at(error, "code")) or Outcome.CONFIG
    return outcome, said or "its turn failed without a word, as it does after HTTP status 400"


def _last_message(events: Iterable[Values]) -> str:
    items = [table_at(event, "item") for event in events if event.get("type") == "item.completed"]
    messages = [text_at(item, "text") for item in items if item.get("type") == "agent_message"]
    return messages[-1] if messages else ""


def _usage(end: Values) -> Usage:
    return Usage(
        input_tokens=count_at(end, "usage", "input_tokens"),
        output_tokens=count_at(end, "usage", "output_tokens"),
        cached_tokens=count_at(end, "usage", "cached_input_tokens"),
    )
