"""What training loses to telling its metrics, many rows a second, to journal and MLflow."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from unittest.mock import patch
from uuid import uuid4

import torch
from mlflow import MlflowClient

from tests.benchmarks.runtime.figures import Section, at_most, interleaved, percent, spread
from tests.benchmarks.runtime.jobs import Job, Place, place, until
from tests.benchmarks.runtime.training import Spent, Training, spec_of
from tests.support.mlflow_server import mlflow_server
from tests.support.ray_head import free_ports
from workers.contract.document import flattened
from workers.contract.keys import JobKeys
from workers.storage import open_store
from workers.tracking.heartbeat import first_word
from workers.tracking.reporter import Reporter
from workers.training.telemetry import Measured, Window
from workers.training.world import World

_ROWS_A_SECOND = 50
_WINDOW_SECONDS = 6.0
_LEAD_SECONDS = 2.0  # of rows before it is timed, so that deliveries are under way
_LIMIT = 0.01
_BATCH = 8
_SPEC = spec_of(batch_images=_BATCH)

_HOW = """\
The quick start's network ({batch} images a step) is trained in this process by one thread. The same number of steps,
about {window:g} s of them, runs silently and while a `Reporter` is given {rows} rows a second, each with the {values}
values of a row of the product; rows are given for {lead:g} s before that, so that deliveries are under way. A real S3
server takes the journal and the heartbeat, a real MLflow server on SQLite the curves; all rows had arrived at the end.
CPU is the additional CPU time of the reporting steps, as a share of a core; servers elsewhere take none of it."""


class _Telling:
    """A reporter that is told a row whenever one is due."""

    def __init__(self, where: Place, row: Measured) -> None:
        self._store, self._keys, self._row = open_store(where.url), JobKeys(f"benchmark-{uuid4().hex}"), row
        progress = first_word(10**9, 1)
        self._reporter = Reporter(
            self._store, self._keys, 1, store_url=where.url, progress=progress, params=flattened(_SPEC), tags={}
        )
        self._begin, self._num_told = time.perf_counter(), 0
        self.tell_due(0)
        until(lambda: b'"mlflow_run_id":null' not in self._progress().replace(b" ", b""), timeout_seconds=60.0)
        self._begin, self._num_told = time.perf_counter(), 1

    def tell_due(self, _step: int) -> None:
        due = 1 + int(_ROWS_A_SECOND * (time.perf_counter() - self._begin))
        for number in range(self._num_told, due):
            self._reporter.metrics(1 + number, losses=self._row.losses, rate=1.0, telemetry=self._row.telemetry)
        self._num_told = max(due, self._num_told)

    def close(self) -> None:
        """Deliver the rest.

        Raises:
            RuntimeError: a row is missing.
        """
        run_id = self._reporter.close("FINISHED")
        journal = len(Job(self._keys, self._store, ()).rows())
        curve = len(MlflowClient().get_metric_history(run_id, "loss/dsm"))
        if (journal, curve) != (self._num_told, self._num_told):
            raise RuntimeError(f"of {self._num_told} rows the journal has {journal} and MLflow {curve}")

    def _progress(self) -> bytes:
        try:
            return self._store.get(self._keys.attempt(1).progress)
        except FileNotFoundError:
            return b'"mlflow_run_id":null'


def tracking(repeats: int) -> Section:
    training = Training(_SPEC)
    row, num_steps, num_lead = _row_of(training), training.steps_in(_WINDOW_SECONDS), training.steps_in(_LEAD_SECONDS)

    def told(where: Place) -> Spent:
        telling = _Telling(where, row)
        training.spent(num_lead, after_each=telling.tell_due)
        spent = training.spent(num_steps, after_each=telling.tell_due)
        telling.close()
        return spent

    with _servers() as where:
        variants = {"silently": lambda: training.spent(num_steps), "told": lambda: told(where)}
        found = interleaved(variants, repeats=repeats)
    pairs = list(zip(found["told"], found["silently"], strict=True))
    shares = [ours.wall / plain.wall - 1 for ours, plain in pairs]
    rows = [
        ["a step", f"{1e3 * median(plain.wall for _, plain in pairs) / num_steps:.0f} ms"],
        ["silently", f"{spread([plain.wall for _, plain in pairs])} s"],
        ["told", f"{spread([ours.wall for ours, _ in pairs])} s"],
        ["CPU of the process", percent([(ours - plain).own_cpu / ours.wall for ours, plain in pairs])],
        ["CPU of the servers", percent([(ours - plain).servers_cpu / ours.wall for ours, plain in pairs])],
        ["lost", percent(shares)],
    ]
    values = len(row.losses) + len(row.telemetry) + 1
    how = _HOW.format(batch=_BATCH, window=_WINDOW_SECONDS, rows=_ROWS_A_SECOND, values=values, lead=_LEAD_SECONDS)
    aim = at_most(f"less than 1 % is lost to {_ROWS_A_SECOND} rows a second", shares, _LIMIT)
    return Section("Tracking", how, repeats, ["", "median [least, greatest]"], rows, [aim])


@contextmanager
def _servers() -> Iterator[Place]:
    with (
        place() as where,
        tempfile.TemporaryDirectory() as folder,
        mlflow_server(Path(folder), free_ports(1)[0]) as url,
        patch.dict("os.environ", {"MLFLOW_TRACKING_URI": url}),
    ):
        yield where


def _row_of(training: Training) -> Measured:
    """As a real step gives it."""
    window, step = Window(World.alone(torch.device("cpu")), _SPEC.objective.consistency), training.step()
    window.add(step.terms, step.gradient_norm)
    return window.close()
