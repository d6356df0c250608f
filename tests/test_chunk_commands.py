"""The command line on specs: `logist job run job.json` and what looks at it, through the real entry point."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pexpect
import pytest
from specs import counted, runs, spec, text_spec, video_spec, write_spec
from videos import read_numbers


class Outcome(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its output as JSON, one value a line."""
        return [json.loads(line) for line in self.out.splitlines()]


Logist = Callable[..., Outcome]


@pytest.fixture
def logist(tmp_path: Path) -> Logist:
    """Run `logist job …` in `tmp_path`."""

    def logist(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "logist", *arguments],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    return logist


def counts(folder: Path, chunks: int) -> list[int]:
    return [runs(folder, number) for number in range(chunks)]


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.005)


def assert_refused(outcome: Outcome, code: int, *words: str) -> None:
    """One `Error:` line, one `Hint:` line, nothing else."""
    assert outcome.code == code
    error, hint = outcome.err.splitlines()
    assert (error[:7], hint[:6]) == ("Error: ", "Hint: ")
    for word in words:
        assert word in outcome.err
    assert outcome.out == ""


def test_a_spec_runs_to_success_and_the_end_says_what_was_made(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, video_spec([4, 3]))
    done = logist("job", "run", "job.json", "--concurrency", "2")
    assert (done.code, done.out) == (0, "")
    assert read_numbers(tmp_path / "final.mp4") == list(range(7))
    assert "SUCCESS" in done.err
    assert "final.mp4" in done.err
    assert "7 frames" in done.err


def test_a_spec_of_another_folder_runs_in_its_own_folder(logist: Logist, tmp_path: Path) -> None:
    folder = tmp_path / "a film's folder"
    folder.mkdir()
    write_spec(folder, text_spec(2), "a job.json")
    assert logist("job", "run", "a film's folder/a job.json").code == 0
    assert (folder / "all.txt").exists()
    assert (folder / ".logist" / "a job.json" / "history.jsonl").exists()


def test_one_chunk_runs_without_state_and_prints_what_its_command_prints(logist: Logist, tmp_path: Path) -> None:
    content = text_spec(3)
    content["chunks"][1]["command"] = counted(1, "echo said by chunk 1; echo chunk 1 > out.1.txt")
    write_spec(tmp_path, content)
    done = logist("job", "run", "job.json", "--chunk", "1")
    assert done.code == 0
    assert "said by chunk 1" in done.err
    assert counts(tmp_path, 3) == [0, 1, 0]
    assert not (tmp_path / ".logist").exists()
    assert not (tmp_path / "all.txt").exists()


def test_stateless_workers_share_a_folder_and_merge_only_completes_them(logist: Logist, tmp_path: Path) -> None:
    path = write_spec(tmp_path, text_spec(6))
    line = [sys.executable, "-m", "logist", "job", "run", str(path), "-q", "--chunk"]
    workers = [subprocess.Popen([*line, str(number)]) for number in range(6)]
    assert [worker.wait() for worker in workers] == [0] * 6
    assert logist("job", "run", "job.json", "--merge-only").code == 0
    assert (tmp_path / "all.txt").read_text() == "".join(f"chunk {number}\n" for number in range(6))
    assert counts(tmp_path, 6) == [1] * 6


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "4"}, [0, 0, 1, 0]),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "3"}, [0, 0, 0, 1]),
        ({"JOB_COMPLETION_INDEX": "0"}, [1, 0, 0, 0]),
        ({"CLOUD_RUN_TASK_INDEX": "1", "CLOUD_RUN_TASK_COUNT": "2"}, [0, 1, 0, 1]),
    ],
    ids=["Slurm", "AWS Batch", "Kubernetes", "Cloud Run: every second one"],
)
def test_the_index_of_an_array_task_chooses_the_chunk(
    logist: Logist, tmp_path: Path, variables: dict[str, str], expected: list[int]
) -> None:
    write_spec(tmp_path, text_spec(4))
    assert logist("job", "run", "job.json", "--chunk", "auto", "-q", env=variables).code == 0
    assert counts(tmp_path, 4) == expected


def test_a_failed_chunk_ends_with_5_and_the_commands_that_go_on(logist: Logist, tmp_path: Path) -> None:
    content = text_spec(3)
    content["chunks"][1]["command"] = "echo the page crashed >&2; exit 4"
    write_spec(tmp_path, content)
    done = logist("job", "run", "job.json")
    assert done.code == 5
    assert "the page crashed" in done.err
    assert "logist job run job.json" in done.err
    shown = logist("job", "log", "job.json", "--chunk", "1")
    assert shown.out == "the page crashed\n"
    status = logist("job", "status", "job.json", "--json")
    found = json.loads(status.out)
    assert (found["status"], found["done"], found["failed"]) == ("INTERVENTION_REQUIRED", 1, 1)


def test_without_merge_the_chunks_are_made_and_a_later_run_only_merges(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(2))
    assert logist("job", "run", "job.json", "--no-merge").code == 0
    assert not (tmp_path / "all.txt").exists()
    assert logist("job", "run", "job.json").code == 0
    assert (tmp_path / "all.txt").exists()
    assert counts(tmp_path, 2) == [1, 1]


def test_a_dry_run_prints_the_commands_and_changes_nothing(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(2))
    done = logist("job", "run", "job.json", "--dry-run")
    assert done.code == 0
    assert [line.partition(":")[0] for line in done.out.splitlines()] == ["chunk 0", "chunk 1", "merge"]
    assert "/bin/sh -c" in done.out
    planned = json.loads(logist("job", "run", "job.json", "--dry-run", "--json").out)
    assert [chunk["chunk"] for chunk in planned["run"]] == [0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.json"]


def test_the_event_stream_is_one_line_of_json_an_event(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(2))
    done = logist("job", "run", "job.json", "--json")
    assert [line["type"] for line in done.lines] == [
        "run.started",
        "chunk.started",
        "run.notice",
        "chunk.finished",
        "chunk.started",
        "chunk.finished",
        "merge.started",
        "merge.finished",
        "run.finished",
    ]
    assert done.lines[-1]["exit_code"] == 0
    assert done.err == ""


def test_a_quiet_run_prints_nothing(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(1))
    assert logist("job", "run", "job.json", "-q") == (0, "", "")


def test_a_spec_comes_from_standard_input_too(logist: Logist, tmp_path: Path) -> None:
    content = json.dumps(text_spec(2)).encode()
    assert logist("job", "run", "-", "-q", stdin=content).code == 0
    assert (tmp_path / "all.txt").exists()
    assert logist("job", "run", "-", "-q", stdin=content).code == 0
    assert counts(tmp_path, 2) == [1, 1]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a folder that a server on loopback gives out."""
    folder = tmp_path / "served"
    folder.mkdir()
    write_spec(folder, text_spec(1))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_spec_from_a_url_runs_only_when_it_is_trusted(logist: Logist, tmp_path: Path, served: str) -> None:
    assert_refused(logist("job", "run", f"{served}/job.json"), 2, "--trust")
    assert logist("job", "run", f"{served}/job.json", "--trust", "-q").code == 0
    assert (tmp_path / "all.txt").read_text() == "chunk 0\n"


def test_status_and_history_tell_of_a_run(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(2))
    before = logist("job", "status", "job.json")
    assert (before.code, "not run yet" in before.out) == (0, True)
    logist("job", "run", "job.json", "-q")
    after = logist("job", "status", "job.json")
    assert "2 of 2 chunks are done" in after.out
    records = logist("job", "history", "job.json", "--json").lines
    assert [record["type"] for record in records] == [
        "run_began",
        "chunk_began",
        "chunk_ended",
        "chunk_began",
        "chunk_ended",
        "merge_ended",
        "run_ended",
    ]
    assert len(logist("job", "history", "job.json", "-n", "2").out.splitlines()) == 2


def test_a_run_is_seen_and_canceled_from_another_process(logist: Logist, tmp_path: Path) -> None:
    content = text_spec(2)
    content["chunks"][1]["command"] = "touch at-work; sleep 60"
    path = write_spec(tmp_path, content)
    runner = subprocess.Popen([sys.executable, "-m", "logist", "job", "run", str(path), "-q"])
    wait_for(tmp_path / "at-work")
    status = json.loads(logist("job", "status", "job.json", "--json").out)
    assert (status["status"], status["done"], status["running"]) == ("RUNNING", 1, [1])
    assert_refused(logist("job", "run", "job.json"), 75, str(runner.pid))
    canceled = logist("job", "cancel", "job.json", "-m", "enough")
    assert (canceled.code, runner.wait()) == (0, 4)
    assert_refused(logist("job", "cancel", "job.json"), 6, "not being run")
    assert "canceled: enough" in logist("job", "status", "job.json").out


def test_ctrl_c_twice_kills_the_running_chunk_and_the_run_goes_on_later(tmp_path: Path, logist: Logist) -> None:
    content = text_spec(2)
    content["chunks"][1]["command"] = counted(1, "touch at-work; [ -e go ] || sleep 60; echo chunk 1 > out.1.txt")
    path = write_spec(tmp_path, content)
    runner = subprocess.Popen([sys.executable, "-m", "logist", "job", "run", str(path), "-q"])
    wait_for(tmp_path / "at-work")
    runner.send_signal(signal.SIGINT)
    runner.send_signal(signal.SIGINT)
    while runner.poll() is None:
        # Two at once may be seen as one.
        runner.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert runner.wait() == 130
    (tmp_path / "go").touch()
    assert logist("job", "run", "job.json", "-q").code == 0
    assert counts(tmp_path, 2) == [1, 2]


def test_retries_are_told_and_counted(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, spec([counted(0, "[ $(wc -l < runs.0) -ge 2 ]")]))
    done = logist("job", "run", "job.json", "--retries", "1")
    assert done.code == 0
    assert "again in" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--chunk", "9"), ("9",)),
        (("--chunk", "auto"), ("auto",)),
        (("--concurrency", "0"), ("--concurrency",)),
        (("--concurrency", "many"), ("--concurrency",)),
        (("--adapter", "moon"), ("moon", "local")),
        (("--merge-only", "--no-merge"), ("--merge-only",)),
        (("--timeout", "0"), ("--timeout",)),
    ],
)
def test_options_that_can_not_be_are_refused_and_nothing_runs(
    logist: Logist, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    write_spec(tmp_path, text_spec(2))
    assert_refused(logist("job", "run", "job.json", *options), 2, *words)
    assert counts(tmp_path, 2) == [0, 0]


def test_options_of_a_spec_are_refused_for_a_job(logist: Logist) -> None:
    assert_refused(logist("job", "run", "some-job", "--retries", "2"), 2, "--retries")


def test_a_spec_that_is_not_there_or_not_sound_is_refused(logist: Logist, tmp_path: Path) -> None:
    assert_refused(logist("job", "run", "nope.json"), 2, "nope.json")
    (tmp_path / "bad.json").write_text("{")
    assert_refused(logist("job", "run", "bad.json"), 78, "bad.json", "line 1")
    content = text_spec(2)
    content["chunks"][1]["startFrame"] = 5
    write_spec(tmp_path, content, "gap.json")
    assert_refused(logist("job", "run", "gap.json"), 78, "chunks[1].startFrame")


def test_outputs_outside_of_the_folder_are_refused_unless_allowed(logist: Logist, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_spec(folder, spec(["echo x > ../out.txt"], outputs=["../out.txt"]))
    assert_refused(logist("job", "run", "in/job.json"), 78, "--allow-outside")
    assert logist("job", "run", "in/job.json", "--allow-outside", "-q").code == 0
    assert (tmp_path / "out.txt").exists()


def test_a_render_without_helios_is_one_clear_error(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, spec(["helios render page.html -o part.mp4"], outputs=["part.mp4"]))
    path = os.pathsep.join(["/usr/bin", "/bin"])
    assert_refused(logist("job", "run", "job.json", env={"PATH": path}), 78, "helios")


def test_bars_are_drawn_on_a_terminal_and_the_cursor_comes_back(tmp_path: Path) -> None:
    write_spec(tmp_path, spec(["for n in 10 20 30; do echo frame $n/30; sleep 0.3; done"] * 2, frames=30))
    child = pexpect.spawn(
        sys.executable,
        ["-m", "logist", "job", "run", "job.json", "--concurrency", "2"],
        cwd=str(tmp_path),
        env={**os.environ, "TERM": "xterm-256color"},
        dimensions=(24, 100),
        timeout=30,
        encoding="utf-8",
    )
    output = child.read()
    child.close()
    assert child.exitstatus == 0
    assert "chunk 0" in output
    assert "/60" in output
    assert output.rfind("\x1b[?25h") > output.rfind("\x1b[?25l")
