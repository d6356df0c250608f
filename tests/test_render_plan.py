"""How a render is cut into chunks, how that is written down, and what the commands in it mean to who reads them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist.command_lines import input_words, merge_inputs, merged_file, page_of, split_helios
from logist.errors import UsageProblem
from logist.models.job_spec import RenderJobSpec, checked_spec
from logist.render.composition import (
    absolute,
    check_sounds,
    find_composition,
    props_file,
    read_props,
    seen_from,
    seen_options,
)
from logist.render.options import AudioTrack, Mode, RenderOptions
from logist.render.plan import MOST_SHARDS, RenderPlan, export_document, job_spec, plan, quoted
from logist.specs import plain_spec

NTSC = Fraction(30000, 1001)


def planned(
    frames: int = 10, shards: int = 1, output: str = "out.mp4", start: int = 0, **options: object
) -> RenderPlan:
    wanted = RenderOptions(start_frame=start, frame_count=frames, **options)  # type: ignore[arg-type]
    return plan("film/index.html", output, wanted, shards)


def ranges(made: RenderPlan) -> list[tuple[int, int]]:
    return [(chunk.start_frame, chunk.frame_count) for chunk in made.chunks]


# --- Chunks --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(0, 10**6))
def test_every_frame_is_made_once_by_chunks_of_nearly_the_same_size(frames: int, shards: int, start: int) -> None:
    made = planned(frames, shards, start=start)
    assert len(made.chunks) == min(frames, shards)
    at = start
    for number, chunk in enumerate(made.chunks):
        assert (chunk.id, chunk.start_frame) == (number, at)
        at += chunk.frame_count
    assert at == start + frames
    sizes = [chunk.frame_count for chunk in made.chunks]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    assert len({chunk.output for chunk in made.chunks}) == len(sizes)


@pytest.mark.parametrize(
    ("frames", "shards", "start", "expected"),
    [
        (60, 4, 0, [(0, 15), (15, 15), (30, 15), (45, 15)]),
        (60, 1, 0, [(0, 60)]),
        (50, 4, 0, [(0, 13), (13, 13), (26, 12), (38, 12)]),
        (3, 7, 0, [(0, 1), (1, 1), (2, 1)]),
        (10, 7, 0, [(0, 2), (2, 2), (4, 2), (6, 1), (7, 1), (8, 1), (9, 1)]),
        (1, 1, 0, [(0, 1)]),
        (30, 2, 90, [(90, 15), (105, 15)]),
    ],
)
def test_the_chunks_of_a_render(frames: int, shards: int, start: int, expected: list[tuple[int, int]]) -> None:
    assert ranges(planned(frames, shards, start=start)) == expected


@pytest.mark.parametrize("shards", [0, -1, MOST_SHARDS + 1])
def test_a_number_of_chunks_that_makes_no_sense_is_refused(shards: int) -> None:
    with pytest.raises(UsageProblem, match="chunks"):
        planned(shards=shards)


@pytest.mark.parametrize("output", ["out", "out.avi", "out.mp4/", "f-%04d.png", "-"])
def test_parts_are_not_planned_for_what_they_can_not_be_merged_into(output: str) -> None:
    with pytest.raises(UsageProblem, match="no container"):
        planned(output=output)


@pytest.mark.parametrize(
    ("output", "codec", "suffix", "spelled"),
    [
        ("out.mp4", None, ".mov", "h264"),
        ("a/out.MOV", "prores", ".mov", "prores"),
        ("out.mkv", "libx265", ".mov", "libx265"),
        ("out.webm", None, ".mkv", "vp9"),
        ("out.WEBM", None, ".mkv", "vp9"),
        ("out.mp4", "av1", ".mkv", "av1"),
        ("out.mkv", "ffv1", ".mkv", "ffv1"),
        ("out.mp4", "H264", ".mov", "H264"),
        ("out.mp4", "VP9", ".mkv", "VP9"),
        ("out.mp4", "libvpx-vp9", ".mkv", "libvpx-vp9"),
        ("out.mov", "qtrle", ".mov", "qtrle"),
        ("out.mp4", "png", ".mov", "png"),
        ("out.mkv", "mjpeg", ".mov", "mjpeg"),
    ],
)
def test_a_part_is_in_a_container_that_fits_its_codec(
    output: str, codec: str | None, suffix: str, spelled: str
) -> None:
    made = planned(20, 2, output, video_codec=codec)
    assert [Path(chunk.output).suffix for chunk in made.chunks] == [suffix] * 2
    assert {Path(chunk.output).parent for chunk in made.chunks} == {Path(output).parent}
    assert {made.chunk_options(chunk).video_codec for chunk in made.chunks} == {spelled}


@given(st.integers(1, 100), st.integers(1, 9), st.sampled_from([Fraction(30), NTSC]))
def test_the_same_plan_twice_is_the_same_spec_to_the_byte(frames: int, shards: int, fps: Fraction) -> None:
    first, second = (json.dumps(job_spec(planned(frames, shards, fps=fps))) for _ in range(2))
    assert first == second


def test_parts_of_different_renders_have_different_names() -> None:
    made = [
        planned(10, 2),
        planned(10, 3),
        planned(11, 2),
        planned(10, 2, start=1),
        planned(10, 2, mode=Mode.DOM),
        planned(10, 2, props="{}"),
        planned(10, 2, "other.mp4"),
        plan("other.html", "out.mp4", RenderOptions(frame_count=10), 2),
    ]
    assert len({chunk.output for each in made for chunk in each.chunks}) == sum(len(each.chunks) for each in made)


# --- The spec ------------------------------------------------------------------------------------------------------


def checked(document: dict[str, object]) -> RenderJobSpec:
    spec = checked_spec(json.loads(json.dumps(document)))
    assert isinstance(spec, RenderJobSpec), spec
    return spec


def test_the_commands_of_a_spec_are_those_of_logist() -> None:
    made = plan(
        "film/index.html",
        "out/final.mp4",
        RenderOptions(
            640,
            360,
            NTSC,
            Mode.DOM,
            frame_count=75,
            quality=20,
            audio_codec="aac",
            base_url="http://x",
            audio=(AudioTrack("a b.mp3", offset=Fraction(1, 3)),),
        ),
        2,
    )
    document = job_spec(made)
    part = f"out/temp_{made.digest}_part_"
    look = "--width 640 --height 360 --fps 30000/1001 --mode dom --quality 20 --video-codec h264"
    look += " --part --of-frames 0,75"
    assert [chunk["command"] for chunk in document["chunks"]] == [
        f"logist render film/index.html -o {part}0.mov --start-frame 0 --frame-count 38 {look}",
        f"logist render film/index.html -o {part}1.mov --start-frame 38 --frame-count 37 {look}",
    ]
    assert document["mergeCommand"] == (
        f"logist merge out/final.mp4 {part}0.mov {part}1.mov --audio-codec aac --audio 'a b.mp3,offset=1/3'"
    )
    assert document["metadata"] == {
        "totalFrames": 75,
        "fps": 30000 / 1001,
        "width": 640,
        "height": 360,
        "duration": 75 * 1001 / 30000,
    }
    assert (document["id"], document["output"]) == (made.digest, "out/final.mp4")


@given(
    frames=st.integers(1, 40),
    shards=st.integers(1, 9),
    start=st.integers(0, 100),
    fps=st.sampled_from([Fraction(30), NTSC, Fraction(25, 2), Fraction(1, 3)]),
    output=st.sampled_from(["out.mp4", "a/out.webm", "./out.mkv", "../a b.mov", "-x.mp4", "/abs/x.m4v"]),
)
def test_every_plan_is_a_sound_spec(frames: int, shards: int, start: int, fps: Fraction, output: str) -> None:
    document = job_spec(planned(frames, shards, output, start, fps=fps))
    spec = checked(document)
    assert sum(chunk.frame_count for chunk in spec.chunks) == spec.metadata.total_frames == frames
    assert spec.metadata.fps == float(fps)
    assert [page_of(chunk.command) for chunk in spec.chunks] == ["film/index.html"] * len(spec.chunks)
    parts = [chunk.output_file for chunk in spec.chunks]
    assert [Path(name) for name in merge_inputs(spec.merge_command)] == [Path(name) for name in parts]
    assert Path(merged_file(spec.merge_command) or "") == Path(output) == Path(spec.merged_output or "")
    # Read at a glance: a run of it starts without the models.
    assert plain_spec(json.loads(json.dumps(document))) is not None


def test_a_render_of_whole_frames_a_second_has_whole_numbers() -> None:
    assert job_spec(planned(60))["metadata"] == {
        "totalFrames": 60,
        "fps": 30,
        "width": 1920,
        "height": 1080,
        "duration": 2,
    }


@pytest.mark.parametrize("name", ["not-utf8-\udcff.html", "nul\0.html"])
def test_a_name_that_json_can_not_hold_is_refused(name: str) -> None:
    with pytest.raises(UsageProblem, match=r"NUL|text"):
        plan(name, "out.mp4", RenderOptions(), 2)
    with pytest.raises(UsageProblem, match=r"NUL|text"):
        plan("page.html", "out.mp4", RenderOptions(audio=(AudioTrack(name),)), 2)


def test_more_parts_than_a_command_line_takes_are_refused() -> None:
    with pytest.raises(UsageProblem, match="command line"):
        job_spec(planned(10_000, 10_000, f"{'x' * 200}/out.mp4"))


def test_an_output_that_no_run_would_accept_is_refused() -> None:
    with pytest.raises(UsageProblem, match="no container"):
        planned(output="folder/..")


def test_the_files_of_the_merge_are_inputs_of_the_merge_alone() -> None:
    document = job_spec(planned(4, 2, audio=(AudioTrack("a,b.mp3", volume=Fraction(1, 2)),), props="@p q.json"))
    assert "a,b.mp3" in input_words(document["mergeCommand"])
    for chunk in document["chunks"]:
        assert "a,b.mp3" not in input_words(chunk["command"])
        assert "p q.json" in input_words(chunk["command"])


# --- Quoting -------------------------------------------------------------------------------------------------------

WORDS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=("Cs",))
    | st.sampled_from("'\"\\ \n\t$`!&;|<>(){}*?#~=%"),
    max_size=20,
)


@given(st.lists(WORDS, min_size=1, max_size=6))
def test_helios_reads_words_back_as_they_were(words: list[str]) -> None:
    assert split_helios(" ".join(["logist", *map(quoted, words)])) == ("logist", *words)


@given(st.lists(st.lists(WORDS, min_size=1, max_size=6), min_size=40, max_size=60))
def test_a_shell_reads_words_back_as_they_were(lines: list[list[str]]) -> None:
    # Many in one go: to start a shell takes longer than all it does.
    script = "\n".join(
        " ".join(["printf", quoted("%s\\0"), *map(quoted, words), quoted("end of line")]) for words in lines
    )
    ran = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True)
    expected = [word for words in lines for word in (*words, "end of line")]
    assert ran.stdout.decode().split("\0")[:-1] == expected


def test_plain_words_are_written_as_they_are() -> None:
    for word in ("logist", "out/a-b_1.mp4", "http://x/a.html", "30000/1001", "--width"):
        assert quoted(word) == word
    assert quoted("") == "''"
    assert quoted("it's \\ here") == "'it'\\''s '\\\\' here'"


def test_hostile_names_reach_a_command_unchanged(tmp_path: Path, hostile_names: list[str]) -> None:
    """Through both readers of a line, with a command that prints what it was given."""
    program = tmp_path / "logist"
    program.write_text("#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done\n")
    program.chmod(0o755)
    for name in hostile_names:
        if any("\ud800" <= character <= "\udfff" for character in name):
            with pytest.raises(UsageProblem, match="is not text"):
                plan(name, "out.mp4", RenderOptions())
            continue
        options = RenderOptions(frame_count=2, props=f"@{name}", canvas_selector=name, audio=(AudioTrack(name),))
        document = job_spec(plan(f"{name}/{name}", f"{name}/o.mp4", options, 2))
        for command in (document["chunks"][1]["command"], document["mergeCommand"]):
            words = split_helios(command)
            ran = subprocess.run(
                ["/bin/sh", "-c", command], capture_output=True, check=True, cwd=tmp_path, env={"PATH": str(tmp_path)}
            )
            assert tuple(ran.stdout.decode().split("\0")[:-1]) == words[1:]
        first = "./" if name.startswith("-") else ""
        words = split_helios(document["chunks"][1]["command"])
        assert words[2] == f"{first}{name}/{name}"
        assert words[words.index("--props") + 1] == f"@{name}"
        assert words[words.index("--canvas-selector") + 1] == name
        assert merged_file(document["mergeCommand"]) == f"{first}{name}/o.mp4"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logist"]


# --- The list of chunks --------------------------------------------------------------------------------------------


def test_the_exported_document_has_what_a_runner_of_its_own_needs() -> None:
    made = planned(75, 4, "out/final.webm", start=5, fps=NTSC, audio=(AudioTrack("a.mp3", loop=True),), quality=20)
    document = export_document(made)
    assert document["composition"] == "film/index.html"
    assert document["output"] == "out/final.webm"
    assert document["jobId"] == made.digest
    assert document["chunks"] == [
        {"id": number, "startFrame": start, "frameCount": frames, "output": f"out/temp_{made.digest}_part_{number}.mkv"}
        for number, (start, frames) in enumerate([(5, 19), (24, 19), (43, 19), (62, 18)])
    ]
    shown = document["renderOptions"]
    assert (shown["width"], shown["height"], shown["fps"]) == (1920, 1080, 30000 / 1001)
    assert (shown["startFrame"], shown["frameCount"], shown["quality"]) == (5, 75, 20)
    assert shown["audio"] == ["a.mp3,loop=true"]
    assert not {"videoCodec", "props", "baseUrl"} & shown.keys()
    assert document["mergeFlags"] == ["--audio", "a.mp3,loop=true"]
    json.dumps(document)


def test_no_name_in_the_exported_document_is_taken_for_an_option() -> None:
    document = export_document(plan("-film/index.html", "-out.mp4", RenderOptions(frame_count=2), 2))
    names = [document["composition"], document["output"], *(chunk["output"] for chunk in document["chunks"])]
    assert names[:2] == ["./-film/index.html", "./-out.mp4"]
    assert not [name for name in names if name.startswith("-")]


def test_the_exported_flags_are_those_of_the_commands() -> None:
    made = planned(9, 3, fps=NTSC, mode=Mode.DOM, preset="slow down")
    document = export_document(made)
    for chunk, described in zip(job_spec(made)["chunks"], document["chunks"], strict=True):
        words = split_helios(chunk["command"])
        span = ("--start-frame", str(described["startFrame"]), "--frame-count", str(described["frameCount"]))
        assert words == (
            "logist",
            "render",
            document["composition"],
            "-o",
            described["output"],
            *span,
            *document["flags"],
        )


# --- What is rendered ----------------------------------------------------------------------------------------------


@pytest.fixture
def film(tmp_path: Path) -> Path:
    folder = tmp_path / "a film"
    folder.mkdir()
    (folder / "index.html").write_text("<canvas>")
    return folder


def test_a_path_and_a_folder_and_a_file_url_are_the_same_composition(film: Path, tmp_path: Path) -> None:
    page = film / "index.html"
    for given_name in ("a film", "a film/index.html", "./a film/", str(film), page.as_uri(), film.as_uri()):
        found = find_composition(given_name, None, tmp_path)
        assert found.path == page
        assert found.url == page.as_uri()
        assert found.seen_from(tmp_path) == "a film/index.html"
        assert found.seen_from(film) == "index.html"


def test_a_query_stays_with_a_url(film: Path, tmp_path: Path) -> None:
    url = f"{film.as_uri()}/index.html?scene=2#end"
    found = find_composition(url, None, tmp_path)
    assert (found.url, found.seen_from(tmp_path)) == (url, url)
    web = "http://localhost:80/a.html?b=1&c=2"
    assert find_composition(web, None, tmp_path).seen_from(tmp_path) == web


@pytest.mark.parametrize(
    ("given_name", "url"),
    [
        ("a film", "http://host:8080/site/a%20film/index.html"),
        ("a film/index.html", "http://host:8080/site/a%20film/index.html"),
        ("elsewhere/100%.html", "http://host:8080/site/elsewhere/100%25.html"),
        ("https://other/x.html", "https://other/x.html"),
    ],
)
@pytest.mark.parametrize("base", ["http://host:8080/site", "http://host:8080/site/"])
def test_a_base_url_stands_for_the_working_folder(
    film: Path, tmp_path: Path, given_name: str, url: str, base: str
) -> None:
    found = find_composition(given_name, base, tmp_path)
    assert (found.url, found.path) == (url, None)
    assert found.seen_from(tmp_path / "elsewhere") == url


def test_a_composition_is_named_from_the_folder_of_the_spec(film: Path, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "far" / "away" / "link").symlink_to(tmp_path / "jobs", target_is_directory=True)
    found = find_composition("a film", None, tmp_path)
    for folder in ("jobs", "far/away/link"):
        assert found.seen_from(tmp_path / folder) == "../a film/index.html"


def test_dots_behind_a_link_mean_what_they_mean_to_the_system(film: Path, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "index.html").write_text("<canvas>")
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er", target_is_directory=True)
    assert find_composition("link/../index.html", None, tmp_path).path == (tmp_path / "deep" / "index.html").resolve()
    assert absolute("a film/../new.mp4", tmp_path) == tmp_path / "new.mp4"


@pytest.mark.parametrize(
    ("given_name", "base", "said"),
    [
        ("", None, "empty"),
        ("nothing.html", None, "no composition nothing.html"),
        ("a film/index.html/x", None, "no composition"),
        ("a film/index.html?x=1", None, "query"),
        ("empty", None, "index.html"),
        ("pipe", None, "not a regular file"),
        ("nul\0", None, "no composition"),
        ("n" * 300, None, "can't be read"),
        ("ftp://host/x.html", None, "neither a file nor of the web"),
        ("http://", None, "neither a file nor of the web"),
        ("http://[x", None, "not a URL"),
        ("file://host/x.html", None, "neither a file nor of the web"),
        ("file:///nothing.html", None, "no composition"),
        ("a film", "localhost:8080", "--base-url"),
        ("a film", "ftp://host", "--base-url"),
        ("a film", "http://host/?x=1", "--base-url"),
        ("..", "http://host", "outside"),
        ("../other.html", "http://host", "outside"),
    ],
)
def test_what_is_no_composition_is_one_error(
    film: Path, tmp_path: Path, given_name: str, base: str | None, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageProblem) as caught:
        find_composition(given_name, base, tmp_path)
    assert said in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("props", "value"), [(None, None), ("{}", {}), ('{"a": [1, "ü"]}', {"a": [1, "ü"]}), ("@p.json", {"b": None})]
)
def test_props_are_an_object_or_a_file_that_holds_one(tmp_path: Path, props: str | None, value: object) -> None:
    (tmp_path / "p.json").write_text('\ufeff{"b":\nnull}')
    text = read_props(props, tmp_path)
    assert (json.loads(text) if text is not None else None) == value


@pytest.mark.parametrize(
    ("props", "said"),
    [
        ("", "line 1 column 1"),
        ('{"a": 1,}', "line 1 column"),
        ("@broken.json", "broken.json is not JSON: expecting value at line 2 column 2"),
        ("@latin.json", "UTF-8 at byte 2"),
        ("@none.json", "none.json: no such file"),
        ("@folder", "is a directory"),
        ("@", "--props"),
        ("[1]", "no JSON object"),
        ("NaN", "NaN"),
        ('{"a": Infinity}', "Infinity"),
        ("[" * 100_000, "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_props_that_are_wrong_say_where(tmp_path: Path, props: str, said: str) -> None:
    (tmp_path / "broken.json").write_text('{"a":\n nope}')
    (tmp_path / "latin.json").write_bytes('{"ä": 1}'.encode("latin-1"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageProblem) as caught:
        read_props(props, tmp_path)
    assert said in f"{caught.value.message}"


def test_the_files_of_options_are_named_from_the_folder_of_the_spec(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    options = RenderOptions(
        props="@p.json",
        browser="tools/chrome",
        audio=(AudioTrack("a.mp3"), AudioTrack("http://x/b.mp3"), AudioTrack("/abs/c.mp3")),
    )
    seen = seen_options(options, tmp_path, tmp_path / "jobs")
    assert seen.props == "@../p.json"
    assert seen.browser == "../tools/chrome"
    assert [track.source for track in seen.audio] == [
        "../a.mp3",
        "http://x/b.mp3",
        seen_from(Path("/abs/c.mp3"), tmp_path / "jobs"),
    ]
    assert replace(seen, props=options.props, browser=options.browser, audio=options.audio) == options
    for name in ("/usr/bin/chromium", "chromium"):
        assert seen_options(RenderOptions(browser=name), tmp_path, tmp_path / "jobs").browser == name
    assert seen_options(RenderOptions(props='{"a": "@b"}'), tmp_path, tmp_path / "jobs").props == '{"a": "@b"}'
    assert props_file('{"a": "@b"}') is None


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_sound_that_can_not_be_read_is_refused_at_the_start(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a.mp3")
    with pytest.raises(UsageProblem, match=r"a\.mp3"):
        check_sounds(RenderOptions(audio=(AudioTrack("http://x/b.mp3"), AudioTrack("a.mp3"))), tmp_path)


# --- Sounds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("a.wav,foo=1", "knows no foo, and there is no file a.wav,foo=1"),
        ("a.wav,volume=2,foo=1", "knows no foo"),
        ("a.wav,fade_in=1", "knows no fade_in"),
        ("a.wav,loop", "wants a value for loop"),
        ("b.wav", "the sound b.wav can't be read"),
        ("b.wav,", "the sound b.wav, can't be read"),
        ("b.wav,take two", "the sound b.wav,take two can't be read"),
    ],
)
def test_a_slip_in_an_option_of_a_sound_is_told_as_one(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "a.wav").write_bytes(b"sound")
    with pytest.raises(UsageProblem) as caught:
        check_sounds(RenderOptions(audio=(AudioTrack(source),)), tmp_path)
    assert said in caught.value.message
    assert ("offset, seek, duration, volume, fade-in" in caught.value.hint) == ("--audio" in caught.value.message)


def test_a_sound_may_have_a_name_that_looks_like_an_option(tmp_path: Path) -> None:
    (tmp_path / "a.wav,foo=1").write_bytes(b"sound")
    check_sounds(RenderOptions(audio=(AudioTrack("a.wav,foo=1"),)), tmp_path)
