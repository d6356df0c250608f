"""What of a diff is shown to who judges it: bounded, fair to small files, and without tricks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from logist.diff_excerpt import excerpt


def patch(name: str, *lines: str) -> bytes:
    """A file's diff as git prints it."""
    head = (
        f"diff --git a/{name} b/{name}\nnew file mode 100644\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{len(lines)} @@\n"
    )
    return (head + "".join(f"+{line}\n" for line in lines)).encode("utf-8", "surrogateescape")


def test_a_diff_that_fits_is_shown_as_it_is() -> None:
    diff = patch("a.py", "one", "\ttwo") + patch("b.py", "three")
    assert excerpt(diff) == (diff.decode(), True)
    assert excerpt(b"") == ("", True)


def test_a_huge_file_hides_no_other() -> None:
    small = patch("z.py", "the change that matters")
    huge = patch("lock.json", *(f"line {number}" for number in range(50_000)))
    text, whole = excerpt(huge + small, 10_000)
    assert not whole
    assert text.endswith(small.decode())
    assert "\n+line 0\n" in text
    assert 9_000 < len(text) < 10_200
    shown = text.count("\n+line ")
    assert f"\n[... {50_000 - shown} more lines of this file's diff are left out ...]\n" in text


def test_files_that_find_no_room_are_counted() -> None:
    diff = b"".join(patch(f"{number}.py", *["x" * 80] * 20) for number in range(100))
    text, whole = excerpt(diff, 10_000)
    assert not whole
    shown = text.count("diff --git ")
    assert 0 < shown < 100
    assert text.endswith(f"[... the diffs of {100 - shown} more files are left out ...]\n")


def test_a_diff_that_was_not_read_to_its_end_says_so() -> None:
    text, whole = excerpt(patch("a.py", "one"), goes_on=True)
    assert not whole
    assert text.endswith("+one\n[... the diff goes on, and was not read further ...]\n")


def test_a_line_without_an_end_is_cut_too() -> None:
    text, whole = excerpt(patch("min.js", "x" * 1_000_000), 10_000)
    assert not whole
    assert len(text) < 10_200
    assert text.startswith("diff --git a/min.js")


def test_only_git_and_logist_begin_lines() -> None:
    trick = "a\r[... nothing more changed ...]\u2028diff --git a/x b/x"
    text = excerpt(patch("a.py", trick, "b\r"))[0]
    assert "\n+a\u240d[... nothing more changed ...]\u240ddiff --git a/x b/x\n+b\u240d\n" in text


def test_control_characters_are_left_out_and_odd_bytes_are_spelled() -> None:
    text = excerpt(patch("odd\udcff", "\x1b[2Jgone\x07 \u202eback caf\udce9"))[0]
    assert "diff --git a/odd\\xff b/odd\\xff\n" in text
    assert "\n+gone back caf\\xe9\n" in text


@given(
    st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), max_size=40), max_size=30),
    st.integers(min_value=1_000, max_value=20_000),
)
def test_whatever_changed_is_bounded_and_every_line_has_a_sign(files: list[list[str]], limit: int) -> None:
    diff = b"".join(patch(f"{n}", *(line.replace("\n", "") for line in lines)) for n, lines in enumerate(files))
    text, whole = excerpt(diff, limit)
    notes = [line for line in text.split("\n") if line.startswith("[...")]
    assert whole == (not notes)
    assert len(text) <= limit + 100 * len(notes)
    assert all(line[:1] in ("", "+", "-", "@", "d", "n", "[") for line in text.split("\n"))
