"""The service about itself: health, readiness, version, methods, workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, Response
from sqlalchemy import text

from api.deps import CallerDep, Services, ServicesDep
from api.schemas import Check, Health, MethodList, MethodOut, Ready, Version, WorkerList, WorkerOut
from trsp_core.options import schema
from trsp_core.registry import METHODS
from trsp_jobs import service
from trsp_jobs.db import OUTAGES
from trsp_jobs.errors import ArtifactNotFound, BrokerUnavailable, StoreUnavailable

router = APIRouter(tags=["system"])


def _own_version() -> str:
    try:
        return version("trsp")
    except PackageNotFoundError:
        return "0+source"


VERSION = _own_version()


@router.get("/healthz", summary="Is the process alive?")
def healthz() -> Health:
    """Answer as long as the process can answer at all."""
    return Health(status="ok")


@router.get("/readyz", summary="Can the service work?", responses={503: {"model": Ready}})
def readyz(services: ServicesDep, response: Response) -> Ready:
    """Try the database, the store and the broker.

    Without the database or the store the service is unready (503); without the broker it is degraded: it
    accepts jobs, and they start when the broker is back.
    """
    checks = {
        "database": _check(lambda: _ask_database(services)),
        "store": _check(lambda: _ask_store(services)),
        "broker": _check(lambda: services.dispatcher.pending()),
    }
    status = _judge(checks)
    if status == "unready":
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return Ready(status=status, checks=checks)


def _judge(checks: Mapping[str, Check]) -> str:
    down = {name for name, check in checks.items() if check.status == "down"}
    if down & {"database", "store"}:
        return "unready"
    return "degraded" if down else "ready"


def _check(probe: Callable[[], object]) -> Check:
    try:
        probe()
    except (*OUTAGES, StoreUnavailable, BrokerUnavailable):
        return Check(status="down", detail="does not answer")
    return Check(status="ok")


def _ask_database(services: Services) -> None:
    with services.session() as session:
        session.execute(text("SELECT 1"))


def _ask_store(services: Services) -> None:
    """Look for a file that is not there: a store that answers says so."""
    with suppress(ArtifactNotFound):
        services.store.stat("ready")


@router.get("/version", summary="What runs here?")
def show_version() -> Version:
    """Return the name and version of the software and of the API."""
    return Version(name="trsp", version=VERSION, api="v1")


@router.get("/v1/methods", summary="List the methods")
def methods() -> MethodList:
    """Return every method with the JSON Schema of its options."""
    items = [
        MethodOut(name=name, summary=entry.summary, options=schema(entry.options))
        for name, entry in METHODS.items()
    ]
    return MethodList(items=items)


@router.get("/v1/workers", summary="List the workers that are online")
def workers(services: ServicesDep, caller: CallerDep) -> WorkerList:
    """Return the workers whose last sign of life is recent; what they work on is told to owners:all only."""
    with services.session() as session:
        items = [WorkerOut.model_validate(row) for row in service.list_workers(session)]
    hidden = {} if caller.visible_owner is None else {"current_job": None}
    return WorkerList(items=[item.model_copy(update=hidden) for item in items])
