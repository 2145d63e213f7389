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
from worker.offer import make_offer
from worker.runtime import Runtime

log = structlog.get_logger(__name__)


def new_worker_id() -> str:
    """Return the host's name and a random part."""
    return f"{socket.gethostname()[:90]}-{secrets.token_hex(4)}"


class SignOfLife:
    """Says every few seconds that the worker is there, until it is stopped; then says goodbye.

    It rings if a job waits that the idle worker can do: one that has just come, or is larger than the others, would
    else wait for housekeeping.
    """

    def __init__(self, runtime: Runtime, bell: Dispatcher, worker_id: str) -> None:
        self._runtime = runtime
        self._bell = bell
        self._offer = offer = make_offer(runtime.settings)
        self._facts = WorkerFacts(
            id=worker_id,
            host=socket.gethostname()[:100],
            device=offer.device,
            memory_bytes=offer.memory_bytes,
        )
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
