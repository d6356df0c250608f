"""The configuration's files and variables, job files, and durations."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist.configuration import define_job, define_roles, find_project_file, load_configuration, read_job_file
from logist.durations import format_duration, parse_duration
from logist.errors import InvalidFile, UsageProblem
from logist.models.config import AgentDefinition, Config, JobFile
from logist.models.manifest import Budget, Check, Phase, Roles, RoleSettings


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "deep" / "er").mkdir(parents=True)
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def user_file(home: Path, text: str) -> Path:
    return write(home / ".config" / "logist" / "config.toml", text)


def problem_in(folder: Path, text: str) -> InvalidFile:
    write(folder / "logist.toml", text)
    with pytest.raises(InvalidFile) as caught:
        load_configuration(folder, {})
    assert caught.value.message.startswith(f"{folder / 'logist.toml'}")
    return caught.value


# Where it comes from


def test_without_any_file_the_defaults_hold(project: Path) -> None:
    loaded = load_configuration(project, {})
    assert loaded.config == Config()
    assert loaded.origins == {}


def test_the_nearest_file_upwards_counts(project: Path) -> None:
    write(project / "logist.toml", "no_progress_limit = 4")
    assert load_configuration(project / "deep" / "er", {}).config.no_progress_limit == 4
    nearer = write(project / "deep" / "pyproject.toml", "[tool.logist]\nno_progress_limit = 5")
    assert find_project_file(project / "deep" / "er") == nearer
    assert load_configuration(project / "deep" / "er", {}).config.no_progress_limit == 5


def test_logist_toml_goes_before_pyproject(project: Path) -> None:
    write(project / "pyproject.toml", "[tool.logist]\nno_progress_limit = 5")
    write(project / "logist.toml", "no_progress_limit = 4")
    assert load_configuration(project, {}).config.no_progress_limit == 4


@pytest.mark.parametrize("text", ["[tool.other]\nx = 1", "this is not TOML [", "[tool.logistics]\nx = 1"])
def test_a_pyproject_of_somebody_else_is_passed_over(project: Path, text: str) -> None:
    above = write(project / "logist.toml", "no_progress_limit = 4")
    write(project / "deep" / "pyproject.toml", text)
    assert find_project_file(project / "deep") == above


def test_a_named_file_is_read_instead_of_the_projects(project: Path, tmp_path: Path) -> None:
    write(project / "logist.toml", "no_progress_limit = 4\n[budget]\nsteps = 7")
    other = write(tmp_path / "other.toml", "no_progress_limit = 6")
    config = load_configuration(project, {}, other).config
    assert (config.no_progress_limit, config.budget.steps) == (6, 30)
    with pytest.raises(InvalidFile, match="no such file"):
        load_configuration(project, {}, tmp_path / "absent.toml")


def test_the_projects_file_goes_before_the_users_key_by_key(project: Path, home: Path) -> None:
    user = user_file(home, "no_progress_limit = 9\n[budget]\nsteps = 5\ncost = 2.5\n[roles.worker]\ntimeout = '1h'")
    file = write(project / "logist.toml", "[budget]\nsteps = 8\n[roles.worker]\nagent = 'playbook'")
    loaded = load_configuration(project, {})
    assert loaded.config == Config(
        no_progress_limit=9,
        budget=Budget(steps=8, cost=2.5),
        roles=Roles(worker=RoleSettings(agent="playbook", timeout=3600)),
    )
    assert loaded.origins == {
        "no_progress_limit": str(user),
        "budget.steps": str(file),
        "budget.cost": str(user),
        "roles.worker.timeout": str(user),
        "roles.worker.agent": str(file),
    }


def test_another_agent_does_not_take_over_argument_and_model(project: Path, home: Path) -> None:
    user_file(home, "[roles.worker]\nagent = 'big'\nmodel = 'm'\nargument = 'a'\ntimeout = 60")
    write(project / "logist.toml", "[roles.worker]\nagent = 'small'")
    loaded = load_configuration(project, {})
    assert loaded.config.roles.worker == RoleSettings(agent="small", timeout=60)
    assert "roles.worker.model" not in loaded.origins


def test_an_agents_definition_is_replaced_as_a_whole(project: Path, home: Path) -> None:
    user_file(home, "[agents.mine]\ncommand = ['old']\n[agents.yours]\ncommand = ['kept']")
    file = write(project / "logist.toml", "[agents.mine]\ncommand = 'new'")
    loaded = load_configuration(project, {})
    assert (loaded.config.agents["mine"].shell, loaded.config.agents["mine"].argv) == ("new", ())
    assert loaded.config.agents["yours"].argv == ("kept",)
    assert loaded.origins["agents.mine"] == str(file)


def test_variables_go_before_files(project: Path) -> None:
    write(project / "logist.toml", "[roles.worker]\nagent = 'mine'\nmodel = 'm'\ntimeout = 60")
    environ = {"LOGIST_WORKER": "command:make all", "LOGIST_SUPERVISOR": ""}
    loaded = load_configuration(project, environ)
    assert loaded.config.roles.worker == RoleSettings(agent="command", argument="make all", timeout=60)
    assert loaded.config.roles.supervisor == RoleSettings()
    assert loaded.origins["roles.worker.agent"] == "LOGIST_WORKER"
    with pytest.raises(UsageProblem):
        load_configuration(project, {"LOGIST_SUPERVISOR": "make all"})


def test_paths_are_relative_to_the_file_that_names_them(project: Path, home: Path) -> None:
    write(
        project / "logist.toml",
        "jobs_dir = 'jobs'\nprompts = '~/prompts'\n"
        "[roles.worker]\nargument = 'p.toml'\n[roles.supervisor]\nagent = 'command'\nargument = 'make'",
    )
    config = load_configuration(project / "deep", {}).config
    assert (config.jobs_dir, config.prompts) == (project / "jobs", home / "prompts")
    assert config.roles.worker.argument == str(project / "p.toml")
    assert config.roles.supervisor.argument == "make"


# What is in it


def test_everything_can_be_written_short(project: Path) -> None:
    write(
        project / "logist.toml",
        """
        checks = ["make test", { name = "lint", command = "make lint", required = false, timeout = "2m" }]
        env = ["API_KEY"]
        [budget]
        time = "1h30m"
        [roles.supervisor]
        idle_timeout = "90s"
        timeout = 5
        """,
    )
    config = load_configuration(project, {}).config
    assert config.checks == (
        Check(name="make test", command="make test"),
        Check(name="lint", command="make lint", required=False, timeout=120),
    )
    assert (config.budget.time, config.env) == (5400, ("API_KEY",))
    assert (config.roles.supervisor.idle_timeout, config.roles.supervisor.timeout) == (90, 5)


#: The start of an agent whose output is read.
JSON_AGENT = "[agents.mine]\ncommand = ['x']\noutput = 'json'\nreply_path = 'a.0.b'\n"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("budgets = 1", "unknown key budgets", "did you mean budget? known here are: roles, budget, checks"),
        ("[budget]\nstep = 1", "unknown key budget.step", "did you mean steps?"),
        ("[roles.worker]\nmodle = 'x'", "unknown key roles.worker.modle", "did you mean model?"),
        ("[roles.boss]\nagent = 'x'", "unknown key roles.boss", "worker, supervisor"),
        ("[[checks]]\nname = 'x'\ncomand = 'y'", "unknown key checks.0.comand", "did you mean command?"),
        ("[[checks]]\nname = 'x'", "the key checks.0.command is missing", "add checks.0.command"),
        ("[agents.mine]\ncommand = ['x']\nprmpt = 'none'", "unknown key agents.mine.prmpt", "did you mean prompt?"),
        ("no_progress_limit = 'x'", "no_progress_limit: Input should be a valid integer", "correct no_progress_limit"),
        ("[budget]\ntime = 'soon'", "budget: time: 'soon' is not a duration", "correct budget"),
        ("[roles.worker]\nidle_timeout = 'soon'", "roles: worker.idle_timeout: 'soon' is not a duration", "correct"),
        ("[roles.worker]\ntimeout = '0s'", "roles.worker.timeout: Input should be greater than 0", "correct"),
        (
            "[agents.mine]\ncommand = ['x', '{promt}']",
            "agents.mine: command has the unknown placeholder {promt}",
            "correct",
        ),
        ("[agents.mine]\nprompt = 'none'", "the key agents.mine.command is missing", "add agents.mine.command"),
        ("[agents.mine]\ncommand = 5", "agents.mine.command: write it as a list of words, or as one line", "correct"),
        ("[agents.mine]\ncommand = ['x', 5]", "agents.mine.command: write it as a list of words", "correct"),
        (f"[agents.mine]\ncommand = ['x', '{'y' * 40_000}']", "is longer than 32768 characters", "correct"),
        ("[agents.mine]\ncommand = ' '", "agents.mine.command: it is empty", "correct"),
        ("[agents.mine]\ncommand = 'x'\nprompt = 'arg'", 'a shell line takes no prompt = "arg"', "correct"),
        ("[agents.mine]\ncommand = ['{prompt}']", '{prompt} in command needs prompt = "arg"', "correct"),
        ("[agents.mine]\ncommand = ['x']\nenv = { A_TOKEN = 'x' }", "A_TOKEN looks like a secret", "correct"),
        ("[agents.mine]\ncommand = ['x']\noutput = 'json'", 'output = "json" needs reply_path', "correct"),
        ("[agents.mine]\ncommand = ['x']\nerror_path = 'e'", 'error_path needs output = "json" or "ndjson"', "correct"),
        (
            "[agents.mine]\ncommand = ['x']\nusage = { cost = 'c' }",
            'usage needs output = "json" or "ndjson"',
            "correct",
        ),
        (f"{JSON_AGENT}session_path = 'a..b'", "agents.mine.session_path: 'a..b' is no dotted path", "correct"),
        (f"{JSON_AGENT}usage = {{ costs = 'c' }}", "unknown key agents.mine.usage.costs", "did you mean cost?"),
        (f'{JSON_AGENT}provider = "openai"', "provider is for a price: it needs the paths", "correct"),
        (f"{JSON_AGENT}usage = {{ cumulative = true }}", "cumulative says nothing without the path", "correct"),
        (f"{JSON_AGENT}resume = ['-c']\nsession_path = 's'", "resume must say where {session} stands", "correct"),
        (f"{JSON_AGENT}resume = ['-r', '{{session}}']", "resume needs session_path", "correct"),
        (f"{JSON_AGENT}output_path = 'x'", "unknown key agents.mine.output_path", "did you mean"),
        ("[agents.command]\ncommand = ['x']", "agents.command: command is built in", "correct"),
        ("[agents.Mine]\ncommand = ['x']", "agents.Mine", "correct"),
        ("env = ['A=B']", "env.0", "correct env.0"),
        ("x = [", "is not TOML", "correct that line"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(text: str, message: str, hint: str, project: Path) -> None:
    problem = problem_in(project, text)
    assert message in problem.message
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("argv = ['x', '-p']", "command = ['x', '-p']"),
        ("shell = 'x -p'", "command = 'x -p'"),
        ("argv = ['x']\nprompt = 'argument'", "command = ['x']\nprompt = 'arg'"),
        (
            "command = 'x'\noutput = 'json'\ntext_path = 'a.b'\ntext_where = { c = 'd' }",
            "command = 'x'\noutput = 'json'\nreply_path = 'a.b'\nreply_where = { c = 'd' }",
        ),
    ],
)
def test_an_agent_that_is_described_in_the_words_of_before_is_read_as_ever(old: str, new: str, project: Path) -> None:
    def read(text: str) -> AgentDefinition:
        write(project / "logist.toml", f"[agents.mine]\n{text}")
        return load_configuration(project, {}).config.agents["mine"]

    assert read(old) == read(new)


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("argv = ['x']\ncommand = ['x']", "argv", "command"),
        ("argv = ['x']\nshell = 'x'", "shell", "command"),
        ("command = 'x'\noutput = 'json'\ntext_path = 'a'\nreply_path = 'a'", "text_path", "reply_path"),
    ],
)
def test_a_key_that_stands_there_in_two_words_is_refused(text: str, old: str, new: str, project: Path) -> None:
    problem = problem_in(project, f"[agents.mine]\n{text}")
    assert problem.message.endswith(
        f"agents.mine: {old} is an old name of {new}, and there is one already; write {new} alone"
    )


def test_a_mistake_in_the_users_file_names_the_users_file(project: Path, home: Path) -> None:
    file = user_file(home, "budgets = 1")
    with pytest.raises(InvalidFile, match="unknown key budgets") as caught:
        load_configuration(project, {})
    assert caught.value.message.startswith(str(file))


def test_a_tool_table_of_another_kind_is_named(project: Path) -> None:
    write(project / "pyproject.toml", "[[tool.logist]]\nx = 1\n[tool.logist.y]")
    with pytest.raises(InvalidFile, match=r"tool\.logist must be a table"):
        load_configuration(project, {})


def test_a_fixed_variable_that_only_sounds_like_a_secret_is_taken(project: Path) -> None:
    write(project / "logist.toml", "[agents.mine]\ncommand = ['x']\nenv = { MAX_TOKENS = '5', KEYBOARD = 'us' }")
    assert load_configuration(project, {}).config.agents["mine"].env["MAX_TOKENS"] == "5"


# Job files

JOB = """
id = "fix-it"
objective = "Fix it"
prompt = "All of it"
source = "../repo"
phases = ["plan", { name = "build", instructions = "now", checks = ["make"] }]
checks = [{ name = "tests", command = "make test", timeout = "1m" }]
[roles.worker]
agent = "playbook"
argument = "p.toml"
[budget]
time = "2h"
"""


def test_a_whole_job_stands_in_one_file(project: Path) -> None:
    job = read_job_file(write(project / "job.toml", JOB))
    assert job == JobFile(
        id="fix-it",
        objective="Fix it",
        prompt="All of it",
        source=project / ".." / "repo",
        phases=(
            Phase(name="plan"),
            Phase(name="build", instructions="now", checks=(Check(name="make", command="make"),)),
        ),
        checks=(Check(name="tests", command="make test", timeout=60),),
        roles=Roles(worker=RoleSettings(agent="playbook", argument=str(project / "p.toml"))),
        budget=Budget(time=7200),
    )


def test_a_job_file_may_be_json(project: Path) -> None:
    text = json.dumps({"objective": "Fix it", "budget": {"time": "2h"}})
    assert read_job_file(write(project / "job.json", text)).budget == Budget(time=7200)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("job.toml", "id = 'x'", "the key objective is missing"),
        ("job.toml", "objective = 'x'\nobjectiv = 'y'", "unknown key objectiv"),
        ("job.toml", "objective = 'x'\nid = 'No Id'", "id: "),
        ("job.toml", "objective = 'x'\nphases = []", "phases: "),
        ("job.json", "{", "is not JSON"),
        ("job.json", "[]", "must hold one JSON object"),
        ("job.json", "[" * 100_000, "is not JSON"),
        ("job.toml", "objective = ", "is not TOML"),
    ],
)
def test_a_bad_job_file_is_refused(name: str, text: str, message: str, project: Path) -> None:
    with pytest.raises(InvalidFile) as caught:
        read_job_file(write(project / name, text))
    assert message in caught.value.message
    assert name in caught.value.message


def test_what_a_job_file_leaves_out_comes_from_the_configuration() -> None:
    config = Config(
        roles=Roles(
            worker=RoleSettings(agent="mine", model="m", timeout=60), supervisor=RoleSettings(agent="judge", model="j")
        ),
        budget=Budget(steps=5, cost=1.0),
        checks=(Check(name="tests", command="make test"),),
        no_progress_limit=7,
        env=("API_KEY",),
    )
    bare = define_job(JobFile(objective="x"), config)
    assert (bare.checks, bare.no_progress_limit, bare.budget) == (config.checks, 7, config.budget)
    assert bare.roles.worker == RoleSettings(agent="mine", model="m", timeout=60, env=("API_KEY",))
    full = define_job(
        JobFile(
            objective="x",
            checks=(),
            roles=Roles(worker=RoleSettings(agent="command", argument="make", env=("OTHER",))),
            budget=Budget(steps=9),
            no_progress_limit=2,
        ),
        config,
    )
    assert (full.checks, full.no_progress_limit, full.budget) == ((), 2, Budget(steps=9, cost=1.0))
    assert full.roles.worker == RoleSettings(agent="command", argument="make", timeout=60, env=("OTHER", "API_KEY"))
    assert full.roles.supervisor == RoleSettings(agent="judge", model="j", env=("API_KEY",))
    assert define_roles(None, Config()) == Roles()


def test_a_job_that_contradicts_itself_is_refused() -> None:
    twice = (Check(name="x", command="a"), Check(name="x", command="b"))
    with pytest.raises(InvalidFile, match="have the same name"):
        define_job(JobFile(objective="x", checks=twice), Config())


def test_a_stored_job_is_the_job_that_was_defined(project: Path) -> None:
    job = define_job(read_job_file(write(project / "job.toml", JOB)), Config())
    assert type(job).model_validate_json(job.model_dump_json()) == job


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("0.5", 0.5),
        ("45s", 45.0),
        ("30m", 1800.0),
        ("1.5h", 5400.0),
        ("1h30m", 5400.0),
        (" 1H 30M ", 5400.0),
        ("2d", 172_800.0),
        ("250ms", 0.25),
        ("1d2h3m4s", 93_784.0),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "-5m", "1x", "m", "nan", "inf", "1e9", "5m later", "9" * 400, "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (0.44, "0.4s"),
        (9.99, "10s"),
        (59.6, "1m"),
        (867, "14m27s"),
        (3599.7, "1h"),
        (7500, "2h05m"),
        (86_400, "1d"),
        (273_600, "3d04h"),
    ],
)
def test_durations_are_shown_in_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e8))
def test_a_shown_duration_is_read_back_as_nearly_the_same(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.025, abs=0.51)


@given(st.text(max_size=12))
def test_no_text_makes_the_parser_fail_in_another_way(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_duration(text) >= 0
