"""A data set is given up and wanted at the same moment, which takes a database with several writers."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cluster import MemoryCluster
from service.datasets.store import DatasetStore
from service.errors import DatasetInUse
from service.jobs.views import JobCreate
from tests.support.fresh_databases import PostgresDatabases
from tests.support.imported import IMPORT, ONE, bring
from tests.support.plane import REQUESTER, Script, plane_in
from workers.contract.jobs import parse_job
from workers.contract.keys import dataset_folder
from workers.contract.presets import PRESETS

TRAINING = PRESETS["smoke"].model_dump(mode="json") | {"dataset": {"kind": "imported", "digest": ONE}}


@pytest.mark.parametrize("moment", ["forget", "users"])
async def test_a_training_that_comes_while_its_images_are_given_up_keeps_them(
    moment: str,
    script: Script,
    tmp_path: Path,
    postgres_databases: PostgresDatabases,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = postgres_databases.migrated()
    async with plane_in(tmp_path, cluster=MemoryCluster(script), database_url=url) as plane:
        importing = await plane.submissions.submit(JobCreate(spec=parse_job(IMPORT)), requester=REQUESTER)
        await plane.settle()
        bring(plane.store, importing.id, ONE)
        await plane.end(importing.id)
        real, submitted = getattr(DatasetStore, moment), []

        async def interrupted(store: DatasetStore, connection: AsyncConnection, *args: Any, **named: Any) -> Any:
            found = await real(store, connection, *args, **named)
            if not submitted:
                request = JobCreate.model_validate({"spec": TRAINING})
                submitted.append(await plane.submissions.submit(request, requester=REQUESTER))
            return found

        monkeypatch.setattr(DatasetStore, moment, interrupted)
        try:
            await plane.parts.datasets.remove(ONE, requester=REQUESTER)
        except DatasetInUse as error:
            refused = submitted[0].id in error.detail
        else:
            refused = False
        await plane.parts.housekeeping.tick()

        training = await plane.jobs.get(submitted[0].id, project="default")
        assert training.dataset == ONE
        assert len(plane.store.list(dataset_folder(ONE))) == 3
        assert refused is (moment == "forget")
