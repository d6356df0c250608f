"""`logist agent list`, `show` and `check`."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import click

from logist.commands.output import print_json, print_text, tell
from logist.commands.parameters import json_option
from logist.errors import AgentUnavailable

if TYPE_CHECKING:
    from logist.agents.cli import Cli
    from logist.agents.oneshot import Agent
    from logist.commands.invocation import Invocation
    from logist.models.manifest import RoleSettings


@click.command("list")
@json_option
@click.pass_obj
def list_agents(invocation: Invocation, as_json: bool) -> None:
    """Every agent that a role may name, where it comes from, and whether its program is installed."""
    from logist.agents import find_agent, known_agents

    config = invocation.configuration().config
    found: list[dict[str, Any]] = []
    for known in known_agents(config):
        try:
            cli = _cli_of(find_agent(known.name, config))
        except AgentUnavailable as problem:
            found.append({"name": known.name, "origin": known.origin, "program": None, "path": problem.message})
            continue
        program = cli.program if cli else None
        found.append(
            {
                "name": known.name,
                "origin": known.origin,
                "program": program,
                "path": shutil.which(program) if program else None,
            }
        )
    if as_json:
        print_json(found)
        return
    for agent in found:
        where = "" if agent["program"] is None else agent["path"] or "not installed"
        print_text(f"{agent['name']:12} {agent['origin']:14} {where}".rstrip())


@click.command("show")
@click.argument("name", help="The agent's name.")
@json_option
@click.pass_obj
def show_agent(invocation: Invocation, name: str, as_json: bool) -> None:
    """What is known of an agent: its program, how it takes a prompt, and the variables that are passed on to it."""
    facts = _facts(invocation, name)
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        shown = " ".join(value) if isinstance(value, list) else value
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
            print_text(f"{key.replace('_', ' '):12} {'-' if value is None else value}")
    if cli is not None and cli.tested and facts["version"] is not None and not facts["version"].startswith(cli.tested):
        tell(f"{agent.name} {facts['version']} is not a version that was tested ({', '.join(cli.tested)}); it may do")
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
        "outcome": answer.outcome.value if answer.outcome and answer.kind != "reply" else answer.kind,
        "detail": plain_text(answer.problem or "").strip() or None,
        "seconds": round(probe.duration, 1),
        "cost": answer.usage.cost,
        "input_tokens": answer.usage.input_tokens,
        "output_tokens": answer.usage.output_tokens,
    }


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
    agent = find_agent(name, config)
    [origin] = [known.origin for known in known_agents(config) if known.name == name]
    facts: dict[str, Any] = {"agent": name, "origin": origin, "scripted": agent.scripted}
    cli = _cli_of(agent)
    if cli is not None:
        return facts | {
            "program": cli.program,
            "path": shutil.which(cli.program),
            "install": cli.install,
            "tested_with": list(cli.tested),
            "prompt": cli.prompt,
            "resumes": cli.resumes,
            "passes": list(cli.passes),
        }
    if name in config.agents:
        return facts | config.agents[name].model_dump(mode="json", exclude_defaults=True)
    return facts
