"""Jobs side by side."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from api.deps import JOB_ID, CallerDep, ServicesDep
from api.errors import invalid_request
from api.problem_responses import problems
from api.schemas import ComparedJob, ComparisonOut, ComparisonRow
from trsp_core.errors import Problem
from trsp_jobs import models, service
from trsp_jobs.callers import Caller
from trsp_jobs.comparison import side_by_side
from trsp_jobs.errors import JobNotFound

router = APIRouter(prefix="/v1/compare", tags=["compare"])


@router.get("", responses=problems(404), summary="Compare jobs")
def compare(
    services: ServicesDep,
    caller: CallerDep,
    job: Annotated[list[str], Query(min_length=2, max_length=16, description="A job's id; two or more.")],
) -> ComparisonOut:
    """Return the key figures of several jobs' reports side by side."""
    with services.session() as session:
        rows = [_visible(session, caller, job_id) for job_id in job]
    problems = [problem for place, row in enumerate(rows) if (problem := _no_report(place, row))]
    if problems:
        raise invalid_request(*problems)
    figures = side_by_side([row.result or {} for row in rows])
    return ComparisonOut(
        jobs=[ComparedJob.of(row) for row in rows],
        figures=[ComparisonRow.model_validate(figure) for figure in figures],
    )


def _visible(session: Session, caller: Caller, job_id: str) -> models.Job:
    if not JOB_ID.fullmatch(job_id):
        raise JobNotFound(job_id)
    row = service.get_job(session, job_id)
    if not caller.sees(row.owner):
        raise JobNotFound(job_id)
    return row


def _no_report(place: int, row: models.Job) -> Problem | None:
    if row.result is not None:
        return None
    message = f"is {row.id}, which is {row.status}; only a job that has succeeded has a report."
    return Problem(f"/query/job/{place}", message, row.id, "a job that has succeeded")
