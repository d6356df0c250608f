"""How a command ended, out of what its warden (`bare/warden.py`) told and what its streams carried. Pure."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from logist.execution import CommandResult, Ended, StreamResult
from logist.execution.bare.tree import exit_code

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC, errno.EISDIR, errno.ELOOP})


class Ran(NamedTuple):
    """A command that was given to a warden. Times are in seconds."""

    cwd: Path
    program: str
    duration: float
    stdout: StreamResult
    stderr: StreamResult
    #: `timed_out` or `canceled`, and why; None: nobody told it to stop.
    stop: tuple[str, str] | None = None

    def result(self, told: dict[str, Any]) -> CommandResult:
        """The result, by what the warden `told`."""
        result = self._result(told)._replace(survivors_killed=told.get("killed", 0))
        left = told.get("left", [])
        if not left:
            return result
        stubborn = f"processes of another user could not be ended: {', '.join(map(str, left))}"
        return result._replace(detail=f"{result.detail}; {stubborn}" if result.detail else stubborn)

    def lost(self, killed: int) -> CommandResult:
        """The result where the warden was killed; `killed`: how many processes of the command were, afterwards."""
        detail = "the process that watched the command was killed"
        return self._ended(Ended.LOST, None, detail=detail, survivors_killed=killed)

    def _result(self, told: dict[str, Any]) -> CommandResult:
        if "failed" in told:
            why = self._why_not(told["failed"], told["errno"])
            missing = told["failed"] == "exec" and told["errno"] in _MISSING
            return self._ended(Ended.NOT_STARTED, None, detail=why, program_missing=missing)
        status = told["status"]
        code, number = (None, 0) if status is None else (exit_code(status), _signal(status))
        if self.stop is not None and told["stopped"]:
            ended, why = self.stop
            return self._ended(Ended(ended), code, signal=number, detail=why)
        if code is None:
            return self._ended(Ended.LOST, None, detail="it could not be ended")
        return self._ended(Ended.EXITED, code, signal=number, detail=_signal_name(number))

    def _ended(self, ended: Ended, exit_code: int | None, **more: Any) -> CommandResult:
        return CommandResult(ended, exit_code, self.duration, self.stdout, self.stderr, **more)

    def _why_not(self, stage: str, number: int) -> str:
        reason = os.strerror(number)
        if stage == "cwd":
            return f"the work folder {self.cwd} can't be entered: {reason}"
        if stage != "exec":
            return f"no process could be started: {reason}"
        if number == errno.E2BIG:
            return (
                "the arguments and the environment are too long together: "
                "hand long ones over by standard input or a file"
            )
        if number == errno.ENOENT and "/" not in self.program:
            return f"there is no program {self.program} on PATH"
        return f"the program {self.program} can't be executed: {reason}"


def _signal(status: int) -> int:
    """The signal that ended the process, 0 for none."""
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _signal_name(number: int) -> str:
    if number == 0:
        return ""
    with suppress(ValueError):
        return f"killed by {signal.Signals(number).name}"
    return f"killed by signal {number}"
