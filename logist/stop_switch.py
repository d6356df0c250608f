"""How an operator stops a run from its own terminal."""

from __future__ import annotations

from logist.errors import ExitCode


class StopSwitch:
    """How urgently the operator wants the run to stop. Safe to use from a signal handler."""

    def __init__(self) -> None:
        self._asked: list[ExitCode] = []

    def ask(self, exit_code: ExitCode) -> None:
        """Ask once to stop after the step, twice to stop now. `exit_code` tells which signal asked first."""
        self._asked.append(exit_code)

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
        """130 or 143, by the first signal."""
        return self._asked[0] if self._asked else ExitCode.TERMINATED
