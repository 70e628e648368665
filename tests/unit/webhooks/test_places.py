"""How many messages may be on their way: receivers that are slow or gone leave places to others."""

import pytest

from service.webhooks.due import Places
from service.webhooks.records import Addressee

IN_ALL, OF_ONE_PROJECT, OF_ONE_WEBHOOK, OF_ALL_FAILING = 256, 32, 8, 128


def webhook(number: int, project: int = 0) -> Addressee:
    return Addressee(f"whk_{number}_of_{project}", f"project-{project}")


ALL = [webhook(number, project) for project in range(20) for number in range(20)]


@pytest.mark.parametrize(
    ("busy", "left"),
    [
        ([], OF_ONE_WEBHOOK),
        ([webhook(0)] * 3, OF_ONE_WEBHOOK - 3),
        ([webhook(0)] * OF_ONE_WEBHOOK, 0),
        ([webhook(number) for number in range(1, 1 + OF_ONE_PROJECT)], 0),
        ([webhook(number) for number in range(1, OF_ONE_PROJECT)], 1),
        ([webhook(0, project) for project in range(1, IN_ALL - 1)], 2),
        ([webhook(0, project) for project in range(1, IN_ALL + 10)], 0),
    ],
)
def test_there_are_a_few_for_a_webhook_some_for_a_project_and_a_number_in_all(busy: list[Addressee], left: int) -> None:
    assert Places(busy).left(webhook(0)) == left


def test_what_does_not_arrive_is_sent_one_by_one() -> None:
    failing = {webhook(0).webhook_id}

    assert Places(failing=failing).left(webhook(0)) == 1
    assert Places([webhook(0)], failing).left(webhook(0)) == 0
    assert Places([webhook(0)] * OF_ONE_WEBHOOK, failing).left(webhook(0)) == 0
    assert Places([webhook(0)], failing).left(webhook(1)) == OF_ONE_WEBHOOK


def test_however_many_fail_half_of_the_places_are_left_to_those_that_do_not() -> None:
    places, healthy = Places(failing={each.webhook_id for each in ALL}), webhook(0, project=20)

    for each in ALL:
        places.take(each, places.left(each))

    assert sum(places.taken(each) for each in ALL) == OF_ALL_FAILING
    assert places.left(healthy) == OF_ONE_WEBHOOK
