"""What a user can act on: one error with a message, a hint and an exit code, and its few children."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Every exit code of the command line; the table is in docs/05_cli_reference.md."""

    SUCCESS = 0
    UNEXPECTED = 1
    USAGE = 2
    INTERVENTION_REQUIRED = 3
    CANCELED = 4
    CHUNK_FAILED = 5
    WRONG_STATE = 6
    BUSY = 75
    INVALID = 78
    TIMEOUT = 124
    INTERRUPTED = 130
    TERMINATED = 143


#: What a run of several jobs ends with: of all that its jobs end with, the first of these.
WORST_FIRST = (
    ExitCode.UNEXPECTED,
    ExitCode.INVALID,
    ExitCode.TIMEOUT,
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
    ExitCode.INTERVENTION_REQUIRED,
    ExitCode.CHUNK_FAILED,
    ExitCode.CANCELED,
    ExitCode.USAGE,
    ExitCode.WRONG_STATE,
    ExitCode.BUSY,
    ExitCode.SUCCESS,
)


class LogistError(Exception):
    """A problem the user can act on: shown as one `Error:` line and one `Hint:` line."""

    exit_code = ExitCode.UNEXPECTED

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageProblem(LogistError):
    """The request itself is wrong: an unknown job, a bad id, options that exclude each other."""

    exit_code = ExitCode.USAGE


class JobNotFound(UsageProblem):
    """No job of that id is in the jobs folder."""


class WrongState(LogistError):
    """The job's state does not allow the command; nothing was done."""

    exit_code = ExitCode.WRONG_STATE


class JobBusy(LogistError):
    """Another runner holds the job's lease."""

    exit_code = ExitCode.BUSY


class InvalidFile(LogistError):
    """A manifest, history, configuration or job file can't be read or is not valid."""

    exit_code = ExitCode.INVALID


class AgentUnavailable(LogistError):
    """The program that plays a role is not there, or its settings are incomplete."""

    exit_code = ExitCode.INVALID


class ChunkFailed(LogistError):
    """A chunk of a render failed for good."""

    exit_code = ExitCode.CHUNK_FAILED


class MergeFailed(LogistError):
    """The videos can't be made into one: they don't fit each other or the output, or one of them is damaged."""

    exit_code = ExitCode.CHUNK_FAILED


class RenderFailed(LogistError):
    """A composition could not be rendered: its page threw, crashed, or a frame of it never came."""

    exit_code = ExitCode.CHUNK_FAILED


class BrowserMissing(LogistError):
    """There is no browser that can render; the hint is the command that installs one."""

    exit_code = ExitCode.INVALID


class ExtraMissing(LogistError):
    """A library that only some commands need is not installed; the hint is the command that installs it."""

    exit_code = ExitCode.INVALID


class ProgramMissing(LogistError):
    """A program that a command needs is not on PATH; the hint says where it is found."""

    exit_code = ExitCode.INVALID


class PlaceUnavailable(LogistError):
    """The place where commands are to run can't be reached, or can't run commands of ours."""


class StorageFailed(LogistError):
    """A record could not be made durable (disk full, input/output error), or a storage could not be written or read;
    the run stops where it is."""


class WorkspaceFailed(LogistError):
    """The workspace or its evidence repository could not be read or written."""


class EvidenceDamaged(WorkspaceFailed):
    """The evidence repository is missing, or not what it should be."""

    exit_code = ExitCode.INVALID
