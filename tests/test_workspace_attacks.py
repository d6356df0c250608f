"""What a hostile worker may leave in its workspace: nothing of it runs, leaks, hides or stops the evidence."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from logist.models.manifest import SourceKind
from logist.workspace.names import is_git_metadata, refused_content
from logist.workspace_creation import SourceRequest, create_workspace
from logist.workspace_utils import CommitInfo, Snapshot, WalkLimits, Workspace

BRANCH = "logist/attacked"
INFO = CommitInfo("worker (evil)", "Attack", datetime(2024, 5, 1, tzinfo=UTC))
SECRET = "the content of a file outside"


def git(folder: Path, *arguments: str, check: bool = True) -> str:
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, check=False)
    assert not check or done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8", "surrogateescape")


class Field:
    """A job from the small source repository, a marker that no attack may write, and a secret that none may take."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.marker = folder / "marker"
        self.outside = folder / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text(SECRET, encoding="utf-8")
        self.source = source
        self.repo, self.work = folder / "job" / "repo.git", folder / "job" / "workspace"
        request = SourceRequest(SourceKind.GIT, source)
        created = create_workspace(self.repo, self.work, BRANCH, source=request, info=INFO)
        self.workspace, self.base = created.workspace, created.baseline

    def script(self, name: str = "script") -> Path:
        """A program that writes the marker."""
        path = self.outside / name
        path.write_text(f"#!/bin/sh\ntouch '{self.marker}'\ncat\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    def step(self) -> tuple[Snapshot, str]:
        """Take the evidence, look at it, restore it and deliver it: everything that touches what the worker left."""
        workspace = self.workspace
        shot = workspace.snapshot(self.base)
        commit = workspace.commit(shot.tree, (self.base,), INFO)
        workspace.advance(commit, expected=self.base)
        workspace.differs(commit)
        workspace.diff(self.base, commit)
        workspace.changes(self.base, commit)
        workspace.files(commit)
        workspace.log()
        workspace.write_patch(self.outside / "patch", self.base, commit)
        workspace.deliver_branch(self.source, "delivered", commit)
        workspace.restore(self.base)
        assert workspace.differs(self.base) == ()
        workspace.restore(commit)
        assert workspace.snapshot(commit).tree == shot.tree
        workspace.close()
        return shot, commit

    def assert_unharmed(self) -> None:
        """No marker, no secret in any object, nothing changed outside, and the evidence is sound for plain git."""
        assert not self.marker.exists()
        assert (self.outside / "secret").read_text(encoding="utf-8") == SECRET
        checked = subprocess.run(
            ["git", "-C", self.repo, "fsck", "--strict", "--no-dangling"], capture_output=True, check=False, text=True
        )
        # git remarks on a link of a special name; it takes it all the same.
        remarks = [line for line in checked.stderr.splitlines() if not line.endswith("is a symlink")]
        assert (checked.returncode, remarks) == (0, [])
        objects = git(self.repo, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
        assert not any(SECRET in git(self.repo, "cat-file", "-p", name) for name in objects)


@pytest.fixture
def field(tmp_path: Path, source_repo: Path) -> Field:
    return Field(tmp_path, source_repo)


def _own_repository(field: Field) -> None:
    git(field.work, "init", "--quiet", ".")


def _hooks(field: Field) -> None:
    _own_repository(field)
    for name in ("pre-commit", "post-index-change", "reference-transaction", "post-checkout", "pre-auto-gc"):
        shutil.copy2(field.script(), field.work / ".git" / "hooks" / name)


def _configured(key: str, value: str | None = None) -> Callable[[Field], None]:
    def plant(field: Field) -> None:
        _own_repository(field)
        git(field.work, "config", key, value or str(field.script()))

    plant.__name__ = key
    return plant


def _filters(field: Field) -> None:
    _own_repository(field)
    for kind in ("clean", "smudge", "process"):
        git(field.work, "config", f"filter.evil.{kind}", str(field.script()))
    git(field.work, "config", "diff.evil.textconv", str(field.script()))
    git(field.work, "config", "merge.evil.driver", str(field.script()))
    attributes = "* filter=evil diff=evil merge=evil text eol=crlf ident working-tree-encoding=UTF-16\n"
    (field.work / ".gitattributes").write_text(attributes, encoding="utf-8")
    (field.work / "crlf.txt").write_bytes(b"a\r\nb\n$Id$\n")


def _work_tree_elsewhere(field: Field) -> None:
    _own_repository(field)
    git(field.work, "config", "core.worktree", str(field.outside))


def _git_file(field: Field) -> None:
    git(field.outside, "init", "--quiet", "evil")
    git(field.outside / "evil", "config", "core.fsmonitor", str(field.script()))
    git(field.outside / "evil", "config", "core.hooksPath", str(field.outside))
    field.script("pre-commit")
    (field.work / ".git").write_text(f"gitdir: {field.outside}/evil/.git\n", encoding="utf-8")


def _included_configuration(field: Field) -> None:
    _own_repository(field)
    (field.work / "extra").write_text(f"[core]\n\tfsmonitor = {field.script()}\n", encoding="utf-8")
    git(field.work, "config", "include.path", "../extra")


def _nested(field: Field) -> None:
    git(field.work, "init", "--quiet", "nested")
    (field.work / "nested" / "file").write_text("beside a nested repository", encoding="utf-8")
    git(field.work / "nested", "config", "core.fsmonitor", str(field.script()))
    git(field.work / "nested", "add", "file")
    git(field.work / "nested", "-c", "core.fsmonitor=false", "commit", "--quiet", "-m", "x")
    field.marker.unlink(missing_ok=True)


def _index_lock(field: Field) -> None:
    _own_repository(field)
    (field.work / ".git" / "index.lock").touch()
    (field.work / ".git" / "index").write_bytes(b"DIRC broken")
    (field.work / ".git" / "HEAD").unlink()


def _links_out(field: Field) -> None:
    (field.work / "secret").symlink_to(field.outside / "secret")
    (field.work / "folder").symlink_to(field.outside)
    shutil.rmtree(field.work / "src")
    (field.work / "src").symlink_to(field.outside)
    (field.work / "loop").symlink_to("loop")
    (field.work / ".gitignore").symlink_to(field.outside / "secret")
    (field.work / "long").symlink_to("x" * 4000)


def _special_files(field: Field) -> None:
    os.mkfifo(field.work / "pipe")
    os.mkfifo(field.work / "sub-pipe")
    (field.work / "README.md").unlink()
    os.mkfifo(field.work / "README.md")
    listening = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(field.work)
    try:
        listening.bind("socket")
    finally:
        os.chdir(here)
        listening.close()


def _odd_modes(field: Field) -> None:
    (field.work / "shut").mkdir()
    (field.work / "shut" / "file").write_text("x", encoding="utf-8")
    (field.work / "shut" / "file").chmod(0)
    (field.work / "shut").chmod(0o500)
    (field.work / "setuid").write_text("x", encoding="utf-8")
    (field.work / "setuid").chmod(0o6755)


def _mail_map_and_export(field: Field) -> None:
    (field.work / ".mailmap").symlink_to(field.outside / "secret")
    (field.work / ".gitattributes").write_text("* export-ignore export-subst\n", encoding="utf-8")


ATTACKS = [
    _hooks,
    _configured("core.fsmonitor"),
    _configured("core.hooksPath", "."),
    _configured("diff.external"),
    _configured("core.sshCommand"),
    _configured("core.pager"),
    _configured("gpg.program"),
    _configured("core.alternateRefsCommand"),
    _configured("uploadpack.packObjectsHook"),
    _filters,
    _work_tree_elsewhere,
    _git_file,
    _included_configuration,
    _nested,
    _index_lock,
    _links_out,
    _special_files,
    _odd_modes,
    _mail_map_and_export,
]


@pytest.mark.parametrize("plant", ATTACKS, ids=lambda plant: plant.__name__.strip("_"))
def test_nothing_that_a_worker_leaves_runs_or_leaks_or_stops_the_evidence(
    field: Field, plant: Callable[[Field], None]
) -> None:
    (field.work / "evidence").write_text("seen", encoding="utf-8")
    plant(field)
    shot, commit = field.step()
    field.assert_unharmed()
    assert "evidence" in shot.changed
    assert git(field.repo, "show", f"{commit}:evidence") == "seen"


def test_the_marker_would_be_written_by_git_itself(field: Field) -> None:
    """The attacks are real: git run in the workspace falls for them."""
    _configured("core.fsmonitor")(field)
    git(field.work, "status")
    assert field.marker.exists()


def test_files_beside_a_nested_repository_are_kept_and_its_metadata_is_named(field: Field) -> None:
    _nested(field)
    shot, commit = field.step()
    assert shot.changed == ("nested/file",)
    assert shot.skipped == (("nested/.git", "git metadata"),)
    assert git(field.repo, "ls-tree", commit, "nested").startswith("040000 tree")


def test_bytes_are_kept_whatever_attributes_ask_for(field: Field) -> None:
    _filters(field)
    _, commit = field.step()
    assert field.workspace.read(commit, "crlf.txt", 100) == b"a\r\nb\n$Id$\n"
    assert (field.work / "crlf.txt").read_bytes() == b"a\r\nb\n$Id$\n"


def test_a_link_out_is_kept_as_a_link_and_nothing_is_written_through_it(field: Field) -> None:
    _links_out(field)
    shot, commit = field.step()
    assert {"secret", "folder", "src", "src/calc.py"} <= set(shot.changed)
    assert git(field.repo, "ls-tree", commit, "src").startswith("120000")
    field.workspace.restore(field.base)
    assert sorted(path.name for path in field.outside.iterdir()) == ["patch", "secret"]
    assert (field.work / "src" / "calc.py").is_file()


def test_special_files_are_named_and_the_file_that_one_replaced_counts_as_gone(field: Field) -> None:
    _special_files(field)
    shot, _ = field.step()
    assert shot.changed == ("README.md",)
    assert [path for path, why in shot.skipped if why == "not a regular file"] == [
        "README.md", "pipe", "socket", "sub-pipe"
    ]  # fmt: skip


def test_hostile_names_are_evidence_and_come_back(field: Field, hostile_names: list[str]) -> None:
    for number, name in enumerate(hostile_names):
        (field.work / name).write_text(str(number), encoding="utf-8")
        (field.work / "deep" / name).mkdir(parents=True)
        (field.work / "deep" / name / name).write_text(str(number), encoding="utf-8")
    shot, commit = field.step()
    field.assert_unharmed()
    assert len(shot.changed) == 2 * len(hostile_names)
    assert shot.skipped == ()
    for number, name in enumerate(hostile_names):
        assert (field.work / "deep" / name / name).read_text(encoding="utf-8") == str(number)
        assert field.workspace.read(commit, name, 10) == str(number).encode()
    for text in (*shot.changed, *(file.path for file in field.workspace.files(commit))):
        text.encode("utf-8")


@pytest.mark.parametrize(
    "name",
    [
        ".git", ".GIT", ".Git ", ".git.", ".git . .", "git~1", "GIT~1", ".g\u200cit", "\ufeff.git", ".git\u200f",
        ".git:stream", "x\\.git", "x\\git~1\\y", ".git\\x", os.fsdecode(b".git\xff"),
    ],
)  # fmt: skip
def test_every_spelling_of_git_metadata_is_left_out_and_named(field: Field, name: str) -> None:
    (field.work / "sub" / name).mkdir(parents=True)
    (field.work / "sub" / name / "config").write_text("x", encoding="utf-8")
    (field.work / name).write_text("x", encoding="utf-8")
    (field.work / "good").write_text("x", encoding="utf-8")
    shot, _ = field.step()
    assert shot.changed == ("good",)
    assert [why for _, why in shot.skipped] == ["git metadata"] * 2
    field.assert_unharmed()


@pytest.mark.parametrize(
    "name", ["git", ".gitignore", "git~2", ".github", ".gitx", "a.git", ".git~1", "git~11", "..git"]
)
def test_an_ordinary_name_is_not_taken_for_git_metadata(name: str) -> None:
    assert not is_git_metadata(name)


def module(settings: str, name: str = "m") -> str:
    return f'[submodule "{name}"]\n{settings}\n'


DANGEROUS = [
    (".gitmodules", module("\turl = -uevil\n\tpath = m")),
    (".gitmodules", module('\turl = "-u evil"')),
    (".gitmodules", module("\turl = \\\n-u")),
    (".gitmodules", module("\tpath = -m")),
    (".gitmodules", module("\tupdate = !touch x")),
    (".gitmodules", module("\turl = x", "../../evil")),
    (".gitmodules", module("\turl = x", "a\\\\..\\\\b")),
    (".gitmodules", module("\turl = ../../..//host/x")),
    (".gitmodules", module("\turl = ../:host")),
    (".gitmodules", module("\turl = git://host/%0ax")),
    (".gitmodules", module("\turl = https://a%0ab/x")),
    (".gitmodules", module("\turl = https:///x")),
    (".gitmodules", module("\turl = http::https:x")),
    (".gitmodules", module("\turl = x\n[submodule \"n\"]; c\n\tURL = -x")),
    (".gitmodules", '[submodule.m]\n\turl = -x\n'),
    (".GITMODULES", module("\turl = -x")),
    ("gitmod~1", module("\turl = -x")),
    ("gi7eba~1", module("\turl = -x")),
    (".gitmodules ", module("\turl = -x")),
    (".gitmod\u200cules", module("\turl = -x")),
    ("x\\.gitmodules", module("\turl = -x")),
    (".gitattributes", "* " + "a" * 2050 + "\n"),
    ("gitatt~1", "* " + "a" * 2050 + "\n"),
]  # fmt: skip
HARMLESS = [
    (".gitmodules", module("\tpath = vendor/m\n\turl = https://example.com:8080/m.git ; note")),
    (".gitmodules", module("\tpath = m\n\turl = ../m.git\n\tupdate = rebase\n\tignore")),
    (".gitmodules", module("\turl = git@example.com:m.git\n\tbranch = .", "sub/m")),
    (".gitmodules", "# nothing\n[core]\n\teditor = -x\n"),
    (".gitattributes", "*.png binary\n" * 500),
    ("gitmodules", module("\turl = -x")),
]


def git_takes(folder: Path, name: str, content: str) -> bool:
    """Whether a repository with fsck on takes a tree with this file."""
    if (folder / "witness").exists():
        shutil.rmtree(folder / "witness")
    git(folder, "init", "--quiet", "--bare", "witness/from")
    git(folder, "init", "--quiet", "--bare", "witness/to")
    source = folder / "witness" / "from"
    (folder / "witness" / "file").write_text(content, encoding="utf-8")
    blob = git(source, "hash-object", "-w", str(folder / "witness" / "file")).strip()
    made = subprocess.run(
        ["git", "-C", source, "mktree", "-z"],
        input=f"100644 blob {blob}\t{name}\0".encode(),
        capture_output=True,
        check=True,
    )
    commit = git(source, "commit-tree", "-m", "x", made.stdout.decode().strip()).strip()
    git(source, "update-ref", "refs/heads/main", commit)
    fetched = subprocess.run(
        ["git", "-C", folder / "witness" / "to", "-c", "transfer.fsckObjects=true", "fetch", "-q", str(source), "main"],
        capture_output=True,
        check=False,
    )
    return fetched.returncode == 0


@pytest.mark.parametrize(("name", "content"), DANGEROUS + HARMLESS)
def test_the_files_that_git_refuses_are_left_out_so_that_the_evidence_can_always_be_fetched(
    tmp_path: Path, name: str, content: str
) -> None:
    refused = refused_content(name, content.encode(), is_link=False)
    if (name, content) in HARMLESS:
        assert refused is None
        assert git_takes(tmp_path, name, content)
    else:
        assert refused is not None
        assert not git_takes(tmp_path, name, content)


def test_a_dangerous_module_file_is_named_and_the_evidence_is_delivered(field: Field) -> None:
    (field.work / ".gitmodules").write_text(module("\turl = -uevil"), encoding="utf-8")
    (field.work / "sub").mkdir()
    (field.work / "sub" / ".gitmodules").symlink_to("../x")
    (field.work / "good").write_text("x", encoding="utf-8")
    shot = field.workspace.snapshot(field.base)
    assert shot.changed == ("good",)
    assert shot.skipped == (
        (".gitmodules", "a .gitmodules that git refuses as dangerous"),
        ("sub/.gitmodules", "a .gitmodules that is a link"),
    )
    field.workspace.deliver_branch(field.source, "fix", field.workspace.commit(shot.tree, (field.base,), INFO))


def test_a_huge_file_is_named_not_read_and_one_of_the_base_is_kept(field: Field) -> None:
    (field.work / "big").write_bytes(b"b" * 2000)
    head = field.workspace.commit(field.workspace.snapshot(field.base).tree, (field.base,), INFO)
    with (field.work / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    workspace = Workspace(field.repo, field.work, BRANCH, limits=WalkLimits(file_bytes=1000))
    shot = workspace.snapshot(head)
    assert shot.changed == ()
    assert shot.skipped == (("sparse", "larger than 1000 bytes"),)
    (field.work / "big").write_bytes(b"c" * 2000)
    assert workspace.snapshot(head).changed == ("big",)
    assert ("big", "larger than 1000 bytes") in workspace.snapshot(head).skipped
    workspace.restore(head)
    assert (field.work / "big").read_bytes() == b"b" * 2000
    assert not (field.work / "sparse").exists()


def test_too_many_files_are_counted_not_taken(field: Field) -> None:
    for number in range(20):
        (field.work / f"f{number:02}").touch()
    (field.work / "README.md").write_text("changed", encoding="utf-8")
    shot = Workspace(field.repo, field.work, BRANCH, limits=WalkLimits(files=5)).snapshot(field.base)
    assert shot.changed == ("README.md", "f00", "f01", "f02", "f03", "f04")
    assert shot.skipped[0] == ("f05", "more than 5 new files")
    assert len(shot.skipped) == 15


def test_a_bottomless_folder_is_named_and_removed_by_restoring(field: Field) -> None:
    descriptor = os.open(field.work, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("down" * 10, dir_fd=descriptor)
        below = os.open("down" * 10, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)
    shot = field.workspace.snapshot(field.base)
    assert shot.changed == ()
    assert [why for _, why in shot.skipped] == ["deeper than 100 folders"]
    field.workspace.restore(field.base)
    assert not (field.work / ("down" * 10)).exists()
    assert field.workspace.differs(field.base) == ()


def test_a_long_path_is_named_and_the_rest_is_kept(field: Field) -> None:
    folder = field.work.joinpath(*["n" * 200] * 17)
    folder.mkdir(parents=True)
    descriptor = os.open(folder, os.O_RDONLY)
    for name in ("x" * 200, "y"):
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)
    shot, _ = field.step()
    assert [path[-2:] for path in shot.changed] == ["/y"]
    assert [why for _, why in shot.skipped] == ["its path is longer than 3500 bytes"]


def test_ignore_rules_can_hide_nothing_without_being_named(field: Field) -> None:
    (field.work / ".gitignore").write_text("*\n", encoding="utf-8")
    (field.work / "src" / "calc.py").write_text("changed", encoding="utf-8")
    (field.work / "hidden").write_text("x", encoding="utf-8")
    _own_repository(field)
    (field.work / ".git" / "info").mkdir(exist_ok=True)
    (field.work / ".git" / "info" / "exclude").write_text("seen\n", encoding="utf-8")
    shot = field.workspace.snapshot(field.base)
    assert shot.changed == ("src/calc.py",)
    assert {path for path, _ in shot.skipped} == {".git", ".gitignore", "hidden"}


def test_index_flags_and_excludes_of_the_workers_repository_hide_nothing(field: Field) -> None:
    _own_repository(field)
    git(field.work, "add", "-A")
    git(field.work, "update-index", "--skip-worktree", "README.md")
    git(field.work, "update-index", "--assume-unchanged", "src/calc.py")
    (field.work / ".git" / "info").mkdir(exist_ok=True)
    (field.work / ".git" / "info" / "exclude").write_text("new\n", encoding="utf-8")
    for name in ("README.md", "src/calc.py", "new"):
        (field.work / name).write_text("changed", encoding="utf-8")
    assert field.workspace.snapshot(field.base).changed == ("README.md", "new", "src/calc.py")


def test_a_pattern_made_to_explode_does_not(field: Field) -> None:
    (field.work / ".gitignore").write_text(
        "*a" * 30 + "b\n" + "a/**/" * 30 + "b\n" + "[" * 200 + "\n", encoding="utf-8"
    )
    (field.work / ("a" * 200)).write_text("x", encoding="utf-8")
    folder = field.work.joinpath(*["a"] * 60)
    folder.mkdir(parents=True)
    (folder / "c").write_text("x", encoding="utf-8")
    assert len(field.workspace.snapshot(field.base).changed) == 3


def test_a_folder_that_is_replaced_by_a_link_during_the_walk_is_not_followed(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    (field.work / "victim").mkdir()
    (field.work / "victim" / "secret").write_text("mine", encoding="utf-8")
    plain_open = os.open

    def swapping(path: object, flags: int, *rest: int, **options: int) -> int:
        if path == "victim" and not (field.work / "victim").is_symlink():
            shutil.rmtree(field.work / "victim")
            (field.work / "victim").symlink_to(field.outside)
        return plain_open(path, flags, *rest, **options)  # type: ignore[call-overload, no-any-return]

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", swapping)
        shot = field.workspace.snapshot(field.base)
    assert shot.changed == ()
    assert shot.skipped[0].path == "victim"
    field.assert_unharmed()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "gone"])
def test_a_file_that_is_replaced_between_looking_and_reading_is_named(
    field: Field, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    victim = field.work / "victim"
    victim.write_text("mine", encoding="utf-8")
    plain_open = os.open

    def swap() -> None:
        victim.unlink()
        if kind == "link":
            victim.symlink_to(field.outside / "secret")
        elif kind == "pipe":
            os.mkfifo(victim)
        elif kind == "folder":
            victim.mkdir()

    def swapping(path: object, flags: int, *rest: int, **options: int) -> int:
        if path == "victim" and victim.exists() and stat.S_ISREG(victim.lstat().st_mode):
            swap()
        return plain_open(path, flags, *rest, **options)  # type: ignore[call-overload, no-any-return]

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", swapping)
        shot = field.workspace.snapshot(field.base)
    assert shot.changed == ()
    assert [path for path, _ in shot.skipped] == ["victim"]
    field.assert_unharmed()


def test_what_cannot_be_read_is_named(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    (field.work / "shut").write_text("x", encoding="utf-8")
    plain_open = os.open

    def refusing(path: object, flags: int, *rest: int, **options: int) -> int:
        if path in ("shut", "src"):
            raise PermissionError(13, "Permission denied")
        return plain_open(path, flags, *rest, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "open", refusing)
    shot = field.workspace.snapshot(field.base)
    assert shot.changed == ("src/calc.py",)
    assert [tuple(skipped) for skipped in shot.skipped] == [
        ("shut", "can't be read: permission denied"),
        ("src", "can't be read: permission denied"),
    ]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users get to; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user and back")
def test_restoring_gets_rid_of_read_only_folders_without_being_root(
    open_folder: Path, source_repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = Field(open_folder, source_repo)
    locked = field.work / "locked" / "inner"
    locked.mkdir(parents=True)
    (locked / "file").write_text("x", encoding="utf-8")
    (field.work / "src" / "calc.py").unlink()
    for folder, _, names in os.walk(field.work.parent):
        for path in (Path(folder), *(Path(folder) / name for name in names)):
            os.chown(path, 12345, 12345, follow_symlinks=False)
    for folder in (locked, locked.parent):
        folder.chmod(0o500)
    (field.work / "src").chmod(0)
    (field.work / "tests").chmod(0o500)
    (field.work / "tests" / "more").symlink_to("x")
    monkeypatch.setattr(tempfile, "tempdir", str(field.work.parent))
    os.seteuid(12345)
    try:
        shot = field.workspace.snapshot(field.base)
        field.workspace.restore(field.base)
    finally:
        os.seteuid(0)
    assert ("src", "can't be read: permission denied") in shot.skipped
    assert sorted(path.name for path in field.work.rglob("*")) == [
        "README.md", "calc.py", "src", "test_calc.py", "tests"
    ]  # fmt: skip
