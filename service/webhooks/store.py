"""Rows of webhooks and their deliveries, as users see and change them; writes take the caller's connection."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, Select, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.database import Database
from service.database.tables import deliveries, webhooks
from service.webhooks.records import DeliveryRecord, WebhookRecord


class WebhookStore:
    """Every query is of one project, or of a webhook that was found by it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def add(self, connection: AsyncConnection, webhook: WebhookRecord) -> bool:
        """False if there is one of this id."""
        row = self.database.insert(webhooks).values(_row(webhook)).on_conflict_do_nothing()
        return bool((await connection.execute(row)).rowcount)

    async def count(self, connection: AsyncConnection, *, project: str) -> int:
        query = select(func.count()).select_from(webhooks).where(webhooks.c.project == project)
        return await connection.scalar(query) or 0

    async def change(self, connection: AsyncConnection, webhook: WebhookRecord) -> None:
        await connection.execute(update(webhooks).where(webhooks.c.id == webhook.id).values(_row(webhook)))

    async def remove(self, connection: AsyncConnection, webhook_id: str) -> None:
        """With its deliveries."""
        await connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))

    async def find(self, connection: AsyncConnection, webhook_id: str, *, project: str) -> WebhookRecord | None:
        """Locked until the end of the transaction, if that writes."""
        query = select(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.project == project)
        query = query.with_for_update(key_share=True)  # events go on being written meanwhile
        row = (await connection.execute(query)).mappings().one_or_none()
        return _webhook(row) if row else None

    async def page(self, *, project: str, before: str | None, limit: int) -> Sequence[WebhookRecord]:
        """Newest first."""
        query = select(webhooks).where(webhooks.c.project == project).order_by(webhooks.c.id.desc()).limit(limit)
        query = query.where(webhooks.c.id < before) if before else query
        return [_webhook(row) for row in await self._rows(query)]

    async def add_delivery(self, connection: AsyncConnection, delivery: DeliveryRecord) -> None:
        """Leaves one of this id as it is."""
        await connection.execute(self.database.insert(deliveries).values(asdict(delivery)).on_conflict_do_nothing())

    async def delivery(
        self, connection: AsyncConnection, delivery_id: str, *, webhook_id: str
    ) -> DeliveryRecord | None:
        query = select(deliveries).where(deliveries.c.id == delivery_id, deliveries.c.webhook_id == webhook_id)
        row = (await connection.execute(query)).mappings().one_or_none()
        return DeliveryRecord(**row) if row else None

    async def deliveries(self, webhook_id: str, *, before: str | None, limit: int) -> Sequence[DeliveryRecord]:
        """Newest first."""
        query = select(deliveries).where(deliveries.c.webhook_id == webhook_id)
        query = query.where(deliveries.c.id < before) if before else query
        rows = await self._rows(query.order_by(deliveries.c.id.desc()).limit(limit))
        return [DeliveryRecord(**row) for row in rows]

    async def again(self, connection: AsyncConnection, delivery: DeliveryRecord, *, at: datetime) -> DeliveryRecord:
        """As if it had never been tried."""
        fresh = replace(delivery, due_at=at, tries=0, delivered_at=None, last_status=None, last_error=None)
        await connection.execute(update(deliveries).where(deliveries.c.id == delivery.id).values(asdict(fresh)))
        return fresh

    async def _rows(self, query: Select[Any]) -> Sequence[RowMapping]:
        async with self.database.reading() as connection:
            rows: Sequence[RowMapping] = (await connection.execute(query)).mappings().all()
            return rows


def _row(webhook: WebhookRecord) -> dict[str, Any]:
    return asdict(webhook) | {"event_types": json.dumps(webhook.event_types)}


def _webhook(row: RowMapping) -> WebhookRecord:
    return WebhookRecord(**{**row, "event_types": tuple(json.loads(row["event_types"]))})
