"""aider: text out, the prompt from a file. Measured with 0.86.2."""

from __future__ import annotations

import re

from logist.agents.cli import Asked, Cli, CliOutput
from logist.agents.litellm_errors import outcome_of_litellm
from logist.agents.outcome import Outcome, Report
from logist.models.manifest import Role
from logist.models.usage import Usage
from logist.plain_text import last_part, plain_text

_OPTIONS = (
    *("--yes-always", "--no-stream", "--no-pretty", "--no-fancy-input", "--no-check-update", "--analytics-disable"),
    *("--no-show-model-warnings", "--no-show-release-notes", "--no-suggest-shell-commands"),
    # It would look for a repository above the workspace, and then work there.
    "--no-git",
    # Its yes to everything would fetch every page that a prompt names, and install a browser for it.
    *("--no-detect-urls", "--disable-playwright"),
)
#: The end of what it says about itself.
_GREETING = re.compile(r"^Repo-map: .*\n(?:Added .* to the chat\.?\n)*", re.MULTILINE)
#: The model may print what looks like it: no more digits than count.
_NUMBER = r"\d{1,12}(?:\.\d{1,9})?"
#: Printed when an answer of the model is complete: what an error printed after it is no part of the answer.
_TOKENS = re.compile(
    rf"^Tokens: (?P<sent>{_NUMBER}[kM]?) sent(?:, .*?)??, (?P<received>{_NUMBER}[kM]?) received\."
    rf"(?:\s+Cost: \${_NUMBER} message, \$(?P<cost>{_NUMBER}) session\.)?",
    re.MULTILINE | re.ASCII,
)
_CACHED = re.compile(rf"({_NUMBER}[kM]?) cache hit", re.ASCII)
_ERROR = re.compile(r"^litellm\.(\w+): (.*)$", re.MULTILINE)
_UNITS = {"k": 1_000, "M": 1_000_000}
#: What it says when the model's edits were not made. Its exit code is 0.
_NOT_EDITED = ("reflections allowed, stopping", "The LLM did not conform to the edit format")


class Aider(Cli):
    """aider."""

    name = program = "aider"
    install = "python -m pip install aider-install && aider-install"
    login = "set the key of the model's provider, as OPENAI_API_KEY"
    tested = ("0.86.",)
    prompt = "file"
    passes = (
        *("OPENAI_API_KEY", "OPENAI_API_BASE", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
        *("DEEPSEEK_API_KEY", "OLLAMA_API_BASE", "AIDER_MODEL", "AIDER_WEAK_MODEL", "AIDER_API_KEY"),
    )
    # It opens the pages that an error message names.
    fixed = (("BROWSER", "true"),)
    resumes = False
    #: Its histories, where they are not kept with the step as asked for.
    marks = (".aider.chat.history.md", ".aider.input.history", ".aider.llm.history")
    steered_by = (".aider.conf.yml", ".aider.model.settings.yml", ".aider.model.metadata.json", ".env")

    def argv(self, asked: Asked) -> tuple[str, ...]:
        """One message from a file. A worker edits by search and replace; a supervisor only answers."""
        request = asked.request
        # In its `whole` format it takes a fenced reply for a file, and edits nothing.
        edits = "diff" if request.role is Role.WORKER else "ask"
        argv = ["aider", "--message-file", str(request.prompt_file), "--edit-format", edits, *_OPTIONS]
        argv += ["--chat-history-file", str(request.step_dir / "aider.history.md")]
        argv += ["--input-history-file", str(request.step_dir / "aider.input.history")]
        if request.settings.model:
            argv += ["--model", request.settings.model]
        return tuple(argv)

    def report(self, output: CliOutput) -> Report:
        """What stands after the last complete answer tells how it ended: the exit code is 0 whatever happens."""
        printed = plain_text(output.stdout)
        answers = list(_TOKENS.finditer(printed))
        after = printed[answers[-1].end() :] if answers else printed
        outcome, detail = _outcome(after, output, answered=bool(answers))
        greeting = _GREETING.search(printed)
        start = greeting.end() if greeting else 0
        text = printed[start : answers[-1].start()] if answers and outcome is Outcome.OK else ""
        return Report(outcome, text=text, detail=detail, usage=_usage(answers))


def _outcome(after: str, output: CliOutput, *, answered: bool) -> tuple[Outcome, str]:
    errors = list(_ERROR.finditer(after))
    if errors:
        name, said = errors[-1].groups()
        return outcome_of_litellm(name, said), said
    not_edited = next((said for said in _NOT_EDITED if said in after), None)
    if not_edited:
        return Outcome.LIMIT, f"the model's edits could not be made: {not_edited}"
    if answered and output.exit_code == 0:
        return Outcome.OK, ""
    said = last_part(output.stderr or output.stdout, 500).strip()
    if output.exit_code == 2:
        return Outcome.CONFIG, said
    return Outcome.NO_RESULT, said or f"exit code {output.exit_code} and no answer"


def _usage(answers: list[re.Match[str]]) -> Usage:
    if not answers:
        return Usage()
    lines = [answer[0] for answer in answers]
    cost = answers[-1]["cost"]
    cached = [_count(found[1]) for line in lines if (found := _CACHED.search(line))]
    return Usage(
        cost=float(cost) if cost else None,
        cost_is="billed" if cost else None,
        input_tokens=sum(_count(answer["sent"]) for answer in answers),
        output_tokens=sum(_count(answer["received"]) for answer in answers),
        cached_tokens=sum(cached) if cached else None,
    )


def _count(written: str) -> int:
    """`1.2k` as 1200: it prints no more digits."""
    unit = _UNITS.get(written[-1:], 1)
    return int(float(written.rstrip("kM")) * unit)
