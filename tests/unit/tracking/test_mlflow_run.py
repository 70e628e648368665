"""What importing the writer of MLflow's runs sets, in a process that nobody has told anything; what MLflow refuses."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_metric_name

from workers.contract.tracking import check_curve_name


def test_mlflow_reports_nothing_to_its_makers() -> None:
    program = (
        "import workers.tracking.mlflow_run\n"
        "from mlflow.telemetry import utils\n"
        "utils._IS_IN_CI_ENV_OR_TESTING = False\n"
        "print(utils.is_telemetry_disabled())"
    )
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}

    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "True"


@pytest.mark.parametrize(
    "name",
    [
        "loss/dsm",
        "own gap: a_b-c.d/e",
        "gap@0.5",
        "p50%",
        "",
        "a//b",
        "a/",
        "/a",
        "./a",
        "a/../b",
        ".",
        "..",
        "..a",
        "Ä",
    ],
)
def test_names_are_refused_that_mlflow_refuses(name: str) -> None:
    def is_refused(check: Callable[[str], None]) -> bool:
        try:
            check(name)
        except (ValueError, MlflowException):
            return True
        return False

    assert is_refused(check_curve_name) == (is_refused(_validate_metric_name) or not name)
