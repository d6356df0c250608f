"""Agents as they really run: their processes, their environment, and what is understood of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from logist.agents import KnownAgent, find_agent, judge_of_its_own, known_agents, parse_role
from logist.agents._player import KEYS
from logist.agents.command import CommandAgent, ConfiguredAgent
from logist.agents.oneshot import Agent, Answer, OneshotRequest, build_environment
from logist.agents.playbook import EMBEDDED, PlaybookAgent
from logist.errors import AgentUnavailable, InvalidFile, LogistError, UsageProblem
from logist.execution import CommandResult, Ended, StreamResult
from logist.execution.local import LocalWorkerAdapter
from logist.models.config import AgentDefinition, Config
from logist.models.manifest import Role, Roles, RoleSettings, Verdict

TOKEN = "0123456789abcdef"
REPLY = """printf '{"token": "%s", "action": "STUCK", "summary_for_supervisor": "said"}' "$LOGIST_STEP_TOKEN" """
WRITE_REPLY = REPLY + '> "$LOGIST_REPLY_FILE"'
PRINT_REPLY = "echo '```json'; " + REPLY + "; echo; echo '```'"


@pytest.fixture(scope="module")
def adapter() -> Iterator[LocalWorkerAdapter]:
    adapter = LocalWorkerAdapter(grace=0.2)
    yield adapter
    adapter.close()


@pytest.fixture
def request_(tmp_path: Path) -> OneshotRequest:
    """A worker's first question, in a workspace and a step folder that exist."""
    workspace, step_dir = tmp_path / "workspace", tmp_path / "steps"
    (workspace / ".logist").mkdir(parents=True)
    step_dir.mkdir()
    return OneshotRequest(
        job_id="fix-it",
        objective="Fix 'it'; now",
        role=Role.WORKER,
        step=3,
        attempt=2,
        turn=1,
        phase="main",
        prompt="Do it well: é\n",
        prompt_file=step_dir / "prompt.md",
        workspace=workspace,
        step_dir=step_dir,
        reply_file=workspace / ".logist" / "reply.json",
        token=TOKEN,
        settings=RoleSettings(agent="command"),
        timeout=30.0,
        asked_at=datetime.now(UTC),
        environ={"PATH": os.environ["PATH"]},
    )


def with_settings(request: OneshotRequest, **settings: object) -> OneshotRequest:
    return replace(request, settings=request.settings.model_copy(update=settings))


def ask(agent: Agent, request: OneshotRequest, adapter: LocalWorkerAdapter) -> Answer:
    agent.check(request.settings)
    return agent.read(request, adapter.run(agent.spell(request)))


def run_line(line: str, request: OneshotRequest, adapter: LocalWorkerAdapter) -> Answer:
    return ask(CommandAgent(), with_settings(request, argument=line), adapter)


def configured(**definition: object) -> ConfiguredAgent:
    return ConfiguredAgent("mine", AgentDefinition.model_validate(definition))


def python_agent(code: str, **definition: object) -> ConfiguredAgent:
    return configured(command=[sys.executable, "-I", "-S", "-c", code], **definition)


# The environment


def test_an_agent_gets_the_allow_list_and_nothing_else(request_: OneshotRequest) -> None:
    environ = {
        "PATH": "/bin",
        "HOME": "/h",
        "LC_ALL": "C",
        "TERM": "xterm",
        "MY_SECRET": "s",
        "WANTED": "w",
        "GIT_DIR": "elsewhere",
        "LOGIST_JOB_ID": "other",
        "LOGIST_JOBS_DIR": "elsewhere",
        "PYTHONPATH": "elsewhere",
    }
    request = with_settings(replace(request_, environ=environ), env=("WANTED", "ABSENT"))
    environment = build_environment(request)
    inherited = {key: value for key, value in environment.items() if not key.startswith("LOGIST_")}
    above = str(request_.workspace.parent)
    assert inherited == {
        "PATH": "/bin",
        "HOME": "/h",
        "LC_ALL": "C",
        "WANTED": "w",
        "GIT_CEILING_DIRECTORIES": above,
    }
    assert environment["LOGIST_JOB_ID"] == "fix-it"
    assert "LOGIST_JOBS_DIR" not in environment


def test_an_agent_s_git_does_not_find_the_user_s_own_repository(
    request_: OneshotRequest, adapter: LocalWorkerAdapter, tmp_path: Path
) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    run_line("git rev-parse --show-toplevel > found 2>&1; git init --quiet; git add found", request_, adapter)
    assert "not a git repository" in (request_.workspace / "found").read_text(encoding="utf-8")
    staged = subprocess.run(["git", "-C", str(tmp_path), "ls-files"], capture_output=True, check=True)
    assert staged.stdout == b""
    assert (request_.workspace / ".git" / "index").exists()


def test_the_process_really_sees_that_environment(request_: OneshotRequest, adapter: LocalWorkerAdapter) -> None:
    run_line("env > seen", replace(request_, environ={**os.environ, "MY_SECRET": "s"}), adapter)
    seen = (request_.workspace / "seen").read_text(encoding="utf-8")
    lines = dict(line.partition("=")[::2] for line in seen.splitlines())
    assert "MY_SECRET" not in lines
    assert [name for name in lines if name.startswith("GIT_")] == ["GIT_CEILING_DIRECTORIES"]
    assert {name: value for name, value in lines.items() if name.startswith("LOGIST_")} == {
        "LOGIST_JOB_ID": "fix-it",
        "LOGIST_STEP": "3",
        "LOGIST_ATTEMPT": "2",
        "LOGIST_TURN": "1",
        "LOGIST_ROLE": "worker",
        "LOGIST_PHASE": "main",
        "LOGIST_OBJECTIVE": "Fix 'it'; now",
        "LOGIST_MODEL": "",
        "LOGIST_WORKSPACE": str(request_.workspace),
        "LOGIST_PROMPT_FILE": str(request_.prompt_file),
        "LOGIST_REPLY_FILE": str(request_.reply_file),
        "LOGIST_STEP_TOKEN": TOKEN,
    }


def test_an_objective_of_any_size_and_content_does_not_keep_an_agent_from_starting(
    request_: OneshotRequest, adapter: LocalWorkerAdapter
) -> None:
    request = replace(request_, objective="\0" + "日" * 32_000)
    answer = run_line('printf %s "$LOGIST_OBJECTIVE" | head -c 3', request, adapter)
    assert answer.reply is not None
    assert answer.reply.summary_for_supervisor == "日"


# The built-in command


def test_exit_code_0_is_completed_with_the_output_as_summary(
    request_: OneshotRequest, adapter: LocalWorkerAdapter
) -> None:
    answer = run_line("echo out; echo err >&2; printf '\\033[31mred\\033[0m\\n'", request_, adapter)
    assert answer.reply is not None
    assert (answer.kind, answer.source, answer.reply.action) == ("reply", "exit_code", Verdict.COMPLETED)
    assert answer.reply.summary_for_supervisor == "out\nred\nerr"
    assert (answer.usage.cost, answer.usage.input_tokens) == (None, None)


def test_any_other_exit_code_is_retry_with_the_end_of_the_output(
    request_: OneshotRequest, adapter: LocalWorkerAdapter
) -> None:
    answer = run_line("seq 1 100000; echo the reason >&2; exit 7", request_, adapter)
    assert answer.reply is not None
    assert answer.reply.action is Verdict.RETRY
    summary = answer.reply.summary_for_supervisor
    assert summary.startswith("exit code 7; the end of its output:\n[... earlier output left out ...]\n")
    assert summary.endswith("\n100000\nthe reason")
    assert len(summary) < 4200


def test_silence_is_said_to_be_silence(request_: OneshotRequest, adapter: LocalWorkerAdapter) -> None:
    done, failed = run_line("true", request_, adapter), run_line("exit 3", request_, adapter)
    assert done.reply is not None
    assert failed.reply is not None
    assert done.reply.summary_for_supervisor == "exit code 0, no output"
    assert failed.reply.summary_for_supervisor == "exit code 3, no output"


def test_the_prompt_arrives_on_standard_input(request_: OneshotRequest, adapter: LocalWorkerAdapter) -> None:
    answer = run_line("cat", request_, adapter)
    assert answer.reply is not None
    assert answer.reply.summary_for_supervisor == "Do it well: é"


def test_a_reply_file_goes_before_the_exit_code(request_: OneshotRequest, adapter: LocalWorkerAdapter) -> None:
    answer = run_line(WRITE_REPLY + "; exit 1", request_, adapter)
    assert answer.reply is not None
    assert (answer.source, answer.reply.action, answer.reply.summary_for_supervisor) == ("file", Verdict.STUCK, "said")


def test_a_bad_reply_file_is_unreadable_whatever_the_exit_code(
    request_: OneshotRequest, adapter: LocalWorkerAdapter
) -> None:
    answer = run_line('echo done > "$LOGIST_REPLY_FILE"', request_, adapter)
    assert (answer.reply, answer.kind, answer.source, answer.received) == (None, "unreadable", "file", "done\n")
    assert "is not JSON" in str(answer.problem)


def test_a_command_without_a_line_is_refused_before_anything_runs() -> None:
    with pytest.raises(AgentUnavailable, match="no line to run"):
        CommandAgent().check(RoleSettings(agent="command", argument="  "))


def test_a_command_that_takes_too_long_is_a_timeout(request_: OneshotRequest, adapter: LocalWorkerAdapter) -> None:
    answer = run_line("echo so far; exec sleep 60", replace(request_, timeout=1.0), adapter)
    assert (answer.reply, answer.kind, answer.received) == (None, "timeout", "so far")
    assert str(answer.problem).startswith("the command was stopped: ")


def test_logs_and_limits_are_the_requests(request_: OneshotRequest) -> None:
    request = with_settings(replace(request_, lease_fds=(0,)), argument="true", idle_timeout=9.0)
    command = CommandAgent().spell(request)
    assert (command.cwd, command.timeout, command.idle_timeout) == (request.workspace, 30.0, 9.0)
    assert (command.stdout_log, command.stderr_log) == (
        request.step_dir / "stdout.log",
        request.step_dir / "stderr.log",
    )
    assert command.inherit == (0,)


# Agents of the configuration


def test_placeholders_are_filled_in_once(request_: OneshotRequest) -> None:
    agent = configured(
        command=["x", "--in={prompt_file}", "{role}:{model}", "{workspace}", "{reply_file}", '{"a": 1}', "$HOME"]
    )
    command = agent.spell(with_settings(request_, model="{role}"))
    assert command.argv == (
        "x",
        f"--in={request_.prompt_file}",
        "worker:{role}",
        str(request_.workspace),
        str(request_.reply_file),
        '{"a": 1}',
        "$HOME",
    )
    assert command.stdin == "Do it well: é\n".encode()


def test_a_prompt_can_be_an_argument(request_: OneshotRequest) -> None:
    last = configured(command=["x", "-p"], prompt="arg").spell(request_)
    placed = configured(command=["x", "-p", "{prompt}", "--end"], prompt="arg").spell(request_)
    assert last.argv == ("x", "-p", request_.prompt)
    assert placed.argv == ("x", "-p", request_.prompt, "--end")
    assert last.stdin is None


def test_a_prompt_too_long_for_an_argument_is_pointed_to(request_: OneshotRequest) -> None:
    request = replace(request_, prompt="é" * 60_000)
    command = configured(command=["x"], prompt="arg").spell(request)
    assert command.argv == ("x", f"Read the file {request.prompt_file} and do what it says.")


def test_a_shell_line_is_left_as_it_is(request_: OneshotRequest, adapter: LocalWorkerAdapter) -> None:
    agent = configured(command='x={role}; echo "$x ${LOGIST_ROLE}"', prompt="none", reply="exit_code")
    answer = ask(agent, request_, adapter)
    assert answer.reply is not None
    assert answer.reply.summary_for_supervisor == "{role} worker"


def test_an_agents_own_environment_is_added_and_logists_wins(request_: OneshotRequest) -> None:
    agent = configured(command=["x"], env={"MODE": "fast", "LOGIST_STEP": "9"}, pass_env=["API_KEY"])
    command = agent.spell(replace(request_, environ={"PATH": "/bin", "API_KEY": "k", "OTHER": "o"}))
    assert (command.env["MODE"], command.env["API_KEY"], command.env["LOGIST_STEP"]) == ("fast", "k", "3")
    assert "OTHER" not in command.env


@pytest.mark.parametrize(("line", "source"), [(WRITE_REPLY, "file"), (PRINT_REPLY, "text")])
def test_a_required_reply_comes_from_the_file_or_the_final_text(
    line: str, source: str, request_: OneshotRequest, adapter: LocalWorkerAdapter
) -> None:
    answer = ask(configured(command=line), request_, adapter)
    assert answer.reply is not None
    assert (answer.source, answer.reply.action) == (source, Verdict.STUCK)


def test_the_file_goes_before_the_final_text(request_: OneshotRequest, adapter: LocalWorkerAdapter) -> None:
    answer = ask(configured(command=PRINT_REPLY.replace("said", "printed") + ";" + WRITE_REPLY), request_, adapter)
    assert answer.reply is not None
    assert (answer.source, answer.reply.summary_for_supervisor) == ("file", "said")


@pytest.mark.parametrize(
    ("line", "kind", "problem", "received"),
    [
        ("echo I am done", "unreadable", "there is no reply: no fenced JSON block", "I am done\n"),
        ("echo x; echo no login >&2; exit 1", "failed", "ended with exit code 1 and no reply", "x\nno login"),
        ("echo busy; exit 75", "transient", "failed for now (exit code 75)", "busy"),
        ('echo {} > "$LOGIST_REPLY_FILE"; exit 1', "unreadable", "carries no token", "{}\n"),
        (f"{PRINT_REPLY}; exit 1", "failed", "no reply file that counts", None),
        ("kill -9 $$", "transient", "was killed (exit code 137)", ""),
        (f"{WRITE_REPLY}; kill -9 $$", "transient", "was killed (exit code 137)", ""),
    ],
)
def test_an_agent_that_owes_a_reply_and_gives_none_says_why(
    line: str, kind: str, problem: str, received: str | None, request_: OneshotRequest, adapter: LocalWorkerAdapter
) -> None:
    answer = ask(configured(command=line), request_, adapter)
    assert (answer.reply, answer.kind) == (None, kind)
    assert received in (answer.received, None)
    assert problem in str(answer.problem)


def test_what_was_received_is_bounded(request_: OneshotRequest, adapter: LocalWorkerAdapter) -> None:
    for agent in (configured(command="yes | head -c 300000"), configured(command="yes | head -c 300000; exit 1")):
        assert len(ask(agent, request_, adapter).received) <= 4096


def test_a_program_that_vanished_is_a_failure_and_no_start_is_transient(
    request_: OneshotRequest, adapter: LocalWorkerAdapter
) -> None:
    agent = configured(command=["./not-there"])
    gone = ask(agent, request_, adapter)
    assert (gone.kind, gone.reply) == ("failed", None)
    assert str(gone.problem).startswith("the command can't be run: ")
    busy = agent.read(request_, CommandResult(Ended.NOT_STARTED, None, 0.0, detail="no more processes"))
    assert (busy.kind, busy.problem) == ("transient", "the command could not be started: no more processes")


def test_a_missing_program_is_told_before_anything_runs() -> None:
    with pytest.raises(AgentUnavailable, match="no-such-program of the agent mine was not found") as caught:
        configured(command=["no-such-program"]).check(RoleSettings(agent="mine"))
    assert "[agents.mine]" in caught.value.hint


def test_a_program_that_is_there_and_not_executable_is_told_as_that(tmp_path: Path) -> None:
    program = tmp_path / "agent"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    with pytest.raises(AgentUnavailable, match="agent of the agent mine is not executable") as caught:
        configured(command=[str(program)]).check(RoleSettings(agent="mine"))
    assert "chmod +x" in caught.value.hint


def test_a_missing_model_or_an_argument_too_many_is_told_before_anything_runs() -> None:
    agent = configured(command=["sh", "{model}"])
    with pytest.raises(AgentUnavailable, match="needs a model"):
        agent.check(RoleSettings(agent="mine"))
    with pytest.raises(AgentUnavailable, match="takes no argument"):
        agent.check(RoleSettings(agent="mine", model="m", argument="x"))
    agent.check(RoleSettings(agent="mine", model="m"))


def test_output_that_lost_its_middle_still_gives_its_reply(request_: OneshotRequest) -> None:
    tail = b'\n```json\n{"action": "COMPLETED"}\n```\n'
    stdout = StreamResult(total=10_000_000, head=b"start\n", tail=tail)
    answer = configured(command=["x"]).read(request_, CommandResult(Ended.EXITED, 0, 1.0, stdout=stdout))
    assert answer.reply is not None
    assert answer.source == "text"


# The playbook


def play(
    playbook: str, request: OneshotRequest, adapter: LocalWorkerAdapter, **settings: object
) -> tuple[Answer, CommandResult]:
    file = request.step_dir / "playbook.toml"
    file.write_text(playbook, encoding="utf-8")
    request = with_settings(request, agent="playbook", argument=str(file), **settings)
    agent = PlaybookAgent()
    agent.check(request.settings)
    result = adapter.run(agent.spell(request))
    return agent.read(request, result), result


def test_a_turn_does_what_it_says(request_: OneshotRequest, adapter: LocalWorkerAdapter) -> None:
    (request_.workspace / "old").touch()
    playbook = """
    [[worker]]
    print = "hello"
    sleep = 0.01
    wait_for = "old"
    write = { "a/b.txt" = "one\\n" }
    append = { "a/b.txt" = "two\\n" }
    delete = ["old", "never there"]
    run = "echo ran; exit 4"
    action = "RETRY"
    evidence_files = ["a/b.txt"]
    summary = "half"
    exit_code = 9
    """
    answer, result = play(playbook, request_, adapter)
    assert answer.reply is not None
    assert (answer.source, answer.reply.action, answer.reply.summary_for_supervisor) == ("file", Verdict.RETRY, "half")
    assert answer.reply.evidence_files == ("a/b.txt",)
    assert (request_.workspace / "a/b.txt").read_text(encoding="utf-8") == "one\ntwo\n"
    assert not (request_.workspace / "old").exists()
    assert result.stdout.kept == b"hello\nran\nthe playbook's command ended with exit code 4: echo ran; exit 4\n"
    assert result.exit_code == 9


@pytest.mark.parametrize(
    ("channel", "kind", "source"),
    [
        ("file", "reply", "file"),
        ("text", "reply", "text"),
        ("none", "unreadable", "text"),
        ("garbage", "unreadable", "file"),
    ],
)
def test_a_turn_replies_where_it_says(
    channel: str, kind: str, source: str, request_: OneshotRequest, adapter: LocalWorkerAdapter
) -> None:
    answer, _ = play(f'[[worker]]\nreply = "{channel}"', request_, adapter)
    assert (answer.kind, answer.source) == (kind, source)
    assert (answer.reply is None) == (kind == "unreadable")


def test_each_role_has_its_own_turns_and_past_the_end_it_is_stuck(
    request_: OneshotRequest, adapter: LocalWorkerAdapter
) -> None:
    playbook = '[[worker]]\nsummary = "w1"\n[[supervisor]]\nsummary = "s1"\n[[worker]]\nsummary = "w2"\n'
    said = []
    for role, turn in ((Role.WORKER, 1), (Role.WORKER, 2), (Role.SUPERVISOR, 1), (Role.SUPERVISOR, 2)):
        answer, _ = play(playbook, replace(request_, role=role, turn=turn), adapter)
        assert answer.reply is not None
        said.append((answer.reply.action.value, answer.reply.summary_for_supervisor))
    assert said == [
        ("COMPLETED", "w1"),
        ("COMPLETED", "w2"),
        ("COMPLETED", "s1"),
        ("STUCK", "the playbook has no turn 2 for the supervisor"),
    ]


def test_a_turn_for_another_phase_is_not_played(request_: OneshotRequest, adapter: LocalWorkerAdapter) -> None:
    playbook = '[[worker]]\nphase = "build"\nwrite = { "x" = "x" }\n'
    answer, _ = play(playbook, request_, adapter)
    assert answer.reply is not None
    assert answer.reply.action is Verdict.STUCK
    assert "written for the phase build, this is main" in answer.reply.summary_for_supervisor
    assert not (request_.workspace / "x").exists()
    answer, _ = play(playbook, replace(request_, phase="build"), adapter)
    assert (request_.workspace / "x").exists()


def test_a_turn_waits_for_a_file(request_: OneshotRequest, adapter: LocalWorkerAdapter) -> None:
    answers: list[Answer] = []
    playbook = '[[worker]]\nrun = "true"\nwait_for = "go"\nwrite = { "went" = "" }\n'
    played = threading.Thread(target=lambda: answers.append(play(playbook, request_, adapter)[0]))
    played.start()
    deadline = time.monotonic() + 10
    while not (request_.step_dir / "stdout.log").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not (request_.workspace / "went").exists()
    (request_.workspace / "go").touch()
    played.join(20)
    assert answers[0].reply is not None
    assert (request_.workspace / "went").exists()


def test_a_link_does_not_lead_a_playbook_out_of_the_workspace(
    request_: OneshotRequest, adapter: LocalWorkerAdapter, tmp_path: Path
) -> None:
    (request_.workspace / "out").symlink_to(tmp_path)
    answer, result = play('[[worker]]\nwrite = { "out/x" = "x" }', request_, adapter)
    assert (answer.kind, result.exit_code) == ("failed", 78)
    assert "leads out of the workspace" in answer.received
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("playbook", "problem"),
    [
        ("[[worker]\n", "line 1"),
        ('[[worker]]\naction = "DONE"\n', "worker turn 1 (line 1): action must be COMPLETED, RETRY or STUCK"),
        ("\n[[worker]]\n\n[[worker]]\nsumary = 1\n", "worker turn 2 (line 4): unknown key 'sumary'"),
        ('[[supervisor]]\nwrite = { "../x" = "" }', "supervisor turn 1 (line 1): '../x' is not a relative path"),
        ('[[worker]]\ndelete = ["/etc/x"]', "'/etc/x' is not a relative path"),
        ('[[worker]]\nwrite = { "a" = 1 }', "write must be a table"),
        ("[[worker]]\nexit_code = 256", "exit_code must be a number from 0 to 255"),
        ("[[worker]]\nsleep = true", "sleep must be seconds"),
        ('[worker]\naction = "RETRY"', "worker must be written as [[worker]]"),
        ("[[boss]]", "unknown table [[boss]]"),
        (b"\xff", "can't decode"),
    ],
)
def test_a_bad_playbook_is_refused_with_its_place(playbook: str | bytes, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_bytes(playbook.encode() if isinstance(playbook, str) else playbook)
    with pytest.raises(InvalidFile) as caught:
        PlaybookAgent().check(RoleSettings(argument=str(file)))
    assert problem in caught.value.message
    assert str(file) in caught.value.message


def test_a_playbook_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(AgentUnavailable, match="no such file"):
        PlaybookAgent().check(RoleSettings(argument=str(tmp_path / "p.toml")))


def test_every_key_of_a_turn_is_played_or_part_of_the_reply() -> None:
    text = EMBEDDED.with_name("_player.py").read_text(encoding="utf-8")
    assert [key for key in KEYS if text.count(f'"{key}"') < 2] == []


def test_the_embedded_playbook_agrees_in_the_second_round_and_says_what_it_is(
    request_: OneshotRequest, adapter: LocalWorkerAdapter
) -> None:
    agent = PlaybookAgent()
    assert agent.scripted
    said = []
    for role, turn in ((Role.WORKER, 1), (Role.SUPERVISOR, 1), (Role.WORKER, 2), (Role.SUPERVISOR, 2)):
        request = replace(request_, role=role, turn=turn, settings=RoleSettings())
        before = (request.workspace / "NOTES.md").read_bytes() if turn > 1 or role is Role.SUPERVISOR else b""
        answer = ask(agent, request, adapter)
        assert answer.reply is not None
        assert "(embedded playbook: scripted, no model was asked)" in answer.reply.summary_for_supervisor
        after = (request.workspace / "NOTES.md").read_bytes()
        assert (before == after) == (role is Role.SUPERVISOR)
        said.append(answer.reply.action.value)
    assert said == ["COMPLETED", "RETRY", "COMPLETED", "COMPLETED"]
    notes = (request_.workspace / "NOTES.md").read_text(encoding="utf-8")
    assert notes.startswith("# Notes\n\nObjective: Fix 'it'; now\n")


# The registry


def test_agents_are_found_by_name() -> None:
    config = Config(agents={"mine": AgentDefinition(command=("x",))})
    assert isinstance(find_agent("command", config), CommandAgent)
    assert isinstance(find_agent("playbook", config), PlaybookAgent)
    assert find_agent("mine", config) == ConfiguredAgent("mine", config.agents["mine"])


def test_an_unknown_agent_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AgentUnavailable, match="there is no agent yours") as caught:
        find_agent("yours", Config(agents={"mine": AgentDefinition(command=("x",))}))
    assert "command, playbook, mine" in caught.value.hint


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that offers the agents `theirs`, and `broken`, which can't be imported."""
    site = tmp_path / "site"
    facts = site / "their_agents-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: their-agents\nVersion: 1.0\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text(
        "[logist.agents]\ntheirs = their_agents:Theirs\nbroken = their_agents:missing\ncommand = their_agents:Theirs\n"
        "raising = their_agents:raising\nleaving = their_agents:leaving\nnothing = their_agents:nothing\n",
        encoding="utf-8",
    )
    (site / "their_agents.py").write_text(
        "class Theirs:\n    name = 'theirs'\n    scripted = False\n    check = spell = read = print\n"
        "def raising():\n    raise RuntimeError('no')\ndef leaving():\n    raise SystemExit(0)\nnothing = dict\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("their_agents", None)


@pytest.mark.usefixtures("installed")
def test_a_package_can_offer_agents() -> None:
    assert find_agent("theirs", Config()).name == "theirs"
    assert isinstance(find_agent("command", Config()), CommandAgent)
    assert set(known_agents(Config())) >= {
        KnownAgent("command", "built in"),
        KnownAgent("theirs", "their-agents"),
        KnownAgent("broken", "their-agents"),
    }
    for name in ("broken", "raising", "leaving"):
        with pytest.raises(AgentUnavailable, match=f"the agent {name} could not be loaded"):
            find_agent(name, Config())
    with pytest.raises(AgentUnavailable, match="the agent nothing is no agent"):
        find_agent("nothing", Config())


@pytest.mark.parametrize(
    ("worker", "supervisor", "judge"),
    [
        ({"agent": "claude"}, {"agent": "claude"}, "claude"),
        ({"agent": "claude", "model": "opus", "timeout": 5}, {"agent": "claude", "model": "opus"}, "claude:opus"),
        ({"agent": "claude", "model": "opus"}, {"agent": "claude"}, None),
        ({"agent": "claude"}, {"agent": "codex"}, None),
        ({"agent": "mine"}, {"agent": "mine", "model": "large"}, "mine:large"),
        ({"agent": "mine"}, {"agent": "mine", "model": "small"}, None),
        ({"agent": "linter"}, {"agent": "linter"}, None),
        ({"agent": "command", "argument": "make"}, {"agent": "command", "argument": "make"}, None),
        ({"agent": "playbook"}, {"agent": "playbook"}, None),
        ({"agent": "theirs", "argument": "x"}, {"agent": "theirs", "argument": "x"}, "theirs:x"),
        ({"agent": "theirs", "argument": "x"}, {"agent": "theirs", "argument": "y"}, None),
        ({"agent": "gone"}, {"agent": "claude"}, None),
    ],
)
@pytest.mark.usefixtures("installed")
def test_one_agent_with_one_model_in_both_roles_judges_its_own_work(
    worker: dict[str, object], supervisor: dict[str, object], judge: str | None
) -> None:
    mine = AgentDefinition(command=("x",), model="large")
    config = Config(agents={"mine": mine, "linter": AgentDefinition(command="lint", reply="exit_code")})
    roles = Roles.model_validate({"worker": worker, "supervisor": supervisor})
    assert judge_of_its_own(roles, config) == judge


# --worker and --supervisor


@pytest.mark.parametrize(
    ("text", "agent", "argument"),
    [
        ("command:make all: now", "command", "make all: now"),
        ("command: echo $X\necho y ", "command", "echo $X\necho y"),
        ("playbook", "playbook", ""),
        ("claude", "claude", ""),
        ("my.agent-2:x", "my.agent-2", "x"),
    ],
)
def test_a_role_is_written_as_an_agent_and_its_argument(text: str, agent: str, argument: str) -> None:
    base = RoleSettings(agent="other", argument="old", model="m", timeout=5, env=("A",))
    assert parse_role(text, base) == RoleSettings(agent=agent, argument=argument, timeout=5, env=("A",))


def test_a_playbooks_file_is_relative_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_role("playbook:p.toml", RoleSettings()).argument == str(tmp_path / "p.toml")


def test_the_model_stays_when_the_agent_does() -> None:
    assert parse_role("mine", RoleSettings(agent="mine", model="m")).model == "m"


@pytest.mark.parametrize(
    "text", ["", ":x", "command:", "command: ", "make all", "./agent.sh", "Claude", "command:" + "x" * 40_000]
)
def test_a_role_that_names_no_agent_is_a_usage_problem(text: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        parse_role(text, RoleSettings())
    assert isinstance(caught.value, LogistError)
    assert len(caught.value.message) < 200


def test_a_player_needs_nothing_but_the_standard_library(request_: OneshotRequest, tmp_path: Path) -> None:
    command = PlaybookAgent().spell(replace(request_, settings=RoleSettings()))
    alone = tmp_path / "alone.py"
    shutil.copy(command.argv[3], alone)
    environment: Mapping[str, str] = command.env
    exit_code = os.spawnve(
        os.P_WAIT,
        sys.executable,
        [sys.executable, "-I", "-S", str(alone), str(EMBEDDED), "supervisor", "1"],
        environment,
    )
    assert exit_code == 0
    assert "Say what was checked" in request_.reply_file.read_text(encoding="utf-8")
