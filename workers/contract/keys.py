"""Where everything lies in the object store; the only place that knows."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

MANIFEST = "MANIFEST.json"
JOBS, UPLOADS, UNWANTED = "jobs/", "uploads/", "unwanted/"
RESULT = "result.json"  # the last file of what a job is run for that is not a training
PREVIEW, GRID = "preview.png", "grid.png"  # pictures beside it: of what was imported, and of what was drawn
INSTALLATION = "installation"  # the id of the service whose jobs these are
DRIVER_LOG, ENGINE_LOG = "driver", "engine"  # sources of logs beside the ranks: the job's driver, and what Ray kept
JOB_ID_PATTERN = "[A-Za-z0-9_-]+"  # what Ray takes for a submission, too
_JOB_ID = re.compile(JOB_ID_PATTERN)
_SPEC_URL = re.compile(rf"^(?P<store>.+)/jobs/(?P<job_id>{_JOB_ID.pattern})/spec\.json$")


@dataclass(frozen=True, slots=True)
class AttemptKeys:
    """One attempt of a job. Its number fences it: a lower one never overwrites what a higher one wrote."""

    root: str

    @property
    def claim(self) -> str:
        return f"{self.root}/claim.json"

    @property
    def progress(self) -> str:
        return f"{self.root}/progress.json"

    @property
    def outcome(self) -> str:
        return f"{self.root}/outcome.json"

    @property
    def logs(self) -> str:
        """Under it, a folder for each source: `driver`, `rank-0000` and so on, `engine`."""
        return f"{self.root}/logs/"

    def log_stream(self, source: str) -> str:
        """The folder of one source's bytes, cut into chunks."""
        return f"{self.logs}{source}/"

    def log_chunk(self, source: str, start_byte: int) -> str:
        """A chunk never changes; the next one starts where it ends, so that byte offsets are places in the stream."""
        return f"{self.log_stream(source)}{start_byte:012d}.log"

    def log_starts(self, source: str, chunks: Iterable[str]) -> list[int]:
        """The byte at which each of these chunks of a log starts, ascending; what is none is passed over."""
        names = (key.removeprefix(self.log_stream(source)).removesuffix(".log") for key in chunks)
        return sorted(int(name) for name in names if name.isdecimal())

    @property
    def metrics(self) -> str:
        return f"{self.root}/metrics/"

    def metrics_chunk(self, sequence: int) -> str:
        """A chunk never changes; there is none without all those before it."""
        return f"{self.metrics}{sequence:06d}.jsonl"


@dataclass(frozen=True, slots=True)
class JobKeys:
    """One job."""

    job_id: str

    @property
    def root(self) -> str:
        return f"jobs/{self.job_id}"

    @property
    def spec(self) -> str:
        return f"{self.root}/spec.json"

    @property
    def record(self) -> str:
        """What the service knows of the job, so that its database can be rebuilt."""
        return f"{self.root}/job.json"

    @property
    def origin(self) -> str:
        """The checkpoint of another job that this one starts from; only a fork has it."""
        return f"{self.root}/origin.json"

    @property
    def dataset(self) -> str:
        """The manifest of the image set it learns from, so that later attempts need not import again."""
        return f"{self.root}/dataset.json"

    @property
    def source(self) -> str:
        """The checkpoint, or file of weights, that a sample or evaluation job draws from, resolved once."""
        return f"{self.root}/source.json"

    @property
    def attempts(self) -> str:
        return f"{self.root}/attempts/"

    @property
    def checkpoints(self) -> str:
        return f"{self.root}/checkpoints/"

    @property
    def pins(self) -> str:
        """Under it, the name of each checkpoint that another job starts from or looks at, so that it is kept."""
        return f"{self.root}/pins/"

    @property
    def samples(self) -> str:
        return f"{self.root}/samples/"

    @property
    def pieces(self) -> str:
        """Under it, what a job that is not a training has done so far, each piece once."""
        return f"{self.root}/pieces/"

    def brought(self, url: str) -> str:
        """A file of the web, as it was when the job began; beside the pieces, with which it goes."""
        return f"{self.pieces}brought-{sha256(url.encode()).hexdigest()}"

    @property
    def results(self) -> str:
        """Under it, the files that such a job is run for; the last one written is `result.json`."""
        return f"{self.root}/results/"

    @property
    def evaluations(self) -> str:
        """Under it, what evaluation jobs have found of this job's checkpoints."""
        return f"{self.root}/evaluations/"

    @property
    def exports(self) -> str:
        """Under it, the models that were handed over to a registry."""
        return f"{self.root}/exports/"

    def export(self, images_seen: int, average: str) -> str:
        """The folder of one of them."""
        return f"{self.exports}{images_seen:012d}-{average}/"

    def evaluation(self, images_seen: int, attempt: int, job_id: str) -> str:
        return f"{self.evaluations}{_checkpoint_name(images_seen, attempt)}/{job_id}.json"

    def piece(self, name: str) -> str:
        return f"{self.pieces}{name}.safetensors"

    def attempt(self, number: int) -> AttemptKeys:
        return AttemptKeys(f"{self.attempts}{number:04d}")

    @staticmethod
    def attempt_numbers(folders: Iterable[str]) -> list[int]:
        """Of the attempts that have these folders, ascending; what is none is passed over."""
        return sorted(int(name) for name in folders if name.isdecimal())

    def checkpoint(self, images_seen: int, attempt: int) -> str:
        """A folder; names sort by images seen, then by attempt."""
        return f"{self.checkpoints}{_checkpoint_name(images_seen, attempt)}/"

    def checkpoints_at(self, images_seen: int) -> str:
        """What the folders of all checkpoints at so many images begin with: several attempts may have left one."""
        return f"{self.checkpoints}{images_seen:012d}-"

    @staticmethod
    def committed(keys: Iterable[str]) -> list[str]:
        """The folders of those checkpoints whose manifest is among these keys, in their order."""
        return [key.removesuffix(MANIFEST) for key in keys if key.endswith(f"/{MANIFEST}")]

    def of_checkpoint(self, folder: str) -> tuple[int, int]:
        """The images seen and the attempt of a checkpoint's folder."""
        images_seen, _, attempt = folder.removeprefix(self.checkpoints).rstrip("/").partition("-")
        return int(images_seen), int(attempt)

    def pin(self, images_seen: int, attempt: int, job_id: str | None = None) -> str:
        """For good, or until the job of this id is done with the checkpoint."""
        return f"{self.pins}{_checkpoint_name(images_seen, attempt)}{f'.{job_id}' if job_id else ''}"

    def holder(self, pin: str) -> str:
        """The id of the job that a pin is for; empty: it is for good."""
        return pin.removeprefix(self.pins).partition(".")[2]

    def sample(self, images_seen: int) -> str:
        return f"{self.samples}{images_seen:012d}.png"

    def sampled_images(self, keys: Iterable[str]) -> list[int]:
        """Images seen at each of these sample grids, ascending; what is none is passed over."""
        names = (key.removeprefix(self.samples).removesuffix(".png") for key in keys if key.endswith(".png"))
        return sorted(int(name) for name in names if name.isdecimal())


@dataclass(frozen=True, slots=True)
class UploadKeys:
    """A file that a client sends, in parts."""

    upload_id: str

    @property
    def root(self) -> str:
        return f"{UPLOADS}{self.upload_id}/"

    @property
    def record(self) -> str:
        return f"{self.root}upload.json"

    @property
    def parts(self) -> str:
        return f"{self.root}parts/"

    def part(self, number: int) -> str:
        return f"{self.parts}{number:06d}"

    @property
    def jobs(self) -> str:
        """Under it, the id of each job that reads it: until they have ended it stays."""
        return f"{self.root}jobs/"


def _checkpoint_name(images_seen: int, attempt: int) -> str:
    return f"{images_seen:012d}-{attempt:04d}"


def rank_log(rank: int) -> str:
    """The source of a worker's log."""
    return f"rank-{rank:04d}"


def unwanted_dataset(digest: str) -> str:
    """There while an image set is to be removed, as soon as nobody can be about to read or write it."""
    return f"{UNWANTED}{digest}"


def dataset_folder(digest: str) -> str:
    return f"datasets/{digest}/"


def dataset_features(digest: str, fingerprint: str) -> str:
    """Under it, the features of an image set in one feature space, in pieces."""
    return f"{dataset_folder(digest)}features/{fingerprint}/"


def is_job_id(name: str) -> bool:
    return _JOB_ID.fullmatch(name) is not None


def split_spec_url(url: str) -> tuple[str, str] | None:
    """The store and the job id of `<store>/jobs/<job id>/spec.json`; None for any other place."""
    match = _SPEC_URL.match(url)
    return (match["store"], match["job_id"]) if match else None
