"""One job's isolated workspace and the evidence repository beside it.

Taking a step (snapshot, commit, advance) starts no process. What needs git itself runs it with configuration, hooks,
filters and protocols off, and never inside the workspace: the agent's own `.git` is not opened by anything.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

from logist.errors import EvidenceDamaged, WorkspaceFailed
from logist.workspace.cache import EvidenceCache, settled_before
from logist.workspace.disk import fsync_folder, storage_errors, temporary_file
from logist.workspace.files import DEFAULT_LIMITS, WalkLimits, check_evidence_path
from logist.workspace.git_runner import ENVIRONMENT, SETTINGS, SOURCE_ENVIRONMENT, SOURCE_SETTINGS, GitRunner
from logist.workspace.left_out import LeftOut
from logist.workspace.names import shown
from logist.workspace.objects import (
    FOLDER,
    SYMLINK,
    Entries,
    ObjectStore,
    ObjectWriter,
    TreeEntry,
    check_id,
    encode_commit,
)
from logist.workspace.refs import Refs, check_ref_name
from logist.workspace.restore import Restorer, remove_folder, write_files
from logist.workspace.walk import SkippedPath, Walk, WalkResult

__all__ = [
    "CommitInfo",
    "FileChange",
    "LoggedCommit",
    "Patch",
    "SkippedPath",
    "Snapshot",
    "TreeFile",
    "WalkLimits",
    "Workspace",
    "check_evidence_path",
]

#: Points at the job's first commit; the log ends there.
BASELINE_REF = "refs/logist/baseline"

#: Of what git prints by default, only what does not depend on settings.
_DIFF_OPTIONS = ("-r", "--find-renames", "--no-color", "--no-ext-diff", "--no-textconv")

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


class Patch(NamedTuple):
    """The beginning of a difference, as git prints it, and whether that is all of it."""

    data: bytes
    whole: bool


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


class Workspace:
    """A job's work folder and its evidence repository. Opens them; `workspace_creation` makes them."""

    def __init__(self, repo_dir: Path, work_dir: Path, branch: str, *, limits: WalkLimits = DEFAULT_LIMITS) -> None:
        self._repo_dir = repo_dir.absolute()
        self._work_dir = work_dir.absolute()
        self._branch = check_ref_name(f"refs/heads/{branch}")
        self._limits = limits
        if not (self._repo_dir / "objects").is_dir():
            raise EvidenceDamaged(
                f"There is no evidence repository in {repo_dir}.",
                "Restore the job's folder from a backup, or create the job anew.",
            )
        self._store = ObjectStore(self._repo_dir)
        self._refs = Refs(self._repo_dir)
        self._cache = EvidenceCache(self._repo_dir.parent / "evidence-cache")
        self._cache.load(self._store)
        with storage_errors("read what the evidence leaves out"):
            self._left_out = LeftOut.load(self._repo_dir.parent / "left-out.json")
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
        self,
        base: str,
        describe: Callable[[Snapshot], CommitInfo],
        force: Collection[str] = (),
        *,
        along: Sequence[int] = (),
    ) -> tuple[Snapshot, str]:
        """A snapshot and its commit on `base`, with the branch moved there from `base`, and the open files `along`.

        They wait for the disk together. The branch's move becomes durable when the caller syncs `branch_folder`.
        Raises what `snapshot` raises, and what `describe` raises; WorkspaceFailed when the branch is elsewhere.
        """
        with storage_errors("store the evidence"):
            writer = ObjectWriter(self._store)
            try:
                walk, result = self._walk(base, force, writer)
                info = describe(Snapshot(result.tree, result.changed, result.skipped))
                commit = writer.add("commit", encode_commit(result.tree, (base,), info.author, info.at, info.message))
                self._finish(writer, commit, base, along)
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

    def commit_tree(self, tree: str, base: str, info: CommitInfo, *, along: Sequence[int] = ()) -> str:
        """As `commit_snapshot`, of a tree that is stored already; its id."""
        with storage_errors("store the evidence commit"):
            writer = ObjectWriter(self._store)
            try:
                commit = writer.add("commit", encode_commit(tree, (base,), info.author, info.at, info.message))
                self._finish(writer, commit, base, along)
            finally:
                writer.abandon()
        return commit

    def advance(self, commit: str, expected: str) -> None:
        """Move the job's branch from `expected` to `commit`, durably. Raises WorkspaceFailed when it is elsewhere."""
        self._require(commit)
        with storage_errors("move the evidence branch"):
            self._refs.set(self._branch, commit, check_id(expected))

    @contextlib.contextmanager
    def branch_folder(self) -> Iterator[int]:
        """The folder that holds the job's branch, open to be synced."""
        with storage_errors("open the evidence branch"):
            folder = os.open((self._repo_dir / self._branch).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield folder
        finally:
            os.close(folder)

    def set_ref(self, name: str, commit: str) -> None:
        """Point a ref below refs/logist/ at a commit, durably."""
        if not name.startswith("refs/logist/"):
            raise WorkspaceFailed(f"{name!r} is not below refs/logist/.", "Choose a name below refs/logist/.")
        self._require(commit)
        with storage_errors("keep the evidence"):
            self._refs.set(check_ref_name(name), commit)

    def salvage(self, name: str, base: str, info: CommitInfo) -> str | None:
        """Keep partial work under refs/logist/salvage/`name`; its commit, None when nothing differs from `base`.

        What was kept under that name before stays: the new work then gets a number behind it.
        """
        tree = self.snapshot(base).tree
        if tree == self.tree_of(base):
            return None
        commit = self.commit(tree, (base,), info)
        wanted = f"refs/logist/salvage/{name}"
        taken = self.refs()
        numbered = (wanted if number == 1 else f"{wanted}-{number}" for number in itertools.count(1))
        self.set_ref(next(ref for ref in numbered if taken.get(ref, commit) == commit), commit)
        return commit

    # -- reading --

    def head(self) -> str:
        """The newest evidence commit."""
        with storage_errors("read the evidence branch"):
            commit = self._refs.get(self._branch)
        if commit is None:
            raise EvidenceDamaged(
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

    def files(self, commit: str, paths: Collection[str] = ()) -> tuple[TreeFile, ...]:
        """Every file of a commit, of `paths` only when given."""
        options = ("-r", "-z", "-l", "--full-tree", "--end-of-options")
        rows = self._git().run("ls-tree", *options, check_id(commit), *paths)
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
        shape = ("--stat=100", "--summary") if stat else ("--patch",)
        trees = (check_id(old), check_id(new))
        output = self._git().run("diff-tree", *_DIFF_OPTIONS, *shape, "--end-of-options", *trees, "--", *paths)
        return output.decode("utf-8", "replace")

    def patch(self, old: str, new: str, limit: int) -> Patch:
        """The first `limit` bytes of the difference of two commits or trees, as git prints it.

        Binary files are only named, and so are files of more than a megabyte.
        """
        settings = ("core.bigFileThreshold=1m", "core.quotePath=false")
        trees = (check_id(old), check_id(new))
        arguments = ("diff-tree", *_DIFF_OPTIONS, "--patch", "--end-of-options", *trees)
        return Patch(*self._git().read(*arguments, limit=limit, settings=settings))

    def differs(self, commit: str) -> tuple[str, ...]:
        """The paths of the workspace that differ from a commit; nothing is written."""
        with storage_errors("read the workspace"):
            return self._walk(commit, (), None)[1].changed

    # -- restoring and handing over --

    def restore(self, commit: str) -> tuple[str, ...]:
        """Make the workspace equal a commit; the touched paths. Ignored files stay unless they are in the way."""
        tree = self.tree_of(commit)
        with storage_errors("restore the workspace"), self._scratch() as scratch:
            restorer = Restorer(self._store, self._cache.files, scratch, self._limits, self._left_out)
            touched = restorer.run(self._work_dir, tree, self._stage)
        self._last_tree = tree
        return touched

    def leave_out(self, paths: Iterable[str], why: str) -> None:
        """Leave these files out of the evidence from now on, durably, unless it holds them. `restore` spares them."""
        with storage_errors("keep what the evidence leaves out"):
            self._left_out.add(paths, why)

    def write_files(self, folder: str, files: Mapping[str, bytes], *, alone: bool = False) -> None:
        """Write whole files into a folder of the workspace, never through a link; `alone`: no other file stays."""
        with storage_errors(f"write into the workspace's folder {folder}"):
            write_files(self._work_dir, folder, files, alone=alone)

    def deliver_branch(self, source: Path, branch: str, head: str) -> None:
        """Bring `head` and its history into the source repository as a new branch.

        Does nothing when the branch is there already; raises WorkspaceFailed when it differs or is checked out.
        """
        ref = check_ref_name(f"refs/heads/{branch}")
        repo = GitRunner(source, SOURCE_ENVIRONMENT, SOURCE_SETTINGS)
        held = repo.ask("rev-parse", "--verify", "--quiet", "--end-of-options", ref)
        if held == check_id(head):
            return
        if held is not None:
            raise WorkspaceFailed(
                f"The source has a branch {branch} already, which ends with something else.",
                "Deliver under another branch name.",
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

    def remember_trees(self, trees: Mapping[str, Entries]) -> None:
        """Take over trees of the repository that were read elsewhere, by their ids."""
        self._store.trees.update(trees)

    def close(self) -> None:
        """Keep what is known about the workspace's files for the next run."""
        if self._last_tree is not None:
            with storage_errors("keep the evidence cache"):
                self._cache.save(self._store, self._last_tree)
        self._store.close()

    # -- inside --

    def _walk(self, base: str, force: Collection[str], writer: ObjectWriter | None) -> tuple[Walk, WalkResult]:
        base_tree = self._store.commit(base).tree
        # To ask the file system's clock, a file is written; what a mere look finds is not kept.
        settled = 0 if writer is None else settled_before(self._repo_dir)
        walk = Walk(
            self._store,
            self._cache.files,
            settled,
            writer=writer,
            limits=self._limits,
            force=force,
            left_out=self._left_out,
        )
        return walk, walk.run(self._work_dir, base_tree)

    def _finish(self, writer: ObjectWriter, commit: str, base: str, along: Sequence[int]) -> None:
        """Make everything durable and move the branch from `base` to `commit`; its lock file waits with the objects."""
        with self._refs.move(self._branch, commit, check_id(base)) as moving:
            writer.finish(along, last=(moving,))

    def _stored(self, walk: Walk, result: WalkResult) -> Snapshot:
        # Only once it is durable: what the cache knows must be in the repository.
        self._cache.files = walk.files
        self._last_tree = result.tree
        return Snapshot(result.tree, result.changed, result.skipped)

    def _require(self, commit: str) -> None:
        with storage_errors("read the evidence"):
            self._store.commit(commit)

    def _git(self, work_tree: Path | None = None) -> GitRunner:
        # Never the workspace: git would read the agent's .gitattributes there.
        places = {"GIT_DIR": str(self._repo_dir), "GIT_WORK_TREE": str(work_tree or self._repo_dir)}
        return GitRunner(self._repo_dir, ENVIRONMENT | places, SETTINGS)

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
        remove_folder(scratch)
        scratch.mkdir()
        try:
            yield scratch
        finally:
            remove_folder(scratch)


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
