"""How fast frames are made: against encoding alone, and against one `Page.captureScreenshot` a frame by Playwright.

The floor encodes the same frames, already in memory, with the same settings: a whole render is told beside it.
Playwright drives the same browser, and its page is moved by the same contract; nothing is encoded there, so that its
pictures are held against ours before they are encoded. One page, with its browser's threads, keeps more than one
processor busy, so that two pages are judged twice: on two processors against one page on one of them, and, where the
machine has processors for all that two pages can use, against one page that may use as many as it likes. Each of the
two replays the frames that the other makes; what they gain without that (`--warmup none`) is told too.

Run: .venv/bin/python benchmarks/render.py [ROUNDS] [FRAMES]; it needs Playwright: pip install playwright
"""

from __future__ import annotations

import base64
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from measure import Timed, interleaved, report

from logist.render.browser import find_browser
from logist.render.contract import contract_script
from logist.render.encode import video_writer
from logist.render.encoders import settings_for
from logist.render.frames import frames_of
from logist.render.options import Mode, RenderOptions, Warmup
from logist.render.rendering import render_part

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: A frame of Playwright's takes so long that fewer of them are measured.
SCREENSHOTS = 30
#: Processors that one page, its encoder and a second page can keep busy.
PROCESSORS_FOR_TWO = 4
TWO_PAGES = 1 / 1.6
NOT_JUDGED = float("inf")

PAGE = """<!doctype html><meta charset="utf-8"><style>
html, body { margin: 0; height: 100%; background: linear-gradient(#1b2735, #090a0f); overflow: hidden }
h1 { position: absolute; left: 5vw; top: 8vh; margin: 0; font: 9vh sans-serif; color: #f2efe9 }
canvas, .dot { position: absolute } canvas { inset: 0 }
.dot { width: 6vh; height: 6vh; border-radius: 50%; background: #e8a33d }
</style>"""
DOM = """<h1></h1><script>
const title = document.querySelector("h1");
const dots = Array.from({ length: 24 }, () => Object.assign(document.createElement("div"), { className: "dot" }));
document.body.append(...dots);
requestAnimationFrame(function draw(ms) {
  title.textContent = `Frame ${Math.round(ms * 30 / 1000)}`;
  dots.forEach((dot, n) => {
    const [x, y] = [50 + 40 * Math.cos(ms / 700 + n), 50 + 40 * Math.sin(ms / 900 + 2 * n)];
    dot.style.transform = `translate(${x}vw, ${y}vh)`;
  });
  requestAnimationFrame(draw);
});
</script>"""
CANVAS = """<canvas></canvas><script>
const canvas = document.querySelector("canvas"), context = canvas.getContext("2d");
[canvas.width, canvas.height] = [innerWidth, innerHeight];
requestAnimationFrame(function draw(ms) {
  const { width, height } = canvas;
  context.fillStyle = "#1b2735";
  context.fillRect(0, 0, width, height);
  for (let n = 0; n < 24; n += 1) {
    context.fillStyle = `hsl(${15 * n} 70% 60%)`;
    context.beginPath();
    context.arc(width * (0.5 + 0.4 * Math.cos(ms / 700 + n)), height * (0.5 + 0.4 * Math.sin(ms / 900 + 2 * n)),
      height / 20, 0, 7);
    context.fill();
  }
  context.fillStyle = "#f2efe9";
  context.font = `${height / 10}px sans-serif`;
  context.fillText(`Frame ${Math.round(ms * 30 / 1000)}`, width / 20, height / 6);
  requestAnimationFrame(draw);
});
</script>"""


class Case(NamedTuple):
    """What is rendered, and the part of Playwright's time that it may take."""

    mode: Mode
    width: int
    height: int
    allowed: float

    @property
    def name(self) -> str:
        return f"{self.mode}, {self.width}x{self.height}"


CASES = (
    Case(Mode.DOM, 640, 360, 1 / 3),
    Case(Mode.DOM, 1280, 720, 1 / 2),
    Case(Mode.CANVAS, 640, 360, 1 / 2),
    Case(Mode.CANVAS, 1280, 720, 1 / 2),
)


class Bench:
    """Everything about one case that can be timed, each as seconds for one frame."""

    def __init__(self, case: Case, folder: Path, frames: int, playwright: Browser) -> None:
        self.options = RenderOptions(case.width, case.height, mode=case.mode, frame_count=frames)
        self.folder = folder
        self.playwright = playwright
        self.starts: dict[str, list[float]] = {"logist": [], "playwright": []}
        page = folder / f"{case.mode}.html"
        page.write_text(PAGE + (DOM if case.mode is Mode.DOM else CANVAS), encoding="utf-8")
        self.url = page.as_uri()
        with frames_of(self.url, self.options, range(frames)) as made:
            self.pictures = [frame.png for frame in made]

    def capture(self, pages: int, warmup: Warmup = Warmup.REPLAY, processors: int | None = None) -> Timed:
        """Making pictures, from the first to the last, on so many of the machine's processors."""

        def timed() -> float:
            options = replace(self.options, concurrency=pages, warmup=warmup)
            with on_processors(processors), frames_of(self.url, options, range(options.frame_count)) as frames:
                for _ in frames:
                    pass
                seen = frames.statistics()
            self.starts["logist"].append(seen.first_frame)
            return (seen.total - seen.first_frame) / (seen.frames - 1)

        return timed

    def render(self) -> float:
        """Making pictures and encoding them meanwhile."""
        seen = render_part(self.url, self.folder / "part.mov", self.options).statistics
        return (seen.total - seen.first_frame) / (seen.frames - 1)

    def encode(self) -> float:
        """The floor."""
        part = self.folder / "floor.mov"
        settings = settings_for(part, self.options, part=True)
        began = time.perf_counter()
        with video_writer(part, settings) as writer:
            for picture in self.pictures:
                writer.add(picture)
        return (time.perf_counter() - began) / len(self.pictures)

    def screenshots(self) -> float:
        """What Playwright's users do."""
        began = time.perf_counter()
        size = {"width": self.options.width, "height": self.options.height}
        page = self.playwright.new_page(viewport=size, device_scale_factor=1)
        page.add_init_script(contract_script(self.options))
        page.goto(self.url)
        page.evaluate("__LOGIST_PAGE__.ready(30000)")
        session = page.context.new_cdp_session(page)
        for number in range(SCREENSHOTS + 1):
            page.evaluate(f"__LOGIST_PAGE__.step({number}, {number * 1000 / 30}, true)")
            base64.b64decode(session.send("Page.captureScreenshot", {"format": "png"})["data"])
            if number == 0:
                first = time.perf_counter()
                self.starts["playwright"].append(first - began)
        seconds = (time.perf_counter() - first) / SCREENSHOTS
        page.close()
        return seconds

    def things(self) -> dict[str, Timed]:
        return {
            "one page": self.capture(1),
            "two pages": self.capture(2),
            "one page on one processor": self.capture(1, processors=1),
            "two pages on two": self.capture(2, processors=2),
            "two without replay": self.capture(2, Warmup.NONE),
            "Playwright": self.screenshots,
            "rendering": self.render,
            "encoding": self.encode,
        }


@contextmanager
def on_processors(count: int | None) -> Iterator[None]:
    """Let this program and what it starts use the first `count` processors only; None: all."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def measured(case: Case, folder: Path, rounds: int, frames: int, playwright: Browser) -> bool:
    bench = Bench(case, folder, frames, playwright)
    seconds = interleaved(bench.things(), rounds, warmup=1)
    speeds = ", ".join(f"{name} {1 / each:.0f}" for name, each in seconds.items())
    judged = (os.cpu_count() or 1) >= PROCESSORS_FOR_TWO
    fine = report(
        f"{case.name}: seconds for a frame ({speeds} frames a second)",
        [
            ("one page, against Playwright", seconds["one page"], seconds["Playwright"], case.allowed),
            ("two pages, against one", seconds["two pages"], seconds["one page"], TWO_PAGES if judged else NOT_JUDGED),
            (
                "two pages on two processors, against one on one",
                seconds["two pages on two"],
                seconds["one page on one processor"],
                TWO_PAGES if (os.cpu_count() or 1) > 1 else NOT_JUDGED,
            ),
            ("two pages without replay, against one", seconds["two without replay"], seconds["one page"], NOT_JUDGED),
            ("rendering, against encoding alone", seconds["rendering"], seconds["encoding"], NOT_JUDGED),
        ],
    )
    starts = {name: statistics.median(values) for name, values in bench.starts.items()}
    print(f"  to the first frame: {starts['logist']:.2f} s, with the start of the browser;", end=" ")
    print(f"Playwright, its browser running: {starts['playwright']:.2f} s")
    return fine


@contextmanager
def driven_browser() -> Iterator[Browser]:
    """The same browser, driven by Playwright."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise SystemExit("Playwright, against which this measures, is not installed: pip install playwright") from None
    arguments: dict[str, Any] = {"executable_path": find_browser(None, os.environ).path}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(args=["--allow-file-access-from-files"], **arguments)
        yield browser
        browser.close()


def main(rounds: int, frames: int) -> bool:
    fine = True
    with tempfile.TemporaryDirectory() as name, driven_browser() as playwright:
        for case in CASES:
            fine &= measured(case, Path(name), rounds, frames, playwright)
    if (os.cpu_count() or 1) < PROCESSORS_FOR_TWO:
        print(f"\nFewer than {PROCESSORS_FOR_TWO} processors: what two pages gain is not judged")
    return fine


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    sys.exit(0 if main(*(arguments + [5, 120][len(arguments) :])) else 1)
