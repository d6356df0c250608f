"""What a video file really holds, and how a file that is none, or not whole, is told."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import pytest
from videos import garble, make_video, read_numbers, silence

from logist.errors import ExitCode, ExtraMissing
from logist.render import media
from logist.render.media import Video, check, is_media, pyav_available, read

ROOT = Path(__file__).resolve().parents[1]

KINDS = [
    ("libx264", ".mp4"),
    ("libx264", ".mkv"),
    ("libx264", ".ts"),
    ("libx264", ".avi"),
    ("libx265", ".mp4"),
    ("libvpx-vp9", ".webm"),
    ("libsvtav1", ".mp4"),
    ("prores_ks", ".mov"),
]


@pytest.mark.parametrize(("codec", "suffix"), KINDS)
@pytest.mark.parametrize("count", [1, 2, 13])
def test_every_frame_of_every_kind_of_video_is_counted(tmp_path: Path, codec: str, suffix: str, count: int) -> None:
    path = make_video(tmp_path / f"a{suffix}", range(count), codec=codec)
    assert read_numbers(path) == list(range(count))
    assert check(path, frames=count, width=64, height=48) is None


def test_what_a_video_holds_is_told(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mov", range(5), width=80, height=64, fps=Fraction(30000, 1001), audio="pcm_s16le")
    assert read(path) == Video(
        frames=5,
        width=80,
        height=64,
        codec="h264",
        pixel_format="yuv420p",
        fps=Fraction(30000, 1001),
        has_audio=True,
        in_order=True,
        problem="",
    )


def test_a_wrong_number_of_frames_is_told(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", range(15))
    assert check(path, frames=30) == "holds 15 frames instead of 30"
    assert check(path, frames=14) == "holds 15 frames instead of 14"
    assert check(make_video(tmp_path / "b.mp4", [7]), frames=2) == "holds 1 frame instead of 2"


def test_a_wrong_size_is_told(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", range(3))
    assert check(path, frames=3, width=128, height=96) == "is 64x48 pixels instead of 128x96"
    assert check(path, height=50) == "is 64x48 pixels instead of 64x50"
    assert check(path, width=64) is None


def front_loaded(path: Path) -> Path:
    """The same video with its index at the front, so that a part of it can be opened."""
    moved = path.with_stem(path.stem + "-front")
    settings = {"movflags": "+faststart"}
    with av.open(str(path)) as source, av.open(str(moved), "w", container_options=settings) as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream, opaque=True)
        for packet in source.demux(stream):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
    return moved


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_told_wherever_it_ends(tmp_path: Path, suffix: str, kept: float) -> None:
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    whole = make_video(tmp_path / f"a{suffix}", range(20), codec=codec)
    data = whole.read_bytes()
    part = tmp_path / f"part{suffix}"
    part.write_bytes(data[: int(len(data) * kept)])
    assert check(part) == "is cut off"


def test_a_file_that_can_be_opened_but_is_cut_off_is_told(tmp_path: Path) -> None:
    whole = front_loaded(make_video(tmp_path / "a.mp4", range(20)))
    assert check(whole, frames=20) is None
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) * 2 // 3])
    assert check(whole) == "is cut off"


def test_what_follows_the_end_of_a_file_is_not_a_part_that_is_cut_off(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", range(3))
    path.write_bytes(path.read_bytes() + b"\0\0\xff\xffjunk")
    assert check(path, frames=3) is None


def test_a_live_matroska_file_that_does_not_say_how_long_it_is_is_whole(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", range(3))
    data = bytearray(path.read_bytes())
    start = data.index(b"\x18\x53\x80\x67") + 4
    assert data[start] == 1, "eight bytes of length"
    data[start : start + 8] = b"\x01" + b"\xff" * 7
    path.write_bytes(data)
    assert check(path, frames=3) is None


def test_a_container_that_does_not_say_how_long_it_is_is_told_where_its_last_frame_ends(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", range(20), codec="mjpeg")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"idx1") - 100])
    assert check(path) == "is damaged or cut off after 19 frames"


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".mp4"), ("libx264", ".mkv"), ("libsvtav1", ".mp4")])
def test_damaged_frames_are_told(tmp_path: Path, codec: str, suffix: str) -> None:
    path = make_video(tmp_path / f"a{suffix}", range(30), width=160, height=120, codec=codec)
    data, chance = bytearray(path.read_bytes()), random.Random(1)
    for position in range(len(data) // 3, len(data) // 2):
        data[position] = chance.randrange(256)
    path.write_bytes(data)
    problem = check(path)
    assert problem is not None
    assert "can't be decoded" in problem or "is damaged" in problem


def test_a_frame_that_a_decoder_patches_up_is_told(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", range(30), width=160, height=120)
    silence(path, 29)
    assert check(path, frames=30) == "is damaged: its frame 30 can't be decoded whole"


def test_a_frame_that_a_decoder_refuses_is_told(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", range(30), width=160, height=120)
    garble(path, 12)
    problem = check(path, frames=30)
    assert problem is not None
    assert problem.startswith("can't be decoded after 12 frames: ")


def test_a_frame_that_a_decoder_passes_over_is_told(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", range(30), codec="libsvtav1")
    silence(path, 29)
    assert check(path) == "says that it holds 30 frames, but only 29 can be decoded"


def test_corrupt_data_is_a_problem_and_never_an_exception(tmp_path: Path) -> None:
    data, chance = make_video(tmp_path / "a.mp4", range(10)).read_bytes(), random.Random(2)
    path = tmp_path / "b.mp4"
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(8):
            damaged[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(damaged)
        problem = check(path, frames=10, width=64, height=48)
        assert problem is None or (problem and "\n" not in problem)


@pytest.mark.parametrize(
    "content",
    [
        b"hello\nworld\n" * 50,
        b"\x1b[31mred\x1b[0m\n" * 50,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nwhole.ts\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile whole.ts\n",
        random.Random(3).randbytes(4000),
        b"\0" * 4000,
    ],
    ids=["text", "coloured text", "playlist", "concatenation", "noise", "zeros"],
)
def test_what_is_no_video_is_told_whatever_it_is_called(tmp_path: Path, content: bytes) -> None:
    make_video(tmp_path / "whole.ts", range(5))
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    problem = check(path)
    assert problem is not None
    assert problem.startswith("is no video that can be read: ")


def test_what_can_not_be_a_file_of_pictures_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate, frame.pts = 48000, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert check(tmp_path / "empty.mp4") == "is empty"
    assert check(tmp_path / "folder.mp4") == "is a folder"
    assert check(tmp_path / "nowhere.mp4") == "is not there"
    assert check(Path("/dev/null")) == "is not a regular file"
    assert check(sound) == "holds no video that can be decoded"


@pytest.mark.parametrize("name", ["http:x.mp4", "concat:a|b.mp4", "-x.mp4", "a b'\"\n%d.mp4", "caf\u00e9.mp4"])
def test_a_name_is_a_name_whatever_libav_makes_of_it(tmp_path: Path, name: str) -> None:
    assert check(make_video(tmp_path / name, range(3)), frames=3) is None


def test_a_name_that_is_no_text_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "n\udcff.mp4"
    make_video(tmp_path / "a.mp4", range(3)).rename(path)
    assert check(path, frames=3) is None


def test_videos_are_decoded_in_many_threads_at_once(tmp_path: Path) -> None:
    paths = [make_video(tmp_path / f"{count}.mp4", range(count)) for count in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        assert [video.frames for video in pool.map(read, paths * 3)] == list(range(1, 9)) * 3


@pytest.mark.parametrize("name", ["a.mp4", "a.MOV", "x/part 1.mkv", "a.webm", "a.avi", "a.m4v", "a.ts"])
def test_a_video_is_known_by_its_suffix(name: str) -> None:
    assert is_media(Path(name))


@pytest.mark.parametrize("name", ["mp4", "a.mp4.txt", "frames/", "a.png", "a.json", ".mp4"])
def test_other_names_are_not_those_of_videos(name: str) -> None:
    assert not is_media(Path(name))


def test_without_pyav_one_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pyav_available()
    monkeypatch.setitem(sys.modules, "av", None)
    assert not pyav_available()
    with pytest.raises(ExtraMissing) as caught:
        check(tmp_path / "a.mp4")
    assert caught.value.hint == "pip install 'logist[render]'"
    assert caught.value.exit_code is ExitCode.INVALID


def test_pyav_is_imported_only_when_a_video_is_read() -> None:
    code = "import sys, logist.render.media, logist.render.merge, logist.commands.merge; print('av' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_frames_out_of_order_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    whole = make_video(tmp_path / "whole.mkv", range(6), codec="ffv1", options={"g": "1"})
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream, opaque=True)
        for packet in source.demux(stream):
            if packet.size and packet.pts is not None:
                packet.pts = 400 - packet.pts
                packet.stream = copy
                target.mux(packet)
    assert (read(path).frames, read(path).in_order) == (6, False)
    assert media.read(whole).in_order
