"""Which deliveries are to be sent now: found by indexes, however much waits for receivers that are slow or disabled."""

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import bindparam, exists, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database.tables import deliveries, webhooks
from service.webhooks.records import Addressee

_IN_ALL = 256
_OF_ONE_PROJECT = 32
_OF_ONE_WEBHOOK = 8
# What does not arrive keeps its place for as long as one waits for an answer.
_OF_ALL_FAILING, _OF_ONE_FAILING = 128, 1


class Places:
    """How many more messages may be on their way. Receivers that are slow, or gone, must leave places to others.

    `busy`: to whom each that is on its way goes; `failing`: webhooks whose last message did not arrive.
    """

    def __init__(self, busy: Iterable[Addressee] = (), failing: Collection[str] = ()) -> None:
        self._failing = failing
        self._of_webhook, self._of_project, self._of_failing = Counter[str](), Counter[str](), 0
        for addressee in busy:
            self.take(addressee, 1)

    def take(self, addressee: Addressee, count: int) -> None:
        self._of_webhook[addressee.webhook_id] += count
        self._of_project[addressee.project] += count
        if addressee.webhook_id in self._failing:
            self._of_failing += count

    def taken(self, addressee: Addressee) -> int:
        """By this webhook."""
        return self._of_webhook[addressee.webhook_id]

    def left(self, addressee: Addressee) -> int:
        """For this webhook."""
        room = min(_IN_ALL - self._of_webhook.total(), _OF_ONE_PROJECT - self._of_project[addressee.project])
        if addressee.webhook_id in self._failing:
            room = min(room, _OF_ALL_FAILING - self._of_failing, _OF_ONE_FAILING - self.taken(addressee))
        return max(0, min(room, _OF_ONE_WEBHOOK - self.taken(addressee)))


async def find_due(connection: AsyncConnection, *, now: datetime, places: Places) -> list[str]:
    """Ids, for which there are places; first of webhooks that have nothing on its way, then the longest due."""
    waiting = [Addressee(*row) for row in await connection.execute(_WITH_DUE, {"now": now})]
    found = list[tuple[datetime, str]]()
    for addressee in sorted(waiting, key=lambda each: places.taken(each) > 0):
        if most := places.left(addressee):
            rows = await connection.execute(_DUE, {"webhook_id": addressee.webhook_id, "now": now, "most": most})
            due = [(row.due_at, row.id) for row in rows]
            places.take(addressee, len(due))
            found += due
    return [delivery_id for _, delivery_id in sorted(found)]


_waiting, _earlier = deliveries.alias(), deliveries.alias()
next_due_at = (
    select(func.min(_waiting.c.due_at))
    .where(_waiting.c.webhook_id == webhooks.c.id, _waiting.c.due_at.is_not(None))
    .scalar_subquery()
)
_WITH_DUE = (
    select(webhooks.c.id, webhooks.c.project)
    .where(webhooks.c.enabled, next_due_at <= bindparam("now"))
    .order_by(next_due_at)
)
_is_not_its_turn = exists().where(
    _earlier.c.webhook_id == deliveries.c.webhook_id,
    _earlier.c.job_id == deliveries.c.job_id,
    _earlier.c.sequence < deliveries.c.sequence,
    _earlier.c.due_at.is_not(None),
    _earlier.c.tries == literal_column("0"),  # spelt out, or the partial index is not used
)
_is_due = (deliveries.c.webhook_id == bindparam("webhook_id")) & (deliveries.c.due_at <= bindparam("now"))
_DUE = (
    select(deliveries.c.id, deliveries.c.due_at)
    .where(_is_due, ~_is_not_its_turn)
    .order_by(deliveries.c.due_at, deliveries.c.id)
    .limit(bindparam("most"))
)
