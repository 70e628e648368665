"""The control plane, ended at every step of a launch and started again on what it had written down."""

from pathlib import Path
from typing import cast

import pytest

from service.cluster import Cluster, MemoryCluster
from service.cluster.base import RunStatus
from service.jobs.objects import JobObjects
from service.jobs.reconciler import Reconciler
from service.jobs.store import JobStore
from tests.support.plane import Script, plane_in, until_run


class Crash(BaseException):
    """The process ends here."""


class Fuse:
    """Wraps a part of the control plane so that the process ends before or after its n-th call."""

    def __init__(self, part: object, countdown: list[int]) -> None:
        self._part = part
        self._countdown = countdown

    def __getattr__(self, name: str) -> object:
        method = getattr(self._part, name)
        if name not in {"submit", "find", "stop", "apply", "mark_submitted", "revoke", "outcome"}:
            return method

        async def cut(*args: object, **kwargs: object) -> object:
            self._tick()
            result = await method(*args, **kwargs)
            self._tick()
            return result

        return cut

    def _tick(self) -> None:
        self._countdown[0] -= 1
        if self._countdown[0] == 0:
            raise Crash


@pytest.mark.parametrize("cancelled", [False, True], ids=["running", "cancelled"])
@pytest.mark.parametrize("step", range(1, 30))  # 28 calls bring a cancelled job to being stopped
async def test_a_crash_at_any_step_never_makes_a_second_run(
    tmp_path: Path, script: Script, step: int, cancelled: bool
) -> None:
    """Ends the process before and after each call of the launch; the restarted one has only the database."""
    cluster = MemoryCluster(script)
    async with plane_in(tmp_path, cluster=cluster) as plane:
        job_id = await plane.submit()
        countdown = [step]
        doomed = Reconciler(
            store=cast("JobStore", Fuse(plane.jobs, countdown)),
            objects=cast("JobObjects", Fuse(plane.objects, countdown)),
            cluster=cast("Cluster", Fuse(cluster, countdown)),
            settings=plane.settings,
            clock=plane.clock,
        )

        try:
            while await doomed.tick():
                pass
            if cancelled:
                await plane.service.cancel(job_id)
            await doomed.tick()
        except Crash:
            if cancelled and not (await plane.job(job_id)).state.is_terminal:
                await plane.service.cancel(job_id)
        await plane.settle()

        assert cluster.submission_ids in ([f"{job_id}-a1"], [] if cancelled else None)
        if not cancelled:
            plane.worker(job_id).outcome("succeeded", at=plane.clock())
        elif cluster.submission_ids:
            await until_run(plane, f"{job_id}-a1", RunStatus.STOPPED)
        await plane.settle()
        job = await plane.job(job_id)
        assert (job.state, job.attempt) == ("cancelled" if cancelled else "succeeded", min(job.attempt, 1))
        events = await plane.jobs.events(job_id, after=0, limit=100)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
