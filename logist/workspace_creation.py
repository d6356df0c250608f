"""Makes a job's workspace and its evidence repository from a source, which is only read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from logist.errors import UsageProblem, WorkspaceFailed
from logist.models.manifest import Source, SourceKind
from logist.models.render_report import MEDIA
from logist.workspace.disk import fsync_folder, storage_errors
from logist.workspace.git_runner import ENVIRONMENT, SETTINGS, SOURCE_ENVIRONMENT, SOURCE_SETTINGS, GitRunner
from logist.workspace.left_out import LeftOut
from logist.workspace.names import shown
from logist.workspace.objects import (
    EMPTY_TREE,
    FOLDER,
    Entries,
    ObjectStore,
    ObjectWriter,
    TreeEntry,
    check_id,
    encode_commit,
)
from logist.workspace.refs import Refs, check_ref_name
from logist.workspace.restore import remove_folder
from logist.workspace.walk import SkippedPath, Walk, WalkResult
from logist.workspace_utils import BASELINE_REF, CommitInfo, Workspace

#: Files; below, they are made durable one by one.
_SYNC_ALL_ABOVE = 300

_REPO_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\thooksPath = /dev/null
\tfsmonitor = false
\tlogAllRefUpdates = false
\tfsync = all
\tfsyncMethod = batch
[gc]
\tauto = 0
[maintenance]
\tauto = false
"""
_REPO_ATTRIBUTES = (
    "* -text -eol -crlf -ident -filter -working-tree-encoding !diff -merge -export-ignore -export-subst\n"
)


@dataclass(frozen=True)
class SourceRequest:
    """Where a workspace's first content is to come from. `revision` is for git; None is what is checked out."""

    kind: SourceKind = SourceKind.EMPTY
    path: Path | None = None
    revision: str | None = None
    #: Files of a folder that are not taken, because a render makes them.
    media: tuple[str, ...] = ()


class CreatedWorkspace(NamedTuple):
    """A new workspace, what its source was found to be, its first commit, and what of a folder was not taken."""

    workspace: Workspace
    source: Source
    baseline: str
    skipped: tuple[SkippedPath, ...] = ()


def create_workspace(
    repo_dir: Path, work_dir: Path, branch: str, *, source: SourceRequest, info: CommitInfo
) -> CreatedWorkspace:
    """Make a job's evidence repository and workspace from a source, which is only read. All or nothing.

    Raises UsageProblem for a source that can't be used, StorageFailed or WorkspaceFailed for anything else.
    """
    repo_dir, work_dir = repo_dir.absolute(), work_dir.absolute()
    check_ref_name(f"refs/heads/{branch}")
    if repo_dir.exists() or (work_dir.exists() and any(work_dir.iterdir())):
        raise WorkspaceFailed(f"There is a workspace in {work_dir.parent} already.", "Choose another job id.")
    new_repo, new_work = (folder.with_name(f"{folder.name}.creating") for folder in (repo_dir, work_dir))
    with storage_errors("create the workspace"):
        repo_dir.parent.mkdir(parents=True, exist_ok=True)
        work_dir.parent.mkdir(parents=True, exist_ok=True)
        remove_folder(new_repo)
        remove_folder(new_work)
        try:
            found, baseline, skipped = _fill(new_repo, new_work, branch, source, info)
            _make_durable(new_repo)
            new_work.rename(work_dir)
            # Last: a workspace is there once its repository is.
            new_repo.rename(repo_dir)
            fsync_folder(repo_dir.parent)
        except BaseException:
            # Also a signal's exception: half a workspace would be taken for a job's.
            for folder in (new_repo, new_work, work_dir):
                remove_folder(folder)
            raise
    return CreatedWorkspace(Workspace(repo_dir, work_dir, branch), found, baseline, skipped)


class _Filled(NamedTuple):
    source: Source
    baseline: str
    skipped: tuple[SkippedPath, ...]


def _fill(repo_dir: Path, work_dir: Path, branch: str, request: SourceRequest, info: CommitInfo) -> _Filled:
    if request.kind is SourceKind.GIT:
        return _fill_from_git(repo_dir, work_dir, branch, request)
    path = None if request.path is None else request.path.resolve()
    if (request.kind is SourceKind.FOLDER) != (path is not None) or (path is not None and not path.is_dir()):
        raise UsageProblem(f"{request.path or 'The source'} is not a folder.", "Give an existing folder as the source.")
    _make_repository(repo_dir, branch)
    store = ObjectStore(repo_dir)
    writer = ObjectWriter(store)
    result = WalkResult(writer.add("tree", b""), (), ())
    try:
        if path is not None:
            own = work_dir.parent.stat()
            media = LeftOut(reasons=dict.fromkeys(request.media, MEDIA))
            walk = Walk(store, {}, 0, writer=writer, excluded={(own.st_dev, own.st_ino)}, left_out=media)
            result = walk.run(path, EMPTY_TREE)
        baseline = writer.add("commit", encode_commit(result.tree, (), info.author, info.at, info.message))
        writer.finish()
    finally:
        writer.abandon()
        store.close()
    _start(repo_dir, work_dir, branch, baseline, store.trees)
    return _Filled(Source(kind=request.kind, path=None if path is None else _text(path)), baseline, result.skipped)


def _fill_from_git(repo_dir: Path, work_dir: Path, branch: str, request: SourceRequest) -> _Filled:
    found = _examine(request)
    if found.commit is None:
        raise UsageProblem(
            f"the repository {found.path} has no commit yet, so there is nothing to start from",
            "commit the files that the job is to work on, or leave the source out to start with nothing",
        )
    assert found.path is not None
    _clone(Path(found.path), repo_dir, branch, found.commit)
    _start(repo_dir, work_dir, branch, found.commit, _read_trees(repo_dir, found.commit))
    return _Filled(found, found.commit, ())


def _examine(request: SourceRequest) -> Source:
    """What the source repository is, without changing anything in it, not even its index."""
    path = request.path
    if path is None or not path.is_dir():
        raise UsageProblem(f"{path or 'The source'} is not a folder.", "Give a git repository as the source.")
    repo = GitRunner(path.resolve(), SOURCE_ENVIRONMENT, SOURCE_SETTINGS)
    try:
        object_format = repo.run("rev-parse", "--show-object-format").strip()
    except WorkspaceFailed as error:
        hint = "Give the top of a git repository, or use a plain folder as the source."
        raise UsageProblem(f"{path} can't be used as a git source: {error.message}", hint) from error
    if object_format != b"sha1":
        raise UsageProblem(
            f"{path} uses {object_format.decode()} object ids; only SHA-1 is supported.", "Use a folder as the source."
        )
    top = repo.ask("rev-parse", "--show-toplevel")
    place = Path(top or repo.ask("rev-parse", "--absolute-git-dir") or path)
    return Source(
        kind=SourceKind.GIT,
        path=_text(place),
        commit=_chosen_commit(repo, path, request.revision),
        branch=repo.ask("symbolic-ref", "--short", "--quiet", "HEAD") if request.revision is None else None,
        uncommitted=_count_uncommitted(GitRunner(place, SOURCE_ENVIRONMENT, SOURCE_SETTINGS)) if top else 0,
    )


def _chosen_commit(repo: GitRunner, path: Path, revision: str | None) -> str | None:
    """The full id of the revision, or of HEAD; None when nothing was committed yet."""
    wanted = revision or "HEAD"
    commit = repo.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{wanted}^{{commit}}")
    if commit is not None:
        return check_id(commit)
    unborn = revision is None and repo.ask("rev-parse", "--verify", "--quiet", "HEAD") is None
    if unborn and repo.ask("symbolic-ref", "--quiet", "HEAD"):
        return None
    raise UsageProblem(f"{path} has no commit {wanted!r}.", "Name a branch, a tag or a commit id of the source.")


def _count_uncommitted(repo: GitRunner) -> int:
    options = ("--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal", "--ignore-submodules=all")
    return repo.run("status", *options).count(b"\0")


def _text(path: Path) -> str:
    if shown(str(path)) != str(path):
        raise UsageProblem(f"The path {shown(str(path))} is not UTF-8.", "Rename the folder.")
    return str(path)


def _make_repository(repo_dir: Path, branch: str) -> None:
    """What `git init --bare` would make, without templates, and with our settings inside."""
    for name in ("objects/info", "objects/pack", "refs/heads", "info"):
        (repo_dir / name).mkdir(parents=True, exist_ok=True)
    (repo_dir / "HEAD").write_text(f"ref: refs/heads/{branch}\n", encoding="ascii")
    (repo_dir / "config").write_text(_REPO_CONFIG, encoding="ascii")
    (repo_dir / "info" / "attributes").write_text(_REPO_ATTRIBUTES, encoding="ascii")


def _clone(source: Path, repo_dir: Path, branch: str, commit: str) -> None:
    """Take the source's objects (hard-linked where possible) and nothing else of it: no refs, no remote, no hooks."""
    open_file = {"GIT_ALLOW_PROTOCOL": "file"}
    # Whether the owner trusts the source was asked when it was examined, with their own configuration.
    trusted = ("protocol.file.allow=always", "safe.directory=*", "safe.bareRepository=all")
    cloner = GitRunner(repo_dir.parent, ENVIRONMENT | open_file, SETTINGS + trusted)
    cloner.run(
        "clone",
        "--bare",
        "--local",
        "--quiet",
        "--no-tags",
        "--template=",
        "--end-of-options",
        str(source),
        str(repo_dir),
    )
    for path in repo_dir.iterdir():
        if path.name not in ("objects", "shallow"):
            remove_folder(path) if path.is_dir() else path.unlink()
    _make_repository(repo_dir, branch)
    within = GitRunner(repo_dir, ENVIRONMENT | open_file | {"GIT_DIR": str(repo_dir)}, SETTINGS + trusted)
    if not ObjectStore(repo_dir).exists(commit):
        # A shallow source sends only what its refs reach.
        quiet = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        within.run("fetch", *quiet, "--end-of-options", str(source), commit)
    Refs(repo_dir).set(f"refs/heads/{branch}", commit)
    borrowed = repo_dir / "objects" / "info" / "alternates"
    if borrowed.exists():
        within.run("repack", "-a", "-d", "-q")
        borrowed.unlink()


def _read_trees(repo_dir: Path, commit: str) -> dict[str, Entries]:
    """Every tree of a commit by one process: unpacking thousands of them here would be slow."""
    runner = GitRunner(repo_dir, ENVIRONMENT | {"GIT_DIR": str(repo_dir)}, SETTINGS)
    ids = {b"": ObjectStore(repo_dir).commit(commit).tree}
    content: dict[bytes, Entries] = {b"": {}}
    for row in runner.run("ls-tree", "-r", "-t", "-z", "--full-tree", "--end-of-options", commit).split(b"\0")[:-1]:
        head, _, path = row.partition(b"\t")
        mode, _, object_id = head.decode("ascii").split()
        folder, _, name = path.rpartition(b"/")
        content[folder][os.fsdecode(name)] = TreeEntry(int(mode, 8), object_id)
        if int(mode, 8) == FOLDER:
            ids[path], content[path] = object_id, {}
    return {ids[path]: entries for path, entries in content.items()}


def _start(repo_dir: Path, work_dir: Path, branch: str, baseline: str, trees: Mapping[str, Entries]) -> None:
    """Set the refs of a new repository and write the first content of its workspace."""
    refs = Refs(repo_dir)
    refs.set(f"refs/heads/{branch}", baseline)
    refs.set(BASELINE_REF, baseline)
    workspace = Workspace(repo_dir, work_dir, branch)
    workspace.remember_trees(trees)
    workspace.restore(baseline)
    workspace.close()


def _make_durable(folder: Path) -> None:
    files = [Path(inner) / name for inner, _, names in os.walk(folder) for name in names]
    if len(files) > _SYNC_ALL_ABOVE:
        # Thousands of loose objects of a source: one wait for the disk instead of one for each.
        os.sync()
        return
    for file in files:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for inner, _, _ in os.walk(folder):
        fsync_folder(Path(inner))
