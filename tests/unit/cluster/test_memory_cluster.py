"""What the engine in memory does beyond what every engine promises."""

import pytest

from service.cluster import MemoryCluster
from service.cluster.base import ClusterUnreachable, Resources, RunStatus, Submission
from service.cluster.memory import Process, wait_for_stop

ONE = Submission(submission_id="job_1-a1", entrypoint="true", metadata={"cdm_job": "job_1"}, environment={})


async def test_another_session_after_everything_was_forgotten() -> None:
    cluster = MemoryCluster()
    await cluster.submit(ONE)
    before = await cluster.session()

    await cluster.forget()

    assert await cluster.session() != before
    assert await cluster.list() == []
    assert await MemoryCluster().session() != await MemoryCluster().session()


async def test_a_pending_one_is_listed_and_is_not_forgotten() -> None:
    cluster = MemoryCluster(num_slots=0)
    await cluster.submit(ONE)

    await cluster.delete(ONE.submission_id)

    assert [(run.submission_id, run.status) for run in await cluster.list()] == [(ONE.submission_id, RunStatus.PENDING)]


async def test_a_driver_holds_what_it_says_until_it_ends() -> None:
    async def driver(process: Process) -> int:
        process.holds = Resources(cpus=3.0, gpus=2.0)
        return await wait_for_stop(process)

    cluster = MemoryCluster(driver)
    cluster.total = Resources(cpus=4.0, gpus=1.0)
    await cluster.submit(ONE)
    await cluster.probe()

    capacity = await cluster.capacity()

    assert capacity.total == Resources(cpus=4.0, gpus=1.0)
    assert capacity.free == Resources(cpus=1.0, gpus=0.0)


async def test_no_call_goes_over_a_line_that_is_cut() -> None:
    cluster = MemoryCluster()
    cluster.reachable = False
    one = ONE.submission_id

    for call in (
        cluster.session(),
        cluster.submit(ONE),
        cluster.find(one),
        cluster.list(),
        cluster.stop(one),
        cluster.delete(one),
        cluster.logs(one),
        cluster.capacity(),
        cluster.probe(),
    ):
        with pytest.raises(ClusterUnreachable):
            await call
