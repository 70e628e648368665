"""Files that clients send: in parts, straight into a real S3 server, for their own project and for some days."""

from collections.abc import AsyncIterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import numpy as np
import pytest

from service.app import create_app
from service.cluster import MemoryCluster
from service.identifiers import new_id
from service.settings import UploadLimits
from service.uploads import usecases
from tests.support.clock import ManualClock
from tests.support.fake_mlflow import FakeMlflow
from tests.support.plane import KEY, Plane, Script, plane_in, running, served_in, settings_in
from tests.support.problems import code
from tests.support.seaweed import Seaweed
from workers.contract.data import NpzDataset
from workers.contract.importing import ImportSpec
from workers.contract.jobs import parse_job
from workers.contract.keys import UploadKeys
from workers.data import import_images
from workers.storage import ObjectStore, open_store

PART = 700


@pytest.fixture
def store_url(server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(usecases, "PART_BYTES", PART)
    return f"s3://{server.bucket}/{uuid4()}"


@pytest.fixture
def store(store_url: str) -> ObjectStore:
    return open_store(store_url)


@pytest.fixture
async def api(store_url: str, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    settings = settings_in(tmp_path, store_url=store_url)
    app = create_app(settings, cluster=MemoryCluster(Script()), mlflow=FakeMlflow().client())
    async with running(app) as client:
        yield client


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """Some images of noise, so that there are several parts of them."""
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", X=generator.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8))
    return (tmp_path / "noise.npz").read_bytes()


async def announced(api: httpx2.AsyncClient, content: bytes, *, name: str = "noise.npz", **headers: str) -> Any:
    document = {"name": name, "num_bytes": len(content), "sha256": sha256(content).hexdigest()}
    answer = await api.post("/v1/uploads", json=document, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


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


async def test_a_project_may_send_so_much_at_a_time_and_no_more(
    store_url: str, store: ObjectStore, tmp_path: Path
) -> None:
    limits = UploadLimits(project_bytes=1000)
    settings = settings_in(tmp_path, store_url=store_url, uploads=limits)
    app = create_app(settings, cluster=MemoryCluster(Script()), mlflow=FakeMlflow().client())
    async with running(app) as api:
        first = await announced(api, bytes(600), **{"Idempotency-Key": "once"})
        again = await announced(api, bytes(600), **{"Idempotency-Key": "once"})
        assert (await api.post("/v1/projects", json={"name": "other"})).status_code == 201
        theirs = await announced(api, bytes(1000), **{"Cdm-Project": "other"})
        refused = await api.post("/v1/uploads", json={"name": "more.npz", "num_bytes": 401})
        there = store.folders("uploads/")
        await api.delete(first["links"]["self"])
        later = await announced(api, bytes(401))

    assert again == first
    assert code(refused) == (409, "upload_quota_exceeded")
    assert "1 uploads take 600 of the project's 1000 bytes" in refused.json()["detail"]
    assert there == sorted([first["id"], theirs["id"]])
    assert later["num_bytes"] == 401


async def test_a_refusal_for_want_of_room_says_which_uploads_make_it_and_when(
    store_url: str, store: ObjectStore, tmp_path: Path
) -> None:
    clock, limits = ManualClock(), UploadLimits(project_bytes=1000)
    settings = settings_in(tmp_path, store_url=store_url, uploads=limits)
    app = create_app(settings, cluster=MemoryCluster(Script()), mlflow=FakeMlflow().client(), clock=clock)
    async with running(app) as api:
        expired = await announced(api, bytes(999))
        clock.advance(73 * 3600)
        still_there = await api.post("/v1/uploads", json={"name": "more.npz", "num_bytes": 2})
        listed = (await api.get("/v1/uploads")).json()["data"]
        assert (await api.delete(expired["links"]["self"])).status_code == 204
        held = []
        for num_bytes in (100, 200, 300, 400):
            clock.advance(60)
            held.append(await announced(api, bytes(num_bytes)))

        async def refused(num_bytes: int) -> str:
            answer = await api.post("/v1/uploads", json={"name": "more.npz", "num_bytes": num_bytes})
            assert code(answer) == (409, "upload_quota_exceeded")
            return str(answer.json()["detail"])

        few, all_of_them, too_large = await refused(250), await refused(1000), await refused(1001)
        audited = (await api.get("/v1/audit")).json()["data"]

    ids = [each["id"] for each in held]
    until = [datetime.fromisoformat(each["expires_at"]).isoformat() for each in held]
    assert f": delete {ids[0]} and {ids[1]}, or wait until {until[1]} and until no job reads them" in few
    assert code(still_there) == (409, "upload_quota_exceeded"), "what a job still keeps counts"
    assert [each["id"] for each in listed] == [expired["id"]], "and is listed, or nobody could delete it"
    assert f": delete {ids[0]} and {ids[1]} and {ids[2]} and 1 more, or wait until {until[3]} and" in all_of_them
    assert too_large.endswith("it is more than a project may have; let the workers read it at a path")
    assert [row["target"] for row in audited if row["action"] == "upload.create"] == [*reversed(ids), expired["id"]]
    assert {key.split("/")[1] for key in store.list("uploads/")} == {*ids}, "nothing was spent on a refusal"


async def test_a_project_may_have_so_many_uploads_at_a_time_however_small(store_url: str, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, store_url=store_url, uploads=UploadLimits(project_files=2, max_bytes=1))
    app = create_app(settings, cluster=MemoryCluster(Script()), mlflow=FakeMlflow().client())
    async with running(app) as api:
        first, second = [await announced(api, bytes(1)) for _ in range(2)]

        refused = await api.post("/v1/uploads", json={"name": "more.npz", "num_bytes": 1})
        assert (await api.delete(second["links"]["self"])).status_code == 204
        taken = await api.post("/v1/uploads", json={"name": "more.npz", "num_bytes": 1})

    assert code(refused) == (409, "upload_quota_exceeded")
    assert refused.json()["detail"].startswith(f"a project may have 2 uploads at a time: delete {first['id']}, or wait")
    assert taken.status_code == 201


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
    store_url: str, store: ObjectStore, tmp_path: Path, archive: bytes
) -> None:
    clock, script = ManualClock(), Script()
    settings = settings_in(tmp_path, store_url=store_url)
    app = create_app(settings, cluster=MemoryCluster(script), mlflow=FakeMlflow().client(), clock=clock)
    async with running(app) as api:
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
    store_url: str, store: ObjectStore, tmp_path: Path, archive: bytes
) -> None:
    clock, script = ManualClock(), Script()
    settings = settings_in(tmp_path, store_url=store_url, uploads={"keep_hours": 720.0})
    app = create_app(settings, cluster=MemoryCluster(script), mlflow=FakeMlflow().client(), clock=clock)
    async with running(app) as api:
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
    assert b"X-Amz-Signature" not in written_in(tmp_path)


def written_in(folder: Path) -> bytes:
    """All that the database has on disk."""
    return b"".join(file.read_bytes() for file in folder.glob("service.db*"))
