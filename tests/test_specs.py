"""Reading a spec at a glance: it must never see anything but what the models see."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from specs import spec, text_spec

from logist.models.job_spec import RenderJobSpec, checked_spec
from logist.specs import PlainSpec, plain_spec, spec_problems


def values(found: Any) -> tuple[Any, ...]:
    """All that a runner asks of a spec."""
    size = found.metadata
    return (
        (size.total_frames, size.fps, size.width, size.height),
        [
            (each.id, each.start_frame, each.frame_count, each.end_frame, each.output_file, each.command, each.inputs)
            for each in found.chunks
        ],
        (found.merge_command, found.output, found.merged_output, found.inputs),
    )


def test_what_helios_writes_is_read_at_a_glance() -> None:
    document = text_spec(3)
    read = plain_spec(document)
    assert read is not None
    models = checked_spec(copy.deepcopy(document))
    assert isinstance(models, RenderJobSpec)
    assert values(read) == values(models)


def test_a_spec_is_read_at_a_glance_without_pydantic() -> None:
    source = "import sys, logist.spec_files; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0


def test_whatever_is_unusual_is_left_to_the_models() -> None:
    usual = spec(["true"])
    for change in (
        {"assetsUrl": "x"},
        {"inputs": ["a"]},
        {"id": 7},
        {"mergeCommand": None},
        {"chunks": []},
        {"metadata": {**usual["metadata"], "fps": 30.5, "more": 1}},
        {"metadata": {**usual["metadata"], "width": 64.0}},
        {"metadata": {**usual["metadata"], "height": True}},
        {"chunks": [{**usual["chunks"][0], "id": "a b"}]},
        {"chunks": [{**usual["chunks"][0], "startFrame": -1}]},
        {"chunks": [{**usual["chunks"][0], "frameCount": 0}]},
        {"chunks": [{**usual["chunks"][0], "command": []}, 7]},
    ):
        assert plain_spec({**usual, **change}) is None, change


odd = st.sampled_from([None, True, 0, 1, -1, 7, 30.0, 1.5, 2**60, "", "a", "a b", "../x", [], ["a"], [1], {}, {"a": 1}])


@given(st.data())
def test_at_a_glance_is_only_taken_what_the_models_take_and_with_the_same_values(data: st.DataObject) -> None:
    document = text_spec(data.draw(st.integers(1, 3)))
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.sampled_from([document, document["metadata"], *document["chunks"]]))
        key = data.draw(st.sampled_from([*place, "more"]))
        if data.draw(st.booleans()) and key in place:
            del place[key]
        else:
            place[key] = data.draw(odd)
        if not isinstance(document.get("chunks"), list) or not isinstance(document.get("metadata"), dict):
            break
    before = copy.deepcopy(document)
    read = plain_spec(document)
    assert document == before
    if read is None:
        return
    assert isinstance(read, PlainSpec)
    models = checked_spec(document)
    problems = spec_problems(read)
    if problems:
        assert models == problems
    else:
        assert isinstance(models, RenderJobSpec)
        assert values(read) == values(models)
