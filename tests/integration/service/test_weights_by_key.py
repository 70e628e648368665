"""`cdm average` and `cdm export` with an API key alone, of a service whose S3 server lets in nobody else."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from service.app import create_app
from service.client import Client, NotFound
from service.cluster import MemoryCluster
from tests.support.fake_mlflow import FakeMlflow
from tests.support.findings import evaluation_of
from tests.support.kept import checkpoint, remove
from tests.support.plane import KEY, Script, settings_in
from tests.support.seaweed import seaweed
from tests.support.serving import serving
from tests.support.trained import tiny_spec, train_job
from tests.support.waiting import wait_until
from workers.contract.keys import JobKeys
from workers.sampling.handover import open_model
from workers.storage.job_folder import committed_checkpoints
from workers.storage.s3 import S3Store
from workers.tools.export import chosen, export
from workers.tracking.events import Grid, Metrics
from workers.tracking.heartbeat import first_word
from workers.tracking.journal import Journal
from workers.training.weights import read_weights

PIECE = 8 << 20
STORE_URL = "s3://tests"

Command = Callable[..., "subprocess.CompletedProcess[str]"]


class WatchedStore(S3Store):
    """Something may happen whenever a piece of an object is asked for."""

    before_part: Callable[[str, int], None] = staticmethod(lambda _key, _offset: None)

    def part(self, key: str, offset: int, size: int) -> bytes:
        self.before_part(key, offset)
        return super().part(key, offset, size)


@pytest.fixture(scope="module")
def opened() -> Iterator[WatchedStore]:
    with seaweed() as server, pytest.MonkeyPatch.context() as environment:
        for name, value in server.environment.items():
            environment.setenv(name, value)
        yield WatchedStore.connect(server.bucket)


@pytest.fixture
def store(opened: WatchedStore) -> Iterator[WatchedStore]:
    yield opened
    opened.__dict__.pop("before_part", None)


@dataclass(frozen=True)
class Service:
    url: str
    client: Client
    script: Script

    def next_attempt(self, job_id: str, number: int) -> None:
        """Return once it is there; the one before is lost."""
        if number > 1:
            self.script.exit(f"{job_id}-a{number - 1}", 1)
        wait_until(lambda: self.client.jobs.retrieve(job_id).attempt == number)


@pytest.fixture(scope="module")
def service(opened: WatchedStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings, script = settings_in(tmp_path_factory.mktemp("service"), store_url=STORE_URL), Script()
    app = create_app(settings, cluster=MemoryCluster(script), object_store=opened, mlflow=FakeMlflow(runs={}).client())
    with serving(app) as url, Client(url, KEY) as client, capture_logs():
        yield Service(url, client, script)


@pytest.fixture
def cdm(service: Service, tmp_path: Path) -> Command:
    """With a key that may look at jobs, in a process that knows of no stack, and of no S3 server but a wrong one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "CDM_HOME": str(tmp_path / "home")}
    environment |= {"CDM_URL": service.url, "TMPDIR": str(tmp_path / "scratch")}
    environment |= {"CDM_API_KEY": service.client.api_keys.create(scopes=["jobs:read"]).key}
    (tmp_path / "scratch").mkdir()

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "service.cli", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert list((tmp_path / "scratch").iterdir()) == [], "of what was fetched nothing is left"
        return done

    return run


def trained(service: Service, store: S3Store, tmp_path: Path) -> JobKeys:
    """A job of two checkpoints, each with two averages."""
    spec = tiny_spec(duration_images=32)
    keys = JobKeys(service.client.jobs.create(spec).id)
    train_job(spec, store, keys, cache=tmp_path / "cache", every=16)
    return keys


def fetched(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """What its bars say."""
    lines = done.stderr.splitlines()
    return [line.partition("fetching ")[2].partition(" ━")[0] for line in lines if "fetching" in line]


def test_an_average_is_rebuilt_out_of_those_that_count(
    service: Service, store: WatchedStore, cdm: Command, tmp_path: Path
) -> None:
    keys, output = trained(service, store, tmp_path), str(tmp_path / "out.safetensors")
    arguments = ("average", "latest", "--output", output, "--relative-width")

    done = cdm(*arguments, "0.1")
    kept = cdm(*arguments, "0.1")
    refused = cdm(*arguments, "0.3", "--force")

    assert done.returncode == 0, done.stderr
    assert "relative width 0.1 at 32 images, from 1 of 4 stored averages" in done.stdout
    assert fetched(done) == ["ema-0.100.safetensors at 32 images"]
    assert read_weights(output)[0].extra["source"] == keys.job_id
    assert (kept.returncode, kept.stdout, fetched(kept)) == (2, "", [])
    assert "out.safetensors is there already" in kept.stderr
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: --relative-width: 0.3 is out of range, must lie between 0 and 0.28\n"
    assert len(committed_checkpoints(store, keys)) == 2


def test_an_exported_folder_is_the_one_that_the_store_itself_gives(
    service: Service, store: WatchedStore, cdm: Command, tmp_path: Path
) -> None:
    keys = trained(service, store, tmp_path)
    for attempt, seen in ((1, (16, 32, 48)), (2, (32, 48, 64))):  # the second went back
        service.next_attempt(keys.job_id, attempt)
        values = {"loss/dsm": 0.1 * attempt, "throughput/images_per_second": 7.0, "loss/consistency": float("nan")}
        rows = [Metrics(images_seen, 1_800_000_000.25 + images_seen, values) for images_seen in seen]
        grids = (Grid(images_seen, 1_800_000_000.0, b"\x89PNG%d" % images_seen) for images_seen in seen)
        Journal(store, keys, attempt).deliver([*rows, *grids])
        told = first_word(64, 1, versions={"torch": f"9.{attempt}"})
        store.put(keys.attempt(attempt).progress, told.model_dump_json().encode())
    drift = [{"sigma": 0.5, "mean": 0.1, "standard_error": 0.01, "count": 256}]
    measured = {"measures": {"recall": {"value": 0.5}}, "curves": {"drift": drift}, "files": ["drift.png"]}
    evaluation = evaluation_of(32, of=keys.job_id, **measured)
    store.put(keys.evaluation(32, 1, evaluation.job_id), evaluation.model_dump_json().encode())
    by_key, by_store = tmp_path / "by-key", tmp_path / "by-store"

    done = cdm("export", keys.job_id, "--output", str(by_key), "--average", "ema-0.100")

    assert done.returncode == 0, done.stderr
    assert "ema-0.100 at 32 images" in done.stdout
    assert fetched(done) == ["ema-0.100.safetensors at 32 images"]
    export(chosen(f"{STORE_URL}/{keys.root}", by_store, average="ema-0.100"), by_store)
    found, there = ({path.name: path.read_bytes() for path in each.iterdir()} for each in (by_key, by_store))
    assert found.keys() == there.keys()
    others = found.keys() - {"weights.safetensors", "requirements.txt"}  # a header in any order; of the process
    assert {name for name in others if found[name] != there[name]} == set()
    (header, tensors), (header_there, tensors_there) = (
        read_weights(each / "weights.safetensors") for each in (by_key, by_store)
    )
    assert header == header_there
    assert tensors.keys() == tensors_there.keys()
    assert all(torch.equal(tensors[name], tensors_there[name]) for name in tensors)
    assert b"Trained with torch 9.1." in found["README.md"]
    assert found["samples.png"] == b"\x89PNG32"
    assert found["metrics.csv"].count(b"\n") == 5
    assert open_model(by_key / "weights.safetensors").draw(range(2)).shape == (2, 1, 16, 16)


def test_what_cannot_be_exported_is_refused_before_weights_are_fetched(
    service: Service, store: WatchedStore, cdm: Command, tmp_path: Path
) -> None:
    keys = trained(service, store, tmp_path)
    (tmp_path / "mine").write_text("precious")
    arguments = ("export", keys.job_id, "--output")

    full = cdm(*arguments, str(tmp_path))
    nowhere = cdm(*arguments, str(tmp_path / "out"), "--at", "7")
    unnamed = cdm(*arguments, str(tmp_path / "out"), "--register", "faces")

    assert [each.returncode for each in (full, nowhere, unnamed)] == [2, 2, 2]
    assert full.stderr == f"error: {tmp_path} is there and not empty: choose another --output\n"
    assert nowhere.stderr == (f"error: {keys.job_id} has no checkpoint at 7 images; it has them at 16 and 32\n")
    assert unnamed.stderr.startswith("error: --register: set MLFLOW_TRACKING_URI ")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_goes_while_it_is_fetched_is_one_line(
    service: Service, store: WatchedStore, cdm: Command, tmp_path: Path
) -> None:
    keys = trained(service, store, tmp_path)
    last = committed_checkpoints(store, keys)[-1]

    def train_on(key: str, _: int) -> None:
        if key == f"{last}ema-0.050.safetensors":
            remove(store, last)

    store.before_part = train_on
    answer = cdm("export", keys.job_id, "--output", str(tmp_path / "out"))

    assert (answer.returncode, answer.stdout) == (1, "")
    where = "no checkpoint of attempt 1 at 32 images, or none any more: its list says which it keeps"
    assert answer.stderr.splitlines()[-1] == f"error: {keys.job_id} has {where}"
    assert not (tmp_path / "out").exists()


def test_one_that_goes_half_way_through_a_file_leaves_nothing_of_it(
    service: Service, store: WatchedStore, tmp_path: Path
) -> None:
    job_id = service.client.jobs.create(tiny_spec()).id
    folder = checkpoint(store, job_id, 16, ema=bytes(PIECE + 1))
    store.before_part = lambda _, offset: remove(store, folder) if offset else None

    with pytest.raises(NotFound, match=f"{job_id} has no checkpoint of attempt 1 at 16 images, or none any more"):
        service.client.jobs.download_checkpoint(job_id, tmp_path / "there")

    assert list((tmp_path / "there").iterdir()) == []


def test_a_store_that_fails_half_way_through_a_file_is_asked_for_the_rest(
    service: Service, store: WatchedStore, tmp_path: Path
) -> None:
    job_id = service.client.jobs.create(tiny_spec()).id
    data = bytes(range(256)) * (PIECE // 256 + 9)
    checkpoint(store, job_id, 16, ema=data)
    asked = list[int]()

    def fail_once(_: str, offset: int) -> None:
        asked.append(offset)
        if asked.count(offset) == 1 and offset:
            raise ConnectionError("the store is on fire")

    store.before_part = fail_once
    service.client.jobs.download_checkpoint(job_id, tmp_path / "there", files=["ema.safetensors"])

    assert (tmp_path / "there/ema.safetensors").read_bytes() == data
    assert asked[:3] == [0, PIECE, PIECE], "what had come did not come again"


def test_a_job_without_checkpoints_is_told_when_the_first_will_come(service: Service, cdm: Command) -> None:
    service.client.jobs.create(tiny_spec())

    answer = cdm("average", "latest", "--relative-width", "0.1", "--output", "out.safetensors")

    assert answer.returncode == 1
    assert answer.stderr.endswith("has no checkpoints yet: the first comes after 16 images\n")
