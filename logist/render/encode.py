"""Pictures become a video file: decoded and converted on threads of their own, encoded one after the other.

The same pictures with the same settings are the same bytes, whenever and wherever they are made.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from logist.errors import RenderFailed
from logist.render import encoders, media, notes
from logist.render.encoder_options import has_alpha
from logist.render.encoders import EncodeSettings
from logist.render.output_file import written_beside
from logist.render.tracks import with_sensible_times

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer
    from av.filter import Graph

#: Threads that decode; an encoder is never so fast that more would be of use.
_MOST_DECODERS = 4
_SECOND = Fraction(1)


class VideoWriter:
    """Takes pictures in the order in which they are shown."""

    def __init__(self, target: OutputContainer, settings: EncodeSettings, pool: ThreadPoolExecutor, ahead: int) -> None:
        #: How many were given.
        self.frames = 0
        #: What the file says of itself.
        self.text: str | None = None
        self._target, self._settings, self._pool, self._ahead = target, settings, pool, ahead
        with encoders.quiet():
            self._stream = encoders.add_pictures(target, settings)
        self._tools = _Tools(settings)
        self._tick = 1 / settings.fps
        self._waiting: deque[Future[VideoFrame]] = deque()
        self._encoded = 0
        self._last: bytes | None = None
        self._newest: Future[VideoFrame] | None = None

    def add(self, png: bytes) -> None:
        """The next frame, as a PNG file; the very same object as before is not decoded again.

        Raises RenderFailed for what is no picture of the right size, OSError when the disk takes no more.
        """
        if self._newest is None or png is not self._last:
            self._last = png
            self._newest = self._pool.submit(self._tools.picture, png, self.frames)
        self._waiting.append(self._newest)
        self.frames += 1
        while len(self._waiting) > self._ahead:
            self._encode_next()

    def note(self, text: str) -> None:
        """What the file is to say of itself; `note_of` reads it back. The last one counts."""
        self.text = text

    def _encode_next(self) -> None:
        frame = self._waiting.popleft().result()
        frame.pts, frame.time_base = self._encoded, self._tick
        self._encoded += 1
        self._mux(frame)

    def _mux(self, frame: VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = packet.duration or 1
            self._target.mux(with_sensible_times(packet))

    def finish(self) -> None:
        """Encode what is still waiting, and write the file to its end. Raises like `add`."""
        while self._waiting:
            self._encode_next()
        if not self.frames:
            raise RenderFailed("there are no frames to make a video of", "render one frame or more")
        self._mux(None)
        if self.text is not None:
            notes.put_into(self._target, self.text, self.frames * self._tick)
        self._target.close()


@contextlib.contextmanager
def video_writer(path: Path, settings: EncodeSettings) -> Iterator[VideoWriter]:
    """A writer of the video `path`, which is there when the block ends well, and only then.

    Raises RenderFailed, StorageFailed.
    """
    av = media.pyav()
    decoders = min(os.cpu_count() or 1, _MOST_DECODERS)
    with written_beside(path) as temporary, ThreadPoolExecutor(decoders, "logist-decode") as pool:
        target = encoders.open_target(temporary, settings.container, settings.fps)
        try:
            writer = VideoWriter(target, settings, pool, ahead=2 * decoders)
            yield writer
            writer.finish()
        except BaseException as error:
            pool.shutdown(cancel_futures=True)
            # The first thing that went wrong is the news.
            with contextlib.suppress(av.FFmpegError):
                target.close()
            if isinstance(error, av.FFmpegError) and not isinstance(error, OSError):
                raise RenderFailed(
                    f"{path} could not be encoded: {media.reason(error)}", "try another codec, preset or pixel format"
                ) from error
            raise
        if writer.text is not None:
            notes.put_behind(temporary, settings.container, writer.text)


def note_of(path: Path) -> str | None:
    """What a file says of itself, as it was told to a writer; None: nothing. Raises ExtraMissing."""
    return notes.read(path)


class _Tools(threading.local):
    """What one thread decodes and converts with: none of it can be shared."""

    def __init__(self, settings: EncodeSettings) -> None:
        from av import CodecContext
        from av.video.reformatter import VideoReformatter

        self._settings = settings
        self._decoder = CodecContext.create("png", "r")
        self._decoder.thread_count = 1
        self._reformatter = VideoReformatter()
        self._alpha: Graph | None = None
        self._multiplied: Graph | None = None

    def picture(self, png: bytes, number: int) -> VideoFrame:
        """A frame for the encoder. Raises RenderFailed."""
        settings = self._settings
        frame = self._decoded(png, number)
        if (frame.width, frame.height) != (settings.width, settings.height):
            raise RenderFailed(
                f"frame {number} of the video is {frame.width}x{frame.height} pixels "
                f"instead of {settings.width}x{settings.height}",
                "give --width and --height the size of what is shown",
            )
        return self._converted(frame)

    def _decoded(self, png: bytes, number: int) -> VideoFrame:
        from av import FFmpegError, Packet

        packet = Packet(png)
        # Else libav takes it for what has changed since the picture before.
        packet.is_keyframe = True
        try:
            [frame] = self._decoder.decode(packet)
        except (FFmpegError, ValueError) as error:
            raise RenderFailed(
                f"frame {number} of the video came as no picture that can be read", "render it again"
            ) from error
        return frame

    def _converted(self, frame: VideoFrame) -> VideoFrame:
        from av.video.frame import PictureType
        from av.video.reformatter import Interpolation

        colours = self._settings.colours
        made = self._reformatter.reformat(
            frame if self._settings.alpha else self._opaque(frame),
            format=self._settings.video.pixel_format,
            # Pixels that stay red, green and blue have no matrix.
            dst_colorspace=colours.matrix or None,
            dst_color_range=colours.range,
            # Each colour of four pixels is their mean, rounded exactly, and the same on every processor.
            interpolation=Interpolation.AREA
            | Interpolation.ACCURATE_RND
            | Interpolation.FULL_CHR_H_INT
            | Interpolation.FULL_CHR_H_INP
            | Interpolation.BITEXACT,
            threads=1,
        )
        # A picture from a file says that it stands by itself, and encoders would see to it that it does in the video.
        made.pict_type = PictureType.NONE
        made.colorspace, made.color_range = colours.matrix, colours.range
        made.color_primaries, made.color_trc = colours.primaries, colours.transfer
        return made

    def _opaque(self, frame: VideoFrame) -> VideoFrame:
        """Where a video can't be transparent there is black behind its pictures."""
        if not has_alpha(frame.format.name):
            return frame
        frame = self._reformatter.reformat(frame, format="rgba")
        self._alpha = self._alpha or _graph(frame, "alphaextract")
        if _is_white(_filtered(self._alpha, frame)):
            return frame
        self._multiplied = self._multiplied or _graph(frame, "format=gbrap", "premultiply=inplace=1")
        return _filtered(self._multiplied, frame)


def _is_white(gray: VideoFrame) -> bool:
    [plane] = gray.planes
    data, row = bytes(plane), b"\xff" * gray.width
    return all(data.startswith(row, line * plane.line_size) for line in range(gray.height))


def _filtered(graph: Graph, frame: VideoFrame) -> VideoFrame:
    frame.pts, frame.time_base = 0, _SECOND
    graph.vpush(frame)
    return graph.vpull()


def _graph(like: VideoFrame, *filters: str) -> Graph:
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    nodes = [graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=_SECOND)]
    for text in (*filters, "buffersink"):
        name, _, arguments = text.partition("=")
        nodes.append(graph.add(name, arguments or None))
    graph.link_nodes(*nodes).configure()
    return graph
