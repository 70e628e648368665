"""What evaluation jobs have found, made by hand."""

from datetime import UTC, datetime, timedelta

from workers.contract.evaluation import Evaluation
from workers.contract.model import Sampler
from workers.contract.sampling import ResolvedCheckpoint


def evaluation_of(images_seen: int, *, of: str = "trained", **changes: object) -> Evaluation:
    """Of a checkpoint of that training at so many images, so many seconds after midnight; it has measured nothing."""
    document = {
        "job_id": f"evaluation-{images_seen}",
        "checkpoint": ResolvedCheckpoint(job_id=of, images_seen=images_seen, average="ema"),
        "checkpoint_seal": None,
        "features": "lite0",
        "features_fingerprint": "a" * 64,
        "reference": "b" * 64,
        "num_reference": 100,
        "num_images": 50,
        "repeats": 1,
        "first_seed": 0,
        "sampler": Sampler(),
        "measures": {},
        "curves": {},
        "versions": {},
        "files": (),
        "ended_at": datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=images_seen),
    }
    return Evaluation.model_validate(document | changes)
