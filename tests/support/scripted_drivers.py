"""Drivers of a scripted Ray: what `python -m workers` does to the object store, action by action, without training."""

from collections import Counter, defaultdict
from datetime import UTC, datetime

from service.cluster.base import Resources
from tests.support.scenarios import DEFAULT_ACTIONS, Scenario
from tests.support.scripted_ray import Call, CallName, Fault, Job, ScriptedRay
from tests.support.worker import Worker
from workers.contract.records import Claim
from workers.storage import ObjectStore

_AT = datetime(2026, 11, 1, tzinfo=UTC)
_CLAIM_IS_TAKEN = 86
_STOPS_SURVIVED = 2


def job_id(number: int) -> str:
    """Of the job of a scenario; ids of other tests look alike."""
    return f"job_0000000000000000000000000{number}"


class ScriptedDrivers:
    """All drivers of one scenario. They outlive the service.

    Attributes:
        claims: how often the driver of each submission got its claim.
        overlapping_attempts: those that got their claim while another one of their job, with a claim, ran.
    """

    def __init__(self, scenario: Scenario, ray: ScriptedRay, store: ObjectStore) -> None:
        self.claims: Counter[str] = Counter()
        self.overlapping_attempts: list[str] = []
        self._scenario = scenario
        self._ray = ray
        self._store = store
        self._num_done: Counter[str] = Counter()
        self._stops: Counter[str] = Counter()
        self._have_claims: list[Job] = []
        self._images: defaultdict[str, int] = defaultdict(int)
        ray.starts_at_once, ray.stops_at_once = not scenario.pending, False
        ray.on_start, ray.on_stop, ray.script = self._on_start, self._on_stop, self._on_call
        ray.total = Resources(cpus=2.0, gpus=0.0)
        for fault, call in scenario.faults:
            ray.fault(fault, call)

    def _on_call(self, call: Call) -> Fault | None:
        """The engine is asked for one: it takes its next action first."""
        submission_id = call.submission_id or ""
        job = self._ray.jobs.get(submission_id)
        if job is None:
            return None
        if call.name is CallName.FIND and not job.status.is_terminal:
            self._advance(job)
        if call.name is CallName.STOP:
            self._stops[submission_id] += 1
            if self._stops[submission_id] > _STOPS_SURVIVED:
                self._stopped_again(job)
        return None

    def _advance(self, job: Job) -> None:
        actions = self._scenario.actions.get(_job_and_attempt(job), DEFAULT_ACTIONS)
        done = self._num_done[job.submission_id]
        if done < len(actions):
            self._num_done[job.submission_id] += 1
            if actions[done] == "start" or job.is_running:
                self._act(actions[done], job)

    def _act(self, action: str, job: Job) -> None:
        submission_id, worker = job.submission_id, self._worker(job)
        match action:
            case "start":
                self._ray.start(submission_id)
            case "claim":
                self._claim(job)
            case "train" | "heartbeat" | "heartbeat without progress":
                job.holds = Resources(cpus=2.0, gpus=0.0)
                self._images[submission_id] += 32 * (action != "heartbeat without progress")
                at = _AT.replace(microsecond=self._num_done[submission_id])
                worker.progress(at=at, images_seen=self._images[submission_id])
            case "succeed":
                worker.outcome("succeeded", at=_AT)
                self._ray.succeed(submission_id)
            case "fail":
                worker.outcome("failed", at=_AT, reason="data_error", message="3 images cannot be read")
                self._ray.fail(submission_id)
            case "crash":
                self._ray.fail(submission_id, message="Job entrypoint command failed with exit code 137")
            case _:
                self._act_for_engine(action, submission_id)

    def _act_for_engine(self, action: str, submission_id: str) -> None:
        """What is not the driver's own doing."""
        match action:
            case "appear failed":
                self._ray.false_failed(submission_id)
            case "appear running":
                self._ray.clear_faults()
                self._ray.script = self._on_call
            case "be forgotten":
                self._ray.forget()
            case "wait":
                pass
            case _:
                raise LookupError(action)

    def _claim(self, job: Job) -> None:
        claim = Claim(host="driver", pid=1, claimed_at=_AT).model_dump_json().encode()
        if self._store.put_if_absent(self._worker(job).keys.claim, claim):
            self._have_claims.append(job)
            self.claims[job.submission_id] += 1
            job_name = job_id(_job_and_attempt(job)[0])
            rivals = {one for one in self._ray.running if one.startswith(job_name) and self.claims[one]}
            self.overlapping_attempts += sorted(rivals - {job.submission_id})
        else:
            self._ray.fail(job.submission_id, message=f"exit code {_CLAIM_IS_TAKEN}")

    def _on_start(self, job: Job) -> None:
        job.printed.append(f"running {job.submission_id}\n")

    def _on_stop(self, job: Job) -> None:
        if self._scenario.on_stop == "ignore":
            return
        if self._scenario.on_stop == "leave" and any(job is one for one in self._have_claims):
            self._worker(job).outcome("stopped", at=_AT, message="left a checkpoint")
        self._ray.stopped(job.submission_id)

    def _stopped_again(self, job: Job) -> None:
        """What the engine does to one that would not leave, and to one that it had forgotten to start."""
        if job.is_running:
            self._ray.stopped(job.submission_id)
        elif not job.status.is_terminal and self._is_late(job):
            self._ray.start(job.submission_id)
            self._claim(job)

    def _is_late(self, job: Job) -> bool:
        """It was to wait, or was submitted once more when its actions were over: the engine gets to it in the end."""
        actions = self._scenario.actions.get(_job_and_attempt(job), DEFAULT_ACTIONS)
        return actions == ("wait",) or self._num_done[job.submission_id] >= len(actions)

    def _worker(self, job: Job) -> Worker:
        number, attempt = _job_and_attempt(job)
        return Worker(self._store, job_id(number), attempt)


def _job_and_attempt(job: Job) -> tuple[int, int]:
    """The number of the job in its scenario, and of the attempt."""
    name, _, attempt = job.submission_id.rpartition("-a")
    return int(name[-1]), int(attempt)
