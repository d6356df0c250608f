"""A browser is found, started, spoken with and ended; a page in it shows its frames, or says what is wrong."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import SCRIPT, bars, colour, picture, pixels

from logist.errors import BrowserMissing, RenderFailed, UsageProblem
from logist.render import cbor, page_talk
from logist.render.browser import Browser, find_browser, install_hint
from logist.render.launch import RunningBrowser, open_browser
from logist.render.options import Mode, RenderOptions, Warmup
from logist.render.page import Page
from logist.render.protocol import Connection, ConnectionLostError, NoAnswerError, ProtocolError

#: How patient a page is that is going to fail by being too slow.
SHORT = Fraction(3)


def numbered(script: str = "") -> str:
    """A page whose script can show numbers."""
    return f"<!doctype html><body><script>{SCRIPT}\n{script}</script>"


#: Shows the number of the frame that its clock stands at.
CLOCK = numbered("requestAnimationFrame(function f(ms) { show(Math.round(ms * 30 / 1000)); requestAnimationFrame(f) })")
FILL = "position: fixed; inset: 0; border: 0; width: 100%; height: 100%"


@pytest.fixture(scope="module", params=["shell", "full"])
def browser(request: pytest.FixtureRequest, browser_path: str) -> Browser:
    """Each kind of browser; a kind that is not installed is not tested, but one always is."""
    shell = request.param == "shell"
    candidates = [find_browser(browser_path, os.environ)]
    with contextlib.suppress(BrowserMissing):
        candidates.append(find_browser(None, {"PATH": os.environ["PATH"]}, headless=shell))
    found = next((each for each in candidates if each.headless_shell == shell), None)
    return found or pytest.skip("this kind of browser is not installed")


@pytest.fixture(scope="module")
def running(browser: Browser) -> Iterator[RunningBrowser]:
    """A browser for tests that leave it as it was."""
    with open_browser(browser) as opened:
        yield opened


@pytest.fixture
def own_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that nobody else uses."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def options(**changes: object) -> RenderOptions:
    values: dict[str, object] = {"width": 160, "height": 90, "mode": Mode.DOM, **changes}
    return RenderOptions(**values)  # type: ignore[arg-type]


def write(folder: Path, content: str, name: str = "page.html") -> str:
    (folder / name).write_text(content, encoding="utf-8")
    return (folder / name).as_uri()


def opened(running: RunningBrowser, url: str, *, show_replayed: bool = False, **changes: object) -> Page:
    return running.open_page(url, options(**changes), show_replayed=show_replayed)


def frames(page: Page, count: int) -> list[bytes]:
    made = [page.frame(number) for number in range(count)]
    page.check()
    return made


def processes_of(folder: Path) -> list[psutil.Process]:
    """The browser's processes, which name the folder that only they use."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()):
            found.append(process)
    return found


# --- Finding one -----------------------------------------------------------------------------------------------------


def program(path: Path, text: str = "#!/bin/sh\nexit 0\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_shell_is_preferred_and_the_full_browser_taken_without_it(tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    full = program(tmp_path / "chromium")
    assert find_browser(None, environ) == Browser(str(full), headless_shell=False, origin="PATH")
    shell = program(tmp_path / "chromium-headless-shell")
    assert find_browser(None, environ) == Browser(str(shell), headless_shell=True, origin="PATH")
    assert find_browser(None, environ, headless=False).path == str(full)


def test_a_named_browser_wins_over_the_variable_and_that_over_the_path(tmp_path: Path) -> None:
    on_path = program(tmp_path / "bin" / "chromium-headless-shell")
    variable, named = program(tmp_path / "mine"), program(tmp_path / "yours")
    environ = {"PATH": str(on_path.parent), "LOGIST_BROWSER": str(variable)}
    assert find_browser(None, environ) == Browser(str(variable), headless_shell=False, origin="LOGIST_BROWSER")
    assert find_browser(str(named), environ).origin == "--browser"
    assert find_browser("chromium-headless-shell", environ).path == str(on_path)


def test_the_newest_of_playwrights_browsers_is_the_last_resort(tmp_path: Path) -> None:
    for build in ("998", "1200"):
        program(tmp_path / f"chromium-{build}" / "chrome-linux" / "chrome")
    environ = {"PATH": str(tmp_path / "none"), "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path)}
    found = find_browser(None, environ)
    assert (found.path, found.origin) == (str(tmp_path / "chromium-1200" / "chrome-linux" / "chrome"), "Playwright")
    program(tmp_path / "chromium_headless_shell-1100" / "chrome-headless-shell-linux64" / "chrome-headless-shell")
    assert find_browser(None, environ).headless_shell
    home = tmp_path / "home"
    (home / ".cache").mkdir(parents=True)
    (home / ".cache" / "ms-playwright").symlink_to(tmp_path)
    assert find_browser(None, {"PATH": "", "HOME": str(home)}).headless_shell


def test_a_browser_that_is_a_link_to_a_shell_is_one(tmp_path: Path) -> None:
    shell = program(tmp_path / "chrome-headless-shell")
    link = tmp_path / "browser"
    link.symlink_to(shell)
    assert find_browser(str(link), {}).headless_shell


@pytest.mark.parametrize(
    ("name", "problem"),
    [("nowhere", "is not on PATH"), ("./nowhere", "is not there"), ("./text", "is no program that can be executed")],
)
def test_a_named_browser_that_can_not_be_started_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("hello", encoding="utf-8")
    with pytest.raises(BrowserMissing, match=f"{name} .*{problem}"):
        find_browser(name, {"PATH": str(tmp_path)})


def test_without_any_browser_the_hint_is_one_command(tmp_path: Path) -> None:
    with pytest.raises(BrowserMissing, match="no browser") as caught:
        find_browser(None, {"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert caught.value.hint == install_hint({"PATH": str(tmp_path)})
    assert "playwright install --only-shell chromium" in caught.value.hint


def test_the_version_is_what_the_program_says(browser: Browser, tmp_path: Path) -> None:
    assert "Chrom" in browser.version
    with pytest.raises(BrowserMissing, match="is no Chromium"):
        _ = find_browser(str(program(tmp_path / "other")), {}).version


# --- Starting and ending it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\nexit 3\n", "exit code 3"),
        ("#!/bin/sh\necho 'no library' >&2\nexit 1\n", "no library"),
        ("#!/bin/nonsense\n", "exit code 12[67]"),
    ],
)
def test_a_program_that_is_no_browser_is_told_and_not_waited_for(tmp_path: Path, text: str, said: str) -> None:
    other = find_browser(str(program(tmp_path / "other", text)), {})
    with pytest.raises(BrowserMissing, match=f"no Chromium that can run here: .*{said}"), open_browser(other):
        pass


def test_a_browser_without_its_sandbox_is_told_how_to_do_without(tmp_path: Path) -> None:
    text = "#!/bin/sh\necho '[1:2:FATAL:zygote.cc(1)] No usable sandbox!' >&2\nexit 1\n"
    with (
        pytest.raises(BrowserMissing, match=r": No usable sandbox!$") as caught,
        open_browser(find_browser(str(program(tmp_path / "other", text)), {})),
    ):
        pass
    assert "LOGIST_BROWSER_ARGS=--no-sandbox" in caught.value.hint


def test_a_shell_has_no_window(tmp_path: Path) -> None:
    shell = find_browser(str(program(tmp_path / "headless_shell")), {})
    with pytest.raises(BrowserMissing, match="has no window"), open_browser(shell, headless=False):
        pass


def test_more_flags_come_from_the_environment(browser_path: str, tmp_path: Path, own_temp: Path) -> None:
    found = find_browser(browser_path, os.environ)
    environ = {**os.environ, "LOGIST_BROWSER_ARGS": "--user-agent='Two Words'"}
    with open_browser(found, environ=environ) as running:
        url = write(tmp_path, "<script>if (navigator.userAgent !== 'Two Words') throw navigator.userAgent</script>")
        opened(running, url)
    with (
        pytest.raises(BrowserMissing, match="LOGIST_BROWSER_ARGS can't be read"),
        open_browser(found, environ={"LOGIST_BROWSER_ARGS": "'"}),
    ):
        pass
    assert not list(own_temp.iterdir())


def test_nothing_of_a_browser_is_left_afterwards(browser: Browser, own_temp: Path) -> None:
    with open_browser(browser) as running:
        assert "Chrome/" in running.version
        [folder] = own_temp.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert processes_of(folder)
    assert not processes_of(folder)
    assert not list(own_temp.iterdir())


def test_a_browser_that_is_killed_fails_the_page_at_once(browser: Browser, tmp_path: Path, own_temp: Path) -> None:
    with open_browser(browser) as running:
        page = opened(running, write(tmp_path, numbered()))
        page.frame(0)
        for process in processes_of(own_temp):
            # The rest may go as soon as the first is gone.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with pytest.raises(RenderFailed, match="the browser died"):
            page.frame(1_000_000)
    assert not list(own_temp.iterdir())


def test_a_browser_ends_when_that_is_asked_for(browser_path: str, tmp_path: Path, own_temp: Path) -> None:
    wanted = threading.Event()
    cancel = lambda: "enough" if wanted.is_set() else None  # noqa: E731
    with open_browser(find_browser(browser_path, os.environ), cancel=cancel) as running:
        page = opened(running, write(tmp_path, numbered()))
        page.frame(0)
        wanted.set()
        with pytest.raises(RenderFailed, match="the browser was ended: enough"):
            page.frame(1_000_000)
    assert not processes_of(own_temp)


_HELD = """
import os, sys
from logist.render.browser import find_browser
from logist.render.launch import open_browser
from logist.render.options import Mode, RenderOptions, Warmup
with open_browser(find_browser(sys.argv[1], os.environ)) as running:
    page = running.open_page(sys.argv[2], RenderOptions(width=160, height=90, mode=Mode.DOM))
    for number in range(1_000_000):
        page.frame(number)
        print(number, flush=True)
"""


def test_a_run_that_is_killed_leaves_no_browser_and_the_next_one_tidies_up(
    browser_path: str, tmp_path: Path, own_temp: Path
) -> None:
    line = [sys.executable, "-c", _HELD, browser_path, write(tmp_path, numbered())]
    with subprocess.Popen(line, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(own_temp)}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"0\n"
        [folder] = own_temp.iterdir()
        assert processes_of(folder)
        process.kill()
    gone = time.monotonic() + 30
    while left := processes_of(folder):
        assert time.monotonic() < gone
        psutil.wait_procs(left, timeout=1)
    with open_browser(find_browser(browser_path, os.environ)):
        [other] = own_temp.iterdir()
        assert other != folder


# --- The protocol ----------------------------------------------------------------------------------------------------


class Line:
    """Both ends of a connection."""

    def __init__(self) -> None:
        self.heard, to_browser = os.pipe2(os.O_NONBLOCK)
        from_browser, self.said = os.pipe2(os.O_NONBLOCK)
        self.death: str | None = None
        self.connection = Connection(to_browser, from_browser, lambda: self.death)
        self._open = {self.heard, to_browser, from_browser, self.said}

    def say(self, data: bytes) -> None:
        """Send bytes from another thread, as fast as they are taken."""
        os.set_blocking(self.said, True)
        threading.Thread(target=self._write, args=(data,)).start()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.said, rest) :]

    def hang_up(self) -> None:
        self._open.remove(self.said)
        os.close(self.said)

    def close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


def message(**values: object) -> bytes:
    return cbor.encode(values)


def test_a_command_is_sent_as_one_message_and_its_result_comes_back(line: Line) -> None:
    line.say(message(id=1, result={"answer": "é\u2028"}))
    assert line.connection.call("A.do", {"x": 1}, session="s", timeout=5) == {"answer": "é\u2028"}
    assert cbor.decode(os.read(line.heard, 1000)) == {
        "id": 1,
        "method": "A.do",
        "params": {"x": 1},
        "sessionId": "s",
    }


def test_an_error_is_the_browsers_own_text(line: Line) -> None:
    line.say(message(id=1, error={"code": -32601, "message": "'A.do' wasn't found"}))
    with pytest.raises(ProtocolError, match="wasn't found"):
        line.connection.call("A.do", timeout=5)


def test_events_go_to_whoever_listens_to_their_session(line: Line) -> None:
    heard: list[tuple[str, object]] = []
    line.connection.listen("s", lambda method, params: heard.append((method, params)))
    line.say(
        message(method="B.happened", params={"y": 2}, sessionId="s")
        + message(method="B.happened", params={}, sessionId="other")
        + message(method="B.happened", params={})
        + message(id=1, result={})
    )
    line.connection.call("A.do", timeout=5)
    assert heard == [("B.happened", {"y": 2})]


def test_what_a_listener_raises_ends_the_call_and_loses_no_message(line: Line) -> None:
    def fall_over(method: str, params: object) -> None:
        raise RenderFailed("it crashed", "hint")

    line.connection.listen("s", fall_over)
    line.say(message(method="B.crashed", sessionId="s") + message(id=2, result={"fine": True}))
    whole = message(id=3, result={"fine": True})
    line.say(whole[:9])
    with pytest.raises(RenderFailed, match="it crashed"):
        line.connection.call("A.do", timeout=60)
    assert line.connection.call("A.do", timeout=60) == {"fine": True}
    line.say(whole[9:])
    assert line.connection.call("A.do", timeout=60) == {"fine": True}


def test_a_picture_of_many_megabytes_is_no_slower_than_its_bytes(line: Line) -> None:
    text = "x" * 50_000_000
    line.say(message(id=1, result={"data": text}))
    assert line.connection.call("A.do", timeout=60)["data"] == text


def test_an_answer_that_does_not_come_is_not_waited_for(line: Line) -> None:
    with pytest.raises(NoAnswerError):
        line.connection.call("A.do", timeout=0.05)
    line.say(message(id=1, result={"late": True}) + message(id=2, result={"late": False}))
    assert line.connection.call("A.do", timeout=5) == {"late": False}


def test_a_browser_that_takes_nothing_is_not_waited_for(line: Line) -> None:
    with pytest.raises(NoAnswerError, match=r"A\.do"):
        line.connection.call("A.do", {"x": "y" * 1_000_000}, timeout=0.05)


def test_a_line_that_is_dead_says_why(line: Line) -> None:
    line.death = "it fell over"
    line.hang_up()
    with pytest.raises(ConnectionLostError, match="it fell over"):
        line.connection.call("A.do", timeout=5)


def test_a_death_is_noticed_while_the_line_stays_open(line: Line) -> None:
    line.death = "it fell over"
    with pytest.raises(ConnectionLostError, match="it fell over"):
        line.connection.call("A.do", timeout=60)


#: What the browser's own scripts can hold.
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 31), (1 << 31) - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_what_is_written_for_the_browser_is_read_as_the_same(value: object) -> None:
    assert cbor.decode(cbor.encode(value)) == value


@given(JSON_VALUES, st.data())
def test_a_message_that_is_broken_is_never_taken_for_another_error(value: object, data: st.DataObject) -> None:
    whole = cbor.encode({"v": value})
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError, match=r"^it |^something "):
        cbor.decode(whole[:cut])
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = whole[:at] + data.draw(st.binary(min_size=1, max_size=3)) + whole[at + 1 :]
    with contextlib.suppress(ValueError):
        cbor.decode(broken)


def test_a_whole_number_is_one_however_it_is_written() -> None:
    assert repr(cbor.decode(cbor.encode([1.0, -0.0, 2.5, 1e300]))) == "[1, 0, 2.5, 1e+300]"


def test_binary_data_comes_as_it_is() -> None:
    inside = b"\xbf\x64data\xd6\x44\x00\x01\xfe\xff\xff"
    assert cbor.decode(cbor.ENVELOPE + len(inside).to_bytes(4, "big") + inside) == {"data": b"\x00\x01\xfe\xff"}


def test_a_browser_that_speaks_otherwise_is_told(line: Line) -> None:
    line.say(b'{"id": 1, "result": {}}\0')
    with pytest.raises(ConnectionLostError, match="can't be read: it does not begin with an envelope"):
        line.connection.call("A.do", timeout=5)


@given(st.lists(st.text(), min_size=1, max_size=5), st.data())
def test_messages_are_the_same_however_the_pipe_cuts_them(texts: list[str], data: st.DataObject) -> None:
    line = Line()
    heard: list[object] = []
    line.connection.listen("", lambda _, params: heard.append(params))
    stream = b"".join(message(method="B.said", params={"text": text}) for text in texts) + message(id=1, result={})
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)))))
    number = line.connection.send("A.do", timeout=5)
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        os.write(line.said, stream[start:end])
        line.connection.answered(number, within=0)
    assert line.connection.wait(number, timeout=0) == {}
    assert heard == [{"text": text} for text in texts]
    line.close()


# --- Pages -----------------------------------------------------------------------------------------------------------


def test_each_frame_is_shown_once(running: RunningBrowser, tmp_path: Path) -> None:
    script = "let n = 0; requestAnimationFrame(function f() { show(n++); requestAnimationFrame(f) })"
    page = opened(running, write(tmp_path, numbered(script)), show_replayed=True)
    assert [bars(picture(png)) for png in frames(page, 8)] == list(range(8))
    assert bars(picture(page.frame(20))) == 20
    assert bars(picture(page.frame(25))) == 25
    with pytest.raises(ValueError, match="shown already"):
        page.frame(25)


#: Pages whose picture would be another one if they went on too early.
MOVING = {
    "text": CLOCK,
    "transitions": """<!doctype html><style>i { position: absolute; width: 40px; height: 40px; background: #06f;
        transition: all .3s; will-change: transform } .on i { transform: translate(100px, 30px) rotate(1turn) }</style>
        <i></i><script>setInterval(() => document.body.classList.toggle("on"), 250)</script>""",
    "canvas": numbered("""const c = document.body.appendChild(document.createElement("canvas")).getContext("2d");
        requestAnimationFrame(function f(ms) { c.fillStyle = `hsl(${ms / 4} 80% 50%)`; c.fillRect(0, 0, 160, 90);
        requestAnimationFrame(f) })"""),
    "WebGL": numbered("""const g = document.body.appendChild(document.createElement("canvas")).getContext("webgl");
        requestAnimationFrame(function f(ms) { g.clearColor((ms / 500) % 1, (ms / 700) % 1, 0, 1);
        g.clear(g.COLOR_BUFFER_BIT); requestAnimationFrame(f) })"""),
    "slow": numbered("""requestAnimationFrame(function f(ms) { for (let n = 0; n < 1e7; n += 1) Math.sqrt(n);
        show(Math.round(ms * .03)); requestAnimationFrame(f) })"""),
    "an image that changes": numbered("""const image = document.body.appendChild(new Image(160, 90));
        const c = document.createElement("canvas").getContext("2d");
        requestAnimationFrame(function f(ms) { c.fillStyle = `hsl(${ms / 4} 80% 50%)`; c.fillRect(0, 0, 300, 150);
        image.src = c.canvas.toDataURL(); requestAnimationFrame(f) })"""),
}
#: Tells each frame that it comes to.
TELLING = "requestAnimationFrame(function f(ms) { console.error(Math.round(ms * .03)); requestAnimationFrame(f) })"
#: What may be shown later than it was drawn, or is told to the page after it was shown.
NOT_ALL_DRAWN = {
    "a video": "document.body.append(document.createElement('video'))",
    "an observer": "new IntersectionObserver(() => {}).observe(document.body)",
    "a document": "document.body.append(Object.assign(document.createElement('iframe'), { srcdoc: 'x' }))",
    "a canvas drawn elsewhere": "document.createElement('canvas').transferControlToOffscreen()",
    "a canvas shown at once": "document.createElement('canvas').getContext('2d', { desynchronized: true })",
}


def reached(page: Page) -> int:
    """The last frame that a page has told of."""
    page.check()
    return int(page.notes[-1].split()[0])


@pytest.mark.parametrize("content", MOVING.values(), ids=MOVING)
def test_a_page_that_goes_on_while_a_frame_is_shown_shows_the_same(
    running: RunningBrowser, tmp_path: Path, content: str
) -> None:
    url = write(tmp_path, content)
    one_by_one = frames(opened(running, url), 24)
    page = opened(running, url)
    assert [pixels(picture(page.frame(number, number + 1))) for number in range(23)] == [
        pixels(picture(png)) for png in one_by_one[:23]
    ]
    assert len(set(one_by_one)) > 12
    assert pixels(picture(page.frame(23))) == pixels(picture(one_by_one[23]))


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No page is given a frame for being slow to answer, as any is on a busy machine: it would not go on then."""
    monkeypatch.setattr(page_talk, "_NUDGE_AFTER", 10.0)


@pytest.mark.usefixtures("unhurried")
def test_only_the_shell_goes_on_while_a_frame_is_shown_and_never_past_the_last(
    running: RunningBrowser, browser: Browser, tmp_path: Path
) -> None:
    page = opened(running, write(tmp_path, numbered(TELLING)))
    page.frame(0, 1)
    page.frame(1)
    assert reached(page) == 1
    page.frame(2, 3)
    assert reached(page) == (3 if browser.headless_shell else 2)


@pytest.mark.usefixtures("unhurried")
def test_a_page_that_went_on_to_another_frame_says_so(
    browser: Browser, running: RunningBrowser, tmp_path: Path
) -> None:
    if not browser.headless_shell:
        pytest.skip("only the shell goes on while a frame is shown")
    page = opened(running, write(tmp_path, numbered()), warmup=Warmup.NONE)
    page.frame(2, 3)
    with pytest.raises(ValueError, match="another frame than 5 comes next"):
        page.frame(5)


@pytest.mark.parametrize("script", NOT_ALL_DRAWN.values(), ids=NOT_ALL_DRAWN)
def test_a_page_waits_where_what_is_shown_could_change_by_its_going_on(
    running: RunningBrowser, tmp_path: Path, script: str
) -> None:
    page = opened(running, write(tmp_path, numbered(f"{script}; {TELLING}")))
    page.frame(0, 1)
    page.frame(1, 2)
    assert reached(page) == 1


def test_without_a_warm_up_a_page_sees_none_of_the_frames_before(running: RunningBrowser, tmp_path: Path) -> None:
    script = "let n = 0; requestAnimationFrame(function f(ms) { show(n++); requestAnimationFrame(f) })"
    page = opened(running, write(tmp_path, numbered(script)), warmup=Warmup.NONE)
    assert bars(picture(page.frame(30))) == 0


def test_pictures_have_the_size_that_was_asked_for(running: RunningBrowser, tmp_path: Path) -> None:
    url = write(tmp_path, "<body style='background: #f00; margin: 0; height: 500vh'>")
    for width, height in ((64, 36), (641, 361)):
        shown = picture(opened(running, url, width=width, height=height).frame(0))
        assert (shown.width, shown.height) == (width, height)
        assert {colour(shown, x, y) for x in (0, width - 1) for y in (0, height - 1)} == {(255, 0, 0)}


def test_a_page_that_changes_after_a_while_is_never_shown_as_it_was_before(
    running: RunningBrowser, tmp_path: Path
) -> None:
    script = (
        "let n = 0; requestAnimationFrame(function f() { if (n % 5 === 0) show(n); n++; requestAnimationFrame(f) })"
    )
    page = opened(running, write(tmp_path, numbered(script)))
    assert [bars(picture(png)) for png in frames(page, 30)] == [number // 5 * 5 for number in range(30)]


@pytest.mark.parametrize("mode", Mode)
def test_where_nothing_changes_the_same_object_comes_again(running: RunningBrowser, tmp_path: Path, mode: Mode) -> None:
    url = write(tmp_path, numbered("show(7)") + "<canvas width=160 height=90></canvas>")
    made = frames(opened(running, url, mode=mode), 6)
    assert all(png is made[0] for png in made)


def test_what_is_not_painted_is_transparent_only_where_pixels_can_be(running: RunningBrowser, tmp_path: Path) -> None:
    url = write(tmp_path, "<body style='margin: 0'><div style='width: 10px; height: 10px; background: #00f8'>")
    clear = pixels(picture(opened(running, url, pixel_format="yuva420p").frame(0)), "rgba")
    assert (clear[3], clear[-1]) == (0x88, 0)
    opaque = picture(opened(running, url, pixel_format="yuv420p").frame(0))
    assert colour(opaque, 159, 89) == (255, 255, 255)


def test_a_canvas_gives_its_own_pixels_whatever_the_page_shows_of_it(running: RunningBrowser, tmp_path: Path) -> None:
    content = """<canvas id=large></canvas>
        <canvas id=small width=20 height=10 style="display: none"></canvas>
        <script>
          const context = document.querySelector("#small").getContext("2d");
          requestAnimationFrame(function f(ms) {
            context.fillStyle = ms < 50 ? "#0f0" : "#00f";
            context.fillRect(0, 0, 9, 9);
            requestAnimationFrame(f);
          });
        </script>"""
    url = write(tmp_path, content)
    page = opened(running, url, mode=Mode.CANVAS, canvas_selector="#small", width=20, height=10)
    first, *_, last = (picture(png) for png in frames(page, 4))
    assert (first.width, first.height) == (20, 10)
    assert (colour(first, 0, 0), colour(last, 0, 0)) == ((0, 255, 0), (0, 0, 255))


def test_the_props_of_the_command_line_are_the_pages(running: RunningBrowser, tmp_path: Path) -> None:
    url = write(tmp_path, numbered("show(window.__HELIOS_PROPS__.number)"))
    assert bars(picture(opened(running, url, props='{"number": 77}').frame(0))) == 77
    with pytest.raises(UsageProblem, match="--props"):
        running.open_page(url, options(props="{"))


def test_every_document_of_a_page_moves_with_it(running: RunningBrowser, tmp_path: Path) -> None:
    write(tmp_path, CLOCK, "inner.html")
    page = opened(running, write(tmp_path, f"<body><iframe src=inner.html style='{FILL}'></iframe>"))
    assert [bars(picture(png)) for png in frames(page, 4)] == [0, 1, 2, 3]


def test_a_document_that_comes_later_is_there_for_the_frame_that_brought_it(
    running: RunningBrowser, tmp_path: Path
) -> None:
    write(tmp_path, CLOCK, "inner.html")
    late = f"document.body.innerHTML = `<iframe src=inner.html style='{FILL}'></iframe>`"
    page = opened(running, write(tmp_path, at_frame(3, late)))
    assert [bars(picture(png)) for png in frames(page, 6)[3:]] == [3, 4, 5]


def test_a_document_that_goes_is_not_waited_for(running: RunningBrowser, tmp_path: Path) -> None:
    write(tmp_path, CLOCK, "inner.html")
    inner = f"<iframe src=inner.html style='{FILL}'></iframe>"
    page = opened(running, write(tmp_path, at_frame(3, "document.querySelector('iframe').remove(); show(33)") + inner))
    assert [bars(picture(png)) for png in frames(page, 6)] == [0, 1, 2, 33, 33, 33]


# --- What goes wrong in them -----------------------------------------------------------------------------------------


def at_frame(number: int, script: str) -> str:
    """A page that runs a script at a frame."""
    return numbered(f"""
        let n = 0;
        requestAnimationFrame(function f() {{
          if (n++ === {number}) {{ {script} }}
          requestAnimationFrame(f);
        }})""")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<script>\nthrow new Error('boom')</script>", r"the page threw: Error: boom \(page\.html:2:7\)"),
        ("<script>throw 'just words'</script>", r"the page threw: just words \(page\.html:1"),
        ("<script>nonsense nonsense</script>", r"the page threw: SyntaxError: .*\(page\.html:1"),
        (at_frame(2, "null.x"), r"the page threw: TypeError: .*'x'\) \(page\.html:\d+:"),
        (at_frame(2, "Promise.reject(new Error('no way'))"), r"the page threw: Error: no way \(page\.html:\d+:"),
        (at_frame(2, "location.href = 'about:blank'"), "the page went to another address: about:blank"),
    ],
)
def test_a_page_that_fails_is_told_in_its_own_words(
    running: RunningBrowser, tmp_path: Path, content: str, said: str
) -> None:
    with pytest.raises(RenderFailed, match=said):
        frames(opened(running, write(tmp_path, content)), 6)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (at_frame(2, "for (;;);"), "frame 2 did not come within 3 s"),
        ("<script>for (;;);</script>", "(did not become ready|was not loaded) within 3 s"),
    ],
)
def test_a_page_that_never_ends_is_not_waited_for(browser: Browser, tmp_path: Path, content: str, said: str) -> None:
    with open_browser(browser) as running, pytest.raises(RenderFailed, match=said) as caught:
        frames(opened(running, write(tmp_path, content), timeout=SHORT), 6)
    assert "--timeout" in caught.value.hint


def test_a_page_that_is_never_stable_is_told_by_what(running: RunningBrowser, tmp_path: Path) -> None:
    script = "helios = { seek() {}, waitUntilStable: () => new Promise(() => {}) }"
    with pytest.raises(RenderFailed, match=r"^frame 0 is not done: .*waitUntilStable") as caught:
        frames(opened(running, write(tmp_path, numbered(script)), timeout=SHORT), 1)
    assert "--timeout" in caught.value.hint


def test_a_page_that_crashes_is_told(browser: Browser, tmp_path: Path) -> None:
    with open_browser(browser) as running:
        page = opened(running, write(tmp_path, numbered()))
        page.frame(0)
        running.connection.send("Page.crash", session=page.session, timeout=5)
        with pytest.raises(RenderFailed, match="the page crashed"):
            page.frame(3)


def test_a_rejection_that_nobody_handles_in_time_is_an_error(running: RunningBrowser, tmp_path: Path) -> None:
    handled = "const soon = Promise.reject(new Error('not yet')); soon.catch(() => show(4))"
    assert bars(picture(frames(opened(running, write(tmp_path, numbered(handled))), 1)[0])) == 4
    with pytest.raises(RenderFailed, match="not yet"):
        opened(running, write(tmp_path, numbered("Promise.reject(new Error('not yet'))")))


def test_what_observers_of_sizes_leave_for_later_is_no_error(running: RunningBrowser, tmp_path: Path) -> None:
    script = """
        let told = 0, n = 0;
        window.onerror = (message) => { told += message.includes("ResizeObserver loop") };
        const box = document.body.appendChild(document.createElement("div"));
        new ResizeObserver(() => { box.style.width = box.offsetWidth % 50 + 1 + "px" }).observe(box);
        requestAnimationFrame(function f() {
          box.style.width = 10 + n++ + "px";
          show(Math.min(told, 1));
          requestAnimationFrame(f);
        });"""
    assert bars(picture(frames(opened(running, write(tmp_path, numbered(script))), 6)[-1])) == 1


def test_a_page_that_waits_for_being_shown_is_shown(running: RunningBrowser, tmp_path: Path) -> None:
    script = """
        let seen = 0;
        window.helios = { seek() {}, waitUntilStable: () => new Promise((done) => {
          const box = document.body.appendChild(document.createElement("p"));
          box.textContent = "x";
          new IntersectionObserver(() => { show(++seen); done() }).observe(box);
        }) };"""
    page = opened(running, write(tmp_path, numbered(script)))
    assert [bars(picture(png)) for png in frames(page, 4)] == [1, 2, 3, 4]


@pytest.mark.parametrize("busy", [0, 12])
def test_what_observers_see_is_told_with_the_next_frame_however_long_one_takes(
    running: RunningBrowser, tmp_path: Path, busy: int
) -> None:
    # `busy` is in real milliseconds: while a frame takes longer, the browser goes on.
    script = f"""
        const box = document.body.appendChild(document.createElement("p"));
        box.style.cssText = "position: fixed; top: 500px";
        box.textContent = "x";
        let n = 0;
        new IntersectionObserver(() => show(n)).observe(box);
        requestAnimationFrame(function f() {{
          for (let spent = 0; spent < {busy} * 300_000; spent += 1) Math.sqrt(spent);
          if (n % 4 === 0) box.style.top = n % 8 ? "500px" : "0px";
          n += 1;
          requestAnimationFrame(f);
        }});"""
    page = opened(running, write(tmp_path, numbered(script)))
    made = [bars(picture(png)) for png in frames(page, 14)[1:]]
    assert made == [1, 1, 1, 1, 5, 5, 5, 5, 9, 9, 9, 9, 13]


def test_observers_are_what_they_were(running: RunningBrowser, tmp_path: Path) -> None:
    script = """
        const observer = new IntersectionObserver(function (entries, self) {
          show(this === self && self === observer && entries.length === 1 && entries[0].target === document.body);
          self.disconnect();
        }, { threshold: [0.5] });
        let refused = 0;
        try { new IntersectionObserver("nothing") } catch (error) { refused += error instanceof TypeError }
        observer.observe(document.body);
        if (observer.thresholds[0] !== 0.5 || refused !== 1 || observer.takeRecords().length) throw "not the same";"""
    assert bars(picture(frames(opened(running, write(tmp_path, numbered(script))), 3)[-1])) == 1


def test_without_its_canvas_a_page_is_told_which_is_missing(running: RunningBrowser, tmp_path: Path) -> None:
    url = write(tmp_path, "<p>words</p>")
    with pytest.raises(RenderFailed, match=r"^the page has no canvas") as caught:
        opened(running, url, mode=Mode.CANVAS).frame(0)
    assert "--mode dom" in caught.value.hint
    with pytest.raises(RenderFailed, match="#none"):
        opened(running, url, mode=Mode.CANVAS, canvas_selector="#none").frame(0)


def test_a_canvas_of_another_size_than_the_render_is_told_with_the_flags_that_fit_it(
    running: RunningBrowser, tmp_path: Path
) -> None:
    url = write(tmp_path, "<canvas width=80 height=44></canvas>")
    with pytest.raises(RenderFailed, match=r"^the canvas is 80x44 pixels at frame 0") as caught:
        opened(running, url, mode=Mode.CANVAS).frame(0)
    assert "--width 80 --height 44" in caught.value.hint


def test_what_a_page_complains_of_is_kept_and_told_with_what_follows(running: RunningBrowser, tmp_path: Path) -> None:
    content = "<body><img src=none.png><script>console.error('careful,', 'thin ice'); console.log('fine')</script>"
    page = opened(running, write(tmp_path, content))
    assert "careful, thin ice (page.html:1:41)" in page.notes
    assert any("none.png" in note for note in page.notes)
    assert not any("fine" in note for note in page.notes)
    with pytest.raises(RenderFailed) as caught:
        frames(opened(running, write(tmp_path, at_frame(1, "console.error('the ice breaks'); null.x"))), 3)
    assert caught.value.hint.startswith("the page said before: the ice breaks")


def test_a_dialog_is_closed_and_told(running: RunningBrowser, tmp_path: Path) -> None:
    page = opened(running, write(tmp_path, at_frame(1, "show(alert('hello') ?? 3)")))
    assert bars(picture(frames(page, 3)[-1])) == 3
    assert "it opened a dialog: hello" in page.notes


def test_a_page_may_lead_to_another_before_it_is_ready(running: RunningBrowser, tmp_path: Path) -> None:
    write(tmp_path, numbered("show(9)"), "other.html")
    page = opened(running, write(tmp_path, "<script>location.replace('other.html')</script>"))
    assert bars(picture(frames(page, 1)[0])) == 9


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    """Serves what is in the test's folder; its port."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served.server_address[1]
        served.shutdown()
        thread.join()


def test_a_page_of_the_web_is_rendered_and_one_that_is_not_there_told(
    running: RunningBrowser, tmp_path: Path, server: int
) -> None:
    write(tmp_path, numbered("show(5)"))
    assert bars(picture(opened(running, f"http://127.0.0.1:{server}/page.html?a=1&b=2#c").frame(0))) == 5
    with pytest.raises(RenderFailed, match=r"none\.html can't be opened: HTTP status 404"):
        opened(running, f"http://127.0.0.1:{server}/none.html")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "file:///no/such/page.html"])
def test_an_address_where_nothing_is_fails_at_once(running: RunningBrowser, url: str) -> None:
    with pytest.raises(RenderFailed, match="can't be opened: net::ERR_"):
        opened(running, url)


def test_a_document_of_another_site_moves_too_and_is_told_where_it_can_not(
    running: RunningBrowser, tmp_path: Path, server: int
) -> None:
    write(tmp_path, CLOCK, "inner.html")
    frame = f"<body><iframe src='http://localhost:{server}/inner.html' style='{FILL}'></iframe>"
    of_a_file = write(tmp_path, frame)
    page = opened(running, f"http://127.0.0.1:{server}/page.html")
    assert [bars(picture(png)) for png in frames(page, 3)] == [0, 1, 2]
    with pytest.raises(RenderFailed, match="a document that the browser keeps apart"):
        opened(running, of_a_file)
