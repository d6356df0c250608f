"""Fills in the prompt templates: a project's own, else the packaged ones."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from logist.errors import InvalidFile
from logist.models.manifest import Check, CheckResult, Role
from logist.plain_text import plain_text

_PACKAGE = Path(__file__).parent
#: In a wheel, and beside the package in a checkout.
_PACKAGED = (_PACKAGE / "_prompts", _PACKAGE.parent / "prompts")
#: The template that asks for the reply alone, of an agent that knows the rest.
REPAIR = "repair"
_MAX_FILES = 200
_TILDES = re.compile(r"~+")


@dataclass(frozen=True)
class PromptContext:
    """What a prompt may tell: every field is a variable of the templates."""

    job_id: str
    objective: str
    role: Role
    step: int
    attempt: int
    phase: str
    reply_file: Path
    token: str
    #: The long form of the objective.
    prompt: str = ""
    #: From 1.
    phase_number: int = 1
    phase_count: int = 1
    #: The phase's instructions.
    instructions: str = ""
    objections: str = ""
    #: The checks that decide, and how they last ended.
    acceptance: tuple[Check, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    #: One line for each limit.
    budget_left: tuple[str, ...] = ()
    #: A human's words.
    guidance: str = ""
    #: For the supervisor: the worker's last summary, and what changed since the baseline.
    worker_summary: str = ""
    changed_files: tuple[str, ...] = ()
    #: The files that the worker named as evidence, and their sizes.
    evidence_files: tuple[str, ...] = ()
    #: The unified diff of what is judged, bounded and plain, and what it begins with.
    diff: str = ""
    diff_since: str = "the job began"
    #: Where more of it lies, by path from the workspace's top; empty: nothing was left out.
    diff_file: str = ""
    #: Paths of the workspace that are not in the evidence, and why.
    left_out: tuple[str, ...] = ()
    #: For the supervisor of a render: the spec and the report, from the workspace's top.
    spec: str = ""
    report: str = ""
    #: What renders made and git does not have, and why.
    media: tuple[str, ...] = ()
    #: The evidence commit that the job started from.
    baseline: str = ""
    #: Whether a reply file counts; else only what the final message ends with does.
    reply_by_file: bool = True
    #: Why the last attempt's reply could not be used, and what was received.
    problem: str = ""


def render(template: str, context: PromptContext, overrides: Path | None = None) -> str:
    """The prompt of a role, or `REPAIR`. A template in the folder `overrides` goes before the packaged one of its name.

    Raises InvalidFile when a template can't be read or filled in.
    """
    values = {field.name: getattr(context, field.name) for field in fields(context)}
    name = f"{template}.md"
    try:
        text = _environment(overrides).get_template(name).render(values)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        raise _unusable(getattr(error, "filename", None) or name, line, error, overrides) from error
    except (OSError, ValueError, TypeError, ArithmeticError, LookupError, RecursionError) as error:
        # What a template's own expressions can raise: `1/0`, `"a" + 1`, a file that is not UTF-8.
        raise _unusable(name, None, error, overrides) from error
    return text.strip("\n") + "\n"


def _unusable(name: str, line: int | None, error: Exception, overrides: Path | None) -> InvalidFile:
    where = f"{name}:{line}" if line else name
    folder = overrides or _PACKAGED[-1]
    return InvalidFile(
        f"the prompt template {where} can't be used: {error}", f"correct it in {folder}, or remove it there"
    )


@cache
def _environment(overrides: Path | None) -> SandboxedEnvironment:
    folders = ([overrides] if overrides is not None else []) + [folder for folder in _PACKAGED if folder.is_dir()]
    environment = SandboxedEnvironment(
        loader=FileSystemLoader(folders), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(block=block, line=line, listing=listing)
    return environment


def block(text: str, kind: str = "text") -> str:
    """`text` verbatim between tildes, more of them than any run in it: what is inside can't end the block."""
    longest = max((len(run) for run in _TILDES.findall(text)), default=0)
    fence = "~" * max(4, longest + 1)
    return f"{fence}{kind}\n{text.rstrip(chr(10))}\n{fence}"


def line(text: str) -> str:
    """`text` on one line."""
    return " ".join(text.split())


def listing(names: Iterable[str]) -> str:
    """One name a line, the first 200 of them and how many more there are."""
    lines = [line(plain_text(name)) for name in names]
    shown = lines[:_MAX_FILES]
    if len(lines) > len(shown):
        shown.append(f"... and {len(lines) - len(shown)} more")
    return "\n".join(shown) or "(nothing)"
