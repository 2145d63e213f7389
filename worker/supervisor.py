"""Hears a ring, claims the job that is to go first, and sees one attempt at it through."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence

import structlog

from trsp_jobs import db, service
from trsp_jobs.leases import Claim, WorkerOffer
from worker.attempt import AttemptRun, Workplace
from worker.claiming import claim_next
from worker.ending import Outcome

log = structlog.get_logger(__name__)

CHILD_COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "worker.child")


class Supervisor:
    """Works on one job at a time.

    Args:
        place: What the attempts work with.
        worker_id: The worker node that this process belongs to.
        offer: What the worker offers to jobs.
    """

    def __init__(self, place: Workplace, *, worker_id: str, offer: WorkerOffer) -> None:
        self._place = place
        self._worker_id = worker_id
        self._offer = offer

    def run(self, rung: str) -> Outcome | None:
        """Answer a ring; None if no job waits for this worker.

        Raises:
            sqlalchemy.exc.OperationalError: If the database is away: housekeeping rings again.
        """
        claim = None if self._place.draining() else self._claim(rung)
        if claim is None:
            return None
        with structlog.contextvars.bound_contextvars(job=claim.job_id, attempt=claim.attempt):
            log.info("claimed")
            outcome = AttemptRun(self._place, claim).run()
            log.info("ended", outcome=outcome)
            return outcome

    def left_to_others(self) -> str | None:
        """Return a job that waits, that this worker cannot do and an idle one can; None while shutting down."""
        if self._place.draining():
            return None
        with db.session_scope(self._place.sessions) as session:
            return service.left_to_others(session, self._offer)

    def _claim(self, rung: str) -> Claim | None:
        return claim_next(
            self._place.sessions,
            rung,
            worker_id=self._worker_id,
            owner=f"{self._worker_id}/{secrets.token_hex(4)}",
            offer=self._offer,
            lease_seconds=self._place.settings.lease_seconds,
        )
