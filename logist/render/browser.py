"""Which Chromium renders: the one that is asked for, or the first that is found here."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from logist.errors import BrowserMissing, UsageProblem

#: Names the browser's program, as `--browser` does.
BROWSER_VARIABLE = "LOGIST_BROWSER"

#: What to do about a browser that was killed before it was there.
KILLED_HINT = "try again; where memory is short, the system kills whatever takes most"

#: The shell first: it shows frames when it is told to, which makes it several times as fast.
_SHELLS = ("chromium-headless-shell", "chrome-headless-shell", "headless_shell")
_FULL = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
#: Playwright's folders and, at any depth below them, the programs in them.
_PLAYWRIGHT_SHELLS = ("chromium_headless_shell-*", ("chrome-headless-shell", "headless_shell"))
_PLAYWRIGHT_FULL = ("chromium-*", ("chrome",))
#: Name the display of Linux's two kinds of desktop.
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
_VERSION_TIME = 20.0


@dataclass(frozen=True)
class Browser:
    """A Chromium that is there and can be executed."""

    path: str
    #: Whether it is a build without any window, told by its name.
    headless_shell: bool
    #: Who named it: `--browser`, `LOGIST_BROWSER`, `PATH` or `Playwright`.
    origin: str

    @cached_property
    def version(self) -> str:
        """What the program says of itself; it is started to find out. Raises BrowserMissing when it is no browser."""
        return _ask_version(self.path)


def find_browser(path: str | None, environ: Mapping[str, str], *, headless: bool = True) -> Browser:
    """The browser to render with: `path`, else LOGIST_BROWSER, else the first on PATH or of Playwright's.

    Without `headless` a build that has windows is looked for. Raises BrowserMissing.
    """
    for name, origin in ((path, "--browser"), (environ.get(BROWSER_VARIABLE), BROWSER_VARIABLE)):
        if name:
            return _named(name, origin, environ)
    shells = _SHELLS if headless else ()
    if (found := _on_path((*shells, *_FULL), environ)) is not None:
        return _browser(found, "PATH")
    if (found := _of_playwright(environ, headless=headless)) is not None:
        return _browser(found, "Playwright")
    raise BrowserMissing("no browser that can render was found", install_hint(environ))


def check_display(environ: Mapping[str, str]) -> None:
    """Whether a browser's window has a place to be shown. Raises UsageProblem."""
    if sys.platform == "linux" and not any(environ.get(name) for name in _DISPLAYS):
        raise UsageProblem(
            "there is no display that a browser's window could be shown on",
            f"render without --no-headless, or set {' or '.join(_DISPLAYS)}",
        )


def install_hint(environ: Mapping[str, str]) -> str:
    """The one command that installs a browser here."""
    if _is_debian() and shutil.which("apt-get", path=environ.get("PATH")):
        return f"install one: {'' if os.geteuid() == 0 else 'sudo '}apt-get install -y chromium-headless-shell"
    return "install one: pip install playwright && playwright install --only-shell chromium"


def _named(name: str, origin: str, environ: Mapping[str, str]) -> Browser:
    found = shutil.which(str(Path(name).expanduser()), path=environ.get("PATH"))
    if found is not None:
        return _browser(found, origin)
    if "/" not in name:
        problem = "is not on PATH"
    elif not Path(name).expanduser().exists():
        problem = "is not there"
    else:
        problem = "is no program that can be executed"
    raise BrowserMissing(f"the browser {name} ({origin}) {problem}", f"name another, or none; {install_hint(environ)}")


def _browser(path: str, origin: str) -> Browser:
    names = {Path(path).name, Path(path).resolve().name}
    return Browser(path, any(shell in name for shell in _SHELLS for name in names), origin)


def _on_path(names: Iterable[str], environ: Mapping[str, str]) -> str | None:
    places = (shutil.which(name, path=environ.get("PATH")) for name in names)
    return next((place for place in places if place is not None), None)


def _of_playwright(environ: Mapping[str, str], *, headless: bool) -> str | None:
    named = environ.get("PLAYWRIGHT_BROWSERS_PATH", "")
    # "0" is Playwright's word for a folder inside its own package.
    home = Path(environ.get("HOME") or Path.home())
    root = Path(named) if named not in ("", "0") else home / ".cache" / "ms-playwright"
    for pattern, programs in (*((_PLAYWRIGHT_SHELLS,) if headless else ()), _PLAYWRIGHT_FULL):
        for folder in sorted(root.glob(pattern), key=_build, reverse=True):
            for program in programs:
                for place in sorted(folder.rglob(program)):
                    if place.is_file() and os.access(place, os.X_OK):
                        return str(place)
    return None


def _build(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def _is_debian() -> bool:
    # Ubuntu has apt-get, but no such package.
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r'^ID="?(debian|raspbian)"?$', text, re.MULTILINE) is not None


def _ask_version(path: str) -> str:
    from logist.execution import Command
    from logist.execution.local import LocalWorkerAdapter

    adapter = LocalWorkerAdapter()
    try:
        result = adapter.run(Command(Path("/"), dict(os.environ), (path, "--version"), timeout=_VERSION_TIME))
    finally:
        adapter.close()
    if result.signal:
        raise BrowserMissing(f"{path} was killed by signal {result.signal} before it told its version", KILLED_HINT)
    said = result.stdout.head.decode(errors="replace").strip()
    if not result.ok or re.search(r"chrom|edge", said, re.IGNORECASE) is None:
        raise BrowserMissing(f"{path} is no Chromium: it does not tell its version", install_hint(os.environ))
    return said.splitlines()[0].strip()
