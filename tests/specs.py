"""Makes render specs for the tests: chunks of small real files or videos."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VIDEOS = Path(__file__).with_name("videos.py")
WIDTH, HEIGHT, FPS = 64, 48, 30


def spec(
    commands: Sequence[str], *, frames: int = 1, outputs: Sequence[str] | None = None, merge: str = "", **extra: Any
) -> dict[str, Any]:
    """A spec whose chunks have these commands and as many frames each; without `outputs` they make no files."""
    files = outputs if outputs is not None else [""] * len(commands)
    return {
        "metadata": {
            "totalFrames": frames * len(commands),
            "fps": FPS,
            "width": WIDTH,
            "height": HEIGHT,
            "duration": frames * len(commands) / FPS,
        },
        "chunks": [
            {"id": number, "startFrame": number * frames, "frameCount": frames, "outputFile": file, "command": command}
            for number, (command, file) in enumerate(zip(commands, files, strict=True))
        ],
        "mergeCommand": merge,
        **extra,
    }


def counted(number: int, command: str) -> str:
    """The command, after it has left a mark that it was run: see `runs`."""
    return f"echo run >> runs.{number}; {command}"


def runs(folder: Path, number: int) -> int:
    """How often the counted command of a chunk was run."""
    path = folder / f"runs.{number}"
    return len(path.read_text().splitlines()) if path.exists() else 0


def text_spec(count: int, **extra: Any) -> dict[str, Any]:
    """Chunks that write `out.N.txt`, counted, and a merge that joins them to `all.txt`."""
    outputs = [f"out.{number}.txt" for number in range(count)]
    commands = [counted(number, f"echo chunk {number} > out.{number}.txt") for number in range(count)]
    merge = f"cat {' '.join(outputs)} > all.txt"
    return spec(commands, outputs=outputs, merge=merge, output="all.txt", **extra)


def video_spec(sizes: Sequence[int], **extra: Any) -> dict[str, Any]:
    """Chunks of so many frames each, real videos with their frame numbers drawn in, merged by Logist."""
    python = shlex.quote(sys.executable)
    chunks, start = [], 0
    for number, size in enumerate(sizes):
        make = f"{python} {shlex.quote(str(VIDEOS))} part.{number}.mp4 --start-frame {start} --frame-count {size}"
        chunks.append(
            {
                "id": number,
                "startFrame": start,
                "frameCount": size,
                "outputFile": f"part.{number}.mp4",
                "command": counted(number, make),
            }
        )
        start += size
    return {
        "metadata": {"totalFrames": start, "fps": FPS, "width": WIDTH, "height": HEIGHT, "duration": start / FPS},
        "chunks": chunks,
        "mergeCommand": "helios merge final.mp4 " + " ".join(f"part.{number}.mp4" for number in range(len(sizes))),
        **extra,
    }


def write_spec(folder: Path, content: dict[str, Any], name: str = "job.json") -> Path:
    """The spec as a file."""
    path = folder / name
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return path
