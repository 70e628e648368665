"""Reading ZIP files that anybody may have made: no member unpacks to more than the archive says.

zipfile unpacks bzip2 and LZMA to their end, whatever size is said and asked for; hundreds of bytes fill gigabytes.
"""

import os
from typing import IO, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

_UNPACKED_IN_PIECES = {ZIP_STORED, ZIP_DEFLATED}
_END, _END_BYTES, _COUNTED_ELSEWHERE = b"PK\x05\x06", 22, 0xFFFF  # the last: its number is in a ZIP64 record


def read_member(archive: ZipFile, member: ZipInfo) -> bytes:
    """All of a member: at most `member.file_size` bytes, which the caller has to find few enough.

    Raises:
        BadZipFile: it is damaged, or packed otherwise than by deflate. Opening it may raise others, as in zipfile.
    """
    _require_known_packing(member)
    with archive.open(member) as file:
        return file.read(member.file_size + 1)  # one more: its checksum is compared where it ends


def require_whole(archive: ZipFile, *, most_bytes: int) -> None:
    """See that all members are there, undamaged, and `most_bytes` or less when they are unpacked.

    Raises:
        BadZipFile: they are not, or packed otherwise than by deflate.
    """
    require_all_members(archive)
    for member in archive.infolist():
        _require_known_packing(member)
    if (total := sum(member.file_size for member in archive.infolist())) > most_bytes:
        raise BadZipFile(f"it unpacks to {total >> 20:,} MiB; at most {most_bytes >> 20:,} are taken")
    if damaged := archive.testzip():
        raise BadZipFile(f"{damaged} is damaged")


def require_all_members(archive: ZipFile) -> None:
    """See that what it lists is as much as it says that it holds.

    zipfile reads its directory to the end: a length that is damaged there hides the members behind it.

    Raises:
        BadZipFile: some are hidden.
    """
    file, listed = cast(IO[bytes], archive.fp), len(archive.infolist())
    file.seek(-(_END_BYTES + len(archive.comment)), os.SEEK_END)
    end = file.read(_END_BYTES)
    counted = int.from_bytes(end[10:12], "little")
    if end.startswith(_END) and counted not in {listed % (_COUNTED_ELSEWHERE + 1), _COUNTED_ELSEWHERE}:
        raise BadZipFile(f"its directory is damaged: it lists {listed} of {counted} members")


def _require_known_packing(member: ZipInfo) -> None:
    if member.compress_type not in _UNPACKED_IN_PIECES:
        raise BadZipFile(f"a member is packed by method {member.compress_type}; pack the archive with deflate")
