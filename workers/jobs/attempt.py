"""An attempt at a job in the object store: found or placed, claimed once, and concluded."""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from workers.contract.document import problems_of
from workers.contract.jobs import AnySpec, parse_job, read_job
from workers.contract.keys import JobKeys, is_job_id, split_spec_url
from workers.contract.reading import read_document
from workers.contract.records import Claim, Outcome, Reason
from workers.contract.spec import TrainSpec
from workers.contract.tracking import description
from workers.jobs.failures import ClaimRefusedError, UsageError
from workers.storage import ObjectStore, open_store
from workers.storage.errors import STORE_ERRORS
from workers.storage.job_folder import newest_attempt
from workers.tracking.redaction import Redaction


@dataclass(frozen=True, slots=True)
class StoredJob:
    """Where a job lies."""

    store_url: str
    job_id: str

    @property
    def keys(self) -> JobKeys:
        return JobKeys(self.job_id)

    def open_store(self) -> ObjectStore:
        return open_store(self.store_url)


@dataclass(frozen=True, slots=True)
class Job(StoredJob):
    """A job whose spec lies in a store."""

    spec: AnySpec

    @property
    def training(self) -> TrainSpec:
        """Its document, if it is a training; raises UsageError."""
        if not isinstance(self.spec, TrainSpec):
            raise UsageError(f"{self.job_id} is a job of kind {self.spec.kind}; this is about trainings")
        return self.spec


class UnreadableSpecError(UsageError):
    """A job is there whose document these workers cannot read: the service that took it may be of another release."""

    def __init__(self, job: StoredJob, problem: str) -> None:
        super().__init__(problem)
        self.job = job


def open_job(location: str, default_store: str) -> Job:
    """Read the job at `<store>/jobs/<id>/spec.json`; a spec anywhere else becomes the job of its file name in a store.

    Raises:
        UnreadableSpecError: the document of a job in a store is not a valid spec (every wrong field is named).
        UsageError: nor is a document elsewhere, or there is none.
    """
    place = split_spec_url(location)
    if place:
        store_url, job_id = _as_url(place[0]), place[1]
        document = _read(location, lambda: open_store(store_url).get(JobKeys(job_id).spec))
        try:
            return Job(store_url, job_id, _parsed(location, document))
        except UsageError as error:
            raise UnreadableSpecError(StoredJob(store_url, job_id), str(error)) from None
    path = Path(location)
    if not is_job_id(path.stem):
        raise UsageError(f"{path.name}: a file that is to be a job is named in letters, digits, - and _; rename it")
    return Job(_as_url(default_store), path.stem, _parsed(location, _read(location, path.read_bytes)))


def known_of(store: ObjectStore, keys: JobKeys) -> tuple[str | None, dict[str, str]]:
    """What people call a job, and the tags that tell of it, by the copy that its service keeps of what it knows.

    None and no tags: there is no service, or no such copy.
    """
    try:
        job = json.loads(store.get(keys.record))["job"]
        name, tags = (
            job["name"],
            description(
                job["project"],
                json.loads(job["labels"]),
                user=job.get("owner_name"),
                parent=job.get("parent_job_id"),
                control=job.get("control_job_id"),
            ),
        )
    except (*STORE_ERRORS, LookupError, TypeError, AttributeError):
        return None, {}
    return name, tags


def job_in(folder: str) -> Job:
    """The job whose folder this is, `<store>/jobs/<id>`.

    Raises:
        UsageError: it is none, or there is no valid document in it.
    """
    url = f"{folder.rstrip('/')}/spec.json"
    if split_spec_url(url) is None:
        raise UsageError(f"{folder} is not the folder of a job in a store: give <store>/jobs/<id>")
    return open_job(url, "")


def place_spec(job: Job) -> None:
    """Put the spec where the workers read it. A job's spec never changes.

    Raises:
        UsageError: the store holds a job of this name with another spec.
    """
    store = job.open_store()
    document = job.spec.model_dump_json(indent=2).encode()
    if not store.put_if_absent(job.keys.spec, document):
        there = read_job(store.get(job.keys.spec))
        if there != job.spec:
            raise UsageError(
                f"{job.store_url} already holds a job {job.job_id!r} with another spec: "
                "rename the file to start a new job, or choose another --store"
            )


def claim_attempt(job: StoredJob, number: int | None) -> int:
    """Take an attempt, the next one if no number is given, so that nobody else runs it.

    Raises:
        ClaimRefusedError: it is taken, or a later one is.
    """
    store = job.open_store()
    newest = newest_attempt(store, job.keys)
    attempt = newest + 1 if number is None else number
    claim = Claim(host=socket.gethostname(), pid=os.getpid(), claimed_at=datetime.now(UTC)).model_dump_json().encode()
    key = job.keys.attempt(attempt).claim
    # A write whose answer got lost is repeated by the client and then refused as if by another: look whose it is.
    if attempt < newest or not (store.put_if_absent(key, claim) or store.get(key) == claim):
        raise ClaimRefusedError(f"attempt {attempt} of {job.job_id} is not free (newest: {max(newest, attempt)})")
    return attempt


def conclude(job: StoredJob, attempt: int, outcome: Outcome) -> None:
    """Write the last record of an attempt."""
    job.open_store().put(job.keys.attempt(attempt).outcome, outcome.model_dump_json(indent=2).encode())


def refuse(job: StoredJob, attempt: int, problem: str) -> None:
    """Say why this attempt cannot be: an attempt that ends without a word is repeated.

    Raises:
        ClaimRefusedError: somebody else runs it.
    """
    message = f"these workers cannot read the job's document; is the service of another release? {problem}"
    outcome = Outcome(
        status="failed",
        reason=Reason.INVALID_SPEC,
        message=Redaction.of_environment()(message),
        images_seen=0,
        mlflow_run_id=None,
        ended_at=datetime.now(UTC),
    )
    conclude(job, claim_attempt(job, attempt), outcome)


def _as_url(store: str) -> str:
    return store if urlsplit(store).scheme else Path(store).absolute().as_uri()


def _read(location: str, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except STORE_ERRORS as error:
        raise UsageError(f"cannot read the spec at {location}: {error}") from None


def _parsed(location: str, document: bytes) -> AnySpec:
    try:
        return parse_job(read_document(document))
    except ValidationError as error:
        raise UsageError(f"{location}: " + "; ".join(map(str, problems_of(error)))) from None
    except ValueError as error:
        raise UsageError(f"{location}: {error}") from None
