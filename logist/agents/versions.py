"""Which version of a program is installed, by its own word."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from logist.environment import inherited
from logist.execution import CancelCheck, Command, CommandResult, Ended
from logist.execution.local import LocalWorkerAdapter

#: Seconds. Some take long: they are started by an interpreter, and look for updates first.
_PATIENCE = 30.0
_VERSION = re.compile(r"\d+(?:\.\d+)+(?:[\w.+-]*\w)?", re.ASCII)


#: What was answered in the life of this process, by how it was called: argv, the program's file, the environment.
_ANSWERS: dict[tuple[object, ...], str | None] = {}


def installed_version(
    argv: tuple[str, ...], environ: Mapping[str, str], cancel: CancelCheck | None = None
) -> str | None:
    """The version that the program answers with when it is called like that; None: it is not there, or names none.

    It is asked once in the life of this process, for as long as the program's file is the same; no longer than half a
    minute, and until `cancel` gives a reason to stop.
    """
    program = shutil.which(argv[0], path=environ.get("PATH"))
    if program is None:
        return None
    status, passed = Path(program).stat(), inherited(environ)
    asked = ((program, *argv[1:]), status.st_ino, status.st_mtime_ns, tuple(sorted(passed.items())))
    if asked not in _ANSWERS:
        result = _ask((program, *argv[1:]), passed, cancel)
        if result.ended is Ended.CANCELED:
            return None
        _ANSWERS[asked] = _version_in(result)
    return _ANSWERS[asked]


def _ask(argv: tuple[str, ...], environ: Mapping[str, str], cancel: CancelCheck | None) -> CommandResult:
    adapter = LocalWorkerAdapter(grace=0.5)
    try:
        with tempfile.TemporaryDirectory(prefix="logist-version-") as folder:
            # In a folder of its own: some look around where they are called.
            command = Command(cwd=Path(folder), env=dict(environ), argv=argv, timeout=_PATIENCE)
            return adapter.run(command, cancel=cancel)
    finally:
        adapter.close()


def _version_in(result: CommandResult) -> str | None:
    found = _VERSION.search((result.stdout.kept + b"\n" + result.stderr.kept).decode("utf-8", "replace"))
    return found[0] if found and result.ok else None
