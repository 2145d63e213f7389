"""Links to a job's files: who has one downloads that file without a key until it expires."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from api.auditing import count_as_change
from api.conditional import NOT_MODIFIED
from api.deps import CallerDep, JobId, Services, ServicesDep
from api.link_schemas import LinkList, LinkOut, LinkRequest
from api.problem_responses import problems
from api.queries import KNOWN_QUERY
from api.routes.files import BINARY, send_file
from trsp_jobs import download_links, models, service
from trsp_jobs.download_links import Grant

router = APIRouter(dependencies=[KNOWN_QUERY])


@router.post(
    "/v1/jobs/{job_id}/links", status_code=201, tags=["files"], summary="Make links to a job's files"
)
def create(
    job_id: JobId,
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    body: LinkRequest | None = None,
) -> LinkList:
    """Return a link for each file that downloads it without a key, the same from a folder and from S3.

    A link ends when it expires, when the key that made it ends, and when the job has another file there.
    """
    wanted = body or LinkRequest.model_validate({})
    expires = int(time.time()) + wanted.seconds
    base = (services.settings.public_url or str(request.base_url)).rstrip("/")
    with services.session() as session:
        service.get_job(session, job_id)
        if wanted.paths is None:
            rows: Sequence[models.Artifact] = service.list_artifacts(session, job_id)
        else:
            rows = [service.get_artifact(session, job_id, path.replace("\0", "")) for path in wanted.paths]
        count_as_change(session)
    return LinkList(items=[_link(services, row, caller.key_id, expires, base) for row in rows])


def _link(services: Services, row: models.Artifact, key_id: str | None, expires: int, base: str) -> LinkOut:
    token = services.links.sign(Grant(row.job_id, row.path, row.sha256, key_id, expires))
    name = quote(PurePosixPath(row.path).name, safe="")
    return LinkOut(
        path=row.path,
        size=row.size,
        sha256=row.sha256,
        media_type=row.media_type,
        url=f"{base}/links/{token}/{name}",
        expires_at=datetime.fromtimestamp(expires, UTC),
    )


@router.get(
    "/links/{token}/{file_name}",
    tags=["links"],
    summary="Download a file by a link",
    response_class=StreamingResponse,
    responses={200: {"content": BINARY}, 206: {"content": BINARY}, **NOT_MODIFIED, **problems(416)},
)
@router.head("/links/{token}/{file_name}", tags=["links"], include_in_schema=False)
def follow(token: str, file_name: str, request: Request, services: ServicesDep) -> Response:  # noqa: ARG001
    """Stream the file that the link was made for, or one range of it. The name in the address is for people."""
    grant = services.links.read(token)
    with services.session() as session:
        row = download_links.open_link(session, grant, time.time())
    return send_file(services, row, request, attachment=True)
