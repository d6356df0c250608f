"""What every test gets without asking: a home, git and environment of its own, and a check that it leaves no trace."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis.configuration import set_hypothesis_home_dir

pytest.register_assert_rewrite("logist.testing.adapter_contract")

ROOT = Path(__file__).resolve().parents[1]

#: A run in the background or below nohup ignores some; what is ignored stays so in the programs that tests stop.
for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

#: Git as every test sees it: nobody's configuration, and a known author.
GIT_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Test Author",
    "GIT_AUTHOR_EMAIL": "author@example.invalid",
    "GIT_COMMITTER_NAME": "Test Committer",
    "GIT_COMMITTER_EMAIL": "committer@example.invalid",
    "GIT_TERMINAL_PROMPT": "0",
}

#: What would make a command line draw in another way from one machine to the next.
_DISPLAY_VARIABLES = ("CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "PAGER")

#: The runner itself writes these while a test runs.
_RUNNER_VARIABLES = {"PYTEST_CURRENT_TEST"}

_SOURCE_FILES = {
    "README.md": "# Calc\n\nAdds numbers.\n",
    "src/calc.py": 'def add(a: int, b: int) -> int:\n    """Return the sum."""\n    return a + b\n',
    "tests/test_calc.py": "from calc import add\n\n\ndef test_add() -> None:\n    assert add(2, 3) == 5\n",
}

_HOSTILE_NAMES = [
    "two words.txt",
    " leading and trailing ",
    "-rf",
    "--help",
    "a'; echo foo",
    'double"quote',
    "$(touch pwned)",
    "`touch pwned`",
    "semi;colon&ampersand|pipe",
    "star*question?[brackets]",
    "{braces},%s%d{0}",
    "back\\slash",
    "new\nline",
    "tab\tcarriage\rreturn",
    "\x1b[31mred\x1b[0m",
    "bell\x07",
    "#comment",
    "!bang",
    ":(glob)magic",
    "~",
    "...",
    "HEAD",
    "caf\u00e9",  # composed, and the same word decomposed
    "cafe\u0301",
    "\u65e5\u672c\u8a9e.txt",
    "right\u202eto-left",
    "zero\u200bwidth",
    os.fsdecode(b"not-utf8-\xff\xfe"),
    "n" * 255,
]

#: Files whose tests wait for a Slurm, a cluster or a time-out more than they need a processor.
WAITING = frozenset(
    {
        "tests/test_adapter_contract.py",
        "tests/test_adapter_example.py",
        "tests/test_execution_dask.py",
        "tests/test_execution_slurm.py",
        "tests/test_jobs_on_dask.py",
        "tests/test_many_hosts.py",
    }
)

_home_numbers = itertools.count()

set_hypothesis_home_dir(ROOT / ".cache" / "hypothesis")
# No deadlines: how long an example takes says more about the machine than about the code.
_SLOW_MACHINE = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("dev", deadline=None, suppress_health_check=_SLOW_MACHINE)
hypothesis.settings.register_profile(
    "ci", deadline=None, suppress_health_check=_SLOW_MACHINE, derandomize=True, print_blob=True
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--slow`."""
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the slow tests unless asked for."""
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: runs with --slow"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let one process do all that waits, from the start; each other test goes to the next process that is free."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class WaitingApart(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "waiting" if nodeid.partition("::")[0] in WAITING else nodeid

    return WaitingApart(config, log)


@pytest.fixture(autouse=True)
def untouched_process() -> Iterator[None]:
    """Fail the test that leaves another environment or working directory behind than it found, and put both back."""
    environment, folder = dict(os.environ), Path.cwd()
    yield
    changed = sorted(
        name
        for name in (environment.keys() | os.environ.keys()) - _RUNNER_VARIABLES
        if environment.get(name) != os.environ.get(name)
    )
    for name in changed:
        if name in environment:
            os.environ[name] = environment[name]
        else:
            del os.environ[name]
    moved_to = _leave_for(folder)
    if hasattr(os, "sched_getscheduler"):
        assert os.sched_getscheduler(0) == os.SCHED_OTHER, "the test made this process a real-time one"
    assert not changed, f"the test changed the environment: {', '.join(changed)} (use monkeypatch.setenv)"
    assert moved_to is None, f"the test changed the working directory to {moved_to} (use monkeypatch.chdir)"


def _leave_for(folder: Path) -> str | None:
    """Go back to `folder`; return where we were when that was somewhere else."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        os.chdir(folder)
        return "a folder that is gone"
    if here == folder:
        return None
    os.chdir(folder)
    return str(here)


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def home(untouched_process: None, _homes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own empty home: nothing of the real one, of its git or its settings is seen, here or in a child."""
    home = _homes / str(next(_home_numbers))
    home.mkdir()
    for name in os.environ:
        if name.startswith(("GIT_", "LOGIST_", "XDG_")) or name in _DISPLAY_VARIABLES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    folders = {"CONFIG": ".config", "DATA": ".local/share", "STATE": ".local/state", "CACHE": ".cache"}
    for kind, folder in folders.items():
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / folder))
    for name, value in GIT_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return home


def _git(folder: Path, *arguments: str, date: str = "@1700000000 +0000") -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": os.devnull, **GIT_ENVIRONMENT}
    environment |= {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True)


@pytest.fixture(scope="session")
def _source_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source-template")
    for name, text in _SOURCE_FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    _git(folder, "init", "--quiet", "--template=", "--initial-branch=main")
    _git(folder, "add", "README.md")
    _git(folder, "commit", "--quiet", "--message=Say what this is")
    _git(folder, "add", ".")
    _git(folder, "commit", "--quiet", "--message=Add the sum", date="@1700000060 +0000")
    return folder


@pytest.fixture
def source_repo(tmp_path: Path, _source_template: Path) -> Path:
    """A small clean git repository with two commits on main; their ids are always the same."""
    folder = tmp_path / "source"
    shutil.copytree(_source_template, folder)
    return folder


@pytest.fixture
def hostile_names() -> list[str]:
    """Names a worker may leave behind, each one path component that the file system takes."""
    return list(_HOSTILE_NAMES)


@pytest.fixture(scope="session")
def browser_path() -> str:
    """A browser that can render. Without one the test is skipped, or fails where LOGIST_REQUIRE_BROWSER is set."""
    from logist.errors import BrowserMissing
    from logist.render.browser import find_browser

    try:
        return find_browser(None, os.environ).path
    except BrowserMissing as missing:
        if os.environ.get("LOGIST_REQUIRE_BROWSER"):
            pytest.fail(f"{missing}; {missing.hint}")
        pytest.skip(f"{missing}; {missing.hint}")
