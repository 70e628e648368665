"""The document of an import job: somebody's images become an image set of the store."""

from typing import Annotated, Literal

from pydantic import Field, Strict

from workers.contract.compute import Workers
from workers.contract.data import DatasetManifest, DatasetToImport
from workers.contract.document import Document
from workers.contract.records import Timestamp

FaultyImages = Annotated[
    int,
    Field(
        ge=0,
        le=1_000_000,
        description="So many images that cannot be used are left out and named in the report; "
        "one more, and nothing is imported",
    ),
]
_ON_ONE_CPU = Workers(accelerator="cpu")


class OnOneProcess(Document):
    """What is a matter of one process, without a network."""

    @property
    def compute(self) -> Workers:
        return _ON_ONE_CPU

    @property
    def total_images(self) -> int:
        """Not known before it has begun."""
        return 0

    @property
    def pass_images(self) -> int:
        return 1


class ImportSpec(OnOneProcess):
    """An import job. A training job of the same data set then finds it there."""

    kind: Literal["import"]
    dataset: DatasetToImport
    max_faulty_images: FaultyImages = 0


class ImportReport(Document):
    """What has become of somebody's images."""

    manifest: DatasetManifest
    num_left_out: Annotated[int, Field(description="Images that cannot be used")]
    left_out: Annotated[dict[str, str], Field(description="What is wrong with each, of the first thousand by name")]
    num_ignored_files: Annotated[int, Field(description="Files that are no images")]
    images_per_class: Annotated[dict[str, int] | None, Field(description="null: it has no classes")]
    files: Annotated[tuple[str, ...], Strict(False)]
    ended_at: Timestamp
