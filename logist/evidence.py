"""What an evidence commit says of its step: one line, the summary, and trailers; the last is for machines."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence

from pydantic import ValidationError

from logist.models.history import Exited, OutputDigest, Skipped
from logist.models.manifest import JobManifest
from logist.models.record import Record
from logist.models.usage import Usage

_TRAILER = "Logist-Record: "
_SUBJECT_WORDS = 72
#: Skipped paths that a commit names; the history has them all.
_MAX_SKIPPED = 100


class EvidenceRecord(Record):
    """The machine-readable record of what ran, in the trailer `Logist-Record`. Durations are in seconds."""

    step: int
    attempt: int
    argv: tuple[str, ...]
    prompt_sha256: str
    ended: str
    exit_code: int | None
    duration: float
    stdout: OutputDigest
    stderr: OutputDigest
    reply_source: str
    usage: Usage
    evidence_files: tuple[str, ...]
    #: Paths of the workspace that are not in the commit, the first ones, and how many there are.
    skipped: tuple[Skipped, ...]
    skipped_count: int


def evidence_message(manifest: JobManifest, exited: Exited, skipped: Sequence[tuple[str, str]]) -> str:
    """The commit message of a step: the same for the same records, so that a repeated commit is the same commit."""
    record = EvidenceRecord(
        step=exited.step,
        attempt=exited.attempt,
        argv=exited.argv,
        prompt_sha256=exited.prompt_sha256,
        ended=exited.ended,
        exit_code=exited.exit_code,
        duration=exited.duration,
        stdout=exited.stdout,
        stderr=exited.stderr,
        reply_source=exited.reply_source,
        usage=exited.usage,
        evidence_files=exited.evidence_files,
        skipped=tuple(Skipped(path=path, why=why) for path, why in skipped[:_MAX_SKIPPED]),
        skipped_count=len(skipped),
    )
    words = " ".join(exited.summary.split())[:_SUBJECT_WORDS]
    subject = f"step {exited.step} {exited.role}: {exited.action}" + (f" - {words}" if words else "")
    # Indented: at a line's start git would take quoted diffs and headers in a mailed patch for its own.
    body = textwrap.indent(exited.summary.strip().replace("\0", ""), "    ")
    trailers = (
        f"Logist-Job: {manifest.id}",
        f"Logist-Step: {exited.step}",
        f"Logist-Attempt: {exited.attempt}",
        f"Logist-Phase: {manifest.current_phase.name}",
        f"Logist-Role: {exited.role}",
        f"Logist-Action: {exited.action}",
        f"Logist-Agent: {exited.agent}",
        # ASCII only: a path that is no UTF-8 must not make the message unreadable.
        _TRAILER + json.dumps(record.model_dump(mode="json"), ensure_ascii=True),
    )
    return "\n".join([subject, "", *([body, ""] if body else []), *trailers]) + "\n"


def evidence_record(message: str) -> EvidenceRecord | None:
    """The record in a commit message; None where the commit is no step's."""
    last = message.rstrip("\n").rpartition("\n")[2]
    if not last.startswith(_TRAILER):
        return None
    try:
        return EvidenceRecord.model_validate_json(last.removeprefix(_TRAILER))
    except ValidationError:
        return None
