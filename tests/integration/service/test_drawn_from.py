"""What sample and evaluation jobs draw from, as they are submitted: one thing, that is there and has what they ask."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.plane import Served, served_in
from tests.support.problems import code
from tests.support.submissions import AT, SMOKE, drawing, refused, submitted, trained
from tests.support.worker import Worker
from workers.contract.data import DatasetManifest
from workers.contract.keys import MANIFEST, JobKeys, dataset_folder

DIGEST = "ab" * 32
INCEPTION = {"kind": "inception", "weights": "/data/inception.pth", "sha256": DIGEST}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_in(tmp_path, local_paths=True) as served:
        yield served


async def test_a_file_of_weights_takes_the_place_of_a_checkpoint(served: Served, tmp_path: Path) -> None:
    (tmp_path / "edm.safetensors").touch()
    served.store.put(dataset_folder(DIGEST) + MANIFEST, b"{}")
    weights = {"weights": str(tmp_path / "edm.safetensors"), "compute": {"accelerator": "cpu"}}
    images = {"dataset": {"kind": "imported", "digest": DIGEST}}

    drawn = await submitted(served, {"kind": "sample"} | weights)
    found = await submitted(served, {"kind": "evaluate"} | weights | images)

    for job in (drawn, found):
        assert (job["parent"], job["spec"]["checkpoint"]) == (None, None)
        assert json.loads(served.store.get(JobKeys(job["id"]).spec)) == job["spec"]
    assert found["dataset_digest"] == DIGEST, "so that nobody removes it"
    assert (await served.api.post(f"/v1/jobs/{drawn['id']}/cancel", json={})).status_code in {200, 202}


async def test_of_weights_and_checkpoint_there_is_one_and_what_weights_do_not_say_is_asked_for(
    served: Served, tmp_path: Path
) -> None:
    (tmp_path / "edm.safetensors").touch()
    job_id, of_weights = await trained(served, (100, 1)), {"weights": str(tmp_path / "edm.safetensors")}
    evaluate, unknown = {"kind": "evaluate"} | of_weights, {"dataset": {"kind": "imported", "digest": DIGEST}}
    statistics = {"features": INCEPTION, "reference": str(tmp_path / "mu.npz")}

    assert {*await refused(served, {"kind": "sample"})} == {"/spec/checkpoint"}
    assert {*await refused(served, drawing("sample", job_id) | of_weights)} == {"/spec/weights"}
    assert {*await refused(served, {"kind": "sample", "weights": str(tmp_path / "none")})} == {"/spec/weights"}
    assert {*await refused(served, {"kind": "sample", "weights": "memory://plane/a"})} == {"/spec/weights"}
    assert {*await refused(served, drawing("evaluate", job_id) | unknown)} == {"/spec/dataset"}
    assert {*await refused(served, evaluate)} == {"/spec/dataset"}
    assert {*await refused(served, evaluate | statistics)} == {"/spec/drift_images"}
    assert {*await refused(served, evaluate | unknown)} == {"/spec/dataset/digest"}
    assert {*await refused(served, evaluate | unknown | {"held_out": DIGEST})} == {"/spec/held_out"}


def image_set(digest: str, resolution: int, num_classes: int = 10) -> bytes:
    classes = tuple(map(str, range(num_classes))) or None
    fields: dict[str, Any] = {"digest": digest, "num_images": 100, "channels": 1, "resolution": resolution}
    return DatasetManifest(**fields, classes=classes, labels=None, sigma_data=0.5, shards=()).model_dump_json().encode()


async def test_what_a_network_has_not_and_images_that_do_not_suit_it_are_refused_at_once(served: Served) -> None:
    job_id = await trained(served, (100, 1))
    no_classes = {"network": SMOKE["network"] | {"class_conditional": False}}
    plain = str((await submitted(served, SMOKE | no_classes | {"objective": {"label_dropout": 0.0}}))["id"])
    Worker(served.store, plain).checkpoint(100, at=AT)
    served.store.put(JobKeys(job_id).dataset, image_set("0" * 64, 16))
    for digest, resolution in ((DIGEST, 32), ("cd" * 32, 16)):
        served.store.put(dataset_folder(digest) + MANIFEST, image_set(digest, resolution))

    async def wrong(job_id: str, kind: str = "sample", **fields: Any) -> dict[str, str]:
        return await refused(served, drawing(kind, job_id, **fields.pop("checkpoint", {})) | fields)

    assert await wrong(job_id, classes=[3, 11]) == {"/spec/classes": "there is no class 11; the last is 9"}
    assert await wrong(plain, classes=[3]) == {"/spec/classes": f"{plain} trains without classes; leave it out"}
    assert await wrong(job_id, checkpoint={"average": "ema-0.05"}) == {
        "/spec/checkpoint/average": f"{job_id} keeps no ema-0.05; choose ema or network"
    }
    (reason,) = (await wrong(job_id, "evaluate", held_out=DIGEST)).items()
    assert reason[0] == "/spec/held_out"
    assert reason[1].startswith("its images are 32 pixels wide, of 1 channels, the network takes them 16 pixels wide")
    assert await submitted(served, drawing("evaluate", job_id) | {"held_out": "cd" * 32, "classes": [9]})


async def test_an_average_that_a_training_will_not_keep_is_refused_with_it(served: Served) -> None:
    evaluations = {"average": "ema-0.05"}

    answer = await served.api.post("/v1/jobs", json={"spec": SMOKE, "evaluations": evaluations})

    assert code(answer) == (422, "validation_failed")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/evaluations/average"]


async def test_of_many_checkpoints_only_the_one_that_is_drawn_from_is_read(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await trained(served, *((images_seen, 1) for images_seen in range(100, 120)))
    read, get = list[str](), served.store.get
    monkeypatch.setattr(served.store, "get", lambda key: read.append(key) or get(key))

    await submitted(served, drawing("sample", job_id))

    manifests = {key for key in read if key.endswith(MANIFEST)}
    assert manifests == {f"{JobKeys(job_id).checkpoint(119, 1)}{MANIFEST}"}
