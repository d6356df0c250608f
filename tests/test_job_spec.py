"""A render job spec: what is read, what is kept, and how a mistake is told."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist.models.job_spec import RenderJobChunk, RenderJobSpec, checked_spec
from logist.specs import spec_problems

HELIOS = {
    "metadata": {"totalFrames": 50, "fps": 30, "width": 640, "height": 360, "duration": 1.6666666666666667},
    "chunks": [
        {
            "id": number,
            "startFrame": start,
            "frameCount": count,
            "outputFile": f"temp_1_part_{number}.mov",
            "command": f"helios render page.html -o temp_1_part_{number}.mov --start-frame {start} "
            f"--frame-count {count} --width 640 --height 360 --fps 30 --mode canvas --audio-codec pcm_s16le",
        }
        for number, start, count in ((0, 0, 13), (1, 13, 13), (2, 26, 13), (3, 39, 11))
    ],
    "mergeCommand": "helios merge final.mp4 temp_1_part_0.mov temp_1_part_1.mov temp_1_part_2.mov temp_1_part_3.mov",
}


def helios(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The spec above with values put in, each at a place like `chunks.1.id`; ... takes the key away."""
    document: dict[str, Any] = copy.deepcopy(HELIOS)
    for place, value in changes:
        *way, last = [int(part) if part.isdigit() else part for part in place.split(".")]
        target: Any = document
        for part in way:
            target = target[part]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return document


def read(*changes: tuple[str, Any]) -> RenderJobSpec:
    spec = checked_spec(helios(*changes))
    assert isinstance(spec, RenderJobSpec), spec
    return spec


def problems(*changes: tuple[str, Any]) -> list[str]:
    found = checked_spec(helios(*changes))
    assert isinstance(found, tuple)
    return [str(problem) for problem in found]


def ranges(*pairs: tuple[int, int], total: int | None = None) -> list[str]:
    chunks = [
        {"id": number, "startFrame": start, "frameCount": count, "command": "true"}
        for number, (start, count) in enumerate(pairs)
    ]
    frames = sum(count for _, count in pairs) if total is None else total
    found = checked_spec(helios(("chunks", chunks), ("metadata.totalFrames", frames)))
    return [] if isinstance(found, RenderJobSpec) else [str(problem) for problem in found]


# --- What is read --------------------------------------------------------------------------------------------------


def test_a_spec_of_helios_is_read_as_it_is() -> None:
    spec = read()
    assert spec.id is None
    assert (spec.metadata.total_frames, spec.metadata.fps) == (50, 30)
    assert [(chunk.id, chunk.start_frame, chunk.frame_count, chunk.end_frame) for chunk in spec.chunks] == [
        *((0, 0, 13, 13), (1, 13, 13, 26), (2, 26, 13, 39), (3, 39, 11, 50)),
    ]
    assert spec.chunks[0].output_file == "temp_1_part_0.mov"
    assert spec.merged_output == "final.mp4"


@pytest.mark.parametrize(
    "changes",
    [
        (),
        (("id", "job-1700000000000"), ("assetsUrl", "https://x/y"), ("chunks.1.env", {"A": [1, None]})),
        (("id", 7), ("metadata.codec", "vp9"), ("metadata.fps", 29.97), ("output", "final.mp4")),
        (("chunks.0.command", ["helios", "render", "a b.html"]), ("chunks.0.id", "intro")),
        (("chunks.2.outputFile", ...), ("mergeCommand", ...), ("start_frame", 5), ("chunks.1.start_frame", "x")),
        (("model_dump", 1), ("chunks.0.model_dump", 2), ("chunks.0.__class__", 3), ("metadata.duration", 0)),
    ],
)
def test_what_is_read_is_given_back_with_the_keys_that_nobody_knows(changes: tuple[tuple[str, Any], ...]) -> None:
    spec = read(*changes)
    assert json.loads(spec.model_dump_json(by_alias=True, exclude_unset=True)) == helios(*changes)
    assert spec.model_dump(mode="json", by_alias=True, exclude_unset=True) == helios(*changes)


@given(
    st.dictionaries(
        st.text().map("x".__add__),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5
        ),
        max_size=4,
    )
)
def test_unknown_keys_of_any_name_and_value_are_kept_in_every_part(extra: dict[str, Any]) -> None:
    document = helios()
    for part in (document, document["metadata"], document["chunks"][1]):
        part.update(extra)
    spec = checked_spec(copy.deepcopy(document))
    assert isinstance(spec, RenderJobSpec)
    assert spec.model_dump(by_alias=True, exclude_unset=True, mode="json") == document
    assert spec.chunks[0].model_extra == {}


def test_chunks_share_what_says_which_keys_were_given_and_stay_apart() -> None:
    first, second = read().chunks[:2]
    assert first.model_fields_set is second.model_fields_set
    changed = first.model_copy(update={"frame_count": 3, "note": "mine"})
    assert (first.frame_count, first.model_extra, second.model_extra) == (13, {}, {})
    assert (changed.frame_count, changed.model_extra) == (3, {"note": "mine"})
    without = read(("chunks.0.outputFile", ...)).chunks[0]
    assert "output_file" not in without.model_fields_set
    assert "output_file" in first.model_fields_set


def test_numbers_that_are_whole_may_be_written_with_a_point() -> None:
    spec = read(("metadata.totalFrames", 50.0), ("chunks.1.startFrame", 13.0), ("chunks.1.id", 1.0))
    assert spec.metadata.total_frames == 50
    assert repr(spec.chunks[1].id) == "1"
    assert type(spec.chunks[1].start_frame) is int


def test_a_spec_made_in_python_takes_the_names_of_python() -> None:
    chunk = RenderJobChunk(id=0, start_frame=0, frame_count=1, command=("true",))
    assert chunk.model_dump(mode="json", by_alias=True) == {
        "id": 0,
        "startFrame": 0,
        "frameCount": 1,
        "outputFile": "",
        "command": ["true"],
        "inputs": [],
    }
    assert RenderJobSpec.model_validate({**HELIOS, "chunks": (chunk,)}).chunks == (chunk,)


@pytest.mark.parametrize(
    ("output", "command", "merged"),
    [
        (..., "helios merge a.mp4 b", "a.mp4"),
        ("b.mp4", "ffmpeg -i x b.mp4", "b.mp4"),
        ("./a.mp4", "helios merge a.mp4 b", "./a.mp4"),
        (None, "cat a > b", None),
        (..., "", None),
    ],
)
def test_the_merged_file_is_what_the_spec_or_its_merge_command_names(
    output: object, command: str, merged: str | None
) -> None:
    changes = [("mergeCommand", command)] if output is ... else [("mergeCommand", command), ("output", output)]
    assert read(*changes).merged_output == merged


# --- What has not the right shape ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ("chunks.2.frameCount", 0, "chunks[2].frameCount: must be at least 1, is 0"),
        ("chunks.2.frameCount", 1.5, "chunks[2].frameCount: must be a whole number, is 1.5"),
        ("chunks.2.frameCount", "13", 'chunks[2].frameCount: must be a whole number, is "13"'),
        ("chunks.2.frameCount", True, "chunks[2].frameCount: must be a whole number, is true"),
        ("chunks.2.frameCount", None, "chunks[2].frameCount: must be a whole number, is null"),
        ("chunks.2.frameCount", ..., "chunks[2].frameCount: is missing"),
        ("chunks.2.startFrame", -1, "chunks[2].startFrame: must be at least 0, is -1"),
        ("chunks.2.startFrame", 2**60, f"chunks[2].startFrame: must be at most {2**53 - 1}, is {2**60}"),
        ("chunks.2.id", ..., "chunks[2].id: is missing"),
        ("chunks.2.id", -1, "chunks[2].id: must be a whole number of 0 or more, or a name"),
        ("chunks.2.id", True, "chunks[2].id: must be"),
        ("chunks.2.id", "../x", "chunks[2].id: must be"),
        ("chunks.2.id", "a\n", "chunks[2].id: must be"),
        ("chunks.2.id", "", "chunks[2].id: must be"),
        ("chunks.2.id", "x" * 65, "chunks[2].id: must be"),
        ("chunks.2.command", ..., "chunks[2].command: is missing"),
        ("chunks.2.command", 5, "chunks[2].command: must be one line, or a list of words, is 5"),
        ("chunks.2.command", ["a", 5], "chunks[2].command: must be one line, or a list of words, is a list"),
        ("chunks.2.outputFile", 5, "chunks[2].outputFile: must be text, is 5"),
        ("chunks.2", 5, "chunks[2]: must be an object, is 5"),
        ("chunks", [], "chunks: is empty"),
        ("chunks", {"a": 1}, "chunks: must be a list, is an object"),
        ("chunks", ..., "chunks: is missing"),
        ("metadata", ..., "metadata: is missing"),
        ("metadata", [], "metadata: must be an object, is a list"),
        ("metadata.fps", 0, "metadata.fps: must be more than 0, is 0"),
        ("metadata.fps", "30", 'metadata.fps: must be a number, is "30"'),
        ("metadata.width", 0, "metadata.width: must be at least 1, is 0"),
        ("metadata.duration", -0.5, "metadata.duration: must be at least 0, is -0.5"),
        ("metadata.totalFrames", ..., "metadata.totalFrames: is missing"),
        ("mergeCommand", None, "mergeCommand: must be one line, or a list of words, is null"),
        ("id", 1.5, "id: must be a whole number or text, is 1.5"),
        ("output", 5, "output: must be text, is 5"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_with_its_place(place: str, value: object, problem: str) -> None:
    [told] = problems((place, value))
    assert told.startswith(problem)


def test_on_disk_the_names_of_python_are_no_names() -> None:
    assert problems(("chunks.1.startFrame", ...), ("chunks.1.start_frame", 13)) == ["chunks[1].startFrame: is missing"]


def test_all_mistakes_are_told_at_once() -> None:
    told = problems(("metadata.fps", 0), ("chunks.1.id", ...), ("chunks.1.command", 1), ("chunks.3", None))
    assert [each.partition(":")[0] for each in told] == [
        *("metadata.fps", "chunks[1].id", "chunks[1].command", "chunks[3]"),
    ]


def test_of_a_file_in_which_all_is_wrong_not_all_is_told() -> None:
    assert 100 <= len(problems(("chunks", [None] * 10_000))) <= 110


def test_a_value_that_is_told_is_short_and_harmless() -> None:
    [told] = problems(("chunks.1.frameCount", "\x1b[31m" + "x" * 10_000))
    assert len(told) < 120
    assert "\x1b" not in told


# --- What does not fit together ------------------------------------------------------------------------------------


def test_chunks_in_any_order_and_of_a_part_of_the_video_are_sound() -> None:
    assert ranges((0, 10), (10, 5)) == []
    assert ranges((110, 5), (100, 10)) == []
    assert ranges((700, 1)) == []


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (((0, 10), (8, 5)), ["chunks[1].startFrame: frame 8 is made by chunks[0] too"]),
        (((8, 5), (0, 10)), ["chunks[0].startFrame: frame 8 is made by chunks[1] too"]),
        (((0, 10), (12, 5)), ["chunks[1].startFrame: no chunk makes frames 10 to 11 before it"]),
        (((0, 10), (11, 5)), ["chunks[1].startFrame: no chunk makes frame 10 before it"]),
        (((0, 20), (5, 5), (20, 5)), ["chunks[1].startFrame: frame 5 is made by chunks[0] too"]),
        (
            ((0, 20), (5, 5), (12, 8)),
            ["chunks[1].startFrame: frame 5 ", "chunks[2].startFrame: frame 12 is made by chu"],
        ),
        (((3, 4), (3, 4)), ["chunks[1].startFrame: frame 3 is made by chunks[0] too"]),
    ],
)
def test_a_frame_that_is_made_twice_or_not_at_all_is_told(pairs: tuple[tuple[int, int], ...], told: list[str]) -> None:
    found = ranges(*pairs)
    assert len(found) == len(told)
    assert all(one.startswith(other) for one, other in zip(found, told, strict=True))


@given(st.permutations([(0, 3), (3, 1), (4, 10), (14, 2)]), st.integers(0, 1000), st.data())
def test_ranges_that_meet_are_sound_and_one_that_moves_is_told(
    pairs: list[tuple[int, int]], offset: int, data: st.DataObject
) -> None:
    moved = [(start + offset, count) for start, count in pairs]
    assert ranges(*moved) == []
    # A chunk at an end only meets nothing any more when it moves inwards; any of the others does at once.
    place = data.draw(st.sampled_from([index for index, (start, _) in enumerate(pairs) if start in (3, 4)]))
    moved[place] = (moved[place][0] + 1, moved[place][1])
    assert ranges(*moved)


def test_frames_that_do_not_make_the_total_are_told() -> None:
    assert ranges((0, 10), (10, 5), total=20) == ["metadata.totalFrames: is 20, but the chunks make 15 frames"]
    assert ranges((0, 10), (10, 5), total=14) == ["metadata.totalFrames: is 14, but the chunks make 15 frames"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([("chunks.1.id", 0)], ["chunks[1].id: 0 is the id of chunks[0] too"]),
        ([("chunks.1.id", "0")], ["chunks[1].id: 0 is the id of chunks[0] too"]),
        ([("chunks.1.id", "auto")], ["chunks[1].id: auto is a word that Logist uses; choose another"]),
        ([("chunks.1.id", "merge")], ["chunks[1].id: merge is a word that Logist uses; choose another"]),
        ([("chunks.1.command", "")], ["chunks[1].command: is empty"]),
        ([("chunks.1.command", " \n")], ["chunks[1].command: is empty"]),
        ([("chunks.1.command", [])], ["chunks[1].command: is empty"]),
        ([("chunks.1.command", ["", "x"])], ["chunks[1].command: is empty"]),
        ([("chunks.1.command", ["a", "b\0"])], ["chunks[1].command: holds a NUL character"]),
        ([("mergeCommand", "  ")], ["mergeCommand: is empty"]),
        ([("mergeCommand", "helios merge a\0b c")], ["mergeCommand: holds a NUL character"]),
        (
            [("chunks.3.outputFile", "./x/../temp_1_part_1.mov")],
            ["chunks[3].outputFile: ./x/../temp_1_part_1.mov is the output of chunks[1] too"],
        ),
        ([("chunks.1.outputFile", "./final.mp4")], ["chunks[1].outputFile: ./final.mp4 is the merged file"]),
        ([("chunks.1.outputFile", "frames/")], ["chunks[1].outputFile: frames/ is a folder, not a file"]),
        ([("chunks.1.outputFile", "..")], ["chunks[1].outputFile: .. is a folder, not a file"]),
        ([("chunks.1.outputFile", "a\0")], ["chunks[1].outputFile: holds a NUL character"]),
        ([("output", "other.mp4")], ["output: is other.mp4, but mergeCommand writes final.mp4"]),
        ([("mergeCommand", "helios merge ./ a")], ["mergeCommand: ./ is a folder, not a file"]),
    ],
)
def test_parts_that_do_not_fit_together_are_told(changes: list[tuple[str, object]], told: list[str]) -> None:
    assert problems(*changes) == told


def test_chunks_without_output_and_without_merge_are_sound() -> None:
    read(*((f"chunks.{place}.outputFile", "") for place in range(4)), ("mergeCommand", ""))
    read(("mergeCommand", []))


def test_ten_thousand_chunks_are_checked_in_one_go() -> None:
    chunks = [
        {"id": place, "startFrame": place, "frameCount": 1, "outputFile": f"{place}.mov", "command": "true"}
        for place in reversed(range(10_000))
    ]
    merge = "helios merge out.mp4 " + " ".join(f"{place}.mov" for place in range(10_000))
    document = helios(("chunks", chunks), ("metadata.totalFrames", 10_000), ("mergeCommand", merge))
    spec = checked_spec(document)
    assert isinstance(spec, RenderJobSpec)
    twice = spec.model_copy(update={"chunks": tuple(spec.chunks[0] for _ in range(10_000))})
    assert len(spec_problems(twice)) == 3 * 9_999
