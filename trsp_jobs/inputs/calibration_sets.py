"""Uploaded texts: kept once, used by jobs as `upload:ID`, deleted with proof.

A row comes first, its bytes second, and only then may jobs use it; deleting goes the other way round. So there
are never bytes without a row, and what a kill leaves unfinished is finished by housekeeping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from trsp_core.config import CompressionSpec
from trsp_core.errors import CalibrationRefused, Problem
from trsp_core.sources import UploadedText
from trsp_jobs import db
from trsp_jobs.errors import Conflict, ResourceNotFound, StoreUnavailable
from trsp_jobs.ids import new_id
from trsp_jobs.inputs import repository
from trsp_jobs.inputs.rows import CalibrationSet
from trsp_jobs.models import Job
from trsp_jobs.paging import Page
from trsp_jobs.storage import ArtifactStore

ABANDONED_SECONDS = 3600
"""Time after which an upload that never came to its end is removed."""

HOUSEKEEPING = "housekeeping"
_SHOWN_JOBS = 5


@dataclass(frozen=True, slots=True)
class ReceivedText:
    """A text as it came in: the file that it was written to, its kind, bytes and SHA-256."""

    path: Path
    kind: str
    size: int
    sha256: str


def keep(
    sessions: sessionmaker[Session], store: ArtifactStore, owner: str, name: str, text: ReceivedText
) -> tuple[CalibrationSet, bool]:
    """Put a text into the store; the very same one is kept once.

    Returns:
        The row, and whether it is new.

    Raises:
        StoreUnavailable: If the store does not take it; nothing can be used then.
    """
    with db.session_scope(sessions) as session:
        known = repository.find_content(session, owner, text.sha256, text.kind)
        if known is not None:
            return known, False
        row = CalibrationSet(
            id=new_id("cal"), owner=owner, name=name, kind=text.kind, size=text.size, sha256=text.sha256
        )
        session.add(row)
    if store.put_file(row.store_path, text.path).sha256 != text.sha256:
        raise StoreUnavailable("the text changed while it was stored; send it again")
    return _finish(sessions, row, text)


def _finish(
    sessions: sessionmaker[Session], row: CalibrationSet, text: ReceivedText
) -> tuple[CalibrationSet, bool]:
    """Let jobs use the text, unless the same one was kept at the same moment; then that one is returned."""
    try:
        with db.session_scope(sessions) as session:
            kept = get_set(session, row.id)
            kept.stored_at = func.now()
            session.flush()
            session.refresh(kept)
            return kept, True
    except IntegrityError:
        with db.session_scope(sessions) as session:
            twin = repository.find_content(session, row.owner, text.sha256, text.kind)
            if twin is None:
                raise
            _give_up(get_set(session, row.id), HOUSEKEEPING)
            return twin, False


def get_set(session: Session, set_id: str) -> CalibrationSet:
    """Return an uploaded text, deleted or not.

    Raises:
        ResourceNotFound: If there never was one.
    """
    row = repository.get_set(session, set_id)
    if row is None:
        raise ResourceNotFound("calibration set", set_id)
    return row


def list_sets(
    session: Session,
    *,
    after: str | None = None,
    limit: int = 20,
    deleted: bool = False,
    owner: str | None = None,
) -> Page[CalibrationSet]:
    """Return the texts of an owner (None: of any) that jobs may use, or the deleted ones, newest first."""
    found = repository.list_sets(session, after, limit + 1, deleted=deleted, owner=owner)
    return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)


def users_of(session: Session, set_id: str) -> Sequence[str]:
    """Return the ids of all jobs that ever named a text, oldest first."""
    return repository.users_of(session, set_id)


def delete(session: Session, set_id: str, *, by: str) -> CalibrationSet:
    """Give a text up: from now on no job may use it. The caller commits, then erases its bytes.

    Raises:
        ResourceNotFound: If there never was one.
        Conflict: While an unfinished job uses it.
    """
    row = repository.get_set(session, set_id, lock=True)
    if row is None:
        raise ResourceNotFound("calibration set", set_id)
    if row.deleted_at is not None:
        return row
    users = repository.unfinished_users(session, set_id)
    if users:
        named = ", ".join(users[:_SHOWN_JOBS]) + (" and others" if len(users) > _SHOWN_JOBS else "")
        raise Conflict(f"{named} uses it and is not finished; cancel it first, or wait")
    _give_up(row, by)
    session.flush()
    session.refresh(row)
    return row


def _give_up(row: CalibrationSet, by: str) -> None:
    row.deleted_at, row.deleted_by = func.now(), by


def erase(sessions: sessionmaker[Session], store: ArtifactStore) -> list[str]:
    """Remove the bytes of every text that was given up or never came to its end; return their ids.

    Raises:
        StoreUnavailable: If the store does not answer; the rest is done next time.
    """
    with db.session_scope(sessions) as session:
        rows = repository.sets_to_erase(session, ABANDONED_SECONDS)
    for row in rows:
        with db.session_scope(sessions) as session:
            locked = repository.get_set(session, row.id, lock=True)
            if locked is not None and locked.stored_at == row.stored_at:
                _erase(session, store, locked)
    return [row.id for row in rows]


def _erase(session: Session, store: ArtifactStore, row: CalibrationSet) -> None:
    if row.deleted_at is None:
        _give_up(row, HOUSEKEEPING)
    store.delete(f"calibration-sets/{row.id}")
    row.erased_at = func.now()
    session.flush()


def named_in(spec: CompressionSpec) -> list[str]:
    """Return the ids of the uploads that a spec names, each once."""
    references = (*spec.calibration.references(), *spec.evaluation.references())
    return sorted({str(item.argument) for item in references if item.kind == "upload"})


def usable(session: Session, spec: CompressionSpec, owner: str) -> Mapping[str, UploadedText]:
    """Return the uploads that an owner's spec names and may use, without their bytes."""
    named = named_in(spec)
    rows = repository.usable_sets(session, named, owner) if named else ()
    return {row.id: UploadedText(row.kind, row.size) for row in rows}


def record_uses(session: Session, job: Job, spec: CompressionSpec) -> None:
    """Note which uploads a job names, and keep them from being deleted until the transaction ends.

    Raises:
        CalibrationRefused: If one of them may not be used (any more).
    """
    wanted = named_in(spec)
    if not wanted:
        return
    found = {row.id for row in repository.usable_sets(session, wanted, job.owner, share=True)}
    missing = [item for item in wanted if item not in found]
    if missing:
        message = f"upload:{missing[0]} is no text that this service has (any more)."
        raise CalibrationRefused(Problem("/calibration/set", message, missing[0]))
    for set_id in wanted:
        repository.add_use(session, set_id, job.id)
