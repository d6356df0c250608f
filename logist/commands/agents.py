"""`logist agent list`, `show` and `check`."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from logist.commands.output import print_json, print_text, tell
from logist.commands.parameters import json_option
from logist.errors import AgentUnavailable

if TYPE_CHECKING:
    from logist.agents import KnownAgent
    from logist.agents.cli import Cli
    from logist.agents.oneshot import Agent, Answer
    from logist.commands.invocation import Invocation
    from logist.models.config import Config
    from logist.models.manifest import RoleSettings


class _Listed(NamedTuple):
    """One line of the list."""

    name: str
    origin: str
    #: None: it is not known which program is run.
    program: str | None = None
    #: None: the program is not installed.
    path: str | None = None
    #: Why it can't be asked at all; None: it can.
    problem: str | None = None


@click.command("list")
@json_option
@click.pass_obj
def list_agents(invocation: Invocation, as_json: bool) -> None:
    """Every agent that a role may name, where it comes from, and whether its program is installed."""
    from logist.agents import known_agents

    config = invocation.configuration().config
    found = [_listed(known, config) for known in known_agents(config)]
    if as_json:
        print_json([agent._asdict() for agent in found])
        return
    for agent in found:
        where = "" if agent.program is None else agent.path or "not installed"
        print_text(f"{agent.name:12} {agent.origin:14} {agent.problem or where}".rstrip())


def _listed(known: KnownAgent, config: Config) -> _Listed:
    from logist.agents import find_agent

    listed = _Listed(known.name, known.origin)
    try:
        cli = _cli_of(find_agent(known.name, config))
    except AgentUnavailable as problem:
        return listed._replace(problem=problem.message)
    return listed if cli is None else listed._replace(program=cli.program, path=shutil.which(cli.program))


@click.command("show")
@click.argument("name", metavar="NAME[:MODEL]", help="The agent, and the model that it is to ask.")
@json_option
@click.pass_obj
def show_agent(invocation: Invocation, name: str, as_json: bool) -> None:
    """What is known of an agent: its program, the variables that are passed on to it, and how it is called.

    The command lines are those of the roles that the configuration gives it, with {prompt} and the like where a step's
    own values stand. Nothing is started.
    """
    facts = _facts(invocation, name)
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        shown = shlex.join(value) if isinstance(value, list) else value
        print_text(f"{key.replace('_', ' '):14} {'-' if shown in (None, '') else shown}")


@click.command("check")
@click.argument("name", metavar="NAME[:MODEL]", help="The agent, and the model to ask.")
@click.option(
    "--ask/--no-ask", default=True, help="Whether it is asked for a one-line reply, which may cost something."
)
@json_option
@click.pass_obj
def check_agent(invocation: Invocation, name: str, ask: bool, as_json: bool) -> None:
    """Whether an agent is installed, in which version, and whether a short oneshot answers; what that costs.

    Exit code 78 when it could not play a role now.
    """
    from logist.agents import find_agent

    config = invocation.configuration().config
    settings = _settings(name, config.env)
    agent = find_agent(settings.agent, config)
    agent.check(settings)
    cli = _cli_of(agent)
    facts: dict[str, Any] = {"agent": agent.name, "model": settings.model}
    if cli is not None:
        facts |= {"path": shutil.which(cli.program), "version": cli.installed(os.environ)}
    facts |= _asked(agent, settings) if ask else {}
    if as_json:
        print_json(facts)
    else:
        for key, value in facts.items():
            print_text(f"{key.replace('_', ' '):13} {'-' if value is None else value}")
    doubt = None if cli is None else cli.doubt(facts["version"])
    if doubt is not None:
        tell(doubt)
    if ask and facts["outcome"] != "reply":
        raise AgentUnavailable(
            f"{agent.name} gave no reply that counts: {facts['detail']}",
            "see what it says of itself, and ask it by hand",
        )


def _asked(agent: Agent, settings: RoleSettings) -> dict[str, Any]:
    from logist.agent_probe import ask_agent
    from logist.execution.local import LocalWorkerAdapter
    from logist.plain_text import plain_text

    adapter = LocalWorkerAdapter()
    try:
        probe = ask_agent(agent, settings, adapter, os.environ)
    finally:
        adapter.close()
    answer = probe.answer
    return {
        "outcome": _word_for(answer),
        "detail": plain_text(answer.problem or "").strip() or None,
        "seconds": round(probe.duration, 1),
        "cost": answer.usage.cost,
        "cost_is": answer.usage.cost_is,
        "input_tokens": answer.usage.input_tokens,
        "output_tokens": answer.usage.output_tokens,
    }


def _word_for(answer: Answer) -> str:
    """What came of it, in a word: `reply`, what the program says of itself, else what was wrong with its answer."""
    from logist.agents.outcome import Outcome

    said = answer.kind == "reply" or answer.outcome in (None, Outcome.OK)
    return answer.kind if said else str(answer.outcome)


def _settings(name: str, env: tuple[str, ...]) -> RoleSettings:
    from logist.agents import parse_role
    from logist.models.manifest import RoleSettings

    return parse_role(name, RoleSettings(env=env))


def _cli_of(agent: Agent) -> Cli | None:
    from logist.agents.cli import CliAgent

    return agent.cli if isinstance(agent, CliAgent) else None


def _facts(invocation: Invocation, name: str) -> dict[str, Any]:
    from logist.agents import find_agent, known_agents

    config = invocation.configuration().config
    settings = _settings(name, config.env)
    name, agent = settings.agent, find_agent(settings.agent, config)
    [origin] = [known.origin for known in known_agents(config) if known.name == name]
    facts: dict[str, Any] = {"agent": name, "origin": origin, "scripted": agent.scripted}
    facts |= _known(agent, config)
    return facts | _called(agent, settings, config)


def _known(agent: Agent, config: Config) -> dict[str, Any]:
    cli = _cli_of(agent)
    if cli is not None:
        return {
            "program": cli.program,
            "path": shutil.which(cli.program),
            "install": cli.install,
            "login": cli.login,
            "tested_with": list(cli.tested),
            "prompt": cli.prompt,
            "resumes": cli.resumes,
            "passes": list(cli.passes),
        }
    if agent.name in config.agents:
        return config.agents[agent.name].model_dump(mode="json", exclude_defaults=True)
    return {}


def _called(agent: Agent, settings: RoleSettings, config: Config) -> dict[str, Any]:
    """Its command lines; the one by which a worker goes on where that is another one, and of a chat where it can."""
    from logist.agent_probe import spell_agent
    from logist.agents.cli import CliAgent
    from logist.models.manifest import Roles

    definition = config.agents.get(agent.name)
    unnamed = None if definition is None else definition.model or "{model}"
    worker, supervisor = (
        _as_configured(role, settings, unnamed) for role in (config.roles.worker, config.roles.supervisor)
    )
    lines = spell_agent(agent, Roles(worker=worker, supervisor=supervisor), os.environ)
    called = {role: list(argv) for role, argv in lines._asdict().items()}
    if called["worker_again"] == called["worker"]:
        del called["worker_again"]
    if isinstance(agent, CliAgent):
        called["chat"] = list(agent.chat(worker, "{session}"))
    return called


def _as_configured(role: RoleSettings, settings: RoleSettings, unnamed: str | None) -> RoleSettings:
    """What is asked for, over the settings of a role that this agent plays; `unnamed` is the model that none names."""
    named = {name: getattr(settings, name) for name in ("argument", "model") if getattr(settings, name)}
    found = role.model_copy(update=named) if role.agent == settings.agent else settings
    return found if found.model else found.model_copy(update={"model": unnamed})
