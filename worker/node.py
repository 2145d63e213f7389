"""A worker's row: who it is, and the thread that says that it is there."""

from __future__ import annotations

import secrets
import socket
import threading

import structlog

from trsp_jobs import db, service
from trsp_jobs.dispatch import Dispatcher
from trsp_jobs.errors import BrokerUnavailable
from trsp_jobs.service import WorkerFacts
from trsp_jobs.settings import Settings
from worker.offer import make_offer
from worker.runtime import Runtime

log = structlog.get_logger(__name__)


def new_worker_id() -> str:
    """Return the host's name and a random part."""
    return f"{socket.gethostname()[:90]}-{secrets.token_hex(4)}"


def facts_of(settings: Settings, worker_id: str) -> WorkerFacts:
    """Return what the row says of this worker."""
    offer = make_offer(settings)
    host = socket.gethostname()[:100]
    return WorkerFacts(id=worker_id, host=host, device=offer.device, memory_bytes=offer.memory_bytes)


def register(settings: Settings, worker_id: str) -> None:
    """Write the worker's row before it can hear a ring, so that it is seen at work from its first job on.

    The connection is closed again: the pool's processes, which are forked later, must not inherit one.
    """
    engine = db.make_engine(settings.database_url, pool_size=1)
    try:
        with db.session_scope(db.session_factory(engine)) as session:
            service.see_worker(session, facts_of(settings, worker_id), seconds=settings.worker_seen_seconds)
    except db.OUTAGES as error:
        log.warning("the database does not answer; the worker appears later", error=type(error).__name__)
    finally:
        engine.dispose()


class SignOfLife:
    """Says every few seconds that the worker is there, until it is stopped; then says goodbye.

    It rings if a job waits that the idle worker can do: one that has just come, or is larger than the others, would
    else wait for housekeeping.
    """

    def __init__(self, runtime: Runtime, bell: Dispatcher, worker_id: str) -> None:
        self._runtime = runtime
        self._bell = bell
        self._offer = make_offer(runtime.settings)
        self._facts = facts_of(runtime.settings, worker_id)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="sign-of-life", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye, as far as the database can be reached."""
        self._ended.set()
        self._thread.join()
        try:
            with db.session_scope(self._runtime.sessions) as session:
                service.forget_worker(session, self._facts.id)
        except db.OUTAGES as error:
            log.warning("left without a goodbye", error=type(error).__name__)

    def _repeat(self) -> None:
        seconds = self._runtime.settings.worker_seen_seconds
        while not self._ended.is_set():
            try:
                self._say(seconds)
            except db.OUTAGES as error:
                log.warning("the database does not answer", error=type(error).__name__)
            except BrokerUnavailable as error:
                log.warning("did not ring; housekeeping does", error=str(error))
            self._ended.wait(seconds)

    def _say(self, seconds: float) -> None:
        with db.session_scope(self._runtime.sessions) as session:
            service.see_worker(session, self._facts, seconds=seconds)
            waiting = service.work_for_idle(session, self._facts.id, self._offer)
        if waiting is not None:
            self._bell.ring(waiting)
