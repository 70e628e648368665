"""How long each stage of a job's way took, as seen from outside."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from service.jobs.views import Job


@dataclass(slots=True)
class Stages:
    """When each stage was over, in seconds by `clock`."""

    clock: Callable[[], float] = time.monotonic
    begun: float = field(init=False)
    over: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def ends(self, stage: str) -> None:
        if stage not in self.over:
            self.over[stage] = self.clock()

    def noting(self, jobs: Iterator[Job]) -> Iterator[Job]:
        """The same jobs; notes the first step, the last, and the end."""
        for job in jobs:
            if job.progress and job.progress.images_seen:
                self.ends("first step")
                if job.progress.images_seen >= job.progress.total_images:
                    self.ends("training")
            if job.state.is_terminal:
                self.ends("finish")
            yield job

    @property
    def seconds(self) -> dict[str, float]:
        """How long each stage took, in order, and all of them together."""
        starts = (self.begun, *self.over.values())
        stages = {stage: end - start for start, (stage, end) in zip(starts, self.over.items(), strict=False)}
        return {**stages, "total": sum(stages.values())}
