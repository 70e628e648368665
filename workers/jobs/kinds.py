"""What each kind of job does: first in one process, then in all of its workers."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, assert_never

from workers.contract.comparing import CompareSpec
from workers.contract.evaluation import EvaluateSpec
from workers.contract.importing import ImportSpec
from workers.contract.jobs import AnySpec
from workers.contract.keys import JobKeys
from workers.contract.records import Phase
from workers.contract.sampling import Drawing, SampleSpec
from workers.contract.spec import TrainSpec
from workers.data.fetching import OnBytes
from workers.jobs.compare import run_compare
from workers.jobs.evaluate import prepare_evaluation, run_evaluation
from workers.jobs.importing import run_import
from workers.jobs.sample import prepare_sampling, run_sampling
from workers.jobs.train import prepare_training
from workers.sampling.pieces import PieceRunner
from workers.sampling.watched_work import is_done, watched_work
from workers.storage import ObjectStore, open_store
from workers.training.loop import run_training
from workers.training.run import Ending, Run, RunRequests
from workers.training.world import World

Spec = TypeVar("Spec", SampleSpec, EvaluateSpec, ImportSpec, CompareSpec)


class Work(Protocol):
    """What every worker does, together with the others of its world.

    `poll_requests` is asked every few seconds whether to leave; `on_hang` gets the stacks of a hung worker.
    """

    def __call__(
        self, run: Run, world: World, *, poll_requests: Callable[[], RunRequests], on_hang: Callable[[str], object]
    ) -> Ending: ...


def _watched(phase: Phase, kind: type[Spec], work: Callable[[Run, Spec, PieceRunner], Ending]) -> Work:
    """Work that is no training. What has been drawn and measured by an earlier attempt is not done again."""

    def run_watched(
        run: Run, world: World, *, poll_requests: Callable[[], RunRequests], on_hang: Callable[[str], object]
    ) -> Ending:
        store = open_store(run.store_url)
        spec = kind.model_validate_json(store.get(run.keys.spec))
        if isinstance(spec, Drawing) and is_done(run, world, store):
            return Ending(spec.total_images)
        with watched_work(
            run, world, store, spec.compute, phase=phase, poll_requests=poll_requests, on_hang=on_hang
        ) as runner:
            return work(run, spec, runner)

    return run_watched


WORK: Mapping[str, Work] = {
    "train": run_training,
    "sample": _watched("sampling", SampleSpec, run_sampling),
    "evaluate": _watched("evaluating", EvaluateSpec, run_evaluation),
    "import": _watched("importing", ImportSpec, run_import),
    "compare": _watched("evaluating", CompareSpec, run_compare),
}


def prepare(spec: AnySpec, keys: JobKeys, store: ObjectStore, *, on_bytes: OnBytes) -> None:
    """Do, and refuse, whatever can be before any worker starts.

    That may take long: `on_bytes` hears of what comes; it may raise to end this.
    """
    match spec:
        case TrainSpec():
            prepare_training(spec, keys, store, on_bytes=on_bytes)
        case SampleSpec():
            prepare_sampling(spec, keys, store, on_bytes=on_bytes)
        case EvaluateSpec():
            prepare_evaluation(spec, keys, store, on_bytes=on_bytes)
        case ImportSpec() | CompareSpec():
            pass
        case _:
            assert_never(spec)
