"""The SDK against the real application behind a real socket."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from service.app import create_app
from service.client import (
    AnswerLost,
    AuthenticationFailed,
    Client,
    Gone,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    ServiceUnreachable,
    StateConflict,
    Timing,
)
from service.client.client import API_VERSION
from service.cluster import MemoryCluster
from tests.support.fake_mlflow import FakeMlflow
from tests.support.fresh_databases import prepare
from tests.support.plane import KEY, Script, settings_in
from tests.support.ray_head import free_ports
from tests.support.serving import serving
from tests.support.worker import Worker
from workers.contract.data import BuiltinDataset
from workers.contract.importing import ImportSpec
from workers.contract.keys import JobKeys
from workers.contract.presets import PRESETS
from workers.contract.sampling import SampleSpec
from workers.storage.memory import MemoryStore


@dataclass
class Service:
    """A served application; its driver leaves an outcome as soon as it runs."""

    url: str
    store: MemoryStore


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    settings, store, mlflow = settings_in(tmp_path), MemoryStore(), FakeMlflow()
    prepare(settings.database_url)
    app = create_app(settings, cluster=MemoryCluster(Script()), object_store=store, mlflow=mlflow.client())
    with serving(app) as url:
        yield Service(url, store)


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, KEY) as client:
        yield client


def test_a_job_is_submitted_followed_and_its_results_fetched(service: Service, client: Client) -> None:
    assert client.readiness().ready
    assert client.api_version() == API_VERSION
    preset = client.presets()["smoke"]
    assert preset == PRESETS["smoke"]

    job = client.jobs.create(preset, name="first", labels={"team": "vision"}, priority="high", max_runtime_seconds=60)
    service.store.put(JobKeys(job.id).sample(160), b"PNG")
    Worker(service.store, job.id).outcome("succeeded", at=datetime.now(UTC))
    job = client.jobs.wait(job.id, timeout=10, poll_seconds=0.01)

    assert (job.state, job.name, job.spec) == ("succeeded", "first", preset)
    assert (job.labels, job.priority, job.max_runtime_seconds) == ({"team": "vision"}, "high", 60)
    assert client.jobs.retrieve(job.id).id == job.id
    assert [one.id for one in client.jobs.list(state="succeeded", labels={"team": "vision"})] == [job.id]
    assert list(client.jobs.list(labels={"team": "audio"})) == []
    numbers = [event.sequence for event in client.jobs.events(job.id)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [event.sequence for event in client.jobs.events(job.id, after=2)] == numbers[2:]
    assert [attempt.number for attempt in client.jobs.attempts(job.id)] == [1]
    assert client.jobs.logs(job.id).attempt == 1
    assert client.jobs.checkpoints(job.id) == ()
    assert client.jobs.samples(job.id) == (160,)
    assert client.jobs.sample(job.id) == client.jobs.sample(job.id, images_seen=160) == b"PNG"


def test_each_event_is_streamed_once_and_in_order_to_the_end(service: Service, client: Client) -> None:
    job = client.jobs.create(PRESETS["smoke"])
    service.store.put(JobKeys(job.id).attempt(1).log_chunk("rank-0000", 0), b"hello\n")
    Worker(service.store, job.id).outcome("succeeded", at=datetime.now(UTC))

    streamed = list(client.jobs.stream_events(job.id))
    log = "".join(piece.text for piece in client.jobs.stream_logs(job.id, source="rank-0000"))

    assert [event.sequence for event in streamed] == list(range(1, len(streamed) + 1))
    assert streamed[-1].state == "succeeded"
    assert streamed == list(client.jobs.events(job.id))
    assert log == "hello\n"


def test_jobs_of_each_kind_are_made_listed_and_read_with_what_they_left(service: Service, client: Client) -> None:
    dataset = BuiltinDataset(kind="builtin", name="fashion16")
    imported = client.jobs.create(ImportSpec(kind="import", dataset=dataset), name="images")
    trained = client.jobs.create(PRESETS["smoke"])
    Worker(service.store, trained.id).checkpoint(160, at=datetime.now(UTC))
    drawn = client.jobs.create({"kind": "sample", "checkpoint": {"job_id": trained.id}})
    service.store.put(JobKeys(imported.id).results + "result.json", b"{}")

    assert isinstance(drawn.spec, SampleSpec)
    assert drawn.spec.checkpoint.images_seen == 160
    assert client.jobs.plan(drawn.spec).spec == drawn.spec
    for job in (imported, trained, drawn):
        assert [one.id for one in client.jobs.list(kind=job.spec.kind)] == [job.id]
    assert [(file.name, file.url) for file in client.jobs.files(imported.id)] == [("result.json", None)]
    assert client.jobs.file(imported.id, "result.json") == b"{}"
    assert client.jobs.evaluations(trained.id) == ()
    with pytest.raises(NotFound, match="has left no file"):
        client.jobs.file(imported.id, "grid.png")
    for name in ("../spec.json", "a/b", "a?b=c"):
        with pytest.raises((NotFound, InvalidRequest)):
            client.jobs.file(imported.id, name)
    with pytest.raises(InvalidRequest, match="query"):
        list(client.jobs.list(kind="paint"))
    with pytest.raises(StateConflict, match="only trainings can"):
        client.jobs.fork(drawn.id)


def test_a_file_that_was_cut_off_half_way_comes_whole_and_on_a_path_goes_on_behind_what_had_come(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = client.jobs.create({"kind": "import", "dataset": {"kind": "builtin", "name": "fashion16"}})
    data, cuts, part = bytes(range(256)) * (9 << 12), [1], service.store.part
    service.store.put(JobKeys(job.id).results + "images.zip", data)

    def broken_once(key: str, offset: int, size: int) -> bytes:
        if offset and cuts:
            cuts.pop()
            raise ConnectionError("the store is on fire")
        return part(key, offset, size)

    monkeypatch.setattr(service.store, "part", broken_once)

    with Client(service.url, KEY, timing=Timing(sleep=lambda _: None)) as patient:
        assert patient.jobs.file(job.id, "images.zip") == data
        cuts.append(1)
        heard = list[tuple[int, int | None]]()
        patient.jobs.save_file(job.id, "images.zip", tmp_path / "mine.zip", on_bytes=lambda *how: heard.append(how))
    assert not cuts
    assert (tmp_path / "mine.zip").read_bytes() == data
    assert heard[-1] == (len(data), len(data))
    assert sorted(set(heard)) == heard, "nothing came twice"
    assert [file.name for file in tmp_path.glob("*mine*")] == ["mine.zip"]


class LosingAnswers(httpx2.BaseTransport):
    """Every first try reaches the service, and its answer does not come back."""

    def __init__(self) -> None:
        self._wire = httpx2.HTTPTransport()
        self._tried: set[tuple[str, str, str]] = set()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self._wire.handle_request(request)
        this = (request.method, str(request.url), request.headers.get("idempotency-key", ""))
        if this not in self._tried:
            self._tried.add(this)
            response.read()
            raise httpx2.ReadError("the answer got lost")
        return response

    def close(self) -> None:
        self._wire.close()


def test_what_is_repeated_after_a_lost_answer_is_done_once(service: Service, client: Client) -> None:
    with Client(service.url, KEY, transport=LosingAnswers(), timing=Timing(sleep=lambda _: None)) as unlucky:
        job = unlucky.jobs.create(PRESETS["smoke"], labels={"n": "1"})
        Worker(service.store, job.id).outcome("succeeded", at=datetime.now(UTC))
        client.jobs.wait(job.id, timeout=10, poll_seconds=0.01)
        unlucky.jobs.update(job.id, labels={"n": "2"})
        unlucky.projects.create("vision")
        with pytest.raises(AnswerLost, match="secret"):
            unlucky.api_keys.create(scopes=["jobs:read"])
        unlucky.jobs.delete(job.id)

    assert list(client.jobs.list()) == []
    assert [project.name for project in client.projects.list()] == ["default", "vision"]
    assert len(list(client.api_keys.list())) == 1
    done = [row.action for row in client.audit()]
    assert done == ["job.delete", "api_key.create", "project.create", "job.update", "job.create"]
    *_, changed, _ = client.audit()
    assert [row.action for row in client.audit(since=changed.at)] == done[:-1]
    assert [row.action for row in client.audit(until=changed.at)] == done[-1:]


def test_a_change_meant_for_another_state_is_refused(client: Client) -> None:
    job = client.jobs.create(PRESETS["smoke"])
    _, etag = client.jobs.retrieve_with_etag(job.id)
    client.jobs.update(job.id, name="new")

    with pytest.raises(PreconditionFailed) as caught:
        client.jobs.update(job.id, if_match=etag, name="other")

    assert caught.value.current_etag
    assert client.jobs.retrieve(job.id).name == "new"


def test_keys_open_their_own_project_and_no_other(service: Service, client: Client) -> None:
    client.projects.create("vision", max_workers=8)
    key = client.api_keys.create(scopes=["jobs:read", "jobs:write"], project="vision")
    with Client(service.url, key.key) as theirs, Client(service.url, KEY, project="vision") as admin:
        job = theirs.jobs.create(PRESETS["smoke"])

        assert (job.project, admin.jobs.retrieve(job.id).id) == ("vision", job.id)
        with pytest.raises(NotFound):
            client.jobs.retrieve(job.id)
        with pytest.raises(PermissionDenied):
            list(theirs.projects.list())
        with Client(service.url, key.key, project="default") as strays, pytest.raises(PermissionDenied):
            list(strays.jobs.list())
        assert [one.id for one in client.jobs.list(all_projects=True, created_by=key.id)] == [job.id]
        assert [one.id for one in theirs.jobs.list(created_by="me")] == [job.id]
        assert list(client.jobs.list(all_projects=True, created_by="me")) == []
        with pytest.raises(PermissionDenied, match="scope admin"):
            list(theirs.jobs.list(all_projects=True))
        with pytest.raises(PermissionDenied, match="scope admin"):
            theirs.queue(all_projects=True)
        assert client.projects.update("vision", max_priority="low").max_priority == "low"
        with pytest.raises(InvalidRequest, match="priority: jobs of the project vision may have low at most"):
            theirs.jobs.update(job.id, priority="normal")
        assert theirs.jobs.plan(PRESETS["smoke"]).estimate.images_per_second is None
        assert client.projects.update("vision", max_workers=None).max_workers is None
        client.api_keys.revoke(key.id)
    assert client.api_keys.retrieve(key.id).revoked_at


def test_refusals_arrive_as_exceptions_that_say_what_to_do(service: Service, client: Client) -> None:
    document = PRESETS["smoke"].model_dump(mode="json")
    with pytest.raises(InvalidRequest) as caught:
        client.jobs.create({**document, "batch_images": -1, "colour": "red"})
    assert {problem.pointer for problem in caught.value.problems} == {"/spec/batch_images", "/spec/colour"}
    assert "spec.colour: unknown field" in str(caught.value)

    with pytest.raises(NotFound, match="no job job_none"):
        client.jobs.retrieve("job_none")

    job = client.jobs.create(document)
    client.jobs.cancel(job.id, mode="now")
    assert client.jobs.wait(job.id, timeout=10, poll_seconds=0.01).state == "cancelled"
    with pytest.raises(StateConflict) as conflict:
        client.jobs.cancel(job.id)
    assert conflict.value.current_state == "cancelled"
    assert "retry" in conflict.value.allowed
    client.jobs.delete(job.id)
    with pytest.raises(Gone):
        client.jobs.retrieve(job.id)

    with Client(service.url, "wrong") as stranger, pytest.raises(AuthenticationFailed, match="API key"):
        stranger.jobs.retrieve(job.id)


def test_a_service_that_is_not_there_is_said_to_be_unreachable() -> None:
    (port,) = free_ports(1)

    with (
        Client(f"http://127.0.0.1:{port}", KEY, max_retries=0) as client,
        pytest.raises(ServiceUnreachable, match="started"),
    ):
        client.presets()
