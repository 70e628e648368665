"""What MLflow has to be told of jobs that have ended, and what only MLflow knows of those that run."""

from dataclasses import dataclass, replace

import structlog

from service.clock import Clock
from service.database.leases import Replica
from service.jobs.due import alone_if_due, each, each_due
from service.jobs.lifecycle import JobState
from service.jobs.objects import JobObjects
from service.jobs.records import JobRecord
from service.jobs.replay import complete_run
from service.jobs.store import JobStore
from service.mlflow import Mlflow, RunStatus
from workers.contract.tracking import description, environment

log = structlog.get_logger()

_RUNS_AT_A_TIME = 2  # each holds all steps of a job in memory, and reads eight objects of the store at a time
_QUESTIONS_AT_A_TIME = 8
_MLFLOW_STATUS: dict[JobState, RunStatus] = {
    JobState.SUCCEEDED: "FINISHED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "KILLED",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """Brings MLflow's runs to their end, and finds the pages of jobs."""

    store: JobStore
    objects: JobObjects
    mlflow: Mlflow
    replica: Replica
    clock: Clock

    async def tick(self) -> bool | None:
        """One try at all that MLflow has to be told, by one replica at a time: two would make two runs of a job.

        The curves of a long job take minutes.
        """
        return await alone_if_due(self.replica, "tracking", self._complete_due, self.store.with_mlflow_due)

    async def find_experiments(self) -> bool:
        """One question for each active job whose page in MLflow nobody can name yet.

        For a loop of its own: who watches a job does not wait for the curves of others.
        """
        found = await self.store.with_experiment_due()
        await each(found, self._find_experiment, at_a_time=_QUESTIONS_AT_A_TIME, told_as="tracking")
        return False

    async def _complete_due(self) -> None:
        await each_due(self.store.with_mlflow_due, self._complete_run, at_a_time=_RUNS_AT_A_TIME, told_as="tracking")

    async def _find_experiment(self, job: JobRecord) -> None:
        experiment_id = await self.mlflow.experiment_of(job.mlflow_run_id or "")
        await self._write(job, replace(job, mlflow_experiment_id=experiment_id))

    async def _complete_run(self, job: JobRecord) -> None:
        if job.mlflow_due_until and self.clock() > job.mlflow_due_until:
            log.warning("mlflow.given_up", job_id=job.id, run_id=job.mlflow_run_id)
            await self._write(job, replace(job, mlflow_due_until=None))
            return
        changed = replace(job, mlflow_due_until=None)
        if (run_id := await complete_run(job, self.objects, self.mlflow)) != job.mlflow_run_id:
            changed = replace(changed, mlflow_run_id=run_id, mlflow_experiment_id=None, record_due=True)
        if run_id and changed.mlflow_experiment_id is None:
            changed = replace(changed, mlflow_experiment_id=await self.mlflow.experiment_of(run_id))
        if run_id and job.ended_at:
            await self.mlflow.close_run(run_id, status=_MLFLOW_STATUS[job.state], at=job.ended_at)
            await self.mlflow.describe_run(run_id, _tags(job))
        await self._write(job, changed)

    async def _write(self, job: JobRecord, changed: JobRecord) -> None:
        await self.store.apply(job, changed, at=self.clock())


def _tags(job: JobRecord) -> dict[str, str]:
    """All that its run is to have: one that was made anew has not what workers told."""
    known = description(
        job.project, job.labels, user=job.owner_name, parent=job.parent_job_id, control=job.control_job_id
    )
    return known | environment(job.progress.versions if job.progress else {})
