"""Which files a job document names, beside its data set."""

from typing import assert_never

from workers.contract.comparing import CompareSpec
from workers.contract.evaluation import EvaluateSpec
from workers.contract.features import Features, Inception
from workers.contract.importing import ImportSpec
from workers.contract.jobs import AnySpec
from workers.contract.sampling import Drawing, Inpainting, SampleSpec
from workers.contract.spec import TrainSpec

INITIAL_WEIGHTS, WEIGHTS = "/initial_weights", "/weights"


def files_of(spec: AnySpec) -> dict[str, str]:
    """Where each of them lies, by the JSON pointer of its field."""
    match spec:
        case TrainSpec(initial_weights=str(weights)):
            return {INITIAL_WEIGHTS: weights}
        case SampleSpec(inpainting=Inpainting(image=image, mask=mask)):
            return _weights(spec) | {"/inpainting/image": image, "/inpainting/mask": mask}
        case SampleSpec():
            return _weights(spec)
        case EvaluateSpec():
            return _weights(spec) | measuring_files(spec.features, spec.reference)
        case TrainSpec() | ImportSpec() | CompareSpec():
            return {}
        case _:
            assert_never(spec)


def _weights(drawing: Drawing) -> dict[str, str]:
    return {WEIGHTS: drawing.weights} if drawing.weights else {}


def measuring_files(features: Features, reference: str | None) -> dict[str, str]:
    """Of an evaluation, or of all that follow a training."""
    named = {"/features/weights": features.weights} if isinstance(features, Inception) else {}
    return named | ({"/reference": reference} if reference else {})
