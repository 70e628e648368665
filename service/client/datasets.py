"""Image sets of a project."""

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict, Unpack

from service.client.connection import Connection
from service.client.documents import as_json
from service.client.pages import rows
from service.client.paths import path_to
from service.datasets.views import Dataset, DatasetDetails, DatasetPage
from service.jobs.views import Job, Priority
from workers.contract.data import DatasetToImport


class ImportOptions(TypedDict, total=False):
    """What can be said of an import beside where the images are."""

    name: str | None
    max_faulty_images: int
    labels: Mapping[str, str]
    priority: Priority | str
    max_runtime_seconds: float | None


class Datasets:
    """`client.datasets`"""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        dataset: DatasetToImport | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        **options: Unpack[ImportOptions],
    ) -> Job:
        """Import images, by a job: wait for it as for any; then its `dataset_digest` says which they are.

        Raises:
            InvalidRequest: naming every wrong field.
        """
        images = dict(dataset) if isinstance(dataset, Mapping) else as_json(dataset)
        document = {"dataset": images, **options}
        return self._connection.post(Job, path_to("datasets"), document, idempotency_key=idempotency_key)

    def list(self, *, digest_prefix: str | None = None, limit: int | None = None) -> Iterator[Dataset]:
        """Newest first; `digest_prefix` is the beginning of digests, in lower case."""
        return rows(self._connection, DatasetPage, path_to("datasets"), limit=limit, digest_prefix=digest_prefix)

    def retrieve(self, digest: str) -> DatasetDetails:
        return self._connection.get(DatasetDetails, path_to("datasets", digest))

    def preview(self, digest: str) -> bytes | None:
        """Some of its images as PNG; None if no import job has left any."""
        link = self.retrieve(digest).links.get("preview")
        return self._connection.answer("GET", link).content if link else None

    def delete(self, digest: str) -> None:
        """Remove it.

        Raises:
            Conflict: jobs refer to it.
        """
        self._connection.delete(path_to("datasets", digest))
