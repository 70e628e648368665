"""Tracking to a real MLflow server: what arrives, once, and what an outage costs (nothing but a delay)."""

import io
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from tests.support.mlflow_server import mlflow_server
from tests.support.ray_head import free_ports
from tests.support.waiting import wait_until
from workers.contract.sampling import ResolvedCheckpoint
from workers.storage.memory import MemoryStore
from workers.tracking.background import Background
from workers.tracking.backlog import ItemBacklog
from workers.tracking.events import Checkpointed, Ended, Event, Grid, Metrics, num_bytes
from workers.tracking.findings import add_to_run
from workers.tracking.mlflow_run import EXPERIMENT, MlflowRun
from workers.tracking.registry import register


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), free_ports(1)[0]) as url:
        yield url


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    return MlflowClient(server)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 128).save(buffer, "PNG")
    return buffer.getvalue()


def rows(*steps: int) -> list[Event]:
    return [Metrics(step, 1_700_000_000.0 + step, {"loss/dsm": 1 / step}) for step in steps]


def pictures_of(client: MlflowClient, run: MlflowRun) -> list[str]:
    return [file.path for file in client.list_artifacts(run.run_id, "images") if file.path.endswith(".png")]


def steps_of(client: MlflowClient, run: MlflowRun) -> list[int]:
    return [metric.step for metric in client.get_metric_history(run.run_id, "loss/dsm")]


def new_run(job_id: str) -> MlflowRun:
    return MlflowRun(
        job_id, store_url="s3://cdm", params={f"p{i}": str(i) for i in range(150)}, tags={"cdm.attempt": "1"}
    )


def test_a_run_has_its_parameters_curves_pictures_and_checkpoint(client: MlflowClient) -> None:
    run = new_run("job_whole")

    run.deliver([*rows(64, 128), Grid(128, 1_700_000_000.0, png()), Checkpointed(128, "jobs/x/"), Ended("FINISHED")])

    seen = client.get_run(run.run_id)
    assert seen.info.status == "FINISHED"
    assert len(seen.data.params) == 150
    assert seen.data.tags["cdm.job_id"] == "job_whole"
    assert seen.data.tags["cdm.checkpoint"] == "jobs/x/"
    assert steps_of(client, run) == [64, 128]
    pictures = [file.path for file in client.list_artifacts(run.run_id, "images")]
    assert any("samples" in path and "128" in path and path.endswith(".png") for path in pictures)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow")  # what MLflow asks of SQLAlchemy, in this process
@pytest.mark.parametrize("where", ["server", "database"])
def test_curves_show_where_there_was_no_number(
    where: str, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "database":  # as one who runs a training alone may have it
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    values = {"loss/dsm": math.nan, "loss/consistency": math.inf, "drift/gap": -math.inf, "rate": 0.1}

    (run := new_run("job_broken")).deliver([Metrics(64, 1_700_000_000.5, values)])

    found = {key: MlflowClient().get_metric_history(run.run_id, key) for key in values}
    assert {(point.step, point.timestamp) for points in found.values() for point in points} == {(64, 1_700_000_000_500)}
    (dsm,), (consistency,), (gap,), (rate,) = found.values()
    assert math.isnan(dsm.value)
    assert consistency.value > 1e300, "MLflow keeps the largest number for infinity"
    assert (gap.value, rate.value) == (-consistency.value, 0.1)


def test_a_run_gets_the_name_of_its_job_and_may_be_given_another(client: MlflowClient) -> None:
    first, second = (MlflowRun("job_n", store_url="s3://cdm", params={}, tags={}, name="theirs") for _ in range(2))
    first.deliver(rows(64))
    named = client.get_run(first.run_id).info.run_name
    client.update_run(first.run_id, name="ours")
    second.deliver(rows(128))

    assert named == "theirs"
    assert client.get_run(second.run_id).info.run_name == "ours"


def test_a_batch_that_is_sent_twice_is_logged_once(client: MlflowClient) -> None:
    run = new_run("job_twice")
    batch = [*rows(64, 128), Grid(128, 1_700_000_000.0, png())]

    run.deliver(batch)
    run.deliver([*batch, Grid(12, 1_700_000_000.0, png())])

    assert steps_of(client, run) == [64, 128]
    assert len(pictures_of(client, run)) == 2


def test_rows_and_pictures_of_two_threads_make_one_run(client: MlflowClient) -> None:
    run, batches = new_run("job_threads"), [rows(64), [Grid(64, 1_700_000_000.0, png())]]

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(run.deliver, batches))

    of_job = client.search_runs([client.get_run(run.run_id).info.experiment_id], "tags.`cdm.job_id` = 'job_threads'")
    assert [found.info.run_id for found in of_job] == [run.run_id]
    assert steps_of(client, run) == [64]
    assert len(pictures_of(client, run)) == 1


def test_a_later_attempt_goes_on_in_the_same_run_without_repeating_steps(client: MlflowClient) -> None:
    first, second = new_run("job_resumed"), new_run("job_resumed")

    first.deliver([*rows(64, 128, 192), Ended("KILLED")])
    second.deliver([Metrics(step, 1_800_000_000.0 + step, {"loss/dsm": 1 / step}) for step in (128, 192, 256)])

    assert first.run_id == second.run_id
    assert steps_of(client, second) == [64, 128, 192, 256]
    assert client.get_run(second.run_id).info.status == "RUNNING"


def test_two_jobs_never_share_a_run(client: MlflowClient) -> None:
    one, other = new_run("job_a"), new_run("job_b")
    one.deliver(rows(64))
    other.deliver(rows(64))

    assert one.run_id != other.run_id
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None


def test_a_server_that_comes_late_gets_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_ports(1)[0]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    run = new_run("job_outage")
    background = Background("mlflow", run.deliver, ItemBacklog(num_bytes), every_seconds=0.2)

    for event in rows(*range(64, 6400, 64)):
        background.offer(event)
    with mlflow_server(tmp_path, port) as url:
        undelivered = background.close(60)

        assert undelivered == 0
        assert len(steps_of(MlflowClient(url), run)) == 99


def test_an_hour_without_mlflow_costs_only_a_delay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of three values a second and a picture every ten minutes, while the server is away."""
    port = free_ports(1)[0]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    run = new_run("job_hour")
    background = Background("mlflow", run.deliver, ItemBacklog(num_bytes), every_seconds=0.2)
    measured = [
        Metrics(64 * second, 1_800_000_000.0 + second, {"loss/dsm": 1 / second, "loss/consistency": 0.5, "speed": 64.0})
        for second in range(1, 3661)
    ]

    with mlflow_server(tmp_path, port) as url:
        for row in measured[:60]:
            background.offer(row)
        wait_until(lambda: run.run_id and len(steps_of(MlflowClient(url), run)) == 60)
    for second, row in enumerate(measured[60:]):
        background.offer(row)
        if second % 600 == 0:
            background.offer(Grid(row.images_seen, row.time, png()))
    with mlflow_server(tmp_path, port) as url:
        undelivered = background.close(60)

        assert undelivered == 0
        for key in ("loss/dsm", "loss/consistency", "speed"):
            points = MlflowClient(url).get_metric_history(run.run_id, key)
            assert [(point.step, point.value) for point in points] == [
                (row.images_seen, row.values[key]) for row in measured
            ]
        assert len(pictures_of(MlflowClient(url), run)) == 6


def test_a_model_is_registered_by_reference_again_and_again(client: MlflowClient, tmp_path: Path) -> None:
    run, store = new_run("job_model"), MemoryStore()
    run.deliver(rows(64))
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    (tmp_path / "README.md").write_text("# a card")
    source = ResolvedCheckpoint(job_id="job_model", images_seen=64, average="ema")

    versions = [register(tmp_path, source, store, "s3://cdm", name="faces") for _ in range(2)]

    assert versions == ["1", "2"]
    found = client.get_model_version("faces", "2")
    assert (found.run_id, found.description, found.tags["cdm.average"]) == (run.run_id, "# a card", "ema")
    assert found.source == "s3://cdm/jobs/job_model/exports/000000000064-ema"
    assert store.get("jobs/job_model/exports/000000000064-ema/weights.safetensors") == b"weights"


def test_what_was_found_of_a_checkpoint_joins_its_training(client: MlflowClient) -> None:
    run, at = new_run("job_found"), datetime(2026, 11, 1, tzinfo=UTC)
    run.deliver([*rows(64, 128), Ended("FINISHED")])

    add_to_run("job_found", "s3://cdm", 64, {"eval/FD-ENL0-1k": 3.5}, at, {"grid.png": png()})
    add_to_run("job_nobody", "s3://cdm", 64, {"eval/FD-ENL0-1k": 3.5}, at, {})

    (point,) = client.get_metric_history(run.run_id, "eval/FD-ENL0-1k")
    assert (point.step, point.value, point.timestamp) == (64, 3.5, int(at.timestamp() * 1000))
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert any("evaluation_grid" in path for path in pictures_of(client, run))


def test_an_evaluation_does_not_fail_with_mlflow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_ports(1)[0]}")

    add_to_run("job_found", "s3://cdm", 64, {"eval/FD-ENL0-1k": 3.5}, datetime.now(UTC), {})

    assert "cdm replay job_found" in capsys.readouterr().out
