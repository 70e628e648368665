"""The whole OpenAPI document against the service behind a real socket, by schemathesis; the same cases each time.

CDM_CONTRACT_EXAMPLES=500 pytest tests/contract      # many more cases than by default
"""

import asyncio
import json
import logging
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

from service.app import create_app
from service.cluster import MemoryCluster
from tests.support.fake_mlflow import FakeMlflow
from tests.support.findings import evaluation_of
from tests.support.fresh_databases import lone_database
from tests.support.kept import checkpoint
from tests.support.plane import KEY, Script, eventually, settings_in
from tests.support.postgres import binaries
from tests.support.serving import serving_here
from tests.support.worker import Worker
from workers.contract.data import DatasetManifest
from workers.contract.keys import JobKeys, dataset_folder
from workers.contract.presets import PRESETS
from workers.storage.memory import MemoryStore

HERE = Path(__file__).parent
DEFAULT_EXAMPLES = 10
EXAMPLES = int(os.environ.get("CDM_CONTRACT_EXAMPLES", DEFAULT_EXAMPLES))
SMOKE = PRESETS["smoke"].model_dump(mode="json")
# Of the two databases Postgres refuses more; many cases are worth trying on both.
KINDS = ("postgres", "sqlite") if EXAMPLES > DEFAULT_EXAMPLES else ("postgres" if binaries() else "sqlite",)
EACH = 8  # jobs in each state; requests use them up
NO_LIMITS = {"per_minute": 10**6, "failures_per_minute": 10**6}


class ReachableStore(MemoryStore):
    """Gives links, as a server would; nobody follows them here."""

    def link_to_put(self, key: str, num_bytes: int, *, seconds: int) -> str | None:
        return f"http://store.test/{key}?bytes={num_bytes}&seconds={seconds}"


@asynccontextmanager
async def served(folder: Path, url: str) -> AsyncIterator[tuple[httpx2.AsyncClient, MemoryStore]]:
    store = ReachableStore()
    settings = settings_in(
        folder, database_url=url, requests=NO_LIMITS, max_active_jobs=2 * EACH, reconcile_interval_seconds=0.5
    )
    mlflow = FakeMlflow(runs={"run1": "RUNNING"})
    app = create_app(settings, cluster=MemoryCluster(Script()), object_store=store, mlflow=mlflow.client())
    headers = {"Authorization": f"Bearer {KEY}"}
    async with serving_here(app) as opened, httpx2.AsyncClient(base_url=opened.url, headers=headers) as api:
        yield api, store


async def submitted(api: httpx2.AsyncClient, spec: Mapping[str, Any] = SMOKE) -> str:
    response = await api.post("/v1/jobs", json={"name": "seed", "labels": {"team": "a"}, "spec": spec})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def in_state(api: httpx2.AsyncClient, job_ids: list[str], state: str) -> None:
    async def reached() -> bool:
        shown = [(await api.get(f"/v1/jobs/{job_id}")).json()["state"] for job_id in job_ids]
        return all(one == state for one in shown)

    await eventually(reached, what=f"all are {state}", seconds=30)


async def populate(api: httpx2.AsyncClient, store: MemoryStore) -> list[str]:
    """Jobs in several states, with what they leave."""
    at = "2026-11-01T00:00:00Z"
    ended = {status: [await submitted(api) for _ in range(EACH)] for status in ("succeeded", "failed")}
    for status, job_ids in ended.items():
        await in_state(api, job_ids, "starting")
        for job_id in job_ids:
            leave_results(store, job_id)
            Worker(store, job_id).progress(at=at)
            Worker(store, job_id).outcome(status, at=at, reason=None if status == "succeeded" else "data_error")
        await in_state(api, job_ids, status)
    active = [await submitted(api) for _ in range(2 * EACH)]  # as many as there are places
    await in_state(api, active, "starting")
    for job_id in active[:EACH]:
        leave_results(store, job_id)
        Worker(store, job_id).progress(at=at)
    await in_state(api, active[:EACH], "running")
    queued, paused, archived = [[await submitted(api) for _ in range(EACH)] for _ in range(3)]
    for job_id in paused:
        assert (await api.post(f"/v1/jobs/{job_id}/pause")).status_code == 200
    for job_id in archived:
        for verb in ("cancel", "archive"):
            assert (await api.post(f"/v1/jobs/{job_id}/{verb}")).status_code == 200
    for job_id in ended["succeeded"]:
        leave_dataset(store, job_id)
    drawn = [await drawn_from(api, store, job_id) for job_id in ended["succeeded"]]
    return [*ended["succeeded"], *ended["failed"], *active, *queued, *paused, *archived, *drawn]


async def drawn_from(api: httpx2.AsyncClient, store: MemoryStore, job_id: str) -> str:
    """An evaluation of a training that has ended; it waits, and has left files and what it found."""
    by = await submitted(api, {"kind": "evaluate", "checkpoint": {"job_id": job_id}})
    store.put(JobKeys(by).results + "0", b"a file whose name is often guessed")
    found = evaluation_of(
        160,
        of=job_id,
        job_id=by,
        measures={"FD-ENL0": {"value": 1.5, "blocks": [1.0, 2.0], "standard_error": 0.5, "floor": 0.1}},
        curves={"drift": [{"sigma": 0.5, "mean": 0.1, "standard_error": 0.01, "count": 256}]},
    )
    store.put(JobKeys(job_id).evaluation(160, 1, by), found.model_dump_json().encode())
    return by


def leave_dataset(store: MemoryStore, job_id: str) -> None:
    """Each of these jobs has brought images of its own."""
    manifest = DatasetManifest(
        digest=digest_of(job_id),
        num_images=3,
        channels=1,
        resolution=8,
        classes=("cat",),
        labels=None,
        sigma_data=0.5,
        shards=(),
    )
    store.put(dataset_folder(manifest.digest) + "MANIFEST.json", manifest.model_dump_json().encode())
    store.put(JobKeys(job_id).dataset, manifest.model_dump_json().encode())


def digest_of(job_id: str) -> str:
    return sha256(job_id.encode()).hexdigest()


def leave_results(store: MemoryStore, job_id: str) -> None:
    keys = JobKeys(job_id)
    checkpoint(store, job_id, 160, model=b"0123456789")
    store.put(keys.sample(160), b"PNG")
    store.put(keys.attempt(1).log_chunk("driver", 0), b"step 1\nstep 2\n")


async def uploads(api: httpx2.AsyncClient) -> list[str]:
    """Some that have been announced."""
    answers = [await api.post("/v1/uploads", json={"name": "a.zip", "num_bytes": 5}) for _ in range(EACH)]
    return [str(answer.json()["id"]) for answer in answers]


async def schemathesis(folder: Path, url: str) -> tuple[int, str]:
    """Exit code and report; the summary is in `report.json`."""
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", "schemathesis.toml", "run", url]
    options = ["--report-json-path", "report.json", "--max-examples", str(EXAMPLES), "--no-color"]
    environment = {**os.environ, "CDM_API_KEY": KEY, "SCHEMATHESIS_HOOKS": "tests.contract.hooks"}
    environment["PYTHONPATH"] = str(HERE.parents[1])
    with (folder / "report.txt").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, *options, cwd=folder, env=environment, stdout=output, stderr=output
        )
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
    return code, (folder / "report.txt").read_text()


@pytest.mark.timeout(60 + 6 * EXAMPLES * 10)
@pytest.mark.parametrize("kind", KINDS)
async def test_every_route_does_what_the_openapi_document_says_whatever_it_is_sent(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    shutil.copy(HERE / "schemathesis.toml", tmp_path)
    with lone_database(kind, tmp_path) as url:
        async with served(tmp_path, url) as (api, store):
            job_ids = await populate(api, store)
            digests = [digest_of(job_id) for job_id in job_ids[:EACH]]  # those that have succeeded
            for name, known in {"jobs": job_ids, "datasets": digests, "uploads": await uploads(api)}.items():
                (tmp_path / f"{name}.dict").write_text("".join(f'"{each}"\n' for each in known))
            code, report = await schemathesis(tmp_path, f"{api.base_url}/openapi.json")

    summary = json.loads((tmp_path / "report.json").read_text())
    cases, operations = summary["test_cases"], summary["operations"]
    with capsys.disabled():
        print(f"\n{cases['generated']} cases of {operations['tested']} operations on {kind}")  # noqa: T201
    assert code == 0, report
    assert operations["tested"] == operations["total"]
