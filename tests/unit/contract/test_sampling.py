"""Documents of sample jobs: what they leave open is as in the training."""

import pytest

from workers.contract.model import Churn, Sampler, SamplerChanges
from workers.contract.presets import PRESETS
from workers.contract.sampling import SampleSpec, Subject

TRAINED = Sampler(method="heun", steps=256, sigma_min=0.02, sigma_max=100.0, churn=Churn(), guidance=2.0)
TRAINING = PRESETS["smoke"].model_copy(
    update={"sampler": TRAINED, "objective": PRESETS["smoke"].objective.model_copy(update={"label_dropout": 0.1})}
)


@pytest.mark.parametrize(
    ("changes", "drawn_with"),
    [
        (None, TRAINED),
        ({}, TRAINED),
        ({"steps": 40}, TRAINED.model_copy(update={"steps": 40})),
        ({"guidance": 1.0}, TRAINED.model_copy(update={"guidance": 1.0})),
        ({"churn": {"amount": 0.0}}, TRAINED.model_copy(update={"churn": Churn(amount=0.0)})),
        ({"method": "dpmpp_2m"}, TRAINED.model_copy(update={"method": "dpmpp_2m", "churn": None})),
        ({"method": "euler"}, TRAINED.model_copy(update={"method": "euler"})),
        (Sampler().model_dump() | {"churn": {"amount": 0.0}}, Sampler(churn=Churn(amount=0.0))),
    ],
)
def test_of_a_sampler_only_what_is_given_is_otherwise_than_in_the_training(
    changes: dict[str, object] | None, drawn_with: Sampler
) -> None:
    spec = SampleSpec.model_validate({"kind": "sample", "checkpoint": {"job_id": "job_1"}, "sampler": changes})

    assert spec.sampler_for(TRAINED) == drawn_with
    assert spec.problems_with(Subject.of("job_1", TRAINING, None)) == []


@pytest.mark.parametrize(
    ("changes", "interval"),
    [
        ({"guidance_interval": [0.2, 1.6]}, (0.2, 1.6)),
        ({"guidance": 3.0}, (0.1, 2.0)),
        ({"guidance": 1.0}, None),
    ],
)
def test_the_interval_of_guidance_is_the_trainings_unless_another_is_given_or_nothing_guides(
    changes: dict[str, object], interval: tuple[float, float] | None
) -> None:
    trained = TRAINED.model_copy(update={"guidance_interval": (0.1, 2.0)})

    assert SamplerChanges.model_validate(changes).applied_to(trained).guidance_interval == interval


@pytest.mark.parametrize(("guidance", "interval"), [(2.0, [1.6, 0.2]), (1.0, [0.2, 1.6])])
def test_an_interval_that_is_upside_down_or_of_no_guidance_is_refused(guidance: float, interval: list[float]) -> None:
    changes = {"guidance": guidance, "guidance_interval": interval}
    spec = SampleSpec.model_validate({"kind": "sample", "checkpoint": {"job_id": "job_1"}, "sampler": changes})

    (problem,) = spec.problems_with(Subject.of("job_1", TRAINING, None))

    assert problem.pointer == "/sampler/guidance_interval"


def test_what_does_not_go_with_the_trainings_sampler_is_named() -> None:
    spec = SampleSpec.model_validate(
        {"kind": "sample", "checkpoint": {"job_id": "job_1"}, "sampler": {"sigma_min": 100.0}}
    )

    (problem,) = spec.problems_with(Subject.of("job_1", TRAINING, None))

    assert problem.pointer == "/sampler/sigma_min"
    assert SamplerChanges(sigma_min=100.0) == spec.sampler
