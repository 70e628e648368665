"""How a request about one job is answered: with the job, and the tag of the state that it is in."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Response

from service.jobs.presentation import job_view
from service.jobs.records import JobRecord
from service.jobs.requests import MlflowUrl
from service.jobs.views import Job
from service.web.etags import etag


@dataclass(frozen=True, slots=True)
class Shown:
    """Shows a job, and sends its `ETag`; of one that was created also where it is."""

    mlflow_url: str
    response: Response

    def __call__(self, job: JobRecord, *, queue_position: int | None = None) -> Job:
        self.response.headers["ETag"] = etag(job.event_sequence)
        return job_view(job, mlflow_url=self.mlflow_url, queue_position=queue_position)

    def created(self, job: JobRecord) -> Job:
        self.response.headers["Location"] = f"/v1/jobs/{job.id}"
        return self(job)


async def _shown(mlflow_url: MlflowUrl, response: Response) -> Shown:
    return Shown(mlflow_url, response)


Show = Annotated[Shown, Depends(_shown)]
