"""Refusals that a client is told about; each carries its code and HTTP status."""

from collections.abc import Sequence
from typing import ClassVar

from workers.contract.document import Problem


class ServiceError(Exception):
    """Something the client can act on. The text is one sentence for people; `extra` joins the problem document."""

    code: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]

    def __init__(self, detail: str, *, problems: Sequence[Problem] = (), **extra: str | list[str]) -> None:
        super().__init__(detail)
        self.detail = detail
        self.problems = tuple(problems)
        self.extra = extra


class Retriable(ServiceError):
    """Refused for now; the answer says in `Retry-After` when to come back."""

    def __init__(self, detail: str, *, retry_after_seconds: int = 5) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class NotAuthenticated(ServiceError):
    code, status, title = "not_authenticated", 401, "A valid API key is needed"


class JobNotFound(ServiceError):
    code, status, title = "job_not_found", 404, "There is no such job"


class JobGone(ServiceError):
    code, status, title = "job_gone", 410, "The job was deleted"


class CheckpointNotFound(ServiceError):
    code, status, title = "checkpoint_not_found", 404, "The job has no such checkpoint"


class DatasetNotFound(ServiceError):
    code, status, title = "dataset_not_found", 404, "The project has no such data set"


class AttemptNotFound(ServiceError):
    code, status, title = "attempt_not_found", 404, "The job has no such attempt"


class SampleNotFound(ServiceError):
    code, status, title = "sample_not_found", 404, "The job has no such sample grid"


class FileNotFound(ServiceError):
    code, status, title = "file_not_found", 404, "The job has no such file"


class StateConflict(ServiceError):
    code, status, title = "state_conflict", 409, "Not possible in this state"


class MalformedRequest(ServiceError):
    code, status, title = "malformed_json", 400, "The request is not JSON"


class InvalidRequest(ServiceError):
    code, status, title = "validation_failed", 422, "The request is not valid"


class StorageUnavailable(Retriable):
    code, status, title = "storage_unavailable", 503, "The object store does not answer"


class MlflowUnavailable(Retriable):
    code, status, title = "metrics_unavailable", 503, "MLflow does not answer"


class DatabaseUnavailable(Retriable):
    code, status, title = "database_unavailable", 503, "The database cannot be used"


class DatabaseInUse(Exception):
    """Another process holds the database; SQLite has one writer."""


class BackupRefused(Exception):
    """A copy of the database cannot be made, or put back; the text says why, for an operator."""
