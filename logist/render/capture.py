"""How a page's frame becomes a PNG: the fastest exact way that the browser and the mode have."""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import Protocol

from logist.render.options import RenderOptions
from logist.render.protocol import Connection, ProtocolError, Values

#: Milliseconds: where the compositor's clock begins, and how far a frame that only moves things along moves it.
_EPOCH = 1_000.0
_NUDGE = 0.01
#: In pixels.
_LEAST_WINDOW = 500
_PNG: Values = {"format": "png", "optimizeForSpeed": True}


#: What is done while a frame is shown.
Meanwhile = Callable[[], None]


class Capture(Protocol):
    """Shows a page's frames, and takes pictures of them. Times are in milliseconds, timeouts in seconds.

    `meanwhile` is called when the browser was told to show the frame, and has not done it yet; only where frames are
    shown by hand. Raises what `Connection.call` raises.
    """

    #: Whether nothing moves in the page unless a frame is shown.
    by_hand: bool

    def picture(self, ms: float, timeout: float, meanwhile: Meanwhile | None = None) -> bytes | None:
        """The page as it is now, as a PNG; None: it has painted nothing yet."""
        ...

    def show(self, ms: float, timeout: float, meanwhile: Meanwhile | None = None) -> None:
        """Show the page as it is now to nobody, so that the browser has seen the frame too."""
        ...

    def pass_by(self, ms: float, timeout: float, meanwhile: Meanwhile | None = None) -> None:
        """Have the page's own part of a frame done, as `show` does, and leave the browser's picture as it is."""
        ...

    def nudge(self, timeout: float) -> None:
        """Let the page go on while it waits for something."""
        ...


class _Pictures:
    """One that is like the last is the same object."""

    def __init__(self) -> None:
        self.last: bytes | None = None

    def take(self, picture: bytes) -> bytes:
        """The picture, or the last one if that is the same."""
        if self.last is None or picture != self.last:
            self.last = picture
        return self.last


class BeginFrames:
    """The headless shell: it shows a frame when it is told to, and hands over what it showed."""

    by_hand = True

    def __init__(self, connection: Connection, session: str, interval: float) -> None:
        self._connection = connection
        self._session = session
        self._interval = interval
        self._ticks = _EPOCH
        self._pictures = _Pictures()

    def picture(self, ms: float, timeout: float, meanwhile: Meanwhile | None = None) -> bytes | None:
        """The page as it is now, as a PNG; None: it has painted nothing yet."""
        # One frame for each of the composition's, whether it is seen or not: observers in the page count them. So it is
        # not asked first whether anything changed.
        picture = self._begin(ms, timeout, meanwhile, screenshot=_PNG).get("screenshotData")
        return self._pictures.take(picture) if picture else self._pictures.last

    def show(self, ms: float, timeout: float, meanwhile: Meanwhile | None = None) -> None:
        """Show the page as it is now to nobody: what the compositor does next may depend on what it did before."""
        self._begin(ms, timeout, meanwhile)

    def pass_by(self, ms: float, timeout: float, meanwhile: Meanwhile | None = None) -> None:
        """Layout, what the page hears of it, and its animations, as with any frame; nothing is painted."""
        self._begin(ms, timeout, meanwhile, noDisplayUpdates=True)

    def nudge(self, timeout: float) -> None:
        """Run the page's rendering without showing anything: what is shown is left for the picture."""
        self._begin(-self._interval, timeout, noDisplayUpdates=True)

    def _begin(self, ms: float, timeout: float, meanwhile: Meanwhile | None = None, **how: object) -> Values:
        # The clock never stands still: a frame at the time of the last one would not be begun.
        self._ticks = max(self._ticks + _NUDGE, _EPOCH + self._interval + ms)
        params = {"frameTimeTicks": self._ticks, "interval": self._interval, **how}
        begin = "HeadlessExperimental.beginFrame"
        number = self._connection.send(begin, params, session=self._session, timeout=timeout)
        if meanwhile is not None:
            meanwhile()
        return self._connection.wait(number, timeout=timeout)


class Screenshots:
    """Any other Chromium: it shows frames all the time, and a screenshot waits for the next one."""

    by_hand = False

    def __init__(self, connection: Connection, session: str) -> None:
        self._connection = connection
        self._session = session
        self._pictures = _Pictures()

    def picture(self, ms: float, timeout: float, meanwhile: Meanwhile | None = None) -> bytes | None:  # noqa: ARG002 - the browser keeps its own time
        """The page as it is now, as a PNG; None: it has painted nothing yet."""
        answer = self._connection.call("Page.captureScreenshot", _PNG, session=self._session, timeout=timeout)
        return self._pictures.take(answer["data"]) if answer.get("data") else None

    def show(self, ms: float, timeout: float, meanwhile: Meanwhile | None = None) -> None:
        """Nothing: frames are shown all the time."""

    def pass_by(self, ms: float, timeout: float, meanwhile: Meanwhile | None = None) -> None:
        """Nothing: frames are shown all the time."""

    def nudge(self, timeout: float) -> None:
        """Nothing: the page goes on by itself."""


class Canvases:
    """The pictures of a canvas, which the page itself makes."""

    def __init__(self) -> None:
        self._pictures = _Pictures()

    def take(self, text: str) -> bytes:
        """The bytes of a picture in base64. Raises binascii.Error."""
        return self._pictures.take(binascii.a2b_base64(text))


def new_target(connection: Connection, options: RenderOptions, timeout: float) -> tuple[str, bool]:
    """A new page: its session, and whether frames are begun by hand in it. Raises what `Connection.call` raises."""
    params: Values = {"url": "about:blank", "newWindow": True, "enableBeginFrameControl": True}
    # The page is given its size later; a browser with real windows takes no pictures of one that is too small.
    params |= {"width": max(options.width, _LEAST_WINDOW), "height": max(options.height, _LEAST_WINDOW)}
    target = connection.call("Target.createTarget", params, timeout=timeout)
    attach = {"targetId": target["targetId"], "flatten": True}
    session = str(connection.call("Target.attachToTarget", attach, timeout=timeout)["sessionId"])
    try:
        connection.call("HeadlessExperimental.enable", session=session, timeout=timeout)
    except ProtocolError:
        return session, False
    return session, True
