"""`logist job chat`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from logist.commands.output import tell
from logist.commands.parameters import job_argument
from logist.errors import UsageProblem

if TYPE_CHECKING:
    from logist.commands.invocation import Invocation

_SHOWN = 5


@click.command()
@job_argument
@click.pass_obj
def chat(invocation: Invocation, job: str | None) -> int:
    """Take over the session of JOB's worker in its own terminal. Nothing runs the job meanwhile.

    The worker must be an agent CLI that has been asked before and can go on with a session. What is changed in the
    workspace stays there: afterwards `logist job run` or `logist job resolve --continue` takes it up as yours.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageProblem("a chat needs a terminal", "guide the worker in words: logist job resolve --retry -m TEXT")
    from logist.execution.interactive import hand_over
    from logist.job_chat import chat_with_worker

    job_id = invocation.job_id(job)
    with invocation.runtime() as runtime:
        done = chat_with_worker(runtime, job_id, hand_over)
        waits = runtime.store.load(job_id).status.value == "INTERVENTION_REQUIRED"
    if done.exit_code:
        tell(f"the worker's program ended with exit code {done.exit_code}")
    if not done.changed:
        tell("nothing was changed in the workspace")
        return done.exit_code
    more = f" and {len(done.changed) - _SHOWN} more" if len(done.changed) > _SHOWN else ""
    tell(f"changed in the workspace: {', '.join(done.changed[:_SHOWN])}{more}")
    again = f'logist job resolve {job_id} --continue -m "what you changed"' if waits else f"logist job run {job_id}"
    tell(f"  {again}")
    return done.exit_code
