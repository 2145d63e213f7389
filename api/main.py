"""The application: wiring only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.middleware import Middleware

from api import errors, middleware, openapi
from api.dashboard import routes as dashboard
from api.dashboard.story import StoryBook
from api.deps import Services
from api.routes import calibration_sets, events, files, jobs, logs, models, schedules, slots, system
from api.schemas import ProblemOut
from trsp_jobs.db import make_engine, session_factory
from trsp_jobs.dispatch import CeleryDispatcher
from trsp_jobs.settings import Settings
from trsp_jobs.storage import store_of

MAX_BODY_BYTES = 1 << 20
DESCRIPTION = """Makes causal language models shallower: two-stage layer pruning as a service.

Every error is `application/problem+json` (RFC 9457): compare its `type`, show its `detail`, follow its
`errors`, each with a JSON pointer to the field, what is allowed and what was probably meant."""


class UnsafeBind(ValueError):
    """The API is to listen where other machines reach it, without a key."""


def create_app(settings: Settings, services: Services | None = None) -> FastAPI:
    """Return the application.

    Args:
        settings: The operator's.
        services: What it works with; made from the settings unless given.

    Raises:
        UnsafeBind: If the host is not the loopback and no key is set.
    """
    if not is_loopback(settings.host) and settings.api_key is None:
        raise UnsafeBind(f"TRSP_HOST is {settings.host}, which other machines reach; set TRSP_API_KEY first.")
    services = services or make_services(settings)
    app = FastAPI(**describe_app(), lifespan=_lifespan, middleware=_middleware(settings))
    app.state.services = services
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
        "responses": {name: {"model": ProblemOut} for name in ("4XX", "5XX")},
    }


def add_routes(app: FastAPI) -> None:
    """Register every resource."""
    for module in (jobs, events, files, logs, schedules, slots, models, calibration_sets, system, dashboard):
        app.include_router(module.router)


def make_services(settings: Settings) -> Services:
    """Return what the process works with; nothing is connected yet."""
    return Services(
        settings=settings,
        sessions=session_factory(make_engine(settings.database_url, pool_size=10)),
        store=store_of(settings),
        dispatcher=CeleryDispatcher(settings.broker_url, queue=settings.queue),
    )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _middleware(settings: Settings) -> list[Middleware]:
    checks: list[middleware.Check] = [middleware.site_check]
    if hosts := allowed_hosts(settings):
        checks.insert(0, middleware.host_check(hosts))
    if settings.api_key is not None:
        checks.append(middleware.key_check(settings.api_key.get_secret_value()))
    return [
        Middleware(middleware.RequestId),
        Middleware(errors.UnexpectedErrors),
        Middleware(middleware.Gate, checks=tuple(checks)),
        Middleware(
            middleware.BodyLimit,
            limit=MAX_BODY_BYTES,
            larger={calibration_sets.UPLOAD_PATH: settings.upload_limit_bytes},
        ),
    ]


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """Return the names that the server answers to; empty, which is any, for a wildcard bind behind a key."""
    public = middleware.host_name(settings.public_url.partition("://")[2]) if settings.public_url else None
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
    services.sessions.kw["bind"].dispose()
