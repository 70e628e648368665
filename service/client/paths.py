"""Where things are on the service."""

from urllib.parse import quote


def job_path(job_id: str, *parts: str) -> str:
    """Where a job is, or something of it."""
    return "/".join(["/v1/jobs", quote(job_id, safe=""), *(quote(part, safe="") for part in parts)])
