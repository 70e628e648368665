"""What jobs have found, in words, for people."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from service.cli.text import optional, table
from workers.contract.comparing import Comparison
from workers.contract.curves import what_differs
from workers.contract.document import read_leniently
from workers.contract.evaluation import Evaluation, Measure, WeightsEvaluation
from workers.contract.importing import ImportReport
from workers.contract.sampling import ResolvedCheckpoint, ResolvedSource, Sampled


def result(kind: str, document: Mapping[str, Any]) -> str:
    """Of a `result.json`."""
    text = json.dumps(document)
    match kind:
        case "evaluate" if found := read_leniently(Evaluation, text) or read_leniently(WeightsEvaluation, text):
            return evaluation(found)
        case "sample" if drawn := read_leniently(Sampled, text):
            return _sampled(drawn)
        case "compare" if compared := read_leniently(Comparison, text):
            return "\n".join(compared.conclusions)
        case "import" if report := read_leniently(ImportReport, text):
            return _imported(report)
        case _:
            return json.dumps(document, indent=2)


def evaluation(found: Evaluation | WeightsEvaluation) -> str:
    """All of one."""
    repeated = any(measure.lowest is not None for measure in found.measures.values())
    head = ("MEASURE", "VALUE", "+-", "BY CHANCE", *optional("MIN", repeated))
    rows = [
        (name, *_cells(measure), *optional(_number(measure.lowest), repeated))
        for name, measure in found.measures.items()
    ]
    where = _network(found.checkpoint if isinstance(found, Evaluation) else found.weights)
    what = f"{found.repeats} x {found.num_images:,} images{_of_classes(found)}"
    how = f"{found.sampler.method} with {found.sampler.steps} steps"
    return (
        f"{where}\n{what}, {how}; features {found.features} {found.features_fingerprint[:12]}\n{table([head, *rows])}"
    )


def evaluations(found: Sequence[Evaluation]) -> str:
    """All of a training job, a row each, with a column for whatever they were not all measured alike by."""
    differing = what_differs(found)
    measured = _columns(found)
    head = ("IMAGES SEEN", "AVERAGE", "DRAWN", *differing, *measured, "JOB")
    rows = [
        (
            *(f"{each.checkpoint.images_seen:,}", each.checkpoint.average, f"{each.num_images:,}{_of_classes(each)}"),
            *(values[number] for values in differing.values()),
            *(cells[number] for cells in measured.values()),
            each.job_id,
        )
        for number, each in enumerate(found)
    ]
    return table([head, *rows])


def _columns(found: Sequence[Evaluation]) -> dict[str, list[str]]:
    """What was measured, a column for each measure, and one for the smallest of several blocks where there are some."""
    columns: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for each in found for name in each.measures):
        measures = [each.measures.get(name) for each in found]
        columns[name] = [measure.text if measure else "" for measure in measures]
        if any(lowest := [_number(measure.lowest if measure else None) for measure in measures]):
            columns[f"{name} MIN"] = lowest
    return columns


def _of_classes(found: Evaluation | WeightsEvaluation) -> str:
    match sorted({*(found.classes or ())}):
        case []:
            return ""
        case [one]:
            return f" of class {one}"
        case several:
            return f" of {len(several)} classes"


def _cells(measure: Measure) -> tuple[str, str, str]:
    error = f"{measure.standard_error:.2g}" if measure.standard_error is not None else ""
    return _number(measure.value), error, _number(measure.floor)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _sampled(drawn: Sampled) -> str:
    last = drawn.first_seed + drawn.num_images - 1
    source = drawn.checkpoint or drawn.weights
    where = f", drawn from {_network(source)}" if source else ""
    return f"{drawn.num_images:,} images of seeds {drawn.first_seed} to {last}{where}"


def _network(source: ResolvedSource) -> str:
    if isinstance(source, ResolvedCheckpoint):
        return f"{source.job_id} at {source.images_seen:,} images, {source.average}"
    return f"{source.location}, sha256 {source.sha256[:12]}"


def _imported(report: ImportReport) -> str:
    manifest = report.manifest
    size = f"{manifest.resolution} x {manifest.resolution} x {manifest.channels}"
    rows = [
        ("digest", manifest.digest),
        ("images", f"{manifest.num_images:,} of {size}, sigma_data {manifest.sigma_data:.3f}"),
        *(("class", f"{name}: {count:,}") for name, count in (report.images_per_class or {}).items()),
        ("left out", f"{report.num_left_out:,} images" if report.num_left_out else ""),
        *(("", f"{name!r} {reason}") for name, reason in list(report.left_out.items())[:20]),
        ("no images", f"{report.num_ignored_files:,} files" if report.num_ignored_files else ""),
    ]
    return table((name, value) for name, value in rows if value)
