"""Where the sounds of a render are: files, or what a URL holds, which is fetched before anything is mixed."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

from logist.errors import MergeFailed
from logist.render import media
from logist.render.options import AudioTrack
from logist.render.private_folder import private_folder

if TYPE_CHECKING:
    from av.container import InputContainer

_FETCHED = ("http", "https", "data")
#: In seconds, without anything coming.
_PATIENCE = 30
#: What all that is fetched for one video may take, in seconds and in bytes: a server need not come to an end.
MOST_SECONDS = 600
MOST_BYTES = 4_000_000_000
#: In bytes.
_AT_ONCE = 1 << 16
#: What stands in front of a URL; one letter would be a drive elsewhere.
_SHORTEST_SCHEME = 2
_SHOWN = 80


class SoundFile(NamedTuple):
    """A track and the file that it is in."""

    track: AudioTrack
    path: Path


class Wanted(NamedTuple):
    """A track, the folder from which its source is meant, and whether a page had it."""

    track: AudioTrack
    folder: Path
    of_a_page: bool


@contextlib.contextmanager
def gathered(wanted: Sequence[Wanted]) -> Iterator[tuple[SoundFile, ...]]:
    """The files of all tracks; what was fetched is there until the block ends.

    A page's moving pictures may be silent: these are left out. Raises MergeFailed for a sound that can't be read.
    """
    with contextlib.ExitStack() as stack:
        fetcher = _Fetcher(stack)
        sounds = []
        for each in wanted:
            at = _path(each, fetcher)
            # As whoever runs the command finds it, and not from the part that named it.
            track = each.track if is_url(each.track.source) else replace(each.track, source=os.path.relpath(at))
            sound = SoundFile(track, at)
            if _is_heard(sound, each.of_a_page):
                sounds.append(sound)
        yield tuple(sounds)


def is_url(source: str) -> bool:
    """Whether a track's source is a URL, not the name of a file."""
    scheme = source.partition(":")[0]
    return ":" in source and len(scheme) >= _SHORTEST_SCHEME and (scheme == "file" or scheme in (*_FETCHED, "blob"))


def _path(wanted: Wanted, fetcher: _Fetcher) -> Path:
    track = wanted.track
    if not is_url(track.source):
        return wanted.folder / track.source
    try:
        parts = urlsplit(track.source)
    except ValueError as error:
        raise failed(track, f"can't be fetched: {error}") from error
    if parts.scheme == "file":
        return Path(unquote(parts.path, errors="surrogateescape"))
    if is_of_its_page(track):
        raise failed(track, "can't be read: blob: is known to its page alone", ELSEWHERE)
    return fetcher.path(track)


def is_of_its_page(track: AudioTrack) -> bool:
    """Whether nobody but the page that has the track can read it."""
    return is_url(track.source) and track.source.partition(":")[0] not in (*_FETCHED, "file")


class _Fetcher:
    """Fetches what URLs hold, each once; its files are there as long as `stack` is not left."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._folder: Path | None = None
        self._paths: dict[str, Path] = {}
        self._deadline, self._bytes = time.monotonic() + MOST_SECONDS, MOST_BYTES

    def path(self, track: AudioTrack) -> Path:
        """The file that holds what the track's URL does. Raises MergeFailed, StorageFailed."""
        if track.source not in self._paths:
            self._paths[track.source] = self._fetched(track)
        return self._paths[track.source]

    def _fetched(self, track: AudioTrack) -> Path:
        if self._folder is None:
            self._folder = self._stack.enter_context(private_folder(Path(tempfile.gettempdir()), "logist-sound-"))
        path = self._folder / str(len(self._paths))
        size = Future[int]()
        # Of its own, for much of what happens before anything comes has no end that could be set.
        asked = (track.source, path, self._bytes, self._deadline, size)
        Thread(target=_fetch, args=asked, name="logist-fetch", daemon=True).start()
        wait([size], max(0.0, self._deadline - time.monotonic()))
        if not size.done():
            raise failed(track, f"can't be fetched: it took more than {MOST_SECONDS} seconds")
        try:
            self._bytes -= size.result()
        except (OSError, ValueError, HTTPException) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise failed(track, f"can't be fetched: {str(why).lower()}") from error
        return path


def _fetch(url: str, path: Path, most: int, deadline: float, size: Future[int]) -> None:
    try:
        size.set_result(_write(url, path, most, deadline))
    except BaseException as error:  # noqa: BLE001 - it is raised where the size is waited for
        if isinstance(error, HTTPError):
            # It is the answer too.
            error.close()
        size.set_exception(error)


def _write(url: str, path: Path, most: int, deadline: float) -> int:
    size = 0
    with urlopen(url, timeout=_PATIENCE) as answer, path.open("wb") as file:
        while data := answer.read1(_AT_ONCE):
            size += len(data)
            if size > most:
                raise ValueError(f"what is fetched is more than {MOST_BYTES} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"it took more than {MOST_SECONDS} seconds")
            file.write(data)
        if getattr(answer, "length", None):
            raise ValueError(f"it ended after {size} bytes, {answer.length} before its end")
    return size


def _is_heard(sound: SoundFile, of_a_page: bool) -> bool:
    with opened(sound) as container:
        if container.streams.audio:
            return True
        if of_a_page and media.video_stream(container) is not None:
            return False
    raise failed(sound.track, "has no sound in it")


@contextlib.contextmanager
def opened(sound: SoundFile) -> Iterator[InputContainer]:
    """The file of a track, to decode its sound. Raises MergeFailed, also for what goes wrong in the block."""
    av = media.pyav()
    try:
        if problem := media.unfit(sound.path):
            raise failed(sound.track, f"can't be read: it {problem}")
        with media.open_media(sound.path, media.SOUND_DEMUXERS) as container:
            yield container
    except (av.FFmpegError, OSError, ValueError) as error:
        raise failed(sound.track, f"can't be read: {media.reason(error)}") from error


_HINT = "put a sound there that can be played, or leave it out"
#: What to do about a sound that only its page can read.
ELSEWHERE = "give the page a file or a URL of the web for it, or leave all sound out with --audio-codec none"


def failed(track: AudioTrack, problem: str, hint: str = _HINT) -> MergeFailed:
    """The error for a track that can't be heard: `problem` stands behind its name."""
    return MergeFailed(f"the sound {shown(track.source)} {problem}", hint)


def shown(source: str) -> str:
    """The source of a track for a message, shortened: a path says most at its end, and a `data:` URL nothing there."""
    if len(source) <= _SHOWN:
        return source
    return f"{source[:_SHOWN]}…" if source.startswith("data:") else f"…{source[-_SHOWN:]}"
