"""Closed-loop load: so many connections, each of which asks again as soon as it has its answer."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.api.connection import Connection
from tests.benchmarks.api.serving import Served


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured of one operation; seconds of each request, ascending. `cpu_seconds`: of the service, in all."""

    operation: str
    connections: int
    elapsed: float
    cpu_seconds: float
    seconds: Sequence[float]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.elapsed

    @property
    def cpu_milliseconds(self) -> float:
        """Of the service for each request, with all that it did beside."""
        return 1e3 * self.cpu_seconds / len(self.seconds)

    def milliseconds(self, share: float) -> float:
        """So long took the slowest but for the share of the slower ones: 0.5 is the median, 0.99 is p99."""
        return 1e3 * self.seconds[math.ceil(share * len(self.seconds)) - 1]


async def measured(
    operation: str,
    served: Served,
    make: Callable[[], bytes],
    *,
    connections: int,
    seconds: float = math.inf,
    at_most: float = math.inf,
) -> Figures:
    """Ask for so long, or so many times."""
    opened = [await Connection.open(served.url) for _ in range(connections)]
    await asyncio.gather(*(connection.send(make()) for connection in opened))  # whatever is made at first use
    taken: list[float] = []
    begun = 0
    cpu, begin = served.cpu_seconds(), time.perf_counter()

    async def ask(connection: Connection) -> None:
        nonlocal begun
        while begun < at_most and time.perf_counter() < begin + seconds:
            begun += 1
            message, sent = make(), time.perf_counter()
            await connection.send(message)
            taken.append(time.perf_counter() - sent)

    await asyncio.gather(*map(ask, opened))
    elapsed, cpu = time.perf_counter() - begin, served.cpu_seconds() - cpu
    for connection in opened:
        await connection.close()
    return Figures(
        operation=operation, connections=connections, elapsed=elapsed, cpu_seconds=cpu, seconds=sorted(taken)
    )


def told(figures: Figures) -> Figures:
    """Say it at once: the whole takes minutes."""
    print(
        f"{figures.operation}, {figures.connections} at a time: {figures.rate:.0f}/s, "
        f"p50 {figures.milliseconds(0.5):.1f} ms, p99 {figures.milliseconds(0.99):.1f} ms, "
        f"{figures.cpu_milliseconds:.1f} ms of CPU each",
        flush=True,
    )
    return figures
