"""Makes frames of a film, joins parts of it, and counts frames: YUV4MPEG files, which need no library.

python3 frames.py make part.y4m FIRST COUNT
python3 frames.py join film.y4m PART...
python3 frames.py count film.y4m
"""

from __future__ import annotations

import sys
from pathlib import Path

WIDTH, HEIGHT = 64, 48
HEADER = f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F30:1 Ip A1:1 C420jpeg\n".encode()
FRAME = b"FRAME\n"
FRAME_SIZE = len(FRAME) + WIDTH * HEIGHT * 3 // 2


def make(path: Path, first: int, count: int) -> None:
    """Frames in which a bar of light moves to the right."""
    with path.open("wb") as film:
        film.write(HEADER)
        for number in range(first, first + count):
            row = bytes(235 if column == number % WIDTH else 16 for column in range(WIDTH))
            film.write(FRAME + row * HEIGHT + bytes([128]) * (WIDTH * HEIGHT // 2))


def join(path: Path, parts: list[Path]) -> None:
    """One film of several."""
    with path.open("wb") as film:
        film.write(HEADER)
        for part in parts:
            film.write(part.read_bytes().removeprefix(HEADER))


def count_frames(path: Path) -> int:
    """How many frames a film has."""
    return (path.stat().st_size - len(HEADER)) // FRAME_SIZE


if __name__ == "__main__":
    task, target, *rest = sys.argv[1:]
    if task == "make":
        make(Path(target), int(rest[0]), int(rest[1]))
    elif task == "join":
        join(Path(target), [Path(part) for part in rest])
    else:
        sys.stdout.write(f"{count_frames(Path(target))}\n")
