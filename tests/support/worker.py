"""A driver that a test plays by hand."""

from datetime import datetime

from tests.support.kept import checkpoint
from workers.contract.document import Document
from workers.contract.keys import AttemptKeys, JobKeys
from workers.contract.records import Claim, DeliveryDelay, Outcome, Progress
from workers.storage import ObjectStore


class Worker:
    """Plays a driver by hand: leaves the records of one attempt in the store."""

    def __init__(self, store: ObjectStore, job_id: str, attempt: int = 1) -> None:
        self.store = store
        self.job_id = job_id
        self.attempt = attempt
        self.keys: AttemptKeys = JobKeys(job_id).attempt(attempt)

    def claim(self, *, at: datetime | str) -> bool:
        """False if the attempt is somebody's already."""
        claim = Claim.model_validate({"host": "node-1", "pid": 7, "claimed_at": at})
        return self.store.put_if_absent(self.keys.claim, claim.model_dump_json().encode())

    def progress(
        self,
        *,
        at: datetime | str,
        phase: str = "training",
        images_seen: int = 100,
        run_id: str = "run1",
        checkpoint: int | None = None,
        behind: dict[str, DeliveryDelay] | None = None,
        useful: float = 0.0,
        waiting_for: str | None = None,
        restarts: int = 0,
    ) -> None:
        document = {
            "phase": phase,
            "images_seen": images_seen,
            "total_images": 320,
            "images_per_second": 10.0,
            "eta_seconds": 22.0,
            "losses": {"dsm": 0.5},
            "last_checkpoint_images": checkpoint,
            "num_workers": 2,
            "mlflow_run_id": run_id,
            "updated_at": at,
            "tracking_behind": behind or {},
            "ledger": {"useful": useful},
            "waiting_for": waiting_for,
            "restarts": restarts,
        }
        self._put(self.keys.progress, Progress.model_validate(document))

    def outcome(self, status: str, *, at: datetime | str, reason: str | None = None, message: str = "done") -> None:
        document = {
            "status": status,
            "reason": reason,
            "message": message,
            "images_seen": 320,
            "mlflow_run_id": "run1",
            "ended_at": at,
        }
        self._put(self.keys.outcome, Outcome.model_validate(document))

    def checkpoint(self, images_seen: int, *, at: datetime | str) -> None:
        """A committed one, of which only the manifest matters here."""
        checkpoint(self.store, self.job_id, images_seen, attempt=self.attempt, at=at)

    def _put(self, key: str, record: Document) -> None:
        self.store.put(key, record.model_dump_json().encode())
