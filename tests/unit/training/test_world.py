"""Processes that work together: waiting for each other."""

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

from tests.support.ray_head import free_ports
from tests.support.waiting import wait_until
from workers.training.world import World

SIZE = 4


def test_whoever_meets_waits_for_the_last(tmp_path: Path) -> None:
    """The last one comes only when the first has been there for a while, by what it can see."""
    start_processes(_meet, (tmp_path, free_ports(1)[0]), nprocs=SIZE, start_method="fork")  # type: ignore[no-untyped-call] # untyped in torch

    assert (tmp_path / "seen").read_text() == "the last was there"


def _meet(rank: int, folder: Path, port: int) -> None:
    store = dist.TCPStore("127.0.0.1", port, SIZE, is_master=rank == 0, timeout=timedelta(seconds=60))
    dist.init_process_group("gloo", store=store, rank=rank, world_size=SIZE, timeout=timedelta(seconds=60))
    world = World.of_process_group(torch.device("cpu"))
    if rank == 0:
        (folder / "first").touch()
    if rank == SIZE - 1:
        wait_until(lambda: (folder / "first").exists(), timeout_seconds=60)
        (folder / "last").touch()
    world.meet()
    if rank == 0:
        (folder / "seen").write_text("the last was there" if (folder / "last").exists() else "the last was missing")
    world.leave()
