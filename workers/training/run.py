"""What a run is, what is wanted of it meanwhile, and how it ends: values, for which no PyTorch is imported."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.contract.data import DatasetManifest
from workers.contract.keys import JobKeys
from workers.contract.records import OutcomeStatus, Reason
from workers.storage import ObjectStore


@dataclass(frozen=True, slots=True)
class Run:
    """What is run: an attempt at a job. Small and picklable: it travels to every worker."""

    store_url: str
    job_id: str
    attempt: int
    cache_folder: str
    name: str | None = None  # for people
    tags: Mapping[str, str] = field(default_factory=dict)  # for people, too, as they are when the attempt begins

    @property
    def keys(self) -> JobKeys:
        return JobKeys(self.job_id)

    def dataset(self, store: ObjectStore) -> DatasetManifest:
        """The image set that the job learns from, once it is prepared."""
        return DatasetManifest.model_validate_json(store.get(self.keys.dataset))


@dataclass(frozen=True, slots=True)
class RunRequests:
    """What is wanted of a run beside going on: `stop`, leave after a checkpoint; `checkpoint`, one now."""

    stop: bool = False
    checkpoint: bool = False

    def __or__(self, other: "RunRequests") -> "RunRequests":
        return RunRequests(self.stop or other.stop, self.checkpoint or other.checkpoint)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: with all images seen, asked to leave (`stopped`), or given up for a `reason`."""

    images_seen: int
    stopped: bool = False
    reason: Reason | None = None
    message: str = ""
    mlflow_run_id: str | None = None

    @property
    def status(self) -> OutcomeStatus:
        if self.reason:
            return "failed"
        return "stopped" if self.stopped else "succeeded"
