"""Reading and restoring a workspace that nobody trusts. Only `workspace_utils` imports this.

Folders are opened relative to their parent and links are never followed; regular files and links (as data) are all that
is read. What is left out is named with its reason. Nothing here starts a program or opens a repository of the agent.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from logist._evidence_objects import (
    EXECUTABLE,
    FILE,
    FOLDER,
    GITLINK,
    SYMLINK,
    Entries,
    ObjectStore,
    ObjectWriter,
    TreeEntry,
    encode_tree,
    hash_object,
    temporary_file,
    write_all,
)
from logist.errors import WorkspaceFailed

MAX_FILE_BYTES = 100_000_000
MAX_DEPTH = 100
#: Bytes; git's own checkout fails above PATH_MAX.
MAX_PATH = 3_500
MAX_FILES = 1_000_000
#: Skipped paths that are named, of each kind; the rest is counted.
MAX_NAMED = 1_000
#: Logist's own folder at the top of a workspace: never evidence.
OWN_FOLDER = ".logist"
IGNORED = "ignored by .gitignore"
METADATA = "git metadata"
NOT_REGULAR = "not a regular file"

_SKIPPABLE = {errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO}
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: A clock tick of the kernel, with room; whole seconds mean a file system that keeps no more.
_GRANULARITY_NS, _COARSE_NS = 20_000_000, 2_100_000_000


class SkippedPath(NamedTuple):
    """A path of the workspace that is not in the evidence, and why."""

    path: str
    why: str


def shown(path: str) -> str:
    """The path as text that every encoder takes: bytes that are no UTF-8 become `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# --- names and contents that git itself would trip over ---

_HFS_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")


def _short_names(prefix: str) -> str:
    """NTFS's fall-back short names: a shortened prefix, `~` and digits, eight characters in all."""
    return "|".join(f"{prefix[:kept]}~[1-9][0-9]{{{6 - kept}}}" for kept in range(7))


_METADATA_NAME = re.compile(rb"(?:\.git|git~1)[. ]*(?:\Z|[\\:])", re.IGNORECASE)
_SPECIAL_NAMES = {
    which: re.compile(rf"(?:\.git{which}|{short}~[1-4]|{_short_names(hashed)})[. ]*(?:\Z|:)".encode(), re.IGNORECASE)
    for which, short, hashed in (("modules", "gitmod", "gi7eba"), ("attributes", "gitatt", "gi7d29"))
}


def _hfs_folded(raw: bytes) -> str:
    """The name as HFS+ compares it; malformed UTF-8 ends it, as in git's own reading."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        text = raw[: error.start].decode("utf-8")
    return _HFS_IGNORED.sub("", text).lower()


def _is_alias(raw: bytes, pattern: re.Pattern[bytes], folded: str) -> bool:
    after_backslashes = raw.split(b"\\")[1:] if b"\\" in raw else []
    return (
        pattern.match(raw) is not None
        or _hfs_folded(raw) == folded
        or any(pattern.match(part) is not None for part in after_backslashes)
    )


def is_git_metadata(name: str) -> bool:
    """Whether some system takes `name` for `.git`: HFS+ and NTFS have other spellings."""
    return _is_alias(os.fsencode(name), _METADATA_NAME, ".git")


def refused_content(name: str, data: bytes, is_link: bool) -> str | None:
    """Why git's fsck would refuse a tree with this file, None when it would not."""
    raw = os.fsencode(name)
    if _is_alias(raw, _SPECIAL_NAMES["modules"], ".gitmodules"):
        return "a .gitmodules that is a link" if is_link else _refused_modules(data)
    if not is_link and _is_alias(raw, _SPECIAL_NAMES["attributes"], ".gitattributes"):
        too_long = any(len(line) >= 2048 for line in data.split(b"\n"))
        return "a .gitattributes with a line that git refuses" if too_long else None
    return None


def _refused_modules(data: bytes) -> str | None:
    try:
        for name, key, value in _config_values(data.decode("utf-8", "surrogateescape")):
            if name is not None and not _harmless_module(name, key, value):
                return "a .gitmodules that git refuses as dangerous"
    except ValueError:
        return "a .gitmodules that git can't parse"
    return None


def _harmless_module(name: str, key: str, value: str) -> bool:
    if not name or ".." in re.split(r"[/\\]", name):
        return False
    if key in ("url", "path") and value.startswith("-"):
        return False
    if key == "update":
        return not value.startswith("!")
    return key != "url" or _harmless_url(value)


def _harmless_url(url: str) -> bool:
    if "\n" in url or "%0a" in url.lower():
        return False
    if re.match(r"(?:\./|\.\./)", url):
        climbed = re.sub(r"\A(?:\./|\.\./)+", "", url)
        return not climbed.startswith((":", "/"))
    web = re.match(r"(?:https?|ftps?)(?:::|://)", url)
    return web is None or bool(
        re.fullmatch(
            r"(?:https?|ftps?)://(?:[\w.~%!$&'()*+,;=:-]*@)?[A-Za-z0-9._-]+(?::\d{1,4})?(?:[/?#](?:[^%\s]|%[0-9A-Fa-f]{2})*)?",
            url,
        )
    )


_SECTION = re.compile(r'\[\s*([A-Za-z0-9.-]+)\s*(?:"((?:[^"\\\n]|\\.)*)")?\s*\]')
_VARIABLE = re.compile(r"([A-Za-z][A-Za-z0-9-]*)[ \t]*")
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b", '"': '"', "\\": "\\"}


def _config_values(text: str) -> Iterator[tuple[str | None, str, str]]:
    """(submodule's name or None, key, value) of each setting in git's configuration syntax. Raises ValueError."""
    module: str | None = None
    at = 0
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text[at] in "#;":
            at = (text.find("\n", at) + 1) or len(text)
        elif section := _SECTION.match(text, at):
            head, quoted = section[1].lower(), section[2]
            dotted = head.removeprefix("submodule.") if head.startswith("submodule.") else None
            module = re.sub(r"\\(.)", r"\1", quoted) if head == "submodule" and quoted is not None else dotted
            at = section.end()
        elif variable := _VARIABLE.match(text, at):
            value, at = _config_value(text, variable.end())
            yield module, variable[1].lower(), value
        else:
            raise ValueError("not git configuration")


def _config_value(text: str, at: int) -> tuple[str, int]:
    if at >= len(text) or text[at] == "\n":
        return "", at
    if text[at] != "=":
        raise ValueError("a variable without `=`")
    out, quoted, kept, at = "", False, 0, at + 1
    while at < len(text) and text[at] != "\n":
        letter = text[at]
        if letter in "#;" and not quoted:
            at = text.find("\n", at) if "\n" in text[at:] else len(text)
            break
        if letter == "\\":
            following = text[at + 1 : at + 2]
            if following == "\n":
                at += 2
                continue
            out += _ESCAPES[following] if following in _ESCAPES else _bad_escape()
            kept, at = len(out), at + 2
            continue
        if letter == '"':
            quoted = not quoted
        elif quoted or not letter.isspace():
            out += letter
            kept = len(out)
        elif out:
            out += letter
        at += 1
    if quoted:
        raise ValueError("a quote without its end")
    return out[:kept], at


def _bad_escape() -> str:
    raise ValueError("an unknown escape")


# --- .gitignore, as git reads it ---


class _Pattern(NamedTuple):
    #: One expression a path component; None is `**`.
    parts: tuple[re.Pattern[bytes] | None, ...]
    by_name: bool
    folders_only: bool
    keeps: bool


class Rules:
    """The ignore rules in force in a folder: its own `.gitignore` over its parents'."""

    def __init__(self, content: bytes, depth: int, parent: Rules | None) -> None:
        self._patterns = _parse_ignore_file(content)
        self._depth = depth
        self._parent = parent

    def ignore(self, path: str, is_folder: bool) -> bool:
        """Whether `path` (from the workspace's top) is ignored by itself; its folder is taken not to be."""
        parts = os.fsencode(path).split(b"/")
        rules: Rules | None = self
        while rules is not None:
            below = parts[rules._depth :]
            for pattern in rules._patterns:
                if (is_folder or not pattern.folders_only) and _matches(pattern, below):
                    return not pattern.keeps
            rules = rules._parent
        return False


@functools.lru_cache(maxsize=512)
def _parse_ignore_file(content: bytes) -> tuple[_Pattern, ...]:
    """The patterns, last first: the last one that matches decides."""
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    patterns = [_parse_pattern(line.removesuffix(b"\r")) for line in lines]
    return tuple(pattern for pattern in reversed(patterns) if pattern is not None)


def _parse_pattern(line: bytes) -> _Pattern | None:
    # Not only spaces: an escaped one stays.
    line = re.sub(rb"\A((?:[^\\]|\\.)*?) +\Z", rb"\1", line, flags=re.DOTALL)
    if not line or line.startswith(b"#"):
        return None
    keeps = line.startswith(b"!")
    line = line.removeprefix(b"!")
    folders_only = line.endswith(b"/")
    line = line.removesuffix(b"/")
    by_name = b"/" not in line
    parts: list[re.Pattern[bytes] | None] = []
    for name in _components(line.removeprefix(b"/")):
        if name == b"**" and not by_name:
            parts.append(None)
            continue
        expression = _component(name)
        if expression is None:
            return None
        parts.append(expression)
    if parts[-1] is None:
        # A trailing `**` is everything inside, not the folder itself.
        parts.insert(-1, re.compile(rb"", re.DOTALL))
    return _Pattern(tuple(parts), by_name, folders_only, keeps)


def _components(line: bytes) -> list[bytes]:
    """Split at slashes, but not at those inside a `[...]`."""
    found, start, at = [], 0, 0
    while at < len(line):
        letter = line[at : at + 1]
        if letter == b"/" or line[at : at + 2] == b"\\/":
            found.append(line[start:at])
            start = at = at + (1 if letter == b"/" else 2)
        elif letter == b"[":
            parsed = _character_class(line, at + 1)
            at = at + 1 if parsed is None else parsed[1]
        else:
            at += 2 if letter == b"\\" else 1
    return [*found, line[start:]]


def _matches(pattern: _Pattern, names: list[bytes]) -> bool:
    parts = pattern.parts
    if pattern.by_name:
        first = parts[0]
        return first is not None and first.match(names[-1]) is not None
    # Going back to the last `**` alone is enough, as with a single star in a name.
    part = name = 0
    star, resume = -1, 0
    while name < len(names):
        expression = parts[part] if part < len(parts) else None
        if part < len(parts) and expression is None:
            star, resume, part = part, name, part + 1
        elif expression is not None and expression.match(names[name]) is not None:
            part, name = part + 1, name + 1
        elif star >= 0:
            resume += 1
            part, name = star + 1, resume
        else:
            return False
    return all(rest is None for rest in parts[part:])


@functools.lru_cache(maxsize=4096)
def _component(glob: bytes) -> re.Pattern[bytes] | None:
    """One path component's pattern; None when git takes it for malformed. Never backtracks more than once a star."""
    chunks: list[bytes] = [b""]
    at = 0
    while at < len(glob):
        letter = glob[at : at + 1]
        at += 1
        if letter == b"*":
            chunks.append(b"")
            continue
        if letter == b"?":
            chunks[-1] += b"."
        elif letter == b"[":
            parsed = _character_class(glob, at)
            if parsed is None:
                return None
            letters, at = parsed
            chunks[-1] += (
                b"[" + b"".join(b"\\x%02x" % letter for letter in sorted(letters)) + b"]" if letters else b"(?!)"
            )
        elif letter == b"\\":
            if at == len(glob):
                return None
            chunks[-1] += re.escape(glob[at : at + 1])
            at += 1
        else:
            chunks[-1] += re.escape(letter)
    if len(chunks) == 1:
        return re.compile(chunks[0] + rb"\Z", re.DOTALL)
    first, *middle, last = chunks
    # Atomic groups: the earliest place for a middle chunk is always right, so a hostile pattern can't explode.
    within = b"".join(b"(?>.*?" + chunk + b")" for chunk in middle if chunk)
    return re.compile(first + within + b".*" + last + rb"\Z", re.DOTALL)


_CLASSES: dict[bytes, Callable[[int], bool]] = {
    b"alnum": lambda c: chr(c).isalnum(),
    b"alpha": lambda c: chr(c).isalpha(),
    b"blank": lambda c: c in b" \t",
    b"cntrl": lambda c: c < 32 or c == 127,
    b"digit": lambda c: chr(c).isdigit(),
    b"graph": lambda c: 32 < c < 127,
    b"lower": lambda c: chr(c).islower(),
    b"print": lambda c: 32 <= c < 127,
    b"punct": lambda c: 32 < c < 127 and not chr(c).isalnum(),
    b"space": lambda c: c in b" \t\n\v\f\r",
    b"upper": lambda c: chr(c).isupper(),
    b"xdigit": lambda c: c in b"0123456789abcdefABCDEF",
}


def _character_class(glob: bytes, at: int) -> tuple[set[int], int] | None:
    """The bytes of a `[...]` whose inside starts at `at`, and where it ends; None when it is malformed."""
    inverted = glob[at : at + 1] in (b"!", b"^")
    at += inverted
    letters: set[int] = set()
    previous: int | None = None
    first = True
    while first or glob[at : at + 1] != b"]":
        first = False
        letter = glob[at : at + 1]
        if not letter:
            return None
        if (
            letter == b"["
            and glob[at + 1 : at + 2] == b":"
            and (end := glob.find(b"]", at + 2)) > 0
            and glob[end - 1 : end] == b":"
        ):
            test = _CLASSES.get(glob[at + 2 : end - 1])
            if test is None:
                return None
            letters.update(code for code in range(1, 128) if test(code))
            previous, at = None, end + 1
            continue
        ranged = letter == b"-" and previous is not None and glob[at + 1 : at + 2] not in (b"]", b"")
        at += ranged
        at += glob[at : at + 1] == b"\\"
        if at >= len(glob):
            return None
        code = glob[at]
        letters.update(range(previous, code + 1) if ranged and previous is not None else (code,))
        previous, at = (None if ranged else code), at + 1
    return (set(range(1, 256)) - letters if inverted else letters), at + 1


# --- what is known about files, so that an unchanged one is not read again ---

Stamp = tuple[int, int, int, int, int, int]


class Known(NamedTuple):
    """A file as it was when it was hashed. Racy: it may have changed since without a trace in its times."""

    stamp: Stamp
    entry: TreeEntry
    racy: bool


def stamp_of(found: os.stat_result) -> Stamp:
    """What changes whenever a file's content does."""
    return (found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class EvidenceCache:
    """Stamps and object ids of the workspace's files by folder, kept beside the repository. Rebuilt when unreadable."""

    VERSION = 1

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files: dict[str, dict[str, Known]] = {}

    def load(self, store: ObjectStore) -> None:
        """Read the file; one that is missing, damaged or of another version counts as empty."""
        try:
            checksum, _, body = self._path.read_bytes().partition(b"\n")
        except OSError:
            return
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            return
        content = json.loads(body)
        if content["version"] != self.VERSION:
            return
        for prefix, rows in content["files"].items():
            self.files[prefix] = {
                name: Known(tuple(row[:6]), TreeEntry(row[6], row[7]), row[8]) for name, row in rows.items()
            }
        for tree_id, rows in content["trees"].items():
            store.trees[tree_id] = {name: TreeEntry(*row) for name, row in rows.items()}

    def save(self, store: ObjectStore, root: str) -> None:
        """Write the file, with the trees under `root`. Not made durable: losing it costs one full read."""
        rows = {
            prefix: {name: [*known.stamp, *known.entry, known.racy] for name, known in files.items()}
            for prefix, files in self.files.items()
        }
        content = {"version": self.VERSION, "files": rows, "trees": _trees_under(store, root)}
        body = json.dumps(content, separators=(",", ":")).encode("ascii")
        with temporary_file(self._path.parent, f"{self._path.name}.") as (descriptor, temporary):
            write_all(descriptor, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            temporary.rename(self._path)


def _trees_under(store: ObjectStore, root: str) -> dict[str, Entries]:
    found: dict[str, Entries] = {}
    waiting = [root]
    while waiting:
        tree_id = waiting.pop()
        if tree_id in found or tree_id not in store.trees:
            continue
        found[tree_id] = store.trees[tree_id]
        waiting += [entry.id for entry in found[tree_id].values() if entry.mode == FOLDER]
    return found


def settled_before(folder: Path) -> int:
    """Nanoseconds of the file system's clock: a file that changed before can't change again with the same times."""
    with temporary_file(folder, "tmp_clock_") as (descriptor, temporary):
        now = os.fstat(descriptor).st_ctime_ns
        temporary.unlink()
    return now - (_GRANULARITY_NS if now % 1_000_000_000 else _COARSE_NS)


# --- the walk ---


class WalkLimits(NamedTuple):
    """What a snapshot takes at most."""

    file_bytes: int = MAX_FILE_BYTES
    depth: int = MAX_DEPTH
    #: That the base does not have.
    files: int = MAX_FILES


DEFAULT_LIMITS = WalkLimits()


class WalkResult(NamedTuple):
    """A walk's tree, the paths in which it differs from the base, and what was left out."""

    tree: str
    changed: tuple[str, ...]
    skipped: tuple[SkippedPath, ...]


class Walk:
    """One reading of a workspace against a base tree. Without a writer nothing is stored, only hashed."""

    def __init__(
        self,
        store: ObjectStore,
        known: dict[str, dict[str, Known]],
        settled: int,
        *,
        writer: ObjectWriter | None = None,
        limits: WalkLimits = DEFAULT_LIMITS,
        force: Collection[str] = (),
        excluded: Collection[tuple[int, int]] = (),
    ) -> None:
        self._store = store
        self._known = known
        self._settled = settled
        self._writer = writer
        self._limits = limits
        self._force = frozenset(force)
        self._force_folders = {path[:at] for path in self._force for at, letter in enumerate(path) if letter == "/"}
        self._excluded = excluded
        self._changed: set[str] = set()
        self._skipped: list[SkippedPath] = []
        self._ignored: list[SkippedPath] = []
        self._unnamed = 0
        self._unnamed_ignored = 0
        self._new = 0
        #: Every file that is in the tree; replaces what was known once the walk's objects are stored.
        self.files: dict[str, dict[str, Known]] = {}

    def run(self, work_dir: Path, base_tree: str) -> WalkResult:
        """Read the whole workspace. Raises OSError for what is no property of a single path."""
        descriptor = os.open(work_dir, _OPEN_FOLDER)
        try:
            tree = self._folder(descriptor, "", base_tree, None, False, 0)
        finally:
            os.close(descriptor)
        return WalkResult(tree or self._store_tree({}), tuple(sorted(map(shown, self._changed))), self._all_skipped())

    def _folder(
        self, descriptor: int, prefix: str, base_id: str | None, rules: Rules | None, hidden: bool, depth: int
    ) -> str | None:
        base = self._store.entries(base_id) if base_id else {}
        known = self._known.get(prefix, {})
        files: dict[str, Known] = {}
        entries: Entries = {}
        folders: list[os.DirEntry[str]] = []
        with os.scandir(descriptor) as listing:
            found = sorted(listing, key=attrgetter("name"))
        rules = self._rules_in(descriptor, found, depth, rules)
        for item in found:
            name = item.name
            try:
                status = item.stat(follow_symlinks=False)
            except OSError as error:
                self._skip_error(prefix + name, error)
                continue
            stamp = (
                status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns
            )  # fmt: skip
            held = known.get(name)
            if held is not None and held.stamp == stamp and not held.racy and name in base:
                files[name] = held
                entries[name] = held.entry
            elif not prefix and name == OWN_FOLDER:
                continue
            elif stat.S_ISDIR(status.st_mode):
                folders.append(item)
            else:
                ignored = name not in base and (hidden or (rules is not None and rules.ignore(prefix + name, False)))
                file = self._file(descriptor, prefix + name, status, held, base.get(name), ignored)
                if file is not None:
                    files[name] = file
                    entries[name] = file.entry
        self.files[prefix] = files
        if not prefix and OWN_FOLDER in base:
            entries[OWN_FOLDER] = base[OWN_FOLDER]
        walked = {
            item.name
            for item in folders
            if self._subfolder(descriptor, item, prefix, base, entries, rules, hidden, depth)
        }
        if entries == base:
            return base_id
        self._note_changes(prefix, base, entries, walked)
        return self._store_tree(entries) if entries else None

    def _subfolder(
        self,
        parent: int,
        item: os.DirEntry[str],
        prefix: str,
        base: Entries,
        entries: Entries,
        rules: Rules | None,
        hidden: bool,
        depth: int,
    ) -> bool:
        """Add a folder to `entries`; whether it was walked."""
        name, path = item.name, prefix + item.name
        was = base.get(name)
        if was is not None and was.mode == GITLINK:
            entries[name] = was
            self._skip(path, "a submodule: its content is not evidence")
            return False
        tracked = was is not None and was.mode == FOLDER
        hidden = hidden or (rules is not None and rules.ignore(path, True))
        why = self._folder_refused(item, depth)
        if why is None and hidden and not tracked and path not in self._force_folders:
            why = IGNORED
        if why is not None:
            self._skip(path, why)
            return False
        try:
            descriptor = os.open(name, _OPEN_FOLDER, dir_fd=parent)
        except OSError as error:
            self._skip_error(path, error)
            return False
        try:
            tree = self._folder(descriptor, f"{path}/", was.id if was and tracked else None, rules, hidden, depth + 1)
        finally:
            os.close(descriptor)
        if tree is not None:
            entries[name] = TreeEntry(FOLDER, tree)
        return True

    def _folder_refused(self, item: os.DirEntry[str], depth: int) -> str | None:
        if is_git_metadata(item.name):
            return METADATA
        if depth + 1 > self._limits.depth:
            return f"deeper than {self._limits.depth} folders"
        if self._excluded:
            status = item.stat(follow_symlinks=False)
            if (status.st_dev, status.st_ino) in self._excluded:
                return "the job's own folder"
        return None

    def _file(
        self,
        folder: int,
        path: str,
        status: os.stat_result,
        held: Known | None,
        was: TreeEntry | None,
        ignored: bool,
    ) -> Known | None:
        name = path.rpartition("/")[2]
        why = self._file_refused(path, name, ignored, is_new=was is None)
        if why is not None:
            self._skip(path, why)
            return None
        if held is not None and not held.racy and held.stamp == stamp_of(status):
            return held
        try:
            return self._read(folder, name, path, status, was)
        except OSError as error:
            self._skip_error(path, error)
            return None

    def _file_refused(self, path: str, name: str, ignored: bool, *, is_new: bool) -> str | None:
        if is_git_metadata(name):
            return METADATA
        if ignored and path not in self._force:
            return IGNORED
        if len(os.fsencode(path)) > MAX_PATH:
            return f"its path is longer than {MAX_PATH} bytes"
        if is_new and self._new >= self._limits.files:
            return f"more than {self._limits.files} new files"
        self._new += is_new
        return None

    def _read(self, folder: int, name: str, path: str, status: os.stat_result, was: TreeEntry | None) -> Known | None:
        if stat.S_ISLNK(status.st_mode):
            link = os.fsencode(os.readlink(name, dir_fd=folder))
            read: _Read | str = _Read(link, stamp_of(status), False)
        elif stat.S_ISREG(status.st_mode):
            read = read_regular(folder, name, self._limits.file_bytes)
        else:
            read = NOT_REGULAR
        if not isinstance(read, str):
            refused = refused_content(name, read.data, stat.S_ISLNK(status.st_mode))
            read = refused or read
        if isinstance(read, str):
            if was is not None and _is_large_as_before(folder, name, status, was, self._limits.file_bytes):
                stamp = stamp_of(status)
                return Known(stamp, was, stamp[5] >= self._settled)
            self._skip(path, read)
            return None
        object_id = self._writer.add("blob", read.data) if self._writer else hash_object("blob", read.data)
        racy = not read.steady or read.stamp[5] >= self._settled
        return Known(read.stamp, TreeEntry(_git_mode(read.stamp[2]), object_id), racy)

    def _rules_in(self, folder: int, found: list[os.DirEntry[str]], depth: int, outer: Rules | None) -> Rules | None:
        if not any(item.name == ".gitignore" for item in found):
            return outer
        try:
            read = read_regular(folder, ".gitignore", self._limits.file_bytes)
        except OSError as error:
            if error.errno not in _SKIPPABLE:
                raise
            return outer
        return outer if isinstance(read, str) else Rules(read.data, depth, outer)

    def _note_changes(self, prefix: str, base: Entries, entries: Entries, walked: set[str]) -> None:
        for name in base.keys() | entries.keys():
            was, now = base.get(name), entries.get(name)
            if was == now:
                continue
            path = prefix + name
            if now is not None and now.mode != FOLDER:
                self._changed.add(path)
            if was is None:
                continue
            if was.mode != FOLDER:
                self._changed.add(path)
            elif name not in walked:
                self._changed.update(gone for gone, _ in self._store.files(was.id, f"{path}/"))

    def _store_tree(self, entries: Entries) -> str:
        data = encode_tree(entries)
        if self._writer is None:
            return hash_object("tree", data)
        tree_id = self._writer.add("tree", data)
        self._store.trees[tree_id] = entries
        return tree_id

    def _skip_error(self, path: str, error: OSError) -> None:
        # EINVAL: a link that was replaced before it was read. Anything else is the machine's trouble, not the path's.
        if error.errno == errno.EINVAL:
            self._skip(path, "changed while it was read")
        elif error.errno in _SKIPPABLE:
            self._skip(path, f"can't be read: {os.strerror(error.errno).lower()}")
        else:
            raise error

    def _skip(self, path: str, why: str) -> None:
        if why == IGNORED:
            if len(self._ignored) < MAX_NAMED:
                self._ignored.append(SkippedPath(shown(path), why))
            else:
                self._unnamed_ignored += 1
        elif len(self._skipped) < MAX_NAMED:
            self._skipped.append(SkippedPath(shown(path), why))
        else:
            self._unnamed += 1

    def _all_skipped(self) -> tuple[SkippedPath, ...]:
        rest = []
        if self._unnamed:
            rest.append(SkippedPath("...", f"... and {self._unnamed} more"))
        if self._unnamed_ignored:
            rest.append(SkippedPath("...", f"... and {self._unnamed_ignored} more {IGNORED}"))
        return tuple(sorted(self._skipped + self._ignored)) + tuple(rest)


def _is_large_as_before(folder: int, name: str, status: os.stat_result, was: TreeEntry, limit: int) -> bool:
    """Whether a file beyond the limit, which the base may well hold, is what the base has; never kept in memory."""
    if status.st_size <= limit or not stat.S_ISREG(status.st_mode) or was.mode != _git_mode(status.st_mode):
        return False
    digest = hashlib.sha1(f"blob {status.st_size}\0".encode(), usedforsecurity=False)
    descriptor = os.open(name, _OPEN_FILE, dir_fd=folder)
    try:
        while part := os.read(descriptor, 1 << 20):
            digest.update(part)
    finally:
        os.close(descriptor)
    return digest.hexdigest() == was.id


def _git_mode(mode: int) -> int:
    if stat.S_ISLNK(mode):
        return SYMLINK
    return EXECUTABLE if mode & 0o100 else FILE


class _Read(NamedTuple):
    data: bytes
    stamp: Stamp
    #: It did not change while it was read.
    steady: bool


def read_regular(folder: int, name: str, limit: int) -> _Read | str:
    """A regular file's content, read without following a link and without blocking; or why not. Raises OSError."""
    descriptor = os.open(name, _OPEN_FILE, dir_fd=folder)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            return NOT_REGULAR
        parts = []
        left = limit + 1 if before.st_size <= limit else 0
        while left and (part := os.read(descriptor, min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
        if not left:
            return f"larger than {limit} bytes"
        return _Read(b"".join(parts), stamp_of(before), stamp_of(before) == stamp_of(os.fstat(descriptor)))
    finally:
        os.close(descriptor)


# --- restoring ---


class _Write(NamedTuple):
    path: str
    entry: TreeEntry


class Restorer:
    """Makes a workspace's content equal a tree. Nothing is written through a link; ignored files stay."""

    def __init__(
        self, store: ObjectStore, known: dict[str, dict[str, Known]], scratch: Path, limits: WalkLimits
    ) -> None:
        self._store = store
        self._known = known
        self._scratch = scratch
        self._trash = scratch / "trash"
        self._staged = scratch / "staged"
        self._limits = limits
        self._placed: list[tuple[str, str, Stamp, TreeEntry]] = []
        self._thrown = 0
        self._touched: set[str] = set()
        self._writes: list[_Write] = []

    def run(self, work_dir: Path, tree: str, stage: Callable[[list[TreeEntry], Path], None]) -> tuple[str, ...]:
        """Restore; the touched paths. `stage(entries, folder)` writes their contents to folder/0, folder/1, ..."""
        self._trash.mkdir()
        self._staged.mkdir()
        work_dir.mkdir(exist_ok=True)
        root = os.open(work_dir, _OPEN_FOLDER)
        try:
            self._folder(root, "", tree, None, False, 0)
            contents = [write.entry for write in self._writes if write.entry.mode != GITLINK]
            if contents:
                stage(contents, self._staged)
            self._place(root)
        finally:
            os.close(root)
        self._remember_placed()
        empty_folder(self._trash)
        return tuple(sorted(map(shown, self._touched)))

    def _folder(self, folder: int, prefix: str, tree: str, rules: Rules | None, hidden: bool, depth: int) -> None:
        entries = self._store.entries(tree)
        ignore_file = entries.get(".gitignore")
        if ignore_file is not None and ignore_file.mode in (FILE, EXECUTABLE):
            # The tree's rules, not the workspace's: an agent's new `*` must not save what it left.
            rules = Rules(self._store.read(ignore_file.id)[1], depth, rules)
        present = {OWN_FOLDER} if not prefix else set()
        for name, status in _listed(folder):
            if name in present:
                continue
            target = entries.get(name)
            if target is None:
                self._clear(folder, prefix + name, status, rules, hidden, depth)
            elif self._stays(folder, prefix, name, status, target, rules, hidden, depth):
                present.add(name)
            else:
                self._remove(folder, prefix + name, status)
        for name, entry in entries.items():
            if name not in present:
                self._want(prefix + name, entry)

    def _stays(
        self, folder: int, prefix: str, name: str, status: os.stat_result, target: TreeEntry, rules: Rules | None,
        hidden: bool, depth: int,
    ) -> bool:  # fmt: skip
        is_folder = stat.S_ISDIR(status.st_mode)
        if target.mode not in (FOLDER, GITLINK):
            return not is_folder and self._same(folder, prefix, name, status, target)
        if not is_folder:
            return False
        path = prefix + name
        with self._opened(folder, name) as inner:
            if target.mode == GITLINK:
                for inside, found in _listed(inner):
                    self._remove(inner, f"{path}/{inside}", found)
            else:
                inner_hidden = hidden or (rules is not None and rules.ignore(path, True))
                self._folder(inner, f"{path}/", target.id, rules, inner_hidden, depth + 1)
        return True

    def _clear(
        self, folder: int, path: str, status: os.stat_result, rules: Rules | None, hidden: bool, depth: int
    ) -> bool:
        """Remove something that is not in the tree, except for what is ignored; whether it is gone."""
        is_folder = stat.S_ISDIR(status.st_mode)
        if hidden or (rules is not None and rules.ignore(path, is_folder)):
            return False
        name = path.rpartition("/")[2]
        if is_folder and rules is not None and depth < self._limits.depth and not is_git_metadata(name):
            with self._opened(folder, name) as inner:
                gone = [
                    self._clear(inner, f"{path}/{inside}", found, rules, False, depth + 1)
                    for inside, found in _listed(inner)
                ]
            if not all(gone):
                return False
        self._remove(folder, path, status)
        return True

    def _same(self, folder: int, prefix: str, name: str, status: os.stat_result, target: TreeEntry) -> bool:
        held = self._known.get(prefix, {}).get(name)
        if held is not None and not held.racy and held.stamp == stamp_of(status):
            return held.entry == target
        if stat.S_ISLNK(status.st_mode):
            link = os.fsencode(os.readlink(name, dir_fd=folder))
            return target == (SYMLINK, hash_object("blob", link))
        if not stat.S_ISREG(status.st_mode):
            return False
        try:
            read = read_regular(folder, name, self._limits.file_bytes)
        except PermissionError:
            return False
        if isinstance(read, str):
            return _is_large_as_before(folder, name, status, target, self._limits.file_bytes)
        return target == (_git_mode(status.st_mode), hash_object("blob", read.data))

    def _want(self, path: str, entry: TreeEntry) -> None:
        if entry.mode == FOLDER:
            self._writes += [_Write(inner, found) for inner, found in self._store.files(entry.id, f"{path}/")]
        else:
            self._writes.append(_Write(path, entry))

    def _remove(self, folder: int, path: str, status: os.stat_result) -> None:
        """Take something out of the workspace; a folder goes to the trash in one move, however deep it is."""
        name = path.rpartition("/")[2]
        self._touched.add(path)
        if not stat.S_ISDIR(status.st_mode):
            _writable(folder, lambda: os.unlink(name, dir_fd=folder))
            return
        # Moving a folder changes its `..`, so it must be writable itself.
        os.chmod(name, 0o700, dir_fd=folder)
        self._thrown += 1
        target = self._trash / str(self._thrown)
        _writable(folder, lambda: os.rename(name, target, src_dir_fd=folder))

    @contextmanager
    def _opened(self, parent: int, name: str) -> Iterator[int]:
        try:
            descriptor = os.open(name, _OPEN_FOLDER, dir_fd=parent)
        except PermissionError:
            os.chmod(name, 0o700, dir_fd=parent)
            descriptor = os.open(name, _OPEN_FOLDER, dir_fd=parent)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _place(self, root: int) -> None:
        staged = 0
        here, descriptor = "", os.dup(root)
        try:
            for path, entry in self._writes:
                _check_safe(path)
                folder, _, name = path.rpartition("/")
                if folder != here:
                    os.close(descriptor)
                    descriptor = -1
                    descriptor, here = _open_path(root, folder), folder
                self._touched.add(path)
                if entry.mode == GITLINK:
                    os.mkdir(name, dir_fd=descriptor)
                    continue
                self._put(descriptor, name, self._staged / str(staged), entry)
                staged += 1
                stamp = stamp_of(os.stat(name, dir_fd=descriptor, follow_symlinks=False))
                self._placed.append((f"{folder}/" if folder else "", name, stamp, entry))
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _put(self, folder: int, name: str, staged: Path, entry: TreeEntry) -> None:
        if entry.mode == SYMLINK:
            target = staged.read_bytes()
            _writable(folder, lambda: os.symlink(target, os.fsencode(name), dir_fd=folder))
        else:
            _writable(folder, lambda: os.rename(staged, name, dst_dir_fd=folder))

    def _remember_placed(self) -> None:
        # The clock is read after the writing: only what changes from here on must show in the times.
        settled = settled_before(self._scratch)
        for prefix, name, stamp, entry in self._placed:
            self._known.setdefault(prefix, {})[name] = Known(stamp, entry, stamp[5] >= settled)


def _listed(folder: int) -> list[tuple[str, os.stat_result]]:
    with os.scandir(folder) as listing:
        return [(item.name, item.stat(follow_symlinks=False)) for item in sorted(listing, key=attrgetter("name"))]


def _writable(folder: int, action: Callable[[], object]) -> None:
    """Do something in a folder; one that an agent made read-only is made writable first."""
    try:
        action()
    except PermissionError:
        os.fchmod(folder, stat.S_IMODE(os.fstat(folder).st_mode) | 0o700)
        action()


def _check_safe(path: str) -> None:
    if any(part in ("", ".", "..") or is_git_metadata(part) for part in path.split("/")):
        raise WorkspaceFailed(
            f"The tree holds the path {shown(path)!r}, which is not safe to write.", "Choose another commit."
        )


def _open_path(root: int, path: str) -> int:
    """Open a folder below `root` without following links, making what is missing."""
    descriptor = os.dup(root)
    for name in path.split("/") if path else []:
        outer = descriptor
        try:
            with suppress(FileExistsError):
                _writable(outer, functools.partial(os.mkdir, name, dir_fd=outer))
            descriptor = os.open(name, _OPEN_FOLDER, dir_fd=outer)
        finally:
            os.close(outer)
    return descriptor


def empty_folder(folder: Path) -> None:
    """Remove a folder's content without recursion: folders below are moved up until none has folders in it."""
    count = 0
    while paths := list(folder.iterdir()):
        for path in paths:
            if path.is_symlink() or not path.is_dir():
                path.unlink()
                continue
            path.chmod(0o700)
            for inner in list(path.iterdir()):
                if inner.is_symlink() or not inner.is_dir():
                    inner.unlink()
                    continue
                inner.chmod(0o700)
                count += 1
                inner.rename(folder / f"up-{count}")
            path.rmdir()


def check_evidence_path(work_dir: Path, name: str) -> str | None:
    """What is wrong with a file that an agent names as evidence, as a sentence; None when nothing is. Never blocks."""
    parts = name.split("/")
    if not name or name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "It must be a path relative to the workspace, without `.` or `..`."
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return "It has control characters in its name."
    if parts[0] == OWN_FOLDER:
        return f"It is in {OWN_FOLDER}, which is Logist's own."
    try:
        if any(is_git_metadata(part) for part in parts):
            return "It is git metadata."
        return _check_opened(work_dir, parts)
    except UnicodeEncodeError:
        return "It has characters in its name that no file can have."
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "It is behind a link."
        return f"It can't be read: {(error.strerror or 'unknown error').lower()}."


def _check_opened(work_dir: Path, parts: list[str]) -> str | None:
    descriptor = os.open(work_dir, _OPEN_FOLDER)
    try:
        for part in parts[:-1]:
            if stat.S_ISLNK(os.stat(part, dir_fd=descriptor, follow_symlinks=False).st_mode):
                return "It is behind a link."
            outer = descriptor
            descriptor = os.open(part, _OPEN_FOLDER, dir_fd=outer)
            os.close(outer)
        status = os.stat(parts[-1], dir_fd=descriptor, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return "It is a link."
        if not stat.S_ISREG(status.st_mode):
            return "It is not a regular file."
        os.close(os.open(parts[-1], _OPEN_FILE, dir_fd=descriptor))
    finally:
        os.close(descriptor)
    return None
