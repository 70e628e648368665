"""Where things are on the service."""

from urllib.parse import quote


def path_to(*parts: str) -> str:
    """`/v1/jobs/job_1/events` for `jobs`, `job_1`, `events`."""
    return "/".join(["/v1", *(quote(part, safe="") for part in parts)])
