"""Submissions on the engine that nobody wants any more: stopped, and then forgotten, so that its head stays small.

What other installations and other users run there is left alone, and so are jobs that a lost database does not know.
"""

from dataclasses import dataclass

import structlog

from service.cluster import Cluster
from service.cluster.base import ClusterUnreachable, Run
from service.errors import StorageUnavailable
from service.jobs.installation import Installation
from service.jobs.lookup import JobLookup
from service.jobs.records import AttemptRecord

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Compares what the engine has with what should be there."""

    store: JobLookup
    cluster: Cluster
    installation: Installation

    async def tick(self) -> bool:
        """One comparison. What the engine does not answer is asked again next time, and keeps nothing else waiting."""
        try:
            us = await self.installation.id()
            ours = [run for run in await self.cluster.list() if run.metadata.get("cdm_service") == us]
        except (ClusterUnreachable, StorageUnavailable) as error:
            log.info("sweep.postponed", error=str(error))
            return False
        known = {one.submission_id: one for one in await self.store.attempts_of([run.submission_id for run in ours])}
        for run in ours:
            try:
                await self._clear(run, known.get(run.submission_id))
            except ClusterUnreachable as error:
                log.info("run.not_cleared", submission_id=run.submission_id, error=str(error))
        return False

    async def _clear(self, run: Run, attempt: AttemptRecord | None) -> None:
        if attempt and not attempt.ended_at:
            return
        if attempt is None and not await self.store.find(run.metadata.get("cdm_job", "")):
            # every attempt is written down before it is submitted: what is missing is the database's, not the run's
            log.warning("run.unknown", submission_id=run.submission_id, mend="cdm admin rebuild")
            return
        if not run.status.is_terminal:
            log.warning("orphan.stopped", submission_id=run.submission_id, known=attempt is not None)
            await self.cluster.stop(run.submission_id)
        elif attempt is None or attempt.log_due_until is None:  # until then the engine has its log
            await self.cluster.delete(run.submission_id)
