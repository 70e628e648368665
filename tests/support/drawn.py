"""Jobs on a trained one in this process: what they draw, measure and leave."""

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support.trained import tiny_spec, train_job
from workers.contract.jobs import parse_job
from workers.contract.keys import RESULT, JobKeys
from workers.jobs.kinds import WORK, prepare
from workers.storage.memory import MemoryStore
from workers.training.run import Ending, Run, RunRequests
from workers.training.world import World

TRAINED = "trained"
CPU = {"workers": 1, "accelerator": "cpu"}


class Gallery:
    """A store with a job that has been trained for a moment."""

    def __init__(self, name: str, cache: Path, **changes: Any) -> None:
        self.name, self.cache = name, cache
        self.store = MemoryStore.named(name)
        train_job(tiny_spec(**changes), self.store, JobKeys(TRAINED), cache=cache, every=80)

    def run(
        self,
        name: str,
        kind: str,
        *,
        looks: int | None = None,
        device: torch.device | None = None,
        spec: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Ending:
        """Run a job as one worker would, on the CPU unless told otherwise.

        It looks after each piece; after so many `looks` it is asked to leave.
        """
        drawing = {"checkpoint": {"job_id": TRAINED}, "compute": CPU}
        document = {"kind": kind, **(drawing if kind in ("sample", "evaluate") else {})}
        parsed, keys = parse_job(document | (spec or {}) | fields), JobKeys(name)
        self.store.put(keys.spec, parsed.model_dump_json().encode())
        prepare(parsed, keys, self.store, on_bytes=lambda *_: None)
        run = Run(f"memory://{self.name}", name, 1, str(self.cache))
        world = World.alone(device or torch.device("cpu"))
        seen = itertools.count()

        def poll_requests() -> RunRequests:
            return RunRequests(stop=looks is not None and next(seen) >= looks)

        return WORK[kind](run, world, poll_requests=poll_requests, on_hang=lambda _: None)

    def result(self, job_id: str) -> bytes:
        return self.file(job_id, RESULT)

    def file(self, job_id: str, name: str) -> bytes:
        return self.store.get(JobKeys(job_id).results + name)

    def images(self, job_id: str) -> np.ndarray:
        """What a sample job has put into a NumPy archive: uint8 [images, height, width, channels]."""
        with np.load(io.BytesIO(self.file(job_id, "images.npz")), allow_pickle=False) as arrays:
            found: np.ndarray = arrays["images"]
            return found
