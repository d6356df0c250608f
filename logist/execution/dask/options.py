"""What an operator says of a Dask cluster: `--adapter-option NAME=VALUE`, read strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from logist.errors import UsageProblem
from logist.execution.adapters import AdapterOptions, refuse_unknown

OPTIONS = (
    "scheduler",
    "cluster",
    "cluster-options",
    "tls-ca-file",
    "tls-cert",
    "tls-key",
    "resources",
    "workers",
    "env",
    "connect-timeout",
    "fence",
)
_TLS = ("tls-ca-file", "tls-cert", "tls-key")
#: Less than this and a busy network would be taken for a broken one.
_SHORTEST_FENCE = 2.0
#: A run after one that died waits as long.
_LONGEST = 3600.0


@dataclass(frozen=True)
class DaskOptions:
    """Which cluster, and how its workers are used. Times are in seconds."""

    #: tcp://HOST:PORT or tls://HOST:PORT; empty: another cluster.
    scheduler: str = ""
    #: MODULE:CLASS; empty, too: one on this machine.
    cluster: str = ""
    cluster_options: Mapping[str, object] = field(default_factory=dict)
    tls_ca_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    #: What one command takes of the resources that workers were started with.
    resources: Mapping[str, float] = field(default_factory=dict)
    #: Addresses or names of the workers that may run commands; none: all.
    workers: tuple[str, ...] = ()
    #: Variables of the submitter that travel.
    env: frozenset[str] = frozenset()
    connect_timeout: float = 10.0
    #: After this long without its submitter a worker kills what it runs.
    fence: float = 20.0


def read_options(options: AdapterOptions) -> DaskOptions:
    """The options. Raises UsageProblem for those that are unknown, exclude each other or can't be read."""
    refuse_unknown("dask", options, OPTIONS)
    scheduler, cluster = options.get("scheduler", ""), options.get("cluster", "")
    if scheduler and cluster:
        raise UsageProblem("The options scheduler and cluster exclude each other.", "Give one of them.")
    if scheduler and not scheduler.startswith(("tcp://", "tls://", "ws://", "wss://", "ucx://")):
        raise UsageProblem(
            f"The scheduler {scheduler!r} is no address of a Dask scheduler.", "Write it like tcp://host:8786."
        )
    if "cluster-options" in options and not cluster:
        raise UsageProblem("The option cluster-options is for a cluster.", "Give cluster=MODULE:CLASS too.")
    if cluster and not all(cluster.partition(":")):
        raise UsageProblem(
            f"The cluster {cluster!r} is no import path of a class.", "Write it like dask_jobqueue:SLURMCluster."
        )
    tls = {name: options.get(name) for name in _TLS}
    if any(tls.values()) and not scheduler.startswith(("tls://", "wss://")):
        raise UsageProblem("The options tls-… are for a scheduler=tls://….", "Name the scheduler, or leave them out.")
    return DaskOptions(
        scheduler=scheduler,
        cluster=cluster,
        cluster_options=_json_object(options.get("cluster-options", "{}")),
        tls_ca_file=tls["tls-ca-file"],
        tls_cert=tls["tls-cert"],
        tls_key=tls["tls-key"],
        resources=dict(_resource(item) for item in _items(options.get("resources", ""))),
        workers=_items(options.get("workers", "")),
        env=frozenset(_items(options.get("env", ""))),
        connect_timeout=_seconds(options, "connect-timeout", DaskOptions.connect_timeout, 0.1),
        fence=_seconds(options, "fence", DaskOptions.fence, _SHORTEST_FENCE),
    )


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _resource(item: str) -> tuple[str, float]:
    name, _, amount = item.partition("=")
    number = _number(amount)
    if not name or number is None or number <= 0:
        raise UsageProblem(f"The resource {item!r} is not NAME=NUMBER.", "Write them like GPU=1,MEMORY=4e9.")
    return name, number


def _seconds(options: AdapterOptions, name: str, default: float, least: float) -> float:
    if name not in options:
        return default
    number = _number(options[name])
    if number is None or not least <= number <= _LONGEST:
        raise UsageProblem(
            f"The option {name} is {options[name]!r}, and not a number of seconds that makes sense.",
            f"Give {least:g} to {_LONGEST:g}.",
        )
    return number


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number < float("inf") else None


def _json_object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UsageProblem(
            "The option cluster-options is no JSON object.", 'Write it like \'{"cores": 4, "memory": "8GB"}\'.'
        )
    return value
