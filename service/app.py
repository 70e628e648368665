"""The application: everything is opened here, once, and handed down."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypedDict

import structlog
from fastapi import FastAPI

from service.clock import Clock, utc_now
from service.cluster import Cluster, open_cluster
from service.database import open_database
from service.jobs.aftercare import Aftercare
from service.jobs.loop import Loop
from service.jobs.mlflow import Mlflow
from service.jobs.objects import JobObjects
from service.jobs.reconciler import Reconciler
from service.jobs.routes import router as jobs_router
from service.jobs.store import JobStore
from service.jobs.usecases import Jobs
from service.settings import Settings
from service.web.auth import AuthMiddleware
from service.web.health import Checks
from service.web.health import router as health_router
from service.web.logs import configure_logging
from service.web.problems import describe_problems, install_problems
from service.web.requests import RequestMiddleware
from workers.storage import ObjectStore, open_store

log = structlog.get_logger()


class State(TypedDict):
    """What requests find in `request.state`."""

    jobs: Jobs
    checks: Checks
    mlflow_url: str


def create_app(
    settings: Settings,
    *,
    cluster: Cluster | None = None,
    store: ObjectStore | None = None,
    mlflow: Mlflow | None = None,
    clock: Clock = utc_now,
) -> FastAPI:
    """The service. What is not given is opened from the settings when it starts."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(open_database(settings.database_url))
            jobs = JobStore(database)
            objects = JobObjects(store or open_store(settings.store_url), url=settings.store_url)
            engine = cluster or open_cluster(settings.ray_url, token=settings.ray_token)
            stack.push_async_callback(engine.close)
            tracker = mlflow or Mlflow(settings.mlflow_url)
            stack.push_async_callback(tracker.close)

            reconciler = Reconciler(store=jobs, objects=objects, cluster=engine, settings=settings, clock=clock)
            aftercare = Aftercare(store=jobs, objects=objects, cluster=engine, mlflow=tracker, clock=clock)
            interval = settings.reconcile_interval_seconds
            reconciling = Loop("reconciler", reconciler.tick, interval_seconds=interval)
            await stack.enter_async_context(reconciling.running())
            await stack.enter_async_context(Loop("aftercare", aftercare.tick, interval_seconds=interval).running())
            log.info("service.started")
            yield State(
                jobs=Jobs(
                    store=jobs,
                    objects=objects,
                    cluster=engine,
                    clock=clock,
                    wake=reconciling.wake,
                    local_paths=settings.local_paths,
                ),
                checks={
                    "database": jobs.ping,
                    "object_store": objects.ping,
                    "ray": engine.probe,
                    "mlflow": tracker.ping,
                },
                mlflow_url=settings.mlflow_public_url,
            )

    app = FastAPI(
        title="cdm-train",
        summary="Trains consistent diffusion models on a Ray cluster.",
        version="1",
        lifespan=lifespan,
        redoc_url=None,
    )
    install_problems(app)
    app.include_router(health_router)
    app.include_router(jobs_router)
    describe_problems(app)
    app.add_middleware(AuthMiddleware, key=settings.api_key)
    app.add_middleware(RequestMiddleware)  # the last one added is the first to see a request
    return app


def create_app_from_environment() -> FastAPI:
    """For `uvicorn --factory service.app:create_app_from_environment`; logs are JSON lines."""
    configure_logging()
    return create_app(Settings())
