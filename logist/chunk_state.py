"""The state of a spec's runs on disk, in `.logist/<spec name>/` beside it: manifest, history, logs, joblog.

What counts is the history. A chunk is done only by its own record `chunk_ended`, which is written after its output was
verified and is on the disk; whatever else lies about is of an attempt that was killed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from logist.chunk_attempts import RUN_VARIABLE
from logist.chunk_keys import ChunkKeys
from logist.chunks import ChunkId, ChunkResult, ChunkStatus, MergeResult, Output, RunReport
from logist.clock import Clock
from logist.durable import iso, make_durable_folder, replace_file, storage_failed
from logist.errors import InvalidFile
from logist.execution.leftovers import kill_leftovers
from logist.job_files import JobPaths, manifest_bytes
from logist.journal import Journal, Line
from logist.lease import Lease
from logist.lifecycle import JobStatus
from logist.models.chunk_history import (
    ChunkBegan,
    ChunkEnded,
    ChunkHistoryRecord,
    ChunkManifest,
    MergeEnded,
    RunBegan,
    RunEnded,
    read_record,
    to_document,
)
from logist.specs import RenderChunk, RenderSpec
from logist.takeover import take_over

#: Seconds between two manifests of one run.
_MANIFEST_PACE = 1.0
#: Seconds after which records that nothing else makes durable are synced.
_SYNC_PACE = 1.0
_RUNNING = "a runner took the spec"
#: The columns that GNU parallel's `--joblog` has.
JOBLOG_HEADER = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"


class StatePaths(NamedTuple):
    """Every file name of one spec's state. `root` is its folder."""

    root: Path

    @property
    def job(self) -> JobPaths:
        """The names that it has in common with a job: manifest, history, lease, requests."""
        return JobPaths(self.root)

    @property
    def logs(self) -> Path:
        """What the commands printed, a file an attempt."""
        return self.root / "chunks"

    @property
    def joblog(self) -> Path:
        """One line an attempt, for who knows GNU parallel."""
        return self.root / "joblog.tsv"


def state_paths(folder: Path, name: str) -> StatePaths:
    """Where the state of the spec `name` in `folder` is. `.logist/jobs` is the folder of the jobs."""
    return StatePaths(folder / ".logist" / (f"{name}.spec" if name == "jobs" else name))


class SpecPast:
    """What the history says: the last end of each chunk, what was running, and how the last run ended."""

    def __init__(self) -> None:
        self.began: RunBegan | None = None
        self.ended: RunEnded | None = None
        self.chunks: dict[ChunkId, ChunkEnded] = {}
        self.running: dict[ChunkId, ChunkBegan] = {}
        self.merge: MergeEnded | None = None

    def take(self, record: ChunkHistoryRecord) -> None:
        """Lay one more record over it."""
        match record:
            case RunBegan():
                self.began, self.ended = record, None
                self.running.clear()
            case ChunkBegan():
                self.running[record.chunk] = record
                # Its output is being overwritten from here on, and the merged file is of what was there before.
                self.chunks.pop(record.chunk, None)
                self.merge = None
            case ChunkEnded():
                self.running.pop(record.chunk, None)
                self.chunks[record.chunk] = record
            case MergeEnded():
                self.merge = record
            case RunEnded():
                self.ended = record
                self.running.clear()

    def done(self) -> dict[ChunkId, ChunkEnded]:
        """The chunks that a record says are done."""
        return {chunk: ended for chunk, ended in self.chunks.items() if ended.status is ChunkStatus.DONE}


def read_records(paths: StatePaths) -> Iterator[tuple[str, ChunkHistoryRecord]]:
    """Every record with its time (ISO 8601), oldest first; none when nothing was run. Raises InvalidFile."""
    if not paths.job.history.exists():
        return
    for line in _sound_lines(paths):
        try:
            yield line.at, read_record(line.record)
        except ValueError as error:
            raise InvalidFile(
                f"{paths.job.history}, record {line.seq}, is not one of a chunk run",
                "a newer Logist may have written it; upgrade, or move the folder away to start afresh",
            ) from error


def _sound_lines(paths: StatePaths) -> Iterator[Line]:
    try:
        yield from Journal(paths.job.history).read_all()
    except InvalidFile as error:
        raise InvalidFile(
            error.message, f"restore it from a backup, or move {paths.root} away: then every chunk is made anew"
        ) from error


def read_past(paths: StatePaths) -> SpecPast:
    """What the history says. Raises InvalidFile when it is damaged."""
    past = SpecPast()
    for _, record in read_records(paths):
        past.take(record)
    return past


class SpecState:
    """One spec's state, held by this process: the only way to write it. A `Recorder`; several threads may use it."""

    def __init__(self, paths: StatePaths, lease: Lease, clock: Clock) -> None:
        self.paths = paths
        self.lease = lease
        self._clock = clock
        self._lock = threading.Lock()
        #: What the history says.
        self.past = read_past(paths)
        self._journal = _open_journal(paths)
        self._run = RunBegan(spec_sha256="", chunks=0, frames=0, skipped=0, skipped_frames=0, concurrency=0, token="")
        self._name = ""
        self._spec: RenderSpec | None = None
        self._keys: ChunkKeys | None = None
        #: Of the chunks that run or may: the key, and the inputs that were there, when that began.
        self._running: dict[ChunkId, tuple[str, frozenset[str]]] = {}
        #: Files that a chunk's command makes itself, of the few that do.
        self._own: dict[ChunkId, tuple[str, ...]] = {}
        self._synced_at = time.monotonic()
        #: Where each chunk stands in the spec, from 1.
        self._order: dict[ChunkId, int] = {}
        self._outputs: dict[ChunkId, Output] = {}
        self._done = self._failed = self._frames_done = 0
        self._manifest_at = 0.0
        try:
            self._joblog = _open_joblog(paths.joblog)
        except BaseException:  # whatever it was, it travels on; the open file must not stay behind
            self._journal.close()
            raise

    def begin(
        self,
        run: RunBegan,
        spec: RenderSpec,
        name: str,
        keys: ChunkKeys,
        done: Mapping[ChunkId, ChunkEnded],
    ) -> None:
        """A run begins; `done` are the chunks that are done already."""
        self._run, self._name, self._keys, self._spec = run, name, keys, spec
        self._order = {chunk.id: number for number, chunk in enumerate(spec.chunks, start=1)}
        self._outputs = {chunk: ended.output for chunk, ended in done.items() if ended.output is not None}
        self._own = {chunk: ended.own for chunk, ended in done.items() if ended.own}
        self._done, self._frames_done = run.skipped, run.skipped_frames
        self._record(run, sync=True)
        self._save(JobStatus.RUNNING, _RUNNING)

    def expects(self, chunk: RenderChunk) -> Mapping[str, str]:
        """An attempt may begin unseen from now on. Returns the files that it reads, each with a hash."""
        if self._keys is None:
            return {}
        # Now and not at its end: an input that is changed under way must not pass for the one that was read.
        found = self._keys.inputs(chunk)
        self._running[chunk.id] = self._keys.with_inputs(chunk, found), frozenset(found)
        return found

    def began(self, chunk: RenderChunk, attempt: int, log: str) -> None:
        """An attempt begins."""
        self.lease.check_place()
        if chunk.id not in self._running:
            self.expects(chunk)
        self._record(ChunkBegan(chunk=chunk.id, attempt=attempt, log=log))

    def ended(self, chunk: RenderChunk, result: ChunkResult, began_at: float, received: int) -> None:
        """An attempt ended; a verified output is on the disk before the record says so."""
        key, inputs = self._running.pop(chunk.id, ("", frozenset()))
        own: tuple[str, ...] = ()
        if self._keys is not None and result.status is ChunkStatus.DONE:
            own = tuple(sorted(self._keys.inputs(chunk).keys() - inputs))
        self._record(
            ChunkEnded(
                chunk=chunk.id,
                attempt=result.attempt,
                key=key if result.status is ChunkStatus.DONE else "",
                status=result.status,
                start_frame=chunk.start_frame,
                frames=chunk.frame_count,
                exit_code=result.exit_code,
                signal=result.signal,
                duration=result.duration,
                problem=result.problem,
                output=result.output,
                log=result.log,
                own=own,
            )
        )
        self._log_job(chunk, result, began_at, received)
        # A chunk without output is only run again when its record is lost; but not too many at once.
        if result.output is not None or time.monotonic() - self._synced_at > _SYNC_PACE:
            # Outside the lock: the others need not wait.
            self._sync()
        if time.monotonic() - self._manifest_at > _MANIFEST_PACE:
            self._save(JobStatus.RUNNING, _RUNNING)

    def taken(self, chunk: RenderChunk, output: Output, *, of_this_spec: bool) -> None:
        """A chunk that somebody else made is taken for the merge; for the next runs too when it is `of_this_spec`."""
        self._outputs[chunk.id] = output
        if not of_this_spec:
            return
        self._record(
            ChunkEnded(
                chunk=chunk.id,
                attempt=0,
                key="" if self._keys is None else self._keys.of_chunk(chunk),
                status=ChunkStatus.DONE,
                start_frame=chunk.start_frame,
                frames=chunk.frame_count,
                exit_code=None,
                signal=0,
                duration=0.0,
                output=output,
            )
        )

    def merged(self, result: MergeResult) -> None:
        """The merge ended."""
        self._record(
            MergeEnded(
                key=self._merge_key(),
                status=result.status,
                exit_code=result.exit_code,
                duration=result.duration,
                problem=result.problem,
                output=result.output,
                log=result.log,
            ),
            sync=True,
        )

    def end(self, report: RunReport) -> None:
        """The run is over."""
        self._record(RunEnded(status=report.status, reason=report.reason), sync=True)
        self._save(report.status, report.reason)

    def close(self) -> None:
        """Close the files and give the lease back."""
        os.close(self._joblog)
        self._journal.close()
        self.lease.release()

    def _merge_key(self) -> str:
        if self._keys is None or self._spec is None:
            return ""
        return merge_key(self._keys, self._spec, self._outputs, self._own)

    def _record(self, record: ChunkHistoryRecord, *, sync: bool = False) -> None:
        with self._lock:
            self._journal.append(self._clock.now(), to_document(record), sync=sync)
            if isinstance(record, ChunkEnded) and record.status is ChunkStatus.DONE and record.attempt:
                self._done += 1
                self._frames_done += record.frames
                if record.output is not None:
                    self._outputs[record.chunk] = record.output
                if record.own:
                    self._own[record.chunk] = record.own
            elif isinstance(record, ChunkEnded) and record.status is ChunkStatus.FAILED:
                self._failed += 1

    def _sync(self) -> None:
        self._synced_at = time.monotonic()
        try:
            os.fsync(self._journal.fileno())
        except OSError as error:
            raise storage_failed("sync", self.paths.job.history, error) from error

    def _log_job(self, chunk: RenderChunk, result: ChunkResult, began_at: float, received: int) -> None:
        command = chunk.command if isinstance(chunk.command, str) else " ".join(chunk.command)
        columns = (
            self._order.get(chunk.id, 0),
            ":",
            f"{began_at:.3f}",
            f"{result.duration:.3f}",
            0,
            received,
            -1 if result.exit_code is None else 0 if result.signal else result.exit_code,
            result.signal,
            " ".join(command.split()),
        )
        line = "\t".join(map(str, columns)) + "\n"
        try:
            os.write(self._joblog, line.encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise storage_failed("write", self.paths.joblog, error) from error

    def _save(self, status: JobStatus, reason: str) -> None:
        began = self._run
        self.lease.check_place()
        with self._lock:
            self._manifest_at = time.monotonic()
            manifest = ChunkManifest(
                spec=self._name,
                spec_sha256=began.spec_sha256,
                seq=self._journal.last_seq,
                updated_at=iso(self._clock.now()),
                status=status,
                reason=reason,
                chunks=began.chunks,
                done=self._done,
                failed=self._failed,
                frames=began.frames,
                frames_done=self._frames_done,
            )
            replace_file(self.paths.job.manifest, manifest_bytes(to_document(manifest)))


@contextlib.contextmanager
def open_state(paths: StatePaths, clock: Clock) -> Iterator[SpecState]:
    """Hold the state of a spec. Raises JobBusy when another runner does, InvalidFile, StorageFailed."""
    _make_folders(paths)

    def take() -> SpecState:
        lease = Lease.take(paths.job, command="run", at=clock.now())
        try:
            return SpecState(paths, lease, clock)
        except BaseException:  # whatever it was, it travels on; the lease must not stay held
            lease.release()
            raise

    state = take_over(paths.job, clock, take)
    try:
        began = state.past.began
        if began is not None and state.past.ended is None and began.token:
            # What a killed run had started may have let go of the lease, and write into an output even now.
            kill_leftovers(None, marker=(RUN_VARIABLE, began.token))
        yield state
    finally:
        state.close()


def _make_folders(paths: StatePaths) -> None:
    logist = paths.root.parent
    if not logist.is_dir():
        make_durable_folder(logist)
    ignore = logist / ".gitignore"
    if not ignore.exists():
        replace_file(ignore, b"*\n")
    for folder in (paths.root, paths.job.requests, paths.logs):
        if not folder.is_dir():
            make_durable_folder(folder)


def _open_journal(paths: StatePaths) -> Journal:
    if not paths.job.history.exists():
        return Journal.create(paths.job.history)
    journal = Journal(paths.job.history)
    journal.open_for_append()
    return journal


def _open_joblog(path: Path) -> int:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        if os.fstat(fd).st_size == 0:
            os.write(fd, JOBLOG_HEADER.encode())
    except OSError as error:
        raise storage_failed("open", path, error) from error
    return fd


def merge_key(
    keys: ChunkKeys,
    spec: RenderSpec,
    outputs: Mapping[ChunkId, Output],
    own: Mapping[ChunkId, tuple[str, ...]],
) -> str:
    """The key of the merge of these chunks as they are now."""
    return keys.of_merge((keys.of_chunk(chunk, own.get(chunk.id, ())), outputs.get(chunk.id)) for chunk in spec.chunks)
