"""The sound of a render: mixed once, each sample where its time says, as long as the frames to the sample."""

from __future__ import annotations

import array
import contextlib
import itertools
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_encode import FILM, make, numbered, options
from videos import make_video, read_numbers

from logist.errors import ExitCode, LogistError, MergeFailed, UsageProblem
from logist.render import audio, sound_files
from logist.render.merge import Merged, MergeOptions, merge
from logist.render.notes import PartNote, Whole
from logist.render.options import AudioTrack
from logist.render.sound_files import Wanted, gathered

ROOT = Path(__file__).resolve().parents[1]
RATE = 48_000
#: Of a sound that is not silent.
LOUD = 0.5

#: Samples after which a wave of `make_sound` may be something else.
PERIOD = RATE // 120

Wave = Callable[[int, int], float]


def steady(_place: int, _rate: int) -> float:
    """As loud all the time, so that every place tells how loud it was made."""
    return LOUD


def tone(place: int, rate: int) -> float:
    """A tone of 440 Hz."""
    return LOUD * math.sin(2 * math.pi * 440 * place / rate)


def make_sound(
    path: Path,
    seconds: Fraction | float = 1,
    *,
    codec: str = "pcm_f32le",
    rate: int = RATE,
    layout: str = "mono",
    shape: Wave = steady,
) -> Path:
    """A sound file of `seconds`."""
    total = round(seconds * rate)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, layout=layout)
        # Both waves are the same again after so many samples.
        period, channels = rate // math.gcd(rate, 440), stream.layout.nb_channels
        values = array.array("f", (shape(place, rate) for place in range(period) for _ in range(channels)))
        width, whole = 4 * channels, (values * (total // period + 1)).tobytes()
        for start in range(0, total, 1024):
            size = min(1024, total - start)
            frame = av.AudioFrame(format="flt", layout=layout, samples=size)
            data = whole[start * width : (start + size) * width]
            frame.planes[0].update(data.ljust(frame.planes[0].buffer_size, b"\0"))
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def mixed(folder: Path, tracks: Sequence[AudioTrack], start: int = 0, stop: int = 2 * RATE) -> array.array[float]:
    """What is heard on the left; the right is the same."""
    with gathered([Wanted(track, folder, of_a_page=True) for track in tracks]) as sounds:
        samples = array.array("f", b"".join(audio.mix(sounds, start, stop)))
    assert len(samples) == 2 * (stop - start)
    assert samples[::2] == samples[1::2]
    return samples[::2]


def stretches(samples: Sequence[float]) -> list[tuple[int, int, float]]:
    """Where it is equally loud for longer: from, to, and how loud, to a thousandth; silence is left out."""
    found, place = [], 0
    for level, group in itertools.groupby(samples, lambda sample: round(sample, 3)):
        size = len(list(group))
        if level:
            found.append((place, place + size, level))
        place += size
    return found


def heard(path: Path) -> tuple[str, array.array[float]]:
    """The codec and the left side of a video's sound, decoded to its end and without a gap."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        codec = stream.codec_context.codec.canonical_name
        resampler = av.AudioResampler("flt", "stereo", RATE)
        samples, frames = array.array("f"), list(container.decode(stream))
        for frame in frames:
            for part in resampler.resample(frame):
                samples.frombytes(bytes(part.planes[0])[: part.samples * 8])
    assert frames[0].pts == 0
    assert sum(frame.samples for frame in frames) * 2 == len(samples)
    return codec, samples[::2]


def parts(folder: Path, sizes: Sequence[int], *, start: int = 0, fps: Fraction = FILM, **note: Any) -> list[Path]:
    """The parts of a render, which know what is heard."""
    made, first, asked = [], start, options(fps=fps, preset=note.pop("preset", None))
    for index, size in enumerate(sizes):
        pictures = [numbered(number) for number in range(first, first + size)]
        text = PartNote(first, size, fps, **{"render": "r", **note}).text()
        made.append(make(folder / f"part{index}.mov", pictures, asked, text))
        first += size
    return made


def refused(output: Path, inputs: Sequence[Path], asked: MergeOptions | None = None) -> LogistError:
    """The error of a merge, which leaves nothing behind."""
    before = sorted(output.parent.iterdir())
    with pytest.raises(LogistError) as caught:
        merge(output, inputs, asked)
    assert sorted(output.parent.iterdir()) == before
    assert "\n" not in caught.value.message
    return caught.value


# --- Where a sound is, and how loud ----------------------------------------------------------------------------------


def test_a_sound_is_as_loud_as_it_was_and_then_there_is_silence(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    assert stretches(mixed(tmp_path, [AudioTrack("a.wav")])) == [(0, RATE, LOUD)]
    make_sound(tmp_path / "b.wav", layout="stereo")
    assert stretches(mixed(tmp_path, [AudioTrack("b.wav")])) == [(0, RATE, LOUD)]


TIMES = st.fractions(0, Fraction(3, 2), max_denominator=10_000)


@settings(max_examples=60)
@given(
    offset=TIMES,
    seek=TIMES,
    duration=st.none() | st.fractions(Fraction(1, 1000), 2, max_denominator=10_000),
    volume=st.sampled_from([Fraction(1), Fraction(1, 4), Fraction(3, 2)]),
    loop=st.booleans(),
    first=st.integers(0, 2 * RATE - 1),
)
def test_a_sound_is_where_it_should_be_to_the_sample(
    tmp_path_factory: pytest.TempPathFactory,
    offset: Fraction,
    seek: Fraction,
    duration: Fraction | None,
    volume: Fraction,
    loop: bool,
    first: int,
) -> None:
    folder = tmp_path_factory.getbasetemp()
    if not (folder / "a.wav").exists():
        make_sound(folder / "a.wav")
    track = AudioTrack("a.wav", offset=offset, seek=seek, duration=duration, volume=volume, loop=loop)
    begin = round(offset * RATE)
    end = 2 * RATE if loop else begin + max(0, RATE - round(seek * RATE))
    if duration is not None:
        end = min(end, begin + round(duration * RATE))
    end = min(end, 2 * RATE)
    expected = [(begin, end, round(float(LOUD * volume), 3))] if end > begin else []
    whole = mixed(folder, [track])
    assert stretches(whole) == expected
    # A part of it sounds as it does in the whole.
    assert mixed(folder, [track], first) == whole[first:]


def test_sounds_are_added(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    tracks = [AudioTrack("a.wav", offset=Fraction(start, 4), volume=Fraction(1, 2)) for start in (0, 2, 3)]
    quarter = RATE // 4
    assert stretches(mixed(tmp_path, tracks)) == [
        (0, 2 * quarter, 0.25),
        (2 * quarter, 3 * quarter, 0.5),
        (3 * quarter, 4 * quarter, 0.75),
        (4 * quarter, 6 * quarter, 0.5),
        (6 * quarter, 7 * quarter, 0.25),
    ]


def test_many_sounds_are_added(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    tracks = [AudioTrack("a.wav", volume=Fraction(1, 100))] * 100
    assert stretches(mixed(tmp_path, tracks)) == [(0, RATE, LOUD)]


def test_fades_are_straight_lines(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    track = AudioTrack("a.wav", offset=Fraction(1, 2), fade_in=Fraction(1, 4), fade_out=Fraction(1, 2))
    samples = mixed(tmp_path, [track])
    for place, level in ((0, 0), (1 / 8, 0.5), (1 / 4, 1), (0.5, 1), (3 / 4, 0.5), (1 - 1 / RATE, 0), (1, 0)):
        assert samples[round((0.5 + place) * RATE)] == pytest.approx(LOUD * level, abs=1e-3)


@pytest.mark.parametrize(
    ("track", "end"),
    [
        (AudioTrack("a.wav", fade_out=Fraction(1, 4), seek=Fraction(1, 2)), 0.5),
        (AudioTrack("a.wav", fade_out=Fraction(1, 4), duration=Fraction(3, 4)), 0.75),
        (AudioTrack("a.wav", fade_out=Fraction(1, 4), duration=Fraction(100)), 1),
        (AudioTrack("a.wav", fade_out=Fraction(1, 4), rate=Fraction(2)), 0.5),
        (AudioTrack("a.wav", fade_out=Fraction(1, 4), loop=True, duration=Fraction(3, 2)), 1.5),
        (AudioTrack("a.wav", fade_out=Fraction(1, 4), loop=True), 2),
    ],
)
def test_a_sound_fades_out_at_its_end_whatever_ends_it(tmp_path: Path, track: AudioTrack, end: float) -> None:
    make_sound(tmp_path / "a.wav")
    samples = mixed(tmp_path, [track])
    assert samples[round((end - 0.26) * RATE)] == pytest.approx(LOUD, abs=1e-3)
    assert samples[round((end - 0.125) * RATE)] == pytest.approx(LOUD / 2, abs=2e-3)
    assert samples[round(end * RATE) - 2] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    "rate", [Fraction(1, 5), Fraction(1, 2), Fraction(9, 10), Fraction(3, 2), Fraction(2), Fraction(7)]
)
def test_a_sound_that_is_played_faster_is_shorter_and_keeps_its_pitch(tmp_path: Path, rate: Fraction) -> None:
    make_sound(tmp_path / "a.wav", 2, shape=tone)
    track = AudioTrack("a.wav", seek=Fraction(1, 2), rate=rate)
    length = round(Fraction(3, 2) * RATE / rate)
    samples = mixed(tmp_path, [track], stop=length + RATE)
    last = max(place for place, sample in enumerate(samples) if abs(sample) > 0.01)
    # What is cut out or repeated is a few hundredths of a second long.
    assert length - RATE // 20 <= last < length
    crossings = sum(1 for one, other in itertools.pairwise(samples[:last]) if one < 0 <= other)
    assert crossings / (last / RATE) == pytest.approx(440, rel=0.05)


def test_a_loop_has_no_gap(tmp_path: Path) -> None:
    """A tone whose length is a whole number of its waves."""
    make_sound(tmp_path / "a.wav", Fraction(1, 4), shape=tone)
    samples = mixed(tmp_path, [AudioTrack("a.wav", loop=True, seek=Fraction(7, 8))])
    begin = RATE * 7 // 8
    assert max(abs(sample - tone(begin + place, RATE)) for place, sample in enumerate(samples)) < 1e-4


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 96000])
def test_other_sample_rates_are_as_long_and_in_time(tmp_path: Path, rate: int) -> None:
    make_sound(tmp_path / "a.wav", rate=rate, shape=tone)
    samples = mixed(tmp_path, [AudioTrack("a.wav")])
    assert not any(samples[RATE + 1 :])
    assert max(abs(samples[place] - tone(place, RATE)) for place in range(500, RATE - 500)) < 0.01


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.wav", "pcm_s16le"),
        ("a.flac", "flac"),
        ("a.mp3", "libmp3lame"),
        ("a.m4a", "aac"),
        ("a.opus", "libopus"),
        ("a.webm", "libopus"),
        ("a.mkv", "aac"),
        ("a.aiff", "pcm_s16be"),
        ("a.mov", "alac"),
    ],
)
def test_every_usual_kind_of_sound_begins_when_it_should(tmp_path: Path, name: str, codec: str) -> None:
    """What an encoder puts in front is not heard: the tone is in phase."""
    make_sound(tmp_path / name, codec=codec, shape=tone)
    samples = mixed(tmp_path, [AudioTrack(name)])
    off = [samples[place] - tone(place, RATE) for place in range(RATE // 4, RATE // 2)]
    assert math.sqrt(sum(error * error for error in off) / len(off)) < 0.05


def test_what_begins_later_in_its_file_is_heard_later(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    with av.open(str(tmp_path / "a.wav")) as source, av.open(str(tmp_path / "late.mkv"), "w") as target:
        stream = source.streams.audio[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size and packet.pts is not None:
                # Then half a second in which nothing is.
                packet.pts = packet.dts = packet.pts + RATE // 2 + (packet.pts > RATE // 2) * RATE // 2
                packet.stream = copy
                target.mux(packet)
    found = stretches(mixed(tmp_path, [AudioTrack("late.mkv")]))
    assert [round((end - begin) / RATE, 1) for begin, end, _ in found] == [0.5, 0.5]
    assert found[0][0] == RATE // 2
    assert found[1][1] == 2 * RATE


def test_a_clock_that_jumps_by_hours_is_not_believed(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    with av.open(str(tmp_path / "a.wav")) as source, av.open(str(tmp_path / "broken.mkv"), "w") as target:
        stream = source.streams.audio[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size and packet.pts is not None:
                packet.pts = packet.dts = packet.pts + (packet.pts > RATE // 2) * 2 * 3600 * RATE
                packet.stream = copy
                target.mux(packet)
    assert stretches(mixed(tmp_path, [AudioTrack("broken.mkv")])) == [(0, RATE, LOUD)]


def test_a_sound_of_one_voice_may_become_one_of_two(tmp_path: Path) -> None:
    make_sound(tmp_path / "one.aac", codec="aac", shape=tone)
    make_sound(tmp_path / "other.aac", codec="aac", layout="stereo", shape=tone)
    (tmp_path / "both.aac").write_bytes((tmp_path / "one.aac").read_bytes() + (tmp_path / "other.aac").read_bytes())
    with gathered([Wanted(AudioTrack("both.aac"), tmp_path, of_a_page=True)]) as sounds:
        samples = array.array("f", b"".join(audio.mix(sounds, 0, 3 * RATE)))
    for side, start in itertools.product((0, 1), (RATE // 4, RATE + RATE // 4)):
        piece = samples[2 * start + side : 2 * start + RATE : 2]
        crossings = sum(1 for one, other in itertools.pairwise(piece) if one < 0 <= other)
        assert crossings == pytest.approx(220, abs=2)
        assert math.sqrt(sum(sample * sample for sample in piece) / len(piece)) == pytest.approx(LOUD / 2**0.5, rel=0.1)


def test_the_same_twice_is_the_same(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.mp3", codec="libmp3lame", shape=tone)
    tracks = [AudioTrack("a.mp3", rate=Fraction(5, 4)), AudioTrack("a.mp3", offset=Fraction(1, 3), loop=True)]
    assert mixed(tmp_path, tracks) == mixed(tmp_path, tracks)


def ramp(path: Path, seconds: Fraction) -> Path:
    """A sound that tells at every place which one it is."""
    total = round(seconds * RATE)
    return (
        make_sound(path, seconds, shape=lambda place, _: place / total) if total <= PERIOD else pytest.fail("too long")
    )


@pytest.mark.parametrize("seconds", [Fraction(1, RATE), Fraction(77, RATE), Fraction(1, 1000), Fraction(PERIOD, RATE)])
def test_a_loop_goes_on_where_it_would_after_days(tmp_path: Path, seconds: Fraction) -> None:
    """All that passes before it is heard would take hours to play."""
    ramp(tmp_path / "a.wav", seconds)
    size, far = round(seconds * RATE), 10**8 * RATE // 3
    for track, start in (
        (AudioTrack("a.wav", loop=True), far),
        (AudioTrack("a.wav", loop=True, seek=Fraction(far, RATE)), 0),
        (AudioTrack("a.wav", loop=True, offset=Fraction(5, RATE), seek=Fraction(far + 5, RATE)), 5),
    ):
        begin = start - round(track.offset * RATE) + round(track.seek * RATE)
        samples = mixed(tmp_path, [track], start, start + 9000)
        assert list(samples) == pytest.approx([(begin + place) % size / size for place in range(9000)], abs=1e-6)


@pytest.mark.parametrize(
    "track", [{}, {"rate": Fraction(2)}, {"duration": Fraction(10**7)}, {"volume": Fraction(1, 2)}]
)
def test_fades_of_a_loop_are_as_loud_after_days(tmp_path: Path, track: dict[str, Fraction]) -> None:
    """The same places of a fade that is over soon and of one that is not, and the beginning and middle of its end."""
    make_sound(tmp_path / "a.wav")
    loud, length = LOUD * float(track.get("volume", 1)), 10**7
    for fades, at, level in (
        ({"fade_in": Fraction(10**6)}, 250_000, 0.25),
        ({"fade_in": Fraction(10**6)}, 999_999, 1),
        ({"fade_in": Fraction(10**3)}, 250_000, 1),
        ({"fade_out": Fraction(10**6)}, length - 10**6 - 2, 1),
        ({"fade_out": Fraction(10**6)}, length - 250_000, 0.25),
        ({"fade_in": Fraction(10**7), "fade_out": Fraction(10**7)}, length // 2, 0.25),
    ):
        chosen = AudioTrack("a.wav", loop=True, **{**track, **fades})  # type: ignore[arg-type]
        with gathered([Wanted(chosen, tmp_path, of_a_page=True)]) as sounds:
            pieces = audio.mix(sounds, at * RATE, length * RATE)
            heard = array.array("f", b"".join(itertools.islice(pieces, 2)))
            pieces.close()  # type: ignore[attr-defined]
        assert min(heard[2000:]) == pytest.approx(loud * level, abs=1e-3), fades
        assert max(heard[2000:]) == pytest.approx(loud * level, abs=1e-3), fades


def test_a_fade_of_a_loop_that_goes_on_for_long_is_as_straight(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    for fade, at, levels in (
        ({"fade_in": Fraction(1000)}, Fraction("999.5"), (0.9995, 0.99975, 1, 1)),
        ({"fade_out": Fraction(1000), "duration": Fraction(2000)}, Fraction("1999.5"), (0.0005, 0.00025, 0, 0)),
    ):
        samples = mixed(tmp_path, [AudioTrack("a.wav", loop=True, **fade)], round(at * RATE), round((at + 1) * RATE))
        found = [samples[RATE * quarter // 4] for quarter in range(4)]
        assert found == pytest.approx([LOUD * level for level in levels], abs=1e-5)


def test_a_loop_that_is_over_before_days_is_silent(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav", Fraction(1, 100))
    track = AudioTrack("a.wav", loop=True, duration=Fraction(10**6), fade_out=Fraction(1))
    for over in (track, replace(track, fade_out=Fraction(0))):
        assert stretches(mixed(tmp_path, [over], 10**6 * RATE + 9, 10**6 * RATE + 100)) == []
    assert stretches(mixed(tmp_path, [replace(track, fade_out=Fraction(0))], 10**6 * RATE - 50, 10**6 * RATE + 50)) == [
        (0, 50, LOUD)
    ]


def test_the_shortest_loop_is_as_fast_as_a_long_one(tmp_path: Path) -> None:
    """One sample, ten million times: to open its file for each would take an hour."""
    make_sound(tmp_path / "a.wav", Fraction(1, RATE))
    with gathered([Wanted(AudioTrack("a.wav", loop=True, volume=Fraction(2)), tmp_path, of_a_page=True)]) as sounds:
        levels = {level for piece in audio.mix(sounds, 0, 10_000_000) for level in array.array("f", piece)[::511]}
    assert levels == {2 * LOUD}


def test_a_loop_that_is_too_long_to_be_kept_is_played_again(tmp_path: Path) -> None:
    total = 31 * RATE + 77
    make_sound(tmp_path / "a.wav", Fraction(total, RATE), shape=tone)
    samples = mixed(tmp_path, [AudioTrack("a.wav", loop=True)], 0, 70 * RATE)
    assert max(abs(samples[place] - tone(place % total, RATE)) for place in range(0, len(samples), 77)) < 1e-4


def test_no_more_of_a_sound_is_decoded_than_is_heard(tmp_path: Path) -> None:
    """Ten hours of a loop, of which a moment is asked for: all of it would take for ever, and all memory."""
    make_sound(tmp_path / "a.wav", Fraction(1, 100))
    hours = 36_000 * RATE
    with gathered([Wanted(AudioTrack("a.wav", loop=True), tmp_path, of_a_page=True)]) as sounds:
        pieces = audio.mix(sounds, 0, hours)
        first = next(pieces)
        pieces.close()  # type: ignore[attr-defined]
    assert stretches(array.array("f", first)[::2]) == [(0, len(first) // 8, LOUD)]


# --- From parts to a video -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [Fraction(30), FILM, Fraction(7, 3)])
@pytest.mark.parametrize(
    ("suffix", "codec", "name"),
    [
        (".mov", "pcm_s16le", "pcm_s16le"),
        (".mkv", "flac", "flac"),
        (".mkv", None, "aac"),
        (".mkv", "opus", "opus"),
        (".mp4", "flac", "flac"),
        (".mp4", None, "aac"),
        (".m4v", "aac", "aac"),
        (".mov", None, "aac"),
        (".mp4", "opus", "opus"),
    ],
)
def test_the_sound_is_as_long_as_the_frames_to_the_sample(
    tmp_path: Path, fps: Fraction, suffix: str, codec: str | None, name: str
) -> None:
    make_sound(tmp_path / "a.wav", 20, shape=tone)
    made = parts(tmp_path, (7, 3), fps=fps, tracks=(AudioTrack("a.wav"),))
    output = tmp_path / f"whole{suffix}"
    merged = merge(output, made, MergeOptions(audio_codec=codec))
    length = round(10 / fps * RATE)
    found, samples = heard(output)
    assert (found, merged.audio_codec, merged.sounds, merged.audio_transcoded) == (name, name, 1, False)
    with av.open(str(output)) as container:
        stream = container.streams.audio[0]
        if stream.duration is not None:
            assert stream.time_base is not None
            assert stream.duration * stream.time_base * RATE == length
    # libav plays the last packet of these to its end, whatever the file says of it.
    beyond = len(samples) - length
    assert 0 <= beyond < (1024 if suffix in (".mp4", ".m4v", ".mov") and name in ("aac", "opus") else 1)
    middle = range(3000, length - 3000)
    off = [samples[place] - tone(place, RATE) for place in middle]
    assert math.sqrt(sum(error * error for error in off) / len(off)) < 0.05
    assert read_numbers(output) == list(range(10))


def test_webm_gets_opus(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    part = make(
        tmp_path / "a.mkv",
        [numbered(0), numbered(1)],
        options("vp9"),
        PartNote(0, 2, FILM, tracks=(AudioTrack("a.wav"),)).text(),
    )
    merged = merge(tmp_path / "b.webm", [part])
    codec, samples = heard(tmp_path / "b.webm")
    assert (codec, merged.audio_codec, len(samples)) == ("opus", "opus", round(2 / FILM * RATE))


def exact_sound(tmp_path: Path, made: Sequence[Path], *tracks: AudioTrack) -> list[tuple[int, int, float]]:
    """The stretches of a merge's sound, kept without loss."""
    merge(tmp_path / "whole.mov", made, MergeOptions(audio_codec="pcm_s24le", audio=tracks))
    return stretches(heard(tmp_path / "whole.mov")[1])


def test_a_part_of_a_composition_hears_from_its_first_frame_on(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    tracks = (AudioTrack("a.wav", offset=Fraction(1, 2)),)
    made = parts(tmp_path, (20, 5), start=10, fps=Fraction(20), tracks=tracks)
    assert exact_sound(tmp_path, made) == [(0, RATE, LOUD)]
    made = parts(tmp_path, (20, 5), start=15, fps=Fraction(20), tracks=tracks)
    assert exact_sound(tmp_path, made) == [(0, RATE * 3 // 4, LOUD)]


def test_what_several_parts_found_is_heard_once_and_all_of_it(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    one, other = AudioTrack("a.wav"), AudioTrack("a.wav", offset=Fraction(1, 2), volume=Fraction(1, 2))
    again = AudioTrack((tmp_path / "a.wav").as_posix())
    for index, tracks in enumerate([(one,), (again,), (other, one)]):
        text = PartNote(index * 10, 10, Fraction(20), "r", tracks, complete=False).text()
        make(tmp_path / f"{index}.mov", [numbered(index)] * 10, options(fps=Fraction(20)), text)
    made = [tmp_path / f"{index}.mov" for index in range(3)]
    assert exact_sound(tmp_path, made) == [(0, 24000, 0.5), (24000, 48000, 0.75), (48000, 72000, 0.25)]
    assert merge(tmp_path / "b.mov", made).sounds == 2


def test_the_last_part_knows_what_was_stopped_after_the_first(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    endless = AudioTrack("a.wav")
    stopped = AudioTrack("a.wav", duration=Fraction(3, 4))
    for complete, heard in ((True, [(0, 36000, LOUD)]), (False, [(0, 36000, 2 * LOUD), (36000, 48000, LOUD)])):
        made = []
        for index, track in enumerate((endless, stopped)):
            text = PartNote(index * 10, 10, Fraction(20), "r", (track,), complete=complete).text()
            made.append(tmp_path / f"{complete}{index}.mov")
            make(made[-1], [numbered(index)] * 10, options(fps=Fraction(20)), text)
        assert exact_sound(tmp_path, made) == heard


def test_sounds_are_looked_for_from_where_the_parts_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    make_sound(tmp_path / "two words, one comma.wav")
    track = AudioTrack("../two words, one comma.wav")
    made = parts(tmp_path / "deep", (30,), fps=Fraction(30), tracks=(track,))
    monkeypatch.chdir("/")
    assert exact_sound(tmp_path, made) == [(0, RATE, LOUD)]
    url = AudioTrack((tmp_path / "two words, one comma.wav").as_uri())
    assert exact_sound(tmp_path, parts(tmp_path / "deep", (30,), fps=Fraction(30), tracks=(url,))) == [(0, RATE, LOUD)]


def test_sounds_that_are_named_are_mixed_with_those_of_the_page(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    make_sound(tmp_path / "b.wav", Fraction(1, 2))
    made = parts(tmp_path, (30, 30), fps=Fraction(30), tracks=(AudioTrack("a.wav"),))
    added = AudioTrack(str(tmp_path / "b.wav"), offset=Fraction(1), volume=Fraction(1, 2))
    assert exact_sound(tmp_path, made, added) == [(0, RATE, 0.5), (RATE, RATE + RATE // 2, 0.25)]


def test_silent_videos_that_are_no_parts_get_sounds_too(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    video = make_video(tmp_path / "a.mov", range(60))
    assert exact_sound(tmp_path, [video], AudioTrack(str(tmp_path / "a.wav"))) == [(0, RATE, LOUD)]
    loud = make_video(tmp_path / "b.mov", range(60), audio="pcm_s16le")
    error = refused(tmp_path / "c.mov", [loud], MergeOptions(audio=(AudioTrack(str(tmp_path / "a.wav")),)))
    assert isinstance(error, UsageProblem)
    assert f"{loud} has sound of its own" in error.message


def test_a_sound_may_be_in_a_video_and_a_video_of_the_page_may_be_silent(tmp_path: Path) -> None:
    make_video(tmp_path / "silent.mov", range(9))
    make_video(tmp_path / "loud.mov", range(30), audio="pcm_s16le")
    tracks = (AudioTrack("silent.mov"), AudioTrack("loud.mov"))
    merged = merge(tmp_path / "b.mov", parts(tmp_path, (30,), tracks=tracks))
    assert merged.sounds == 1
    merged = merge(tmp_path / "c.mov", parts(tmp_path, (30,), tracks=tracks[:1]))
    assert (merged.sounds, merged.audio_codec) == (0, None)
    error = refused(
        tmp_path / "d.mov", parts(tmp_path, (3,)), MergeOptions(audio=(AudioTrack(str(tmp_path / "silent.mov")),))
    )
    assert "silent.mov has no sound in it" in error.message


def test_no_sound_is_mixed_where_none_is_wanted(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    made = parts(tmp_path, (3,), tracks=(AudioTrack("nowhere.wav"),))
    merged = merge(tmp_path / "b.mp4", made, MergeOptions(audio_codec="none", audio=(AudioTrack("nowhere.wav"),)))
    assert (merged.audio_codec, merged.sounds) == (None, 0)
    loud = make_video(tmp_path / "loud.mp4", range(9), audio="aac")
    merge(tmp_path / "c.mp4", [loud], MergeOptions(audio_codec="none"))
    for name in ("b.mp4", "c.mp4"):
        with av.open(str(tmp_path / name)) as container:
            assert not container.streams.audio


def test_frames_are_copied_and_never_encoded_again(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.wav")
    made = parts(tmp_path, (5, 4), tracks=(AudioTrack("a.wav"),))
    merge(tmp_path / "whole.mp4", made)

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(video=0) if packet.size]

    assert packets(tmp_path / "whole.mp4") == [frame for part in made for frame in packets(part)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(("preset", "delay"), [("ultrafast", 0), (None, 2)])
def test_the_same_parts_are_the_same_bytes_and_sound_and_frames_are_side_by_side(
    tmp_path: Path, suffix: str, preset: str | None, delay: int
) -> None:
    """At two frames a second 24 packets of sound are as long as a frame, and half a minute of it would fit into memory.

    Frames that are decoded before they are shown are stored that much earlier: it is sound that fills up the end.
    """
    make_sound(tmp_path / "a.wav", 30, shape=tone)
    made = parts(tmp_path, (20, 20), fps=Fraction(2), preset=preset, tracks=(AudioTrack("a.wav"),))
    for name in ("one", "two"):
        merge(tmp_path / f"{name}{suffix}", made)
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    with av.open(str(tmp_path / f"one{suffix}")) as container:
        order = [(packet.pos or 0, packet.stream.type) for packet in container.demux() if packet.size]
    runs = [len(list(group)) for _, group in itertools.groupby(kind for _, kind in sorted(order))]
    assert max(runs[:-1]) <= 24
    assert runs[-1] <= 24 + delay * 24


# --- What can't be ---------------------------------------------------------------------------------------------------


def test_sounds_that_can_not_be_heard_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp3").write_text("no sound at all")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    with wave.open(str(tmp_path / "nothing.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
    cases = [
        ("nowhere.wav", "nowhere.wav can't be read: no such file"),
        ("text.mp3", "text.mp3 can't be read"),
        ("empty.wav", "empty.wav can't be read"),
        ("folder.wav", "folder.wav can't be read"),
        ("nothing.wav", "nothing.wav has no sound in it"),
        ("blob:http://page/1", "blob:http://page/1 can't be read: blob: is known to its page alone"),
        ("http://127.0.0.1:9/a.wav", "http://127.0.0.1:9/a.wav can't be fetched: "),
        ("data:audio/wav;base64,####", "can't be"),
        (f"data:audio/wav,{'x' * 1000}", "x… can't be read"),
    ]
    for source, said in cases:
        made = parts(tmp_path, (3,), tracks=(AudioTrack(source),))
        error = refused(tmp_path / "whole.mp4", made)
        assert isinstance(error, MergeFailed), source
        assert said in error.message
        assert error.hint


def test_a_damaged_sound_is_named(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.m4a", codec="aac", shape=tone)
    data = bytearray((tmp_path / "a.m4a").read_bytes())
    middle = data.index(b"mdat") + 2000
    data[middle : middle + 1000] = b"\xff" * 1000
    (tmp_path / "a.m4a").write_bytes(data)
    made = parts(tmp_path, (60,), tracks=(AudioTrack("a.m4a"),))
    error = refused(tmp_path / "whole.mp4", made)
    assert isinstance(error, MergeFailed)
    assert "a.m4a can't be read" in error.message


@pytest.mark.parametrize(
    ("codec", "said"),
    [
        ("nope", "no audio encoder nope"),
        ("opus", "mov can't hold opus"),
        ("copy", "none to copy"),
        ("h264", "no audio"),
    ],
)
def test_a_codec_that_can_not_be_is_told(tmp_path: Path, codec: str, said: str) -> None:
    make_sound(tmp_path / "a.wav")
    made = parts(tmp_path, (3,), tracks=(AudioTrack("a.wav"),))
    error = refused(tmp_path / "whole.mov", made, MergeOptions(audio_codec=codec))
    assert said in error.message


class Served(BaseHTTPRequestHandler):
    """Gives one sound, whatever is asked for, but for what is missing, broken off, or never ends."""

    data = b""
    #: How often it was asked, and when whatever has no end is to end.
    asked: ClassVar[list[str]] = []
    enough = threading.Event()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        with contextlib.suppress(ConnectionError):
            if "silent" in self.path:
                self.wait_for(600)
            self.send_response(404 if "missing" in self.path else 200)
            if "short" in self.path:
                self.send_header("Content-Length", str(len(self.data) + 9))
            self.end_headers()
            self.wfile.write(self.data)
            while "endless" in self.path and not self.enough.is_set():
                self.wfile.write(bytes(1 << 16))
            while "slow" in self.path and not self.wait_for(0.05):
                self.wfile.write(b"x")

    def wait_for(self, seconds: float) -> bool:
        """Whether it was enough before that."""
        return self.enough.wait(seconds)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def served(sound: Path) -> Iterator[str]:
    """Where a sound is served; whoever still fetches is gone afterwards."""
    Served.data = sound.read_bytes()
    Served.asked.clear()
    Served.enough.clear()
    before = set(threading.enumerate())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Served)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        Served.enough.set()
        server.shutdown()
        server.server_close()
        for each in set(threading.enumerate()) - before:
            each.join()


@pytest.fixture
def own_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for what is fetched."""
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    return tmp_path / "temp"


def test_sounds_are_fetched_from_where_the_page_had_them(tmp_path: Path, own_temp: Path) -> None:
    with served(make_sound(tmp_path / "a.wav")) as url:
        tracks = (AudioTrack(f"{url}/a.wav?v=1"), AudioTrack(f"{url}/a.wav?v=1", offset=Fraction(1, 2)))
        made = parts(tmp_path, (30,), fps=Fraction(30), tracks=tracks)
        assert exact_sound(tmp_path, made) == [(0, RATE // 2, 0.5), (RATE // 2, RATE, 1.0)]
        assert Served.asked == ["/a.wav?v=1"]
        missing = parts(tmp_path, (30,), tracks=(AudioTrack(f"{url}/missing.wav"),))
        assert "/missing.wav can't be fetched: not found" in refused(tmp_path / "b.mov", missing).message
        short = parts(tmp_path, (30,), tracks=(AudioTrack(f"{url}/short.wav"),))
        assert "9 before its end" in refused(tmp_path / "b.mov", short).message
    assert list(own_temp.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "most_bytes", "most_seconds", "said"),
    [
        ("endless", 1_000_000, 600, "what is fetched is more than 1000000 bytes"),
        ("slow", 10**9, 0.5, "it took more than 0.5 seconds"),
        ("silent", 10**9, 0.5, "it took more than 0.5 seconds"),
        ("a.wav", 300_000, 600, "what is fetched is more than 300000 bytes"),
    ],
)
def test_a_server_that_does_not_come_to_an_end_is_left(
    tmp_path: Path,
    own_temp: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    most_bytes: int,
    most_seconds: float,
    said: str,
) -> None:
    """The last of them is for what two sounds have together: one alone is not too much."""
    monkeypatch.setattr(sound_files, "MOST_BYTES", most_bytes)
    monkeypatch.setattr(sound_files, "MOST_SECONDS", most_seconds)
    with served(make_sound(tmp_path / "a.wav")) as url:
        made = parts(tmp_path, (3,), tracks=(AudioTrack(f"{url}/a.wav?1"), AudioTrack(f"{url}/{path}")))
        error = refused(tmp_path / "whole.mov", made)
        assert list(own_temp.iterdir()) == []
        for thread in threading.enumerate():
            # It goes on as long as nothing at all comes.
            if thread.name == "logist-fetch" and path != "silent":
                thread.join(60)
                assert not thread.is_alive()
    assert isinstance(error, MergeFailed)
    assert f"/{path} can't be fetched: {said}" in error.message


KILLED = """
import os, signal, sys
from pathlib import Path
from logist.render.options import AudioTrack
from logist.render.sound_files import Wanted, gathered
with gathered([Wanted(AudioTrack(sys.argv[1]), Path(), of_a_page=True)]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_has_fetched_the_next_one_removes(tmp_path: Path, own_temp: Path) -> None:
    with served(make_sound(tmp_path / "a.wav")) as url:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(own_temp)}
        killed = subprocess.run([sys.executable, "-c", KILLED, f"{url}/a.wav"], env=environment, check=False)
        assert killed.returncode == -signal.SIGKILL
        [left] = own_temp.iterdir()
        with gathered([Wanted(AudioTrack(f"{url}/a.wav"), tmp_path, of_a_page=True)]):
            assert not left.exists()
            [held] = own_temp.iterdir()
            with gathered([Wanted(AudioTrack(f"{url}/a.wav"), tmp_path, of_a_page=True)]):
                assert held.exists()


@pytest.mark.parametrize("named", ["pipe", "/dev/zero", "/dev/tty", "socket"])
def test_what_is_no_regular_file_is_no_sound_and_nobody_waits_for_it(tmp_path: Path, named: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        # Its own name may be longer than the system takes.
        bound.bind(f"/proc/self/fd/{(folder := os.open(tmp_path, os.O_RDONLY))}/socket")
        os.close(folder)
        made = parts(tmp_path, (3,), tracks=(AudioTrack(named),))
        for asked in (None, MergeOptions(audio=(AudioTrack(str(tmp_path / named)),))):
            error = refused(tmp_path / "whole.mp4", made, asked)
            assert isinstance(error, MergeFailed)
            assert f"{named} can't be read: it is not a regular file" in error.message


# --- The parts of a render -------------------------------------------------------------------------------------------


def noted(folder: Path, name: str, start: int, count: int, **note: Any) -> Path:
    """A part that holds `count` frames."""
    text = PartNote(start, note.pop("says", count), note.pop("fps", FILM), **{"render": "r", **note}).text()
    return make(folder / f"{name}.mov", [numbered(start + number) for number in range(count)], options(), text)


def test_parts_that_are_not_one_render_in_order_are_told(tmp_path: Path) -> None:
    a, b, c = noted(tmp_path, "a", 0, 5), noted(tmp_path, "b", 5, 5), noted(tmp_path, "c", 10, 5)
    plain = make(tmp_path / "plain.mov", [numbered(5)], options())
    over, inside = noted(tmp_path, "over", 3, 4), noted(tmp_path, "inside", 1, 1)
    other, slow = noted(tmp_path, "other", 5, 5, render="s"), noted(tmp_path, "slow", 5, 5, fps=Fraction(30))
    liar = noted(tmp_path, "liar", 5, 5, says=6)
    cases = [
        ([a, c], f"between {a} and {c} frames 5 to 9 are missing"),
        ([noted(tmp_path, "d", 0, 9), c], f"between {tmp_path / 'd.mov'} and {c} frame 9 is missing"),
        ([a, c, b], f"between {a} and {c} frames 5 to 9 are missing"),
        ([b, a], f"{a} comes before {b}"),
        ([a, a], f"frames 0 to 4 are in {a} and in {a}"),
        ([a, over], f"frames 3 to 4 are in {a} and in {over}"),
        ([a, inside], f"frame 1 is in {a} and in {inside}"),
        ([a, other], f"{other} is a part of another render than {a}"),
        ([a, slow], f"{slow} is a part of another render than {a}"),
        ([a, plain], f"{plain} says nothing of which frames it holds, {a} does"),
        ([plain, b], f"{plain} says nothing of which frames it holds, {b} does"),
        ([a, liar], f"{liar} holds 5 frames, and says that it has 6"),
    ]
    for inputs, said in cases:
        error = refused(tmp_path / "whole.mov", inputs)
        assert isinstance(error, MergeFailed)
        assert said in error.message
        assert error.exit_code is ExitCode.CHUNK_FAILED
    assert merge(tmp_path / "whole.mov", [a, b, c]).frames == 15
    assert merge(tmp_path / "end.mov", [b, c]).frames == 10


def test_frames_that_are_missing_before_the_first_part_or_after_the_last_are_told(tmp_path: Path) -> None:
    whole = Whole(10, 15)
    a, b, c = (noted(tmp_path, name, start, 5, whole=whole) for name, start in (("a", 10), ("b", 15), ("c", 20)))
    unknown, other = noted(tmp_path, "unknown", 15, 5), noted(tmp_path, "other", 15, 5, whole=Whole(10, 16))
    for inputs, said in (
        ([b, c], f"before {b} frames 10 to 14 are missing"),
        ([c], f"before {c} frames 10 to 19 are missing"),
        ([a, b], f"after {b} frames 20 to 24 are missing"),
        ([noted(tmp_path, "most", 10, 14, whole=whole)], "after .*most.mov frame 24 is missing"),
        ([a, unknown], f"after {unknown} frames 20 to 24 are missing"),
        ([unknown, c], f"before {unknown} frames 10 to 14 are missing"),
        ([a, c], f"between {a} and {c} frames 15 to 19 are missing"),
        ([b, a, c], f"{a} comes before {b}"),
        ([a, other, c], f"{other} is a part of another render than {a}"),
        ([unknown, noted(tmp_path, "d", 20, 5, whole=whole), other], "other.mov is a part of another render"),
    ):
        error = refused(tmp_path / "whole.mov", inputs)
        assert isinstance(error, MergeFailed)
        assert re.search(said.replace(str(tmp_path), re.escape(str(tmp_path))), error.message), error.message
    for inputs in ([a, b, c], [a, unknown, c]):
        assert merge(tmp_path / "whole.mov", inputs).frames == 15


def test_parts_of_different_browsers_are_merged_with_a_warning(tmp_path: Path) -> None:
    builds = ["HeadlessChrome/156.0.1.2", "HeadlessChrome/156.0.1.3", "", "HeadlessChrome/156.0.1.2"]
    made = [noted(tmp_path, str(index), 5 * index, 5, browser=build) for index, build in enumerate(builds)]
    [warning] = merge(tmp_path / "whole.mov", made).warnings
    assert warning.endswith(f"differently: {made[0]} by {builds[0]}, {made[1]} by {builds[1]}")
    assert merge(tmp_path / "whole.mov", made[2:]).warnings == ()
    command = [sys.executable, "-m", "logist", "merge", "--json", "cli.mov", *(path.name for path in made)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    told = "the parts were made by different browsers, which may draw differently: 0.mov by HeadlessChrome/156.0.1.2, "
    assert ran.stderr.startswith(f"warning: {told}1.mov by HeadlessChrome/156.0.1.3\ncli.mov: 20 frames of ")
    assert json.loads(ran.stdout)["warnings"] == [f"{told}1.mov by HeadlessChrome/156.0.1.3"]


def test_a_rate_that_the_frames_do_not_keep_to_is_not_believed(tmp_path: Path) -> None:
    assert merge(tmp_path / "b.mov", [noted(tmp_path, "a", 0, 9, fps=Fraction(25))]).fps == FILM


def test_a_rate_that_matroska_rounds_is_what_the_part_says(tmp_path: Path) -> None:
    fps = Fraction(1_000_000, 33_331)
    text = PartNote(0, 9, fps).text()
    part = make(tmp_path / "a.mkv", [numbered(number) for number in range(9)], options("vp9", fps=fps), text)
    made: Merged = merge(tmp_path / "b.mp4", [part])
    assert made.fps == fps
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert [frame.time for frame in container.decode(video=0)] == [float(number / fps) for number in range(9)]
