"""Bad input: one `Error:` line, one `Hint:` line, the documented exit code, no traceback, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_mock import MockerFixture
from test_cli import TWO_ROUNDS, Outcome, Project, ended, wait_until

from logist.cli import run


def check_refusal(outcome: Outcome, *expected: str) -> None:
    """Just two lines of the promised form, which hold `expected`, and no data."""
    told = outcome.err.splitlines()
    assert [line.partition(":")[0] for line in told] == ["Error", "Hint"], outcome.err
    assert all(line.partition(": ")[2].strip() for line in told), outcome.err
    assert outcome.out == ""
    for text in expected:
        assert text in outcome.err
    assert "Traceback" not in outcome.err


def last_lines(outcome: Outcome) -> Outcome:
    """What a run tells at its very end; before it, `-q` says in a line where the job stands."""
    return replace(outcome, err="".join(outcome.err.splitlines(keepends=True)[-2:]))


def tree_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder to work in."""
    return Project.make(tmp_path)


@pytest.fixture
def refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Run a command that must be refused with an exit code, in the promised form."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("PATH", project.env["PATH"])

    def call(*arguments: str, code: int, expect: str = "", started: bool = False) -> Outcome:
        capsys.readouterr()
        outcome = Outcome(run(arguments), *capsys.readouterr())
        assert outcome.code == code, outcome
        check_refusal(last_lines(outcome) if started else outcome, expect)
        return outcome

    return call


# --- The request itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("jobb",), "did you mean logist job"),
        (("status",), "did you mean logist job status"),
        (("job", "rnu"), "did you mean logist job run"),
        (("job", "doctor"), "did you mean logist doctor"),
        (("job", "xyzzy"), "logist job --help"),
        (("--nope",), "logist --help"),
        (("job", "list", "--jsn"), "did you mean --json"),
        (("job", "list", "--jobs-dir", "x"), "--jobs-dir goes before the command"),
        (("job", "list", "--status", "DONE"), "intervention_required"),
        (("job", "run", "a", "b"), "logist job run --help"),
        (("job", "run", "--timeout", "soon"), "is not a duration"),
        (("job", "run", "--progress", "fancy"), "plain"),
        (("job", "restep"), "--step"),
        (("job", "restep", "--step", "0"), "--step"),
        (("job", "poststep"), "--reply"),
        (("job", "create"), "objective"),
        (("job", "create", "-o", ""), "objective"),
        (("job", "create", "-o", "   "), "the objective of -o is empty"),
        (("job", "create", "-o", "x" * 32_769), "longer than 32768"),
        (("job", "create", "-o", "x", "--phase", "two\nlines"), "--phase"),
        (("job", "create", "-o", "x", "--phase", ": do"), "--phase"),
        (("job", "create", "-o", "x", "--phase", "a: 1", "--phase", "a: 2"), "two --phase options"),
        (("job", "create", "-o", "x", "--check", ""), "--check"),
        (("job", "create", "-o", "x", "--check", "a= "), "--check"),
        (("job", "create", "-o", "x", "--check", "a=true", "--check", "a=false"), "two --check options"),
        (("job", "create", "-o", "x", "--id", "../x"), "not a valid job id"),
        (("job", "create", "-o", "x", "--cost", "nan"), "not an amount"),
        (("job", "create", "-o", "x", "--cost", "inf"), "not an amount"),
        (("job", "create", "-o", "x", "--cost", "1e400"), "not an amount"),
        (("job", "create", "-o", "x", "--time", "nan"), "is not a duration"),
        (("job", "create", "-o", "x", "--time", "9" * 300), "too long a duration"),
        (("job", "resolve", "--add-cost", "inf"), "not an amount"),
        (("job", "run", "--timeout", "0"), "--timeout 0"),
        (("job", "deliver", "--patch", "-"), "name of a file"),
        (("job", "status"), "logist job create"),
        (("job", "create", "-o", "x", "--time", "1 week"), "is not a duration"),
        (("job", "create", "-o", "x", "-p", "a", "-F", "b"), "exclude each other"),
        (("job", "create", "-o", "x", "-F", "nowhere.md"), "nowhere.md"),
        (("job", "create", "-o", "x", "--revision", "main"), "SOURCE"),
        (("job", "create", "nowhere", "-o", "x"), "is not a folder"),
        (("job", "create", "https://example.invalid/x.git", "-o", "x"), "is not a folder"),
        (("job", "resolve"), "--retry"),
        (("job", "resolve", "-r", "-a"), "exclude each other"),
        (("job", "resolve", "-a", "--add-steps", "1"), "--approve"),
        (("job", "resolve", "-r", "--override-checks"), "--approve"),
        (("job", "resolve", "-r", "-m", "a", "-F", "b"), ""),
        (("job", "deliver", "--patch", "a", "--bundle", "b"), "exclude each other"),
        (("job", "diff", "--step", "1", "--since", "1"), "exclude each other"),
        (("job", "select", "x", "--none"), "exclude each other"),
        (("schema", "nope"), "job-manifest"),
        (("completion", "tcsh"), "powershell"),
        (("help", "nope"), "exit-codes"),
        (("role", "show", "human"), "supervisor"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_command_line_is_exit_code_2(
    refused: Callable[..., Outcome], project: Project, arguments: tuple[str, ...], expected: str
) -> None:
    refused(*arguments, code=2, expect=expected)
    assert not project.jobs.exists() or not any(project.jobs.iterdir())


COMMANDS_WITH_A_JOB = [
    ("status",),
    ("preview",),
    ("run",),
    ("step",),
    ("pause",),
    ("cancel",),
    ("log",),
    ("diff",),
    ("history",),
    ("evidence",),
    ("resolve", "--retry"),
    ("rerun",),
    ("restep", "--step", "1"),
    ("deliver",),
    ("select",),
]


@pytest.mark.parametrize("command", COMMANDS_WITH_A_JOB, ids=lambda command: command[0])
def test_an_unknown_job_or_a_bad_id_is_exit_code_2(refused: Callable[..., Outcome], command: tuple[str, ...]) -> None:
    for name in ("nope", "../x", "", "two words", "UPPER", "x" * 64, "a\x1b[2J", "-x", "a\nb"):
        refused("job", *command, "--", name, code=2)


def test_an_unknown_job_is_told_with_ids_that_come_near(refused: Callable[..., Outcome], project: Project) -> None:
    project.create(job="fix-login")
    project.create(job="fix-logout")
    refused("job", "status", "fix-logon", code=2, expect="fix-login")
    refused("job", "status", "fix-log", code=2, expect="fix-logout")


@pytest.mark.parametrize("name", ["../x", "", "two words", "UPPER", "x" * 64, "a/b", ".hidden", "a..b", "a.lock"])
def test_a_job_can_not_be_made_with_a_bad_id(refused: Callable[..., Outcome], project: Project, name: str) -> None:
    refused("job", "create", "-o", "x", "--id", name, code=2)
    assert not project.jobs.exists() or not any(project.jobs.iterdir())


def test_an_id_that_is_taken_is_refused_and_the_job_stays(refused: Callable[..., Outcome], project: Project) -> None:
    project.create()
    before = tree_of(project.jobs / "job")
    refused("job", "create", "-o", "x", "--id", "job", code=2, expect="there is a job job already")
    assert tree_of(project.jobs / "job") == before


def test_a_selected_job_that_is_gone_is_told(refused: Callable[..., Outcome], project: Project) -> None:
    project.create()
    shutil.rmtree(project.jobs / "job")
    refused("job", "status", code=2, expect="logist job select")


def test_a_revision_that_is_not_there_leaves_no_job(
    refused: Callable[..., Outcome], project: Project, source_repo: Path
) -> None:
    outcome = refused("job", "create", str(source_repo), "-o", "x", "--revision", "nope", code=2)
    assert "nope" in outcome.err
    assert not list(project.jobs.glob("[a-z]*/"))


def test_text_that_is_not_utf8_is_refused(refused: Callable[..., Outcome], project: Project) -> None:
    (project.folder / "bad.md").write_bytes(b"\xff\xfe")
    refused("job", "create", "-o", "x", "-F", "bad.md", code=2, expect="UTF-8")


# --- Files that are not valid --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda data: data[:50], "logist doctor --repair job"),
        (lambda _: b"", "logist doctor --repair job"),
        (lambda _: b"[1]", "logist doctor --repair job"),
        (lambda data: data.replace(b'"schema_version": 1', b'"schema_version": 2'), "newer Logist"),
        (lambda data: data.replace(b'"PENDING"', b'"ASLEEP"', 1), "logist doctor --repair job"),
    ],
    ids=["torn", "empty", "no-object", "newer", "unknown-state"],
)
def test_an_unreadable_or_newer_manifest_is_exit_code_78_and_left_alone(
    refused: Callable[..., Outcome], project: Project, damage: Callable[[bytes], bytes], expected: str
) -> None:
    run(["job", "create", "-q", "--id", "job", "-o", "x"])
    manifest = project.jobs / "job" / "job_manifest.json"
    manifest.write_bytes(damage(manifest.read_bytes()))
    (project.jobs / "job" / "lease").touch()
    before = tree_of(project.jobs / "job")
    for command in (["status"], ["run"], ["cancel"], ["preview"], ["resolve", "--retry"], ["deliver"]):
        outcome = refused("job", *command, code=78, expect=expected)
        assert str(manifest) in outcome.err
        assert tree_of(project.jobs / "job") | {"lease": b""} == before | {"lease": b""}


def test_one_unreadable_job_does_not_hide_the_others(
    refused: Callable[..., Outcome], project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.create(job="good")
    project.create(job="bad")
    (project.jobs / "bad" / "job_manifest.json").write_bytes(b"{")
    capsys.readouterr()
    assert run(["job", "list", "--json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["good"]["status"] == "PENDING"
    assert rows["bad"]["problem"]


def test_a_damaged_history_is_exit_code_78(refused: Callable[..., Outcome], project: Project) -> None:
    project.play(worker="reply STUCK no")
    project.create()
    project("job", "run", "-q", code=3)
    history = project.jobs / "job" / "history.jsonl"
    lines = history.read_bytes().splitlines(keepends=True)
    history.write_bytes(b"".join([lines[0], lines[1].replace(b"transition", b"tranzition"), *lines[2:]]))
    refused("job", "history", "--json", "-n", "99", code=78, expect="line 2")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("roles = 3", "roles"),
        ("[roles.worker]\nagnet = 'x'", "did you mean agent"),
        ("not toml", "logist.toml"),
        ("[agents.command]\ncommand = ['x']", "built in"),
        ("[roles.worker]\ntimeout = 'soon'", "duration"),
    ],
)
def test_a_configuration_that_is_not_valid_is_exit_code_78(
    refused: Callable[..., Outcome], project: Project, content: str, expected: str
) -> None:
    (project.folder / "logist.toml").write_text(content, encoding="utf-8")
    refused("job", "create", "-o", "x", code=78, expect=expected)
    assert not project.jobs.exists()


def test_a_configuration_that_is_not_there_is_exit_code_78(refused: Callable[..., Outcome]) -> None:
    refused("--config", "nowhere.toml", "role", "list", code=78, expect="nowhere.toml")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("job.toml", 'objektive = "x"', "objective"),
        ("job.toml", "x", "job.toml"),
        ("job.json", "[]", "job.json"),
        ("job.json", '{"objective": "x", "phases": []}', "phases"),
        ("nowhere.toml", None, "nowhere.toml"),
    ],
)
def test_a_job_file_that_is_not_valid_is_exit_code_78(
    refused: Callable[..., Outcome], project: Project, name: str, content: str | None, expected: str
) -> None:
    if content is not None:
        (project.folder / name).write_text(content, encoding="utf-8")
    refused("job", "create", "--from", name, code=78, expect=expected)


# --- Agents --------------------------------------------------------------------------------------------------------


def test_an_agent_that_nobody_knows_is_refused_when_the_job_is_made(
    refused: Callable[..., Outcome], project: Project
) -> None:
    refused("job", "create", "-o", "x", "--worker", "fkae", code=78, expect="fake")
    assert not project.jobs.exists()


@pytest.mark.parametrize(
    ("role", "expected"),
    [("command", "no line"), ("playbook:/nope", "/nope"), ("choosy", "needs a model"), ("gone", "was not found")],
)
@pytest.mark.parametrize("option", ["--worker", "--supervisor"])
def test_an_agent_that_can_not_run_is_refused_when_the_job_is_made(
    refused: Callable[..., Outcome], project: Project, option: str, role: str, expected: str
) -> None:
    with (project.folder / "logist.toml").open("a", encoding="utf-8") as config:
        config.write('[agents.choosy]\ncommand = ["true", "{model}"]\n[agents.gone]\ncommand = ["no-such-program"]\n')
    refused("job", "create", "-o", "x", option, role, code=78, expect=expected)
    assert not project.jobs.exists()


def test_a_job_file_with_an_infinite_budget_or_an_empty_objective_is_refused(
    refused: Callable[..., Outcome], project: Project
) -> None:
    for content in ('objective = "x"\nbudget.cost = inf', 'objective = "x"\nbudget.time = nan', 'objective = " "'):
        (project.folder / "job.toml").write_text(content, encoding="utf-8")
        refused("job", "create", "--from", "job.toml", code=78, expect="job.toml")
    (project.folder / "job.toml").write_text('objective = "x"\nid = "../x"', encoding="utf-8")
    refused("job", "create", "--from", "job.toml", code=78, expect="not a valid job id")


def test_a_missing_agent_program_is_told_before_anything_is_spent(
    refused: Callable[..., Outcome], project: Project
) -> None:
    project.create()
    (project.folder.parent / "bin" / "fake-agent").unlink()
    refused("job", "run", "-q", code=78, expect="fake-agent")
    assert (project.manifest()["status"], project.manifest()["spent"]["steps"]) == ("PENDING", 0)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"", "not JSON"),
        (b"no json", "not JSON"),
        (b'{"action": "COMPLETED"} {"action": "STUCK"}', "not JSON"),
        (b'{"action": "COMPLETED", "action": "STUCK"}', "twice"),
        (b'{"action": "MAYBE"}', "MAYBE"),
        (b'{"action": "COMPLETED", "evidence_files": ["nowhere.txt"]}', "nowhere.txt"),
        (b'{"action": "COMPLETED", "evidence_files": ["../../job_manifest.json"]}', "job_manifest.json"),
        (b'{"action": "COMPLETED", "summary_for_supervisor": "' + b"x" * 1_100_000 + b'"}', "larger"),
    ],
    ids=["empty", "garbage", "two", "twice", "unknown", "missing-file", "outside", "huge"],
)
def test_a_reply_from_a_file_that_can_not_be_used_is_exit_code_78_and_nothing_is_spent(
    project: Project, refused: Callable[..., Outcome], reply: bytes, expected: str
) -> None:
    run(["job", "create", "-q", "--id", "job", "-o", "x"])
    before = project.manifest()
    (project.folder / "reply.json").write_bytes(reply)
    outcome = refused("job", "poststep", "-q", "--reply", "reply.json", code=78, expect=expected, started=True)
    assert "reply.json" in outcome.err
    after = project.manifest()
    assert (after["status"], after["step"], after["head"]) == ("PENDING", 0, before["head"])


# --- The state ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A job that is a SUCCESS."""
    project = Project.make(tmp_path_factory.mktemp("done"))
    project.env["HOME"] = str(project.folder.parent)
    project.play(**TWO_ROUNDS)
    project.create()
    project("job", "run", "-q")
    return project


@pytest.mark.parametrize(
    "command",
    [
        ("run",),
        ("step",),
        ("preview",),
        ("poststep", "--reply", "/dev/null"),
        ("pause",),
        ("cancel",),
        ("resolve", "--retry"),
        ("resolve", "--approve"),
        ("resolve", "--continue"),
        ("resolve", "--rewind", "1"),
        ("resolve", "--cancel"),
        ("resolve", "--add-steps", "1"),
    ],
    ids=" ".join,
)
def test_a_command_in_the_wrong_state_is_exit_code_6_and_says_what_is_possible(
    done: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(done.folder)
    before = {name: data for name, data in tree_of(done.jobs).items() if not name.endswith("lease")}
    outcome = Outcome(run(["job", *command]), *capsys.readouterr())
    assert outcome.code == 6
    check_refusal(outcome, "rerun")
    assert {name: data for name, data in tree_of(done.jobs).items() if not name.endswith("lease")} == before


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("--to", "/nope"), 2, "is not a git repository"),
        (("--to", "plain"), 2, "is not a git repository"),
        (("--to", "target", "--branch", "a..b"), 2, "name of a branch"),
        (("--to", "target", "--branch", "main"), 6, "--branch main-2"),
        (("--patch", "nowhere/work.patch"), 2, "is not there"),
        (("--bundle", "nowhere/work.bundle"), 2, "is not there"),
        (("--patch", "logist.toml"), 6, "is there already"),
        (("--bundle", "logist.toml"), 6, "is there already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_delivery_to_where_it_can_not_go_is_told(
    done: Project,
    tmp_path: Path,
    source_repo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    expected: str,
) -> None:
    monkeypatch.chdir(done.folder)
    (tmp_path / "plain").mkdir()
    places = {"plain": str(tmp_path / "plain"), "target": str(source_repo)}
    outcome = Outcome(run(["job", "deliver", *(places.get(one, one) for one in arguments)]), *capsys.readouterr())
    assert outcome.code == code, outcome
    check_refusal(outcome, expected)


def test_a_variable_that_names_no_job_is_told_by_its_name(
    done: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(done.folder)
    monkeypatch.setenv("LOGIST_JOB_ID", "gone")
    outcome = Outcome(run(["job", "status"]), *capsys.readouterr())
    assert outcome.code == 2
    check_refusal(outcome, "LOGIST_JOB_ID", "gone")


def test_a_second_runner_on_the_same_job_is_exit_code_75(project: Project, refused: Callable[..., Outcome]) -> None:
    project.play(
        worker='touch "$FAKE_DIR/began"; while [ ! -e "$FAKE_DIR/go" ]; do sleep 0.02; done; reply COMPLETED done',
        supervisor="reply COMPLETED fine",
    )
    project.create()
    runner = project.start("job", "run", "-q")
    wait_until((project.fake / "began").exists)
    for command in (["run"], ["step"], ["resolve", "--retry"], ["rerun"], ["deliver"]):
        refused("job", *command, code=75, expect=str(runner.pid))
    (project.fake / "go").touch()
    assert ended(runner).code == 0
    assert project.manifest()["status"] == "SUCCESS"


@pytest.mark.parametrize("how", ["moved", "deleted"])
def test_a_job_folder_that_goes_away_under_way_is_told_and_no_other_is_made(project: Project, how: str) -> None:
    project.play(
        worker='touch "$FAKE_DIR/began"; while [ ! -e "$FAKE_DIR/go" ]; do sleep 0.02; done; reply COMPLETED done'
    )
    project.create()
    runner = project.start("job", "run", "-q")
    wait_until((project.fake / "began").exists)
    if how == "moved":
        (project.jobs / "job").rename(project.jobs / "elsewhere")
    else:
        shutil.rmtree(project.jobs / "job", ignore_errors=True)
    (project.fake / "go").touch()
    outcome = ended(runner)
    assert outcome.code == 1
    check_refusal(last_lines(outcome))
    assert not (project.jobs / "job" / "job_manifest.json").exists()
    if how == "moved":
        (project.jobs / "elsewhere").rename(project.jobs / "job")
        project.play(worker="reply COMPLETED done", supervisor="reply COMPLETED fine")
        project("job", "run", "-q")
        assert project.manifest()["status"] == "SUCCESS"


# --- The machine ---------------------------------------------------------------------------------------------------


def test_a_full_disk_while_saving_is_exit_code_1_and_loses_nothing(
    project: Project, refused: Callable[..., Outcome], mocker: MockerFixture
) -> None:
    project.play(worker="reply STUCK no")
    project.create()
    project("job", "run", "-q", code=3)
    before = project.manifest()
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink().is_relative_to(project.jobs / "job"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    mocker.patch("os.write", full)
    refused("job", "resolve", "--retry", code=1, expect="No space left")
    mocker.stopall()
    assert project.manifest() == before
    project("job", "resolve", "--retry")


def test_a_file_size_limit_while_a_job_runs_is_exit_code_1_and_it_can_be_run_on(project: Project) -> None:
    project.play(worker="reply COMPLETED done", supervisor="reply COMPLETED fine")
    project.create("-p", "long " * 2_000)
    size = (project.jobs / "job" / "history.jsonl").stat().st_size + 100

    # Python does not notice that a compiled file of its own was cut short by the limit.
    project.env["PYTHONDONTWRITEBYTECODE"] = "1"

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    outcome = ended(project.start("job", "run", "-q", before=limit))
    assert outcome.code == 1
    check_refusal(last_lines(outcome))
    assert project.manifest()["status"] in ("PENDING", "RUNNING")
    project("job", "run", "-q")
    assert project.manifest()["status"] == "SUCCESS"


def test_a_jobs_folder_that_can_not_be_made_is_told(project: Project, refused: Callable[..., Outcome]) -> None:
    (project.folder / "file").touch()
    refused("--jobs-dir", "file/jobs", "job", "create", "-o", "x", code=1, expect="file")
    refused("--jobs-dir", "file", "job", "create", "-o", "x", code=2, expect="is not a folder")
    refused("--jobs-dir", "file", "job", "list", code=2, expect="is not a folder")


def test_a_job_with_a_damaged_history_is_not_canceled(project: Project, refused: Callable[..., Outcome]) -> None:
    run(["job", "create", "-q", "--id", "job", "-o", "x"])
    for command in ("cancel", "rerun"):
        assert run(["job", command, "job"]) == 0
    history = project.jobs / "job" / "history.jsonl"
    lines = history.read_bytes().splitlines(keepends=True)
    assert len(lines) > 2
    history.write_bytes(b"".join([lines[0].replace(b"seq", b"sek", 1), *lines[1:]]))
    before = tree_of(project.jobs / "job")
    refused("job", "cancel", "job", code=78, expect="line 1, is damaged")
    # Who had the lease last is told as ever.
    assert {**tree_of(project.jobs / "job"), "lease": before["lease"]} == before


def test_a_job_whose_history_is_empty_is_not_sent_to_a_repair_that_refuses(
    project: Project, refused: Callable[..., Outcome]
) -> None:
    run(["job", "create", "-q", "--id", "job", "-o", "x"])
    (project.jobs / "job" / "history.jsonl").write_bytes(b"")
    outcome = refused("job", "run", "job", code=78, expect="records are lost")
    assert "restore history.jsonl from a backup" in outcome.err
    assert "--repair" not in outcome.err


def test_a_job_that_is_there_already_is_named(refused: Callable[..., Outcome]) -> None:
    run(["job", "create", "-q", "--id", "job", "-o", "x"])
    refused("job", "create", "--id", "job", "-o", "x", code=2, expect="`logist job status job`")


def test_a_job_without_a_step_has_none_to_take_again(refused: Callable[..., Outcome]) -> None:
    run(["job", "create", "-q", "--id", "job", "-o", "x"])
    refused("job", "restep", "job", "--step", "1", code=2, expect="the job has taken no step yet")


def test_what_is_possible_is_the_same_wherever_it_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.folder)
    project.play(worker="exit 1")
    project.create("--worker", "command:false", "--steps", "1")
    project("job", "run", "-q", code=3)

    def told(*arguments: str) -> str:
        capsys.readouterr()
        assert run(["job", *arguments]) == 6
        return capsys.readouterr().err.partition("possible now: ")[2].strip()

    def of_the_status() -> str:
        capsys.readouterr()
        run(["job", "status", "--json"])
        return "; ".join(command["command"] for command in json.loads(capsys.readouterr().out)["next_commands"])

    needs_human = of_the_status()
    assert needs_human == told("run")
    assert needs_human.endswith("; logist job rerun job; logist job restep job --step 1")
    assert run(["job", "resolve", "--approve"]) == 0
    success = of_the_status()
    assert success == told("run") == told("cancel", "job") == told("resolve", "--retry")
    assert success.endswith("; logist job rerun job; logist job restep job --step 1")
    assert run(["job", "rerun"]) == 0
    assert run(["job", "cancel", "job"]) == 0
    canceled = of_the_status()
    assert canceled == told("run") == told("cancel", "job") == told("resolve", "--retry") == "logist job rerun job"


def test_a_manifest_of_a_newer_version_is_not_written_anew(project: Project, refused: Callable[..., Outcome]) -> None:
    run(["job", "create", "-q", "--id", "job", "-o", "x"])
    manifest = project.jobs / "job" / "job_manifest.json"
    newer = manifest.read_bytes().replace(b'"schema_version": 1', b'"schema_version": 2')
    manifest.write_bytes(newer)
    refused("doctor", "--repair", "job", code=78, expect="newer Logist")
    assert manifest.read_bytes() == newer


@pytest.mark.parametrize("folder", ["repo.git", "workspace"])
def test_the_doctor_tells_that_a_folder_of_a_job_is_missing(
    project: Project, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    project.create()
    shutil.rmtree(project.jobs / "job" / folder)
    outcome = project("doctor", code=78)
    assert f"BAD job job: the folder {project.jobs / 'job' / folder} is missing" in outcome.out


@pytest.mark.parametrize("command", ["run", "preview", "diff", "rerun"])
def test_a_job_without_its_evidence_is_not_valid(
    project: Project, refused: Callable[..., Outcome], command: str
) -> None:
    run(["job", "create", "-q", "--id", "job", "-o", "x"])
    shutil.rmtree(project.jobs / "job" / "repo.git")
    refused("job", command, "job", code=78, expect="There is no evidence repository")


def test_evidence_that_vanishes_under_way_is_told_in_words(project: Project) -> None:
    project.play(worker="rm -rf ../repo.git; reply COMPLETED done")
    project.create()
    outcome = ended(project.start("job", "run", "-q"))
    assert outcome.code in (1, 78)
    reason = project.manifest()["reason"]
    assert reason["code"] == "internal_error"
    assert "Failed" not in reason["sentence"]
    assert reason["sentence"] in outcome.err


def test_output_that_can_not_be_written_is_told(done: Project) -> None:
    with Path("/dev/full").open("wb") as full:
        outcome = ended(done.start("job", "history", stdout=full))
    assert outcome.code == 1
    check_refusal(outcome, "Error: the output can't be written: No space left on device\n")
    assert "fault" not in outcome.err
