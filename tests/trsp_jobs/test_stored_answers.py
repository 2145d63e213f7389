"""Idempotency keys: one effect, one answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, update
from sqlalchemy.orm import Session, sessionmaker

from trsp_jobs import db, stored_answers
from trsp_jobs.errors import KeyInUse, KeyReused
from trsp_jobs.stored_answers import Keyed, StoredAnswer

pytestmark = pytest.mark.integration

MINE = Keyed("me", "k", "asked")
Sessions = sessionmaker[Session]


def answer(sessions: Sessions, keyed: Keyed = MINE) -> None:
    with db.session_scope(sessions) as session:
        assert stored_answers.begin(session, keyed) is None
        stored_answers.keep(session, keyed, 202, "/x", {"id": "x"})


def test_the_same_request_gets_the_same_answer(sessions: Sessions) -> None:
    answer(sessions)
    for look in (stored_answers.find, stored_answers.begin):
        with db.session_scope(sessions) as session:
            found = look(session, MINE)
            assert found is not None
            assert (found.status, found.location, found.body) == (202, "/x", {"id": "x"})


@pytest.mark.parametrize("look", [stored_answers.find, stored_answers.begin])
def test_another_request_under_the_key_is_refused(
    sessions: Sessions, look: Callable[[Session, Keyed], StoredAnswer | None]
) -> None:
    answer(sessions)
    with pytest.raises(KeyReused), db.session_scope(sessions) as session:
        look(session, Keyed("me", "k", "something else"))
    answer(sessions, Keyed("somebody else", "k", "something else"))


def test_an_open_request_has_the_key_alone(sessions: Sessions) -> None:
    with db.session_scope(sessions) as first:
        stored_answers.begin(first, MINE)
        with pytest.raises(KeyInUse), db.session_scope(sessions) as second:
            stored_answers.begin(second, MINE)
    answer(sessions)


def test_a_request_that_failed_leaves_nothing(sessions: Sessions) -> None:
    with pytest.raises(ZeroDivisionError), db.session_scope(sessions) as session:
        stored_answers.begin(session, MINE)
        stored_answers.keep(session, MINE, 202, None, {})
        raise ZeroDivisionError
    answer(sessions)


def test_answers_are_forgotten_after_a_day(sessions: Sessions) -> None:
    answer(sessions)
    answer(sessions, Keyed("me", "fresh", "asked"))
    old = update(StoredAnswer).where(StoredAnswer.key == "k").values(at=func.now() - timedelta(hours=25))
    with db.session_scope(sessions) as session:
        session.execute(old)
        assert stored_answers.find(session, MINE) is None
    answer(sessions)
    with db.session_scope(sessions) as session:
        session.execute(old)
        assert stored_answers.forget_old(session) == 1
