"""A served application with its engine in memory, and `cdm` beside it, which finds it as it finds a stack."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from service.app import create_app
from service.client import Client
from service.cluster import MemoryCluster
from service.embedded.documents import Connection
from service.embedded.folder import Folder
from tests.support.clock import LeadingClock
from tests.support.command import Command
from tests.support.fake_mlflow import FakeMlflow
from tests.support.fresh_databases import prepare
from tests.support.kept import checkpoint
from tests.support.plane import KEY, Script, settings_in
from tests.support.serving import serving
from tests.support.waiting import wait_until
from tests.support.worker import Worker
from workers.storage import ObjectStore, open_store
from workers.storage.memory import MemoryStore

MAX_ACTIVE = 10


@dataclass
class Service:
    """What a test of a command has."""

    url: str
    client: Client
    store: ObjectStore
    script: Script
    cluster: MemoryCluster
    mlflow: FakeMlflow
    cdm: Command
    clock: LeadingClock

    def submit(self, *arguments: str) -> str:
        self.clock.advance(0.01)  # ids sort by the millisecond
        answer = self.cdm("submit", "smoke", "--json", *arguments)
        assert answer.code == 0, answer.err
        return str(answer.document["id"])

    def worker(self, job_id: str) -> Worker:
        wait_until(lambda: any(attempt.submitted_at for attempt in self.client.jobs.attempts(job_id)))
        return Worker(self.store, job_id)

    def end(self, job_id: str, status: str, **fields: Any) -> None:
        self.worker(job_id).outcome(status, at=datetime.now(UTC), **fields)

    def ended(self, *arguments: str, status: str = "succeeded") -> str:
        """A job that has."""
        job = self.submit(*arguments)
        self.end(job, status, reason="data_error" if status == "failed" else None)
        self.client.jobs.wait(job, timeout=30, poll_seconds=0.02)
        return job

    def checkpoint(self, job_id: str, images_seen: int) -> None:
        """A committed one, without any files."""
        checkpoint(self.store, job_id, images_seen, at=datetime.now(UTC))


@contextmanager
def served(cdm: Command, folder: Path, **changes: Any) -> Iterator[Service]:
    """With a `store_url` among the changes, that store is used instead of one in memory."""
    script = Script()
    settings = settings_in(folder, **{"max_active_jobs": MAX_ACTIVE, "allow_private_addresses": True, **changes})
    prepare(settings.database_url)
    store: ObjectStore = MemoryStore()
    if "store_url" in changes:
        store = open_store(settings.store_url, public_endpoint=settings.store_public_endpoint)
    mlflow = FakeMlflow(runs={"run1": "RUNNING"})
    cluster = MemoryCluster(script)
    clock = LeadingClock()
    app = create_app(settings, cluster=cluster, object_store=store, mlflow=mlflow.client(), clock=clock)
    home = Folder.at(None)
    home.root.mkdir()
    with serving(app) as url, Client(url, KEY) as client, capture_logs():  # it shares its standard output with `cdm`
        Connection(url=url, api_key=KEY).write(home.connection)
        yield Service(url, client, store, script, cluster, mlflow, cdm, clock)
