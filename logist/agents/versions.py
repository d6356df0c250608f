"""Which version of a program is installed, by its own word."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from logist.environment import inherited
from logist.execution import Command
from logist.execution.local import LocalWorkerAdapter

#: Seconds. Some take long: they are started by an interpreter, and look for updates first.
_PATIENCE = 30.0
_VERSION = re.compile(r"\d+(?:\.\d+)+[\w.+-]*", re.ASCII)


def installed_version(argv: tuple[str, ...], environ: Mapping[str, str]) -> str | None:
    """The version that the program answers with when it is called like that; None: it is not there, or names none.

    It is asked once in the life of this process, for as long as the program's file is the same.
    """
    program = shutil.which(argv[0], path=environ.get("PATH"))
    if program is None:
        return None
    status = Path(program).stat()
    return _asked((program, *argv[1:]), (status.st_ino, status.st_mtime_ns), tuple(sorted(inherited(environ).items())))


@cache
def _asked(argv: tuple[str, ...], _file: tuple[int, int], environ: tuple[tuple[str, str], ...]) -> str | None:
    adapter = LocalWorkerAdapter(grace=0.5)
    try:
        with tempfile.TemporaryDirectory(prefix="logist-version-") as folder:
            # In a folder of its own: some look around where they are called.
            result = adapter.run(Command(cwd=Path(folder), env=dict(environ), argv=argv, timeout=_PATIENCE))
    finally:
        adapter.close()
    found = _VERSION.search((result.stdout.kept + b"\n" + result.stderr.kept).decode("utf-8", "replace"))
    return found[0] if found and result.ok else None
