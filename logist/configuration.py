"""Finds and reads the configuration and job files: LOGIST_* > the project's file > the user's file > defaults."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from logist.agents import parse_role
from logist.errors import InvalidFile, UsageProblem
from logist.job_files import check_job_id
from logist.models.config import Config, JobFile
from logist.models.manifest import JobDefinition, Roles, RoleSettings
from logist.models.record import Record

PROJECT_FILE = "logist.toml"
PYPROJECT = "pyproject.toml"
USER_FILE = "config.toml"
#: Environment variables that set who plays a role, written like `--worker`.
ROLE_VARIABLES = {"worker": "LOGIST_WORKER", "supervisor": "LOGIST_SUPERVISOR"}
#: Bytes; nobody writes a larger one by hand.
_MAX_FILE = 4_000_000

_TOOL_TABLE = re.compile(rb"^\s*\[\s*tool\s*\.\s*logist\s*[\].]", re.MULTILINE)
#: A file's content before it is checked: the only place where it has no type yet.
Table = dict[str, Any]
Model = TypeVar("Model", bound=Record)


@dataclass(frozen=True)
class LoadedConfig:
    """The configuration, and where each value that is no default comes from: dotted key to file or variable."""

    config: Config
    origins: Mapping[str, str]


def load_configuration(cwd: Path, environ: Mapping[str, str], explicit: Path | None = None) -> LoadedConfig:
    """The configuration that holds in `cwd`; `explicit` is read instead of the project's file.

    Raises InvalidFile when a file can't be read or has a key or value that is not valid, UsageProblem when a variable
    names no agent.
    """
    merged: Table = {}
    origins: dict[str, str] = {}
    for path in _files(cwd, explicit):
        table = _absolute(_read_config_table(path), path.parent)
        _validate(Config, table, path)
        _overlay(merged, table, str(path), origins)
    config = _validate(Config, merged, cwd / PROJECT_FILE)
    return _with_variables(LoadedConfig(config, origins), environ)


def _files(cwd: Path, explicit: Path | None) -> Iterator[Path]:
    """The files that count, the weakest first."""
    user = _user_file()
    if user.is_file():
        yield user
    project = explicit.absolute() if explicit is not None else find_project_file(cwd)
    if project is not None:
        yield project


def _user_file() -> Path:
    import platformdirs  # Slow to import, and `job status` reads no configuration.

    return platformdirs.user_config_path("logist", appauthor=False) / USER_FILE


def find_project_file(cwd: Path) -> Path | None:
    """The nearest logist.toml, or pyproject.toml with a [tool.logist], from `cwd` upwards; logist.toml goes first."""
    start = cwd.absolute()
    for folder in (start, *start.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder / PROJECT_FILE
        if _mentions_logist(folder / PYPROJECT):
            return folder / PYPROJECT
    return None


def _mentions_logist(path: Path) -> bool:
    """Asked before it is parsed: somebody else's broken pyproject.toml is none of our business."""
    return path.is_file() and _TOOL_TABLE.search(_read_bytes(path)) is not None


def _read_config_table(path: Path) -> Table:
    table = _read_toml(path)
    if path.name != PYPROJECT:
        return table
    tool = table.get("tool")
    section = tool.get("logist") if isinstance(tool, dict) else None
    if not isinstance(section, dict):
        raise InvalidFile(f"{path}: tool.logist must be a table", "write it as [tool.logist]")
    return section


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        why = (error.strerror or "input/output error").lower()
        raise InvalidFile(f"{path} can't be read: {why}", "check the path and its permissions") from error
    if len(data) > _MAX_FILE:
        raise InvalidFile(f"{path} is larger than {_MAX_FILE} bytes", "keep long texts in files of their own")
    return data


def _read_toml(path: Path) -> Table:
    try:
        return tomllib.loads(_read_bytes(path).decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidFile(f"{path} is not TOML: {error}", "correct that line") from error


def _read_json(path: Path) -> Table:
    try:
        loaded = json.loads(_read_bytes(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"{path} is not JSON: {error}", "correct that place") from error
    if not isinstance(loaded, dict):
        raise InvalidFile(f"{path} must hold one JSON object", "put the job's keys into {...}")
    return loaded


def _absolute(table: Table, folder: Path) -> Table:
    """The table with its paths made absolute: they are relative to the file that names them."""
    made = {
        key: str(folder / Path(value).expanduser())
        if key in ("jobs_dir", "prompts", "source") and isinstance(value, str) and value
        else value
        for key, value in table.items()
    }
    roles = made.get("roles")
    if isinstance(roles, dict):
        made["roles"] = {role: _with_absolute_playbook(settings, folder) for role, settings in roles.items()}
    return made


def _with_absolute_playbook(settings: Any, folder: Path) -> Any:
    if not isinstance(settings, dict) or settings.get("agent", "playbook") != "playbook":
        return settings
    argument = settings.get("argument")
    if not isinstance(argument, str) or not argument:
        return settings
    return {**settings, "argument": str(folder / Path(argument).expanduser())}


def _overlay(below: Table, above: Table, origin: str, origins: dict[str, str], prefix: str = "") -> None:
    """Lay `above` over `below`: tables key by key, all else as a whole, an agent's definition as a whole too."""
    for key, value in above.items():
        dotted = f"{prefix}{key}"
        merged = isinstance(value, dict) and isinstance(below.get(key), dict) and prefix != "agents."
        if isinstance(value, dict) and prefix == "roles." and merged:
            _drop_other_agents_settings(below[key], value, dotted, origins)
        if isinstance(value, dict) and prefix != "agents.":
            _overlay(below.setdefault(key, {}), value, origin, origins, f"{dotted}.")
        else:
            below[key] = value
            origins[dotted] = origin


def _drop_other_agents_settings(below: Table, above: Table, dotted: str, origins: dict[str, str]) -> None:
    """Argument and model belong to the agent: another agent does not take them over."""
    if above.get("agent", below.get("agent")) != below.get("agent"):
        for key in ("argument", "model"):
            below.pop(key, None)
            origins.pop(f"{dotted}.{key}", None)


def _with_variables(loaded: LoadedConfig, environ: Mapping[str, str]) -> LoadedConfig:
    roles, origins = loaded.config.roles, dict(loaded.origins)
    for role, variable in ROLE_VARIABLES.items():
        text = environ.get(variable, "")
        if text:
            settings = parse_role(text, getattr(roles, role))
            roles = roles.model_copy(update={role: settings})
            origins |= {f"roles.{role}.{key}": variable for key in ("agent", "argument", "model")}
    return LoadedConfig(loaded.config.model_copy(update={"roles": roles}), origins)


def read_job_file(path: Path) -> JobFile:
    """The job that a TOML file, or a JSON file called *.json, describes; its paths are relative to it.

    Raises InvalidFile.
    """
    table = _read_json(path) if path.suffix.lower() == ".json" else _read_toml(path)
    if isinstance(table.get("id"), str):
        try:
            check_job_id(table["id"])
        except UsageProblem as error:
            raise InvalidFile(f"{path}: id: {error.message}", error.hint) from error
    job = _validate(JobFile, _absolute(table, path.absolute().parent), path)
    if not job.objective.strip():
        raise InvalidFile(f"{path}: objective is empty", "say there what is to be reached, in one sentence")
    return job


def define_job(job: JobFile, config: Config) -> JobDefinition:
    """The job's definition: what the file says over what the configuration says. Raises InvalidFile."""
    values = {
        "objective": job.objective,
        "prompt": job.prompt,
        "phases": job.phases,
        "checks": config.checks if job.checks is None else job.checks,
        "roles": define_roles(job.roles, config),
        "budget": config.budget if job.budget is None else _over(config.budget, job.budget),
        "no_progress_limit": job.no_progress_limit or config.no_progress_limit,
        "priority": job.priority,
        "needs": job.needs,
    }
    try:
        return JobDefinition.model_validate(values)
    except ValidationError as error:
        raise _invalid("the job", JobDefinition, error) from error


def define_roles(roles: Roles | None, config: Config) -> Roles:
    """The configuration's roles with what `roles` sets laid over them, and the variables that every agent gets."""
    given = roles or Roles()
    return Roles(
        worker=_define_role(given.worker, config.roles.worker, config),
        supervisor=_define_role(given.supervisor, config.roles.supervisor, config),
    )


def _define_role(given: RoleSettings, base: RoleSettings, config: Config) -> RoleSettings:
    if "agent" in given.model_fields_set and given.agent != base.agent:
        base = base.model_copy(update={"argument": "", "model": None})
    made = _over(base, given)
    return made.model_copy(update={"env": tuple(dict.fromkeys((*made.env, *config.env)))})


def _over(base: Model, given: Model) -> Model:
    return base.model_copy(update={name: getattr(given, name) for name in given.model_fields_set})


def _validate(model: type[Model], table: Table, path: Path) -> Model:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise _invalid(str(path), model, error) from error


def _invalid(where: str, model: type[BaseModel], error: ValidationError) -> InvalidFile:
    errors = error.errors(include_url=False)
    # A misspelt key is why another one is missing.
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return InvalidFile(f"{where}: unknown key {key}", _suggestion(model, first["loc"]))
    if first["type"] == "missing":
        return InvalidFile(f"{where}: the key {key} is missing", f"add {key}")
    message = first["msg"].removeprefix("Value error, ")
    told = f"{key}: {message}" if key else message
    return InvalidFile(f"{where}: {told}", f"correct {key or 'it'} there")


def _suggestion(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The keys that stand where the unknown one does, and the one that was probably meant."""
    known = _keys_at(model, location[:-1])
    if not known:
        return "remove it"
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{meant}known here are: {', '.join(known)}"


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    found: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, str) and found is not None and part in found.model_fields:
            found = _record_in(found.model_fields[part].annotation)
    return list(found.model_fields) if found is not None else []


def _record_in(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation like `tuple[Annotated[Check, ...], ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_record_in(argument) for argument in getattr(annotation, "__args__", ()))
    origin = getattr(annotation, "__origin__", None)
    candidates = [*inner, _record_in(origin) if isinstance(origin, type) else None]
    return next((candidate for candidate in candidates if candidate is not None), None)
