"""What can go wrong between a client and the service.

    ClientError
      ServiceUnreachable        no answer: not started, wrong address, timeout
      UploadFailed              the object store did not take a file
      DownloadFailed            a file of a checkpoint is not there, or did not come as it was written
      MessageRefused            a webhook's message is not signed as it should be
      StillRunning              `wait` ran out of time; the job goes on
      RequestFailed             an answer that says no; has status, code, request_id, details
        AuthenticationFailed    401
          PermissionDenied      403: the key is good, but not for this
        NotFound                404
          Gone                  410: it was there, and was deleted
        Conflict                409
          StateConflict         has current_state, and what is allowed instead
          StillInFlight         the first request with this Idempotency-Key is not done
          AnswerLost            it was done, and its answer cannot be had again
        PreconditionFailed      412: it was changed in the meantime; has current_etag
        InvalidRequest          400, 413, 415, 422; has problems, one per wrong field
        RateLimited             429; has retry_after, in seconds
        ServiceFailed           5xx, or an answer that is not ours, or of another release
          ServiceUnavailable    502, 503, 504; has retry_after, in seconds, if the service said so

The text of each is one line that says what to do.
"""

from typing import Any

from workers.contract.document import Problem


class ClientError(Exception):
    """Anything this SDK raises.

    `may_be_done` = a try whose answer got lost, perhaps an earlier one, may have been carried out.
    """

    may_be_done = False


class ServiceUnreachable(ClientError):
    """The service did not answer. `was_asked` = the request may have reached it and been carried out."""

    def __init__(self, message: str, *, was_asked: bool) -> None:
        super().__init__(message)
        self.was_asked = was_asked


class UploadFailed(ClientError):
    """A file did not arrive in the object store."""


class DownloadFailed(ClientError):
    """A file of a checkpoint is not there, or did not come as it was written."""


class MessageRefused(ClientError):
    """A webhook's message is not signed with the secret, is old, or cannot be read."""


class StillRunning(ClientError):
    """The job has not ended in the time given to `wait`."""


class RequestFailed(ClientError):
    """The service answered with an error. `details` = the members of the problem document that are its own."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        request_id: str | None,
        problems: list[Problem],
        details: dict[str, Any],
        retry_after: float | None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.problems = problems
        self.details = details
        self.retry_after = retry_after


class AuthenticationFailed(RequestFailed):
    """The key is missing or wrong."""


class PermissionDenied(AuthenticationFailed):
    """The key is good, but may not do this."""


class NotFound(RequestFailed):
    """There is no such thing."""


class Gone(NotFound):
    """There was one, and it was deleted."""


class Conflict(RequestFailed):
    """Not now, or not again."""


class StateConflict(Conflict):
    """Not in this state."""

    @property
    def current_state(self) -> str:
        return str(self.details.get("current_state", ""))

    @property
    def allowed(self) -> tuple[str, ...]:
        """The verbs that are possible instead."""
        return tuple(self.details.get("allowed", ()))


class StillInFlight(Conflict):
    """The first request with this Idempotency-Key is not done."""


class AnswerLost(Conflict):
    """It was done before, and its answer, which held a secret, was not kept."""


class PreconditionFailed(RequestFailed):
    """It was changed in the meantime."""

    @property
    def current_etag(self) -> str | None:
        return self.details.get("current_etag")


class InvalidRequest(RequestFailed):
    """Something in the request is wrong; see `problems`."""


class RateLimited(RequestFailed):
    """Too many requests; see `retry_after`."""


class ServiceFailed(RequestFailed):
    """The service could not do it; trying again later may help."""


class ServiceUnavailable(ServiceFailed):
    """Something the service needs does not answer; it will be there again."""
