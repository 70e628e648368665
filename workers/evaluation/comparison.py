"""Two trainings beside each other, per image seen and per second of work. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import stdev

import numpy as np

from workers.contract.comparing import Pair, Side
from workers.contract.curves import LOWER_IS_BETTER, EvaluationProtocol, is_alike, protocol_of_measure
from workers.contract.evaluation import Evaluation, Measure
from workers.contract.records import CheckpointRef

_T_975 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # of 1, 2 ... degrees of freedom


@dataclass(frozen=True, slots=True)
class Training:
    """A training: its rows of metrics by images seen, its workers, and what evaluations have found of it."""

    job_id: str
    workers: int
    rows: Mapping[int, Mapping[str, float]]
    evaluations: Sequence[Evaluation]
    origin: CheckpointRef | None = None  # of a fork
    devices: frozenset[str] = frozenset()  # that drew its noise: models of GPU, or CPU
    codes: frozenset[str] = frozenset()  # digests of the code that trained it
    name: str | None = None  # for people

    @property
    def seconds(self) -> dict[int, float]:
        """Worker-seconds of its own steps up to each row, if all its workers were there all the time.

        What restarts and checkpoints took is not in it.
        """
        begin = self.origin.images_seen if self.origin else 0
        total = 0.0
        spent = {begin: total}
        for before, after in pairwise([begin, *sorted(self.rows)]):
            rate = self.rows[after].get("throughput/images_per_second", 0.0)
            total += self.workers * (after - before) / rate if rate else 0.0
            spent[after] = total
        return spent

    @property
    def side(self) -> Side:
        images, seconds = max(self.rows, default=0), max(self.seconds.values())
        own = images - min(self.seconds)
        rate = 1e6 * seconds / own if own else 0.0
        return Side(
            job_id=self.job_id,
            name=self.name,
            images_seen=images,
            worker_seconds=seconds,
            microseconds_per_image=rate,
        )


@dataclass(frozen=True, slots=True)
class MetricCurve:
    """One measure along a training; curves that were measured in the same way compare."""

    images: tuple[int, ...]
    seconds: tuple[float, ...]
    measures: tuple[Measure, ...]
    protocol: EvaluationProtocol


def metric_curves(training: Training, like: Evaluation) -> dict[str, MetricCurve]:
    """The measures of all evaluations that were made like this one, but of other checkpoints.

    Of a measure that they have taken in various ways, in that of the last one.
    """
    same = [each for each in training.evaluations if is_alike(each, like)]
    names = dict.fromkeys(name for each in same for name in each.measures)
    return {
        name: _metric_curve(name, [each for each in same if name in each.measures], training.seconds) for name in names
    }


def _metric_curve(name: str, having: Sequence[Evaluation], seconds: Mapping[int, float]) -> MetricCurve:
    protocol = protocol_of_measure(name, max(having, key=lambda each: (each.checkpoint.images_seen, each.ended_at)))
    alike = [each for each in having if protocol_of_measure(name, each) == protocol]
    latest = {each.checkpoint.images_seen: each.measures[name] for each in alike}
    images = tuple(sorted(latest))
    spent = tuple(_interpolated(seen, seconds) for seen in images)
    return MetricCurve(images, spent, tuple(latest[seen] for seen in images), protocol)


def shared(job: Mapping[str, MetricCurve], control: Mapping[str, MetricCurve]) -> list[str]:
    """Measures that both have, in the same way."""
    return [name for name in job if name in control and job[name].protocol == control[name].protocol]


def pairs(job: Mapping[str, MetricCurve], control: Mapping[str, MetricCurve]) -> Iterator[Pair]:
    """Every measure that they share: at equal images, and the last that the control's seconds reach."""
    for name in shared(job, control):
        ours, theirs = job[name], control[name]
        for seen, measure in zip(ours.images, ours.measures, strict=True):
            if seen in theirs.images:
                yield _pair(name, "images", seen, measure, float(seen), theirs.measures[theirs.images.index(seen)])
        reached = [
            number for number, spent in enumerate(ours.seconds) if theirs.seconds[0] <= spent <= theirs.seconds[-1]
        ]
        if reached and len(theirs.seconds) > 1:
            last = reached[-1]
            images, measure = _at_seconds(theirs, ours.seconds[last])
            yield _pair(name, "seconds", ours.images[last], ours.measures[last], images, measure)


def conclusions(job: Side, control: Side, found: Sequence[Pair]) -> list[str]:
    """What the numbers say in words; the words are chosen by the numbers."""
    ratio = job.microseconds_per_image / control.microseconds_per_image if control.microseconds_per_image else math.nan
    said = [f"An image takes {ratio:.2f} times the control's work."]
    for at, where in (("images", "equal images"), ("seconds", "equal work")):
        for name in dict.fromkeys(pair.measure for pair in found):
            if name.startswith(LOWER_IS_BETTER):
                last = [pair for pair in found if pair.measure == name and pair.at == at][-1:]
                said += [f"At {where}, {name} is {_verdict(pair)}." for pair in last]
    return [
        *said,
        "Intervals say how sure these evaluations are of these two trainings; other seeds may differ by more.",
    ]


def _verdict(pair: Pair) -> str:
    change = f"{pair.job:.4g} against {pair.control:.4g}"
    if pair.low is None or pair.high is None:
        return f"{'lower' if pair.difference < 0 else 'higher'} ({change}; one block does not say how sure)"
    interval = f"{change}; difference {pair.difference:.3g}, 95 % between {pair.low:.3g} and {pair.high:.3g}"
    if pair.low <= 0 <= pair.high:
        return f"not different beyond the evaluations' own chance ({interval})"
    return f"{'lower' if pair.high < 0 else 'higher'} ({interval})"


def _pair(name: str, at: str, seen: int, ours: Measure, control_seen: float, theirs: Measure) -> Pair:
    difference = ours.value - theirs.value
    margin = _margin(ours, theirs)
    low, high = (None, None) if margin is None else (difference - margin, difference + margin)
    return Pair.model_validate(
        {
            "measure": name,
            "at": at,
            "images_seen": seen,
            "control_images_seen": control_seen,
            "job": ours.value,
            "control": theirs.value,
            "difference": difference,
            "low": low,
            "high": high,
        }
    )


def _margin(ours: Measure, theirs: Measure) -> float | None:
    """Half of a difference's 95 % interval; None: there are not two shares of both.

    Both drew from the same seeds, and looked at the same images with the same noise. What that does to both alike is in
    no difference of their shares. Where they did not, the interval holds as well, and is only wider.
    """
    a, b = _shares(ours), _shares(theirs)
    if len(a) != len(b) or len(a) < 2:
        return None
    apart = [one - other for one, other in zip(a, b, strict=True)]
    return _quantile(len(apart) - 1) * stdev(apart) / math.sqrt(len(apart))


def _shares(measure: Measure) -> tuple[float, ...]:
    return measure.shares or measure.blocks


def _quantile(freedom: int) -> float:
    """Of Student's t at 97.5 %, within 0.2 % (from ten degrees on, Abramowitz & Stegun 26.7.5)."""
    return _T_975[freedom - 1] if freedom <= len(_T_975) else 1.960 + 2.372 / freedom + 2.823 / freedom**2


def _at_seconds(curve: MetricCurve, seconds: float) -> tuple[float, Measure]:
    """Images seen, and the measure between two evaluations, share by share, on a straight line over their logarithm.

    Learning slows down: on a straight line over the seconds themselves, as images are, the control would seem worse.
    """
    after = next(number for number, spent in enumerate(curve.seconds) if spent >= seconds)
    before = max(after - 1, 0)
    first, last = curve.seconds[before], curve.seconds[after]
    if first <= 0 or first == last:  # an evaluation of what training started from, or the very one
        fraction = seconds / last if last else 1.0
    else:
        fraction = math.log(seconds / first) / math.log(last / first)

    def between(a: float, b: float) -> float:
        return a + fraction * (b - a)

    a, b = curve.measures[before], curve.measures[after]
    alike = len(_shares(a)) == len(_shares(b))
    shares = tuple(map(between, _shares(a), _shares(b))) if alike else ()
    images = float(np.interp(seconds, curve.seconds, curve.images))
    return images, Measure(value=between(a.value, b.value), shares=shares)


def _interpolated(images: int, seconds: Mapping[int, float]) -> float:
    return float(np.interp(images, list(seconds), list(seconds.values())))
