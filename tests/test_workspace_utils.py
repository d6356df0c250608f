"""The workspace and its evidence, with plain git as the independent witness."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logist import workspace_utils
from logist.errors import StorageFailed, UsageProblem, WorkspaceFailed
from logist.models.manifest import SourceKind
from logist.workspace import cache, objects, restore
from logist.workspace_creation import CreatedWorkspace, SourceRequest, create_workspace
from logist.workspace_utils import CommitInfo, WalkLimits, Workspace, check_evidence_path

BRANCH = "logist/fix-login"
INFO = CommitInfo("worker (playbook)", "Do it\n\nLogist-Step: 1\nLogist-Role: worker", datetime(2024, 5, 1, tzinfo=UTC))
START = CommitInfo("logist", "Start", datetime(2024, 4, 1, tzinfo=UTC))


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Plain git, which knows nothing of Logist."""
    done = subprocess.run(["git", "-C", folder, *arguments], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8", "surrogateescape")


def assert_sound(workspace_folder: Path) -> None:
    """The evidence repository passes git's own strictest check, and says nothing at all."""
    checked = subprocess.run(
        ["git", "-C", workspace_folder / "repo.git", "fsck", "--strict", "--no-dangling"],
        capture_output=True,
        check=False,
        text=True,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def create(job: Path, source: SourceRequest = SourceRequest()) -> CreatedWorkspace:  # noqa: B008  # a frozen value
    return create_workspace(job / "repo.git", job / "workspace", BRANCH, source=source, info=START)


def reopen(job: Path, limits: WalkLimits | None = None) -> Workspace:
    return Workspace(job / "repo.git", job / "workspace", BRANCH, limits=limits or WalkLimits())


def take_step(workspace: Workspace, head: str, info: CommitInfo = INFO) -> str:
    commit = workspace.commit(workspace.snapshot(head).tree, (head,), info)
    workspace.advance(commit, expected=head)
    return commit


def content_of(folder: Path) -> dict[str, object]:
    """Everything below a folder: file bytes and executable bits, link targets, empty folders."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_file():
            found[name] = (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
        elif not any(path.iterdir()):
            found[name] = "empty folder"
    return found


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "fix-login"


@pytest.fixture
def begun(job: Path, source_repo: Path) -> CreatedWorkspace:
    """A workspace made from the small source repository."""
    return create(job, SourceRequest(SourceKind.GIT, source_repo))


def witness_tree(folder: Path) -> str:
    """The tree that plain `git add -A` makes of a folder, in a repository of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        place = ["--git-dir", f"{scratch}/git", "--work-tree", str(folder)]
        git(folder, *place, "init", "--quiet", "--template=")
        git(folder, *place, "-c", "core.autocrlf=false", "add", "-A")
        return git(folder, *place, "write-tree").strip()


# --- creating ---


def test_a_git_source_gives_its_commit_as_the_baseline_and_its_files_byte_for_byte(
    begun: CreatedWorkspace, job: Path, source_repo: Path
) -> None:
    head = git(source_repo, "rev-parse", "HEAD").strip()
    assert begun.baseline == begun.source.commit == begun.workspace.head() == head
    assert (begun.source.kind, begun.source.branch, begun.source.uncommitted) == (SourceKind.GIT, "main", 0)
    shutil.rmtree(source_repo / ".git")
    assert content_of(job / "workspace") == content_of(source_repo)
    assert begun.workspace.log() == ()
    assert_sound(job)


def test_creating_from_git_leaves_the_source_as_it_was(job: Path, source_repo: Path) -> None:
    (source_repo / "README.md").write_text("changed\n", encoding="utf-8")
    (source_repo / "new file").write_text("x", encoding="utf-8")
    os.utime(source_repo / "src" / "calc.py", (1, 1))

    def state() -> dict[str, object]:
        files = {str(path): path.read_bytes() for path in (source_repo / ".git").rglob("*") if path.is_file()}
        return files | {str(path): path.stat().st_mtime_ns for path in source_repo.rglob("*")}

    before = state()
    created = create(job, SourceRequest(SourceKind.GIT, source_repo))
    assert state() == before
    assert created.source.uncommitted == 2
    assert (job / "workspace" / "README.md").read_text(encoding="utf-8").startswith("# Calc")


def test_the_evidence_repository_has_no_remote_no_hooks_and_only_its_own_refs(
    begun: CreatedWorkspace, job: Path, source_repo: Path
) -> None:
    repo = job / "repo.git"
    assert begun.workspace.refs() == {f"refs/heads/{BRANCH}": begun.baseline, "refs/logist/baseline": begun.baseline}
    assert git(repo, "for-each-ref", "--format=%(refname)").split() == sorted(begun.workspace.refs())
    assert git(repo, "remote") == ""
    assert str(source_repo) not in (repo / "config").read_text(encoding="utf-8")
    assert not (repo / "hooks").exists()
    assert git(repo, "symbolic-ref", "HEAD").strip() == f"refs/heads/{BRANCH}"


def test_a_folder_inside_a_repository_stands_for_the_whole_repository(job: Path, source_repo: Path) -> None:
    created = create(job, SourceRequest(SourceKind.GIT, source_repo / "src"))
    assert created.source.path == str(source_repo.resolve())
    assert (job / "workspace" / "README.md").exists()


@pytest.mark.parametrize("revision", ["HEAD~1", "v1", "main~1"])
def test_a_revision_of_the_source_can_be_chosen(job: Path, source_repo: Path, revision: str) -> None:
    git(source_repo, "tag", "v1", "HEAD~1")
    created = create(job, SourceRequest(SourceKind.GIT, source_repo, revision))
    assert created.baseline == git(source_repo, "rev-parse", "HEAD~1").strip()
    assert sorted(content_of(job / "workspace")) == ["README.md"]


@pytest.mark.parametrize("revision", ["nope", "--output=pwned", "-h", "HEAD:README.md", "main..main"])
def test_a_revision_that_is_none_is_refused_and_nothing_is_left(job: Path, source_repo: Path, revision: str) -> None:
    with pytest.raises(UsageProblem, match="no commit"):
        create(job, SourceRequest(SourceKind.GIT, source_repo, revision))
    assert list(job.iterdir()) == []


def test_a_source_without_commits_is_refused_and_nothing_is_left(job: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "young")
    (tmp_path / "young" / "draft").write_text("x", encoding="utf-8")
    with pytest.raises(UsageProblem, match="no commit yet"):
        create(job, SourceRequest(SourceKind.GIT, tmp_path / "young"))
    assert list(job.iterdir()) == []


def test_a_bare_source_works(job: Path, source_repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(source_repo), "bare.git")
    created = create(job, SourceRequest(SourceKind.GIT, tmp_path / "bare.git"))
    assert (created.source.path, created.source.uncommitted) == (str((tmp_path / "bare.git").resolve()), 0)
    assert (job / "workspace" / "src" / "calc.py").exists()


def test_a_linked_worktree_is_taken_at_its_own_head(job: Path, source_repo: Path, tmp_path: Path) -> None:
    git(source_repo, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), "HEAD~1")
    created = create(job, SourceRequest(SourceKind.GIT, tmp_path / "linked"))
    assert created.baseline == git(source_repo, "rev-parse", "HEAD~1").strip()
    assert (created.source.path, created.source.branch) == (str((tmp_path / "linked").resolve()), None)


def test_a_shallow_source_works_even_for_a_commit_that_no_ref_reaches(
    job: Path, source_repo: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", "--depth=1", source_repo.as_uri(), "shallow")
    shallow = tmp_path / "shallow"
    tree = git(shallow, "rev-parse", "HEAD^{tree}").strip()
    loose = git(shallow, "commit-tree", "-p", "HEAD", "-m", "unreached", tree).strip()
    created = create(job, SourceRequest(SourceKind.GIT, shallow, loose))
    assert created.baseline == loose
    take_step(created.workspace, created.baseline)
    assert_sound(job)


def test_objects_that_the_source_borrows_are_copied(job: Path, source_repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--shared", str(source_repo), "borrower")
    create(job, SourceRequest(SourceKind.GIT, tmp_path / "borrower"))
    shutil.rmtree(source_repo)
    assert_sound(job)


def test_the_evidence_survives_a_source_that_rewrites_its_history(
    begun: CreatedWorkspace, job: Path, source_repo: Path
) -> None:
    git(source_repo, "reset", "--quiet", "--hard", "HEAD~1")
    git(source_repo, "reflog", "expire", "--expire=now", "--all")
    git(source_repo, "gc", "--quiet", "--prune=now")
    assert_sound(job)
    assert begun.workspace.differs(begun.baseline) == ()


def test_a_sha256_source_is_refused_with_a_way_out(job: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--object-format=sha256", "modern")
    with pytest.raises(UsageProblem, match="only SHA-1"):
        create(job, SourceRequest(SourceKind.GIT, tmp_path / "modern"))


def test_a_folder_that_is_no_repository_is_refused_as_a_git_source(job: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(UsageProblem, match="can't be used as a git source"):
        create(job, SourceRequest(SourceKind.GIT, tmp_path / "plain"))
    with pytest.raises(UsageProblem, match="not a folder"):
        create(job, SourceRequest(SourceKind.GIT, tmp_path / "missing"))


def test_git_variables_of_the_caller_have_no_effect(
    job: Path, source_repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    created = create(job, SourceRequest(SourceKind.GIT, source_repo))
    (job / "workspace" / "new").write_text("x", encoding="utf-8")
    head = take_step(created.workspace, created.baseline)
    assert [change.path for change in created.workspace.changes(created.baseline, head)] == ["new"]
    assert not (tmp_path / "elsewhere").exists()


def test_a_submodule_is_an_empty_folder_and_named(job: Path, source_repo: Path, tmp_path: Path) -> None:
    link = git(source_repo, "rev-parse", "HEAD").strip()
    git(source_repo, "update-index", "--add", "--cacheinfo", f"160000,{link},vendor/lib")
    git(source_repo, "commit", "--quiet", "--message=Add a submodule")
    created = create(job, SourceRequest(SourceKind.GIT, source_repo))
    module = job / "workspace" / "vendor" / "lib"
    assert list(module.iterdir()) == []
    (module / "inside").write_text("x", encoding="utf-8")
    shot = created.workspace.snapshot(created.baseline)
    assert shot.changed == ()
    assert [(path, why) for path, why in shot.skipped] == [("vendor/lib", "a submodule: its content is not evidence")]
    assert created.workspace.restore(created.baseline) == ("vendor/lib/inside",)
    assert list(module.iterdir()) == []
    assert created.workspace.files(created.baseline)[-1].size is None


def test_a_folder_source_is_committed_without_its_git_folder_and_ignored_files(job: Path, source_repo: Path) -> None:
    (source_repo / ".gitignore").write_text("*.log\n", encoding="utf-8")
    (source_repo / "noise.log").write_text("x", encoding="utf-8")
    created = create(job, SourceRequest(SourceKind.FOLDER, source_repo))
    assert sorted(content_of(job / "workspace")) == [
        ".gitignore", "README.md", "src/calc.py", "tests/test_calc.py"
    ]  # fmt: skip
    assert created.skipped == ((".git", "git metadata"), ("noise.log", "ignored by .gitignore"))
    assert created.source.kind is SourceKind.FOLDER
    assert created.workspace.message_of(created.baseline) == "Start\n"
    assert_sound(job)


def test_a_folder_source_that_holds_the_job_itself_does_not_swallow_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    job = tmp_path / "jobs" / "one"
    created = create(job, SourceRequest(SourceKind.FOLDER, tmp_path))
    assert sorted(content_of(job / "workspace")) == ["file"]
    assert ("jobs/one", "the job's own folder") in created.skipped


def test_a_large_folder_goes_into_a_pack_that_git_reads(job: Path, tmp_path: Path) -> None:
    source = tmp_path / "many"
    source.mkdir()
    for number in range(200):
        (source / f"{number}.txt").write_text(f"{number}\n" * (number * 40), encoding="utf-8")
    created = create(job, SourceRequest(SourceKind.FOLDER, source))
    assert list((job / "repo.git" / "objects" / "pack").glob("*.idx"))
    assert_sound(job)
    assert content_of(job / "workspace") == content_of(source)
    assert reopen(job).read(created.baseline, "7.txt", 5) == b"7\n7\n7"


def test_an_empty_job_starts_with_an_empty_tree_and_the_same_inputs_give_the_same_commit(tmp_path: Path) -> None:
    first, second = create(tmp_path / "a"), create(tmp_path / "b")
    assert first.baseline == second.baseline
    assert content_of(tmp_path / "a" / "workspace") == {}
    assert_sound(tmp_path / "a")


def test_a_creation_that_fails_leaves_nothing_and_an_existing_workspace_is_not_touched(
    job: Path, source_repo: Path
) -> None:
    (source_repo / ".git" / "objects").rename(source_repo / "objects")
    (source_repo / ".git" / "objects").mkdir()
    with pytest.raises(UsageProblem):
        create(job, SourceRequest(SourceKind.GIT, source_repo))
    assert not job.exists() or list(job.iterdir()) == []
    create(job)
    before = content_of(job)
    with pytest.raises(WorkspaceFailed, match="already"):
        create(job)
    assert content_of(job) == before


def test_leftovers_of_a_killed_creation_are_in_nobodys_way(job: Path) -> None:
    (job / "repo.git.creating" / "objects").mkdir(parents=True)
    (job / "workspace.creating" / "deep" / "er").mkdir(parents=True)
    create(job)
    assert sorted(path.name for path in job.iterdir()) == ["evidence-cache", "repo.git", "workspace"]


def test_opening_a_repository_that_is_not_there_says_so(job: Path) -> None:
    with pytest.raises(WorkspaceFailed, match="no evidence repository"):
        reopen(job)


# --- a step ---


def test_a_step_is_a_commit_that_plain_git_shows(begun: CreatedWorkspace, job: Path) -> None:
    work, workspace = job / "workspace", begun.workspace
    (work / "README.md").unlink()
    (work / "src" / "calc.py").write_text("def add(a, b):\n    return a + b\n", encoding="utf-8")
    (work / "run").write_text("#!/bin/sh\n", encoding="utf-8")
    (work / "run").chmod(0o755)
    (work / "link").symlink_to("../outside")
    (work / "empty").mkdir()
    shot = workspace.snapshot(begun.baseline)
    assert (shot.changed, shot.skipped) == (("README.md", "link", "run", "src/calc.py"), ())
    commit = workspace.commit(shot.tree, (begun.baseline,), INFO)
    assert workspace.head() == begun.baseline
    workspace.advance(commit, expected=begun.baseline)
    repo = job / "repo.git"
    assert git(repo, "rev-parse", BRANCH).strip() == commit == workspace.head()
    assert git(repo, "log", "-1", "--format=%an|%cn|%at|%s|%(trailers:key=Logist-Step,valueonly)", commit).strip() == (
        "worker (playbook)|Logist|1714521600|Do it|1"
    )
    assert git(repo, "show", "--format=", "--raw", "--abbrev=4", commit).splitlines()[0].endswith("D\tREADME.md")
    assert git(repo, "ls-tree", commit, "run", "link").split()[::4] == ["120000", "100755"]
    assert git(repo, "show", f"{commit}:link") == "../outside"
    assert_sound(job)


def test_a_step_starts_no_process(begun: CreatedWorkspace, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = reopen(job)
    (job / "workspace" / "new").write_text("x", encoding="utf-8")

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"a process was started: {arguments}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "posix_spawn", refuse)
    monkeypatch.setattr(os, "fork", refuse)
    take_step(workspace, begun.baseline)
    assert len(workspace.log()) == 1


def test_only_what_changed_is_read_again_and_the_knowledge_survives_closing(
    begun: CreatedWorkspace, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = job / "workspace"
    settle(work)
    begun.workspace.snapshot(begun.baseline)
    begun.workspace.close()
    workspace = reopen(job)
    (work / "README.md").write_text("other\n", encoding="utf-8")
    read = watch_reading(monkeypatch)
    assert workspace.snapshot(begun.baseline).changed == ("README.md",)
    assert read == ["README.md"]


def watch_reading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the workspace's files that are opened from now on."""
    read: list[str] = []
    plain_open = os.open

    def watched(path: object, flags: int, *rest: int, **options: int) -> int:
        if options.get("dir_fd") is not None and not flags & os.O_DIRECTORY:
            read.append(str(path))
        return plain_open(path, flags, *rest, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "open", watched)
    return read


def settle(folder: Path) -> None:
    """Wait until the file system's clock has left the times of the files behind, so that none of them is racy."""
    newest = max((path.lstat().st_ctime_ns for path in folder.rglob("*")), default=0)
    probe = folder.parent / "probe"
    while True:
        probe.write_bytes(b"")
        now = probe.stat().st_ctime_ns
        probe.unlink()
        if now > newest + 50_000_000:
            return


def test_a_file_whose_times_may_hide_a_change_is_read_again_until_the_clock_has_moved_on(
    begun: CreatedWorkspace, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a clock tick is long, a second change within it leaves no trace in the file's times."""
    (job / "workspace" / "README.md").unlink()
    monkeypatch.setattr(restore, "settled_before", lambda folder: 0)
    monkeypatch.setattr(workspace_utils, "settled_before", lambda folder: 0)
    begun.workspace.restore(begun.baseline)
    read = watch_reading(monkeypatch)
    begun.workspace.snapshot(begun.baseline)
    begun.workspace.snapshot(begun.baseline)
    assert read.count("README.md") == 2
    monkeypatch.setattr(workspace_utils, "settled_before", lambda folder: 1 << 62)
    begun.workspace.snapshot(begun.baseline)
    begun.workspace.snapshot(begun.baseline)
    assert read.count("README.md") == 3


def test_what_changes_after_the_clock_was_read_is_later_by_more_than_its_tick(tmp_path: Path) -> None:
    settled = cache.settled_before(tmp_path)
    (tmp_path / "file").touch()
    assert (tmp_path / "file").stat().st_ctime_ns - settled >= 20_000_000


@pytest.mark.parametrize("damage", ["torn", "flipped", "other version", "gone", "not json"])
def test_a_damaged_cache_costs_time_and_nothing_else(begun: CreatedWorkspace, job: Path, damage: str) -> None:
    cache = job / "evidence-cache"
    begun.workspace.close()
    content = cache.read_bytes()
    changed = {
        "torn": content[: len(content) // 2],
        "flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "other version": content.replace(b'"version":1', b'"version":9'),
        "not json": b"\0" * 100,
    }
    cache.unlink()
    if damage in changed:
        cache.write_bytes(changed[damage])
    workspace = reopen(job)
    assert workspace.snapshot(begun.baseline).changed == ()
    (job / "workspace" / "new").write_text("x", encoding="utf-8")
    assert workspace.snapshot(begun.baseline).changed == ("new",)


def test_the_same_inputs_give_the_same_commit_id(begun: CreatedWorkspace, job: Path) -> None:
    tree = begun.workspace.snapshot(begun.baseline).tree
    first = begun.workspace.commit(tree, (begun.baseline,), INFO)
    assert reopen(job).commit(tree, (begun.baseline,), INFO) == first


def test_a_step_that_was_cut_short_before_the_ref_moved_can_be_taken_again(begun: CreatedWorkspace, job: Path) -> None:
    (job / "workspace" / "new").write_text("x", encoding="utf-8")
    commit = begun.workspace.commit(begun.workspace.snapshot(begun.baseline).tree, (begun.baseline,), INFO)
    assert_sound(job)
    again = reopen(job)
    assert again.head() == begun.baseline
    assert take_step(again, begun.baseline) == commit
    again.advance(commit, expected=begun.baseline)
    assert again.head() == commit
    assert_sound(job)


@pytest.mark.parametrize("leftover", ["refs/heads/logist/fix-login.lock", "objects/tmp_obj_left"])
def test_what_a_killed_run_left_half_written_does_not_stop_the_next(
    begun: CreatedWorkspace, job: Path, leftover: str
) -> None:
    (job / "repo.git" / leftover).write_text("half", encoding="utf-8")
    head = take_step(reopen(job), begun.baseline)
    assert git(job / "repo.git", "rev-parse", BRANCH).strip() == head


def test_the_branch_moves_only_from_where_it_is_expected_and_only_to_a_commit(begun: CreatedWorkspace) -> None:
    workspace = begun.workspace
    first = take_step(workspace, begun.baseline)
    other = workspace.commit(workspace.tree_of(first), (begun.baseline,), START)
    with pytest.raises(WorkspaceFailed, match="not at"):
        workspace.advance(other, expected=begun.baseline)
    assert workspace.head() == first
    with pytest.raises(WorkspaceFailed, match="no object"):
        workspace.advance("0" * 40, expected=first)
    with pytest.raises(WorkspaceFailed, match="damaged"):
        workspace.advance(workspace.tree_of(first), expected=first)
    for bad in ("HEAD", first[:12], "--all", f"{first}\n"):
        with pytest.raises(WorkspaceFailed, match="not a full commit id"):
            workspace.advance(other, expected=bad)


@pytest.mark.parametrize(
    "name",
    ["refs/heads/main", "HEAD", "refs/logist/../heads/main", "refs/logist/a b", "refs/logist/x.lock", "refs/logist//x"],
)
def test_a_ref_outside_or_of_no_good_name_is_refused(begun: CreatedWorkspace, name: str) -> None:
    with pytest.raises(WorkspaceFailed, match="refs"):
        begun.workspace.set_ref(name, begun.baseline)
    assert set(begun.workspace.refs()) == {f"refs/heads/{BRANCH}", "refs/logist/baseline"}


def test_packed_refs_and_a_repacked_repository_are_read(begun: CreatedWorkspace, job: Path) -> None:
    repo = job / "repo.git"
    (job / "workspace" / "README.md").write_text("line\n" * 500, encoding="utf-8")
    first = take_step(begun.workspace, begun.baseline)
    (job / "workspace" / "README.md").write_text("line\n" * 500 + "end\n", encoding="utf-8")
    second = take_step(begun.workspace, first)
    git(repo, "pack-refs", "--all")
    git(repo, "repack", "-a", "-d", "-q", "--depth=50", "--window=50")
    git(repo, "prune-packed")
    (job / "evidence-cache").unlink()
    workspace = reopen(job)
    assert workspace.head() == second
    assert workspace.refs()[f"refs/heads/{BRANCH}"] == second
    assert workspace.read(first, "README.md", 10**6) == b"line\n" * 500
    assert workspace.read(second, "README.md", 10**6).endswith(b"line\nend\n")
    assert workspace.differs(second) == ()
    take_step(workspace, second)
    assert_sound(job)


def test_the_log_shows_the_commits_since_the_baseline_newest_first(begun: CreatedWorkspace, job: Path) -> None:
    first = take_step(begun.workspace, begun.baseline)
    second = take_step(begun.workspace, first, CommitInfo("supervisor", "Agree", INFO.at))
    log = begun.workspace.log()
    assert [(entry.id, entry.subject) for entry in log] == [(second, "Agree"), (first, "Do it")]
    assert log[1].trailers == (("Logist-Step", "1"), ("Logist-Role", "worker"))
    assert (log[1].at, log[1].author) == (INFO.at, "worker (playbook) <noreply@logist.invalid>")
    assert begun.workspace.log(limit=1) == log[:1]
    assert git(job / "repo.git", "rev-list", f"{begun.baseline}..{BRANCH}").split() == [second, first]


@pytest.mark.parametrize("author", ["a <b> c", "", "line\nbreak", "  . ", "caf\u00e9", "\ud800"])
def test_no_author_and_no_message_makes_a_commit_that_git_refuses(job: Path, author: str) -> None:
    created = create(job)
    info = CommitInfo(author, f"{author}\0\n\nbody \ud800", INFO.at)
    take_step(created.workspace, created.baseline, info)
    assert_sound(job)


def test_a_full_disk_is_a_storage_failure_and_the_next_attempt_succeeds(
    begun: CreatedWorkspace, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job / "workspace" / "new").write_text("x", encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(objects.os, "fsync", full)
        with pytest.raises(StorageFailed, match="No space left"):
            begun.workspace.snapshot(begun.baseline)
    assert not list((job / "repo.git" / "objects").rglob("tmp_*"))
    take_step(begun.workspace, begun.baseline)
    assert_sound(job)


@pytest.mark.parametrize("number", [5, 23, 24, 12])
def test_trouble_of_the_machine_is_never_taken_for_a_file_to_skip(
    begun: CreatedWorkspace, job: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (job / "workspace" / "README.md").write_text("changed", encoding="utf-8")
    plain_open = os.open

    def failing(path: object, flags: int, *rest: int, **options: int) -> int:
        if path == "README.md":
            raise OSError(number, os.strerror(number))
        return plain_open(path, flags, *rest, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises((StorageFailed, WorkspaceFailed)) as raised:
        begun.workspace.snapshot(begun.baseline)
    assert isinstance(raised.value, StorageFailed) == (number == 5)


# --- .gitignore ---


def test_ignored_paths_are_left_out_and_named_once_at_their_top(begun: CreatedWorkspace, job: Path) -> None:
    work = job / "workspace"
    (work / ".gitignore").write_text("build/\n*.log\n!keep.log\n", encoding="utf-8")
    for name in ("build/a/b", "build/c", "src/x.log", "src/keep.log"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("x", encoding="utf-8")
    shot = begun.workspace.snapshot(begun.baseline)
    assert shot.changed == (".gitignore", "src/keep.log")
    assert shot.skipped == (("build", "ignored by .gitignore"), ("src/x.log", "ignored by .gitignore"))


def test_what_the_base_holds_or_the_caller_names_is_never_ignored(begun: CreatedWorkspace, job: Path) -> None:
    work = job / "workspace"
    (work / ".gitignore").write_text("*\n", encoding="utf-8")
    (work / "src" / "calc.py").write_text("changed", encoding="utf-8")
    (work / "out" / "deep").mkdir(parents=True)
    (work / "out" / "deep" / "report.txt").write_text("x", encoding="utf-8")
    (work / "out" / "other").write_text("x", encoding="utf-8")
    (work / "src" / "new.py").write_text("x", encoding="utf-8")
    shot = begun.workspace.snapshot(begun.baseline, force=["out/deep/report.txt"])
    assert shot.changed == ("out/deep/report.txt", "src/calc.py")
    assert [path for path, _ in shot.skipped] == [".gitignore", "out/other", "src/new.py"]
    kept = begun.workspace.commit(shot.tree, (begun.baseline,), INFO)
    (work / "out" / "deep" / "report.txt").write_text("y", encoding="utf-8")
    assert begun.workspace.snapshot(kept).changed == ("out/deep/report.txt",)


def test_the_number_of_ignored_paths_that_are_named_is_bounded(job: Path) -> None:
    created = create(job)
    work = job / "workspace"
    (work / ".gitignore").write_text("*.o\n", encoding="utf-8")
    for number in range(1203):
        (work / f"{number}.o").touch()
    os.mkfifo(work / "pipe")
    skipped = created.workspace.snapshot(created.baseline).skipped
    assert len(skipped) == 1002
    assert skipped[-1] == ("...", "... and 203 more ignored by .gitignore")
    assert ("pipe", "not a regular file") in skipped


@pytest.mark.parametrize(
    "rules",
    [
        ["a/"], ["/a"], ["src/a"], ["*", "!*/", "!*.c"], ["/*", "!/src"], ["src/*", "!src/a.c"], ["src/**"], ["**/b"],
        ["src/**/b"], ["src", "!src/a.c"], ["*.c", "!a.c"], ["[/[ab]"], ["src\\/deep"], ["[!a]*"], ["a.?"],
        ["\\!x", "#a"], ["x y  "], ["x\\ y\\ "], ["/"], ["//"], ["**"], ["/**"],
        ["src/deep/"], ["deep/b"], ["**/"], ["*/"], ["[a-c]"],
        ["[[:upper:]]", "[[:nope:]]"], ["[]a]"], ["\ufeffa"], ["a\\"], ["!a", "a"], ["a", "!a"], ["*.[ch]", "!*.h"],
    ],
)  # fmt: skip
def test_an_ignore_rule_means_what_it_means_to_git(job: Path, rules: list[str]) -> None:
    created = create(job)
    work = job / "workspace"
    names = [
        "a",
        "b",
        "B",
        "a.c",
        "a.h",
        "x y",
        "!x",
        "#a",
        "]",
        "src/a",
        "src/a.c",
        "src/b/c",
        "src/deep/b",
        "a\\",
        "o/a/b",
    ]
    plant(work, dict.fromkeys(names, b"x"))
    (work / ".gitignore").write_text("\n".join(rules), encoding="utf-8")
    shot = created.workspace.snapshot(created.baseline)
    assert shot.tree == witness_tree(work), git(job / "repo.git", "ls-tree", "-r", "--name-only", shot.tree)


NAMES = ["a", "b", "ab", "a.c", "b.o", "build", "x y", "[z]", "!a", "#a", "a\\b", "é", "src", "-a"]
PIECES = ["a", "b", "/", "*", "**", "?", "!", "#", "[ab]", "[!a]", "[[:alpha:]]", "\\", " ", ".o", "é", "["]
#: `a**` as a part of a path means something to git that its manual denies; Logist follows the manual.
PATTERNS = (
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join).filter(lambda text: not re.search(r"[^/!]\*\*", text))
)


@given(
    files=st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), min_size=1, max_size=6),
    rules=st.lists(PATTERNS, min_size=1, max_size=4),
    inner=st.lists(PATTERNS, max_size=2),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ignore_rules_mean_what_they_mean_to_git(files: list[list[str]], rules: list[str], inner: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        job = Path(name)
        created = create(job)
        work = job / "workspace"
        plant(work, {"/".join(parts): b"x" for parts in files})
        (work / ".gitignore").write_text("\n".join(rules) + "\n", encoding="utf-8")
        if inner and (work / "src").is_dir():
            (work / "src" / ".gitignore").write_text("\r\n".join(inner), encoding="utf-8")
        shot = created.workspace.snapshot(created.baseline, force=())
        assert shot.tree == witness_tree(work), git(job / "repo.git", "ls-tree", "-r", "--name-only", shot.tree)


def plant(folder: Path, files: dict[str, bytes]) -> None:
    """Write files as far as their names don't exclude each other."""
    for name, content in files.items():
        path = folder / name
        if path.is_dir() or any(parent.is_file() for parent in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


# --- restoring ---


def test_restoring_brings_back_content_modes_and_links_and_removes_the_rest(begun: CreatedWorkspace, job: Path) -> None:
    work = job / "workspace"
    (work / "run").write_text("#!/bin/sh\n", encoding="utf-8")
    (work / "run").chmod(0o755)
    (work / "link").symlink_to("README.md")
    head = take_step(begun.workspace, begun.baseline)
    before = content_of(work)
    (work / "run").chmod(0o644)
    (work / "link").unlink()
    (work / "link").mkdir()
    (work / "link" / "inside").write_text("x", encoding="utf-8")
    shutil.rmtree(work / "src")
    (work / "src").write_text("a file now", encoding="utf-8")
    (work / "README.md").unlink()
    os.mkfifo(work / "pipe")
    git(work, "init", "--quiet", "nested")
    git(work, "init", "--quiet", ".")
    (work / ".logist").mkdir()
    (work / ".logist" / "reply.json").write_text("{}", encoding="utf-8")
    touched = begun.workspace.restore(head)
    (work / ".logist" / "reply.json").unlink()
    (work / ".logist").rmdir()
    assert content_of(work) == before
    assert set(touched) == {".git", "README.md", "link", "nested", "pipe", "run", "src", "src/calc.py"}
    assert begun.workspace.differs(head) == ()
    assert sorted(path.name for path in job.iterdir()) == ["evidence-cache", "repo.git", "workspace"]


def test_restoring_leaves_ignored_files_alone_unless_they_are_in_the_way(begun: CreatedWorkspace, job: Path) -> None:
    work = job / "workspace"
    (work / ".gitignore").write_text("*.log\ncache/\n", encoding="utf-8")
    head = take_step(begun.workspace, begun.baseline)
    for name in ("a.log", "cache/x", "new/b.log", "new/c.txt", "gone/d.txt"):
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text("x", encoding="utf-8")
    assert begun.workspace.restore(head) == ("gone", "gone/d.txt", "new/c.txt")
    assert {"a.log", "cache/x", "new/b.log"} < set(content_of(work))
    # Back to where nothing was ignored: what the rules of that commit don't ignore goes.
    begun.workspace.restore(begun.baseline)
    assert sorted(content_of(work)) == ["README.md", "src/calc.py", "tests/test_calc.py"]


def test_an_ignore_file_of_the_agent_does_not_save_what_it_left(begun: CreatedWorkspace, job: Path) -> None:
    work = job / "workspace"
    (work / ".gitignore").write_text("*\n", encoding="utf-8")
    (work / "junk").write_text("x", encoding="utf-8")
    assert begun.workspace.restore(begun.baseline) == (".gitignore", "junk")


def test_a_lost_workspace_is_restored_whole(begun: CreatedWorkspace, job: Path) -> None:
    before = content_of(job / "workspace")
    shutil.rmtree(job / "workspace")
    begun.workspace.restore(begun.baseline)
    assert content_of(job / "workspace") == before


def test_restoring_what_is_already_there_touches_nothing(begun: CreatedWorkspace, job: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in (job / "workspace").rglob("*")}
    assert begun.workspace.restore(begun.baseline) == ()
    assert {path: path.stat().st_mtime_ns for path in (job / "workspace").rglob("*")} == times


def test_bytes_come_back_exactly_whatever_attributes_say(job: Path) -> None:
    created = create(job)
    work = job / "workspace"
    (work / ".gitattributes").write_text("* text eol=crlf ident working-tree-encoding=UTF-16\n", encoding="utf-8")
    (work / "a.txt").write_bytes(b"one\ntwo\r\n$Id$\n")
    head = take_step(created.workspace, created.baseline)
    (work / "a.txt").unlink()
    created.workspace.restore(head)
    assert (work / "a.txt").read_bytes() == b"one\ntwo\r\n$Id$\n"


def test_salvage_keeps_partial_work_and_says_when_there_is_none(begun: CreatedWorkspace, job: Path) -> None:
    workspace = begun.workspace
    assert workspace.salvage("1.1", begun.baseline, INFO) is None
    (job / "workspace" / "half").write_text("x", encoding="utf-8")
    commit = workspace.salvage("1.1", begun.baseline, INFO)
    assert commit is not None
    assert workspace.refs()["refs/logist/salvage/1.1"] == commit
    assert workspace.head() == begun.baseline
    assert git(job / "repo.git", "show", f"{commit}:half") == "x"


CONTENT = st.one_of(st.binary(max_size=40), st.sampled_from([b"same", b"a\r\n", b"\0"]))
PARTS = st.sampled_from(["a", "b", "a.b", "a-b", "é", " ", "\x01", os.fsdecode(b"\xff")])
TREES = st.dictionaries(
    st.lists(PARTS, min_size=1, max_size=3).map("/".join),
    CONTENT,
    max_size=6,
)  # fmt: skip


@given(first=TREES, second=TREES)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_snapshot_restore_snapshot_is_the_identity_and_git_agrees(
    first: dict[str, bytes], second: dict[str, bytes]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        job = Path(name)
        created = create(job)
        work, workspace = job / "workspace", created.workspace
        plant(work, first)
        one = take_step(workspace, created.baseline)
        assert workspace.tree_of(one) == witness_tree(work)
        planted = {path: content for path, content in content_of(work).items() if content != "empty folder"}
        shutil.rmtree(work)
        work.mkdir()
        plant(work, second)
        two = take_step(workspace, one)
        assert workspace.tree_of(two) == witness_tree(work)
        workspace.restore(one)
        assert content_of(work) == planted
        assert workspace.snapshot(two).tree == workspace.tree_of(one)
        assert reopen(job).snapshot(one).changed == ()
        assert_sound(job)


# --- looking ---


def test_changes_and_diff_tell_what_happened(begun: CreatedWorkspace, job: Path) -> None:
    work = job / "workspace"
    (work / "README.md").unlink()
    (work / "src" / "calc.py").write_text("one\ntwo\n", encoding="utf-8")
    (work / "data").write_bytes(b"\0\1")
    (work / "tests" / "test_calc.py").unlink()
    (work / "tests" / "test_calc.py").symlink_to("x")
    head = take_step(begun.workspace, begun.baseline)
    changes = begun.workspace.changes(begun.baseline, head)
    assert [(change.path, change.kind) for change in changes] == [
        ("README.md", "D"), ("data", "A"), ("src/calc.py", "M"), ("tests/test_calc.py", "T")
    ]  # fmt: skip
    assert (changes[1].insertions, changes[1].deletions) == (None, None)
    assert (changes[2].insertions, changes[2].deletions) == (2, 3)
    patch = begun.workspace.diff(begun.baseline, head, paths=["src"])
    assert "+two" in patch
    assert "README" not in patch
    assert "src/calc.py" in begun.workspace.diff(begun.baseline, head, stat=True)
    assert begun.workspace.diff(head, head) == ""
    with pytest.raises(WorkspaceFailed, match="not a full commit id"):
        begun.workspace.diff("--output=pwned", head)


def test_files_and_their_content_are_read_from_a_commit(begun: CreatedWorkspace, job: Path) -> None:
    files = begun.workspace.files(begun.baseline)
    assert [file.path for file in files] == ["README.md", "src/calc.py", "tests/test_calc.py"]
    assert (files[0].mode, files[0].size) == ("100644", 22)
    assert begun.workspace.read(begun.baseline, "README.md", 6) == b"# Calc"
    for missing in ("nope", "src", "src/../README.md", "README.md/x"):
        with pytest.raises(WorkspaceFailed, match="no file"):
            begun.workspace.read(begun.baseline, missing, 10)
    assert begun.workspace.exists(begun.baseline)
    assert not begun.workspace.exists("1" * 40)


def test_differs_names_what_differs_and_stores_nothing(begun: CreatedWorkspace, job: Path) -> None:
    (job / "workspace" / "new").write_text("only here", encoding="utf-8")
    (job / "workspace" / "README.md").unlink()
    objects = sorted((job / "repo.git").rglob("*"))
    assert begun.workspace.differs(begun.baseline) == ("README.md", "new")
    assert sorted((job / "repo.git").rglob("*")) == objects


# --- handing over ---


@pytest.fixture
def done(begun: CreatedWorkspace, job: Path) -> str:
    """One finished step; its commit."""
    (job / "workspace" / "new.txt").write_text("work\n", encoding="utf-8")
    return take_step(begun.workspace, begun.baseline)


def test_a_branch_is_delivered_and_nothing_else_changes_in_the_source(
    begun: CreatedWorkspace, source_repo: Path, done: str
) -> None:
    config = (source_repo / ".git" / "config").read_bytes()
    begun.workspace.deliver_branch(source_repo, "fix/login", done)
    assert git(source_repo, "rev-parse", "fix/login").strip() == done
    assert git(source_repo, "for-each-ref", "--format=%(refname)").split() == [
        "refs/heads/fix/login",
        "refs/heads/main",
    ]
    assert git(source_repo, "status", "--porcelain") == ""
    assert (source_repo / ".git" / "config").read_bytes() == config
    assert not (source_repo / ".git" / "FETCH_HEAD").exists()
    begun.workspace.deliver_branch(source_repo, "fix/login", done)


def test_hooks_of_the_source_do_not_run_on_delivery(
    begun: CreatedWorkspace, source_repo: Path, tmp_path: Path, done: str
) -> None:
    hook = source_repo / ".git" / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n", encoding="utf-8")
    hook.chmod(0o755)
    begun.workspace.deliver_branch(source_repo, "fix", done)
    assert not (tmp_path / "ran").exists()


def test_a_branch_that_exists_or_is_checked_out_is_not_overwritten(
    begun: CreatedWorkspace, source_repo: Path, tmp_path: Path, done: str
) -> None:
    git(source_repo, "branch", "taken", "HEAD~1")
    with pytest.raises(WorkspaceFailed, match="ends with something else"):
        begun.workspace.deliver_branch(source_repo, "taken", done)
    assert git(source_repo, "rev-parse", "taken") == git(source_repo, "rev-parse", "HEAD~1")
    git(tmp_path, "init", "--quiet", "--initial-branch=unborn", "young")
    with pytest.raises(WorkspaceFailed, match="checked out"):
        begun.workspace.deliver_branch(tmp_path / "young", "unborn", done)
    for bad in ("-f", "a..b", "x.lock", "a b", ""):
        with pytest.raises(WorkspaceFailed):
            begun.workspace.deliver_branch(source_repo, bad, done)


def test_a_patch_applies_to_the_source(begun: CreatedWorkspace, source_repo: Path, tmp_path: Path, done: str) -> None:
    target = tmp_path / "work.patch"
    begun.workspace.write_patch(target, begun.baseline, done)
    git(source_repo, "am", "--quiet", str(target))
    assert git(source_repo, "rev-parse", "HEAD^{tree}").strip() == begun.workspace.tree_of(done)
    with pytest.raises(WorkspaceFailed, match="exists already"):
        begun.workspace.write_patch(target, begun.baseline, done)
    with pytest.raises(WorkspaceFailed, match="nothing to deliver"):
        begun.workspace.write_patch(tmp_path / "none", done, done)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobs", "source", "work.patch"]


@pytest.mark.parametrize("whole", [False, True])
def test_a_bundle_can_be_fetched_from(
    begun: CreatedWorkspace, source_repo: Path, tmp_path: Path, done: str, whole: bool
) -> None:
    target = tmp_path / "work.bundle"
    begun.workspace.write_bundle(target, None if whole else begun.baseline, done, "fix")
    into = source_repo
    if whole:
        git(tmp_path, "init", "--quiet", "fresh")
        into = tmp_path / "fresh"
    git(into, "bundle", "verify", "--quiet", str(target))
    git(into, "-c", "transfer.fsckObjects=true", "fetch", "--quiet", str(target), "refs/heads/fix:refs/heads/fix")
    assert git(into, "rev-parse", "fix").strip() == done
    with pytest.raises(WorkspaceFailed, match="exists already"):
        begun.workspace.write_bundle(target, None, done, "fix")


# --- evidence files that an agent names ---


def test_a_regular_file_of_the_workspace_is_good_evidence(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "two words é.txt").write_text("x", encoding="utf-8")
    assert check_evidence_path(tmp_path, "out/two words é.txt") is None


def _nothing(work: Path) -> None:
    pass


def _fifo(work: Path) -> None:
    os.mkfifo(work / "x")


def _link(work: Path) -> None:
    (work / "x").symlink_to("/etc/passwd")


def _linked_folder(work: Path) -> None:
    (work / "x").symlink_to(work)
    (work / "file").write_text("x", encoding="utf-8")


def _folder(work: Path) -> None:
    (work / "x").mkdir()


def _own(work: Path) -> None:
    for folder in (".logist", ".git", "sub/.GIT"):
        (work / folder).mkdir(parents=True)
        (work / folder / "file").write_text("x", encoding="utf-8")


@pytest.mark.parametrize(
    ("prepare", "name"),
    [
        (_nothing, "x"), (_nothing, ""), (_nothing, "."), (_nothing, ".."), (_nothing, "../x"), (_nothing, "a/../x"),
        (_nothing, "/etc/passwd"), (_nothing, "a//b"), (_nothing, "x\0y"), (_nothing, "x\ny"), (_nothing, "n" * 300),
        (_nothing, "/".join("n" * 200 for _ in range(40))), (_nothing, "\ud800"),
        (_fifo, "x"), (_fifo, "x/y"), (_link, "x"),
        (_linked_folder, "x/file"), (_folder, "x"),
        (_folder, "x/"), (_own, ".logist/file"), (_own, ".git/file"),
        (_own, "sub/.GIT/file"),
    ],
)  # fmt: skip
def test_a_bad_evidence_path_is_refused_with_a_sentence(
    tmp_path: Path, prepare: Callable[[Path], None], name: str
) -> None:
    prepare(tmp_path)
    why = check_evidence_path(tmp_path, name)
    assert why is not None
    assert why.startswith("It ")
    assert why.endswith(".")
