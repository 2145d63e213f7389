"""Keeps the house: `python -m worker.housekeeping`. Any number of these may run at once.

Takes jobs from workers that gave no sign of life, rings for jobs whose ring was lost, ends jobs whose
deadline passed in the queue, forgets workers that are gone, removes deleted texts from the store and old scratch
folders of this machine, keeps the store in order, turns the times of schedules into jobs, and sends webhooks.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog
from sqlalchemy.orm import Session, sessionmaker

from trsp_jobs import db, logging, repository, service, stored_answers
from trsp_jobs.dispatch import CeleryDispatcher, Dispatcher
from trsp_jobs.errors import BrokerUnavailable, StoreUnavailable
from trsp_jobs.inputs import calibration_sets
from trsp_jobs.settings import Settings
from trsp_jobs.storage import ArtifactStore
from trsp_jobs.webhooks import SEND_SECONDS
from worker.courier import Courier
from worker.persistence import pauses
from worker.publisher import publish_logs
from worker.runtime import make_runtime, read_settings
from worker.scratch import Scratch, idle_folders, remove_old
from worker.storekeeper import Storekeeper
from worker.ticking import Ticker

log = structlog.get_logger(__name__)

_LAST_SECONDS = 5
"""How long the end waits for a tick, and for a look at the store; what is cut off is done next time."""


class Doorbell(Dispatcher, Protocol):
    """A dispatcher that can say how many rings wait."""

    def pending(self) -> int:
        """Return how many rings wait in the broker."""


class Housekeeper:
    """Does one round after another.

    After the database was away it takes no job from a worker until one lease has passed: the workers could
    not renew meanwhile, and come first.
    """

    def __init__(
        self, settings: Settings, sessions: sessionmaker[Session], store: ArtifactStore, bell: Doorbell
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._store = store
        self._bell = bell
        self._reap_after = 0.0

    def run(self, ended: threading.Event) -> None:
        """Do rounds until `ended` is set; while the database is away, try again ever less often."""
        following = pauses()
        while not ended.is_set():
            try:
                self.round()
                following = pauses()
                ended.wait(self._settings.housekeeping_seconds)
            except db.OUTAGES as error:
                self._reap_after = time.monotonic() + self._settings.lease_seconds
                log.warning("the database does not answer; tries again", error=type(error).__name__)
                ended.wait(following())

    def round(self) -> None:
        """Do everything once.

        Raises:
            sqlalchemy.exc.OperationalError: If the database is away.
        """
        if time.monotonic() >= self._reap_after:
            self._do("lease expired", service.expire_leases)
        self._do("deadline passed in the queue", service.time_out_queued)
        with db.session_scope(self._sessions) as session:
            service.forget_gone_workers(session)
            stored_answers.forget_old(session)
        self._ring()
        self._erase()
        self._sweep()

    def _do(self, what: str, action: Callable[[Session], Sequence[str]]) -> None:
        with db.session_scope(self._sessions) as session:
            changed = action(session)
        if changed:
            log.info(what, jobs=list(changed))

    def _ring(self) -> None:
        try:
            pending = self._bell.pending()
            for job_id in self._due(pending):
                self._bell.ring(job_id)
                with db.session_scope(self._sessions) as session:
                    service.mark_rung(session, job_id)
                log.info("rung again", job=job_id)
        except BrokerUnavailable as error:
            log.warning("the broker does not answer; rings later", error=str(error))

    def _due(self, pending: int) -> Sequence[str]:
        with db.session_scope(self._sessions) as session:
            return service.due_rings(
                session, pending=pending, ring_again_seconds=self._settings.ring_again_seconds
            )

    def _erase(self) -> None:
        """Finish what deleted and broken-off uploads left, here and in the store."""
        remove_old(self._settings.upload_dir, calibration_sets.ABANDONED_SECONDS)
        try:
            for set_id in calibration_sets.erase(self._sessions, self._store):
                log.info("uploaded text erased", set=set_id)
        except StoreUnavailable as error:
            log.warning("the store does not answer; erases later", error=str(error))

    def _sweep(self) -> None:
        """Remove scratch folders of jobs that ended long ago, once their logs are stored."""
        keep = self._settings.scratch_keep_seconds
        idle = {item.root.name: item for item in idle_folders(self._settings.work_dir, keep)}
        if not idle:
            return
        with db.session_scope(self._sessions) as session:
            ended = repository.finished_before(session, list(idle), keep)
            known = repository.existing(session, ended)
        try:
            for job_id in ended:
                if job_id in known:
                    self._keep_logs(idle[job_id], job_id)
                idle[job_id].remove()
                log.info("scratch folder removed", job=job_id)
        except StoreUnavailable as error:
            log.warning("the store does not answer; sweeps later", error=str(error))

    def _keep_logs(self, scratch: Scratch, job_id: str) -> None:
        numbers = publish_logs(self._store, scratch, job_id)
        with db.session_scope(self._sessions) as session:
            service.forget_log(session, job_id, numbers)


def start_courier(
    settings: Settings, sessions: sessionmaker[Session], ended: threading.Event
) -> threading.Thread | None:
    """Send webhooks from a thread of its own, so that a slow receiver holds nothing else up.

    Returns:
        The thread; None without a secret to sign with.
    """
    if settings.secret is None:
        log.warning("TRSP_SECRET is not set; this node sends no webhooks")
        return None
    courier = Courier(settings, sessions)
    thread = threading.Thread(target=courier.run, args=(ended,), name="courier", daemon=True)
    thread.start()
    return thread


def main() -> int:
    """Keep the house until SIGTERM or SIGINT."""
    settings = read_settings()
    logging.configure(settings, "housekeeping")
    ended = threading.Event()

    def end(*_: Any) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    runtime = make_runtime(settings)
    bell = CeleryDispatcher(settings.broker_url, queue=settings.queue)
    log.info("housekeeping began")
    courier = start_courier(settings, runtime.sessions, ended)
    ticker = threading.Thread(
        target=Ticker(settings, runtime.sessions, bell).run, args=(ended,), name="ticker", daemon=True
    )
    keeper = threading.Thread(
        target=Storekeeper(settings, runtime.sessions, runtime.store).run,
        args=(ended,),
        name="storekeeper",
        daemon=True,
    )
    for thread in (ticker, keeper):
        thread.start()
    Housekeeper(settings, runtime.sessions, runtime.store, bell).run(ended)
    for thread in (ticker, keeper):
        thread.join(_LAST_SECONDS)
    if courier is not None:
        courier.join(SEND_SECONDS)
    bell.close()
    log.info("housekeeping ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
