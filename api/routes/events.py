"""What happened to a job: as pages, and live as server-sent events with the same content."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.deps import JobId, Services, ServicesDep
from api.errors import invalid_request
from api.schemas import EventOut, EventPage
from trsp_core.errors import Problem
from trsp_jobs import service
from trsp_jobs.db import OUTAGES
from trsp_jobs.lifecycle import FINAL

router = APIRouter(prefix="/v1/jobs/{job_id}/events", tags=["events"])

POLL_SECONDS = 0.4
BATCH = 200
OUTAGE_SECONDS = 30.0


def read_page(services: Services, job_id: str, after: int, limit: int) -> tuple[EventPage, str]:
    """Return the events after a sequence number and the job's status.

    The status is read first: a final status and its event are committed together, so a final status with no
    further events is the end.
    """
    with services.session() as session:
        status = service.get_job(session, job_id).status
        rows = service.events_after(session, job_id, after, limit=limit)
        items = [EventOut.model_validate(row) for row in rows]
    final = status in FINAL and len(items) < limit
    return EventPage(items=items, next_after=items[-1].sequence if items else after, final=final), status


@router.get("", summary="Read a job's events")
def read(
    job_id: JobId,
    services: ServicesDep,
    after: Annotated[int, Query(ge=0, le=2**62, description="Sequence number of the last event known.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> EventPage:
    """Return the events that follow `after`, in order."""
    return read_page(services, job_id, after, limit)[0]


def start_after(
    job_id: JobId,
    services: ServicesDep,
    last_event_id: Annotated[str | None, Header(description="Sequence number of the last event got.")] = None,
    after: Annotated[int, Query(ge=0, le=2**62, description="The same, for clients without the header.")] = 0,
) -> int:
    """Return where the stream is to start; refuse an unknown job before the stream is begun."""
    with services.session() as session:
        service.get_job(session, job_id)
    if last_event_id is None:
        return after
    if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 18:
        message = "must be the id of an event of this job, a whole number."
        raise invalid_request(Problem("/header/last-event-id", message, last_event_id[:80]))
    return int(last_event_id)


@router.get("/stream", response_class=EventSourceResponse, summary="Follow a job's events")
async def stream(
    job_id: JobId, services: ServicesDep, after: Annotated[int, Depends(start_after)]
) -> AsyncIterator[ServerSentEvent]:
    """Send each event once, in order, as it is committed; its id is its sequence number.

    A client that comes back with `Last-Event-ID` goes on where it broke off. After the job's final event an
    event named `end`, without an id, says that the stream is over for good; a stream that closes without it
    (the server stops, the database is away) is to be taken up again.
    """
    last_contact = time.monotonic()
    while not services.stopping.is_set():
        try:
            page, status = await run_in_threadpool(read_page, services, job_id, after, BATCH)
            last_contact = time.monotonic()
        except OUTAGES:
            if time.monotonic() - last_contact > OUTAGE_SECONDS:
                return
            await asyncio.sleep(POLL_SECONDS)
            continue
        for item in page.items:
            yield ServerSentEvent(id=str(item.sequence), event=item.kind, data=item)
        after = page.next_after
        if page.final:
            yield ServerSentEvent(event="end", data={"status": status})
            return
        if len(page.items) < BATCH:
            await asyncio.sleep(POLL_SECONDS)
