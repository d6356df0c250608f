"""Jobs on disk, the typed half: create, load, open, record; killed, cut off or out of space at any instant."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from logist import cancellation, job_files, journal
from logist.cancellation import CancelOutcome, cancel_at_rest
from logist.durable import iso
from logist.errors import InvalidFile, JobBusy, JobNotFound, LogistError, StorageFailed, UsageProblem, WrongState
from logist.job_files import JobPaths, manifest_bytes
from logist.job_state import JobStore, OpenJob, change
from logist.journal import Journal, encode_line, merge
from logist.lease import Lease
from logist.lifecycle import JobStatus, Trigger
from logist.models import manifest as models
from logist.models.history import (
    AttemptFailed,
    Committed,
    HistoryRecord,
    Intent,
    ProcessRecord,
    Skipped,
    Started,
    Transition,
)
from logist.models.manifest import JobDefinition, JobManifest, Judgement, Reason, ReasonCode, Role, Spent, Verdict
from logist.stop_requests import pending, request

ROOT = Path(__file__).resolve().parents[1]
START = datetime(2026, 3, 1, tzinfo=UTC)
COMMIT, NEXT_COMMIT = "a" * 40, "b" * 40
KILLED = 73


class TickingClock:
    """Every look at it is a second later."""

    def __init__(self) -> None:
        self._ticks = itertools.count()

    def now(self) -> datetime:
        return START + timedelta(seconds=next(self._ticks))

    def monotonic(self) -> float:
        return float(next(self._ticks))

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


def a_manifest(job_id: str, **fields: object) -> JobManifest:
    definition = JobDefinition(objective="do it", prompt="äöü\nend")
    manifest = JobManifest(
        id=job_id,
        seq=0,
        created_at=START,
        updated_at=START,
        job=definition,
        source=models.Source(),
        seed="seed",
        status=JobStatus.PENDING,
        reason=Reason(code=ReasonCode.CREATED, sentence="created"),
        budget=definition.budget,
        baseline=COMMIT,
        head=COMMIT,
        tree=COMMIT,
    )
    return manifest.model_copy(update=fields)


def builder(job_id: str, **fields: object) -> Callable[[JobPaths], JobManifest]:
    def build(paths: JobPaths) -> JobManifest:
        paths.workspace.mkdir()
        (paths.workspace / "file.txt").write_text("content")
        return a_manifest(job_id, **fields)

    return build


def transition(trigger: Trigger, status: JobStatus, code: ReasonCode, sentence: str = "why") -> Transition:
    reason = Reason(code=code, sentence=sentence)
    return Transition(trigger=trigger, reason=reason, change=change(status=status, reason=reason))


def started_run() -> Transition:
    return transition(Trigger.START, JobStatus.RUNNING, ReasonCode.RUNNER_STARTED)


def intent(step: int = 1, attempt: int = 1) -> Intent:
    return Intent(
        step=step,
        attempt=attempt,
        role=Role.WORKER,
        phase="main",
        agent="playbook",
        base=COMMIT,
        prompt_sha256="0" * 64,
        change=change(attempt=attempt),
    )


def started(step: int = 1, attempt: int = 1) -> Started:
    return Started(
        step=step, attempt=attempt, process=ProcessRecord(pid=7, start_time=8, boot_id="b"), argv=("sh", "-c", "true")
    )


def committed(step: int = 1) -> Committed:
    reason = Reason(code=ReasonCode.STEP_DONE, sentence="done")
    return Committed(
        step=step,
        role=Role.WORKER,
        agent="playbook",
        action=Verdict.COMPLETED,
        summary="did it",
        phase="main",
        trigger=Trigger.PROCEED,
        reason=reason,
        commit=NEXT_COMMIT,
        tree=NEXT_COMMIT,
        skipped=(Skipped(path=os.fsdecode(b"odd-\xff"), why="not UTF-8"),),
        change=change(
            status=JobStatus.RUNNING,
            reason=reason,
            step=step,
            attempt=0,
            head=NEXT_COMMIT,
            tree=NEXT_COMMIT,
            turns={Role.WORKER: step},
            spent=Spent(steps=step, time=1.5),
            worker=Judgement(step=step, action=Verdict.COMPLETED, summary="ok", tree=NEXT_COMMIT, agent="playbook"),
        ),
    )


def a_run() -> tuple[HistoryRecord, ...]:
    paused = transition(Trigger.PAUSE, JobStatus.PENDING, ReasonCode.PAUSED)
    return (started_run(), intent(), started(), committed(), paused)


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / ".logist" / "jobs", TickingClock())


@pytest.fixture
def job(store: JobStore) -> Iterator[OpenJob]:
    """A new job, open."""
    store.create("one", builder("one"))
    with store.open("one", command="test") as job:
        yield job


def lines_of(paths: JobPaths) -> list[journal.Line]:
    return list(Journal(paths.history).read_all())


def document_of(paths: JobPaths) -> dict[str, object]:
    return json.loads(paths.manifest.read_bytes())  # type: ignore[no-any-return]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# --- Creating and finding ------------------------------------------------------------------------------------------


def test_a_new_job_is_whole_and_loads_as_it_was_made(store: JobStore) -> None:
    made = store.create("one", builder("one", seq=17))
    assert made.seq == 1
    assert store.load("one") == made == a_manifest("one", seq=1)
    paths = store.paths("one")
    assert [line.record["type"] for line in lines_of(paths)] == ["created"]
    assert names(paths.root) == ["history.jsonl", "job_manifest.json", "lease", "requests", "steps", "workspace"]
    assert store.holder("one") is None
    assert store.ids() == ("one",)
    assert (store.jobs_dir.parent / ".gitignore").read_text() == "*\n"


def test_an_id_is_given_once(store: JobStore) -> None:
    store.create("one", builder("one"))
    before = store.paths("one").manifest.read_bytes()
    with pytest.raises(UsageProblem, match="a job one already"):
        store.create("one", builder("one"))
    assert store.paths("one").manifest.read_bytes() == before
    assert not list(store.jobs_dir.glob(".new-*"))


def test_an_id_that_is_taken_while_the_job_is_built_is_refused_too(store: JobStore) -> None:
    def build(paths: JobPaths) -> JobManifest:
        store.create("one", builder("one", seed="the first one"))
        return a_manifest("one", seed="the late one")

    with pytest.raises(UsageProblem, match="a job one already"):
        store.create("one", build)
    assert store.load("one").seed == "the first one"
    assert not list(store.jobs_dir.glob(".new-*"))


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
def test_a_job_whose_building_fails_leaves_nothing_behind(store: JobStore, error: BaseException) -> None:
    def build(paths: JobPaths) -> JobManifest:
        paths.repo.mkdir()
        raise error

    with pytest.raises(type(error)):
        store.create("one", build)
    with pytest.raises(ValueError, match="built job two"):
        store.create("one", builder("two"))
    assert store.ids() == ()
    assert names(store.jobs_dir) == ["jobs_index.json.lock"]


def test_what_a_killed_creation_left_is_removed_by_the_next_but_not_one_that_goes_on(store: JobStore) -> None:
    (store.jobs_dir / ".new-dead-0123").mkdir(parents=True)
    (store.jobs_dir / ".new-dead-0123" / "file").touch()
    seen: list[str] = []

    def build(paths: JobPaths) -> JobManifest:
        store.create("inner", builder("inner"))
        seen.extend(names(store.jobs_dir))
        return builder("outer")(paths)

    store.create("outer", build)
    assert not any(name.startswith(".new-dead") for name in seen)
    assert any(name.startswith(".new-outer") for name in seen)
    assert store.ids() == ("inner", "outer")


def test_a_hostile_id_never_becomes_a_path(store: JobStore) -> None:
    for text in ("../x", "/x", "a/b", "", "a\0", ".new-a"):
        for call in (store.paths, store.load, store.holder, store.rebuild, store.history, store.select):
            with pytest.raises(UsageProblem):
                call(text)
        with pytest.raises(UsageProblem):
            store.create(text, builder("x"))
    assert not store.jobs_dir.exists()


def test_a_selection_is_kept_until_it_is_taken_back(store: JobStore) -> None:
    assert store.selected() is None
    store.create("one", builder("one"))
    store.select("one")
    assert store.selected() == "one"
    assert store.find("on") == "one"
    with pytest.raises(JobNotFound):
        store.select("two")
    store.select(None)
    assert store.selected() is None


# --- Reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"schema_version": 1}', b"[" * 100_000, b'{"status": "RUNNING"}'],
)
def test_a_manifest_that_can_not_be_read_is_an_error_that_names_it_and_what_to_do(
    store: JobStore, content: bytes
) -> None:
    store.create("one", builder("one"))
    path = store.paths("one").manifest
    path.write_bytes(content)
    for call in (lambda: store.load("one"), lambda: store.open("one", command="test")):
        with pytest.raises(InvalidFile, match=r"job_manifest\.json") as caught:
            call()
        assert "logist doctor --repair one" in caught.value.hint
    assert path.read_bytes() == content
    assert store.holder("one") is None


def test_a_manifest_that_was_made_a_pipe_is_refused_and_not_waited_for(store: JobStore, job: OpenJob) -> None:
    manifest = job.paths.manifest
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(InvalidFile, match="is not JSON"):
        store.load(job.manifest.id)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace('"PENDING"', '"PAUSED"'),
        lambda text: text.replace('"seed"', '"sead"', 1),
        lambda text: text.replace('"status": "PENDING",', ""),
        lambda text: text.replace('"seq": 1', '"seq": "one"'),
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused_and_never_a_fresh_job(
    store: JobStore, edit: Callable[[str], str]
) -> None:
    store.create("one", builder("one"))
    path = store.paths("one").manifest
    edited = edit(path.read_text(encoding="utf-8"))
    assert edited != path.read_text(encoding="utf-8")
    path.write_text(edited, encoding="utf-8")
    with pytest.raises(InvalidFile, match="is not valid"):
        store.load("one")


def test_a_newer_schema_is_refused_by_saying_so(store: JobStore) -> None:
    store.create("one", builder("one"))
    paths = store.paths("one")
    newer = document_of(paths) | {"schema_version": 2, "novelty": 1}
    paths.manifest.write_bytes(manifest_bytes(newer))
    for call in (
        lambda: store.load("one"),
        lambda: store.open("one", command="test"),
        lambda: cancel_at_rest(paths, "", START),
    ):
        with pytest.raises(InvalidFile, match="written by a newer Logist") as caught:
            call()
        assert "upgrade" in caught.value.hint
    paths.history.write_bytes(encode_line(1, iso(START), {"type": "created", "change": newer}))
    with pytest.raises(InvalidFile, match="written by a newer Logist"):
        store.rebuild("one")


def test_a_job_that_is_gone_is_not_found(store: JobStore) -> None:
    store.create("one", builder("one"))
    shutil.rmtree(store.paths("one").root)
    for call in (store.load, store.history, store.rebuild, store.find, lambda job_id: store.open(job_id, command="x")):
        with pytest.raises(JobNotFound):
            call("one")
    assert store.holder("one") is None
    assert not store.paths("one").root.exists()


def test_a_missing_history_is_an_error(store: JobStore) -> None:
    store.create("one", builder("one"))
    store.paths("one").history.unlink()
    for call in (lambda: store.load("one"), lambda: store.open("one", command="x"), lambda: store.rebuild("one")):
        with pytest.raises(InvalidFile, match=r"history\.jsonl is missing"):
            call()


def test_a_folder_under_another_jobs_name_is_refused(store: JobStore) -> None:
    store.create("one", builder("one"))
    store.paths("one").root.rename(store.jobs_dir / "two")
    with pytest.raises(InvalidFile, match="manifest of job one, not of two") as caught:
        store.load("two")
    assert "one" in caught.value.hint


def test_a_manifest_ahead_of_its_history_is_refused(store: JobStore, job: OpenJob) -> None:
    for record in a_run():
        job.record(record)
    job.close()
    lines = job.paths.history.read_bytes().splitlines(keepends=True)
    job.paths.history.write_bytes(b"".join(lines[:-1]))
    for call in (
        lambda: store.load("one"),
        lambda: store.open("one", command="x"),
        lambda: cancel_at_rest(job.paths, "", START),
    ):
        with pytest.raises(InvalidFile, match="records are lost"):
            call()
    assert store.rebuild("one").seq == 5
    assert json.loads(job.paths.manifest_before_repair.read_bytes())["seq"] == 6
    assert store.load("one").status is JobStatus.RUNNING


def test_a_manifest_behind_its_history_is_replayed_when_read_and_rewritten_when_opened(
    store: JobStore, job: OpenJob
) -> None:
    first = job.paths.manifest.read_bytes()
    for record in a_run():
        job.record(record)
    job.close()
    whole = job.paths.manifest.read_bytes()
    job.paths.manifest.write_bytes(first)
    assert store.load("one") == job.manifest
    assert job.paths.manifest.read_bytes() == first
    with store.open("one", command="x") as again:
        assert again.manifest == job.manifest
    assert job.paths.manifest.read_bytes() == whole


def test_a_record_that_this_version_does_not_know_is_named(store: JobStore, job: OpenJob) -> None:
    job.close()
    with job.paths.history.open("ab") as file:
        file.write(encode_line(2, iso(START), {"type": "novelty"}))
    with pytest.raises(InvalidFile, match=r"history\.jsonl, line 2"):
        list(store.history("one"))


def test_the_history_is_told_in_either_order_and_a_limit_keeps_the_newest(store: JobStore, job: OpenJob) -> None:
    for record in a_run():
        job.record(record)

    def seqs(**options: object) -> list[int]:
        return [entry.seq for entry in store.history("one", **options)]  # type: ignore[arg-type]

    assert seqs() == [1, 2, 3, 4, 5, 6]
    assert seqs(newest_first=True) == [6, 5, 4, 3, 2, 1]
    assert seqs(limit=2) == [5, 6]
    assert seqs(newest_first=True, limit=2) == [6, 5]
    assert seqs(limit=0) == []
    records = [entry.record for entry in store.history("one")][1:]
    assert [type(record) for record in records] == [type(record) for record in a_run()]


def test_the_records_of_a_step_are_found_and_so_are_those_of_the_unfinished_one(store: JobStore, job: OpenJob) -> None:
    assert job.last_records() == ()
    for record in (started_run(), intent(1), started(1), committed(1), intent(2), started(2)):
        job.record(record)
    failed = AttemptFailed(step=2, attempt=1, kind="unreadable", detail="?")
    job.record(failed)
    job.record(intent(2, attempt=2))
    assert [entry.seq for entry in job.last_records()] == [6, 7, 8, 9]
    assert job.last_records()[2].record == failed
    assert [entry.seq for entry in job.history_for_step(1)] == [3, 4, 5]
    assert [entry.seq for entry in store.history_for_step("one", 2)] == [6, 7, 8, 9]
    assert job.history_for_step(3) == ()
    assert [entry.seq for entry in job.tail(7)] == [8, 9]
    job.record(committed(2))
    assert job.last_records() == ()


def test_a_stop_and_a_start_do_not_end_a_step_but_reopening_the_job_does(store: JobStore, job: OpenJob) -> None:
    for record in (started_run(), committed(1), intent(2)):
        job.record(record)
    job.record(transition(Trigger.RECOVER, JobStatus.PENDING, ReasonCode.RUNNER_DIED))
    job.record(started_run())
    assert [entry.seq for entry in job.last_records()] == [4, 5, 6]
    assert store.unfinished("one") == job.last_records()
    job.record(transition(Trigger.REOPEN, JobStatus.PENDING, ReasonCode.REOPENED))
    assert job.last_records() == ()


# --- Recording -----------------------------------------------------------------------------------------------------


def test_a_change_is_on_disk_when_it_is_acknowledged(store: JobStore, job: OpenJob) -> None:
    for number, record in enumerate(a_run(), start=2):
        manifest = job.record(record)
        assert manifest == job.manifest == store.load("one")
        assert manifest.seq == number
        assert lines_of(job.paths)[-1].record["type"] == record.type
    assert document_of(job.paths) == merge({}, lines_of(job.paths)) == json.loads(manifest.model_dump_json())
    assert manifest.head == NEXT_COMMIT
    assert manifest.turns == {Role.WORKER: 1}
    assert manifest.updated_at > START


def test_a_record_without_a_change_leaves_the_manifest_file_alone(store: JobStore, job: OpenJob) -> None:
    before = job.paths.manifest.stat().st_ino
    assert job.record(started()).seq == 2
    assert job.paths.manifest.stat().st_ino == before
    assert store.load("one").seq == 2


@pytest.mark.parametrize(
    "wrong", [{"status": "PAUSED"}, {"novelty": 1}, {"id": "two"}, {"head": "short"}, {"job": {"objective": ""}}]
)
def test_a_change_that_makes_no_valid_manifest_is_refused_before_anything_is_written(
    job: OpenJob, wrong: dict[str, object]
) -> None:
    before = (job.paths.history.read_bytes(), job.paths.manifest.read_bytes(), job.manifest)
    reason = Reason(code=ReasonCode.PAUSED, sentence="x")
    with pytest.raises(ValueError, match=r"validation error|another id"):
        job.record(Transition(trigger=Trigger.PAUSE, reason=reason, change=wrong))
    assert (job.paths.history.read_bytes(), job.paths.manifest.read_bytes(), job.manifest) == before
    job.record(started_run())


def test_only_fields_of_the_manifest_can_be_changed() -> None:
    assert change(status=JobStatus.RUNNING, updated_at=START, turns={Role.WORKER: 1}, spent=Spent(steps=2)) == {
        "status": "RUNNING",
        "updated_at": "2026-03-01T00:00:00Z",
        "turns": {"worker": 1},
        "spent": {
            "steps": 2,
            "time": 0.0,
            "cost": 0.0,
            "estimated_cost": 0.0,
            "tokens": 0,
            "unpriced": 0,
            "retries": 0,
        },
    }
    with pytest.raises(TypeError, match="no field statsu"):
        change(statsu=JobStatus.RUNNING)


def test_a_record_costs_the_same_however_long_the_history_is(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"type": "started", "step": 1, "attempt": 1, "argv": ["x" * 80], "change": {}}
    record["process"] = {"pid": 1, "start_time": 1, "boot_id": ""}
    costs = []
    traffic: list[int] = []
    for name in ("pread", "write"):
        monkeypatch.setattr(os, name, counting(getattr(os, name), traffic))
    for job_id, length in (("short", 1_000), ("large", 20_000)):
        store.create(job_id, builder(job_id))
        paths = store.paths(job_id)
        with paths.history.open("ab") as file:
            file.writelines(encode_line(n, iso(START), record) for n in range(10_002, 10_002 + length - 2))
        # Numbers of one width, so that lines are of one length.
        rest = paths.history.read_bytes().split(b"\n", 1)
        created = json.loads(rest[0])["record"]
        filler = b"".join(encode_line(n, iso(START), record) for n in range(2, 10_002))
        paths.history.write_bytes(encode_line(1, iso(START), created) + filler + rest[1])
        document = document_of(paths) | {"seq": 10_000 + length - 3}
        paths.manifest.write_bytes(manifest_bytes(document))
        traffic.clear()
        with store.open(job_id, command="x") as job:
            for newer in (started_run(), committed(), intent(2)):
                job.record(newer)
            assert len(job.last_records()) == 1
            assert len(job.history_for_step(2)) == 1
        assert store.load(job_id).seq == 10_000 + length + 2
        costs.append(sum(traffic))
    assert abs(costs[0] - costs[1]) < 200
    assert costs[0] < 300_000


def counting(call: Callable[..., object], traffic: list[int]) -> Callable[..., object]:
    def counted(fd: int, *arguments: object) -> object:
        first = arguments[0]
        traffic.append(first if isinstance(first, int) else len(first))  # type: ignore[arg-type]
        return call(fd, *arguments)

    return counted


def test_a_second_runner_is_turned_away_while_reading_goes_on(store: JobStore, job: OpenJob) -> None:
    with pytest.raises(JobBusy, match=r"job one is held by process"):
        store.open("one", command="second")
    with pytest.raises(JobBusy):
        store.rebuild("one")
    with pytest.raises(JobBusy):
        cancel_at_rest(job.paths, "", START)
    assert store.load("one").status is JobStatus.PENDING
    holder = store.holder("one")
    assert holder is not None
    assert (holder.pid, holder.command) == (os.getpid(), "test")


@pytest.mark.parametrize("what", ["root", "lease", "history"])
@pytest.mark.parametrize("how", ["moved", "deleted", "replaced"])
def test_a_job_that_is_taken_away_while_it_is_open_is_noticed_and_nothing_is_lost(
    job: OpenJob, tmp_path: Path, what: str, how: str
) -> None:
    path: Path = getattr(job.paths, what)
    job.record(started_run())
    history = job.paths.history.read_bytes()
    path.rename(tmp_path / "elsewhere")
    if how == "replaced":
        shutil.copytree(tmp_path / "elsewhere", path) if what == "root" else shutil.copy(tmp_path / "elsewhere", path)
    if how == "deleted":
        shutil.rmtree(tmp_path / "elsewhere") if what == "root" else (tmp_path / "elsewhere").unlink()
    with pytest.raises(StorageFailed, match="moved, replaced or deleted while the job was open") as caught:
        job.record(intent())
    assert str(job.paths.root) in caught.value.message
    left = {"root": tmp_path / "elsewhere" / "history.jsonl", "history": tmp_path / "elsewhere"}
    remaining = left.get(what, job.paths.history)
    assert how == "deleted" or remaining.read_bytes() == history


def test_the_manifest_is_rebuilt_from_the_history_alone(store: JobStore, job: OpenJob) -> None:
    for record in a_run():
        job.record(record)
    job.close()
    whole = job.paths.manifest.read_bytes()
    job.paths.manifest.unlink()
    with job.paths.history.open("ab") as file:
        file.write(b'{"seq":7,"torn')
    assert store.ids() == ("one",)
    with pytest.raises(InvalidFile, match=r"job_manifest\.json is missing"):
        store.load("one")
    assert store.rebuild("one") == job.manifest
    assert job.paths.manifest.read_bytes() == whole
    assert not job.paths.manifest_before_repair.exists()
    assert job.paths.history.read_bytes().endswith(b"}\n")
    job.paths.manifest.write_bytes(b"garbage")
    store.rebuild("one")
    assert job.paths.manifest.read_bytes() == whole
    assert job.paths.manifest_before_repair.read_bytes() == b"garbage"


def test_a_damaged_history_can_not_rebuild_anything(store: JobStore, job: OpenJob) -> None:
    for record in a_run():
        job.record(record)
    job.close()
    manifest = job.paths.manifest.read_bytes()
    lines = job.paths.history.read_bytes().splitlines(keepends=True)
    for damaged in ([*lines[:2], b"x" + lines[2], *lines[3:]], lines[1:], [], [encode_line(1, "", {"type": "intent"})]):
        job.paths.history.write_bytes(b"".join(damaged))
        with pytest.raises(InvalidFile, match=r"history\.jsonl"):
            store.rebuild("one")
        assert job.paths.manifest.read_bytes() == manifest


def test_a_thousand_jobs_are_loaded_with_one_short_read_each(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("a", builder("a"))
    for number in range(99):
        shutil.copytree(store.paths("a").root, store.jobs_dir / f"a{number}")
        path = store.jobs_dir / f"a{number}" / "job_manifest.json"
        path.write_bytes(path.read_bytes().replace(b'"id": "a"', f'"id": "a{number}"'.encode()))
    traffic: list[int] = []
    monkeypatch.setattr(os, "pread", counting(os.pread, traffic))
    assert len({store.load(job_id).id for job_id in store.ids()}) == 100
    assert len(traffic) == 100
    assert max(traffic) <= 65_536


# --- Canceling at rest ---------------------------------------------------------------------------------------------


def test_the_light_cancel_is_the_typed_cancel(tmp_path: Path) -> None:
    documents, histories = [], []
    for kind in ("light", "typed"):
        store = JobStore(tmp_path / kind, TickingClock())
        store.create("one", builder("one"))
        paths = store.paths("one")
        at = START + timedelta(days=1, microseconds=5)
        if kind == "light":
            assert cancel_at_rest(paths, "no longer needed: ü", at) is CancelOutcome.CANCELED
        else:
            with store.open("one", command="x") as job:
                job._clock = type("Fixed", (), {"now": staticmethod(lambda at=at: at)})()
                job.record(transition(Trigger.CANCEL, JobStatus.CANCELED, ReasonCode.CANCELED, "no longer needed: ü"))
        documents.append(paths.manifest.read_bytes())
        histories.append([list(line.record.items()) for line in lines_of(paths)])
        assert store.load("one").status is JobStatus.CANCELED
        assert [entry.record.type for entry in store.history("one")] == ["created", "transition"]
    assert documents[0] == documents[1]
    assert histories[0] == histories[1]


@pytest.mark.parametrize("status", list(JobStatus))
def test_what_can_be_canceled_at_rest_is_what_the_table_says(store: JobStore, status: JobStatus) -> None:
    store.create("one", builder("one", status=status))
    paths = store.paths("one")
    before = paths.manifest.read_bytes()
    if status in (JobStatus.SUCCESS, JobStatus.CANCELED):
        with pytest.raises(WrongState, match=f"job one is {status}"):
            cancel_at_rest(paths, "", START)
    elif status is JobStatus.RUNNING:
        assert cancel_at_rest(paths, "", START) is CancelOutcome.NEEDS_RECOVERY
    else:
        assert cancel_at_rest(paths, "", START) is CancelOutcome.CANCELED
        assert store.load("one").status is JobStatus.CANCELED
        return
    assert paths.manifest.read_bytes() == before
    assert len(lines_of(paths)) == 1


def test_a_cancel_at_rest_sees_records_that_the_manifest_lacks_and_settles_requests(
    store: JobStore, job: OpenJob
) -> None:
    first = job.paths.manifest.read_bytes()
    for record in a_run():
        job.record(record)
    request(job.paths, "cancel", "stop", START)
    request(job.paths, "pause", "wait", START)
    job.close()
    job.paths.manifest.write_bytes(first)
    message = os.fsdecode(b"\xff") + "x" * 50_000
    assert cancel_at_rest(job.paths, message, START) is CancelOutcome.CANCELED
    manifest = store.load("one")
    assert (manifest.seq, manifest.status, manifest.head) == (7, JobStatus.CANCELED, NEXT_COMMIT)
    assert len(list(store.history("one"))) == 7
    assert pending(job.paths, "cancel") is None
    assert pending(job.paths, "pause") is None


def test_a_cancel_of_no_job_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(JobNotFound):
        cancel_at_rest(JobPaths(tmp_path / "gone"), "", START)
    (tmp_path / "folder").mkdir()
    with pytest.raises(JobNotFound):
        cancel_at_rest(JobPaths(tmp_path / "folder"), "", START)
    assert names(tmp_path / "folder") == []


def test_the_light_half_has_the_constants_of_the_typed_half() -> None:
    assert job_files.SCHEMA_VERSION == models.SCHEMA_VERSION
    assert job_files.JOB_ID_PATTERN == models.JOB_ID_PATTERN
    assert cancellation._MAX_SENTENCE == models.MAX_TEXT


# --- Killed, cut off, out of space ---------------------------------------------------------------------------------


def live(jobs_dir: Path, acknowledge: Callable[[str], None]) -> None:
    """One job's life, each thing acknowledged when it is durable; `crash_at_every_event` kills it everywhere."""
    store = JobStore(jobs_dir, TickingClock())
    store.create("one", builder("one"))
    acknowledge("created")
    with store.open("one", command="run") as job:
        for record in a_run():
            job.record(record)
            acknowledge(record.type)
    cancel_at_rest(store.paths("one"), "enough", START)
    acknowledge("transition")
    store.select("one")
    acknowledge("selected")


class Executioner:
    """Ends this process at event number `at`: before and after each call that changes a file, and within a write."""

    def __init__(self, at: int) -> None:
        self._left = at
        self._write, self._exit = os.write, os._exit
        os.write = self._torn_write  # type: ignore[assignment]
        os.fsync = self._killed_fsync  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def _event(self) -> bool:
        self._left -= 1
        return self._left == 0

    def _kill_here(self) -> None:
        if self._event():
            self._exit(KILLED)

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            flags = arguments[2]
            changes = isinstance(flags, int) and bool(flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))
        else:
            changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "fcntl.flock")
        if changes:
            self._kill_here()

    def _torn_write(self, fd: int, data: bytes) -> int:
        self._kill_here()
        if self._event():
            self._write(fd, bytes(data)[: len(data) // 2])
            self._exit(KILLED)
        written = self._write(fd, data)
        self._kill_here()
        return written

    def _killed_fsync(self, fd: int) -> None:
        # Killing loses nothing that was written, so the disk need not be waited for; see the power cut for that.
        os.fstat(fd)
        self._kill_here()


def live_until(folder: Path, at: int) -> None:
    """Live, with the acknowledgements in a file, and be killed at event `at`."""
    acks = os.open(folder / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    write = os.write

    def acknowledge(ack: str) -> None:
        write(acks, f"{ack}\n".encode())

    Executioner(at)
    live(folder / "jobs", acknowledge)


def crash_at_every_event(scratch: Path) -> None:
    """In a child process without threads: fork once per event, until a fork gets through its whole life."""
    for at in itertools.count(1):
        folder = scratch / f"{at:04d}"
        folder.mkdir()
        child = os.fork()
        if child == 0:
            live_until(folder, at)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != KILLED:
            sys.exit(code)


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk: hundreds of jobs are made, and none of the faults here could tell the difference."""
    # A wrong descriptor is still an error.
    monkeypatch.setattr(os, "fsync", lambda fd: os.fstat(fd) and None)


EXPECTED = ["created", *(record.type for record in a_run()), "transition"]


def assert_nothing_lost_or_doubled(jobs_dir: Path, acks: list[str]) -> None:
    """What was acknowledged is there, once, and the job can be loaded, opened, and lived to its end."""
    store = JobStore(jobs_dir, TickingClock())
    acknowledged = [ack for ack in acks if ack != "selected"]
    assert acknowledged == EXPECTED[: len(acknowledged)]
    if not store.ids():
        assert acknowledged == []
        store.create("one", builder("one"))
    assert store.selected() == ("one" if "selected" in acks else store.selected())
    loaded = store.load("one")
    with store.open("one", command="again") as job:
        assert job.manifest == loaded
        kept = [entry.record.type for entry in store.history("one")]
        assert kept == EXPECTED[: len(kept)]
        assert len(acknowledged) <= len(kept) <= len(acknowledged) + 1
        projection = merge({}, lines_of(job.paths))
        assert JobManifest.model_validate(projection) == loaded
        assert not list(job.paths.root.glob(".*.tmp"))
        for record in a_run()[max(0, len(kept) - 1) :]:
            job.record(record)
    if len(kept) < len(EXPECTED):
        assert cancel_at_rest(job.paths, "enough", START) is CancelOutcome.CANCELED
    store.create("other", builder("other"))
    store.select("other")
    assert not [name for name in names(jobs_dir) if name.startswith(".")]
    assert [line.record["type"] for line in lines_of(job.paths)] == EXPECTED
    final = store.load("one")
    assert (final.status, final.seq, final.head) == (JobStatus.CANCELED, len(EXPECTED), NEXT_COMMIT)


@pytest.mark.usefixtures("unsynced")
def test_a_writer_killed_at_any_instant_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    code = "import sys, pathlib, test_job_state as t; t.crash_at_every_event(pathlib.Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True, timeout=120)
    runs = sorted(tmp_path.iterdir())
    reached = set()
    for run in runs:
        acks = (run / "acks").read_text().split()
        reached.add(len(acks))
        assert_nothing_lost_or_doubled(run / "jobs", acks)
    # The faults were hit: between any two acknowledgements, and often.
    assert reached == set(range(len(EXPECTED) + 2))
    assert len(runs) > 100


class Disk:
    """What a power cut would leave: file contents as they were synced, names as their folders were synced."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._contents: dict[int, bytes] = {}
        self._folders: dict[int, dict[str, int]] = {root.stat().st_ino: {}}
        #: An open descriptor keeps an inode's number from being given to another file.
        self._kept: list[int] = []
        #: After each call: what is durable, and how many acknowledgements there were.
        self.instants: list[tuple[dict[int, bytes], dict[int, dict[str, int]], int]] = []
        self.acks: list[str] = []
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._synced)
        for name in ("write", "replace", "rename", "ftruncate"):
            monkeypatch.setattr(os, name, self._noted(getattr(os, name)))

    def _noted(self, call: Callable[..., object]) -> Callable[..., object]:
        def noted(*arguments: object, **options: object) -> object:
            result = call(*arguments, **options)
            self.note()
            return result

        return noted

    def _synced(self, fd: int) -> None:
        self._fsync(fd)
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(fd) as entries:
                self._folders[status.st_ino] = {entry.name: entry.inode() for entry in entries}
                self._kept += [os.open(name, os.O_RDONLY, dir_fd=fd) for name in self._folders[status.st_ino]]
        else:
            # Through /proc, since the descriptor may be for writing only.
            self._contents[status.st_ino] = Path(f"/proc/self/fd/{fd}").read_bytes()
        self._kept.append(os.dup(fd))
        self.note()

    def note(self) -> None:
        folders = {inode: dict(entries) for inode, entries in self._folders.items()}
        self.instants.append((dict(self._contents), folders, len(self.acks)))

    def close(self) -> None:
        for fd in self._kept:
            os.close(fd)

    def restore(self, instant: int, target: Path) -> None:
        contents, folders, _ = self.instants[instant]
        folder_inodes = {inode for inode in folders if inode not in contents}

        def write(inode: int, path: Path) -> None:
            if inode in folder_inodes:
                path.mkdir()
                for name, inner in folders[inode].items():
                    write(inner, path / name)
            elif stat.S_ISDIR(self._mode(inode)):
                path.mkdir()
            else:
                path.write_bytes(contents.get(inode, b""))

        write(self._root.stat().st_ino, target)

    def _mode(self, inode: int) -> int:
        return next(os.fstat(fd).st_mode for fd in self._kept if os.fstat(fd).st_ino == inode)


@pytest.mark.usefixtures("unsynced")
def test_a_power_cut_at_any_instant_loses_nothing_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    with monkeypatch.context() as patch:
        disk = Disk(root, patch)

        def acknowledge(ack: str) -> None:
            disk.acks.append(ack)
            disk.note()

        live(root / "jobs", acknowledge)
    try:
        cut = set()
        for number, (_, _, acks) in enumerate(disk.instants):
            target = tmp_path / f"cut-{number}"
            disk.restore(number, target)
            assert_nothing_lost_or_doubled(target / "jobs", disk.acks[:acks])
            cut.add(acks)
        assert cut == set(range(len(EXPECTED) + 2))
    finally:
        disk.close()


@pytest.mark.usefixtures("unsynced")
@pytest.mark.parametrize("name", ["open", "pread", "write", "fsync", "replace", "rename", "ftruncate", "unlink"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_call_that_fails_at_any_instant_is_loud_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    original = getattr(os, name)
    failed = 0
    for at in itertools.count():
        numbers = itertools.count()

        def call(*arguments: object, at: int = at, numbers: Iterator[int] = numbers, **options: object) -> object:
            if next(numbers) == at:
                raise OSError(code, os.strerror(code))
            return original(*arguments, **options)

        acks: list[str] = []
        jobs_dir = tmp_path / str(at)
        error: LogistError | OSError | None = None
        with monkeypatch.context() as patch:
            patch.setattr(os, name, call)
            try:
                live(jobs_dir, acks.append)
            except (LogistError, OSError) as caught:
                error = caught
        if next(numbers) <= at:
            break
        failed += error is not None
        assert error is None or isinstance(error, LogistError)
        if error is not None:
            assert os.strerror(code) in str(error)
        assert error is not None or acks == [*EXPECTED, "selected"]
        if jobs_dir.exists():
            assert_nothing_lost_or_doubled(jobs_dir, acks)
    # Where nothing else goes wrong, nothing is cut off.
    assert failed or name == "ftruncate"


def test_a_run_goes_on_after_the_disk_was_full_for_a_moment(job: OpenJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job.record(started_run())

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("write", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(StorageFailed, match="No space left on device"):
                job.record(intent())
    # The second record got into the history, only the manifest file did not follow.
    assert job.manifest.seq == 3
    assert document_of(job.paths)["seq"] == 2
    job.record(committed())
    assert document_of(job.paths) == merge({}, lines_of(job.paths))


def test_the_lease_is_free_after_an_open_that_failed(store: JobStore) -> None:
    store.create("one", builder("one"))
    paths = store.paths("one")
    paths.history.write_bytes(b"bad\nbad\n")
    with pytest.raises(InvalidFile):
        store.open("one", command="x")
    Lease.take(paths, command="y").release()
