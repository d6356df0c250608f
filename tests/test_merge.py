"""Several videos made into one: every frame once, evenly spaced, never encoded anew unless that was asked for."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from videos import AUDIO_RATE, garble, make_video, read_numbers, silence

from logist.errors import ChunkFailed, ExitCode, LogistError, MergeFailed, StorageFailed, UsageProblem
from logist.render import media
from logist.render.merge import Merged, MergeOptions, merge
from logist.render.sources import Source, parameter_sets
from logist.render.tracks import CopiedVideo, with_sensible_times

ROOT = Path(__file__).resolve().parents[1]

#: Encoded with B-frames, so that frames are not stored in the order in which they are shown.
REORDERED = {"preset": "medium", "bf": "3"}
KINDS: list[tuple[str, str, dict[str, str] | None]] = [
    ("libx264", ".mp4", REORDERED),
    ("libx264", ".mov", REORDERED),
    ("libx264", ".mkv", REORDERED),
    ("libx265", ".mp4", None),
    ("libvpx-vp9", ".webm", None),
    ("libsvtav1", ".mp4", None),
    ("libsvtav1", ".webm", None),
    ("prores_ks", ".mov", None),
    ("ffv1", ".mkv", None),
]


def make_parts(folder: Path, sizes: Sequence[int], suffix: str, **settings: Any) -> list[Path]:
    """One video after the other, their frames numbered on."""
    parts, first = [], 0
    for index, size in enumerate(sizes):
        parts.append(make_video(folder / f"part_{index}{suffix}", range(first, first + size), **settings))
        first += size
    return parts


class Times(NamedTuple):
    """When frames or sounds are, in ticks: the first one, and the distances that there are."""

    first: int
    steps: set[int]
    time_base: Fraction
    rate: Fraction | None


def frame_times(path: Path) -> Times:
    """When the frames of a video are shown."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        shown = [frame.pts for frame in container.decode(stream) if frame.pts is not None]
        assert stream.time_base is not None
        steps = {later - earlier for earlier, later in itertools.pairwise(shown)}
        return Times(shown[0], steps, stream.time_base, stream.average_rate)


class Sound(NamedTuple):
    """What is heard: how many samples, and by how many each stretch begins too late after the one before."""

    codec: str
    samples: int
    gaps: set[int]
    first: int


def heard(path: Path) -> Sound:
    """The decoded sound of a video."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        codec = stream.codec_context.codec.canonical_name
        parts = list(container.decode(stream))
        places = [(round(part.pts * part.time_base * part.sample_rate), part.samples) for part in parts]  # type: ignore[operator]
    gaps = {later - at - count for (at, count), (later, _) in itertools.pairwise(places)}
    return Sound(codec, sum(count for _, count in places), gaps, places[0][0])


def packets(path: Path) -> list[bytes]:
    """The encoded frames of a video."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def codec_of(path: Path) -> str:
    """The codec of the frames."""
    return media.read(path).codec


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def refused(output: Path, inputs: Sequence[Path], options: MergeOptions | None = None) -> LogistError:
    """The error of a merge, which leaves nothing behind."""
    before = names(output.parent)
    with pytest.raises(LogistError) as caught:
        merge(output, inputs, options)
    assert names(output.parent) == before
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(("codec", "suffix", "options"), KINDS)
@pytest.mark.parametrize("sizes", [(13, 13, 13, 11), (2, 2, 2), (1,), (1, 3, 1)])
def test_every_frame_is_there_once_and_in_order(
    tmp_path: Path, codec: str, suffix: str, options: dict[str, str] | None, sizes: tuple[int, ...]
) -> None:
    parts = make_parts(tmp_path, sizes, suffix, codec=codec, options=options)
    output = tmp_path / f"whole{suffix}"
    merged = merge(output, parts)
    assert read_numbers(output) == list(range(sum(sizes)))
    assert (merged.frames, merged.inputs, merged.fps) == (sum(sizes), len(sizes), 30)
    assert (merged.video_transcoded, merged.audio_codec) == (False, None)
    assert codec_of(output) == codec_of(parts[0]) == merged.video_codec


@pytest.mark.parametrize("rate", [24, 25, 30, 60, Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_are_evenly_spaced_and_the_rate_is_exact(tmp_path: Path, suffix: str, rate: int | Fraction) -> None:
    parts = make_parts(tmp_path, (13, 7, 2, 1), suffix, fps=rate, options=REORDERED)
    merged = merge(tmp_path / "whole.mp4", parts)
    times = frame_times(tmp_path / "whole.mp4")
    assert (merged.fps, times.rate, times.first) == (rate, rate, 0)
    assert len(times.steps) == 1
    assert times.steps.pop() * times.time_base == 1 / Fraction(rate)
    assert merged.duration == pytest.approx(23 / float(rate))


def test_the_time_base_of_the_inputs_is_kept(tmp_path: Path) -> None:
    parts = make_parts(tmp_path, (5, 5), ".ts")
    merge(tmp_path / "whole.mp4", parts)
    assert frame_times(tmp_path / "whole.mp4").time_base == Fraction(1, 90000)


def test_matroska_frames_are_where_its_milliseconds_have_them(tmp_path: Path) -> None:
    parts = make_parts(tmp_path, (13, 13, 13, 11), ".mkv", options=REORDERED)
    merge(tmp_path / "whole.mkv", parts)
    times = frame_times(tmp_path / "whole.mkv")
    assert (times.first, times.steps, times.rate) == (0, {33, 34}, 30)


def test_frames_are_copied_byte_for_byte(tmp_path: Path) -> None:
    parts = make_parts(tmp_path, (5, 5), ".mp4", options=REORDERED)
    merge(tmp_path / "whole.mp4", parts)
    assert packets(tmp_path / "whole.mp4") == [frame for part in parts for frame in packets(part)]


def test_frames_go_from_one_container_into_another(tmp_path: Path) -> None:
    parts = [*make_parts(tmp_path, (3, 3), ".mov"), make_video(tmp_path / "part_2.mkv", [6, 7])]
    merge(tmp_path / "whole.mp4", parts)
    assert read_numbers(tmp_path / "whole.mp4") == list(range(8))
    streams = make_parts(tmp_path, (2, 5), ".ts", options=REORDERED)
    merge(tmp_path / "whole.mp4", streams)
    assert read_numbers(tmp_path / "whole.mp4") == list(range(7))
    assert len(frame_times(tmp_path / "whole.mp4").steps) == 1


@settings(max_examples=12)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.sampled_from([".mp4", ".mkv"]), st.integers(0, 3))
def test_however_frames_are_split_the_whole_is_the_same(sizes: list[int], suffix: str, b_frames: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = {"preset": "veryfast", "bf": str(b_frames)}
        parts = make_parts(Path(folder), sizes, suffix, width=32, height=32, options=options)
        output = Path(folder, "whole.mp4")
        assert merge(output, parts).frames == sum(sizes)
        assert read_numbers(output) == list(range(sum(sizes)))
        times = frame_times(output)
        assert times.first == 0
        assert {step * times.time_base for step in times.steps} <= {Fraction(1, 30)}


@pytest.mark.parametrize("layout", ["mono", "stereo"])
@pytest.mark.parametrize("rate", [Fraction(30), Fraction(30000, 1001)])
def test_pcm_sound_is_as_long_as_the_frames_to_the_sample(tmp_path: Path, layout: str, rate: Fraction) -> None:
    parts = make_parts(tmp_path, (13, 13, 2, 1), ".mov", audio="pcm_s16le", audio_layout=layout, fps=rate)
    merged = merge(tmp_path / "whole.mov", parts)
    assert heard(tmp_path / "whole.mov") == Sound("pcm_s16le", round(29 * AUDIO_RATE / rate), {0}, 0)
    assert (merged.audio_codec, merged.audio_transcoded) == ("pcm_s16le", False)
    assert read_numbers(tmp_path / "whole.mov") == list(range(29))


def loudness(path: Path) -> list[bool]:
    """For each frame's time, at 30 frames a second, whether anything is heard during most of it."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("s16", "mono", AUDIO_RATE, 1024)
        decoded = [part for frame in container.decode(stream) for part in resampler.resample(frame)]
        parts = [*decoded, *resampler.resample(None)]
        data = b"".join(bytes(part.planes[0])[: 2 * part.samples] for part in parts)
    size = 2 * AUDIO_RATE // 30
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return [piece.count(0) < len(piece) // 2 for piece in pieces]


@pytest.mark.parametrize("options", [None, MergeOptions(audio_codec="pcm_s24le")], ids=["copied", "transcoded"])
def test_sound_that_does_not_begin_and_end_with_its_frames_is_filled_up_or_cut(
    tmp_path: Path, options: MergeOptions | None
) -> None:
    """Ten frames with sound for eight, ten with sound for twelve, and ten with sound from the fourth to the ninth."""
    parts = []
    for name, first, begin, sounding in (("a.mov", 0, 0, 8), ("b.mov", 10, 0, 12), ("c.mov", 20, 3, 6)):
        frames = make_video(tmp_path / "frames.mov", range(first, first + 10))
        sound = make_video(tmp_path / "sound.mov", range(sounding), audio="pcm_s16le")
        parts.append(tmp_path / name)
        with av.open(str(frames)) as one, av.open(str(sound)) as other, av.open(str(parts[-1]), "w") as target:
            streams = [one.streams.video[0], other.streams.audio[0]]
            copies = [target.add_stream_from_template(stream, opaque=True) for stream in streams]
            for container, stream, copy in zip((one, other), streams, copies, strict=True):
                for packet in container.demux(stream):
                    if packet.size and packet.pts is not None:
                        packet.pts = packet.dts = packet.pts + (begin * AUDIO_RATE // 30 if container is other else 0)
                        packet.stream = copy
                        target.mux(packet)
    merge(tmp_path / "whole.mov", parts, options)
    assert heard(tmp_path / "whole.mov")[1:] == (AUDIO_RATE, {0}, 0)
    expected = [True] * 8 + [False] * 2 + [True] * 10 + [False] * 3 + [True] * 6 + [False]
    assert loudness(tmp_path / "whole.mov") == expected


@pytest.mark.parametrize(
    ("sound", "codec", "suffix", "half"),
    [("aac", "libx264", ".mp4", 512), ("libopus", "libx264", ".mp4", 480), ("libopus", "libvpx-vp9", ".webm", 480)],
)
@pytest.mark.parametrize("sizes", [(13, 13, 13, 13, 13, 13, 2), (13, 13, 2)])
def test_compressed_sound_is_copied_without_gaps_and_never_drifts(
    tmp_path: Path, sound: str, codec: str, suffix: str, half: int, sizes: tuple[int, ...]
) -> None:
    """Thirteen frames are no whole number of packets: left alone, each seam would add most of one."""
    parts = make_parts(tmp_path, sizes, suffix, codec=codec, audio=sound)
    output = tmp_path / f"whole{suffix}"
    merge(output, parts)
    result = heard(output)
    assert abs(result.samples - sum(sizes) * AUDIO_RATE // 30) <= half
    # A millisecond is 48 samples: WebM counts in these.
    assert all(abs(gap) <= (48 if suffix == ".webm" else 0) or gap == -8 for gap in result.gaps)
    assert read_numbers(output) == list(range(sum(sizes)))


def test_sound_is_transcoded_alone_and_frames_are_copied(tmp_path: Path) -> None:
    parts = make_parts(tmp_path, (13, 13, 13, 11), ".mov", audio="pcm_s16le")
    merged = merge(tmp_path / "whole.mp4", parts, MergeOptions(audio_codec="aac"))
    result = heard(tmp_path / "whole.mp4")
    assert (result.codec, result.gaps, result.first) == ("aac", {0}, 0)
    # An encoder fills its last packet up.
    assert 0 <= result.samples - 50 * AUDIO_RATE // 30 < 1024
    assert packets(tmp_path / "whole.mp4") == [frame for part in parts for frame in packets(part)]
    assert (merged.video_transcoded, merged.audio_transcoded, merged.audio_codec) == (False, True, "aac")


def test_sound_is_transcoded_to_the_sample(tmp_path: Path) -> None:
    parts = make_parts(tmp_path, (13, 13, 2, 1), ".mp4", audio="aac", fps=Fraction(30000, 1001))
    merge(tmp_path / "whole.mov", parts, MergeOptions(audio_codec="pcm_s16le"))
    assert heard(tmp_path / "whole.mov") == Sound("pcm_s16le", round(29 * AUDIO_RATE * 1001 / 30000), {0}, 0)


def test_sound_of_another_rate_is_resampled_when_it_is_transcoded(tmp_path: Path) -> None:
    parts = make_parts(tmp_path, (13, 2), ".mov", audio="pcm_s16le", audio_rate=22050)
    parts.append(make_video(tmp_path / "loud.mov", range(15, 30), audio="pcm_s16le", audio_layout="stereo"))
    merge(tmp_path / "whole.mkv", parts, MergeOptions(audio_codec="opus"))
    result = heard(tmp_path / "whole.mkv")
    assert (result.codec, abs(result.samples - 48000) < 960) == ("opus", True)


@pytest.mark.parametrize(
    ("codec", "suffix", "name", "quality"),
    [
        ("libx264", ".mp4", "h264", 20),
        ("libx265", ".mp4", "hevc", 20.5),
        ("libvpx-vp9", ".webm", "vp9", 30),
        ("libsvtav1", ".mp4", "av1", 30),
        ("libx264", ".mp4", "h264", 0),
    ],
)
def test_quality_alone_transcodes_with_the_codec_of_the_inputs(
    tmp_path: Path, codec: str, suffix: str, name: str, quality: float
) -> None:
    parts = make_parts(tmp_path, (5, 3, 1), suffix, codec=codec)
    output = tmp_path / f"whole{suffix}"
    merged = merge(output, parts, MergeOptions(quality=quality))
    assert (codec_of(output), merged.video_codec, merged.video_transcoded) == (name, name, True)
    assert read_numbers(output) == list(range(9))
    assert len(frame_times(output).steps - {33, 34}) <= 1


def test_preset_alone_transcodes_with_the_codec_of_the_inputs(tmp_path: Path) -> None:
    parts = make_parts(tmp_path, (5, 3), ".mp4", codec="libx265", audio="aac")
    merged = merge(tmp_path / "whole.mp4", parts, MergeOptions(preset="ultrafast"))
    assert (merged.video_codec, merged.video_transcoded, merged.audio_transcoded) == ("hevc", True, False)


@pytest.mark.parametrize(
    ("asked", "name", "suffix"),
    [("h264", "h264", ".mp4"), ("libx265", "hevc", ".mov"), ("vp9", "vp9", ".webm"), ("prores", "prores", ".mov")],
)
def test_frames_are_transcoded_with_the_codec_that_was_asked_for(
    tmp_path: Path, asked: str, name: str, suffix: str
) -> None:
    parts = make_parts(tmp_path, (13, 2, 1), ".mov", codec="prores_ks", fps=Fraction(30000, 1001))
    output = tmp_path / f"whole{suffix}"
    merged = merge(output, parts, MergeOptions(video_codec=asked))
    assert (codec_of(output), merged.video_codec) == (name, name)
    assert read_numbers(output) == list(range(16))


def test_what_can_not_be_copied_together_is_transcoded_together(tmp_path: Path) -> None:
    parts = [
        make_video(tmp_path / "a.mp4", [0, 1, 2]),
        make_video(tmp_path / "b.mkv", [3, 4], codec="libx265"),
        make_video(tmp_path / "c.mp4", [5], pixel_format="yuv444p", options={}),
    ]
    merge(tmp_path / "whole.mp4", parts, MergeOptions(video_codec="h264", quality=15))
    assert read_numbers(tmp_path / "whole.mp4") == list(range(6))


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1"])
def test_one_frame_or_two_are_transcoded(tmp_path: Path, codec: str) -> None:
    part = make_video(tmp_path / "a.mp4", [9])
    for count in [1, 2] * 4:
        merge(tmp_path / "whole.mp4", [part] * count, MergeOptions(video_codec=codec))
        assert read_numbers(tmp_path / "whole.mp4") == [9] * count


def test_a_time_of_decoding_that_the_encoder_left_to_chance_is_put_right() -> None:
    lone, reordered = av.Packet(b"x"), av.Packet(b"y")
    lone.pts, lone.dts = 1, -94437720067775
    reordered.pts, reordered.dts = 7, 3
    assert with_sensible_times(lone).dts == 1
    assert with_sensible_times(reordered).dts == 3


def test_transcoded_frames_are_not_of_the_kinds_that_the_inputs_had(tmp_path: Path) -> None:
    """Each input of one frame has a key frame; the whole needs one."""
    merge(tmp_path / "whole.mp4", make_parts(tmp_path, [1] * 8, ".mp4"), MergeOptions(video_codec="h264"))
    with av.open(str(tmp_path / "whole.mp4")) as container:
        assert [packet.is_keyframe for packet in container.demux(video=0) if packet.size] == [True] + [False] * 7


def test_copy_may_be_said(tmp_path: Path) -> None:
    parts = make_parts(tmp_path, (5, 3), ".mp4", audio="aac")
    merged = merge(tmp_path / "whole.mp4", parts, MergeOptions(video_codec="copy", audio_codec="copy"))
    assert (merged.video_transcoded, merged.audio_transcoded, merged.video_codec) == (False, False, "h264")


def test_the_name_of_hevc_is_one_that_apple_knows_or_that_of_the_inputs(tmp_path: Path) -> None:
    def tag(path: Path) -> str:
        with av.open(str(path)) as container:
            return container.streams.video[0].codec_context.codec_tag

    merge(tmp_path / "a.mp4", [make_video(tmp_path / "part.mkv", range(3), codec="libx265")])
    merge(tmp_path / "b.mp4", [make_video(tmp_path / "part.mp4", range(3), codec="libx265")])
    assert (tag(tmp_path / "part.mp4"), tag(tmp_path / "a.mp4"), tag(tmp_path / "b.mp4")) == ("hev1", "hvc1", "hev1")


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
@pytest.mark.parametrize(("pixel_format", "tag"), [("yuv422p10le", "apch"), ("yuva444p10le", "ap4h")])
def test_prores_stays_of_its_kind(tmp_path: Path, suffix: str, pixel_format: str, tag: str) -> None:
    """A decoder goes by the name: of another it would make frames of ten bits where there are twelve."""
    options = {"profile": "hq" if tag == "apch" else "4444"}
    part = make_video(tmp_path / "a.mov", range(3), codec="prores_ks", pixel_format=pixel_format, options=options)
    merge(tmp_path / f"b{suffix}", [part])
    merge(tmp_path / "c.mov", [tmp_path / f"b{suffix}"])
    for path in (part, tmp_path / f"b{suffix}", tmp_path / "c.mov"):
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.codec_tag == tag
    assert media.read(tmp_path / "c.mov").pixel_format == media.read(part).pixel_format


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"codec": "libx265"}, "its codec is hevc, that of {first} is h264"),
    ({"width": 96}, "{part} is 96x48 pixels, {first} is 64x48"),
    ({"pixel_format": "yuv444p"}, "its pixel format is yuv444p, that of {first} is yuv420p"),
    ({"fps": 25}, "{part} has 25 frames a second, {first} has 30"),
    ({"fps": Fraction(30000, 1001)}, "{part} has 29.97 frames a second, {first} has 30"),
    ({"options": {"preset": "slow"}}, "its h264 was encoded with other settings than that of {first}"),
    ({"audio": None}, "{part} has no sound, {first} has"),
    ({"audio": "libmp3lame"}, "its sound's codec is mp3, that of {first} is aac"),
    ({"audio_rate": 44100}, "its sound's rate is 44100, that of {first} is 48000"),
    ({"audio_layout": "stereo"}, "its sound's layout is stereo, that of {first} is mono"),
]


@pytest.mark.parametrize(("other", "said"), OTHERS, ids=[next(iter(other)) for other, _ in OTHERS])
def test_an_input_that_does_not_fit_is_named_with_the_difference(
    tmp_path: Path, other: dict[str, Any], said: str
) -> None:
    first = make_video(tmp_path / "a.mp4", range(9), audio="aac")
    fitting = make_video(tmp_path / "b.mp4", range(9), audio="aac")
    part = make_video(tmp_path / "c.mp4", range(9), **{"audio": "aac", **other})
    error = refused(tmp_path / "whole.mp4", [first, fitting, part])
    assert isinstance(error, MergeFailed)
    assert str(part) in error.message
    assert said.format(part=part, first=first) in error.message
    assert error.exit_code is ExitCode.CHUNK_FAILED is ChunkFailed.exit_code


def test_the_first_input_is_named_when_it_is_the_only_one_without_sound(tmp_path: Path) -> None:
    parts = [make_video(tmp_path / "a.mp4", range(3)), make_video(tmp_path / "b.mp4", range(3), audio="aac")]
    assert f"{parts[0]} has no sound, {parts[1]} has" in refused(tmp_path / "whole.mp4", parts).message


def test_frames_that_are_not_evenly_spaced_are_refused(tmp_path: Path) -> None:
    part, uneven = make_video(tmp_path / "a.mp4", range(9)), tmp_path / "b.mp4"
    with av.open(str(part)) as source, av.open(str(uneven), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream, opaque=True)
        for packet in source.demux(stream):
            if packet.size and packet.pts is not None:
                packet.pts = packet.dts = packet.pts + (400 if packet.pts > 2000 else 0)
                packet.stream = copy
                target.mux(packet)
    assert "not evenly spaced" in refused(tmp_path / "whole.mp4", [part, uneven]).message


def test_a_file_that_shows_a_part_of_its_frames_is_not_copied_but_transcoded(tmp_path: Path) -> None:
    """An edit list that leaves out the first frames, as cutting without encoding makes it."""
    part = make_video(tmp_path / "a.mp4", range(9), options={"preset": "ultrafast", "g": "30"})
    data = bytearray(part.read_bytes())
    entry = data.index(b"elst") + 4 + 4 + 4
    with av.open(str(part)) as container:
        ticks = 3 * 512
        assert container.streams.video[0].time_base == Fraction(1, 15360)
    data[entry + 4 : entry + 8] = ticks.to_bytes(4, "big")
    part.write_bytes(data)
    assert "shows only a part" in refused(tmp_path / "whole.mp4", [part]).message
    assert media.check(part, frames=6) is None
    assert merge(tmp_path / "whole.mp4", [part], MergeOptions(video_codec="h264")).frames == 6
    assert read_numbers(tmp_path / "whole.mp4") == list(range(3, 9))


def test_a_file_that_begins_without_a_key_frame_is_not_copied(tmp_path: Path) -> None:
    part, headless = make_video(tmp_path / "a.mkv", range(9)), tmp_path / "b.mkv"
    with av.open(str(part)) as source, av.open(str(headless), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream, opaque=True)
        for packet in source.demux(stream):
            if packet.size and not packet.is_keyframe:
                packet.stream = copy
                target.mux(packet)
    error = refused(tmp_path / "whole.mkv", [part, headless])
    assert f"{headless} can't be merged by copying: it begins in the middle" in error.message


def test_one_frame_of_another_rate_is_refused(tmp_path: Path) -> None:
    parts = [make_video(tmp_path / "a.mov", [0], codec="prores_ks", fps=25)]
    parts.append(make_video(tmp_path / "b.mov", [1, 2, 3], codec="prores_ks", fps=30))
    message = refused(tmp_path / "whole.mov", parts).message
    assert f"{parts[1]} has 30 frames a second, {parts[0]} has 25" in message


def test_an_avi_file_whose_frames_are_reordered_is_not_copied(tmp_path: Path) -> None:
    part = make_video(tmp_path / "a.avi", range(9), options=REORDERED)
    assert "AVI" in refused(tmp_path / "whole.mp4", [part]).message
    merge(tmp_path / "whole.mp4", [part], MergeOptions(video_codec="h264"))
    assert read_numbers(tmp_path / "whole.mp4") == list(range(9))


@pytest.mark.parametrize(
    ("codec", "sound", "suffix", "output", "said", "hint"),
    [
        ("libx264", "pcm_s16le", ".mov", ".mp4", "mp4 can't hold pcm_s16le", "--audio-codec aac"),
        ("libx264", None, ".mp4", ".webm", "webm can't hold h264", "--video-codec vp9"),
        ("libvpx-vp9", None, ".webm", ".mov", "mov can't hold vp9", "--video-codec h264"),
        ("prores_ks", None, ".mov", ".mp4", "mp4 can't hold prores", "--video-codec h264"),
        ("libvpx-vp9", "aac", ".mkv", ".webm", "webm can't hold aac", "--audio-codec opus"),
    ],
)
def test_a_container_that_can_not_hold_a_codec_is_told_with_what_transcodes(
    tmp_path: Path, codec: str, sound: str | None, suffix: str, output: str, said: str, hint: str
) -> None:
    parts = make_parts(tmp_path, (3, 3), suffix, codec=codec, audio=sound)
    error = refused(tmp_path / f"whole{output}", parts)
    assert isinstance(error, MergeFailed)
    assert said in error.message
    assert hint in error.hint


def test_a_codec_for_another_container_is_told(tmp_path: Path) -> None:
    part = make_video(tmp_path / "a.mp4", range(3), audio="aac")
    assert "can't hold prores" in refused(tmp_path / "b.mp4", [part], MergeOptions(video_codec="prores")).message
    assert "can't hold" in refused(tmp_path / "b.mp4", [part], MergeOptions(audio_codec="pcm_s16le")).message
    message = refused(tmp_path / "b.mov", [part], MergeOptions(audio_codec="opus")).message
    assert "mov can't hold opus, which the sound would be in" in message


def test_inputs_that_are_no_videos_are_named(tmp_path: Path) -> None:
    good = make_video(tmp_path / "good.mp4", range(3))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n")
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:-100])
    for name, said in (("empty", "is empty"), ("text", "is no video that can be read"), ("cut", "is cut off")):
        error = refused(tmp_path / "whole.mp4", [good, tmp_path / f"{name}.mp4"])
        assert isinstance(error, MergeFailed)
        assert f"{tmp_path / name}.mp4 {said}" in error.message


@pytest.mark.parametrize("hurt", [garble, silence], ids=["garbled", "left out"])
def test_an_input_whose_frames_are_damaged_is_named_whether_copied_or_transcoded(
    tmp_path: Path, hurt: Callable[[Path, int], None]
) -> None:
    good = make_video(tmp_path / "good.mp4", range(30), width=160, height=120)
    bad = make_video(tmp_path / "bad.mp4", range(30), width=160, height=120)
    hurt(bad, 12)
    for options in (None, MergeOptions(video_codec="h264")):
        error = refused(tmp_path / "whole.mp4", [good, bad, good], options)
        assert isinstance(error, MergeFailed)
        assert str(bad) in error.message
        assert str(good) not in error.message


def test_bad_usage_is_told_before_anything_is_written(tmp_path: Path) -> None:
    part = make_video(tmp_path / "a.mp4", range(3))
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "link.mp4").symlink_to(part)
    whole = tmp_path / "whole.mp4"
    cases = [
        (whole, [], "nothing to merge"),
        (whole, [part, tmp_path / "nowhere.mp4"], "nowhere.mp4 can't be read"),
        (whole, [part, tmp_path / "folder.mp4"], "folder.mp4 is no file"),
        (whole, [Path("/dev/null")], "/dev/null is no file"),
        (part, [part], "is an input and the output"),
        (tmp_path / "link.mp4", [part], "is an input and the output"),
        (tmp_path / "whole.gif", [part], "no container"),
        (tmp_path / "whole", [part], "no container"),
        (tmp_path / "nowhere" / "whole.mp4", [part], "the folder of"),
        (tmp_path / "folder.mp4", [part], "is not a regular file"),
    ]
    for output, inputs, said in cases:
        error = refused(output, inputs)
        assert isinstance(error, UsageProblem)
        assert said in error.message
    assert read_numbers(part) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (MergeOptions(video_codec="nope"), "no video encoder nope"),
        (MergeOptions(audio_codec="nope"), "no audio encoder nope"),
        (MergeOptions(video_codec="aac"), "aac is no video codec"),
        (MergeOptions(audio_codec="h264"), "h264 is no audio codec"),
        (MergeOptions(video_codec="copy", quality=20), "--video-codec copy"),
        (MergeOptions(preset="nope"), "libx264 can't encode this with these settings"),
        (MergeOptions(video_codec="prores", quality=20), "prores_ks takes no --quality"),
        (MergeOptions(video_codec="vp9", preset="slow"), "libvpx-vp9 takes no --preset"),
    ],
)
def test_options_that_make_no_sense_are_told(tmp_path: Path, options: MergeOptions, said: str) -> None:
    error = refused(tmp_path / "whole.mp4", [make_video(tmp_path / "a.mp4", range(3))], options)
    assert isinstance(error, UsageProblem)
    assert said in error.message


def test_quality_for_inputs_of_several_codecs_asks_for_a_name(tmp_path: Path) -> None:
    parts = [make_video(tmp_path / "a.mp4", [0]), make_video(tmp_path / "b.mp4", [1], codec="libx265")]
    error = refused(tmp_path / "whole.mp4", parts, MergeOptions(quality=20))
    assert f"{parts[1]} holds hevc" in error.message
    assert merge(tmp_path / "whole.mp4", parts, MergeOptions(video_codec="h265", quality=20)).video_codec == "hevc"


@pytest.mark.parametrize(
    "name",
    [
        "two words",
        "quote'\"",
        "new\nline",
        "-dash",
        "--help",
        "caf\u00e9 \u65e5\u672c",
        "%d %03d",
        "concat:a|b",
        "http:x",
    ],
)
def test_odd_names_are_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = make_parts(tmp_path, (3, 2), ".mp4")
    odd = parts[0].rename(tmp_path / f"{name}.mp4")
    monkeypatch.chdir(tmp_path)
    merge(Path(f"{name} whole.mp4"), [Path(odd.name), parts[1]])
    assert read_numbers(tmp_path / f"{name} whole.mp4") == list(range(5))
    assert len(names(tmp_path)) == 3


def test_the_longest_name_and_one_that_is_no_text_are_names(tmp_path: Path) -> None:
    part = make_video(tmp_path / "a.mp4", range(3))
    for name in ("\u00e9" * 125 + ".mp4", "n\udcff.mp4", "A.MP4"):
        merge(tmp_path / name, [part])
        assert media.check(tmp_path / name, frames=3) is None


def test_one_input_may_come_twice(tmp_path: Path) -> None:
    part = make_video(tmp_path / "a.mp4", [4, 5])
    merge(tmp_path / "whole.mp4", [part, part])
    assert read_numbers(tmp_path / "whole.mp4") == [4, 5, 4, 5]


def test_an_output_that_is_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    output, part = tmp_path / "whole.mp4", make_video(tmp_path / "a.mp4", range(3))
    output.write_bytes(b"the old one")
    other = make_video(tmp_path / "b.mp4", range(3), codec="libx265")
    refused(output, [part, other])
    assert output.read_bytes() == b"the old one"
    merge(output, [part])
    assert read_numbers(output) == [0, 1, 2]


def test_what_was_made_is_decoded_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libav is made to lose the last packets of what it writes."""
    parts = make_parts(tmp_path, (5, 5), ".mp4")
    whole = merge(tmp_path / "good.mp4", parts)
    assert whole.frames == 10
    monkeypatch.setattr("logist.render.tracks.CopiedVideo.take", lambda *_: iter(()))
    error = refused(tmp_path / "whole.mp4", parts)
    assert "though the inputs are whole" in error.message


def test_frames_that_would_be_shown_in_another_order_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libav is made to put a source's last frame where its first should be."""
    part = make_video(tmp_path / "a.mp4", range(5), codec="mjpeg", options={})
    begin = CopiedVideo.begin

    def turned(self: CopiedVideo, source: Source, first_frame: int) -> None:
        begin(self, source, first_frame)
        # Else libav refuses what is shown before it is decoded.
        self._delay = source.frames
        self._ranks = {time: source.frames - 1 - rank for time, rank in self._ranks.items()}

    monkeypatch.setattr(CopiedVideo, "begin", turned)
    error = refused(tmp_path / "whole.mkv", [part])
    assert "shows its frames in another order, though the inputs are whole" in error.message


LIMITED = """
import resource, sys
from pathlib import Path
from logist.errors import LogistError
from logist.render.merge import MergeOptions, merge
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    merge(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
except LogistError as error:
    print(type(error).__name__, error)
"""


def test_a_disk_that_takes_no_more_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    parts = make_parts(tmp_path, (30, 30), ".mp4", width=160, height=120)
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "whole.mp4"), *map(str, parts)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stdout.startswith(f"{StorageFailed.__name__} could not write {tmp_path / 'whole.mp4'}: "), ran
    assert names(tmp_path) == ["part_0.mp4", "part_1.mp4"]


def test_without_pyav_one_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = make_video(tmp_path / "a.mp4", range(3))
    monkeypatch.setitem(sys.modules, "av", None)
    assert refused(tmp_path / "whole.mp4", [part]).hint == "pip install 'logist[render]'"


def test_parameter_sets_are_compared_without_the_words_beside_them() -> None:
    sps, pps, words = b"\x67abc", b"\x68d", b"\x06 made by"
    framed = b"\x01\x64\x00\x1e\xff\xe1\x00\x04" + sps + b"\x01\x00\x02" + pps
    assert list(parameter_sets("h264", framed)) == [b"\xff", sps, pps]
    started = b"\0\0\0\1" + sps + b"\0\0\1" + words + b"\0\0\0\1" + pps
    assert list(parameter_sets("h264", started)) == [b"start codes", sps, pps]
    vps, words = b"\x40\x01v", b"\x4e\x01 made by"
    arrays = b"".join(
        bytes([kind]) + b"\0\1" + len(unit).to_bytes(2, "big") + unit for kind, unit in ((32, vps), (39, words))
    )
    assert list(parameter_sets("hevc", b"\x01" + bytes(20) + b"\x0f\x02" + arrays)) == [b"\x0f", vps]


def run_logist(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line as users have it."""
    command = [sys.executable, "-m", "logist", "merge", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_command_says_in_one_line_what_it_made(tmp_path: Path) -> None:
    make_parts(tmp_path, (13, 2), ".mp4", audio="aac")
    ran = run_logist("whole.mp4", "part_0.mp4", "part_1.mp4", cwd=tmp_path)
    size = (tmp_path / "whole.mp4").stat().st_size
    assert (ran.returncode, ran.stdout) == (0, "")
    assert ran.stderr == (
        "whole.mp4: 15 frames of 64x48 pixels, 0.500 s at 30 frames a second, "
        f"{size} bytes, h264 copied, aac copied, from 2 files\n"
    )
    assert read_numbers(tmp_path / "whole.mp4") == list(range(15))


def test_the_command_mixes_sounds_and_says_so(tmp_path: Path) -> None:
    make_parts(tmp_path, (13, 2), ".mp4")
    make_video(tmp_path / "a,b.mov", range(15), audio="pcm_s16le")
    ran = run_logist("whole.mp4", "part_0.mp4", "part_1.mp4", "--audio", "a,b.mov,volume=0.5,offset=0.1", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    assert ran.stderr.endswith("h264 copied, aac mixed of 1 sound, from 2 files\n")
    assert 0 <= heard(tmp_path / "whole.mp4").samples - AUDIO_RATE // 2 < 1024
    ran = run_logist("silent.mp4", "whole.mp4", "--audio-codec", "none", cwd=tmp_path)
    assert ran.stderr.endswith("h264 copied, no sound, as asked for, from 1 file\n")
    assert not media.read(tmp_path / "silent.mp4").has_audio


@pytest.mark.parametrize(
    ("sound", "code", "said"),
    [
        ("a.wav,volume=loud", 2, "Error: --audio: volume: 'loud' is not a number"),
        ("a.wav,volume=1,volume=2", 2, "Error: --audio: volume is given twice"),
        ("", 2, "Error: --audio: '' names no sound"),
        ("nowhere.wav", 5, "Error: the sound nowhere.wav can't be read: no such file"),
        ("part_0.mp4", 5, "Error: the sound part_0.mp4 has no sound in it"),
    ],
)
def test_the_command_says_what_is_wrong_with_a_sound(tmp_path: Path, sound: str, code: int, said: str) -> None:
    make_parts(tmp_path, (3,), ".mp4")
    ran = run_logist("whole.mp4", "part_0.mp4", "--audio", sound, cwd=tmp_path)
    assert ran.returncode == code
    assert ran.stderr.startswith(said)
    assert [line.partition(":")[0] for line in ran.stderr.splitlines()] == ["Error", "Hint"]
    assert names(tmp_path) == ["part_0.mp4"]


def is_being_written(folder: Path) -> bool:
    """Whether something of the output is there: before that a file is made and removed, to see whether it can be."""
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_size > 0 for path in folder.iterdir() if path.name != "a.mp4")
    return False


def test_what_a_killed_command_leaves_the_next_one_removes(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", range(60), width=640, height=360)
    command = [sys.executable, "-m", "logist", "merge", "whole.mp4", *["a.mp4"] * 60, "--preset", "veryslow"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
        while process.poll() is None and not is_being_written(tmp_path):
            pass
        assert process.poll() is None, "it ended before it could be stopped"
        # What is being written is left alone.
        merge(tmp_path / "whole.mp4", [tmp_path / "a.mp4"])
        assert len(names(tmp_path)) == 3
        process.kill()
    merge(tmp_path / "whole.mp4", [tmp_path / "a.mp4"])
    assert names(tmp_path) == ["a.mp4", "whole.mp4"]


def test_the_command_prints_json_and_takes_every_option(tmp_path: Path) -> None:
    make_video(tmp_path / "-a.mov", range(6), audio="pcm_s16le", fps=Fraction(30000, 1001))
    options = ["--video-codec", "av1", "--preset", "12", "--quality", "30", "--audio-codec", "opus", "--json"]
    ran = run_logist(*options, "--", "--whole.mp4", "-a.mov", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("\n") == 1
    assert json.loads(ran.stdout) == {
        "output": "--whole.mp4",
        "inputs": 1,
        "frames": 6,
        "fps": "30000/1001",
        "duration": 0.2002,
        "width": 64,
        "height": 48,
        "size": (tmp_path / "--whole.mp4").stat().st_size,
        "video_codec": "av1",
        "audio_codec": "opus",
        "video_transcoded": True,
        "audio_transcoded": True,
        "sounds": 0,
        "warnings": [],
    }


def test_the_command_ends_with_the_code_of_what_went_wrong(tmp_path: Path) -> None:
    part = make_video(tmp_path / "a.mp4", range(3))
    make_video(tmp_path / "b.mp4", range(3), codec="libx265")
    for arguments, code in (
        (["whole.mp4", "a.mp4", "nowhere.mp4"], 2),
        (["whole.mp4"], 2),
        (["whole.mp4", "a.mp4", "--quality", "-1"], 2),
        (["whole.mp4", "a.mp4", "b.mp4"], 5),
    ):
        ran = run_logist(*arguments, cwd=tmp_path)
        assert (ran.returncode, ran.stdout) == (code, "")
        assert [line.partition(":")[0] for line in ran.stderr.splitlines()] == ["Error", "Hint"]
    assert names(tmp_path) == ["a.mp4", "b.mp4"]
    assert read_numbers(part) == [0, 1, 2]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_is_stopped_leaves_nothing(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    part = make_video(tmp_path / "a.mp4", range(60), width=640, height=360)
    command = [sys.executable, "-m", "logist", "merge", "whole.mp4", *["a.mp4"] * 60, "--preset", "veryslow"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not is_being_written(tmp_path):
            pass
        assert process.poll() is None, "it ended before it could be stopped"
        process.send_signal(sent)
        assert process.wait(timeout=60) == code
    assert names(tmp_path) == [part.name]


def test_what_was_merged_says_how_long_it_is() -> None:
    merged = Merged("a.mp4", 1, 15, Fraction(30), 64, 48, 100, "h264", None, False, False)
    assert merged.duration == 0.5
