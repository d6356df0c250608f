"""Jobs on disk, the light half: lines, the journal, durable writes, the lease, requests and names."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist import journal
from logist.clock import SystemClock
from logist.durable import iso, make_durable_folder, replace_file
from logist.errors import InvalidFile, JobBusy, JobNotFound, StorageFailed, UsageProblem
from logist.job_files import JobPaths, check_job_id, ensure_jobs_dir, find_job, find_jobs_dir, job_ids, read_selected
from logist.job_list import list_rows
from logist.job_state import JobStore
from logist.journal import DamagedLine, Journal, Line, decode_line, encode_line, merge
from logist.lease import Lease, read_holder
from logist.stop_requests import clear, pending, request

ROOT = Path(__file__).resolve().parents[1]
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RECORDS: tuple[dict[str, object], ...] = (
    {"type": "created", "change": {"status": "PENDING", "note": "first"}},
    {"type": "intent", "step": 1, "change": {}},
    {"type": "started", "step": 1, "argv": ["sh", "-c", 'echo "ü\n"'], "change": {}},
    {"type": "committed", "step": 1, "change": {"status": "SUCCESS"}},
    {"type": "transition", "change": {"note": None}},
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
json_records = st.dictionaries(st.text(), json_values, max_size=5)


def write_journal(path: Path, records: tuple[dict[str, object], ...] = RECORDS) -> bytes:
    journal = Journal.create(path)
    for record in records:
        journal.append(AT, record)
    journal.close()
    return path.read_bytes()


def records_of(lines: Iterator[Line] | list[Line]) -> list[dict[str, object]]:
    return [line.record for line in lines]


@pytest.fixture
def paths(tmp_path: Path) -> JobPaths:
    """A folder that counts as a job's, with a history."""
    paths = JobPaths(tmp_path / "jobs" / "one")
    paths.root.mkdir(parents=True)
    write_journal(paths.history)
    return paths


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


# --- Lines ---------------------------------------------------------------------------------------------------------


@given(st.integers(min_value=1), json_records)
def test_a_line_reads_back_as_it_was_written(seq: int, record: dict[str, object]) -> None:
    data = encode_line(seq, iso(AT), record)
    assert data.count(b"\n") == 1
    assert decode_line(data) == Line(seq, "2026-03-01T12:00:00Z", record)
    assert json.loads(data).keys() == {"seq", "at", "record", "crc"}


def test_every_flipped_bit_of_a_line_is_noticed() -> None:
    data = encode_line(7, iso(AT), RECORDS[2])
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedLine):
            decode_line(bytes(flipped))


@pytest.mark.parametrize(
    "body",
    [
        b"[1,2]",
        b'{"seq":1,"at":"x"',
        b'{"seq":0,"at":"x","record":{}',
        b'{"seq":true,"at":"x","record":{}',
        b'{"seq":1,"at":2,"record":{}',
        b'{"seq":1,"at":"x","record":[]',
        b'{"seq":1,"at":"x","record":{},"more":1',
        b'{"seq":1,"at":"x","record":{"a":' + b"[" * 100_000,
        b"",
    ],
)
def test_a_line_with_a_right_checksum_that_is_no_record_is_refused(body: bytes) -> None:
    with pytest.raises(DamagedLine):
        decode_line(body + b',"crc":"%08x"}\n' % journal.zlib.crc32(body))


def test_a_file_name_that_is_no_text_is_spelled_out_and_the_line_stays_readable() -> None:
    data = encode_line(1, iso(AT), {"path": os.fsdecode(b"caf\xe9")})
    assert decode_line(data).record == {"path": "caf\\udce9"}
    data.decode("utf-8")


def test_times_are_written_in_utc_and_naive_ones_refused() -> None:
    assert iso(datetime(2026, 3, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))) == "2026-03-01T12:00:00Z"
    with pytest.raises(ValueError, match="time zone"):
        iso(datetime(2026, 3, 1))  # noqa: DTZ001


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(), max_size=3), max_size=8), st.integers(0, 8))
def test_merging_in_two_goes_is_merging_in_one(changes: list[dict[str, int]], cut: int) -> None:
    lines = [Line(number, "", {"change": change}) for number, change in enumerate(changes, start=1)]
    start = {"a": 0, "seq": 0}
    whole = merge(start, lines)
    assert merge(merge(start, lines[:cut]), lines[cut:]) == whole
    assert whole["seq"] == len(lines)
    assert start == {"a": 0, "seq": 0}


# --- The journal ---------------------------------------------------------------------------------------------------


def test_records_are_numbered_without_gaps_and_read_in_any_direction(tmp_path: Path) -> None:
    write_journal(tmp_path / "history.jsonl")
    journal = Journal(tmp_path / "history.jsonl")
    assert journal.last_seq == 5
    assert records_of(journal.read_all()) == list(RECORDS)
    assert records_of(journal.newest_first()) == list(reversed(RECORDS))
    for seq in range(6):
        assert [line.seq for line in journal.read_after(seq)] == list(range(seq + 1, 6))


def test_asking_for_more_than_the_journal_holds_is_an_error_that_says_records_are_lost(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    data = write_journal(path)
    path.write_bytes(data + b"torn")
    with pytest.raises(InvalidFile, match="records are lost"):
        Journal(path).read_after(6)
    with pytest.raises(InvalidFile, match="records are lost"):
        Journal(path).open_for_append(at_least=6)
    assert path.read_bytes() == data + b"torn"


def test_a_damaged_record_is_not_taken_for_the_one_that_the_manifest_knows(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    data = write_journal(path)
    path.write_bytes(data.replace(b'"note":null', b'"note":true'))
    with pytest.raises(InvalidFile, match="ends with record 4, but the manifest knows record 5"):
        Journal(path).read_after(5)
    lines = data.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b"argv", b"args"), *lines[3:]]))
    with pytest.raises(InvalidFile, match="line 3, is damaged"):
        Journal(path).read_after(3)


@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=6), st.integers(0, 6))
def test_lines_longer_than_a_block_are_read_backwards_too(sizes: list[int], seq: int) -> None:
    records = tuple({"text": "x" * size} for size in sizes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.jsonl"
        write_journal(path, records)
        seq = min(seq, len(sizes))
        assert records_of(Journal(path).read_after(seq)) == list(records[seq:])


def test_every_truncation_of_a_history_is_a_prefix_of_it_that_can_be_continued(tmp_path: Path) -> None:
    data = write_journal(tmp_path / "whole.jsonl")
    ends = [0, *itertools.accumulate(len(line) for line in data.splitlines(keepends=True))]
    for size in range(len(data) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(data[:size])
        kept = sum(end <= size for end in ends) - 1
        assert records_of(Journal(path).read_all()) == list(RECORDS[:kept])
        assert path.stat().st_size == size
        journal = Journal(path)
        journal.open_for_append()
        assert path.read_bytes() == data[: ends[kept]]
        assert journal.append(AT, {"type": "next"}) == kept + 1
        journal.close()
        assert records_of(Journal(path).read_all()) == [*RECORDS[:kept], {"type": "next"}]


def prefix_or_refusal(read: Callable[[], list[Line]]) -> None:
    try:
        found = records_of(read())
    except InvalidFile:
        return
    assert found == list(RECORDS[: len(found)])


@given(st.data())
def test_damage_anywhere_never_gives_wrong_records(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.jsonl"
        content = bytearray(write_journal(path))
        for _ in range(data.draw(st.integers(1, 3))):
            position = data.draw(st.integers(0, len(content) - 1))
            content[position] = data.draw(st.sampled_from([0, 10, 13, content[position] ^ 1, content[position] ^ 128]))
        path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
        journal = Journal(path)
        prefix_or_refusal(lambda: list(journal.read_all()))
        prefix_or_refusal(lambda: journal.read_after(0))
        prefix_or_refusal(lambda: list(journal.newest_first())[::-1])


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_bad_line_before_a_good_one_is_refused_and_named(tmp_path: Path, number: int) -> None:
    path = tmp_path / "history.jsonl"
    lines = write_journal(path).splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"type"', b'"tYpe"')
    path.write_bytes(b"".join(lines))
    for read in (lambda: list(Journal(path).read_all()), lambda: Journal(path).read_after(0)):
        with pytest.raises(InvalidFile, match=rf"history\.jsonl, line {number}, is damaged") as caught:
            read()
        assert "backup" in caught.value.hint


@pytest.mark.parametrize("dropped", [0, 2])
def test_a_missing_line_is_refused(tmp_path: Path, dropped: int) -> None:
    path = tmp_path / "history.jsonl"
    lines = write_journal(path).splitlines(keepends=True)
    del lines[dropped]
    path.write_bytes(b"".join(lines))
    for read in (lambda: list(Journal(path).read_all()), lambda: Journal(path).read_after(0)):
        with pytest.raises(InvalidFile, match=f"line {dropped + 1},"):
            read()


def test_a_last_line_that_was_never_written_out_counts_as_torn(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    data = write_journal(path)
    path.write_bytes(data + b"\0" * 700)
    journal = Journal(path)
    assert journal.last_seq == 5
    journal.open_for_append()
    journal.close()
    assert path.read_bytes() == data


def test_a_history_that_is_missing_is_named_and_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"history\.jsonl is missing"):
        Journal(tmp_path / "history.jsonl").open_for_append()
    assert not list(tmp_path.iterdir())


def test_reading_and_continuing_cost_the_same_however_long_the_history_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    pread = os.pread

    def counting(fd: int, size: int, offset: int) -> bytes:
        read.append(size)
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", counting)
    totals = []
    for length in (1_000, 20_000):
        path = tmp_path / f"{length}.jsonl"
        path.write_bytes(b"".join(encode_line(n, iso(AT), {"type": "x" * 50}) for n in range(1, length + 1)))
        read.clear()
        journal = Journal(path)
        journal.open_for_append(at_least=length - 3)
        journal.append(AT, {})
        assert len(journal.read_after(length - 3)) == 4
        journal.close()
        totals.append(sum(read))
    assert totals[0] == totals[1] < 65_536


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[..., object], at: int = 0) -> Iterator[None]:
    """Let call number `at` of `os.<name>` do `action(original, *arguments)`."""
    original = getattr(os, name)
    numbers = itertools.count()

    def call(*arguments: object, **options: object) -> object:
        if next(numbers) == at:
            return action(original, *arguments)
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, call)
        yield


def disk_full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def disk_broken(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def half(write: Callable[[int, bytes], int], fd: int, data: bytes) -> int:
    return write(fd, bytes(data)[: len(data) // 2])


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("action", [disk_full, half])
def test_a_failed_write_leaves_no_half_line_and_the_journal_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[..., object]
) -> None:
    path = tmp_path / "history.jsonl"
    data = write_journal(path)
    journal = Journal(path)
    journal.open_for_append()
    with failing(monkeypatch, "write", action), pytest.raises(StorageFailed, match="No space left") as caught:
        journal.append(AT, {"type": "lost"})
    assert str(path) in caught.value.message
    assert "disk space" in caught.value.hint
    assert path.read_bytes() == data
    assert journal.append(AT, {"type": "kept"}) == 6
    journal.close()
    assert records_of(Journal(path).read_after(5)) == [{"type": "kept"}]


def test_after_a_failed_fsync_nothing_is_appended_until_the_journal_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.jsonl"
    data = write_journal(path)
    journal = Journal(path)
    journal.open_for_append()
    with failing(monkeypatch, "fsync", disk_broken), pytest.raises(StorageFailed, match="sync"):
        journal.append(AT, {"type": "lost"})
    with pytest.raises(StorageFailed, match="an fsync failed"):
        journal.append(AT, {"type": "refused"})
    journal.close()
    assert path.read_bytes() == data
    journal.open_for_append()
    assert journal.append(AT, {"type": "kept"}) == 6
    journal.close()


def test_a_line_that_can_not_be_taken_back_closes_the_journal_and_is_cut_off_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.jsonl"
    data = write_journal(path)
    journal = Journal(path)
    journal.open_for_append()
    with failing(monkeypatch, "ftruncate", disk_broken), failing(monkeypatch, "write", half):  # noqa: SIM117
        with pytest.raises(StorageFailed):
            journal.append(AT, {"type": "lost"})
    assert path.stat().st_size > len(data)
    with pytest.raises(StorageFailed, match="interrupted"):
        journal.append(AT, {"type": "refused"})
    journal.close()
    journal.open_for_append()
    journal.close()
    assert path.read_bytes() == data


@pytest.mark.parametrize("name", ["write", "fsync"])
def test_an_interrupt_in_an_append_never_leads_to_a_number_given_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "history.jsonl"
    write_journal(path)
    journal = Journal(path)
    journal.open_for_append()
    with failing(monkeypatch, name, interrupted), pytest.raises(KeyboardInterrupt):
        journal.append(AT, {"type": "in doubt"})
    with pytest.raises(StorageFailed, match="interrupted"):
        journal.append(AT, {"type": "refused"})
    journal.close()
    journal.open_for_append()
    journal.append(AT, {"type": "next"})
    journal.close()
    assert records_of(Journal(path).read_all())[-1] == {"type": "next"}


def test_a_journal_that_was_moved_or_deleted_is_noticed(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "history.jsonl")
    journal.check_place()
    (tmp_path / "history.jsonl").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed, match="moved, replaced or deleted"):
        journal.check_place()
    (tmp_path / "history.jsonl").touch()
    with pytest.raises(StorageFailed, match="moved, replaced or deleted"):
        journal.check_place()
    journal.close()


# --- Durable files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("action", [disk_full, interrupted])
def test_a_file_is_replaced_whole_or_not_at_all_and_nothing_is_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[..., object]
) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    with failing(monkeypatch, name, action), pytest.raises((StorageFailed, KeyboardInterrupt)):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_file_is_written_whole_where_the_system_takes_it_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with failing(monkeypatch, "write", half):
        replace_file(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_the_content_is_synced_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def traced(name: str) -> Callable[..., object]:
        original = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            is_folder = name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)  # type: ignore[arg-type]
            calls.append("fsync folder" if is_folder else name)
            return original(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("write", "fsync", "replace"):
            patch.setattr(os, name, traced(name))
        replace_file(tmp_path / "file", b"data")
    assert calls == ["write", "fsync", "replace", "fsync folder"]


def test_a_folder_that_is_there_is_fine_and_one_without_a_parent_is_an_error(tmp_path: Path) -> None:
    make_durable_folder(tmp_path / "a")
    make_durable_folder(tmp_path / "a")
    assert (tmp_path / "a").is_dir()
    with pytest.raises(StorageFailed, match="could not make"):
        make_durable_folder(tmp_path / "b" / "c")


# --- The lease -----------------------------------------------------------------------------------------------------


@contextmanager
def python(code: str, *arguments: object, **options: object) -> Iterator[subprocess.Popen[str]]:
    """A child that runs `code` with the job's paths as `paths`; it is gone at the end, whatever happens."""
    imports = "import os, sys, subprocess", "from pathlib import Path", "from logist.job_files import JobPaths"
    lines = "\n".join([*imports, "from logist.lease import *", code])
    child = subprocess.Popen(
        [sys.executable, "-c", lines, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


HOLD = """
from logist.errors import JobBusy
sys.stdin.readline()
try:
    lease = Lease.take(JobPaths(Path(sys.argv[1])), command="race")
    print("won", flush=True)
except JobBusy:
    print("busy", flush=True)
sys.stdin.readline()
"""


def test_of_runners_that_start_together_just_one_gets_the_lease(paths: JobPaths) -> None:
    with (
        python(HOLD, paths.root) as one,
        python(HOLD, paths.root) as two,
        python(HOLD, paths.root) as three,
        python(HOLD, paths.root) as four,
    ):
        children = (one, two, three, four)
        for child in children:
            assert child.stdin
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = sorted(child.stdout.readline().strip() for child in children if child.stdout)
        assert answers == ["busy", "busy", "busy", "won"]


def test_the_lease_names_its_holder_and_whether_it_lives(paths: JobPaths) -> None:
    assert read_holder(paths) is None
    with Lease.take(paths, command="logist job run", at=AT) as lease:
        assert not os.get_inheritable(lease.fileno())
        holder = read_holder(paths)
        assert holder is not None
        assert (holder.pid, holder.host, holder.command) == (os.getpid(), os.uname().nodename, "logist job run")
        assert holder.since == "2026-03-01T12:00:00Z"
        assert holder.alive
        with pytest.raises(JobBusy, match=rf"process {os.getpid()} .* since 2026-03-01T12:00:00Z.* alive") as caught:
            Lease.take(paths, command="other")
        assert "logist job cancel one" in caught.value.hint
        assert caught.value.exit_code == 75
    assert read_holder(paths) is None
    assert paths.lease.exists()
    Lease.take(paths, command="again").release()


def test_the_lease_of_a_killed_runner_is_free(paths: JobPaths) -> None:
    with python(HOLD, paths.root) as runner:
        assert runner.stdin
        assert runner.stdout
        runner.stdin.write("go\n")
        runner.stdin.flush()
        assert runner.stdout.readline() == "won\n"
        assert read_holder(paths) is not None
        runner.kill()
        runner.wait()
        assert read_holder(paths) is None
        Lease.take(paths, command="next").release()


SPAWN_AND_DIE = """
lease = Lease.take(JobPaths(Path(sys.argv[1])), command="logist job run")
child = subprocess.Popen(["sleep", "600"], pass_fds=[lease.fileno()], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_the_lease_is_held_as_long_as_something_lives_that_inherited_it(paths: JobPaths) -> None:
    with python(SPAWN_AND_DIE, paths.root) as runner:
        assert runner.stdout
        left_behind = int(runner.stdout.readline())
        try:
            assert runner.wait() == -signal.SIGKILL
            holder = read_holder(paths)
            assert holder is not None
            assert holder.pid == runner.pid
            assert not holder.alive
            with pytest.raises(JobBusy, match="that runner died, but something it started still lives"):
                Lease.take(paths, command="next")
        finally:
            os.kill(left_behind, signal.SIGKILL)
        wait_until(lambda: read_holder(paths) is None)
        Lease.take(paths, command="next").release()


def test_giving_the_lease_back_does_not_take_it_from_a_child(paths: JobPaths) -> None:
    lease = Lease.take(paths, command="run")
    child = subprocess.Popen(["sleep", "600"], pass_fds=[lease.fileno()])
    try:
        lease.release()
        lease.release()
        assert read_holder(paths) is not None
    finally:
        child.kill()
        child.wait()
    wait_until(lambda: read_holder(paths) is None)


def test_a_lease_file_that_is_deleted_under_way_is_noticed(paths: JobPaths) -> None:
    with Lease.take(paths, command="first") as lease:
        lease.check_place()
        paths.lease.unlink()
        with pytest.raises(StorageFailed, match="lease was moved, replaced or deleted"):
            lease.check_place()
        with Lease.take(paths, command="second") as second:
            second.check_place()
            with pytest.raises(StorageFailed):
                lease.check_place()


def test_a_lock_on_a_file_that_was_replaced_meanwhile_does_not_count(
    paths: JobPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    calls: list[int] = []

    def replacing(fd: int, mode: int) -> None:
        if not calls:
            paths.lease.unlink()
            paths.lease.touch()
        calls.append(mode)
        flock(fd, mode)

    monkeypatch.setattr(fcntl, "flock", replacing)
    with Lease.take(paths, command="run") as lease:
        lease.check_place()
    assert calls.count(fcntl.LOCK_EX | fcntl.LOCK_NB) == 2


def test_who_only_looks_at_the_lease_never_makes_it_busy(paths: JobPaths) -> None:
    stop = threading.Event()
    looks: list[int] = []

    def look() -> None:
        while not stop.is_set():
            read_holder(paths)
            looks.append(1)

    Lease.take(paths, command="first").release()
    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(150):
            Lease.take(paths, command="run").release()
        wait_until(lambda: len(looks) > 20)
    finally:
        stop.set()
        watcher.join()


@pytest.mark.parametrize("content", [b"", b'{"pid": 1', b"[]", b'{"pid": "x"}', b"\xff"])
def test_a_lease_whose_signature_is_not_readable_is_held_all_the_same(paths: JobPaths, content: bytes) -> None:
    with Lease.take(paths, command="run") as lease:
        os.ftruncate(lease.fileno(), 0)
        os.pwrite(lease.fileno(), content, 0)
        holder = read_holder(paths)
        assert holder is not None
        assert holder.alive
        with pytest.raises(JobBusy, match="held by another process"):
            Lease.take(paths, command="other")


def test_there_is_no_lease_on_a_job_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(JobNotFound):
        Lease.take(JobPaths(tmp_path / "gone"), command="run")
    assert not (tmp_path / "gone").exists()


# --- Requests ------------------------------------------------------------------------------------------------------


def test_a_request_stands_until_it_is_cleared(paths: JobPaths) -> None:
    assert pending(paths, "cancel") is None
    request(paths, "cancel", "too dear", AT)
    request(paths, "cancel", "far too dear", AT)
    assert pending(paths, "cancel") == "far too dear"
    assert pending(paths, "pause") is None
    clear(paths, "cancel")
    clear(paths, "cancel")
    assert pending(paths, "cancel") is None
    assert names(paths.requests) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"message": 5}', b"\xff", b"[" * 200_000])
def test_a_request_file_that_someone_made_by_hand_counts(paths: JobPaths, content: bytes) -> None:
    paths.requests.mkdir()
    (paths.requests / "cancel.json").write_bytes(content)
    assert pending(paths, "cancel") == ""


def test_nothing_is_asked_of_a_job_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JobNotFound):
        request(JobPaths(tmp_path / "gone"), "pause", "", AT)
    assert pending(JobPaths(tmp_path / "gone"), "pause") is None
    clear(JobPaths(tmp_path / "gone"), "pause")
    assert names(tmp_path) == []


# --- Names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a", "0", "my-job_2.1", "a" * 63])
def test_good_ids_pass(text: str) -> None:
    assert check_job_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "../x", "a/b", "/etc", "A", "a b", "a\n", "\n", "a\0b", "-rf", "_a", ".new-a-1", "é", "٣"),
        *("a..b", "a.lock", "a.", "a" * 64, "$(touch x)", "~", "jobs_index.json", os.fsdecode(b"\xff")),
    ],
)
def test_hostile_ids_are_refused_with_a_hint(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageProblem) as caught:
        check_job_id(text)
    assert caught.value.hint
    with pytest.raises(JobNotFound):
        find_job(tmp_path, text)


def test_hostile_names_never_name_a_job(tmp_path: Path, hostile_names: list[str]) -> None:
    for name in hostile_names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "history.jsonl").touch()
    assert job_ids(tmp_path) == ()
    for name in hostile_names:
        with pytest.raises(JobNotFound):
            find_job(tmp_path, name)


def test_only_folders_that_hold_a_manifest_or_a_history_are_jobs(tmp_path: Path) -> None:
    for name, file in (("b", "history.jsonl"), ("a", "job_manifest.json"), (".new-x-1", "history.jsonl")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert job_ids(tmp_path) == ("a", "b")
    assert job_ids(tmp_path / "missing") == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user and back")
def test_a_job_whose_folder_must_not_be_looked_into_is_listed() -> None:
    with tempfile.TemporaryDirectory() as name:
        jobs = Path(name)
        jobs.chmod(0o755)
        (jobs / "shut").mkdir(mode=0o700)
        (jobs / "no-job").mkdir(mode=0o755)
        os.seteuid(12345)
        try:
            assert job_ids(jobs) == ("shut",)
            [row] = list_rows(JobStore(jobs, SystemClock()))
        finally:
            os.seteuid(0)
    assert (row.id, row.status) == ("shut", None)
    assert row.problem.endswith("job_manifest.json can't be read: Permission denied")


@pytest.fixture
def three_jobs(tmp_path: Path) -> Path:
    """A jobs folder with `fix-a`, `fix-b` and `fix`."""
    for name in ("fix-a", "fix-b", "fix", "release"):
        (tmp_path / "jobs" / name).mkdir(parents=True)
        (tmp_path / "jobs" / name / "history.jsonl").touch()
    return tmp_path / "jobs"


def test_a_job_is_found_by_id_by_beginning_and_by_path(three_jobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_job(three_jobs, "fix") == "fix"
    assert find_job(three_jobs, "rel") == "release"
    assert find_job(three_jobs, "fix-a") == "fix-a"
    assert find_job(three_jobs, f"{three_jobs}/fix-b/") == "fix-b"
    monkeypatch.chdir(three_jobs / "release")
    assert find_job(three_jobs, ".") == "release"
    assert find_job(three_jobs, "../fix") == "fix"


def test_a_beginning_of_several_ids_is_refused_and_lists_them(three_jobs: Path) -> None:
    with pytest.raises(UsageProblem, match="beginning of 2") as caught:
        find_job(three_jobs, "fix-")
    assert caught.value.hint == "one of: fix-a, fix-b"


def test_a_job_that_is_not_there_is_reported_with_similar_ones(three_jobs: Path, tmp_path: Path) -> None:
    with pytest.raises(JobNotFound) as caught:
        find_job(three_jobs, "relaese")
    assert caught.value.hint == "did you mean release?"
    with pytest.raises(JobNotFound, match="another jobs folder") as caught:
        find_job(tmp_path / "other", f"{three_jobs}/fix")
    assert caught.value.hint == f"add --jobs-dir {three_jobs}"
    with pytest.raises(JobNotFound) as caught:
        find_job(tmp_path / "none", "x")
    assert "job create" in caught.value.hint


def test_the_jobs_folder_is_the_one_named_then_the_nearest_then_at_the_git_root(tmp_path: Path) -> None:
    inner = tmp_path / "repo" / "src" / "deep"
    inner.mkdir(parents=True)
    assert find_jobs_dir("x", {"LOGIST_JOBS_DIR": "y"}, inner) == inner / "x"
    assert find_jobs_dir(None, {"LOGIST_JOBS_DIR": str(tmp_path / "y")}, inner) == tmp_path / "y"
    assert find_jobs_dir(None, {"LOGIST_JOBS_DIR": ""}, inner) == inner / ".logist" / "jobs"
    (tmp_path / "repo" / ".git").touch()
    assert find_jobs_dir(None, {}, inner) == tmp_path / "repo" / ".logist" / "jobs"
    (tmp_path / ".logist" / "jobs").mkdir(parents=True)
    assert find_jobs_dir(None, {}, inner) == tmp_path / ".logist" / "jobs"
    (tmp_path / "repo" / "src" / ".logist" / "jobs").mkdir(parents=True)
    assert find_jobs_dir(None, {}, inner) == tmp_path / "repo" / "src" / ".logist" / "jobs"
    # An agent's own `.logist` in a workspace holds no jobs.
    (inner / ".logist").mkdir()
    assert find_jobs_dir(None, {}, inner) == tmp_path / "repo" / "src" / ".logist" / "jobs"


def test_the_jobs_folder_ignores_itself_and_nothing_else(tmp_path: Path) -> None:
    ensure_jobs_dir(tmp_path / ".logist" / "jobs")
    assert (tmp_path / ".logist" / ".gitignore").read_text() == "*\n"
    (tmp_path / ".logist" / ".gitignore").write_text("mine\n")
    ensure_jobs_dir(tmp_path / ".logist" / "jobs")
    assert (tmp_path / ".logist" / ".gitignore").read_text() == "mine\n"
    ensure_jobs_dir(tmp_path / "a" / "b")
    assert names(tmp_path / "a") == ["b"]
    (tmp_path / "file").touch()
    with pytest.raises(UsageProblem, match="not a folder"):
        ensure_jobs_dir(tmp_path / "file")


def test_every_attempt_has_a_folder_of_its_own() -> None:
    paths = JobPaths(Path("j"))
    assert paths.step_dir(1, "worker", 1) == Path("j/steps/0001-worker")
    assert paths.step_dir(12345, "supervisor", 3) == Path("j/steps/12345-supervisor.3")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"selected": 5}', b'{"selected": "../x"}', b"\xff"])
def test_an_index_that_can_not_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    assert read_selected(tmp_path) is None
    (tmp_path / "jobs_index.json").write_bytes(content)
    with pytest.raises(InvalidFile, match=r"jobs_index\.json"):
        read_selected(tmp_path)


def test_the_light_half_loads_nothing_heavy() -> None:
    heavy = ("pydantic", "filelock", "psutil", "transitions", "tempfile", "uuid", "logging", "asyncio", "subprocess")
    code = f"import sys, logist.cancellation; print(*sorted(set(sys.modules) & set({heavy!r})))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_an_empty_folder_called_git_makes_no_repository(tmp_path: Path) -> None:
    inner = tmp_path / "project" / "part"
    inner.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    assert find_jobs_dir(None, {}, inner) == inner / ".logist" / "jobs"
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n", encoding="utf-8")
    assert find_jobs_dir(None, {}, inner) == tmp_path / ".logist" / "jobs"
    (tmp_path / "project" / ".git").write_text("gitdir: elsewhere\n", encoding="utf-8")
    assert find_jobs_dir(None, {}, inner) == tmp_path / "project" / ".logist" / "jobs"
