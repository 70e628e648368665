"""How a document says where files are: a path of the workers, an upload, a URL of the web, a place in a bucket."""

import re
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

LONGEST_LOCATION = 4096  # characters; Linux opens no path of more bytes
_SCHEME = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9+.-]*):/")
_UPLOADED = re.compile(r"upload://(?P<id>upl_[0-9A-HJKMNP-TV-Z]{26})")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# Documents are stored, shown to everybody of a project, and told to MLflow.
_SECRET = re.compile(
    r"sig(nature)?$|credential|token|secret|passw|^pwd$|^auth|api[-_.]?key|access[-_]?key|^key$|^code$|session|^jwt$",
    re.IGNORECASE,
)


def of_a_folder(location: str) -> str:
    """A path, or a place in a bucket, as it is; raises PydanticCustomError, inside a validator, for anything else."""
    if is_path(location):
        return location
    if not is_bucket_folder(location):
        known = "a path of the workers, or s3://bucket/folder/ with a slash at its end"
        raise _refused(f"give {known}; what is elsewhere comes as one file")
    return of_files(location)


def of_files(location: str) -> str:
    """A location of one file, or of a folder of them that is a path or in a bucket; raises as `of_a_file`."""
    return _checked(location, may_be_folder=True)


def of_a_file(location: str) -> str:
    """A location as it is; raises PydanticCustomError, inside a validator, for one that nobody can or should read."""
    return _checked(location, may_be_folder=False)


def beside_the_images(location: str) -> str:
    """As `of_a_file`, of a file that is no data set; one in a store that is a folder or memory, too.

    A service opens of those no more than its own (`service/jobs/files.py`); others are for jobs that are run by hand.
    """
    if is_unprotected(location):
        raise _refused("anybody on the way could change what comes by http://: give https://, or upload the file")
    if is_in_a_store_here(location):
        return location
    return of_a_file(location)


NamedFile = Annotated[
    str,
    Field(
        min_length=1,
        max_length=LONGEST_LOCATION,
        description="A path of the workers; or https://, s3://, upload://ID",
    ),
    AfterValidator(beside_the_images),
]


def is_path(location: str) -> bool:
    """Whether it is one of the workers' file system."""
    return _SCHEME.match(location) is None


def is_in_a_store_here(location: str) -> bool:
    """Whether it lies in a store that is a folder, or memory of a process."""
    return location.startswith(("file:///", "memory://")) and _VISIBLE.fullmatch(location) is not None


def is_unprotected(location: str) -> bool:
    """Whether anybody on the way could have sent something else."""
    return location.lower().startswith("http://")


def is_of_the_web(location: str) -> bool:
    """Whether it is fetched by URL."""
    return location.lower().startswith(("https://", "http://"))


def uploaded_id(location: str) -> str | None:
    """The id of an upload, if it is one."""
    match = _UPLOADED.fullmatch(location)
    return match["id"] if match else None


def upload_location(upload_id: str) -> str:
    """How a document names it."""
    return f"upload://{upload_id}"


def bucket_and_key(location: str) -> tuple[str, str] | None:
    """Of an object in a bucket, or of a folder there, if it is one."""
    parts = urlsplit(location)
    return (parts.netloc, parts.path[1:]) if parts.scheme == "s3" else None


def is_bucket_folder(location: str) -> bool:
    """Whether it stands for all objects of a bucket whose keys begin so."""
    return location[:5].lower() == "s3://" and location.endswith("/")


def _checked(location: str, *, may_be_folder: bool) -> str:
    if is_path(location) or uploaded_id(location):
        return location
    if not _VISIBLE.fullmatch(location):
        raise _refused("a URL has visible ASCII characters only; write others as %20 and the like")
    try:
        parts = urlsplit(location)
        _ = parts.port
    except ValueError as error:
        raise _refused(f"this is no URL ({error})") from None
    match parts.scheme:
        case "https" | "http" if parts.hostname:
            _check_web(parts)
        case "s3":
            _check_object(parts, may_be_folder=may_be_folder)
        case _:
            known = "https://host/file, s3://bucket/key, upload://ID of an upload"
            raise _refused(f"give a path of the workers, or {known}")
    return location


def _check_web(parts: SplitResult) -> None:
    if "@" in parts.netloc:
        raise _refused("leave the credentials out: documents are shown to others; upload the file instead")
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if _SECRET.search(name):
            reason = f"{name[:40]!r} looks like a credential, and documents are shown to others"
            raise _refused(f"{reason}; give a URL that is public, or upload the file instead")
    if parts.fragment:
        raise _refused("leave out what is behind #: no server hears of it")


def _check_object(parts: SplitResult, *, may_be_folder: bool) -> None:
    if not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise _refused("write it as s3://bucket/key")
    names = parts.path[1:].split("/")
    if parts.path.endswith("/"):
        if not may_be_folder:
            raise _refused("is a folder: give one file, or a kind that takes folders (folder, parquet, webdataset)")
        names.pop()
    if any(name in {"", ".", ".."} for name in names):  # some servers would take these for other places
        raise _refused("the key of an object has no empty parts, and none that are . or ..")


def _refused(message: str) -> PydanticCustomError:
    return PydanticCustomError("location", message.replace("{", "{{").replace("}", "}}"))
