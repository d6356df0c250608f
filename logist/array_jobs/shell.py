"""What the scripts of several engines have in common: the engine's shell finds the spec where it lies here."""

from __future__ import annotations

from logist.array_jobs.job import LOGIST, ArrayJob
from logist.chunk_selection import shell_word

#: Not sh: paths that hold line breaks are spelled as only bash reads them.
SHEBANG = "#!/bin/bash"


def command(words: tuple[str, ...]) -> str:
    """A call of Logist as one line, of words that the shell reads as they are."""
    return " ".join((LOGIST, *words))


def enter(job: ArrayJob) -> str:
    """The line that goes to where the spec's name is meant from."""
    return f"cd -- {shell_word(job.folder)} || exit"


def script(*lines: str) -> str:
    """A whole script."""
    return "\n".join((SHEBANG, *lines, ""))
