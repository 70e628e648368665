"""What is asked of the service, as it goes over the wire."""

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence

from service.web.pagination import write_cursor
from tests.benchmarks.api.connection import request
from tests.benchmarks.api.population import SWEEP_JOBS, TEAMS
from tests.benchmarks.api.serving import KEY
from workers.contract.presets import PRESETS

CREATE = "create"
CREATE_WITH_KEY = "create, with an Idempotency-Key"
GET = "get"
LIST = "list 50"
LIST_LONG = "list 200"
VERB = "pause or resume"
WATCH = "event to watcher"
JOB = {"name": "measured", "labels": {"team": "t1"}, "spec": PRESETS["smoke"].model_dump(mode="json")}

Make = Callable[[], bytes]


def creates() -> Make:
    message = request("POST", "/v1/jobs", key=KEY, body=JOB)
    return lambda: message


def creates_with_keys() -> Make:
    """As the SDK does it."""
    run, numbers = time.time_ns(), itertools.count()

    def make() -> bytes:
        return request("POST", "/v1/jobs", key=KEY, body=JOB, headers={"Idempotency-Key": f"{run}-{next(numbers)}"})

    return make


def gets(job_ids: Sequence[str], *, chance: random.Random) -> Make:
    return lambda: request("GET", f"/v1/jobs/{chance.choice(job_ids)}", key=KEY)


def lists(job_ids: Sequence[str], *, limit: int, chance: random.Random) -> Make:
    """Pages from anywhere in the list."""

    def make() -> bytes:
        cursor = write_cursor("jobs", chance.choice(job_ids))
        return request("GET", f"/v1/jobs?limit={limit}&cursor={cursor}", key=KEY)

    return make


def filtered_lists(count: int, *, chance: random.Random) -> Iterator[tuple[str, Make]]:
    """First pages of what fits a filter: much of it, little, and nothing at all."""
    filters: dict[str, Callable[[], str]] = {
        "list 50 that failed (8 %)": lambda: "state=failed",
        "list 50 that are paused (none)": lambda: "state=paused",
        "list 50 with a label that 5 % have": lambda: f"label=team%3Dt{chance.randrange(TEAMS)}",
        f"list 50 with a label that {SWEEP_JOBS} have": lambda: (
            f"label=sweep%3Ds{chance.randrange(count // SWEEP_JOBS)}"
        ),
    }
    for name, query in filters.items():
        yield name, _get(query)


def _get(query: Callable[[], str]) -> Make:
    return lambda: request("GET", f"/v1/jobs?limit=50&{query()}", key=KEY)


def verbs(paths: Sequence[str]) -> Make:
    """Jobs that wait, each taken out of the queue and put back, in turn."""
    urls = itertools.cycle([*(f"{path}/pause" for path in paths), *(f"{path}/resume" for path in paths)])
    return lambda: request("POST", next(urls), key=KEY)
