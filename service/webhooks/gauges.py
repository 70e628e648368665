"""What Prometheus is told about messages to receivers; the same by every replica."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from sqlalchemy import func, select

from service.clock import Clock
from service.database import Database
from service.database.tables import deliveries, webhooks
from service.webhooks.due import next_due_at

_MOST = 10_000  # counted
_WAITING = (
    select(deliveries.c.id)
    .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
    .where(webhooks.c.enabled, deliveries.c.due_at.is_not(None))
    .limit(_MOST)
    .subquery()
)
_NUMBER = select(func.count()).select_from(_WAITING)
_FIRST_DUE = select(func.min(next_due_at)).where(webhooks.c.enabled)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryGauges:
    """Messages of enabled webhooks that have not arrived."""

    database: Database
    clock: Clock

    async def collect(self) -> Sequence[Metric]:
        async with self.database.reading() as connection:
            waiting = await connection.scalar(_NUMBER) or 0
            due: datetime | None = await connection.scalar(_FIRST_DUE)
        late = max(0.0, (self.clock() - due).total_seconds()) if due else 0.0
        return [
            GaugeMetricFamily(
                "cdm_webhook_deliveries_waiting", f"Not delivered, and not given up; up to {_MOST}", waiting
            ),
            GaugeMetricFamily(
                "cdm_webhook_lag_seconds", "By how much the next try that should have been made is late", late
            ),
        ]
