"""Where a spec is read from, and what is refused before anything runs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from logist import spec_files
from logist.errors import ExitCode, InvalidFile, LogistError, UsageProblem
from logist.spec_files import LoadedSpec, chunk_output, load_spec, merged_path, output_paths


def document(**changes: Any) -> dict[str, Any]:
    return {
        "metadata": {"totalFrames": 3, "fps": 30, "width": 64, "height": 36, "duration": 0.1},
        "chunks": [
            {"id": place, "startFrame": place, "frameCount": 1, "outputFile": f"{place}.mov", "command": "true"}
            for place in range(3)
        ],
        "mergeCommand": "helios merge out.mp4 0.mov 1.mov 2.mov",
        **changes,
    }


def with_output(name: str, place: int = 1) -> dict[str, Any]:
    made = document()
    made["chunks"][place]["outputFile"] = name
    return made


def no_stdin() -> BinaryIO:
    raise AssertionError("standard input is not to be read")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "specs"
    made.mkdir()
    return made


@pytest.fixture
def load(folder: Path) -> Callable[..., LoadedSpec]:
    """Loads a target, or a document that is written to job.json, in the folder."""

    def load(target: str | dict[str, Any] | bytes = "job.json", **options: Any) -> LoadedSpec:
        if isinstance(target, dict):
            target = json.dumps(target, indent=2).encode()
        if isinstance(target, bytes):
            (folder / "job.json").write_bytes(target)
            target = "job.json"
        options = {"trust": False, "allow_outside": False, "stdin": no_stdin, "cwd": folder, **options}
        return load_spec(target, **options)

    return load


@pytest.fixture
def refused(load: Callable[..., LoadedSpec]) -> Callable[..., LogistError]:
    """The error, which is one line, that loading ends in."""

    def refused(target: str | dict[str, Any] | bytes = "job.json", **options: Any) -> LogistError:
        with pytest.raises(LogistError) as caught:
            load(target, **options)
        assert "\n" not in caught.value.message + caught.value.hint
        assert len(caught.value.message) < 4_000
        kinds = {UsageProblem: ExitCode.USAGE, InvalidFile: ExitCode.INVALID}
        assert caught.value.exit_code == kinds[type(caught.value)]
        return caught.value

    return refused


# --- Files and standard input --------------------------------------------------------------------------------------


def test_a_spec_is_read_from_a_file_and_its_folder_is_where_it_runs(
    folder: Path, load: Callable[..., LoadedSpec]
) -> None:
    data = json.dumps(document(), indent=2).encode()
    (folder / "sub").mkdir()
    (folder / "sub" / "my job.json").write_bytes(data)
    loaded = load("sub/my job.json")
    assert (loaded.folder, loaded.name, loaded.source) == (folder / "sub", "my job.json", "sub/my job.json")
    assert loaded.sha256 == hashlib.sha256(data).hexdigest()
    assert len(loaded.spec.chunks) == 3
    assert load(str(folder / "sub" / "my job.json")).folder == folder / "sub"


def test_the_outputs_are_absolute_paths(folder: Path, load: Callable[..., LoadedSpec]) -> None:
    loaded = load(with_output("", 1))
    assert output_paths(loaded) == (folder / "0.mov", folder / "2.mov", folder / "out.mp4")
    assert [chunk_output(loaded, chunk) for chunk in loaded.spec.chunks] == [folder / "0.mov", None, folder / "2.mov"]
    assert merged_path(loaded) == folder / "out.mp4"
    assert merged_path(load(document(mergeCommand="cat * > x"))) is None
    assert merged_path(load(document(mergeCommand="cat * > x", output="x"))) == folder / "x"


def test_a_spec_from_standard_input_runs_where_logist_was_started(
    folder: Path, load: Callable[..., LoadedSpec]
) -> None:
    data = json.dumps(document()).encode()
    loaded = load("-", stdin=lambda: io.BytesIO(data))
    assert (loaded.folder, loaded.source) == (folder, "standard input")
    assert loaded.name == f"spec-{hashlib.sha256(data).hexdigest()[:12]}.json"


def test_standard_input_that_gives_little_at_a_time_is_read_to_its_end(load: Callable[..., LoadedSpec]) -> None:
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb", buffering=0) as pipe:
            for byte in json.dumps(document()).encode():
                pipe.write(bytes([byte]))

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reader, "rb", buffering=0) as raw:
        assert len(load("-", stdin=lambda: raw).spec.chunks) == 3
    thread.join()


def test_a_spec_by_a_link_runs_in_the_folder_of_the_link(folder: Path, load: Callable[..., LoadedSpec]) -> None:
    elsewhere = folder.parent / "elsewhere.json"
    elsewhere.write_text(json.dumps(document()))
    (folder / "linked.json").symlink_to(elsewhere)
    loaded = load("linked.json")
    assert (loaded.folder, loaded.name) == (folder, "linked.json")


def test_a_byte_order_mark_does_no_harm(load: Callable[..., LoadedSpec]) -> None:
    assert len(load(b"\xef\xbb\xbf" + json.dumps(document()).encode()).spec.chunks) == 3


@pytest.mark.parametrize("target", ["gone.json", "gone/job.json", "job.json/x", "a\0b.json"])
def test_a_file_that_is_not_there_is_named(target: str, folder: Path, refused: Callable[..., LogistError]) -> None:
    (folder / "job.json").touch()
    error = refused(target)
    assert isinstance(error, UsageProblem)
    assert error.message == f"there is no file {target}"


def test_a_folder_is_no_spec(refused: Callable[..., LogistError]) -> None:
    error = refused(".")
    assert isinstance(error, UsageProblem)
    assert error.message == ". is a folder"


def test_a_pipe_or_a_device_neither_blocks_nor_fills_memory(folder: Path, refused: Callable[..., LogistError]) -> None:
    os.mkfifo(folder / "pipe.json")
    for target in ("pipe.json", "/dev/zero", "/dev/null"):
        assert "is not a regular file" in refused(target).message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_must_not_be_read_is_named(folder: Path, refused: Callable[..., LogistError]) -> None:
    (folder / "job.json").touch(mode=0)
    assert refused("job.json").message == "job.json can't be read: permission denied"


def test_a_link_that_leads_to_itself_is_named(folder: Path, refused: Callable[..., LogistError]) -> None:
    (folder / "job.json").symlink_to("job.json")
    assert "job.json can't be read" in refused("job.json").message


def test_a_spec_that_is_too_large_is_refused(
    folder: Path, refused: Callable[..., LogistError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spec_files, "MAX_SPEC_BYTES", 1000)
    (folder / "job.json").write_bytes(b" " * 1001)
    assert refused("job.json").message == "job.json is larger than 1000 bytes"
    assert "larger than" in refused("-", stdin=lambda: io.BytesIO(b" " * 1001)).message
    (folder / "job.json").write_bytes(b" " * 1000)
    assert "is not JSON" in refused("job.json").message


def test_standard_input_without_end_is_not_read_without_end(
    refused: Callable[..., LogistError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spec_files, "MAX_SPEC_BYTES", 3_000_000)
    with Path("/dev/zero").open("rb", buffering=0) as zeros:
        assert "larger than" in refused("-", stdin=lambda: zeros).message


# --- From bytes to a spec ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not JSON: expecting value at line 1 column 1"),
        (b'{\n  "a": 1,\n  "b" 2\n}', "is not JSON: expecting ':' delimiter at line 3 column 7"),
        (b"{} {}", "is not JSON: extra data at line 1 column 4"),
        (b'{"a": "\xff"}', "is not UTF-8 at byte 7"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8 at byte 0"),
        (b"[]", "is not a render job spec: it must hold one object, and holds a list"),
        (b'"x"', 'is not a render job spec: it must hold one object, and holds "x"'),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', 'the key "b" stands twice in one object'),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b'{"a": -Infinity}', "-Infinity is no number of JSON"),
        (b'{"a": 1e999}', "a number in it is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number in it is too long"),
        (b'{"a": "\\ud800"}', "half of a surrogate pair"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"a": ' * 500 + b"1" + b"}" * 500, "is nested too deeply"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "is nested too deeply"),
        (b"{}", "job.json: metadata: is missing; chunks: is missing"),
    ],
)
def test_a_file_that_is_no_spec_is_refused_with_the_reason(
    data: bytes, message: str, refused: Callable[..., LogistError]
) -> None:
    error = refused(data)
    assert isinstance(error, InvalidFile)
    assert error.message.startswith("job.json")
    assert message in error.message


def test_escaped_characters_are_read(load: Callable[..., LoadedSpec]) -> None:
    made = document(title="\U0001f600 \u65e5\\ud800")
    assert load(made).spec.model_extra == {"title": "\U0001f600 \u65e5\\ud800"}


def test_what_is_wrong_with_the_spec_is_told_with_its_place(refused: Callable[..., LogistError]) -> None:
    made = document()
    made["chunks"][2]["frameCount"] = 0
    error = refused(made)
    assert isinstance(error, InvalidFile)
    assert error.message == "job.json: chunks[2].frameCount: must be at least 1, is 0"
    assert "logist schema job-spec" in error.hint


def test_of_many_problems_some_are_told_and_the_others_counted(refused: Callable[..., LogistError]) -> None:
    chunks = [
        {"id": 0, "startFrame": place, "frameCount": 1, "outputFile": "x" * 5_000, "command": "true"}
        for place in range(30)
    ]
    message = refused(document(chunks=chunks)).message
    assert message.count("; ") == 10
    assert message.endswith("; and 49 more")


# --- Where outputs may lie -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../a.mov", "../specs2/a.mov", "x/../../a.mov", "/tmp/a.mov", "link/a.mov", "link/../a.mov", "out.link", "/a.mov"],
)
def test_an_output_outside_of_the_folder_is_refused_unless_it_is_allowed(
    name: str, folder: Path, load: Callable[..., LoadedSpec], refused: Callable[..., LogistError]
) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / "link").symlink_to("../elsewhere")
    (folder / "out.link").symlink_to("../elsewhere/out.mp4")
    error = refused(with_output(name))
    assert isinstance(error, InvalidFile)
    assert error.message == f"job.json: chunks[1].outputFile: {name} lies outside of the spec's folder"
    assert "--allow-outside" in error.hint
    merge = document(mergeCommand=f"helios merge {name} 0.mov")
    assert f"mergeCommand: {name} lies outside" in refused(merge).message
    assert f"output: {name} lies outside" in refused(document(mergeCommand="x", output=name)).message
    assert load(with_output(name), allow_outside=True).spec.chunks[1].output_file == name
    load(merge, allow_outside=True)


def test_an_output_inside_of_the_folder_may_be_spelled_in_any_way(
    folder: Path, load: Callable[..., LoadedSpec]
) -> None:
    (folder / "parts").mkdir()
    (folder / "link").symlink_to("parts")
    (folder / "again").symlink_to(folder)
    (folder / "out.link").symlink_to("parts/x.mov")
    names = (
        "a/b/c.mov",
        "./a.mov",
        "a/../b.mov",
        str(folder / "a.mov"),
        "link/a.mov",
        "again/a.mov",
        "out.link",
        "..a",
    )
    for name in (*names, "x" * 300, "..."):
        load(with_output(name))


def test_a_folder_that_is_reached_through_a_link_is_no_way_out(folder: Path, load: Callable[..., LoadedSpec]) -> None:
    (folder.parent / "way").symlink_to(folder)
    (folder / "job.json").write_text(json.dumps(with_output(str(folder.parent / "way" / "a.mov"))))
    assert load("way/job.json", cwd=folder.parent).folder == folder
    data = json.dumps(with_output("a.mov")).encode()
    assert load("-", cwd=folder.parent / "way", stdin=lambda: io.BytesIO(data)).name.startswith("spec-")


@pytest.mark.parametrize("name", ["job.json", "./job.json", "x/../job.json", "hard/job.json"])
def test_no_output_overwrites_the_spec(name: str, folder: Path, refused: Callable[..., LogistError]) -> None:
    (folder / "hard").symlink_to(".")
    assert f"chunks[1].outputFile: {name} is the spec itself" in refused(with_output(name), allow_outside=True).message


@pytest.mark.parametrize("name", [".logist/x.mov", ".logist/job.json/history.jsonl", "a/../.logist/x"])
def test_no_output_lies_among_logists_own_files(name: str, refused: Callable[..., LogistError]) -> None:
    assert f"{name} lies in Logist's own folder" in refused(with_output(name), allow_outside=True).message


def test_outputs_of_a_spec_without_a_file_are_looked_at_too(refused: Callable[..., LogistError]) -> None:
    data = json.dumps(with_output("../a.mov")).encode()
    assert "standard input: chunks[1].outputFile" in refused("-", stdin=lambda: io.BytesIO(data)).message


# --- URLs ----------------------------------------------------------------------------------------------------------


DRIPPED_TO_THE_END = threading.Event()


class Server(BaseHTTPRequestHandler):
    """Answers as the path says."""

    #: So that a client that hangs up is no error of the server's.
    timeout = 5

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif path == "/none":
            self.connection.close()
        elif path == "/silent":
            self.server.ended.wait(10)  # type: ignore[attr-defined]
        elif path == "/broken":
            self.wfile.write(b"nonsense\r\n\r\n")
        elif path == "/short":
            self.answer(b'{"a": 1', length=100)
        elif path == "/endless":
            self.send_response(200)
            self.end_headers()
            self.drip(b" " * 100_000, 0)
        elif path == "/dripping":
            self.send_response(200)
            self.end_headers()
            self.drip(b" ", 0.01)
        elif path == "/text":
            self.answer(b"<html>")
        elif path in ("/job.json", "/gr%C3%B6%C3%9Fe.json"):
            self.answer(json.dumps(document()).encode())
        else:
            self.send_error(404)

    def answer(self, data: bytes, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def drip(self, piece: bytes, pause: float) -> None:
        with contextlib.suppress(OSError):
            for _ in range(200):
                self.wfile.write(piece)
                if self.server.ended.wait(pause):  # type: ignore[attr-defined]
                    return
            DRIPPED_TO_THE_END.set()

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.ended = threading.Event()  # type: ignore[attr-defined]
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.ended.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def test_a_trusted_url_is_read(server: str, folder: Path, load: Callable[..., LoadedSpec]) -> None:
    loaded = load(f"{server}/job.json?token=secret#part", trust=True)
    digest = hashlib.sha256(json.dumps(document()).encode()).hexdigest()
    assert (loaded.folder, loaded.name) == (folder, f"spec-{digest[:12]}.json")
    assert loaded.source == f"{server}/job.json"
    assert len(loaded.spec.chunks) == 3


def test_a_url_may_hold_letters_of_any_language(server: str, load: Callable[..., LoadedSpec]) -> None:
    assert len(load(f"{server}/gr\u00f6\u00dfe.json", trust=True).spec.chunks) == 3


def test_a_redirect_within_the_web_is_followed(server: str, load: Callable[..., LoadedSpec]) -> None:
    assert len(load(f"{server}/to/{server}/job.json", trust=True).spec.chunks) == 3


def test_a_url_is_not_even_asked_for_without_trust(refused: Callable[..., LogistError]) -> None:
    error = refused("http://127.0.0.1:9/job.json?token=secret")
    assert isinstance(error, UsageProblem)
    assert error.message == "http://127.0.0.1:9/job.json is not trusted: commands in a spec are code"
    assert "--trust" in error.hint


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://127.0.0.1/job.json", "is neither http nor https"),
        ("file:///etc/passwd", "is neither http nor https"),
        ("http://[::1/job.json", "that is not a URL"),
        ("http://me:secret@127.0.0.1/job.json", "a user name in a URL is not supported"),
    ],
)
def test_a_url_of_another_kind_is_refused(url: str, message: str, refused: Callable[..., LogistError]) -> None:
    error = refused(url, trust=True)
    assert isinstance(error, UsageProblem)
    assert message in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/gone", "the server answered 404 Not Found"),
        ("/none", ""),
        ("/broken", "nonsense"),
        ("/text", "is not JSON: expecting value at line 1 column 1"),
        ("/short", "is not JSON"),
        ("/to/ftp://127.0.0.1/job.json", "the server answered 302 Found, a redirect that is not followed"),
        ("/to/file:///etc/passwd", "the server answered 302 Found, a redirect that is not followed"),
        ("/to/http://127.0.0.1:1/job.json", "Connection refused"),
    ],
)
def test_a_url_that_gives_no_spec_is_told_in_one_line(
    path: str, message: str, server: str, refused: Callable[..., LogistError]
) -> None:
    error = refused(f"{server}{path}?token=secret", trust=True)
    assert isinstance(error, InvalidFile)
    assert error.message.startswith(f"{server}{path.partition('?')[0]} ")
    assert message in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x", "http:///x", "http://a..b/x", "http://127.0.0.1:x/", "http://h\x01/"]
)
def test_a_url_that_can_not_be_reached_is_told_in_one_line(url: str, refused: Callable[..., LogistError]) -> None:
    assert "can't be read: " in refused(url, trust=True).message


def test_a_circle_of_redirects_ends(server: str, refused: Callable[..., LogistError]) -> None:
    location = f"{server}/job.json"
    for _ in range(12):
        location = f"{server}/to/{location}"
    assert "302" in refused(location, trust=True).message


def test_a_silent_server_is_given_up(
    server: str, refused: Callable[..., LogistError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spec_files, "URL_SILENCE", 0.05)
    assert "timed out" in refused(f"{server}/silent", trust=True).message


def test_a_server_that_drips_is_given_up(
    server: str, refused: Callable[..., LogistError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spec_files, "URL_TIME", 0.05)
    DRIPPED_TO_THE_END.clear()
    assert "it took longer than 0 seconds" in refused(f"{server}/dripping", trust=True).message
    assert not DRIPPED_TO_THE_END.is_set()


def test_a_server_without_end_is_cut_off(
    server: str, refused: Callable[..., LogistError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spec_files, "MAX_SPEC_BYTES", 2_000_000)
    assert "is larger than 2000000 bytes" in refused(f"{server}/endless", trust=True).message


def test_an_empty_standard_input_is_called_that(refused: Callable[..., LogistError]) -> None:
    assert refused("-", stdin=io.BytesIO).message == "standard input is empty"
