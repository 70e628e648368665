"""Where a job runs: how many processes, on what, and what they do when one of them dies or hangs."""

from typing import Annotated, Literal

from pydantic import Field

from workers.contract.document import Document
from workers.contract.model import Images


class Workers(Document):
    """Processes of one kind that share a job's images, with gloo between CPUs and NCCL between GPUs."""

    workers: Annotated[int, Field(gt=0, le=1024)] = 1
    accelerator: Literal["cpu", "gpu"] = "gpu"
    precision: Annotated[Literal["float32", "bfloat16"], Field(description="bfloat16: autocast inside the network")] = (
        "float32"
    )
    tf32: Annotated[bool, Field(description="TensorFloat-32 in float32 matrix products and convolutions")] = True
    deterministic: Annotated[bool, Field(description="Bit-identical repetition on a GPU, slower")] = False
    max_worker_failures: Annotated[
        int, Field(ge=0, le=1000, description="Restarts from what is in the store within one attempt")
    ] = 3
    hang_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=86_400,
            description="A worker without a step for so long ends, and counts as a failure; its log tells where it "
            "stood",
        ),
    ] = 300

    @property
    def least_workers(self) -> int:
        """With how few it goes on."""
        return self.workers


class Compute(Workers):
    """DDP workers of one kind."""

    min_workers: Annotated[
        int | None,
        Field(
            gt=0,
            description="On Ray, go on with as few while nodes are gone, and with all when they are back; "
            "null: wait for all",
        ),
    ] = None
    compile: Annotated[
        bool, Field(description="torch.compile; where it fails in a worker, a warning, and all go on without")
    ] = False
    start_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=86_400,
            description="A worker without a first step so long after all have their images ends likewise: until then "
            "it compiles and tries what it trains; hang_seconds where that is more",
        ),
    ] = 1800
    microbatch_images: Annotated[
        Images | None,
        Field(description="Images a worker holds at once, gradients accumulated; null: its share of the batch"),
    ] = None

    @property
    def least_workers(self) -> int:
        return self.min_workers or self.workers

    @property
    def first_step_seconds(self) -> int:
        """How long the first step may take, with all that is done for it alone."""
        return max(self.start_seconds, self.hang_seconds)
