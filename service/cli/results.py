"""`cdm images` and `cdm results`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from service.cli import findings, text
from service.cli.connection import find, find_comparison
from service.cli.errors import CommandFailed, CommandMisused
from service.cli.hints import command
from service.cli.options import AsJson, JobName, on_service
from service.cli.output import tell
from service.cli.text import first_checkpoint
from service.client import Client, NotFound
from service.jobs.views import Job
from workers.contract.keys import RESULT


@on_service
def images(
    client: Client,
    job: JobName,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.png",
            help="Default: named after the job; with --all, the FOLDER they go to.",
        ),
    ] = None,
    at: Annotated[
        int | None, typer.Option("--at", metavar="IMAGES", min=1, help="Those of this checkpoint; default: newest.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="One file for each checkpoint.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch images that a job has drawn: the newest, or others."""
    if every and at is not None:
        raise CommandMisused("--at and --all: give one of them")
    found = find(client, job, kind="train")
    samples = grids(client, found)
    if at is not None and at not in samples:
        there = ", ".join(map(str, samples[-8:]))
        raise CommandFailed(f"{found.id} has no images at {at} images seen: it has them at {there}")
    chosen = samples if every else samples[-1:] if at is None else [at]
    saved = [
        {"job": found.id, "images_seen": each, "path": str(save_grid(client, found, each, output, in_folder=every))}
        for each in chosen
    ]
    words = "\n".join(f"{each['path']} (after {each['images_seen']:,} images)" for each in saved)
    tell(saved if every else saved[0], words, as_json=as_json)


def grids(client: Client, job: Job) -> Sequence[int]:
    """The images seen at those that a job has drawn, at least one, ascending."""
    samples = client.jobs.samples(job.id)
    if not samples:
        if job.spec.kind != "train":
            raise CommandFailed(f"{job.id} is a job of kind {job.spec.kind}: see {command(f'results {job.id}')}")
        first = first_checkpoint(job.spec.cadence)
        raise CommandFailed(f"{job.id} has drawn nothing yet: its first images come {first}")
    return samples


def save_grid(client: Client, job: Job, images_seen: int, output: Path | None, *, in_folder: bool = False) -> Path:
    """Where the one at so many images lies now: `output`, or under its own name there."""
    name = f"{job.id}-{images_seen}.png"
    path = ((output or Path()) / name if in_folder else output or Path(name)).absolute()
    content = client.jobs.sample(job.id, images_seen=images_seen)
    try:
        if in_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error.strerror}") from None
    return path


@on_service
def results(
    client: Client,
    job: JobName,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Fetch its files there as well; of a training, those of each evaluation into a folder of their own.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a job has found.

    A sample, evaluation, import or comparison job; of a training job, its evaluations.
    """
    found = find(client, job)
    if found.spec.kind == "train":
        _show_evaluations(client, found, output, as_json=as_json)
    else:
        show(client, found, output, as_json=as_json)


def _show_evaluations(client: Client, found: Job, output: Path | None, *, as_json: bool) -> None:
    evaluations = client.jobs.evaluations(found.id)
    if not evaluations:
        mend = f"no evaluations yet: {command(f'evaluate {found.id}')}"
        if output:
            raise CommandFailed(f"{found.id} has left nothing to fetch, {mend}")
        tell([], mend, as_json=as_json)
        return
    documents = {each.job_id: each.model_dump(mode="json") for each in evaluations}
    words = [findings.evaluations(evaluations)]
    if output:
        for job_id, document in documents.items():
            document["files"] = [str(each) for each in _fetch_if_there(client, job_id, output / job_id)]
            where = f"files: {(output / job_id).absolute()}"
            words.append(where if document["files"] else f"no files of {job_id}: it was deleted")
    else:
        words.append(f"fetch their files with {command(f'results {found.id} --output FOLDER')}")
    if comparison := find_comparison(client, found) if found.control_job_id else None:
        beside = f"its comparison with {found.control_job_id}"
        words.append(f"{beside} is {text.state(comparison)}: {command(f'results {comparison.id}')}")
    tell([*documents.values()], "\n".join(words), as_json=as_json)


def show(client: Client, found: Job, output: Path | None, *, as_json: bool) -> None:
    """What a job that has left something has found; with its files in a folder, if one is given."""
    names = [file.name for file in client.jobs.files(found.id)]
    if RESULT not in names:
        raise CommandFailed(f"{found.id} has left nothing yet: it is {text.state(found)}")
    document = json.loads(client.jobs.file(found.id, RESULT))
    saved = _fetch(client, found.id, names, output) if output else []
    words = [findings.result(found.spec.kind, document), f"files: {', '.join(map(str, saved or names))}"]
    if not output:
        words.append(f"fetch them with {command(f'results {found.id} --output FOLDER')}")
    tell(document | {"files": [str(each) for each in saved or names]}, "\n".join(words), as_json=as_json)


def _fetch_if_there(client: Client, job_id: str, folder: Path) -> list[Path]:
    """None of a job that was deleted: what it has found outlives its files."""
    try:
        names = [file.name for file in client.jobs.files(job_id)]
    except NotFound:
        return []
    return _fetch(client, job_id, names, folder)


def _fetch(client: Client, job_id: str, names: Sequence[str], folder: Path) -> list[Path]:
    from service.cli.bar import transfer_bar  # rich takes a moment to import

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            with transfer_bar(f"fetching {name}") as show:
                client.jobs.save_file(job_id, name, folder / name, on_bytes=show)
    except OSError as error:
        raise CommandFailed(f"cannot write to {folder}: {error.strerror}") from None
    return [(folder / name).absolute() for name in names]
