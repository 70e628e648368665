"""`cdm datasets`."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli import completion
from service.cli.errors import CommandFailed
from service.cli.hints import command
from service.cli.id_prefixes import whole_digest
from service.cli.options import AsJson, ListsByDefault, on_service
from service.cli.output import first, tell
from service.cli.text import local, table
from service.client import Client
from service.datasets.views import Dataset, DatasetDetails

datasets = typer.Typer(
    cls=ListsByDefault, help="Image sets that were imported. Without a command, a list.", rich_markup_mode=None
)

Digest = Annotated[
    str,
    typer.Argument(metavar="DIGEST", help="As listed, or the beginning of it.", autocompletion=completion.digests),
]


@datasets.command("list")
@on_service
def list_datasets(
    client: Client,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List image sets, newest first."""
    found, has_more = first(client.datasets.list(limit=limit + 1), limit)
    head = ("DIGEST", "NAME", "IMAGES", "SIZE", "CLASSES", "MIB", "IMPORTED")
    rows = (
        (
            *(one.digest[:16], one.name or "", f"{one.num_images:,}", _size(one), str(one.num_classes or "")),
            *(f"{one.num_bytes / 2**20:,.1f}", local(one.imported_at)),
        )
        for one in found
    )
    words = table([head, *rows]) if found else f"no data sets: {command('import')} some images"
    tell(found, words, as_json=as_json, has_more=has_more)


@datasets.command()
@on_service
def show(
    client: Client,
    digest: Digest,
    preview: Annotated[
        Path | None, typer.Option("--preview", metavar="FILE.png", help="Fetch a grid of its images there as well.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show an image set, and how to train on it.

    With its classes, and what was left out.
    """
    found = client.datasets.retrieve(whole_digest(client, digest))
    if preview:
        _save(client, found, preview)
    tell(found, _words(found), as_json=as_json)


@datasets.command()
@on_service
def delete(client: Client, digest: Digest, as_json: AsJson = False) -> None:
    """Remove an image set that no job learns from."""
    whole = whole_digest(client, digest)
    client.datasets.delete(whole)
    tell({"digest": whole}, f"removed {whole}", as_json=as_json)


def _save(client: Client, found: DatasetDetails, path: Path) -> None:
    png = client.datasets.preview(found.digest)
    if png is None:
        raise CommandFailed(f"{found.digest[:16]} has no preview: no import job has left one")
    try:
        path.write_bytes(png)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error.strerror}") from None


def _size(one: Dataset) -> str:
    return f"{one.resolution}x{one.resolution}x{one.channels}"


def _words(found: DatasetDetails) -> str:
    rows = [
        ("digest", found.digest),
        ("name", found.name or ""),
        ("images", f"{found.num_images:,} of {_size(found)}, sigma_data {found.sigma_data:.3f}"),
        ("imported", f"{local(found.imported_at)} by {found.import_job_id}"),
        *(
            ("class", one.name if one.num_images is None else f"{one.name}: {one.num_images:,}")
            for one in found.classes or ()
        ),
        ("left out", f"{found.num_left_out:,} images" if found.num_left_out else ""),
        *(("", f"{name!r} {reason}") for name, reason in list(found.left_out.items())[:20]),
        ("train on it", f"--set 'dataset={{kind: imported, digest: {found.digest}}}'"),
    ]
    return table((name, value) for name, value in rows if value)
