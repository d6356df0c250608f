"""The adapter in examples/ as a user has it: built, installed beside Logist, and found by its name."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from specs import spec, write_spec

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "adapters" / "nice"

Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with nothing in it but Logist and the adapter, each from its wheel."""
    wheels, packages = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("packages")
    for project in (ROOT, EXAMPLE):
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(wheels)]
        subprocess.run(build, cwd=project, check=True, capture_output=True)
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-index",
        "--no-deps",
        "--no-compile",
        "--target",
        str(packages),
    ]
    subprocess.run([*install, *map(str, wheels.glob("*.whl"))], check=True, capture_output=True)
    return packages


@pytest.fixture
def python(installed: Path, tmp_path: Path) -> Python:
    """Runs Python in `tmp_path`; it finds the installed packages first."""

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)},
            check=False,
            capture_output=True,
            text=True,
            timeout=240,
        )

    return python


def test_a_spec_runs_where_an_installed_adapter_says(python: Python, tmp_path: Path) -> None:
    job = write_spec(tmp_path, spec(["nice > out"], outputs=["out"]))
    ran = python("-m", "logist", "job", "run", str(job), "--adapter", "nice", "--adapter-option", "niceness=7")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "out").read_text() == "7\n"


def test_what_an_installed_adapter_refuses_is_one_error_and_one_hint(python: Python, tmp_path: Path) -> None:
    job = write_spec(tmp_path, spec(["nice > out"], outputs=["out"]))
    ran = python("-m", "logist", "job", "run", str(job), "--adapter", "nice", "--adapter-option", "niceness=high")
    assert (ran.returncode, [line.split(":")[0] for line in ran.stderr.splitlines()]) == (2, ["Error", "Hint"])
    assert not (tmp_path / "out").exists()


FAR_PLACE = """
from logist.errors import UsageProblem

def open_far(options):
    raise UsageProblem("no host is given", "give --adapter-option host=NAME")
"""


def test_the_doctor_lists_adapters_and_says_what_is_wrong_with_them(python: Python, tmp_path: Path) -> None:
    info = tmp_path / "places-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: places\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[logist.adapters]\nfar = far_place:open_far\nlost = no_such_module:open\n")
    (tmp_path / "far_place.py").write_text(FAR_PLACE)
    findings = {row["name"]: row for row in json.loads(python("-m", "logist", "doctor", "--json").stdout)}
    told = findings["adapters"]["detail"]
    assert findings["adapters"]["ok"]
    assert told.startswith("local, ")
    assert re.search(r"far \(needs options\), not lost: .*no_such_module.*, nice$", told)


@pytest.mark.slow
def test_the_example_passes_its_own_tests_and_the_contract(python: Python, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    shutil.copy(EXAMPLE / "pyproject.toml", tmp_path)
    ran = python("-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--strict-config", "tests")
    assert ran.returncode == 0, ran.stdout
    assert "skipped" not in ran.stdout
