"""A Ray job as bare as can be: DDP workers that take one step. `python bare_ray_job.py NUM_WORKERS FILE`.

FILE is where the first worker writes down when it had taken it, in Unix seconds.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, prepare_model


def work(config: dict[str, Any]) -> None:
    import torch

    model = prepare_model(torch.nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 8)).sum().backward()
    optimizer.step()
    if ray.train.get_context().get_world_rank() == 0:
        Path(config["file"]).write_text(str(time.time()))


def main() -> None:
    ray.init(logging_level="WARNING")
    with tempfile.TemporaryDirectory() as scratch:
        TorchTrainer(
            work,
            train_loop_config={"file": sys.argv[2]},
            scaling_config=ScalingConfig(num_workers=int(sys.argv[1]), use_gpu=False),
            run_config=RunConfig(storage_path=scratch),
        ).fit()


if __name__ == "__main__":
    main()
