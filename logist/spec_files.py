"""Reads a render job spec from a file, standard input or a URL, and refuses one that could not be run as it says."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from logist.errors import InvalidFile, LogistError, UsageProblem
from logist.specs import Problem, RenderChunk, RenderSpec, plain_spec, shown, spec_problems

STDIN = "-"
#: Bytes; 10,000 chunks of Helios take four million.
MAX_SPEC_BYTES = 64_000_000
#: Seconds that a server may keep silent, and that a spec may take to arrive.
URL_SILENCE = 20.0
URL_TIME = 120.0

_PIECE = 1_000_000
_DEEPEST = 100
_MOST_LISTED = 10
_LONGEST_PROBLEM = 300
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


#: `chunk_attempts.marker_of` and `failed_of`.
_OWN_NAMES = re.compile(r"\..*\.(unfinished|failed(\..*)?)", re.DOTALL)


class LoadedSpec(NamedTuple):
    """A spec, and where it comes from."""

    spec: RenderSpec
    #: Where its commands run, and what its paths are relative to.
    folder: Path
    #: A file name: the spec's own, or one made from its content. It names the folder of the state.
    name: str
    #: Of its bytes as they came.
    sha256: str
    #: What messages call it.
    source: str


def load_spec(target: str, *, trust: bool, allow_outside: bool, stdin: Callable[[], BinaryIO], cwd: Path) -> LoadedSpec:
    """The spec that `target` names: a path, `-` for what `stdin` gives, or a URL, which is read only with `trust`.

    `allow_outside` takes outputs that lie outside of the spec's folder. Raises UsageProblem when there is no such file
    or the URL isn't trusted, InvalidFile when the spec can't be read or is not sound.
    """
    came = _receive(target, stdin, cwd, trust=trust)
    digest, loaded = _parsed(came.data, came.source)
    spec = _checked(loaded, came.source)
    file = came.folder / came.name if came.name else None
    misplaced = tuple(misplaced_outputs(spec, came.folder, file=file, allow_outside=allow_outside))
    if misplaced:
        elsewhere = "" if allow_outside else "; --allow-outside lets them lie elsewhere"
        raise _refused(misplaced, came.source, f"name files in the spec's folder{elsewhere}")
    return LoadedSpec(spec, came.folder, came.name or f"spec-{digest[:12]}.json", digest, came.source)


def _checked(document: dict[str, Any], source: str) -> RenderSpec:
    spec = plain_spec(document)
    if spec is not None and not spec_problems(spec):
        return spec
    # Slow to import: only for a spec that holds more than the plain ones, or something wrong.
    from logist.models.job_spec import checked_spec

    checked = checked_spec(document)
    if isinstance(checked, tuple):
        hint = "correct the spec, or emit it again; `logist schema job-spec` says what it holds"
        raise _refused(checked, source, hint)
    return checked


def chunk_output(loaded: LoadedSpec, chunk: RenderChunk) -> Path | None:
    """The file that a chunk makes, absolute; None when it names none."""
    return loaded.folder / chunk.output_file if chunk.output_file else None


def merged_path(loaded: LoadedSpec) -> Path | None:
    """The merged file, absolute; None when the spec does not say what it is."""
    name = loaded.spec.merged_output
    return loaded.folder / name if name else None


def output_paths(loaded: LoadedSpec) -> tuple[Path, ...]:
    """All files that the spec says are made, absolute: the chunks' in their order, then the merged one."""
    paths = (*(chunk_output(loaded, chunk) for chunk in loaded.spec.chunks), merged_path(loaded))
    return tuple(path for path in paths if path is not None)


# --- Where the outputs lie -----------------------------------------------------------------------------------------


def misplaced_outputs(
    spec: RenderSpec, folder: Path, *, file: Path | None = None, allow_outside: bool = False
) -> Iterator[Problem]:
    """The outputs that would be written where none may be: out of `folder` unless `allow_outside`, also through
    links; into Logist's own folder; over `file`, the spec itself."""
    root = os.path.realpath(folder)
    real = _real_paths(root)
    own_file = None if file is None else os.path.realpath(file)
    own_folder = os.path.join(root, ".logist")  # noqa: PTH118 - ten thousand Paths would take longer than all else
    first: dict[str, str] = {}
    for place, name in _named_outputs(spec):
        path = real(name)
        if first.setdefault(path, place) != place:
            yield Problem(place, f"{name} is the file of {first[path]} too, by another way")
        if path == own_file:
            yield Problem(place, f"{name} is the spec itself")
        elif _OWN_NAMES.fullmatch(os.path.basename(path)):  # noqa: PTH119
            yield Problem(place, f"{name} is a name that Logist uses beside outputs")
        elif _is_below(path, own_folder):
            yield Problem(place, f"{name} lies in Logist's own folder")
        elif not allow_outside and not _is_below(path, root):
            yield Problem(place, f"{name} lies outside of the spec's folder")


def _named_outputs(spec: RenderSpec) -> Iterator[tuple[str, str]]:
    for place, chunk in enumerate(spec.chunks):
        if chunk.output_file:
            yield f"chunks[{place}].outputFile", chunk.output_file
    if spec.merged_output:
        yield "output" if spec.output else "mergeCommand", spec.merged_output


def _real_paths(root: str) -> Callable[[str], str]:
    """Resolves links as `os.path.realpath` does, which is slow: each folder once."""
    folders: dict[str, str] = {}

    def real(name: str) -> str:
        folder, _, base = name.rpartition("/")
        if name.startswith("/"):
            folder = folder or "/"
        if folder not in folders:
            folders[folder] = os.path.realpath(os.path.join(root, folder))  # noqa: PTH118
        path = os.path.join(folders[folder], base)  # noqa: PTH118
        return os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114

    return real


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


# --- Where a spec comes from ---------------------------------------------------------------------------------------


class _Received(NamedTuple):
    """The bytes of a spec, and where they come from. `name` is empty for what is no file."""

    source: str
    data: bytearray
    folder: Path
    name: str = ""


def _receive(target: str, stdin: Callable[[], BinaryIO], cwd: Path, *, trust: bool) -> _Received:
    if target == STDIN:
        source = "standard input"
        data = _read_all(stdin().read, source)
        if not data:
            raise InvalidFile("standard input is empty", "pipe a spec into it: `logist job run - < job.json`")
        return _Received(source, data, cwd)
    if _URL.match(target):
        source = _without_secrets(target, trust=trust)
        return _Received(source, _fetch(target, source), cwd)
    path = cwd / target
    return _Received(target, _read_file(path, target), *spec_place(path))


def spec_place(path: Path) -> tuple[Path, str]:
    """The folder in which the spec at `path` runs, and the name by which its state goes.

    A link to a spec of the same folder is that spec: two runs must not be had by two names.
    """
    folder, real = path.parent.resolve(), path.resolve()
    return folder, real.name if real.parent == folder else path.name


def _read_all(read: Callable[[int], bytes], source: str) -> bytearray:
    """All that `read` gives, at most so many bytes a call, as far as a spec may be long."""
    data = bytearray()
    try:
        while piece := read(_PIECE):
            data += piece
            if len(data) > MAX_SPEC_BYTES:
                raise InvalidFile(f"{source} is larger than {MAX_SPEC_BYTES} bytes", "split it into several specs")
    except OSError as error:
        raise _unreadable(source, error) from error
    return data


def _read_file(path: Path, source: str) -> bytearray:
    # Not blocking: to open a FIFO without a writer would wait for ever.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise UsageProblem(
            f"there is no file {source}", "name a render job spec: a file, a URL, or - for stdin"
        ) from error
    except OSError as error:
        raise _unreadable(source, error) from error
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise UsageProblem(f"{source} is a folder", "name the spec in it")
        if not stat.S_ISREG(kind):
            raise UsageProblem(f"{source} is not a regular file", "name - to read from standard input")
        return _read_all(lambda size: os.read(descriptor, size), source)
    finally:
        os.close(descriptor)


def _unreadable(source: str, error: OSError) -> InvalidFile:
    why = (error.strerror or str(error) or type(error).__name__).lower()
    return InvalidFile(f"{source} can't be read: {why}", "check the path and its permissions")


def _without_secrets(url: str, *, trust: bool) -> str:
    """What messages call a URL: without user, query and fragment. Raises UsageProblem when it may not be read."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, user = parts.netloc.rpartition("@")[2], parts.username
    except ValueError as error:
        raise UsageProblem("that is not a URL that can be read", "write it like https://host/job.json") from error
    source = f"{parts.scheme}://{host}{parts.path}"
    if parts.scheme not in ("http", "https"):
        raise UsageProblem(f"{source} is neither http nor https", "fetch it by other means, and name the file")
    if user is not None:
        raise UsageProblem(
            f"{source}: a user name in a URL is not supported", "fetch it by other means, and name the file"
        )
    if not trust:
        raise UsageProblem(f"{source} is not trusted: commands in a spec are code", "read it first, then add --trust")
    return source


def _fetch(url: str, source: str) -> bytearray:
    # Only needed here, and as large as all the rest of reading a spec.
    from http.client import HTTPException, responses
    from urllib.error import HTTPError, URLError
    from urllib.parse import quote
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class Redirects(HTTPRedirectHandler):
        """Follows only to the web, and never from an encrypted place to one that isn't."""

        def redirect_request(
            self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
        ) -> Request | None:
            scheme = newurl.partition(":")[0].lower()
            if scheme != "https" and (scheme != "http" or req.type == "https"):
                raise HTTPError(newurl, code, msg, headers, fp)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    request = Request(quote(url, safe="%/:=&?~#+!$,;'@()*[]"), headers={"User-Agent": "logist"})
    until = time.monotonic() + URL_TIME
    try:
        with build_opener(Redirects).open(request, timeout=URL_SILENCE) as answer:

            def read(size: int) -> bytes:
                if time.monotonic() > until:
                    raise TimeoutError(f"it took longer than {URL_TIME:.0f} seconds")
                # At most one piece of what came: a server that drips can't hold this up for ever.
                return bytes(answer.read1(size))

            return _read_all(read, source)
    except HTTPError as error:
        # Not its own words: they may hold the address of a redirect, with what is secret in it.
        answer_line = f"{error.code} {responses.get(error.code, '')}".rstrip()
        where = ", a redirect that is not followed" if 300 <= error.code < 400 else ""
        with error:
            raise _not_fetched(source, f"the server answered {answer_line}{where}") from error
    except URLError as error:
        reason = error.reason
        why = (reason.strerror or str(reason)) if isinstance(reason, OSError) else str(reason)
        raise _not_fetched(source, why) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _not_fetched(source, str(error) or type(error).__name__) from error


def _not_fetched(source: str, why: str) -> InvalidFile:
    return InvalidFile(f"{source} can't be read: {_short(' '.join(why.split()))}", "check the URL, or try again later")


# --- From bytes to a spec ------------------------------------------------------------------------------------------


class _RefusedError(ValueError):
    """The text is JSON that no spec may be; the message says why."""


def _parsed(data: bytearray, source: str) -> tuple[str, dict[str, Any]]:
    """The hash of the bytes, and the object that they are. Raises InvalidFile."""
    digest = hashlib.sha256(data).hexdigest()
    try:
        text = data.decode("utf-8-sig")
        # The bytes are as large as what is made of them.
        data.clear()
        loaded = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite_number
        )
        if _SURROGATE.search(text):
            # Half of a pair is legal JSON and no text: no command could be given it.
            json.dumps(loaded, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_json(source, f"UTF-8 at byte {error.start}") from error
    except UnicodeEncodeError as error:
        raise _not_json(source, "text: half of a surrogate pair (\\ud800 to \\udfff)") from error
    except json.JSONDecodeError as error:
        why = error.msg[:1].lower() + error.msg[1:]
        raise _not_json(source, f"JSON: {why} at line {error.lineno} column {error.colno}") from error
    except _RefusedError as error:
        raise _not_json(source, f"sound JSON: {error}") from error
    except ValueError as error:
        raise _not_json(source, "sound JSON: a number in it is too long") from error
    except RecursionError as error:
        raise _not_json(source, "sound JSON: it is nested too deeply") from error
    if not isinstance(loaded, dict):
        raise _not_json(source, f"a render job spec: it must hold one object, and holds {shown(loaded)}")
    if _is_deep(loaded):
        raise _not_json(source, "sound JSON: it is nested too deeply")
    return digest, loaded


def _not_json(source: str, what: str) -> LogistError:
    return InvalidFile(f"{source} is not {what}", "correct that place, or emit the spec again")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _RefusedError(f"the key {shown(twice)} stands twice in one object")
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is no number of JSON")


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _RefusedError("a number in it is too large")
    return number


def _is_deep(value: Any, room: int = _DEEPEST) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return room == 0 or any(_is_deep(item, room - 1) for item in inner)


def _refused(problems: Sequence[Problem], source: str, hint: str) -> InvalidFile:
    listed = "; ".join(_short(str(problem)) for problem in problems[:_MOST_LISTED])
    more = len(problems) - _MOST_LISTED
    return InvalidFile(f"{source}: {listed}" + (f"; and {more} more" if more > 0 else ""), hint)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_PROBLEM else text[: _LONGEST_PROBLEM - 1] + "…"
