"""The scripted agent: plays the turns of a TOML file in a real process. It asks no model, and it says so."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from logist.agents._player import PlaybookInvalidError, load_playbook
from logist.agents.command import read_required
from logist.agents.oneshot import Answer, OneshotRequest, spell_command
from logist.errors import AgentUnavailable, InvalidFile
from logist.execution import Command, CommandResult
from logist.models.manifest import RoleSettings

_PLAYER = Path(__file__).with_name("_player.py")
#: Played when a role names no file: a worker and a supervisor that agree in the second round.
EMBEDDED = Path(__file__).with_name("embedded_playbook.toml")


@dataclass(frozen=True)
class PlaybookAgent:
    """The built-in `playbook`: the role's argument is a TOML file, the embedded one when it is empty."""

    name: str = "playbook"
    scripted: bool = True

    def check(self, settings: RoleSettings) -> None:
        """Raise AgentUnavailable when the file is not there, InvalidFile with the line when it can't be played."""
        path = _file(settings)
        try:
            load_playbook(path)
        except OSError as error:
            why = (error.strerror or "input/output error").lower()
            raise AgentUnavailable(
                f"the playbook {path} can't be read: {why}", "name a TOML file: --worker playbook:FILE"
            ) from error
        except PlaybookInvalidError as error:
            raise InvalidFile(f"the playbook {path} is not valid: {error}", "correct it there") from error

    def spell(self, request: OneshotRequest) -> Command:
        """The player, on this role's turn."""
        # -I and -S: no user site, no PYTHON* variables, no site packages; a third of the start-up time.
        argv = (sys.executable, "-I", "-S", str(_PLAYER), str(_file(request.settings)))
        return spell_command(request, argv=(*argv, request.role.value, str(request.turn)))

    def read(self, request: OneshotRequest, result: CommandResult) -> Answer:
        """The reply that the turn left."""
        return read_required(request, result)


def _file(settings: RoleSettings) -> Path:
    return Path(settings.argument) if settings.argument else EMBEDDED
