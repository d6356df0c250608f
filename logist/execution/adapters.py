"""Adapters by name: a dict of our own, then the entry points of the group `logist.adapters`. Loaded when asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, cast

from logist.errors import LogistError, UsageProblem
from logist.execution import FencedAdapter, WorkerAdapter

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

#: What an operator says of the place where commands run: `--adapter-option NAME=VALUE`.
AdapterOptions = Mapping[str, str]
#: Makes an adapter, once a run; connects to nothing yet. Raises UsageProblem for options that it does not know, can't
#: make sense of, or misses, and another LogistError where the adapter can't be used at all.
AdapterFactory = Callable[[AdapterOptions], WorkerAdapter]

ENTRY_POINT_GROUP = "logist.adapters"

#: Name -> "module:factory", imported only when the adapter is used.
BUILT_IN: dict[str, str] = {
    "local": "logist.execution.local:open_local",
    "dask": "logist.execution.dask.adapter:open_dask",
    "slurm": "logist.execution.slurm.adapter:open_slurm",
}


def adapter_names() -> tuple[str, ...]:
    """The names of all adapters, ours first."""
    return (*BUILT_IN, *sorted(set(_plugins()) - set(BUILT_IN)))


def open_adapter(name: str, options: AdapterOptions | None = None) -> WorkerAdapter:
    """A new adapter, to be closed by the caller. Raises UsageProblem for an unknown name, else as its factory does."""
    return adapter_factory(name)(options or {})


def open_adapter_of_jobs(name: str, options: AdapterOptions | None = None) -> WorkerAdapter:
    """A new adapter for the steps of jobs, to be closed by the caller.

    Its commands are processes of this machine that inherit the job's lease (it says so by an attribute `runs_here`), or
    it is a `FencedAdapter`. Raises UsageProblem for any other: a later run could neither see that a dead one's commands
    still live, nor end them, nor wait until they have ended. Else as `open_adapter`.
    """
    adapter = open_adapter(name, options)
    if getattr(adapter, "runs_here", False):
        return adapter
    if isinstance(adapter, FencedAdapter):
        adapter.serve_jobs()
        return adapter
    adapter.close()
    raise UsageProblem(
        f"The adapter {name!r} can't run the steps of a job: what it starts is not held by the job's lease.",
        "Run the job here or on Dask; the chunks of a spec can run there: logist job run SPEC --adapter.",
    )


def refuse_unknown(name: str, options: AdapterOptions, known: Collection[str] = ()) -> None:
    """For factories: raise UsageProblem when an option is given that the adapter `name` does not know."""
    for option in options:
        if option not in known:
            hint = f"Known: {', '.join(sorted(known))}." if known else "It has none: leave it out."
            raise UsageProblem(f"The adapter {name!r} has no option {option!r}.", hint)


def adapter_factory(name: str) -> AdapterFactory:
    """What makes the adapter `name`. A name of ours can't be taken over by an entry point."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return cast(AdapterFactory, getattr(import_module(module), attribute))
    plugins = _plugins()
    if name not in plugins:
        raise _unknown(name, (*BUILT_IN, *sorted(plugins)))
    try:
        return cast(AdapterFactory, plugins[name].load())
    except (ImportError, AttributeError) as error:
        raise LogistError(
            f"The adapter {name!r} can't be loaded from {plugins[name].value}: {error}.",
            "Install or update the package that provides it, or choose another adapter.",
        ) from error


def _plugins() -> dict[str, EntryPoint]:
    # Slow to import, and hardly any machine has plugins that are asked for.
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def _unknown(name: str, known: tuple[str, ...]) -> UsageProblem:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return UsageProblem(f"There is no adapter named {name!r}.", f"{hint}Known: {', '.join(known)}.")
