"""Checkpoints, and their files on this machine."""

from collections.abc import Collection
from hashlib import file_digest
from pathlib import Path
from typing import Literal

from service.client.connection import Connection
from service.client.downloads import download
from service.client.errors import DownloadFailed
from service.client.files import OnBytes, replaced, unheard
from service.client.paths import path_to
from service.jobs.result_views import Checkpoint, CheckpointList
from workers.contract.keys import MANIFEST
from workers.contract.records import CheckpointFile

ImagesSeen = int | Literal["latest"]


class JobCheckpoints:
    """The part of `client.jobs` that is about checkpoints."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def checkpoints(self, job_id: str) -> tuple[Checkpoint, ...]:
        """Committed checkpoints, oldest first."""
        return self._connection.get(CheckpointList, path_to("jobs", job_id, "checkpoints")).data

    def checkpoint(self, job_id: str, *, images_seen: ImagesSeen = "latest", attempt: int | None = None) -> Checkpoint:
        """One of them; where several attempts have left one at the same images, by default that of the last.

        Raises:
            NotFound: there is none, or its training has removed it.
        """
        return self._connection.get(
            Checkpoint, path_to("jobs", job_id, "checkpoints", str(images_seen)), attempt=attempt
        )

    def download_checkpoint(
        self,
        job_id: str,
        folder: str | Path,
        *,
        images_seen: ImagesSeen = "latest",
        attempt: int | None = None,
        files: Collection[str] | None = None,
        on_bytes: OnBytes = unheard,
    ) -> Checkpoint:
        """Write files of a checkpoint (None: all) into a folder, and last its `MANIFEST.json`.

        Each takes its place when it is whole and has the sha256 that the checkpoint says; one that is there already and
        has it is not fetched again. `on_bytes` hears how many bytes have come, and how many all of them have.

        Raises:
            NotFound: there is no such checkpoint, or its training has removed it meanwhile.
            DownloadFailed: the checkpoint has no such file, or what came is not what was written.
            OSError: nothing can be written there.
        """
        found = self.checkpoint(job_id, images_seen=images_seen, attempt=attempt)
        wanted, place = _wanted(found, files), Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        done, total = 0, sum(file.num_bytes for file in wanted)

        def tell(come: int, _: int | None) -> None:
            on_bytes(done + come, total)

        for file in wanted:
            if not _is_there(place / file.name, file):
                self._fetch(job_id, found, file, place, tell)
            done += file.num_bytes
            on_bytes(done, total)
        with replaced(place / MANIFEST) as target:
            manifest = _path(job_id, found, MANIFEST)
            download(self._connection, manifest, target, on_bytes=unheard, attempt=found.attempt)
        return found

    def _fetch(self, job_id: str, of: Checkpoint, file: CheckpointFile, folder: Path, on_bytes: OnBytes) -> None:
        place = _path(job_id, of, file.name)
        with replaced(folder / file.name) as target:
            digest = download(self._connection, place, target, on_bytes=on_bytes, attempt=of.attempt)
            if digest != file.sha256:
                raise DownloadFailed(
                    f"{file.name} of {job_id} at {of.images_seen} images has not come as it was written: try again; if "
                    "that does not help it is damaged, and another checkpoint is needed"
                )


def _path(job_id: str, checkpoint: Checkpoint, name: str) -> str:
    return path_to("jobs", job_id, "checkpoints", str(checkpoint.images_seen), "files", name)


def _wanted(checkpoint: Checkpoint, names: Collection[str] | None) -> list[CheckpointFile]:
    there = {file.name: file for file in checkpoint.files}
    lacking = [name for name in names or () if name not in there]
    if lacking:
        at = f"the checkpoint at {checkpoint.images_seen} images"
        raise DownloadFailed(f"{at} has no {' and no '.join(lacking)}: it has {', '.join(there)}")
    return [file for name, file in there.items() if names is None or name in names]


def _is_there(path: Path, file: CheckpointFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.num_bytes:
        return False
    with path.open("rb") as content:
        return file_digest(content, "sha256").hexdigest() == file.sha256
