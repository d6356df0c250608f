"""What Slurm says of a task that ended without a result, as the result of its command. Pure."""

from __future__ import annotations

import signal

from logist.execution import CommandResult, Ended
from logist.execution.slurm.client import TaskView

OUT_OF_MEMORY = "Slurm killed it: it used more memory than it had asked for (--adapter-option memory=)"


def judged(view: TaskView, ran: CommandResult, *, started: bool, last_word: str) -> CommandResult:
    """The result of a command that Slurm's `view` is of, once it is no longer live.

    `ran` is what is known of it otherwise; `started` says that a node began with it, `last_word` what the task itself
    printed last. LOST is what another worker should do again: a node that failed is no fault of the command.
    """
    where = f" on {view.node}" if view.node else ""
    match view.state:
        case "TIMEOUT":
            return ran._replace(ended=Ended.TIMED_OUT, detail=f"Slurm's time limit, {view.limit}, was reached")
        case "DEADLINE":
            return ran._replace(ended=Ended.TIMED_OUT, detail="Slurm's deadline for it has passed")
        case "OUT_OF_MEMORY":
            return _killed(ran, signal.SIGKILL, OUT_OF_MEMORY)
        case "CANCELLED" if started:
            return _killed(ran, signal.SIGTERM, "somebody else canceled it in Slurm")
        case "CANCELLED":
            return ran._replace(ended=Ended.NOT_STARTED, detail="somebody else canceled it in Slurm before it started")
        case "COMPLETED" | "FAILED" if not started:
            why = last_word or "is the folder of the spec shared with the nodes?"
            return ran._replace(ended=Ended.NOT_STARTED, detail=f"Slurm could not run it{where}: {why}")
        case "COMPLETED" | "FAILED":
            why = f": {last_word}" if last_word else ""
            return ran._replace(ended=Ended.LOST, detail=f"it ended{where} without a result{why}")
    return ran._replace(ended=Ended.LOST, detail=f"Slurm ended it{where}: {view.state}")


def _killed(ran: CommandResult, number: signal.Signals, why: str) -> CommandResult:
    return ran._replace(ended=Ended.EXITED, exit_code=128 + number, signal=int(number), detail=why)
