"""Processes of this machine that are joined as those of a job are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

from tests.support.ray_head import free_ports
from workers.training.world import World

_PATIENCE = timedelta(seconds=60)


def in_processes(size: int, body: Callable[..., object], *args: Any) -> None:
    """Run `body(rank, port, *args)` in so many, each of which is to call `joined`; raises what one of them raises."""
    start_processes(body, (free_ports(1)[0], *args), nprocs=size, start_method="fork")  # type: ignore[no-untyped-call] # untyped in torch


@contextmanager
def joined(rank: int, size: int, port: int) -> Iterator[World]:
    store = dist.TCPStore("127.0.0.1", port, size, is_master=rank == 0, timeout=_PATIENCE)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    world = World.of_process_group(torch.device("cpu"))
    yield world
    world.leave()
