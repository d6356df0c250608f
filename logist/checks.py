"""Acceptance checks: commands that decide, run by Logist and never by the agent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from logist.environment import inherited, inside, passed_on
from logist.errors import StorageFailed
from logist.execution import CancelCheck, Command, CommandResult, Ended, OutputSink, WorkerAdapter
from logist.models.manifest import Check, CheckResult
from logist.plain_text import last_part, plain_text

#: How often a check is run again when it was lost with its place: that says nothing about the work. One that takes its
#: place along each time is red in the end.
_LOST_AT_MOST = 5
#: Characters of output that a result keeps: the model's own bound.
_MAX_TAIL = 8192


class ChecksStopped(Exception):
    """Someone asked to stop while the checks ran; the message says why. Not a failure of a check."""

    def __init__(self, why: str, results: tuple[CheckResult, ...]) -> None:
        super().__init__(why)
        #: Of the checks that had ended.
        self.results = results


def run_checks(
    checks: tuple[Check, ...],
    workspace: Path,
    adapter: WorkerAdapter,
    *,
    environ: Mapping[str, str],
    log_dir: Path,
    pass_env: Iterable[str] = (),
    cancel: CancelCheck | None = None,
    on_output: OutputSink | None = None,
    on_result: Callable[[CheckResult], None] | None = None,
    tidy: Callable[[], None] = lambda: None,
    lease_fds: tuple[int, ...] = (),
) -> tuple[CheckResult, ...]:
    """Run every check in order, red ones too, through /bin/sh in the workspace; logs go to `log_dir`.

    A check's environment is an allow-list of `environ`, the variables named by `pass_env`, and LOGIST_CHECK,
    LOGIST_WORKSPACE and GIT_CEILING_DIRECTORIES. Raises ChecksStopped as soon as `cancel` says so, nothing of the check
    then lives, and StorageFailed when the logs can't be written. `tidy` is called after each check, also after one that
    was stopped: no check may see what another one left.
    """
    _make(log_dir)
    pass_env = tuple(pass_env)
    ours = inside(workspace) | {"LOGIST_CHECK": ""}
    environment, passed = inherited(environ, pass_env) | ours, passed_on(environ, pass_env) - ours.keys()
    results: list[CheckResult] = []
    for number, check in enumerate(checks, start=1):
        why = cancel() if cancel is not None else None
        if why is not None:
            raise ChecksStopped(why, tuple(results))
        command = Command(
            cwd=workspace,
            env=environment | {"LOGIST_CHECK": check.name},
            passed=passed,
            shell=check.command,
            timeout=check.timeout,
            stdout_log=log_dir / f"check-{number:02}.stdout.log",
            stderr_log=log_dir / f"check-{number:02}.stderr.log",
            inherit=lease_fds,
        )
        ran = _run(command, adapter, cancel, on_output, tidy)
        if ran.ended is Ended.CANCELED:
            raise ChecksStopped(ran.detail or "stopped on request", tuple(results))
        result = _judge(check, ran)
        results.append(result)
        if on_result is not None:
            on_result(result)
    return tuple(results)


def _run(
    command: Command,
    adapter: WorkerAdapter,
    cancel: CancelCheck | None,
    on_output: OutputSink | None,
    tidy: Callable[[], None],
) -> CommandResult:
    lost = 0
    while True:
        ran = adapter.run(command, cancel=cancel, on_output=on_output)
        tidy()
        lost += ran.ended is Ended.LOST
        if ran.ended is not Ended.LOST or lost > _LOST_AT_MOST:
            return ran


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(
            f"the folder {folder} for the checks' logs can't be made: {error.strerror}",
            "make room or give access to it, then run again",
        ) from error


def _judge(check: Check, ran: CommandResult) -> CheckResult:
    return CheckResult(
        name=check.name,
        required=check.required,
        passed=ran.ok,
        exit_code=ran.exit_code if ran.ended is Ended.EXITED else None,
        duration=round(ran.duration, 3),
        tail=_tail(ran),
    )


def _tail(ran: CommandResult) -> str:
    """The end of both streams and, last, why the check did not come to its own end."""
    ended = "" if ran.ended is Ended.EXITED else plain_text(f"[{ran.ended}: {ran.detail or 'no reason given'}]")[:500]
    room = _MAX_TAIL - len(ended) - 2
    errors = last_part(ran.stderr.kept, room // 2).strip()
    printed = last_part(ran.stdout.kept, room - len(errors)).strip()
    return "\n".join(part for part in (printed, errors, ended) if part)
