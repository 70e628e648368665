"""An application whose store clients can put files into, and a client of it that announces some."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2

from service.app import create_app
from service.clock import Clock, utc_now
from service.cluster import MemoryCluster
from tests.support.fake_mlflow import FakeMlflow
from tests.support.plane import Script, running, settings_in


@asynccontextmanager
async def upload_api(
    folder: Path, store_url: str, *, script: Script | None = None, clock: Clock = utc_now, **changes: Any
) -> AsyncIterator[httpx2.AsyncClient]:
    """Opened for as long as the block lasts."""
    settings = settings_in(folder, store_url=store_url, **changes)
    cluster = MemoryCluster(script or Script())
    async with running(create_app(settings, cluster=cluster, mlflow=FakeMlflow().client(), clock=clock)) as client:
        yield client


async def announced(api: httpx2.AsyncClient, content: bytes, *, name: str = "noise.npz", **headers: str) -> Any:
    document = {"name": name, "num_bytes": len(content), "sha256": sha256(content).hexdigest()}
    answer = await api.post("/v1/uploads", json=document, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()
