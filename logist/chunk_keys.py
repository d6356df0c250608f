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
from collections.abc import Iterable, Iterator
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
    """The keys of one spec's chunks. Looks at each file once; make a new one for a new look."""

    def __init__(self, spec: RenderSpec, job_dir: Path) -> None:
        self._spec = spec
        self._job_dir = job_dir
        self._digests: dict[str, str] = {}
        self._pages: dict[str, tuple[str, ...]] = {}
        merged = spec.merged_output
        self._made = {os.path.normpath(job_dir / chunk.output_file) for chunk in spec.chunks if chunk.output_file}
        if merged:
            self._made.add(os.path.normpath(job_dir / merged))

    def of_chunk(self, chunk: RenderChunk) -> str:
        """The key of a chunk. A file that is made while the run goes on is no input."""
        size = self._spec.metadata
        inputs = sorted({path for path in self._inputs(chunk) if path not in self._made})
        content = [
            chunk.command,
            chunk.start_frame,
            chunk.frame_count,
            chunk.output_file,
            (size.width, size.height, size.fps),
            [(path, digest) for path in inputs if (digest := self._digest(path))],
        ]
        return _hash(content)

    def of_merge(self, outputs: Iterable[Output | None]) -> str:
        """The key of the merge: its command and what is merged."""
        return _hash([self._spec.merge_command, self._spec.output, [output and output.sha256 for output in outputs]])

    def _inputs(self, chunk: RenderChunk) -> Iterator[str]:
        for word in (*input_words(chunk.command), *self._spec.inputs, *chunk.inputs):
            yield os.path.normpath(self._job_dir / word)
        page = page_of(chunk.command)
        if page is not None:
            yield from self._page_files(os.path.normpath(self._job_dir / page))

    def _page_files(self, page: str) -> tuple[str, ...]:
        if page not in self._pages:
            self._pages[page] = tuple(_files_of_page(page))
        return self._pages[page]

    def _digest(self, path: str) -> str:
        """Of a file its content's hash, of a folder its files'; empty for what is not there."""
        if path not in self._digests:
            self._digests[path] = _digest(path)
        return self._digests[path]


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest(path: str) -> str:
    try:
        status = os.stat(path)  # noqa: PTH116 - called for every word of every command
        if stat.S_ISDIR(status.st_mode):
            return ""
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGE:
            return f"{status.st_size} {status.st_mtime_ns}"
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        # No file, or a word that can't be the name of one.
        return ""


def _files_of_page(page: str) -> Iterator[str]:
    """The page and what it refers to, and what that refers to."""
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
