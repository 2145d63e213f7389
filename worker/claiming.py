"""A ring is answered: the job that is to go first is claimed, in one transaction."""

from __future__ import annotations

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from trsp_jobs import db, service
from trsp_jobs.leases import Claim, WorkerOffer


def claim_next(
    sessions: sessionmaker[Session],
    rung: str,
    *,
    worker_id: str,
    owner: str,
    offer: WorkerOffer,
    lease_seconds: float,
) -> Claim | None:
    """Claim the best job for a worker; if another one was faster, the next best. None if none waits.

    Two that each wait for the job that the other has let go of are told so by the database; then it is tried again.

    Args:
        sessions: The way to the database.
        rung: The job that was rung.
        worker_id: The worker's node, which is noted to work on the job.
        owner: Who holds the lease.
        offer: What the worker offers.
        lease_seconds: How long the lease holds without a sign of life.
    """
    while True:
        try:
            with db.session_scope(sessions) as session:
                job_id = service.pick(session, rung, offer)
                if job_id is None:
                    return None
                claim = service.claim(session, job_id, owner=owner, lease_seconds=lease_seconds)
                if claim is not None:
                    service.set_current_job(session, worker_id, claim.job_id)
                    return claim
        except OperationalError as error:
            if not db.is_deadlock(error):
                raise
