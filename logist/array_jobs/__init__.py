"""A spec's chunks as an array of stateless tasks, in the words of the engine that runs it. Values in, text out.

An array never has to be longer than its engine allows: a task takes every so-manyth chunk (`--chunk auto`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logist.array_jobs.job import Engine

#: Each imported when it is asked for.
TARGETS: dict[str, str] = {
    "slurm": "slurm",
    "k8s": "kubernetes",
    "aws-batch": "aws_batch",
    "cloud-run": "cloud_run",
    "parallel": "parallel",
}


def engine_of(target: str) -> Engine:
    """The engine of that name, which is one of `TARGETS`."""
    engine: Engine = import_module(f"{__name__}.{TARGETS[target]}").ENGINE
    return engine
