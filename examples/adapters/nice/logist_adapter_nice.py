"""Runs commands on this machine at low priority, so that it stays good to work on while a long job runs."""

from __future__ import annotations

import os
from contextlib import suppress

from logist.errors import UsageProblem
from logist.execution import CancelCheck, Command, CommandResult, OutputSink, StartedHook
from logist.execution.adapters import AdapterOptions, refuse_unknown
from logist.execution.local import LocalWorkerAdapter
from logist.processes import ProcessIdentity

NICENESS = 10


class NiceAdapter:
    """Runs each command through `local` with this niceness, all of them on the given processors only.

    `niceness` is 0 to 19, the lowest priority; `processors` are numbers as the system counts them.
    """

    name = "nice"
    #: Steps of jobs can run here, too: the processes are this machine's, and inherit the job's lease.
    runs_here = True

    def __init__(
        self, local: LocalWorkerAdapter, *, niceness: int = NICENESS, processors: frozenset[int] | None = None
    ) -> None:
        self._local = local
        self._niceness = niceness
        self._processors = processors

    def prepare(self, commands: int) -> None:
        """Get ready for so many commands at the same time."""
        self._local.prepare(commands)

    def run(
        self,
        command: Command,
        *,
        cancel: CancelCheck | None = None,
        on_output: OutputSink | None = None,
        on_started: StartedHook | None = None,
    ) -> CommandResult:
        """Run one command to its end; nothing that it started lives when this returns or raises."""

        def start_low(process: ProcessIdentity) -> None:
            self._lower(process.pid)
            if on_started is not None:
                on_started(process)

        return self._local.run(command, cancel=cancel, on_output=on_output, on_started=start_low)

    def close(self) -> None:
        """Give back what the adapter holds."""
        self._local.close()

    def _lower(self, pid: int) -> None:
        """Lower a command that exists and has not begun: what it starts inherits its priority."""
        # It may be killed while it waits to begin. Its result tells.
        with suppress(ProcessLookupError):
            # A runner that is nicer itself must not give a command more than its own share.
            os.setpriority(os.PRIO_PROCESS, pid, max(self._niceness, os.getpriority(os.PRIO_PROCESS, 0)))
            if self._processors is not None:
                os.sched_setaffinity(pid, self._processors)


def open_nice(options: AdapterOptions) -> NiceAdapter:
    """The adapter as `--adapter-option` asks for it: niceness=0..19, processors=COUNT. Raises UsageProblem."""
    refuse_unknown(NiceAdapter.name, options, known=("niceness", "processors"))
    niceness = _number(options, "niceness", range(20))
    processors = _processors(options)
    return NiceAdapter(LocalWorkerAdapter(), niceness=NICENESS if niceness is None else niceness, processors=processors)


def _processors(options: AdapterOptions) -> frozenset[int] | None:
    """So many of the processors that this process may use, the last ones: the first serve most interrupts."""
    if "processors" not in options:
        return None
    if not hasattr(os, "sched_getaffinity"):
        raise UsageProblem("The option processors needs Linux.", "Leave it out.")
    usable = sorted(os.sched_getaffinity(0))
    count = _number(options, "processors", range(1, len(usable) + 1))
    return None if count is None else frozenset(usable[-count:])


def _number(options: AdapterOptions, name: str, allowed: range) -> int | None:
    """The option as a number, None when it is not given. Raises UsageProblem."""
    if (text := options.get(name)) is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) in allowed):
        raise UsageProblem(
            f"The option {name} of the adapter {NiceAdapter.name!r} can't be {text!r}.",
            f"Give a number from {allowed[0]} to {allowed[-1]}.",
        )
    return int(text)
