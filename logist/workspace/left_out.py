"""Files of a workspace that are no evidence though no rule ignores them: the media of a render, each with its reason.

They are as good as ignored: a snapshot names them and does not read them, and putting the workspace back spares them.
What the evidence holds already is evidence all the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from logist.workspace.disk import damaged, fsync_folder, temporary_file, write_all


class LeftOut:
    """The paths (from the workspace's top) and why; kept in a file beside the evidence, out of the agents' reach."""

    def __init__(self, path: Path | None = None, reasons: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._reasons = dict(reasons or {})
        self._folders = _folders_of(self._reasons)

    @classmethod
    def load(cls, path: Path) -> LeftOut:
        """What the file says; nothing is left out when there is none. Raises OSError, WorkspaceFailed."""
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            return cls(path)
        except ValueError as error:
            raise damaged(f"{path.name} is not readable") from error
        if not isinstance(content, dict):
            raise damaged(f"{path.name} is not readable")
        return cls(path, {name: why for why, names in content.items() for name in names})

    def why(self, path: str) -> str | None:
        """Why a file is left out, None when it is not."""
        return self._reasons.get(path)

    def is_above(self, folder: str) -> bool:
        """Whether a file below `folder` is left out."""
        return folder in self._folders

    @property
    def folders(self) -> frozenset[str]:
        """All folders with a file below that is left out."""
        return self._folders

    def add(self, paths: Iterable[str], why: str) -> None:
        """Leave out these files too, from now on and durably. Raises OSError."""
        added = dict.fromkeys(paths, why)
        if self._path is None or added.items() <= self._reasons.items():
            return
        reasons = self._reasons | added
        grouped: dict[str, list[str]] = {}
        for name, reason in reasons.items():
            grouped.setdefault(reason, []).append(name)
        with temporary_file(self._path.parent, f"{self._path.name}.") as (descriptor, temporary):
            write_all(descriptor, json.dumps(grouped).encode("ascii"))
            os.fsync(descriptor)
            temporary.rename(self._path)
        fsync_folder(self._path.parent)
        self._reasons, self._folders = reasons, _folders_of(reasons)


def _folders_of(paths: Iterable[str]) -> frozenset[str]:
    return frozenset(path[:at] for path in paths for at, letter in enumerate(path) if letter == "/")


#: For readings that leave nothing out.
NOTHING = LeftOut()
