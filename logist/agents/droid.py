"""Factory's droid (`droid exec`): stream-json out, the prompt from a file. Measured with 0.215.0."""

from __future__ import annotations

from logist.agents.cli import Asked, Cli, CliOutput
from logist.agents.json_output import Values, count_at, json_lines, text_at
from logist.agents.outcome import Outcome, Report, outcome_of_message
from logist.models.manifest import Role
from logist.models.usage import Usage
from logist.plain_text import last_part


class Droid(Cli):
    """droid."""

    name = program = "droid"
    install = "npm install -g droid"
    login = "log in once with `droid`, or set FACTORY_API_KEY"
    tested = ("0.215.",)
    prompt = "file"
    passes = ("FACTORY_API_KEY", "FACTORY_HOME_OVERRIDE")
    fixed = (("FACTORY_DROID_AUTO_UPDATE_ENABLED", "false"),)
    #: A session is gone on with only where one is logged in to Factory, and else ends at once without a word.
    resumes = False
    steered_by = (".factory/",)

    def argv(self, asked: Asked) -> tuple[str, ...]:
        """A oneshot. A worker may edit and run what a developer does; a supervisor, without --auto, only reads."""
        # `json` says no more of any error than "Exec failed".
        request = asked.request
        argv = ["droid", "exec", "--output-format", "stream-json", "--file", str(request.prompt_file)]
        if request.role is Role.WORKER:
            argv += ["--auto", "medium"]
        else:
            # Without --auto the shell still runs what the model itself calls harmless, `>` and all.
            argv += ["--remove-tools", "Execute"]
        if request.settings.model:
            argv += ["--model", request.settings.model]
        return tuple(argv)

    def report(self, output: CliOutput) -> Report:
        """The `completion` event; an error that comes after it, or without it, counts more."""
        events = list(json_lines(output.stdout))
        session = next((named for event in events if (named := text_at(event, "session_id"))), None)
        last = next((event for event in reversed(events) if event.get("type") in ("completion", "error")), None)
        if last is None:
            said = last_part(output.stderr or output.stdout, 500).strip()
            outcome = (
                Outcome.NO_RESULT if events or output.exit_code == 0 else outcome_of_message(said) or Outcome.CONFIG
            )
            return Report(
                outcome, detail=said or f"no completion event (exit code {output.exit_code})", session=session
            )
        if last.get("type") == "error" or output.exit_code != 0:
            # The last one only says that it failed; the first one why.
            said = next((text_at(event, "message") for event in events if event.get("type") == "error"), "")
            outcome = outcome_of_message(said) or Outcome.SERVER
            return Report(outcome, detail=said or f"exit code {output.exit_code}", session=session)
        return Report(Outcome.OK, text=text_at(last, "finalText"), usage=_usage(last), session=session)


def _usage(result: Values) -> Usage:
    parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    counts = [count for part in parts if (count := count_at(result, "usage", part)) is not None]
    return Usage(
        input_tokens=sum(counts) if counts else None,
        output_tokens=count_at(result, "usage", "output_tokens"),
        cached_tokens=count_at(result, "usage", "cache_read_input_tokens"),
    )
