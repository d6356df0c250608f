"""Writes YAML as people write it, in blocks. Pure.

JSON would be YAML, too, but these documents are read, changed and reviewed by people. A library for half a page of
code would be one more thing that every user installs; what is written here is text, numbers, lists and mappings, and
a test reads each of them back with PyYAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

Scalar: TypeAlias = str | int | bool
Node: TypeAlias = "Scalar | Mapping[str, Node] | list[Node] | tuple[Node, ...]"

#: Text that needs no quotes, unless it is one of the words below.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*", re.ASCII)
#: Words that some readers take for something else than text.
_TAKEN = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})


def to_yaml(node: Node) -> str:
    """The document, which ends with a newline."""
    return "".join(f"{line}\n" for line in _lines(node))


def _lines(node: Node) -> Iterator[str]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            first, *rest = _lines(value)
            if _is_inline(value):
                yield f"{_text(key)}: {first}"
            else:
                yield f"{_text(key)}:"
                yield from _indented([first, *rest])
    elif isinstance(node, list | tuple) and node:
        for item in node:
            first, *rest = _lines(item)
            yield f"- {first}"
            yield from _indented(rest)
    else:
        yield _inline(node)


def _is_inline(node: Node) -> bool:
    return isinstance(node, Scalar) or not node


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _inline(node: Node) -> str:
    if isinstance(node, bool):
        return "true" if node else "false"
    if isinstance(node, Mapping | list | tuple):
        return "{}" if isinstance(node, Mapping) else "[]"
    return _text(node) if isinstance(node, str) else str(node)


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _TAKEN:
        return text
    return f'"{"".join(map(_sign, text))}"'


def _sign(sign: str) -> str:
    if sign in '"\\':
        return f"\\{sign}"
    return sign if sign.isprintable() else f"\\U{ord(sign):08x}"
