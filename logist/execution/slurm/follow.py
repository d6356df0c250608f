"""Reads what a command prints on its node, from the files that the task writes there."""

from __future__ import annotations

import os
from contextlib import ExitStack

from logist.execution import Command, CommandResult, Ended, OutputSink, StreamResult
from logist.execution.bare.task_files import TaskFiles
from logist.execution.shipping import RemoteOutput

_CHUNK = 1 << 16


class Follower:
    """Follows one task, as a context manager. Raises StorageFailed for a log, and what the sink raises."""

    def __init__(self, command: Command, files: TaskFiles, sink: OutputSink | None) -> None:
        self._command = command
        self._sink = sink
        self._stack = ExitStack()
        names = ("stdout",) if command.one_stream else ("stdout", "stderr")
        self._places = {name: _Place(files.stream(name)) for name in names}

    def __enter__(self) -> Follower:
        self._output = self._stack.enter_context(RemoteOutput(self._command, self._sink))
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._stack.close()

    def look(self) -> None:
        """Take what has come."""
        for name, place in self._places.items():
            self._look_at(name, place)

    def finish(self, result: CommandResult) -> CommandResult:
        """The result with what was printed; what the files don't hold of it is handed on, too."""
        if not result.stdout.total and not result.stderr.total:
            # Slurm killed what would have told: what has come counts.
            return self._output.complete(result._replace(ended=Ended.LOST))._replace(ended=result.ended)
        if self._sink is not None:
            for name, place in self._places.items():
                rest = _rest(result.stdout if name == "stdout" else result.stderr, place.offset)
                if rest:
                    self._sink(name, rest)
        return self._output.complete(result)

    def _look_at(self, name: str, place: _Place) -> None:
        try:
            fd = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            self._start_over_if_new(fd, place)
            data = os.pread(fd, _CHUNK, place.offset)
            while data:
                place.offset += len(data)
                self._output.take(name, data)
                data = os.pread(fd, _CHUNK, place.offset)
        finally:
            os.close(fd)

    def _start_over_if_new(self, fd: int, place: _Place) -> None:
        """Slurm started the task again: what its earlier start had printed doesn't count."""
        inode = os.fstat(fd).st_ino
        if place.inode not in (0, inode):
            self._stack.close()
            self._output = self._stack.enter_context(RemoteOutput(self._command, self._sink))
            for other in self._places.values():
                other.inode, other.offset = 0, 0
        place.inode = inode


class _Place:
    """A file, and how much of it was read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.inode = 0
        self.offset = 0


def _rest(stream: StreamResult, offset: int) -> bytes:
    """What is known of a stream from `offset` on."""
    if stream.total == len(stream.head) + len(stream.tail):
        return (stream.head + stream.tail)[offset:]
    return stream.tail[-(stream.total - offset) :] if offset < stream.total else b""
