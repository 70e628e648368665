"""All that is measured of the service, one after another."""

import json
import random
from collections.abc import Sequence

from tests.benchmarks.api import operations
from tests.benchmarks.api.connection import Connection
from tests.benchmarks.api.load import Figures, measured, told
from tests.benchmarks.api.operations import Make
from tests.benchmarks.api.serving import Served
from tests.benchmarks.api.watchers import fan_out


async def service_figures(served: Served, job_ids: Sequence[str], *, seconds: float, watchers: int) -> list[Figures]:
    """Reading first: what is created makes the queue longer."""
    chance = random.Random(4)  # noqa: S311
    plan: list[tuple[str, Make, tuple[int, ...]]] = [
        (operations.GET, operations.gets(job_ids, chance=chance), (1, 8)),
        (operations.LIST, operations.lists(job_ids, limit=50, chance=chance), (1, 4)),
        (operations.LIST_LONG, operations.lists(job_ids, limit=200, chance=chance), (1, 4)),
        *((name, make, (1,)) for name, make in operations.filtered_lists(len(job_ids), chance=chance)),
        (operations.CREATE, operations.creates(), (1, 8, 16, 32)),
        (operations.CREATE_WITH_KEY, operations.creates_with_keys(), (8,)),
    ]
    found = [
        told(await measured(operation, served, make, connections=number, seconds=seconds))
        for operation, make, connections in plan
        for number in connections
    ]
    paths = [await _waiting_job(served) for _ in range(8)]
    verbs = operations.verbs(paths)
    found.append(told(await measured(operations.VERB, served, verbs, connections=1, seconds=seconds)))
    found.append(told(await fan_out(served, paths[0], watchers=watchers)))
    return found


async def _waiting_job(served: Served) -> str:
    """The path of a new job; behind so many others it will not start."""
    connection = await Connection.open(served.url)
    job = json.loads(await connection.send(operations.creates()()))
    await connection.close()
    return str(job["links"]["self"])
