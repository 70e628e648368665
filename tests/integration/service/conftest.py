"""A control plane and databases for tests. Logs are as in production: structlog's default takes seconds a traceback."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from service.cluster import MemoryCluster
from service.database import Database, open_database
from service.web.logs import configure_logging
from tests.support.database_fixtures import (
    database_url,
    databases,
    endurance,
    lived,
    migrated_on_postgres,
    nurseries,
    postgres,
    postgres_databases,
    replicas,
)
from tests.support.mail import inbox, mail
from tests.support.plane import Plane, Script, Served, plane_in, served_in
from workers.contract.evaluation import Evaluation

__all__ = [
    "database_url",
    "databases",
    "endurance",
    "inbox",
    "lived",
    "mail",
    "migrated_on_postgres",
    "nurseries",
    "postgres",
    "postgres_databases",
    "replicas",
]


@pytest.fixture(scope="session", autouse=True)
def logging() -> None:
    configure_logging()


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def plane(tmp_path: Path, script: Script) -> AsyncIterator[Plane]:
    async with plane_in(tmp_path, cluster=MemoryCluster(script)) as plane:
        yield plane


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_in(tmp_path) as served:
        yield served


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty one, of the current release."""
    async with open_database(database_url) as database:
        yield database


Find = Callable[..., Evaluation]


@pytest.fixture
def find() -> Find:
    """What an evaluation job finds of a checkpoint, made by hand."""

    def found(job_id: str, images_seen: int, by: str, **values: float | list[float]) -> Evaluation:
        measures = {
            name: {"value": value} if isinstance(value, float) else {"value": sum(value) / len(value), "blocks": value}
            for name, value in values.items()
        }
        document = {
            "job_id": by,
            "checkpoint": {"job_id": job_id, "images_seen": images_seen, "average": "ema"},
            "checkpoint_seal": None,
            "features": "lite0",
            "features_fingerprint": "0" * 64,
            "reference": "1" * 64,
            "num_reference": 160,
            "num_images": 1000,
            "repeats": 1,
            "first_seed": 0,
            "sampler": {},
            "measures": measures,
            "curves": {"drift": [{"sigma": 0.5, "mean": 0.1, "standard_error": 0.01, "count": 256}]},
            "versions": {"torch": "2"},
            "files": ["drift.png"],
            "ended_at": "2026-11-01T12:00:00Z",
        }
        return Evaluation.model_validate(document)

    return found
