"""What clients send and get of uploads. Pydantic and the contract only, because the SDK is built on it."""

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field

from service.web.views import PLAIN_TEXT, PageOf, View
from workers.contract.data import Digest
from workers.contract.document import Document


class UploadCreate(Document):
    """A file that is to be sent."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "faces.zip", "num_bytes": 3_145_728}]})

    name: Annotated[
        str,
        Field(min_length=1, max_length=255, pattern=PLAIN_TEXT, description="For people; no path is made of it"),
    ]
    num_bytes: Annotated[int, Field(ge=1, lt=2**53)]
    sha256: Annotated[
        Digest | None, Field(description="Of the file, in hexadecimal: what arrives otherwise is not read")
    ] = None


class Upload(View):
    """A file on its way into the object store, or there."""

    id: str
    name: str
    num_bytes: int
    part_bytes: Annotated[int, Field(description="It is sent in parts of so many bytes; the last may have fewer")]
    sha256: str | None
    num_missing_parts: Annotated[int, Field(description="0: all of it is there")]
    path: Annotated[str, Field(description="What a document says for it, as in `dataset.path`")]
    created_at: datetime
    expires_at: Annotated[datetime, Field(description="Then it is removed, unless jobs that read it have not ended")]
    links: dict[str, str]


class UploadPage(PageOf[Upload]):
    """Uploads, newest first."""


class UploadPart(View):
    """A part of a file."""

    number: int
    num_bytes: int
    url: Annotated[
        str | None,
        Field(
            description="Where to PUT exactly these bytes, without a key, for a day (less where the service's own "
            "credentials for S3 end sooner: ask again); null: it is there already"
        ),
    ]


class UploadPartList(View):
    """All parts of an upload, in their order."""

    data: tuple[UploadPart, ...]


class Sources(View):
    """Where the files of a job may be."""

    shares_paths: Annotated[bool, Field(description="This service and its workers see the same files")]
    takes_uploads: bool
    max_upload_bytes: int
    s3: Annotated[tuple[str, ...], Field(description="Buckets and prefixes; none: s3://... is refused")] = ()
