"""Requests of a served API for jobs of all kinds: what is taken, and what is refused."""

from typing import Any

from tests.support.plane import Served, eventually
from tests.support.problems import code
from tests.support.worker import Worker
from workers.contract.presets import PRESETS

SMOKE = PRESETS["smoke"].model_dump(mode="json")
AT = "2026-11-01T00:00:00Z"


async def submitted(served: Served, spec: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await served.api.post("/v1/jobs", json={"spec": spec}, headers=headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def trained(served: Served, *checkpoints: tuple[int, int]) -> str:
    """A training with checkpoints, each at so many images and of such an attempt."""
    job_id = str((await submitted(served, SMOKE))["id"])
    for images_seen, attempt in checkpoints:
        Worker(served.store, job_id, attempt).checkpoint(images_seen, at=AT)
    return job_id


async def ended(served: Served, job_id: str) -> None:
    """Wait until it has, as its outcome says."""
    Worker(served.store, job_id).outcome("succeeded", at=AT)

    async def has_ended() -> bool:
        return bool((await served.api.get(f"/v1/jobs/{job_id}")).json()["state"] == "succeeded")

    await eventually(has_ended, what=f"{job_id} has ended")


async def refused(served: Served, spec: dict[str, Any], **query: str) -> dict[str, str]:
    """What is wrong with it, by pointer; and that nothing was written down."""
    before = {*served.store.list("")}, len((await served.api.get("/v1/jobs")).json()["data"])
    answer = await served.api.post("/v1/jobs", json={"spec": spec}, params=query)
    assert code(answer) == (422, "validation_failed")
    new = {key for key in {*served.store.list("")} - before[0] if "/pins/" in key or key.endswith("spec.json")}
    assert (new, len((await served.api.get("/v1/jobs")).json()["data"])) == (set(), before[1])
    return {error["pointer"]: error["message"] for error in answer.json()["errors"]}


def drawing(kind: str, job_id: str, **checkpoint: Any) -> dict[str, Any]:
    return {"kind": kind, "checkpoint": {"job_id": job_id, **checkpoint}, "compute": {"accelerator": "cpu"}}
