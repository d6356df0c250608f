"""What the work of a job changed by which the program that judges it is steered: hooks, plugins, settings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from logist.workspace_utils import Workspace


def changed_steering(workspace: Workspace, root: Path, since: str, head: str, steered_by: Iterable[str]) -> str | None:
    """The first of the files and folders/ `steered_by` that is not as it was at the commit `since`; None: all are.

    `head` is the newest commit of the workspace at `root`. What no commit keeps, as it is ignored, is none of `since`.
    """
    found = list(_lying_there(root, steered_by))
    if not found:
        return None
    changed = {change.path for change in workspace.changes(since, head)}
    kept = {file.path for file in workspace.files(head)}
    return next((path for path in found if path in changed or path not in kept), None)


def _lying_there(root: Path, steered_by: Iterable[str]) -> Iterator[str]:
    for name in steered_by:
        path = root / name
        if path.is_symlink() or not path.is_dir():
            if os.path.lexists(path):
                yield name.rstrip("/")
            continue
        # No link is followed: a link to a folder is a file of its own.
        for folder, folders, files in os.walk(path):
            below = [Path(folder, each) for each in (*files, *folders)]
            yield from (each.relative_to(root).as_posix() for each in below if each.is_symlink() or not each.is_dir())
