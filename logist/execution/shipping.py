"""A command and its result as bytes, for another process or machine; and the logs of what runs there, written here.

What travels is JSON: text whose bytes are not UTF-8 keeps them (surrogate escapes), raw bytes are base64. Logs and
descriptors don't travel: both stay with whoever submits.
"""

from __future__ import annotations

import json
import sys
from base64 import b64decode, b64encode
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from logist.execution import Command, CommandResult, Ended, OutputSink, StreamResult
from logist.execution._streams import Gathered, open_log

_Number = (int, float)
_COMMAND = {
    "cwd": str,
    "env": dict,
    "argv": list,
    "own_python": bool,
    "shell": (str, type(None)),
    "stdin": (str, type(None)),
    "timeout": (*_Number, type(None)),
    "idle_timeout": (*_Number, type(None)),
    "one_stream": bool,
    "log_limit": int,
    "marker": (list, type(None)),
}
_RESULT = {
    "ended": str,
    "exit_code": (int, type(None)),
    "duration": _Number,
    "stdout": dict,
    "stderr": dict,
    "signal": int,
    "survivors_killed": int,
    "detail": str,
    "program_missing": bool,
}
_STREAM = {"total": int, "sha256": str, "head": str, "tail": str}


def pack_command(command: Command) -> bytes:
    """The command without its logs and descriptors. Its environment travels whole: leave out before what must not."""
    own_python = command.argv[:1] == (sys.executable,)
    return _packed(
        cwd=str(command.cwd),
        env=command.env,
        argv=command.argv[1:] if own_python else command.argv,
        own_python=own_python,
        shell=command.shell,
        stdin=None if command.stdin is None else _text(command.stdin),
        timeout=command.timeout,
        idle_timeout=command.idle_timeout,
        one_stream=command.one_stream,
        log_limit=command.log_limit,
        marker=command.marker,
    )


def unpack_command(data: bytes) -> Command:
    """The command, to be run here: where the sender's own Python was its program, it is this one. Raises ValueError."""
    fields = _unpacked(data, _COMMAND, "command")
    own_python = fields.pop("own_python")
    argv, env, marker, stdin = (fields[name] for name in ("argv", "env", "marker", "stdin"))
    if marker is not None and len(marker) != 2:
        raise ValueError("the command's marker is not a name and a value")
    command = Command(
        **{
            **fields,
            "cwd": Path(fields["cwd"]),
            "argv": (sys.executable, *argv) if own_python else tuple(argv),
            "marker": None if marker is None else tuple(marker),
            "stdin": None if stdin is None else b64decode(stdin, validate=True),
        }
    )
    if not all(isinstance(text, str) for text in (*command.spelled, *env.values(), *(marker or ()))):
        raise ValueError("the command holds something else than text")
    return command


def pack_result(result: CommandResult) -> bytes:
    """The result with the ends of its streams."""
    streams = {"stdout": _packed_stream(result.stdout), "stderr": _packed_stream(result.stderr)}
    return _packed(**{**result._asdict(), **streams})


def unpack_result(data: bytes) -> CommandResult:
    """The result. Raises ValueError."""
    fields = _unpacked(data, _RESULT, "result")
    streams = {"stdout": _stream(fields["stdout"]), "stderr": _stream(fields["stderr"])}
    return CommandResult(**{**fields, **streams, "ended": Ended(fields["ended"])})


class RemoteOutput:
    """What a command that runs elsewhere prints: logged here and handed on as it comes, completed by its result.

    A context manager. Raises StorageFailed when a log can't be written, and what the sink raises.
    """

    def __init__(self, command: Command, sink: OutputSink | None = None) -> None:
        self._command = command
        self._sink = sink
        self._stack = ExitStack()
        self._streams: dict[str, Gathered] = {}
        self._skipped = False

    def __enter__(self) -> RemoteOutput:
        paths = {"stdout": self._command.stdout_log}
        if not self._command.one_stream:
            paths["stderr"] = self._command.stderr_log
        with ExitStack() as stack:
            for name, path in paths.items():
                log = None if path is None else open_log(path, self._command, stack)
                self._streams[name] = Gathered(self._command.log_limit, log)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._stack.close()

    def take(self, stream: str, data: bytes) -> None:
        """More of "stdout" or "stderr" has come."""
        if not self._skipped:
            self._streams[stream].take(data)
        if self._sink is not None:
            self._sink(stream, data)

    def skip(self) -> None:
        """Something before what comes next did not come: from here on the logs wait for the result."""
        self._skipped = True

    def complete(self, result: CommandResult) -> CommandResult:
        """The logs are made what the result says; of one whose output was lost with it, what came counts."""
        if result.ended is Ended.LOST and not (result.stdout.total or result.stderr.total):
            streams = {name: stream.finish() for name, stream in self._streams.items()}
            return result._replace(stdout=streams["stdout"], stderr=streams.get("stderr", StreamResult()))
        for name, stream in self._streams.items():
            stream.finish(result.stdout if name == "stdout" else result.stderr)
        return result


def write_logs(command: Command, result: CommandResult) -> None:
    """Write the logs of a command that ended elsewhere, all at once. Raises StorageFailed."""
    with RemoteOutput(command) as output:
        output.complete(result)


def _packed(**fields: object) -> bytes:
    # Escaped to ASCII: a lone surrogate, which stands for a byte that is no UTF-8, has no bytes of its own.
    return json.dumps(fields, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def _packed_stream(stream: StreamResult) -> dict[str, object]:
    return {**stream._asdict(), "head": _text(stream.head), "tail": _text(stream.tail)}


def _stream(fields: dict[str, Any]) -> StreamResult:
    _check(fields, _STREAM, "stream")
    head, tail = (b64decode(fields[name], validate=True) for name in ("head", "tail"))
    return StreamResult(fields["total"], fields["sha256"], head, tail)


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _unpacked(data: bytes, kinds: dict[str, Any], what: str) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the {what} is not JSON") from error
    if not isinstance(fields, dict):
        raise ValueError(f"the {what} is not a JSON object")
    _check(fields, kinds, what)
    return fields


def _check(fields: dict[str, Any], kinds: dict[str, Any], what: str) -> None:
    if fields.keys() != kinds.keys():
        raise ValueError(f"the {what} has other fields than {', '.join(kinds)}")
    for name, kind in kinds.items():
        # True is an int, to Python.
        if not isinstance(fields[name], kind) or (isinstance(fields[name], bool) and kind is not bool):
            raise ValueError(f"the {what} has a field {name} of another kind")
