"""The options of `logist export-job --target`: how an engine runs an array of tasks."""

from __future__ import annotations

import functools
import math
from typing import Any

import click

from logist.array_jobs import TARGETS
from logist.commands.parameters import Decorated, Duration
from logist.commands.render_flags import Written


def _memory(text: str) -> int:
    from logist.array_jobs.job import parse_memory

    return parse_memory(text)


def _cpus(text: str) -> float:
    from logist.array_jobs.job import parse_cpus

    return parse_cpus(text)


class _WholeSeconds(Duration):
    """A duration, rounded up."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it; a usage error says how it is written."""
        return math.ceil(super().convert(value, param, ctx))


_COUNT = click.IntRange(min=1)

#: In the order of the help.
_FLAGS = (
    click.option("--image", metavar="IMAGE", help="The worker image, whose program is Logist: see the Dockerfile."),
    click.option(
        "--volume",
        metavar="NAME",
        help="What holds the current folder for the containers: a PersistentVolumeClaim, an EFS file system, a bucket, "
        "or SERVER:/PATH for NFS.",
    ),
    click.option("--queue", metavar="NAME", help="The job queue, or Slurm's partition."),
    click.option(
        "--tasks",
        metavar="N",
        type=_COUNT,
        help="How long the array is; with fewer tasks than chunks each makes several. Default: one for each chunk, as "
        "far as the engine goes.",
    ),
    click.option("--parallelism", metavar="N", type=_COUNT, help="How many tasks run at the same time, at most."),
    click.option(
        "--cpus",
        metavar="N",
        type=Written("number", _cpus),
        help="Processors of a task. Default: 2 in a container.",
    ),
    click.option("--memory", metavar="SIZE", type=Written("size", _memory), help="Memory of a task: 512M, 4G."),
    click.option(
        "--time-limit", metavar="TIME", type=_WholeSeconds(), help="How long one try of a task may take: 45m, 2h."
    ),
    click.option(
        "--retries", metavar="N", type=click.IntRange(0, 100), help="How often a task is tried again. Default: 3."
    ),
    click.option("--name", metavar="NAME", help="What the engine calls the job. Default: as the spec is called."),
)


def array_flags(function: Decorated) -> Decorated:
    """The options that make an `ArrayOptions`, which `function` gets as `array`, and what goes with them."""

    @functools.wraps(function)
    def with_options(*args: Any, **values: Any) -> Any:
        from dataclasses import fields

        from logist.array_jobs.job import ArrayOptions

        given = {field.name: values.pop(field.name) for field in fields(ArrayOptions)}
        return function(*args, array=ArrayOptions(**given), **values)

    for decorate in reversed(_FLAGS):
        decorate(with_options)
    return with_options  # type: ignore[return-value]  # click calls it with what it is given


def target_option(function: Decorated) -> Decorated:
    """--target."""
    return click.option(
        "--target",
        type=click.Choice(list(TARGETS)),
        help="Print the definition of an array of tasks for this engine. With a composition --spec is needed, too.",
    )(function)
