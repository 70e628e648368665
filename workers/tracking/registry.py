"""A trained model in MLflow's registry, by reference: its files lie in the job's own store."""

from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import RestException

from workers.contract.keys import JobKeys
from workers.contract.sampling import ResolvedCheckpoint
from workers.storage import ObjectStore
from workers.tracking.mlflow_run import find_run

_CARD = "README.md"


def register(folder: Path, source: ResolvedCheckpoint, store: ObjectStore, store_url: str, *, name: str) -> str:
    """Put an exported folder into the store, and a version of the model `name`, made if need be, that leads there.

    Returns the number of the version. Its source is the folder of `weights.safetensors`, its description the card.
    """
    place = JobKeys(source.job_id).export(source.images_seen, source.average)
    for file in sorted(folder.iterdir()):
        store.put(place + file.name, file.read_bytes())
    client, run_id = find_run(source.job_id, store_url)
    _make_model(client, name)
    tags = {"cdm.job_id": source.job_id, "cdm.images_seen": str(source.images_seen), "cdm.average": source.average}
    version = client.create_model_version(
        name,
        source=f"{store_url.rstrip('/')}/{place.rstrip('/')}",
        run_id=run_id,
        tags=tags,
        description=(folder / _CARD).read_text(encoding="utf-8"),
    )
    return str(version.version)


def _make_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except RestException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
