"""The page that is written of it."""

from collections.abc import Iterator, Mapping, Sequence

from tests.benchmarks import hardware
from tests.benchmarks.api.load import Figures
from tests.benchmarks.api.operations import CREATE, GET, LIST, LIST_LONG, WATCH

_PAGE = """\
# The REST interface under load

Written by `python -m tests.benchmarks.api`. {hardware} Load of the machine before the run: {load}.

The service is one process on one core, started as `cdm up` starts it, with an engine in memory, objects in a folder and
no MLflow. Its background loops run as usual; {queued} jobs wait and 16 run. Postgres and the clients have the other
cores. Load is closed-loop: each connection sends its next request when it has its answer, for {seconds:g} s per
operation. The table holds {count:,} jobs, each with its own document, two labels, an attempt and four events; get and
list read random places in it. A create is written to the store and committed before it is answered: on Postgres to the
disk; on SQLite (WAL, `synchronous=NORMAL`) to the operating system, so that it survives the process, and after the next
checkpoint the machine. CPU is the service's per answer, including what its loops did meanwhile.

{service}

Events: from the time an event carries, which is before its commit, until a watcher has it; {watchers} watch one job,
which changes about twice a second. The service looks for news at each change of its own, and four times a second.

## Beside Ray's own

Ray {ray_version}, a head on all cores (`tests/support/ray_head.py`) with {ray_jobs} finished jobs of `true`. Its
submission is answered when a supervisor has been asked for; its list is always all of its jobs.

{ray}

## Aims

{aims}
"""


def rendered(
    service: Mapping[str, Sequence[Figures]],
    ray: Sequence[Figures],
    *,
    load: str,
    count: int,
    queued: int,
    seconds: float,
    watchers: int,
    ray_jobs: int,
    ray_version: str,
) -> str:
    """A page of Markdown. `service` holds the figures of each kind of database."""
    return _PAGE.format(
        hardware=hardware.described(),
        load=load,
        count=count,
        queued=queued,
        seconds=seconds,
        watchers=watchers,
        ray_jobs=ray_jobs,
        ray_version=ray_version,
        service=_service_table(service),
        ray=_ray_table(service, ray),
        aims="\n".join(_aims(service, ray)),
    )


def _table(header: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def _service_table(service: Mapping[str, Sequence[Figures]]) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for each in zip(*service.values(), strict=True):
            yield [each[0].operation, str(each[0].connections), *(cell for one in each for cell in _cells(one))]

    columns = [f"{name}: {what}" for name in service for what in ("a second", "p50", "p99", "CPU")]
    return _table(["operation", "at a time", *columns], rows())


def _cells(figures: Figures) -> list[str]:
    rate = "" if figures.operation == WATCH else f"{figures.rate:.0f}"
    return [rate, _milliseconds(figures, 0.5), _milliseconds(figures, 0.99), f"{figures.cpu_milliseconds:.1f} ms"]


def _milliseconds(figures: Figures, share: float) -> str:
    value = figures.milliseconds(share)
    return f"{value:.0f} ms" if value >= 20 else f"{value:.1f} ms"


def _ray_table(service: Mapping[str, Sequence[Figures]], ray: Sequence[Figures]) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for theirs in ray:
            for name, ours in service.items():
                one = _same(ours, theirs)
                yield [
                    theirs.operation if theirs.operation != LIST_LONG else "list (200 of ours, all of Ray's)",
                    str(theirs.connections),
                    name,
                    f"{theirs.rate:.1f} / {one.rate:.0f}: **{one.rate / theirs.rate:.1f} x**",
                    _ratio(theirs, one, 0.5),
                    _ratio(theirs, one, 0.99),
                ]

    return _table(["operation", "at a time", "database", "a second, Ray / ours", "p50", "p99"], rows())


def _ratio(theirs: Figures, ours: Figures, share: float) -> str:
    times = theirs.milliseconds(share) / ours.milliseconds(share)
    return f"{_milliseconds(theirs, share)} / {_milliseconds(ours, share)}: {times:.1f} x"


def _same(ours: Sequence[Figures], theirs: Figures) -> Figures:
    return next(one for one in ours if (one.operation, one.connections) == (theirs.operation, theirs.connections))


def _aims(service: Mapping[str, Sequence[Figures]], ray: Sequence[Figures]) -> Iterator[str]:
    for name, ours in service.items():
        pages = [one for one in ours if one.operation in {LIST, LIST_LONG} and one.connections == 1]
        for page in pages:
            yield _aim(
                f"{name}: {page.operation} p99 under 50 ms", page.milliseconds(0.99) < 50, _milliseconds(page, 0.99)
            )
        quick = [one for one in ours if one.operation == CREATE and one.milliseconds(0.99) < 100]
        best = max(quick, key=lambda one: one.rate, default=None)
        found = (
            f"{best.rate:.0f}/s with {best.connections} at a time, p99 {_milliseconds(best, 0.99)}" if best else "never"
        )
        yield _aim(f"{name}: 200 creates a second with p99 under 100 ms", bool(best and best.rate >= 200), found)
        for operation in (CREATE, GET, LIST_LONG):
            ratios = [_same(ours, theirs).rate / theirs.rate for theirs in ray if theirs.operation == operation]
            said = ", ".join(f"{ratio:.1f}" for ratio in ratios)
            yield _aim(f"{name}: {operation}, 10 times Ray's own", min(ratios) >= 10, f"{said} times")


def _aim(aim: str, is_met: bool, found: str) -> str:
    return f"- {aim}: {'met' if is_met else '**missed**'} ({found})"
