"""The application: wiring only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.middleware import Middleware

from api import bodies, errors, middleware, openapi
from api.access import authorize
from api.authentication import Authentication, Authenticator
from api.dashboard import login
from api.dashboard import routes as dashboard
from api.dashboard.story import StoryBook
from api.deps import MissingKey, Services
from api.live import Live
from api.queries import KNOWN_QUERY
from api.routes import (
    audit,
    calibration_sets,
    compare,
    events,
    files,
    jobs,
    keys,
    links,
    logs,
    models,
    schedules,
    slots,
    system,
    webhooks,
)
from trsp_jobs.db import make_engine, session_factory
from trsp_jobs.dispatch import CeleryDispatcher
from trsp_jobs.settings import Settings
from trsp_jobs.storage import store_of

MAX_BODY_BYTES = 1 << 20
DESCRIPTION = """Makes causal language models shallower: two-stage layer pruning as a service.

Every error is `application/problem+json` (RFC 9457): compare its `type`, show its `detail`, follow its
`errors`, each with a JSON pointer to the field, what is allowed and what was probably meant."""


def create_app(settings: Settings, services: Services | None = None) -> FastAPI:
    """Return the application.

    Args:
        settings: The operator's.
        services: What it works with; made from the settings unless given.

    Raises:
        MissingKey: If nobody could come in: no secret, or no key.
    """
    services = services or make_services(settings)
    authenticator = _authenticator(services)
    app = FastAPI(**describe_app(), lifespan=_lifespan, middleware=_middleware(settings, authenticator))
    app.state.services = services
    app.state.live = Live(settings.database_url, services.stopping)
    app.state.authenticator = authenticator
    app.state.stories = StoryBook()
    app.state.error_page = dashboard.error_page
    errors.install(app)
    add_routes(app)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    app.mount("/static", StaticFiles(directory=dashboard.FOLDER / "static"), name="static")
    return app


def bare_app() -> FastAPI:
    """Return the routes alone, enough for the OpenAPI document."""
    app = FastAPI(**describe_app())
    add_routes(app)
    return app


def describe_app() -> dict[str, Any]:
    """Return what the application says of itself in the OpenAPI document."""
    return {
        "title": "TRSP",
        "version": "1",
        "description": DESCRIPTION,
        "docs_url": None,
        "redoc_url": None,
        "generate_unique_id_function": _operation_id,
        "dependencies": [Depends(authorize), KNOWN_QUERY],
        "redirect_slashes": False,
    }


def add_routes(app: FastAPI) -> None:
    """Register every resource."""
    for part in (jobs, compare, events, files, links, logs, schedules, slots, models, calibration_sets):
        app.include_router(part.router)
    for part in (keys, webhooks, audit, system, dashboard, login):
        app.include_router(part.router)


def make_services(settings: Settings) -> Services:
    """Return what the process works with; nothing is connected yet."""
    return Services(
        settings=settings,
        sessions=session_factory(make_engine(settings.database_url, pool_size=10)),
        store=store_of(settings),
        dispatcher=CeleryDispatcher(settings.broker_url, queue=settings.queue),
    )


def _authenticator(services: Services) -> Authenticator:
    try:
        return Authenticator(services)
    except MissingKey:
        services.close()
        raise


def _middleware(settings: Settings, authenticator: Authenticator) -> list[Middleware]:
    checks: list[middleware.Check] = [middleware.site_check]
    if hosts := allowed_hosts(settings):
        checks.insert(0, middleware.host_check(hosts))
    return [
        Middleware(middleware.RequestId),
        Middleware(
            bodies.BodyLimit,
            limit=MAX_BODY_BYTES,
            larger={calibration_sets.UPLOAD_PATH: settings.upload_limit_bytes},
        ),
        Middleware(errors.UnexpectedErrors),
        Middleware(middleware.Gate, checks=tuple(checks)),
        Middleware(Authentication, authenticator=authenticator),
    ]


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """Return the names that the server answers to; empty, which is any, for a wildcard bind behind a key."""
    public = urlsplit(settings.public_url).hostname if settings.public_url else None
    if settings.host in ("0.0.0.0", "::") and public is None:  # noqa: S104 - compared, not bound
        return frozenset()
    return middleware.LOOPBACK | {settings.host.lower()} | ({public} if public else set())


def _operation_id(route: APIRoute) -> str:
    return f"{route.tags[0]}-{route.name}" if route.tags else route.name


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    services: Services = app.state.services
    services.stopping.set()
    await app.state.live.close()
    services.close()
