"""Ray's head has room for as many jobs as may run at a time: a head that is killed takes all of them with it."""

import re

import pytest

from service.settings import Settings
from tests.support.chart import ROOT, one, pods, rendered

# Measured with one job on Ray 2.60: its driver, Ray Train's controller and the small actors beside them have 0.9 GB;
# dashboard, GCS, agents and the object store 1.3 GB.
_JOB_GIB, _RAY_GIB = 1, 2
_CAP = Settings.model_fields["max_active_jobs"].default


@pytest.mark.parametrize("example", ["trial", "production"])
def test_on_kubernetes(example: str) -> None:
    documents = rendered(example)
    settings = one(documents, "Deployment", "api")["spec"]["template"]["spec"]["containers"][0]["env"]
    cap = next((int(each["value"]) for each in settings if each["name"] == "CDM_MAX_ACTIVE_JOBS"), _CAP)

    (head,) = pods(documents)["ray-head"]["spec"]["containers"][:1]

    assert int(head["resources"]["limits"]["memory"].removesuffix("Gi")) >= _RAY_GIB + cap * _JOB_GIB


def test_under_compose() -> None:
    (limit,) = re.findall(r"\$\{RAY_HEAD_MEMORY:-(\d+)g\}", (ROOT / "docker-compose.yml").read_text())

    assert int(limit) >= _RAY_GIB + _CAP * _JOB_GIB
