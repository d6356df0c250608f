"""Which chunks `--chunk` means, and what a TARGET is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logist.chunk_selection import SCHEDULERS, is_spec_target, nearby, select, shell_word
from logist.errors import ExitCode, UsageProblem

ROOT = Path(__file__).resolve().parents[1]
TEN = tuple(range(10))

SLURM = {
    "SLURM_ARRAY_TASK_ID": "2",
    "SLURM_ARRAY_TASK_MIN": "0",
    "SLURM_ARRAY_TASK_MAX": "9",
    "SLURM_ARRAY_TASK_STEP": "1",
    "SLURM_ARRAY_TASK_COUNT": "10",
}
GRID_ENGINE = {"SGE_TASK_ID": "3", "SGE_TASK_FIRST": "1", "SGE_TASK_LAST": "10", "SGE_TASK_STEPSIZE": "1"}
NO_GRID_ENGINE_ARRAY = dict.fromkeys(GRID_ENGINE, "undefined")


def problem(ids: tuple[int | str, ...], wanted: list[str], environ: dict[str, str]) -> UsageProblem:
    with pytest.raises(UsageProblem) as caught:
        select(ids, wanted, environ)
    assert caught.value.exit_code == ExitCode.USAGE
    return caught.value


def test_chunks_are_named_by_their_ids_as_they_are_written() -> None:
    ids = (3, "intro", 7)
    assert select(ids, ["7"], {}) == (7,)
    assert select(ids, ["intro", "3", "3"], {}) == (3, "intro")
    assert select(ids, [], {}) == ()


@pytest.mark.parametrize("word", ["07", "7.0", " 7", "Intro", "", "-1", "99", "AUTO"])
def test_an_unknown_chunk_is_refused_and_the_known_ones_are_listed(word: str) -> None:
    assert "3, intro, 7" in problem((3, "intro", 7), [word], {}).hint


def test_of_many_chunks_only_some_are_listed() -> None:
    refused = problem(tuple(range(10_000)), ["x" * 1000], {})
    assert "9999 (10000 in all)" in refused.hint
    assert len(refused.hint) + len(refused.message) < 300


@pytest.mark.parametrize(
    ("environ", "chunks"),
    [
        (SLURM, (2,)),
        ({"SLURM_ARRAY_TASK_ID": "2"}, (2,)),
        ({**SLURM, "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "10"}, (2,)),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "2"}, (2,)),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "2", "AWS_BATCH_JOB_ARRAY_SIZE": "10"}, (2,)),
        ({"JOB_COMPLETION_INDEX": "2"}, (2,)),
        ({"CLOUD_RUN_TASK_INDEX": "2", "CLOUD_RUN_TASK_COUNT": "10"}, (2,)),
        (GRID_ENGINE, (2,)),
        ({"SGE_TASK_ID": "3"}, (2,)),
        ({"PBS_ARRAY_INDEX": "2"}, (2,)),
        ({"PARALLEL_SEQ": "3"}, (2,)),
        ({"LOGIST_ARRAY_INDEX": "2"}, (2,)),
    ],
    ids=str,
)
def test_a_task_of_an_array_makes_the_chunk_of_its_place(environ: dict[str, str], chunks: tuple[int, ...]) -> None:
    assert select(TEN, ["auto"], environ) == chunks


@pytest.mark.parametrize(
    ("environ", "chunks"),
    [
        ({"CLOUD_RUN_TASK_INDEX": "1", "CLOUD_RUN_TASK_COUNT": "4"}, (1, 5, 9)),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "2", "AWS_BATCH_JOB_ARRAY_SIZE": "4"}, (2, 6)),
        ({"JOB_COMPLETION_INDEX": "3", "LOGIST_ARRAY_SIZE": "4"}, (3, 7)),
        ({"PARALLEL_SEQ": "1", "LOGIST_ARRAY_SIZE": "3"}, (0, 3, 6, 9)),
        ({"LOGIST_ARRAY_INDEX": "0", "LOGIST_ARRAY_SIZE": "1"}, TEN),
        ({"CLOUD_RUN_TASK_INDEX": "0", "CLOUD_RUN_TASK_COUNT": "1"}, TEN),
        (
            {
                "SLURM_ARRAY_TASK_ID": "30",
                "SLURM_ARRAY_TASK_MIN": "10",
                "SLURM_ARRAY_TASK_MAX": "40",
                "SLURM_ARRAY_TASK_STEP": "10",
                "SLURM_ARRAY_TASK_COUNT": "4",
            },
            (2, 6),
        ),
        ({"SGE_TASK_ID": "5", "SGE_TASK_FIRST": "1", "SGE_TASK_LAST": "7", "SGE_TASK_STEPSIZE": "2"}, (2, 6)),
    ],
    ids=str,
)
def test_a_task_of_a_smaller_array_makes_several_chunks(environ: dict[str, str], chunks: tuple[int, ...]) -> None:
    assert select(TEN, ["auto"], environ) == chunks


@given(count=st.integers(1, 60), size=st.integers(1, 60), first=st.integers(0, 1), step=st.integers(1, 5))
def test_an_array_of_any_size_makes_every_chunk_once(count: int, size: int, first: int, step: int) -> None:
    ids = tuple(f"c{place}" for place in range(count))
    made: list[int | str] = []
    for place in range(min(size, count)):
        environ = {
            "SLURM_ARRAY_TASK_ID": str(first + place * step),
            "SLURM_ARRAY_TASK_MIN": str(first),
            "SLURM_ARRAY_TASK_MAX": str(first + (size - 1) * step),
            "SLURM_ARRAY_TASK_STEP": str(step),
            "SLURM_ARRAY_TASK_COUNT": str(size),
        }
        made += select(ids, ["auto"], environ)
    assert sorted(made, key=ids.index) == list(ids)


@pytest.mark.parametrize("variable", [scheduler.task for scheduler in SCHEDULERS])
def test_a_task_beyond_the_last_chunk_is_refused(variable: str) -> None:
    refused = problem(TEN, ["auto"], {variable: "11"})
    assert f"{variable}=11 is beyond the last of the spec's 10 chunks" in refused.message
    assert "10 tasks" in refused.hint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SLURM_ARRAY_TASK_MAX": "12"}, "the 10 indices of Slurm's array are no range"),
        ({"SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MAX": "18"}, "is no place in"),
        ({"SLURM_ARRAY_TASK_ID": "10"}, "is no place in an array of 10 that begins at 0"),
        ({"SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_MAX": "12"}, "is no place in an array of 10 that begins at 3"),
        (
            {
                "SLURM_ARRAY_TASK_ID": "5",
                "SLURM_ARRAY_TASK_MIN": "5",
                "SLURM_ARRAY_TASK_MAX": "5",
                "SLURM_ARRAY_TASK_COUNT": "1",
            },
            "is no place in an array of 1 that begins at 5",
        ),
    ],
)
def test_an_array_that_is_no_plain_range_is_refused(changes: dict[str, str], message: str) -> None:
    refused = problem(TEN, ["auto"], {**SLURM, **changes})
    assert message in refused.message
    assert "--chunk ID" in refused.hint


@pytest.mark.parametrize("environ", [{}, NO_GRID_ENGINE_ARRAY, {"LOGIST_ARRAY_SIZE": "3"}, {"SLURM_JOB_ID": "7"}])
def test_without_an_array_auto_is_refused(environ: dict[str, str]) -> None:
    refused = problem(TEN, ["auto"], environ)
    assert "no array index" in refused.message
    assert "Slurm" in refused.hint
    assert "`parallel -N0`" in refused.hint


def test_one_task_of_a_slurm_array_is_told_how_to_name_its_chunk() -> None:
    retried = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "1"}
    assert '--chunk "$SLURM_ARRAY_TASK_ID"' in problem(TEN, ["auto"], retried).hint


@given(name=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
@example(name="-x\n'\\ \x1b[31m\u202e\u00e4")
@example(name="a b")
def test_a_word_for_a_shell_is_one_word_that_is_safe_to_show(name: str) -> None:
    word = shell_word(name)
    assert word.isprintable()
    read = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert read.decode() in (name, f"./{name}")
    assert not read.startswith(b"-")


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", " 1", "1e3", "\u0661", "9" * 40, "0x1"])
@pytest.mark.parametrize("variable", ["SLURM_ARRAY_TASK_ID", "CLOUD_RUN_TASK_INDEX", "PARALLEL_SEQ"])
def test_an_index_that_is_no_number_is_refused_by_its_name(variable: str, value: str) -> None:
    assert f"{variable} is" in problem(TEN, ["auto"], {variable: value}).message


@pytest.mark.parametrize("variable", ["SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT", "LOGIST_ARRAY_SIZE"])
def test_a_size_that_is_no_number_is_refused_by_its_name(variable: str) -> None:
    assert f"{variable} is 'many'" in problem(TEN, ["auto"], {**SLURM, variable: "many"}).message


def test_a_sequence_that_counts_from_one_has_no_task_zero() -> None:
    assert "PARALLEL_SEQ=0 is no place" in problem(TEN, ["auto"], {"PARALLEL_SEQ": "0"}).message


def test_of_two_schedulers_the_inner_one_counts() -> None:
    inside_slurm = {**SLURM, "PARALLEL_SEQ": "8"}
    assert select(TEN, ["auto"], inside_slurm) == (7,)
    assert select(TEN, ["auto"], {**inside_slurm, "LOGIST_ARRAY_INDEX": "5"}) == (5,)
    assert select(TEN, ["auto"], {**SLURM, "JOB_COMPLETION_INDEX": "4"}) == (4,)
    assert select(TEN, ["auto"], {**SLURM, **NO_GRID_ENGINE_ARRAY}) == (2,)
    assert [scheduler.name for scheduler in SCHEDULERS] == [
        *("Logist", "GNU parallel", "Kubernetes", "Cloud Run", "AWS Batch", "Slurm", "Grid Engine", "PBS"),
    ]


def test_auto_and_names_go_together() -> None:
    assert select(TEN, ["9", "auto", "2"], SLURM) == (2, 9)


# --- What a target is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["-", "job.json", "gone/job.json", "https://x/y", "HTTP://x", "ftp://x/y", ".json"])
def test_a_spec_is_told_by_its_spelling(text: str) -> None:
    assert is_spec_target(text)


@pytest.mark.parametrize("text", ["", "job", "my-job.2", "job.jsonl", "gone/job", "a\0b", "x" * 5000, "a:/b"])
def test_anything_else_is_a_job(text: str) -> None:
    assert not is_spec_target(text)


def test_a_file_is_a_spec_and_a_folder_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec").touch()
    (tmp_path / "job").mkdir()
    (tmp_path / "job.json").mkdir()
    (tmp_path / "link").symlink_to("spec")
    assert is_spec_target("spec")
    assert is_spec_target("link")
    assert is_spec_target(str(tmp_path / "spec"))
    assert not is_spec_target("job")
    assert not is_spec_target("job.json")


def test_to_tell_a_spec_from_a_job_nothing_slow_is_imported() -> None:
    slow = ("dataclasses", "json", "pathlib", "pydantic", "urllib", "subprocess", "logist.models")
    code = f"import sys; import logist.chunk_selection; print(*sorted(set(sys.modules) & set({slow!r})))"
    ran = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.split() == []


def test_a_path_in_the_current_folder_is_shown_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert nearby(tmp_path / "a" / "b.json") == nearby("a/b.json") == "a/b.json"
    assert nearby("../b.json") == nearby(tmp_path.parent / "b.json") == str(tmp_path.parent / "b.json")
    assert nearby(f"{tmp_path}x") == f"{tmp_path}x"
