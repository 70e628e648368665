"""The application: everything is opened here, once, and handed down."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Unpack

import structlog
from fastapi import FastAPI

from service.clock import Clock, utc_now
from service.datasets.routes import router as datasets_router
from service.environment import SettingsRefused, settings_from_environment
from service.jobs.checkpoint_routes import router as checkpoints_router
from service.jobs.result_routes import router as results_router
from service.jobs.routes import router as jobs_router
from service.keys.routes import router as keys_router
from service.metrics.routes import router as metrics_router
from service.parts import Given, Parts, open_parts
from service.settings import Settings
from service.state import State, open_state
from service.streams.routes import MODELS as MESSAGE_MODELS
from service.streams.routes import router as streams_router
from service.uploads.routes import router as uploads_router
from service.web.description import DescribedApp
from service.web.health import router as health_router
from service.web.logs import configure_logging
from service.web.middleware import install_middleware
from service.web.problems import install_problems
from service.web.telemetry import Telemetry
from service.web.tracing import open_tracing
from service.webhooks.routes import messages as webhook_messages
from service.webhooks.routes import router as webhooks_router

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger()

_ROUTERS = (
    health_router,
    jobs_router,
    results_router,
    checkpoints_router,
    metrics_router,
    streams_router,
    keys_router,
    uploads_router,
    datasets_router,
    webhooks_router,
)


def create_app(settings: Settings, *, clock: Clock = utc_now, **given: Unpack[Given]) -> FastAPI:
    """The service. What is not given is opened from the settings when it starts."""
    telemetry = Telemetry()
    tracing = open_tracing(settings.otlp_endpoint) if settings.otlp_endpoint else None
    opened = partial(open_parts, settings, clock=clock, registry=telemetry.registry, **given)
    app = DescribedApp(
        title="cdm-train",
        summary="Trains consistent diffusion models on a Ray cluster.",
        version="1",
        lifespan=partial(_lifespan, opened=opened, tracing=tracing),
        redoc_url=None,
        models=MESSAGE_MODELS,
        generate_unique_id_function=lambda route: route.name,
    )
    app.webhooks.include_router(webhook_messages)
    install_problems(app)
    for router in (*_ROUTERS, telemetry.router()):
        app.include_router(router)
    install_middleware(
        app,
        clock=clock,
        telemetry=telemetry,
        tracing=tracing,
        limits=settings.requests,
    )
    return app


@asynccontextmanager
async def _lifespan(
    _: FastAPI, *, opened: Callable[[], AbstractAsyncContextManager[Parts]], tracing: "TracerProvider | None"
) -> AsyncIterator[State]:
    async with AsyncExitStack() as stack:
        if tracing:
            stack.push_async_callback(asyncio.to_thread, tracing.shutdown)
        state = await stack.enter_async_context(open_state(await stack.enter_async_context(opened())))
        log.info("service.started")
        yield state


def create_app_from_environment() -> FastAPI:
    """For `uvicorn --factory service.app:create_app_from_environment`; logs are JSON lines.

    Ends the process with one line on standard error if the settings are wrong.
    """
    configure_logging()
    try:
        settings = settings_from_environment()
    except SettingsRefused as error:
        sys.exit(f"error: {error}")
    app = create_app(settings)
    app.openapi()  # so that no request is held up by another that asks for it first
    gc.freeze()  # all that was imported stays: a collection need not look at it again
    return app
