"""Jobs on disk: create, load, open, record. With `cancellation` the only writer of `job_manifest.json`."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from logist.clock import Clock
from logist.durable import (
    Document,
    iso,
    make_durable_folder,
    new_file,
    replace_file,
    storage_failed,
    sweep_temporary_files,
    sync_folder,
    to_json,
)
from logist.errors import InvalidFile, JobBusy, JobNotFound, UsageProblem
from logist.job_files import (
    INDEX_NAME,
    JobPaths,
    check_job_id,
    check_schema,
    ensure_jobs_dir,
    find_job,
    invalid_manifest,
    is_job,
    job_ids,
    manifest_bytes,
    parse_manifest,
    read_manifest_bytes,
    read_selected,
)
from logist.journal import Journal, Line, merge
from logist.lease import Holder, Lease, read_holder
from logist.lifecycle import Trigger
from logist.models.manifest import JobManifest

# Slow to import, and most commands read no record but by its number: `models.history` is imported where it is needed.
if TYPE_CHECKING:
    from logist.models.history import Change, HistoryEntry, HistoryRecord

_NEW = ".new-"
#: Seconds to wait for another process that changes the jobs folder.
_INDEX_TIMEOUT = 10.0
#: Records after which no step is half done. Stops and starts don't end a step, so they are none.
_BOUNDARIES = frozenset({"created", "committed", "resolution"})


def change(**fields: object) -> Change:
    """Fields of the manifest as a record's `change` holds them. Raises TypeError for a field that is not there."""
    unknown = fields.keys() - JobManifest.model_fields.keys()
    if unknown:
        raise TypeError(f"the manifest has no field {', '.join(sorted(unknown))}")
    dumped: Change = to_jsonable_python(fields)
    return dumped


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else problem["msg"]


def _typed(paths: JobPaths, data: bytes) -> JobManifest:
    try:
        manifest = JobManifest.model_validate_json(data)
    except ValidationError as error:
        # Not JSON at all, or a newer schema: these say more than a list of fields.
        parse_manifest(paths, data)
        raise invalid_manifest(paths, f"is not valid: {_first_problem(error)}") from error
    if manifest.id != paths.root.name:
        raise InvalidFile(
            f"{paths.manifest} is the manifest of job {manifest.id}, not of {paths.root.name}",
            f"give the folder back its name: {manifest.id}",
        )
    return manifest


def _replayed(paths: JobPaths, document: Document) -> JobManifest:
    try:
        return JobManifest.model_validate(document)
    except ValidationError as error:
        check_schema(paths.history, document)
        raise InvalidFile(
            f"the records of {paths.history} do not add up to a manifest: {_first_problem(error)}",
            "restore the job's folder from a backup; the results of all steps are commits in repo.git in it",
        ) from error


def _entry(paths: JobPaths, line: Line) -> HistoryEntry:
    from logist.models.history import HistoryEntry

    try:
        return HistoryEntry.model_validate(line._asdict())
    except ValidationError as error:
        raise InvalidFile(
            f"{paths.history}, line {line.seq}, is no record that this version knows: {_first_problem(error)}",
            "upgrade Logist when a newer one wrote it; else restore the file from a backup",
        ) from error


def _entries_of_step(paths: JobPaths, step: int) -> tuple[HistoryEntry, ...]:
    found: list[HistoryEntry] = []
    for line in Journal(paths.history).newest_first():
        number = line.record.get("step")
        # Numbers of steps only grow, so behind a lower one there is nothing more.
        if isinstance(number, int) and number < step:
            break
        if number == step:
            found.append(_entry(paths, line))
    return tuple(reversed(found))


def _unfinished(paths: JobPaths) -> tuple[HistoryEntry, ...]:
    found = itertools.takewhile(lambda line: not _ends_step(line.record), Journal(paths.history).newest_first())
    return tuple(_entry(paths, line) for line in reversed(list(found)))


def _ends_step(record: Document) -> bool:
    return record.get("type") in _BOUNDARIES or record.get("trigger") == Trigger.REOPEN


class JobStore:
    """All jobs of one jobs folder."""

    def __init__(self, jobs_dir: Path, clock: Clock) -> None:
        self.jobs_dir = jobs_dir
        self.clock = clock

    def ids(self) -> tuple[str, ...]:
        """The ids of all jobs, sorted. Raises StorageFailed."""
        return job_ids(self.jobs_dir)

    def paths(self, job_id: str) -> JobPaths:
        """The file names of a job, which need not exist. Raises UsageProblem for what is no job id."""
        return JobPaths(self.jobs_dir / check_job_id(job_id))

    def find(self, text: str) -> str:
        """The id that `text` means: an id, the beginning of one, or a job folder's path. Raises JobNotFound."""
        return find_job(self.jobs_dir, text)

    def load(self, job_id: str) -> JobManifest:
        """The job as it stands, without a lease and without writing. Raises JobNotFound, InvalidFile."""
        paths = self.paths(job_id)
        data = read_manifest_bytes(paths)
        manifest = _typed(paths, data)
        lines = Journal(paths.history).read_after(manifest.seq)
        return _replayed(paths, merge(json.loads(data), lines)) if lines else manifest

    def holder(self, job_id: str) -> Holder | None:
        """Who holds the job's lease now; None when nobody does. Raises StorageFailed."""
        return read_holder(self.paths(job_id))

    def history(self, job_id: str, *, newest_first: bool = False, limit: int | None = None) -> Iterator[HistoryEntry]:
        """The job's records in either order; `limit` keeps the newest ones. Raises JobNotFound, InvalidFile."""
        paths = self._existing(job_id)
        journal = Journal(paths.history)
        if newest_first or limit is not None:
            lines = itertools.islice(journal.newest_first(), limit)
            ordered = lines if newest_first else reversed(list(lines))
        else:
            ordered = journal.read_all()
        return (_entry(paths, line) for line in ordered)

    def history_for_step(self, job_id: str, step: int) -> tuple[HistoryEntry, ...]:
        """The records of one step, oldest first. Raises JobNotFound, InvalidFile."""
        return _entries_of_step(self._existing(job_id), step)

    def unfinished(self, job_id: str) -> tuple[HistoryEntry, ...]:
        """The records since the last finished step or human decision, oldest first. Raises JobNotFound, InvalidFile."""
        return _unfinished(self._existing(job_id))

    def selected(self) -> str | None:
        """The selected job, which may be gone. Raises InvalidFile."""
        return read_selected(self.jobs_dir)

    def select(self, job_id: str | None) -> None:
        """Select a job, or none. Raises JobNotFound, StorageFailed, JobBusy."""
        if job_id is not None:
            self._existing(job_id)
        ensure_jobs_dir(self.jobs_dir)
        with self._index_lock():
            sweep_temporary_files(self.jobs_dir, INDEX_NAME)
            replace_file(self.jobs_dir / INDEX_NAME, to_json({"selected": job_id}) + b"\n")

    def create(self, job_id: str, build: Callable[[JobPaths], JobManifest]) -> JobManifest:
        """Make a job, all or nothing.

        `build` fills `repo.git` and `workspace` at the paths it is given, which are temporary: the folder is renamed
        when everything is in it. It returns the first manifest. Raises UsageProblem when the id is taken,
        StorageFailed, and whatever `build` raises.
        """
        final = self.paths(job_id)
        ensure_jobs_dir(self.jobs_dir)
        if os.path.lexists(final.root):
            raise _taken(job_id)
        with self._new_folder(job_id) as temporary:
            manifest = build(temporary)
            if manifest.id != job_id:
                raise ValueError(f"built job {manifest.id} where {job_id} was asked for")
            manifest = manifest.model_copy(update={"seq": 1})
            self._write_first(temporary, manifest)
            self._publish(temporary, final)
        return manifest

    def open(self, job_id: str, *, command: str) -> OpenJob:
        """Take the job's lease and open it for writing, repaired where a writer died.

        Raises JobBusy when it is held, JobNotFound, InvalidFile, StorageFailed.
        """
        paths = self._existing(job_id)
        lease = Lease.take(paths, command=command, at=self.clock.now())
        try:
            return OpenJob(paths, lease, self.clock)
        except BaseException:  # whatever it was, it travels on; the lease must not stay held
            lease.release()
            raise

    def rebuild(self, job_id: str) -> JobManifest:
        """Write the manifest anew from the whole history; a different old one is kept beside it.

        Raises JobBusy when the job is run, JobNotFound, InvalidFile when the history is damaged, StorageFailed.
        """
        paths = self._existing(job_id)
        with Lease.take(paths, command="logist doctor --repair", at=self.clock.now()):
            journal = Journal(paths.history)
            document = merge({}, journal.read_all())
            manifest = _replayed(paths, document)
            data = manifest_bytes(document)
            _keep_old_manifest(paths, data)
            # Cuts off a torn last line, so that the job is whole when this is done.
            journal.open_for_append()
            journal.close()
            replace_file(paths.manifest, data)
        return manifest

    def _existing(self, job_id: str) -> JobPaths:
        paths = self.paths(job_id)
        if not is_job(paths):
            raise JobNotFound(f"there is no job {job_id} in {self.jobs_dir}", "`logist job list` shows all jobs")
        return paths

    @contextlib.contextmanager
    def _index_lock(self) -> Iterator[None]:
        # Slow to import, and looking at jobs takes no lock.
        from filelock import FileLock, Timeout

        path = self.jobs_dir / f"{INDEX_NAME}.lock"
        lock = FileLock(path, timeout=_INDEX_TIMEOUT)
        try:
            lock.acquire()
        except Timeout as error:
            raise JobBusy(f"another process holds {path}", "try again in a moment") from error
        except OSError as error:
            raise storage_failed("lock", path, error) from error
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _new_folder(self, job_id: str) -> Iterator[JobPaths]:
        temporary = JobPaths(self.jobs_dir / f"{_NEW}{job_id}-{os.urandom(4).hex()}")
        with self._index_lock():
            # Under the lock, no folder is ever seen between being made and being leased.
            self._remove_abandoned()
            make_durable_folder(temporary.root)
            lease = Lease.take(temporary, command="logist job create", at=self.clock.now())
        try:
            yield temporary
        except BaseException:  # whatever it was, it travels on; half a job must not stay behind
            shutil.rmtree(temporary.root, ignore_errors=True)
            raise
        finally:
            lease.release()

    def _remove_abandoned(self) -> None:
        for folder in self.jobs_dir.glob(f"{_NEW}*"):
            # Held: someone is making that job now.
            with (
                contextlib.suppress(JobBusy),
                Lease.take(JobPaths(folder), command="logist job create", at=self.clock.now()),
            ):
                shutil.rmtree(folder, ignore_errors=True)

    def _write_first(self, paths: JobPaths, manifest: JobManifest) -> None:
        from logist.models.history import Created

        document = manifest.model_dump(mode="json")
        make_durable_folder(paths.requests)
        make_durable_folder(paths.steps)
        journal = Journal.create(paths.history)
        try:
            journal.append(self.clock.now(), Created(change=document).model_dump(mode="json"))
        finally:
            journal.close()
        # Syncs the folder too.
        replace_file(paths.manifest, manifest_bytes(document))

    def _publish(self, temporary: JobPaths, final: JobPaths) -> None:
        try:
            temporary.root.rename(final.root)
        except OSError as error:
            if os.path.lexists(final.root):
                raise _taken(final.root.name) from error
            raise storage_failed("make", final.root, error) from error
        sync_folder(self.jobs_dir)


def _taken(job_id: str) -> UsageProblem:
    look = f"choose another id, or look at it: `logist job status {job_id}`"
    return UsageProblem(f"there is a job {job_id} already", look)


def _keep_old_manifest(paths: JobPaths, data: bytes) -> None:
    try:
        old = paths.manifest.read_bytes()
    except OSError:
        # Missing or unreadable: there is nothing to keep.
        return
    if old != data:
        replace_file(paths.manifest_before_repair, old)


def _open_folder(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise storage_failed("open", path, error) from error


class OpenJob:
    """One job that this process holds the lease of: the only way to change it."""

    def __init__(self, paths: JobPaths, lease: Lease, clock: Clock) -> None:
        self.paths = paths
        self.lease = lease
        self._clock = clock
        self._journal = Journal(paths.history)
        sweep_temporary_files(paths.root, paths.manifest.name)
        data = read_manifest_bytes(paths)
        manifest = _typed(paths, data)
        self._journal.open_for_append(at_least=manifest.seq)
        try:
            # A job must not go on from a past that can't be read.
            self._journal.verify()
            lines = self._journal.read_after(manifest.seq)
            self._document = merge(json.loads(data), lines)
            #: The job as it stands.
            self.manifest = _replayed(paths, self._document)
            if lines:
                self._save()
            self._folder: int | None = _open_folder(paths.root)
        except BaseException:  # whatever it was, it travels on; the open file must not stay behind
            self._journal.close()
            raise

    @property
    def journal_fd(self) -> int:
        """The history's descriptor, for whoever makes an unsynced record durable together with files of its own."""
        return self._journal.fileno()

    def record(self, record: HistoryRecord, *, sync: bool = True, along: Sequence[int] = ()) -> JobManifest:
        """Append a record, durably, and make the manifest what its change says. Returns the new manifest.

        Without `sync` a record that changes nothing becomes durable with the next one, or with `journal_fd`. The open
        files and folders `along` are made durable with the record.

        Raises ValueError for a change that makes no valid manifest: then nothing is written. Raises StorageFailed:
        the record then is not in the history, or, when only the manifest could not be written, it is, and the
        manifest is made good when the job is next opened.
        """
        self._check_place()
        at = self._clock.now()
        content = record.model_dump(mode="json")
        changed = content["change"]
        if changed:
            changed["updated_at"] = iso(at)
        line = Line(self._journal.last_seq + 1, iso(at), content)
        document = merge(self._document, [line])
        manifest = self._next_manifest(document)
        if not changed:
            self._journal.append(at, content, sync=sync, along=along)
            self._document, self.manifest = document, manifest
            return manifest
        with new_file(self.paths.manifest, manifest_bytes(document)) as written:
            # The record and the manifest's new content wait for the disk together; the manifest is put in its place
            # only once both are there.
            # With them the folder, which makes the manifest before durable in its place: until then the history, which
            # it only projects, had all of it.
            folder = () if self._folder is None else (self._folder,)
            self._journal.append(at, content, along=(written.fd, *folder, *along))
            self._document, self.manifest = document, manifest
            written.publish(sync=False)
        return manifest

    def tail(self, after_seq: int) -> tuple[HistoryEntry, ...]:
        """The records after number `after_seq`, oldest first. Raises InvalidFile."""
        return tuple(_entry(self.paths, line) for line in self._journal.read_after(after_seq))

    def last_records(self) -> tuple[HistoryEntry, ...]:
        """The records since the last finished step or human decision, oldest first. Raises InvalidFile."""
        return _unfinished(self.paths)

    def history_for_step(self, step: int) -> tuple[HistoryEntry, ...]:
        """The records of one step, oldest first. Raises InvalidFile."""
        return _entries_of_step(self.paths, step)

    def close(self) -> None:
        """Close the files and give the lease back; a second time changes nothing."""
        self._journal.close()
        folder, self._folder = self._folder, None
        try:
            if folder is not None:
                os.fsync(folder)
        except OSError as error:
            raise storage_failed("sync", self.paths.root, error) from error
        finally:
            if folder is not None:
                os.close(folder)
            self.lease.release()

    def __enter__(self) -> OpenJob:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next_manifest(self, document: Document) -> JobManifest:
        manifest = JobManifest.model_validate(document)
        if manifest.id != self.manifest.id:
            raise ValueError("a change must not give a job another id")
        return manifest

    def _save(self) -> None:
        replace_file(self.paths.manifest, manifest_bytes(self._document))

    def _check_place(self) -> None:
        # Two runners, or a history that nobody will find: better nothing is written at all.
        self.lease.check_place()
        self._journal.check_place()
