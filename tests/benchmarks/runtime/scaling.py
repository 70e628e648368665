"""What two workers get done of what one does twice."""

from statistics import median

from tests.benchmarks.runtime.engines import IMAGES_A_STEP, training_spec
from tests.benchmarks.runtime.figures import Aim, Section, interleaved, spread
from tests.benchmarks.runtime.jobs import Place, place
from workers.contract.spec import TrainSpec

_LIMIT = 0.9
_STEPS = 28

_HOW = """\
Weak scaling: each worker has {share} images a step of the quick start's preset and one thread, whether there is one
or two, so one worker trains on batches half as large. Two are joined by `torch.distributed.run`; rates are read as
above. Efficiency is the rate of two divided by twice the rate of one. For comparison, two independent one-worker jobs
run at the same time: what they together lack of twice one is lost to the machine (memory, clock rates, S3 server),
not to DDP."""


def scaling(repeats: int) -> Section:
    one, two = training_spec(workers=1, steps=_STEPS), training_spec(workers=2, steps=_STEPS)
    with place() as where:
        variants = {
            "one": lambda: _rate(where, one),
            "two joined": lambda: _rate(where, two),
            "two apart": lambda: _rate(where, one, jobs=2),
        }
        found = interleaved(variants, repeats=repeats)
    joined, apart = (
        [rate / (2 * alone) for rate, alone in zip(found[name], found["one"], strict=True)]
        for name in ("two joined", "two apart")
    )
    of_apart = [rate / other for rate, other in zip(found["two joined"], found["two apart"], strict=True)]
    return Section(
        "Two workers beside one",
        _HOW.format(share=IMAGES_A_STEP),
        repeats,
        ["workers", "images a second", "efficiency", "of two apart"],
        [
            ["one", spread(found["one"], ".1f"), "", ""],
            ["two joined by DDP", spread(found["two joined"], ".1f"), spread(joined), spread(of_apart)],
            ["two apart", spread(found["two apart"], ".1f"), spread(apart), ""],
        ],
        [Aim("two workers do at least 0.9 of twice what one does", median(joined) >= _LIMIT, spread(joined))],
    )


def _rate(where: Place, spec: TrainSpec, *, jobs: int = 1) -> float:
    """Of so many jobs at once, together."""
    placed = [where.job(spec) for _ in range(jobs)]
    where.run(*placed, processes=spec.compute.workers)
    return sum(job.rate() for job in placed)
