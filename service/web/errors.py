"""Refusals that have to do with who asks, how often, how much, and twice."""

from service.errors import Retriable, ServiceError


class Forbidden(ServiceError):
    code, status, title = "forbidden", 403, "This key may not do that"


class PreconditionFailed(ServiceError):
    code, status, title = "precondition_failed", 412, "It was changed in the meantime"


class RequestTooLarge(ServiceError):
    code, status, title = "request_too_large", 413, "The request is too large"


class RequestTimeout(ServiceError):
    code, status, title = "request_timeout", 408, "The request did not arrive in time"


class IdempotencyMismatch(ServiceError):
    code, status, title = "idempotency_mismatch", 422, "This Idempotency-Key belongs to another request"


class IdempotencyAnswerNotKept(ServiceError):
    code, status, title = "idempotency_answer_not_kept", 409, "This was done, and its answer cannot be repeated"


class IdempotencyInFlight(Retriable):
    code, status, title = "idempotency_in_flight", 409, "The first request with this Idempotency-Key is not done"


class RateLimited(Retriable):
    code, status, title = "rate_limited", 429, "Too many requests"


class IdentityProviderUnavailable(Retriable):
    code, status, title = "identity_provider_unavailable", 503, "Nobody can say whether this token is good"


class ProjectNotFound(ServiceError):
    code, status, title = "project_not_found", 404, "There is no such project"


class ProjectExists(ServiceError):
    code, status, title = "project_exists", 409, "There is a project of this name"


class ApiKeyNotFound(ServiceError):
    code, status, title = "api_key_not_found", 404, "There is no such API key"
