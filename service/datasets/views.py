"""What clients send and get of data sets. Pydantic and the contract only, because the SDK is built on it."""

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field

from service.jobs.views import Labels, MaxRuntime, Name, Priority, WantedPriority
from service.web.views import PageOf, View
from workers.contract.data import DatasetToImport
from workers.contract.document import Document
from workers.contract.importing import FaultyImages


class DatasetCreate(Document):
    """A request to import images: an import job, in the words of data sets."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "faces", "dataset": {"kind": "zip", "path": "/data/faces.zip", "resolution": 32}}]
        }
    )

    name: Name = None
    dataset: DatasetToImport
    max_faulty_images: FaultyImages = 0
    labels: Labels = Field(default_factory=dict)
    priority: WantedPriority = Priority.NORMAL
    max_runtime_seconds: MaxRuntime = None


class Dataset(View):
    """An image set in the store, by what is in it: whoever imports the same again finds this one."""

    digest: Annotated[str, Field(description='What trainings name: `"dataset": {"kind": "imported", "digest": ...}`')]
    name: Annotated[str | None, Field(description="Of the job that imported it")]
    num_images: int
    resolution: int
    channels: int
    num_classes: Annotated[int | None, Field(description="null: it has no labels")]
    num_bytes: Annotated[int, Field(description="Of its pixels and labels")]
    sigma_data: Annotated[float, Field(description="Standard deviation of all pixels scaled to [-1, 1]")]
    import_job_id: Annotated[str, Field(description="The latest import, or the first training on it")]
    imported_at: datetime
    links: Annotated[
        dict[str, str], Field(description="`report` and `preview` are files of an import job, while that has them")
    ]


class ClassCount(View):
    """A class of a data set."""

    name: str
    num_images: Annotated[int | None, Field(description="null: no report of an import says so")]


class DatasetDetails(Dataset):
    """An image set with its classes, and what of the files that were brought is not in it."""

    classes: Annotated[tuple[ClassCount, ...] | None, Field(description="By label: 0, 1, 2 ...; null: no labels")]
    num_left_out: Annotated[int | None, Field(description="Images that could not be used; null: there is no report")]
    left_out: Annotated[dict[str, str], Field(description="What is wrong with each, of the first thousand by name")]
    num_ignored_files: Annotated[int | None, Field(description="Files that are no images; null: there is no report")]


class DatasetPage(PageOf[Dataset]):
    """Data sets, the newest first."""
