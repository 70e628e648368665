"""What was found of checkpoints: as it lies with their training, and added to the training's run in MLflow."""

import io
import os
from collections.abc import Mapping
from datetime import datetime

import structlog
from PIL import Image

from workers.contract.document import read_leniently
from workers.contract.evaluation import Evaluation
from workers.contract.keys import JobKeys
from workers.logs import in_one_line
from workers.storage import ObjectStore

log = structlog.get_logger()


def evaluations_of(store: ObjectStore, trained: JobKeys) -> list[Evaluation]:
    """Of a training's checkpoints, by images seen; those that cannot be read are left out."""
    found = (read_leniently(Evaluation, store.get(key)) for key in store.list(trained.evaluations))
    return [each for each in found if each]


def add_to_run(
    job_id: str,
    store_url: str,
    images_seen: int,
    points: Mapping[str, float],
    at: datetime,
    pictures: Mapping[str, bytes],
) -> None:
    """Add points, and pictures by their file name, at the step of the checkpoint; nothing if nobody tracks.

    MLflow may be away: then this says so and goes on, and the points can be brought later, out of the store.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return
    from workers.tracking.mlflow_run import find_run, log_points  # a second to import, and not everyone tracks

    try:
        client, run_id = find_run(job_id, store_url)
        if run_id is None:
            log.warning("mlflow.no_run", job_id=job_id)
            return
        log_points(client, run_id, images_seen, points, milliseconds := int(at.timestamp() * 1000))
        for name, data in pictures.items():
            image, key = Image.open(io.BytesIO(data)), f"evaluation_{name.partition('.')[0]}"
            client.log_image(run_id, image, key=key, step=images_seen, timestamp=milliseconds, synchronous=True)
    except Exception as error:  # noqa: BLE001 - MLflow raises all kinds, and what was found is in the store
        mend = f"`cdm replay {job_id}` brings the curves, once it has ended"
        log.warning("mlflow.not_told", error=in_one_line(error), mend=mend)
