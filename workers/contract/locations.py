"""How a document says where a file is: a path of the workers, or `upload://ID`, what a client has sent."""

import re

from pydantic_core import PydanticCustomError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_UPLOADED = re.compile(r"upload://(?P<id>upl_[0-9A-HJKMNP-TV-Z]{26})")


def of_the_file_system(path: str) -> str:
    """A path as it is; raises PydanticCustomError, inside a validator, for what is a URL."""
    if _SCHEME.match(path):
        raise PydanticCustomError("location", "a folder is named by its path; what is elsewhere comes as one file")
    return path


def of_a_file(location: str) -> str:
    """A location as it is; raises PydanticCustomError, inside a validator, for one that nobody can read."""
    if is_path(location) or uploaded_id(location):
        return location
    raise PydanticCustomError("location", "give a path of the workers, or upload://ID of an upload")


def is_path(location: str) -> bool:
    """Whether it is one of the workers' file system."""
    return _SCHEME.match(location) is None


def uploaded_id(location: str) -> str | None:
    """The id of an upload, if it is one."""
    match = _UPLOADED.fullmatch(location)
    return match["id"] if match else None


def upload_location(upload_id: str) -> str:
    """How a document names it."""
    return f"upload://{upload_id}"
