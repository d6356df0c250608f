"""Small real videos whose frames carry their number as blocks of black and white, and the reading of those numbers.

As a program it makes one chunk: `python tests/videos.py OUT --start-frame S --frame-count N`.
"""

from __future__ import annotations

import argparse
import array
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from logist.render.encoders import ordinary_priority

#: A frame is this many blocks wide and high; each is one bit.
_SIDE = 4
LARGEST_NUMBER = 2 ** (_SIDE * _SIDE) - 1
#: A block that is neither black nor white is no bit: the picture was damaged, or is not one of ours.
_BLACK, _WHITE = 64, 192

AUDIO_RATE = 48_000
_TONE_HZ = 440

_PIXEL_FORMATS = {"prores_ks": "yuv422p10le", "prores": "yuv422p10le", "png": "rgb24", "mjpeg": "yuvj420p"}
#: Fast, quiet, and good enough for blocks.
_ENCODER_OPTIONS = {
    "libx264": {"preset": "ultrafast"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:bframes=0"},
    "libsvtav1": {"preset": "12"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


def make_video(
    path: Path,
    numbers: Sequence[int],
    *,
    width: int = 64,
    height: int = 48,
    fps: int | Fraction = 30,
    codec: str = "libx264",
    pixel_format: str | None = None,
    options: Mapping[str, str] | None = None,
    audio: str | None = None,
    audio_layout: str = "mono",
    audio_rate: int = AUDIO_RATE,
    progress: bool = False,
) -> Path:
    """Make a video with one frame for each of `numbers`, drawn into it; `audio` is the codec of a tone beside it.

    The container follows from the suffix of `path`. `options` go to the video encoder.
    """
    with av.open(_url(path), "w") as container:
        settings = dict(options) if options is not None else dict(_ENCODER_OPTIONS.get(codec, {}))
        video = container.add_stream(codec, rate=Fraction(fps), options=settings)
        assert isinstance(video, VideoStream)
        video.width, video.height = width, height
        video.pix_fmt = pixel_format or _PIXEL_FORMATS.get(codec, "yuv420p")
        with ordinary_priority():
            video.codec_context.open()
        sound = None if audio is None else container.add_stream(audio, rate=audio_rate, layout=audio_layout)
        for done, number in enumerate(numbers):
            frame = _draw(number, width, height).reformat(format=video.pix_fmt)
            frame.pts, frame.time_base = done, 1 / Fraction(fps)
            container.mux(video.encode(frame))
            if progress and ((done + 1) % 10 == 0 or done + 1 == len(numbers)):
                print(f"frame {done + 1}/{len(numbers)}", flush=True)  # noqa: T201 - it plays a chunk's command
        container.mux(video.encode(None))
        if sound is not None:
            assert isinstance(sound, AudioStream)
            first = numbers[0] if numbers else 0
            for part in _tone(sound, first, len(numbers), Fraction(fps)):
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
    return path


def read_numbers(path: Path) -> list[int]:
    """The numbers that are drawn into the frames of a video, in the order in which they are shown."""
    # A short transport stream is not recognised by its content.
    with av.open(_url(path), format="mpegts" if path.suffix == ".ts" else None) as container:
        return [_read(frame) for frame in container.decode(video=0)]


def garble(path: Path, frame: int) -> None:
    """Turn over the bits in the second half of the data of frame number `frame`."""
    start, size = _place(path, frame)
    data = bytearray(path.read_bytes())
    for position in range(start + size // 2, start + size):
        data[position] ^= 0xFF
    path.write_bytes(data)


def silence(path: Path, frame: int) -> None:
    """Make the data of an H.264 or AV1 frame in an MP4 file filler, over which a decoder passes."""
    start, _ = _place(path, frame)
    data = bytearray(path.read_bytes())
    if b"avc1" in data:
        data[start + 4] = 12
    else:
        data[start] = 15 << 3 | data[start] & 7
    path.write_bytes(data)


def _place(path: Path, frame: int) -> tuple[int, int]:
    """Where the data of a frame begins in the file, and how long it is."""
    with av.open(_url(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        place = packets[frame].pos
        assert place is not None
        return place, packets[frame].size


def _url(path: Path) -> str:
    # Without the scheme libav takes `http:x.mp4` or `concat:x.mp4` for an address.
    return f"file:{Path(path).absolute()}"


def _draw(number: int, width: int, height: int) -> VideoFrame:
    assert 0 <= number <= LARGEST_NUMBER
    assert min(width, height) >= _SIDE
    frame = VideoFrame(width, height, "gray")
    [plane] = frame.planes
    lines = [
        bytes(255 * _bit(number, row, x * _SIDE // width) for x in range(width)).ljust(plane.line_size, b"\0")
        for row in range(_SIDE)
    ]
    plane.update(b"".join(lines[y * _SIDE // height] for y in range(height)))
    return frame


def _read(frame: VideoFrame) -> int:
    gray = frame.reformat(format="gray")
    [plane] = gray.planes
    data, number = bytes(plane), 0
    for row in range(_SIDE):
        for column in range(_SIDE):
            y, x = (2 * row + 1) * gray.height // (2 * _SIDE), (2 * column + 1) * gray.width // (2 * _SIDE)
            light = data[y * plane.line_size + x]
            if _BLACK < light < _WHITE:
                raise ValueError(f"block {row},{column} is neither black nor white but {light}")
            number |= int(light >= _WHITE) << (row * _SIDE + column)
    return number


def _bit(number: int, row: int, column: int) -> int:
    return number >> (row * _SIDE + column) & 1


def _tone(stream: AudioStream, first: int, frames: int, fps: Fraction) -> Iterator[AudioFrame]:
    """A tone as long as the frames, in the phase that it has at frame `first` of the whole."""
    rate, channels = stream.rate, stream.layout.nb_channels
    skipped, total = round(first * rate / fps), round(frames * rate / fps)
    step = stream.codec_context.frame_size or 1024
    for start in range(0, total, step):
        size = min(step, total - start)
        samples = array.array("h")
        for index in range(start, start + size):
            level = int(8000 * math.sin(2 * math.pi * _TONE_HZ * (skipped + index) / rate))
            samples.extend([level] * channels)
        part = AudioFrame(format="s16", layout=stream.layout.name, samples=size)
        part.planes[0].update(samples.tobytes().ljust(part.planes[0].buffer_size, b"\0"))
        part.sample_rate, part.pts, part.time_base = rate, start, Fraction(1, rate)
        yield part


def main() -> None:
    """Make one chunk: the frames S to S+N-1 of a whole."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--start-frame", type=int, default=0)
    parser.add_argument("--frame-count", type=int, required=True)
    parser.add_argument("--fps", type=Fraction, default=Fraction(30))
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--height", type=int, default=48)
    parser.add_argument("--codec", default="libx264")
    parser.add_argument("--audio")
    arguments = parser.parse_args()
    make_video(
        arguments.out,
        range(arguments.start_frame, arguments.start_frame + arguments.frame_count),
        width=arguments.width,
        height=arguments.height,
        fps=arguments.fps,
        codec=arguments.codec,
        audio=arguments.audio,
        progress=True,
    )


if __name__ == "__main__":
    main()
