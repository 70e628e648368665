"""The job document: presets, and refusals that name every wrong field."""

import json

import pytest
from pydantic import ValidationError

from workers.contract.document import Problem, flattened, problems_of
from workers.contract.keys import split_spec_url
from workers.contract.presets import PRESETS
from workers.contract.reading import read_document
from workers.contract.spec import TrainSpec, parse_spec


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
        network={"kind": "unet", "channels": "32", "depth": 3},
        dataset={"kind": "folder", "path": ""},
        objective={"consistency": {"weight": -1}},
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


def test_a_part_of_the_batch_that_workers_cannot_share_is_refused_with_the_mend() -> None:
    (problem,) = refused(objective={"consistency": {"batch_fraction": 0.2}})

    assert problem.pointer == "/objective/consistency/batch_fraction"
    assert "multiple of 2" in problem.message


def test_missing_and_unknown_kinds_say_what_is_known() -> None:
    missing = refused(dataset={"path": "x"})
    unknown = refused(dataset={"kind": "parquet"})

    assert missing[0].pointer == unknown[0].pointer == "/dataset"
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
    assert flat["noise.sigma_data"] == "null"


def test_people_may_write_numbers_as_people_do() -> None:
    assert read_document("a: 1e-3\nb: 2.5E+4\nc: 3\nd: 1e\n") == {"a": 0.001, "b": 25000.0, "c": 3, "d": "1e"}
    with pytest.raises(ValueError, match="line 1"):
        read_document("{a: [")


def test_spec_urls_name_their_store_and_job() -> None:
    assert split_spec_url("s3://cdm/team/jobs/job_1/spec.json") == ("s3://cdm/team", "job_1")
    assert split_spec_url("/data/my-spec.json") is None


def test_every_field_of_the_spec_is_typed_strictly() -> None:
    assert TrainSpec.model_config["strict"] is True
    assert refused(seed="1")[0].pointer == "/seed"
    assert refused(duration_images=True)[0].pointer == "/duration_images"
