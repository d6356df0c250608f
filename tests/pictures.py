"""Frame numbers drawn as bars: the page's side of it, and the reading of them from pictures and videos.

At the bottom of a picture there are rows of twelve vertical bars; bar i is white when bit i of the number is set, else
black. Row 0 is the lowest; each is eight pixels high.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

BARS = 12
#: Pixels; what is drawn in a row survives an encoder that halves the resolution of colours.
ROW = 8
#: A bar that is neither black nor white is no bit: the picture was damaged, or is not one of ours.
_BLACK, _WHITE = 64, 192

#: `paint(context, number, row)` draws the bars on a canvas of any size; `show(number, row)` in the page itself.
SCRIPT = f"""
function paint(context, number, row = 0) {{
  const {{ width, height }} = context.canvas;
  for (let bar = 0; bar < {BARS}; bar += 1) {{
    const left = Math.round(bar * width / {BARS}), right = Math.round((bar + 1) * width / {BARS});
    context.fillStyle = number >> bar & 1 ? "#fff" : "#000";
    context.fillRect(left, height - {ROW} * (row + 1), right - left, {ROW});
  }}
}}
const strips = [];
function show(number, row = 0) {{
  if (!strips[row]) {{
    strips[row] = document.createElement("div");
    strips[row].style.cssText =
      `position:absolute;left:0;right:0;bottom:${{row * {ROW}}}px;height:{ROW}px;display:grid;` +
      "grid-template-columns:repeat({BARS},1fr)";
    strips[row].append(...Array.from({{ length: {BARS} }}, () => document.createElement("i")));
    (document.body ?? document.documentElement).append(strips[row]);
  }}
  [...strips[row].children].forEach((cell, bar) => cell.style.background = number >> bar & 1 ? "#fff" : "#000");
}}
"""


def picture(png: bytes) -> VideoFrame:
    """The one picture of an image file."""
    with av.open(BytesIO(png)) as container:
        return next(container.decode(video=0))


def frames(path: Path) -> Iterator[VideoFrame]:
    """The pictures of a video, in the order in which they are shown."""
    with av.open(f"file:{path.absolute()}") as container:
        yield from container.decode(video=0)


def pixels(frame: VideoFrame, pixel_format: str = "rgb24") -> bytes:
    """A picture's pixels, row after row without anything between."""
    [plane] = frame.reformat(format=pixel_format).planes
    size, data = frame.width * (4 if pixel_format == "rgba" else 3), bytes(plane)
    return b"".join(data[y * plane.line_size : y * plane.line_size + size] for y in range(frame.height))


def colour(frame: VideoFrame, x: int, y: int) -> tuple[int, int, int]:
    """Red, green and blue of a pixel."""
    [plane] = frame.reformat(format="rgb24").planes
    at = y * plane.line_size + 3 * x
    red, green, blue = bytes(plane)[at : at + 3]
    return red, green, blue


def bars(frame: VideoFrame, row: int = 0) -> int:
    """The number that is drawn into a picture. Raises ValueError when there is none."""
    gray = frame.reformat(format="gray")
    [plane] = gray.planes
    data, number, y = bytes(plane), 0, gray.height - ROW * row - ROW // 2
    for bar in range(BARS):
        light = data[y * plane.line_size + (2 * bar + 1) * gray.width // (2 * BARS)]
        if _BLACK < light < _WHITE:
            raise ValueError(f"bar {bar} of row {row} is neither black nor white but {light}")
        number |= int(light >= _WHITE) << bar
    return number


def make_video(
    path: Path, numbers: Sequence[int], *, fps: Fraction, codec: str = "libvpx-vp9", width: int = 160, height: int = 90
) -> Path:
    """Make a video with one frame for each of `numbers`, drawn into it as bars."""
    options = {"libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"}, "libx264": {"preset": "ultrafast"}}
    with av.open(f"file:{path.absolute()}", "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options.get(codec, {}))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for done, number in enumerate(numbers):
            frame = drawn(number, width, height).reformat(format="yuv420p")
            frame.pts, frame.time_base = done, 1 / fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_png(path: Path, frame: VideoFrame) -> Path:
    """Write a picture as an image file."""
    with av.open(f"file:{path.absolute()}", "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "rgb24"
        container.mux(stream.encode(frame.reformat(format="rgb24")))
        container.mux(stream.encode(None))
    return path


def drawn(number: int, width: int, height: int) -> VideoFrame:
    """A gray picture with a number drawn into its lowest row."""
    frame = VideoFrame(width, height, "gray")
    [plane] = frame.planes
    strip = bytes(255 * (number >> x * BARS // width & 1) for x in range(width)).ljust(plane.line_size, b"\0")
    plain = bytes([128] * plane.line_size)
    plane.update(b"".join(plain if y < height - ROW else strip for y in range(height)))
    return frame
