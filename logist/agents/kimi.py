"""Kimi Code: stream-json out, the prompt as an argument. Measured with 2.1.0, which needs node 22."""

from __future__ import annotations

import re

from logist.agents.cli import Asked, Cli, CliOutput
from logist.agents.json_output import Values, count_at, json_lines, number_at, text_at
from logist.agents.outcome import Outcome, Report, outcome_of_message
from logist.agents.own_waits import Heard, Refusal
from logist.plain_text import last_part, plain_text

#: How its errors begin; what else stands on standard error is no sign of any.
_ERROR = re.compile(r"^error: (?:failed to run prompt: )?(.+)$", re.MULTILINE)
_GONE = re.compile(r'Session ".*" not found\.')


class Kimi(Cli):
    """Kimi Code."""

    name = program = "kimi"
    install = "npm install -g @moonshot-ai/kimi-code"
    login = "set up its provider in ~/.kimi-code/config.toml, or set KIMI_API_KEY"
    tested = ("2.1.",)
    prompt = "arg"
    passes = ("KIMI_API_KEY", "KIMI_BASE_URL", "KIMI_MODEL_NAME", "MOONSHOT_API_KEY")
    resumes = True
    tells_waits = True
    steered_by = (".kimi-code/", ".kimi/", ".mcp.json")
    supervisor_writes = True

    def argv(self, asked: Asked) -> tuple[str, ...]:
        """A prompt without a terminal, in which it may do everything: there it has no mode for looking only."""
        settings = asked.request.settings
        argv = ["kimi", f"--prompt={asked.prompt}", "--output-format", "stream-json"]
        if settings.model:
            argv += ["--model", settings.model]
        if asked.session:
            argv.append(f"--session={asked.session}")
        return tuple(argv)

    def report(self, output: CliOutput) -> Report:
        """The assistant's last words; only a run that came to its end closes with a `session.resume_hint`."""
        events = list(json_lines(output.stdout))
        hints = [event for event in events if event.get("type") == "session.resume_hint"]
        session = (text_at(hints[-1], "session_id") or None) if hints else None
        errors = _ERROR.findall(plain_text(output.stderr))
        if output.exit_code != 0 and errors:
            said = errors[-1]
            if _GONE.fullmatch(said):
                return Report(Outcome.NO_RESULT, detail="its session is gone")
            return Report(outcome_of_message(said) or Outcome.CONFIG, detail=said, session=session)
        if not hints or output.exit_code != 0:
            said = last_part(output.stderr, 500).strip()
            outcome = Outcome.NO_RESULT if events or output.exit_code == 0 else Outcome.CONFIG
            return Report(
                outcome, detail=said or f"no end of the session (exit code {output.exit_code})", session=session
            )
        words = [text_at(event, "content") for event in events if event.get("role") == "assistant"]
        return Report(Outcome.OK, text=next((said for said in reversed(words) if said), ""), session=session)

    def hear(self, line: bytes) -> Heard:
        """It tells each pause before it tries again."""
        for event in json_lines(line):
            if event.get("type") == "turn.step.retrying":
                return _refusal(event)
            if event.get("role") in ("assistant", "tool"):
                return "answered"
        return None

    def chat(self, session: str) -> tuple[str, ...]:
        """Its own terminal, in that session."""
        return ("kimi", f"--session={session}")


def _refusal(event: Values) -> Refusal:
    said = text_at(event, "error_message") or text_at(event, "error_name")
    return Refusal(said, count_at(event, "status_code"), (number_at(event, "delay_ms") or 0.0) / 1000)
