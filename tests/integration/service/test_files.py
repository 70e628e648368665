"""The files that a job leaves: listed, fetched piece by piece, and nothing else through the same door."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from service.jobs import objects
from service.jobs.objects import JobObjects
from tests.support.plane import served_in
from tests.support.problems import code
from workers.contract.keys import JobKeys
from workers.contract.presets import PRESETS
from workers.storage.memory import MemoryStore

PIECE = objects._PIECE_BYTES


class BreakingStore(MemoryStore):
    """Goes down when so many parts have been read; links are made, as by a server."""

    good_parts = 10**6

    def part(self, key: str, offset: int, size: int) -> bytes:
        self.good_parts -= 1
        if self.good_parts < 0:
            raise ConnectionError("the store is on fire")
        return super().part(key, offset, size)

    def link(self, key: str, *, seconds: int) -> str | None:
        return f"https://store.test/{key}?for={seconds}"


@pytest.fixture
def store() -> BreakingStore:
    return BreakingStore()


@pytest.fixture
async def api(tmp_path: Path, store: BreakingStore) -> AsyncIterator[httpx2.AsyncClient]:
    async with served_in(tmp_path, store=store) as served:
        yield served.api


@pytest.fixture
async def job_id(api: httpx2.AsyncClient) -> str:
    spec = {"kind": "import", "dataset": {"kind": "builtin", "name": "fashion16"}}
    return str((await api.post("/v1/jobs", json={"spec": spec})).json()["id"])


def leave(store: MemoryStore, job_id: str, **files: bytes) -> None:
    for name, data in files.items():
        store.put(JobKeys(job_id).results + name.replace("_", "."), data)


async def test_files_are_listed_with_where_anybody_can_fetch_them(
    api: httpx2.AsyncClient, store: BreakingStore, job_id: str
) -> None:
    empty = await api.get(f"/v1/jobs/{job_id}/files")
    leave(store, job_id, preview_png=b"PNG", result_json=b"{}")
    store.put(JobKeys(job_id).piece("images-0"), b"no result")

    found = (await api.get(f"/v1/jobs/{job_id}/files")).json()["data"]

    assert (empty.status_code, empty.json()) == (200, {"data": []})
    root = f"https://store.test/jobs/{job_id}/results"
    assert found == [
        {"name": "preview.png", "url": f"{root}/preview.png?for=3600"},
        {"name": "result.json", "url": f"{root}/result.json?for=3600"},
    ]


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("grid.png", "image/png"),
        ("result.json", "application/json"),
        ("images.zip", "application/zip"),
        ("images.npz", "application/octet-stream"),
        ("page.html", "text/html; charset=utf-8"),
    ],
)
async def test_a_file_is_handed_over_to_be_saved_and_not_to_be_shown(
    api: httpx2.AsyncClient, store: BreakingStore, job_id: str, name: str, media_type: str
) -> None:
    store.put(JobKeys(job_id).results + name, b"<script>")

    answer = await api.get(f"/v1/jobs/{job_id}/files/{name}")

    assert (answer.status_code, answer.content) == (200, b"<script>")
    assert answer.headers["Content-Type"] == media_type
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 3])
async def test_a_file_arrives_whole_whatever_its_size(
    api: httpx2.AsyncClient, store: BreakingStore, job_id: str, size: int
) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    leave(store, job_id, images_zip=data)

    answer = await api.get(f"/v1/jobs/{job_id}/files/images.zip")

    assert answer.status_code == 200
    assert answer.content == data
    assert answer.headers["Content-Length"] == str(size), "a client shows how much is still to come"


async def test_a_file_that_broke_off_goes_on(api: httpx2.AsyncClient, store: BreakingStore, job_id: str) -> None:
    leave(store, job_id, images_zip=b"0123456789")

    answer = await api.get(f"/v1/jobs/{job_id}/files/images.zip", headers={"Range": "bytes=4-"})

    assert (answer.status_code, answer.content) == (206, b"456789")
    assert answer.headers["Content-Range"] == "bytes 4-9/10"


async def test_no_more_than_a_piece_is_in_memory_at_once(store: BreakingStore) -> None:
    store.put("images.zip", bytes(PIECE + 1))

    pieces = [piece async for piece in JobObjects(store, url="memory://plane").pieces("images.zip")]

    assert [len(piece) for piece in pieces] == [PIECE, 1]


async def test_what_was_not_left_is_not_found(api: httpx2.AsyncClient, store: BreakingStore, job_id: str) -> None:
    leave(store, job_id, result_json=b"{}")

    answer = await api.get(f"/v1/jobs/{job_id}/files/grid.png")

    assert code(answer) == (404, "file_not_found")
    assert f"{job_id} has left no file grid.png" in answer.json()["detail"]


@pytest.mark.parametrize(
    "name",
    [
        *("%2e%2e", ".hidden", "..%2Fspec.json", "a%2Fb", "a/b", "%2Fetc%2Fpasswd", "a%5Cb"),
        *("a%00b", "a%0A", "a b", "x" * 101, "%C3%BC.png", "a%22b"),
    ],
)
async def test_a_name_that_leads_elsewhere_is_refused(
    api: httpx2.AsyncClient, store: BreakingStore, job_id: str, name: str
) -> None:
    store.put(JobKeys(job_id).results + "a/b", b"secret")

    answer = await api.get(httpx2.URL(f"http://cdm.test/v1/jobs/{job_id}/files/{name}"))

    assert answer.status_code in {404, 422}, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert b"secret" not in answer.content


async def test_files_of_another_project_and_of_a_deleted_job_are_not_there(
    api: httpx2.AsyncClient, store: BreakingStore, job_id: str
) -> None:
    leave(store, job_id, result_json=b"{}")
    assert (await api.post("/v1/projects", json={"name": "other"})).status_code == 201

    for part in ("files", "files/result.json", "evaluations"):
        answer = await api.get(f"/v1/jobs/{job_id}/{part}", headers={"Cdm-Project": "other"})
        assert code(answer) == (404, "job_not_found"), part
        assert code(await api.get(f"/v1/jobs/job_none/{part}")) == (404, "job_not_found"), part


async def test_a_store_that_is_down_before_the_first_piece_is_a_problem(
    api: httpx2.AsyncClient, store: BreakingStore, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(store, job_id, result_json=b"{}")

    def down(prefix: str) -> list[str]:
        raise ConnectionError(prefix)

    store.good_parts = 0
    monkeypatch.setattr(store, "list", down)

    for part in ("files", "files/result.json", "evaluations"):
        answer = await api.get(f"/v1/jobs/{job_id}/{part}")
        assert code(answer) == (503, "storage_unavailable"), part
        assert answer.headers["Retry-After"]


async def test_a_store_that_goes_down_half_way_ends_the_answer_before_its_end(
    api: httpx2.AsyncClient, store: BreakingStore, job_id: str
) -> None:
    """Without a sound end a client knows that it has not got all of it."""
    leave(store, job_id, images_zip=bytes(PIECE + 1))
    store.good_parts = 1

    with pytest.raises(RuntimeError, match="response already started"):
        await api.get(f"/v1/jobs/{job_id}/files/images.zip")


async def test_a_link_that_cannot_be_made_is_the_store_that_does_not_answer(
    api: httpx2.AsyncClient, store: BreakingStore, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(store, job_id, result_json=b"{}")

    def refuse(key: str, *, seconds: int) -> str | None:
        raise PermissionError(f"no credentials to sign {key} for {seconds} s with")

    monkeypatch.setattr(store, "link", refuse)

    assert code(await api.get(f"/v1/jobs/{job_id}/files")) == (503, "storage_unavailable")


async def test_a_training_has_no_files_and_its_links_say_where_to_look(api: httpx2.AsyncClient) -> None:
    body = {"spec": PRESETS["smoke"].model_dump(mode="json")}
    job = (await api.post("/v1/jobs", json=body)).json()

    assert (await api.get(job["links"]["files"])).json() == {"data": []}
    assert (await api.get(job["links"]["evaluations"])).json() == {"data": []}
