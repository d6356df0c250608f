"""The pages of docs/ and the README: they are generated, lead somewhere, and say what the code does."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import click
import pytest

from logist import environment
from logist.agents import _player
from logist.agents.oneshot import _request_variables
from logist.agents.reading import parse_reply
from logist.cli import cli
from logist.commands.invocation import Invocation
from logist.errors import ExitCode
from logist.models.config import PLACEHOLDERS, AgentDefinition, Config, JobFile
from logist.models.manifest import Budget, Check, Phase, ReasonCode, Roles, RoleSettings
from logist.models.record import Record

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
STATE_MACHINE = ROOT / "docs" / "03_state_machine.md"
JOBS_AND_ROLES = (ROOT / "docs" / "02_jobs_and_roles.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "01_architecture.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
#: Words that stand for a value where one is meant that has a type.
_STAND_INS = {"N": "1", "DURATION": "30m", "DOLLARS": "1"}
_SHELLS = ("sh", "bash", "console")

Parse = Callable[[list[str]], None]


class Block(NamedTuple):
    """A fenced block: its page, the line on which it begins, its language and its content."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(*languages: str) -> list[Block]:
    return [
        Block(name_of(page), read(page).count("\n", 0, found.start()) + 1, found[1], found[2])
        for page in PAGES
        for found in _FENCE.finditer(read(page))
        if found[1] in languages
    ]


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generator", ROOT / "docs" / "generate_state_machine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- generated -----------------------------------------------------------------------------------------------------


def test_the_state_machine_page_is_what_the_table_generates() -> None:
    page = read(STATE_MACHINE)
    assert load_generator().updated(page) == page, "run docs/generate_state_machine.py"


def test_a_page_without_its_markers_is_not_overwritten() -> None:
    with pytest.raises(ValueError, match="markers"):
        load_generator().updated("# The state machine\n")


# --- links ---------------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as they are made where such pages are shown."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    broken = []
    for link in _LINK.findall(_FENCE.sub("", read(page))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(read(target))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken_links(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One, two!\n[a](#one-two) [b](#three) [c](page.md) [d](gone.md) ![e](gone.svg) [f](https://x.y)")
    assert broken_links(page) == ["#three", "gone.md", "gone.svg"]


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        links = (link.partition("#")[0] for link in _LINK.findall(read(page)) if "://" not in link)
        waiting += [(page.parent / link).resolve() for link in links if link]
    assert set(PAGES) <= reached


def test_every_test_file_that_is_named_exists() -> None:
    named = re.findall(r"`((?:tests|benchmarks)/\w+\.py)", read(ROOT / "docs" / "06_testing.md"))
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


# --- commands ------------------------------------------------------------------------------------------------------


def commands_in(line: str) -> Iterator[list[str]]:
    """The arguments of every `logist` command of a shell line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            if "logist" in words:
                yield words[words.index("logist") + 1 :]
            words = []
        else:
            words.append(word)


def documented_commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The arguments of every `logist` command in a page's examples and text, and where it stands."""
    for block in blocks(*_SHELLS):
        if block.page == name_of(page):
            for line in block.text.replace("\\\n", " ").splitlines():
                yield from ((f"{block}: {line}", arguments) for arguments in commands_in(line.removeprefix("$ ")))
    for code in _CODE.findall(_FENCE.sub("", read(page))):
        if code.startswith("logist "):
            yield from ((code, arguments) for arguments in commands_in(code))


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Parses a command line as the real one is parsed, down to each option's type, and runs nothing."""
    monkeypatch.setattr(click.Command, "invoke", lambda self, ctx: None)

    def parsed(arguments: list[str]) -> None:
        words = [_STAND_INS.get(word, word) for word in arguments]
        cli.main(words, prog_name="logist", standalone_mode=False, obj=Invocation())

    return parsed


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_is_named_can_be_parsed(page: Path, parse: Parse) -> None:
    for place, arguments in documented_commands(page):
        # In the text a command is also called by its name alone.
        by_name = not any(word.startswith("-") for word in arguments)
        try:
            parse(arguments)
        except click.ClickException as error:
            if not (by_name and isinstance(error, click.MissingParameter)):
                error.add_note(place)
                raise


def test_the_pages_name_commands_at_all() -> None:
    named = {" ".join(arguments[:2]) for page in PAGES for _, arguments in documented_commands(page)}
    assert {"job create", "job run", "job resolve", "job deliver", "doctor --repair"} <= named


@pytest.mark.parametrize(
    "line",
    [
        "logist job fly",
        "logist job run --warp",
        "logist job resolve --rewind soon",
        "true && logist fly",
        "logist schema x",
    ],
)
def test_a_command_that_is_not_there_is_found(line: str, parse: Parse) -> None:
    [arguments] = commands_in(line)
    with pytest.raises(click.ClickException):
        parse(arguments)


def test_the_first_job_of_the_readme_can_be_pasted(source_repo: Path, tmp_path: Path) -> None:
    [script] = [block.text for block in blocks("sh") if "job create" in block.text and block.page == "README.md"]
    assert len(script.splitlines()) == 5
    binaries = tmp_path / "bin"
    binaries.mkdir()
    program = binaries / "logist"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m logist "$@"\n')
    program.chmod(0o755)
    environ = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-e", "-c", script], cwd=source_repo, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    log = subprocess.run(
        ["git", "log", "--format=%s", "main..logist/notes"], cwd=source_repo, capture_output=True, text=True, check=True
    )
    # The first attempt passes the check but not the supervisor, as the README says.
    said = [line.partition(" - ")[0] for line in reversed(log.stdout.splitlines())]
    assert said == [
        "step 1 worker: COMPLETED",
        "step 2 supervisor: RETRY",
        "step 3 worker: COMPLETED",
        "step 4 supervisor: COMPLETED",
    ]
    assert (source_repo / "logist.toml").exists()


# --- examples ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("python", "json"), ids=str)
def test_every_example_of_code_or_a_reply_can_be_parsed(block: Block) -> None:
    if block.language == "python":
        ast.parse(block.text)
        return
    loaded = json.loads(block.text)
    if "action" in loaded:
        assert parse_reply(block.text.encode(), loaded["token"], token_required=True).problem is None


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_every_toml_example_is_what_its_first_line_claims(block: Block, tmp_path: Path) -> None:
    loaded = tomllib.loads(block.text)
    match block.text.partition("\n")[0]:
        case "# logist.toml":
            Config.model_validate(loaded)
        case "# a job file":
            JobFile.model_validate(loaded)
        case "# a playbook":
            (tmp_path / "playbook.toml").write_text(block.text, encoding="utf-8")
            assert _player.load_playbook(tmp_path / "playbook.toml")
        case line:
            pytest.fail(f"{line!r} does not say which file it is")


# --- tables --------------------------------------------------------------------------------------------------------


def named_in(text: str) -> set[str]:
    """Every word that stands in code or in an example of a page."""
    spans = " ".join(_CODE.findall(_FENCE.sub("", text)) + [found[2] for found in _FENCE.finditer(text)])
    return set(re.findall(r"[\w.]+", spans))


@pytest.mark.parametrize("model", [Config, JobFile, AgentDefinition, RoleSettings, Roles, Budget, Check, Phase])
def test_every_key_of_a_file_that_people_write_is_explained(model: type[Record]) -> None:
    assert set(model.model_fields) <= named_in(JOBS_AND_ROLES)


def test_every_key_of_a_playbook_is_explained() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", JOBS_AND_ROLES, re.MULTILINE)) >= set(_player.KEYS)


def test_every_placeholder_and_variable_is_explained() -> None:
    assert {f"{{{name}}}" for name in PLACEHOLDERS} <= set(_CODE.findall(JOBS_AND_ROLES))
    variables = set(re.findall(r'"(LOGIST_\w+)":', inspect.getsource(_request_variables)))
    assert len(variables) > 10
    assert variables | set(environment._ALLOWED) <= named_in(JOBS_AND_ROLES)


def test_every_reason_is_explained() -> None:
    section = JOBS_AND_ROLES.partition("\n## Why a job stopped\n")[2].partition("\n## ")[0]
    assert {code.value for code in ReasonCode} <= named_in(section)


def test_the_readme_explains_exactly_the_exit_codes_that_there_are() -> None:
    section = README.partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)] == sorted(map(int, ExitCode))


def test_the_layers_are_the_ones_that_are_enforced() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    there = {
        path.stem for path in (ROOT / "logist").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    enforced = [{name.strip(" ()") for name in layer.split("|")} & there for layer in contract["layers"]]
    [drawn] = [
        block.text for block in blocks("text") if block.page.endswith("01_architecture.md") and "cli\n" in block.text
    ]
    rows = [re.split(r"  +", row)[0].replace("/*", "") for row in drawn.splitlines()]
    shown = [{name.strip() for name in row.split("|")} for row in rows]
    assert shown == [layer for layer in enforced if layer], "correct the layers in docs/01_architecture.md"


def test_every_module_has_its_line_in_the_architecture() -> None:
    modules = {path.name for path in (ROOT / "logist").glob("*.py") if not path.name.startswith("__")}
    folders = {f"{path.parent.name}/" for path in (ROOT / "logist").glob("*/__init__.py")}
    table = ARCHITECTURE.partition("\n| module | what it is |\n")[2].partition("\n\n")[0]
    missing = (modules | folders) - set(_CODE.findall(table))
    assert not missing, "give each a line in the table of docs/01_architecture.md"
