"""What `logist run` and `logist job run`, `step` and `poststep` share: how a run is shown, and what stops it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from logist.commands.invocation import HERE, Place
from logist.commands.parameters import Decorated
from logist.commands.signals import stop_after, stop_on_signals
from logist.errors import UsageProblem

if TYPE_CHECKING:
    from logist.commands.invocation import Invocation
    from logist.runtime import Runtime


class Show(NamedTuple):
    """How a run is shown."""

    progress: str = "auto"
    verbose: bool = False

    @property
    def card(self) -> bool:
        """Whether the job's card follows at the end."""
        return self.progress not in ("json", "none")


def show_as(progress: str, *, as_json: bool, quiet: bool, verbose: bool) -> Show:
    """How the options say that a run is shown: --json goes before --quiet, and that before --progress."""
    return Show("json" if as_json else "none" if quiet else progress, verbose)


def progress_options(function: Decorated) -> Decorated:
    """--json and --progress: what a run tells while it goes on."""
    function = click.option(
        "--progress",
        type=click.Choice(("auto", "tty", "plain", "json", "none")),
        default="auto",
        envvar="LOGIST_PROGRESS",
        show_envvar=True,
        help="How to show what happens: a live view on a terminal, else plain lines.",
    )(function)
    return click.option("--json", "as_json", is_flag=True, help="Print every event as one line of JSON.")(function)


def check_timeout(seconds: float | None) -> None:
    """Raise UsageProblem when --timeout leaves no time to run."""
    if seconds == 0:
        raise UsageProblem("--timeout 0 leaves no time to run", "leave it out to run without a limit")


@contextlib.contextmanager
def open_run(
    invocation: Invocation,
    show: Show,
    *,
    timeout: float | None = None,
    max_wait: float | None = None,
    place: Place = HERE,
    several: bool = False,
) -> Iterator[Runtime]:
    """A runtime whose events are shown, and which signals and the end of `timeout` (seconds) stop.

    `several`: of jobs that run at the same time. Raises UsageProblem for an adapter that can't run a job's steps.
    """
    from logist.console.reporters import open_reporter
    from logist.stop_switch import StopSwitch

    stop = StopSwitch()
    with (
        open_reporter(show.progress, environ=os.environ, verbose=show.verbose, several=several) as reporter,
        invocation.runtime(reporter=reporter, stop=stop, max_wait=max_wait, place=place) as runtime,
        stop_on_signals(stop),
        stop_after(stop, timeout),
    ):
        yield runtime
