"""The Python SDK.

with Client("http://127.0.0.1:8000", api_key) as client:
    job = client.jobs.create(client.presets()["fashion16"], name="first")
    job = client.jobs.wait(job.id)
    png = client.jobs.sample(job.id)
"""

from service.client.client import Client
from service.client.errors import (
    AuthenticationFailed,
    ClientError,
    Conflict,
    InvalidRequest,
    NotFound,
    RequestFailed,
    ServiceFailed,
    ServiceUnreachable,
    StillRunning,
)

__all__ = [
    "AuthenticationFailed",
    "Client",
    "ClientError",
    "Conflict",
    "InvalidRequest",
    "NotFound",
    "RequestFailed",
    "ServiceFailed",
    "ServiceUnreachable",
    "StillRunning",
]
