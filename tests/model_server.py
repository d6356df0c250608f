"""A scripted model provider on loopback, for real agent programs: it speaks their protocols, and no model is asked.

It speaks Anthropic's messages and OpenAI's chat completions (both streamed and whole) and OpenAI's responses
(streamed). A script is a list of turns below a URL of its own: each request takes the next one, and the last stays.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Values = dict[str, Any]

#: What every answer says that it used; the cached ones are part of the input.
INPUT_TOKENS, CACHED_TOKENS, OUTPUT_TOKENS = 1000, 200, 50

#: In the texts of a turn: the reply file and the token that stand in the newest prompt.
REPLY_FILE, TOKEN = "@REPLY_FILE@", "@TOKEN@"
_REPLY_FILE = re.compile(r"^ +(/.+/reply-\d+-\d+\.json)$", re.MULTILINE)
_TOKEN = re.compile(r'"token": "(\w+)"')

#: The tools that run a shell line, by name, and the arguments that each one takes.
_SHELLS = {
    "Bash": lambda line: {"command": line, "description": "Work"},
    "bash": lambda line: {"command": line},
    "run_commands": lambda line: {"commands": [line]},
    "run_shell_command": lambda line: {"command": line, "description": "Work", "is_background": False},
    "exec_command": lambda line: {"cmd": line},
    "shell_command": lambda line: {"command": line},
    "shell": lambda line: {"command": ["sh", "-c", line]},
}
#: Where a program has no other way to end: the line that its prompt asks for, before the final text.
_SUBMIT = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
#: Where no tools are offered but explained, as by cline 1.x: they are called in words.
_FINAL_IN_WORDS = "<attempt_completion><result>{}</result></attempt_completion>"
_SHELL_IN_WORDS = "<execute_command><command>{}</command><requires_approval>false</requires_approval></execute_command>"


class Say(NamedTuple):
    """Final words."""

    text: str


class Shell(NamedTuple):
    """A call of the tool that runs shell lines."""

    line: str


class Write(NamedTuple):
    """A call of the tool that writes files, or of the shell where there is none."""

    path: str
    content: str


class Fail(NamedTuple):
    """An error of the provider."""

    status: int
    message: str = "no"
    retry_after: str | None = None


class Drop(NamedTuple):
    """Half an answer, and the line breaks off."""


class Hang(NamedTuple):
    """No answer for as long as the client stays."""


class Page(NamedTuple):
    """A web page with status 200, as from a proxy."""


Turn = Say | Shell | Write | Fail | Drop | Hang | Page


def reply_text(action: str, summary: str = "", evidence: tuple[str, ...] = ()) -> str:
    """A reply as JSON, with the token of whichever prompt it answers."""
    reply = {"token": TOKEN, "action": action, "evidence_files": evidence, "summary_for_supervisor": summary}
    return json.dumps(reply)


def fenced(action: str, summary: str = "", evidence: tuple[str, ...] = ()) -> Say:
    """Final words that end with a reply."""
    return Say(f"This is what came of it.\n\n```json\n{reply_text(action, summary, evidence)}\n```\n")


@dataclass(frozen=True)
class Request:
    """What a program asked for."""

    method: str
    path: str
    body: Values
    headers: dict[str, str]

    @property
    def tools(self) -> dict[str, str]:
        """The tools on offer: their names, and `function`, `custom` or whatever type they are of."""
        offered = (tool.get("function") or tool for tool in self.body.get("tools") or ())
        return {tool["name"]: tool.get("type", "function") for tool in offered if "name" in tool}

    @property
    def in_words(self) -> bool:
        """Whether tools are to be called in the text of the answer."""
        return not self.tools and "<attempt_completion>" in self.text

    @property
    def text(self) -> str:
        """All the words that were sent, in their order."""
        sent = [self.body.get(name) for name in ("system", "instructions", "messages", "input")]
        return "\n".join(_texts(sent))


class _Script:
    """The turns below one URL."""

    def __init__(self, turns: tuple[Turn, ...]) -> None:
        self.turns = list(turns)
        #: The requests that took a turn, and all the others (titles, token counts, lists of models).
        self.requests: list[Request] = []
        self.asides: list[Request] = []

    def take(self, request: Request) -> Turn:
        self.requests.append(request)
        return self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]


class ModelServer(ThreadingHTTPServer):
    """The provider. A context manager: once it is left, no thread and no connection of it is there."""

    # Threads are waited for: a test must not leave one behind.
    daemon_threads = False
    block_on_close = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.closing = False
        self.lock = threading.Lock()
        self.scripts: dict[str, _Script] = {}
        #: One is set for every client of a `Hang` that left by itself.
        self.left = threading.Event()
        self.hanging = threading.Event()
        self._connections: set[socket.socket] = set()
        self._faults: list[BaseException] = []

    def __enter__(self) -> ModelServer:
        # A short poll: the end of a test waits for it.
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="model server")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        with self.lock:
            self.closing = True
            for connection in self._connections:
                # Its client may have left this very moment.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        if self._faults:
            raise self._faults[0]

    def script(self, name: str, *turns: Turn) -> str:
        """The address of a provider that answers by `turns`."""
        self.scripts[name] = _Script(turns)
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def requests(self, name: str) -> list[Request]:
        """The requests that took a turn of the script."""
        return list(self.scripts[name].requests)

    def asides(self, name: str) -> list[Request]:
        """The requests to the script's address that took none of its turns."""
        return list(self.scripts[name].asides)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection: at the end its thread is woken by it."""
        with self.lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget it before its number is another's."""
        with self.lock:
            self._connections.discard(request)
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no fault; any other is raised when the server is left."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self._faults.append(error)


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(b"", "text/plain")

    def do_GET(self) -> None:
        self._aside(self._read())

    def do_POST(self) -> None:
        request = self._read()
        script = self.server.scripts.get(request.path.split("/")[1])
        write = _PROTOCOLS.get(request.path.rpartition("/")[2])
        # Titles and summaries are asked for without tools, and are no part of the work.
        if script is None or write is None or not (request.tools or request.in_words):
            self._aside(request)
            return
        with self.server.lock:
            turn = script.take(request)
        if isinstance(turn, Fail):
            self._fail(turn)
        elif isinstance(turn, Page):
            self._answer(b"<!doctype html><title>Sign in</title><p>Please sign in.", "text/html")
        elif isinstance(turn, Hang):
            self._hang()
        else:
            said = _Said.of(Say("Well") if isinstance(turn, Drop) else turn, request)
            self._send(write(said, request), whole=not isinstance(turn, Drop))

    def _read(self) -> Request:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(data or b"{}")
        except ValueError:
            body = {}
        path = self.path.partition("?")[0]
        return Request(self.command, path, body if isinstance(body, dict) else {}, dict(self.headers))

    def _aside(self, request: Request) -> None:
        script = self.server.scripts.get(request.path.split("/")[1])
        with self.server.lock:
            if script is not None:
                script.asides.append(request)
        last = request.path.rpartition("/")[2]
        if last == "count_tokens":
            self._json({"input_tokens": INPUT_TOKENS})
        elif last == "models":
            self._json({"object": "list", "data": [], "models": [], "has_more": False})
        elif last in _PROTOCOLS and script is not None:
            self._send(_PROTOCOLS[last](_Said("A title"), request))
        else:
            self._answer(b"{}", "application/json", 404)

    def _fail(self, turn: Fail) -> None:
        kinds = {401: "authentication_error", 402: "billing_error", 404: "not_found_error", 429: "rate_limit_error"}
        error = {"type": kinds.get(turn.status, "api_error"), "message": turn.message, "code": None}
        headers = {} if turn.retry_after is None else {"Retry-After": turn.retry_after}
        self._json({"type": "error", "error": error}, turn.status, headers)

    def _hang(self) -> None:
        self.server.hanging.set()
        # Nobody sends anything while an answer is due: what comes is the end of the connection.
        self.connection.recv(1)
        if not self.server.closing:
            self.server.left.set()
        self.close_connection = True

    def _send(self, answer: Values | list[tuple[str, Values]], *, whole: bool = True) -> None:
        if isinstance(answer, dict):
            data = json.dumps(answer).encode()
            self._head(200, "application/json", {"Content-Length": str(len(data))})
            self.wfile.write(data if whole else data[: len(data) // 2])
            return
        self._head(200, "text/event-stream", {"Transfer-Encoding": "chunked"})
        for name, event in answer if whole else answer[: len(answer) // 2]:
            lines = (f"event: {name}\n" if name else "") + f"data: {json.dumps(event) if event else '[DONE]'}\n\n"
            self.wfile.write(f"{len(lines.encode()):x}\r\n{lines}\r\n".encode())
        if whole:
            self.wfile.write(b"0\r\n\r\n")

    def _json(self, values: Values, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(json.dumps(values).encode(), "application/json", status, headers)

    def _answer(self, data: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._head(status, kind, {"Content-Length": str(len(data)), **(headers or {})})
        self.wfile.write(data)

    def _head(self, status: int, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        # One request for each connection: none is left open that a thread would wait at.
        for name, value in {"Content-Type": kind, "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


@dataclass(frozen=True)
class _Said:
    """An answer before it is put into a protocol: words, or the call of a tool."""

    text: str = ""
    tool: str = ""
    arguments: Values = field(default_factory=dict)

    @classmethod
    def of(cls, turn: Say | Shell | Write, request: Request) -> _Said:
        """`turn` by the tools that the request offers, with what is meant by REPLY_FILE and TOKEN filled in."""
        words = request.text

        def fill(text: str) -> str:
            for mark, pattern in ((REPLY_FILE, _REPLY_FILE), (TOKEN, _TOKEN)):
                if mark in text:
                    text = text.replace(mark, pattern.findall(words)[-1])
            return text

        if isinstance(turn, Write) and "Write" in request.tools:
            return cls(tool="Write", arguments={"file_path": fill(turn.path), "content": fill(turn.content)})
        if isinstance(turn, Say) and _SUBMIT not in words:
            return cls(text=(_FINAL_IN_WORDS if request.in_words else "{}").format(fill(turn.text)))
        line = turn.line if isinstance(turn, Shell) else _line_of(turn)
        if request.in_words:
            return cls(text=_SHELL_IN_WORDS.format(fill(line)))
        shell = next(name for name in _SHELLS if name in request.tools)
        return cls(tool=shell, arguments=_SHELLS[shell](fill(line)))


def _line_of(turn: Say | Write) -> str:
    if isinstance(turn, Say):
        return f"echo {_SUBMIT}; printf %s {shlex.quote(turn.text)}"
    return f"printf %s {shlex.quote(turn.content)} > {shlex.quote(turn.path)}"


def _texts(sent: object) -> Iterator[str]:
    if isinstance(sent, str):
        yield sent
    elif isinstance(sent, list):
        for part in sent:
            yield from _texts(part)
    elif isinstance(sent, dict):
        for name in ("text", "content", "output"):
            yield from _texts(sent.get(name))


def _messages(said: _Said, request: Request) -> Values | list[tuple[str, Values]]:
    """Anthropic's messages."""
    usage = {
        "input_tokens": INPUT_TOKENS - CACHED_TOKENS,
        "cache_read_input_tokens": CACHED_TOKENS,
        "cache_creation_input_tokens": 0,
        "output_tokens": OUTPUT_TOKENS,
    }
    block: Values = {"type": "text", "text": said.text}
    if said.tool:
        block = {"type": "tool_use", "id": _number("toolu", request), "name": said.tool, "input": said.arguments}
    message = {
        "id": _number("msg", request),
        "type": "message",
        "role": "assistant",
        "model": request.body.get("model", ""),
        "content": [block],
        "stop_reason": "tool_use" if said.tool else "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    if not request.body.get("stream"):
        return message
    empty = {**block, **({"input": {}} if said.tool else {"text": ""})}
    delta: Values = {"type": "text_delta", "text": said.text}
    if said.tool:
        delta = {"type": "input_json_delta", "partial_json": json.dumps(said.arguments)}
    events: list[Values] = [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None},
            "usage": {"output_tokens": OUTPUT_TOKENS},
        },
        {"type": "message_stop"},
    ]
    return [(event["type"], event) for event in events]


def _chat(said: _Said, request: Request) -> Values | list[tuple[str, Values]]:
    """OpenAI's chat completions."""
    message: Values = {"role": "assistant", "content": said.text or None}
    if said.tool:
        function = {"name": said.tool, "arguments": json.dumps(said.arguments)}
        message["tool_calls"] = [{"index": 0, "id": _number("call", request), "type": "function", "function": function}]
    finish = "tool_calls" if said.tool else "stop"
    usage = {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
    }
    head = {"id": _number("chatcmpl", request), "created": 1700000000, "model": request.body.get("model", "")}
    if not request.body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    head["object"] = "chat.completion.chunk"
    return [
        ("", {**head, "choices": [{"index": 0, "delta": message, "finish_reason": None}]}),
        ("", {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}),
        ("", {**head, "choices": [], "usage": usage}),
        ("", {}),
    ]


def _responses(said: _Said, request: Request) -> list[tuple[str, Values]]:
    """OpenAI's responses."""
    text = {"type": "output_text", "text": said.text, "annotations": []}
    item: Values = {"type": "message", "id": _number("msg", request), "role": "assistant", "content": [text]}
    if said.tool:
        item = {
            "type": "function_call",
            "id": _number("fc", request),
            "call_id": _number("call", request),
            "name": said.tool,
            "arguments": json.dumps(said.arguments),
        }
    usage = {
        "input_tokens": INPUT_TOKENS,
        "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
        "output_tokens": OUTPUT_TOKENS,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    head = {"id": _number("resp", request), "object": "response", "model": request.body.get("model", "")}
    events: list[Values] = [
        {"type": "response.created", "response": {**head, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {**head, "status": "completed", "output": [item], "usage": usage}},
    ]
    return [(event["type"], event) for event in events]


def _number(kind: str, request: Request) -> str:
    """A name that no other answer of the conversation has."""
    return f"{kind}_{len(request.body.get('messages') or request.body.get('input') or ()):06d}"


#: By the last part of the path.
_PROTOCOLS = {"messages": _messages, "completions": _chat, "responses": _responses}
