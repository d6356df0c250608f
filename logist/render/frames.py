"""Makes the frames of a composition: pages make them, several at once, and they come in their order."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from logist.processes import processors, stay_on_one
from logist.render.browser import Browser, find_browser
from logist.render.frame_queue import Frame, FrameQueue, StoppedError
from logist.render.launch import RunningBrowser, open_browser
from logist.render.options import AudioTrack, RenderOptions, Warmup
from logist.render.page import Page, ReplayUnseenError

#: Takes sounds; their sources are URLs.
Listen = Callable[[Sequence[AudioTrack]], None]

#: Frames that a page makes in one go before it leaves the next ones to another: to begin with them costs it as much as
#: to replay a few. No more than so many pixels, and each page has its turn so often at least.
_BLOCK = 32
_PIXELS = 8 * 1920 * 1080
_TURNS = 4


@dataclass(frozen=True, slots=True)
class Statistics:
    """What was seen while frames were made. Times are in seconds."""

    frames: int
    #: Pages that made them at the same time.
    pages: int
    #: Product and version, as "HeadlessChrome/156.0.1.2".
    browser: str
    #: Sounds that the page has played up to the last frame; their sources are URLs.
    tracks: tuple[AudioTrack, ...]
    #: What the page complained of without failing.
    notes: tuple[str, ...]
    #: Until the first frame was there; until the last one was; and how much of that the frames were waited for.
    first_frame: float
    total: float
    waited: float


@dataclass(frozen=True, slots=True)
class _Finding:
    """What one page found out."""

    last_frame: int
    browser: str
    tracks: tuple[AudioTrack, ...]
    notes: tuple[str, ...]


class Frames:
    """The frames of a render under way, each taken once and in their order; then `statistics`."""

    def __init__(
        self, url: str, options: RenderOptions, numbers: Sequence[int], browser: Browser, listen: Listen | None
    ) -> None:
        self._url = url
        self._listen = listen
        self._options = options
        self._browser = browser
        block = max(1, min(_BLOCK, _PIXELS // (options.width * options.height)))
        block = min(block, math.ceil(len(numbers) / (_TURNS * options.concurrency)))
        self._pages = min(options.concurrency, math.ceil(len(numbers) / block))
        self._count = len(numbers)
        self._queue = FrameQueue(numbers, self._pages, block)
        self._findings: list[_Finding] = []
        self._frames = 0
        self._waited = 0.0
        self._began = time.monotonic()
        self._first = self._last = self._began
        self._threads = [
            threading.Thread(target=self._make, args=(page,), name=f"page-{page}") for page in range(self._pages)
        ]

    def start(self) -> None:
        """Open the pages, and have them make frames."""
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[Frame]:
        asked = time.monotonic()
        for frame in self._queue.frames():
            self._last = time.monotonic()
            self._waited += self._last - asked
            if not self._frames:
                self._first = self._last
            self._frames += 1
            yield frame
            asked = time.monotonic()

    def statistics(self) -> Statistics:
        """What was seen, once all frames are taken."""
        found = sorted(self._findings, key=lambda finding: finding.last_frame)
        # A page that has replayed the others' frames has heard everything up to the last it made.
        heard = found[-1:] if self._options.warmup is Warmup.REPLAY else found
        return Statistics(
            frames=self._frames,
            pages=self._pages,
            browser=found[-1].browser,
            tracks=tuple(dict.fromkeys(track for finding in heard for track in finding.tracks)),
            notes=tuple(dict.fromkeys(note for finding in found for note in finding.notes)),
            first_frame=self._first - self._began,
            total=self._last - self._began,
            waited=self._waited,
        )

    def close(self) -> None:
        """Close the pages, whatever they do."""
        self._queue.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _make(self, page: int) -> None:
        if self._pages >= processors() > 1:
            # Where there is a page for each of them, the processes of a page lose more by moving about than they gain.
            stay_on_one(page)
        try:
            self._make_frames()
        except StoppedError:
            return
        except BaseException as error:  # noqa: BLE001 - it is raised where the frames are taken
            self._queue.fail(error)

    def _make_frames(self) -> None:
        queue, options = self._queue, self._options
        size = (options.width, options.height)
        with open_browser(self._browser, headless=options.headless, cancel=self._unwanted, size=size) as running:
            page = running.open_page(self._url, self._options)
            if self._listen is not None:
                self._listen(page.tracks())
            last = -1
            for block in queue.blocks():
                for place in block:
                    last = queue.number(place)
                    page, picture = self._frame(running, page, last, self._after(place, block))
                    queue.put(place, picture)
            page.check()
            self._findings.append(_Finding(last, running.version, page.tracks(), page.notes))
            queue.done()

    def _frame(self, running: RunningBrowser, page: Page, number: int, then: int | None) -> tuple[Page, bytes]:
        """A frame's picture, and the page that goes on: another one, should this have replayed too little."""
        try:
            return page, page.frame(number, then)
        except ReplayUnseenError:
            page.close()
        again = running.open_page(self._url, self._options, show_replayed=True)
        return again, again.frame(number, then)

    def _after(self, place: int, block: range) -> int | None:
        """The frame that a page makes after the one at a place, if that is known: a page that is alone makes all."""
        following = place + 1
        known = self._count if self._pages == 1 else block.stop
        return self._queue.number(following) if following < known else None

    def _unwanted(self) -> str | None:
        return "its frames are not wanted any more" if self._queue.stopped else None


@contextmanager
def frames_of(
    url: str, options: RenderOptions, numbers: Sequence[int], listen: Listen | None = None
) -> Iterator[Frames]:
    """The frames of the page at `url` that are asked for, in rising order, as they are made by `concurrency` pages.

    `listen` is told the sounds that a page has before its first frame; what it raises ends the render. At the end of
    the block no browser is left. Raises BrowserMissing, RenderFailed, UsageProblem.
    """
    browser = find_browser(options.browser, os.environ, headless=options.headless)
    frames = Frames(url, options, numbers, browser, listen)
    try:
        frames.start()
        yield frames
    finally:
        frames.close()
