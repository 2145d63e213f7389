"""Trying again while the database or the store is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session, sessionmaker

from trsp_jobs import db

log = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0


def pauses() -> Callable[[], float]:
    """Return a function that gives the next pause, seconds: doubling up to the longest."""
    pause = FIRST_PAUSE_SECONDS / 2

    def following() -> float:
        nonlocal pause
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return pause

    return following


def persist(sessions: sessionmaker[Session], action: Callable[[Session], T]) -> T:
    """Run an action in a transaction of its own, again and again while the database is away.

    The action must bear being run twice: a commit whose answer was lost may have taken place.
    """
    following = pauses()
    while True:
        try:
            with db.session_scope(sessions) as session:
                return action(session)
        except db.OUTAGES as error:
            pause = following()
            log.warning("the database does not answer; tries again", error=type(error).__name__, pause=pause)
            time.sleep(pause)
