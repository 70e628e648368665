"""Files of this machine that jobs name, sent to a service that does not see them, over a real S3 server."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from service.client import Client, Timing, UploadFailed
from service.uploads import usecases
from tests.support.command import Command
from tests.support.faulty_s3 import S3Fault, faulty_proxy
from tests.support.plane import KEY
from tests.support.seaweed import Seaweed
from tests.support.served import Service, served
from tests.support.waiting import wait_until
from workers.contract.data import FolderDataset, NpzDataset, ZipDataset
from workers.contract.features import Inception
from workers.contract.importing import ImportSpec
from workers.contract.keys import JobKeys, UploadKeys
from workers.contract.spec import TrainSpec
from workers.data import import_images
from workers.storage import JobFiles, read_location


@pytest.fixture
def cdm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.setenv("CDM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


@pytest.fixture
def store_url(server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(usecases, "PART_BYTES", 1000)
    return f"s3://{server.bucket}/{uuid4()}"


@pytest.fixture
def service(cdm: Command, tmp_path: Path, store_url: str) -> Iterator[Service]:
    with served(cdm, tmp_path, store_url=store_url) as service:
        yield service


def imported(service: Service) -> ImportSpec:
    spec = next(service.client.jobs.list(limit=1)).spec
    assert isinstance(spec, ImportSpec)
    return spec


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def test_a_file_that_the_service_does_not_see_is_sent_and_imported(service: Service, tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", X=noise(20))

    answer = service.cdm("import", "noise.npz", "--json")

    assert answer.code == 0, answer.err
    assert "sending noise.npz" in answer.err
    dataset = imported(service).dataset
    assert isinstance(dataset, NpzDataset)
    assert dataset.path.startswith("upload://")
    assert import_images(dataset, service.store).manifest.num_images == 20


def test_a_folder_of_images_is_sent_as_one_file_and_is_the_same_set(service: Service, tmp_path: Path) -> None:
    for number, pixels in enumerate(noise(6)):
        file = tmp_path / f"photos/{'cat' if number < 4 else 'dog'}/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    (tmp_path / "photos/cat/.hidden.png").write_bytes(b"no image")
    (tmp_path / "photos/readme.txt").write_text("of mine")

    assert service.cdm("import", "photos", "--grey").code == 0

    dataset = imported(service).dataset
    assert isinstance(dataset, ZipDataset)
    assert dataset.channels == 1
    here = FolderDataset(kind="folder", path=str(tmp_path / "photos"), channels=1)
    assert import_images(dataset, service.store).manifest == import_images(here, service.store).manifest


FEATURES = "{kind: inception, weights: fid.pth, sha256: " + "ab" * 32 + "}"


def sent(service: Service, location: str) -> bytes:
    """What the service has of an upload."""
    assert location.startswith("upload://")
    return read_location(location, most_bytes=1 << 20, job_files=JobFiles(service.store, JobKeys("job_1")))


def trained(service: Service) -> str:
    """A training with a checkpoint."""
    job_id = service.submit("--set", "compute={workers: 1, accelerator: cpu}")
    service.checkpoint(job_id, 160)
    return job_id


def test_all_files_of_a_training_and_of_its_evaluations_are_sent(service: Service, tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", X=noise(20))
    for name in ("edm.safetensors", "fid.pth", "mu.npz"):
        (tmp_path / name).write_text(name)

    job = service.client.jobs.retrieve(
        service.submit(
            *("--set", "dataset={kind: npz, path: noise.npz, channels: 1}", "--set", "initial_weights=edm.safetensors"),
            *("--evaluate", f"features={FEATURES}", "--evaluate", "reference=mu.npz", "--control", "edm"),
        )
    )

    spec, evaluations = job.spec, job.evaluations
    assert isinstance(spec, TrainSpec)
    assert isinstance(spec.dataset, NpzDataset)
    assert evaluations
    assert isinstance(evaluations.features, Inception)
    assert import_images(spec.dataset, service.store).manifest.num_images == 20
    assert sent(service, spec.initial_weights or "") == b"edm.safetensors"
    assert sent(service, evaluations.features.weights) == b"fid.pth"
    assert sent(service, evaluations.reference or "") == b"mu.npz"


def test_weights_to_draw_from_are_sent(service: Service, tmp_path: Path) -> None:
    (tmp_path / "edm.safetensors").write_text("weights")

    answer = service.cdm("sample", "--weights", "edm.safetensors", "--json")

    assert sent(service, answer.document["spec"]["weights"]) == b"weights"


def test_a_file_that_is_named_twice_is_sent_once(service: Service, tmp_path: Path) -> None:
    Image.fromarray(noise(1)[0]).save(tmp_path / "known.png")
    job = trained(service)

    answer = service.cdm("sample", job, "--set", "inpainting={image: known.png, mask: known.png}", "--json")

    assert answer.code == 0, answer.err
    known = answer.document["spec"]["inpainting"]
    assert known["image"] == known["mask"]
    assert sent(service, known["image"]) == (tmp_path / "known.png").read_bytes()
    assert len(service.store.folders("uploads/")) == 1


def test_so_is_what_an_evaluation_reads_and_what_a_fork_is_to_read(service: Service, tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", X=noise(20))
    (tmp_path / "fid.pth").write_text("weights")
    job = trained(service)

    evaluated = service.cdm("evaluate", job, "--set", f"features={FEATURES}", "--json")
    forked = service.cdm("fork", job, "--set", "dataset={kind: npz, path: noise.npz, channels: 1}", "--json")

    assert (evaluated.code, forked.code) == (0, 0), evaluated.err + forked.err
    evaluation, fork = evaluated.document, forked.document
    assert sent(service, evaluation["spec"]["features"]["weights"]) == b"weights"
    assert sent(service, fork["job"]["spec"]["dataset"]["path"]) == (tmp_path / "noise.npz").read_bytes()


def test_a_study_sends_its_images_once_and_anew_when_their_import_was_deleted(service: Service, tmp_path: Path) -> None:
    for number, pixels in enumerate(noise(6)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    study = ("study", "smoke", "--set", "dataset={kind: folder, path: ., channels: 1}")

    failing(service, *study)
    service.cdm(*study)
    first, there = imported(service).dataset, service.store.folders("uploads/")
    [job] = service.client.jobs.list()
    service.client.jobs.delete(job.id)
    failing(service, *study)
    second = imported(service).dataset

    assert isinstance(first, ZipDataset)
    assert isinstance(second, ZipDataset)
    assert [f"upload://{each}" for each in there] == [first.path]
    assert second.path != first.path
    assert import_images(second, service.store).manifest.num_images == 6


def failing(service: Service, *arguments: str) -> None:
    """A study whose import fails as soon as it runs."""
    before = {job.id for job in service.client.jobs.list()}

    def fail() -> None:
        [new] = wait_until(lambda: [job for job in service.client.jobs.list() if job.id not in before])
        service.end(new.id, "failed", reason="data_error")

    ending = Thread(target=fail)
    ending.start()
    service.cdm(*arguments)
    ending.join()


def test_a_path_that_is_not_here_may_be_one_of_the_workers_and_a_plan_sends_nothing(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / "edm.safetensors").touch()

    planned = service.cdm("submit", "smoke", "--dry-run", "--set", "initial_weights=edm.safetensors")
    job = service.client.jobs.retrieve(service.submit("--set", "initial_weights=/data/of/workers.safetensors"))
    missing = service.cdm("submit", "smoke", "--set", "initial_weights=other.safetensors")
    folder = service.cdm("submit", "smoke", "--set", f"initial_weights={tmp_path}")

    assert planned.code == 0, planned.err
    assert isinstance(job.spec, TrainSpec)
    assert job.spec.initial_weights == "/data/of/workers.safetensors"
    assert missing.err.startswith(f"error: initial_weights: there is no file {tmp_path}/other.safetensors; give one")
    assert folder.err == f"error: initial_weights: {tmp_path} is a folder; name a file\n"
    assert service.store.list("uploads/") == []
    assert len(list(service.client.jobs.list())) == 1


def test_a_file_for_several_jobs_is_sent_by_itself(service: Service, tmp_path: Path) -> None:
    (tmp_path / "fid.pth").write_text("weights")

    answer = service.cdm("uploads", "send", "fid.pth")
    missing = service.cdm("uploads", "send", "fid.pt")

    assert sent(service, answer.out.strip()) == b"weights"
    assert missing.err.endswith("error: cannot read fid.pt: No such file or directory\n")


def test_one_may_say_that_the_workers_see_it_and_nothing_is_sent(service: Service, tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", X=noise(2))

    assert service.cdm("import", "noise.npz", "--no-upload").code == 0
    assert service.cdm("import", "/data/of/workers.zip").code == 0

    assert imported(service).dataset == ZipDataset(kind="zip", path="/data/of/workers.zip")
    assert service.store.list("uploads/") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.zip", "--upload"), "error: cannot read missing.zip: No such file"),
        (("shards", "--upload"), "error: shards is a folder of webdataset files: send one of them"),
        (("noise.npz", "--resolution", "2"), "error: 1 field is wrong: dataset.resolution"),
    ],
)
def test_what_cannot_be_sent_is_one_line_and_nothing_is(
    service: Service, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    np.savez(tmp_path / "noise.npz", X=noise(2))
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/0.tar").touch()

    answer = service.cdm("import", *arguments)

    assert answer.code == 1
    assert answer.err.splitlines()[-1].startswith(message)
    assert service.store.list("uploads/") == []
    assert list(service.client.jobs.list()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "dataset.split=train"), "error: 1 field is wrong: dataset.split: one file is of one split; set it"),
        (("--set", "dataset.split=train", "--upload"), "error: 1 field is wrong: dataset.split: one file is of one"),
        (("--label", "cdm.of=me"), "error: labels."),
    ],
)
def test_what_is_no_job_once_it_is_sent_is_refused_before(
    service: Service, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "train-00000-of-00001.parquet").write_text("images")

    answer = service.cdm("import", "train-00000-of-00001.parquet", *arguments)

    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert answer.err.startswith(message)
    assert service.store.list("uploads/") == []


@pytest.mark.parametrize(
    "changes",
    [
        ("--set", "dataset={kind: parquet, path: train.parquet, channels: 1, split: train}"),
        ("--set", "initial_weights=/tmp"),
        ("--control", "edm", "--set", "objective.consistency=null"),
    ],
)
def test_of_several_files_none_is_sent_if_the_job_would_be_refused(
    service: Service, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    for name in ("fid.pth", "train.parquet"):
        (tmp_path / name).write_text(name)

    answer = service.cdm("submit", "smoke", "--evaluate", f"features={FEATURES}", *changes)

    assert (answer.code, answer.err.count("\n")) == (1, 1), answer.err
    assert service.store.list("uploads/") == []


def test_a_service_that_cannot_take_it_says_what_else_there_is(cdm: Command, tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", X=noise(2))
    with served(cdm, tmp_path) as in_memory:
        forced, by_itself = in_memory.cdm("import", "noise.npz", "--upload"), in_memory.cdm("import", "noise.npz")

    assert forced.code == 1
    assert "give a path that its workers can read" in forced.err
    assert by_itself.code == 0, "as ever: by its path"


def test_parts_that_did_not_arrive_are_sent_again(service: Service, tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", X=noise(20))
    lost = list[str]()

    def lose_the_first(sent: int, total: int) -> None:
        if sent == total and not lost:
            lost.extend(service.store.folders("uploads/"))
            service.store.delete(UploadKeys(lost[0]).part(0))

    upload = service.client.uploads.send(tmp_path / "noise.npz", on_bytes=lose_the_first)

    assert lost == [upload.id]
    assert upload.num_missing_parts == 0


def failure(service: Service, file: Path) -> str:
    """Of sending it, by a client that never rests."""
    with (
        Client(service.url, KEY, timing=Timing(sleep=lambda _: None)) as client,
        pytest.raises(UploadFailed) as failed,
    ):
        client.uploads.send(file)
    return str(failed.value)


def test_a_store_that_is_not_there_is_named_and_its_links_are_not(cdm: Command, tmp_path: Path, store_url: str) -> None:
    np.savez(tmp_path / "noise.npz", X=noise(2))

    with served(cdm, tmp_path, store_url=store_url, store_public_endpoint="http://127.0.0.1:1") as service:
        said = failure(service, tmp_path / "noise.npz")

    assert "cannot reach the object store at 127.0.0.1" in said
    assert "X-Amz" not in said


def test_a_store_that_takes_parts_and_keeps_none_is_given_up_and_so_is_the_upload(
    cdm: Command, tmp_path: Path, store_url: str, server: Seaweed
) -> None:
    (tmp_path / "small.npz").write_bytes(b"one part")

    with (
        faulty_proxy(server.endpoint) as proxy,
        served(cdm, tmp_path, store_url=store_url, store_public_endpoint=proxy.endpoint) as service,
    ):
        proxy.fault = S3Fault.DISCARD
        said = failure(service, tmp_path / "small.npz")
        left = service.store.list("uploads/")

    assert said.startswith("small.npz did not arrive: the object store took its parts and has not kept them")
    assert proxy.num_faulty == 4
    assert left == []


def test_sending_that_is_interrupted_leaves_nothing_that_takes_room(service: Service, tmp_path: Path) -> None:
    np.savez(tmp_path / "noise.npz", X=noise(20))

    def interrupt(sent: int, total: int) -> None:
        if sent > 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        service.client.uploads.send(tmp_path / "noise.npz", on_bytes=interrupt)

    assert service.store.list("uploads/") == []


def test_what_was_sent_is_listed_and_deleted_by_the_beginning_of_its_id(service: Service, tmp_path: Path) -> None:
    nothing = service.cdm("uploads")
    np.savez(tmp_path / "noise.npz", X=noise(20))
    read, unread = (service.client.uploads.send(tmp_path / "noise.npz", name=f"{n}.npz") for n in ("read", "unread"))
    service.cdm("import", read.path, "--format", "npz")

    head, *lines = service.cdm("uploads").out.splitlines()
    document = service.cdm("uploads", "list", "--limit", "1", "--json").document
    offered = service.cdm.offered("cdm uploads delete ")
    kept, vague = service.cdm("uploads", "delete", read.id), service.cdm("uploads", "delete", "upl_")
    deleted = service.cdm("uploads", "delete", unread.id.lower())

    assert nothing.out == "no uploads: jobs that name files send what they have to\n"
    assert head.split() == ["UPLOAD", "NAME", "MIB", "MISSING", "PARTS", "EXPIRES"]
    assert {tuple(line.split()[:4]) for line in lines} == {
        (read.id, "read.npz", "0.0", "0"),
        (unread.id, "unread.npz", "0.0", "0"),
    }
    assert [one["id"] for one in document] == [max(read.id, unread.id)]
    assert offered == sorted([read.id, unread.id], reverse=True)
    assert "may still read it: wait, or cancel" in kept.err
    assert vague.err == "error: 2 uploads begin with upl_: `cdm uploads` lists them\n"
    assert deleted.out == f"deleted {unread.id}\n"
    assert [one.id for one in service.client.uploads.list()] == [read.id]
