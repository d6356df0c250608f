"""What a human does about an outcome that asking again does not change, in a few words. Pure."""

from __future__ import annotations

from logist.agents.outcome import Outcome
from logist.models.manifest import Role


def remedy(outcome: Outcome, agent: str, role: Role, login: str) -> str:
    """A clause that says what is to be done; empty where there is nothing. `login` is how one logs in to the agent."""
    match outcome:
        case Outcome.AUTH:
            return login
        case Outcome.MODEL_NOT_FOUND:
            return f"name another model: --{role} {agent}:MODEL"
        case Outcome.QUOTA:
            return f"fill up the account, or name another agent: --{role} NAME"
        case Outcome.PERMISSION_DENIED:
            return f"allow it in the args of [roles.{role}], and take them over: --{role} {agent}"
        case Outcome.CONFIG:
            return f"`logist agent check {agent} --no-ask` says whether this version of it is known"
    return ""
