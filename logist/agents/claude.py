"""Claude Code (`claude -p`): stream-json out, the prompt on standard input. Measured with 2.1.197 and 2.1.329."""

from __future__ import annotations

import re

from logist.agents.cli import Asked, Cli, CliOutput, unknown_result, without_result
from logist.agents.json_output import Values, count_at, first_text, json_lines, list_at, number_at, table_at, text_at
from logist.agents.outcome import Outcome, Report, outcome_of_message, outcome_of_refusal, outcome_of_status
from logist.agents.own_waits import Heard, Refusal
from logist.models.manifest import Role
from logist.models.usage import Counted, Usage

#: A result whose `subtype` is one of these met a limit of the program's own.
_LIMITS = ("error_max_turns", "error_max_budget_usd")
_GONE = "No conversation found"
#: The first version that tells the use of the whole session. Measured: 2.1.276 tells that of each process.
_TELLS_SESSIONS = (2, 1, 277)
_COUNTED: tuple[Counted, ...] = ("cost", "input_tokens", "output_tokens", "cached_tokens")
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", re.ASCII)
#: Options that say what it may do.
_PERMITTING = frozenset({"--allowedTools", "--allowed-tools", "--permission-mode", "--dangerously-skip-permissions"})


class Claude(Cli):
    """Claude Code."""

    name = program = "claude"
    install = "npm install -g @anthropic-ai/claude-code"
    login = "log in once with `claude`, or set ANTHROPIC_API_KEY"
    tested = ("2.1.",)
    prompt = "stdin"
    passes = (
        *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL"),
        *("CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR", "IS_SANDBOX"),
    )
    #: By itself it tries ten times, for three minutes, even with a key that is refused.
    fixed = (("DISABLE_AUTOUPDATER", "1"), ("CLAUDE_CODE_MAX_RETRIES", "4"))
    resumes = True
    streams = True
    tells_waits = True
    #: What was allowed for good in its own terminal, as in a chat.
    marks = (".claude/settings.local.json",)

    def argv(self, asked: Asked) -> tuple[str, ...]:
        """A print-mode oneshot. A worker may edit files and run commands; a supervisor may only look.

        A supervisor takes no settings of the workspace: their hooks would run in it.
        A role whose `args` say what it may do is given nothing beside it.
        """
        settings = asked.request.settings
        works = asked.request.role is Role.WORKER
        mode = "acceptEdits" if works else "plan"
        argv = ["claude", "-p", "--output-format", "stream-json", "--verbose", "--permission-mode", mode]
        if not works:
            argv += ["--setting-sources", "user"]
        elif not any(word.partition("=")[0] in _PERMITTING for word in settings.args):
            argv += ["--allowedTools", "Bash"]
        if settings.model:
            argv += ["--model", settings.model]
        if asked.session:
            argv += ["--resume", asked.session]
        return tuple(argv)

    def report(self, output: CliOutput) -> Report:
        """The last `result` event; a run that printed none came to no result, whatever its exit code."""
        events = list(json_lines(output.stdout))
        session = first_text(events, "session_id")
        results = [event for event in events if event.get("type") == "result"]
        if not results:
            return _without_result(output, events)._replace(session=session)
        result = results[-1]
        started = _started(events)
        outcome, detail = _outcome(result, looks_only=text_at(started, "permissionMode") == "plan")
        retry = _reset(events)
        if outcome is Outcome.QUOTA and retry:
            outcome = Outcome.RATE_LIMITED
        return Report(
            outcome,
            text=text_at(result, "result") if outcome is Outcome.OK else "",
            detail=detail,
            usage=_usage_of_all(result),
            cumulative=_COUNTED if _tells_the_session(started, result) else (),
            session=None if _GONE in detail else session,
            retry=retry,
        )

    def streamed(self, event: Values) -> tuple[str, Usage] | None:
        """The use that an answer of the model is told with; of each answer the last word counts."""
        name = text_at(event, "message", "id") if event.get("type") == "assistant" else ""
        return (name, _usage(table_at(event, "message"))) if name else None

    def hear(self, line: bytes) -> Heard:
        """It tells each pause before it tries again."""
        for event in json_lines(line):
            if event.get("subtype") == "api_retry":
                return Refusal(_tried_again(event), count_at(event, "error_status"), _pause(event))
            if event.get("type") in ("assistant", "user"):
                return "answered"
        return None

    def chat(self, session: str) -> tuple[str, ...]:
        """Its own terminal, in that session."""
        return ("claude", "--resume", session)


def _started(events: list[Values]) -> Values:
    began = (event for event in events if event.get("type") == "system" and event.get("subtype") == "init")
    return next(began, {})


def _tells_the_session(started: Values, result: Values) -> bool:
    """Whether its dollars, and the tokens by model, are those of the whole session."""
    version = _VERSION.match(text_at(started, "claude_code_version"))
    if version is not None and tuple(map(int, version.groups())) < _TELLS_SESSIONS:
        return False
    # A session that an earlier version left is counted anew: then it is no more than what this process used.
    return (_usage_of_all(result).output_tokens or 0) > (count_at(result, "usage", "output_tokens") or 0)


def _without_result(output: CliOutput, events: list[Values]) -> Report:
    last = events[-1] if events else {}
    status = count_at(last, "error_status")
    if last.get("subtype") == "api_retry" and status is not None:
        return Report(outcome_of_status(status), detail=_tried_again(last))
    return without_result(output, _GONE)


def _tried_again(event: Values) -> str:
    status = count_at(event, "error_status")
    return f"it was still trying again after {'a lost connection' if status is None else f'HTTP status {status}'}"


def _pause(event: Values) -> float:
    """Seconds."""
    return (number_at(event, "retry_delay_ms") or 0.0) / 1000


def _outcome(result: Values, *, looks_only: bool) -> tuple[Outcome, str]:
    said, subtype = text_at(result, "result"), text_at(result, "subtype")
    denied = {text_at(denial, "tool_name") for denial in list_at(result, "permission_denials")}
    if subtype in _LIMITS:
        return Outcome.LIMIT, f"it met its own limit ({subtype})"
    # `subtype` is "success" even where the provider refused: `is_error` tells.
    if result.get("is_error") not in (None, False) or subtype.startswith("error"):
        return _failure(result, said or "; ".join(map(str, list_at(result, "errors"))) or subtype)
    if subtype != "success":
        return unknown_result(subtype)
    # Who may only look loses nothing by a refusal: some of its tools are always refused.
    if denied and not looks_only:
        return Outcome.PERMISSION_DENIED, f"it was not allowed to use {', '.join(sorted(denied))}"
    return Outcome.OK, ""


def _failure(result: Values, said: str) -> tuple[Outcome, str]:
    status = count_at(result, "api_error_status")
    if status is not None:
        return outcome_of_refusal(status, said) or Outcome.SERVER, said
    if _GONE in said:
        return Outcome.NO_RESULT, f"its session is gone: {said}"
    if text_at(result, "subtype") == "error_during_execution":
        return Outcome.KILLED, said
    return outcome_of_message(said) or Outcome.SERVER, said


def _reset(events: list[Values]) -> str:
    """When the window of a subscription begins anew that is used up; empty: none is."""
    told = [table_at(event, "rate_limit_info") for event in events if event.get("type") == "rate_limit_event"]
    moment = count_at(told[-1], "resetsAt") if told and told[-1].get("status") == "rejected" else None
    return "" if moment is None else str(moment)


def _usage_of_all(result: Values) -> Usage:
    """With what its subagents and its titles used, which is told by model alone."""
    used, models = _usage(result), table_at(result, "modelUsage")
    if not models:
        return used

    def total(*kinds: str) -> int:
        return sum(count_at(models, model, kind) or 0 for model in models for kind in kinds)

    return used.model_copy(
        update={
            "input_tokens": total("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens"),
            "output_tokens": total("outputTokens"),
            "cached_tokens": total("cacheReadInputTokens"),
        }
    )


def _usage(result: Values) -> Usage:
    counts = [count_at(result, "usage", name) for name in ("input_tokens", "cache_creation_input_tokens")]
    cached = count_at(result, "usage", "cache_read_input_tokens")
    known = [count for count in (*counts, cached) if count is not None]
    cost = number_at(result, "total_cost_usd")
    return Usage(
        cost=cost,
        cost_is=None if cost is None else "billed",
        input_tokens=sum(known) if known else None,
        output_tokens=count_at(result, "usage", "output_tokens"),
        cached_tokens=cached,
    )
