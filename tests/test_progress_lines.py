"""Frames from a command's output: what is understood, and that nothing printed can do harm."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist.progress_lines import FrameCounter


def told(data: bytes, frame_count: int = 30, start_frame: int = 0) -> int | None:
    return FrameCounter(frame_count, start_frame).feed(data)


@pytest.mark.parametrize(
    ("line", "frames"),
    [
        ("frame 12/30", 12),
        ("Frame 12 of 30", 12),
        ("frame: 12 / 30", 12),
        ("Rendered 12 of 30 frames", 12),
        ("Captured 12/30 frames (40%)", 12),
        ("Progress: 40%", 12),
        ("Rendering... 40.9 %", 12),
        ("40% complete", 12),
        ("Progress: 100%", 30),
        ("Progress: 140%", 30),
        ("[12/30]", 12),
        ("[ 12 / 30 ] scene.html", 12),
        (" 40%|####      | 12/30 [00:01<00:02, 9.1it/s]", 12),
        ("frame=   12 fps=9.5 q=28.0 size=     256kB time=00:00:00.40 bitrate=5243kbits/s speed=0.3x", 12),
        ("frame=12", 12),
        ("Rendering frame 12", 12),
        ("Frame #12", 12),
        ("[worker 3] FRAME 12/30 done in 18ms", 12),
        ("frame 30/30", 30),
    ],
)
def test_a_line_of_progress_is_understood(line: str, frames: int) -> None:
    assert told(f"{line}\n".encode()) == frames


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ready",
        "30 frames to render",
        "Total frames: 30",
        "Rendering from frame 3 to frame 9",
        "helios render page.html --start-frame 12 --frame-count 30",
        "frame rate 25, 30 frames",
        "[2/4] Bundling",
        "took 12 of 40 ms",
        "2026/12/30 12:00:01 started",
        "version 1.12/30",
        "Progress",
        "Downloading the browser: 40% complete",
        "Progress: 40% of the download",
        "memory 40%",
        "frame 31/30",
        "frame 31",
        "frame 99999999999999999999",
        "keyframe 12",
        "Frame 12x30",
    ],
)
def test_a_line_that_tells_no_progress_is_none(line: str) -> None:
    assert told(f"{line}\n".encode()) is None


@pytest.mark.parametrize(
    ("line", "frames"),
    [
        ("frame 20/50", 20),  # the chunk's own numbers
        ("frame 120/150", 20),  # the video's, up to the chunk's end
        ("[120/150]", 20),
        ("frame 120/1000", 20),  # the video's, all of it
        ("frame=  20 fps=9", 20),
        ("frame=  120 fps=9", 20),
        ("frame 100/150", None),  # nothing is made yet
        ("frame 40/150", None),  # frames before the chunk, played and not kept
        ("frame 151", None),
        ("[120/1000]", None),  # of frames it says nothing
    ],
)
def test_frame_numbers_of_the_video_become_the_chunks_own(line: str, frames: int | None) -> None:
    assert told(f"{line}\n".encode(), frame_count=50, start_frame=100) == frames


def test_the_newest_number_is_given_only_when_it_grew() -> None:
    counter = FrameCounter(30, 0)
    assert [counter.feed(f"frame {number}/30\n".encode()) for number in (3, 3, 7, 5, 8)] == [3, None, 7, None, 8]


def test_a_carriage_return_ends_a_line_whether_it_stands_before_or_after_it() -> None:
    counter = FrameCounter(30, 0)
    assert [counter.feed(b"frame %d/30\r" % number) for number in (1, 2, 3)] == [1, 2, 3]
    counter = FrameCounter(30, 0)
    assert [counter.feed(b"\rframe %d/30" % number) for number in (1, 2, 3)] == [None, 1, 2]


def test_colours_and_bytes_that_are_no_text_do_not_hide_it() -> None:
    assert told(b"\x1b[32m\xff\xfeframe\x1b[0m \x1b[1m12\x1b[0m/\x1b[2m30\x1b[0m\x1b[K\n") == 12
    assert told(b"\x1b]0;rendering\x07frame 12/30\n") == 12


def test_a_bar_that_is_drawn_anew_on_its_line_counts_with_its_last_number() -> None:
    assert told(b"frame 1/30\x1b[1Gframe 2/30\x1b[1Gframe 3/30\n") == 3


def test_other_output_behind_the_last_number_does_not_hide_it() -> None:
    assert told(b"frame 12/30\nwarning: no audio\nwarning: no fonts\n") == 12


@given(cuts=st.lists(st.integers(0, 60), max_size=6))
def test_a_line_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    line = b"noise\n\x1b[32mRendered 12 of 30 frames\x1b[0m\r\n"
    ends = [0, *sorted(min(cut, len(line)) for cut in cuts), len(line)]
    counter = FrameCounter(30, 0)
    seen = [counter.feed(line[start:end]) for start, end in itertools.pairwise(ends)]
    assert [frames for frames in seen if frames is not None] == [12]


@given(
    pieces=st.lists(
        st.binary(max_size=80)
        | st.sampled_from([b"frame ", b"12/30", b"%", b"Progress: ", b"\r", b"\n", b"of ", b"9" * 30, b"\x1b[", b"30"]),
        max_size=60,
    ),
    frame_count=st.integers(1, 10**9),
    start_frame=st.integers(0, 10**9),
)
def test_no_output_does_harm_and_the_count_only_grows(pieces: list[bytes], frame_count: int, start_frame: int) -> None:
    counter = FrameCounter(frame_count, start_frame)
    seen = [frames for piece in pieces if (frames := counter.feed(piece)) is not None]
    assert seen == sorted(set(seen))
    assert all(0 < frames <= frame_count for frames in seen)


def test_a_line_without_an_end_is_not_kept_whole() -> None:
    counter = FrameCounter(30, 0)
    for _ in range(50):
        counter.feed(b"." * 65_536)
    assert len(counter._rest) <= 4096
    assert counter.feed(b" frame 12/30\n") == 12


def test_of_much_output_only_the_end_is_looked_at() -> None:
    assert told(b"frame 12/30\n" + b"x" * 100_000 + b"\n") is None
    assert told(b"x\n" * 100_000 + b"frame 12/30\n") == 12


@pytest.mark.parametrize("piece", [b"render", b"frame ", b"1 of ", b"1/", b"\x1b]", b"\x1b[0", b"progress ", b"% "])
def test_no_line_is_slow_to_read(piece: bytes) -> None:
    # Not a limit of time, but one that a pattern with nested repetitions would pass by hours.
    counter = FrameCounter(30, 0)
    for _ in range(50):
        counter.feed(piece * (65_536 // len(piece)) + b"\n")
