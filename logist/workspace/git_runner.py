"""Runs git, with what it must not do turned off. The only module that imports `git`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

from logist.errors import WorkspaceFailed
from logist.workspace.disk import storage_errors

if TYPE_CHECKING:
    import git

#: For the evidence repository: configuration, hooks, filters and protocols are off.
ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_EDITOR": "/bin/false",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
}
SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.autocrlf=false",
    "core.logAllRefUpdates=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "diff.ignoreSubmodules=all",
    "protocol.allow=never",
    "safe.bareRepository=explicit",
    "credential.helper=",
    "core.fsync=all",
    "core.fsyncMethod=batch",
)
#: The source is its owner's: their configuration counts there, but nothing that runs a program or writes.
SOURCE_ENVIRONMENT = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
SOURCE_SETTINGS = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "maintenance.auto=false")
_NO_GIT = ("git is not installed, or can't be run.", "Install git 2.36 or newer.")


class GitRunner:
    """Runs git in a folder, without what the caller's environment says about git. Raises WorkspaceFailed."""

    def __init__(self, folder: Path, environment: Mapping[str, str], settings: tuple[str, ...]) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._settings = settings

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        output: BinaryIO | None = None,
        settings: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run one git command to its end; what it printed, unless that went to `output`."""
        runner, command = self._prepare(arguments, settings, environment or {})
        with _errors_of(arguments[0]):
            return self._execute(runner, command, stdin, output)

    def read(self, *arguments: str, limit: int, settings: tuple[str, ...] = ()) -> tuple[bytes, bool]:
        """The first `limit` bytes of what a git command prints, and whether that is all; else it is ended there."""
        runner, command = self._prepare(arguments, settings, {})
        with _errors_of(arguments[0]):
            process = runner.execute(command, as_process=True)
            printed = process.stdout.read(limit + 1)
            whole = len(printed) <= limit
            if not whole:
                process.terminate()
            _, said = process.communicate()
            if whole and process.returncode:
                raise _gitpython().GitCommandError(command, process.returncode, said)
        return printed[:limit], whole

    def ask(self, *arguments: str) -> str | None:
        """What git printed, stripped; None when it exits with an error."""
        try:
            return self.run(*arguments).decode("utf-8", "surrogateescape").strip()
        except WorkspaceFailed as error:
            if isinstance(getattr(error.__cause__, "status", None), int):
                return None
            raise

    def _prepare(
        self, arguments: tuple[str, ...], settings: tuple[str, ...], environment: Mapping[str, str]
    ) -> tuple[git.Git, list[str]]:
        """GitPython with its environment set, and the whole command line."""
        runner: git.Git = _gitpython().Git(str(self._folder))
        wanted = self._environment | dict(environment)
        runner.update_environment(**wanted)
        options = [part for setting in self._settings + settings for part in ("-c", setting)]
        dropped = [name for name in os.environ if name.startswith("GIT_") and name not in wanted]
        # GitPython can add to the environment but not take from it.
        prefix = ["env", *(part for name in dropped for part in ("-u", name))] if dropped else []
        # -C: where a folder can't be entered, GitPython would stay in the caller's.
        program = [runner.GIT_PYTHON_GIT_EXECUTABLE or "git", "-C", str(self._folder)]
        return runner, [*prefix, *program, *options, *arguments]

    @staticmethod
    def _execute(runner: git.Git, command: list[str], stdin: bytes, output: BinaryIO | None) -> bytes:
        with tempfile.TemporaryFile() as fed:
            fed.write(stdin)
            fed.seek(0)
            if output is not None:
                runner.execute(command, istream=fed, output_stream=output, stdout_as_string=False)
                return b""
            return runner.execute(command, istream=fed, stdout_as_string=False, strip_newline_in_stdout=False)


@contextmanager
def _errors_of(command: str) -> Iterator[None]:
    """GitPython's errors become ours."""
    library = _gitpython()
    try:
        with storage_errors(f"run git {command}"):
            yield
    except library.GitCommandNotFound as error:
        raise WorkspaceFailed(*_NO_GIT) from error
    except library.GitCommandError as error:
        raise _failed(command, error) from error


def _gitpython() -> ModuleType:
    """GitPython, imported when git is first run: the import alone starts a `git version`."""
    try:
        import git
    except ImportError as error:
        raise WorkspaceFailed(*_NO_GIT) from error
    return git


def _failed(command: str, error: git.GitCommandError) -> WorkspaceFailed:
    # GitPython wraps what git printed in "stderr: '...'".
    printed = error.stderr.strip().removeprefix("stderr: '").removesuffix("'")
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:]
    why = "; ".join(told)[:500] or f"exit code {error.status}"
    return WorkspaceFailed(
        f"git {command} failed: {why}", "Look at the message of git above; nothing else was changed."
    )
