"""`cdm convert`: what is done by a tool of the workers, since the service knows no PyTorch."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.modules import require_pytorch, tool
from service.cli.options import AsJson
from service.cli.output import tell


def convert(
    snapshot: Annotated[
        str,
        typer.Argument(metavar="SNAPSHOT.pkl", help="network-snapshot-*.pkl, of EDM or CDM; or https://..., s3://..."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.safetensors", help="What is written.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it is there already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Convert a published snapshot into weights for jobs.

    Nothing in the snapshot is executed. A job starts from the result by --set initial_weights=FILE.safetensors.
    """
    require_pytorch("converting")
    with tool("convert") as converting:
        done = converting.convert(snapshot, output, force=force)
    tell({"path": str(output.absolute())}, f"{output}: {done}", as_json=as_json)
