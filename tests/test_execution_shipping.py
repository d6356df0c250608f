"""What travels between machines: a command, its result, and the logs that are written where the submitter is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist.errors import StorageFailed
from logist.execution import Command, CommandResult, Ended, StreamResult
from logist.execution.local import LocalWorkerAdapter
from logist.execution.shipping import (
    RemoteOutput,
    pack_command,
    pack_result,
    unpack_command,
    unpack_result,
    write_logs,
)

#: Text as the system gives it: any bytes, those that are not UTF-8 too.
words = st.binary(max_size=20).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
seconds = st.none() | st.floats(0, 1e9)
streams = st.builds(StreamResult, st.integers(0), words, st.binary(max_size=50), st.binary(max_size=50))
results = st.builds(
    CommandResult,
    ended=st.sampled_from(Ended),
    exit_code=st.none() | st.integers(0, 255),
    duration=st.floats(0, 1e9),
    stdout=streams,
    stderr=streams,
    signal=st.integers(0, 64),
    survivors_killed=st.integers(0),
    detail=words,
    program_missing=st.booleans(),
)


@st.composite
def commands(draw: st.DrawFn) -> Command:
    lined = draw(st.booleans())
    return Command(
        cwd=Path("/" + draw(words)),
        env=draw(st.dictionaries(words, words, max_size=3)),
        argv=() if lined else tuple(draw(st.lists(words, min_size=1, max_size=4))),
        shell=draw(words) if lined else None,
        stdin=draw(st.none() | st.binary(max_size=50)),
        timeout=draw(seconds),
        idle_timeout=draw(seconds),
        one_stream=draw(st.booleans()),
        log_limit=draw(st.integers(0, 10**9)),
        marker=draw(st.none() | st.tuples(words, words)),
    )


@given(commands())
def test_a_command_comes_out_as_it_went_in(command: Command) -> None:
    assert unpack_command(pack_command(command)) == command


@given(results)
def test_a_result_comes_out_as_it_went_in(result: CommandResult) -> None:
    assert unpack_result(pack_result(result)) == result


def test_logs_and_descriptors_stay_at_home(tmp_path: Path) -> None:
    command = Command(cwd=tmp_path, env={}, argv=("true",))
    here = command._replace(stdout_log=tmp_path / "out", stderr_log=tmp_path / "err", inherit=(0,))
    assert unpack_command(pack_command(here)) == command


def test_our_own_python_becomes_the_receivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack_command(Command(cwd=tmp_path, env={}, argv=(sys.executable, "-m", "logist")))
    monkeypatch.setattr(sys, "executable", "/elsewhere/bin/python")
    assert unpack_command(packed).argv == ("/elsewhere/bin/python", "-m", "logist")


BROKEN = {
    "nothing": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "an unknown field": b'{"surprise": 1}',
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_not_a_command_or_a_result_is_refused(data: bytes) -> None:
    for read in (unpack_command, unpack_result):
        with pytest.raises(ValueError, match=r"the (command|result)"):
            read(data)


@pytest.mark.parametrize(
    "change",
    [
        {"argv": [1]},
        {"env": {"A": None}},
        {"marker": ["one"]},
        {"timeout": True},
        {"timeout": "1"},
        {"stdin": "not base64"},
        {"shell": "true"},
    ],
    ids=str,
)
def test_a_command_with_a_field_of_another_kind_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    fields = json.loads(pack_command(Command(cwd=tmp_path, env={}, argv=("true",))))
    with pytest.raises(ValueError, match=r"."):
        unpack_command(json.dumps({**fields, **change}).encode())


@pytest.mark.parametrize(
    "change", [{"ended": "flown"}, {"duration": "1"}, {"stdout": {}}, {"signal": False}, {"exit_code": 1.5}], ids=str
)
def test_a_result_with_a_field_of_another_kind_is_refused(change: dict[str, object]) -> None:
    fields = json.loads(pack_result(CommandResult(Ended.EXITED, 0, 1.0)))
    with pytest.raises(ValueError, match=r"."):
        unpack_result(json.dumps({**fields, **change}).encode())


@given(
    pieces=st.lists(st.binary(max_size=30), max_size=6),
    limit=st.integers(0, 60),
    came=st.integers(0, 6),
)
def test_a_log_written_here_is_the_one_that_a_local_run_writes(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], limit: int, came: int
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    data = b"".join(pieces)
    there = Command(
        cwd=folder, env={}, argv=("cat",), stdin=data, one_stream=True, log_limit=limit, stdout_log=folder / "local.log"
    )
    result = _local(there)
    with RemoteOutput(there._replace(stdout_log=folder / "remote.log")) as output:
        for piece in pieces[:came]:
            output.take("stdout", piece)
        assert output.complete(result) == result
    assert (folder / "remote.log").read_bytes() == (folder / "local.log").read_bytes() == result.stdout.kept


_ADAPTER = LocalWorkerAdapter()


@pytest.fixture(scope="module", autouse=True)
def _closed_in_the_end() -> object:
    yield
    _ADAPTER.close()


def _local(command: Command) -> CommandResult:
    return _ADAPTER.run(command)


def test_of_a_lost_command_the_output_that_came_is_kept(tmp_path: Path) -> None:
    heard: list[tuple[str, bytes]] = []
    command = Command(cwd=tmp_path, env={}, argv=("true",), stderr_log=tmp_path / "err.log")
    with RemoteOutput(command, lambda stream, data: heard.append((stream, data))) as output:
        output.take("stderr", b"half of")
        result = output.complete(CommandResult(Ended.LOST, None, 1.0, detail="gone"))
    assert (result.stdout.kept, result.stderr.kept, result.detail) == (b"", b"half of", "gone")
    assert heard == [("stderr", b"half of")]
    assert (tmp_path / "err.log").read_bytes() == b"half of"


def test_a_log_of_a_command_that_printed_nothing_is_empty_or_not_there(tmp_path: Path) -> None:
    command = Command(cwd=tmp_path, env={}, argv=("true",), stdout_log=tmp_path / "out.log")
    result = CommandResult(Ended.EXITED, 0, 0.0)
    write_logs(command._replace(empty_logs=False), result)
    assert not (tmp_path / "out.log").exists()
    write_logs(command, result)
    assert (tmp_path / "out.log").read_bytes() == b""


def test_a_log_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    command = Command(cwd=tmp_path, env={}, argv=("true",), stdout_log=tmp_path / "missing" / "out.log")
    with pytest.raises(StorageFailed, match=r"out\.log"):
        write_logs(command, CommandResult(Ended.EXITED, 0, 0.0))
