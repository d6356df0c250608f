""".gitignore, as git reads it: which paths of a workspace are ignored. A hostile pattern costs no more than another."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from typing import NamedTuple


class _Pattern(NamedTuple):
    #: One expression a path component; None is `**`.
    parts: tuple[re.Pattern[bytes] | None, ...]
    by_name: bool
    folders_only: bool
    keeps: bool


class Rules:
    """The ignore rules in force in a folder: its own `.gitignore` over its parents'."""

    def __init__(self, content: bytes, depth: int, parent: Rules | None) -> None:
        self._patterns = _parse_ignore_file(content)
        self._depth = depth
        self._parent = parent

    def ignore(self, path: str, is_folder: bool) -> bool:
        """Whether `path` (from the workspace's top) is ignored by itself; its folder is taken not to be."""
        parts = os.fsencode(path).split(b"/")
        rules: Rules | None = self
        while rules is not None:
            below = parts[rules._depth :]
            for pattern in rules._patterns:
                if (is_folder or not pattern.folders_only) and _matches(pattern, below):
                    return not pattern.keeps
            rules = rules._parent
        return False


@functools.lru_cache(maxsize=512)
def _parse_ignore_file(content: bytes) -> tuple[_Pattern, ...]:
    """The patterns, last first: the last one that matches decides."""
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    patterns = [_parse_pattern(line.removesuffix(b"\r")) for line in lines]
    return tuple(pattern for pattern in reversed(patterns) if pattern is not None)


def _parse_pattern(line: bytes) -> _Pattern | None:
    # Not only spaces: an escaped one stays.
    line = re.sub(rb"\A((?:[^\\]|\\.)*?) +\Z", rb"\1", line, flags=re.DOTALL)
    if not line or line.startswith(b"#"):
        return None
    keeps = line.startswith(b"!")
    line = line.removeprefix(b"!")
    folders_only = line.endswith(b"/")
    line = line.removesuffix(b"/")
    by_name = b"/" not in line
    parts: list[re.Pattern[bytes] | None] = []
    for name in _components(line.removeprefix(b"/")):
        if name == b"**" and not by_name:
            parts.append(None)
            continue
        expression = _component(name)
        if expression is None:
            return None
        parts.append(expression)
    if parts[-1] is None:
        # A trailing `**` is everything inside, not the folder itself.
        parts.insert(-1, re.compile(rb"", re.DOTALL))
    return _Pattern(tuple(parts), by_name, folders_only, keeps)


def _components(line: bytes) -> list[bytes]:
    """Split at slashes, but not at those inside a `[...]`."""
    found, start, at = [], 0, 0
    while at < len(line):
        letter = line[at : at + 1]
        if letter == b"/" or line[at : at + 2] == b"\\/":
            found.append(line[start:at])
            start = at = at + (1 if letter == b"/" else 2)
        elif letter == b"[":
            parsed = _character_class(line, at + 1)
            at = at + 1 if parsed is None else parsed[1]
        else:
            at += 2 if letter == b"\\" else 1
    return [*found, line[start:]]


def _matches(pattern: _Pattern, names: list[bytes]) -> bool:
    parts = pattern.parts
    if pattern.by_name:
        first = parts[0]
        return first is not None and first.match(names[-1]) is not None
    # Going back to the last `**` alone is enough, as with a single star in a name.
    part = name = 0
    star, resume = -1, 0
    while name < len(names):
        expression = parts[part] if part < len(parts) else None
        if part < len(parts) and expression is None:
            star, resume, part = part, name, part + 1
        elif expression is not None and expression.match(names[name]) is not None:
            part, name = part + 1, name + 1
        elif star >= 0:
            resume += 1
            part, name = star + 1, resume
        else:
            return False
    return all(rest is None for rest in parts[part:])


@functools.lru_cache(maxsize=4096)
def _component(glob: bytes) -> re.Pattern[bytes] | None:
    """One path component's pattern; None when git takes it for malformed. Never backtracks more than once a star."""
    chunks: list[bytes] = [b""]
    at = 0
    while at < len(glob):
        letter = glob[at : at + 1]
        at += 1
        if letter == b"*":
            chunks.append(b"")
            continue
        if letter == b"?":
            chunks[-1] += b"."
        elif letter == b"[":
            parsed = _character_class(glob, at)
            if parsed is None:
                return None
            letters, at = parsed
            chunks[-1] += (
                b"[" + b"".join(b"\\x%02x" % letter for letter in sorted(letters)) + b"]" if letters else b"(?!)"
            )
        elif letter == b"\\":
            if at == len(glob):
                return None
            chunks[-1] += re.escape(glob[at : at + 1])
            at += 1
        else:
            chunks[-1] += re.escape(letter)
    if len(chunks) == 1:
        return re.compile(chunks[0] + rb"\Z", re.DOTALL)
    first, *middle, last = chunks
    # Atomic groups: the earliest place for a middle chunk is always right, so a hostile pattern can't explode.
    within = b"".join(b"(?>.*?" + chunk + b")" for chunk in middle if chunk)
    return re.compile(first + within + b".*" + last + rb"\Z", re.DOTALL)


_CLASSES: dict[bytes, Callable[[int], bool]] = {
    b"alnum": lambda c: chr(c).isalnum(),
    b"alpha": lambda c: chr(c).isalpha(),
    b"blank": lambda c: c in b" \t",
    b"cntrl": lambda c: c < 32 or c == 127,
    b"digit": lambda c: chr(c).isdigit(),
    b"graph": lambda c: 32 < c < 127,
    b"lower": lambda c: chr(c).islower(),
    b"print": lambda c: 32 <= c < 127,
    b"punct": lambda c: 32 < c < 127 and not chr(c).isalnum(),
    b"space": lambda c: c in b" \t\n\v\f\r",
    b"upper": lambda c: chr(c).isupper(),
    b"xdigit": lambda c: c in b"0123456789abcdefABCDEF",
}


def _character_class(glob: bytes, at: int) -> tuple[set[int], int] | None:
    """The bytes of a `[...]` whose inside starts at `at`, and where it ends; None when it is malformed."""
    inverted = glob[at : at + 1] in (b"!", b"^")
    at += inverted
    letters: set[int] = set()
    previous: int | None = None
    first = True
    while first or glob[at : at + 1] != b"]":
        first = False
        letter = glob[at : at + 1]
        if not letter:
            return None
        if (
            letter == b"["
            and glob[at + 1 : at + 2] == b":"
            and (end := glob.find(b"]", at + 2)) > 0
            and glob[end - 1 : end] == b":"
        ):
            test = _CLASSES.get(glob[at + 2 : end - 1])
            if test is None:
                return None
            letters.update(code for code in range(1, 128) if test(code))
            previous, at = None, end + 1
            continue
        ranged = letter == b"-" and previous is not None and glob[at + 1 : at + 2] not in (b"]", b"")
        at += ranged
        at += glob[at : at + 1] == b"\\"
        if at >= len(glob):
            return None
        code = glob[at]
        letters.update(range(previous, code + 1) if ranged and previous is not None else (code,))
        previous, at = (None if ranged else code), at + 1
    return (set(range(1, 256)) - letters if inverted else letters), at + 1
