"""Job documents from presets and files, with fields changed on the command line."""

import json
from pathlib import Path

import pytest

from service.cli.documents import load, overrides
from service.cli.errors import CommandFailed
from workers.contract.consistency import Paper, Target
from workers.contract.data import Augmentation, FolderDataset
from workers.contract.model import PowerFunctionAverage
from workers.contract.networks import NCSNpp
from workers.contract.presets import PRESETS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_preset_is_itself() -> None:
    assert load("smoke") == PRESETS["smoke"]


def test_fields_are_changed_by_their_dotted_names_and_values_are_yaml() -> None:
    spec = load(
        "smoke", ["compute.workers=1", "optimizer.learning_rate=1e-4", "seed = 7", "network.channel_multipliers=[1, 4]"]
    )

    assert (spec.compute.workers, spec.optimizer.learning_rate, spec.seed) == (1, 1e-4, 7)
    assert spec.network.channel_multipliers == (1, 4)


def test_a_mapping_replaces_the_whole_field(folder: Path) -> None:
    spec = load("smoke", ["dataset={kind: folder, path: photos, resolution: 16}", "objective.consistency=null"])

    assert spec.dataset == FolderDataset(kind="folder", path=str(folder / "photos"), resolution=16)
    assert spec.objective.consistency is None


def test_a_field_inside_one_that_is_null_can_be_given() -> None:
    spec = load("smoke", ["augmentation.probability=0.2"])

    assert spec.augmentation == Augmentation(probability=0.2)


def test_another_estimator_replaces_the_whole_term_of_a_preset(folder: Path) -> None:
    file = folder / "job.yaml"
    file.write_text("preset: smoke\nobjective: {consistency: {estimator: target, weight: 2.0}}\n")

    assert load(str(file)).objective.consistency == Target(estimator="target", weight=2.0)


def test_another_kind_keeps_what_was_chosen_and_takes_its_own_defaults_for_the_rest() -> None:
    spec = load("cifar10-uncond", ["objective.consistency.estimator=paper", "network.kind=ncsnpp", "ema.kind=power"])

    assert spec.objective.consistency == Paper(estimator="paper", start=0.3)
    assert spec.network == NCSNpp(kind="ncsnpp", dropout=0.13)
    assert spec.ema == PowerFunctionAverage(kind="power")


def test_a_kind_that_is_none_is_refused_with_those_there_are() -> None:
    with pytest.raises(CommandFailed, match=r"objective\.consistency\.estimator: must be one of symmetric, asymmetric"):
        load("smoke", ["objective.consistency.estimator=single"])


def test_an_unknown_field_is_named_even_if_it_reads_like_a_kind() -> None:
    with pytest.raises(CommandFailed, match="target: unknown field"):
        load("smoke", ["target=1"])


def test_weights_are_found_beside_the_file_that_names_them(folder: Path) -> None:
    (folder / "jobs").mkdir()
    file = folder / "jobs" / "job.yaml"
    file.write_text("preset: smoke\ninitial_weights: edm.safetensors\n")
    (folder / "jobs" / "edm.safetensors").touch()

    assert load(str(file)).initial_weights == str(folder / "jobs" / "edm.safetensors")
    assert (
        load("smoke", ["initial_weights=s3://bucket/edm.safetensors"]).initial_weights == "s3://bucket/edm.safetensors"
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("initial_weights={}", "initial_weights"),
        ("inpainting={{image: {}, mask: /data/mask.png}}", "inpainting.image"),
        ("features={{kind: inception, weights: {}}}", "features.weights"),
        ("reference={}", "reference"),
    ],
)
def test_a_file_that_is_named_by_where_it_is_from_here_is_here(folder: Path, change: str, field: str) -> None:
    for name in ("missing", "x" * 300):
        with pytest.raises(CommandFailed) as refused:
            load("smoke", [change.format(name)])
        assert str(refused.value) == (
            f"{field}: there is no file {folder / name}; give one that is, or the whole path of what the workers have"
        )


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(CommandFailed) as refused:
        load("smoke", ["compute.workers=many", "colour=red", "batch_images=-1"])

    message = str(refused.value)
    assert message.startswith("3 fields are wrong: ")
    assert all(field in message for field in ("compute.workers: ", "colour: unknown field", "batch_images: "))


@pytest.mark.parametrize("change", ["workers", "=1", "a..b=1"])
def test_a_change_that_is_none_is_refused_with_an_example(change: str) -> None:
    with pytest.raises(CommandFailed, match="write it as key=value, for example"):
        load("smoke", [change])


def test_a_field_of_a_single_value_is_refused() -> None:
    with pytest.raises(CommandFailed, match="batch_images is a single value"):
        load("smoke", ["batch_images.of=1"])


def test_yaml_and_json_files_are_read(folder: Path) -> None:
    document = PRESETS["smoke"].model_dump(mode="json")
    (folder / "job.json").write_text(json.dumps(document))
    (folder / "job.yaml").write_text("preset: smoke\nseed: 3\noptimizer: {learning_rate: 2e-3}\n")

    assert load("job.json") == PRESETS["smoke"]
    assert load("job.yaml", ["seed=4"]).optimizer.learning_rate == 2e-3
    assert load("job.yaml", ["seed=4"]).seed == 4


def test_on_a_base_mappings_are_merged_unless_they_are_of_another_kind(folder: Path) -> None:
    (folder / "job.yaml").write_text(
        "preset: smoke\nnetwork: {channels: 16}\ndataset: {kind: zip, path: /data/faces.zip}\n"
    )

    spec = load("job.yaml")

    assert spec.network == PRESETS["smoke"].network.model_copy(update={"channels": 16})
    assert spec.dataset.kind == "zip"


def test_a_relative_path_is_seen_from_the_file_it_is_written_in(folder: Path) -> None:
    (folder / "jobs").mkdir()
    (folder / "jobs" / "job.yaml").write_text("preset: smoke\ndataset: {kind: zip, path: faces.zip}\n")

    in_file, on_command_line = load("jobs/job.yaml"), load("jobs/job.yaml", ["dataset.path=faces.zip"])

    assert in_file.dataset.model_dump()["path"] == str(folder / "jobs" / "faces.zip")
    assert on_command_line.dataset.model_dump()["path"] == str(folder / "faces.zip")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n- 2\n", "holds no job document"),
        (b"a: [", "neither JSON nor YAML"),
        (b"\xff\xfe\x00", "neither JSON nor YAML"),
        (b"preset: giant\n", "no preset 'giant': there are fashion16, smoke"),
    ],
)
def test_a_file_that_is_no_job_document_is_refused(folder: Path, content: bytes, message: str) -> None:
    (folder / "job.yaml").write_bytes(content)

    with pytest.raises(CommandFailed, match=message):
        load("job.yaml")


def test_what_is_neither_a_file_nor_a_preset_is_refused_with_the_presets() -> None:
    with pytest.raises(CommandFailed, match=r"neither a file nor a preset: the presets are fashion16, smoke"):
        load("fashoin16")


def test_changes_of_a_fork_are_the_parts_of_the_document_that_differ(folder: Path) -> None:
    spec = PRESETS["smoke"]

    assert overrides(spec, []) == {}
    assert overrides(spec, [f"seed={spec.seed}"]) == {}
    assert overrides(spec, ["seed=9"]) == {"seed": 9}
    changed = overrides(spec, ["objective.consistency.estimator=target", "optimizer.learning_rate=1e-4"])
    assert set(changed) == {"objective", "optimizer"}
    assert changed["objective"]["consistency"]["estimator"] == "target"
    with pytest.raises(CommandFailed, match="2 fields are wrong"):
        overrides(spec, ["seed=-1", "colour=red"])
