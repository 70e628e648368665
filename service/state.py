"""What requests find in `request.state`, and the loops that run behind them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TypedDict

from service.database import Database
from service.datasets.usecases import Datasets
from service.jobs.gauges import BacklogGauges, JobGauges, ReplicaGauges
from service.jobs.loop import Loop
from service.jobs.records import JobRecord
from service.jobs.usecases import Jobs
from service.keys.store import KeyStore
from service.keys.usecases import Keys
from service.metrics.usecases import Metrics
from service.parts import Parts
from service.settings import Oidc, Settings
from service.streams.feed import Feed
from service.streams.shutdown import on_termination
from service.streams.usecases import Streams
from service.uploads.usecases import Uploads
from service.web.addresses import INSIDE, AddressGuard
from service.web.auth import Authenticator
from service.web.health import Checks, FindReadiness, find_readiness
from service.web.jwks import PublishedKeys
from service.web.oidc import IdentityProvider
from service.web.outgoing import guarded_client
from service.web.shared import Shared
from service.web.telemetry import CollectMetrics
from service.webhooks import sending
from service.webhooks.deliverer import Deliverer
from service.webhooks.gauges import DeliveryGauges
from service.webhooks.queue import DeliveryQueue
from service.webhooks.store import WebhookStore
from service.webhooks.usecases import Webhooks

_FEED_PAUSE_SECONDS = 0.05
_FEED_SECONDS, _DELIVERY_SECONDS, _HOUSEKEEPING_SECONDS = 0.25, 1.0, 600.0
_FOLLOWUP_SECONDS = 5.0
_GAUGES_SECONDS = 5.0  # with a hundred thousand jobs in the queue, counting them takes a quarter of a second


class State(TypedDict):
    """By the names under which routes and middleware ask for it."""

    database: Database
    authenticator: Authenticator
    jobs: Jobs
    keys: Keys
    metrics: Metrics
    streams: Streams
    webhooks: Webhooks
    uploads: Uploads
    datasets: Datasets
    settings: Settings
    readiness: FindReadiness
    mlflow_url: str
    collect_metrics: Sequence[CollectMetrics]


@asynccontextmanager
async def open_state(parts: Parts) -> AsyncIterator[State]:
    """Start the loops, and end them when the block does."""
    settings, clock = parts.settings, parts.clock
    guard = AddressGuard(networks=INSIDE if settings.allow_private_addresses else ())
    feed = Feed(parts.store)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(guarded_client(guard, timeout_seconds=sending.TIMEOUT_SECONDS))
        deliverer = Deliverer(queue=DeliveryQueue(parts.database), client=client, clock=clock)
        stack.push_async_callback(deliverer.finish)
        stack.push_async_callback(parts.reconciler.finish)

        def wake(job: JobRecord) -> None:
            loops["scheduler"].wake()
            loops["feed"].wake()
            if job.state.is_active:  # it looks at no others, and a look costs far more than a create
                loops["reconciler"].wake()

        jobs, mlflow_url = parts.jobs(wake=wake), settings.mlflow_public_url
        loops = _loops(parts, jobs, feed, deliverer)
        keys = Keys(store=KeyStore(parts.database), clock=clock)
        await keys.store.ensure_default_project(now=clock())
        for loop in loops.values():
            await stack.enter_async_context(loop.running())
        for loop in loops.values():
            stack.callback(loop.stop)
        stack.enter_context(on_termination(feed.close))
        stack.callback(feed.close)
        # Strangers may ask for both, as often as they like.
        readiness = Shared(partial(find_readiness, _checks(parts)))
        gauges = (
            ReplicaGauges(loops=tuple(loops.values()), readiness=readiness),
            JobGauges(database=parts.database, store=parts.store, clock=clock),
            BacklogGauges(database=parts.database),
            DeliveryGauges(database=parts.database, clock=clock),
        )
        yield State(
            database=parts.database,
            authenticator=Authenticator(
                parts.database,
                bootstrap_key=settings.api_key,
                identity_provider=_identity_provider(settings.oidc),
                clock=clock,
            ),
            jobs=jobs,
            keys=keys,
            metrics=Metrics(mlflow=parts.mlflow),
            streams=Streams(jobs=jobs, feed=feed, object_store=parts.object_store, mlflow_url=mlflow_url),
            webhooks=Webhooks(
                store=WebhookStore(parts.database), guard=guard, clock=clock, wake=loops["webhooks"].wake
            ),
            uploads=parts.uploads,
            datasets=parts.datasets,
            settings=settings,
            readiness=readiness,
            mlflow_url=mlflow_url,
            collect_metrics=tuple(Shared(one.collect, fresh_seconds=_GAUGES_SECONDS) for one in gauges),
        )


def _loops(parts: Parts, jobs: Jobs, feed: Feed, deliverer: Deliverer) -> dict[str, Loop]:
    interval = parts.settings.reconcile_interval_seconds

    async def schedule() -> bool | None:
        moved = await parts.scheduler.tick()
        if moved:
            by_name["reconciler"].wake()  # to submit what was admitted
        return moved

    loops = (
        Loop("scheduler", schedule, interval_seconds=interval),
        Loop("reconciler", parts.reconciler.tick, interval_seconds=interval),
        Loop("aftercare", parts.aftercare.tick, interval_seconds=interval),
        Loop("purges", parts.aftercare.purge, interval_seconds=interval),
        Loop("tracking", parts.aftercare.tend_runs, interval_seconds=interval),
        Loop("experiments", parts.aftercare.find_experiments, interval_seconds=interval),
        Loop("followups", parts.followups(jobs).tick, interval_seconds=_FOLLOWUP_SECONDS),
        Loop("sweep", parts.sweep.tick, interval_seconds=parts.settings.sweep_interval_seconds),
        Loop("housekeeping", parts.housekeeping.tick, interval_seconds=_HOUSEKEEPING_SECONDS),
        Loop("feed", feed.tick, interval_seconds=_FEED_SECONDS, pause_seconds=_FEED_PAUSE_SECONDS),
        Loop("webhooks", deliverer.tick, interval_seconds=_DELIVERY_SECONDS),
    )
    by_name = {loop.name: loop for loop in loops}
    return by_name


def _checks(parts: Parts) -> Checks:
    return {
        "database": parts.store.ping,
        "object_store": parts.objects.ping,
        "ray": parts.cluster.probe,
        "mlflow": parts.mlflow.ping,
    }


def _identity_provider(oidc: Oidc) -> IdentityProvider | None:
    if oidc.issuer is None:
        return None
    return IdentityProvider(oidc=oidc, keys=PublishedKeys(issuer=oidc.issuer, jwks_url=oidc.jwks_url))
