"""How a run is stopped from outside of its jobs: by a signal, or by a limit of time."""

from __future__ import annotations

from logist.errors import ExitCode

#: What stopped a run, by the exit code that it ends with.
_CAUSES = {ExitCode.INTERRUPTED: "stopped by the operator", ExitCode.TIMEOUT: "stopped by --timeout"}


class StopSwitch:
    """How urgently the run is to stop. Safe to use from a signal handler."""

    def __init__(self) -> None:
        self._asked: list[ExitCode] = []

    def ask(self, exit_code: ExitCode, *, now: bool = False) -> None:
        """Ask once to stop after the step, twice or with `now` to stop now. `exit_code` tells who asked first."""
        self._asked += [exit_code] * (1 + now)

    @property
    def after_step(self) -> bool:
        """Stop when the step is done."""
        return bool(self._asked)

    @property
    def now(self) -> bool:
        """Stop at once."""
        return len(self._asked) > 1

    @property
    def exit_code(self) -> ExitCode:
        """130, 143 or 124, by what asked first."""
        return self._asked[0] if self._asked else ExitCode.TERMINATED

    @property
    def cause(self) -> str:
        """What asked first, in words."""
        return _CAUSES.get(self.exit_code, "stopped by a signal")
