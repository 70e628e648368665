"""How a driver leaves the engine when it is asked to."""

from service.cluster.base import RunStatus
from tests.support.plane import Plane, Script, until_run


async def left(plane: Plane, job_id: str, attempt: int = 1) -> None:
    """Let the driver leave as it was asked to, and look."""
    await plane.settle()
    await until_run(plane, f"{job_id}-a{attempt}", RunStatus.STOPPED)
    await plane.settle()


def leaves_well(plane: Plane, script: Script, job_id: str, attempt: int = 1, *, images_seen: int = 200) -> None:
    """The driver will leave a checkpoint when it is asked to leave."""

    def last_words() -> None:
        worker = plane.worker(job_id, attempt)
        worker.progress(at=plane.clock(), images_seen=images_seen, checkpoint=images_seen)
        worker.checkpoint(images_seen, at=plane.clock())
        worker.outcome("stopped", at=plane.clock(), message=f"left at {images_seen} images")

    script.last_words = last_words
