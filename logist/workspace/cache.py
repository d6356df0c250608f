"""What is known about a workspace's files, so that an unchanged one is not read again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from logist.workspace.disk import temporary_file, write_all
from logist.workspace.files import Stamp
from logist.workspace.objects import FOLDER, Entries, ObjectStore, TreeEntry

#: A clock tick of the kernel, with room; whole seconds mean a file system that keeps no more.
_GRANULARITY_NS, _COARSE_NS = 20_000_000, 2_100_000_000


class Known(NamedTuple):
    """A file as it was when it was hashed. Racy: it may have changed since without a trace in its times."""

    stamp: Stamp
    entry: TreeEntry
    racy: bool


class EvidenceCache:
    """Stamps and object ids of the workspace's files by folder, kept beside the repository. Rebuilt when unreadable."""

    VERSION = 1

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files: dict[str, dict[str, Known]] = {}

    def load(self, store: ObjectStore) -> None:
        """Read the file; one that is missing, damaged or of another version counts as empty."""
        try:
            checksum, _, body = self._path.read_bytes().partition(b"\n")
        except OSError:
            return
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            return
        content = json.loads(body)
        if content["version"] != self.VERSION:
            return
        for prefix, rows in content["files"].items():
            self.files[prefix] = {
                name: Known(tuple(row[:6]), TreeEntry(row[6], row[7]), row[8]) for name, row in rows.items()
            }
        for tree_id, rows in content["trees"].items():
            store.trees[tree_id] = {name: TreeEntry(*row) for name, row in rows.items()}

    def save(self, store: ObjectStore, root: str) -> None:
        """Write the file, with the trees under `root`. Not made durable: losing it costs one full read."""
        rows = {
            prefix: {name: [*known.stamp, *known.entry, known.racy] for name, known in files.items()}
            for prefix, files in self.files.items()
        }
        content = {"version": self.VERSION, "files": rows, "trees": _trees_under(store, root)}
        body = json.dumps(content, separators=(",", ":")).encode("ascii")
        with temporary_file(self._path.parent, f"{self._path.name}.") as (descriptor, temporary):
            write_all(descriptor, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            temporary.rename(self._path)


def _trees_under(store: ObjectStore, root: str) -> dict[str, Entries]:
    found: dict[str, Entries] = {}
    waiting = [root]
    while waiting:
        tree_id = waiting.pop()
        if tree_id in found or tree_id not in store.trees:
            continue
        found[tree_id] = store.trees[tree_id]
        waiting += [entry.id for entry in found[tree_id].values() if entry.mode == FOLDER]
    return found


def settled_before(folder: Path) -> int:
    """Nanoseconds of the file system's clock: a file that changed before can't change again with the same times."""
    with temporary_file(folder, "tmp_clock_") as (descriptor, temporary):
        now = os.fstat(descriptor).st_ctime_ns
        temporary.unlink()
    return now - (_GRANULARITY_NS if now % 1_000_000_000 else _COARSE_NS)
