"""Image sets that jobs have brought, made by hand."""

from workers.contract.data import DatasetManifest, Shard
from workers.contract.importing import ImportReport
from workers.contract.keys import MANIFEST, RESULT, JobKeys, dataset_folder
from workers.storage import ObjectStore

AT = "2026-11-01T00:00:00Z"
ONE, OTHER, THIRD = "1a" * 32, "2b" * 32, "3c" * 32
IMPORT = {"kind": "import", "dataset": {"kind": "npz", "path": "/data/images.npz"}}


def manifest(digest: str) -> DatasetManifest:
    shard = Shard(name="shard-00000.u8", num_images=3, sha256="0" * 64)
    labels = Shard(name="labels.i32", num_images=3, sha256="0" * 64)
    return DatasetManifest(
        digest=digest,
        num_images=3,
        channels=1,
        resolution=8,
        classes=("cat", "dog"),
        labels=labels,
        sigma_data=0.5,
        shards=(shard,),
    )


def bring(store: ObjectStore, job_id: str, digest: str, *, report: bool = True) -> None:
    """What the workers of a job leave in the store when they have imported images."""
    found, keys = manifest(digest), JobKeys(job_id)
    for shard in (*found.shards, found.labels):
        assert shard
        store.put(dataset_folder(digest) + shard.name, b"pixels")
    store.put(dataset_folder(digest) + MANIFEST, found.model_dump_json().encode())
    store.put(keys.dataset, found.model_dump_json().encode())
    if report:
        said = ImportReport.model_validate(
            {
                "manifest": found,
                "num_left_out": 1,
                "left_out": {"bad.png": "is no image"},
                "num_ignored_files": 2,
                "images_per_class": {"cat": 2, "dog": 1},
                "files": ("preview.png",),
                "ended_at": AT,
            }
        )
        store.put(keys.results + "preview.png", b"PNG")
        store.put(keys.results + RESULT, said.model_dump_json().encode())
