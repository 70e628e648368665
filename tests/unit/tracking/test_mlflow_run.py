"""What importing the writer of MLflow's runs sets, in a process that nobody has told anything."""

import subprocess
import sys


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
