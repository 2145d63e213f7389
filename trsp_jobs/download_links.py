"""Links that download one file without a key until they expire. Signed by the service, whatever the store is.

A link names the file's content by its hash and the key that it was made with: it ends with either of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy.orm import Session

from trsp_jobs import key_repository, repository
from trsp_jobs.errors import LinkEnded, LinkUnknown
from trsp_jobs.models import Artifact


@dataclass(frozen=True, slots=True)
class Grant:
    """What a link allows.

    Attributes:
        job_id: The job.
        path: The file's path among the job's files.
        sha256: Hash of the content that it was made for.
        key_id: The key that it was made with; None for the operator's.
        expires: Seconds since 1970 from which on it downloads nothing.
    """

    job_id: str
    path: str
    sha256: str
    key_id: str | None
    expires: int


class LinkSigner:
    """Makes links and reads them.

    Args:
        secrets: The service's secrets, the current one last; the ones before it are only taken, never used.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._serializer = URLSafeSerializer([*secrets], salt="trsp-download")

    def sign(self, grant: Grant) -> str:
        """Return the link's text."""
        return str(self._serializer.dumps(asdict(grant)))

    def read(self, token: str) -> Grant:
        """Return what a link's text allows, expired or not.

        Raises:
            LinkUnknown: If this service has not made it, or not with a secret that is still taken.
        """
        try:
            return Grant(**self._serializer.loads(token))
        except (BadData, TypeError) as error:
            raise LinkUnknown("this link was not made here, or it was cut short") from error


def open_link(session: Session, grant: Grant, now: float) -> Artifact:
    """Return the row of the file that a link allows to download.

    Args:
        session: An open transaction.
        grant: What the link says.
        now: Seconds since 1970.

    Raises:
        LinkEnded: If its time is over, its key has ended, or its file is no longer what it was made for.
    """
    if now >= grant.expires:
        raise LinkEnded("the link has expired")
    ended = None if grant.key_id is None else key_repository.why_ended(session, grant.key_id)
    if ended is not None:
        raise LinkEnded(f"the key that the link was made with {ended}")
    row = repository.get_artifact(session, grant.job_id, grant.path)
    if row is None or row.sha256 != grant.sha256:
        raise LinkEnded("the file that the link was made for is gone")
    return row
