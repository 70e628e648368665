"""An MLflow server that remembers what is asked of it."""

import math
from dataclasses import dataclass, field
from typing import Any

import httpx2

from service.mlflow import Mlflow


@dataclass
class FakeMlflow:
    """Remembers what is asked of it; unknown runs are 404, and all is 500 while it is `down`."""

    runs: dict[str, str] = field(default_factory=dict)
    curves: dict[str, dict[int, float]] = field(default_factory=dict)  # of whatever run, by images seen
    tags: dict[str, dict[str, str]] = field(default_factory=dict)  # by run
    down: bool = False

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if self.down:
            return httpx2.Response(500)
        if request.url.path.endswith("runs/get"):
            run_id = request.url.params["run_id"]
            known = run_id in self.runs
            return httpx2.Response(200, json={"run": self._run(run_id)}) if known else httpx2.Response(404)
        if request.url.path.endswith("experiments/get-by-name"):
            return httpx2.Response(200, json={"experiment": {"experiment_id": "7"}})
        if request.url.path.endswith("metrics/get-history"):
            key = request.url.params["metric_key"]
            found = [_metric(key, step, value) for step, value in self.curves.get(key, {}).items()]
            return httpx2.Response(200, json={"metrics": found})
        if request.url.path.endswith("runs/log-batch"):
            batch = httpx2.Response(200, content=request.content).json()
            tags = {tag["key"]: tag["value"] for tag in batch.get("tags", ())}
            self.tags.setdefault(batch["run_id"], {}).update(tags)
        if request.url.path.endswith("runs/update"):
            update = httpx2.Response(200, content=request.content).json()
            self.runs[update["run_id"]] = update["status"]
        return httpx2.Response(200, json={})

    def _run(self, run_id: str) -> dict[str, Any]:
        last = ((key, max(points.items())) for key, points in self.curves.items())
        metrics = [_metric(key, step, value) for key, (step, value) in last]
        return {"info": {"run_id": run_id, "experiment_id": "7"}, "data": {"metrics": metrics}}

    def client(self) -> Mlflow:
        return Mlflow("http://mlflow.test", transport=httpx2.MockTransport(self))


def _metric(key: str, step: int, value: float) -> dict[str, Any]:
    return {"key": key, "step": step, "value": value if math.isfinite(value) else "NaN", "timestamp": step}
