"""Lists: every order, every filter, pages that hold each job once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from tests.trsp_jobs.conftest import Submit
from trsp_jobs import db, service
from trsp_jobs.errors import WrongCursor
from trsp_jobs.job_list import SORTS, Cursor, JobFilter
from trsp_jobs.models import Job

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def pages(sessions: sessionmaker[Session], sort: str, limit: int, **chosen: Any) -> list[str]:
    """Return the ids of all pages of a list, one after the other."""
    found, after = [], None
    while True:
        with db.session_scope(sessions) as session:
            page = service.list_jobs(session, sort=sort, limit=limit, after=after, chosen=JobFilter(**chosen))
            found += [job.id for job in page.items]
        after = page.next_cursor
        if after is None:
            return found


@pytest.fixture
def jobs(sessions: sessionmaker[Session], submit: Submit) -> list[str]:
    """Seven jobs, made a minute apart; priorities repeat, every other one is finished, the last first."""
    ids = [submit(priority=number % 3) for number in range(7)]
    with db.session_scope(sessions) as session:
        for number, job_id in enumerate(ids):
            finished = NOW - timedelta(hours=number) if number % 2 else None
            values = {"created_at": NOW + timedelta(minutes=number), "finished_at": finished}
            session.execute(update(Job).where(Job.id == job_id).values(values))
    return ids


@pytest.mark.integration
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_hold_each_job_once_in_every_order(
    sessions: sessionmaker[Session], jobs: list[str], limit: int
) -> None:
    places = {job_id: number for number, job_id in enumerate(jobs)}
    keys = {
        "created_at": lambda job_id: (places[job_id],),
        "priority": lambda job_id: (places[job_id] % 3, job_id),
        "finished_at": lambda job_id: (-places[job_id] if places[job_id] % 2 else 99, job_id),
    }
    assert {sort.lstrip("-") for sort in SORTS} == keys.keys()
    for sort in SORTS:
        wanted = sorted(jobs, key=keys[sort.lstrip("-")], reverse=sort.startswith("-"))
        assert pages(sessions, sort, limit) == wanted, sort


@pytest.mark.integration
def test_jobs_that_come_meanwhile_do_not_shift_the_pages(
    sessions: sessionmaker[Session], submit: Submit, jobs: list[str]
) -> None:
    with db.session_scope(sessions) as session:
        first = service.list_jobs(session, limit=3)
    submit()
    with db.session_scope(sessions) as session:
        second = service.list_jobs(session, limit=10, after=first.next_cursor)
    assert [job.id for job in [*first.items, *second.items]] == jobs[::-1]


@pytest.mark.integration
def test_lists_are_filtered(sessions: sessionmaker[Session], submit: Submit, jobs: list[str]) -> None:
    labeled = submit(labels={"team": "a", "x": "1"}, spec={"model": "hf:org/name"})
    with db.session_scope(sessions) as session:
        service.cancel(session, jobs[0])
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"labels": ["team"]}, [labeled]),
        ({"labels": ["team=a", "x"]}, [labeled]),
        ({"labels": ["team=a", "y"]}, []),
        ({"labels": ["team=b"]}, []),
        ({"model": "hf:org/name"}, [labeled]),
        ({"statuses": ["canceled"]}, [jobs[0]]),
        ({"statuses": ["canceled", "queued"], "created_before": NOW + timedelta(minutes=2)}, jobs[1::-1]),
        ({"created_after": NOW + timedelta(minutes=5), "created_before": NOW + timedelta(days=1)}, [jobs[6]]),
    ]
    for chosen, wanted in cases:
        assert pages(sessions, "-created_at", 3, **chosen) == wanted, chosen


@given(st.sampled_from(SORTS), st.text(), st.text())
def test_a_cursor_reads_what_it_wrote(sort: str, value: str, job_id: str) -> None:
    try:
        text = Cursor(sort, value, job_id).encode()
    except UnicodeEncodeError:
        return
    try:
        assert Cursor.decode(text, sort) == Cursor(sort, value, job_id)
    except WrongCursor:
        assert not job_id.isascii() or "\0" in job_id


def made_up(sort: str, value: str) -> str:
    return Cursor(sort, value, "job_x").encode()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("sort", "after"),
    [
        ("-created_at", "x"),
        ("-created_at", "ü" * 9),
        ("-created_at", "bnVsbA"),
        ("-created_at", made_up("created_at", "infinity")),
        ("-created_at", made_up("-created_at", "2026-W01-9T00:00:00+00:00")),
        ("-created_at", made_up("-created_at", "soon")),
        ("priority", made_up("priority", "9" * 30)),
        ("priority", made_up("priority", "1.5")),
    ],
)
def test_a_made_up_cursor_is_refused(sessions: sessionmaker[Session], sort: str, after: str) -> None:
    with pytest.raises(WrongCursor), db.session_scope(sessions) as session:
        service.list_jobs(session, sort=sort, after=after)
