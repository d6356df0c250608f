"""Runs without a shared folder: a spec's files travel through a storage, and its outputs come back."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from aiohttp import ClientTimeout
from moto.server import ThreadedMotoServer
from specs import spec, video_spec, write_spec
from test_chunk_commands import Logist, assert_refused, wait_for
from test_chunk_commands import logist as logist
from videos import read_numbers

from logist.chunk_options import ExecutionOptions
from logist.chunk_state import read_records, state_paths
from logist.chunks import ChunkStatus, RunReport
from logist.clock import SystemClock
from logist.commands.stored import tell_bundle
from logist.errors import StorageFailed
from logist.execution import BatchItem, BatchTerms, Command, CommandResult
from logist.execution.local import LocalWorkerAdapter
from logist.models.chunk_history import ChunkEnded
from logist.render.verify import Expected, verify
from logist.spec_bundles import bundle_of, make_bundle
from logist.spec_files import LoadedSpec, load_spec
from logist.spec_runs import run_spec
from logist.storage.cache import Cache
from logist.storage.objects import Storage, open_storage
from logist.storage.outputs import OutputPlace, publish
from logist.storage.transfers import at_once
from logist.storage.unpacking import unpack
from logist.stored_adapter import stored

SECRET = "wJalrXUtnFEMIhunter2"
TEXTS = "chunk 0\nchunk 1\nchunk 2\n"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A folder with a spec whose chunks read a file that is nowhere else."""
    folder = tmp_path / "film"
    folder.mkdir()
    (folder / "word.txt").write_text("chunk")
    outputs = [f"out/{number}.txt" for number in range(3)]
    commands = [f'echo "$(cat word.txt) {number}" > {output}' for number, output in enumerate(outputs)]
    write_spec(folder, spec(commands, outputs=outputs, merge=f"cat {' '.join(outputs)} > all.txt", output="all.txt"))
    return folder


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where workers make their folders: empty before and, unless a test says otherwise, afterwards."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a storage in a new bucket; what reaches it is in the environment, as for AWS' own tools."""
    environment = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{os.urandom(6).hex()}"
    open_storage(f"s3://{bucket}")._system.mkdir(bucket)
    return f"s3://{bucket}/films"


def load(folder: Path) -> LoadedSpec:
    return load_spec("job.json", trust=False, allow_outside=False, stdin=lambda: pytest.fail("read"), cwd=folder)


Run = Callable[..., RunReport]


@pytest.fixture
def run(film: Path, scratch: Path) -> Run:
    """Run the film with `there` as the place of its chunks."""

    def run(storage: Storage, there: LocalWorkerAdapter, **options: Any) -> RunReport:
        loaded = load(film)
        made = make_bundle(loaded, storage)
        adapter = stored(there, there, loaded, storage, made.address)
        return run_spec(loaded, adapter, ExecutionOptions(job_dir=film, **options), SystemClock())

    return run


class Meddler(LocalWorkerAdapter):
    """This machine, where something happens before a command or after it, each time another one."""

    def __init__(
        self, *, before: Sequence[Callable[[], object]] = (), after: Sequence[Callable[[], object]] = ()
    ) -> None:
        super().__init__(grace=0.2)
        self._before, self._after = list(before), list(after)

    def run(self, command: Command, **callbacks: Any) -> CommandResult:
        if self._before:
            self._before.pop(0)()
        try:
            return super().run(command, **callbacks)
        finally:
            if self._after:
                self._after.pop(0)()


# --- Whole runs ----------------------------------------------------------------------------------------------------


def test_a_spec_runs_where_nothing_of_its_folder_is(
    logist: Logist, film: Path, tmp_path: Path, scratch: Path, s3: str
) -> None:
    content = json.loads((film / "job.json").read_text())
    content["chunks"][0]["command"] += "; pwd; echo said >&2"
    write_spec(film, content)
    done = logist("job", "run", "film/job.json", "--storage", s3, "--concurrency", "3")
    assert done.code == 0, done.err
    assert "2 files" in done.err
    assert "uploading 2 of them" in done.err
    assert (film / "all.txt").read_text() == TEXTS
    log = (film / ".logist" / "job.json" / "chunks" / "0.log").read_text()
    assert log.startswith(f"{scratch}/logist-chunk-")
    assert log.endswith("\nsaid\n")
    assert sorted(path.name for path in (film / ".logist" / "job.json" / "chunks").iterdir()) == ["0.log"]
    assert list(scratch.iterdir()) == []
    again = logist("job", "run", "film/job.json", "--storage", s3)
    assert "3 chunks were done before" in again.err
    assert "all there already" in again.err
    assert secrets_below(tmp_path) == []
    assert SECRET not in done.out + done.err + again.err


def secrets_below(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
def test_videos_come_back_whole_with_every_frame_once(logist: Logist, tmp_path: Path, scratch: Path, s3: str) -> None:
    film = tmp_path / "film"
    film.mkdir()
    write_spec(film, video_spec([4, 3, 5]))
    done = logist("job", "run", "film/job.json", "--storage", s3, "--concurrency", "2", "--json")
    assert done.code == 0, done.err
    assert read_numbers(film / "final.mp4") == list(range(12))


def test_workers_need_the_storage_alone(
    logist: Logist, film: Path, tmp_path: Path, scratch: Path, s3: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(
        f"[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = {SECRET}\n"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    address = logist("bundle", "film/job.json", "--storage", s3).out.strip()
    film.rename(tmp_path / "gone")
    for number in range(3):
        done = logist(
            "job", "run", address, "--chunk", "auto", "--no-merge", "--trust", env={"JOB_COMPLETION_INDEX": str(number)}
        )
        assert done.code == 0, done.err
    assert f"logist job run {address} --trust --merge-only" in done.err
    assert list(scratch.iterdir()) == []
    (tmp_path / "gone").rename(film)
    assert logist("job", "run", "film/job.json", "--storage", s3, "--merge-only").code == 0
    assert (film / "all.txt").read_text() == TEXTS
    merged = logist("job", "run", address, "--trust", "--merge-only")
    assert merged.code == 0, merged.err
    (kept,) = tmp_path.glob("bundle-*")
    assert (kept / "all.txt").read_text() == TEXTS
    assert secrets_below(tmp_path) == []


def test_a_merge_says_which_outputs_nobody_uploaded(logist: Logist, film: Path, scratch: Path, tmp_path: Path) -> None:
    address = logist("bundle", "film/job.json", "--storage", "store").out.strip()
    assert logist("job", "run", address, "--trust", "--chunk", "1").code == 0
    (outputs,) = (tmp_path / "store" / "outputs").iterdir()
    (outputs / "of a stranger").touch()
    (outputs / "stranger.json").touch()
    missing = logist("job", "run", "film/job.json", "--storage", "store", "--merge-only")
    assert_refused(missing, 5, "0 (file://", "has no output of it that was made from bundle", "2 (file://")
    assert "1 (" not in missing.err


def test_a_bundle_is_kept_beside_what_was_there_whoever_is_quicker(
    logist: Logist, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = logist("bundle", "film/job.json", "--storage", "store").out.strip()
    kept = tmp_path / f"bundle-{address[-64:][:12]}"
    others = [tmp_path / ".bundle-abcdefgh", tmp_path / f".{kept.name}.logist-bundle-of-mine"]
    for folder in others:
        folder.mkdir()

    def unpacked_by_two(storage: Storage, sha256: str, cache: Cache, folder: Path) -> Any:
        made = unpack(storage, sha256, cache, folder)
        shutil.copytree(folder, kept)
        return made

    monkeypatch.setattr("logist.stored_chunks.unpack", unpacked_by_two)
    done = logist("job", "run", address, "--trust")
    assert done.code == 0, done.err
    assert (kept / "all.txt").read_text() == TEXTS
    assert sorted(tmp_path.glob(".*bundle-*")) == sorted(others)


def test_a_spec_that_is_called_like_standard_input_is_a_file(logist: Logist, film: Path, scratch: Path) -> None:
    (film / "job.json").rename(film / "-")
    done = logist("job", "run", "film/-", "--storage", "store")
    assert done.code == 0, done.err


def test_a_failing_command_fails_as_it_does_at_home(run: Run, film: Path, scratch: Path, tmp_path: Path) -> None:
    write_spec(film, spec(["echo no; exit 3", "true"], outputs=["a.txt", "b.txt"]))
    with_file = open_storage(str(tmp_path / "store"))
    there = LocalWorkerAdapter(grace=0.2)
    report = run(with_file, there, halt="never", log_dir=tmp_path)
    there.close()
    first, second = sorted(report.results, key=lambda result: str(result.chunk))
    assert (first.exit_code, first.problem, first.tail) == (3, "exit code 3", "no\n")
    assert (second.exit_code, second.tail) == (5, "Error: exit code 0, but its output b.txt is not there\n")
    assert with_file.names("outputs") == []
    assert list(scratch.iterdir()) == []


def test_the_folder_of_the_spec_can_be_away_while_its_chunks_run(run: Run, film: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    there = Meddler(before=[lambda: film.rename(away)] * 3, after=[lambda: away.rename(film)] * 3)
    assert run(open_storage(str(tmp_path / "store")), there).status == "SUCCESS"
    there.close()
    assert (film / "all.txt").read_text() == TEXTS


# --- Exactly once, whatever happens --------------------------------------------------------------------------------


def test_an_output_that_was_damaged_in_the_storage_is_made_again(run: Run, film: Path, s3: str) -> None:
    storage = open_storage(s3)

    def damage() -> None:
        for name in storage.names("outputs"):
            if not name.endswith(".json"):
                storage.write(name, b"CHUNK 0\n")

    there = Meddler(after=[damage])
    report = run(storage, there)
    there.close()
    assert report.status == "SUCCESS"
    assert (film / "all.txt").read_text() == TEXTS
    ended = [record for _, record in read_records(state_paths(film, "job.json")) if isinstance(record, ChunkEnded)]
    (first,) = [record for record in ended if record.status is ChunkStatus.FAILED]
    assert "0.txt is not what was uploaded: its content's hash differs" in first.problem
    assert sorted(record.chunk for record in ended if record.status is ChunkStatus.DONE) == [0, 1, 2]


def test_of_two_uploads_one_is_taken(run: Run, film: Path, tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "store"))
    bundle = bundle_of(load(film), storage).sha256

    def upload_too() -> None:
        late = tmp_path / "late.txt"
        late.write_text("chunk 0, by another\n")
        output = verify(late, "late.txt", Expected(1)).output
        assert output is not None
        publish(OutputPlace(storage, bundle, 0), "0-another", output)

    there = Meddler(before=[upload_too], after=[upload_too])
    report = run(storage, there)
    there.close()
    assert report.status == "SUCCESS"
    assert (film / "all.txt").read_text() == TEXTS
    assert len([name for name in storage.names(f"outputs/{bundle}/0") if name.endswith(".json")]) == 2


def test_an_upload_of_a_run_that_died_is_taken_when_it_is_all_there_is(run: Run, film: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"

    def rename_record() -> None:
        (record,) = store.glob("outputs/*/0/*.json")
        record.rename(record.with_name("of-a-run-that-died-0.json"))

    there = Meddler(after=[rename_record])
    report = run(open_storage(str(store)), there)
    there.close()
    assert [(result.attempt, result.status) for result in report.results] == [(1, ChunkStatus.DONE)] * 3
    assert (film / "all.txt").read_text() == TEXTS


class Gate(socketserver.ThreadingTCPServer):
    """A way to a server that lets nothing more through once so many bytes came in one connection."""

    MOST = 1_000_000

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), Relay)
        host, port = server.removeprefix("http://").rsplit(":", 1)
        self.behind = (host, int(port))
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.reached = threading.Event()


class Relay(socketserver.BaseRequestHandler):
    """One connection through the gate."""

    server: Gate

    def handle(self) -> None:
        passed = 0
        with contextlib.suppress(ConnectionError), socket.create_connection(self.server.behind) as behind:
            while True:
                for source in select.select([self.request, behind], [], [])[0]:
                    data = source.recv(65536)
                    passed += len(data) if source is self.request else 0
                    if not data:
                        return
                    if passed > Gate.MOST:
                        self.server.reached.set()
                    else:
                        (behind if source is self.request else self.request).sendall(data)


@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_of_an_upload_leaves_nothing_that_counts(
    logist: Logist, film: Path, tmp_path: Path, s3: str, s3_server: str
) -> None:
    write_spec(film, spec(["head -c 3000000 /dev/zero > big.txt"], outputs=["big.txt"]))
    address = logist("bundle", "film/job.json", "--storage", s3).out.strip()
    gate = Gate(s3_server)
    serving = threading.Thread(target=gate.serve_forever)
    serving.start()
    worker = subprocess.Popen(
        [sys.executable, "-m", "logist", "job", "run", address, "--chunk", "0", "--trust"],
        cwd=tmp_path,
        env={**os.environ, "AWS_ENDPOINT_URL": gate.url},
        stderr=subprocess.DEVNULL,
    )
    try:
        assert gate.reached.wait(30)
    finally:
        worker.kill()
        worker.wait()
        gate.shutdown()
        serving.join()
        gate.server_close()
    assert open_storage(s3).names("outputs") == []
    assert logist("job", "run", address, "--chunk", "0", "--trust").code == 0
    assert logist("job", "run", "film/job.json", "--storage", s3, "--merge-only").code == 0
    assert (film / "big.txt").stat().st_size == 3_000_000


def test_a_worker_that_is_told_to_end_ends_its_command_and_leaves_nothing(
    film: Path, tmp_path: Path, scratch: Path
) -> None:
    begun = tmp_path / "begun"
    write_spec(film, spec([f"touch {begun}; sleep 60; true"], outputs=["a.txt"]))
    made = make_bundle(load(film), open_storage(str(tmp_path / "store")))
    worker = subprocess.Popen(
        [sys.executable, "-m", "logist.commands.stored_chunk", *made.address, "0"], stderr=subprocess.PIPE
    )
    wait_for(begun)
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=20)
    assert worker.returncode == 143
    assert said == b"stopped by SIGTERM: nothing half made is left\n"
    assert list(scratch.iterdir()) == []


def test_a_merge_that_waits_for_a_silent_storage_ends_when_it_is_told_to(
    logist: Logist, film: Path, tmp_path: Path, s3: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        waiting = subprocess.Popen(
            [sys.executable, "-m", "logist", "job", "run", "film/job.json", "--storage", s3, "--merge-only"],
            cwd=tmp_path,
            env={**os.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"},
            stderr=subprocess.PIPE,
        )
        silent.settimeout(30)
        silent.accept()[0].close()
        with silent.accept()[0]:
            waiting.send_signal(signal.SIGTERM)
            _, said = waiting.communicate(timeout=20)
    assert waiting.returncode == 143
    assert said == b"stopped by SIGTERM: what was brought is kept\n"


def test_of_transfers_that_run_none_is_waited_for_by_who_is_stopped() -> None:
    begun, go_on = threading.Event(), threading.Event()
    ended: list[int] = []

    def transfer(number: int) -> None:
        begun.set()
        go_on.wait(10)
        ended.append(number)

    def stop(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, stop)
    stopper = threading.Thread(target=lambda: (begun.wait(), signal.raise_signal(signal.SIGUSR1)))
    stopper.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            at_once(transfer, range(100))
        assert ended == []
    finally:
        go_on.set()
        stopper.join()
        signal.signal(signal.SIGUSR1, before)


# --- A place that takes all commands at once -----------------------------------------------------------------------


class Batch(LocalWorkerAdapter):
    """This machine as a place that is given a run's commands all at once, and runs none that it was not given."""

    def __init__(self) -> None:
        super().__init__(grace=0.2)
        self.items: list[BatchItem] = []

    def adopt(self, items: Sequence[BatchItem], terms: BatchTerms) -> frozenset[int]:
        return frozenset()

    def submit(self, items: Sequence[BatchItem]) -> None:
        self.items += items

    def run(self, command: Command, **callbacks: Any) -> CommandResult:
        assert command.env["LOGIST_CHUNK"] == "merge" or command in [item.command for item in self.items]
        return super().run(command, **callbacks)

    def withdraw(self) -> None:
        pass

    def finish(self) -> bool:
        return True


def test_what_is_submitted_in_advance_is_what_a_worker_runs(run: Run, film: Path, tmp_path: Path) -> None:
    storage, there = open_storage(str(tmp_path / "store")), Batch()
    assert run(storage, there).status == "SUCCESS"
    there.close()
    assert (film / "all.txt").read_text() == TEXTS
    bundle = bundle_of(load(film), storage).sha256
    # Nothing of them names a place that only the submitter has.
    assert [item.command.argv[-3:] for item in there.items] == [(storage.url, bundle, str(chunk)) for chunk in range(3)]
    assert {(item.command.cwd, item.command.shell, item.output) for item in there.items} == {(Path("/"), None, None)}


# --- Errors --------------------------------------------------------------------------------------------------------


def test_a_bucket_that_is_not_there_is_named(logist: Logist, film: Path, s3: str) -> None:
    refused = logist("job", "run", "film/job.json", "-q", "--storage", "s3://no-such-bucket-here/x")
    assert_refused(refused, 1, "s3://no-such-bucket-here/x", "there is no such bucket or folder")


def test_without_credentials_it_says_how_to_give_them(
    logist: Logist, film: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert_refused(logist("bundle", "film/job.json", "--storage", s3), 1, "no credentials", "AWS_PROFILE")


def test_the_memory_of_this_program_is_no_storage_for_others(film: Path, logist: Logist) -> None:
    assert_refused(
        logist("bundle", "film/job.json", "--storage", "memory://film"), 2, "ends with this program", "--help"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["job", "run", "film/job.json", "--storage", "s3://KEY:hunter2@b/x"], 2, "a user and a password"),
        (["job", "run", "film/job.json", "--storage", "nonsense://x"], 2, "nonsense:// is no storage"),
        (["job", "run", "film/job.json", "--storage", "http://127.0.0.1:9/x"], 2, "can only be read"),
        (["job", "run", "film/job.json", "--storage", "film/store"], 2, "the spec's own folder"),
        (["job", "run", "film/job.json", "--storage", "s", "--allow-outside"], 2, "exclude each other"),
        (["job", "run", "some-job", "--storage", "s"], 2, "--storage is for a spec"),
        (["job", "run", f"store/bundles/{'0' * 64}", "--chunk", "0"], 2, "is not trusted"),
        (["job", "run", f"store/bundles/{'0' * 64}", "--chunk", "0", "--trust"], 1, "has no bundles/"),
        (["job", "run", f"http://127.0.0.1:9/bundles/{'0' * 64}", "--chunk", "0", "--trust"], 2, "can only be read"),
        (["bundle", "film/none.json", "--storage", "s"], 2, "there is no file"),
        (["bundle", "-", "--storage", "s"], 78, "standard input is empty"),
    ],
)
def test_what_can_not_be_is_refused_in_two_lines(
    logist: Logist, film: Path, arguments: list[str], code: int, words: str
) -> None:
    outcome = logist(*arguments)
    assert_refused(outcome, code, words)
    assert "hunter2" not in outcome.err


def test_a_bundle_is_told_as_json(logist: Logist, film: Path, tmp_path: Path) -> None:
    told = json.loads(logist("bundle", "film/job.json", "--storage", "store", "--json").out)
    assert told["address"] == f"file://{tmp_path}/store/bundles/{told['sha256']}"
    assert (told["files"], told["uploadedFiles"]) == (2, 2)
    assert told["bytes"] == told["uploadedBytes"] == sum(path.stat().st_size for path in film.iterdir())


def test_of_a_large_bundle_it_is_said_how_to_make_it_smaller(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_bundle(load(film), open_storage(str(tmp_path / "store")))
    tell_bundle(made)
    monkeypatch.setattr("logist.commands.stored.LARGE", made.bundle.size - 1)
    tell_bundle(made)
    small, large = capsys.readouterr().err.splitlines()
    assert large == f"{small}; what no chunk reads can be named in .logistignore"


# --- From the web --------------------------------------------------------------------------------------------------


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A server that gives what is in `store`, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "store")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_bundle_can_be_read_from_the_web_once_for_all_chunks_of_a_machine(
    logist: Logist, film: Path, tmp_path: Path, web: tuple[str, list[str]]
) -> None:
    url, asked = web
    address = json.loads(logist("bundle", "film/job.json", "--storage", "store", "--json").out)
    target = f"{url}/bundles/{address['sha256']}"
    for number in ("0", "1"):
        done = logist("job", "run", target, "--storage", "results", "--chunk", number, "--trust")
        assert done.code == 0, done.err
    assert len(asked) == len(set(asked)) == 3
    made = [path for path in (tmp_path / "results").glob("outputs/*/*/*") if path.suffix != ".json"]
    assert sorted(path.read_text() for path in made) == ["chunk 0\n", "chunk 1\n"]


class Slow(http.server.BaseHTTPRequestHandler):
    """Sends an object by the piece, and pauses between two of them; the last one of some never comes."""

    pause = threading.Event()

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "8")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for _ in range(7 if self.path == "/never" else 8):
                self.wfile.write(b"x")
                self.pause.wait(0.1)
            self.pause.wait(30 if self.path == "/never" else 0)


def test_a_server_may_take_long_as_long_as_it_is_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The library's own limit is of the whole, so that what is large could never be had.
    monkeypatch.setattr("aiohttp.client.DEFAULT_TIMEOUT", ClientTimeout(total=0.5))
    monkeypatch.setattr("logist.storage.objects.SILENCE", 2.0)
    monkeypatch.setattr("logist.storage.objects.ATTEMPTS", 1)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        storage = open_storage(f"http://127.0.0.1:{server.server_port}")
        assert storage.read("slowly", 100) == b"x" * 8
        with pytest.raises(StorageFailed, match="could not read never"):
            storage.read("never", 100)
    finally:
        Slow.pause.set()
        server.shutdown()
        thread.join()
        server.server_close()
