"""The page contract in a real browser: every clock shows its frame, and history is the same however it is met.

Pages show numbers as bars (tests/pictures.py) or tell values as JSON on their console, which a page's notes hold.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pictures
import pytest

from logist.errors import RenderFailed
from logist.render.browser import find_browser
from logist.render.launch import RunningBrowser, open_browser
from logist.render.options import AudioTrack, Mode, RenderOptions
from logist.render.page import Page

ASSETS = Path(__file__).resolve().parents[1] / "examples" / "compositions" / "assets"
CANVAS = (
    "<canvas width=160 height=90></canvas><script>const g = document.querySelector('canvas').getContext('2d')</script>"
)
NTSC = Fraction(30000, 1001)
#: Where frame numbers that are reckoned with floats go wrong, beside all of the first second.
FRAMES = [*range(34), 61, 62, 63, 111, 112]


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[RunningBrowser]:
    """One browser for all pages of this file."""
    with open_browser(find_browser(browser_path, os.environ)) as running:
        yield running


class Studio:
    """Opens pages that a test writes."""

    def __init__(self, browser: RunningBrowser, folder: Path) -> None:
        self._browser = browser
        self.folder = folder

    def write(self, body: str, name: str = "page.html") -> str:
        """A page's URL."""
        style = "body { margin: 0; background: #888 } canvas, svg { display: block }"
        head = f"<!doctype html><meta charset=utf-8><style>{style}</style>"
        tell = "const tell = (value) => console.error(JSON.stringify(value))"
        script = f"<script>{pictures.SCRIPT}{tell}</script>"
        (self.folder / name).write_text(f"{head}<body>{script}{body}", encoding="utf-8")
        return (self.folder / name).as_uri()

    def open(self, body: str, **options: Any) -> Page:
        """A page that is ready for its first frame."""
        given = {"width": 160, "height": 90, "mode": Mode.DOM, "timeout": Fraction(20), **options}
        return self._browser.open_page(self.write(body), RenderOptions(**given))

    def numbers(self, body: str, frames: Iterable[int], **options: Any) -> list[int]:
        """What a page shows at some frames."""
        page = self.open(body, **options)
        return [pictures.bars(pictures.picture(page.frame(frame))) for frame in frames]

    def told(self, body: str, frames: int, **options: Any) -> list[Any]:
        """What a page tells during its first frames, of which only the last is looked at."""
        page = self.open(body, **options)
        page.frame(frames - 1)
        page.check()
        return [json.JSONDecoder().raw_decode(note)[0] for note in page.notes]


@contextmanager
def serving(folder: Path, never: str = "") -> Iterator[tuple[str, list[str]]]:
    """A server of files that knows no ranges: its address, and the paths that it was asked for.

    One path is `never` answered before the end of the block.
    """
    asked: list[str] = []
    over = threading.Event()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == never:
                over.wait()
            super().do_GET()

        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    handler = partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            over.set()
            server.shutdown()


@pytest.fixture
def studio(browser: RunningBrowser, tmp_path: Path) -> Studio:
    return Studio(browser, tmp_path)


# --- Time ------------------------------------------------------------------------------------------------------------

#: How pages come to the number of their frame, most of them rounding down as people do. FPS and `put` are given.
CLOCKS = {
    "performance.now": "every(() => put(Math.floor(performance.now() / 1000 * FPS)))",
    "the frame's timestamp": "let t = 0; every(() => put(Math.floor(t * FPS / 1000)), (time) => (t = time))",
    "document.timeline": "every(() => put(Math.floor(document.timeline.currentTime / (1000 / FPS))))",
    "Date.now": "const began = Date.now(); every(() => put(Math.floor((Date.now() - began) / 1000 * FPS)))",
    "new Date": "const began = new Date(); every(() => put(Math.floor((new Date() - began) / 1000 * FPS)))",
    "setInterval": "let n = 0; put(n); setInterval(() => put(++n), 1000 / FPS)",
    "setTimeout": "let n = -1; (function f() { put(++n); setTimeout(f, 1000 / FPS) })()",
    "counting": "let n = 0; requestAnimationFrame(function f() { put(n++); requestAnimationFrame(f) })",
    "event.timeStamp": "every(() => put(Math.floor(new Event('x').timeStamp / 1000 * FPS)))",
    "CSS": "every(() => put(Math.round(getComputedStyle(css).left.slice(0, -2) / 10 * FPS)))",
    "Web Animations": "const a = css.animate({}, 1e6); every(() => put(Math.floor(a.currentTime / 1000 * FPS)))",
    "SMIL": "every(() => put(Math.round(smil.x.animVal.value / 10 * FPS)))",
    "closed shadow root": """
        const root = document.createElement("div").attachShadow({ mode: "closed" });
        document.body.append(root.host);
        root.innerHTML = `<style>@keyframes go { to { left: 9990px } }
          i { position: absolute; left: 0; animation: go 999s linear }</style><i></i>`;
        every(() => put(Math.round(getComputedStyle(root.lastChild).left.slice(0, -2) / 10 * FPS)))""",
    "helios and a loop": "every(() => put(at))",
    "helios": "seekers.push(put)",
    "GSAP": "timelines.push((seconds) => put(Math.round(seconds * FPS)))",
    "__HELIOS_VIRTUAL_TIME__": "every(() => put(Math.floor(__HELIOS_VIRTUAL_TIME__ / 1000 * FPS)))",
}  # fmt: skip
CLOCK_PAGE = """
<style>@keyframes go { to { left: 9990px } } #css { position: absolute; left: 0; animation: go 999s linear }</style>
<div id=css></div>
<svg width=0 height=0><rect id=smil><animate attributeName=x from=0 to=9990 dur=999s /></rect></svg>
<canvas width=160 height=160></canvas>
<script>
  const g = document.querySelector("canvas").getContext("2d"), seekers = [], timelines = [];
  let at = 0;
  const every = (draw, take = () => {}) => {
    draw();
    requestAnimationFrame((time) => { take(time); every(draw, take) });
  };
  window.helios = { fps: { value: FPS }, seek(frame) { at = frame; seekers.forEach((seek) => seek(frame)) } };
  window.__helios_gsap_timeline__ = { seek(seconds) { timelines.forEach((seek) => seek(seconds)) } };
</script>
"""


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("fps", [Fraction(30), Fraction(24), NTSC], ids=str)
def test_every_clock_shows_every_frame_once(studio: Studio, fps: Fraction, mode: Mode) -> None:
    scripts = (
        f"<script>{{ const put = (n) => paint(g, n, {row}); {script} }}</script>"
        for row, script in enumerate(CLOCKS.values())
    )
    body = (CLOCK_PAGE + "".join(scripts)).replace("FPS", f"({fps.numerator} / {fps.denominator})")
    page = studio.open(body, fps=fps, mode=mode, height=160)
    shown: dict[str, list[int]] = {clock: [] for clock in CLOCKS}
    for frame in FRAMES:
        image = pictures.picture(page.frame(frame))
        for row, clock in enumerate(CLOCKS):
            shown[clock].append(pictures.bars(image, row))
    assert shown == dict.fromkeys(CLOCKS, FRAMES)


def test_a_date_is_a_date_in_every_other_respect(studio: Studio) -> None:
    [told] = studio.told(
        """<script>
        class Own extends Date {}
        tell([new Own().toISOString(), new Own() instanceof Date, new Date(5).getTime(), new Date(2020, 1, 2).getDate(),
          Date.parse("2020-01-01T00:00:00Z"), Date.UTC(2020, 0), new Date().constructor === Date, typeof Date(),
          Object.prototype.toString.call(new Date()), structuredClone(new Date()).getTime(), Date.length,
          new Intl.DateTimeFormat("en", { timeZone: "UTC", year: "numeric" }).format()])
        </script>""",
        1,
    )
    began = 1_704_067_200_000
    assert told == [
        *("2024-01-01T00:00:00.000Z", True, 5, 2, 1_577_836_800_000, 1_577_836_800_000),
        *(True, "string", "[object Date]", began, 7, "2024"),
    ]


def test_timers_fire_in_the_order_of_their_times_with_the_clock_at_each(studio: Studio) -> None:
    [told] = studio.told(
        """<script>
        const seen = [], note = (name) => seen.push(name + "@" + Math.round(performance.now()));
        setTimeout(note, 20, "late");
        setTimeout(() => { note("early"); Promise.resolve().then(() => note("its promise")) }, 10);
        setTimeout(() => note("second of two"), 10);
        const never = setTimeout(note, 15, "never");
        clearTimeout(never);
        setTimeout("note('a string')", 12);
        let left = 2;
        const often = setInterval(() => { note("often"); if (--left === 0) clearInterval(often) }, 8);
        setTimeout(() => tell(seen), 33);
        </script>""",
        2,
    )
    assert told == [
        *("often@8", "early@10", "its promise@10", "second of two@10", "a string@12", "often@16", "late@20"),
    ]


def test_timers_without_a_delay_come_to_an_end_within_a_frame(studio: Studio) -> None:
    body = "<script>let n = 0; (function f() { n += 1; setTimeout(f, 0) })(); setTimeout(() => tell(n), 99)</script>"
    [count] = studio.told(body, 4)
    # The first five at once, then one every four milliseconds, as in any browser.
    assert 20 < count < 40


def test_a_frame_asked_for_in_a_frame_is_the_next_one(studio: Studio) -> None:
    [told] = studio.told(
        """<script>
        const seen = [];
        let other;
        requestAnimationFrame(() => {
          seen.push("a");
          cancelAnimationFrame(other);
          requestAnimationFrame(() => seen.push("next"));
        });
        other = requestAnimationFrame(() => seen.push("cancelled"));
        requestIdleCallback((deadline) => { while (deadline.timeRemaining() > 0); seen.push("idle") });
        setTimeout(() => tell(seen), 40);
        </script>""",
        3,
    )
    assert told == ["a", "idle", "next"]


# --- Chance ----------------------------------------------------------------------------------------------------------

CHANCE = """<script>
tell([Math.random(), Math.random(), crypto.randomUUID(), [...crypto.getRandomValues(new Uint16Array(2))]])
</script>"""


def test_chance_follows_from_the_seed(studio: Studio) -> None:
    first, again, other = (studio.told(CHANCE, 1, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    [[number, next_number, name, words]] = first
    assert 0 <= number < 1
    assert number != next_number
    assert name[14] == "4"
    assert words != [0, 0]


# --- Animations ------------------------------------------------------------------------------------------------------

ANIMATED = """<style>
  @keyframes go { to { left: 100px } }
  #box { position: absolute; left: 0 }
  .once { animation: go 100ms linear 2 50ms }
  .long { animation: go 1s linear }
  .stop { animation-play-state: paused }
  .moved { transition: left 200ms linear; left: 100px !important }
  .back { transition: left 200ms linear }
</style><div id=box></div>
<script>
  const seen = [], acts = {};
  let frame = -1;
  const left = () => Math.round(10 * parseFloat(getComputedStyle(box).left)) / 10;
  const on = (...names) => names.forEach((name) =>
    box.addEventListener(name, (event) => seen.push([name, frame + 1, event.elapsedTime])));
  requestAnimationFrame(function f() {
    frame += 1;
    acts[frame]?.();
    requestAnimationFrame(f);
  });
</script>"""


def test_the_events_of_a_css_animation_come_at_their_frames(studio: Studio) -> None:
    script = """<script>
    on("animationstart", "animationiteration", "animationend", "animationcancel");
    acts[2] = () => (box.className = "once");
    acts[12] = () => tell(seen);
    </script>"""
    # It is there from frame 2 on; 50 ms later, at frame 4, it starts; events come before the frame's callbacks.
    assert studio.told(ANIMATED + script, 13) == [
        [["animationstart", 4, 0], ["animationiteration", 7, 0.1], ["animationend", 10, 0.2]]
    ]


def test_styles_pause_their_animations_and_let_them_go_on(studio: Studio) -> None:
    script = """<script>
    for (let n = 0; n < 12; n += 1) acts[n] = () => {
      if (n === 0) box.className = "long";
      if (n === 4) box.className = "long stop";
      if (n === 7) box.className = "long";
      seen.push(left());
      if (n === 11) tell(seen);
    };
    </script>"""
    assert studio.told(ANIMATED + script, 12) == [[0, 3.3, 6.7, 10, 13.3, 13.3, 13.3, 13.3, 16.7, 20, 23.3, 26.7]]


def test_a_transition_starts_when_a_class_changes_and_turns_around_midway(studio: Studio) -> None:
    script = """<script>
    on("transitionrun", "transitionend", "transitioncancel");
    for (let n = 0; n < 11; n += 1) acts[n] = () => {
      if (n === 1) box.className = "moved";
      if (n === 4) box.className = "back";
      seen.push(left());
      if (n === 10) tell(seen);
    };
    </script>"""
    assert studio.told(ANIMATED + script, 11) == [
        [
            *(0, 0, ["transitionrun", 2, 0], 16.7, 33.3, 50),
            # It goes back in the time that it came in.
            *(["transitioncancel", 5, 0.1], ["transitionrun", 5, 0], 33.3, 16.7, ["transitionend", 7, 0.1], 0, 0, 0, 0),
        ]
    ]


def test_an_animation_ends_at_its_frame_and_can_begin_again(studio: Studio) -> None:
    script = """<script>
    const once = box.animate({ left: ["0px", "100px"] }, 100);
    once.finished.then(() => seen.push(["finished", frame + 1]));
    once.onfinish = (e) => {
      seen.push(["finish", frame + 1, e.currentTime, once.playState]);
      if (frame < 5) once.play();
    };
    acts[1] = () => seen.push([once.playState, Math.round(once.currentTime), once.startTime]);
    acts[8] = () => tell(seen);
    </script>"""
    # Which of the two comes first is not told; both come with frame 3.
    [told] = studio.told(ANIMATED + script, 9)
    assert told[0] == ["running", 33, 0]
    assert sorted(told[1:], key=str) == sorted(
        [["finished", 3], ["finish", 3, 100, "finished"], ["finish", 6, 100, "finished"]], key=str
    )


def test_an_animation_does_what_its_page_asks_of_it(studio: Studio) -> None:
    script = """<script>
    const a = box.animate({ left: ["0px", "100px"] }, 1000);
    const ask = { 2: () => a.pause(), 4: () => a.play(), 6: () => a.reverse(), 8: () => (a.playbackRate = 2),
      10: () => (a.currentTime = 900), 11: () => a.updatePlaybackRate(-1), 14: () => a.cancel() };
    a.finished.catch(() => seen.push("rejected"));
    for (let n = 0; n < 16; n += 1) acts[n] = () => {
      ask[n]?.();
      seen.push(left());
      if (n === 15) tell([seen, a.playState]);
    };
    </script>"""
    assert studio.told(ANIMATED + script, 16) == [
        [[0, 3.3, 6.7, 6.7, 6.7, 10, 13.3, 10, 6.7, 13.3, 90, 96.7, 93.3, 90, 0, "rejected", 0], "idle"]
    ]


def test_an_animation_that_is_over_runs_back_when_it_is_turned_around(studio: Studio) -> None:
    script = """<script>
    const a = box.animate({ left: ["0px", "100px"] }, { duration: 100, fill: "both" });
    for (let n = 0; n < 9; n += 1) acts[n] = () => {
      if (n === 4) a.updatePlaybackRate(-1);
      if (n === 6) a.reverse();
      seen.push(left(), a.playState[0]);
      if (n === 8) tell(seen);
    };
    </script>"""
    [told] = studio.told(ANIMATED + script, 9)
    assert told[::2] == [0, 33.3, 66.7, 100, 100, 66.7, 33.3, 66.7, 100]
    assert "".join(told[1::2]) == "rrrfrrrrf"


def test_what_a_page_pauses_itself_stays_where_it_is(studio: Studio) -> None:
    script = """<script>
    const a = box.animate({ left: ["0px", "100px"] }, { duration: 1000, fill: "both" });
    a.pause();
    // As libraries do that drive a page's animations themselves.
    for (let n = 0; n < 5; n += 1) acts[n] = () => { a.currentTime = 100 * n; seen.push(left(), a.playState) };
    acts[5] = () => tell(seen);
    </script>"""
    [told] = studio.told(ANIMATED + script, 6)
    assert told == [0, "paused", 10, "paused", 20, "paused", 30, "paused", 40, "paused"]


def test_an_animation_that_is_shorter_than_loading_is_still_seen_from_its_beginning(studio: Studio) -> None:
    (studio.folder / "slow.js").write_text("for (let n = 0; n < 3e8; n += 1);", encoding="utf-8")
    script = """<script>box.style.animation = "go 100ms linear"; left()</script><script src=slow.js></script>
    <script>for (let n = 0; n < 4; n += 1) acts[n] = () => { seen.push(left()); if (n === 3) tell(seen) };</script>"""
    assert studio.told(ANIMATED + script, 4) == [[0, 33.3, 66.7, 0]]


# --- History ---------------------------------------------------------------------------------------------------------

WALK = """<script>
g.fillRect(0, 0, 160, 90);
let [x, y, before] = [80, 45, 0];
requestAnimationFrame(function walk(time) {
  x += (Math.random() - 0.5) * (time - before) / 2;
  y += (Math.random() - 0.5) * (time - before) / 2;
  before = time;
  g.fillStyle = `hsl(${time / 5} 80% 60%)`;
  g.fillRect(x, y, 6, 6);
  requestAnimationFrame(walk);
});
</script>"""
SWITCHED = """<style>
  i { position: absolute; width: 20px; height: 20px; background: #fc0; transition: all 150ms; left: 10px; top: 20px }
  .on i { left: 120px; background: #06f; border-radius: 10px }
</style><i></i><script>
  const box = document.querySelector("i");
  setInterval(() => document.body.classList.toggle("on"), 130);
  box.addEventListener("transitionend", () => (box.style.top = `${20 + 40 * Math.random()}px`));
</script>"""


@pytest.mark.parametrize(("body", "mode"), [(CANVAS + WALK, Mode.CANVAS), (SWITCHED, Mode.DOM)], ids=["canvas", "dom"])
def test_a_page_that_begins_later_shows_what_the_whole_shows(studio: Studio, body: str, mode: Mode) -> None:
    whole = studio.open(body, mode=mode)
    expected = [pictures.pixels(pictures.picture(whole.frame(frame))) for frame in range(24)]
    assert len(set(expected)) > 12
    for start in (1, 8, 17):
        page = studio.open(body, mode=mode)
        for frame in range(start, min(start + 7, 24)):
            assert pictures.pixels(pictures.picture(page.frame(frame))) == expected[frame], (start, frame)


# --- What is waited for ----------------------------------------------------------------------------------------------


def make_images(folder: Path, count: int) -> None:
    for number in range(count):
        pictures.write_png(folder / f"{number}.png", pictures.drawn(number, 160, 90))


def test_pictures_are_there_in_the_frame_that_asks_for_them(studio: Studio) -> None:
    make_images(studio.folder, 12)
    number = "Math.round(performance.now() * 30 / 1000)"
    drawn = f"""{CANVAS}<script>requestAnimationFrame(function f() {{
      const image = new Image();
      image.onload = () => g.drawImage(image, 0, 0);
      image.src = `${{{number}}}.png`;
      requestAnimationFrame(f);
    }})</script>"""
    element = f"""<img id=image><script>requestAnimationFrame(function f() {{
      image.src = `${{{number}}}.png`;
      requestAnimationFrame(f);
    }})</script>"""
    rules = "".join(f".b{n} {{ background: url({n}.png) }}" for n in range(12))
    styled = f"""<style>{rules}</style><div id=box style="height: 90px"></div>
    <script>requestAnimationFrame(function f() {{
      box.className = `b${{{number}}}`;
      requestAnimationFrame(f);
    }})</script>"""
    inline = styled.replace("box.className = `b", "box.style.background = `url(").replace("}`;", "}.png)`;")
    for body in (drawn, element, styled, inline.replace(rules, "")):
        assert studio.numbers(body, range(12)) == list(range(12)), body
    assert studio.numbers(drawn, range(12), mode=Mode.CANVAS) == list(range(12))


def test_lazy_pictures_are_there_before_they_come_into_view(studio: Studio) -> None:
    make_images(studio.folder, 6)
    body = """<div id=far style="position: absolute; top: 9000px"><img src=5.png loading=lazy></div>
    <script>setTimeout(() => (far.style.top = 0), 60)</script>"""
    assert studio.numbers(body, [2, 3]) == [5, 5]


def test_the_clock_waits_for_what_a_page_fetches(studio: Studio) -> None:
    (studio.folder / "base.json").write_text('{"base": 100}', encoding="utf-8")
    body = """<script>
    let base = 0, count = 0;
    show(0);
    setTimeout(async () => { base = (await (await fetch("base.json")).json()).base; show(base) }, 50);
    requestAnimationFrame(function f() {
      const request = new XMLHttpRequest();
      request.open("GET", "base.json");
      request.onload = () => show(base + count++);
      request.send();
      requestAnimationFrame(f);
    });
    </script>"""
    assert studio.numbers(body, range(6)) == [0, 1, 102, 103, 104, 105]


def test_work_that_is_spread_over_tasks_is_done_within_its_frame(studio: Studio) -> None:
    body = f"""{CANVAS}<script>
    const channel = new MessageChannel();
    let frame = -1, left;
    channel.port1.onmessage = () => (left-- > 0 ? channel.port2.postMessage(0) : paint(g, frame));
    requestAnimationFrame(function f() {{
      [frame, left] = [frame + 1, 9];
      channel.port2.postMessage(0);
      requestAnimationFrame(f);
    }});
    </script>"""
    assert studio.numbers(body, range(5), mode=Mode.CANVAS) == list(range(5))


def test_pictures_of_all_rules_are_fetched_before_the_first_frame_and_nothing_else(
    studio: Studio, browser: RunningBrowser
) -> None:
    rules = """
      @namespace svg url(namespace);
      .own { background: url(own.png); &.nested { background: url(nested.png); @media all { color: red } } }
      @media all { @layer one { @supports (color: red) { .deep { background: url(deep.png) } } } }
      @keyframes all { to { background: url(key.png) } }"""
    (studio.folder / "imported.css").write_text(".there { background: url(imported.png) }", encoding="utf-8")
    studio.write(f"<style>@import 'imported.css';{rules}</style>")
    with serving(studio.folder) as (address, asked):
        browser.open_page(f"{address}/page.html", RenderOptions(width=160, height=90, mode=Mode.DOM))
    pictures_of = {f"/{name}.png" for name in ("own", "nested", "deep", "key", "imported")}
    assert set(asked) - {"/favicon.ico"} == pictures_of | {"/page.html", "/imported.css"}


def test_pictures_that_are_new_in_each_frame_do_not_pile_up(studio: Studio, browser: RunningBrowser) -> None:
    body = """<div id=box style="height: 90px"></div><script>
    let n = 0;
    requestAnimationFrame(function f() {
      const svg = `<svg xmlns="http://www.w3.org/2000/svg" id="n${n++}"/>`;
      box.style.background = `url("data:image/svg+xml,${encodeURIComponent(svg)}")`;
      requestAnimationFrame(f);
    });
    </script>"""
    page = studio.open(body)
    for frame in range(150):
        page.frame(frame)
    call = partial(browser.connection.call, session=page.session, timeout=20)
    call("HeapProfiler.collectGarbage")
    # Each is a document of its own, with an element in it.
    assert call("Memory.getDOMCounters")["documents"] < 110


def test_fonts_are_there_at_the_first_frame(studio: Studio) -> None:
    shutil.copy(ASSETS / "dots.woff2", studio.folder)
    body = """<style>@font-face { font-family: Dots; src: url(dots.woff2) }</style><canvas></canvas><script>
    const context = document.querySelector("canvas").getContext("2d");
    requestAnimationFrame(() => {
      context.font = "100px Dots";
      tell(context.measureText("00").width);
    });
    </script>"""
    assert studio.told(body, 1) == [pytest.approx(140, abs=0.01)]


#: What takes its own time, and has to be there in the frame that asks for it. `big` are some megabytes.
WORKS = {
    "convertToBlob": "new OffscreenCanvas(900, 900).getContext('2d').canvas.convertToBlob({ type: 'image/webp' })",
    "FileReader": "new Promise((done) => { const r = new FileReader(); r.onload = done; r.readAsDataURL(blob) })",
    "decodeAudioData": "fetch('chime.wav').then((r) => r.arrayBuffer()).then((b) => sounds.decodeAudioData(b))",
    "startRendering": "new OfflineAudioContext(1, 480000, 48000).startRendering()",
    "generateKey": "crypto.subtle.generateKey({ name: 'RSA-PSS', modulusLength: 2048, hash: 'SHA-256',"
    " publicExponent: new Uint8Array([1, 0, 1]) }, true, ['sign'])",
    "digest": "crypto.subtle.digest('SHA-256', big)",
    "Blob.text": "blob.text()",
    "Request.text": "new Request('/', { method: 'POST', body: blob }).text()",
    "a blob's stream": "readAll(blob.stream())",
    "a fetched stream": "fetch('big.bin').then(({ body }) => readAll(body))",
    "a stream through another": "readAll(blob.stream().pipeThrough(new CompressionStream('gzip')))",
    "a cache": "caches?.keys()",
    "WebAssembly": "WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]))",
    "createImageBitmap": "createImageBitmap(new ImageData(1500, 1500))",
    "a database": """new Promise((done) => {
        const open = indexedDB.open("films", Math.round(performance.now()) + 1);
        open.onupgradeneeded = () => {
          if (!open.result.objectStoreNames.contains("all")) open.result.createObjectStore("all");
        };
        open.onsuccess = () => {
          const all = open.result.transaction("all", "readwrite").objectStore("all");
          all.put(blob, "it");
          all.get("it").onsuccess = () => { open.result.close(); done() };
        };
      })""",
}


@pytest.mark.parametrize("work", WORKS)
def test_the_clock_waits_for_work_that_is_done_elsewhere(studio: Studio, work: str) -> None:
    shutil.copy(ASSETS / "chime.wav", studio.folder)
    (studio.folder / "big.bin").write_bytes(bytes(2_000_000))
    body = f"""<script>
    const big = new Uint8Array(4e6), blob = new Blob([big]), sounds = new AudioContext();
    const readAll = async (stream) => {{
      const reader = stream.getReader();
      while (!(await reader.read()).done);
    }};
    let frame = 0, there = 0;
    (function f() {{
      if (frame === 4) tell(there);
      frame += 1;
      (async () => {WORKS[work]})().then(() => (there += 1));
      requestAnimationFrame(f);
    }})();
    </script>"""
    assert studio.told(body, 5) == [4]


def test_a_stream_that_a_page_fills_by_its_clock_does_not_hold_the_clock(studio: Studio) -> None:
    body = """<script>
    const stream = new ReadableStream({ start(to) { setTimeout(() => to.enqueue("a piece"), 50) } });
    new Response(stream.pipeThrough(new TextEncoderStream())).body.getReader().read()
      .then(() => tell(Math.floor(performance.now())));
    </script>"""
    assert studio.told(body, 3, timeout=Fraction(5)) == [50]


@pytest.mark.parametrize(
    "wait", ["setTimeout(done, 25)", "requestAnimationFrame(done)", "document.fonts.ready.then(done)"]
)
def test_a_frame_is_taken_when_the_page_says_that_it_is_stable(studio: Studio, wait: str) -> None:
    body = """<script>
    let at = 0;
    window.helios = {
      fps: { value: 30 },
      seek(frame) { at = frame },
      async waitUntilStable() { await new Promise((done) => WAIT); show(at) },
    };
    </script>"""
    assert studio.numbers(body.replace("WAIT", wait), range(4)) == list(range(4))


# --- What the browser loads by itself --------------------------------------------------------------------------------

#: What a page may bring in while it runs. Each shows 9 in the frame in which it was asked for.
BROUGHT = {
    "a module": "import('./module.js')",
    "a module that was there before": "await import('./module.js'); show(0); import('./module.js').then(() => show(9))",
    "a script": "add('script', { src: 'classic.js' })",
    "a module script": "add('script', { src: 'module.js', type: 'module' })",
    "a script that brings a picture": "add('script', { src: 'picture.js' })",
    "a stylesheet": "box.className = 'new'; add('link', { rel: 'stylesheet', href: 'new.css' })",
    "a picture of a rule": "sheet.sheet.insertRule('#box { background: url(9.png) }')",
    "a picture of an attribute": "add('img').setAttribute('src', '9.png')",
    "a picture in an SVG": "box.innerHTML = '<svg width=160 height=90><image href=9.png /></svg>'",
    "a picture of a picture element": "box.innerHTML = '<picture><source srcset=9.png><img src=0.png></picture>'",
    "a font": "add('style', { textContent: '@font-face { font-family: Late; src: url(dots.woff2) }' }); measure()",
}
BRINGING = """<style id=sheet></style><div id=box style="height: 90px"></div><script>
  const add = (name, values) => box.appendChild(Object.assign(document.createElement(name), values));
  const measure = () => {
    const text = add("span", { textContent: "00", style: "font: 100px Late; position: absolute" });
    new ResizeObserver(() => { if (Math.round(text.offsetWidth) === 140) show(9) }).observe(text);
  };
  const bring = async () => { WORK };
  let frame = 0;
  requestAnimationFrame(function f() {
    if (frame++ === 2) bring();
    requestAnimationFrame(f);
  });
</script>"""


@pytest.mark.parametrize(
    ("what", "mode"), [*((what, Mode.DOM) for what in BROUGHT), ("a module", Mode.CANVAS), ("a script", Mode.CANVAS)]
)
def test_what_a_page_brings_in_while_it_runs_is_there_in_its_frame(studio: Studio, what: str, mode: Mode) -> None:
    folder = studio.folder
    for number in (0, 9):
        pictures.write_png(folder / f"{number}.png", pictures.drawn(number, 160, 90))
    shutil.copy(ASSETS / "dots.woff2", folder)
    # Work for the browser's other threads, which compile them.
    much = "".join(f"function unused{n}(a) {{ return [a, a => a + {n}] }}\n" for n in range(20_000))
    (folder / "module.js").write_text("import { number } from './other.js'; show(number)", encoding="utf-8")
    (folder / "other.js").write_text(f"{much} export const number = 9", encoding="utf-8")
    (folder / "classic.js").write_text(f"{much} show(9)", encoding="utf-8")
    (folder / "picture.js").write_text("box.style.setProperty('--a', 1); add('img').setAttribute('src', '9.png')")
    (folder / "new.css").write_text("@import 'more.css';", encoding="utf-8")
    (folder / "more.css").write_text(".new { background: url(9.png) }", encoding="utf-8")
    body = BRINGING.replace("WORK", BROUGHT[what])
    if mode is Mode.CANVAS:
        # It is drawn when what was brought in is there, not in a frame.
        body = f"{body}{CANVAS}<script>show = (number) => paint(g, number)</script>"
    assert studio.numbers(body, [2], mode=mode) == [9]


def test_what_never_arrives_is_named(studio: Studio, browser: RunningBrowser) -> None:
    body = """<div id=box></div><script>
    requestAnimationFrame(() => (box.style.cssText = "height: 9px; --a: 1; background: var(--b)"));
    document.adoptedStyleSheets = [new CSSStyleSheet()];
    setTimeout(() => document.adoptedStyleSheets[0].replaceSync("#box { --b: url(/never.png) }"), 40);
    </script>"""
    studio.write(body)
    with serving(studio.folder, never="/never.png") as (address, _):
        options = RenderOptions(width=160, height=90, mode=Mode.DOM, timeout=Fraction(1))
        page = browser.open_page(f"{address}/page.html", options)
        page.frame(1)
        with pytest.raises(RenderFailed, match=r"frame 2 did not come: .*/never\.png was not loaded within 1 s"):
            page.frame(2)


# --- Sizes -----------------------------------------------------------------------------------------------------------

#: `slowly` takes some real time, in which the browser is given frames of its own.
RESIZED = """<div id=box style="width: 160px; height: 20px; box-sizing: border-box"><p id=inner></p></div><script>
  const seen = [], acts = {};
  let frame = -1;
  const slowly = () => new Blob([new Uint8Array(1e7)]).arrayBuffer();
  const sizes = (entries) =>
    seen.push([frame, ...entries.map(({ target, contentRect }) => target.id + Math.round(contentRect.width))]);
  requestAnimationFrame(function f() {
    frame += 1;
    acts[frame]?.();
    requestAnimationFrame(f);
  });
</script>"""


def test_a_size_is_told_once_at_the_end_of_its_frame_however_long_the_frame_takes(studio: Studio) -> None:
    body = f"""{RESIZED}<script>
    new ResizeObserver(sizes).observe(box);
    const put = async (...widths) => {{
      for (const width of widths) {{
        box.style.width = `${{width}}px`;
        await slowly();
      }}
    }};
    acts[1] = () => put(50);
    acts[2] = () => put(60, 70, 80);
    acts[4] = () => put(10, 80);
    acts[6] = () => setTimeout(() => (box.style.width = "90px"), 10);
    acts[9] = () => tell(seen);
    </script>"""
    # The first is told before the first frame, so that a page which draws what it is told has it there.
    expected = [[[-1, "box160"], [1, "box50"], [2, "box80"], [7, "box90"]]]
    assert [studio.told(body, 10) for _ in range(2)] == [expected, expected]


def test_what_is_told_of_sizes_comes_in_the_order_of_the_browser(studio: Studio) -> None:
    body = f"""{RESIZED}<script>
    let told = 0;
    const first = new ResizeObserver((entries) => {{
      sizes(entries);
      if (frame < 2) return;
      // Its own size again, which waits for the next frame; what is in it is told in this one.
      if (told++ < 2) box.style.width = `${{50 - 10 * told}}px`;
    }});
    const second = new ResizeObserver(sizes);
    second.observe(inner);
    first.observe(box);
    second.observe(box);
    const third = new ResizeObserver(sizes);
    third.observe(box);
    third.unobserve(box);
    new ResizeObserver(sizes).observe(box, {{ box: "border-box" }});
    acts[1] = () => (box.style.padding = "0 5px");
    acts[2] = async () => {{
      box.style.width = "100px";
      await slowly();
      box.style.width = "50px";
    }};
    acts[6] = () => tell(seen);
    </script>"""
    all_of = [["box160"], ["inner160", "box160"], ["box160"]]
    assert studio.told(body, 7) == [
        [
            *([-1, *entries] for entries in all_of),
            *([1, "box150"], [1, "inner150", "box150"]),
            *([2, "box40"], [2, "inner40", "box40"], [2, "box40"], [2, "inner30"]),
            *([3, "box30"], [3, "box30"], [3, "box30"], [3, "inner20"]),
            *([4, "box20"], [4, "box20"], [4, "box20"]),
        ]
    ]


def test_a_canvas_that_follows_its_box_is_drawn_at_its_size_in_each_frame(studio: Studio) -> None:
    body = f"""<div id=box style="width: 80px; height: 90px">{CANVAS}</div><script>
    let frame = 0;
    new ResizeObserver(([{{ contentRect }}]) => {{
      g.canvas.width = contentRect.width;
      paint(g, contentRect.width);
    }}).observe(box);
    requestAnimationFrame(function f() {{
      box.style.width = `${{100 + 10 * frame++}}px`;
      requestAnimationFrame(f);
    }});
    </script><style>canvas {{ width: 160px; height: 90px }}</style>"""
    assert studio.numbers(body, range(5)) == [100, 110, 120, 130, 140]


# --- What compositions publish ---------------------------------------------------------------------------------------


def test_props_are_what_was_given_whatever_their_names_are(studio: Studio) -> None:
    props = json.dumps({"__proto__": {"a": 1}, "text": "</script>`${1}`\"'\\", "n": [1.5]})
    body = "<script>const p = __HELIOS_PROPS__; tell([Object.keys(p), p.a ?? 0, p])</script>"
    assert studio.told(body, 1, props=props) == [[["__proto__", "text", "n"], 0, json.loads(props)]]


def test_a_page_s_screen_is_as_large_as_the_render(studio: Studio) -> None:
    names = "screen.width, screen.height, screen.availWidth, screen.availHeight, innerWidth, innerHeight"
    assert studio.told(f"<script>tell([{names}])</script>", 1, width=320, height=180) == [[320, 180] * 3]


def test_props_and_the_virtual_time_are_there_before_the_first_script(studio: Studio) -> None:
    seen = "__HELIOS_PROPS__, __HELIOS_VIRTUAL_TIME__, Object.keys(window).includes('__LOGIST_PAGE__')"
    body = f"<script>tell([{seen}])</script>"
    assert studio.told(body, 1, props='{"title": "Hello"}') == [[{"title": "Hello"}, 0, False]]


@pytest.mark.parametrize(
    ("fps", "own", "expected"),
    [
        (Fraction(30), "60", [0, 2, 4, 62, 122]),
        (Fraction(60), "30", [0, 0, 1, 15, 30]),
        (Fraction(25), "30", [0, 1, 2, 37, 73]),
        (NTSC, "29.97", [0, 1, 2, 31, 61]),
        (NTSC, "30", [0, 1, 2, 31, 61]),
    ],
    ids=str,
)
def test_helios_is_told_its_own_frame_number(studio: Studio, fps: Fraction, own: str, expected: Sequence[int]) -> None:
    body = f"<script>window.helios = {{ fps: {{ value: {own} }}, seek(frame) {{ show(frame) }} }}</script>"
    assert studio.numbers(body, [0, 1, 2, 31, 61], fps=fps) == expected


def test_a_page_that_follows_the_virtual_time_may_stand_between_its_own_frames(studio: Studio) -> None:
    # As Helios' core does: an accessor in place of the value, and a wait until what was told and what came agree.
    body = """<script>
    let time = 0, current = 0;
    Object.defineProperty(window, "__HELIOS_VIRTUAL_TIME__", {
      configurable: true, get: () => time, set(value) { time = value; current = value / 1000 * 24 },
    });
    window.helios = {
      fps: { value: 24 },
      get currentFrame() { return { value: current } },
      seek(frame) { current = frame },
      async waitUntilStable() {
        while (Math.abs(time / 1000 * 24 - current) > 0.01) await new Promise(requestAnimationFrame);
        show(Math.round(current * 30 / 24));
      },
    };
    </script>"""
    assert studio.numbers(body, range(8)) == list(range(8))


@pytest.mark.parametrize("paused", ["true", "false"])
def test_a_timeline_stands_at_its_frame_whether_it_runs_by_itself_or_not(studio: Studio, paused: str) -> None:
    body = """<script>
    let at = 0, most = 0, before = 0;
    const place = (seconds) => { at = seconds; most = Math.max(most, at); show(Math.round(at * 30)) };
    window.__helios_gsap_timeline__ = { paused: () => PAUSED, time: () => at, seek: place };
    requestAnimationFrame(function tick(now) {
      if (!PAUSED) place(at + (now - before) / 2000);
      before = now;
      requestAnimationFrame(tick);
    });
    setTimeout(() => tell(Math.round(most * 30)), 290);
    </script>"""
    page = studio.open(body.replace("PAUSED", paused))
    assert [pictures.bars(pictures.picture(page.frame(frame))) for frame in range(10)] == list(range(10))
    # Never further than its frame: what happens at the next one must not happen in this.
    assert page.notes[0].startswith("8 ")


# --- Documents in the page -------------------------------------------------------------------------------------------


def test_documents_in_the_page_have_the_same_clock(studio: Studio) -> None:
    clock = "show(Math.floor(performance.now() / 1000 * 30)); requestAnimationFrame(f)"
    studio.write(f"<script>(function f() {{ {clock} }})()</script>", "inner.html")
    body = "<iframe src=inner.html style='border: 0; display: block; width: 160px; height: 90px'></iframe>"
    assert studio.numbers(body, FRAMES) == FRAMES


# --- Video and sound -------------------------------------------------------------------------------------------------

VIDEO_STYLE = "<style>video { display: block; width: 160px; height: 90px }</style>"


@pytest.mark.parametrize("fps", [Fraction(30), Fraction(24), NTSC], ids=str)
def test_a_video_shows_each_of_its_frames_at_its_frame(studio: Studio, fps: Fraction) -> None:
    pictures.make_video(studio.folder / "v.webm", range(40), fps=fps)
    assert studio.numbers(f"{VIDEO_STYLE}<video src=v.webm muted></video>", range(34), fps=fps) == list(range(34))
    # And when those before it were not looked at.
    assert studio.numbers(f"{VIDEO_STYLE}<video src=v.webm autoplay></video>", [5, 6, 31], fps=fps) == [5, 6, 31]


@pytest.mark.parametrize("asking", ["requestAnimationFrame(draw)", "v.requestVideoFrameCallback(draw)"])
def test_a_video_that_is_drawn_on_a_canvas_is_at_its_frame_too(studio: Studio, asking: str) -> None:
    pictures.make_video(studio.folder / "v.webm", range(20), fps=Fraction(30))
    body = f"""{CANVAS}<script>
    const v = document.createElement("video");
    v.src = "v.webm";
    v.play();
    (function draw() {{ g.drawImage(v, 0, 0); {asking} }})();
    </script>"""
    assert studio.numbers(body, range(20), mode=Mode.CANVAS) == list(range(20))


@pytest.mark.parametrize(
    ("attributes", "frames", "expected"),
    [
        ("data-helios-offset=0.1 data-helios-seek=0.2", range(7), [6, 6, 6, 6, 7, 8, 9]),
        ("data-helios-seek=0.5", range(3), [15, 16, 17]),
        ("playbackrate=2", range(4), [0, 2, 4, 6]),
        ("loop", range(18, 23), [18, 19, 0, 1, 2]),
        ("", range(18, 22), [18, 19, 19, 19]),
    ],
)
def test_a_video_follows_its_attributes(
    studio: Studio, attributes: str, frames: Iterable[int], expected: Sequence[int]
) -> None:
    pictures.make_video(studio.folder / "v.webm", range(20), fps=Fraction(30))
    assert studio.numbers(f"{VIDEO_STYLE}<video src=v.webm muted {attributes}></video>", frames) == expected


def test_a_video_stands_where_its_page_puts_it(studio: Studio) -> None:
    pictures.make_video(studio.folder / "v.webm", range(20), fps=Fraction(30))
    body = f"""{VIDEO_STYLE}<video id=v src=v.webm muted></video><script>
    window.helios = {{ fps: {{ value: 30 }}, seek(frame) {{ v.currentTime = (19 - frame) / 30 }} }};
    </script>"""
    assert studio.numbers(body, range(20)) == list(range(19, -1, -1))


def test_the_sounds_of_a_page_are_told_as_they_are_to_be_heard(studio: Studio) -> None:
    shutil.copy(ASSETS / "chime.wav", studio.folder)
    pictures.make_video(studio.folder / "v.webm", range(4), fps=Fraction(30))
    body = """
    <audio src=chime.wav data-helios-offset=1.5 data-helios-seek=0.25
      data-helios-fade-in=0.1 data-helios-fade-out=0.2></audio>
    <audio src=chime.wav loop playbackrate=2 id=quiet></audio>
    <audio src=chime.wav data-helios-no-audio></audio>
    <video src=v.webm muted></video>
    <script>
    quiet.volume = 0.5;
    const sound = new Audio("chime.wav"), unheard = new Audio("chime.wav");
    setTimeout(() => sound.play(), 100);
    setTimeout(() => sound.pause(), 300);
    </script>"""
    page = studio.open(body)
    page.frame(12)
    url = (studio.folder / "chime.wav").as_uri()
    assert page.tracks() == (
        AudioTrack(url, Fraction("1.5"), Fraction("0.25"), fade_in=Fraction("0.1"), fade_out=Fraction("0.2")),
        AudioTrack(url, volume=Fraction("0.5"), loop=True, rate=Fraction(2)),
        AudioTrack(url, Fraction("0.1"), duration=Fraction("0.2")),
    )


def test_a_sound_that_is_put_elsewhere_while_it_plays_is_heard_in_two_pieces(studio: Studio) -> None:
    shutil.copy(ASSETS / "chime.wav", studio.folder)
    body = """<script>
    const moved = new Audio("chime.wav"), followed = new Audio("chime.wav"), late = new Audio("chime.wav");
    setTimeout(() => moved.play(), 100);
    setTimeout(() => (moved.currentTime = 0.05), 200);
    setTimeout(() => { moved.currentTime = 0.3; moved.currentTime = 0.1 }, 250);
    setTimeout(() => moved.pause(), 300);
    // As a page does that holds its sounds to its own clock.
    setTimeout(() => followed.play(), 100);
    setInterval(() => { if (!followed.paused) followed.currentTime = (performance.now() - 100) / 1000 }, 20);
    setTimeout(() => { late.currentTime = 0.2; late.play(); late.currentTime = 0.25 }, 200);
    </script>"""
    page = studio.open(body)
    page.frame(12)
    url = (studio.folder / "chime.wav").as_uri()
    heard = [(track.source, track.offset, track.seek, track.duration) for track in page.tracks()]
    assert [source for source, *_ in heard] == [url] * 5
    assert [tuple(times) for _, *times in heard] == [
        (Fraction("0.1"), 0, Fraction("0.1")),
        (Fraction("0.2"), Fraction("0.05"), Fraction("0.05")),
        (Fraction("0.25"), Fraction("0.1"), Fraction("0.05")),
        (Fraction("0.1"), 0, None),
        (Fraction("0.2"), Fraction("0.25"), None),
    ]


@pytest.mark.parametrize(
    ("attributes", "offset", "seek", "rate", "fade"),
    [
        ("data-helios-offset=-2 data-helios-seek=-1", -2, 0, 1, 0),
        ("data-helios-offset=1e400 data-helios-seek=1e400", 0, 0, 1, 0),
        ("data-helios-offset=1e300 data-helios-seek=1e300 data-helios-fade-in=1e300", 10**6, 10**6, 1, 10**6),
        ("data-helios-offset=-1e300 data-helios-seek=NaN data-helios-fade-in=-1", -(10**6), 0, 1, 0),
        ("playbackrate=1e300", 0, 0, 16, 0),
        ("playbackrate=1e-300", 0, 0, Fraction(1, 16), 0),
        ("playbackrate=-1", 0, 0, 1, 0),
        ("playbackrate=NaN", 0, 0, 1, 0),
    ],
)
def test_what_attributes_say_of_a_sound_is_kept_within_bounds(
    studio: Studio, attributes: str, offset: int, seek: int, rate: Fraction | int, fade: int
) -> None:
    shutil.copy(ASSETS / "chime.wav", studio.folder)
    page = studio.open(f"<audio src=chime.wav {attributes}></audio>")
    page.frame(1)
    [track] = page.tracks()
    assert (track.offset, track.seek, track.rate, track.fade_in) == (offset, seek, rate, fade)


def test_a_sound_takes_no_place_that_is_none_and_is_not_heard_when_it_stands_still(studio: Studio) -> None:
    shutil.copy(ASSETS / "chime.wav", studio.folder)
    body = """<audio src=chime.wav id=still></audio><audio src=chime.wav id=put></audio><script>
    still.playbackRate = 0;
    put.currentTime = 0.25;
    const said = [NaN, 1e400].map((value) => {
      try { put.currentTime = value } catch (error) { return [error.name, put.currentTime] }
    });
    put.currentTime = -5;
    setTimeout(() => tell([...said, put.currentTime, still.currentTime]), 50);
    </script>"""
    assert studio.told(body, 3) == [[["TypeError", 0.25], ["TypeError", 0.25], 0, 0]]
    page = studio.open(body)
    page.frame(1)
    assert [track.rate for track in page.tracks()] == [1]


def test_a_page_that_makes_its_sound_itself_says_so_once(studio: Studio) -> None:
    body = """<script>
    const play = (context) => {
      const tone = new OscillatorNode(context), noise = context.createBufferSource();
      for (const source of [tone, noise]) { source.connect(context.destination); source.start() }
    };
    play(new OfflineAudioContext(1, 100, 48000));
    /* SOUND */
    </script>"""
    silent, loud = studio.open(body), studio.open(body.replace("/* SOUND */", "play(new AudioContext())"))
    for page in (silent, loud):
        page.frame(1)
        page.check()
    assert silent.notes == ()
    [note] = loud.notes
    assert "not recorded" in note
    assert "--audio FILE" in note


# --- What goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("requestAnimationFrame(() => { throw new Error('in a frame') })", "in a frame"),
        ("setTimeout(() => { throw new TypeError('in a timer') }, 20)", "in a timer"),
        ("window.helios = { seek() { throw new Error('in seek') } }", "in seek"),
        ("window.helios = { seek() {}, waitUntilStable: () => Promise.reject(new Error('unstable')) }", "unstable"),
        ("const { port1, port2 } = new MessageChannel(); (port1.onmessage = () => port2.postMessage(0))()", "to rest"),
    ],
)
def test_what_a_page_throws_is_what_the_render_says(studio: Studio, script: str, message: str) -> None:
    with pytest.raises(RenderFailed, match=message):
        studio.told(f"<script>{script}</script>", 3)


def test_a_page_that_is_never_stable_is_told_from_one_that_is_slow(studio: Studio) -> None:
    body = "<script>window.helios = { seek() {}, waitUntilStable: () => new Promise(() => {}) }</script>"
    with pytest.raises(RenderFailed, match=r"still waits for helios\.waitUntilStable\(\)"):
        studio.told(body, 1, timeout=Fraction(3))


def test_timers_that_set_more_and_more_timers_end_the_render(studio: Studio) -> None:
    body = "<script>(function f() { setTimeout(f, 0); setTimeout(f, 0); setTimeout(f, 0) })()</script>"
    with pytest.raises(RenderFailed, match=r"timers are due in one frame|still waits for its own scripts"):
        studio.told(body, 30, timeout=Fraction(2))


@pytest.mark.parametrize("script", ["<script src=nowhere.js>", "<script type=module>import './nowhere.js'"])
def test_a_page_without_one_of_its_scripts_is_not_rendered(studio: Studio, script: str) -> None:
    with pytest.raises(RenderFailed, match="could not be loaded"):
        studio.open(f"{script}</script>").frame(0)


def test_a_video_that_can_not_be_moved_in_is_told_and_not_shown_standing_still(
    studio: Studio, browser: RunningBrowser
) -> None:
    pictures.make_video(studio.folder / "film.webm", range(20), fps=Fraction(10))
    studio.write("<video src=film.webm autoplay>")
    with serving(studio.folder) as (address, _):
        page = browser.open_page(f"{address}/page.html", RenderOptions(width=160, height=90, mode=Mode.DOM))
        with pytest.raises(RenderFailed, match="ranges of bytes") as caught:
            page.frame(9)
    assert "serve it" in caught.value.hint
