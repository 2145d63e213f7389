"""Schedules: job specs that become jobs at times of a cron."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from api.conditional import NOT_MODIFIED, cache_headers, unchanged
from api.deps import CallerDep, JsonBody, Services, ServicesDep, refuse_foreign
from api.errors import invalid_request
from api.idempotency import Answer, OnceKey, earlier, once
from api.preconditions import BasedOn, version_tag
from api.problem_responses import problems
from api.schedule_body import ScheduleBody, inside_job
from api.schedule_schemas import (
    FireOut,
    FirePage,
    PreviewOut,
    PreviewRequest,
    ScheduleChange,
    ScheduleOut,
    SchedulePage,
    ScheduleRequest,
)
from api.webhook_fields import own_webhook
from trsp_core.config import CompressionSpec
from trsp_core.errors import InputRefused, InvalidSpec, Problem
from trsp_jobs import schedules
from trsp_jobs.callers import Caller
from trsp_jobs.errors import ResourceNotFound
from trsp_jobs.schedules.cron import Cron
from trsp_jobs.schedules.rows import Schedule

router = APIRouter(prefix="/v1/schedules", tags=["schedules"])

SCHEDULE_ID = re.compile(r"sch_[0-9a-z]{26}")


def check_schedule_id(
    schedule_id: Annotated[str, Path(description="The schedule's id, `sch_…`.")],
    caller: CallerDep,
    services: ServicesDep,
) -> str:
    """Return the id; one that no schedule has, or that somebody else's has, is no schedule's."""
    if not SCHEDULE_ID.fullmatch(schedule_id):
        raise ResourceNotFound("schedule", schedule_id[:80])
    find = partial(schedules.get_schedule, schedule_id=schedule_id)
    refuse_foreign(services, caller, "schedule", schedule_id, find)
    return schedule_id


ScheduleId = Annotated[str, Depends(check_schedule_id)]


@router.post(
    "",
    status_code=201,
    response_model=ScheduleOut,
    dependencies=[JsonBody],
    summary="Create a schedule",
)
def create(body: ScheduleRequest, services: ServicesDep, caller: CallerDep, keyed: OnceKey) -> Response:
    """Check the times and the whole job, and store them. The job is checked again at each time."""
    answer = earlier(services, keyed) or _create(services, caller, keyed, body)
    answer.headers.update(cache_headers(version_tag(json.loads(bytes(answer.body))["version"])))
    return answer


def _create(services: Services, caller: Caller, keyed: OnceKey, body: ScheduleRequest) -> JSONResponse:
    wanted = ScheduleBody.from_dict(body.root)
    _admit(services, caller, wanted)

    def work(session: Session) -> Answer:
        row = schedules.create(session, caller, wanted.terms())
        session.refresh(row)
        return Answer(201, ScheduleOut.of(row).model_dump(mode="json"), f"/v1/schedules/{row.id}")

    return once(services, keyed, work)


@router.post("/preview", dependencies=[JsonBody], summary="Try times out")
def preview_times(body: PreviewRequest) -> PreviewOut:
    """Return the next five times of a cron in a zone."""
    return PreviewOut(times=Cron(body.cron, body.zone).preview(datetime.now(UTC)))


@router.get("", summary="List schedules, newest first")
def list_schedules(
    services: ServicesDep,
    caller: CallerDep,
    after: Annotated[
        str | None, Query(description="`next_cursor` of the page before.", pattern=f"^{SCHEDULE_ID.pattern}$")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> SchedulePage:
    """Return one page. Schedules that are created meanwhile do not shift the pages that follow."""
    with services.session() as session:
        page = schedules.list_schedules(session, after=after, limit=limit, owner=caller.visible_owner)
        return SchedulePage(items=[ScheduleOut.of(row) for row in page.items], next_cursor=page.next_cursor)


@router.get(
    "/{schedule_id}",
    summary="Show a schedule",
    response_model=ScheduleOut,
    responses=NOT_MODIFIED,
)
def show(
    schedule_id: ScheduleId, request: Request, services: ServicesDep, response: Response
) -> ScheduleOut | Response:
    """Return the schedule; with `If-None-Match` and an unchanged schedule, 304."""
    with services.session() as session:
        row = schedules.get_schedule(session, schedule_id)
    tag = version_tag(row.version)
    return unchanged(request, tag) or _tagged(row, response)


@router.patch(
    "/{schedule_id}",
    dependencies=[JsonBody],
    responses=problems(409, 428),
    summary="Change a schedule",
)
def change(
    schedule_id: ScheduleId,
    body: ScheduleChange,
    services: ServicesDep,
    caller: CallerDep,
    version: BasedOn,
    response: Response,
) -> ScheduleOut:
    """Change the fields that are given; `job` is replaced as a whole. `If-Match` must name the ETag."""
    with services.session() as session:
        current = schedules.get_schedule(session, schedule_id)
    wanted = ScheduleBody.changed(current, body.root)
    _admit(services, caller, wanted)
    with services.session() as session:
        row = schedules.change(session, schedule_id, wanted.terms(), version=version, caller=caller)
    return _tagged(row, response)


@router.delete("/{schedule_id}", status_code=204, summary="Delete a schedule")
def delete(schedule_id: ScheduleId, services: ServicesDep) -> Response:
    """Remove the schedule and its history; its jobs stay."""
    with services.session() as session:
        schedules.delete(session, schedule_id)
    return Response(status_code=204)


@router.post("/{schedule_id}/pause", summary="Suspend a schedule")
def pause(schedule_id: ScheduleId, services: ServicesDep, response: Response) -> ScheduleOut:
    """Let no time make a job until it is resumed; asking again changes nothing."""
    with services.session() as session:
        row = schedules.suspend(session, schedule_id)
    return _tagged(row, response)


@router.post("/{schedule_id}/resume", summary="Resume a schedule")
def resume(schedule_id: ScheduleId, services: ServicesDep, response: Response) -> ScheduleOut:
    """Go on with the next time from now; the times in between are not made good."""
    with services.session() as session:
        row = schedules.resume(session, schedule_id)
    return _tagged(row, response)


@router.post(
    "/{schedule_id}/run-now",
    status_code=202,
    response_model=FireOut,
    responses=problems(409, 429),
    summary="Run a schedule at once",
)
def run_now(schedule_id: ScheduleId, services: ServicesDep, keyed: OnceKey) -> Response:
    """Make a job of it now, suspended or not; its times stay as they are."""
    return earlier(services, keyed) or _run_now(services, schedule_id, keyed)


def _run_now(services: Services, schedule_id: str, keyed: OnceKey) -> Response:
    with services.session() as session:
        row = schedules.get_schedule(session, schedule_id)
        holder = schedules.holder_of(session, row)
    admitted = services.admit(CompressionSpec.from_dict(row.spec), holder)

    def work(session: Session) -> Answer:
        fire = schedules.run_now(
            session,
            schedule_id,
            admitted.spec,
            services.settings,
            version=row.version,
            memory_bytes=admitted.preflight.least_memory_bytes,
        )
        session.refresh(fire)
        made = None if fire.job_id is None else f"/v1/jobs/{fire.job_id}"
        return Answer(202, FireOut.model_validate(fire).model_dump(mode="json"), made)

    return once(services, keyed, work, then=lambda answer: _ring(services, answer))


def _ring(services: Services, answer: Answer) -> None:
    if answer.body["job_id"] is not None:
        services.ring(answer.body["job_id"])


@router.get("/{schedule_id}/preview", summary="Preview the next times")
def preview(schedule_id: ScheduleId, services: ServicesDep) -> PreviewOut:
    """Return the next five times; of a suspended schedule those that it would have."""
    with services.session() as session:
        row = schedules.get_schedule(session, schedule_id)
        return PreviewOut(times=schedules.preview(session, row))


@router.get("/{schedule_id}/fires", summary="What came of the times")
def fires(
    schedule_id: ScheduleId,
    services: ServicesDep,
    before: Annotated[datetime | None, Query(description="`next_before` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> FirePage:
    """Return what came of each time, latest first: the job that was made, or why none was."""
    if before is not None and before.tzinfo is None:
        message = "has no time zone; send `next_before` as it came, with Z or an offset."
        raise invalid_request(Problem("/query/before", message, before.isoformat()))
    with services.session() as session:
        rows, following = schedules.list_fires(session, schedule_id, before=before, limit=limit)
        return FirePage(items=[FireOut.model_validate(row) for row in rows], next_before=following)


def _admit(services: Services, caller: Caller, wanted: ScheduleBody) -> None:
    """Refuse a job that could not be made now; its problems point into the schedule."""
    try:
        services.admit(wanted.job.spec, caller)
        with services.session() as session:
            own_webhook(session, wanted.job.options.webhook, caller)
    except InputRefused as error:
        raise InvalidSpec(*inside_job(error.problems)) from error


def _tagged(row: Schedule, response: Response) -> ScheduleOut:
    response.headers.update(cache_headers(version_tag(row.version)))
    return ScheduleOut.of(row)
