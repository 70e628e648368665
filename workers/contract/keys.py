"""Where everything lies in the object store; the only place that knows."""

import re
from dataclasses import dataclass

MANIFEST = "MANIFEST.json"
_JOB_ID = re.compile(r"[A-Za-z0-9_-]+")  # what Ray takes for a submission, too
_SPEC_URL = re.compile(rf"^(?P<store>.+)/jobs/(?P<job_id>{_JOB_ID.pattern})/spec\.json$")


@dataclass(frozen=True, slots=True)
class AttemptKeys:
    """One attempt of a job. Its number fences it: a lower one never overwrites what a higher one wrote."""

    root: str

    @property
    def claim(self) -> str:
        return f"{self.root}/claim.json"

    @property
    def progress(self) -> str:
        return f"{self.root}/progress.json"

    @property
    def outcome(self) -> str:
        return f"{self.root}/outcome.json"

    @property
    def log(self) -> str:
        return f"{self.root}/logs/driver.log"

    @property
    def metrics(self) -> str:
        return f"{self.root}/metrics/"

    def metrics_chunk(self, sequence: int) -> str:
        return f"{self.metrics}{sequence:06d}.jsonl"


@dataclass(frozen=True, slots=True)
class JobKeys:
    """One job."""

    job_id: str

    @property
    def root(self) -> str:
        return f"jobs/{self.job_id}"

    @property
    def spec(self) -> str:
        return f"{self.root}/spec.json"

    @property
    def dataset(self) -> str:
        """The manifest of the image set it learns from, so that later attempts need not import again."""
        return f"{self.root}/dataset.json"

    @property
    def attempts(self) -> str:
        return f"{self.root}/attempts/"

    @property
    def checkpoints(self) -> str:
        return f"{self.root}/checkpoints/"

    @property
    def samples(self) -> str:
        return f"{self.root}/samples/"

    def attempt(self, number: int) -> AttemptKeys:
        return AttemptKeys(f"{self.attempts}{number:04d}")

    def checkpoint(self, images_seen: int, attempt: int) -> str:
        """A folder; names sort by images seen, then by attempt."""
        return f"{self.checkpoints}{images_seen:012d}-{attempt:04d}/"

    def sample(self, images_seen: int) -> str:
        return f"{self.samples}{images_seen:012d}.png"


def dataset_folder(digest: str) -> str:
    return f"datasets/{digest}/"


def is_job_id(name: str) -> bool:
    return _JOB_ID.fullmatch(name) is not None


def split_spec_url(url: str) -> tuple[str, str] | None:
    """The store and the job id of `<store>/jobs/<job id>/spec.json`; None for any other place."""
    match = _SPEC_URL.match(url)
    return (match["store"], match["job_id"]) if match else None
