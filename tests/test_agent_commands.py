"""`logist agent …` and `logist job chat`, as people type them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from jobs import say
from stage import Stage, refused, result, staged

from logist.errors import ExitCode
from logist.models.manifest import RoleSettings

SAYS_DONE = '```json\n{"action": "COMPLETED", "summary_for_supervisor": "done"}\n```'


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with staged(tmp_path, monkeypatch) as ready:
        monkeypatch.chdir(tmp_path)
        yield ready


def logist(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "logist", *words], capture_output=True, text=True, check=False)


def test_agents_are_listed_with_their_programs(stage: Stage) -> None:
    listed = {agent["name"]: agent for agent in json.loads(logist("agent", "list", "--json").stdout)}
    assert listed["claude"] == {
        "name": "claude",
        "origin": "built in",
        "program": "claude",
        "path": str(stage.folder / "claude"),
        "problem": None,
    }
    assert listed["playbook"]["program"] is None
    lines = logist("agent", "list").stdout.splitlines()
    [claude] = [line for line in lines if line.startswith("claude ")]
    assert claude.endswith(str(stage.folder / "claude"))


def test_an_agent_of_the_configuration_goes_before_a_known_one(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "logist.toml").write_text('[agents.claude]\ncommand = ["true"]\n', encoding="utf-8")
    listed = {agent["name"]: agent for agent in json.loads(logist("agent", "list", "--json").stdout)}
    assert (listed["claude"]["origin"], listed["claude"]["program"]) == ("configuration", None)


def test_an_agent_of_a_package_that_can_t_be_loaded_is_listed_with_why(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = tmp_path / "site" / "broken_agents-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-agents\nVersion: 1.0\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text("[logist.agents]\nparrot = no_such_module:parrot\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(facts.parent))
    why = "the agent parrot could not be loaded: ModuleNotFoundError: No module named 'no_such_module'"
    listed = {agent["name"]: agent for agent in json.loads(logist("agent", "list", "--json").stdout)}
    assert listed["parrot"] == {
        "name": "parrot",
        "origin": "broken-agents",
        "program": None,
        "path": None,
        "problem": why,
    }
    [parrot] = [line for line in logist("agent", "list").stdout.splitlines() if line.startswith("parrot ")]
    assert parrot.endswith(why)


def test_an_agent_shows_how_it_is_asked(stage: Stage) -> None:
    shown = json.loads(logist("agent", "show", "claude", "--json").stdout)
    assert shown["program"] == "claude"
    assert "ANTHROPIC_API_KEY" in shown["passes"]
    assert shown["install"].startswith("npm install")
    refusal = logist("agent", "show", "nobody")
    assert refusal.returncode == 78
    assert "there is no agent nobody" in refusal.stderr
    assert "claude" in refusal.stderr


def test_an_agent_shows_the_command_lines_by_which_the_roles_call_it(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "logist.toml").write_text(
        """
        [roles.worker]
        agent = "claude"
        model = "large"
        args = ["--allowedTools", "Bash(make *)"]
        [agents.mine]
        command = ["mine", "--file", "{prompt_file}", "--model={model}"]
        prompt = "file"
        """,
        encoding="utf-8",
    )
    shown = json.loads(logist("agent", "show", "claude", "--json").stdout)
    printed = ["claude", "-p", "--output-format", "stream-json", "--verbose", "--permission-mode"]
    added = ["--allowedTools", "Bash(make *)"]
    assert shown["worker"] == [*printed, "acceptEdits", "--model", "large", *added]
    assert shown["worker_again"] == [*printed, "acceptEdits", "--model", "large", "--resume", "{session}", *added]
    assert shown["supervisor"] == [*printed, "plan", "--setting-sources", "user"]
    assert shown["chat"] == ["claude", "--resume", "{session}", "--model", "large", *added]
    assert not (stage.folder / "calls.jsonl").exists()
    lines = logist("agent", "show", "claude:small").stdout.splitlines()
    [supervisor] = [line for line in lines if line.startswith("supervisor")]
    assert supervisor.endswith("--permission-mode plan --setting-sources user --model small")
    assert "mine --file '{prompt_file}' '--model={model}'" in logist("agent", "show", "mine").stdout
    assert "/bin/sh -c 'make all'" in logist("agent", "show", "command:make all").stdout


def test_an_agent_that_answers_is_told_with_its_version_and_cost(stage: Stage) -> None:
    stage.plays({"events": [result(SAYS_DONE)]})
    done = logist("agent", "check", "claude:small", "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == 0
    assert (facts["version"], facts["outcome"]) == ("2.1.197", "reply")
    assert (facts["cost"], facts["cost_is"]) == (0.01, "billed")
    [call] = stage.calls
    assert call["argv"][call["argv"].index("--model") + 1] == "small"


def test_an_agent_that_does_not_answer_is_told_with_why(stage: Stage) -> None:
    stage.plays({"events": [refused(401, "Invalid API key")], "exit_code": 1})
    done = logist("agent", "check", "claude")
    assert done.returncode == 78
    assert "auth: Invalid API key; log in once with `claude`, or set ANTHROPIC_API_KEY" in done.stderr
    assert "outcome       auth" in done.stdout


def test_an_estimated_cost_is_told_as_such_and_a_missing_reply_is_not_ok(stage: Stage) -> None:
    stage.plays({"events": [result("Hello!", total_cost_usd=None)]})
    done = logist("agent", "check", "claude:claude-sonnet-4-5")
    assert done.returncode == 78
    assert "outcome       unreadable" in done.stdout
    assert "cost is       estimated" in done.stdout


def test_a_check_that_asks_nothing_costs_nothing(stage: Stage) -> None:
    (stage.folder / "version").write_text("9.9.9\n", encoding="utf-8")
    done = logist("agent", "check", "claude", "--no-ask")
    assert done.returncode == 0
    assert "claude 9.9.9 is not a version that was tested" in done.stderr
    assert not (stage.folder / "calls.jsonl").exists()


def test_a_program_that_is_not_installed_is_told_with_its_command(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stage.folder / "claude").unlink()
    monkeypatch.setenv("PATH", f"{stage.folder}:/usr/bin:/bin")
    done = logist("agent", "check", "claude", "--no-ask")
    assert done.returncode == 78
    assert "Hint: install it: npm install" in done.stderr


# --- A chat ----------------------------------------------------------------------------------------------------------


def test_a_human_takes_over_the_worker_s_session_and_goes_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLAUDECODE", "CLAUDE_CONFIG_DIR", "GIT_DIR", "EDITOR"):
        monkeypatch.setenv(name, str(stage.folder))
    stage.plays({"events": [result()], "reply": {"action": "STUCK"}})
    worker = RoleSettings(agent="claude", model="small", args=("--add-dir", "/usr"))
    stage.jobs.create(worker=worker, supervisor=say("COMPLETED"))
    stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    line = ["-m", "logist", "--jobs-dir", str(stage.jobs.store.jobs_dir), "job"]
    terminal = pexpect.spawn(sys.executable, [*line, "chat", "job"], encoding="utf-8", timeout=30, dimensions=(24, 200))
    argv = ["--resume", "s-1", "--model", "small", "--add-dir", "/usr"]
    terminal.expect_exact(f"chatting {argv} in {stage.jobs.workspace()}")
    terminal.expect_exact("inherited ['CLAUDE_CONFIG_DIR', 'EDITOR']")
    # The job is held meanwhile.
    answer = ("resolve", "job", "--retry", "-m", "go on")
    assert logist("--jobs-dir", str(stage.jobs.store.jobs_dir), "job", *answer).returncode == ExitCode.BUSY
    terminal.sendline("words of a human")
    terminal.expect_exact("changed in the workspace: said.txt")
    terminal.expect_exact('logist job resolve job --continue -m "what you changed"')
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    assert (stage.jobs.workspace() / "said.txt").read_text(encoding="utf-8") == "words of a human\n"


def test_a_chat_needs_a_session_and_a_terminal(stage: Stage) -> None:
    stage.jobs.create(worker=RoleSettings(agent="claude"), supervisor=say("COMPLETED"))
    folder = str(stage.jobs.store.jobs_dir)
    refused_ = logist("--jobs-dir", folder, "job", "chat", "job")
    assert (refused_.returncode, "a chat needs a terminal" in refused_.stderr) == (2, True)
    terminal = pexpect.spawn(
        sys.executable,
        ["-m", "logist", "--jobs-dir", folder, "job", "chat", "job"],
        encoding="utf-8",
        timeout=30,
        env={**os.environ, "COLUMNS": "200"},
    )
    terminal.expect_exact("no session that can be taken over")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 6


@pytest.mark.parametrize(
    ("content", "why", "hint"),
    [
        ("#!/nowhere/node\n", "the interpreter that its first line names is not there", "install that"),
        ("hello\n", "it is no program of this machine", "install it anew"),
    ],
)
def test_a_program_that_can_t_be_started_for_a_chat_is_told_with_what_to_do(
    stage: Stage, content: str, why: str, hint: str
) -> None:
    stage.plays({"events": [result()], "reply": {"action": "STUCK"}})
    stage.jobs.create(worker=RoleSettings(agent="claude"), supervisor=say("COMPLETED"))
    stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    (stage.folder / "claude").write_text(content, encoding="utf-8")
    line = ["-m", "logist", "--jobs-dir", str(stage.jobs.store.jobs_dir), "job", "chat", "job"]
    terminal = pexpect.spawn(sys.executable, line, encoding="utf-8", timeout=30, dimensions=(24, 300))
    terminal.expect_exact(f"Error: {stage.folder / 'claude'} can't be started: {why}")
    terminal.expect_exact(f"Hint: {hint}")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 78


def test_a_workspace_that_is_gone_is_made_anew_for_a_chat(stage: Stage) -> None:
    stage.plays({"events": [result()], "write": {"a.txt": "a"}, "reply": {"action": "STUCK"}})
    stage.jobs.create(worker=RoleSettings(agent="claude"), supervisor=say("COMPLETED"))
    stage.jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    shutil.rmtree(stage.jobs.workspace())
    line = ["-m", "logist", "--jobs-dir", str(stage.jobs.store.jobs_dir), "job", "chat", "job"]
    terminal = pexpect.spawn(sys.executable, line, encoding="utf-8", timeout=30, dimensions=(24, 300))
    terminal.expect_exact("chatting")
    terminal.sendline("words of a human")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert (stage.jobs.workspace() / "a.txt").read_text(encoding="utf-8") == "a"
