"""What a page tells unasked: its documents come and go, it throws, crashes, complains, or leaves."""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from logist.errors import RenderFailed
from logist.render.protocol import Connection, Values

_NOTES = 20
_LONGEST = 500
#: Of what the page loads by itself; the contract sees to the rest.
_AWAITED = ("Script", "Stylesheet", "Image", "Font")
_LOCATION = re.compile(r"\(?((?:file|https?|blob|data):[^\s)]+):(\d+):(\d+)\)?")


class Arrival(NamedTuple):
    """Something that a page loaded without its scripts having asked for its bytes."""

    address: str
    #: As the protocol calls it: Script, Stylesheet, Image or Font.
    kind: str


class PageEvents:
    """Listens to a page's session. `timeout` is for what it answers by itself, in seconds."""

    def __init__(self, connection: Connection, session: str, timeout: float) -> None:
        self._connection = connection
        self._session = session
        self._timeout = timeout
        self._parents: dict[str, str] = {}
        self._contexts: dict[str, str] = {}
        self._main = ""
        self._settled = False
        self._leaving = False
        self._notes: deque[str] = deque(maxlen=_NOTES)
        self._thrown: dict[int, RenderFailed] = {}
        self._fatal: RenderFailed | None = None
        self._order: tuple[str, ...] | None = None
        #: What is on its way, by the protocol's name for it, and what has come since it was asked for last.
        self._loading: dict[str, Arrival] = {}
        self._arrived: list[Arrival] = []
        self._drawn_layers = 0
        connection.listen(session, self._take)

    @property
    def notes(self) -> tuple[str, ...]:
        """The last things that it complained of."""
        return tuple(dict.fromkeys(self._notes))

    @property
    def problem(self) -> RenderFailed | None:
        """Why the render can't go on; None: it can."""
        return self._fatal or next(iter(self._thrown.values()), None)

    def check(self) -> None:
        """Raises RenderFailed when the render can't go on."""
        if self._fatal is not None or self._thrown:
            problem = self.problem
            assert problem is not None
            raise problem

    @property
    def leaving(self) -> bool:
        """Whether it is on its way to another address."""
        return self._leaving

    def settle(self) -> None:
        """From now on the page may not go to another address."""
        self._settled = True

    def contexts(self) -> tuple[str, ...]:
        """Where scripts of each document run, parents before the documents in them."""
        if self._order is None:
            frames = sorted(self._contexts, key=self._depth)
            self._order = tuple(self._contexts[frame] for frame in frames)
        return self._order

    def is_main(self, context: str) -> bool:
        """Whether `context` is the page's own document, or nowhere in particular."""
        return not context or self._contexts.get(self._main, context) == context

    @property
    def loading(self) -> str | None:
        """The address of something that the page still waits for outside its own scripts; None: there is nothing."""
        return next((_short(each.address) for each in self._loading.values()), None)

    def take_arrived(self) -> tuple[Arrival, ...]:
        """What has come since this was asked for last; it may not have come to an end yet."""
        arrived, self._arrived = tuple(self._arrived), []
        return arrived

    @property
    def drawn_layers(self) -> int:
        """How many layers the page is drawn on; 0: it does not tell."""
        return self._drawn_layers

    def hint(self, otherwise: str) -> str:
        """The last thing that it complained of, or `otherwise`."""
        return f"the page said before: {self._notes[-1]}" if self._notes else otherwise

    def _depth(self, frame: str) -> int:
        depth = 0
        while frame in self._parents:
            frame, depth = self._parents[frame], depth + 1
        return depth

    # --- Events ----------------------------------------------------------------------------------------------------

    def _take(self, method: str, params: Values) -> None:
        take = _TAKERS.get(method)
        if take is not None:
            take(self, params)

    def _context_created(self, params: Values) -> None:
        context = params["context"]
        data = context.get("auxData", {})
        if data.get("isDefault"):
            frame = data.get("frameId", "")
            if not self._main:
                self._main = frame
            self._contexts[frame] = context["uniqueId"]
            self._order = None

    def _context_destroyed(self, params: Values) -> None:
        gone = params.get("executionContextUniqueId")
        self._contexts = {frame: unique for frame, unique in self._contexts.items() if unique != gone}
        self._order = None

    def _contexts_cleared(self, _params: Values) -> None:
        self._contexts.clear()
        self._order = None

    def _frame_attached(self, params: Values) -> None:
        self._parents[params["frameId"]] = params["parentFrameId"]
        self._order = None

    def _frame_detached(self, params: Values) -> None:
        if params.get("reason") == "swap":
            return
        self._contexts.pop(params["frameId"], None)
        self._parents.pop(params["frameId"], None)
        self._order = None

    def _frame_navigated(self, params: Values) -> None:
        frame = params["frame"]
        if "parentId" in frame:
            self._parents[frame["id"]] = frame["parentId"]
            self._order = None
            return
        self._leaving = False
        if self._settled:
            self._fail(
                f"the page went to another address: {_short(frame['url'])}", "keep it where it is while it is rendered"
            )

    def _navigation_asked(self, params: Values) -> None:
        self._leaving = self._leaving or params["frameId"] == self._main

    def _navigation_over(self, params: Values) -> None:
        self._leaving = self._leaving and params["frameId"] != self._main

    def _threw(self, params: Values) -> None:
        details = params["exceptionDetails"]
        message, place = _thrown(details)
        problem = RenderFailed(f"the page threw: {message}{place}", self.hint(_CONSOLE))
        self._thrown[details.get("exceptionId", 0)] = problem

    def _revoked(self, params: Values) -> None:
        # A rejected promise that somebody handled after all.
        self._thrown.pop(params["exceptionId"], None)

    def _logged(self, params: Values) -> None:
        if params["type"] in ("error", "assert"):
            words = (str(item.get("value", item.get("description", ""))) for item in params["args"])
            self._note(" ".join(words) + _place(params.get("stackTrace", {}).get("callFrames", [])))

    def _entry(self, params: Values) -> None:
        entry = params["entry"]
        if entry["level"] == "error":
            self._note(f"{entry['text']} {_short(entry.get('url', ''))}".strip())

    def _requested(self, params: Values) -> None:
        if params.get("type") in _AWAITED and params["requestId"] not in self._loading:
            address = str(params["request"]["url"])
            # A data: URL holds all of it, and one that is new in each frame would cost each frame a look.
            if not address.startswith("data:"):
                self._loading[params["requestId"]] = Arrival(address, params["type"])

    def _received(self, params: Values) -> None:
        arrival = self._loading.pop(params["requestId"], None)
        if arrival is not None:
            self._arrived.append(arrival)

    def _layers_changed(self, params: Values) -> None:
        layers = params.get("layers", ())
        self._drawn_layers = sum(layer["drawsContent"] and layer["width"] * layer["height"] > 0 for layer in layers)

    def _dialog(self, params: Values) -> None:
        self._note(f"it opened a dialog: {params.get('message', '')}")
        answer = {"accept": params.get("type") == "beforeunload"}
        self._connection.send("Page.handleJavaScriptDialog", answer, session=self._session, timeout=self._timeout)

    def _crashed(self, _params: Values) -> None:
        self._fail("the page crashed", "it may need more memory than there is, or be more than the browser bears")
        # Nothing that is asked of it now is ever answered.
        self.check()

    def _detached(self, params: Values) -> None:
        self._fail(f"the page was closed: {params.get('reason', '')}", "keep it open while it is rendered")
        self.check()

    def _attached(self, params: Values) -> None:
        target = params["targetInfo"]
        if target["type"] == "iframe":
            self._fail(
                "the page holds a document that the browser keeps apart from it, so its time can't be held",
                "serve the page and what is in its frames over http, both or neither",
            )
        elif target["type"] == "worker":
            self._note(f"its worker runs in real time: {_short(target['url'])}")

    def _note(self, text: str) -> None:
        self._notes.append(" ".join(text.split())[:_LONGEST])

    def _fail(self, message: str, hint: str) -> None:
        if self._fatal is None:
            self._fatal = RenderFailed(message, self.hint(hint))


_CONSOLE = "open the page in a browser: its console says more"
#: Hints: what never ends, and what has no canvas to be taken a picture of.
SLOW = "find what never ends there, or give it more time with --timeout"
CANVAS = "name it with --canvas-selector, or render with --mode dom"
#: By what the contract says.
_HINTS = {
    "the page threw": _CONSOLE,
    "canvas": CANVAS,
    "no element matches": CANVAS,
    "still waits": SLOW,
    "has not loaded": SLOW,
    "did not reach": SLOW,
    "ranges of bytes": "serve it by a server that does, or render the page as a file",
}

_TAKERS = {
    "Runtime.executionContextCreated": PageEvents._context_created,
    "Runtime.executionContextDestroyed": PageEvents._context_destroyed,
    "Runtime.executionContextsCleared": PageEvents._contexts_cleared,
    "Runtime.exceptionThrown": PageEvents._threw,
    "Runtime.exceptionRevoked": PageEvents._revoked,
    "Runtime.consoleAPICalled": PageEvents._logged,
    "Log.entryAdded": PageEvents._entry,
    "Network.requestWillBeSent": PageEvents._requested,
    "Network.loadingFinished": PageEvents._received,
    "Network.loadingFailed": PageEvents._received,
    "LayerTree.layerTreeDidChange": PageEvents._layers_changed,
    "Page.frameAttached": PageEvents._frame_attached,
    "Page.frameDetached": PageEvents._frame_detached,
    "Page.frameNavigated": PageEvents._frame_navigated,
    "Page.frameRequestedNavigation": PageEvents._navigation_asked,
    "Page.navigatedWithinDocument": PageEvents._navigation_over,
    "Page.frameStoppedLoading": PageEvents._navigation_over,
    "Page.javascriptDialogOpening": PageEvents._dialog,
    "Inspector.targetCrashed": PageEvents._crashed,
    "Inspector.detached": PageEvents._detached,
    "Target.attachedToTarget": PageEvents._attached,
}


def failure_text(details: Values) -> str:
    """Why a frame failed: what the page threw, or what the contract says of it, whose script has no address."""
    message, place = _thrown(details)
    ours = not place and message.startswith("Error: ")
    return message.removeprefix("Error: ") if ours else f"the page threw: {message}{place}"


def usual_hint(message: str) -> str:
    """What helps against a failure that the contract, or the page, says like this."""
    return next((hint for words, hint in _HINTS.items() if words in message), _CONSOLE)


def _thrown(details: Values) -> tuple[str, str]:
    """What was thrown, in one line, and where."""
    thrown = details.get("exception", {})
    description = str(thrown.get("description") or thrown.get("value") or details.get("text", "an error"))
    place = _place(details.get("stackTrace", {}).get("callFrames", [])) or _place_in(description)
    if not place and details.get("url"):
        place = f" ({_short(details['url'])}:{details.get('lineNumber', 0) + 1})"
    first = description.partition("\n")[0]
    return " ".join(first.split())[:_LONGEST] or "an error", place


def _place(frames: list[Values]) -> str:
    """The first line of the page's own scripts on a stack; what runs before them has no address."""
    for frame in frames:
        if frame.get("url"):
            return f" ({_short(frame['url'])}:{frame['lineNumber'] + 1}:{frame['columnNumber'] + 1})"
    return ""


def _place_in(stack: str) -> str:
    found = _LOCATION.search(stack)
    return f" ({_short(found[1])}:{found[2]}:{found[3]})" if found else ""


def _short(url: str) -> str:
    """A file's own name, or a URL that is not too long to be read."""
    return url.rpartition("/")[2] if url.startswith("file:") else url[:200]
