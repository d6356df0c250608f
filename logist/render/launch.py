"""Starts a browser that renders, and ends it: nothing of it outlives the block, nor this process if that is killed."""

from __future__ import annotations

import fcntl
import math
import os
import re
import shlex
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from logist.errors import BrowserMissing
from logist.execution import CancelCheck, Command, CommandResult, Ended
from logist.execution.local import LocalWorkerAdapter
from logist.processes import processors
from logist.render.browser import KILLED_HINT, Browser, install_hint
from logist.render.options import RenderOptions
from logist.render.page import NeverDrawnError, Page
from logist.render.private_folder import private_folder
from logist.render.protocol import Connection, ConnectionLostError, NoAnswerError, ProtocolError

#: More flags for the browser, as a shell would split them.
ARGUMENTS_VARIABLE = "LOGIST_BROWSER_ARGS"

#: What keeps a browser to itself: no network of its own, no questions, no pauses of pages that nobody sees.
_QUIET = (
    *("--no-first-run", "--no-default-browser-check", "--noerrdialogs", "--mute-audio", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps"),
    *("--disable-client-side-phishing-detection", "--disable-domain-reliability", "--no-pings", "--disable-breakpad"),
    *("--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows", "--disable-hang-monitor"),
    *("--disable-renderer-backgrounding", "--disable-ipc-flooding-protection", "--disable-prompt-on-repost"),
    *("--disable-search-engine-choice-screen", "--password-store=basic", "--use-mock-keychain"),
)
#: What makes a picture depend on the page alone: not on time, on the machine's screen and fonts, or on earlier frames.
_SAME_PIXELS = (
    *("--force-color-profile=srgb", "--force-device-scale-factor=1", "--hide-scrollbars", "--lang=en-US"),
    *("--disable-lcd-text", "--font-render-hinting=none", "--disable-partial-raster"),
    *("--disable-threaded-animation", "--disable-threaded-scrolling", "--disable-smooth-scrolling"),
    *("--disable-checker-imaging", "--disable-image-animation-resync", "--disable-new-content-rendering-timeout"),
    *("--run-all-compositor-stages-before-draw", "--autoplay-policy=no-user-gesture-required"),
    # Drawn by the processor, WebGL too: every machine has one, and they draw alike.
    *("--disable-gpu", "--disable-gpu-rasterization", "--disable-gpu-compositing"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    # A composition on disk may read its own pictures; every document of a page lives in one process.
    *("--allow-file-access-from-files", "--disable-site-isolation-trials"),
    "--disable-features=Translate,MediaRouter,OptimizationHints,IsolateOrigins,site-per-process,BackForwardCache,"
    "PaintHolding,HttpsUpgrades,DialMediaRouteProvider,AutofillServerCommunication",
)
_BEGIN_FRAMES = "--enable-begin-frame-control"
#: Threads that draw one page; the browser takes no more.
_MOST_DRAWING = 4
#: Tiles that a page's picture is drawn in: as many as there may be threads.
_TILES = 4
#: Pages that need more memory for pictures than this find none in a container's /dev/shm.
_ENOUGH_SHARED_MEMORY = 1 << 30
#: FIFOs hold a whole picture: fewer switches between the processes.
_PIPE_SIZE = 1 << 20
_SET_PIPE_SIZE = 1031
#: Seconds: for the first answer, for the browser to end by itself, and between the two signals after that.
_START_TIME = 30.0
_END_TIME = 2.0
_GRACE = 0.5
#: Pages that are opened where the browser never draws the ones before.
_PAGES_TRIED = 3
_PREFIX = "logist-browser-"
#: What Chromium writes before each line it prints.
_LOG_MARK = re.compile(r"^\[[\d/.:]*(\w+):[^\]]*\]\s*")


class RunningBrowser(NamedTuple):
    """A browser that answers. One thread uses it at a time."""

    connection: Connection
    #: Its product and version, as "HeadlessChrome/156.0.1.2".
    version: str

    def open_page(self, url: str, options: RenderOptions, *, show_replayed: bool = False) -> Page:
        """A page of `url` that is ready for its first frame. Raises RenderFailed."""
        for _ in range(_PAGES_TRIED - 1):
            page = Page.open(self.connection, url, options, show_replayed=show_replayed)
            try:
                page.ready()
            except NeverDrawnError:
                page.close()
            else:
                return page
        page = Page.open(self.connection, url, options, show_replayed=show_replayed)
        page.ready(patient=True)
        return page


@contextmanager
def open_browser(
    browser: Browser,
    *,
    headless: bool = True,
    environ: Mapping[str, str] | None = None,
    cancel: CancelCheck | None = None,
    size: tuple[int, int] | None = None,
) -> Iterator[RunningBrowser]:
    """Start `browser`; at the end of the block nothing of it is left. When `cancel` gives a reason it is killed.

    It is quickest with pages of that `size` in pixels. `environ` (default: this process's) may name more flags in
    LOGIST_BROWSER_ARGS. Raises BrowserMissing when it can't be started; when it dies later, calls to its pages raise
    RenderFailed.
    """
    environ = os.environ if environ is None else environ
    if browser.headless_shell and not headless:
        raise BrowserMissing(f"{browser.path} has no window", "name a full browser with --browser, or render headless")
    with ExitStack() as stack:
        folder = stack.enter_context(private_folder(Path(tempfile.gettempdir()), _PREFIX))
        process = _Process(
            browser, folder, _arguments(browser, folder, environ, headless=headless, size=size), environ, cancel
        )
        stack.callback(process.end)
        connection = Connection(process.to_browser, process.from_browser, process.death)
        yield RunningBrowser(connection, _first_answer(connection, browser, environ))
        with suppress(ConnectionLostError, NoAnswerError):
            connection.send("Browser.close", timeout=_END_TIME)


def _first_answer(connection: Connection, browser: Browser, environ: Mapping[str, str]) -> str:
    try:
        version = str(connection.call("Browser.getVersion", timeout=_START_TIME)["product"])
        connection.call("Browser.setDownloadBehavior", {"behavior": "deny"}, timeout=_START_TIME)
    except (ConnectionLostError, NoAnswerError, ProtocolError) as error:
        raise _not_started(browser, str(error), environ) from error
    return version


def _not_started(browser: Browser, why: str, environ: Mapping[str, str]) -> BrowserMissing:
    if "killed by signal" in why:
        return BrowserMissing(f"{browser.path} did not start: {why}", KILLED_HINT)
    hint = install_hint(environ)
    if "sandbox" in why:
        hint = f"let the system give it a sandbox, or do without: {ARGUMENTS_VARIABLE}=--no-sandbox"
    return BrowserMissing(f"{browser.path} is no Chromium that can run here: {why}", hint)


def _arguments(
    browser: Browser, folder: Path, environ: Mapping[str, str], *, headless: bool, size: tuple[int, int] | None
) -> list[str]:
    arguments = ["--remote-debugging-pipe=cbor", f"--user-data-dir={folder / 'profile'}", *_QUIET, *_SAME_PIXELS]
    arguments.append(f"--num-raster-threads={min(processors(), _MOST_DRAWING)}")
    if size is not None:
        # By the page and not by the machine: how a page is cut into tiles may show in the last digit of a colour.
        width, height = size
        arguments += [f"--default-tile-width={width}", f"--default-tile-height={math.ceil(height / _TILES)}"]
    if browser.headless_shell:
        arguments.append(_BEGIN_FRAMES)
    elif headless:
        arguments.append("--headless=new")
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    if _shared_memory() < _ENOUGH_SHARED_MEMORY:
        arguments.append("--disable-dev-shm-usage")
    try:
        return [*arguments, *shlex.split(environ.get(ARGUMENTS_VARIABLE, "")), "about:blank"]
    except ValueError as error:
        raise BrowserMissing(
            f"{ARGUMENTS_VARIABLE} can't be read: {str(error).lower()}", "quote its words as in a shell"
        ) from error


def _shared_memory() -> int:
    try:
        status = os.statvfs("/dev/shm")
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


class _Process:
    """The browser's process, run by a thread that waits for its end."""

    def __init__(
        self,
        browser: Browser,
        folder: Path,
        arguments: list[str],
        environ: Mapping[str, str],
        cancel: CancelCheck | None,
    ) -> None:
        self._cancel = cancel
        self._ending = threading.Event()
        self._result: CommandResult | None = None
        self._error: BaseException | None = None
        for name in ("in", "out"):
            os.mkfifo(folder / name, 0o600)
        # Opened for both directions: the only way that doesn't wait for the other side.
        self.to_browser = os.open(folder / "in", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.from_browser = os.open(folder / "out", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        for descriptor in (self.to_browser, self.from_browser):
            # A user may have too many pipes already; then they stay small.
            with suppress(OSError):
                fcntl.fcntl(descriptor, _SET_PIPE_SIZE, _PIPE_SIZE)
        # The protocol's pipes have to be the descriptors 3 and 4, which only a shell can give to a command.
        line = ("/bin/sh", "-c", 'exec "$@" 3<"$0/in" 4>"$0/out"', str(folder), browser.path, *arguments)
        # A page that shows the local time shows the same everywhere; no desktop is asked for anything.
        settings = {**environ, "TZ": "UTC", "LANGUAGE": "en_US", "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
        self._command = Command(folder, settings, line, log_limit=65_536)
        self._thread = threading.Thread(target=self._run, name="browser")
        self._thread.start()

    def death(self) -> str | None:
        """Why the browser is gone; None while it lives."""
        if self._thread.is_alive():
            return None
        return _ending(self._result) if self._result is not None else f"the browser was lost: {self._error}"

    def end(self) -> None:
        """Wait for the browser's end, and bring it about if it does not come."""
        os.close(self.to_browser)
        os.close(self.from_browser)
        if not self._was_closed():
            self._ending.set()
        self._thread.join()

    def _was_closed(self) -> bool:
        self._thread.join(_END_TIME)
        return not self._thread.is_alive()

    def _run(self) -> None:
        adapter = LocalWorkerAdapter(grace=_GRACE)
        try:
            self._result = adapter.run(self._command, cancel=self._asked_to_end)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever asks for the browser's death
            self._error = error
        finally:
            adapter.close()

    def _asked_to_end(self) -> str | None:
        if self._ending.is_set():
            return "it was not needed any more"
        return None if self._cancel is None else self._cancel()


def _ending(result: CommandResult) -> str:
    said = _last_words(result.stderr.kept)
    if result.ended is Ended.NOT_STARTED:
        return result.detail
    if result.ended is Ended.CANCELED:
        return f"the browser was ended: {result.detail}"
    if result.ended is Ended.LOST:
        return "the browser was killed, and what watched it too"
    if result.signal:
        return f"the browser died: it was killed by signal {result.signal}"
    how = "the browser ended" if result.ok else f"the browser died (exit code {result.exit_code})"
    return f"{how}: {said}" if said else how


def _last_words(log: bytes) -> str:
    """The line that tells most of what went wrong: the last fatal one, or the last of all."""
    lines = [line.strip() for line in log.decode(errors="replace").splitlines() if line.strip()]
    fatal = [line for line in lines if "FATAL" in line] or lines
    return _LOG_MARK.sub("", fatal[-1])[:500] if fatal else ""
