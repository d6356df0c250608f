"""One job's isolated workspace and the evidence repository beside it. The only module that imports `git`.

Taking a step (snapshot, commit, advance) starts no process. What needs git itself runs it with configuration, hooks,
filters and protocols off, and never inside the workspace: the agent's own `.git` is not opened by anything.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from logist._evidence_objects import (
    EMPTY_TREE,
    FOLDER,
    SYMLINK,
    Entries,
    ObjectStore,
    ObjectWriter,
    Refs,
    TreeEntry,
    check_id,
    check_ref_name,
    encode_commit,
    fsync_folder,
    storage_errors,
    temporary_file,
)
from logist._evidence_walk import (
    DEFAULT_LIMITS,
    EvidenceCache,
    Restorer,
    SkippedPath,
    Walk,
    WalkLimits,
    WalkResult,
    check_evidence_path,
    empty_folder,
    settled_before,
    shown,
)
from logist.errors import UsageProblem, WorkspaceFailed
from logist.models.manifest import Source, SourceKind

if TYPE_CHECKING:
    import git

__all__ = [
    "CommitInfo",
    "CreatedWorkspace",
    "FileChange",
    "LoggedCommit",
    "SkippedPath",
    "Snapshot",
    "SourceRequest",
    "TreeFile",
    "WalkLimits",
    "Workspace",
    "check_evidence_path",
    "create_workspace",
]

#: Points at the job's first commit; the log ends there.
BASELINE_REF = "refs/logist/baseline"
#: Files; below, they are made durable one by one.
_SYNC_ALL_ABOVE = 300

_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_EDITOR": "/bin/false",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
}
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.autocrlf=false",
    "core.logAllRefUpdates=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "diff.ignoreSubmodules=all",
    "protocol.allow=never",
    "safe.bareRepository=explicit",
    "credential.helper=",
    "core.fsync=all",
    "core.fsyncMethod=batch",
)
#: The source is its owner's: their configuration counts there, but nothing that runs a program or writes.
_SOURCE_ENVIRONMENT = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
_SOURCE_SETTINGS = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "maintenance.auto=false")
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
_NO_GIT = ("git is not installed, or can't be run.", "Install git 2.36 or newer.")
_TRAILER = re.compile(r"([A-Za-z0-9-]+): (.*)")


@dataclass(frozen=True)
class Snapshot:
    """The workspace's content as a stored tree. `changed`: paths that differ from the base, sorted."""

    tree: str
    changed: tuple[str, ...]
    skipped: tuple[SkippedPath, ...]


@dataclass(frozen=True)
class FileChange:
    """One file that differs between two commits. Kind: A, M, D or T; counts are None for binary files."""

    path: str
    kind: str
    insertions: int | None
    deletions: int | None


@dataclass(frozen=True)
class CommitInfo:
    """What a commit says beside its tree; the same values give the same commit id."""

    author: str
    message: str
    at: datetime


class LoggedCommit(NamedTuple):
    """One commit of the job's branch, as its log shows it."""

    id: str
    at: datetime
    author: str
    subject: str
    trailers: tuple[tuple[str, str], ...]


class TreeFile(NamedTuple):
    """One file of a commit. Mode is git's, as text; size is in bytes and None for a submodule."""

    path: str
    mode: str
    size: int | None
    blob: str


@dataclass(frozen=True)
class SourceRequest:
    """Where a workspace's first content is to come from. `revision` is for git; None is what is checked out."""

    kind: SourceKind = SourceKind.EMPTY
    path: Path | None = None
    revision: str | None = None


class CreatedWorkspace(NamedTuple):
    """A new workspace, what its source was found to be, its first commit, and what of a folder was not taken."""

    workspace: Workspace
    source: Source
    baseline: str
    skipped: tuple[SkippedPath, ...] = ()


class Workspace:
    """A job's work folder and its evidence repository. Opens them; `create_workspace` makes them."""

    def __init__(self, repo_dir: Path, work_dir: Path, branch: str, *, limits: WalkLimits = DEFAULT_LIMITS) -> None:
        self._repo_dir = repo_dir.absolute()
        self._work_dir = work_dir.absolute()
        self._branch = check_ref_name(f"refs/heads/{branch}")
        self._limits = limits
        if not (self._repo_dir / "objects").is_dir():
            raise WorkspaceFailed(
                f"There is no evidence repository in {repo_dir}.",
                "Restore the job's folder from a backup, or create the job anew.",
            )
        self._store = ObjectStore(self._repo_dir)
        self._refs = Refs(self._repo_dir)
        self._cache = EvidenceCache(self._repo_dir.parent / "evidence-cache")
        self._cache.load(self._store)
        self._last_tree: str | None = None

    # -- a step --

    def snapshot(self, base: str, force: Collection[str] = ()) -> Snapshot:
        """Store the workspace's content durably. What `base` holds and what `force` names is never ignored.

        Raises StorageFailed when the disk is full or broken, WorkspaceFailed for anything else.
        """
        with storage_errors("store the workspace's content"):
            writer = ObjectWriter(self._store)
            try:
                walk, result = self._walk(base, force, writer)
                writer.finish()
            finally:
                writer.abandon()
        return self._stored(walk, result)

    def commit_snapshot(
        self, base: str, describe: Callable[[Snapshot], CommitInfo], force: Collection[str] = ()
    ) -> tuple[Snapshot, str]:
        """A snapshot and its commit on `base` in one: they wait for the disk together. No ref moves.

        Raises what `snapshot` raises, and what `describe` raises.
        """
        with storage_errors("store the evidence"):
            writer = ObjectWriter(self._store)
            try:
                walk, result = self._walk(base, force, writer)
                info = describe(Snapshot(result.tree, result.changed, result.skipped))
                commit = writer.add("commit", encode_commit(result.tree, (base,), info.author, info.at, info.message))
                writer.finish()
            finally:
                writer.abandon()
        return self._stored(walk, result), commit

    def commit(self, tree: str, parents: tuple[str, ...], info: CommitInfo) -> str:
        """Store a commit durably and return its id; no ref moves."""
        with storage_errors("store the evidence commit"):
            writer = ObjectWriter(self._store)
            try:
                commit = writer.add("commit", encode_commit(tree, parents, info.author, info.at, info.message))
                writer.finish()
            finally:
                writer.abandon()
        return commit

    def advance(self, commit: str, expected: str) -> None:
        """Move the job's branch from `expected` to `commit`, durably. Raises WorkspaceFailed when it is elsewhere."""
        self._require(commit)
        with storage_errors("move the evidence branch"):
            self._refs.set(self._branch, commit, check_id(expected))

    def set_ref(self, name: str, commit: str) -> None:
        """Point a ref below refs/logist/ at a commit, durably."""
        if not name.startswith("refs/logist/"):
            raise WorkspaceFailed(f"{name!r} is not below refs/logist/.", "Choose a name below refs/logist/.")
        self._require(commit)
        with storage_errors("keep the evidence"):
            self._refs.set(check_ref_name(name), commit)

    def salvage(self, name: str, base: str, info: CommitInfo) -> str | None:
        """Keep partial work under refs/logist/salvage/`name`; its commit, None when nothing differs from `base`."""
        tree = self.snapshot(base).tree
        if tree == self.tree_of(base):
            return None
        commit = self.commit(tree, (base,), info)
        self.set_ref(f"refs/logist/salvage/{name}", commit)
        return commit

    # -- reading --

    def head(self) -> str:
        """The newest evidence commit."""
        with storage_errors("read the evidence branch"):
            commit = self._refs.get(self._branch)
        if commit is None:
            raise WorkspaceFailed(
                f"The evidence repository has no branch {self._branch.removeprefix('refs/heads/')}.",
                "Restore the job's repo.git from a backup.",
            )
        return commit

    def refs(self) -> dict[str, str]:
        """Every ref of the evidence repository and its commit."""
        with storage_errors("read the evidence's refs"):
            return self._refs.all()

    def tree_of(self, commit: str) -> str:
        """The id of a commit's tree. Raises WorkspaceFailed when there is no such commit."""
        with storage_errors("read the evidence"):
            return self._store.commit(commit).tree

    def message_of(self, commit: str) -> str:
        """A commit's whole message."""
        with storage_errors("read the evidence"):
            return self._store.commit(commit).message

    def exists(self, commit: str) -> bool:
        """Whether the evidence repository holds this object."""
        with storage_errors("read the evidence"):
            return self._store.exists(check_id(commit))

    def log(self, limit: int | None = None) -> tuple[LoggedCommit, ...]:
        """The commits of the branch since the baseline, newest first, at most `limit`."""
        logged: list[LoggedCommit] = []
        with storage_errors("read the evidence"):
            baseline = self._refs.get(BASELINE_REF)
            at: str | None = self.head()
            while at is not None and at != baseline and (limit is None or len(logged) < limit):
                commit = self._store.commit(at)
                subject = commit.message.split("\n", 1)[0]
                logged.append(LoggedCommit(at, commit.at, commit.author, subject, _trailers(commit.message)))
                at = commit.parents[0] if commit.parents else None
        return tuple(logged)

    def files(self, commit: str) -> tuple[TreeFile, ...]:
        """Every file of a commit."""
        rows = self._git().run("ls-tree", "-r", "-z", "-l", "--full-tree", "--end-of-options", check_id(commit))
        found = []
        for row in rows.split(b"\0")[:-1]:
            head, _, path = row.partition(b"\t")
            mode, _, blob, size = head.decode("ascii").split()
            found.append(TreeFile(shown(os.fsdecode(path)), mode, None if size == "-" else int(size), blob))
        return tuple(found)

    def read(self, commit: str, path: str, limit: int) -> bytes:
        """The first `limit` bytes of a file of a commit. Raises WorkspaceFailed when it has no such file."""
        with storage_errors("read the evidence"):
            tree = self._store.commit(commit).tree
            entry = self._store.lookup(tree, path)
            if entry is None:
                entry = next((found for name, found in self._store.files(tree) if shown(name) == path), None)
            if entry is None or entry.mode == FOLDER or not self._store.exists(entry.id):
                raise WorkspaceFailed(
                    f"Commit {commit[:12]} has no file {path!r}.", "List its files with `logist job evidence`."
                )
            return self._store.read(entry.id, limit)[1]

    def changes(self, old: str, new: str) -> tuple[FileChange, ...]:
        """The files that differ between two commits, by path."""
        options = ("-r", "-z", "--raw", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv")
        output = self._git().run("diff-tree", *options, "--end-of-options", check_id(old), check_id(new))
        kinds: dict[bytes, str] = {}
        counts: dict[bytes, tuple[int | None, int | None]] = {}
        fields = iter(output.split(b"\0"))
        for field in fields:
            if field.startswith(b":"):
                kinds[next(fields)] = field[-1:].decode("ascii")
            elif field:
                added, removed, path = field.split(b"\t", 2)
                counts[path] = (_count(added), _count(removed))
        return tuple(
            FileChange(shown(os.fsdecode(path)), kind, *counts.get(path, (None, None)))
            for path, kind in sorted(kinds.items())
        )

    def diff(self, old: str, new: str, *, stat: bool = False, paths: Collection[str] = ()) -> str:
        """The difference of two commits as text, of `paths` only when given; bytes that are no UTF-8 are replaced."""
        options = ["-r", "--find-renames", "--no-color", "--no-ext-diff", "--no-textconv"]
        options += ["--stat=100", "--summary"] if stat else ["--patch"]
        output = self._git().run("diff-tree", *options, "--end-of-options", check_id(old), check_id(new), "--", *paths)
        return output.decode("utf-8", "replace")

    def differs(self, commit: str) -> tuple[str, ...]:
        """The paths of the workspace that differ from a commit; nothing is stored."""
        with storage_errors("read the workspace"):
            return self._walk(commit, (), None)[1].changed

    # -- restoring and handing over --

    def restore(self, commit: str) -> tuple[str, ...]:
        """Make the workspace equal a commit; the touched paths. Ignored files stay unless they are in the way."""
        tree = self.tree_of(commit)
        with storage_errors("restore the workspace"), self._scratch() as scratch:
            restorer = Restorer(self._store, self._cache.files, scratch, self._limits)
            touched = restorer.run(self._work_dir, tree, self._stage)
        self._last_tree = tree
        return touched

    def deliver_branch(self, source: Path, branch: str, head: str) -> None:
        """Bring `head` and its history into the source repository as a new branch.

        Does nothing when the branch is there already; raises WorkspaceFailed when it differs or is checked out.
        """
        ref = check_ref_name(f"refs/heads/{branch}")
        repo = _Git(source, _SOURCE_ENVIRONMENT, _SOURCE_SETTINGS)
        held = repo.ask("rev-parse", "--verify", "--quiet", "--end-of-options", ref)
        if held == check_id(head):
            return
        if held is not None:
            raise WorkspaceFailed(
                f"The source has a branch {branch} with other work.", "Deliver under another branch name."
            )
        if f"branch {ref}" in repo.run("worktree", "list", "--porcelain").decode("utf-8", "replace").splitlines():
            raise WorkspaceFailed(
                f"The branch {branch} is checked out in the source.", "Deliver under another branch name."
            )
        quiet = (
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-prune",
        )
        settings = (
            "transfer.fsckObjects=true", "fetch.fsckObjects=true", "protocol.version=2", "protocol.file.allow=always",
            "fetch.writeCommitGraph=false", "submodule.recurse=false",
        )  # fmt: skip
        repo.run("fetch", *quiet, "--end-of-options", str(self._repo_dir), f"{head}:{ref}", settings=settings)

    def write_patch(self, target: Path, base: str, head: str) -> None:
        """Write the commits after `base` as a mailbox for `git am`. Refuses to overwrite."""
        if check_id(base) == check_id(head):
            raise WorkspaceFailed(
                "There is nothing to deliver: the job has no commit of its own.", "Run the job first."
            )
        options = ("--stdout", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--no-signature")
        with _new_file(target) as file:
            self._git().run("format-patch", *options, "--end-of-options", f"{base}..{head}", output=file)

    def write_bundle(self, target: Path, base: str | None, head: str, branch: str) -> None:
        """Write `head` as a branch in a git bundle; with `base`, only what comes after it. Refuses to overwrite."""
        ref = check_ref_name(f"refs/heads/{branch}")
        wanted = check_id(head) + (f"\n^{check_id(base)}" if base else "") + "\n"
        with _new_file(target) as file:
            file.write(
                b"# v2 git bundle\n" + (f"-{base} baseline\n" if base else "").encode() + f"{head} {ref}\n\n".encode()
            )
            file.flush()
            options = ("--revs", "--stdout", "--thin", "--delta-base-offset", "-q")
            self._git().run("pack-objects", *options, stdin=wanted.encode("ascii"), output=file)

    def close(self) -> None:
        """Keep what is known about the workspace's files for the next run."""
        if self._last_tree is not None:
            with storage_errors("keep the evidence cache"):
                self._cache.save(self._store, self._last_tree)
        self._store.close()

    # -- inside --

    def _walk(self, base: str, force: Collection[str], writer: ObjectWriter | None) -> tuple[Walk, WalkResult]:
        base_tree = self._store.commit(base).tree
        settled = settled_before(self._repo_dir)
        walk = Walk(self._store, self._cache.files, settled, writer=writer, limits=self._limits, force=force)
        return walk, walk.run(self._work_dir, base_tree)

    def _stored(self, walk: Walk, result: WalkResult) -> Snapshot:
        # Only once it is durable: what the cache knows must be in the repository.
        self._cache.files = walk.files
        self._last_tree = result.tree
        return Snapshot(result.tree, result.changed, result.skipped)

    def _require(self, commit: str) -> None:
        with storage_errors("read the evidence"):
            self._store.commit(commit)

    def _git(self, work_tree: Path | None = None) -> _Git:
        # Never the workspace: git would read the agent's .gitattributes there.
        places = {"GIT_DIR": str(self._repo_dir), "GIT_WORK_TREE": str(work_tree or self._repo_dir)}
        return _Git(self._repo_dir, _ENVIRONMENT | places, _SETTINGS)

    def _stage(self, entries: list[TreeEntry], folder: Path) -> None:
        """Have git write contents to numbered files of an empty folder: exact, fast, away from the agent's paths."""
        rows = []
        for number, entry in enumerate(entries):
            mode = 0o100644 if entry.mode == SYMLINK else entry.mode
            rows.append(f"{mode:o} {entry.id} 0\t{number}\n")
        runner = self._git(folder)
        index = {"GIT_INDEX_FILE": str(folder.parent / "index")}
        runner.run("update-index", "--index-info", stdin="".join(rows).encode("ascii"), environment=index)
        runner.run("checkout-index", "-a", "-q", f"--prefix={folder}/", environment=index)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A folder on the workspace's own file system; a killed run's leftovers go first."""
        scratch = self._work_dir.with_name(f"{self._work_dir.name}.restoring")
        _remove_folder(scratch)
        scratch.mkdir()
        try:
            yield scratch
        finally:
            _remove_folder(scratch)


class _Git:
    """Runs git in a folder, without what the caller's environment says about git. Raises WorkspaceFailed."""

    def __init__(self, folder: Path, environment: Mapping[str, str], settings: tuple[str, ...]) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._settings = settings

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        output: BinaryIO | None = None,
        settings: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run one git command to its end; what it printed, unless that went to `output`."""
        runner = _gitpython().Git(str(self._folder))
        wanted = self._environment | dict(environment or {})
        runner.update_environment(**wanted)
        options = [part for setting in self._settings + settings for part in ("-c", setting)]
        dropped = [name for name in os.environ if name.startswith("GIT_") and name not in wanted]
        # GitPython can add to the environment but not take from it.
        prefix = ["env", *(part for name in dropped for part in ("-u", name))] if dropped else []
        # -C: where a folder can't be entered, GitPython would stay in the caller's.
        program = [runner.GIT_PYTHON_GIT_EXECUTABLE or "git", "-C", str(self._folder)]
        command = [*prefix, *program, *options, *arguments]
        library = _gitpython()
        try:
            with storage_errors(f"run git {arguments[0]}"):
                return self._execute(runner, command, stdin, output)
        except library.GitCommandNotFound as error:
            raise WorkspaceFailed(*_NO_GIT) from error
        except library.GitCommandError as error:
            raise _failed(arguments[0], error) from error

    def ask(self, *arguments: str) -> str | None:
        """What git printed, stripped; None when it exits with an error."""
        try:
            return self.run(*arguments).decode("utf-8", "surrogateescape").strip()
        except WorkspaceFailed as error:
            if isinstance(getattr(error.__cause__, "status", None), int):
                return None
            raise

    @staticmethod
    def _execute(runner: git.Git, command: list[str], stdin: bytes, output: BinaryIO | None) -> bytes:
        with tempfile.TemporaryFile() as fed:
            fed.write(stdin)
            fed.seek(0)
            if output is not None:
                runner.execute(command, istream=fed, output_stream=output, stdout_as_string=False)
                return b""
            return runner.execute(command, istream=fed, stdout_as_string=False, strip_newline_in_stdout=False)


def _gitpython() -> ModuleType:
    """GitPython, imported when git is first run: the import alone starts a `git version`."""
    try:
        import git
    except ImportError as error:
        raise WorkspaceFailed(*_NO_GIT) from error
    return git


def _failed(command: str, error: git.GitCommandError) -> WorkspaceFailed:
    # GitPython wraps what git printed in "stderr: '...'".
    printed = error.stderr.strip().removeprefix("stderr: '").removesuffix("'")
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:]
    why = "; ".join(told)[:500] or f"exit code {error.status}"
    return WorkspaceFailed(
        f"git {command} failed: {why}", "Look at the message of git above; nothing else was changed."
    )


# --- creating ---


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
        _remove_folder(new_repo)
        _remove_folder(new_work)
        try:
            found, baseline, skipped = _fill(new_repo, new_work, branch, source, info)
            _make_durable(new_repo)
            new_work.rename(work_dir)
            # Last: a workspace is there once its repository is.
            new_repo.rename(repo_dir)
            fsync_folder(repo_dir.parent)
        except BaseException:
            for folder in (new_repo, new_work, work_dir):
                _remove_folder(folder)
            raise
    return CreatedWorkspace(Workspace(repo_dir, work_dir, branch), found, baseline, skipped)


class _Filled(NamedTuple):
    source: Source
    baseline: str
    skipped: tuple[SkippedPath, ...]


def _fill(repo_dir: Path, work_dir: Path, branch: str, request: SourceRequest, info: CommitInfo) -> _Filled:
    if request.kind is SourceKind.GIT:
        return _fill_from_git(repo_dir, work_dir, branch, request, info)
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
            walk = Walk(store, {}, 0, writer=writer, excluded={(own.st_dev, own.st_ino)})
            result = walk.run(path, EMPTY_TREE)
        baseline = writer.add("commit", encode_commit(result.tree, (), info.author, info.at, info.message))
        writer.finish()
    finally:
        writer.abandon()
        store.close()
    _start(repo_dir, work_dir, branch, baseline, store.trees)
    return _Filled(Source(kind=request.kind, path=None if path is None else _text(path)), baseline, result.skipped)


def _fill_from_git(repo_dir: Path, work_dir: Path, branch: str, request: SourceRequest, info: CommitInfo) -> _Filled:
    found = _examine(request)
    if found.commit is None:
        _make_repository(repo_dir, branch)
        store = ObjectStore(repo_dir)
        writer = ObjectWriter(store)
        try:
            tree = writer.add("tree", b"")
            baseline = writer.add("commit", encode_commit(tree, (), info.author, info.at, info.message))
            writer.finish()
        finally:
            writer.abandon()
            store.close()
        _start(repo_dir, work_dir, branch, baseline, {})
        return _Filled(found, baseline, ())
    assert found.path is not None
    _clone(Path(found.path), repo_dir, branch, found.commit)
    _start(repo_dir, work_dir, branch, found.commit, _read_trees(repo_dir, found.commit))
    return _Filled(found, found.commit, ())


def _examine(request: SourceRequest) -> Source:
    """What the source repository is, without changing anything in it, not even its index."""
    path = request.path
    if path is None or not path.is_dir():
        raise UsageProblem(f"{path or 'The source'} is not a folder.", "Give a git repository as the source.")
    repo = _Git(path.resolve(), _SOURCE_ENVIRONMENT, _SOURCE_SETTINGS)
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
        uncommitted=_count_uncommitted(_Git(place, _SOURCE_ENVIRONMENT, _SOURCE_SETTINGS)) if top else 0,
    )


def _chosen_commit(repo: _Git, path: Path, revision: str | None) -> str | None:
    """The full id of the revision, or of HEAD; None when nothing was committed yet."""
    wanted = revision or "HEAD"
    commit = repo.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{wanted}^{{commit}}")
    if commit is not None:
        return check_id(commit)
    unborn = revision is None and repo.ask("rev-parse", "--verify", "--quiet", "HEAD") is None
    if unborn and repo.ask("symbolic-ref", "--quiet", "HEAD"):
        return None
    raise UsageProblem(f"{path} has no commit {wanted!r}.", "Name a branch, a tag or a commit id of the source.")


def _count_uncommitted(repo: _Git) -> int:
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
    cloner = _Git(repo_dir.parent, _ENVIRONMENT | open_file, _SETTINGS + trusted)
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
            _remove_folder(path) if path.is_dir() else path.unlink()
    _make_repository(repo_dir, branch)
    within = _Git(repo_dir, _ENVIRONMENT | open_file | {"GIT_DIR": str(repo_dir)}, _SETTINGS + trusted)
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
    runner = _Git(repo_dir, _ENVIRONMENT | {"GIT_DIR": str(repo_dir)}, _SETTINGS)
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
    workspace._store.trees.update(trees)
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


def _remove_folder(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        empty_folder(folder)
        folder.rmdir()


@contextmanager
def _new_file(target: Path) -> Iterator[BinaryIO]:
    """A file that appears whole or not at all, and never in place of another."""
    with storage_errors(f"write {target.name}"):
        if os.path.lexists(target):
            raise WorkspaceFailed(f"{target} exists already.", "Choose another file name, or remove it.")
        with temporary_file(target.absolute().parent, f".{target.name}.") as (descriptor, temporary):
            with os.fdopen(os.dup(descriptor), "wb") as file:
                yield file
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
            # A link, not a rename: a file that came in between is not replaced.
            os.link(temporary, target)
            temporary.unlink()
            fsync_folder(target.absolute().parent)


def _count(field: bytes) -> int | None:
    return None if field == b"-" else int(field)


def _trailers(message: str) -> tuple[tuple[str, str], ...]:
    """The `Key: value` lines of the message's last paragraph."""
    last = message.rstrip("\n").rpartition("\n\n")[2]
    found = [_TRAILER.fullmatch(line) for line in last.split("\n")]
    return tuple((match[1], match[2]) for match in found if match is not None)
