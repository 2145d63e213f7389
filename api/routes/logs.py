"""What a job's attempts said, by byte offset, while they run and afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from api.deps import JobId, Services, ServicesDep
from api.errors import ApiError
from trsp_jobs import service
from trsp_jobs.errors import ArtifactNotFound
from trsp_jobs.logs import local_log, read_log, stored_log
from trsp_jobs.models import Attempt

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["files"])

PIECE_BYTES = 256 * 1024
_TEXT = {"text/plain": {"schema": {"type": "string"}}}


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Bytes of a log that end with a whole character, and where the next piece starts."""

    attempt: int
    data: bytes
    next_offset: int
    complete: bool


@router.get("/logs", summary="Read a log", response_class=Response, responses={200: {"content": _TEXT}})
def logs(
    job_id: JobId,
    services: ServicesDep,
    attempt: Annotated[int | None, Query(ge=1, le=10_000, description="The latest unless given.")] = None,
    offset: Annotated[int, Query(ge=0, le=2**53, description="Byte to start at.")] = 0,
) -> Response:
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


def read_piece(services: Services, job_id: str, number: int | None, offset: int) -> LogPiece:
    """Return a piece of an attempt's log; an empty one, not complete, before the first attempt.

    Raises:
        JobNotFound: If there is no such job.
        ApiError: If it has no such attempt (404).
    """
    with services.session() as session:
        service.get_job(session, job_id)
        attempt = _attempt(session, job_id, number)
    if attempt is None:
        return LogPiece(0, b"", 0, complete=False)
    chunk = read_log(
        job_id,
        attempt.number,
        offset,
        work_dir=services.settings.work_dir,
        store=services.store,
        limit=PIECE_BYTES,
    )
    ended = attempt.finished_at is not None and len(chunk.data) < PIECE_BYTES
    data = chunk.data if ended else whole_characters(chunk.data)
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
    settings = services.settings
    path = local_log(settings.work_dir, job_id, number)
    try:
        length = (
            path.stat().st_size if path.exists() else services.store.stat(stored_log(job_id, number)).size
        )
    except (ArtifactNotFound, FileNotFoundError):
        return ""
    start = max(0, length - size)
    chunk = read_log(job_id, number, start, work_dir=settings.work_dir, store=services.store, limit=size)
    text = chunk.data.decode(errors="replace")
    return text if start == 0 else text.partition("\n")[2]
