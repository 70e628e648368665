"""Jobs in words, for people."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from unicodedata import combining, east_asian_width

from service.cli.hints import command
from service.jobs.planning_views import QueueEntry, Used
from service.jobs.result_views import Attempt
from service.jobs.views import Job
from workers.contract.records import Progress
from workers.contract.spec import Cadence

Values = Mapping[str, float | None]  # by key; None where one was not finite
_NO_TRAINING = ("sampling", "evaluating", "importing")


def table(rows: Iterable[Sequence[str]]) -> str:
    """Columns under each other."""
    rows = list(rows)
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _width(cell: str) -> int:
    """In columns of a terminal: Chinese characters and most emoji take two, accents on a letter none."""
    return sum(0 if combining(each) else 2 if east_asian_width(each) in {"W", "F"} else 1 for each in cell)


def jobs_table(
    jobs: Sequence[Job], keys: Sequence[str], latest: Mapping[str, Values], *, all_projects: bool = False
) -> str:
    """A row each, with the values of these metrics that `latest` has of it by its id."""
    project = optional("PROJECT", all_projects)
    head = ("JOB", *project, "KIND", "NAME", "STATE", "IMAGES", *keys, "CREATED", "CREATED BY", "LABELS")
    rows = (
        (
            *(job.id, *optional(job.project, all_projects), job.spec.kind, job.name or "", job.state, images(job)),
            *(number(latest[job.id][key]) if key in latest[job.id] else "" for key in keys),
            *(local(job.created_at), created_by(job), labels(job)),
        )
        for job in jobs
    )
    return table([head, *rows])


def number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.6g}"


def created_by(found: Job | QueueEntry | Used) -> str:
    """Who submitted it, as people know them."""
    return found.created_by_name or found.created_by or ""


def optional(cell: str, is_shown: bool) -> tuple[str, ...]:
    """A cell of a column that may be left out."""
    return (cell,) if is_shown else ()


def line(job: Job) -> str:
    """Where a job stands, in one line."""
    parts = (state(job), images(job), speed(job), losses(job.progress), _last(job.progress))
    return "  ".join(filter(None, parts))


def ending(job: Job) -> str:
    """How a job ended, and where to look now."""
    took = f" after {duration((job.ended_at - job.created_at).total_seconds())}" if job.ended_at else ""
    where = f" or at {job.mlflow_url}" if job.mlflow_url else ""
    return f"{state(job)}{took}, {images(job)} images; look at it with {look(job)}{where}"


def look(job: Job) -> str:
    """The command that shows what has become of a job: one that was never begun has no log."""
    if job.state == "succeeded":
        return command(f"images {job.id}" if job.spec.kind == "train" else f"results {job.id}")
    return command(f"logs {job.id}" if job.attempt else f"show {job.id}")


def labels(job: Job) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(job.labels.items()))


def state(job: Job) -> str:
    """Its state, and why if it is not as hoped."""
    reason = why(job.reason, job.message)
    if job.progress and job.state == "running" and job.progress.phase != "training":
        return f"{job.state} ({job.progress.phase})"
    return f"{job.state} ({reason})" if reason and job.state != "succeeded" else str(job.state)


def why(reason: str | None, message: str | None) -> str:
    """A word of docs/reasons.md, and what was said beside it."""
    return ": ".join(filter(None, (reason, message)))


def images(job: Job) -> str:
    seen = job.progress.images_seen if job.progress else 0
    total = (job.progress and job.progress.total_images) or job.spec.total_images
    return f"{seen:,}/{total:,}" if total else f"{seen:,}"


def speed(job: Job) -> str:
    """How fast it is or was, and how long it will go on."""
    progress = job.progress
    if not progress or not progress.images_per_second:
        return ""
    is_over = job.state.is_terminal
    left = f", {duration(progress.eta_seconds)} left" if progress.eta_seconds and not is_over else ""
    return f"{progress.images_per_second:,.0f} images/s{left}"


def losses(progress: Progress | None) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in progress.losses.items()) if progress else ""


def checkpoint(progress: Progress | None) -> str:
    """Where the last one was; what other jobs than trainings have kept is nothing to tell of."""
    if not progress or not progress.last_checkpoint_images or progress.phase in _NO_TRAINING:
        return ""
    return f"{progress.last_checkpoint_images:,}"


def last_checkpoint(job: Job) -> str:
    """Where it was, and how far apart they had better be, if that is far from how it was asked for."""
    last, advised = checkpoint(job.progress), job.progress and job.progress.advised_checkpoint_images
    if not last or not advised or job.spec.kind != "train":
        return last
    every = job.spec.cadence.checkpoint_images
    if every == "auto":
        return f"{last}, one about every {advised:,} images"
    return last if every / 2 <= advised <= every * 2 else f"{last}; one every {advised:,} images would cost less time"


def first_checkpoint(cadence: Cadence) -> str:
    every = cadence.checkpoint_images
    return "in the first minutes of training" if every == "auto" else f"after {every:,} images"


def resumed(progress: Progress | None) -> str:
    """How its losses after the last resume compare with those recorded before the interruption."""
    if progress is None or progress.resume is None:
        return ""
    resume = progress.resume
    code = f"; the code was another before ({resume.other_code})" if resume.other_code else ""
    if resume.other_device and resume.verdict == "nothing_to_compare":
        noise = f"{resume.other_device} drew other noise before"
        return f"at {resume.images_seen:,} images: nothing to compare; {noise}{code}"
    verdict = resume.verdict.replace("_", " ")
    rows = f", {resume.compared_rows} rows of metrics compared" if resume.compared_rows else ""
    differs = f", by up to {resume.largest_difference:.1e} of their size" if resume.largest_difference else ""
    return f"at {resume.images_seen:,} images: {verdict}{differs}{rows}{code}"


def spent(attempts: Sequence[Attempt]) -> str:
    """What the time of all attempts, and that between them, went for, the most first."""
    causes = Counter({"waiting": _between(attempts)})
    for attempt in attempts:
        causes.update(attempt.ledger.model_dump() if attempt.ledger else {})
    total = sum(causes.values())
    return ", ".join(f"{cause} {seconds / total:.1%}" for cause, seconds in causes.most_common() if seconds)


def _between(attempts: Sequence[Attempt]) -> float:
    gaps = ((after.created_at - (before.ended_at or after.created_at)) for before, after in pairwise(attempts))
    return sum(max(0.0, gap.total_seconds()) for gap in gaps)


def duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def local(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def _last(progress: Progress | None) -> str:
    last = checkpoint(progress)
    return f"checkpoint {last}" if last else ""
