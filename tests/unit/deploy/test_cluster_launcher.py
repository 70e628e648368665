"""The example for Ray's cluster launcher is a file that Ray takes. It is not run."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from jsonschema_rs import Draft202012Validator

from tests.support.chart import CHART, ROOT

EXAMPLE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/ray-cluster-launcher/aws.yaml").read_text())


def test_it_has_the_form_that_ray_asks_for() -> None:
    ray = find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    schema = json.loads((Path(ray.origin).parent / "autoscaler/ray-schema.json").read_text())

    assert not [one.message for one in Draft202012Validator(schema).iter_errors(EXAMPLE)]
    assert EXAMPLE["head_node_type"] in EXAMPLE["available_node_types"]


def test_its_nodes_start_as_those_of_the_chart() -> None:
    cluster = (CHART / "templates/raycluster.yaml").read_text()

    for commands in (EXAMPLE["head_start_ray_commands"], EXAMPLE["worker_start_ray_commands"]):
        words = [word for word in commands[-1].split() if word.startswith("--") and "=" in word]
        for name, value in (word.lstrip("-").split("=") for word in words):
            if name not in ("address", "autoscaling-config", "dashboard-host"):
                assert f'{name}: "{value}"' in cluster
