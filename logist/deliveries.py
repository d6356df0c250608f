"""Hands a job's work over: a branch in the source repository, a patch file, or a bundle."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from logist.errors import UsageProblem, WorkspaceFailed, WrongState
from logist.job_files import is_git
from logist.job_processor import open_session
from logist.lifecycle import JobStatus
from logist.models.manifest import JobManifest, SourceKind
from logist.runtime import Runtime, Session, branch_of
from logist.workspace.git_runner import SOURCE_ENVIRONMENT, SOURCE_SETTINGS, GitRunner
from logist.workspace.refs import check_ref_name


def deliver_branch(
    runtime: Runtime, job_id: str, *, to: Path | None = None, branch: str | None = None, force: bool = False
) -> str:
    """Fetch the work into a branch of the source repository (or of `to`) and return the branch's name.

    Raises WrongState when the job is not a SUCCESS (unless `force`) or the branch is there already, UsageProblem when
    there is no repository to deliver to or the name is no branch's, WorkspaceFailed when git refuses.
    """
    with _deliverable(runtime, job_id, force=force) as session:
        manifest = session.manifest
        target = to or _source_repository(manifest)
        name = branch or branch_of(job_id)
        _check_free(target, name, manifest)
        session.workspace.deliver_branch(target, name, manifest.head)
        return name


def deliver_patch(runtime: Runtime, job_id: str, target: Path, *, force: bool = False) -> Path:
    """Write everything since the baseline as one patch file for `git am`."""
    with _deliverable(runtime, job_id, force=force) as session:
        _check_new(target)
        session.workspace.write_patch(target, session.manifest.baseline, session.manifest.head)
        return target


def deliver_bundle(runtime: Runtime, job_id: str, target: Path, *, force: bool = False) -> Path:
    """Write the evidence branch as a git bundle."""
    with _deliverable(runtime, job_id, force=force) as session:
        manifest = session.manifest
        _check_new(target)
        base = manifest.baseline if manifest.source.kind is SourceKind.GIT else None
        session.workspace.write_bundle(target, base, manifest.head, branch_of(job_id))
        return target


@contextlib.contextmanager
def _deliverable(runtime: Runtime, job_id: str, *, force: bool) -> Iterator[Session]:
    with open_session(runtime, job_id, command="deliver") as session:
        manifest = session.manifest
        if manifest.status is not JobStatus.SUCCESS and not force:
            raise WrongState(
                f"job {job_id} is {manifest.status}, not SUCCESS: its work was not agreed on",
                "finish it first, or add --force to deliver the work as it is",
            )
        if manifest.head == manifest.baseline:
            raise WrongState(f"job {job_id} has no steps to deliver", f"run it first: logist job run {job_id}")
        yield session


def _source_repository(manifest: JobManifest) -> Path:
    if manifest.source.kind is not SourceKind.GIT or manifest.source.path is None:
        raise UsageProblem(
            "the job has no source repository to deliver to", "name one with --to REPO, or use --patch or --bundle"
        )
    return Path(manifest.source.path)


def _check_free(target: Path, branch: str, manifest: JobManifest) -> None:
    try:
        ref = check_ref_name(f"refs/heads/{branch}")
    except WorkspaceFailed as error:
        raise UsageProblem(f"{branch!r} can't be the name of a branch", error.hint) from error
    if not _is_in_repository(target):
        raise UsageProblem(f"{target} is not a git repository", "name one with --to REPO, or use --patch or --bundle")
    held = GitRunner(target, SOURCE_ENVIRONMENT, SOURCE_SETTINGS).ask(
        "rev-parse", "--verify", "--quiet", "--end-of-options", ref
    )
    if held not in (None, manifest.head):
        raise WrongState(
            f"{target} has a branch {branch} already, and it does not end with this job's work",
            f"deliver under another name: logist job deliver {manifest.id} --branch {branch}-2",
        )


def _is_in_repository(target: Path) -> bool:
    # As git itself looks for it, upwards; git's own message would be about its ceilings and file systems.
    return target.is_dir() and any(
        is_git(f"{folder}/.git") or ((folder / "HEAD").is_file() and (folder / "objects").is_dir())
        for folder in (target, *target.parents)
    )


def _check_new(target: Path) -> None:
    if not target.parent.is_dir():
        raise UsageProblem(f"the folder {target.parent} is not there", "make it first, or name a file elsewhere")
    if target.exists() or target.is_symlink():
        raise WrongState(f"{target} is there already", "remove it, or name a new file")
