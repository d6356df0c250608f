"""What an agent hands back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from logist.models.manifest import Text, Verdict
from logist.models.record import Record

#: A reply file or a fenced reply larger than this is refused unread, in bytes.
MAX_REPLY_BYTES = 1_000_000

EvidencePath = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class Reply(Record):
    """A worker's or supervisor's reply. For a supervisor: COMPLETED agrees, RETRY objects, STUCK asks a human."""

    action: Verdict
    #: Relative paths of regular files in the workspace.
    evidence_files: Annotated[tuple[EvidencePath, ...], Field(max_length=10_000)] = ()
    summary_for_supervisor: Text = ""
