"""Checkpoints over REST: what each consists of, its files byte by byte, and nothing else through the same door."""

import hashlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from service.jobs import objects
from tests.support.kept import AT, checkpoint, remove
from tests.support.plane import served_in
from tests.support.problems import code
from workers.contract.data import DatasetManifest
from workers.contract.keys import MANIFEST, JobKeys
from workers.contract.presets import PRESETS
from workers.storage.memory import MemoryStore

PIECE = objects._PIECE_BYTES
WEIGHTS = bytes(range(251)) * (PIECE // 251 + 7)


class ChangingStore(MemoryStore):
    """Something happens just before an object's size is asked for."""

    before_size: Callable[[], None] = staticmethod(lambda: None)

    def size(self, key: str) -> int:
        self.before_size()
        return super().size(key)


@pytest.fixture
def store() -> ChangingStore:
    return ChangingStore()


@pytest.fixture
async def api(tmp_path: Path, store: ChangingStore) -> AsyncIterator[httpx2.AsyncClient]:
    async with served_in(tmp_path, store=store) as served:
        yield served.api


@pytest.fixture
async def job_id(api: httpx2.AsyncClient) -> str:
    spec = PRESETS["smoke"].model_dump(mode="json")
    return str((await api.post("/v1/jobs", json={"spec": spec})).json()["id"])


async def test_a_checkpoint_says_what_it_consists_of(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str
) -> None:
    folder = checkpoint(store, job_id, 160, ema=b"averaged", optimizer=b"moments")

    shown = await api.get(f"/v1/jobs/{job_id}/checkpoints/160")

    assert shown.status_code == 200
    assert shown.json() == {
        "images_seen": 160,
        "attempt": 1,
        "created_at": AT,
        "uri": f"memory://plane/{folder}",
        "num_bytes": 15,
        "files": [
            {"name": "ema.safetensors", "num_bytes": 8, "sha256": hashlib.sha256(b"averaged").hexdigest()},
            {"name": "optimizer.safetensors", "num_bytes": 7, "sha256": hashlib.sha256(b"moments").hexdigest()},
        ],
    }


async def test_the_newest_has_a_name_and_of_two_attempts_the_last_counts_unless_one_is_named(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str
) -> None:
    checkpoint(store, job_id, 160, attempt=1, ema=b"first")
    checkpoint(store, job_id, 160, attempt=2, ema=b"second")
    checkpoint(store, job_id, 320, attempt=2, ema=b"third")
    store.delete(checkpoint(store, job_id, 480, attempt=2, ema=b"torn") + "ema.safetensors")

    async def found(query: str) -> tuple[int, int, bytes]:
        at, _, attempt = query.partition("?")
        shown = (await api.get(f"/v1/jobs/{job_id}/checkpoints/{query}")).json()
        file = await api.get(f"/v1/jobs/{job_id}/checkpoints/{at}/files/ema.safetensors?{attempt}")
        return shown["images_seen"], shown["attempt"], file.content

    assert await found("latest") == (320, 2, b"third")
    assert await found("160") == (160, 2, b"second")
    assert await found("160?attempt=1") == (160, 1, b"first")
    assert await found("latest?attempt=1") == (160, 1, b"first")


@pytest.mark.parametrize("data", [b"", b"x", WEIGHTS])
async def test_a_file_arrives_byte_by_byte_to_be_saved_and_not_to_be_shown(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str, data: bytes
) -> None:
    checkpoint(store, job_id, 160, ema=data)

    answer = await api.get(f"/v1/jobs/{job_id}/checkpoints/160/files/ema.safetensors")

    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["Content-Length"] == str(len(data))
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="ema.safetensors"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_manifest_itself_comes_as_it_was_written(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str
) -> None:
    folder = checkpoint(store, job_id, 160, ema=b"averaged")

    answer = await api.get(f"/v1/jobs/{job_id}/checkpoints/160/files/{MANIFEST}")

    assert (answer.status_code, answer.content) == (200, store.get(folder + MANIFEST))


@pytest.mark.parametrize("start", [1, PIECE - 1, PIECE, PIECE + 1, len(WEIGHTS) - 1])
async def test_what_broke_off_goes_on_at_any_byte(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str, start: int
) -> None:
    checkpoint(store, job_id, 160, ema=WEIGHTS)
    path = f"/v1/jobs/{job_id}/checkpoints/160/files/ema.safetensors"

    answer = await api.get(path, headers={"Range": f"bytes={start}-"})

    assert (answer.status_code, answer.content) == (206, WEIGHTS[start:])
    assert answer.headers["Content-Range"] == f"bytes {start}-{len(WEIGHTS) - 1}/{len(WEIGHTS)}"
    assert answer.headers["Content-Length"] == str(len(WEIGHTS) - start)


@pytest.mark.parametrize(
    "wanted", ["bytes=0-", "bytes=8-", "bytes=-1", "bytes=1-2", "bytes=1-,3-", "lines=1-", "x", f"bytes={'9' * 400}-"]
)
async def test_a_range_that_is_no_rest_of_the_file_makes_no_difference(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str, wanted: str
) -> None:
    checkpoint(store, job_id, 160, ema=b"averaged")
    path = f"/v1/jobs/{job_id}/checkpoints/160/files/ema.safetensors"

    answer = await api.get(path, headers={"Range": wanted})

    assert (answer.status_code, answer.content) == (200, b"averaged")
    assert answer.headers["Accept-Ranges"] == "bytes"


async def test_what_the_checkpoint_does_not_list_is_not_found_though_it_lies_there(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str
) -> None:
    store.put(checkpoint(store, job_id, 160, ema=b"averaged") + "left.over", b"secret")

    for name in ("left.over", "network.safetensors"):
        answer = await api.get(f"/v1/jobs/{job_id}/checkpoints/160/files/{name}")
        assert code(answer) == (404, "file_not_found")
        assert answer.json()["detail"].endswith(f"has no file {name}: it has {MANIFEST}, ema.safetensors")


@pytest.mark.parametrize(
    "name", ["%2e%2e", ".hidden", "..%2F..%2Fspec.json", "a%2Fb", "a/b", "%2Fetc%2Fpasswd", "a%5Cb", "a%00b", "x" * 101]
)
async def test_a_name_that_leads_elsewhere_is_refused(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str, name: str
) -> None:
    store.put(checkpoint(store, job_id, 160, ema=b"averaged") + "a/b", b"secret")

    answer = await api.get(httpx2.URL(f"http://cdm.test/v1/jobs/{job_id}/checkpoints/160/files/{name}"))

    assert answer.status_code in {404, 422}, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_a_manifest_that_lists_what_lies_elsewhere_is_no_checkpoint(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str
) -> None:
    folder = checkpoint(store, job_id, 160, ema=b"averaged")
    store.put(folder + MANIFEST, store.get(folder + MANIFEST).replace(b"ema.safetensors", b"../../spec.json"))

    assert code(await api.get(f"/v1/jobs/{job_id}/checkpoints/160")) == (404, "checkpoint_not_found")
    assert (await api.get(f"/v1/jobs/{job_id}/checkpoints")).json() == {"data": []}


async def test_a_checkpoint_that_is_not_there_is_a_problem_that_says_where_to_look(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str
) -> None:
    none = await api.get(f"/v1/jobs/{job_id}/checkpoints/latest")
    checkpoint(store, job_id, 160, ema=b"averaged")

    assert code(none) == (404, "checkpoint_not_found")
    for place in ("7", "160?attempt=2", "1600"):
        answer = await api.get(f"/v1/jobs/{job_id}/checkpoints/{place}")
        assert code(answer) == (404, "checkpoint_not_found"), place
        assert answer.json()["detail"].endswith("or none any more: its list says which it keeps")
    for place in ("-1", "newest", str(2**63), "1.5"):
        assert code(await api.get(f"/v1/jobs/{job_id}/checkpoints/{place}")) == (422, "validation_failed"), place


async def test_one_that_its_training_removes_at_that_moment_is_not_there(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str
) -> None:
    folder = checkpoint(store, job_id, 160, ema=b"averaged")
    store.before_size = lambda: remove(store, folder)

    answer = await api.get(f"/v1/jobs/{job_id}/checkpoints/160/files/ema.safetensors")

    assert code(answer) == (404, "checkpoint_not_found")
    assert answer.json()["detail"].startswith(f"{job_id} has no checkpoint at 160 images, or none any more")


async def test_checkpoints_of_another_project_and_of_a_deleted_job_are_not_there(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str
) -> None:
    checkpoint(store, job_id, 160, ema=b"averaged")
    assert (await api.post("/v1/projects", json={"name": "other"})).status_code == 201
    parts = ("checkpoints/160", "checkpoints/latest/files/ema.safetensors", "dataset")

    for part in parts:
        answer = await api.get(f"/v1/jobs/{job_id}/{part}", headers={"Cdm-Project": "other"})
        assert code(answer) == (404, "job_not_found"), part
    for verb in ("cancel", "archive"):
        assert (await api.post(f"/v1/jobs/{job_id}/{verb}")).status_code == 200
    assert (await api.delete(f"/v1/jobs/{job_id}")).status_code == 204
    for part in parts:
        assert code(await api.get(f"/v1/jobs/{job_id}/{part}")) == (410, "job_gone"), part


async def test_a_store_that_is_down_is_a_problem_that_may_pass(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str
) -> None:
    checkpoint(store, job_id, 160, ema=b"averaged")

    def fail() -> None:
        raise ConnectionError("the store is on fire")

    store.before_size = fail
    answer = await api.get(f"/v1/jobs/{job_id}/checkpoints/160/files/ema.safetensors")

    assert code(answer) == (503, "storage_unavailable")
    assert answer.headers["Retry-After"]


async def test_a_job_says_which_images_it_learns_from_once_its_workers_do(
    api: httpx2.AsyncClient, store: ChangingStore, job_id: str
) -> None:
    before = await api.get(f"/v1/jobs/{job_id}/dataset")
    manifest = DatasetManifest(
        digest="1" * 64,
        num_images=3,
        channels=1,
        resolution=8,
        classes=("cat",),
        labels=None,
        sigma_data=0.5,
        shards=(),
    )
    store.put(JobKeys(job_id).dataset, manifest.model_dump_json().encode())

    told = await api.get(f"/v1/jobs/{job_id}/dataset")

    assert code(before) == (404, "dataset_not_found")
    assert DatasetManifest.model_validate_json(told.content) == manifest


async def test_the_manifests_of_many_checkpoints_are_read_side_by_side() -> None:
    both = threading.Barrier(2, timeout=10)

    class Far(MemoryStore):
        """Answers no reader who asks alone."""

        def get(self, key: str) -> bytes:
            both.wait()
            return super().get(key)

    store = Far()
    for images_seen in range(1, 13):
        checkpoint(store, "job_1", images_seen, ema=b"averaged")

    found = await objects.JobObjects(store, url="memory://far").checkpoints("job_1", above=2)

    assert [manifest.images_seen for _, manifest in found] == list(range(3, 13))
