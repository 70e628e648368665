"""Bars that move: of `cdm watch`, and of files that are sent or fetched."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

from service.cli import text
from service.client.files import OnBytes
from service.jobs.views import Job


@contextmanager
def live_bar() -> Iterator[Callable[[Job], None]]:
    """A function that shows the job it is given in place of the one before."""
    columns = (BarColumn(bar_width=None), TextColumn("{task.fields[images]}"), TextColumn("{task.fields[speed]}"))
    with _BarAndLine(*columns, expand=True) as progress:
        bar = progress.add_task("", total=None, **_fields(None))

        def show(job: Job) -> None:
            seen = job.progress.images_seen if job.progress else 0
            total = (job.progress and job.progress.total_images) or job.spec.total_images or None
            progress.update(bar, completed=seen, total=total, **_fields(job))

        yield show


class _BarAndLine(Progress):
    """In a terminal of 80 columns, too, what one watches for is whole: state, images and time left."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.fields["line"], no_wrap=True, overflow="ellipsis")


def _fields(job: Job | None) -> dict[str, Any]:
    progress = job.progress if job else None
    last = f"checkpoint {text.checkpoint(progress)}" if text.checkpoint(progress) else ""
    return {
        "images": text.images(job) if job else "",
        "speed": text.speed(job) if job else "",
        "line": "  ".join(filter(None, (text.state(job) if job else "", text.losses(progress), last))),
    }


@contextmanager
def transfer_bar(what: str) -> Iterator[OnBytes]:
    """A function that shows how many bytes of a file are there by now, of how many; on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(24), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
