"""How a request about one job is answered: with the job as it is by then, and the tag of that state."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Response

from service.jobs.presentation import job_view
from service.jobs.records import JobRecord
from service.jobs.requests import MlflowUrl, Service
from service.jobs.usecases import Jobs
from service.jobs.views import Job
from service.web.etags import etag


@dataclass(frozen=True, slots=True)
class Shown:
    """Shows a job, and sends its `ETag`; of one that was created also where it is."""

    jobs: Jobs
    mlflow_url: str
    response: Response

    async def __call__(self, job: JobRecord) -> Job:
        self.response.headers["ETag"] = etag(job.event_sequence)
        position = await self.jobs.store.queue_position(job)
        return job_view(job, mlflow_url=self.mlflow_url, queue_position=position)

    def created(self, job: JobRecord) -> Job:
        """Without its place in the queue: to count those before it takes longer the more wait, at every submission."""
        self.response.headers["ETag"] = etag(job.event_sequence)
        self.response.headers["Location"] = f"/v1/jobs/{job.id}"
        return job_view(job, mlflow_url=self.mlflow_url)


async def _shown(jobs: Service, mlflow_url: MlflowUrl, response: Response) -> Shown:
    return Shown(jobs, mlflow_url, response)


Show = Annotated[Shown, Depends(_shown)]
