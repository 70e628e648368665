"""The words that webhooks choose by."""

from typing import get_args

import pytest
from pydantic import ValidationError

from service.jobs import records, usecases
from service.jobs.lifecycle import JobState
from service.webhooks.views import MOVES, EventType, StateName, WebhookCreate


def test_every_state_and_every_known_type_of_event_can_be_chosen() -> None:
    types = set(get_args(EventType))

    assert set(get_args(StateName)) == set(JobState)
    assert not types & set(JobState)
    assert set(MOVES) <= types
    assert set(usecases._EVENTS.values()) <= types
    assert {word for pair in records._CONDITION_EVENTS.values() for word in pair} <= types


def test_other_words_are_refused_by_their_place() -> None:
    with pytest.raises(ValidationError) as refused:
        WebhookCreate.model_validate_json('{"url": "https://x.test", "event_types": ["failed", "exploded"]}')

    assert {detail["loc"][:2] for detail in refused.value.errors()} == {("event_types", 1)}
