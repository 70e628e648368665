"""Refusals that a client is told about, by HTTP status; each carries its code."""

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


# 400, 401, 403: who asks, and how


class MalformedRequest(ServiceError):
    code, status, title = "malformed_json", 400, "The request is not JSON"


class NotAuthenticated(ServiceError):
    code, status, title = "not_authenticated", 401, "A valid API key is needed"


class Forbidden(ServiceError):
    code, status, title = "forbidden", 403, "This key may not do that"


# 404, 410: what is not there


class JobNotFound(ServiceError):
    code, status, title = "job_not_found", 404, "There is no such job"


class AttemptNotFound(ServiceError):
    code, status, title = "attempt_not_found", 404, "The job has no such attempt"


class CheckpointNotFound(ServiceError):
    code, status, title = "checkpoint_not_found", 404, "The job has no such checkpoint"


class SampleNotFound(ServiceError):
    code, status, title = "sample_not_found", 404, "The job has no such sample grid"


class FileNotFound(ServiceError):
    code, status, title = "file_not_found", 404, "The job has no such file"


class DatasetNotFound(ServiceError):
    code, status, title = "dataset_not_found", 404, "The project has no such data set"


class UploadNotFound(ServiceError):
    code, status, title = "upload_not_found", 404, "There is no such upload"


class WebhookNotFound(ServiceError):
    code, status, title = "webhook_not_found", 404, "There is no such webhook"


class DeliveryNotFound(ServiceError):
    code, status, title = "delivery_not_found", 404, "The webhook has no such delivery"


class ProjectNotFound(ServiceError):
    code, status, title = "project_not_found", 404, "There is no such project"


class ApiKeyNotFound(ServiceError):
    code, status, title = "api_key_not_found", 404, "There is no such API key"


class JobGone(ServiceError):
    code, status, title = "job_gone", 410, "The job was deleted"


# 409, 412: how things stand


class StateConflict(ServiceError):
    code, status, title = "state_conflict", 409, "Not possible in this state"


class DatasetInUse(ServiceError):
    code, status, title = "dataset_in_use", 409, "Jobs refer to the data set"


class UploadInUse(ServiceError):
    code, status, title = "upload_in_use", 409, "Jobs that have not ended read the upload"


class UploadQuotaExceeded(ServiceError):
    code, status, title = "upload_quota_exceeded", 409, "The project may not send so much at a time"


class UploadsImpossible(ServiceError):
    code, status, title = "uploads_impossible", 409, "Clients cannot reach the object store"


class TooManyWebhooks(ServiceError):
    code, status, title = "too_many_webhooks", 409, "The project has all the webhooks it may have"


class ProjectExists(ServiceError):
    code, status, title = "project_exists", 409, "There is a project of this name"


class IdempotencyInFlight(Retriable):
    code, status, title = "idempotency_in_flight", 409, "The first request with this Idempotency-Key is not done"


class IdempotencyAnswerNotKept(ServiceError):
    code, status, title = "idempotency_answer_not_kept", 409, "This was done, and its answer cannot be repeated"


class PreconditionFailed(ServiceError):
    code, status, title = "precondition_failed", 412, "It was changed in the meantime"


# 408, 413, 422: what was sent


class RequestTimeout(ServiceError):
    code, status, title = "request_timeout", 408, "The request did not arrive in time"


class RequestTooLarge(ServiceError):
    code, status, title = "request_too_large", 413, "The request is too large"


class InvalidRequest(ServiceError):
    code, status, title = "validation_failed", 422, "The request is not valid"


class IdempotencyMismatch(ServiceError):
    code, status, title = "idempotency_mismatch", 422, "This Idempotency-Key belongs to another request"


# 429, 503: for now


class RateLimited(Retriable):
    code, status, title = "rate_limited", 429, "Too many requests"


class TooManyStreams(Retriable):
    code, status, title = "too_many_streams", 503, "Too many clients are watching"


class StorageUnavailable(Retriable):
    code, status, title = "storage_unavailable", 503, "The object store does not answer"


class StoreOfAnotherInstallation(StorageUnavailable):
    title = "The object store is not the one of the database's jobs"


class StoreWithoutConditions(StorageUnavailable):
    title = "The object store does not heed If-None-Match"


class DatabaseUnavailable(Retriable):
    code, status, title = "database_unavailable", 503, "The database cannot be used"


class MlflowUnavailable(Retriable):
    code, status, title = "metrics_unavailable", 503, "MLflow does not answer"


class IdentityProviderUnavailable(Retriable):
    code, status, title = "identity_provider_unavailable", 503, "Nobody can say whether this token is good"


# Told to operators, not to clients


class DatabaseInUse(Exception):
    """Another process holds the database; SQLite has one writer."""


class BackupRefused(Exception):
    """A copy of the database cannot be made, or put back; the text says why, for an operator."""
