"""One page that is rendered: opened, made ready, and moved from frame to frame, always forward, never for ever."""

from __future__ import annotations

import binascii
import json
import struct
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from logist.errors import LogistError, RenderFailed, UsageProblem
from logist.render.capture import BeginFrames, Canvases, Capture, Meanwhile, Screenshots, new_target
from logist.render.contract import CONTRACT, TELL_OBSERVERS, contract_script, track_of
from logist.render.options import AudioTrack, Mode, RenderOptions, Warmup
from logist.render.page_events import CANVAS, SLOW, PageEvents, failure_text, usual_hint
from logist.render.protocol import NOBODY, Connection, ConnectionLostError, NoAnswerError, ProtocolError, Values

#: Pixel formats with transparency: what the page does not paint stays transparent.
_WITH_ALPHA = ("yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya8", "ya16", "ayuv", "vuya", "pal8")
#: Seconds that a page waits for something before a frame is shown to let it go on.
_NUDGE_AFTER = 0.004
#: Likewise, before it is told what its observers see: it must not wait for the next frame with that.
_TELL_AFTER = 0.25
_PACE = 0.01
#: In which a browser that is left to itself draws a new page, if it ever does.
_DRAWN_WITHIN = 8.0
#: In which it becomes known why a document can't be asked any more.
_EXPLAINING = 1.0
#: Where a PNG says how large it is.
_PNG_HEADER, _PNG_SIZE = 16, struct.Struct(">II")
_TRANSPARENT = {"color": {"r": 0, "g": 0, "b": 0, "a": 0}}


class _SentStep(NamedTuple):
    """A step that was asked for while the frame before it was shown."""

    frame: int
    context: str
    #: The number of its command.
    command: int


class NeverDrawnError(Exception):
    """The browser does not draw a new page, as a busy one with windows sometimes never does; another one may be."""


class ReplayUnseenError(Exception):
    """A picture may depend on what the browser would have kept of replayed frames, had they been shown to it.

    A page that is opened anew, with `show_replayed`, makes it.
    """


class Page:
    """A composition in a browser. One thread uses it at a time.

    Replayed frames are shown to nobody, not even to the browser, as long as that makes no difference. With
    `show_replayed` the browser sees them all.
    """

    def __init__(
        self,
        connection: Connection,
        session: str,
        capture: Capture,
        events: PageEvents,
        options: RenderOptions,
        *,
        show_replayed: bool = False,
    ):
        self._connection = connection
        #: The protocol's name for the page.
        self.session = session
        self._capture = capture
        self._events = events
        self._options = options
        self._canvases = Canvases()
        self._timeout = float(options.timeout)
        #: Documents that have said that they are ready.
        self._prepared: set[str] = set()
        #: The frame that comes next.
        self._next = 0
        #: Whether the page may go on while the frame to which it was moved is shown.
        self._all_drawn = False
        self._nudged = False
        self._sent: _SentStep | None = None
        #: Whether replayed frames need not be shown.
        self._may_pass_by = capture.by_hand and not show_replayed
        #: Whether frames were replayed without being shown since the last picture.
        self._unseen = False

    @classmethod
    def open(cls, connection: Connection, url: str, options: RenderOptions, *, show_replayed: bool = False) -> Page:
        """Open a page and load `url` in it. Raises RenderFailed, and UsageProblem for props that are not JSON."""
        script = contract_script(options)
        timeout = float(options.timeout)
        try:
            session, by_hand = new_target(connection, options, timeout)
            events = PageEvents(connection, session, timeout)
            capture: Capture
            if by_hand:
                capture = BeginFrames(connection, session, 1000 * options.fps.denominator / options.fps.numerator)
            else:
                capture = Screenshots(connection, session)
            page = cls(connection, session, capture, events, options, show_replayed=show_replayed)
            page._prepare(script)
        except (ConnectionLostError, NoAnswerError, ProtocolError) as error:
            raise RenderFailed(f"the browser could not open a page: {error}", _AGAIN) from error
        page._load(url)
        return page

    @property
    def notes(self) -> tuple[str, ...]:
        """What the page complained of without failing: its console errors, and what it could not load."""
        return self._events.notes

    def ready(self, *, patient: bool = False) -> None:
        """Wait until the page has what its first frame needs, and was drawn.

        Raises RenderFailed, and NeverDrawnError unless `patient`: then the page is good for nothing more.
        """
        deadline = time.monotonic() + self._timeout
        while (
            self._prepare_documents(deadline, _NEVER_READY, leaving=True)
            or self._events.leaving
            or self._take_in(deadline, _NEVER_READY, seen=True, leaving=True)
        ):
            if self._events.leaving or not self._events.contexts():
                self._pause(deadline, _NEVER_READY)
        self._events.settle()
        # The document may have taken the place of the one that was loaded.
        self._ask_for_layers(deadline)
        # Every page has been shown as it is before its first frame, and not only those that were slow to get ready:
        # the browser may draw a layer at the size at which it saw it first.
        if not patient:
            self._try_to_draw(min(_DRAWN_WITHIN, _left(deadline)))
        self._taken(self._ms(-1), deadline, _NEVER_READY)
        if self._layers_matter:
            self._may_pass_by = self._is_on_one_layer(deadline, _NEVER_READY)

    def frame(self, number: int, then: int | None = None) -> bytes:
        """Move on to a frame, and take its picture as a PNG; those before it are replayed unless that is not wanted.

        `then` is the frame that is asked for next: the page goes on to it while this one is shown. A picture like the
        last one is the same object. Raises RenderFailed, and ReplayUnseenError: then the page is good for nothing more.
        """
        if self._options.warmup is Warmup.REPLAY:
            for skipped in range(self._next, number):
                self._skip(skipped, number)
        if number < self._next:
            raise ValueError(f"frame {number} was shown already")
        self._next = number + 1
        deadline = time.monotonic() + self._timeout
        if self._options.mode is Mode.CANVAS:
            return self._canvas_frame(number, deadline, then)
        self._step(number, deadline, seen=True)
        meanwhile = None if self._unseen else self._look_ahead(number, then)
        picture = self._taken(self._ms(number), deadline, _late(number), meanwhile)
        if self._unseen and not self._is_on_one_layer(deadline, _late(number)):
            raise ReplayUnseenError
        self._unseen = False
        return picture

    def _skip(self, number: int, target: int) -> None:
        """Move on through a frame that nobody will see, on the way to `target`."""
        deadline = time.monotonic() + self._timeout
        self._step(number, deadline, seen=False)
        self._show(number, deadline, self._look_ahead(number, target))
        self._next = number + 1

    def tracks(self) -> tuple[AudioTrack, ...]:
        """The sounds that the page has played until now, of all its documents. Raises RenderFailed."""
        deadline = time.monotonic() + self._timeout
        found: list[Values] = []
        for context in self._events.contexts():
            found += self._evaluate(f"{CONTRACT}.tracks()", context, deadline, _NO_TRACKS) or []
        return tuple(track_of(values) for values in found)

    def close(self) -> None:
        """Have the browser forget it; nothing can be asked of it afterwards. Raises RenderFailed."""
        self._connection.leave(self.session)
        try:
            self._connection.send("Page.close", session=self.session, timeout=self._timeout)
        except (ConnectionLostError, NoAnswerError) as error:
            raise self._failure(error, "the page was not closed") from error

    def check(self) -> None:
        """Ask the page for a last sign of life, so that what it threw until now is heard. Raises RenderFailed."""
        self._evaluate("0", "", time.monotonic() + self._timeout, "the page hangs after its last frame")

    # --- Frames ----------------------------------------------------------------------------------------------------

    def _try_to_draw(self, timeout: float) -> None:
        """Raises NeverDrawnError when the browser, left to itself, does not draw the page in time."""
        if self._capture.by_hand:
            return
        try:
            self._capture.picture(self._ms(-1), timeout)
        except NoAnswerError as error:
            raise NeverDrawnError from error
        except (ConnectionLostError, ProtocolError) as error:
            raise self._failure(error, _NEVER_READY) from error

    def _prepare_documents(self, deadline: float, late: str, *, leaving: bool = False) -> bool:
        """Have documents that are new get ready; whether there were any, or there are none at all."""
        contexts = self._events.contexts()
        new = [context for context in contexts if context not in self._prepared]
        for context in new:
            left = f"{_left(deadline) * 1000:.0f}"
            self._evaluate(f"{CONTRACT}.ready({left})", context, deadline, late, leaving=leaving)
            self._prepared.add(context)
        return bool(new) or not contexts

    def _step(self, number: int, deadline: float, *, seen: bool) -> None:
        """Move all documents to a frame, parents first."""
        self._all_drawn = self._nudged = False
        sent = self._take_sent(number)
        if sent is None:
            self._step_others((), number, deadline, seen=seen)
        else:
            self._all_drawn = self._value(sent.command, sent.context, deadline, _late(number)) is True
            self._step_others((sent.context,), number, deadline, seen=seen)

    def _step_others(self, stepped: Iterable[str], number: int, deadline: float, *, seen: bool) -> bool:
        """Move the documents to a frame that are not `stepped`; whether anything came into the page meanwhile."""
        late, done = _late(number), set(stepped)
        came = False
        # What a step brings into the page has to be there for the frame.
        while True:
            if self._prepare_documents(deadline, late) or not done.issuperset(self._events.contexts()):
                self._step_documents(number, deadline, done, seen=seen)
            elif self._take_in(deadline, late, seen=seen):
                came, self._all_drawn = True, False
            else:
                return came

    def _step_documents(self, number: int, deadline: float, done: set[str], *, seen: bool) -> None:
        """Move the documents that are not `done` to a frame."""
        for context in self._events.contexts():
            if context in self._prepared - done:
                call = f"{TELL_OBSERVERS};{self._step_call(number, seen=seen)}"
                self._all_drawn = self._evaluate(call, context, deadline, _late(number)) is True
                done.add(context)
        if not self._events.contexts():
            self._pause(deadline, _late(number))

    def _take_in(self, deadline: float, late: str, *, seen: bool, leaving: bool = False) -> bool:
        """Wait for what the page loads by itself, and for what comes of that; whether there was anything."""
        # That it was asked for is told before the answer to the script in which it was.
        waited = False
        while self._events.loading:
            waited = True
            self._pause(deadline, f"{late}: {self._events.loading} was not loaded")
        arrived = self._events.take_arrived()
        # Pictures that came in time need nothing more; scripts are still to be run.
        if not waited and all(each.kind == "Image" for each in arrived):
            return False
        call = f"{CONTRACT}.arrived({json.dumps(arrived)},{json.dumps(seen)})"
        for context in self._events.contexts():
            self._evaluate(call, context, deadline, late, leaving=leaving)
        return True

    def _canvas_call(self, number: int) -> str:
        """Move on to a frame, and take the canvas: what `_step_call` comes to, and the picture."""
        # In one go: a canvas that WebGL draws on may be cleared once the browser has shown it.
        return (
            f"{self._step_call(number, seen=True)}"
            f".then(drawn=>{CONTRACT}.canvas({self._selector}).then(text=>[drawn,text]))"
        )

    @property
    def _selector(self) -> str:
        return json.dumps(self._options.canvas_selector)

    def _step_call(self, number: int, *, seen: bool) -> str:
        return f"{CONTRACT}.step({number},{self._ms(number)!r},{'true' if seen else 'false'})"

    def _look_ahead(self, number: int, then: int | None) -> Meanwhile | None:
        """What moves the page on from frame `number`, towards `then`, while that frame is shown; None: nothing may."""
        following = number + 1 if self._options.warmup is Warmup.REPLAY else then
        seen = following == then
        if then is None or following is None or not self._may_go_on():
            return None
        [context] = self._events.contexts()
        taken = seen and self._options.mode is Mode.CANVAS
        step = self._canvas_call(following) if taken else self._step_call(following, seen=seen)

        def send() -> None:
            call = f"{CONTRACT}.drawn().then(()=>{{{TELL_OBSERVERS};return {step}}})"
            self._sent = _SentStep(following, context, self._send(call, context, self._timeout))

        return send

    def _may_go_on(self) -> bool:
        """Whether what is shown of the page can't be changed by its going on meanwhile."""
        # The page can't tell the frame that is shown from one that it was nudged with, and goes on after either.
        return self._capture.by_hand and self._all_drawn and not self._nudged and len(self._events.contexts()) == 1

    def _take_sent(self, number: int) -> _SentStep | None:
        """The step that was sent while the last frame was shown; None: none was."""
        sent, self._sent = self._sent, None
        if sent is not None and sent.frame != number:
            raise ValueError(f"the page was told that another frame than {number} comes next")
        return sent

    def _canvas_frame(self, number: int, deadline: float, then: int | None) -> bytes:
        self._nudged = False
        sent = self._take_sent(number)
        if sent is None:
            [main, *_] = self._events.contexts() or ("",)
            value = self._evaluate(f"{TELL_OBSERVERS};{self._canvas_call(number)}", main, deadline, _late(number))
        else:
            main, value = sent.context, self._value(sent.command, sent.context, deadline, _late(number))
        # The document may be gone: then there is no value.
        self._all_drawn, text = value or (False, "")
        if self._step_others((main,), number, deadline, seen=True):
            text = self._evaluate(f"{CONTRACT}.canvas({self._selector})", main, deadline, _late(number))
        self._show(number, deadline, self._look_ahead(number, then))
        try:
            picture = self._canvases.take(text)
            size = _PNG_SIZE.unpack_from(picture, _PNG_HEADER)
        except (binascii.Error, struct.error, TypeError, ValueError) as error:
            raise RenderFailed(f"the canvas gave no picture of frame {number}", CANVAS) from error
        self._check_size(number, *size)
        return picture

    def _check_size(self, number: int, width: int, height: int) -> None:
        wanted = (self._options.width, self._options.height)
        if (width, height) != wanted:
            raise RenderFailed(
                f"the canvas is {width}x{height} pixels at frame {number}, and the render {wanted[0]}x{wanted[1]}",
                f"render with --width {width} --height {height}, or let the page fit its canvas into the window",
            )

    def _taken(self, ms: float, deadline: float, late: str, meanwhile: Meanwhile | None = None) -> bytes:
        """A picture of the page as it is now."""
        while True:
            try:
                picture = self._capture.picture(ms, _left(deadline), meanwhile)
            except (ConnectionLostError, NoAnswerError, ProtocolError) as error:
                raise self._failure(error, late) from error
            self._events.check()
            if picture is not None:
                return picture
            self._pause(deadline, late)

    def _show(self, number: int, deadline: float, meanwhile: Meanwhile | None = None) -> None:
        """Have the page, and the browser where that may make a difference, see a frame of which no picture is taken."""
        unseen = self._may_pass_by and self._all_drawn and len(self._events.contexts()) == 1
        show = self._capture.pass_by if unseen else self._capture.show
        try:
            show(self._ms(number), _left(deadline), meanwhile)
        except (ConnectionLostError, NoAnswerError, ProtocolError) as error:
            raise self._failure(error, _late(number)) from error
        if unseen and meanwhile is None:
            # What is not shown may be over for the browser before it is for the page.
            self._evaluate(f"{CONTRACT}.drawn()", "", deadline, _late(number))
        self._unseen = self._unseen or unseen

    @property
    def _layers_matter(self) -> bool:
        return self._may_pass_by and self._options.mode is Mode.DOM

    def _ask_for_layers(self, deadline: float) -> None:
        """Have the document tell its layers. It tells changes alone: one that was drawn before seems to have none."""
        if not self._layers_matter:
            return
        try:
            self._connection.call("LayerTree.enable", session=self.session, timeout=_left(deadline))
        except (ConnectionLostError, NoAnswerError, ProtocolError) as error:
            raise self._failure(error, _NEVER_READY) from error

    def _is_on_one_layer(self, deadline: float, late: str) -> bool:
        """Whether all of the page is drawn on one layer; a further one may be drawn at the scale of an old frame."""
        # The page tells of new layers by itself, once the task is over in which there were any.
        for _ in range(2):
            self._evaluate("0", "", deadline, late)
        return self._events.drawn_layers == 1

    def _ms(self, number: int) -> float:
        return number * 1000 * self._options.fps.denominator / self._options.fps.numerator

    # --- Talking with the page -------------------------------------------------------------------------------------

    def _evaluate(self, script: str, context: str, deadline: float, late: str, *, leaving: bool = False) -> Any:
        """The value of `script` once it is settled. `leaving`: the page may go to another address meanwhile."""
        try:
            number = self._send(script, context, _left(deadline))
        except (ConnectionLostError, NoAnswerError) as error:
            raise self._failure(error, late) from error
        return self._value(number, context, deadline, late, leaving=leaving)

    def _send(self, script: str, context: str, timeout: float) -> int:
        """Ask for the value of `script`; the number of the command."""
        params: Values = {"expression": script, "awaitPromise": True, "returnByValue": True}
        if context:
            params["uniqueContextId"] = context
        return self._connection.send("Runtime.evaluate", params, session=self.session, timeout=timeout)

    def _value(self, command: int, context: str, deadline: float, late: str, *, leaving: bool = False) -> Any:
        """The value that a command asked for."""
        try:
            answer = self._awaited(command, deadline, context)
        except ProtocolError as error:
            self._events.check()
            if leaving or not self._events.is_main(context):
                # The document is gone; whatever came in its place is asked next.
                return None
            raise self._failure(error, late) from error
        except (ConnectionLostError, NoAnswerError) as error:
            raise self._failure(error, late) from error
        self._events.check()
        if "exceptionDetails" in answer:
            raise self._thrown(answer["exceptionDetails"])
        return answer["result"].get("value")

    def _awaited(self, number: int, deadline: float, context: str = "") -> Values:
        """The answer to a script that may wait for the page's being shown, or for what the page sees of itself."""
        pace = _NUDGE_AFTER if self._capture.by_hand else _TELL_AFTER
        tell_at = time.monotonic() + _TELL_AFTER
        while not self._connection.answered(number, within=min(pace, _left(deadline))):
            self._events.check()
            if _left(deadline) <= 0:
                raise NoAnswerError
            self._nudge(deadline)
            if context and time.monotonic() >= tell_at:
                tell_at += _TELL_AFTER
                params: Values = {"expression": TELL_OBSERVERS, "uniqueContextId": context}
                self._connection.send("Runtime.evaluate", params, session=self.session, timeout=_left(deadline))
        return self._connection.wait(number, timeout=0)

    def _pause(self, deadline: float, late: str) -> None:
        """Let the page go on for a moment."""
        try:
            self._nudge(deadline)
            self._connection.answered(NOBODY, within=_PACE)
        except (ConnectionLostError, NoAnswerError, ProtocolError) as error:
            raise self._failure(error, late) from error
        self._events.check()
        if _left(deadline) <= 0:
            raise self._failure(NoAnswerError(), late)

    def _nudge(self, deadline: float) -> None:
        self._nudged = True
        self._capture.nudge(_left(deadline))

    def _failure(self, error: Exception, late: str) -> LogistError:
        """What went wrong, as the page says it itself if it does."""
        if isinstance(error, ProtocolError):
            error = self._explained(error)
        problem = self._events.problem
        if problem is not None:
            return problem
        if isinstance(error, NoAnswerError):
            return RenderFailed(f"{late} within {self._timeout:g} s", self._events.hint(SLOW))
        return RenderFailed(f"{late}: {error}", self._events.hint(_AGAIN))

    def _explained(self, error: ProtocolError) -> Exception:
        """The error, or that the browser is gone: of a document that can't be asked that is told a moment later."""
        deadline = time.monotonic() + _EXPLAINING
        try:
            while self._events.problem is None and _left(deadline) > 0:
                self._connection.answered(NOBODY, within=_PACE)
        except ConnectionLostError as lost:
            return lost
        return error

    def _thrown(self, details: Values) -> LogistError:
        """What a script of ours came back with: the page's own error, or what the contract misses in it."""
        message, selector = failure_text(details), self._options.canvas_selector
        if selector is not None and f"'{' '.join(selector.split())}' is not a valid selector" in message:
            return UsageProblem(f"--canvas-selector {selector} is no selector of CSS", "write it like #stage or canvas")
        return RenderFailed(message, self._events.hint(usual_hint(message)))

    # --- Opening ---------------------------------------------------------------------------------------------------

    def _prepare(self, script: str) -> None:
        call = self._call
        for domain in ("Page", "Runtime", "Inspector", "Log"):
            call(f"{domain}.enable")
        call("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        if self._capture.by_hand:
            call("Page.addScriptToEvaluateOnNewDocument", {"source": _AWAKE, "worldName": "logist"})
        call("Target.setAutoAttach", {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True})
        width, height = self._options.width, self._options.height
        size = {"width": width, "height": height, "screenWidth": width, "screenHeight": height}
        call("Emulation.setDeviceMetricsOverride", {**size, "deviceScaleFactor": 1, "mobile": False})
        # Only what is loaded is asked about, never its bytes.
        call("Network.enable", {"maxTotalBufferSize": 0, "maxResourceBufferSize": 0})
        if (self._options.pixel_format or "").startswith(_WITH_ALPHA):
            call("Emulation.setDefaultBackgroundColorOverride", _TRANSPARENT)

    def _load(self, url: str) -> None:
        deadline = time.monotonic() + self._timeout
        try:
            number = self._connection.send("Page.navigate", {"url": url}, session=self.session, timeout=_left(deadline))
            answer = self._awaited(number, deadline)
        except (ConnectionLostError, NoAnswerError, ProtocolError) as error:
            raise self._failure(error, f"{url} was not loaded") from error
        if answer.get("errorText"):
            raise RenderFailed(f"{url} can't be opened: {answer['errorText']}", "check the address, and who serves it")
        self._ask_for_layers(deadline)
        status = self._evaluate(_STATUS, "", deadline, f"{url} was not loaded", leaving=True)
        if isinstance(status, int) and status >= 400:
            raise RenderFailed(f"{url} can't be opened: HTTP status {status}", "check the address, and who serves it")

    def _call(self, method: str, params: Values | None = None) -> Values:
        return self._connection.call(method, params, session=self.session, timeout=self._timeout)


#: A page that has asked for no frame may sleep through one that is begun by hand, and be shown as it was before. So it
#: always asks, out of sight of its own scripts.
_AWAKE = "(function ask() { requestAnimationFrame(ask); })();"
_AGAIN = "render again; --browser names another browser"
_NEVER_READY = "the page did not become ready"
_NO_TRACKS = "the page could not tell its sounds"
_STATUS = "(performance.getEntriesByType('navigation')[0]||{}).responseStatus"


def _late(number: int) -> str:
    return f"frame {number} did not come"


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.0)
