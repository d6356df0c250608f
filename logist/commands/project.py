"""`logist init` and `logist schema`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from logist.commands.output import print_json, tell
from logist.commands.parameters import json_option
from logist.errors import StorageFailed

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

    from logist.commands.invocation import Invocation

SCHEMAS = ("config", "history", "job-file", "job-manifest", "job-spec", "reply", "report")

CONFIG_TEMPLATE = """\
# Logist's settings for this project. Every line here is a default; take the # away to change it.
# Flags and LOGIST_* variables go before this file. No secrets belong in it.

# Commands that must exit with 0 before a supervisor looks at the work.
# checks = ["pytest -q", "ruff check ."]

# The same outcome this often in a row is no progress.
# no_progress_limit = 3

# Who works, and who judges: `playbook` (scripted, asks no model), `command`, an agent CLI, or an agent from below.
# Two different agents are better than one: who judges should not be who did the work.
# [roles.worker]
# agent = "command"
# argument = "make all"
# timeout = "30m"

# [roles.supervisor]
# agent = "playbook"

# What a job may spend.
# [budget]
# steps = 30
# retries = 3
# time = "2h"

# An agent of your own: any program that takes a prompt. It answers through the file that LOGIST_REPLY_FILE names.
# [agents.mine]
# command = ["my-agent", "--model", "{model}"]
# prompt = "stdin"
"""


@click.command()
@json_option
@click.pass_obj
def init(invocation: Invocation, as_json: bool) -> None:
    """Write a commented logist.toml where there is none, and make the folder of the jobs. Nothing is overwritten."""
    from pathlib import Path

    from logist.job_files import ensure_jobs_dir

    config, jobs_dir = Path.cwd() / "logist.toml", invocation.jobs_dir()
    had_jobs = jobs_dir.is_dir()
    ensure_jobs_dir(jobs_dir)
    wrote = _write_new(config)
    if as_json:
        print_json({"config": str(config), "config_written": wrote, "jobs_dir": str(jobs_dir)})
        return
    tell(f"{'wrote' if wrote else 'kept'} {config}")
    tell(f"{'kept' if had_jobs else 'made'} {jobs_dir}")
    tell("next: logist job create . -o OBJECTIVE    then: logist job run")


def _write_new(path: Path) -> bool:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(CONFIG_TEMPLATE)
    except FileExistsError:
        return False
    except OSError as error:
        raise StorageFailed(f"could not write {path}: {error.strerror}", "check the folder and its disk") from error
    return True


@click.command()
@click.argument("name", required=False, type=click.Choice(SCHEMAS), help="Which file; none: list the names.")
def schema(name: str | None) -> None:
    """Print the JSON Schema of a file or a record."""
    if name is None:
        click.echo("\n".join(SCHEMAS))
    else:
        print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **_schema(name)})


def _schema(name: str) -> dict[str, object]:
    from pydantic import TypeAdapter

    from logist.job_report import JobReport
    from logist.models.config import Config, JobFile
    from logist.models.history import HistoryEntry
    from logist.models.job_spec import RenderJobSpec
    from logist.models.manifest import JobManifest
    from logist.models.reply import Reply

    models: dict[str, type[BaseModel]] = {
        "config": Config,
        "history": HistoryEntry,
        "job-file": JobFile,
        "job-manifest": JobManifest,
        "job-spec": RenderJobSpec,
        "reply": Reply,
    }
    if name == "report":
        return TypeAdapter(JobReport).json_schema(mode="serialization")
    return models[name].model_json_schema()
