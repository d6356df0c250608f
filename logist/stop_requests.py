"""Requests to stop that one process leaves for the runner of a job: to cancel it, or to pause."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Literal

from logist.durable import iso, make_durable_folder, remove_file, replace_file, storage_failed, to_json
from logist.errors import JobNotFound
from logist.job_files import JobPaths, is_job

RequestKind = Literal["cancel", "pause"]


def _request_file(paths: JobPaths, kind: RequestKind) -> Path:
    return paths.requests / f"{kind}.json"


def request(paths: JobPaths, kind: RequestKind, message: str, at: datetime) -> None:
    """Ask the job's runner to cancel or pause, durably; asking again replaces the message.

    Raises JobNotFound when there is no such job, StorageFailed.
    """
    if not is_job(paths):
        raise JobNotFound(f"there is no job in {paths.root}", "`logist job list` shows all jobs")
    if not paths.requests.is_dir():
        # It was made with the job; to make it durable again would wait for the disk.
        make_durable_folder(paths.requests)
    replace_file(_request_file(paths, kind), to_json({"message": message, "at": iso(at)}) + b"\n")


def pending(paths: JobPaths, kind: RequestKind) -> str | None:
    """The message of a request that stands, None when there is none; cheap enough to ask 20 times a second.

    A file whose content can't be understood still counts: somebody asked. Raises StorageFailed.
    """
    path = _request_file(paths, kind)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_failed("read", path, error) from error
    try:
        message = json.loads(data)["message"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return message if isinstance(message, str) else ""


def clear(paths: JobPaths, kind: RequestKind) -> None:
    """Take a request back, durably; none is fine. Raises StorageFailed."""
    remove_file(_request_file(paths, kind))
