"""Drivers of a scripted Ray: what `python -m workers` does to the object store, act by act, without training."""

from collections import Counter, defaultdict
from datetime import UTC, datetime

from service.cluster.base import Resources
from tests.support.scripted_ray import Call, CallName, Fault, Job, ScriptedRay
from tests.support.stories import LIFE, Story
from tests.support.worker import Worker
from workers.contract.records import Claim
from workers.storage import ObjectStore

_AT = datetime(2026, 11, 1, tzinfo=UTC)
_CLAIM_IS_TAKEN = 86
_STOPS_SURVIVED = 2


def job_id(number: int) -> str:
    """Of the job of a story; ids of other tests look alike."""
    return f"job_0000000000000000000000000{number}"


class Drivers:
    """All drivers of one story. They outlive the service.

    Attributes:
        worked: submissions whose driver got its claim, by how often.
        side_by_side: attempts that got their claim while another one of their job, with a claim, ran.
    """

    def __init__(self, story: Story, ray: ScriptedRay, store: ObjectStore) -> None:
        self.worked: Counter[str] = Counter()
        self.side_by_side: list[str] = []
        self._story = story
        self._ray = ray
        self._store = store
        self._acts_done: Counter[str] = Counter()
        self._stops: Counter[str] = Counter()
        self._have_claims: list[Job] = []
        self._images: defaultdict[str, int] = defaultdict(int)
        ray.starts_at_once, ray.stops_at_once = not story.pending, False
        ray.on_start, ray.on_stop, ray.script = self._started, self._told_to_leave, self._asked
        ray.total = Resources(cpus=2.0, gpus=0.0)
        for fault, call in story.faults:
            ray.fault(fault, call)

    def _asked(self, call: Call) -> Fault | None:
        """The engine is asked for one: it takes its next act first."""
        submission_id = call.submission_id or ""
        job = self._ray.jobs.get(submission_id)
        if job is None:
            return None
        if call.name is CallName.FIND and not job.status.is_terminal:
            self._live_on(job)
        if call.name is CallName.STOP:
            self._stops[submission_id] += 1
            if self._stops[submission_id] > _STOPS_SURVIVED:
                self._stopped_again(job)
        return None

    def _live_on(self, job: Job) -> None:
        number, attempt = _names(job)
        life = self._story.lives.get((number, attempt), LIFE)
        done = self._acts_done[job.submission_id]
        if done < len(life):
            self._acts_done[job.submission_id] += 1
            if life[done] == "start" or job.lives:
                self._act(life[done], job)

    def _act(self, act: str, job: Job) -> None:
        submission_id, worker = job.submission_id, self._worker(job)
        match act:
            case "start":
                self._ray.start(submission_id)
            case "claim":
                self._claim(job)
            case "train" | "beat" | "beat without getting on":
                job.holds = Resources(cpus=2.0, gpus=0.0)
                self._images[submission_id] += 32 * (act != "beat without getting on")
                beat = _AT.replace(microsecond=self._acts_done[submission_id])
                worker.progress(at=beat, images_seen=self._images[submission_id])
            case "succeed":
                worker.outcome("succeeded", at=_AT)
                self._ray.succeed(submission_id)
            case "fail":
                worker.outcome("failed", at=_AT, reason="data_error", message="3 images cannot be read")
                self._ray.fail(submission_id)
            case "die":
                self._ray.fail(submission_id, message="Job entrypoint command failed with exit code 137")
            case _:
                self._befall(act, submission_id)

    def _befall(self, act: str, submission_id: str) -> None:
        """What is not the driver's own doing."""
        match act:
            case "lie":
                self._ray.false_failed(submission_id)
            case "heal":
                self._ray.heal()
                self._ray.script = self._asked
            case "vanish":
                self._ray.forget()
            case "wait":
                pass
            case _:
                raise LookupError(act)

    def _claim(self, job: Job) -> None:
        claim = Claim(host="driver", pid=1, claimed_at=_AT).model_dump_json().encode()
        if self._store.put_if_absent(self._worker(job).keys.claim, claim):
            self._have_claims.append(job)
            self.worked[job.submission_id] += 1
            rivals = {one for one in self._ray.living if one.startswith(job_id(_names(job)[0])) and self.worked[one]}
            self.side_by_side += sorted(rivals - {job.submission_id})
        else:
            self._ray.fail(job.submission_id, message=f"exit code {_CLAIM_IS_TAKEN}")

    def _started(self, job: Job) -> None:
        job.printed.append(f"running {job.submission_id}\n")

    def _told_to_leave(self, job: Job) -> None:
        if self._story.on_stop == "ignore":
            return
        if self._story.on_stop == "leave" and any(job is one for one in self._have_claims):
            self._worker(job).outcome("stopped", at=_AT, message="left a checkpoint")
        self._ray.stopped(job.submission_id)

    def _stopped_again(self, job: Job) -> None:
        """What the engine does to one that would not leave, and to one that it had forgotten to start."""
        if job.lives:
            self._ray.stopped(job.submission_id)
        elif not job.status.is_terminal and self._is_late(job):
            self._ray.start(job.submission_id)
            self._claim(job)

    def _is_late(self, job: Job) -> bool:
        """It was to wait, or was submitted once more when its life was over: the engine gets to it in the end."""
        life = self._story.lives.get(_names(job), LIFE)
        return life == ("wait",) or self._acts_done[job.submission_id] >= len(life)

    def _worker(self, job: Job) -> Worker:
        number, attempt = _names(job)
        return Worker(self._store, job_id(number), attempt)


def _names(job: Job) -> tuple[int, int]:
    """The number of the job in its story, and of the attempt."""
    name, _, attempt = job.submission_id.rpartition("-a")
    return int(name[-1]), int(attempt)
