"""Names and contents that git itself would trip over: `.git` in all its spellings, a harmful `.gitmodules`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

#: Logist's own folder at the top of a workspace: never evidence.
OWN_FOLDER = ".logist"

_HFS_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")


def shown(path: str) -> str:
    """The path as text that every encoder takes: bytes that are no UTF-8 become `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _short_names(prefix: str) -> str:
    """NTFS's fall-back short names: a shortened prefix, `~` and digits, eight characters in all."""
    return "|".join(f"{prefix[:kept]}~[1-9][0-9]{{{6 - kept}}}" for kept in range(7))


_METADATA_NAME = re.compile(rb"(?:\.git|git~1)[. ]*(?:\Z|[\\:])", re.IGNORECASE)
_SPECIAL_NAMES = {
    which: re.compile(rf"(?:\.git{which}|{short}~[1-4]|{_short_names(hashed)})[. ]*(?:\Z|:)".encode(), re.IGNORECASE)
    for which, short, hashed in (("modules", "gitmod", "gi7eba"), ("attributes", "gitatt", "gi7d29"))
}


def _hfs_folded(raw: bytes) -> str:
    """The name as HFS+ compares it; malformed UTF-8 ends it, as in git's own reading."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        text = raw[: error.start].decode("utf-8")
    return _HFS_IGNORED.sub("", text).lower()


def _is_alias(raw: bytes, pattern: re.Pattern[bytes], folded: str) -> bool:
    after_backslashes = raw.split(b"\\")[1:] if b"\\" in raw else []
    return (
        pattern.match(raw) is not None
        or _hfs_folded(raw) == folded
        or any(pattern.match(part) is not None for part in after_backslashes)
    )


def is_git_metadata(name: str) -> bool:
    """Whether some system takes `name` for `.git`: HFS+ and NTFS have other spellings."""
    return _is_alias(os.fsencode(name), _METADATA_NAME, ".git")


def refused_content(name: str, data: bytes, is_link: bool) -> str | None:
    """Why git's fsck would refuse a tree with this file, None when it would not."""
    raw = os.fsencode(name)
    if _is_alias(raw, _SPECIAL_NAMES["modules"], ".gitmodules"):
        return "a .gitmodules that is a link" if is_link else _refused_modules(data)
    if not is_link and _is_alias(raw, _SPECIAL_NAMES["attributes"], ".gitattributes"):
        too_long = any(len(line) >= 2048 for line in data.split(b"\n"))
        return "a .gitattributes with a line that git refuses" if too_long else None
    return None


def _refused_modules(data: bytes) -> str | None:
    try:
        for name, key, value in _config_values(data.decode("utf-8", "surrogateescape")):
            if name is not None and not _harmless_module(name, key, value):
                return "a .gitmodules that git refuses as dangerous"
    except ValueError:
        return "a .gitmodules that git can't parse"
    return None


def _harmless_module(name: str, key: str, value: str) -> bool:
    if not name or ".." in re.split(r"[/\\]", name):
        return False
    if key in ("url", "path") and value.startswith("-"):
        return False
    if key == "update":
        return not value.startswith("!")
    return key != "url" or _harmless_url(value)


def _harmless_url(url: str) -> bool:
    if "\n" in url or "%0a" in url.lower():
        return False
    if re.match(r"(?:\./|\.\./)", url):
        climbed = re.sub(r"\A(?:\./|\.\./)+", "", url)
        return not climbed.startswith((":", "/"))
    web = re.match(r"(?:https?|ftps?)(?:::|://)", url)
    return web is None or bool(
        re.fullmatch(
            r"(?:https?|ftps?)://(?:[\w.~%!$&'()*+,;=:-]*@)?[A-Za-z0-9._-]+(?::\d{1,4})?(?:[/?#](?:[^%\s]|%[0-9A-Fa-f]{2})*)?",
            url,
        )
    )


_SECTION = re.compile(r'\[\s*([A-Za-z0-9.-]+)\s*(?:"((?:[^"\\\n]|\\.)*)")?\s*\]')
_VARIABLE = re.compile(r"([A-Za-z][A-Za-z0-9-]*)[ \t]*")
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b", '"': '"', "\\": "\\"}


def _config_values(text: str) -> Iterator[tuple[str | None, str, str]]:
    """(submodule's name or None, key, value) of each setting in git's configuration syntax. Raises ValueError."""
    module: str | None = None
    at = 0
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text[at] in "#;":
            at = (text.find("\n", at) + 1) or len(text)
        elif section := _SECTION.match(text, at):
            head, quoted = section[1].lower(), section[2]
            dotted = head.removeprefix("submodule.") if head.startswith("submodule.") else None
            module = re.sub(r"\\(.)", r"\1", quoted) if head == "submodule" and quoted is not None else dotted
            at = section.end()
        elif variable := _VARIABLE.match(text, at):
            value, at = _config_value(text, variable.end())
            yield module, variable[1].lower(), value
        else:
            raise ValueError("not git configuration")


def _config_value(text: str, at: int) -> tuple[str, int]:
    if at >= len(text) or text[at] == "\n":
        return "", at
    if text[at] != "=":
        raise ValueError("a variable without `=`")
    out, quoted, kept, at = "", False, 0, at + 1
    while at < len(text) and text[at] != "\n":
        letter = text[at]
        if letter in "#;" and not quoted:
            at = text.find("\n", at) if "\n" in text[at:] else len(text)
            break
        if letter == "\\":
            following = text[at + 1 : at + 2]
            if following == "\n":
                at += 2
                continue
            out += _ESCAPES[following] if following in _ESCAPES else _bad_escape()
            kept, at = len(out), at + 2
            continue
        if letter == '"':
            quoted = not quoted
        elif quoted or not letter.isspace():
            out += letter
            kept = len(out)
        elif out:
            out += letter
        at += 1
    if quoted:
        raise ValueError("a quote without its end")
    return out[:kept], at


def _bad_escape() -> str:
    raise ValueError("an unknown escape")
