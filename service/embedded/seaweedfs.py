"""The S3 server: SeaweedFS in its one-process form, `weed mini`."""

import hashlib
import hmac
import json
from pathlib import Path

from service.embedded.documents import Keys, Ports, write_privately
from service.embedded.folder import Folder
from service.embedded.part import LOOPBACK, Part, Probe, program, url

JOBS_BUCKET, MLFLOW_BUCKET = "cdm", "mlflow"


def part(folder: Folder, ports: Ports) -> Part:
    options = {
        "dir": folder.s3,
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,  # all interfaces otherwise
        "s3.port": ports.s3,
        "master.port": ports.s3_master,
        "volume.port": ports.s3_volume,
        "filer.port": ports.s3_filer,
        "admin.port": ports.s3_admin,
        "admin.ui": "false",
        "webdav": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "metricsPort": 0,
        "master.telemetry": "false",  # on otherwise
        "s3.config": _identities(folder),
        "bucket": f"{JOBS_BUCKET},{MLFLOW_BUCKET}",
    }
    return Part(
        name="s3",
        title="S3 (SeaweedFS)",
        address=url(ports.s3),
        command=(program("weed"), "mini", *(f"-{name}={value}" for name, value in options.items())),
        environment={"GOMEMLIMIT": "300MiB"},  # 980 MB at its peak without, and uploads hardly faster
        # S3 answers before the buckets are made; only the file system below shows them without a signature. It also
        # answers up to 15 s before the master knows the volumes, and until then no object can be read or written.
        probes=(
            Probe(f"{url(ports.s3)}/healthz"),
            Probe(f"{url(ports.s3_master)}/dir/assign"),
            Probe(f"{url(ports.s3_filer)}/buckets/{JOBS_BUCKET}/"),
            Probe(f"{url(ports.s3_filer)}/buckets/{MLFLOW_BUCKET}/"),
        ),
    )


def client_environment(ports: Ports, keys: Keys) -> dict[str, str]:
    """For the service and its workers: all buckets."""
    return _environment(ports, (keys.s3_access_key, keys.s3_secret_key))


def mlflow_environment(ports: Ports, keys: Keys) -> dict[str, str]:
    """For MLflow: its own bucket, and no other. It asks nobody who they are, and reads to them what its keys open."""
    return _environment(ports, _mlflow_account(keys))


def _mlflow_account(keys: Keys) -> tuple[str, str]:
    """Access key and secret key; they follow from the others, which do not follow from them."""
    secret = hmac.new(keys.s3_secret_key.encode(), b"mlflow", hashlib.sha256).hexdigest()
    return secret[:20], secret[20:60]


def _environment(ports: Ports, account: tuple[str, str]) -> dict[str, str]:
    """What boto3, PyArrow and MLflow read. SeaweedFS, like most, refuses the newer default checksums."""
    access_key, secret_key = account
    return {
        "AWS_ENDPOINT_URL_S3": url(ports.s3),
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }


def write_identities(folder: Folder, keys: Keys) -> None:
    """Who may use the S3 server; without this file, everybody."""
    actions = ("Read", "Write", "List", "Tagging")
    identities = (
        ("cdm", (keys.s3_access_key, keys.s3_secret_key), ("Admin", *actions)),
        ("mlflow", _mlflow_account(keys), tuple(f"{action}:{MLFLOW_BUCKET}" for action in actions)),
    )
    document = {
        "identities": [
            {"name": name, "credentials": [{"accessKey": access, "secretKey": secret}], "actions": may}
            for name, (access, secret), may in identities
        ]
    }
    write_privately(_identities(folder), json.dumps(document))


def _identities(folder: Folder) -> Path:
    return folder.root / "s3.json"
