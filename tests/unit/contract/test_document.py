"""What is wrong with a document is told together with its field, wherever it was found out."""

import pickle

import pytest

from workers.contract.document import SpecError, in_field


def test_a_field_is_told_by_all_who_know_a_part_of_it() -> None:
    with pytest.raises(SpecError) as refused, in_field("checkpoint"), in_field("job_id"):
        raise SpecError("there is none")

    assert (refused.value.field, refused.value.reason) == ("checkpoint.job_id", "there is none")
    assert str(refused.value) == "checkpoint.job_id: there is none"


def test_without_a_field_there_is_the_reason_only() -> None:
    assert str(SpecError("there is none")) == "there is none"


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(KeyError), in_field("checkpoint"):
        raise KeyError("a mistake of ours")


def test_workers_hand_it_on_whole() -> None:
    assert str(pickle.loads(pickle.dumps(SpecError("there is none", field="weights")))) == "weights: there is none"  # noqa: S301 - our own
