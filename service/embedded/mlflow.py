"""MLflow as one process.

`mlflow server` would start a parent and, by default, 15 processes (1.6 GB). Serving its application ourselves is one
process of 200 MiB, at the price of naming its private settings: hence the exact version in pyproject.toml.
"""

import sys

from service.embedded.documents import Keys, Ports
from service.embedded.folder import Folder
from service.embedded.part import LOOPBACK, Part, Probe, url
from service.embedded.seaweedfs import MLFLOW_BUCKET, mlflow_environment


def part(folder: Folder, ports: Ports, keys: Keys) -> Part:
    database = f"sqlite:///{folder.mlflow / 'mlflow.db'}"
    return Part(
        name="mlflow",
        title="MLflow",
        address=url(ports.mlflow),
        command=(
            *(sys.executable, "-m", "uvicorn", "mlflow.server.fastapi_app:app"),
            *("--host", LOOPBACK, "--port", str(ports.mlflow)),
            *("--log-level", "warning", "--timeout-graceful-shutdown", "2"),
        ),
        environment={
            **mlflow_environment(ports, keys),
            "_MLFLOW_SERVER_FILE_STORE": database,
            "_MLFLOW_SERVER_REGISTRY_STORE": database,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"s3://{MLFLOW_BUCKET}/artifacts",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "MLFLOW_S3_ENDPOINT_URL": url(ports.s3),
            "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven more processes
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        # /health answers before there is a database; the first search makes it.
        probes=(Probe(f"{url(ports.mlflow)}/api/2.0/mlflow/experiments/search?max_results=1"),),
    )
