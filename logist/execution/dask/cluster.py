"""Opens the Dask cluster that an operator means, and the connection to its scheduler."""

from __future__ import annotations

import asyncio
import logging
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from logist.errors import ExtraMissing, PlaceUnavailable, UsageProblem
from logist.execution.dask.options import DaskOptions

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security


class Cluster(Protocol):
    """What all cluster classes of Dask have."""

    scheduler_address: str

    def close(self) -> None:
        """Give back all that it started."""
        ...


def require_dask() -> None:
    """Raises ExtraMissing when Dask is not installed. Nothing is imported: that takes a second."""
    if find_spec("distributed") is None:
        raise ExtraMissing(
            "for the adapter dask Dask's distributed is needed, which is not installed", "pip install 'logist[dask]'"
        )


def quiet_dask() -> None:
    """Keep Dask from writing to standard error, unless its own configuration says what it should log.

    What matters of it is told by our own errors and results.
    """
    import dask.config

    if "logging" not in dask.config.get("distributed", {}) and "logging" not in dask.config.config:
        names = ("distributed", "distributed.client", "distributed.gc", "tornado.application")
        dask.config.set({"distributed.logging": dict.fromkeys(names, "critical")})
    from distributed.versions import VersionMismatchWarning

    warnings.filterwarnings("ignore", category=VersionMismatchWarning)


def open_cluster(options: DaskOptions, commands: int) -> Cluster | None:
    """The cluster to be closed by the caller, for so many commands at once; None: it is somebody else's.

    Blocks until it stands. Raises UsageProblem, PlaceUnavailable.
    """
    if options.scheduler:
        return None
    if not options.cluster:
        return _local_cluster(commands)
    cluster = _make(options)
    # One that was given workers by its own options or configuration keeps them.
    if not getattr(cluster, "worker_spec", None) and not options.cluster_options.get("n_workers"):
        scale = getattr(cluster, "scale", None)
        if scale is not None:
            scale(commands)
    return cluster


#: Ctrl-C in the terminal reaches a worker process of ours, too; what is to be finished would end with it.
_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def _local_cluster(commands: int) -> Cluster:
    import dask.config
    from distributed import LocalCluster

    # One process: the commands are processes of their own. Its memory is theirs to use, so nobody limits it.
    return cast(
        Cluster,
        LocalCluster(
            n_workers=1,
            threads_per_worker=commands,
            processes=True,
            memory_limit=0,
            # Without an address it would take Dask's well-known port, for everybody on the network.
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            preload=[*dask.config.get("distributed.worker.preload"), _DEAF],
        ),
    )


def _make(options: DaskOptions) -> Cluster:
    module, _, name = options.cluster.replace(":", ".").rpartition(".")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageProblem(
            f"The cluster {options.cluster} can't be loaded: {error}.",
            "Write it like dask_jobqueue:SLURMCluster, and install the package that has it.",
        ) from error
    try:
        cluster = kind(**options.cluster_options)
    except Exception as error:  # of any package: what it raises can't be known
        raise PlaceUnavailable(
            f"The cluster {options.cluster} can't be started: {_first_line(error)}.",
            "Check the option cluster-options with the documentation of that class.",
        ) from error
    if not hasattr(cluster, "scheduler_address") or not hasattr(cluster, "close"):
        raise UsageProblem(
            f"{options.cluster} makes no Dask cluster.", "Name a class such as dask_jobqueue:SLURMCluster."
        )
    return cast(Cluster, cluster)


async def connect(options: DaskOptions, cluster: Cluster | None) -> Client:
    """A connection to the scheduler, on the running event loop. Raises PlaceUnavailable when nobody answers in time."""
    from distributed import Client

    address = options.scheduler if cluster is None else cluster.scheduler_address
    security = _security(options) if cluster is None else getattr(cluster, "security", None)
    client = Client(
        address,
        security=security,
        asynchronous=True,
        timeout=options.connect_timeout,
        set_as_default=False,
        name="logist",
    )
    try:
        await client
    except asyncio.CancelledError:
        await client.close(timeout=1)
        raise
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise PlaceUnavailable(
            f"No Dask scheduler answers at {address}: {_first_line(error)}.",
            "Check the address, that the scheduler runs, and that this machine may reach it.",
        ) from error
    return client


def _security(options: DaskOptions) -> Security:
    """What the options say, else Dask's own configuration. Raises UsageProblem when TLS lacks something."""
    from distributed.security import Security

    files = {
        "tls_ca_file": options.tls_ca_file,
        "tls_client_cert": options.tls_cert,
        "tls_client_key": options.tls_key,
    }
    given = {name: path for name, path in files.items() if path is not None}
    for path in given.values():
        if not Path(path).is_file():
            raise UsageProblem(f"There is no file {path}.", _TLS_HINT)
    try:
        security = Security(**given)
        context = security.get_connection_args("client").get("ssl_context")
    except (OSError, TypeError, ValueError) as error:
        raise UsageProblem(f"The files of the options tls-… can't be used: {_first_line(error)}.", _TLS_HINT) from error
    if context is None and options.scheduler.startswith(("tls://", "wss://")):
        raise UsageProblem(f"For {options.scheduler} a certificate, its key and the authority are needed.", _TLS_HINT)
    return security


_TLS_HINT = "Give tls-ca-file, tls-cert and tls-key as PEM files, or set distributed.comm.tls in Dask's configuration."


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
