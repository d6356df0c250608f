"""What is rendered: which URL a browser opens for the INPUT of a command line, and which props its page gets."""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from logist.errors import UsageProblem
from logist.render.options import AudioTrack, RenderOptions

#: Bytes; a page that needs more loads it itself.
MOST_PROPS = 16_000_000
_INDEX = "index.html"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_WEB = ("http", "https")


class Composition(NamedTuple):
    """What a browser opens."""

    url: str
    #: The file that the URL stands for, absolute; None for what is not of this machine.
    path: Path | None = None
    #: What the URL says beside the file: its query and fragment.
    suffix: str = ""

    def seen_from(self, folder: Path) -> str:
        """Its name on the command line of a command that runs in `folder`: a relative path, or the URL."""
        return self.url if self.path is None or self.suffix else seen_from(self.path, folder)


def seen_from(path: Path, folder: Path) -> str:
    """The name of the absolute `path` for a command that runs in `folder`, which may be known by a link."""
    return os.path.relpath(path, folder.resolve())


def look_up(given: str, options: RenderOptions, cwd: Path) -> Composition:
    """The composition that `given` names, with all that `options` name beside it looked at. Raises UsageProblem."""
    found = find_composition(given, options.base_url, cwd)
    read_props(options.props, cwd)
    check_sounds(options, cwd)
    return found


def find_composition(given: str, base_url: str | None, cwd: Path) -> Composition:
    """The composition that `given` names: a file, a folder with an index.html, or a file:, http: or https: URL.

    A path is opened below `base_url` when there is one, as it is named from `cwd`. Raises UsageProblem.
    """
    if not given:
        raise UsageProblem("the name of the composition is empty", _HINT)
    if _URL.match(given):
        return _of_url(given)
    path = absolute(given, cwd)
    if base_url is not None:
        return _below(base_url, given, path, cwd)
    return _of_file(path, given)


_HINT = "name an HTML file, a folder with an index.html in it, or a URL"


def absolute(given: str, cwd: Path) -> Path:
    """`given` from `cwd`. Links stay, unless a `..` behind one would mean another place than it does to the system."""
    joined = cwd / given
    normal = Path(os.path.normpath(joined))
    try:
        return normal if ".." not in joined.parts or normal.parent.samefile(joined.parent) else joined.resolve()
    except (OSError, ValueError):
        # What is not there is for those to say who look for it.
        return normal


def _of_url(given: str) -> Composition:
    try:
        parts = urlsplit(given)
        host = parts.hostname
    except ValueError as error:
        raise UsageProblem(f"{given} is not a URL that can be opened", _HINT) from error
    scheme = parts.scheme.lower()
    if scheme in _WEB and host:
        return Composition(given)
    if scheme != "file" or host not in (None, "", "localhost"):
        raise UsageProblem(f"{given} can't be rendered: it is neither a file nor of the web", _HINT)
    found = _of_file(Path(os.path.normpath(unquote(parts.path, errors="surrogateescape"))), given)
    suffix = f"?{parts.query}" * bool(parts.query) + f"#{parts.fragment}" * bool(parts.fragment)
    return found._replace(url=found.url + suffix, suffix=suffix)


def _below(base_url: str, given: str, path: Path, cwd: Path) -> Composition:
    """Where a server has the file: it need not be on this machine."""
    try:
        parts = urlsplit(base_url)
        sound = parts.scheme.lower() in _WEB and bool(parts.hostname) and not parts.query and not parts.fragment
    except ValueError:
        sound = False
    if not sound:
        raise UsageProblem(
            f"--base-url {base_url} is no place that pages can be below", "write it like http://localhost:8080/site"
        )
    name = os.path.relpath(path / _INDEX if path.is_dir() else path, cwd)
    if name.split("/")[0] == "..":
        raise UsageProblem(
            f"{given} lies outside of this folder, which --base-url stands for", "run the command from a folder above"
        )
    return Composition(f"{base_url.rstrip('/')}/{quote(os.fsencode(name))}")


def _of_file(path: Path, given: str) -> Composition:
    try:
        if path.is_dir():
            path /= _INDEX
            if not path.exists():
                raise UsageProblem(f"the folder {given} has no {_INDEX}", "name the HTML file in it")
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageProblem(f"{given} is not a regular file", _HINT)
        with path.open("rb"):
            pass
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        hint = "a query is only understood in a URL: file:///… or http://…" if "?" in given else _HINT
        raise UsageProblem(f"there is no composition {given}", hint) from error
    except OSError as error:
        raise UsageProblem(
            f"{given} can't be read: {(error.strerror or str(error)).lower()}", "check the path and its permissions"
        ) from error
    return Composition(path.as_uri(), path)


# --- Other files ---------------------------------------------------------------------------------------------------


def seen_options(options: RenderOptions, cwd: Path, folder: Path) -> RenderOptions:
    """`options`, whose names of files are meant from `cwd`, for a command that runs in `folder`."""

    def moved(name: str) -> str:
        return seen_from(absolute(name, cwd), folder)

    props, browser = props_file(options.props), options.browser
    return replace(
        options,
        props=options.props if props is None else f"@{moved(props)}",
        # A program's bare name is looked for, and one that stands at the same place everywhere stays there.
        browser=moved(browser) if browser is not None and "/" in browser and not browser.startswith("/") else browser,
        audio=tuple(
            track if _URL.match(track.source) else replace(track, source=moved(track.source)) for track in options.audio
        ),
    )


def check_sounds(options: RenderOptions, cwd: Path) -> None:
    """Whether the files of `--audio` are there: they are read at the very end. Raises UsageProblem."""
    for track in options.audio:
        if _URL.match(track.source):
            continue
        path = cwd / track.source
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise UsageProblem(f"the sound {track.source} is not a regular file", _SOUND_HINT)
            with path.open("rb"):
                pass
        except (OSError, ValueError) as error:
            misfit = _misfit(track.source)
            if misfit is not None and isinstance(error, FileNotFoundError):
                raise UsageProblem(
                    f"--audio {misfit}, and there is no file {track.source}",
                    f"its options, each with = and a value: {', '.join(_SOUND_OPTIONS)}",
                ) from error
            why = (getattr(error, "strerror", None) or str(error)).lower()
            raise UsageProblem(f"the sound {track.source} can't be read: {why}", _SOUND_HINT) from error


def _misfit(source: str) -> str | None:
    """What is wrong with the end of a sound's name if it was to be an option; None: it does not look like one."""
    name, comma, part = source.rpartition(",")
    word, equals, _ = part.partition("=")
    if not name or not comma or not (equals or word in _SOUND_OPTIONS):
        return None
    return f"knows no {word}" if equals else f"wants a value for {word}"


_SOUND_OPTIONS = tuple(field.name.replace("_", "-") for field in fields(AudioTrack) if field.name != "source")
_SOUND_HINT = "write --audio like music.mp3,offset=2.5,volume=0.8"


# --- Props ---------------------------------------------------------------------------------------------------------


def props_file(props: str | None) -> str | None:
    """The file that `--props @file` names; None for props that stand there themselves, and for none."""
    return props[1:] if props is not None and props.startswith("@") else None


def read_props(props: str | None, cwd: Path) -> str | None:
    """The JSON object that `--props` means, as text; None: there are none. Raises UsageProblem that says where."""
    name = props_file(props)
    text, where = (props, "--props") if name is None else (_read(name, cwd), name)
    if text is None:
        return None
    try:
        value = json.loads(text, parse_constant=_refused)
    except json.JSONDecodeError as error:
        why = error.msg[:1].lower() + error.msg[1:]
        raise UsageProblem(
            f"{where} is not JSON: {why} at line {error.lineno} column {error.colno}",
            'write an object like {"title": "Hello"}, or @ and the name of a file that holds it',
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageProblem(f"{where} is not JSON that a page can be given: {error}", "correct it") from error
    if not isinstance(value, dict):
        raise UsageProblem(f"{where} holds no JSON object", 'write it like {"title": "Hello"}')
    return text


def _refused(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _read(name: str, cwd: Path) -> str:
    try:
        with (cwd / name).open("rb") as file:
            data = file.read(MOST_PROPS + 1)
        if len(data) > MOST_PROPS:
            raise UsageProblem(f"{name} is larger than {MOST_PROPS} bytes", "let the page load what it needs")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageProblem(f"{name} is not UTF-8 at byte {error.start}", "save it as UTF-8") from error
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageProblem(
            f"the file of --props can't be read: {name}: {why}", "name a JSON file behind the @"
        ) from error
