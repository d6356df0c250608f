"""Agents: one small module each, that spells one oneshot and reads its answer. The registry is a dict."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from logist.errors import AgentUnavailable, UsageProblem
from logist.models.manifest import MAX_TEXT, Roles, RoleSettings

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from logist.agents.oneshot import Agent
    from logist.models.config import Config

#: Installed packages offer agents here: a name, and a callable that takes nothing and gives an `Agent`.
ENTRY_POINT_GROUP = "logist.agents"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)


def _command() -> Agent:
    from logist.agents.command import CommandAgent

    return CommandAgent()


def _playbook() -> Agent:
    from logist.agents.playbook import PlaybookAgent

    return PlaybookAgent()


#: Each imported when it is first asked for.
BUILT_IN: dict[str, Callable[[], Agent]] = {"command": _command, "playbook": _playbook}

#: The agent CLIs that are known, and where in this package each is spelled. The configuration may replace them.
CLIS: dict[str, str] = {
    "claude": "claude:Claude",
    "codex": "codex:Codex",
    "gemini": "gemini:Gemini",
    "qwen": "qwen:Qwen",
    "opencode": "opencode:OpenCode",
    "copilot": "copilot:Copilot",
    "aider": "aider:Aider",
    "mini": "mini:Mini",
    "cline": "cline:Cline",
    "kimi": "kimi:Kimi",
    "cn": "cn:Continue",
    "droid": "droid:Droid",
}


def _cli(where: str) -> Agent:
    from pkgutil import resolve_name

    from logist.agents.cli import CliAgent

    return CliAgent(resolve_name(f"{__name__}.{where}")())


class KnownAgent(NamedTuple):
    """An agent that a role may name, and where it comes from: `built in`, `configuration` or a package's name."""

    name: str
    origin: str


def find_agent(name: str, config: Config) -> Agent:
    """The agent called `name`: built in, of the configuration, or of an installed package.

    Raises AgentUnavailable when there is none, or its package can't be imported.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if name in config.agents:
        from logist.agents.command import ConfiguredAgent

        return ConfiguredAgent(name, config.agents[name])
    if name in CLIS:
        return _cli(CLIS[name])
    for entry in _entry_points():
        if entry.name == name:
            return _load(entry)
    known = ", ".join(agent.name for agent in known_agents(config))
    raise AgentUnavailable(f"there is no agent {name}", f"known are: {known}; add yours as [agents.{name}]")


def known_agents(config: Config) -> tuple[KnownAgent, ...]:
    """Every agent that a role may name; a name that is offered twice stands once, with the origin that counts."""
    found = {name: KnownAgent(name, "built in") for name in BUILT_IN}
    for name in config.agents:
        found.setdefault(name, KnownAgent(name, "configuration"))
    for name in CLIS:
        found.setdefault(name, KnownAgent(name, "built in"))
    for entry in _entry_points():
        package = entry.dist.name if entry.dist is not None else "a package"
        found.setdefault(entry.name, KnownAgent(entry.name, package))
    return tuple(found.values())


def _entry_points() -> tuple[EntryPoint, ...]:
    # Slow to import, and needed for foreign names only.
    from importlib.metadata import entry_points

    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def _load(entry: EntryPoint) -> Agent:
    try:
        factory: Callable[[], Agent] = entry.load()
        agent = factory()
    except (Exception, SystemExit) as error:
        raise AgentUnavailable(
            f"the agent {entry.name} could not be loaded: {type(error).__name__}: {error}",
            "reinstall or remove the package that offers it",
        ) from error
    if not all(callable(getattr(agent, name, None)) for name in ("check", "spell", "read")):
        raise AgentUnavailable(
            f"the agent {entry.name} is no agent: it has no check, spell and read", "ask the package's author for one"
        )
    return agent


def judge_of_its_own(roles: Roles, config: Config) -> str | None:
    """Who judges what it did itself, like `NAME` or `NAME:MODEL`; None: two play the roles, or one that asks no model.

    Raises AgentUnavailable when the one agent that plays both is not known.
    """
    works, judges = (_who_plays(settings, config) for settings in (roles.worker, roles.supervisor))
    if works != judges or not _asks_a_model(roles.worker.agent, config):
        return None
    return ":".join(filter(None, works))


def _who_plays(settings: RoleSettings, config: Config) -> tuple[str, str, str | None]:
    """The agent, its argument and its model."""
    definition = config.agents.get(settings.agent)
    return settings.agent, settings.argument, settings.model or (definition.model if definition else None)


def _asks_a_model(name: str, config: Config) -> bool:
    """Whether the agent judges by more than an exit code or a script, as far as that is known."""
    if name in BUILT_IN:
        return False
    if name in config.agents:
        return config.agents[name].reply == "required"
    return not find_agent(name, config).scripted


def parse_role(text: str, base: RoleSettings) -> RoleSettings:
    """`base` played by another agent: `NAME`, `command:LINE`, `playbook:FILE`, `CLI:MODEL` or `NAME:ARGUMENT`.

    A playbook's file is relative to the current directory. The model stays when the agent does. Raises UsageProblem.
    """
    name, colon, argument = text.strip().partition(":")
    argument = argument.strip()
    if not _NAME.fullmatch(name):
        raise UsageProblem(f"{text[:60]!r} names no agent", "write an agent's name, or a command as 'command:LINE'")
    if colon and not argument:
        raise UsageProblem(f"nothing follows {name}: in {text!r}", f"write {name}:ARGUMENT, or {name} alone")
    if name == "playbook" and argument:
        argument = str(Path(argument).expanduser().absolute())
    model = base.model if name == base.agent else None
    if name in CLIS:
        model, argument = argument or model, ""
    if len(argument) > MAX_TEXT:
        raise UsageProblem(f"what follows {name}: is longer than {MAX_TEXT} characters", "put it into a file")
    return base.model_copy(update={"agent": name, "argument": argument, "model": model})
