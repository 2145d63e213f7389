"""Turns the times of schedules into jobs, beside the rest of housekeeping and in a thread of its own.

A schedule's model may have to be fetched before its job can be made; nobody's lease may wait for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from sqlalchemy.orm import Session, sessionmaker

from trsp_jobs import db, schedules, service
from trsp_jobs.dispatch import Dispatcher
from trsp_jobs.errors import BrokerUnavailable
from trsp_jobs.settings import Settings
from worker.persistence import pauses

log = structlog.get_logger(__name__)


class Ticker:
    """Ticks again and again. Any number may tick at once, on any number of machines."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session], bell: Dispatcher) -> None:
        self._settings = settings
        self._sessions = sessions
        self._bell = bell

    def run(self, ended: threading.Event) -> None:
        """Tick until `ended` is set; while the database is away, try again ever less often."""
        following: Callable[[], float] = pauses()
        while not ended.is_set():
            try:
                self.tick()
                following = pauses()
                ended.wait(self._settings.housekeeping_seconds)
            except db.OUTAGES as error:
                log.warning("the database does not answer; ticks later", error=type(error).__name__)
                ended.wait(following())
            except Exception:
                log.exception("a schedule could not be dealt with; ticks later")
                ended.wait(following())

    def tick(self) -> None:
        """Deal with every time that has come, and ring for the jobs that were made.

        Raises:
            sqlalchemy.exc.OperationalError: If the database is away.
        """
        for fire in schedules.tick(self._sessions, self._settings):
            log.info("schedule", schedule=fire.schedule_id, outcome=fire.outcome, reason=fire.reason)
            if fire.job_id is not None:
                self._ring(fire.job_id)

    def _ring(self, job_id: str) -> None:
        try:
            self._bell.ring(job_id)
        except BrokerUnavailable as error:
            log.warning("the ring did not reach the broker; housekeeping rings again", error=str(error))
            return
        with db.session_scope(self._sessions) as session:
            service.mark_rung(session, job_id)
