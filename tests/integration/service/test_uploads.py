"""Files that clients send: in parts, straight into a real S3 server, for their own project and for some days."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from service.cluster import MemoryCluster
from service.identifiers import new_id
from service.uploads import usecases
from tests.support.clock import ManualClock
from tests.support.plane import KEY, Plane, Script, plane_in, served_in
from tests.support.problems import code
from tests.support.upload_api import announced, upload_api
from workers.contract.data import NpzDataset
from workers.contract.importing import ImportSpec
from workers.contract.jobs import parse_job
from workers.contract.keys import UploadKeys
from workers.data import import_images
from workers.storage import ObjectStore, open_store

PART = 700


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usecases, "PART_BYTES", PART)


@pytest.fixture
def store(place: str) -> ObjectStore:
    return open_store(place)


@pytest.fixture
async def api(place: str, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with upload_api(tmp_path, place) as client:
        yield client


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """Some images of noise, so that there are several parts of them."""
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", X=generator.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8))
    return (tmp_path / "noise.npz").read_bytes()


async def send(api: httpx2.AsyncClient, upload: Any, content: bytes, *, but: int | None = None) -> None:
    """All parts that are missing, or all but one."""
    for part in (await api.get(f"{upload['links']['self']}/parts")).json()["data"]:
        start = part["number"] * upload["part_bytes"]
        if part["number"] != but and part["url"]:
            piece = content[start : start + part["num_bytes"]]
            assert httpx2.put(part["url"], content=piece).status_code == 200


async def submit(api: httpx2.AsyncClient, path: str, **headers: str) -> httpx2.Response:
    spec = {"kind": "import", "dataset": {"kind": "npz", "path": path}}
    return await api.post("/v1/jobs", json={"spec": spec}, headers=headers)


async def key(api: httpx2.AsyncClient, *scopes: str) -> dict[str, str]:
    answer = await api.post("/v1/api-keys", json={"scopes": scopes})
    return {"Authorization": f"Bearer {answer.json()['key']}"}


async def test_a_file_goes_straight_to_the_store_in_parts_and_is_imported_whole(
    api: httpx2.AsyncClient, store: ObjectStore, archive: bytes
) -> None:
    upload = await announced(api, archive)
    assert upload["num_missing_parts"] == -(-len(archive) // PART) > 3

    await send(api, upload, archive)
    whole = (await api.get(upload["links"]["self"])).json()
    job = (await submit(api, upload["path"])).json()
    spec = parse_job(job["spec"])
    assert isinstance(spec, ImportSpec)
    imported = import_images(spec.dataset, store)

    assert whole["num_missing_parts"] == 0
    assert spec.dataset == NpzDataset(kind="npz", path=f"upload://{upload['id']}")
    assert (imported.manifest.num_images, imported.manifest.resolution) == (8, 16)
    assert store.list(UploadKeys(upload["id"]).jobs) == [UploadKeys(upload["id"]).jobs + job["id"]]


async def test_what_has_not_come_whole_is_refused_and_the_rest_can_be_sent(
    api: httpx2.AsyncClient, archive: bytes
) -> None:
    upload = await announced(api, archive)
    await send(api, upload, archive, but=1)

    early = await submit(api, upload["path"])
    parts = (await api.get(f"{upload['links']['self']}/parts")).json()["data"]
    await send(api, upload, archive)

    assert code(early) == (422, "validation_failed")
    [error] = early.json()["errors"]
    assert error["pointer"] == "/spec/dataset/path"
    assert "1 of its" in error["message"]
    assert [part["number"] for part in parts if part["url"]] == [1]
    assert (await submit(api, upload["path"])).status_code == 201


async def test_an_upload_of_another_project_is_not_there(api: httpx2.AsyncClient, archive: bytes) -> None:
    assert (await api.post("/v1/projects", json={"name": "other"})).status_code == 201
    theirs = await announced(api, archive, **{"Cdm-Project": "other"})
    this = theirs["links"]["self"]

    for answer in (await api.get(this), await api.get(f"{this}/parts"), await api.delete(this)):
        assert code(answer) == (404, "upload_not_found")
    refused = await submit(api, theirs["path"])

    assert code(refused) == (422, "validation_failed")
    assert [error["message"] for error in refused.json()["errors"]] == [f"there is no upload {theirs['id']}"]
    assert (await api.get(this, headers={"Cdm-Project": "other"})).status_code == 200


async def test_uploads_are_listed_page_by_page_with_what_they_lack(api: httpx2.AsyncClient, archive: bytes) -> None:
    assert (await api.post("/v1/projects", json={"name": "other"})).status_code == 201
    theirs = await announced(api, archive, **{"Cdm-Project": "other"})
    ours = [await announced(api, archive) for _ in range(3)]
    await send(api, ours[0], archive, but=1)
    newest_first = sorted((each["id"] for each in ours), reverse=True)

    first = (await api.get("/v1/uploads", params={"limit": 2})).json()
    rest = (await api.get("/v1/uploads", params={"cursor": first["next_cursor"]})).json()
    other = (await api.get("/v1/uploads", headers={"Cdm-Project": "other"})).json()

    listed = [*first["data"], *rest["data"]]
    assert [each["id"] for each in listed] == newest_first
    assert (first["has_more"], rest["has_more"], len(first["data"])) == (True, False, 2)
    assert [each["num_missing_parts"] for each in listed if each["id"] == ours[0]["id"]] == [1]
    assert [each["id"] for each in other["data"]] == [theirs["id"]]


async def test_who_may_only_read_may_not_send(api: httpx2.AsyncClient, archive: bytes) -> None:
    upload, reader = await announced(api, archive), await key(api, "jobs:read")
    this, document = upload["links"]["self"], {"name": "a.zip", "num_bytes": 5}

    refused = (
        await api.post("/v1/uploads", json=document, headers=reader),
        await api.get(f"{this}/parts", headers=reader),
        await api.delete(this, headers=reader),
    )

    assert [code(answer) for answer in refused] == [(403, "forbidden")] * 3
    assert (await api.get(this, headers=reader)).status_code == 200
    assert "X-Amz" not in (await api.get(this, headers=reader)).text


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a\\b", "jobs/job_1/spec.json", "ф" * 255])
async def test_no_key_is_made_of_a_name(api: httpx2.AsyncClient, store: ObjectStore, archive: bytes, name: str) -> None:
    upload = await announced(api, archive, name=name)
    await send(api, upload, archive)

    imported = import_images(NpzDataset(kind="npz", path=upload["path"]), store)

    assert upload["name"] == name
    assert imported.manifest.num_images == 8
    assert {key.split("/")[0] for key in store.list("")} <= {"uploads", "datasets", "installation"}
    keys = UploadKeys(upload["id"])
    assert {*store.list("uploads/")} == {
        keys.record,
        *(keys.part(number) for number in range(-(-len(archive) // PART))),
    }


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"name": "a\nb", "num_bytes": 5}, "/name"),
        ({"name": "\x00", "num_bytes": 5}, "/name"),
        ({"name": "", "num_bytes": 5}, "/name"),
        ({"name": "n" * 256, "num_bytes": 5}, "/name"),
        ({"name": "a", "num_bytes": 0}, "/num_bytes"),
        ({"name": "a", "num_bytes": (100 << 30) + 1}, "/num_bytes"),
        ({"name": "a", "num_bytes": 5, "sha256": "ab"}, "/sha256"),
        ({"name": "a", "num_bytes": 5, "path": "/x"}, "/path"),
    ],
)
async def test_what_cannot_be_taken_is_refused_with_the_field(
    api: httpx2.AsyncClient, store: ObjectStore, document: dict[str, Any], pointer: str
) -> None:
    answer = await api.post("/v1/uploads", json=document)

    assert code(answer) == (422, "validation_failed")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert store.list("uploads/") == []


@pytest.mark.parametrize("upload_id", ["..", "..%2Fjobs", "upl_1", "upl_%2E%2E", "UPL_01ARZ3NDEKTSV4RRFFQ69G5FAV"])
async def test_an_id_that_is_none_leads_nowhere(api: httpx2.AsyncClient, upload_id: str) -> None:
    assert (await api.get(f"/v1/uploads/{upload_id}/parts")).status_code == 404
    refused = await submit(api, f"upload://{upload_id}")

    assert code(refused) == (422, "validation_failed")
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/spec/dataset/path"]


async def test_a_request_that_is_repeated_makes_one_upload(
    api: httpx2.AsyncClient, store: ObjectStore, archive: bytes
) -> None:
    first, again = [await announced(api, archive, **{"Idempotency-Key": "once"}) for _ in range(2)]

    assert again == first
    assert store.folders("uploads/") == [first["id"]]


async def test_an_upload_can_be_removed_unless_a_job_may_still_read_it(
    api: httpx2.AsyncClient, store: ObjectStore, archive: bytes
) -> None:
    used, unused = await announced(api, archive), await announced(api, archive)
    await send(api, used, archive)
    job = (await submit(api, used["path"])).json()

    kept, removed = await api.delete(used["links"]["self"]), await api.delete(unused["links"]["self"])

    assert code(kept) == (409, "upload_in_use")
    assert job["id"] in kept.json()["detail"]
    assert removed.status_code == 204
    assert code(await api.get(unused["links"]["self"])) == (404, "upload_not_found")
    assert store.list(UploadKeys(unused["id"]).root) == []
    audited = (await api.get("/v1/audit")).json()["data"]
    assert [row["target"] for row in audited if row["action"] == "upload.delete"] == [unused["id"]]


async def test_a_store_that_clients_cannot_reach_takes_no_uploads(tmp_path: Path) -> None:
    async with served_in(tmp_path) as served:
        answer = await served.api.post("/v1/uploads", json={"name": "a.zip", "num_bytes": 5})
        sources = (await served.api.get("/v1/sources")).json()

    assert code(answer) == (409, "uploads_impossible")
    assert "give a path" in answer.json()["detail"]
    assert sources == {"shares_paths": False, "takes_uploads": False, "max_upload_bytes": 100 << 30, "s3": []}


async def test_what_has_expired_is_removed_finished_or_not_once_no_job_reads_it(
    place: str, store: ObjectStore, tmp_path: Path, archive: bytes
) -> None:
    clock, script = ManualClock(), Script()
    async with upload_api(tmp_path, place, script=script, clock=clock) as api:
        read, unfinished = await announced(api, archive), await announced(api, archive)
        await send(api, read, archive)
        await send(api, unfinished, archive, but=0)
        job_id = (await submit(api, read["path"])).json()["id"]

        clock.advance(72 * 3600)
        late = await submit(api, read["path"])
        gone = await api.get(unfinished["links"]["self"])

    assert "has expired" in late.json()["errors"][0]["message"]
    assert code(gone) == (404, "upload_not_found")

    async with plane_in(tmp_path, cluster=MemoryCluster(script), store=store, clock=clock) as plane:
        assert await left(plane) == sorted([read["id"], unfinished["id"]]), "jobs of the last moment have an hour"
        clock.advance(2 * 3600)
        assert await left(plane) == [read["id"]]
        await plane.cancel(job_id, mode="now")
        await plane.settle()
        assert await left(plane) == []


async def test_an_upload_stays_for_as_long_as_was_promised_though_the_settings_say_less_by_now(
    place: str, store: ObjectStore, tmp_path: Path, archive: bytes
) -> None:
    clock, script = ManualClock(), Script()
    async with upload_api(tmp_path, place, script=script, clock=clock, uploads={"keep_hours": 720.0}) as api:
        promised = (await announced(api, archive))["id"]
    unknown = new_id("upl", at=clock())
    store.put(UploadKeys(unknown).part(0), b"of an upload whose removal was cut off")
    fewer = {"keep_hours": 24.0}

    async with plane_in(tmp_path, cluster=MemoryCluster(script), store=store, clock=clock, uploads=fewer) as plane:
        assert await left(plane) == sorted([promised, unknown])
        clock.advance(26 * 3600)
        assert await left(plane) == [promised]
        clock.advance(694 * 3600)
        assert await left(plane) == [promised]
        clock.advance(2 * 3600)
        assert await left(plane) == []


async def left(plane: Plane) -> list[str]:
    """Uploads of which there is anything after a look."""
    await plane.parts.uploads.purge(now=plane.clock())
    return sorted({key.split("/")[1] for key in plane.store.list("uploads/")})


async def test_links_need_no_key_and_are_kept_nowhere(api: httpx2.AsyncClient, archive: bytes, tmp_path: Path) -> None:
    upload = await announced(api, archive, **{"Idempotency-Key": "k"})

    answer = await api.get(f"{upload['links']['self']}/parts")

    assert answer.headers["cache-control"] == "no-store"
    assert KEY not in answer.text
    assert answer.text.count("X-Amz-Expires=86400") == len(answer.json()["data"]), "large files take hours"
    assert b"X-Amz-Signature" not in written_in(tmp_path)


def written_in(folder: Path) -> bytes:
    """All that the database has on disk."""
    return b"".join(file.read_bytes() for file in folder.glob("service.db*"))
