"""`cdm import`."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import typer

from service.cli import documents, sending, values
from service.cli.errors import CommandFailed, CommandMisused
from service.cli.options import AsJson, Changes, LabelList, MaxRuntime, Name, Urgency, Watch, on_service
from service.cli.submission import submit_and_report
from service.client import Client
from workers.contract.locations import is_bucket_folder

Format = Literal["folder", "zip", "cifar", "npz", "parquet", "webdataset"]
_BY_SUFFIX: dict[str, Format] = {".zip": "zip", ".npz": "npz", ".parquet": "parquet", ".tar": "webdataset"}


@on_service
def import_(
    client: Client,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH_OR_URL",
            help="Images: where the workers see them, or here, to be sent; or https://..., s3://bucket/key, "
            "s3://bucket/folder/",
        ),
    ],
    format: Annotated[Format | None, typer.Option(help="Default: by its name and what is in it.")] = None,  # noqa: A002
    resolution: Annotated[int | None, typer.Option(help="Crop to a square of this size; default: as they are.")] = None,
    grey: Annotated[bool, typer.Option("--grey", help="One channel instead of three.")] = False,
    skip: Annotated[int, typer.Option(min=0, help="Leave out up to so many images that cannot be used.")] = 0,
    sha256: Annotated[str | None, typer.Option(help="What the file must be; nothing else is imported.")] = None,
    upload: Annotated[
        bool | None,
        typer.Option(
            help="Send them to the service. Default: if they are here, and it does not see this machine's files."
        ),
    ] = None,
    changes: Changes = [],
    name: Name = None,
    label: LabelList = [],
    priority: Urgency = None,
    max_runtime: MaxRuntime = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Bring images into the store, and learn what there is in them.

    `cdm results` then shows the digest to train with: --set 'dataset={kind: imported, digest: DIGEST}'.
    """
    channels = 1 if grey else 3
    dataset = {"kind": format or format_of(path), "path": path, "resolution": resolution, "channels": channels}
    if sha256:
        dataset["sha256"] = sha256
    document = {"kind": "import", "dataset": dataset, "max_faulty_images": skip}
    options = values.job_options(name, label, priority, max_runtime)
    spec = documents.completed(document, changes)
    if upload:  # before it is planned: a service that says that it sees files of this machine would look for it
        named = spec.model_dump(mode="json")
        named["dataset"]["path"] = path
        [sent] = sending.documents_sent(client, named, upload=True)
        spec = documents.completed(sent, ())
    submit_and_report(client, spec, options, sends=upload is None, watch=watch, as_json=as_json)


def format_of(path: str) -> Format:
    """What a path says of the format of the images there; of a folder here, what is in it says.

    Raises:
        CommandFailed: nothing says, or the folder cannot be read.
    """
    place = Path(urlsplit(path).path) if "://" in path else Path(path).expanduser()
    if "://" not in path and place.is_dir():
        try:
            suffixes = {each.suffix for each in place.iterdir()}
        except OSError as error:
            raise CommandFailed(f"cannot read {path}: {error.strerror}") from None
        return next((_BY_SUFFIX[suffix] for suffix in (".parquet", ".tar") if suffix in suffixes), "folder")
    if is_bucket_folder(path):  # what is in it, the workers see
        return "folder"
    if place.name.startswith("cifar-"):
        return "cifar"
    if found := _BY_SUFFIX.get(place.suffix.lower()):
        return found
    raise CommandMisused(f"nothing here tells the format of {path}: give --format, one of folder, zip, cifar ...")
