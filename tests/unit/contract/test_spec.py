"""The job document: presets, and refusals that name every wrong field."""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args

import pytest
from pydantic import ValidationError

from tests.support.specs import smoke_spec
from workers.contract.consistency import AbsoluteInterval, Paper
from workers.contract.document import _UNION_TAGS, Problem, flattened, problems_of
from workers.contract.jobs import job_schema, parse_job
from workers.contract.keys import split_spec_url
from workers.contract.model import Preconditioning, PreconditioningKind
from workers.contract.presets import PRESETS
from workers.contract.reading import read_document
from workers.contract.spec import TrainSpec, parse_spec, sharing_problems


def refused(**changes: object) -> list[Problem]:
    document = PRESETS["smoke"].model_dump(mode="json") | changes
    with pytest.raises(ValidationError) as caught:
        parse_spec(document)
    return problems_of(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_complete_documents_that_survive_json_and_yaml(name: str) -> None:
    text = PRESETS[name].model_dump_json()

    assert parse_spec(json.loads(text)) == PRESETS[name]
    assert parse_spec(read_document(text)) == PRESETS[name]


def test_every_wrong_field_is_named_at_once() -> None:
    problems = refused(
        network={"kind": "ddpmpp", "channels": "32", "depth": 3},
        dataset={"kind": "folder", "path": ""},
        objective={"consistency": {"estimator": "symmetric", "weight": -1}},
        seed=-1,
    )

    assert {problem.pointer for problem in problems} == {
        "/network/channels",
        "/network/depth",
        "/dataset/path",
        "/objective/consistency/weight",
        "/seed",
    }


def test_fields_that_do_not_fit_together_are_named_at_once() -> None:
    problems = refused(
        batch_images=15,
        cadence={"log_images": 2, "checkpoint_images": 160},
        sampler={"sigma_min": 2.0, "sigma_max": 1.0},
    )

    assert {problem.pointer for problem in problems} == {"/batch_images", "/cadence/log_images", "/sampler/sigma_min"}
    assert "multiple of compute.workers (2)" in str(problems)


def test_workers_that_are_left_take_over_the_passes_of_those_that_are_gone() -> None:
    spec = smoke_spec(batch_images=16, compute={"workers": 4, "min_workers": 1, "accelerator": "cpu"})

    assert [spec.shares(workers) for workers in (1, 2, 3, 4, 8)] == [4, 4, 4, 4, 8]
    assert sharing_problems(spec, 3) == []


def test_more_workers_at_least_than_at_most_are_refused() -> None:
    (problem,) = refused(compute={"workers": 2, "min_workers": 3, "accelerator": "cpu"})

    assert str(problem) == "compute.min_workers: must be at most compute.workers (2)"


@pytest.mark.parametrize(
    ("retention", "mend"),
    [
        ({"keep_every_images": 320}, "set cadence.keep_last"),
        ({"keep_last": 2, "keep_every_images": 200}, r"multiple of cadence.checkpoint_images \(160\)"),
    ],
)
def test_checkpoints_that_would_stay_anyway_or_never_come_are_refused(retention: dict[str, int], mend: str) -> None:
    (problem,) = refused(cadence={"log_images": 32, "checkpoint_images": 160} | retention)

    assert problem.pointer == "/cadence/keep_every_images"
    assert re.search(mend, problem.message)


def test_checkpoints_come_at_an_image_count_or_when_they_pay() -> None:
    kept = {"keep_last": 2, "keep_every_images": 64}
    auto = smoke_spec(cadence={"log_images": 32, "checkpoint_images": "auto"} | kept)
    (elsewhere,) = refused(cadence={"log_images": 32, "checkpoint_images": "auto"} | kept | {"keep_every_images": 80})

    assert auto.cadence.checkpoint_images == "auto"
    assert parse_spec(json.loads(auto.model_dump_json())) == auto
    assert elsewhere.pointer == "/cadence/keep_every_images"
    assert "multiple of cadence.log_images (32)" in elsewhere.message


@pytest.mark.parametrize("wrong", ["often", "160", 0, -1, 1.5, True, None])
def test_any_other_checkpoint_cadence_is_refused_in_one_sentence(wrong: Any) -> None:
    (problem,) = refused(cadence={"log_images": 32, "checkpoint_images": wrong})

    assert str(problem) == "cadence.checkpoint_images: must be a positive number of images, or auto"


def test_a_part_of_the_batch_that_workers_cannot_share_is_refused_with_the_mend() -> None:
    (problem,) = refused(objective={"consistency": {"estimator": "symmetric", "batch_fraction": 0.2}})

    assert problem.pointer == "/objective/consistency/batch_fraction"
    assert "multiple of 2" in problem.message


def test_passes_that_do_not_divide_a_worker_s_share_are_refused_with_the_mend() -> None:
    (uneven,) = refused(compute={"workers": 2, "accelerator": "cpu", "microbatch_images": 3})
    (without_term,) = refused(compute={"workers": 2, "accelerator": "cpu", "microbatch_images": 1})

    assert uneven.pointer == "/compute/microbatch_images"
    assert "the 8 images of each of 2 workers" in uneven.message
    assert without_term.pointer == "/objective/consistency/batch_fraction"
    assert "16 passes cannot share" in without_term.message


@pytest.mark.parametrize(
    ("term", "pointer", "reason"),
    [
        ({"estimator": "single"}, "/estimator", "symmetric"),
        ({"weight": 2.0}, "", "say which 'estimator' it is"),
        ({"estimator": "symmetric", "samples": 1}, "/samples", "2"),
        ({"estimator": "target", "samples": 3}, "/samples", "unknown field"),
        ({"estimator": "symmetric", "weight": 10.0}, "/weight", "over-regularises"),
        ({"estimator": "symmetric", "interval": {"kind": "relative", "r_max": 0.5}}, "/steps", "too biased"),
        ({"estimator": "symmetric", "interval": {"kind": "relative", "r_max": 0.6}}, "/interval/r_max", "0.5"),
        ({"estimator": "symmetric", "interval": {"kind": "relative", "r_min": 0.3}}, "/interval/r_min", "below r_max"),
        ({"estimator": "paper", "steps": 1}, "/steps", "Euler-Maruyama"),
        ({"estimator": "paper", "steps": 1, "interval": {"kind": "relative"}}, "/steps", "Euler-Maruyama"),
        (
            {"estimator": "symmetric", "interval": {"kind": "absolute", "length_max": 9.0}},
            "/interval/length_max",
            "0.1",
        ),
        ({"estimator": "target", "dropout": "off"}, "/dropout", "shared"),
        ({"estimator": "symmetric", "dropout": "independent"}, "/dropout", "shared"),
        (
            {"estimator": "paper", "interval": {"kind": "absolute", "length_min": 0.05}},
            "/interval/length_min",
            "below length_max",
        ),
    ],
)
def test_consistency_terms_that_are_wrong_cannot_be_written(term: dict[str, object], pointer: str, reason: str) -> None:
    (problem,) = refused(objective={"consistency": term})

    assert problem.pointer == f"/objective/consistency{pointer}"
    assert reason in problem.message


def test_the_released_recipe_is_one_word() -> None:
    spec = parse_spec(PRESETS["smoke"].model_dump(mode="json") | {"objective": {"consistency": {"estimator": "paper"}}})

    assert spec.objective.consistency == Paper(
        estimator="paper",
        steps=5,
        weight=10.0,
        weighting="none",
        interval=AbsoluteInterval(kind="absolute", length_max=0.05, sigma_floor=0.002),
        batch_fraction=1.0,
    )


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"sampler": {"method": "ancestral", "churn": {}}}, "/sampler/churn"),
        ({"sampler": {"guidance": 2.0}}, "/sampler/guidance"),
        ({"network": {"kind": "edm2"}, "augmentation": {"probability": 0.1}}, "/augmentation"),
        ({"network": {"kind": "ddpmpp"}, "objective": {"label_dropout": 0.1}}, "/objective/label_dropout"),
        ({"preconditioning": {"kind": "ve", "sigma_min": 1.0, "sigma_max": 1.0}}, "/preconditioning/sigma_min"),
        ({"ema": {"kind": "power", "relative_widths": [0.05, 0.3]}}, "/ema/relative_widths/1"),
        ({"ema": {"kind": "power", "relative_widths": [0.05, 0.0501]}}, "/ema/relative_widths"),
        ({"preconditioning": {"kind": "ve"}}, "/sampler/sigma_min"),
        ({"preconditioning": {"kind": "ve"}, "sampler": {"sigma_min": 0.02, "sigma_max": 101.0}}, "/sampler/sigma_max"),
        ({"preconditioning": {"kind": "vp", "epsilon_t": 1e-3}}, "/sampler/sigma_min"),
        ({"preconditioning": {"kind": "vp", "beta_d": 10.0}, "sampler": {"sigma_max": 20.0}}, "/sampler/sigma_max"),
        ({"optimizer": {"warmup_images": 321}}, "/optimizer/warmup_images"),
    ],
)
def test_settings_without_effect_or_sense_are_refused(changes: dict[str, object], pointer: str) -> None:
    assert [problem.pointer for problem in refused(**changes)] == [pointer]


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"batch_size": 64}, "batch_size: unknown field; did you mean batch_images?"),
        ({"optimizer": {"lr": 1e-3}}, "optimizer.lr: unknown field; did you mean learning_rate?"),
        (
            {"objective": {"consistency": {"estimator": "target", "lambda": 2.0}}},
            "objective.consistency.lambda: unknown field; did you mean weight?",
        ),
        ({"compute": {"lr": 1}}, "compute.lr: unknown field; remove it or check its spelling"),
        ({"objective": {"consistency": "target"}}, 'objective.consistency: must be an object: {"estimator": "target"}'),
        (
            {"objective": {"consistency": "none"}},
            "objective.consistency: must be an object that says its estimator, "
            "one of symmetric, asymmetric, antithetic4, target, paper",
        ),
        ({"optimizer": "adam"}, "optimizer: must be an object"),
        (
            {"objective": {"consistency": {"estimator": "symetric"}}},
            "objective.consistency.estimator: must be one of symmetric, asymmetric, antithetic4, target, paper; "
            "did you mean symmetric?",
        ),
        ({"duration_images": 200e6}, "duration_images: must be a whole number: write it as 200000000"),
        ({"duration_images": 0.5}, "duration_images: must be a whole number"),
        ({"seed": "many"}, "seed: must be a whole number"),
    ],
)
def test_a_field_that_is_wrong_is_refused_with_what_it_should_be(changes: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ValidationError) as of_any_kind:
        parse_job(PRESETS["smoke"].model_dump(mode="json") | changes)

    assert [*map(str, refused(**changes))] == [*map(str, problems_of(of_any_kind.value))] == [refusal]


@pytest.mark.parametrize("preset", ["cifar10-uncond", "cifar10-cond"])
def test_what_guidance_needs_is_named_whole(preset: str) -> None:
    document = PRESETS[preset].model_dump(mode="json")
    document["sampler"]["guidance"] = 2.0
    with pytest.raises(ValidationError) as caught:
        parse_spec(document)
    document["objective"]["label_dropout"] = 0.1
    document["network"]["class_conditional"] = True

    (problem,) = problems_of(caught.value)
    assert "objective.label_dropout" in problem.message
    assert ("network.class_conditional" in problem.message) is (preset == "cifar10-uncond")
    assert parse_spec(document)


def test_a_pointer_names_the_fields_a_user_writes_and_not_the_union_they_belong_to() -> None:
    schemas = list(_schemas(job_schema()))
    kinds = {tag for schema in schemas for tag in schema.get("discriminator", {}).get("mapping", {})}
    fields = {name for schema in schemas for name in schema.get("properties", {})}

    assert len(kinds) > 15
    assert kinds == _UNION_TAGS
    assert not kinds & fields


def _schemas(schema: object) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for inner in schema.values():
            yield from _schemas(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _schemas(inner)


def test_missing_and_unknown_kinds_say_what_is_known() -> None:
    missing = refused(dataset={"path": "x"})
    unknown = refused(dataset={"kind": "tiff"})

    assert (missing[0].pointer, unknown[0].pointer) == ("/dataset", "/dataset/kind")
    assert "zip" in unknown[0].message


def test_plain_edm_is_a_null_consistency_term() -> None:
    spec = parse_spec(PRESETS["smoke"].model_dump(mode="json") | {"objective": {"consistency": None}})

    assert spec.consistency_images == 0


def test_a_spec_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PRESETS["smoke"].seed = 1  # type: ignore[misc] # that is the point


def test_a_spec_flattens_to_dotted_leaves() -> None:
    flat = flattened(PRESETS["smoke"])

    assert flat["network.channels"] == "8"
    assert flat["network.channel_multipliers"] == "[1, 2]"
    assert flat["dataset.name"] == "fashion16"
    assert flat["preconditioning.sigma_data"] == "null"


def test_people_may_write_numbers_as_people_do() -> None:
    assert read_document("a: 1e-3\nb: 2.5E+4\nc: 3\nd: 1e\n") == {"a": 0.001, "b": 25000.0, "c": 3, "d": "1e"}
    with pytest.raises(ValueError, match="line 1"):
        read_document("{a: [")
    with pytest.raises(ValueError, match="seed is there twice, in line 1 and in line 3"):
        read_document("seed: 1\nb: {seed: 2}\nseed: 3\n")


def test_spec_urls_name_their_store_and_job() -> None:
    assert split_spec_url("s3://cdm/team/jobs/job_1/spec.json") == ("s3://cdm/team", "job_1")
    assert split_spec_url("/data/my-spec.json") is None


def test_every_field_of_the_spec_is_typed_strictly() -> None:
    assert TrainSpec.model_config["strict"] is True
    assert refused(seed="1")[0].pointer == "/seed"
    assert refused(duration_images=True)[0].pointer == "/duration_images"


def test_every_preconditioning_is_a_kind_that_evaluations_can_name() -> None:
    union, _ = get_args(Preconditioning)

    assert {each.model_fields["kind"].annotation for each in get_args(union)} == {
        Literal[kind] for kind in get_args(PreconditioningKind)
    }
