"""`cdm uploads`."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli import completion, sending
from service.cli.id_prefixes import only, with_prefix
from service.cli.options import AsJson, ListsByDefault, on_service
from service.cli.output import first, tell
from service.cli.text import local, table
from service.client import Client

uploads = typer.Typer(
    cls=ListsByDefault,
    help="Files that were sent for jobs to read. They take room. Without a command, a list.",
    rich_markup_mode=None,
)

UploadId = Annotated[
    str,
    typer.Argument(
        metavar="UPLOAD", help="Its id, as listed, or the beginning of it.", autocompletion=completion.upload_ids
    ),
]


@uploads.command("list")
@on_service
def list_uploads(
    client: Client,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List what was sent, newest first.

    Also what has expired and jobs still read.
    """
    found, has_more = first(client.uploads.list(limit=limit + 1), limit)
    head = ("UPLOAD", "NAME", "MIB", "MISSING PARTS", "EXPIRES")
    rows = (
        (one.id, one.name, f"{one.num_bytes / 2**20:,.1f}", str(one.num_missing_parts), local(one.expires_at))
        for one in found
    )
    words = table([head, *rows]) if found else "no uploads: jobs that name files send what they have to"
    tell(found, words, as_json=as_json, has_more=has_more)


@uploads.command("send")
@on_service
def send_file(
    client: Client,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Or a folder of images, which becomes a ZIP.")],
    as_json: AsJson = False,
) -> None:
    """Send a file that several jobs are to read.

    Says how documents name it. For one job that is not needed: `cdm submit` and others send the files that a document
    names and that are here.
    """
    upload = sending.send(client, str(file))
    tell(upload, upload.path, as_json=as_json)


@uploads.command()
@on_service
def delete(client: Client, upload: UploadId, as_json: AsJson = False) -> None:
    """Remove a file that was sent, and that no job is to read.

    What was imported of it stays.
    """
    found = with_prefix(client.uploads.list(), upload, id_of=lambda one: one.id, mark="upl_")
    whole = only(found, upload, what="uploads", lists="uploads").id
    client.uploads.delete(whole)
    tell({"deleted": whole}, f"deleted {whole}", as_json=as_json)
