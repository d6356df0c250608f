"""What a human's answer sets for a job from then on: its budget, and who plays its roles. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from logist.durations import format_duration
from logist.models.history import RoleChange
from logist.models.manifest import Budget, JobManifest, Role, Roles, RoleSettings

_PLAYED = (Role.WORKER, Role.SUPERVISOR)
#: Characters of a setting that are told: a command line may be long.
_MAX_VALUE = 80


@dataclass(frozen=True)
class Terms:
    """The budget and the roles of a job from an answer on."""

    budget: Budget
    roles: Roles


def under_terms(manifest: JobManifest, terms: Terms) -> JobManifest:
    """The job from the answer on. Another agent, or another model, knows no session and begins with its first turn."""
    before, after = manifest.job.roles, terms.roles
    new = {role for role in _PLAYED if _player(before.of(role)) != _player(after.of(role))}
    update = {
        "budget": terms.budget,
        "job": manifest.job.model_copy(update={"roles": after}),
        "sessions": {role: session for role, session in manifest.sessions.items() if role not in new},
        "turns": {role: taken for role, taken in manifest.turns.items() if role not in new},
    }
    return manifest.model_copy(update=update)


def _player(settings: RoleSettings) -> tuple[str, str, str | None]:
    return settings.agent, settings.argument, settings.model


def role_changes(before: Roles, after: Roles) -> tuple[RoleChange, ...]:
    """The roles whose settings differ."""
    return tuple(
        RoleChange(role=role, before=before.of(role), after=after.of(role))
        for role in _PLAYED
        if before.of(role) != after.of(role)
    )


def role_change_words(changed: RoleChange) -> str:
    """What is other than before, in one line: `worker: agent claude → codex, model opus → none`."""
    before, after = dict(changed.before), dict(changed.after)
    told = (f"{name} {_value(before[name])} → {_value(after[name])}" for name in after if after[name] != before[name])
    return f"{changed.role}: {', '.join(told)}"


def _value(value: object) -> str:
    if isinstance(value, float):
        return format_duration(value)
    words = " ".join(value) if isinstance(value, tuple) else str(value or "")
    line = " ".join(words.split())
    return (line if len(line) <= _MAX_VALUE else line[: _MAX_VALUE - 1] + "…") or "none"
