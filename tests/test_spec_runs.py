"""Runs of a spec with their state on disk: resuming, content keys, the lease, and being killed at any instant."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import counted, runs, spec, text_spec, video_spec, write_spec
from videos import read_numbers

from logist.chunk_options import ExecutionOptions
from logist.chunk_state import read_past, read_records, state_paths
from logist.chunks import ChunkStatus, Halt, RunReport
from logist.clock import SystemClock
from logist.errors import ChunkFailed, ExitCode, InvalidFile, JobBusy, StorageFailed
from logist.execution.local import LocalWorkerAdapter
from logist.models.chunk_history import ChunkBegan, ChunkEnded
from logist.processes import start_time
from logist.spec_files import LoadedSpec, load_spec
from logist.spec_report import read_status
from logist.spec_runs import exit_code_of, preview_run, run_spec
from logist.stop_requests import request


def load(path: Path) -> LoadedSpec:
    return load_spec(str(path), trust=False, allow_outside=False, stdin=lambda: sys.stdin.buffer, cwd=path.parent)


@pytest.fixture
def adapter() -> Iterator[LocalWorkerAdapter]:
    adapter = LocalWorkerAdapter(grace=0.2)
    yield adapter
    adapter.close()


@pytest.fixture
def run(tmp_path: Path, adapter: LocalWorkerAdapter) -> Callable[..., RunReport]:
    """Run a spec that lies in `tmp_path`."""

    def run(
        content: dict[str, Any] | None = None, *, force: bool = False, merge_only: bool = False, **options: Any
    ) -> RunReport:
        path = tmp_path / "job.json" if content is None else write_spec(tmp_path, content)
        execution = ExecutionOptions(job_dir=tmp_path, **options)
        return run_spec(load(path), adapter, execution, SystemClock(), force=force, merge_only=merge_only)

    return run


def counts(folder: Path, chunks: int) -> list[int]:
    return [runs(folder, number) for number in range(chunks)]


def test_a_second_run_runs_nothing(run: Callable[..., RunReport], tmp_path: Path) -> None:
    assert run(text_spec(3)).status == "SUCCESS"
    merged = (tmp_path / "all.txt").stat()
    again = run()
    assert (again.status, again.skipped, again.results, again.merge) == ("SUCCESS", (0, 1, 2), (), None)
    assert counts(tmp_path, 3) == [1, 1, 1]
    assert (tmp_path / "all.txt").stat() == merged


def test_a_run_after_a_failure_runs_only_what_is_not_done(run: Callable[..., RunReport], tmp_path: Path) -> None:
    content = text_spec(4)
    content["chunks"][2]["command"] = counted(2, "[ -e fixed ] && echo chunk 2 > out.2.txt")
    assert run(content).reason == "chunk 2 failed: exit code 1"
    (tmp_path / "fixed").touch()
    assert run().status == "SUCCESS"
    assert counts(tmp_path, 4) == [1, 1, 2, 1]
    assert (tmp_path / "all.txt").read_text() == "".join(f"chunk {number}\n" for number in range(4))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["chunks"][1].update(command="echo other > out.1.txt"),
        lambda content: content["chunks"][1].update(outputFile="out.1b.txt", command="echo x > out.1b.txt"),
    ],
    ids=["command", "output"],
)
def test_a_chunk_that_was_changed_runs_again_and_the_others_do_not(
    run: Callable[..., RunReport], tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    content = text_spec(3)
    run(content)
    change(content)
    report = run(content)
    assert [result.chunk for result in report.results] == [1]
    assert report.merge is not None


def test_a_changed_range_runs_its_chunks_again(run: Callable[..., RunReport], tmp_path: Path) -> None:
    content = text_spec(3)
    run(content)
    content["metadata"]["totalFrames"] = 4
    content["chunks"][2]["frameCount"] = 2
    assert [result.chunk for result in run(content).results] == [2]


def test_a_changed_input_runs_the_chunks_again_that_read_it(run: Callable[..., RunReport], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    content = spec(["cat a.txt > out.0", "cat b.txt > out.1"], outputs=["out.0", "out.1"])
    run(content)
    (tmp_path / "b.txt").write_text("B")
    assert [result.chunk for result in run().results] == [1]


def test_a_touched_input_with_the_same_content_runs_nothing(run: Callable[..., RunReport], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    run(spec(["cat a.txt > out.0"], outputs=["out.0"]))
    os.utime(tmp_path / "a.txt", (1, 1))
    assert run().results == ()


def test_an_input_that_the_spec_lists_counts_too(run: Callable[..., RunReport], tmp_path: Path) -> None:
    (tmp_path / "hidden.txt").write_text("a")
    run(spec(["sh -c 'cat hid*' > out.0"], outputs=["out.0"], inputs=["hidden.txt"]))
    (tmp_path / "hidden.txt").write_text("b")
    assert len(run().results) == 1


def test_what_a_page_refers_to_is_an_input(
    run: Callable[..., RunReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "helios").write_text("#!/bin/sh\necho video > part.bin\n")
    (tools / "helios").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    page = tmp_path / "film"
    page.mkdir()
    (page / "index.html").write_text('<script src="scene.js?v=2"></script>')
    (page / "scene.js").write_text('fetch("data/scene.json")')
    (page / "data").mkdir()
    (page / "data" / "scene.json").write_text("{}")
    (page / "notes.md").write_text("not a part of it")
    run(spec(["helios render film/index.html -o part.bin"], outputs=["part.bin"]))
    # Found from the script, and named from the page's folder as a page's script would.
    (page / "notes.md").write_text("changed")
    assert run().results == ()
    (page / "data" / "scene.json").write_text('{"speed": 2}')
    assert len(run().results) == 1


@pytest.mark.parametrize("damage", ["removed", "cut", "replaced"])
def test_an_output_that_is_not_what_was_verified_is_made_anew(
    run: Callable[..., RunReport], tmp_path: Path, damage: str
) -> None:
    run(text_spec(2))
    path = tmp_path / "out.1.txt"
    if damage == "removed":
        path.unlink()
    else:
        path.write_text("chun" if damage == "cut" else "chunk X\n")
    assert [result.chunk for result in run().results] == [1]
    assert (tmp_path / "all.txt").read_text() == "chunk 0\nchunk 1\n"


def test_a_copied_output_with_the_same_content_still_counts(run: Callable[..., RunReport], tmp_path: Path) -> None:
    run(text_spec(1))
    path = tmp_path / "out.0.txt"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    report = run()
    assert (report.results, report.status) == ((), "SUCCESS")
    (tmp_path / "all.txt").unlink()
    assert run().status == "SUCCESS"
    assert (tmp_path / "all.txt").read_bytes() == content


def test_a_merged_file_that_is_gone_is_merged_again_and_no_chunk_runs(
    run: Callable[..., RunReport], tmp_path: Path
) -> None:
    run(text_spec(2))
    (tmp_path / "all.txt").unlink()
    report = run()
    assert (report.results, report.status) == ((), "SUCCESS")
    assert (tmp_path / "all.txt").exists()


def test_force_runs_everything_again(run: Callable[..., RunReport], tmp_path: Path) -> None:
    run(text_spec(2))
    run(force=True)
    assert counts(tmp_path, 2) == [2, 2]


def test_chunks_of_stateless_workers_are_merged_without_being_run(
    run: Callable[..., RunReport], tmp_path: Path
) -> None:
    for number in range(3):
        (tmp_path / f"out.{number}.txt").write_text(f"by worker {number}\n")
    report = run(text_spec(3), merge_only=True)
    assert (report.status, report.results) == ("SUCCESS", ())
    assert (tmp_path / "all.txt").read_text() == "by worker 0\nby worker 1\nby worker 2\n"


def test_chunks_that_were_taken_for_a_merge_are_not_run_afterwards(
    run: Callable[..., RunReport], tmp_path: Path
) -> None:
    for number in range(2):
        (tmp_path / f"out.{number}.txt").write_text("by a worker\n")
    run(text_spec(2), merge_only=True)
    status = read_status(state_paths(tmp_path, "job.json"), "job.json")
    assert (status.done, status.chunks) == (2, 2)
    assert run().skipped == (0, 1)
    assert counts(tmp_path, 2) == [0, 0]


@pytest.mark.parametrize("options", [(), ("--chunk", "1")], ids=["a run", "a stateless worker"])
def test_the_output_of_a_killed_chunk_is_not_merged(
    run: Callable[..., RunReport], tmp_path: Path, options: tuple[str, ...]
) -> None:
    content = text_spec(2)
    content["chunks"][1]["command"] = counted(1, "printf torn > out.1.txt; touch at-work; sleep 60")
    (tmp_path / "out.0.txt").write_text("by a worker\n")
    first = start_run(write_spec(tmp_path, content), *options)
    wait_for(tmp_path / "at-work")
    first.kill()
    first.wait()
    assert (tmp_path / "out.1.txt").read_text() == "torn"
    with pytest.raises(ChunkFailed, match=r"1 \(whoever made its output was killed"):
        run(merge_only=True)


def test_a_merge_into_a_file_that_nobody_names_is_done_again(run: Callable[..., RunReport], tmp_path: Path) -> None:
    content = text_spec(1)
    del content["output"]
    run(content)
    (tmp_path / "all.txt").unlink()
    assert run().merge is not None
    assert (tmp_path / "all.txt").exists()


def test_nothing_is_merged_while_a_chunk_is_missing(run: Callable[..., RunReport], tmp_path: Path) -> None:
    (tmp_path / "out.0.txt").write_text("there")
    with pytest.raises(ChunkFailed, match=r"1 \(its output out.1.txt is not there\)") as caught:
        run(text_spec(2), merge_only=True)
    assert caught.value.exit_code is ExitCode.CHUNK_FAILED
    assert not (tmp_path / "all.txt").exists()


def test_a_copied_folder_is_judged_by_its_own_files(
    run: Callable[..., RunReport], adapter: LocalWorkerAdapter, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("a")
    run(spec(["cat a.txt > out.0", "cat a.txt > out.1"], outputs=["out.0", "out.1"]))
    copy = tmp_path.with_name(f"{tmp_path.name}-copy")
    shutil.copytree(tmp_path, copy)
    (copy / "out.1").unlink()
    report = run_spec(load(copy / "job.json"), adapter, ExecutionOptions(job_dir=copy), SystemClock())
    assert [result.chunk for result in report.results] == [1]
    assert (copy / "out.1").read_text() == "a"
    assert report.status == "SUCCESS"


def test_a_changed_input_of_the_merge_merges_again_and_runs_no_chunk(
    run: Callable[..., RunReport], tmp_path: Path
) -> None:
    (tmp_path / "intro.txt").write_text("one\n")
    content = text_spec(1)
    content["mergeCommand"] = "cat intro.txt out.0.txt > all.txt"
    run(content)
    (tmp_path / "intro.txt").write_text("two\n")
    assert run().results == ()
    assert (tmp_path / "all.txt").read_text() == "two\nchunk 0\n"


def test_a_chunk_without_output_that_ran_again_is_merged_again(run: Callable[..., RunReport], tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("v1\n")
    content = spec(["cp in.txt hidden"], merge="cat hidden > all.txt", output="all.txt")
    run(content)
    (tmp_path / "in.txt").write_text("v2\n")
    run(merge=False)
    run()
    assert (tmp_path / "all.txt").read_text() == "v2\n"


def test_a_chunk_without_output_that_was_forced_is_merged_again(run: Callable[..., RunReport], tmp_path: Path) -> None:
    content = spec(["date +%s%N > hidden"], merge="cat hid* > all.txt", output="all.txt")
    run(content)
    run(force=True, merge=False)
    run()
    assert (tmp_path / "all.txt").read_text() == (tmp_path / "hidden").read_text()


def test_a_merge_does_not_make_an_output_of_another_command_this_spec_s(
    run: Callable[..., RunReport], tmp_path: Path
) -> None:
    run(spec(["echo v1 > out.0"], outputs=["out.0"], merge="cp out.0 all", output="all"))
    changed = spec(["echo v2 > out.0"], outputs=["out.0"], merge="cp out.0 all", output="all")
    run(changed, merge_only=True)
    assert [result.chunk for result in run(changed).results] == [0]
    assert (tmp_path / "all").read_text() == "v2\n"


def test_an_input_that_changes_under_way_is_read_again_for_each_chunk(
    run: Callable[..., RunReport], tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("A")
    content = spec(
        ["cat in.txt > out.0; printf B > new; mv new in.txt", "cat in.txt > out.1"], outputs=["out.0", "out.1"]
    )
    run(content)
    (tmp_path / "in.txt").write_text("A")
    assert [result.chunk for result in run().results] == [1]


def test_a_folder_that_is_listed_counts_with_its_files(run: Callable[..., RunReport], tmp_path: Path) -> None:
    (tmp_path / "assets" / "deep").mkdir(parents=True)
    (tmp_path / "assets" / "deep" / "a.txt").write_text("a")
    run(spec(["sh -c 'cat ass*/deep/* > out.0'"], outputs=["out.0"], inputs=["assets"]))
    assert run().results == ()
    (tmp_path / "assets" / "deep" / "a.txt").write_text("b")
    assert len(run().results) == 1


def test_a_log_that_the_command_writes_itself_is_no_input(run: Callable[..., RunReport], tmp_path: Path) -> None:
    run(spec(["date +%s%N | tee log.txt > out.0"], outputs=["out.0"]))
    assert (tmp_path / "log.txt").exists()
    assert run().results == ()
    (tmp_path / "log.txt").write_text("trimmed by somebody")
    assert run().results == ()


def test_the_same_rate_written_otherwise_is_the_same(run: Callable[..., RunReport]) -> None:
    content = text_spec(1)
    run(content)
    content["metadata"]["fps"] = 30.0
    assert run(content).results == ()


def test_a_state_folder_that_is_deleted_under_way_ends_the_run(run: Callable[..., RunReport], tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="moved, replaced or deleted"):
        run(spec(["rm -rf .logist", counted(1, "true")]))
    assert counts(tmp_path, 2)[1] == 0


def test_a_second_runner_is_told_who_holds_the_spec(run: Callable[..., RunReport], tmp_path: Path) -> None:
    content = text_spec(1)
    content["chunks"][0]["command"] = "touch at-work; until [ -e go ]; do sleep 0.01; done; echo x > out.0.txt"
    first = start_run(write_spec(tmp_path, content))
    wait_for(tmp_path / "at-work")
    with pytest.raises(JobBusy, match=str(first.pid)):
        run()
    (tmp_path / "go").touch()
    assert first.wait() == 0


def test_a_request_to_cancel_ends_the_run_and_what_is_done_stays_done(tmp_path: Path) -> None:
    content = text_spec(2)
    content["chunks"][1]["command"] = counted(1, "touch at-work; sleep 60")
    path = write_spec(tmp_path, content)
    first = start_run(path)
    wait_for(tmp_path / "at-work")
    request(state_paths(tmp_path, "job.json").job, "cancel", "enough", SystemClock().now())
    assert first.wait() == ExitCode.CANCELED
    status = read_status(state_paths(tmp_path, "job.json"), "job.json")
    assert (status.status, status.reason, status.done) == ("CANCELED", "canceled: enough", 1)


def test_an_operators_signals_drain_first_and_kill_then(tmp_path: Path) -> None:
    content = text_spec(2)
    content["chunks"][0]["command"] = counted(
        0, "touch at-work; until [ -e go ]; do sleep 0.01; done; echo 0 > out.0.txt"
    )
    first = start_run(write_spec(tmp_path, content))
    wait_for(tmp_path / "at-work")
    first.send_signal(signal.SIGINT)
    (tmp_path / "go").touch()
    assert first.wait() == 130
    assert counts(tmp_path, 2) == [1, 0]
    assert (tmp_path / "out.0.txt").exists()


def test_a_link_beside_a_spec_is_that_spec(
    run: Callable[..., RunReport], adapter: LocalWorkerAdapter, tmp_path: Path
) -> None:
    run(text_spec(1))
    (tmp_path / "same.json").symlink_to("job.json")
    options = ExecutionOptions(job_dir=tmp_path)
    assert run_spec(load(tmp_path / "same.json"), adapter, options, SystemClock()).results == ()
    assert counts(tmp_path, 1) == [1]


def test_two_specs_of_one_folder_have_states_of_their_own(adapter: LocalWorkerAdapter, tmp_path: Path) -> None:
    one = write_spec(tmp_path, spec(["echo 1 > one"], outputs=["one"]), "one.json")
    two = write_spec(tmp_path, spec(["echo 2 > two"], outputs=["two"]), "two.json")
    for path in (one, two):
        run_spec(load(path), adapter, ExecutionOptions(job_dir=tmp_path), SystemClock())
    assert sorted(folder.name for folder in (tmp_path / ".logist").iterdir()) == [".gitignore", "one.json", "two.json"]
    assert (tmp_path / ".logist" / ".gitignore").read_text() == "*\n"


def test_the_joblog_has_the_columns_of_gnu_parallel(run: Callable[..., RunReport], tmp_path: Path) -> None:
    run(spec(["echo four", "exit 3", "kill -9 $$"]), halt=Halt.NEVER)
    header, *rows = (tmp_path / ".logist" / "job.json" / "joblog.tsv").read_text().splitlines()
    assert header.split("\t") == [
        "Seq",
        "Host",
        "Starttime",
        "JobRuntime",
        "Send",
        "Receive",
        "Exitval",
        "Signal",
        "Command",
    ]
    cells = [row.split("\t") for row in rows]
    assert [(row[0], row[1], row[5], row[6], row[7], row[8]) for row in cells] == [
        ("1", ":", "5", "0", "0", "echo four"),
        ("2", ":", "0", "3", "0", "exit 3"),
        ("3", ":", "0", "0", "9", "kill -9 $$"),
    ]


def test_a_damaged_history_is_refused_and_nothing_runs(run: Callable[..., RunReport], tmp_path: Path) -> None:
    run(text_spec(2))
    history = tmp_path / ".logist" / "job.json" / "history.jsonl"
    lines = history.read_bytes().splitlines(keepends=True)
    history.write_bytes(b"".join([lines[0], b"garbage\n", *lines[2:]]))
    with pytest.raises(InvalidFile, match="line 2"):
        run()
    assert counts(tmp_path, 2) == [1, 1]


def test_a_torn_last_line_is_a_chunk_that_was_not_done(run: Callable[..., RunReport], tmp_path: Path) -> None:
    run(text_spec(2), merge=False)
    history = tmp_path / ".logist" / "job.json" / "history.jsonl"
    lines = history.read_bytes().splitlines(keepends=True)
    # run_ended is last; the chunk's end before it is torn.
    history.write_bytes(b"".join(lines[:-2]) + lines[-2][:-30])
    run()
    assert counts(tmp_path, 2) == [1, 2]


def test_a_preview_says_what_would_run_and_writes_nothing(run: Callable[..., RunReport], tmp_path: Path) -> None:
    loaded = load(write_spec(tmp_path, text_spec(3)))
    assert preview_run(loaded).run == (0, 1, 2)
    assert not (tmp_path / ".logist").exists()
    run()
    plan = preview_run(loaded)
    assert (plan.run, plan.done, plan.merged) == ((), {0, 1, 2}, True)
    assert preview_run(loaded, force=True).run == (0, 1, 2)


def test_exit_codes_say_how_a_run_ended(run: Callable[..., RunReport]) -> None:
    assert exit_code_of(run(text_spec(1)), ExitCode.INTERRUPTED) is ExitCode.SUCCESS
    assert exit_code_of(run(text_spec(2), merge=False), ExitCode.INTERRUPTED) is ExitCode.SUCCESS
    assert exit_code_of(run(spec(["exit 1"])), ExitCode.INTERRUPTED) is ExitCode.CHUNK_FAILED
    stopped = run(text_spec(3), cancel=lambda: "stop")
    assert exit_code_of(stopped, ExitCode.INTERRUPTED) is ExitCode.INTERRUPTED


# --- Killed --------------------------------------------------------------------------------------------------------


def start_run(path: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "logist", "job", "run", str(path), "-q", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.005)


def test_a_chunk_whose_runner_was_killed_runs_again_and_its_torn_output_does_not_count(tmp_path: Path) -> None:
    content = text_spec(2)
    torn = "[ -e second ] || { echo torn > out.1.txt; touch second at-work; sleep 60; }"
    content["chunks"][1]["command"] = counted(1, f"{torn}; [ -e out.1.txt ] || echo chunk 1 > out.1.txt")
    path = write_spec(tmp_path, content)
    first = start_run(path)
    wait_for(tmp_path / "at-work")
    first.kill()
    first.wait()
    assert (tmp_path / "out.1.txt").read_text() == "torn\n"
    assert start_run(path).wait() == 0
    assert counts(tmp_path, 2) == [1, 2]
    assert (tmp_path / "all.txt").read_text() == "chunk 0\nchunk 1\n"


def test_what_a_killed_runner_had_running_is_dead_before_the_next_run_begins(tmp_path: Path) -> None:
    """Keeper and wardens are killed with the runner: only the lease still tells who holds the spec."""
    content = text_spec(1)
    go_on = "while [ ! -e out.stop ]; do echo late >> out.0.txt; sleep 0.02; done"
    write = f"trap '' TERM HUP; echo $$ > pid.new; mv pid.new pid; {go_on}"
    content["chunks"][0]["command"] = counted(0, f"if [ -e pid ]; then echo whole > out.0.txt; else {write}; fi")
    path = write_spec(tmp_path, content)
    first = start_run(path)
    wait_for(tmp_path / "pid")
    left = int((tmp_path / "pid").read_text())
    kill_the_watchers(left, first.pid)
    first.wait()
    try:
        assert start_run(path).wait() == 0
        assert (tmp_path / "out.0.txt").read_text() == "whole\n"
        assert start_time(left) is None
    finally:
        (tmp_path / "out.stop").touch()


LETS_GO = """
import os, subprocess, sys
late = "import os, time; os.replace('inner.new', 'inner'); time.sleep(60); open('out.0.txt', 'w').write('late')"
inner = subprocess.Popen(["sh", "-c", 'echo $$ > inner.new; exec "$0" -c "$1"', sys.executable, late], close_fds=True)
inner.wait()
"""


def test_a_leftover_that_let_go_of_the_lease_is_dead_before_the_next_run_begins(tmp_path: Path) -> None:
    """A program closes what it inherited before it starts the next, as many do: only the run's token is left."""
    (tmp_path / "lets_go.py").write_text(LETS_GO)
    content = text_spec(1)
    first_time = f"echo $$ > pid; exec {sys.executable} lets_go.py"
    content["chunks"][0]["command"] = f"if [ -e pid ]; then echo whole > out.0.txt; else {first_time}; fi"
    path = write_spec(tmp_path, content)
    first = start_run(path)
    wait_for(tmp_path / "inner")
    outer, inner = (int((tmp_path / name).read_text()) for name in ("pid", "inner"))
    kill_the_watchers(outer, first.pid)
    first.wait()
    assert start_time(inner) is not None
    assert start_run(path).wait() == 0
    assert start_time(inner) is None
    assert (tmp_path / "out.0.txt").read_text() == "whole\n"


def kill_the_watchers(command: int, runner: int) -> None:
    warden = parent_of(command)
    keeper = parent_of(warden)
    # None of them is to see that another one is gone.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (keeper, warden, runner):
            os.kill(pid, number)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_killed_at_random_instants_a_run_never_repeats_a_verified_chunk_and_never_trusts_a_torn_one(
    tmp_path: Path,
) -> None:
    chance = random.Random(20)
    # Every command writes its output in two halves, so that a kill can tear it.
    content = text_spec(12)
    for number, chunk in enumerate(content["chunks"]):
        line = f"printf 'chunk ' > out.{number}.txt; sleep 0.{1 + number % 3}; echo {number} >> out.{number}.txt"
        chunk["command"] = counted(number, line)
    path = write_spec(tmp_path, content)
    paths = state_paths(tmp_path, "job.json")
    kills = 0
    for _ in range(40):
        done = read_past(paths).done()
        before = {number: runs(tmp_path, int(number)) for number in done}
        runner = start_run(path, "--concurrency", "3")
        try:
            code = runner.wait(timeout=chance.uniform(0.2, 0.7))
        except subprocess.TimeoutExpired:
            runner.kill()
            runner.wait()
            kills += 1
            code = None
        assert {number: runs(tmp_path, int(number)) for number in done} == before
        assert_manifest_is_readable(paths.job.manifest)
        if code is not None:
            assert code == 0
            break
    assert kills > 0
    assert start_run(path).wait() == 0
    assert (tmp_path / "all.txt").read_text() == "".join(f"chunk {number}\n" for number in range(12))
    began = [record.chunk for _, record in read_records(paths) if isinstance(record, ChunkBegan)]
    ended = [record for _, record in read_records(paths) if isinstance(record, ChunkEnded)]
    done_ends = [record.chunk for record in ended if record.status is ChunkStatus.DONE]
    assert sorted(done_ends) == list(range(12))
    assert len(began) >= len(ended)


def assert_manifest_is_readable(path: Path) -> None:
    if path.exists():
        assert json.loads(path.read_bytes())["kind"] == "chunks"


@settings(max_examples=8, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5), missing=st.data())
def test_every_frame_is_in_the_merged_video_exactly_once_however_the_chunks_were_made(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], missing: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("video")
    first = missing.draw(st.sets(st.integers(0, len(sizes) - 1)))
    path = write_spec(folder, video_spec(sizes))
    adapter = LocalWorkerAdapter(grace=0.2)
    try:
        options = ExecutionOptions(job_dir=folder, concurrency=2)
        if first:
            some = ExecutionOptions(job_dir=folder, concurrency=2, chunk_ids=frozenset(first))
            run_spec(load(path), adapter, some, SystemClock())
        report = run_spec(load(path), adapter, options, SystemClock())
    finally:
        adapter.close()
    assert report.status == "SUCCESS"
    assert read_numbers(folder / "final.mp4") == list(range(sum(sizes)))
    assert counts(folder, len(sizes)) == [1] * len(sizes)
