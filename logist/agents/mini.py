"""mini-swe-agent (`mini`): its account is a file, the trajectory; what it prints is broken into lines. With 2.4.6."""

from __future__ import annotations

import re
from pathlib import Path

from logist.agents.cli import Asked, Cli, CliOutput
from logist.agents.json_output import Values, count_at, json_object, list_at, number_at, text_at
from logist.agents.litellm_errors import outcome_of_litellm
from logist.agents.outcome import Outcome, Report, outcome_of_message
from logist.models.usage import Usage
from logist.plain_text import first_part, last_part

_FRAME = re.compile(r"[\u2500-\u257f]+")
_RAISED = re.compile(r"^(?:\w+\.){0,9}\w*(?:Error|Exception): ", re.MULTILINE)
_TRAJECTORY = "mini.traj.json"
#: Bytes; a trajectory holds the whole conversation.
_MAX_TRAJECTORY = 64_000_000
#: What the trajectory's `exit_status` means where it is of its own; else it names an error of litellm.
_ENDS = {
    "ModuleNotFoundError": Outcome.CONFIG,
    "LimitsExceeded": Outcome.LIMIT,
    "TimeExceeded": Outcome.LIMIT,
    "RepeatedFormatError": Outcome.LIMIT,
    "UserInterruption": Outcome.KILLED,
}


class Mini(Cli):
    """mini-swe-agent."""

    name = program = "mini"
    install = "python -m pip install mini-swe-agent mcp"
    login = "set the key of the model's provider, as OPENAI_API_KEY"
    tested = ("2.4.",)
    prompt = "arg"
    passes = (
        *("OPENAI_API_KEY", "OPENAI_API_BASE", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"),
        *("OPENROUTER_API_KEY", "DEEPSEEK_API_KEY", "MSWEA_MODEL_NAME", "MSWEA_MODEL_API_KEY"),
        *("MSWEA_COST_TRACKING", "MSWEA_GLOBAL_CONFIG_DIR", "LITELLM_LOCAL_MODEL_COST_MAP"),
    )
    fixed = (
        # Unconfigured, a first run asks for a model and a key.
        *(("MSWEA_CONFIGURED", "true"), ("MSWEA_SILENT_STARTUP", "1")),
        # It draws frames as wide as the terminal: 35 MB of them for one error, where no line may be broken.
        ("COLUMNS", "200"),
        # Waiting for a busy provider is not its business: by itself it does so for minutes, unseen.
        ("MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT", "3"),
    )
    resumes = False
    steered_by = ("mini.yaml",)
    supervisor_writes = True
    #: It has no option for it: its help begins with the version.
    version_argv = ("mini", "--help")

    def argv(self, asked: Asked) -> tuple[str, ...]:
        """One task without questions. It has a shell and no read-only mode: a supervisor's oneshot is the same."""
        request = asked.request
        argv = ["mini", "--yolo", "--exit-immediately", "--output", str(request.step_dir / _TRAJECTORY)]
        if request.settings.model:
            argv += ["--model", request.settings.model]
        return (*argv, f"--task={asked.prompt}")

    def report(self, output: CliOutput) -> Report:
        """What the trajectory says; without one it did not come to the point of asking a model."""
        trajectory = _read(output.step_dir / _TRAJECTORY)
        if trajectory is None:
            return _never_begun(output)
        status = text_at(trajectory, "info", "exit_status")
        if status == "Submitted":
            text = text_at(trajectory, "info", "submission")
            return Report(Outcome.OK, text=text, usage=_usage(trajectory))
        outcome, detail = _outcome(status, trajectory)
        return Report(outcome, detail=detail, usage=_usage(trajectory))


def _never_begun(output: CliOutput) -> Report:
    said = last_part(output.stderr or output.stdout, 2000)
    raised = list(_RAISED.finditer(said))
    # What stands before an error that it raised are the frames that led there.
    said = " ".join(_FRAME.sub(" ", said[raised[-1].start() :] if raised else said).split())[-500:]
    if output.exit_code == 0:
        outcome = Outcome.NO_RESULT
    else:
        outcome = (outcome_of_message(said) if raised else None) or Outcome.CONFIG
    return Report(outcome, detail=said or f"no trajectory (exit code {output.exit_code})")


def _read(path: Path) -> Values | None:
    try:
        with path.open("rb") as file:
            return json_object(file.read(_MAX_TRAJECTORY))
    except OSError:
        return None


def _outcome(status: str, trajectory: Values) -> tuple[Outcome, str]:
    if not status:
        return Outcome.NO_RESULT, "its trajectory ends before the task does"
    messages = list_at(trajectory, "messages")
    said = text_at(messages[-1] if messages else None, "content")
    outcome = _ENDS.get(status) or outcome_of_litellm(status, said)
    if "MSWEA_COST_TRACKING" in said:
        # It knows no price of the model.
        outcome = Outcome.CONFIG
    return outcome, first_part(said, 500) if said != status else f"it met its own limit ({status})"


def _usage(trajectory: Values) -> Usage:
    usages = [
        (
            count_at(message, "extra", "response", "usage", "prompt_tokens"),
            count_at(message, "extra", "response", "usage", "completion_tokens"),
            count_at(message, "extra", "response", "usage", "prompt_tokens_details", "cached_tokens"),
        )
        for message in list_at(trajectory, "messages")
    ]
    cost = number_at(trajectory, "info", "model_stats", "instance_cost")
    sent, received, cached = ([usage[kind] or 0 for usage in usages if usage[kind] is not None] for kind in range(3))
    return Usage(
        # It says 0 where it knows no price.
        cost=cost or None,
        cost_is="billed" if cost else None,
        input_tokens=sum(sent) if sent else None,
        output_tokens=sum(received) if received else None,
        cached_tokens=sum(cached) if cached else None,
    )
