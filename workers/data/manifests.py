"""Image sets in the object store, by their digest."""

from workers.contract.data import DatasetManifest, Digest
from workers.contract.keys import MANIFEST, dataset_folder
from workers.storage import ObjectStore


def read_manifest(store: ObjectStore, digest: Digest) -> DatasetManifest:
    """What an image set consists of; raises FileNotFoundError if the store has none of this digest."""
    return DatasetManifest.model_validate_json(store.get(dataset_folder(digest) + MANIFEST))
