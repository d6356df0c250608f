"""One page that is rendered: opened, made ready, and moved from frame to frame, always forward, never for ever."""

from __future__ import annotations

import binascii
import json
import struct
import time
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from logist.errors import RenderFailed
from logist.render.capture import BeginFrames, Canvases, Capture, Meanwhile, Screenshots, new_target
from logist.render.contract import CONTRACT, TELL_OBSERVERS, contract_script, track_of
from logist.render.options import AudioTrack, Mode, RenderOptions, Warmup
from logist.render.page_events import CANVAS, PageEvents
from logist.render.page_talk import AGAIN, PageTalk, seconds_left
from logist.render.protocol import Connection, ConnectionLostError, NoAnswerError, ProtocolError, Values

#: Pixel formats with transparency: what the page does not paint stays transparent.
_WITH_ALPHA = ("yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya8", "ya16", "ayuv", "vuya", "pal8")
#: Seconds for which a page may replay frames in one go, and how many it is asked for.
_REPLAY_FOR = 0.03
_MANY = 100
#: Seconds in which a browser that is left to itself draws a new page, if it ever does.
_DRAWN_WITHIN = 8.0
#: Where a PNG says how large it is.
_PNG_HEADER, _PNG_SIZE = 16, struct.Struct(">II")
_TRANSPARENT = {"color": {"r": 0, "g": 0, "b": 0, "a": 0}}


class _SentStep(NamedTuple):
    """A step that was asked for, as while the frame before it was shown."""

    frame: int
    context: str
    #: The number of its command.
    command: int
    #: Whether it may have gone through more frames than one.
    runs_ahead: bool


class NeverDrawnError(Exception):
    """The browser does not draw a new page, as a busy one with windows sometimes never does; another one may be."""


class ReplayUnseenError(Exception):
    """A picture may depend on what the browser would have kept or told of replayed frames, had they been shown to it.

    A page that is opened anew, with `show_replayed`, makes it.
    """


class Page:
    """A composition in a browser. One thread uses it at a time.

    Replayed frames are shown to nobody, not even to the browser, as long as that makes no difference. With
    `show_replayed` the browser sees them all.
    """

    def __init__(
        self,
        talk: PageTalk,
        capture: Capture,
        events: PageEvents,
        options: RenderOptions,
        *,
        show_replayed: bool = False,
    ):
        self._talk = talk
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
        self._sent: _SentStep | None = None
        #: Whether replayed frames need not be shown.
        self._may_pass_by = capture.by_hand and not show_replayed
        #: Whether several frames may be replayed in one go.
        self._may_run_ahead = self._may_pass_by and options.mode is Mode.CANVAS
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
            talk = PageTalk(connection, session, capture, events, options)
            page = cls(talk, capture, events, options, show_replayed=show_replayed)
            page._prepare(script)
        except (ConnectionLostError, NoAnswerError, ProtocolError) as error:
            raise RenderFailed(f"the browser could not open a page: {error}", AGAIN) from error
        page._load(url)
        return page

    @property
    def session(self) -> str:
        """The protocol's name for the page."""
        return self._talk.session

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
                self._talk.pause(deadline, _NEVER_READY)
        self._events.settle()
        # The document may have taken the place of the one that was loaded.
        self._ask_for_layers(deadline)
        # Every page has been shown as it is before its first frame, and not only those that were slow to get ready:
        # the browser may draw a layer at the size at which it saw it first.
        if not patient:
            self._try_to_draw(min(_DRAWN_WITHIN, seconds_left(deadline)))
        self._taken(self._ms(-1), deadline, _NEVER_READY)
        if self._layers_matter:
            self._may_pass_by = self._is_on_one_layer(deadline, _NEVER_READY)

    def frame(self, number: int, then: int | None = None) -> bytes:
        """Move on to a frame, and take its picture as a PNG; those before it are replayed unless that is not wanted.

        `then` is the frame that is asked for next: the page goes on to it while this one is shown. A picture like the
        last one is the same object. Raises RenderFailed, and ReplayUnseenError: then the page is good for nothing more.
        """
        if self._options.warmup is Warmup.REPLAY:
            while self._next < number:
                self._skip(number)
        if number < self._next:
            raise ValueError(f"frame {number} was shown already")
        self._next = number + 1
        deadline = time.monotonic() + self._timeout
        if self._options.mode is Mode.CANVAS:
            return self._canvas_frame(number, deadline, then)
        self._step(number, deadline)
        meanwhile = None if self._unseen else self._look_ahead(number, then)
        picture = self._taken(self._ms(number), deadline, _late(number), meanwhile)
        if self._unseen and not self._is_on_one_layer(deadline, _late(number)):
            raise ReplayUnseenError
        self._unseen = False
        return picture

    def _skip(self, target: int) -> None:
        """Move on through a frame that nobody will see, or several, on the way to `target`."""
        deadline = time.monotonic() + self._timeout
        number = self._replay(self._next, target, deadline)
        self._show(number, deadline, self._look_ahead(number, target))
        self._next = number + 1

    def tracks(self) -> tuple[AudioTrack, ...]:
        """The sounds that the page has played until now, of all its documents. Raises RenderFailed."""
        deadline = time.monotonic() + self._timeout
        found: list[Values] = []
        for context in self._events.contexts():
            found += self._talk.evaluate(f"{CONTRACT}.tracks()", context, deadline, _NO_TRACKS) or []
        return tuple(track_of(values) for values in found)

    def close(self) -> None:
        """Have the browser forget it; nothing can be asked of it afterwards. Raises RenderFailed."""
        try:
            self._talk.leave(self._timeout)
        except (ConnectionLostError, NoAnswerError) as error:
            raise self._talk.failure(error, "the page was not closed") from error

    def check(self) -> None:
        """Ask the page for a last sign of life, so that what it threw until now is heard. Raises RenderFailed."""
        self._talk.evaluate("0", "", time.monotonic() + self._timeout, "the page hangs after its last frame")

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
            raise self._talk.failure(error, _NEVER_READY) from error

    def _prepare_documents(self, deadline: float, late: str, *, leaving: bool = False) -> bool:
        """Have documents that are new get ready; whether there were any, or there are none at all."""
        contexts = self._events.contexts()
        new = [context for context in contexts if context not in self._prepared]
        for context in new:
            left = f"{seconds_left(deadline) * 1000:.0f}"
            self._talk.evaluate(f"{CONTRACT}.ready({left})", context, deadline, late, leaving=leaving)
            self._prepared.add(context)
        return bool(new) or not contexts

    def _step(self, number: int, deadline: float) -> None:
        """Move all documents to a frame of which a picture is taken, parents first."""
        self._all_drawn = self._talk.nudged = False
        sent = self._take_sent(number)
        if sent is None:
            self._step_others((), number, deadline, seen=True)
        else:
            self._all_drawn = self._talk.value(sent.command, sent.context, deadline, _late(number)) is True
            self._step_others((sent.context,), number, deadline, seen=True)

    def _replay(self, number: int, target: int, deadline: float) -> int:
        """Move all documents to a frame that nobody will see, and on while they may; the frame that was reached."""
        late, sent, runs_ahead = _late(number), self._take_sent(number), self._runs_ahead(number, target)
        self._talk.nudged = False
        if sent is not None:
            context = sent.context
            value = self._talk.value(sent.command, context, deadline, late, patient=sent.runs_ahead)
        elif runs_ahead:
            [context] = self._events.contexts()
            call = f"{TELL_OBSERVERS};{self._replay_call(number, target, runs_ahead=True)}"
            value = self._talk.evaluate(call, context, deadline, late, patient=True)
        else:
            self._all_drawn = False
            self._step_others((), number, deadline, seen=False)
            return number
        # The document may be gone: then there is no value.
        made, drawn = value or (1, False)
        self._take_drawn(drawn)
        # What waits for the browser's frames is done sooner where it gets one each time.
        self._may_run_ahead = self._may_run_ahead and not self._talk.nudged
        reached = int(number + made - 1)
        came = self._step_others((context,), reached, deadline, seen=False)
        if made > 1 and (came or self._events.contexts() != (context,)):
            # It may have been asked for some frames earlier.
            raise ReplayUnseenError
        return reached

    def _take_drawn(self, drawn: bool | None) -> None:
        """What the page says of a frame; None: it ran ahead of something that the browser had to tell it."""
        if drawn is None:
            raise ReplayUnseenError
        self._all_drawn = drawn

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
                self._all_drawn = self._talk.evaluate(call, context, deadline, _late(number)) is True
                done.add(context)
        if not self._events.contexts():
            self._talk.pause(deadline, _late(number))

    def _take_in(self, deadline: float, late: str, *, seen: bool, leaving: bool = False) -> bool:
        """Wait for what the page loads by itself, and for what comes of that; whether there was anything."""
        # That it was asked for is told before the answer to the script in which it was.
        waited = False
        while self._events.loading:
            waited = True
            self._talk.pause(deadline, f"{late}: {self._events.loading} was not loaded")
        arrived = self._events.take_arrived()
        # Pictures that came in time need nothing more; scripts are still to be run.
        if not waited and all(each.kind == "Image" for each in arrived):
            return False
        call = f"{CONTRACT}.arrived({json.dumps(arrived)},{json.dumps(seen)})"
        for context in self._events.contexts():
            self._talk.evaluate(call, context, deadline, late, leaving=leaving)
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

    def _replay_call(self, number: int, target: int, *, runs_ahead: bool) -> str:
        """Move on through a frame that nobody will see, or on towards `target` while the browser need not see it."""
        stop = min(target, number + _MANY) if runs_ahead else number + 1
        times = [self._ms(each) for each in range(number, stop)]
        return f"{CONTRACT}.replay({number},{times!r},{1000 * _REPLAY_FOR!r})"

    def _runs_ahead(self, number: int, target: int) -> bool:
        """Whether the frames until `target` may be replayed in one go: the browser seems to have no part in them."""
        return target - number > 1 and self._may_run_ahead and self._all_drawn and len(self._events.contexts()) == 1

    def _look_ahead(self, number: int, then: int | None) -> Meanwhile | None:
        """What moves the page on from frame `number`, towards `then`, while that frame is shown; None: nothing may."""
        following = number + 1 if self._options.warmup is Warmup.REPLAY else then
        if then is None or following is None or not self._may_go_on():
            return None
        [context] = self._events.contexts()
        runs_ahead = self._runs_ahead(following, then)
        if following < then:
            step = self._replay_call(following, then, runs_ahead=runs_ahead)
        elif self._options.mode is Mode.CANVAS:
            step = self._canvas_call(following)
        else:
            step = self._step_call(following, seen=True)

        def send() -> None:
            call = f"{CONTRACT}.drawn().then(()=>{{{TELL_OBSERVERS};return {step}}})"
            self._sent = _SentStep(following, context, self._talk.ask(call, context, self._timeout), runs_ahead)

        return send

    def _may_go_on(self) -> bool:
        """Whether what is shown of the page can't be changed by its going on meanwhile."""
        # The page can't tell the frame that is shown from one that it was nudged with, and goes on after either.
        return self._capture.by_hand and self._all_drawn and not self._talk.nudged and len(self._events.contexts()) == 1

    def _take_sent(self, number: int) -> _SentStep | None:
        """The step that was sent while the last frame was shown; None: none was."""
        sent, self._sent = self._sent, None
        if sent is not None and sent.frame != number:
            raise ValueError(f"the page was told that another frame than {number} comes next")
        return sent

    def _canvas_frame(self, number: int, deadline: float, then: int | None) -> bytes:
        self._talk.nudged = False
        sent = self._take_sent(number)
        if sent is None:
            [main, *_] = self._events.contexts() or ("",)
            value = self._talk.evaluate(f"{TELL_OBSERVERS};{self._canvas_call(number)}", main, deadline, _late(number))
        else:
            main, value = sent.context, self._talk.value(sent.command, sent.context, deadline, _late(number))
        # The document may be gone: then there is no value.
        drawn, text = value or (False, "")
        self._take_drawn(drawn)
        if self._step_others((main,), number, deadline, seen=True):
            text = self._talk.evaluate(f"{CONTRACT}.canvas({self._selector})", main, deadline, _late(number))
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
                picture = self._capture.picture(ms, seconds_left(deadline), meanwhile)
            except (ConnectionLostError, NoAnswerError, ProtocolError) as error:
                raise self._talk.failure(error, late) from error
            self._events.check()
            if picture is not None:
                return picture
            self._talk.pause(deadline, late)

    def _show(self, number: int, deadline: float, meanwhile: Meanwhile | None = None) -> None:
        """Have the page, and the browser where that may make a difference, see a frame of which no picture is taken."""
        unseen = self._may_pass_by and self._all_drawn and len(self._events.contexts()) == 1
        show = self._capture.pass_by if unseen else self._capture.show
        try:
            show(self._ms(number), seconds_left(deadline), meanwhile)
        except (ConnectionLostError, NoAnswerError, ProtocolError) as error:
            raise self._talk.failure(error, _late(number)) from error
        if unseen and meanwhile is None:
            # What is not shown may be over for the browser before it is for the page.
            self._talk.evaluate(f"{CONTRACT}.drawn()", "", deadline, _late(number))
        self._unseen = self._unseen or unseen

    @property
    def _layers_matter(self) -> bool:
        return self._may_pass_by and self._options.mode is Mode.DOM

    def _ask_for_layers(self, deadline: float) -> None:
        """Have the document tell its layers. It tells changes alone: one that was drawn before seems to have none."""
        if not self._layers_matter:
            return
        try:
            self._talk.call("LayerTree.enable", timeout=seconds_left(deadline))
        except (ConnectionLostError, NoAnswerError, ProtocolError) as error:
            raise self._talk.failure(error, _NEVER_READY) from error

    def _is_on_one_layer(self, deadline: float, late: str) -> bool:
        """Whether all of the page is drawn on one layer; a further one may be drawn at the scale of an old frame."""
        # The page tells of new layers by itself, once the task is over in which there were any.
        for _ in range(2):
            self._talk.evaluate("0", "", deadline, late)
        return self._events.drawn_layers == 1

    def _ms(self, number: int) -> float:
        return number * 1000 * self._options.fps.denominator / self._options.fps.numerator

    # --- Opening ---------------------------------------------------------------------------------------------------

    def _prepare(self, script: str) -> None:
        call = partial(self._talk.call, timeout=self._timeout)
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
            number = self._talk.send("Page.navigate", {"url": url}, timeout=seconds_left(deadline))
            answer = self._talk.awaited(number, deadline)
        except (ConnectionLostError, NoAnswerError, ProtocolError) as error:
            raise self._talk.failure(error, f"{url} was not loaded") from error
        if answer.get("errorText"):
            raise RenderFailed(f"{url} can't be opened: {answer['errorText']}", "check the address, and who serves it")
        self._ask_for_layers(deadline)
        status = self._talk.evaluate(_STATUS, "", deadline, f"{url} was not loaded", leaving=True)
        if isinstance(status, int) and status >= 400:
            raise RenderFailed(f"{url} can't be opened: HTTP status {status}", "check the address, and who serves it")


#: A page that has asked for no frame may sleep through one that is begun by hand, and be shown as it was before. So it
#: always asks, out of sight of its own scripts.
_AWAKE = "(function ask() { requestAnimationFrame(ask); })();"
_NEVER_READY = "the page did not become ready"
_NO_TRACKS = "the page could not tell its sounds"
_STATUS = "(performance.getEntriesByType('navigation')[0]||{}).responseStatus"


def _late(number: int) -> str:
    return f"frame {number} did not come"
