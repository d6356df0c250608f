"""What `logist job status`, `log`, `history` and `cancel` do with a spec's file instead of a job."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from logist.commands.output import print_drawn, print_json, print_text, tell
from logist.errors import JobBusy, UsageProblem, WrongState

if TYPE_CHECKING:
    from logist.chunk_state import StatePaths
    from logist.spec_report import SpecStatus


def spec_state(target: str) -> StatePaths:
    """Where the state of the spec is that `target` names; the spec itself need not be readable. Raises UsageProblem."""
    from pathlib import Path

    from logist.chunk_state import state_paths

    if target == "-" or "://" in target:
        raise UsageProblem(
            f"{target} names no file, so it has no state of its own",
            "name the state: `.logist/` in the folder where it was run has a folder named like spec-….json",
        )
    path = Path(target).absolute()
    found = state_paths(path.parent, path.name)
    if not found.job.history.exists() and not path.exists():
        raise UsageProblem(f"there is no spec {target}", "check the path; `logist job list` shows the jobs")
    return found


def show_spec_status(target: str, *, as_json: bool) -> None:
    """Where the spec's run stands, its chunks, and what to do next."""
    from logist.spec_report import read_status

    status = read_status(spec_state(target), target)
    if as_json:
        from dataclasses import asdict

        from logist.plain_text import plain_values

        print_json(plain_values(asdict(status)))
        return
    from logist.console import drawn
    from logist.console.chunk_tables import outcome_lines, summary_lines

    print_text(_counts(status))
    print_drawn(drawn(lambda width: summary_lines(status.report, width), sys.stdout))
    print_drawn(drawn(lambda width: outcome_lines(status.report, target, width), sys.stdout))


def _counts(status: SpecStatus) -> str:
    running = f", running: {', '.join(map(str, status.running[:20]))}" if status.running else ""
    failed = f", {status.failed:,} failed" if status.failed else ""
    frames = f"{status.frames_done:,} of {status.frames:,} frames"
    return f"{status.done:,} of {status.chunks:,} chunks are done ({frames}){failed}{running}"


def show_chunk_log(target: str, chunk: str | None, lines: int | None, *, raw: bool, as_json: bool) -> None:
    """What a chunk's last attempt printed, or the merge for `merge`; without a chunk the chunks, one a line."""
    if chunk is None:
        show_spec_status(target, as_json=as_json)
        return
    data = _read_chunk_log(spec_state(target), target, chunk)
    if lines is not None:
        data = b"".join(data.splitlines(keepends=True)[-lines:])
    if as_json:
        from logist.plain_text import plain_text

        text = data.decode("utf-8", "replace") if raw else plain_text(data)
        print_json({"spec": target, "chunk": chunk, "text": text})
    elif raw:
        click.echo(data, nl=False)
    elif data:
        print_text(data.removesuffix(b"\n"))


def _read_chunk_log(paths: StatePaths, target: str, chunk: str) -> bytes:
    from pathlib import Path

    from logist.spec_report import last_attempt

    attempt = last_attempt(paths, chunk)
    if attempt is not None and not attempt.log:
        return b""
    log = Path(attempt.log) if attempt is not None else paths.logs / "merge.log" if chunk == "merge" else None
    try:
        if log is not None:
            return log.read_bytes()
    except FileNotFoundError:
        # A command that prints nothing leaves no log.
        return b""
    except OSError as error:
        raise UsageProblem(
            f"the log of chunk {chunk} can't be read: {error.strerror}", f"look at what is in {paths.logs}"
        ) from error
    raise UsageProblem(f"chunk {chunk} of {target} was not run here", f"`logist job status {target}` lists the chunks")


def show_spec_history(target: str, lines: int | None, *, as_json: bool) -> None:
    """Every record of the spec's runs, oldest first, or the last `lines` of them."""
    from collections import deque

    from logist.chunk_state import read_records
    from logist.models.chunk_history import to_document

    for at, record in deque(read_records(spec_state(target)), maxlen=lines):
        content = to_document(record)
        if as_json:
            import json

            click.echo(json.dumps({"at": at, **content}))
            continue
        kind = content.pop("type")
        facts = " ".join(
            f"{name}={value}" for name, value in content.items() if value not in ("", None) and name != "key"
        )
        print_text(f"{at} {kind:12} {facts}")


def cancel_spec(target: str, message: str, *, wait: bool, as_json: bool) -> None:
    """Stop the spec's run: its commands are ended, and what is done stays done."""
    from datetime import UTC, datetime

    from logist.commands.stop import await_runner
    from logist.lease import read_holder
    from logist.stop_requests import request

    paths = spec_state(target)
    if read_holder(paths.job) is None:
        raise WrongState(f"{target} is not being run: nothing to cancel", f"possible now: logist job run {target}")
    request(paths.job, "cancel", message, datetime.now(UTC))
    if wait:
        await_runner(paths.job, JobBusy(f"the runner of {target} was asked to stop", ""))
    if as_json:
        print_json({"spec": target, "canceled": wait})
    else:
        tell(f"{target} is canceled" if wait else f"the runner of {target} was asked to stop")
