"""The tracks of a video that is made of several: packets or frames of one source after another, on one clock.

A track is given each source's packets and gives back those of the whole. Copied packets keep their bytes; only their
times are new, and they come from counting frames, never from what a container rounded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from logist.render.audio import frame_of
from logist.render.media import reason
from logist.render.sources import Source, damaged

if TYPE_CHECKING:
    from av import AudioFrame, AudioResampler, VideoFrame
    from av.audio.stream import AudioStream
    from av.packet import Packet as LibavPacket
    from av.video.stream import VideoStream

    Packet: TypeAlias = LibavPacket[Any]

#: What is between decoder and encoder: every sample format fits into it, and its samples can be cut as bytes.
_SAMPLES, _SAMPLE_BYTES = "flt", 4
#: In frames: no encoder stores a frame that long before it is shown.
_MOST_REORDERED = 1000
#: Codecs whose packets are all as long as each other.
_EVEN_PACKETS = {"aac", "ac3", "eac3", "mp3", "opus"}
#: In samples.
_PIECE = 1024
_FOR_EVER = 1 << 62


class Track(Protocol):
    """One stream of the output."""

    def begin(self, source: Source, first_frame: int) -> None:
        """The packets of `source` follow; its first frame is number `first_frame` of the whole."""

    def take(self, packet: Packet) -> Iterator[Packet]:
        """The packets of the whole that are known now."""

    def end(self) -> Iterator[Packet]:
        """The source is over. Raises MergeFailed when it did not hold what it should."""

    def close(self) -> Iterator[Packet]:
        """That was the last source."""


class CopiedVideo:
    """Frames as they are encoded. `delay` is how many frames decoding is ahead of showing, at most, in any source."""

    def __init__(self, stream: VideoStream, rate: Fraction, delay: int) -> None:
        self._stream, self._tick, self._delay = stream, 1 / rate, delay
        self._source: Source | None = None
        self._ranks: dict[int, int] = {}
        self._first = self._taken = 0

    def begin(self, source: Source, first_frame: int) -> None:
        """Its frames by when they are shown."""
        self._source = source
        self._ranks = {time: rank for rank, time in enumerate(sorted(source.times))}
        self._first = self._taken = first_frame

    def take(self, packet: Packet) -> Iterator[Packet]:
        """The packet on the clock of the whole, which ticks in frames."""
        if packet.size and packet.pts is not None:
            assert self._source is not None
            if packet.pts not in self._ranks:
                raise damaged(self._source.path, "changed while it was merged")
            packet.pts = self._first + self._ranks[packet.pts]
            packet.dts = self._taken - self._delay
            packet.duration, packet.time_base, packet.stream = 1, self._tick, self._stream
            self._taken += 1
            yield packet

    def end(self) -> Iterator[Packet]:
        """Nothing is held back."""
        yield from ()

    close = end


class EncodedVideo:
    """Frames encoded anew."""

    def __init__(self, stream: VideoStream, rate: Fraction) -> None:
        self._stream, self._tick = stream, 1 / rate
        self._source: Source | None = None
        self._first = self._taken = 0

    def begin(self, source: Source, first_frame: int) -> None:
        """Its frames follow those that were encoded before."""
        self._source = source
        self._first = self._taken = first_frame

    def take(self, packet: Packet) -> Iterator[Packet]:
        """Decode the packet and encode what it holds. Raises MergeFailed for a frame that is damaged."""
        from av.video.frame import PictureType

        for frame in self._decode(packet):
            frame.pts, frame.time_base = self._taken, self._tick
            # The encoder would make the same kinds of frames again.
            frame.pict_type = PictureType.NONE
            self._taken += 1
            yield from map(with_sensible_times, self._stream.encode(frame))

    def _decode(self, packet: Packet) -> list[VideoFrame]:
        from av import FFmpegError

        assert self._source is not None
        try:
            frames: list[VideoFrame] = packet.decode()
        except FFmpegError as error:
            number = self._taken - self._first
            raise damaged(
                self._source.path, f"can't be decoded after {number} of {self._source.frames} frames: {reason(error)}"
            ) from error
        if any(frame.is_corrupt for frame in frames):
            raise damaged(self._source.path, f"is damaged after {self._taken - self._first} frames")
        return frames

    def end(self) -> Iterator[Packet]:
        """All its frames must have come."""
        assert self._source is not None
        if self._taken - self._first != self._source.frames:
            raise damaged(
                self._source.path,
                f"says that it holds {self._source.frames} frames, but {self._taken - self._first} can be decoded",
            )
        yield from ()

    def close(self) -> Iterator[Packet]:
        """What the encoder still holds."""
        yield from map(with_sensible_times, self._stream.encode(None))


def with_sensible_times(packet: Packet) -> Packet:
    """x265 leaves it to chance when frames are decoded if there are only one or two."""
    if packet.pts is not None and packet.dts is not None and abs(packet.pts - packet.dts) > _MOST_REORDERED:
        packet.dts = packet.pts
    return packet


class CopiedAudio:
    """Sound as it is encoded: packet after packet without a gap or an overlap.

    Packets can't be cut, so at a seam the one that lies more in the other source is left out. The sound is never more
    than half a packet away from its picture, and that doesn't add up from seam to seam. PCM is cut to the sample.
    """

    def __init__(self, stream: AudioStream, rate: Fraction, source: Source) -> None:
        assert source.sound is not None
        self._stream, self._rate = stream, rate
        self._samples = source.sound.rate
        self._block = _pcm_block(source.sound.codec, stream.layout.nb_channels)
        self._even = source.sound.codec in _EVEN_PACKETS
        #: Of every packet, in samples; 0: they differ, or it is not known yet.
        self._usual = stream.codec_context.frame_size if self._even else 0
        #: In samples from the start of the whole; None before the first packet.
        self._clock: int | None = None
        self._origin, self._offset, self._until = 0, Fraction(0), 0

    def begin(self, source: Source, first_frame: int) -> None:
        """Its sound lies where its frames do."""
        self._origin = round(first_frame * self._samples / self._rate)
        self._until = round((first_frame + source.frames) * self._samples / self._rate)
        self._offset = source.start

    def take(self, packet: Packet) -> Iterator[Packet]:
        """The packet, or what of it belongs to its source's frames."""
        if not packet.size or packet.pts is None:
            return
        place = self._origin + round((packet.pts * packet.time_base - self._offset) * self._samples)
        if self._block:
            yield from self._cut(bytes(packet), place)
        else:
            yield from self._whole(packet, place)

    def _whole(self, packet: Packet, place: int) -> Iterator[Packet]:
        from av import Packet as NewPacket

        # What a container says is rounded, or shortened at its end, where all samples of the packet are heard now.
        length = self._usual or round((packet.duration or 0) * packet.time_base * self._samples)
        if self._even:
            self._usual = length
        first = self._clock is None
        clock = place if self._clock is None else self._clock
        if place + length / 2 > self._until or (not first and place + length / 2 <= clock):
            return
        if abs(place - clock) > length / 2:
            clock = place
        if not first:
            # Without what its container said of it: samples to leave out, which only holds at the very start.
            fresh: Packet = NewPacket(bytes(packet))
            fresh.is_keyframe = packet.is_keyframe
            packet = fresh
        yield self._placed(packet, clock, length)

    def _cut(self, data: bytes, place: int) -> Iterator[Packet]:
        clock = max(self._origin, self._clock or 0)
        start, stop = max(clock, place), min(self._until, place + len(data) // self._block)
        if start >= stop:
            return
        yield from self._silence(start)
        yield self._raw(data[(start - place) * self._block : (stop - place) * self._block], start)

    def _silence(self, until: int) -> Iterator[Packet]:
        clock = max(self._origin, self._clock or 0)
        while clock < until:
            count = min(until - clock, _PIECE)
            yield self._raw(bytes(count * self._block), clock)
            clock += count

    def _raw(self, data: bytes, at: int) -> Packet:
        from av import Packet as NewPacket

        packet: Packet = NewPacket(data)
        packet.is_keyframe = True
        return self._placed(packet, at, len(data) // self._block)

    def _placed(self, packet: Packet, at: int, length: int) -> Packet:
        packet.pts = packet.dts = at
        packet.duration, packet.time_base, packet.stream = length, Fraction(1, self._samples), self._stream
        self._clock = at + length
        return packet

    def end(self) -> Iterator[Packet]:
        """PCM is filled up to the end of the source's last frame."""
        if self._block:
            yield from self._silence(self._until)

    def close(self) -> Iterator[Packet]:
        """Nothing is held back."""
        yield from ()


def _pcm_block(codec: str, channels: int) -> int:
    """The bytes of one sample of all channels; 0 when it is not the PCM whose silence is zeros."""
    bits = re.fullmatch(r"pcm_[sf](\d+)(?:le|be)?", codec)
    return int(bits[1]) // 8 * channels if bits else 0


class EncodedAudio:
    """Sound encoded anew, cut or filled up to exactly the length of each source's frames."""

    def __init__(self, stream: AudioStream, rate: Fraction) -> None:
        self._stream, self._rate = stream, rate
        self._block = _SAMPLE_BYTES * stream.layout.nb_channels
        self._resampler: AudioResampler | None = None
        self._source: Source | None = None
        #: In samples of the whole: what was encoded, and where the source ends.
        self._clock = self._until = 0
        self._heard = False

    def begin(self, source: Source, first_frame: int) -> None:
        """Its sound begins with its first frame and ends with its last."""
        from av import AudioResampler

        self._source, self._heard = source, False
        self._until = round((first_frame + source.frames) * self._stream.rate / self._rate)
        # In pieces of one size: without any it may hand its input through, and None for the end.
        self._resampler = AudioResampler(_SAMPLES, self._stream.layout.name, self._stream.rate, _PIECE)

    def take(self, packet: Packet) -> Iterator[Packet]:
        """Decode the packet and encode what it holds. Raises MergeFailed."""
        from av import FFmpegError

        assert self._source is not None
        assert self._resampler is not None
        try:
            frames = cast("LibavPacket[AudioStream]", packet).decode()
        except FFmpegError as error:
            raise damaged(self._source.path, f"has sound that can't be decoded: {reason(error)}") from error
        for frame in frames:
            late = 0 if self._heard else self._lateness(frame)
            self._heard = True
            for part in self._resampler.resample(frame):
                yield from self._add(_bytes(part, self._block), late)
                late = 0

    def _lateness(self, frame: AudioFrame) -> int:
        """How many samples after the first frame of the picture the sound begins; negative: before it."""
        assert self._source is not None
        if frame.pts is None or frame.time_base is None:
            return 0
        return round((frame.pts * frame.time_base - self._source.start) * self._stream.rate)

    def _add(self, data: bytes, late: int) -> Iterator[Packet]:
        if late > 0:
            yield from self._encode(bytes(late * self._block))
        yield from self._encode(data[max(0, -late) * self._block :])

    def _encode(self, data: bytes) -> Iterator[Packet]:
        from av import AudioFrame

        count = min(len(data) // self._block, self._until - self._clock)
        if count <= 0:
            return
        frame = AudioFrame(format=_SAMPLES, layout=self._stream.layout.name, samples=count)
        frame.planes[0].update(data[: count * self._block].ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate, frame.pts, frame.time_base = self._stream.rate, self._clock, Fraction(1, self._stream.rate)
        self._clock += count
        yield from self._stream.encode(frame)

    def end(self) -> Iterator[Packet]:
        """What the resampler still holds, then silence up to the end of the source's last frame."""
        assert self._resampler is not None
        for part in self._resampler.resample(None):
            yield from self._encode(_bytes(part, self._block))
        while self._clock < self._until:
            yield from self._encode(bytes(min(self._until - self._clock, self._stream.rate) * self._block))

    def close(self) -> Iterator[Packet]:
        """What the encoder still holds."""
        yield from self._stream.encode(None)


def _bytes(frame: AudioFrame, block: int) -> bytes:
    return bytes(frame.planes[0])[: frame.samples * block]


class MixedAudio:
    """Sound that is mixed of others and encoded: a piece after the other, as far as the frames have come."""

    def __init__(self, stream: AudioStream, pieces: Iterator[bytes]) -> None:
        self._stream, self._pieces = stream, pieces
        #: In samples.
        self._clock = 0

    def until(self, samples: int) -> Iterator[Packet]:
        """The packets of the sound up to there."""
        while self._clock < samples and (piece := next(self._pieces, None)) is not None:
            frame = frame_of(piece)
            frame.pts, frame.time_base = self._clock, Fraction(1, frame.sample_rate)
            self._clock += frame.samples
            yield from self._stream.encode(frame)

    def close(self) -> Iterator[Packet]:
        """The rest of it, and what the encoder still holds."""
        yield from self.until(_FOR_EVER)
        for packet in self._stream.encode(None):
            self._cut_off(packet)
            yield packet

    def _cut_off(self, packet: Packet) -> None:
        """Say what the encoder added to fill its last packet; where it is left out the sound ends to the sample."""
        from av.packet import PacketSideData, packet_sidedata_type_from_literal

        context = self._stream.codec_context
        surplus = context.frame_size - (packet.duration or 0)
        if context.codec.canonical_name != "aac" or surplus <= 0 or packet.has_sidedata("skip_samples"):
            return
        # How much to leave out at the packet's start and at its end, and two reasons.
        said = PacketSideData(packet_sidedata_type_from_literal("skip_samples"), 10)  # type: ignore[call-arg]
        said.update(struct.pack("<IIBB", 0, surplus, 0, 0))
        said.to_packet(packet)
