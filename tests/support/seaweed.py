"""A real S3 server for tests: SeaweedFS on loopback, with keys and a bucket of its own, gone with its folder."""

import json
import os
import secrets
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

_START_SECONDS = 60  # one on a quiet machine


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where an S3 server listens and what it takes to be let in."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables that every S3 client reads."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }


@contextmanager
def seaweed(bucket: str = "tests") -> Iterator[S3Server]:
    """Start `weed mini`, wait until it serves, and kill it at the end; its files are of no further use."""
    with tempfile.TemporaryDirectory(prefix="seaweed-") as name:
        folder = Path(name)
        ports = dict(zip(("s3", "master", "volume", "filer", "admin"), _free_ports(5), strict=True))
        server = S3Server(f"http://127.0.0.1:{ports['s3']}", "tester", secrets.token_hex(16), bucket)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                _command(folder, ports, server),
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "GOMEMLIMIT": "300MiB"},
            )
        try:
            _wait(server, process, folder / "log")
            yield server
        finally:
            process.kill()
            process.wait()


def _command(folder: Path, ports: dict[str, int], server: S3Server) -> list[str]:
    credentials = [{"accessKey": server.access_key, "secretKey": server.secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = [{"name": "tester", "credentials": credentials, "actions": actions}]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    return [
        str(Path(sysconfig.get_path("scripts")) / "weed"),
        "mini",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{part}.port={port}" for part, port in ports.items()),
        "-s3.port.iceberg=0",
        f"-s3.config={config}",
        f"-bucket={server.bucket}",
        "-admin.ui=false",
        "-webdav=false",
        "-metricsPort=0",
        "-master.telemetry=false",  # on by default
    ]


def _wait(server: S3Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until the bucket can be used; the port answers a little earlier."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
    )
    deadline = time.monotonic() + _START_SECONDS
    with closing(client):
        while time.monotonic() < deadline and process.poll() is None:
            try:
                client.head_bucket(Bucket=server.bucket)
                return
            except (BotoCoreError, ClientError):
                time.sleep(0.1)
    raise RuntimeError(f"SeaweedFS does not serve (exit code {process.poll()}):\n{log.read_text()[-2000:]}")


def _free_ports(count: int) -> list[int]:
    """Ports that are free together with their gRPC twins, 10,000 above; below the range of outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = 11_000 + secrets.randbelow(11_000)
        if port not in found and _is_free(port) and _is_free(port + 10_000):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
