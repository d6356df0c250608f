"""How the agent CLIs are called: what stands in their command lines, and what their environment holds."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from recorded import cli_called, request_for

from logist.agents import CLIS
from logist.agents.cli import Asked, CliAgent
from logist.agents.oneshot import OneshotRequest, prompt_bytes
from logist.execution import Command
from logist.models.manifest import Role
from logist.models.usage import AgentSession

BOTH = (Role.WORKER, Role.SUPERVISOR)
ARGV = Path(__file__).parent / "argv"


def spell(request: OneshotRequest) -> Command:
    return CliAgent(cli_called(request.settings.agent)).spell(request)


def resuming(request: OneshotRequest) -> OneshotRequest:
    return replace(request, session=AgentSession(agent=request.settings.agent, id="a-session"))


@pytest.mark.parametrize("name", CLIS)
def test_a_cli_is_registered_under_the_name_it_has(name: str) -> None:
    cli = cli_called(name)
    assert cli.name == name
    assert cli.install
    assert len(set(cli.passes)) == len(cli.passes)
    assert not {variable for variable, _ in cli.fixed} & set(cli.passes)


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("name", CLIS)
def test_a_oneshot_runs_the_program_itself_and_no_shell(name: str, role: Role, tmp_path: Path) -> None:
    command = spell(request_for(tmp_path, name, role))
    assert command.shell is None
    assert command.argv[0] == cli_called(name).program
    assert all(argument for argument in command.argv)
    assert not [argument for argument in command.argv if "\0" in argument]


@pytest.mark.parametrize("name", CLIS)
def test_the_command_lines_are_those_that_are_written_down(name: str, tmp_path: Path) -> None:
    expected = tomllib.loads((ARGV / f"{name}.toml").read_text(encoding="utf-8"))
    cli = cli_called(name)
    request = request_for(tmp_path, name)
    places = {"{prompt}": request.prompt, "{step_dir}": str(request.step_dir)}

    def written(argv: tuple[str, ...]) -> str:
        line = shlex.join(argv)
        for place, value in places.items():
            line = line.replace(shlex.quote(value), place).replace(value, place)
        return line

    assert written(spell(request_for(tmp_path, name, model="m-1")).argv) == expected["worker"]
    assert written(spell(request_for(tmp_path, name, Role.SUPERVISOR)).argv) == expected["supervisor"]
    assert expected["worker"] != expected["supervisor"]
    assert written(spell(resuming(request)).argv) == expected.get("resumed", written(spell(request).argv))
    assert written(cli.chat("a-session")) == expected.get("chat", "")
    assert dict(cli.fixed) == expected.get("fixed", dict(cli.fixed))


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("name", CLIS)
def test_a_model_is_asked_for_by_name_and_left_to_the_program_otherwise(name: str, role: Role, tmp_path: Path) -> None:
    asked = spell(request_for(tmp_path, name, role, model="maker/model-1")).argv
    left = spell(request_for(tmp_path, name, role)).argv
    assert [argument for argument in asked if re.fullmatch(r"(.*[=:])?maker/model-1", argument)]
    assert "None" not in " ".join(left)
    assert len(left) < len(asked)


@pytest.mark.parametrize("name", CLIS)
def test_a_session_is_gone_on_with_where_the_program_can(name: str, tmp_path: Path) -> None:
    request = request_for(tmp_path, name)
    fresh, resumed = spell(request).argv, spell(resuming(request)).argv
    assert (fresh != resumed) is cli_called(name).resumes
    if cli_called(name).resumes:
        assert [argument for argument in resumed if argument.endswith("a-session")]
        assert cli_called(name).chat("a-session")[0] == cli_called(name).program


@pytest.mark.parametrize("name", [name for name in CLIS if cli_called(name).resumes])
def test_a_session_goes_on_with_the_model_and_the_arguments_that_the_role_has_by_now(name: str, tmp_path: Path) -> None:
    request = request_for(tmp_path, name, model="maker/model-1", args=("--extra",))
    for argv in (spell(resuming(request)).argv, CliAgent(cli_called(name)).chat(request.settings, "a-session")):
        assert {"--model", "maker/model-1", "--extra"} <= set(argv)


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("name", CLIS)
def test_the_prompt_reaches_the_program_one_way_and_never_as_a_huge_argument(
    name: str, role: Role, tmp_path: Path
) -> None:
    for prompt in ("Do it well: é\n", "-p --yes 'quoted'; $(x)", "word " * 60_000):
        request = replace(request_for(tmp_path, name, role), prompt=prompt)
        command = spell(request)
        assert sum(len(argument.encode()) for argument in command.argv) < 110_000
        if cli_called(name).prompt == "stdin":
            assert command.stdin == prompt_bytes(request)
            assert not [argument for argument in command.argv if prompt in argument]
        else:
            assert command.stdin is None
            given = [prompt, str(request.prompt_file)]
            assert [argument for argument in command.argv if any(part in argument for part in given)]


@pytest.mark.parametrize("name", CLIS)
def test_arguments_of_the_role_are_added_and_its_variables_passed_on(name: str, tmp_path: Path) -> None:
    cli = cli_called(name)
    given = dict.fromkeys((*cli.passes, "MY_TOKEN", "SOMETHING_ELSE", "CLAUDECODE", "GIT_DIR"), "given")
    request = request_for(tmp_path, name, args=("--extra", "a b"), env=("MY_TOKEN",))
    command = spell(replace(request, environ={**request.environ, **given}))
    assert command.argv[-2:] == ("--extra", "a b")
    assert {variable: command.env.get(variable) for variable in (*cli.passes, "MY_TOKEN")} == dict.fromkeys(
        (*cli.passes, "MY_TOKEN"), "given"
    )
    assert not {"SOMETHING_ELSE", "CLAUDECODE", "GIT_DIR"} & command.env.keys()
    assert dict(cli.fixed).items() <= command.env.items()


@pytest.mark.parametrize("name", CLIS)
def test_its_version_can_be_asked_without_a_shell(name: str) -> None:
    program, *options = cli_called(name).version_argv or (cli_called(name).program, "--version")
    assert program == cli_called(name).program
    assert options
    assert cli_called(name).tested


@pytest.mark.parametrize(
    ("version", "worker", "supervisor"),
    [
        (None, ["--json"], ["--json", "--plan"]),
        ("3.0.65", ["--json"], ["--json", "--plan"]),
        ("4.1.0\n", ["--json"], ["--json", "--plan"]),
        ("2.18.0", ["--json", "--yolo"], ["--json", "--plan"]),
        (
            "Cline CLI Version:  1.0.10",
            ["--oneshot", "-F", "json", "-s", "enable-checkpoints-setting=false"],
            ["--oneshot", "-F", "json", "-s", "enable-checkpoints-setting=false"],
        ),
        ("unreadable", ["--json"], ["--json", "--plan"]),
    ],
)
def test_cline_is_called_as_its_generation_takes_it(
    version: str | None, worker: list[str], supervisor: list[str], tmp_path: Path
) -> None:
    for role, options in ((Role.WORKER, worker), (Role.SUPERVISOR, supervisor)):
        request = replace(request_for(tmp_path, "cline", role), version=version)
        assert cli_called("cline").argv(Asked(request, "Do it well", None)) == ("cline", *options, "Do it well")


def test_the_first_cline_is_told_its_model_for_both_modes_in_the_settings_of_its_provider(tmp_path: Path) -> None:
    request = replace(request_for(tmp_path, "cline", model="maker/model-1"), version="1.0.10")
    argv = spell(request).argv
    assert {"--setting=plan-mode-open-ai-model-id=maker/model-1", "--setting=act-mode-api-model-id=maker/model-1"} <= {
        *argv
    }
    assert "--model" not in argv


@pytest.mark.parametrize("name", ["gemini", "qwen"])
def test_what_the_work_names_is_put_into_no_supervisors_prompt(name: str, tmp_path: Path) -> None:
    diff = '@@ -1 +1 @@\n+@fixture.py\n+"@scope/pkg"'
    asked = spell(replace(request_for(tmp_path, name, Role.SUPERVISOR), prompt=diff)).stdin
    assert asked == b'\\@\\@ -1 +1 \\@\\@\n+\\@fixture.py\n+"\\@scope/pkg"'
    assert spell(replace(request_for(tmp_path, name), prompt="see @notes.md")).stdin == b"see @notes.md"


def test_aider_never_edits_whole_files_nor_looks_for_a_repository(tmp_path: Path) -> None:
    for role in BOTH:
        argv = spell(request_for(tmp_path, "aider", role)).argv
        assert argv[argv.index("--edit-format") + 1] in ("diff", "ask")
        assert "--no-git" in argv


def test_mini_is_given_a_terminal_of_common_width(tmp_path: Path) -> None:
    # It fills 35 MB with frames for a single error otherwise.
    assert int(spell(request_for(tmp_path, "mini")).env["COLUMNS"]) < 1000
