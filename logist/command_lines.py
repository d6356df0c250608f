"""How the command lines of a render spec are spelled: what runs them, and which files they name.

What Helios emits breaks in a shell (its URLs hold `&`, its paths are not quoted), so a line that begins with `helios`
or `logist` is split by Helios' own grammar. Every other line is the shell's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from logist.errors import AgentUnavailable

HELIOS = "helios"
LOGIST = "logist"
#: Commands of Helios that Logist has under the same name: they run on it where Helios is not installed.
OWN_COMMANDS = frozenset({"merge", "render"})

#: What JavaScript takes for white space. Python's set has 1c to 1f and 85 too, and no byte order mark.
_SPACES = "\t\n\v\f\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_ANY_SPACE = re.compile(f"[{_SPACES}]")
#: A run of what means itself, a backslash with what it escapes (nothing, at the very end), a quote, or white space.
_PART = re.compile(rf"([^{_SPACES}'\"\\]+)|\\(.?)|(['\"])|[{_SPACES}]+", re.DOTALL)
#: ASCII without quotes, escapes and the separators on which the two languages differ.
_SIMPLE = re.compile(r"[\t-\r !#-&(-\[\]-~]*")

_NPX_FLAGS = frozenset({"-y", "--yes", "--no-install", "--"})
_NPX_PACKAGES = frozenset({HELIOS, "@helios-project/cli"})
#: Options of `render` and `merge` that take no value; each other one takes the next word unless it holds a `=`.
_FLAGS = frozenset(
    {"--headless", "--no-headless", "--part", "--json", "--help", "-h", "--quiet", "-q", "--verbose", "--force"}
)
#: A short option with its value in the same word: `-oout.mp4`.
_ATTACHED = re.compile(r"-[^-].")
#: How Helios names the parts of a job. They were to have sound each; ours get it when they are merged, once for all.
_HELIOS_PART = re.compile(r"temp_\d+_\w+_part_\d+\.\w+", re.ASCII)
#: Before the options of a sound that a command line names: `music.mp3,offset=2`.
_SOUND_OPTIONS = re.compile(r",(?=[a-z-]*(?:=|,|$))")

#: A word of a shell line: anything but what ends one, with quoted and escaped parts; unclosed quotes mean themselves.
#: Before it, what makes it a file that is written.
_SHELL_WORD = re.compile(r"""(>[>|&]?\s*)?((?:[^\s'"\\|&;<>()`]+|\\.|'[^']*'|"(?:[^"\\]|\\.)*"|['"])+)""", re.DOTALL)
_PLAIN_WORD = re.compile(r"[\w./:=@%+,-]*")
_SHELL_QUOTING = re.compile(r"""\\(.)|'([^']*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Spelled(NamedTuple):
    """A command as it is started: an argument vector, or (`argv` is empty) a line for /bin/sh."""

    argv: tuple[str, ...]
    shell: str | None = None
    #: `helios`, `logist`, or empty for any other.
    program: str = ""
    #: The words after the program's name.
    arguments: tuple[str, ...] = ()

    @property
    def subcommand(self) -> str:
        """What `helios` or `logist` is told to do: its first word that is no option; empty for any other program."""
        return next((word for word in self.arguments if not word.startswith("-")), "") if self.program else ""


def split_helios(text: str) -> tuple[str, ...]:
    """The words of `text` as Helios reads them: nothing but quotes, backslashes and white space has a meaning.

    A backslash takes the next character as it is, also in single quotes, and is dropped at the end. A quote that is
    not closed ends with the text. Raises ValueError when there is no word.
    """
    words = tuple(text.split()) if _SIMPLE.fullmatch(text) else tuple(_helios_words(_trimmed(text)))
    if not words:
        raise ValueError("the command is empty")
    return words


def _trimmed(text: str) -> str:
    """Without white space around it, escaped or not: Helios trims before it reads."""
    start, end = 0, len(text)
    while start < end and _ANY_SPACE.match(text[start]):
        start += 1
    while end > start and _ANY_SPACE.match(text[end - 1]):
        end -= 1
    return text[start:end]


def _helios_words(text: str) -> Iterator[str]:
    # None: between two words. An empty list: in a word that has nothing yet, and may stay empty.
    word: list[str] | None = None
    quote = ""
    for part in _PART.finditer(text):
        plain, escaped, mark = part.groups()
        if escaped == "":
            break
        if plain is None and escaped is None and mark is None and not quote:
            if word is not None:
                yield "".join(word)
            word = None
            continue
        word = [] if word is None else word
        if mark is None or quote not in ("", mark):
            word.append(escaped or part[0])
        else:
            quote = "" if quote else mark
    if word is not None:
        yield "".join(word)


def spell(command: str | tuple[str, ...]) -> Spelled:
    """How a spec's command is started. An array is the argument vector as it is. Raises ValueError for an empty one."""
    if not isinstance(command, str):
        if not command or not command[0]:
            raise ValueError("the command is empty")
        return _known(command) or Spelled(command, arguments=command[1:])
    words = split_helios(command)
    return _known(words) or Spelled((), shell=command)


def _known(words: tuple[str, ...]) -> Spelled | None:
    """`words` when they start Helios or Logist."""
    if words[0] in (HELIOS, LOGIST):
        return Spelled(words, program=words[0], arguments=words[1:])
    if words[0] != "npx":
        return None
    package = next((place for place, word in enumerate(words[1:], 1) if word not in _NPX_FLAGS), len(words))
    if words[package : package + 1] and words[package] in _NPX_PACKAGES:
        return Spelled(words, program=HELIOS, arguments=words[package + 1 :])
    return None


def resolve(spelled: Spelled, which: Callable[[str], str | None], own: tuple[str, ...]) -> Spelled:
    """The command as this machine can run it. `which` finds a program; `own` starts this very Logist.

    Without Helios its `render` and `merge` are Logist's own, and `npx helios` is left to npx where that is found.
    Raises AgentUnavailable when nothing can run it.
    """
    if not spelled.program:
        return spelled
    if spelled.program == LOGIST:
        return spelled._replace(argv=(*own, *spelled.arguments))
    if which(HELIOS) is not None:
        return spelled._replace(argv=(HELIOS, *spelled.arguments))
    if spelled.subcommand in OWN_COMMANDS:
        part = ("--part",) if _makes_part_of_helios(spelled) else ()
        return spelled._replace(argv=(*own, *spelled.arguments, *part), program=LOGIST)
    if spelled.argv[0] == "npx" and which("npx") is not None:
        return spelled
    raise _unavailable(spelled)


def _makes_part_of_helios(spelled: Spelled) -> bool:
    words = spelled.arguments
    outputs = [value for flag, value in pairwise(words) if flag in ("-o", "--output")]
    return spelled.subcommand == "render" and any(
        _HELIOS_PART.fullmatch(name.rpartition("/")[2]) is not None for name in outputs
    )


def _unavailable(spelled: Spelled) -> AgentUnavailable:
    name = f"{spelled.program} {spelled.subcommand}".rstrip()
    shared = " and ".join(f"`helios {each}`" for each in sorted(OWN_COMMANDS))
    return AgentUnavailable(
        f"`{name}` needs the program helios, which is not installed",
        f"install Helios: npm install -g @helios-project/cli; without it only {shared} can run",
    )


# --- Which files a command names -----------------------------------------------------------------------------------


def merged_file(command: str | tuple[str, ...]) -> str | None:
    """The file that a `helios merge` or `logist merge` makes, as it is written there; None for any other command."""
    return next(iter(_positionals(command, "merge")), None)


def merge_inputs(command: str | tuple[str, ...]) -> tuple[str, ...]:
    """The parts that a `helios merge` or `logist merge` reads; none for any other command."""
    return _positionals(command, "merge")[1:]


def page_of(command: str | tuple[str, ...]) -> str | None:
    """The page that a `helios render` or `logist render` opens, a path or a URL; None for any other command."""
    return next(iter(_positionals(command, "render")), None)


def _positionals(command: str | tuple[str, ...], subcommand: str) -> tuple[str, ...]:
    try:
        spelled = spell(command)
    except ValueError:
        return ()
    if spelled.subcommand != subcommand:
        return ()
    return tuple(_without_options(spelled.arguments[spelled.arguments.index(subcommand) + 1 :]))


def _without_options(words: tuple[str, ...]) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        if word == "--":
            yield from rest
        elif not word.startswith("-") or word == "-":
            yield word
        elif "=" not in word and word not in _FLAGS and not word.startswith("--no-") and not _ATTACHED.match(word):
            next(rest, None)


@lru_cache(maxsize=256)
def input_words(command: str | tuple[str, ...]) -> tuple[str, ...]:
    """Every word of a command that could name a file, each once, in order: the caller looks which of them do.

    Of `NAME=value`, `--option=value` and `@file` the value counts too, of `sound.mp3,offset=2` what stands before the
    options, and of a quoted word (`sh -c "cat a"`) the words inside it. A file that output is sent to (`> a`) is none.
    Variables, globs and substitutions are not expanded.
    """
    try:
        spelled = spell(command)
    except ValueError:
        return ()
    words: Iterable[str] = spelled.argv if spelled.shell is None else _shell_words(spelled.shell)
    return tuple(dict.fromkeys(_candidates(words)))


def _candidates(words: Iterable[str]) -> Iterator[str]:
    for word in words:
        for part in (word,) if _PLAIN_WORD.fullmatch(word) else (word, *_shell_words(word)):
            value = part.partition("=")[2]
            yield from filter(None, (part, value, part[1:] if part.startswith("@") else ""))
            if "," in part:
                prefixes = (text[: found.start()] for text in (part, value) for found in _SOUND_OPTIONS.finditer(text))
                yield from filter(None, prefixes)


def _shell_words(line: str) -> tuple[str, ...]:
    """The words of a shell line as far as they can be told without running it, without what output is sent to."""
    return tuple(_unquoted(found[2]) for found in _SHELL_WORD.finditer(line) if found[1] is None)


def _unquoted(word: str) -> str:
    if not any(mark in word for mark in "'\"\\"):
        return word
    return _SHELL_QUOTING.sub(_quoted_content, word)


def _quoted_content(found: re.Match[str]) -> str:
    escaped, single, double = found.groups()
    if escaped is not None:
        return str(escaped)
    return str(single) if single is not None else _ESCAPED.sub(r"\1", double)
