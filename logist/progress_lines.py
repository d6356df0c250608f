"""How far a command is, from the lines that it prints."""

from __future__ import annotations

import re

#: Bytes kept of a line that has no end yet.
_LONGEST_LINE = 4096
#: Bytes at the end of what arrived that are looked at: what 10 GB of output cost must not depend on the pattern.
_LOOKED_AT = 1024
_MOST_LINES = 4

_ESCAPES = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-~]")
_LINE_END = re.compile(rb"[\r\n]+")
# Every repetition has a bound: a line that is made to be slow to read must not be.
_NUMBER = rb"(?<![\w.,/-])(\d{1,9})(?!\w|\.\d)"
_OF = rb"\s{0,8}(?:/|\bof\b|\bout of\b)\s{0,8}"
_TOTAL = rb"(\d{1,9})(?![\w/]|\.\d)"
#: `frame 12/30`, `Rendered 12 of 30 frames`, `[12/30]`, ` 40%|####  | 12/30 [00:01<00:02]`.
_COUNT = re.compile(_NUMBER + _OF + _TOTAL)
#: `frame=  120 fps= 30`, `Frame #12`, `Rendering frame 12`. Of `frames: 30` nobody knows whether they are made.
_FRAME = re.compile(rb"(?<![\w.-])frame\s{0,8}[:=#]?\s{0,8}(\d{1,9})(?!\w|\.\d)")
_OTHER_FRAME = re.compile(rb"\b(?:end|first|from|last|start|to|total|until)\b")
#: `Progress: 40%`, `rendering 40.5 %`, `40% complete`.
_PERCENT = re.compile(
    rb"\b(?:progress|render(?:ed|ing)?|encod(?:ed|ing)|captur(?:ed|ing))[^\d%]{0,20}(\d{1,3})(?:\.\d{0,9})?\s?%"
    rb"|(?<![\d.])(\d{1,3})(?:\.\d{0,9})?\s?%\s?(?:complete|done|rendered|encoded)"
)
_OTHER_WORK = (b"download", b"install", b"upload")
#: One of these is in every line that says something; to look for them costs next to nothing.
_SIGNS = (b"frame", b"%", b"/", b"of")


class FrameCounter:
    """Counts the frames of one chunk that are made, as the chunk's command tells it.

    Numbers that count from the video's first frame are told from those that count from the chunk's own by their total,
    or by being too large. The count never goes down and never passes the chunk's.
    """

    def __init__(self, frame_count: int, start_frame: int = 0) -> None:
        self._count = frame_count
        self._start = start_frame
        self._made = 0
        self._rest = b""

    def feed(self, data: bytes) -> int | None:
        """Take what was printed; the frames that are made when that number grew, else None. Never raises.

        Only lines that are complete count, and of much output at once only the last ones.
        """
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if not end:
            self._rest = (self._rest + data[-_LONGEST_LINE:])[-_LONGEST_LINE:]
            return None
        complete = (self._rest + data[:end] if end < _LOOKED_AT else data[end - _LOOKED_AT : end])[-_LOOKED_AT:]
        self._rest = data[end:][-_LONGEST_LINE:]
        frames = self._last_told(complete)
        if frames is None or frames <= self._made:
            return None
        self._made = frames
        return frames

    def _last_told(self, complete: bytes) -> int | None:
        text = complete.lower()
        if not _has_one(text, _SIGNS):
            return None
        for line in reversed(_LINE_END.split(text.rstrip(b"\r\n"))[-_MOST_LINES:]):
            frames = self._told_in(_ESCAPES.sub(b" ", line)) if _has_one(line, _SIGNS) else None
            if frames is not None:
                return frames
        return None

    def _told_in(self, line: bytes) -> int | None:
        """What a line says; of several numbers (a bar that is drawn anew on its line) the last."""
        if _has_one(line, _OTHER_WORK):
            return None
        about_frames = b"frame" in line
        told = [self._of_total(int(number), int(total), about_frames) for number, total in _COUNT.findall(line)]
        known = [frames for frames in told if frames is not None]
        if known:
            return known[-1]
        if about_frames and not told and not _OTHER_FRAME.search(line):
            numbers = [self._of_number(int(number)) for number in _FRAME.findall(line)]
            if numbers:
                return numbers[-1]
        percents = [int(before or after) for before, after in _PERCENT.findall(line)] if b"%" in line else ()
        return min(percents[-1], 100) * self._count // 100 if percents else None

    def _of_total(self, number: int, total: int, about_frames: bool) -> int | None:
        if number > total:
            return None
        if total == self._count:
            return number
        in_video = total == self._start + self._count or (about_frames and total > self._count)
        return self._from_start(number) if in_video else None

    def _of_number(self, number: int) -> int | None:
        return number if number <= self._count else self._from_start(number)

    def _from_start(self, number: int) -> int | None:
        """The chunk's own count for a frame number of the video; None for a frame that is not the chunk's."""
        return number - self._start if self._start <= number <= self._start + self._count else None


def _has_one(text: bytes, parts: tuple[bytes, ...]) -> bool:
    return any(part in text for part in parts)
