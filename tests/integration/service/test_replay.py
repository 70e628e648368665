"""Curves that MLflow missed are brought to it out of the object store; over a real MLflow."""

import asyncio
import math
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from service.clock import utc_now
from service.identifiers import new_id
from service.jobs import objects
from service.jobs.objects import JobObjects
from service.jobs.records import JobRecord
from service.jobs.replay import complete_run
from service.mlflow import Mlflow
from service.storage import in_thread
from tests.support.fake_mlflow import FakeMlflow
from tests.support.findings import evaluation_of
from tests.support.jobs import job, progress
from tests.support.mlflow_server import mlflow_server
from tests.support.plane import REQUESTER, Plane
from tests.support.ray_head import free_ports
from workers.contract.data import DatasetManifest
from workers.contract.evaluation import Evaluation
from workers.contract.keys import JobKeys
from workers.contract.metric_rows import MeasuredRow
from workers.contract.tracking import description
from workers.storage.memory import MemoryStore
from workers.tracking.events import Metrics
from workers.tracking.journal import Journal
from workers.tracking.mlflow_run import MlflowRun

STORE_URL = "memory://tests"
AN_HOUR = [Metrics(step, 1_800_000_000.0 + step, {"loss/dsm": 1 / step}) for step in range(64, 64 * 1801, 64)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    [port] = free_ports(1)
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), port) as url:
        yield url


@pytest.fixture
async def mlflow(url: str) -> AsyncIterator[Mlflow]:
    mlflow = Mlflow(url)
    yield mlflow
    await mlflow.close()


class Kept:
    """A job, and what its attempts have written down."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.objects = JobObjects(self.store, url=STORE_URL)
        self.job: JobRecord = job(id=new_id("job", at=utc_now()))

    def measured(self, rows: list[Metrics], *, attempt: int = 1) -> None:
        Journal(self.store, JobKeys(self.job.id), attempt).deliver(list(rows))


def curve(url: str, run_id: str, key: str = "loss/dsm") -> list[tuple[int, float, int]]:
    points = MlflowClient(url).get_metric_history(run_id, key)
    return sorted((point.step, point.value, point.timestamp) for point in points)


def expected(rows: list[Metrics]) -> list[tuple[int, float, int]]:
    return [(row.images_seen, row.values["loss/dsm"], int(row.time * 1000)) for row in rows]


async def test_an_hour_that_mlflow_was_away_arrives_whole_and_once(url: str, mlflow: Mlflow) -> None:
    kept = Kept()
    kept.measured(AN_HOUR)

    run_id = await complete_run(kept.job, kept.objects, mlflow)
    again = await complete_run(kept.job, kept.objects, mlflow)

    assert run_id
    assert again == run_id
    assert curve(url, run_id) == expected(AN_HOUR)
    run = MlflowClient(url).get_run(run_id)
    assert run.data.tags["cdm.job_id"] == kept.job.id
    assert run.data.params["seed"] == "0"


async def test_a_run_made_anew_has_the_parameters_of_one_that_workers_made(url: str, mlflow: Mlflow) -> None:
    kept = Kept()
    kept.measured(AN_HOUR[:1])
    images = DatasetManifest(
        digest="d" * 64,
        num_images=3,
        channels=1,
        resolution=16,
        classes=None,
        labels=None,
        sigma_data=0.47112345,
        shards=(),
    )
    kept.store.put(JobKeys(kept.job.id).dataset, images.model_dump_json().encode())

    run_id = await complete_run(replace(kept.job, progress=progress(num_parameters=4321)), kept.objects, mlflow)

    params = MlflowClient(url).get_run(str(run_id)).data.params
    assert params["dataset.digest"] == images.digest
    assert params["sigma_data"] == "0.471123"
    assert params["num_parameters"] == "4321"


async def test_only_what_is_missing_is_added_to_what_a_worker_told(
    url: str, mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    kept = Kept()
    told = MlflowRun(kept.job.id, store_url=STORE_URL, params={"seed": "0"}, tags={})
    told.deliver([AN_HOUR[0], *AN_HOUR[5:9]])
    kept.measured(AN_HOUR[:9])
    kept.measured([replace(row, time=row.time + 500) for row in AN_HOUR[6:12]], attempt=2)

    run_id = await complete_run(replace(kept.job, mlflow_run_id=told.run_id), kept.objects, mlflow)

    assert run_id == told.run_id
    later = [replace(row, time=row.time + 500) for row in AN_HOUR[9:12]]
    assert curve(url, run_id) == expected([*AN_HOUR[:9], *later])


NASTY = {
    "a/b": "1",
    "a//b": "refused",
    "a/../b": "refused",
    "x" * 63: "y" * 100,
    "empty": "",
    "words": "ä 'x' \"y\" `z`",
}


async def test_a_run_tells_the_labels_and_the_project_of_its_job_and_changes_with_them(
    url: str, mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    told = MlflowRun(
        "job_told",
        store_url=STORE_URL,
        params={},
        tags={**description("vision", NASTY | {"cdm.job_id": "another", "old": "1"}), "cdm.attempt": "1"},
    )
    told.deliver([AN_HOUR[0]])
    at_first = tags_of(url, told.run_id)

    await mlflow.describe_run(str(told.run_id), description("vision", NASTY | {"a/b": "2"}))

    taken = {f"cdm.label.{key}": value for key, value in NASTY.items() if value != "refused"}
    ours = {"cdm.job_id": "job_told", "cdm.store": STORE_URL, "cdm.attempt": "1", "cdm.project": "vision"}
    assert at_first == ours | taken | {"cdm.label.cdm.job_id": "another", "cdm.label.old": "1"}
    assert tags_of(url, told.run_id) == ours | taken | {"cdm.label.a/b": "2"}


def tags_of(url: str, run_id: str | None) -> dict[str, str]:
    tags = MlflowClient(url).get_run(str(run_id)).data.tags
    return {key: value for key, value in tags.items() if not key.startswith("mlflow.")}


async def test_what_is_not_finite_arrives_as_such(url: str, mlflow: Mlflow) -> None:
    kept = Kept()
    kept.measured([Metrics(64, 1_800_000_000.0, {"loss/dsm": math.nan, "loss/consistency": math.inf})])

    run_id = await complete_run(kept.job, kept.objects, mlflow)

    assert run_id
    [(_, value, _)] = curve(url, run_id)
    assert math.isnan(value)
    [(_, value, _)] = curve(url, run_id, "loss/consistency")
    assert value > 1e308


def fd(value: float) -> dict[str, Any]:
    return {"fd": {"value": value}}


def found_of(kept: Kept, images_seen: int, by: str, measures: dict[str, Any], num_images: int = 1000) -> Evaluation:
    return evaluation_of(images_seen, of=kept.job.id, job_id=by, measures=measures, num_images=num_images)


async def test_what_evaluations_found_arrives_beside_the_curves_at_the_images_of_their_checkpoints(
    url: str, mlflow: Mlflow
) -> None:
    kept = Kept()
    kept.measured(AN_HOUR[:3])
    keys = JobKeys(kept.job.id)
    both = {"fd": {"value": 1.5, "blocks": [1.0, 2.0]}, "recall": {"value": 0.5}}
    early, late = found_of(kept, 64, "job_b", fd(2.0)), found_of(kept, 192, "job_a", both)
    more = found_of(kept, 192, "job_d", fd(0.5), num_images=4000)
    for found in (early, late, more):
        seen = found.checkpoint.images_seen
        kept.store.put(keys.evaluation(seen, 1, found.job_id), found.model_dump_json().encode())
    kept.store.put(keys.evaluation(128, 1, "job_c"), b"{}")

    run_id = await complete_run(kept.job, kept.objects, mlflow)
    again = await complete_run(replace(kept.job, mlflow_run_id=run_id), kept.objects, mlflow)

    assert run_id
    assert again == run_id
    sooner, at = (int(found.ended_at.timestamp() * 1000) for found in (early, late))
    assert curve(url, run_id, "eval/fd-1k") == [(64, 2.0, sooner), (192, 1.5, at)]
    assert curve(url, run_id, "eval/fd-1k_min") == [(192, 1.0, at)]
    assert curve(url, run_id, "eval/recall-1k") == [(192, 0.5, at)]
    assert curve(url, run_id, "eval/fd-4k") == [(192, 0.5, at)]
    assert curve(url, run_id) == expected(AN_HOUR[:3])


async def test_evaluations_alone_make_a_run(url: str, mlflow: Mlflow) -> None:
    """As of a training whose own rows were purged, or that was too short for one."""
    kept = Kept()
    found = found_of(kept, 64, "job_b", fd(2.0))
    kept.store.put(JobKeys(kept.job.id).evaluation(64, 1, "job_b"), found.model_dump_json().encode())

    run_id = await complete_run(kept.job, kept.objects, mlflow)

    assert [step for step, *_ in curve(url, str(run_id), "eval/fd-1k")] == [64]


async def test_what_is_known_of_a_long_training_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million steps of twenty curves have to fit beside all else that the service holds."""
    kept, num_steps, keys = Kept(), 20_000, [f"curve/{number}" for number in range(20)]

    async def rows(_: str) -> AsyncIterator[list[MeasuredRow]]:
        yield [MeasuredRow(64, 1_800_000_000.0, dict.fromkeys(keys, 0.5))]

    async def steps(*_: str) -> AsyncIterator[list[int]]:
        for first in range(0, num_steps, 1000):
            yield [64 * step for step in range(first, first + 1000)]

    mlflow = FakeMlflow(runs={"run1": "RUNNING"}).client()
    monkeypatch.setattr(kept.objects, "metric_rows", rows)
    monkeypatch.setattr(mlflow, "steps", steps)
    tracemalloc.start()
    try:
        await complete_run(replace(kept.job, mlflow_run_id="run1"), kept.objects, mlflow)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 300 * num_steps
    await mlflow.close()


async def test_a_job_that_measured_nothing_gets_no_run(mlflow: Mlflow) -> None:
    kept = Kept()

    assert await complete_run(kept.job, kept.objects, mlflow) is None


async def test_a_run_that_somebody_deleted_is_made_anew(url: str, mlflow: Mlflow) -> None:
    kept = Kept()
    kept.measured(AN_HOUR[:3])
    first = await complete_run(kept.job, kept.objects, mlflow)
    assert first
    MlflowClient(url).delete_run(first)

    second = await complete_run(replace(kept.job, mlflow_run_id=first), kept.objects, mlflow)

    assert second
    assert second != first
    assert curve(url, second) == expected(AN_HOUR[:3])


async def test_a_long_training_has_thousands_of_chunks_and_they_are_read_some_at_a_time(
    url: str, mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call of a store may take a minute and no longer: one that read all of them would never end."""
    kept, most, most_read = Kept(), 0, 0
    reads = threading.local()
    journal = Journal(kept.store, JobKeys(kept.job.id), 1)
    for row in AN_HOUR:
        journal.deliver([row])
    log_rows = Mlflow.log_rows

    async def counted(self: Mlflow, run_id: str, rows: Sequence[MeasuredRow]) -> None:
        nonlocal most
        most = max(most, len(rows))
        await log_rows(self, run_id, rows)

    async def one_call(method: Callable[..., Any], *arguments: Any) -> Any:
        def counting() -> Any:
            nonlocal most_read
            reads.so_far = 0
            found = method(*arguments)
            most_read = max(most_read, reads.so_far)
            return found

        return await in_thread(counting)

    def get(key: str) -> bytes:
        reads.so_far += 1
        return MemoryStore.get(kept.store, key)

    monkeypatch.setattr(Mlflow, "log_rows", counted)
    monkeypatch.setattr(objects, "in_thread", one_call)
    monkeypatch.setattr(kept.store, "get", get)

    run_id = await complete_run(kept.job, kept.objects, mlflow)

    assert run_id
    assert curve(url, run_id) == expected(AN_HOUR)
    assert most < len(AN_HOUR) / 2
    assert 1 <= most_read <= 10


async def test_replicas_that_look_at_once_make_one_run_of_a_job(url: str, mlflow: Mlflow, plane: Plane) -> None:
    job_id = await plane.started()
    Journal(plane.store, JobKeys(job_id), 1).deliver(AN_HOUR[:3])
    await plane.end(job_id)
    others = [replace(plane.parts.replica, token=f"replica {number}") for number in range(3)]
    replicas = [replace(plane.parts.tracking, mlflow=mlflow, replica=replica) for replica in others]

    await asyncio.gather(*(replica.tick() for replica in replicas))

    (run,) = MlflowClient(url).search_runs(
        [str((await plane.job(job_id)).mlflow_experiment_id)], f"tags.`cdm.job_id` = '{job_id}'"
    )
    assert run.info.run_id == (await plane.job(job_id)).mlflow_run_id
    assert curve(url, run.info.run_id) == expected(AN_HOUR[:3])


async def test_what_was_lost_with_mlflows_database_comes_back_when_somebody_asks(plane: Plane, tmp_path: Path) -> None:
    [port] = free_ports(1)
    mlflow = Mlflow(f"http://127.0.0.1:{port}")
    tracking = replace(plane.parts.tracking, mlflow=mlflow)
    job_id = await plane.started()
    Journal(plane.store, JobKeys(job_id), 1).deliver(list(AN_HOUR))
    await plane.end(job_id)
    with mlflow_server(folder_in(tmp_path, "lost"), port):
        await tracking.tick()
        before = await plane.job(job_id)

    with mlflow_server(folder_in(tmp_path, "new"), port) as url:
        await plane.service.replay(job_id, requester=REQUESTER)
        await tracking.tick()
        after = await plane.job(job_id)

        assert after.mlflow_run_id not in {None, "run1", before.mlflow_run_id}
        assert after.mlflow_experiment_id
        assert curve(url, str(after.mlflow_run_id)) == expected(AN_HOUR)
        assert MlflowClient(url).get_run(str(after.mlflow_run_id)).info.status == "FINISHED"
    await mlflow.close()


def folder_in(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder
