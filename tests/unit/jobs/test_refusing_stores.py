"""What a user reads when the job's store, or the way to it, refuses what workers ask: the reason, and the mend."""

import pickle
from collections.abc import Callable, Iterator
from errno import EACCES, EROFS
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.config import Config
from botocore.response import StreamingBody
from urllib3.exceptions import SSLError as TlsError

from tests.support.answering import answering
from tests.support.uploads import ID, UPLOAD, uploaded
from workers.contract.data import NpzDataset
from workers.contract.document import SpecError
from workers.contract.keys import JobKeys, UploadKeys
from workers.contract.records import CheckpointFile, Reason
from workers.data import import_images
from workers.jobs.diagnosis import diagnosed
from workers.storage import JobFiles, ObjectStore, open_store, read_location
from workers.storage.memory import MemoryStore
from workers.storage.s3 import _CONFIG, S3Store
from workers.training.checkpoint import read_file
from workers.training.weights import read_weights

KEY = "jobs/job_1/checkpoints/000000000000-0001/network.safetensors"
SECRETS = ("the-id-of-the-key", "the-secret-of-the-key", "the-token-of-the-session")
KEYS = "give the workers keys that it knows (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)"
DENIED = f"access is denied: {KEY}; give the workers the right to read and write it"

CALLS: dict[str, Callable[[ObjectStore], object]] = {
    "get": lambda store: store.get(KEY),
    "part": lambda store: store.part(KEY, 0, 8),
    "size": lambda store: store.size(KEY),
    "put": lambda store: store.put(KEY, b"data"),
    "put in parts": lambda store: store.put(KEY, bytes(9 << 20)),
    "put if absent": lambda store: store.put_if_absent(KEY, b"data"),
    "delete": lambda store: store.delete(KEY),
    "list": lambda store: store.list(KEY),
    "walk": lambda store: [*store.walk(KEY)],
    "folders": lambda store: store.folders(KEY),
}


def _without(*calls: str) -> Iterator[str]:
    return (call for call in CALLS if call not in calls)


class Refusing(ThreadingHTTPServer):
    """An S3 server that refuses whatever it is asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body = 403, b""

    def refuse(self, status: int, code: str, message: str) -> None:
        """As S3 does, which says what it was sent, too."""
        sent = "".join(f"<Sent{number}>{secret}</Sent{number}>" for number, secret in enumerate(SECRETS))
        self.status = status
        self.body = f"<Error><Code>{code}</Code><Message>{message}</Message>{sent}</Error>".encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Refusing

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"" if self.command == "HEAD" else self.server.body
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 (names of the base class)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys to ask with; what is refused is not asked again."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    for name, secret in zip(names, SECRETS, strict=True):
        monkeypatch.setenv(name, secret)
    monkeypatch.setattr("workers.storage.s3._CONFIG", _CONFIG.merge(Config(retries={"total_max_attempts": 1})))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusing]:
    with answering(refusing := Refusing()):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{refusing.server_port}")
        yield refusing


def said_of(call: Callable[[], object]) -> str:
    """What is told of it, as an error that has come from another process; it is the store's fault."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 (each store has errors of its own; the reason is asserted)
        call()
    sent = pickle.loads(pickle.dumps(raised.value))  # noqa: S301 (pickled in this line)
    reason, message = diagnosed(sent, pass_images=8, kind="train")
    assert reason is Reason.STORAGE_ERROR, message
    assert not any(secret in message for secret in SECRETS)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("call", CALLS)
def test_whatever_is_denied_is_named_by_its_key(server: Refusing, call: str) -> None:
    server.refuse(403, "AccessDenied", "Access Denied")

    assert said_of(lambda: CALLS[call](open_store("s3://bucket/prefix"))) == DENIED


@pytest.mark.parametrize(
    ("status", "code", "says", "mend"),
    [
        (403, "RequestTimeTooSkewed", "The difference is too large.", "set the clocks of the workers and of the store"),
        (403, "InvalidAccessKeyId", "The key you provided does not exist.", KEYS),
        (403, "SignatureDoesNotMatch", "The signature we calculated does not match.", KEYS),
        (400, "ExpiredToken", "The provided token has expired.", KEYS),
        (404, "NoSuchBucket", "It does not exist.", "create the bucket, or correct its name"),
        (503, "SlowDown", "Please reduce your rate.", "let fewer jobs run at a time, or give it more room"),
    ],
)
@pytest.mark.parametrize("call", [*_without("size", "walk")])  # HEAD has no words; walks are not in the job's store
def test_what_a_store_refuses_is_quoted_with_the_mend(
    server: Refusing, call: str, status: int, code: str, says: str, mend: str
) -> None:
    server.refuse(status, code, says)

    message = said_of(lambda: CALLS[call](open_store("s3://bucket/prefix")))

    assert message.startswith(f"An error occurred ({code}) when calling")
    assert message.endswith(f": {says.rstrip('.')}; {mend}")


@pytest.mark.parametrize(
    ("endpoint", "says", "mend"),
    [
        (
            "http://no-such-host.invalid",
            "Could not connect to the endpoint URL",
            "see that the machines of the workers",
        ),
        (
            "http://127.0.0.1:9",
            "Could not connect to the endpoint URL",
            "see that the machines of the workers reach it",
        ),
        ("https://{address}", "SSL validation failed", "let AWS_CA_BUNDLE name the certificates"),
    ],
    ids=["DNS", "nobody there", "TLS"],
)
def test_a_way_on_which_no_store_is_found_is_named(
    server: Refusing, monkeypatch: pytest.MonkeyPatch, endpoint: str, says: str, mend: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint.format(address=f"127.0.0.1:{server.server_port}"))

    message = said_of(lambda: open_store("s3://bucket").get(KEY))

    assert message.startswith(says)
    assert f"; {mend}" in message


def test_keys_that_are_missing_are_asked_for(server: Refusing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    assert said_of(lambda: open_store("s3://bucket").get(KEY)) == f"Unable to locate credentials; {KEYS}"


@pytest.mark.parametrize("call", [*_without("get", "part", "size")])  # which take a page for the object
def test_what_answers_and_is_no_s3_server_is_the_stores_fault(server: Refusing, call: str) -> None:
    server.status, server.body = 200, b"<html>\n<p>Please log in"

    assert "An error occurred" in said_of(lambda: CALLS[call](open_store("s3://bucket")))


def test_an_answer_whose_encryption_breaks_again_and_again_is_the_stores_fault() -> None:
    class Broken(BytesIO):
        def read(self, *_: object) -> bytes:
            raise TlsError("decryption failed or bad record mac")

    class Client:
        def get_object(self, **_: object) -> dict[str, object]:
            return {"Body": StreamingBody(Broken(), 8)}

    store = S3Store(cast("Any", Client()), "bucket")

    assert "bad record mac" in said_of(lambda: store.get(KEY))


def test_a_file_of_a_checkpoint_that_is_denied_is_not_taken_for_damaged(server: Refusing) -> None:
    server.refuse(403, "AccessDenied", "Access Denied")
    folder, _, name = KEY.rpartition("/")
    file = CheckpointFile(name=name, num_bytes=8, sha256=sha256(b"").hexdigest())

    assert said_of(lambda: read_file(open_store("s3://bucket"), f"{folder}/", file)) == DENIED


class Closed(MemoryStore):
    """Opens records, and no parts."""

    def part(self, key: str, offset: int, size: int) -> bytes:
        raise PermissionError(EACCES, "access is denied", key)


def test_an_upload_that_the_jobs_own_store_denies_is_no_fault_of_the_document() -> None:
    store = Closed()
    uploaded(b"weights" * 9, into=store)
    denied = f"access is denied: {UploadKeys(ID).part(0)}; give the workers the right to read and write it"
    own = JobFiles(store, JobKeys("job_1"))

    assert said_of(lambda: import_images(NpzDataset(kind="npz", path=UPLOAD), store)) == denied
    assert said_of(lambda: read_location(UPLOAD, most_bytes=1000, job_files=own)) == denied
    assert said_of(lambda: read_weights(UPLOAD, job_files=own)) == denied


def test_a_place_of_the_document_that_is_denied_or_in_no_bucket_is_its_fault(server: Refusing) -> None:
    server.refuse(403, "AccessDenied", "Access Denied")

    with pytest.raises(SpecError, match=r"^cannot read s3://other/net\.safetensors: access is denied$"):
        read_weights("s3://other/net.safetensors")

    server.refuse(404, "NoSuchBucket", "It does not exist.")
    with pytest.raises(SpecError, match=r"^there is no s3://other/net\.safetensors$"):
        read_weights("s3://other/net.safetensors")


def test_a_folder_that_may_not_be_written_to_is_named() -> None:
    file = "/cache/shard-00000.u8"
    denied, read_only = (
        PermissionError(EACCES, "Permission denied", file),
        OSError(EROFS, "Read-only file system", file),
    )

    assert said_of(lambda: _raise(denied)).startswith(f"access is denied: {file}; give the workers the right")
    assert said_of(lambda: _raise(read_only)) == f"a disk is read-only: {file}; let the workers write to it"
    assert diagnosed(PermissionError("of something else"), pass_images=8, kind="train")[0] is Reason.INTERNAL


def _raise(error: Exception) -> None:
    raise error
