"""The words that webhooks choose by."""

from typing import get_args

import pytest
from pydantic import ValidationError

from service.jobs.lifecycle import EventType, JobState
from service.webhooks.views import StateName, WebhookCreate
from workers.contract.document import problems_of


def test_every_state_and_every_known_type_of_event_can_be_chosen() -> None:
    types = set(get_args(EventType))

    assert set(get_args(StateName)) == set(JobState)
    assert not types & set(JobState)


def test_other_words_are_refused_by_their_place() -> None:
    with pytest.raises(ValidationError) as refused:
        WebhookCreate.model_validate_json('{"url": "https://x.test", "event_types": ["failed", "exploded"]}')

    [problem] = problems_of(refused.value)
    assert problem.pointer == "/event_types/1"
    assert problem.message == "there is no such type of event, and no such state"


def test_a_word_that_is_misspelt_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ValidationError) as refused:
        WebhookCreate.model_validate_json('{"url": "https://x.test", "event_types": ["succeded"]}')

    [problem] = problems_of(refused.value)
    assert problem.message.endswith("; did you mean succeeded?")
