"""The API, with its settings as environment variables."""

import sys

from service.embedded.documents import Keys, Ports
from service.embedded.folder import Folder
from service.embedded.part import LOOPBACK, Part, Probe, url
from service.embedded.seaweedfs import JOBS_BUCKET, client_environment


def part(folder: Folder, ports: Ports, keys: Keys) -> Part:
    return Part(
        name="api",
        title="API",
        address=url(ports.api),
        command=(
            *(sys.executable, "-m", "uvicorn", "service.app:create_app_from_environment", "--factory"),
            *("--host", LOOPBACK, "--port", str(ports.api)),
            *("--log-level", "warning", "--timeout-graceful-shutdown", "3"),
        ),
        environment={
            **client_environment(ports, keys),
            "CDM_API_KEY": keys.api_key,
            "CDM_STATE_FOLDER": str(folder.api),
            "CDM_STORE_URL": f"s3://{JOBS_BUCKET}",
            "CDM_RAY_URL": url(ports.ray_dashboard),
            "CDM_RAY_TOKEN": keys.ray_token,
            "CDM_MLFLOW_URL": url(ports.mlflow),
            "CDM_WORKER_PYTHON": sys.executable,
            "CDM_LOCAL_PATHS": "true",
        },
        probes=(Probe(f"{url(ports.api)}/healthz"),),
    )


def readiness(ports: Ports) -> Probe:
    """Good once the API reaches all other parts: jobs are taken and run from then on."""
    return Probe(f"{url(ports.api)}/readyz")
