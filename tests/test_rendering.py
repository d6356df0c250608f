"""Frames come once and in their order from any number of pages, and what is made of them is whole or not there."""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import psutil
import pytest
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st
from pictures import SCRIPT, bars, colour, picture, pixels, write_png
from pictures import frames as frames_in
from pytest_mock import MockerFixture

from logist.errors import BrowserMissing, MergeFailed, RenderFailed, UsageProblem
from logist.render import notes, page_talk
from logist.render.browser import check_display, find_browser
from logist.render.capture import BeginFrames
from logist.render.encode import video_writer
from logist.render.encoders import settings_for
from logist.render.frame_queue import FrameQueue, StoppedError
from logist.render.frames import frames_of
from logist.render.merge import merge
from logist.render.options import AudioTrack, Mode, RenderOptions, Warmup
from logist.render.private_folder import private_folder
from logist.render.rendering import (
    contact_sheet,
    render_part,
    render_picture,
    render_sequence,
    render_video,
    sequence_name,
    spread,
)
from logist.render.sheet import Cell, sheet_page

COUNTER = f"""<!doctype html><body><script>{SCRIPT}
let n = 0;
requestAnimationFrame(function f() {{ show(n++); requestAnimationFrame(f) }});
</script>"""


def fails_at(number: int) -> str:
    return COUNTER.replace("show(n++)", f"if (n === {number}) throw new Error('no further'); show(n++)")


#: What is drawn at a time depends on how it was drawn before, if the browser is left to itself.
HISTORY = """<!doctype html><style>
html, body { margin: 0; height: 100%; background: linear-gradient(#123, #935); overflow: hidden; font: 13px sans-serif }
div { position: absolute; color: white }
@keyframes grow { from { transform: scale(.5) } to { transform: scale(4) } }
@keyframes shrink { from { transform: scale(4) } to { transform: scale(.5) } }
@keyframes slide { to { transform: translate(33.3px, 7.7px) } }
@keyframes spin { to { transform: rotate3d(1, 1, 0, 360deg) } }
@keyframes blur { to { filter: blur(4px) } }
#grow { left: 60px; top: 60px; will-change: transform; animation: grow 1s linear both }
#shrink { left: 200px; top: 60px; will-change: transform; animation: shrink 1s linear both }
#slide { left: 20px; top: 130px; animation: slide 1s linear both }
#spin { left: 250px; top: 120px; width: 40px; height: 30px; background: #fa0; animation: spin 1s linear both }
#blur { left: 10px; top: 10px; animation: blur 1s linear both }
#script { left: 120px; top: 130px; will-change: transform }
#layer { left: 220px; top: 5px; transform: translateZ(0) }
#scroll { left: 10px; top: 150px; height: 25px; width: 60px; overflow: hidden }
</style>
<div id=grow>Growing</div><div id=shrink>Shrinking</div><div id=slide>Sliding text here</div><div id=spin>3D</div>
<div id=blur>Blurred words</div><div id=script>Scripted</div><div id=layer>layer</div>
<div id=scroll><p>one<p>two<p>three<p>four</div>
<script>
  let n = 0;
  const at = (id) => document.getElementById(id);
  (function f() {
    n += 1;
    at("script").style.transform = `scale(${1 + Math.sin(n / 9) * 0.9}) rotate(${n * 3}deg)`;
    at("scroll").scrollTop = n * 0.7;
    if (n === 9) at("layer").style.willChange = "transform";
    if (n > 9) at("layer").style.transform = `translate(${-n * 0.37}px, ${n * 0.21}px) scale(${1 + (n - 9) / 9})`;
    if (n === 15) document.body.insertAdjacentHTML("beforeend",
      "<div style='left: 30px; top: 100px; will-change: transform; animation: grow 1s linear both'>late</div>");
    requestAnimationFrame(f);
  })();
</script>"""


@pytest.fixture
def own_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files that nobody else uses, and that is empty afterwards."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


def options(browser: str, count: int, **changes: object) -> RenderOptions:
    values: dict[str, object] = {"width": 160, "height": 90, "mode": Mode.DOM, "frame_count": count, **changes}
    return RenderOptions(**values, browser=browser)  # type: ignore[arg-type]


def write(folder: Path, content: str, name: str = "page.html") -> str:
    (folder / name).write_text(content, encoding="utf-8")
    return (folder / name).as_uri()


def made(url: str, chosen: RenderOptions) -> dict[int, bytes]:
    with frames_of(url, chosen, range(chosen.start_frame, chosen.end_frame)) as frames:
        return {frame.number: frame.png for frame in frames}


def numbers(pngs: dict[int, bytes]) -> dict[int, int]:
    """What frames show as bars."""
    return {frame: bars(picture(png)) for frame, png in pngs.items()}


def left_over(folder: Path) -> list[str]:
    """The processes that name a folder."""
    lines = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return [" ".join(words)[:200] for words in lines if any(str(folder) in word for word in words)]


# --- The queue -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 9), st.randoms())
def test_frames_come_once_and_in_order_from_any_number_of_makers(
    count: int, makers: int, block: int, chance: object
) -> None:
    numbers = [3 * place + 7 for place in range(count)]
    queue = FrameQueue(numbers, makers, block)

    def make() -> None:
        last = -1
        for places in queue.blocks():
            for place in places:
                assert place > last
                last = place
                queue.put(place, str(queue.number(place)).encode())
        queue.done()

    threads = [threading.Thread(target=make) for _ in range(makers)]
    for thread in threads:
        thread.start()
    frames = list(queue.frames())
    for thread in threads:
        thread.join()
    assert frames == [(number, str(number).encode()) for number in numbers]


def test_nobody_gets_far_ahead_of_what_is_taken() -> None:
    queue = FrameQueue(range(1000), makers=1, block=4)
    put: list[int] = []

    def make() -> None:
        with contextlib.suppress(StoppedError):
            for places in queue.blocks():
                for place in places:
                    queue.put(place, b"")
                    put.append(place)

    thread = threading.Thread(target=make)
    thread.start()
    frames = queue.frames()
    for taken in range(1, 101):
        next(frames)
        assert len(put) <= taken + 8
    queue.stop()
    thread.join()
    assert len(put) < 110


def test_the_first_error_is_what_the_taker_gets_and_the_others_are_stopped() -> None:
    queue = FrameQueue(range(10), makers=3, block=1)
    queue.put(0, b"0")
    frames = queue.frames()
    assert next(frames).png == b"0"
    queue.fail(RenderFailed("first", "hint"))
    queue.fail(RenderFailed("second", "hint"))
    with pytest.raises(StoppedError):
        queue.put(1, b"1")
    with pytest.raises(RenderFailed, match="first"):
        next(frames)


def test_an_error_after_the_last_frame_is_one_too() -> None:
    queue = FrameQueue(range(1), makers=1, block=1)
    queue.put(0, b"0")
    frames = queue.frames()
    next(frames)
    queue.fail(RenderFailed("at the very end", "hint"))
    with pytest.raises(RenderFailed, match="at the very end"):
        next(frames)


# --- Exactness -------------------------------------------------------------------------------------------------------


def test_frames_are_the_same_from_any_start_and_from_any_number_of_pages(browser_path: str, tmp_path: Path) -> None:
    url = write(tmp_path, HISTORY)
    size = {"width": 320, "height": 180}
    whole = made(url, options(browser_path, 30, **size))
    assert len(set(whole.values())) == 30
    assert made(url, options(browser_path, 30, **size)) == whole
    assert made(url, options(browser_path, 30, concurrency=2, **size)) == whole
    for start in (1, 8, 17, 29):
        part = made(url, options(browser_path, 30 - start, start_frame=start, **size))
        assert part == {number: png for number, png in whole.items() if number >= start}


#: Drawn on one layer until frame 5, when there is another one that is small and grows.
LATE_LAYER = """<!doctype html><style>body { margin: 0; overflow: hidden }
p { position: absolute; left: 150px; top: 80px; font: 13px sans-serif }</style><h1>Title</h1><script>
let n = 0, late;
requestAnimationFrame(function f() {
  n += 1;
  document.querySelector("h1").style.transform = `translate(${n * 1.3}px, ${n * 0.7}px) scale(${1 + n / 30})`;
  if (n === 5) late = document.body.appendChild(document.createElement("p"));
  if (late) Object.assign(late, { textContent: "Growing" });
  if (late) Object.assign(late.style, { willChange: "transform", transform: `scale(${n / 8})` });
  requestAnimationFrame(f);
});
</script>"""
#: Counts what the page hears of frames when they are drawn.
HEARING = """<!doctype html><style>body { margin: 0; height: 900px }
h1 { position: absolute } .far { margin-top: 400px; content-visibility: auto }</style>
<h1></h1><div class=far>far</div><script>
let heard = 0, n = 0;
addEventListener("scroll", () => { heard += 1; });
document.querySelector(".far").addEventListener("contentvisibilityautostatechange", () => { heard += 100; });
requestAnimationFrame(function f() {
  n += 1;
  if (n % 3 === 0) scrollTo(0, n * 9);
  document.querySelector("h1").style.top = `${scrollY}px`;
  document.querySelector("h1").textContent = `${heard} of ${n}`;
  requestAnimationFrame(f);
});
</script>"""
VIEW_TRANSITION = """<!doctype html><style>body { margin: 0 } p { font: 40px sans-serif }</style><p>one</p><script>
let n = 0;
requestAnimationFrame(function f() {
  n += 1;
  document.body.style.background = `rgb(${n * 5} 90 90)`;
  if (n === 4) document.startViewTransition(() => { document.querySelector("p").textContent = "two"; });
  requestAnimationFrame(f);
});
</script>"""


@pytest.mark.parametrize("page", [LATE_LAYER, VIEW_TRANSITION], ids=["a late layer", "a view transition"])
def test_a_chunk_shows_what_the_whole_shows_though_replayed_frames_are_not_drawn(
    browser_path: str, tmp_path: Path, page: str
) -> None:
    shows_the_same_in_chunks(browser_path, tmp_path, page)


def test_a_page_that_hears_of_frames_shows_the_same_in_chunks_where_none_is_given_it_for_being_slow(
    browser_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_talk, "_NUDGE_AFTER", 10.0)
    shows_the_same_in_chunks(browser_path, tmp_path, HEARING)


@pytest.mark.xfail(reason="a page that is slow to answer is given frames meanwhile, and hears of them", strict=False)
def test_a_page_that_hears_of_frames_shows_the_same_in_chunks_however_busy_the_machine_is(
    browser_path: str, tmp_path: Path
) -> None:
    shows_the_same_in_chunks(browser_path, tmp_path, HEARING)


def shows_the_same_in_chunks(browser_path: str, tmp_path: Path, page: str) -> None:
    """Whatever its frames, a page shows them in chunks and on several pages as in the whole."""
    url = write(tmp_path, page)
    size = {"width": 320, "height": 180}
    whole = made(url, options(browser_path, 24, **size))
    assert len(set(whole.values())) > 6
    for start in (3, 12, 20):
        part = made(url, options(browser_path, 24 - start, start_frame=start, **size))
        assert [number for number in part if part[number] != whole[number]] == []
    assert made(url, options(browser_path, 24, concurrency=3, **size)) == whole


@pytest.mark.parametrize(("page", "drawn"), [(HEARING, 0), (HISTORY, 12)], ids=["one layer", "several"])
def test_a_replay_is_drawn_only_where_the_page_is_on_several_layers(
    browser_path: str, tmp_path: Path, mocker: MockerFixture, page: str, drawn: int
) -> None:
    shown = mocker.spy(BeginFrames, "show")
    made(write(tmp_path, page), options(browser_path, 1, start_frame=12))
    assert shown.call_count == drawn


#: Draws a number that depends on what the page was told in each of its frames until then, by the browser among others.
TOLD = f"""<!doctype html><style>
body {{ margin: 0; height: 900px }}
#box {{ position: absolute; width: 10px; height: 10px; left: 0; top: 0 }}
.on {{ left: 90px !important; transition: left 120ms }}
@keyframes go {{ to {{ left: 99px }} }} .off {{ animation: go 100ms 2 }}
#outer {{ container-type: inline-size }} @container (width > 30px) {{ #inner {{ opacity: 0.2 }} }}
#inner {{ transition: opacity 90ms; height: 5px }}
</style><canvas width=160 height=90></canvas><div id=box></div><div id=outer><p id=inner></div>
<script>{SCRIPT}
const g = document.querySelector("canvas").getContext("2d");
let heard = 0, n = 0, sum = 0;
const hear = () => {{ heard += 1 }};
BEFORE;
requestAnimationFrame(function f() {{
  n += 1;
  EACH;
  paint(g, (sum = (3 * sum + heard) % 251));
  requestAnimationFrame(f);
}});
</script>"""
#: What is done at first, and in each frame.
TELLING = {
    "scroll": ("addEventListener('scroll', hear)", "if (n % 3 === 0) scrollTo(0, n)"),
    "a scroll that is cut short": (
        "document.body.style.height = '900px'; scrollTo(0, 700)",
        "document.body.style.height = n % 6 === 4 ? '300px' : '900px'; if (n % 6 === 0) heard += scrollY",
    ),
    "a size": ("new ResizeObserver(hear).observe(box)", "if (n % 3 === 0) box.style.width = `${n}px`"),
    "a place": (
        "new IntersectionObserver(hear).observe(box)",
        "if (n % 3 === 0) box.style.left = n % 2 ? '-50px' : '20px'",
    ),
    "a transition": (
        "box.addEventListener('transitionend', hear)",
        "if (n % 6 === 0) box.classList.toggle('on'); heard += box.offsetLeft > 40",
    ),
    "an animation that gets ready": ("", "if (n % 5 === 0) box.animate({ opacity: 0 }, 99).ready.then(hear)"),
    "an animation of a scroll": (
        "const timeline = new ScrollTimeline(); box.animate({ left: ['0px', '99px'] }, { timeline })",
        "if (n % 4 === 0) scrollTo(0, 9 * n); heard += box.offsetLeft",
    ),
    "a module": ("", "if (n === 5) import('./module.js').then((module) => (heard += module.number))"),
    "a document": (
        "addEventListener('message', hear)",
        "if (n === 5) document.body.insertAdjacentHTML('beforeend', '<iframe src=inner.html></iframe>')",
    ),
    "a document that goes again": (
        "addEventListener('message', hear)",
        "if (n === 5) document.body.insertAdjacentHTML('beforeend', '<iframe src=inner.html></iframe>');"
        "if (n === 12) document.querySelector('iframe').remove()",
    ),
    "a clock and a message": ("onmessage = hear; setInterval(() => postMessage(1), 50)", ""),
    "bytes": ("", "if (n % 4 === 0) new Blob(['7']).text().then((text) => (heard += Number(text)))"),
}


@pytest.mark.parametrize("telling", TELLING)
def test_a_canvas_shows_what_the_whole_shows_though_frames_are_replayed_without_the_browser(
    browser_path: str, tmp_path: Path, telling: str
) -> None:
    write(tmp_path, "export const number = 7", "module.js")
    inner = "requestAnimationFrame(function f() { parent.postMessage(1); requestAnimationFrame(f) })"
    write(tmp_path, f"<!doctype html><script>{inner}</script>", "inner.html")
    before, each = TELLING[telling]
    url = write(tmp_path, TOLD.replace("BEFORE", before).replace("EACH", each))
    whole = numbers(made(url, options(browser_path, 24, mode=Mode.CANVAS)))
    assert len(set(whole.values())) > 4
    part = numbers(made(url, options(browser_path, 4, mode=Mode.CANVAS, start_frame=20)))
    assert part == {frame: number for frame, number in whole.items() if frame >= 20}
    if telling in ("scroll", "a size"):
        assert numbers(made(url, options(browser_path, 24, mode=Mode.CANVAS, concurrency=2))) == whole


def test_a_canvas_is_replayed_in_one_go_where_the_browser_has_no_part_in_it(
    browser_path: str, tmp_path: Path, mocker: MockerFixture
) -> None:
    passed = mocker.spy(BeginFrames, "pass_by")
    url = write(tmp_path, TOLD.replace("BEFORE", "").replace("EACH", "heard = n - 3 * sum"))
    chosen = options(browser_path, 2, mode=Mode.CANVAS, start_frame=60)
    assert numbers(made(url, chosen)) == {60: 61, 61: 62}
    assert passed.call_count < 20


@pytest.mark.parametrize(
    "part",
    [
        "box.animate({ opacity: [0, 1] }, { duration: 99, iterations: Infinity })",
        "new ResizeObserver(hear).observe(box)",
    ],
)
def test_the_browser_has_a_frame_for_each_that_is_replayed_where_it_has_a_part_in_them(
    browser_path: str, tmp_path: Path, mocker: MockerFixture, part: str
) -> None:
    passed = mocker.spy(BeginFrames, "pass_by")
    url = write(tmp_path, TOLD.replace("BEFORE", part).replace("EACH", "heard = n - 3 * sum"))
    assert numbers(made(url, options(browser_path, 2, mode=Mode.CANVAS, start_frame=60))) == {60: 61, 61: 62}
    assert passed.call_count >= 60


def test_a_frame_that_hangs_in_the_middle_of_a_replay_is_told_in_time(browser_path: str, tmp_path: Path) -> None:
    url = write(tmp_path, TOLD.replace("BEFORE", "").replace("EACH", "while (n === 40) ;"))
    chosen = options(browser_path, 1, mode=Mode.CANVAS, start_frame=60, timeout=Fraction(2))
    with pytest.raises(RenderFailed, match=r"frame \d+ did not come within 2 s"):
        made(url, chosen)
    url = write(tmp_path, TOLD.replace("BEFORE", "").replace("EACH", "if (n === 41) throw new Error('no further')"))
    with pytest.raises(RenderFailed, match="the page threw: Error: no further"):
        made(url, options(browser_path, 1, mode=Mode.CANVAS, start_frame=60))


def test_blocks_of_frames_are_made_by_several_pages_at_once(browser_path: str, tmp_path: Path) -> None:
    url = write(tmp_path, COUNTER)
    chosen = options(browser_path, 40, concurrency=3, start_frame=5)
    with frames_of(url, chosen, range(5, 45)) as frames:
        assert [(frame.number, bars(picture(frame.png))) for frame in frames] == [(n, n) for n in range(5, 45)]
        seen = frames.statistics()
    assert (seen.frames, seen.pages) == (40, 3)
    assert "Chrome/" in seen.browser
    assert 0 < seen.first_frame <= seen.total
    with frames_of(url, options(browser_path, 1, concurrency=3), range(1)) as frames:
        assert len(list(frames)) == frames.statistics().pages == 1


def bound_to() -> set[tuple[int, ...]]:
    """The processors of each process of a browser that runs."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "chrom" in process.name():
                found.add(tuple(process.cpu_affinity()))
    return found


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to processors")
def test_each_page_has_a_processor_of_its_own_where_there_is_a_page_for_each(browser_path: str, tmp_path: Path) -> None:
    url, usable = write(tmp_path, COUNTER), os.sched_getaffinity(0)
    for pages in {1, len(usable)}:
        bound: set[tuple[int, ...]] = set()
        expected = {(number,) for number in usable} if pages == len(usable) else {tuple(sorted(usable))}
        with frames_of(url, options(browser_path, 1000, concurrency=pages), range(1000)) as frames:
            for _ in frames:
                bound |= bound_to()
                if bound >= expected:
                    break
        assert bound == expected
    assert os.sched_getaffinity(0) == usable


def test_only_some_frames_can_be_asked_for(browser_path: str, tmp_path: Path) -> None:
    with frames_of(write(tmp_path, COUNTER), options(browser_path, 100), [3, 4, 50, 99]) as frames:
        assert [bars(picture(frame.png)) for frame in frames] == [3, 4, 50, 99]


def test_the_time_of_a_frame_is_exact_at_a_rate_of_television(browser_path: str, tmp_path: Path) -> None:
    script = "requestAnimationFrame(function f(ms) { show(Math.floor(ms * 30 / 1001)); requestAnimationFrame(f) })"
    url = write(tmp_path, f"<!doctype html><body><script>{SCRIPT}\n{script}</script>")
    chosen = options(browser_path, 4, fps=Fraction(30000, 1001), start_frame=1111)
    assert [bars(picture(png)) for png in made(url, chosen).values()] == [1111, 1112, 1113, 1114]


# --- What is made of them --------------------------------------------------------------------------------------------


def test_a_video_shows_each_frame_and_progress_is_told(browser_path: str, tmp_path: Path, own_temp: Path) -> None:
    told: list[tuple[int, int]] = []
    output = tmp_path / "out.mp4"
    rendered = render_video(
        write(tmp_path, COUNTER),
        output,
        options(browser_path, 20, concurrency=2),
        lambda *how_far: told.append(how_far),
    )
    assert [bars(frame) for frame in frames_in(output)] == list(range(20))
    assert told == [(done, 20) for done in range(1, 21)]
    assert (rendered.output, rendered.frames, rendered.statistics.pages) == (output, 20, 2)
    assert rendered.merged is not None
    assert (rendered.merged.frames, rendered.merged.fps) == (20, 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "page.html", "temp"]


def test_a_video_is_the_same_however_many_pages_make_it(browser_path: str, tmp_path: Path) -> None:
    url = write(tmp_path, HISTORY)
    contents = set()
    for pages in (1, 2, 3):
        render_video(url, tmp_path / "out.mp4", options(browser_path, 24, concurrency=pages))
        contents.add((tmp_path / "out.mp4").read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize(
    ("codec", "suffix"), [("qtrle", ".mov"), ("png", ".mov"), ("mjpeg", ".mp4"), ("DNxHD", ".mov")]
)
def test_frames_and_colours_are_right_in_codecs_that_few_ask_for(
    browser_path: str, tmp_path: Path, own_temp: Path, codec: str, suffix: str
) -> None:
    url = write(tmp_path, COUNTER + "<style>body { background: rgb(200, 40, 90) }</style>")
    chosen = options(browser_path, 3, video_codec=codec, width=256, height=128)
    render_video(url, tmp_path / f"out{suffix}", chosen)
    shown = list(frames_in(tmp_path / f"out{suffix}"))
    assert [bars(frame) for frame in shown] == [0, 1, 2]
    for frame in shown:
        assert colour(frame, 128, 20) == pytest.approx((200, 40, 90), abs=8)


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4", "mpeg2video"])
def test_an_encoder_that_knows_no_quality_does_not_spoil_the_frames(tmp_path: Path, codec: str) -> None:
    """By themselves these keep to a bit rate, whatever is shown."""
    side, block, chance = 256, 8, random.Random(1)
    drawn = []
    for number in range(3):
        frame = VideoFrame(side, side, "rgb24")
        rows = [b"".join(chance.randbytes(3) * block for _ in range(side // block)) for _ in range(side // block)]
        frame.planes[0].update(b"".join(row.ljust(frame.planes[0].line_size, b"\0") * block for row in rows))
        drawn.append(write_png(tmp_path / f"{number}.png", frame))
    output = tmp_path / "out.mkv"
    asked = RenderOptions(side, side, frame_count=3, video_codec=codec)
    with video_writer(output, settings_for(output, asked, part=True)) as writer:
        for path in drawn:
            writer.add(path.read_bytes())
    for path, seen in zip(drawn, frames_in(output), strict=True):
        differences = map(abs, map(operator.sub, pixels(picture(path.read_bytes())), pixels(seen)))
        assert sum(differences) / side**2 / 3 < 4


def test_an_output_that_is_a_link_stays_one(browser_path: str, tmp_path: Path) -> None:
    url, place = write(tmp_path, COUNTER), tmp_path / "place"
    place.mkdir()
    links = {name: tmp_path / name for name in ("video.mp4", "merged.mp4", "picture.png", "1.png")}
    for name, link in links.items():
        link.symlink_to(f"place/{name}")
    (place / "video.mp4").write_bytes(b"before")
    render_video(url, links["video.mp4"], options(browser_path, 3))
    merge(links["merged.mp4"], [links["video.mp4"]])
    render_picture(url, links["picture.png"], options(browser_path, 1))
    render_sequence(url, tmp_path / "%d.png", options(browser_path, 2))
    assert all(link.is_symlink() for link in links.values())
    assert sorted(path.name for path in place.iterdir()) == sorted(links)
    assert [bars(frame) for frame in frames_in(place / "merged.mp4")] == [0, 1, 2]
    assert bars(picture((place / "1.png").read_bytes())) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*links, "0.png", "page.html", "place"])


def test_a_part_says_which_frames_it_holds_and_what_is_heard(browser_path: str, tmp_path: Path) -> None:
    sound = "<audio src='sound.wav' data-helios-offset=0.5 volume=0.5></audio>"
    url = write(tmp_path, COUNTER + sound)
    (tmp_path / "sound.wav").write_bytes(b"")
    (tmp_path / "parts").mkdir()
    said = []
    for start, pages in ((0, 1), (10, 1), (10, 2)):
        part = tmp_path / "parts" / f"{start}-{pages}.mov"
        rendered = render_part(url, part, options(browser_path, 10, start_frame=start, concurrency=pages))
        assert rendered.merged is None
        assert [bars(frame) for frame in frames_in(part)] == list(range(start, start + 10))
        note = notes.part_of(part)
        assert note is not None
        said.append(note)
        assert (note.start_frame, note.frame_count, note.fps) == (start, 10, 30)
        assert note.tracks == (AudioTrack("../sound.wav", offset=Fraction(1, 2)),)
    assert len({note.render for note in said}) == 1
    part = tmp_path / "parts" / "other.mov"
    render_part(url, part, options(browser_path, 10, seed=1))
    other = notes.part_of(part)
    assert other is not None
    assert other.render != said[0].render


def test_a_sound_that_only_its_page_has_is_told_before_the_first_frame(browser_path: str, tmp_path: Path) -> None:
    script = "<script>document.body.append(new Audio(URL.createObjectURL(new Blob(['x']))))</script>"
    url = write(tmp_path, COUNTER + script)
    shown: list[int] = []
    with pytest.raises(RenderFailed, match="can't be heard: its sound blob:") as caught:
        render_video(url, tmp_path / "film.mp4", options(browser_path, 9), lambda done, _: shown.append(done))
    assert "--audio-codec none" in caught.value.hint
    assert not any(shown)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    silent = render_video(url, tmp_path / "film.mp4", options(browser_path, 9, audio_codec="none"))
    assert silent.statistics.frames == 9


def test_a_merge_misses_the_last_part_of_a_spec(browser_path: str, tmp_path: Path) -> None:
    url = write(tmp_path, COUNTER)
    part = tmp_path / "part.mov"
    render_part(url, part, options(browser_path, 5), whole=notes.Whole(0, 9))
    with pytest.raises(MergeFailed, match="5 to 8"):
        merge(tmp_path / "film.mp4", [part])


def test_the_sounds_are_those_that_the_last_frame_knows_of(browser_path: str, tmp_path: Path) -> None:
    (tmp_path / "sound.wav").write_bytes(b"")
    script = """const sound = new Audio("sound.wav");
        let n = 0;
        requestAnimationFrame(function f() {
          if (n === 3) sound.play();
          if (n === 27) sound.pause();
          n += 1;
          requestAnimationFrame(f);
        });"""
    url = write(tmp_path, f"<body><script>{script}</script>")
    for start, pages in ((0, 1), (10, 2), (10, 3)):
        with frames_of(url, options(browser_path, 30, concurrency=pages), range(start, 30)) as frames:
            assert len(list(frames)) == 30 - start
            [track] = frames.statistics().tracks
        assert (track.source, track.offset) == ((tmp_path / "sound.wav").as_uri(), Fraction("0.1"))
        assert track.duration is not None
        assert round(track.duration, 6) == Fraction("0.8")


def test_a_sequence_has_a_picture_for_each_frame(browser_path: str, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    url = write(tmp_path, COUNTER)
    chosen = options(browser_path, 6, start_frame=8, mode=Mode.DOM, pixel_format="rgba")
    rendered = render_sequence(url, folder / "f-%03d.png", chosen)
    assert rendered.frames == 6
    names = [f"f-{number:03d}.png" for number in range(8, 14)]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert [bars(picture((folder / name).read_bytes())) for name in names] == list(range(8, 14))


def test_a_single_frame_is_a_picture(browser_path: str, tmp_path: Path) -> None:
    rendered = render_picture(write(tmp_path, COUNTER), tmp_path / "x.png", options(browser_path, 1, start_frame=77))
    assert (rendered.frames, bars(picture((tmp_path / "x.png").read_bytes()))) == (1, 77)


def test_a_contact_sheet_shows_frames_from_the_first_to_the_last(
    browser_path: str, tmp_path: Path, own_temp: Path
) -> None:
    colours = ["#f00", "#0f0", "#00f", "#ff0"]
    script = f"const c = {colours}; requestAnimationFrame(function f(ms) {{ " + (
        "document.body.style.background = c[Math.round(ms * 30 / 1000)]; requestAnimationFrame(f) })"
    )
    url = write(tmp_path, f"<!doctype html><body><script>{script}</script>")
    chosen = options(browser_path, 4, width=100, height=50, concurrency=2)
    assert contact_sheet(url, tmp_path / "sheet.png", chosen, 9).frames == 4
    sheet = picture((tmp_path / "sheet.png").read_bytes())
    _page, width, height = sheet_page([Cell("0.png", 0, Fraction(0))] * 4, 100, 50)
    assert (sheet.width, sheet.height) == (width, height)
    middles = [(left, top) for top in (height // 4 - 8, 3 * height // 4 - 8) for left in (width // 4, 3 * width // 4)]
    assert [colour(sheet, *middle) for middle in middles] == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(1, 50))
def test_frames_are_spread_evenly_from_the_first_to_the_last(start: int, count: int, pictures: int) -> None:
    numbers = spread(start, count, pictures)
    assert len(numbers) == min(count, pictures)
    assert numbers[0] == start
    assert len(numbers) == 1 or numbers[-1] == start + count - 1
    steps = {after - before for before, after in itertools.pairwise(numbers)}
    assert not steps or (min(steps) > 0 and max(steps) - min(steps) <= 1)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("f-%d.png", "f-7.png"),
        ("%04d.png", "0007.png"),
        ("100%%-%02d.png", "100%-07.png"),
        ("a/%d/b-%d.png", "b-7.png"),
    ],
)
def test_the_name_of_a_frame_has_its_number(pattern: str, name: str) -> None:
    assert sequence_name(Path(pattern), 7) == Path(pattern).with_name(name)


@pytest.mark.parametrize("pattern", ["f.png", "%d-%d.png", "%s.png", "%d%.png", "%f-%d.png"])
def test_a_name_without_one_place_for_the_number_is_refused(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="no place for the frame's number"):
        render_sequence("about:blank", tmp_path / pattern, options("none", 1))


@pytest.mark.parametrize("render", [render_video, render_part, render_picture, render_sequence])
def test_what_can_not_be_made_is_refused_before_a_browser_is_looked_for(
    render: object, tmp_path: Path, own_temp: Path
) -> None:
    assert callable(render)
    with pytest.raises(UsageProblem):
        render("about:blank", tmp_path / "x.txt", options("/no/browser", 1))
    with pytest.raises(UsageProblem, match="is not there"):
        render("about:blank", tmp_path / "none" / "x.mp4", options("/no/browser", 1))


def test_a_picture_is_no_video_to_ask_other_pixels_of(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="pixel format yuv420p"):
        render_picture("about:blank", tmp_path / "x.png", options("/no/browser", 1, pixel_format="yuv420p"))


# --- When it ends before its time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pages", [1, 3])
def test_a_page_that_fails_ends_all_of_it_and_leaves_what_was_there(
    browser_path: str, tmp_path: Path, own_temp: Path, pages: int
) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"before")
    with pytest.raises(RenderFailed, match="no further"):
        render_video(write(tmp_path, fails_at(21)), output, options(browser_path, 1000, concurrency=pages))
    assert output.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "page.html", "temp"]
    assert not left_over(own_temp)


def test_a_browser_that_was_killed_is_not_told_to_be_none(tmp_path: Path) -> None:
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\nkill -KILL $$\n")
    program.chmod(0o755)
    with pytest.raises(BrowserMissing, match="was killed by signal 9"):
        _ = find_browser(str(program), {}).version


def test_a_window_needs_a_display() -> None:
    with pytest.raises(UsageProblem, match="no display") as caught:
        check_display({"DISPLAY": ""})
    assert "DISPLAY or WAYLAND_DISPLAY" in caught.value.hint
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        check_display({name: ":0"})


def test_without_a_browser_nothing_is_left_either(tmp_path: Path, own_temp: Path) -> None:
    with pytest.raises(BrowserMissing):
        render_video("about:blank", tmp_path / "out.mp4", options(str(tmp_path / "none"), 10))
    assert [path.name for path in tmp_path.iterdir()] == ["temp"]


def test_whoever_takes_frames_may_stop_at_any_time(browser_path: str, tmp_path: Path, own_temp: Path) -> None:
    chosen = options(browser_path, 1_000_000, concurrency=2)
    with frames_of(write(tmp_path, COUNTER), chosen, range(1_000_000)) as frames:
        for frame in frames:
            if frame.number == 5:
                break
    assert not left_over(own_temp)


_RENDERED = """
import resource, sys
from pathlib import Path
from logist.render.options import Mode, RenderOptions
from logist.render.rendering import render_sequence, render_video

def tell(done, total):
    print(done, flush=True)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))

browser, url, output, limit = sys.argv[1:]
options = RenderOptions(320, 180, mode=Mode.DOM, frame_count=1_000_000, concurrency=2, browser=browser)
(render_sequence if output.endswith(".png") else render_video)(url, Path(output), options, tell)
"""


@pytest.mark.parametrize("name", ["out.mp4", "f-%d.png"])
def test_a_disk_that_takes_no_more_is_told_and_nothing_is_half_written(
    browser_path: str, tmp_path: Path, own_temp: Path, name: str
) -> None:
    # From the first frame on no file may be longer: the system refuses what is behind that as it does on a full disk.
    noise = """<!doctype html><canvas width=320 height=180></canvas><script>
        const context = document.querySelector("canvas").getContext("2d"), pixels = context.createImageData(320, 180);
        requestAnimationFrame(function f() {
          for (let at = 0; at < pixels.data.length; at += 1) pixels.data[at] = at % 4 === 3 ? 255 : Math.random() * 256;
          context.putImageData(pixels, 0, 0);
          requestAnimationFrame(f);
        })</script>"""
    line = [sys.executable, "-c", _RENDERED, browser_path, write(tmp_path, noise), str(tmp_path / name), "500"]
    done = subprocess.run(line, capture_output=True, text=True, env=_environment(own_temp), check=False)
    assert "logist.errors.StorageFailed: could not write" in done.stderr
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == (["page.html", "temp"] if name == "out.mp4" else ["f-0.png", "page.html", "temp"])
    assert not left_over(own_temp)


def _environment(temp: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(temp)}


def test_ctrl_c_ends_all_of_it_and_leaves_nothing(browser_path: str, tmp_path: Path, own_temp: Path) -> None:
    output = tmp_path / "out.mp4"
    line = [sys.executable, "-c", _RENDERED, browser_path, write(tmp_path, COUNTER), str(output), ""]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(own_temp), start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert said.rstrip().endswith(b"KeyboardInterrupt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "temp"]
    assert not left_over(own_temp)


def test_what_a_killed_run_left_beside_the_output_the_next_one_removes(tmp_path: Path) -> None:
    abandoned = tmp_path / "mine-abandon_"
    abandoned.mkdir()
    (abandoned / "part.mov").write_bytes(b"x")
    of_the_user = tmp_path / "mine-of-the-user"
    of_the_user.mkdir()
    (tmp_path / "mine-file").write_bytes(b"x")
    with private_folder(tmp_path, "mine-") as first, private_folder(tmp_path, "mine-") as second:
        assert sorted(tmp_path.iterdir()) == sorted([first, second, tmp_path / "mine-file", of_the_user])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine-file", "mine-of-the-user"]


def test_the_warm_up_is_what_makes_a_counting_page_right(browser_path: str, tmp_path: Path) -> None:
    url = write(tmp_path, COUNTER)
    assert bars(picture(made(url, options(browser_path, 1, start_frame=9))[9])) == 9
    assert bars(picture(made(url, options(browser_path, 1, start_frame=9, warmup=Warmup.NONE))[9])) == 0
