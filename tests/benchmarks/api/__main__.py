"""What the REST interface can take, on SQLite and on Postgres, beside Ray's own.

    python -m tests.benchmarks.api [--count 100000] [--seconds 10] [--output docs/benchmarks/api.md]

The service has one core, everything else the others: on a machine that is busy with other things the figures are of
those.
"""

import argparse
import asyncio
import os
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.api.load import Figures
from tests.benchmarks.api.measurements import service_figures
from tests.benchmarks.api.population import populate
from tests.benchmarks.api.ray_rest import ray_figures
from tests.benchmarks.api.report import rendered
from tests.benchmarks.api.serving import cores, serving
from tests.support.fresh_databases import lone_database
from tests.support.postgres import INSTALL, binaries

QUEUED = 200
DATABASES = ("SQLite", "Postgres")


def obstacle(only: str | None, *, postgres: Path | None) -> str | None:
    """What keeps it from being measured; `postgres` is where that is installed. Asked before minutes are spent."""
    if only in {None, "Postgres"} and postgres is None:
        return f"{INSTALL}, or measure SQLite or Ray alone with --only"
    return None


def figures_on(kind: str, options: argparse.Namespace) -> list[Figures]:
    core, others = cores()
    with tempfile.TemporaryDirectory() as scratch, lone_database(kind.lower(), Path(scratch), durable=True) as url:
        print(f"{kind}: writing {options.count} jobs", flush=True)
        job_ids = asyncio.run(populate(url, count=options.count, queued=QUEUED, now=datetime.now(UTC)))
        os.sched_setaffinity(0, others)
        profile = options.profile and options.profile.with_name(f"{options.profile.name}-{kind}")
        with serving(Path(scratch), url, core=core, profile=profile) as served:
            measuring = service_figures(served, job_ids, seconds=options.seconds, watchers=options.watchers)
            found = asyncio.run(measuring)
        os.sched_setaffinity(0, core | others)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.api")
    parser.add_argument("--count", type=int, default=100_000, help="jobs in the table")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load for each operation")
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--ray-jobs", type=int, default=100)
    parser.add_argument("--only", choices=[*DATABASES, "Ray"], help="one of them, to see it; nothing is written")
    parser.add_argument("--profile", type=Path, help="also write cProfile's statistics of the service there")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/api.md"))
    options = parser.parse_args()
    is_short = options.count < parser.get_default("count") or options.seconds < parser.get_default("seconds")
    if (is_short or options.profile) and not options.only and options.output == parser.get_default("output"):
        parser.error("results of a short or profiled run go elsewhere; give an --output")
    if reason := obstacle(options.only, postgres=binaries()):
        parser.exit(1, f"error: {reason}\n")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    service = {kind: figures_on(kind, options) for kind in DATABASES if options.only in {None, kind}}
    ray = ray_figures(seconds=options.seconds, num_jobs=options.ray_jobs) if options.only in {None, "Ray"} else []
    if options.only:
        return
    page = rendered(
        service,
        ray,
        load=load,
        count=options.count,
        queued=QUEUED,
        seconds=options.seconds,
        watchers=options.watchers,
        ray_jobs=options.ray_jobs,
        ray_version=version("ray"),
    )
    print(page)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
