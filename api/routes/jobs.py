"""Jobs: create, try out, list, show, clone, cancel, retry, delete."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Body, Query, Request, Response
from sqlalchemy.orm import Session

from api.cloning import body_of, changed
from api.conditional import NOT_MODIFIED, Versions, cache_headers, content_tag, job_tag, unchanged
from api.deps import CallerDep, JobId, JsonBody, Services, ServicesDep
from api.errors import invalid_request
from api.idempotency import Answer, OnceKey, earlier, once
from api.problem_responses import problems
from api.schemas import (
    AttemptList,
    AttemptOut,
    CloneRequest,
    JobOut,
    JobPage,
    JobRequest,
    PreflightOut,
    RetryRequest,
)
from api.submission import EXAMPLES, RetryOptions, ServiceOptions, Submission
from api.webhook_fields import own_webhook
from trsp_core.errors import Problem, closest
from trsp_jobs import estimates, models, service
from trsp_jobs.callers import Caller
from trsp_jobs.errors import StoreUnavailable, WrongCursor
from trsp_jobs.inputs.admission import Admitted
from trsp_jobs.job_list import NEWEST, SORTS, JobFilter
from trsp_jobs.lifecycle import Status

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

log = structlog.get_logger(__name__)

JobBody = Annotated[
    JobRequest,
    Body(openapi_examples={name: {"value": value} for name, value in EXAMPLES.items()}),
]
Text = Annotated[str | None, Query(max_length=500, pattern="^[^\x00]*$")]
Several = Annotated[str, Query(max_length=500, pattern="^[^\x00]*$")]


@router.post(
    "",
    status_code=202,
    response_model=JobOut,
    dependencies=[JsonBody],
    responses=problems(429),
    summary="Create a job",
)
def create(body: JobBody, services: ServicesDep, caller: CallerDep, keyed: OnceKey) -> Response:
    """Check the job completely, store it, and ring the workers.

    The answer does not wait for a worker, nor for the broker: a job whose ring was lost is rung again.
    """
    return earlier(services, keyed) or _create(services, caller, keyed, body.root)


@router.post("/validate", dependencies=[JsonBody], summary="Try a job out without creating it")
def validate(body: JobBody, services: ServicesDep, caller: CallerDep) -> PreflightOut:
    """Say which layers it is about and what it needs; refuse what `POST /v1/jobs` would refuse.

    Time and memory are judged by the jobs that have succeeded here; where there were none like it, the
    answer says that they are unknown.
    """
    admitted = services.admit(Submission.from_dict(body.root).spec, caller)
    with services.session() as session:
        estimate = estimates.estimate(session, admitted.spec, admitted.preflight)
    return PreflightOut.of(admitted.spec, admitted.preflight, estimate)


@router.post(
    "/{job_id}/clone",
    status_code=202,
    response_model=JobOut,
    responses=problems(429),
    summary="Create a job like another",
)
def clone(
    job_id: JobId,
    services: ServicesDep,
    caller: CallerDep,
    keyed: OnceKey,
    body: CloneRequest | None = None,
) -> Response:
    """Create a job from another one's spec and options, with the fields of the body changed.

    The body is a JSON merge patch (RFC 7396). A target is replaced as a whole, and so are the options of a
    method by another method.
    """
    known = earlier(services, keyed)
    if known is not None:
        return known
    with services.session() as session:
        source = body_of(service.get_job(session, job_id))
    wanted = changed(source, body.root if body else {})
    return _create(services, caller, keyed, wanted, cloned_from=job_id)


def _create(
    services: Services,
    caller: Caller,
    keyed: OnceKey,
    body: dict[str, Any],
    cloned_from: str | None = None,
) -> Response:
    submission = Submission.from_dict(body)
    admitted = services.admit(submission.spec, caller)
    work = partial(_submit, services, caller, admitted, submission.options, cloned_from)
    return once(services, keyed, work, then=lambda answer: services.ring(answer.body["id"]))


def _submit(
    services: Services,
    caller: Caller,
    admitted: Admitted,
    options: ServiceOptions,
    cloned_from: str | None,
    session: Session,
) -> Answer:
    own_webhook(session, options.webhook, caller)
    job = service.submit(
        session,
        admitted.spec,
        **options.to_dict(),
        memory_bytes=admitted.preflight.least_memory_bytes,
        cloned_from=cloned_from,
        caller=caller,
        settings=services.settings,
    )
    session.flush()
    return Answer(202, _show(session, job).model_dump(mode="json"), f"/v1/jobs/{job.id}")


@router.get("", summary="List jobs", response_model=JobPage, responses=NOT_MODIFIED)
def list_jobs(
    services: ServicesDep,
    request: Request,
    caller: CallerDep,
    after: Annotated[
        str | None, Query(description="`next_cursor` of the page before.", max_length=500)
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    sort: Annotated[str, Query(description=f"One of {', '.join(SORTS)}; `-` is largest first.")] = NEWEST,
    status: Annotated[
        list[str] | None, Query(description="Only jobs of this status; given again, of any of them.")
    ] = None,
    model: Text = None,
    label: Annotated[
        list[Several] | None,
        Query(description="Only jobs with this label, NAME or NAME=TEXT; all if repeated."),
    ] = None,
    schedule: Annotated[Text, Query(description="Only jobs that this schedule made.")] = None,
    created_after: Annotated[datetime | None, Query(description="Only jobs created later, RFC 3339.")] = None,
    created_before: Annotated[
        datetime | None, Query(description="Only jobs created earlier, RFC 3339.")
    ] = None,
) -> Response:
    """Return one page, newest first unless sorted otherwise; an unfinished job counts as finished last.

    Jobs that are created meanwhile do not shift the pages that follow.
    """
    chosen = JobFilter(
        statuses=[_one_of(name, tuple(Status), "/query/status") for name in status or ()],
        model=model,
        labels=label or (),
        schedule=schedule,
        created_after=_moment(created_after, "/query/created_after"),
        created_before=_moment(created_before, "/query/created_before"),
        owner=caller.visible_owner,
    )
    order = _one_of(sort, SORTS, "/query/sort")
    content = _page(services, after, limit, order, chosen).model_dump_json().encode()
    tag = content_tag(content)
    return unchanged(request, tag) or Response(
        content, headers=cache_headers(tag), media_type="application/json"
    )


def _page(services: Services, after: str | None, limit: int, sort: str, chosen: JobFilter) -> JobPage:
    try:
        with services.session() as session:
            page = service.list_jobs(session, after=after, limit=limit, sort=sort, chosen=chosen)
            reasons = service.waiting_reasons(session, page.items)
    except WrongCursor as error:
        raise invalid_request(Problem("/query/after", f"{error}.", (after or "")[:80])) from error
    items = [JobOut.of(job, reason) for job, reason in zip(page.items, reasons, strict=True)]
    return JobPage(items=items, next_cursor=page.next_cursor)


@router.get("/{job_id}", summary="Show a job", response_model=JobOut, responses=NOT_MODIFIED)
def show(job_id: JobId, request: Request, services: ServicesDep, response: Response) -> JobOut | Response:
    """Return the job; with `If-None-Match` and an unchanged job, 304."""
    with services.session() as session:
        job = service.get_job(session, job_id)
        shown = _show(session, job)
    tag = job_tag(job, shown.reason)
    response.headers.update(cache_headers(tag))
    return unchanged(request, tag) or shown


@router.post("/{job_id}/cancel", responses=problems(409), summary="Ask a job to stop")
def cancel(job_id: JobId, services: ServicesDep, versions: Versions, response: Response) -> JobOut:
    """Cancel a waiting job at once, stop a running one at its next step; asking again changes nothing."""
    with services.session() as session:
        job = service.cancel(session, job_id, versions=versions)
        session.flush()
        shown = _show(session, job)
    response.headers["ETag"] = job_tag(job, shown.reason)
    return shown


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=JobOut,
    responses=problems(429),
    summary="Queue a job again",
)
def retry(
    job_id: JobId,
    services: ServicesDep,
    versions: Versions,
    keyed: OnceKey,
    body: RetryRequest | None = None,
) -> Response:
    """Queue a failed, timed out or canceled job again.

    It goes on from its last checkpoint where that still lies on the worker's disk, unless the body asks for
    `from_scratch`.
    """
    options = RetryOptions.from_dict(body.root if body else {})

    def work(session: Session) -> Answer:
        job = service.retry(session, job_id, from_scratch=options.from_scratch, versions=versions)
        session.flush()
        return Answer(202, _show(session, job).model_dump(mode="json"))

    return once(services, keyed, work, then=lambda _: services.ring(job_id))


@router.delete("/{job_id}", status_code=204, responses=problems(409), summary="Delete a job")
def delete(job_id: JobId, services: ServicesDep, versions: Versions) -> None:
    """Delete a job that has ended, with its events, logs and files. There is no way back."""
    with services.session() as session:
        service.remove(session, job_id, versions=versions)
    try:
        services.store.delete(f"jobs/{job_id}")
    except StoreUnavailable as error:
        log.warning("files of a deleted job are left in the store", job_id=job_id, error=str(error))


@router.get("/{job_id}/attempts", summary="List a job's attempts")
def attempts(job_id: JobId, services: ServicesDep) -> AttemptList:
    """Return every try at the job, with its end and why it came."""
    with services.session() as session:
        service.get_job(session, job_id)
        rows = service.list_attempts(session, job_id)
        return AttemptList(items=[AttemptOut.model_validate(row) for row in rows])


def _show(session: Session, job: models.Job) -> JobOut:
    return JobOut.of(job, service.waiting_reason(session, job))


def _one_of(name: str, known: tuple[str, ...], pointer: str) -> str:
    if name in known:
        return name
    message = f"is {name[:80]!r}; it must be one of {', '.join(known)}."
    raise invalid_request(Problem(pointer, message, name[:80], known, closest(name, known)))


def _moment(given: datetime | None, pointer: str) -> datetime | None:
    if given is not None and given.tzinfo is None:
        message = "has no time zone; write it with Z or an offset, such as 2026-01-31T12:00:00Z."
        raise invalid_request(Problem(pointer, message, given.isoformat(), "a time with its offset"))
    return given
