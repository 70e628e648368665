"""The run in MLflow: found or made when first needed, written in batches, safe to write twice."""

import io
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, assert_never
from urllib.parse import urlsplit

from mlflow import MlflowClient, get_tracking_uri
from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response
from PIL import Image

from workers.contract.tracking import EXPERIMENT, MAX_METRICS, MAX_PARAMS, identity, json_number, run_filter
from workers.tracking.events import Checkpointed, Ended, Event, Grid, Metrics

# MLflow's own patience (7 retries of 2 minutes) would hold back all later news; the caller tries again anyway.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # `cdm show` says where the run is

_PICTURES = "samples"
_LOG_BATCH = "/api/2.0/mlflow/runs/log-batch"


class MlflowRun:
    """One MLflow run per job and store, recognised by its tags: a later attempt goes on writing to it.

    MLflow keeps two values of one step as two points, so what is already there is not written again: steps up to the
    last one logged by an earlier attempt are left out, and a repeated batch is recognised by its identical timestamps.
    Of pictures, which MLflow gives a new name each time, there is one at each step.
    """

    def __init__(
        self, job_id: str, *, store_url: str, params: dict[str, str], tags: dict[str, str], name: str | None = None
    ) -> None:
        self._name = name or job_id  # when it is made; users may give it another
        self._identity = identity(job_id, store_url)
        self._params = params
        self._tags = tags
        self._client: MlflowClient | None = None
        self._connecting = threading.Lock()  # of two threads that both find no run, each would make one
        self._logged_until = -1
        self.run_id: str | None = None

    def deliver(self, events: list[Event]) -> None:
        """Write events; raises whatever MLflow raises, and may then be called again with the same ones.

        Several threads may, if all rows come from one of them.
        """
        client, run_id = self._connected()
        metrics = [event for event in events if isinstance(event, Metrics)]
        self._log_metrics(client, run_id, metrics)
        for event in events:
            match event:
                case Metrics():
                    pass
                case Grid():
                    self._log_grid(client, run_id, event)
                case Checkpointed(uri=uri):
                    client.set_tag(run_id, "cdm.checkpoint", uri)
                case Ended(status=status):
                    client.set_terminated(run_id, status)
                case _:
                    assert_never(event)

    def _connected(self) -> tuple[MlflowClient, str]:
        with self._connecting:
            if self._client is None or self.run_id is None:
                self._client, self.run_id = self._connect()
            return self._client, self.run_id

    def _connect(self) -> tuple[MlflowClient, str]:
        client = MlflowClient()
        experiment = client.get_experiment_by_name(EXPERIMENT)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
        if run_id := _with_tags(client, experiment_id, self._identity):
            client.update_run(run_id, status="RUNNING")
            steps = [metric.step for metric in client.get_metric_history(run_id, "loss/dsm")]
            self._logged_until = max(steps, default=-1)
        else:
            run_id = client.create_run(experiment_id, tags=self._identity, run_name=self._name).info.run_id
        params = [Param(key, value) for key, value in self._params.items()]
        tags = [RunTag(key, value) for key, value in self._tags.items()]
        for first in range(0, len(params), MAX_PARAMS):
            client.log_batch(run_id, params=params[first : first + MAX_PARAMS])
        client.log_batch(run_id, tags=tags)
        return client, run_id

    def _log_metrics(self, client: MlflowClient, run_id: str, rows: list[Metrics]) -> None:
        points = [
            {"key": key, "value": value, "timestamp": int(row.time * 1000), "step": row.images_seen}
            for row in rows
            if row.images_seen > self._logged_until
            for key, value in row.values.items()
        ]
        for first in range(0, len(points), MAX_METRICS):
            _log_batch(client, run_id, points[first : first + MAX_METRICS])

    def _log_grid(self, client: MlflowClient, run_id: str, grid: Grid) -> None:
        if any(_is_whole(file.path, grid.images_seen) for file in client.list_artifacts(run_id, "images")):
            return
        image = Image.open(io.BytesIO(grid.png))
        client.log_image(
            run_id, image, key=_PICTURES, step=grid.images_seen, timestamp=int(grid.time * 1000), synchronous=True
        )


def find_run(job_id: str, store_url: str) -> tuple[MlflowClient, str | None]:
    """The run of a job, if MLflow has one."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return client, _with_tags(client, experiment.experiment_id, identity(job_id, store_url)) if experiment else None


def log_points(
    client: MlflowClient, run_id: str, images_seen: int, values: Mapping[str, float], milliseconds: int
) -> None:
    """Add a point to each of several curves, all at one step."""
    points = (
        {"key": key, "value": value, "timestamp": milliseconds, "step": images_seen} for key, value in values.items()
    )
    _log_batch(client, run_id, [*points])


def _log_batch(client: MlflowClient, run_id: str, points: Sequence[Mapping[str, Any]]) -> None:
    """To a server, what `MlflowClient.log_batch` sends it.

    That one builds, indents and reads its message in Python, eight times as long, and training in the same process
    waits for the interpreter meanwhile.
    """
    server = get_tracking_uri()
    if urlsplit(server).scheme not in {"http", "https"}:
        client.log_batch(run_id, metrics=[Metric(**point) for point in points])
        return
    metrics = [{**point, "value": json_number(point["value"])} for point in points]
    answer = http_request(
        get_default_host_creds(server), _LOG_BATCH, "POST", json={"run_id": run_id, "metrics": metrics}
    )
    verify_rest_response(answer, _LOG_BATCH)


def _with_tags(client: MlflowClient, experiment_id: str, tags: dict[str, str]) -> str | None:
    runs = client.search_runs([experiment_id], run_filter(tags), max_results=1)
    return runs[0].info.run_id if runs else None


def _is_whole(path: str, step: int) -> bool:
    """Whether this is the last file of the picture at a step: its thumbnail, `images/samples+step+64+...webp`."""
    return path.endswith(".webp") and path.startswith(f"images/{_PICTURES}+step+{step}+")
