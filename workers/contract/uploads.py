"""Files that clients send into the store. A document names one by `upload://ID`."""

from typing import Annotated

from pydantic import Field

from workers.contract.data import Digest
from workers.contract.document import Document
from workers.contract.records import Timestamp


class UploadRecord(Document):
    """A file that is on its way, or there: parts of one size, but for the last, each an object that is whole or absent.

    Its name is for people. No key and no path is made of it.
    """

    project: str
    name: str
    num_bytes: Annotated[int, Field(ge=1)]
    part_bytes: Annotated[int, Field(ge=1)]
    sha256: Annotated[Digest | None, Field(description="Of the whole; null: its sender did not say")]
    created_at: Timestamp
    expires_at: Annotated[Timestamp, Field(description="No job may name it from then on")]

    @property
    def part_sizes(self) -> tuple[int, ...]:
        whole, rest = divmod(self.num_bytes, self.part_bytes)
        return (self.part_bytes,) * whole + ((rest,) if rest else ())
