"""`cdm import` against the real application: whose images, in which format, and from where."""

from pathlib import Path
from typing import get_args

import pytest

from service.cli import importing
from service.cli.errors import CommandFailed
from tests.support.command import Command
from tests.support.served import Service, served
from workers.contract.data import DatasetToImport, FolderDataset, ZipDataset
from workers.contract.importing import ImportSpec


def imported(service: Service) -> ImportSpec:
    spec = next(service.client.jobs.list(limit=1)).spec
    assert isinstance(spec, ImportSpec)
    return spec


def test_every_format_of_the_contract_can_be_named() -> None:
    union, _ = get_args(DatasetToImport)
    kinds = {get_args(each.model_fields["kind"].annotation)[0] for each in get_args(union)}

    assert {*get_args(importing.Format)} == kinds - {"builtin"}, "those come with the package"
    assert {*importing._BY_SUFFIX.values()} <= kinds


def test_an_import_is_submitted_with_a_path_that_means_the_same_everywhere(service: Service, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()

    answer = service.cdm("import", "photos", "--resolution", "32", "--grey", "--skip", "5", "--name", "mine")

    job = next(service.client.jobs.list(kind="import"))
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"submitted {job.id}: follow it with `cdm watch {job.id}`\n"
    dataset = FolderDataset(kind="folder", path=str(tmp_path / "photos"), resolution=32, channels=1)
    assert imported(service) == ImportSpec(kind="import", dataset=dataset, max_faulty_images=5)
    assert job.name == "mine"


def test_other_fields_are_set_and_an_absolute_path_stays(service: Service) -> None:
    answer = service.cdm("import", "/data/faces.zip", "--set", "max_faulty_images=2", "--json")

    assert answer.document["spec"]["kind"] == "import"
    assert imported(service).dataset == ZipDataset(kind="zip", path="/data/faces.zip")
    assert imported(service).max_faulty_images == 2


def test_a_url_is_submitted_as_it_is_with_what_the_file_must_be(service: Service) -> None:
    url, sha256 = "https://example.org/faces.zip", "ab" * 32

    assert service.cdm("import", url, "--sha256", sha256).code == 0
    assert imported(service).dataset == ZipDataset(kind="zip", path=url, sha256=sha256)

    secret = service.cdm("import", "https://me:hunter2@example.org/faces.zip")
    assert (secret.code, secret.err.count("\n")) == (1, 1)
    assert "leave the credentials out" in secret.err
    assert "hunter2" not in secret.err


def test_a_folder_of_a_bucket_is_submitted_as_it_is(cdm: Command, tmp_path: Path) -> None:
    with served(cdm, tmp_path, s3_sources=["s3://public"]) as service:
        loose = service.cdm("import", "s3://public/faces/")
        dataset = imported(service).dataset
        shards = service.cdm("import", "s3://public/faces/", "--format", "webdataset")
        closed = service.cdm("import", "s3://private/faces/")

    assert (loose.code, shards.code, closed.code) == (0, 0, 1)
    assert dataset == FolderDataset(kind="folder", path="s3://public/faces/")
    assert "dataset.path: data sets may lie in s3://public; upload it instead" in closed.err


def test_a_format_that_is_said_needs_no_guess(service: Service, tmp_path: Path) -> None:
    assert service.cdm("import", "unheard.of", "--format", "webdataset").code == 0

    dataset = imported(service).dataset.model_dump()
    assert (dataset["kind"], dataset["path"]) == ("webdataset", str(tmp_path / "unheard.of"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("faces.zip", "zip"),
        ("FACES.ZIP", "zip"),
        ("arrays.npz", "npz"),
        ("train-00000.parquet", "parquet"),
        ("shard-0.tar", "webdataset"),
        ("downloads/cifar-10-python.tar.gz", "cifar"),
        ("cifar-100-python.tar.gz", "cifar"),
        ("https://example.org/sets/faces.zip?download=true", "zip"),
        ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "cifar"),
        ("s3://public/arrays.npz", "npz"),
        ("s3://public/faces/", "folder"),
        ("s3://public/cifar-like/faces.zip/", "folder"),
    ],
)
def test_the_format_of_a_file_is_told_by_its_name(path: str, expected: str) -> None:
    assert importing.format_of(path) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ((), "folder"),
        (("a.png", "b.jpg", "dataset.json"), "folder"),
        (("train-0.parquet", "README.md"), "parquet"),
        (("shard-0.tar", "shard-1.tar"), "webdataset"),
    ],
)
@pytest.mark.parametrize("name", ["photos", "cifar-like", "set.zip"])
def test_the_format_of_a_folder_is_told_by_what_is_in_it(
    tmp_path: Path, name: str, files: tuple[str, ...], expected: str
) -> None:
    (tmp_path / name).mkdir()
    for file in files:
        (tmp_path / name / file).touch()

    assert importing.format_of(str(tmp_path / name)) == expected


def test_a_home_folder_is_known_by_its_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos").mkdir()

    assert importing.format_of("~/photos") == "folder"


def test_a_folder_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)

    with pytest.raises(CommandFailed, match=r"cannot read .*: Permission denied"):
        importing.format_of(str(tmp_path))


@pytest.mark.parametrize("path", ["photos", "photos.tar.gz", "photos.rar", "s3://bucket/photos"])
def test_a_format_that_nothing_tells_is_asked_for(service: Service, path: str) -> None:
    answer = service.cdm("import", path)

    assert (answer.code, answer.out) == (2, "")
    expected = f"error: nothing here tells the format of {path}: give --format, one of folder, zip, cifar ...\n"
    assert answer.err == expected
    assert list(service.client.jobs.list()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--resolution", "2"), 1, "error: 1 field is wrong: dataset.resolution: "),
        (("--set", "dataset.colour=red", "--set", "workers=2"), 1, "error: 2 fields are wrong: "),
        (("--skip", "-1"), 2, "error: Invalid value for '--skip'"),
        (("--format", "tiff"), 2, "error: Invalid value for '--format'"),
    ],
)
def test_a_mistake_is_one_line_and_a_code(cdm: Command, arguments: tuple[str, ...], code: int, message: str) -> None:
    answer = cdm("import", "faces.zip", *arguments, "--url", "http://127.0.0.1:1", "--key", "k")

    assert (answer.code, answer.out, answer.err.count("\n")) == (code, "", 1)
    assert answer.err.startswith(message)
