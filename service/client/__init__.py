"""The Python SDK.

with Client() as client:  # this machine's stack, or the service of CDM_URL; Client(address, api_key): any other
    job = client.jobs.create(client.presets()["fashion16"], name="first", labels={"team": "vision"})
    job = client.jobs.wait(job.id)
    png = client.jobs.sample(job.id)
"""

from service.client.client import Client
from service.client.errors import (
    AnswerLost,
    AuthenticationFailed,
    ClientError,
    Conflict,
    DownloadFailed,
    Gone,
    InvalidRequest,
    MessageRefused,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    RequestFailed,
    ServiceFailed,
    ServiceUnavailable,
    ServiceUnreachable,
    StateConflict,
    StillInFlight,
    StillRunning,
    UploadFailed,
)
from service.client.retries import Timing

__all__ = [
    "AnswerLost",
    "AuthenticationFailed",
    "Client",
    "ClientError",
    "Conflict",
    "DownloadFailed",
    "Gone",
    "InvalidRequest",
    "MessageRefused",
    "NotFound",
    "PermissionDenied",
    "PreconditionFailed",
    "RateLimited",
    "RequestFailed",
    "ServiceFailed",
    "ServiceUnavailable",
    "ServiceUnreachable",
    "StateConflict",
    "StillInFlight",
    "StillRunning",
    "Timing",
    "UploadFailed",
]
