"""Continue (`cn`): one JSON object out, the prompt as an argument. Measured with 1.5.47."""

from __future__ import annotations

import json

from logist.agents.cli import Asked, Cli, CliOutput
from logist.agents.json_output import Values, json_object, text_at
from logist.agents.outcome import Outcome, Report, outcome_of_message
from logist.models.manifest import Role
from logist.plain_text import last_part


class Continue(Cli):
    """Continue."""

    name = program = "cn"
    install = "npm install -g @continuedev/cli"
    login = "log in once with `cn login`, or give the model its key in config.yaml"
    tested = ("1.5.",)
    prompt = "arg"
    passes = ("CONTINUE_API_KEY", "CONTINUE_GLOBAL_DIR", "OPENAI_API_KEY", "ANTHROPIC_API_KEY")
    fixed = (("CONTINUE_TELEMETRY_ENABLED", "0"),)
    #: It goes on with the last session only, whoever's that was.
    resumes = False
    steered_by = (".continue/",)

    def argv(self, asked: Asked) -> tuple[str, ...]:
        """A print-mode oneshot. A worker may use every tool; a supervisor those that read."""
        request = asked.request
        # --readonly still has the shell, which writes, and turns --exclude off.
        mode = ["--auto"] if request.role is Role.WORKER else ["--exclude", "Bash"]
        argv = ["cn", "--print", "--format", "json", *mode]
        if request.settings.model:
            argv += ["--model", request.settings.model]
        return (*argv, asked.prompt)

    def report(self, output: CliOutput) -> Report:
        """Its one object on standard output; an error stands on either stream."""
        printed = json_object(output.stdout)
        told = next((each for each in (printed, json_object(output.stderr)) if _is_error(each)), None)
        if told is not None:
            said = text_at(told, "message")
            return Report(outcome_of_message(said) or Outcome.SERVER, detail=said or "it says that it failed")
        if printed is None or output.exit_code != 0:
            said = last_part(output.stderr or output.stdout, 500).strip()
            outcome = Outcome.NO_RESULT if output.exit_code == 0 else outcome_of_message(said) or Outcome.CONFIG
            return Report(outcome, detail=said or f"exit code {output.exit_code} and no JSON object")
        # An answer that is JSON by itself is printed as it is.
        return Report(Outcome.OK, text=text_at(printed, "response") or json.dumps(printed, ensure_ascii=False))


def _is_error(told: Values | None) -> bool:
    return told is not None and told.get("status") == "error" and "message" in told
