"""How command lines are split, what runs them, and which files they name."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logist.command_lines import (
    Spelled,
    input_words,
    merge_inputs,
    merged_file,
    page_of,
    resolve,
    spell,
    split_helios,
)
from logist.errors import AgentUnavailable, ExitCode

OWN = ("/usr/bin/python3", "-m", "logist")
RENDER = "helios render page.html -o part_0.mov --start-frame 0 --frame-count 15 --no-headless --audio-codec pcm_s16le"


def quoted(word: str) -> str:
    """A word so that Helios reads it back: in quotes, and what means something in them escaped."""
    return '"' + "".join(f"\\{char}" if char in "\\\"'" else char for char in word) + '"'


def escaped(word: str) -> str:
    """The same without quotes; an empty word can't be written so."""
    return "".join(f"\\{char}" for char in word) or "''"


def which(*found: str) -> Callable[[str], str | None]:
    return lambda name: f"/usr/bin/{name}" if name in found else None


# --- Helios' grammar -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b", ["a", "b"]),
        ("  a \t\n b\r\n", ["a", "b"]),
        ("a 'b c' d", ["a", "b c", "d"]),
        ("a \"b  c\"d'e f'", ["a", "b  cde f"]),
        ("a '' \"\"", ["a", "", ""]),
        (r"a\ b c", ["a b", "c"]),
        (r"'a\nb'", ["anb"]),
        (r'"a\tb"', ["atb"]),
        (r"'it\'s'", ["it's"]),
        (r"a\\b", ["a\\b"]),
        ("a\\", ["a"]),
        ("a \\", ["a"]),
        ("a b\\ ", ["a", "b"]),  # trimmed first, so that there is nothing left to escape
        ("a 'b c", ["a", "b c"]),
        ("\"a'b\" 'c\"d'", ["a'b", 'c"d']),
        ("http://x/?a=1&b=2 $HOME;y | > ~ # `q`", ["http://x/?a=1&b=2", "$HOME;y", "|", ">", "~", "#", "`q`"]),
        ("FOO=1 cmd && x", ["FOO=1", "cmd", "&&", "x"]),
        ("a\u00a0b\u3000c\ufeffd\u2009e", ["a", "b", "c", "d", "e"]),
        ("a\u200bb\x1cc\x85d", ["a\u200bb\x1cc\x85d"]),
    ],
)
def test_words_are_split_as_helios_splits_them(text: str, words: list[str]) -> None:
    assert split_helios(text) == tuple(words)


@pytest.mark.parametrize("text", ["", "  \n\t ", "\ufeff", "\\", " \\ "])
def test_a_command_without_a_word_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        split_helios(text)


@given(
    st.lists(st.text(), min_size=1), st.sampled_from([quoted, escaped]), st.sampled_from([" ", "\n", "\t  ", "\u2003"])
)
def test_words_that_are_quoted_come_back_as_they_were(
    words: list[str], written: Callable[[str], str], space: str
) -> None:
    # The escaped form of a last white space would be trimmed: Helios trims before it reads.
    assert split_helios(space.join([*map(written, words), "end"])) == (*words, "end")


@given(st.text(alphabet="ab \t\n'\"\\\u00a0\x1c", max_size=40))
def test_no_text_breaks_the_grammar_and_no_character_is_made_up(text: str) -> None:
    try:
        words = split_helios(text)
    except ValueError:
        return
    rest = iter(text)
    assert all(char in rest for char in "".join(words))


@given(st.lists(st.text(alphabet="abc-_./:=&$;", min_size=1), min_size=1))
def test_plain_words_are_split_at_their_spaces(words: list[str]) -> None:
    assert split_helios("  ".join(words)) == tuple(words)


# --- What runs a command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "program", "subcommand"),
    [
        (RENDER, "helios", "render"),
        ("  helios merge out.mp4 a.mov", "helios", "merge"),
        ("'helios' render x", "helios", "render"),
        ('"helios" render x', "helios", "render"),
        ("npx helios render x", "helios", "render"),
        ("npx --yes helios render x", "helios", "render"),
        ("npx -y @helios-project/cli render x", "helios", "render"),
        ("logist merge out.mp4 a.mov", "logist", "merge"),
        ("logist --debug job run x.json", "logist", "job"),
        ("helios --version", "helios", ""),
        ("helios", "helios", ""),
    ],
)
def test_helios_and_logist_never_see_a_shell(line: str, program: str, subcommand: str) -> None:
    spelled = spell(line)
    assert spelled.shell is None
    assert spelled.argv == split_helios(line)
    assert (spelled.program, spelled.subcommand) == (program, subcommand)


@pytest.mark.parametrize(
    "line",
    [
        "helios-like foo",
        "./helios render x",
        "/opt/bin/helios render x",
        "heliosx",
        "Helios render x",
        "helios;rm x",
        "helios&&true",
        "helios>log",
        "$helios",
        "HELIOS=1 helios render x",
        "env helios render x",
        "exec helios render x",
        "cd scenes && helios render x",
        "npx other helios",
        "npx helios@1.2 render x",
        "npx",
        "npx --yes",
        "echo helios",
        "'helios render' x",
        r"helios\ render x",
        "true",
        "echo 'a\nb' | cat > $OUT; exit 3",
    ],
)
def test_every_other_line_goes_to_the_shell_as_it_is(line: str) -> None:
    assert spell(line) == Spelled((), shell=line)
    assert spell(line).subcommand == ""


def test_an_array_is_an_argument_vector_whatever_it_holds() -> None:
    assert spell(("sh", "-c", "a | b")) == Spelled(("sh", "-c", "a | b"), arguments=("-c", "a | b"))
    assert spell(("helios", "render", "a b.html")).program == "helios"
    assert spell(("helios render", "x")).program == ""


@pytest.mark.parametrize("command", ["", "   ", (), ("",), ("", "a")])
def test_an_empty_command_is_refused(command: str | tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="empty"):
        spell(command)


@given(st.lists(st.text(), max_size=5))
def test_whatever_follows_helios_reaches_it_as_its_words(words: list[str]) -> None:
    line = " ".join(["helios", "render", *map(quoted, words), "end"])
    assert spell(line) == Spelled(
        ("helios", "render", *words, "end"), program="helios", arguments=("render", *words, "end")
    )


def test_logist_runs_on_this_very_installation() -> None:
    resolved = resolve(spell("logist merge 'out a.mp4' a.mov"), which("helios", "logist"), OWN)
    assert resolved.argv == (*OWN, "merge", "out a.mp4", "a.mov")


def test_helios_runs_where_it_is_installed() -> None:
    for line in (RENDER, f"npx --yes {RENDER}", f"npx {RENDER}"):
        assert resolve(spell(line), which("helios", "npx"), OWN).argv == split_helios(RENDER)


@pytest.mark.parametrize("line", ["merge out.mp4 a.mov", "render page.html -o out.mp4 --width 640"])
def test_without_helios_its_commands_that_logist_has_are_logists_own(line: str) -> None:
    for helios in ("helios", "npx helios"):
        resolved = resolve(spell(f"{helios} {line}"), which("npx"), OWN)
        assert resolved.argv == (*OWN, *line.split())
        assert resolved.program == "logist"


@pytest.mark.parametrize(
    ("output", "part"),
    [
        ("temp_1770000000000_k3j9x2_part_0.mov", True),
        ("out/temp_1770000000000_k3j9x2_part_12.mov", True),
        ("part_0.mov", False),
        ("temp_1770000000000_k3j9x2_part_0.mov/x.mp4", False),
    ],
)
def test_a_part_that_helios_planned_is_rendered_as_a_part(output: str, part: bool) -> None:
    resolved = resolve(spell(f"helios render page.html -o {output} --audio-codec pcm_s16le"), which(), OWN)
    assert ("--part" in resolved.argv) is part
    assert "--part" not in resolve(spell(f"logist render page.html -o {output}"), which(), OWN).argv
    assert "--part" not in resolve(spell(f"helios render page.html -o {output}"), which("helios"), OWN).argv


def test_without_helios_npx_runs_what_logist_does_not_have() -> None:
    line = "npx --yes helios studio film"
    assert resolve(spell(line), which("npx"), OWN) == spell(line)


@pytest.mark.parametrize("line", ["helios studio", "helios", "npx helios preview x", "helios job run x.json"])
def test_what_nothing_here_can_run_is_an_error_that_says_what_to_install(line: str) -> None:
    with pytest.raises(AgentUnavailable) as caught:
        resolve(spell(line), which(), OWN)
    assert caught.value.exit_code == ExitCode.INVALID
    assert "install Helios" in caught.value.hint
    assert " ".join(word for word in line.split()[:2] if word != "npx") in caught.value.message


def test_any_other_command_stays_as_it_is() -> None:
    for command in ("ffmpeg -i a b", ("ffmpeg", "-i", "a", "b")):
        assert resolve(spell(command), which(), OWN) == spell(command)


# --- Which files a command names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "output", "parts"),
    [
        ("helios merge out.mp4 a.mov b.mov", "out.mp4", ("a.mov", "b.mov")),
        ("helios merge out.mp4 a.mov b.mov --audio-codec aac --quality 23", "out.mp4", ("a.mov", "b.mov")),
        ("helios merge --video-codec libx264 --quality=23 'out a.mp4' a.mov", "out a.mp4", ("a.mov",)),
        ("npx helios merge out.mp4", "out.mp4", ()),
        ("logist merge -- -odd.mp4 a.mov", "-odd.mp4", ("a.mov",)),
        ("logist merge --force out.mp4 a.mov", "out.mp4", ("a.mov",)),
        (("helios", "merge", "out b.mp4", "a.mov"), "out b.mp4", ("a.mov",)),
        ("helios merge", None, ()),
        ("helios render merge -o x", None, ()),
        ("ffmpeg -f concat -i list.txt out.mp4", None, ()),
        ("cd x && helios merge out.mp4 a.mov", None, ()),
        ("", None, ()),
        ((), None, ()),
    ],
)
def test_the_files_of_a_merge_are_known(
    command: str | tuple[str, ...], output: str | None, parts: tuple[str, ...]
) -> None:
    assert merged_file(command) == output
    assert merge_inputs(command) == parts


@pytest.mark.parametrize(
    ("command", "page"),
    [
        (RENDER, "page.html"),
        ("helios render --width 640 --no-headless http://x/a.html?b=1&c=2 -o y", "http://x/a.html?b=1&c=2"),
        ("logist render --width=640 page.html", "page.html"),
        ("logist render --part --json -q -oout.mp4 --no-headless page.html", "page.html"),
        ("logist render -o x.mov --part page.html", "page.html"),
        ("logist render --audio a.mp3,offset=1 --props @p.json './-x.html' --part", "./-x.html"),
        ("helios merge out.mp4 a.mov", None),
        ("ffmpeg render page.html", None),
        ("helios render", None),
        ("   ", None),
    ],
)
def test_the_page_of_a_render_is_known(command: str, page: str | None) -> None:
    assert page_of(command) == page


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("cat a.txt 'b c.txt' \"d e\" f\\ g", {"a.txt", "b c.txt", "d e", "f g"}),
        ("cat <a.txt| sort;tr x y<b.txt&", {"a.txt", "b.txt"}),
        ("SCENE=a.json tool --input=b.json if=c.raw @d.txt", {"a.json", "b.json", "c.raw", "d.txt"}),
        ("x $(cat a.txt) `cat b.txt` (cat c.txt)", {"a.txt", "b.txt", "c.txt"}),
        ("sh -c 'cat a.txt | sort b.txt'", {"a.txt", "b.txt"}),
        ("cat b.txt 'a.txt", {"b.txt"}),  # a shell would refuse it
        ("cat a.txt\ncat b.txt", {"a.txt", "b.txt"}),
        ("cat \"it's\" 'a\"b'", {"it's", 'a"b'}),
        (("tool", "a b.txt", "--x=c.txt"), {"tool", "a b.txt", "c.txt"}),
        (RENDER, {"page.html"}),
        ("logist merge o.mp4 a.mov --audio 'a b,c.mp3,offset=1/3,loop=true'", {"a.mov", "a b,c.mp3"}),
        ("logist merge o.mp4 a.mov --audio=a.mp3,offset=1", {"a.mp3"}),
        ("logist merge o.mp4 a.mov --audio a,volume=2,", {"a,volume=2"}),
        ("'", set()),
        ("", set()),
        ((), set()),
    ],
)
def test_every_word_that_could_name_an_input_is_given(command: str | tuple[str, ...], words: set[str]) -> None:
    found = input_words(command)
    assert words <= set(found)
    assert len(set(found)) == len(found)
    assert "" not in found


def test_a_file_that_output_is_sent_to_is_no_input() -> None:
    words = input_words("tool a.txt >b.log 2> c.log >>d.log &>e.log >|f.log <g.txt 2>&1")
    assert {"tool", "a.txt", "g.txt"} <= set(words)
    assert not {word for word in words if word.endswith(".log")}


@given(st.lists(st.text(min_size=1).filter(lambda word: "\0" not in word), min_size=1, max_size=4))
def test_a_word_that_a_shell_would_pass_on_is_found(words: list[str]) -> None:
    found = input_words("printf x " + " ".join(map(shlex.quote, words)))
    assert set(words) <= set(found)


@pytest.mark.parametrize("piece", ["'", '"', '"\\', "\\", "'\"", "(", "a=", ">", "' \" "])
def test_no_line_is_slow_to_read(piece: str) -> None:
    line = piece * (100_000 // len(piece))
    input_words(line)
    input_words(("x", line))
    spell(f"x {line}")


def test_the_words_of_a_shell_line_are_those_that_the_shell_itself_makes() -> None:
    line = """printf '%s\\n' a 'b c' "d\\"e" f\\'g h'i'"j" """
    ran = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
    assert set(ran.stdout.splitlines()) <= set(input_words(line))
