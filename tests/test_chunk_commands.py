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


def test_a_dry_run_of_a_merge_shows_it_also_when_it_was_done(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(1))
    logist("job", "run", "job.json", "-q")
    assert logist("job", "run", "job.json", "-n").out == ""
    assert logist("job", "run", "job.json", "-n", "--merge-only").out.startswith("merge: ")


@pytest.mark.parametrize("options", [("--concurrency", "0"), ("--adapter", "moon")])
def test_a_dry_run_refuses_what_a_run_refuses(logist: Logist, tmp_path: Path, options: tuple[str, ...]) -> None:
    write_spec(tmp_path, text_spec(1))
    assert_refused(logist("job", "run", "job.json", "-n", *options), 2, options[1])


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


def test_a_quiet_run_prints_the_verdict_and_of_a_failure_the_log(logist: Logist, tmp_path: Path) -> None:
    content = text_spec(1)
    write_spec(tmp_path, content)
    assert logist("job", "run", "job.json", "-q") == (0, "", "job.json: SUCCESS: all chunks are done and merged\n")
    content["chunks"][0]["command"] = "echo boom; exit 3"
    write_spec(tmp_path, content)
    words = "job.json: INTERVENTION REQUIRED: chunk 0 failed: exit code 3\n"
    assert logist("job", "run", "job.json", "-q") == (5, "", f"{words}log: .logist/job.json/chunks/0.log\n")
    assert logist("job", "run", "job.json", "-q", "--chunk", "0") == (5, "", f"{words}│ boom\n")


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
    assert (status["status"], status["done"], status["runner"]["pid"]) == ("RUNNING", 1, runner.pid)
    assert [(chunk["chunk"], chunk["attempt"]) for chunk in status["running"]] == [(1, 1)]
    assert "chunk 1 runs for " in logist("job", "status", "job.json").out
    assert_refused(
        logist("job", "run", "job.json"),
        75,
        "the spec job.json is held",
        str(runner.pid),
        "`logist job pause job.json`",
    )
    canceled = logist("job", "cancel", "job.json", "-m", "enough")
    assert (canceled.code, runner.wait()) == (0, 4)
    assert_refused(logist("job", "cancel", "job.json"), 6, "not being run", "possible now: logist job run job.json\n")
    shown = logist("job", "status", "job.json").out
    assert "canceled: enough" in shown
    assert "  logist job run job.json  goes on" in shown


def test_a_paused_run_ends_its_running_chunks_and_goes_on_later(logist: Logist, tmp_path: Path) -> None:
    content = text_spec(3)
    # No file by its whole name: one that a command names is an input of it.
    wait = "touch at.$LOGIST_CHUNK; for n in $(seq 2000); do [ -e go.$LOGIST_CHUNK ] && break; sleep 0.01; done"
    content["chunks"][1]["command"] = counted(1, f"{wait}; echo > out.1.txt")
    path = write_spec(tmp_path, content)
    assert_refused(logist("job", "pause", "job.json"), 6, "nothing to pause")
    runner = subprocess.Popen([sys.executable, "-m", "logist", "job", "run", str(path), "-q"])
    wait_for(tmp_path / "at.1")
    paused = logist("job", "pause", "job.json")
    assert (paused.code, "go on with: logist job run job.json\n" in paused.err) == (0, True)
    (tmp_path / "go.1").touch()
    assert runner.wait() == 143
    assert counts(tmp_path, 3) == [1, 1, 0]
    assert logist("job", "run", "job.json", "-q").code == 0
    assert counts(tmp_path, 3) == [1, 1, 1]


def test_a_stop_that_was_heard_is_told_at_once(tmp_path: Path) -> None:
    path = write_spec(tmp_path, spec(["touch at-work; sleep 20"]))
    runner = subprocess.Popen(
        [sys.executable, "-m", "logist", "job", "run", str(path)], stderr=subprocess.PIPE, text=True
    )
    wait_for(tmp_path / "at-work")
    runner.send_signal(signal.SIGINT)
    assert runner.stderr is not None
    with runner.stderr as told:
        first = next(line for line in told if "stopping after" in line)
        assert "Ctrl-C again ends them now" in first
        runner.send_signal(signal.SIGINT)
        assert "ending the running chunks now" in told.read()
    assert runner.wait() == 130


# --- What is told afterwards ---------------------------------------------------------------------------------------


def next_commands(text: str) -> list[str]:
    """The commands that are offered, without their explanations."""
    return [line.strip().partition("  ")[0] for line in text.splitlines() if line.startswith("  logist ")]


def test_offered_commands_work_when_they_are_pasted(logist: Logist, tmp_path: Path) -> None:
    folder = tmp_path / "in 'a' folder"
    folder.mkdir()
    content = spec(["echo x > ../out.txt; exit 1"], outputs=["../out.txt"])
    write_spec(folder, content, "-odd\nname.json")
    (tmp_path / "logist").write_text(f'#!/bin/sh\nexec {sys.executable} -m logist "$@"\n')
    (tmp_path / "logist").chmod(0o755)
    done = logist("job", "run", "in 'a' folder/-odd\nname.json", "--allow-outside")
    commands = next_commands(done.err)
    assert len(commands) == 3
    assert next_commands(logist("job", "status", "in 'a' folder/-odd\nname.json").out) == commands
    for command, code in zip(commands, (5, 5, 0), strict=True):
        ran = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            check=False,
        )
        assert ran.returncode == code, command


def test_a_name_that_begins_with_a_dash_is_no_option(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, spec(["false"]), "-x.json")
    offered = next_commands(logist("job", "run", "./-x.json").err)
    assert offered[0] == "logist job run ./-x.json"


def test_a_spec_from_standard_input_is_named_by_its_state(logist: Logist, tmp_path: Path) -> None:
    assert_refused(logist("job", "status", "-"), 2, "none was run in this folder")
    done = logist("job", "run", "-", stdin=json.dumps(spec(["echo x; false"])).encode())
    (log,) = next_commands(done.err)
    assert "run -" not in done.err
    assert "run the same command with the same spec" in done.err
    assert logist(*log.split()[1:]).out == "x\n"
    name = log.split()[3]
    assert_refused(logist("job", "status", "-"), 2, f"logist job status {name}")
    assert next_commands(logist("job", "status", name).out) == [log]


def test_a_spec_from_a_url_is_named_by_it_unless_it_may_hold_a_key(logist: Logist, tmp_path: Path, served: str) -> None:
    write_spec(tmp_path / "served", spec(["echo x; false"]))
    done = logist("job", "run", f"{served}/job.json", "--trust")
    again, alone, log = next_commands(done.err)
    assert (again, alone) == (f"logist job run {served}/job.json --trust", f"{again} --chunk 0")
    assert logist(*log.split()[1:]).out == "x\n"
    secret = logist("job", "run", f"{served}/job.json?key=abc", "--trust")
    assert next_commands(secret.err) == [log]
    assert "abc" not in secret.err


def test_a_spec_that_can_not_be_read_any_more_is_not_offered_to_be_run(logist: Logist, tmp_path: Path) -> None:
    path = write_spec(tmp_path, spec(["false"]))
    logist("job", "run", "job.json", "-q")
    path.write_text("{")
    shown = logist("job", "status", "job.json").out
    assert "the spec can't be read: job.json is not JSON" in shown
    assert next_commands(shown) == ["logist job log job.json --chunk 0"]
    path.unlink()
    assert "the spec's file is not here" in logist("job", "status", "job.json").out
    assert_refused(logist("job", "cancel", "job.json"), 6, "possible now: logist job status job.json")


def test_the_state_of_a_spec_is_no_job(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, spec(["true"]))
    logist("job", "run", "job.json", "-q")
    assert_refused(logist("job", "status", ".logist/job.json"), 2, "state of the spec job.json", "job status job.json")


def test_a_chunk_alone_says_that_it_is_not_recorded_and_what_comes_next(logist: Logist, tmp_path: Path) -> None:
    content = text_spec(2)
    content["chunks"][1]["command"] = "echo boom; exit 3"
    write_spec(tmp_path, content)
    done = logist("job", "run", "job.json", "--chunk", "0")
    assert "DONE   chunk 0 is done; it is not recorded" in done.err
    assert next_commands(done.err) == ["logist job run job.json --merge-only"]
    failed = logist("job", "run", "job.json", "--chunk", "1")
    assert failed.code == 5
    assert failed.err.count("boom") == 1
    assert next_commands(failed.err) == ["logist job run job.json --chunk 1"]


def test_a_run_with_nothing_to_do_says_so_and_where_the_merged_file_is(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(2))
    logist("job", "run", "job.json", "-q")
    again = logist("job", "run", "job.json")
    assert "\nnothing to do: 2 chunks were done before\n" in again.err
    assert "\nthe merged file is all.txt\n" in again.err


def test_the_status_tells_what_has_changed_since_the_last_run(logist: Logist, tmp_path: Path) -> None:
    content = text_spec(2)
    write_spec(tmp_path, content)
    assert "2 chunks, 2 frames; not run yet\n" in logist("job", "status", "job.json").out
    logist("job", "run", "job.json", "-q")
    assert "makes" not in logist("job", "status", "job.json").out
    (tmp_path / "out.1.txt").unlink()
    write_spec(tmp_path, {**content, "note": "changed"})
    shown = logist("job", "status", "job.json").out
    assert "the spec was changed since its last run" in shown
    assert "1 output of a done chunk is gone or changed" in shown
    (tmp_path / "out.0.txt").write_text("of another size")
    assert "2 outputs of done chunks are gone or changed" in logist("job", "status", "job.json").out
    assert next_commands(shown) == ["logist job run job.json"]


def test_the_status_shows_no_merge_of_an_earlier_run(logist: Logist, tmp_path: Path) -> None:
    content = text_spec(2)
    write_spec(tmp_path, content)
    logist("job", "run", "job.json", "-q")
    content["chunks"][1]["command"] = "false"
    write_spec(tmp_path, content)
    logist("job", "run", "job.json", "-q")
    shown = logist("job", "status", "job.json").out
    assert "merged in" not in shown
    assert "last run: 0 chunks done, 1 failed, 1 done before" in shown


def test_the_history_is_readable(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(1))
    logist("job", "run", "job.json", "-q")
    shown = logist("job", "history", "job.json").out
    assert ' output=out.0.txt size=8 checked="not decoded"' in shown
    assert not set("{}()<>") & set(shown)


def test_the_log_of_a_silent_chunk_says_that_it_was_silent(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(1))
    logist("job", "run", "job.json", "-q")
    assert logist("job", "log", "job.json", "--chunk", "0") == (0, "", "chunk 0 printed nothing\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("log", "--step", "1"),
        ("log", "--role", "worker"),
        ("log", "--attempt", "1"),
        ("log", "--stream", "stderr"),
        ("status", "--diff"),
        ("status", "--no-diff"),
        ("history", "--step", "1"),
    ],
)
def test_options_of_a_job_are_refused_for_a_spec(logist: Logist, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write_spec(tmp_path, text_spec(1))
    assert_refused(logist("job", arguments[0], "job.json", *arguments[1:]), 2, "is for a job")


def test_ctrl_c_twice_kills_the_running_chunk_and_the_run_goes_on_later(tmp_path: Path, logist: Logist) -> None:
    content = text_spec(2)
    content["chunks"][1]["command"] = counted(1, "touch at-work; [ -e go ] || sleep 60; echo chunk 1 > out.1.txt")
    path = write_spec(tmp_path, content)
    line = [sys.executable, "-m", "logist", "job", "run", str(path)]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as runner:
        wait_for(tmp_path / "at-work")
        runner.send_signal(signal.SIGINT)
        assert runner.stderr is not None
        # The second only once the first was heard: two at once may be seen as one, and a third is obeyed as is.
        assert any("stopping after the running chunks" in told for told in runner.stderr)
        runner.send_signal(signal.SIGINT)
        assert any("ending the running chunks now" in told for told in runner.stderr)
        runner.stderr.read()
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


def test_what_only_helios_can_do_is_one_clear_error_without_it(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, spec(["helios studio page.html -o part.mp4"], outputs=["part.mp4"]))
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
