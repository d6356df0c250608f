"""The rules of the house: what holds for the project as a whole."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import WAITING

import logist

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "logist").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

#: Spelled so that this file itself does not match.
MACHINE_PATH = re.compile(rb"(?<![\w.})$~*-])/(?:(?:work|root)/|(?:home|Users)/\w)")

HEAVY_MODULES = ("git", "jinja2", "pydantic", "rich", "transitions")


def project_files() -> list[Path]:
    """Every file that is tracked, or would be after `git add .`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    paths = (ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name)
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def test_the_version_is_the_same_in_the_package_and_in_the_project_file() -> None:
    assert logist.__version__ == PROJECT["version"]


def test_the_changelog_has_an_entry_for_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(logist.__version__)}\]", changelog, re.MULTILINE)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_in_a_docstring_what_it_is(module: str) -> None:
    assert ast.get_docstring(ast.parse((ROOT / module).read_text(encoding="utf-8")))


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.decode(errors='replace').strip()}"
        for path in project_files()
        for number, line in enumerate(path.read_bytes().splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", ["|work/x", "see |home/me", '"|Users/me/x"', "=|root/.ssh"])
def test_a_path_of_one_machine_is_recognised(path: str) -> None:
    assert MACHINE_PATH.search(path.replace("|", "/").encode())


@pytest.mark.parametrize(
    "path", ["job|work|x", "{tmp}|work|x", "$HOME|work|x", "~|work|x", "|workspace|x", "..|home|x"]
)
def test_another_path_is_not_taken_for_one_of_one_machine(path: str) -> None:
    assert not MACHINE_PATH.search(path.replace("|", "/").encode())


@pytest.mark.skipif(importlib.util.find_spec("logist.cli") is None, reason="the command line is not written yet")
def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    code = f"import sys, logist.cli; print(*sorted(set(sys.modules) & set({HEAVY_MODULES!r})))"
    started = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert started.stdout.split() == []


SCRIPTS = (
    *("run-tests.sh", "test-demo.sh", ".ci/run"),
    *("scripts/setup-env.sh", "scripts/install-browser.sh", "scripts/install-agents.sh"),
    *("scripts/install-slurm.sh", "scripts/apt-install.sh"),
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_can_be_executed_and_has_no_syntax_error(script: str) -> None:
    path = ROOT / script
    if not path.exists():
        pytest.skip(f"{script} is not written yet")
    assert os.access(path, os.X_OK)
    checked = subprocess.run(["bash", "-n", str(path)], check=False, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_wheel_holds_the_package_its_types_and_the_prompts(tmp_path: Path) -> None:
    prompts = [path.relative_to(ROOT / "prompts") for path in (ROOT / "prompts").rglob("*") if path.is_file()]
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    contract = {f"logist/render/contract/{path.name}" for path in (ROOT / "logist/render/contract").glob("*.js")}
    assert prompts
    assert contract
    assert {
        *MODULES,
        *contract,
        "logist/py.typed",
        *(f"logist/_prompts/{path.as_posix()}" for path in prompts),
    } <= names
    assert {name.split("/")[0] for name in names} == {"logist", f"logist-{logist.__version__}.dist-info"}


FORGETFUL_TESTS = """
import os, subprocess
from pathlib import Path

import pytest

def test_sets_a_variable():
    os.environ["LEFT_BEHIND"] = "1"

def test_removes_a_variable():
    del os.environ["PATH"]

def test_goes_elsewhere(tmp_path):
    os.chdir(tmp_path)

def test_uses_monkeypatch(tmp_path, monkeypatch):
    monkeypatch.setenv("LEFT_BEHIND", "1")
    monkeypatch.chdir(tmp_path)

def test_sees_nothing_of_the_machine(home):
    assert Path.home() == home and not list(home.iterdir())
    assert not [name for name in os.environ if name.startswith("LOGIST_")]
    assert "LEFT_BEHIND" not in os.environ and "NO_COLOR" not in os.environ and "GIT_DIR" not in os.environ
    config = subprocess.run(["git", "config", "--list"], capture_output=True, text=True)
    assert "user.name" not in config.stdout

@pytest.mark.slow
def test_takes_long():
    raise AssertionError

@pytest.mark.misspelt
def test_is_never_reached():
    pass
"""


def run_pytest(
    folder: Path, source: str, *arguments: str, files: Iterable[str] = ("tests/test_forgetful.py",), processes: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run `source` as each of the test files under the conftest.py and the settings of the project."""
    (folder / "tests").mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in files:
        (folder / name).write_text(source, encoding="utf-8")
    environment = {**os.environ, "LOGIST_JOBS_DIR": "elsewhere", "NO_COLOR": "1", "GIT_DIR": "elsewhere"}
    spread = ["-n", str(processes)] if processes else ["-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *spread, "-rA", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)


def test_a_test_that_leaves_a_trace_fails_and_does_not_disturb_the_next(tmp_path: Path) -> None:
    ran = run_pytest(tmp_path, FORGETFUL_TESTS.partition("@pytest.mark.misspelt")[0])
    outcomes = set(re.findall(r"^(ERROR|FAILED|SKIPPED|PASSED) .*(test_\w+)(?= |$|:)", ran.stdout, re.MULTILINE))
    errors = {name for outcome, name in outcomes if outcome == "ERROR"}
    assert errors == {"test_sets_a_variable", "test_removes_a_variable", "test_goes_elsewhere"}, ran.stdout
    assert {("PASSED", "test_uses_monkeypatch"), ("PASSED", "test_sees_nothing_of_the_machine")} <= outcomes
    assert re.search(r"5 passed, 1 skipped, 3 errors", ran.stdout)


def test_a_slow_test_runs_when_asked_for(tmp_path: Path) -> None:
    ran = run_pytest(tmp_path, FORGETFUL_TESTS.partition("@pytest.mark.misspelt")[0], "--slow", "-k", "takes_long")
    assert "1 failed" in ran.stdout


def test_an_unknown_marker_is_an_error(tmp_path: Path) -> None:
    ran = run_pytest(tmp_path, FORGETFUL_TESTS)
    assert "'misspelt' not found in `markers`" in ran.stdout


WHO_RUNS_IT = """
import os
from pathlib import Path

import pytest

@pytest.mark.parametrize("number", range(3))
def test_leaves_a_line(number):
    with Path("ran").open("a") as ran:
        ran.write(f"tests/{Path(__file__).name} {os.environ['PYTEST_XDIST_WORKER']}\\n")
"""


def test_one_process_has_all_that_waits_while_another_one_works(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, WHO_RUNS_IT, files=[*WAITING, "tests/test_a.py", "tests/test_z.py"], processes=2)
    assert done.returncode == 0, done.stdout
    ran = [line.split() for line in (tmp_path / "ran").read_text(encoding="utf-8").splitlines()]
    assert len(ran) == 3 * (len(WAITING) + 2)
    [waits] = {process for name, process in ran if name in WAITING}
    assert {process for name, process in ran if name not in WAITING} - {waits}


@pytest.mark.parametrize("name", sorted(WAITING))
def test_a_file_that_is_said_to_wait_is_there(name: str) -> None:
    assert (ROOT / name).is_file()


def test_the_source_repository_has_two_commits_and_is_clean(source_repo: Path) -> None:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=source_repo, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert git("log", "--format=%s") == "Add the sum\nSay what this is"
    assert git("status", "--porcelain") == ""
    assert git("ls-files").split() == ["README.md", "src/calc.py", "tests/test_calc.py"]


def test_every_hostile_name_can_be_a_file(tmp_path: Path, hostile_names: list[str]) -> None:
    for name in hostile_names:
        (tmp_path / name).touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(hostile_names)
