"""What flows into a command and out of it: its input, its output streams, and the logs that keep them."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from logist.errors import StorageFailed
from logist.execution import Command, OutputSink, StreamResult
from logist.execution.bare import watch as bare
from logist.execution.bare.watch import Ends


class Gathered:
    """What one stream carried: counted, its two ends kept, the first of them logged as it comes."""

    def __init__(self, limit: int, log: _Log | None) -> None:
        self._log = log
        self._ends = Ends(limit)

    def take(self, data: bytes) -> None:
        """More has come. Raises StorageFailed when the log can't be written."""
        fitting = self._ends.take(data)
        if self._log is not None:
            self._log.write(data[:fitting])

    def finish(self, known: StreamResult | None = None) -> StreamResult:
        """What it carried, or what is `known` of that where not all of it came here; the log gets its end."""
        result = known or carried(*self._ends.carried())
        if self._log is not None:
            self._log.write(result.kept[len(self._ends.head) :])
        return result


def carried(total: int, sha256: str, head: bytes, tail: bytes) -> StreamResult:
    """What a stream carried; without a hash its ends are all there was."""
    if total == 0:
        return StreamResult()
    if not sha256:
        # Imported here: what starts the commands would be started only after it.
        import hashlib

        sha256 = hashlib.sha256(head + tail).hexdigest()
    return StreamResult(total, sha256, head, tail)


class Stream(bare.Stream):
    """Our end of one output stream of a command that runs here."""

    def __init__(self, name: str, fd: int, limit: int, log: _Log | None, sink: OutputSink | None) -> None:
        super().__init__(fd, self._receive)
        self._name = name
        self._sink = sink
        self._gathered = Gathered(limit, log)

    def finish(self) -> StreamResult:
        """What it carried; the log gets its end."""
        return self._gathered.finish()

    def _receive(self, data: bytes) -> None:
        self._gathered.take(data)
        if self._sink is not None:
            self._sink(self._name, data)


class _Log:
    """A log file. A failed write is an error: half a log must not pass for a whole one."""

    def __init__(self, path: Path, *, at_once: bool) -> None:
        self._path = path
        self._fd: int | None = None
        if at_once or os.path.lexists(path):
            self._open()

    def write(self, data: bytes) -> None:
        """Write all of it, unbuffered, so that others can follow. Raises StorageFailed."""
        if not data:
            return
        fd = self._open() if self._fd is None else self._fd
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except OSError as error:
                raise _unwritable(self._path, error) from error

    def close(self) -> None:
        """Close the file; one that was never written to does not exist."""
        if self._fd is not None:
            os.close(self._fd)

    def _open(self) -> int:
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise _unwritable(self._path, error) from error
        return self._fd


def _unwritable(path: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"The output of the command can't be written to {path}: {error.strerror}.",
        "Make room or give access to that folder, then run again.",
    )


def open_log(path: Path, command: Command, stack: ExitStack) -> _Log:
    """A log of the command; `stack` closes it. Raises StorageFailed."""
    log = _Log(path, at_once=command.empty_logs)
    stack.callback(log.close)
    return log


class Plumbing(NamedTuple):
    """The descriptors of one command: what it gets, and our ends of its output."""

    #: None for a command without input.
    stdin: int | None
    stdout: int
    stderr: int
    streams: tuple[Stream, ...]

    @classmethod
    def lay(cls, command: Command, sink: OutputSink | None, stack: ExitStack) -> Plumbing:
        """Open everything; `stack` closes what is still open in the end."""
        stdin = _input(command.stdin, stack) if command.stdin else None
        out, stdout = _output("stdout", command.stdout_log, command, sink, stack)
        if command.one_stream:
            return cls(stdin, stdout, stdout, (out,))
        err, stderr = _output("stderr", command.stderr_log, command, sink, stack)
        return cls(stdin, stdout, stderr, (out, err))


def _input(data: bytes, stack: ExitStack) -> int:
    # Slow to import, and most commands have no input.
    import tempfile

    try:
        file = stack.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115 - the stack is the context
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        file.seek(0)
    except OSError as error:
        raise StorageFailed(
            f"The input of the command can't be written to {tempfile.gettempdir()}: {error.strerror}.",
            "Make room there or set TMPDIR to another folder, then run again.",
        ) from error
    return file.fileno()


def _output(
    name: str, path: Path | None, command: Command, sink: OutputSink | None, stack: ExitStack
) -> tuple[Stream, int]:
    log = None if path is None else open_log(path, command, stack)
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    os.set_blocking(reader, False)
    return Stream(name, reader, command.log_limit, log, sink), writer
