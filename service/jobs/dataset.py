"""Which image set a job is about: its workers say so in the object store, and its row remembers."""

from dataclasses import replace

from service.clock import Clock
from service.jobs.objects import JobObjects
from service.jobs.records import JobRecord
from service.jobs.store import JobStore


async def note_dataset(job: JobRecord, *, store: JobStore, objects: JobObjects, clock: Clock) -> None:
    """Write it down once it is known; of a job that has ended, also that there is none.

    Not into the copy in the store: where the workers' own word lies, too, from which a database is rebuilt.
    """
    digest = await objects.dataset_of(job.id)
    if digest is None and not job.state.is_terminal:
        return
    await store.apply(job, replace(job, dataset=digest or ""), at=clock())
