"""Data sets as clients see them."""

from typing import Any

from service.datasets.store import ProjectDataset
from service.datasets.views import ClassCount, Dataset, DatasetDetails
from workers.contract.data import DatasetManifest
from workers.contract.importing import ImportReport
from workers.contract.keys import PREVIEW, RESULT

_LABEL_BYTES = 4


def dataset_view(dataset: ProjectDataset, manifest: DatasetManifest) -> Dataset:
    has_report = dataset.job.kind == "import" and dataset.job.deleted_at is None
    return Dataset(**_fields(dataset, manifest, has_report=has_report))


def details_view(dataset: ProjectDataset, manifest: DatasetManifest, report: ImportReport | None) -> DatasetDetails:
    counts = (report and report.images_per_class) or {}
    classes = tuple(ClassCount(name=one, num_images=counts.get(one)) for one in manifest.classes or ())
    return DatasetDetails(
        **_fields(dataset, manifest, has_report=report is not None),
        classes=classes or None,
        num_left_out=report.num_left_out if report else None,
        left_out=report.left_out if report else {},
        num_ignored_files=report.num_ignored_files if report else None,
    )


def _fields(dataset: ProjectDataset, manifest: DatasetManifest, *, has_report: bool) -> dict[str, Any]:
    job, files = dataset.job, f"/v1/jobs/{dataset.job.id}/files"
    image_bytes = manifest.channels * manifest.resolution**2 + (_LABEL_BYTES if manifest.labels else 0)
    reports = {"report": f"{files}/{RESULT}", "preview": f"{files}/{PREVIEW}"} if has_report else {}
    return {
        "digest": manifest.digest,
        "name": job.name,
        "num_images": manifest.num_images,
        "resolution": manifest.resolution,
        "channels": manifest.channels,
        "num_classes": len(manifest.classes) if manifest.classes else None,
        "num_bytes": manifest.num_images * image_bytes,
        "sigma_data": manifest.sigma_data,
        "import_job_id": job.id,
        "imported_at": job.ended_at or job.started_at or job.created_at,
        "links": {"self": f"/v1/datasets/{manifest.digest}", "job": f"/v1/jobs/{job.id}", **reports},
    }
