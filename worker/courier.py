"""Sends what webhooks are to hear. Any number of these may run at once: each delivery is taken by one of them.

A node that dies while it sends leaves its deliveries to the others, which send them again under the same
id: at least once, never twice on purpose.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog
from sqlalchemy.orm import Session, sessionmaker

from trsp_jobs import db, service
from trsp_jobs.service import Sending
from trsp_jobs.settings import Settings
from trsp_jobs.webhooks import SEND_SECONDS, Answer, Message, send
from worker.persistence import pauses, persist

log = structlog.get_logger(__name__)

AT_ONCE = 8
TAKEN_SECONDS = 4 * SEND_SECONDS
"""How long a taken delivery is this node's: much longer than sending and writing it down take."""

Send = Callable[[Message], Answer]


class Courier:
    """Takes deliveries whose time has come, sends them side by side, and writes down how it went.

    Args:
        settings: The operator's; without a secret nothing can be signed.
        sessions: The way to the database.
        sending: Sends one message once.
    """

    def __init__(
        self, settings: Settings, sessions: sessionmaker[Session], sending: Send | None = None
    ) -> None:
        if settings.secret is None:
            raise ValueError("TRSP_SECRET is not set, and without it webhooks cannot be signed")
        self._secret = settings.secret.get_secret_value()
        self._pause = settings.housekeeping_seconds
        self._sessions = sessions
        allow_private = settings.webhook_allow_private
        self._send = sending or (lambda message: send(message, allow_private=allow_private))

    def run(self, ended: threading.Event) -> None:
        """Do rounds until `ended` is set; while the database is away, try again ever less often."""
        following = pauses()
        while not ended.is_set():
            try:
                sent = self.round()
                following = pauses()
                ended.wait(0 if sent else self._pause)
            except db.OUTAGES as error:
                log.warning("the database does not answer; sends later", error=type(error).__name__)
                ended.wait(following())

    def round(self) -> int:
        """Send what is due, as much as goes side by side; return how many deliveries that were.

        Raises:
            sqlalchemy.exc.OperationalError: If the database is away.
        """
        with db.session_scope(self._sessions) as session:
            service.forget_deliveries(session)
            due = service.take_due(session, secret=self._secret, limit=AT_ONCE, seconds=TAKEN_SECONDS)
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="courier") as pool:
            answers = list(pool.map(self._send, [item.message for item in due]))
        self._write(due, answers)
        return len(due)

    def _write(self, due: Sequence[Sending], answers: Sequence[Answer]) -> None:
        for item, answer in zip(due, answers, strict=True):
            persist(self._sessions, partial(service.end_try, sending=item, answer=answer))
            log.info("sent", webhook=item.webhook_id, delivery=item.message.id, answer=answer.status)
