"""What a command may import: the ones that must feel instant start with click and the standard library alone.

Times are a benchmark's business; these tests name the module that would make a command slow.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import Project

from logist.cli import JOB_COMMANDS, ROLE_COMMANDS, TOP_COMMANDS, Sections

ROOT = Path(__file__).resolve().parents[1]

#: What no instant command may load, with what each of them brings along.
SLOW = {
    "filelock",
    "git",
    "jinja2",
    "logging",
    "platformdirs",
    "psutil",
    "pydantic",
    "rich",
    "subprocess",
    "tempfile",
    "tenacity",
    "transitions",
}
#: A tenth of what `--help` may take, each.
STANDARD_BUT_SLOW = {"dataclasses", "json", "pathlib"}
#: `job status` needs the typed manifest, and nothing that runs or draws live.
SLOW_FOR_STATUS = SLOW - {"pydantic", "subprocess", "tempfile"}

#: Runs a command and writes down its exit code and the modules that it loaded, one a line.
_PROBE = """
import sys
before = set(sys.modules)
from logist.cli import run
try:
    code = run(sys.argv[2:])
finally:
    loaded = sorted(set(sys.modules) - before)
with open(sys.argv[1], "w") as file:
    file.write("\\n".join([str(code), *loaded]))
"""


def modules_of(project: Project, *arguments: str, probe: str = _PROBE, code: int = 0, **environment: str) -> set[str]:
    """The top-level names and our own modules that a command has loaded when it ends."""
    report = project.folder.parent / "modules.json"
    report.unlink(missing_ok=True)
    subprocess.run(
        [sys.executable, "-c", probe, str(report), *arguments],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **project.env, **environment},
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    ended_with, *loaded = report.read_text(encoding="utf-8").splitlines()
    assert int(ended_with) == code
    return {name if name.startswith("logist") else name.partition(".")[0] for name in loaded}


@pytest.fixture(scope="module")
def pending(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder with a job that was never run."""
    project = Project.make(tmp_path_factory.mktemp("pending"))
    project.env["HOME"] = str(project.folder.parent)
    project.create()
    return project


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("--help",),
        ("job", "--help"),
        ("job", "run", "--help"),
        ("help", "exit-codes"),
        ("completion", "bash"),
        ("completion", "zsh"),
        ("schema",),
    ],
    ids=" ".join,
)
def test_help_version_and_completion_load_click_and_nothing_slow(pending: Project, arguments: tuple[str, ...]) -> None:
    loaded = modules_of(pending, *arguments)
    assert not loaded & (SLOW | STANDARD_BUT_SLOW)


def test_the_help_of_no_command_loads_anything_slow(pending: Project) -> None:
    tables = (([], TOP_COMMANDS), (["job"], JOB_COMMANDS), (["role"], ROLE_COMMANDS))
    paths = [[*group, name] for group, sections in tables for commands in sections.values() for name in commands]
    probe = _PROBE.replace("run(sys.argv[2:])", f"max(run(['help', *path]) for path in {paths!r})")
    loaded = modules_of(pending, probe=probe)
    assert "logist.commands.doctor" in loaded
    assert not loaded & (SLOW | STANDARD_BUT_SLOW)


@pytest.mark.parametrize("line", ["logist job ", "logist job run --", "logist job status j"])
def test_a_completion_loads_nothing_slow(pending: Project, line: str) -> None:
    loaded = modules_of(pending, _LOGIST_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(line.count(" ")))
    assert not loaded & SLOW


def test_cancel_loads_nothing_slow(pending: Project) -> None:
    shutil.copytree(pending.jobs / "job", pending.jobs / "other")
    loaded = modules_of(pending, "job", "cancel", "other", "-m", "not needed")
    assert json.loads((pending.jobs / "other" / "job_manifest.json").read_bytes())["status"] == "CANCELED"
    assert not loaded & SLOW
    ours = {name for name in loaded if name.startswith("logist.")}
    assert "logist.job_state" not in ours
    assert "logist.models" not in ours


@pytest.mark.parametrize("arguments", [("job", "status"), ("job", "status", "--json"), ("job", "list")], ids=" ".join)
def test_status_and_list_load_no_git_and_no_terminal_library(pending: Project, arguments: tuple[str, ...]) -> None:
    loaded = modules_of(pending, *arguments)
    assert "pydantic" in loaded
    assert not loaded & SLOW_FOR_STATUS
    unneeded = {"logist.workspace_utils", "logist.job_processor", "logist.configuration", "logist.models.history"}
    assert not loaded & unneeded


@pytest.mark.parametrize("sections", [TOP_COMMANDS, JOB_COMMANDS, ROLE_COMMANDS], ids=["logist", "job", "role"])
def test_the_table_of_commands_says_what_their_own_help_says(sections: Sections) -> None:
    from logist.cli import load_command

    for commands in sections.values():
        for name, entry in commands.items():
            command = load_command(entry)
            assert command.name == name
            assert entry.summary.endswith(".")
            assert len(entry.summary) <= 70
