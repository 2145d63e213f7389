"""Hears a ring, claims the job that is to go first, and sees one attempt at it through."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence

import structlog

from trsp_jobs import db, service
from trsp_jobs.leases import Claim
from worker.attempt import AttemptRun, Workplace
from worker.ending import Outcome

log = structlog.get_logger(__name__)

CHILD_COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "worker.child")


class Supervisor:
    """Works on one job at a time.

    Args:
        place: What the attempts work with.
        worker_id: The worker node that this process belongs to.
        device: `cuda` or `cpu`, what the worker offers.
    """

    def __init__(self, place: Workplace, *, worker_id: str, device: str) -> None:
        self._place = place
        self._worker_id = worker_id
        self._device = device

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

    def _claim(self, rung: str) -> Claim | None:
        """Claim the best job; if another worker was faster, the next best."""
        owner = f"{self._worker_id}/{secrets.token_hex(4)}"
        seconds = self._place.settings.lease_seconds
        while True:
            with db.session_scope(self._place.sessions) as session:
                job_id = service.pick(session, rung, self._device)
                if job_id is None:
                    return None
                claim = service.claim(session, job_id, owner=owner, lease_seconds=seconds)
                if claim is not None:
                    service.set_current_job(session, self._worker_id, claim.job_id)
                    return claim
