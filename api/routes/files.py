"""What a job leaves: its report and its files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC
from itertools import chain
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import quote

import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.conditional import NOT_MODIFIED
from api.deps import JobId, Services, ServicesDep
from api.errors import ApiError
from api.problem_responses import problems
from api.ranges import ByteRange, requested_range
from api.schemas import ArtifactList, ArtifactOut
from trsp_jobs import models, service
from trsp_jobs.errors import ArtifactNotFound, DamagedFile
from trsp_jobs.lifecycle import Status

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["files"])

log = structlog.get_logger(__name__)

REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
DOWNLOAD_POLICY = "default-src 'none'; sandbox"
BINARY: dict[str, Any] = {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    "*/*": {},
}
"""A file has the media type that it was published with."""
_REPORT_CONTENT = {
    "application/json": {"schema": {"type": "object"}},
    "text/html": {"schema": {"type": "string"}},
    "text/csv": {"schema": {"type": "string"}},
}


@router.get("/artifacts", summary="List a job's files")
def list_artifacts(job_id: JobId, services: ServicesDep) -> ArtifactList:
    """Return the published files with their sizes and hashes.

    There are none before the job has succeeded, but for one that ran out of time: what it had made by then.
    """
    with services.session() as session:
        service.get_job(session, job_id)
        rows = service.list_artifacts(session, job_id)
        return ArtifactList(items=[ArtifactOut.of(row) for row in rows])


@router.get(
    "/artifacts/{path:path}",
    summary="Download a file",
    response_class=StreamingResponse,
    responses={200: {"content": BINARY}, 206: {"content": BINARY}, **NOT_MODIFIED, **problems(416)},
)
@router.head("/artifacts/{path:path}", include_in_schema=False)
def download(job_id: JobId, path: str, request: Request, services: ServicesDep) -> Response:
    """Stream a file, or one range of it; its ETag is its SHA-256."""
    return send_file(services, find(services, job_id, path), request, attachment=True)


@router.get(
    "/report",
    summary="Read the report",
    response_class=StreamingResponse,
    responses={
        200: {"content": _REPORT_CONTENT},
        206: {"content": _REPORT_CONTENT},
        **NOT_MODIFIED,
        **problems(416),
    },
)
@router.head("/report", include_in_schema=False)
def report(
    job_id: JobId,
    request: Request,
    services: ServicesDep,
    form: Annotated[Literal["json", "html", "csv"], Query(alias="format")] = "json",
) -> Response:
    """Return the report of a job that succeeded, as JSON, as a page or as a table."""
    return send_file(services, find(services, job_id, f"report.{form}"), request, attachment=False)


def find(services: Services, job_id: str, path: str) -> models.Artifact:
    """Return the row of a published file.

    Raises:
        ApiError: If there is none, with the reason.
    """
    if "\0" in path:
        raise ArtifactNotFound(path)
    with services.session() as session:
        job = service.get_job(session, job_id)
        try:
            return service.get_artifact(session, job_id, path)
        except ArtifactNotFound as error:
            if job.files_removed_at is not None:
                when = f"{job.files_removed_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
                detail = f"The files of {job_id} were removed at {when}: they had been kept long enough."
                raise ApiError("artifact-not-found", detail) from error
            if job.status == Status.SUCCEEDED:
                raise
            detail = f"{job_id} is {job.status}; its files appear once it has succeeded."
            raise ApiError("artifact-not-found", detail) from error


def send_file(services: Services, row: models.Artifact, request: Request, *, attachment: bool) -> Response:
    """Answer with a stored file, whole or one range of it, with its hash as ETag."""
    tag = f'"{row.sha256}"'
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": _disposition(row.path, attachment=attachment),
        "Content-Security-Policy": DOWNLOAD_POLICY if attachment else REPORT_POLICY,
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    part = requested_range(request.headers, tag, row.size)
    headers["Content-Length"] = str(part.length if part else row.size)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{row.size}"
    status = 206 if part is not None else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=row.media_type)
    content = _open(services, row, part)
    return StreamingResponse(content, status, headers, row.media_type)


def _open(services: Services, row: models.Artifact, part: ByteRange | None) -> Iterator[bytes]:
    """Read the first piece at once, so that a missing file or store is an answer and not a torn stream."""
    if part is None:
        chunks = _verified(services.store.open_range(row.store_path), row)
    else:
        chunks = services.store.open_range(row.store_path, part.start, part.end)
    return chain([next(chunks, b"")], chunks)


def _verified(pieces: Iterator[bytes], row: models.Artifact) -> Iterator[bytes]:
    """Hold the last piece back until the hash is right, so that no damaged file arrives as a whole one."""
    digest, held = hashlib.sha256(), b""
    for piece in pieces:
        if held:
            yield held
        digest.update(piece)
        held = piece
    if digest.hexdigest() != row.sha256:
        error = DamagedFile(row.store_path, row.sha256, digest.hexdigest())
        log.error("a stored file is damaged", path=row.store_path, found=error.found)
        raise error
    yield held


def _disposition(path: str, *, attachment: bool) -> str:
    kind = "attachment" if attachment else "inline"
    return f"{kind}; filename*=UTF-8''{quote(PurePosixPath(path).name, safe='')}"
