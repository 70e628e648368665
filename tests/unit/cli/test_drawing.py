"""`cdm sample` and `cdm evaluate` against the real application."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.cli import drawing
from service.client import Client
from service.jobs.views import Job
from tests.support.command import Command
from tests.support.job_views import job_view
from tests.support.served import Service
from workers.contract.evaluation import EvaluateSpec
from workers.contract.features import Inception
from workers.contract.keys import MANIFEST, JobKeys, dataset_folder
from workers.contract.merging import merged
from workers.contract.model import SamplerChanges
from workers.contract.presets import PRESETS
from workers.contract.sampling import SampleSpec

DIGEST = "ab" * 32


def trained(service: Service, *checkpoints: int) -> str:
    job = service.submit()
    for images_seen in checkpoints or (160,):
        service.checkpoint(job, images_seen)
    return job


def newest(client: Client) -> Job:
    return next(client.jobs.list(limit=1))


def sampled(client: Client) -> SampleSpec:
    spec = newest(client).spec
    assert isinstance(spec, SampleSpec)
    return spec


def evaluated(client: Client) -> EvaluateSpec:
    spec = newest(client).spec
    assert isinstance(spec, EvaluateSpec)
    return spec


def test_a_sample_job_is_submitted_with_what_is_said_of_it(service: Service) -> None:
    job = trained(service, 100, 160)

    answer = service.cdm("sample", job, "-n", "10", "--seed", "7", "--at", "100", "--average", "ema", "--name", "ten")

    drawn = newest(service.client)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"submitted {drawn.id}: follow it with `cdm watch {drawn.id}`\n"
    spec = sampled(service.client)
    assert (spec.num_images, spec.first_seed, drawn.name) == (10, 7, "ten")
    assert (spec.checkpoint.job_id, spec.checkpoint.images_seen, spec.checkpoint.average) == (job, 100, "ema")
    assert f"{job} at 100 images" in service.cdm("show", drawn.id).out


def test_what_is_drawn_from_may_be_where_an_evaluation_is_best(service: Service, evaluation: dict[str, Any]) -> None:
    job = trained(service, 100, 160, 200)
    for images_seen, value in ((60, 0.1), (100, 0.5), (160, 0.2), (200, 0.3)):
        checkpoint = {"job_id": job, "images_seen": images_seen, "average": "ema"}
        measures = {"KD-ENL0": {"value": value}, "recall": {"value": value}}
        found = evaluation | {"job_id": f"job_{images_seen}", "checkpoint": checkpoint, "measures": measures}
        key = JobKeys(job).evaluation(images_seen, 1, f"job_{images_seen}")
        service.store.put(key, json.dumps(found).encode())

    drawn = service.cdm("sample", job, "--best", "eval/KD-ENL0-5k", "--json").document["spec"]
    measured = service.cdm("evaluate", job, "--best", "eval/KD-ENL0-5k", "--json").document["spec"]

    assert drawn["checkpoint"]["images_seen"] == measured["checkpoint"]["images_seen"] == 160
    for curve in ("eval/recall", "loss/dsm"):
        assert f"--best {curve}: name a curve of evaluations" in service.cdm("sample", job, "--best", curve).err
    unknown = service.cdm("sample", job, "--best", "eval/FID").err
    assert f"{job} has no checkpoint of which eval/FID is known: `cdm metrics {job}` lists its curves" in unknown
    assert "give one of them" in service.cdm("sample", job, "--best", "eval/KD-ENL0-5k", "--at", "100").err


def test_its_workers_are_of_the_kind_that_the_job_trained_on(service: Service) -> None:
    job = trained(service)
    smoke = PRESETS["smoke"]

    service.cdm("sample", job)

    spec = sampled(service.client)
    assert (spec.compute.accelerator, spec.compute.precision) == (smoke.compute.accelerator, smoke.compute.precision)
    assert (spec.compute.workers, spec.pass_images) == (1, smoke.batch_images // smoke.compute.workers)
    assert spec.checkpoint.images_seen == 160, "settled by the service"


def test_the_latest_is_the_newest_training_whatever_came_after_it(service: Service) -> None:
    job = trained(service)

    for command in (("sample", "latest"), ("evaluate", "latest", "-n", "100"), ("sample", "latest", "--seed", "64")):
        assert service.cdm(*command).code == 0
    forked = service.cdm("fork", "latest", "--json")

    drawn = [one.spec for one in service.client.jobs.list() if isinstance(one.spec, SampleSpec | EvaluateSpec)]
    assert [spec.checkpoint.job_id for spec in drawn] == [job] * 3
    assert forked.document["job"]["parent"]["job_id"] == job


def test_fields_inside_one_that_is_null_are_set(service: Service) -> None:
    job = trained(service)

    service.cdm("sample", job, "--set", "sampler={steps: 40}", "--set", "classes=[3]", "--set", "archive=npz")
    whole = sampled(service.client)
    service.cdm("sample", job, "--set", "sampler.steps=41", "--set", "compute.workers=2", "--set", "archive=null")
    field = sampled(service.client)

    assert (whole.sampler, whole.classes, whole.archive) == (SamplerChanges(steps=40), (3,), "npz")
    assert (field.sampler, field.compute.workers, field.archive) == (SamplerChanges(steps=41), 2, None)


def test_features_of_ones_own_are_files_that_are_found_from_here(service: Service, tmp_path: Path) -> None:
    job = trained(service)
    for name in ("fid.pth", "mu.npz"):
        (tmp_path / name).touch()
    features = f"features={{kind: inception, weights: fid.pth, sha256: {DIGEST}}}"

    answer = service.cdm("evaluate", job, "-n", "100", "--repeats", "3", "--set", features, "--set", "reference=mu.npz")
    spec = evaluated(service.client)
    by_field = (f"features.sha256={DIGEST}", "features.kind=inception", "features.weights=https://a.test/fid.pth")
    service.cdm("evaluate", job, *(part for change in by_field for part in ("--set", change)))
    from_afar = evaluated(service.client)

    assert answer.code == 0, answer.err
    assert (spec.num_images, spec.repeats) == (100, 3)
    assert spec.features == Inception(kind="inception", weights=str(tmp_path / "fid.pth"), sha256=DIGEST)
    assert spec.reference == str(tmp_path / "mu.npz")
    assert from_afar.features == Inception(kind="inception", weights="https://a.test/fid.pth", sha256=DIGEST)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("sampler={steps: none}",), "1 field is wrong: sampler.steps: "),
        (("colour=red", "classes=[]"), "2 fields are wrong: "),
        (("features=lite0",), "1 field is wrong: features: "),
        (("features={kind: dino}",), "1 field is wrong: features.kind: "),
        (("reference=/data/mu.npz",), "1 field is wrong: reference: published statistics are of other features"),
        (("first_seed=9007199254740992",), "1 field is wrong: first_seed: "),
    ],
)
def test_a_field_that_is_wrong_is_one_line_before_anything_is_sent(
    service: Service, changes: tuple[str, ...], message: str
) -> None:
    job = trained(service)

    answer = service.cdm("evaluate", job, *(part for change in changes for part in ("--set", change)))

    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"error: {message}")
    assert answer.err.count("\n") == 1
    assert newest(service.client).id == job


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_what_has_no_checkpoint_to_draw_from_is_refused_in_one_line(service: Service, command: str) -> None:
    young = service.submit()
    too_early = service.cdm(command, young)
    service.checkpoint(young, 160)
    other_place = service.cdm(command, young, "--at", "161")
    service.cdm("sample", young)
    drawn = newest(service.client).id
    other_kind = service.cdm(command, drawn)

    assert f"{young} has no such checkpoint: it has none yet" in too_early.err
    assert f"{young} has no such checkpoint: it has them at 160" in other_place.err
    assert other_kind.err == f"error: {drawn} is a job of kind sample: only trainings have checkpoints\n"
    for refused in (too_early, other_place, other_kind):
        assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)


def test_weights_take_the_place_of_a_job(service: Service, tmp_path: Path) -> None:
    (tmp_path / "edm.safetensors").touch()
    service.store.put(dataset_folder(DIGEST) + MANIFEST, b"{}")
    mu = ("--set", f"features={{kind: inception, weights: https://a.test/fid.pth, sha256: {DIGEST}}}")

    drawn = service.cdm("sample", "--weights", "edm.safetensors", "-n", "4", "--json").document["spec"]
    by_images = service.cdm("evaluate", "--weights", "edm.safetensors", "--dataset", DIGEST, "--json").document["spec"]
    published = (*mu, "--set", "reference=https://a.test/mu.npz", "--json")
    by_numbers = service.cdm("evaluate", "--weights", "https://a.test/edm.safetensors", *published).document["spec"]

    path = str(tmp_path / "edm.safetensors")
    assert (drawn["weights"], drawn["checkpoint"], drawn["num_images"]) == (path, None, 4)
    assert (by_images["weights"], by_images["dataset"]["digest"], by_images["drift_images"]) == (path, DIGEST, 256)
    assert (by_numbers["dataset"], by_numbers["drift_images"]) == (None, 0)
    assert "https://a.test/edm.safetensors" in service.cdm("show", newest(service.client).id).out


def test_weights_of_nothing_to_measure_by_are_refused_in_one_line(service: Service, tmp_path: Path) -> None:
    (tmp_path / "edm.safetensors").touch()

    answer = service.cdm("evaluate", "--weights", "edm.safetensors")

    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "dataset: a file of weights does not say what it learned from" in answer.err


def test_in_json_the_answer_is_the_job(service: Service) -> None:
    job = trained(service)

    document = service.cdm("evaluate", job, "--json").document

    assert (document["spec"]["kind"], document["spec"]["num_images"]) == ("evaluate", 5000)
    assert document["id"] == newest(service.client).id


@pytest.mark.parametrize("arguments", [("sample", "x", "-n", "0"), ("evaluate", "x", "-n", "1")])
def test_arguments_that_cannot_be_are_misuse(cdm: Command, arguments: tuple[str, ...]) -> None:
    answer = cdm(*arguments)

    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("arguments", [(), ("latest", "--weights", "a"), ("--weights", "a", "--at", "100")])
def test_there_is_one_thing_to_draw_from(service: Service, arguments: tuple[str, ...]) -> None:
    for command in ("sample", "evaluate"):
        answer = service.cdm(command, *arguments)

        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert "--weights" in answer.err


def test_a_training_of_very_large_batches_is_drawn_from_in_passes_that_are_allowed() -> None:
    large = merged(PRESETS["smoke"].model_dump(mode="json"), {"batch_images": 2**18, "duration_images": 2**19})
    large |= {"cadence": {"log_images": 2**18, "checkpoint_images": 2**18}}

    class Jobs:
        def retrieve(self, job_id: str) -> Job:
            return job_view(job_id, spec=large)

    class Trained:
        jobs = Jobs()

    client: Any = Trained()
    document = {"kind": "sample"} | drawing._checkpoint(client, "job_1", None, None, None)

    assert (
        SampleSpec.model_validate({**document, "checkpoint": {"job_id": "job_1"}, "compute": {}}).pass_images == 65_536
    )
