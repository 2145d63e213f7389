"""Keeps the store in order, beside the rest of housekeeping and in a thread of its own: lists may take long."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from sqlalchemy.orm import Session, sessionmaker

from trsp_jobs import db, store_keeping, store_repository
from trsp_jobs.errors import StoreUnavailable
from trsp_jobs.settings import Settings
from trsp_jobs.storage import ArtifactStore
from trsp_jobs.store_keeping import Keeping
from worker.persistence import pauses

log = structlog.get_logger(__name__)

_TURN = "store sweep"
_SHOWN = 20


class Storekeeper:
    """Works again and again. Any number may at once, on any number of machines; one of them compares."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session], store: ArtifactStore) -> None:
        self._settings = settings
        self._sessions = sessions
        self._store = store
        self._keeping = Keeping(settings.store_grace_seconds, settings.scratch_keep_seconds)

    def run(self, ended: threading.Event) -> None:
        """Work until `ended` is set; while the database or the store is away, try again ever less often."""
        following: Callable[[], float] = pauses()
        while not ended.is_set():
            try:
                self.round()
                following = pauses()
                ended.wait(self._settings.housekeeping_seconds)
            except (StoreUnavailable, *db.OUTAGES) as error:
                log.warning("the store is looked after later", error=str(error)[:200])
                ended.wait(following())
            except Exception:
                log.exception("the store could not be looked after; tries later")
                ended.wait(following())

    def round(self) -> None:
        """If it is time, remove what has been kept long enough and compare the store with the rows.

        Raises:
            StoreUnavailable: If the store does not answer.
            sqlalchemy.exc.OperationalError: If the database is away.
        """
        with db.session_scope(self._sessions) as session:
            turn = store_repository.take_turn(session, _TURN, self._settings.store_sweep_seconds)
        if turn:
            self.remove_old()
            self.compare()

    def remove_old(self) -> None:
        """Remove the files of jobs that ended long ago, if the operator wants that."""
        days = self._settings.result_keep_days
        if days is not None:
            for job_id in store_keeping.remove_results(self._sessions, self._store, days):
                log.info("the files of an old job were removed", job=job_id)

    def compare(self) -> None:
        """Remove uploads that never ended and files that no row names; tell of rows whose file is gone."""
        swept = store_keeping.sweep(self._sessions, self._store, self._keeping)
        aborted = self._store.abort_uploads(self._settings.store_grace_seconds)
        if aborted or swept.removed:
            log.info("store swept", uploads=aborted, files=len(swept.removed), paths=swept.removed[:_SHOWN])
        if swept.missing:
            log.error("the store has lost files", files=len(swept.missing), paths=swept.missing[:_SHOWN])
