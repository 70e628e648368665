"""Messages are written down together with the events they tell of, so that none is lost and none is made up."""

from sqlalchemy import Insert, Integer, String, bindparam, cast, func, insert, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database.tables import Instant, deliveries, webhooks
from service.identifiers import new_id
from service.jobs.records import EventRecord
from service.webhooks.views import MOVES

_NUMBERED_FROM = 10_000  # a project has fewer webhooks, so that all numbers have five digits


async def enqueue(connection: AsyncConnection, event: EventRecord, project: str) -> None:
    """In the transaction of the event: one delivery for each webhook of the project that wants it."""
    root = new_id("dlv", at=event.created_at)[: -len(str(_NUMBERED_FROM))]  # digits are of the alphabet of ids, too
    values = {
        "project": project,
        "type": _mentions(event.type),
        "state": _mentions(event.state if event.type in MOVES else event.type),
        "root": root,
        "job_id": event.job_id,
        "sequence": event.sequence,
        "at": event.created_at,
    }
    await connection.execute(_ENQUEUE, values)


def _mentions(word: str) -> str:
    """`event_types` is a JSON list of words, so that a word in quotes is in the text if it is in the list."""
    return f'%"{word.replace("_", "/_")}"%'


def _enqueue() -> Insert:
    types = webhooks.c.event_types
    chosen = (types.like(bindparam(name, type_=String), escape="/") for name in ("type", "state"))
    wanted = select(webhooks.c.id).where(webhooks.c.project == bindparam("project"), webhooks.c.enabled)
    # Locked, or one that is deleted at this moment would make the whole transaction fail.
    ours = wanted.where(or_(types == "[]", *chosen)).with_for_update(read=True, key_share=True).subquery()
    number = cast(_NUMBERED_FROM + func.row_number().over(order_by=ours.c.id), Integer)
    rows = select(
        bindparam("root", type_=String).concat(cast(number, String)),
        ours.c.id,
        bindparam("job_id", type_=String),
        bindparam("sequence", type_=Integer),
        bindparam("at", type_=Instant),
        bindparam("at", type_=Instant),
        literal(0),
    )
    names = ["id", "webhook_id", "job_id", "sequence", "created_at", "due_at", "tries"]
    return insert(deliveries).from_select(names, rows)


_ENQUEUE = _enqueue()  # once: to make it costs more than to run it
