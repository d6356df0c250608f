"""Where the sounds of a render are: files, or what a URL holds, which is fetched before anything is mixed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

from logist.errors import MergeFailed
from logist.render import media
from logist.render.options import AudioTrack

if TYPE_CHECKING:
    from av.container import InputContainer

_FETCHED = ("http", "https", "data")
#: In seconds, without anything coming.
_PATIENCE = 30
#: What stands in front of a URL; one letter would be a drive elsewhere.
_SHORTEST_SCHEME = 2
_SHOWN = 80


class Sound(NamedTuple):
    """A track and the file that it is in."""

    track: AudioTrack
    path: Path


class Wanted(NamedTuple):
    """A track, the folder from which its source is meant, and whether a page had it."""

    track: AudioTrack
    folder: Path
    of_a_page: bool


@contextlib.contextmanager
def gathered(wanted: Sequence[Wanted]) -> Iterator[tuple[Sound, ...]]:
    """The files of all tracks; what was fetched is there until the block ends.

    A page's moving pictures may be silent: these are left out. Raises MergeFailed for a sound that can't be read.
    """
    with contextlib.ExitStack() as stack:
        paths: dict[str, Path] = {}
        sounds = []
        for each in wanted:
            source = each.track.source
            at = paths.get(source) or _path(each, stack)
            if is_url(source):
                paths[source] = at
            # As whoever runs the command finds it, and not from the part that named it.
            track = each.track if is_url(source) else replace(each.track, source=os.path.relpath(at))
            sound = Sound(track, at)
            if _is_heard(sound, each.of_a_page):
                sounds.append(sound)
        yield tuple(sounds)


def is_url(source: str) -> bool:
    """Whether a track's source is a URL, not the name of a file."""
    scheme = source.partition(":")[0]
    return ":" in source and len(scheme) >= _SHORTEST_SCHEME and (scheme == "file" or scheme in (*_FETCHED, "blob"))


def _path(wanted: Wanted, stack: contextlib.ExitStack) -> Path:
    source = wanted.track.source
    if not is_url(source):
        return wanted.folder / source
    try:
        parts = urlsplit(source)
        if parts.scheme == "file":
            return Path(unquote(parts.path, errors="surrogateescape"))
        if parts.scheme not in _FETCHED:
            raise failed(wanted.track, f"can't be read: {parts.scheme}: is known to its page alone")
        fetched = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="logist-sound-")), "sound")
        with urlopen(source, timeout=_PATIENCE) as answer, fetched.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, HTTPError):
            # It is the answer too.
            error.close()
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise failed(wanted.track, f"can't be fetched: {str(why).lower()}") from error
    return fetched


def _is_heard(sound: Sound, of_a_page: bool) -> bool:
    with opened(sound) as container:
        if container.streams.audio:
            return True
        if of_a_page and media.video_stream(container) is not None:
            return False
    raise failed(sound.track, "has no sound in it")


@contextlib.contextmanager
def opened(sound: Sound) -> Iterator[InputContainer]:
    """The file of a track, to decode its sound. Raises MergeFailed, also for what goes wrong in the block."""
    av = media.pyav()
    try:
        with media.open_media(sound.path, media.SOUND_DEMUXERS) as container:
            yield container
    except (av.FFmpegError, OSError, ValueError) as error:
        raise failed(sound.track, f"can't be read: {media.reason(error)}") from error


def failed(track: AudioTrack, problem: str) -> MergeFailed:
    """The error for a track that can't be heard: `problem` stands behind its name."""
    source = track.source
    if len(source) > _SHOWN:
        # A path says most at its end, and a `data:` URL nothing there.
        source = f"{source[:_SHOWN]}…" if source.startswith("data:") else f"…{source[-_SHOWN:]}"
    return MergeFailed(f"the sound {source} {problem}", "put a sound there that can be played, or leave it out")
