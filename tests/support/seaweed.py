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
import httpx2
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

STRANGER = "stranger"  # an access key that opens no object; its secret is the other's
OUTSIDER = "outsider"  # one that opens objects and lists none; the same secret

_START_SECONDS = 60  # one on a quiet machine


@dataclass(slots=True)
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
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }


@dataclass(slots=True)
class Seaweed(S3Server):
    """A SeaweedFS that may be killed and started again, with what was in it."""

    folder: Path
    ports: dict[str, int]
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Return once it serves."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                _command(self), stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "GOMEMLIMIT": "300MiB"}
            )
        _wait(self, self.process)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


@contextmanager
def seaweed(bucket: str = "tests") -> Iterator[Seaweed]:
    """Start `weed mini`, wait until it serves, and kill it at the end; its files are of no further use."""
    with tempfile.TemporaryDirectory(prefix="seaweed-") as name:
        folder = Path(name)
        ports = dict(zip(("s3", "master", "volume", "filer", "admin"), _free_ports(5), strict=True))
        endpoint = f"http://127.0.0.1:{ports['s3']}"
        server = Seaweed(endpoint, "tester", secrets.token_hex(16), bucket, folder, ports)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def _command(server: Seaweed) -> list[str]:
    credentials = [{"accessKey": server.access_key, "secretKey": server.secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    strangers = [{"accessKey": STRANGER, "secretKey": server.secret_key}]
    outsiders = [{"accessKey": OUTSIDER, "secretKey": server.secret_key}]
    identities = [
        {"name": "tester", "credentials": credentials, "actions": actions},
        {"name": "stranger", "credentials": strangers, "actions": ["List"]},
        {"name": "outsider", "credentials": outsiders, "actions": ["Read"]},
    ]
    config = server.folder / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    data = server.folder / "data"
    data.mkdir(exist_ok=True)
    return [
        str(Path(sysconfig.get_path("scripts")) / "weed"),
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{part}.port={port}" for part, port in server.ports.items()),
        "-s3.port.iceberg=0",
        f"-s3.config={config}",
        f"-bucket={server.bucket}",
        "-admin.ui=false",
        "-webdav=false",
        "-metricsPort=0",
        "-master.telemetry=false",  # on by default
    ]


def _wait(server: Seaweed, process: "subprocess.Popen[bytes]") -> None:
    """Until the bucket can be used; the port answers earlier, and objects can be read when the master has volumes."""
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
                if httpx2.get(f"http://127.0.0.1:{server.ports['master']}/dir/assign", timeout=5).is_success:
                    return
            except (BotoCoreError, ClientError, httpx2.TransportError):
                pass
            time.sleep(0.1)
    log = (server.folder / "log").read_text()[-2000:]
    raise RuntimeError(f"SeaweedFS does not serve (exit code {process.poll()}):\n{log}")


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
