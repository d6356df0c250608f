"""Pure: as much of a diff as fits into a prompt, in text without tricks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from logist.plain_text import plain_text

#: Characters.
MAX_EXCERPT = 60_000
#: A part of a file's diff that is shorter tells nothing.
_LEAST = 1_000
#: Only a header begins like this: a line of content has a sign before it.
_FILE = re.compile(rb"(?m)^(?=diff --git )")
#: Stands for what else ends a line for a reader: a second line would have no sign of git's before it.
_LINE_END = "\u240d"


class DiffExcerpt(NamedTuple):
    """What is shown of a diff. A line of it that begins with `[...` is ours, and says what was left out."""

    text: str
    #: Whether nothing was left out.
    whole: bool


def excerpt(diff: bytes, limit: int = MAX_EXCERPT, *, goes_on: bool = False) -> DiffExcerpt:
    """At most about `limit` characters of `diff`, as git prints it. `goes_on`: it is itself but a beginning.

    Where not all fits, files with a small diff are shown whole, and the others share what room is left: one huge file
    hides none of the rest.
    """
    files = _FILE.split(diff)[1:]
    shares = _fair_shares([len(file) for file in files], limit)
    shown = [_beginning(file, share) for file, share in zip(files, shares, strict=True) if share]
    hidden = shares.count(0)
    if hidden:
        shown.append(f"[... the diffs of {hidden} more files are left out ...]\n")
    if goes_on:
        shown.append("[... the diff goes on, and was not read further ...]\n")
    whole = not goes_on and all(share >= len(file) for file, share in zip(files, shares, strict=True))
    return DiffExcerpt("".join(shown), whole)


def _fair_shares(sizes: Sequence[int], room: int) -> list[int]:
    """How much of each is shown: of small ones all, of the others the same; 0 of those that come too late."""
    shares = [0] * len(sizes)
    smallest_first = sorted(range(len(sizes)), key=sizes.__getitem__)
    for served, index in enumerate(smallest_first):
        share = min(sizes[index], max(room // (len(sizes) - served), _LEAST))
        if share > room:
            break
        shares[index] = share
        room -= share
    return shares


def _beginning(file: bytes, share: int) -> str:
    """The first lines of one file's diff, about `share` bytes of them."""
    if len(file) <= share:
        return _plain(file)
    first, newline, _ = file[:share].rpartition(b"\n")
    kept = first + newline or file[:share]
    left = file.count(b"\n", len(kept))
    return _plain(kept).rstrip("\n") + f"\n[... {left} more lines of this file's diff are left out ...]\n"


def _plain(part: bytes) -> str:
    """As text, each line still one line: what was hidden behind a carriage return must not begin one."""
    lines = part.decode("utf-8", "backslashreplace").split("\n")
    return "\n".join(plain_text(line).replace("\n", _LINE_END) for line in lines)
