"""Reads the JSON output of an agent of the configuration by the paths that its definition names. Pure."""

from __future__ import annotations

import json

from logist.agents.json_output import Values, json_lines, json_object, number_at, text_at, value_at
from logist.agents.outcome import Outcome, Report, outcome_of_message, outcome_of_refusal
from logist.models.config import AgentDefinition
from logist.models.usage import Counted, Usage

_COUNTED: tuple[Counted, ...] = ("cost", "input_tokens", "output_tokens", "cached_tokens")


def read_configured(definition: AgentDefinition, stdout: bytes) -> Report:
    """The report that `stdout` is by its definition; NO_RESULT when it holds no final text and tells no error."""
    if definition.output == "ndjson":
        objects = list(json_lines(stdout))
    else:
        found = json_object(stdout)
        objects = [] if found is None else [found]
    return _report(definition, objects)._replace(
        usage=_usage(definition, objects),
        cumulative=_COUNTED if definition.usage.cumulative else (),
        session=next((text for each in reversed(objects) if (text := _text(each, definition.session_path))), None),
    )


def read_figures(definition: AgentDefinition, values: Values) -> Usage:
    """What one object of the output says was used, by its definition."""
    return _usage(definition, [values])


def _report(definition: AgentDefinition, objects: list[Values]) -> Report:
    """Whichever stands last counts, the error or the text: an error that the program got over is none."""
    if not objects:
        return Report(Outcome.NO_RESULT, detail="its output holds no JSON object")
    for values in reversed(objects):
        error, text = _at(values, definition.error_path), _text(values, definition.reply_path)
        if error not in (None, False, 0, "", {}, []):
            return _failure(error, text)
        if text and all(_at(values, path) == wanted for path, wanted in definition.reply_where.items()):
            return Report(Outcome.OK, text=text)
    return Report(Outcome.NO_RESULT, detail=f"its output has no text at {definition.reply_path}")


def _failure(error: object, text: str) -> Report:
    if isinstance(error, int | float) and not isinstance(error, bool) and 400 <= error < 600:
        outcome = outcome_of_refusal(int(error), text) or Outcome.SERVER
        return Report(outcome, detail=text or f"HTTP status {int(error)}")
    if isinstance(error, bool | int | float):
        said = text
    else:
        said = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    return Report(
        outcome_of_message(said) or Outcome.SERVER,
        detail=text_at(error, "message") or said or "it says that it failed",
    )


def _usage(definition: AgentDefinition, objects: list[Values]) -> Usage:
    paths = definition.usage
    cost = _last_number(objects, paths.cost)
    return Usage(
        cost=cost,
        cost_is=None if cost is None else "billed",
        input_tokens=_last_count(objects, paths.input),
        output_tokens=_last_count(objects, paths.output),
        cached_tokens=_last_count(objects, paths.cached),
    )


def _at(values: Values, path: str | None) -> object:
    return None if path is None else value_at(values, *path.split("."))


def _text(values: Values, path: str | None) -> str:
    """The text there; an object is the reply itself, of a model that answered with nothing else."""
    found = _at(values, path)
    if isinstance(found, dict):
        return json.dumps(found, ensure_ascii=False)
    return found if isinstance(found, str) else ""


def _last_number(objects: list[Values], path: str | None) -> float | None:
    numbers = (number_at(values, *path.split(".")) for values in reversed(objects)) if path else ()
    return next((number for number in numbers if number is not None), None)


def _last_count(objects: list[Values], path: str | None) -> int | None:
    number = _last_number(objects, path)
    return None if number is None else int(number)
