"""`logist render` and `logist export-job` as they are called: what they write, show and refuse."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import pytest
from pictures import SCRIPT, bars, frames, picture, pixels

from logist.chunk_keys import ChunkKeys
from logist.cli import run
from logist.clock import SystemClock
from logist.command_lines import spell
from logist.console.render import show_frames
from logist.models.job_spec import RenderJobSpec, checked_spec
from logist.progress_lines import FrameCounter
from logist.render.options import AudioTrack, RenderOptions
from logist.render.plan import job_spec, plan


class Outcome(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Logist = Callable[..., Outcome]


@pytest.fixture
def logist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Logist:
    """Run `logist …` in `tmp_path`, in this process."""
    monkeypatch.chdir(tmp_path)

    def logist(*arguments: str) -> Outcome:
        code = run(arguments)
        out, err = capfdbinary.readouterr()
        return Outcome(code, out.decode(), err.decode())

    return logist


@pytest.fixture
def film(tmp_path: Path) -> Path:
    folder = tmp_path / "film"
    folder.mkdir()
    (folder / "index.html").write_text("<canvas>")
    return folder


def assert_refused(outcome: Outcome, *words: str, code: int = 2) -> None:
    """One `Error:` line, one `Hint:` line, nothing else."""
    assert outcome.code == code, outcome
    error, hint = outcome.err.splitlines()
    assert (error[:7], hint[:6]) == ("Error: ", "Hint: ")
    for word in words:
        assert word in outcome.err
    assert outcome.out == ""


def spec_of(document: dict[str, Any]) -> RenderJobSpec:
    checked = checked_spec(document)
    assert isinstance(checked, RenderJobSpec), checked
    return checked


# --- A job to be run -----------------------------------------------------------------------------------------------


def test_a_job_is_written_with_names_from_its_own_folder(logist: Logist, film: Path, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    flags = ("--width", "640", "--height", "360", "--fps", "29.97", "--duration", "2.5", "--no-headless")
    done = logist("render", "film", "-o", "out.mp4", "--emit-job", "jobs/a job.json", "--shards", "4", *flags)
    assert (done.code, done.out) == (0, "")
    assert (
        "jobs/a job.json: 4 chunks of 75 frames; run them: logist job run 'jobs/a job.json' --allow-outside" in done.err
    )
    text = (tmp_path / "jobs" / "a job.json").read_text()
    assert text.endswith("}\n")
    spec = spec_of(json.loads(text))
    assert [(chunk.start_frame, chunk.frame_count) for chunk in spec.chunks] == [(0, 19), (19, 19), (38, 19), (57, 18)]
    words = spell(spec.chunks[1].command).argv
    assert words[:4] == ("logist", "render", "../film/index.html", "-o")
    assert words[5:] == (
        *("--start-frame", "19", "--frame-count", "19", "--width", "640", "--height", "360", "--fps", "30000/1001"),
        *("--mode", "canvas", "--video-codec", "h264", "--no-headless", "--part", "--of-frames", "0,75"),
    )
    assert spec.output == "../out.mp4"
    assert (spec.metadata.total_frames, spec.metadata.fps) == (75, 30000 / 1001)
    assert spec.metadata.duration == pytest.approx(2.5025)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--of-frames", "0,9"), "--of-frames is for a part"),
        (("--part", "--of-frames", "9"), "is not a range of frames"),
        (("--part", "--of-frames", "0,-1"), "-1"),
        (("--part", "--start-frame", "5", "--of-frames", "0,9"), "frames 5 to 9 are not all of the 9 from 0 on"),
    ],
)
def test_a_part_of_a_whole_that_it_is_not_in_is_refused(
    logist: Logist, film: Path, flags: tuple[str, ...], said: str
) -> None:
    done = logist("render", str(film), "-o", "part.mov", "--frame-count", "5", *flags)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_job_is_the_same_whenever_it_is_written(logist: Logist, film: Path, tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        assert logist("render", "film", "--emit-job", name, "--shards", "3").code == 0
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    printed = logist("render", str(film / "index.html"), "--emit-job", "-", "--shards", "3")
    assert printed.out.encode() == (tmp_path / "one.json").read_bytes()
    assert printed.err == ""


def test_without_shards_a_job_has_as_many_chunks_as_pages(logist: Logist, film: Path) -> None:
    cut = logist("render", "film", "--emit-job", "-", "--concurrency", "2").json
    assert len(cut["chunks"]) == 2
    assert "--concurrency" not in cut["chunks"][0]["command"]
    both = logist("render", "film", "--emit-job", "-", "--concurrency", "2", "--shards", "3").json
    assert len(both["chunks"]) == 3
    assert "--concurrency 2" in both["chunks"][0]["command"]
    assert len(logist("render", "film", "--emit-job", "-").json["chunks"]) == 1
    assert len(logist("render", "film", "--emit-job", "-", "--frame-count", "2", "--shards", "9").json["chunks"]) == 2


def test_a_part_of_a_composition_keeps_its_frame_numbers(logist: Logist, film: Path) -> None:
    cut = logist(
        "render", "film", "--emit-job", "-", "--start-frame", "100", "--frame-count", "5", "--shards", "2"
    ).json
    assert [(chunk["startFrame"], chunk["frameCount"]) for chunk in cut["chunks"]] == [(100, 3), (103, 2)]


def test_a_base_url_stands_in_the_commands_and_urls_stay(logist: Logist, film: Path) -> None:
    cut = logist("render", "film/index.html", "--base-url", "http://host:1/site", "--emit-job", "-").json
    assert spell(cut["chunks"][0]["command"]).argv[2] == "http://host:1/site/film/index.html"
    assert "--base-url" not in cut["chunks"][0]["command"]
    cut = logist("render", "http://host/?a=1&b=$HOME", "--emit-job", "-").json
    assert spell(cut["chunks"][0]["command"]).argv[2] == "http://host/?a=1&b=$HOME"


def test_the_files_of_flags_are_named_from_the_folder_of_the_job(logist: Logist, film: Path, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "a b.mp3").write_bytes(b"sound")
    (tmp_path / "p.json").write_text("{}")
    flags = ("--audio", "a b.mp3,offset=0.5", "--props", "@p.json", "--audio-codec", "aac")
    cut = logist("render", "film", "--emit-job", "jobs/job.json", "-o", "jobs/out.mp4", *flags, "--json").json
    assert cut == json.loads((tmp_path / "jobs" / "job.json").read_text())
    assert "--props @../p.json" in cut["chunks"][0]["command"]
    assert "--audio" not in cut["chunks"][0]["command"]
    assert cut["mergeCommand"].endswith("--audio-codec aac --audio '../a b.mp3,offset=0.5'")
    assert cut["output"] == "out.mp4"


def test_chunks_are_listed_for_those_who_run_them_themselves(logist: Logist, film: Path, tmp_path: Path) -> None:
    done = logist("export-job", "film", "--shards", "4", "--duration", "2", "--fps", "30", "--output", "out/x.mp4")
    document = done.json
    assert document["composition"] == "film/index.html"
    assert [(chunk["startFrame"], chunk["frameCount"]) for chunk in document["chunks"]] == [
        (0, 15),
        (15, 15),
        (30, 15),
        (45, 15),
    ]
    assert document["output"] == "out/x.mp4"
    assert {"width", "height", "fps"} <= document["renderOptions"].keys()
    written = logist("export-job", "film", "--shards", "4", "--duration", "2", "--output", "out/x.mp4", "-o", "j.json")
    assert (written.code, written.out) == (0, "")
    assert "j.json: 4 chunks of 60 frames" in written.err
    assert (tmp_path / "j.json").read_text() == done.out


def test_a_list_of_chunks_is_the_same_wherever_the_project_lies(
    logist: Logist, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(film, tmp_path / "elsewhere" / "film")
    lists = []
    for folder in (tmp_path, tmp_path / "elsewhere"):
        (folder / "jobs").mkdir()
        monkeypatch.chdir(folder)
        assert logist("export-job", "film", "--shards", "2", "-o", "jobs/list.json").code == 0
        lists.append((folder / "jobs" / "list.json").read_bytes())
    assert lists[0] == lists[1]
    assert json.loads(lists[0])["composition"] == "../film/index.html"


def test_both_commands_cut_a_render_alike(logist: Logist, film: Path) -> None:
    flags = ("--frame-count", "50", "--shards", "7", "--width", "64")
    emitted = logist("render", "film", "-o", "x.webm", "--emit-job", "-", *flags).json
    exported = logist("export-job", "film", "--output", "x.webm", *flags).json
    assert [
        (chunk["id"], chunk["startFrame"], chunk["frameCount"], chunk["outputFile"]) for chunk in emitted["chunks"]
    ] == [(chunk["id"], chunk["startFrame"], chunk["frameCount"], chunk["output"]) for chunk in exported["chunks"]]
    assert exported["jobId"] == emitted["id"]


# --- What a chunk depends on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["film", "film/index.html", "file URL"])
def test_a_chunk_is_made_anew_when_a_file_of_its_composition_changes(tmp_path: Path, film: Path, page: str) -> None:
    (film / "index.html").write_text('<canvas><script src="scene.js"></script>')
    (film / "scene.js").write_text("draw(1)")
    (film / "notes.md").write_text("not a part of it")
    (tmp_path / "p.json").write_text("{}")
    (tmp_path / "a,b.mp3").write_bytes(b"sound")
    if page == "file URL":
        page = (film / "index.html").as_uri()
    options = RenderOptions(props="@p.json", audio=(AudioTrack("a,b.mp3", volume=Fraction(1, 2)),))
    spec = spec_of(job_spec(plan(page, "out.mp4", options, 2)))

    def keys() -> tuple[list[str], str]:
        now = ChunkKeys(spec, tmp_path)
        return [now.of_chunk(chunk) for chunk in spec.chunks], now.of_merge([])

    chunks, merge = keys()
    assert len(set(chunks)) == 2
    (film / "notes.md").write_text("changed")
    (film / "scene.js").touch()
    (tmp_path / spec.chunks[0].output_file).write_bytes(b"made")
    (tmp_path / "out.mp4").write_bytes(b"made")
    assert keys() == (chunks, merge)
    for changed in (film / "scene.js", film / "index.html", tmp_path / "p.json"):
        before = chunks
        changed.write_text(changed.read_text() + " ")
        chunks, now = keys()
        assert not set(before) & set(chunks)
        assert now == merge
    (tmp_path / "a,b.mp3").write_bytes(b"another sound")
    assert keys()[0] == chunks
    assert keys()[1] != merge


# --- Bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing.html",), "there is no composition nothing.html"),
        (("empty",), "index.html"),
        (("ftp://host/x",), "neither a file nor of the web"),
        (("film", "--fps", "0"), "--fps"),
        (("film", "--duration", "nan"), "--duration"),
        (("film", "--duration", "100000000"), "at most"),
        (("film", "--width", "-1"), "--width"),
        (("film", "--mode", "svg"), "--mode"),
        (("film", "--props", '{"a":}'), "line 1 column 6"),
        (("film", "--props", "@none.json"), "none.json"),
        (("film", "--audio", "none.mp3"), "none.mp3"),
        (("film", "--audio", "film/index.html,foo=1"), "knows no foo"),
        (("film", "--audio-codec", "vorbis"), "--audio-codec takes aac"),
        (("film", "--width", "65", "--height", "64"), "65x64"),
        (("film", "--video-codec", "h263000"), "h263000"),
        (("film", "--video-codec", "nope"), "h264, h265, vp8, vp9, av1, prores or ffv1"),
        (("film", "--video-codec", "roqvideo"), "roqvideo takes no pixels"),
        (("film", "--video-codec", "rawvideo", "-o", "x.mov"), "rawvideo makes no frames"),
        (("film", "--video-codec", "dnxhd", "-o", "x.mov", "--width", "160"), "the width 256 or more"),
        (("film", "--video-codec", "prores", "-o", "x.webm"), "webm"),
        (("film", "--pixel-format", "yuv999p"), "yuv999p"),
        (("film", "--pixel-format", "yuva420p"), "vp9 (.webm, yuva420p)"),
        (("film", "--video-codec", "qtrle", "-o", "x.mkv"), "another container: .mov can hold more"),
        (("film", "-o", "x.avi"), "x.avi"),
        (("film", "-o", "no/where/x.mp4"), "no/where"),
        (("film", "-o", "film"), "film"),
        (("film", "-o", "film.mp4"), "regular file"),
        (("film", "-o", "-"), "-"),
        (("film", "-o", ""), "regular file"),
        (("film", "-o", f"{'n' * 252}.mp4"), "too long"),
        # With three digits.
        (("film", "-o", f"{'n' * 249}%d.png", "--frame-count", "101"), "too long"),
        (("film", "-o", "loop.mp4"), "symbolic links"),
        (("film", "-o", "page.mp4"), "the composition itself"),
        (("film", "-o", "film/index.html/x.mp4"), "is not there"),
        (("film", "-o", "/dev/full"), "regular file"),
        (("film", "--no-headless"), "no display"),
        (("film", "--browser", "no-such-browser"), "no-such-browser"),
        (("film", "--shards", "2"), "--emit-job"),
        (("film", "--part", "--emit-job", "x.json"), "exclude each other"),
        (("film", "--frame", "1", "--contact-sheet", "-o", "x.png"), "exclude each other"),
        (("film", "--contact-sheet", "film2"), "INPUT"),
        (("--contact-sheet", "film"), "INPUT"),
        (("film", "--frame", "1", "-o", "x.mp4"), ".png"),
        (("film", "-o", "x.png"), "%04d"),
        (("film", "-o", "f-%04d.jpg"), "f-%04d.jpg"),
        (("film", "-o", "f-%d-%d.png"), "%04d"),
        (("film", "--part", "-o", "f-%04d.png"), "f-%04d.png"),
        (("film", "extra"), "extra"),
        ((), "INPUT"),
    ],
)
def test_what_is_wrong_is_told_before_a_browser_starts(
    logist: Logist, film: Path, tmp_path: Path, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "film.mp4").mkdir()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "page.mp4").symlink_to("film/index.html")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    before = sorted(tmp_path.rglob("*"))
    # Would be said instead of anything that is found out later.
    monkeypatch.setenv("LOGIST_BROWSER", "/nothing/there")
    code = 78 if "--browser" in arguments else 2
    assert_refused(logist("render", *arguments), said, code=code)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing.html",), "nothing.html"),
        (("film", "--shards", "0"), "--shards"),
        (("film", "--shards", "10001"), "10001"),
        (("film", "--emit-job", "no/job.json"), "no/job.json"),
        (("film", "--emit-job", "film"), "film"),
        (("film", "-o", "job.json"), "job.json"),
        (("film", "-o", "x.mp4", "--emit-job", "x.mp4"), "x.mp4"),
        (("film", "-o", "f-%04d.png"), "container"),
        (("film", "--width", "65"), "65x1080"),
        (("film", "--props", "[]"), "no JSON object"),
    ],
)
def test_a_job_that_could_not_run_is_not_written(
    logist: Logist, film: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    emit = () if "--emit-job" in arguments else ("--emit-job", "job.json")
    assert_refused(logist("render", *arguments, *emit), said)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(sys.platform != "linux", reason="looks at a folder of Linux")
@pytest.mark.parametrize(
    "flags", [("-o", "/proc/x.mp4"), ("-o", "/proc/%d.png"), ("--frame", "1", "-o", "/proc/x.png")]
)
def test_a_folder_where_nothing_can_be_written_is_told_as_one(
    logist: Logist, film: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGIST_BROWSER", "/nothing/there")
    assert_refused(logist("render", "film", *flags), f"the folder of {flags[-1]} can't be written to")


def test_a_codec_is_known_by_what_people_call_it(logist: Logist, film: Path) -> None:
    for codec in ("H264", "x264", "avc", "libx264", "H.265", "HEVC", "x265", "VP9", "AV1"):
        assert logist("render", "film", "--video-codec", codec, "--emit-job", "-").code == 0, codec


def test_a_job_can_be_planned_where_nothing_can_encode(film: Path, tmp_path: Path) -> None:
    """Without PyAV only what it would have found out is not told."""
    program = "import sys; sys.modules['av'] = None; from logist.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "render", "film", "--emit-job", "-"],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout)["metadata"]["totalFrames"] == 30


# --- Progress ------------------------------------------------------------------------------------------------------


class SteppedClock(SystemClock):
    """A second passes with every look at it."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        self._now += 1.0
        return self._now


def test_the_lines_of_a_chunk_are_those_that_a_job_understands() -> None:
    stream = io.StringIO()
    counter = FrameCounter(30, start_frame=90)
    with show_frames(quiet=False, environ={}, stream=stream, clock=SteppedClock()) as show:
        counted = []
        for done in (1, 12, 12, 30):
            show(done, 30)
            counted.append(counter.feed(stream.getvalue().encode()))
            stream.seek(0)
            stream.truncate()
    assert counted == [1, 12, None, 30]


def test_lines_come_now_and_then_and_at_the_end() -> None:
    class Still(SystemClock):
        def monotonic(self) -> float:
            return 5.0

    stream = io.StringIO()
    with show_frames(quiet=False, environ={}, stream=stream, clock=Still()) as show:
        for done in range(1, 31):
            show(done, 30)
    assert stream.getvalue() == "rendered 30/30 frames\n"


def test_nothing_is_shown_when_it_is_to_be_quiet() -> None:
    stream = io.StringIO()
    with show_frames(quiet=True, environ={}, stream=stream) as show:
        show(30, 30)
    assert stream.getvalue() == ""


class Screen(io.StringIO):
    """A terminal that keeps what was drawn."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("no descriptor")


def test_a_terminal_gets_a_bar_that_is_gone_in_the_end_and_keeps_its_cursor() -> None:
    screen = Screen()
    with show_frames(quiet=False, environ={"TERM": "xterm"}, stream=screen) as show:
        show(10, 30)
        show(20, 30)
    drawn = screen.getvalue()
    assert "20/30" in drawn
    # Shown as soon as it was hidden: whatever kills the process, the terminal is as it was.
    assert drawn.index("\x1b[?25l") < drawn.index("\x1b[?25h") < drawn.index("20/30")
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")
    assert not drawn.endswith("30")


# --- With a browser ------------------------------------------------------------------------------------------------

#: Counts its own frames: what a chunk shows depends on all frames before it.
COUNTER = f"""<!doctype html><canvas width="160" height="90"></canvas><script>{SCRIPT}
const context = document.querySelector("canvas").getContext("2d");
let number = -1;
requestAnimationFrame(function draw() {{
  number += 1;
  context.fillStyle = `hsl(${{number * 40}} 80% 50%)`;
  context.fillRect(0, 0, 160, 90);
  paint(context, number);
  requestAnimationFrame(draw);
}});
</script>"""
SMALL = ("--width", "160", "--height", "90")
#: Without loss, so that frames can be compared pixel by pixel.
EXACT = (
    *SMALL,
    "--fps",
    "29.97",
    "--start-frame",
    "2",
    "--frame-count",
    "7",
    "--quality",
    "0",
    "--preset",
    "ultrafast",
)


@pytest.fixture
def counter(film: Path, browser_path: str) -> Path:
    (film / "index.html").write_text(COUNTER)
    return film


def shown(path: Path) -> list[bytes]:
    return [pixels(frame) for frame in frames(path)]


def drive(document: dict[str, Any], logist: Logist) -> None:
    """What somebody's own runner does with `logist export-job`."""
    for chunk in document["chunks"]:
        span = ("--start-frame", str(chunk["startFrame"]), "--frame-count", str(chunk["frameCount"]))
        assert logist("render", document["composition"], "-o", chunk["output"], *span, *document["flags"]).code == 0
    parts = [chunk["output"] for chunk in document["chunks"]]
    assert logist("merge", document["output"], *parts, *document["mergeFlags"]).code == 0


def test_a_render_in_one_go_and_in_chunks_of_either_kind_shows_the_same_frames(
    logist: Logist, counter: Path, tmp_path: Path
) -> None:
    folder = 'it\'s a "film" \\ $HOME & \u65e5\u672c;\n#1'
    counter.rename(tmp_path / folder)
    whole = logist("render", folder, "-o", "whole.mp4", "--concurrency", "2", "--json", *EXACT)
    assert whole.code == 0, whole.err
    assert (whole.json["frames"], whole.json["fps"], whole.json["width"]) == (7, "30000/1001", 160)
    assert (
        logist("render", folder, "-o", f"{folder}/job.mp4", "--emit-job", "job.json", "--shards", "3", *EXACT).code == 0
    )
    ran = logist("job", "run", "job.json", "-q")
    assert ran.code == 0, ran.err
    drive(logist("export-job", folder, "--output", "own.mp4", "--shards", "2", *EXACT).json, logist)
    expected = shown(tmp_path / "whole.mp4")
    assert [bars(frame) for frame in frames(tmp_path / "whole.mp4")] == list(range(2, 9))
    assert shown(tmp_path / folder / "job.mp4") == expected
    assert shown(tmp_path / "own.mp4") == expected


def heard(path: Path) -> bytes:
    """The samples of a file's sound, of all that is decoded: two channels of two bytes each."""
    with av.open(str(path)) as container:
        return b"".join(bytes(frame.planes[0])[: frame.samples * 4] for frame in container.decode(audio=0))


def test_the_sound_of_a_render_is_the_same_in_chunks(logist: Logist, counter: Path, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a tone,loud.wav"), "wb") as tone:
        tone.setparams((1, 2, 48_000, 0, "NONE", "not compressed"))
        tone.writeframes(bytes(byte for sample in range(24_000) for byte in (0, 32 if sample // 50 % 2 else 224)))
    flags = (*EXACT, "--audio", "a tone,loud.wav,offset=0.1,fade-out=1/30,volume=0.5", "--audio-codec", "pcm_s16le")
    done = logist("render", "film", "-o", "whole.mov", *flags)
    assert done.code == 0, done.err
    assert logist("render", "film", "-o", "job.mov", "--emit-job", "job.json", "--shards", "2", *flags).code == 0
    ran = logist("job", "run", "job.json", "-q")
    assert ran.code == 0, ran.err
    samples = heard(tmp_path / "whole.mov")
    assert any(samples)
    # To the end of the last frame.
    assert len(samples) == round(7 * Fraction(1001, 30000) * 48_000) * 4
    assert heard(tmp_path / "job.mov") == samples


def test_a_job_of_helios_runs_on_logist(logist: Logist, counter: Path, tmp_path: Path) -> None:
    """Spelled as Helios emits it; its parts are to have sound each, which no .mp4 could take."""
    parts = [f"temp_1770000000000_k3j9x2_part_{number}.mov" for number in range(2)]
    look = "--width 160 --height 90 --fps 30 --quality 0 --mode canvas --audio-codec pcm_s16le"
    document = {
        "metadata": {"totalFrames": 5, "fps": 30, "width": 160, "height": 90, "duration": 5 / 30},
        "chunks": [
            {
                "id": number,
                "startFrame": start,
                "frameCount": frame_count,
                "outputFile": parts[number],
                "command": f"helios render film/index.html -o {parts[number]} --start-frame {start} "
                f"--frame-count {frame_count} {look}",
            }
            for number, (start, frame_count) in enumerate([(0, 3), (3, 2)])
        ],
        "mergeCommand": f"helios merge final.mp4 {' '.join(parts)}",
    }
    (tmp_path / "job.json").write_text(json.dumps(document))
    ran = logist("job", "run", "job.json", "-q")
    assert ran.code == 0, ran.err
    assert [bars(frame) for frame in frames(tmp_path / "final.mp4")] == list(range(5))


def test_one_frame_and_all_frames_become_pictures(logist: Logist, counter: Path, tmp_path: Path) -> None:
    done = logist("render", "film", "--frame", "5", "-o", "five.png", *SMALL, "--json")
    assert done.code == 0, done.err
    assert bars(picture((tmp_path / "five.png").read_bytes())) == 5
    (tmp_path / "frames").mkdir()
    few = ("--start-frame", "3", "--frame-count", "4", *SMALL)
    assert logist("render", "film", "-o", "frames/f-%04d.png", *few).code == 0
    made = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in made] == ["f-0003.png", "f-0004.png", "f-0005.png", "f-0006.png"]
    assert [bars(picture(path.read_bytes())) for path in made] == [3, 4, 5, 6]


def test_a_contact_sheet_is_a_picture(logist: Logist, counter: Path, tmp_path: Path) -> None:
    done = logist("render", "film", "--contact-sheet", "4", *SMALL, "-o", "sheet.png")
    assert done.code == 0, done.err
    assert picture((tmp_path / "sheet.png").read_bytes()).width > 160
    assert "4 frames" in done.err


def test_a_page_that_throws_fails_the_render_and_the_old_file_stays(
    logist: Logist, counter: Path, tmp_path: Path
) -> None:
    (counter / "index.html").write_text(COUNTER.replace("number += 1;", "if (++number > 2) throw Error('out of ink');"))
    (tmp_path / "out.mp4").write_bytes(b"the old one")
    before = sorted(tmp_path.rglob("*"))
    assert_refused(logist("render", "film", "-o", "out.mp4", "-q", *SMALL), "out of ink", code=5)
    assert (tmp_path / "out.mp4").read_bytes() == b"the old one"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_render_that_is_stopped_leaves_nothing_behind(
    counter: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (tmp_path / "out.mp4").write_bytes(b"the old one")
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-m", "logist", "render", "film", "-o", "out.mp4", "--duration", "1h", *SMALL]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "rendered" in process.stderr.readline()
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert said.splitlines()[-1] == f"stopped by {number.name}: nothing half made is left"
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "out.mp4").read_bytes() == b"the old one"


def test_a_sequence_that_is_stopped_keeps_its_pictures_and_says_so(counter: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    command = [sys.executable, "-m", "logist", "render", "film", "-o", "frames/%d.png", "--duration", "1h", *SMALL]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "rendered" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "stopped by SIGINT: the pictures that were made are there, each of them whole"
    made = sorted((tmp_path / "frames").iterdir(), key=lambda path: int(path.stem))
    assert [path.name for path in made] == [f"{number}.png" for number in range(len(made))]
    assert bars(picture(made[-1].read_bytes())) == len(made) - 1


def test_a_selector_that_is_none_is_bad_usage(logist: Logist, counter: Path) -> None:
    for selector in ("((", "canvas  >"):
        outcome = logist("render", "film", "-q", *SMALL, "--canvas-selector", selector)
        assert_refused(outcome, "--canvas-selector", "is no selector of CSS")
    assert_refused(logist("render", "film", "-q", *SMALL, "--canvas-selector", "#none"), "#none", code=5)
