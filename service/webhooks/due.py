"""Which deliveries are to be sent now: found by indexes, however much waits for receivers that are slow or disabled."""

from collections import Counter
from datetime import datetime

from sqlalchemy import bindparam, exists, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database.tables import deliveries, webhooks

_IN_ALL = 256
_OF_ONE_WEBHOOK = 8  # a project whose receivers are all slow must leave places to others


async def find_due(connection: AsyncConnection, *, now: datetime, busy: Counter[str]) -> list[str]:
    """Ids, for which there is room beside those that each webhook has on their way; the longest due first."""
    room, found = _IN_ALL - busy.total(), list[tuple[datetime, str]]()
    for webhook_id in (await connection.scalars(_WITH_DUE, {"now": now})).all():
        most = min(_OF_ONE_WEBHOOK - busy[webhook_id], room - len(found))
        if most > 0:
            rows = await connection.execute(_DUE, {"webhook_id": webhook_id, "now": now, "most": most})
            found += [(row.due_at, row.id) for row in rows]
    return [delivery_id for _, delivery_id in sorted(found)]


_waiting, _earlier = deliveries.alias(), deliveries.alias()
next_due_at = (
    select(func.min(_waiting.c.due_at))
    .where(_waiting.c.webhook_id == webhooks.c.id, _waiting.c.due_at.is_not(None))
    .scalar_subquery()
)
_WITH_DUE = select(webhooks.c.id).where(webhooks.c.enabled, next_due_at <= bindparam("now")).order_by(next_due_at)
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
