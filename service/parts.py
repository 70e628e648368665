"""Everything that runs behind the routes, opened once from the settings and handed down."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

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
from service.jobs.housekeeping import Housekeeping
from service.jobs.installation import Installation
from service.jobs.measures import Measures
from service.jobs.mlflow import Mlflow
from service.jobs.objects import JobObjects
from service.jobs.pins import Pins
from service.jobs.reconciler import Reconciler
from service.jobs.records import JobRecord
from service.jobs.scheduler import Scheduler
from service.jobs.store import JobStore
from service.jobs.sweep import Sweep
from service.jobs.usecases import Jobs
from service.metrics.mlflow import MlflowCurves
from service.settings import Settings
from service.uploads.objects import UploadObjects
from service.uploads.usecases import Uploads
from service.web.idempotency_store import IdempotencyStore
from service.webhooks.outbox import enqueue
from workers.storage import ObjectStore, open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one control plane."""

    settings: Settings
    clock: Clock
    database: Database
    replica: Replica
    store: JobStore
    objects: JobObjects
    raw_objects: ObjectStore
    uploads: Uploads
    datasets: Datasets
    cluster: Cluster
    mlflow: Mlflow
    curves: MlflowCurves
    scheduler: Scheduler
    reconciler: Reconciler
    aftercare: Aftercare
    sweep: Sweep
    housekeeping: Housekeeping

    def jobs(self, *, wake: Callable[[JobRecord], None]) -> Jobs:
        """The use cases; `wake` is called with each job that was made or changed."""
        return Jobs(
            store=self.store,
            objects=self.objects,
            cluster=self.cluster,
            clock=self.clock,
            wake=wake,
            local_paths=self.settings.local_paths,
            stop_patience=self.settings.stop_patience,
            curves=self.curves,
            measures=self.reconciler.actions.measures,
            uploads=self.uploads.objects,
            s3_sources=self.settings.s3_sources,
        )


@asynccontextmanager
async def open_parts(
    settings: Settings,
    *,
    clock: Clock,
    cluster: Cluster | None = None,
    objects: ObjectStore | None = None,
    mlflow: Mlflow | None = None,
    curves: MlflowCurves | None = None,
    registry: CollectorRegistry | None = None,
) -> AsyncIterator[Parts]:
    """What is not given is opened from the settings."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings.database_url))
        engine = cluster or open_cluster(
            settings.ray_url,
            token=settings.ray_token,
            grows_to=Resources(cpus=settings.ray_grows_to.cpus, gpus=settings.ray_grows_to.gpus),
        )
        stack.push_async_callback(engine.close)
        tracker = mlflow or Mlflow(settings.mlflow_url, headers=settings.mlflow_headers)
        stack.push_async_callback(tracker.close)
        reader = curves or MlflowCurves(settings.mlflow_url, headers=settings.mlflow_headers)
        stack.push_async_callback(reader.close)
        store = JobStore(database, on_event=enqueue)
        yield assemble(
            settings,
            clock=clock,
            database=database,
            store=store,
            raw_objects=objects or open_store(settings.store_url, public_endpoint=settings.store_public_endpoint),
            cluster=engine,
            mlflow=tracker,
            curves=reader,
            measures=Measures(registry or CollectorRegistry()),
        )


def assemble(
    settings: Settings,
    *,
    clock: Clock,
    database: Database,
    store: JobStore,
    raw_objects: ObjectStore,
    cluster: Cluster,
    mlflow: Mlflow,
    curves: MlflowCurves,
    measures: Measures,
) -> Parts:
    """Put what is open together."""
    objects = JobObjects(raw_objects, url=settings.store_url)
    uploads = Uploads(
        objects=UploadObjects(raw_objects),
        database=database,
        clock=clock,
        limits=settings.uploads,
        readers=store.upload_readers,
    )
    datasets = Datasets(
        store=DatasetStore(database),
        objects=DatasetObjects(raw_objects),
        jobs=store,
        job_objects=objects,
        clock=clock,
    )
    installation = Installation(store, objects)
    actions = Actions(
        store=store,
        objects=objects,
        cluster=cluster,
        settings=settings,
        clock=clock,
        installation=installation,
        measures=measures,
    )
    replica = Replica(database=database, token=secrets.token_hex(8), clock=clock)
    return Parts(
        settings=settings,
        clock=clock,
        database=database,
        replica=replica,
        store=store,
        objects=objects,
        raw_objects=raw_objects,
        uploads=uploads,
        datasets=datasets,
        cluster=cluster,
        mlflow=mlflow,
        curves=curves,
        scheduler=Scheduler(actions=actions, replica=replica, max_active_jobs=settings.max_active_jobs),
        reconciler=Reconciler(actions=actions, lease_seconds=settings.lease_seconds),
        aftercare=Aftercare(store=store, objects=objects, cluster=cluster, mlflow=mlflow, replica=replica, clock=clock),
        housekeeping=Housekeeping(
            purges={
                "idempotency keys": IdempotencyStore(database).purge,
                "uploads": uploads.purge,
                "data sets": datasets.purge,
                "pins": Pins(store=store, objects=objects).purge,
            },
            replica=replica,
            clock=clock,
        ),
        sweep=Sweep(store=store, cluster=cluster, installation=installation),
    )
