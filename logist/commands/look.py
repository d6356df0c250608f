"""`logist job log`, `diff`, `history` and `evidence`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from logist.chunk_selection import is_spec_target
from logist.commands.output import print_drawn, print_json, print_text, tell
from logist.commands.parameters import job_argument, json_option, target_argument
from logist.commands.spec_views import refuse_for_spec, show_chunk_log, show_spec_history
from logist.errors import UsageProblem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from logist.commands.invocation import Invocation
    from logist.job_files import JobPaths
    from logist.job_state import JobStore
    from logist.step_summaries import StepSummary
    from logist.workspace_utils import LoggedCommit, Workspace

#: What an attempt at a step keeps, by the name that --stream calls it.
_STREAMS = {
    "stdout": "stdout.log",
    "stderr": "stderr.log",
    "prompt": "prompt.md",
    "reply": "reply.json",
    "command": "command.json",
}
_ROLES = ("worker", "supervisor")


class Attempt(NamedTuple):
    """The folder of one attempt at a step."""

    role: str
    attempt: int
    folder: Path


@click.command()
@target_argument
@click.option("-s", "--step", type=click.IntRange(min=1), metavar="N", help="What an agent printed in step N.")
@click.option("--chunk", metavar="ID", help="Of a spec: what the chunk's last attempt printed; merge: the merge.")
@click.option("--role", type=click.Choice(_ROLES), help="Only this role's steps.")
@click.option("--stream", type=click.Choice(tuple(_STREAMS)), default="stdout", show_default=True, help="With --step.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="A", help="With --step. Default: the last attempt.")
@click.option("-n", "--lines", type=click.IntRange(min=1), metavar="N", help="Only the last N lines, or steps.")
@click.option("--raw", is_flag=True, help="With --step: every byte as it was, control sequences too.")
@json_option
@click.pass_obj
def log(
    invocation: Invocation,
    job: str | None,
    step: int | None,
    chunk: str | None,
    role: str | None,
    stream: str,
    attempt: int | None,
    lines: int | None,
    raw: bool,
    as_json: bool,
) -> None:
    """The steps of JOB, one a line; with --step what one of them printed, was asked, or answered.

    Of a spec the chunks, one a line; with --chunk what one of them printed.
    """
    if job is not None and is_spec_target(job):
        given = {"--step": step is not None, "--role": role is not None, "--attempt": attempt is not None}
        refuse_for_spec(job, {**given, "--stream": stream != "stdout"})
        show_chunk_log(job, chunk, lines, raw=raw, as_json=as_json)
        return
    if chunk is not None:
        raise UsageProblem("--chunk is for a spec", "name its file: logist job log job.json --chunk ID")
    job_id, store = invocation.job_id(job), invocation.store()
    if step is None:
        _print_steps(store, job_id, role, lines, as_json=as_json)
        return
    found = _find_attempt(store.paths(job_id), job_id, step, role, attempt)
    data = _read_log(found.folder / _STREAMS[stream], job_id, step)
    if lines is not None:
        data = b"".join(data.splitlines(keepends=True)[-lines:])
    if as_json:
        from logist.plain_text import plain_text

        place = {"job": job_id, "step": step, "role": found.role, "attempt": found.attempt, "stream": stream}
        print_json({**place, "text": data.decode("utf-8", "replace") if raw else plain_text(data)})
    elif raw:
        click.echo(data, nl=False)
    elif data:
        print_text(data.removesuffix(b"\n"))


def _print_steps(store: JobStore, job_id: str, role: str | None, lines: int | None, *, as_json: bool) -> None:
    steps = [step for step in _steps(store, job_id) if role is None or step.role == role]
    steps = steps if lines is None else steps[-lines:]
    if as_json:
        from pydantic_core import to_jsonable_python

        from logist.plain_text import plain_values

        print_json(plain_values(to_jsonable_python(steps)))
    elif not steps:
        tell(f"{job_id} has no finished steps{'' if role is None else f' of a {role}'}")
    else:
        from logist.console.tables import steps_table

        print_drawn(steps_table(steps))


def _steps(store: JobStore, job_id: str) -> tuple[StepSummary, ...]:
    """Every committed step, oldest first, those that were left behind too."""
    from logist.step_summaries import recent_steps

    return recent_steps(store.paths(job_id), store.load(job_id).head, limit=None)


def _find_attempt(paths: JobPaths, job_id: str, step: int, role: str | None, attempt: int | None) -> Attempt:
    """The attempt that is meant; the last one when none is named. Raises UsageProblem when there is none."""
    found = sorted(_attempts(paths, step), key=lambda one: one.attempt)
    meant = [one for one in found if role in (None, one.role) and attempt in (None, one.attempt)]
    if meant:
        return meant[-1]
    there = ", ".join(f"{one.role} attempt {one.attempt}" for one in found)
    raise UsageProblem(
        f"step {step} of {job_id} has no such log",
        f"it has: {there}" if there else f"logist job log {job_id} lists the steps; one by a human has no log",
    )


def _attempts(paths: JobPaths, step: int) -> Iterator[Attempt]:
    for role in _ROLES:
        first = paths.step_dir(step, role, 1)
        for folder in paths.steps.glob(f"{first.name}*"):
            number = folder.name.removeprefix(first.name).removeprefix(".")
            if not number or number.isdigit():
                yield Attempt(role, int(number or 1), folder)


def _read_log(path: Path, job_id: str, step: int) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UsageProblem(
            f"step {step} of {job_id} kept no {path.name}", "choose another --stream, or another --attempt"
        ) from error


@click.command()
@job_argument
@click.option("-s", "--step", type=click.IntRange(min=1), metavar="N", help="Only what step N changed.")
@click.option("--since", type=click.IntRange(min=0), metavar="N", help="What changed after step N; 0 is the baseline.")
@click.option("--stat", is_flag=True, help="Only the files and how many lines.")
@click.option("--raw", is_flag=True, help="Every byte as git prints it, control sequences too.")
@json_option
@click.pass_obj
def diff(
    invocation: Invocation, job: str | None, step: int | None, since: int | None, stat: bool, raw: bool, as_json: bool
) -> None:
    """What JOB changed since its baseline, in one step, or since a step."""
    if step is not None and since is not None:
        raise UsageProblem("--step and --since exclude each other", "give one of the two")
    job_id, store = invocation.job_id(job), invocation.store()
    old, new = _range(store, job_id, step, since)
    with _workspace(store, job_id) as workspace:
        if as_json:
            files = [change.__dict__ for change in workspace.changes(old, new)]
            print_json({"job": job_id, "from": old, "to": new, "files": files})
            return
        text = workspace.diff(old, new, stat=stat)
    if raw:
        # As bytes: of text, click takes control sequences out where there is no terminal.
        click.echo(text.encode("utf-8", "surrogateescape"), nl=False)
    elif text:
        _print_diff(text)
    else:
        tell("nothing changed")


def _range(store: JobStore, job_id: str, step: int | None, since: int | None) -> tuple[str, str]:
    """The two commits to compare. Raises UsageProblem for a step that is not on record."""
    manifest = store.load(job_id)
    if step is not None:
        return _ends_of(store, job_id, step)
    if since:
        return _ends_of(store, job_id, since)[1], manifest.head
    return manifest.baseline, manifest.head


def _ends_of(store: JobStore, job_id: str, step: int) -> tuple[str, str]:
    """The evidence commits before and after a step."""
    from logist.models.history import Committed

    head, last = "", 0
    for entry in store.history(job_id):
        record = entry.record
        if isinstance(record, Committed):
            last = record.step
            if last == step:
                return head, record.commit
        # Going back to an earlier step moves the head as well.
        head = str(record.change.get("head", head))
    hint = f"its steps are 1 to {last}" if last else "it has no finished steps yet"
    raise UsageProblem(f"step {step} of {job_id} is not on record", hint)


def _print_diff(text: str) -> None:
    from logist.plain_text import plain_text

    for line in plain_text(text).removesuffix("\n").split("\n"):
        style = _DIFF_STYLES.get(line[:1]) if not line.startswith(("+++", "---")) else {"bold": True}
        click.echo(click.style(line, **style) if style else line)


_DIFF_STYLES: dict[str, dict[str, object]] = {"+": {"fg": "green"}, "-": {"fg": "red"}, "@": {"fg": "cyan"}}


@contextlib.contextmanager
def _workspace(store: JobStore, job_id: str) -> Iterator[Workspace]:
    from logist.runtime import branch_of
    from logist.workspace_utils import Workspace

    paths = store.paths(job_id)
    with contextlib.closing(Workspace(paths.repo, paths.workspace, branch_of(job_id))) as workspace:
        yield workspace


@click.command()
@target_argument
@click.option("-n", "--lines", type=click.IntRange(min=1), metavar="N", help="Only the last N records.")
@click.option("-s", "--step", type=click.IntRange(min=1), metavar="N", help="Only the records of step N.")
@click.option("--json", "as_json", is_flag=True, help="Print every record whole, one line of JSON each.")
@click.pass_obj
def history(invocation: Invocation, job: str | None, lines: int | None, step: int | None, as_json: bool) -> None:
    """Every record of JOB, oldest first: what was begun, what came of it, who decided what.

    JOB may be the file of a spec.
    """
    if job is not None and is_spec_target(job):
        refuse_for_spec(job, {"--step": step is not None})
        show_spec_history(job, lines, as_json=as_json)
        return
    job_id, store = invocation.job_id(job), invocation.store()
    if step is None:
        entries = store.history(job_id, limit=lines)
    else:
        entries = iter(store.history_for_step(job_id, step)[-(lines or 0) :])
    if as_json:
        for entry in entries:
            click.echo(entry.model_dump_json())
        return
    from logist.console.records import history_table

    print_drawn(history_table(entries))


@click.command()
@job_argument
@click.option("-s", "--step", type=click.IntRange(min=1), metavar="N", help="One step in full.")
@json_option
@click.pass_obj
def evidence(invocation: Invocation, job: str | None, step: int | None, as_json: bool) -> None:
    """The evidence commits of JOB, newest first; with --step its files, what was left out, and its record."""
    job_id, store = invocation.job_id(job), invocation.store()
    if step is not None:
        shown = _evidence_of(store, job_id, step)
        print_json(shown) if as_json else print_text(_evidence_text(shown))
        return
    with _workspace(store, job_id) as workspace:
        commits = workspace.log()
    if as_json:
        print_json([_commit_json(commit) for commit in commits])
    elif not commits:
        tell(f"{job_id} has no evidence yet")
    else:
        from logist.console.tables import commits_table

        print_drawn(commits_table(commits))


def _commit_json(commit: LoggedCommit) -> dict[str, object]:
    return {
        "commit": commit.id,
        "at": commit.at.isoformat(),
        "author": commit.author,
        "subject": commit.subject,
        "trailers": dict(commit.trailers),
    }


def _evidence_of(store: JobStore, job_id: str, step: int) -> dict[str, object]:
    """One step's evidence: what it changed, what it pointed to, what was left out, and the commit's message."""
    from logist.models.history import Committed, Exited

    before, commit = _ends_of(store, job_id, step)
    records = [entry.record for entry in store.history_for_step(job_id, step)]
    exited = [record for record in records if isinstance(record, Exited)]
    committed = [record for record in records if isinstance(record, Committed)]
    with _workspace(store, job_id) as workspace:
        changes = workspace.changes(before, commit)
        message = workspace.message_of(commit)
    return {
        "job": job_id,
        "step": step,
        "commit": commit,
        "files": [change.__dict__ for change in changes],
        "evidence_files": list(exited[-1].evidence_files) if exited else [],
        "skipped": [{"path": left.path, "why": left.why} for left in committed[-1].skipped],
        "message": message,
    }


def _evidence_text(shown: dict[str, Any]) -> str:
    files = [f"  {change['kind']} {_shown(change['path'])}" for change in shown["files"]] or ["  (none)"]
    named = [f"  {_shown(name)}" for name in shown["evidence_files"]] or ["  (none)"]
    left_out = [f"  {_shown(left['path'])}: {left['why']}" for left in shown["skipped"]]
    blocks = [
        [f"step {shown['step']} of {shown['job']}: commit {shown['commit']}"],
        ["changed:", *files],
        ["named by the agent:", *named],
        *([["left out:", *left_out]] if left_out else []),
        [shown["message"].rstrip()],
    ]
    return "\n".join(line for block in blocks for line in [*block, ""]).rstrip()


def _shown(path: str) -> str:
    """A file's name on one line, however hostile it is."""
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else repr(c)[1:-1] for c in path)
