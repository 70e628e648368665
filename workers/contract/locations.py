"""How a document says where a file is: a path of the workers, an upload, a URL of the web, an object in a bucket."""

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic_core import PydanticCustomError

_SCHEME = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9+.-]*):/")
_UPLOADED = re.compile(r"upload://(?P<id>upl_[0-9A-HJKMNP-TV-Z]{26})")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# Documents are stored, shown to everybody of a project, and told to MLflow.
_SECRET = re.compile(
    r"sig(nature)?$|credential|token|secret|passw|^pwd$|^auth|api[-_.]?key|access[-_]?key|^key$|^code$|session|^jwt$",
    re.IGNORECASE,
)


def of_the_file_system(path: str) -> str:
    """A path as it is; raises PydanticCustomError, inside a validator, for what is a URL."""
    if not is_path(path):
        raise _refused("a folder is named by its path; what is elsewhere comes as one file")
    return path


def of_a_file(location: str) -> str:
    """A location as it is; raises PydanticCustomError, inside a validator, for one that nobody can or should read."""
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
            _check_object(parts)
        case _:
            known = "https://host/file, s3://bucket/key, upload://ID of an upload"
            raise _refused(f"give a path of the workers, or {known}")
    return location


def is_path(location: str) -> bool:
    """Whether it is one of the workers' file system."""
    return _SCHEME.match(location) is None


def is_unprotected(location: str) -> bool:
    """Whether anybody on the way could have sent something else."""
    return location.startswith("http://")


def uploaded_id(location: str) -> str | None:
    """The id of an upload, if it is one."""
    match = _UPLOADED.fullmatch(location)
    return match["id"] if match else None


def upload_location(upload_id: str) -> str:
    """How a document names it."""
    return f"upload://{upload_id}"


def bucket_and_key(location: str) -> tuple[str, str] | None:
    """Of an object in a bucket, if it is one."""
    parts = urlsplit(location)
    return (parts.netloc, parts.path[1:]) if parts.scheme == "s3" else None


def _check_web(parts: SplitResult) -> None:
    if "@" in parts.netloc:
        raise _refused("leave the credentials out: documents are shown to others; upload the file instead")
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if _SECRET.search(name):
            reason = f"{name[:40]!r} looks like a credential, and documents are shown to others"
            raise _refused(f"{reason}; give a URL that is public, or upload the file instead")
    if parts.fragment:
        raise _refused("leave out what is behind #: no server hears of it")


def _check_object(parts: SplitResult) -> None:
    names = parts.path[1:].split("/")
    if not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise _refused("write it as s3://bucket/key")
    if any(name in {"", ".", ".."} for name in names):  # some servers would take these for other places
        raise _refused("the key of an object has no empty parts, and none that are . or ..")


def _refused(message: str) -> PydanticCustomError:
    return PydanticCustomError("location", message.replace("{", "{{").replace("}", "}}"))
