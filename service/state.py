"""What requests find in `request.state`, and the loops that run behind them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TypedDict

from service.database import Database
from service.datasets.usecases import Datasets
from service.jobs.gauges import BacklogGauges, JobGauges, ReplicaGauges
from service.jobs.job_results import JobResults
from service.jobs.lookup import JobLookup
from service.jobs.submission import Submissions
from service.jobs.usecases import Jobs
from service.keys.store import KeyStore
from service.keys.usecases import Keys
from service.metrics.usecases import Metrics
from service.parts import Parts
from service.settings import Oidc, Settings
from service.streams.shutdown import on_termination
from service.streams.usecases import Streams
from service.uploads.usecases import Uploads
from service.web.auth import Authenticator
from service.web.health import Checks, FindReadiness, find_readiness
from service.web.jwks import PublishedKeys
from service.web.oidc import IdentityProvider
from service.web.shared import Shared
from service.web.telemetry import CollectMetrics
from service.webhooks.gauges import DeliveryGauges
from service.webhooks.store import WebhookStore
from service.webhooks.usecases import Webhooks

_GAUGES_SECONDS = 5.0  # with a hundred thousand jobs in the queue, counting them takes a quarter of a second


class State(TypedDict):
    """By the names under which routes and middleware ask for it."""

    database: Database
    authenticator: Authenticator
    jobs: Jobs
    submissions: Submissions
    job_lookup: JobLookup
    job_results: JobResults
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
    settings, clock, loops, mlflow_url = parts.settings, parts.clock, parts.loops, parts.settings.mlflow_public_url
    keys = Keys(store=KeyStore(parts.database), clock=clock)
    await keys.store.ensure_default_project(now=clock())
    async with AsyncExitStack() as stack:
        stack.push_async_callback(parts.reconciler.finish)
        for loop in loops.values():
            await stack.enter_async_context(loop.running())
        for loop in loops.values():
            stack.callback(loop.stop)
        stack.enter_context(on_termination(parts.feed.close))
        stack.callback(parts.feed.close)
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
            jobs=parts.jobs,
            submissions=parts.submissions,
            job_lookup=parts.store,
            job_results=parts.results,
            keys=keys,
            metrics=Metrics(mlflow=parts.mlflow),
            streams=Streams(
                jobs=parts.store,
                results=parts.results,
                feed=parts.feed,
                object_store=parts.object_store,
                mlflow_url=mlflow_url,
            ),
            webhooks=Webhooks(
                store=WebhookStore(parts.database), guard=parts.guard, clock=clock, wake=loops["webhooks"].wake
            ),
            uploads=parts.uploads,
            datasets=parts.datasets,
            settings=settings,
            readiness=readiness,
            mlflow_url=mlflow_url,
            collect_metrics=tuple(Shared(one.collect, fresh_seconds=_GAUGES_SECONDS) for one in gauges),
        )


def _checks(parts: Parts) -> Checks:
    return {
        "database": parts.store.ping,
        "object_store": parts.installation.check_store,
        "ray": parts.cluster.probe,
        "mlflow": parts.mlflow.ping,
    }


def _identity_provider(oidc: Oidc) -> IdentityProvider | None:
    if oidc.issuer is None:
        return None
    return IdentityProvider(oidc=oidc, keys=PublishedKeys(issuer=oidc.issuer, jwks_url=oidc.jwks_url))
