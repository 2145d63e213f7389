"""The store and the rows, held against one another: what no row names goes, what a row names and is gone is told.

Jobs that ended long ago lose their files, if the operator wants that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session, sessionmaker

from trsp_jobs import db, store_repository
from trsp_jobs.lifecycle import Status
from trsp_jobs.logs import stored_log
from trsp_jobs.models import Job
from trsp_jobs.storage import ArtifactStore, FileFacts

_BATCH = 100


@dataclass(frozen=True, slots=True)
class Keeping:
    """What the operator wants to be kept, seconds.

    Attributes:
        grace: Age from which a file that no row names is removed.
        checkpoint: How long the checkpoint of a job that ended without success is kept.
    """

    grace: float
    checkpoint: float


@dataclass(slots=True)
class Swept:
    """What a comparison found: files that no row named and that were removed, and paths that are gone."""

    removed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def sweep(sessions: sessionmaker[Session], store: ArtifactStore, keeping: Keeping) -> Swept:
    """Compare the whole store with the rows. Any number of callers may; one at a time is enough.

    Files of unfinished jobs are left alone. A row counts as without its file only if its job had ended before
    the store was asked.

    Raises:
        StoreUnavailable: If the store does not answer; the rest is done next time.
    """
    swept, ids = Swept(), store.folders("jobs")
    for begin in range(0, len(ids), _BATCH):
        _sweep_jobs(sessions, store, ids[begin : begin + _BATCH], keeping, swept)
    for batch in _jobs_without_folder(sessions, set(ids)):
        _sweep_jobs(sessions, store, batch, keeping, swept)
    _sweep_texts(sessions, store, keeping, swept)
    return swept


def _jobs_without_folder(sessions: sessionmaker[Session], there: set[str]) -> Iterator[Sequence[str]]:
    after = ""
    while True:
        with db.session_scope(sessions) as session:
            ids = store_repository.jobs_with_files(session, after, _BATCH)
        if not ids:
            return
        after = ids[-1]
        if gone := [job_id for job_id in ids if job_id not in there]:
            yield gone


def _sweep_jobs(
    sessions: sessionmaker[Session],
    store: ArtifactStore,
    ids: Sequence[str],
    keeping: Keeping,
    swept: Swept,
) -> None:
    """Look at the files first and at the rows afterwards: what is published meanwhile is named then."""
    with db.session_scope(sessions) as session:
        asked_at = store_repository.now(session)
    files = {job_id: list(store.list(f"jobs/{job_id}")) for job_id in ids}
    with db.session_scope(sessions) as session:
        jobs = store_repository.jobs_of(session, ids)
        for job_id in ids:
            named = _named(session, jobs.get(job_id), asked_at, keeping)
            if named is not None:
                orphans = [item for item in files[job_id] if _is_orphan(item.path, named)]
                swept.removed += _remove_old(store, orphans, keeping.grace)
        sizes = {item.path: item.size for items in files.values() for item in items}
        swept.missing += store_repository.mark_missing(session, ids, sizes, asked_at)


def _is_orphan(path: str, named: Collection[str]) -> bool:
    return path not in named and not any(path.startswith(name) for name in named if name.endswith("/"))


def _named(session: Session, job: Job | None, asked_at: datetime, keeping: Keeping) -> set[str] | None:
    """Return the files, and with `/` at the end the folders, that a job's rows name; None for an unfinished job."""
    if job is None:
        return set()
    if job.finished_at is None:
        return None
    if job.files_removed_at is not None:
        return set()
    named = {row.store_path for row in store_repository.artifacts_of(session, job.id)}
    named |= {stored_log(job.id, number) for number in range(1, job.attempt + 1)}
    if job.status != Status.SUCCEEDED and asked_at - job.finished_at < timedelta(seconds=keeping.checkpoint):
        named.add(f"jobs/{job.id}/checkpoints/")
    return named


def _sweep_texts(
    sessions: sessionmaker[Session], store: ArtifactStore, keeping: Keeping, swept: Swept
) -> None:
    """The same for uploaded texts: their rows outlive their bytes."""
    with db.session_scope(sessions) as session:
        wanted = set(store_repository.stored_texts(session))
    there = set(store.folders("calibration-sets"))
    with db.session_scope(sessions) as session:
        known = set(store_repository.texts_with_bytes(session))
        swept.missing += [f"calibration-sets/{name}" for name in sorted((wanted & known) - there)]
    for name in sorted(there - known):
        files = list(store.list(f"calibration-sets/{name}"))
        swept.removed += _remove_old(store, files, keeping.grace)


def _remove_old(store: ArtifactStore, files: Sequence[FileFacts], grace: float) -> list[str]:
    oldest = datetime.now(UTC) - timedelta(seconds=grace)
    old = [item.path for item in files if item.modified <= oldest]
    store.delete_files(old)
    return old


def remove_results(sessions: sessionmaker[Session], store: ArtifactStore, days: float) -> list[str]:
    """Remove the files of jobs that ended so many days ago, and say so in their rows; return their ids.

    A result that a slot can go back to is kept. A job is locked while its files go, so that no retry begins
    between the two.

    Raises:
        StoreUnavailable: If the store does not answer; the rest is done next time.
    """
    removed: list[str] = []
    while True:
        with db.session_scope(sessions) as session:
            job = store_repository.lock_old(session, days)
            if job is None:
                return removed
            store_repository.forget_files(session, job)
            store.delete(f"jobs/{job.id}")
            removed.append(job.id)
