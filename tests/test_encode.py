"""Pictures become videos: every frame once, in its colours, and the same bytes whenever they are made."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.video.reformatter import Interpolation
from hypothesis import given
from hypothesis import strategies as st
from pytest_mock import MockerFixture
from videos import read_numbers

from logist.errors import LogistError, MergeFailed, RenderFailed, StorageFailed, UsageProblem
from logist.render import encode, media
from logist.render.encode import note_of, video_writer
from logist.render.encoders import settings_for
from logist.render.merge import merge
from logist.render.notes import PartNote, Whole, of_page, parse, part_of, put_behind
from logist.render.options import AudioTrack, Mode, RenderOptions
from logist.render.output_file import written_beside
from logist.render.rendering import render_part

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 64, 48
SIDE = 4
FILM = Fraction(30000, 1001)

#: What can be made, and the container of its parts.
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("h264", ".mov", {}),
    ("h264", ".mp4", {"quality": 0}),
    ("h265", ".mov", {}),
    ("vp8", ".mkv", {}),
    ("vp9", ".mkv", {}),
    ("vp9", ".webm", {"pixel_format": "yuva420p"}),
    ("av1", ".mkv", {"preset": "12"}),
    ("prores", ".mov", {}),
    ("prores", ".mov", {"pixel_format": "yuva444p10le"}),
    ("ffv1", ".mkv", {}),
    ("libx264rgb", ".mkv", {"quality": 0}),
]
#: Those whose frames don't depend on the ones before them.
EXACT = [kind for kind in KINDS if kind[0] in ("prores", "ffv1") or kind[2].get("quality") == 0]

#: Where a codec has a place.
PLACES = {
    "h264": {".mp4", ".m4v", ".mov", ".mkv"},
    "h265": {".mp4", ".m4v", ".mov", ".mkv"},
    "hevc": {".mp4", ".m4v", ".mov", ".mkv"},
    "vp8": {".mkv", ".webm"},
    "vp9": {".mp4", ".m4v", ".mkv", ".webm"},
    "av1": {".mp4", ".m4v", ".mkv", ".webm"},
    "prores": {".mov", ".mkv"},
    "ffv1": {".mp4", ".m4v", ".mkv"},
    "libx264": {".mp4", ".m4v", ".mov", ".mkv"},
    "libx264rgb": {".mp4", ".m4v", ".mov", ".mkv"},
}

CALLED = {"h265": "hevc", "libx264": "h264", "libx264rgb": "h264"}

Pixel = tuple[int, ...]


def png(rows: Sequence[Sequence[Pixel]]) -> bytes:
    """A PNG file of these pixels: three numbers each, or four where some are transparent."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    kind = {3: 2, 4: 6}[len(rows[0][0])]
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, kind, 0, 0, 0)
    data = b"".join(b"\0" + bytes(itertools.chain.from_iterable(row)) for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A picture that shows a number the way `read_numbers` reads it."""
    lines = []
    for row in range(SIDE):
        bits = [255 * (number >> (row * SIDE + x * SIDE // width) & 1) for x in range(width)]
        lines.append([(bit, bit, bit) for bit in bits])
    return png([lines[y * SIDE // height] for y in range(height)])


def patches(colours: Sequence[Pixel], width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A picture of colours side by side, in stripes."""
    return png([[colours[x * len(colours) // width] for x in range(width)]] * height)


def options(codec: str | None = None, **others: Any) -> RenderOptions:
    """What is asked for."""
    return RenderOptions(**{"width": WIDTH, "height": HEIGHT, "fps": FILM, "video_codec": codec, **others})


def make(path: Path, pictures: Sequence[bytes], asked: RenderOptions, note: str | None = None) -> Path:
    """The video of some pictures."""
    with video_writer(path, settings_for(path, asked, part=True)) as writer:
        for picture in pictures:
            writer.add(picture)
        if note is not None:
            writer.note(note)
    assert writer.frames == len(pictures)
    return path


def frames(path: Path, decoder: str | None = None) -> Iterator[av.VideoFrame]:
    """The decoded frames of a video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context if decoder is None else av.CodecContext.create(decoder, "r")
        for packet in container.demux(stream):
            yield from context.decode(packet if packet.size else None)


def exact(frame: av.VideoFrame) -> bytes:
    """All that can be seen of a frame, transparency included, without what fills up its lines."""
    [plane] = frame.reformat(format="rgba64le").planes
    data = bytes(plane)
    return b"".join(data[y * plane.line_size : y * plane.line_size + 8 * frame.width] for y in range(frame.height))


def colours(frame: av.VideoFrame, count: int, pixel_format: str = "rgb24") -> list[Pixel]:
    """The colours in the middle of each of `count` stripes."""
    # Without these libav is off by three where colours are shared.
    good = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    [plane] = frame.reformat(format=pixel_format, interpolation=good).planes
    data, size = bytes(plane), 4 if pixel_format == "rgba" else 3
    row = frame.height // 2 * plane.line_size
    places = [row + size * ((2 * stripe + 1) * frame.width // (2 * count)) for stripe in range(count)]
    return [tuple(data[place : place + size]) for place in places]


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def refused(path: Path, asked: RenderOptions, *, part: bool = False) -> LogistError:
    """The error for settings that can't be."""
    with pytest.raises(UsageProblem) as caught:
        settings_for(path, asked, part=part)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


# --- Frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "suffix", "others"), KINDS)
@pytest.mark.parametrize("count", [1, 2, 13])
def test_every_picture_is_a_frame_once_and_in_order(
    tmp_path: Path, codec: str, suffix: str, others: dict[str, Any], count: int
) -> None:
    path = make(tmp_path / f"a{suffix}", [numbered(number) for number in range(count)], options(codec, **others))
    assert read_numbers(path) == list(range(count))
    assert media.check(path, frames=count, width=WIDTH, height=HEIGHT) is None
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("fps", [Fraction(24), FILM, Fraction(7, 3), Fraction(60000, 1001), Fraction(144)])
@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".mp4"), ("h264", ".mov"), ("prores", ".mov"), ("av1", ".mp4")])
def test_frames_are_evenly_spaced_to_the_tick(tmp_path: Path, fps: Fraction, codec: str, suffix: str) -> None:
    pictures = [numbered(number) for number in range(7)]
    path = make(tmp_path / f"a{suffix}", pictures, options(codec, fps=fps, preset="12" if codec == "av1" else None))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        assert stream.duration is not None
        assert stream.average_rate == fps
        assert stream.duration * stream.time_base == 7 / fps
        shown = [frame.pts * frame.time_base for frame in container.decode(stream)]  # type: ignore[operator]
    assert shown == [number / fps for number in range(7)]


def test_matroska_shows_frames_at_the_nearest_millisecond(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", [numbered(number) for number in range(40)], options())
    shown = [frame.pts for frame in frames(path)]
    assert all(abs(at - number * 1000 / FILM) <= Fraction(1, 2) for number, at in enumerate(shown))  # type: ignore[operator]
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == FILM


@pytest.mark.parametrize(("codec", "suffix", "others"), EXACT)
@pytest.mark.parametrize("sizes", [(15, 5), (7, 7, 6), (3, 3, 3, 3, 3, 3, 2), (1, 19)])
def test_parts_that_are_merged_are_the_whole_frame_by_frame(
    tmp_path: Path, codec: str, suffix: str, others: dict[str, Any], sizes: tuple[int, ...]
) -> None:
    pictures = [numbered(number) for number in range(sum(sizes))]
    asked, first, parts = options(codec, **others), 0, []
    for index, size in enumerate(sizes):
        parts.append(make(tmp_path / f"{index}{suffix}", pictures[first : first + size], asked))
        first += size
    merge(tmp_path / f"merged{suffix}", parts)
    whole = make(tmp_path / f"whole{suffix}", pictures, asked)
    merged = list(map(exact, frames(tmp_path / f"merged{suffix}")))
    assert merged == list(map(exact, frames(whole)))
    assert len(set(merged)) == len(pictures)


def placed() -> Iterator[tuple[str, str, dict[str, Any], str]]:
    """Every kind with every container that holds it, transparent VP9 in its own."""
    for codec, suffix, others in KINDS:
        clear = codec == "vp9" and "pixel_format" in others
        for output in sorted({".mkv", ".webm"} if clear else PLACES[codec]):
            yield codec, suffix, others, output


@pytest.mark.parametrize(("codec", "suffix", "others", "output"), list(placed()))
def test_parts_of_any_codec_become_one_where_the_codec_has_a_place(
    tmp_path: Path, codec: str, suffix: str, others: dict[str, Any], output: str
) -> None:
    asked = options(codec, **others)
    settings = settings_for(tmp_path / f"whole{output}", asked, part=False)
    parts = [
        make(tmp_path / f"{first}{suffix}", [numbered(number) for number in range(first, first + 5)], asked)
        for first in (0, 5)
    ]
    merged = merge(tmp_path / f"whole{output}", parts)
    assert read_numbers(tmp_path / f"whole{output}") == list(range(10))
    assert (merged.video_codec, merged.video_transcoded, merged.fps) == (settings.video.codec, False, FILM)


@pytest.mark.parametrize(("codec", "suffix", "others"), KINDS)
def test_a_part_begins_with_a_key_frame_and_needs_no_other(
    tmp_path: Path, codec: str, suffix: str, others: dict[str, Any]
) -> None:
    path = make(tmp_path / f"a{suffix}", [numbered(number) for number in range(9)], options(codec, **others))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert packets[0].is_keyframe
    assert packets[0].pts == 0
    assert {packet.pts for packet in packets} >= {0}


@pytest.fixture
def processors() -> Iterator[Callable[[int], None]]:
    """Lets this process see only so many processors, if it has them."""
    before = os.sched_getaffinity(0)
    yield lambda count: os.sched_setaffinity(0, sorted(before)[:count])
    os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("codec", "suffix", "others"), KINDS)
def test_the_same_pictures_are_the_same_bytes_on_any_machine(
    tmp_path: Path, codec: str, suffix: str, others: dict[str, Any], processors: Callable[[int], None]
) -> None:
    pictures = [numbered(number, 320, 256) for number in range(12)]
    asked, note = options(codec, width=320, height=256, **others), PartNote(0, 12, FILM).text()
    made = []
    for count in (1, 64, 64):
        processors(count)
        made.append(make(tmp_path / f"a{suffix}", pictures, asked, note).read_bytes())
    assert made[0] == made[1] == made[2]


def test_nothing_of_the_machine_is_in_the_file(tmp_path: Path) -> None:
    """x265 would tell which processor it ran on."""
    assert b"x265" not in make(tmp_path / "a.mov", [numbered(1)] * 3, options("h265")).read_bytes()


def test_a_picture_that_comes_again_is_decoded_once(tmp_path: Path, mocker: MockerFixture) -> None:
    looked_at = mocker.spy(encode._Tools, "picture")
    still, moving = numbered(5), numbered(6)
    path = make(tmp_path / "a.mov", [still, still, moving, moving, moving, still, numbered(5)], options())
    assert read_numbers(path) == [5, 5, 6, 6, 6, 5, 5]
    assert looked_at.call_count == 4


def test_an_encoder_of_a_name_of_its_own_is_taken(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mov", [numbered(number) for number in range(9)], options("png"))
    assert read_numbers(path) == list(range(9))
    assert media.read(path).codec == "png"


TALKATIVE = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_encode import make, numbered, options
for codec in ("av1", "h265"):
    make(Path(sys.argv[1]), [numbered(1)], options(codec))
"""


def test_encoders_keep_silent(tmp_path: Path) -> None:
    """In a process of its own: what they are told they hear once."""
    command = [sys.executable, "-c", TALKATIVE, str(tmp_path / "a.mkv")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


# --- Colours and transparency ----------------------------------------------------------------------------------------

PALETTE: list[Pixel] = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (128, 128, 128),
    (255, 255, 255),
    (0, 0, 0),
    (200, 120, 40),
    (30, 60, 90),
]


@pytest.mark.parametrize(
    ("codec", "suffix", "others", "off"),
    [
        ("h264", ".mp4", {"quality": 0}, 2),
        ("h264", ".mov", {"quality": 0, "pixel_format": "yuv444p"}, 2),
        ("h264", ".mkv", {"quality": 0, "pixel_format": "yuv444p10le"}, 2),
        ("h265", ".mp4", {"quality": 0, "pixel_format": "yuv420p10le"}, 2),
        ("prores", ".mov", {}, 2),
        ("vp8", ".webm", {"quality": 4}, 3),
        ("vp9", ".webm", {"quality": 0}, 2),
        ("vp9", ".mp4", {"quality": 0, "pixel_format": "yuv444p"}, 2),
        ("av1", ".mp4", {"quality": 1}, 3),
        ("ffv1", ".mkv", {}, 0),
        ("ffv1", ".mkv", {"pixel_format": "yuv420p"}, 2),
        ("libx264rgb", ".mov", {"quality": 0}, 0),
    ],
)
@pytest.mark.parametrize("size", [(128, 48), (1920, 32)])
def test_colours_stay_what_they_are(
    tmp_path: Path, codec: str, suffix: str, others: dict[str, Any], off: int, size: tuple[int, int]
) -> None:
    width, height = size
    picture = patches(PALETTE, width, height)
    path = make(tmp_path / f"a{suffix}", [picture] * 2, options(codec, width=width, height=height, **others))
    for frame in frames(path):
        for seen, meant in zip(colours(frame, len(PALETTE)), PALETTE, strict=True):
            assert max(abs(one - other) for one, other in zip(seen, meant, strict=True)) <= off, (seen, meant)


@pytest.mark.parametrize(("codec", "suffix", "others"), KINDS)
def test_what_the_numbers_of_a_pixel_mean_is_said_in_the_file(
    tmp_path: Path, codec: str, suffix: str, others: dict[str, Any]
) -> None:
    """As H.273 counts: the colours of high definition in the range of television, or red, green and blue."""
    path = make(tmp_path / f"a{suffix}", [numbered(1), numbered(2)], options(codec, **others))
    merge(tmp_path / f"b{suffix}", [path])
    rgb = codec in ("ffv1", "libx264rgb")
    for file in (path, tmp_path / f"b{suffix}"):
        frame = next(frames(file))
        assert (frame.color_primaries, frame.color_trc) == (1, 1)
        assert frame.colorspace == (0 if rgb else 5 if codec == "vp8" else 1)
        assert frame.color_range == (2 if rgb else 1) or (rgb and frame.color_range == 0)


CLEAR: list[Pixel] = [(255, 255, 255, 255), (255, 255, 255, 128), (255, 0, 0, 128), (9, 200, 9, 0)]


@pytest.mark.parametrize(
    ("codec", "suffix", "pixel_format", "decoder"),
    [
        ("vp9", ".mkv", "yuva420p", "libvpx-vp9"),
        ("vp9", ".webm", "yuva420p", "libvpx-vp9"),
        ("vp8", ".webm", "yuva420p", "libvpx"),
        ("prores", ".mov", "yuva444p10le", None),
        ("ffv1", ".mkv", "bgra", None),
        ("qtrle", ".mov", "argb", None),
    ],
)
def test_what_is_transparent_stays_so_also_when_parts_are_merged(
    tmp_path: Path, codec: str, suffix: str, pixel_format: str, decoder: str | None
) -> None:
    asked = options(codec, pixel_format=pixel_format)
    assert settings_for(tmp_path / f"a{suffix}", asked, part=True).alpha
    parts = [make(tmp_path / f"{name}{suffix}", [patches(CLEAR)] * 3, asked) for name in "ab"]
    whole = tmp_path / f"whole{suffix}"
    merge(whole, parts)
    for path, count in ((parts[0], 3), (whole, 6)):
        decoded = list(frames(path, decoder))
        assert len(decoded) == count
        for frame in decoded:
            alpha = [pixel[3] for pixel in colours(frame, len(CLEAR), "rgba")]
            assert max(abs(seen - meant[3]) for seen, meant in zip(alpha, CLEAR, strict=True)) <= 2, alpha


def test_where_nothing_can_be_transparent_there_is_black_behind(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", [patches(CLEAR), patches(PALETTE)], options("ffv1"))
    first, second = frames(path)
    expected = [(255, 255, 255), (128, 128, 128), (128, 0, 0), (0, 0, 0)]
    for seen, meant in zip(colours(first, len(CLEAR)), expected, strict=True):
        assert max(abs(one - other) for one, other in zip(seen, meant, strict=True)) <= 1
    assert colours(second, len(PALETTE)) == PALETTE


def test_a_picture_that_could_be_transparent_and_is_not_is_the_same_as_one_that_could_not(tmp_path: Path) -> None:
    clear = patches([(*pixel, 255) for pixel in PALETTE])
    one = make(tmp_path / "a.mkv", [clear], options("ffv1"))
    other = make(tmp_path / "b.mkv", [patches(PALETTE)], options("ffv1"))
    assert one.read_bytes() == other.read_bytes()


# --- What is refused before anything starts --------------------------------------------------------------------------

HEARD = {
    "aac": {".mp4", ".m4v", ".mov", ".mkv"},
    "opus": {".mp4", ".m4v", ".mkv", ".webm"},
    "flac": {".mp4", ".m4v", ".mkv"},
    "mp3": {".mp4", ".m4v", ".mov", ".mkv"},
    "pcm_s16le": {".mov", ".mkv"},
    "none": {".mp4", ".m4v", ".mov", ".mkv", ".webm"},
}


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".MP4"])
@pytest.mark.parametrize("codec", PLACES)
def test_a_codec_that_has_no_place_in_the_container_is_refused(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix.lower() in PLACES[codec]:
        assert settings_for(path, options(codec), part=False).video.codec == CALLED.get(codec, codec)
    else:
        error = refused(path, options(codec))
        assert "can't hold" in error.message
        assert error.hint.startswith("use --video-codec ")
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("codec", HEARD)
def test_a_sound_that_has_no_place_in_the_container_is_refused(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix in HEARD[codec]:
        settings_for(path, options(audio_codec=codec), part=False)
    else:
        error = refused(path, options(audio_codec=codec))
        assert f"can't hold {codec}, which the sound would be in" in error.message
    # A part has no sound.
    settings_for(path, options(audio_codec=codec), part=True)


@pytest.mark.parametrize(
    ("suffix", "codec", "sound"),
    [(".mp4", "h264", "aac"), (".m4v", "h264", "aac"), (".mov", "h264", "aac"), (".mkv", "h264", "aac")],
)
def test_what_nobody_asks_for_follows_from_the_name(tmp_path: Path, suffix: str, codec: str, sound: str) -> None:
    settings = settings_for(tmp_path / f"a{suffix}", options(), part=False)
    assert (settings.video.codec, settings.video.pixel_format, settings.alpha) == (codec, "yuv420p", False)


@pytest.mark.parametrize(
    ("suffix", "others", "said", "hint"),
    [
        (".avi", {}, "names no container", ".webm"),
        ("", {}, "names no container", ".webm"),
        (".mp4", {"video_codec": "nope"}, "no video encoder nope", "h264"),
        (".mp4", {"video_codec": "aac"}, "aac is no video codec", "h264"),
        (".mp4", {"video_codec": "copy"}, "no video encoder copy", "h264"),
        (".mp4", {"audio_codec": "nope"}, "no audio encoder nope", "aac"),
        (".mp4", {"audio_codec": "h264"}, "h264 is no audio codec", "aac"),
        (".mp4", {"audio_codec": "copy"}, "none to copy", "aac"),
        (".mp4", {"preset": "nope"}, "libx264 has no preset nope", "ultrafast, superfast, "),
        (".mp4", {"preset": "5"}, "libx264 has no preset 5", "ultrafast"),
        (".webm", {"preset": "fast"}, "libvpx-vp9 has no preset fast", "it has 0, 1, 2"),
        (".mkv", {"video_codec": "av1", "preset": "14"}, "libsvtav1 has no preset 14", "12, 13"),
        (".mov", {"video_codec": "prores", "preset": "4444", "pixel_format": "yuv422p10le"}, "no preset 4444", "hq"),
        (".mkv", {"video_codec": "ffv1", "preset": "fast"}, "ffv1 takes no --preset", "h264"),
        (".mp4", {"quality": 52}, "libx264 has no quality 52", "0 (the best) to 51"),
        (".mkv", {"video_codec": "av1", "quality": 0}, "libsvtav1 has no quality 0", "1 (the best) to 63"),
        (".mov", {"video_codec": "prores", "quality": 20}, "prores_ks takes no --quality", "h264"),
        (".mov", {"video_codec": "png", "quality": 20}, "png takes no --quality", "h264"),
        (".mp4", {"pixel_format": "nope"}, "libx264 takes no pixel format nope", "yuv420p, yuv422p, yuv444p"),
        (".mp4", {"pixel_format": "yuva420p"}, "libx264 takes no pixel format yuva420p", "yuv420p"),
        (".mp4", {"video_codec": "h265", "pixel_format": "yuva420p"}, "takes no pixel format yuva420p", "yuv420p"),
        (".mp4", {"video_codec": "vp9", "pixel_format": "yuva420p"}, "mp4 can't hold vp9 with what is", ".webm"),
        (".mp4", {"width": 65}, "65x48 pixels can't be yuv420p", "even, or --pixel-format yuv444p"),
        (".mp4", {"height": 47}, "64x47 pixels can't be yuv420p", "even, or --pixel-format yuv444p"),
        (".mov", {"video_codec": "prores", "width": 65}, "65x48 pixels can't be yuv422p10le", "even"),
        (".mkv", {"video_codec": "av1", "height": 30}, "64x30 pixels are too few for libsvtav1", "32 or more"),
        (".mp4", {"width": 32000}, "libx264 can't encode this", "the size"),
    ],
)
def test_what_can_not_be_is_told_before_anything_starts(
    tmp_path: Path, suffix: str, others: dict[str, Any], said: str, hint: str
) -> None:
    error = refused(tmp_path / f"a{suffix}", options(**{"video_codec": None, **others}))
    assert said in error.message
    assert hint in error.hint
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("codec", "others"),
    [
        ("h264", {"width": 65, "height": 47, "pixel_format": "yuv444p"}),
        ("prores", {"height": 47}),
        ("prores", {"width": 65, "height": 47, "preset": "4444"}),
        ("libx264rgb", {"width": 65, "height": 47}),
    ],
)
def test_odd_sizes_are_made_where_no_pixels_share_a_colour(tmp_path: Path, codec: str, others: dict[str, Any]) -> None:
    asked = options(codec, **others)
    path = make(tmp_path / "a.mov", [numbered(number, asked.width, asked.height) for number in range(3)], asked)
    assert read_numbers(path) == [0, 1, 2]
    assert media.check(path, frames=3, width=asked.width, height=asked.height) is None


# --- What goes wrong under way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ([], "no frames"),
        ([numbered(0), b"no picture"], "frame 1 of the video came as no picture"),
        ([numbered(0), b""], "frame 1 of the video came as no picture"),
        ([numbered(0), numbered(1), numbered(2, 66, 48)], "frame 2 of the video is 66x48 pixels instead of 64x48"),
        ([numbered(0)[:-40]], "frame 0 of the video came as no picture"),
    ],
)
def test_pictures_that_are_none_fail_the_video_and_leave_nothing(
    tmp_path: Path, pictures: list[bytes], said: str
) -> None:
    (tmp_path / "a.mov").write_bytes(b"the old one")
    with pytest.raises(RenderFailed, match=said):
        make(tmp_path / "a.mov", pictures, options())
    assert names(tmp_path) == ["a.mov"]
    assert (tmp_path / "a.mov").read_bytes() == b"the old one"


@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "prores"])
def test_an_error_of_whoever_makes_the_frames_travels_on_and_nothing_is_left(tmp_path: Path, codec: str) -> None:
    settings = settings_for(tmp_path / "a.mkv", options(codec), part=True)

    def stopped() -> None:
        with video_writer(tmp_path / "a.mkv", settings) as writer:
            for number in range(20):
                writer.add(numbered(number))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert names(tmp_path) == []


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_encode import make, numbered, options
from logist.errors import LogistError
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    make(Path(sys.argv[1]), [numbered(number) for number in range(60)], options(sys.argv[2]))
except LogistError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("codec", "suffix"), [("ffv1", ".mkv"), ("prores", ".mov"), ("h264", ".mp4")])
def test_a_disk_that_takes_no_more_is_told_and_nothing_is_left(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    command = [sys.executable, "-c", LIMITED, str(path), codec]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stdout.startswith(f"{StorageFailed.__name__} could not write {path}: "), ran
    assert names(tmp_path) == []


def test_an_output_that_can_not_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder.mov").mkdir()
    for name in ("nowhere/a.mov", "folder.mov"):
        with pytest.raises(StorageFailed, match="could not write"):
            make(tmp_path / name, [numbered(0)], options())
    assert names(tmp_path) == ["folder.mov"]
    assert names(tmp_path / "folder.mov") == []


# --- What a part says of itself --------------------------------------------------------------------------------------

NUMBERS = st.fractions(0, 100, max_denominator=10**9)
TRACKS = st.builds(
    AudioTrack,
    st.text(min_size=1, max_size=20) | st.sampled_from(["a,rate=2", "a,", "data:audio/wav;base64,UklGRg==", "\udcff"]),
    offset=NUMBERS,
    seek=NUMBERS,
    duration=st.none() | NUMBERS.filter(lambda number: number >= Fraction(1, 1_000_000)),
    volume=NUMBERS,
    fade_in=NUMBERS,
    fade_out=NUMBERS,
    loop=st.booleans(),
    rate=NUMBERS.filter(lambda number: number >= Fraction(1, 100)),
)
NOTES = st.builds(
    PartNote,
    st.integers(0, 10**5),
    st.integers(1, 10**4),
    st.fractions(Fraction(1, 100), 1000, max_denominator=10_000),
    st.text(max_size=20),
    st.lists(TRACKS, max_size=3).map(tuple),
    st.booleans(),
    st.none() | st.builds(Whole, st.just(0), st.integers(110_000, 10**8)),
    st.sampled_from(["", "HeadlessChrome/156.0.1.2"]),
)


@given(NOTES)
def test_a_note_is_read_as_it_was_written(note: PartNote) -> None:
    assert parse(note.text()) == note
    assert note.text().isascii()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("text", ["{}", "na\u00efve \u65e5\u672c 'quoted' \"twice\"\n=;#\\", "x" * 200_000])
def test_a_video_says_of_itself_what_it_was_told(tmp_path: Path, suffix: str, text: str) -> None:
    path = make(tmp_path / f"a{suffix}", [numbered(number) for number in range(3)], options(), text)
    assert note_of(path) == text
    assert media.check(path, frames=3) is None
    assert read_numbers(path) == [0, 1, 2]


def test_the_last_note_counts_and_a_merge_says_nothing(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "a.mov", options(), part=True)
    with video_writer(tmp_path / "a.mov", settings) as writer:
        writer.note("first")
        writer.add(numbered(0))
        writer.note(PartNote(0, 1, FILM).text())
    assert parse(note_of(tmp_path / "a.mov") or "") == PartNote(0, 1, FILM)
    for name in ("b.mp4", "b.mkv"):
        merge(tmp_path / name, [tmp_path / "a.mov"])
        assert note_of(tmp_path / name) is None


def test_what_others_say_in_a_file_is_no_note(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mov", [numbered(0)], options())
    for data in (b"somebody else's!a note", b"short"):
        with path.open("ab") as file:
            file.write((8 + len(data)).to_bytes(4, "big") + b"uuid" + data)
    assert note_of(path) is None
    put_behind(path, "mov", "ours")
    assert note_of(path) == "ours"


def test_files_that_say_nothing_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "empty.mov").touch()
    (tmp_path / "text.mkv").write_text("no video at all")
    (tmp_path / "magic.mkv").write_bytes(b"\x1a\x45\xdf\xa3 and then nothing")
    plain = make(tmp_path / "plain.mov", [numbered(0)], options())
    for path in (plain, *tmp_path.glob("*.m*"), tmp_path, tmp_path / "nowhere.mov"):
        assert note_of(path) is None


def tampered(**values: Any) -> str:
    """A note in which somebody wrote other values; `...` takes one away."""
    said = {**json.loads(PartNote(0, 1, FILM, "r", (AudioTrack("a.wav"),)).text()), **values}
    return json.dumps({name: value for name, value in said.items() if value is not ...})


NONSENSE = [
    *("", "[]", "{}", "1", '"x"', '{"version": 2}', "{" * 100_000, "[" * 100_000, '{"version": 9e999}'),
    *(tampered(version=1, whole=..., browser=...), tampered(version=3), tampered(version=...)),
    *(tampered(more=1), tampered(complete=...), tampered(complete=1), tampered(browser=...), tampered(browser=None)),
    *(tampered(frameCount=0), tampered(frameCount=1.0), tampered(frameCount="1"), tampered(frameCount=10**9)),
    *(
        tampered(frameCount=True),
        tampered(startFrame=-1),
        tampered(startFrame=10**8 + 1),
        tampered(startFrame="9" * 60),
    ),
    *(tampered(fps=fps) for fps in (0, 30, "0", "-30", "1e10000000", "1e3", "inf", "nan", "1/0", "1001", "9" * 5000)),
    tampered(fps="1/10000000", startFrame=11),
    *(tampered(render=1), tampered(render="x" * 201), tampered(browser="x" * 201)),
    *(tampered(whole=whole) for whole in (1, [0], [0, 0], [-1, 2], [0, 1, 2], [1, 5], ["0", 5], {"0": 1}, [0, 10**9])),
    tampered(startFrame=3, whole=[0, 3]),
    *(tampered(tracks=tracks) for tracks in ("a.wav", [1], [None], [["a.wav"]], [{"source": "a.wav"}], ["a"] * 10_001)),
    *(
        tampered(tracks=[f"a.wav,{value}"])
        for value in (
            *("rate=0", "rate=-1", "rate=1e9", "rate=101", "rate=1/101", "volume=1e400", "volume=101", "volume=-1"),
            *(
                "seek=-1",
                "seek=1e6000000",
                "seek=100000001",
                "offset=-1",
                "offset=100000001",
                "duration=0",
                "duration=-1",
            ),
            *("fade-in=-1", "fade-out=nan", "loop=1", f"seek=1/{10**13}"),
        )
    ),
]


def test_what_somebody_wrote_is_read_where_it_can_be() -> None:
    """So it is the other value, and nothing else, for which one of the notes below is refused."""
    assert parse(tampered()) == PartNote(0, 1, FILM, "r", (AudioTrack("a.wav"),))
    assert parse(tampered(whole=[0, 9], tracks=["a.wav,rate=2"])).whole == Whole(0, 9)


@pytest.mark.parametrize("text", NONSENSE, ids=range(len(NONSENSE)))
def test_a_note_that_says_nonsense_is_told_by_a_merge(tmp_path: Path, text: str) -> None:
    path = make(tmp_path / "a.mov", [numbered(0)], options(), text)
    with pytest.raises(MergeFailed, match=r"what .*a\.mov says of itself can't be read: ") as caught:
        merge(tmp_path / "b.mov", [path])
    assert len(caught.value.message) < 200 + len(str(path))
    assert caught.value.hint
    assert names(tmp_path) == ["a.mov"]


def test_a_note_that_is_too_long_to_be_read_is_not_written() -> None:
    for tracks in ((AudioTrack(f"data:audio/wav,{'x' * 16_000_000}"),), (AudioTrack("a.wav"),) * 10_001):
        with pytest.raises(RenderFailed, match="to be noted in the part"):
            PartNote(0, 1, FILM, tracks=tracks).text()
    assert parse(PartNote(0, 1, FILM, tracks=(AudioTrack("a.wav"),) * 10_000).text())


@pytest.mark.parametrize(
    ("track", "noted"),
    [
        (AudioTrack("a", offset=Fraction("0.30000000000000004")), AudioTrack("a", offset=Fraction("0.3"))),
        (AudioTrack("a", offset=Fraction(-3)), AudioTrack("a", seek=Fraction(3))),
        (AudioTrack("a", offset=Fraction(-3), rate=Fraction(2)), AudioTrack("a", seek=Fraction(6), rate=Fraction(2))),
        (AudioTrack("a", seek=Fraction(-3)), AudioTrack("a", offset=Fraction(3))),
        (
            AudioTrack("a", seek=Fraction(-3), rate=Fraction(2)),
            AudioTrack("a", offset=Fraction("1.5"), rate=Fraction(2)),
        ),
        (AudioTrack("a", offset=Fraction(-1), seek=Fraction(-3)), AudioTrack("a", offset=Fraction(2))),
        (AudioTrack("a", offset=Fraction(-3), seek=Fraction(-1)), AudioTrack("a", seek=Fraction(2))),
        (
            AudioTrack("a", offset=Fraction(-3), duration=Fraction(4)),
            AudioTrack("a", seek=Fraction(3), duration=Fraction(1)),
        ),
        (AudioTrack("a", offset=Fraction(-3), duration=Fraction(3)), None),
        (AudioTrack("a", duration=Fraction(0)), None),
        (AudioTrack("a", fade_in=Fraction(-1), fade_out=Fraction(-1)), AudioTrack("a")),
    ],
)
def test_what_a_page_says_of_a_sound_is_put_in_numbers_that_can_be_noted(
    track: AudioTrack, noted: AudioTrack | None
) -> None:
    assert of_page(track) == noted


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rate": Fraction(0)}, "rate: "),
        ({"rate": Fraction(10**6)}, "rate: '1000000' is not between 0.01 and 100"),
        ({"rate": Fraction(1, 10**400)}, "rate: "),
        ({"seek": Fraction(10**300)}, "seek: "),
        ({"seek": Fraction(-(10**300))}, "offset: "),
        ({"offset": Fraction(10**9)}, "offset: '1000000000' is not between 0 and 100000000 seconds"),
        ({"volume": Fraction(-1)}, "volume: "),
    ],
)
def test_what_no_sound_of_a_page_can_be_fails_the_render(values: dict[str, Fraction], said: str) -> None:
    with pytest.raises(RenderFailed, match=r"the page's sound a\.wav can't be mixed: ") as caught:
        of_page(AudioTrack("a.wav", **values))
    assert said in caught.value.message
    assert len(caught.value.message) < 200


def test_parts_of_one_render_know_it_and_those_of_others_are_told(browser_path: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<body><audio src='data:,x'></audio><audio src='blob:null/1'></audio>")
    seen = options(width=64, height=64, fps=Fraction(30), mode=Mode.DOM, browser=browser_path, frame_count=2)
    said = []
    for suffix in ("?a=1", "?a=1", "?a=2", "?a=1#b", ""):
        made = render_part(page.as_uri() + suffix, tmp_path / "part.mov", seen, whole=Whole(0, 9))
        note = part_of(tmp_path / "part.mov")
        assert note is not None
        assert (note.whole, note.browser) == (Whole(0, 9), made.statistics.browser)
        assert any("its sound blob:null/1 is known to it alone" in text for text in made.statistics.notes)
        said.append(note.render)
    assert said[0] == said[1]
    assert len(set(said)) == 4
    silent = replace(seen, audio_codec="none")
    made = render_part(page.as_uri(), tmp_path / "silent.mov", silent)
    assert not any("known to it alone" in text for text in made.statistics.notes)


# --- The file beside the output --------------------------------------------------------------------------------------


def test_what_killed_runs_left_behind_is_removed_but_nothing_that_somebody_writes(tmp_path: Path) -> None:
    output = tmp_path / "a.mp4"
    stale, held = tmp_path / ".a.mp4.0123456789ab.tmp", tmp_path / ".a.mp4.ba9876543210.tmp"
    others = [tmp_path / name for name in (".b.mp4.0123456789ab.tmp", ".a.mp4.tmp", ".a.mp4.0123456789AB.tmp", "a.tmp")]
    for path in (stale, held, *others):
        path.write_text("half written")
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with written_beside(output) as temporary:
            assert not stale.exists()
            temporary.write_text("whole")
            with written_beside(output) as second:
                second.write_text("the other's")
            assert temporary.read_text() == "whole"
    assert output.read_text() == "whole"
    assert names(tmp_path) == sorted(path.name for path in (held, output, *others))


KILLED = """
import os, signal, sys
from pathlib import Path
from logist.render.output_file import written_beside
with written_beside(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_is_killed_leaves_what_the_next_one_removes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.mp4")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    [left] = names(tmp_path)
    assert left.startswith(".a.mp4.")
    make(tmp_path / "a.mp4", [numbered(0)], options())
    assert names(tmp_path) == ["a.mp4"]


def test_a_link_that_is_named_like_what_was_left_behind_is_no_file_of_ours(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".a.mp4.0123456789ab.tmp").symlink_to(tmp_path / "precious")
    make(tmp_path / "a.mp4", [numbered(0)], options())
    assert (tmp_path / "precious").read_text() == "kept"
    assert names(tmp_path) == [".a.mp4.0123456789ab.tmp", "a.mp4", "precious"]


def test_av1_does_not_make_this_process_a_real_time_one(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0)
    chosen = options("av1", width=64, height=64)
    with video_writer(tmp_path / "a.mkv", settings_for(tmp_path / "a.mkv", chosen, part=True)) as writer:
        for number in range(3):
            writer.add(numbered(number, 64, 64))
        threads = [os.sched_getscheduler(int(task.name)) for task in Path("/proc/self/task").iterdir()]
    assert set(threads) == {before}
    assert len(threads) > 1


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1"])
def test_pictures_that_hardly_change_are_not_all_key_frames(tmp_path: Path, codec: str) -> None:
    path = make(
        tmp_path / "a.mkv", [numbered(number, 64, 64) for number in range(20)], options(codec, width=64, height=64)
    )
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [number for number, packet in enumerate(packets) if packet.is_keyframe] == [0]
