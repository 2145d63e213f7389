"""What a job's attempts said, by byte offset: in pieces, and live as server-sent events."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.orm import Session

from api.deps import JobId, Services, ServicesDep
from api.errors import ApiError, invalid_request
from api.live import LiveDep
from api.streams import Patience
from trsp_core.errors import Problem
from trsp_jobs import service
from trsp_jobs.db import OUTAGES
from trsp_jobs.errors import JobNotFound, StoreUnavailable
from trsp_jobs.logs import held_log, held_size, read_stored, stored_size
from trsp_jobs.models import Attempt

router = APIRouter(prefix="/v1/jobs/{job_id}/logs", tags=["files"])

PIECE_BYTES = 256 * 1024
_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_PLACE = re.compile(r"(\d{1,5}):(\d{1,16})", re.ASCII)

AttemptNumber = Annotated[int | None, Query(ge=1, le=10_000, description="The latest unless given.")]
Offset = Annotated[int, Query(ge=0, le=2**53, description="Byte to start at.")]


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Bytes of a log that end with a whole character, and where the next piece starts."""

    attempt: int
    data: bytes
    next_offset: int
    complete: bool


@router.get("", summary="Read a log", response_class=Response, responses={200: {"content": _TEXT}})
def logs(job_id: JobId, services: ServicesDep, attempt: AttemptNumber = None, offset: Offset = 0) -> Response:
    """Return an attempt's log from a byte offset, as far as it is written, in pieces of bounded size.

    `Log-Next-Offset` is where the next piece starts; `Log-Complete: true` says that no more will come.
    """
    piece = read_piece(services, job_id, attempt, offset)
    headers = {
        "Log-Attempt": str(piece.attempt),
        "Log-Next-Offset": str(piece.next_offset),
        "Log-Complete": "true" if piece.complete else "false",
        "Cache-Control": "no-cache",
    }
    return Response(piece.data, media_type="text/plain; charset=utf-8", headers=headers)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a job's logs a stream stands; None for the latest attempt, which may be still to come."""

    attempt: int | None
    offset: int


def start_at(
    job_id: JobId,
    services: ServicesDep,
    attempt: AttemptNumber = None,
    offset: Offset = 0,
    last_event_id: Annotated[
        str | None, Header(description="ATTEMPT:OFFSET, the id of the last event.")
    ] = None,
) -> Place:
    """Return where the stream is to start; refuse an unknown job or attempt before the stream is begun."""
    place = Place(attempt, offset) if last_event_id is None else _place(last_event_id)
    with services.session() as session:
        service.get_job(session, job_id)
        _attempt(session, job_id, place.attempt)
    return place


def _place(given: str) -> Place:
    found = _PLACE.fullmatch(given)
    if found is None:
        message = "must be the id of an event of this log, ATTEMPT:OFFSET, such as 1:4096."
        raise invalid_request(Problem("/header/last-event-id", message, given[:80]))
    return Place(int(found[1]), int(found[2]))


@router.get("/stream", response_class=EventSourceResponse, summary="Follow a log")
async def stream(
    job_id: JobId, services: ServicesDep, live: LiveDep, place: Annotated[Place, Depends(start_at)]
) -> AsyncIterator[ServerSentEvent]:
    """Send an attempt's log as it is written: events named `log` with `attempt`, `offset` and `text`.

    The id is the attempt and the byte offset of what follows; a client that comes back with
    `Last-Event-ID` goes on there. When the attempt has ended and all is sent, an event named `end` says so.
    """
    patience = Patience()
    async with live.topic(job_id) as topic:
        while not services.stopping.is_set():
            seen = topic.version
            try:
                action = partial(read_piece, services, job_id, place.attempt, place.offset)
                piece = await topic.read(("log", place), action)
            except (*OUTAGES, StoreUnavailable):
                if patience.over:
                    return
                await topic.wait(seen)
                continue
            except JobNotFound:
                return
            patience.renew()
            if piece.data:
                yield _frame(piece, piece.next_offset - len(piece.data))
                place = Place(piece.attempt, piece.next_offset)
            elif piece.complete:
                yield ServerSentEvent(
                    event="end", data={"attempt": piece.attempt, "offset": piece.next_offset}
                )
                return
            else:
                await topic.wait(seen)


def _frame(piece: LogPiece, offset: int) -> ServerSentEvent:
    data = {"attempt": piece.attempt, "offset": offset, "text": piece.data.decode(errors="replace")}
    return ServerSentEvent(id=f"{piece.attempt}:{piece.next_offset}", event="log", data=data)


def read_piece(services: Services, job_id: str, number: int | None, offset: int) -> LogPiece:
    """Return a piece of an attempt's log; an empty one, not complete, before the first attempt.

    Raises:
        JobNotFound: If there is no such job.
        ApiError: If it has no such attempt (404).
    """
    with services.session() as session:
        service.get_job(session, job_id)
        attempt = _attempt(session, job_id, number)
        held = b"" if attempt is None else held_log(session, attempt, offset, PIECE_BYTES)
    if attempt is None:
        return LogPiece(0, b"", 0, complete=False)
    found = read_stored(services.store, attempt, offset, PIECE_BYTES) if held is None else held
    ended = attempt.finished_at is not None and len(found) < PIECE_BYTES
    data = found if ended else whole_characters(found)
    return LogPiece(attempt.number, data, offset + len(data), complete=ended)


def _attempt(session: Session, job_id: str, number: int | None) -> Attempt | None:
    rows = service.list_attempts(session, job_id)
    if number is None:
        return rows[-1] if rows else None
    found = next((row for row in rows if row.number == number), None)
    if found is None:
        raise ApiError("not-found", f"{job_id} has {len(rows)} attempts; there is no attempt {number}.")
    return found


def whole_characters(data: bytes) -> bytes:
    """Return UTF-8 without the first bytes of a character whose rest has not come yet."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte & 0b1100_0000 == 0b1000_0000:
            continue
        needed = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        return data[:-back] if needed > back else data
    return data


def read_tail(services: Services, job_id: str, number: int, size: int) -> str:
    """Return the last `size` bytes of an attempt's log as text; empty if there is none yet."""
    with services.session() as session:
        attempt = _attempt(session, job_id, number)
        whole = 0 if attempt is None else held_size(session, attempt)
    if whole is None and attempt is not None:
        whole = stored_size(services.store, attempt)
    start = max(0, (whole or 0) - size)
    text = read_piece(services, job_id, number, start).data[-size:].decode(errors="replace")
    return text if start == 0 else text.partition("\n")[2]
