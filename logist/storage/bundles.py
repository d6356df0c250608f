"""A bundle: what a spec needs to be run elsewhere, as objects named by their content and one manifest of them.

Objects and no archive: what two bundles have in common is stored and fetched once, and what a hostile bundle could
do with an archive (other owners, devices, ways out of its folder) can't be said in the manifest, or is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from logist.errors import InvalidFile, UsageProblem
from logist.models.stored import BundledFile, BundledLink, BundleManifest
from logist.render.output_file import is_half_made
from logist.storage.objects import Storage
from logist.storage.transfers import at_once
from logist.workspace.ignore import Rules

#: What a bundle may be at most: files, and bytes of its manifest.
MOST_FILES = 100_000
MOST_MANIFEST_BYTES = 64_000_000
#: Folders in each other.
DEEPEST = 100
IGNORE_FILE = ".logistignore"

_NEVER = frozenset({".git", ".logist"})
_LONGEST_PATH = 4_000
_LONGEST_NAME = 255
_IGNORE_IT = f"remove it, or name it in {IGNORE_FILE} beside the spec, which reads like .gitignore"


class Bundle(NamedTuple):
    """A bundle as it is stored, and its hash, which names it."""

    sha256: str
    document: bytes
    manifest: BundleManifest

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.manifest.files)


class Found(NamedTuple):
    """A file or a link, and its path from the top."""

    path: str
    entry: os.DirEntry[str]


def manifest_name(sha256: str) -> str:
    """The object that a bundle's manifest is."""
    return f"bundles/{sha256}"


def blob_name(sha256: str) -> str:
    """The object that holds a file of this content."""
    return f"blobs/{sha256}"


# --- From a folder to a bundle -------------------------------------------------------------------------------------


def read_bundle(folder: Path, spec: str, left_out: Collection[str]) -> Bundle:
    """The bundle of all that is in `folder`, without `left_out` (paths from it) and what its `.logistignore` ignores.

    Links are kept as links. Raises UsageProblem for what can't travel: a link that leads out, a device, a name that is
    no text, too many files; InvalidFile for what can't be read.
    """
    files: list[BundledFile] = []
    links: list[BundledLink] = []
    rules = Rules(_read_ignored(folder), 0, None)
    for path, entry in _walk(folder, "", rules, frozenset(left_out), spec):
        if entry.is_symlink():
            links.append(_link(path, entry))
        else:
            files.append(_file(path, entry))
        if len(files) + len(links) > MOST_FILES:
            raise UsageProblem(
                f"{folder} holds more than {MOST_FILES} files", f"name those that no chunk reads in {IGNORE_FILE}"
            )
    manifest = BundleManifest(spec=spec, files=tuple(files), links=tuple(links))
    if problem := problem_of(manifest):
        raise UsageProblem(f"{folder} can't be bundled: {problem}", _IGNORE_IT)
    document = json.dumps(manifest.model_dump(), sort_keys=True, separators=(",", ":")).encode()
    return Bundle(hashlib.sha256(document).hexdigest(), document, manifest)


def _walk(folder: Path, inside: str, rules: Rules, left_out: frozenset[str], spec: str) -> Iterator[Found]:
    """All files and links below, each with its path from the top, in order."""
    if inside.count("/") > DEEPEST:
        raise UsageProblem(f"folders are nested more than {DEEPEST} deep in {inside.split('/')[0]}", _IGNORE_IT)
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(inside or str(folder), error) from error
    for entry in listed:
        path = f"{inside}{entry.name}"
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name in _NEVER or path in left_out or is_half_made(entry.name):
            continue
        if path != spec and rules.ignore(path, is_folder):
            continue
        if is_folder:
            yield from _walk(Path(entry.path), f"{path}/", rules, left_out, spec)
        elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield Found(path, entry)
        else:
            raise UsageProblem(f"{path} is neither a file nor a folder, and can't be bundled", _IGNORE_IT)


def _read_ignored(folder: Path) -> bytes:
    try:
        return (folder / IGNORE_FILE).read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise _unreadable(IGNORE_FILE, error) from error


def _link(path: str, entry: os.DirEntry[str]) -> BundledLink:
    try:
        target = os.readlink(entry.path)  # noqa: PTH115 - as text, as it stands there
    except OSError as error:
        raise _unreadable(path, error) from error
    return BundledLink(path=_text(path), target=_text(target))


def _file(path: str, entry: os.DirEntry[str]) -> BundledFile:
    name = _text(path)
    try:
        with open(entry.path, "rb") as file:  # noqa: PTH123
            executable = bool(os.fstat(file.fileno()).st_mode & 0o100)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            # Of what was hashed: the file may have grown meanwhile.
            size = file.tell()
    except OSError as error:
        raise _unreadable(path, error) from error
    return BundledFile(path=name, sha256=digest, size=size, executable=executable)


def _text(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UsageProblem(f"the name {path!r} is not UTF-8, and can't be bundled", _IGNORE_IT) from error
    return path


def _unreadable(path: str, error: OSError) -> InvalidFile:
    why = (error.strerror or str(error)).lower()
    return InvalidFile(f"{path} can't be read: {why}", f"change its permissions; or {_IGNORE_IT}")


# --- What may be in a bundle ---------------------------------------------------------------------------------------


def problem_of(manifest: BundleManifest) -> str:
    """Why a bundle can't be unpacked without harm; empty for a sound one. Pure: it is asked of strangers' bundles."""
    files = {file.path for file in manifest.files}
    links = {link.path for link in manifest.links}
    entries = [file.path for file in manifest.files] + [link.path for link in manifest.links]
    if len(entries) > MOST_FILES:
        return f"it holds more than {MOST_FILES} files"
    if len(files | links) < len(entries):
        return "it holds two files of the same name"
    for path in entries:
        if not _is_inside(path):
            return f"{path!r} is no path inside of it"
        if not _NEVER.isdisjoint(path.split("/")):
            return f"{path!r} is what no bundle holds"
        if any(above in files or above in links for above in _above(path)):
            return f"{path!r} lies in what is no folder"
    for link in manifest.links:
        if not _leads_inside(link):
            return f"the link {link.path!r} leads out of it, to {link.target!r}"
    if manifest.spec not in files:
        return f"its spec {manifest.spec!r} is not in it"
    return ""


def _is_inside(path: str) -> bool:
    names = path.split("/")
    sound = all(name not in ("", ".", "..") and len(name.encode()) <= _LONGEST_NAME for name in names)
    return sound and len(names) <= DEEPEST + 2 and "\0" not in path and len(path.encode()) <= _LONGEST_PATH


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _leads_inside(link: BundledLink) -> bool:
    """Whether a link stays inside, whatever the links are that it leads through.

    `..` may only stand at its beginning: behind the name of another link it means that one's parent.
    """
    names = [name for name in link.target.split("/") if name not in ("", ".")]
    ups = next((place for place, name in enumerate(names) if name != ".."), len(names))
    rest = "/".join(names[ups:])
    relative = bool(link.target) and not link.target.startswith("/")
    return relative and ups <= link.path.count("/") and (not rest or _is_inside(rest))


# --- To a storage --------------------------------------------------------------------------------------------------


def missing_files(storage: Storage, bundle: Bundle, *, thorough: bool = False) -> tuple[BundledFile, ...]:
    """The files of a bundle that the storage lacks, one of each content.

    None of a bundle that was uploaded before, unless `thorough`: somebody may have removed some of them since. Raises
    UsageProblem for a storage that can only be read.
    """
    storage.check_writable()
    if not thorough and _is_there(storage, bundle):
        return ()
    files = list({file.sha256: file for file in bundle.manifest.files}.values())
    sizes = at_once(lambda file: storage.size(blob_name(file.sha256)), files)
    return tuple(file for file, size in zip(files, sizes, strict=True) if size != file.size)


def _is_there(storage: Storage, bundle: Bundle) -> bool:
    return storage.size(manifest_name(bundle.sha256)) == len(bundle.document)


def upload_bundle(storage: Storage, bundle: Bundle, missing: Sequence[BundledFile], folder: Path) -> None:
    """Upload the `missing` files of a bundle; the manifest last: a bundle that is there is there whole.

    Raises InvalidFile for a file that was changed meanwhile.
    """
    at_once(lambda file: _upload(storage, file, folder / file.path), missing)
    if not _is_there(storage, bundle):
        storage.write(manifest_name(bundle.sha256), bundle.document)


def _upload(storage: Storage, file: BundledFile, path: Path) -> None:
    name = blob_name(file.sha256)
    try:
        before = _state(path)
        with path.open("rb") as opened:
            same = hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
        if same:
            storage.upload(name, path)
            same = _state(path) == before
            if not same:
                # It may stand there by a name that is another content's.
                storage.remove(name)
    except OSError as error:
        raise _unreadable(file.path, error) from error
    if not same:
        raise InvalidFile(
            f"{file.path} was changed while it was uploaded", f"run again once nobody writes it; or {_IGNORE_IT}"
        )


def _state(path: Path) -> tuple[int, ...]:
    """What changes when a file is written."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
