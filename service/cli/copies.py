"""A training that tools read: a copy, fetched with a key alone and laid out as in the store, or the store's own folder.

Both say where the folder is, which checkpoint is meant, and have what is to be read there.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from service.cli.best import chosen
from service.cli.errors import CommandFailed, CommandMisused
from service.client import Client
from service.client.documents import as_json
from service.jobs.result_views import Checkpoint
from service.jobs.views import Job
from service.metrics.views import MetricRow
from workers.contract.keys import JobKeys, split_spec_url
from workers.storage.local import LocalStore


@contextmanager
def copied(client: Client, job: Job, checkpoints: Sequence[Checkpoint]) -> Iterator["Copy"]:
    """What there is to know of a training with these checkpoints, in a temporary folder; of their files none so far.

    There is one checkpoint at least.
    """
    store_url, _, _ = checkpoints[-1].uri.partition(f"/jobs/{job.id}/")
    try:
        with TemporaryDirectory(prefix="cdm-copy-") as name:
            copy = Copy(client, job, Path(name), store_url)
            copy.fetch_documents(checkpoints)
            yield copy
    except OSError as error:
        mend = "make room there, or set TMPDIR to a folder that has some"
        raise CommandFailed(f"cannot write to {gettempdir()}: {error.strerror or error}; {mend}") from None


class Copy:
    """The folder of a job in a store of its own, which grows by what is asked for."""

    def __init__(self, client: Client, job: Job, root: Path, store_url: str) -> None:
        self.store_url = store_url  # of the job itself
        self._client, self._job, self._root = client, job, root
        self._store, self._keys = LocalStore(root), JobKeys(job.id)

    @property
    def folder(self) -> str:
        return str(self._root / self._keys.root)

    def fetch_documents(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Its document, where it goes on from, the manifest of its images, and those of checkpoints."""
        self._store.put(self._keys.spec, json.dumps(as_json(self._job.spec)).encode())
        self._store.put(self._keys.dataset, self._client.jobs.dataset(self._job.id).model_dump_json().encode())
        if self._job.parent:
            self._store.put(self._keys.origin, self._job.parent.model_dump_json().encode())
        for each in checkpoints:
            place = self._root / self._keys.checkpoint(each.images_seen, each.attempt)
            self._client.jobs.download_checkpoint(
                self._job.id, place, images_seen=each.images_seen, attempt=each.attempt, files=()
            )

    def images_seen(self, at: int | None, best: str | None) -> int | None:
        """At the checkpoint that `--at` or `--best` names; None: the newest."""
        return chosen(self._client, self._job, at, best)

    def fetch_files(self, keys: Iterable[str]) -> None:
        """Files of checkpoints, by their keys; how far it is shows on standard error."""
        from service.cli.bar import transfer_bar  # rich takes a moment to import

        for key in keys:
            folder, _, name = key.rpartition("/")
            images_seen, attempt = self._keys.of_checkpoint(folder)
            with transfer_bar(f"fetching {name} at {images_seen:,} images") as show:
                self._client.jobs.download_checkpoint(
                    self._job.id,
                    self._root / folder,
                    images_seen=images_seen,
                    attempt=attempt,
                    files=[name],
                    on_bytes=show,
                )

    def fetch_findings(self, images_seen: int) -> None:
        """What was measured, and the pictures drawn at the checkpoint of so many images, if there are any."""
        jobs, keys = self._client.jobs, self._keys
        rows = jobs.stream_metrics(self._job.id, follow=False)
        for attempt, some in groupby(rows, key=lambda row: row.attempt):
            self._store.put(keys.attempt(attempt).metrics_chunk(0), "".join(map(_line, some)).encode())
        for ran in jobs.attempts(self._job.id):
            self._store.put(keys.attempt(ran.number).progress, json.dumps({"versions": ran.versions}).encode())
        for each in jobs.evaluations(self._job.id):
            at = each.checkpoint
            place = keys.evaluation(at.images_seen, at.attempt, each.job_id)
            self._store.put(place, each.model_dump_json().encode())
        if images_seen in jobs.samples(self._job.id):
            self._store.put(keys.sample(images_seen), jobs.sample(self._job.id, images_seen=images_seen))


class InStore:
    """The folder of a job in a store that this machine reaches itself: nothing needs to be fetched."""

    store_url = None

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def images_seen(self, at: int | None, best: str | None) -> int | None:
        """At the checkpoint that `--at` names; None: the newest."""
        if best is not None:
            raise CommandMisused("--best asks a service, which knows the evaluations: give --at for a folder")
        return at

    def fetch_files(self, keys: Iterable[str]) -> None:
        """They are there."""

    def fetch_findings(self, images_seen: int) -> None:
        """They are there."""


def is_folder_of_job(place: str) -> bool:
    """Whether this is `<store>/jobs/<id>`; a job whose name has this form is named by its id."""
    return split_spec_url(f"{place.rstrip('/')}/spec.json") is not None


def _line(row: MetricRow) -> str:
    """As workers write it."""
    values = {name: math.nan if value is None else value for name, value in row.values.items()}
    return json.dumps({"images_seen": row.images_seen, "time": row.time.timestamp(), **values}) + "\n"
