"""The engine that runs attempts: Ray, or one in memory, behind one protocol."""

from pydantic import SecretStr

from service.cluster.base import NO_RESOURCES, Cluster, Resources
from service.cluster.memory import MemoryCluster
from service.cluster.ray import RayCluster

__all__ = ["Cluster", "MemoryCluster", "RayCluster", "open_cluster"]


def open_cluster(url: str, *, token: SecretStr | None = None, grows_to: Resources = NO_RESOURCES) -> Cluster:
    """Ray at an `http://` address, or the cluster of that name in this process for `memory://name`.

    Ray does not tell what its autoscaler may make of it, so `grows_to` has to.
    """
    if url.startswith("memory://"):
        return MemoryCluster.named(url.removeprefix("memory://"))
    return RayCluster(url, token=token, grows_to=grows_to)
