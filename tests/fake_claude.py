"""A stand-in for an agent CLI in tests: prints what the test wrote for its turn, and notes how it was called.

`python fake_claude.py` in a folder of its own: `turns/N.json` holds `{"events": [...], "exit_code": 0, "reply": {...}}`
for its Nth call, the last one again and again; `calls.jsonl` gets the argv and the prompt of each call. Each line of a
turn's `log` goes to standard error; the pipe `waits_for` is then read to its end. `version` holds what `--version`
prints. Without `-p` or `run` it is a terminal of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> int:
    if "--version" in sys.argv:
        sys.stdout.write((FOLDER / "version").read_text(encoding="utf-8"))
        return 0
    if "-p" not in sys.argv and "run" not in sys.argv:
        return chat()
    calls = FOLDER / "calls.jsonl"
    prompt = sys.stdin.read()
    with calls.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"argv": sys.argv[1:], "prompt": prompt}) + "\n")
    number = len(calls.read_text(encoding="utf-8").splitlines())
    written = sorted((FOLDER / "turns").glob("*.json"), key=lambda path: int(path.stem))
    turn = json.loads(written[min(number, len(written)) - 1].read_text(encoding="utf-8"))
    for name, content in turn.get("write", {}).items():
        Path(name).write_text(content, encoding="utf-8")
    for line in turn.get("log", ()):
        sys.stderr.write(line + "\n")
    sys.stderr.flush()
    if "waits_for" in turn:
        Path(turn["waits_for"]).read_bytes()
    if "reply" in turn:
        reply = {"token": os.environ["LOGIST_STEP_TOKEN"], "summary_for_supervisor": "done", **turn["reply"]}
        Path(os.environ["LOGIST_REPLY_FILE"]).write_text(json.dumps(reply), encoding="utf-8")
    for event in turn.get("events", ()):
        sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()
    if turn.get("hangs"):
        signal.pause()
    return int(turn.get("exit_code", 0))


def chat() -> int:
    """Its terminal: says where and in which session it is, and writes what it is told."""
    sys.stdout.write(f"chatting {sys.argv[1:]} in {Path.cwd()}\n")
    inherited = [name for name in ("CLAUDECODE", "CLAUDE_CONFIG_DIR", "GIT_DIR", "EDITOR") if name in os.environ]
    sys.stdout.write(f"inherited {inherited}\n")
    sys.stdout.flush()
    Path("said.txt").write_text(sys.stdin.readline(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
