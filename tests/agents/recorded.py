"""What the agent CLIs really printed: one recording a case, as `recordings/<cli>/<case>.*`.

`.stdout` and `.stderr` (missing: nothing was printed), `.toml` (how it came about, and what is to be understood of it),
`.reply.json` (what the agent wrote into its reply file) and `.files/` (what the program put into the step's folder).
Long events are shortened, and paths, ports and ids replaced. Every prompt held a fenced example with the action STUCK,
which no reader may take for the answer.
"""

from __future__ import annotations

import os
import shutil
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from logist.agents import CLIS
from logist.agents.cli import Cli, CliOutput
from logist.agents.oneshot import OneshotRequest
from logist.models.manifest import Role, RoleSettings

RECORDINGS = Path(__file__).parent / "recordings"
#: The nonce of the reply files in the recordings.
TOKEN = "0123456789abcdef"
#: When `request_for` asks.
ASKED_AT = datetime(2026, 11, 22, 0, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Recording:
    """One oneshot of one program, as it was."""

    cli: str
    case: str
    stdout: bytes
    stderr: bytes
    #: The keys of its .toml: made ("recorded" or "by hand"), version, what, exit_code; killed (it was stopped);
    #: after (the case whose session this one goes on with); expected (see test_reports.py).
    about: dict[str, Any]
    reply_file: bytes | None
    #: What it put into the step's folder; None: nothing.
    files: Path | None

    @property
    def expected(self) -> dict[str, Any]:
        """What is to be understood of it."""
        expected: dict[str, Any] = self.about["expected"]
        return expected

    def output(self, step_dir: Path) -> CliOutput:
        """What the program left behind; its files are copied to `step_dir`."""
        if self.files is not None:
            shutil.copytree(self.files, step_dir, dirs_exist_ok=True)
        return CliOutput(self.stdout, self.stderr, self.about["exit_code"], step_dir)


def recording(cli: str, case: str) -> Recording:
    """The recording of that case."""
    path = RECORDINGS / cli / case
    reply_file, files = path.with_suffix(".reply.json"), path.with_suffix(".files")
    return Recording(
        cli,
        case,
        _bytes_of(path.with_suffix(".stdout")) or b"",
        _bytes_of(path.with_suffix(".stderr")) or b"",
        tomllib.loads(path.with_suffix(".toml").read_text(encoding="utf-8")),
        _bytes_of(reply_file),
        files if files.is_dir() else None,
    )


def _bytes_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def every_recording() -> list[Recording]:
    """All of them, by CLI and case."""
    return [recording(path.parent.name, path.stem) for path in sorted(RECORDINGS.glob("*/*.toml"))]


def cli_called(name: str) -> Cli:
    """The CLI that is registered under this name."""
    cli: Cli = resolve_name(f"logist.agents.{CLIS[name]}")()
    return cli


def request_for(tmp_path: Path, agent: str, role: Role = Role.WORKER, **settings: object) -> OneshotRequest:
    """A first question to `agent`, in a workspace and a step folder that exist."""
    workspace, step_dir = tmp_path / "workspace", tmp_path / "steps"
    (workspace / ".logist").mkdir(parents=True, exist_ok=True)
    step_dir.mkdir(exist_ok=True)
    return OneshotRequest(
        job_id="fix-it",
        objective="Fix it",
        role=role,
        step=3,
        attempt=1,
        turn=1,
        phase="main",
        prompt="Do it well: é\n",
        prompt_file=step_dir / "prompt.md",
        workspace=workspace,
        step_dir=step_dir,
        reply_file=workspace / ".logist" / "reply.json",
        token=TOKEN,
        settings=RoleSettings.model_validate({"agent": agent, **settings}),
        timeout=30.0,
        asked_at=ASKED_AT,
        environ={"PATH": os.environ["PATH"]},
    )
