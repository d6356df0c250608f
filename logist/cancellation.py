"""Cancels a job that nobody runs, without the types: it must start as fast as bare click."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from logist.durable import Document, iso, new_file
from logist.errors import WrongState
from logist.job_files import (
    JobPaths,
    invalid_manifest,
    manifest_bytes,
    parse_manifest,
    read_manifest_bytes,
    seq_of,
)
from logist.journal import Journal, Line, merge
from logist.lease import Lease
from logist.lifecycle import JobStatus, TransitionRefused, Trigger, target
from logist.stop_requests import clear

#: The same as `models.manifest.MAX_TEXT`, which is too slow to import here; a test keeps them equal.
_MAX_SENTENCE = 32_768


class CancelOutcome(StrEnum):
    """What came of canceling a job that nobody runs."""

    CANCELED = "canceled"
    #: Its runner died; it must be recovered before it can be canceled.
    NEEDS_RECOVERY = "needs_recovery"


def cancel_at_rest(paths: JobPaths, message: str, at: datetime) -> CancelOutcome:
    """Cancel a job that nobody runs; requests that stand are then done with.

    Raises JobBusy when it is run, WrongState when it has ended, JobNotFound, InvalidFile, StorageFailed.
    """
    parse_manifest(paths, read_manifest_bytes(paths))
    with Lease.take(paths, command="logist job cancel", at=at):
        # Read again: whoever held the lease a moment ago may have changed the job.
        manifest = parse_manifest(paths, read_manifest_bytes(paths))
        seq = seq_of(paths, manifest)
        journal = Journal(paths.history)
        journal.open_for_append(at_least=seq)
        try:
            # Nothing may be added to a past that can't be read.
            journal.verify()
            return _cancel(paths, journal, merge(manifest, journal.read_after(seq)), message, at)
        finally:
            journal.close()


def _cancel(paths: JobPaths, journal: Journal, manifest: Document, message: str, at: datetime) -> CancelOutcome:
    job_id = paths.root.name
    try:
        status = JobStatus(str(manifest.get("status")))
    except ValueError as error:
        raise invalid_manifest(paths, f"has an unknown status: {manifest.get('status')!r}") from error
    if status is JobStatus.RUNNING:
        return CancelOutcome.NEEDS_RECOVERY
    try:
        after = target(status, Trigger.CANCEL)
    except TransitionRefused as error:
        # A request that came too late must not end a later run.
        clear(paths, "cancel")
        raise WrongState(
            f"job {job_id} is {status.value}: there is nothing to cancel", f"`logist job status {job_id}` shows it"
        ) from error
    reason = {"code": "canceled", "sentence": _without_surrogates(message or "canceled")[:_MAX_SENTENCE]}
    change = {"status": after.value, "reason": reason, "updated_at": iso(at)}
    record: Document = {"type": "transition", "trigger": Trigger.CANCEL.value, "reason": reason, "change": change}
    line = Line(journal.last_seq + 1, iso(at), record)
    with new_file(paths.manifest, manifest_bytes(merge(manifest, [line]))) as written:
        # As in `job_state`: both wait for the disk together, and the manifest is put in its place after that.
        journal.append(at, record, along=(written.fd,))
        written.publish()
    clear(paths, "cancel")
    clear(paths, "pause")
    return CancelOutcome.CANCELED


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
