"""From the setting `engine` to a Dask client: an address, a client, a cluster, its name, or `auto`."""

from typing import Final

from distributed import Client
from distributed.deploy.cluster import Cluster
from distributed.deploy.spec import SpecCluster

from gglib_nb.cluster.dask_engine import Connect
from gglib_nb.errors import ClusterError, InvalidConfigError

_CONNECT_S: Final = 10.0
_NEXT: Final = "Create one, or download on this machine with %gguf config engine local."


def connection_to(engine: object, *, must_exist: bool = False) -> tuple[Connect, bool]:
    """A function that returns a client for the setting (docs/cluster.md), and whether a lost client can be replaced.

    Raises `InvalidConfigError` for another form; with `must_exist`, `ClusterError` for a name of no running cluster.
    """
    if isinstance(engine, Client) or engine == "auto":
        return lambda: (_usable(engine), False), False
    if isinstance(engine, str) and "://" in engine:
        address = engine.replace("dask://", "tcp://", 1)
        refusal = f"No Dask scheduler answers at {address} ({{error}}). Check the address, then retry."
        return lambda: (_client(address, refusal), True), True
    if isinstance(engine, str | Cluster):
        if must_exist and isinstance(engine, str):
            _cluster_named(engine)
        return lambda: (_client_of(engine), True), False
    raise InvalidConfigError(
        f"engine is a {type(engine).__name__}; it must be an address such as dask://scheduler:8786, a Dask client, a "
        "cluster or its name, or auto."
    )


def _usable(engine: object) -> Client:
    try:
        client = engine if isinstance(engine, Client) else Client.current()
    except ValueError as error:
        raise ClusterError(f"There is no Dask client in this process. {_NEXT}") from error
    if client.asynchronous:
        raise ClusterError("An asynchronous Dask client stops while a cell runs. Create it with Client(address).")
    if client.status == "closed":
        raise ClusterError("The Dask client is closed. Create another one, set it as the engine, then retry.")
    return client


def _client_of(engine: Cluster | str) -> Client:
    cluster = _cluster_named(engine) if isinstance(engine, str) else engine
    if cluster.asynchronous:
        raise ClusterError("The Dask cluster is asynchronous. Create it without asynchronous=True.")
    return _client(cluster, f"The Dask cluster {cluster.name} does not answer ({{error}}). Start another, then retry.")


def _client(engine: Cluster | str, refusal: str) -> Client:
    try:
        return Client(engine, timeout=_CONNECT_S, set_as_default=False, name="gglib-nb")
    except (OSError, ValueError, TypeError, ImportError, RuntimeError) as error:
        raise ClusterError(refusal.replace("{error}", str(error))) from error


def _cluster_named(name: str) -> Cluster:
    running = [cluster for cluster in list(SpecCluster._instances) if cluster.status.name == "running"]  # noqa: SLF001
    found = [cluster for cluster in running if cluster.name == name]
    if not found:
        names = ", ".join(sorted(str(cluster.name) for cluster in running)) or "none"
        raise ClusterError(f"No Dask cluster named {name!r} runs in this process (running: {names}). {_NEXT}")
    return found[0]
