"""Everything that runs behind the routes, opened once from the settings and handed down."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

from prometheus_client import CollectorRegistry

from service.clock import Clock
from service.cluster import Cluster, open_cluster
from service.cluster.base import Resources
from service.database import Database, open_database
from service.database.leases import Replica
from service.datasets.objects import DatasetObjects
from service.datasets.store import DatasetStore
from service.datasets.usecases import Datasets
from service.jobs.actions import Actions
from service.jobs.aftercare import Aftercare
from service.jobs.counters import Counters, PurgeName
from service.jobs.evidence import Limits
from service.jobs.followups import FollowUps
from service.jobs.housekeeping import Housekeeping, Purge
from service.jobs.installation import Installation
from service.jobs.job_results import JobResults
from service.jobs.loop import Loop, Tick
from service.jobs.objects import JobObjects
from service.jobs.pins import Pins
from service.jobs.purges import Purges
from service.jobs.reconciler import Reconciler
from service.jobs.records import JobRecord
from service.jobs.scheduler import Scheduler
from service.jobs.store import JobStore
from service.jobs.submission import Submissions
from service.jobs.sweep import Sweep
from service.jobs.tracking import Tracking
from service.jobs.usecases import Jobs
from service.mlflow import Mlflow
from service.settings import Settings
from service.streams.feed import Feed
from service.uploads.objects import UploadObjects
from service.uploads.usecases import Uploads
from service.web.addresses import INSIDE, AddressGuard
from service.web.idempotency_store import IdempotencyStore
from service.web.outgoing import guarded_client
from service.webhooks import sending
from service.webhooks.deliverer import Deliverer
from service.webhooks.outbox import enqueue
from service.webhooks.queue import DeliveryQueue
from workers.storage import ObjectStore, open_store

_FEED_PAUSE_SECONDS = 0.05
_FEED_SECONDS, _DELIVERY_SECONDS, _HOUSEKEEPING_SECONDS = 0.25, 1.0, 600.0
_FOLLOWUP_SECONDS = 5.0
_STORE_TIMEOUT_SECONDS = 10.0  # so that a look at a job outlasts a connection that has gone silent


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What one control plane is opened with, and the parts that are made of it, each once."""

    settings: Settings
    clock: Clock
    database: Database
    replica: Replica
    store: JobStore
    objects: JobObjects
    object_store: ObjectStore
    cluster: Cluster
    mlflow: Mlflow
    counters: Counters
    feed: Feed
    guard: AddressGuard
    deliverer: Deliverer

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(
            store=self.store,
            objects=self.objects,
            clock=self.clock,
            wake=self.wake,
            stop_patience=self.settings.stop_patience,
            counters=self.counters,
        )

    @cached_property
    def submissions(self) -> Submissions:
        return Submissions(
            store=self.store,
            objects=self.objects,
            installation=self.installation,
            cluster=self.cluster,
            clock=self.clock,
            wake=self.wake,
            local_paths=self.settings.local_paths,
            uploads=self.uploads.objects,
            s3_sources=self.settings.s3_sources,
        )

    @cached_property
    def results(self) -> JobResults:
        return JobResults(store=self.store, objects=self.objects, cluster=self.cluster)

    @cached_property
    def uploads(self) -> Uploads:
        return Uploads(
            objects=UploadObjects(self.object_store),
            database=self.database,
            clock=self.clock,
            limits=self.settings.uploads,
            readers=self.store.upload_readers,
            check_store=self.installation.id,
        )

    @cached_property
    def datasets(self) -> Datasets:
        return Datasets(
            store=DatasetStore(self.database),
            objects=DatasetObjects(self.object_store),
            jobs=self.store,
            job_objects=self.objects,
            installation=self.installation,
            clock=self.clock,
        )

    @cached_property
    def installation(self) -> Installation:
        return Installation(self.store, self.objects)

    @cached_property
    def limits(self) -> Limits:
        return Limits(
            retries=self.settings.retries, watch=self.settings.watch, stop_patience=self.settings.stop_patience
        )

    @cached_property
    def actions(self) -> Actions:
        return Actions(
            store=self.store,
            objects=self.objects,
            cluster=self.cluster,
            settings=self.settings,
            limits=self.limits,
            clock=self.clock,
            installation=self.installation,
            counters=self.counters,
            replica=self.replica,
        )

    @cached_property
    def scheduler(self) -> Scheduler:
        return Scheduler(
            store=self.store,
            cluster=self.cluster,
            clock=self.clock,
            actions=self.actions,
            replica=self.replica,
            stop_patience=self.settings.stop_patience,
            max_active_jobs=self.settings.max_active_jobs,
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        return Reconciler(
            store=self.store,
            objects=self.objects,
            cluster=self.cluster,
            clock=self.clock,
            counters=self.counters,
            limits=self.limits,
            actions=self.actions,
            replica=self.replica,
            lease_seconds=self.settings.lease_seconds,
            began_at=self.clock(),
        )

    @cached_property
    def aftercare(self) -> Aftercare:
        return Aftercare(store=self.store, objects=self.objects, cluster=self.cluster, clock=self.clock)

    @cached_property
    def purges(self) -> Purges:
        return Purges(store=self.store, objects=self.objects, replica=self.replica, clock=self.clock)

    @cached_property
    def tracking(self) -> Tracking:
        return Tracking(
            store=self.store, objects=self.objects, mlflow=self.mlflow, replica=self.replica, clock=self.clock
        )

    @cached_property
    def sweep(self) -> Sweep:
        return Sweep(store=self.store, cluster=self.cluster, installation=self.installation)

    @cached_property
    def housekeeping(self) -> Housekeeping:
        purges: dict[PurgeName, Purge] = {
            "idempotency_keys": IdempotencyStore(self.database).purge,
            "uploads": self.uploads.purge,
            "datasets": self.datasets.purge,
            "pins": Pins(store=self.store, objects=self.objects).purge,
            "deliveries": DeliveryQueue(self.database).purge,
        }
        return Housekeeping(purges=purges, counters=self.counters, replica=self.replica, clock=self.clock)

    @cached_property
    def followups(self) -> FollowUps:
        return FollowUps(store=self.store, objects=self.objects, submissions=self.submissions, replica=self.replica)

    @cached_property
    def loops(self) -> dict[str, Loop]:
        """By name; none of them runs yet."""
        interval = self.settings.reconcile_interval_seconds
        loops = (
            Loop("scheduler", self._schedule, interval_seconds=interval),
            Loop("reconciler", self.reconciler.tick, interval_seconds=interval),
            Loop("aftercare", self._in_our_store(self.aftercare.tick), interval_seconds=interval),
            Loop("purges", self._in_our_store(self.purges.tick), interval_seconds=interval),
            Loop("tracking", self._in_our_store(self.tracking.tick), interval_seconds=interval),
            Loop("experiments", self.tracking.find_experiments, interval_seconds=interval),
            Loop("followups", self._in_our_store(self.followups.tick), interval_seconds=_FOLLOWUP_SECONDS),
            Loop("sweep", self.sweep.tick, interval_seconds=self.settings.sweep_interval_seconds),
            Loop("housekeeping", self._in_our_store(self.housekeeping.tick), interval_seconds=_HOUSEKEEPING_SECONDS),
            Loop("feed", self.feed.tick, interval_seconds=_FEED_SECONDS, pause_seconds=_FEED_PAUSE_SECONDS),
            Loop("webhooks", self.deliverer.tick, interval_seconds=_DELIVERY_SECONDS),
        )
        return {loop.name: loop for loop in loops}

    def wake(self, job: JobRecord) -> None:
        """Have the loops look at a job that was made or changed, or be awake when they start."""
        self.loops["scheduler"].wake()
        self.loops["feed"].wake()
        if job.state.is_active:  # it looks at no others, and a look costs far more than a create
            self.loops["reconciler"].wake()

    def _in_our_store(self, tick: Tick) -> Tick:
        """Do not look in the store of another installation: what that lacks was not removed, what it has is not ours.

        The reconciler, the sweep and what begins or submits a job ask by themselves.
        """

        async def tick_in_our_store() -> bool | None:
            await self.installation.id()
            return await tick()

        return tick_in_our_store

    async def _schedule(self) -> bool | None:
        moved = await self.scheduler.tick()
        if moved:
            self.loops["reconciler"].wake()  # to submit what was admitted
        return moved


class Given(TypedDict, total=False):
    """What a control plane works on, where that is not to be opened from its settings."""

    cluster: Cluster
    object_store: ObjectStore
    mlflow: Mlflow


@asynccontextmanager
async def open_parts(
    settings: Settings,
    *,
    clock: Clock,
    registry: CollectorRegistry | None = None,
    cluster: Cluster | None = None,
    object_store: ObjectStore | None = None,
    mlflow: Mlflow | None = None,
) -> AsyncIterator[Parts]:
    """What is not given is opened from the settings."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings.database_url))
        cluster = cluster or _cluster(settings)
        stack.push_async_callback(cluster.close)
        mlflow = mlflow or Mlflow(settings.mlflow_url, headers=settings.mlflow_headers)
        stack.push_async_callback(mlflow.close)
        object_store = object_store or open_store(
            settings.store_url,
            public_endpoint=settings.store_public_endpoint,
            read_timeout_seconds=_STORE_TIMEOUT_SECONDS,
        )
        store = JobStore(database, on_event=enqueue)
        guard = AddressGuard(networks=INSIDE if settings.allow_private_addresses else ())
        client = await stack.enter_async_context(guarded_client(guard, timeout_seconds=sending.TIMEOUT_SECONDS))
        deliverer = Deliverer(queue=DeliveryQueue(database), client=client, clock=clock)
        stack.push_async_callback(deliverer.finish)
        yield Parts(
            settings=settings,
            clock=clock,
            database=database,
            replica=Replica(database=database, token=secrets.token_hex(8), clock=clock),
            store=store,
            objects=JobObjects(object_store, url=settings.store_url),
            object_store=object_store,
            cluster=cluster,
            mlflow=mlflow,
            counters=Counters(registry or CollectorRegistry()),
            feed=Feed(store),
            guard=guard,
            deliverer=deliverer,
        )


def _cluster(settings: Settings) -> Cluster:
    grows_to = Resources(cpus=settings.ray_grows_to.cpus, gpus=settings.ray_grows_to.gpus)
    return open_cluster(settings.ray_url, token=settings.ray_token, grows_to=grows_to)
