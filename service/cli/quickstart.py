"""`cdm quickstart`: from nothing to images, without questions."""

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from service.cli import watching
from service.cli.connection import stack_of
from service.cli.detached import start_detached
from service.cli.errors import CommandFailed
from service.cli.hints import command
from service.cli.logs import log_pieces
from service.cli.options import AsJson, Home
from service.cli.output import say, tell
from service.cli.results import grids, save_grid
from service.cli.text import duration, state, table
from service.client import Client, ClientError
from service.embedded.errors import StackError
from service.embedded.folder import Folder
from service.jobs.views import Job, JobState
from workers.contract.presets import PRESETS

_PRESET = "fashion16"
_LOG_LINES = 30
_PATIENCE_SECONDS = 180.0


def quickstart(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.png", help="Where the grid of images goes.")
    ] = Path("quickstart.png"),
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """From nothing to images in minutes.

    Starts the service on this machine, trains on 10,000 small pictures of clothes, and fetches what was learnt.
    """
    if not output.absolute().parent.is_dir():  # seen now, not after the training
        raise CommandFailed(f"cannot write {output}: there is no folder {output.absolute().parent}")
    folder = Folder.at(home)
    stages = Stages()
    with redirect_stdout(sys.stderr) if as_json else nullcontext():  # what programs read is the answer alone
        started = _make_sure_it_runs(folder, as_json=as_json)
        stages.ends("start")
        try:
            connection = stack_of(home)
            with Client(connection.url, connection.api_key, project="") as client:  # its own, whatever CDM_PROJECT is
                job = _train(client, stages, as_json=as_json)
                images_seen = grids(client, job)[-1]
                path = save_grid(client, job, images_seen, output)
        except (ClientError, CommandFailed):
            if started:
                _stop(folder, as_json=as_json)
            raise
    done = _Done(
        image=str(path),
        images_seen=images_seen,
        job=job.id,
        mlflow_url=job.mlflow_url,
        api_url=connection.url,
        seconds=stages.seconds,
        stop=shlex.join(("cdm", "down", *folder.options)),
    )
    tell(asdict(done), _in_words(done), as_json=as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What has come of it, as --json says it; how long each stage took, in seconds."""

    image: str
    images_seen: int
    job: str
    mlflow_url: str | None
    api_url: str
    seconds: dict[str, float]
    stop: str


@dataclass(slots=True)
class Stages:
    """When each stage of a job's way was over, in seconds by `clock`, as seen from outside."""

    clock: Callable[[], float] = time.monotonic
    begun: float = field(init=False)
    over: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def ends(self, stage: str) -> None:
        if stage not in self.over:
            self.over[stage] = self.clock()

    def noting(self, jobs: Iterator[Job]) -> Iterator[Job]:
        """The same jobs; notes the first step, the last, and the end."""
        for job in jobs:
            if job.progress and job.progress.images_seen:
                self.ends("first step")
                if job.progress.images_seen >= job.progress.total_images:
                    self.ends("training")
            if job.state.is_terminal:
                self.ends("finish")
            yield job

    @property
    def seconds(self) -> dict[str, float]:
        """How long each stage took, in order, and all of them together."""
        starts = (self.begun, *self.over.values())
        stages = {stage: end - start for start, (stage, end) in zip(starts, self.over.items(), strict=False)}
        return {**stages, "total": sum(stages.values())}


def _make_sure_it_runs(folder: Folder, *, as_json: bool) -> bool:
    """True if it had to be started."""
    from service.embedded import stack

    deadline = time.monotonic() + _PATIENCE_SECONDS
    while run := stack.running(folder):
        if run.ready:
            return False
        if time.monotonic() > deadline:
            raise StackError(f"the stack in {folder.root} is still starting: look at {command('status')}")
        time.sleep(0.2)
    say(f"starting the stack in {folder.root}", as_json=as_json)
    start_detached(folder, {}, as_json=False)
    return True


def _train(client: Client, stages: Stages, *, as_json: bool) -> Job:
    submitted = client.jobs.create(PRESETS[_PRESET], name="quickstart")
    say(f"submitted {submitted.id}", as_json=as_json)
    try:
        job = watching.watch(
            stages.noting(client.jobs.follow(submitted.id, poll_seconds=watching.POLL_SECONDS)), as_json=False
        )
    except KeyboardInterrupt:
        watching.say_it_goes_on(submitted.id, as_json=as_json)
        raise typer.Exit(130) from None
    if job.state != JobState.SUCCEEDED:
        log = "".join(piece.text for piece in log_pieces(client, job)) if job.attempt else ""
        say("\n".join(log.splitlines()[-_LOG_LINES:]), as_json=as_json)
        raise CommandFailed(f"the job {job.id} {state(job)}; the end of its log is above")
    return job


def _stop(folder: Folder, *, as_json: bool) -> None:
    from service.embedded import stack

    stack.down(folder)
    say(f"stopped the stack; its logs are in {folder.log('api').parent}", as_json=as_json)


def _in_words(done: _Done) -> str:
    rows = (
        ("image", f"{done.image} (after {done.images_seen:,} images)"),
        ("job", done.job),
        ("MLflow", done.mlflow_url or "has no run of it"),
        ("API", f"{done.api_url} (described at {done.api_url}/docs)"),
        ("time", ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in done.seconds.items())),
        ("to stop", done.stop),
    )
    return table(rows)
