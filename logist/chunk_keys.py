"""What a chunk depends on, as one key: its command, its range, and the content of its inputs.

Inputs are the files that the command line names, and what `inputs` of the spec or the chunk lists. Of a page that is
rendered they are also the files that it refers to, as far as its text tells.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from logist.chunks import Output
from logist.command_lines import input_words, page_of
from logist.specs import RenderChunk, RenderSpec

#: Bytes: a bigger file is known by its size and time, not by its content.
_LARGE = 256_000_000
#: Bytes of a page's text that are searched, and how many files of it are followed.
_LONGEST_TEXT = 4_000_000
_MOST_FILES = 5_000
_TEXTS = frozenset({".html", ".htm", ".xhtml", ".svg", ".css", ".js", ".mjs", ".cjs", ".ts", ".json", ".webmanifest"})
#: What may be a reference: the text in quotes or in url().
_REFERENCE = re.compile(r"""["'`]([^"'`\n\\<>]{1,400})["'`]|url\(\s*([^"'()\s]{1,400})\s*\)""")


class ChunkKeys:
    """The keys of one spec's chunks. A file is read again only when it was written since."""

    def __init__(self, spec: RenderSpec, job_dir: Path) -> None:
        self._spec = spec
        self._job_dir = os.path.normpath(job_dir)
        self._digests: dict[str, tuple[tuple[int, ...], str]] = {}
        self._pages: dict[str, tuple[str, ...]] = {}
        self._made = {self._place(chunk.output_file) for chunk in spec.chunks if chunk.output_file}
        if spec.merged_output:
            self._made.add(self._place(spec.merged_output))

    def of_chunk(self, chunk: RenderChunk, own: Collection[str] = ()) -> str:
        """The key of a chunk now. What the spec makes is no input, nor are the files `own`, which its command makes."""
        return self.with_inputs(chunk, {name: digest for name, digest in self.inputs(chunk).items() if name not in own})

    def with_inputs(self, chunk: RenderChunk, inputs: Mapping[str, str]) -> str:
        """The key of a chunk that reads these."""
        size = self._spec.metadata
        content = [
            chunk.command,
            chunk.start_frame,
            chunk.frame_count,
            chunk.output_file,
            (size.width, size.height, float(size.fps)),
            list(inputs.items()),
        ]
        return _hash(content)

    def inputs(self, chunk: RenderChunk) -> dict[str, str]:
        """The inputs that are there now: their names from the job's folder, in order, and their content's hashes."""
        places = [self._place(word) for word in (*input_words(chunk.command), *self._spec.inputs, *chunk.inputs)]
        page = page_of(chunk.command)
        if page is not None:
            places += self._page_files(self._page_place(page))
        return self._known(places, (*self._spec.inputs, *chunk.inputs))

    def of_merge(self, parts: Iterable[tuple[str, Output | None]]) -> str:
        """The key of the merge: its command and what that reads, and of each chunk its key and its output."""
        words = (*input_words(self._spec.merge_command), *self._spec.inputs)
        content = [
            self._spec.merge_command,
            self._spec.output,
            self._known(map(self._place, words), self._spec.inputs),
            [(key, output and output.sha256) for key, output in parts],
        ]
        return _hash(content)

    def _known(self, places: Iterable[str], listed: Iterable[str]) -> dict[str, str]:
        """The hashes of those that are there and not made by the spec, by their names from the job's folder."""
        folders = {self._place(name) for name in listed}
        found = {}
        for place in sorted(set(places) - self._made):
            digest = self._digest(place, with_folder=place in folders)
            if digest:
                found[os.path.relpath(place, self._job_dir)] = digest
        return found

    def _place(self, name: str) -> str:
        return os.path.normpath(os.path.join(self._job_dir, name))  # noqa: PTH118 - thousands of words

    def _page_place(self, page: str) -> str:
        """The file that the page's name stands for: of a folder its index, of a file: URL what that says."""
        if page.startswith("file://"):
            # Only needed here, and slow to import.
            from urllib.parse import unquote, urlsplit

            page = unquote(urlsplit(page).path, errors="surrogateescape")
        place = self._place(page)
        return f"{place}/index.html" if os.path.isdir(place) else place  # noqa: PTH112

    def _page_files(self, page: str) -> tuple[str, ...]:
        if page not in self._pages:
            self._pages[page] = tuple(_files_of_page(page))
        return self._pages[page]

    def _digest(self, path: str, *, with_folder: bool) -> str:
        """Of a file its content's hash, of a folder that is listed its files'; empty for what is not there."""
        try:
            status = os.stat(path)  # noqa: PTH116 - called for every word of every command
        except (OSError, ValueError):
            # No file, or a word that can't be the name of one.
            return ""
        if stat.S_ISDIR(status.st_mode):
            return _digest_of_folder(path) if with_folder else ""
        identity = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._digests.get(path)
        if known is None or known[0] != identity:
            known = self._digests[path] = (identity, _digest_of_file(path, status))
        return known[1]


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _digest_of_file(path: str, status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGE:
        return f"{status.st_size} {status.st_mtime_ns}"
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _digest_of_folder(folder: str) -> str:
    found = []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)  # noqa: PTH118
            try:
                found.append((os.path.relpath(path, folder), _digest_of_file(path, os.stat(path))))  # noqa: PTH116
            except OSError:
                found.append((os.path.relpath(path, folder), ""))
    return _hash(found)


def _files_of_page(page: str) -> Iterator[str]:
    """The page and what it refers to, and what that refers to."""
    if not os.path.isfile(page):  # noqa: PTH113
        return
    found = [page]
    seen = {page}
    for path in found:
        yield path
        for reference in _references(path):
            base = os.path.dirname(page) if reference.startswith("/") else os.path.dirname(path)  # noqa: PTH120
            target = os.path.normpath(f"{base}/{reference.lstrip('/')}")
            if target not in seen and len(found) < _MOST_FILES and os.path.isfile(target):  # noqa: PTH113
                seen.add(target)
                found.append(target)


def _references(path: str) -> Iterator[str]:
    if os.path.splitext(path)[1].lower() not in _TEXTS:  # noqa: PTH122
        return
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            text = file.read(_LONGEST_TEXT).decode("utf-8", "replace")
    except OSError:
        return
    for match in _REFERENCE.finditer(text):
        reference = re.split(r"[?#]", match[1] or match[2] or "", maxsplit=1)[0]
        if reference and "\0" not in reference and "://" not in reference:
            yield reference
