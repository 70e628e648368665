"""Many who watch one job, and how long it takes until the last of them knows what happened."""

import asyncio
import json
import time
from datetime import UTC, datetime

from tests.benchmarks.api.connection import Connection, request
from tests.benchmarks.api.load import Figures
from tests.benchmarks.api.operations import WATCH
from tests.benchmarks.api.serving import KEY, Served

_PATIENCE_SECONDS = 120.0


async def fan_out(served: Served, path: str, *, watchers: int, num_events: int = 20) -> Figures:
    """From the time that an event carries, which is before its commit, until a watcher has it."""
    delays: list[float] = []
    ready = asyncio.Barrier(watchers + 1)

    async def watch() -> None:
        connection = await Connection.open(served.url)
        lines = await connection.follow(request("GET", f"{path}/events/stream", key=KEY))
        while b"event: snapshot" not in await lines.readline():
            pass
        await ready.wait()
        for _ in range(num_events):
            line = await lines.readline()
            while not (line.startswith(b"data: ") and b'"type":"updated"' in line):
                line = await lines.readline()
            delays.append(
                (datetime.now(UTC) - datetime.fromisoformat(json.loads(line[6:])["created_at"])).total_seconds()
            )
        await connection.close()

    async with asyncio.timeout(_PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(watchers):
            group.create_task(watch())
        await ready.wait()
        cpu, begin = served.cpu_seconds(), time.perf_counter()
        changing = await Connection.open(served.url)
        for number in range(num_events):
            await changing.send(request("PATCH", path, key=KEY, body={"name": f"name {number}"}))
            await asyncio.sleep(0.5 + 0.013 * number)  # in no step with anything
        await changing.close()
    elapsed, cpu = time.perf_counter() - begin, served.cpu_seconds() - cpu
    return Figures(operation=WATCH, connections=watchers, elapsed=elapsed, cpu_seconds=cpu, seconds=sorted(delays))
