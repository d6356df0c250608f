"""Reads replies: strict and bounded, from the reply file or from an agent's final text. Never raises on bad input.

A problem is one sentence that the agent can act on: it stands in the next prompt.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from logist.models.manifest import MAX_TEXT
from logist.models.reply import MAX_REPLY_BYTES, Reply
from logist.plain_text import plain_text

_FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*([^`\s]*)[^`]*", re.ASCII)
_LONGEST_FENCE_LINE = 200
_KEYS = "action, evidence_files, summary_for_supervisor and token"


@dataclass(frozen=True)
class Reading:
    """A reply, or the problem with what was received; exactly one of the two."""

    reply: Reply | None
    problem: str | None = None
    #: What was looked at: for people, when it can't be used.
    received: str = ""


class _RefusedError(ValueError):
    """What was received is not a reply; the message says why."""


def read_reply_file(workspace: Path, path: Path, token: str) -> Reading | None:
    """The reply in the file `path` below `workspace`; None when there is no such file.

    No link is followed on the way, so an agent can't make Logist read what the agent itself could not. The caller
    empties the folder before the attempt: whatever lies there is this attempt's.
    """
    try:
        data = _read_regular(workspace, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except _RefusedError as refused:
        return Reading(None, str(refused))
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else (error.strerror or "input/output error").lower()
        return Reading(None, f"the reply file could not be read: {why}")
    return parse_reply(data, token, token_required=True)


def _read_regular(workspace: Path, path: Path) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    *folders, name = path.relative_to(workspace).parts
    folder = os.open(workspace, flags | os.O_DIRECTORY)
    try:
        for part in folders:
            inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Non-blocking: a FIFO without a writer would hang the run.
        descriptor = os.open(name, flags | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _RefusedError("the reply file is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            # Bounded by what is read, not by the size that is stated: the file may still grow.
            return file.read(MAX_REPLY_BYTES + 1)
    finally:
        os.close(descriptor)


def parse_reply(data: bytes, token: str, *, token_required: bool) -> Reading:
    """The reply that `data` is, as JSON in UTF-8. With `token_required` it must carry this attempt's token."""
    received = data[:MAX_REPLY_BYTES].decode("utf-8", errors="replace")
    try:
        reply = _as_reply(_load(data), token, token_required=token_required)
    except _RefusedError as refused:
        return Reading(None, str(refused), received)
    return Reading(reply, None, received)


def find_reply(text: str, token: str) -> Reading:
    """The reply in an agent's *final* text: its last fenced JSON object with an `action`, or the whole text as one.

    Only json and plain fences count. Earlier replies with another action make it two replies that disagree; earlier
    blocks that are no valid reply (a quoted template) don't count. The token is optional here, but never another's.
    """
    blocks = list(_fenced_blocks(text)) or [text.strip()]
    readings = [reading for block in blocks if (reading := _read_block(block, token)) is not None]
    if not readings:
        return Reading(None, "there is no reply: no fenced JSON block with an action is in the final text", text)
    last = readings[-1]
    actions = {reading.reply.action for reading in readings if reading.reply is not None}
    if last.reply is not None and len(actions) > 1:
        return Reading(None, f"there are two replies that disagree: {' and '.join(sorted(actions))}", text)
    return last


def _read_block(block: str, token: str) -> Reading | None:
    """The reading of one block, None when it is no attempt at a reply."""
    if not block.lstrip().startswith("{") or '"action"' not in block:
        return None
    data = block.encode("utf-8", "surrogatepass")
    try:
        loaded = _load(data)
    except _RefusedError as refused:
        return Reading(None, str(refused), block)
    if not isinstance(loaded, dict) or "action" not in loaded:
        return None
    return parse_reply(data, token, token_required=False)


def _fenced_blocks(text: str) -> Iterator[str]:
    """The content of the closed json and plain fences, by lines: a fence inside of another fence is content."""
    opened: str | None = None
    wanted = False
    content: list[str] = []
    for line in text.split("\n"):
        fence = _FENCE.fullmatch(line) if len(line) <= _LONGEST_FENCE_LINE else None
        if opened is None:
            if fence:
                opened, wanted, content = fence[1], fence[2].lower() in ("", "json"), []
        elif fence and not fence[2] and fence[1].startswith(opened):
            if wanted:
                yield "\n".join(content)
            opened = None
        else:
            content.append(line)


def _load(data: bytes) -> object:
    if len(data) > MAX_REPLY_BYTES:
        raise _RefusedError(f"the reply is larger than {MAX_REPLY_BYTES} bytes")
    try:
        text = data.decode("utf-8")
        loaded = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
        # A lone surrogate is legal JSON and no text: nothing could store it.
        json.dumps(loaded, ensure_ascii=False).encode("utf-8")
    except _RefusedError:
        raise
    except UnicodeDecodeError as error:
        raise _RefusedError(f"the reply is not UTF-8 at byte {error.start}") from error
    except UnicodeEncodeError as error:
        raise _RefusedError("the reply holds half of a surrogate pair (\\ud800 to \\udfff)") from error
    except json.JSONDecodeError as error:
        raise _RefusedError(
            f"the reply is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from error
    except ValueError as error:
        raise _RefusedError("the reply is not JSON: a number in it is too long") from error
    except RecursionError as error:
        raise _RefusedError("the reply is nested too deeply") from error
    return loaded


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made: dict[str, object] = {}
    for key, value in pairs:
        if key in made:
            raise _RefusedError(f"the key {_quote(key)} stands twice in the reply")
        made[key] = value
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is not JSON")


def _as_reply(loaded: object, token: str, *, token_required: bool) -> Reply:
    if not isinstance(loaded, dict):
        raise _RefusedError(f"the reply must be one JSON object with the keys {_KEYS}")
    fields = dict(loaded)
    carried = fields.pop("token", None)
    if carried is None and token_required:
        raise _RefusedError("the reply carries no token: it must hold the one that was given for it")
    if carried is not None and carried != token:
        raise _RefusedError("the reply carries a token that was given for another attempt")
    if "action" not in fields:
        raise _RefusedError("the reply has no action: COMPLETED, RETRY or STUCK")
    try:
        reply = Reply.model_validate(fields)
    except ValidationError as error:
        raise _RefusedError(_sentence(error)) from error
    # Here once, for the manifest, the commit message and every terminal that will show it.
    return reply.model_copy(update={"summary_for_supervisor": plain_text(reply.summary_for_supervisor)})


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = first["loc"][0] if first["loc"] else "reply"
    if first["type"] == "extra_forbidden":
        unknown = ", ".join(_quote(each["loc"][0]) for each in error.errors() if each["type"] == "extra_forbidden")
        return f"the reply has unknown keys: {unknown}; it takes {_KEYS}"[:500]
    if key == "action":
        return f"the action must be COMPLETED, RETRY or STUCK, not {_quote(first['input'])}"
    if key == "evidence_files":
        return "evidence_files must be a list of relative paths, at most 10000, none of them empty"
    if first["type"] == "string_too_long":
        return f"{key} is longer than {MAX_TEXT} characters"
    return f"{key} must be a string"


def _quote(value: object) -> str:
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    written = plain_text(value)
    return json.dumps(written if len(written) <= 60 else written[:59] + "…", ensure_ascii=False)
