"""How much a project may send at a time, and what its users are told of uploads beyond that."""

from datetime import datetime
from pathlib import Path

import pytest

from tests.support.clock import ManualClock
from tests.support.problems import code
from tests.support.upload_api import announced, upload_api
from workers.storage import ObjectStore, open_store


@pytest.fixture
def store(place: str) -> ObjectStore:
    return open_store(place)


async def test_a_project_may_send_so_much_at_a_time_and_no_more(place: str, store: ObjectStore, tmp_path: Path) -> None:
    async with upload_api(tmp_path, place, uploads={"project_bytes": 1000}) as api:
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
    place: str, store: ObjectStore, tmp_path: Path
) -> None:
    clock = ManualClock()
    async with upload_api(tmp_path, place, clock=clock, uploads={"project_bytes": 1000}) as api:
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


async def test_a_project_may_have_so_many_uploads_at_a_time_however_small(place: str, tmp_path: Path) -> None:
    async with upload_api(tmp_path, place, uploads={"project_files": 2, "max_bytes": 1}) as api:
        first, second = [await announced(api, bytes(1)) for _ in range(2)]

        refused = await api.post("/v1/uploads", json={"name": "more.npz", "num_bytes": 1})
        assert (await api.delete(second["links"]["self"])).status_code == 204
        taken = await api.post("/v1/uploads", json={"name": "more.npz", "num_bytes": 1})

    assert code(refused) == (409, "upload_quota_exceeded")
    assert refused.json()["detail"].startswith(f"a project may have 2 uploads at a time: delete {first['id']}, or wait")
    assert taken.status_code == 201
