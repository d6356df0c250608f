"""The Dockerfile of the worker image, as far as that can be checked without an engine that builds it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from specs import spec, write_spec

from logist.cli import run

ROOT = Path(__file__).resolve().parents[1]


class Instruction(NamedTuple):
    """One instruction of the Dockerfile, on one line."""

    name: str
    rest: str


def instructions() -> list[Instruction]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in lines if line]


def all_of(name: str) -> list[str]:
    return [each.rest for each in instructions() if each.name == name]


def copied() -> list[str]:
    return [source for line in all_of("COPY") for source in line.split()[:-1]]


def test_all_that_is_copied_is_there_and_not_ignored() -> None:
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    }
    assert set(copied()) == let_through
    assert all((ROOT / name).exists() for name in copied())


def test_the_package_can_be_built_from_what_is_copied_with_the_extras_that_are_named(tmp_path: Path) -> None:
    for line in all_of("COPY"):
        *sources, place = line.split()
        target = tmp_path / Path(place).relative_to("/usr/src")
        for name in sources:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target)
            else:
                target.mkdir(exist_ok=True)
                shutil.copy(ROOT / name, target)
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=tmp_path / "logist", check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    started = subprocess.run(
        [sys.executable, "-m", "logist", "schema", "job-spec"],
        cwd=tmp_path / "installed",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        check=True,
        capture_output=True,
    )
    assert json.loads(started.stdout)["title"] == "RenderJobSpec"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    [argument] = all_of("ARG")
    assert set(argument.removeprefix("EXTRAS=").split(",")) <= extras.keys()
    assert any('"/usr/src/logist[${EXTRAS}]"' in line for line in all_of("RUN"))


def test_the_browser_is_the_one_that_is_installed_elsewhere_too() -> None:
    [packages] = [line for line in all_of("RUN") if "apt-get" in line]
    script = (ROOT / "scripts" / "install-browser.sh").read_text(encoding="utf-8")
    for package in ("chromium-headless-shell", "fonts-dejavu-core"):
        assert package in packages
        assert package in script


@pytest.mark.parametrize("line", all_of("RUN"))
def test_a_step_is_shell_without_a_syntax_error(line: str) -> None:
    checked = subprocess.run(["sh", "-n", "-c", line], capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")
    assert shlex.split(line)[0] in ("apt-get", "pip", "useradd")


def test_what_a_container_starts_is_logist_as_a_user_that_kubernetes_lets_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert [json.loads(line) for line in all_of("ENTRYPOINT")] == [["logist"]]
    [user] = all_of("USER")
    [made] = [line.split() for line in all_of("RUN") if line.startswith("useradd")]
    assert made[made.index("--uid") + 1] == user
    monkeypatch.chdir(tmp_path)
    write_spec(tmp_path, spec(["true"]))
    assert run(["export-job", "job.json", "--target", "k8s", "--image", "logist", "--volume", "films"]) == 0
    pod = yaml.safe_load(capfdbinary.readouterr().out)["spec"]["template"]["spec"]
    assert pod["securityContext"]["fsGroup"] == int(user)
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == all_of("WORKDIR")[0]


def test_a_worker_needs_no_program_that_the_image_lacks(tmp_path: Path) -> None:
    write_spec(tmp_path, spec(["echo made > out"], outputs=["out"]))
    ran = subprocess.run(
        [sys.executable, "-m", "logist", "job", "run", "job.json", "--chunk", "auto", "--no-merge"],
        cwd=tmp_path,
        # Nothing is found here: no git either.
        env={**os.environ, "PATH": str(tmp_path), "LOGIST_ARRAY_INDEX": "0", "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "out").read_text() == "made\n"
