"""A phase of a job that is a render: what it makes, what is evidence, and that nothing that is done is done again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jobs import Jobs
from specs import counted, runs, spec, text_spec, video_spec, write_spec
from test_console import Terminal
from videos import read_numbers

from logist import events
from logist.chunks import ChunkFinished, ChunkStarted
from logist.cli import run
from logist.clock import SystemClock
from logist.console.live import LiveReporter
from logist.console.reporters import JsonReporter, PlainReporter
from logist.deliveries import deliver_branch
from logist.errors import ExitCode, InvalidFile, UsageProblem, WrongState
from logist.events import Event
from logist.interventions import BudgetIncrease, add_budget, rerun_job, resolve_retry, resolve_rewind
from logist.job_processor import preview_step
from logist.job_report import build_report
from logist.job_state import JobStore
from logist.lifecycle import JobStatus
from logist.models.history import AttemptFailed, Exited, Intent
from logist.models.manifest import Budget, Check, JobManifest, Phase, PhaseKind, ReasonCode, Role, SourceKind, Verdict
from logist.next_commands import next_commands
from logist.stop_requests import request
from logist.testing import FakeClock, MemoryReporter
from logist.workspace_creation import SourceRequest

ROOT = Path(__file__).resolve().parents[1]
REPORT = "render/job.json/render-report.json"
DRIVER = Path(__file__).with_name("crash_driver.py")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """A jobs folder."""
    made = Jobs(tmp_path)
    yield made
    made.close()


def render(jobs: Jobs, content: dict[str, Any], *, supervisor: str = "true", **settings: Any) -> JobManifest:
    """A job with one phase that renders a spec; `settings` are the phase's, or the job's."""
    folder = jobs.root / "film"
    folder.mkdir(exist_ok=True)
    write_spec(folder, content)
    of_phase = {name: settings.pop(name) for name in tuple(settings) if name in Phase.model_fields and name != "checks"}
    phase = Phase(name="render", kind=PhaseKind.RENDER, spec="job.json", **of_phase)
    source = settings.pop("source", SourceRequest(kind=SourceKind.FOLDER, path=folder))
    return jobs.create(phases=[phase], supervisor=supervisor, source=source, **settings)


def counts(jobs: Jobs, chunks: int) -> list[int]:
    """How often each chunk was run."""
    return [runs(jobs.workspace(), number) for number in range(chunks)]


def files_in_git(jobs: Jobs, revision: str = "logist/job") -> list[str]:
    """The files of an evidence commit."""
    return jobs.git("ls-tree", "-r", "--name-only", revision).split()


def report_of(jobs: Jobs) -> dict[str, Any]:
    """The report as the evidence holds it."""
    report: dict[str, Any] = json.loads(jobs.git("show", f"logist/job:{REPORT}"))
    return report


def failing_once(number: int, allowed: Path) -> str:
    """A chunk that fails, and says why, until a file is there."""
    say = "echo about to fail; echo the lens cap is on >&2"
    return counted(number, f"test -e {allowed} && echo chunk {number} > out.{number}.txt || {{ {say}; exit 9; }}")


def waiting(number: int, gate: Path) -> str:
    """A chunk that says that it runs, and goes on when a file is there; not for ever."""
    wait = f"i=0; while [ ! -e {gate} ] && [ $i -lt 600 ]; do sleep 0.05; i=$((i+1)); done"
    return counted(number, f"echo $$ > {gate}.pid; {wait}; test -e {gate} && echo chunk {number} > out.{number}.txt")


def wait_until(condition: Callable[[], object]) -> None:
    """Poll until `condition` holds; fail when it does not within a generous time."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def replaced(content: dict[str, Any], number: int, command: str) -> dict[str, Any]:
    """The spec with another command for one chunk."""
    content["chunks"][number]["command"] = command
    return content


class Hook(MemoryReporter):
    """Does something when a chunk run tells something."""

    def __init__(self, act: Callable[[object], None]) -> None:
        super().__init__()
        self._act = act

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, events.RenderProgressed):
            self._act(event.event)


class CommandLine:
    """The command's own entry function, in this process, in the test's folder."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command, which must end with exit code `code`; what it printed."""
        self._capsys.readouterr()
        got = run(arguments)
        printed = "".join(self._capsys.readouterr())
        assert got == code, f"{arguments}: exit code {got}\n{printed}"
        return printed


@pytest.fixture
def logist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return CommandLine(capsys)


# --- From the command line -----------------------------------------------------------------------------------------


def test_a_job_made_from_a_spec_renders_it_into_one_video_and_ends_in_success(
    tmp_path: Path, logist: CommandLine
) -> None:
    film = tmp_path / "film"
    film.mkdir()
    write_spec(film, video_spec([7, 5]))
    made = logist("job", "create", "--spec", "film/job.json", "--concurrency", "2", "--supervisor",
                  "command:test -s final.mp4", "--check", "merged=test -s final.mp4")  # fmt: skip
    job_id = "render-job-json-2-chunks-12-frames"
    assert made.startswith(job_id)
    planned = logist("job", "preview")
    assert "2 would run; 0 are done" in planned
    assert "chunk 1:" in planned
    assert "merge:" in planned
    printed = logist("job", "run", "--progress", "plain")
    assert "chunk 0 done: 7 frames" in printed
    assert f"type=chunk.finished job={job_id} step=1 chunk=0" in printed
    assert "2 chunks, 12 frames, merged into final.mp4 (" in printed
    assert "decoded: 12 frames)" in printed
    workspace = tmp_path / ".logist" / "jobs" / job_id / "workspace"
    assert read_numbers(workspace / "final.mp4") == list(range(12))
    shown = logist("job", "status")
    assert "SUCCESS" in shown
    assert "job.json: 2 of 2 chunks done, 12 of 12 frames" in shown
    assert "final.mp4: rendered media, recorded by size and hash" in logist("job", "evidence", "--step", "1")
    assert not (film / "final.mp4").exists()
    assert not (film / ".logist").exists()


def test_a_bad_spec_is_refused_when_the_job_is_made_with_its_own_words_and_nothing_is_left(
    tmp_path: Path, logist: CommandLine
) -> None:
    content = text_spec(2)
    content["chunks"][1]["startFrame"] = 5
    write_spec(tmp_path, content)
    said = logist("job", "create", "--spec", "job.json", code=ExitCode.INVALID)
    assert "chunks[1].startFrame: no chunk makes frames 1 to 4 before it" in said
    assert not list((tmp_path / ".logist").glob("jobs/*/job_manifest.json"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--spec", "nope.json"], "there is no file"),
        (["--spec", "job.json", "--phase", "one"], "--spec and --phase exclude each other"),
        (["--concurrency", "2", "-o", "x"], "--concurrency is for a render"),
        (["sub", "--spec", "job.json"], "is not in"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    tmp_path: Path, arguments: list[str], words: str, logist: CommandLine
) -> None:
    write_spec(tmp_path, text_spec(1))
    (tmp_path / "sub").mkdir()
    assert words in logist("job", "create", *arguments, code=ExitCode.USAGE)


def test_the_spec_may_lie_in_a_source_that_is_named_and_chunks_made_there_before_are_not_taken(
    tmp_path: Path, logist: CommandLine
) -> None:
    film = tmp_path / "all" / "film"
    film.mkdir(parents=True)
    write_spec(film, text_spec(2))
    (tmp_path / "all" / "note.txt").write_text("taken")
    (film / "out.0.txt").write_text("of another day")
    logist("job", "create", "all", "--spec", "film/job.json", "--id", "j", "--supervisor", "command:true")
    workspace = tmp_path / ".logist" / "jobs" / "j" / "workspace"
    assert sorted(path.name for path in workspace.rglob("*") if path.is_file()) == ["job.json", "note.txt"]
    logist("job", "run", "-q")
    assert (workspace / "film" / "all.txt").read_text() == "chunk 0\nchunk 1\n"
    report = json.loads((workspace / "render/film/job.json/render-report.json").read_text())
    assert report["merge"]["output"]["path"] == "film/all.txt"


def test_a_spec_that_the_repository_has_not_committed_so_is_refused(
    tmp_path: Path, source_repo: Path, logist: CommandLine
) -> None:
    write_spec(source_repo, text_spec(1))
    create = ("job", "create", "--spec", str(source_repo / "job.json"), "--supervisor", "command:true")
    assert "there is no spec job.json" in logist(*create, code=ExitCode.USAGE)
    for command in (["add", "."], ["commit", "-qm", "a spec"]):
        subprocess.run(["git", *command], cwd=source_repo, check=True)
    write_spec(source_repo, text_spec(2))
    assert "not what the source has committed" in logist(*create, code=ExitCode.USAGE)
    logist(*create, "--revision", "HEAD")


def test_a_job_file_may_have_phases_of_both_kinds(tmp_path: Path, logist: CommandLine) -> None:
    (tmp_path / "template.json").write_text(json.dumps(text_spec(2)))
    (tmp_path / "job.toml").write_text(
        """
        objective = "a film"
        id = "film"
        source = "."
        checks = ["true"]
        [[phases]]
        name = "plan"
        [[phases]]
        name = "render"
        kind = "render"
        spec = "out/job.json"
        concurrency = 2
        retries = 1
        chunk_timeout = "30s"
        checks = ["test -s out/all.txt"]
        [roles.worker]
        agent = "command"
        argument = "mkdir -p out && cp template.json out/job.json"
        [roles.supervisor]
        agent = "command"
        argument = "true"
        """
    )
    logist("job", "create", "--from", "job.toml")
    logist("job", "run", "-q")
    logged = json.loads(logist("job", "log", "--json"))
    assert [(step["phase"], step["role"], step["agent"]) for step in logged] == [
        ("plan", "worker", "command"),
        ("plan", "supervisor", "command"),
        ("render", "worker", "render"),
        ("render", "supervisor", "command"),
    ]
    assert [check["name"] for check in logged[2]["checks"]] == ["true", "test -s out/all.txt"]
    assert "chunk 0 done: 1 frame" in logist("job", "log", "--step", "3")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('kind = "render"', "needs spec"),
        ('spec = "job.json"', 'spec is for a phase with kind = "render"'),
        ('kind = "render"\nspec = "../job.json"', "relative and without"),
        ('kind = "render"\nspec = "job.json"\nchunk_timeout = "soon"', "chunk_timeout"),
        ('adapter = "dask"', 'adapter is for a phase with kind = "render"'),
        ('kind = "render"\nspec = "job.json"\nadapter_options = { a = "b" }', "adapter_options needs adapter"),
    ],
)
def test_a_job_file_says_what_is_wrong_with_a_render(
    tmp_path: Path, table: str, words: str, logist: CommandLine
) -> None:
    (tmp_path / "job.toml").write_text(f'objective = "a film"\n[[phases]]\nname = "render"\n{table}\n')
    assert words in logist("job", "create", "--from", "job.toml", code=ExitCode.INVALID)


# --- Evidence ------------------------------------------------------------------------------------------------------


def test_the_evidence_has_spec_logs_joblog_and_report_and_media_only_by_size_and_hash(jobs: Jobs) -> None:
    render(jobs, replaced(text_spec(2), 1, counted(1, "echo so far so good; echo chunk 1 > out.1.txt")))
    jobs.run_to(ExitCode.SUCCESS)
    folder = "render/job.json"
    assert files_in_git(jobs) == [
        "job.json",
        f"{folder}/joblog.tsv",
        f"{folder}/logs/1.log",
        REPORT,
        "runs.0",
        "runs.1",
    ]
    assert jobs.git("show", f"logist/job:{folder}/logs/1.log") == "so far so good\n"
    assert len(jobs.git("show", f"logist/job:{folder}/joblog.tsv").splitlines()) == 3
    report = report_of(jobs)
    made = [*(chunk["output"] for chunk in report["chunks"]), report["merge"]["output"]]
    assert [file["path"] for file in made] == ["out.0.txt", "out.1.txt", "all.txt"]
    for file in made:
        data = (jobs.workspace() / file["path"]).read_bytes()
        assert (file["size"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    first = report["chunks"][0]
    assert (first["status"], first["attempts"], first["exit_code"], first["frame_count"]) == ("done", 1, 0, 1)
    step = jobs.committed()[0]
    assert [(left.path, left.why) for left in step.skipped] == [
        (path, f"rendered media, recorded by size and hash in {REPORT}")
        for path in ("all.txt", "out.0.txt", "out.1.txt")
    ]
    assert step.summary == "2 chunks, 2 frames, merged into all.txt (16 bytes, not decoded)"
    assert str(jobs.root) not in jobs.git("show", f"logist/job:{REPORT}")


def test_media_are_in_git_when_that_is_asked_for_ignored_or_not(jobs: Jobs) -> None:
    (jobs.root / "film").mkdir()
    (jobs.root / "film" / ".gitignore").write_text("*.txt\n")
    render(jobs, text_spec(2), commit_media=True)
    jobs.run_to(ExitCode.SUCCESS)
    assert {"all.txt", "out.0.txt", "out.1.txt"} <= set(files_in_git(jobs))
    assert report_of(jobs)["media_in_git"] is True
    assert jobs.committed()[0].skipped == ()


def test_media_in_an_ignored_folder_are_told_of_and_an_ignored_spec_folder_is_still_evidence(jobs: Jobs) -> None:
    (jobs.root / "film").mkdir()
    (jobs.root / "film" / ".gitignore").write_text("out/\nrender/\n")
    command = counted(0, "mkdir -p out; echo x > out/0.txt; echo y > out/scrap.txt")
    render(jobs, spec([command], outputs=["out/0.txt"]))
    manifest = jobs.run_to(ExitCode.SUCCESS)
    assert REPORT in files_in_git(jobs)
    assert manifest.left_out == (
        "out/scrap.txt (ignored by .gitignore)",
        f"out/0.txt (rendered media, recorded by size and hash in {REPORT})",
    )


def test_logs_in_the_evidence_are_bounded(jobs: Jobs) -> None:
    command = "i=0; while [ $i -lt 4000 ]; do echo line $i of a chatty command, which goes on; i=$((i+1)); done"
    render(jobs, spec([f"{command}; echo x > x.txt"], outputs=["x.txt"]))
    jobs.run_to(ExitCode.SUCCESS)
    log = jobs.git("show", "logist/job:render/job.json/logs/0.log")
    assert len(log) < 70_000
    assert "line 0 of" in log
    assert "line 3999 of" in log
    assert "bytes not kept" in log


def test_the_delivered_branch_has_the_evidence_and_no_media(jobs: Jobs, source_repo: Path) -> None:
    write_spec(source_repo, text_spec(1))
    for command in (["add", "."], ["commit", "-qm", "a spec"]):
        subprocess.run(["git", *command], cwd=source_repo, check=True)
    render(jobs, text_spec(1), source=SourceRequest(kind=SourceKind.GIT, path=source_repo))
    jobs.run_to(ExitCode.SUCCESS)
    deliver_branch(jobs.runtime, "job")
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "logist/job"], cwd=source_repo, capture_output=True, text=True
    ).stdout.split()
    assert REPORT in listed
    assert "all.txt" not in listed


def test_nothing_of_the_evidence_is_written_through_a_link(jobs: Jobs) -> None:
    outside = jobs.root / "outside"
    outside.mkdir()
    render(jobs, spec([f"ln -s {outside} render"]))
    with pytest.raises(Exception, match="render"):
        jobs.run()
    assert list(outside.iterdir()) == []
    assert jobs.store.load("job").reason.code is ReasonCode.INTERNAL_ERROR


# --- A chunk that fails --------------------------------------------------------------------------------------------


def test_a_chunk_that_fails_needs_a_human_and_only_what_is_not_done_is_run_after_the_answer(jobs: Jobs) -> None:
    allowed = jobs.root / "allowed"
    render(jobs, replaced(text_spec(3), 1, failing_once(1, allowed)))
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.CHUNK_FAILED
    assert manifest.reason.sentence == (
        "chunk 1 failed: exit code 9; 1 of 3 chunks done; its log: render/job.json/logs/1.log; "
        "it ended with: about to fail the lens cap is on"
    )
    assert counts(jobs, 3) == [1, 1, 0]
    assert [chunk["status"] for chunk in report_of(jobs)["chunks"]] == ["done", "failed", "pending"]
    assert jobs.committed()[0].checks == ()
    assert next_commands(manifest)[0].command == "logist job resolve job --retry"
    card = build_report(jobs.store, "job")
    assert card.render is not None
    assert (card.render.done, card.render.failed, card.render.chunks) == (1, 1, 3)
    assert "the lens cap is on" in card.log_tail
    allowed.touch()
    resolve_retry(jobs.runtime, "job", "")
    planned = preview_step(jobs.runtime, "job")
    assert planned.commands is not None
    assert [command.name for command in planned.commands] == ["chunk 1", "chunk 2", "merge"]
    jobs.run_to(ExitCode.SUCCESS)
    assert counts(jobs, 3) == [1, 2, 1]
    assert (jobs.workspace() / "all.txt").read_text() == "chunk 0\nchunk 1\nchunk 2\n"
    assert [chunk["attempts"] for chunk in report_of(jobs)["chunks"]] == [1, 2, 1]
    assert jobs.evidence_steps() == [1, 2, 3]


def test_what_a_failed_chunk_does_to_the_others_and_its_retries_are_settings_of_the_phase(jobs: Jobs) -> None:
    content = text_spec(3)
    replaced(content, 0, counted(0, "test $(wc -l < runs.0) -eq 2 && echo x > out.0.txt"))
    replaced(content, 1, counted(1, "exit 3"))
    render(jobs, content, retries=1, halt="never")
    jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert counts(jobs, 3) == [2, 2, 1]
    assert "chunk 1 failed after 2 attempts: exit code 3" in jobs.store.load("job").reason.sentence


def test_a_chunk_that_takes_too_long_has_failed(jobs: Jobs) -> None:
    render(jobs, spec(["sleep 30"]), chunk_timeout=0.2)
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.CHUNK_FAILED
    assert "chunk 0 failed: " in manifest.reason.sentence


def test_a_merge_that_fails_needs_a_human_and_only_the_merge_is_run_after_the_answer(jobs: Jobs) -> None:
    allowed = jobs.root / "allowed"
    content = text_spec(2)
    content["mergeCommand"] = f"test -e {allowed} && cat out.0.txt out.1.txt > all.txt"
    render(jobs, content)
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.MERGE_FAILED
    assert manifest.reason.sentence == "the merge failed: exit code 1; 2 of 2 chunks done"
    allowed.touch()
    resolve_retry(jobs.runtime, "job", "")
    jobs.run_to(ExitCode.SUCCESS)
    assert counts(jobs, 2) == [1, 1]
    assert (jobs.workspace() / "all.txt").read_text() == "chunk 0\nchunk 1\n"


def test_a_spec_that_a_phase_before_it_made_wrong_needs_a_human_whose_correction_is_a_step(jobs: Jobs) -> None:
    phases = [Phase(name="plan"), Phase(name="render", kind=PhaseKind.RENDER, spec="job.json")]
    jobs.create(worker="echo '{}' > job.json", phases=phases)
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.EVIDENCE_INVALID
    assert "job.json: " in manifest.reason.sentence
    assert "metadata" in manifest.reason.sentence
    write_spec(jobs.workspace(), text_spec(1))
    resolve_retry(jobs.runtime, "job", "")
    jobs.run_to(ExitCode.SUCCESS)
    assert [(step.role, step.action) for step in jobs.committed()[2:]] == [
        (Role.WORKER, Verdict.STUCK),
        (Role.HUMAN, Verdict.RETRY),
        (Role.WORKER, Verdict.COMPLETED),
        (Role.SUPERVISOR, Verdict.COMPLETED),
    ]


def test_a_program_that_is_not_there_is_told_before_anything_runs(jobs: Jobs) -> None:
    content = text_spec(2)
    content["chunks"][1]["command"] = ["no-such-program-anywhere"]
    render(jobs, content)
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code in (ReasonCode.AGENT_FAILED, ReasonCode.CHUNK_FAILED)
    assert "no-such-program-anywhere" in manifest.reason.sentence


# --- Stopped and killed --------------------------------------------------------------------------------------------


def test_asked_once_to_stop_the_running_chunk_ends_and_the_next_run_does_the_others(jobs: Jobs) -> None:
    jobs.reporter = Hook(lambda event: jobs.stop.ask(ExitCode.INTERRUPTED) if isinstance(event, ChunkStarted) else None)
    render(jobs, text_spec(3))
    manifest = jobs.run_to(ExitCode.INTERRUPTED)
    assert manifest.status is JobStatus.PENDING
    assert counts(jobs, 3) == [1, 0, 0]
    [stop] = jobs.reporter.of(events.StopRequested)
    assert stop.after == "the running chunks"
    assert jobs.committed() == []
    [stopped] = [record for record in jobs.records() if isinstance(record, AttemptFailed)]
    assert (stopped.kind, stopped.salvage) == ("stopped", None)
    jobs.reporter = MemoryReporter()
    jobs.run_to(ExitCode.SUCCESS)
    assert counts(jobs, 3) == [1, 1, 1]
    assert jobs.evidence_steps() == [1, 2]
    assert [step.role for step in jobs.committed()] == [Role.WORKER, Role.SUPERVISOR]


def test_asked_twice_to_stop_the_running_chunk_is_ended_and_what_was_done_stays(jobs: Jobs) -> None:
    gate = jobs.root / "gate"

    def act(event: object) -> None:
        if isinstance(event, ChunkStarted) and event.chunk == 1:
            jobs.stop.ask(ExitCode.INTERRUPTED)
            jobs.stop.ask(ExitCode.INTERRUPTED)

    jobs.reporter = Hook(act)
    render(jobs, replaced(text_spec(3), 1, waiting(1, gate)))
    jobs.run_to(ExitCode.INTERRUPTED)
    assert counts(jobs, 3)[0] == 1
    gate.touch()
    jobs.reporter = MemoryReporter()
    jobs.run_to(ExitCode.SUCCESS)
    assert counts(jobs, 3)[0] == counts(jobs, 3)[2] == 1
    assert not jobs.git("for-each-ref", "refs/logist/salvage")


def test_a_pause_that_another_process_asks_for_lets_the_running_chunk_end(jobs: Jobs) -> None:
    paths = jobs.store.paths("job")
    jobs.reporter = Hook(
        lambda event: request(paths, "pause", "lunch", jobs.clock.now()) if isinstance(event, ChunkStarted) else None
    )
    render(jobs, text_spec(2))
    result = jobs.run()
    assert (result.manifest.status, counts(jobs, 2)) == (JobStatus.PENDING, [1, 0])
    assert result.manifest.reason.sentence == "paused by request: lunch"
    jobs.reporter = MemoryReporter()
    jobs.run_to(ExitCode.SUCCESS)
    assert counts(jobs, 2) == [1, 1]


def test_canceled_while_a_chunk_runs_the_chunk_is_ended_and_the_job_canceled(jobs: Jobs) -> None:
    gate = jobs.root / "gate"
    paths = jobs.store.paths("job")
    jobs.reporter = Hook(
        lambda event: (
            request(paths, "cancel", "never mind", jobs.clock.now())
            if isinstance(event, ChunkStarted) and event.chunk == 1
            else None
        )
    )
    render(jobs, replaced(text_spec(3), 1, waiting(1, gate)))
    manifest = jobs.run_to(ExitCode.CANCELED)
    assert manifest.reason.sentence == "canceled: never mind"
    assert (jobs.workspace() / "out.0.txt").exists()
    assert counts(jobs, 3)[2] == 0


def test_the_time_budget_ends_what_runs_and_a_raised_one_goes_on_with_what_is_not_done(jobs: Jobs) -> None:
    clock = FakeClock()
    jobs.clock = clock
    jobs.store = JobStore(jobs.store.jobs_dir, clock)
    gate = jobs.root / "gate"
    jobs.reporter = Hook(
        lambda event: clock.advance(100) if isinstance(event, ChunkStarted) and event.chunk == 1 else None
    )
    render(jobs, replaced(text_spec(3), 1, waiting(1, gate)), budget=Budget(time=60))
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.BUDGET_TIME
    assert manifest.reason.sentence == "the active time of the budget is used up; 1 of 3 chunks done"
    assert manifest.spent.time >= 100
    assert next_commands(manifest)[0].command == "logist job resolve job --add-time 1m10s"
    gate.touch()
    jobs.reporter = MemoryReporter()
    add_budget(jobs.runtime, "job", BudgetIncrease(time=600))
    jobs.run_to(ExitCode.SUCCESS)
    assert counts(jobs, 3)[0] == counts(jobs, 3)[2] == 1
    assert [step.role for step in jobs.committed()] == [Role.WORKER, Role.WORKER, Role.SUPERVISOR]


@pytest.mark.parametrize("with_what_watches", [False, True])
def test_a_runner_killed_while_a_chunk_runs_leaves_a_job_that_goes_on_with_that_chunk(
    jobs: Jobs, with_what_watches: bool
) -> None:
    gate = jobs.root / "gate"
    render(jobs, replaced(text_spec(3), 1, waiting(1, gate)))
    command = [sys.executable, "-m", "logist", "--jobs-dir", str(jobs.store.jobs_dir), "job", "run", "-q", "job"]
    runner = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL)
    pid = gate.with_name("gate.pid")
    wait_until(lambda: pid.exists() and pid.read_text().strip())
    old = int(pid.read_text())
    for doomed in _above(old, runner.pid) if with_what_watches else (runner.pid,):
        os.kill(doomed, signal.SIGKILL)
    runner.wait()
    lived: list[bool] = []

    def act(event: object) -> None:
        if isinstance(event, ChunkStarted) and event.chunk == 1:
            lived.append(is_alive(old))
            gate.touch()

    jobs.reporter = Hook(act)
    jobs.run_to(ExitCode.SUCCESS)
    assert lived == [False]
    assert counts(jobs, 3) == [1, 2, 1]
    assert jobs.evidence_steps() == [1, 2]
    assert [chunk["attempts"] for chunk in report_of(jobs)["chunks"]] == [1, 2, 1]
    assert not jobs.git("for-each-ref", "refs/logist/salvage")
    assert len([record for record in jobs.records() if isinstance(record, Intent)]) == 3


def _above(pid: int, top: int) -> list[int]:
    """The processes between one and the runner `top`, and that one: nobody is left to end the command."""
    found = [top]
    while (pid := int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])) not in (
        top,
        0,
        1,
    ):
        found.append(pid)
    assert len(found) > 1
    return found


def test_a_runner_killed_at_any_instant_of_a_render_never_makes_a_done_chunk_anew(
    jobs: Jobs, request: pytest.FixtureRequest
) -> None:
    manifest = render(jobs, text_spec(3), checks=[Check(name="merged", command="test $(wc -l < all.txt) -eq 3")])
    template = jobs.root / "template"
    shutil.copytree(jobs.store.jobs_dir / manifest.id, template / "crash")
    _rename(template / "crash")
    scratch = jobs.root / "scratch"
    scratch.mkdir()
    stride = 7 if request.config.getoption("--slow") else 53
    swept = subprocess.run(
        [sys.executable, str(DRIVER), str(template), str(scratch), "5", str(stride)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=600,
    )
    assert swept.returncode == 0, swept.stderr
    *kills, summary = [json.loads(line) for line in swept.stdout.splitlines()]
    assert summary["counted"]["exit_code"] == 0
    assert len(kills) > 4
    for kill in kills:
        workspace = Path(kill["jobs"]) / "crash" / "workspace"
        assert kill["after"] == {"status": "SUCCESS", "step": 2}, kill
        # One chunk at a time: at most the one that ran when the runner died is run again.
        assert sum(runs(workspace, number) for number in range(3)) <= 4, kill
        assert (workspace / "all.txt").read_text() == "chunk 0\nchunk 1\nchunk 2\n", kill
        git = ["git", f"--git-dir={kill['jobs']}/crash/repo.git"]
        steps = subprocess.run(
            [*git, "log", "--format=%(trailers:key=Logist-Step,valueonly,separator=)", "logist/crash"],
            capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
        assert steps == ["2", "1", "0"], (kill, steps)
        kept = subprocess.run([*git, "rev-list", "--objects", "--all"], capture_output=True, text=True, check=True)
        assert "all.txt" not in kept.stdout, kill


def _rename(folder: Path) -> None:
    """Make the copied job the one that the crash driver runs."""
    for name in ("job_manifest.json", "history.jsonl"):
        assert (folder / name).exists()
    shutil.rmtree(folder)
    # Ids are in records with checksums: the job is made anew under the driver's name.
    store = JobStore(folder.parent, SystemClock())
    origin = JobStore(folder.parents[1] / "jobs", SystemClock()).load("job")
    from logist.job_creation import CreateRequest, create_job

    source = SourceRequest(kind=SourceKind.FOLDER, path=folder.parents[1] / "film")
    create_job(store, CreateRequest(origin.job, source, "crash"), SystemClock())


# --- Judging it ----------------------------------------------------------------------------------------------------


def test_checks_see_the_media_and_what_they_leave_or_remove_is_put_back_without_touching_the_media(jobs: Jobs) -> None:
    litter = (
        f"test -s all.txt && echo litter > litter.txt && rm -r render && mkdir -p deep/er && cp all.txt deep/er/{'x'}"
    )
    render(
        jobs,
        spec(
            [counted(0, "mkdir -p deep/media && echo frame > deep/media/0.txt")],
            outputs=["deep/media/0.txt"],
            merge="cp deep/media/0.txt all.txt",
            output="all.txt",
        ),
        checks=[Check(name="first", command=litter), Check(name="second", command="! test -e litter.txt")],
    )
    jobs.run_to(ExitCode.SUCCESS)
    workspace = jobs.workspace()
    assert [check.passed for check in jobs.committed()[0].checks] == [True, True]
    assert (workspace / "deep/media/0.txt").read_text() == "frame\n"
    assert (workspace / "all.txt").exists()
    assert (workspace / REPORT).exists()
    assert not (workspace / "deep/er").exists()
    assert runs(workspace, 0) == 1


def test_a_supervisor_that_objects_to_what_nobody_changes_gets_no_new_render(
    jobs: Jobs,
) -> None:
    render(jobs, text_spec(2), supervisor="echo too dark; exit 1")
    manifest = jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    assert manifest.reason.code is ReasonCode.NO_PROGRESS
    assert counts(jobs, 2) == [1, 1]
    trees = {step.tree for step in jobs.committed()}
    assert len(trees) == 1


def test_after_an_objection_only_the_chunks_are_made_anew_whose_inputs_a_human_changed(jobs: Jobs) -> None:
    (jobs.root / "film").mkdir()
    (jobs.root / "film" / "light.txt").write_text("dark\n")
    content = text_spec(2)
    replaced(content, 1, counted(1, "cat light.txt > out.1.txt"))
    content["chunks"][1]["inputs"] = ["light.txt"]
    render(jobs, content, supervisor="echo too dark; grep -q bright all.txt || exit 1")
    jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    (jobs.workspace() / "light.txt").write_text("bright\n")
    resolve_retry(jobs.runtime, "job", "")
    jobs.run_to(ExitCode.SUCCESS)
    assert counts(jobs, 2) == [1, 2]
    assert (jobs.workspace() / "all.txt").read_text() == "chunk 0\nbright\n"


def test_the_supervisor_is_told_what_was_rendered_and_that_media_count_although_git_has_them_not(jobs: Jobs) -> None:
    (jobs.root / "film").mkdir()
    (jobs.root / "film" / ".gitignore").write_text("*.tmp\n")
    render(jobs, replaced(text_spec(1), 0, counted(0, "echo x > a.tmp; echo chunk 0 > out.0.txt")))
    jobs.run_to(ExitCode.SUCCESS)
    prompt = (jobs.store.paths("job").step_dir(2, "supervisor", 1) / "prompt.md").read_text()
    rendered = prompt[prompt.index("## What was rendered") : prompt.index("## What changed")]
    assert "1 chunk, 1 frame, merged into all.txt (8 bytes, not decoded)" in rendered
    assert REPORT in rendered
    media = prompt[prompt.index("## The media") : prompt.index("## What lies in the workspace")]
    assert "all.txt" in media
    left = prompt[prompt.index("## What lies in the workspace") : prompt.index("## How to judge")]
    assert "a.tmp" in left
    assert "all.txt" not in left


def test_the_worker_of_a_job_that_only_renders_is_neither_needed_nor_called_scripted(jobs: Jobs) -> None:
    render(jobs, text_spec(1), worker="this is no program at all")
    assert build_report(jobs.store, "job").scripted == ()
    jobs.run_to(ExitCode.SUCCESS)
    with pytest.raises(WrongState):
        jobs.run()


def test_a_reply_is_not_taken_for_a_render(jobs: Jobs) -> None:
    render(jobs, text_spec(1))
    with pytest.raises(WrongState, match="nobody is asked"):
        jobs.run(reply=b'{"action": "COMPLETED"}', single_step=True)
    assert counts(jobs, 1) == [0]


def test_single_steps_are_the_render_and_then_the_supervisor(jobs: Jobs) -> None:
    render(jobs, text_spec(2))
    jobs.run_to(ExitCode.SUCCESS, single_step=True)
    assert (jobs.store.load("job").next_role, counts(jobs, 2)) == (Role.SUPERVISOR, [1, 1])
    jobs.run_to(ExitCode.SUCCESS, single_step=True)
    assert jobs.store.load("job").status is JobStatus.SUCCESS


def test_a_rerun_renders_all_anew_and_a_rewind_nothing_that_is_unchanged(jobs: Jobs) -> None:
    allowed = jobs.root / "allowed"
    render(jobs, replaced(text_spec(2), 1, failing_once(1, allowed)))
    jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    allowed.touch()
    before = (jobs.workspace() / "out.0.txt").stat().st_mtime_ns
    resolve_rewind(jobs.runtime, "job", 0)
    jobs.run_to(ExitCode.SUCCESS)
    assert (jobs.workspace() / "out.0.txt").stat().st_mtime_ns == before
    rerun_job(jobs.runtime, "job")
    jobs.run_to(ExitCode.SUCCESS)
    assert (jobs.workspace() / "out.0.txt").stat().st_mtime_ns > before
    assert [chunk["attempts"] for chunk in report_of(jobs)["chunks"]] == [1, 1]


# --- What the commands find, and what is shown -----------------------------------------------------------------------


def test_commands_get_the_allow_list_and_hold_the_jobs_lease(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "hush")
    held = "for fd in /proc/$$/fd/*; do readlink $fd; done > held.txt; true"
    render(jobs, spec([f"env > env.txt; {held}"]))
    jobs.run_to(ExitCode.SUCCESS)
    found = (jobs.workspace() / "env.txt").read_text()
    assert "hush" not in found
    assert "LOGIST_JOB_ID=job\n" in found
    assert "LOGIST_CHUNK=0\n" in found
    assert str(jobs.store.paths("job").lease) in (jobs.workspace() / "held.txt").read_text().splitlines()


def test_the_spec_of_a_link_that_leads_out_of_the_workspace_makes_no_job(jobs: Jobs) -> None:
    (jobs.root / "film").mkdir()
    (jobs.root / "film" / "away").symlink_to(jobs.root)
    with pytest.raises(InvalidFile, match="outside of the spec's folder"):
        render(jobs, spec(["true"], outputs=["away/x.txt"]))
    phase = Phase(name="render", kind=PhaseKind.RENDER, spec="sub/job.json")
    with pytest.raises(UsageProblem, match=r"there is no spec sub/job\.json"):
        jobs.create(phases=[phase], source=SourceRequest(kind=SourceKind.FOLDER, path=jobs.root / "film"))
    assert jobs.store.ids() == ()


def test_chunk_events_come_one_at_a_time_and_are_shown_on_every_kind_of_display(jobs: Jobs) -> None:
    render(jobs, replaced(text_spec(3), 2, "echo no more film; exit 4"), concurrency=2)
    jobs.run_to(ExitCode.INTERVENTION_REQUIRED)
    told = jobs.reporter.events
    chunks = [event.event for event in jobs.reporter.of(events.RenderProgressed)]
    assert {event.result.chunk for event in chunks if isinstance(event, ChunkFinished)} == {0, 1, 2}
    plain, lines, screen = Terminal(), Terminal(), Terminal()
    for reporter in (
        PlainReporter(stream=plain),
        JsonReporter(stream=lines),
        LiveReporter(environ={"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}, stream=screen),
    ):
        for event in told:
            reporter.emit(event)
        reporter.close()
    assert "chunk 0 done: 1 frame" in plain.getvalue()
    assert "│ no more film" in plain.getvalue()
    records = [json.loads(line) for line in lines.getvalue().splitlines()]
    [failed] = [record for record in records if record["type"] == "chunk.finished" and record["result"]["chunk"] == 2]
    assert (failed["job"], failed["step"], failed["result"]["exit_code"]) == ("job", 1, 4)
    assert records[-1]["type"] == "job.finished"
    assert "2/3  2/3 chunks" in screen.getvalue()
    assert any("chunk 2 failed: exit code 4" in row for row in screen.screen())
    assert any("no more film" in row for row in screen.screen())


def test_a_render_is_one_attempt_of_the_record_that_names_how_to_do_it_by_hand(jobs: Jobs) -> None:
    render(jobs, text_spec(1), concurrency=3, chunk_timeout=90.0)
    jobs.run_to(ExitCode.SUCCESS)
    [exited] = [record for record in jobs.records() if isinstance(record, Exited) and record.agent == "render"]
    assert " ".join(exited.argv) == "logist job run job.json --concurrency 3 --retries 0 --halt soon --timeout 1m30s"


def test_what_checks_do_to_the_media_is_told_because_it_cannot_be_put_back(jobs: Jobs) -> None:
    render(jobs, text_spec(1), checks=[Check(name="greedy", command="echo more >> all.txt")])
    jobs.run_to(ExitCode.SUCCESS)
    said = [event.message for event in jobs.reporter.of(events.Notice)]
    assert "the checks changed what was rendered; the next render makes it anew: all.txt" in said


def test_after_a_restart_of_the_machine_the_workspace_is_put_back_and_the_done_chunks_stay(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.reporter = Hook(lambda event: jobs.stop.ask(ExitCode.INTERRUPTED) if isinstance(event, ChunkStarted) else None)
    render(jobs, text_spec(2))
    jobs.run_to(ExitCode.INTERRUPTED)
    made = (jobs.workspace() / "out.0.txt").stat().st_mtime_ns
    for module in ("logist.job_recovery", "logist.step_end", "logist.turns", "logist.render_turn"):
        monkeypatch.setattr(f"{module}.boot_id", lambda: "another-boot")
    jobs.reporter = MemoryReporter()
    jobs.run_to(ExitCode.SUCCESS)
    assert (jobs.workspace() / "out.0.txt").stat().st_mtime_ns == made
    assert (jobs.workspace() / "all.txt").read_text() == "chunk 0\nchunk 1\n"
    [kept] = jobs.git("for-each-ref", "--format=%(refname)", "refs/logist/salvage").split()
    assert files_in_git(jobs, kept) == ["job.json", "runs.0"]
