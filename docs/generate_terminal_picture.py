"""Makes images/terminal.svg, the picture in the README: a real run of its first job, as a terminal shows it.

Run: .venv/bin/python docs/generate_terminal_picture.py     Times and commits differ each time, so no test compares it.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

import pexpect
from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).with_name("images") / "terminal.svg"
COLUMNS = 100
#: What stands in the picture for the folder that the job is really run in.
SHOWN_FOLDER = "~/project"
COMMANDS = (
    'logist job create . --id notes -o "State the objective in NOTES.md" --check "notes=test -s NOTES.md" '
    '--worker playbook --supervisor "command:grep Checked: NOTES.md"',
    "logist job run",
)
_PREPARE = "git init -q -b main && git -c user.name=you -c user.email=you@localhost commit -q --allow-empty -m Begin"
_FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
_SIGN = re.compile(r"\x1b\[\??[0-9;]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+")


def in_terminal(command: str, folder: Path) -> str:
    """What a command writes to a terminal. Raises RuntimeError when it fails."""
    environment = {
        "HOME": str(folder.parent),
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
        "USER": "you",
    }
    written, code = pexpect.run(
        f"/bin/sh -c '{command}'",
        timeout=120,
        withexitstatus=True,
        cwd=str(folder),
        env=environment,
        encoding="utf-8",
        dimensions=(40, COLUMNS),
    )
    if code != 0:
        raise RuntimeError(f"{command} ended with {code}:\n{written}")
    return str(written)


def rows_of(written: str) -> list[str]:
    """The rows that stay, with their colours: enough of a terminal for a footer that is drawn anew and taken away."""
    rows, row = [""], 0
    for sign in _SIGN.findall(written):
        if sign == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif sign == "\x1b[2K":
            rows[row] = ""
        elif sign.startswith("\x1b") and sign.endswith("A"):
            row -= int(sign[2:-1] or 1)
        elif sign != "\r" and (not sign.startswith("\x1b") or sign.endswith("m")):
            rows[row] += sign
    return rows


def picture() -> str:
    """The SVG of all commands and what they wrote."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "project"
        folder.mkdir()
        in_terminal(_PREPARE, folder)
        for command in COMMANDS:
            console.print(Text(f"$ {command}", "bold"))
            for row in rows_of(in_terminal(command, folder).replace(str(folder), SHOWN_FOLDER)):
                console.print(Text.from_ansi(row))
    # A picture fetches nothing: the viewer's own font will do.
    svg = _FONT_FACE.sub("", console.export_svg(title="logist", unique_id="logist"))
    return svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
