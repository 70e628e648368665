"""From somebody's images to whether consistency paid, by one command: jobs of all kinds on the whole stack."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from service.jobs.views import AT_IMAGES, COMPARES, OF_JOB, Job, JobState
from tests.support.stack_jobs import finished, mlflow
from tests.support.waiting import wait_until
from tests.support.whole_stack import Stack, run_cdm
from workers.contract.comparing import Comparison
from workers.contract.sampling import Sampled
from workers.sampling.handover import open_model

pytestmark = pytest.mark.timeout(900)

STUDY_SECONDS = 600  # on a quiet machine a tenth of that


@dataclass(frozen=True)
class Study:
    """One that is over: its command, where that leaves what it has found, and the training with the term."""

    command: tuple[str, ...]
    found: Path
    trained: Job


@pytest.fixture(scope="module")
def study(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    pixels = np.random.default_rng(0).integers(0, 256, (48, 16, 16), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pixels)
    command = (
        *("study", "smoke", "--name", "small", "--output", str(folder / "found")),
        *("--evaluate", "num_images=8", "--evaluate", "drift_images=2"),
        *("--set", f"dataset={{kind: npz, path: {folder}/images.npz, channels: 1}}"),
        *("--set", "network.class_conditional=false", "--set", "duration_images=160"),
    )
    studied = stack.cdm(*command, timeout_seconds=STUDY_SECONDS)
    assert studied.returncode == 0, studied.stderr
    (trained,) = (job for job in stack.client.jobs.list(labels={"study": "small"}) if job.control_job_id)
    return Study(command, folder / "found", trained)


def test_a_study_imports_trains_twice_evaluates_and_compares_only_once(stack: Stack, study: Study) -> None:
    again = stack.cdm(*study.command, timeout_seconds=STUDY_SECONDS)

    assert again.returncode == 0, again.stderr
    jobs = {job.name: job for job in stack.client.jobs.list(labels={"study": "small"})}
    assert sorted(jobs) == ["small import", "small job", "small job control"]
    trained, control = jobs["small job"], jobs["small job control"]
    assert (trained.id, trained.control_job_id) == (study.trained.id, control.id)
    (compared,) = stack.client.jobs.list(labels={COMPARES: trained.id})
    assert (compared.name, compared.state) == ("small job beside control", JobState.SUCCEEDED)
    (evaluation,) = stack.client.jobs.list(labels={OF_JOB: trained.id})
    assert (evaluation.state, evaluation.labels[AT_IMAGES]) == (JobState.SUCCEEDED, "160")
    (found,) = stack.client.jobs.evaluations(trained.id)
    assert found.job_id == evaluation.id
    comparison = Comparison.model_validate_json((study.found / "result.json").read_text())
    assert comparison.is_paired
    assert list(comparison.differences) == ["objective.consistency"]
    assert "FD-ENL0" in (study.found / "report.html").read_text()
    curve = mlflow(trained, "metrics/get-history", metric_key="eval/FD-ENL0-8")["metrics"]
    assert [(point["step"], point["value"]) for point in curve] == [(160, found.measures["FD-ENL0"].value)]
    pictures = [file["path"] for file in mlflow(trained, "artifacts/list", path="images")["files"]]
    assert any("evaluation_timeline" in path for path in pictures)


def test_two_workers_on_ray_draw_from_its_checkpoint(stack: Stack, study: Study, tmp_path: Path) -> None:
    trained = study.trained
    before = len(list(stack.client.jobs.list(kind="sample")))

    asked = stack.cdm("sample", trained.id, "-n", "10", "--set", "compute.workers=2", "--set", "pass_images=3")

    assert asked.returncode == 0, asked.stderr
    job = finished(stack.client, next(stack.client.jobs.list(kind="sample", limit=1)))
    assert job.state is JobState.SUCCEEDED, job.message
    shown = stack.cdm("results", job.id, "--output", str(tmp_path / "drawn"))
    assert shown.returncode == 0, shown.stderr
    assert "10 images of seeds 0 to 9" in shown.stdout
    drawn = Sampled.model_validate_json((tmp_path / "drawn/result.json").read_text())
    assert {file.name for file in (tmp_path / "drawn").iterdir()} == {"result.json", *drawn.files}
    assert len(list(stack.client.jobs.list(kind="sample"))) == before + 1
    exported = stack.cdm("export", trained.id, "--output", str(tmp_path / "exported"), "--register", "small")
    assert exported.returncode == 0, exported.stderr
    assert "registered as version 1 of small" in exported.stdout
    assert trained.mlflow_url
    (version,) = MlflowClient(trained.mlflow_url.partition("/#/")[0]).search_model_versions("name = 'small'")
    assert f"/runs/{version.run_id}?" in trained.mlflow_url
    assert open_model(f"{version.source}/weights.safetensors").draw(range(2)).shape == (2, 1, 16, 16)
    wait_until(lambda: not stack.processes("ray::RayTrainWorker"), timeout_seconds=60)


def test_a_colleague_with_a_key_and_nothing_else_takes_the_weights_home(
    stack: Stack, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = study.trained
    key = stack.client.api_keys.create(scopes=["jobs:read"]).key
    url = json.loads((stack.home / "connection.json").read_text())["url"]
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    exported = run_cdm(
        tmp_path / "no-stack", ["export", trained.id, "--url", url, "--key", key, "-o", str(tmp_path / "out")]
    )

    assert exported.returncode == 0, exported.stderr
    assert open_model(tmp_path / "out/weights.safetensors").draw(range(2)).shape == (2, 1, 16, 16)
    assert (tmp_path / "out/samples.png").read_bytes() == stack.client.jobs.sample(trained.id)
    assert (tmp_path / "out/metrics.csv").read_text().startswith("images_seen,")
    (evaluation,) = json.loads((tmp_path / "out/evaluations.json").read_text())
    assert evaluation["checkpoint"]["job_id"] == trained.id
