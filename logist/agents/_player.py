"""Plays one turn of a playbook as a process of its own: `python -I -S _player.py FILE ROLE TURN`.

Standard library only and no import of Logist: it starts fast, and it knows of a job what any agent knows.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROLES = ("worker", "supervisor")
VERDICTS = ("COMPLETED", "RETRY", "STUCK")
REPLIES = ("file", "text", "none", "garbage")
INVALID = 78
#: Seconds between two looks for the file that `wait_for` names.
_POLL = 0.02

Turn = dict[str, Any]


class PlaybookInvalidError(Exception):
    """The playbook can't be played; the message says where and why."""


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_contents(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(content, str) for content in value.values())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6


def _is_exit_code(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


#: What a turn may hold: its key, what is accepted, and that in words.
KEYS: dict[str, tuple[Callable[[object], bool], str]] = {
    "print": (lambda value: isinstance(value, str), "a string"),
    "sleep": (_is_number, "seconds"),
    "wait_for": (lambda value: isinstance(value, str) and value != "", "a path"),
    "write": (_is_contents, 'a table of "path" = "content"'),
    "append": (_is_contents, 'a table of "path" = "content"'),
    "delete": (_is_texts, "a list of paths"),
    "run": (lambda value: isinstance(value, str), "a line for /bin/sh"),
    "phase": (lambda value: isinstance(value, str), "the name of a phase"),
    "action": (lambda value: value in VERDICTS, "COMPLETED, RETRY or STUCK"),
    "summary": (lambda value: isinstance(value, str), "a string"),
    "evidence_files": (_is_texts, "a list of paths"),
    "reply": (lambda value: value in REPLIES, "file, text, none or garbage"),
    "exit_code": (_is_exit_code, "a number from 0 to 255"),
}


def load_playbook(path: Path) -> dict[str, list[Turn]]:
    """The turns of each role, in order. Raises PlaybookInvalidError with the line, OSError when it can't be read."""
    try:
        text = path.read_bytes().decode("utf-8")
        playbook = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PlaybookInvalidError(str(error)) from error
    for role in playbook:
        if role not in ROLES:
            raise PlaybookInvalidError(f"unknown table [[{role}]]; there are [[worker]] and [[supervisor]]")
    for role, turns in playbook.items():
        if not (isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns)):
            raise PlaybookInvalidError(f"{role} must be written as [[{role}]], once for each turn")
        for number, turn in enumerate(turns, start=1):
            _check_turn(turn, f"{role} turn {number}{_line_of(text, role, number)}")
    return playbook


def _check_turn(turn: Turn, where: str) -> None:
    for key, value in turn.items():
        if key not in KEYS:
            raise PlaybookInvalidError(f"{where}: unknown key {key!r}; a turn takes {', '.join(KEYS)}")
        accepts, what = KEYS[key]
        if not accepts(value):
            raise PlaybookInvalidError(f"{where}: {key} must be {what}")
    for name in [*turn.get("write", ()), *turn.get("append", ()), *turn.get("delete", ())]:
        if not name or name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise PlaybookInvalidError(f"{where}: {name!r} is not a relative path inside the workspace")


def _line_of(text: str, role: str, number: int) -> str:
    headers = re.finditer(rf"^\s*\[\[\s*{role}\s*\]\]", text, re.MULTILINE)
    for count, header in enumerate(headers, start=1):
        if count == number:
            return f" (line {text.count(chr(10), 0, header.end()) + 1})"
    return ""


def main(arguments: list[str]) -> int:
    """Play one turn and return the exit code."""
    file, role, number = arguments
    try:
        turns = load_playbook(Path(file)).get(role, [])
        turn = _pick(turns, role, int(number))
        _act(turn)
        _reply(turn)
    except (PlaybookInvalidError, OSError) as error:
        sys.stderr.write(f"playbook {file}: {error}\n")
        return INVALID
    exit_code: int = turn.get("exit_code", 0)
    return exit_code


def _pick(turns: list[Turn], role: str, number: int) -> Turn:
    """The turn of that number; STUCK where the playbook has none for the role, or means another phase."""
    if number > len(turns):
        return {"action": "STUCK", "summary": f"the playbook has no turn {number} for the {role}"}
    turn = turns[number - 1]
    phase = os.environ.get("LOGIST_PHASE", "")
    if turn.get("phase", phase) != phase:
        meant = f"turn {number} for the {role} is written for the phase {turn['phase']}, this is {phase}"
        return {"action": "STUCK", "summary": f"the playbook's {meant}"}
    return turn


def _act(turn: Turn) -> None:
    if "print" in turn:
        _say(turn["print"])
    time.sleep(turn.get("sleep", 0))
    while "wait_for" in turn and not Path(turn["wait_for"]).exists():
        time.sleep(_POLL)
    for name, content in turn.get("write", {}).items():
        _inside(name).write_text(content, encoding="utf-8")
    for name, content in turn.get("append", {}).items():
        with _inside(name).open("a", encoding="utf-8") as file:
            file.write(content)
    for name in turn.get("delete", ()):
        _inside(name).unlink(missing_ok=True)
    if "run" in turn:
        _run(turn["run"])


def _inside(name: str) -> Path:
    """The path of that name below the workspace, its folder made. Raises PlaybookInvalidError when a link leads out."""
    workspace = Path.cwd().resolve()
    path = workspace / name
    if not path.resolve().is_relative_to(workspace):
        raise PlaybookInvalidError(f"{name!r} leads out of the workspace")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _run(line: str) -> None:
    # Not subprocess: it would be the slowest import of this program.
    exit_code = os.waitstatus_to_exitcode(os.system(line))
    if exit_code != 0:
        _say(f"the playbook's command ended with exit code {exit_code}: {line}")


def _reply(turn: Turn) -> None:
    reply = {
        "token": os.environ.get("LOGIST_STEP_TOKEN", ""),
        "action": turn.get("action", "COMPLETED"),
        "evidence_files": turn.get("evidence_files", []),
        "summary_for_supervisor": turn.get("summary", "a turn of a playbook (scripted, no model was asked)"),
    }
    text = json.dumps(reply, ensure_ascii=False, indent=1)
    channel = turn.get("reply", "file")
    if channel == "text":
        _say(f"```json\n{text}\n```")
    elif channel != "none":
        path = Path(os.environ["LOGIST_REPLY_FILE"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if channel == "file" else "I think that I am done.\n", encoding="utf-8")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
