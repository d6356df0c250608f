"""`JobExecutor` over the real adapter: order, faults of commands, retries, halting, verification, the merge."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from specs import counted, runs, spec, text_spec, video_spec
from videos import make_video, read_numbers

from logist import chunk_attempts, job_executor
from logist.chunk_options import ExecutionOptions
from logist.chunks import (
    ChunkEvent,
    ChunkFinished,
    ChunkProgressed,
    ChunkResult,
    ChunkStarted,
    ChunkStatus,
    Evidence,
    Halt,
    MergeFinished,
    Notice,
    RunReport,
)
from logist.errors import AgentUnavailable, StorageFailed
from logist.execution.local import LocalWorkerAdapter
from logist.job_executor import JobExecutor
from logist.models.job_spec import RenderJobSpec


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_executor, "BACKOFF_START", 0.01)
    monkeypatch.setattr(job_executor, "BACKOFF_LIMIT", 0.05)


class Yard:
    """A folder with an executor, and what it told."""

    def __init__(self, folder: Path, adapter: LocalWorkerAdapter) -> None:
        self.folder = folder
        self.events: list[ChunkEvent] = []
        self._executor = JobExecutor(adapter)

    def run(self, content: dict[str, Any], **options: Any) -> RunReport:
        return self._executor.execute(
            RenderJobSpec.model_validate(content),
            ExecutionOptions(job_dir=self.folder, on_progress=self.events.append, **options),
        )

    def results(self) -> list[ChunkResult]:
        return [event.result for event in self.events if isinstance(event, ChunkFinished)]


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    adapter = LocalWorkerAdapter(grace=0.2)
    yield Yard(tmp_path, adapter)
    adapter.close()


def statuses(report: RunReport) -> dict[Any, str]:
    return {result.chunk: result.status.value for result in report.results}


def test_every_chunk_runs_once_and_then_they_are_merged(yard: Yard) -> None:
    report = yard.run(text_spec(5), concurrency=2)
    assert (report.status, report.failed, report.stopped) == ("SUCCESS", (), False)
    assert (yard.folder / "all.txt").read_text() == "".join(f"chunk {number}\n" for number in range(5))
    assert [runs(yard.folder, number) for number in range(5)] == [1] * 5
    assert report.merge is not None
    assert report.merge.output is not None
    assert report.merge.output.evidence is Evidence.FILE


def test_chunks_run_in_the_order_of_the_spec_one_at_a_time_by_default(yard: Yard) -> None:
    yard.run(spec([f"echo {number} >> order" for number in range(4)]))
    assert (yard.folder / "order").read_text().split() == ["0", "1", "2", "3"]
    kinds = [type(event) for event in yard.events if isinstance(event, ChunkStarted | ChunkFinished)]
    assert kinds == [ChunkStarted, ChunkFinished] * 4


def test_as_many_run_at_once_as_asked(yard: Yard) -> None:
    # Each chunk waits until three are there; with fewer at once this would only end by the timeout.
    meet = "touch here.$LOGIST_CHUNK; until [ $(ls here.* | wc -l) -ge 3 ]; do sleep 0.01; done"
    report = yard.run(spec([meet] * 3), concurrency=3, timeout=20)
    assert statuses(report) == {0: "done", 1: "done", 2: "done"}


def test_no_more_run_at_once_than_asked(yard: Yard) -> None:
    busy = "mkdir live.$LOGIST_CHUNK; ls -d live.* | wc -l >> together; sleep 0.05; rmdir live.$LOGIST_CHUNK"
    yard.run(spec([busy] * 8), concurrency=2)
    assert max(map(int, (yard.folder / "together").read_text().split())) == 2


def test_only_the_chunks_that_are_asked_for_run_and_nothing_is_merged(yard: Yard) -> None:
    report = yard.run(text_spec(4), chunk_ids=frozenset({1, 3}))
    assert [runs(yard.folder, number) for number in range(4)] == [0, 1, 0, 1]
    assert report.merge is None
    assert report.status == "PENDING"
    assert not (yard.folder / "all.txt").exists()


def test_completed_chunks_are_not_run_and_the_rest_completes_the_merge(yard: Yard) -> None:
    for number in (0, 2):
        (yard.folder / f"out.{number}.txt").write_text(f"made before {number}\n")
    report = yard.run(text_spec(3), completed_chunk_ids=frozenset({0, 2}))
    assert (report.status, report.skipped) == ("SUCCESS", (0, 2))
    assert (yard.folder / "all.txt").read_text() == "made before 0\nchunk 1\nmade before 2\n"


def test_without_merge_all_chunks_run_and_the_report_says_what_is_missing(yard: Yard) -> None:
    report = yard.run(text_spec(2), merge=False)
    assert (report.status, report.reason) == ("PENDING", "all chunks are done and not merged")
    assert not (yard.folder / "all.txt").exists()


def test_a_chunk_that_fails_is_named_with_its_exit_code_log_and_last_lines(yard: Yard, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    report = yard.run(spec(["true", "echo went wrong >&2; exit 7"]), log_dir=logs)
    assert report.status == "INTERVENTION_REQUIRED"
    assert report.reason == "chunk 1 failed: exit code 7"
    (failed,) = report.failed
    assert (failed.exit_code, failed.tail, failed.log) == (7, "went wrong\n", str(logs / "1.log"))
    assert (logs / "1.log").read_text() == "went wrong\n"


def test_a_chunk_that_exits_0_without_its_output_has_failed(yard: Yard) -> None:
    report = yard.run(spec(["true"], outputs=["out.txt"]))
    assert report.reason == "chunk 0 failed: exit code 0, but its output out.txt is not there"


def test_an_output_of_an_earlier_attempt_does_not_count(yard: Yard) -> None:
    (yard.folder / "out.txt").write_text("torn")
    report = yard.run(spec(["true"], outputs=["out.txt"]))
    assert report.status == "INTERVENTION_REQUIRED"
    assert list(yard.folder.iterdir()) == []


def test_a_command_that_only_makes_what_is_missing_makes_a_torn_output_anew(yard: Yard) -> None:
    (yard.folder / "out.txt").write_text("torn")
    yard.run(spec(["[ -e out.txt ] || echo whole > out.txt"], outputs=["out.txt"]))
    assert (yard.folder / "out.txt").read_text() == "whole\n"


@pytest.mark.parametrize(
    ("make", "problem"),
    [(": > out.txt", "out.txt is empty"), ("mkdir out.txt", "out.txt can't be read: Is a directory")],
)
def test_an_output_that_is_no_file_with_content_does_not_count(yard: Yard, make: str, problem: str) -> None:
    report = yard.run(spec([make], outputs=["out.txt"]))
    assert report.reason == f"chunk 0 failed: exit code 0, but its output {problem}"


def test_the_folder_of_an_output_is_made(yard: Yard) -> None:
    report = yard.run(spec(["echo x > parts/deep/out.txt"], outputs=["parts/deep/out.txt"]))
    assert report.status == "SUCCESS"


def test_an_output_whose_place_can_not_be_cleared_fails_its_chunk_alone(yard: Yard) -> None:
    (yard.folder / "out.txt").mkdir()
    report = yard.run(spec([counted(0, "true"), counted(1, "true")], outputs=["out.txt", ""]), halt=Halt.NEVER)
    assert report.reason == "chunk 0 failed: the place of its output out.txt can't be cleared: Is a directory"
    assert [runs(yard.folder, number) for number in (0, 1)] == [0, 1]


def test_an_output_that_is_a_fifo_is_no_file_and_nobody_waits_for_it(yard: Yard) -> None:
    report = yard.run(spec(["mkfifo out.txt"], outputs=["out.txt"]))
    assert report.reason == "chunk 0 failed: exit code 0, but its output out.txt is not a regular file"


def test_a_full_disk_stops_the_run(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(chunk_attempts, "sync_folder", full)
    with pytest.raises(StorageFailed, match="No space left"):
        yard.run(spec(["true"], outputs=["out.txt"]))


def test_an_output_with_the_longest_name_has_a_marker_too(yard: Yard) -> None:
    name = "x" * 251 + ".txt"
    assert yard.run(spec([f"echo x > {name}"], outputs=[name])).status == "SUCCESS"
    assert [path.name for path in yard.folder.iterdir()] == [name]


@pytest.mark.parametrize("meddle", ["rm -f out.0", "echo other >> out.0"], ids=["removed", "written"])
def test_a_verified_output_that_another_command_spoils_is_no_success(yard: Yard, meddle: str) -> None:
    content = spec(["echo 0 > out.0", f"echo 1 > out.1; {meddle}"], outputs=["out.0", "out.1"], merge="cat out.* > all")
    report = yard.run(content)
    assert report.status == "INTERVENTION_REQUIRED"
    assert "chunk 0 failed: its output was removed or written by something else" in report.reason
    assert report.merge is None


def test_a_lost_worker_takes_no_other_chunk_with_it(yard: Yard) -> None:
    lost = counted(0, "[ $(wc -l < runs.0) -ge 2 ] || { until [ -e at-work ]; do sleep 0.01; done; kill -9 $PPID; }")
    report = yard.run(spec([lost, counted(1, "touch at-work; sleep 0.5")]), concurrency=2)
    assert report.status == "SUCCESS"
    assert runs(yard.folder, 1) == 1


def test_what_outlives_a_chunk_is_told(yard: Yard) -> None:
    yard.run(spec(["(sleep 60 &) ; true"]))
    assert any(isinstance(event, Notice) and "outlived" in event.message for event in yard.events)


def test_videos_are_counted_frame_by_frame_and_merged_with_every_frame_once(yard: Yard) -> None:
    report = yard.run(video_spec([5, 1, 4]), concurrency=2)
    assert report.status == "SUCCESS"
    outputs = {result.chunk: result.output for result in report.results}
    assert {chunk: output and (output.evidence, output.frames) for chunk, output in outputs.items()} == {
        0: (Evidence.FRAMES, 5),
        1: (Evidence.FRAMES, 1),
        2: (Evidence.FRAMES, 4),
    }
    assert read_numbers(yard.folder / "final.mp4") == list(range(10))
    assert report.merge is not None
    assert report.merge.output is not None
    assert report.merge.output.frames == 10


def test_a_video_with_half_its_frames_has_failed(yard: Yard, tmp_path: Path) -> None:
    make_video(tmp_path / "half.mp4", range(5))
    content = spec(["cp half.mp4 out.mp4"], frames=10, outputs=["out.mp4"])
    report = yard.run(content)
    assert report.status == "INTERVENTION_REQUIRED"
    assert "5 frames" in report.reason
    assert "10" in report.reason


def test_a_video_of_another_size_has_failed(yard: Yard, tmp_path: Path) -> None:
    make_video(tmp_path / "small.mp4", range(3), width=32, height=32)
    report = yard.run(spec(["cp small.mp4 out.mp4"], frames=3, outputs=["out.mp4"]))
    assert report.status == "INTERVENTION_REQUIRED"
    assert "32" in report.reason


def test_a_chunk_that_fails_twice_succeeds_with_two_retries(yard: Yard) -> None:
    content = spec([counted(0, "[ $(wc -l < runs.0) -ge 3 ]")])
    report = yard.run(content, retries=2)
    assert report.status == "SUCCESS"
    assert [(result.attempt, result.status.value) for result in yard.results()] == [
        (1, "failed"),
        (2, "failed"),
        (3, "done"),
    ]
    assert [result.retry_in is not None for result in yard.results()] == [True, True, False]


def test_a_chunk_is_given_up_after_its_retries(yard: Yard) -> None:
    report = yard.run(spec([counted(0, "exit 3")]), retries=2)
    assert report.status == "INTERVENTION_REQUIRED"
    assert runs(yard.folder, 0) == 3


def test_a_merge_whose_worker_is_lost_is_made_again(yard: Yard) -> None:
    merge = "[ -e once ] && echo > all || { touch once; kill -9 $PPID; sleep 60; }"
    report = yard.run(spec(["true"], merge=merge, output="all"))
    assert report.status == "SUCCESS", report.reason
    merges = [event.result.status for event in yard.events if isinstance(event, MergeFinished)]
    assert merges == [ChunkStatus.FAILED, ChunkStatus.DONE]


def test_a_lost_worker_burns_no_retry(yard: Yard) -> None:
    # The command's parent is what watches it; without it nobody knows how the command ended.
    report = yard.run(spec([counted(0, "[ $(wc -l < runs.0) -ge 3 ] || kill -9 $PPID; sleep 0.01")]), retries=0)
    assert report.status == "SUCCESS"
    assert [result.status for result in yard.results()] == [ChunkStatus.FAILED, ChunkStatus.FAILED, ChunkStatus.DONE]
    assert runs(yard.folder, 0) == 3


def test_a_chunk_that_always_loses_its_worker_is_given_up(yard: Yard) -> None:
    report = yard.run(spec([counted(0, "kill -9 $PPID; sleep 5")]))
    assert report.status == "INTERVENTION_REQUIRED"
    assert runs(yard.folder, 0) == job_executor.LOST_LIMIT + 1


def test_a_program_that_is_not_there_is_not_tried_again(yard: Yard) -> None:
    content = spec(["x"])
    content["chunks"][0]["command"] = ["no-such-program-here", "--flag"]
    report = yard.run(content, retries=5)
    assert report.reason == "chunk 0 failed: there is no program no-such-program-here on PATH"
    assert len(yard.results()) == 1


def test_what_only_helios_can_do_is_refused_before_anything_runs_without_it(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}/nothing:/usr/bin:/bin")
    with pytest.raises(AgentUnavailable, match="helios"):
        yard.run(spec([counted(0, "true"), "helios studio page.html -o part.mp4"]))
    assert runs(yard.folder, 0) == 0


def test_a_failure_kills_the_running_ones_and_starts_no_more(yard: Yard) -> None:
    wait = counted(1, "touch at-work; sleep 60")
    content = spec([counted(0, "until [ -e at-work ]; do sleep 0.01; done; exit 1"), wait, counted(2, "true")])
    report = yard.run(content, concurrency=2)
    assert statuses(report) == {0: "failed", 1: "stopped"}
    assert runs(yard.folder, 2) == 0


def test_with_halt_soon_the_running_ones_finish_and_no_more_start(yard: Yard) -> None:
    fails = "until [ -e at-work ]; do sleep 0.01; done; exit 1"
    slow = "touch at-work; sleep 0.3"
    report = yard.run(spec([fails, slow, counted(2, "true")]), concurrency=2, halt=Halt.SOON)
    assert statuses(report) == {0: "failed", 1: "done"}
    assert runs(yard.folder, 2) == 0


def test_with_halt_never_all_others_run_and_nothing_is_merged(yard: Yard) -> None:
    content = text_spec(4)
    content["chunks"][1]["command"] = "exit 1"
    content["chunks"][2]["command"] = "exit 2"
    report = yard.run(content, halt=Halt.NEVER)
    assert statuses(report) == {0: "done", 1: "failed", 2: "failed", 3: "done"}
    assert report.reason == "2 of 4 chunks failed: 1, 2"
    assert report.merge is None


def test_a_command_that_ignores_term_is_killed_at_its_timeout(yard: Yard) -> None:
    report = yard.run(spec(["trap '' TERM; while :; do sleep 0.05; done"]), timeout=0.2)
    assert report.reason == "chunk 0 failed: it ran longer than 0.2 s"


def test_what_a_command_leaves_behind_is_dead_before_its_output_is_looked_at(yard: Yard) -> None:
    # A daemon, twice forked in its own session, that would go on writing to the output.
    daemon = "(setsid sh -c 'while :; do echo more >> out.txt; sleep 0.01; done' &) ; sleep 0.05; echo $$ > pid"
    report = yard.run(spec([daemon], outputs=["out.txt"]))
    assert report.status == "SUCCESS"
    output = report.results[0].output
    assert output is not None
    assert (yard.folder / "out.txt").stat().st_size == output.size


def test_a_command_that_closes_its_output_and_lives_on_is_waited_for(yard: Yard) -> None:
    report = yard.run(spec(["exec >&- 2>&-; sleep 0.2; echo late > out.txt"], outputs=["out.txt"]))
    assert report.status == "SUCCESS"


def test_a_command_that_reads_its_input_gets_none(yard: Yard) -> None:
    assert yard.run(spec(["cat > out.txt; echo read >> out.txt"], outputs=["out.txt"])).status == "SUCCESS"


def test_a_command_that_prints_without_end_fills_neither_log_nor_memory(yard: Yard, tmp_path: Path) -> None:
    report = yard.run(spec(["yes 'frame 1 of a very long film'"]), timeout=0.5, log_dir=tmp_path)
    assert "longer than" in report.reason
    size = (tmp_path / "0.log").stat().st_size
    assert 3_000_000 < size < 5_000_000
    assert len(report.results[0].tail) <= 2_000


def test_progress_lines_of_a_command_are_told_as_frames(yard: Yard) -> None:
    yard.run(spec(["for n in 10 20 30; do echo frame $n/30; sleep 0.15; done"], frames=30))
    frames = [event.frames for event in yard.events if isinstance(event, ChunkProgressed)]
    assert frames[-1] == 30
    assert frames == sorted(frames)


def test_both_streams_are_one_log_in_the_order_in_which_they_were_printed(yard: Yard, tmp_path: Path) -> None:
    yard.run(spec(["echo one; echo two >&2; echo three"]), log_dir=tmp_path)
    assert (tmp_path / "0.log").read_text() == "one\ntwo\nthree\n"


def test_a_command_knows_its_chunk_and_runs_in_the_folder_of_the_spec(yard: Yard) -> None:
    yard.run(spec(['echo "$LOGIST_CHUNK $PWD" > seen'], outputs=["seen"]))
    assert (yard.folder / "seen").read_text() == f"0 {yard.folder}\n"


def test_a_run_that_is_canceled_kills_what_runs(yard: Yard) -> None:
    asked = threading.Event()

    def cancel() -> str | None:
        return "enough" if (yard.folder / "at-work").exists() or asked.is_set() else None

    report = yard.run(spec(["touch at-work; sleep 60", "true"]), cancel=cancel)
    assert (report.status, report.reason, report.stopped) == ("PENDING", "enough", True)
    assert statuses(report) == {0: "stopped"}


def test_a_run_that_is_drained_lets_the_running_chunk_finish(yard: Yard) -> None:
    report = yard.run(text_spec(3), drain=lambda: "later" if (yard.folder / "out.0.txt").exists() else None)
    assert statuses(report) == {0: "done"}
    assert (report.status, report.reason, report.stopped, report.merge) == ("PENDING", "later", True, None)


def test_a_run_that_did_all_it_was_asked_for_was_not_stopped(yard: Yard) -> None:
    report = yard.run(
        text_spec(1), merge=False, drain=lambda: "later" if (yard.folder / "out.0.txt").exists() else None
    )
    assert (report.status, report.stopped) == ("PENDING", False)


def test_a_waiting_retry_ends_when_the_run_is_stopped(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_executor, "BACKOFF_START", 600.0)
    monkeypatch.setattr(job_executor, "BACKOFF_LIMIT", 600.0)
    stop = threading.Event()

    def follow(event: ChunkEvent) -> None:
        if isinstance(event, ChunkFinished) and event.result.retry_in is not None:
            stop.set()

    report = JobExecutor(yard._executor._adapter).execute(
        RenderJobSpec.model_validate(spec(["exit 1"])),
        ExecutionOptions(
            job_dir=yard.folder, retries=3, on_progress=follow, drain=lambda: "stop" if stop.is_set() else None
        ),
    )
    assert statuses(report) == {0: "failed"}
    # It would have been tried again: that the run was stopped is why the chunk is not done.
    assert (report.status, report.reason, report.stopped) == ("PENDING", "stop", True)


def test_a_chunk_that_waits_for_its_next_attempt_keeps_no_other_from_running(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_executor, "_backoff", lambda _: 0.5)
    report = yard.run(spec([counted(0, "[ $(wc -l < runs.0) -ge 2 ]"), "true", "true"]), retries=1)
    assert report.status == "SUCCESS"
    started = [(event.chunk, event.attempt) for event in yard.events if isinstance(event, ChunkStarted)]
    assert started == [(0, 1), (1, 1), (2, 1), (0, 2)]


def test_the_output_of_a_failed_chunk_is_kept_under_another_name(yard: Yard) -> None:
    report = yard.run(spec(["echo half > out.txt; exit 1"], outputs=["out.txt"]))
    assert report.status == "INTERVENTION_REQUIRED"
    assert sorted(path.name for path in yard.folder.iterdir()) == [".out.failed.txt"]
    yard.run(spec(["echo whole > out.txt"], outputs=["out.txt"]))
    assert sorted(path.name for path in yard.folder.iterdir()) == ["out.txt"]


def test_a_killed_chunk_leaves_no_output(yard: Yard) -> None:
    yard.run(
        spec(["echo half > out.txt; touch at-work; sleep 60"], outputs=["out.txt"]),
        cancel=lambda: "enough" if (yard.folder / "at-work").exists() else None,
    )
    assert sorted(path.name for path in yard.folder.iterdir()) == ["at-work"]


def test_what_a_callback_raises_ends_the_run_and_travels_on(yard: Yard) -> None:
    def broken(_: ChunkResult) -> None:
        raise RuntimeError("broken pipe of a library user")

    with pytest.raises(RuntimeError, match="library user"):
        yard.run(spec(["true", "sleep 60"]), concurrency=2, on_chunk_complete=broken)


def test_a_merge_that_fails_is_told_and_the_chunks_stay(yard: Yard) -> None:
    content = text_spec(2)
    content["mergeCommand"] = "echo no room >&2; exit 9"
    report = yard.run(content)
    assert (report.status, report.reason) == ("INTERVENTION_REQUIRED", "the merge failed: exit code 9")
    assert report.merge is not None
    assert report.merge.tail == "no room\n"
    assert (yard.folder / "out.1.txt").exists()


def test_a_merge_that_leaves_the_old_file_as_it_was_has_failed(yard: Yard) -> None:
    (yard.folder / "all.txt").write_text("of yesterday")
    content = text_spec(1)
    content["mergeCommand"] = "true"
    report = yard.run(content)
    assert report.reason == "the merge failed: exit code 0, but all.txt was there before and was not written"


def test_a_merged_file_that_nobody_names_is_not_verified_and_that_is_said(yard: Yard) -> None:
    content = text_spec(1)
    del content["output"]
    assert yard.run(content).status == "SUCCESS"
    notices = [event.message for event in yard.events if isinstance(event, Notice)]
    assert any("does not name it" in notice for notice in notices)


def test_that_frames_were_not_counted_is_said_once(yard: Yard) -> None:
    yard.run(text_spec(3))
    notices = [event.message for event in yard.events if isinstance(event, Notice)]
    assert len([notice for notice in notices if "nobody counted" in notice]) == 1


def test_a_helios_command_never_sees_a_shell(yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    fake = tools / "helios"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > words.txt\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    line = "helios render http://localhost/x?a=1&b=$HOME -o 'a part.mp4'; echo"
    report = yard.run(spec([line], outputs=["words.txt"]), environ={"PATH": os.environ["PATH"]})
    assert report.status == "SUCCESS"
    assert (yard.folder / "words.txt").read_text().splitlines() == [
        "render",
        "http://localhost/x?a=1&b=$HOME",
        "-o",
        "a part.mp4;",
        "echo",
    ]
