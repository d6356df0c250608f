"""The sounds of a render, mixed once for all of it: every sample is where its time says, however the frames were made.

What is between files and encoder is floating-point stereo in pieces of bytes; a place in it is a number of samples.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

from logist.render.media import pyav
from logist.render.sound_files import SoundFile, failed, opened

if TYPE_CHECKING:
    from av import AudioFrame
    from av.container import InputContainer
    from av.filter import FilterContext, Graph

#: Samples a second, and how they are in memory.
RATE = 48_000
LAYOUT, FORMAT, SAMPLE_BYTES = "stereo", "flt", 8
#: In samples: how much is mixed at a time.
_PIECE = 4096
#: Likewise: how much of a loop is kept for its next round, and what more of it is not played before it is heard.
_KEPT = 30 * RATE
_LONG = 600 * RATE
#: In seconds: a source whose clock is off by less runs on; by more, it has a gap.
_GAP = Fraction(1, 10)
#: Likewise: no gap is as long; a clock that says so is broken.
_BROKEN = 3600
#: A filter that changes the speed does so by no more than this.
_FASTEST = 2
#: Whatever is first in these is at their beginning by definition; elsewhere the first thing that is there is.
_CLOCK_FROM_ZERO = ("mov", "matroska")


Pieces: TypeAlias = Generator[bytes, None, None]


def mix(sounds: Sequence[SoundFile], start: int, stop: int) -> Iterator[bytes]:
    """All that is heard from sample `start` to `stop` of a composition, exactly that long.

    Each track is played from its own beginning on, so a part of a composition sounds as it does in the whole. Raises
    MergeFailed, which names the track.
    """
    voices = [_Voice(sound, start, stop) for sound in sounds]
    adder = _Adder()
    try:
        for position in range(start, stop, _PIECE):
            samples = min(_PIECE, stop - position)
            heard = [piece for voice in voices if (piece := voice.piece(position, samples)) is not None]
            yield adder.added(heard) if heard else bytes(samples * SAMPLE_BYTES)
    finally:
        for voice in voices:
            voice.close()


class _Voice:
    """One sound on the composition's clock."""

    def __init__(self, sound: SoundFile, start: int, stop: int) -> None:
        self._sound, self._stop = sound, stop
        self._begin = round(sound.track.offset * RATE)
        #: What has passed before the first piece that is wanted.
        self._missed = max(0, start - self._begin)
        self._pieces: Pieces | None = None
        self._rest = b""
        self._over = self._begin >= stop

    def piece(self, position: int, samples: int) -> bytes | None:
        """What it adds to the next samples; None: nothing. `position` only ever goes on."""
        late = max(0, self._begin - position)
        if self._over or late >= samples:
            return None
        if self._pieces is None:
            self._pieces = _played(self._sound, self._stop - self._begin, self._missed)
        wanted = (samples - late) * SAMPLE_BYTES
        while len(self._rest) < wanted and not self._over:
            more = next(self._pieces, None)
            self._over = more is None
            self._rest += more or b""
        taken, self._rest = self._rest[:wanted], self._rest[wanted:]
        return bytes(late * SAMPLE_BYTES) + taken.ljust(wanted, b"\0")

    def close(self) -> None:
        """Let go of its file."""
        if self._pieces is not None:
            self._pieces.close()


def _played(sound: SoundFile, longest: int, missed: int) -> Pieces:
    """A track as it is heard from its sample `missed` on, to its end or to its sample `longest`."""
    track = sound.track
    length = longest if track.duration is None else min(longest, round(track.duration * RATE))
    seek, passed = round(track.seek * RATE), 0
    if track.loop and max(seek, missed) > _LONG:
        # Whole rounds that nobody hears need not be played.
        passed = missed
        seek = (seek + round(passed * track.rate)) % _whole(sound)
    source = _skipped(_source(sound), seek)
    effects = [*_speed(track.rate)]
    if track.volume != 1:
        effects.append(f"volume=volume={float(track.volume)!r}:precision=float")
    effects += _fades(sound, length, passed)
    played = _through(source, effects, track.rate) if effects else source
    return _skipped(_limited(played, length - passed), missed - passed)


def _fades(sound: SoundFile, length: int, passed: int) -> Iterator[str]:
    """What fades it in and out where its first `passed` samples are left out."""
    track = sound.track
    fade_in, fade_out = round(track.fade_in * RATE), round(track.fade_out * RATE)
    if fade_in > passed:
        yield f"afade=t=in:ss=0:ns={fade_in - passed}:silence={passed / fade_in!r}"
    if fade_out:
        # Where it ends by itself only its last sample tells.
        end = length if track.loop else min(length, max(0, _own_length(sound)))
        first = max(0, end - fade_out)
        left = max(1, end - max(first, passed))
        yield f"afade=t=out:ss={max(0, first - passed)}:ns={left}:unity={left / max(1, end - first)!r}"


def _own_length(sound: SoundFile) -> int:
    return round((_whole(sound) - round(sound.track.seek * RATE)) / sound.track.rate)


def _whole(sound: SoundFile) -> int:
    """How many samples the file holds."""
    return sum(map(_samples, _heard(sound)))


def _speed(rate: Fraction) -> Iterator[str]:
    while rate > _FASTEST:
        yield f"atempo={_FASTEST}"
        rate /= _FASTEST
    while rate < Fraction(1, _FASTEST):
        yield f"atempo={1 / _FASTEST}"
        rate *= _FASTEST
    if rate != 1:
        yield f"atempo={float(rate)!r}"


def _source(sound: SoundFile) -> Pieces:
    """All of a file, once or for ever. Raises MergeFailed."""
    if not sound.track.loop:
        yield from _heard(sound)
        return
    kept, size = list[bytes](), 0
    for piece in _heard(sound):
        size += _samples(piece)
        if size <= _KEPT:
            kept.append(piece)
        yield piece
    while size > _KEPT:
        yield from _heard(sound)
    # The shortest sounds come again most often: several rounds at once.
    rounds = b"".join(kept) * -(-_PIECE // size)
    while True:
        for start in range(0, len(rounds), _PIECE * SAMPLE_BYTES):
            yield rounds[start : start + _PIECE * SAMPLE_BYTES]


def _heard(sound: SoundFile) -> Pieces:
    """All of a file. Raises MergeFailed, also when there is nothing in it."""
    heard = False
    for piece in _once(sound):
        heard = heard or bool(piece)
        yield piece
    if not heard:
        raise failed(sound.track, "has no sound in it")


def _once(sound: SoundFile) -> Pieces:
    """All of a file, from time zero on: silence where nothing is. Raises MergeFailed."""
    converter: _Converter | None = None
    # When the next samples are due, in seconds, and how many there were before.
    clock, given = Fraction(0), 0
    for at, frame in _decoded(sound):
        now = clock if at is None or abs(at - clock) > _BROKEN else at
        if converter is None or abs(now - clock) > _GAP or not converter.takes(frame):
            for piece in () if converter is None else converter.end():
                given += _samples(piece)
                yield piece
            converter, clock, place = _Converter(frame), now, round(now * RATE)
            yield from _silence(place - given)
            surplus, given = max(0, given - place), max(given, place)
        clock += Fraction(frame.samples, frame.sample_rate)
        for piece in converter.converted(frame):
            left, surplus = piece[surplus * SAMPLE_BYTES :], max(0, surplus - _samples(piece))
            given += _samples(left)
            yield left
    yield from () if converter is None else converter.end()


def _decoded(sound: SoundFile) -> Iterator[tuple[Fraction | None, AudioFrame]]:
    """The samples of a file as they are in it, each piece with its time in seconds if that is known."""
    with opened(sound) as container:
        origin = _origin(container)
        for frame in container.decode(container.streams.audio[0]):
            at = None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base - origin
            yield at, frame


def _origin(container: InputContainer) -> Fraction:
    """What its clock shows when its first sample is heard."""
    if container.format.name.startswith(_CLOCK_FROM_ZERO):
        return Fraction(0)
    # It is None where nothing is known.
    return max(Fraction(0), Fraction(container.start_time or 0, 1_000_000))


class _Converter:
    """Samples of one kind become those that are mixed."""

    def __init__(self, like: AudioFrame) -> None:
        self._kind = _kind(like)
        rate, form, layout = self._kind
        # By itself libav makes one voice on two speakers quieter than it was.
        doubled = ["pan=stereo|c0=c0|c1=c0"] if like.layout.nb_channels == 1 else []
        self._chain = _Chain(rate, form, layout, [*doubled, f"aresample={RATE}"])

    def takes(self, frame: AudioFrame) -> bool:
        """Whether it is of the same kind."""
        return _kind(frame) == self._kind

    def converted(self, frame: AudioFrame) -> Iterator[bytes]:
        """What is known of it now."""
        return self._chain.through(frame)

    def end(self) -> Iterator[bytes]:
        """The rest."""
        return self._chain.through(None)


def _kind(frame: AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.format.name, frame.layout.name


class _Chain:
    """Filters one behind the other, fed without a gap."""

    def __init__(self, rate: int, form: str, layout: str, filters: Sequence[str]) -> None:
        from av.filter import Graph

        self._graph, self._rate, self._clock = Graph(), rate, 0
        self._graph.threads = 1
        tick = Fraction(1, rate)
        nodes = [self._graph.add_abuffer(sample_rate=rate, format=form, layout=layout, time_base=tick)]
        wanted = f"aformat=sample_fmts={FORMAT}:sample_rates={RATE}:channel_layouts={LAYOUT}"
        for text in (*filters, wanted, "abuffersink"):
            name, _, arguments = text.partition("=")
            nodes.append(self._graph.add(name, arguments or None))
        self._graph.link_nodes(*nodes).configure()
        self._input, self._output = nodes[0], nodes[-1]

    def through(self, frame: AudioFrame | None) -> Iterator[bytes]:
        """What comes out for what is put in; None: that was all."""
        av = pyav()
        if frame is not None:
            frame.pts, frame.time_base = self._clock, Fraction(1, self._rate)
            self._clock += frame.samples
        self._input.push(frame)
        with contextlib.suppress(av.BlockingIOError, av.EOFError):
            while True:
                yield _bytes(self._output.pull())


def _through(pieces: Pieces, filters: Sequence[str], rate: Fraction) -> Pieces:
    """Through filters that play `rate` times as fast; what comes out is exactly as long as that makes it."""
    chain = _Chain(RATE, FORMAT, LAYOUT, filters)
    taken = given = 0
    for piece in pieces:
        if not piece:
            continue
        taken += _samples(piece)
        for made in chain.through(frame_of(piece)):
            given += _samples(made)
            yield made
    due = round(taken / rate) - given
    # A change of speed keeps what it has no room for: silence behind it drives it out.
    behind = map(frame_of, _silence(round(rate * RATE) if rate != 1 else 0))
    for made in (made for frame in itertools.chain(behind, [None]) for made in chain.through(frame)):
        left = made[: max(0, due) * SAMPLE_BYTES]
        due -= _samples(left)
        yield left
    yield from _silence(due)


class _Adder:
    """Adds pieces of the same length, sample by sample."""

    def __init__(self) -> None:
        self._graphs: dict[int, tuple[Graph, list[FilterContext], FilterContext]] = {}
        self._clock = 0

    def added(self, pieces: Sequence[bytes]) -> bytes:
        """The sum, which may be louder than what a speaker can do: that is cut off when it is encoded."""
        if len(pieces) == 1:
            return pieces[0]
        if len(pieces) not in self._graphs:
            self._graphs[len(pieces)] = _summing(len(pieces))
        _, inputs, output = self._graphs[len(pieces)]
        for put, piece in zip(inputs, pieces, strict=True):
            frame = frame_of(piece)
            frame.pts, frame.time_base = self._clock, Fraction(1, RATE)
            put.push(frame)
        self._clock += _samples(pieces[0])
        return _bytes(output.pull())


def _summing(inputs: int) -> tuple[Graph, list[FilterContext], FilterContext]:
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    tick = Fraction(1, RATE)
    puts = [graph.add_abuffer(sample_rate=RATE, format=FORMAT, layout=LAYOUT, time_base=tick) for _ in range(inputs)]
    summed, output = graph.add("amix", f"inputs={inputs}:normalize=0"), graph.add("abuffersink")
    for number, put in enumerate(puts):
        put.link_to(summed, 0, number)
    summed.link_to(output)
    graph.configure()
    return graph, puts, output


def frame_of(piece: bytes) -> AudioFrame:
    """A piece as libav has it, without a time."""
    from av import AudioFrame

    frame = AudioFrame(format=FORMAT, layout=LAYOUT, samples=_samples(piece))
    frame.planes[0].update(piece.ljust(frame.planes[0].buffer_size, b"\0"))
    frame.sample_rate = RATE
    return frame


def _bytes(frame: Any) -> bytes:
    return bytes(frame.planes[0])[: frame.samples * SAMPLE_BYTES]


def _samples(piece: bytes) -> int:
    return len(piece) // SAMPLE_BYTES


def _silence(samples: int) -> Pieces:
    for done in range(0, samples, _PIECE):
        yield bytes(min(_PIECE, samples - done) * SAMPLE_BYTES)


def _skipped(pieces: Pieces, samples: int) -> Pieces:
    for piece in pieces:
        left = piece[samples * SAMPLE_BYTES :]
        samples = max(0, samples - _samples(piece))
        if left:
            yield left


def _limited(pieces: Pieces, samples: int) -> Pieces:
    if samples <= 0:
        return
    for piece in pieces:
        yield piece[: samples * SAMPLE_BYTES]
        samples -= _samples(piece)
        if samples <= 0:
            return
