"""What clients can do with data sets."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

import structlog

from service.clock import Clock
from service.datasets.objects import DatasetObjects
from service.datasets.store import DatasetStore, ProjectDataset
from service.datasets.views import DatasetCreate
from service.errors import DatasetInUse, DatasetNotFound, InvalidRequest
from service.jobs.dataset import note_dataset
from service.jobs.installation import Installation
from service.jobs.objects import JobObjects
from service.jobs.records import JobRecord
from service.jobs.store import JobStore
from service.jobs.submission import Submissions
from service.jobs.views import JobCreate
from service.web.audit import Requester, record_audit
from workers.contract.data import DatasetManifest
from workers.contract.document import Problem
from workers.contract.importing import ImportReport, ImportSpec

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasets:
    """The use cases. There is no second list: what a project has is what its jobs have brought, by their own word."""

    store: DatasetStore
    objects: DatasetObjects
    jobs: JobStore
    job_objects: JobObjects
    installation: Installation
    clock: Clock

    async def submit(
        self, request: DatasetCreate, *, submissions: Submissions, requester: Requester, job_id: str | None
    ) -> JobRecord:
        """An import job.

        Raises:
            InvalidRequest: as for any job, by the fields of this request.
        """
        spec = ImportSpec(kind="import", dataset=request.dataset, max_faulty_images=request.max_faulty_images)
        options = request.model_dump(exclude={"dataset", "max_faulty_images"}, exclude_unset=True)
        create = JobCreate(spec=spec, **options)
        try:
            return await submissions.submit(create, requester=requester, job_id=job_id)
        except InvalidRequest as error:
            ours = [Problem(one.pointer.removeprefix("/spec"), one.code, one.message) for one in error.problems]
            raise InvalidRequest(error.detail, problems=ours) from None

    async def page(
        self, *, project: str, digest_prefix: str = "", before: str | None, limit: int
    ) -> list[ProjectDataset]:
        """Those that came last first."""
        await self._hear(project)
        return await self.store.page(project=project, digest_prefix=digest_prefix, before=before, limit=limit)

    async def manifests(self, found: list[ProjectDataset]) -> list[tuple[ProjectDataset, DatasetManifest]]:
        """Those that the store still has; somebody may have removed one by hand."""
        manifests = await asyncio.gather(*(self.objects.manifest(one.digest) for one in found))
        return [(one, manifest) for one, manifest in zip(found, manifests, strict=True) if manifest]

    async def find(self, digest: str, *, project: str) -> tuple[ProjectDataset, DatasetManifest]:
        """Raises DatasetNotFound; also if it is only another project that has it."""
        await self._hear(project)
        dataset = await self.store.find(digest, project=project)
        manifest = await self.objects.manifest(digest) if dataset else None
        if dataset is None or manifest is None:
            raise DatasetNotFound(f"this project has no data set {digest}: an import job says the digest of its own")
        return dataset, manifest

    async def report(self, dataset: ProjectDataset) -> ImportReport | None:
        """What its import has said, if there was one whose results are still there."""
        return await self.objects.report(dataset.job.id) if dataset.job.deleted_at is None else None

    async def remove(self, digest: str, *, requester: Requester) -> None:
        """The project has it no more. Its bytes go when no project has it, and no job can be about to bring it again.

        Raises:
            DatasetInUse: jobs learn from it, are measured by it, or will be.
        """
        await self.find(digest, project=requester.project)
        async with self.store.database.writing() as connection:
            await self.store.forget(connection, digest, project=requester.project)
            if users := await self.store.users(connection, digest, project=requester.project):
                named = " and ".join(users[:3]) + (" and others" if len(users) > 3 else "")
                raise DatasetInUse(f"{named} learned from it, were measured by it, or will: delete them first")
            entry = requester.entry("dataset.delete", at=self.clock(), target=digest, status=204)
            await record_audit(connection, entry)
        await self.objects.mark_unwanted(digest)
        log.info("dataset.forgotten", digest=digest, project=requester.project)

    async def purge(self, *, now: datetime) -> int:  # noqa: ARG002 (how old they are does not matter)
        """Remove what no project has any more; how many objects that were.

        Nothing while a job runs that has not said what it imports: it may find this one there, and rely on it. Nor what
        evaluations to come, of whatever project, are to be measured at.
        """
        removed = 0
        for digest in await self.objects.unwanted():
            may_appear = await self.store.may_appear(digest)  # asked first: what it is about may be known by then
            if not await self.store.is_known(digest):
                if may_appear:
                    log.info("dataset.kept_for_now", digest=digest)
                    continue
                removed += await self.objects.remove(digest)
                log.info("dataset.removed", digest=digest)
            await self.objects.unmark_unwanted(digest)  # it is wanted again, or gone
        return removed

    async def _hear(self, project: str) -> None:
        """What the jobs of this project have said since the last look: whoever has seen one end finds its images."""
        await self.installation.id()  # what the store of another lacks was not left unsaid
        due = await self.jobs.with_dataset_due(project=project)
        note = (note_dataset(job, store=self.jobs, objects=self.job_objects, clock=self.clock) for job in due)
        await asyncio.gather(*note)
