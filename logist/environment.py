"""What a command that Logist starts may inherit of the caller's environment: an allow-list, never the whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

_ALLOWED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR")


def inherited(environ: Mapping[str, str], names: Iterable[str] = ()) -> dict[str, str]:
    """The part of `environ` that is passed on: the allow-list, LC_*, and the variables called `names`."""
    wanted = {*_ALLOWED, *names}
    kept = {key: value for key, value in environ.items() if key in wanted or key.startswith("LC_")}
    kept.setdefault("PATH", os.defpath)
    return kept


def passed_on(environ: Mapping[str, str], names: Iterable[str] = ()) -> frozenset[str]:
    """The names of what `inherited` passes on, and of what it would if it were set."""
    return frozenset((*_ALLOWED, *names, *inherited(environ)))


def inside(workspace: Path) -> dict[str, str]:
    """What says where the workspace is, also to git: it must not find the user's own repository around it."""
    # Not followed by git where a part of it is a link.
    above = os.path.realpath(workspace.parent)
    return {"LOGIST_WORKSPACE": str(workspace), "GIT_CEILING_DIRECTORIES": above}
