"""What happened to a job: as pages, and live as server-sent events with the same content."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.deps import JobId, Services, ServicesDep
from api.errors import invalid_request
from api.live import LiveDep
from api.schemas import EventOut, EventPage
from api.streams import Patience
from trsp_core.errors import Problem
from trsp_jobs import service
from trsp_jobs.db import OUTAGES
from trsp_jobs.errors import JobNotFound
from trsp_jobs.lifecycle import FINAL

router = APIRouter(prefix="/v1/jobs/{job_id}/events", tags=["events"])

BATCH = 200


@dataclass(frozen=True, slots=True)
class Frames:
    """A page of events as the stream sends them; `end` is the job's status where they are the last."""

    items: tuple[ServerSentEvent, ...]
    next_after: int
    end: str | None


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


def read_frames(services: Services, job_id: str, after: int, limit: int) -> Frames:
    """Return the events after a sequence number, written out once for all streams that send them."""
    page, status = read_page(services, job_id, after, limit)
    items = tuple(
        ServerSentEvent(id=str(item.sequence), event=item.kind, raw_data=item.model_dump_json())
        for item in page.items
    )
    return Frames(items, page.next_after, status if page.final else None)


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
    job_id: JobId, services: ServicesDep, live: LiveDep, after: Annotated[int, Depends(start_after)]
) -> AsyncIterator[ServerSentEvent]:
    """Send each event once, in order, as it is committed; its id is its sequence number.

    A client that comes back with `Last-Event-ID` goes on where it broke off. After the job's final event an
    event named `end`, without an id, says that the stream is over for good; a stream that closes without it
    (the server stops, the database is away) is to be taken up again.
    """
    patience = Patience()
    async with live.topic(job_id) as topic:
        while not services.stopping.is_set():
            seen = topic.version
            try:
                page = await topic.read(
                    ("events", after), partial(read_frames, services, job_id, after, BATCH)
                )
            except OUTAGES:
                if patience.over:
                    return
                await topic.wait(seen)
                continue
            except JobNotFound:
                return
            patience.renew()
            for item in page.items:
                yield item
            after = page.next_after
            if page.end is not None:
                yield ServerSentEvent(event="end", data={"status": page.end})
                return
            if len(page.items) < BATCH:
                await topic.wait(seen)
