"""The pages: jobs, one job, problems; and the forms that cancel and retry."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.types import Scope

from api.dashboard import views, words
from api.dashboard.story import StoryBook
from api.deps import CallerDep, JobId, Services, ServicesDep
from api.errors import BY_SLUG, KINDS, ApiError, describe, request_id, to_headers
from api.routes.logs import read_tail
from api.routes.system import VERSION
from trsp_core.report import TEMPLATES, numbers, render_fragment
from trsp_core.results import CompressionReport
from trsp_jobs import models, service
from trsp_jobs.errors import StoreUnavailable
from trsp_jobs.job_list import JobFilter
from trsp_jobs.lifecycle import Status

router = APIRouter(include_in_schema=False, tags=["dashboard"])

PAGE_SIZE = 20
LOG_BYTES = 12_000
FOLDER = Path(__file__).parent

_templates = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(words=words, numbers=numbers, version=VERSION, STATUS=words.STATUS)


def render(
    name: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """Return a page made from a template."""
    return HTMLResponse(_templates.get_template(name).render(values), status, headers)


@router.get("/")
def jobs(
    services: ServicesDep,
    caller: CallerDep,
    after: Annotated[str | None, Query(max_length=500)] = None,
    fragment: bool = False,
) -> HTMLResponse:
    """Show the jobs, newest first; with `fragment` only the list, for the live refresh."""
    with services.session() as session:
        found = service.list_jobs(
            session, after=after, limit=PAGE_SIZE, chosen=JobFilter(owner=caller.visible_owner)
        )
        reasons = service.waiting_reasons(session, found.items)
        workers = service.list_workers(session)
    cards = [views.card(job, reason) for job, reason in zip(found.items, reasons, strict=True)]
    name = "_jobs.html" if fragment else "jobs.html"
    return render(
        name,
        cards=cards,
        workers=workers,
        after=after,
        next_cursor=found.next_cursor,
        address=_address(services),
    )


@router.get("/jobs/{job_id}")
def job(job_id: JobId, request: Request, services: ServicesDep, fragment: bool = False) -> HTMLResponse:
    """Show a job; with `fragment` only the part that changes while it works."""
    with services.session() as session:
        row = service.get_job(session, job_id)
        reason = service.waiting_reason(session, row)
        attempts = service.list_attempts(session, job_id)
        artifacts = service.list_artifacts(session, job_id)
    book: StoryBook = request.app.state.stories
    page = views.page(row, reason, book.read(services, job_id))
    values: dict[str, Any] = {
        "page": page,
        "job": row,
        "attempts": attempts,
        "artifacts": artifacts,
        "log": log_tail(services, row),
        "spec": json.dumps(row.spec, indent=2),
        "address": _address(services),
    }
    if fragment:
        return render("_job_live.html", **values, has_report=False)
    report = embedded_report(services, row, artifacts)
    return render("job.html", **values, report=report, has_report=report is not None)


@router.post("/jobs/{job_id}/cancel")
def cancel(job_id: JobId, services: ServicesDep) -> RedirectResponse:
    """Cancel a job and show it."""
    with services.session() as session:
        service.cancel(session, job_id)
    return RedirectResponse(f"/jobs/{job_id}", 303)


@router.post("/jobs/{job_id}/retry")
def retry(job_id: JobId, services: ServicesDep) -> RedirectResponse:
    """Queue a job again and show it."""
    with services.session() as session:
        service.retry(session, job_id)
    services.ring(job_id)
    return RedirectResponse(f"/jobs/{job_id}", 303)


@router.get("/problems/{slug}")
def problem(slug: str) -> HTMLResponse:
    """Explain a kind of problem: the page behind the `type` of a problem+json answer."""
    kind = BY_SLUG.get(slug)
    if kind is None:
        raise ApiError("not-found", f"There is no problem type {slug[:80]!r}.")
    return render("problem.html", kind=kind, detail="", items=(), request_id="")


@router.get("/problems")
def problems() -> HTMLResponse:
    """List every kind of problem."""
    return render("problems.html", kinds=KINDS)


@router.get("/static/report.css")
def report_css() -> Response:
    """Return the style of the report's fragment, which comes with the report."""
    text = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    return Response(text, media_type="text/css", headers={"Cache-Control": "no-cache"})


def error_page(error: Exception, scope: Scope) -> HTMLResponse:
    """Return any exception as a page that says what happened and what to do."""
    described = describe(error)
    items = [asdict(item) for item in described.problems]
    return render(
        "problem.html",
        described.kind.status,
        to_headers(described),
        kind=described.kind,
        detail=described.detail,
        items=items,
        request_id=request_id(scope),
    )


def log_tail(services: Services, row: models.Job) -> str:
    """Return the end of the latest attempt's log; empty before the first."""
    if row.attempt == 0:
        return ""
    try:
        return read_tail(services, row.id, row.attempt, LOG_BYTES)
    except StoreUnavailable:
        return "The artifact store does not answer; the log is shown again when it does."


def embedded_report(services: Services, row: models.Job, artifacts: Any) -> Markup | None:
    """Return the report's headline and charts, or None where there is none."""
    found = next((item for item in artifacts if item.path == "report.json"), None)
    if row.status != Status.SUCCEEDED or found is None:
        return None
    try:
        text = b"".join(services.store.open_range(found.store_path, 0, found.size))
    except StoreUnavailable:
        return None
    report = CompressionReport.from_dict(json.loads(text))
    return Markup(render_fragment(report))  # noqa: S704 - rendered with autoescape by the report


def _address(services: Services) -> str:
    settings = services.settings
    return settings.public_url or f"http://{settings.host}:{settings.port}"
