"""Where a document may say that a file is."""

from typing import Any

import pytest
from pydantic import ValidationError

from service.jobs.views import EvaluateEach
from workers.contract.document import problems_of
from workers.contract.files import files_of
from workers.contract.importing import ImportSpec
from workers.contract.jobs import parse_job
from workers.contract.presets import PRESETS

ID = "upl_01ARZ3NDEKTSV4RRFFQ69G5FAV"


def dataset(path: str, **fields: Any) -> Any:
    spec = {"kind": "import", "dataset": {"kind": "zip", "path": path} | fields}
    return ImportSpec.model_validate(spec).dataset


def problem(path: str, **fields: Any) -> tuple[str, str]:
    with pytest.raises(ValidationError) as refused:
        dataset(path, **fields)
    [found] = problems_of(refused.value)
    return found.pointer, found.message


@pytest.mark.parametrize(
    "path",
    [
        "/data/faces.zip",
        "relative/faces.zip",
        "/data/with: colon/faces.zip",
        f"upload://{ID}",
        "https://example.org/faces.zip",
        "https://example.org:8443/a%20b.zip?download=true&revision=main",
        "https://[2001:db8::1]/faces.zip",
        "s3://public-data/sets/faces.zip",
    ],
)
def test_a_path_an_upload_a_url_and_an_object_are_taken_as_they_are(path: str) -> None:
    assert dataset(path).path == path


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("upload://upl_1", "give a path of the workers"),
        (f"upload://{ID}/../jobs", "give a path of the workers"),
        (f"upload://{ID.lower()}", "give a path of the workers"),
        ("ftp://example.org/faces.zip", "give a path of the workers"),
        ("file:///etc/passwd", "give a path of the workers"),
        ("memory://plane/jobs/x", "give a path of the workers"),
        ("https:///faces.zip", "give a path of the workers"),
        ("https://me:secret@example.org/faces.zip", "leave the credentials out"),
        ("https://token@example.org/faces.zip", "leave the credentials out"),
        ("https://example.org/faces.zip?X-Amz-Credential=a&X-Amz-Signature=b", "looks like a credential"),
        ("https://example.org/faces.zip?sv=2020&sig=abc", "looks like a credential"),
        ("https://example.org/faces.zip?access_token=abc", "looks like a credential"),
        ("https://example.org/faces.zip?api-key", "looks like a credential"),
        ("https://example.org/faces.zip?KEY=abc", "looks like a credential"),
        ("https://example.org/faces.zip?X-Goog-Signature=abc", "looks like a credential"),
        ("https://example.org/faces.zip#part", "leave out what is behind #"),
        ("https://example.org/fa ces.zip", "visible ASCII"),
        ("https://example.org/fa\nces.zip", "visible ASCII"),
        ("https://exämple.org/faces.zip", "visible ASCII"),
        ("https://example.org:99999/faces.zip", "this is no URL"),
        ("https://[::1/faces.zip", "this is no URL"),
        ("s3://bucket", "no empty parts"),
        ("s3://bucket/", "is a folder: give one file, or a kind that takes folders"),
        ("s3://bucket/a/", "is a folder: give one file, or a kind that takes folders"),
        ("s3://bucket//jobs/x", "no empty parts"),
        ("s3://bucket/a/../jobs/x", "none that are . or .."),
        ("s3://bucket/./x", "none that are . or .."),
        ("s3://Bucket/x", "write it as s3://bucket/key"),
        ("s3://key:secret@bucket/x", "write it as s3://bucket/key"),
        ("s3://bucket/x?versionId=1", "write it as s3://bucket/key"),
    ],
)
def test_what_nobody_can_or_should_read_is_refused_with_the_mend(path: str, words: str) -> None:
    pointer, message = problem(path)

    assert pointer == "/dataset/path"
    assert words in message


@pytest.mark.parametrize("path", ["https://me:hunter2@example.org/x.zip", "https://example.org/x?token=hunter2"])
def test_a_refusal_does_not_repeat_the_secret(path: str) -> None:
    assert "hunter2" not in problem(path)[1]


def test_what_comes_unprotected_is_taken_by_its_digest_only() -> None:
    url = "http://example.org/faces.zip"

    assert problem(url) == (
        "/dataset/sha256",
        "anybody on the way could change what comes by http://: give its sha256, or https://",
    )
    assert dataset(url, sha256="0" * 64).path == url


KINDS_OF_SEVERAL_FILES = ("folder", "parquet", "webdataset")


@pytest.mark.parametrize("kind", KINDS_OF_SEVERAL_FILES)
@pytest.mark.parametrize("path", ["/data/set", "s3://public-data/sets/faces/", "s3://public-data/"])
def test_a_folder_lies_on_the_file_system_or_in_a_bucket(path: str, kind: str) -> None:
    assert dataset(path, kind=kind).path == path


@pytest.mark.parametrize("kind", KINDS_OF_SEVERAL_FILES)
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("s3://bucket//", "no empty parts"),
        ("s3://bucket/a//", "no empty parts"),
        ("s3://bucket//a/", "no empty parts"),
        ("s3://bucket/a/../", "none that are . or .."),
        ("s3://bucket/./", "none that are . or .."),
        ("s3:///a/", "write it as s3://bucket/key"),
        ("s3://Bucket/a/", "write it as s3://bucket/key"),
        ("s3://key:hunter2@bucket/a/", "write it as s3://bucket/key"),
        ("s3://bucket/a?prefix=/", "write it as s3://bucket/key"),
        ("s3://bucket/a#/", "write it as s3://bucket/key"),
        ("s3://bucket/a b/", "visible ASCII"),
    ],
)
def test_a_folder_that_nobody_can_or_should_list_is_refused_with_the_mend(path: str, words: str, kind: str) -> None:
    pointer, message = problem(path, kind=kind)

    assert pointer == "/dataset/path"
    assert words in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "path", ["https://example.org/x/", f"upload://{ID}", "s3://bucket/a", "s3://bucket", "ftp://x/"]
)
def test_a_folder_of_elsewhere_is_one_of_a_bucket_and_ends_with_a_slash(path: str) -> None:
    known = "give a path of the workers, or s3://bucket/folder/ with a slash at its end"
    assert problem(path, kind="folder") == ("/dataset/path", f"{known}; what is elsewhere comes as one file")


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_a_folder_of_a_bucket_has_no_digest(kind: str) -> None:
    found = problem("s3://bucket/a/", kind=kind, sha256="0" * 64)

    assert found == ("/dataset/sha256", "a folder has none; set it to null")
    assert dataset("s3://bucket/a", kind=kind, sha256="0" * 64).sha256 == "0" * 64


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
@pytest.mark.parametrize("path", ["https://example.org/x", f"upload://{ID}", "s3://bucket/a"])
def test_a_split_is_chosen_of_a_folder_only(path: str, kind: str) -> None:
    assert problem(path, kind=kind, split="test") == ("/dataset/split", "one file is of one split; set it to null")
    assert dataset("s3://bucket/a/", kind=kind, split="test").split == "test"
    assert dataset("/data/a", kind=kind, split="test").split == "test"


DRAWN = {"checkpoint": {"job_id": "job_1"}}
INCEPTION = {"kind": "inception", "weights": "/data/inception.pth", "sha256": "0" * 64}
FIELDS: dict[str, Any] = {
    "/initial_weights": lambda place: PRESETS["smoke"].model_dump(mode="json") | {"initial_weights": place},
    "/weights": lambda place: {"kind": "sample", "weights": place},
    "/inpainting/image": lambda place: DRAWN | {"kind": "sample", "inpainting": {"image": place, "mask": "/data/m"}},
    "/inpainting/mask": lambda place: DRAWN | {"kind": "sample", "inpainting": {"image": "/data/i", "mask": place}},
    "/features/weights": lambda place: DRAWN | {"kind": "evaluate", "features": INCEPTION | {"weights": place}},
    "/reference": lambda place: DRAWN | {"kind": "evaluate", "features": INCEPTION, "reference": place},
}
ELSEWHERE = [f"upload://{ID}", "https://example.org/a.npz?revision=main", "s3://public-data/a.npz", "/data/a: b.npz"]
STORES = ["file:///runs/jobs/a/exports/x", "memory://plane/jobs/a/exports/x"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("place", ELSEWHERE + STORES)
def test_other_files_may_lie_where_images_may_and_in_the_store_of_a_job_that_is_run_by_hand(
    field: str, place: str
) -> None:
    assert files_of(parse_job(FIELDS[field](place)))[field] == place


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("upload://upl_1", "give a path of the workers, or https://host/file"),
        ("gs://bucket/a.npz", "give a path of the workers, or https://host/file"),
        ("file://a.npz", "give a path of the workers, or https://host/file"),
        ("file:///a\n.npz", "visible ASCII"),
        ("http://example.org/a.npz", "give https://, or upload the file"),
        ("HTTP://example.org/a.npz", "give https://, or upload the file"),
        ("https://me:secret@example.org/a.npz", "leave the credentials out"),
        ("s3://bucket/a/../b", "none that are . or .."),
        ("/" + "x" * 4096, "4096 characters"),
    ],
)
def test_what_no_worker_can_or_should_read_is_refused_with_its_field(field: str, place: str, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        parse_job(FIELDS[field](place))

    [found] = problems_of(refused.value)
    assert found.pointer == field
    assert words in found.message


def test_so_is_it_of_evaluations_that_follow_a_training() -> None:
    with pytest.raises(ValidationError) as refused:
        EvaluateEach.model_validate({"features": INCEPTION | {"weights": "ftp://a/b"}, "reference": "http://a/b"})

    assert [each.pointer for each in problems_of(refused.value)] == ["/features/weights", "/reference"]


def test_an_unprotected_url_is_one_however_it_is_spelt() -> None:
    assert problem("HTTP://example.org/faces.zip")[0] == "/dataset/sha256"
