"""What the routes of jobs take from a request, and how they answer one about a job.

What is given to `Depends` is a coroutine even where it waits for nothing: plain functions are run in threads.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Path, Query, Response
from pydantic import Field

from service.errors import InvalidRequest
from service.jobs.job_results import JobResults
from service.jobs.lookup import JobLookup
from service.jobs.presentation import job_view
from service.jobs.records import JobRecord
from service.jobs.submission import Submissions
from service.jobs.usecases import Jobs
from service.jobs.views import Job, JobPart
from service.web.etags import etag
from service.web.principal import Reader
from service.web.routers import of_state
from service.web.views import PLAIN_TEXT, Scope
from workers.contract.document import Problem
from workers.contract.records import FILE_NAME

Service = Annotated[Jobs, of_state("jobs")]
Submitting = Annotated[Submissions, of_state("submissions")]
Lookup = Annotated[JobLookup, of_state("job_lookup")]
Results = Annotated[JobResults, of_state("job_results")]
MlflowUrl = Annotated[str, of_state("mlflow_url")]
JobId = Annotated[str, Path(max_length=64, pattern=PLAIN_TEXT, description="As given at submission")]
Number = Annotated[int, Query(ge=0, lt=2**63)]
AttemptNumber = Annotated[int | None, Query(ge=1, lt=2**31, description="By default the latest")]
ImagesSeen = Annotated[Annotated[int, Path(ge=0, lt=2**63)] | Literal["latest"], Path()]
FileName = Annotated[str, Path(max_length=100, pattern=FILE_NAME)]
Source = Annotated[
    str, Query(pattern=r"^(driver|engine|rank-\d{4})$", description="Which process: driver, rank-0000 ...")
]
Purge = Annotated[
    tuple[JobPart, ...],
    Query(description="What to remove from the object store"),
]


async def _readable_job(job_id: JobId, jobs: Lookup, principal: Reader) -> JobRecord:
    return await jobs.get(job_id, project=principal.project)


ReadableJob = Annotated[JobRecord, Depends(_readable_job)]


async def _listed_project(
    principal: Reader,
    all_projects: Annotated[bool, Query(description="For admins: those of all projects, instead of one's own")] = False,
) -> str | None:
    if all_projects:
        principal.require(Scope.ADMIN)
    return None if all_projects else principal.project


async def _wanted_owner(
    principal: Reader,
    created_by: Annotated[
        Annotated[str, Field(max_length=300, pattern=PLAIN_TEXT)] | None,
        Query(description="An id, as jobs and the audit have it; `me`: whoever asks"),
    ] = None,
) -> str | None:
    return principal.id if created_by == "me" else created_by


ListedProject = Annotated[str | None, Depends(_listed_project)]  # None = all
OwnerFilter = Annotated[str | None, Depends(_wanted_owner)]
NameFilter = Annotated[
    Annotated[str, Field(max_length=100, pattern=PLAIN_TEXT)] | None, Query(description="Those called exactly so")
]
IdPrefixFilter = Annotated[
    str, Query(pattern=r"^job_[0-9A-HJKMNP-TV-Z]{0,26}$", description="Those whose id begins so")
]


async def _labels(
    label: Annotated[
        tuple[Annotated[str, Field(max_length=200, pattern=PLAIN_TEXT)], ...],
        Query(max_length=32, description="key=value; repeat it for several"),
    ] = (),
) -> tuple[tuple[str, str], ...]:
    pairs = [(key, sign, value) for key, sign, value in (each.partition("=") for each in label)]
    if any(not key or not sign for key, sign, _ in pairs):
        raise InvalidRequest("a label is wrong", problems=[Problem("/query/label", "label", "write it as key=value")])
    return tuple((key, value) for key, _, value in pairs)


LabelFilter = Annotated[tuple[tuple[str, str], ...], Depends(_labels)]


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
