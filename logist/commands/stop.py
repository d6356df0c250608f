"""`logist job cancel` and `logist job pause`: words for a runner that may be another process."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from logist.chunk_selection import is_spec_target
from logist.commands.output import print_json, tell_drawn
from logist.commands.parameters import json_option, target_argument
from logist.errors import JobBusy, WrongState

if TYPE_CHECKING:
    from logist.commands.invocation import Invocation
    from logist.job_files import JobPaths

#: Seconds: how long a runner may take to end its command and record it, and how often it is looked after.
_WAIT = 10.0
_LOOK = 0.02


@click.command()
@target_argument
@click.option("-m", "--message", default="", metavar="TEXT", help="Why; kept in the record.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait up to 10 s until its runner has stopped.")
@json_option
@click.pass_obj
def cancel(invocation: Invocation, job: str | None, message: str, wait: bool, as_json: bool) -> None:
    """Stop JOB for good. A command that runs is ended first; the work of finished steps stays.

    JOB may be the file of a spec that is being run: its chunks are ended, and what is done stays done.
    """
    if job is not None and is_spec_target(job):
        from logist.commands.spec_views import cancel_spec

        cancel_spec(job, message, wait=wait, as_json=as_json)
        return
    job_id = invocation.job_id(job)
    try:
        done = _cancel(invocation, job_id, message, wait=wait)
    except WrongState as refusal:
        raise WrongState(refusal.message, _possible_now(invocation, job_id)) from refusal
    if as_json:
        print_json({"job": job_id, "canceled": done})
    elif done:
        tell_drawn(f"{job_id} is canceled; its work stays: logist job diff {job_id}")
    else:
        tell_drawn(f"the runner of {job_id} was asked to stop; see it with: logist job status {job_id}")


def _cancel(invocation: Invocation, job_id: str, message: str, *, wait: bool) -> bool:
    """Whether the job is canceled; False: its runner was asked to. Raises JobBusy when it did not stop in time."""
    from logist.cancellation import CancelOutcome, cancel_at_rest
    from logist.stop_requests import request

    paths = invocation.job_paths(job_id)
    try:
        outcome = cancel_at_rest(paths, message, datetime.now(UTC))
    except JobBusy as busy:
        request(paths, "cancel", message, datetime.now(UTC))
        if not wait:
            return False
        await_runner(paths, busy)
        if _is_canceled(paths):
            return True
        # It went away without having seen the request.
        outcome = cancel_at_rest(paths, message, datetime.now(UTC))
    if outcome is CancelOutcome.NEEDS_RECOVERY:
        from logist.interventions import cancel_job

        with invocation.runtime() as runtime:
            cancel_job(runtime, job_id, message)
    return True


def await_runner(paths: JobPaths, busy: JobBusy) -> None:
    """Wait until nobody holds the lease. Raises JobBusy after 10 s."""
    from logist.lease import read_holder

    deadline = time.monotonic() + _WAIT
    while read_holder(paths) is not None:
        if time.monotonic() > deadline:
            raise JobBusy(f"{busy.message}; it has not stopped within {_WAIT:.0f} s", "the request stands")
        time.sleep(_LOOK)


def _is_canceled(paths: JobPaths) -> bool:
    from logist.job_files import parse_manifest, read_manifest_bytes

    return parse_manifest(paths, read_manifest_bytes(paths)).get("status") == "CANCELED"


@click.command()
@target_argument
@click.option("-m", "--message", default="", metavar="TEXT", help="Why; kept in the record.")
@json_option
@click.pass_obj
def pause(invocation: Invocation, job: str | None, message: str, as_json: bool) -> None:
    """Ask JOB's runner to stop once its step is done. The job then waits; `run` goes on.

    JOB may be the file of a spec that is being run: its running chunks finish, and no more are started.
    """
    if job is not None and is_spec_target(job):
        from logist.commands.spec_views import pause_spec

        pause_spec(job, message, as_json=as_json)
        return
    from logist.lease import read_holder
    from logist.stop_requests import request

    job_id = invocation.job_id(job)
    paths = invocation.job_paths(job_id)
    if read_holder(paths) is None:
        raise WrongState(f"job {job_id} is not running: nothing to pause", _possible_now(invocation, job_id))
    request(paths, "pause", message, datetime.now(UTC))
    if as_json:
        print_json({"job": job_id, "requested": "pause"})
    else:
        tell_drawn(f"{job_id} pauses when its step is done; go on with: logist job run {job_id}")


def _possible_now(invocation: Invocation, job_id: str) -> str:
    # Imported here: only a refusal may take longer.
    from logist.job_report import possible_commands

    store = invocation.store()
    commands = possible_commands(store, store.load(job_id))
    return "possible now: " + "; ".join(commands)
