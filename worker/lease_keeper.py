"""Keeps the lease of one attempt alive from a thread of its own and hears what the job's row orders."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import structlog
from sqlalchemy.orm import Session, sessionmaker

from trsp_jobs import db, service
from trsp_jobs.errors import LeaseLost
from trsp_jobs.leases import Claim, Orders

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0


class LeaseKeeper:
    """Renews every third of the lease and looks at the orders every second.

    While the database is away it keeps trying: nobody else can take the job then either, and when the
    database is back, it tells whether the lease still holds.
    """

    def __init__(self, sessions: sessionmaker[Session], claim: Claim, lease_seconds: float) -> None:
        self._sessions = sessions
        self._claim = claim
        self._lease_seconds = lease_seconds
        self._renew_at = 0.0
        self._deadline: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)
        self.canceled = False
        """Somebody asked the job to stop."""
        self.lost = False
        """The job belongs to somebody else now."""

    @property
    def overdue(self) -> bool:
        """The job's run deadline has passed."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _keep(self) -> None:
        pause = min(_LOOK_SECONDS, self._lease_seconds / 3)
        while not self.lost and not self._ended.is_set():
            self._look()
            self._ended.wait(pause)

    def _look(self) -> None:
        try:
            self._follow(self._ask())
        except LeaseLost:
            self.lost = True
            log.warning("lease lost")
        except db.OUTAGES as error:
            log.warning("the database does not answer; the work goes on", error=type(error).__name__)

    def _ask(self) -> Orders:
        due = time.monotonic() >= self._renew_at
        with db.session_scope(self._sessions) as session:
            if not due:
                return service.orders(session, self._claim)
            orders = service.heartbeat(session, self._claim, lease_seconds=self._lease_seconds)
        self._renew_at = time.monotonic() + self._lease_seconds / 3
        return orders

    def _follow(self, orders: Orders) -> None:
        self.canceled = self.canceled or orders.cancel
        left = orders.seconds_left
        self._deadline = None if left is None else time.monotonic() + left
