"""What a job's files are called, where they are, and what the manifest says before it gets types."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from logist.durable import Document, make_durable_folder, replace_file, storage_failed, to_json
from logist.errors import InvalidFile, JobNotFound, UsageProblem

#: The same as in `models.manifest`, which is too slow to import here; a test keeps them equal.
SCHEMA_VERSION = 1
JOB_ID_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"
INDEX_NAME = "jobs_index.json"


# --- Names and places ----------------------------------------------------------------------------------------------


class JobPaths(NamedTuple):
    """Every file name of one job. `root` is the job's folder."""

    root: Path

    @property
    def manifest(self) -> Path:
        """The job's present."""
        return self.root / "job_manifest.json"

    @property
    def manifest_before_repair(self) -> Path:
        """What a repair replaced."""
        return self.root / "job_manifest.json.before-repair"

    @property
    def history(self) -> Path:
        """The job's past, one record a line."""
        return self.root / "history.jsonl"

    @property
    def lease(self) -> Path:
        """Locked for the life of a run; never unlinked."""
        return self.root / "lease"

    @property
    def requests(self) -> Path:
        """What other processes ask of the runner."""
        return self.root / "requests"

    @property
    def repo(self) -> Path:
        """The bare evidence repository."""
        return self.root / "repo.git"

    @property
    def workspace(self) -> Path:
        """What the worker sees and changes."""
        return self.root / "workspace"

    @property
    def steps(self) -> Path:
        """Prompts, logs and replies, a folder an attempt."""
        return self.root / "steps"

    def chunk_state(self, spec: str, line: int) -> Path:
        """The state of a render's chunks: by the spec's path in the workspace; a rerun begins with none."""
        return self.root / ("chunks" if line == 1 else f"chunks.{line}") / spec

    def step_dir(self, step: int, role: str, attempt: int) -> Path:
        """The folder of one attempt at a step: `steps/0001-worker`, the second attempt's `steps/0001-worker.2`."""
        suffix = "" if attempt <= 1 else f".{attempt}"
        return self.steps / f"{step:04d}-{role}{suffix}"


def check_job_id(text: str) -> str:
    """Give `text` back when it is a valid job id. Raises UsageProblem."""
    valid = re.fullmatch(JOB_ID_PATTERN, text) is not None
    # A job id is part of a branch name, where git allows neither ".." nor these endings.
    if not valid or ".." in text or text.endswith((".lock", ".")) or text == INDEX_NAME:
        raise UsageProblem(
            f"{text!r} is not a valid job id",
            "use 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit, "
            "without '..' and not ending in '.' or '.lock'",
        )
    return text


def _is_job_id(text: str) -> bool:
    try:
        check_job_id(text)
    except UsageProblem:
        return False
    return True


def find_jobs_dir(explicit: str | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """The jobs folder, which need not exist: the option, LOGIST_JOBS_DIR, the nearest `.logist/jobs` upwards, or where
    it would be made: at the git root, else in `cwd`."""
    named = explicit or environ.get("LOGIST_JOBS_DIR")
    if named:
        return cwd / named
    upwards = (cwd, *cwd.parents)
    for folder in upwards:
        # Not Path.is_dir: a parent folder that must not be looked into is no error.
        if os.path.isdir(folder / ".logist" / "jobs"):  # noqa: PTH112
            return folder / ".logist" / "jobs"
    git_root = next((folder for folder in upwards if is_git(f"{folder}/.git")), cwd)
    return git_root / ".logist" / "jobs"


def is_git(place: str) -> bool:
    """Whether `place` is what git takes for a repository: a file that leads to one, or a folder with a HEAD in it."""
    return os.path.isfile(place) or os.path.exists(os.path.join(place, "HEAD"))  # noqa: PTH110, PTH113, PTH118


def ensure_jobs_dir(jobs_dir: Path) -> None:
    """Make the jobs folder; a `.logist` above it gets a `.gitignore` that ignores everything. Raises StorageFailed."""
    missing = [folder for folder in (jobs_dir, *jobs_dir.parents) if not folder.exists()]
    for folder in reversed(missing):
        make_durable_folder(folder)
    if not jobs_dir.is_dir():
        raise UsageProblem(f"{jobs_dir} is not a folder", "name another jobs folder with --jobs-dir or LOGIST_JOBS_DIR")
    ignore = jobs_dir.parent / ".gitignore"
    if jobs_dir.parent.name == ".logist" and not ignore.exists():
        replace_file(ignore, b"*\n")


def job_ids(jobs_dir: Path) -> tuple[str, ...]:
    """The ids of all jobs, sorted; none when the folder does not exist. Raises StorageFailed."""
    try:
        with os.scandir(jobs_dir) as entries:
            names = [
                entry.name
                for entry in entries
                if _is_job_id(entry.name) and (is_job(JobPaths(Path(entry.path))) or _is_shut(entry))
            ]
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise storage_failed("list", jobs_dir, error) from error
    return tuple(sorted(names))


def _is_shut(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder that can't be looked into: a job for all we know, and nothing to pass over in silence."""
    try:
        os.stat(f"{entry.path}/.")  # noqa: PTH116  # Path would take the dot away, and it is what needs the permission.
    except OSError as error:
        return isinstance(error, PermissionError) and entry.is_dir(follow_symlinks=False)
    return False


def is_job(paths: JobPaths) -> bool:
    """Whether a job is there, sound or not."""
    # Unlike Path.exists, this is False, not an error, for a name that is too long or must not be looked at.
    return os.path.exists(paths.manifest) or os.path.exists(paths.history)  # noqa: PTH110


def find_job(jobs_dir: Path, text: str) -> str:
    """The job that `text` means: an id, the beginning of just one id, or the path of a job's folder.

    Raises JobNotFound, with similar ids in the hint; UsageProblem when several ids begin so.
    """
    if _is_job_id(text) and is_job(JobPaths(jobs_dir / text)):
        return text
    ids = job_ids(jobs_dir)
    matches = [job_id for job_id in ids if text and job_id.startswith(text)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UsageProblem(f"{text!r} is the beginning of {len(matches)} job ids", f"one of: {_listed(matches)}")
    return _find_by_path(jobs_dir, text, ids)


def _find_by_path(jobs_dir: Path, text: str, ids: tuple[str, ...]) -> str:
    is_path = ("/" in text or text in (".", "..")) and "\0" not in text
    folder = Path(os.path.realpath(text)) if is_path else None
    if folder is None or not is_job(JobPaths(folder)):
        raise JobNotFound(f"there is no job {text!r} in {jobs_dir}", _similar(text, ids))
    if (spec := spec_of_state(folder)) is not None:
        # Imported here: only messages need it.
        from logist.chunk_selection import shell_word

        name = shell_word(spec)
        raise JobNotFound(f"{text} is no job but the state of the spec {name}", f"name it: logist job status {name}")
    if folder.parent != Path(os.path.realpath(jobs_dir)) or not _is_job_id(folder.name):
        raise JobNotFound(f"{folder} is a job of another jobs folder", f"add --jobs-dir {folder.parent}")
    return folder.name


def spec_of_state(root: Path) -> str | None:
    """The path of the spec whose state is in the folder `root`, as it is shortest here; None for a job's folder."""
    from logist.chunk_selection import nearby

    # By its place and its folder of logs, so that it is known before there is a manifest, and when that is damaged.
    if root.parent.name != ".logist" or not os.path.isdir(root / "chunks"):  # noqa: PTH112
        return None
    return nearby(root.parent.parent / ("jobs" if root.name == "jobs.spec" else root.name))


def _similar(text: str, ids: tuple[str, ...]) -> str:
    if not ids:
        return "there are no jobs yet: `logist job create` makes one"
    # Slow to import, and only needed to help.
    from difflib import get_close_matches

    near = [job_id for job_id in ids if text and text in job_id] or get_close_matches(text, ids, n=5, cutoff=0.5)
    return f"did you mean {_listed(near)}?" if near else "`logist job list` shows all jobs"


def _listed(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")


# --- The manifest, untyped -----------------------------------------------------------------------------------------


def read_manifest_bytes(paths: JobPaths) -> bytes:
    """The manifest file's content. Raises JobNotFound when the job is gone, InvalidFile when just this file is."""
    try:
        # Without waiting: one that somebody made a pipe would never come to its end.
        with os.fdopen(os.open(paths.manifest, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        if is_job(paths):
            raise invalid_manifest(paths, "is missing") from error
        raise JobNotFound(
            f"there is no job {paths.root.name} in {paths.root.parent}", "`logist job list` shows all jobs"
        ) from error
    except OSError as error:
        raise invalid_manifest(paths, f"can't be read: {error.strerror or error}") from error


def parse_manifest(paths: JobPaths, data: bytes) -> Document:
    """The manifest as a JSON object that this version may read. Raises InvalidFile."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise invalid_manifest(paths, f"is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise invalid_manifest(paths, "is not a JSON object")
    check_schema(paths.manifest, document)
    return document


def seq_of(paths: JobPaths, document: Document) -> int:
    """The number of the last record that a manifest projects. Raises InvalidFile."""
    seq = document.get("seq")
    if not isinstance(seq, int) or seq < 1:
        raise invalid_manifest(paths, "has no valid `seq`")
    return seq


def check_schema(path: Path, document: Mapping[str, object]) -> None:
    """Refuse what a newer Logist wrote. Raises InvalidFile."""
    version = document.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InvalidFile(
            f"{path} was written by a newer Logist: its schema is {version}, this one reads {SCHEMA_VERSION}",
            "upgrade Logist: `pip install .` in a newer clone of its repository",
        )


def invalid_manifest(paths: JobPaths, why: str) -> InvalidFile:
    """The error for a manifest that can't be used: names the file, and how to get it back."""
    return InvalidFile(
        f"{paths.manifest} {why}",
        f"`logist doctor --repair {paths.root.name}` rebuilds it from history.jsonl",
    )


def manifest_bytes(document: Mapping[str, object]) -> bytes:
    """The manifest as its file holds it."""
    return to_json(document, indent=1) + b"\n"


# --- The index -----------------------------------------------------------------------------------------------------


def read_selected(jobs_dir: Path) -> str | None:
    """The selected job, None when none is. Raises InvalidFile."""
    path = jobs_dir / INDEX_NAME
    hint = f"delete {path}, then choose a job with `logist job select`"
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidFile(f"{path} can't be read: {error}", hint) from error
    selected = value.get("selected") if isinstance(value, dict) else ""
    if selected is None or (isinstance(selected, str) and _is_job_id(selected)):
        return selected
    raise InvalidFile(f"{path} does not name a job", hint)
