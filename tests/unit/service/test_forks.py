"""Documents of forks: what may change, and how it is shown."""

import pytest

from service.errors import InvalidRequest
from service.jobs.forks import changes, forked_spec
from service.jobs.views import Change
from tests.support.jobs import SPEC
from workers.contract.merging import merged
from workers.contract.model import EDM
from workers.contract.spec import TrainSpec


def refused(overrides: dict[str, object], *, images_seen: int = 160) -> dict[str, str]:
    """Where it hurts, and why."""
    with pytest.raises(InvalidRequest) as caught:
        forked_spec(SPEC, overrides, images_seen=images_seen)
    return {problem.pointer: problem.code for problem in caught.value.problems}


def test_a_fork_without_changes_is_the_same_document() -> None:
    assert forked_spec(SPEC, {}, images_seen=160) == SPEC
    assert changes(SPEC, SPEC) == ()


def test_what_is_overridden_is_replaced_and_the_rest_kept_and_the_difference_shown() -> None:
    fork = forked_spec(SPEC, {"duration_images": 640, "objective": {"consistency": {"weight": 0.5}}}, images_seen=160)

    assert fork.optimizer == SPEC.optimizer
    assert changes(SPEC, fork) == (
        Change(pointer="/duration_images", before=320, after=640),
        Change(pointer="/objective/consistency/weight", before=1.0, after=0.5),
    )


def test_null_is_a_value_and_removes_what_may_be_absent() -> None:
    fork = forked_spec(SPEC, {"objective": {"consistency": None}}, images_seen=160)

    (change,) = changes(SPEC, fork)
    assert change.pointer == "/objective/consistency"
    assert change.after is None


@pytest.mark.parametrize(
    ("overrides", "problems"),
    [
        ({"network": {"channels": 16}}, {"/overrides/network": "fixed"}),
        ({"ema": {"halflife_images": 100}}, {"/overrides/ema": "fixed"}),
        ({"preconditioning": {"kind": "vp"}}, {"/overrides/preconditioning/kind": "fixed"}),
        ({"duration_images": 160}, {"/overrides/duration_images": "out_of_range"}),
        (
            {"network": {"channels": 16}, "duration_images": 32},
            {"/overrides/network": "fixed", "/overrides/duration_images": "out_of_range"},
        ),
    ],
)
def test_what_cannot_go_on_from_the_checkpoint_is_refused(
    overrides: dict[str, object], problems: dict[str, str]
) -> None:
    assert refused(overrides) == problems


def test_what_the_weights_were_preconditioned_with_stays_and_the_noise_they_are_trained_at_may_change() -> None:
    parent = SPEC.model_copy(update={"preconditioning": EDM(kind="edm", sigma_data=0.5)})

    with pytest.raises(InvalidRequest) as caught:
        forked_spec(parent, {"preconditioning": {"sigma_data": 0.3}}, images_seen=160)
    (problem,) = caught.value.problems

    assert (problem.pointer, problem.code) == ("/overrides/preconditioning/sigma_data", "fixed")
    assert "must stay 0.5" in problem.message
    noisier = forked_spec(parent, {"preconditioning": {"p_mean": -0.4, "p_std": 1.0}}, images_seen=160)
    assert noisier.preconditioning == EDM(kind="edm", sigma_data=0.5, p_mean=-0.4, p_std=1.0)


def test_a_longer_run_does_not_switch_a_term_off_that_the_checkpoint_has_learned_with_unless_it_is_told_to() -> None:
    parent = TrainSpec.model_validate(
        merged(SPEC.model_dump(mode="json"), {"objective": {"consistency": {"start": 0.25}}})
    )
    longer = {"duration_images": 1280}

    with pytest.raises(InvalidRequest) as caught:
        forked_spec(parent, longer, images_seen=160)
    (problem,) = caught.value.problems

    assert problem.pointer == "/overrides/objective/consistency/start"
    assert "until image 320" in problem.message
    assert "give 0.0625 for" in problem.message
    for start in (0.0625, 0.5):
        fork = forked_spec(parent, longer | {"objective": {"consistency": {"start": start}}}, images_seen=160)
        assert fork.objective.consistency is not None
        assert fork.objective.consistency.start == start
    assert forked_spec(parent, longer, images_seen=80).duration_images == 1280, "it had not learned with it yet"


def test_a_parent_that_is_done_must_be_given_more_to_do() -> None:
    assert refused({}, images_seen=320) == {"/overrides/duration_images": "out_of_range"}


def test_every_wrong_override_is_named_where_it_stands() -> None:
    problems = refused({"optimizer": {"learning_rate": -1}, "colour": "blue", "batch_images": "many"})

    assert set(problems) == {"/overrides/optimizer/learning_rate", "/overrides/colour", "/overrides/batch_images"}


@pytest.mark.parametrize("overrides", [{"optimizer": 3}, {"network": []}, {"dataset": None}, {"": {}}])
def test_nonsense_is_refused_like_anything_else(overrides: dict[str, object]) -> None:
    assert refused(overrides)
