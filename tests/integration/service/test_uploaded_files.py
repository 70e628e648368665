"""Uploads that jobs read beside their images: whose they may be, and how long they are kept for whom."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from service.errors import InvalidRequest, UploadInUse
from service.jobs.views import ForkCreate, JobCreate
from tests.support.plane import REQUESTER, Plane
from tests.support.uploads import ID, UPLOAD, uploaded
from workers.contract.document import Problem
from workers.contract.keys import UploadKeys
from workers.contract.presets import PRESETS
from workers.storage.memory import MemoryStore

CONTENT = bytes(1200)
INCEPTION = {"kind": "inception", "weights": "/data/inception.pth", "sha256": "0" * 64}
CPU = {"accelerator": "cpu"}
FIELDS: dict[str, dict[str, Any]] = {
    "/spec/initial_weights": {"initial_weights": UPLOAD},
    "/spec/weights": {"kind": "sample", "weights": UPLOAD},
    "/spec/dataset/path": {"dataset": {"kind": "zip", "path": UPLOAD}},
    "/spec/inpainting/image": {"kind": "sample", "inpainting": {"image": UPLOAD, "mask": "/data/mask.png"}},
    "/spec/inpainting/mask": {"kind": "sample", "inpainting": {"image": "/data/image.png", "mask": UPLOAD}},
    "/spec/features/weights": {"kind": "evaluate", "features": INCEPTION | {"weights": UPLOAD}},
    "/spec/reference": {"kind": "evaluate", "features": INCEPTION, "reference": UPLOAD},
    "/evaluations/features/weights": {"evaluations": {"features": INCEPTION | {"weights": UPLOAD}}},
    "/evaluations/reference": {"evaluations": {"features": INCEPTION, "reference": UPLOAD}},
}


def send(plane: Plane, **fields: Any) -> None:
    """A file that has come whole."""
    assert isinstance(plane.store, MemoryStore)
    uploaded(CONTENT, into=plane.store, **fields)


async def request(plane: Plane, pointer: str) -> JobCreate:
    """For a job with an upload in that field."""
    fields = dict(FIELDS[pointer])
    evaluations = fields.pop("evaluations", None)
    if "weights" in fields:
        fields |= {"compute": CPU}
    elif "kind" in fields:
        trained = await plane.started()
        plane.worker(trained).checkpoint(160, at=plane.clock())
        fields |= {"checkpoint": {"job_id": trained}, "compute": CPU}
    else:
        fields = PRESETS["smoke"].model_dump(mode="json") | fields
    return JobCreate.model_validate({"spec": fields, "evaluations": evaluations})


async def problem(plane: Plane, wanted: JobCreate) -> Problem:
    with pytest.raises(InvalidRequest) as refused:
        await plane.submissions.submit(wanted, requester=REQUESTER)
    [found] = refused.value.problems
    return found


def pinned(plane: Plane) -> list[str]:
    prefix = UploadKeys(ID).jobs
    return [key.removeprefix(prefix) for key in plane.store.list(prefix)]


async def is_kept(plane: Plane) -> bool:
    """After a look for what has expired."""
    await plane.parts.uploads.purge(now=plane.clock())
    return plane.store.list(UploadKeys(ID).record) != []


@pytest.mark.parametrize("pointer", FIELDS)
async def test_an_upload_is_taken_in_every_field_that_names_a_file_once_all_of_it_is_there(
    plane: Plane, pointer: str
) -> None:
    wanted = await request(plane, pointer)
    absent = await problem(plane, wanted)
    send(plane, project="other")
    theirs = await problem(plane, wanted)
    send(plane, created_at=plane.clock())
    plane.store.delete(UploadKeys(ID).part(1))
    torn = await problem(plane, wanted)
    send(plane)

    job = await plane.submissions.submit(wanted, requester=REQUESTER)

    assert absent == theirs == Problem(pointer, "not_found", f"there is no upload {ID}")
    assert (torn.pointer, torn.message) == (
        pointer,
        f"{ID} is not whole: 1 of its 3 parts have not come yet; send them first",
    )
    assert pinned(plane) == [job.id]
    with pytest.raises(UploadInUse, match=job.id):
        await plane.parts.uploads.remove(ID, requester=REQUESTER)


@pytest.mark.parametrize("pointer", FIELDS)
async def test_one_that_has_expired_is_refused_with_the_mend_of_its_field(plane: Plane, pointer: str) -> None:
    send(plane, expires_at=plane.clock())

    found = await problem(plane, await request(plane, pointer))

    mend = ', or name what was imported of it by its digest: "kind": "imported"' if "dataset" in pointer else ""
    assert found == Problem(pointer, "not_found", f"{ID} has expired; upload the file again{mend}")
    assert pinned(plane) == []


async def test_everything_that_is_wrong_is_said_at_once(plane: Plane) -> None:
    spec = PRESETS["smoke"].model_copy(update={"initial_weights": "s3://private/weights.safetensors"})
    evaluations = FIELDS["/evaluations/reference"]["evaluations"]

    with pytest.raises(InvalidRequest) as refused:
        await plane.submit(spec=spec, evaluations=evaluations)

    assert [each.pointer for each in refused.value.problems] == ["/spec/initial_weights", "/evaluations/reference"]


async def test_a_job_that_has_ended_lets_it_go(plane: Plane) -> None:
    send(plane, expires_at=later(plane, hours=1))
    job_id = (await plane.submissions.submit(await request(plane, "/spec/initial_weights"), requester=REQUESTER)).id
    plane.clock.advance(2 * 3600)

    assert await is_kept(plane)
    await plane.cancel(job_id, mode="now")
    await plane.settle()
    assert not await is_kept(plane)


async def test_what_evaluations_read_is_kept_until_those_of_both_trainings_of_a_pair_are_through(plane: Plane) -> None:
    """Though it has expired long before the last of them is submitted."""
    send(plane, expires_at=later(plane, hours=1))
    evaluations = FIELDS["/evaluations/features/weights"]["evaluations"]
    trained = await plane.started(evaluations=evaluations, control="edm")
    control = (await plane.job(trained)).control_job_id
    assert control
    assert pinned(plane) == sorted([trained, control])
    plane.clock.advance(100 * 3600)

    for each in (trained, control):
        await plane.settle()
        plane.worker(each).checkpoint(320, at=plane.clock())
        await ended(plane, each)
        assert await is_kept(plane), "its evaluation is to come"
        await plane.followups.tick()
        [evaluation] = {*pinned(plane)} - {trained, control}
        assert await is_kept(plane), "its evaluation is under way"
        await ended(plane, evaluation)
        plane.store.delete(UploadKeys(ID).jobs + evaluation)

    assert not await is_kept(plane)


async def test_a_job_that_comes_while_those_before_it_are_looked_at_keeps_it_too(plane: Plane) -> None:
    """As the evaluation that follows a training which has just ended."""
    send(plane)
    uploads = plane.parts.uploads
    await uploads.objects.pin(ID, "job_over")

    async def readers(known: Sequence[str]) -> Sequence[str]:
        if "job_new" in known:
            return ["job_new"]
        await uploads.objects.pin(ID, "job_new")
        return []

    with pytest.raises(UploadInUse, match="job_new may still read it"):
        await replace(uploads, readers=readers).remove(ID, requester=REQUESTER)


async def test_an_evaluation_that_nobody_asked_for_before_does_not_get_what_has_expired(plane: Plane) -> None:
    send(plane, expires_at=later(plane, hours=1))
    wanted = await request(plane, "/spec/reference")
    await plane.started(**FIELDS["/evaluations/reference"])
    plane.clock.advance(2 * 3600)

    assert await is_kept(plane)
    assert "has expired" in (await problem(plane, wanted)).message


async def test_a_training_that_is_deleted_keeps_nothing_for_evaluations(plane: Plane) -> None:
    send(plane, expires_at=later(plane, hours=1))
    trained = await plane.started(**FIELDS["/evaluations/reference"])
    await ended(plane, trained)
    plane.clock.advance(2 * 3600)
    assert await is_kept(plane)

    await plane.service.delete(trained, requester=REQUESTER, purge=())

    assert not await is_kept(plane)


async def test_a_fork_starts_from_a_checkpoint_and_needs_no_weights_that_have_expired(plane: Plane) -> None:
    send(plane, expires_at=later(plane, hours=1))
    parent = await plane.started(spec=(await request(plane, "/spec/initial_weights")).spec)
    plane.worker(parent).checkpoint(160, at=plane.clock())
    await ended(plane, parent)
    plane.clock.advance(2 * 3600)
    assert not await is_kept(plane)

    fork, changes = await plane.submissions.fork(parent, ForkCreate(), requester=REQUESTER)

    assert changes == ()
    assert f'"initial_weights":"{UPLOAD}"' in fork.spec, "it goes on as what began from weights"
    assert pinned(plane) == []


def later(plane: Plane, *, hours: float) -> datetime:
    return datetime.fromtimestamp(plane.clock().timestamp() + hours * 3600, tz=plane.clock().tzinfo)


async def ended(plane: Plane, job_id: str) -> None:
    """As hoped."""
    await plane.settle()
    await plane.end(job_id)
