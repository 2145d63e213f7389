"""Jobs: create, try out, list, show, cancel, retry."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response
from sqlalchemy.orm import Session

from api.deps import JOB_ID, JobId, JsonBody, ServicesDep
from api.errors import invalid_request
from api.schemas import AttemptList, AttemptOut, JobOut, JobPage, JobRequest, PreflightOut
from api.submission import EXAMPLES, Submission
from trsp_core.errors import Problem, closest
from trsp_jobs import models, service
from trsp_jobs.lifecycle import Status

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobBody = Annotated[
    JobRequest,
    Body(openapi_examples={name: {"value": value} for name, value in EXAMPLES.items()}),
]
Text = Annotated[str | None, Query(max_length=500, pattern="^[^\x00]*$")]


@router.post("", status_code=202, dependencies=[JsonBody], summary="Create a job")
def create(body: JobBody, services: ServicesDep, response: Response) -> JobOut:
    """Check the job completely, store it, and ring the workers.

    The answer does not wait for a worker, nor for the broker: a job whose ring was lost is rung again.
    """
    submission = Submission.from_dict(body.root)
    spec = services.admit(submission.spec).spec
    with services.session() as session:
        job = service.submit(session, spec, **submission.options.to_dict(), settings=services.settings)
        session.flush()
        shown = _show(session, job)
    services.ring(job.id)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return shown


@router.post("/validate", dependencies=[JsonBody], summary="Try a job out without creating it")
def validate(body: JobBody, services: ServicesDep) -> PreflightOut:
    """Say which layers it is about and what it needs; refuse what `POST /v1/jobs` would refuse."""
    submission = Submission.from_dict(body.root)
    admitted = services.admit(submission.spec)
    return PreflightOut.of(admitted.spec, admitted.preflight)


@router.get("", summary="List jobs, newest first")
def list_jobs(
    services: ServicesDep,
    after: Annotated[
        str | None, Query(description="`next_cursor` of the page before.", pattern=f"^{JOB_ID.pattern}$")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    status: Annotated[str | None, Query(description="Only jobs of this status.")] = None,
    model: Text = None,
    label: Annotated[Text, Query(description="Only jobs with this label: NAME or NAME=TEXT.")] = None,
) -> JobPage:
    """Return one page. Jobs that are created meanwhile do not shift the pages that follow."""
    wanted = None if status is None else _status(status)
    with services.session() as session:
        page = service.list_jobs(session, after=after, limit=limit, status=wanted, model=model, label=label)
        items = [_show(session, job) for job in page.items]
    return JobPage(items=items, next_cursor=page.next_cursor)


@router.get(
    "/{job_id}",
    summary="Show a job",
    response_model=JobOut,
    responses={304: {"description": "Nothing changed."}},
)
def show(job_id: JobId, request: Request, services: ServicesDep, response: Response) -> JobOut | Response:
    """Return the job; with `If-None-Match` and an unchanged job, 304."""
    with services.session() as session:
        job = service.get_job(session, job_id)
        shown = _show(session, job)
    tag = _etag(job, shown)
    if tag in _tags(request):
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-cache"})
    response.headers["ETag"] = tag
    response.headers["Cache-Control"] = "no-cache"
    return shown


@router.post("/{job_id}/cancel", summary="Ask a job to stop")
def cancel(job_id: JobId, services: ServicesDep) -> JobOut:
    """Cancel a waiting job at once, stop a running one at its next step; asking again changes nothing."""
    with services.session() as session:
        job = service.cancel(session, job_id)
        session.flush()
        return _show(session, job)


@router.post("/{job_id}/retry", status_code=202, summary="Queue a job again")
def retry(job_id: JobId, services: ServicesDep) -> JobOut:
    """Queue a failed, timed out or canceled job again; it goes on from its last checkpoint."""
    with services.session() as session:
        job = service.retry(session, job_id)
        session.flush()
        shown = _show(session, job)
    services.ring(job_id)
    return shown


@router.get("/{job_id}/attempts", summary="List a job's attempts")
def attempts(job_id: JobId, services: ServicesDep) -> AttemptList:
    """Return every try at the job, with its end and why it came."""
    with services.session() as session:
        service.get_job(session, job_id)
        rows = service.list_attempts(session, job_id)
        return AttemptList(items=[AttemptOut.model_validate(row) for row in rows])


def _show(session: Session, job: models.Job) -> JobOut:
    return JobOut.of(job, service.waiting_reason(session, job))


def _etag(job: models.Job, shown: JobOut) -> str:
    """Return the row's version with a hash of the reason, which changes with other jobs and workers."""
    return f'"{job.version}-{hashlib.sha256(shown.reason.encode()).hexdigest()[:8]}"'


def _tags(request: Request) -> set[str]:
    given = request.headers.get("if-none-match", "")
    return {tag.strip().removeprefix("W/") for tag in given.split(",")}


def _status(name: str) -> Status:
    known = tuple(Status)
    if name in known:
        return Status(name)
    message = f"is {name[:80]!r}; it must be one of {', '.join(known)}."
    raise invalid_request(Problem("/query/status", message, name[:80], known, closest(name, known)))
