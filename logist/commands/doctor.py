"""`logist doctor`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from logist.commands.output import print_json, print_text, tell
from logist.commands.parameters import json_option
from logist.errors import ExitCode, InvalidFile, LogistError

if TYPE_CHECKING:
    from pathlib import Path

    from logist.commands.invocation import Invocation
    from logist.job_files import JobPaths
    from logist.job_state import JobStore
    from logist.models.config import Config
    from logist.models.manifest import RoleSettings

#: What reading an evidence repository of ours needs.
_OLDEST_GIT = (2, 36)


class Finding(NamedTuple):
    """One thing that was looked at; `hint` is empty when it is well."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


@click.command()
@click.option("--repair", metavar="JOB", help="Write JOB's manifest anew from its history.")
@json_option
@click.pass_obj
def doctor(invocation: Invocation, repair: str | None, as_json: bool) -> int:
    """Check this machine, the configuration, its agents, and every record of every job."""
    if repair is not None:
        _repair(invocation, repair, as_json=as_json)
        return ExitCode.SUCCESS
    findings = [*_machine(invocation), *_configuration(invocation), *_jobs(invocation)]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            print_text(_line(finding))
    return ExitCode.SUCCESS if all(finding.ok for finding in findings) else ExitCode.INVALID


def _line(finding: Finding) -> str:
    told = f"{'ok ' if finding.ok else 'BAD'} {finding.name}: {finding.detail}"
    return " ".join((told if finding.ok else f"{told}. {finding.hint}").splitlines())


def _repair(invocation: Invocation, job: str, *, as_json: bool) -> None:
    job_id = invocation.job_id(job)
    _refuse_newer(invocation.job_paths(job_id))
    manifest = invocation.store().rebuild(job_id)
    if as_json:
        print_json(manifest.model_dump(mode="json"))
    else:
        tell(f"the manifest of {manifest.id} was written anew: {manifest.status}, step {manifest.step}")


def _refuse_newer(paths: JobPaths) -> None:
    """What this version can't read is no damage: to write it anew would lose what it says. Raises InvalidFile."""
    import json

    from logist.job_files import check_schema

    try:
        document = json.loads(paths.manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        # That is the damage to be repaired.
        return
    if isinstance(document, dict):
        check_schema(paths.manifest, document)


def _look(name: str, look: Callable[[], str]) -> Finding:
    """What `look` says, or the problem that it met."""
    try:
        return Finding(name, True, look())
    except LogistError as problem:
        return Finding(name, False, problem.message, problem.hint)


def _machine(invocation: Invocation) -> Iterator[Finding]:
    import platform

    yield Finding("python", sys.version_info >= (3, 11), platform.python_version(), "use Python 3.11 or newer")
    yield _look("commands", _run_git)
    yield _look("jobs folder", lambda: _try_folder(invocation.jobs_dir()))
    yield _look("rendering", _find_render_tools)
    yield Finding("adapters", True, ", ".join(_adapters()))


def _find_render_tools() -> str:
    """What compositions are rendered with. What is missing is told, but is no flaw: not everybody renders."""
    import os

    from logist.errors import BrowserMissing, ExtraMissing
    from logist.render.browser import find_browser
    from logist.render.media import pyav

    told = []
    try:
        told.append(f"PyAV {pyav().__version__}")
    except ExtraMissing as missing:
        told.append(f"no PyAV ({missing.hint})")
    try:
        found = find_browser(None, os.environ)
        told.append(f"{found.path} ({found.origin})")
    except BrowserMissing as missing:
        told.append(f"{missing} ({missing.hint})")
    return ", ".join(told)


def _adapters() -> Iterator[str]:
    """The places where commands can run. One that can't be used is told, but is no flaw: not everybody needs it."""
    from contextlib import closing

    from logist.errors import UsageProblem
    from logist.execution.adapters import adapter_names, open_adapter

    for name in adapter_names():
        try:
            with closing(open_adapter(name)):
                yield name
        except UsageProblem:
            yield f"{name} (needs options)"
        except LogistError as missing:
            yield f"not {name}: {missing} ({missing.hint})"


def _run_git() -> str:
    """Run git through the adapter that runs everything: that it works is the other half of what is learnt."""
    import contextlib
    import os
    import re
    from pathlib import Path

    from logist.environment import inherited
    from logist.errors import WorkspaceFailed
    from logist.execution import Command
    from logist.execution.local import LocalWorkerAdapter

    with contextlib.closing(LocalWorkerAdapter()) as adapter:
        command = Command(cwd=Path.cwd(), env=inherited(os.environ), argv=("git", "--version"), timeout=20.0)
        result = adapter.run(command)
    said = result.stdout.kept.decode("utf-8", "replace").strip()
    version = re.search(r"(\d+)\.(\d+)", said)
    hint = f"install git {_OLDEST_GIT[0]}.{_OLDEST_GIT[1]} or newer"
    if not result.ok or version is None:
        raise WorkspaceFailed(f"git can't be run: {result.detail or said or result.ended}", hint)
    if (int(version[1]), int(version[2])) < _OLDEST_GIT:
        raise WorkspaceFailed(f"{said} is too old", hint)
    return f"{said}; commands run and end"


def _try_folder(folder: Path) -> str:
    """Write, lock, and remove a file there. Raises StorageFailed."""
    import fcntl
    import tempfile
    from pathlib import Path

    from logist.errors import StorageFailed

    if not folder.is_dir():
        return f"{folder} is not made yet"
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as one, Path(one.name).open("rb") as other:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_locked(other.fileno()):
                raise StorageFailed(f"a lock in {folder} keeps nobody out", "use a jobs folder on a local disk")
    except OSError as error:
        raise StorageFailed(
            f"{folder} can't be written or locked: {error.strerror}", "check its owner and disk, or choose --jobs-dir"
        ) from error
    return f"{folder} can be written and locked"


def _is_locked(fd: int) -> bool:
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _configuration(invocation: Invocation) -> Iterator[Finding]:
    try:
        loaded = invocation.configuration()
    except LogistError as problem:
        yield Finding("configuration", False, problem.message, problem.hint)
        return
    files = sorted(set(loaded.origins.values()))
    yield Finding("configuration", True, ", ".join(files) or "defaults only")
    yield from _agents(loaded.config)


def _agents(config: Config) -> Iterator[Finding]:
    from logist.models.manifest import RoleSettings

    for role, settings in (("worker", config.roles.worker), ("supervisor", config.roles.supervisor)):
        yield _look(f"{role}", lambda settings=settings: _check_agent(settings, config))  # type: ignore[misc]
    for name in config.agents:
        settings = RoleSettings(agent=name)
        yield _look(f"agent {name}", lambda settings=settings: _check_agent(settings, config))  # type: ignore[misc]


def _check_agent(settings: RoleSettings, config: Config) -> str:
    from logist.agents import find_agent

    agent = find_agent(settings.agent, config)
    agent.check(settings)
    return f"{settings.agent} can run" + (" (scripted: no model is asked)" if agent.scripted else "")


def _jobs(invocation: Invocation) -> Iterator[Finding]:
    try:
        store = invocation.store()
        ids = store.ids()
    except LogistError as problem:
        yield Finding("jobs", False, problem.message, problem.hint)
        return
    yield Finding("jobs", True, f"{len(ids)} in {store.jobs_dir}")
    for job_id in ids:
        yield _look(f"job {job_id}", lambda job_id=job_id: _check_job(store, job_id))  # type: ignore[misc]


def _check_job(store: JobStore, job_id: str) -> str:
    """Read everything that is recorded of a job, and compare it with its evidence."""
    import contextlib

    from logist.job_list import headline, runner_of
    from logist.runtime import branch_of
    from logist.workspace_utils import Workspace

    records = sum(1 for _ in store.history(job_id))
    manifest = store.load(job_id)
    paths = store.paths(job_id)
    for folder in (paths.repo, paths.workspace):
        if not folder.is_dir():
            raise InvalidFile(f"the folder {folder} is missing", f"put it back; the job's record is in {paths.root}")
    with contextlib.closing(Workspace(paths.repo, paths.workspace, branch_of(job_id))) as workspace:
        workspace.tree_of(manifest.head)
        at_rest = store.holder(job_id) is None and manifest.status != "RUNNING"
        if at_rest and workspace.head() != manifest.head:
            raise InvalidFile(
                f"its evidence branch is at {workspace.head()[:12]}, its manifest says {manifest.head[:12]}",
                f"`logist doctor --repair {job_id}` writes the manifest anew",
            )
    now = headline(manifest.status, runner_of(store.holder(job_id)), job_id)
    return f"{now}, {manifest.step} steps, {records} records"
