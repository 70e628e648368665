"""Checkpoints that jobs are to read: kept for them, and no longer than that."""

from typing import Any

import pytest

from service.errors import CheckpointNotFound, JobGone
from service.jobs import submission, usecases
from service.jobs.pins import pin
from service.jobs.views import ForkCreate
from tests.support.plane import REQUESTER, Plane
from workers.contract.keys import MANIFEST, JobKeys

LONG, DAY = 600.0, 86400.0


async def training(plane: Plane) -> str:
    """One that runs, and has a checkpoint at 100 images."""
    job_id = await plane.started()
    plane.worker(job_id).checkpoint(100, at=plane.clock())
    return job_id


async def drawing(plane: Plane, trained: str, kind: str = "sample") -> str:
    """A job that waits for its turn."""
    return await plane.submit(spec={"kind": kind, "checkpoint": {"job_id": trained}})


async def looked(plane: Plane, *, after_seconds: float = LONG + 1) -> None:
    plane.clock.advance(after_seconds)
    await plane.parts.housekeeping.tick()


def holders(plane: Plane, trained: str) -> list[str]:
    """The jobs that its checkpoint at 100 images is kept for."""
    keys = JobKeys(trained)
    pins = plane.store.list(keys.pins)
    assert {*pins} == {keys.pin(100, 1, keys.holder(pin)) for pin in pins}
    return [keys.holder(pin) for pin in pins]


@pytest.mark.parametrize("kind", ["sample", "evaluate"])
async def test_a_job_that_is_cancelled_before_it_ran_keeps_no_checkpoint(plane: Plane, kind: str) -> None:
    trained = await training(plane)
    cancelled, waiting = await drawing(plane, trained, kind), await drawing(plane, trained, kind)
    await plane.cancel(cancelled)

    await looked(plane)
    await looked(plane)

    assert holders(plane, trained) == [waiting]


async def test_a_pin_stays_for_ten_minutes_whether_anybody_reads_it_or_not(plane: Plane) -> None:
    """Its job may be tried again at this moment, or be about to be written down."""
    trained = await training(plane)
    cancelled = await drawing(plane, trained)
    await plane.cancel(cancelled)

    await looked(plane, after_seconds=LONG - 1)
    assert holders(plane, trained) == [cancelled]
    await looked(plane, after_seconds=2)

    assert holders(plane, trained) == []


async def test_a_job_that_failed_keeps_its_checkpoint_for_a_retry_until_it_is_deleted(plane: Plane) -> None:
    trained = await training(plane)
    failed = await drawing(plane, trained)
    await plane.settle()
    await plane.end(failed, "failed", reason="invalid_spec")

    await looked(plane)
    assert holders(plane, trained) == [failed]
    await plane.service.delete(failed, requester=REQUESTER, purge=())
    await looked(plane)

    assert holders(plane, trained) == []


async def test_a_job_that_was_refused_once_it_had_pinned_keeps_no_checkpoint(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = await training(plane)

    async def deleted(*_: object) -> None:
        raise JobGone(f"{trained} has just been deleted")

    with monkeypatch.context() as late:
        late.setattr(submission, "require_kept", deleted)
        with pytest.raises(JobGone):
            await drawing(plane, trained)

    await looked(plane, after_seconds=DAY - 1)
    assert len(holders(plane, trained)) == 1, "for all that is known the database is an older one"
    await looked(plane, after_seconds=2)

    assert holders(plane, trained) == []


async def test_a_training_that_is_deleted_while_a_job_of_it_is_tried_again_refuses_that(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = await plane.trained(100)
    cancelled = await drawing(plane, trained)
    await plane.cancel(cancelled)

    async def pin_and_delete(*args: Any, **named: Any) -> None:
        await pin(*args, **named)
        await plane.service.delete(trained, requester=REQUESTER, purge=())

    monkeypatch.setattr(usecases, "pin", pin_and_delete)
    with pytest.raises(JobGone, match=f"{trained} has just been deleted"):
        await plane.service.retry(cancelled, requester=REQUESTER)

    assert (await plane.job(cancelled)).state == "cancelled"


async def test_a_pin_of_an_earlier_release_says_no_time_and_goes_later(plane: Plane) -> None:
    trained = await training(plane)
    cancelled, waiting = await drawing(plane, trained), await drawing(plane, trained)
    for job_id in (cancelled, waiting):
        plane.store.put(JobKeys(trained).pin(100, 1, job_id), b"")
    await plane.cancel(cancelled)

    await looked(plane)
    assert len(holders(plane, trained)) == 2, "a replica of that release may be writing its job down"
    await looked(plane)

    assert holders(plane, trained) == [waiting]


async def test_what_a_fork_starts_from_stays_though_the_fork_is_cancelled(plane: Plane) -> None:
    trained = await training(plane)
    fork, _ = await plane.submissions.fork(trained, ForkCreate(), requester=REQUESTER)
    await plane.cancel(fork.id)

    await looked(plane)

    assert plane.store.list(JobKeys(trained).pins) == [JobKeys(trained).pin(100, 1)]


async def test_a_cancelled_job_that_is_tried_again_keeps_its_checkpoint_again(plane: Plane) -> None:
    trained = await training(plane)
    cancelled = await drawing(plane, trained)
    await plane.cancel(cancelled)
    await looked(plane)

    await plane.service.retry(cancelled, requester=REQUESTER)
    await looked(plane)

    assert holders(plane, trained) == [cancelled]


async def test_a_checkpoint_whose_pin_goes_while_its_job_is_tried_again_is_pinned_again(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = await training(plane)
    cancelled = await drawing(plane, trained)
    await plane.cancel(cancelled)

    async def pin_and_look(*args: Any, **named: Any) -> None:
        await pin(*args, **named)
        await looked(plane)

    monkeypatch.setattr(usecases, "pin", pin_and_look)
    await plane.service.retry(cancelled, requester=REQUESTER)

    assert holders(plane, trained) == [cancelled]


async def test_a_cancelled_job_is_not_tried_again_once_its_checkpoint_has_gone(plane: Plane) -> None:
    trained = await training(plane)
    cancelled = await drawing(plane, trained)
    await plane.cancel(cancelled)
    plane.store.delete(JobKeys(trained).checkpoint(100, 1) + MANIFEST)

    with pytest.raises(CheckpointNotFound, match="no checkpoint at 100 images any more"):
        await plane.service.retry(cancelled, requester=REQUESTER)

    assert (await plane.job(cancelled)).state == "cancelled"
