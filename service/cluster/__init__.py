"""The engine that runs attempts: Ray, or one in memory, behind one protocol."""

from pydantic import SecretStr

from service.cluster.base import Cluster
from service.cluster.memory import MemoryCluster
from service.cluster.ray import RayCluster

__all__ = ["Cluster", "MemoryCluster", "RayCluster", "open_cluster"]


def open_cluster(url: str, *, token: SecretStr | None = None, can_grow: bool = False) -> Cluster:
    """Ray at an `http://` address, or the cluster of that name in this process for `memory://name`.

    Ray does not tell whether it has an autoscaler, so `can_grow` has to.
    """
    if url.startswith("memory://"):
        return MemoryCluster.named(url.removeprefix("memory://"))
    return RayCluster(url, token=token, can_grow=can_grow)
