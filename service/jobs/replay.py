"""Curves that MLflow missed, out of the object store, where every row of metrics is."""

from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import replace

import structlog

from service.jobs.objects import JobObjects
from service.jobs.records import JobRecord
from service.mlflow import Mlflow
from workers.contract.metric_rows import MeasuredRow
from workers.contract.spec import TrainSpec
from workers.contract.tracking import params

log = structlog.get_logger()


async def complete_run(job: JobRecord, objects: JobObjects, mlflow: Mlflow) -> str | None:
    """See that MLflow has every point of a job, in a run that is made if there is none any more; return its id.

    What is there stays as it is, so this may be cut off and repeated. None: the job has measured nothing. Sample grids
    stay where they are, in the object store: MLflow keeps files in a place of its own, which only workers know.
    """
    run_id = await mlflow.run_of(job.id, objects.url, known=job.mlflow_run_id)  # first: it may not answer for days
    there, num_missing = _Points(), 0
    async for rows in objects.metric_rows(job.id):
        if not rows:
            continue
        if run_id is None:
            run_id = await mlflow.make_run(
                job.id, objects.url, name=job.name or job.id, params=await _params(job, objects)
            )
        for key in {key for row in rows for key in row.values} - there.keys:
            async for steps in mlflow.steps(run_id, key):
                for step in steps:
                    there.add(key, step)
        missing = _missing(rows, there)
        await mlflow.log_rows(run_id, missing)
        num_missing += sum(len(row.values) for row in missing)
    if num_missing:
        log.info("mlflow.completed", job_id=job.id, run_id=run_id, points=num_missing)
    return run_id


async def _params(job: JobRecord, objects: JobObjects) -> dict[str, str]:
    num_parameters = job.progress.num_parameters if job.progress else None
    return params(TrainSpec.model_validate_json(job.spec), await objects.dataset(job.id), num_parameters=num_parameters)


class _Points:
    """Which curves have a point at which step.

    One number for each step, with a bit for each curve: a long training has a million steps in dozens of curves.
    """

    def __init__(self) -> None:
        self._bits = dict[str, int]()
        self._curves = defaultdict[int, int](int)

    @property
    def keys(self) -> Set[str]:
        """The curves that are known."""
        return self._bits.keys()

    def add(self, key: str, step: int) -> bool:
        """Note a point; False if it was there."""
        bit = self._bits.setdefault(key, 1 << len(self._bits))
        is_new = not self._curves[step] & bit
        self._curves[step] |= bit
        return is_new


def _missing(rows: Iterable[MeasuredRow], there: _Points) -> list[MeasuredRow]:
    """One value at each step of each curve that has none: the first that was measured, as workers themselves tell it.

    `there` has these points afterwards.
    """
    return [
        replace(row, values={key: value for key, value in row.values.items() if there.add(key, row.images_seen)})
        for row in rows
    ]
