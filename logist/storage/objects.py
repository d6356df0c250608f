"""Objects by name at a URL that fsspec can reach. The only module that knows fsspec, and what its libraries raise."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

from logist.durable import storage_failed
from logist.errors import ExtraMissing, LogistError, StorageFailed, UsageProblem
from logist.execution import CancelCheck

if TYPE_CHECKING:
    from types import ModuleType

Answer = TypeVar("Answer")

#: How often a request is made that may succeed later, beside what the library itself repeats.
ATTEMPTS = 4
#: Seconds: the upper bound of the first random wait before the next one, doubled each time, and the longest one.
BACKOFF_START = 0.5
BACKOFF_LIMIT = 8.0

#: Seconds that a server of the web may keep silent.
SILENCE = 60.0

_PIECE = 1 << 20
#: Bytes that are asked for at a time where parts of an object can be asked for.
_BLOCK = 8 << 20
_LONGEST_REASON = 300
_READ_ONLY = frozenset({"http", "https"})
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
#: Whatever stands before an @ behind a colon may be a password; a secret key of S3 may hold slashes.
_PASSWORD = re.compile(r"[^@]*:[^@]*@")
#: In what libraries say: the user of a URL, and its query, which may be a signature.
_SECRETS = re.compile(r"(?<=://)[^/@\s]*@|\?[^\s\"'<>]*")
_NO_CREDENTIALS = frozenset(
    {"CredentialRetrievalError", "DefaultCredentialsError", "NoCredentialsError", "PartialCredentialsError"}
)
_CREDENTIAL_HINTS = {
    "s3": "give them as AWS tools take them: AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, a role",
    "gcs": "give them as Google's tools take them: gcloud auth application-default login, "
    "GOOGLE_APPLICATION_CREDENTIALS, a service account",
}


class Canceled(Exception):
    """A transfer was stopped because `cancel` said so; the message says why."""


class _Fault(NamedTuple):
    """What is wrong with a request, in words; `lasting`: asking again is no use."""

    what: str
    hint: str
    lasting: bool = True


def storage_url(given: str) -> str:
    """The URL that a `--storage` means; a path means a folder of this machine. Raises UsageProblem, which quotes
    nothing that may be secret."""
    if not given or "\0" in given:
        raise UsageProblem("the storage has no name", _URL_HINT)
    given = given if "://" in given else f"file://{os.path.abspath(given)}"  # noqa: PTH100 - may have to be made yet
    found = _SCHEME.match(given)
    if found is None or "::" in given:
        raise UsageProblem("the storage is neither a URL nor a path without ::, which would chain URLs", _URL_HINT)
    scheme, place = found[1].lower(), given[found.end() :]
    if scheme == "file" and not place.startswith("/"):
        raise UsageProblem(f"{given} names no folder from the root", "write it like file:///folder, or as a path")
    if scheme != "file" and (_PASSWORD.match(place) or (scheme in _READ_ONLY and "@" in place)):
        raise UsageProblem(
            "the URL of the storage holds a user and a password, which would end up in logs",
            f"leave them out; {_CREDENTIAL_HINTS.get(_EXTRAS.get(scheme, ''), _OWN_MEANS)}",
        )
    if scheme != "file" and ("?" in place or "#" in place):
        raise UsageProblem("the URL of the storage has a query, which may be secret", "leave it out")
    return f"{scheme}://{place.rstrip('/')}"


_URL_HINT = "write it like s3://bucket/folder, gs://bucket/folder, file:///folder, or as a path"
_OWN_MEANS = "give them by the means of the library that reads such URLs"


def open_storage(given: str) -> Storage:
    """The storage at a URL, or in a folder. Nothing is asked of it yet.

    Raises UsageProblem for what is no URL of one, ExtraMissing when its library is not installed.
    """
    url = storage_url(given)
    scheme = url.partition("://")[0]
    # Listings would be remembered, and what others write meanwhile never be seen.
    settings: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme == "file":
        settings["auto_mkdir"] = True
    try:
        if scheme in _READ_ONLY:
            settings["client_kwargs"] = {"timeout": _patience()}
        system, root = _fsspec().url_to_fs(url, **settings)
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        hint = f"pip install 'logist[{extra}]'" if extra else f"install it: {_reason(error)}"
        raise ExtraMissing(f"the library for {scheme}:// is not installed", hint) from error
    except ValueError as error:
        raise UsageProblem(f"{scheme}:// is no storage that is known here: {_reason(error)}", _URL_HINT) from error
    return Storage(url, system, root.rstrip("/"))


def _patience() -> Any:
    """How long a server of the web may take: as long as it says something. The library's own limit is of the whole."""
    from aiohttp import ClientTimeout

    return ClientTimeout(sock_connect=SILENCE, sock_read=SILENCE)


def _fsspec() -> ModuleType:
    try:
        return import_module("fsspec.core")
    except ImportError as error:
        raise ExtraMissing(
            "for --storage fsspec is needed, which is not installed", "pip install 'logist[storage]'"
        ) from error


class Storage:
    """Objects by name below one URL; several threads may use it. An object is there whole, or not at all.

    All methods raise StorageFailed for what does not work after a few attempts.
    """

    def __init__(self, url: str, system: Any, root: str) -> None:
        self.url = url
        self._system = system
        self._root = root
        self._scheme = url.partition("://")[0]

    @property
    def folder(self) -> str:
        """The folder of this machine that it is; empty: it is none."""
        return self.url.removeprefix("file://") if self._scheme == "file" else ""

    def check_writable(self) -> None:
        """Raise UsageProblem for a storage that can only be read."""
        if self._scheme in _READ_ONLY:
            raise UsageProblem(
                f"{self.url} can only be read", "name a storage that can be written too: s3, gs, a folder"
            )

    def size(self, name: str) -> int | None:
        """Bytes of an object; None: there is none of this name."""
        try:
            return int(self._asked(f"look for {name}", lambda: self._system.info(self._path(name))["size"]))
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """The names of all objects below `folder`, in order."""
        if self._scheme in _READ_ONLY:
            raise UsageProblem(
                f"{self.url} can't be listed", "name the same storage by a URL that can: s3, gs, a folder"
            )
        try:
            found = self._asked(f"list {folder}", lambda: self._system.find(self._path(folder)))
        except FileNotFoundError:
            return []
        return sorted(path[len(self._root) + 1 :] for path in found)

    def read(self, name: str, limit: int) -> bytes | None:
        """A small object; None: there is none. Raises StorageFailed too when it has more than `limit` bytes."""

        def read() -> bytes:
            with self._opened(name) as source:
                return b"".join(_pieces(source, limit + 1))

        try:
            data = self._asked(f"read {name}", read)
        except FileNotFoundError:
            return None
        if len(data) > limit:
            raise StorageFailed(f"{self.url}/{name} is larger than {limit} bytes", "it is not what Logist put there")
        return data

    def fetch(self, name: str, path: Path, limit: int, cancel: CancelCheck | None = None) -> str | None:
        """Copy an object into the file `path`, at most one byte more than `limit`; the hash (SHA-256) of what came.

        None: there is no such object. Raises Canceled when `cancel` says so.
        """

        def fetch() -> str:
            digest = hashlib.sha256()
            with self._opened(name) as source, _open_here(path) as file:
                for piece in _pieces(source, limit + 1):
                    if cancel is not None and (why := cancel()) is not None:
                        raise Canceled(why)
                    digest.update(piece)
                    _write(file, piece, path)
            return digest.hexdigest()

        try:
            return self._asked(f"read {name}", fetch)
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Put a small object there; one of this name is replaced. Raises UsageProblem for a read-only storage."""
        self._put(name, lambda place: self._system.pipe_file(place, data))

    def upload(self, name: str, path: Path) -> None:
        """Put a file there, as `write` does."""
        self._put(name, lambda place: self._system.put_file(os.fspath(path), place))

    def remove(self, name: str) -> None:
        """Remove an object; none is fine."""
        with suppress(FileNotFoundError):
            self._asked(f"remove {name}", lambda: self._system.rm_file(self._path(name)))

    def _put(self, name: str, put: Callable[[str], None]) -> None:
        self.check_writable()
        place = self._path(name)
        try:
            self._asked(f"write {name}", lambda: self._put_whole(place, put))
        except FileNotFoundError as error:
            raise StorageFailed(
                f"could not write {name} to {self.url}: there is no such bucket or folder",
                "make it first, or name it right",
            ) from error

    def _put_whole(self, place: str, put: Callable[[str], None]) -> None:
        if self._scheme != "file":
            # Object stores show an object once all of it has come.
            put(place)
            return
        beside = f"{place}.{os.urandom(6).hex()}.tmp"
        try:
            put(beside)
            self._system.mv(beside, place)
        except BaseException:
            # Whatever it was, it travels on; half a file must not stay behind.
            with suppress(OSError):
                self._system.rm_file(beside)
            raise

    def _opened(self, name: str) -> Any:
        # Most servers of the web give an object from its beginning only.
        block = 0 if self._scheme in _READ_ONLY else _BLOCK
        return self._system.open(self._path(name), "rb", block_size=block)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _asked(self, what: str, ask: Callable[[], Answer]) -> Answer:
        """What `ask` answers, asked a few times. Raises FileNotFoundError, StorageFailed, and what is ours."""
        # Slow to import, and only runs with a storage need it.
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=BACKOFF_START, max=BACKOFF_LIMIT),
            retry=retry_if_exception(self._may_pass),
            reraise=True,
        )
        try:
            return retrying(ask)
        except _OURS:
            raise
        except Exception as error:
            # Each library raises errors of its own, without a base in common.
            fault = self._fault(error)
            raise StorageFailed(f"could not {what} at {self.url}: {fault.what}", fault.hint) from error

    def _may_pass(self, error: BaseException) -> bool:
        # A signal that ends the program comes here too, and is no fault.
        return isinstance(error, Exception) and not isinstance(error, _OURS) and not self._fault(error).lasting

    def _fault(self, error: BaseException) -> _Fault:
        status = getattr(error, "status", None) or getattr(error, "code", None)
        if type(error).__name__ in _NO_CREDENTIALS:
            library = _EXTRAS.get(self._scheme, "")
            return _Fault("there are no credentials for it", _CREDENTIAL_HINTS.get(library, _OWN_MEANS))
        if isinstance(error, PermissionError) or status in (401, 403, "401", "403"):
            return _Fault("it is not permitted", "check the credentials, and what they allow there")
        if isinstance(error, NotImplementedError):
            return _Fault("that kind of storage can't", "name another storage: s3, gs, a folder")
        if isinstance(error, IsADirectoryError | NotADirectoryError):
            return _Fault(_reason(error), "name another folder")
        return _Fault(_reason(error), "check the URL, the network and that service, then run again", lasting=False)


#: What `Storage._asked` passes on as it is.
_OURS = (FileNotFoundError, LogistError, Canceled)


def _pieces(source: BinaryIO, most: int) -> Iterator[bytes]:
    """What can be read, `most` bytes at most."""
    while most > 0 and (piece := source.read(min(_PIECE, most))):
        most -= len(piece)
        yield piece


def _open_here(path: Path) -> io.FileIO:
    """Open a file of this machine, whose faults are not the storage's. Unbuffered: none of them comes late."""
    try:
        return path.open("wb", buffering=0)
    except OSError as error:
        raise storage_failed("write", path, error) from error


def _write(file: io.FileIO, data: bytes, path: Path) -> None:
    left = memoryview(data)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise storage_failed("write", path, error) from error


def _reason(error: BaseException) -> str:
    """What a library says, in one short line, without what may be secret in it."""
    said = " ".join(_SECRETS.sub("", str(error)).split())
    return f"{type(error).__name__}: {said}"[:_LONGEST_REASON] if said else type(error).__name__
