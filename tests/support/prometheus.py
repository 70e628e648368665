"""A real Prometheus for tests, and its `promtool`."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import httpx2

from tests.support.ray_head import free_ports
from tests.support.waiting import wait_until

INSTALL = "no Prometheus: install it (Debian: apt-get install prometheus)"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A server that scrapes one target often."""

    url: str

    def values(self, expression: str) -> list[float]:
        """What an instant query finds; NaN is what a quotient of nothing is."""
        found = self._get("query", query=expression)["result"]
        return [value for one in found if not isnan(value := float(one["value"][1]))]

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str, **parameters: str) -> Any:
        answer = httpx2.get(f"{self.url}/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]


def installed(program: str) -> str | None:
    return shutil.which(program)


@contextmanager
def prometheus(folder: Path, *, target: str, rules: Path) -> Iterator[Prometheus]:
    """Scrape `target`, as the job `cdm-train`, while the block lasts."""
    program = installed("prometheus")
    if program is None:
        raise FileNotFoundError(INSTALL)
    config = {
        "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "cdm-train", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    [port] = free_ports(1)
    command = [
        program,
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            server = Prometheus(f"http://127.0.0.1:{port}")
            wait_until(lambda: _is_ready(server))
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


def _is_ready(server: Prometheus) -> bool:
    try:
        return httpx2.get(f"{server.url}/-/ready").status_code == 200
    except httpx2.TransportError:
        return False
