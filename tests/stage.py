"""A program called `claude` that plays what a test wrote, and jobs in which it works: see `fake_claude.py`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jobs import Jobs

from logist.testing import FakeClock


def result(text: str = "", session: str = "s-1", **changes: Any) -> dict[str, Any]:
    """The event with which Claude Code ends."""
    event = {"type": "result", "subtype": "success", "is_error": False, "result": text, "session_id": session}
    usage = {"input_tokens": 100, "cache_read_input_tokens": 20, "output_tokens": 10}
    return {**event, "total_cost_usd": 0.01, "usage": usage, "permission_denials": [], **changes}


def refused(status: int, text: str) -> dict[str, Any]:
    """The same when the provider refused."""
    return result(text, is_error=True, api_error_status=status, total_cost_usd=0.0, usage={})


@dataclass
class Stage:
    """A program, called `claude` by default, that plays what a test wrote, and jobs in which it works."""

    folder: Path
    jobs: Jobs

    def plays(self, *turns: dict[str, Any]) -> None:
        for number, turn in enumerate(turns, start=1):
            (self.folder / "turns" / f"{number}.json").write_text(json.dumps(turn), encoding="utf-8")

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "calls.jsonl").read_text(encoding="utf-8").splitlines()]


@contextmanager
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "claude") -> Iterator[Stage]:
    """The program, first on PATH, and jobs in a folder beside it."""
    folder = tmp_path / "program"
    (folder / "turns").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("fake_claude.py"), folder)
    program = folder / name
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{folder}/fake_claude.py" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (folder / "version").write_text("2.1.197 (Claude Code)\n", encoding="utf-8")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    jobs = Jobs(tmp_path / "work", clock=FakeClock())
    yield Stage(folder, jobs)
    jobs.close()
