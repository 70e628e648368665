"""An object store in an S3-compatible bucket."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedReader, RawIOBase
from typing import TYPE_CHECKING, Any, cast

import botocore.session
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ResponseStreamingError
from botocore.loaders import create_loader
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectRequestTypeDef

# Each setting is there for servers other than AWS: they refuse the default CRC32 headers, virtual-host names and the
# old presigning; an upload in parts keeps large checkpoints below the limit of a single PUT.
_CONFIG = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    connect_timeout=5,
    max_pool_connections=64,  # as many as the service's threads: further ones would be opened for one request each
    retries={"mode": "adaptive", "max_attempts": 5},
)
# Parts cost servers and clients more: 1.3 times the CPU of SeaweedFS, 1.6 times ours.
_TRANSFER = TransferConfig(multipart_threshold=128 << 20, multipart_chunksize=16 << 20)
_SMALL_BYTES = 8 << 20  # for these boto3's transfer manager takes three times as long
_TRIES = 4  # of an answer that breaks off

_MODELS = create_loader()  # keeps what it has parsed; with one of its own, a client takes six times as long to make


class S3Store:
    """Objects under a prefix of one bucket."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str = "", *, linking: "S3Client | None" = None) -> None:
        self._client = client
        self._linking = linking or client  # makes links, which are signed for the address that is in them
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    @classmethod
    def connect(
        cls, bucket: str, prefix: str = "", *, public_endpoint: str | None = None, read_timeout_seconds: float = 60.0
    ) -> "S3Store":
        """Endpoint, region and credentials come from the standard AWS_* variables or files.

        Links lead to `public_endpoint`, if those who follow them know the server by another address. A request is
        tried again when nothing has come for `read_timeout_seconds`.
        """
        session = botocore.session.get_session()
        session.register_component("data_loader", _MODELS)
        # botocore knows AWS_DEFAULT_REGION alone. Servers other than AWS ignore it; signing needs one.
        region = session.get_config_variable("region") or os.environ.get("AWS_REGION") or "us-east-1"

        config = _CONFIG.merge(Config(read_timeout=read_timeout_seconds))

        def client(endpoint: str | None) -> "S3Client":
            made = session.create_client("s3", region_name=region, config=config, endpoint_url=endpoint)
            return cast("S3Client", made)

        linking = client(public_endpoint) if public_endpoint else None
        return cls(client(None), bucket, prefix, linking=linking)

    def put(self, key: str, data: bytes | memoryview) -> None:
        with _for_us(key):
            if len(data) < _SMALL_BYTES:
                self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=bytes(data))
            else:
                with create_transfer_manager(self._client, _TRANSFER) as transfers:
                    transfers.upload(BufferedReader(_Reader(data)), self._bucket, self._prefix + key).result()

    def put_if_absent(self, key: str, data: bytes) -> bool:
        try:
            with _for_us(key):
                self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, IfNoneMatch="*")
        except ClientError as error:
            if _code(error) in {"PreconditionFailed", "ConditionalRequestConflict"}:
                return False
            raise
        return True

    def get(self, key: str) -> bytes:
        with _named(key), _for_us(key):
            return self._content({"Bucket": self._bucket, "Key": self._prefix + key})

    def part(self, key: str, offset: int, size: int) -> bytes:
        span = f"bytes={offset}-{offset + size - 1}"
        try:
            with _named(key), _for_us(key):
                return self._content({"Bucket": self._bucket, "Key": self._prefix + key, "Range": span})
        except ClientError as error:
            if _code(error) == "InvalidRange":  # behind its end
                return b""
            raise

    def _content(self, wanted: "GetObjectRequestTypeDef") -> bytes:
        """All of it. botocore asks again until an answer has begun; if that breaks off, it is asked for again here."""
        for left in reversed(range(_TRIES)):
            body = self._client.get_object(**wanted)["Body"]
            try:
                return body.read()
            except (BotoCoreError, HTTPError) as error:  # the latter of TLS, which botocore lets through
                if not left:
                    raise ResponseStreamingError(error=error) from None
        raise AssertionError("the last try returns or raises")

    def size(self, key: str) -> int:
        with _named(key), _for_us(key):
            return self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)["ContentLength"]

    def link(self, key: str, *, seconds: int) -> str | None:
        place = {"Bucket": self._bucket, "Key": self._prefix + key}
        return self._linking.generate_presigned_url("get_object", Params=place, ExpiresIn=seconds)

    def link_to_put(self, key: str, num_bytes: int, *, seconds: int) -> str | None:
        """The number of bytes is part of what is signed: no other number is let in."""
        place = {"Bucket": self._bucket, "Key": self._prefix + key, "ContentLength": num_bytes}
        return self._linking.generate_presigned_url("put_object", Params=place, ExpiresIn=seconds)

    def folders(self, prefix: str) -> list[str]:
        whole = self._prefix + prefix
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=whole, Delimiter="/")
        with _for_us(prefix):
            found = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
        return sorted(name.removeprefix(whole).rstrip("/") for name in found)

    def list(self, prefix: str) -> list[str]:
        with _for_us(prefix):
            return sorted(self._keys(prefix))

    def walk(self, prefix: str) -> Iterator[str]:
        with _for_us(prefix), in_bucket(self._bucket):
            yield from self._keys(prefix)

    def _keys(self, prefix: str) -> Iterator[str]:
        whole = self._prefix + prefix
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=whole):
            for entry in page.get("Contents", []):
                yield entry["Key"].removeprefix(self._prefix)

    def delete(self, key: str) -> None:
        with _for_us(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Say which object is missing."""
    try:
        yield
    except ClientError as error:
        if _code(error) in {"NoSuchKey", "404"}:  # the latter of HEAD, whose answers have no body
            raise FileNotFoundError(key) from None
        raise


@contextmanager
def in_bucket(bucket: str) -> Iterator[None]:
    """Say which bucket is missing."""
    try:
        yield
    except ClientError as error:
        if _code(error) == "NoSuchBucket":
            raise FileNotFoundError(bucket) from None
        raise


@contextmanager
def _for_us(key: str) -> Iterator[None]:
    """Say of an object that our key does not open which it is; a wrong clock, or a key that is changed, may pass."""
    try:
        yield
    except ClientError as error:
        if _code(error) in {"AccessDenied", "403"}:  # the latter of HEAD
            raise PermissionError(EACCES, "access is denied", key) from None
        raise


class _Reader(RawIOBase):
    """Bytes as a file, without the copy that BytesIO makes of memory that is not its own."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data, self._place = memoryview(data), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        self._place = offset + {SEEK_SET: 0, SEEK_CUR: self._place, SEEK_END: len(self._data)}[whence]
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        part = self._data[self._place : self._place + len(buffer)]
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")
